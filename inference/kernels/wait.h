/* wait.h: what the pool asks of the operating system: to sleep until a 32-bit word changes, to wake
 * its sleepers, and which CPUs a thread may run on.
 *
 * Linux has the futex for exactly this. Elsewhere one mutex and one condition serve all words,
 * which is slower to wake but right; and threads run where the system puts them.
 */
#ifndef RZ_WAIT_H
#define RZ_WAIT_H

#include <stdatomic.h>
#include <time.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline void rz_word_sleep(atomic_uint *word, unsigned seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static inline void rz_word_wake(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1 << 20, NULL, NULL, 0);
}

/* The CPUs that a thread may run on. */
typedef cpu_set_t rz_cpus;

/* Those of this thread; returns how many they are, or 0 where that cannot be known. */
static inline int rz_cpus_get(rz_cpus *cpus) {
    return sched_getaffinity(0, sizeof(*cpus), cpus) == 0 ? CPU_COUNT(cpus) : 0;
}

static inline void rz_cpus_set(const rz_cpus *cpus) {
    sched_setaffinity(0, sizeof(*cpus), cpus);
}

/* Only the index-th of these CPUs. */
static inline rz_cpus rz_cpus_one(const rz_cpus *cpus, int index) {
    rz_cpus one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, cpus) && index-- == 0)
            CPU_SET(cpu, &one);
    return one;
}
/* The CPU that this thread runs on. */
static inline int rz_cpu(void) {
    return sched_getcpu();
}

/* Moves this thread to another CPU, if it may use one; then the system is free to choose again. */
static inline void rz_cpu_leave(int cpu) {
    rz_cpus usual;
    if (rz_cpus_get(&usual) < 2)
        return;
    rz_cpus others = usual;
    CPU_CLR(cpu, &others);
    rz_cpus_set(&others);
    rz_cpus_set(&usual);
}
#else
#include <pthread.h>

static pthread_mutex_t rz_word_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t rz_word_changed = PTHREAD_COND_INITIALIZER;

static inline void rz_word_sleep(atomic_uint *word, unsigned seen) {
    pthread_mutex_lock(&rz_word_mutex);
    if (atomic_load(word) == seen)
        pthread_cond_wait(&rz_word_changed, &rz_word_mutex);
    pthread_mutex_unlock(&rz_word_mutex);
}

static inline void rz_word_wake(atomic_uint *word) {
    (void)word;
    pthread_mutex_lock(&rz_word_mutex);
    pthread_cond_broadcast(&rz_word_changed);
    pthread_mutex_unlock(&rz_word_mutex);
}

typedef int rz_cpus;

static inline int rz_cpus_get(rz_cpus *cpus) {
    *cpus = 0;
    return 0;
}

static inline void rz_cpus_set(const rz_cpus *cpus) {
    (void)cpus;
}

static inline rz_cpus rz_cpus_one(const rz_cpus *cpus, int index) {
    (void)index;
    return *cpus;
}

static inline int rz_cpu(void) {
    return -1;
}

static inline void rz_cpu_leave(int cpu) {
    (void)cpu;
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
