#include "cache/account.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cache/attr.h"

#define RECORD_BYTES 64 /* about: head, id and padding of one */

/* ---- Kinds. ---- */

bool account_kind_known(uint32_t kind)
{
    return kind == S_IFREG || kind == S_IFDIR || kind == S_IFLNK || attr_is_special(kind);
}

bool account_target_fits(uint32_t kind, const char *target)
{
    uint64_t device;
    if (attr_is_device(kind))
        return attr_parse_device(target, &device) == 0;
    return kind == S_IFLNK && strlen(target) < PATH_MAX;
}

uint64_t account_device(const struct account *account)
{
    bool unsent = account->content_version != account->remote_content_version;
    uint64_t device = 0;
    if (attr_is_device(account->kind))
        attr_parse_device(unsent ? account->target : store_fields_get(&account->meta, "rdev"), &device);
    return device;
}

/* ---- Life. ---- */

struct account *account_new(uint64_t id, uint32_t kind, const char *target)
{
    struct account *account = xcalloc(1, sizeof *account);
    account->id = id;
    account->kind = kind;
    account->target = target && *target ? xstrdup(target) : NULL;
    list_init(&account->turn);
    return account;
}

static void drop_upload(struct account *account)
{
    account_upload_free(account->upload);
    account->upload = NULL;
}

static void drop_trying(struct account *account)
{
    if (account->trying)
        free(account->trying->key);
    free(account->trying);
    account->trying = NULL;
}

void account_clear(struct account *account)
{
    drop_upload(account);
    drop_trying(account);
    extents_release(&account->dirty);
    store_fields_release(&account->meta);
    store_fields_release(&account->headers);
    free(account->key);
    free(account->xattrs);
    /* All from `attributes` on is of zeros at birth. */
    memset(&account->attributes, 0, sizeof *account - offsetof(struct account, attributes));
}

void account_free(struct account *account)
{
    if (!account)
        return;
    account_clear(account);
    free(account->target);
    free(account->place);
    free(account);
}

void account_give_up(struct account *account)
{
    extents_release(&account->dirty);
    account->local[0] = 0;
    account->exclusive = false;
}

/* ---- Records. ---- */

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void copy_name(char *to, size_t room, const char *from)
{
    size_t length = from ? strlen(from) : 0;
    assert(length < room);
    memset(to, 0, room);
    memcpy(to, from ? from : "", length);
}

static void replace_text(char **text, const char *with)
{
    free(*text);
    *text = with && *with ? xstrdup(with) : NULL;
}

static void apply_attributes(struct account *account, const struct record *record)
{
    uint64_t size = account->attributes.size;
    account->attributes = record->attributes;
    account->attributes.size = size;
    account->attributes.nlink = 0; /* these two follow from the rest */
    account->attributes.blocks = 0;
    account->attribute_version = record->attribute_version;
    account->mtime_explicit = record->mtime_explicit;
}

static void drop_xattrs(struct account *account)
{
    free(account->xattrs);
    account->xattrs = NULL;
}

static void apply_xattrs(struct account *account, const struct record *record)
{
    drop_xattrs(account);
    account->xattrs = xstrdup(record->xattrs ? record->xattrs : "");
    account->attributes.ctime_ns = record->attributes.ctime_ns;
    account->attribute_version = record->attribute_version;
}

static void apply_birth(struct account *account, const struct record *record)
{
    apply_attributes(account, record);
    account->mtime_explicit = false;
    account->attributes.size = record->size;
    account->content_version = record->content_version;
    account->base_size = 0;
    account->whole_replacement = true;
}

static void apply_birth_exclusive(struct account *account, const struct record *record)
{
    apply_birth(account, record);
    account->exclusive = true;
}

static void apply_content(struct account *account, const struct record *record)
{
    account->attributes.size = record->size;
    account->content_version = record->content_version;
    account->base_size = record->base_size;
    account->whole_replacement = record->whole_replacement;
}

/* The bytes of [start, end) are other ones; behind the old end also the hole up to there. */
static void apply_change(struct account *account, const struct record *record, uint64_t start, uint64_t end)
{
    uint64_t old = account->attributes.size;
    apply_content(account, record);
    account->attributes.mtime_ns = account->attributes.ctime_ns = record->mtime_ns;
    account->mtime_explicit = false;
    if (account->upload)
        account_upload_spoil(account->upload, smaller(start, old), larger(end, start),
                             record->content_version);
    extents_remove(&account->dirty, record->size, UINT64_MAX);
}

