/* Hyperstack: an access key made for the pool; buckets that are missing are made, where somebody will write to them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mount/adapter.h"
#include "mount/hyperstack.h"
#include "mount/reach.h"
#include "mount/words.h"

static const struct provider_name settings[] = {{"api_key", PROVIDER_KEY},
                                                {"api_url", PROVIDER_TEXT},
                                                {"object_storage_region", PROVIDER_TEXT},
                                                {"object_storage_endpoint", PROVIDER_TEXT},
                                                {NULL, PROVIDER_TEXT}};

static const char *text_or(const struct provider_job *job, const char *name, const char *fallback)
{
    const char *text = adapter_text(job, name);
    return text && *text ? text : fallback;
}

/* Keys are sent there: what is no address for them is said before one is made. */
static int check(const struct provider_job *job, struct buf *why)
{
    const struct provider_setting *endpoint = provider_setting(job->settings, "object_storage_endpoint");
    struct api_config config = {.name = "Hyperstack's object storage", .url = HYPERSTACK_ENDPOINT};
    struct api *api = NULL;
    int rc = adapter_check_buckets(job, false, why);
    if (!endpoint || !endpoint->value || !*endpoint->value)
        return rc;
    BUF_SCOPED words = BUF_INIT;
    config.url = endpoint->value;
    config.where = endpoint->where;
    int api_rc = api_new(&config, &api, &words);
    api_free(api);
    if (api_rc < 0) {
        words_next(why);
        buf_add_string(why, words.bytes);
    }
    return rc < 0 ? rc : api_rc;
}

/* The API key is to be unref'ed. */
static int open_account(const struct provider_job *job, struct hyperstack *ret_account,
                        struct secret **ret_api_key, struct buf *why)
{
    *ret_account = (struct hyperstack){
        .region = text_or(job, "object_storage_region", HYPERSTACK_REGION),
        .state_path = job->state_path,
        .pool = job->pool,
        .origin = job->origin,
        .waiter = job->waiter,
        .tell = job->tell,
        .context = job->context,
    };
    ret_account->url = adapter_address(job, HYPERSTACK_VARIABLE, HYPERSTACK_URL, &ret_account->where);
    int rc = adapter_secret(job, "api_key", "HYPERSTACK_API_KEY", ret_api_key, why);
    if (rc == -ENOKEY && !why->length)
        buf_add_string(
            why,
            "hyperstack: there is no API key: set HYPERSTACK_API_KEY, or api_key in [providers.hyperstack]");
    ret_account->api_key = *ret_api_key;
    return rc;
}

static int make_bucket(const struct provider_job *job, const struct reach *reach, struct buf *why)
{
    int rc = reach_make(reach, why);
    if (rc ==
        -EEXIST) { /* ours by a try whose reply was lost, or another account's: then it cannot be listed */
        buf_reset(why);
        return reach_bucket(reach, why);
    }
    if (rc == 0)
        adapter_tell(job, "made", "bucket", reach->bucket);
    return rc;
}

static int ensure_bucket(const struct provider_job *job, const struct reach *reach, struct buf *why)
{
    BUF_SCOPED words = BUF_INIT;
    int rc = reach_bucket(reach, &words);
    if (rc == -ENOENT && adapter_writes(job, reach->bucket))
        return make_bucket(job, reach, why);
    if (rc == 0)
        return 0;
    words_next(why);
    buf_add_string(why, words.bytes);
    if (rc == -ENOENT)
        buf_add_string(why, "; a bucket that is only read is not made: look at its name, or give the volume "
                            "read_only = false");
    return rc;
}

static int ensure_buckets(const struct provider_job *job, const struct hyperstack_key *key, struct buf *why)
{
    int first = 0;
    struct reach reach = {.endpoint = text_or(job, "object_storage_endpoint", HYPERSTACK_ENDPOINT),
                          .region = HYPERSTACK_SIGNING,
                          .path_style = true,
                          .waiter = job->waiter};
    reach.keys = keys_new(key->access_key, secret_reveal(key->secret_key), NULL, INT64_MAX);
    for (size_t i = 0; i < job->volume_count && first != -EINTR; i++) {
        if (!adapter_is_first(job, i))
            continue;
        reach.bucket = job->volumes[i]->bucket;
        int rc = ensure_bucket(job, &reach, why);
        first = first ? first : rc;
    }
    keys_unref(reach.keys);
    return first;
}

static int prepare(const struct provider_job *job, struct buf *why)
{
    struct hyperstack account;
    struct hyperstack_key key = {0};
    struct secret *api_key = NULL;
    int rc = check(job, why);
    if (rc == 0)
        rc = open_account(job, &account, &api_key, why);
    if (rc == 0)
        rc = hyperstack_key_make(&account, &key, why);
    if (rc == 0)
        rc = ensure_buckets(job, &key, why);
    hyperstack_key_release(&key);
    secret_unref(api_key);
    return rc;
}

static int teardown(const struct provider_job *job, struct buf *why)
{
    struct hyperstack account;
    struct secret *api_key = NULL;
    struct state *state = NULL;
    int rc = state_look(job->state_path, job->provider->name, &state, why);
    state_close(state);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    rc = open_account(job, &account, &api_key, why);
    if (rc == 0)
        rc = hyperstack_key_remove(&account, why);
    secret_unref(api_key);
    return rc;
}

static int supply(const struct provider_job *job, struct provision *ret_provision, struct buf *why)
{
    struct hyperstack account = {.state_path = job->state_path};
    struct hyperstack_key key = {0};
    *ret_provision = (struct provision){0};
    int rc = check(job, why);
    if (rc < 0 || job->explain)
        return rc;
    rc = hyperstack_key_recall(&account, &key, why);
    if (rc < 0)
        return rc;
    ret_provision->supplies = xcalloc(job->volume_count, sizeof(*ret_provision->supplies));
    ret_provision->supply_count = job->volume_count;
    for (size_t i = 0; i < job->volume_count; i++) {
        struct supply *supply = &ret_provision->supplies[i];
        supply->endpoint = xstrdup(text_or(job, "object_storage_endpoint", HYPERSTACK_ENDPOINT));
        supply->region = xstrdup(HYPERSTACK_SIGNING);
        supply->path_style = true;
        supply->credentials = SUPPLY_KEYS;
        supply->identity = xprintf("hyperstack/%s", key.id);
        supply->access_key = xstrdup(key.access_key);
        supply->secret_key = secret_ref(key.secret_key);
    }
    hyperstack_key_release(&key);
    return 0;
}

const struct provider provider_hyperstack = {
    .name = "hyperstack",
    .settings = settings,
    .check = check,
    .prepare = prepare,
    .supply = supply,
    .teardown = teardown,
};
