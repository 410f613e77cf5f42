/*
 * lib/library.c -- report, printf, exit, and the image's own start.
 */
#include "guest.h"

unsigned report_passed, report_failed, report_skipped;
const char *command_line = "";
extern uint64_t multiboot_info, multiboot_magic;
extern char user_data_end[], user_end[];
void trap_start(void);
void library_start(void);

/* -- Memory -------------------------------------------------------------------------------------------- */
void *memset(void *to, int value, size_t size)
{
    void *d = to;
    asm volatile("rep stosb" : "+D"(d), "+c"(size) : "a"(value) : "memory");
    return to;
}
void *memcpy(void *to, const void *from, size_t size)
{
    void *d = to;
    asm volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(size)::"memory");
    return to;
}
int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < size; i++) {
        if (x[i] != y[i]) {
            return x[i] - y[i];
        }
    }
    return 0;
}
size_t strlen(const char *s)
{
    size_t n = 0;
    while (s[n]) {
        n++;
    }
    return n;
}

/* -- Text ---------------------------------------------------------------------------------------------- */
struct sink {
    char *buffer; /* NULL: the serial port */
    size_t size, used;
};

void print_char(char c)
{
    if (c == '\n') {
        print_char('\r');
    }
    for (int spin = 0; spin < 100000 && !(inb(0x3fd) & 0x20); spin++) {
    }
    outb(0x3f8, (uint8_t)c);
}

static void sink_char(struct sink *s, char c)
{
    if (!s->buffer) {
        print_char(c);
    } else if (s->used + 1 < s->size) {
        s->buffer[s->used] = c;
    }
    s->used++;
}

static void sink_field(struct sink *s, const char *text, size_t length, int width, bool left, char pad)
{
    int fill = width > (int)length ? width - (int)length : 0;
    for (int i = 0; !left && i < fill; i++) {
        sink_char(s, pad);
    }
    for (size_t i = 0; i < length; i++) {
        sink_char(s, text[i]);
    }
    for (int i = 0; left && i < fill; i++) {
        sink_char(s, ' ');
    }
}

/* %[-][0][width][l]{d,u,x,X,p,s,c,%} */
static void format_list(struct sink *s, const char *f, va_list list)
{
    for (; *f; f++) {
        if (*f != '%') {
            sink_char(s, *f);
            continue;
        }
        bool left = false, is_long = false;
        char pad = ' ';
        int width = 0;
        f++;
        for (; *f == '-' || *f == '0'; f++) {
            if (*f == '-') {
                left = true;
            } else {
                pad = '0';
            }
        }
        if (*f == '*') {
            width = va_arg(list, int);
            f++;
        }
        for (; *f >= '0' && *f <= '9'; f++) {
            width = width * 10 + *f - '0';
        }
        for (; *f == 'l' || *f == 'z'; f++) {
            is_long = true;
        }
        char digits[24];
        size_t n = sizeof digits;
        if (*f == 's') {
            const char *text = va_arg(list, const char *);
            text = text ? text : "(null)";
            sink_field(s, text, strlen(text), width, left, ' ');
        } else if (*f == 'c') {
            char c = (char)va_arg(list, int);
            sink_field(s, &c, 1, width, left, ' ');
        } else if (*f == '%') {
            sink_char(s, '%');
        } else {
            unsigned base = *f == 'd' || *f == 'u' ? 10 : 16;
            uint64_t v;
            bool negative = false;
            if (*f == 'p') {
                v = (uint64_t)va_arg(list, void *);
            } else if (*f == 'd') {
                int64_t d = is_long ? va_arg(list, int64_t) : va_arg(list, int);
                negative = d < 0;
                v = negative ? -(uint64_t)d : (uint64_t)d;
            } else {
                v = is_long ? va_arg(list, uint64_t) : va_arg(list, unsigned);
            }
            do {
                unsigned d = (unsigned)(v % base);
                digits[--n] = (char)(d < 10 ? '0' + d : (*f == 'X' ? 'A' : 'a') + d - 10);
                v /= base;
            } while (v);
            if (negative) {
                digits[--n] = '-';
            }
            sink_field(s, digits + n, sizeof digits - n, width, left, pad);
        }
    }
}

void print_list(const char *format, va_list list)
{
    struct sink s = {0};
    format_list(&s, format, list);
}

void print(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    print_list(format, list);
    va_end(list);
}

int format_text(char *buffer, size_t size, const char *format, ...)
{
    struct sink s = {.buffer = buffer, .size = size};
    va_list list;
    va_start(list, format);
    format_list(&s, format, list);
    va_end(list);
    buffer[s.used < size ? s.used : size - 1] = 0;
    return (int)s.used;
}

/* -- Report -------------------------------------------------------------------------------------------- */
bool report(const char *name, const char *rule, bool ok, const char *format, ...)
{
    print("%s %s -- %s", ok ? "PASS" : "FAIL", name, rule);
    if (!ok) {
        va_list list;
        va_start(list, format);
        print(": ");
        print_list(format, list);
        va_end(list);
    }
    print("\n");
    *(ok ? &report_passed : &report_failed) += 1;
    return ok;
}

void report_skip(const char *name, const char *rule, const char *why)
{
    print("SKIP %s -- %s: %s\n", name, rule, why);
    report_skipped++;
}

bool enabled(const char *name, const char *rule)
{
    const char *at = command_line;
    size_t n = strlen(name);
    for (; *at; at++) {
        if (!memcmp(at, "skip=", 5)) {
            break;
        }
    }
    if (*at) {
        for (at += 5; *at && *at != ' ';) {
            if (!memcmp(at, name, n) && (at[n] == ',' || at[n] == ' ' || !at[n])) {
                report_skip(name, rule, "named in skip=");
                return false;
            }
            while (*at && *at != ' ' && *at++ != ',') {
            }
        }
    }
    return true;
}

