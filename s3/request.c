#include "s3/request.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/secret.h"
#include "s3/code.h"

static void attempt(struct request *request);
static void hear_done(struct http_call *http);
static void fire_timer(struct http_timer *timer);

struct request *request_new(struct bucket *bucket, struct store_call *call, const struct operation *operation)
{
    struct request *request = xcalloc(1, sizeof(*request));
    request->bucket = bucket;
    request->call = call;
    request->operation = operation;
    request->references = 1;
    request->begun_ms = request->progress_ms = clock_ms();
    request->document = request->url = request->lines = (struct buf)BUF_INIT;
    request->http.owner = request;
    request->timer.fire = fire_timer;
    retry_init(&request->retry, call);
    return request;
}

struct request *request_ref(struct request *request)
{
    __atomic_add_fetch(&request->references, 1, __ATOMIC_RELAXED);
    return request;
}

/* Among them are the session token and the signature. */
static void wipe_headers(struct request *request)
{
    for (size_t i = 0; i < request->headers.count; i++)
        secret_wipe(request->headers.all[i].value, strlen(request->headers.all[i].value));
    secret_wipe(request->lines.bytes, request->lines.length);
}

static void release_attempt(struct request *request)
{
    wipe_headers(request);
    store_fields_release(&request->query);
    store_fields_release(&request->headers);
    buf_reset(&request->document);
    buf_reset(&request->url);
    buf_reset(&request->lines);
    free(request->line_list);
    request->line_list = NULL;
    endpoint_unref(request->endpoint);
    request->endpoint = NULL;
    keys_unref(request->keys);
    request->keys = NULL;
    request->target_key = NULL;
    request->body_kind = BODY_NONE;
    request->bulk = request->checksum_sent = false;
    memset(&request->answer_error, 0, sizeof(request->answer_error));
}

