#include "mount/api.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/digest.h"
#include "s3/http.h"

#define CONNECT_MS         5000
#define FIRST_BYTE_MS      30000
#define STALL_MS           15000
#define METADATA_MS        3000
#define REPEAT_MS          250
#define REPEAT_MAX_MS      8000
#define RETRY_AFTER_MAX_MS (24 * 60 * 60 * 1000)
#define WORDS_MAX          300

struct api {
    char *name, *url;
    bool metadata;
    int64_t patience_ms;
    struct waiter *waiter;
    struct http *http;
};

/* ---- The address. ---- */

static bool is_plain_text(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

/* What is asked there never leaves the machine's own link. */
static bool is_metadata_host(const char *host, size_t length)
{
    static const char *const hosts[] = {"metadata.google.internal", "metadata", "169.254.169.254",
                                        "[fd20:ce::254]"};
    const char *port = host[0] == '[' ? memchr(host, ']', length) : memchr(host, ':', length);
    size_t bare = port ? (size_t)(port - host) + (host[0] == '[') : length;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
        if (strlen(hosts[i]) == bare && strncasecmp(hosts[i], host, bare) == 0)
            return true;
    return false;
}

static int check_url(const struct api_config *config, struct buf *why)
{
    const char *url = config->url, *host = strstr(url, "://");
    bool tls = strncasecmp(url, "https://", 8) == 0, bare = strncasecmp(url, "http://", 7) == 0;
    size_t length = host ? strcspn(host + 3, "/?#") : 0;
    if ((!tls && !bare) || !length || !is_plain_text(url) || strpbrk(url, "?#\\") ||
        memchr(host + 3, '@', length)) {
        buf_printf(why, "%s: '%s' is no address of %s: https://HOST[:PORT][/PATH]", config->where, url,
                   config->name);
        return -EINVAL;
    }
    if (!tls && !(config->metadata && is_metadata_host(host + 3, length)) && !http_url_is_loopback(url)) {
        buf_printf(why, "%s: '%s' would send keys unencrypted: https://, or http:// to this host only",
                   config->where, url);
        return -EINVAL;
    }
    return 0;
}

int api_new(const struct api_config *config, struct api **ret_api, struct buf *why)
{
    int rc = check_url(config, why);
    if (rc < 0)
        return rc;
    struct http *http;
    struct http_config line = {.loops = 1, .connections_max = 4, .proxy = config->metadata ? "" : NULL};
    rc = http_new(&line, &http, why);
    if (rc < 0)
        return rc;
    struct api *api = xcalloc(1, sizeof(*api));
    api->name = xstrdup(config->name);
    api->url = xstrdup(config->url);
    for (size_t length = strlen(api->url); length && api->url[length - 1] == '/'; length--)
        api->url[length - 1] = '\0';
    api->metadata = config->metadata;
    api->patience_ms = config->patience_ms ? config->patience_ms : API_PATIENCE_MS;
    api->waiter = config->waiter;
    api->http = http;
    *ret_api = api;
    return 0;
}

void api_free(struct api *api)
{
    if (!api)
        return;
    http_free(api->http);
    free(api->name);
    free(api->url);
    free(api);
}

const char *api_url(const struct api *api)
{
    return api->url;
}

void api_answer_release(struct api_answer *answer)
{
    json_free(answer->json);
    secret_unref(answer->text);
    free(answer->wanted);
    *answer = (struct api_answer){0};
}

/* ---- Waiting. ---- */

struct attempt {
    struct http_call call;
    struct lock lock;
    struct gate gate;
    bool done;
    char *lines[API_LINES_MAX + API_HEADERS_MAX + 3]; /* of the head; they hold secrets */
    struct buf url;
    struct iovec body;
};

static void end_attempt(struct http_call *call)
{
    struct attempt *attempt = call->owner;
    LOCK_SCOPED(&attempt->lock);
    attempt->done = true;
    gate_open(&attempt->gate);
}

static int await_end(struct attempt *attempt, struct waiter *waiter)
{
    int rc = 0;
    LOCK_SCOPED(&attempt->lock);
    while (!attempt->done && rc == 0)
        rc = gate_wait_locked(&attempt->gate, &attempt->lock, waiter, CLOCK_NEVER);
    return attempt->done ? 0 : rc;
}

int api_pause(struct api *api, int64_t ms)
{
    struct lock lock;
    struct gate gate;
    int64_t deadline = clock_ms() + ms;
    lock_init(&lock, LOCK_LEAF, "api pause");
    gate_init(&gate);
    lock_take(&lock);
    int rc = gate_wait_locked(&gate, &lock, api->waiter, deadline);
    lock_drop(&lock);
    gate_release(&gate);
    lock_release(&lock);
    return rc == -ETIMEDOUT ? 0 : rc;
}

/* ---- One attempt. ---- */

static void fill_head(struct attempt *attempt, const struct api_request *request)
{
    size_t count = 0;
    for (size_t i = 0; i < API_HEADERS_MAX && request->headers[i].name; i++) {
        const struct api_header *header = &request->headers[i];
        attempt->lines[count++] = xprintf("%s: %s%s", header->name, header->value ? header->value : "",
                                          header->secret ? secret_reveal(header->secret) : "");
    }
    for (size_t i = 0; i < API_LINES_MAX && request->lines && request->lines[i]; i++)
        attempt->lines[count++] = xstrdup(request->lines[i]);
    if (!request->plain)
        attempt->lines[count++] = xstrdup("Accept: application/json");
    if (request->content_type)
        attempt->lines[count++] = xprintf("Content-Type: %s", request->content_type);
}

static void fill_call(struct api *api, struct attempt *attempt, const struct api_request *request)
{
    struct http_call *call = &attempt->call;
    const char *body = request->secret_body ? secret_reveal(request->secret_body) : request->body;
    buf_printf(&attempt->url, "%s%s", api->url, request->path);
    fill_head(attempt, request);
    call->method = request->method;
    call->url = attempt->url.bytes;
    call->headers = (const char *const *)attempt->lines;
    if (body) {
        attempt->body = (struct iovec){.iov_base = (void *)(uintptr_t)body, .iov_len = strlen(body)};
        call->body = &attempt->body;
        call->body_count = 1;
    }
    call->text_max = API_ANSWER_MAX;
    call->connect_timeout_ms = api->metadata ? METADATA_MS : CONNECT_MS;
    call->first_byte_timeout_ms = api->metadata ? METADATA_MS : FIRST_BYTE_MS;
    call->stall_timeout_ms = STALL_MS;
    call->done = end_attempt;
    call->owner = attempt;
}

/* api_new() has made one of the same kind. */
static struct http *open_line(const struct api *api)
{
    struct http_config line = {.loops = 1, .connections_max = 1, .proxy = api->metadata ? "" : NULL};
    struct http *http = NULL;
    BUF_SCOPED why = BUF_INIT;
    return http_new(&line, &http, &why) == 0 ? http : api->http;
}

/* -EINTR, or 0: it has ended, in whatever way. */
static int run_attempt(struct api *api, struct attempt *attempt, const struct api_request *request)
{
    lock_init(&attempt->lock, LOCK_LEAF, "api");
    gate_init(&attempt->gate);
    fill_call(api, attempt, request);
    if (waiter_interrupted(api->waiter))
        return -EINTR;
    /* On a kept connection that was found dead a request goes out twice, and the first may have been heard. */
    struct http *http = request->once ? open_line(api) : api->http;
    http_start(http, &attempt->call);
    int rc = await_end(attempt, api->waiter);
    if (rc < 0) {
        WAITER_SCOPED(patient);
        http_cancel(http, &attempt->call);
        await_end(attempt, &patient);
    }
    if (http != api->http)
        http_free(http);
    return rc;
}

static void release_attempt(struct attempt *attempt)
{
    for (size_t i = 0; i < sizeof(attempt->lines) / sizeof(attempt->lines[0]) && attempt->lines[i]; i++) {
        secret_wipe(attempt->lines[i], strlen(attempt->lines[i]));
        free(attempt->lines[i]);
    }
    if (attempt->call.text.length)
        secret_wipe(attempt->call.text.bytes, attempt->call.text.length);
    http_call_release(&attempt->call);
    buf_release(&attempt->url);
    gate_release(&attempt->gate);
    lock_release(&attempt->lock);
}

/* ---- What it says. ---- */

const char *api_error_words(const struct json *answer)
{
    static const char *const names[] = {"message", "error_description", "error_reason", "detail", "title",
                                        "error"};
    const struct json *inner = json_get(answer, "error");
    const char *words = json_get_string(inner, "message");
    if (!words)
        words = json_get_string(json_at(json_get(answer, "errors"), 0), "message");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !words; i++)
        words = json_get_string(answer, names[i]);
    return words && *words ? words : NULL;
}

