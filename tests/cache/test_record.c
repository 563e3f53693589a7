#include "cache/record.h"

#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/crc.h"
#include "base/digest.h"

#define SALT 0x5eedu

/* ---- Random records, and memory for what they point at. ---- */

struct filled {
    struct record record;
    char texts[16][64];
    size_t text_count;
    struct store_fields meta, headers;
    struct extents dirty;
    struct part_piece pieces[8];
    char content[256];
};

static uint64_t random_u64(void)
{
    return (uint64_t)random() << 33 ^ (uint64_t)random() << 11 ^ (uint64_t)random();
}

static const char *random_text(struct filled *filled)
{
    char *text = filled->texts[filled->text_count++];
    size_t length = (size_t)random() % 60;
    for (size_t i = 0; i < length; i++)
        text[i] = (char)(1 + random() % 255);
    text[length] = 0;
    return text;
}

static void random_fields(struct store_fields *fields)
{
    for (long i = random() % 5; i > 0; i--) {
        char name[16], value[32];
        snprintf(name, sizeof name, "n%ld", random() % 1000);
        snprintf(value, sizeof value, "%ld", random());
        store_fields_add(fields, name, random() % 4 ? value : "");
    }
}

static void random_dirty(struct extents *dirty)
{
    uint64_t at = 0;
    for (long i = random() % 6; i > 0; i--) {
        uint64_t start = at + 1 + random_u64() % 100000, end = start + 1 + random_u64() % 100000;
        cr_assert_eq(extents_add(dirty, start, end), 0);
        at = end;
    }
}

static void fill_place(struct filled *filled)
{
    struct record *record = &filled->record;
    record->parent = random_u64();
    record->name = random_text(filled);
    record->kind = (uint32_t)random();
    record->target = random_text(filled);
}

static void fill_attributes(struct filled *filled)
{
    struct record *record = &filled->record;
    record->attributes = (struct attributes){.number = random_u64(),
                                             .mode = (uint32_t)random(),
                                             .uid = (uint32_t)random(),
                                             .gid = (uint32_t)random(),
                                             .atime_ns = (int64_t)random_u64(),
                                             .mtime_ns = (int64_t)random_u64(),
                                             .ctime_ns = -(int64_t)random_u64()};
    record->attribute_version = random_u64();
}

static void fill_content(struct filled *filled)
{
    struct record *record = &filled->record;
    record->size = random_u64();
    record->content_version = random_u64();
    record->base_size = random_u64();
    record->whole_replacement = random() & 1;
}

static void fill_identity(struct filled *filled)
{
    struct identity *identity = &filled->record.identity;
    snprintf(identity->etag, sizeof identity->etag, "\"%ld\"", random());
    identity->modified_ns = (int64_t)random_u64();
    identity->size = random_u64();
}

static void fill_write(struct filled *filled)
{
    struct record *record = &filled->record;
    fill_content(filled);
    record->start = random_u64() >> 8;
    record->end = record->start + 1 + (uint64_t)random() % sizeof filled->content;
    record->mtime_ns = (int64_t)random_u64();
    record->local = random_text(filled);
    for (size_t i = 0; i < sizeof filled->content; i++)
        filled->content[i] = (char)random();
    record->bytes = random() & 1 ? filled->content : NULL;
}

static void fill_remote(struct filled *filled)
{
    struct record *record = &filled->record;
    fill_content(filled);
    fill_identity(filled);
    random_fields(&filled->meta);
    random_fields(&filled->headers);
    random_dirty(&filled->dirty);
    record->local = random_text(filled);
    record->key = random_text(filled);
    record->meta = &filled->meta;
    record->headers = &filled->headers;
    record->dirty = &filled->dirty;
    record->headers_known = random() & 1;
    record->remote_content_version = random_u64();
    record->remote_attribute_version = random_u64();
}

