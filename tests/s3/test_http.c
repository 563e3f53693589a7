#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/waiter.h"
#include "s3/http.h"
#include "tests/support/wire.h"

#define LONG_MS 60000

/* A call with its end to wait for. */
struct trial {
    struct http_call call;
    struct lock lock;
    struct gate gate;
    bool ended;
    int ends;
    uint64_t taken;
    int falls; /* of that */
    char url[64];
};

static struct http *http;

/* SKYVOL_TEST_LIBCURL: what connections of our own do for plain HTTP, libcurl has to do for the rest (tests/CMakeLists.txt). */
static struct http_config configure(void)
{
    return (struct http_config){.loops = 1, .connections_max = 4, .libcurl = getenv("SKYVOL_TEST_LIBCURL")};
}

static void set_up(void)
{
    struct http_config config = configure();
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(http_new(&config, &http, &why), 0, "%s", why.bytes);
}

static void tear_down(void)
{
    http_free(http);
}

TestSuite(http, .init = set_up, .fini = tear_down);

static void end_trial(struct http_call *call)
{
    struct trial *trial = call->owner;
    LOCK_SCOPED(&trial->lock);
    trial->ended = true;
    trial->ends++;
    gate_open(&trial->gate);
}

static void trial_init(struct trial *trial, const struct wire *wire, const char *method, const char *path)
{
    *trial = (struct trial){.call = {.method = method, .done = end_trial}};
    trial->call.owner = trial;
    trial->call.url = trial->url;
    snprintf(trial->url, sizeof(trial->url), "http://127.0.0.1:%d%s", wire_port(wire), path);
    lock_init(&trial->lock, LOCK_LEAF, "trial");
    gate_init(&trial->gate);
}

static bool trial_ends_within(struct trial *trial, int64_t ms)
{
    WAITER_SCOPED(waiter);
    int64_t deadline_ms = clock_ms() + ms;
    LOCK_SCOPED(&trial->lock);
    while (!trial->ended)
        if (gate_wait_locked(&trial->gate, &trial->lock, &waiter, deadline_ms) < 0)
            return trial->ended;
    return true;
}

static void trial_release(struct trial *trial)
{
    cr_expect(trial_ends_within(trial, LONG_MS));
    cr_expect_eq(trial->ends, 1, "done() came %d times", trial->ends);
    http_call_release(&trial->call);
    gate_release(&trial->gate);
    lock_release(&trial->lock);
}

static void run(struct trial *trial, const struct wire *wire, const char *method, const char *path)
{
    trial_init(trial, wire, method, path);
    http_start(http, &trial->call);
    cr_assert(trial_ends_within(trial, LONG_MS));
}

/* ---- Answers. ---- */

static void serve_hello(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    while (wire_read(connection, &head, &body))
        wire_write(connection, "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nX-AMZ-Meta-Mode:   33188  \r\n"
                               "x-empty:\r\nContent-Length: 5\r\n\r\nhello");
}

static void join_header(void *context, const char *name, const char *value)
{
    buf_printf(context, "%s=%s;", name, value);
}

Test(http, gives_status_headers_in_any_case_and_text)
{
    struct wire *wire = wire_start(serve_hello, NULL);
    struct trial trial;
    BUF_SCOPED all = BUF_INIT;

    run(&trial, wire, "GET", "/");
    cr_expect_eq(trial.call.end, HTTP_ANSWERED);
    cr_expect_eq(trial.call.status, 200);
    cr_expect_str_eq(trial.call.text.bytes, "hello");
    cr_expect_eq(trial.call.received, 5);
    cr_expect_str_eq(http_header(&trial.call, "etag"), "\"x\"");
    cr_expect_str_eq(http_header(&trial.call, "x-AMZ-meta-mode"), "33188");
    cr_expect_null(http_header(&trial.call, "etagg"));
    http_each_header(&trial.call, join_header, &all);
    cr_expect_str_eq(all.bytes, "etag=\"x\";x-amz-meta-mode=33188;x-empty=;content-length=5;");
    trial_release(&trial);
    wire_free(wire);
}

