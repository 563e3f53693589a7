#include "mount/configured.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mount/option.h"
#include "mount/words.h"

static void complain(const struct node *node, struct buf *why, const char *words)
{
    words_next(why);
    buf_printf(why, "%s:%d: %s%s%s", node->file, node->line, node->name ? node->name : "",
               node->name ? ": " : "", words);
}

/* ---- Credentials. ---- */

static int take_command(const struct node *list, struct deferred *ret_credential, struct buf *why)
{
    bool right = list->kind == NODE_ARRAY && list->count > 0;
    for (size_t i = 0; right && i < list->count; i++)
        right = list->children[i]->kind == NODE_TEXT;
    if (!right) {
        complain(list, why, "must be a list of words, [\"prog\", \"arg\"]");
        return -EINVAL;
    }
    ret_credential->kind = DEFERRED_COMMAND;
    ret_credential->words = xcalloc(list->count + 1, sizeof *ret_credential->words);
    for (size_t i = 0; i < list->count; i++)
        ret_credential->words[i] = xstrdup(list->children[i]->text);
    return 0;
}

/* "~/x" and paths beside the file that names them. */
static char *resolve_path(const struct node *node)
{
    const char *path = node->text, *home = getenv("HOME"), *slash = strrchr(node->file, '/');
    if (strncmp(path, "~/", 2) == 0 && home && *home)
        return xprintf("%s%s", home, path + 1);
    if (*path == '/' || !slash)
        return xstrdup(path);
    return xprintf("%.*s/%s", (int)(slash - node->file), node->file, path);
}

int configured_credential(const struct node *node, struct deferred *ret_credential, struct buf *why)
{
    struct deferred credential = {.where = node_where(node)};
    const struct node *inner = node->kind == NODE_TABLE && node->count == 1 ? node->children[0] : NULL;
    bool text = inner && inner->kind == NODE_TEXT && *inner->text;
    int rc = 0;
    if (node->kind == NODE_TEXT &&
        words_have_control(node->text)) { /* a line of its own in a credentials file */
        complain(node, why, "has a control character");
        rc = -EINVAL;
    } else if (node->kind == NODE_TEXT && *node->text) {
        credential.kind = DEFERRED_LITERAL;
        credential.literal = secret_new(node->text, strlen(node->text));
    } else if (text && strcmp(inner->name, "env") == 0) {
        credential.kind = DEFERRED_ENV;
        credential.name = xstrdup(inner->text);
    } else if (text && strcmp(inner->name, "file") == 0) {
        credential.kind = DEFERRED_FILE;
        credential.name = resolve_path(inner);
    } else if (inner && strcmp(inner->name, "command") == 0) {
        rc = take_command(inner, &credential, why);
    } else {
        complain(
            node, why,
            "must be a text, { env = \"NAME\" }, { file = \"PATH\" } or { command = [\"prog\", \"arg\"] }");
        rc = -EINVAL;
    }
    if (rc < 0)
        deferred_release(&credential);
    else
        *ret_credential = credential;
    return rc;
}

/* ---- Storages. ---- */

static bool others_read(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && (status.st_mode & 044);
}

static void warn_of_literal(const struct node *node, struct buf *warnings)
{
    if (!others_read(node->file))
        return;
    words_next(warnings);
    buf_printf(warnings,
               "%s:%d: %s stands in a file that others can read: chmod 600 %s, or say { env = \"NAME\" }",
               node->file, node->line, node->name, node->file);
}

static int set_field(const struct node *field, struct storage *storage, struct buf *warnings, struct buf *why)
{
    STRING_SCOPED *where = node_where(field);
    if (storage_is_credential(field->name)) {
        struct deferred credential = {0};
        int rc = configured_credential(field, &credential, why);
        if (rc == 0 && credential.kind == DEFERRED_LITERAL)
            warn_of_literal(field, warnings);
        if (rc == 0)
            rc = storage_set_credential(storage, field->name, &credential, why);
        deferred_release(&credential);
        return rc;
    }
    if (field->text)
        return storage_set(storage, field->name, field->text, where, why);
    BUF_SCOPED unknown = BUF_INIT; /* an unknown name is said before a wrong kind is */
    if (storage_set(storage, field->name, "", where, &unknown) < 0 && strstr(unknown.bytes, "has no '")) {
        words_next(why);
        buf_add_string(why, unknown.bytes);
    } else {
        complain(field, why, "must be a text");
    }
    return -EINVAL;
}

int configured_storage(const struct node *table, struct storage *storage, struct buf *warnings,
                       struct buf *why)
{
    int rc = 0;
    if (table->kind != NODE_TABLE) {
        complain(table, why, "must be a table");
        return -EINVAL;
    }
    for (size_t i = 0; i < table->count; i++)
        if (set_field(table->children[i], storage, warnings, why) < 0)
            rc = -EINVAL;
    return rc;
}

