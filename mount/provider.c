#include "mount/provider.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "mount/adapter.h"
#include "mount/words.h"

static const struct provider *const providers[] = {&provider_aws, &provider_gcp, &provider_hyperstack,
                                                   &provider_runpod};

#define PROVIDER_COUNT (sizeof(providers) / sizeof(providers[0]))

const struct provider *provider_find(const char *name)
{
    for (size_t i = 0; i < PROVIDER_COUNT; i++)
        if (strcmp(providers[i]->name, name) == 0)
            return providers[i];
    return NULL;
}

void provider_names(struct buf *out)
{
    for (size_t i = 0; i < PROVIDER_COUNT; i++)
        buf_printf(out, "%s%s", i ? ", " : "", providers[i]->name);
}

static void add_buckets(const struct volume *const *volumes, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "%s%s (%s)", i ? ", " : "", volumes[i]->bucket, volumes[i]->where);
}

int provider_require(const char *name, const struct volume *const *volumes, size_t count,
                     const struct provider **ret_provider, struct buf *why)
{
    const struct provider *provider = name ? provider_find(name) : NULL;
    *ret_provider = provider;
    if (!count || provider)
        return 0;
    words_next(why);
    if (name)
        buf_printf(why,
                   "provider '%s' mounts no volumes: give each of these buckets a `storage` of its own, or "
                   "use one of ",
                   name);
    else
        buf_add_string(why, "no provider is named, and these buckets have no `storage`: give each of them "
                            "one, or name one of ");
    provider_names(why);
    buf_add_string(why, ": ");
    add_buckets(volumes, count, why);
    return -EINVAL;
}

const struct provider_setting *provider_setting(const struct provider_settings *settings, const char *name)
{
    for (size_t i = 0; settings && i < settings->count; i++)
        if (strcmp(settings->all[i].name, name) == 0)
            return &settings->all[i];
    return NULL;
}

static void free_lines(char **lines)
{
    for (char **line = lines; line && *line; line++)
        free(*line);
    free(lines);
}

void provider_settings_release(struct provider_settings *settings)
{
    for (size_t i = 0; i < settings->count; i++) {
        struct provider_setting *setting = &settings->all[i];
        free(setting->name);
        free(setting->value);
        free(setting->where);
        free_lines(setting->list);
        deferred_release(&setting->credential);
    }
    free(settings->all);
    *settings = (struct provider_settings){0};
}

void provision_add(char ***lines, const char *format, ...)
{
    size_t count = 0;
    BUF_SCOPED text = BUF_INIT;
    va_list list;
    va_start(list, format);
    buf_vprintf(&text, format, list);
    va_end(list);
    while (*lines && (*lines)[count])
        count++;
    *lines = xrealloc(*lines, (count + 2) * sizeof(**lines));
    (*lines)[count] = buf_take(&text);
    (*lines)[count + 1] = NULL;
}

void provision_release(struct provision *provision)
{
    for (size_t i = 0; i < provision->supply_count; i++) {
        struct supply *supply = &provision->supplies[i];
        free(supply->endpoint);
        free(supply->region);
        free(supply->identity);
        free(supply->access_key);
        secret_unref(supply->secret_key);
        secret_unref(supply->session_token);
    }
    free(provision->supplies);
    free(provision->native_base);
    json_free(provision->deploy_hints);
    json_free(provision->deploy_forms);
    free_lines(provision->notes);
    free_lines(provision->calls);
    *provision = (struct provision){0};
}
