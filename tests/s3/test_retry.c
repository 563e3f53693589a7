#include "s3/retry.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "s3/code.h"

#define OPS STORE_LIST_UPLOADS

static bool changes(enum store_op op)
{
    return op != STORE_GET && op != STORE_HEAD && op != STORE_GET_TAGS && op != STORE_LIST &&
           op != STORE_LIST_PARTS && op != STORE_LIST_UPLOADS;
}

static struct retry begin(enum store_op op, const char *if_match, bool if_absent)
{
    struct store_call call = {.op = op, .if_match = if_match, .if_absent = if_absent};
    struct retry retry;
    retry_init(&retry, &call);
    return retry;
}

static struct retry_event answered(int status, const char *code)
{
    return (struct retry_event){
        .end = HTTP_ANSWERED, .status = status, .code = code, .patience_left_ms = RETRY_FOREVER};
}

static struct retry_event ended(enum http_end end)
{
    return (struct retry_event){.end = end, .patience_left_ms = RETRY_FOREVER};
}

static struct retry_verdict step(struct retry *retry, struct retry_event event)
{
    struct retry_budget budget;
    retry_budget_init(&budget);
    return retry_next(retry, &event, &budget, UINT32_MAX / 2);
}

/* ---- All pairs of operation and end. ---- */

Test(retry, success_ends_every_operation)
{
    for (int op = STORE_GET; op <= OPS; op++) {
        struct retry retry = begin(op, NULL, false);
        struct retry_verdict verdict = step(&retry, answered(op == STORE_GET ? 206 : 200, NULL));
        cr_expect(verdict.next == RETRY_DONE && verdict.rc == 0 && !verdict.unknown, "%s", store_op_name(op));
    }
}

Test(retry, every_operation_is_repeated_after_every_end_without_an_answer)
{
    static const struct {
        enum http_end end;
        bool maybe;
    } ends[] = {{HTTP_NO_CONNECTION, false}, {HTTP_TLS, false},   {HTTP_CUT, true},
                {HTTP_SLOW, true},           {HTTP_BROKEN, true}, {HTTP_CANCELED, true}};
    for (int op = STORE_GET; op <= OPS; op++)
        for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
            struct retry retry = begin(op, NULL, false);
            struct retry_verdict verdict = step(&retry, ended(ends[i].end));
            cr_expect_eq(verdict.next, RETRY_LATER, "%s after %d", store_op_name(op), ends[i].end);
            cr_expect_eq(verdict.rc, -ETIMEDOUT);
            cr_expect_eq(verdict.unknown, ends[i].maybe && changes(op), "%s after %d", store_op_name(op),
                         ends[i].end);
        }
}

struct row {
    int status;
    const char *code;
    enum retry_next next;
    int rc;
    bool maybe;
};

