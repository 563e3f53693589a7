#include "cache/recording.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "cache/attr.h"

/* ---- Saying. ---- */

/* A record that does not fit is a bug; where locks are checked it ends the test, else the operation. */
static int say(struct inode *inode, const struct record *record, struct disk_file *file)
{
    int rc = journal_append(inode->cache->journal, record, file);
#ifdef SKYVOL_LOCK_ORDER
    assert(rc != -EBADMSG);
#endif
    return rc == -EBADMSG ? -EIO : rc;
}

static uint64_t account_of(const struct inode *directory)
{
    return directory == directory->cache->names.root ? 0 : directory->account;
}

static void give_number(struct inode *inode)
{
    if (!inode->account)
        inode->account = journal_new_id(inode->cache->journal);
}

/* What is no attribute, and cannot be told from the bucket while nothing of it stands there: `room` is for a device's numbers. */
static const char *body_of(const struct inode *inode, char room[ATTR_DEVICE_MAX])
{
    if (!attr_is_device(inode->type) || !inode->wanted.attributes.device)
        return inode->target;
    attr_print_device(inode->wanted.attributes.device, room);
    return room;
}

static int say_place(struct inode *inode, const struct inode *parent, const char *name, uint64_t replaced,
                     bool forgotten)
{
    char room[ATTR_DEVICE_MAX];
    struct record record = {.type = RECORD_NODE,
                            .id = inode->account,
                            .parent = parent ? account_of(parent) : 0,
                            .name = name,
                            .kind = inode->type,
                            .target = body_of(inode, room),
                            .replaced = replaced,
                            .forgotten = forgotten};
    return say(inode, &record, NULL);
}

static int say_attributes(struct inode *inode, const struct wanted *wanted)
{
    struct record record = {.type = RECORD_ATTRIBUTES,
                            .id = inode->account,
                            .attributes = wanted->attributes,
                            .attribute_version = wanted->attribute_version,
                            .mtime_explicit = wanted->mtime_explicit};
    record.attributes.number = inode->number;
    return say(inode, &record, NULL);
}

static int say_xattrs(struct inode *inode, const struct wanted *wanted)
{
    struct record record = {.type = RECORD_XATTRS,
                            .id = inode->account,
                            .xattrs = wanted->xattrs,
                            .attributes.ctime_ns = wanted->attributes.ctime_ns,
                            .attribute_version = wanted->attribute_version};
    return say(inode, &record, NULL);
}

/* `file`: where its dirty bytes stand, if some were never spoken of, or were copied there; NULL: as before. */
static int say_remote_in(struct inode *inode, enum record_type type, struct disk_file *file,
                         const char *local)
{
    const struct remote *remote = &inode->remote;
    struct record record = {.type = type,
                            .id = inode->account,
                            .size = inode->wanted.attributes.size,
                            .content_version = inode->wanted.content_version,
                            .base_size = inode->base_size,
                            .whole_replacement = inode->whole_replacement,
                            .local = local,
                            .dirty = &inode->dirty,
                            .key = remote->key,
                            .identity = remote->identity,
                            .meta = &remote->meta,
                            .headers = &remote->headers,
                            .headers_known = remote->headers_known,
                            .remote_content_version = remote->content_version,
                            .remote_attribute_version = remote->attribute_version};
    return say(inode, &record, file);
}

/* Whatever of its local file nobody has spoken of yet is flushed with it. */
static int say_restated(struct inode *inode)
{
    return say_remote_in(inode, RECORD_RESTATED, inode->local, inode->local ? inode->local_name : "");
}

static int say_forget(struct inode *inode)
{
    struct record record = {.type = RECORD_FORGET, .id = inode->account};
    return say(inode, &record, NULL);
}

/* What the journal does not know of it is said before anything else is. */
static int pay_locked(struct inode *inode)
{
    int rc = 0;
    if (!inode->record_debt)
        return 0;
    rc = say_attributes(inode, &inode->wanted);
    if (rc == 0)
        rc = say_restated(inode);
    if (rc == 0 && inode->wanted.xattrs)
        rc = say_xattrs(inode, &inode->wanted);
    inode->record_debt = rc < 0;
    return rc;
}

