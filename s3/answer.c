#include "s3/answer.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "base/xml.h"
#include "s3/code.h"

#define META_MAX      256 /* of one object; servers take 2 to 8 KiB in all */
#define TAG_NAME_MAX  128 /* characters */
#define TAG_VALUE_MAX 256

/* ---- Words. ---- */

/* Printable ASCII, cut to the room: for logs and messages. */
static void copy_printable(char *to, size_t size, const char *text)
{
    size_t length = 0;
    for (; *text && length + 1 < size; text++)
        to[length++] = *text >= ' ' && *text <= '~' ? *text : '?';
    to[length] = '\0';
}

static int read_number(const char *text, uint64_t most, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (!*text)
        return -EBADMSG;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return -EBADMSG;
        unsigned digit = (unsigned)(*text - '0');
        if (number > (most - digit) / 10)
            return -EBADMSG;
        number = number * 10 + digit;
    }
    *ret_number = number;
    return 0;
}

/* A listing that says neither may have been cut: "no such file" must not follow from it. */
static int read_bool(const char *text, bool *ret_bool)
{
    *ret_bool = !strcmp(text, "true");
    return *ret_bool || !strcmp(text, "false") ? 0 : -EBADMSG;
}

static int read_time(const char *text, int64_t *ret_ns)
{
    return clock_parse_iso(text, ret_ns) < 0 ? -EBADMSG : 0;
}

/* ---- Documents. ---- */

static void free_xml(struct xml **xml)
{
    xml_free(*xml);
}

#define XML_SCOPED __attribute__((cleanup(free_xml))) struct xml

static void fill_error(struct xml *xml, const struct xml_node *node, struct answer_error *ret_error)
{
    *ret_error = (struct answer_error){0};
    copy_printable(ret_error->code, sizeof(ret_error->code), xml_child_text(xml, node, "Code"));
    copy_printable(ret_error->message, sizeof(ret_error->message), xml_child_text(xml, node, "Message"));
    copy_printable(ret_error->request_id, sizeof(ret_error->request_id),
                   xml_child_text(xml, node, "RequestId"));
    copy_printable(ret_error->region, sizeof(ret_error->region), xml_child_text(xml, node, "Region"));
    copy_printable(ret_error->endpoint, sizeof(ret_error->endpoint), xml_child_text(xml, node, "Endpoint"));
}

static int parse_document(const char *bytes, size_t length, struct xml **ret_xml)
{
    return xml_parse(bytes, length, ret_xml) < 0 ? -EBADMSG : 0;
}

/* The <Error> of a document, which may stand in an <ErrorResponse>; NULL: it is none. */
static const struct xml_node *find_error(const struct xml *xml)
{
    const struct xml_node *root = xml_root(xml);
    if (!strcmp(xml_name(root), "ErrorResponse"))
        root = xml_child(root, "Error");
    return root && !strcmp(xml_name(root), "Error") ? root : NULL;
}

/* 0: `xml` is the document of that name; 1: an error, told; -EBADMSG. */
static int open_answer(const char *bytes, size_t length, const char *name, struct xml **ret_xml,
                       struct answer_error *ret_error)
{
    int rc = parse_document(bytes, length, ret_xml);
    if (rc < 0)
        return rc;
    const struct xml_node *error = find_error(*ret_xml);
    if (error) {
        fill_error(*ret_xml, error, ret_error);
        return 1;
    }
    return strcmp(xml_name(xml_root(*ret_xml)), name) ? -EBADMSG : 0;
}

int answer_error(const char *bytes, size_t length, struct answer_error *ret_error)
{
    XML_SCOPED *xml = NULL;
    *ret_error = (struct answer_error){0};
    int rc = parse_document(bytes, length, &xml);
    if (rc < 0)
        return rc;
    const struct xml_node *error = find_error(xml);
    if (!error)
        return -EBADMSG;
    fill_error(xml, error, ret_error);
    return 0;
}

void answer_error_to_store(const struct answer_error *error, struct store_error *to)
{
    copy_printable(to->code, sizeof(to->code), error->code);
    copy_printable(to->message, sizeof(to->message), error->message);
    if (error->request_id[0]) /* else the header's, if any, stays */
        copy_printable(to->request_id, sizeof(to->request_id), error->request_id);
}