static const struct row rows[] = {
    {404, "NoSuchKey", RETRY_DONE, -ENOENT, false},
    {404, "", RETRY_LATER, -ETIMEDOUT, false}, /* a web server's */
    {404, "NeverHeardOf", RETRY_DONE, -ENOENT, false},
    {404, "NoSuchBucket", RETRY_DONE, -EIO, false},
    {404, "NoSuchUpload", RETRY_DONE, -ENOENT, false},
    {403, "AccessDenied", RETRY_DONE, -EACCES, false},
    {403, "InvalidAccessKeyId", RETRY_REFRESH, -EACCES, false},
    {403, "SignatureDoesNotMatch", RETRY_REFRESH, -EACCES, false},
    {400, "ExpiredToken", RETRY_REFRESH, -EACCES, false},
    {401, "", RETRY_REFRESH, -EACCES, false},
    {403, "RequestTimeTooSkewed", RETRY_CLOCK, -EACCES, false},
    {400, "AuthorizationHeaderMalformed", RETRY_REGION, -EIO, false},
    {301, "PermanentRedirect", RETRY_REGION, -EIO, false},
    {301, "", RETRY_REGION, -EIO, false},
    {307, "TemporaryRedirect", RETRY_REGION, -EIO, false},
    {416, "InvalidRange", RETRY_DONE, -ERANGE, false},
    {412, "PreconditionFailed", RETRY_DONE, -ESTALE, false},
    {412, "", RETRY_DONE, -ESTALE, false},
    {409, "ConditionalRequestConflict", RETRY_LATER, -ETIMEDOUT, false},
    {400, "BadDigest", RETRY_LATER, -ETIMEDOUT, false},
    {400, "EntityTooLarge", RETRY_DONE, -EFBIG, false},
    {400, "KeyTooLongError", RETRY_DONE, -ENAMETOOLONG, false},
    {400, "XMinioInvalidObjectName", RETRY_DONE, -EILSEQ, false},
    {400, "XMinioInvalidResourceName", RETRY_DONE, -EILSEQ, false},
    {400, "MetadataTooLarge", RETRY_DONE, -E2BIG, false},
    {400, "InvalidArgument", RETRY_DONE, -EIO, false},
    {400, "NeverHeardOf", RETRY_DONE, -EIO, false},
    {418, "", RETRY_DONE, -EIO, false},
    {400, "RequestTimeout", RETRY_LATER, -ETIMEDOUT, true},
    {499, "ClientDisconnected", RETRY_LATER, -ETIMEDOUT, true},
    {499, "", RETRY_LATER, -ETIMEDOUT, true},
    {500, "InternalError", RETRY_LATER, -ETIMEDOUT, true},
    {500, "NeverHeardOf", RETRY_LATER, -ETIMEDOUT, true},
    {502, "", RETRY_LATER, -ETIMEDOUT, true},
    {503, "SlowDown", RETRY_LATER, -ETIMEDOUT, false},
    {503, "", RETRY_LATER, -ETIMEDOUT, true},
    {504, "", RETRY_LATER, -ETIMEDOUT, true},
    {520, "", RETRY_LATER, -ETIMEDOUT, true},
    {429, "TooManyRequests", RETRY_LATER, -ETIMEDOUT, false},
    {429, "", RETRY_LATER, -ETIMEDOUT, false},
    {501, "NotImplemented", RETRY_DONE, -EOPNOTSUPP, false},
    {405, "MethodNotAllowed", RETRY_DONE, -EOPNOTSUPP, false},
    {507, "XMinioStorageFull", RETRY_DONE, -ENOSPC, false},
    {200, "InternalError", RETRY_LATER, -ETIMEDOUT, true},
    {200, "SlowDown", RETRY_LATER, -ETIMEDOUT, false},
    {200, "NoSuchKey", RETRY_DONE, -ENOENT, false},
    {200, "NeverHeardOf", RETRY_LATER, -ETIMEDOUT, true},
};

Test(retry, every_operation_meets_every_code)
{
    for (int op = STORE_GET; op <= OPS; op++)
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
            const struct row *row = &rows[i];
            struct retry retry = begin(op, NULL, false);
            struct retry_event event = answered(row->status, row->code);
            event.head = op == STORE_HEAD;
            struct retry_verdict verdict = step(&retry, event);
            bool removed = row->rc == -ENOENT && (op == STORE_DELETE || op == STORE_ABORT);
            /* HEAD tells no codes: behind its 400 may be keys that have expired. */
            bool guessed = op == STORE_HEAD && !strcmp(row->code, "NeverHeardOf") && row->status == 400;
            bool bare = op == STORE_HEAD && row->status == 404 && !*row->code;
            enum retry_next next = guessed ? RETRY_REFRESH : bare ? RETRY_DONE : row->next;
            int rc = removed ? 0 : bare ? -ENOENT : row->rc;
            cr_expect_eq(verdict.next, next, "%s %d %s: %s", store_op_name(op), row->status, row->code,
                         retry_next_name(verdict.next));
            cr_expect_eq(verdict.rc, rc, "%s %d %s: %d", store_op_name(op), row->status, row->code,
                         verdict.rc);
            cr_expect_eq(verdict.unknown, row->maybe && changes(op), "%s %d %s", store_op_name(op),
                         row->status, row->code);
        }
}

