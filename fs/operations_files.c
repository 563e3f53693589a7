#include <assert.h>
#include <errno.h>
#include <fcntl.h>

#include "fs/operations.h"

#define COPY_MAX ((size_t)0x7ffff000) /* what the kernel asks for at most; the reply has 32 bits */

static bool flags_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

static void fill_open_reply(const struct fs *fs, struct fuse_file_info *file, const struct opened *opened,
                            uint64_t fh)
{
    file->fh = fh;
    file->keep_cache = opened->keep_cache;
    /* Close costs no request where nothing of it can be unsent, or nobody waits for that. */
    file->noflush = !flags_write(file->flags) || !cache_close_waits(fs->cache);
    /* O_DIRECT alone becomes asynchronous requests, for which the kernel waits deaf to signals; this way each can be
     * interrupted. Not for writers, though it would be 1.3 times as fast: kernels before 6.6 leave pages of other readers stale,
     * those before 6.19 pages that are being read meanwhile; and with no pages left behind, what went up is fetched when it is
     * read again. */
    file->direct_io = (file->flags & O_DIRECT) && !flags_write(file->flags);
}

/* Who has it open without a word to us reads: the mount is read only, whatever its flags became (remount,rw). */
static bool refuse_change(struct request *request, uint64_t fh)
{
    if (!fh)
        request_refuse(request, -EROFS);
    return !fh;
}

/* ---- open, create. ---- */

static int run_open(struct request *request, struct waiter *waiter)
{
    struct handle *handle = NULL;
    struct opened opened = {0};
    struct fs *fs = request->fs;
    int rc = request->clears_setid ? cache_clear_setid(fs->cache, waiter, request->inode, NULL) : 0;
    if (rc == 0)
        rc = cache_open(fs->cache, waiter, request->inode, request->file.flags, request->maker.process,
                        &handle, &opened);
    if (rc < 0)
        return rc;
    uint64_t fh = files_add(&fs->files, handle, NULL);
    fill_open_reply(fs, &request->file, &opened, fh);
    if (request_reply_open(request) < 0) /* then RELEASE will never come */
        files_close(&fs->files, fs->cache, fh);
    return 0;
}

void ask_open(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "OPEN", .run = run_open},
                                  truncates = {.name = "OPEN", .run = run_open, .grows = true};
    struct request request;
    if (!ask_begin(&request, fuse, id, file->flags & O_TRUNC ? &truncates : &operation))
        return;
    if (session_leaves_open(request.fs)) {
        request_refuse(&request, -ENOSYS);
        return;
    }
    request.file = *file;
    /* Whose close publishes matters only for handles that can hold unsent data. */
    if (flags_write(file->flags))
        request.maker.process = process_of(fuse);
    request.clears_setid = compat_clears_setid();
    request_start(&request);
}

static int run_create(struct request *request, struct waiter *waiter)
{
    struct entry entry = {0};
    struct handle *handle = NULL;
    struct fuse_entry_param param;
    struct fs *fs = request->fs;
    int rc = cache_create(fs->cache, waiter, request->inode, request->name, request->file.flags,
                          &request->maker, &entry, &handle);
    if (rc < 0)
        return rc;
    uint64_t id = entry.id, fh = files_add(&fs->files, handle, NULL);
    fill_open_reply(fs, &request->file, &(struct opened){.keep_cache = false}, fh);
    entry_to_kernel(&entry, &param);
    nodes_add(&fs->nodes, &entry);
    if (request_reply_create(request, &param) < 0) {
        files_close(&fs->files, fs->cache, fh);
        nodes_forget(&fs->nodes, id, 1);
    }
    return 0;
}

void ask_create(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode,
                struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "CREATE", .run = run_create, .grows = true};
    struct request request;
    if (!ask_begin(&request, fuse, parent, &operation))
        return;
    request.name = name;
    request.file = *file;
    maker_from(fuse, mode, &request.maker);
    request_start(&request);
}

/* ---- read. ---- */

