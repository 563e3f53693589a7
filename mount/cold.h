/* cold: a cache directory that nobody mounts, opened without a kernel, with the settings of its last mount.
 *
 *      cold_open -> cold.rooms.cache: cache_publish, cache_unsent, cache_discard ... -> cold_close
 *
 * COLD_SENDS: access is proven, and what the journal holds goes up. Meanwhile it answers at home_door() as a daemon that lingers does
 * (service.h): status, discard and another flush go through it, and a mount takes over. COLD_MUTE: nothing is uploaded
 * (mute_store.h), and no server is needed: to discard one file must not send the others. The keys are the caller's, as for a mount.
 * Signals: TERM, INT and HUP set cold_interrupted() from cold_open on, and interrupt cold.waiter; a second one ends the process,
 * which loses nothing.
 */
#ifndef MOUNT_COLD_H
#define MOUNT_COLD_H

#include <stdatomic.h>

#include "mount/claim.h"
#include "mount/rooms.h"
#include "mount/service.h"

enum cold_kind { COLD_SENDS, COLD_MUTE };

struct cold {
    struct settings settings;
    struct rooms rooms;
    struct waiter waiter; /* for all that waits in them */
    struct claim claim;
    struct service service;
    struct control *control; /* NULL: none */
    atomic_bool yielded;     /* a mount wants it: the waiter is interrupted */
};

/* cold_close() after any outcome. -EBUSY: somebody else has just opened it. */
int cold_open(const char *cache_dir, enum cold_kind kind, struct cold *cold, struct buf *why);
void cold_close(struct cold *cold);
bool cold_interrupted(void);

#endif