/* ---- Conditions. ---- */

Test(retry, a_failed_condition_is_told_by_its_kind)
{
    struct retry retry = begin(STORE_PUT, NULL, true);
    cr_expect_eq(step(&retry, answered(412, "PreconditionFailed")).rc, -EEXIST);
    retry = begin(STORE_COMPLETE, NULL, true);
    cr_expect_eq(step(&retry, answered(412, "")).rc, -EEXIST);
    retry = begin(STORE_PUT, "\"e\"", false);
    cr_expect_eq(step(&retry, answered(412, "PreconditionFailed")).rc, -ESTALE);
    retry = begin(STORE_PUT, "\"e\"", false);
    cr_expect_eq(step(&retry, answered(404, "NoSuchKey")).rc, -ESTALE, "its object was removed");
    retry = begin(STORE_PUT, "\"e\"", false);
    cr_expect_eq(step(&retry, answered(404, "NoSuchBucket")).rc, -EIO);
    retry = begin(STORE_COMPLETE, "\"e\"", false);
    cr_expect_eq(step(&retry, answered(404, "NoSuchKey")).rc, -ESTALE);
    retry = begin(STORE_COMPLETE, "\"e\"", false);
    cr_expect_eq(step(&retry, answered(404, "NoSuchUpload")).rc, -ENOENT);
    retry = begin(STORE_GET, "\"e\"", false);
    cr_expect_eq(step(&retry, answered(404, "NoSuchKey")).rc, -ENOENT);
    retry = begin(STORE_DELETE, "\"e\"", false);
    cr_expect_eq(step(&retry, answered(412, "")).rc, -ESTALE);
}

Test(retry, a_copy_from_too_large_a_source_is_told_by_the_message)
{
    struct retry_event event = answered(400, "InvalidRequest");
    struct retry retry = begin(STORE_COPY, NULL, false);
    cr_expect_eq(step(&retry, event).rc, -EIO);
    event.message =
        "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120";
    static const enum store_op ops[] = {STORE_COPY, STORE_PART_COPY, STORE_PUT};
    static const int rcs[] = {-EFBIG, -EFBIG, -EIO};
    for (int i = 0; i < 3; i++) {
        retry = begin(ops[i], NULL, false);
        struct retry_verdict verdict = step(&retry, event);
        cr_expect(verdict.next == RETRY_DONE && verdict.rc == rcs[i], "%s", store_op_name(ops[i]));
    }
}

Test(retry, a_condition_that_fails_after_a_lost_reply_is_unknown_and_no_failure)
{
    static const enum http_end lost[] = {HTTP_CUT, HTTP_SLOW, HTTP_BROKEN};
    static const enum store_op ops[] = {STORE_PUT, STORE_COMPLETE, STORE_DELETE};
    static const int statuses[] = {412, 404, 409};
    for (size_t l = 0; l < 3; l++)
        for (size_t o = 0; o < 3; o++)
            for (size_t s = 0; s < 3; s++) {
                struct retry retry = begin(ops[o], "\"e\"", false);
                cr_expect_eq(step(&retry, ended(lost[l])).next, RETRY_LATER);
                struct retry_verdict verdict =
                    step(&retry, answered(statuses[s], statuses[s] == 404 ? "NoSuchKey" : ""));
                bool gone = ops[o] == STORE_DELETE && statuses[s] == 404;
                cr_expect_eq(verdict.unknown, !gone, "%s %d", store_op_name(ops[o]), statuses[s]);
            }
    struct retry retry = begin(STORE_COMPLETE, NULL, false);
    step(&retry, answered(500, "InternalError"));
    struct retry_verdict verdict = step(&retry, answered(404, "NoSuchUpload"));
    cr_expect(verdict.next == RETRY_DONE && verdict.rc == -ENOENT && verdict.unknown);
    retry = begin(STORE_COMPLETE, NULL, false);
    verdict = step(&retry, answered(404, "NoSuchUpload"));
    cr_expect(verdict.rc == -ENOENT && !verdict.unknown, "at the first try it is a fact");
    retry = begin(STORE_PUT, "\"e\"", false);
    step(&retry, ended(HTTP_NO_CONNECTION));
    verdict = step(&retry, answered(412, ""));
    cr_expect(verdict.rc == -ESTALE && !verdict.unknown, "nothing was sent before");
    retry = begin(STORE_PUT, "\"e\"", false);
    step(&retry, ended(HTTP_CUT));
    verdict = step(&retry, answered(200, NULL));
    cr_expect(verdict.rc == 0 && !verdict.unknown, "success settles it");
}

