/* checksum.h: a 64-bit checksum that runs at the speed of memory on any 64-bit machine.
 *
 * Eight independent lanes, each h = rotl(h ^ word, 29) * odd: one multiplication for eight bytes,
 * and no instruction set is needed. A step can be undone, in h and in the word, so a change within
 * one word always changes the result; any other damage goes unseen once in 2^64. It is no defence
 * against someone who wants a collision.
 *
 * Words are taken in the machine's own byte order: results are for files that stay on a machine's
 * kind, as packed weights do.
 */
#ifndef RZ_CHECKSUM_H
#define RZ_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Checksum of bytes [0, bytes) of data, of any length and alignment. */
uint64_t rz_checksum(const uint8_t *data, size_t bytes);

/* One checksum for each `chunk` bytes of data, the last of what is left; pages of a mapping are
 * brought in a chunk at a time. */
void rz_checksums(const uint8_t *data, size_t bytes, size_t chunk, uint64_t *sums);

#endif
