/* dying: a daemon that was killed and cannot go: one of its threads told the kernel to forget something, waits in there for the
 * lock of a directory, and who holds that waits for the daemon's answer. The connection ends with its last thread, and its last
 * thread with the connection: so somebody else has to cut it.
 *
 * Seen by: the first thread of the process is a zombie, and the process is still there. One that was killed a moment ago looks dying
 * before that: SIGKILL is on its way to it, or it is exiting. Cut by umount(2) with MNT_FORCE (root), or
 * the connection's `abort` in /sys/fs/fuse/connections (its owner, where that is mounted).
 * Used by the monitor, and by whoever wants to mount, unmount or judge the place.
 */
#ifndef MOUNT_DYING_H
#define MOUNT_DYING_H

#include <stdbool.h>
#include <sys/types.h>

bool dying_is(pid_t pid);
/* The connection of what is mounted at `path` is cut: all who wait for it hear ENOTCONN. 0, -errno. */
int dying_cut(const char *path);

#endif
