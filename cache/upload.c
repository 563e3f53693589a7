#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/attr.h"
#include "cache/content.h"
#include "cache/uploader.h"

#define COPY_PART_BYTES ((uint64_t)1 << 30)
#define ID_FIELD        "skyvol-id"
#define QUIET_ATTEMPTS  4 /* tries whose outcome was "not done" before waiters hear of it */

static void advance(struct upload *upload);
static void settle(struct upload *upload);

/* ---- States. ---- */

static const char *const state_names[] = {
    [UPLOAD_IDLE] = "idle",
    [UPLOAD_ASKING] = "asking",
    [UPLOAD_FILLING] = "filling",
    [UPLOAD_CREATING] = "creating",
    [UPLOAD_SENDING] = "sending",
    [UPLOAD_FROZEN] = "frozen",
    [UPLOAD_COMPLETING] = "completing",
    [UPLOAD_SETTLING] = "settling",
    [UPLOAD_COPYING] = "copying",
    [UPLOAD_PARKED] = "parked",
    [UPLOAD_CONFIRMED] = "confirmed",
};

#define TO(state) (1u << UPLOAD_##state)
static const unsigned edges[] = {
    [UPLOAD_IDLE] = TO(ASKING) | TO(FILLING) | TO(CREATING) | TO(SENDING) | TO(COMPLETING) | TO(COPYING) |
                    TO(SETTLING) | TO(PARKED),
    [UPLOAD_ASKING] = TO(FILLING) | TO(CREATING) | TO(COMPLETING) | TO(COPYING) | TO(PARKED) | TO(IDLE),
    [UPLOAD_FILLING] = TO(ASKING) | TO(CREATING) | TO(COMPLETING) | TO(PARKED) | TO(IDLE),
    [UPLOAD_CREATING] = TO(SENDING) | TO(PARKED) | TO(IDLE),
    [UPLOAD_SENDING] = TO(FROZEN) | TO(ASKING) | TO(COMPLETING) | TO(PARKED) | TO(IDLE),
    [UPLOAD_FROZEN] = TO(SENDING) | TO(PARKED) | TO(IDLE),
    [UPLOAD_COMPLETING] = TO(SETTLING) | TO(CONFIRMED) | TO(PARKED) | TO(IDLE),
    [UPLOAD_SETTLING] = TO(CONFIRMED) | TO(PARKED) | TO(IDLE),
    [UPLOAD_COPYING] = TO(CREATING) | TO(SETTLING) | TO(CONFIRMED) | TO(PARKED) | TO(IDLE),
    [UPLOAD_PARKED] = TO(IDLE),
    [UPLOAD_CONFIRMED] = TO(IDLE),
};

const char *upload_state_name(enum upload_state state)
{
    return state_names[state];
}

void upload_set_state(struct upload *upload, enum upload_state state)
{
    if (upload->state == state)
        return;
    assert(edges[upload->state] & (1u << state));
    log_trace("upload of inode %" PRIu64 ": %s -> %s", upload->inode->id, state_names[upload->state],
              state_names[state]);
    upload->state = state;
}

static void set_busy(struct upload *upload, bool busy)
{
    if (upload->busy == busy)
        return;
    upload->busy = busy;
    upload->uploader->busy_count += busy ? 1 : (size_t)-1;
    lock_take(&upload->inode->lock);
    upload->inode->upload_busy = busy;
    if (!busy)
        gate_open(&upload->inode->changed);
    lock_drop(&upload->inode->lock);
}

void upload_thaw_locked(struct upload *upload)
{
    if (!upload->frozen)
        return;
    upload->frozen = false;
    upload->inode->writers_held = false;
    gate_open(&upload->inode->changed);
}

void upload_freeze_locked(struct upload *upload)
{
    upload->frozen = true;
    upload->inode->writers_held = true;
}

void upload_thaw(struct upload *upload)
{
    LOCK_SCOPED(&upload->inode->lock);
    upload_thaw_locked(upload);
}

