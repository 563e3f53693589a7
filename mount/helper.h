/* helper: /sbin/mount.skyvol, as mount(8) calls it for `mount -t skyvol` and for lines of fstab:
 *
 *      mount.skyvol SOURCE DIR [-fnrsvwh] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]
 *
 *      -f  check all, mount nothing      -n  (no mtab: nothing to do)      -r -w  ro, rw
 *      -s  options that are unknown are passed over, and said              -v  say what is done
 *
 * Options mean what they mean in `skyvol mount`; `remount` is remount.h's.
 *
 * Exit status, as mount(8): 0 done, 1 wrong words, 2 the system (no right, no memory), 32 the mount failed.
 */
#ifndef MOUNT_HELPER_H
#define MOUNT_HELPER_H

#include "base/buf.h"
#include "mount/remount.h"

int helper_main(int count, char **words);

/* What of fstab's or the command line's options is for `skyvol mount`: without what the kernel told mount(8) of a mount that stands
 * (user_id=, fd= ...), and, where sloppy, without what nobody knows (named in `dropped`). Tells what a remount asks for. */
enum remount helper_options(const char *list, bool sloppy, struct buf *ret_options, struct buf *ret_dropped);

#endif