/* ---- Repairs. ---- */

Test(retry, each_repair_is_tried_once_and_the_region_twice)
{
    static const struct {
        int status;
        const char *code;
        int times;
    } repairs[] = {
        {403, "SignatureDoesNotMatch", 1}, {403, "RequestTimeTooSkewed", 1}, {301, "PermanentRedirect", 2}};
    for (size_t i = 0; i < 3; i++) {
        struct retry retry = begin(STORE_PUT, NULL, false);
        for (int n = 0; n < 4; n++) {
            struct retry_verdict verdict = step(&retry, answered(repairs[i].status, repairs[i].code));
            cr_expect_eq(verdict.next == RETRY_DONE, n >= repairs[i].times, "%s %d", repairs[i].code, n);
            cr_expect(verdict.rc < 0);
        }
    }
}

Test(retry, head_without_a_body_is_read_by_its_status_and_headers)
{
    static const enum store_op ops[] = {STORE_HEAD, STORE_GET}; /* an empty GET is sent as a HEAD */
    struct retry_event event;
    struct retry retry;
    for (int i = 0; i < 2; i++) {
        retry = begin(ops[i], NULL, false);
        event = answered(400, "");
        event.head = true;
        event.region = "eu-west-1";
        cr_expect_eq(step(&retry, event).next, RETRY_REGION);
        retry = begin(ops[i], NULL, false);
        event = answered(403, "");
        event.head = true;
        event.skew_ms = -3600000;
        cr_expect_eq(step(&retry, event).next, RETRY_CLOCK);
        cr_expect_eq(step(&retry, event).next, RETRY_DONE, "once");
        retry = begin(ops[i], NULL, false);
        event.skew_ms = 0;
        cr_expect_eq(step(&retry, event).next, RETRY_REFRESH);
        cr_expect_eq(step(&retry, event).next, RETRY_DONE);
        event.status = 404;
        cr_expect_eq(step(&retry, event).rc, -ENOENT);
    }
    retry = begin(STORE_PUT, NULL, false);
    event = answered(403, "AccessDenied");
    event.skew_ms = 3600000;
    cr_expect_eq(step(&retry, event).next, RETRY_DONE, "a code is believed");
    cr_expect_eq(step(&retry, event).rc, -EACCES);
}

Test(retry, an_endpoint_that_takes_no_checksum_is_asked_again_without)
{
    struct retry_event event = answered(400, "InvalidArgument");
    event.message = "Unsupported header 'x-amz-checksum-crc32c' received for this API call.";
    struct retry retry = begin(STORE_PUT, NULL, false);
    cr_expect_eq(step(&retry, event).next, RETRY_DONE, "none was sent");
    event.checksum_sent = true;
    retry = begin(STORE_PUT, NULL, false);
    cr_expect_eq(step(&retry, event).next, RETRY_CHECKSUM);
    cr_expect_eq(step(&retry, event).next, RETRY_DONE);
    event = answered(400, "ExcessHeaderValues");
    event.checksum_sent = true;
    retry = begin(STORE_PART, NULL, false);
    cr_expect_eq(step(&retry, event).next, RETRY_CHECKSUM);
    event = answered(400, "XAmzContentChecksumMismatch");
    event.message = "The provided 'x-amz-checksum' header does not match what was computed.";
    event.checksum_sent = true;
    retry = begin(STORE_PART, NULL, false);
    cr_expect_eq(step(&retry, event).next, RETRY_LATER, "damaged in transit");
}

