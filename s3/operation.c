#include "s3/operation.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "s3/answer.h"

static const struct operation *const operations[] = {
    [STORE_GET] = &operation_get,
    [STORE_HEAD] = &operation_head,
    [STORE_GET_TAGS] = &operation_get_tags,
    [STORE_LIST] = &operation_list,
    [STORE_PUT] = &operation_put,
    [STORE_COPY] = &operation_copy,
    [STORE_DELETE] = &operation_delete,
    [STORE_DELETE_MANY] = &operation_delete_many,
    [STORE_CREATE] = &operation_create,
    [STORE_PART] = &operation_part,
    [STORE_PART_COPY] = &operation_part_copy,
    [STORE_COMPLETE] = &operation_complete,
    [STORE_ABORT] = &operation_abort,
    [STORE_LIST_PARTS] = &operation_list_parts,
    [STORE_LIST_UPLOADS] = &operation_list_uploads,
};

const struct operation *operation_of(enum store_op op)
{
    assert(op >= STORE_GET && op <= STORE_LIST_UPLOADS);
    return operations[op];
}

void operation_add_attributes(struct request *request)
{
    const struct store_call *call = request->call;

    for (size_t i = 0; call->headers && i < call->headers->count; i++) {
        const struct store_field *field = &call->headers->all[i];
        if (!answer_header_only_tells(field->name))
            store_fields_set(&request->headers, field->name, field->value);
    }
    for (size_t i = 0; call->meta && i < call->meta->count; i++) {
        const struct store_field *field = &call->meta->all[i];
        STRING_SCOPED *name = xprintf("x-amz-meta-%s", field->name);
        BUF_SCOPED value = BUF_INIT;
        answer_meta_encode(field->value, &value);
        store_fields_set(&request->headers, name, value.bytes);
    }
}

void operation_add_tags(struct request *request)
{
    const struct store_fields *tags = request->call->tags;
    BUF_SCOPED value = BUF_INIT;

    for (size_t i = 0; tags && i < tags->count; i++) {
        const struct store_field *tag = &tags->all[i];
        if (i)
            buf_add_char(&value, '&');
        buf_add_encoded(&value, tag->name, strlen(tag->name), false);
        buf_add_char(&value, '=');
        buf_add_encoded(&value, tag->value, strlen(tag->value), false);
    }
    if (value.length)
        store_fields_set(&request->headers, "x-amz-tagging", value.bytes);
}

void operation_add_conditions(struct request *request)
{
    if (request->call->if_match)
        store_fields_set(&request->headers, "if-match", request->call->if_match);
    if (request->call->if_absent)
        store_fields_set(&request->headers, "if-none-match", "*");
}

void operation_add_data(struct request *request)
{
    const struct store_call *call = request->call;
    uint64_t bytes = 0;

    for (size_t i = 0; i < call->from_count; i++)
        bytes += call->from[i].iov_len;
    request->body_kind = BODY_DATA;
    request->bulk = bytes >= BULK_BYTES;
}

int operation_read_stored(struct request *request)
{
    const char *etag = http_header(&request->http, "etag");
    int rc = etag ? answer_copy_etag(request->call->object.etag, etag) : -EBADMSG;
    return rc < 0 ? rc : request_prove_body(request);
}

void operation_name_class(const struct request *request, struct store_object *object)
{
    if (request->bucket->storage_class && object->meta_known &&
        !store_fields_get(&object->headers, "x-amz-storage-class"))
        store_fields_set(&object->headers, "x-amz-storage-class", "STANDARD");
}

int operation_read_body(struct request *request,
                        int (*reader)(const char *bytes, size_t length, struct store_call *call,
                                      struct answer_error *ret_error))
{
    const struct buf *text = &request->http.text;
    int rc = reader(text->bytes, text->length, request->call, &request->answer_error);
    if (rc != 0)
        store_call_release(request->call); /* half of an answer must not meet the next one */
    return rc;
}
