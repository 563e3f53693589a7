/* attr: attributes in user metadata, as s3fs writes them: mode (decimal st_mode), uid, gid, mtime, ctime (seconds, with
 * nanoseconds after a point). Pure.
 *
 * Hostile metadata is data: setuid, setgid and sticky bits of foreign objects are stripped, ranges are checked, a value
 * that cannot be read counts as missing. Names: x-amz-meta-mode, -uid, -gid, -mtime, -ctime (bare here).
 */
#ifndef CACHE_ATTR_H
#define CACHE_ATTR_H

#include "cache/cache.h"

/* What a key looks like before its metadata is read. */
struct attr_defaults {
    uint32_t uid, gid, file_mode, dir_mode;
};

/* Fills all but number and nlink from an object; the type comes from mode, else from the key ("a/" is a directory). */
void attr_from_object(const struct store_object *object, const struct attr_defaults *defaults,
                      struct attributes *ret_attributes);
/* Sets mode, uid, gid, ctime, and mtime when with_mtime, in `meta`, leaving the other names alone. */
void attr_to_meta(const struct attributes *attributes, bool with_mtime, struct store_fields *meta);
/* "1700000000.123456789" or "1700000000" to ns, and back; -EINVAL. */
int attr_parse_time(const char *text, int64_t *ret_ns);
void attr_print_time(int64_t ns, char out[32]);

#endif
