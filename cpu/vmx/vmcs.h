/*
 * vmx/vmcs.h -- a VMCS as this processor caches it, and its fields by encoding.
 *
 * A VMCS field encoding (SDM 3D, appendix "Field Encoding in VMCS"):
 *   0 access type (1: upper half of a 64-bit field)   9:1 index   11:10 type   14:13 width   others reserved
 *   type: 0 control, 1 read-only data, 2 guest, 3 host     width: 0 16-bit, 1 64-bit, 2 32-bit, 3 natural
 */
#ifndef CPU_VMX_VMCS_H
#define CPU_VMX_VMCS_H

#include "cpu/cpu.h"
#include "cpu/vmx/controls.h"

#define VMCS_ENCODING_HIGH(e)  ((e)&1)
#define VMCS_ENCODING_INDEX(e) ((unsigned)(e) >> 1 & 0x1ff)
#define VMCS_ENCODING_TYPE(e)  ((unsigned)(e) >> 10 & 3)
#define VMCS_ENCODING_WIDTH(e) ((unsigned)(e) >> 13 & 3)

enum vmcs_type { VMCS_CONTROL, VMCS_READ_ONLY, VMCS_GUEST, VMCS_HOST };
enum vmcs_width { VMCS_WIDTH_16, VMCS_WIDTH_64, VMCS_WIDTH_32, VMCS_WIDTH_NATURAL };

/*
 * Groups of fields that may have changed since the checks of VM entry passed, by VMWRITE or by the saving of
 * a VM exit. RIP, RSP, RFLAGS, the non-register state and the event to inject are in none: they are always
 * checked.
 */
enum {
    DIRTY_CONTROL = 1,
    DIRTY_HOST = 2,
    DIRTY_GUEST_REGISTERS = 4, /* control and debug registers, MSRs, GDTR, IDTR */
    DIRTY_GUEST_SEGMENTS = 8,
    DIRTY_GUEST = DIRTY_GUEST_REGISTERS | DIRTY_GUEST_SEGMENTS,
    DIRTY_ALL = 15,
};

struct vmcs {
    /* Guest segment registers as in struct cpu, so that entry and exit copy them in one piece. */
    union {
        struct segment guest_segments[SEG_COUNT];
        struct {
#define SEGMENT_MEMBERS(reg)                                                                                 \
    struct {                                                                                                 \
        uint64_t guest_##reg##_base;                                                                         \
        uint32_t guest_##reg##_limit, guest_##reg##_ar;                                                      \
        uint16_t guest_##reg##_selector;                                                                     \
    };
            SEGMENT_MEMBERS(es)
            SEGMENT_MEMBERS(cs)
            SEGMENT_MEMBERS(ss)
            SEGMENT_MEMBERS(ds)
            SEGMENT_MEMBERS(fs)
            SEGMENT_MEMBERS(gs)
            SEGMENT_MEMBERS(ldtr)
            SEGMENT_MEMBERS(tr)
#undef SEGMENT_MEMBERS
        };
    };
    gpa_t address; /* of the VMCS region; ~0: slot free */
#define SEGMENT16(encoding, text, member, exists)
#define SEGMENT32(encoding, text, member, exists)
#define SEGMENTN(encoding, text, member, exists)
#define FIELD16(encoding, text, member, exists) uint16_t member;
#define FIELD32(encoding, text, member, exists) uint32_t member;
#define FIELD64(encoding, text, member, exists) uint64_t member;
#define FIELDN(encoding, text, member, exists)  uint64_t member;
#include "cpu/vmx/vmcs.def"
#undef FIELD16
#undef FIELD32
#undef FIELD64
#undef FIELDN
    bool launched; /* launch state */
    bool shadow;   /* the region's shadow-VMCS indicator */
    uint64_t used; /* stamp for eviction: the smallest goes first */

