/* Any bytes as any answer: nothing but 0, 1 or -EBADMSG, no leak, and what is handed out keeps the header's promises. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "s3/answer.h"

static const char *const keys[] = {"p/a", "p/b"};

static void check_call(const struct store_call *call)
{
    for (size_t i = 0; i < call->object_count; i++)
        assert(!strncmp(call->objects[i].key, call->prefix, strlen(call->prefix)));
    for (size_t i = 0; i < call->prefix_count; i++)
        assert(strlen(call->prefixes[i]) > strlen(call->prefix));
    for (size_t i = 0; i < call->found_part_count; i++)
        assert(call->found_parts[i].number >= 1 && call->found_parts[i].number <= STORE_PARTS_MAX);
    for (size_t i = 0; i < call->failure_count; i++)
        assert(call->failures[i].key == keys[0] || call->failures[i].key == keys[1]);
}

static int read_as(struct store_call *call, const char *bytes, size_t length)
{
    struct answer_error error;
    char *key_marker = NULL, *id_marker = NULL;
    int marker = 0, rc;
    switch (call->op) {
    case STORE_LIST:
        return answer_list(bytes, length, call, &error);
    case STORE_CREATE:
        return answer_create(bytes, length, call, &error);
    case STORE_COPY:
    case STORE_PART_COPY:
    case STORE_COMPLETE:
        return answer_etag(bytes, length, call, &error);
    case STORE_GET_TAGS:
        return answer_tags(bytes, length, call, &error);
    case STORE_LIST_PARTS:
        return answer_parts(bytes, length, call, &marker, &error);
    case STORE_DELETE_MANY:
        return answer_delete(bytes, length, call, &error);
    case STORE_LIST_UPLOADS:
        rc = answer_uploads(bytes, length, call, &key_marker, &id_marker, &error);
        free(key_marker);
        free(id_marker);
        return rc;
    default:
        return answer_error(bytes, length, &error);
    }
}

static void read_texts(const char *bytes, size_t length)
{
    static const char *const names[] = {"etag",           "last-modified", "content-range",
                                        "content-length", "content-type",  "x-amz-meta-a"};
    STRING_SCOPED *text = xstrndup(bytes, strnlen(bytes, length));
    BUF_SCOPED decoded = BUF_INIT, wire = BUF_INIT, back = BUF_INIT;
    struct store_object object = {0};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        answer_header(&object, names[i], text);
    store_object_release(&object);
    answer_url_decode(text, &decoded);
    answer_meta_encode(text, &wire);
    answer_meta_decode(wire.bytes, &back);
    assert(!strcmp(back.bytes, text));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    for (int op = STORE_GET; op <= STORE_LIST_UPLOADS; op++) {
        struct store_call call = {.op = op, .prefix = "p/", .token = "t", .keys = keys, .key_count = 2};
        int rc = read_as(&call, (const char *)bytes, length);
        assert(rc == 0 || rc == 1 || rc == -EBADMSG);
        check_call(&call);
        store_call_release(&call);
    }
    read_texts((const char *)bytes, length);
    return 0;
}