static void fill_upload(struct filled *filled)
{
    struct record *record = &filled->record;
    fill_identity(filled);
    record->upload_id = random_text(filled);
    record->key = random_text(filled);
    record->skyvol_id = random_text(filled);
    record->plan =
        (struct part_plan){.bytes = random_u64(), .bytes_max = random_u64(), .equal = random() & 1};
    record->plan.piece_count = (size_t)random() % 8;
    record->plan.pieces = record->plan.piece_count ? filled->pieces : NULL;
    for (size_t i = 0; i < record->plan.piece_count; i++)
        filled->pieces[i] =
            (struct part_piece){(i ? filled->pieces[i - 1].end : 0) + 1 + (random_u64() >> 8), random() & 1};
    record->copying = random() & 1;
    record->attribute_version = random_u64();
    record->mtime_explicit = random() & 1;
    record->mtime_ns = (int64_t)random_u64();
}

static void fill_rest(struct filled *filled)
{
    struct record *record = &filled->record;
    switch (record->type) {
    case RECORD_HEADING:
        *record = (struct record){.type = RECORD_HEADING, .format = RECORD_FORMAT, .salt = SALT};
        record->next_id = random_u64();
        record->source = random_text(filled);
        break;
    case RECORD_BOOT:
        *record = (struct record){.type = RECORD_BOOT, .boot = random_text(filled), .kept = random_u64()};
        break;
    case RECORD_MARK:
        *record = (struct record){
            .type = RECORD_MARK, .flushed = random_u64(), .backed = random_u64(), .settled = random_u64()};
        break;
    case RECORD_XATTRS:
        record->xattrs = random_text(filled);
        record->attributes.ctime_ns = (int64_t)random_u64();
        record->attribute_version = random_u64();
        break;
    case RECORD_PART:
        record->index = random_u64();
        record->size = random_u64();
        record->etag = random_text(filled);
        record->checksum = random_text(filled);
        record->content_version = random_u64();
        break;
    case RECORD_TRYING:
        record->skyvol_id = random_text(filled);
        record->key = random_text(filled);
        record->size = random_u64();
        record->content_version = random_u64();
        record->attribute_version = random_u64();
        break;
    default:
        break;
    }
}

static void fill(struct filled *filled, enum record_type type)
{
    memset(filled, 0, sizeof *filled);
    struct record *record = &filled->record;
    record->type = type;
    record->id = random_u64();
    if (type == RECORD_NODE || record_is_birth(record))
        fill_place(filled);
    if (record_is_birth(record) || type == RECORD_ATTRIBUTES)
        fill_attributes(filled);
    if (type == RECORD_NODE) {
        record->replaced = random_u64();
        record->forgotten = random() & 1;
    }
    if (record_is_birth(record)) {
        record->size = random_u64();
        record->content_version = random_u64();
    }
    if (type == RECORD_ATTRIBUTES)
        record->mtime_explicit = random() & 1;
    if (type == RECORD_WRITE)
        fill_write(filled);
    if (type == RECORD_SIZE) {
        fill_content(filled);
        record->mtime_ns = (int64_t)random_u64();
    }
    if (type == RECORD_REMOTE || type == RECORD_RESTATED)
        fill_remote(filled);
    if (type == RECORD_UPLOAD)
        fill_upload(filled);
    fill_rest(filled);
}

static void drop(struct filled *filled)
{
    store_fields_release(&filled->meta);
    store_fields_release(&filled->headers);
    extents_release(&filled->dirty);
}

/* ---- Comparing. ---- */

static void same_text(const char *a, const char *b)
{
    cr_assert_str_eq(a ? a : "", b ? b : "");
}

static void same_fields(const struct store_fields *a, const struct store_fields *b)
{
    size_t count = a ? a->count : 0;
    cr_assert_eq(count, b ? b->count : 0);
    for (size_t i = 0; i < count; i++) {
        same_text(a->all[i].name, b->all[i].name);
        same_text(a->all[i].value, b->all[i].value);
    }
}

