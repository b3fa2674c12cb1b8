/* Fully connected networks and Adam for every member of a cohort, one member after the other on one core.
 *
 * Inside, everything lies feature by feature: row f of a layer holds feature f of every sample, so that vectors run
 * along the batch, whatever the layer's width, and one member's layer stays in the cache. A member's numbers are
 * computed alone and always in the same order: they cannot depend on its company. Built by trainers/native.py.
 */
#include <math.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#define ROWS 8
#else
#define LANES 8
#define ROWS 4
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

enum { LINEAR, LEAKY, BACK }; /* what follows a product: nothing, the activation, the activation's slope at `at` */

typedef struct {
    int kind;
    float slope;
    const float *at; /* BACK: the activation's results, laid out as the product is */
    long ld;
} Then;

INLINE vec splat(float value) { return value - (vec){0}; }

INLINE vec choose(ivec mask, vec yes, vec no) { return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask)); }

INLINE float total(vec values) {
    float sum = 0;
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) values[i] += values[i + half];
    sum = values[0];
    return sum;
}

/* mr rows x nv vectors of C = bias + A X; A is read with the strides `down` and `along` */
INLINE void tile(const int mr, const int nv, long inner, const float *a, long down, long along, const float *x,
                 long ldx, const float *bias, Then then, float *c, long ldc) {
    vec sum[ROWS][2];
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nv; j++) sum[i][j] = splat(bias ? bias[i] : 0.0f);
    for (long k = 0; k < inner; k++) {
        vec row[2];
        for (int j = 0; j < nv; j++) row[j] = *(const vec *)(x + k * ldx + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < mr; i++) {
            vec factor = splat(a[i * down + k * along]);
            for (int j = 0; j < nv; j++) sum[i][j] += factor * row[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nv; j++) {
            vec value = sum[i][j];
            vec at = then.kind == BACK ? *(const vec *)(then.at + i * then.ld + j * LANES) : value;
            if (then.kind != LINEAR) value = choose(at > splat(0), value, value * then.slope);
            *(vec *)(c + i * ldc + j * LANES) = value;
        }
}

/* C [rows, columns] = bias + A X with X [inner, columns]; columns is a multiple of LANES */
static void product(long rows, long columns, long inner, const float *a, long down, long along, const float *x,
                    long ldx, const float *bias, Then then, float *c, long ldc) {
    for (long n = 0; n < columns; n += 2 * LANES) {
        const int wide = columns - n >= 2 * LANES;
        for (long m = 0; m < rows;) {
            const float *b = bias ? bias + m : 0, *from = a + m * down;
            float *to = c + m * ldc + n;
            Then here = then;
            if (then.kind == BACK) here.at = then.at + m * then.ld + n;
#define TILE(R) (wide ? tile(R, 2, inner, from, down, along, x + n, ldx, b, here, to, ldc)                          \
                      : tile(R, 1, inner, from, down, along, x + n, ldx, b, here, to, ldc))
            if (rows - m >= ROWS) { TILE(ROWS); m += ROWS; }
            else if (rows - m >= 2) { TILE(2); m += 2; }
            else { TILE(1); m += 1; }
        }
    }
}

/* to [columns, rows] = from [rows, columns] transposed, in blocks that the compiler keeps in registers */
static void transpose(long rows, long columns, const float *from, long ld_from, float *to, long ld_to) {
    for (long r = 0; r < rows; r += 8)
        for (long c = 0; c < columns; c += 8) {
            const long height = rows - r < 8 ? rows - r : 8, width = columns - c < 8 ? columns - c : 8;
            if (height == 8 && width == 8)
                for (int j = 0; j < 8; j++)
                    for (int i = 0; i < 8; i++) to[(c + j) * ld_to + r + i] = from[(r + i) * ld_from + c + j];
            else
                for (long j = 0; j < width; j++)
                    for (long i = 0; i < height; i++) to[(c + j) * ld_to + r + i] = from[(r + i) * ld_from + c + j];
        }
}

