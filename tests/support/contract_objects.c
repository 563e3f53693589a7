/* The contract of single objects: whole, in ranges, under conditions, with metadata, copied. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "tests/support/contract_hands.h"

/* ---- Whole objects. ---- */

static void case_put_get_round_trip(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *noise = contract_noise(300000, 1);
    BUF_SCOPED md5 = BUF_INIT;
    char etag[STORE_ETAG_MAX] = "";
    contract_put(contract, key, noise, 300000, etag);
    STILL_GOOD(contract);
    contract_expect(contract, key, noise, 300000);
    STILL_GOOD(contract);
    contract_md5(noise, 300000, &md5);
    CLAIM(contract, strcmp(etag, md5.bytes) == 0, "the ETag of a plain PUT is its MD5 %s, not %s", md5.bytes,
          etag);
}

static void case_put_in_pieces(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *noise = contract_noise(10000, 2);
    struct iovec from[] = {{noise, 1}, {noise + 1, 0}, {noise + 1, 4095}, {noise + 4096, 5904}};
    CALL_SCOPED call = {.op = STORE_PUT, .key = key, .from = from, .from_count = 4};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
    contract_expect(contract, key, noise, 10000);
}

static void case_put_replaces(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    contract_put_text(contract, key, "the first and longer");
    STILL_GOOD(contract);
    contract_put_text(contract, key, "second");
    STILL_GOOD(contract);
    contract_expect_text(contract, key, "second");
}

static void case_empty_objects(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "empty");
    CALL_SCOPED put = {.op = STORE_PUT, .key = key};
    contract_call(contract, &put);
    CLAIM_RC(contract, &put, 0);
    CALL_SCOPED head = {.op = STORE_HEAD, .key = key};
    contract_call(contract, &head);
    CLAIM_RC(contract, &head, 0);
    CLAIM(contract, head.object.size == 0, "size %llu", (unsigned long long)head.object.size);
    char byte = 'x';
    struct iovec into = {&byte, 1};
    CALL_SCOPED get = {.op = STORE_GET, .key = key, .length = 1, .into = &into, .into_count = 1};
    contract_call(contract, &get);
    CLAIM_RC(contract, &get, 0); /* S3's 416 is the end of the file */
    CLAIM(contract, get.received == 0 && byte == 'x', "nothing lands");
}

static void case_head_tells_all(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    char etag[STORE_ETAG_MAX] = "";
    contract_put(contract, key, "twelve bytes", 12, etag);
    STILL_GOOD(contract);
    CALL_SCOPED call = {.op = STORE_HEAD, .key = key};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
    int64_t age_s = (clock_wall_ns() - call.object.modified_ns) / 1000000000;
    CLAIM(contract, call.object.size == 12, "size %llu", (unsigned long long)call.object.size);
    CLAIM(contract, strcmp(call.object.etag, etag) == 0, "%s is not %s", call.object.etag, etag);
    CLAIM(contract, age_s > -120 && age_s < 120, "it was modified %lld s ago", (long long)age_s);
    CLAIM(contract, call.object.meta_known, "HEAD tells the metadata");
    CLAIM(contract, store_fields_get(&call.object.headers, "content-type") != NULL, "HEAD tells the headers");
}

static void case_missing_keys(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "missing");
    char bytes[8];
    struct iovec into = {bytes, sizeof(bytes)};
    CALL_SCOPED get = {.op = STORE_GET, .key = key, .length = 8, .into = &into, .into_count = 1};
    contract_call(contract, &get);
    CLAIM_RC(contract, &get, -ENOENT);
    CLAIM(contract, strcmp(get.error.code, "NoSuchKey") == 0 && get.error.http_status == 404,
          "S3's words are %s (%d)", get.error.code, get.error.http_status);
    CLAIM(contract, get.received == 0, "nothing landed");
    contract_expect_missing(contract, key);
    STILL_GOOD(contract);
    CALL_SCOPED remove = {.op = STORE_DELETE, .key = key};
    contract_call(contract, &remove);
    CLAIM_RC(contract, &remove, 0);
    STRING_SCOPED *to = contract_key(contract, "copy");
    CALL_SCOPED copy = {.op = STORE_COPY, .key = to, .source_key = key};
    contract_call(contract, &copy);
    CLAIM_RC(contract, &copy, -ENOENT);
}

