/* claim: the right of one daemon on this host to serve one mount point, and where its control socket stands.
 *
 *      /run/skyvol (root), /run/user/UID/skyvol, else /tmp/skyvol-UID       the owner's, 0700: nothing of the environment
 *        |- HASH.lock     locked from before the first contact until the end: its pid
 *        `- HASH.sock     the control socket (control.h)                     HASH from the mount point
 *
 * A lock on the open file (F_OFD_SETLK): it ends with the process, however that ends, and a daemon that is stopped or hangs
 * holds it still. Looking at it takes nothing.
 */
#ifndef MOUNT_CLAIM_H
#define MOUNT_CLAIM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

#define CLAIM_PLACES 2

struct claim {
    char *socket_path;
    char *lock_path;
    int lock; /* -1: none */
};

#define CLAIM_NONE ((struct claim){.lock = -1})

/* Waits `patience_ms` for one who ends. -EBUSY: another daemon has it, named in `why`; -ENOENT: no place for it. */
int claim_take(const char *mount_point, int64_t patience_ms, struct claim *ret_claim, struct buf *why);
void claim_release(struct claim *claim);
/* A daemon of `owner` has the mount point now; its pid, 0 when it is not known (another pid namespace). */
bool claim_held(const char *mount_point, uid_t owner, pid_t *ret_pid);
/* Each socket of a daemon of our own user, whatever it serves. */
void claim_each_socket(void (*each)(void *context, const char *path), void *context);
/* The paths where a daemon of `owner` may have its socket, in directories that are his alone; NULL: not there. */
void claim_find_sockets(const char *mount_point, uid_t owner, char *ret_paths[CLAIM_PLACES]);

#endif
