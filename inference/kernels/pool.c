/* The pool: a job word that workers wait on, and a counting barrier; see pool.h. */
#define _GNU_SOURCE /* syscall() and clock_gettime() under -std=c11 */
#include "pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "wait.h"

#define SPIN_SECONDS                                                                               \
    40e-6 /* a few times the usual difference between two threads' shares of an operator */
#define SPINS_PER_CLOCK 32 /* pauses between two looks at the clock */

typedef struct pool_thread {
    rz_pool *pool;
    pthread_t handle;
    int index;
} pool_thread;

struct rz_pool {
    int threads;
    int stopping;
    pid_t owner; /* threads do not live on in a forked child */
    rz_work work;
    void *argument;
    pool_thread *workers; /* [threads], the first unused */
    _Alignas(64) atomic_int job;
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int generation;
    _Alignas(64) atomic_int sleepers;
};

/* Returns when *word is no longer `seen`. */
static void wait_for_change(rz_pool *pool, atomic_int *word, int seen) {
    double deadline = 0;
    while (atomic_load_explicit(word, memory_order_acquire) == seen) {
        for (int spin = 0; spin < SPINS_PER_CLOCK; spin++) {
            rz_pause();
            if (atomic_load_explicit(word, memory_order_acquire) != seen)
                return;
        }
        double now = rz_seconds();
        if (deadline == 0)
            deadline = now + SPIN_SECONDS;
        if (now < deadline)
            continue;
        atomic_fetch_add(&pool->sleepers, 1);
        while (atomic_load(word) == seen)
            rz_word_sleep(word, seen);
        atomic_fetch_sub(&pool->sleepers, 1);
    }
}

static void change(rz_pool *pool, atomic_int *word) {
    atomic_fetch_add(word, 1);
    if (atomic_load(&pool->sleepers) > 0)
        rz_word_wake(word);
}

void rz_pool_barrier(rz_pool *pool) {
    if (pool->threads == 1)
        return;
    int generation = atomic_load(&pool->generation);
    if (atomic_fetch_add(&pool->arrived, 1) + 1 == pool->threads) {
        atomic_store(&pool->arrived, 0);
        change(pool, &pool->generation);
    } else {
        wait_for_change(pool, &pool->generation, generation);
    }
}

static void *worker_main(void *argument) {
    pool_thread *self = argument;
    rz_pool *pool = self->pool;
    for (int seen = 0;; seen++) {
        wait_for_change(pool, &pool->job, seen);
        if (pool->stopping)
            return NULL;
        pool->work(pool->argument, self->index);
        rz_pool_barrier(pool);
    }
}

static void end_threads(rz_pool *pool, int started) {
    pool->stopping = 1;
    change(pool, &pool->job);
    for (int i = 1; i < started; i++)
        pthread_join(pool->workers[i].handle, NULL);
}

static int start_threads(rz_pool *pool) {
    pool->owner = getpid();
    pool->stopping = 0;
    atomic_store(&pool->job, 0);
    atomic_store(&pool->arrived, 0);
    atomic_store(&pool->generation, 0);
    atomic_store(&pool->sleepers, 0);
    for (int i = 1; i < pool->threads; i++) {
        pool->workers[i] = (pool_thread){.pool = pool, .index = i};
        if (pthread_create(&pool->workers[i].handle, NULL, worker_main, &pool->workers[i]) != 0) {
            end_threads(pool, i);
            pool->owner = 0;
            return -1;
        }
    }
    return 0;
}

rz_pool *rz_pool_new(int threads) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, sizeof(rz_pool)) != 0)
        return NULL;
    rz_pool *pool = memory;
    *pool = (rz_pool){.threads = threads};
    pool->workers = calloc((size_t)threads, sizeof(pool_thread));
    if (pool->workers == NULL || start_threads(pool) != 0) {
        free(pool->workers);
        free(pool);
        return NULL;
    }
    return pool;
}

void rz_pool_free(rz_pool *pool) {
    if (pool == NULL)
        return;
    if (pool->owner == getpid())
        end_threads(pool, pool->threads);
    free(pool->workers);
    free(pool);
}

int rz_pool_threads(const rz_pool *pool) {
    return pool->threads;
}

int rz_pool_run(rz_pool *pool, rz_work work, void *argument) {
    if (pool->threads == 1) {
        work(argument, 0);
        return 0;
    }
    if (pool->owner != getpid() && start_threads(pool) != 0)
        return -1;
    pool->work = work;
    pool->argument = argument;
    change(pool, &pool->job);
    work(argument, 0);
    rz_pool_barrier(pool);
    return 0;
}
