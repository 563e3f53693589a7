#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/utf8.h"
#include "cache/cache.h"
#include "mount/courier.h"
#include "mount/words.h"

#define DEPTH_MAX 128 /* of directories: deeper is a circle of links, or no key holds it */

struct source {
    char *path, *key;
    struct stat status;
};

struct sources {
    struct source *all;
    size_t count;
};

/* ---- What there is. ---- */

static bool is_key(const char *key)
{
    uint32_t code;
    size_t length = strlen(key);
    if (length == 0 || length > STORE_KEY_MAX)
        return false;
    for (size_t size; length > 0; key += size, length -= size)
        if ((size = utf8_decode(key, length, &code)) == 0)
            return false;
    return true;
}

static void add_file(struct courier *courier, struct sources *sources, const char *path, const char *key,
                     const struct stat *status)
{
    if (!is_key(key)) {
        courier_fail(courier, path, "no key can hold this name: it is not UTF-8, or longer than %d bytes",
                     STORE_KEY_MAX);
        return;
    }
    sources->all = xrealloc(sources->all, (sources->count + 1) * sizeof *sources->all);
    sources->all[sources->count++] = (struct source){xstrdup(path), xstrdup(key), *status};
    atomic_fetch_add(&courier->files, 1);
    atomic_fetch_add(&courier->bytes, (uint64_t)status->st_size);
}

/* A directory that is its own parent, by a link. */
struct above {
    const struct above *next;
    dev_t device;
    ino_t inode;
};

static bool is_circle(const struct above *above, const struct stat *status)
{
    for (; above; above = above->next)
        if (above->device == status->st_dev && above->inode == status->st_ino)
            return true;
    return false;
}

static void walk(struct courier *courier, struct sources *sources, const char *path, const char *key,
                 int depth, const struct above *above);

static void look_at(struct courier *courier, struct sources *sources, const char *path, const char *key,
                    int depth, const struct above *above)
{
    struct stat status;
    if (stat(path, &status) < 0)
        courier_fail(courier, path, "%s", err_text(-errno));
    else if (S_ISREG(status.st_mode))
        add_file(courier, sources, path, key, &status);
    else if (!S_ISDIR(status.st_mode))
        courier_fail(courier, path, "it is neither a file nor a directory: not uploaded");
    else if (is_circle(above, &status) || depth > DEPTH_MAX)
        courier_fail(courier, path, "it leads back into itself: not uploaded");
    else {
        struct above here = {above, status.st_dev, status.st_ino};
        walk(courier, sources, path, key, depth + 1, &here);
    }
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void walk(struct courier *courier, struct sources *sources, const char *path, const char *key,
                 int depth, const struct above *above)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, NULL, by_name);
    if (count < 0)
        courier_fail(courier, path, "%s", err_text(-errno));
    for (int i = 0; i < count; i++) {
        bool goes = strcmp(entries[i]->d_name, ".") != 0 && strcmp(entries[i]->d_name, "..") != 0;
        const char *name = entries[i]->d_name;
        STRING_SCOPED *below = xprintf("%s/%s", path, name);
        STRING_SCOPED *below_key = xprintf("%s/%s", key, name);
        if (goes && !courier_stopped(courier))
            look_at(courier, sources, below, below_key, depth, above);
        free(entries[i]);
    }
    free(entries);
}

/* ---- One file. ---- */

static void describe(const struct source *source, struct store_fields *meta, struct store_fields *headers)
{
    struct attributes attributes = {
        .mode = source->status.st_mode,
        .uid = source->status.st_uid,
        .gid = source->status.st_gid,
        .mtime_ns = source->status.st_mtim.tv_sec * 1000000000ll + source->status.st_mtim.tv_nsec,
        .ctime_ns = source->status.st_ctim.tv_sec * 1000000000ll + source->status.st_ctim.tv_nsec};
    cache_describe(&attributes, source->key, meta, headers);
}

static bool has_changed(const struct source *source, int fd)
{
    struct stat status;
    return fstat(fd, &status) < 0 || status.st_size != source->status.st_size ||
           status.st_mtim.tv_sec != source->status.st_mtim.tv_sec ||
           status.st_mtim.tv_nsec != source->status.st_mtim.tv_nsec;
}

static int read_range(int fd, char *room, uint64_t offset, uint64_t length)
{
    while (length > 0) {
        ssize_t some = pread(fd, room, length, (off_t)offset);
        if (some < 0 && errno == EINTR)
            continue;
        if (some <= 0)
            return some < 0 ? -errno : -ENODATA;
        room += some;
        offset += (uint64_t)some;
        length -= (uint64_t)some;
    }
    return 0;
}

