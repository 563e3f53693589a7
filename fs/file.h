/* file: what the kernel holds open: its file handle number (fh) is the address of one of these.
 *
 * The kernel sends RELEASE once for each, after everything else on it has been answered; those that it never released
 * because the connection ended are closed by files_close_all().
 * Threads: any.
 */
#ifndef FS_FILE_H
#define FS_FILE_H

#include <stdint.h>

#include "base/list.h"
#include "base/lock.h"
#include "cache/cache.h"

struct file {                /* set at birth, but for link */
    struct handle *handle;   /* of a file, else NULL */
    struct listing *listing; /* of a directory, else NULL */
    struct list link;        /* under files->lock */
};

struct files {
    struct lock lock;
    struct list all;
    size_t count;
};

void files_init(struct files *files);
/* Closes what is still open: the kernel will not do it any more. */
void files_close_all(struct files *files, struct cache *cache);
/* After files_close_all(). */
void files_release(struct files *files);
/* Takes the handle or the listing (the other is NULL); returns the fh. */
uint64_t files_add(struct files *files, struct handle *handle, struct listing *listing);
struct file *file_of(uint64_t fh);
/* Ends the file and its handle or listing. */
void files_close(struct files *files, struct cache *cache, uint64_t fh);
size_t files_count(struct files *files);

#endif
