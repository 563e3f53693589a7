#include "base/rsa.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/digest.h"

#define BITS_MIN 2048

/* A pass phrase is asked of nobody: without this OpenSSL would ask the terminal. */
static int refuse_pass_phrase(char *room, int size, int writing, void *context)
{
    (void)room, (void)size, (void)writing, (void)context;
    return -1;
}

static int read_key(const struct secret *key, EVP_PKEY **ret_key, struct buf *why)
{
    BIO *bio = BIO_new_mem_buf(secret_reveal(key), (int)secret_length(key));
    EVP_PKEY *read = bio ? PEM_read_bio_PrivateKey(bio, NULL, refuse_pass_phrase, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (read && EVP_PKEY_get_base_id(read) == EVP_PKEY_RSA && EVP_PKEY_get_bits(read) >= BITS_MIN) {
        *ret_key = read;
        return 0;
    }
    buf_add_string(why, read ? "the private key is no RSA key of 2048 bits or more"
                             : "the private key is not in PEM form, or has a pass phrase");
    EVP_PKEY_free(read);
    return -EINVAL;
}

int rsa_sign_sha256(const struct secret *key, const void *bytes, size_t length, struct buf *out,
                    struct buf *why)
{
    EVP_PKEY *pair = NULL;
    if (read_key(key, &pair, why) < 0)
        return -EINVAL;
    size_t size = (size_t)EVP_PKEY_get_size(pair);
    unsigned char *signature = xmalloc(size);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, pair) == 1 &&
                EVP_DigestSign(context, signature, &size, bytes, length) == 1;
    if (good)
        buf_add(out, signature, size);
    else
        buf_add_string(why, "OpenSSL does not sign with the private key");
    ERR_clear_error();
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(pair);
    free(signature);
    return good ? 0 : -EINVAL;
}

void buf_add_base64_url(struct buf *buf, const void *bytes, size_t length)
{
    size_t start = buf->length;
    buf_add_base64(buf, bytes, length);
    for (; buf->length > start && buf->bytes[buf->length - 1] == '='; buf->length--)
        buf->bytes[buf->length - 1] = '\0';
    for (size_t i = start; i < buf->length; i++)
        buf->bytes[i] = buf->bytes[i] == '+' ? '-' : buf->bytes[i] == '/' ? '_' : buf->bytes[i];
}