static void apply_write(struct account *account, const struct record *record)
{
    apply_change(account, record, record->start, record->end);
    if (!account->name)
        return;
    int rc = extents_add(&account->dirty, record->start, record->end);
    assert(rc == 0);
    copy_name(account->local, sizeof account->local, record->local);
}

static void apply_size(struct account *account, const struct record *record)
{
    uint64_t old = account->attributes.size;
    apply_change(account, record, smaller(old, record->size), larger(old, record->size));
}

/* Most have none: they take no memory. */
static void set_dirty(struct account *account, const struct extents *dirty)
{
    extents_release(&account->dirty);
    if (dirty)
        extents_copy(&account->dirty, dirty);
}

static void copy_fields(struct store_fields *to, const struct store_fields *from)
{
    static const struct store_fields none;
    store_fields_copy(to, from ? from : &none);
}

static size_t measure_fields(const struct store_fields *fields)
{
    size_t bytes = 0;
    for (size_t i = 0; i < fields->count; i++)
        bytes += strlen(fields->all[i].name) + strlen(fields->all[i].value) + 2;
    return bytes;
}

static void apply_restated(struct account *account, const struct record *record)
{
    apply_content(account, record);
    if (account->name) {
        set_dirty(account, record->dirty);
        copy_name(account->local, sizeof account->local, record->local);
    }
    replace_text(&account->key, record->key);
    account->identity = record->identity;
    copy_fields(&account->meta, record->meta);
    copy_fields(&account->headers, record->headers);
    account->meta_bytes = measure_fields(&account->meta) + measure_fields(&account->headers);
    account->headers_known = record->headers_known;
    account->remote_content_version = record->remote_content_version;
    account->remote_attribute_version = record->remote_attribute_version;
    if (account->attribute_version == account->remote_attribute_version)
        drop_xattrs(account); /* what the object has of them */
    account->exclusive = account->exclusive && !account->remote_content_version;
}

static void apply_exclusive(struct account *account, const struct record *record)
{
    (void)record;
    account->exclusive = true;
}

static void apply_remote(struct account *account, const struct record *record)
{
    apply_restated(account, record);
    drop_trying(account);
}

static void apply_upload(struct account *account, const struct record *record)
{
    account->upload = account_upload_new(record);
}

static void apply_part(struct account *account, const struct record *record)
{
    account_upload_land(account->upload, record);
}

static void apply_upload_end(struct account *account, const struct record *record)
{
    (void)record;
    drop_upload(account);
}

static void apply_trying(struct account *account, const struct record *record)
{
    drop_trying(account);
    if (!record->skyvol_id || !*record->skyvol_id)
        return;
    struct account_trying *trying = account->trying = xcalloc(1, sizeof *trying);
    copy_name(trying->skyvol_id, sizeof trying->skyvol_id, record->skyvol_id);
    trying->key = xstrdup(record->key);
    trying->size = record->size;
    trying->content_version = record->content_version;
    trying->attribute_version = record->attribute_version;
}

void account_apply(struct account *account, const struct record *record)
{
    static void (*const apply[RECORD_TYPE_END])(struct account *, const struct record *) = {
        [RECORD_BIRTH] = apply_birth,
        [RECORD_ATTRIBUTES] = apply_attributes,
        [RECORD_WRITE] = apply_write,
        [RECORD_SIZE] = apply_size,
        [RECORD_REMOTE] = apply_remote,
        [RECORD_UPLOAD] = apply_upload,
        [RECORD_PART] = apply_part,
        [RECORD_UPLOAD_END] = apply_upload_end,
        [RECORD_TRYING] = apply_trying,
        [RECORD_RESTATED] = apply_restated,
        [RECORD_EXCLUSIVE] = apply_exclusive,
        [RECORD_XATTRS] = apply_xattrs,
        [RECORD_BIRTH_EXCLUSIVE] = apply_birth_exclusive,
    };
    if (apply[record->type])
        apply[record->type](account, record);
    account->told = account->told || (record->type != RECORD_NODE && record->type != RECORD_ATTRIBUTES);
}

/* ---- What fits. ---- */

