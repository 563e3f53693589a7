#include <errno.h>
#include <string.h>
#include <strings.h>

#include "s3/operation.h"

static void add_query(struct request *request, const char *name, const char *value)
{
    if (value)
        store_fields_set(&request->query, name, value);
}

static void prepare_list(struct request *request)
{
    const struct store_call *call = request->call;
    int max_keys = call->max_keys > 0 && call->max_keys < STORE_LIST_MAX ? call->max_keys : STORE_LIST_MAX;

    add_query(request, "list-type", "2");
    add_query(request, "encoding-type", "url");
    add_query(request, "prefix", call->prefix);
    add_query(request, "delimiter", call->delimiter);
    if (call->token)
        add_query(request, "continuation-token", call->token);
    else
        add_query(request, "start-after", call->start_after);
    request_add_number(&request->query, "max-keys", (uint64_t)max_keys);
    /* MinIO's own; AWS is not to be asked for what it does not know. */
    request->list_meta_sent = !endpoint_tells_region(request->endpoint) &&
                              bucket_can(request->bucket, ABILITY_OF(list_meta)) != ABILITY_NO;
    if (request->list_meta_sent)
        add_query(request, "metadata", "true");
}

/* YES once metadata or MinIO was seen; NO by objects that came without; a listing without objects says nothing. */
static void learn_list_meta(struct request *request)
{
    const struct store_call *call = request->call;
    const char *server = http_header(&request->http, "server");
    bool seen = server && !strcasecmp(server, "MinIO");

    if (!request->list_meta_sent || bucket_can(request->bucket, ABILITY_OF(list_meta)) != ABILITY_UNKNOWN)
        return;
    for (size_t i = 0; !seen && i < call->object_count; i++)
        seen = call->objects[i].meta_known;
    if (seen || call->object_count > 0)
        bucket_learn(request->bucket, ABILITY_OF(list_meta), seen ? ABILITY_YES : ABILITY_NO);
}

static int read_list(struct request *request)
{
    int rc = operation_read_body(request, answer_list);
    if (rc != 0)
        return rc;
    learn_list_meta(request);
    for (size_t i = 0; i < request->call->object_count; i++)
        operation_name_class(request, &request->call->objects[i]);
    return 0;
}

const struct operation operation_list = {
    .method = "GET", .lists = true, .prepare = prepare_list, .read = read_list};
