#include <ctype.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "s3/endpoint.h"
#include "s3/http_connection.h"
#include "s3/http_loop.h"

#define HEAD_MAX            ((size_t)256 * 1024)
#define TEXT_MAX_DEFAULT    ((size_t)1 << 20)
#define CONNECT_TIMEOUT_MAX (300 * 1000L)

static void note_moved(struct http_call *call)
{
    __atomic_store_n(&call->moved_ms, clock_ms(), __ATOMIC_RELAXED);
}

static void add_received(struct http_call *call, size_t length)
{
    __atomic_store_n(&call->received, call->received + length, __ATOMIC_RELAXED);
    note_moved(call);
}

/* "HTTP/1.1 206 Partial Content" begins a header block; all blocks but the last are forgotten. */
static void begin_header_block(struct http_call *call, const char *line, size_t length)
{
    const char *space = memchr(line, ' ', length);
    buf_reset(&call->head);
    call->status = space ? (int)strtol(space + 1, NULL, 10) : 0;
}

static void add_header(struct http_call *call, const char *line, size_t length)
{
    const char *colon = memchr(line, ':', length);
    const char *value, *end = line + length;

    if (!colon || colon == line)
        return;
    for (const char *at = line; at < colon; at++)
        buf_add_char(&call->head, (char)tolower((unsigned char)*at));
    buf_add_char(&call->head, 0);
    value = colon + 1;
    while (value < end && isspace((unsigned char)*value))
        value++;
    while (end > value && isspace((unsigned char)end[-1]))
        end--;
    if (!memchr(value, 0, (size_t)(end - value)))
        buf_add(&call->head, value, (size_t)(end - value));
    buf_add_char(&call->head, 0);
}

bool transfer_hear_line(struct transfer *transfer, const char *line, size_t length)
{
    struct http_call *call = transfer->call;

    note_moved(call);
    if (transfer->header_complete) /* a trailer */
        return true;
    transfer->phase = PHASE_RECEIVING;
    if (call->head.length + length > HEAD_MAX) {
        transfer->refused = HTTP_TOO_BIG;
        return false;
    }
    if (length >= 5 && !strncasecmp(line, "HTTP/", 5)) {
        begin_header_block(call, line, length);
        return true;
    }
    if (line[0] != '\r' && line[0] != '\n') {
        add_header(call, line, length);
        return true;
    }
    if (call->status >= 200) {
        transfer->header_complete = true;
        if (call->started)
            call->started(call);
    }
    return true;
}

bool transfer_hear_body(struct transfer *transfer, const char *bytes, size_t length)
{
    struct http_call *call = transfer->call;

    add_received(call, length);
    if (call->sink) {
        if (call->sink(call, bytes, length))
            return true;
        transfer->refused = HTTP_CUT;
        return false;
    }
    if (call->text.length + length > (call->text_max ? call->text_max : TEXT_MAX_DEFAULT)) {
        transfer->refused = HTTP_TOO_BIG;
        return false;
    }
    buf_add(&call->text, bytes, length);
    return true;
}

/* With a user name or anything else that is no bare host it is taken for another host. */
bool http_url_is_loopback(const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    bool six = *host == '[';
    STRING_SCOPED *bare = xstrndup(host + six, strcspn(host + six, six ? "]" : ":/?#"));
    return endpoint_host_is_loopback(bare);
}

char *http_url_place(const char *url)
{
    const char *scheme_end = strstr(url, "://"), *authority = scheme_end ? scheme_end + 3 : url;
    size_t length = strcspn(authority, "/?#");
    const char *at = memrchr(authority, '@', length), *host = at ? at + 1 : authority;
    return xprintf("%.*s%.*s", (int)(authority - url), url, (int)(length - (size_t)(host - authority)), host);
}

long transfer_connect_timeout(const struct http_call *call)
{
    int64_t timeout_ms = call->connect_timeout_ms;
    if (call->patience_ms > 0 && (timeout_ms <= 0 || call->patience_ms < timeout_ms))
        timeout_ms = call->patience_ms;
    return timeout_ms > 0 && timeout_ms < CONNECT_TIMEOUT_MAX ? (long)timeout_ms : CONNECT_TIMEOUT_MAX;
}

