#include "s3/sign.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"

#define ALGORITHM "AWS4-HMAC-SHA256"

/* ---- Sorted pairs, of headers or of a query. ---- */

struct pair {
    char *name;
    char *value;
    size_t place; /* keeps values of one name in the order given */
};

static int compare_pairs_by_place(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->place > y->place) - (x->place < y->place);
}

static int compare_pairs_by_value(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->value, y->value);
}

static void free_pairs(struct pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(pairs[i].name);
        free(pairs[i].value);
    }
    free(pairs);
}

/* ---- The query. ---- */

static char *encode(const char *text)
{
    struct buf encoded = BUF_INIT;
    buf_add_encoded(&encoded, text, strlen(text), false);
    return buf_take(&encoded);
}

static void add_query(const struct store_fields *query, bool canonical, struct buf *out)
{
    size_t count = query ? query->count : 0;
    if (!count)
        return;
    struct pair *pairs = xcalloc(count, sizeof(*pairs));
    for (size_t i = 0; i < count; i++)
        pairs[i] = (struct pair){encode(query->all[i].name), encode(query->all[i].value), i};
    qsort(pairs, count, sizeof(*pairs), compare_pairs_by_value);
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s%s", i ? "&" : "", pairs[i].name);
        if (canonical || pairs[i].value[0])
            buf_printf(out, "=%s", pairs[i].value);
    }
    free_pairs(pairs, count);
}

void sign_query(const struct store_fields *query, struct buf *out)
{
    add_query(query, false, out);
}

/* ---- Headers. ---- */

/* What proxies and libcurl change or add on the way. Google's front end rewrites accept-encoding. */
static bool header_is_signed(const char *lower_name)
{
    static const char *const unsigned_names[] = {
        "accept-encoding",
        "authorization",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    };
    for (size_t i = 0; i < sizeof(unsigned_names) / sizeof(*unsigned_names); i++)
        if (!strcmp(lower_name, unsigned_names[i]))
            return false;
    return true;
}

static char *lower(const char *text)
{
    char *copy = xstrdup(text);
    for (char *at = copy; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    return copy;
}

/* Trimmed, inner runs of spaces made one. */
static void add_header_value(const char *value, struct buf *out)
{
    size_t start = out->length;
    for (;;) {
        value += strspn(value, " \t");
        size_t word = strcspn(value, " \t");
        if (!word)
            return;
        if (out->length > start)
            buf_add_char(out, ' ');
        buf_add(out, value, word);
        value += word;
    }
}

static struct pair *sort_headers(const char *host, const struct store_fields *headers, size_t *ret_count)
{
    struct pair *pairs = xcalloc(headers->count + 1, sizeof(*pairs));
    size_t count = 0;
    pairs[count] = (struct pair){xstrdup("host"), xstrdup(host), count};
    count++;
    for (size_t i = 0; i < headers->count; i++) {
        char *name = lower(headers->all[i].name);
        if (!header_is_signed(name) || !strcmp(name, "host")) {
            free(name);
            continue;
        }
        pairs[count] = (struct pair){name, xstrdup(headers->all[i].value), count};
        count++;
    }
    qsort(pairs, count, sizeof(*pairs), compare_pairs_by_place);
    *ret_count = count;
    return pairs;
}

/* "name:value,value\n" for each name, and "name;name". */
static void add_headers(const char *host, const struct store_fields *headers, struct buf *out,
                        struct buf *ret_signed_names)
{
    size_t count;
    struct pair *pairs = sort_headers(host, headers, &count);
    for (size_t i = 0; i < count; i++) {
        bool again = i && !strcmp(pairs[i].name, pairs[i - 1].name);
        if (again) {
            buf_add_char(out, ',');
        } else {
            buf_add_string(out, i ? "\n" : "");
            buf_add_string(out, pairs[i].name);
            buf_add_char(out, ':');
            buf_add_string(ret_signed_names, i ? ";" : "");
            buf_add_string(ret_signed_names, pairs[i].name);
        }
        add_header_value(pairs[i].value, out);
    }
    buf_add_char(out, '\n');
    free_pairs(pairs, count);
}

/* A request is put together thousands of times a second: printf would be a third of what it costs. */
static void add_line(struct buf *out, const char *text)
{
    buf_add_string(out, text);
    buf_add_char(out, '\n');
}

void sign_canonical(const struct sign_input *input, const struct store_fields *headers,
                    struct buf *ret_canonical, struct buf *ret_signed_names)
{
    add_line(ret_canonical, input->method);
    add_line(ret_canonical, input->path[0] ? input->path : "/");
    add_query(input->query, true, ret_canonical);
    buf_add_char(ret_canonical, '\n');
    size_t names = ret_signed_names->length;
    add_headers(input->host, headers, ret_canonical, ret_signed_names);
    buf_add_char(ret_canonical, '\n');
    add_line(ret_canonical, ret_signed_names->bytes + names);
    buf_add_string(ret_canonical, input->payload);
}

/* ---- The signing key. ---- */

void sign_cache_init(struct sign_cache *cache)
{
    memset(cache, 0, sizeof(*cache));
    lock_init(&cache->lock, LOCK_LEAF, "signing keys");
}

static void forget_key(struct sign_key *key)
{
    secret_unref(key->secret);
    secret_wipe(key, sizeof(*key));
    key->secret = NULL;
}

void sign_cache_release(struct sign_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < SIGN_KEYS_CACHED; i++)
        forget_key(&cache->all[i]);
    lock_release(&cache->lock);
}

