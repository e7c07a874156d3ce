/* wkv4.c: the recurrence of RWKV-4 on some columns; contract in wkv.h.
 *
 * Numerator and denominator of each column are kept divided by exp(largest exponent so far), so
 * nothing overflows whatever the keys are. A denominator is 0 before the first token and at least 1
 * ever after: that is how a state of zeros is told, whose exponent stands for minus infinity.
 */
#include "vec.h"
#include "wkv.h"

#define NEVER 1e30f

/* What a column remembers. */
typedef struct {
    lanes_f above, below, exponent;
} memory4;

RZ_INLINE memory4 recalled(const rz_wkv_columns *c, int64_t i) {
    const lanes_f below = lf_load(c->state + c->width + i);
    const lanes_f fresh = lf_max(lf_sub(lf_splat(1.0f), below), lf_splat(0));
    return (memory4){lf_load(c->state + i), below,
                     lf_fma(fresh, lf_splat(-NEVER), lf_load(c->state + 2 * c->width + i))};
}

RZ_INLINE void remember(const rz_wkv_columns *c, int64_t i, memory4 to) {
    lf_store(c->state + i, to.above);
    lf_store(c->state + c->width + i, to.below);
    lf_store(c->state + 2 * c->width + i, to.exponent);
}

/* Takes in a value whose key is `key`, with what there is multiplied by exp(change). */
RZ_INLINE memory4 joined(memory4 m, lanes_f change, lanes_f key, lanes_f value) {
    const lanes_f old = lf_add(m.exponent, change), top = lf_max(old, key);
    const lanes_f keep = lf_exp(lf_sub(old, top)), take = lf_exp(lf_sub(key, top));
    return (memory4){lf_fma(keep, m.above, lf_mul(take, value)), lf_fma(keep, m.below, take), top};
}

void rz_wkv4(const rz_wkv_columns *c) {
    for (int32_t t = 0; t < c->tokens; t++) {
        const int64_t row = t * c->stride;
        for (int64_t i = 0; i < c->columns; i += VL) {
            const memory4 before = recalled(c, i);
            const lanes_f k = lf_load(c->k + row + i), v = lf_load(c->v + row + i);
            const memory4 seen = joined(before, lf_splat(0), lf_add(k, lf_load(c->u + i)), v);
            lf_store(c->out + row + i,
                     lf_mul(lf_load(c->r + row + i), lf_div(seen.above, seen.below)));
            remember(c, i, joined(before, lf_load(c->decay + i), k, v));
        }
    }
}
