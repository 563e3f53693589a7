#include "cache/record.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc.h"

/* ---- What each payload holds. ---- */

enum form {
    FORM_END,
    FORM_BOOL,
    FORM_U32,
    FORM_U64,
    FORM_TEXT,
    FORM_ETAG,
    FORM_FIELDS,
    FORM_EXTENTS,
    FORM_PIECES,
    FORM_CONTENT
};

struct field {
    enum form form;
    size_t offset;
};

#define FIELD(form, member)                                                                                  \
    {                                                                                                        \
        FORM_##form, offsetof(struct record, member)                                                         \
    }
#define FIELDS_MAX 24

#define PLACE FIELD(U64, id), FIELD(U64, parent), FIELD(TEXT, name), FIELD(U32, kind), FIELD(TEXT, target)
#define ATTRIBUTES                                                                                           \
    FIELD(U64, attributes.number), FIELD(U32, attributes.mode), FIELD(U32, attributes.uid),                  \
        FIELD(U32, attributes.gid), FIELD(U64, attributes.atime_ns), FIELD(U64, attributes.mtime_ns),        \
        FIELD(U64, attributes.ctime_ns), FIELD(U64, attribute_version)
#define CONTENT                                                                                              \
    FIELD(U64, size), FIELD(U64, content_version), FIELD(U64, base_size), FIELD(BOOL, whole_replacement)
#define IDENTITY FIELD(ETAG, identity.etag), FIELD(U64, identity.modified_ns), FIELD(U64, identity.size)
#define REMOTE                                                                                               \
    FIELD(U64, id), CONTENT, FIELD(TEXT, local), FIELD(EXTENTS, dirty), FIELD(TEXT, key), IDENTITY,          \
        FIELD(FIELDS, meta), FIELD(FIELDS, headers), FIELD(BOOL, headers_known),                             \
        FIELD(U64, remote_content_version), FIELD(U64, remote_attribute_version)

#define BIRTH PLACE, ATTRIBUTES, FIELD(U64, size), FIELD(U64, content_version)

static const struct field layouts[RECORD_TYPE_END][FIELDS_MAX] = {
    [RECORD_HEADING] = {FIELD(U32, format), FIELD(U32, salt), FIELD(U64, next_id), FIELD(TEXT, source)},
    [RECORD_BOOT] = {FIELD(TEXT, boot), FIELD(U64, kept)},
    [RECORD_MARK] = {FIELD(U64, flushed), FIELD(U64, backed), FIELD(U64, settled)},
    [RECORD_NODE] = {PLACE, FIELD(U64, replaced), FIELD(BOOL, forgotten)},
    [RECORD_BIRTH] = {BIRTH},
    [RECORD_ATTRIBUTES] = {FIELD(U64, id), ATTRIBUTES, FIELD(BOOL, mtime_explicit)},
    [RECORD_WRITE] = {FIELD(U64, id), FIELD(U64, start), FIELD(U64, end), CONTENT, FIELD(U64, mtime_ns),
                      FIELD(TEXT, local), FIELD(CONTENT, bytes)},
    [RECORD_SIZE] = {FIELD(U64, id), CONTENT, FIELD(U64, mtime_ns)},
    [RECORD_REMOTE] = {REMOTE},
    [RECORD_UPLOAD] = {FIELD(U64, id), FIELD(TEXT, upload_id), FIELD(TEXT, key), FIELD(TEXT, skyvol_id),
                       FIELD(U64, plan.bytes), FIELD(U64, plan.bytes_max), FIELD(BOOL, plan.equal),
                       FIELD(PIECES, plan.pieces), FIELD(BOOL, copying), FIELD(U64, attribute_version),
                       FIELD(BOOL, mtime_explicit), FIELD(U64, mtime_ns), IDENTITY},
    [RECORD_PART] = {FIELD(U64, id), FIELD(U64, index), FIELD(U64, size), FIELD(TEXT, etag),
                     FIELD(TEXT, checksum), FIELD(U64, content_version)},
    [RECORD_UPLOAD_END] = {FIELD(U64, id)},
    [RECORD_TRYING] = {FIELD(U64, id), FIELD(TEXT, skyvol_id), FIELD(TEXT, key), FIELD(U64, size),
                       FIELD(U64, content_version), FIELD(U64, attribute_version)},
    [RECORD_FORGET] = {FIELD(U64, id)},
    [RECORD_RESTATED] = {REMOTE},
    [RECORD_EXCLUSIVE] = {FIELD(U64, id)},
    [RECORD_XATTRS] = {FIELD(U64, id), FIELD(TEXT, xattrs), FIELD(U64, attributes.ctime_ns),
                       FIELD(U64, attribute_version)},
    [RECORD_BIRTH_EXCLUSIVE] = {BIRTH},
};

