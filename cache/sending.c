#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "cache/birth.h"
#include "cache/condition.h"
#include "cache/content.h"
#include "cache/copying.h"
#include "cache/mosaic.h"
#include "cache/recording.h"
#include "cache/tagging.h"

static void check_end(struct upload *upload);

/* ---- Parts. ---- */

void sending_create(struct upload *upload)
{
    struct inode *inode = upload->inode;
    struct attributes attributes;
    upload_set_state(upload, UPLOAD_CREATING);
    lock_take(&inode->lock);
    upload_take_attributes_locked(upload, &attributes);
    upload->mtime_sent = upload->copying || inode->wanted.mtime_explicit;
    lock_drop(&inode->lock);
    upload->mtime_ns = attributes.mtime_ns;
    upload->multipart = true;
    upload_build_meta(upload, &attributes, upload->mtime_sent);
    struct errand *errand = errand_new_call(upload, STORE_CREATE, false);
    errand->call.meta = &upload->meta;
    errand->call.headers = &upload->typed;
    errand->call.tags = &upload->tags;
    errand_start(errand);
}

void sending_copy_by_parts(struct upload *upload)
{
    upload->by_parts = true;
    if (tagging_begin(upload))
        return;
    uint64_t bytes = copying_part_bytes(upload->uploader->cache, upload->base.size);
    upload->plan = (struct part_plan){.bytes = bytes, .bytes_max = bytes, .equal = true};
    sending_create(upload);
}

static void resize_parts(struct upload *upload, size_t count)
{
    upload->parts = xrealloc(upload->parts, count * sizeof upload->parts[0]);
    for (size_t i = upload->part_count; i < count; i++)
        upload->parts[i] = (struct part){.state = PART_UNSENT};
    upload->part_count = count;
    if (upload->next_part > count)
        upload->next_part = count;
}

/* What is copied still is what the base has there; else the file is cut anew. */
static bool fit_pieces_locked(struct upload *upload)
{
    const struct inode *inode = upload->inode;
    if (!upload->plan.piece_count || upload->fitted_version == inode->wanted.content_version)
        return true;
    if (!mosaic_holds(&upload->plan, &inode->dirty, inode->base_size))
        return false;
    upload->fitted_version = inode->wanted.content_version;
    return true;
}

/* Takes the size as it stands. False: this cut does not fit it any more (or one PUT would do). */
static bool fit_parts_locked(struct upload *upload)
{
    uint64_t size = upload->copying ? upload->base.size : upload->inode->wanted.attributes.size;
    size_t count = part_count(&upload->plan, size);
    if (count > STORE_PARTS_MAX || (!upload->copying && size <= upload->plan.bytes) ||
        !fit_pieces_locked(upload))
        return false;
    if (count < upload->part_count &&
        upload->parts_out > 0) /* parts on their way may be among those cut off */
        for (size_t i = count; i < upload->part_count; i++)
            if (upload->parts[i].state == PART_ASKING || upload->parts[i].state == PART_SENDING)
                return true;
    resize_parts(upload, count);
    return true;
}

void sending_start(struct upload *upload)
{
    upload_set_state(upload, UPLOAD_SENDING);
    upload->round = 1;
    upload->versioned = upload->copying;
    upload->guarded = false; /* whatever HEAD told before: once more when all is there */
    upload->next_part = 0;
    check_end(upload);
}

void sending_heard_create(struct upload *upload, struct errand *errand)
{
    int rc = errand->call.rc;
    if (rc == 0) {
        free(upload->upload_id);
        upload->upload_id = xstrdup(errand->call.new_upload_id);
        recording_upload(upload);
    }
    struct store_error error = errand->call.error;
    errand_free(errand);
    if (upload_halts(upload) || (rc < 0 && tagging_gives_way(upload, rc, &error)))
        return;
    if (rc < 0)
        upload_fail_call(upload, rc, &error);
    else
        sending_start(upload);
}

static size_t find_unsent(struct upload *upload)
{
    for (; upload->next_part < upload->part_count; upload->next_part++)
        if (upload->parts[upload->next_part].state == PART_UNSENT)
            break;
    return upload->next_part;
}

/* The next part that may go; part_count: none. Early: only what the writer has left behind. */
static size_t find_next(struct upload *upload)
{
    size_t index = find_unsent(upload);
    uint64_t start, end;
    if (index == upload->part_count || !upload->early)
        return index;
    part_range(&upload->plan, index, &start, &end);
    return end <= upload->early_end ? index : upload->part_count;
}

