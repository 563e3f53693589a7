/* catalog_head: the note beside the map that says what the map is worth. It is read before LMDB looks at a page.
 *
 *      (none) ----> IN_USE ----> CLOSED        written and flushed before the first page is written, and after the last was flushed
 *                     |
 *                     |----> BROKEN            an error that says that the map is damaged
 *                     '----> FULL              no room could be made in it
 *
 * So a power cut can never leave a half-written map whose note says CLOSED. The note is replaced by a rename, whole or not at all.
 */
#ifndef CACHE_CATALOG_HEAD_H
#define CACHE_CATALOG_HEAD_H

#include <stdint.h>

#include "base/disk.h"

#define CATALOG_HEAD_NAME "head"

enum catalog_state { CATALOG_IN_USE = 1, CATALOG_CLOSED, CATALOG_BROKEN, CATALOG_FULL };

struct catalog_head {
    uint32_t state;
    uint64_t generation; /* counts the opens of this map */
    uint64_t trusted;    /* listings that were noted in this generation or later count */
    uint64_t bytes;      /* of the map when it was closed */
    char *boot, *source; /* boot "": not known */
};

/* -ENOENT; -EBADMSG: damaged; -EPROTO: of another format. The texts are the caller's. */
int catalog_head_read(struct disk *disk, struct catalog_head *ret_head);
/* Survives a power cut. */
int catalog_head_write(struct disk *disk, const struct catalog_head *head);
void catalog_head_release(struct catalog_head *head);

#endif