static struct storage *add_storage(struct configuration *configuration, struct storage *storage)
{
    struct storage *kept = xmalloc(sizeof *kept);
    *kept = *storage;
    *storage = (struct storage){0};
    configuration->storages = xrealloc(configuration->storages,
                                       (configuration->storage_count + 1) * sizeof *configuration->storages);
    configuration->storages[configuration->storage_count++] = kept;
    return kept;
}

static int finish_storage(struct storage *storage, int rc, struct configuration *configuration,
                          const struct storage **ret_storage, struct buf *why)
{
    if (rc == 0)
        rc = storage_finish(storage, why);
    /* Also one that is wrong stays: the volume has one, and no provider is to be asked for it. */
    *ret_storage = add_storage(configuration, storage);
    return rc;
}

static void list_names(const struct node *table, struct buf *out)
{
    if (!table || table->kind != NODE_TABLE || !table->count) {
        buf_add_string(out, "there is none");
        return;
    }
    for (size_t i = 0; i < table->count; i++)
        buf_printf(out, "%s%s", i ? ", " : "there is ", table->children[i]->name);
}

/* Each is read once, however many volumes name it. */
static int find_named(const char *name, const char *where, const struct node *root,
                      struct configuration *configuration, const struct storage **ret_storage,
                      struct buf *why)
{
    for (size_t i = 0; i < configuration->storage_count; i++) {
        const struct storage *known = configuration->storages[i];
        if (known->name && strcmp(known->name, name) == 0) {
            *ret_storage = known;
            return 0;
        }
    }
    const struct node *all = node_get(root, "storage"), *table = node_get(all, name);
    if (!table) {
        words_next(why);
        buf_printf(why, "%s: there is no [storage.%s]; ", where, name);
        list_names(all, why);
        return -EINVAL;
    }
    struct storage storage = {.name = xstrdup(name), .where = node_where(table)};
    int rc = configured_storage(table, &storage, &configuration->warnings, why);
    return finish_storage(&storage, rc, configuration, ret_storage, why);
}

static int take_storage(const struct node *node, const struct node *root, struct configuration *configuration,
                        struct volume *volume, struct buf *why)
{
    STRING_SCOPED *where = node_where(node);
    if (node->kind == NODE_TEXT)
        return find_named(node->text, where, root, configuration, &volume->storage, why);
    struct storage storage = {.where = node_where(node)};
    int rc = configured_storage(node, &storage, &configuration->warnings, why);
    return finish_storage(&storage, rc, configuration, &volume->storage, why);
}

/* ---- Volumes. ---- */

static struct volume *add_volume(struct configuration *configuration, const char *where)
{
    configuration->volumes =
        xrealloc(configuration->volumes, (configuration->volume_count + 1) * sizeof *configuration->volumes);
    struct volume *volume = &configuration->volumes[configuration->volume_count++];
    volume_init(volume, where);
    return volume;
}

static int set_volume_value(const struct node *field, const struct node *root,
                            struct configuration *configuration, struct volume *volume, struct buf *why)
{
    if (strcmp(field->name, "storage") == 0)
        return take_storage(field, root, configuration, volume, why);
    if (field->kind == NODE_TEXT || field->kind == NODE_SWITCH || field->kind == NODE_NUMBER) {
        bool wants_switch = strcmp(field->name, "read_only") == 0;
        if (wants_switch == (field->kind == NODE_SWITCH) && field->kind != NODE_NUMBER)
            return volume_set(volume, field->name, field->text, why);
    }
    BUF_SCOPED unknown = BUF_INIT;
    struct volume other; /* asked in the place of ours, which keeps what it has */
    volume_init(&other, volume->where);
    int rc = volume_set(&other, field->name, "no", &unknown);
    volume->bucket_said |= other.bucket_said;
    volume->mount_said |= other.mount_said;
    volume_release(&other);
    if (rc < 0) {
        words_next(why);
        buf_add_string(why, unknown.bytes);
    } else {
        complain(field, why,
                 strcmp(field->name, "read_only") == 0 ? "must be true or false" : "must be a text");
    }
    return -EINVAL;
}

/* What is wrong with a field is said with the line of the field, not that of the volume. */
static int set_volume_field(const struct node *field, const struct node *root,
                            struct configuration *configuration, struct volume *volume, struct buf *why)
{
    char *whole = volume->where;
    volume->where = node_where(field);
    int rc = set_volume_value(field, root, configuration, volume, why);
    free(volume->where);
    volume->where = whole;
    return rc;
}

