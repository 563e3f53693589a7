/* operation: how each store_op looks over HTTP: one row each, in operation_object.c, operation_list.c, operation_upload.c.
 *
 * prepare() writes what is to be sent into the request; started() and read() take what came. They know no retries.
 */
#ifndef S3_OPERATION_H
#define S3_OPERATION_H

#include "s3/request.h"

#define BULK_BYTES ((uint64_t)256 * 1024) /* from here on a body counts as big */

extern const struct operation operation_get, operation_head, operation_get_tags, operation_put,
    operation_copy, operation_delete;
extern const struct operation operation_delete_many, operation_list;
extern const struct operation operation_create, operation_part, operation_part_copy, operation_complete,
    operation_abort, operation_list_parts, operation_list_uploads;

const struct operation *operation_of(enum store_op op);

/* Shared by the rows. */
/* Content-Type and the like, and x-amz-meta-*, of call->headers and call->meta; what only tells is left out. */
void operation_add_attributes(struct request *request);
/* x-amz-tagging, of call->tags. */
void operation_add_tags(struct request *request);
/* If-Match, If-None-Match. */
void operation_add_conditions(struct request *request);
/* call->from, with a checksum. */
void operation_add_data(struct request *request);
/* The ETag header of an answer to PUT or PART, and whether what is stored is what was sent. */
int operation_read_stored(struct request *request);
/* S3 does not name its usual class: where another one is given to new objects it has to be said, so that a rewrite keeps it. */
void operation_name_class(const struct request *request, struct store_object *object);
/* A 2xx body by one of answer.h's readers that take (bytes, length, call, error). */
int operation_read_body(struct request *request,
                        int (*reader)(const char *bytes, size_t length, struct store_call *call,
                                      struct answer_error *ret_error));

#endif
