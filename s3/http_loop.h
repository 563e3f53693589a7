/* http_loop: what the files of http share: one event loop and one attempt on it.
 *
 *      http_start --> loop->starts --> waiting_small | waiting_bulk --> active --> transfer_end() --> done()
 *                     (mailbox)        (no place free)                 (on a connection of ours, or on libcurl)
 *
 * A transfer begins in http_start() and ends, always on its loop's thread, in loop_end().
 * Not here: libcurl's header; its handles are void pointers here, and belong to http_loop.c and http_curl.c.
 */
#ifndef S3_HTTP_LOOP_H
#define S3_HTTP_LOOP_H

#include <pthread.h>

#include "base/lock.h"
#include "s3/http.h"

#define HTTP_LOOPS_MAX 2

struct http {
    /* Set at birth. */
    int loop_count;
    char *ca_bundle;
    char *proxy;      /* of the configuration; NULL: the environment's */
    char *http_proxy; /* HTTP_PROXY in capitals, which libcurl does not look at */
    bool insecure_tls, libcurl;
    struct loop *loops[HTTP_LOOPS_MAX];

    struct lock lock; /* guards the mailboxes of all loops, call->running and timers' links */
};

struct loop {
    /* Set at birth. */
    struct http *http;
    pthread_t thread;
    int places, kept_places; /* kept: of each kind of calls, what the other kind leaves it */
    void *multi;             /* CURLM */
    void *share;             /* CURLSH: TLS sessions */
    struct connections *connections;
    int epoll_fd, event_fd;

    /* Under http->lock: the mailbox. */
    struct list starts;  /* transfer.link */
    struct list cancels; /* transfer.cancel_link */
    struct list timers;  /* http_timer.link, by due_ms */
    bool awake;          /* the mailbox will be looked at before the loop sleeps */
    bool stopping;
    int load; /* transfers begun and not ended */

    /* The loop's thread only. */
    struct list waiting_small, waiting_bulk, active; /* transfer.link */
    int active_count, bulk_count;
    void **idle; /* CURL handles for reuse */
    int idle_count;
    int64_t curl_due_ms, sweep_due_ms;
};

enum transfer_phase {
    PHASE_WAITING_PLACE,
    PHASE_CONNECTING,
    PHASE_SENDING,
    PHASE_FIRST_BYTE,
    PHASE_RECEIVING
};

struct transfer {
    struct http_call *call;
    struct loop *loop;
    struct list link;        /* starts, waiting_*, active */
    struct list cancel_link; /* under http->lock */
    enum transfer_phase phase;
    struct connection *connection; /* ours; or */
    void *easy;                    /* CURL; both NULL while waiting for a place */
    void *slist;
    int64_t begun_ms; /* a place was there */
    uint64_t body_bytes;
    size_t piece; /* the body's next byte: piece and offset in it */
    size_t piece_offset;
    int64_t sending_ms; /* when it last began to be sent: the peer's deadlines do not count what was before */
    bool header_complete;  /* the final header block is in call->head */
    enum http_end refused; /* why a callback of ours ended it; HTTP_ANSWERED: it did not */
    int unacknowledged;    /* bytes in the socket at the last look */
    uint64_t taken;        /* as it was told */
    char words[256];       /* libcurl's CURLOPT_ERRORBUFFER */
};

/* http_loop.c */
int loop_new(struct http *http, int places, struct loop **ret_loop, struct buf *why);
void loop_free(struct loop *loop); /* cancels and ends all, joins the thread */
void loop_wake_locked(struct loop *loop);

/* The one end of every transfer; words may be NULL. */
void loop_end_transfer(struct transfer *transfer, enum http_end end, const char *words);
/* For one that a connection of ours could not be had for. */
void loop_begin_curl(struct transfer *transfer);

/* http_transfer.c */
/* On a connection of ours (http_connection.h), else through libcurl. -ENOMEM. */
int transfer_begin(struct transfer *transfer);
/* Takes it off who carried it, and fills the outputs of the call. */
void transfer_finish(struct transfer *transfer, enum http_end end, const char *words);
/* A line of the answer's head with its end, a piece of its body. False: no more of it, transfer->refused says why. */
bool transfer_hear_line(struct transfer *transfer, const char *line, size_t length);
bool transfer_hear_body(struct transfer *transfer, const char *bytes, size_t length);
long transfer_connect_timeout(const struct http_call *call);
/* Reads off progress, and says whether a deadline has passed: HTTP_SLOW with the words, else HTTP_ANSWERED. */
enum http_end transfer_look(struct transfer *transfer, int64_t now_ms, const char **ret_words);

/* http_curl.c */
/* Sets a handle up for the call and hands it to the loop's multi. -ENOMEM. */
int curl_engine_begin(struct transfer *transfer);
/* What a CURLcode means. */
enum http_end curl_engine_end(struct transfer *transfer, int curl_result, const char **ret_words);
bool curl_engine_sent(const struct transfer *transfer, uint64_t *ret_sent);
int curl_engine_socket(const struct transfer *transfer); /* -1: none */
void curl_engine_leave(struct transfer *transfer);

#endif
