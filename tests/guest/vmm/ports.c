/*
 * vmm/ports.c -- the guest's I/O ports, apart from the serial port (uart.c)
 * and KVM's own (8259, 8254, 61H).
 *
 *   60H, 64H    i8042: only its reset command; there is no keyboard
 *   70H, 71H    RTC: the time of day and the CMOS bytes
 *   F4H         ends the VM with the byte written as kvmm's exit status
 *   600H..605H  ACPI PM1: power-off
 *   CF8H..CFFH  PCI: a host bridge and nothing behind it; CF9H resets
 *
 * Other ports read as all ones.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "kvmm.h"

#define I8042_COMMAND_RESET 0xfe
#define PM1_CONTROL_SCI_EN  (1u << 0)
#define PM1_CONTROL_SLP_EN  (1u << 13)
#define RESET_CPU           (1u << 2) /* of port CF9H */

enum {
    RTC_SECONDS = 0x00,
    RTC_MINUTES = 0x02,
    RTC_HOURS = 0x04,
    RTC_WEEKDAY = 0x06,
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_A = 0x0a,
    RTC_B = 0x0b,
    RTC_C = 0x0c,
    RTC_D = 0x0d,
    RTC_CENTURY = 0x32,
};

void ports_init(struct vm *vm)
{
    pthread_mutex_init(&vm->port_lock, NULL);
    vm->ports.rtc_ram[RTC_A] = 0x26; /* 32768 Hz, 1024 Hz */
    vm->ports.rtc_ram[RTC_B] = 0x02; /* BCD, 24 hours */
    vm->ports.rtc_ram[RTC_D] = 0x80; /* battery good */
}

static uint8_t to_bcd(int value)
{
    return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static uint8_t rtc_read(const struct port_state *ports)
{
    time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    switch (ports->rtc_index) {
    case RTC_SECONDS:
        return to_bcd(tm.tm_sec);
    case RTC_MINUTES:
        return to_bcd(tm.tm_min);
    case RTC_HOURS:
        return to_bcd(tm.tm_hour);
    case RTC_WEEKDAY:
        return to_bcd(tm.tm_wday + 1);
    case RTC_DAY:
        return to_bcd(tm.tm_mday);
    case RTC_MONTH:
        return to_bcd(tm.tm_mon + 1);
    case RTC_YEAR:
        return to_bcd(tm.tm_year % 100);
    case RTC_CENTURY:
        return to_bcd((tm.tm_year + 1900) / 100);
    case RTC_C:
        return 0; /* no interrupt pending */
    default:
        return ports->rtc_ram[ports->rtc_index];
    }
}

static void rtc_write(struct port_state *ports, uint8_t value)
{
    /* The clock itself cannot be set, and update-in-progress never shows. */
    if (ports->rtc_index == RTC_A)
        value &= 0x7f;
    if (ports->rtc_index != RTC_C && ports->rtc_index != RTC_D)
        ports->rtc_ram[ports->rtc_index] = value;
}

/*
 * PCI configuration space, mechanism 1. Linux believes the ports only when it
 * finds a host bridge (pci_sanity_check), and without PCI it logs an error.
 */
static uint32_t pci_read(const struct port_state *ports, unsigned byte)
{
    static const uint32_t host_bridge[] = {
        [0] = 0x12378086, /* device, vendor: Intel 82441FX */
        [2] = 0x06000002, /* class: host bridge; revision */
    };
    unsigned reg = ports->pci_address >> 2 & 0x3f;
    uint32_t value;

    if ((ports->pci_address & 0x80ffff00) != 0x80000000)
        return 0xffffffff; /* not bus 0, device 0, function 0 */
    value = reg < sizeof(host_bridge) / sizeof(host_bridge[0]) ? host_bridge[reg] : 0;
    return value >> 8 * byte;
}

static uint32_t port_read(struct port_state *ports, uint16_t port)
{
    switch (port) {
    case 0x60:
    case 0x64:
        return 0;
    case 0x70:
        return ports->rtc_index;
    case 0x71:
        return rtc_read(ports);
    case PORT_PM1_EVENT: /* status: nothing ever happens */
        return 0;
    case PORT_PM1_EVENT + 2:
        return ports->pm1_enable;
    case PORT_PM1_CONTROL:
        return PM1_CONTROL_SCI_EN;
    case 0xcf8:
        return ports->pci_address;
    case 0xcf9:
        return 0;
    case 0xcfc ... 0xcff:
        return pci_read(ports, port & 3);
    default:
        return 0xffffffff;
    }
}

static void port_write(struct vm *vm, uint16_t port, unsigned size, uint32_t value)
{
    struct port_state *ports = &vm->ports;

    switch (port) {
    case 0x64:
        if (value == I8042_COMMAND_RESET)
            vm_end(vm, KVMM_STATUS_RESET, "guest reset through port 64H");
        break;
    case 0x70:
        ports->rtc_index = value & 0x7f;
        break;
    case 0x71:
        rtc_write(ports, (uint8_t)value);
        break;
    case 0xf4:
        vm_end(vm, (uint8_t)value, "guest ended with status %u", (uint8_t)value);
        break;
    case PORT_PM1_EVENT + 2:
        ports->pm1_enable = (uint16_t)value;
        break;
    case PORT_PM1_CONTROL:
        if ((value & PM1_CONTROL_SLP_EN) && (value >> 10 & 7) == ACPI_SLEEP_TYPE_S5)
            vm_end(vm, KVMM_STATUS_POWEROFF, "guest powered off");
        break;
    case 0xcf8:
        if (size == 4)
            ports->pci_address = value;
        break;
    case 0xcf9:
        if (value & RESET_CPU)
            vm_end(vm, KVMM_STATUS_RESET, "guest reset through port CF9H");
        break;
    }
}

void ports_access(struct vcpu *vcpu, uint16_t port, unsigned size, bool is_write, uint8_t *data)
{
    struct vm *vm = vcpu->vm;
    uint32_t value = 0;

    if ((port & ~7u) == PORT_SERIAL) {
        /* Its registers are bytes; a wider access touches the next ones. */
        for (unsigned i = 0; i < size && (port & 7u) + i < 8; i++) {
            if (is_write)
                uart_write(vm, (port & 7u) + i, data[i]);
            else
                data[i] = uart_read(vm, (port & 7u) + i);
        }
        return;
    }

    pthread_mutex_lock(&vm->port_lock);
    if (is_write) {
        memcpy(&value, data, size);
        port_write(vm, port, size, value);
    } else {
        value = port_read(&vm->ports, port);
        memcpy(data, &value, size);
    }
    pthread_mutex_unlock(&vm->port_lock);
}
