#include "mount/unsent.h"

#include <errno.h>
#include <string.h>

void unsent_init(struct unsent *unsent, const char *path)
{
    *unsent = (struct unsent){.path = path, .stuck = json_array_new(), .others = json_array_new()};
}

void unsent_release(struct unsent *unsent)
{
    json_free(unsent->stuck);
    json_free(unsent->others);
    unsent->stuck = unsent->others = NULL;
}

bool unsent_is_below(const char *path, const char *above)
{
    size_t length = strlen(above);
    return strncmp(path, above, length) == 0 && (!length || !path[length] || path[length] == '/');
}

const char *unsent_remedy(int rc)
{
    static const struct {
        int rc;
        const char *words;
    } remedies[] = {
        {-EACCES, "mend the keys or what they may do"},
        {-EPERM, "mend the keys or what they may do"},
        {-ENOSPC, "make room there, or raise the quota"},
        {-EDQUOT, "make room there, or raise the quota"},
        {-EFBIG, "make it smaller, or raise memory= where parts are too small"},
        {-ESTALE, "rename it, so that both versions stay"},
        {-ENAMETOOLONG, "give it a name that the bucket can hold"},
        {-EILSEQ, "give it a name that the bucket can hold"},
        {-EROFS, "mount it for writing"},
        {-ENODATA, "bring its local file back"},
    };
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++)
        if (remedies[i].rc == rc)
            return remedies[i].words;
    return "mend what the reason names";
}

static struct json *describe(const struct cache_unsent *file)
{
    struct json *object = json_object_new();
    json_set_string(object, "key", file->key);
    json_set_string(object, "file", file->path);
    json_set_string(object, "path", file->local);
    json_set_integer(object, "offset", (int64_t)file->local_offset);
    json_set_integer(object, "bytes", (int64_t)file->bytes);
    json_set_string(object, "why", file->why);
    json_set_bool(object, "parked", file->parked);
    json_set_bool(object, "refused", file->refused);
    json_set_bool(object, "lasting", file->lasting);
    json_set_bool(object, "leaving", file->leaving);
    if (file->refused)
        json_set_string(object, "remedy", unsent_remedy(file->rc));
    json_set_bool(object, "conflict", file->conflict);
    return object;
}

void unsent_add(void *context, const struct cache_unsent *file)
{
    struct unsent *unsent = context;
    if (!unsent_is_below(file->path, unsent->path))
        return;
    unsent->files++;
    unsent->bytes += file->bytes;
    unsent->taken += file->taken;
    unsent->parked += file->parked;
    unsent->refused += file->refused;
    unsent->lasting += file->lasting;
    unsent->conflicts += file->conflict;
    struct json *list = file->parked ? unsent->stuck : unsent->others;
    if (json_count(list) >= UNSENT_LISTED)
        return;
    struct json *object = describe(file);
    json_append(list, &object);
}

void unsent_print(struct unsent *unsent, struct json *object)
{
    json_set_integer(object, "unsent_files", (int64_t)unsent->files);
    json_set_integer(object, "unsent_bytes", (int64_t)unsent->bytes);
    json_set_integer(object, "taken_bytes", (int64_t)unsent->taken);
    json_set_integer(object, "parked", (int64_t)unsent->parked);
    json_set_integer(object, "refused", (int64_t)unsent->refused);
    json_set_integer(object, "lasting", (int64_t)unsent->lasting);
    json_set_integer(object, "conflicts", (int64_t)unsent->conflicts);
    json_extend(unsent->stuck, &unsent->others);
    json_set(object, "unsent", &unsent->stuck);
}

void unsent_report(struct cache *cache, const char *path, struct json *object)
{
    struct unsent unsent;
    struct cache_backlog backlog;
    unsent_init(&unsent, path);
    cache_backlog(cache, &backlog); /* first: what is taken is sent after it, and must not count twice */
    cache_unsent(cache, unsent_add, &unsent);
    unsent_print(&unsent, object);
    unsent_release(&unsent);
    json_set_integer(object, "sent_files", (int64_t)backlog.sent_files);
    json_set_integer(object, "sent_bytes", (int64_t)backlog.sent_bytes);
    json_set_integer(object, "oldest_unsent_ms", backlog.oldest_unsent_ms);
    json_set_integer(object, "unflushed_bytes", (int64_t)backlog.unflushed_bytes);
    json_set_integer(object, "oldest_unflushed_ms", backlog.oldest_unflushed_ms);
}
