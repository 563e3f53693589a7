/* daemon: going into the background, and telling the command in the foreground how it went.
 *
 *      parent: daemon_start() --fork--> waits for the child's word, prints it, exits with its code
 *      child:  daemon_start() returns 0; ... daemon_ready() | daemon_failed() once
 *
 * Call it before any thread is made. With `foreground` nothing is forked and the words go to stderr.
 * A child that dies without a word is reported as such. A parent that is ended (Ctrl-C) before the child's word takes the
 * child along: SIGTERM comes at once, and daemon_ready fails. Words are lines without "skyvol: " and without an end.
 */
#ifndef MOUNT_DAEMON_H
#define MOUNT_DAEMON_H

#include <stdbool.h>

struct daemon {
    int channel; /* -1: in the foreground, or told already */
};

/* Returns in the child (0), or in the foreground; the parent exits within it. -errno when fork fails. */
int daemon_start(struct daemon *daemon, bool foreground);
/* The mount is usable: the parent prints `words` (may be "") to stderr and exits 0. The child lets its terminal go.
 * -EPIPE: nobody heard it, and nobody wants the mount. */
int daemon_ready(struct daemon *daemon, const char *words);
/* It is not: the parent prints `words` and exits 1. */
void daemon_failed(struct daemon *daemon, const char *words);

#endif
