/* Random numbers of many members: those of numpy's Generator(SFC64(SeedSequence(seed, spawn_key=(stream, index)))), bit
 * for bit. Nothing here is shared between calls, so that several threads may draw at once.
 *
 * SFC64 is Chris Doty-Humphrey's; SeedSequence's hash is Melissa O'Neill's; the ziggurat is Marsaglia & Tsang 2000, J.
 * Stat. Softw. 5(8), with 256 strips, as numpy.random has it. Its tables come from ziggurat.py.
 */
#pragma once
#include <math.h>
#include <stdint.h>

typedef struct {
    uint64_t a, b, c, counter;
} Sfc64;

static inline uint64_t next_word(Sfc64 *s) {
    const uint64_t word = s->a + s->b + s->counter++;
    s->a = s->b ^ s->b >> 11;
    s->b = s->c + (s->c << 3);
    s->c = (s->c << 24 | s->c >> 40) + word;
    return word;
}

static uint32_t hashed(uint32_t value, uint32_t *constant, uint32_t factor) {
    value ^= *constant;
    *constant *= factor;
    value *= *constant;
    return value ^ value >> 16;
}

static uint32_t mixed(uint32_t x, uint32_t y) {
    const uint32_t sum = 0xca01f9ddu * x - 0x4973f715u * y;
    return sum ^ sum >> 16;
}

/* A seed below 2^64 fills half the pool of four words, zeros the rest; the spawn key's words come after it. */
static Sfc64 seeded(uint64_t seed, uint32_t stream, uint32_t index) {
    const uint32_t entropy[6] = {(uint32_t)seed, (uint32_t)(seed >> 32), 0, 0, stream, index}, into = 0x931e8875u;
    uint32_t pool[4], constant = 0x43b0d7e5u;
    uint64_t state[3] = {0};
    for (int i = 0; i < 4; i++) pool[i] = hashed(entropy[i], &constant, into);
    for (int from = 0; from < 4; from++)
        for (int to = 0; to < 4; to++)
            if (from != to) pool[to] = mixed(pool[to], hashed(pool[from], &constant, into));
    for (int from = 4; from < 6; from++)
        for (int to = 0; to < 4; to++) pool[to] = mixed(pool[to], hashed(entropy[from], &constant, into));
    constant = 0x8b51f9ddu;
    for (int i = 0; i < 6; i++) state[i / 2] |= (uint64_t)hashed(pool[i % 4], &constant, 0x58f38dedu) << 32 * (i % 2);
    Sfc64 found = {state[0], state[1], state[2], 1};
    for (int i = 0; i < 12; i++) next_word(&found);
    return found;
}

enum { AHEAD = 512 }; /* words made at once: they stay in the cache, and their chain of additions runs beside the rest */

/* Halves of words, the low one first; `at` is the next of those made */
typedef struct {
    Sfc64 generator;
    int at;
    uint32_t made[2 * AHEAD];
} Halves;

static void make(Halves *of) {
    Sfc64 s = of->generator; /* by value: in registers, whatever is written */
    for (int i = 0; i < AHEAD; i++) {
        const uint64_t word = next_word(&s);
        of->made[2 * i] = (uint32_t)word, of->made[2 * i + 1] = (uint32_t)(word >> 32);
    }
    of->generator = s, of->at = 0;
}

static Halves halves(uint64_t seed, uint32_t stream, uint32_t index) {
    Halves found;
    found.generator = seeded(seed, stream, index), found.at = 2 * AHEAD;
    return found;
}

static uint32_t next_half(Halves *of) {
    if (of->at == 2 * AHEAD) make(of);
    return of->made[of->at++];
}

static float uniform(Halves *of) { return (float)(next_half(of) >> 8) * (1.0f / 16777216.0f); }

/* Of a half's low nine bits, strip and sign: numbers are its other 23 times `width`, at once where below `inside` */
typedef struct {
    float width;
    uint32_t inside;
} Strip;

typedef struct {
    const Strip *strips;  /* [512] */
    const float *heights; /* [256], of the density at each strip's edge */
} Ziggurat;

/* A product rounded by itself: fused into a sum, as a compiler may, it would have other bits than numpy's */
static __attribute__((noinline)) float times(float a, float b) { return a * b; }

