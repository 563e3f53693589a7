/* source: what is mounted, as the user says it: bucket, bucket:prefix, s3://bucket/prefix. Pure.
 *
 * Prefix: leading and double slashes are folded, a slash stands at its end, `.` and `..` components are
 * refused, as are control characters. Bucket names: 3 to 63 of a-z 0-9 . - (also A-Z and _ up to 255, which
 * old buckets have).
 */
#ifndef MOUNT_SOURCE_H
#define MOUNT_SOURCE_H

#include "base/buf.h"

/* Both malloc'ed. -EINVAL with one line in `why`. */
int source_parse(const char *text, char **ret_bucket, char **ret_prefix, struct buf *why);

/* Each alone, by the same rules. */
int source_check_bucket(const char *bucket, struct buf *why);
int source_parse_prefix(const char *text, char **ret_prefix, struct buf *why);

#endif
