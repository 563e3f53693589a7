#include "mount/runpod.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define LISTED_MAX 50
#define CLOUD_TYPE "SECURE"

static struct runpod_volume read_volume(const struct json *from)
{
    struct runpod_volume volume = {.id = json_get_string(from, "id"), .name = json_get_string(from, "name")};
    volume.data_center = json_get_string(from, "dataCenterId");
    return volume;
}

/* An id goes into the call that makes a pod, a data centre too. */
static bool is_word(const char *text)
{
    size_t length = text ? strlen(text) : 0;
    return length > 0 && length <= 128 &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == length;
}

static bool is_readable(const struct runpod_volume *volume)
{
    return is_word(volume->id) && is_word(volume->data_center);
}

static int refuse_unknown(const struct json *volumes, const char *bucket, struct buf *why)
{
    size_t count = json_count(volumes);
    buf_printf(why, "RunPod has no network volume with the id or name '%s'; ", bucket);
    if (!count)
        buf_add_string(why, "this account has none: make one in the console under Storage");
    else
        buf_add_string(why, "this account has ");
    for (size_t i = 0; i < count && i < LISTED_MAX; i++) {
        struct runpod_volume volume = read_volume(json_at(volumes, i));
        buf_printf(why, "%s%s (id %s, in %s)", i ? ", " : "", volume.name ? volume.name : "(no name)",
                   volume.id ? volume.id : "unknown", volume.data_center ? volume.data_center : "unknown");
    }
    if (count > LISTED_MAX)
        buf_printf(why, " and %zu more", count - LISTED_MAX);
    return -ENOENT;
}

static int take(const struct runpod_volume *volume, struct runpod_volume *ret_volume, struct buf *why)
{
    if (!is_readable(volume)) {
        buf_add_string(why, "RunPod tells of a network volume without a proper id and data centre");
        return -EBADMSG;
    }
    *ret_volume = *volume;
    return 0;
}

int runpod_match(const struct json *volumes, const char *bucket, struct runpod_volume *ret_volume,
                 struct buf *why)
{
    BUF_SCOPED ids = BUF_INIT;
    struct runpod_volume named = {0};
    size_t count = 0;
    if (!json_holds_items(volumes)) {
        buf_add_string(why, "RunPod answers with what is no list of network volumes");
        return -EBADMSG;
    }
    for (size_t i = 0; i < json_count(volumes); i++) {
        struct runpod_volume volume = read_volume(json_at(volumes, i));
        if (volume.id && strcmp(volume.id, bucket) == 0)
            return take(&volume, ret_volume, why);
        if (!volume.name || strcmp(volume.name, bucket) != 0)
            continue;
        buf_printf(&ids, "%s%s (in %s)", count++ ? ", " : "", volume.id ? volume.id : "unknown",
                   volume.data_center ? volume.data_center : "unknown");
        named = volume;
    }
    if (!count)
        return refuse_unknown(volumes, bucket, why);
    if (count == 1)
        return take(&named, ret_volume, why);
    buf_printf(
        why, "RunPod has %zu network volumes named '%s'; give the id of the one that is meant as bucket: %s",
        count, bucket, ids.bytes);
    return -EEXIST;
}

int runpod_place(const struct runpod_volume *volume, const char *const *allowed, struct buf *why)
{
    BUF_SCOPED names = BUF_INIT;
    if (!allowed || !*allowed)
        return 0;
    for (const char *const *name = allowed; *name; name++) {
        if (strcasecmp(*name, volume->data_center) == 0 || strcasecmp(*name, "global") == 0)
            return 0;
        buf_printf(&names, "%s%s", name == allowed ? "" : ", ", *name);
    }
    buf_printf(why,
               "network volume %s (id %s) stands in %s, and pods are to run in %s: a network volume is "
               "attached in its own data centre only; "
               "put %s into data_center_ids, or take a volume of %s",
               volume->name ? volume->name : volume->id, volume->id, volume->data_center, names.bytes,
               volume->data_center, names.bytes);
    return -EINVAL;
}

static struct json *list_of(const char *word)
{
    struct json *list = json_array_new();
    json_append_string(list, word);
    return list;
}

static struct json *base_form(const struct runpod_volume *volume, const char *mount_path)
{
    struct json *form = json_object_new();
    json_set_string(form, "networkVolumeId", volume->id);
    json_set_string(form, "volumeMountPath", mount_path);
    json_set_string(form, "cloudType", CLOUD_TYPE);
    return form;
}

static void set_list(struct json *form, const struct runpod_volume *volume)
{
    struct json *list = list_of(volume->data_center);
    json_set(form, "dataCenterIds", &list);
}

struct json *runpod_hints(const struct runpod_volume *volume, const char *mount_path)
{
    struct json *hints = base_form(volume, mount_path);
    json_set_string(hints, "dataCenterId", volume->data_center);
    set_list(hints, volume);
    return hints;
}

struct json *runpod_forms(const struct runpod_volume *volume, const char *mount_path)
{
    struct json *forms = json_object_new(), *rest = base_form(volume, mount_path),
                *graphql = base_form(volume, mount_path);
    set_list(rest, volume);
    json_set_string(graphql, "dataCenterId", volume->data_center);
    json_set(forms, "rest", &rest);
    json_set(forms, "graphql", &graphql);
    return forms;
}
