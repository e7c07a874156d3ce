/* pool_driver.c: the pool under the thread sanitizer, for scripts/sanitize.
 *
 * Every step adds one to cells that the steps before it wrote, each thread to its share, with a
 * barrier inside some steps; widths change at every step. Exits 1 where a cell was missed.
 */
#include "pool.h"

#include <stdio.h>

#define CELLS 97
#define STEPS 50
#define RUNS 300

typedef struct job {
    rz_pool *pool;
    int first[CELLS], second[CELLS];
    int last; /* step to stop after, or STEPS */
} job;

static void add(int *to, const int *from, int part, int parts) {
    for (int i = CELLS * part / parts; i < CELLS * (part + 1) / parts; i++)
        to[i] = from[CELLS - 1 - i] + 1;
}

static int32_t work(void *argument, int32_t step, int thread, int width) {
    job *j = argument;
    if (step % 3 == 0) {
        add(j->second, j->first, thread, width);
        rz_pool_barrier(j->pool, thread);
        add(j->first, j->second, thread, width);
    } else if (step % 2 == 0) {
        add(j->second, j->first, thread, width);
    } else {
        add(j->first, j->second, thread, width);
    }
    if (thread == 0 && step == j->last)
        rz_pool_stop(j->pool);
    return step + 1 < STEPS ? step + 1 : -1;
}

/* What one thread makes of it. */
static void alone(job *j) {
    for (int32_t step = 0; step <= j->last && step < STEPS; step++)
        if (step % 3 == 0)
            add(j->second, j->first, 0, 1), add(j->first, j->second, 0, 1);
        else if (step % 2 == 0)
            add(j->second, j->first, 0, 1);
        else
            add(j->first, j->second, 0, 1);
}

static int differs(const job *a, const job *b) {
    int wrong = 0;
    for (int i = 0; i < CELLS; i++)
        wrong += a->first[i] != b->first[i] || a->second[i] != b->second[i];
    return wrong;
}

int main(void) {
    int wrong = 0;
    for (int threads = 1; threads <= 5; threads++) {
        job got = {.pool = rz_pool_new(threads, threads == 2)}, want = {0};
        for (int run = 0; run < RUNS; run++) {
            rz_pool_set_mode(got.pool, (enum rz_pool_mode)(run % 3));
            got.last = want.last = run % 7 == 0 ? run % STEPS : STEPS;
            if (rz_pool_run(got.pool, work, &got) != 0)
                return 2;
            alone(&want);
            wrong += differs(&got, &want);
        }
        rz_pool_free(got.pool);
    }
    printf("pool: %d wrong\n", wrong);
    return wrong != 0;
}