static void derive_key(const struct sign_input *input, const char day[9], uint8_t out[SHA256_BYTES])
{
    const struct secret *secret = input->keys->secret_key;
    size_t length = 4 + secret_length(secret);
    char *seed = xmalloc(length + 1);
    memcpy(seed, "AWS4", 4);
    memcpy(seed + 4, secret_reveal(secret), length - 4);
    digest_hmac_sha256(seed, length, day, 8, out);
    secret_wipe(seed, length);
    free(seed);
    digest_hmac_sha256(out, SHA256_BYTES, input->region, strlen(input->region), out);
    digest_hmac_sha256(out, SHA256_BYTES, input->service, strlen(input->service), out);
    digest_hmac_sha256(out, SHA256_BYTES, "aws4_request", strlen("aws4_request"), out);
}

/* By pointer: the entry holds a reference, so no other secret can come to stand at this address. */
static bool find_key_locked(const struct sign_cache *cache, const struct sign_input *input, const char day[9],
                            uint8_t out[SHA256_BYTES])
{
    for (size_t i = 0; i < SIGN_KEYS_CACHED; i++) {
        const struct sign_key *at = &cache->all[i];
        if (at->secret != input->keys->secret_key || strcmp(at->day, day) ||
            strcmp(at->region, input->region) || strcmp(at->service, input->service))
            continue;
        memcpy(out, at->key, SHA256_BYTES);
        return true;
    }
    return false;
}

static void keep_key(struct sign_cache *cache, const struct sign_input *input, const char day[9],
                     const uint8_t key[SHA256_BYTES])
{
    uint8_t found[SHA256_BYTES];
    LOCK_SCOPED(&cache->lock);
    if (strlen(input->region) >= sizeof(cache->all->region) ||
        strlen(input->service) >= sizeof(cache->all->service) ||
        find_key_locked(cache, input, day, found)) /* another thread was faster */
        return;
    struct sign_key *place = &cache->all[cache->next++ % SIGN_KEYS_CACHED];
    forget_key(place);
    place->secret = secret_ref(input->keys->secret_key);
    strcpy(place->day, day);
    strcpy(place->region, input->region);
    strcpy(place->service, input->service);
    memcpy(place->key, key, SHA256_BYTES);
}

static void make_key(const struct sign_input *input, const char day[9], struct sign_cache *cache,
                     uint8_t out[SHA256_BYTES])
{
    if (cache) {
        LOCK_SCOPED(&cache->lock);
        if (find_key_locked(cache, input, day, out))
            return;
    }
    derive_key(input, day, out);
    if (cache)
        keep_key(cache, input, day, out);
}

/* ---- The signature. ---- */

static void add_scope(const struct sign_input *input, const char *date, struct buf *out)
{
    const char *parts[] = {input->region, input->service, "aws4_request"};
    buf_add(out, date, 8);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        buf_add_char(out, '/');
        buf_add_string(out, parts[i]);
    }
}

void sign_signature(const struct sign_input *input, const char *canonical, struct sign_cache *cache,
                    struct buf *out)
{
    char date[17], day[9] = "";
    clock_amz_date(input->wall_ns, date);
    memcpy(day, date, 8);
    uint8_t hash[SHA256_BYTES], key[SHA256_BYTES];
    digest_sha256(canonical, strlen(canonical), hash);
    BUF_SCOPED text = BUF_INIT;
    add_line(&text, ALGORITHM);
    add_line(&text, date);
    add_scope(input, date, &text);
    buf_add_char(&text, '\n');
    buf_add_hex(&text, hash, sizeof(hash));
    make_key(input, day, cache, key);
    digest_hmac_sha256(key, sizeof(key), text.bytes, text.length, hash);
    secret_wipe(key, sizeof(key));
    buf_add_hex(out, hash, sizeof(hash));
}

static void set_authorization(const struct sign_input *input, const char *date, struct sign_cache *cache,
                              struct store_fields *headers)
{
    BUF_SCOPED canonical = BUF_INIT, names = BUF_INIT, value = BUF_INIT;
    sign_canonical(input, headers, &canonical, &names);
    buf_add_string(&value, ALGORITHM " Credential=");
    buf_add_string(&value, input->keys->access_key);
    buf_add_char(&value, '/');
    add_scope(input, date, &value);
    buf_add_string(&value, ",SignedHeaders=");
    buf_add_string(&value, names.bytes);
    buf_add_string(&value, ",Signature=");
    sign_signature(input, canonical.bytes, cache, &value);
    store_fields_set(headers, "authorization", value.bytes);
    secret_wipe(canonical.bytes, canonical.length); /* holds the session token */
}

void sign_request(const struct sign_input *input, struct store_fields *headers, struct sign_cache *cache)
{
    char date[17];
    clock_amz_date(input->wall_ns, date);
    store_fields_set(headers, "x-amz-date", date);
    store_fields_set(headers, "x-amz-content-sha256", input->payload);
    store_fields_remove(headers, "x-amz-security-token");
    store_fields_remove(headers, "authorization");
    if (!input->keys)
        return;
    if (input->keys->session_token)
        store_fields_set(headers, "x-amz-security-token", secret_reveal(input->keys->session_token));
    set_authorization(input, date, cache, headers);
}
