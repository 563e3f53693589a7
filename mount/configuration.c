#include "mount/configuration.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"
#include "mount/configured.h"
#include "mount/home.h"
#include "mount/words.h"

#define BASE_DEFAULT "/mnt/skyvol"

void configuration_release(struct configuration *configuration)
{
    for (size_t i = 0; i < configuration->volume_count; i++)
        volume_release(&configuration->volumes[i]);
    for (size_t i = 0; i < configuration->storage_count; i++) {
        storage_release(configuration->storages[i]);
        free(configuration->storages[i]);
    }
    provider_settings_release(&configuration->settings);
    free(configuration->volumes);
    free(configuration->storages);
    free(configuration->provider_name);
    free(configuration->provider_type);
    free(configuration->pool);
    free(configuration->base);
    free(configuration->state);
    free(configuration->origin);
    if (configuration->warnings.bytes)
        buf_release(&configuration->warnings);
    *configuration = (struct configuration){0};
}

/* ---- The files. ---- */

/* 0: read, or it is not there and need not be; *ret_root stays NULL then. */
static int read_one(const char *path, bool needed, struct node **ret_root, struct buf *why)
{
    int rc = document_read(path, ret_root, why);
    if (rc == -ENOENT && !needed)
        return 0;
    if (rc < 0 && rc != -EBADMSG) {
        words_next(why);
        buf_printf(why, "%s cannot be read: %s", path, err_text(rc));
    }
    return rc;
}

/* ~/.skyward/defaults.toml, and ./skyward.toml over it. */
static int read_defaults(struct node **ret_root, struct buf *why)
{
    const char *home = getenv("HOME");
    STRING_SCOPED *first = home && *home ? xprintf("%s/.skyward/defaults.toml", home) : NULL;
    struct node *over = NULL;
    int rc = first ? read_one(first, false, ret_root, why) : 0;
    int over_rc = read_one("skyward.toml", false, &over, why);
    rc = rc < 0 ? rc : over_rc;
    if (rc == 0 && !*ret_root && !over) {
        words_next(why);
        buf_printf(why,
                   "no configuration: neither %s%sskyward.toml is there; write one, name one with -c FILE, "
                   "or use --volume",
                   first ? first : "", first ? " nor ./" : "./");
        rc = -ENOENT;
    }
    if (!*ret_root) {
        *ret_root = over;
        over = NULL;
    } else if (over) {
        node_merge(*ret_root, &over);
    }
    node_free(over);
    return rc == -EBADMSG ? -EINVAL : rc;
}

static int read_files(const struct configuration_request *request, struct node **ret_root, struct buf *why)
{
    if (request->file) {
        int rc = read_one(request->file, true, ret_root, why);
        return rc == -EBADMSG ? -EINVAL : rc;
    }
    if (request->volume_count)
        return 0;
    return read_defaults(ret_root, why);
}

/* ---- The pool. ---- */

static void list_pools(const struct node *pools, struct buf *out)
{
    for (size_t i = 0; pools && i < pools->count; i++)
        buf_printf(out, "%s%s", i ? ", " : "", pools->children[i]->name);
}

/* --pool, else [pool], else the only one of [pools.*]. */
static int choose_pool(const char *wanted, const struct node *root, const struct node **ret_pool,
                       char **ret_name, struct buf *why)
{
    const struct node *alone = node_get(root, "pool"), *pools = node_get(root, "pools");
    const struct node *found = wanted ? node_get(pools, wanted) : alone;
    if (!wanted && !found && pools && pools->kind == NODE_TABLE && pools->count == 1)
        found = pools->children[0];
    if (wanted && !found && strcmp(wanted, "pool") == 0)
        found = alone;
    if (found && found->kind == NODE_TABLE) {
        *ret_pool = found;
        *ret_name = xstrdup(found->name);
        return 0;
    }
    words_next(why);
    if (found)
        buf_printf(why, "%s:%d: %s must be a table", found->file, found->line, found->name);
    else if (wanted)
        buf_printf(why, "there is no [pools.%s]", wanted);
    else if (pools && pools->count)
        buf_add_string(why, "there are several pools: choose one with --pool NAME");
    else
        buf_add_string(why, "there is neither [pool] nor [pools.NAME] in the configuration");
    if (pools && pools->kind == NODE_TABLE && pools->count) {
        buf_add_string(why, "; there is ");
        list_pools(pools, why);
    }
    return -EINVAL;
}