Test(http, keeps_the_connection)
{
    struct wire *wire = wire_start(serve_hello, NULL);
    for (int i = 0; i < 3; i++) {
        struct trial trial;
        run(&trial, wire, i == 1 ? "HEAD" : "GET", "/");
        /* A HEAD is answered with a body here, which no server does: the connection is of no more use. */
        trial_release(&trial);
        if (i == 0)
            cr_expect_eq(wire_connections(wire), 1);
    }
    wire_free(wire);
}

static void serve_echo(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    BUF_SCOPED answer = BUF_INIT;
    while (wire_read(connection, &head, &body)) {
        buf_reset(&answer);
        buf_printf(&answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s%s", head.length + body.length,
                   head.bytes, body.bytes);
        wire_write(connection, answer.bytes);
    }
}

/* libcurl alone says what it accepts. */
Test(http, a_name_is_libcurls_once_and_then_spoken_to_by_ourselves)
{
    struct wire *wire = wire_start(serve_echo, NULL);
    for (int i = 0; i < 3; i++) {
        struct trial trial;
        trial_init(&trial, wire, "GET", "/");
        snprintf(trial.url, sizeof(trial.url), "http://localhost:%d/", wire_port(wire));
        http_start(http, &trial.call);
        cr_assert(trial_ends_within(&trial, LONG_MS));
        bool by_libcurl = strstr(trial.call.text.bytes, "\r\nAccept:");
        cr_expect_eq(by_libcurl, i == 0 || getenv("SKYVOL_TEST_LIBCURL"), "%d: %s", i, trial.call.text.bytes);
        cr_expect_not_null(strstr(trial.call.text.bytes, "\r\nHost: localhost:"));
        trial_release(&trial);
    }
    wire_free(wire);
}

Test(http, sends_the_path_as_it_is)
{
    struct wire *wire = wire_start(serve_echo, NULL);
    struct trial trial;
    run(&trial, wire, "GET", "/a/../b//./c?x=%2F");
    cr_expect(!strncmp(trial.call.text.bytes, "GET /a/../b//./c?x=%2F HTTP/1.1\r\n", 33), "%s",
              trial.call.text.bytes);
    trial_release(&trial);
    wire_free(wire);
}

Test(http, sends_a_body_of_pieces_and_no_headers_of_its_own_will)
{
    struct wire *wire = wire_start(serve_echo, NULL);
    const char *headers[] = {"x-amz-meta-a: 1", "x-amz-meta-empty;", NULL};
    struct iovec pieces[] = {{(char[]){"one "}, 4}, {NULL, 0}, {(char[]){"two"}, 3}};
    struct trial trial;

    trial_init(&trial, wire, "POST", "/");
    trial.call.headers = headers;
    trial.call.body = pieces;
    trial.call.body_count = 3;
    http_start(http, &trial.call);
    cr_assert(trial_ends_within(&trial, LONG_MS));
    const char *text = trial.call.text.bytes;
    cr_expect(!strcmp(strstr(text, "\r\n\r\n"), "\r\n\r\none two"), "%s", text);
    cr_expect_not_null(strstr(text, "\r\nx-amz-meta-empty:"), "%s", text);
    cr_expect_not_null(strcasestr(text, "\r\nContent-Length: 7\r\n"), "%s", text);
    cr_expect_null(strcasestr(text, "\r\nExpect"), "%s", text);
    cr_expect_null(strcasestr(text, "\r\nContent-Type"), "%s", text);
    cr_expect_null(strcasestr(text, "\r\nAccept-Encoding"), "%s", text);
    cr_expect_eq(trial.call.sent, 7);
    trial_release(&trial);
    wire_free(wire);
}

Test(http, says_length_0_where_a_put_has_no_body)
{
    struct wire *wire = wire_start(serve_echo, NULL);
    const char *const methods[] = {"PUT", "POST"};
    for (int i = 0; i < 2; i++) {
        struct trial trial;
        run(&trial, wire, methods[i], "/");
        cr_expect_not_null(strcasestr(trial.call.text.bytes, "\r\nContent-Length: 0\r\n"), "%s",
                           trial.call.text.bytes);
        trial_release(&trial);
    }
    wire_free(wire);
}

