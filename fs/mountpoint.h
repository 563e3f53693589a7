/* mountpoint: the directory over which we are mounted: mount(2) for root, fusermount3 for others, and the way back.
 *
 * Errors: -errno and a sentence with the remedy in `why`.
 */
#ifndef FS_MOUNTPOINT_H
#define FS_MOUNTPOINT_H

#include <stdint.h>

#include "fs/fs.h"

struct mountpoint;

/* Mounts over whatever is there, without a look into it; *ret_fd is the connection, not yet answered: whoever enters the directory waits. */
int mountpoint_mount(const struct fs_config *config, struct mountpoint **ret_mountpoint, int *ret_fd,
                     struct buf *why);
/* True while it is our mount that is seen there. Sends no request into it. */
bool mountpoint_mounted(const struct mountpoint *mountpoint);
/* Detaches it, also when busy; nothing when it is not ours any more. */
void mountpoint_unmount(struct mountpoint *mountpoint);
void mountpoint_free(struct mountpoint *mountpoint);
/* The device number of the mounted file system, which names its bdi. */
dev_t mountpoint_device(const struct mountpoint *mountpoint);

/* bdi.c: read_ahead_kb of a device. The kernel starts with at most 128 KiB, whatever INIT says; this is the only way up.
 * Returns what holds afterwards (0: unknown); only root may raise it. */
uint32_t bdi_set_read_ahead(dev_t device, uint32_t kib);

#endif
