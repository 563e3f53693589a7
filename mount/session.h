/* session: one mount from its first contact to its end: builds the rooms from below, runs them, ends them from above.
 *
 *      check mount point -> (background) -> signals -> claim -> credentials -> store -> LIST proves access -> home
 *          -> socket -> mount -> cache -> serve ... umount | SIGTERM | SIGINT -> send what is unsent (stop_timeout) -> all freed
 *
 * What is still unsent at the end stays in the home; it is named in the log, in the answer to `skyvol umount`, and in
 * unsent.json beside the files, and the exit status is 1.
 * Signals: TERM, INT, HUP end it at any time, a second one ends the sending; USR2 toggles the log between its level and debug.
 */
#ifndef MOUNT_SESSION_H
#define MOUNT_SESSION_H

#include "mount/daemon.h"
#include "mount/settings.h"

/* The exit status of the process. Says by `daemon` when it is usable, or why not. */
int session_run(struct settings *settings, struct daemon *daemon);

#endif
