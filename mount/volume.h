/* volume: one line of what a user wants: this bucket (below this prefix) appears there. Pure.
 *
 *      bucket     text            checked by the rule of who serves it (provider.h, or S3's where it has a storage)
 *      mount      absolute path   normalised: `//`, `/./` and a trailing slash go; `..`, system paths and control characters are refused
 *      prefix     text            "" or with the slash at its end; leading and double slashes are folded, `.` and `..` refused
 *      read_only  yes or no       yes when not said
 *      storage    storage         NULL: the provider supplies endpoint and credentials
 *      options    -o text         of the mount that serves it (durability=...); "" when not said
 *
 * All that is wrong with all volumes is said at once, a line each: where it was said, and what.
 */
#ifndef MOUNT_VOLUME_H
#define MOUNT_VOLUME_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "mount/storage.h"

struct volume {
    char *bucket, *mount, *prefix, *options;
    bool read_only;
    const struct storage *storage; /* the configuration's, or NULL */
    bool bucket_said, mount_said;  /* also where what was said was refused: then it is not missing */
    char *where;                   /* "skyward.toml:12", "--volume 2" */
};

void volume_init(struct volume *volume, const char *where);
void volume_release(struct volume *volume);
int volume_set(struct volume *volume, const char *field, const char *value, struct buf *why);
/* "bucket=B,mount=/data,prefix=p/,rw": a backslash keeps the next character; ro, rw and options= too. */
int volume_parse(struct volume *volume, const char *text, struct buf *why);
/* Malloc'ed: without `//`, `/./` and a trailing slash. NULL: it is not absolute, or has `..`. */
char *volume_normalise(const char *path);
/* Each for itself, and all beside one another; mounts and prefixes are normalised: one mount twice, one within another, the base of mounts. -EINVAL. */
int volumes_check(struct volume *volumes, size_t count, const char *base, struct buf *why);

#endif
