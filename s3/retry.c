#include "s3/retry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "s3/code.h"

#define BASE_MS          50
#define BASE_THROTTLE_MS 500
#define LONGEST_MS       20000
#define LONGEST_ALONE_MS 5000 /* nobody answers: a knock costs nobody anything */
#define PATIENCE_MIN_MS  50   /* with less, no attempt can be of use */
#define ASKED_MAX_MS     60000
#define STEP_MAX         16
#define FEW_MAX          4
#define REGIONS_MAX      2
#define SKEW_MS          (5 * 60 * 1000) /* servers allow 15 minutes; what is below is not the reason */

#define TOKENS_MAX    500
#define TOKENS_REPEAT 5

/* ---- The budget. ---- */

void retry_budget_init(struct retry_budget *budget)
{
    __atomic_store_n(&budget->tokens, TOKENS_MAX, __ATOMIC_RELAXED);
}

/* False, and nothing is taken: there are not so many. */
static bool take_tokens(struct retry_budget *budget, int wanted)
{
    int have = __atomic_load_n(&budget->tokens, __ATOMIC_RELAXED);
    do {
        if (have < wanted)
            return false;
    } while (!__atomic_compare_exchange_n(&budget->tokens, &have, have - wanted, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return true;
}

void retry_budget_refill(struct retry_budget *budget, int repeats)
{
    int more = repeats > 0 ? repeats * TOKENS_REPEAT : 1;
    int have = __atomic_load_n(&budget->tokens, __ATOMIC_RELAXED), then;
    if (have >= TOKENS_MAX)
        return; /* the usual case writes nothing */
    do {
        then = more > TOKENS_MAX - have ? TOKENS_MAX : have + more;
    } while (
        !__atomic_compare_exchange_n(&budget->tokens, &have, then, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

/* ---- Operations. ---- */

static bool op_changes(enum store_op op)
{
    switch (op) {
    case STORE_GET:
    case STORE_HEAD:
    case STORE_GET_TAGS:
    case STORE_LIST:
    case STORE_LIST_PARTS:
    case STORE_LIST_UPLOADS:
        return false;
    case STORE_PUT:
    case STORE_COPY:
    case STORE_DELETE:
    case STORE_DELETE_MANY:
    case STORE_CREATE:
    case STORE_PART:
    case STORE_PART_COPY:
    case STORE_COMPLETE:
    case STORE_ABORT:
        return true;
    }
    return true;
}

void retry_init(struct retry *retry, const struct store_call *call)
{
    *retry = (struct retry){
        .op = call->op,
        .if_match = call->if_match != NULL,
        .if_absent = call->if_absent,
    };
}

/* What happened, told in errno, with the operation's context: 412 means what its condition meant. */
static int judge_rc(const struct retry *retry, const struct code *code, const struct retry_event *event)
{
    bool copies = retry->op == STORE_COPY || retry->op == STORE_PART_COPY;
    bool missing = code->rc == -ENOENT;
    bool lost_race = event->status == 409 && code->class == CODE_FEW;
    if ((retry->op == STORE_DELETE || retry->op == STORE_ABORT) && missing)
        return 0;
    if (retry->op == STORE_PUT && retry->if_match && missing)
        return -ESTALE; /* the object that the condition named was removed */
    if (retry->op == STORE_COMPLETE && retry->if_match && missing && code->name &&
        !strcmp(code->name, "NoSuchKey"))
        return -ESTALE;
    if (retry->if_absent && (code->rc == -ESTALE || lost_race))
        return -EEXIST;
    if (retry->if_match && lost_race)
        return -ESTALE;
    if (copies && code_refuses_source_size(event->code, event->message))
        return -EFBIG;
    return code->rc;
}

/* ---- Verdicts. ---- */

static struct retry_verdict end_with(const struct retry *retry, int rc)
{
    return (struct retry_verdict){
        .next = RETRY_DONE,
        .rc = rc,
        .unknown = rc != 0 && retry->maybe && op_changes(retry->op),
    };
}

static struct retry_verdict refuse(const struct retry *retry, int rc)
{
    struct retry_verdict verdict = end_with(retry, rc);
    verdict.refused = true;
    return verdict;
}

static struct retry_verdict repair(const struct retry *retry, enum retry_next next, int rc)
{
    struct retry_verdict verdict = refuse(retry, rc);
    verdict.next = next;
    return verdict;
}

struct pace {
    int64_t base_ms, longest_ms;
};

static int64_t draw_delay(struct retry *retry, const struct pace *pace, bool poor, uint32_t chance)
{
    int64_t ceiling = pace->base_ms << retry->step;
    if (ceiling > pace->longest_ms || poor)
        ceiling = pace->longest_ms;
    if (retry->step < STEP_MAX)
        retry->step++;
    /* A poor store draws from the upper half only: few requests, and still spread. */
    int64_t floor_ms = poor ? ceiling / 2 : 0;
    return floor_ms + (int64_t)((uint64_t)chance * (uint64_t)(ceiling - floor_ms) >> 32);
}

static struct retry_verdict repeat_later(struct retry *retry, const struct retry_event *event,
                                         const struct pace *pace, struct retry_budget *budget,
                                         uint32_t chance)
{
    if (event->patience_left_ms <= PATIENCE_MIN_MS)
        return end_with(retry, -ETIMEDOUT);
    int64_t delay = draw_delay(retry, pace, !take_tokens(budget, TOKENS_REPEAT), chance);
    int64_t asked = event->asked_ms < ASKED_MAX_MS ? event->asked_ms : ASKED_MAX_MS;
    if (delay < asked)
        delay = asked;
    if (delay >= event->patience_left_ms) /* the last attempts begin before patience ends */
        delay = event->patience_left_ms / 2;
    struct retry_verdict verdict = end_with(retry, -ETIMEDOUT);
    verdict.next = RETRY_LATER;
    verdict.after_ms = delay;
    return verdict;
}

static struct retry_verdict repeat_soon(struct retry *retry, const struct retry_event *event,
                                        struct retry_budget *budget, uint32_t chance)
{
    return repeat_later(retry, event, &(struct pace){BASE_MS, LONGEST_MS}, budget, chance);
}

static struct retry_verdict repeat_few(struct retry *retry, const struct retry_event *event, int rc,
                                       struct retry_budget *budget, uint32_t chance)
{
    if (++retry->few > FEW_MAX)
        return end_with(retry, rc);
    return repeat_soon(retry, event, budget, chance);
}

/* ---- How an attempt ended: without an answer. ---- */

static struct retry_verdict judge_unanswered(struct retry *retry, const struct retry_event *event,
                                             struct retry_budget *budget, uint32_t chance)
{
    static const struct pace alone = {BASE_MS, LONGEST_ALONE_MS};
    switch (event->end) {
    case HTTP_NO_CONNECTION:
    case HTTP_TLS:
        return repeat_later(retry, event, &alone, budget, chance);
    case HTTP_TOO_BIG:
        retry->maybe = true;
        return end_with(retry, -EIO);
    case HTTP_SLOW:
        retry->slowed++;
        break;
    case HTTP_CANCELED: /* the store ended it, not the caller: out of patience, or a new region, new keys */
    case HTTP_CUT:
    case HTTP_BROKEN:
    case HTTP_ANSWERED:
        break;
    }
    retry->maybe |= !event->nothing_sent;
    return repeat_soon(retry, event, budget, chance);
}

/* ---- With an answer. ---- */

static bool looks_skewed(const struct retry_event *event)
{
    return event->status == 403 && llabs(event->skew_ms) > SKEW_MS;
}

/* HEAD has no body: wrong regions, expired keys and clocks show by their status alone, as 301, 400 and 403. */
static enum code_class guess_class(const struct retry_event *event, const struct code *code)
{
    bool silent = !code->name;
    if (silent && event->region && (event->status == 400 || event->status == 403 || event->status / 100 == 3))
        return CODE_REGION;
    if (silent && looks_skewed(event))
        return CODE_CLOCK;
    if (silent && event->head && (event->status == 400 || event->status == 403))
        return CODE_REFRESH;
    return code->class;
}

static struct retry_verdict judge_class(struct retry *retry, const struct retry_event *event,
                                        enum code_class class, int rc, struct retry_budget *budget,
                                        uint32_t chance)
{
    switch (class) {
    case CODE_RETRY:
        return repeat_soon(retry, event, budget, chance);
    case CODE_THROTTLE:
        return repeat_later(retry, event, &(struct pace){BASE_THROTTLE_MS, LONGEST_MS}, budget, chance);
    case CODE_FEW:
        return repeat_few(retry, event, rc, budget, chance);
    case CODE_REFRESH:
        if (retry->refreshed)
            break;
        retry->refreshed = true;
        return repair(retry, RETRY_REFRESH, rc);
    case CODE_REGION:
        if (retry->regions++ >= REGIONS_MAX)
            break;
        return repair(retry, RETRY_REGION, rc);
    case CODE_CLOCK:
        if (retry->clock_set)
            break;
        retry->clock_set = true;
        return repair(retry, RETRY_CLOCK, rc);
    case CODE_FINAL:
    case CODE_FEATURE:
        break;
    }
    return refuse(retry, rc);
}

/* Of a server that does not speak S3; "no such file" must not follow from it. */
static bool is_foreign_404(const struct retry_event *event)
{
    return event->status == 404 && !event->head && !(event->code && *event->code);
}

static bool asks_for_patience(const struct code *code)
{
    return code->class == CODE_THROTTLE || (code->name && strncmp(code->name, "RequestTimeout", 14) == 0);
}

static struct retry_verdict judge_refusal(struct retry *retry, const struct retry_event *event,
                                          struct retry_budget *budget, uint32_t chance)
{
    const struct code *code = code_find(event->status, event->code);
    int rc = judge_rc(retry, code, event);
    if (event->checksum_sent && !retry->checksum_off &&
        code_refuses_checksum(event->status, event->code, event->message)) {
        retry->checksum_off = true;
        return repair(retry, RETRY_CHECKSUM, rc);
    }
    if (is_foreign_404(event))
        return repeat_few(retry, event, -EIO, budget, chance);
    if (code->may_have_happened)
        retry->maybe = true;
    if (!rc)
        return end_with(retry, 0);
    retry->slowed += asks_for_patience(code);
    return judge_class(retry, event, guess_class(event, code), rc, budget, chance);
}

static struct retry_verdict judge_answer(struct retry *retry, const struct retry_event *event,
                                         struct retry_budget *budget, uint32_t chance)
{
    bool good = event->status >= 200 && event->status < 300;
    bool error_inside = event->code && *event->code;
    if (good && event->unreadable) {
        retry->maybe = true;
        return repeat_few(retry, event, -EIO, budget, chance);
    }
    if (good && event->unproven) {
        retry->maybe = true;
        if (retry->if_match || retry->if_absent || retry->checksum_off)
            return end_with(retry, -EIO);
        retry->checksum_off = true;
        return repair(retry, RETRY_CHECKSUM, -EIO);
    }
    if (good && !error_inside) {
        retry_budget_refill(budget, retry->attempts - 1);
        return end_with(retry, 0);
    }
    return judge_refusal(retry, event, budget, chance);
}

struct retry_verdict retry_next(struct retry *retry, const struct retry_event *event,
                                struct retry_budget *budget, uint32_t chance)
{
    retry->attempts++;
    if (event->progressed)
        retry->step = 0;
    bool nothing_sent = event->nothing_sent || event->end == HTTP_NO_CONNECTION || event->end == HTTP_TLS;
    if (event->canceled && event->end != HTTP_ANSWERED) {
        retry->maybe |= !nothing_sent;
        return end_with(retry, -ECANCELED);
    }
    struct retry_verdict verdict = event->end == HTTP_ANSWERED
                                       ? judge_answer(retry, event, budget, chance)
                                       : judge_unanswered(retry, event, budget, chance);
    if (event->canceled && verdict.next != RETRY_DONE)
        return end_with(retry, -ECANCELED);
    return verdict;
}

/* ---- Waits asked for. ---- */

/* -1: no number. */
static int64_t parse_number(const char *text)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    while (*end == ' ')
        end++;
    return errno || end == text || *end || value < 0 ? -1 : value;
}

int64_t retry_asked_ms(const char *retry_after, const char *amz_retry_after, int64_t wall_ns)
{
    int64_t asked = amz_retry_after ? parse_number(amz_retry_after) : -1;
    if (asked < 0 && retry_after) {
        int64_t seconds = parse_number(retry_after), until_ns;
        if (seconds >= 0)
            asked = seconds > ASKED_MAX_MS / 1000 ? ASKED_MAX_MS : seconds * 1000;
        else if (!clock_parse_http(retry_after, &until_ns))
            asked = (until_ns - wall_ns) / 1000000;
    }
    if (asked < 0)
        return 0;
    return asked > ASKED_MAX_MS ? ASKED_MAX_MS : asked;
}

const char *retry_next_name(enum retry_next next)
{
    static const char *const names[] = {
        [RETRY_DONE] = "done",
        [RETRY_LATER] = "retrying",
        [RETRY_REFRESH] = "reading the keys again",
        [RETRY_REGION] = "other region",
        [RETRY_CLOCK] = "server's clock",
        [RETRY_CHECKSUM] = "Content-MD5 instead",
    };
    return names[next];
}
