#include "cache/facts.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/crc.h"

#define HEAD_BYTES  6 /* CRC, type, flags */
#define TYPE_SHIFT  12
#define HEX_DIGITS  32
#define HEX_BYTES   (HEX_DIGITS / 2)
#define DIGITS_MAX  19 /* of a number that 64 bits hold whatever its digits are */
#define NANO_DIGITS 9

enum flag {
    FLAG_ATTRIBUTES_KNOWN = 1,
    FLAG_EXISTS = 2,
    FLAG_META_KNOWN = 4,
    FLAG_NUMBER = 8,
    FLAG_DIRECTORY = 16,
    FLAG_ETAG_HEX = 32,   /* its 16 bytes; else its length and its text */
    FLAG_ETAG_PARTS = 64, /* and the number behind "-" */
    FLAGS_ALL = 127,
};

/* The head of a field: the form of its value in the upper bits, the code of its name in the others. */
enum form { FORM_TEXT = 0, FORM_NUMBER = 1, FORM_TIME = 2, FORM_HEX = 3 };

#define FORM_SHIFT 6
#define CODE_MASK  63

/* By code; 0 is a name that stands as it is. What is written once keeps its code: add at the end. */
static const char *const names[] = {NULL,    "mode",      "uid",   "gid",  "mtime",
                                    "ctime", "skyvol-id", "xattr", "rdev", "atime"};

#define NAME_COUNT (sizeof names / sizeof *names)

/* ---- Numbers and runs of bytes. ---- */

struct reader {
    const unsigned char *at, *end;
    bool bad;
};

static void put_number(struct buf *out, uint64_t value)
{
    do {
        buf_add_char(out, (char)((value & 127) | (value > 127 ? 128 : 0)));
        value >>= 7;
    } while (value);
}

static uint64_t take_number(struct reader *reader)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
        unsigned char byte = *reader->at++;
        if (shift == 63 && byte > 1)
            break;
        value |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128))
            return value;
    }
    reader->bad = true;
    return 0;
}

static void put_signed(struct buf *out, int64_t value)
{
    put_number(out, (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0));
}

static int64_t take_signed(struct reader *reader)
{
    uint64_t value = take_number(reader);
    return (int64_t)(value >> 1 ^ (value & 1 ? UINT64_MAX : 0));
}

static const unsigned char *take_bytes(struct reader *reader, uint64_t length)
{
    const unsigned char *bytes = reader->at;

    if (reader->bad || length > (uint64_t)(reader->end - reader->at)) {
        reader->bad = true;
        return NULL;
    }
    reader->at += length;
    return bytes;
}

static void put_text(struct buf *out, const char *text)
{
    size_t length = strlen(text);
    put_number(out, length);
    buf_add(out, text, length);
}

/* Appended to `out`; texts hold no NUL. */
static void take_text(struct reader *reader, struct buf *out)
{
    uint64_t length = take_number(reader);
    const unsigned char *text = take_bytes(reader, length);

    if (!text || memchr(text, 0, length))
        reader->bad = true;
    else
        buf_add(out, text, length);
}

/* ---- Digits. ---- */

static int find_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 32 digits of lower case. */
static bool is_hex(const char *text)
{
    for (int i = 0; i < HEX_DIGITS; i++)
        if (find_digit(text[i]) < 0)
            return false;
    return true;
}

static void put_hex(struct buf *out, const char *text)
{
    for (int i = 0; i < HEX_DIGITS; i += 2)
        buf_add_char(out, (char)(find_digit(text[i]) << 4 | find_digit(text[i + 1])));
}

static void take_hex(struct reader *reader, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = take_bytes(reader, HEX_BYTES);

    for (int i = 0; bytes && i < HEX_BYTES; i++) {
        buf_add_char(out, digits[bytes[i] >> 4]);
        buf_add_char(out, digits[bytes[i] & 15]);
    }
}

/* How many digits of a decimal number stand here, as one would print it: no zero in front, and 64 bits hold it. 0: none does. */
static size_t parse_decimal(const char *text, uint64_t *ret_value)
{
    size_t length = 0;
    uint64_t value = 0;

    while (length <= DIGITS_MAX && text[length] >= '0' && text[length] <= '9')
        value = value * 10 + (uint64_t)(text[length++] - '0');
    if (length > DIGITS_MAX || (length > 1 && *text == '0'))
        return 0;
    *ret_value = value;
    return length;
}

/* "1700000000.123456789", with all nine digits. */
static bool parse_time(const char *text, uint64_t *ret_seconds, uint64_t *ret_nanos)
{
    size_t length = parse_decimal(text, ret_seconds);

    if (!length || text[length] != '.')
        return false;
    *ret_nanos = 0;
    text += length + 1;
    for (length = 0; text[length] >= '0' && text[length] <= '9' && length < NANO_DIGITS; length++)
        *ret_nanos = *ret_nanos * 10 + (uint64_t)(text[length] - '0');
    return length == NANO_DIGITS && !text[length];
}