void request_unref(struct request *request)
{
    if (!request || __atomic_sub_fetch(&request->references, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    release_attempt(request);
    http_call_release(&request->http);
    buf_release(&request->document);
    buf_release(&request->url);
    buf_release(&request->lines);
    free(request->again.all);
    free(request->key_marker);
    free(request->id_marker);
    free(request);
}

void request_add_number(struct store_fields *fields, const char *name, uint64_t value)
{
    STRING_SCOPED *text = xprintf("%" PRIu64, value);
    store_fields_set(fields, name, text);
}

static bool is_canceled(struct request *request)
{
    return __atomic_load_n(&request->canceled, __ATOMIC_SEQ_CST);
}

void request_cancel(struct request *request)
{
    struct http *http = request->bucket->http;
    __atomic_store_n(&request->canceled, true, __ATOMIC_SEQ_CST);
    http_cancel(http, &request->http);
    if (http_timer_stop(http, &request->timer))
        http_timer_start(http, &request->timer, 0);
}

/* ---- The end. ---- */

static void count(struct request *request, uint64_t *counter, uint64_t more)
{
    LOCK_SCOPED(&request->bucket->lock);
    *counter += more;
}

static void fill_error(struct request *request)
{
    struct store_error *error = &request->call->error;
    const char *id = http_header(&request->http, "x-amz-request-id");

    *error = (struct store_error){0};
    error->http_status = request->http.end == HTTP_ANSWERED ? request->http.status : 0;
    answer_error_to_store(&request->answer_error, error);
    if (!error->request_id[0] && id)
        snprintf(error->request_id, sizeof(error->request_id), "%.63s", id);
    if (request->http.end != HTTP_ANSWERED && !error->message[0])
        snprintf(error->message, sizeof(error->message), "%s", request->http.detail);
}

/* The last attempt had only the rest of the patience, and that is what ended it: the one before it tells why. */
static bool was_cut_short(const struct request *request)
{
    const struct store_error *before = &request->call->error;
    int64_t given_ms = request->http.patience_ms;
    return request->http.end != HTTP_ANSWERED && (before->http_status || before->message[0]) &&
           given_ms > 0 && given_ms <= request->call->patience_ms / 2 && request_patience_left(request) <= 0;
}

/* What a refusal teaches about the endpoint. */
static void learn_refusal(struct request *request, int rc)
{
    if (rc != -EOPNOTSUPP)
        return;
    if (request->call->op == STORE_DELETE_MANY)
        bucket_learn(request->bucket, ABILITY_OF(delete_many), ABILITY_NO);
    if (request->call->op == STORE_PART_COPY)
        bucket_learn(request->bucket, ABILITY_OF(part_copy), ABILITY_NO);
}

static void learn_success(struct request *request)
{
    if (request->call->op == STORE_DELETE_MANY)
        bucket_learn(request->bucket, ABILITY_OF(delete_many), ABILITY_YES);
    if (request->call->op == STORE_PART_COPY)
        bucket_learn(request->bucket, ABILITY_OF(part_copy), ABILITY_YES);
}

static void finish(struct request *request, int rc, bool unknown)
{
    struct store_call *call = request->call;

    call->rc = rc;
    call->unknown = rc < 0 && unknown;
    if (rc < 0) {
        if (!was_cut_short(request))
            fill_error(request);
        learn_refusal(request, rc);
        if (rc != -ENOENT && rc != -ESTALE && rc != -EEXIST) /* what a question or a condition is answered */
            count(request, &request->bucket->counters.failures, 1);
    } else {
        call->error = (struct store_error){0};
        learn_success(request);
    }
    call->error.refused = rc < 0 && request->verdict.refused;
    call->error.attempts = request->attempts;
    call->error.took_ms = clock_ms() - request->begun_ms;
    request->ended(request); /* the call is its owner's from here on */
    request_unref(request);
}

void request_explain(struct request *request, const char *code, const char *words)
{
    struct answer_error *error = &request->answer_error;
    snprintf(error->code, sizeof(error->code), "%s", code);
    snprintf(error->message, sizeof(error->message), "%.199s", words);
}

/* Ends a call for a reason of our own, with words for it. */
static void refuse(struct request *request, int rc, const char *code, const char *words)
{
    request_explain(request, code, words);
    request->verdict.refused = false;
    finish(request, rc, request->retry.maybe);
}

/* ---- Attempts. ---- */

static void hear_started(struct http_call *http)
{
    struct request *request = http->owner;
    if (http->status >= 200 && http->status < 300)
        request->operation->started(request);
}

static void hear_taken(struct http_call *http, uint64_t taken)
{
    const struct request *request = http->owner;
    request->call->taken(request->call, taken);
}

/* The other thread that may look at the request now is one that cancels it. */
static void launch(struct request *request)
{
    struct http *http = request->bucket->http;
    request_ref(request);
    http_start(http, &request->http);
    if (is_canceled(request))
        http_cancel(http, &request->http);
    request_unref(request);
}

static void attempt(struct request *request)
{
    int rc;

    if (is_canceled(request)) {
        refuse(request, -ECANCELED, "", "canceled");
        return;
    }
    release_attempt(request);
    request->finding_region = false;
    rc = request_build(request);
    if (rc < 0) {
        request->verdict.refused = rc == -EACCES; /* there are no keys */
        finish(request, rc, request->retry.maybe);
        return;
    }
    request->http.started = request->operation->started ? hear_started : NULL;
    request->http.taken = request->call->taken && request->body_kind == BODY_DATA ? hear_taken : NULL;
    if (request->http.taken && request->attempts > 0)
        request->call->taken(request->call, 0);
    request->http.done = hear_done;
    request->attempts++;
    count(request, &request->bucket->counters.attempts, 1);
    launch(request);
}

void request_begin(struct request *request)
{
    assert(request->ended);
    attempt(request);
}

static void fire_timer(struct http_timer *timer)
{
    attempt(container_of(timer, struct request, timer));
}

static void wait_and_attempt(struct request *request, int64_t after_ms)
{
    struct http *http = request->bucket->http;
    count(request, &request->bucket->counters.retries, 1);
    if (after_ms <= 0) {
        attempt(request);
        return;
    }
    request_ref(request);
    http_timer_start(http, &request->timer, after_ms);
    if (is_canceled(request) && http_timer_stop(http, &request->timer))
        http_timer_start(http, &request->timer, 0);
    request_unref(request);
}

/* ---- Repairs. ---- */

static void give_up(struct request *request)
{
    bool good = request->http.end == HTTP_ANSWERED && request->http.status / 100 == 2;
    bool settled = good && request->verdict.rc != -ECANCELED && request->operation->settle &&
                   request->operation->settle(request);
    finish(request, settled ? 0 : request->verdict.rc, request->verdict.unknown);
}

/* True when requests go elsewhere now than this one went. */
static bool has_moved(struct request *request)
{
    struct endpoint *now = bucket_endpoint(request->bucket);
    bool moved = strcmp(now->region, request->endpoint->region) != 0;
    endpoint_unref(now);
    return moved;
}

static void ask_for_region(struct request *request)
{
    struct http_call *http = &request->http;
    BUF_SCOPED host = BUF_INIT;
    BUF_SCOPED path = BUF_INIT;

    request->finding_region = true;
    endpoint_locate(request->endpoint, NULL, &host, &path);
    buf_reset(&request->url);
    endpoint_url(request->endpoint, host.bytes, path.bytes, "", &request->url);
    request_set_deadlines(request);
    http->started = NULL;
    http->taken = NULL;
    http->done = hear_done;
    http->method = "HEAD";
    http->url = request->url.bytes;
    http->headers = NULL;
    http->body = NULL;
    http->body_count = 0;
    launch(request);
}

static void repair_region(struct request *request, const char *region)
{
    if ((region && bucket_move(request->bucket, request->endpoint, region) == 0) || has_moved(request))
        wait_and_attempt(request, 0);
    else if (!request->finding_region && endpoint_tells_region(request->endpoint))
        ask_for_region(request);
    else
        give_up(request);
}

static void repair_keys(struct request *request)
{
    struct credentials *credentials = request->bucket->credentials;
    if (credentials && request->keys && credentials_refused(credentials, request->keys) == 1)
        wait_and_attempt(request, 0);
    else
        give_up(request);
}

/* The server's clock minus ours, by the Date of its answer. False: it did not say. */
static bool read_skew(const struct request *request, int64_t *ret_skew_ns)
{
    const char *date = http_header(&request->http, "date");
    int64_t server_ns;
    if (!date || clock_parse_http(date, &server_ns) < 0)
        return false;
    *ret_skew_ns = server_ns - clock_wall_ns();
    return true;
}

static void repair_clock(struct request *request)
{
    int64_t skew_ns;
    if (!read_skew(request, &skew_ns)) {
        give_up(request);
        return;
    }
    bucket_set_skew(request->bucket, skew_ns);
    wait_and_attempt(request, 0);
}

/* ---- Judging. ---- */

static void log_verdict(const struct request *request, const struct retry_event *event)
{
    const struct retry_verdict *verdict = &request->verdict;
    if (verdict->next == RETRY_DONE || !log_enabled(LOG_LEVEL_DEBUG))
        return;
    log_debug("%s %s: attempt %d: %d %s %s: %s in %lld ms", store_op_name(request->call->op),
              request->target_key ? request->target_key : "", request->attempts, event->status,
              event->code ? event->code : "", request->http.detail, retry_next_name(verdict->next),
              (long long)verdict->after_ms);
}

static void act(struct request *request, const struct retry_event *event)
{
    log_verdict(request, event);
    switch (request->verdict.next) {
    case RETRY_DONE:
        give_up(request);
        break;
    case RETRY_LATER:
        fill_error(request);
        wait_and_attempt(request, request->verdict.after_ms);
        break;
    case RETRY_REFRESH:
        repair_keys(request);
        break;
    case RETRY_REGION:
        repair_region(request, event->region);
        break;
    case RETRY_CLOCK:
        repair_clock(request);
        break;
    case RETRY_CHECKSUM:
        request_learn_no_checksum(request, "takes no checksum headers");
        wait_and_attempt(request, 0);
        break;
    }
}

/* Bytes that moved for good move the patience's clock; those of an upload that must be sent again do not. */
static void note_progress(struct request *request, struct retry_event *event)
{
    const struct http_call *http = &request->http;

    if (http->sent > request->sent_most) {
        request->sent_most = http->sent;
        request->progress_ms = http->moved_ms;
    }
    if (request->get.landed > request->get.judged) {
        request->progress_ms = http->moved_ms;
        event->progressed = true;
        request->get.judged = request->get.landed;
    }
    LOCK_SCOPED(&request->bucket->lock);
    request->bucket->counters.bytes_out += http->sent;
    request->bucket->counters.bytes_in += http->received;
}

static void read_refusal(struct request *request, struct retry_event *event)
{
    const struct http_call *http = &request->http;
    if (answer_error(http->text.bytes, http->text.length, &request->answer_error) == 0) {
        event->code = request->answer_error.code;
        event->message = request->answer_error.message;
    }
}

static const char *told_region(const struct request *request)
{
    const char *region = http_header(&request->http, "x-amz-bucket-region");
    if (!region || !*region)
        region = request->answer_error.region;
    return *region && strcmp(region, request->endpoint->region) != 0 ? region : NULL;
}

static void read_hints(struct request *request, struct retry_event *event)
{
    const struct http_call *http = &request->http;
    int64_t skew_ns;

    event->region = told_region(request);
    if (read_skew(request, &skew_ns))
        event->skew_ms = (skew_ns - request->signed_skew_ns) / 1000000;
    event->asked_ms = retry_asked_ms(http_header(http, "retry-after"), http_header(http, "x-amz-retry-after"),
                                     clock_wall_ns() + request->signed_skew_ns);
}

static void begin_next_page(struct request *request)
{
    retry_budget_refill(&request->bucket->budget, request->retry.attempts);
    retry_init(&request->retry, request->call);
    request->progress_ms = clock_ms();
    attempt(request);
}

/* Reads a 2xx. True: the request goes on or has ended. */
static bool read_success(struct request *request, struct retry_event *event)
{
    int rc = request->operation->read ? request->operation->read(request) : 0;

    switch (rc) {
    case 0:
        return false;
    case REQUEST_MORE:
        begin_next_page(request);
        return true;
    case REQUEST_UNPROVEN:
        event->unproven = true;
        request_explain(request, "", "nothing shows that the server checked what was sent");
        return false;
    case 1:
        event->code = request->answer_error.code;
        event->message = request->answer_error.message;
        return false;
    case -EBADMSG:
        event->unreadable = true;
        if (!request->answer_error.message[0])
            request_explain(request, "", "the answer makes no sense");
        return false;
    case -EAGAIN: /* a range that ended early though the answer was whole */
        event->end = HTTP_CUT;
        return false;
    default:
        refuse(request, rc, "", "the answer cannot be read");
        return true;
    }
}

/* "I do not know such a request", not a region, keys, a clock or a moment that were wrong. */
static bool is_refused_for_good(int status, const char *code)
{
    enum code_class class = code_find(status, code)->class;
    return (status == 400 || status == 501) && (class == CODE_FINAL || class == CODE_FEATURE);
}

/* Refusals that are answers to what we tried: a range behind the end, a listing that was asked for too much. */
static bool try_otherwise(struct request *request, const struct retry_event *event)
{
    const struct store_call *call = request->call;
    int status = request->http.status;

    if (call->op == STORE_GET && status == 416 && request->get.landed == 0 && !request->get.past_end) {
        request->get.past_end = true;
    } else if (call->op == STORE_LIST && request->list_meta_sent &&
               is_refused_for_good(status, event->code) &&
               bucket_can(request->bucket, ABILITY_OF(list_meta)) == ABILITY_UNKNOWN) {
        bucket_learn(request->bucket, ABILITY_OF(list_meta), ABILITY_NO);
    } else {
        return false;
    }
    attempt(request);
    return true;
}

/* A body that was ended by us, or broke, behind the last byte that we want. */
static bool is_whole(const struct request *request)
{
    return request->call->op == STORE_GET && request->get.expected_known &&
           request->get.landed == request->get.expected;
}

static void judge(struct request *request)
{
    struct retry_event event = {
        .end = request->http.end,
        .status = request->http.end == HTTP_ANSWERED ? request->http.status : 0,
        .head = !strcmp(request->http.method, "HEAD"),
        .nothing_sent = request->http.sends == 0,
        .canceled = is_canceled(request),
        .checksum_sent = request->checksum_sent,
    };
    uint32_t chance;
    int slowed = request->retry.slowed;

    note_progress(request, &event);
    if (request->http.sends > 1)
        request->retry.maybe = true; /* the first sending may have been heard */
    if (request->get.landed > 0 && event.end == HTTP_ANSWERED && event.status == 416) {
        request->get.rc = -ESTALE; /* shorter than it was, at a server that ignores If-Match */
        request->get.words = "the object changed while it was read";
    }
    if (request->get.rc) {
        refuse(request, request->get.rc, "", request->get.words);
        return;
    }
    if (event.end == HTTP_CUT && is_whole(request)) {
        event.end = HTTP_ANSWERED;
        event.status = request->http.status;
    }
    if (event.end == HTTP_ANSWERED && event.status >= 200 && event.status < 300) {
        if (read_success(request, &event))
            return;
    } else if (event.end == HTTP_ANSWERED) {
        read_refusal(request, &event);
        if (try_otherwise(request, &event))
            return;
    }
    read_hints(request, &event);
    event.patience_left_ms = request_patience_left(request);
    digest_random(&chance, sizeof(chance));
    request->verdict = retry_next(&request->retry, &event, &request->bucket->budget, chance);
    if (request->retry.slowed != slowed && request->call->slowed)
        request->call->slowed(request->call);
    act(request, &event);
}

/* The bucket's HEAD for its region went wrong: the attempt that wanted to know counts as failed without having been heard. */
static void judge_region(struct request *request)
{
    struct retry_event event = {
        .end = request->http.end == HTTP_ANSWERED ? HTTP_CUT : request->http.end,
        .nothing_sent = true,
        .patience_left_ms = request_patience_left(request),
    };
    uint32_t chance;

    digest_random(&chance, sizeof(chance));
    request->verdict = retry_next(&request->retry, &event, &request->bucket->budget, chance);
    act(request, &event);
}

static void hear_region(struct request *request)
{
    const struct http_call *http = &request->http;
    if (is_canceled(request))
        refuse(request, -ECANCELED, "", "canceled");
    else if (http->end != HTTP_ANSWERED || http->status >= 500)
        judge_region(request);
    else
        repair_region(request, http_header(http, "x-amz-bucket-region"));
}

static void hear_done(struct http_call *http)
{
    struct request *request = http->owner;
    if (request->finding_region)
        hear_region(request);
    else
        judge(request);
}
