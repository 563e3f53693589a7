/* toml: reading TOML files. Its one source is the home of toml++ (C++ behind a C door).
 *
 * Errors: -ENOENT and other -errno of reading the file; -EBADMSG with "FILE:LINE: what" in `why`.
 */
#ifndef MOUNT_TOML_H
#define MOUNT_TOML_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct buf;

/* Calls each() for every plain value (string, integer, real, boolean as "yes"/"no") of the named top-level
 * table, in the order of lines. each returns 0 to go on. A value of another kind (array, table, date) is
 * -EBADMSG. A missing table is 0. */
int toml_each(const char *path, const char *table,
              int (*each)(void *context, const char *name, const char *value, int line), void *context,
              struct buf *why);

#ifdef __cplusplus
}
#endif

#endif