static int open_source(struct courier *courier, const struct source *source)
{
    int fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        courier_fail(courier, source->path, "%s", err_text(-errno));
    return fd;
}

static void say_changed(struct courier *courier, const struct source *source)
{
    courier_fail(courier, source->path, "it changed while it was read: upload it again when it is quiet");
}

static void finish(struct courier *courier, const struct source *source)
{
    atomic_fetch_add(&courier->files_done, 1);
    courier_tell(courier, "uploaded", source->path, source->key, (uint64_t)source->status.st_size);
}

static void put_whole(struct courier *courier, struct waiter *waiter, const struct source *source)
{
    uint64_t size = (uint64_t)source->status.st_size;
    int fd = open_source(courier, source);
    if (fd < 0)
        return;
    char *room = courier_room(courier, waiter, size + 1);
    struct iovec body = {room, size};
    struct store_fields meta = {0}, headers = {0};
    struct store_call call = {.op = STORE_PUT,
                              .key = source->key,
                              .from = &body,
                              .from_count = 1,
                              .meta = &meta,
                              .headers = &headers};
    describe(source, &meta, &headers);
    int rc = read_range(fd, room, 0, size);
    if ((rc < 0 && rc != -EIO) || (rc == 0 && has_changed(source, fd)))
        say_changed(courier, source);
    else if (rc < 0)
        courier_fail(courier, source->path, "%s", err_text(rc));
    else if ((rc = courier_call(courier, &call, waiter)) < 0)
        courier_fail_call(courier, source->path, "it could not be uploaded", &call, rc);
    else {
        atomic_fetch_add(&courier->bytes_done, size);
        finish(courier, source);
    }
    store_call_release(&call);
    store_fields_release(&meta);
    store_fields_release(&headers);
    close(fd);
}

/* ---- By parts. ---- */

struct parts {
    const struct source *source;
    int fd;
    char *upload_id;
    uint64_t part;
    struct store_part *all;
    size_t count;
    atomic_int rc; /* the first that failed */
};

static void put_part(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct parts *parts = context;
    uint64_t size = (uint64_t)parts->source->status.st_size, offset = parts->part * index;
    uint64_t length = size - offset < parts->part ? size - offset : parts->part;
    if (atomic_load(&parts->rc) < 0)
        return;
    char *room = courier_room(courier, waiter, length);
    struct iovec body = {room, length};
    struct store_call call = {.op = STORE_PART,
                              .key = parts->source->key,
                              .upload_id = parts->upload_id,
                              .part_number = (int)index + 1,
                              .from = &body,
                              .from_count = 1};
    int rc = read_range(parts->fd, room, offset, length);
    if (rc < 0)
        say_changed(courier, parts->source);
    else if ((rc = courier_call(courier, &call, waiter)) < 0)
        courier_fail_call(courier, parts->source->path, "a part could not be uploaded", &call, rc);
    if (rc < 0) {
        atomic_store(&parts->rc, rc);
    } else {
        parts->all[index] = (struct store_part){.number = (int)index + 1, .size = length};
        memcpy(parts->all[index].etag, call.object.etag, sizeof call.object.etag);
        atomic_fetch_add(&courier->bytes_done, length);
    }
    store_call_release(&call);
}

static void create(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct parts *parts = context;
    struct store_fields meta = {0}, headers = {0};
    struct store_call call = {
        .op = STORE_CREATE, .key = parts->source->key, .meta = &meta, .headers = &headers};
    (void)index;
    describe(parts->source, &meta, &headers);
    int rc = courier_call(courier, &call, waiter);
    if (rc < 0)
        courier_fail_call(courier, parts->source->path, "its upload could not begin", &call, rc);
    else
        parts->upload_id = xstrdup(call.new_upload_id);
    atomic_store(&parts->rc, rc);
    store_call_release(&call);
    store_fields_release(&meta);
    store_fields_release(&headers);
}

static void complete(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct parts *parts = context;
    struct store_call call = {.op = STORE_COMPLETE,
                              .key = parts->source->key,
                              .upload_id = parts->upload_id,
                              .parts = parts->all,
                              .part_count = parts->count};
    (void)index;
    int rc = courier_call(courier, &call, waiter);
    if (rc < 0)
        courier_fail_call(courier, parts->source->path, "its parts could not be joined", &call, rc);
    atomic_store(&parts->rc, rc);
    store_call_release(&call);
}