/* A note that could not be written costs a question after a crash, no more. */
static void owe_locked(struct inode *inode, const char *what, int rc)
{
    if (rc == 0)
        return;
    if (!inode->record_debt)
        log_warn("journal: %s of inode %llu: %s, said again with its next change", what,
                 (unsigned long long)inode->id, err_name(rc));
    inode->record_debt = true;
}

/* ---- Accounts. ---- */

static int open_directory_locked(struct inode *directory)
{
    struct cache *cache = directory->cache;
    if (directory == cache->names.root ||
        (directory->account && journal_knows(cache->journal, directory->account)))
        return 0;
    int rc = open_directory_locked(directory->parent);
    if (rc < 0)
        return rc;
    give_number(directory);
    return say_place(directory, directory->parent, directory->name, 0, true);
}

static int open_locked(struct inode *inode)
{
    int rc = open_directory_locked(inode->parent);
    if (rc < 0)
        return rc;
    give_number(inode);
    rc = say_place(inode, inode->parent, inode->name, 0, false);
    if (rc < 0)
        return rc;
    inode->record_debt = true;
    rc = pay_locked(inode);
    inode->recorded = rc == 0;
    if (rc < 0 && say_forget(inode) < 0)
        log_error("journal: %s keeps a place that nothing stands in until the next mount", inode->name);
    return rc;
}

int recording_take(struct inode *inode)
{
    struct cache *cache = inode->cache;
    int rc = 0;
    lock_take(&inode->lock);
    while (rc == 0 && cache->journal && !inode->recorded && !inode->orphan) {
        lock_drop(&inode->lock);
        lock_take(&cache->names.lock);
        lock_take(&inode->lock);
        bool nameless = !inode->parent;
        if (!nameless && !inode->recorded && !inode->orphan)
            rc = open_locked(inode);
        lock_drop(&inode->lock);
        lock_drop(&cache->names.lock);
        lock_take(&inode->lock); /* never before that of names */
        if (nameless)
            break;
    }
    if (rc < 0)
        lock_drop(&inode->lock);
    return rc;
}

int recording_open_locked(struct inode *inode)
{
    bool without = !inode->cache->journal || inode->recorded || inode->orphan || !inode->parent;
    return without ? 0 : open_locked(inode);
}

int recording_born_locked(struct inode *inode)
{
    if (!inode->cache->journal)
        return 0;
    int rc = open_directory_locked(inode->parent);
    if (rc < 0)
        return rc;
    give_number(inode);
    char room[ATTR_DEVICE_MAX];
    struct record record = {.type = inode->exclusive ? RECORD_BIRTH_EXCLUSIVE : RECORD_BIRTH,
                            .id = inode->account,
                            .parent = account_of(inode->parent),
                            .name = inode->name,
                            .kind = inode->type,
                            .target = body_of(inode, room),
                            .size = inode_body_bytes_locked(inode),
                            .attributes = inode->wanted.attributes,
                            .attribute_version = inode->wanted.attribute_version,
                            .content_version = inode->wanted.content_version};
    record.attributes.number = inode->number;
    rc = say(inode, &record, NULL);
    inode->recorded = rc == 0;
    return rc;
}

/* All that is left of it is an upload that must be aborted. */
static int say_leftover(struct inode *inode)
{
    struct record record = {.type = RECORD_REMOTE,
                            .id = inode->account,
                            .size = inode->wanted.attributes.size,
                            .content_version = inode->wanted.content_version,
                            .remote_content_version = inode->remote.content_version,
                            .remote_attribute_version = inode->remote.attribute_version};
    int rc = say(inode, &record, NULL);
    return rc < 0 ? rc : say_place(inode, NULL, "", 0, false);
}

void recording_forget_locked(struct inode *inode)
{
    if (!inode->recorded)
        return;
    int rc = inode->told_upload ? say_leftover(inode) : say_forget(inode);
    if (rc < 0)
        log_error("journal: inode %llu cannot be forgotten: %s, at the next mount it is asked for again",
                  (unsigned long long)inode->id, err_name(rc));
    if (!inode->told_upload)
        inode->recorded = inode->record_debt = false;
}

static bool is_settled_locked(const struct inode *inode)
{
    bool sent = !inode_dirty_locked(inode) && !inode->write_opens && !inode->upload && !inode->maybe_key;
    return sent && !inode->told_upload && !inode->delete_at_release && list_empty(&inode->syncs);
}

