#include "mount/logging.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "mount/words.h"

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

/* ---- Its end. ---- */

/* The log as a plain file, and how long it is; -1: it is none. */
static int open_file(const struct settings *settings, int64_t *ret_length)
{
    struct stat status;
    const char *target = settings->log_target;
    if (!target || target[0] != '/')
        return -1;
    int file = open(target, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    if (file >= 0 && fstat(file, &status) == 0 && S_ISREG(status.st_mode)) {
        *ret_length = status.st_size;
        return file;
    }
    if (file >= 0)
        close(file);
    return -1;
}

int64_t logging_length(const struct settings *settings)
{
    int64_t length = 0;
    int file = open_file(settings, &length);
    if (file >= 0)
        close(file);
    return length;
}

/* Returns how many bytes were read at `from`. */
static size_t read_all(int file, char *bytes, size_t size, int64_t from)
{
    size_t used = 0;
    while (used < size) {
        ssize_t got = pread(file, bytes + used, size - used, from + (int64_t)used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    return used;
}

/* Where the last lines begin; the last one may lack its newline. */
static size_t find_last_lines(const char *bytes, size_t length)
{
    size_t at = length;
    for (int lines = 0; at > 0; at--)
        if (bytes[at - 1] == '\n' && at < length && ++lines == LOGGING_END_LINES)
            break;
    return at;
}

void logging_end(const struct settings *settings, int64_t from, struct buf *out)
{
    char bytes[LOGGING_END_BYTES];
    int64_t length;
    int file = open_file(settings, &length);
    if (file < 0)
        return;
    bool cut = from < length - LOGGING_END_BYTES;
    size_t used = read_all(file, bytes, sizeof bytes, cut ? length - LOGGING_END_BYTES : from);
    close(file);
    const char *begin = cut ? memchr(bytes, '\n', used) : NULL; /* the rest of a line is none */
    size_t at = begin ? (size_t)(begin - bytes) + 1 : 0;
    at += find_last_lines(bytes + at, used - at);
    while (at < used) {
        const char *end = memchr(bytes + at, '\n', used - at);
        size_t line = end ? (size_t)(end - bytes) - at : used - at;
        buf_add_char(out, '\n');
        words_escape(out, bytes + at, line);
        at += line + 1;
    }
}