static void case_delete_removes(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    contract_put_text(contract, key, "text");
    STILL_GOOD(contract);
    CALL_SCOPED call = {.op = STORE_DELETE, .key = key};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
    contract_expect_missing(contract, key);
}

static void case_too_long_keys(struct contract *contract)
{
    STRING_SCOPED *key = xmalloc(STORE_KEY_MAX + 2);
    memset(key, 'k', STORE_KEY_MAX + 1);
    key[STORE_KEY_MAX + 1] = '\0';
    CALL_SCOPED call = {.op = STORE_PUT, .key = key};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, -ENAMETOOLONG);
}

/* ---- Ranges. ---- */

struct range {
    uint64_t offset, length, wanted;
};

static void expect_range(struct contract *contract, const char *key, const char *whole,
                         const struct range *range)
{
    char into[2048];
    memset(into, '#', sizeof(into));
    struct iovec piece = {into, range->length};
    CALL_SCOPED call = {.op = STORE_GET,
                        .key = key,
                        .offset = range->offset,
                        .length = range->length,
                        .into = &piece,
                        .into_count = 1};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
    CLAIM(contract, call.received == range->wanted, "%llu bytes of %llu+%llu",
          (unsigned long long)call.received, (unsigned long long)range->offset,
          (unsigned long long)range->length);
    CLAIM(contract, !range->wanted || memcmp(into, whole + range->offset, range->wanted) == 0,
          "the bytes of %llu+%llu", (unsigned long long)range->offset, (unsigned long long)range->length);
    CLAIM(contract, into[range->wanted] == '#', "nothing lands behind the end");
    CLAIM(contract, !range->wanted || call.object.size == 1000, "a GET tells the whole size, not %llu",
          (unsigned long long)call.object.size);
}

static void case_ranges(struct contract *contract)
{
    static const struct range ranges[] = {
        {0, 1, 1},     {0, 1000, 1000}, {0, 1001, 1000}, {1, 999, 999}, {999, 1, 1},
        {999, 100, 1}, {500, 100, 100}, {1000, 1, 0},    {1500, 10, 0},
    };
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *noise = contract_noise(1000, 3);
    contract_put(contract, key, noise, 1000, NULL);
    for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
        STILL_GOOD(contract);
        expect_range(contract, key, noise, &ranges[i]);
    }
}

static void case_range_into_pieces(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *noise = contract_noise(100000, 4);
    STRING_SCOPED *into = xcalloc(1, 50000);
    contract_put(contract, key, noise, 100000, NULL);
    STILL_GOOD(contract);
    /* The pieces lie in memory in another order than in the object. */
    struct iovec pieces[] = {{into + 30000, 20000}, {into, 1}, {into + 1, 29999}};
    CALL_SCOPED call = {
        .op = STORE_GET, .key = key, .offset = 777, .length = 50000, .into = pieces, .into_count = 3};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
    CLAIM(contract, call.received == 50000, "%llu", (unsigned long long)call.received);
    CLAIM(contract, memcmp(into + 30000, noise + 777, 20000) == 0, "the first piece");
    CLAIM(contract, memcmp(into, noise + 777 + 20000, 30000) == 0, "the other pieces");
}

/* Around its call: store_wait() uses the call's owner itself. */
struct landing {
    struct store_call call;
    uint64_t last;
    bool went_back;
    size_t times;
};