static void start_part(struct upload *upload, struct errand *errand)
{
    errand->call.upload_id = upload->upload_id;
    errand->call.part_number = (int)errand->part + 1;
    errand_start(errand);
    if (!upload->halting)
        check_end(upload);
}

static void drop_part(struct upload *upload, struct errand *errand)
{
    struct part *part = &upload->parts[errand->part];
    upload->parts_asking -= part->state == PART_ASKING;
    part->state = PART_UNSENT;
    if (upload->next_part > errand->part)
        upload->next_part = errand->part;
    upload->parts_out--;
    errand_free(errand);
}

/* Whether that range of the base still is the file's is looked at with the others (fit_pieces_locked). */
static void copy_part(struct upload *upload, struct errand *errand, uint64_t start, uint64_t end)
{
    struct part *part = &upload->parts[errand->part];
    errand->call.source_key = upload->base_key;
    errand->call.source_if_match = upload->base.etag;
    errand->call.offset = start;
    errand->call.length = (end < upload->base.size ? end : upload->base.size) - start;
    part->size = errand->call.length;
    part->content_version = upload->fitted_version;
    start_part(upload, errand);
}

void sending_next_part(struct upload *upload)
{
    size_t index = find_next(upload);
    uint64_t start, end;
    if (index == upload->part_count) {
        check_end(upload);
        return;
    }
    bool copied = upload->copying || part_copied(&upload->plan, index);
    struct errand *errand = errand_new_call(upload, copied ? STORE_PART_COPY : STORE_PART, true);
    errand->part = index;
    upload->parts[index].state = PART_SENDING;
    upload->parts_out++;
    part_range(&upload->plan, index, &start, &end);
    if (copied) {
        copy_part(upload, errand, start, end);
        return;
    }
    lock_take(&upload->inode->lock);
    uint64_t size = upload->inode->wanted.attributes.size;
    lock_drop(&upload->inode->lock);
    uint64_t bytes = size <= start ? PAGE_BYTES : (end < size ? end : size) - start;
    upload->parts[index].state = PART_ASKING;
    upload->parts_asking++;
    int rc = errand_ask(errand, bytes);
    if (rc < 0) {
        drop_part(upload, errand);
        upload_fail(upload, rc, "memory= is too small for one part");
    } else if (find_next(upload) < upload->part_count) {
        upload_wait_for_turn(upload);
    }
}

void sending_granted_part(struct upload *upload, struct errand *errand)
{
    uint64_t start, end, length = 0;
    errand_claim(errand);
    upload->parts[errand->part].state = PART_SENDING;
    upload->parts_asking--;
    part_range(&upload->plan, errand->part, &start, &end);
    int rc = content_read_local(upload->inode, start, end, errand->pieces, errand->page_count, &length,
                                &upload->parts[errand->part].content_version);
    if (rc < 0) {
        drop_part(upload, errand);
        upload_fail_local(upload, rc);
        return;
    }
    if (length == 0) { /* cut off in the meantime; should the file grow again, `unread` tells */
        upload->parts[errand->part] = (struct part){.state = PART_LANDED};
        upload->parts_out--;
        errand_free(errand);
        check_end(upload);
        return;
    }
    upload->parts[errand->part].size = length;
    errand_set_body(errand, length);
    start_part(upload, errand);
}

/* It rests when what runs has ended, and begins again. */
static void begin_again_behind(struct upload *upload)
{
    list_remove(&upload->turn);
    upload_thaw(upload);
    lock_take(&upload->inode->lock);
    if (!upload->halting && !upload->early && !upload->foreign)
        upload_order_again_locked(upload);
    lock_drop(&upload->inode->lock);
    upload->halting = true;
    upload_halts(upload);
}

/* True: a range of the base could not be copied for a reason that another try would meet again, and all is decided. */
static bool refuse_copy(struct upload *upload, int rc, const struct store_error *error)
{
    struct uploader *uploader = upload->uploader;
    bool forgotten = rc == -ENOENT && strcmp(error->code, "NoSuchUpload") == 0;
    if ((rc == -ESTALE || rc == -ENOENT) && !forgotten) {
        upload->foreign = true;
    } else if (rc == -EOPNOTSUPP || rc == -EINVAL || rc == -EFBIG) {
        if (!uploader->copies_refused)
            log_warn("upload of %s: UploadPartCopy: %s (%s): from here on changed files go up whole",
                     upload->key, err_name(rc), error->code);
        uploader->copies_refused = true;
    } else {
        return false;
    }
    begin_again_behind(upload);
    return true;
}

