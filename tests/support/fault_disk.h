/* fault_disk: a disk that passes all on to another one and fails on command: full, or broken at the Nth call.
 *
 * Threads: any; the orders are atomic. */
#ifndef TESTS_SUPPORT_FAULT_DISK_H
#define TESTS_SUPPORT_FAULT_DISK_H

#include <stdatomic.h>

#include "base/disk.h"

struct fault_disk {
    struct disk disk;
    struct disk *under;              /* not owned */
    atomic_int write_rc;             /* not 0: writes fail so, after half of their bytes were written */
    atomic_bool full;                /* as a write_rc of -ENOSPC, until a file is removed */
    atomic_uint_fast64_t free_bytes; /* not 0: so many are told to be free, of as many */
    const char *spared; /* files whose names begin so have room kept for them, and are spared; NULL: none */
    atomic_int read_rc; /* not 0: reads fail so */
    atomic_int open_rc;
    atomic_int rename_rc; /* not 0: renames fail so, after they happened */
    atomic_int flush_rc;  /* not 0: flushes of files fail so */
    atomic_long
        fail_nth; /* counts down with each call that can fail; at 0 that one fails with -EIO; < 0: off */
    atomic_long struck;
    void (*before_read)(void *context, uint64_t offset); /* may be NULL: runs before each read */
    void *context;
};

void fault_disk_init(struct fault_disk *disk, struct disk *under);

#endif