static int refuse(struct buf *why, const char *words)
{
    buf_add_string(why, words);
    return -EBADMSG;
}

static bool fits(const char *text, size_t room)
{
    return !text || strlen(text) < room;
}

static int admit_attributes(const struct account *account, const struct record *record, struct buf *why)
{
    uint32_t mode = record->attributes.mode;
    if (mode && (mode & S_IFMT) != account->kind)
        return refuse(why, "a mode of another type");
    if (record->attribute_version < account->attribute_version)
        return refuse(why, "attributes of an older version");
    return 0;
}

/* Newer than what the bucket has, else nobody would send it. */
static int admit_xattrs(const struct account *account, const struct record *record, struct buf *why)
{
    if (account->kind != S_IFREG && account->kind != S_IFDIR)
        return refuse(why, "extended attributes of what has none");
    if (record->attribute_version < account->attribute_version ||
        record->attribute_version <= account->remote_attribute_version)
        return refuse(why, "extended attributes of an older version");
    return 0;
}

static int admit_content(const struct account *account, const struct record *record, struct buf *why)
{
    if (record->size > OBJECT_BYTES_MAX)
        return refuse(why, "a size over 5 TiB");
    if (account->kind == S_IFREG && record->base_size > record->size)
        return refuse(why, "a base that is larger than the file");
    if (record->whole_replacement && record->base_size)
        return refuse(why, "a whole replacement with a base");
    if (!fits(record->local, ACCOUNT_LOCAL_MAX))
        return refuse(why, "a local name that is too long");
    return 0;
}

static int admit_change(const struct account *account, const struct record *record, struct buf *why)
{
    if (record->content_version <= account->content_version)
        return refuse(why, "a change that is not of a newer version");
    return admit_content(account, record, why);
}

static int admit_write(const struct account *account, const struct record *record, struct buf *why)
{
    uint64_t start = record->start, end = record->end;
    if (account->kind != S_IFREG)
        return refuse(why, "bytes of what is no file");
    if (start >= end || end > record->size)
        return refuse(why, "a range that is none, or not within the size");
    if (!record->local || !*record->local)
        return refuse(why, "bytes that stand nowhere");
    if (account->dirty.count && strcmp(account->local, record->local) != 0)
        return refuse(why, "bytes in another local file than the others");
    if (record->bytes && record->size > RECORD_RIDE_MAX)
        return refuse(why, "contents of a large file");
    if (account->dirty.count == EXTENTS_MAX &&
        !extents_touch(&account->dirty, start ? start - 1 : 0, end + 1))
        return -E2BIG;
    return admit_change(account, record, why);
}

static int admit_dirty(const struct account *account, const struct record *record, struct buf *why)
{
    const struct extents *dirty = record->dirty;
    if (!dirty || dirty->count == 0)
        return 0;
    if (account->kind != S_IFREG || !record->local || !*record->local)
        return refuse(why, "dirty ranges without a local file");
    if (dirty->all[dirty->count - 1].end > record->size)
        return refuse(why, "dirty ranges behind the end");
    return 0;
}

static int admit_remote(const struct account *account, const struct record *record, struct buf *why)
{
    if (record->content_version < account->content_version)
        return refuse(why, "contents of an older version");
    if (record->remote_content_version > record->content_version ||
        record->remote_attribute_version > account->attribute_version)
        return refuse(why, "an object of a version that never was");
    int rc = admit_content(account, record, why);
    return rc < 0 ? rc : admit_dirty(account, record, why);
}

static int admit_exclusive(const struct account *account, const struct record *record, struct buf *why)
{
    (void)record;
    if (account->kind == S_IFDIR || !account->name || account->remote_content_version)
        return refuse(why, "an exclusive one that is no new file");
    return 0;
}

static int admit_upload(const struct account *account, const struct record *record, struct buf *why)
{
    const struct part_plan *plan = &record->plan;
    if (account->upload)
        return refuse(why, "an upload beside another one");
    if (!record->upload_id || !*record->upload_id || !record->key || !*record->key)
        return refuse(why, "an upload without an id or a key");
    if (!fits(record->skyvol_id, ACCOUNT_SKYVOL_MAX))
        return refuse(why, "a skyvol-id that is too long");
    if (plan->bytes == 0 || plan->bytes > plan->bytes_max || plan->bytes_max > PART_BYTES_MAX)
        return refuse(why, "a plan that cuts nothing");
    if (plan->piece_count && (plan->equal || plan->pieces[plan->piece_count - 1].end > OBJECT_BYTES_MAX))
        return refuse(why, "pieces that cannot be");
    return 0;
}

