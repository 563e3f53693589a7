/* rooms: what stands below a mount, and works without one too: credentials, store, home, memory, cache.
 *
 *      rooms_open_store -> rooms_prove_access -> rooms_open_home -> rooms_open_cache -> ... -> rooms_close
 *
 * A mount (session.h) puts the kernel above it; a command that sends or gives up what an unmounted cache directory holds does
 * without (cold.h). Each step needs those before it; a failed one has a line in `why`, and rooms_close() ends what there is.
 */
#ifndef MOUNT_ROOMS_H
#define MOUNT_ROOMS_H

#include "base/json.h"
#include "base/memory.h"
#include "base/waiter.h"
#include "cache/cache.h"
#include "mount/home.h"
#include "mount/settings.h"
#include "s3/credentials.h"
#include "s3/store.h"

struct rooms {
    struct settings *settings; /* the caller's; what the credentials' profile says is filled in */
    struct credentials *credentials;
    struct store *store;
    struct home home;
    struct memory *memory;
    struct cache *cache;
    char boot[64];
    bool unreached;      /* bg: the first contact has failed, or there are no keys for it yet */
    struct buf warnings; /* lines for the user, once it is usable */
};

void rooms_init(struct rooms *rooms, struct settings *settings);
/* What the settings say of the store; nothing is copied. */
struct store_config rooms_store_config(const struct settings *settings, struct credentials *credentials);
int rooms_open_store(struct rooms *rooms, struct buf *why);
/* A LIST below the prefix succeeds, within 10 seconds. */
int rooms_prove_access(struct rooms *rooms, struct waiter *waiter, struct buf *why);
int rooms_open_home(struct rooms *rooms, struct buf *why);
/* What the journal holds begins to go up. notify NULL: no kernel is to be told. */
int rooms_open_cache(struct rooms *rooms, const struct cache_notify *notify, struct buf *why);
void rooms_close(struct rooms *rooms);

/* What `status` says of them, each in its own fields of `object`. */
void rooms_report(struct rooms *rooms, struct json *object);

#endif
