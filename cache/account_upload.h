/* account_upload: what an account knows of its multipart upload: id, plan, and the parts that landed. Pure.
 *
 * A part carries the version of its bytes. WRITE and SIZE of a later version make it stale (size 0), also while it is on
 * its way: a PART that lands with an older version than the last change of its range stays stale.
 *
 *      unknown or stale (size 0) --PART of a version that is not older--> landed --WRITE, SIZE within its range--> stale
 */
#ifndef CACHE_ACCOUNT_UPLOAD_H
#define CACHE_ACCOUNT_UPLOAD_H

#include "cache/record.h"

#define ACCOUNT_SKYVOL_MAX 40

struct account_part {
    uint64_t size;            /* 0: not landed, or stale */
    uint64_t content_version; /* that landed, or that changed its range; 0: neither, since Create */
    char *etag, *checksum;    /* NULL while size is 0 */
};

struct account_upload {
    char *upload_id, *key;
    char skyvol_id[ACCOUNT_SKYVOL_MAX];
    struct part_plan plan;
    bool copying;
    uint64_t attribute_version; /* frozen at Create, as the mtime */
    bool mtime_explicit;
    int64_t mtime_ns;
    struct identity base; /* what stood under `key` at Create; no ETag: nothing did */
    struct account_part *parts;
    size_t part_count; /* up to the last one that a record spoke of */
};

/* Of an UPLOAD record. */
struct account_upload *account_upload_new(const struct record *record);
void account_upload_free(struct account_upload *upload);
/* The bytes of [start, end) are those of `version` now. */
void account_upload_spoil(struct account_upload *upload, uint64_t start, uint64_t end, uint64_t version);
/* Of a PART record. */
void account_upload_land(struct account_upload *upload, const struct record *record);
/* UPLOAD, and PART of each part that a record spoke of. */
void account_upload_dump(const struct account_upload *upload, uint64_t id,
                         void (*each)(void *context, const struct record *record), void *context);

#endif
