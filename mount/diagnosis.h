/* diagnosis: what a failed first contact means, in one line with the remedy. Pure.
 *
 *      name, route, port | TLS | clock | keys | rights | region | bucket | not S3 | slow
 */
#ifndef MOUNT_DIAGNOSIS_H
#define MOUNT_DIAGNOSIS_H

#include "base/buf.h"
#include "mount/settings.h"
#include "s3/store.h"

/* Adds one line, without its newline, for a failed LIST of the prefix. */
void diagnosis_access(const struct settings *settings, int rc, const struct store_error *error,
                      struct buf *why);

#endif
