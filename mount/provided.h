/* provided: what the provider of a configuration gives its volumes: one use of an adapter (provider.h). */
#ifndef MOUNT_PROVIDED_H
#define MOUNT_PROVIDED_H

#include "mount/configuration.h"

/* All volumes have a storage: 0, and nothing is in the provision. `explain`: nothing is asked, only what would be is told (calls). Errors as
 * provider.h; provision_release() after any outcome. */
int provided_supply(const struct configuration *configuration, struct waiter *waiter, bool explain,
                    struct provision *ret_provision, struct buf *why);

#endif
