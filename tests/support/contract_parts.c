/* The contract of multipart uploads. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "tests/support/contract_hands.h"

#define PART_BYTES (5 * MIB) /* S3's smallest */

static char *create_upload(struct contract *contract, const char *key, const struct store_fields *meta)
{
    CALL_SCOPED call = {.op = STORE_CREATE, .key = key, .meta = meta};
    if (contract_call(contract, &call) < 0 || !call.new_upload_id || !*call.new_upload_id) {
        contract_fail_call(contract, __FILE_NAME__, __LINE__, &call, "0 and an upload id");
        return NULL;
    }
    char *id = call.new_upload_id;
    call.new_upload_id = NULL;
    return id;
}

static void send_part(struct contract *contract, const char *key, const char *id, int number,
                      const void *bytes, size_t length, struct store_part *ret_part)
{
    struct iovec from = {(void *)(uintptr_t)bytes, length};
    CALL_SCOPED call = {
        .op = STORE_PART, .key = key, .upload_id = id, .part_number = number, .from = &from, .from_count = 1};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
    *ret_part = (struct store_part){.number = number, .size = length};
    memcpy(ret_part->etag, call.object.etag, STORE_ETAG_MAX);
    BUF_SCOPED md5 = BUF_INIT;
    contract_md5(bytes, length, &md5);
    CLAIM(contract, strcmp(ret_part->etag, md5.bytes) == 0, "part %d has %s, not its MD5", number,
          ret_part->etag);
}

static int complete_upload(struct contract *contract, struct store_call *call, const char *key,
                           const char *id, const struct store_part *parts, size_t count)
{
    call->op = STORE_COMPLETE;
    call->key = key;
    call->upload_id = id;
    call->parts = parts;
    call->part_count = count;
    return contract_call(contract, call);
}

static void abort_upload(struct contract *contract, const char *key, const char *id)
{
    CALL_SCOPED call = {.op = STORE_ABORT, .key = key, .upload_id = id};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
}

/* hex(md5(md5 md5 ...))-N, as S3 makes it. */
static void print_composite(const char *bytes, const size_t *lengths, size_t count, struct buf *out)
{
    BUF_SCOPED digests = BUF_INIT;
    uint8_t md5[MD5_BYTES];
    for (size_t i = 0; i < count; i++) {
        struct iovec piece = {(void *)(uintptr_t)bytes, lengths[i]};
        digest_md5_pieces(&piece, 1, md5);
        buf_add(&digests, md5, MD5_BYTES);
        bytes += lengths[i];
    }
    struct iovec all = {digests.bytes, digests.length};
    digest_md5_pieces(&all, 1, md5);
    buf_add_char(out, '"');
    buf_add_hex(out, md5, MD5_BYTES);
    buf_printf(out, "-%zu\"", count);
}

static void case_multipart_round_trip(struct contract *contract)
{
    static const size_t lengths[] = {PART_BYTES, PART_BYTES, 12345};
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *noise = contract_noise(2 * PART_BYTES + 12345, 6);
    struct store_fields meta __attribute__((cleanup(store_fields_release))) = {0};
    store_fields_add(&meta, "mode", "33188");
    store_fields_add(&meta, "odd", "100% \"sure\"");
    STRING_SCOPED *id = create_upload(contract, key, &meta);
    STILL_GOOD(contract);
    struct store_part parts[3];
    for (int i = 2; i >= 0; i--) { /* parts may come in any order */
        send_part(contract, key, id, i + 1, noise + (size_t)i * PART_BYTES, lengths[i], &parts[i]);
        STILL_GOOD(contract);
    }
    contract_expect_missing(contract, key); /* nothing of it is visible before Complete */
    STILL_GOOD(contract);
    CALL_SCOPED complete = {0};
    complete_upload(contract, &complete, key, id, parts, 3);
    CLAIM_RC(contract, &complete, 0);
    BUF_SCOPED etag = BUF_INIT;
    print_composite(noise, lengths, 3, &etag);
    CLAIM(contract, strcmp(complete.object.etag, etag.bytes) == 0, "%s is not %s", complete.object.etag,
          etag.bytes);
    contract_expect(contract, key, noise, 2 * PART_BYTES + 12345);
    STILL_GOOD(contract);
    CALL_SCOPED head = {.op = STORE_HEAD, .key = key};
    contract_call(contract, &head);
    CLAIM_RC(contract, &head, 0);
    const char *odd = store_fields_get(&head.object.meta, "odd");
    CLAIM(contract, odd && strcmp(odd, "100% \"sure\"") == 0, "the metadata of Create: %s",
          odd ? odd : "(none)");
    CLAIM(contract, strcmp(head.object.etag, etag.bytes) == 0, "HEAD has %s", head.object.etag);
}

