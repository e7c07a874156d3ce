/* pool.h: a small thread pool whose threads run the steps of one job together, as many of them as
 * get a core to run on.
 *
 * A run is a chain of steps; between two steps every thread waits for the others. The calling
 * thread is thread 0, so a pool of one has no thread of its own. A thread that waits spins for some
 * microseconds and then sleeps: pure spinning collapses as soon as another process wants the core.
 *
 * The width is how many threads share a step. Where threads lose too much of their time waiting for
 * one that another process keeps from its core, the next steps are narrower, and the threads left
 * out sleep; after a pause, which doubles each time that fails, all of them are tried again. A job
 * must therefore be able to run each step at any width, with the same result.
 */
#ifndef RZ_POOL_H
#define RZ_POOL_H

#include <stdint.h>

typedef struct rz_pool rz_pool;
/* Does the share of `thread`, one of `width`, of a step. Returns the step that follows, or -1 after
 * the last: the same on every thread. */
typedef int32_t (*rz_work)(void *argument, int32_t step, int thread, int width);

enum rz_pool_mode {
    RZ_POOL_ADAPTS = 0, /* the width follows what the threads lose by waiting */
    RZ_POOL_FULL = 1,   /* always all threads */
    RZ_POOL_VARIES = 2, /* another width at every step, for tests: all that adapting could do */
};

/* Starts threads - 1 threads; NULL where memory or threads ran out. With `pin` each thread keeps to
 * a CPU of its own while all of them run; without effect where the system has no such call or this
 * thread may use fewer CPUs. */
rz_pool *rz_pool_new(int threads, int pin);
/* Ends the threads and frees the pool; no run may be under way. */
void rz_pool_free(rz_pool *pool);
/* Says whether threads are pinned. */
int rz_pool_pins(const rz_pool *pool);
/* Threads that will share the next run's first step. */
int rz_pool_width(const rz_pool *pool);
/* Between runs only. */
void rz_pool_set_mode(rz_pool *pool, enum rz_pool_mode mode);
/* Runs the steps from 0 on. 0, or -1 where a forked child could not start its threads anew. One run
 * at a time. */
int rz_pool_run(rz_pool *pool, rz_work work, void *argument);

/* Inside a step, by every thread that shares it: waits until all of them are here. */
void rz_pool_barrier(rz_pool *pool, int thread);
/* Inside a step, by thread 0: the run ends with this step. */
void rz_pool_stop(rz_pool *pool);
/* Inside a step, by thread 0: it was busy for so long with what is nobody's fault. */
void rz_pool_excuse(rz_pool *pool, double seconds);

#endif
