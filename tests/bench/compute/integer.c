/*
 * tests/bench/compute/integer.c -- sort, hash table, CRC-32, LZ compression, SHA-256.
 */
#include "compute.h"

#include <string.h>

/* -- Sort: quicksort with insertion for short runs ----------------------------------------------------- */

enum { SORT_COUNT = 150000 };
static uint32_t *sort_input, *sort_array;

void sort_prepare(void)
{
    uint64_t seed = 1;
    sort_input = memory_new(SORT_COUNT * sizeof *sort_input);
    sort_array = memory_new(SORT_COUNT * sizeof *sort_array);
    for (int i = 0; i < SORT_COUNT; i++)
        sort_input[i] = (uint32_t)(random_next(&seed) >> 20);
}

static void quicksort(uint32_t *a, long low, long high)
{
    while (high - low > 12) {
        uint32_t pivot = a[low + (high - low) / 2];
        long i = low, j = high;
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        if (j - low < high - i) {
            quicksort(a, low, j);
            low = i;
        } else {
            quicksort(a, i, high);
            high = j;
        }
    }
    for (long i = low + 1; i <= high; i++) {
        uint32_t value = a[i];
        long j = i - 1;
        for (; j >= low && a[j] > value; j--)
            a[j + 1] = a[j];
        a[j + 1] = value;
    }
}

uint64_t sort_unit(void)
{
    memcpy(sort_array, sort_input, SORT_COUNT * sizeof *sort_array);
    quicksort(sort_array, 0, SORT_COUNT - 1);
    uint64_t sum = 0;
    for (int i = 0; i < SORT_COUNT; i += 97)
        sum = mix(sum, sort_array[i]);
    return sum;
}

/* -- Hash: open addressing, FNV-1a over the key's bytes ------------------------------------------------ */

enum { HASH_SLOTS = 1 << 15, HASH_KEYS = 20000, HASH_LOOKUPS = 600000 };
static struct slot {
    uint64_t key; /* 0: free */
    uint64_t value;
} * hash_table;

void hash_prepare(void)
{
    hash_table = memory_new(HASH_SLOTS * sizeof *hash_table);
}

static struct slot *hash_find(uint64_t key)
{
    uint32_t h = 2166136261u;
    for (int i = 0; i < 8; i++)
        h = (h ^ (key >> 8 * i & 0xff)) * 16777619u;
    struct slot *slot = &hash_table[h % HASH_SLOTS];
    while (slot->key != 0 && slot->key != key)
        slot = slot == &hash_table[HASH_SLOTS - 1] ? hash_table : slot + 1;
    return slot;
}

uint64_t hash_unit(void)
{
    uint64_t seed = 2, sum = 0;
    memset(hash_table, 0, HASH_SLOTS * sizeof *hash_table);
    for (int i = 0; i < HASH_LOOKUPS; i++) {
        uint64_t key = random_next(&seed) % HASH_KEYS + 1;
        struct slot *slot = hash_find(key);
        slot->key = key;
        sum += ++slot->value * key;
    }
    return sum;
}

/* -- CRC-32: one table, a byte a step ------------------------------------------------------------------ */

enum { CRC_SIZE = 1 << 16, CRC_ROUNDS = 70 };
static uint32_t crc_table[256];
static uint8_t *crc_data;

void crc_prepare(void)
{
    uint64_t seed = 3;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        crc_table[i] = c;
    }
    crc_data = memory_new(CRC_SIZE);
    for (int i = 0; i < CRC_SIZE; i++)
        crc_data[i] = (uint8_t)(random_next(&seed) >> 32);
}

uint64_t crc_unit(void)
{
    uint32_t crc = ~0u;
    for (int round = 0; round < CRC_ROUNDS; round++)
        for (int i = 0; i < CRC_SIZE; i++)
            crc = crc >> 8 ^ crc_table[(crc ^ crc_data[i]) & 0xff];
    return ~crc;
}

/* -- LZ: hash chains of 32 KB, longest match of up to 16 candidates ------------------------------------ */

enum {
    LZ_SIZE = 1 << 18,
    LZ_WINDOW = 1 << 15,
    LZ_HASH = 1 << 13,
    LZ_TRIES = 16,
    LZ_MATCH = 258,
    LZ_ROUNDS = 2
};
static uint8_t *lz_input, *lz_output;
static int lz_head[LZ_HASH], lz_previous[LZ_WINDOW];

