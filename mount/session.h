/* session: one mount from its first contact to its end: builds the rooms from below, runs them, ends them from above.
 *
 *      check mount point -> (background) -> signals -> claim -> rooms: store, access, home (handover.h) -> socket -> mount -> cache
 *          -> serve ... umount -> lingers: sends what is unsent, as long as it takes -.
 *                   ... TERM, INT, HUP -> sends, as long as stop_timeout allows ------+-> last words -> all freed
 *                              "yield" of a new mount: sends no more -----------------'
 *
 * What is still unsent at the end stays in the home, where the next mount goes on with it; it is named in the log and in the
 * answer to `skyvol umount`, and the exit status is 1. One that lingers ends also when no further try will send what is left.
 * Signals: TERM, INT, HUP end it at any time, a second one after a second ends the sending; USR2 toggles the log between its level
 * and debug.
 */
#ifndef MOUNT_SESSION_H
#define MOUNT_SESSION_H

#include "mount/daemon.h"
#include "mount/settings.h"

/* The exit status of the process. Says by `daemon` when it is usable, or why not. */
int session_run(struct settings *settings, struct daemon *daemon);

#endif