/* Also after Ctrl-C: what nobody completes would be paid for. */
static void abort_parts(struct courier *courier, const struct parts *parts)
{
    WAITER_SCOPED(waiter);
    struct store_call call = {
        .op = STORE_ABORT, .key = parts->source->key, .upload_id = parts->upload_id, .patience_ms = 10000};
    if (store_wait(courier->store, &call, &waiter) < 0)
        courier_fail(courier, parts->source->key,
                     "parts of it stay in the bucket: skyvol rm --uploads %s removes them", courier->bucket);
    store_call_release(&call);
}

/* By the thread that has the waiter, or side by side by the crew (NULL). */
static void act_all(struct courier *courier, struct waiter *waiter, size_t count, courier_act *act,
                    struct parts *parts)
{
    if (!waiter)
        courier_each(courier, count, courier_crew(parts->part), act, parts);
    for (size_t i = 0; waiter && i < count && !atomic_load(&courier->stopped); i++)
        act(courier, waiter, parts, i);
}

static void put_parts(struct courier *courier, struct waiter *waiter, const struct source *source)
{
    uint64_t size = (uint64_t)source->status.st_size;
    struct parts parts = {.source = source, .part = courier_part(size), .fd = open_source(courier, source)};
    if (parts.fd < 0)
        return;
    parts.count = (size_t)((size + parts.part - 1) / parts.part);
    parts.all = xcalloc(parts.count, sizeof *parts.all);
    atomic_store(&parts.rc, -EINTR); /* a crew that was stopped does nothing */
    act_all(courier, waiter, 1, create, &parts);
    if (atomic_load(&parts.rc) == 0)
        act_all(courier, waiter, parts.count, put_part, &parts);
    if (atomic_load(&parts.rc) == 0 && has_changed(source, parts.fd)) {
        say_changed(courier, source);
        atomic_store(&parts.rc, -EAGAIN);
    }
    if (atomic_load(&parts.rc) == 0) {
        atomic_store(&parts.rc, -EINTR);
        act_all(courier, waiter, 1, complete, &parts);
    }
    if (atomic_load(&parts.rc) == 0)
        finish(courier, source);
    else if (parts.upload_id)
        abort_parts(courier, &parts);
    close(parts.fd);
    free(parts.upload_id);
    free(parts.all);
}

/* ---- All. ---- */

static void put_one(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    const struct sources *sources = context;
    const struct source *source = &sources->all[index];
    uint64_t size = (uint64_t)source->status.st_size;
    if (size <= COURIER_WHOLE_MAX)
        put_whole(courier, waiter, source);
    else if (size <= courier_alone(sources->count))
        put_parts(courier, waiter, source);
}

/* The last part of a path that may end with slashes, or be "." or "..". */
static char *name_of(const char *path)
{
    char whole[PATH_MAX];
    STRING_SCOPED *plain = xstrdup(path);
    for (size_t length = strlen(plain); length > 1 && plain[length - 1] == '/';)
        plain[--length] = 0;
    const char *slash = strrchr(plain, '/'), *name = slash ? slash + 1 : plain;
    if ((strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || !*name) && realpath(path, whole)) {
        slash = strrchr(whole, '/');
        return xstrdup(slash ? slash + 1 : whole);
    }
    return xstrdup(name);
}

static void cut_slashes(char *path)
{
    for (size_t length = strlen(path); length > 1 && path[length - 1] == '/';)
        path[--length] = 0;
}

/* Of a file, or of the directory: K/ holds a file under its own name. */
static char *name_key(const char *path, const char *key)
{
    struct stat status;
    STRING_SCOPED *own = name_of(path);
    char *name = xstrdup(key ? key : own);
    bool below =
        key && *key && key[strlen(key) - 1] == '/' && stat(path, &status) == 0 && S_ISREG(status.st_mode);
    cut_slashes(name);
    if (!below)
        return name;
    char *whole = xprintf("%s/%s", name, own);
    free(name);
    return whole;
}

void courier_up(struct courier *courier, const char *local, const char *key)
{
    struct sources sources = {0};
    unsigned failures = atomic_load(&courier->failures);
    STRING_SCOPED *path = xstrdup(local);
    cut_slashes(path);
    STRING_SCOPED *name = name_key(path, key);
    look_at(courier, &sources, path, name, 0, NULL);
    if (!sources.count && atomic_load(&courier->failures) == failures && !courier_stopped(courier))
        words_say("%s: there is no file in it: nothing was uploaded", local);
    courier_each(courier, sources.count, 0, put_one, &sources);
    for (size_t i = 0; i < sources.count && !atomic_load(&courier->stopped); i++)
        if ((uint64_t)sources.all[i].status.st_size > courier_alone(sources.count))
            put_parts(courier, NULL, &sources.all[i]);
    for (size_t i = 0; i < sources.count; i++) {
        free(sources.all[i].path);
        free(sources.all[i].key);
    }
    free(sources.all);
}
