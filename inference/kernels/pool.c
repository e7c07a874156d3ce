/* The pool: a job word for each worker, a counting barrier that also says how many go on, and the
 * rule that chooses their number; see pool.h.
 *
 * The barrier's word holds a count of barriers and the width after it. A worker that finds itself
 * outside the width leaves, as does one that sleeps through more than one barrier: they were not
 * waited for, so the later ones cannot have counted it.
 */
#define _GNU_SOURCE /* syscall(), sched_setaffinity() and clock_gettime() under -std=c11 */
#include "pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "wait.h"

/* A few times the usual difference between two threads' shares of an operator. */
#define SPIN_SECONDS 40e-6
#define SPINS_PER_CLOCK 32 /* pauses between two looks at the clock */
#define WIDTH_BITS 9       /* of the barrier's word: up to 511 threads */

/* Lost time is a leaky bucket: it is forgotten over MEMORY_SECONDS, several of a scheduler's
 * slices, since short work of other processes is no reason to go on with fewer threads. It
 * overflows where this share of the time is lost: threads that share one core lose half of it, and
 * in a step bound by memory the second thread gains no more than a third. */
#define MEMORY_SECONDS 100e-3
#define LOST_SHARE 0.25
#define WINDOW_SECONDS 1e-3 /* between two looks; longer than a wake-up */
/* Pauses before all threads are tried again. The bucket is then half full, so that a trial beside a
 * busy process costs a few slices of the scheduler, some 15 ms. */
#define SHORTEST_PAUSE 20e-3
#define LONGEST_PAUSE 0.32
#define LONGEST_TRIAL 80e-3 /* who fails later, failed at something new */

typedef struct signal_word {
    _Alignas(64) atomic_uint word;
    atomic_uint sleepers;
} signal_word;

typedef struct member {
    signal_word job;
    rz_pool *pool;
    pthread_t handle;
    int index, pinned;
    int32_t step;              /* where an invited worker begins */
    int cpu;                   /* that thread 0 ran on when it invited */
    _Atomic int64_t waited_ns; /* in barriers, since ever */
    int64_t waited_before;     /* the same when the present window began; thread 0's */
    rz_cpus usual;
} member;

/* What thread 0 knows about the present width. */
typedef struct judge {
    double marked;          /* until when time has been counted */
    double elapsed, excuse; /* of the window, in seconds */
    double lost;            /* the bucket, in seconds */
    double pause, retry;    /* the latest pause, and the moment it ends */
    double widened;         /* when all threads were last tried */
    int waking;             /* steps that still wait for those to wake up */
} judge;

struct rz_pool {
    int threads, pins, stopping, stopped;
    enum rz_pool_mode mode;
    pid_t owner; /* threads do not live on in a forked child */
    rz_work work;
    void *argument;
    int width, next; /* of this step and of the following one; 0 ends the run */
    int resume;      /* of the next run's first step */
    unsigned varied;
    judge judge;
    rz_cpus cpus;
    member *members; /* [threads] */
    signal_word turn;
    _Alignas(64) atomic_int arrived;
};

/* Returns the word as soon as it is no longer `seen`; *waited is how long that took. */
static unsigned wait_for_change(signal_word *s, unsigned seen, double *waited) {
    double started = 0;
    for (;;) {
        for (int spin = 0; spin < SPINS_PER_CLOCK; spin++) {
            unsigned now = atomic_load_explicit(&s->word, memory_order_acquire);
            if (now != seen) {
                *waited = started == 0 ? 0 : rz_seconds() - started;
                return now;
            }
            rz_pause();
        }
        double now = rz_seconds();
        if (started == 0)
            started = now;
        if (now - started < SPIN_SECONDS)
            continue;
        atomic_fetch_add(&s->sleepers, 1);
        while (atomic_load(&s->word) == seen)
            rz_word_sleep(&s->word, seen);
        atomic_fetch_sub(&s->sleepers, 1);
    }
}

static void change(signal_word *s, unsigned value) {
    atomic_store(&s->word, value);
    if (atomic_load(&s->sleepers) > 0)
        rz_word_wake(&s->word);
}

/* What a thread slept is time lost; shorter waits come from shares that are not quite equal. */
static void count_wait(member *self, double seconds) {
    int64_t sum = atomic_load_explicit(&self->waited_ns, memory_order_relaxed);
    sum += (int64_t)((seconds - SPIN_SECONDS) * 1e9);
    atomic_store_explicit(&self->waited_ns, sum, memory_order_relaxed);
}

