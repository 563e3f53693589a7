/* raised: what `skyvol up` made on this host, remembered (state.h) so that a failure, a later `up` and `skyvol down` know it. Nothing else is
 * touched.
 *
 *      up:    secrets -> directories -> mounts (side by side) -> read-only binds -> links          each remembered before it is made
 *      down:  the reverse; a mount that cannot go (busy, unsent data that the server refuses) stays, and so do its secret and its memory
 *
 * A mount that stands is taken for the plan's only if it was made with the same options: the same bucket of another endpoint is another one.
 * A mount is forgotten only when nobody serves it any more and nothing unsent waits in its cache directory, however it ended: its secret
 * is what those files go up with.
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
};

/* All of the plan stands afterwards, or nothing new does, and links and empty directories that gave way are there again. 0, or the exit status. */
int raised_up(struct raised *raised);
/* Nothing of it stands afterwards (fresh_only: nothing of what this run made); what had to stay is named and remembered. 0, or 1. */
int raised_down(struct state *state, bool fresh_only);

/* raised_link.c: the symlink stands, its parents made. Another symlink or an empty directory gives way, and is remembered before it does. */
int raised_link(struct raised *raised, const char *place, const char *target);
/* The link is gone, if it still was ours; after a run that failed or was killed, what had given way to it is there again. 0, or 1: that is
 * the link of an earlier run, and the thing is it. */
int raised_unlink(struct state *state, struct state_thing *thing);
int raised_directories(struct raised *raised, const char *path);
/* What one that was killed left beside the place, before it put it there. What is no link is somebody's own, and stays. */
void raised_drop_fresh(const char *place);
/* raised_mount.c: what stands in the place of a mount is nothing, or that mount. Changes nothing. */
int raised_look(const struct raised *raised);
/* All mounts of the plan, side by side. */
int raised_mounts(struct raised *raised);
/* `skyvol umount --wait`. 0: the bucket is not mounted there any more, nobody serves it, and nothing unsent waits. */
int raised_unmount(const char *dir, const char *bucket);
/* The thing of that kind and path, NULL: it is not remembered. */
struct state_thing *raised_find(const struct state *state, const char *kind, const char *path);
/* It is about to be made; the thing may be there from an earlier time, also under another target or other options (NULL: it has none).
 * -errno, and it has been said. */
int raised_intend(struct raised *raised, const char *kind, const char *path, const char *target,
                  const char *options, struct state_thing **ret_thing);
int raised_made(struct raised *raised, struct state_thing *thing);

#endif
