/*
 * vmx/vmcs.c -- fields of a VMCS by encoding, and the VMCS region in guest memory.
 *
 * SDM 3C, "Virtual Machine Control Structures"; SDM 3D, appendix "Field Encoding in VMCS".
 * Reads:  vmcs.def.   Writes: struct vmcs, the region at VMCLEAR and eviction only.
 * Not here: which VMCSs are cached (vmx.c), VMREAD and VMWRITE as instructions (instructions.c).
 * Watch:  --                                        Tests: tests/unit/test_vmx_tables.c
 */
#include "cpu/vmx/internal.h"

#define ALWAYS         CONTROL_WORDS, 0
#define IF(word, name) WORD_##word, word##_##name

/* -- Which checks of VM entry a field is an input of --------------------------------------------------- */

/* Inputs of no check, or only of checks that run at each entry (events, RIP, RFLAGS, non-register state). */
#define UNCHECKED_CONTROL(e)                                                                                 \
    ((e) == 0x2010 || ((e) >= 0x4004 && (e) <= 0x4008) || ((e) >= 0x4016 && (e) <= 0x401a) ||                \
     ((e) >= 0x4020 && (e) <= 0x4022) || ((e) >= 0x201c && (e) <= 0x2022) ||                                 \
     ((e) >= 0x6000 && (e) <= 0x600e))
#define UNCHECKED_GUEST(e)                                                                                   \
    (((e) >= 0x681c && (e) <= 0x6822) || ((e) >= 0x4824 && (e) <= 0x4828) || (e) == 0x482e ||                \
     (e) == 0x0810 || (e) == 0x0812 || (e) == 0x2800 || ((e) >= 0x280a && (e) <= 0x2810))
/* Controls that checks of guest state look at. */
#define GUEST_CONTROL(e) ((e) == 0x4002 || (e) == 0x401e || (e) == 0x4012)

/* CR0 is an input of the checks of segments, too; the host's RSP is an input of none. */
#define DIRTY_OF(e, segment)                                                                                 \
    (VMCS_ENCODING_TYPE(e) == VMCS_READ_ONLY ? 0                                                             \
     : VMCS_ENCODING_TYPE(e) == VMCS_HOST    ? ((e) == 0x6c14 ? 0 : DIRTY_HOST)                              \
     : VMCS_ENCODING_TYPE(e) == VMCS_CONTROL ? (GUEST_CONTROL(e)       ? DIRTY_ALL                           \
                                                : UNCHECKED_CONTROL(e) ? 0                                   \
                                                                       : DIRTY_CONTROL)                      \
     : segment                               ? DIRTY_GUEST_SEGMENTS                                          \
     : UNCHECKED_GUEST(e)                    ? 0                                                             \
     : (e) == 0x6800                         ? DIRTY_GUEST                                                   \
                                             : DIRTY_GUEST_REGISTERS)

