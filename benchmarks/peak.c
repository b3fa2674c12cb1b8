/* GFLOP/s of fused multiply-adds on one thread: sixteen independent chains of vectors that never leave the registers.
 * Nothing in float32 can be faster on this core. Built and run by benchmarks/steps.py. */
#include <stdio.h>
#include <time.h>

#if defined(__AVX512F__)
#define LANES 16
#else
#define LANES 8
#endif
enum { CHAINS = 12, ROUNDS = 5, TIMES = 20000000 };

typedef float vec __attribute__((vector_size(4 * LANES)));

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(void) {
    const vec factor = (vec){0} + 0.999f, add = (vec){0} + 1e-6f;
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        vec sum[CHAINS];
        for (int i = 0; i < CHAINS; i++) sum[i] = (vec){0} + (float)i;
        const double began = seconds();
        for (long k = 0; k < TIMES; k++)
#pragma GCC unroll 12
            for (int i = 0; i < CHAINS; i++) {
                sum[i] = sum[i] * factor + add;
                __asm__ volatile("" : "+v"(sum[i])); /* or the compiler would take two steps at once */
            }
        const double taken = seconds() - began;
        if (taken < best) best = taken;
    }
    printf("%.3f\n", 2.0 * LANES * CHAINS * TIMES / best / 1e9);
    return 0;
}
