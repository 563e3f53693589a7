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
#include "cache/birth.h"
#include "cache/condition.h"
#include "cache/content.h"
#include "cache/keepsake.h"
#include "cache/mime.h"
#include "cache/mosaic.h"
#include "cache/recording.h"
#include "cache/resuming.h"
#include "cache/server.h"
#include "cache/slab.h"
#include "cache/tagging.h"
#include "cache/veil.h"
#include "cache/xattr.h"

#define UPLOAD_RECUTS_MAX 2 /* before a writer is held from the cut on */
#define QUIET_ATTEMPTS    4 /* tries whose outcome was "not done" before waiters hear of it */

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
    [UPLOAD_CONFLICT] = "conflict",
    [UPLOAD_PARKED] = "parked",
    [UPLOAD_CONFIRMED] = "confirmed",
};

#define TO(state) (1u << UPLOAD_##state)
static const unsigned edges[] = {
    [UPLOAD_IDLE] = TO(ASKING) | TO(FILLING) | TO(CREATING) | TO(SENDING) | TO(COMPLETING) | TO(COPYING) |
                    TO(SETTLING) | TO(PARKED),
    [UPLOAD_ASKING] = TO(SENDING) | TO(FILLING) | TO(CREATING) | TO(COMPLETING) | TO(COPYING) | TO(CONFLICT) |
                      TO(PARKED) | TO(IDLE),
    [UPLOAD_FILLING] = TO(CONFLICT) | TO(ASKING) | TO(CREATING) | TO(SENDING) | TO(COMPLETING) | TO(COPYING) |
                       TO(PARKED) | TO(IDLE),
    [UPLOAD_CREATING] = TO(SENDING) | TO(PARKED) | TO(IDLE),
    [UPLOAD_SENDING] = TO(FROZEN) | TO(ASKING) | TO(COMPLETING) | TO(CONFLICT) | TO(PARKED) | TO(IDLE),
    [UPLOAD_FROZEN] = TO(SENDING) | TO(CONFLICT) | TO(PARKED) | TO(IDLE),
    [UPLOAD_COMPLETING] = TO(SETTLING) | TO(CONFIRMED) | TO(PARKED) | TO(IDLE),
    [UPLOAD_SETTLING] = TO(CONFIRMED) | TO(CONFLICT) | TO(PARKED) | TO(IDLE),
    [UPLOAD_COPYING] = TO(ASKING) | TO(CREATING) | TO(SETTLING) | TO(CONFIRMED) | TO(PARKED) | TO(IDLE),
    [UPLOAD_CONFLICT] = TO(PARKED) | TO(IDLE),
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
    if (!busy) {
        upload->inode->replacing = false;
        free(upload->inode->busy_key);
        upload->inode->busy_key = NULL;
        upload->inode->busy_at_birth = false;
        upload->inode->rekeyed = false;
        gate_open(&upload->inode->changed);
    }
    lock_drop(&upload->inode->lock);
    if (!busy) {
        veil_rest(upload->inode);
        reads_go_on(upload->inode, 0);
    }
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
        if (upload->upload_id)
            recording_upload_end(upload->inode, upload->upload_id);
        free(upload->upload_id);
        upload->upload_id = NULL;
        upload->lost = false;
    } else if (upload->upload_id) {
        char *key = xstrdup(upload->key);
        errand_abort_multipart(upload, &key, &upload->upload_id);
    }
    free(upload->parts);
    upload->parts = NULL;
    upload->part_count = upload->next_part = 0;
    upload->multipart = upload->unlisted = upload->at_birth = false;
    part_plan_release(&upload->plan);
    extents_clear(&upload->copied);
    lock_take(&upload->inode->lock);
    upload->inode->birth_denied = false;
    lock_drop(&upload->inode->lock);
}

