/* logging: where the log of a mount goes, as its options say: a file, stderr, syslog, the journal; in the background with nothing
 * said the journal, else syslog.
 */
#ifndef MOUNT_LOGGING_H
#define MOUNT_LOGGING_H

#include <stdint.h>

#include "base/buf.h"
#include "mount/settings.h"

#define LOGGING_END_LINES 5
#define LOGGING_END_BYTES 8192 /* how far back is looked for them */

int logging_open(const struct settings *settings, struct buf *why);
/* How much the log's file holds already; 0: nothing, or the log goes elsewhere. */
int64_t logging_length(const struct settings *settings);
/* Adds the last lines of what came into the log's file behind `from`, each with a newline before it, and control characters as \xNN: for a
 * person (no secret is in a log, log.h). Nothing where the log goes elsewhere, or cannot be read. */
void logging_end(const struct settings *settings, int64_t from, struct buf *out);

#endif
