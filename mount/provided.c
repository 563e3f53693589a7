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

int provided_plan(const struct configuration *configuration, const char *keys, bool shared,
                  struct provided *ret_provided, struct buf *why)
{
    WAITER_SCOPED(waiter);
    const struct plan_request request = {.configuration = configuration,
                                         .provision = &ret_provided->provision,
                                         .keys = keys,
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
