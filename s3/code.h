/* code: THE table of what S3 says when something failed: its code, the errno we make of it, and what can be done.
 *
 * The code decides; where there is none (HEAD has no body, proxies write HTML) the HTTP status does.
 * Pure; any thread.
 */
#ifndef S3_CODE_H
#define S3_CODE_H

#include <stdbool.h>

enum code_class {
    CODE_FINAL,    /* trying again gives the same */
    CODE_RETRY,    /* the server's or the line's trouble: again, soon */
    CODE_FEW,      /* again, but only a few times: damaged in transit, a race that was lost */
    CODE_THROTTLE, /* too fast for the server: again, later */
    CODE_REFRESH,  /* these keys do not serve (any more): read them again, once */
    CODE_REGION,   /* the bucket is elsewhere: another region, once */
    CODE_CLOCK,    /* our clock is off: take the server's, once */
    CODE_FEATURE,  /* the endpoint cannot do this: turn it off */
};

struct code {
    const char *name; /* NULL for a row that stands for an HTTP status */
    int status;       /* 0: a row that stands for a name */
    int rc;           /* -errno, before the operation's context is looked at (retry.c) */
    enum code_class class;
    bool may_have_happened; /* a change may be done although we were told of a failure */
};

/* Never NULL. code may be NULL or "". A code in a 200 answer counts as itself, an unknown one there as a 500. */
const struct code *code_find(int http_status, const char *code);
/* True: this refusal means that the endpoint takes no x-amz-checksum-* (B2: 400 InvalidArgument that names the header; GCS:
 * ExcessHeaderValues), so Content-MD5 is to be used. */
bool code_refuses_checksum(int http_status, const char *code, const char *message);

/* True: the source of a copy is too large for one, which AWS says by an InvalidRequest and its message only. */
bool code_refuses_source_size(const char *code, const char *message);

#endif
