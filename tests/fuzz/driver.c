/*
 * tests/fuzz/driver.c -- runs a fuzz target on mutated inputs, the same ones for the same seed.
 *
 *     fuzz_snapshot [-n COUNT] [-s SEED] [-o DIR]    run; before each input DIR/last is written, if given
 *     fuzz_snapshot FILE...                          run these files, as after a crash
 *
 * No feedback from coverage: this is the part of fuzzing that never differs between two runs. Mutations:
 * flipped bits, set bytes, interesting integers, cut, repeated, moved and foreign pieces.
 */
#include "tests/fuzz/fuzz.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEEDS_MAX 64
#define INPUT_MAX ((size_t)1 << 20) /* inputs do not grow beyond */

struct input {
    uint8_t *data;
    size_t size;
};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t below(uint64_t *state, size_t n)
{
    return n ? (size_t)(next_random(state) % n) : 0;
}

static void write_integer(struct input *in, uint64_t *state)
{
    static const uint64_t values[] = {0,
                                      1,
                                      0x7f,
                                      0x80,
                                      0xff,
                                      0x7fff,
                                      0x8000,
                                      0xffff,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      INT64_MAX,
                                      (uint64_t)1 << 63,
                                      UINT64_MAX};
    size_t size = (size_t)1 << below(state, 4);
    if (in->size < size)
        return;
    uint64_t v = values[below(state, sizeof(values) / sizeof(values[0]))];
    memcpy(in->data + below(state, in->size - size + 1), &v, size);
}

/* Removes, repeats or exchanges a piece; in->data has room for INPUT_MAX bytes. */
static void move_piece(struct input *in, uint64_t *state, const struct input *other)
{
    if (!in->size)
        return;
    size_t at = below(state, in->size), n = 1 + below(state, in->size - at);
    switch (below(state, 4)) {
    case 0:
        memmove(in->data + at, in->data + at + n, in->size - at - n);
        in->size -= n;
        break;
    case 1:
        if (in->size + n > INPUT_MAX)
            return;
        memmove(in->data + at + n, in->data + at, in->size - at);
        in->size += n;
        break;
    case 2:
        memmove(in->data + below(state, in->size - n + 1), in->data + at, n);
        break;
    default:
        if (other->size >= n)
            memcpy(in->data + at, other->data + below(state, other->size - n + 1), n);
    }
}

static void mutate(struct input *in, uint64_t *state, const struct input *other)
{
    for (size_t steps = 1 + below(state, 6); steps > 0 && in->size > 0; steps--) {
        switch (below(state, 6)) {
        case 0:
        case 1:
            in->data[below(state, in->size)] ^= (uint8_t)(1u << below(state, 8));
            break;
        case 2:
            in->data[below(state, in->size)] = (uint8_t)next_random(state);
            break;
        case 3:
            write_integer(in, state);
            break;
        case 4:
            in->size = below(state, 8) ? in->size : below(state, in->size);
            break;
        default:
            move_piece(in, state, other);
        }
    }
}

static void write_file(const char *path, const struct input *in)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(in->data, 1, in->size, f) != in->size)
        perror(path);
    if (f)
        fclose(f);
}

/* An exact allocation, so that the sanitizer sees the first byte read beyond the input. */
static void run(const struct input *in)
{
    uint8_t *copy = malloc(in->size);
    if (in->size)
        memcpy(copy, in->data, in->size);
    LLVMFuzzerTestOneInput(copy, in->size);
    free(copy);
}

static int run_file(const char *path)
{
    struct input in = {malloc(INPUT_MAX), 0};
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        free(in.data);
        return 1;
    }
    in.size = fread(in.data, 1, INPUT_MAX, f);
    fclose(f);
    run(&in);
    free(in.data);
    return 0;
}

static void run_mutated(uint64_t count, uint64_t seed, const char *folder)
{
    struct input seeds[SEEDS_MAX], in = {malloc(INPUT_MAX), 0};
    uint64_t state = seed;
    unsigned seed_count = 0;
    char last[4096];

    snprintf(last, sizeof(last), "%s/last", folder ? folder : ".");
    while (seed_count < SEEDS_MAX) {
        struct input *s = &seeds[seed_count];
        s->data = fuzz_seed_input(seed_count, &s->size);
        if (!s->data)
            break;
        run(s);
        seed_count++;
    }
    for (uint64_t i = 0; i < count && seed_count; i++) {
        const struct input *from = &seeds[below(&state, seed_count)];
        in.size = from->size < INPUT_MAX ? from->size : INPUT_MAX;
        memcpy(in.data, from->data, in.size);
        mutate(&in, &state, &seeds[below(&state, seed_count)]);
        if (folder)
            write_file(last, &in);
        run(&in);
    }
    printf("%u seeds, %" PRIu64 " mutated inputs, seed %" PRIu64 "\n", seed_count, count, seed);
    while (seed_count)
        free(seeds[--seed_count].data);
    free(in.data);
}

int main(int argc, char **argv)
{
    uint64_t count = 10000, seed = 1;
    const char *folder = NULL;
    int option, status = 0;

    while ((option = getopt(argc, argv, "n:s:o:")) != -1) {
        if (option == 'n')
            count = strtoull(optarg, NULL, 0);
        else if (option == 's')
            seed = strtoull(optarg, NULL, 0);
        else if (option == 'o')
            folder = optarg;
        else
            return 2;
    }
    if (optind == argc)
        run_mutated(count, seed, folder);
    for (int i = optind; i < argc; i++)
        status |= run_file(argv[i]);
    return status;
}
