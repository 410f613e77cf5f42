/*
 * teach/teach.c -- a hypervisor to read: it starts a guest, and shows every VM exit in a table.
 *
 * SDM 3C chapters 23 to 27. Three levels take part: the machine that runs this image (L0: silicon, or
 * droste), the hypervisor in this file (L1), and the guest program below (L2). The guest does one thing of
 * each kind that makes a processor leave VMX non-root operation; the hypervisor decodes the exit, does what
 * the guest wanted, and resumes it.
 *
 * Read in this order: the guest (guest_program), exits (the handlers, one for each exit reason), guest_main.
 */
#include "../lib/vmx.h"

#define HIDDEN_PAGE 0x50000000ul /* guest-physical: not in the EPT until the guest touches it */
#define TIMER_TICKS 20000

/* -- The guest (L2) ------------------------------------------------------------------------------------ */
extern char guest_program[], guest_after_loop[];
asm(".pushsection .user,\"awx\",@progbits\n"
    "guest_program:\n"
    "  mov $0x40000000, %eax\n"
    "  cpuid\n" /* who is my hypervisor? */
    "  mov $0x1b, %ecx\n"
    "  rdmsr\n" /* IA32_APIC_BASE */
    "  mov $0x174, %ecx\n"
    "  mov $0x10, %eax\n"
    "  xor %edx, %edx\n"
    "  wrmsr\n" /* IA32_SYSENTER_CS */
    "  mov $'D', %al\n"
    "  out %al, $0xe9\n" /* a debug port */
    "  mov $0x71, %edx\n"
    "  in %dx, %al\n" /* CMOS data */
    "  mov %cr3, %rax\n"
    "  mov %rax, %cr3\n"
    "  mov %cr4, %rax\n"
    "  or $4, %rax\n"
    "  mov %rax, %cr4\n" /* CR4.TSD = 1: a bit that the hypervisor owns */
    "  mov $0x50000040, %ebx\n"
    "  mov (%rbx), %rax\n"  /* a page that is not there */
    "  mov %rax, 8(%rbx)\n" /* ... and then is read-only */
    "  rdtsc\n"
    "  ud2\n"
    "  invlpg (%rbx)\n"
    "  mov %db7, %rax\n"
    "  hlt\n"
    "  mov $1, %eax\n"
    "  mov $42, %ebx\n"
    "  vmcall\n"   /* hypercall 1: please step me */
    "  inc %ebx\n" /* a monitor trap flag exit follows this */
    "1: pause\n"
    "  jmp 1b\n" /* for ever: only the timer helps */
    "guest_after_loop:\n"
    "  xor %eax, %eax\n"
    "  vmcall\n" /* hypercall 0: goodbye */
    ".popsection");

/* -- The table ----------------------------------------------------------------------------------------- */
enum { COLUMNS = 5 };
static const struct {
    const char *title;
    int width;
} column[COLUMNS] = {{"#", 2},
                     {"Exit reason", 17},
                     {"L2 RIP", 8},
                     {"What the exit says", 29},
                     {"What the hypervisor does", 28}};

static void rule(char c)
{
    for (int i = 0; i < COLUMNS; i++) {
        print("%s", i ? "+" : "");
        for (int k = 0; k < column[i].width + 2; k++) {
            print_char(c);
        }
    }
    print("\n");
}

/* How much of `text` fits in `width`, broken at a blank. */
static int fits(const char *text, int width)
{
    int length = (int)strlen(text), at = width;
    if (length <= width) {
        return length;
    }
    while (at > 0 && text[at] != ' ') {
        at--;
    }
    return at ? at : width;
}

static void row(const char *cells[COLUMNS])
{
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < COLUMNS; i++) {
            int n = fits(cells[i], column[i].width);
            print("%s ", i ? "|" : "");
            for (int k = 0; k <= column[i].width; k++) {
                if (k < n || i < COLUMNS - 1) { /* no blanks at the end of a line */
                    print_char(k < n ? cells[i][k] : ' ');
                }
            }
            cells[i] += n;
            while (*cells[i] == ' ') {
                cells[i]++;
            }
            more = more || *cells[i];
        }
        print("\n");
    }
}

