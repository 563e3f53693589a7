/* api: one service of a provider that speaks JSON over HTTPS: a request, its repeats, and its answer in words.
 *
 *      api_new(address) --> api_send(request) --attempts: 429, 503, 5xx, no connection--> answer | -errno with the service's own words
 *
 * Repeats: full jitter from 250 ms to 8 s, Retry-After instead where it is told; the last one starts before patience ends. A request that
 * makes something each time (`once`) is not sent again when it may have been carried out: then `unknown` is set, and the caller looks.
 * Addresses: https://, http:// only to this host, and to the metadata server where that is meant.
 * Secrets: stand in headers and bodies only, never in a path; an error that repeats one is not quoted.
 * Errors: -EACCES (401, 403), -ENOENT (404), -EEXIST (409), -EINVAL (400, 422 and other 4xx), -EBUSY (429, 503 to the end), -EIO (5xx, cut),
 * -EBADMSG (not JSON, too big, a redirect), -EHOSTUNREACH (no connection), -EPROTO (TLS), -ETIMEDOUT (silent), -EINTR.
 * Threads: one at a time for each api; calls block, but end soon when the waiter is interrupted.
 */
#ifndef MOUNT_API_H
#define MOUNT_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/secret.h"
#include "base/waiter.h"

#define API_PATIENCE_MS 30000
#define API_HEADERS_MAX 4
#define API_LINES_MAX   12
#define API_ANY         (-1) /* all but those that are repeated: what they say is the caller's to read */
#define API_ANSWER_MAX  ((size_t)4 << 20)

struct api;

struct api_config {
    const char *name;    /* for messages: "RunPod" */
    const char *url;     /* of the service, a slash at its end or not: "https://rest.runpod.io/v1" */
    const char *where;   /* who said so: "RUNPOD_REST_URL", "skyward.toml:7" */
    bool metadata;       /* of the machine's metadata server: plain HTTP, no proxy, no repeats */
    int64_t patience_ms; /* 0: API_PATIENCE_MS */
    struct waiter *waiter;
};

struct api_header {
    const char *name, *value;    /* the value is followed by the secret: "Authorization", "Bearer " */
    const struct secret *secret; /* NULL: none */
};

struct api_request {
    const char *method, *path; /* below the service, encoded, with its query; "": the service itself */
    struct api_header headers[API_HEADERS_MAX];
    char *const *lines; /* more of the head, signed (s3/signed.h), NULL at the end; NULL: none */
    const char *content_type, *body;
    const struct secret *secret_body; /* in the place of the body */
    bool
        once; /* it makes something each time it is carried out: a connection of its own, which nobody sends again on */
    bool plain;         /* the answer is text, not JSON */
    int accept;         /* a status beside 2xx that is an answer: 404; 0: none; API_ANY */
    const char *wanted; /* a header of the answer; NULL: none */
};

struct api_answer {
    int status;          /* 0: there was none */
    struct json *json;   /* NULL: the answer was empty, or plain */
    struct secret *text; /* of a plain answer, also one that failed */
    char *wanted;
    int64_t date_ns; /* the service's clock; ours where it did not say */
    bool unknown;    /* an error, but it may have been carried out */
};

/* -EINVAL: no address to send keys to; who said it is named. Sends nothing. */
int api_new(const struct api_config *config, struct api **ret_api, struct buf *why);
void api_free(struct api *api);
const char *api_url(const struct api *api); /* without a slash at its end */
/* The answer is to be released after any outcome. */
int api_send(struct api *api, const struct api_request *request, struct api_answer *ret_answer,
             struct buf *why);
void api_answer_release(struct api_answer *answer);
/* Waits, by the waiter of the api. 0, or -EINTR. */
int api_pause(struct api *api, int64_t ms);
/* What the services say in an answer that is an error: the words of it, or NULL. Borrowed. */
const char *api_error_words(const struct json *answer);

#endif