static bool repeats_secret(const char *words, const struct api_request *request)
{
    for (size_t i = 0; i < API_HEADERS_MAX && request->headers[i].name; i++) {
        const struct secret *secret = request->headers[i].secret;
        if (secret && secret_length(secret) && strstr(words, secret_reveal(secret)))
            return true;
    }
    return request->secret_body != NULL; /* parts of a form: what is in it cannot be told apart */
}

static void add_words(const struct attempt *attempt, const struct api_request *request, struct buf *why)
{
    struct json *json = NULL;
    const char *words = NULL;
    if (json_parse(attempt->call.text.bytes, attempt->call.text.length, &json, NULL) == 0)
        words = request->secret_body ? json_get_string(json, "error") : api_error_words(json);
    if (words && (request->secret_body ? strlen(words) < 40 : !repeats_secret(words, request)))
        buf_printf(why, ": %.*s", WORDS_MAX, words);
    json_free(json);
}

static int name_status(int status)
{
    if (status == 401 || status == 403)
        return -EACCES;
    if (status == 404)
        return -ENOENT;
    if (status == 409)
        return -EEXIST;
    if (status == 429 || status == 503)
        return -EBUSY;
    if (status >= 500)
        return -EIO;
    return status >= 400 ? -EINVAL : -EBADMSG;
}