/* What the journal knows of goes on at the next mount. */
static void leave_multipart(struct upload *upload)
{
    LOCK_SCOPED(&upload->inode->lock);
    const char *told = upload->inode->told_upload;
    if (!told || !upload->upload_id || strcmp(told, upload->upload_id) != 0)
        return;
    free(upload->upload_id);
    upload->upload_id = NULL;
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

void upload_take_order_locked(struct upload *upload)
{
    struct inode *inode = upload->inode;
    upload->forced = inode->publish_open || !list_empty(&inode->syncs);
    upload->asked_version = inode->wanted.content_version;
    upload->begun_ms = clock_ms();
    upload->early = inode->publish = inode->publish_open = false;
}

void upload_order_again_locked(struct upload *upload)
{
    upload->inode->publish = true;
    upload->inode->publish_open = upload->inode->publish_open || upload->forced;
}

bool upload_gives_way_locked(const struct upload *upload)
{
    const struct inode *inode = upload->inode;
    bool written = inode->write_opens > inode->closing_opens && !upload->copying;
    return written && !upload->forced && list_empty(&inode->syncs) &&
           inode->wanted.content_version != upload->asked_version;
}

void upload_start_over(struct upload *upload)
{
    lock_take(&upload->inode->lock);
    upload_order_again_locked(upload);
    lock_drop(&upload->inode->lock);
    upload_drop_multipart(upload);
    upload_rest(upload);
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

static void park(struct upload *upload, int rc)
{
    struct uploader *uploader = upload->uploader;
    list_remove(&upload->turn);
    upload_thaw(upload);
    upload->versioned = false;
    upload_set_state(upload, UPLOAD_PARKED);
    upload->due_ms = is_lasting(rc) ? CLOCK_NEVER : clock_ms() + server_backoff_ms(upload->attempts);
    if (is_lasting(rc))
        upload_drop_multipart(upload);
    list_append(&uploader->parked, &upload->turn);
    uploader->parked_count++;
    set_busy(upload, false);
    uploader_poke(upload->inode); /* a sync that came since starts another try */
}

static void tell_failure(struct upload *upload, int rc, bool refused, const char *words)
{
    struct inode *inode = upload->inode;
    const char *key = upload->key ? upload->key : "a file without a name";
    upload->attempts++;
    upload->untagged = false;
    lock_take(&inode->lock);
    inode->parked_rc = public_error(rc);
    inode->parked_refused = refused;
    snprintf(inode->parked_why, sizeof inode->parked_why, "%s: %s", err_name(rc), words);
    uint64_t offset = 0;
    STRING_SCOPED *path =
        inode->local ? slab_path(inode->cache->config.disk, inode->local_name, &offset) : NULL;
    STRING_SCOPED *place = path ? xprintf(" in %s, from byte %" PRIu64 " on", path, offset) : NULL;
    lock_drop(&inode->lock);
    if (is_lasting(rc))
        log_error("upload of %s: %s: %s, kept here%s", key, err_name(rc), words, place ? place : "");
    else
        log_warn("upload of %s: %s: %s, attempt %d, tried again in %" PRId64 " ms", key, err_name(rc), words,
                 upload->attempts, server_backoff_ms(upload->attempts));
}

/* The try is over. Who waits hears it now; errands that still run end first. */
static void fail(struct upload *upload, int rc, bool refused, const char *words)
{
    if (rc == -ESTALE && upload->copying && !upload->displaced) {
        log_info("attributes of %s: ESTALE: another client replaced the object", upload->key);
        uploader_forgo_attributes(upload->inode);
    } else {
        tell_failure(upload, rc, refused, words);
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

void upload_fail(struct upload *upload, int rc, const char *words)
{
    fail(upload, rc, public_error(rc) != -EIO, words);
}

void upload_fail_local(struct upload *upload, int rc)
{
    fail(upload, rc, true, "the local file cannot be read");
}

void upload_fail_call(struct upload *upload, int rc, const struct store_error *error)
{
    BUF_SCOPED words = BUF_INIT;
    store_error_print(error, rc, &words);
    fail(upload, rc, error->refused, words.bytes);
}

/* It did not happen, and nobody is to blame: once more, and only if that goes on does anybody hear of it. */
void upload_fail_quietly(struct upload *upload, const char *words)
{
    tell_failure(upload, -EIO, false, words);
    if (upload->attempts >= QUIET_ATTEMPTS)
        uploader_answer(upload->inode, -EIO);
    park(upload, -EIO);
}

/* Who holds it, for a rename say, may have the marker of the name: then the next try meets the conflict again. */
static bool may_settle_conflict(struct upload *upload)
{
    struct inode *inode = upload->inode;
    LOCK_SCOPED(&inode->lock);
    bool may = !inode->holds && !inode->rekeyed && !inode->orphan && !upload->uploader->stops;
    if (!may && !inode->orphan)
        upload_order_again_locked(upload);
    return may;
}

/* True when the upload is to rest, and does if nothing runs any more. */
bool upload_halts(struct upload *upload)
{
    if (!upload->halting)
        return false;
    if (!list_empty(&upload->errands))
        return true;
    int rc = upload->halt_rc;
    bool conflict = upload->foreign && may_settle_conflict(upload);
    upload->halting = upload->foreign = false;
    upload->halt_rc = 0;
    if (conflict)
        upload_meet_conflict(upload);
    else if (rc < 0)
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
    if (!inode->orphan && !upload->early && !upload->moves)
        upload_order_again_locked(upload);
    lock_drop(&inode->lock);
    list_for_each_safe (at, after, &upload->errands)
        errand_cancel(container_of(at, struct errand, link), upload->uploader->stops);
    upload_halts(upload);
}

/* ---- What is sent with the bytes. ---- */

/* A PUT that is repeated keeps its id: should both arrive, the last one is known for what it is (server_is_version). */
static void choose_id(struct upload *upload)
{
    bool same = upload->id[0] && upload->id_content_version == upload->content_version &&
                upload->id_attribute_version == upload->attribute_version;
    if (same && !upload->multipart && !upload->copying)
        return;
    upload->id_content_version = upload->content_version;
    upload->id_attribute_version = upload->attribute_version;
    uint8_t random[(UPLOAD_ID_MAX - 1) / 2];
    BUF_SCOPED hex = BUF_INIT;
    digest_random(random, sizeof random);
    buf_add_hex(&hex, random, sizeof random);
    memcpy(upload->id, hex.bytes, UPLOAD_ID_MAX);
}

void upload_build_meta(struct upload *upload, const struct attributes *attributes, bool with_mtime)
{
    choose_id(upload);
    store_fields_release(&upload->meta);
    store_fields_copy(&upload->meta, &upload->base_meta);
    store_fields_remove(&upload->meta, "mtime");
    attr_to_meta(attributes, with_mtime, &upload->meta);
    xattr_to_meta(upload->xattrs, &upload->meta);
    store_fields_set(&upload->meta, SERVER_ID_FIELD, upload->id);
    store_fields_release(&upload->typed);
    mime_headers(&upload->headers, upload->base_key, upload->inode->type == S_IFLNK ? "" : upload->key,
                 &upload->typed);
}

void upload_take_fields(struct upload *upload, const struct store_fields *meta,
                        const struct store_fields *headers)
{
    store_fields_release(&upload->base_meta);
    store_fields_copy(&upload->base_meta, meta);
    store_fields_release(&upload->headers);
    store_fields_copy(&upload->headers, headers);
    store_fields_remove(&upload->headers, "x-amz-version-id"); /* the object's, not the next one's */
}

void upload_take_attributes_locked(struct upload *upload, struct attributes *ret_attributes)
{
    const struct wanted *wanted = &upload->inode->wanted;
    upload->attribute_version = wanted->attribute_version;
    free(upload->xattrs);
    upload->xattrs = wanted->xattrs ? xstrdup(wanted->xattrs) : NULL;
    inode_attributes_locked(upload->inode, ret_attributes);
}

/* What is to go up is of one version: the one that stands now. */
void upload_take_version_locked(struct upload *upload, bool with_attributes,
                                struct attributes *ret_attributes)
{
    struct inode *inode = upload->inode;
    upload->versioned = true;
    upload->content_version = inode->wanted.content_version;
    upload->size = inode_body_bytes_locked(inode);
    upload->conditional = upload->conditional && !inode->whole_replacement;
    if (!upload->copying) /* a copy sends what the bucket has, whatever was cut off here since */
        inode->upload_floor = UINT64_MAX;
    if (with_attributes)
        upload_take_attributes_locked(upload, ret_attributes);
}

enum store_ability upload_conditions_honoured(struct upload *upload)
{
    struct store_abilities abilities;
    store_abilities(upload->uploader->cache->config.store, &abilities);
    return abilities.conditional_put;
}

static void start_job(struct upload *upload, enum errand_kind kind, enum upload_state state)
{
    upload_set_state(upload, state);
    errand_start(errand_new(upload, kind));
}

/* ---- Conflicts. ---- */

#define FOREIGN "somebody else changed or removed the object since it was opened here"

void upload_meet_conflict(struct upload *upload)
{
    lock_take(&upload->inode->lock);
    bool late = upload->inode->late_id[0];
    lock_drop(&upload->inode->lock);
    if (!upload->conditional && !upload->exclusive && !upload->displaced && !late) { /* attributes alone */
        upload_fail(upload, -ESTALE, FOREIGN);
        return;
    }
    upload_thaw(upload); /* writers may have the marker of the name */
    start_job(upload, ERRAND_CONFLICT, UPLOAD_CONFLICT);
}

static void heard_conflict(struct upload *upload, struct errand *errand)
{
    int rc = errand->rc;
    errand_free(errand);
    if (rc == 1)
        uploader_answer(upload->inode, -ESTALE);
    if (upload_halts(upload))
        return;
    if (rc >= 0 || rc == -ENOENT) { /* ... its name went, and with it what there was to send */
        upload->attempts = 0;
        upload_start_over(upload);
    } else if (rc == -ESTALE) {
        upload_fail(upload, rc, FOREIGN ", and ours cannot be made whole without it");
    } else {
        upload_fail(upload, rc, FOREIGN "; ours could not be kept beside it yet");
    }
}

/* ---- Asking. ---- */

void upload_ask_head(struct upload *upload)
{
    struct errand *errand = errand_new_call(upload, STORE_HEAD, false);
    upload_set_state(upload, UPLOAD_ASKING);
    if (upload->copying || (upload->displaced && !upload->versioned && !upload->asked))
        errand->call.key = upload->base_key;
    errand_start(errand);
}

/* What stands under the key is what this was made from. */
bool upload_is_base(const struct upload *upload, const struct store_object *seen)
{
    return server_is_version(seen, &upload->base, store_fields_get(&upload->base_meta, SERVER_ID_FIELD));
}

static void heard_head(struct upload *upload, struct errand *errand)
{
    int rc = errand->call.rc;
    bool patched = upload->conditional || upload->copying;
    bool conflict = patched && (rc == -ENOENT || (rc == 0 && !upload_is_base(upload, &errand->call.object)));
    bool here = strcmp(errand->call.key, upload->key) == 0;
    if (upload->exclusive)
        conflict = here && rc == 0 && !condition_allows(upload, &errand->call.object);
    bool completing = upload->versioned;
    if (rc == 0 && !conflict && !completing)
        upload_take_fields(upload, &errand->call.object.meta, &errand->call.object.headers);
    struct store_error error = errand->call.error;
    errand_free(errand);
    if (upload_halts(upload))
        return;
    if (conflict)
        upload_meet_conflict(upload);
    else if (rc < 0 && rc != -ENOENT)
        upload_fail_call(upload, rc, &error);
    else if (completing) {
        upload->guarded = true;
        sending_complete(upload);
    } else {
        upload->asked = true;
        upload->guarded = here || !upload->exclusive;
        upload_advance(upload);
    }
}

/* The parts that landed before stay. What an earlier process brought in of the base is not here any more. */
static void go_on(struct upload *upload)
{
    struct inode *inode = upload->inode;
    lock_take(&inode->lock);
    bool gaps = inode->type == S_IFREG && content_lacks_locked(inode, &upload->copied);
    lock_drop(&inode->lock);
    if (gaps)
        start_job(upload, ERRAND_FILL, UPLOAD_FILLING);
    else if (upload->unlisted)
        resuming_ask(upload);
    else
        sending_start(upload);
}

/* Also at its birth key, if the endpoint can do what that needs. */
static void take_on(struct upload *upload)
{
    enum store_ability served = upload->at_birth ? birth_served(upload) : ABILITY_YES;
    if (served == ABILITY_UNKNOWN && !upload->uploader->probed)
        start_job(upload, ERRAND_PROBE, UPLOAD_ASKING);
    else if (served != ABILITY_YES)
        birth_leave(upload, "the endpoint is not known to honour conditions, and to copy");
    else
        go_on(upload);
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
    if (kind == ERRAND_FILL && rc == -ESTALE)
        upload_meet_conflict(upload);
    else if (kind == ERRAND_FILL && rc < 0)
        upload_fail(upload, rc, "its other bytes could not be fetched");
    else if (upload->upload_id)
        take_on(upload);
    else
        upload_advance(upload);
}

/* What the disk must know before the object is another one: should the power go with only an older version of this file there, a
 * patch of what the object was, with an older file under this name, or one that must overwrite nothing, our own object would be
 * taken for another client's. */
static uint64_t flush_first(struct upload *upload)
{
    struct journal *journal = upload->uploader->cache->journal;
    LOCK_SCOPED(&upload->inode->lock);
    bool replaces = upload->inode->remote.exists || upload->exclusive;
    return replaces ? journal_hurry(journal) : journal_moved(journal);
}

void upload_try(struct upload *upload, struct errand *errand)
{
    int rc = recording_trying(upload);
    lock_take(&upload->inode->lock);
    upload->inode->replacing = rc == 0;
    lock_drop(&upload->inode->lock);
    if (rc < 0) {
        errand_free(errand);
        if (rc == -ECANCELED)
            upload_rest(upload);
        else
            upload_fail(upload, rc, "the journal cannot be written");
    } else if (upload->uploader->cache->journal) {
        errand_start_flushed(errand, flush_first(upload));
    } else {
        errand_start(errand);
    }
}

/* ---- Copying onto itself, or after its name. ---- */

static bool copies_by_parts(const struct upload *upload)
{
    struct cache *cache = upload->uploader->cache;
    struct store_abilities abilities;
    store_abilities(cache->config.store, &abilities);
    return upload->base.size > cache->config.copy_bytes_max && abilities.part_copy != ABILITY_NO;
}

static void start_copy(struct upload *upload)
{
    struct inode *inode = upload->inode;
    struct attributes attributes;
    lock_take(&inode->lock);
    upload_take_version_locked(upload, true, &attributes);
    upload->content_version = inode->remote.content_version;
    lock_drop(&inode->lock);
    upload->size = upload->base.size;
    if (upload->by_parts || (upload->displaced && copies_by_parts(upload))) {
        sending_copy_by_parts(upload);
        return;
    }
    upload_set_state(upload, UPLOAD_COPYING);
    upload_build_meta(upload, &attributes, true);
    struct errand *errand = errand_new_call(upload, STORE_COPY, false);
    errand->call.source_key = upload->base_key;
    errand->call.source_if_match = upload->base.etag;
    errand->call.replace_meta = true;
    errand->call.meta = &upload->meta;
    errand->call.headers = &upload->typed;
    upload_try(upload, errand);
}

/* ---- The beginning. ---- */

/* How the file is cut, as it stands, and which of its ranges are copied. A writer who spoiled that again and again waits this
 * time. */
static int plan_parts_locked(struct upload *upload)
{
    struct cache *cache = upload->uploader->cache;
    struct inode *inode = upload->inode;
    struct store_abilities abilities;
    struct memory_report memory;
    store_abilities(cache->config.store, &abilities);
    memory_report(cache->config.memory, &memory);
    part_plan_release(&upload->plan);
    extents_clear(&upload->copied);
    int rc =
        part_plan(upload->size, cache->config.part_bytes, memory.limit, abilities.equal_parts, &upload->plan);
    if (rc < 0 || !upload->base_key || !inode->base_size || !uploader_copies_parts(upload->uploader) ||
        !mosaic_cut(&upload->plan, &inode->dirty, inode->base_size, upload->size))
        return rc;
    mosaic_copied(&upload->plan, &upload->copied);
    upload->fitted_version = inode->wanted.content_version;
    if (upload->recuts >= UPLOAD_RECUTS_MAX && !upload->frozen)
        upload_freeze_locked(upload);
    return 0;
}

void upload_advance(struct upload *upload)
{
    struct cache *cache = upload->uploader->cache;
    struct inode *inode = upload->inode;
    bool guards = upload->conditional || upload->exclusive;
    enum store_ability honoured = guards ? upload_conditions_honoured(upload) : ABILITY_YES;
    if (honoured == ABILITY_UNKNOWN && !upload->uploader->probed) {
        start_job(upload, ERRAND_PROBE, UPLOAD_ASKING);
        return;
    }
    lock_take(&inode->lock);
    upload->size = inode_body_bytes_locked(inode);
    int rc = upload->copying ? 0 : plan_parts_locked(upload);
    bool gaps = !upload->copying && inode->type == S_IFREG && content_lacks_locked(inode, &upload->copied);
    lock_drop(&inode->lock);
    if (rc < 0) {
        upload_fail(upload, rc, "too large for 10 000 parts; a larger memory= allows larger parts");
        return;
    }
    if (gaps) {
        start_job(upload, ERRAND_FILL, UPLOAD_FILLING);
        return;
    }
    if (!upload->asked || (honoured != ABILITY_YES && !upload->guarded)) {
        upload_ask_head(upload);
        return;
    }
    if (!upload->kept && keepsake_is_due(cache, upload->key)) {
        upload->kept = true;
        start_job(upload, ERRAND_KEEP, UPLOAD_FILLING);
        return;
    }
    if (upload->copying) {
        start_copy(upload);
        return;
    }
    if (tagging_begin(upload))
        return;
    bool small = upload->size <= upload->plan.bytes;
    if (small && upload->early) {
        upload_rest(upload); /* cut off meanwhile */
    } else if (small) {
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
    bool differs = inode->wanted.content_version != inode->remote.content_version && !upload->moves;
    bool content =
        differs || !inode->remote.exists || inode->type == S_IFDIR; /* a marker is its attributes */
    bool same_key = inode->remote.exists && strcmp(inode->remote.key, upload->key) == 0;
    upload->copying = !content;
    upload->displaced = inode->remote.exists && !same_key;
    upload->conditional = content && same_key && inode->type == S_IFREG && !inode->whole_replacement;
    upload->exclusive = content && inode->exclusive;
    upload->base = inode->remote.identity;
    free(upload->base_key);
    upload->base_key = inode->remote.exists ? xstrdup(inode->remote.key) : NULL;
    upload_take_fields(upload, &inode->remote.meta, &inode->remote.headers);
    upload->asked = !inode->remote.exists || inode->remote.headers_known;
    upload->guarded = upload->kept = upload->tags_known = upload->by_parts = false;
    store_fields_release(&upload->tags);
    extents_clear(&inode->unread);
    inode->upload_floor = UINT64_MAX;
}

static void set_key(struct upload *upload, char *key)
{
    if (upload->key && strcmp(upload->key, key) != 0) {
        birth_give_up(upload, "that key is needed here, or cannot be used any more");
        upload->unsettled = false;     /* at that key nothing is in doubt any more (veil_claim) */
        upload_drop_multipart(upload); /* it belongs to its key */
    }
    free(upload->key);
    upload->key = key;
}

/* False: there is nothing to do (any more), or somebody holds it. `again`: somebody had asked for what failed before, unless
 * it went early. */
static bool take_up(struct upload *upload, bool again)
{
    struct inode *inode = upload->inode;
    LOCK_SCOPED(&inode->lock);
    if (inode->orphan || inode->holds > 0 || !inode_dirty_locked(inode)) {
        inode->publish = inode->holds > 0; /* who holds it pokes it when done */
        return false;
    }
    bool asked = uploader_asked_locked(inode);
    upload->moves = !asked && inode_follows_locked(inode);
    upload->early = !asked && !upload->moves && (upload->early || !again);
    if (!upload->early && !upload->moves)
        upload_take_order_locked(upload);
    inode->upload_busy = upload->busy = true;
    upload->uploader->busy_count++;
    return true;
}

bool upload_fits_locked(const struct upload *upload)
{
    const struct inode *inode = upload->inode;
    bool content = inode->wanted.content_version != inode->remote.content_version;
    bool same = inode->remote.exists && upload->base_key &&
                strcmp(inode->remote.key, upload->base_key) == 0 &&
                identity_equal(&inode->remote.identity, &upload->base);
    bool base = (same || (!upload->plan.piece_count && !upload->conditional)) &&
                (!upload->plan.piece_count || uploader_copies_parts(upload->uploader));
    return upload->upload_id && !upload->copying && content && base;
}

/* True: what was begun earlier goes on; else a fresh try is set up. */
static bool resumes(struct upload *upload)
{
    LOCK_SCOPED(&upload->inode->lock);
    bool fits = upload_fits_locked(upload), resume = upload->unsettled || fits;
    if (fits && !upload->unsettled)
        upload->exclusive = upload->inode->exclusive;
    if (!resume && !upload->at_birth)
        prepare_locked(upload);
    return resume;
}

/* Busy first, then the key: whoever renames it from here on tells it (`rekeyed`), or waits at upload_hold(). */
static int claim_key(struct upload *upload)
{
    BUF_SCOPED key = BUF_INIT;
    int rc = veil_claim(upload->inode, birth_key(upload), &key);
    lock_take(&upload->inode->lock); /* one that is to be settled first was tried where it was */
    upload->at_birth = upload->inode->busy_at_birth || (upload->at_birth && upload->inode->maybe_key);
    lock_drop(&upload->inode->lock);
    if (rc == 0)
        set_key(upload, buf_take(&key));
    return rc;
}

/* Since the try was taken up. */
static bool is_removed(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->orphan && !inode->lost;
}

static void begin(struct upload *upload)
{
    bool again = upload->state == UPLOAD_PARKED;
    upload_set_state(upload, UPLOAD_IDLE);
    if (!take_up(upload, again)) {
        uploader_poke(upload->inode);
        return;
    }
    int rc = claim_key(upload);
    if (rc == -EAGAIN) { /* somebody is at work on that key, and pokes us */
        lock_take(&upload->inode->lock);
        upload->inode->publish = !upload->early && !upload->moves;
        lock_drop(&upload->inode->lock);
        upload_rest(upload);
        return;
    }
    upload->unsettled = rc == 0 && outcome_is_open(upload);
    if (upload->lost)
        upload_drop_multipart(upload);
    bool resume = rc == 0 && resumes(upload);
    if (rc == -ENOENT && is_removed(upload->inode))
        upload_rest(upload);
    else if (rc < 0)
        upload_fail(upload, rc == -ENOENT ? -ESTALE : rc,
                    rc == -ENOENT ? "its name is gone" : "the name has no key");
    else if (upload->unsettled)
        outcome_settle(upload);
    else if (resume)
        take_on(upload);
    else if (upload->at_birth)
        birth_leave(upload, "what it was made from has changed");
    else {
        upload_drop_multipart(upload);
        upload_advance(upload);
    }
}

struct upload *upload_new_locked(struct uploader *uploader, struct inode *inode)
{
    struct upload *upload = xcalloc(1, sizeof *upload);
    upload->uploader = uploader;
    upload->inode = inode_ref(inode);
    list_init(&upload->turn);
    list_init(&upload->errands);
    list_append(&uploader->uploads, &upload->link);
    upload->due_ms = CLOCK_NEVER;
    resuming_adopt_locked(upload);
    return upload;
}

void upload_free(struct upload *upload)
{
    struct inode *inode = upload->inode;
    assert(list_empty(&upload->errands) && !upload->busy);
    if (upload->uploader->stops)
        leave_multipart(upload);
    upload_drop_multipart(upload);
    list_remove(&upload->link);
    list_remove(&upload->turn);
    upload->uploader->queued_count -= upload->queued;
    if (upload->state == UPLOAD_PARKED)
        upload->uploader->parked_count--;
    lock_take(&inode->lock);
    inode->upload = NULL;
    extents_clear(&inode->unread);
    gate_open(&inode->changed);
    lock_drop(&inode->lock);
    extents_release(&upload->copied);
    store_fields_release(&upload->base_meta);
    store_fields_release(&upload->headers);
    store_fields_release(&upload->typed);
    store_fields_release(&upload->meta);
    store_fields_release(&upload->tags);
    free(upload->xattrs);
    free(upload->base_key);
    free(upload->key);
    free(upload);
    inode_unref(inode);
}

uint64_t upload_next_bytes(const struct upload *upload)
{
    uint64_t start, end;
    if (upload->copying || (upload->multipart && part_copied(&upload->plan, upload->next_part)))
        return 0;
    if (!upload->multipart)
        return upload->size;
    part_range(&upload->plan, upload->next_part, &start, &end);
    return end - start;
}

static void go(struct upload *upload)
{
    list_remove(&upload->turn);
    upload->uploader->queued_count -= upload->queued;
    upload->queued = upload->urgent = false;
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
    if (errand->kind == ERRAND_CONFLICT) {
        heard_conflict(upload, errand);
        return;
    }
    if (errand->kind != ERRAND_CALL) {
        heard_job(upload, errand);
        return;
    }
    switch (errand->call.op) {
    case STORE_HEAD:
        if (upload->state == UPLOAD_SETTLING)
            outcome_heard_settling(upload, errand);
        else
            heard_head(upload, errand);
        break;
    case STORE_GET_TAGS:
        tagging_heard(upload, errand);
        break;
    case STORE_CREATE:
        sending_heard_create(upload, errand);
        break;
    case STORE_LIST_PARTS:
        resuming_heard(upload, errand);
        break;
    case STORE_PART:
    case STORE_PART_COPY:
        sending_heard_part(upload, errand);
        break;
    default:
        outcome_heard(upload, errand);
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
