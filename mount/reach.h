/* reach: is a bucket there for these keys, and is it made where it is not. New keys of some services work only after a while: that is waited
 * out, for REACH_MS.
 */
#ifndef MOUNT_REACH_H
#define MOUNT_REACH_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/waiter.h"
#include "s3/credentials.h"

#define REACH_MS 90000

struct reach {
    const char *endpoint, *region, *bucket;
    bool path_style;
    struct keys *keys;
    struct waiter *waiter;
};

/* One key of it is listed. -ENOENT: the service says (404) that there is no such bucket; -EACCES: the keys work, and may not list it;
 * -ETIMEDOUT: the service does not know the keys after REACH_MS. */
int reach_bucket(const struct reach *reach, struct buf *why);
/* PUT /BUCKET. -EEXIST: it is somebody else's. */
int reach_make(const struct reach *reach, struct buf *why);

#endif