/* ---- Fields. ---- */

static unsigned find_code(const char *name)
{
    for (unsigned i = 1; i < NAME_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return 0;
}

static void put_head(struct buf *out, enum form form, const char *name)
{
    unsigned code = find_code(name);

    buf_add_char(out, (char)((unsigned)form << FORM_SHIFT | code));
    if (!code)
        put_text(out, name);
}

static void put_field(struct buf *out, const struct store_field *field)
{
    uint64_t value = 0, nanos;
    size_t digits = parse_decimal(field->value, &value);

    if (digits && !field->value[digits]) {
        put_head(out, FORM_NUMBER, field->name);
        put_number(out, value);
    } else if (parse_time(field->value, &value, &nanos)) {
        put_head(out, FORM_TIME, field->name);
        put_number(out, value);
        put_number(out, nanos);
    } else if (strlen(field->value) == HEX_DIGITS && is_hex(field->value)) {
        put_head(out, FORM_HEX, field->name);
        put_hex(out, field->value);
    } else {
        put_head(out, FORM_TEXT, field->name);
        put_text(out, field->value);
    }
}

static void take_value(struct reader *reader, enum form form, struct buf *out)
{
    uint64_t value;

    switch (form) {
    case FORM_TEXT:
        take_text(reader, out);
        break;
    case FORM_NUMBER:
        buf_printf(out, "%" PRIu64, take_number(reader));
        break;
    case FORM_TIME:
        value = take_number(reader);
        buf_printf(out, "%" PRIu64 ".%09" PRIu64, value, take_number(reader));
        break;
    case FORM_HEX:
        take_hex(reader, out);
        break;
    }
}

static void take_field(struct reader *reader, struct store_fields *fields)
{
    BUF_SCOPED name = BUF_INIT;
    BUF_SCOPED value = BUF_INIT;
    unsigned head = *reader->at++, code = head & CODE_MASK;

    if (code >= NAME_COUNT)
        reader->bad = true;
    else if (code)
        buf_add_string(&name, names[code]);
    else
        take_text(reader, &name);
    if (!reader->bad)
        take_value(reader, (enum form)(head >> FORM_SHIFT), &value);
    if (!reader->bad)
        store_fields_add(fields, name.bytes, value.bytes);
}

/* ---- The object. ---- */

/* In quotes; ret_parts: the N of "-N", 0 without. */
static bool parse_hex_etag(const char *etag, uint64_t *ret_parts)
{
    size_t length = strlen(etag);

    *ret_parts = 0;
    if (length < HEX_DIGITS + 2 || etag[0] != '"' || !is_hex(etag + 1) || etag[length - 1] != '"')
        return false;
    const char *rest = etag + 1 + HEX_DIGITS;
    if (*rest == '"')
        return length == HEX_DIGITS + 2;
    size_t digits = *rest == '-' ? parse_decimal(rest + 1, ret_parts) : 0;
    return digits && *ret_parts && rest[1 + digits] == '"' && !rest[2 + digits];
}

static void put_object(struct buf *out, const struct store_object *object, unsigned flags, uint64_t parts)
{
    put_number(out, object->size);
    put_signed(out, object->modified_ns);
    if (flags & FLAG_ETAG_HEX)
        put_hex(out, object->etag + 1);
    else
        put_text(out, object->etag);
    if (flags & FLAG_ETAG_PARTS)
        put_number(out, parts);
    for (size_t i = 0; i < object->meta.count; i++)
        put_field(out, &object->meta.all[i]);
}

static void take_etag(struct reader *reader, unsigned flags, char etag[STORE_ETAG_MAX])
{
    BUF_SCOPED text = BUF_INIT;

    if (flags & FLAG_ETAG_HEX) {
        buf_add_char(&text, '"');
        take_hex(reader, &text);
        if (flags & FLAG_ETAG_PARTS)
            buf_printf(&text, "-%" PRIu64, take_number(reader));
        buf_add_char(&text, '"');
    } else {
        take_text(reader, &text);
    }
    if (text.length >= STORE_ETAG_MAX)
        reader->bad = true;
    if (!reader->bad)
        memcpy(etag, text.bytes, text.length + 1);
}

static void take_object(struct reader *reader, unsigned flags, struct store_object *object)
{
    object->size = take_number(reader);
    object->modified_ns = take_signed(reader);
    object->meta_known = flags & FLAG_META_KNOWN;
    if (!reader->bad)
        take_etag(reader, flags, object->etag);
    while (!reader->bad && reader->at < reader->end)
        take_field(reader, &object->meta);
}

/* ---- All of it. ---- */

static uint32_t sum(const unsigned char *bytes, size_t length, uint64_t directory, const char *name)
{
    uint64_t place = htole64(directory);
    uint32_t crc = crc32c(0, &place, sizeof place);

    crc = crc32c(crc, name, strlen(name) + 1);
    return crc32c(crc, bytes + sizeof crc, length - sizeof crc);
}

static unsigned gather_flags(const struct facts *facts, uint64_t *ret_parts)
{
    unsigned flags = (facts->attributes_known ? FLAG_ATTRIBUTES_KNOWN : 0) |
                     (facts->number ? FLAG_NUMBER : 0) | (facts->directory ? FLAG_DIRECTORY : 0);

    *ret_parts = 0;
    if (!facts->exists)
        return flags;
    flags |= FLAG_EXISTS | (facts->seen.meta_known ? FLAG_META_KNOWN : 0);
    if (parse_hex_etag(facts->seen.etag, ret_parts))
        flags |= FLAG_ETAG_HEX | (*ret_parts ? FLAG_ETAG_PARTS : 0);
    return flags;
}

int facts_write(const struct facts *facts, uint64_t directory, const char *name, struct buf *out)
{
    size_t start = out->length;
    uint64_t parts;
    unsigned flags = gather_flags(facts, &parts);

    assert((facts->type & ~(uint32_t)S_IFMT) == 0);
    buf_add(out, (const char[4]){0}, 4);
    buf_add_char(out, (char)(facts->type >> TYPE_SHIFT));
    buf_add_char(out, (char)flags);
    if (facts->number)
        put_number(out, facts->number);
    if (facts->directory)
        put_number(out, facts->directory);
    if (facts->exists)
        put_object(out, &facts->seen, flags, parts);
    if (out->length - start > FACTS_BYTES_MAX) {
        out->length = start;
        out->bytes[start] = 0;
        return -EMSGSIZE;
    }
    uint32_t crc =
        htole32(sum((const unsigned char *)out->bytes + start, out->length - start, directory, name));
    memcpy(out->bytes + start, &crc, sizeof crc);
    return 0;
}

/* The head and the two numbers behind it. */
static int take_head(struct reader *reader, const void *bytes, size_t length, struct facts *ret_facts,
                     unsigned *ret_flags)
{
    const unsigned char *at = bytes;

    if (length < HEAD_BYTES || length > FACTS_BYTES_MAX || at[4] > S_IFMT >> TYPE_SHIFT ||
        (at[5] & ~(unsigned)FLAGS_ALL))
        return -EBADMSG;
    *ret_flags = at[5];
    *ret_facts = (struct facts){.type = (uint32_t)at[4] << TYPE_SHIFT,
                                .attributes_known = at[5] & FLAG_ATTRIBUTES_KNOWN,
                                .exists = at[5] & FLAG_EXISTS};
    *reader = (struct reader){.at = at + HEAD_BYTES, .end = at + length};
    if (*ret_flags & FLAG_NUMBER)
        ret_facts->number = take_number(reader);
    if (*ret_flags & FLAG_DIRECTORY)
        ret_facts->directory = take_number(reader);
    return reader->bad ? -EBADMSG : 0;
}

int facts_read(const void *bytes, size_t length, uint64_t directory, const char *name,
               struct facts *ret_facts)
{
    struct reader reader;
    struct facts facts;
    unsigned flags;
    uint32_t crc;

    if (take_head(&reader, bytes, length, &facts, &flags) < 0)
        return -EBADMSG;
    memcpy(&crc, bytes, sizeof crc);
    if (le32toh(crc) != sum(bytes, length, directory, name))
        return -EBADMSG;
    if (facts.exists)
        take_object(&reader, flags, &facts.seen);
    if (reader.bad || reader.at != reader.end) {
        facts_release(&facts);
        return -EBADMSG;
    }
    *ret_facts = facts;
    return 0;
}

int facts_glance(const void *bytes, size_t length, uint32_t *ret_type, uint64_t *ret_number)
{
    struct reader reader;
    struct facts facts;
    unsigned flags;

    if (take_head(&reader, bytes, length, &facts, &flags) < 0)
        return -EBADMSG;
    *ret_type = facts.type;
    *ret_number = facts.number;
    return 0;
}

uint64_t facts_glance_directory(const void *bytes, size_t length)
{
    struct reader reader;
    struct facts facts;
    unsigned flags;

    return take_head(&reader, bytes, length, &facts, &flags) < 0 ? 0 : facts.directory;
}

void facts_release(struct facts *facts)
{
    store_object_release(&facts->seen);
}
