/* exchange: one small request of who looks for credentials, and its answer. Blocking, bounded, never through a loop of the store's.
 *
 * Owns: the answer may hold keys: exchange_release() zeroes it. Errors: -ETIMEDOUT (silent), -EHOSTUNREACH (nobody there), -EPROTO (TLS),
 * -EBADMSG (not HTTP, too big), -EIO (cut); `why` has the words, without the host's secrets.
 */
#ifndef S3_EXCHANGE_H
#define S3_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define EXCHANGE_ANSWER_MAX ((size_t)64 << 10)

struct exchange {
    const char *method, *url;
    const char *const *headers; /* NULL at the end; NULL: none */
    const char *body;           /* NULL: none */
    bool direct;                /* through no proxy: an address of the machine's own network */
    int64_t timeout_ms;
    int attempts;     /* of which only the last one's failure counts; 0: 1 */
    int64_t whole_ms; /* no attempt begins later than that; 0: as long as the attempts take */
    /* Outputs. */
    int status;
    struct buf text;
};

int exchange_run(struct exchange *exchange, struct buf *why);
void exchange_release(struct exchange *exchange);

#endif
