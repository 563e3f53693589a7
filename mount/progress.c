#include "mount/progress.h"

#include <stdio.h>

#include "base/clock.h"
#include "mount/words.h"

#define QUIET_MS  3000 /* between lines */
#define RATING_MS 1000
#define BAR_WIDTH 24

void progress_init(struct progress *progress, const char *what, bool terminal)
{
    *progress = (struct progress){.what = what, .terminal = terminal, .started_ms = clock_ms()};
    progress->said_ms = progress->started_ms;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Of late counts for half: it calms down within a few seconds and follows a change as fast. */
static void rate(struct progress *progress, int64_t now_ms)
{
    int64_t took_ms = now_ms - progress->rated_ms;
    if (took_ms < RATING_MS)
        return;
    double now = (double)(progress->moved - progress->rated_bytes) * 1000.0 / (double)took_ms;
    progress->rate = progress->rate > 0 ? (progress->rate + now) / 2 : now;
    progress->rated_ms = now_ms;
    progress->rated_bytes = progress->moved;
}

void progress_look(struct progress *progress, int64_t now_ms, int64_t files, int64_t bytes, int64_t sent,
                   int64_t taken)
{
    if (!progress->files) {
        progress->sent_before = sent;
        progress->moved = progress->rated_bytes = taken;
        progress->rated_ms = now_ms;
    }
    if (files > progress->files)
        progress->files = files;
    if (bytes > progress->bytes)
        progress->bytes = bytes;
    int64_t gone = progress->bytes - bytes, moved = sent - progress->sent_before + taken;
    if (moved > progress->moved)
        progress->moved = moved;
    rate(progress, now_ms);
    int64_t done =
        clamp(gone > progress->moved ? gone : progress->moved, progress->done_bytes, progress->bytes);
    progress->done_bytes = clamp(done, 0, progress->bytes);
}

static void add_bar(const struct progress *progress, int64_t files, struct buf *out)
{
    double share = progress->bytes   ? (double)progress->done_bytes / (double)progress->bytes
                   : progress->files ? (double)(progress->files - files) / (double)progress->files
                                     : 1;
    int full = (int)(share * BAR_WIDTH);
    if (files && full == BAR_WIDTH)
        full--; /* all is on its way, and not all has been answered */
    buf_add_string(out, "  [");
    for (int i = 0; i < BAR_WIDTH; i++)
        buf_add_char(out, i < full ? '#' : '.');
    buf_add_string(out, "]  ");
}

static void add_time(int64_t seconds, struct buf *out)
{
    if (seconds < 120)
        buf_printf(out, ", %lld s left", (long long)seconds);
    else if (seconds < 7200)
        buf_printf(out, ", %lld min left", (long long)seconds / 60);
    else
        buf_printf(out, ", %lld h left", (long long)seconds / 3600);
}

void progress_print(const struct progress *progress, int64_t files, int64_t bytes, bool bar, struct buf *out)
{
    const double mib = 1 << 20;
    buf_add_string(out, progress->what);
    if (bar)
        add_bar(progress, files, out);
    else
        buf_add_string(out, ": ");
    buf_printf(out, "%lld of %lld files, %.1f of %.1f MiB", (long long)(progress->files - files),
               (long long)progress->files, (double)progress->done_bytes / mib, (double)progress->bytes / mib);
    if (progress->rate >= 1) {
        int64_t left = progress->bytes - progress->done_bytes;
        buf_printf(out, ", %.1f MiB/s", progress->rate / mib);
        add_time((int64_t)((double)(left < bytes ? left : bytes) / progress->rate), out);
    }
}

static int64_t number(const struct json *object, const char *name)
{
    int64_t value = 0;
    json_get_integer(object, name, &value);
    return value;
}

/* Once: who waits decides for how long. */
static void tell_trouble(struct progress *progress, const struct json *status)
{
    const struct json *first = json_at(json_get(status, "unsent"), 0);
    int64_t parked = number(status, "parked");
    const char *why = json_get_string(first, "why");
    if (!parked || !why || progress->troubled)
        return;
    progress->troubled = true;
    progress_end(progress);
    words_say("%lld files have failed so far, such as %s: %s", (long long)parked,
              json_get_string(first, "key"), why);
}

void progress_show(struct progress *progress, const struct json *status)
{
    int64_t now = clock_ms(), files = number(status, "unsent_files"), bytes = number(status, "unsent_bytes");
    tell_trouble(progress, status);
    progress_look(progress, now, files, bytes, number(status, "sent_bytes"), number(status, "taken_bytes"));
    if (!progress->terminal && now - progress->said_ms < QUIET_MS)
        return;
    progress->said_ms = now;
    BUF_SCOPED line = BUF_INIT, shown = BUF_INIT;
    progress_print(progress, files, bytes, progress->terminal, &line);
    if (!progress->terminal) {
        words_say("%s", line.bytes);
        return;
    }
    words_escape(&shown, line.bytes, line.length);
    fprintf(stderr, "\r%s\033[K", shown.bytes);
    fflush(stderr);
    progress->drawn = true;
}

void progress_end(struct progress *progress)
{
    if (progress->drawn)
        fputs("\r\033[K", stderr);
    progress->drawn = false;
}
