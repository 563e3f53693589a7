#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "fs/mountpoint.h"

static int write_number(const char *path, uint32_t number)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%u\n", number);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = write(fd, text, (size_t)length) == length ? 0 : -errno;
    close(fd);
    return rc;
}

static uint32_t read_number(const char *path)
{
    char text[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    return (uint32_t)strtoul(text, NULL, 10);
}

uint32_t bdi_set_read_ahead(dev_t device, uint32_t kib)
{
    char path[80];
    snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major(device), minor(device));
    int rc = write_number(path, kib);
    uint32_t now = read_number(path);
    if (rc < 0)
        log_info("%s: %s; read-ahead stays at %u KiB", path, err_name(rc), now);
    return now;
}