    /* Derived, not state. */
    uint8_t dirty;        /* DIRTY_* */
    uint8_t checked_mode; /* processor mode for which controls and host state were checked */
    bool prepared;        /* what follows agrees with controls and host state (vmx_prepare()) */
    uint64_t guards;      /* cpu->vmx_guards in non-root operation */
    struct segment host_segments[SEG_COUNT];
    /* Block keys of guest and host as cpu_mode_changed() made them, and what they depend on beside the groups
     * of fields above. */
    bool guest_keyed;
    bool odd_rights; /* guest access rights with bits that a segment register has not */
    uint32_t guest_key, host_key;
    uint64_t guest_key_flags, guest_key_xcr0;    /* RFLAGS.AC and VM; XCR0 */
    uint64_t host_key_xcr0;                      /* ~0: no key */
    struct mmu_choice guest_choice, host_choice; /* their TLB contexts, for cpu_mode_again() */
};

struct vmcs_field {
    uint16_t encoding;
    uint16_t offset; /* in struct vmcs */
    uint8_t size;    /* bytes: 2, 4, 8 */
    uint8_t dirty;   /* DIRTY_* groups that a write to it touches */
    uint8_t word;    /* enum control_word of the control that makes it exist; CONTROL_WORDS: always */
    uint32_t control;
    const char *name, *member;
};
extern const struct vmcs_field vmcs_fields[];
extern const unsigned vmcs_field_count;

/* By encoding with the access-type bit ignored; NULL when the field is not known. O(1). */
const struct vmcs_field *vmcs_field(uint32_t encoding);
/* The field as VMREAD and VMWRITE see it: NULL for an encoding that this processor does not have. */
const struct vmcs_field *vmcs_field_supported(const struct vmx_caps *caps, uint64_t encoding);
const struct vmcs_field *vmcs_field_by_member(const char *member, size_t length);

uint64_t vmcs_get(const struct vmcs *v, const struct vmcs_field *f);
void vmcs_set(struct vmcs *v, const struct vmcs_field *f, uint64_t value);
/*
 * VMREAD and VMWRITE at once: the fields that this processor has, by VMCS_SLOT(encoding). Encodings with
 * other bits than VMCS_SLOT_BITS (the upper half of a 64-bit field is one) go by vmcs_field_supported().
 */
#define VMCS_SLOT_BITS  0x6c7eu
#define VMCS_SLOT(e)    (VMCS_ENCODING_WIDTH(e) << 8 | VMCS_ENCODING_TYPE(e) << 6 | VMCS_ENCODING_INDEX(e))
#define VMCS_SLOT_COUNT 1024
struct vmcs_slot {
    uint16_t offset; /* in struct vmcs */
    uint8_t size;    /* bytes: 2, 4, 8; 0: no such field */
    uint8_t dirty;
};
void vmcs_slots_init(struct vmcs_slot slots[VMCS_SLOT_COUNT], const struct vmx_caps *caps);

/* With the access type of `encoding`: the upper half of a 64-bit field is a 32-bit access. */
uint64_t vmcs_read(const struct vmcs *v, const struct vmcs_field *f, uint32_t encoding);
void vmcs_write(struct vmcs *v, const struct vmcs_field *f, uint32_t encoding, uint64_t value);

/*
 * The VMCS region in guest memory (our own layout below the header, SDM 3C "Format of the VMCS Region"):
 *   OFFSET  SIZE  DESCRIPTION
 *        0     4  revision identifier; bit 31: shadow-VMCS indicator
 *        4     4  VMX-abort indicator
 *        8     4  launch state: 0 clear, 1 launched
 *       12     4  number of fields that follow, 0 for a region never written
 *       16   8*n  fields in the order of vmcs.def, zero-extended
 */
#define VMCS_REGION_ABORT 4
void vmcs_load_region(struct vmcs *v, struct phys *p, gpa_t address);
void vmcs_store_region(const struct vmcs *v, struct phys *p);

extern const struct state_desc vmcs_state;

#endif
