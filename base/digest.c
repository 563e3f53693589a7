#include "base/digest.h"

#include <assert.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>

/* Fetched once: a fetch per call costs more than the hash of a short text. */
static EVP_MD *sha256;
static EVP_MD *md5;
static EVP_MAC *hmac;

static void fetch_algorithms(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    md5 = EVP_MD_fetch(NULL, "MD5", "-fips"); /* Content-MD5 is no security; a FIPS host must not refuse it */
    hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    assert(sha256 && hmac);
}

static void prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fetch_algorithms);
}

static void digest_pieces(const EVP_MD *type, const struct iovec *pieces, size_t count, uint8_t *out)
{
    assert(type);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestInit_ex2(context, type, NULL);
    for (size_t i = 0; i < count && good; i++)
        good = EVP_DigestUpdate(context, pieces[i].iov_base, pieces[i].iov_len);
    good = good && EVP_DigestFinal_ex(context, out, NULL);
    assert(good); /* only memory can be missing, and then the process ends */
    EVP_MD_CTX_free(context);
}

void digest_sha256_pieces(const struct iovec *pieces, size_t count, uint8_t out[SHA256_BYTES])
{
    prepare();
    digest_pieces(sha256, pieces, count, out);
}

void digest_md5_pieces(const struct iovec *pieces, size_t count, uint8_t out[MD5_BYTES])
{
    prepare();
    digest_pieces(md5, pieces, count, out);
}

void digest_sha1(const void *bytes, size_t length, uint8_t out[SHA1_BYTES])
{
    unsigned size = SHA1_BYTES;
    int done = EVP_Digest(bytes, length, out, &size, EVP_sha1(), NULL);
    assert(done == 1);
    (void)done;
}

void digest_sha256(const void *bytes, size_t length, uint8_t out[SHA256_BYTES])
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    digest_sha256_pieces(&piece, 1, out);
}

void digest_hmac_sha256(const void *key, size_t key_length, const void *bytes, size_t length,
                        uint8_t out[SHA256_BYTES])
{
    prepare();
    char name[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0), OSSL_PARAM_END};
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(hmac);
    size_t size;
    /* A NULL key means "the one before" to OpenSSL; an empty one is a key like others. */
    bool good = context && EVP_MAC_init(context, key_length ? key : (const void *)"", key_length, params) &&
                EVP_MAC_update(context, bytes, length) && EVP_MAC_final(context, out, &size, SHA256_BYTES) &&
                size == SHA256_BYTES;
    assert(good);
    EVP_MAC_CTX_free(context);
}

void digest_random(void *out, size_t length)
{
    unsigned char *at = out;
    while (length) {
        ssize_t size = getrandom(at, length, 0);
        assert(size > 0 || errno == EINTR);
        if (size > 0) {
            at += size;
            length -= (size_t)size;
        }
    }
}

void buf_add_hex(struct buf *buf, const void *bytes, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *at = bytes;
    char text[64];
    for (size_t i = 0, room = 0; i < length; i++) {
        text[room++] = digits[at[i] >> 4];
        text[room++] = digits[at[i] & 15];
        if (room < sizeof text && i + 1 < length)
            continue;
        buf_add(buf, text, room);
        room = 0;
    }
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void buf_add_base64(struct buf *buf, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    for (; length; at += 3) {
        size_t size = length < 3 ? length : 3;
        uint32_t bits =
            (uint32_t)at[0] << 16 | (size > 1 ? (uint32_t)at[1] << 8 : 0) | (size > 2 ? at[2] : 0);
        char out[4] = {alphabet[bits >> 18], alphabet[bits >> 12 & 63], '=', '='};
        if (size > 1)
            out[2] = alphabet[bits >> 6 & 63];
        if (size > 2)
            out[3] = alphabet[bits & 63];
        buf_add(buf, out, 4);
        length -= size;
    }
}

/* 0..63, or -1. */
static int decode_letter(char letter)
{
    const char *at = letter ? strchr(alphabet, letter) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

int buf_add_base64_decoded(struct buf *buf, const char *text, size_t length)
{
    BUF_SCOPED out = BUF_INIT;
    if (length % 4)
        return -EINVAL;
    for (size_t i = 0; i < length; i += 4) {
        size_t pads = 0;
        if (i + 4 == length)
            pads = text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
        uint32_t bits = 0;
        for (size_t k = 0; k < 4 - pads; k++) {
            int value = decode_letter(text[i + k]);
            if (value < 0)
                return -EINVAL;
            bits |= (uint32_t)value << (18 - 6 * k);
        }
        if (bits & (pads == 2 ? 0xffff : pads == 1 ? 0xff : 0)) /* a second spelling of the same bytes */
            return -EINVAL;
        buf_add(&out, (char[]){(char)(bits >> 16), (char)(bits >> 8), (char)bits}, 3 - pads);
    }
    buf_add(buf, out.bytes, out.length);
    return 0;
}
