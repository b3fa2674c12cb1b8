/* What the players minimise, of one member's logits and of D's slopes: values, and gradients in their place. */
#include "native_layers.h"

/* By the numbers that native_game.py gives them; the relativistic ones, the last, compare real and fake logits. */
enum { MINIMAX, NON_SATURATING, WASSERSTEIN, LEAST_SQUARES, HINGE, F_GAN_KL, F_GAN_PEARSON, RELATIVISTIC,
       RELATIVISTIC_AVERAGE };

/* log(1 + u) of u in [0, 1], 2 artanh(u / (2 + u)) by its series: libm's takes one number at a time, after a call */
static float log_of_one_and(float u) {
    const float s = u / (2 + u), q = s * s;
    float sum = 1 / 13.0f;
    for (int n = 11; n > 1; n -= 2) sum = sum * q + 1 / (float)n;
    return 2 * s + 2 * s * (sum * q);
}

static float softplus(float x) { return (x > 0 ? x : 0) + log_of_one_and(expf(x > 0 ? -x : x)); }
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

/* Every logit of `high` should lie above the one of `low` in its place */
static float of_pairs(long batch, float *high, float *low) {
    double sum = 0;
    for (long b = 0; b < batch; b++) {
        const float x = low[b] - high[b];
        sum += softplus(x);
        low[b] = sigmoid(x) / (float)batch;
        high[b] = -low[b];
    }
    return (float)(sum / (double)batch);
}

/* Every logit of `high` should lie above the mean of `low`, and of `low` below that of `high`: either mean has slopes */
static float of_averages(long batch, float *high, float *low) {
    double sum = 0, highs = 0, lows = 0, pulls = 0, pushes = 0;
    for (long b = 0; b < batch; b++) highs += high[b], lows += low[b];
    const float mean_high = (float)(highs / (double)batch), mean_low = (float)(lows / (double)batch);
    for (long b = 0; b < batch; b++) {
        const float above = high[b] - mean_low, below = low[b] - mean_high;
        sum += 0.5 * ((double)softplus(-above) + (double)softplus(below));
        high[b] = sigmoid(-above), low[b] = sigmoid(below);
        pulls += high[b], pushes += low[b];
    }
    const float pull = (float)(pulls / (double)batch), push = (float)(pushes / (double)batch);
    for (long b = 0; b < batch; b++) {
        high[b] = -0.5f * (high[b] + push) / (float)batch;
        low[b] = 0.5f * (low[b] + pull) / (float)batch;
    }
    return (float)(sum / (double)batch);
}

static int pairs(int loss) { return loss >= RELATIVISTIC; }

static float of_both(int loss, long batch, float *high, float *low) {
    return loss == RELATIVISTIC ? of_pairs(batch, high, low) : of_averages(batch, high, low);
}

/* L_D of logits [batch], in whose place its slopes come */
static float discriminator_loss(int loss, long batch, float *reals, float *fakes) {
    if (pairs(loss)) return of_both(loss, batch, reals, fakes);
    double of_reals = 0, of_fakes = 0;
    for (long b = 0; b < batch; b++) {
        float at_real, at_fake;
        of_reals += of_real(loss, reals[b], &at_real), of_fakes += of_fake(loss, fakes[b], &at_fake);
        reals[b] = at_real / (float)batch, fakes[b] = at_fake / (float)batch;
    }
    return (float)(of_reals / (double)batch + of_fakes / (double)batch);
}

/* L_G of logits [batch], likewise; `reals` are read, and overwritten, by the losses that compare alone */
static float generator_loss(int loss, long batch, float *reals, float *fakes) {
    if (pairs(loss)) return of_both(loss, batch, fakes, reals);
    double sum = 0;
    for (long b = 0; b < batch; b++) {
        float slope;
        sum += of_generator(loss, fakes[b], &slope);
        fakes[b] = slope / (float)batch;
    }
    return (float)(sum / (double)batch);
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
