/* linear_dense.h: products of float32 weights with the dense activations, for parity. Included by
 * linear.c alone.
 *
 * Each row is summed over k in order, with one accumulator, for any number of tokens.
 */
#ifndef RZ_LINEAR_DENSE_H
#define RZ_LINEAR_DENSE_H

#include "linear_tile.h"

/* A tile of `tokens` tokens x TILE_BLOCKS blocks over all of k: sums[token][32]. */
RZ_INLINE void dense_tile(int tokens, const rz_matrix *w, const float *stream, int block,
                          const float *x, int64_t stride, float *sums) {
    lanes_f total[TILE_BLOCKS][TILE_TOKENS];
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++) {
        RZ_UNROLL(2)
        for (int b = 0; b < TILE_BLOCKS; b++)
            total[b][t] = lf_splat(0.0f);
    }
    for (int g = 0; g < w->groups; g++, stream += RZ_GROUP * RZ_PANEL, x += RZ_GROUP) {
        for (int k = 0; k < RZ_GROUP; k++) {
            RZ_PREFETCH(stream + 1024 + k * RZ_PANEL);
            RZ_PREFETCH(stream + 1040 + k * RZ_PANEL);
            RZ_UNROLL(2)
            for (int b = 0; b < TILE_BLOCKS; b++) {
                const lanes_f weight = lf_load(stream + ((block + b) * RZ_GROUP + k) * RZ_LANES);
                RZ_UNROLL(8)
                for (int t = 0; t < tokens; t++)
                    total[b][t] = lf_fma(weight, lf_splat(x[t * stride + k]), total[b][t]);
            }
        }
    }
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++) {
        RZ_UNROLL(2)
        for (int b = 0; b < TILE_BLOCKS; b++)
            lf_store(sums + t * RZ_PANEL + (block + b) * RZ_LANES, total[b][t]);
    }
}

static void dense_panel(const panel_job *job) {
    const rz_acts *acts = job->acts;
    const float *weights = (const float *)(const void *)job->stream;
    const int tokens = job->tokens;
    for (int done = 0; done < tokens; done += done + TILE_TOKENS <= tokens ? TILE_TOKENS : 1) {
        const float *x = acts->dense + (job->token + done) * acts->stride;
        float *sums = job->sums + done * RZ_PANEL;
        for (int block = 0; block < RZ_BLOCKS; block += TILE_BLOCKS) {
            if (done + TILE_TOKENS <= tokens)
                dense_tile(TILE_TOKENS, job->w, weights, block, x, acts->stride, sums);
            else
                dense_tile(1, job->w, weights, block, x, acts->stride, sums);
        }
    }
}

#endif
