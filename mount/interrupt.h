/* interrupt: Ctrl-C, TERM and HUP for commands that work a while: they interrupt the waiter of the one that runs; a second signal ends the
 * process at once, with 1.
 *
 * Call interrupt_watch() before other threads are started, so that all of them leave the signals to the one that waits for them.
 */
#ifndef MOUNT_INTERRUPT_H
#define MOUNT_INTERRUPT_H

#include <stdbool.h>

#include "base/waiter.h"

/* From here on; NULL: nobody's. One that comes after a signal is interrupted at once. */
void interrupt_watch(struct waiter *waiter);
/* A signal has come. */
bool interrupt_seen(void);

#endif
