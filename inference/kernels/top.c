/* top.c: the best rows of a scan, kept in a heap while it goes; contracts in vectors.h.
 *
 * Rows are measured a block at a time, so that a block is in the cache for every query and its
 * values never leave it. Most values are below the worst one kept and cost a comparison.
 */
#include <pthread.h>
#include <stdlib.h>

#include "isa_table.h"
#include "vectors.h"

RZ_TABLE_BY_NAME(rz_vectors)

#define BLOCK_BYTES 16384
#define BLOCK_ROWS 1024
#define LEAST_SHARE (1 << 20) /* bytes of codes below which a thread costs more than it does */
#define MOST_THREADS 64

typedef struct found {
    int32_t value;
    int64_t position;
} found;

/* The k best of a query; heap[0] is the worst of them. */
typedef struct best {
    found *heap;
    int64_t size, k;
} best;

typedef struct share {
    const rz_top *top;
    best *kept; /* [queries] */
    int64_t first, last;
} share;

static int worse(found a, found b) {
    return a.value < b.value || (a.value == b.value && a.position > b.position);
}

static void sink(best *b, found x) {
    int64_t at = 0;
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= b->size)
            break;
        if (child + 1 < b->size && worse(b->heap[child + 1], b->heap[child]))
            child++;
        if (!worse(b->heap[child], x))
            break;
        b->heap[at] = b->heap[child];
        at = child;
    }
    b->heap[at] = x;
}

static void offer(best *b, found x) {
    if (b->size < b->k) {
        int64_t at = b->size++;
        for (; at > 0 && worse(x, b->heap[(at - 1) / 2]); at = (at - 1) / 2)
            b->heap[at] = b->heap[(at - 1) / 2];
        b->heap[at] = x;
    } else if (worse(b->heap[0], x)) {
        sink(b, x);
    }
}

/* Offers the values of rows [first, first + count), which `positions` names where it is given. */
static void offer_all(best *b, const int32_t *values, const int64_t *positions, int64_t first,
                      int64_t count) {
    for (int64_t i = 0; i < count; i += 16) {
        const int64_t end = i + 16 < count ? i + 16 : count;
        if (b->size == b->k) {
            const int32_t least = b->heap[0].value;
            int any = 0;
            for (int64_t j = i; j < end; j++)
                any |= values[j] >= least;
            if (!any)
                continue;
        }
        for (int64_t j = i; j < end; j++)
            offer(b, (found){values[j], positions == NULL ? first + j : positions[first + j]});
    }
}

static void *run_share(void *argument) {
    const share *s = argument;
    const rz_top *top = s->top;
    int32_t values[BLOCK_ROWS];
    int64_t rows = BLOCK_BYTES / top->bytes / 16 * 16;
    rows = rows < 16 ? 16 : rows > BLOCK_ROWS ? BLOCK_ROWS : rows;
    for (int64_t first = s->first; first < s->last; first += rows) {
        const int64_t count = s->last - first < rows ? s->last - first : rows;
        const int64_t *list = top->positions == NULL ? NULL : top->positions + first;
        const uint8_t *codes = list == NULL ? top->codes + first * top->bytes : top->codes;
        for (int32_t q = 0; q < top->queries; q++) {
            top->measure(codes, top->bytes, list, count, top->query + q * top->query_bytes, values);
            if (top->lowest)
                for (int64_t i = 0; i < count; i++)
                    values[i] = -values[i];
            offer_all(s->kept + q, values, top->positions, first, count);
        }
    }
    return NULL;
}

/* Shares of the rows, each on a thread of its own; those without a thread are done here. */
static void run_shares(share *shares, int threads) {
    pthread_t handles[MOST_THREADS];
    int started[MOST_THREADS] = {0};
    for (int t = 1; t < threads; t++)
        started[t] = pthread_create(handles + t, NULL, run_share, shares + t) == 0;
    for (int t = 0; t < threads; t++)
        if (!started[t])
            run_share(shares + t);
    for (int t = 1; t < threads; t++)
        if (started[t])
            pthread_join(handles[t], NULL);
}

static int threads_of(const rz_top *top) {
    const int64_t worth = top->count * top->bytes / LEAST_SHARE * top->queries;
    int64_t threads = top->threads < MOST_THREADS ? top->threads : MOST_THREADS;
    threads = threads < worth ? threads : worth;
    return threads < 1 ? 1 : (int)threads;
}

/* Takes the worst again and again, so that the best comes first. */
static void write_sorted(best *b, int lowest, int64_t *positions, int32_t *values) {
    while (b->size > 0) {
        const found worst = b->heap[0];
        b->size--;
        sink(b, b->heap[b->size]);
        positions[b->size] = worst.position;
        values[b->size] = lowest ? -worst.value : worst.value;
    }
}

int rz_top_run(const rz_top *top, int64_t *out_positions, int32_t *out_values) {
    const int threads = threads_of(top);
    const int64_t kept = (int64_t)threads * top->queries;
    share shares[MOST_THREADS];
    best *all = malloc(sizeof(best) * (size_t)kept);
    found *heaps = malloc(sizeof(found) * (size_t)(kept * top->k));
    if (all == NULL || heaps == NULL) {
        free(all);
        free(heaps);
        return -1;
    }
    for (int64_t i = 0; i < kept; i++)
        all[i] = (best){heaps + i * top->k, 0, top->k};
    for (int t = 0; t < threads; t++)
        shares[t] = (share){top, all + (int64_t)t * top->queries, top->count * t / threads,
                            top->count * (t + 1) / threads};
    run_shares(shares, threads);
    for (int32_t q = 0; q < top->queries; q++) {
        for (int t = 1; t < threads; t++)
            for (int64_t i = 0; i < shares[t].kept[q].size; i++)
                offer(all + q, shares[t].kept[q].heap[i]);
        write_sorted(all + q, top->lowest, out_positions + q * top->k, out_values + q * top->k);
    }
    free(all);
    free(heaps);
    return 0;
}