void recording_tidy(struct inode *inode)
{
    struct names *names = &inode->cache->names;
    lock_take(&inode->lock);
    bool settled = inode->recorded && is_settled_locked(inode);
    lock_drop(&inode->lock);
    if (!settled)
        return;
    LOCK_SCOPED(&names->lock);
    LOCK_SCOPED(&inode->lock);
    if (is_settled_locked(inode) && list_empty(&inode->doomed))
        recording_forget_locked(inode);
}

/* ---- Changes. ---- */

static bool survives_locked(const struct inode *inode)
{
    return inode->recorded && !inode->orphan;
}

int recording_content_locked(struct inode *inode, const struct content_change *change)
{
    if (!survives_locked(inode))
        return 0;
    int rc = pay_locked(inode);
    if (rc < 0)
        return rc;
    bool written = change->end > change->start;
    bool rides = written && change->size <= RECORD_RIDE_MAX;
    struct record record = {.type = written ? RECORD_WRITE : RECORD_SIZE,
                            .id = inode->account,
                            .start = change->start,
                            .end = change->end,
                            .size = change->size,
                            .base_size = change->base_size,
                            .whole_replacement = change->whole_replacement,
                            .content_version = inode->wanted.content_version + 1,
                            .mtime_ns = change->now_ns,
                            .local = inode->local_name,
                            .bytes = rides ? change->bytes : NULL};
    return say(inode, &record, written ? inode->local : NULL);
}

int recording_local_locked(struct inode *inode, struct disk_file *file, const char *name)
{
    if (!survives_locked(inode))
        return 0;
    int rc = pay_locked(inode);
    return rc < 0 ? rc : say_remote_in(inode, RECORD_RESTATED, file, name);
}

int recording_attributes_locked(struct inode *inode, const struct wanted *wanted)
{
    if (!survives_locked(inode))
        return 0;
    int rc = pay_locked(inode);
    if (rc < 0)
        return rc;
    bool same =
        !wanted->xattrs || (inode->wanted.xattrs && strcmp(wanted->xattrs, inode->wanted.xattrs) == 0);
    return same ? say_attributes(inode, wanted) : say_xattrs(inode, wanted);
}

int recording_exclusive_locked(struct inode *inode)
{
    if (!survives_locked(inode))
        return 0;
    int rc = pay_locked(inode);
    struct record record = {.type = RECORD_EXCLUSIVE, .id = inode->account};
    return rc < 0 ? rc : say(inode, &record, NULL);
}

/* A directory that has an account says its place; with nothing unsent of its own it goes on saying nothing else. */
static int move_directory_locked(struct inode *directory, struct inode *to_parent, const char *to_name,
                                 uint64_t replaced)
{
    if (!directory->account || !journal_knows(directory->cache->journal, directory->account))
        return 0;
    int rc = say_place(directory, to_parent, to_name, replaced, false);
    return rc < 0 || directory->recorded ? rc : say_forget(directory);
}

int recording_moved_locked(struct inode *inode, struct inode *to_parent, const char *to_name,
                           struct inode *replaced)
{
    if (!inode->cache->journal || (inode->type != S_IFDIR && !inode->recorded))
        return 0;
    int rc = open_directory_locked(to_parent);
    if (rc < 0)
        return rc;
    uint64_t account = replaced && replaced->recorded ? replaced->account : 0;
    if (inode->type == S_IFDIR)
        return move_directory_locked(inode, to_parent, to_name, account);
    return say_place(inode, to_parent, to_name, account, false);
}

int recording_doomed_locked(struct inode *inode)
{
    if (!inode->cache->journal)
        return 0;
    give_number(inode);
    if (!inode->remote.exists && !inode->maybe_key && !inode->upload_busy) {
        recording_forget_locked(inode);
        return 0;
    }
    bool known = inode->recorded;
    int rc = say_place(inode, NULL, "", 0, false);
    if (rc == 0 && !known)
        rc = say_attributes(inode, &inode->wanted);
    if (rc == 0 && !known)
        rc = say_restated(inode);
    inode->recorded = rc == 0 || known;
    return rc;
}

/* ---- What the uploader learns. ---- */

/* `file`: whose bytes it may speak of for the first time. */
static int note_remote_locked(struct inode *inode, enum record_type type, struct disk_file *file)
{
    if (!inode->recorded)
        return 0;
    int rc = pay_locked(inode);
    if (rc == 0)
        rc = say_remote_in(inode, type, file, inode->local ? inode->local_name : "");
    owe_locked(inode, "what the bucket holds", rc);
    return rc;
}