static void note_landed(struct store_call *call, uint64_t landed)
{
    struct landing *landing = container_of(call, struct landing, call);
    if (landed < landing->last)
        landing->went_back = true;
    landing->last = landed;
    landing->times++;
}

static void case_landed_never_goes_back(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    size_t length = 3 * MIB;
    STRING_SCOPED *noise = contract_noise(length, 5);
    STRING_SCOPED *into = xmalloc(length);
    contract_put(contract, key, noise, length, NULL);
    STILL_GOOD(contract);
    struct iovec piece = {into, length};
    struct landing landing = {.call = {.op = STORE_GET,
                                       .key = key,
                                       .length = length,
                                       .into = &piece,
                                       .into_count = 1,
                                       .landed = note_landed}};
    contract_call(contract, &landing.call);
    int rc = landing.call.rc;
    store_call_release(&landing.call);
    CLAIM(contract, rc == 0, "rc %s", err_name(rc));
    CLAIM(contract, landing.times && !landing.went_back, "called %zu times", landing.times);
    CLAIM(contract, landing.last == length, "the last word is %llu", (unsigned long long)landing.last);
    CLAIM(contract, memcmp(into, noise, length) == 0, "the bytes");
}

/* ---- Conditions. ---- */

static void case_get_if_match(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    char etag[STORE_ETAG_MAX] = "", bytes[8];
    contract_put(contract, key, "old", 3, etag);
    STILL_GOOD(contract);
    struct iovec into = {bytes, sizeof(bytes)};
    CALL_SCOPED good = {
        .op = STORE_GET, .key = key, .length = 8, .into = &into, .into_count = 1, .if_match = etag};
    contract_call(contract, &good);
    CLAIM_RC(contract, &good, 0);
    contract_put_text(contract, key, "new");
    STILL_GOOD(contract);
    CALL_SCOPED stale = {
        .op = STORE_GET, .key = key, .length = 8, .into = &into, .into_count = 1, .if_match = etag};
    contract_call(contract, &stale);
    CLAIM_RC(contract, &stale, -ESTALE);
    CLAIM(contract, stale.error.http_status == 412, "status %d", stale.error.http_status);
    CLAIM(contract, stale.received == 0, "nothing of the other version lands");
}

static void case_put_if_absent(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    contract_probe(contract);
    STILL_GOOD(contract);
    if (contract->abilities.conditional_put == ABILITY_NO)
        return;
    struct iovec from = {(char[]){'a'}, 1};
    CALL_SCOPED first = {.op = STORE_PUT, .key = key, .from = &from, .from_count = 1, .if_absent = true};
    contract_call(contract, &first);
    CLAIM_RC(contract, &first, 0);
    CALL_SCOPED second = {.op = STORE_PUT, .key = key, .if_absent = true};
    contract_call(contract, &second);
    CLAIM_RC(contract, &second, -EEXIST);
    CLAIM(contract, !second.unknown, "a 412 at the first attempt is a clear answer");
    contract_expect_text(contract, key, "a");
}

static void case_put_if_match(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *gone = contract_key(contract, "gone");
    char etag[STORE_ETAG_MAX] = "";
    contract_probe(contract);
    STILL_GOOD(contract);
    if (contract->abilities.conditional_put == ABILITY_NO)
        return;
    contract_put(contract, key, "one", 3, etag);
    STILL_GOOD(contract);
    struct iovec from = {(char[]){'2'}, 1};
    CALL_SCOPED good = {.op = STORE_PUT, .key = key, .from = &from, .from_count = 1, .if_match = etag};
    contract_call(contract, &good);
    CLAIM_RC(contract, &good, 0);
    CALL_SCOPED stale = {.op = STORE_PUT, .key = key, .if_match = etag};
    contract_call(contract, &stale);
    CLAIM_RC(contract, &stale, -ESTALE);
    CALL_SCOPED missing = {.op = STORE_PUT, .key = gone, .if_match = etag};
    contract_call(contract, &missing);
    CLAIM(contract, missing.rc == -ENOENT || missing.rc == -ESTALE, "a key that is gone: %s",
          err_name(missing.rc));
    contract_expect_text(contract, key, "2");
    STILL_GOOD(contract);
    contract_expect_missing(contract, gone);
}

