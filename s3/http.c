#include "s3/http.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "s3/http_loop.h"

#define CONNECTIONS_DEFAULT 64
#define PLACES_MIN          2 /* of one loop: one for bulk, one for the small */

static int choose_loop_count(int wanted)
{
    if (wanted <= 0)
        wanted =
            sysconf(_SC_NPROCESSORS_ONLN) > 2 ? 2 : 1; /* a second loop gains nothing on two processors */
    return wanted > HTTP_LOOPS_MAX ? HTTP_LOOPS_MAX : wanted;
}

static char *copy_or_null(const char *text)
{
    return text && *text ? xstrdup(text) : NULL;
}

int http_new(const struct http_config *config, struct http **ret_http, struct buf *why)
{
    struct http *http = xcalloc(1, sizeof(*http));
    int loops = choose_loop_count(config->loops);
    int places = (config->connections_max > 0 ? config->connections_max : CONNECTIONS_DEFAULT) / loops;

    lock_init(&http->lock, LOCK_POOL, "http"); /* below a store's own: it cancels under that */
    http->ca_bundle = copy_or_null(config->ca_bundle);
    http->proxy = config->proxy ? xstrdup(config->proxy) : NULL;
    if (!getenv("http_proxy"))
        http->http_proxy = copy_or_null(getenv("HTTP_PROXY"));
    http->insecure_tls = config->insecure_tls;
    http->libcurl = config->libcurl;
    if (places < PLACES_MIN)
        places = PLACES_MIN;
    while (http->loop_count < loops) {
        int rc = loop_new(http, places, &http->loops[http->loop_count], why);
        if (rc < 0) {
            http_free(http);
            return rc;
        }
        http->loop_count++;
    }
    *ret_http = http;
    return 0;
}

void http_free(struct http *http)
{
    if (!http)
        return;
    for (int i = 0; i < http->loop_count; i++)
        loop_free(http->loops[i]);
    lock_release(&http->lock);
    free(http->ca_bundle);
    free(http->proxy);
    free(http->http_proxy);
    free(http);
}

static struct loop *choose_loop_locked(struct http *http)
{
    struct loop *least = http->loops[0];
    for (int i = 1; i < http->loop_count; i++)
        if (http->loops[i]->load < least->load)
            least = http->loops[i];
    return least;
}

static uint64_t count_bytes(const struct iovec *pieces, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += pieces[i].iov_len;
    return bytes;
}

static void reset_outputs(struct http_call *call)
{
    if (!call->text.bytes) /* a zeroed call is ready */
        call->text = (struct buf)BUF_INIT;
    if (!call->head.bytes)
        call->head = (struct buf)BUF_INIT;
    buf_reset(&call->text);
    buf_reset(&call->head);
    call->end = HTTP_ANSWERED;
    call->detail[0] = 0;
    call->status = 0;
    call->sends = 0;
    __atomic_store_n(&call->sent, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&call->received, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&call->moved_ms, clock_ms(), __ATOMIC_RELAXED);
}

void http_start(struct http *http, struct http_call *call)
{
    struct transfer *transfer = xcalloc(1, sizeof(*transfer));

    assert(call->done && call->method && call->url);
    reset_outputs(call);
    transfer->call = call;
    transfer->body_bytes = count_bytes(call->body, call->body_count);
    list_init(&transfer->link);
    list_init(&transfer->cancel_link);

    LOCK_SCOPED(&http->lock);
    assert(!call->running);
    transfer->loop = choose_loop_locked(http);
    transfer->loop->load++;
    call->running = transfer;
    list_append(&transfer->loop->starts, &transfer->link);
    loop_wake_locked(transfer->loop);
}

void http_cancel(struct http *http, struct http_call *call)
{
    LOCK_SCOPED(&http->lock);
    struct transfer *transfer = call->running;
    if (!transfer || !list_empty(&transfer->cancel_link))
        return;
    list_append(&transfer->loop->cancels, &transfer->cancel_link);
    loop_wake_locked(transfer->loop);
}

const char *http_header(const struct http_call *call, const char *name)
{
    const char *at = call->head.bytes, *end = at + call->head.length;
    while (at && at < end) {
        const char *value = at + strlen(at) + 1;
        if (!strcasecmp(at, name))
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

void http_each_header(const struct http_call *call,
                      void (*each)(void *context, const char *name, const char *value), void *context)
{
    const char *at = call->head.bytes, *end = at + call->head.length;
    while (at && at < end) {
        const char *value = at + strlen(at) + 1;
        each(context, at, value);
        at = value + strlen(value) + 1;
    }
}

void http_call_release(struct http_call *call)
{
    if (!call)
        return;
    assert(!call->running);
    if (call->text.bytes)
        buf_release(&call->text);
    if (call->head.bytes)
        buf_release(&call->head);
}

void http_timer_start(struct http *http, struct http_timer *timer, int64_t delay_ms)
{
    LOCK_SCOPED(&http->lock);
    struct loop *loop = choose_loop_locked(http);
    struct list *place = loop->timers.prev;

    timer->due_ms = clock_ms() + (delay_ms > 0 ? delay_ms : 0);
    timer->loop = loop;
    while (place != &loop->timers && container_of(place, struct http_timer, link)->due_ms > timer->due_ms)
        place = place->prev;
    list_insert_after(place, &timer->link);
    loop_wake_locked(loop);
}

bool http_timer_stop(struct http *http, struct http_timer *timer)
{
    LOCK_SCOPED(&http->lock);
    if (!timer->loop) /* never started, or the loop has taken it off to fire it */
        return false;
    timer->loop = NULL;
    list_remove(&timer->link);
    return true;
}
