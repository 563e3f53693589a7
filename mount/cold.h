/* cold: a cache directory that nobody mounts, opened without a kernel, with the settings of its last mount.
 *
 *      cold_open -> cold.rooms.cache: cache_publish, cache_unsent, cache_discard ... -> cold_close
 *
 * COLD_SENDS: access is proven, and what the journal holds goes up. COLD_MUTE: nothing is uploaded (mute_store.h), and no server is
 * needed: to discard one file must not send the others. It holds the home meanwhile: who mounts is refused. The keys are the
 * caller's, as for a mount.
 * Signals: TERM, INT and HUP set cold_interrupted() from cold_open on, and end what waits with cold_waiter(); a second one ends the
 * process, which loses nothing.
 */
#ifndef MOUNT_COLD_H
#define MOUNT_COLD_H

#include "mount/rooms.h"

enum cold_kind { COLD_SENDS, COLD_MUTE };

struct cold {
    struct settings settings;
    struct rooms rooms;
};

/* cold_close() after any outcome. */
int cold_open(const char *cache_dir, enum cold_kind kind, struct cold *cold, struct buf *why);
void cold_close(struct cold *cold);
struct waiter *cold_waiter(void);
bool cold_interrupted(void);

#endif
