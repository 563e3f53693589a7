/* retry: the ONE place that decides whether and when an attempt is made again. Pure: time and chance come in.
 *
 *      attempt ends --> retry_next() --> RETRY_DONE      the call ends with verdict.rc, verdict.unknown
 *                                    --> RETRY_LATER     the same again after verdict.after_ms
 *                                    --> RETRY_REFRESH   credentials_refused(); 1: again at once, else done
 *                                    --> RETRY_REGION    endpoint_in_region(hint, else ask the bucket); again, else done
 *                                    --> RETRY_CLOCK     take the server's Date as the time; again, else done
 *                                    --> RETRY_CHECKSUM  remember that the endpoint takes no checksum, or takes it and does not
 *                                                        look at it; again with Content-MD5. Not with a condition, which would
 *                                                        meet what was just written: unknown
 *
 * Each repair is tried once in a call (region: twice). Where the repair cannot be made, the call ends with the rc and
 * unknown that stand in the same verdict.
 *
 * Delay: full jitter, random in [0, base * 2^step], base 50 ms (throttled: 500 ms), at most 20 s (no connection: 5 s,
 *        nobody is there to be overloaded); a wait that the server asks for is kept, up to a minute. Bytes that moved
 *        set step back to 0. Never longer than the patience that is left: the last attempt starts before it ends.
 * Budget: a bucket of tokens for the whole store. Each repeat takes some, each success gives some back. When it is
 *        empty nothing fails for that: repeats wait near the longest delay, so that an outage meets few requests.
 * Patience: patience_ms without a byte acknowledged ends the call with -ETIMEDOUT; patience 0 never ends it.
 *
 * Unknown outcomes: an attempt that may have been carried out although we were not told (reply lost, 500, 502, 504) is
 *        remembered to the call's end: every rc != 0 of a changing operation is then `unknown`. A conditional PUT, a Complete
 *        or a DELETE that meets 412 or 404 after that has perhaps met its own first try.
 * Not S3: a 404 to anything but HEAD that has no code is some proxy's or web server's, and tells nothing about a key: it is
 *        repeated a few times, then -EIO, also for DELETE. (HEAD has no body, so there a 404 must do.)
 * Context: 412 is -EEXIST with if_absent, else -ESTALE; 404 is -ESTALE for a PUT with if_match, success for DELETE, ABORT.
 */
#ifndef S3_RETRY_H
#define S3_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "s3/http.h"
#include "s3/store.h"

#define RETRY_FOREVER INT64_MAX

/* One per store; all zero is not ready: retry_budget_init(). Any thread (one atomic). */
struct retry_budget {
    int tokens;
};

void retry_budget_init(struct retry_budget *budget);
/* An attempt was answered well; `repeats`: how many tries it took before. */
void retry_budget_refill(struct retry_budget *budget, int repeats);

/* What a call remembers between its attempts. One thread at a time. */
struct retry {
    enum store_op op;
    bool if_match, if_absent;
    int attempts; /* ended so far */
    int step;     /* of the backoff */
    int few;      /* repeats of class CODE_FEW */
    int regions;  /* repairs made */
    int slowed;   /* attempts that were too much for the server */
    bool refreshed, clock_set, checksum_off;
    bool maybe; /* an attempt may have been carried out */
};

/* How an attempt ended. */
struct retry_event {
    enum http_end end;
    int status; /* with HTTP_ANSWERED */
    bool
        nothing_sent; /* it still waited for a place or a connection; so it is after HTTP_NO_CONNECTION and HTTP_TLS */
    const char *code; /* S3's code, also of an <Error> in a 200 answer; NULL or "" */
    const char *message;
    bool
        head; /* a HEAD was sent, also one that stands for an empty GET: its answer has no body, and no code */
    bool unreadable; /* a 2xx whose body or headers make no sense, or failed their checksum */
    bool unproven;   /* a 2xx that does not show that the server checked our x-amz-checksum-* */
    const char
        *region; /* told by x-amz-bucket-region or <Region>, when it is not the one we signed with; NULL */
    int64_t skew_ms;          /* server's Date minus our time for it; 0 unknown */
    int64_t asked_ms;         /* retry_asked_ms() */
    bool progressed;          /* bytes of a GET landed in this attempt */
    bool canceled;            /* store_cancel() was called */
    bool checksum_sent;       /* x-amz-checksum-* was among the headers */
    int64_t patience_left_ms; /* since the last progress; RETRY_FOREVER */
};

enum retry_next { RETRY_DONE, RETRY_LATER, RETRY_REFRESH, RETRY_REGION, RETRY_CLOCK, RETRY_CHECKSUM };

struct retry_verdict {
    enum retry_next next;
    int64_t after_ms; /* RETRY_LATER; 0 for the repairs */
    int rc;           /* final; also where a repair turns out impossible, or patience ends while waiting */
    bool unknown;
    bool
        refused; /* rc is the server's last word: not trouble of its own or the line's, which may pass by itself */
};

void retry_init(struct retry *retry, const struct store_call *call);
/* A success (2xx, readable) is RETRY_DONE with rc 0, and so are a DELETE and an ABORT of what is not there. chance: 32 random bits. */
struct retry_verdict retry_next(struct retry *retry, const struct retry_event *event,
                                struct retry_budget *budget, uint32_t chance);
/* The waits that a server asks for: Retry-After (seconds or a date), x-amz-retry-after (milliseconds). NULLs allowed; wall_ns:
 * by the server's clock; 0: none. */
int64_t retry_asked_ms(const char *retry_after, const char *amz_retry_after, int64_t wall_ns);
const char *retry_next_name(enum retry_next next); /* "later": for the log */

#endif