Test(retry, what_nothing_proves_is_sent_again_with_another_check_unless_a_condition_would_meet_it)
{
    struct retry_event event = answered(200, NULL);
    event.checksum_sent = event.unproven = true;
    struct retry retry = begin(STORE_PUT, NULL, false);
    struct retry_verdict verdict = step(&retry, event);
    cr_expect(verdict.next == RETRY_CHECKSUM && verdict.unknown);
    cr_expect(step(&retry, answered(403, "AccessDenied")).unknown, "the first one is there");
    retry = begin(STORE_PUT, NULL, true);
    verdict = step(&retry, event);
    cr_expect(verdict.next == RETRY_DONE && verdict.rc == -EIO && verdict.unknown);
}

Test(retry, a_404_that_is_not_s3s_tells_nothing_about_a_key)
{
    for (int op = STORE_GET; op <= OPS; op++) {
        struct retry retry = begin(op, NULL, false);
        struct retry_verdict verdict;
        int repeats = 0;
        while ((verdict = step(&retry, answered(404, ""))).next == RETRY_LATER)
            cr_assert(++repeats < 10);
        cr_expect(verdict.rc == -EIO && repeats == 4, "%s: %d", store_op_name(op), verdict.rc);
    }
}

Test(retry, damage_is_repeated_a_few_times_only)
{
    struct retry retry = begin(STORE_PUT, NULL, false);
    int repeats = 0;
    struct retry_verdict verdict;
    while ((verdict = step(&retry, answered(400, "BadDigest"))).next == RETRY_LATER)
        cr_assert(++repeats < 10);
    cr_expect_eq(verdict.rc, -EIO);
    cr_expect_eq(repeats, 4);
    retry = begin(STORE_LIST, NULL, false);
    struct retry_event event = answered(200, NULL);
    event.unreadable = true;
    for (repeats = 0; step(&retry, event).next == RETRY_LATER; repeats++)
        cr_assert(repeats < 10);
    cr_expect_eq(repeats, 4);
}

/* ---- Time. ---- */

static int64_t delay_of(int attempts, struct retry_event event, uint32_t chance)
{
    struct retry_budget budget;
    retry_budget_init(&budget);
    struct retry retry = begin(STORE_GET, NULL, false);
    struct retry_verdict verdict = {0};
    for (int i = 0; i < attempts; i++)
        verdict = retry_next(&retry, &event, &budget, chance);
    cr_assert_eq(verdict.next, RETRY_LATER);
    return verdict.after_ms;
}

Test(retry, delays_double_with_full_jitter_up_to_a_bound)
{
    static const int64_t soon[] = {50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 20000, 20000};
    for (int i = 0; i < 11; i++) {
        cr_expect_eq(delay_of(i + 1, answered(500, NULL), 0), 0);
        cr_expect_eq(delay_of(i + 1, answered(500, NULL), UINT32_MAX), soon[i] - 1);
        cr_expect_eq(delay_of(i + 1, answered(500, NULL), UINT32_MAX / 2 + 1), soon[i] / 2);
    }
    cr_expect_eq(delay_of(1, answered(503, "SlowDown"), UINT32_MAX), 499);
    cr_expect_eq(delay_of(2, answered(503, "SlowDown"), UINT32_MAX), 999);
    cr_expect_eq(delay_of(40, answered(503, "SlowDown"), UINT32_MAX), 19999);
    cr_expect_eq(delay_of(40, ended(HTTP_NO_CONNECTION), UINT32_MAX), 4999,
                 "nobody is there to be overloaded");
}

