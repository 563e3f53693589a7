#include "mount/volume.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "mount/option.h"
#include "mount/source.h"
#include "mount/words.h"

static const char *const fields[] = {"bucket", "mount", "prefix", "read_only", "options"};

/* Neither they nor what is below them. */
static const char *const system_trees[] = {"/bin",   "/boot",  "/dev",    "/etc",        "/lib",
                                           "/lib32", "/lib64", "/libx32", "/proc",       "/run",
                                           "/sbin",  "/sys",   "/usr",    "/opt/skyward"};
/* They alone: what is below them is fine. */
static const char *const system_paths[] = {"/", "/root", "/tmp", "/opt", "/home", "/mnt", "/var"};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

void volume_init(struct volume *volume, const char *where)
{
    *volume = (struct volume){.read_only = true};
    volume->where = xstrdup(where);
    volume->options = xstrdup("");
    volume->prefix = xstrdup("");
}

void volume_release(struct volume *volume)
{
    free(volume->bucket);
    free(volume->mount);
    free(volume->prefix);
    free(volume->options);
    free(volume->where);
    *volume = (struct volume){0};
}

static void begin_words(const struct volume *volume, struct buf *why)
{
    words_next(why);
    buf_printf(why, "%s: ", volume->where);
}

static void replace(char **place, const char *value)
{
    free(*place);
    *place = xstrdup(value);
}

static int set_bool(struct volume *volume, const char *value, struct buf *why)
{
    bool yes = strcmp(value, "yes") == 0 || strcmp(value, "true") == 0;
    if (!yes && strcmp(value, "no") != 0 && strcmp(value, "false") != 0) {
        begin_words(volume, why);
        buf_printf(why, "read_only must be true or false, got '%s'", value);
        return -EINVAL;
    }
    volume->read_only = yes;
    return 0;
}

static int refuse_field(const struct volume *volume, const char *field, struct buf *why)
{
    const char *names[COUNT(fields) + 1];
    memcpy(names, fields, sizeof fields);
    names[COUNT(fields)] = "storage";
    const char *nearest = option_nearest(field, names, COUNT(names));
    begin_words(volume, why);
    buf_printf(why, "a volume has no '%s'", field);
    if (nearest)
        buf_printf(why, "; did you mean '%s'?", nearest);
    return -EINVAL;
}

int volume_set(struct volume *volume, const char *field, const char *value, struct buf *why)
{
    size_t known = 0;
    while (known < COUNT(fields) && strcmp(fields[known], field) != 0)
        known++;
    if (known == COUNT(fields))
        return refuse_field(volume, field, why);
    volume->bucket_said |= known == 0;
    volume->mount_said |= known == 1;
    if (words_have_control(value)) {
        begin_words(volume, why);
        buf_printf(why, "%s has a control character", field);
        return -EINVAL;
    }
    if (strcmp(field, "read_only") == 0)
        return set_bool(volume, value, why);
    replace(known == 0   ? &volume->bucket
            : known == 1 ? &volume->mount
            : known == 2 ? &volume->prefix
                         : &volume->options,
            value);
    return 0;
}

/* The word up to the next comma that no backslash keeps. */
static const char *take_word(const char *at, struct buf *ret_word)
{
    buf_reset(ret_word);
    for (; *at && *at != ','; at++) {
        if (*at == '\\' && at[1])
            at++;
        buf_add_char(ret_word, *at);
    }
    return *at ? at + 1 : at;
}

int volume_parse(struct volume *volume, const char *text, struct buf *why)
{
    BUF_SCOPED word = BUF_INIT;
    int rc = 0;
    while (*text) {
        text = take_word(text, &word);
        char *equals = strchr(word.bytes, '=');
        if (equals)
            *equals = 0;
        int one_rc = 0;
        if (!equals && (strcmp(word.bytes, "rw") == 0 || strcmp(word.bytes, "ro") == 0)) {
            volume->read_only = word.bytes[1] == 'o';
        } else if (!equals && word.length) {
            begin_words(volume, why);
            buf_printf(why, "'%s' is neither ro, rw nor NAME=VALUE", word.bytes);
            one_rc = -EINVAL;
        } else if (equals) {
            one_rc = volume_set(volume, word.bytes, equals + 1, why);
        }
        rc = one_rc < 0 ? one_rc : rc;
    }
    return rc;
}

/* ---- Paths. ---- */