INLINE long up(long n, long multiple) { return (n + multiple - 1) / multiple * multiple; }

/* Floats from one feature to the next; the odd vector keeps rows from meeting in the same lines of the cache. */
long ganstudy_ld(long batch) { return up(batch, 16) + 16; }

/* One member's outputs [last, ld] from its inputs, the first rows of kept [sum of all sizes but the last, ld] */
static void ahead(long padded, long ld, long depth, const long *sizes, float slope, const float *weight, float *kept,
                  float *outputs) {
    for (long l = 0; l < depth; l++) {
        const long in = sizes[l], out = sizes[l + 1];
        const Then then = {l + 1 < depth ? LEAKY : LINEAR, slope, 0, 0};
        float *next = l + 1 < depth ? kept + in * ld : outputs;
        product(out, padded, in, weight, 1, out, kept, ld, weight + in * out, then, next, ld);
        weight += (in + 1) * out;
        kept = next;
    }
}

static void place(long batch, long features, const float *from, float *to, long ld) {
    transpose(batch, features, from, features, to, ld);
}

static void blank(long batch, long padded, long features, float *to, long ld) {
    for (long f = 0; f < features; f++)
        for (long b = batch; b < padded; b++) to[f * ld + b] = 0.0f;
}

static long rows_of(long depth, const long *sizes) {
    long rows = 0;
    for (long l = 0; l < depth; l++) rows += sizes[l];
    return rows;
}

