/* The likeliest token without the logits of all others: a scan of the head's high plane bounds what
 * each panel can reach, and only panels that reach the largest exact logit are computed.
 *
 * The panel with the largest bound is computed first, by every thread for itself: that spares a
 * barrier, and what is computed afterwards does not depend on how many threads there are.
 */
#include "program.h"

#include <math.h>

#include "panel.h"

/* A NaN is better than any number, so that whoever asked sees it. */
static void offer(rz_best *best, float logit, int32_t token) {
    if (best->token >= 0 && best->logit != best->logit)
        return;
    if (best->token < 0 || logit > best->logit || logit != logit ||
        (logit == best->logit && token < best->token)) {
        best->logit = logit;
        best->token = token;
    }
}

static void offer_panel(const rz_span *span, const rz_op *op, const rz_acts *acts, int32_t panel,
                        rz_best *best) {
    const rz_matrix *w = op->weights[0];
    float logits[RZ_PANEL];
    const int32_t row = panel * RZ_PANEL, left = span->call->below - row;
    span->program->linear->linear(w, acts, 1, panel, panel + 1, logits - row, 0, NULL, 0);
    for (int32_t r = 0; r < RZ_PANEL && r < left; r++)
        offer(best, logits[r], row + r);
}

void rz_run_best(const rz_span *span, const rz_op *op) {
    const rz_program *p = span->program;
    const rz_matrix *w = op->weights[0];
    const rz_acts acts = rz_prepare_alone(span, op);
    const int32_t panels = (span->call->below + RZ_PANEL - 1) / RZ_PANEL;
    int64_t first, last;
    for (int32_t i = 0; i < span->parts; i++)
        while (rz_take(span, op, (span->part + i) % span->parts, &first, &last))
            if (first < panels)
                p->linear->scan(w, &acts, span->call->below, (int32_t)first,
                                last < panels ? (int32_t)last : panels,
                                p->scratch[span->thread].room, p->bounds);
    rz_span_barrier(span);

    int32_t top = 0, candidates = 0;
    for (int32_t i = 1; i < panels; i++)
        if (p->bounds[i] > p->bounds[top])
            top = i;
    rz_best best = {0, -1, span->part == 0};
    offer_panel(span, op, &acts, top, &best);
    const float least = best.logit;
    for (int32_t i = 0; i < panels; i++) {
        if (i == top || p->bounds[i] < least)
            continue;
        if (candidates++ % span->parts == span->part) {
            offer_panel(span, op, &acts, i, &best);
            best.panels++;
        }
    }
    p->scratch[span->thread].best = best;
}

void rz_collect_best(const rz_program *program, rz_best *best) {
    *best = (rz_best){0, -1, 0};
    for (int32_t i = 0; i < program->threads; i++) {
        const rz_best *own = &program->scratch[i].best;
        if (own->token >= 0)
            offer(best, own->logit, own->token);
        best->panels += own->panels;
    }
}
