/* attr: attributes in user metadata, as s3fs writes them: mode (decimal st_mode), uid, gid, mtime, ctime (seconds, with
 * nanoseconds after a point). Pure.
 *
 * Kinds: a symlink's object has its target as body; a fifo's, socket's or device's is empty, and its mode tells what it is. Which
 * device (rdev) s3fs writes nowhere: x-amz-meta-rdev, "major:minor" in decimal, is our own; one without it is device 0:0.
 *
 * Hostile metadata is data: setuid, setgid and sticky bits of files are stripped, setuid of directories too, ranges are checked, a
 * value that cannot be read counts as missing. A mode of a type that is none of these, of a directory where the key has no
 * slash at its end, or of a fifo, socket or device whose object has bytes, is one of a regular file: what is there can be read.
 * Names: x-amz-meta-mode, -uid, -gid, -mtime, -ctime, -rdev (bare here).
 */
#ifndef CACHE_ATTR_H
#define CACHE_ATTR_H

#include "cache/cache.h"

/* What a key looks like before its metadata is read. */
struct attr_defaults {
    uint32_t uid, gid, file_mode, dir_mode;
};

#define ATTR_DEVICE_MAX 16 /* "4095:1048575", with NUL */

/* Fifo, socket or device: nothing but its attributes. */
bool attr_is_special(uint32_t type);
bool attr_is_device(uint32_t type);

/* Fills all but number and nlink from an object; the type comes from mode, else from the key ("a/" is a directory). */
void attr_from_object(const struct store_object *object, const struct attr_defaults *defaults,
                      struct attributes *ret_attributes);
/* Sets mode, uid, gid, ctime, mtime when with_mtime, and rdev of a device that has one, in `meta`, leaving the other names alone. */
void attr_to_meta(const struct attributes *attributes, bool with_mtime, struct store_fields *meta);
/* "1700000000.123456789" or "1700000000" to ns, and back; -EINVAL. */
int attr_parse_time(const char *text, int64_t *ret_ns);
void attr_print_time(int64_t ns, char out[32]);
/* The nearest time that attr_parse_time() takes. */
int64_t attr_clamp_time(int64_t ns);
/* "8:1" to a number as the kernel's protocol has it (12 bits major, 20 bits minor), and back; -EINVAL. */
int attr_parse_device(const char *text, uint64_t *ret_device);
void attr_print_device(uint64_t device, char out[ATTR_DEVICE_MAX]);

#endif