static long weights_of(long depth, const long *sizes) {
    long weights = 0;
    for (long l = 0; l < depth; l++) weights += (sizes[l] + 1) * sizes[l + 1];
    return weights;
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

/* weight [in, out] and bias [out] of one layer: sums over the batch of inputs times gradients of the outputs */
static void of_layer(long batch, long in, long out, const float *inputs, const float *gradient, long ld, float *weight,
                     float *scratch) {
    const long padded = up(batch, 16), wide = up(out, 16);
    for (long n = 0; n < out; n++) {
        vec sum = splat(0);
        for (long b = 0; b < padded; b += LANES) sum += *(const vec *)(gradient + n * ld + b);
        weight[in * out + n] = total(sum);
    }
    if (out < 8) {
        for (long k = 0; k < in; k++)
            for (long n = 0; n < out; n++) {
                vec sum = splat(0);
                for (long b = 0; b < padded; b += LANES)
                    sum += *(const vec *)(inputs + k * ld + b) * *(const vec *)(gradient + n * ld + b);
                weight[k * out + n] = total(sum);
            }
        return;
    }
    float *turned = scratch, *result = scratch + padded * wide;
    if (wide > out) memset(turned, 0, sizeof(float) * padded * wide);
    transpose(out, padded, gradient, ld, turned, wide);
    const Then then = {LINEAR, 0, 0, 0};
    product(in, wide, padded, inputs, ld, 1, turned, wide, 0, then, result, wide);
    for (long k = 0; k < in; k++) memcpy(weight + k * out, result + k * wide, sizeof(float) * out);
}

/* One member's gradients from those of its outputs, which lie in one of two buffers [widest, ld]: of the parameters,
 * or not (0). Returns those of the inputs [first, ld], where they are wanted. */
static float *back(long batch, long ld, long depth, const long *sizes, float slope, const float *parameters,
                   const float *kept, float *gradient, float *next, float *of_parameters, int wants_inputs,
                   float *scratch) {
    const long weights = weights_of(depth, sizes), padded = up(batch, 16);
    const float *here = kept + rows_of(depth, sizes) * ld, *weight = parameters + weights;
    float *to = of_parameters ? of_parameters + weights : 0;
    for (long l = depth - 1; l >= 0; l--) {
        const long in = sizes[l], out = sizes[l + 1];
        here -= in * ld, weight -= (in + 1) * out;
        if (to) {
            to -= (in + 1) * out;
            of_layer(batch, in, out, here, gradient, ld, to, scratch);
        }
        if (l == 0 && !wants_inputs) break;
        const Then then = {l ? BACK : LINEAR, slope, here, ld};
        product(in, padded, out, weight, out, 1, gradient, ld, 0, then, next, ld);
        float *swap = gradient;
        gradient = next, next = swap;
    }
    return gradient;
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

/* The losses whose generator reads the fake logits alone, by the numbers that native_game.py gives them. */
enum { MINIMAX, NON_SATURATING, WASSERSTEIN, LEAST_SQUARES, HINGE, F_GAN_KL, F_GAN_PEARSON };

static float softplus(float x) { return (x > 0 ? x : 0) + log1pf(expf(x > 0 ? -x : x)); }
static float sigmoid(float x) { return x > 0 ? 1 / (1 + expf(-x)) : expf(x) / (1 + expf(x)); }

/* One logit's term of L_D and its slope */
static float of_real(int loss, float x, float *slope) {
    switch (loss) {
    case MINIMAX: case NON_SATURATING: *slope = -sigmoid(-x); return softplus(-x);
    case LEAST_SQUARES: *slope = x - 1; return 0.5f * (x - 1) * (x - 1);
    case HINGE: *slope = 1 - x > 0 ? -1 : 0; return 1 - x > 0 ? 1 - x : (x == x ? 0 : x);
    default: *slope = -1; return -x;
    }
}

static float of_fake(int loss, float x, float *slope) {
    switch (loss) {
    case MINIMAX: case NON_SATURATING: *slope = sigmoid(x); return softplus(x);
    case LEAST_SQUARES: *slope = x; return 0.5f * x * x;
    case HINGE: *slope = 1 + x > 0 ? 1 : 0; return 1 + x > 0 ? 1 + x : (x == x ? 0 : x);
    case F_GAN_KL: *slope = expf(x - 1); return *slope;
    case F_GAN_PEARSON: *slope = 0.5f * x + 1; return 0.25f * x * x + x;
    default: *slope = 1; return x;
    }
}

/* One fake logit's term of L_G and its slope */
static float of_generator(int loss, float x, float *slope) {
    switch (loss) {
    case MINIMAX: *slope = -sigmoid(x); return -softplus(x);
    case NON_SATURATING: *slope = -sigmoid(-x); return softplus(-x);
    case LEAST_SQUARES: *slope = x - 1; return 0.5f * (x - 1) * (x - 1);
    case F_GAN_KL: *slope = -expf(x - 1); return *slope;
    case F_GAN_PEARSON: *slope = -0.5f * x - 1; return -0.25f * x * x - x;
    default: *slope = -1; return -x;
    }
}

static float norm(long row, const float *gradient) {
    vec sum = splat(0);
    long i = 0;
    for (; i + LANES <= row; i += LANES) {
        vec g = *(const vec *)(gradient + i);
        sum += g * g;
    }
    float rest = 0;
    for (; i < row; i++) rest += gradient[i] * gradient[i];
    return sqrtf(total(sum) + rest);
}

/* The penalties on D's gradient at some points, by the numbers that native_game.py gives them. */
enum { NONE, R1, R2, R1_R2, GRADIENT_PENALTY, DRAGAN };

/* weight/2 E |g|^2, or weight E (|g| - 1)^2, of D's gradients g [dimensions, ld]; they become its slope at them */
static float of_slopes(int kind, long batch, long padded, long ld, long dimensions, float weight, float *g) {
    double sum = 0;
    for (long b = 0; b < batch; b++) {
        float squared = 0, factor = weight / (float)batch;
        for (long f = 0; f < dimensions; f++) squared += g[f * ld + b] * g[f * ld + b];
        if (kind == R1_R2) factor *= 2; /* both minibatches under one mean: half of R1's weight plus half of R2's, twice */
        if (kind < GRADIENT_PENALTY) {
            sum += 0.5 * (double)squared;
        } else {
            const float length = sqrtf(squared);
            sum += (double)((length - 1) * (length - 1));
            factor *= length > 0 ? 2 * (length - 1) / length : (length == length ? 0 : length);
        }
        for (long f = 0; f < dimensions; f++) g[f * ld + b] *= factor;
    }
    blank(batch, padded, dimensions, g, ld);
    return (float)((double)weight * (kind == R1_R2 ? 2 : 1) * sum / (double)batch);
}

/* Adds a penalty's gradient to one member's and returns the penalty; `kept` holds the points and their activations.
 * D is linear between its kinks, so that a gradient of its gradient is one pass back and one pass ahead without biases. */
static float penalise(int kind, long batch, long ld, long depth, const long *sizes, float slope,
                      const float *parameters, const float *kept, float weight, float *gradient, float *scratch,
                      long widest) {
    const long padded = up(batch, 16), rows = rows_of(depth, sizes), weights = weights_of(depth, sizes);
    float *deltas = scratch, *one = deltas + (rows + 1) * ld, *two = one + widest * ld, *of_one = two + widest * ld;
    float *rest = of_one + (widest + 1) * widest, *delta = deltas + rows * ld;
    const float *at = kept + rows * ld, *layer = parameters + weights;
    for (long b = 0; b < padded; b++) delta[b] = 1.0f;
    for (long l = depth - 1; l >= 0; l--) {
        const long in = sizes[l], out = sizes[l + 1];
        at -= in * ld, layer -= (in + 1) * out;
        const Then then = {l ? BACK : LINEAR, slope, at, ld};
        product(in, padded, out, layer, out, 1, delta, ld, 0, then, delta - in * ld, ld);
        delta -= in * ld;
    }
    const float penalty = of_slopes(kind, batch, padded, ld, sizes[0], weight, deltas);
    const float *tangent = deltas;
    for (long l = 0; l < depth; l++) {
        const long in = sizes[l], out = sizes[l + 1];
        delta += in * ld;
        of_layer(batch, in, out, tangent, delta, ld, of_one, rest);
        for (long i = 0; i < in * out; i++) gradient[i] += of_one[i];
        at += in * ld;
        float *next = tangent == one ? two : one;
        const Then then = {BACK, slope, at, ld};
        if (l + 1 < depth) product(out, padded, in, layer, 1, out, tangent, ld, 0, then, next, ld);
        gradient += (in + 1) * out, layer += (in + 1) * out, tangent = next;
    }
    return penalty;
}

/* Where a penalty looks, [dimensions, ld]: between real and fake by `chance` [batch], or `chance` [batch, dimensions]
 * around the real ones, in units of half the standard deviation of all their numbers */
static void points(int kind, long batch, long dimensions, const float *reals, const float *fakes, long ld_fakes,
                   const float *chance, float *to, long ld) {
    double sum = 0, squares = 0;
    for (long i = 0; i < batch * dimensions; i++) sum += (double)reals[i];
    const double mean = sum / (double)(batch * dimensions);
    for (long i = 0; i < batch * dimensions; i++) squares += ((double)reals[i] - mean) * ((double)reals[i] - mean);
    const float half = (float)(0.5 * sqrt(squares / (double)(batch * dimensions)));
    for (long f = 0; f < dimensions; f++)
        for (long b = 0; b < batch; b++) {
            const float real = reals[b * dimensions + f];
            to[f * ld + b] = kind == DRAGAN ? real + half * chance[b * dimensions + f]
                                            : chance[b] * real + (1 - chance[b]) * fakes[f * ld_fakes + b];
        }
}

typedef struct {
    long depth;
    const long *sizes;
    float slope;
    const float *parameters;
    long row;
} Network;

typedef struct {
    int kind;
    const float *weight, *chance; /* [members]; what `points` needs, or 0 */
    long chance_row;
} Penalty;

/* Every member's gradient of L_D [members, row], its loss and its norm; rows of latents and reals lie apart by *_row */
void ganstudy_discriminator(long members, long batch, int loss, const Penalty *penalty, const Network *g,
                            const Network *d, const float *latents, long latents_row, const float *reals,
                            long reals_row, float *gradient, float *losses, float *norms, float *scratch,
                            long widest) {
    const long both = 2 * batch, ld_g = ganstudy_ld(batch), ld = ganstudy_ld(both), dimensions = d->sizes[0];
    const long padded = up(batch, 16);
    const int kind = penalty->kind;
    float *kept_g = scratch, *fakes = kept_g + rows_of(g->depth, g->sizes) * ld_g, *kept = fakes + widest * ld_g;
    float *one = kept + rows_of(d->depth, d->sizes) * ld, *two = one + widest * ld, *rest = two + widest * ld;
    for (long r = 0; r < members; r++) {
        const float *of_d = d->parameters + r * d->row, *real = reals + r * reals_row;
        float *of_row = gradient + r * d->row;
        blank(batch, padded, g->sizes[0], kept_g, ld_g);
        place(batch, g->sizes[0], latents + r * latents_row, kept_g, ld_g);
        ahead(padded, ld_g, g->depth, g->sizes, g->slope, g->parameters + r * g->row, kept_g, fakes);
        blank(both, up(both, 16), dimensions, kept, ld);
        place(batch, dimensions, real, kept, ld);
        for (long f = 0; f < dimensions; f++) memcpy(kept + f * ld + batch, fakes + f * ld_g, sizeof(float) * batch);
        ahead(up(both, 16), ld, d->depth, d->sizes, d->slope, of_d, kept, one);
        double of_reals = 0, of_fakes = 0;
        for (long b = 0; b < both; b++) {
            float slope;
            if (b < batch) of_reals += of_real(loss, one[b], &slope);
            else of_fakes += of_fake(loss, one[b], &slope);
            one[b] = slope / (float)batch;
        }
        blank(both, up(both, 16), 1, one, ld);
        losses[r] = (float)(of_reals / (double)batch + of_fakes / (double)batch);
        back(both, ld, d->depth, d->sizes, d->slope, of_d, kept, one, two, of_row, 0, rest);
        if (kind >= GRADIENT_PENALTY) {
            points(kind, batch, dimensions, real, fakes, ld_g, penalty->chance + r * penalty->chance_row, kept, ld);
            blank(batch, padded, dimensions, kept, ld);
            ahead(padded, ld, d->depth, d->sizes, d->slope, of_d, kept, one);
        }
        if (kind != NONE)
            losses[r] += penalise(kind, kind == R1_R2 ? both : batch, ld, d->depth, d->sizes, d->slope, of_d,
                                  kept + (kind == R2 ? batch : 0), penalty->weight[r], of_row, one, widest);
        norms[r] = norm(d->row, of_row);
    }
}

/* The same of L_G, for the generator */
void ganstudy_generator(long members, long batch, int loss, const Network *g, const Network *d, const float *latents,
                        long latents_row, float *gradient, float *losses, float *norms, float *scratch, long widest) {
    const long ld = ganstudy_ld(batch), padded = up(batch, 16);
    float *kept_g = scratch, *kept = kept_g + rows_of(g->depth, g->sizes) * ld;
    float *one = kept + rows_of(d->depth, d->sizes) * ld, *two = one + widest * ld, *rest = two + widest * ld;
    for (long r = 0; r < members; r++) {
        const float *of_g = g->parameters + r * g->row, *of_d = d->parameters + r * d->row;
        blank(batch, padded, g->sizes[0], kept_g, ld);
        place(batch, g->sizes[0], latents + r * latents_row, kept_g, ld);
        ahead(padded, ld, g->depth, g->sizes, g->slope, of_g, kept_g, kept);
        ahead(padded, ld, d->depth, d->sizes, d->slope, of_d, kept, one);
        double sum = 0;
        for (long b = 0; b < batch; b++) {
            float slope;
            sum += of_generator(loss, one[b], &slope);
            one[b] = slope / (float)batch;
        }
        blank(batch, padded, 1, one, ld);
        losses[r] = (float)(sum / (double)batch);
        float *of_fakes = back(batch, ld, d->depth, d->sizes, d->slope, of_d, kept, one, two, 0, 1, rest);
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
