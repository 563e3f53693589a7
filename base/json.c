#include "base/json.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define JSON_BYTES_MAX ((size_t)16 << 20)
#define JSON_DEPTH_MAX 64

/* An opaque struct json is a json_t. */
static json_t *reveal(const struct json *json)
{
    return (json_t *)(uintptr_t)json;
}

static struct json *wrap(json_t *json)
{
    assert(json); /* only memory can be missing */
    return (struct json *)(void *)json;
}

static const struct json *borrow(const json_t *json)
{
    return (const struct json *)(const void *)json;
}

/* U+FFFD for each byte that is no UTF-8; malloc'ed. */
static char *clean_text(const char *text)
{
    struct buf out = BUF_INIT;
    for (size_t left = strlen(text); left;) {
        uint32_t code;
        size_t step = utf8_decode(text, left, &code);
        if (step)
            buf_add(&out, text, step);
        else
            buf_add_string(&out, "\xef\xbf\xbd");
        text += step ? step : 1;
        left -= step ? step : 1;
    }
    return buf_take(&out);
}

/* NULL: null. */
static json_t *make_string(const char *value)
{
    if (!value)
        return json_null();
    STRING_SCOPED *clean = clean_text(value);
    return json_stringn_nocheck(clean, strlen(clean));
}

struct json *json_object_new(void)
{
    return wrap(json_object());
}

struct json *json_array_new(void)
{
    return wrap(json_array());
}

void json_free(struct json *json)
{
    if (json)
        json_decref(reveal(json));
}

struct json *json_clone(const struct json *json)
{
    return wrap(json_deep_copy(reveal(json)));
}

static void set_value(struct json *object, const char *name, json_t *value)
{
    STRING_SCOPED *clean = clean_text(name);
    int rc = json_object_set_new_nocheck(reveal(object), clean, value);
    assert(rc == 0); /* an object, a value, and memory */
    (void)rc;
}

static void append_value(struct json *array, json_t *value)
{
    int rc = json_array_append_new(reveal(array), value);
    assert(rc == 0);
    (void)rc;
}

void json_set_string(struct json *object, const char *name, const char *value)
{
    set_value(object, name, make_string(value));
}

void json_set_integer(struct json *object, const char *name, int64_t value)
{
    set_value(object, name, json_integer(value));
}

void json_set_bool(struct json *object, const char *name, bool value)
{
    set_value(object, name, json_boolean(value));
}

void json_set_real(struct json *object, const char *name, double value)
{
    json_t *real = json_real(value);
    set_value(object, name, real ? real : json_null()); /* JSON has no infinity */
}

void json_extend(struct json *array, struct json **more)
{
    int rc = json_array_extend(reveal(array), reveal(*more));
    assert(rc == 0);
    (void)rc;
    json_free(*more);
    *more = NULL;
}

static json_t *take_child(struct json **child)
{
    json_t *taken = reveal(*child);
    *child = NULL;
    return taken;
}

void json_set(struct json *object, const char *name, struct json **child)
{
    set_value(object, name, take_child(child));
}

void json_append(struct json *array, struct json **child)
{
    append_value(array, take_child(child));
}

void json_append_string(struct json *array, const char *value)
{
    append_value(array, make_string(value));
}

static int add_piece(const char *bytes, size_t length, void *out)
{
    buf_add(out, bytes, length);
    return 0;
}

void json_print(const struct json *json, struct buf *out, bool pretty)
{
    size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(15) | (pretty ? JSON_INDENT(2) : JSON_COMPACT);
    int rc = json_dump_callback(reveal(json), add_piece, out, flags);
    assert(rc == 0);
    (void)rc;
}

/* Before the parser, which recurses. Brackets within strings do not count. */
static bool is_too_deep(const char *bytes, size_t length)
{
    size_t depth = 0;
    bool text = false;
    for (size_t i = 0; i < length; i++) {
        if (text && bytes[i] == '\\')
            i++;
        else if (bytes[i] == '"')
            text = !text;
        else if (!text && (bytes[i] == '[' || bytes[i] == '{') && ++depth > JSON_DEPTH_MAX)
            return true;
        else if (!text && (bytes[i] == ']' || bytes[i] == '}') && depth)
            depth--;
    }
    return false;
}

int json_parse(const char *bytes, size_t length, struct json **ret_json, struct buf *why)
{
    if (length > JSON_BYTES_MAX || is_too_deep(bytes, length)) {
        if (why)
            buf_add_string(why, length > JSON_BYTES_MAX ? "longer than 16 MiB" : "nested deeper than 64");
        return -EBADMSG;
    }
    json_error_t error;
    json_t *json = json_loadb(bytes, length, 0, &error);
    if (!json) {
        char *quote =
            strstr(error.text, " near '"); /* a piece of the text, which may be of a credential file */
        if (quote)
            *quote = '\0';
        if (why)
            buf_printf(why, "line %d, column %d: %s", error.line, error.column, error.text);
        return -EBADMSG;
    }
    *ret_json = wrap(json);
    return 0;
}

const struct json *json_get(const struct json *object, const char *name)
{
    return borrow(json_object_get(reveal(object), name));
}

const struct json *json_at(const struct json *array, size_t index)
{
    return borrow(json_array_get(reveal(array), index));
}

size_t json_count(const struct json *array)
{
    return json_array_size(reveal(array));
}

bool json_holds_names(const struct json *json)
{
    return json_is_object(reveal(json));
}

bool json_holds_items(const struct json *json)
{
    return json_is_array(reveal(json));
}

const char *json_text(const struct json *value)
{
    return json_string_value(reveal(value));
}

const char *json_get_string(const struct json *object, const char *name)
{
    return json_string_value(json_object_get(reveal(object), name));
}

bool json_get_integer(const struct json *object, const char *name, int64_t *ret_value)
{
    const json_t *value = json_object_get(reveal(object), name);
    if (!json_is_integer(value))
        return false;
    *ret_value = json_integer_value(value);
    return true;
}

bool json_get_bool(const struct json *object, const char *name, bool *ret_value)
{
    const json_t *value = json_object_get(reveal(object), name);
    if (!json_is_boolean(value))
        return false;
    *ret_value = json_is_true(value);
    return true;
}

void json_each_string(const struct json *object,
                      void (*each)(void *context, const char *name, const char *value), void *context)
{
    const char *name;
    json_t *value;
    json_object_foreach(reveal(object), name, value) if (json_is_string(value))
        each(context, name, json_string_value(value));
}
