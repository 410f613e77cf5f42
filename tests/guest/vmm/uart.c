/*
 * vmm/uart.c -- a 16550A at port 3F8H, interrupt 4.
 *
 * PC16550D data sheet (National Semiconductor). Sent bytes go to stdout at
 * once, so the transmitter is always empty; "transmitter empty" becomes a
 * pending interrupt when a byte is written or when its enable bit is set, and
 * reading it from IIR clears it. KVM is told of the interrupt line only when
 * its level changes.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kvmm.h"

enum { /* registers */
       UART_DATA = 0,
       UART_IER = 1,
       UART_IIR_FCR = 2,
       UART_LCR = 3,
       UART_MCR = 4,
       UART_LSR = 5,
       UART_MSR = 6,
       UART_SCR = 7,
};

#define IER_RX        0x01
#define IER_THRE      0x02
#define IIR_NONE      0x01
#define IIR_THRE      0x02
#define IIR_RX        0x04
#define IIR_FIFO      0xc0
#define FCR_ENABLE    0x01
#define FCR_CLEAR_RX  0x02
#define LCR_DLAB      0x80
#define MCR_RTS       0x02
#define MCR_DTR       0x01
#define MCR_OUT1      0x04
#define MCR_OUT2      0x08
#define MCR_LOOP      0x10
#define LSR_DATA      0x01
#define LSR_THRE_TEMT 0x60
#define MSR_CTS       0x10
#define MSR_DSR       0x20
#define MSR_RI        0x40
#define MSR_DCD       0x80

void uart_init(struct uart *uart)
{
    pthread_mutex_init(&uart->lock, NULL);
    pthread_cond_init(&uart->rx_space, NULL);
    uart->dll = 12; /* 9600 baud */
}

static uint8_t interrupt_id(const struct uart *uart)
{
    if ((uart->ier & IER_RX) && uart->rx_count)
        return IIR_RX;
    if ((uart->ier & IER_THRE) && uart->thre_pending)
        return IIR_THRE;
    return IIR_NONE;
}

static void update_irq(struct vm *vm)
{
    struct uart *uart = &vm->uart;
    /* On a PC, OUT2 connects the interrupt. */
    bool level = interrupt_id(uart) != IIR_NONE && (uart->mcr & MCR_OUT2);

    if (level != uart->irq_level) {
        uart->irq_level = level;
        vm_irq_line(vm, KVMM_IRQ_SERIAL, level);
    }
}

static void send_byte(uint8_t value)
{
    while (write(STDOUT_FILENO, &value, 1) < 0 && errno == EINTR)
        ;
}

static void receive_byte(struct uart *uart, uint8_t value)
{
    uart->rx[(uart->rx_head + uart->rx_count++) % sizeof(uart->rx)] = value;
}

static uint8_t read_data(struct uart *uart)
{
    uint8_t value = 0;

    if (uart->rx_count) {
        value = uart->rx[uart->rx_head];
        uart->rx_head = (uart->rx_head + 1) % sizeof(uart->rx);
        uart->rx_count--;
        pthread_cond_signal(&uart->rx_space);
    }
    return value;
}

static uint8_t modem_status(const struct uart *uart)
{
    uint8_t mcr = uart->mcr;

    if (!(mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
                     (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0));
}

uint8_t uart_read(struct vm *vm, unsigned reg)
{
    struct uart *uart = &vm->uart;
    uint8_t value = 0;

    pthread_mutex_lock(&uart->lock);
    switch (reg) {
    case UART_DATA:
        value = uart->lcr & LCR_DLAB ? uart->dll : read_data(uart);
        break;
    case UART_IER:
        value = uart->lcr & LCR_DLAB ? uart->dlm : uart->ier;
        break;
    case UART_IIR_FCR:
        value = interrupt_id(uart);
        if (value == IIR_THRE)
            uart->thre_pending = false;
        if (uart->fcr & FCR_ENABLE)
            value |= IIR_FIFO;
        break;
    case UART_LCR:
        value = uart->lcr;
        break;
    case UART_MCR:
        value = uart->mcr;
        break;
    case UART_LSR:
        value = LSR_THRE_TEMT | (uart->rx_count ? LSR_DATA : 0);
        break;
    case UART_MSR:
        value = modem_status(uart);
        break;
    case UART_SCR:
        value = uart->scr;
        break;
    }
    update_irq(vm);
    pthread_mutex_unlock(&uart->lock);
    return value;
}

static void write_data(struct uart *uart, uint8_t value)
{
    uart->thre_pending = true;
    if (!(uart->mcr & MCR_LOOP)) {
        uart->sent++;
        send_byte(value);
    } else if (uart->rx_count < sizeof(uart->rx)) {
        receive_byte(uart, value);
    }
}

void uart_write(struct vm *vm, unsigned reg, uint8_t value)
{
    struct uart *uart = &vm->uart;

    pthread_mutex_lock(&uart->lock);
    switch (reg) {
    case UART_DATA:
        if (uart->lcr & LCR_DLAB)
            uart->dll = value;
        else
            write_data(uart, value);
        break;
    case UART_IER:
        if (uart->lcr & LCR_DLAB) {
            uart->dlm = value;
        } else {
            if (~uart->ier & value & IER_THRE)
                uart->thre_pending = true;
            uart->ier = value & 0x0f;
        }
        break;
    case UART_IIR_FCR:
        uart->fcr = value;
        if (value & FCR_CLEAR_RX) {
            uart->rx_count = 0;
            pthread_cond_signal(&uart->rx_space);
        }
        break;
    case UART_LCR:
        uart->lcr = value;
        break;
    case UART_MCR:
        uart->mcr = value & 0x1f;
        break;
    case UART_SCR:
        uart->scr = value;
        break;
    }
    update_irq(vm);
    pthread_mutex_unlock(&uart->lock);
}

static void *input_thread(void *argument)
{
    struct vm *vm = argument;
    struct uart *uart = &vm->uart;
    uint8_t value;
    ssize_t got;

    while ((got = read(STDIN_FILENO, &value, 1)) == 1 || (got < 0 && errno == EINTR)) {
        if (got < 0)
            continue;
        pthread_mutex_lock(&uart->lock);
        while (uart->rx_count == sizeof(uart->rx))
            pthread_cond_wait(&uart->rx_space, &uart->lock);
        receive_byte(uart, value);
        update_irq(vm);
        pthread_mutex_unlock(&uart->lock);
    }
    return NULL;
}

void uart_start_input(struct vm *vm)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, input_thread, vm);

    if (error)
        die("thread of the serial input: %s", strerror(error));
    pthread_detach(thread);
}