static void case_part_sent_again_replaces(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *id = create_upload(contract, key, NULL);
    STILL_GOOD(contract);
    struct store_part part;
    send_part(contract, key, id, 1, "the old bytes", 13, &part);
    STILL_GOOD(contract);
    send_part(contract, key, id, 1, "new", 3, &part);
    STILL_GOOD(contract);
    CALL_SCOPED complete = {0};
    complete_upload(contract, &complete, key, id, &part, 1);
    CLAIM_RC(contract, &complete, 0);
    contract_expect_text(contract, key, "new");
}

static void case_list_parts(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *id = create_upload(contract, key, NULL);
    STILL_GOOD(contract);
    CALL_SCOPED none = {.op = STORE_LIST_PARTS, .key = key, .upload_id = id};
    contract_call(contract, &none);
    CLAIM_RC(contract, &none, 0);
    CLAIM(contract, none.found_part_count == 0, "%zu parts before the first", none.found_part_count);
    struct store_part sent[2];
    send_part(contract, key, id, 7, "seven", 5, &sent[1]);
    STILL_GOOD(contract);
    send_part(contract, key, id, 2, "two", 3, &sent[0]);
    STILL_GOOD(contract);
    CALL_SCOPED list = {.op = STORE_LIST_PARTS, .key = key, .upload_id = id};
    contract_call(contract, &list);
    CLAIM_RC(contract, &list, 0);
    CLAIM(contract, list.found_part_count == 2, "%zu parts", list.found_part_count);
    for (size_t i = 0; i < 2; i++) {
        const struct store_part *found = &list.found_parts[i];
        CLAIM(contract,
              found->number == sent[i].number && found->size == sent[i].size &&
                  strcmp(found->etag, sent[i].etag) == 0,
              "part %d, %llu bytes, %s", found->number, (unsigned long long)found->size, found->etag);
    }
    abort_upload(contract, key, id);
}

static void case_abort_forgets(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *id = create_upload(contract, key, NULL);
    STILL_GOOD(contract);
    struct store_part part;
    send_part(contract, key, id, 1, "x", 1, &part);
    STILL_GOOD(contract);
    abort_upload(contract, key, id);
    STILL_GOOD(contract);
    abort_upload(contract, key, id); /* what is gone already is success */
    STILL_GOOD(contract);
    CALL_SCOPED complete = {0};
    complete_upload(contract, &complete, key, id, &part, 1);
    CLAIM_RC(contract, &complete, -ENOENT);
    CLAIM(contract, strcmp(complete.error.code, "NoSuchUpload") == 0, "S3's word is %s", complete.error.code);
    CALL_SCOPED list = {.op = STORE_LIST_PARTS, .key = key, .upload_id = id};
    contract_call(contract, &list);
    CLAIM_RC(contract, &list, -ENOENT);
    struct iovec from = {(char[]){'y'}, 1};
    CALL_SCOPED late = {
        .op = STORE_PART, .key = key, .upload_id = id, .part_number = 2, .from = &from, .from_count = 1};
    contract_call(contract, &late);
    CLAIM_RC(contract, &late, -ENOENT);
    contract_expect_missing(contract, key);
}

