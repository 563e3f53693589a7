#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/utf8.h"
#include "s3/answer.h"

#define WORD_BYTES 42 /* of text in one RFC 2047 word, which holds at most 75 characters */

/* ---- Text in URLs. ---- */

static int read_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int answer_url_decode(const char *text, struct buf *out)
{
    BUF_SCOPED decoded = BUF_INIT;
    for (; *text; text++) {
        if (*text != '%') {
            buf_add_char(&decoded, *text == '+' ? ' ' : *text);
            continue;
        }
        int high = read_hex(text[1]), low = high < 0 ? -1 : read_hex(text[2]);
        if (low < 0 || (!high && !low))
            return -EBADMSG;
        buf_add_char(&decoded, (char)(high << 4 | low));
        text += 2;
    }
    buf_add(out, decoded.bytes, decoded.length);
    return 0;
}

/* ---- RFC 2047. ---- */

struct word {
    const char *charset, *text;
    size_t charset_length, text_length;
    char encoding; /* 'b' or 'q' */
    const char *end;
};

/* "=?charset?encoding?text?=" at `at`. */
static bool find_word(const char *at, struct word *ret_word)
{
    if (strncmp(at, "=?", 2))
        return false;
    const char *charset = at + 2, *encoding = strchr(charset, '?');
    if (!encoding || !encoding[1] || encoding[2] != '?')
        return false;
    const char *text = encoding + 3, *end = strstr(text, "?=");
    if (!end)
        return false;
    *ret_word = (struct word){
        .charset = charset,
        .text = text,
        .charset_length = (size_t)(encoding - charset),
        .text_length = (size_t)(end - text),
        .encoding = (char)tolower((unsigned char)encoding[1]),
        .end = end + 2,
    };
    return ret_word->encoding == 'b' || ret_word->encoding == 'q';
}

static bool charset_is(const struct word *word, const char *name)
{
    return word->charset_length == strlen(name) && !strncasecmp(word->charset, name, word->charset_length);
}

static bool decode_q(const struct word *word, struct buf *out)
{
    for (size_t i = 0; i < word->text_length; i++) {
        char c = word->text[i];
        if (c == '=') {
            if (i + 2 >= word->text_length)
                return false;
            int high = read_hex(word->text[i + 1]), low = read_hex(word->text[i + 2]);
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '_') {
            c = ' ';
        }
        buf_add_char(out, c);
    }
    return true;
}

static bool decode_b(const struct word *word, struct buf *out)
{
    STRING_SCOPED *text = xstrndup(word->text, word->text_length);
    return buf_add_base64_decoded(out, text, word->text_length) == 0;
}

static void add_latin1(struct buf *out, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c >= 0x80)
            buf_add_char(out, (char)(0xC0 | c >> 6));
        buf_add_char(out, (char)(c >= 0x80 ? (0x80 | (c & 0x3F)) : c));
    }
}

/* False, and nothing is appended: a charset or an encoding that we do not read, or a NUL. */
static bool decode_word(const struct word *word, struct buf *out)
{
    BUF_SCOPED bytes = BUF_INIT;
    bool latin = charset_is(word, "iso-8859-1");
    if (!latin && !charset_is(word, "utf-8") && !charset_is(word, "us-ascii"))
        return false;
    if (!(word->encoding == 'b' ? decode_b(word, &bytes) : decode_q(word, &bytes)))
        return false;
    if (bytes.length && memchr(bytes.bytes, '\0', bytes.length))
        return false;
    if (latin)
        add_latin1(out, bytes.bytes, bytes.length);
    else
        buf_add(out, bytes.bytes, bytes.length);
    return true;
}

void answer_meta_decode(const char *value, struct buf *out)
{
    bool after_word = false;
    while (*value) {
        struct word word;
        size_t space = strspn(value, " \t\r\n");
        const char *next = after_word ? value + space : value; /* white space between two words is none */
        if (find_word(next, &word) && decode_word(&word, out)) {
            value = word.end;
            after_word = true;
            continue;
        }
        after_word = false;
        buf_add_char(out, *value++);
    }
}