static const char *const type_names[RECORD_TYPE_END] = {
    [RECORD_HEADING] = "HEADING",   [RECORD_BOOT] = "BOOT",
    [RECORD_MARK] = "MARK",         [RECORD_NODE] = "NODE",
    [RECORD_BIRTH] = "BIRTH",       [RECORD_ATTRIBUTES] = "ATTRIBUTES",
    [RECORD_WRITE] = "WRITE",       [RECORD_SIZE] = "SIZE",
    [RECORD_REMOTE] = "REMOTE",     [RECORD_UPLOAD] = "UPLOAD",
    [RECORD_PART] = "PART",         [RECORD_UPLOAD_END] = "UPLOAD_END",
    [RECORD_TRYING] = "TRYING",     [RECORD_FORGET] = "FORGET",
    [RECORD_RESTATED] = "RESTATED", [RECORD_EXCLUSIVE] = "EXCLUSIVE",
    [RECORD_XATTRS] = "XATTRS",     [RECORD_BIRTH_EXCLUSIVE] = "BIRTH_EXCLUSIVE",
};

const char *record_type_name(enum record_type type)
{
    return type > 0 && type < RECORD_TYPE_END ? type_names[type] : "unknown";
}

bool record_is_birth(const struct record *record)
{
    return record->type == RECORD_BIRTH || record->type == RECORD_BIRTH_EXCLUSIVE;
}

static size_t padded(size_t length)
{
    return (RECORD_HEAD + length + 7) / 8 * 8;
}

/* The CRC of a whole record, which stands at bytes 4 to 8 of it. */
static uint32_t sum_record(uint32_t salt, const char *bytes, size_t size)
{
    return crc32c(crc32c(salt, bytes, 4), bytes + 8, size - 8);
}

/* ---- Writing. ---- */

static void put_u32(struct buf *out, uint32_t value)
{
    value = htole32(value);
    buf_add(out, &value, sizeof value);
}

static void put_u64(struct buf *out, uint64_t value)
{
    value = htole64(value);
    buf_add(out, &value, sizeof value);
}