Test(retry, progress_starts_the_delays_anew)
{
    struct retry_budget budget;
    retry_budget_init(&budget);
    struct retry retry = begin(STORE_GET, NULL, false);
    struct retry_event event = ended(HTTP_CUT);
    for (int i = 0; i < 8; i++)
        retry_next(&retry, &event, &budget, 0);
    event.progressed = true;
    cr_expect_eq(retry_next(&retry, &event, &budget, UINT32_MAX).after_ms, 49);
}

Test(retry, waits_that_the_server_asks_for_are_kept)
{
    struct retry_event event = answered(503, "SlowDown");
    event.asked_ms = 3000;
    cr_expect_eq(delay_of(1, event, 0), 3000);
    event.asked_ms = 10ll * 60 * 1000;
    cr_expect_eq(delay_of(1, event, 0), 60000);
    int64_t wall;
    cr_assert_eq(clock_parse_http("Fri, 24 May 2013 00:00:00 GMT", &wall), 0);
    cr_expect_eq(retry_asked_ms(NULL, NULL, wall), 0);
    cr_expect_eq(retry_asked_ms("2", NULL, wall), 2000);
    cr_expect_eq(retry_asked_ms("99999999999999999999", NULL, wall), 0);
    cr_expect_eq(retry_asked_ms("9999999999999", NULL, wall), 60000);
    cr_expect_eq(retry_asked_ms("-3", NULL, wall), 0);
    cr_expect_eq(retry_asked_ms("Fri, 24 May 2013 00:00:05 GMT", NULL, wall), 5000);
    cr_expect_eq(retry_asked_ms("Fri, 24 May 2013 00:00:05 GMT", NULL, wall + 6000000000), 0);
    cr_expect_eq(retry_asked_ms("7", "1500", wall), 1500);
    cr_expect_eq(retry_asked_ms("7", "soon", wall), 7000);
}

Test(retry, patience_ends_a_call_and_no_patience_never_does)
{
    struct retry retry = begin(STORE_PUT, NULL, false);
    struct retry_event event = ended(HTTP_CUT);
    event.patience_left_ms = 0;
    struct retry_verdict verdict = step(&retry, event);
    cr_expect(verdict.next == RETRY_DONE && verdict.rc == -ETIMEDOUT && verdict.unknown);
    retry = begin(STORE_PUT, NULL, false);
    for (int i = 0; i < 20; i++)
        step(&retry, ended(HTTP_NO_CONNECTION));
    event = ended(HTTP_NO_CONNECTION);
    event.patience_left_ms = 1000;
    verdict = step(&retry, event);
    cr_expect(verdict.next == RETRY_LATER && verdict.after_ms < 1000, "%ld", (long)verdict.after_ms);
    for (int i = 0; i < 10000; i++)
        cr_assert_eq(step(&retry, ended(HTTP_NO_CONNECTION)).next, RETRY_LATER);
}

/* A store that is away for 20 s, 64 readers with a patience of 60 s: none may fail (the budget must not), and the server
 * must not be met by thousands of requests. */
Test(retry, an_outage_fails_nobody_and_is_not_made_worse)
{
    struct retry_budget budget;
    retry_budget_init(&budget);
    uint32_t chance = 12345;
    int attempts = 0;
    for (int reader = 0; reader < 64; reader++) {
        struct retry retry = begin(STORE_GET, "\"e\"", false);
        for (int64_t now = 0; now < 20000;) {
            struct retry_event event = answered(503, "");
            event.patience_left_ms = 60000 - now;
            chance = chance * 1664525u + 1013904223u;
            struct retry_verdict verdict = retry_next(&retry, &event, &budget, chance);
            cr_assert_eq(verdict.next, RETRY_LATER, "%s", retry_next_name(verdict.next));
            attempts++;
            now += verdict.after_ms;
        }
    }
    cr_expect(attempts < 64 * 6, "%d", attempts);
    cr_expect_lt(budget.tokens, 5);
    struct retry retry = begin(STORE_GET, NULL, false);
    struct retry_event event = answered(500, NULL);
    cr_expect_geq(retry_next(&retry, &event, &budget, 0).after_ms, 10000,
                  "a poor store waits long from the first");
    retry_budget_refill(&budget, 2);
    retry = begin(STORE_GET, NULL, false);
    cr_expect_eq(retry_next(&retry, &event, &budget, 0).after_ms, 0);
    for (int i = 0; i < 1000; i++)
        retry_budget_refill(&budget, 0);
    cr_expect_eq(budget.tokens, 500);
}

