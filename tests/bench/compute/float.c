/*
 * tests/bench/compute/float.c -- floating point: scalar SSE2 (double) and x87 (long double).
 *
 * Only operations with one correct result (IEEE 754: + - * / and square root), so every system gives the same
 * bits.
 */
#include "compute.h"

#include <string.h>

/* -- SSE2: five bodies under gravity ------------------------------------------------------------------- */

enum { BODY_COUNT = 5, BODY_STEPS = 60000 };
struct body {
    double at[3], speed[3], mass;
};

static double square_root(double x)
{
    __asm__("sqrtsd %1, %0" : "=x"(x) : "x"(x));
    return x;
}

static void bodies_step(struct body *bodies, double dt)
{
    for (int i = 0; i < BODY_COUNT; i++) {
        struct body *b = &bodies[i];
        for (int j = i + 1; j < BODY_COUNT; j++) {
            struct body *c = &bodies[j];
            double dx = b->at[0] - c->at[0], dy = b->at[1] - c->at[1], dz = b->at[2] - c->at[2];
            double square = dx * dx + dy * dy + dz * dz + 0.01;
            double pull = dt / (square * square_root(square));
            b->speed[0] -= dx * c->mass * pull;
            b->speed[1] -= dy * c->mass * pull;
            b->speed[2] -= dz * c->mass * pull;
            c->speed[0] += dx * b->mass * pull;
            c->speed[1] += dy * b->mass * pull;
            c->speed[2] += dz * b->mass * pull;
        }
    }
    for (int i = 0; i < BODY_COUNT; i++)
        for (int k = 0; k < 3; k++)
            bodies[i].at[k] += dt * bodies[i].speed[k];
}

uint64_t sse2_unit(void)
{
    struct body bodies[BODY_COUNT];
    for (int i = 0; i < BODY_COUNT; i++) {
        bodies[i].mass = 1.0 / (1 + i);
        for (int k = 0; k < 3; k++) {
            bodies[i].at[k] = i * (k + 1) * 0.75 - k;
            bodies[i].speed[k] = 0.1 * (k - i);
        }
    }
    for (int step = 0; step < BODY_STEPS; step++)
        bodies_step(bodies, 0.001);
    uint64_t sum = 0;
    for (int i = 0; i < BODY_COUNT; i++) {
        uint64_t bits;
        memcpy(&bits, &bodies[i].at[i % 3], 8);
        sum = mix(sum, bits);
    }
    return sum;
}

/* -- x87: the Mandelbrot set and square roots by Newton's method --------------------------------------- */

enum { MANDELBROT_SIZE = 96, MANDELBROT_LIMIT = 500, NEWTON_COUNT = 100000 };

uint64_t x87_unit(void)
{
    uint64_t sum = 0;
    for (int row = 0; row < MANDELBROT_SIZE; row++) {
        for (int column = 0; column < MANDELBROT_SIZE; column++) {
            long double cx = -2.0L + 2.5L * column / MANDELBROT_SIZE,
                        cy = -1.25L + 2.5L * row / MANDELBROT_SIZE;
            long double x = 0, y = 0, xx = 0, yy = 0;
            int count = 0;
            while (count < MANDELBROT_LIMIT && xx + yy < 4) {
                y = 2 * x * y + cy;
                x = xx - yy + cx;
                xx = x * x;
                yy = y * y;
                count++;
            }
            sum = mix(sum, (uint64_t)count);
        }
    }
    long double total = 0;
    for (int i = 1; i <= NEWTON_COUNT; i++) {
        long double root = i * 0.5L + 0.5L;
        for (int k = 0; k < 6; k++)
            root = (root + i / root) * 0.5L;
        total += root;
    }
    return mix(sum, (uint64_t)(total * 65536));
}