static int admit_part(const struct account *account, const struct record *record, struct buf *why)
{
    if (!account->upload)
        return refuse(why, "a part of no upload");
    if (record->index >= STORE_PARTS_MAX || !fits(record->etag, STORE_ETAG_MAX))
        return refuse(why, "a part that cannot be");
    return 0;
}

static int admit_upload_end(const struct account *account, const struct record *record, struct buf *why)
{
    (void)record;
    return account->upload ? 0 : refuse(why, "the end of no upload");
}

static int admit_trying(const struct account *account, const struct record *record, struct buf *why)
{
    (void)account;
    if (!fits(record->skyvol_id, ACCOUNT_SKYVOL_MAX))
        return refuse(why, "a skyvol-id that is too long");
    if (record->skyvol_id && *record->skyvol_id && (!record->key || !*record->key))
        return refuse(why, "a try without a key");
    return 0;
}

int account_admits(const struct account *account, const struct record *record, struct buf *why)
{
    static int (*const admit[RECORD_TYPE_END])(const struct account *, const struct record *,
                                               struct buf *) = {
        [RECORD_ATTRIBUTES] = admit_attributes, [RECORD_WRITE] = admit_write,
        [RECORD_SIZE] = admit_change,           [RECORD_REMOTE] = admit_remote,
        [RECORD_UPLOAD] = admit_upload,         [RECORD_PART] = admit_part,
        [RECORD_UPLOAD_END] = admit_upload_end, [RECORD_TRYING] = admit_trying,
        [RECORD_RESTATED] = admit_remote,       [RECORD_EXCLUSIVE] = admit_exclusive,
        [RECORD_XATTRS] = admit_xattrs,
    };
    return admit[record->type] ? admit[record->type](account, record, why) : 0;
}

/* ---- Back into records. ---- */

static void dump_attributes(const struct account *account, void (*each)(void *, const struct record *),
                            void *context)
{
    struct record record = {.type = RECORD_ATTRIBUTES,
                            .id = account->id,
                            .attributes = account->attributes,
                            .attribute_version = account->attribute_version,
                            .mtime_explicit = account->mtime_explicit};
    each(context, &record);
}

static void dump_remote(const struct account *account, void (*each)(void *, const struct record *),
                        void *context)
{
    struct record record = {.type = RECORD_REMOTE,
                            .id = account->id,
                            .size = account->attributes.size,
                            .content_version = account->content_version,
                            .base_size = account->base_size,
                            .whole_replacement = account->whole_replacement,
                            .local = account->local,
                            .dirty = &account->dirty,
                            .key = account->key,
                            .identity = account->identity,
                            .meta = &account->meta,
                            .headers = &account->headers,
                            .headers_known = account->headers_known,
                            .remote_content_version = account->remote_content_version,
                            .remote_attribute_version = account->remote_attribute_version};
    each(context, &record);
}

static void dump_xattrs(const struct account *account, void (*each)(void *, const struct record *),
                        void *context)
{
    struct record record = {.type = RECORD_XATTRS,
                            .id = account->id,
                            .xattrs = account->xattrs,
                            .attributes.ctime_ns = account->attributes.ctime_ns,
                            .attribute_version = account->attribute_version};
    each(context, &record);
}

static void dump_trying(const struct account *account, void (*each)(void *, const struct record *),
                        void *context)
{
    const struct account_trying *trying = account->trying;
    struct record record = {.type = RECORD_TRYING,
                            .id = account->id,
                            .skyvol_id = trying->skyvol_id,
                            .key = trying->key,
                            .size = trying->size,
                            .content_version = trying->content_version,
                            .attribute_version = trying->attribute_version};
    each(context, &record);
}

/* Most directories are nothing but a place. */
static bool has_attributes(const struct account *account)
{
    const struct attributes *a = &account->attributes;
    return a->mode || a->number || a->uid || a->gid || a->atime_ns || a->mtime_ns || a->ctime_ns ||
           account->attribute_version || account->mtime_explicit;
}

