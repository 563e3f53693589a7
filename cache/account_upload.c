#include "cache/account_upload.h"

#include <stdlib.h>
#include <string.h>

#include "s3/store.h"

struct account_upload *account_upload_new(const struct record *record)
{
    struct account_upload *upload = xcalloc(1, sizeof *upload);
    upload->upload_id = xstrdup(record->upload_id);
    upload->key = xstrdup(record->key);
    if (record->skyvol_id)
        memcpy(upload->skyvol_id, record->skyvol_id, strlen(record->skyvol_id) + 1); /* it was admitted */
    part_plan_copy(&upload->plan, &record->plan);
    upload->copying = record->copying;
    upload->attribute_version = record->attribute_version;
    upload->mtime_explicit = record->mtime_explicit;
    upload->mtime_ns = record->mtime_ns;
    upload->base = record->identity;
    return upload;
}

void account_upload_free(struct account_upload *upload)
{
    if (!upload)
        return;
    for (size_t i = 0; i < upload->part_count; i++) {
        free(upload->parts[i].etag);
        free(upload->parts[i].checksum);
    }
    free(upload->parts);
    part_plan_release(&upload->plan);
    free(upload->upload_id);
    free(upload->key);
    free(upload);
}

/* The part that holds the byte `at`; STORE_PARTS_MAX when none does. */
static size_t find_part(const struct part_plan *plan, uint64_t at)
{
    size_t low = 0, high = STORE_PARTS_MAX;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint64_t start, end;
        part_range(plan, middle, &start, &end);
        if (end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct account_part *part_at(struct account_upload *upload, size_t index)
{
    size_t count = upload->part_count;
    if (index >= count) {
        size_t wanted = index + 1;
        if ((count & (count - 1)) == 0 || wanted > count + 1) { /* room is the next power of two */
            size_t room = 1;
            while (room < wanted)
                room *= 2;
            upload->parts = xrealloc(upload->parts, room * sizeof upload->parts[0]);
        }
        memset(upload->parts + count, 0, (wanted - count) * sizeof upload->parts[0]);
        upload->part_count = wanted;
    }
    return &upload->parts[index];
}

static void set_part(struct account_upload *upload, size_t index, uint64_t size, uint64_t version,
                     const char *etag, const char *checksum)
{
    struct account_part *part = part_at(upload, index);
    free(part->etag);
    free(part->checksum);
    *part = (struct account_part){.size = size, .content_version = version};
    if (size > 0) {
        part->etag = xstrdup(etag ? etag : "");
        part->checksum = xstrdup(checksum ? checksum : "");
    }
}

void account_upload_spoil(struct account_upload *upload, uint64_t start, uint64_t end, uint64_t version)
{
    if (upload->copying || start >= end)
        return;
    size_t last = find_part(&upload->plan, end - 1);
    for (size_t i = find_part(&upload->plan, start); i <= last && i < STORE_PARTS_MAX; i++)
        set_part(upload, i, 0, version, NULL, NULL);
}

/* What is older than the last change of its range is stale, and was so before it landed. */
void account_upload_land(struct account_upload *upload, const struct record *record)
{
    if (record->content_version >= part_at(upload, record->index)->content_version)
        set_part(upload, record->index, record->size, record->content_version, record->etag,
                 record->checksum);
}

static void dump_parts(const struct account_upload *upload, uint64_t id,
                       void (*each)(void *context, const struct record *record), void *context)
{
    for (size_t i = 0; i < upload->part_count; i++) {
        const struct account_part *part = &upload->parts[i];
        struct record record = {.type = RECORD_PART,
                                .id = id,
                                .index = i,
                                .size = part->size,
                                .etag = part->etag,
                                .checksum = part->checksum,
                                .content_version = part->content_version};
        each(context, &record);
    }
}

void account_upload_dump(const struct account_upload *upload, uint64_t id,
                         void (*each)(void *context, const struct record *record), void *context)
{
    struct record record = {.type = RECORD_UPLOAD,
                            .id = id,
                            .upload_id = upload->upload_id,
                            .key = upload->key,
                            .skyvol_id = upload->skyvol_id,
                            .plan = upload->plan,
                            .copying = upload->copying,
                            .attribute_version = upload->attribute_version,
                            .mtime_explicit = upload->mtime_explicit,
                            .mtime_ns = upload->mtime_ns,
                            .identity = upload->base};
    each(context, &record);
    dump_parts(upload, id, each, context);
}