#define ROW_OF(encoding, segment, text, member, ...)                                                         \
    {encoding,                                                                                               \
     offsetof(struct vmcs, member),                                                                          \
     sizeof(((struct vmcs *)0)->member),                                                                     \
     DIRTY_OF(encoding, segment),                                                                            \
     __VA_ARGS__,                                                                                            \
     text,                                                                                                   \
     #member},
#define ROW(encoding, text, member, exists)         ROW_OF(encoding, false, text, member, exists)
#define SEGMENT_ROW(encoding, text, member, exists) ROW_OF(encoding, true, text, member, exists)

const struct vmcs_field vmcs_fields[] = {
#define SEGMENT16 SEGMENT_ROW
#define SEGMENT32 SEGMENT_ROW
#define SEGMENTN  SEGMENT_ROW
#define FIELD16   ROW
#define FIELD32   ROW
#define FIELD64   ROW
#define FIELDN    ROW
#include "cpu/vmx/vmcs.def"
#undef FIELD16
#undef FIELD32
#undef FIELD64
#undef FIELDN
};
const unsigned vmcs_field_count = ARRAY_LEN(vmcs_fields);

/* The macro that declares a member and the width in the encoding must agree. */
#define WIDTH(encoding, width)                                                                               \
    _Static_assert(VMCS_ENCODING_WIDTH(encoding) == (width) && !VMCS_ENCODING_HIGH(encoding), "field "       \
                                                                                              "width");
#define FIELD16(encoding, text, member, exists) WIDTH(encoding, VMCS_WIDTH_16)
#define FIELD32(encoding, text, member, exists) WIDTH(encoding, VMCS_WIDTH_32)
#define FIELD64(encoding, text, member, exists) WIDTH(encoding, VMCS_WIDTH_64)
#define FIELDN(encoding, text, member, exists)  WIDTH(encoding, VMCS_WIDTH_NATURAL)
#include "cpu/vmx/vmcs.def"
#undef FIELD16
#undef FIELD32
#undef FIELD64
#undef FIELDN

/* Guest segment registers are copied as an array of struct segment. */
#define SAME_PLACE(SEG, reg, member)                                                                         \
    _Static_assert(offsetof(struct vmcs, guest_segments[SEG].member) ==                                      \
                       offsetof(struct vmcs, guest_##reg##_##member),                                        \
                   "guest segment registers lie as in struct segment")
#define SAME_SEGMENT(SEG, reg)                                                                               \
    SAME_PLACE(SEG, reg, base);                                                                              \
    SAME_PLACE(SEG, reg, limit);                                                                             \
    SAME_PLACE(SEG, reg, ar);                                                                                \
    SAME_PLACE(SEG, reg, selector)
SAME_SEGMENT(SEG_ES, es);
SAME_SEGMENT(SEG_CS, cs);
SAME_SEGMENT(SEG_SS, ss);
SAME_SEGMENT(SEG_DS, ds);
SAME_SEGMENT(SEG_FS, fs);
SAME_SEGMENT(SEG_GS, gs);
SAME_SEGMENT(SEG_LDTR, ldtr);
SAME_SEGMENT(SEG_TR, tr);

/* Position of a field in vmcs_fields[], plus 1, by width, type and index (all indexes are below 64). */
enum row_number {
#define NUMBER(encoding, text, member, exists) ROW_##member,
#define FIELD16                                NUMBER
#define FIELD32                                NUMBER
#define FIELD64                                NUMBER
#define FIELDN                                 NUMBER
#include "cpu/vmx/vmcs.def"
#undef FIELD16
#undef FIELD32
#undef FIELD64
#undef FIELDN
};
static const uint8_t row_by_slot[VMCS_SLOT_COUNT] = {
#define PLACE(encoding, text, member, exists) [VMCS_SLOT(encoding)] = ROW_##member + 1,
#define FIELD16                               PLACE
#define FIELD32                               PLACE
#define FIELD64                               PLACE
#define FIELDN                                PLACE
#include "cpu/vmx/vmcs.def"
#undef FIELD16
#undef FIELD32
#undef FIELD64
#undef FIELDN
};
_Static_assert(ARRAY_LEN(vmcs_fields) < 255, "row_by_slot holds bytes");

const struct vmcs_field *vmcs_field(uint32_t encoding)
{
    if ((encoding & ~0x6fffu) || VMCS_ENCODING_INDEX(encoding) >= 64)
        return NULL;
    unsigned n = row_by_slot[VMCS_SLOT(encoding)];
    return n ? &vmcs_fields[n - 1] : NULL;
}

const struct vmcs_field *vmcs_field_supported(const struct vmx_caps *caps, uint64_t encoding)
{
    if (unlikely(encoding >> 15))
        return NULL;
    const struct vmcs_field *f = vmcs_field((uint32_t)encoding);
    if (unlikely(!f))
        return NULL;
    if (VMCS_ENCODING_HIGH(encoding) && VMCS_ENCODING_WIDTH(encoding) != VMCS_WIDTH_64)
        return NULL;
    if (f->word != CONTROL_WORDS && !(caps->allowed1[f->word] & f->control))
        return NULL;
    return f;
}

void vmcs_slots_init(struct vmcs_slot slots[VMCS_SLOT_COUNT], const struct vmx_caps *caps)
{
    memset(slots, 0, VMCS_SLOT_COUNT * sizeof(slots[0]));
    for (unsigned i = 0; i < vmcs_field_count; i++) {
        const struct vmcs_field *f = &vmcs_fields[i];
        if (vmcs_field_supported(caps, f->encoding))
            slots[VMCS_SLOT(f->encoding)] = (struct vmcs_slot){f->offset, f->size, f->dirty};
    }
}

_Static_assert(offsetof(struct vmx, vmcs) == 0, "vmx.h says so");

bool vmx_field_place(const struct cpu *cpu, uint64_t encoding, struct vmx_field_place *place)
{
    const struct vmcs_field *f = vmcs_field_supported(&cpu->vmx->caps, encoding);
    if (!f)
        return false;
    *place = (struct vmx_field_place){.offset = f->offset,
                                      .dirty_offset = offsetof(struct vmcs, dirty),
                                      .size = f->size,
                                      .dirty = f->dirty,
                                      .computed = VMCS_ENCODING_HIGH(encoding)};
    return true;
}

_Static_assert(sizeof(struct vmcs_slot) == 4 && offsetof(struct vmcs_slot, size) == 2 &&
                   offsetof(struct vmcs_slot, dirty) == 3,
               "vmx.h says so");
/* PEXT of the bits that VMCS_SLOT() takes is VMCS_SLOT(): each part fills its place. */
_Static_assert(VMCS_SLOT_BITS == 0x6c7e && VMCS_SLOT(0x6000) == 0x300 && VMCS_SLOT(0x0c00) == 0xc0 &&
                   VMCS_SLOT(0x7e) == 0x3f,
               "vmx.h says so");

struct vmx_field_slots vmx_field_slots(void)
{
    return (struct vmx_field_slots){.slots = (int32_t)offsetof(struct vmx, slots),
                                    .bits = VMCS_SLOT_BITS,
                                    .dirty_offset = offsetof(struct vmcs, dirty)};
}

const struct vmcs_field *vmcs_field_by_member(const char *member, size_t length)
{
    for (unsigned i = 0; i < vmcs_field_count; i++)
        if (strlen(vmcs_fields[i].member) == length && !memcmp(vmcs_fields[i].member, member, length))
            return &vmcs_fields[i];
    return NULL;
}

uint64_t vmcs_get(const struct vmcs *v, const struct vmcs_field *f)
{
    const void *p = (const uint8_t *)v + f->offset;
    switch (f->size) {
    case 2:
        return load_le(p, 2);
    case 4:
        return load_le(p, 4);
    default:
        return load_le(p, 8);
    }
}

void vmcs_set(struct vmcs *v, const struct vmcs_field *f, uint64_t value)
{
    void *p = (uint8_t *)v + f->offset;
    switch (f->size) {
    case 2:
        store_le(p, value, 2);
        break;
    case 4:
        store_le(p, value, 4);
        break;
    default:
        store_le(p, value, 8);
        break;
    }
}

uint64_t vmcs_read(const struct vmcs *v, const struct vmcs_field *f, uint32_t encoding)
{
    uint64_t value = vmcs_get(v, f);
    return VMCS_ENCODING_HIGH(encoding) ? value >> 32 : value;
}

void vmcs_write(struct vmcs *v, const struct vmcs_field *f, uint32_t encoding, uint64_t value)
{
    if (VMCS_ENCODING_HIGH(encoding))
        value = value << 32 | (uint32_t)vmcs_get(v, f);
    v->dirty |= f->dirty;
    vmcs_set(v, f, value);
}

/* -- The region ---------------------------------------------------------------------------------------- */

#define REGION_FIELDS 16
_Static_assert(REGION_FIELDS + 8 * ARRAY_LEN(vmcs_fields) <= PAGE_SIZE, "the fields fit the VMCS region");

void vmcs_load_region(struct vmcs *v, struct phys *p, gpa_t address)
{
    uint8_t page[PAGE_SIZE];
    phys_read(p, address, page, sizeof(page));
    memset(v, 0, sizeof(*v));
    v->address = address;
    v->shadow = load_le(page, 4) >> 31;
    v->launched = load_le(page + 8, 4) == 1;
    v->dirty = DIRTY_ALL;
    if (load_le(page + 12, 4) != vmcs_field_count)
        return; /* never written by VMCLEAR or eviction: software has to initialise each field */
    for (unsigned i = 0; i < vmcs_field_count; i++)
        vmcs_set(v, &vmcs_fields[i], load_le(page + REGION_FIELDS + 8 * i, 8));
}

void vmcs_store_region(const struct vmcs *v, struct phys *p)
{
    uint8_t page[REGION_FIELDS + 8 * ARRAY_LEN(vmcs_fields)];
    store_le(page, v->launched, 4);
    store_le(page + 4, vmcs_field_count, 4);
    for (unsigned i = 0; i < vmcs_field_count; i++)
        store_le(page + 8 + 8 * i, vmcs_get(v, &vmcs_fields[i]), 8);
    phys_write(p, v->address + 8, page, sizeof(page) - 8);
}

/* -- State --------------------------------------------------------------------------------------------- */

static bool vmcs_after_load(void *s, struct error *e)
{
    struct vmcs *v = s;
    if (v->address != ~0ull && (v->address & PAGE_MASK))
        return error_set(e, "vmcs: address %#llx is not that of a page", (unsigned long long)v->address);
    v->dirty = DIRTY_ALL;
    v->checked_mode = 0;
    v->prepared = v->guest_keyed = false;
    v->guest_choice = v->host_choice = (struct mmu_choice){.id = 0};
    return true;
}

static const struct state_field vmcs_state_fields[] = {
#define FIELD_STATE(encoding, text, member, exists) STATE(struct vmcs, member),
#define FIELD16                                     FIELD_STATE
#define FIELD32                                     FIELD_STATE
#define FIELD64                                     FIELD_STATE
#define FIELDN                                      FIELD_STATE
#include "cpu/vmx/vmcs.def"
#undef FIELD16
#undef FIELD32
#undef FIELD64
#undef FIELDN
    STATE(struct vmcs, address),
    STATE(struct vmcs, launched),
    STATE(struct vmcs, shadow),
    STATE_SKIP(struct vmcs, dirty, "after loading everything is checked again"),
    STATE_SKIP(struct vmcs, checked_mode, "after loading everything is checked again"),
    STATE(struct vmcs, used),
    STATE_SKIP(struct vmcs, prepared, "made again when it is needed"),
    STATE_SKIP(struct vmcs, guards, "made again when it is needed"),
    STATE_SKIP(struct vmcs, host_segments, "made again when it is needed"),
    STATE_SKIP(struct vmcs, guest_keyed, "made again when it is needed"),
    STATE_SKIP(struct vmcs, odd_rights, "made again when it is needed"),
    STATE_SKIP(struct vmcs, guest_key, "made again when it is needed"),
    STATE_SKIP(struct vmcs, host_key, "made again when it is needed"),
    STATE_SKIP(struct vmcs, guest_key_flags, "made again when it is needed"),
    STATE_SKIP(struct vmcs, guest_key_xcr0, "made again when it is needed"),
    STATE_SKIP(struct vmcs, host_key_xcr0, "made again when it is needed"),
    STATE_SKIP(struct vmcs, guest_choice, "made again when it is needed"),
    STATE_SKIP(struct vmcs, host_choice, "made again when it is needed"),
};
const struct state_desc vmcs_state = STATE_DESC("vmcs", struct vmcs, 1, vmcs_state_fields, vmcs_after_load);
