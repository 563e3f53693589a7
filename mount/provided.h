/* provided: what the provider of a configuration gives its volumes: one use of an adapter (provider.h); and the plan of both. */
#ifndef MOUNT_PROVIDED_H
#define MOUNT_PROVIDED_H

#include "mount/plan.h"

/* All volumes have a storage: 0, and nothing is in the provision. `explain`: nothing is asked, only what would be is told (calls). Errors as
 * provider.h; provision_release() after any outcome. */
int provided_supply(const struct configuration *configuration, struct waiter *waiter, bool explain,
                    struct provision *ret_provision, struct buf *why);

/* What can be said of all volumes without a call: where the provider mounts natively, none has a storage of its own,
 * and none has one whose keys end with each use. -EINVAL, with words. */
int provided_check(const struct configuration *configuration, struct buf *why);

/* A plan, and what it borrows from. */
struct provided {
    struct provision provision;
    struct plan plan;
};

/* `keys`: this host's directory for secrets; NULL: for another machine, at PLAN_KEYS. Errors as provided_supply() and plan_make();
 * provided_release() after any outcome. */
int provided_plan(const struct configuration *configuration, const char *keys, bool shared,
                  struct provided *ret_provided, struct buf *why);
void provided_release(struct provided *provided);

#endif