static void put_text(struct buf *out, const char *text)
{
    buf_add(out, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void put_fields(struct buf *out, const struct store_fields *fields)
{
    size_t count = fields ? fields->count : 0;
    put_u32(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        put_text(out, fields->all[i].name);
        put_text(out, fields->all[i].value);
    }
}

static void put_extents(struct buf *out, const struct extents *extents)
{
    size_t count = extents ? extents->count : 0;
    put_u32(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        put_u64(out, extents->all[i].start);
        put_u64(out, extents->all[i].end);
    }
}

/* The end of each, and in its lowest bit whether it is copied. */
static void put_pieces(struct buf *out, const struct part_plan *plan)
{
    put_u32(out, (uint32_t)plan->piece_count);
    for (size_t i = 0; i < plan->piece_count; i++)
        put_u64(out, plan->pieces[i].end << 1 | plan->pieces[i].copied);
}

static void put_content(struct buf *out, const struct record *record)
{
    size_t length = record->bytes ? record->end - record->start : 0;
    put_u32(out, (uint32_t)length);
    buf_add(out, record->bytes, length);
}

static void put_field(struct buf *out, const struct record *record, const struct field *field)
{
    const char *at = (const char *)record + field->offset;
    switch (field->form) {
    case FORM_BOOL:
        buf_add_char(out, *(const bool *)at);
        break;
    case FORM_U32:
        put_u32(out, *(const uint32_t *)(const void *)at);
        break;
    case FORM_U64:
        put_u64(out, *(const uint64_t *)(const void *)at);
        break;
    case FORM_TEXT:
        put_text(out, *(const char *const *)(const void *)at);
        break;
    case FORM_ETAG:
        put_text(out, at);
        break;
    case FORM_FIELDS:
        put_fields(out, *(const struct store_fields *const *)(const void *)at);
        break;
    case FORM_EXTENTS:
        put_extents(out, *(const struct extents *const *)(const void *)at);
        break;
    case FORM_PIECES:
        put_pieces(out, &record->plan);
        break;
    default:
        put_content(out, record);
    }
}

static void fill_head(char *bytes, size_t length, uint32_t salt, uint64_t sequence, enum record_type type)
{
    uint32_t words[2] = {htole32((uint32_t)length), 0}, kind = htole32(type), crc;
    uint64_t order = htole64(sequence);
    memcpy(bytes, words, 8);
    memcpy(bytes + 8, &order, 8);
    memcpy(bytes + 16, &kind, 4);
    crc = htole32(sum_record(type == RECORD_HEADING ? 0 : salt, bytes, padded(length)));
    memcpy(bytes + 4, &crc, 4);
}

int record_write(const struct record *record, uint32_t salt, uint64_t sequence, struct buf *out)
{
    static const char zeros[RECORD_HEAD];
    size_t start = out->length;
    assert(record->type > 0 && record->type < RECORD_TYPE_END);
    if (record->bytes && (record->end <= record->start || record->end - record->start > RECORD_RIDE_MAX))
        return -EMSGSIZE;
    buf_add(out, zeros, RECORD_HEAD);
    for (const struct field *field = layouts[record->type]; field->form; field++)
        put_field(out, record, field);
    size_t length = out->length - start - RECORD_HEAD;
    if (length > RECORD_BYTES_MAX) {
        out->length = start;
        return -EMSGSIZE;
    }
    buf_add(out, zeros, padded(length) - RECORD_HEAD - length);
    fill_head(out->bytes + start, length, salt, sequence, record->type);
    return 0;
}

/* ---- Reading. ---- */

static uint32_t load_u32(const char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return le32toh(value);
}

static uint64_t load_u64(const char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

/* What is left of a payload. Whoever takes more than there is gets zeros, and the whole is refused. */
struct rest {
    const char *at, *end;
    bool bad;
};

static const char *take(struct rest *rest, size_t length)
{
    static const char zeros[8];
    const char *at = rest->at;
    if (rest->bad || (size_t)(rest->end - at) < length) {
        rest->bad = true;
        return zeros;
    }
    rest->at += length;
    return at;
}

static uint32_t take_u32(struct rest *rest)
{
    return load_u32(take(rest, 4));
}

static uint64_t take_u64(struct rest *rest)
{
    return load_u64(take(rest, 8));
}

static bool take_bool(struct rest *rest)
{
    unsigned char value = (unsigned char)*take(rest, 1);
    rest->bad = rest->bad || value > 1;
    return value == 1;
}

static const char *take_text(struct rest *rest)
{
    const char *text = rest->at;
    const char *nul = rest->bad ? NULL : memchr(text, 0, (size_t)(rest->end - text));
    if (!nul) {
        rest->bad = true;
        return "";
    }
    rest->at = nul + 1;
    return text;
}

static void take_etag(struct rest *rest, char to[STORE_ETAG_MAX])
{
    const char *text = take_text(rest);
    size_t length = strlen(text);
    if (length >= STORE_ETAG_MAX)
        rest->bad = true;
    else
        memcpy(to, text, length + 1);
}

/* `least` bytes at least for each. */
static size_t take_count(struct rest *rest, size_t least)
{
    size_t count = take_u32(rest);
    if (count > (size_t)(rest->end - rest->at) / least)
        rest->bad = true;
    return rest->bad ? 0 : count;
}

static const struct store_fields *take_fields(struct rest *rest, struct store_fields *fields, size_t *room)
{
    fields->count = take_count(rest, 2);
    if (fields->count > *room) {
        *room = fields->count;
        fields->all = xrealloc(fields->all, *room * sizeof fields->all[0]);
    }
    for (size_t i = 0; i < fields->count; i++) {
        fields->all[i].name = (char *)(uintptr_t)take_text(rest); /* read only, as all of a record */
        fields->all[i].value = (char *)(uintptr_t)take_text(rest);
    }
    return fields;
}

static const struct extents *take_extents(struct rest *rest, struct extents *extents)
{
    size_t count = take_count(rest, 16);
    extents->count = count;
    rest->bad = rest->bad || count > EXTENTS_MAX;
    if (rest->bad)
        return extents;
    if (count > extents->room) {
        extents->room = count;
        extents->all = xrealloc(extents->all, count * sizeof extents->all[0]);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t start = take_u64(rest), end = take_u64(rest);
        extents->all[i] = (struct extent){start, end};
        rest->bad = rest->bad || start >= end || (i > 0 && extents->all[i - 1].end >= start);
    }
    return extents;
}

static void take_pieces(struct rest *rest, struct record_reader *reader, struct part_plan *plan)
{
    size_t count = take_count(rest, 8);
    uint64_t end = 0;
    rest->bad = rest->bad || count > STORE_PARTS_MAX;
    if (rest->bad || count == 0)
        return;
    if (count > reader->pieces_room) {
        reader->pieces_room = count;
        reader->pieces = xrealloc(reader->pieces, count * sizeof reader->pieces[0]);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t value = take_u64(rest);
        reader->pieces[i] = (struct part_piece){value >> 1, value & 1};
        rest->bad = rest->bad || value >> 1 <= end;
        end = value >> 1;
    }
    plan->pieces = reader->pieces;
    plan->piece_count = count;
}

static const void *take_content(struct rest *rest, const struct record *record)
{
    size_t length = take_count(rest, 1);
    const char *bytes = take(rest, length);
    if (length == 0)
        return NULL;
    if (record->end <= record->start || length != record->end - record->start || length > RECORD_RIDE_MAX)
        rest->bad = true;
    return bytes;
}

static void take_field(struct rest *rest, struct record_reader *reader, struct record *record,
                       const struct field *field)
{
    void *at = (char *)record + field->offset;
    switch (field->form) {
    case FORM_BOOL:
        *(bool *)at = take_bool(rest);
        break;
    case FORM_U32:
        *(uint32_t *)at = take_u32(rest);
        break;
    case FORM_U64:
        *(uint64_t *)at = take_u64(rest);
        break;
    case FORM_TEXT:
        *(const char **)at = take_text(rest);
        break;
    case FORM_ETAG:
        take_etag(rest, at);
        break;
    case FORM_FIELDS:
        *(const struct store_fields **)at = field->offset == offsetof(struct record, meta)
                                                ? take_fields(rest, &reader->meta, &reader->meta_room)
                                                : take_fields(rest, &reader->headers, &reader->headers_room);
        break;
    case FORM_EXTENTS:
        *(const struct extents **)at = take_extents(rest, &reader->dirty);
        break;
    case FORM_PIECES:
        take_pieces(rest, reader, &record->plan);
        break;
    default:
        *(const void **)at = take_content(rest, record);
    }
}

static bool decode(struct record_reader *reader, const char *payload, size_t length, struct record *record)
{
    struct rest rest = {payload, payload + length, false};
    for (const struct field *field = layouts[record->type]; field->form; field++) {
        take_field(&rest, reader, record, field);
        if (record->type == RECORD_HEADING && record->format > RECORD_FORMAT)
            return false; /* whatever follows the format there */
    }
    return !rest.bad && rest.at == rest.end;
}

ssize_t record_read(struct record_reader *reader, const void *bytes, size_t length, struct record *ret_record)
{
    const char *head = bytes;
    if (length < RECORD_HEAD)
        return -ENODATA;
    size_t payload = load_u32(head), size = padded(payload);
    uint64_t sequence = load_u64(head + 8);
    uint32_t type = load_u32(head + 16);
    if (payload > RECORD_BYTES_MAX || sequence != reader->sequence + 1)
        return -EBADMSG;
    if (size > length)
        return -ENODATA;
    if (load_u32(head + 4) != sum_record(reader->salt, head, size) ||
        (sequence == 1) != (type == RECORD_HEADING))
        return -EBADMSG;
    *ret_record = (struct record){.type = type, .sequence = sequence};
    if (type == 0 || type >= RECORD_TYPE_END || !decode(reader, head + RECORD_HEAD, payload, ret_record))
        return -EPROTO;
    reader->sequence = sequence;
    if (type == RECORD_HEADING)
        reader->salt = ret_record->salt;
    return (ssize_t)size;
}

bool record_marks(const void *bytes, size_t length, uint32_t salt, uint64_t sequence)
{
    const char *head = bytes;
    return length >= RECORD_MARK_SIZE && load_u32(head) == 24 && load_u32(head + 16) == RECORD_MARK &&
           load_u64(head + RECORD_HEAD) >= sequence &&
           load_u32(head + 4) == sum_record(salt, head, RECORD_MARK_SIZE);
}

void record_reader_release(struct record_reader *reader)
{
    free(reader->meta.all); /* the texts are not ours */
    free(reader->headers.all);
    extents_release(&reader->dirty);
    free(reader->pieces);
    *reader = (struct record_reader){0};
}
