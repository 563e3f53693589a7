#include "s3/exchange.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "base/waiter.h"
#include "s3/http.h"

#define BETWEEN_ATTEMPTS_US 500000

struct pending {
    struct http_call call;
    struct lock lock;
    struct gate gate;
    bool ended;
};

static void hear_end(struct http_call *call)
{
    struct pending *pending = call->owner;
    LOCK_SCOPED(&pending->lock);
    pending->ended = true;
    gate_open(&pending->gate);
}

static void await(struct pending *pending)
{
    WAITER_SCOPED(waiter);
    LOCK_SCOPED(&pending->lock);
    while (!pending->ended)
        gate_wait_locked(&pending->gate, &pending->lock, &waiter, CLOCK_NEVER);
}

static int name_end(enum http_end end)
{
    static const int names[] = {[HTTP_NO_CONNECTION] = -EHOSTUNREACH,
                                [HTTP_TLS] = -EPROTO,
                                [HTTP_CUT] = -EIO,
                                [HTTP_SLOW] = -ETIMEDOUT,
                                [HTTP_CANCELED] = -EIO,
                                [HTTP_TOO_BIG] = -EBADMSG,
                                [HTTP_BROKEN] = -EBADMSG};
    return names[end];
}

static int run_once(struct exchange *exchange, struct http *http, struct buf *why)
{
    struct iovec body = {(char *)exchange->body, exchange->body ? strlen(exchange->body) : 0};
    struct pending pending = {.call = {.method = exchange->method,
                                       .url = exchange->url,
                                       .headers = exchange->headers,
                                       .body = exchange->body ? &body : NULL,
                                       .body_count = exchange->body != NULL,
                                       .text_max = EXCHANGE_ANSWER_MAX,
                                       .connect_timeout_ms = exchange->timeout_ms,
                                       .first_byte_timeout_ms = exchange->timeout_ms,
                                       .stall_timeout_ms = exchange->timeout_ms,
                                       .done = hear_end}};
    lock_init(&pending.lock, LOCK_LEAF, "exchange");
    gate_init(&pending.gate);
    pending.call.owner = &pending;
    http_start(http, &pending.call);
    await(&pending);
    int rc = name_end(pending.call.end);
    if (rc < 0) {
        STRING_SCOPED *place = http_url_place(exchange->url);
        buf_printf(why, "%s: %s", place, pending.call.detail);
    } else {
        exchange->status = pending.call.status;
        buf_reset(&exchange->text);
        buf_add(&exchange->text, pending.call.text.bytes, pending.call.text.length);
    }
    secret_wipe(pending.call.text.bytes, pending.call.text.length);
    http_call_release(&pending.call);
    gate_release(&pending.gate);
    lock_release(&pending.lock);
    return rc;
}

int exchange_run(struct exchange *exchange, struct buf *why)
{
    struct http_config config = {.loops = 1, .connections_max = 4, .proxy = exchange->direct ? "" : NULL};
    struct http *http = NULL;
    int rc = http_new(&config, &http, why);
    exchange->status = 0;
    exchange->text = (struct buf)BUF_INIT;
    int64_t begun_ms = clock_ms();
    for (int left = exchange->attempts > 0 ? exchange->attempts : 1; http && left > 0; left--) {
        BUF_SCOPED words = BUF_INIT;
        rc = run_once(exchange, http, &words);
        bool late =
            exchange->whole_ms && clock_ms() - begun_ms + BETWEEN_ATTEMPTS_US / 1000 > exchange->whole_ms;
        bool again = (rc < 0 || exchange->status >= 500) && !late;
        if (!again || left == 1) {
            buf_add(why, words.bytes, words.length);
            break;
        }
        usleep(BETWEEN_ATTEMPTS_US);
    }
    http_free(http);
    return rc;
}

void exchange_release(struct exchange *exchange)
{
    secret_wipe(exchange->text.bytes, exchange->text.length);
    buf_release(&exchange->text);
}