static int name_end(const struct http_call *call)
{
    switch (call->end) {
    case HTTP_NO_CONNECTION:
        return -EHOSTUNREACH;
    case HTTP_TLS:
        return -EPROTO;
    case HTTP_SLOW:
        return call->sends ? -ETIMEDOUT : -EHOSTUNREACH;
    case HTTP_TOO_BIG:
    case HTTP_BROKEN:
        return -EBADMSG;
    case HTTP_ANSWERED:
    case HTTP_CUT:
    case HTTP_CANCELED:
        break;
    }
    return -EIO;
}

static int say_failure(const struct api *api, const struct attempt *attempt,
                       const struct api_request *request, int tries, struct buf *why)
{
    const struct http_call *call = &attempt->call;
    bool answered = call->end == HTTP_ANSWERED;
    if (answered)
        buf_printf(why, "%s answers %d to %s %s", api->name, call->status, call->method, call->url);
    else
        buf_printf(why, "%s: %s %s: %s", api->name, call->method, call->url,
                   *call->detail ? call->detail : "the connection was cut");
    if (answered)
        add_words(attempt, request, why);
    if (tries > 1)
        buf_printf(why, " (tried %d times)", tries);
    return answered ? name_status(call->status) : name_end(call);
}

/* ---- Again? ---- */

static bool was_perhaps_done(const struct http_call *call)
{
    if (call->end != HTTP_ANSWERED)
        return call->sends > 0;
    return call->status >= 500 && call->status != 503;
}

static bool may_repeat(const struct api *api, const struct http_call *call, const struct api_request *request)
{
    if (api->metadata || call->end == HTTP_TLS || call->end == HTTP_TOO_BIG || call->end == HTTP_BROKEN ||
        call->end == HTTP_CANCELED)
        return false;
    if (request->once && was_perhaps_done(call))
        return false;
    return call->end != HTTP_ANSWERED || call->status == 429 || call->status >= 500;
}

/* What the service asks for; 0: nothing. */
static int64_t asked_ms(const struct http_call *call, int64_t now_ns)
{
    const char *text = call->end == HTTP_ANSWERED ? http_header(call, "retry-after") : NULL;
    int64_t until_ns, ms = 0;
    char *end;
    if (!text || !*text)
        return 0;
    long seconds = strtol(text, &end, 10);
    if (end != text && !*end)
        ms = seconds < 0 ? 0 : seconds > RETRY_AFTER_MAX_MS / 1000 ? RETRY_AFTER_MAX_MS : seconds * 1000L;
    else if (clock_parse_http(text, &until_ns) == 0 && until_ns > now_ns)
        ms = (until_ns - now_ns) / 1000000;
    return ms > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : ms;
}