/* On a network thread, or within cache_read(). */
static void finish_read(struct cache_read *read)
{
    struct request *request = read->owner;
    if (read->rc < 0)
        request_error(request, read->rc);
    else
        request_reply_pieces(request, read->pieces, read->piece_count);
    request_async_unref(request);
}

void ask_read(fuse_req_t fuse, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "READ"};
    struct fs *fs = fs_of(fuse);
    struct request *request = request_async_new(fs, fuse, &operation, WAIT_READ);
    if (!request)
        return;
    request->file = *file;
    int rc = ask_implied(request, id, false);
    if (rc < 0) {
        request_async_refuse(request, rc);
        return;
    }
    request->read = (struct cache_read){
        .handle = handle_of(request),
        .offset = (uint64_t)offset,
        .size = size,
        .done = finish_read,
        .owner = request,
    };
    cache_read(fs->cache, &request->read);
    request_started(request);
}

/* ---- write. ---- */

static int run_write(struct request *request, struct waiter *waiter)
{
    struct handle *handle = file_of(request->file.fh)->handle;
    struct cache *cache = request->fs->cache;
    int rc = request->clears_setid ? cache_clear_setid(cache, waiter, NULL, handle) : 0;
    if (rc == 0)
        rc = (request->file.writepage ? cache_write_back : cache_write)(cache, waiter, handle, request->bytes,
                                                                        request->size, request->offset);
    if (rc < 0)
        return rc;
    request_reply_written(request, request->size);
    return 0;
}

/* The bytes are read where libfuse received them; only a write that has to wait is copied. Each carries the handle's flags as they
 * are; but what was stored into a mapping comes by any handle that can write, without flags. */
void ask_write(fuse_req_t fuse, fuse_ino_t id, const char *bytes, size_t size, off_t offset,
               struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "WRITE", .run = run_write, .grows = true};
    struct request request;
    (void)id;
    request_init(&request, fs_of(fuse), fuse, &operation);
    if (refuse_change(&request, file->fh))
        return;
    request.bytes = bytes;
    request.size = size;
    request.offset = (uint64_t)offset;
    request.file = *file;
    request.clears_setid = compat_clears_setid();
    if (!file->writepage)
        cache_set_flags(file_of(file->fh)->handle, file->flags);
    request_start(&request);
}

/* ---- fallocate, copy_file_range, lseek. ---- */

static int run_fallocate(struct request *request, struct waiter *waiter)
{
    struct handle *handle = file_of(request->file.fh)->handle;
    struct cache *cache = request->fs->cache;
    int rc = request->clears_setid ? cache_clear_setid(cache, waiter, NULL, handle) : 0;
    if (rc == 0)
        rc = cache_allocate(cache, waiter, handle, (int)request->flags, request->offset, request->size);
    if (rc == 0)
        request_error(request, 0);
    return rc;
}

void ask_fallocate(fuse_req_t fuse, fuse_ino_t id, int mode, off_t offset, off_t length,
                   struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "FALLOCATE", .run = run_fallocate, .grows = true};
    struct request request;
    (void)id;
    request_init(&request, fs_of(fuse), fuse, &operation);
    if (refuse_change(&request, file->fh))
        return;
    request.flags = (unsigned)mode;
    request.offset = (uint64_t)offset;
    request.size = (size_t)length;
    request.file = *file;
    /* The kernel has no mark for it in this message. */
    request.clears_setid = compat_leaves_setid(&fs_of(fuse)->compat) && fuse_req_ctx(fuse)->uid != 0;
    request_start(&request);
}

static int run_copy_range(struct request *request, struct waiter *waiter)
{
    struct handle *from = file_of(request->from_fh)->handle, *to = file_of(request->file.fh)->handle;
    struct cache *cache = request->fs->cache;
    uint64_t length = 0;
    int rc = cache_copy_range(cache, waiter, from, request->from_offset, to, request->offset, request->size,
                              &length);
    if (rc == 0 && request->clears_setid)
        cache_clear_setid(cache, waiter, NULL, to); /* the bytes are there, whatever comes of it */
    if (rc == 0)
        request_reply_written(request, length);
    return rc;
}