static bool goes_as_it_is(const char *value)
{
    size_t length = strlen(value);
    if (length && (value[0] == ' ' || value[length - 1] == ' ')) /* HTTP would trim it */
        return false;
    for (size_t i = 0; i < length; i++)
        if (value[i] < ' ' || value[i] > '~')
            return false;
    return !strstr(value, "=?");
}

/* How much of the text one word takes: whole characters, where it is UTF-8. */
static size_t measure_word(const char *value, size_t length)
{
    size_t size = 0;
    uint32_t code;
    while (size < length) {
        size_t more = utf8_decode(value + size, length - size, &code);
        more = more ? more : 1;
        if (size + more > WORD_BYTES)
            break;
        size += more;
    }
    return size;
}

void answer_meta_encode(const char *value, struct buf *out)
{
    if (goes_as_it_is(value)) {
        buf_add_string(out, value);
        return;
    }
    size_t length = strlen(value);
    for (size_t at = 0, size; at < length; at += size) {
        size = measure_word(value + at, length - at);
        buf_add_string(out, at ? " =?UTF-8?B?" : "=?UTF-8?B?");
        buf_add_base64(out, value + at, size);
        buf_add_string(out, "?=");
    }
}

/* ---- Headers. ---- */

int answer_copy_etag(char to[STORE_ETAG_MAX], const char *etag)
{
    size_t length = strlen(etag);
    bool weak = !strncmp(etag, "W/", 2);
    bool quoted = length >= 2 + 2 * (size_t)weak && etag[weak ? 2 : 0] == '"' && etag[length - 1] == '"';
    if (!length || length + 2 * (size_t)!quoted >= STORE_ETAG_MAX || (weak && !quoted))
        return -EBADMSG;
    for (size_t i = 0; i < length; i++) {
        bool quote = quoted && (i == (weak ? 2 : 0) || i == length - 1);
        if (etag[i] <= ' ' || etag[i] > '~' || (etag[i] == '"' && !quote))
            return -EBADMSG;
    }
    size_t at = 0;
    if (!quoted)
        to[at++] = '"';
    memcpy(to + at, etag, length);
    at += length;
    if (!quoted)
        to[at++] = '"';
    to[at] = '\0';
    return 0;
}

static int read_size(const char *text, uint64_t *ret_size)
{
    if (!isdigit((unsigned char)*text))
        return -EBADMSG;
    char *end;
    errno = 0;
    long long size = strtoll(text, &end, 10);
    if (errno || *end || size < 0)
        return -EBADMSG;
    *ret_size = (uint64_t)size;
    return 0;
}

/* What can be sent again in a header, and does not end it. */
static bool is_one_line(const char *value)
{
    for (; *value; value++)
        if ((unsigned char)*value < ' ' || *value == 0x7F)
            return false;
    return true;
}

/* RFC 7230 token: what can be the rest of a header's name. */
static bool is_token(const char *name)
{
    if (!*name)
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr("!#$%&'*+-.^_`|~", *name))
            return false;
    return true;
}