/* Returns the word after the barrier. */
static unsigned pass_barrier(rz_pool *pool, int thread) {
    unsigned seen = atomic_load(&pool->turn.word);
    int width = pool->width; /* the last one here changes it */
    if (atomic_fetch_add(&pool->arrived, 1) + 1 < width) {
        double waited = 0;
        unsigned now = wait_for_change(&pool->turn, seen, &waited);
        if (waited > SPIN_SECONDS)
            count_wait(&pool->members[thread], waited);
        return now;
    }
    atomic_store(&pool->arrived, 0);
    pool->width = pool->next;
    unsigned now = (((seen >> WIDTH_BITS) + 1) << WIDTH_BITS) | (unsigned)pool->width;
    change(&pool->turn, now);
    return now;
}

void rz_pool_barrier(rz_pool *pool, int thread) {
    if (pool->width > 1)
        pass_barrier(pool, thread);
}

static void start_window(rz_pool *pool) {
    pool->judge.elapsed = pool->judge.excuse = 0;
    for (int i = 0; i < pool->threads; i++)
        pool->members[i].waited_before =
            atomic_load_explicit(&pool->members[i].waited_ns, memory_order_relaxed);
}

/* The most that one of the threads has waited in this window, in seconds. */
static double most_waited(const rz_pool *pool) {
    double most = 0;
    for (int i = 0; i < pool->width; i++) {
        const member *m = &pool->members[i];
        int64_t ns = atomic_load_explicit(&m->waited_ns, memory_order_relaxed) - m->waited_before;
        double waited = 1e-9 * (double)ns - (i == 0 ? 0 : pool->judge.excuse);
        most = waited > most ? waited : most;
    }
    return most;
}

static void narrow(rz_pool *pool, double now) {
    judge *j = &pool->judge;
    double trial = j->pause > LONGEST_TRIAL ? j->pause : LONGEST_TRIAL;
    j->pause = now - j->widened < trial ? 2 * j->pause : SHORTEST_PAUSE;
    if (j->pause > LONGEST_PAUSE)
        j->pause = LONGEST_PAUSE;
    j->retry = now + j->pause;
    j->lost = LOST_SHARE * MEMORY_SECONDS / 2;
    pool->next = pool->width - 1;
}

static void adapt(rz_pool *pool) {
    judge *j = &pool->judge;
    double now = rz_seconds();
    j->elapsed += now - j->marked;
    j->marked = now;
    if (pool->width < pool->threads && now >= j->retry) {
        j->widened = now;
        j->waking = 2;
        pool->next = pool->threads;
    } else if (j->waking > 0) { /* paid once, so no reason to go back */
        j->waking--;
        start_window(pool);
    } else if (pool->width > 1 && j->elapsed - j->excuse >= WINDOW_SECONDS) {
        double kept = MEMORY_SECONDS / (MEMORY_SECONDS + j->elapsed);
        j->lost = (j->lost + most_waited(pool)) * kept;
        if (j->lost > LOST_SHARE * MEMORY_SECONDS)
            narrow(pool, now);
        start_window(pool);
    }
}

/* Thread 0, at the end of a step: how many share the next. */
static void choose_width(rz_pool *pool) {
    pool->next = pool->width;
    if (pool->mode == RZ_POOL_VARIES)
        pool->next =
            1 + (int)((pool->varied = pool->varied * 1664525u + 1013904223u) >> 8) % pool->threads;
    else if (pool->mode == RZ_POOL_FULL)
        pool->next = pool->threads;
    else
        adapt(pool);
    pool->resume = pool->next;
    if (pool->stopped)
        pool->next = 0;
}

void rz_pool_stop(rz_pool *pool) {
    pool->stopped = 1;
}

void rz_pool_excuse(rz_pool *pool, double seconds) {
    pool->judge.excuse += seconds;
}

/* Only while all threads run is each bound to its CPU: one that a busy process slows down must be
 * free to move to the CPU of one that was left out. */
static void pin(rz_pool *pool, member *self, int wanted) {
    if (!pool->pins || self->pinned == wanted)
        return;
    if (wanted) {
        rz_cpus_get(&self->usual);
        rz_cpus one = rz_cpus_one(&pool->cpus, self->index);
        rz_cpus_set(&one);
    } else {
        rz_cpus_set(&self->usual);
    }
    self->pinned = wanted;
}