static void case_list_uploads(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "an object");
    STRING_SCOPED *id = create_upload(contract, key, NULL);
    STILL_GOOD(contract);
    CALL_SCOPED list = {.op = STORE_LIST_UPLOADS,
                        .prefix = contract->setup->lists_uploads ? contract->folder : key};
    contract_call(contract, &list);
    CLAIM_RC(contract, &list, 0);
    CLAIM(contract, list.upload_count == 1, "%zu uploads", list.upload_count);
    CLAIM(contract, strcmp(list.uploads[0].key, key) == 0, "its key is %s", list.uploads[0].key);
    CLAIM(contract, strcmp(list.uploads[0].upload_id, id) == 0, "its id is %s", list.uploads[0].upload_id);
    int64_t age_s = (clock_wall_ns() - list.uploads[0].initiated_ns) / 1000000000;
    CLAIM(contract, age_s > -120 && age_s < 120, "it began %lld s ago", (long long)age_s);
    if (contract->setup->lists_uploads) {
        CALL_SCOPED behind = {
            .op = STORE_LIST_UPLOADS, .prefix = contract->folder, .start_after = key, .upload_id = id};
        contract_call(contract, &behind);
        CLAIM_RC(contract, &behind, 0);
        CLAIM(contract, behind.upload_count == 0, "%zu uploads behind the last", behind.upload_count);
    }
    abort_upload(contract, key, id);
    STILL_GOOD(contract);
    CALL_SCOPED after = {.op = STORE_LIST_UPLOADS, .prefix = key};
    contract_call(contract, &after);
    CLAIM_RC(contract, &after, 0);
    CLAIM(contract, after.upload_count == 0, "%zu uploads after the abort", after.upload_count);
}

static void case_complete_refuses_wrong_parts(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *id = create_upload(contract, key, NULL);
    STILL_GOOD(contract);
    struct store_part parts[2], wrong;
    send_part(contract, key, id, 1, "small", 5, &parts[0]);
    STILL_GOOD(contract);
    send_part(contract, key, id, 2, "last", 4, &parts[1]);
    STILL_GOOD(contract);
    wrong = parts[0];
    memcpy(wrong.etag, parts[1].etag, sizeof(wrong.etag));
    CALL_SCOPED other = {0};
    complete_upload(contract, &other, key, id, &wrong, 1);
    CLAIM(contract, other.rc < 0 && strcmp(other.error.code, "InvalidPart") == 0,
          "an ETag of another part: %s, %s", err_name(other.rc), other.error.code);
    CALL_SCOPED small = {0};
    complete_upload(contract, &small, key, id, parts, 2);
    CLAIM(contract, small.rc < 0 && strcmp(small.error.code, "EntityTooSmall") == 0, "a small part: %s, %s",
          err_name(small.rc), small.error.code);
    contract_expect_missing(contract, key);
    STILL_GOOD(contract);
    abort_upload(contract, key, id);
}

static void case_complete_under_conditions(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    char etag[STORE_ETAG_MAX] = "";
    contract_probe(contract);
    STILL_GOOD(contract);
    if (contract->abilities.conditional_put == ABILITY_NO)
        return;
    STRING_SCOPED *id = create_upload(contract, key, NULL);
    STILL_GOOD(contract);
    struct store_part part;
    send_part(contract, key, id, 1, "parts", 5, &part);
    STILL_GOOD(contract);
    contract_put(contract, key, "other", 5, etag);
    STILL_GOOD(contract);
    CALL_SCOPED exists = {.if_absent = true};
    complete_upload(contract, &exists, key, id, &part, 1);
    CLAIM_RC(contract, &exists, -EEXIST);
    CALL_SCOPED stale = {.if_match = "\"00000000000000000000000000000000\""};
    complete_upload(contract, &stale, key, id, &part, 1);
    CLAIM_RC(contract, &stale, -ESTALE);
    contract_expect_text(contract, key, "other");
    STILL_GOOD(contract);
    CALL_SCOPED good = {.if_match = etag};
    complete_upload(contract, &good, key, id, &part, 1);
    CLAIM_RC(contract, &good, 0);
    contract_expect_text(contract, key, "parts");
}

