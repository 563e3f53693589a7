/* rsa: signatures with a private key, as RS256 of JSON Web Tokens wants them (RFC 7518, 3.3). A second home of OpenSSL's crypto. */
#ifndef BASE_RSA_H
#define BASE_RSA_H

#include <stddef.h>

#include "base/buf.h"
#include "base/secret.h"

/* Appends the RSASSA-PKCS1-v1_5 signature of the SHA-256 of the bytes. `key`: PEM, PKCS#8 or PKCS#1, without a pass phrase, at least 2048
 * bits. -EINVAL, with words that quote nothing of the key: it is no such key. */
int rsa_sign_sha256(const struct secret *key, const void *bytes, size_t length, struct buf *out,
                    struct buf *why);
/* The alphabet of URLs, without padding (RFC 4648, 5). */
void buf_add_base64_url(struct buf *buf, const void *bytes, size_t length);

#endif
