#include "mount/provided.h"

#include <errno.h>
#include <stdlib.h>

#include "mount/adapter.h"
#include "mount/words.h"

int provided_check(const struct configuration *configuration, struct buf *why)
{
    const struct provider *provider = configuration->provider;
    int rc = 0;
    for (size_t i = 0; provider && provider->native && i < configuration->volume_count; i++) {
        const struct volume *volume = &configuration->volumes[i];
        if (!volume->storage)
            continue;
        words_next(why);
        buf_printf(why,
                   "%s: bucket %s has a storage of its own, and machines of %s cannot mount one (no FUSE "
                   "there): keep "
                   "its data on the network volume, or take another provider",
                   volume->where, volume->bucket, provider->name);
        rc = -EINVAL;
    }
    return rc;
}

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
                                     .origin = configuration->origin,
                                     .waiter = waiter,
                                     .explain = explain};
    *ret_provision = (struct provision){0};
    int rc = provided_check(configuration, why);
    if (count && provider->check(&job, why) < 0)
        rc = -EINVAL;
    if (rc == 0 && count)
        rc = adapter_belong(&job, why);
    if (rc == 0 && count)
        rc = provider->supply(&job, ret_provision, why);
    free(volumes);
    return rc;
}

int provided_plan(const struct configuration *configuration, const char *keys, bool shared,
                  struct provided *ret_provided, struct buf *why)
{
    WAITER_SCOPED(waiter);
    const struct plan_request request = {.configuration = configuration,
                                         .provision = &ret_provided->provision,
                                         .keys = keys ? keys : PLAN_KEYS,
                                         .here = keys != NULL,
                                         .shared = shared};
    ret_provided->plan = (struct plan){0};
    int rc = provided_supply(configuration, &waiter, false, &ret_provided->provision, why);
    return rc < 0 ? rc : plan_make(&request, &ret_provided->plan, why);
}

void provided_release(struct provided *provided)
{
    plan_release(&provided->plan);
    provision_release(&provided->provision);
}
