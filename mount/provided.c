#include "mount/provided.h"

#include <errno.h>
#include <stdlib.h>

#include "mount/adapter.h"
#include "mount/words.h"

/* NULL: it can be mounted with it. */
static const char *judge_storage(const struct provider *provider, const struct storage *storage)
{
    if (provider && provider->native)
        return "the machines of this provider cannot mount one (no FUSE there): keep its data on the network "
               "volume, or take another provider";
    if (storage_makes_keys(storage))
        return "preset hyperstack makes a key for each operation, and a mount outlives it: give access_key "
               "and "
               "secret_key, or leave storage out and take provider = \"hyperstack\" with skyvol prepare";
    return NULL;
}

int provided_check(const struct configuration *configuration, struct buf *why)
{
    int rc = 0;
    for (size_t i = 0; i < configuration->volume_count; i++) {
        const struct volume *volume = &configuration->volumes[i];
        const char *wrong = volume->storage ? judge_storage(configuration->provider, volume->storage) : NULL;
        if (!wrong)
            continue;
        words_next(why);
        buf_printf(why, "%s: bucket %s has a storage of its own: %s", volume->where, volume->bucket, wrong);
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