static void same_dirty(const struct extents *a, const struct extents *b)
{
    size_t count = a ? a->count : 0;
    cr_assert_eq(count, b ? b->count : 0);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(a->all[i].start, b->all[i].start);
        cr_assert_eq(a->all[i].end, b->all[i].end);
    }
}

static void same_attributes(const struct attributes *a, const struct attributes *b)
{
    cr_assert_eq(a->number, b->number);
    cr_assert_eq(a->mode, b->mode);
    cr_assert_eq(a->uid, b->uid);
    cr_assert_eq(a->gid, b->gid);
    cr_assert_eq(a->atime_ns, b->atime_ns);
    cr_assert_eq(a->mtime_ns, b->mtime_ns);
    cr_assert_eq(a->ctime_ns, b->ctime_ns);
}

/* Every field of the struct, whatever the type. */
static void same_record(const struct record *a, const struct record *b)
{
    cr_assert_eq(a->type, b->type);
#define SAME(field) cr_assert_eq(a->field, b->field, "%s: " #field, record_type_name(a->type))
    SAME(id);
    SAME(format);
    SAME(salt);
    SAME(next_id);
    SAME(kept);
    SAME(flushed);
    SAME(backed);
    SAME(settled);
    SAME(parent);
    SAME(kind);
    SAME(replaced);
    SAME(forgotten);
    SAME(attribute_version);
    SAME(mtime_explicit);
    SAME(start);
    SAME(end);
    SAME(size);
    SAME(mtime_ns);
    SAME(content_version);
    SAME(base_size);
    SAME(whole_replacement);
    SAME(headers_known);
    SAME(remote_content_version);
    SAME(remote_attribute_version);
    SAME(copying);
    SAME(plan.bytes);
    SAME(plan.bytes_max);
    SAME(plan.equal);
    SAME(plan.piece_count);
    for (size_t i = 0; i < a->plan.piece_count; i++) {
        SAME(plan.pieces[i].end);
        SAME(plan.pieces[i].copied);
    }
    SAME(index);
    SAME(identity.modified_ns);
    SAME(identity.size);
#undef SAME
    same_text(a->identity.etag, b->identity.etag);
    same_text(a->source, b->source);
    same_text(a->boot, b->boot);
    same_text(a->name, b->name);
    same_text(a->target, b->target);
    same_text(a->local, b->local);
    same_text(a->key, b->key);
    same_text(a->upload_id, b->upload_id);
    same_text(a->skyvol_id, b->skyvol_id);
    same_text(a->etag, b->etag);
    same_text(a->checksum, b->checksum);
    same_text(a->xattrs, b->xattrs);
    same_attributes(&a->attributes, &b->attributes);
    same_fields(a->meta, b->meta);
    same_fields(a->headers, b->headers);
    same_dirty(a->dirty, b->dirty);
    cr_assert_eq(a->bytes == NULL, b->bytes == NULL);
    if (a->bytes)
        cr_assert_eq(memcmp(a->bytes, b->bytes, a->end - a->start), 0);
}

static unsigned seed_and_say(void)
{
    unsigned seed = (unsigned)time(NULL);
    const char *given = getenv("SKYVOL_SEED");
    seed = given ? (unsigned)strtoul(given, NULL, 10) : seed;
    fprintf(stderr, "SKYVOL_SEED=%u\n", seed);
    srandom(seed);
    return seed;
}

/* A reader that expects the record after `sequence` of the salted file. */
static struct record_reader reader_at(enum record_type type)
{
    return (struct record_reader){.salt = type == RECORD_HEADING ? 0 : SALT,
                                  .sequence = type == RECORD_HEADING ? 0 : 6};
}

static uint64_t sequence_of(enum record_type type)
{
    return type == RECORD_HEADING ? 1 : 7;
}