void sending_heard_part(struct upload *upload, struct errand *errand)
{
    int rc = errand->call.rc;
    struct part *part = &upload->parts[errand->part];
    struct store_error error = errand->call.error;
    bool copied = errand->call.op == STORE_PART_COPY;
    if (rc < 0) {
        upload->versioned = upload->copying;
        drop_part(upload, errand);
    } else {
        part->state = PART_LANDED;
        memcpy(part->etag, errand->call.object.etag, sizeof part->etag);
        recording_part(upload, errand->part);
        uploader_count_sent(upload->uploader, 0, errand->bytes, upload->round > 1 ? errand->bytes : 0);
        if (copied)
            uploader_count_copied(upload->uploader, part->size);
        upload->parts_out--;
        errand_free(errand);
    }
    if (rc < 0 && copied && !upload->copying && refuse_copy(upload, rc, &error))
        return;
    if (upload_halts(upload))
        return;
    if (rc == -ENOENT && !upload->copying) {
        /* The server lost the upload, and with it all parts: Create again. */
        upload->lost = true;
        upload_fail(upload, -EIO, "the server lost the unfinished upload");
    } else if (rc == -ENOENT && upload->displaced) {
        upload_fail(upload, -ESTALE,
                    "another client removed the object before it was copied under its new name");
    } else if (rc < 0) {
        upload_fail_call(upload, rc, &error);
    } else {
        check_end(upload);
    }
}

/* How many parts do not hold the file's bytes as they stand. */
static size_t count_stale_locked(struct upload *upload, bool unsend)
{
    size_t stale = 0;
    for (size_t i = 0; i < upload->part_count; i++) {
        uint64_t start, end;
        part_range(&upload->plan, i, &start, &end);
        if (upload->copying || part_copied(&upload->plan, i) ||
            !extents_touch(&upload->inode->unread, start, end))
            continue;
        stale++;
        if (unsend && upload->parts[i].state == PART_LANDED)
            upload->parts[i].state = PART_UNSENT;
    }
    return stale;
}

/* All parts have been read at least once. One version: take it. Else, when nothing is on its way, another round. False: it
 * gives way to a writer, and keeps what landed. */
static bool end_round_locked(struct upload *upload)
{
    if (upload->parts_asking > 0)
        return true;
    if (upload_gives_way_locked(upload) && upload->parts_out == 0) {
        upload_order_again_locked(upload);
        return false;
    }
    if (upload_gives_way_locked(upload))
        return true;
    size_t stale = count_stale_locked(upload, upload->parts_out == 0);
    if (stale == 0) {
        upload_take_version_locked(upload, false, NULL);
        upload_thaw_locked(upload);
    } else if (upload->parts_out == 0) {
        upload->next_part = 0;
        upload->round++;
        upload_freeze_locked(upload);
    }
    return true;
}

/* The file is cut anew: it does not fit its parts any more. What runs ends first. */
static void give_up_cut(struct upload *upload)
{
    if (list_empty(&upload->errands) && upload->early) {
        upload_drop_multipart(upload);
        upload_rest(upload);
    } else if (list_empty(&upload->errands)) {
        upload->recuts++;
        upload_start_over(upload);
    } else {
        begin_again_behind(upload);
    }
}

/* Somebody has asked for the whole file, or its writer has gone on, or nothing more may go yet: then it rests, and keeps its
 * parts. True: nobody has asked. */
static bool stays_early(struct upload *upload)
{
    struct inode *inode = upload->inode;
    if (!upload->early)
        return false;
    lock_take(&inode->lock);
    if (uploader_asked_locked(inode))
        upload_take_order_locked(upload);
    bool fits = fit_parts_locked(upload);
    upload->early_end = inode->left_behind;
    lock_drop(&inode->lock);
    if (!upload->early)
        return false;
    if (!fits)
        give_up_cut(upload);
    else if (find_next(upload) < upload->part_count)
        upload_wait_for_turn(upload);
    else if (list_empty(&upload->errands))
        upload_rest(upload);
    return true;
}

/* After each step of a part: what comes next. */
static void check_end(struct upload *upload)
{
    struct inode *inode = upload->inode;
    bool fits = true, goes_on = true;
    if (stays_early(upload))
        return;
    if (!upload->versioned || !upload->parts) {
        lock_take(&inode->lock);
        fits = fit_parts_locked(upload);
        if (fits && find_unsent(upload) == upload->part_count && !upload->versioned)
            goes_on = end_round_locked(upload);
        lock_drop(&inode->lock);
    }
    if (!goes_on) {
        upload_rest(upload);
        return;
    }
    if (!fits) {
        give_up_cut(upload);
        return;
    }
    upload_set_state(upload, upload->frozen ? UPLOAD_FROZEN : UPLOAD_SENDING);
    if (find_unsent(upload) < upload->part_count) {
        upload_wait_for_turn(upload);
        return;
    }
    list_remove(&upload->turn); /* the parts that it waited for may have been cut off */
    if (upload->versioned && upload->parts_out == 0)
        sending_complete(upload);
}

