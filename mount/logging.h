/* logging: where the log of a mount goes, as its options say: a file, stderr, syslog, the journal; in the background with nothing
 * said the journal, else syslog.
 */
#ifndef MOUNT_LOGGING_H
#define MOUNT_LOGGING_H

#include "base/buf.h"
#include "mount/settings.h"

int logging_open(const struct settings *settings, struct buf *why);

#endif