void guest_exit(unsigned value)
{
    static const char shutdown[] = "Shutdown";
    for (int spin = 0; spin < 100000 && !(inb(0x3fd) & 0x40); spin++) {
    }
    outb(0xf4, (uint8_t)value);
    for (const char *c = shutdown; *c; c++) {
        outb(0x8900, (uint8_t)*c);
    }
    for (;;) {
        asm volatile("cli; hlt");
    }
}

void guest_finish(void)
{
    print("%u passed, %u failed, %u skipped\n", report_passed, report_failed, report_skipped);
    guest_exit(report_failed == 0 && report_passed ? 0 : 1);
}

bool check_equal(const char *name, const char *rule, uint64_t got, uint64_t want)
{
    return report(name, rule, got == want, "got %lx, want %lx", got, want);
}

/* -- Descriptors --------------------------------------------------------------------------------------- */
struct tss64 tss;
struct gate idt[256] __attribute__((aligned(16)));
static uint8_t trap_stacks[4][16384] __attribute__((aligned(16)));
static uint8_t ring0_stack[16384] __attribute__((aligned(16)));
extern char trap_stubs[];

uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access_flags)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(access_flags & 0xff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(access_flags >> 12 & 15) << 52 |
           (uint64_t)(base >> 24) << 56;
}

void gdt_set(unsigned selector, uint64_t value)
{
    *(volatile uint64_t *)&gdt[selector / 8] = value;
    asm volatile("" ::: "memory");
}

void idt_set(unsigned vector, uint64_t offset, unsigned selector, unsigned type, unsigned ist)
{
    idt[vector] = (struct gate){.offset0 = (uint16_t)offset,
                                .offset1 = (uint16_t)(offset >> 16),
                                .offset2 = (uint32_t)(offset >> 32),
                                .selector = (uint16_t)selector,
                                .ist = (uint8_t)ist,
                                .type = (uint8_t)type};
    asm volatile("" ::: "memory");
}

void idt_reset(unsigned vector)
{
    unsigned ist = vector == EXC_DF          ? 2
                   : vector == VECTOR_RETURN ? 3
                   : vector == EXC_NMI       ? 4
                   : vector < 32             ? 1
                                             : 0;
    unsigned type = vector == VECTOR_RETURN || vector == EXC_BP || vector == EXC_OF ? 0xee : 0x8e;
    idt_set(vector, (uint64_t)trap_stubs + 16 * vector, SEL_CODE64, type, ist);
}

static void descriptors_start(void)
{
    uint64_t base = (uint64_t)&tss;
    tss.iomap = sizeof tss;
    for (int i = 0; i < 4; i++) {
        tss.ist[i] = (uint64_t)trap_stacks[i] + sizeof trap_stacks[i];
    }
    tss.rsp[0] = (uint64_t)ring0_stack + sizeof ring0_stack;
    gdt_set(SEL_TSS, descriptor((uint32_t)base, sizeof tss - 1, 0x89));
    gdt_set(SEL_TSS + 8, base >> 32);
    for (unsigned v = 0; v < 256; v++) {
        idt_reset(v);
    }
    struct table_register r = {sizeof idt - 1, (uint64_t)idt}, g = {SEL_LIMIT - 1, (uint64_t)gdt};
    asm volatile("lidt %0; lgdt %1; ltr %w2" ::"m"(r), "m"(g), "r"(SEL_TSS));
}

void library_start(void)
{
    outb(0x21, 0xff); /* 8259s masked: firmware may have left IRQ 0 on at vector 8 */
    outb(0xa1, 0xff);
    outb(0x3f9, 0);    /* no interrupts */
    outb(0x3fb, 0x83); /* 115200 baud, 8N1 */
    outb(0x3f8, 1);
    outb(0x3f9, 0);
    outb(0x3fb, 0x03);
    outb(0x3fa, 0xc7);
    descriptors_start();
    trap_start();
    const uint32_t *info = (const uint32_t *)(multiboot_info & 0xffffffff);
    if (multiboot_magic == 0x2badb002 && (info[0] & 4) && info[4]) {
        command_line = (const char *)(uint64_t)info[4];
    }
}

/* -- Pages: taken from 8 MB upwards -------------------------------------------------------------------- */
static uint64_t page_next = 0x800000;

void *page_alloc_aligned(size_t size)
{
    page_next = (page_next + size - 1) & ~(size - 1);
    void *page = (void *)page_next;
    page_next += size;
    memset(page, 0, size);
    return page;
}

void *page_alloc(void)
{
    return page_alloc_aligned(PAGE_SIZE);
}

uint64_t *page_entry(uint64_t *table, uint64_t address, int level)
{
    for (int at = 4;; at--) {
        uint64_t *entry = &table[address >> (12 + 9 * (at - 1)) & 511];
        if (at == level) {
            return entry;
        }
        if (!(*entry & PTE_P)) {
            *entry = (uint64_t)page_alloc() | PTE_P | PTE_W | PTE_U;
        }
        table = (uint64_t *)(*entry & PTE_ADDRESS);
    }
}

void page_map(uint64_t *pml4, uint64_t address, uint64_t entry, int level)
{
    *(volatile uint64_t *)page_entry(pml4, address, level) = entry;
    invlpg(address);
}

unsigned physical_bits(void)
{
    return cpuid(0x80000008, 0).eax & 0xff;
}
