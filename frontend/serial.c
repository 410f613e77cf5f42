/*
 * frontend/serial.c -- COM1's other end on the host.
 */
#define _GNU_SOURCE
#include "frontend/host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

_Static_assert(sizeof(struct termios) <= sizeof(((struct host_serial *)0)->saved), "terminal settings fit");

/* Whoever reads the output may have stopped: a blocked signal that is to end the program is not kept waiting.
 */
static bool wait_writable(struct host_serial *s)
{
    struct pollfd p = {.fd = s->out, .events = POLLOUT};
    sigset_t pending;
    while (poll(&p, 1, 0) == 0) {
        if (sigpending(&pending) == 0 && (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM)))
            return false;
        poll(&p, 1, 100);
    }
    return true;
}

static void serial_write(void *owner, const uint8_t *bytes, size_t n)
{
    struct host_serial *s = owner;
    while (n && s->out >= 0) {
        if (!wait_writable(s))
            return;
        /* A pipe that is ready takes PIPE_BUF bytes without blocking. */
        ssize_t done = write(s->out, bytes, MIN(n, (size_t)PIPE_BUF));
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EAGAIN)
            continue;
        if (done <= 0) {
            if (!s->failed)
                fprintf(stderr, "droste: -serial: output failed: %s\n", strerror(errno));
            s->failed = true;
            return;
        }
        bytes += done;
        n -= (size_t)done;
    }
}

/* A terminal in raw mode: every key goes to the guest, Ctrl-A X ends the program. */
static void raw_terminal(struct host_serial *s)
{
    struct termios t;
    if (!isatty(s->in) || tcgetattr(s->in, &t))
        return;
    memcpy(s->saved, &t, sizeof(t));
    t.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IGNCR | IXON | ISTRIP | BRKINT);
    t.c_lflag &= ~(tcflag_t)(ECHO | ICANON | ISIG | IEXTEN);
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    s->terminal = tcsetattr(s->in, TCSANOW, &t) == 0;
}

static bool open_socket(struct host_serial *s, const char *path, struct error *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(a.sun_path))
        return error_set(e, "-serial unix:%s: path is too long", path);
    strcpy(a.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a))) {
        if (fd >= 0)
            close(fd);
        return error_set(e, "-serial unix:%s: %s", path, strerror(errno));
    }
    s->in = s->out = fd;
    s->own = true;
    return true;
}

bool host_serial_open(struct host_serial *s, const char *spec, struct error *e)
{
    memset(s, 0, sizeof(*s));
    s->in = s->out = -1;
    s->chardev = (struct chardev){.owner = s, .write = serial_write};
    if (!strcmp(spec, "none"))
        return true;
    if (!strncmp(spec, "unix:", 5))
        return open_socket(s, spec + 5, e);
    if (!strncmp(spec, "file:", 5)) {
        s->out = open(spec + 5, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        s->own = true;
        return s->out >= 0 || error_set(e, "-serial %s: %s", spec, strerror(errno));
    }
    s->in = STDIN_FILENO;
    s->out = STDOUT_FILENO;
    raw_terminal(s);
    return true;
}

void host_serial_close(struct host_serial *s)
{
    if (s->terminal) {
        struct termios t;
        memcpy(&t, s->saved, sizeof(t));
        tcsetattr(s->in, TCSANOW, &t);
    }
    if (s->own) {
        if (s->in >= 0 && s->in != s->out)
            close(s->in);
        if (s->out >= 0)
            close(s->out);
    }
    s->in = s->out = -1;
    s->terminal = s->own = false;
}

static bool ready(int fd, int milliseconds)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return fd >= 0 && poll(&p, 1, milliseconds) > 0;
}

void host_serial_poll(struct host_serial *s, struct uart *u)
{
    size_t room = uart_can_receive(u);
    uint8_t bytes[64], pass[64];
    size_t n = 0;
    if (!room || !ready(s->in, 0))
        return;
    ssize_t got = read(s->in, bytes, MIN(room, sizeof(bytes)));
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (got <= 0) {
        s->in = -1; /* end of input: the output stays */
        return;
    }
    for (ssize_t i = 0; i < got; i++) {
        if (s->terminal && s->escape) {
            s->escape = false;
            if (bytes[i] == 'x' || bytes[i] == 'X')
                s->quit = true;
            else if (bytes[i] == 1)
                pass[n++] = 1;
        } else if (s->terminal && bytes[i] == 1) {
            s->escape = true;
        } else {
            pass[n++] = bytes[i];
        }
    }
    if (n)
        uart_receive(u, pass, n);
}

void host_serial_wait(struct host_serial *s, uint64_t ns)
{
    int ms = (int)MIN(ns / 1000000, 100);
    if (ms)
        poll(&(struct pollfd){.fd = s->in, .events = POLLIN}, s->in >= 0, ms);
}