static size_t count_children(const struct xml_node *node, const char *name)
{
    size_t count = 0;
    for (const struct xml_node *at = xml_first(node); at; at = xml_next(at))
        count += !strcmp(xml_name(at), name);
    return count;
}

/* ---- Keys. ---- */

struct keys_of {
    struct xml *xml;
    bool encoded;       /* the answer says EncodingType url */
    const char *prefix; /* that was asked for */
};

static struct keys_of read_encoding(struct xml *xml, const struct store_call *call)
{
    return (struct keys_of){
        .xml = xml,
        .encoded = !strcasecmp(xml_child_text(xml, xml_root(xml), "EncodingType"), "url"),
        .prefix = call->prefix ? call->prefix : "",
    };
}

static int decode_text(const struct keys_of *keys, const char *text, char **ret_text)
{
    struct buf decoded = BUF_INIT;
    int rc = 0;
    if (keys->encoded)
        rc = answer_url_decode(text, &decoded);
    else
        buf_add_string(&decoded, text);
    if (rc < 0)
        buf_release(&decoded);
    else
        *ret_text = buf_take(&decoded);
    return rc;
}

static bool holds_nul(const struct keys_of *keys, const char *text)
{
    return keys->encoded && strstr(text, "%00");
}

/* A key as it may be trusted: under the prefix, so that those above may cut the prefix off without looking. */
static int read_key(const struct keys_of *keys, const char *text, char **ret_key)
{
    int rc = decode_text(keys, text, ret_key);
    if (rc < 0)
        return rc;
    if (**ret_key && !strncmp(*ret_key, keys->prefix, strlen(keys->prefix)))
        return 0;
    free(*ret_key);
    *ret_key = NULL;
    return -EBADMSG;
}

/* ---- Listings. ---- */

/* MinIO: <UserMetadata><X-Amz-Meta-Mode>33188</X-Amz-Meta-Mode><content-type>text/plain</content-type>...: what HEAD would
 * not give as user metadata is no user metadata here either. */