static char says[400], does[400];
#define SAYS(...) format_text(says, sizeof says, __VA_ARGS__)
#define DOES(...) format_text(does, sizeof does, __VA_ARGS__)

/* -- The hypervisor's view of its guest ---------------------------------------------------------------- */
static uint64_t guest_cr4, guest_sysenter_cs, eptp;
static bool finished;

static uint64_t *guest_register(unsigned number)
{
    static uint64_t rsp;
    uint64_t *r[16] = {&vmx_guest.rax, &vmx_guest.rcx, &vmx_guest.rdx, &vmx_guest.rbx,
                       &rsp,           &vmx_guest.rbp, &vmx_guest.rsi, &vmx_guest.rdi,
                       &vmx_guest.r8,  &vmx_guest.r9,  &vmx_guest.r10, &vmx_guest.r11,
                       &vmx_guest.r12, &vmx_guest.r13, &vmx_guest.r14, &vmx_guest.r15};
    return r[number & 15];
}

static const char *register_name(unsigned number)
{
    static const char *const names[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                        "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};
    return names[number & 15];
}

/* -- Exits: one function for each reason --------------------------------------------------------------- */
static void exit_cpuid(const struct vmx_exit *e)
{
    uint32_t leaf = (uint32_t)vmx_guest.rax;
    SAYS("CPUID always exits; EAX asks for leaf %XH. No qualification.", leaf);
    vmx_guest.rax = 0x40000000;
    vmx_guest.rbx = 0x63616554; /* "TeachingHV  " */
    vmx_guest.rcx = 0x676e6968;
    vmx_guest.rdx = 0x20205648;
    DOES("answers with its name in EBX, ECX, EDX: \"TeachingHV\"; RIP + %u", e->length);
    vmx_skip(e);
}

static void exit_rdmsr(const struct vmx_exit *e)
{
    uint32_t index = (uint32_t)vmx_guest.rcx;
    uint64_t value = 0xfee00900;
    SAYS("ECX = %XH (IA32_APIC_BASE); its bit in the MSR bitmap is 1", index);
    vmx_guest.rax = (uint32_t)value;
    vmx_guest.rdx = value >> 32;
    DOES("puts %lXH into EDX:EAX: the guest sees an APIC of its own; RIP + %u", value, e->length);
    vmx_skip(e);
}

static void exit_wrmsr(const struct vmx_exit *e)
{
    guest_sysenter_cs = vmx_guest.rdx << 32 | (uint32_t)vmx_guest.rax;
    SAYS("ECX = %lXH (IA32_SYSENTER_CS), EDX:EAX = %lXH", vmx_guest.rcx & 0xffffffff, guest_sysenter_cs);
    vmcs_set(VMCS_GUEST_SYSENTER_CS, guest_sysenter_cs);
    DOES("writes the guest-state field instead of the real MSR; RIP + %u", e->length);
    vmx_skip(e);
}

static void exit_io(const struct vmx_exit *e)
{
    bool in = e->qualification & 8;
    unsigned size = (unsigned)(e->qualification & 7) + 1, port = (unsigned)(e->qualification >> 16) & 0xffff;
    SAYS("%s, port %XH, %u byte%s, port in %s%s%s", in ? "IN" : "OUT", port, size, size > 1 ? "s" : "",
         e->qualification & 1 << 6 ? "the instruction" : "DX", e->qualification & 16 ? ", string" : "",
         e->qualification & 32 ? ", REP" : "");
    if (in) {
        vmx_guest.rax = (vmx_guest.rax & ~0xfful) | 0x2a;
        DOES("plays the device: AL = 2AH; RIP + %u", e->length);
    } else {
        DOES("takes the byte %lXH ('%c') from AL; no real port is touched; RIP + %u", vmx_guest.rax & 0xff,
             (char)vmx_guest.rax, e->length);
    }
    vmx_skip(e);
}

static void exit_cr_access(const struct vmx_exit *e)
{
    static const char *const kinds[] = {"MOV to", "MOV from", "CLTS", "LMSW"};
    unsigned cr = e->qualification & 15, kind = e->qualification >> 4 & 3,
             number = e->qualification >> 8 & 15;
    uint64_t *r = guest_register(number);
    SAYS("%s CR%u, register %s%s", kinds[kind], cr, register_name(number),
         cr == 4 ? ": it would change a bit that the guest/host mask owns" : "");
    if (cr == 3 && kind == 1) {
        *r = vmcs(VMCS_GUEST_CR3);
        DOES("hands out the guest's CR3: %lXH; RIP + %u", *r, e->length);
    } else if (cr == 3) {
        vmcs_set(VMCS_GUEST_CR3, *r);
        DOES("loads the guest's CR3 field; EPT still stands below it; RIP + %u", e->length);
    } else {
        guest_cr4 = *r;
        vmcs_set(VMCS_CR4_SHADOW, guest_cr4);
        DOES("stores %lXH in the read shadow: the guest reads TSD = 1, the processor runs with TSD = 0; RIP "
             "+ %u",
             guest_cr4, e->length);
    }
    vmx_skip(e);
}

static void exit_ept_violation(const struct vmx_exit *e)
{
    uint64_t q = e->qualification, *entry = ept_entry(eptp, e->physical, 1);
    SAYS("%s of guest-physical %lXH (linear %lXH); the EPT allows: %s%s%s%s",
         q & 1   ? "read"
         : q & 2 ? "write"
                 : "fetch",
         e->physical, e->linear, q & 8 ? "R" : "", q & 16 ? "W" : "", q & 32 ? "X" : "",
         q & 0x38 ? "" : "nothing");
    if (q & 0x38) {
        *entry |= 2;
        DOES("adds the W right to the EPT entry; RIP stays, the store is tried again");
    } else {
        uint64_t *page = page_alloc();
        page[8] = 0x6574736f7264; /* at offset 40H, what the guest reads */
        *entry = (uint64_t)page | 6 << 3 | 1;
        DOES("gives it page %lXH, read-only; RIP stays, the load is tried again", (uint64_t)page);
    }
    invept(2, 0);
}

static void exit_rdtsc(const struct vmx_exit *e)
{
    SAYS("\"RDTSC exiting\" is 1. No qualification.");
    vmx_guest.rax = 1000, vmx_guest.rdx = 0;
    DOES("shows the time that it wants: EDX:EAX = 1000; RIP + %u", e->length);
    vmx_skip(e);
}

static void exit_exception(const struct vmx_exit *e)
{
    static const char *const types[] = {"external interrupt", "?", "NMI",
                                        "hardware exception", "?", "privileged software exception",
                                        "software exception", "?"};
    unsigned vector = e->interruption & 0xff;
    SAYS("vector %u (%s), %s, %s error code; its bit in the exception bitmap is 1", vector, trap_name(vector),
         types[e->interruption >> 8 & 7], e->interruption & 1 << 11 ? "with" : "no");
    vmcs_set(VMCS_GUEST_RIP, e->rip + 2);
    DOES("steps over the 2 bytes of UD2; it could also inject %s into the guest", trap_name(vector));
}

static void exit_invlpg(const struct vmx_exit *e)
{
    SAYS("linear address %lXH", e->qualification);
    DOES("has nothing to drop: there is no shadow page table; RIP + %u", e->length);
    vmx_skip(e);
}

static void exit_mov_dr(const struct vmx_exit *e)
{
    unsigned number = e->qualification >> 8 & 15;
    SAYS("MOV %s DR%lu, register %s", e->qualification & 16 ? "from" : "to", e->qualification & 7,
         register_name(number));
    *guest_register(number) = 0x400;
    DOES("gives %s the value 400H and keeps the real DR7; RIP + %u", register_name(number), e->length);
    vmx_skip(e);
}

static void exit_hlt(const struct vmx_exit *e)
{
    SAYS("the guest has nothing to do. No qualification.");
    DOES("could run another guest now; with only this one it goes on; RIP + %u", e->length);
    vmx_skip(e);
}

static void timer_start(void)
{
    if (vmx_can(IA32_VMX_PINBASED_CTLS, PIN_PREEMPTION_TIMER)) {
        vmx_control_set(VMCS_PIN_CONTROLS, PIN_PREEMPTION_TIMER);
        vmcs_set(VMCS_PREEMPTION_TIMER, TIMER_TICKS);
    } else {
        vmcs_set(VMCS_GUEST_RIP, (uint64_t)guest_after_loop); /* else the guest spins for ever */
    }
}

static void exit_vmcall(const struct vmx_exit *e)
{
    uint64_t call = vmx_guest.rax;
    if (call == 0) {
        SAYS("hypercall %lu (RAX): goodbye", call);
        DOES("ends the guest");
        finished = true;
        return;
    }
    SAYS("hypercall %lu (RAX), argument %lu (RBX)", call, vmx_guest.rbx);
    vmx_skip(e);
    timer_start(); /* whatever the guest does now, the hypervisor gets the processor back */
    if (vmx_can(IA32_VMX_PROCBASED_CTLS, PROC_MTF)) {
        vmx_control_set(VMCS_PROC_CONTROLS, PROC_MTF);
        DOES("sets the preemption timer to %u ticks, and the monitor trap flag: one instruction, then an "
             "exit; RIP + %u",
             TIMER_TICKS, e->length);
    } else {
        DOES("sets the preemption timer to %u ticks; RIP + %u", TIMER_TICKS, e->length);
    }
}

static void exit_mtf(const struct vmx_exit *e)
{
    (void)e;
    SAYS("one instruction was run (RBX is now %lu). No qualification.", vmx_guest.rbx);
    vmx_control_clear(VMCS_PROC_CONTROLS, PROC_MTF);
    DOES("clears the flag; the guest runs on, into an endless loop");
}

static void exit_preemption_timer(const struct vmx_exit *e)
{
    (void)e;
    SAYS("the timer counted down to 0 while the guest span in a loop. No qualification.");
    vmx_control_clear(VMCS_PIN_CONTROLS, PIN_PREEMPTION_TIMER);
    vmx_control_clear(VMCS_PROC_CONTROLS, PROC_MTF);
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)guest_after_loop);
    DOES("takes the processor back, and sets RIP behind the loop");
}

