/* Fully connected layers of one member: products, passes ahead and back.
 *
 * Everything lies feature by feature: row f of a layer holds feature f of every sample, so that vectors run along the
 * batch, whatever the layer's width, and one member's layer stays in the cache.
 */
#pragma once
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

#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define MIX __builtin_shufflevector
#endif
#endif

/* to = from transposed, both 8 x 8: pairs of rows, then of pairs, then of halves; eight vectors in registers */
INLINE void turn(const float *from, long ld_from, float *to, long ld_to) {
#ifdef MIX
    typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));
    eight r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = *(const eight *)(from + i * ld_from);
    for (int i = 0; i < 8; i += 2) {
        t[i] = MIX(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = MIX(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = MIX(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            r[i + 2 * j + 1] = MIX(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int j = 0; j < 4; j++) {
        *(eight *)(to + j * ld_to) = MIX(r[j], r[j + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        *(eight *)(to + (j + 4) * ld_to) = MIX(r[j], r[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
#else
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 8; i++) to[j * ld_to + i] = from[i * ld_from + j];
#endif
}

/* to [columns, rows] = from [rows, columns] transposed */
static void transpose(long rows, long columns, const float *from, long ld_from, float *to, long ld_to) {
    for (long r = 0; r < rows; r += 8)
        for (long c = 0; c < columns; c += 8) {
            const long height = rows - r < 8 ? rows - r : 8, width = columns - c < 8 ? columns - c : 8;
            if (height == 8 && width == 8)
                turn(from + r * ld_from + c, ld_from, to + c * ld_to + r, ld_to);
            else
                for (long j = 0; j < width; j++)
                    for (long i = 0; i < height; i++) to[(c + j) * ld_to + r + i] = from[(r + i) * ld_from + c + j];
        }
}

/* tanh of [features, ld] in place: e / (e + 2) with e = exp(y) - 1 = 2^n p + (2^n - 1) at y = 2|x|, where p = exp(r) - 1
 * of the rest r = y - n log 2 by its series: near zero nothing cancels */
static void squash(long padded, long ld, long features, float *to) {
    for (long f = 0; f < features; f++)
        for (long b = 0; b < padded; b += LANES) {
            vec *at = (vec *)(to + f * ld + b);
            const ivec sign = (ivec)*at & ~0x7fffffff;
            vec y = 2 * (vec)((ivec)*at & 0x7fffffff);
            y = choose(y > splat(40), splat(40), y); /* tanh(20) is 1; what is no number stays none */
            const ivec n = __builtin_convertvector(choose(y == y, y * 1.44269504f + 0.5f, splat(0)), ivec);
            const vec turns = __builtin_convertvector(n, vec);
            const vec r = y - turns * 0.693359375f + turns * 2.12194440e-4f; /* log 2 in two parts */
            vec p = r * (1 / 5040.0f) + (1 / 720.0f);
            p = p * r + (1 / 120.0f);
            p = p * r + (1 / 24.0f);
            p = p * r + (1 / 6.0f);
            p = (p * r + 0.5f) * r * r + r;
            const vec power = (vec)((n + 127) << 23), e = power * p + (power - 1);
            *at = (vec)((ivec)(e / (e + 2)) | sign);
        }
}

/* Gradients [features, ld] of a tanh's results, `at`, become those of what it was taken of */
static void unsquash(long padded, long ld, long features, const float *at, float *gradient) {
    for (long f = 0; f < features; f++)
        for (long b = 0; b < padded; b += LANES) {
            const vec here = *(const vec *)(at + f * ld + b);
            *(vec *)(gradient + f * ld + b) *= 1 - here * here;
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
