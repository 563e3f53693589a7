#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "s3/http_connection.h"
#include "s3/http_loop.h"

/* The memory of a connection at work: times connections_max it counts against memory=. */
#define SMALL_BUFFER_BYTES (32 * 1024L)
#define BULK_BUFFER_BYTES  (256 * 1024L)
#define BULK_UPLOAD_BYTES  (256 * 1024L)

static size_t hear_header(char *line, size_t size, size_t count, void *context)
{
    return transfer_hear_line(context, line, size * count) ? size * count : 0;
}

static size_t hear_body(char *bytes, size_t size, size_t count, void *context)
{
    return transfer_hear_body(context, bytes, size * count) ? size * count : 0;
}

static size_t give_body(char *room, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    const struct http_call *call = transfer->call;
    size_t left = size * count, given = 0;

    while (left > 0 && transfer->piece < call->body_count) {
        const struct iovec *piece = &call->body[transfer->piece];
        size_t length = piece->iov_len - transfer->piece_offset;
        if (length > left)
            length = left;
        if (length > 0)
            memcpy(room + given, (const char *)piece->iov_base + transfer->piece_offset, length);
        transfer->piece_offset += length;
        given += length;
        left -= length;
        if (transfer->piece_offset == piece->iov_len) {
            transfer->piece++;
            transfer->piece_offset = 0;
        }
    }
    return given;
}

/* Only ever back to the beginning: libcurl sends again what a dead kept connection did not take. */
static int rewind_body(void *context, curl_off_t offset, int origin)
{
    struct transfer *transfer = context;
    if (origin != SEEK_SET || offset != 0)
        return CURL_SEEKFUNC_FAIL;
    transfer->piece = transfer->piece_offset = 0;
    return CURL_SEEKFUNC_OK;
}

/* A connection is there; the request goes out next. */
static int note_sending(void *context, char *peer, char *local, int peer_port, int local_port)
{
    struct transfer *transfer = context;
    (void)peer, (void)local, (void)peer_port, (void)local_port;
    transfer->phase = PHASE_SENDING;
    transfer->sending_ms = clock_ms();
    transfer->call->sends++;
    return CURL_PREREQFUNC_OK;
}

static void set_proxy(CURL *easy, const struct http *http, const char *url)
{
    if (http->proxy)
        curl_easy_setopt(easy, CURLOPT_PROXY, http->proxy);
    else if (http_url_is_loopback(url))
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    else if (http->http_proxy && !strncmp(url, "http://", 7))
        curl_easy_setopt(easy, CURLOPT_PROXY, http->http_proxy);
}

static void set_constants(CURL *easy, struct transfer *transfer)
{
    const struct http *http = transfer->loop->http;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->words);
    curl_easy_setopt(easy, CURLOPT_SHARE, transfer->loop->share);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* a cancel does not wait for a hanging name lookup */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "skyvol/" SKYVOL_VERSION);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (http->ca_bundle)
        curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_bundle);
    if (http->insecure_tls) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

static void set_callbacks(CURL *easy, struct transfer *transfer)
{
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, hear_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, hear_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_body);
    curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, rewind_body);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, note_sending);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
}

static void set_method(CURL *easy, const struct transfer *transfer)
{
    const struct http_call *call = transfer->call;
    bool sends = !strcmp(call->method, "PUT") || !strcmp(call->method, "POST") || transfer->body_bytes > 0;

    if (!strcmp(call->method, "HEAD")) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (sends) { /* UPLOAD for POST as well: it adds no Content-Type of its own */
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)transfer->body_bytes);
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
    } else if (strcmp(call->method, "GET") != 0) {
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
    }
    if (call->bulk) {
        curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, BULK_BUFFER_BYTES);
        if (sends)
            curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, BULK_UPLOAD_BYTES);
    } else {
        curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, SMALL_BUFFER_BYTES);
    }
}