static int read_volumes(const struct node *pool, const struct node *root, struct configuration *configuration,
                        struct buf *why)
{
    const struct node *list = node_get(pool, "volumes");
    int rc = 0;
    if (!list || (list->kind == NODE_ARRAY && !list->count)) {
        words_next(why);
        buf_printf(why, "%s:%d: the pool has no volumes: add [[%s%s.volumes]]", pool->file, pool->line,
                   strcmp(pool->name, "pool") == 0 ? "" : "pools.", pool->name);
        return -EINVAL;
    }
    if (list->kind != NODE_ARRAY) {
        words_next(why);
        buf_printf(why, "%s:%d: volumes must be an array of tables: [[pool.volumes]]", list->file,
                   list->line);
        return -EINVAL;
    }
    for (size_t i = 0; i < list->count; i++)
        if (configured_volume(list->children[i], root, configuration, why) < 0)
            rc = -EINVAL;
    return rc;
}

/* Of two files that were merged: the one that gives the volumes. */
static void note_origin(const struct node *pool, struct configuration *configuration)
{
    const struct node *volumes = node_get(pool, "volumes");
    const struct node *node = volumes ? volumes : pool;
    char *path = node ? realpath(node->file, NULL) : NULL;
    configuration->origin = path ? xstrdup(path) : NULL;
    free(path);
}

static int read_pool(const struct configuration_request *request, const struct node *root,
                     struct configuration *configuration, struct buf *why)
{
    const struct node *pool = NULL;
    int rc = 0;
    if (!request->volume_count || request->pool)
        rc = choose_pool(request->pool, root, &pool, &configuration->pool, why);
    if (rc < 0)
        return rc;
    const struct node *provider = node_get(pool, "provider");
    if (request->provider) {
        configuration->provider_name = xstrdup(request->provider);
    } else if (provider && provider->kind == NODE_TEXT) {
        configuration->provider_name = xstrdup(provider->text);
    } else if (provider) {
        words_next(why);
        buf_printf(why, "%s:%d: provider must be a text", provider->file, provider->line);
        rc = -EINVAL;
    }
    note_origin(pool, configuration);
    if (!request->volume_count) {
        int volumes_rc = request->removes ? 0 : read_volumes(pool, root, configuration, why);
        return rc < 0 ? rc : volumes_rc;
    }
    for (size_t i = 0; i < request->volume_count; i++)
        if (configured_words(request->volumes[i], i + 1, root, configuration, why) < 0)
            rc = -EINVAL;
    return rc;
}

/* ---- Who provides. ---- */

const struct volume **configuration_provided(const struct configuration *configuration, size_t *ret_count)
{
    const struct volume **volumes = xcalloc(configuration->volume_count + 1, sizeof *volumes);
    *ret_count = 0;
    for (size_t i = 0; i < configuration->volume_count; i++)
        if (!configuration->volumes[i].storage)
            volumes[(*ret_count)++] = &configuration->volumes[i];
    return volumes;
}

/* All that can be said of the volumes without a call. Those that are wrong in themselves are not shown to it. */
static int check_provided(const struct configuration *configuration, struct buf *why)
{
    size_t all, count = 0;
    const struct volume **volumes = configuration_provided(configuration, &all);
    for (size_t i = 0; i < all; i++)
        if (volumes[i]->bucket && *volumes[i]->bucket && volumes[i]->mount)
            volumes[count++] = volumes[i];
    struct provider_job job = {.provider = configuration->provider,
                               .settings = &configuration->settings,
                               .volumes = volumes,
                               .volume_count = count,
                               .pool = configuration->pool};
    int rc = count ? configuration->provider->check(&job, why) : 0;
    free(volumes);
    return rc;
}

/* `provider` is a provider's name, or that of a [providers.*] table whose type says it. */
static int read_provider(const struct node *root, struct configuration *configuration, bool removes,
                         struct buf *why)
{
    const char *name = configuration->provider_name;
    const struct node *table = name ? node_get(node_get(root, "providers"), name) : NULL;
    const struct node *type = node_get(table, "type");
    int rc = 0;
    if (table && table->kind == NODE_TABLE) {
        rc = configured_settings(table, &configuration->settings, why);
    } else if (table) {
        words_next(why);
        buf_printf(why, "%s:%d: providers.%s must be a table", table->file, table->line, name);
        rc = -EINVAL;
    }
    if (type && type->kind != NODE_TEXT) {
        words_next(why);
        buf_printf(why, "%s:%d: type must be a text", type->file, type->line);
        return -EINVAL;
    }
    if (name)
        configuration->provider_type = xstrdup(type ? type->text : name);
    size_t count;
    const struct volume **volumes = configuration_provided(configuration, &count);
    int require_rc =
        provider_require(configuration->provider_type, volumes, count, &configuration->provider, why);
    free(volumes);
    if (configuration->provider && provider_check_settings(configuration->provider, &configuration->settings,
                                                           &configuration->warnings, why) < 0)
        rc = -EINVAL;
    if (rc == 0 && configuration->provider && !removes)
        rc = check_provided(configuration, why);
    return rc < 0 ? rc : require_rc;
}

