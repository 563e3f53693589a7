#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/support/script.h"

/* Ranges of an object, as the request machine fetches them from a server that answers from a script. */

TestSuite(range, .init = script_set_up, .fini = script_tear_down);

static char into[16];
static struct iovec pieces[] = {{into, 3}, {into + 3, 7}};
static uint64_t landings[16];
static int landing_count;

static void note_landed(struct store_call *call, uint64_t landed)
{
    (void)call;
    landings[landing_count++ % 16] = landed;
}

static struct store_call make_get(void)
{
    memset(into, 0, sizeof(into));
    return (struct store_call){.op = STORE_GET,
                               .key = "a",
                               .offset = 0,
                               .length = 10,
                               .into = pieces,
                               .into_count = 2,
                               .landed = note_landed,
                               .patience_ms = 20000};
}

#define PARTIAL(etag, range, length, body)                                                                   \
    "HTTP/1.1 206 Partial\r\n" etag "Content-Range: bytes " range "\r\nContent-Length: " length              \
    "\r\n\r\n" body

Test(range, a_cut_body_is_fetched_on_from_where_it_stopped)
{
    script.answers[0] = CUT PARTIAL("ETag: \"e\"\r\n", "0-9/100", "10", "0123");
    script.answers[1] = PARTIAL("ETag: \"e\"\r\n", "4-9/100", "6", "456789");
    script_open(NULL);
    struct store_call call = make_get();
    expect_rc(&call, 0);
    cr_expect_str_eq(into, "0123456789");
    cr_expect_eq(call.received, 10);
    cr_expect_eq(call.object.size, 100);
    expect_ask(0, "Range: bytes=0-9");
    expect_no_ask(0, "If-Match");
    expect_ask(1, "Range: bytes=4-9");
    expect_ask(1, "If-Match: \"e\"");
    cr_expect_eq(landing_count, 1);
    cr_expect_eq(landings[0], 10);
    store_call_release(&call);
}

Test(range, two_versions_are_never_mixed)
{
    static const char *const seconds[] = {
        ERROR("412", "PreconditionFailed", ""),
        PARTIAL("ETag: \"other\"\r\n", "4-9/100", "6", "456789"), /* a server that ignores If-Match */
        ERROR("416", "InvalidRange", ""),
    };
    script.answers[0] = CUT PARTIAL("ETag: \"e\"\r\n", "0-9/100", "10", "0123");
    script_open(NULL);
    for (int i = 0; i < 3; i++) {
        script.answers[1] = seconds[i];
        script_forget();
        struct store_call call = make_get();
        expect_rc(&call, -ESTALE);
        cr_expect_str_eq(into, "0123");
        store_call_release(&call);
    }
}

Test(range, without_an_etag_a_cut_body_is_not_gone_on_with)
{
    script.answers[0] = CUT PARTIAL("", "0-9/100", "10", "0123");
    script.answers[1] = PARTIAL("", "4-9/100", "6", "456789");
    script_open(NULL);
    struct store_call call = make_get();
    expect_rc(&call, -EIO);
    cr_expect_eq(script_asked(), 1);
    store_call_release(&call);
}

Test(range, a_wrong_range_is_not_taken)
{
    script.answers[0] = PARTIAL("ETag: \"e\"\r\n", "5-14/100", "10", "0123456789");
    script_open(NULL);
    struct store_call call = make_get();
    expect_rc(&call, -EIO);
    store_call_release(&call);
}

Test(range, a_server_that_ignores_ranges_still_serves)
{
    script.answers[0] = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 20\r\n\r\nabcdefghijklmnopqrst";
    script_open(NULL);
    struct store_call call = make_get();
    call.offset = 5;
    expect_rc(&call, 0);
    cr_expect_str_eq(into, "fghijklmno");
    store_call_release(&call);
}

Test(range, a_range_across_the_end_is_short)
{
    script.answers[0] = PARTIAL("ETag: \"e\"\r\n", "95-99/100", "5", "01234");
    script_open(NULL);
    struct store_call call = make_get();
    call.offset = 95;
    expect_rc(&call, 0);
    cr_expect_eq(call.received, 5);
    cr_expect_eq(landings[0], 5);
    store_call_release(&call);
}

Test(range, an_object_whose_size_is_not_told_is_not_taken_for_an_empty_one)
{
    script.answers[0] =
        "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        "a\r\n0123456789\r\n0\r\n\r\n";
    script_open(NULL);
    struct store_call get = make_get();
    expect_rc(&get, -EIO);
    cr_expect_not_null(strstr(get.error.message, "how large"), "%s", get.error.message);
    cr_expect_eq(script_asked(), 1);
    script.answers[0] = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nConnection: close\r\n\r\n";
    struct store_call head = {.op = STORE_HEAD, .key = "a", .patience_ms = 20000};
    expect_rc(&head, -EIO);
    store_call_release(&get);
    store_call_release(&head);
}

Test(range, a_range_behind_the_end_is_empty_and_the_object_is_told)
{
    script.answers[0] = ERROR("416", "InvalidRange", "");
    script.answers[1] = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 7\r\n\r\n";
    script_open(NULL);
    struct store_call call = make_get();
    call.offset = 10;
    expect_rc(&call, 0);
    cr_expect_eq(call.received, 0);
    cr_expect_eq(call.object.size, 7);
    expect_ask(1, "HEAD /bucket/a");
    store_call_release(&call);
}

Test(range, a_refused_range_is_empty_only_where_the_object_ends_before_it)
{
    script.answers[0] = ERROR("416", "InvalidRange", "");
    script.answers[1] = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 100\r\n\r\n";
    script.answers[2] = PARTIAL("ETag: \"e\"\r\n", "0-9/100", "10", "0123456789");
    script_open(NULL);
    struct store_call call = make_get();
    expect_rc(&call, 0);
    cr_expect_str_eq(into, "0123456789");
    store_call_release(&call);
    for (int i = 3; i < 13; i++)
        script.answers[i] = script.answers[(i - 3) % 2];
    call = make_get();
    expect_rc(&call, -EIO);
    cr_expect_eq(script_asked(), 13);
    store_call_release(&call);
}
