/*
 * tests/fuzz/fuzz_options.c -- command lines: the input is the arguments, each ended by a zero byte or a
 * newline.
 *
 * Whatever is refused is refused with a message.
 */
#include "frontend/options.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGUMENTS_MAX 64

static const char *const lines[] = {
    "-kernel\nvmlinuz\n-initrd\nl1.gz\n-append\nconsole=ttyS0\n-m\n2G\n-smp\n2\n-nographic\n-no-reboot",
    "-drive\nfile=disk.img,format=raw,if=virtio,readonly=on\n-device\nisa-debug-exit,iobase=0xf4,iosize="
    "0x4\n-loadvm\ns",
    "-cpu\nmax,+avx2,-vmx,x2apic=off\n-serial\nfile:out\n-accel\ntcg,thread=single\n-machine\nq35,accel="
    "tcg\n-M\nq35",
    "-rtc\nbase=2024-02-29T12:00:00\n--at\n1000000\n--save\nx\n--state-hash\n1000,y\n-trace\nvm_*,-vm_exit\n-"
    "D\nlog",
    "-smp\ncpus=4\n-m\n512\n-cpu\nIcelake-Server,-xsave,+pcid\n-display\nnone\n-d\nint\n--stats\n-\n-"
    "accel\ninterp",
    "-help\n-version\n-h\n--help\n--version\n-kernel\n\n-m\n0\n-m\n1T\n-smp\n0",
    "-drive\nfile=a,format=raw\n-drive\nfile=b,format=raw\n-drive\nfile=c,format=raw\n-drive\nfile=d,format="
    "raw\n"
    "-drive\nfile=e,format=raw\n-drive\nfile=f,format=raw\n-drive\nfile=g,format=raw\n-drive\nfile=h,format="
    "raw\n"
    "-drive\nfile=i,format=raw\n-drive\nfile=j,file=k,file=l,file=m,file=n,file=o,file=p,file=q,format=raw",
};

uint8_t *fuzz_seed_input(unsigned index, size_t *size)
{
    if (index >= ARRAY_LEN(lines))
        return NULL;
    *size = strlen(lines[index]);
    return (uint8_t *)strdup(lines[index]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct options *o = malloc(sizeof(*o));
    struct error e = {""};
    char *argv[ARGUMENTS_MAX + 2] = {strdup("droste")};
    int argc = 1;

    /* An allocation an argument, so that the sanitizer sees the first byte read beyond one. */
    for (size_t at = 0; at < size && argc <= ARGUMENTS_MAX; argc++) {
        size_t n = 0;
        while (at + n < size && data[at + n] && data[at + n] != '\n')
            n++;
        argv[argc] = strndup((const char *)data + at, n);
        at += n + 1;
    }
    if (!options_parse(o, argc, argv, &e)) {
        if (!e.message[0] || strchr(e.message, '\n'))
            abort();
    } else if (o->action == ACTION_RUN &&
               (o->memory < BIT(20) || o->cpus < 1 || o->drive_count > OPTION_DRIVES_MAX)) {
        abort();
    }
    while (argc)
        free(argv[--argc]);
    free(o);
    return 0;
}
