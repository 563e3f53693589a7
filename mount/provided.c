#include "mount/provided.h"

#include <stdlib.h>

int provided_supply(const struct configuration *configuration, struct waiter *waiter, bool explain,
                    struct provision *ret_provision, struct buf *why)
{
    size_t count;
    const struct volume **volumes = configuration_provided(configuration, &count);
    const struct provider *provider = configuration->provider;
    const struct provider_job job = {.provider = provider,
                                     .settings = &configuration->settings,
                                     .volumes = volumes,
                                     .volume_count = count,
                                     .pool = configuration->pool,
                                     .state_path = configuration->state,
                                     .waiter = waiter,
                                     .explain = explain};
    *ret_provision = (struct provision){0};
    int rc = count ? provider->check(&job, why) : 0;
    if (rc == 0 && count)
        rc = provider->supply(&job, ret_provision, why);
    free(volumes);
    return rc;
}
