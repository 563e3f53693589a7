/* digest: SHA-256, HMAC, MD5, base64, hex, random bytes. The home of OpenSSL's crypto.
 *
 * Threads: any; EVP objects are fetched once.
 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"

#define SHA256_BYTES 32
#define MD5_BYTES    16
#define SHA1_BYTES   20

void digest_sha256(const void *bytes, size_t length, uint8_t out[SHA256_BYTES]);
void digest_hmac_sha256(const void *key, size_t key_length, const void *bytes, size_t length,
                        uint8_t out[SHA256_BYTES]);
void digest_sha256_pieces(const struct iovec *pieces, size_t count, uint8_t out[SHA256_BYTES]);
void digest_md5_pieces(const struct iovec *pieces, size_t count, uint8_t out[MD5_BYTES]);
/* Names of others' files, nothing that must be safe. */
void digest_sha1(const void *bytes, size_t length, uint8_t out[SHA1_BYTES]);
void digest_random(void *out, size_t length);

void buf_add_hex(struct buf *buf, const void *bytes, size_t length);
void buf_add_base64(struct buf *buf, const void *bytes, size_t length);
/* Appends the decoded bytes; -EINVAL, and nothing is appended, when the text is not base64. */
int buf_add_base64_decoded(struct buf *buf, const char *text, size_t length);

#endif