static void case_part_copy(struct contract *contract)
{
    STRING_SCOPED *source = contract_key(contract, "source");
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *noise = contract_noise(PART_BYTES + 1000, 7);
    char etag[STORE_ETAG_MAX] = "";
    contract_probe(contract);
    STILL_GOOD(contract);
    if (contract->abilities.part_copy == ABILITY_NO)
        return;
    contract_put(contract, source, noise, PART_BYTES + 1000, etag);
    STILL_GOOD(contract);
    STRING_SCOPED *id = create_upload(contract, key, NULL);
    STILL_GOOD(contract);
    CALL_SCOPED copy = {.op = STORE_PART_COPY,
                        .key = key,
                        .upload_id = id,
                        .part_number = 1,
                        .source_key = source,
                        .source_if_match = etag,
                        .offset = 500,
                        .length = PART_BYTES};
    contract_call(contract, &copy);
    CLAIM_RC(contract, &copy, 0);
    struct store_part parts[2] = {{.number = 1, .size = PART_BYTES}};
    memcpy(parts[0].etag, copy.object.etag, STORE_ETAG_MAX);
    send_part(contract, key, id, 2, "tail", 4, &parts[1]);
    STILL_GOOD(contract);
    CALL_SCOPED stale = {.op = STORE_PART_COPY,
                         .key = key,
                         .upload_id = id,
                         .part_number = 3,
                         .source_key = source,
                         .source_if_match = "\"00000000000000000000000000000000\"",
                         .offset = 0,
                         .length = 1000};
    contract_call(contract, &stale);
    CLAIM_RC(contract, &stale, -ESTALE);
    CALL_SCOPED complete = {0};
    complete_upload(contract, &complete, key, id, parts, 2);
    CLAIM_RC(contract, &complete, 0);
    STRING_SCOPED *wanted = xmalloc(PART_BYTES + 4);
    memcpy(wanted, noise + 500, PART_BYTES);
    memcpy(wanted + PART_BYTES, "tail", 4);
    contract_expect(contract, key, wanted, PART_BYTES + 4);
}

static void case_tags_go_with_create(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    struct store_fields tags __attribute__((cleanup(store_fields_release))) = {0};
    store_fields_add(&tags, "a key", "a+b=c");
    CALL_SCOPED create = {.op = STORE_CREATE, .key = key, .tags = &tags};
    contract_call(contract, &create);
    CLAIM_RC(contract, &create, 0);
    struct store_part part = {.number = 1};
    send_part(contract, key, create.new_upload_id, 1, "text", 4, &part);
    STILL_GOOD(contract);
    CALL_SCOPED complete = {0};
    complete_upload(contract, &complete, key, create.new_upload_id, &part, 1);
    CLAIM_RC(contract, &complete, 0);
    CALL_SCOPED call = {.op = STORE_GET_TAGS, .key = key};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
    const char *value = store_fields_get(&call.found_tags, "a key");
    CLAIM(contract, value && strcmp(value, "a+b=c") == 0, "it came back as %s", value ? value : "(nothing)");
}

const struct contract_case contract_parts[] = {
    {"multipart_round_trip", case_multipart_round_trip},
    {"part_sent_again_replaces", case_part_sent_again_replaces},
    {"list_parts", case_list_parts},
    {"abort_forgets", case_abort_forgets},
    {"list_uploads", case_list_uploads},
    {"complete_refuses_wrong_parts", case_complete_refuses_wrong_parts},
    {"complete_under_conditions", case_complete_under_conditions},
    {"part_copy", case_part_copy},
    {"tags_go_with_create", case_tags_go_with_create},
    {NULL, NULL},
};