void upload_wait_for_turn(struct upload *upload)
{
    struct uploader *uploader = upload->uploader;
    if (!list_empty(&upload->turn))
        return;
    upload->waiting_ms = clock_ms();
    if (upload->frozen) /* writers wait for this one */
        list_prepend(&uploader->ready, &upload->turn);
    else
        list_append(&uploader->ready, &upload->turn);
}

/* ---- Ends of a try. ---- */

void upload_drop_multipart(struct upload *upload)
{
    if (upload->lost) {
        free(upload->upload_id);
        upload->upload_id = NULL;
        upload->lost = false;
    } else if (upload->upload_id) {
        char *key = xstrdup(upload->key);
        errand_abort_multipart(upload->uploader, &key, &upload->upload_id);
    }
    free(upload->parts);
    upload->parts = NULL;
    upload->part_count = upload->next_part = 0;
    upload->multipart = false;
}

/* Nothing of it runs any more; whoever has news pokes it again. */
void upload_rest(struct upload *upload)
{
    assert(list_empty(&upload->errands));
    list_remove(&upload->turn);
    upload_thaw(upload);
    upload->versioned = false;
    upload_set_state(upload, UPLOAD_IDLE);
    set_busy(upload, false);
    uploader_poke(upload->inode);
}

/* Tried again only when somebody asks: another try would end the same way. */
static bool is_lasting(int rc)
{
    return rc == -ESTALE || rc == -EFBIG || rc == -ENAMETOOLONG || rc == -EILSEQ || rc == -EINVAL ||
           rc == -EOPNOTSUPP;
}

/* What callers of fsync and close may see. */
static int public_error(int rc)
{
    bool told =
        is_lasting(rc) || rc == -EACCES || rc == -EPERM || rc == -ENOSPC || rc == -EDQUOT || rc == -EROFS;
    return told ? rc : -EIO;
}

static int64_t backoff_ms(int attempts)
{
    int64_t ms = UPLOAD_BACKOFF_MS;
    for (int i = 1; i < attempts && ms < UPLOAD_BACKOFF_MAX; i++)
        ms *= 2;
    return ms < UPLOAD_BACKOFF_MAX ? ms : UPLOAD_BACKOFF_MAX;
}

static void park(struct upload *upload, int rc)
{
    struct uploader *uploader = upload->uploader;
    list_remove(&upload->turn);
    upload_thaw(upload);
    upload->versioned = false;
    upload_set_state(upload, UPLOAD_PARKED);
    upload->due_ms = is_lasting(rc) ? CLOCK_NEVER : clock_ms() + backoff_ms(upload->attempts);
    if (is_lasting(rc))
        upload_drop_multipart(upload);
    list_append(&uploader->parked, &upload->turn);
    uploader->parked_count++;
    set_busy(upload, false);
    uploader_poke(upload->inode); /* a sync that came since starts another try */
}

static void tell_failure(struct upload *upload, int rc, const char *words)
{
    struct inode *inode = upload->inode;
    const char *key = upload->key ? upload->key : "a file without a name";
    upload->attempts++;
    lock_take(&inode->lock);
    inode->parked_rc = public_error(rc);
    snprintf(inode->parked_why, sizeof inode->parked_why, "%s: %s", err_name(rc), words);
    STRING_SCOPED *path = inode->local ? disk_path(inode->cache->config.disk, inode->local_name) : NULL;
    lock_drop(&inode->lock);
    if (is_lasting(rc))
        log_error("upload of %s: %s: %s, kept here%s%s", key, err_name(rc), words, path ? " in " : "",
                  path ? path : "");
    else
        log_warn("upload of %s: %s: %s, attempt %d, tried again in %" PRId64 " ms", key, err_name(rc), words,
                 upload->attempts, backoff_ms(upload->attempts));
}