void account_dump(const struct account *account, void (*each)(void *context, const struct record *record),
                  void *context)
{
    struct record record = {.type = RECORD_NODE,
                            .id = account->id,
                            .parent = account->parent ? account->parent->id : 0,
                            .name = account->name,
                            .kind = account->kind,
                            .target = account->target,
                            .forgotten = account->forgotten};
    each(context, &record);
    if (account->forgotten)
        return;
    if (has_attributes(account))
        dump_attributes(account, each, context);
    if (account->told)
        dump_remote(account, each, context);
    if (account->xattrs)
        dump_xattrs(account, each, context);
    if (account->exclusive)
        each(context, &(struct record){.type = RECORD_EXCLUSIVE, .id = account->id});
    if (account->upload)
        account_upload_dump(account->upload, account->id, each, context);
    if (account->trying)
        dump_trying(account, each, context);
}

size_t account_bytes(const struct account *account)
{
    size_t bytes = RECORD_BYTES * 2;
    bytes += account->name ? strlen(account->name) : 0;
    bytes += account->target ? strlen(account->target) : 0;
    if (account->forgotten)
        return bytes;
    bytes += RECORD_BYTES * 4 + account->meta_bytes + account->dirty.count * sizeof(struct extent);
    bytes += account->exclusive ? RECORD_BYTES : 0;
    bytes += account->xattrs ? RECORD_BYTES + strlen(account->xattrs) : 0;
    bytes += account->key ? strlen(account->key) : 0;
    bytes += account->upload ? RECORD_BYTES * 4 + account->upload->part_count * 2 * RECORD_BYTES : 0;
    return bytes + (account->trying ? RECORD_BYTES * 2 : 0);
}

/* ---- Questions. ---- */

bool account_path(const struct account *account, struct buf *out)
{
    if (!account->name)
        return false;
    for (const struct account *at = account; at; at = at->parent)
        for (size_t i = at == account ? 1 : 0; i <= strlen(at->name); i++)
            buf_add_char(out, '/');
    size_t end = out->length;
    for (const struct account *at = account; at; at = at->parent) {
        size_t length = strlen(at->name);
        memcpy(out->bytes + end - length, at->name, length);
        end -= length + 1;
    }
    return true;
}

/* True when the object stands under the key that is wanted. */
static bool key_is_wanted(const struct account *account, const char *prefix)
{
    BUF_SCOPED key = BUF_INIT;
    buf_add_string(&key, prefix);
    if (!account_path(account, &key))
        return false;
    if (account->kind == S_IFDIR)
        buf_add_char(&key, '/');
    return strcmp(key.bytes, account->key) == 0;
}

bool account_unsent(const struct account *account, const char *prefix)
{
    if (!account->told)
        return false;
    if (account->upload || account->trying)
        return true;
    bool differs = account->content_version != account->remote_content_version ||
                   account->attribute_version != account->remote_attribute_version;
    if (account->name && differs)
        return true;
    return account->key && (prefix ? !key_is_wanted(account, prefix) : !account->name);
}

void account_check(const struct account *account)
{
    const struct extents *dirty = &account->dirty;
    uint64_t size = account->attributes.size;
    assert(account_kind_known(account->kind));
    assert(account->name || !account->parent);
    assert(!account->forgotten || (account->kind == S_IFDIR && account->name && account->children));
    assert(!account->children || (account->kind == S_IFDIR && account->name));
    assert(!account->target || account_target_fits(account->kind, account->target));
    assert(!account->attributes.mode || (account->attributes.mode & S_IFMT) == account->kind);
    assert(account->content_version >= account->remote_content_version);
    assert(account->attribute_version >= account->remote_attribute_version);
    assert(!account->xattrs || account->attribute_version > account->remote_attribute_version);
    assert(!account->whole_replacement || account->base_size == 0);
    assert(account->kind != S_IFREG || account->base_size <= size);
    assert(dirty->count == 0 || (account->name && account->local[0] && account->kind == S_IFREG));
    assert(dirty->count == 0 || dirty->all[dirty->count - 1].end <= size);
    assert(account->name || !account->local[0]);
    if (account->upload)
        for (size_t i = 0; i < account->upload->part_count; i++)
            assert((account->upload->parts[i].size > 0) == (account->upload->parts[i].etag != NULL));
}
