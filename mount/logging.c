#include "mount/logging.h"

#include <string.h>

#include "base/err.h"
#include "base/log.h"

int logging_open(const struct settings *settings, struct buf *why)
{
    const char *target = settings->log_target;
    int rc = 0;
    log_set_level((enum log_level)settings->log_level);
    if (!target && settings->foreground)
        return 0;
    if (!target) {
        if (log_open(LOG_TO_JOURNAL, NULL) < 0)
            log_open(LOG_TO_SYSLOG, NULL);
        return 0;
    }
    if (strcmp(target, "stderr") == 0)
        rc = log_open(LOG_TO_STDERR, NULL);
    else if (strcmp(target, "syslog") == 0)
        rc = log_open(LOG_TO_SYSLOG, NULL);
    else if (strcmp(target, "journal") == 0)
        rc = log_open(LOG_TO_JOURNAL, NULL);
    else
        rc = log_open(LOG_TO_FILE, target);
    if (rc < 0)
        buf_printf(why, "log=%s: %s", target, err_text(rc));
    return rc;
}
