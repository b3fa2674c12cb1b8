/* Fully connected networks, Adam and draws for every member of a cohort, one member after the other on one core.
 *
 * Inside, everything lies feature by feature: row f of a layer holds feature f of every sample, so that vectors run
 * along the batch, whatever the layer's width, and one member's layer stays in the cache. A member's numbers are
 * computed alone and always in the same order: they cannot depend on its company. Built by trainers/native.py.
 */
#include "native_draws.h"
#include "native_layers.h"
#include "native_losses.h"

typedef struct {
    long depth;
    const long *sizes;
    float slope;
    int bounded; /* tanh at the end */
    const float *parameters;
    long row;
} Network;

enum { BLOCK = 256 }; /* samples whose activations stay in the cache */

/* outputs [count, out] of every member from inputs [count, in] that lie apart by inputs_row; nothing is kept */
void ganstudy_outputs(long members, long count, const Network *of, const float *inputs, long inputs_row,
                      float *outputs, float *scratch) {
    const long ld = ganstudy_ld(BLOCK), first = of->sizes[0], last = of->sizes[of->depth];
    float *kept = scratch, *found = kept + rows_of(of->depth, of->sizes) * ld;
    for (long r = 0; r < members; r++)
        for (long start = 0; start < count; start += BLOCK) {
            const long batch = count - start < BLOCK ? count - start : BLOCK, padded = up(batch, 16);
            blank(batch, padded, first, kept, ld);
            place(batch, first, inputs + r * inputs_row + start * first, kept, ld);
            ahead(padded, ld, of->depth, of->sizes, of->slope, of->parameters + r * of->row, kept, found);
            if (of->bounded) squash(padded, ld, last, found);
            transpose(last, batch, found, ld, outputs + (r * count + start) * last, last);
        }
}

/* outputs [batch, out] of every member; kept [sum of all sizes but the last, ld] holds inputs and activations */
void ganstudy_forward(long members, long batch, long depth, const long *sizes, float slope, const float *parameters,
                      long row, const float *inputs, long inputs_row, float *kept, float *outputs, float *scratch) {
    const long ld = ganstudy_ld(batch), padded = up(batch, 16), last = sizes[depth], rows = rows_of(depth, sizes);
    for (long r = 0; r < members; r++) {
        float *here = kept + r * rows * ld;
        blank(batch, padded, sizes[0], here, ld);
        place(batch, sizes[0], inputs + r * inputs_row, here, ld);
        ahead(padded, ld, depth, sizes, slope, parameters + r * row, here, scratch);
        transpose(last, batch, scratch, ld, outputs + r * batch * last, last);
    }
}

/* Gradients from those of the outputs [batch, out]: of the parameters [members, row] and of the inputs, or neither (0) */
void ganstudy_backward(long members, long batch, long depth, const long *sizes, float slope, const float *parameters,
                       long row, const float *kept, const float *of_outputs, float *of_parameters, float *of_inputs,
                       float *scratch, long widest) {
    const long ld = ganstudy_ld(batch), last = sizes[depth], rows = rows_of(depth, sizes), first = sizes[0];
    float *one = scratch, *two = scratch + widest * ld, *rest = two + widest * ld;
    for (long r = 0; r < members; r++) {
        blank(batch, up(batch, 16), last, one, ld);
        place(batch, last, of_outputs + r * batch * last, one, ld);
        const float *found = back(batch, ld, depth, sizes, slope, parameters + r * row, kept + r * rows * ld, one, two,
                                  of_parameters ? of_parameters + r * row : 0, of_inputs != 0, rest);
        if (of_inputs) transpose(first, batch, found, ld, of_inputs + r * batch * first, first);
    }
}

typedef struct {
    int kind;
    const float *weight, *noise_std; /* [members] each, or 0 */
} Penalty;

/* What each player is given: every member's minibatch [batch, features] in one piece, `row` after the one before; or 0 */
typedef struct {
    const float *at;
    long row;
} Given;

enum { LATENTS, REALS, CHANCE, REAL_NOISE, FAKE_NOISE };

