#include "cache/catalog_head.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/crc.h"
#include "cache/catalog.h"

#define NEW_NAME  CATALOG_HEAD_NAME ".new"
#define MAGIC     "skyvolmc"
#define BYTES_MAX 16384

/* What stands in front of boot and source, each with its NUL. Little-endian. */
struct layout {
    char magic[8];
    uint32_t crc; /* of all behind it */
    uint32_t format;
    uint32_t state;
    uint32_t unused;
    uint64_t generation, trusted, bytes;
};

#define CRC_END offsetof(struct layout, format)

static int parse(const char *bytes, size_t length, struct catalog_head *ret_head)
{
    struct layout layout;

    if (length < sizeof layout)
        return -EBADMSG;
    memcpy(&layout, bytes, sizeof layout);
    if (memcmp(layout.magic, MAGIC, sizeof layout.magic) != 0 ||
        le32toh(layout.crc) != crc32c(0, bytes + CRC_END, length - CRC_END))
        return -EBADMSG;
    if (le32toh(layout.format) != CATALOG_FORMAT)
        return -EPROTO;
    const char *boot = bytes + sizeof layout, *end = bytes + length;
    const char *source = memchr(boot, 0, (size_t)(end - boot));
    if (!source++ || source == end || memchr(source, 0, (size_t)(end - source)) != end - 1)
        return -EBADMSG;
    *ret_head = (struct catalog_head){.state = le32toh(layout.state),
                                      .generation = le64toh(layout.generation),
                                      .trusted = le64toh(layout.trusted),
                                      .bytes = le64toh(layout.bytes),
                                      .boot = xstrdup(boot),
                                      .source = xstrdup(source)};
    return 0;
}

int catalog_head_read(struct disk *disk, struct catalog_head *ret_head)
{
    struct disk_file *file;
    char bytes[BYTES_MAX];
    int rc = disk_open(disk, CATALOG_HEAD_NAME, DISK_READ_ONLY, &file);

    if (rc < 0)
        return rc;
    ssize_t length = disk_read(file, bytes, sizeof bytes, 0);
    disk_close(file);
    return length < 0 ? (int)length : parse(bytes, (size_t)length, ret_head);
}

static void print(const struct catalog_head *head, struct buf *out)
{
    struct layout layout = {.magic = {0},
                            .format = htole32(CATALOG_FORMAT),
                            .state = htole32(head->state),
                            .generation = htole64(head->generation),
                            .trusted = htole64(head->trusted),
                            .bytes = htole64(head->bytes)};

    memcpy(layout.magic, MAGIC, sizeof layout.magic);
    buf_add(out, &layout, sizeof layout);
    buf_add(out, head->boot, strlen(head->boot) + 1);
    buf_add(out, head->source, strlen(head->source) + 1);
    uint32_t crc = htole32(crc32c(0, out->bytes + CRC_END, out->length - CRC_END));
    memcpy(out->bytes + offsetof(struct layout, crc), &crc, sizeof crc);
}

int catalog_head_write(struct disk *disk, const struct catalog_head *head)
{
    struct disk_file *file;
    BUF_SCOPED bytes = BUF_INIT;

    print(head, &bytes);
    if (bytes.length > BYTES_MAX)
        return -ENAMETOOLONG;
    int rc = disk_open(disk, NEW_NAME, DISK_CREATE, &file);
    if (rc < 0)
        return rc;
    rc = disk_truncate(file, 0);
    if (rc == 0)
        rc = disk_write(file, bytes.bytes, bytes.length, 0);
    if (rc == 0)
        rc = disk_flush(file);
    disk_close(file);
    if (rc == 0)
        rc = disk->ops->rename(disk, NEW_NAME, CATALOG_HEAD_NAME);
    return rc < 0 ? rc : disk->ops->flush_names(disk);
}

void catalog_head_release(struct catalog_head *head)
{
    free(head->boot);
    free(head->source);
    *head = (struct catalog_head){0};
}
