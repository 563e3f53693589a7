#include "s3/http_loop.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/signals.h"
#include "s3/http_connection.h"

#define EVENTS_MAX 64
#define SWEEP_MS   100 /* how finely deadlines of attempts are seen */

static pthread_once_t curl_started = PTHREAD_ONCE_INIT;

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_ALL);
}

void loop_wake_locked(struct loop *loop)
{
    const uint64_t one = 1;
    if (loop->awake)
        return;
    loop->awake = true;
    if (!pthread_equal(pthread_self(), loop->thread))
        while (write(loop->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
}

/* libcurl's wish to hear of a socket. socket_context tells a socket that epoll has from one that it has not. */
static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context)
{
    struct loop *loop = context;
    struct epoll_event event = {.data.fd = fd};

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        curl_multi_assign(loop->multi, fd, NULL);
        return 0;
    }
    if (what & CURL_POLL_IN)
        event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        event.events |= EPOLLOUT;
    if (epoll_ctl(loop->epoll_fd, socket_context ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
        return -1;
    curl_multi_assign(loop->multi, fd, loop);
    return 0;
}

static int set_curl_timer(CURLM *multi, long timeout_ms, void *context)
{
    struct loop *loop = context;
    (void)multi;
    loop->curl_due_ms = timeout_ms < 0 ? CLOCK_NEVER : clock_ms() + timeout_ms;
    return 0;
}

void loop_end_transfer(struct transfer *transfer, enum http_end end, const char *words)
{
    struct loop *loop = transfer->loop;
    struct http_call *call = transfer->call;

    if (transfer->phase != PHASE_WAITING_PLACE) {
        loop->active_count--;
        loop->bulk_count -= call->bulk;
    }
    transfer_finish(transfer, end, words);

    lock_take(&loop->http->lock);
    call->running = NULL;
    list_remove(&transfer->link); /* a canceled one may still stand in the mailbox */
    list_remove(&transfer->cancel_link);
    loop->load--;
    lock_drop(&loop->http->lock);

    free(transfer);
    lock_assert_none();
    call->done(call);
}

/* The next transfer that may have a place: small ones go first, but while bulk waits they leave it a quarter. */
static struct transfer *next_waiting(struct loop *loop)
{
    struct list *from = NULL;
    bool bulk_waits = !list_empty(&loop->waiting_bulk);
    int small_places = bulk_waits ? loop->places - loop->kept_places : loop->places;
    if (loop->active_count >= loop->places)
        return NULL;
    if (!list_empty(&loop->waiting_small) && loop->active_count - loop->bulk_count < small_places)
        from = &loop->waiting_small;
    else if (bulk_waits && loop->bulk_count < loop->places - loop->kept_places)
        from = &loop->waiting_bulk;
    return from ? container_of(from->next, struct transfer, link) : NULL;
}

void loop_begin_curl(struct transfer *transfer)
{
    if (curl_engine_begin(transfer) < 0)
        loop_end_transfer(transfer, HTTP_BROKEN, "libcurl did not take the request");
}

static void begin_waiting(struct loop *loop)
{
    struct transfer *transfer;
    while ((transfer = next_waiting(loop))) {
        list_remove(&transfer->link);
        list_append(&loop->active, &transfer->link);
        transfer->phase = PHASE_CONNECTING;
        loop->active_count++;
        loop->bulk_count += transfer->call->bulk;
        if (transfer_begin(transfer) < 0)
            loop_end_transfer(transfer, HTTP_BROKEN, "libcurl did not take the request");
    }
}

static void take_starts(struct loop *loop)
{
    struct list starts = LIST_INIT(starts), *at;

    lock_take(&loop->http->lock);
    loop->awake = true; /* wakes are heard until the loop sleeps */
    list_splice(&starts, &loop->starts);
    lock_drop(&loop->http->lock);
    while ((at = list_pop(&starts))) {
        struct transfer *transfer = container_of(at, struct transfer, link);
        list_append(transfer->call->bulk ? &loop->waiting_bulk : &loop->waiting_small, at);
    }
}

static struct transfer *pop_cancel(struct loop *loop)
{
    LOCK_SCOPED(&loop->http->lock);
    struct list *at = list_pop(&loop->cancels);
    return at ? container_of(at, struct transfer, cancel_link) : NULL;
}

static void take_cancels(struct loop *loop)
{
    struct transfer *transfer;
    take_starts(loop); /* so that every transfer named is in a list of this thread */
    while ((transfer = pop_cancel(loop)))
        loop_end_transfer(transfer, HTTP_CANCELED, "canceled");
}

static struct http_timer *pop_timer(struct loop *loop, int64_t now_ms)
{
    LOCK_SCOPED(&loop->http->lock);
    if (list_empty(&loop->timers))
        return NULL;
    struct http_timer *timer = container_of(loop->timers.next, struct http_timer, link);
    if (timer->due_ms > now_ms)
        return NULL;
    list_remove(&timer->link);
    timer->loop = NULL;
    return timer;
}

static void fire_timers(struct loop *loop)
{
    int64_t now_ms = clock_ms();
    struct http_timer *timer;
    while ((timer = pop_timer(loop, now_ms)))
        timer->fire(timer);
}

static void end_finished(struct loop *loop)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(loop->multi, &left))) {
        struct transfer *transfer = NULL;
        const char *words;
        CURLcode result = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
        enum http_end end = curl_engine_end(transfer, result, &words);
        loop_end_transfer(transfer, end, words);
    }
}