static const float *of_member(const Given *given, long r) { return given->at ? given->at + r * given->row : 0; }

/* One member's samples [last, ld] into the first rows of `to`, for D, and what `back` needs into `kept` */
static void generate(const Network *g, long r, long batch, long ld, const Given *given, float *kept, float *to) {
    const long padded = up(batch, 16);
    blank(batch, padded, g->sizes[0], kept, ld);
    place(batch, g->sizes[0], of_member(given + LATENTS, r), kept, ld);
    ahead(padded, ld, g->depth, g->sizes, g->slope, g->parameters + r * g->row, kept, to);
    if (g->bounded) squash(padded, ld, g->sizes[g->depth], to);
}

/* Instance noise: std times standard normal numbers [batch, features], where there are any */
static void disturb(long batch, long features, const Penalty *penalty, long r, const float *normal, float *to,
                    long ld) {
    for (long f = 0; normal && f < features; f++)
        for (long b = 0; b < batch; b++) to[f * ld + b] += penalty->noise_std[r] * normal[b * features + f];
}

/* Every member's gradient of L_D [members, row], its loss and its norm; `widest` as native.py's scratch has it */
void ganstudy_discriminator(long members, long batch, int loss, const Penalty *penalty, const Network *g,
                            const Network *d, const Given *given, float *gradient, float *losses, float *norms,
                            float *scratch, long widest) {
    const long both = 2 * batch, ld_g = ganstudy_ld(batch), ld = ganstudy_ld(both), dimensions = d->sizes[0];
    const long padded = up(batch, 16);
    const int kind = penalty->kind;
    float *kept_g = scratch, *fakes = kept_g + rows_of(g->depth, g->sizes) * ld_g, *kept = fakes + widest * ld_g;
    float *one = kept + rows_of(d->depth, d->sizes) * ld, *two = one + widest * ld, *rest = two + widest * ld;
    for (long r = 0; r < members; r++) {
        const float *of_d = d->parameters + r * d->row, *real = of_member(given + REALS, r);
        float *of_row = gradient + r * d->row;
        generate(g, r, batch, ld_g, given, kept_g, fakes);
        blank(both, up(both, 16), dimensions, kept, ld);
        place(batch, dimensions, real, kept, ld);
        for (long f = 0; f < dimensions; f++) memcpy(kept + f * ld + batch, fakes + f * ld_g, sizeof(float) * batch);
        disturb(batch, dimensions, penalty, r, of_member(given + REAL_NOISE, r), kept, ld);
        disturb(batch, dimensions, penalty, r, of_member(given + FAKE_NOISE, r), kept + batch, ld);
        ahead(up(both, 16), ld, d->depth, d->sizes, d->slope, of_d, kept, one);
        losses[r] = discriminator_loss(loss, batch, one, one + batch);
        blank(both, up(both, 16), 1, one, ld);
        back(both, ld, d->depth, d->sizes, d->slope, of_d, kept, one, two, of_row, 0, rest);
        if (kind >= GRADIENT_PENALTY) {
            points(kind, batch, dimensions, real, fakes, ld_g, of_member(given + CHANCE, r), kept, ld);
            blank(batch, padded, dimensions, kept, ld);
            ahead(padded, ld, d->depth, d->sizes, d->slope, of_d, kept, one);
        }
        if (kind != NONE)
            losses[r] += penalise(kind, kind == R1_R2 ? both : batch, ld, d->depth, d->sizes, d->slope, of_d,
                                  kept + (kind == R2 ? batch : 0), penalty->weight[r], of_row, one, widest);
        norms[r] = norm(d->row, of_row);
    }
}

