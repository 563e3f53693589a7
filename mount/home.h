/* home: the directory on this host where one mount keeps its local bytes.
 *
 *      /var/lib/skyvol (root) or $XDG_STATE_HOME/skyvol        below it, one directory per mount, named by a hash of
 *        `- 3f2a.../                                           machine-id, endpoint, bucket, prefix and mount point
 *             |- lock                                          flock: one holder
 *             `- session-PID-TIME/                             local files of one run; left behind only with unsent bytes
 *
 * Sessions of earlier runs that still hold files are never touched: they are named, once, when a mount starts.
 */
#ifndef MOUNT_HOME_H
#define MOUNT_HOME_H

#include "base/buf.h"
#include "base/disk.h"
#include "mount/settings.h"

struct home {
    char *path;
    char *session; /* name of the session's directory in path */
    struct disk *disk;
    int lock;
};

/* -EBUSY: another daemon holds it (`why` names it); else -errno with a line. Earlier sessions with files go to `warnings`. */
int home_open(const struct settings *settings, struct home *ret_home, struct buf *why, struct buf *warnings);
/* Closes; removes the session's directory when it is empty. */
void home_close(struct home *home);

#endif
