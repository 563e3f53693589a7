#include "base/digest.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static void check_hex(const void *bytes, size_t length, const char *wanted)
{
    BUF_SCOPED hex = BUF_INIT;
    buf_add_hex(&hex, bytes, length);
    cr_assert_str_eq(hex.bytes, wanted);
}

/* FIPS 180-4 and the empty text that SigV4 signs. */
Test(digest, sha256_gives_the_published_vectors)
{
    static const struct {
        const char *text, *hex;
    } vectors[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < 3; i++) {
        uint8_t out[SHA256_BYTES];
        digest_sha256(vectors[i].text, strlen(vectors[i].text), out);
        check_hex(out, sizeof(out), vectors[i].hex);
    }
}

/* RFC 4231, cases 1, 2, 3 and 6 (a key longer than a block); and an empty key. */
Test(digest, hmac_gives_the_published_vectors)
{
    uint8_t key[131], data[50], out[SHA256_BYTES];
    memset(key, 0x0b, 20);
    digest_hmac_sha256(key, 20, "Hi There", 8, out);
    check_hex(out, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    digest_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out);
    check_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key));
    memset(data, 0xdd, sizeof(data));
    digest_hmac_sha256(key, 20, data, 50, out);
    check_hex(out, 32, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    const char *text = "Test Using Larger Than Block-Size Key - Hash Key First";
    digest_hmac_sha256(key, 131, text, strlen(text), out);
    check_hex(out, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    digest_hmac_sha256("", 0, "", 0, out);
    check_hex(out, 32, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

Test(digest, md5_of_pieces_is_that_of_the_whole)
{
    uint8_t out[MD5_BYTES];
    struct iovec pieces[] = {{.iov_base = (void *)"message", .iov_len = 7},
                             {.iov_base = (void *)"", .iov_len = 0},
                             {.iov_base = (void *)" digest", .iov_len = 7}};
    digest_md5_pieces(pieces, 3, out);
    check_hex(out, MD5_BYTES, "f96b697d7cb7938d525a2f31aaf161d0"); /* RFC 1321 */
    digest_md5_pieces(NULL, 0, out);
    BUF_SCOPED base64 = BUF_INIT;
    buf_add_base64(&base64, out, MD5_BYTES);
    cr_assert_str_eq(base64.bytes, "1B2M2Y8AsgTpgAmY7PhCfg=="); /* Content-MD5 of an empty body */
}

Test(digest, sha256_of_pieces_is_that_of_the_whole)
{
    uint8_t whole[SHA256_BYTES], parts[SHA256_BYTES];
    digest_sha256("abcdef", 6, whole);
    struct iovec pieces[] = {{.iov_base = (void *)"ab", .iov_len = 2},
                             {.iov_base = (void *)"cdef", .iov_len = 4}};
    digest_sha256_pieces(pieces, 2, parts);
    cr_assert_eq(memcmp(whole, parts, SHA256_BYTES), 0);
}

/* RFC 4648, section 10. */
Test(digest, base64_gives_the_published_vectors_both_ways)
{
    static const struct {
        const char *text, *base64;
    } vectors[] = {{"", ""},
                   {"f", "Zg=="},
                   {"fo", "Zm8="},
                   {"foo", "Zm9v"},
                   {"foob", "Zm9vYg=="},
                   {"fooba", "Zm9vYmE="},
                   {"foobar", "Zm9vYmFy"},
                   {"\xfb\xff\xbe", "+/++"}};
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        BUF_SCOPED there = BUF_INIT;
        BUF_SCOPED back = BUF_INIT;
        buf_add_base64(&there, vectors[i].text, strlen(vectors[i].text));
        cr_assert_str_eq(there.bytes, vectors[i].base64);
        cr_assert_eq(buf_add_base64_decoded(&back, there.bytes, there.length), 0);
        cr_assert_str_eq(back.bytes, vectors[i].text);
    }
}

Test(digest, base64_survives_all_bytes_and_lengths)
{
    uint8_t bytes[256];
    for (int i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    for (size_t length = 0; length <= 256; length++) {
        BUF_SCOPED there = BUF_INIT;
        BUF_SCOPED back = BUF_INIT;
        buf_add_base64(&there, bytes, length);
        cr_assert_eq(buf_add_base64_decoded(&back, there.bytes, there.length), 0);
        cr_assert_eq(back.length, length);
        cr_assert_eq(memcmp(back.bytes, bytes, length), 0);
    }
}

Test(digest, what_is_not_base64_is_refused_and_appends_nothing)
{
    static const char *const bad[] = {
        "Z",    "Zg",   "Zg=",  "Zg=a", "=g==",     "Z===",     "====",       "Zm9v\n",
        "Zm 9", "Zm-_", "Zh==", "Zm9=", "Zg==Zg==", "Zm9vZ===", "AAAA\200AAA"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        BUF_SCOPED out = BUF_INIT;
        buf_add_string(&out, "kept");
        cr_assert_eq(buf_add_base64_decoded(&out, bad[i], strlen(bad[i])), -EINVAL, "row %zu", i);
        cr_assert_str_eq(out.bytes, "kept");
    }
}

Test(digest, random_bytes_differ)
{
    uint8_t a[400] = {0}, b[400] = {0};
    digest_random(a, sizeof(a));
    digest_random(b, sizeof(b));
    cr_assert_neq(memcmp(a, b, sizeof(a)), 0);
    digest_random(a, 0);
}