static bool is_among(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

/* What servers tell of an object and refuse, or misunderstand, in a PUT. Locks are set anew by the bucket's default. */
bool answer_header_only_tells(const char *name)
{
    static const char *const names[] = {
        "x-amz-version-id",    "x-amz-delete-marker",  "x-amz-expiration",
        STORE_TAG_COUNT_FIELD, "x-amz-missing-meta",   "x-amz-replication-status",
        "x-amz-restore",       "x-amz-archive-status", "x-amz-mp-parts-count",
    };
    return is_among(name, names, sizeof(names) / sizeof(*names)) ||
           !strncmp(name, "x-amz-object-lock-", strlen("x-amz-object-lock-"));
}

/* What a rewrite has to send again, or has to know of. */
static bool is_kept(const char *name)
{
    static const char *const names[] = {
        "content-type",        "content-encoding",   "cache-control",
        "content-disposition", "content-language",   "expires",
        "x-amz-storage-class", "x-amz-version-id",   "x-amz-website-redirect-location",
        STORE_TAG_COUNT_FIELD, "x-amz-missing-meta",
    };
    return is_among(name, names, sizeof(names) / sizeof(*names)) ||
           !strncmp(name, "x-amz-server-side-encryption", strlen("x-amz-server-side-encryption")) ||
           !strncmp(name, "x-amz-object-lock-", strlen("x-amz-object-lock-"));
}

/* Some clones store the framing of the upload as if it were the object's: "aws-chunked,gzip" is "gzip". */
static void keep_header(struct store_object *object, const char *name, const char *value)
{
    if (!strcmp(name, "content-encoding") && !strncasecmp(value, "aws-chunked", strlen("aws-chunked"))) {
        value += strlen("aws-chunked");
        value += strspn(value, ", ");
        if (!*value)
            return;
    }
    if (is_one_line(value))
        store_fields_set(&object->headers, name, value);
}

static void keep_meta(struct store_object *object, const char *name, const char *value)
{
    BUF_SCOPED decoded = BUF_INIT;
    if (!is_token(name))
        return;
    answer_meta_decode(value, &decoded);
    store_fields_set(&object->meta, name, decoded.bytes);
}

/* "bytes 0-9/100" */
static int read_range(struct store_object *object, const char *value)
{
    const char *total = strrchr(value, '/');
    return total ? read_size(total + 1, &object->size) : -EBADMSG;
}

int answer_header(struct store_object *object, const char *name, const char *value)
{
    if (!strcmp(name, "etag"))
        return answer_copy_etag(object->etag, value);
    if (!strcmp(name, "last-modified"))
        return clock_parse_http(value, &object->modified_ns) < 0 ? -EBADMSG : 0;
    if (!strcmp(name, "content-range"))
        return read_range(object, value);
    if (!strcmp(
            name,
            "content-length")) /* of a range it is the range's: content-range knows better, in any order */
        return object->size ? 0 : read_size(value, &object->size);
    if (!strncmp(name, "x-amz-meta-", strlen("x-amz-meta-")))
        keep_meta(object, name + strlen("x-amz-meta-"), value);
    else if (is_kept(name))
        keep_header(object, name, value);
    return 0;
}

/* ---- Checksums. ---- */

/* Base64 of exactly so many bytes, the highest first. */
static bool read_sum(const char *text, size_t text_length, size_t bytes, uint64_t *ret_value)
{
    BUF_SCOPED raw = BUF_INIT;
    uint64_t value = 0;
    if (buf_add_base64_decoded(&raw, text, text_length) < 0 || raw.length != bytes)
        return false;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | (unsigned char)raw.bytes[i];
    *ret_value = value;
    return true;
}

void answer_sum(struct store_sum *sum, const char *name, const char *value)
{
    static const struct {
        const char *name, *begins;
        enum store_checksum kind;
        size_t bytes;
    } rows[] = {{"x-amz-checksum-crc64nvme", "", CHECKSUM_CRC64NVME, 8},
                {"x-amz-checksum-crc32c", "", CHECKSUM_CRC32C, 4},
                {"x-amz-checksum-crc32", "", CHECKSUM_CRC32, 4},
                {"x-goog-hash", "crc32c=", CHECKSUM_CRC32C, 4}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        const char *text = strcmp(rows[i].name, name) ? NULL : strstr(value, rows[i].begins);
        text = text ? text + strlen(rows[i].begins) : "";
        if (read_sum(text, strcspn(text, ", "), rows[i].bytes, &sum->value))
            sum->kind = rows[i].kind;
    }
}
