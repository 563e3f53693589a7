/* Vectors: A1-A7 published by AWS; V1-V9 of reference/s3-and-providers.md, section 1.5. A5 (presigned) and the seeds of A6,
 * A7 (chunked) go through sign_canonical() and sign_signature(); chunk signatures are left out: we never send aws-chunked. */
#include "s3/sign.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define WALL_NS 1369353600000000000ll /* 20130524T000000Z */
#define ACCESS  "AKIAIOSFODNN7EXAMPLE"
#define SECRET  "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define HOST    "examplebucket.s3.amazonaws.com"

struct vector {
    const char *name, *method, *host, *path, *region, *payload;
    const char *query[12];   /* name, value, ... */
    const char *headers[12]; /* name, value, ... in any order */
    const char *names;       /* signed; NULL: not checked */
    const char *canonical;   /* its sha256; NULL: not checked */
    const char *signature;
    const char *token;
    bool plain; /* sign the headers as they are: nothing is added */
};

static const struct vector vectors[] = {
    {"A1",
     "GET",
     HOST,
     "/test.txt",
     NULL,
     NULL,
     {0},
     {"Range", "bytes=0-9"},
     "host;range;x-amz-content-sha256;x-amz-date",
     "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
     NULL,
     false},
    {"A2",
     "PUT",
     HOST,
     "/test%24file.text",
     NULL,
     "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
     {0},
     {"Date", "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class", "REDUCED_REDUNDANCY"},
     "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
     "9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d",
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
     NULL,
     false},
    {"A3",
     "GET",
     HOST,
     "/",
     NULL,
     NULL,
     {"lifecycle", ""},
     {0},
     "host;x-amz-content-sha256;x-amz-date",
     "9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca",
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
     NULL,
     false},
    {"A4",
     "GET",
     HOST,
     "",
     NULL,
     NULL,
     {"prefix", "J", "max-keys", "2"},
     {0},
     NULL,
     "df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7",
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
     NULL,
     false},
    {"A5",
     "GET",
     HOST,
     "/test.txt",
     NULL,
     SIGN_UNSIGNED_PAYLOAD,
     {"X-Amz-Algorithm", "AWS4-HMAC-SHA256", "X-Amz-Credential", ACCESS "/20130524/us-east-1/s3/aws4_request",
      "X-Amz-Date", "20130524T000000Z", "X-Amz-Expires", "86400", "X-Amz-SignedHeaders", "host"},
     {0},
     "host",
     "3bfa292879f6447bbcda7001decf97f4a54dc650c8942174ae0a9121cf58ad04",
     "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
     NULL,
     true},
    {"A6 seed",
     "PUT",
     "s3.amazonaws.com",
     "/examplebucket/chunkObject.txt",
     NULL,
     "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
     {0},
     {"content-encoding", "aws-chunked", "content-length", "66824", "x-amz-decoded-content-length", "66560",
      "x-amz-storage-class", "REDUCED_REDUNDANCY"},
     NULL,
     "cee3fed04b70f867d036f722359b0b1f2f0e5dc0efadbc082b76c4c60e316455",
     "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
     NULL,
     false},
    {"A7 seed",
     "PUT",
     "s3.amazonaws.com",
     "/examplebucket/chunkObject.txt",
     NULL,
     "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
     {0},
     {"content-encoding", "aws-chunked", "x-amz-trailer", "x-amz-checksum-crc32c",
      "x-amz-decoded-content-length", "66560", "x-amz-storage-class", "REDUCED_REDUNDANCY"},
     "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;"
     "x-amz-trailer",
     "44d48b8c2f70eae815a0198cc73d7a546a73a93359c070abbaa5e6c7de112559",
     "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
     NULL,
     false},
    {"V1",
     "GET",
     HOST,
     "/test.txt",
     NULL,
     NULL,
     {0},
     {0},
     "host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
     NULL,
     "efc01a7374f42342998b6b2f4903a0fd7e1f223532ec9f02443037157eab178f",
     "EXAMPLESESSIONTOKEN/+==",
     false},
    {"V2",
     "GET",
     "examplebucket.s3.us-west-2.amazonaws.com",
     "/dir%20a/%C3%A9%2Bx%3D%26~%27%28%29%21%2A%40%2C%3A%3B%24.txt",
     "us-west-2",
     NULL,
     {0},
     {0},
     NULL,
     NULL,
     "95ce4cc6baec7afa785c05f2b4ad59c355c2dc54037a57ecae68e9790f765d20",
     NULL,
     false},
    {"V2b",
     "GET",
     "examplebucket.s3.us-west-2.amazonaws.com",
     "/dir%20a/%C3%A9%2Bx%3D%26%7E%27%28%29%21%2A%40%2C%3A%3B%24.txt",
     "us-west-2",
     NULL,
     {0},
     {0},
     NULL,
     NULL,
     "4a2ad4bfcb5a90528210a571185b410b3f2510c2e137fba0acd9d9c9e29aadd0",
     NULL,
     false},
    {"V3",
     "GET",
     "127.0.0.1:9000",
     "/bkt/a//b/./c/../d",
     NULL,
     NULL,
     {0},
     {0},
     NULL,
     NULL,
     "d470c979ddb6591791e555ec00326638d3b29da4a3cce496d500091df8c96df3",
     NULL,
     false},
    {"V4",
     "GET",
     HOST,
     "/",
     NULL,
     NULL,
     {"list-type", "2", "prefix", "dir a/", "delimiter", "/", "encoding-type", "url", "max-keys", "1000",
      "continuation-token", "1+a/b=="},
     {0},
     NULL,
     NULL,
     "c608a56881f194eb67467dfaed292c1b1a24367123c37f2fe95a531f1cc301e9",
     NULL,
     false},
    {"V5",
     "POST",
     HOST,
     "/big.bin",
     NULL,
     NULL,
     {"uploads", ""},
     {"X-Amz-Meta-Mode", " 33188 "},
     NULL,
     NULL,
     "c2165ea10f8812a74d712731663668af1f08a8473cb6527baa5f2c3863b0d96d",
     NULL,
     false},
    {"V6",
     "PUT",
     "127.0.0.1:9000",
     "/bkt/big.bin",
     "auto",
     "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
     {"partNumber", "1", "uploadId", "abc/def"},
     {"Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==", "User-Agent", "skyvol", "Accept-Encoding", "identity"},
     "content-md5;host;x-amz-content-sha256;x-amz-date",
     NULL,
     "79db0c070e1f4f42813969c236f9be16775d1c5d0eefed15fd4f2dec431480b4",
     NULL,
     false},
    {"V7",
     "PUT",
     HOST,
     "/dst",
     NULL,
     NULL,
     {0},
     {"x-amz-meta-uid", "1000", "x-amz-metadata-directive", "REPLACE", "x-amz-copy-source",
      "/examplebucket/src%20file"},
     "host;x-amz-content-sha256;x-amz-copy-source;x-amz-date;x-amz-meta-uid;x-amz-metadata-directive",
     NULL,
     "8705ce32613ebfa3e54a1bcc24634b136a3337a06c1981dce8cc6edb8650040a",
     NULL,
     false},
    {"V8",
     "PUT",
     HOST,
     "/test.txt",
     NULL,
     SIGN_UNSIGNED_PAYLOAD,
     {0},
     {0},
     "host;x-amz-content-sha256;x-amz-date",
     NULL,
     "e5cba710bd56728f6e6842f3f79fa900e5f47e04debe3dd607877436ccd9b25a",
     NULL,
     false},
    {"V9",
     "PUT",
     HOST,
     "/test.txt",
     NULL,
     "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
     {0},
     {"content-encoding", "aws-chunked", "x-amz-decoded-content-length", "11", "x-amz-trailer",
      "x-amz-checksum-crc32c"},
     "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-trailer",
     NULL,
     "12c3a93995ee71d0cdf5cc3b4cc30df20e45ac7f1d9a590ff5316e34f80140a5",
     NULL,
     false},
};

