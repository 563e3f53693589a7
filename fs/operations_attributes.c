#include <errno.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fs/operations.h"

/* Counted in these, a bucket's size fits into 31 bits, for programs that count blocks, or files, in an int. */
#define SPACE_BLOCK ((uint64_t)1 << 20)
#define SPACE_FILES ((uint64_t)1 << 30)

static int run_getattr(struct request *request, struct waiter *waiter)
{
    struct attributes attributes;
    struct stat stat;
    int64_t valid_ms = 0;
    int rc = cache_attributes(request->fs->cache, waiter, request->inode, &attributes, &valid_ms);
    if (rc < 0)
        return rc;
    stat_from_attributes(&attributes, &stat);
    request_reply_attributes(request, &stat, seconds_from_ms(valid_ms));
    return 0;
}

void ask_getattr(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "GETATTR", .run = run_getattr};
    struct request request;
    (void)file;
    if (ask_begin(&request, fuse, id, &operation))
        request_start(&request);
}

static int run_setattr(struct request *request, struct waiter *waiter)
{
    struct attributes attributes, now;
    struct stat stat;
    int64_t valid_ms = 0;
    struct cache *cache = request->fs->cache;
    struct handle *handle = request->has_file ? file_of(request->file.fh)->handle : NULL;
    int rc = cache_set_attributes(cache, waiter, request->inode, handle, request->flags, &request->attributes,
                                  &attributes);
    if (rc < 0)
        return rc;
    /* How long that may be believed is only said by the question for attributes; without an answer from memory: not at all. */
    if (cache_attributes(cache, NULL, request->inode, &now, &valid_ms) == 0)
        attributes = now;
    stat_from_attributes(&attributes, &stat);
    request_reply_attributes(request, &stat, seconds_from_ms(valid_ms));
    return 0;
}

static const struct {
    int kernel;
    unsigned ours;
} setattr_bits[] = {
    {FUSE_SET_ATTR_MODE, SET_MODE},
    {FUSE_SET_ATTR_UID, SET_UID},
    {FUSE_SET_ATTR_GID, SET_GID},
    {FUSE_SET_ATTR_SIZE, SET_SIZE},
    {FUSE_SET_ATTR_ATIME, SET_ATIME},
    {FUSE_SET_ATTR_MTIME, SET_MTIME},
    {FUSE_SET_ATTR_CTIME, SET_CTIME},
    {FUSE_SET_ATTR_ATIME_NOW, SET_ATIME_NOW},
    {FUSE_SET_ATTR_MTIME_NOW, SET_MTIME_NOW},
};

static unsigned mask_from_kernel(int to_set)
{
    unsigned mask = 0;
    for (size_t i = 0; i < sizeof setattr_bits / sizeof setattr_bits[0]; i++)
        if (to_set & setattr_bits[i].kernel)
            mask |= setattr_bits[i].ours;
    /* "Now" wins over the kernel's own idea of the time, which it sends along. */
    if (mask & SET_ATIME_NOW)
        mask &= ~(unsigned)SET_ATIME;
    if (mask & SET_MTIME_NOW)
        mask &= ~(unsigned)SET_MTIME;
    return mask;
}

/* An owner who is changed without a word of the mode, and a size that is changed by who may not keep them. */
static unsigned mask_of_setid(const struct fs *fs, unsigned mask)
{
    bool owner = (mask & (SET_UID | SET_GID)) && !(mask & SET_MODE) && compat_leaves_setid(&fs->compat);
    bool size = (mask & SET_SIZE) && compat_clears_setid();
    return owner || size ? SET_CLEAR_SETID : 0;
}

static int64_t ns_from_timespec(const struct timespec *time)
{
    int64_t ns;
    if (__builtin_mul_overflow((int64_t)time->tv_sec, INT64_C(1000000000), &ns) ||
        __builtin_add_overflow(ns, (int64_t)time->tv_nsec, &ns))
        return time->tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

void ask_setattr(fuse_req_t fuse, fuse_ino_t id, struct stat *stat, int to_set, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "SETATTR", .run = run_setattr, .grows = true};
    struct request request;
    if (!ask_begin(&request, fuse, id, &operation))
        return;
    request.flags = mask_from_kernel(to_set);
    request.flags |= mask_of_setid(request.fs, request.flags);
    request.attributes = (struct attributes){
        .mode = stat->st_mode,
        .uid = stat->st_uid,
        .gid = stat->st_gid,
        .size = (uint64_t)stat->st_size,
        .atime_ns = ns_from_timespec(&stat->st_atim),
        .mtime_ns = ns_from_timespec(&stat->st_mtim),
        .ctime_ns = ns_from_timespec(&stat->st_ctim),
    };
    if (file && file->fh) { /* with fh 0 it was opened without us: by its node alone */
        request.file = *file;
        request.has_file = true;
    }
    request_start(&request);
}

/* default_permissions is always set: the kernel judges by the attributes and asks this only in odd corners. */
void ask_access(fuse_req_t fuse, fuse_ino_t id, int mask)
{
    static const struct operation operation = {.name = "ACCESS"};
    struct request request;
    (void)id;
    (void)mask;
    request_init(&request, fs_of(fuse), fuse, &operation);
    request_error(&request, 0);
}

void ask_statfs(fuse_req_t fuse, fuse_ino_t id)
{
    static const struct operation operation = {.name = "STATFS"};
    struct request request;
    struct cache_space space = {0};
    (void)id;
    request_init(&request, fs_of(fuse), fuse, &operation);
    cache_statfs(request.fs->cache, &space);
    struct statvfs answer = {
        .f_bsize = SPACE_BLOCK,
        .f_frsize = SPACE_BLOCK,
        .f_blocks = space.total_bytes / SPACE_BLOCK,
        .f_bfree = space.free_bytes / SPACE_BLOCK,
        .f_bavail = space.free_bytes / SPACE_BLOCK,
        .f_files = SPACE_FILES,
        .f_ffree = SPACE_FILES,
        .f_favail = SPACE_FILES,
        .f_namemax = 255,
    };
    request_reply_space(&request, &answer);
}