static void describe_end(struct transfer *transfer, const char *words)
{
    struct http_call *call = transfer->call;
    if (call->end == HTTP_ANSWERED)
        return;
    if (call->end == HTTP_TOO_BIG)
        words = "the answer is larger than allowed";
    if (!words)
        words = "the answer is incomplete";
    snprintf(call->detail, sizeof(call->detail), "%.*s", (int)sizeof(call->detail) - 1, words);
}

/* Of what libcurl sends; our own connections count as they send. */
static void read_sent(struct transfer *transfer)
{
    uint64_t sent;
    if (transfer->body_bytes == 0 || !transfer->easy || !curl_engine_sent(transfer, &sent) ||
        sent == transfer->call->sent)
        return;
    __atomic_store_n(&transfer->call->sent, sent, __ATOMIC_RELAXED);
    note_moved(transfer->call);
}

int transfer_begin(struct transfer *transfer)
{
    transfer->begun_ms = clock_ms();
    return connection_begin(transfer) ? 0 : curl_engine_begin(transfer);
}

void transfer_finish(struct transfer *transfer, enum http_end end, const char *words)
{
    if (end == HTTP_ANSWERED && transfer->refused != HTTP_ANSWERED)
        end = transfer->refused;
    if (end == HTTP_ANSWERED && !transfer->header_complete)
        end = HTTP_BROKEN;
    transfer->call->end = end;
    describe_end(transfer, words);
    read_sent(transfer);
    if (transfer->connection)
        connection_leave(transfer);
    curl_engine_leave(transfer);
}

/* Bytes that the peer acknowledges while its answer is awaited are progress: the socket may hold megabytes. */
static void note_acknowledged(struct transfer *transfer)
{
    int fd = transfer->connection ? connection_socket(transfer) : curl_engine_socket(transfer);
    int bytes = 0;
    if (fd < 0 || ioctl(fd, SIOCOUTQ, &bytes) < 0)
        return;
    if (bytes < transfer->unacknowledged)
        note_moved(transfer->call);
    transfer->unacknowledged = bytes;
}

static void tell_taken(struct transfer *transfer)
{
    struct http_call *call = transfer->call;
    uint64_t waits = transfer->unacknowledged > 0 ? (uint64_t)transfer->unacknowledged : 0;
    uint64_t taken = call->sent > waits ? call->sent - waits : 0;
    if (!call->taken || taken == transfer->taken)
        return;
    transfer->taken = taken;
    call->taken(call, taken);
}

static bool passed(int64_t limit_ms, int64_t quiet_ms)
{
    return limit_ms > 0 && quiet_ms >= limit_ms;
}

enum http_end transfer_look(struct transfer *transfer, int64_t now_ms, const char **ret_words)
{
    struct http_call *call = transfer->call;

    if (transfer->phase == PHASE_SENDING || transfer->phase == PHASE_FIRST_BYTE) {
        read_sent(transfer);
        if (transfer->body_bytes > 0) {
            note_acknowledged(transfer);
            tell_taken(transfer);
        }
        transfer->phase = call->sent >= transfer->body_bytes ? PHASE_FIRST_BYTE : PHASE_SENDING;
    }
    if (passed(call->patience_ms, now_ms - call->moved_ms)) {
        *ret_words = transfer->phase == PHASE_WAITING_PLACE ? "no connection became free" : "no progress";
        return HTTP_SLOW;
    }
    if (transfer->connection && transfer->phase == PHASE_CONNECTING &&
        passed(transfer_connect_timeout(call), now_ms - transfer->begun_ms)) {
        *ret_words = "connecting took too long";
        return call->sends > 0 ? HTTP_CUT : HTTP_NO_CONNECTION;
    }
    int64_t quiet_ms =
        now_ms - (call->moved_ms > transfer->sending_ms ? call->moved_ms : transfer->sending_ms);
    if (transfer->phase == PHASE_FIRST_BYTE && passed(call->first_byte_timeout_ms, quiet_ms)) {
        *ret_words = "no answer came";
        return HTTP_SLOW;
    }
    if ((transfer->phase == PHASE_SENDING || transfer->phase == PHASE_RECEIVING) &&
        passed(call->stall_timeout_ms, quiet_ms)) {
        *ret_words = transfer->phase == PHASE_SENDING ? "sending stalled" : "the answer stalled";
        return HTTP_SLOW;
    }
    return HTTP_ANSWERED;
}