static void fill(struct store_fields *fields, const char *const *pairs)
{
    for (size_t i = 0; pairs[i]; i += 2)
        store_fields_add(fields, pairs[i], pairs[i + 1]);
}

static struct sign_input input_of(const struct vector *v, const struct store_fields *query,
                                  const struct keys *keys)
{
    return (struct sign_input){
        .method = v->method,
        .host = v->host,
        .path = v->path,
        .query = query,
        .payload = v->payload ? v->payload : SIGN_EMPTY_PAYLOAD,
        .region = v->region ? v->region : "us-east-1",
        .service = "s3",
        .keys = keys,
        .wall_ns = WALL_NS,
    };
}

static void check_vector(const struct vector *v, struct sign_cache *cache)
{
    struct keys *keys = keys_new(ACCESS, SECRET, v->token, INT64_MAX);
    struct store_fields query = {0}, headers = {0};
    fill(&query, v->query);
    fill(&headers, v->headers);
    struct sign_input input = input_of(v, &query, keys);
    if (!v->plain)
        sign_request(&input, &headers, cache);
    BUF_SCOPED canonical = BUF_INIT, names = BUF_INIT, signature = BUF_INIT, digest = BUF_INIT;
    sign_canonical(&input, &headers, &canonical, &names);
    sign_signature(&input, canonical.bytes, cache, &signature);
    uint8_t hash[SHA256_BYTES];
    digest_sha256(canonical.bytes, canonical.length, hash);
    buf_add_hex(&digest, hash, sizeof(hash));
    if (v->names)
        cr_expect_str_eq(names.bytes, v->names, "%s", v->name);
    if (v->canonical)
        cr_expect_str_eq(digest.bytes, v->canonical, "%s: %s", v->name, canonical.bytes);
    cr_expect_str_eq(signature.bytes, v->signature, "%s: %s", v->name, canonical.bytes);
    const char *authorization = store_fields_get(&headers, "authorization");
    if (!v->plain)
        cr_expect(authorization && strstr(authorization, v->signature), "%s: %s", v->name, authorization);
    store_fields_release(&query);
    store_fields_release(&headers);
    keys_unref(keys);
}

