/*
 * frontend/disk.c -- disk images: raw files.
 */
#define _GNU_SOURCE
#include "frontend/host.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool disk_read(void *owner, uint64_t offset, void *buf, size_t n)
{
    struct host_disk *d = owner;
    for (uint8_t *p = buf; n;) {
        ssize_t got = pread(d->fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        p += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return true;
}

static bool disk_write(void *owner, uint64_t offset, const void *buf, size_t n)
{
    struct host_disk *d = owner;
    for (const uint8_t *p = buf; n;) {
        ssize_t done = pwrite(d->fd, p, n, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        p += done;
        offset += (uint64_t)done;
        n -= (size_t)done;
    }
    return true;
}

static bool disk_flush(void *owner)
{
    struct host_disk *d = owner;
    return fdatasync(d->fd) == 0;
}

bool host_disk_open(struct host_disk *d, const char *path, bool read_only, struct error *e)
{
    struct stat st;
    memset(d, 0, sizeof(*d));
    d->path = path;
    d->fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (d->fd < 0)
        return error_set(e, "-drive file=%s: %s", path, strerror(errno));
    off_t size = fstat(d->fd, &st) ? -1 : lseek(d->fd, 0, SEEK_END);
    if (size < 0 || S_ISDIR(st.st_mode)) {
        close(d->fd);
        return error_set(e, "-drive file=%s: not a disk image", path);
    }
    if (size < 512) {
        close(d->fd);
        return error_set(e, "-drive file=%s: %lld bytes are less than one sector", path, (long long)size);
    }
    d->blockdev = (struct blockdev){.owner = d,
                                    .size = (uint64_t)size & ~511ull,
                                    .read_only = read_only,
                                    .read = disk_read,
                                    .write = disk_write,
                                    .flush = disk_flush};
    return true;
}

void host_disk_close(struct host_disk *d)
{
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
}
