#define SD_JOURNAL_SUPPRESS_LOCATION
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"

/* With its newline at most what a pipe takes in one piece (PIPE_BUF), so that lines of several processes never mix. */
#define LINE_MAX_BYTES 4096
#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static const struct {
    const char *name;
    int priority; /* of syslog(3) */
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", LOG_ERR},   [LOG_LEVEL_WARN] = {"warn", LOG_WARNING},
    [LOG_LEVEL_INFO] = {"info", LOG_INFO},    [LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
    [LOG_LEVEL_TRACE] = {"trace", LOG_DEBUG},
};

static atomic_int level_now = LOG_LEVEL_INFO;

/* A plain mutex, not a struct lock: a line may be written under any lock, also a leaf. Nothing is taken under it. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* Under mutex: */
static enum log_target target_now = LOG_TO_STDERR;
static int file_now = -1; /* LOG_TO_FILE */
static void (*tap_heard)(void *context, enum log_level level, const char *line);
static void *tap_context;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

enum log_level log_level(void)
{
    return (enum log_level)atomic_load_explicit(&level_now, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return level <= log_level();
}

int log_parse_level(const char *text, enum log_level *ret_level)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(text, levels[i].name) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

int log_open(enum log_target target, const char *path)
{
    int file = -1;
    if (target == LOG_TO_FILE) {
        file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
        if (file < 0)
            return -errno;
    }
    if (target == LOG_TO_JOURNAL && access(JOURNAL_SOCKET, W_OK) < 0)
        return -errno;
    if (target == LOG_TO_SYSLOG)
        openlog("skyvol", LOG_PID | LOG_NDELAY, LOG_DAEMON);
    pthread_mutex_lock(&mutex);
    int old = file_now;
    file_now = file;
    target_now = target;
    pthread_mutex_unlock(&mutex);
    if (old >= 0)
        close(old);
    return 0;
}

void log_tap(void (*heard)(void *context, enum log_level level, const char *line), void *context)
{
    pthread_mutex_lock(&mutex);
    tap_heard = heard;
    tap_context = context;
    pthread_mutex_unlock(&mutex);
}

/* How many bytes at `text` may stand in a line as they are; 0: the first byte must be escaped. */
static size_t measure_printable(const char *text, size_t length)
{
    uint32_t code;
    size_t size = utf8_decode(text, length, &code);
    if (size == 0 || code < 0x20 || (code >= 0x7f && code < 0xa0))
        return 0;
    return size;
}

/* Copies with \xNN for control characters (C1 too: terminals obey them) and for what is no UTF-8. Returns the length;
 * what does not fit ends in "...". */
static size_t escape_line(const char *text, char *out, size_t size)
{
    size_t used = 0;
    for (size_t left = strlen(text); left;) {
        size_t step = measure_printable(text, left);
        size_t needed = step ? step : 4;
        if (used + needed + 4 > size) { /* "..." and NUL always fit */
            memcpy(out + used, "...", 3);
            used += 3;
            break;
        }
        if (step)
            memcpy(out + used, text, step);
        else
            snprintf(out + used, 5, "\\x%02x", (unsigned char)*text);
        used += needed;
        text += step ? step : 1;
        left -= step ? step : 1;
    }
    out[used] = '\0';
    return used;
}

static void write_stamped(int file, enum log_level level, const char *line)
{
    char stamped[LINE_MAX_BYTES + 64];
    int64_t now_ns = clock_wall_ns();
    time_t seconds = (time_t)(now_ns / 1000000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t used = strftime(stamped, sizeof(stamped), "%Y-%m-%dT%H:%M:%S", &tm);
    int size = snprintf(stamped + used, sizeof(stamped) - used, ".%03dZ %-5s %s\n",
                        (int)(now_ns / 1000000 % 1000), levels[level].name, line);
    ssize_t written;
    do { /* a log that cannot be written has nowhere to complain */
        written = write(file, stamped, used + (size_t)size);
    } while (written < 0 && errno == EINTR);
}

static void emit_locked(enum log_level level, const char *line)
{
    if (tap_heard)
        tap_heard(tap_context, level, line);
    switch (target_now) {
    case LOG_TO_STDERR:
        write_stamped(STDERR_FILENO, level, line);
        break;
    case LOG_TO_FILE:
        write_stamped(file_now, level, line);
        break;
    case LOG_TO_SYSLOG:
        syslog(levels[level].priority, "%s", line);
        break;
    case LOG_TO_JOURNAL:
        sd_journal_send("MESSAGE=%s", line, "PRIORITY=%d", levels[level].priority, "SYSLOG_IDENTIFIER=skyvol",
                        NULL);
        break;
    }
}

void log_line(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    int saved = errno;
    char raw[LINE_MAX_BYTES];
    char line[LINE_MAX_BYTES - 64]; /* 64: the time and the level */
    va_list list;
    va_start(list, format);
    vsnprintf(raw, sizeof(raw), format, list);
    va_end(list);
    escape_line(raw, line, sizeof(line));
    pthread_mutex_lock(&mutex);
    emit_locked(level, line);
    pthread_mutex_unlock(&mutex);
    errno = saved;
}