static const struct {
    unsigned reason;
    void (*handle)(const struct vmx_exit *e);
} handlers[] = {
    {EXIT_REASON_CPUID, exit_cpuid},
    {EXIT_REASON_RDMSR, exit_rdmsr},
    {EXIT_REASON_WRMSR, exit_wrmsr},
    {EXIT_REASON_IO, exit_io},
    {EXIT_REASON_CR_ACCESS, exit_cr_access},
    {EXIT_REASON_EPT_VIOLATION, exit_ept_violation},
    {EXIT_REASON_RDTSC, exit_rdtsc},
    {EXIT_REASON_EXCEPTION, exit_exception},
    {EXIT_REASON_INVLPG, exit_invlpg},
    {EXIT_REASON_MOV_DR, exit_mov_dr},
    {EXIT_REASON_HLT, exit_hlt},
    {EXIT_REASON_VMCALL, exit_vmcall},
    {EXIT_REASON_MTF, exit_mtf},
    {EXIT_REASON_PREEMPTION_TIMER, exit_preemption_timer},
};

/* -- Setting up ---------------------------------------------------------------------------------------- */
static bool guest_setup(void)
{
    uint8_t *msr_bitmap, *io_a = page_alloc(), *io_b = page_alloc();
    vmx_guest_reset();
    msr_bitmap = (uint8_t *)vmcs(VMCS_MSR_BITMAP);
    msr_bitmap[0x1b / 8] |= 1 << (0x1b % 8);          /* reads of MSRs 0 to 1FFFH */
    msr_bitmap[2048 + 0x174 / 8] |= 1 << (0x174 % 8); /* writes */
    io_a[0xe9 / 8] |= 1 << (0xe9 % 8);
    io_a[0x71 / 8] |= 1 << (0x71 % 8);
    vmcs_set(VMCS_IO_BITMAP_A, (uint64_t)io_a);
    vmcs_set(VMCS_IO_BITMAP_B, (uint64_t)io_b);
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_HLT_EXITING | PROC_IO_BITMAPS | PROC_RDTSC_EXITING |
                                            PROC_MOV_DR_EXITING | PROC_INVLPG_EXITING |
                                            PROC_CR3_LOAD_EXITING | PROC_CR3_STORE_EXITING);
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_UD);
    vmcs_set(VMCS_CR4_MASK, CR4_TSD | CR4_VMXE);
    vmcs_set(VMCS_CR4_SHADOW, read_cr4() & ~CR4_VMXE);
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)guest_program);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_EPT)) {
        print("This processor has no EPT, and this hypervisor needs it.\n");
        return false;
    }
    eptp = ept_identity(4);
    *ept_entry(eptp, HIDDEN_PAGE, 1) = 0; /* one page is missing */
    vmcs_set(VMCS_EPT_POINTER, eptp);
    vmx_secondary(PROC2_ENABLE_EPT);
    return true;
}