Test(record, every_type_comes_back_with_all_its_fields)
{
    seed_and_say();
    for (int round = 0; round < 300; round++) {
        for (enum record_type type = 1; type < RECORD_TYPE_END; type++) {
            struct filled filled;
            struct record record;
            BUF_SCOPED bytes = BUF_INIT;
            struct record_reader reader = reader_at(type);
            fill(&filled, type);
            cr_assert_eq(record_write(&filled.record, SALT, sequence_of(type), &bytes), 0);
            cr_assert_eq(bytes.length % 8, 0);
            cr_assert_eq(record_read(&reader, bytes.bytes, bytes.length, &record), (ssize_t)bytes.length,
                         "%s", record_type_name(type));
            cr_assert_eq(record.sequence, sequence_of(type));
            cr_assert_eq(reader.salt, SALT);
            same_record(&filled.record, &record);
            record_reader_release(&reader);
            drop(&filled);
        }
    }
}

Test(record, no_bit_of_one_may_flip)
{
    seed_and_say();
    for (enum record_type type = 1; type < RECORD_TYPE_END; type++) {
        struct filled filled;
        struct record record;
        BUF_SCOPED bytes = BUF_INIT;
        fill(&filled, type);
        cr_assert_eq(record_write(&filled.record, SALT, sequence_of(type), &bytes), 0);
        for (size_t bit = 0; bit < bytes.length * 8; bit++) {
            struct record_reader reader = reader_at(type);
            bytes.bytes[bit / 8] ^= (char)(1 << bit % 8);
            cr_assert_lt(record_read(&reader, bytes.bytes, bytes.length, &record), 0, "%s, bit %zu",
                         record_type_name(type), bit);
            cr_assert_not(record_marks(bytes.bytes, bytes.length, SALT, 0));
            bytes.bytes[bit / 8] ^= (char)(1 << bit % 8);
            record_reader_release(&reader);
        }
        drop(&filled);
    }
}

Test(record, a_beginning_of_one_is_none)
{
    struct filled filled;
    struct record record;
    BUF_SCOPED bytes = BUF_INIT;
    fill(&filled, RECORD_REMOTE);
    cr_assert_eq(record_write(&filled.record, SALT, 7, &bytes), 0);
    for (size_t length = 0; length < bytes.length; length++) {
        struct record_reader reader = reader_at(RECORD_REMOTE);
        char *exact = xmalloc(length); /* so that a sanitizer sees a look behind it */
        memcpy(exact, bytes.bytes, length);
        cr_assert_eq(record_read(&reader, exact, length, &record), -ENODATA);
        cr_assert_eq(reader.sequence, 6);
        free(exact);
        record_reader_release(&reader);
    }
    drop(&filled);
}

Test(record, one_of_another_place_or_another_file_is_none)
{
    struct record mark = {.type = RECORD_MARK, .flushed = 5}, record;
    BUF_SCOPED bytes = BUF_INIT;
    cr_assert_eq(record_write(&mark, SALT, 7, &bytes), 0);
    struct record_reader early = {.salt = SALT, .sequence = 5}, late = {.salt = SALT, .sequence = 7},
                         foreign = {.salt = SALT + 1, .sequence = 6};
    cr_assert_eq(record_read(&early, bytes.bytes, bytes.length, &record), -EBADMSG);
    cr_assert_eq(record_read(&late, bytes.bytes, bytes.length, &record), -EBADMSG);
    cr_assert_eq(record_read(&foreign, bytes.bytes, bytes.length, &record), -EBADMSG);
}

Test(record, only_a_mark_of_this_file_that_knows_the_record_proves_it)
{
    struct record mark = {.type = RECORD_MARK, .flushed = 5, .backed = 9, .settled = 2};
    struct record size = {.type = RECORD_SIZE, .id = 5};
    BUF_SCOPED bytes = BUF_INIT, other = BUF_INIT;
    cr_assert_eq(record_write(&mark, SALT, 7, &bytes), 0);
    cr_assert_eq(record_write(&size, SALT, 7, &other), 0);
    cr_assert_eq(bytes.length, RECORD_MARK_SIZE);
    cr_assert(record_marks(bytes.bytes, bytes.length, SALT, 5));
    cr_assert(record_marks(bytes.bytes, bytes.length, SALT, 1));
    cr_assert_not(record_marks(bytes.bytes, bytes.length, SALT, 6));
    cr_assert_not(record_marks(bytes.bytes, bytes.length, SALT + 1, 5));
    cr_assert_not(record_marks(bytes.bytes, bytes.length - 1, SALT, 5));
    cr_assert_not(record_marks(other.bytes, other.length, SALT, 5));
}

