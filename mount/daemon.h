/* daemon: going into the background, and telling the command in the foreground how it went.
 *
 *      command: daemon_start() --fork--> waits for the word, prints it, exits with its code
 *      monitor:                             --fork--> passes the word on, watches the daemon (monitor.h)
 *      daemon:  daemon_start() returns 0; ... daemon_ready() | daemon_failed() once
 *
 * Call it before any thread is made. With `foreground` nothing is forked and the words go to stderr.
 * A daemon that dies without a word is reported as such. A command that is ended (Ctrl-C) before the word takes both along:
 * SIGTERM comes at once, and daemon_ready fails. Words are lines without "skyvol: " and without an end.
 */
#ifndef MOUNT_DAEMON_H
#define MOUNT_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buf.h"
#include "mount/settings.h"

struct daemon {
    int channel;   /* to the monitor; -1: in the foreground, or told already */
    pid_t monitor; /* 0: none */
    bool again;    /* in the place of one that died: its dead mount is there */
};

/* The first byte of the word. */
enum { DAEMON_READY = 'R', DAEMON_FAILED = 'F' };

/* Returns in the daemon (0), or in the foreground; the others exit within it. -errno when fork fails. The settings are the
 * caller's, for as long as the process lives. */
int daemon_start(struct daemon *daemon, const struct settings *settings);
/* The mount is usable: the command prints `words` (may be "") to stderr and exits 0. The daemon lets its terminal go.
 * -EPIPE: nobody heard it, and nobody wants the mount. */
int daemon_ready(struct daemon *daemon, const char *words);
/* It is not: the command prints `words` and exits 1. */
void daemon_failed(struct daemon *daemon, const char *words);
/* Its monitor's pid; 0: it has none, or none any more. */
pid_t daemon_monitor(const struct daemon *daemon);

/* For both sides of a fork. Dies with SIGTERM when `parent` does, until daemon_outlive(). */
void daemon_follow(pid_t parent);
void daemon_outlive(void);
/* "/" and /dev/null in the place of what the command had. */
void daemon_detach(void);
/* All of a word: until its writer closes. Returns its length. */
size_t daemon_read_word(int channel, struct buf *word);
int daemon_write_word(int channel, char kind, const char *words);

#endif
