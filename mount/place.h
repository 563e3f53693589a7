/* place: mount points on this host: is one usable, what is mounted there, taking it away.
 *
 *      missing | not a directory | not empty | busy (something is mounted) | dead (ours, its daemon is gone) | free
 *
 * Facts come from /proc/self/mountinfo, so that a mount whose daemon hangs is not touched.
 */
#ifndef MOUNT_PLACE_H
#define MOUNT_PLACE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buf.h"

struct place_mount {
    char *source, *type; /* malloc'ed */
    uid_t owner;         /* user_id= of FUSE; else 0 */
    bool found;
};

/* The absolute path without links, also of a dead mount. Malloc'ed; -errno with a line in `why`. */
int place_resolve(const char *text, char **ret_path, struct buf *why);
/* What is mounted exactly at `path` (the topmost one). */
int place_find(const char *path, struct place_mount *ret_mount);
void place_mount_release(struct place_mount *mount);
/* Usable for a new mount? A dead mount of ours is unmounted first. -errno with one line of what and the remedy. */
int place_prepare(const char *path, bool nonempty, struct buf *why);
/* umount(2), or fusermount3 for users; lazily on demand. -EBUSY is said with who uses it, where /proc tells. */
int place_unmount(const char *path, bool lazy, struct buf *why);
/* The directory of control sockets of `uid`, made when it is ours and missing. Malloc'ed; NULL: none can be had. */
char *place_runtime_directory(uid_t uid);

#endif