/* Puts a right CRC on what stands there. */
static void sum(struct buf *bytes, uint32_t salt)
{
    uint32_t crc = crc32c(crc32c(salt, bytes->bytes, 4), bytes->bytes + 8, bytes->length - 8);
    crc = htole32(crc);
    memcpy(bytes->bytes + 4, &crc, 4);
}

Test(record, a_newer_format_is_told_whatever_follows_it)
{
    struct record heading = {.type = RECORD_HEADING, .format = RECORD_FORMAT, .source = "s"}, record;
    struct record_reader reader = {0};
    BUF_SCOPED bytes = BUF_INIT;
    cr_assert_eq(record_write(&heading, 0, 1, &bytes), 0);
    uint32_t newer = htole32(RECORD_FORMAT + 1);
    memcpy(bytes.bytes + RECORD_HEAD, &newer, 4);
    memset(bytes.bytes + RECORD_HEAD + 4, 0xff, bytes.length - RECORD_HEAD - 4);
    sum(&bytes, 0);
    cr_assert_eq(record_read(&reader, bytes.bytes, bytes.length, &record), -EPROTO);
    cr_assert_eq(record.format, RECORD_FORMAT + 1);
}

Test(record, a_payload_that_is_not_ours_is_refused_and_reads_no_byte_too_many)
{
    seed_and_say();
    size_t refused = 0;
    for (int round = 0; round < 3000; round++) {
        for (enum record_type type = 1; type <= RECORD_TYPE_END; type++) {
            struct filled filled;
            struct record record;
            BUF_SCOPED bytes = BUF_INIT;
            struct record_reader reader = reader_at(type);
            fill(&filled, type < RECORD_TYPE_END ? type : RECORD_SIZE);
            cr_assert_eq(record_write(&filled.record, SALT, sequence_of(type), &bytes), 0);
            uint32_t kind = htole32(type);
            memcpy(bytes.bytes + 16, &kind, 4);
            for (int i = 0; i < 1 + round % 4; i++)
                bytes.bytes[RECORD_HEAD + (size_t)random() % (bytes.length - RECORD_HEAD)] = (char)random();
            sum(&bytes, reader.salt);
            char *exact = xmalloc(bytes.length);
            memcpy(exact, bytes.bytes, bytes.length);
            ssize_t rc = record_read(&reader, exact, bytes.length, &record);
            cr_assert(rc == -EPROTO || rc == (ssize_t)bytes.length, "%zd", rc);
            cr_assert(type < RECORD_TYPE_END || rc == -EPROTO);
            refused += rc == -EPROTO;
            free(exact);
            record_reader_release(&reader);
            drop(&filled);
        }
    }
    cr_assert_gt(refused, 3000);
}

Test(record, what_is_too_large_is_not_written)
{
    char *huge = xmalloc(RECORD_BYTES_MAX + 1);
    memset(huge, 'x', RECORD_BYTES_MAX);
    huge[RECORD_BYTES_MAX] = 0;
    struct record node = {.type = RECORD_NODE, .id = 1, .name = huge};
    struct record ride = {.type = RECORD_WRITE, .id = 1, .end = RECORD_RIDE_MAX + 1, .bytes = huge};
    BUF_SCOPED bytes = BUF_INIT;
    buf_add_string(&bytes, "before");
    cr_assert_eq(record_write(&node, SALT, 2, &bytes), -EMSGSIZE);
    cr_assert_eq(record_write(&ride, SALT, 2, &bytes), -EMSGSIZE);
    cr_assert_eq(bytes.length, 6);
    free(huge);
}
