#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fs/operations.h"

/* ---- Lookups and what they count. ---- */

static int run_lookup(struct request *request, struct waiter *waiter)
{
    struct entry entry = {0};
    int rc = cache_lookup(request->fs->cache, waiter, request->inode, request->name, &entry);
    if (rc == -ENOENT && entry.valid_ms > 0) { /* a negative entry: node 0 */
        struct fuse_entry_param nothing = {.entry_timeout = seconds_from_ms(entry.valid_ms)};
        request_reply_entry(request, &nothing);
        return 0;
    }
    if (rc < 0)
        return rc;
    reply_entry(request, &entry);
    return 0;
}

void ask_lookup(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
    static const struct operation operation = {.name = "LOOKUP", .run = run_lookup};
    struct request request;
    if (!ask_begin(&request, fuse, parent, &operation))
        return;
    request.name = name;
    request_start(&request);
}

static void forget_node(struct fs *fs, fuse_ino_t id, uint64_t lookups)
{
    if (nodes_forget(&fs->nodes, id, lookups))
        implied_forget(&fs->implied, id);
}

void ask_forget(fuse_req_t fuse, fuse_ino_t id, uint64_t lookups)
{
    static const struct operation operation = {.name = "FORGET"};
    struct request request;
    request_init(&request, fs_of(fuse), fuse, &operation);
    forget_node(request.fs, id, lookups);
    request_reply_none(&request);
}

void ask_forget_multi(fuse_req_t fuse, size_t count, struct fuse_forget_data *forgets)
{
    static const struct operation operation = {.name = "FORGET"};
    struct request request;
    request_init(&request, fs_of(fuse), fuse, &operation);
    for (size_t i = 0; i < count; i++)
        forget_node(request.fs, forgets[i].ino, forgets[i].nlookup);
    request_reply_none(&request);
}

/* ---- New names. ---- */

static int run_mkdir(struct request *request, struct waiter *waiter)
{
    struct entry entry = {0};
    int rc = cache_mkdir(request->fs->cache, waiter, request->inode, request->name, &request->maker, &entry);
    if (rc == 0)
        reply_entry(request, &entry);
    return rc;
}

void ask_mkdir(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode)
{
    static const struct operation operation = {.name = "MKDIR", .run = run_mkdir, .grows = true};
    struct request request;
    if (!ask_begin(&request, fuse, parent, &operation))
        return;
    request.name = name;
    maker_from(fuse, mode, &request.maker);
    request_start(&request);
}

/* A regular file without a handle: created, and closed at once. */
static int run_mknod(struct request *request, struct waiter *waiter)
{
    struct entry entry = {0};
    struct handle *handle = NULL;
    struct cache *cache = request->fs->cache;
    int rc = cache_create(cache, waiter, request->inode, request->name, O_CREAT | O_EXCL | O_WRONLY,
                          &request->maker, &entry, &handle);
    if (rc < 0)
        return rc;
    cache_release(cache, handle);
    reply_entry(request, &entry);
    return 0;
}

static int run_mknod_special(struct request *request, struct waiter *waiter)
{
    struct entry entry = {0};
    const struct attributes *asked = &request->attributes;
    int rc = cache_mknod(request->fs->cache, waiter, request->inode, request->name, asked->mode & S_IFMT,
                         asked->device, &request->maker, &entry);
    if (rc == 0)
        reply_entry(request, &entry);
    return rc;
}

void ask_mknod(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
    static const struct operation operation = {.name = "MKNOD", .run = run_mknod, .grows = true},
                                  special = {.name = "MKNOD", .run = run_mknod_special, .grows = true};
    struct request request;
    if (!ask_begin(&request, fuse, parent, S_ISREG(mode) ? &operation : &special))
        return;
    request.name = name;
    request.attributes = (struct attributes){.mode = mode, .device = device};
    maker_from(fuse, mode, &request.maker);
    request_start(&request);
}

static int run_symlink(struct request *request, struct waiter *waiter)
{
    struct entry entry = {0};
    int rc = cache_symlink(request->fs->cache, waiter, request->inode, request->name, request->to_name,
                           &request->maker, &entry);
    if (rc == 0)
        reply_entry(request, &entry);
    return rc;
}

void ask_symlink(fuse_req_t fuse, const char *target, fuse_ino_t parent, const char *name)
{
    static const struct operation operation = {.name = "SYMLINK", .run = run_symlink, .grows = true};
    struct request request;
    if (!ask_begin(&request, fuse, parent, &operation))
        return;
    request.name = name;
    request.to_name = target;
    maker_from(fuse, 0777, &request.maker);
    request_start(&request);
}

static int run_readlink(struct request *request, struct waiter *waiter)
{
    char *target = NULL;
    int rc = cache_readlink(request->fs->cache, waiter, request->inode, &target);
    if (rc == 0)
        request_reply_link(request, target);
    free(target);
    return rc;
}

void ask_readlink(fuse_req_t fuse, fuse_ino_t id)
{
    static const struct operation operation = {.name = "READLINK", .run = run_readlink};
    struct request request;
    if (ask_begin(&request, fuse, id, &operation))
        request_start(&request);
}

void ask_link(fuse_req_t fuse, fuse_ino_t id, fuse_ino_t parent, const char *name)
{
    static const struct operation operation = {.name = "LINK"};
    struct request request;
    (void)id;
    (void)parent;
    (void)name;
    request_init(&request, fs_of(fuse), fuse, &operation);
    request_error(&request, -EPERM); /* as link(2) says of file systems without hard links */
}

/* ---- Names that go or change. ---- */

static int answer_plainly(struct request *request, int rc)
{
    if (rc == 0)
        request_error(request, 0);
    return rc;
}

static int run_unlink(struct request *request, struct waiter *waiter)
{
    return answer_plainly(request, cache_unlink(request->fs->cache, waiter, request->inode, request->name));
}

void ask_unlink(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
    static const struct operation operation = {.name = "UNLINK", .run = run_unlink};
    struct request request;
    if (!ask_begin(&request, fuse, parent, &operation))
        return;
    request.name = name;
    request_start(&request);
}

static int run_rmdir(struct request *request, struct waiter *waiter)
{
    return answer_plainly(request, cache_rmdir(request->fs->cache, waiter, request->inode, request->name));
}

void ask_rmdir(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
    static const struct operation operation = {.name = "RMDIR", .run = run_rmdir};
    struct request request;
    if (!ask_begin(&request, fuse, parent, &operation))
        return;
    request.name = name;
    request_start(&request);
}

static int run_rename(struct request *request, struct waiter *waiter)
{
    return answer_plainly(request, cache_rename(request->fs->cache, waiter, request->inode, request->name,
                                                request->to_inode, request->to_name, request->flags));
}

void ask_rename(fuse_req_t fuse, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
                const char *to_name, unsigned flags)
{
    static const struct operation operation = {.name = "RENAME", .run = run_rename, .grows = true};
    struct request request;
    if (!ask_begin(&request, fuse, parent, &operation))
        return;
    request.to_inode = nodes_find(&request.fs->nodes, to_parent);
    if (!request.to_inode) {
        request_error(&request, -ESTALE);
        inode_unref(request.inode);
        return;
    }
    request.name = name;
    request.to_name = to_name;
    request.flags = flags;
    request_start(&request);
}