static int64_t choose_delay_ms(int tries)
{
    uint32_t chance;
    int64_t most = REPEAT_MS << (tries < 6 ? tries : 6);
    digest_random(&chance, sizeof(chance));
    most = most > REPEAT_MAX_MS ? REPEAT_MAX_MS : most;
    return REPEAT_MS / 2 + chance % most;
}

/* ---- The answer. ---- */

static bool is_answer(const struct http_call *call, const struct api_request *request)
{
    if (call->end == HTTP_ANSWERED && request->accept == API_ANY && call->status / 100 != 2 &&
        call->status < 500 && call->status != 429)
        return true;
    return call->end == HTTP_ANSWERED &&
           (call->status / 100 == 2 || (request->accept && call->status == request->accept));
}

static void read_head(const struct http_call *call, const struct api_request *request,
                      struct api_answer *answer)
{
    const char *date = call->end == HTTP_ANSWERED ? http_header(call, "date") : NULL;
    const char *wanted =
        call->end == HTTP_ANSWERED && request->wanted ? http_header(call, request->wanted) : NULL;
    answer->status = call->end == HTTP_ANSWERED ? call->status : 0;
    if (!date || clock_parse_http(date, &answer->date_ns) < 0)
        answer->date_ns = clock_wall_ns();
    free(answer->wanted);
    answer->wanted = wanted ? xstrdup(wanted) : NULL;
}

static int read_answer(const struct api *api, const struct attempt *attempt,
                       const struct api_request *request, struct api_answer *answer, struct buf *why)
{
    const struct http_call *call = &attempt->call;
    BUF_SCOPED words = BUF_INIT;
    if (request->plain) {
        answer->text = secret_new(call->text.bytes, call->text.length);
        return 0;
    }
    if (!call->text.length || call->status / 100 != 2)
        return 0;
    if (json_parse(call->text.bytes, call->text.length, &answer->json, &words) == 0)
        return 0;
    buf_printf(why, "%s answers %d to %s %s with what is no JSON (%s)", api->name, call->status, call->method,
               call->url, words.bytes);
    answer->unknown = request->once;
    return -EBADMSG;
}

/* 1: again, after *ret_delay_ms. */
static int judge(struct api *api, const struct attempt *attempt, const struct api_request *request, int tries,
                 int64_t deadline_ms, struct api_answer *answer, int64_t *ret_delay_ms, struct buf *why)
{
    const struct http_call *call = &attempt->call;
    read_head(call, request, answer);
    if (is_answer(call, request))
        return read_answer(api, attempt, request, answer, why);
    if (was_perhaps_done(call))
        answer->unknown = true;
    int64_t asked = asked_ms(call, answer->date_ns);
    int64_t delay = asked > 0 ? asked : choose_delay_ms(tries);
    if (may_repeat(api, call, request) && clock_ms() + delay < deadline_ms) {
        *ret_delay_ms = delay;
        return 1;
    }
    int rc = say_failure(api, attempt, request, tries, why);
    if (asked > 0)
        buf_printf(why, "; it asks to wait %lld s", (long long)(asked + 999) / 1000);
    return rc;
}

int api_send(struct api *api, const struct api_request *request, struct api_answer *ret_answer,
             struct buf *why)
{
    int64_t deadline_ms = clock_ms() + api->patience_ms;
    *ret_answer = (struct api_answer){0};
    for (int tries = 1;; tries++) {
        struct attempt attempt = {.call = {.text = BUF_INIT, .head = BUF_INIT}, .url = BUF_INIT};
        int64_t delay_ms = 0;
        int rc = run_attempt(api, &attempt, request);
        if (rc == 0) {
            rc = judge(api, &attempt, request, tries, deadline_ms, ret_answer, &delay_ms, why);
        } else {
            buf_printf(why, "%s: interrupted", api->name);
            ret_answer->unknown = ret_answer->unknown || attempt.call.sends > 0;
        }
        release_attempt(&attempt);
        if (rc == 1)
            rc = api_pause(api, delay_ms);
        else
            return rc;
        if (rc < 0) {
            buf_printf(why, "%s: interrupted", api->name);
            return rc;
        }
    }
}