static void case_delete_if_match(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    char etag[STORE_ETAG_MAX] = "";
    contract_probe(contract);
    STILL_GOOD(contract);
    if (contract->abilities.conditional_delete != ABILITY_YES)
        return;
    contract_put(contract, key, "one", 3, etag);
    STILL_GOOD(contract);
    CALL_SCOPED stale = {.op = STORE_DELETE, .key = key, .if_match = "\"00000000000000000000000000000000\""};
    contract_call(contract, &stale);
    CLAIM_RC(contract, &stale, -ESTALE);
    contract_expect_text(contract, key, "one");
    STILL_GOOD(contract);
    CALL_SCOPED good = {.op = STORE_DELETE, .key = key, .if_match = etag};
    contract_call(contract, &good);
    CLAIM_RC(contract, &good, 0);
    contract_expect_missing(contract, key);
}

/* ---- Metadata. ---- */

static const struct {
    const char *name, *value;
} odd_meta[] = {
    {"mode", "33188"},
    {"mtime", "1732450000.123456789"},
    {"percent", "100%25 %zz"},
    {"quotes", "\"double\" and 'single'"},
    {"xml", "<a href=\"b\">&amp;</a>"},
    {"separators", "a,b;c=d:e"},
    {"name-with-dashes.and_more", "x"},
    {"inner", "one two"},
    {"signs", "!#$&*+./?@[]^`{|}~\\"},
    {"zero", "0"},
};

static void fill_odd_meta(struct store_fields *fields)
{
    for (size_t i = 0; i < sizeof(odd_meta) / sizeof(*odd_meta); i++)
        store_fields_add(fields, odd_meta[i].name, odd_meta[i].value);
}

static void expect_odd_meta(struct contract *contract, const struct store_object *object)
{
    for (size_t i = 0; i < sizeof(odd_meta) / sizeof(*odd_meta); i++) {
        const char *value = store_fields_get(&object->meta, odd_meta[i].name);
        CLAIM(contract, value && strcmp(value, odd_meta[i].value) == 0, "%s came back as %s, sent as %s",
              odd_meta[i].name, value ? value : "(nothing)", odd_meta[i].value);
    }
    CLAIM(contract, object->meta.count == sizeof(odd_meta) / sizeof(*odd_meta), "%zu pairs",
          object->meta.count);
}

static void case_metadata_round_trip(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    struct store_fields meta __attribute__((cleanup(store_fields_release))) = {0};
    struct store_fields headers __attribute__((cleanup(store_fields_release))) = {0};
    fill_odd_meta(&meta);
    store_fields_add(&headers, "content-type", "text/x-odd; charset=utf-8");
    store_fields_add(&headers, "cache-control", "max-age=60");
    store_fields_add(&headers, "content-disposition", "attachment; filename=\"a b\"");
    CALL_SCOPED put = {.op = STORE_PUT, .key = key, .meta = &meta, .headers = &headers};
    contract_call(contract, &put);
    CLAIM_RC(contract, &put, 0);
    CALL_SCOPED head = {.op = STORE_HEAD, .key = key};
    contract_call(contract, &head);
    CLAIM_RC(contract, &head, 0);
    expect_odd_meta(contract, &head.object);
    for (size_t i = 0; i < headers.count && !contract->failed; i++) {
        const char *value = store_fields_get(&head.object.headers, headers.all[i].name);
        CLAIM(contract, value && strcmp(value, headers.all[i].value) == 0, "%s: %s", headers.all[i].name,
              value ? value : "(nothing)");
    }
}

