/*
 * devices/msi.h -- a message-signalled interrupt: a memory write to FEEx_xxxxH.
 *
 * SDM 3A, "Message Signalled Interrupts".
 *
 *   address  31..20 0FEEH | 19..12 destination ID | 3 redirection hint | 2 destination mode (1 logical)
 *   data     15 trigger (1 level) | 14 level (1 assert) | 10..8 delivery mode | 7..0 vector
 */
#ifndef DEVICES_MSI_H
#define DEVICES_MSI_H

#include "base/intr.h"
#include "base/log.h"

#define MSI_ADDRESS_BASE 0xfee00000u

/* A write elsewhere is not an interrupt; it is logged and dropped, for no function of ours writes RAM so. */
static inline void msi_deliver(const struct intr_sink *sink, struct log *log, uint64_t address, uint32_t data)
{
    if ((address & ~0xfffffull) != MSI_ADDRESS_BASE) {
        log_unimplemented(log, "msi to address %#llx", (unsigned long long)address);
        return;
    }
    struct intr_msg m = {
        .dest = (uint32_t)(address >> 12) & 0xff,
        .logical = address & 4,
        .mode = (uint8_t)(data >> 8 & 7),
        .vector = (uint8_t)data,
        .level = data >> 15 & 1,
        .assert_ = !(data >> 15 & 1) || (data >> 14 & 1),
    };
    if (sink && sink->deliver)
        sink->deliver(sink->owner, &m);
}

#endif
