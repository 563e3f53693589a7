/* Answers in one piece and in two, cut at each byte: what is heard is the same. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "s3/http_message.h"

struct heard {
    struct buf lines, body;
    bool deaf;
};

static bool hear_line(void *context, const char *line, size_t length)
{
    struct heard *heard = context;
    buf_add(&heard->lines, line, length);
    return !heard->deaf;
}

static bool hear_body(void *context, const char *bytes, size_t length)
{
    struct heard *heard = context;
    buf_add(&heard->body, bytes, length);
    return !heard->deaf;
}

struct answer {
    bool to_head;
    const char *text;
    const char *body;  /* NULL: it is no HTTP */
    const char *after; /* what does not belong to it any more */
    enum { WHOLE, AT_CLOSE, CUT } end;
    bool closes;
};

#define OK "HTTP/1.1 200 OK\r\n"

static const struct answer answers[] = {
    {false, OK "Content-Length: 5\r\n\r\nhello", "hello", "", WHOLE, false},
    {false, OK "content-length:5\r\nContent-Length: 5 \r\n\r\nhelloHTTP", "hello", "HTTP", WHOLE, false},
    {false, OK "Content-Length: 0\r\n\r\n", "", "", WHOLE, false},
    {false, OK "Content-Length: 5\r\n\r\nhell", "hell", "", CUT, false},
    {false, OK "Content-Length: 5\r\nConnection: close\r\n\r\nhello", "hello", "", WHOLE, true},
    {false, OK "Content-Length: 0\r\nConnection: Upgrade , Close\r\n\r\n", "", "", WHOLE, true},
    {false, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "", "", WHOLE, true},
    {false, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", "", "", WHOLE, false},
    {false, OK "\r\nhello", "hello", "", AT_CLOSE, true},
    {false, OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", "hello world",
     "", WHOLE, false},
    {false, OK "Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\nx-late: 1\r\n\r\nrest",
     "0123456789", "rest", WHOLE, false},
    {false, OK "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n", "a", "", WHOLE,
     false},
    {false, OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hello", "", CUT, false},
    {false, "HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 1\r\n\r\na", "a", "", WHOLE, false},
    {false, "HTTP/1.1 204 No Content\r\n\r\n", "", "", WHOLE, false},
    {false, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "", "", WHOLE, false},
    {true, OK "Content-Length: 5\r\n\r\n", "", "", WHOLE, false},
    {true, OK "Transfer-Encoding: chunked\r\n\r\n", "", "", WHOLE, false},
    {false, OK "x-empty:\r\nContent-Length: 0\r\n\r\n", "", "", WHOLE, false},
    {false, "HTTP/1.1 200\nContent-Length: 1\n\na", "a", "", WHOLE, false},
    {false, OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", NULL, NULL, CUT, false},
    {false, OK "Content-Length: -5\r\n\r\n", NULL, NULL, CUT, false},
    {false, OK "Content-Length: 5x\r\n\r\n", NULL, NULL, CUT, false},
    {false, OK "Content-Length: 9999999999999999999\r\n\r\n", NULL, NULL, CUT, false},
    {false, OK "Transfer-Encoding: gzip, chunked\r\n\r\n", NULL, NULL, CUT, false},
    {false, OK "Transfer-Encoding: chunked\r\n\r\n-1\r\n", NULL, NULL, CUT, false},
    {false, OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n", NULL, NULL, CUT, false},
    {false, OK "Transfer-Encoding: chunked\r\n\r\n1234567890123456\r\n", NULL, NULL, CUT, false},
    {false, OK " folded: 1\r\n\r\n", NULL, NULL, CUT, false},
    {false, OK "no colon\r\n\r\n", NULL, NULL, CUT, false},
    {false, OK ": no name\r\n\r\n", NULL, NULL, CUT, false},
    {false, "HTTP/1.1 2000 OK\r\n\r\n", NULL, NULL, CUT, false},
    {false, "HTTP/1.1 20 OK\r\n\r\n", NULL, NULL, CUT, false},
    {false, "HTTP/1.1 099 OK\r\n\r\n", NULL, NULL, CUT, false},
    {false, "HTTP/2.0 200 OK\r\n\r\n", NULL, NULL, CUT, false},
    {false, "SSH-2.0", NULL, NULL, CUT, false},
    {false, "HTTX", NULL, NULL, CUT, false},
};

/* In pieces that end at `cut` and at the end. Returns what message_take() said of the last one, -1000 more for none. */
static ssize_t take(struct message *message, const char *text, size_t cut, struct heard *heard,
                    const char **ret_after)
{
    const struct message_ear ear = {hear_line, hear_body, heard};
    size_t length = strlen(text);
    ssize_t taken = message_take(message, text, cut, &ear);
    if (taken >= 0 && (size_t)taken == cut) {
        ssize_t more = message_take(message, text + cut, length - cut, &ear);
        taken = more < 0 ? more : taken + more;
    }
    *ret_after = taken < 0 ? NULL : text + taken;
    return taken;
}

static void check(const struct answer *answer, size_t cut)
{
    struct heard heard = {.lines = BUF_INIT, .body = BUF_INIT};
    struct message message;
    const char *after;
    message_init(&message, answer->to_head);
    ssize_t taken = take(&message, answer->text, cut, &heard, &after);
    if (!answer->body) {
        cr_expect_eq(taken, -EBADMSG, "%s: cut at %zu: %zd", answer->text, cut, taken);
    } else {
        cr_expect_geq(taken, 0, "%s: cut at %zu: %zd", answer->text, cut, taken);
        cr_expect_str_eq(heard.body.bytes, answer->body, "%s: cut at %zu", answer->text, cut);
        cr_expect(taken >= 0 && strcmp(after, answer->after) == 0, "%s: cut at %zu", answer->text, cut);
        cr_expect_eq(message.state == MESSAGE_WHOLE, answer->end == WHOLE, "%s: cut at %zu", answer->text,
                     cut);
        cr_expect_eq(message_close(&message), answer->end != CUT, "%s: cut at %zu", answer->text, cut);
        cr_expect_eq(message.closes, answer->closes, "%s: cut at %zu", answer->text, cut);
    }
    message_release(&message);
    buf_release(&heard.lines);
    buf_release(&heard.body);
}

Test(http_message, is_the_same_however_it_is_cut)
{
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        for (size_t cut = 0; cut <= strlen(answers[i].text); cut++)
            check(&answers[i], cut);
}

Test(http_message, heads_are_heard_line_by_line_and_trailers_are_not)
{
    const char *text =
        "HTTP/1.1 100 Continue\r\n\r\n" OK "a: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nlate: 1\r\n\r\n";
    struct heard heard = {.lines = BUF_INIT, .body = BUF_INIT};
    struct message message;
    const char *after;
    message_init(&message, false);
    cr_assert_eq(take(&message, text, 0, &heard, &after), (ssize_t)strlen(text));
    cr_expect_str_eq(heard.lines.bytes,
                     "HTTP/1.1 100 Continue\r\n\r\n" OK "a: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
    cr_expect(message.begun);
    message_release(&message);
    buf_release(&heard.lines);
    buf_release(&heard.body);
}

Test(http_message, an_ear_that_wants_no_more_ends_it)
{
    struct heard heard = {.lines = BUF_INIT, .body = BUF_INIT, .deaf = true};
    struct message message;
    const char *after;
    message_init(&message, false);
    cr_expect_eq(take(&message, OK, 0, &heard, &after), -ECANCELED);
    message_release(&message);
    buf_release(&heard.lines);
    buf_release(&heard.body);
}

Test(http_message, a_line_without_end_is_refused)
{
    const struct message_ear ear = {hear_line, hear_body,
                                    &(struct heard){.lines = BUF_INIT, .body = BUF_INIT}};
    char some[4096];
    struct message message;
    ssize_t taken = 0;
    memset(some, 'a', sizeof some);
    message_init(&message, false);
    cr_assert_eq(message_take(&message, OK, strlen(OK), &ear), (ssize_t)strlen(OK));
    size_t all = 0;
    for (; taken >= 0 && all <= 2 * HTTP_LINE_MAX; all += sizeof some)
        taken = message_take(&message, some, sizeof some, &ear);
    cr_expect_eq(taken, -EBADMSG);
    cr_expect_leq(all, HTTP_LINE_MAX + 2 * sizeof some);
    message_release(&message);
    struct heard *heard = ear.context;
    buf_release(&heard->lines);
    buf_release(&heard->body);
}
