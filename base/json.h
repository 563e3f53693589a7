/* json: facts printed for programs (--json), and small answers read. The home of jansson.
 *
 * A value is built by json_object()/json_array() and the json_set_*() calls and printed once. Text that is not UTF-8 is
 * written with \ufffd for the bad bytes: json never fails on a file name.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct json;

struct json *json_object_new(void);
struct json *json_array_new(void);
void json_free(struct json *json);
/* All of it, for another owner. */
struct json *json_clone(const struct json *json);
void json_set_string(struct json *object, const char *name, const char *value); /* NULL: null */
void json_set_integer(struct json *object, const char *name, int64_t value);
void json_set_bool(struct json *object, const char *name, bool value);
void json_set_real(struct json *object, const char *name, double value);
/* Takes the child. */
void json_set(struct json *object, const char *name, struct json **child);
void json_append(struct json *array, struct json **child);
/* All of another array, in order; takes it. */
void json_extend(struct json *array, struct json **more);
void json_append_string(struct json *array, const char *value);
void json_print(const struct json *json, struct buf *out, bool pretty);

/* Reading: 0, or -EBADMSG with a message of what and where in `why` (may be NULL). At most 16 MiB, depth 64.
 * The message never quotes the text, which may be a secret's. */
int json_parse(const char *bytes, size_t length, struct json **ret_json, struct buf *why);
/* The getters are not called json_string() and so on: jansson exports those names, and ours would take their place
 * inside its own library.
 * Borrowed children; NULL when missing or of another kind. */
const struct json *json_get(const struct json *object, const char *name);
const struct json *json_at(const struct json *array, size_t index);
size_t json_count(const struct json *array);
bool json_holds_names(const struct json *json);  /* it is an object */
bool json_holds_items(const struct json *json);  /* it is an array */
const char *json_text(const struct json *value); /* of a string itself */
const char *json_get_string(const struct json *object, const char *name);
bool json_get_integer(const struct json *object, const char *name, int64_t *ret_value);
bool json_get_bool(const struct json *object, const char *name, bool *ret_value);
/* Each member of an object whose value is text, in order; of anything else none. */
void json_each_string(const struct json *object,
                      void (*each)(void *context, const char *name, const char *value), void *context);

#endif
