/*
 * tests/unit/test_dev_uart16550.c -- 16550A against the data sheet.
 */
#include "tests/unit/dev_board.h"

#include "devices/uart16550.h"

#define COM 0x3f8
static struct uart uart;
static uint8_t sent[256];
static size_t sent_count;

static void sink(void *owner, const uint8_t *p, size_t n)
{
    (void)owner;
    memcpy(sent + sent_count, p, n);
    sent_count += n;
}

static const struct chardev console = {NULL, sink};

static struct board *uart_new(void)
{
    struct board *b = board_new(0);
    sent_count = 0;
    OK(uart_init(&uart, &b->bus, COM, &b->clock, board_irq(b, 4), &console, &b->error));
    out(b, COM + 4, 0x0b); /* DTR, RTS, OUT2 */
    return b;
}

Test(uart, divisor_scratch_and_fifo_probe)
{
    struct board *b = uart_new();
    out(b, COM + 3, 0x80), out(b, COM, 0x34), out(b, COM + 1, 0x12);
    cr_assert_eq(in(b, COM), 0x34);
    cr_assert_eq(in(b, COM + 1), 0x12);
    out(b, COM + 3, 3), out(b, COM + 7, 0x5a);
    cr_assert_eq(in(b, COM + 7), 0x5a);
    cr_assert_eq(in(b, COM + 2), 0x01);
    out(b, COM + 2, 1);
    cr_assert_eq(in(b, COM + 2), 0xc1, "a 16550A shows its FIFOs");
    out(b, COM + 1, 0xff);
    cr_assert_eq(in(b, COM + 1), 0x0f);
    board_free(b);
}

Test(uart, transmit_and_its_interrupt)
{
    struct board *b = uart_new();
    out(b, COM, 'a');
    cr_assert_eq(sent_count, 1);
    cr_assert_eq(in(b, COM + 5), 0x60);
    out(b, COM + 1, 2);
    cr_assert(b->level[4], "enabling it while empty raises it");
    cr_assert_eq(in(b, COM + 2), 0x02);
    cr_assert(!b->level[4], "reading IIR clears it");
    cr_assert_eq(in(b, COM + 2), 0x01);
    out(b, COM, 'b');
    cr_assert(b->level[4]);
    out(b, COM + 4, 0x03);
    cr_assert(!b->level[4], "OUT2 gates the line");
    cr_assert_arr_eq(sent, "ab", 2);
    board_free(b);
}

Test(uart, receive_trigger_timeout_and_priority)
{
    struct board *b = uart_new();
    out(b, COM + 2, 0x41); /* trigger at 4 */
    out(b, COM + 1, 0x07);
    in(b, COM + 2);
    uart_receive(&uart, (const uint8_t *)"xyz", 3);
    cr_assert(!b->level[4]);
    board_run(b, 10000000);
    cr_assert(b->level[4]);
    cr_assert_eq(in(b, COM + 2), 0xcc, "time-out");
    cr_assert_eq(in(b, COM), 'x');
    cr_assert(!b->level[4], "reading resets the time-out");
    uart_receive(&uart, (const uint8_t *)"1234", 4);
    cr_assert_eq(in(b, COM + 2), 0xc4);
    uart_receive(&uart, (const uint8_t *)"0123456789abcdef", 16);
    cr_assert_eq(in(b, COM + 2), 0xc6, "an overrun is most urgent");
    cr_assert_eq(in(b, COM + 5), 0x63);
    cr_assert_eq(in(b, COM + 5), 0x61, "reading LSR clears it");
    for (unsigned i = 0; i < 16; i++)
        in(b, COM);
    cr_assert_eq(in(b, COM + 5) & 1, 0);
    cr_assert_eq(uart_can_receive(&uart), 16);
    out(b, COM + 2, 0);
    cr_assert_eq(uart_can_receive(&uart), 1);
    board_free(b);
}

Test(uart, loopback_and_modem)
{
    struct board *b = uart_new();
    out(b, COM + 3, 3);
    cr_assert_eq(in(b, COM + 6) & 0xf0, 0xb0);
    out(b, COM + 4, 0x1a);
    cr_assert_eq(in(b, COM + 6) & 0xf0, 0x90, "Linux's autoconfig looks for this");
    out(b, COM, 0x77);
    cr_assert_eq(sent_count, 0);
    cr_assert_eq(in(b, COM), 0x77);
    out(b, COM + 4, 0x10);
    cr_assert_eq(in(b, COM + 6) & 0x0f, 0x09, "CTS and DCD fell");
    cr_assert_eq(in(b, COM + 6) & 0x0f, 0);
    out(b, COM + 4, 0x14), out(b, COM + 4, 0x10);
    cr_assert_eq(in(b, COM + 6) & 0x0f, 0x04, "trailing edge of RI");
    board_free(b);
}

Test(uart, state)
{
    struct board *b = uart_new();
    static struct board_bytes s;
    COVERED(uart_state);
    out(b, COM + 2, 1);
    uart_receive(&uart, (const uint8_t *)"q", 1);
    SAVE(uart_state, &uart, s);
    uint64_t next = b->clock.next;
    uart_reset(&uart);
    cr_assert_eq(b->clock.next, CLOCK_NEVER);
    LOAD(uart_state, &uart, s);
    cr_assert_eq(b->clock.next, next);
    cr_assert_eq(in(b, COM), 'q');
    board_free(b);
}