void sending_complete(struct upload *upload)
{
    bool honoured = upload_conditions_honoured(upload) == ABILITY_YES;
    if ((upload->conditional || upload->exclusive) && !honoured && !upload->guarded) {
        upload_ask_head(upload);
        return;
    }
    if (upload->at_birth && birth_served(upload) != ABILITY_YES) { /* it has grown */
        birth_leave(upload, "it is too large to be copied");
        return;
    }
    upload_set_state(upload, UPLOAD_COMPLETING);
    struct errand *errand = errand_new_call(upload, STORE_COMPLETE, false);
    errand->complete = xcalloc(upload->part_count, sizeof errand->complete[0]);
    for (size_t i = 0; i < upload->part_count; i++) {
        struct store_part *part = &errand->complete[i];
        part->number = (int)i + 1;
        part->size = upload->parts[i].size;
        memcpy(part->etag, upload->parts[i].etag, sizeof part->etag);
    }
    errand->call.parts = errand->complete;
    errand->call.part_count = upload->part_count;
    errand->call.upload_id = upload->upload_id;
    condition_set(upload, &errand->call);
    upload_try(upload, errand);
}

/* ---- One PUT. ---- */

/* A symlink's body. -ENODATA: the bucket alone had it. */
static int read_target(struct inode *inode, struct errand *errand, uint64_t *ret_length)
{
    LOCK_SCOPED(&inode->lock);
    *ret_length = 0;
    if (!inode->target)
        return -ENODATA;
    size_t length = strlen(inode->target);
    assert(length <= PAGE_BYTES && errand->page_count == 1);
    memcpy(errand->pieces[0].iov_base, inode->target, length);
    *ret_length = length;
    return 0;
}

/* Reads the whole file, of one version: if it changes under the reading, writers wait for the second one. */
static int read_whole(struct upload *upload, struct errand *errand, struct attributes *ret_attributes,
                      bool *ret_fits)
{
    struct inode *inode = upload->inode;
    for (;;) {
        uint64_t length = 0, version;
        int rc = 0;
        if (inode->type == S_IFREG)
            rc = content_read_local(inode, 0, UINT64_MAX, errand->pieces, errand->page_count, &length,
                                    &version);
        else if (inode->type == S_IFLNK)
            rc = read_target(inode, errand, &length);
        LOCK_SCOPED(&inode->lock);
        uint64_t size = inode_body_bytes_locked(inode);
        bool same = size == length && !extents_touch(&inode->unread, 0, UINT64_MAX);
        if (upload_gives_way_locked(upload)) {
            *ret_fits = false;
            return rc;
        }
        if (rc == 0 && !same && !upload->frozen) {
            upload_freeze_locked(upload);
            continue;
        }
        *ret_fits = rc == 0 && same;
        if (*ret_fits)
            upload_take_version_locked(upload, true, ret_attributes);
        upload_thaw_locked(upload);
        return rc;
    }
}

void sending_whole(struct upload *upload, struct errand *errand)
{
    struct attributes attributes;
    bool fits;
    int rc = read_whole(upload, errand, &attributes, &fits);
    if (rc < 0 || !fits) {
        errand_free(errand);
        if (rc < 0)
            upload_fail_local(upload, rc);
        else
            upload_start_over(upload); /* it grew beyond what we had room for */
        return;
    }
    upload_build_meta(upload, &attributes, true);
    errand_set_body(errand, upload->size);
    errand->call.meta = &upload->meta;
    errand->call.headers = &upload->typed;
    errand->call.tags = &upload->tags;
    condition_set(upload, &errand->call);
    upload_try(upload, errand);
}

void sending_start_whole(struct upload *upload)
{
    struct errand *errand = errand_new_call(upload, STORE_PUT, true);
    lock_take(&upload->inode->lock);
    uint64_t size = inode_body_bytes_locked(upload->inode);
    lock_drop(&upload->inode->lock);
    int rc = 0;
    if (size > 0 && size <= upload->plan.bytes)
        rc = errand_ask(errand, size);
    if (rc < 0) {
        errand_free(errand);
        upload_fail(upload, rc, "memory= is too small for this file");
    } else if (!errand->asked_memory) {
        sending_whole(upload, errand);
    }
}