/* Never ENOSYS, which the kernel remembers: EOPNOTSUPP has it copy this range by reading and writing. */
void ask_copy_range(fuse_req_t fuse, fuse_ino_t from, off_t from_offset, struct fuse_file_info *from_file,
                    fuse_ino_t to, off_t to_offset, struct fuse_file_info *to_file, size_t length, int flags)
{
    static const struct operation operation = {
        .name = "COPY_FILE_RANGE", .run = run_copy_range, .grows = true};
    struct request request;
    (void)from, (void)to, (void)flags; /* there are none yet */
    request_init(&request, fs_of(fuse), fuse, &operation);
    if (refuse_change(&request, from_file->fh) || refuse_change(&request, to_file->fh))
        return;
    request.from_fh = from_file->fh;
    request.from_offset = (uint64_t)from_offset;
    request.file = *to_file;
    request.offset = (uint64_t)to_offset;
    request.size = length < COPY_MAX ? length : COPY_MAX;
    request.clears_setid = compat_leaves_setid(&fs_of(fuse)->compat) && fuse_req_ctx(fuse)->uid != 0;
    request_start(&request);
}

static int run_lseek(struct request *request, struct waiter *waiter)
{
    uint64_t found;
    (void)waiter;
    int rc = cache_seek(request->fs->cache, handle_of(request), (int)request->flags, request->offset, &found);
    if (rc == 0)
        request_reply_offset(request, found);
    return rc;
}

/* The kernel asks for SEEK_DATA and SEEK_HOLE only. */
void ask_lseek(fuse_req_t fuse, fuse_ino_t id, off_t offset, int whence, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "LSEEK", .run = run_lseek};
    struct request request;
    request_init(&request, fs_of(fuse), fuse, &operation);
    request.flags = (unsigned)whence;
    request.offset = (uint64_t)offset;
    request.file = *file;
    int rc = ask_implied(&request, id, false);
    if (rc < 0)
        request_refuse(&request, rc);
    else
        request_start(&request);
}

/* ---- flush, fsync, release. ---- */

static void finish_sync(struct cache_sync *sync, int rc)
{
    struct request *request = sync->owner;
    request_error(request, rc);
    request_async_unref(request);
}

static struct request *new_sync(fuse_req_t fuse, fuse_ino_t id, const struct operation *operation)
{
    struct fs *fs = fs_of(fuse);
    struct request *request = request_async_new(fs, fuse, operation, WAIT_SYNC);
    if (!request)
        return NULL;
    request->inode = nodes_find(&fs->nodes, id);
    request->sync = (struct cache_sync){.inode = request->inode, .done = finish_sync, .owner = request};
    if (request->inode)
        return request;
    request_async_refuse(request, -ESTALE);
    return NULL;
}

void ask_flush(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "FLUSH"};
    pid_t process = process_of(fuse);
    struct request *request = new_sync(fuse, id, &operation);
    if (!request)
        return;
    if (!file->fh) { /* nothing is ever unsent: the kernel needs not ask again */
        request_async_refuse(request, -ENOSYS);
        return;
    }
    cache_flush(request->fs->cache, file_of(file->fh)->handle, process, &request->sync);
    request_started(request);
}

void ask_fsync(fuse_req_t fuse, fuse_ino_t id, int data_only, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "FSYNC"};
    (void)data_only; /* an object has its attributes in it */
    (void)file;
    struct request *request = new_sync(fuse, id, &operation);
    if (!request)
        return;
    cache_fsync(request->fs->cache, request->inode, &request->sync);
    request_started(request);
}

void ask_release(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "RELEASE"};
    struct request request;
    (void)id;
    request_init(&request, fs_of(fuse), fuse, &operation);
    files_close(&request.fs->files, request.fs->cache, file->fh);
    request_error(&request, 0);
}
