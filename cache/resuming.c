#include "cache/resuming.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/attr.h"
#include "cache/mosaic.h"
#include "cache/server.h"
#include "cache/xattr.h"

/* ---- What the journal knew. ---- */

static struct part *copy_parts(const struct account_upload *upload)
{
    struct part *parts = xcalloc(upload->part_count + 1, sizeof parts[0]);
    for (size_t i = 0; i < upload->part_count; i++) {
        const struct account_part *known = &upload->parts[i];
        if (known->size == 0)
            continue;
        parts[i] = (struct part){
            .state = PART_LANDED, .size = known->size, .content_version = known->content_version};
        snprintf(parts[i].etag, sizeof parts[i].etag, "%s", known->etag);
    }
    return parts;
}

void resuming_set_locked(struct inode *inode, const struct account_upload *upload)
{
    struct resumed *resumed = inode->resumed = xcalloc(1, sizeof *resumed);
    *resumed = (struct resumed){.key = xstrdup(upload->key),
                                .upload_id = xstrdup(upload->upload_id),
                                .copying = upload->copying,
                                .attribute_version = upload->attribute_version,
                                .mtime_sent = upload->mtime_explicit,
                                .mtime_ns = upload->mtime_ns,
                                .base = upload->base,
                                .parts = copy_parts(upload),
                                .part_count = upload->part_count};
    part_plan_copy(&resumed->plan, &upload->plan);
    snprintf(resumed->id, sizeof resumed->id, "%.32s", upload->skyvol_id);
    inode->told_upload = xstrdup(upload->upload_id);
}

void resuming_free(struct resumed *resumed)
{
    if (!resumed)
        return;
    free(resumed->key);
    free(resumed->upload_id);
    free(resumed->parts);
    part_plan_release(&resumed->plan);
    free(resumed);
}

void resuming_spoil_locked(struct inode *inode, uint64_t start, uint64_t end)
{
    struct resumed *resumed = inode->resumed;
    if (!resumed || resumed->copying)
        return;
    for (size_t i = 0; i < resumed->part_count; i++) {
        uint64_t from, to;
        part_range(&resumed->plan, i, &from, &to);
        if (from < end && to > start)
            resumed->parts[i] = (struct part){.state = PART_UNSENT};
    }
}

/* ---- The upload that goes on. ---- */

/* The metadata of Create: as the journal knows the file, which may have changed since; then a copy puts it right. */
static void rebuild_meta(struct upload *upload)
{
    struct inode *inode = upload->inode;
    struct attributes attributes;
    inode_attributes_locked(inode, &attributes);
    store_fields_copy(&upload->base_meta, &inode->remote.meta);
    store_fields_copy(&upload->headers, &inode->remote.headers);
    store_fields_copy(&upload->meta, &inode->remote.meta);
    store_fields_remove(&upload->meta, "mtime");
    attr_to_meta(&attributes, upload->mtime_sent, &upload->meta);
    xattr_to_meta(inode->wanted.xattrs, &upload->meta);
    store_fields_set(&upload->meta, SERVER_ID_FIELD, upload->id);
}

void resuming_adopt_locked(struct upload *upload)
{
    struct inode *inode = upload->inode;
    struct resumed *resumed = inode->resumed;
    if (!resumed)
        return;
    inode->resumed = NULL;
    upload->key = resumed->key;
    upload->upload_id = resumed->upload_id;
    memcpy(upload->id, resumed->id, sizeof upload->id);
    upload->plan = resumed->plan;
    mosaic_copied(&upload->plan, &upload->copied);
    upload->copying = resumed->copying;
    upload->attribute_version = resumed->attribute_version;
    upload->mtime_sent = resumed->mtime_sent;
    upload->mtime_ns = resumed->mtime_ns;
    upload->base = resumed->base;
    upload->parts = resumed->parts;
    upload->part_count = resumed->part_count;
    upload->multipart = upload->unlisted = true;
    bool same_key = inode->remote.exists && strcmp(inode->remote.key, upload->key) == 0;
    upload->conditional = same_key && inode->type == S_IFREG && !inode->whole_replacement;
    upload->base_key = inode->remote.exists ? xstrdup(inode->remote.key) : NULL;
    upload->exclusive = inode->exclusive && !upload->copying;
    upload->asked = true;
    if (!inode->maybe_inherited) /* restore.c says what was cut off behind what may have arrived */
        inode->upload_floor = UINT64_MAX;
    rebuild_meta(upload);
    free(resumed);
}

void resuming_ask(struct upload *upload)
{
    upload_set_state(upload, UPLOAD_CREATING);
    struct errand *errand = errand_new_call(upload, STORE_LIST_PARTS, false);
    errand->call.upload_id = upload->upload_id;
    errand_start(errand);
}

static bool is_found(const struct store_call *call, size_t index, const struct part *part)
{
    for (size_t i = 0; i < call->found_part_count; i++) {
        const struct store_part *found = &call->found_parts[i];
        if (found->number == (int)index + 1)
            return found->size == part->size && strcmp(found->etag, part->etag) == 0;
    }
    return false;
}

static void compare_parts(struct upload *upload, const struct store_call *call)
{
    size_t kept = 0, gone = 0;
    for (size_t i = 0; i < upload->part_count; i++) {
        struct part *part = &upload->parts[i];
        if (part->state != PART_LANDED)
            continue;
        if (is_found(call, i, part)) {
            kept++;
            continue;
        }
        *part = (struct part){.state = PART_UNSENT};
        gone++;
    }
    log_info("upload of %s: goes on where an earlier run left it: %zu parts have landed, %zu are sent again",
             upload->key, kept, gone);
}

void resuming_heard(struct upload *upload, struct errand *errand)
{
    int rc = errand->call.rc;
    struct store_error error = errand->call.error;
    if (rc == 0) {
        compare_parts(upload, &errand->call);
        upload->unlisted = false;
    }
    errand_free(errand);
    if (upload_halts(upload))
        return;
    if (rc == 0) {
        sending_start(upload);
    } else if (rc == -ENOENT) {
        log_info("upload of %s: the server has forgotten it, it starts again", upload->key);
        upload->lost = true;
        upload_start_over(upload);
    } else {
        upload_fail_call(upload, rc, &error);
    }
}
