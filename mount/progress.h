/* progress: how far an upload is that somebody waits for: a bar that is drawn over itself on a terminal, else a line every few
 * seconds; always on stderr.
 *
 *      /data  [#########.....]  3 of 10 files, 120 of 512 MiB, 35.0 MiB/s, 11 s left
 *
 * What counts is what is left; what was done is what has gone since the first look, or was sent since then or is beyond the network in
 * requests on their way. It never goes back (one of these that is repeated is waited for), and never beyond the whole.
 */
#ifndef MOUNT_PROGRESS_H
#define MOUNT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"

struct progress {
    const char *what; /* the caller's */
    bool terminal;
    bool troubled; /* it has been said that something fails */
    bool drawn;    /* a bar stands in the last line of the terminal */
    int64_t started_ms, said_ms;
    int64_t files, bytes; /* in all, as far as is known */
    int64_t sent_before;  /* sent_bytes at the first look */
    int64_t moved;        /* the most that was sent since, with what was on its way then */
    double rate;          /* bytes a second, of late */
    int64_t rated_ms, rated_bytes;
    int64_t done_bytes;
};

void progress_init(struct progress *progress, const char *what, bool terminal);
/* `status` has unsent_files, unsent_bytes, sent_bytes, taken_bytes (unsent_report). Draws, or says a line when it is time for one. */
void progress_show(struct progress *progress, const struct json *status);
/* Takes the bar away: others write to the terminal now. */
void progress_end(struct progress *progress);

/* For tests: takes the facts in, and adds the line. */
void progress_look(struct progress *progress, int64_t now_ms, int64_t files, int64_t bytes, int64_t sent,
                   int64_t taken);
void progress_print(const struct progress *progress, int64_t files, int64_t bytes, bool bar, struct buf *out);

#endif