char *volume_normalise(const char *path)
{
    BUF_SCOPED out = BUF_INIT;
    if (*path != '/')
        return NULL;
    while (*path) {
        size_t length = strcspn(path, "/");
        if (length == 2 && path[0] == '.' && path[1] == '.')
            return NULL;
        if (length > 0 && !(length == 1 && path[0] == '.')) {
            buf_add_char(&out, '/');
            buf_add(&out, path, length);
        }
        path += length + (path[length] == '/');
    }
    if (!out.length)
        buf_add_char(&out, '/');
    return buf_take(&out);
}

/* `path` is `tree`, or stands below it. */
static bool is_within(const char *path, const char *tree)
{
    size_t length = strlen(tree);
    return strncmp(path, tree, length) == 0 &&
           (!path[length] || path[length] == '/' || tree[length - 1] == '/');
}

static bool is_system_path(const char *path, const char *base)
{
    for (size_t i = 0; i < COUNT(system_paths); i++)
        if (strcmp(path, system_paths[i]) == 0)
            return true;
    for (size_t i = 0; i < COUNT(system_trees); i++)
        if (is_within(path, system_trees[i]))
            return true;
    /* The mounts themselves stand there: links within them would be files of the bucket. */
    return is_within(path, base) || is_within(base, path);
}

static int check_mount(struct volume *volume, const char *base, struct buf *why)
{
    if (!volume->mount && volume->mount_said)
        return -EINVAL;
    if (!volume->mount) {
        begin_words(volume, why);
        buf_add_string(why, "mount is missing: where the volume appears");
        return -EINVAL;
    }
    STRING_SCOPED *path = volume_normalise(volume->mount);
    if (!path || is_system_path(path, base) || strlen(path) > 4000 || !utf8_valid(path)) {
        begin_words(volume, why);
        if (*volume->mount != '/')
            buf_printf(why, "mount must be absolute path, got '%s'", volume->mount);
        else if (!path)
            buf_printf(why, "mount must not have '..' as a component: '%s'", volume->mount);
        else if (is_system_path(path, base))
            buf_printf(why, "mount cannot be a system path: '%s'", volume->mount);
        else
            buf_printf(why, "mount is too long, or not UTF-8: '%s'", volume->mount);
        return -EINVAL;
    }
    replace(&volume->mount, path);
    return 0;
}

static int check_prefix(struct volume *volume, struct buf *why)
{
    char *prefix;
    BUF_SCOPED words = BUF_INIT;
    int rc = source_parse_prefix(volume->prefix, &prefix, &words);
    if (rc < 0) {
        begin_words(volume, why);
        buf_printf(why, "prefix '%s': %s", volume->prefix, words.bytes);
        return rc;
    }
    free(volume->prefix);
    volume->prefix = prefix;
    return 0;
}

static int check_bucket(const struct volume *volume, struct buf *why)
{
    BUF_SCOPED words = BUF_INIT;
    int rc = 0;
    if (!volume->bucket && volume->bucket_said)
        return -EINVAL;
    if (!volume->bucket || !*volume->bucket) {
        buf_add_string(&words, volume->bucket ? "bucket is empty" : "bucket is missing");
        rc = -EINVAL;
    } else if (volume->storage) { /* else its provider knows what a name is */
        rc = source_check_bucket(volume->bucket, &words);
    }
    if (rc < 0) {
        begin_words(volume, why);
        buf_add_string(why, words.bytes);
    }
    return rc;
}

static int check_beside(const struct volume *volume, const struct volume *other, struct buf *why)
{
    bool same = strcmp(volume->mount, other->mount) == 0;
    if (!same && !is_within(volume->mount, other->mount) && !is_within(other->mount, volume->mount))
        return 0;
    begin_words(volume, why);
    if (same)
        buf_printf(why, "mount '%s' is also that of the volume at %s", volume->mount, other->where);
    else
        buf_printf(why, "mount '%s' and mount '%s' (%s): one stands within the other", volume->mount,
                   other->mount, other->where);
    return -EINVAL;
}

int volumes_check(struct volume *volumes, size_t count, const char *base, struct buf *why)
{
    int rc = 0;
    for (size_t i = 0; i < count; i++) {
        int bucket_rc = check_bucket(&volumes[i], why);
        int mount_rc = check_mount(&volumes[i], base, why);
        int prefix_rc = check_prefix(&volumes[i], why);
        rc = bucket_rc < 0 || mount_rc < 0 || prefix_rc < 0 ? -EINVAL : rc;
        for (size_t j = 0; j < i && mount_rc == 0; j++)
            if (volumes[j].mount && *volumes[j].mount == '/' &&
                check_beside(&volumes[i], &volumes[j], why) < 0)
                rc = -EINVAL;
    }
    return rc;
}
