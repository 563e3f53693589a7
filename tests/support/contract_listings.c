/* The contract of many objects: odd keys, listings by pages and folders, deletes of many. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/contract_hands.h"

/* ---- Odd keys. ---- */

static const char *const odd_names[] = {
    "space in it",
    " leading and trailing ",
    "plus+plus",
    "percent%20and%",
    "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x98",
    "e\xcc\x81",
    "quote\"s and 'those'",
    "new\nline",
    "tab\tand\rreturn",
    "amp&lt;<>;",
    "question?mark=1&",
    "hash#frag",
    "back\\slash",
    "star*",
    "~tilde!()",
    "colon:at@",
    "comma,semi;",
    "[brackets]{}|^`",
    "trailing.dot.",
    "$dollar=equals",
};

/* Keys that MinIO refuses. */
static const char *const wild_names[] = {"double//slash", "./dot",      "a/../b",   "..",  ".",
                                         "same",          "same/below", "\x01\x02", "end/"};

static void expect_odd_key(struct contract *contract, const char *name)
{
    STRING_SCOPED *key = contract_key(contract, name);
    contract_put_text(contract, key, name);
    STILL_GOOD(contract);
    contract_expect_text(contract, key, name);
    STILL_GOOD(contract);
    CALL_SCOPED list = {.op = STORE_LIST, .prefix = key};
    contract_call(contract, &list);
    CLAIM_RC(contract, &list, 0);
    bool found = false;
    for (size_t i = 0; i < list.object_count; i++)
        found = found || strcmp(list.objects[i].key, key) == 0;
    CLAIM(contract, found, "%s stands in the listing of itself", key);
    STRING_SCOPED *copy_key = xprintf("%s.copy", key);
    CALL_SCOPED copy = {.op = STORE_COPY, .key = copy_key, .source_key = key};
    contract_call(contract, &copy);
    CLAIM_RC(contract, &copy, 0);
    contract_expect_text(contract, copy_key, name);
    STILL_GOOD(contract);
    CALL_SCOPED remove = {.op = STORE_DELETE, .key = copy_key};
    contract_call(contract, &remove);
    CLAIM_RC(contract, &remove, 0);
    contract_expect_missing(contract, copy_key);
}

static void case_odd_keys(struct contract *contract)
{
    for (size_t i = 0; i < sizeof(odd_names) / sizeof(*odd_names) && !contract->failed; i++)
        expect_odd_key(contract, odd_names[i]);
}

static void case_odd_keys_deleted_together(struct contract *contract)
{
    size_t count = sizeof(odd_names) / sizeof(*odd_names);
    char *keys[sizeof(odd_names) / sizeof(*odd_names)];
    for (size_t i = 0; i < count; i++) {
        keys[i] = contract_key(contract, odd_names[i]);
        if (!contract->failed)
            contract_put_text(contract, keys[i], "x");
    }
    CALL_SCOPED call = {.op = STORE_DELETE_MANY, .keys = (const char *const *)keys, .key_count = count};
    if (!contract->failed)
        contract_call(contract, &call);
    size_t failures = call.failure_count;
    CALL_SCOPED list = {.op = STORE_LIST, .prefix = contract->folder};
    if (!contract->failed)
        contract_call(contract, &list);
    for (size_t i = 0; i < count; i++)
        free(keys[i]);
    STILL_GOOD(contract);
    CLAIM_RC(contract, &call, 0);
    CLAIM(contract, failures == 0, "%zu keys could not be deleted", failures);
    CLAIM_RC(contract, &list, 0);
    CLAIM(contract, list.object_count == 0, "%s is still there", list.objects[0].key);
}

static void case_wild_keys(struct contract *contract)
{
    if (!contract->setup->any_key)
        return;
    for (size_t i = 0; i < sizeof(wild_names) / sizeof(*wild_names) && !contract->failed; i++)
        expect_odd_key(contract, wild_names[i]);
}

/* ---- Listings. ---- */

static void put_names(struct contract *contract, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count && !contract->failed; i++) {
        STRING_SCOPED *key = contract_key(contract, names[i]);
        contract_put_text(contract, key, names[i]);
    }
}

