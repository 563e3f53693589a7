/* disk: the ONE door for local files: every byte that skyvol writes to this host goes through it.
 *
 * A disk is one directory (the cache directory) and a set of operations; tests put a simulator behind the same struct
 * that loses power, fills up or fails the Nth call. Names are single components; subdirectories are disks of their own.
 *
 * Errors: -errno of the system call; -EINVAL for a name that is no single component, -ELOOP for a symlink. A short
 * write is completed or fails; it never returns short.
 * Threads: operations on one file may run side by side, as pread and pwrite allow.
 */
#ifndef BASE_DISK_H
#define BASE_DISK_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct disk;
struct disk_file;

/* So much at once into the page cache: the kernel takes the memory for one write in pieces as large. Small ones come warm, while large
 * ones were not touched for long, and a virtual machine pays several times the copy for the first touch. */
#define DISK_WRITE_BYTES ((size_t)64 << 10)

enum disk_open_flags { DISK_CREATE = 1, DISK_EXCLUSIVE = 2, DISK_READ_ONLY = 4 };

struct disk_ops {
    int (*open)(struct disk *disk, const char *name, int flags, struct disk_file **ret_file);
    void (*close)(struct disk_file *file);
    ssize_t (*read)(struct disk_file *file, void *bytes, size_t size,
                    uint64_t offset); /* short only at the end */
    int (*write)(struct disk_file *file, const void *bytes, size_t size, uint64_t offset);
    int (*truncate)(struct disk_file *file, uint64_t size);
    int (*punch)(struct disk_file *file, uint64_t offset, uint64_t size); /* a hole that reads as zeros */
    int (*flush)(struct disk_file *file); /* data and size survive a power cut */
    /* Hints; NULL where they are worth nothing. The size stays as it is, and nothing that was written goes. reserve: blocks for
     * bytes that will be written soon, at most a 16th of what is free. trim: those behind the end go back; nobody writes
     * meanwhile. */
    void (*reserve)(struct disk_file *file, uint64_t offset, uint64_t size);
    void (*trim)(struct disk_file *file);
    /* Blocks for all of these bytes, which can then be written though the disk is full; the size stays. -ENOSPC; NULL, or -EOPNOTSUPP:
     * this disk promises nothing. */
    int (*allocate)(struct disk_file *file, uint64_t offset, uint64_t size);
    int (*size)(struct disk_file *file, uint64_t *ret_size);
    int (*rename)(struct disk *disk, const char *from, const char *to);
    int (*remove)(struct disk *disk, const char *name);
    int (*flush_names)(struct disk *disk); /* creates, renames, removes so far survive a power cut */
    int (*list)(struct disk *disk, int (*each)(void *context, const char *name), void *context);
    int (*space)(struct disk *disk, uint64_t *ret_total, uint64_t *ret_free); /* free for this user */
    int (*subdisk)(struct disk *disk, const char *name,
                   struct disk **ret_disk); /* created 0700 when missing */
    void (*free)(struct disk *disk);
};

/* Embedded first in the struct of each implementation. */
struct disk {
    const struct disk_ops *ops;
};

struct disk_file {
    struct disk *disk;
};

/* Opens, or creates with 0700, the directory `path` of the real file system and any missing parents, so that they survive
 * a power cut. Refused: not a directory, not ours, open to others (-EPERM), a symlink as last component (-ELOOP), a
 * network file system (-EREMOTE). */
int disk_open_directory(const char *path, struct disk **ret_disk);
/* A file system of that magic number (statfs) is another host's: it promises not what we must. Those of clusters, too. */
bool disk_is_network(uint32_t magic);
/* The full path of a name, for messages; malloc'ed. */
char *disk_path(struct disk *disk, const char *name);
/* In memory: what is flushed there does not survive a power cut. */
bool disk_is_tmpfs(struct disk *disk);

static inline void disk_free(struct disk *disk)
{
    if (disk)
        disk->ops->free(disk);
}

static inline int disk_open(struct disk *disk, const char *name, int flags, struct disk_file **ret_file)
{
    return disk->ops->open(disk, name, flags, ret_file);
}

static inline void disk_close(struct disk_file *file)
{
    if (file)
        file->disk->ops->close(file);
}

static inline ssize_t disk_read(struct disk_file *file, void *bytes, size_t size, uint64_t offset)
{
    return file->disk->ops->read(file, bytes, size, offset);
}

static inline int disk_write(struct disk_file *file, const void *bytes, size_t size, uint64_t offset)
{
    return file->disk->ops->write(file, bytes, size, offset);
}

static inline int disk_truncate(struct disk_file *file, uint64_t size)
{
    return file->disk->ops->truncate(file, size);
}

static inline int disk_flush(struct disk_file *file)
{
    return file->disk->ops->flush(file);
}

static inline void disk_reserve(struct disk_file *file, uint64_t offset, uint64_t size)
{
    if (file->disk->ops->reserve)
        file->disk->ops->reserve(file, offset, size);
}

static inline void disk_trim(struct disk_file *file)
{
    if (file->disk->ops->trim)
        file->disk->ops->trim(file);
}

static inline int disk_allocate(struct disk_file *file, uint64_t offset, uint64_t size)
{
    return file->disk->ops->allocate ? file->disk->ops->allocate(file, offset, size) : -EOPNOTSUPP;
}

static inline int disk_size(struct disk_file *file, uint64_t *ret_size)
{
    return file->disk->ops->size(file, ret_size);
}

static inline int disk_punch(struct disk_file *file, uint64_t offset, uint64_t size)
{
    return file->disk->ops->punch(file, offset, size);
}

#endif
