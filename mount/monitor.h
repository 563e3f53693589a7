/* monitor: the daemon's parent: a small process that starts the daemon again when it dies.
 *
 *      STARTING --ready--> WATCHING --exit--> gone (also: killed, and its mount is not there any more)
 *         | ^                  | killed by a signal, and its dead mount is still there
 *         | |                  v
 *         | '--in a moment-- RESTING: at most MONITOR_STARTS in MONITOR_WINDOW_MS; the next death ends it
 *         '---failed again-----^   (a try that fails, as without a network, is made again later, without end)
 *
 * The dead mount stays until the new daemon has reached the bucket, so that nobody writes below it meanwhile. Who unmounted is not
 * remounted: a daemon that is killed while it lingers is only named in the log; the next mount sends what it had.
 * Of one that dies before it was ever ready the command is told how, and the last lines of its log, where that is a file.
 * Signals: TERM, INT, HUP and USR2 are passed on; after the first three nothing is started again. Killed, it harms nobody: the
 * daemon goes on, with no monitor. It has no threads, and opens the log only to say something.
 */
#ifndef MOUNT_MONITOR_H
#define MOUNT_MONITOR_H

#include "mount/daemon.h"

#define MONITOR_STARTS    3
#define MONITOR_WINDOW_MS 300000
#define MONITOR_SOON_MS   100
#define MONITOR_LATER_MS  20000

/* Returns in each daemon; the process that called it becomes the monitor, and ends within. `command`: where the first word goes. */
void monitor_run(int command, const struct settings *settings, struct daemon *daemon);

/* When it may be started again: after `delay_ms`, and not more often than said above. `starts`: the last ones, 0: none. Pure. */
int64_t monitor_next(const int64_t starts[MONITOR_STARTS], int64_t now_ms, int64_t delay_ms);

#endif