/* Adds the names below the folder that a page brought, merged in key order, one a line. */
static void print_page(struct contract *contract, const struct store_call *list, struct buf *out)
{
    size_t object = 0, prefix = 0, skip = strlen(contract->folder);
    while (object < list->object_count || prefix < list->prefix_count) {
        bool take_object =
            prefix == list->prefix_count ||
            (object < list->object_count && strcmp(list->objects[object].key, list->prefixes[prefix]) < 0);
        buf_printf(out, "%s\n",
                   (take_object ? list->objects[object++].key : list->prefixes[prefix++]) + skip);
    }
}

/* All pages of a listing as text; ret_pages counts them. */
static void list_all(struct contract *contract, const char *below, const char *delimiter,
                     const char *start_after, int max_keys, struct buf *out, size_t *ret_pages)
{
    STRING_SCOPED *prefix = contract_key(contract, below);
    STRING_SCOPED *token = NULL;
    *ret_pages = 0;
    do {
        CALL_SCOPED list = {.op = STORE_LIST,
                            .prefix = prefix,
                            .delimiter = delimiter,
                            .start_after = token ? NULL : start_after,
                            .token = token,
                            .max_keys = max_keys};
        contract_call(contract, &list);
        CLAIM_RC(contract, &list, 0);
        CLAIM(contract, !max_keys || list.object_count + list.prefix_count <= (size_t)max_keys,
              "%zu + %zu on a page of %d", list.object_count, list.prefix_count, max_keys);
        print_page(contract, &list, out);
        free(token);
        token = list.next_token;
        list.next_token = NULL;
        CLAIM(contract, ++*ret_pages < 100, "the listing does not end");
    } while (token);
}

static void expect_listing(struct contract *contract, const char *below, const char *delimiter,
                           const char *start_after, int max_keys, const char *wanted)
{
    BUF_SCOPED got = BUF_INIT;
    size_t pages;
    list_all(contract, below, delimiter, start_after, max_keys, &got, &pages);
    STILL_GOOD(contract);
    CLAIM(contract, strcmp(got.bytes, wanted) == 0,
          "the listing of \"%s\" by pages of %d is \"%s\", not \"%s\"", below, max_keys, got.bytes, wanted);
}

static const char *const tree[] = {"a.txt", "a/1", "a/2", "a/deep/3", "a0", "b/", "b/4", "c", "z/5"};
#define TREE_COUNT (sizeof(tree) / sizeof(*tree))

static void case_listing_in_key_order(struct contract *contract)
{
    put_names(contract, tree, TREE_COUNT);
    STILL_GOOD(contract);
    expect_listing(contract, "", NULL, NULL, 0, "a.txt\na/1\na/2\na/deep/3\na0\nb/\nb/4\nc\nz/5\n");
    STILL_GOOD(contract);
    expect_listing(contract, "a", NULL, NULL, 0, "a.txt\na/1\na/2\na/deep/3\na0\n");
    STILL_GOOD(contract);
    expect_listing(contract, "nothing", NULL, NULL, 0, "");
}

static void case_listing_with_delimiter(struct contract *contract)
{
    put_names(contract, tree, TREE_COUNT);
    STILL_GOOD(contract);
    expect_listing(contract, "", "/", NULL, 0, "a.txt\na/\na0\nb/\nc\nz/\n");
    STILL_GOOD(contract);
    expect_listing(contract, "a/", "/", NULL, 0, "a/1\na/2\na/deep/\n");
    STILL_GOOD(contract);
    expect_listing(contract, "b/", "/", NULL, 0,
                   "b/\nb/4\n"); /* the marker is an object of its own listing */
}

static void case_listing_by_pages(struct contract *contract)
{
    put_names(contract, tree, TREE_COUNT);
    /* From 2: by pages of one, MinIO (2026-02) ends a listing with delimiter at a folder that has its marker too: the next
     * page holds nothing and says that it is the last. */
    for (int max_keys = 2; max_keys <= 4; max_keys++) {
        STILL_GOOD(contract);
        expect_listing(contract, "", NULL, NULL, max_keys,
                       "a.txt\na/1\na/2\na/deep/3\na0\nb/\nb/4\nc\nz/5\n");
        STILL_GOOD(contract);
        expect_listing(contract, "", "/", NULL, max_keys, "a.txt\na/\na0\nb/\nc\nz/\n");
    }
    STILL_GOOD(contract);
    BUF_SCOPED got = BUF_INIT;
    size_t pages;
    list_all(contract, "", NULL, NULL, 2, &got, &pages);
    STILL_GOOD(contract);
    CLAIM(contract, pages == 5, "nine keys by two came on %zu pages", pages);
}

