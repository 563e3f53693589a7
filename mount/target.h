/* target: what a word of the user names: a mount, something below it, or a cache directory that nobody mounts.
 *
 *      /data              a mount, or a place whose daemon still sends           TARGET_DAEMON, below ""
 *      /data/a/b          what is below a mount                                  TARGET_DAEMON, below "a/b"
 *      /var/lib/skyvol/X  a cache directory: of who holds it, mounted or not     TARGET_DAEMON, or TARGET_CACHE
 *
 * The walk looks at no file below a mount of ours, so that one that hangs holds nobody; `..` is taken by its name there.
 */
#ifndef MOUNT_TARGET_H
#define MOUNT_TARGET_H

#include "base/buf.h"
#include "mount/place.h"

enum target_kind { TARGET_DAEMON, TARGET_CACHE };

struct target {
    enum target_kind kind;
    enum place_state state;   /* of DAEMON */
    struct place_mount mount; /* of DAEMON; found is false when it was unmounted */
    char *path;               /* the mount point, or the cache directory */
    char *door;               /* of DAEMON: control_connect() */
    char *cache_dir;          /* the one that was named, also when it is a daemon's; else NULL */
    char *below;              /* the path below it; "" for all */
};

#define TARGET_NONE ((struct target){.path = NULL})

/* What is at a mount point, or was and may still send. */
void target_look(const char *mount_point, struct target *ret_target);
/* -ENOENT, -ENOTDIR ... with a line of what and the remedy in `why`. */
int target_find(const char *text, struct target *ret_target, struct buf *why);
/* Goes on to `path` below it ("a/../b" is "b"); -EINVAL: it leads out. */
int target_enter(struct target *target, const char *path, struct buf *why);
void target_release(struct target *target);

#endif