static void case_get_tells_metadata(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    struct store_fields meta __attribute__((cleanup(store_fields_release))) = {0};
    fill_odd_meta(&meta);
    struct iovec from = {(char[]){"abc"}, 3};
    CALL_SCOPED put = {.op = STORE_PUT, .key = key, .from = &from, .from_count = 1, .meta = &meta};
    contract_call(contract, &put);
    CLAIM_RC(contract, &put, 0);
    char bytes[2];
    struct iovec into = {bytes, 2};
    CALL_SCOPED get = {.op = STORE_GET, .key = key, .offset = 1, .length = 2, .into = &into, .into_count = 1};
    contract_call(contract, &get);
    CLAIM_RC(contract, &get, 0);
    CLAIM(contract, memcmp(bytes, "bc", 2) == 0, "the bytes");
    CLAIM(contract, get.object.meta_known && strcmp(get.object.etag, put.object.etag) == 0, "ETag %s",
          get.object.etag);
    expect_odd_meta(contract, &get.object);
}

static void case_listing_tells_metadata(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    struct store_fields meta __attribute__((cleanup(store_fields_release))) = {0};
    fill_odd_meta(&meta);
    contract_probe(contract);
    STILL_GOOD(contract);
    CALL_SCOPED put = {.op = STORE_PUT, .key = key, .meta = &meta};
    contract_call(contract, &put);
    CLAIM_RC(contract, &put, 0);
    CALL_SCOPED list = {.op = STORE_LIST, .prefix = key};
    contract_call(contract, &list);
    CLAIM_RC(contract, &list, 0);
    CLAIM(contract, list.object_count == 1, "%zu objects", list.object_count);
    if (contract->abilities.list_meta == ABILITY_YES) {
        CLAIM(contract, list.objects[0].meta_known, "the metadata is in the listing");
        expect_odd_meta(contract, &list.objects[0]);
    } else if (contract->abilities.list_meta == ABILITY_NO) {
        CLAIM(contract, !list.objects[0].meta_known, "what is not told is not known");
    }
}

/* ---- Copies. ---- */

static void case_copy_keeps_all(struct contract *contract)
{
    STRING_SCOPED *from_key = contract_key(contract, "from");
    STRING_SCOPED *to_key = contract_key(contract, "to");
    struct store_fields meta __attribute__((cleanup(store_fields_release))) = {0};
    struct store_fields headers __attribute__((cleanup(store_fields_release))) = {0};
    fill_odd_meta(&meta);
    store_fields_add(&headers, "content-type", "text/x-copied");
    struct iovec from = {(char[]){"body"}, 4};
    CALL_SCOPED put = {
        .op = STORE_PUT, .key = from_key, .from = &from, .from_count = 1, .meta = &meta, .headers = &headers};
    contract_call(contract, &put);
    CLAIM_RC(contract, &put, 0);
    CALL_SCOPED copy = {.op = STORE_COPY, .key = to_key, .source_key = from_key};
    contract_call(contract, &copy);
    CLAIM_RC(contract, &copy, 0);
    CLAIM(contract, copy.object.etag[0] == '"', "ETag %s", copy.object.etag);
    CALL_SCOPED head = {.op = STORE_HEAD, .key = to_key};
    contract_call(contract, &head);
    CLAIM_RC(contract, &head, 0);
    CLAIM(contract, strcmp(head.object.etag, copy.object.etag) == 0, "the copy told its ETag");
    const char *type = store_fields_get(&head.object.headers, "content-type");
    CLAIM(contract, type && strcmp(type, "text/x-copied") == 0, "content-type %s", type ? type : "(none)");
    expect_odd_meta(contract, &head.object);
    STILL_GOOD(contract);
    contract_expect_text(contract, to_key, "body");
    STILL_GOOD(contract);
    contract_expect_text(contract, from_key, "body");
}

