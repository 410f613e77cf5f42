/*
 * tests/fuzz/lab.c -- choices out of an input, machines, a watchdog.
 */
#include "tests/fuzz/lab.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* -- Choices ------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

struct dice dice_make(const uint8_t *data, size_t size)
{
    struct dice d = {.data = data, .size = size, .at = MIN(size, 8u)};
    memcpy(&d.state, data, d.at);
    d.state = mix(d.state);
    return d;
}

uint64_t dice_roll(struct dice *d)
{
    if (d->at < d->size)
        d->state ^= mix(d->data[d->at++]);
    return mix(d->state += 0x9e3779b97f4a7c15u);
}

uint64_t dice_below(struct dice *d, uint64_t n)
{
    return dice_roll(d) % n;
}

bool dice_chance(struct dice *d, unsigned percent)
{
    return dice_below(d, 100) < percent;
}

uint64_t dice_odd(struct dice *d)
{
    uint64_t r = dice_roll(d), v = dice_roll(d);
    unsigned bit = r >> 8 & 63;
    switch (r & 7) {
    case 0:
        return v & 0xff;
    case 1:
        return ~0ull >> bit;
    case 2:
        return BIT(bit);
    case 3:
        return BIT(bit) - (v & 0xf);
    case 4:
        return ~(v & 0xfff);
    case 5:
        return v & 0xffff;
    default:
        return v >> (bit & 32);
    }
}

/* -- The watchdog -------------------------------------------------------------------------------------- */

static void too_long(int signal)
{
    static const char text[] = "fuzz: this input does not end\n";
    (void)signal;
    if (write(2, text, sizeof(text) - 1) < 0)
        _exit(1);
    abort();
}

void watchdog_start(unsigned seconds)
{
    struct itimerval t = {.it_value = {.tv_sec = seconds}};
    signal(SIGPROF, too_long);
    setitimer(ITIMER_PROF, &t, NULL);
}

/* -- Machines ------------------------------------------------------------------------------------------ */

#define DISK_SIZE (64u * 512)

static bool disk_read(void *owner, uint64_t offset, void *buf, size_t n)
{
    if (offset > DISK_SIZE || n > DISK_SIZE - offset)
        abort(); /* the device has to check */
    memcpy(buf, (uint8_t *)owner + offset, n);
    return n % 3 != 2;
}

static bool disk_write(void *owner, uint64_t offset, const void *buf, size_t n)
{
    if (offset > DISK_SIZE || n > DISK_SIZE - offset)
        abort();
    memcpy((uint8_t *)owner + offset, buf, n);
    return true;
}

static bool disk_flush(void *owner)
{
    (void)owner;
    return true;
}

static void serial_write(void *owner, const uint8_t *bytes, size_t n)
{
    (void)owner, (void)bytes, (void)n;
}

struct lab {
    struct machine m;
    struct log log;
    struct chardev serial;
    struct blockdev disk;
    uint8_t sectors[DISK_SIZE];
};

struct machine *lab_machine(uint64_t memory, uint32_t cpus, bool disk)
{
    struct error e;
    struct lab *lab = calloc(1, sizeof(*lab));
    struct machine_config c = {.memory = memory,
                               .cpus = cpus,
                               .no_reboot = true,
                               .debug_exit = true,
                               .debug_exit_base = 0xf4,
                               .debug_exit_size = 4,
                               .boot = {.cpus = cpus}};
    if (!lab || !cpu_model_parse(&c.model, "Icelake-Server", &e))
        abort();
    log_init(&lab->log, NULL, LOG_DEBUG);
    lab->serial = (struct chardev){.owner = lab, .write = serial_write};
    lab->disk = (struct blockdev){.owner = lab->sectors,
                                  .size = DISK_SIZE,
                                  .read = disk_read,
                                  .write = disk_write,
                                  .flush = disk_flush};
    c.log = &lab->log;
    c.serial = &lab->serial;
    c.drives[0] = &lab->disk;
    c.drive_count = disk ? 1 : 0;
    if (!machine_init(&lab->m, &c, &e)) {
        fprintf(stderr, "fuzz: %s\n", e.message);
        abort();
    }
    return &lab->m;
}

void lab_free(struct machine *m)
{
    machine_free(m);
    free(CONTAINER(m, struct lab, m));
}

uint8_t *lab_seed(unsigned index, size_t zeros, size_t *size)
{
    uint8_t *bytes = calloc(1, 8 + zeros);
    if (bytes)
        store_le(bytes, index, 8);
    *size = 8 + zeros;
    return bytes;
}
