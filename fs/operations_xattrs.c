#include <errno.h>

#include "fs/operations.h"

/* size 0 asks how much there is. What rides in metadata is never more than the kernel hands on (64 KiB). */
static int reply_value(struct request *request, const struct buf *value)
{
    if (request->size == 0)
        request_reply_needed(request, value->length);
    else if (value->length > request->size)
        return -ERANGE;
    else
        request_reply_bytes(request, value->bytes, value->length);
    return 0;
}

static int run_getxattr(struct request *request, struct waiter *waiter)
{
    BUF_SCOPED value = BUF_INIT;
    int rc = cache_xattr_get(request->fs->cache, waiter, request->inode, request->name, &value);
    return rc < 0 ? rc : reply_value(request, &value);
}

void ask_getxattr(fuse_req_t fuse, fuse_ino_t id, const char *name, size_t size)
{
    static const struct operation operation = {.name = "GETXATTR", .run = run_getxattr};
    struct request request;
    if (!ask_begin(&request, fuse, id, &operation))
        return;
    request.name = name;
    request.size = size;
    request_start(&request);
}

static int run_listxattr(struct request *request, struct waiter *waiter)
{
    BUF_SCOPED names = BUF_INIT;
    int rc = cache_xattr_list(request->fs->cache, waiter, request->inode, &names);
    return rc < 0 ? rc : reply_value(request, &names);
}

void ask_listxattr(fuse_req_t fuse, fuse_ino_t id, size_t size)
{
    static const struct operation operation = {.name = "LISTXATTR", .run = run_listxattr};
    struct request request;
    if (!ask_begin(&request, fuse, id, &operation))
        return;
    request.size = size;
    request_start(&request);
}

static int run_setxattr(struct request *request, struct waiter *waiter)
{
    int rc = cache_xattr_set(request->fs->cache, waiter, request->inode, request->name, request->bytes,
                             request->size, (int)request->flags);
    if (rc < 0)
        return rc;
    request_error(request, 0);
    return 0;
}

void ask_setxattr(fuse_req_t fuse, fuse_ino_t id, const char *name, const char *value, size_t size, int flags)
{
    static const struct operation operation = {.name = "SETXATTR", .run = run_setxattr, .grows = true};
    struct request request;
    if (!ask_begin(&request, fuse, id, &operation))
        return;
    request.name = name;
    request.bytes = value;
    request.size = size;
    request.flags = (unsigned)flags;
    request_start(&request);
}

static int run_removexattr(struct request *request, struct waiter *waiter)
{
    int rc = cache_xattr_remove(request->fs->cache, waiter, request->inode, request->name);
    if (rc < 0)
        return rc;
    request_error(request, 0);
    return 0;
}

void ask_removexattr(fuse_req_t fuse, fuse_ino_t id, const char *name)
{
    static const struct operation operation = {.name = "REMOVEXATTR", .run = run_removexattr, .grows = true};
    struct request request;
    if (!ask_begin(&request, fuse, id, &operation))
        return;
    request.name = name;
    request_start(&request);
}
