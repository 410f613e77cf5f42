/*
 * frontend/demo.c -- "droste demo": runs the teaching hypervisor that is built into the program.
 *
 * The image is tests/guest/teach/teach.c as a Multiboot ELF (demo_image.S). The loaders read files, so it is
 * handed to them as an anonymous one. Its own exit status, through isa-debug-exit, is 0 when it took every
 * exit that it expects.
 */
#define _GNU_SOURCE
#include "frontend/demo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/vmx/vmx.h"
#include "machine/machine.h"

extern const uint8_t demo_image[], demo_image_end[];

#define DEMO_MEMORY (64ull << 20)
/* Far more than it needs: a demo that hangs is a failure too. */
#define DEMO_TICKS  1000000000ull
#define DEMO_PASSED 1 /* isa-debug-exit makes (v << 1) | 1 of the image's 0 */

/* Lines end as the host's do. */
static void demo_output(void *owner, const uint8_t *bytes, size_t n)
{
    (void)owner;
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != '\r')
            putchar(bytes[i]);
    fflush(stdout);
}

/* A file that exists only while it is open; its name goes to path. */
static int image_file(char *path, size_t size, struct error *e)
{
    size_t left = (size_t)((uintptr_t)demo_image_end - (uintptr_t)demo_image);
    int fd = memfd_create("droste-demo", MFD_CLOEXEC);
    for (const uint8_t *p = demo_image; fd >= 0 && left;) {
        ssize_t done = write(fd, p, left);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            close(fd);
            fd = -1;
            break;
        }
        p += done;
        left -= (size_t)done;
    }
    if (fd < 0)
        error_set(e, "demo: no place for the image: %s", strerror(errno));
    else
        snprintf(path, size, "/proc/self/fd/%d", fd);
    return fd;
}

static int report(const struct machine *m, enum machine_end end)
{
    const struct cpu *cpu = &m->cpus[0];
    fprintf(stdout, "droste: %llu instructions, %llu of them in the guest; %llu VM entries\n",
            (unsigned long long)(cpu->insns - cpu->paused),
            (unsigned long long)(cpu->insns_non_root - cpu->paused_non_root),
            (unsigned long long)vmx_entry_count(cpu));
    if (end == MACHINE_EXIT && m->status == DEMO_PASSED)
        return 0;
    if (end == MACHINE_EXIT)
        fprintf(stderr, "droste: demo: the hypervisor reports a failure (status %d)\n", m->status);
    else
        fprintf(stderr, "droste: demo: the hypervisor did not come to its end; it stands at rip %#llx\n",
                (unsigned long long)cpu->rip);
    return 1;
}

static bool demo_run(int *status, struct error *e)
{
    struct log log;
    struct chardev serial = {.write = demo_output};
    char path[64];
    struct machine_config c = {.memory = DEMO_MEMORY,
                               .cpus = 1,
                               .boot = {.kernel = path, .append = "", .cpus = 1},
                               .rtc_start = 1767225600, /* 2026-01-01T00:00:00Z */
                               .no_reboot = true,
                               .debug_exit = true,
                               .debug_exit_base = 0xf4,
                               .debug_exit_size = 4,
                               .serial = &serial,
                               .log = &log};
    log_init(&log, stderr, LOG_WARN);
    if (!cpu_model_parse(&c.model, "Icelake-Server", e))
        return false;
    int fd = image_file(path, sizeof(path), e);
    if (fd < 0)
        return false;
    struct machine *m = malloc(sizeof(*m));
    bool ok = m ? machine_init(m, &c, e) : error_set(e, "demo: not enough host memory for the machine");
    if (ok) {
        *status = report(m, machine_run(m, DEMO_TICKS));
        machine_free(m);
    }
    free(m);
    close(fd);
    return ok;
}

int demo_main(int argc, char **argv)
{
    struct error e;
    int status = 1;
    if (argc > 1) {
        fprintf(stderr, "droste: %s %s: demo takes no options\n", argv[0], argv[1]);
        return 1;
    }
    if (!demo_run(&status, &e))
        fprintf(stderr, "droste: %s\n", e.message);
    return status;
}