static void case_copy_onto_itself_replaces_metadata(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    struct store_fields meta __attribute__((cleanup(store_fields_release))) = {0};
    struct store_fields headers __attribute__((cleanup(store_fields_release))) = {0};
    store_fields_add(&meta, "mode", "33188");
    store_fields_add(&meta, "goes", "away");
    struct iovec from = {(char[]){"body"}, 4};
    CALL_SCOPED put = {.op = STORE_PUT, .key = key, .from = &from, .from_count = 1, .meta = &meta};
    contract_call(contract, &put);
    CLAIM_RC(contract, &put, 0);
    store_fields_set(&meta, "mode", "33261");
    store_fields_remove(&meta, "goes");
    store_fields_add(&headers, "content-type", "text/x-new");
    CALL_SCOPED copy = {.op = STORE_COPY,
                        .key = key,
                        .source_key = key,
                        .source_if_match = put.object.etag,
                        .replace_meta = true,
                        .meta = &meta,
                        .headers = &headers};
    contract_call(contract, &copy);
    CLAIM_RC(contract, &copy, 0);
    CALL_SCOPED head = {.op = STORE_HEAD, .key = key};
    contract_call(contract, &head);
    CLAIM_RC(contract, &head, 0);
    const char *mode = store_fields_get(&head.object.meta, "mode");
    const char *type = store_fields_get(&head.object.headers, "content-type");
    CLAIM(contract, mode && strcmp(mode, "33261") == 0, "mode %s", mode ? mode : "(none)");
    CLAIM(contract, !store_fields_get(&head.object.meta, "goes"), "replacing leaves nothing of the old");
    CLAIM(contract, type && strcmp(type, "text/x-new") == 0, "content-type %s", type ? type : "(none)");
    contract_expect_text(contract, key, "body");
}

static void case_copy_source_if_match(struct contract *contract)
{
    STRING_SCOPED *from_key = contract_key(contract, "from");
    STRING_SCOPED *to_key = contract_key(contract, "to");
    char etag[STORE_ETAG_MAX] = "";
    contract_put(contract, from_key, "old", 3, etag);
    STILL_GOOD(contract);
    contract_put_text(contract, from_key, "new");
    STILL_GOOD(contract);
    CALL_SCOPED copy = {.op = STORE_COPY, .key = to_key, .source_key = from_key, .source_if_match = etag};
    contract_call(contract, &copy);
    CLAIM_RC(contract, &copy, -ESTALE);
    contract_expect_missing(contract, to_key);
}

/* ---- Tags. ---- */

/* What all take: letters, digits, spaces, and + - = . _ : / @. (AWS: of any script; MinIO: ASCII.) */
static const struct {
    const char *name, *value;
} odd_tags[] = {{"colour", "blue"}, {"a key", "a value+more"}, {"+-=._:/@", "/+@:_=.-"}, {"empty", ""}};

static void fill_odd_tags(struct store_fields *fields)
{
    for (size_t i = 0; i < sizeof(odd_tags) / sizeof(*odd_tags); i++)
        store_fields_add(fields, odd_tags[i].name, odd_tags[i].value);
}

/* So many of them, by HEAD and as they are. */
static void expect_tags(struct contract *contract, const char *key, size_t count)
{
    CALL_SCOPED head = {.op = STORE_HEAD, .key = key};
    contract_call(contract, &head);
    CLAIM_RC(contract, &head, 0);
    const char *told = store_fields_get(&head.object.headers, STORE_TAG_COUNT_FIELD);
    CLAIM(contract, strtoul(told ? told : "0", NULL, 10) == count, "HEAD tells of %s tags",
          told ? told : "no");
    CALL_SCOPED call = {.op = STORE_GET_TAGS, .key = key};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
    CLAIM(contract, call.found_tags.count == count, "%zu tags", call.found_tags.count);
    for (size_t i = 0; i < count; i++) {
        const char *value = store_fields_get(&call.found_tags, odd_tags[i].name);
        CLAIM(contract, value && strcmp(value, odd_tags[i].value) == 0, "%s came back as %s",
              odd_tags[i].name, value ? value : "(nothing)");
    }
}