Test(retry, canceled_calls_end_and_say_what_may_have_happened)
{
    struct retry_event event = ended(HTTP_CANCELED);
    event.canceled = true;
    struct retry retry = begin(STORE_PUT, NULL, false);
    struct retry_verdict verdict = step(&retry, event);
    cr_expect(verdict.next == RETRY_DONE && verdict.rc == -ECANCELED && verdict.unknown);
    retry = begin(STORE_GET, NULL, false);
    cr_expect(!step(&retry, event).unknown);
    event.end = HTTP_NO_CONNECTION;
    retry = begin(STORE_PUT, NULL, false);
    cr_expect(!step(&retry, event).unknown);
    event.end = HTTP_CANCELED;
    event.nothing_sent = true;
    cr_expect(!step(&retry, event).unknown, "it waited for a place");
    event = ended(HTTP_SLOW);
    event.nothing_sent = true;
    cr_expect(!step(&retry, event).unknown);
    event = answered(200, NULL);
    event.canceled = true;
    cr_expect_eq(step(&retry, event).rc, 0, "it was done all the same");
    event = answered(503, "SlowDown");
    event.canceled = true;
    cr_expect_eq(step(&retry, event).rc, -ECANCELED);
}

Test(retry, attempts_that_were_too_much_for_the_server_are_counted)
{
    struct retry retry = begin(STORE_PUT, NULL, false);
    step(&retry, answered(500, "InternalError"));
    step(&retry, ended(HTTP_CUT));
    step(&retry, ended(HTTP_NO_CONNECTION));
    cr_expect_eq(retry.slowed, 0);
    step(&retry, answered(503, "SlowDown"));
    step(&retry, answered(429, NULL));
    step(&retry, ended(HTTP_SLOW));
    step(&retry, answered(503, "RequestTimeout"));
    cr_expect_eq(retry.slowed, 4, "%d", retry.slowed);
}

Test(retry, only_what_waiting_alone_does_not_mend_is_a_refusal)
{
    static const struct {
        int status;
        const char *code;
        bool refused;
    } cases[] = {{403, "AccessDenied", true},
                 {404, "NoSuchBucket", true},
                 {400, "EntityTooLarge", true},
                 {501, "NotImplemented", true},
                 {403, "ExpiredToken", true},
                 {507, NULL, true},
                 {503, "SlowDown", false},
                 {500, "InternalError", false},
                 {400, "BadDigest", false},
                 {409, "OperationAborted", false},
                 {429, NULL, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct retry retry = begin(STORE_PUT, NULL, false);
        struct retry_event event = answered(cases[i].status, cases[i].code);
        struct retry_verdict verdict = step(&retry, event);
        event.patience_left_ms = 1;
        for (int again = 0; verdict.next != RETRY_DONE && again < 10; again++)
            verdict = step(&retry, event);
        cr_expect(verdict.next == RETRY_DONE && verdict.rc < 0, "row %zu", i);
        cr_expect_eq(verdict.refused, cases[i].refused, "row %zu", i);
    }
    for (int end = HTTP_NO_CONNECTION; end <= HTTP_BROKEN; end++) {
        struct retry retry = begin(STORE_PUT, NULL, false);
        struct retry_event event = ended((enum http_end)end);
        event.patience_left_ms = 1;
        cr_expect_not(step(&retry, event).refused, "end %d", end);
    }
}