void guest_main(void)
{
    static unsigned count[65];
    unsigned exits = 0, kinds = 0;
    print(
        "\nA hypervisor and its guest, exit by exit\n\n"
        "  L0  the machine: it emulates a processor with VT-x\n"
        "  L1  this hypervisor: it has turned VMX on (VMXON), filled a VMCS, and enters its guest\n"
        "  L2  the guest: a few instructions of each kind; those that L1 wants to see end in a VM exit\n\n");
    if (!vmx_start()) {
        print("There is no VT-x here: CPUID.1:ECX.VMX[bit 5] is 0, or the firmware locked it off.\n");
        guest_exit(1);
    }
    uint64_t basic = rdmsr(IA32_VMX_BASIC);
    print("VMXON done. VMCS revision %lXH, region of %lu bytes. The guest starts at %lXH with its own "
          "stack.\n\n",
          basic & 0x7fffffff, basic >> 32 & 0x1fff, (uint64_t)guest_program);
    if (!guest_setup()) {
        guest_exit(1);
    }
    const char *titles[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) {
        titles[i] = column[i].title;
    }
    row(titles);
    rule('=');
    while (!finished && exits < 64) {
        struct vmx_exit e = vmx_enter();
        char number[8], reason[48], rip[24];
        if (e.result != VMX_OK) {
            print("VM entry failed: %s, VM-instruction error %u\n",
                  e.result == VMX_FAIL_VALID ? "VMfailValid" : "VMfailInvalid", e.error);
            guest_exit(1);
        }
        unsigned basic_reason = e.reason & 0xffff;
        format_text(number, sizeof number, "%2u", ++exits);
        format_text(reason, sizeof reason, "%u %s", basic_reason, vmx_reason_name(basic_reason));
        format_text(rip, sizeof rip, "%08lX", e.rip);
        bool known = false;
        if (!(e.reason & EXIT_REASON_ENTRY_FAILURE)) {
            for (unsigned i = 0; i < sizeof handlers / sizeof handlers[0]; i++) {
                if (handlers[i].reason == basic_reason) {
                    handlers[i].handle(&e);
                    known = true;
                }
            }
        }
        if (!known) {
            SAYS("reason %XH, qualification %lXH", e.reason, e.qualification);
            DOES("does not know this exit, and gives up");
        }
        const char *cells[COLUMNS] = {number, reason, rip, says, does};
        if (exits > 1) {
            rule('-');
        }
        row(cells);
        kinds += basic_reason < 65 && !count[basic_reason]++;
        if (!known) {
            guest_exit(1);
        }
    }
    rule('=');
    bool ok = finished && vmx_guest.rbx == 43 && kinds >= 8;
    print("\n%u exits of %u kinds. The guest is %s, and the hypervisor leaves VMX operation (VMXOFF).\n\n",
          exits, kinds, finished ? "done" : "not done after 64 exits");
    asm volatile("vmxoff");
    report("teach", "SDM 3C chapters 23 to 27", ok, "%u exits of %u kinds, RBX %lu", exits, kinds,
           vmx_guest.rbx);
    guest_finish();
}