static void case_listing_start_after(struct contract *contract)
{
    put_names(contract, tree, TREE_COUNT);
    STILL_GOOD(contract);
    STRING_SCOPED *there = contract_key(contract, "a/2");
    expect_listing(contract, "", NULL, there, 2, "a/deep/3\na0\nb/\nb/4\nc\nz/5\n");
    STILL_GOOD(contract);
    STRING_SCOPED *between = contract_key(contract, "a/2x");
    expect_listing(contract, "", NULL, between, 0, "a/deep/3\na0\nb/\nb/4\nc\nz/5\n");
    STILL_GOOD(contract);
    STRING_SCOPED *end = contract_key(contract, "zz");
    expect_listing(contract, "", NULL, end, 0, "");
}

static void case_listing_tells_size_and_version(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    char etag[STORE_ETAG_MAX] = "";
    contract_put(contract, key, "seven b", 7, etag);
    STILL_GOOD(contract);
    CALL_SCOPED list = {.op = STORE_LIST, .prefix = contract->folder};
    contract_call(contract, &list);
    CLAIM_RC(contract, &list, 0);
    CALL_SCOPED head = {.op = STORE_HEAD, .key = key};
    contract_call(contract, &head);
    CLAIM_RC(contract, &head, 0);
    CLAIM(contract, list.object_count == 1 && !list.next_token, "%zu objects", list.object_count);
    const struct store_object *object = list.objects;
    CLAIM(contract, object->size == 7, "size %llu", (unsigned long long)object->size);
    CLAIM(contract, strcmp(object->etag, etag) == 0, "%s is not %s", object->etag, etag);
    CLAIM(contract, object->modified_ns / 1000000000 == head.object.modified_ns / 1000000000,
          "LIST and HEAD agree on the second: %lld, %lld", (long long)object->modified_ns,
          (long long)head.object.modified_ns);
}

static void case_writes_are_listed_at_once(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    for (int round = 0; round < 3 && !contract->failed; round++) {
        contract_put_text(contract, key, "x");
        STILL_GOOD(contract);
        expect_listing(contract, "", NULL, NULL, 0, "object\n");
        STILL_GOOD(contract);
        CALL_SCOPED remove = {.op = STORE_DELETE, .key = key};
        contract_call(contract, &remove);
        CLAIM_RC(contract, &remove, 0);
        expect_listing(contract, "", NULL, NULL, 0, "");
    }
}

static void case_delete_many(struct contract *contract)
{
    static const char *const names[] = {"1", "2", "3", "kept"};
    put_names(contract, names, 4);
    STILL_GOOD(contract);
    STRING_SCOPED *one = contract_key(contract, "1");
    STRING_SCOPED *two = contract_key(contract, "2");
    STRING_SCOPED *three = contract_key(contract, "3");
    STRING_SCOPED *never = contract_key(contract, "never-was");
    const char *keys[] = {one, never, two, three};
    CALL_SCOPED call = {.op = STORE_DELETE_MANY, .keys = keys, .key_count = 4};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, 0);
    CLAIM(contract, call.failure_count == 0, "%zu failures; a missing key is none", call.failure_count);
    expect_listing(contract, "", NULL, NULL, 0, "kept\n");
}

const struct contract_case contract_listings[] = {
    {"odd_keys", case_odd_keys},
    {"odd_keys_deleted_together", case_odd_keys_deleted_together},
    {"wild_keys", case_wild_keys},
    {"listing_in_key_order", case_listing_in_key_order},
    {"listing_with_delimiter", case_listing_with_delimiter},
    {"listing_by_pages", case_listing_by_pages},
    {"listing_start_after", case_listing_start_after},
    {"listing_tells_size_and_version", case_listing_tells_size_and_version},
    {"writes_are_listed_at_once", case_writes_are_listed_at_once},
    {"delete_many", case_delete_many},
    {NULL, NULL},
};