int configured_volume(const struct node *table, const struct node *root, struct configuration *configuration,
                      struct buf *why)
{
    STRING_SCOPED *where = node_where(table);
    int rc = 0;
    if (table->kind != NODE_TABLE) {
        complain(table, why, "a volume must be a table");
        return -EINVAL;
    }
    struct volume *volume = add_volume(configuration, where);
    for (size_t i = 0; i < table->count; i++)
        if (set_volume_field(table->children[i], root, configuration, volume, why) < 0)
            rc = -EINVAL;
    return rc;
}

/* ---- --volume. ---- */

static bool is_of_storage(const char *name)
{
    static const char *const names[] = {"preset",  "endpoint",   "region",          "account_id",
                                        "profile", "path_style", "no_sign_request", "allow_http"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return storage_is_credential(name);
}

/* The words between commas, a backslash keeps the next character: those of the storage are taken out of the text. */
static int split_words(const char *text, const char *where, struct storage *storage, struct buf *ret_volume,
                       char **ret_named, bool *ret_said, struct buf *why)
{
    int rc = 0;
    BUF_SCOPED word = BUF_INIT;
    BUF_SCOPED raw = BUF_INIT;
    for (;;) {
        if (*text && *text != ',') {
            bool kept = *text == '\\' && text[1];
            buf_add(&raw, text, kept ? 2 : 1);
            buf_add_char(&word, text[kept]);
            text += kept ? 2 : 1;
            continue;
        }
        char *equals = strchr(word.bytes, '=');
        STRING_SCOPED *name = equals ? xstrndup(word.bytes, (size_t)(equals - word.bytes)) : xstrdup("");
        if (equals && strcmp(name, "storage") == 0) {
            free(*ret_named);
            *ret_named = xstrdup(equals + 1);
        } else if (equals && is_of_storage(name)) {
            *ret_said = true;
            if (storage_set(storage, name, equals + 1, where, why) < 0)
                rc = -EINVAL;
        } else if (raw.length) {
            buf_printf(ret_volume, "%s%s", ret_volume->length ? "," : "", raw.bytes);
        }
        buf_reset(&word);
        buf_reset(&raw);
        if (!*text++)
            return rc;
    }
}

int configured_words(const char *text, size_t number, const struct node *root,
                     struct configuration *configuration, struct buf *why)
{
    STRING_SCOPED *where = xprintf("--volume %zu", number);
    STRING_SCOPED *named = NULL;
    BUF_SCOPED rest = BUF_INIT;
    struct storage storage = {.where = xstrdup(where)};
    bool said = false;
    int rc = split_words(text, where, &storage, &rest, &named, &said, why);
    struct volume *volume = add_volume(configuration, where);
    int volume_rc = volume_parse(volume, rest.bytes, why);
    rc = rc < 0 ? rc : volume_rc;
    if (said && named) {
        words_next(why);
        buf_printf(why, "%s: storage=%s and fields of a storage contradict each other: one of them", where,
                   named);
        rc = -EINVAL;
    }
    int storage_rc = 0;
    if (said)
        storage_rc = finish_storage(&storage, rc, configuration, &volume->storage, why);
    else if (named)
        storage_rc = find_named(named, where, root, configuration, &volume->storage, why);
    storage_release(&storage);
    return rc < 0 ? rc : storage_rc;
}

/* ---- Providers. ---- */

static char **take_list(const struct node *node, bool *ret_plain)
{
    char **list = xcalloc(node->count + 1, sizeof *list);
    size_t count = 0;
    for (size_t i = 0; i < node->count; i++)
        if (node->children[i]->text)
            list[count++] = xstrdup(node->children[i]->text);
    *ret_plain = count == node->count;
    return list;
}

static bool is_credential(const struct node *node)
{
    return node->kind == NODE_TABLE && node->count == 1 &&
           (strcmp(node->children[0]->name, "env") == 0 || strcmp(node->children[0]->name, "file") == 0 ||
            strcmp(node->children[0]->name, "command") == 0);
}

int configured_settings(const struct node *table, struct provider_settings *settings, struct buf *why)
{
    int rc = 0;
    for (size_t i = 0; i < table->count; i++) {
        const struct node *node = table->children[i];
        struct provider_setting setting = {0};
        if (strcmp(node->name, "type") == 0)
            continue;
        if (is_credential(node)) {
            if (configured_credential(node, &setting.credential, why) < 0) {
                rc = -EINVAL;
                continue;
            }
        } else if (node->kind == NODE_ARRAY) {
            setting.list = take_list(node, &setting.plain);
        } else if (node->text) {
            setting.value = xstrdup(node->text);
            setting.open = others_read(node->file);
        }
        setting.name = xstrdup(node->name);
        setting.where = node_where(node);
        settings->all = xrealloc(settings->all, (settings->count + 1) * sizeof *settings->all);
        settings->all[settings->count++] = setting;
    }
    return rc;
}