/* Words of a small vocabulary: compresses about as well as text does. */
void lz_prepare(void)
{
    uint64_t seed = 4;
    lz_input = memory_new(LZ_SIZE);
    lz_output = memory_new(2 * LZ_SIZE);
    for (int i = 0; i < LZ_SIZE;) {
        uint64_t draw = random_next(&seed) >> 16;
        uint64_t word = draw % (1 + (draw >> 20) % 2000) + 1; /* short numbers are frequent */
        uint64_t letters = word * 0x9e3779b97f4a7c15u;
        int length = 2 + (int)(letters >> 60) % 9;
        for (int k = 0; k < length && i < LZ_SIZE; k++, letters = letters * 6364136223846793005u + 1)
            lz_input[i++] = (uint8_t)('a' + (letters >> 58) % 26);
        if (i < LZ_SIZE)
            lz_input[i++] = ' ';
    }
}

static void lz_insert(int position)
{
    uint32_t three = lz_input[position] | lz_input[position + 1] << 8 | lz_input[position + 2] << 16;
    uint32_t h = three * 2654435761u >> 19;
    lz_previous[position % LZ_WINDOW] = lz_head[h];
    lz_head[h] = position;
}

static int lz_compress(void)
{
    uint8_t *out = lz_output;
    for (int i = 0; i < LZ_HASH; i++)
        lz_head[i] = -1;
    for (int i = 0; i < LZ_SIZE;) {
        int best = 0, distance = 0;
        if (i + 3 <= LZ_SIZE) {
            int limit = LZ_SIZE - i < LZ_MATCH ? LZ_SIZE - i : LZ_MATCH;
            lz_insert(i);
            int candidate = lz_previous[i % LZ_WINDOW];
            for (int tries = 0; tries < LZ_TRIES && candidate >= 0 && i - candidate < LZ_WINDOW; tries++) {
                int length = 0;
                while (length < limit && lz_input[candidate + length] == lz_input[i + length])
                    length++;
                if (length > best) {
                    best = length;
                    distance = i - candidate;
                }
                candidate = lz_previous[candidate % LZ_WINDOW];
            }
        }
        if (best < 4) {
            *out++ = lz_input[i++];
            continue;
        }
        *out++ = (uint8_t)(0x80 | distance >> 8);
        *out++ = (uint8_t)distance;
        *out++ = (uint8_t)(best - 3);
        for (int k = 1; k < best; k++)
            if (i + k + 3 <= LZ_SIZE)
                lz_insert(i + k);
        i += best;
    }
    return (int)(out - lz_output);
}

uint64_t lz_unit(void)
{
    uint64_t sum = 0;
    for (int round = 0; round < LZ_ROUNDS; round++) {
        int size = lz_compress();
        sum = mix(sum, (uint64_t)size);
        for (int i = 0; i < size; i += 61)
            sum = mix(sum, lz_output[i]);
    }
    return sum;
}

/* -- SHA-256 (FIPS 180-4), without its padding --------------------------------------------------------- */

enum { SHA_SIZE = 1 << 16, SHA_ROUNDS = 32 };
static uint8_t *sha_data;
static uint32_t sha_constants[64];

/* The constants are the fractions of the cube roots of the first 64 primes: found by bisection in integers.
 */
void sha256_prepare(void)
{
    uint64_t seed = 5;
    sha_data = memory_new(SHA_SIZE);
    for (int i = 0; i < SHA_SIZE; i++)
        sha_data[i] = (uint8_t)(random_next(&seed) >> 24);
    for (unsigned prime = 2, count = 0; count < 64; prime++) {
        unsigned divisor = 2;
        while (divisor < prime && prime % divisor != 0)
            divisor++;
        if (divisor != prime)
            continue;
        /* largest r below 2^36 with r^3 <= prime * 2^96 */
        uint64_t low = 0, high = (uint64_t)1 << 36;
        while (high - low > 1) {
            uint64_t middle = (low + high) / 2;
            unsigned __int128 cube = (unsigned __int128)middle * middle * middle;
            if (cube <= (unsigned __int128)prime << 96)
                low = middle;
            else
                high = middle;
        }
        sha_constants[count++] = (uint32_t)low;
    }
}

static inline uint32_t rotate(uint32_t x, int count)
{
    return x >> count | x << (32 - count);
}

static void sha_block(uint32_t state[8], const uint8_t *data)
{
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
        memcpy(&w[i], data + 4 * i, 4);
        w[i] = __builtin_bswap32(w[i]);
    }
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + sha_constants[i] + w[i];
        uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

uint64_t sha256_unit(void)
{
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (int round = 0; round < SHA_ROUNDS; round++)
        for (int i = 0; i < SHA_SIZE; i += 64)
            sha_block(state, sha_data + i);
    return (uint64_t)state[0] << 32 | state[7];
}