/* The try is over. Who waits hears it now; errands that still run end first. */
void upload_fail(struct upload *upload, int rc, const char *words)
{
    if (rc == -ESTALE && upload->copying) {
        log_info("attributes of %s: ESTALE: another client replaced the object", upload->key);
        uploader_forgo_attributes(upload->inode);
    } else {
        tell_failure(upload, rc, words);
        uploader_answer(upload->inode, public_error(rc));
    }
    if (list_empty(&upload->errands)) {
        park(upload, rc);
        return;
    }
    list_remove(&upload->turn);
    upload_thaw(upload);
    upload->halting = true;
    upload->halt_rc = rc;
}

void upload_fail_call(struct upload *upload, int rc, const struct store_error *error)
{
    BUF_SCOPED words = BUF_INIT;
    store_error_print(error, rc, &words);
    upload_fail(upload, rc, words.bytes);
}

/* It did not happen, and nobody is to blame: once more, and only if that goes on does anybody hear of it. */
static void fail_quietly(struct upload *upload, const char *words)
{
    tell_failure(upload, -EIO, words);
    if (upload->attempts >= QUIET_ATTEMPTS)
        uploader_answer(upload->inode, -EIO);
    park(upload, -EIO);
}

/* True when the upload is to rest, and does if nothing runs any more. */
bool upload_halts(struct upload *upload)
{
    if (!upload->halting)
        return false;
    if (!list_empty(&upload->errands))
        return true;
    int rc = upload->halt_rc;
    upload->halting = false;
    upload->halt_rc = 0;
    if (rc < 0)
        park(upload, rc);
    else
        upload_rest(upload);
    return true;
}

static void halt(struct upload *upload)
{
    struct inode *inode = upload->inode;
    if (!upload->busy)
        return;
    upload->halting = true;
    list_remove(&upload->turn);
    lock_take(&inode->lock);
    upload_thaw_locked(upload);
    inode->publish = inode->publish || !inode->orphan;
    lock_drop(&inode->lock);
    list_for_each_safe (at, after, &upload->errands)
        errand_cancel(container_of(at, struct errand, link), upload->uploader->stops);
    upload_halts(upload);
}

/* Told to the inode too: who works on its name asks before it acts (settling.h), and may have settled it meanwhile. */
static void set_unsettled(struct upload *upload, bool unsettled)
{
    LOCK_SCOPED(&upload->inode->lock);
    upload->unsettled = unsettled;
    inode_set_maybe_locked(upload->inode, unsettled ? upload->key : NULL, upload->id);
}

