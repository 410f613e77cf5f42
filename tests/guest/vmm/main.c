/*
 * vmm/main.c -- kvmm's options, start and end. See kvmm.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvmm.h"

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("kvmm: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(KVMM_STATUS_HOST_ERROR);
}

static const char usage[] = "usage: kvmm -kernel BZIMAGE [-initrd FILE] [-append WORDS] [-m SIZE] [-smp N]\n"
                            "\n"
                            "Runs a Linux kernel under /dev/kvm with its serial port on stdin and stdout.\n"
                            "  -m SIZE   memory: a number of megabytes, or with K, M or G (default 256M)\n"
                            "  -smp N    processors, 1 to 64 (default 1)\n"
                            "Exit status: what the guest writes to port F4H; 0 after an ACPI power-off;\n"
                            "120 reset, 121 triple fault, 122 KVM could not run the guest, 125 host error.\n";

static uint64_t parse_memory(const char *text)
{
    char *end;
    unsigned long long value, unit;

    errno = 0;
    value = strtoull(text, &end, 10);
    switch (*end) {
    case 'K':
    case 'k':
        unit = 1ull << 10;
        end++;
        break;
    case 'G':
    case 'g':
        unit = 1ull << 30;
        end++;
        break;
    case 'M':
    case 'm':
        end++;
        /* fall through */
    default:
        unit = 1ull << 20;
    }
    if (errno || end == text || text[0] == '-' || *end || value > (1ull << 40) / unit)
        die("-m %s: not a size (like 512M or 2G)", text);
    value = value * unit & ~0xfffull;
    if (value < 32ull << 20)
        die("-m %s: a Linux guest needs at least 32M", text);
    return value;
}

static unsigned parse_cpus(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (end == text || *end || value < 1 || value > KVMM_CPUS_MAX)
        die("-smp %s: not a number from 1 to %d", text, KVMM_CPUS_MAX);
    return (unsigned)value;
}

static void parse_options(struct options *options, int argc, char **argv)
{
    options->append = "";
    options->memory = 256ull << 20;
    options->cpu_count = 1;

    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];

        if (!strcmp(name, "-h") || !strcmp(name, "--help")) {
            fputs(usage, stdout);
            exit(0);
        }
        if (strcmp(name, "-kernel") && strcmp(name, "-initrd") && strcmp(name, "-append") &&
            strcmp(name, "-m") && strcmp(name, "-smp"))
            die("%s: no such option (kvmm -h lists them)", name);
        if (++i == argc)
            die("%s needs a value", name);

        if (!strcmp(name, "-kernel"))
            options->kernel = argv[i];
        else if (!strcmp(name, "-initrd"))
            options->initrd = argv[i];
        else if (!strcmp(name, "-append"))
            options->append = argv[i];
        else if (!strcmp(name, "-m"))
            options->memory = parse_memory(argv[i]);
        else
            options->cpu_count = parse_cpus(argv[i]);
    }
    if (!options->kernel)
        die("no kernel given (-kernel BZIMAGE)");
    if (strlen(options->append) >= GUEST_CMDLINE_MAX)
        die("-append is longer than %u bytes", GUEST_CMDLINE_MAX - 1);
}

int main(int argc, char **argv)
{
    static struct vm vm;
    struct boot_entry entry;

    parse_options(&vm.options, argc, argv);
    vm_create(&vm);
    uart_init(&vm.uart);
    ports_init(&vm);
    entry = boot_load(&vm);
    vm_start(&vm, &entry);
    uart_start_input(&vm);
    vm_wait_and_stop(&vm);

    fflush(stdout);
    fprintf(stderr, "kvmm: %s\n", vm.end_reason);
    stats_print(&vm);
    return vm.end_status;
}
