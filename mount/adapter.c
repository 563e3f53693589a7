#include "mount/adapter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mount/words.h"

const char *adapter_text(const struct provider_job *job, const char *name)
{
    const struct provider_setting *setting = provider_setting(job->settings, name);
    return setting ? setting->value : NULL;
}

const char *adapter_address(const struct provider_job *job, const char *variable, const char *fallback,
                            const char **ret_where)
{
    const char *said = variable ? getenv(variable) : NULL;
    const struct provider_setting *setting = provider_setting(job->settings, "api_url");
    if (said && *said) {
        *ret_where = variable;
        return said;
    }
    if (setting && setting->value && *setting->value) {
        *ret_where = setting->where ? setting->where : "api_url";
        return setting->value;
    }
    *ret_where = "skyvol";
    return fallback;
}

int adapter_api(const struct provider_job *job, const char *name, const char *variable, const char *fallback,
                struct api **ret_api, struct buf *why)
{
    struct api_config config = {.name = name, .waiter = job->waiter};
    config.url = adapter_address(job, variable, fallback, &config.where);
    return api_new(&config, ret_api, why);
}

int adapter_secret(const struct provider_job *job, const char *name, const char *variable,
                   struct secret **ret_secret, struct buf *why)
{
    const struct provider_setting *setting = provider_setting(job->settings, name);
    const char *said = getenv(variable);
    if (setting && setting->credential.kind != DEFERRED_NONE)
        return deferred_resolve(&setting->credential, name, ret_secret, why);
    if (setting && setting->value && *setting->value) {
        *ret_secret = secret_new(setting->value, strlen(setting->value));
        return 0;
    }
    if (!said || !*said)
        return -ENOKEY;
    *ret_secret = secret_new(said, strlen(said));
    return 0;
}

void adapter_tell(const struct provider_job *job, const char *what, const char *kind, const char *id)
{
    if (job->tell)
        job->tell(job->context, what, kind, id);
}

bool adapter_is_first(const struct provider_job *job, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (strcmp(job->volumes[i]->bucket, job->volumes[index]->bucket) == 0)
            return false;
    return true;
}

void adapter_buckets(const struct provider_job *job, struct buf *out)
{
    size_t count = 0;
    for (size_t i = 0; i < job->volume_count; i++)
        if (adapter_is_first(job, i))
            buf_printf(out, "%s%s (%s)", count++ ? ", " : "", job->volumes[i]->bucket,
                       job->volumes[i]->where);
}

bool adapter_writes(const struct provider_job *job, const char *bucket)
{
    for (size_t i = 0; i < job->volume_count; i++)
        if (!job->volumes[i]->read_only && strcmp(job->volumes[i]->bucket, bucket) == 0)
            return true;
    return false;
}

static bool is_bucket_name(const char *name, bool underscores)
{
    size_t length = strlen(name);
    if (length < 3 || length > 63 || strstr(name, ".."))
        return false;
    for (size_t i = 0; i < length; i++) {
        bool edge = i == 0 || i == length - 1;
        bool plain = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9');
        bool mark = name[i] == '-' || name[i] == '.' || (underscores && name[i] == '_');
        if (!plain && (edge || !mark))
            return false;
    }
    return true;
}

int adapter_check_buckets(const struct provider_job *job, bool underscores, struct buf *why)
{
    int rc = 0;
    for (size_t i = 0; i < job->volume_count; i++) {
        const struct volume *volume = job->volumes[i];
        if (!adapter_is_first(job, i) || is_bucket_name(volume->bucket, underscores))
            continue;
        words_next(why);
        buf_printf(why, "%s: '%s' is no name of a bucket at %s: 3 to 63 of a-z, 0-9, '-', '.'%s",
                   volume->where, volume->bucket, job->provider->name, underscores ? " and '_'" : "");
        rc = -EINVAL;
    }
    return rc;
}

int adapter_belong(const struct provider_job *job, struct buf *why)
{
    struct state *state = NULL;
    BUF_SCOPED words = BUF_INIT;
    if (state_look(job->state_path, job->provider->name, &state, &words) < 0)
        return 0; /* who opens it says what is wrong with it */
    int rc = state_belong(state, job->origin, job->state_path, why);
    state_close(state);
    return rc;
}

int adapter_open(const struct provider_job *job, struct state **ret_state, struct buf *why)
{
    int rc = state_open(job->state_path, job->provider->name, job->pool, ret_state, why);
    if (rc == 0)
        state_set_origin(*ret_state, job->origin);
    return rc;
}

int adapter_look(const struct provider_job *job, struct state **ret_state, struct buf *why)
{
    int rc = state_look(job->state_path, job->provider->name, ret_state, why);
    if (rc == -ENOENT)
        buf_printf(why, "%s: nothing was prepared for this pool (%s does not exist); run: skyvol prepare",
                   job->provider->name, job->state_path);
    return rc;
}
