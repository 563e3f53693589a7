#include "cache/uploader.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "cache/birth.h"
#include "cache/condition.h"
#include "cache/content.h"
#include "cache/recording.h"
#include "cache/server.h"
#include "cache/tagging.h"
#include "cache/veil.h"

/* ---- In doubt, and not. ---- */

/* Told to the inode too: who works on its name asks before it acts (settling.h), and may have settled it meanwhile. */
static void set_unsettled(struct upload *upload, bool unsettled)
{
    struct inode *inode = upload->inode;
    LOCK_SCOPED(&inode->lock);
    upload->unsettled = unsettled;
    inode_set_maybe_locked(inode, unsettled ? upload->key : NULL, upload->id);
    inode->maybe_size = upload->size;
    inode->maybe_content_version = upload->content_version;
    inode->maybe_attribute_version = upload->attribute_version;
}

/* What was tried, and never answered, may be an earlier process's. */
bool outcome_is_open(struct upload *upload)
{
    struct inode *inode = upload->inode;
    LOCK_SCOPED(&inode->lock);
    if (!inode->maybe_key || strcmp(inode->maybe_key, upload->key) != 0)
        return false;
    memcpy(upload->id, inode->maybe_id, sizeof upload->id);
    upload->inherited = inode->maybe_inherited;
    upload->size = inode->maybe_size;
    upload->content_version = inode->maybe_content_version;
    upload->attribute_version = inode->maybe_attribute_version;
    upload->id_content_version = upload->content_version;
    upload->id_attribute_version = upload->attribute_version;
    return true;
}

static void confirm(struct upload *upload, const struct identity *identity)
{
    struct inode *inode = upload->inode;
    upload_set_state(upload, UPLOAD_CONFIRMED);
    set_unsettled(upload, false);
    lock_take(&inode->lock);
    /* Parts carry the metadata of Create: where its mtime is not the file's any more, a copy puts it right. */
    bool mtime_wrong = upload->multipart &&
                       (inode->wanted.mtime_explicit ? upload->mtime_ns != inode->wanted.attributes.mtime_ns
                                                     : upload->mtime_sent && !upload->copying);
    if (mtime_wrong && upload->attribute_version == inode->wanted.attribute_version) {
        inode->wanted.attribute_version++;
        inode->record_debt = inode->record_debt || inode->recorded; /* before the journal hears of the copy */
    }
    lock_drop(&inode->lock);
    struct confirmed confirmed = {.key = upload->key,
                                  .identity = *identity,
                                  .meta = &upload->meta,
                                  .headers = &upload->headers,
                                  .content_version = upload->content_version,
                                  .attribute_version = upload->attribute_version,
                                  .copied = upload->copying};
    names_confirmed(inode, &confirmed);
    tagging_confirmed(upload);
    if (upload->upload_id)
        recording_upload_end(inode, upload->upload_id);
    lock_take(&inode->lock);
    inode->publication_ms = clock_ms() - upload->begun_ms;
    inode->parked_rc = 0;
    inode->parked_why[0] = 0;
    if (inode_dirty_locked(inode) && !inode->write_opens && !inode->orphan)
        inode->publish = true; /* changed meanwhile, and no close will ask for it */
    inode_check_locked(inode);
    lock_drop(&inode->lock);
    upload->recuts = 0;
    uploader_count_sent(upload->uploader, !upload->copying, 0, 0);
    free(upload->upload_id); /* completed: nothing to abort */
    upload->upload_id = NULL;
    upload_drop_multipart(upload);
    upload->attempts = 0;
    upload->halting = false;
    upload->halt_rc = 0;
    upload_rest(upload);
    uploader_answer(inode, 0);
}

/* ---- Heard. ---- */

void outcome_settle(struct upload *upload)
{
    upload_set_state(upload, UPLOAD_SETTLING);
    errand_start(errand_new_call(upload, STORE_HEAD, false));
}

/* It died on its way with the process that sent it: nobody is to blame, and parts that landed stay. */
static void begin_again(struct upload *upload)
{
    upload->inherited = false;
    lock_take(&upload->inode->lock);
    upload_order_again_locked(upload);
    lock_drop(&upload->inode->lock);
    upload_rest(upload);
}

/* What stands there is an earlier one that was given up, and has arrived. */
static bool is_late(const struct upload *upload, const char *id)
{
    LOCK_SCOPED(&upload->inode->lock);
    return id && strcmp(id, upload->inode->late_id) == 0;
}

/* It was never answered, and has not arrived: yet. */
static void note_late(struct upload *upload)
{
    LOCK_SCOPED(&upload->inode->lock);
    memcpy(upload->inode->late_id, upload->id, sizeof upload->id);
}

/* What it was to overwrite, or must not, has gone: nothing of this name is known to stand there any more. */
static void forget_gone(struct upload *upload)
{
    struct inode *inode = upload->inode;
    struct names *names = &inode->cache->names;
    AFTERMATH_SCOPED(aftermath, inode->cache);
    LOCK_SCOPED(&names->lock);

    names_undoom_locked(names, upload->key, inode, &aftermath);
    lock_take(&inode->lock);
    if (inode->remote.exists && strcmp(inode->remote.key, upload->key) == 0)
        content_forget_base_locked(inode);
    lock_drop(&inode->lock);
    veil_update_locked(inode);
}

