#include "cache/xattr.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/digest.h"
#include "base/json.h"
#include "base/utf8.h"

#define META_PREFIX "x-amz-meta-"

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

bool xattr_is_virtual(const char *name)
{
    return begins(name, XATTR_VIRTUAL);
}

bool xattr_is_shown(const char *name)
{
    return begins(name, XATTR_USER) && !xattr_is_virtual(name);
}

static bool is_utf8(const char *text)
{
    for (size_t left = strlen(text); left;) {
        uint32_t code;
        size_t step = utf8_decode(text, left, &code);
        if (!step)
            return false;
        text += step;
        left -= step;
    }
    return true;
}

static bool is_name(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= XATTR_NAME_MAX;
}

/* ---- The set. ---- */

static void release_one(struct xattr *xattr)
{
    free(xattr->name);
    free(xattr->value);
}

void xattrs_release(struct xattrs *xattrs)
{
    for (size_t i = 0; i < xattrs->count; i++)
        release_one(&xattrs->all[i]);
    free(xattrs->all);
    *xattrs = (struct xattrs){0};
}

/* Where the name stands, or is to stand. */
static size_t find_place(const struct xattrs *xattrs, const char *name, bool *ret_there)
{
    size_t low = 0, high = xattrs->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(xattrs->all[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_there = low < xattrs->count && strcmp(xattrs->all[low].name, name) == 0;
    return low;
}

const struct xattr *xattrs_find(const struct xattrs *xattrs, const char *name)
{
    bool there;
    size_t at = find_place(xattrs, name, &there);
    return there ? &xattrs->all[at] : NULL;
}

/* Takes the value. */
static void put(struct xattrs *xattrs, const char *name, char *value, size_t length)
{
    bool there;
    size_t at = find_place(xattrs, name, &there);
    if (!there) {
        xattrs->all = xrealloc(xattrs->all, (xattrs->count + 1) * sizeof xattrs->all[0]);
        memmove(&xattrs->all[at + 1], &xattrs->all[at], (xattrs->count - at) * sizeof xattrs->all[0]);
        xattrs->all[at] = (struct xattr){.name = xstrdup(name)};
        xattrs->count++;
    }
    free(xattrs->all[at].value);
    xattrs->all[at].value = value;
    xattrs->all[at].length = length;
}

int xattrs_set(struct xattrs *xattrs, const char *name, const void *value, size_t length, int flags)
{
    bool there = xattrs_find(xattrs, name);
    BUF_SCOPED bytes = BUF_INIT;
    if (there && flags & XATTR_CREATE)
        return -EEXIST;
    if (!there && flags & XATTR_REPLACE)
        return -ENODATA;
    if (!is_utf8(name))
        return -EILSEQ;
    buf_add(&bytes, value, length);
    put(xattrs, name, buf_take(&bytes), length);
    return 0;
}

int xattrs_remove(struct xattrs *xattrs, const char *name)
{
    bool there;
    size_t at = find_place(xattrs, name, &there);
    if (!there)
        return -ENODATA;
    release_one(&xattrs->all[at]);
    xattrs->count--;
    memmove(&xattrs->all[at], &xattrs->all[at + 1], (xattrs->count - at) * sizeof xattrs->all[0]);
    return 0;
}

/* ---- The field. ---- */

static int read_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* What is no escape stays as it is. */
static void decode_percents(const char *text, struct buf *out)
{
    for (; *text; text++) {
        int high = *text == '%' ? read_digit(text[1]) : -1;
        int low = high >= 0 ? read_digit(text[2]) : -1;
        buf_add_char(out, low >= 0 ? (char)(high << 4 | low) : *text);
        text += low >= 0 ? 2 : 0;
    }
}

static void take_member(void *context, const char *name, const char *text)
{
    BUF_SCOPED value = BUF_INIT;
    if (!is_name(name) || xattr_is_virtual(name) || buf_add_base64_decoded(&value, text, strlen(text)) < 0)
        return;
    size_t length = value.length;
    put(context, name, buf_take(&value), length);
}

void xattrs_read(const char *field, struct xattrs *ret_xattrs)
{
    struct json *json;
    BUF_SCOPED text = BUF_INIT;
    *ret_xattrs = (struct xattrs){0};
    if (!field || !*field || strlen(field) > XATTR_FIELD_MAX)
        return;
    decode_percents(field, &text);
    if (json_parse(text.bytes, text.length, &json, NULL) < 0)
        return;
    json_each_string(json, take_member, ret_xattrs);
    json_free(json);
}

char *xattrs_field(const struct xattrs *xattrs)
{
    BUF_SCOPED text = BUF_INIT;
    struct buf field = BUF_INIT;
    if (xattrs->count == 0)
        return xstrdup("");
    struct json *json = json_object_new();
    for (size_t i = 0; i < xattrs->count; i++) {
        BUF_SCOPED value = BUF_INIT;
        buf_add_base64(&value, xattrs->all[i].value, xattrs->all[i].length);
        json_set_string(json, xattrs->all[i].name, value.bytes);
    }
    json_print(json, &text, false);
    json_free(json);
    buf_add_encoded(&field, text.bytes, text.length, true);
    return buf_take(&field);
}

/* ---- Metadata. ---- */

void xattr_to_meta(const char *field, struct store_fields *meta)
{
    if (field && *field)
        store_fields_set(meta, XATTR_FIELD, field);
    else if (field)
        store_fields_remove(meta, XATTR_FIELD);
}

/* What we send of our own, at its longest. */
static const struct {
    const char *name;
    size_t bytes;
} own_fields[] = {
    {"mode", 6}, {"uid", 10}, {"gid", 10}, {"mtime", 21}, {"ctime", 21}, {"skyvol-id", 32}, {XATTR_FIELD, 0},
};

#define OWN_FIELDS (sizeof own_fields / sizeof own_fields[0])

static bool is_own(const char *name)
{
    for (size_t i = 0; i < OWN_FIELDS; i++)
        if (strcmp(own_fields[i].name, name) == 0)
            return true;
    return false;
}

static size_t measure(const char *name, size_t bytes)
{
    return strlen(META_PREFIX) + strlen(name) + bytes;
}

bool xattr_fits(const struct store_fields *meta, const char *field)
{
    size_t bytes = strlen(field);
    for (size_t i = 0; i < OWN_FIELDS; i++)
        bytes += measure(own_fields[i].name, own_fields[i].bytes);
    for (size_t i = 0; i < meta->count; i++)
        if (!is_own(meta->all[i].name))
            bytes += measure(meta->all[i].name, strlen(meta->all[i].value));
    return bytes <= XATTR_META_MAX;
}