static bool still_unsettled(struct upload *upload)
{
    LOCK_SCOPED(&upload->inode->lock);
    return upload->unsettled && upload->inode->maybe_key;
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
    if (mtime_wrong && upload->attribute_version == inode->wanted.attribute_version)
        inode->wanted.attribute_version++;
    lock_drop(&inode->lock);
    names_confirmed(inode, upload->key, identity, upload->content_version, upload->attribute_version);
    lock_take(&inode->lock);
    store_fields_release(&inode->remote.meta);
    store_fields_copy(&inode->remote.meta, &upload->meta);
    store_fields_release(&inode->remote.headers);
    store_fields_copy(&inode->remote.headers, &upload->headers);
    inode->remote.headers_known = true;
    inode->parked_rc = 0;
    inode->parked_why[0] = 0;
    if (inode_dirty_locked(inode) && !inode->write_opens && !inode->orphan)
        inode->publish = true; /* changed meanwhile, and no close will ask for it */
    inode_check_locked(inode);
    lock_drop(&inode->lock);
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

/* ---- What is sent with the bytes. ---- */

static void new_id(struct upload *upload)
{
    uint8_t random[(UPLOAD_ID_MAX - 1) / 2];
    BUF_SCOPED hex = BUF_INIT;
    digest_random(random, sizeof random);
    buf_add_hex(&hex, random, sizeof random);
    memcpy(upload->id, hex.bytes, UPLOAD_ID_MAX);
}

void upload_build_meta(struct upload *upload, const struct attributes *attributes, bool with_mtime)
{
    new_id(upload);
    store_fields_release(&upload->meta);
    store_fields_copy(&upload->meta, &upload->base_meta);
    store_fields_remove(&upload->meta, "mtime");
    attr_to_meta(attributes, with_mtime, &upload->meta);
    store_fields_set(&upload->meta, ID_FIELD, upload->id);
}

static void take_fields(struct upload *upload, const struct store_fields *meta,
                        const struct store_fields *headers)
{
    store_fields_release(&upload->base_meta);
    store_fields_copy(&upload->base_meta, meta);
    store_fields_release(&upload->headers);
    store_fields_copy(&upload->headers, headers);
    store_fields_remove(&upload->headers, "x-amz-version-id"); /* the object's, not the next one's */
}

/* What is to go up is of one version: the one that stands now. */
void upload_take_version_locked(struct upload *upload, bool with_attributes,
                                struct attributes *ret_attributes)
{
    struct inode *inode = upload->inode;
    upload->versioned = true;
    upload->content_version = inode->wanted.content_version;
    upload->size = inode->type == S_IFREG ? inode->wanted.attributes.size : 0;
    upload->conditional = upload->conditional && !inode->whole_replacement;
    if (!upload->copying) /* a copy sends what the bucket has, whatever was cut off here since */
        inode->upload_floor = UINT64_MAX;
    if (!with_attributes)
        return;
    upload->attribute_version = inode->wanted.attribute_version;
    inode_attributes_locked(inode, ret_attributes);
}

enum store_ability upload_conditions_honoured(struct upload *upload)
{
    struct store_abilities abilities;
    store_abilities(upload->uploader->cache->config.store, &abilities);
    return abilities.conditional_put;
}

/* ---- Asking. ---- */

void upload_ask_head(struct upload *upload)
{
    struct errand *errand = errand_new_call(upload, STORE_HEAD, false);
    upload_set_state(upload, UPLOAD_ASKING);
    if (upload->copying)
        errand->call.key = upload->base_key;
    errand_start(errand);
}

static struct identity identity_of(const struct store_object *object)
{
    struct identity identity = {.modified_ns = object->modified_ns, .size = object->size};
    memcpy(identity.etag, object->etag, sizeof identity.etag);
    return identity;
}

static void heard_head(struct upload *upload, struct errand *errand)
{
    int rc = errand->call.rc;
    struct identity seen = rc == 0 ? identity_of(&errand->call.object) : (struct identity){0};
    bool patched = upload->conditional || upload->copying;
    bool conflict = patched && (rc == -ENOENT || (rc == 0 && !identity_equal(&seen, &upload->base)));
    bool completing = upload->versioned;
    if (rc == 0 && !conflict && !completing)
        take_fields(upload, &errand->call.object.meta, &errand->call.object.headers);
    struct store_error error = errand->call.error;
    errand_free(errand);
    if (upload_halts(upload))
        return;
    if (conflict)
        upload_fail(upload, -ESTALE, "somebody else changed or removed the object since it was opened here");
    else if (rc < 0 && rc != -ENOENT)
        upload_fail_call(upload, rc, &error);
    else if (completing) {
        upload->guarded = true;
        sending_complete(upload);
    } else {
        upload->asked = upload->guarded = true;
        advance(upload);
    }
}

static void heard_job(struct upload *upload, struct errand *errand)
{
    int rc = errand->rc;
    enum errand_kind kind = errand->kind;
    errand_free(errand);
    if (kind == ERRAND_PROBE && rc != -EINTR)
        upload->uploader->probed = true; /* also when it failed: then HEAD has to do */
    if (upload_halts(upload))
        return;
    if (kind == ERRAND_FILL && (rc == -ENOSPC || rc == -EDQUOT))
        content_give_back(upload->inode); /* what it brought must not keep others from writing */
    if (kind == ERRAND_FILL && rc < 0)
        upload_fail(upload, rc,
                    rc == -ESTALE ? "somebody else changed or removed the object that was patched here"
                                  : "its other bytes could not be fetched");
    else
        advance(upload);
}

static void start_job(struct upload *upload, enum errand_kind kind, enum upload_state state)
{
    upload_set_state(upload, state);
    errand_start(errand_new(upload, kind));
}

/* ---- Copying onto itself. ---- */

static void start_copy(struct upload *upload)
{
    struct inode *inode = upload->inode;
    struct attributes attributes;
    upload_set_state(upload, UPLOAD_COPYING);
    lock_take(&inode->lock);
    upload_take_version_locked(upload, true, &attributes);
    upload->content_version = inode->remote.content_version;
    lock_drop(&inode->lock);
    upload->size = upload->base.size;
    upload_build_meta(upload, &attributes, true);
    struct errand *errand = errand_new_call(upload, STORE_COPY, false);
    errand->call.source_key = upload->base_key;
    errand->call.source_if_match = upload->base.etag;
    errand->call.replace_meta = true;
    errand->call.meta = &upload->meta;
    errand->call.headers = &upload->headers;
    errand_start(errand);
}

/* ---- The outcome. ---- */

static void settle(struct upload *upload)
{
    upload_set_state(upload, UPLOAD_SETTLING);
    errand_start(errand_new_call(upload, STORE_HEAD, false));
}

static void heard_settling(struct upload *upload, struct errand *errand)
{
    int rc = errand->call.rc, cause = upload->unsettled_rc;
    const char *id = rc == 0 ? store_fields_get(&errand->call.object.meta, ID_FIELD) : NULL;
    struct identity seen = rc == 0 ? identity_of(&errand->call.object) : (struct identity){0};
    struct store_error error = errand->call.error;
    bool ours = id && strcmp(id, upload->id) == 0 && seen.size == upload->size;
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
    bool patched = upload->conditional || upload->copying;
    bool foreign = patched && (rc == -ENOENT || !identity_equal(&seen, &upload->base));
    upload->lost = cause == -ENOENT && upload->multipart; /* the upload is gone, and not ours is there */
    if (upload->lost)
        upload_drop_multipart(upload);
    if (upload_halts(upload))
        return;
    if (cause == -ESTALE || foreign)
        upload_fail(upload, -ESTALE, "somebody else changed or removed the object since it was opened here");
    else
        fail_quietly(upload, "the object did not arrive");
}

/* A condition that failed, or an upload that is gone, may be the echo of our own first attempt. */
static bool is_unsettled(const struct store_call *call)
{
    if (call->rc == -ECANCELED && !call->unknown)
        return false;
    return call->unknown || call->rc == -ESTALE || (call->rc == -ENOENT && call->op != STORE_PUT);
}

static void copy_by_parts(struct upload *upload)
{
    upload->plan = (struct part_plan){.bytes = COPY_PART_BYTES, .bytes_max = COPY_PART_BYTES, .equal = true};
    sending_create(upload);
}

/* The end of PUT, COPY and COMPLETE. */
static void heard_outcome(struct upload *upload, struct errand *errand)
{
    int rc = errand->call.rc;
    enum store_op op = errand->call.op;
    struct identity identity = identity_of(&errand->call.object);
    struct store_error error = errand->call.error;
    identity.size = upload->size;
    set_unsettled(upload, is_unsettled(&errand->call));
    upload->unsettled_rc = rc;
    if (rc == 0 && op == STORE_PUT)
        uploader_count_sent(upload->uploader, 0, errand->bytes, 0);
    errand_free(errand);
    if (rc == 0) {
        confirm(upload, &identity);
        return;
    }
    if (rc == -ETIMEDOUT) /* waiters hear it now; whether it happened is found out behind */
        uploader_answer(upload->inode, public_error(rc));
    if (upload->unsettled && !upload->uploader->stops)
        settle(upload);
    else if (upload_halts(upload))
        return;
    else if (op == STORE_COPY && rc == -EFBIG)
        copy_by_parts(upload);
    else
        upload_fail_call(upload, rc, &error);
}

/* ---- The beginning. ---- */

/* The next thing that is missing before the object itself can be sent. */
static void advance(struct upload *upload)
{
    struct cache *cache = upload->uploader->cache;
    struct inode *inode = upload->inode;
    enum store_ability honoured = upload->conditional ? upload_conditions_honoured(upload) : ABILITY_YES;
    if (honoured == ABILITY_UNKNOWN && !upload->uploader->probed) {
        start_job(upload, ERRAND_PROBE, UPLOAD_ASKING);
        return;
    }
    lock_take(&inode->lock);
    bool gaps = !upload->copying && inode->type == S_IFREG && content_gaps_locked(inode);
    upload->size = inode->type == S_IFREG ? inode->wanted.attributes.size : 0;
    lock_drop(&inode->lock);
    if (gaps) {
        start_job(upload, ERRAND_FILL, UPLOAD_FILLING);
        return;
    }
    if (!upload->asked || (honoured != ABILITY_YES && !upload->guarded)) {
        upload_ask_head(upload);
        return;
    }
    if (upload->copying) {
        start_copy(upload);
        return;
    }
    struct store_abilities abilities;
    struct memory_report memory;
    store_abilities(cache->config.store, &abilities);
    memory_report(cache->config.memory, &memory);
    int rc =
        part_plan(upload->size, cache->config.part_bytes, memory.limit, abilities.equal_parts, &upload->plan);
    if (rc < 0) {
        upload_fail(upload, rc, "too large for 10 000 parts; a larger memory= allows larger parts");
    } else if (upload->size <= upload->plan.bytes) {
        upload_set_state(upload, UPLOAD_COMPLETING);
        upload_wait_for_turn(upload);
    } else {
        sending_create(upload);
    }
}

/* Sets up a fresh try from what the inode says. */
static void prepare_locked(struct upload *upload)
{
    struct inode *inode = upload->inode;
    bool content = inode->wanted.content_version != inode->remote.content_version || !inode->remote.exists;
    bool same_key = inode->remote.exists && strcmp(inode->remote.key, upload->key) == 0;
    upload->copying = !content;
    upload->conditional = content && same_key && inode->type == S_IFREG && !inode->whole_replacement;
    upload->base = inode->remote.identity;
    upload->base_key[0] = 0;
    if (inode->remote.exists)
        snprintf(upload->base_key, sizeof upload->base_key, "%s", inode->remote.key);
    take_fields(upload, &inode->remote.meta, &inode->remote.headers);
    upload->asked = !same_key || inode->remote.headers_known;
    upload->guarded = false;
    extents_clear(&inode->unread);
    inode->upload_floor = UINT64_MAX;
}

static void set_key(struct upload *upload, char *key)
{
    if (upload->key && strcmp(upload->key, key) != 0) {
        assert(!upload->unsettled);    /* no name moves away from an object in doubt */
        upload_drop_multipart(upload); /* it belongs to its key */
    }
    free(upload->key);
    upload->key = key;
}

/* False: there is nothing to do (any more), or somebody holds it. */
static bool take_up(struct upload *upload)
{
    struct inode *inode = upload->inode;
    LOCK_SCOPED(&inode->lock);
    if (inode->orphan || inode->holds > 0 || !inode_dirty_locked(inode)) {
        inode->publish = inode->holds > 0; /* who holds it pokes it when done */
        return false;
    }
    inode->publish = false;
    inode->upload_busy = upload->busy = true;
    upload->uploader->busy_count++;
    return true;
}

/* True: what was begun earlier goes on; else a fresh try is set up. */
static bool resumes(struct upload *upload)
{
    struct inode *inode = upload->inode;
    LOCK_SCOPED(&inode->lock);
    bool content = inode->wanted.content_version != inode->remote.content_version;
    bool resume = upload->unsettled || (upload->upload_id && !upload->copying && content);
    if (!resume)
        prepare_locked(upload);
    return resume;
}

static void begin(struct upload *upload)
{
    BUF_SCOPED key = BUF_INIT;
    upload_set_state(upload, UPLOAD_IDLE);
    if (!take_up(upload)) {
        uploader_poke(upload->inode);
        return;
    }
    /* Busy first, then the key: from here on a rename waits at upload_hold(), so the name stays what it is. */
    int rc = names_key(upload->inode, &key);
    upload->unsettled = still_unsettled(upload);
    if (rc == 0)
        set_key(upload, buf_take(&key));
    if (upload->lost)
        upload_drop_multipart(upload);
    bool resume = rc == 0 && resumes(upload);
    if (rc < 0)
        upload_fail(upload, rc == -ENOENT ? -ESTALE : rc,
                    rc == -ENOENT ? "its name is gone" : "the name has no key");
    else if (upload->unsettled)
        settle(upload);
    else if (resume)
        sending_start(upload);
    else {
        upload_drop_multipart(upload);
        advance(upload);
    }
}

struct upload *upload_new(struct uploader *uploader, struct inode *inode)
{
    struct upload *upload = xcalloc(1, sizeof *upload);
    upload->uploader = uploader;
    upload->inode = inode_ref(inode);
    list_init(&upload->turn);
    list_init(&upload->errands);
    list_append(&uploader->uploads, &upload->link);
    upload->due_ms = CLOCK_NEVER;
    return upload;
}

void upload_free(struct upload *upload)
{
    struct inode *inode = upload->inode;
    assert(list_empty(&upload->errands) && !upload->busy);
    upload_drop_multipart(upload);
    list_remove(&upload->link);
    list_remove(&upload->turn);
    if (upload->state == UPLOAD_PARKED)
        upload->uploader->parked_count--;
    lock_take(&inode->lock);
    inode->upload = NULL;
    extents_clear(&inode->unread);
    gate_open(&inode->changed);
    lock_drop(&inode->lock);
    store_fields_release(&upload->base_meta);
    store_fields_release(&upload->headers);
    store_fields_release(&upload->meta);
    free(upload->key);
    free(upload);
    inode_unref(inode);
}

uint64_t upload_next_bytes(const struct upload *upload)
{
    uint64_t start, end;
    if (upload->copying)
        return 0;
    if (!upload->multipart)
        return upload->size;
    part_range(&upload->plan, upload->next_part, &start, &end);
    return end - start;
}

static void go(struct upload *upload)
{
    list_remove(&upload->turn);
    upload->queued = false;
    if (upload->state == UPLOAD_PARKED)
        upload->uploader->parked_count--;
    if (upload->state == UPLOAD_PARKED || upload->state == UPLOAD_IDLE)
        begin(upload);
    else if (upload->state == UPLOAD_COMPLETING)
        sending_start_whole(upload);
    else
        sending_next_part(upload);
}

static void hear_end(struct upload *upload, struct errand *errand)
{
    if (errand->kind != ERRAND_CALL) {
        heard_job(upload, errand);
        return;
    }
    switch (errand->call.op) {
    case STORE_HEAD:
        if (upload->state == UPLOAD_SETTLING)
            heard_settling(upload, errand);
        else
            heard_head(upload, errand);
        break;
    case STORE_CREATE:
        sending_heard_create(upload, errand);
        break;
    case STORE_PART:
    case STORE_PART_COPY:
        sending_heard_part(upload, errand);
        break;
    default:
        heard_outcome(upload, errand);
    }
}

static void hear_grant(struct upload *upload, struct errand *errand)
{
    if (errand->canceled || upload->halting) {
        errand->call.rc = -ECANCELED;
        hear_end(upload, errand);
    } else if (errand->call.op == STORE_PUT) {
        errand_claim(errand);
        sending_whole(upload, errand);
    } else {
        sending_granted_part(upload, errand);
    }
}

void upload_step(struct upload *upload, enum upload_event event, struct errand *errand)
{
    switch (event) {
    case EVENT_GO:
        go(upload);
        break;
    case EVENT_HALT:
        halt(upload);
        break;
    case EVENT_GRANTED:
        hear_grant(upload, errand);
        break;
    case EVENT_ENDED:
        hear_end(upload, errand);
        break;
    }
}
