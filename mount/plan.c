#include "mount/plan.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mount/option.h"
#include "mount/words.h"
#include "s3/credentials.h"
#include "s3/store.h"

/* While it is made: what a mount is a group of. */
struct group {
    const char *bucket, *endpoint, *region;
    bool path_style;
    const struct storage *storage; /* or */
    const struct supply *supply;
    const char *options; /* of its volumes; "" */
    const char *options_where;
    bool writable, reader; /* a volume writes, a volume only reads */
};

struct maker {
    const struct plan_request *request;
    struct plan *plan;
    struct group *groups;
    size_t group_count;
    struct buf *why;
    int rc;
};

void plan_release(struct plan *plan)
{
    for (size_t i = 0; i < plan->mount_count; i++) {
        struct plan_mount *mount = &plan->mounts[i];
        free(mount->bucket);
        free(mount->endpoint);
        free(mount->region);
        free(mount->dir);
        free(mount->options);
        free(mount->credentials);
    }
    for (size_t i = 0; i < plan->link_count; i++) {
        free(plan->links[i].mount);
        free(plan->links[i].target);
        free(plan->links[i].bind);
    }
    for (size_t i = 0; i < plan->secret_count; i++) {
        free(plan->secrets[i].path);
        secret_unref(plan->secrets[i].content);
    }
    for (size_t i = 0; plan->notes && plan->notes[i]; i++)
        free(plan->notes[i]);
    free(plan->mounts);
    free(plan->links);
    free(plan->secrets);
    free(plan->notes);
    free(plan->native_base);
    *plan = (struct plan){0};
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* ---- Groups: endpoint, bucket, credentials. ---- */

static bool is_one(const struct group *a, const struct group *b)
{
    if (!same(a->bucket, b->bucket) || !same(a->endpoint, b->endpoint) || !a->storage != !b->storage)
        return false;
    if (a->storage)
        return storage_equal(a->storage, b->storage);
    return same(a->supply->identity, b->supply->identity);
}

static const struct supply *next_supply(const struct provision *provision, size_t *index)
{
    return provision && *index < provision->supply_count ? &provision->supplies[(*index)++] : NULL;
}

static struct group describe(const struct volume *volume, const struct supply *supply)
{
    const struct storage *storage = volume->storage;
    return (struct group){.bucket = volume->bucket,
                          .endpoint = storage ? storage->endpoint : supply->endpoint,
                          .region = storage ? storage->region : supply->region,
                          .path_style = storage ? storage->path_style : supply->path_style,
                          .storage = storage,
                          .supply = storage ? NULL : supply,
                          .options = "",
                          .options_where = volume->where};
}

static void join_options(struct maker *maker, struct group *group, const struct volume *volume)
{
    if (!*volume->options || strcmp(group->options, volume->options) == 0)
        return;
    if (!*group->options) {
        group->options = volume->options;
        group->options_where = volume->where;
        return;
    }
    words_next(maker->why);
    buf_printf(maker->why,
               "%s: options '%s' contradict those of %s, '%s': both volumes share the mount of bucket %s",
               volume->where, volume->options, group->options_where, group->options, volume->bucket);
    maker->rc = -EINVAL;
}

static size_t find_group(struct maker *maker, const struct volume *volume, const struct supply *supply)
{
    struct group wanted = describe(volume, supply);
    size_t i = 0;
    while (i < maker->group_count && !is_one(&maker->groups[i], &wanted))
        i++;
    if (i == maker->group_count) {
        maker->groups = xrealloc(maker->groups, (i + 1) * sizeof *maker->groups);
        maker->groups[maker->group_count++] = wanted;
    }
    struct group *group = &maker->groups[i];
    group->writable = group->writable || !volume->read_only;
    group->reader = group->reader || volume->read_only;
    join_options(maker, group, volume);
    return i;
}

/* ---- Mounts. ---- */

/* "minio:9000" of "http://minio:9000/": what tells two buckets of one name apart. */
static char *name_host(const char *endpoint)
{
    const char *host = strstr(endpoint, "://");
    host = host ? host + 3 : endpoint;
    return xstrndup(host, strcspn(host, "/"));
}

static bool has_dir(const struct plan *plan, const char *dir)
{
    for (size_t i = 0; i < plan->mount_count; i++)
        if (strcmp(plan->mounts[i].dir, dir) == 0)
            return true;
    return false;
}

static char *choose_dir(const struct plan *plan, const struct group *group)
{
    char *dir = xprintf("%s/%s", plan->base, group->bucket);
    STRING_SCOPED *host = name_host(group->endpoint);
    for (size_t number = 1; has_dir(plan, dir); number++) {
        free(dir);
        dir = number == 1 ? xprintf("%s/%s@%s", plan->base, group->bucket, host)
                          : xprintf("%s/%s@%s-%zu", plan->base, group->bucket, host, number);
    }
    return dir;
}

static void add_option(struct buf *options, const char *name, const char *value)
{
    buf_printf(options, "%s%s%s", options->length ? "," : "", name, value ? "=" : "");
    for (; value && *value; value++) {
        if (*value == ',' || *value == '\\')
            buf_add_char(options, '\\');
        buf_add_char(options, *value);
    }
}

static void write_options(const struct plan_request *request, const struct group *group,
                          const struct plan_mount *mount, struct buf *options)
{
    const struct storage *storage = group->storage;
    add_option(options, "endpoint", group->endpoint);
    if (group->region)
        add_option(options, "region", group->region);
    if (group->path_style)
        add_option(options, "style", "path");
    if (storage && storage->profile)
        add_option(options, "profile", storage->profile);
    if (storage && storage->no_sign_request)
        add_option(options, "no_sign_request", NULL);
    if (storage && storage->allow_http)
        add_option(options, "allow_http", NULL);
    if (*mount->credentials == '/')
        add_option(options, "credentials_file", mount->credentials);
    if (request->shared)
        add_option(options, "allow_other", NULL);
    add_option(options, group->writable ? "rw" : "ro", NULL);
    if (group->writable)
        add_option(options, "durability",
                   "sync"); /* workers vanish; what a volume says comes later, and wins */
    if (*group->options)
        buf_printf(options, ",%s", group->options);
}

static void refuse(struct maker *maker, const char *where, const char *what, const char *words)
{
    words_next(maker->why);
    buf_printf(maker->why, "%s: %s%s", where ? where : maker->plan->provider, what, words);
    maker->rc = -EINVAL;
}

/* What the volumes' own options say against the rest of the plan. */
static const char *find_contradiction(const struct group *group, const struct settings *settings)
{
    if (settings->read_only && group->writable)
        return "they make the mount read-only, and a volume of it has read_only = false";
    if (!settings->read_only && !group->writable)
        return "rw says less than read_only = false, which is missing";
    if (strcmp(settings->endpoint, group->endpoint) != 0)
        return "endpoint belongs into the storage";
    return NULL;
}

/* By what the mount itself will ask of them, so that it need not fail on a machine that is paid for. */
static void check_endpoint(struct maker *maker, const struct group *group, const struct settings *settings)
{
    struct store *store = NULL;
    BUF_SCOPED words = BUF_INIT;
    struct store_config config = {.endpoint = settings->endpoint,
                                  .bucket = group->bucket,
                                  .region = settings->region,
                                  .style = (enum store_style)settings->style,
                                  .allow_http = settings->allow_http};
    if (store_s3_new(&config, &store, &words) < 0)
        refuse(maker, group->storage ? group->storage->where : NULL, "", words.bytes);
    store_free(store);
}

/* `options`: all of the mount, those of the volumes at the end. */
static void check_options(struct maker *maker, const struct group *group, const char *options)
{
    struct settings settings = {0};
    BUF_SCOPED words = BUF_INIT;
    option_defaults(&settings);
    if (option_parse_list(&settings, group->options, &words) == 0 &&
        option_from_environment(&settings, &words) == 0 && option_parse_list(&settings, options, &words) == 0)
        option_check(&settings, &words);
    const char *against = words.length ? words.bytes : find_contradiction(group, &settings);
    if (against)
        refuse(maker, group->options_where, "options: ", against);
    else
        check_endpoint(maker, group, &settings);
    settings_release(&settings);
}

/* ---- Secrets. ---- */

static void write_credentials(const char *access_key, const char *secret_key, const char *token,
                              struct buf *out)
{
    buf_printf(out, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", access_key,
               secret_key);
    if (token)
        buf_printf(out, "aws_session_token = %s\n", token);
}

/* Keys that a command makes end some day, and the mount goes on: where it can, it asks the command itself. */
static int write_storage_keys(const struct maker *maker, const struct storage *storage, struct buf *out)
{
    struct keys *keys;
    BUF_SCOPED line = BUF_INIT;
    int rc = storage_keys_again(storage, &keys, &line, maker->why);
    if (rc < 0)
        return rc;
    if (maker->request->here && line.length)
        buf_printf(out, "[default]\ncredential_process = %s\n", line.bytes);
    else
        write_credentials(keys->access_key, secret_reveal(keys->secret_key),
                          keys->session_token ? secret_reveal(keys->session_token) : NULL, out);
    keys_unref(keys);
    return 0;
}

static void add_secret(struct plan *plan, const char *path, struct buf *content)
{
    plan->secrets = xrealloc(plan->secrets, (plan->secret_count + 1) * sizeof *plan->secrets);
    plan->secrets[plan->secret_count++] =
        (struct plan_secret){xstrdup(path), secret_new(content->bytes, content->length)};
}

/* "role", "chain", "none", or the path of the secret, which is added. */
static char *settle_credentials(struct maker *maker, const struct group *group, const char *dir)
{
    const struct supply *supply = group->supply;
    BUF_SCOPED content = BUF_INIT;
    if (group->storage && group->storage->no_sign_request)
        return xstrdup("none");
    if (group->storage && !storage_has_keys(group->storage))
        return xstrdup("chain");
    if (supply && supply->credentials == SUPPLY_ROLE)
        return xstrdup("role");
    char *path = xprintf("%s/%s", maker->request->keys, strrchr(dir, '/') + 1);
    if (group->storage && write_storage_keys(maker, group->storage, &content) < 0)
        maker->rc = maker->rc < 0 ? maker->rc : -ENOKEY;
    else if (supply)
        write_credentials(supply->access_key, secret_reveal(supply->secret_key),
                          supply->session_token ? secret_reveal(supply->session_token) : NULL, &content);
    add_secret(maker->plan, path, &content);
    secret_wipe(content.bytes, content.length);
    return path;
}

static void add_mount(struct maker *maker, const struct group *group)
{
    struct plan *plan = maker->plan;
    struct plan_mount mount = {.bucket = xstrdup(group->bucket),
                               .endpoint = xstrdup(group->endpoint),
                               .region = group->region ? xstrdup(group->region) : NULL,
                               .path_style = group->path_style,
                               .storage = group->storage,
                               .supply = group->supply,
                               .read_only = !group->writable,
                               .dir = choose_dir(plan, group)};
    BUF_SCOPED options = BUF_INIT;
    mount.credentials = settle_credentials(maker, group, mount.dir);
    write_options(maker->request, group, &mount, &options);
    check_options(maker, group, options.bytes);
    mount.options = buf_take(&options);
    if (group->writable && group->reader)
        provision_add(
            &maker->plan->notes,
            "bucket %s is mounted read-write, because a volume writes to it; its read-only volumes are bound "
            "read-only where the host can",
            group->bucket);
    plan->mounts = xrealloc(plan->mounts, (plan->mount_count + 1) * sizeof *plan->mounts);
    plan->mounts[plan->mount_count++] = mount;
}

/* ---- Links. ---- */

/* "/data/x" as one component: a place of its own below the base. */
static char *name_bind(const struct plan *plan, const char *mount)
{
    BUF_SCOPED name = BUF_INIT;
    for (const char *at = mount + 1; *at; at++) {
        if (*at == '/')
            buf_add_string(&name, "%2F");
        else if (*at == '%')
            buf_add_string(&name, "%25");
        else
            buf_add_char(&name, *at);
    }
    return xprintf("%s/.read-only/%s", plan->base, name.bytes);
}

static char *join_target(const char *dir, const char *prefix)
{
    size_t length = strlen(prefix);
    return length ? xprintf("%s/%.*s", dir, (int)(length - 1), prefix) : xstrdup(dir);
}

static void add_link(struct plan *plan, const struct volume *volume, size_t mount_index)
{
    bool native = mount_index == SIZE_MAX;
    const struct plan_mount *mount = native ? NULL : &plan->mounts[mount_index];
    struct plan_link link = {.mount = xstrdup(volume->mount),
                             .target = join_target(native ? plan->native_base : mount->dir, volume->prefix),
                             .prefix = volume->prefix,
                             .mount_index = mount_index,
                             .read_only = volume->read_only};
    if (!native && volume->read_only && !mount->read_only)
        link.bind = name_bind(plan, volume->mount);
    plan->links = xrealloc(plan->links, (plan->link_count + 1) * sizeof *plan->links);
    plan->links[plan->link_count++] = link;
}

static void note_native(struct maker *maker)
{
    const struct configuration *configuration = maker->request->configuration;
    for (size_t i = 0; i < configuration->volume_count; i++)
        if (!configuration->volumes[i].storage && configuration->volumes[i].read_only)
            provision_add(&maker->plan->notes, "%s: read_only cannot be enforced on a native volume",
                          configuration->volumes[i].mount);
}

static void copy_notes(struct maker *maker)
{
    const struct provision *provision = maker->request->provision;
    for (size_t i = 0; provision && provision->notes && provision->notes[i]; i++)
        provision_add(&maker->plan->notes, "%s", provision->notes[i]);
}

/* ---- All. ---- */

static void make_groups(struct maker *maker, size_t *indices)
{
    const struct configuration *configuration = maker->request->configuration;
    size_t next = 0;
    for (size_t i = 0; i < configuration->volume_count; i++) {
        const struct volume *volume = &configuration->volumes[i];
        const struct supply *supply = volume->storage ? NULL : next_supply(maker->request->provision, &next);
        indices[i] = volume->storage || supply ? find_group(maker, volume, supply) : SIZE_MAX;
    }
}

int plan_make(const struct plan_request *request, struct plan *ret_plan, struct buf *why)
{
    const struct configuration *configuration = request->configuration;
    const struct provision *provision = request->provision;
    struct maker maker = {.request = request, .plan = ret_plan, .why = why};
    size_t *indices = xcalloc(configuration->volume_count + 1, sizeof *indices);
    *ret_plan =
        (struct plan){.provider = configuration->provider_type ? configuration->provider_type : "none",
                      .base = configuration->base};
    if (provision && provision->native_base) {
        ret_plan->native_base = xstrdup(provision->native_base);
        note_native(&maker);
    }
    if (provision) {
        ret_plan->deploy_hints = provision->deploy_hints;
        ret_plan->deploy_forms = provision->deploy_forms;
    }
    make_groups(&maker, indices);
    for (size_t i = 0; i < maker.group_count; i++)
        add_mount(&maker, &maker.groups[i]);
    for (size_t i = 0; i < configuration->volume_count; i++)
        add_link(ret_plan, &configuration->volumes[i], indices[i]);
    copy_notes(&maker);
    free(maker.groups);
    free(indices);
    if (maker.rc < 0)
        plan_release(ret_plan);
    return maker.rc;
}

/* ---- JSON. ---- */

static struct json *mounts_json(const struct plan *plan)
{
    struct json *all = json_array_new();
    for (size_t i = 0; i < plan->mount_count; i++) {
        const struct plan_mount *mount = &plan->mounts[i];
        struct json *one = json_object_new();
        json_set_string(one, "bucket", mount->bucket);
        json_set_string(one, "endpoint", mount->endpoint);
        json_set_string(one, "region", mount->region);
        json_set_bool(one, "path_style", mount->path_style);
        json_set_bool(one, "read_only", mount->read_only);
        json_set_string(one, "dir", mount->dir);
        json_set_string(one, "credentials", mount->credentials);
        json_set_string(one, "options", mount->options);
        json_append(all, &one);
    }
    return all;
}

static struct json *links_json(const struct plan *plan)
{
    struct json *all = json_array_new();
    for (size_t i = 0; i < plan->link_count; i++) {
        const struct plan_link *link = &plan->links[i];
        struct json *one = json_object_new();
        json_set_string(one, "mount", link->mount);
        json_set_string(one, "target", link->target);
        json_set_bool(one, "read_only", link->read_only);
        if (link->bind)
            json_set_string(one, "bind", link->bind);
        json_append(all, &one);
    }
    return all;
}

static struct json *secrets_json(const struct plan *plan)
{
    struct json *all = json_array_new();
    for (size_t i = 0; i < plan->secret_count; i++) {
        struct json *one = json_object_new();
        json_set_string(one, "path", plan->secrets[i].path);
        json_set_string(one, "mode", "0600");
        json_set_string(one, "content", secret_reveal(plan->secrets[i].content));
        json_append(all, &one);
    }
    return all;
}

struct json *plan_json(const struct plan *plan, const struct plan_package *package)
{
    struct json *all = json_object_new(), *part;
    BUF_SCOPED script = BUF_INIT;
    json_set_string(all, "provider", plan->provider);
    part = plan->deploy_hints ? json_clone(plan->deploy_hints) : json_object_new();
    json_set(all, "deploy_hints", &part);
    if (plan->deploy_forms) {
        part = json_clone(plan->deploy_forms);
        json_set(all, "deploy_forms", &part);
    }
    part = mounts_json(plan);
    json_set(all, "mounts", &part);
    part = links_json(plan);
    json_set(all, "links", &part);
    part = secrets_json(plan);
    json_set(all, "secrets", &part);
    part = json_array_new();
    for (size_t i = 0; plan->notes && plan->notes[i]; i++)
        json_append_string(part, plan->notes[i]);
    json_set(all, "notes", &part);
    plan_script(plan, package, &script);
    json_set_string(all, "bootstrap", script.bytes);
    return all;
}
