/* home: the directory on this host where one mount keeps what is unsent.
 *
 *      /var/lib/skyvol (root) or $XDG_STATE_HOME/skyvol        below it, one directory per mount, named by a hash of
 *        `- 3f2a.../                                           machine-id, endpoint, bucket, prefix and mount point
 *             |- lock                                          flock: one holder
 *             |- mount.json                                    the options of the last mount: how to reach its source again
 *             `- state/                                        the cache's own: journal and local files
 *
 * cache_dir= puts it elsewhere; then it is noted beside the default ones (elsewhere.h) until it ends with nothing unsent.
 * It outlives mounts: what one leaves unsent the next one sends. It is of one source: another endpoint, bucket or prefix may take it
 * over when nothing in it is unsent, and is refused with words otherwise.
 */
#ifndef MOUNT_HOME_H
#define MOUNT_HOME_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/disk.h"
#include "cache/cache.h"
#include "mount/settings.h"

struct home {
    char *path;
    char *source;      /* "endpoint bucket prefix": whose changes it holds */
    struct disk *disk; /* state/ */
    int lock;
    char *noted; /* its path as elsewhere.h knows it; NULL: it stands in the default place */
    bool clean;  /* nothing unsent is left: set by who ends it */
};

/* -EBUSY: another daemon holds it (`why` names it); -EXDEV: it holds unsent changes of another source; else -errno with a line.
 * Unsent changes of the same source that wait in another directory go to `warnings`. */
int home_open(const struct settings *settings, struct home *ret_home, struct buf *why, struct buf *warnings);
void home_close(struct home *home);

/* For commands that look at homes that nobody mounts. The directory in which the default ones stand; malloc'ed, or NULL. */
char *home_base(void);
/* The settings that mount.json of the cache directory `path` tells; cache_dir is `path`. -ENOENT: it is no cache directory;
 * settings_release() after any outcome. */
int home_recall(const char *path, struct settings *ret_settings, struct buf *why);
/* Where to reach who holds the home that these settings would open, for the same source: at his mount point, or, if he has none, at
 * home_door(). Both malloc'ed; false: nobody that could let it go. */
bool home_holder(const struct settings *settings, char **ret_mount_point, char **ret_door);
/* Somebody has it open, or looks at it at this moment. ret_pid (may be NULL): his, if he opened it; else stale, or 0. */
bool home_held(const char *path, pid_t *ret_pid);
/* In the place of a mount point, for claim.h and control.h: who has the home at `path` open without a mount. Malloc'ed. */
char *home_door(const char *path);
/* Each unsent change that waits there, as cache_look(); errors as home_look(). */
int home_look_each(const char *path, cache_unsent_each *each, void *context, struct buf *why);
/* Each name in the default place, whatever it is. */
void home_each_default(void (*each)(void *context, const char *path), void *context);
/* Each one of this user that cache_dir= put elsewhere and that may hold unsent changes. It may be gone. */
void home_each_elsewhere(void (*each)(void *context, const char *path), void *context);
/* The same does not tell of it any more, unless somebody has it open or something unsent waits in it. */
void home_forget(const char *path);
/* How many unsent changes wait there, and of which source (malloc'ed, NULL: none ever). Changes nothing. -EBUSY: a daemon holds it. */
int home_look(const char *path, size_t *ret_unsent, char **ret_source, struct buf *why);

#endif
