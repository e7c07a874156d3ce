/* wait.h: sleep until a 32-bit word changes, and wake its sleepers: the only operating-system call
 * of the pool.
 *
 * Linux has the futex for exactly this. Elsewhere one mutex and one condition serve all words,
 * which is slower to wake but right.
 */
#ifndef RZ_WAIT_H
#define RZ_WAIT_H

#include <stdatomic.h>
#include <time.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline void rz_word_sleep(atomic_int *word, int seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static inline void rz_word_wake(atomic_int *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1 << 20, NULL, NULL, 0);
}
#else
#include <pthread.h>

static pthread_mutex_t rz_word_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t rz_word_changed = PTHREAD_COND_INITIALIZER;

static inline void rz_word_sleep(atomic_int *word, int seen) {
    pthread_mutex_lock(&rz_word_mutex);
    if (atomic_load(word) == seen)
        pthread_cond_wait(&rz_word_changed, &rz_word_mutex);
    pthread_mutex_unlock(&rz_word_mutex);
}

static inline void rz_word_wake(atomic_int *word) {
    (void)word;
    pthread_mutex_lock(&rz_word_mutex);
    pthread_cond_broadcast(&rz_word_changed);
    pthread_mutex_unlock(&rz_word_mutex);
}
#endif

/* Tells the core that this is a spin loop. */
static inline void rz_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static inline double rz_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
