/* helper: /sbin/mount.skyvol, as mount(8) calls it for `mount -t skyvol` and for lines of fstab:
 *
 *      mount.skyvol SOURCE DIR [-fnrsvwh] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]
 *
 *      -f  check all, mount nothing      -n  (no mtab: nothing to do)      -r -w  ro, rw
 *      -s  options that are unknown are passed over, and said              -v  say what is done
 *
 * Options mean what they mean in `skyvol mount`. `remount` changes ro and rw of a mount that stands, nothing else: the kernel refuses
 * writes then, and what is unsent goes on being sent. One that was mounted read-only has no journal open, and stays so.
 *
 * Exit status, as mount(8): 0 done, 1 wrong words, 2 the system (no right, no memory), 32 the mount failed.
 */
#ifndef MOUNT_HELPER_H
#define MOUNT_HELPER_H

#include "base/buf.h"

int helper_main(int count, char **words);

enum helper_remount { HELPER_NO_REMOUNT, HELPER_REMOUNT_AS_IT_IS, HELPER_REMOUNT_RO, HELPER_REMOUNT_RW };

/* What of fstab's or the command line's options is for `skyvol mount`: without what the kernel told mount(8) of a mount that stands
 * (user_id=, fd= ...), and, where sloppy, without what nobody knows (named in `dropped`). Tells what a remount asks for. */
enum helper_remount helper_options(const char *list, bool sloppy, struct buf *ret_options,
                                   struct buf *ret_dropped);

#endif
