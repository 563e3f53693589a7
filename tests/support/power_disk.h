/* power_disk: a disk in memory whose power can be cut.
 *
 *      a file: as it is now | as it was when last flushed          a name: likewise, when names were last flushed
 *
 * What a cut finds: of each name that changed since names were flushed the old or the new one; of each file's pages of 4 KiB
 * that changed since the file was flushed the old or the new one; of a size that changed the old, the new, or one between.
 * By seed: 0 keeps nothing that was not flushed.
 *
 * Threads: any.
 */
#ifndef TESTS_SUPPORT_POWER_DISK_H
#define TESTS_SUPPORT_POWER_DISK_H

#include "base/disk.h"

struct power_disk;

struct power_disk *power_disk_new(void);
struct disk *power_disk_disk(struct power_disk *power);
/* What is found after a cut at this moment; the old one goes on as if nothing had happened. */
struct power_disk *power_disk_cut(struct power_disk *power, unsigned seed);
/* What is found when the process dies at this moment: all of it, and what was not flushed still is not. */
struct power_disk *power_disk_kill(struct power_disk *power);
/* Runs before each call that changes or flushes something, without a lock; calls count from 1. */
void power_disk_watch(struct power_disk *power, void (*before)(void *context, long nth), void *context);
/* From then on writes that need more room than that fail with -ENOSPC, half of them done; UINT64_MAX: there is room. */
void power_disk_set_room(struct power_disk *power, uint64_t bytes);
/* Flips one bit of a file, on the disk. False: it is not that large, or not there. */
bool power_disk_flip(struct power_disk *power, const char *name, uint64_t bit);
/* What a file holds, malloc'ed; NULL: there is none. */
char *power_disk_bytes(struct power_disk *power, const char *name, size_t *ret_size);
void power_disk_free(struct power_disk *power); /* its files must be closed */

#endif