/* Ours is not there. `in_the_way`: but something that an exclusive one must not overwrite; `gone`: nothing is. */
static void hear_nothing(struct upload *upload, int cause, bool base_stands, bool in_the_way, bool gone)
{
    bool patched = upload->conditional || upload->copying;
    bool lacks_source = cause == -ENOENT && upload->copying && !upload->multipart;
    bool foreign = upload->displaced ? lacks_source : patched && !base_stands;
    /* The upload is gone, and not ours is there; unless it was the base that is gone. */
    upload->lost = cause == -ENOENT && upload->multipart && !foreign;
    if (upload->lost)
        upload_drop_multipart(upload);
    if (upload->exclusive && gone)
        forget_gone(upload);
    if (upload_halts(upload))
        return;
    if (upload->at_birth && (cause == -ESTALE || cause == -EEXIST || foreign))
        birth_leave(upload, "what stood there has changed");
    else if (upload->exclusive ? in_the_way : cause == -ESTALE || foreign)
        upload_meet_conflict(upload);
    else if (upload->inherited)
        begin_again(upload);
    else
        upload_fail_quietly(upload, "the object did not arrive");
}

void outcome_heard_settling(struct upload *upload, struct errand *errand)
{
    int rc = errand->call.rc, cause = upload->unsettled_rc;
    const char *id = rc == 0 ? store_fields_get(&errand->call.object.meta, SERVER_ID_FIELD) : NULL;
    struct identity seen = {0};
    if (rc == 0)
        server_identity(&errand->call.object, &seen);
    struct store_error error = errand->call.error;
    bool ours = id && strcmp(id, upload->id) == 0 && seen.size == upload->size;
    bool late = is_late(upload, id);
    bool base_stands = rc == 0 && upload_is_base(upload, &errand->call.object);
    bool in_the_way = upload->exclusive && rc == 0 && !condition_allows(upload, &errand->call.object);
    if (ours) {
        upload_take_fields(upload, &errand->call.object.meta, &errand->call.object.headers);
        store_fields_copy(&upload->meta, &upload->base_meta);
    }
    errand_free(errand);
    if (ours) {
        confirm(upload, &seen);
        return;
    }
    if (rc < 0 && rc != -ENOENT) {
        if (!upload_halts(upload))
            upload_fail_call(upload, rc, &error);
        return;
    }
    set_unsettled(upload, false);
    recording_tried(upload);
    if (!late && cause != -ESTALE && cause != -EEXIST && cause != -ENOENT) /* those were answered */
        note_late(upload);
    hear_nothing(upload, cause, base_stands, in_the_way, rc == -ENOENT);
}

/* A condition that failed (also since nothing stands there), or an upload that is gone, may be the echo of our own first attempt. */
static bool is_unsettled(const struct store_call *call)
{
    if (call->rc == -ECANCELED && !call->unknown)
        return false;
    return call->unknown || call->rc == -ESTALE || call->rc == -EEXIST ||
           (call->rc == -ENOENT && (call->op != STORE_PUT || call->if_match));
}

/* The server does not have the parts any more that it answered (MinIO after a Complete that it refused): they go again. */
static bool has_lost_parts(enum store_op op, const struct store_error *error)
{
    return op == STORE_COMPLETE && strncmp(error->code, "InvalidPart", 11) == 0;
}

/* The end of PUT, COPY and COMPLETE. */
void outcome_heard(struct upload *upload, struct errand *errand)
{
    int rc = errand->call.rc;
    enum store_op op = errand->call.op;
    struct identity identity;
    server_identity(&errand->call.object, &identity);
    struct store_error error = errand->call.error;
    identity.size = upload->size;
    set_unsettled(upload, is_unsettled(&errand->call));
    upload->unsettled_rc = rc;
    if (rc < 0 && !upload->unsettled)
        recording_tried(upload);
    if (rc < 0 && !upload->unsettled && has_lost_parts(op, &error)) {
        upload_drop_multipart(upload);
        error.refused = false;
    }
    if (rc == 0 && op == STORE_PUT)
        uploader_count_sent(upload->uploader, 0, errand->bytes, 0);
    errand_free(errand);
    if (rc == 0) {
        confirm(upload, &identity);
        return;
    }
    if (rc == -ETIMEDOUT) /* waiters hear it now; whether it happened is found out behind */
        uploader_answer(upload->inode, -EIO);
    if (upload->unsettled && !upload->uploader->stops)
        outcome_settle(upload);
    else if (upload_halts(upload))
        return;
    else if (op == STORE_COPY && rc == -EFBIG)
        sending_copy_by_parts(upload);
    else if (upload->at_birth && (rc == -EISDIR || rc == -ENOTDIR || rc == -EOPNOTSUPP || rc == -EINVAL))
        birth_leave(upload, "it cannot be completed there");
    else if (op != STORE_PUT || !tagging_gives_way(upload, rc, &error))
        upload_fail_call(upload, rc, &error);
}