static void sweep_list(struct list *transfers, int64_t now_ms)
{
    list_for_each_safe (at, after, transfers) {
        struct transfer *transfer = container_of(at, struct transfer, link);
        const char *words = NULL;
        enum http_end end = transfer_look(transfer, now_ms, &words);
        if (end != HTTP_ANSWERED)
            loop_end_transfer(transfer, end, words);
    }
}

static void sweep(struct loop *loop)
{
    int64_t now_ms = clock_ms();
    if (now_ms < loop->sweep_due_ms)
        return;
    loop->sweep_due_ms = now_ms + SWEEP_MS;
    sweep_list(&loop->active, now_ms);
    sweep_list(&loop->waiting_small, now_ms);
    sweep_list(&loop->waiting_bulk, now_ms);
}

static void run_curl_timer(struct loop *loop)
{
    int running;
    if (loop->curl_due_ms > clock_ms())
        return;
    loop->curl_due_ms = CLOCK_NEVER;
    curl_multi_socket_action(loop->multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

static int64_t earlier(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

/* Milliseconds that the loop may sleep; 0 while the mailbox holds something. After it, wakes write to event_fd. */
static int prepare_sleep(struct loop *loop)
{
    int64_t due_ms = loop->curl_due_ms, now_ms = clock_ms();

    if (!list_empty(&loop->active) || !list_empty(&loop->waiting_small) || !list_empty(&loop->waiting_bulk))
        due_ms = earlier(due_ms, loop->sweep_due_ms);
    LOCK_SCOPED(&loop->http->lock);
    if (!list_empty(&loop->starts) || !list_empty(&loop->cancels) || loop->stopping) /* told while it was awake */
        return 0;
    if (!list_empty(&loop->timers))
        due_ms = earlier(due_ms, container_of(loop->timers.next, struct http_timer, link)->due_ms);
    loop->awake = false;
    if (due_ms == CLOCK_NEVER)
        return -1;
    return due_ms <= now_ms ? 0 : (int)earlier(due_ms - now_ms, INT_MAX);
}

static void handle_event(struct loop *loop, const struct epoll_event *event)
{
    int what = 0, running;
    uint64_t ignored;

    if (event->data.fd == loop->event_fd) {
        if (read(loop->event_fd, &ignored, sizeof(ignored)) < 0)
            return; /* nothing in it: the mailbox is looked at anyway */
        return;
    }
    if (connection_hear(loop->connections, event->data.fd, event->events))
        return;
    if (event->events & EPOLLIN)
        what |= CURL_CSELECT_IN;
    if (event->events & EPOLLOUT)
        what |= CURL_CSELECT_OUT;
    if (event->events & (EPOLLERR | EPOLLHUP))
        what |= CURL_CSELECT_ERR;
    curl_multi_socket_action(loop->multi, event->data.fd, what, &running);
}

/* True when the loop may end: it was told to, and no call is left. Cancels what is left. */
static bool stop_if_told(struct loop *loop)
{
    struct list *lists[] = {&loop->waiting_small, &loop->waiting_bulk, &loop->active};

    lock_take(&loop->http->lock);
    bool stopping = loop->stopping;
    lock_drop(&loop->http->lock);
    if (!stopping)
        return false;
    take_starts(loop);
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        while (!list_empty(lists[i]))
            loop_end_transfer(container_of(lists[i]->next, struct transfer, link), HTTP_CANCELED, "canceled");
    LOCK_SCOPED(&loop->http->lock);
    return loop->load == 0;
}

static void *run_loop(void *context)
{
    struct loop *loop = context;
    struct epoll_event events[EVENTS_MAX];
    sigset_t all;

    signals_of_others(&all); /* signals are the program's; a SIGPIPE of TLS must not end it */
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!stop_if_told(loop)) {
        int count = epoll_wait(loop->epoll_fd, events, EVENTS_MAX, prepare_sleep(loop));
        take_cancels(loop);
        for (int i = 0; i < count; i++)
            handle_event(loop, &events[i]);
        run_curl_timer(loop);
        end_finished(loop);
        sweep(loop);
        fire_timers(loop);
        take_starts(loop);
        begin_waiting(loop);
        run_curl_timer(loop); /* a new transfer starts without another turn */
        end_finished(loop);
    }
    return NULL;
}

static int init_loop_curl(struct loop *loop)
{
    pthread_once(&curl_started, start_curl);
    loop->multi = curl_multi_init();
    loop->share = curl_share_init();
    if (!loop->multi || !loop->share)
        return -ENOMEM;
    /* One thread uses it: no lock functions. */
    curl_share_setopt(loop->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    curl_multi_setopt(loop->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(loop->multi, CURLMOPT_SOCKETDATA, loop);
    curl_multi_setopt(loop->multi, CURLMOPT_TIMERFUNCTION, set_curl_timer);
    curl_multi_setopt(loop->multi, CURLMOPT_TIMERDATA, loop);
    curl_multi_setopt(loop->multi, CURLMOPT_MAXCONNECTS, (long)loop->places);
    curl_multi_setopt(loop->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    return 0;
}

static int init_loop_epoll(struct loop *loop)
{
    struct epoll_event event = {.events = EPOLLIN};
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    event.data.fd = loop->event_fd;
    if (loop->epoll_fd < 0 || loop->event_fd < 0 ||
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->event_fd, &event) < 0)
        return -errno;
    return 0;
}

static void release_loop(struct loop *loop)
{
    for (int i = 0; i < loop->idle_count; i++)
        curl_easy_cleanup(loop->idle[i]);
    free(loop->idle);
    connections_free(loop->connections);
    if (loop->multi)
        curl_multi_cleanup(loop->multi);
    if (loop->share)
        curl_share_cleanup(loop->share);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    if (loop->event_fd >= 0)
        close(loop->event_fd);
    free(loop);
}

int loop_new(struct http *http, int places, struct loop **ret_loop, struct buf *why)
{
    struct loop *loop = xcalloc(1, sizeof(*loop));
    int rc;

    loop->http = http;
    loop->places = places;
    loop->kept_places = places >= 4 ? places / 4 : 1;
    loop->epoll_fd = loop->event_fd = -1;
    loop->idle = xcalloc((size_t)places, sizeof(*loop->idle));
    loop->connections = connections_new(loop);
    loop->curl_due_ms = CLOCK_NEVER;
    loop->awake = true;
    list_init(&loop->starts);
    list_init(&loop->cancels);
    list_init(&loop->timers);
    list_init(&loop->waiting_small);
    list_init(&loop->waiting_bulk);
    list_init(&loop->active);

    rc = init_loop_curl(loop);
    if (!rc)
        rc = init_loop_epoll(loop);
    if (!rc)
        rc = -pthread_create(&loop->thread, NULL, run_loop, loop);
    if (rc) {
        buf_printf(why, "cannot start a network thread: %s", err_text(rc));
        release_loop(loop);
        return rc;
    }
    *ret_loop = loop;
    return 0;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    assert(!pthread_equal(pthread_self(), loop->thread));
    lock_take(&loop->http->lock);
    loop->stopping = true;
    loop_wake_locked(loop);
    lock_drop(&loop->http->lock);
    pthread_join(loop->thread, NULL);
    release_loop(loop);
}