static void serve_odd(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    wire_read(connection, &head, &body);
    wire_write(connection, "HTTP/1.1 100 Continue\r\nx-early: 1\r\n\r\nHTTP/1.1 200 OK\r\n"
                           "Transfer-Encoding: chunked\r\nTrailer: x-late\r\n\r\n"
                           "5\r\nhello\r\n0\r\nx-late: 1\r\n\r\n");
    wire_await_close(connection);
}

Test(http, knows_the_final_header_block_from_those_before_and_after)
{
    struct wire *wire = wire_start(serve_odd, NULL);
    struct trial trial;
    run(&trial, wire, "GET", "/");
    cr_expect_eq(trial.call.status, 200);
    cr_expect_null(http_header(&trial.call, "x-early"));
    cr_expect_null(http_header(&trial.call, "x-late"));
    cr_expect_str_eq(trial.call.text.bytes, "hello");
    trial_release(&trial);
    wire_free(wire);
}

static void serve_redirect(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    while (wire_read(connection, &head, &body))
        wire_write(connection,
                   "HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
}

Test(http, follows_no_redirect)
{
    struct wire *wire = wire_start(serve_redirect, NULL);
    struct trial trial;
    run(&trial, wire, "GET", "/");
    cr_expect_eq(trial.call.end, HTTP_ANSWERED);
    cr_expect_eq(trial.call.status, 307);
    trial_release(&trial);
    wire_free(wire);
}

Test(http, asks_this_host_without_a_proxy_whatever_its_name)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "bucket.localhost"};
    struct wire *wire = wire_start(serve_hello, NULL);
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
        struct trial trial;
        trial_init(&trial, wire, "GET", "/");
        snprintf(trial.url, sizeof(trial.url), "http://%s:%d/", hosts[i], wire_port(wire));
        http_start(http, &trial.call);
        cr_assert(trial_ends_within(&trial, LONG_MS));
        cr_expect_eq(trial.call.end, HTTP_ANSWERED, "%s: %s", hosts[i], trial.call.detail);
        trial_release(&trial);
    }
    wire_free(wire);
}

/* ---- Ends without a whole answer. ---- */

