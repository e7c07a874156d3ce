/* checksum.c: see checksum.h. */
#if defined(__linux__)
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* since Linux 5.14; not in older headers */
#endif
#endif

#include "checksum.h"

#include <string.h>

#define LANES 8
#define BLOCK (LANES * sizeof(uint64_t))
#define ODD 0x9E3779B97F4A7C15u /* 2^64 / golden ratio */

static inline uint64_t word_at(const uint8_t *data) {
    uint64_t word;
    memcpy(&word, data, sizeof word);
    return word;
}

static inline uint64_t step(uint64_t h, uint64_t word) {
    h ^= word;
    return (h << 29 | h >> 35) * ODD;
}

uint64_t rz_checksum(const uint8_t *data, size_t bytes) {
    /* Eight names and no array: gcc would keep an array in memory, or multiply vectors badly. */
    uint64_t a = 1 * ODD, b = 2 * ODD, c = 3 * ODD, d = 4 * ODD;
    uint64_t e = 5 * ODD, f = 6 * ODD, g = 7 * ODD, h = 8 * ODD;
    uint8_t tail[BLOCK] = {0};
    size_t whole = bytes / BLOCK * BLOCK;
    if (bytes > whole)
        memcpy(tail, data + whole, bytes - whole);
    const uint8_t *end = data + whole;
    for (int last = 0;; last = 1) {
        for (; data < end; data += BLOCK) {
            a = step(a, word_at(data));
            b = step(b, word_at(data + 8));
            c = step(c, word_at(data + 16));
            d = step(d, word_at(data + 24));
            e = step(e, word_at(data + 32));
            f = step(f, word_at(data + 40));
            g = step(g, word_at(data + 48));
            h = step(h, word_at(data + 56));
        }
        if (last)
            break;
        data = tail;
        end = tail + BLOCK;
    }
    const uint64_t lanes[LANES] = {a, b, c, d, e, f, g, h};
    uint64_t sum = bytes;
    for (int lane = 0; lane < LANES; lane++)
        sum = step(sum, lanes[lane]);
    return sum ^ sum >> 32;
}

#if defined(__linux__)
/* Maps the pages of [data, data + bytes) at once; a fault for each sixteen takes longer. What it
 * returns does not matter: older systems have no such advice, and then reading faults them in. */
static void populate(const uint8_t *data, size_t bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)data / page * page;
    (void)madvise((void *)first, bytes + ((uintptr_t)data - first), MADV_POPULATE_READ);
}
#else
static void populate(const uint8_t *data, size_t bytes) {
    (void)data, (void)bytes;
}
#endif

void rz_checksums(const uint8_t *data, size_t bytes, size_t chunk, uint64_t *sums) {
    for (size_t first = 0; first < bytes; first += chunk) {
        size_t size = bytes - first < chunk ? bytes - first : chunk;
        populate(data + first, size);
        *sums++ = rz_checksum(data + first, size);
    }
}