int recording_remote_locked(struct inode *inode)
{
    return note_remote_locked(inode, RECORD_RESTATED, NULL);
}

int recording_owned_locked(struct inode *inode)
{
    return note_remote_locked(inode, RECORD_RESTATED, inode->local);
}

void recording_settled_locked(struct inode *inode)
{
    note_remote_locked(inode, RECORD_REMOTE, NULL);
}

static bool begin_note(struct upload *upload)
{
    lock_take(&upload->inode->lock);
    if (upload->inode->recorded)
        return true;
    lock_drop(&upload->inode->lock);
    return false;
}

static void end_note(struct upload *upload, const char *what, int rc)
{
    owe_locked(upload->inode, what, rc);
    lock_drop(&upload->inode->lock);
}

static int say_upload_end(struct inode *inode)
{
    struct record record = {.type = RECORD_UPLOAD_END, .id = inode->account};
    if (!inode->told_upload)
        return 0;
    int rc = say(inode, &record, NULL);
    if (rc == 0) {
        free(inode->told_upload);
        inode->told_upload = NULL;
    }
    return rc;
}

static int say_upload(const struct upload *upload)
{
    struct record record = {.type = RECORD_UPLOAD,
                            .id = upload->inode->account,
                            .upload_id = upload->upload_id,
                            .key = upload->key,
                            .skyvol_id = upload->id,
                            .plan = upload->plan,
                            .copying = upload->copying,
                            .attribute_version = upload->attribute_version,
                            .mtime_explicit = upload->mtime_sent,
                            .mtime_ns = upload->mtime_ns,
                            .identity = upload->base};
    int rc = say(upload->inode, &record, NULL);
    if (rc == 0)
        upload->inode->told_upload = xstrdup(upload->upload_id);
    return rc;
}

/* The journal knows one upload of a file at most. */
void recording_upload(struct upload *upload)
{
    if (!begin_note(upload))
        return;
    int rc = say_upload_end(upload->inode);
    if (rc == 0)
        rc = say_upload(upload);
    end_note(upload, "an upload", rc);
}

static bool is_told_locked(const struct upload *upload)
{
    const char *told = upload->inode->told_upload;
    return told && upload->upload_id && strcmp(told, upload->upload_id) == 0;
}

void recording_part(struct upload *upload, size_t index)
{
    const struct part *part = &upload->parts[index];
    if (!begin_note(upload))
        return;
    struct record record = {.type = RECORD_PART,
                            .id = upload->inode->account,
                            .index = index,
                            .size = part->size,
                            .etag = part->etag,
                            .content_version = part->content_version};
    end_note(upload, "a part", is_told_locked(upload) ? say(upload->inode, &record, NULL) : 0);
}

void recording_upload_end(struct inode *inode, const char *upload_id)
{
    LOCK_SCOPED(&inode->lock);
    if (!inode->recorded || !inode->told_upload || strcmp(inode->told_upload, upload_id) != 0)
        return;
    owe_locked(inode, "the end of an upload", say_upload_end(inode));
    if (inode->orphan && !inode->delete_at_release && list_empty(&inode->doomed))
        recording_forget_locked(inode); /* all that was left of it */
}

int recording_trying(struct upload *upload)
{
    struct inode *inode = upload->inode;
    LOCK_SCOPED(&inode->lock);
    if (inode->orphan && !inode->lost)
        return -ECANCELED; /* behind the record of its end it would not tell what to delete */
    if (!inode->recorded)
        return 0;
    struct record record = {.type = RECORD_TRYING,
                            .id = inode->account,
                            .skyvol_id = upload->id,
                            .key = upload->key,
                            .size = upload->size,
                            .content_version = upload->content_version,
                            .attribute_version = upload->attribute_version};
    int rc = pay_locked(inode);
    if (rc == 0)
        rc = say(inode, &record, NULL);
    owe_locked(inode, "a try", rc);
    return rc;
}

void recording_tried(struct upload *upload)
{
    if (!begin_note(upload))
        return;
    struct record record = {.type = RECORD_TRYING, .id = upload->inode->account};
    end_note(upload, "the end of a try", say(upload->inode, &record, NULL));
}
