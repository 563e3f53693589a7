#include "tests/support/fault_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/list.h"

struct fault_file {
    struct disk_file file;
    struct disk_file *under;
    bool spared;
};

static struct fault_disk *disk_of(struct disk *disk)
{
    return container_of(disk, struct fault_disk, disk);
}

static struct disk_file *under_of(struct disk_file *file)
{
    return container_of(file, struct fault_file, file)->under;
}

static int strike(struct disk *disk)
{
    struct fault_disk *fault = disk_of(disk);
    if (atomic_load(&fault->fail_nth) < 0 || atomic_fetch_sub(&fault->fail_nth, 1) != 0)
        return 0;
    atomic_fetch_add(&fault->struck, 1);
    return -EIO;
}

static bool is_spared(const struct fault_disk *fault, const char *name)
{
    return fault->spared && strncmp(name, fault->spared, strlen(fault->spared)) == 0;
}

static int open_file(struct disk *disk, const char *name, int flags, struct disk_file **ret_file)
{
    struct fault_disk *fault = disk_of(disk);
    struct disk_file *under;
    int rc = strike(disk);
    if (rc == 0)
        rc = atomic_load(&fault->open_rc);
    if (rc == 0)
        rc = disk_open(fault->under, name, flags, &under);
    if (rc < 0)
        return rc;
    struct fault_file *file = xcalloc(1, sizeof *file);
    file->file.disk = disk;
    file->under = under;
    file->spared = is_spared(fault, name);
    *ret_file = &file->file;
    return 0;
}

static void close_file(struct disk_file *file)
{
    disk_close(under_of(file));
    free(container_of(file, struct fault_file, file));
}

static ssize_t read_file(struct disk_file *file, void *bytes, size_t size, uint64_t offset)
{
    struct fault_disk *fault = disk_of(file->disk);
    if (fault->before_read)
        fault->before_read(fault->context, offset);
    int rc = strike(file->disk);
    if (rc == 0)
        rc = atomic_load(&fault->read_rc);
    return rc < 0 ? rc : disk_read(under_of(file), bytes, size, offset);
}

static int write_file(struct disk_file *file, const void *bytes, size_t size, uint64_t offset)
{
    int rc = strike(file->disk);
    if (rc == 0 && !container_of(file, struct fault_file, file)->spared)
        rc = atomic_load(&disk_of(file->disk)->full) ? -ENOSPC : atomic_load(&disk_of(file->disk)->write_rc);
    if (rc == 0)
        return disk_write(under_of(file), bytes, size, offset);
    disk_write(under_of(file), bytes, size / 2, offset);
    return rc;
}

static int truncate_file(struct disk_file *file, uint64_t size)
{
    int rc = strike(file->disk);
    return rc < 0 ? rc : disk_truncate(under_of(file), size);
}

static int punch_file(struct disk_file *file, uint64_t offset, uint64_t size)
{
    int rc = strike(file->disk);
    return rc < 0 ? rc : disk_punch(under_of(file), offset, size);
}

static int flush_file(struct disk_file *file)
{
    int rc = strike(file->disk);
    if (rc == 0)
        rc = atomic_load(&disk_of(file->disk)->flush_rc);
    return rc < 0 ? rc : disk_flush(under_of(file));
}

static int tell_size(struct disk_file *file, uint64_t *ret_size)
{
    struct disk_file *under = under_of(file);
    return under->disk->ops->size(under, ret_size);
}

static int rename_name(struct disk *disk, const char *from, const char *to)
{
    struct disk *under = disk_of(disk)->under;
    int rc = strike(disk);
    if (rc == 0)
        rc = under->ops->rename(under, from, to);
    return rc < 0 ? rc : atomic_load(&disk_of(disk)->rename_rc);
}

static int remove_name(struct disk *disk, const char *name)
{
    struct disk *under = disk_of(disk)->under;
    int rc = strike(disk);
    if (rc == 0 && !is_spared(disk_of(disk), name))
        atomic_store(&disk_of(disk)->full, false);
    return rc < 0 ? rc : under->ops->remove(under, name);
}

static int flush_names(struct disk *disk)
{
    struct disk *under = disk_of(disk)->under;
    int rc = strike(disk);
    return rc < 0 ? rc : under->ops->flush_names(under);
}

static int list_names(struct disk *disk, int (*each)(void *context, const char *name), void *context)
{
    struct disk *under = disk_of(disk)->under;
    int rc = strike(disk);
    return rc < 0 ? rc : under->ops->list(under, each, context);
}

/* Hints: they can neither fail nor strike. */
static void reserve_space(struct disk_file *file, uint64_t offset, uint64_t size)
{
    disk_reserve(under_of(file), offset, size);
}

static void trim_file(struct disk_file *file)
{
    disk_trim(under_of(file));
}

static int allocate_file(struct disk_file *file, uint64_t offset, uint64_t size)
{
    int rc = atomic_load(&disk_of(file->disk)->full) ? -ENOSPC : strike(file->disk);
    return rc < 0 ? rc : disk_allocate(under_of(file), offset, size);
}

static int tell_space(struct disk *disk, uint64_t *ret_total, uint64_t *ret_free)
{
    struct disk *under = disk_of(disk)->under;
    int rc = under->ops->space(under, ret_total, ret_free);
    uint64_t told = atomic_load(&disk_of(disk)->free_bytes);
    if (rc == 0 && told)
        *ret_total = *ret_free = told;
    return rc;
}

static int refuse_subdisk(struct disk *disk, const char *name, struct disk **ret_disk)
{
    (void)disk, (void)name, (void)ret_disk;
    return -EOPNOTSUPP;
}

static void free_nothing(struct disk *disk)
{
    (void)disk;
}

void fault_disk_init(struct fault_disk *disk, struct disk *under)
{
    static const struct disk_ops ops = {
        .open = open_file,
        .close = close_file,
        .read = read_file,
        .write = write_file,
        .truncate = truncate_file,
        .punch = punch_file,
        .flush = flush_file,
        .reserve = reserve_space,
        .trim = trim_file,
        .allocate = allocate_file,
        .size = tell_size,
        .rename = rename_name,
        .remove = remove_name,
        .flush_names = flush_names,
        .list = list_names,
        .space = tell_space,
        .subdisk = refuse_subdisk,
        .free = free_nothing,
    };
    *disk = (struct fault_disk){.disk = {.ops = &ops}, .under = under};
    atomic_init(&disk->fail_nth, -1);
}
