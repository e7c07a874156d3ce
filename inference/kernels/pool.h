/* pool.h: a small thread pool whose threads run one function together, with barriers inside it.
 *
 * The calling thread is thread 0, so a pool of one has no thread of its own. A thread that waits
 * spins for some microseconds and then sleeps: pure spinning collapses as soon as another process
 * wants the core.
 */
#ifndef RZ_POOL_H
#define RZ_POOL_H

typedef struct rz_pool rz_pool;
typedef void (*rz_work)(void *argument, int thread);

/* Starts threads - 1 threads; NULL where memory or threads ran out. */
rz_pool *rz_pool_new(int threads);
/* Ends the threads and frees the pool; no run may be under way. */
void rz_pool_free(rz_pool *pool);
int rz_pool_threads(const rz_pool *pool);
/* Runs work(argument, thread) on every thread and returns when all are done. 0, or -1 where a
 * forked child could not start its threads anew. One run at a time. */
int rz_pool_run(rz_pool *pool, rz_work work, void *argument);
/* Inside a run: waits until every thread is here. */
void rz_pool_barrier(rz_pool *pool);

#endif