#define ODD_TAG_COUNT (sizeof(odd_tags) / sizeof(*odd_tags))

static void case_tags_go_with_a_put_and_a_copy(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *to = contract_key(contract, "copy");
    struct store_fields tags __attribute__((cleanup(store_fields_release))) = {0};
    fill_odd_tags(&tags);
    CALL_SCOPED put = {.op = STORE_PUT, .key = key, .tags = &tags};
    contract_call(contract, &put);
    CLAIM_RC(contract, &put, 0);
    expect_tags(contract, key, ODD_TAG_COUNT);
    STILL_GOOD(contract);
    CALL_SCOPED copy = {.op = STORE_COPY, .key = to, .source_key = key};
    contract_call(contract, &copy);
    CLAIM_RC(contract, &copy, 0);
    expect_tags(contract, to, ODD_TAG_COUNT);
    STILL_GOOD(contract);
    struct store_fields meta __attribute__((cleanup(store_fields_release))) = {0};
    store_fields_add(&meta, "colour", "red");
    CALL_SCOPED self = {.op = STORE_COPY, .key = key, .source_key = key, .replace_meta = true, .meta = &meta};
    contract_call(contract, &self);
    CLAIM_RC(contract, &self, 0);
    expect_tags(contract, key, ODD_TAG_COUNT);
}

static void case_a_put_without_tags_leaves_none(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    struct store_fields tags __attribute__((cleanup(store_fields_release))) = {0};
    store_fields_add(&tags, "colour", "blue");
    CALL_SCOPED put = {.op = STORE_PUT, .key = key, .tags = &tags};
    contract_call(contract, &put);
    CLAIM_RC(contract, &put, 0);
    CALL_SCOPED head = {.op = STORE_HEAD, .key = key};
    contract_call(contract, &head);
    CLAIM_RC(contract, &head, 0);
    CALL_SCOPED again = {.op = STORE_PUT, .key = key, .headers = &head.object.headers};
    contract_call(contract, &again);
    CLAIM_RC(contract, &again, 0);
    expect_tags(contract, key, 0);
    STILL_GOOD(contract);
    STRING_SCOPED *missing = contract_key(contract, "missing");
    CALL_SCOPED none = {.op = STORE_GET_TAGS, .key = missing};
    contract_call(contract, &none);
    CLAIM_RC(contract, &none, -ENOENT);
}

const struct contract_case contract_objects[] = {
    {"put_get_round_trip", case_put_get_round_trip},
    {"put_in_pieces", case_put_in_pieces},
    {"put_replaces", case_put_replaces},
    {"empty_objects", case_empty_objects},
    {"head_tells_all", case_head_tells_all},
    {"missing_keys", case_missing_keys},
    {"delete_removes", case_delete_removes},
    {"too_long_keys", case_too_long_keys},
    {"ranges", case_ranges},
    {"range_into_pieces", case_range_into_pieces},
    {"landed_never_goes_back", case_landed_never_goes_back},
    {"get_if_match", case_get_if_match},
    {"put_if_absent", case_put_if_absent},
    {"put_if_match", case_put_if_match},
    {"delete_if_match", case_delete_if_match},
    {"metadata_round_trip", case_metadata_round_trip},
    {"get_tells_metadata", case_get_tells_metadata},
    {"listing_tells_metadata", case_listing_tells_metadata},
    {"copy_keeps_all", case_copy_keeps_all},
    {"copy_onto_itself_replaces_metadata", case_copy_onto_itself_replaces_metadata},
    {"copy_source_if_match", case_copy_source_if_match},
    {"tags_go_with_a_put_and_a_copy", case_tags_go_with_a_put_and_a_copy},
    {"a_put_without_tags_leaves_none", case_a_put_without_tags_leaves_none},
    {NULL, NULL},
};
