/* remount: what `mount -o remount,...` changes of a mount that stands: ro and rw, nothing else.
 *
 *      ro    the kernel refuses writes first (-EBUSY while a file is open for writing), then the daemon hears of it and publishes the rest
 *      rw    the daemon is asked first: one that was mounted read-only has no journal open, and stays so
 *
 * A daemon that is started again finds out from its dead mount (session.c).
 */
#ifndef MOUNT_REMOUNT_H
#define MOUNT_REMOUNT_H

#include "base/buf.h"
#include "base/json.h"

enum remount { REMOUNT_NOT, REMOUNT_AS_IT_IS, REMOUNT_RO, REMOUNT_RW };

struct remount_words {
    const char *directory;
    const char *options; /* the other ones: they must be as they are */
    enum remount asked;
    bool check_only;
};

/* 0; -EPERM: no right to; another -errno: it stays as it was. What is wrong has been said. */
int remount_run(const struct remount_words *said);
/* Names, "a, b", of the options in `list` whose value is another one than in `present` (name to text, as a status tells them).
 * -EINVAL with `why`: they are no options. Pure. */
int remount_compare(const char *list, const struct json *present, struct buf *ret_names, struct buf *why);

#endif