/* The same of L_G, for the generator; reals are read by the losses that compare alone */
void ganstudy_generator(long members, long batch, int loss, const Penalty *penalty, const Network *g,
                        const Network *d, const Given *given, float *gradient, float *losses, float *norms,
                        float *scratch, long widest) {
    const long ld = ganstudy_ld(batch), padded = up(batch, 16), dimensions = d->sizes[0];
    float *kept_g = scratch, *kept = kept_g + rows_of(g->depth, g->sizes) * ld;
    float *one = kept + rows_of(d->depth, d->sizes) * ld, *two = one + widest * ld;
    float *fakes = two + widest * ld, *rest = fakes + widest * ld;
    for (long r = 0; r < members; r++) {
        const float *of_g = g->parameters + r * g->row, *of_d = d->parameters + r * d->row;
        if (pairs(loss)) {
            blank(batch, padded, dimensions, kept, ld);
            place(batch, dimensions, of_member(given + REALS, r), kept, ld);
            disturb(batch, dimensions, penalty, r, of_member(given + REAL_NOISE, r), kept, ld);
            ahead(padded, ld, d->depth, d->sizes, d->slope, of_d, kept, two);
        }
        generate(g, r, batch, ld, given, kept_g, fakes);
        memcpy(kept, fakes, sizeof(float) * dimensions * ld);
        disturb(batch, dimensions, penalty, r, of_member(given + FAKE_NOISE, r), kept, ld);
        ahead(padded, ld, d->depth, d->sizes, d->slope, of_d, kept, one);
        losses[r] = generator_loss(loss, batch, two, one);
        blank(batch, padded, 1, one, ld);
        float *of_fakes = back(batch, ld, d->depth, d->sizes, d->slope, of_d, kept, one, two, 0, 1, rest);
        if (g->bounded) unsquash(padded, ld, dimensions, fakes, of_fakes);
        back(batch, ld, g->depth, g->sizes, g->slope, of_g, kept_g, of_fakes, of_fakes == one ? two : one,
             gradient + r * g->row, 0, rest);
        norms[r] = norm(g->row, gradient + r * g->row);
    }
}

/* Kingma & Ba 2015, Algorithm 1; 1 - beta^t in double, as in optimizers.py */
void ganstudy_adam(long members, long row, float *parameters, const float *gradient, float *mean, float *square,
                   const float *beta1, const float *beta2, const float *rate, double epsilon, long step) {
    for (long r = 0; r < members; r++) {
        const double first = 1 - pow((double)beta1[r], (double)step);
        const double second = sqrt(1 - pow((double)beta2[r], (double)step));
        const float keep1 = beta1[r], keep2 = beta2[r], move = (float)((double)rate[r] * second / first);
        const float small = (float)(epsilon * second);
        float *w = parameters + r * row, *m = mean + r * row, *s = square + r * row;
        const float *g = gradient + r * row;
        for (long i = 0; i < row; i++) {
            m[i] = keep1 * m[i] + (1 - keep1) * g[i];
            s[i] = keep2 * s[i] + (1 - keep2) * (g[i] * g[i]);
            w[i] -= move * (m[i] / (sqrtf(s[i]) + small));
        }
    }
}

/* Standard normal numbers [members, count], each member's from a generator of its own */
void ganstudy_normals(long members, const uint64_t *seeds, uint32_t stream, uint32_t index, long count,
                      const Strip *strips, const float *heights, float *out) {
    const Ziggurat by = {strips, heights};
    for (long r = 0; r < members; r++) {
        Halves of = halves(seeds[r], stream, index);
        normals(&of, count, by, out + r * count);
    }
}

/* Numbers [members, count] uniform in [0, 1), likewise */
void ganstudy_uniforms(long members, const uint64_t *seeds, uint32_t stream, uint32_t index, long count, float *out) {
    for (long r = 0; r < members; r++) {
        Halves of = halves(seeds[r], stream, index);
        for (long i = 0; i < count; i++) out[r * count + i] = uniform(&of);
    }
}

/* Points [members, count, dimensions] of a mixture of round Gaussians in double precision, likewise */
void ganstudy_mixture(long members, const uint64_t *seeds, uint32_t stream, uint32_t index, long count, long modes,
                      long dimensions, const double *centres, double std, const WideStrip *strips,
                      const double *heights, float *out) {
    const WideZiggurat by = {strips, heights};
    for (long r = 0; r < members; r++) {
        Sfc64 of = seeded(seeds[r], stream, index);
        mixture(&of, count, (uint32_t)modes, dimensions, centres, std, by, out + r * count * dimensions);
    }
}