/* A name that becomes part of a file's. */
static void add_plain(struct buf *out, const char *text)
{
    for (; *text; text++)
        buf_add_char(out, isalnum((unsigned char)*text) || strchr("-_", *text) ? *text : '_');
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Each set of mounts that --volume gives is a pool of its own. */
static void add_mounts(const struct configuration *configuration, struct buf *name)
{
    uint8_t hash[SHA256_BYTES];
    BUF_SCOPED all = BUF_INIT;
    const char **mounts = xcalloc(configuration->volume_count + 1, sizeof *mounts);
    for (size_t i = 0; i < configuration->volume_count; i++)
        mounts[i] = configuration->volumes[i].mount;
    qsort(mounts, configuration->volume_count, sizeof *mounts, compare_texts);
    for (size_t i = 0; i < configuration->volume_count; i++)
        buf_printf(&all, "%s\n", mounts[i]);
    free(mounts);
    digest_sha256(all.bytes, all.length, hash);
    buf_add_char(name, '-');
    buf_add_hex(name, hash, 6);
}

static char *name_state(const struct configuration *configuration, bool words)
{
    BUF_SCOPED name = BUF_INIT;
    STRING_SCOPED *base = home_base();
    add_plain(&name, configuration->pool);
    if (words)
        add_mounts(configuration, &name);
    buf_add_char(&name, '-');
    add_plain(&name, configuration->provider_name ? configuration->provider_name : "none");
    return xprintf("%s/pools/%s", base ? base : ".", name.bytes);
}

static int read_root(const struct configuration_request *request, const struct node *root,
                     struct configuration *configuration, struct buf *why)
{
    int rc = read_pool(request, root, configuration, why);
    if (!configuration->pool)
        configuration->pool = xstrdup("volumes");
    int check_rc =
        volumes_check(configuration->volumes, configuration->volume_count, configuration->base, why);
    bool asked = (configuration->volume_count || request->removes) && !request->name_only;
    int provider_rc = asked ? read_provider(root, configuration, request->removes, why) : 0;
    return rc < 0 ? rc : check_rc < 0 ? check_rc : provider_rc;
}

/* Normalised, because mounts are compared with it. */
static int take_base(const char *said, char **ret_base, struct buf *why)
{
    *ret_base = volume_normalise(said ? said : BASE_DEFAULT);
    if (*ret_base)
        return 0;
    words_next(why);
    buf_printf(why, "--base must be an absolute path without '..', got '%s'", said);
    return -EINVAL;
}

/* Absolute: keys are kept beside it, and a mount outlives this directory. */
static int take_state(const char *said, char **ret_state, struct buf *why)
{
    char here[PATH_MAX];
    if (!*said || said[strlen(said) - 1] == '/') {
        words_next(why);
        buf_printf(why, "--state must name a file, got '%s'", said);
        return -EINVAL;
    }
    if (*said != '/' && !getcwd(here, sizeof here)) {
        words_next(why);
        buf_printf(why, "--state %s: the working directory is gone: give an absolute path", said);
        return -EINVAL;
    }
    *ret_state = *said == '/' ? xstrdup(said) : xprintf("%s/%s", here, said);
    return 0;
}

int configuration_read(const struct configuration_request *request, struct configuration *ret_configuration,
                       struct buf *why)
{
    struct node *root = NULL;
    *ret_configuration = (struct configuration){.warnings = BUF_INIT};
    int rc = read_files(request, &root, why);
    if (rc == 0)
        rc = take_base(request->base, &ret_configuration->base, why);
    if (rc == 0 && request->state)
        rc = take_state(request->state, &ret_configuration->state, why);
    if (rc == 0)
        rc = read_root(request, root, ret_configuration, why);
    node_free(root);
    if (rc < 0) {
        configuration_release(ret_configuration);
        return rc;
    }
    if (request->state || request->volume_count)
        free_string(&ret_configuration->origin);
    if (!request->state)
        ret_configuration->state = name_state(ret_configuration, request->volume_count);
    return 0;
}

int configuration_storage(const char *file, const char *name, struct storage *ret_storage, struct buf *why)
{
    struct configuration_request request = {.file = file};
    struct node *root = NULL;
    BUF_SCOPED warnings = BUF_INIT;
    int rc = read_files(&request, &root, why);
    const struct node *table = rc == 0 ? node_get(node_get(root, "storage"), name) : NULL;
    *ret_storage = (struct storage){0};
    if (rc == 0 && !table) {
        words_next(why);
        buf_printf(why, "there is no [storage.%s] in the configuration", name);
        rc = -EINVAL;
    }
    if (rc == 0) {
        ret_storage->name = xstrdup(name);
        ret_storage->where = node_where(table);
        rc = configured_storage(table, ret_storage, &warnings, why);
        if (rc == 0)
            rc = storage_finish(ret_storage, why);
        words_complain(warnings.bytes);
    }
    node_free(root);
    if (rc < 0)
        storage_release(ret_storage);
    return rc;
}