static int set_headers(CURL *easy, struct transfer *transfer)
{
    const struct http_call *call = transfer->call;
    struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* R2 never answers 100 */
    struct curl_slist *longer = list;

    for (const char *const *header = call->headers; header && *header && longer; header++) {
        longer = curl_slist_append(list, *header);
        if (longer)
            list = longer;
    }
    transfer->slist = list;
    if (!longer)
        return -ENOMEM;
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list);
    return 0;
}

int curl_engine_begin(struct transfer *transfer)
{
    struct loop *loop = transfer->loop;
    CURL *easy = loop->idle_count > 0 ? loop->idle[--loop->idle_count] : curl_easy_init();

    if (!easy)
        return -ENOMEM;
    transfer->easy = easy;
    set_constants(easy, transfer);
    set_callbacks(easy, transfer);
    set_method(easy, transfer);
    set_proxy(easy, loop->http, transfer->call->url);
    curl_easy_setopt(easy, CURLOPT_URL, transfer->call->url);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, transfer_connect_timeout(transfer->call));
    if (set_headers(easy, transfer) < 0 || curl_multi_add_handle(loop->multi, easy) != CURLM_OK)
        return -ENOMEM;
    return 0;
}

/* What libcurl's result means for somebody who wonders whether the server has heard anything. */
static enum http_end name_end(const struct transfer *transfer, CURLcode result)
{
    switch (result) {
    case CURLE_OK:
        return HTTP_ANSWERED;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY:
        return transfer->call->sends > 0 ? HTTP_CUT : HTTP_NO_CONNECTION; /* a kept connection died first */
    case CURLE_OPERATION_TIMEDOUT:
        return transfer->call->sends > 0 ? HTTP_SLOW : HTTP_NO_CONNECTION;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
        return transfer->call->sends > 0 ? HTTP_CUT : HTTP_TLS;
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_SSL_SHUTDOWN_FAILED:
    case CURLE_UPLOAD_FAILED:
        return transfer->call->sends > 0 ? HTTP_CUT : HTTP_NO_CONNECTION;
    default:
        return HTTP_BROKEN;
    }
}

enum http_end curl_engine_end(struct transfer *transfer, int curl_result, const char **ret_words)
{
    CURLcode result = (CURLcode)curl_result;
    *ret_words = transfer->words[0] ? transfer->words : curl_easy_strerror(result);
    return transfer->refused != HTTP_ANSWERED ? transfer->refused : name_end(transfer, result);
}

bool curl_engine_sent(const struct transfer *transfer, uint64_t *ret_sent)
{
    curl_off_t sent = 0;
    if (curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &sent) != CURLE_OK)
        return false;
    *ret_sent = (uint64_t)sent;
    return true;
}

int curl_engine_socket(const struct transfer *transfer)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (curl_easy_getinfo(transfer->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK || fd == CURL_SOCKET_BAD)
        return -1;
    return fd;
}

/* Through a proxy it is the proxy's: those calls stay with libcurl. */
static void learn_address(const struct transfer *transfer)
{
    char *ip = NULL;
    long port = 0;
    if (transfer->call->end == HTTP_ANSWERED && transfer->call->sends > 0 &&
        curl_easy_getinfo(transfer->easy, CURLINFO_PRIMARY_IP, &ip) == CURLE_OK && ip && *ip &&
        curl_easy_getinfo(transfer->easy, CURLINFO_PRIMARY_PORT, &port) == CURLE_OK)
        connection_learn(transfer->loop->connections, transfer->call->url, ip, port);
}

void curl_engine_leave(struct transfer *transfer)
{
    struct loop *loop = transfer->loop;
    if (transfer->easy) {
        learn_address(transfer);
        curl_multi_remove_handle(loop->multi, transfer->easy);
        curl_easy_reset(transfer->easy);
        assert(loop->idle_count < loop->places);
        loop->idle[loop->idle_count++] = transfer->easy;
        transfer->easy = NULL;
    }
    for (struct curl_slist *header = transfer->slist; header; header = header->next)
        secret_wipe(header->data, strlen(header->data)); /* it may be an Authorization */
    curl_slist_free_all(transfer->slist);
    transfer->slist = NULL;
}
