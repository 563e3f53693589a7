#include "fs/file.h"

#include <assert.h>
#include <stdlib.h>

#include "base/buf.h"

void files_init(struct files *files)
{
    *files = (struct files){0};
    lock_init(&files->lock, LOCK_LEAF, "files");
    list_init(&files->all);
}

static void end_file(struct cache *cache, struct file *file)
{
    if (file->handle)
        cache_release(cache, file->handle);
    if (file->listing)
        cache_list_release(file->listing);
    free(file);
}

void files_close_all(struct files *files, struct cache *cache)
{
    struct list *link;
    lock_take(&files->lock);
    while ((link = list_pop(&files->all))) {
        files->count--;
        lock_drop(&files->lock);
        end_file(cache, container_of(link, struct file, link));
        lock_take(&files->lock);
    }
    lock_drop(&files->lock);
}

void files_release(struct files *files)
{
    assert(files->count == 0);
    lock_release(&files->lock);
}

uint64_t files_add(struct files *files, struct handle *handle, struct listing *listing)
{
    assert(!handle != !listing);
    struct file *file = xcalloc(1, sizeof *file);
    file->handle = handle;
    file->listing = listing;
    LOCK_SCOPED(&files->lock);
    list_append(&files->all, &file->link);
    files->count++;
    return (uint64_t)(uintptr_t)file;
}

struct file *file_of(uint64_t fh)
{
    assert(fh != 0);
    return (struct file *)(uintptr_t)fh;
}

void files_close(struct files *files, struct cache *cache, uint64_t fh)
{
    struct file *file = file_of(fh);
    lock_take(&files->lock);
    list_remove(&file->link);
    files->count--;
    lock_drop(&files->lock);
    end_file(cache, file);
}

size_t files_count(struct files *files)
{
    LOCK_SCOPED(&files->lock);
    return files->count;
}
