/* key: one key of an account that a service makes by its API, remembered before it is used, and removed (Google's HMAC keys, Hyperstack's
 * access keys). Which of the service's keys is ours when its reply was lost: leftover.h.
 *
 *      list (which were there) -> state: intent -> make -> state: id and secret -> use ... remove -> state: forgotten
 */
#ifndef MOUNT_KEY_H
#define MOUNT_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "mount/leftover.h"
#include "mount/state.h"

struct key_service {
    const char *kind; /* in the state: "hmac-key" */
    int (*list)(void *context, struct leftover_keys *ret_keys, int64_t *ret_now_ns, struct buf *why);
    /* `facts` may be added to. `unknown`: it failed, and may have made one all the same. */
    int (*make)(void *context, char **ret_id, struct secret **ret_secret, struct json *facts,
                bool *ret_unknown, struct buf *why);
    int (*remove)(void *context, const char *id, struct buf *why); /* one that is gone is success */
    int (*pause)(void *context, int64_t ms);                       /* -EINTR */
    void (*tell)(void *context, const char *what, const char *kind,
                 const char *id); /* as struct provider_job's; may be NULL */
    void *context;
};

/* One that was made before and is still there, else a new one. `facts` (borrowed, may be NULL): what to remember of the account. */
int key_ensure(const struct key_service *service, struct state *state, const struct json *facts,
               struct state_thing **ret_thing, struct buf *why);
/* All that the state remembers of this kind. What cannot be removed stays in it, with a line each in `why`; the rest goes. */
int key_remove_all(const struct key_service *service, struct state *state, struct buf *why);

#endif
