/* place: mount points on this host: is one usable, what is mounted there, taking it away.
 *
 *      place_look:  mountinfo --nothing--> FREE
 *                       |--another type--> FOREIGN
 *                       `--fuse.skyvol--> its claim is held --> ALIVE      (claim.h; also while it is stopped or hangs)
 *                                            `--not--> statfs says ENOTCONN --> DEAD, anything else, or nothing --> ALIVE
 *
 * A mount is never asked while its daemon can be seen, so that one that hangs holds nobody.
 */
#ifndef MOUNT_PLACE_H
#define MOUNT_PLACE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buf.h"

struct place_mount {
    char *source, *type;   /* malloc'ed, but for those of place_each */
    uid_t owner;           /* user_id= of FUSE; else 0 */
    gid_t group;           /* group_id= */
    unsigned device_minor; /* of FUSE: the number of the connection */
    bool read_only;        /* by the kernel, after a remount too */
    bool no_exec;
    bool found;
};

enum place_state { PLACE_FREE, PLACE_FOREIGN, PLACE_ALIVE, PLACE_DEAD };

/* The absolute path without links, also of a dead mount. Malloc'ed; -errno with a line in `why`. */
int place_resolve(const char *text, char **ret_path, struct buf *why);
/* What is mounted exactly at `path` (the topmost one). */
int place_find(const char *path, struct place_mount *ret_mount);
/* All mounts of skyvol, in the order of the table. */
int place_each(void (*each)(void *context, const char *path, const struct place_mount *mount), void *context);
void place_mount_release(struct place_mount *mount);
/* The one judgement of what is at `path`; the mount (release it) is filled as by place_find. At most two seconds. */
enum place_state place_look(const char *path, struct place_mount *ret_mount);
/* Usable for a new mount? Dead mounts of ours are unmounted first. -errno with one line of what and the remedy. */
int place_prepare(const char *path, bool nonempty, struct buf *why);
/* Mounts of ours that nobody serves are taken away, by who holds the claim: there is no daemon to be seen but himself. */
int place_clear_dead(const char *path, struct buf *why);
/* Nothing is mounted there: looked at again, in the table only, by who holds the claim. */
int place_check_free(const char *path, struct buf *why);
/* umount(2), or fusermount3 for users; lazily on demand. -EBUSY when it is in use, -EINVAL when nothing is mounted. */
int place_unmount(const char *path, bool lazy, struct buf *why);

#endif