Test(sign, reproduces_the_published_vectors)
{
    struct sign_cache cache;
    sign_cache_init(&cache);
    for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
        check_vector(&vectors[i], NULL);
        check_vector(&vectors[i], &cache);
    }
    sign_cache_release(&cache);
}

Test(sign, header_is_the_published_one)
{
    struct keys *keys = keys_new(ACCESS, SECRET, NULL, INT64_MAX);
    struct store_fields headers = {0};
    store_fields_add(&headers, "range", "bytes=0-9");
    struct sign_input input = input_of(&vectors[0], NULL, keys);
    sign_request(&input, &headers, NULL);
    cr_expect_str_eq(store_fields_get(&headers, "authorization"),
                     "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
                     "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
                     "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    cr_expect_str_eq(store_fields_get(&headers, "x-amz-date"), "20130524T000000Z");
    cr_expect_str_eq(store_fields_get(&headers, "x-amz-content-sha256"), SIGN_EMPTY_PAYLOAD);
    store_fields_release(&headers);
    keys_unref(keys);
}

Test(sign, signing_again_leaves_nothing_of_the_first_time)
{
    struct keys *session = keys_new("OTHER", "other", "token", INT64_MAX);
    struct keys *keys = keys_new(ACCESS, SECRET, NULL, INT64_MAX);
    struct store_fields headers = {0};
    store_fields_add(&headers, "range", "bytes=0-9");
    struct sign_input input = input_of(&vectors[0], NULL, session);
    input.wall_ns += 86400000000000ll;
    sign_request(&input, &headers, NULL);
    cr_expect_str_eq(store_fields_get(&headers, "x-amz-security-token"), "token");
    input = input_of(&vectors[0], NULL, keys);
    sign_request(&input, &headers, NULL);
    cr_expect_eq(headers.count, 4u);
    cr_expect(strstr(store_fields_get(&headers, "authorization"), vectors[0].signature));
    input.keys = NULL; /* unsigned */
    sign_request(&input, &headers, NULL);
    cr_expect_null(store_fields_get(&headers, "authorization"));
    store_fields_release(&headers);
    keys_unref(keys);
    keys_unref(session);
}

Test(sign, values_are_trimmed_and_repeats_joined_in_order)
{
    struct store_fields headers = {0};
    fill(&headers, (const char *const[]){"X-Amz-B", "  two \t  words ", "x-amz-a", "1", "X-AMZ-A", "0", "te",
                                         "x", NULL});
    BUF_SCOPED canonical = BUF_INIT, names = BUF_INIT;
    struct sign_input input = input_of(&vectors[0], NULL, NULL);
    sign_canonical(&input, &headers, &canonical, &names);
    cr_expect_str_eq(canonical.bytes, "GET\n/test.txt\n\nhost:" HOST "\nx-amz-a:1,0\nx-amz-b:two words\n\n"
                                      "host;x-amz-a;x-amz-b\n" SIGN_EMPTY_PAYLOAD);
    store_fields_release(&headers);
}

Test(sign, query_encodes_every_byte_and_sends_bare_names)
{
    char every[256];
    for (int i = 1; i < 256; i++)
        every[i - 1] = (char)i;
    every[255] = '\0';
    struct store_fields query = {0};
    fill(&query, (const char *const[]){"b/", every, "uploads", "", "a", "2", "a", "10", "a-", "", NULL});
    BUF_SCOPED out = BUF_INIT;
    sign_query(&query, &out);
    cr_expect_eq(strncmp(out.bytes, "a=10&a=2&a-&b%2F=%01%02", 23), 0, "%s", out.bytes);
    cr_expect(
        strstr(out.bytes, "%20%21%22%23%24%25%26%27%28%29%2A%2B%2C-.%2F0123456789%3A%3B%3C%3D%3E%3F%40ABC"));
    cr_expect(strstr(out.bytes, "XYZ%5B%5C%5D%5E_%60abc"));
    cr_expect(strstr(out.bytes, "xyz%7B%7C%7D~%7F%80"));
    cr_expect(strstr(out.bytes, "%FE%FF&uploads"));
    store_fields_release(&query);
}

Test(sign, cache_keeps_keys_apart_and_forgets_the_oldest)
{
    struct sign_cache cache;
    sign_cache_init(&cache);
    struct keys *keys[3] = {keys_new(ACCESS, SECRET, NULL, INT64_MAX), keys_new(ACCESS, "x", NULL, INT64_MAX),
                            keys_new(ACCESS, SECRET, NULL, INT64_MAX)};
    const char *const regions[] = {"us-east-1", "auto",
                                   "a-region-whose-name-is-much-longer-than-any-place-for-it-in-the-cache"};
    for (int round = 0; round < 3; round++)
        for (size_t k = 0; k < 3; k++)
            for (size_t r = 0; r < 3; r++)
                for (int day = 0; day < 2; day++) {
                    BUF_SCOPED with = BUF_INIT, without = BUF_INIT;
                    struct sign_input input = input_of(&vectors[0], NULL, keys[k]);
                    input.region = regions[r];
                    input.wall_ns += day * 86400000000000ll;
                    sign_signature(&input, "x", &cache, &with);
                    sign_signature(&input, "x", NULL, &without);
                    cr_expect_str_eq(with.bytes, without.bytes);
                }
    struct sign_input input = input_of(&vectors[0], NULL, keys[0]);
    BUF_SCOPED signature = BUF_INIT;
    sign_signature(&input, "x", &cache, &signature);
    unsigned taken = cache.next;
    sign_signature(&input, "x", &cache, &signature);
    cr_expect_eq(cache.next, taken, "the second time it is found");
    sign_cache_release(&cache);
    for (size_t k = 0; k < 3; k++)
        keys_unref(keys[k]);
}
