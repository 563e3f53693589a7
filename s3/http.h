/* http: the door to HTTP; behind it libcurl, and connections of our own for plain HTTP (http_connection.h). The s3 store and (later) IAM and the providers stand on it.
 *
 * A http_call is ONE attempt of ONE request: no retries, no redirects, no signing. It ends exactly once with done().
 *
 *      idle -> running(connecting -> sending -> waiting for the first byte -> receiving) -> done
 *
 * Threads: `loops` threads, each with its own curl multi handle, epoll and mailbox; a call stays on one loop, connections
 * are kept per loop. start and cancel from any thread; header(), sink(), taken() and done() run on the loop, hold no lock, do not block.
 * Waiting: each loop has connections_max / loops places; bulk calls may hold three quarters of them, so that a small call
 * always finds one soon, and small calls leave a quarter to bulk ones that wait. A call that waits for a place is running, and its patience runs too.
 * Copies: the body goes from the loop's buffer, or libcurl's, to its final place by one copy.
 */
#ifndef S3_HTTP_H
#define S3_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/list.h"

struct http;

struct http_config {
    int loops;             /* 1 or 2; 0: by the number of processors */
    int connections_max;   /* in all; 0: 64 */
    const char *ca_bundle; /* NULL: the system's */
    const char
        *proxy; /* "": none; NULL: HTTPS_PROXY, HTTP_PROXY, NO_PROXY; then never for loopback addresses */
    bool insecure_tls;
    bool libcurl; /* for all calls, also those that connections of our own could carry (http_connection.h) */
};

/* Why an attempt without an HTTP answer ended. */
enum http_end {
    HTTP_ANSWERED = 0,  /* status and headers are set; the body came whole */
    HTTP_NO_CONNECTION, /* nothing was sent: name, route, refused, connect time-out */
    HTTP_TLS,           /* certificate or handshake; nothing was sent */
    HTTP_CUT,           /* sent at least in part; the connection broke or the body was cut */
    HTTP_SLOW,     /* first-byte or stall time-out, or patience; `sends` tells whether anything was sent */
    HTTP_CANCELED, /* likewise */
    HTTP_TOO_BIG,  /* an answer body beyond text_max */
    HTTP_BROKEN,   /* not HTTP, or out of memory */
};

struct http_call {
    /* Inputs. */
    const char *method; /* "GET" "HEAD" "PUT" "POST" "DELETE" */
    const char *url;
    const char *const *headers; /* "name: value", NULL at the end; Host is made from the url */
    const struct iovec *body;
    size_t body_count;
    size_t text_max; /* an answer body without sink is kept in `text` up to this; 0: 1 MiB */
    bool bulk;       /* a big body either way: big buffers, and only its share of the connections */
    /* 0: none. The first byte is awaited from when the peer has the whole request; neither it nor the stall counts what a
     * place and a connection took, patience does. */
    int64_t connect_timeout_ms, first_byte_timeout_ms, stall_timeout_ms;
    int64_t
        patience_ms; /* HTTP_SLOW when nothing moved for so long, places waited for and connecting included; 0: none */
    /* May be NULL. Called once when all headers are there, before the body. */
    void (*started)(struct http_call *call);
    /* May be NULL: body bytes go to `text`. Else each piece as it comes; returns false to end the attempt (HTTP_CUT).
     * The store sets it from within started() for answers 200 and 206 only. */
    bool (*sink)(struct http_call *call, const char *bytes, size_t length);
    /* May be NULL. The peer has acknowledged so many bytes of the body; looked at each 100 ms, told when it has changed. */
    void (*taken)(struct http_call *call, uint64_t taken);
    void (*done)(struct http_call *call);
    void *owner;

    /* Outputs. */
    enum http_end end;
    char detail[160]; /* libcurl's words for an end that is not HTTP_ANSWERED */
    int status;
    struct buf text;
    uint64_t sent,
        received; /* body bytes of this attempt; may be read while it runs (relaxed; sent: to 100 ms) */
    int64_t
        moved_ms; /* clock_ms() of the last byte that moved in either direction; before: of http_start() */
    int sends; /* how often it went out, at least in part. 0: the peer has heard nothing of it; 2: a kept connection was
                  found dead, and the first may have been heard */

    void *running;   /* http's own */
    struct buf head; /* http's own: headers of the answer, "name\0value\0" */
};

int http_new(const struct http_config *config, struct http **ret_http, struct buf *why);
void http_free(struct http *http); /* cancels what runs, waits for its done() */
void http_start(struct http *http, struct http_call *call);
void http_cancel(struct http *http, struct http_call *call);
/* A header of the answer by its name in any case, or NULL; valid until http_call_release(). */
const char *http_header(const struct http_call *call, const char *name);
/* Calls each(name, value) in order, for x-amz-meta-*. Names are lower case. */
void http_each_header(const struct http_call *call,
                      void (*each)(void *context, const char *name, const char *value), void *context);
void http_call_release(struct http_call *call);
/* Its host is a name or an address of this host: localhost, 127.0.0.0/8, ::1. One with a user name before it is not. */
bool http_url_is_loopback(const char *url);
/* Of a URL what may be shown: scheme, host and port; no user, password, path or query. Malloc'ed. */
char *http_url_place(const char *url);
/* Runs `fn` once on a loop of this http after delay_ms (the request machine's back-off). */
struct http_timer {
    int64_t due_ms;
    void (*fire)(struct http_timer *timer);
    struct list link;
    void *loop; /* http's own */
};
void http_timer_start(struct http *http, struct http_timer *timer, int64_t delay_ms);
/* True: it will not fire. False: it fired or is firing. */
bool http_timer_stop(struct http *http, struct http_timer *timer);

#endif
