#include "mount/provider.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "mount/adapter.h"
#include "mount/option.h"
#include "mount/words.h"

static const struct provider *const providers[] = {&provider_aws, &provider_gcp, &provider_hyperstack,
                                                   &provider_runpod};

#define SETTINGS_MAX   16
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
        buf_printf(out, "%s%s (%s)", i ? ", " : "",
                   volumes[i]->bucket ? volumes[i]->bucket : "one without a name", volumes[i]->where);
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

static const struct provider_name *find_name(const struct provider *provider, const char *name)
{
    for (const struct provider_name *known = provider->settings; known->name; known++)
        if (strcmp(known->name, name) == 0)
            return known;
    return NULL;
}

static void warn_of_name(const struct provider *provider, const struct provider_setting *setting,
                         struct buf *warnings)
{
    const char *names[SETTINGS_MAX];
    size_t count = 0;
    while (provider->settings[count].name && count < SETTINGS_MAX) {
        names[count] = provider->settings[count].name;
        count++;
    }
    const char *nearest = option_nearest(setting->name, names, count);
    if (!nearest)
        return;
    words_next(warnings);
    buf_printf(warnings, "%s: '%s' says nothing to skyvol; did you mean '%s'?", setting->where, setting->name,
               nearest);
}

/* What it must be; NULL: so it is. */
static const char *judge_setting(const struct provider_setting *setting, enum provider_kind kind)
{
    if (setting->value)
        return words_have_control(setting->value) ? "has a control character" : NULL;
    if (kind == PROVIDER_TEXT)
        return "must be a text";
    if (kind == PROVIDER_TEXTS)
        return setting->list && setting->plain ? NULL : "must be a text, or a list of texts";
    return setting->credential.kind != DEFERRED_NONE ? NULL
                                                     : "must be a text, { env = \"NAME\" }, { file = "
                                                       "\"PATH\" } or { command = [\"prog\", \"arg\"] }";
}

int provider_check_settings(const struct provider *provider, const struct provider_settings *settings,
                            struct buf *warnings, struct buf *why)
{
    int rc = 0;
    for (size_t i = 0; i < settings->count; i++) {
        const struct provider_setting *setting = &settings->all[i];
        const struct provider_name *known = find_name(provider, setting->name);
        const char *wrong = known ? judge_setting(setting, known->kind) : NULL;
        if (!known)
            warn_of_name(provider, setting, warnings);
        if (known && known->kind == PROVIDER_KEY && setting->value && setting->open) {
            words_next(warnings);
            buf_printf(warnings,
                       "%s: %s stands in a file that others can read: chmod 600, or say { env = \"NAME\" }",
                       setting->where, setting->name);
        }
        if (!wrong)
            continue;
        words_next(why);
        buf_printf(why, "%s: %s %s", setting->where, setting->name, wrong);
        rc = -EINVAL;
    }
    return rc;
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