static void serve_cut(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    wire_read(connection, &head, &body);
    wire_write(connection, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
}

Test(http, tells_a_cut_body_from_a_whole_one)
{
    struct wire *wire = wire_start(serve_cut, NULL);
    struct trial trial;
    run(&trial, wire, "GET", "/");
    cr_expect_eq(trial.call.end, HTTP_CUT);
    cr_expect_eq(trial.call.received, 5);
    cr_expect(trial.call.detail[0]);
    trial_release(&trial);
    wire_free(wire);
}

static void serve_nothing(struct wire_connection *connection)
{
    wire_await_close(connection);
}

Test(http, ends_slow_when_no_answer_comes)
{
    struct wire *wire = wire_start(serve_nothing, NULL);
    struct trial trial;
    trial_init(&trial, wire, "GET", "/");
    trial.call.first_byte_timeout_ms = 100;
    http_start(http, &trial.call);
    cr_assert(trial_ends_within(&trial, LONG_MS));
    cr_expect_eq(trial.call.end, HTTP_SLOW);
    trial_release(&trial);
    wire_free(wire);
}

static void serve_stall(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    wire_read(connection, &head, &body);
    wire_write(connection, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    wire_await_close(connection);
}

Test(http, ends_slow_when_the_body_stalls)
{
    struct wire *wire = wire_start(serve_stall, NULL);
    struct trial trial;
    trial_init(&trial, wire, "GET", "/");
    trial.call.stall_timeout_ms = 100;
    http_start(http, &trial.call);
    cr_assert(trial_ends_within(&trial, LONG_MS));
    cr_expect_eq(trial.call.end, HTTP_SLOW);
    cr_expect_eq(trial.call.received, 5);
    trial_release(&trial);
    wire_free(wire);
}

static void serve_drip(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    wire_read(connection, &head, &body);
    wire_write(connection, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
    for (int i = 0; i < 10; i++) {
        struct timespec moment = {.tv_nsec = 60 * 1000000};
        nanosleep(&moment, NULL);
        wire_write(connection, "x");
    }
}

Test(http, every_byte_is_progress)
{
    struct wire *wire = wire_start(serve_drip, NULL);
    struct trial trial;
    trial_init(&trial, wire, "GET", "/");
    trial.call.stall_timeout_ms = trial.call.first_byte_timeout_ms = trial.call.patience_ms = 400;
    http_start(http, &trial.call);
    cr_assert(trial_ends_within(&trial, LONG_MS));
    cr_expect_eq(trial.call.end, HTTP_ANSWERED, "%s", trial.call.detail);
    trial_release(&trial);
    wire_free(wire);
}

/* Eight MiB of the body, and no more for a while: what the sockets hold beyond that is a few MiB. */
static void serve_part(struct wire_connection *connection)
{
    char bytes[65536];
    for (size_t got = 0; got < (size_t)8 << 20;) {
        ssize_t more = read(connection->fd, bytes, sizeof(bytes));
        if (more <= 0)
            return;
        got += (size_t)more;
    }
    usleep(1500000);
}

static void note_taken(struct http_call *call, uint64_t taken)
{
    struct trial *trial = call->owner;
    LOCK_SCOPED(&trial->lock);
    trial->falls += taken < trial->taken;
    trial->taken = taken;
}

Test(http, tells_how_much_of_a_body_the_peer_has)
{
    struct wire *wire = wire_start(serve_part, NULL);
    size_t length = (size_t)64 << 20;
    struct iovec body = {xcalloc(1, length), length};
    struct trial trial;

    trial_init(&trial, wire, "PUT", "/");
    trial.call.body = &body;
    trial.call.body_count = 1;
    trial.call.bulk = true;
    trial.call.taken = note_taken;
    trial.call.stall_timeout_ms = 1000;
    http_start(http, &trial.call);
    cr_expect(trial_ends_within(&trial, LONG_MS));
    cr_expect(trial.taken > (uint64_t)7 << 20 && trial.taken < length / 2, "%llu bytes",
              (unsigned long long)trial.taken);
    cr_expect_eq(trial.falls, 0);
    trial_release(&trial);
    wire_free(wire);
    free(body.iov_base);
}

Test(http, says_that_nothing_was_sent_when_nobody_listens)
{
    struct wire *wire = wire_start(serve_nothing, NULL);
    struct trial trial;
    trial_init(&trial, wire, "GET", "/");
    wire_free(wire);
    http_start(http, &trial.call);
    cr_assert(trial_ends_within(&trial, LONG_MS));
    cr_expect_eq(trial.call.end, HTTP_NO_CONNECTION);
    trial_release(&trial);
}

Test(http, gives_up_connecting_in_time)
{
    struct wire *wire = wire_start(NULL, NULL);
    struct trial trial;
    trial_init(&trial, wire, "GET", "/");
    trial.call.connect_timeout_ms = 200;
    http_start(http, &trial.call);
    cr_assert(trial_ends_within(&trial, LONG_MS));
    cr_expect_eq(trial.call.end, HTTP_NO_CONNECTION);
    trial_release(&trial);
    wire_free(wire);
}

Test(http, keeps_no_text_beyond_its_limit)
{
    struct wire *wire = wire_start(serve_hello, NULL);
    struct trial trial;
    trial_init(&trial, wire, "GET", "/");
    trial.call.text_max = 4;
    http_start(http, &trial.call);
    cr_assert(trial_ends_within(&trial, LONG_MS));
    cr_expect_eq(trial.call.end, HTTP_TOO_BIG);
    trial_release(&trial);
    wire_free(wire);
}

static void serve_no_http(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    wire_read(connection, &head, &body);
    wire_write(connection, "SSH-2.0-OpenSSH\r\n");
}

Test(http, takes_no_answer_that_is_not_http)
{
    struct wire *wire = wire_start(serve_no_http, NULL);
    struct trial trial;
    run(&trial, wire, "GET", "/");
    cr_expect_neq(trial.call.end, HTTP_ANSWERED);
    trial_release(&trial);
    wire_free(wire);
}

/* The first connection answers once, and is closed while idle: what comes then finds it dead. */
static void serve_once(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    wire_read(connection, &head, &body);
    wire_write(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    if (connection->number == 1)
        wire_read(connection, &head, &body); /* heard, and never answered */
    else
        wire_await_close(connection);
}

Test(http, says_when_a_request_went_out_twice)
{
    struct wire *wire = wire_start(serve_once, NULL);
    struct iovec body = {(char[]){"body"}, 4};
    for (int i = 0; i < 2; i++) {
        struct trial trial;
        trial_init(&trial, wire, "PUT", "/");
        trial.call.body = &body;
        trial.call.body_count = 1;
        http_start(http, &trial.call);
        cr_assert(trial_ends_within(&trial, LONG_MS));
        cr_expect(trial.call.end != HTTP_ANSWERED || trial.call.sends == 1 + i);
        trial_release(&trial);
    }
    wire_free(wire);
}

/* The kept connection hears a second request and is closed; a third one finds nobody. */
static void serve_once_and_go_deaf(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    wire_read(connection, &head, &body);
    wire_write(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    if (wire_read(connection, &head, &body))
        wire_deafen(connection->wire);
}

Test(http, what_was_sent_is_cut_also_when_its_second_connection_is_refused)
{
    struct wire *wire = wire_start(serve_once_and_go_deaf, NULL);
    struct iovec body = {(char[]){"body"}, 4};
    for (int i = 0; i < 2; i++) {
        struct trial trial;
        trial_init(&trial, wire, "PUT", "/");
        trial.call.body = &body;
        trial.call.body_count = 1;
        http_start(http, &trial.call);
        cr_assert(trial_ends_within(&trial, LONG_MS));
        cr_expect(trial.call.end == (i == 0 ? HTTP_ANSWERED : HTTP_CUT), "%d: %s", i, trial.call.detail);
        trial_release(&trial);
    }
    wire_free(wire);
}

/* ---- Cancels, places, timers. ---- */

static void cancel_and_expect(struct trial *trial)
{
    http_cancel(http, &trial->call);
    http_cancel(http, &trial->call);
    cr_assert(trial_ends_within(trial, LONG_MS));
    cr_expect_eq(trial->call.end, HTTP_CANCELED);
    http_cancel(http, &trial->call); /* after its end: nothing */
}

Test(http, a_cancel_ends_a_call_that_connects)
{
    struct wire *wire = wire_start(NULL, NULL);
    struct trial trial;
    trial_init(&trial, wire, "GET", "/");
    http_start(http, &trial.call);
    cr_expect_not(trial_ends_within(&trial, 50));
    cancel_and_expect(&trial);
    trial_release(&trial);
    wire_free(wire);
}

Test(http, a_cancel_ends_a_call_at_once_after_its_start)
{
    struct wire *wire = wire_start(serve_nothing, NULL);
    struct trial trial;
    trial_init(&trial, wire, "GET", "/");
    http_start(http, &trial.call);
    cancel_and_expect(&trial);
    trial_release(&trial);
    wire_free(wire);
}

Test(http, a_cancel_ends_a_call_that_waits_for_an_answer_or_reads_one)
{
    void (*const servers[])(struct wire_connection *) = {serve_nothing, serve_stall};
    for (int i = 0; i < 2; i++) {
        struct wire *wire = wire_start(servers[i], NULL);
        struct trial trial;
        trial_init(&trial, wire, "GET", "/");
        http_start(http, &trial.call);
        cr_expect_not(trial_ends_within(&trial, 50));
        cancel_and_expect(&trial);
        trial_release(&trial);
        wire_free(wire);
    }
}

Test(http, a_cancel_ends_a_call_that_sends)
{
    struct wire *wire = wire_start(serve_nothing, NULL);
    size_t length = (size_t)64 << 20;
    struct iovec body = {xcalloc(1, length), length};
    struct trial trial;

    trial_init(&trial, wire, "PUT", "/");
    trial.call.body = &body;
    trial.call.body_count = 1;
    trial.call.bulk = true;
    http_start(http, &trial.call);
    cr_expect_not(trial_ends_within(&trial, 20));
    cancel_and_expect(&trial);
    trial_release(&trial);
    wire_free(wire);
    free(body.iov_base);
}

/* The server answers only what asks for /small. */
static void serve_small(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    while (wire_read(connection, &head, &body))
        if (!strncmp(head.bytes, "GET /small", 10))
            wire_write(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

Test(http, bulk_calls_leave_places_to_small_ones)
{
    struct wire *wire = wire_start(serve_small, NULL);
    struct trial bulk[6], small, late;

    for (int i = 0; i < 6; i++) {
        trial_init(&bulk[i], wire, "GET", "/bulk");
        bulk[i].call.bulk = true;
        http_start(http, &bulk[i].call);
    }
    while (wire_connections(wire) < 3)
        usleep(1000);
    usleep(20000); /* a fourth bulk call would connect now */
    run(&small, wire, "GET", "/small");
    cr_expect_eq(small.call.status, 200);
    trial_release(&small);
    cr_expect_eq(wire_connections(wire), 4, "three bulk, one small: %d", wire_connections(wire));

    /* The patience of one that waits for a place runs, and one can be canceled. */
    trial_init(&late, wire, "GET", "/bulk");
    late.call.bulk = true;
    late.call.patience_ms = 100;
    http_start(http, &late.call);
    cr_assert(trial_ends_within(&late, LONG_MS));
    cr_expect_eq(late.call.end, HTTP_SLOW);
    cr_expect_eq(late.call.sends, 0);
    trial_release(&late);
    for (int i = 5; i >= 0; i--) {
        cancel_and_expect(&bulk[i]);
        trial_release(&bulk[i]);
    }
    wire_free(wire);
}

static struct http *crowded;
static bool crowd_ends; /* atomic */

static void start_again(struct http_call *call)
{
    if (__atomic_load_n(&crowd_ends, __ATOMIC_ACQUIRE))
        end_trial(call);
    else
        http_start(crowded, call);
}

static void serve_soon(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    while (wire_read(connection, &head, &body)) {
        usleep(5000);
        wire_write(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}

Test(http, a_crowd_of_small_calls_leaves_a_place_to_a_bulk_one)
{
    struct wire *wire = wire_start(serve_soon, NULL);
    struct http_config config = configure();
    struct trial small[8], bulk;
    BUF_SCOPED why = BUF_INIT;

    cr_assert_eq(http_new(&config, &crowded, &why), 0);
    for (int i = 0; i < 8; i++) {
        trial_init(&small[i], wire, "GET", "/");
        small[i].call.done = start_again;
        http_start(crowded, &small[i].call);
    }
    trial_init(&bulk, wire, "GET", "/");
    bulk.call.bulk = true;
    bulk.call.patience_ms = 2000;
    http_start(crowded, &bulk.call);
    cr_assert(trial_ends_within(&bulk, LONG_MS));
    cr_expect_eq(bulk.call.end, HTTP_ANSWERED, "%s", bulk.call.detail);
    __atomic_store_n(&crowd_ends, true, __ATOMIC_RELEASE);
    for (int i = 0; i < 8; i++)
        trial_release(&small[i]);
    trial_release(&bulk);
    http_free(crowded);
    wire_free(wire);
}

static void serve_slowly(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    while (wire_read(connection, &head, &body)) {
        usleep(strstr(head.bytes, "/long") ? 600000 : 100000);
        wire_write(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}

Test(http, the_first_bytes_deadline_does_not_count_the_wait_for_a_place)
{
    struct wire *wire = wire_start(serve_slowly, NULL);
    struct http_config config = {.loops = 1, .connections_max = 2};
    struct http *narrow;
    struct trial first, next;
    BUF_SCOPED why = BUF_INIT;

    cr_assert_eq(http_new(&config, &narrow, &why), 0);
    trial_init(&first, wire, "GET", "/long");
    trial_init(&next, wire, "GET", "/");
    first.call.bulk = next.call.bulk = true; /* one place for both */
    next.call.first_byte_timeout_ms = 400;
    http_start(narrow, &first.call);
    http_start(narrow, &next.call);
    cr_assert(trial_ends_within(&next, LONG_MS));
    cr_expect_eq(next.call.end, HTTP_ANSWERED, "%s", next.call.detail);
    trial_release(&first);
    trial_release(&next);
    http_free(narrow);
    wire_free(wire);
}

Test(http, free_ends_what_runs)
{
    struct wire *wire = wire_start(serve_nothing, NULL);
    struct http_config config = {.loops = 2, .connections_max = 4};
    struct http *other;
    struct trial trials[8];
    BUF_SCOPED why = BUF_INIT;

    cr_assert_eq(http_new(&config, &other, &why), 0);
    for (int i = 0; i < 8; i++) {
        trial_init(&trials[i], wire, "GET", "/");
        http_start(other, &trials[i].call);
    }
    http_free(other);
    for (int i = 0; i < 8; i++) {
        cr_expect(trials[i].ended);
        cr_expect_eq(trials[i].call.end, HTTP_CANCELED);
        trial_release(&trials[i]);
    }
    wire_free(wire);
}

struct alarm {
    struct http_timer timer;
    struct trial trial;
};

static void ring(struct http_timer *timer)
{
    end_trial(&container_of(timer, struct alarm, timer)->trial.call);
}

Test(http, a_timer_fires_once_unless_it_is_stopped)
{
    struct wire *wire = wire_start(serve_nothing, NULL);
    struct alarm soon = {.timer.fire = ring}, stopped = {.timer.fire = ring};

    cr_expect_not(http_timer_stop(http, &soon.timer), "it never ran");
    trial_init(&soon.trial, wire, "GET", "/");
    trial_init(&stopped.trial, wire, "GET", "/");
    http_timer_start(http, &stopped.timer, 100);
    http_timer_start(http, &soon.timer, 10);
    cr_expect(http_timer_stop(http, &stopped.timer));
    cr_expect(trial_ends_within(&soon.trial, LONG_MS));
    cr_expect_not(http_timer_stop(http, &soon.timer), "it fired");
    cr_expect_not(trial_ends_within(&stopped.trial, 300));
    wire_free(wire);
}

/* The socket that did not connect is closed, and its number may come again: epoll must know that it is another. */
Test(http, a_refused_first_address_does_not_hide_the_second)
{
    struct wire *wire = wire_start(serve_hello, NULL); /* on 127.0.0.1 only; libcurl tries [::1] first */
    struct trial trial;

    trial_init(&trial, wire, "GET", "/");
    snprintf(trial.url, sizeof(trial.url), "http://localhost:%d/", wire_port(wire));
    http_start(http, &trial.call);
    cr_assert(trial_ends_within(&trial, LONG_MS));
    cr_expect_eq(trial.call.end, HTTP_ANSWERED, "%s", trial.call.detail);
    trial_release(&trial);
    wire_free(wire);
}

/* The loop is told to stop at any moment of its first turn. */
Test(http, one_that_is_freed_at_once_ends)
{
    for (int i = 0; i < 20000; i++) {
        struct http_config config = {.loops = 1};
        struct http *brief;
        BUF_SCOPED why = BUF_INIT;
        cr_assert_eq(http_new(&config, &brief, &why), 0, "%s", why.bytes);
        struct timespec start, now; /* 0 ... 100 us later, by the nanosecond: a sleep is too coarse */
        clock_gettime(CLOCK_MONOTONIC, &start);
        do
            clock_gettime(CLOCK_MONOTONIC, &now);
        while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < i % 100 * 1000L);
        http_free(brief);
    }
}