/* Beyond the last edge, by Marsaglia's method */
static float tail(Halves *of, int negative) {
    for (;;) {
        const float beyond = times(-0.27366123732975827203338247596f, log1pf(-uniform(of)));
        const float y = -log1pf(-uniform(of));
        const float found = 3.6541528853610087963519472518f + beyond;
        if (y + y > times(beyond, beyond)) return negative ? -found : found;
    }
}

/* Whether x, drawn between a strip's inside and its edge, lies under the density */
static int under(Halves *of, const float *heights, uint32_t strip, float x) {
    const float height = times(heights[strip - 1] - heights[strip], uniform(of)) + heights[strip];
    return (double)height < exp(-0.5 * (double)x * (double)x);
}

static void normals(Halves *of, long count, Ziggurat by, float *out) {
    for (long i = 0; i < count;) {
        if (of->at == 2 * AHEAD) make(of);
        const long end = of->at + (count - i) < 2 * AHEAD ? of->at + (count - i) : 2 * AHEAD;
        for (long at = of->at; at < end; of->at = (int)at) {
            const uint32_t half = of->made[at++], distance = half >> 9, strip = half & 255;
            const Strip here = by.strips[half & 511];
            const float x = (float)(int)distance * here.width;
            out[i] = x;
            if (__builtin_expect(distance >= here.inside, 0)) {
                of->at = (int)at;
                if (strip == 0) out[i++] = tail(of, half >> 17 & 1);
                else if (under(of, by.heights, strip, x)) i++;
                break; /* others were read */
            }
            i++;
        }
    }
}

/* The same in double precision, of whole words */
typedef struct {
    double width;
    uint64_t inside;
} WideStrip;

typedef struct {
    const WideStrip *strips;
    const double *heights;
} WideZiggurat;

static __attribute__((noinline)) double wide_times(double a, double b) { return a * b; }

static double wide_uniform(Sfc64 *of) { return (double)(next_word(of) >> 11) * (1.0 / 9007199254740992.0); }

static double wide_tail(Sfc64 *of, int negative) {
    for (;;) {
        const double beyond = wide_times(-0.27366123732975827203338247596, log1p(-wide_uniform(of)));
        const double y = -log1p(-wide_uniform(of));
        const double found = 3.6541528853610087963519472518 + beyond;
        if (y + y > wide_times(beyond, beyond)) return negative ? -found : found;
    }
}

static double wide_normal(Sfc64 *of, WideZiggurat by) {
    for (;;) {
        const uint64_t word = next_word(of), distance = word >> 9 & 0xfffffffffffff;
        const WideStrip here = by.strips[word & 511];
        const double x = (double)(int64_t)distance * here.width;
        if (distance < here.inside) return x;
        const int strip = word & 255;
        if (strip == 0) return wide_tail(of, distance >> 8 & 1);
        const double low = by.heights[strip];
        if (wide_times(by.heights[strip - 1] - low, wide_uniform(of)) + low < exp(-0.5 * x * x)) return x;
    }
}

/* Whole numbers below `bound` by Lemire 2019, arXiv:1805.10941, into every `apart`-th place; a half left over is lost */
static void wholes(Sfc64 *of, long count, uint32_t bound, float *out, long apart) {
    uint64_t word = 0;
    int halves = 0;
    for (long i = 0; i < count; i++) {
        uint64_t product = 0;
        do {
            if (!halves) word = next_word(of), halves = 2;
            product = (word & 0xffffffffu) * bound;
            word >>= 32, halves--;
        } while ((uint32_t)product < bound && (uint32_t)product < (0u - bound) % bound);
        out[i * apart] = (float)(product >> 32);
    }
}

/* Points [count, dimensions]: centres [modes, dimensions] drawn alike, plus std times normal numbers */
static void mixture(Sfc64 *of, long count, uint32_t modes, long dimensions, const double *centres, double std,
                    WideZiggurat by, float *out) {
    for (long i = 0; modes == 1 && i < count; i++) out[i * dimensions] = 0; /* numpy draws nothing for one of one */
    if (modes > 1) wholes(of, count, modes, out, dimensions);
    for (long i = 0; i < count; i++) {
        float *point = out + i * dimensions;
        const double *centre = centres + (long)point[0] * dimensions;
        for (long f = 0; f < dimensions; f++) point[f] = (float)(centre[f] + wide_times(std, wide_normal(of, by)));
    }
}