static void read_user_metadata(struct xml *xml, const struct xml_node *node, struct store_object *object)
{
    static const char prefix[] = "x-amz-meta-";
    for (const struct xml_node *at = xml_first(node); at; at = xml_next(at)) {
        STRING_SCOPED *name = xstrdup(xml_name(at));
        for (char *c = name; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        if (strncmp(name, prefix, strlen(prefix)))
            continue;
        answer_header(object, name, xml_text(xml, at));
        if (object->meta.count >= META_MAX)
            break;
    }
    object->meta_known = true;
}

static int read_object(const struct keys_of *keys, const struct xml_node *node, struct store_object *object)
{
    struct xml *xml = keys->xml;
    const char *etag = xml_child_text(xml, node, "ETag");
    int rc = read_key(keys, xml_child_text(xml, node, "Key"), &object->key);
    if (!rc)
        rc = read_number(xml_child_text(xml, node, "Size"), INT64_MAX, &object->size);
    if (!rc)
        rc = read_time(xml_child_text(xml, node, "LastModified"), &object->modified_ns);
    if (!rc && *etag)
        rc = answer_copy_etag(object->etag, etag);
    const struct xml_node *meta = xml_child(node, "UserMetadata");
    if (!rc && meta)
        read_user_metadata(xml, meta, object);
    return rc;
}

static int read_contents(const struct keys_of *keys, const struct xml_node *root, struct store_call *call)
{
    size_t count = count_children(root, "Contents");
    if (count)
        call->objects = xrealloc(call->objects, (call->object_count + count) * sizeof(*call->objects));
    for (const struct xml_node *at = xml_first(root); at; at = xml_next(at)) {
        if (strcmp(xml_name(at), "Contents") || holds_nul(keys, xml_child_text(keys->xml, at, "Key")))
            continue;
        struct store_object *object = &call->objects[call->object_count];
        *object = (struct store_object){0};
        call->object_count++; /* at once: what is half read is released with the rest */
        int rc = read_object(keys, at, object);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_prefixes(const struct keys_of *keys, const struct xml_node *root, struct store_call *call)
{
    size_t count = count_children(root, "CommonPrefixes");
    if (count)
        call->prefixes = xrealloc(call->prefixes, (call->prefix_count + count) * sizeof(*call->prefixes));
    for (const struct xml_node *at = xml_first(root); at; at = xml_next(at)) {
        const char *text = xml_child_text(keys->xml, at, "Prefix");
        if (strcmp(xml_name(at), "CommonPrefixes") || holds_nul(keys, text))
            continue;
        char *prefix = NULL;
        int rc = read_key(keys, text, &prefix);
        if (rc < 0)
            return rc;
        call->prefixes[call->prefix_count++] = prefix;
        if (strlen(prefix) == strlen(keys->prefix))
            return -EBADMSG; /* a directory in itself */
    }
    return 0;
}

/* A page that sends us to itself would be read for ever (RunPod does so while it hashes: again, later). */
static int read_next_token(struct xml *xml, struct store_call *call)
{
    bool truncated;
    int rc = read_bool(xml_child_text(xml, xml_root(xml), "IsTruncated"), &truncated);
    if (rc < 0 || !truncated)
        return rc;
    const char *token = xml_child_text(xml, xml_root(xml), "NextContinuationToken");
    if (!*token || (call->token && !strcmp(token, call->token)))
        return -EBADMSG;
    free(call->next_token);
    call->next_token = xstrdup(token);
    return 0;
}

/* A page that was not read to its end leaves nothing behind: it is asked for again, and appended then. */
static void forget_page(struct store_call *call, size_t objects, size_t prefixes)
{
    while (call->object_count > objects)
        store_object_release(&call->objects[--call->object_count]);
    while (call->prefix_count > prefixes)
        free(call->prefixes[--call->prefix_count]);
}

int answer_list(const char *bytes, size_t length, struct store_call *call, struct answer_error *ret_error)
{
    XML_SCOPED *xml = NULL;
    int rc = open_answer(bytes, length, "ListBucketResult", &xml, ret_error);
    if (rc)
        return rc;
    struct keys_of keys = read_encoding(xml, call);
    size_t objects = call->object_count, prefixes = call->prefix_count;
    rc = read_contents(&keys, xml_root(xml), call);
    if (!rc)
        rc = read_prefixes(&keys, xml_root(xml), call);
    if (!rc)
        rc = read_next_token(xml, call);
    if (rc < 0)
        forget_page(call, objects, prefixes);
    return rc;
}

/* ---- Uploads. ---- */

int answer_create(const char *bytes, size_t length, struct store_call *call, struct answer_error *ret_error)
{
    XML_SCOPED *xml = NULL;
    int rc = open_answer(bytes, length, "InitiateMultipartUploadResult", &xml, ret_error);
    if (rc)
        return rc;
    const char *id = xml_child_text(xml, xml_root(xml), "UploadId");
    if (!*id)
        return -EBADMSG;
    free(call->new_upload_id);
    call->new_upload_id = xstrdup(id);
    return 0;
}

static const char *name_etag_answer(enum store_op op)
{
    if (op == STORE_COMPLETE)
        return "CompleteMultipartUploadResult";
    return op == STORE_PART_COPY ? "CopyPartResult" : "CopyObjectResult";
}

int answer_etag(const char *bytes, size_t length, struct store_call *call, struct answer_error *ret_error)
{
    XML_SCOPED *xml = NULL;
    int rc = open_answer(bytes, length, name_etag_answer(call->op), &xml, ret_error);
    if (rc)
        return rc;
    const char *modified = xml_child_text(xml, xml_root(xml), "LastModified");
    rc = answer_copy_etag(call->object.etag, xml_child_text(xml, xml_root(xml), "ETag"));
    if (!rc && *modified)
        rc = read_time(modified, &call->object.modified_ns);
    return rc;
}

static int read_part(struct xml *xml, const struct xml_node *node, int after, struct store_part *ret_part)
{
    uint64_t number = 0;
    int rc = read_number(xml_child_text(xml, node, "PartNumber"), STORE_PARTS_MAX, &number);
    if (rc < 0 || (int)number <= after)
        return -EBADMSG;
    *ret_part = (struct store_part){.number = (int)number};
    rc = read_number(xml_child_text(xml, node, "Size"), INT64_MAX, &ret_part->size);
    return rc ? rc : answer_copy_etag(ret_part->etag, xml_child_text(xml, node, "ETag"));
}

static int read_parts(struct xml *xml, struct store_call *call, int *last)
{
    const struct xml_node *root = xml_root(xml);
    size_t count = count_children(root, "Part");
    if (count)
        call->found_parts =
            xrealloc(call->found_parts, (call->found_part_count + count) * sizeof(*call->found_parts));
    for (const struct xml_node *at = xml_first(root); at; at = xml_next(at)) {
        if (strcmp(xml_name(at), "Part"))
            continue;
        struct store_part *part = &call->found_parts[call->found_part_count];
        int rc = read_part(xml, at, *last, part);
        if (rc < 0)
            return rc;
        call->found_part_count++;
        *last = part->number;
    }
    return 0;
}

int answer_parts(const char *bytes, size_t length, struct store_call *call, int *ret_marker,
                 struct answer_error *ret_error)
{
    XML_SCOPED *xml = NULL;
    int rc = open_answer(bytes, length, "ListPartsResult", &xml, ret_error);
    if (rc)
        return rc;
    int last = *ret_marker;
    size_t parts = call->found_part_count;
    bool truncated;
    uint64_t next = 0;
    rc = read_parts(xml, call, &last);
    if (!rc)
        rc = read_bool(xml_child_text(xml, xml_root(xml), "IsTruncated"), &truncated);
    if (!rc && truncated)
        rc = read_number(xml_child_text(xml, xml_root(xml), "NextPartNumberMarker"), STORE_PARTS_MAX, &next);
    if (!rc && truncated && ((int)next <= *ret_marker || (int)next < last))
        rc = -EBADMSG;
    if (rc < 0)
        call->found_part_count = parts;
    else
        *ret_marker = (int)next;
    return rc;
}

static int read_upload(const struct keys_of *keys, const struct xml_node *node, struct store_upload *upload)
{
    const char *id = xml_child_text(keys->xml, node, "UploadId");
    int rc = read_key(keys, xml_child_text(keys->xml, node, "Key"), &upload->key);
    upload->upload_id = xstrdup(id);
    if (!rc && !*id)
        rc = -EBADMSG;
    return rc ? rc : read_time(xml_child_text(keys->xml, node, "Initiated"), &upload->initiated_ns);
}

static int read_uploads(const struct keys_of *keys, struct store_call *call)
{
    const struct xml_node *root = xml_root(keys->xml);
    size_t count = count_children(root, "Upload");
    if (count)
        call->uploads = xrealloc(call->uploads, (call->upload_count + count) * sizeof(*call->uploads));
    for (const struct xml_node *at = xml_first(root); at; at = xml_next(at)) {
        if (strcmp(xml_name(at), "Upload") || holds_nul(keys, xml_child_text(keys->xml, at, "Key")))
            continue;
        struct store_upload *upload = &call->uploads[call->upload_count++];
        *upload = (struct store_upload){0};
        int rc = read_upload(keys, at, upload);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void forget_uploads(struct store_call *call, size_t kept)
{
    while (call->upload_count > kept) {
        struct store_upload *upload = &call->uploads[--call->upload_count];
        free(upload->key);
        free(upload->upload_id);
    }
}

static bool is_same(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

static int read_markers(const struct keys_of *keys, char **ret_key_marker, char **ret_id_marker)
{
    const struct xml_node *root = xml_root(keys->xml);
    STRING_SCOPED *key = NULL;
    STRING_SCOPED *id = xstrdup(xml_child_text(keys->xml, root, "NextUploadIdMarker"));
    bool truncated;
    int rc = read_bool(xml_child_text(keys->xml, root, "IsTruncated"), &truncated);
    if (!rc && truncated)
        rc = decode_text(keys, xml_child_text(keys->xml, root, "NextKeyMarker"), &key);
    if (!rc && truncated && (!*key || (is_same(key, *ret_key_marker) && is_same(id, *ret_id_marker))))
        rc = -EBADMSG;
    if (rc < 0)
        return rc;
    free(*ret_key_marker);
    free(*ret_id_marker);
    *ret_key_marker = truncated ? xstrdup(key) : NULL;
    *ret_id_marker = truncated && *id ? xstrdup(id) : NULL;
    return 0;
}

int answer_uploads(const char *bytes, size_t length, struct store_call *call, char **ret_key_marker,
                   char **ret_id_marker, struct answer_error *ret_error)
{
    XML_SCOPED *xml = NULL;
    int rc = open_answer(bytes, length, "ListMultipartUploadsResult", &xml, ret_error);
    if (rc)
        return rc;
    struct keys_of keys = read_encoding(xml, call);
    size_t uploads = call->upload_count;
    rc = read_uploads(&keys, call);
    if (!rc)
        rc = read_markers(&keys, ret_key_marker, ret_id_marker);
    if (rc < 0)
        forget_uploads(call, uploads);
    return rc;
}

/* ---- Tags. ---- */

static size_t count_characters(const char *text)
{
    size_t count = 0;
    uint32_t code;
    for (size_t length = strlen(text), step; length; length -= step, text += step, count++)
        if (!(step = utf8_decode(text, length, &code)))
            return SIZE_MAX;
    return count;
}

static int read_tag(struct xml *xml, const struct xml_node *node, struct store_fields *tags)
{
    const char *name = xml_child_text(xml, node, "Key"), *value = xml_child_text(xml, node, "Value");
    if (!*name || count_characters(name) > TAG_NAME_MAX || count_characters(value) > TAG_VALUE_MAX)
        return -EBADMSG;
    if (tags->count == STORE_TAGS_MAX || store_fields_get(tags, name))
        return -EBADMSG;
    store_fields_add(tags, name, value);
    return 0;
}

int answer_tags(const char *bytes, size_t length, struct store_call *call, struct answer_error *ret_error)
{
    XML_SCOPED *xml = NULL;
    int rc = open_answer(bytes, length, "Tagging", &xml, ret_error);
    if (rc)
        return rc;
    const struct xml_node *set = xml_child(xml_root(xml), "TagSet");
    struct store_fields tags = {0};
    if (!set)
        return -EBADMSG;
    for (const struct xml_node *at = xml_first(set); at && !rc; at = xml_next(at))
        if (!strcmp(xml_name(at), "Tag"))
            rc = read_tag(xml, at, &tags);
    if (!rc)
        store_fields_copy(&call->found_tags, &tags);
    store_fields_release(&tags);
    return rc;
}

/* ---- Deletes. ---- */

static const char *find_key(const struct store_call *call, const char *key)
{
    for (size_t i = 0; i < call->key_count; i++)
        if (!strcmp(call->keys[i], key))
            return call->keys[i];
    return NULL;
}

static int read_failure(struct xml *xml, const struct xml_node *node, struct store_call *call)
{
    const char *code = xml_child_text(xml, node, "Code");
    const char *key = find_key(call, xml_child_text(xml, node, "Key"));
    if (!key)
        return -EBADMSG; /* something failed, and we do not know what */
    int rc = code_find(500, code)->rc;
    if (rc == -ENOENT)
        return 0;
    struct store_failure *failure = &call->failures[call->failure_count++];
    *failure = (struct store_failure){.key = key, .rc = rc};
    copy_printable(failure->code, sizeof(failure->code), code);
    return 0;
}

int answer_delete(const char *bytes, size_t length, struct store_call *call, struct answer_error *ret_error)
{
    XML_SCOPED *xml = NULL;
    int rc = open_answer(bytes, length, "DeleteResult", &xml, ret_error);
    if (rc)
        return rc;
    size_t count = count_children(xml_root(xml), "Error");
    if (count > call->key_count)
        return -EBADMSG;
    if (count)
        call->failures = xrealloc(call->failures, (call->failure_count + count) * sizeof(*call->failures));
    size_t failures = call->failure_count;
    for (const struct xml_node *at = xml_first(xml_root(xml)); at && !rc; at = xml_next(at))
        if (!strcmp(xml_name(at), "Error"))
            rc = read_failure(xml, at, call);
    if (rc < 0)
        call->failure_count = failures;
    return rc;
}
