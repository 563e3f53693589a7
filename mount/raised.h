/* raised: what `skyvol up` made on this host, remembered (state.h) so that a failure, a later `up` and `skyvol down` know it. Nothing else is
 * touched.
 *
 *      up:    secrets -> directories -> mounts (side by side) -> read-only binds -> links          each remembered before it is made
 *      down:  the reverse; a mount that cannot go (busy, unsent data that the server refuses) stays, and so do its secret and its memory
 *
 * Errors: lines on stderr say what and why; a function that fails has undone what it made itself.
 * Threads: one, that of the command. SIGINT and SIGTERM end `up` between two steps.
 */
#ifndef MOUNT_RAISED_H
#define MOUNT_RAISED_H

#include "mount/plan.h"
#include "mount/state.h"

struct raised {
    struct state *state;
    const struct plan *plan; /* of up; NULL in down */
    size_t before;           /* how many things stood in the state: those are not undone by a failure */
};

/* All of the plan stands afterwards, or nothing new does. 0, or the exit status. */
int raised_up(struct raised *raised);
/* Nothing of it stands afterwards; what had to stay is named and remembered. 0, or 1. */
int raised_down(struct state *state, size_t keep);

/* raised_link.c: the symlink stands, its parents made. */
int raised_link(struct raised *raised, const char *place, const char *target);
int raised_directories(struct raised *raised, const char *path);
/* raised_mount.c: all mounts of the plan, side by side. */
int raised_mounts(struct raised *raised);
/* `skyvol umount --wait`. 0: nothing is mounted there any more. */
int raised_unmount(const char *dir);
/* The thing of that kind and path, NULL: it is not remembered. */
struct state_thing *raised_find(const struct state *state, const char *kind, const char *path);
/* It is about to be made; the thing may be there from an earlier time. -errno, and it has been said. */
int raised_intend(struct raised *raised, const char *kind, const char *path, const char *target,
                  struct state_thing **ret_thing);
int raised_made(struct raised *raised, struct state_thing *thing);

#endif