static void invite(rz_pool *pool, int first, int last, int32_t step) {
    int cpu = first < last ? rz_cpu() : -1;
    for (int i = first; i < last; i++) {
        member *m = &pool->members[i];
        m->step = step;
        m->cpu = cpu;
        change(&m->job, atomic_load_explicit(&m->job.word, memory_order_relaxed) + 1);
    }
}

/* Runs steps from `step` on, until the last one or until this thread is left out. */
static void take_part(rz_pool *pool, member *self, int32_t step) {
    rz_work work = pool->work;
    void *argument = pool->argument;
    int width = pool->width;
    for (;;) {
        pin(pool, self, width == pool->threads);
        step = work(argument, step, self->index, width);
        if (self->index == 0)
            choose_width(pool);
        unsigned before = atomic_load(&pool->turn.word), now = pass_barrier(pool, self->index);
        int follows = (now >> WIDTH_BITS) == (((before >> WIDTH_BITS) + 1) & (~0u >> WIDTH_BITS));
        int left = width;
        width = (int)(now & ((1u << WIDTH_BITS) - 1));
        if (step < 0 || !follows || self->index >= width)
            return;
        if (self->index == 0)
            invite(pool, left, width, step);
    }
}

static void *worker_main(void *argument) {
    member *self = argument;
    rz_pool *pool = self->pool;
    double idle = 0;
    for (unsigned seen = 0;; seen++) {
        wait_for_change(&self->job, seen, &idle);
        if (pool->stopping)
            return NULL;
        /* Where no CPU is idle, the system likes to wake a thread where its waker runs. */
        if (self->cpu >= 0 && self->cpu == rz_cpu())
            rz_cpu_leave(self->cpu);
        take_part(pool, self, self->step);
    }
}

static void end_threads(rz_pool *pool, int started) {
    pool->stopping = 1;
    invite(pool, 1, started, 0);
    for (int i = 1; i < started; i++)
        pthread_join(pool->members[i].handle, NULL);
}

static int start_threads(rz_pool *pool) {
    pool->owner = getpid();
    pool->stopping = 0;
    pool->resume = pool->threads;
    pool->judge = (judge){.pause = SHORTEST_PAUSE};
    atomic_store(&pool->arrived, 0);
    atomic_store(&pool->turn.word, 0);
    atomic_store(&pool->turn.sleepers, 0);
    for (int i = 0; i < pool->threads; i++)
        pool->members[i] = (member){.pool = pool, .index = i};
    for (int i = 1; i < pool->threads; i++)
        if (pthread_create(&pool->members[i].handle, NULL, worker_main, &pool->members[i]) != 0) {
            end_threads(pool, i);
            pool->owner = 0;
            return -1;
        }
    return 0;
}

static void *aligned(size_t bytes) {
    void *memory = NULL;
    return posix_memalign(&memory, 64, bytes) == 0 ? memory : NULL;
}

rz_pool *rz_pool_new(int threads, int pin) {
    rz_pool *pool = aligned(sizeof(rz_pool));
    if (pool == NULL)
        return NULL;
    *pool = (rz_pool){.threads = threads};
    pool->pins = pin && rz_cpus_get(&pool->cpus) >= threads;
    pool->members = aligned((size_t)threads * sizeof(member));
    if (pool->members == NULL || start_threads(pool) != 0) {
        free(pool->members);
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
    free(pool->members);
    free(pool);
}

int rz_pool_pins(const rz_pool *pool) {
    return pool->pins;
}

int rz_pool_width(const rz_pool *pool) {
    return pool->resume;
}

void rz_pool_set_mode(rz_pool *pool, enum rz_pool_mode mode) {
    pool->mode = mode;
    pool->resume = pool->threads;
}

int rz_pool_run(rz_pool *pool, rz_work work, void *argument) {
    if (pool->threads > 1 && pool->owner != getpid() && start_threads(pool) != 0)
        return -1;
    pool->work = work;
    pool->argument = argument;
    pool->stopped = 0;
    pool->judge.marked = rz_seconds();
    pool->width = pool->next = pool->resume;
    invite(pool, 1, pool->width, 0);
    take_part(pool, &pool->members[0], 0);
    pin(pool, &pool->members[0], 0);
    return 0;
}
