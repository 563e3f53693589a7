#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "fs/operations.h"

#define READDIR_BYTES_MAX ((size_t)1 << 20)

static int run_opendir(struct request *request, struct waiter *waiter)
{
    struct listing *listing = NULL;
    struct fs *fs = request->fs;
    (void)waiter;
    int rc = cache_list_open(fs->cache, request->inode, &listing);
    if (rc < 0)
        return rc;
    uint64_t fh = files_add(&fs->files, NULL, listing);
    request->file.fh = fh;
    request->file.cache_readdir = request->file.keep_cache = fs->immutable;
    if (request_reply_open(request) < 0)
        files_close(&fs->files, fs->cache, fh);
    return 0;
}

void ask_opendir(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "OPENDIR", .run = run_opendir};
    struct request request;
    if (!ask_begin(&request, fuse, id, &operation))
        return;
    request.file = *file;
    if (session_leaves_opendir(request.fs))
        request_refuse(&request, -ENOSYS);
    else
        request_start(&request);
}

/* ---- Pages of entries. ---- */

/* An answer that is being written. */
struct page {
    struct request *request;
    char *bytes;
    size_t used, room;
    uint64_t
        *counted; /* ids of nodes that the kernel will count, to be taken back if it refuses the answer */
    size_t counted_count, counted_room;
    bool plus;
};

static void count_node(struct page *page, struct entry *entry)
{
    if (page->counted_count == page->counted_room) {
        page->counted_room = page->counted_room ? 2 * page->counted_room : 64;
        page->counted = xrealloc(page->counted, page->counted_room * sizeof *page->counted);
    }
    page->counted[page->counted_count++] = entry->id;
    nodes_add(&page->request->fs->nodes, entry);
}

/* False: no room. */
static bool add_line(struct page *page, const char *name, const struct fuse_entry_param *param,
                     uint64_t next_offset)
{
    fuse_req_t fuse = page->request->fuse;
    size_t room = page->room - page->used;
    char *place = page->bytes + page->used;
    size_t length = page->plus ? fuse_add_direntry_plus(fuse, place, room, name, param, (off_t)next_offset)
                               : fuse_add_direntry(fuse, place, room, name, &param->attr, (off_t)next_offset);
    if (length > room)
        return false;
    page->used += length;
    return true;
}

/* "." and ".." come without an inode: node 0 says that the kernel learns and counts nothing. */
static bool add_listed(void *context, struct listed *listed)
{
    struct page *page = context;
    struct fuse_entry_param param = {.attr = {.st_mode = listed->type, .st_ino = listed->number}};
    bool known = page->plus && listed->entry.inode;
    if (known)
        entry_to_kernel(&listed->entry, &param);
    if (!add_line(page, listed->name, &param, listed->next_offset))
        return false;
    if (known)
        count_node(page, &listed->entry);
    return true;
}

static void take_back(struct page *page)
{
    for (size_t i = 0; i < page->counted_count; i++)
        nodes_forget(&page->request->fs->nodes, page->counted[i], 1);
}

static int run_readdir(struct request *request, struct waiter *waiter)
{
    struct page page = {.request = request, .plus = request->flags, .room = request->size};
    struct listing *listing = listing_of(request);
    page.bytes = xmalloc(page.room ? page.room : 1);
    int rc = cache_list(request->fs->cache, waiter, listing, request->offset, page.plus, add_listed, &page);
    /* What is on the page goes out before an error, which the next call meets again; -EAGAIN: nothing has been taken. */
    if (rc == -EAGAIN || (rc < 0 && page.used == 0)) {
        take_back(&page);
    } else {
        request->listed_all = rc == 0 && page.used == 0;
        rc = 0;
        if (request_reply_bytes(request, page.bytes, page.used) < 0)
            take_back(&page);
    }
    free(page.counted);
    free(page.bytes);
    return rc;
}

static void ask_page(fuse_req_t fuse, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file,
                     const struct operation *operation, bool plus)
{
    struct request request;
    if (!ask_begin(&request, fuse, id, operation))
        return;
    request.size = size < READDIR_BYTES_MAX ? size : READDIR_BYTES_MAX;
    request.offset = (uint64_t)offset;
    request.file = *file;
    request.flags = plus;
    int rc = ask_implied(&request, id, true);
    if (rc < 0)
        request_refuse(&request, rc);
    else
        request_start(&request);
}

void ask_readdir(fuse_req_t fuse, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "READDIR", .run = run_readdir};
    ask_page(fuse, id, size, offset, file, &operation, false);
}

void ask_readdirplus(fuse_req_t fuse, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "READDIRPLUS", .run = run_readdir};
    ask_page(fuse, id, size, offset, file, &operation, true);
}

void ask_releasedir(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "RELEASEDIR"};
    struct request request;
    (void)id;
    request_init(&request, fs_of(fuse), fuse, &operation);
    files_close(&request.fs->files, request.fs->cache, file->fh);
    request_error(&request, 0);
}

static int run_fsyncdir(struct request *request, struct waiter *waiter)
{
    int rc = cache_fsync_directory(request->fs->cache, waiter, request->inode);
    if (rc == 0)
        request_error(request, 0);
    return rc;
}

void ask_fsyncdir(fuse_req_t fuse, fuse_ino_t id, int data_only, struct fuse_file_info *file)
{
    static const struct operation operation = {.name = "FSYNCDIR", .run = run_fsyncdir};
    struct request request;
    (void)data_only; /* names are all there is */
    (void)file;
    if (ask_begin(&request, fuse, id, &operation))
        request_start(&request);
}
