#include "s3/http_connection.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/secret.h"
#include "s3/http_message.h"

#define SCHEME        "http://"
#define BUFFER_BYTES  ((size_t)256 << 10)
#define PIECES_MAX    64 /* of one sendmsg() */
#define ADDRESSES_MAX 16

struct address {
    char *authority; /* "minio:9000" */
    struct sockaddr_storage peer;
    socklen_t length;
    int64_t learned_ms;
};

struct connection {
    struct list link; /* connections->kept, the last one used first; else in no list */
    struct connections *connections;
    struct transfer *transfer; /* NULL: it is kept */
    char *authority;
    int fd;
    bool connected, used; /* used: it has brought an answer before */
    bool awaits_room;     /* epoll tells when the socket takes more */
    bool mute; /* nothing more is sent: the peer does not listen, or has refused what it was told of */
    int64_t kept_ms;
    struct buf head; /* of the request */
    size_t head_sent;
    struct message message;
};

struct connections {
    struct loop *loop;
    struct connection **by_fd;
    int fd_count;
    struct list kept;
    int kept_count;
    struct address addresses[ADDRESSES_MAX];
    int address_count;
    char *buffer; /* what was received, until its reader has it */
};

struct connections *connections_new(struct loop *loop)
{
    struct connections *connections = xcalloc(1, sizeof *connections);
    connections->loop = loop;
    connections->buffer = xmalloc(BUFFER_BYTES);
    list_init(&connections->kept);
    return connections;
}

static void close_connection(struct connection *connection)
{
    struct connections *connections = connection->connections;
    assert(!connection->transfer);
    if (!list_empty(&connection->link))
        connections->kept_count--;
    list_remove(&connection->link);
    connections->by_fd[connection->fd] = NULL;
    close(connection->fd);
    message_release(&connection->message);
    buf_release(&connection->head);
    free(connection->authority);
    free(connection);
}

void connections_free(struct connections *connections)
{
    if (!connections)
        return;
    list_for_each_safe (at, after, &connections->kept)
        close_connection(container_of(at, struct connection, link));
    for (int i = 0; i < connections->address_count; i++)
        free(connections->addresses[i].authority);
    free(connections->by_fd);
    free(connections->buffer);
    free(connections);
}

/* ---- Addresses. ---- */

/* "[::1]:9000" of "http://[::1]:9000/x"; NULL: not plain HTTP. */
static char *take_authority(const char *url)
{
    if (strncmp(url, SCHEME, strlen(SCHEME)) != 0)
        return NULL;
    const char *from = url + strlen(SCHEME);
    size_t length = strcspn(from, "/?#");
    return length > 0 && !memchr(from, '@', length) ? xstrndup(from, length) : NULL;
}

static bool set_address(struct address *address, const char *ip, long port)
{
    struct sockaddr_in *four = (struct sockaddr_in *)&address->peer;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address->peer;
    memset(&address->peer, 0, sizeof address->peer);
    if (port <= 0 || port > 65535)
        return false;
    if (inet_pton(AF_INET, ip, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
        address->length = sizeof *four;
    } else if (inet_pton(AF_INET6, ip, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        address->length = sizeof *six;
    } else {
        return false;
    }
    return true;
}

/* An authority that is an address itself. */
static bool read_address(const char *authority, struct address *ret_address)
{
    bool six = *authority == '[';
    const char *host = authority + six, *end = strchr(host, six ? ']' : ':');
    size_t length = end ? (size_t)(end - host) : strlen(host);
    const char *colon = six ? (end ? end + 1 : "") : (end ? end : "");
    STRING_SCOPED *ip = xstrndup(host, length);
    return (*colon == ':' || !*colon) && set_address(ret_address, ip, *colon ? atol(colon + 1) : 80);
}

static struct address *find_address(struct connections *connections, const char *authority)
{
    for (int i = 0; i < connections->address_count; i++)
        if (strcmp(connections->addresses[i].authority, authority) == 0)
            return &connections->addresses[i];
    return NULL;
}

static bool knows_address(struct connections *connections, const char *authority, struct address *ret_address)
{
    if (read_address(authority, ret_address))
        return true;
    const struct address *known = find_address(connections, authority);
    if (!known || clock_ms() - known->learned_ms >= HTTP_ADDRESS_MS)
        return false;
    *ret_address = *known;
    return true;
}

static void forget_address(struct connections *connections, const char *authority)
{
    struct address *known = find_address(connections, authority);
    if (known)
        known->learned_ms = clock_ms() - HTTP_ADDRESS_MS;
}

static struct address *oldest_address(struct connections *connections)
{
    struct address *oldest = &connections->addresses[0];
    for (int i = 1; i < connections->address_count; i++)
        if (connections->addresses[i].learned_ms < oldest->learned_ms)
            oldest = &connections->addresses[i];
    return oldest;
}

void connection_learn(struct connections *connections, const char *url, const char *ip, long port)
{
    STRING_SCOPED *authority = take_authority(url);
    struct address learned;
    if (!authority || read_address(authority, &learned) || !set_address(&learned, ip, port))
        return;
    struct address *place = find_address(connections, authority);
    if (!place && connections->address_count < ADDRESSES_MAX)
        place = &connections->addresses[connections->address_count++];
    if (!place)
        place = oldest_address(connections);
    free(place->authority);
    *place = learned;
    place->authority = authority;
    authority = NULL;
    place->learned_ms = clock_ms();
}

/* ---- The request. ---- */

static bool has_body(const struct transfer *transfer)
{
    const char *method = transfer->call->method;
    return transfer->body_bytes > 0 || strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0;
}

/* "name;" stands for a header without a value, as with libcurl. */
static void add_header(struct buf *head, const char *header)
{
    size_t length = strlen(header);
    if (length > 0 && header[length - 1] == ';' && !strchr(header, ':')) {
        buf_add(head, header, length - 1);
        buf_add_char(head, ':');
    } else {
        buf_add(head, header, length);
    }
    buf_add_string(head, "\r\n");
}

static void write_head(struct connection *connection)
{
    const struct transfer *transfer = connection->transfer;
    const struct http_call *call = transfer->call;
    struct buf *head = &connection->head;
    const char *path = call->url + strlen(SCHEME) + strlen(connection->authority);
    size_t path_length = strcspn(path, "#");
    size_t host_length = strlen(connection->authority);
    if (host_length > 3 && strcmp(connection->authority + host_length - 3, ":80") == 0)
        host_length -= 3;
    buf_reset(head);
    buf_printf(head, "%s %s%.*s HTTP/1.1\r\nHost: %.*s\r\nUser-Agent: skyvol/" SKYVOL_VERSION "\r\n",
               call->method, *path == '/' ? "" : "/", (int)path_length, path, (int)host_length,
               connection->authority);
    for (const char *const *header = call->headers; header && *header; header++)
        add_header(head, *header);
    if (has_body(transfer))
        buf_printf(head, "Content-Length: %llu\r\n", (unsigned long long)transfer->body_bytes);
    buf_add_string(head, "\r\n");
    connection->head_sent = 0;
}

/* The next pieces of head and body; 0: all is sent. */
static size_t gather(const struct connection *connection, struct iovec *pieces)
{
    const struct transfer *transfer = connection->transfer;
    const struct http_call *call = transfer->call;
    size_t count = 0, offset = transfer->piece_offset;
    if (connection->head_sent < connection->head.length)
        pieces[count++] = (struct iovec){connection->head.bytes + connection->head_sent,
                                         connection->head.length - connection->head_sent};
    for (size_t i = transfer->piece; i < call->body_count && count < PIECES_MAX; i++, offset = 0)
        if (call->body[i].iov_len > offset)
            pieces[count++] =
                (struct iovec){(char *)call->body[i].iov_base + offset, call->body[i].iov_len - offset};
    return count;
}

static void count_sent(struct connection *connection, size_t bytes)
{
    struct transfer *transfer = connection->transfer;
    struct http_call *call = transfer->call;
    size_t of_head = connection->head.length - connection->head_sent;
    of_head = bytes < of_head ? bytes : of_head;
    connection->head_sent += of_head;
    bytes -= of_head;
    __atomic_store_n(&call->sent, call->sent + bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&call->moved_ms, clock_ms(), __ATOMIC_RELAXED);
    while (bytes > 0) {
        size_t left = call->body[transfer->piece].iov_len - transfer->piece_offset;
        size_t some = bytes < left ? bytes : left;
        transfer->piece_offset += some;
        bytes -= some;
        if (some == left) {
            transfer->piece++;
            transfer->piece_offset = 0;
        }
    }
}

static bool is_sent(const struct connection *connection)
{
    const struct transfer *transfer = connection->transfer;
    return connection->head_sent == connection->head.length && transfer->call->sent == transfer->body_bytes;
}

static void watch(struct connection *connection, int operation, bool awaits_room)
{
    struct epoll_event event = {.events = EPOLLIN | (awaits_room ? (uint32_t)EPOLLOUT : 0),
                                .data.fd = connection->fd};
    connection->awaits_room = awaits_room;
    epoll_ctl(connection->connections->loop->epoll_fd, operation, connection->fd, &event);
}

/* What the socket takes. A peer that does not listen any more may have said why: that is read first. */
static void send_more(struct connection *connection)
{
    struct iovec pieces[PIECES_MAX];
    struct msghdr message = {.msg_iov = pieces};
    bool full = false;
    while (!connection->mute && !full && (message.msg_iovlen = gather(connection, pieces)) > 0) {
        ssize_t sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0)
            count_sent(connection, (size_t)sent);
        else if (errno == EAGAIN)
            full = true;
        else if (errno != EINTR)
            connection->mute = true;
    }
    if (full != connection->awaits_room)
        watch(connection, EPOLL_CTL_MOD, full);
}

static void begin_sending(struct connection *connection)
{
    struct transfer *transfer = connection->transfer;
    connection->connected = true;
    transfer->phase = PHASE_SENDING;
    transfer->sending_ms = clock_ms();
    transfer->call->sends++;
    send_more(connection);
}

/* ---- Where it goes. ---- */

static void remember_fd(struct connections *connections, struct connection *connection)
{
    int fd = connection->fd;
    if (fd >= connections->fd_count) {
        int count = fd + 64;
        connections->by_fd = xrealloc(connections->by_fd, (size_t)count * sizeof *connections->by_fd);
        memset(connections->by_fd + connections->fd_count, 0,
               (size_t)(count - connections->fd_count) * sizeof *connections->by_fd);
        connections->fd_count = count;
    }
    connections->by_fd[fd] = connection;
}

static void take_transfer(struct connection *connection, struct transfer *transfer)
{
    connection->transfer = transfer;
    connection->mute = false;
    transfer->connection = connection;
    transfer->piece = transfer->piece_offset = 0;
    __atomic_store_n(&transfer->call->sent, 0, __ATOMIC_RELAXED);
    message_release(&connection->message);
    message_init(&connection->message, strcmp(transfer->call->method, "HEAD") == 0);
    write_head(connection);
}

static int open_socket(const struct address *address)
{
    int one = 1;
    int fd = socket(address->peer.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    if (connect(fd, (const struct sockaddr *)&address->peer, address->length) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -ECONNREFUSED;
    }
    return fd;
}

static bool connect_anew(struct connections *connections, struct transfer *transfer, char **authority)
{
    struct address address;
    if (!knows_address(connections, *authority, &address))
        return false;
    int fd = open_socket(&address);
    if (fd < 0) {
        forget_address(connections, *authority);
        return false;
    }
    struct connection *connection = xcalloc(1, sizeof *connection);
    list_init(&connection->link);
    connection->connections = connections;
    connection->authority = *authority;
    *authority = NULL;
    connection->fd = fd;
    connection->head = (struct buf)BUF_INIT;
    remember_fd(connections, connection);
    take_transfer(connection, transfer);
    watch(connection, EPOLL_CTL_ADD, true);
    return true;
}

static struct connection *find_kept(struct connections *connections, const char *authority)
{
    int64_t now_ms = clock_ms();
    list_for_each_safe (at, after, &connections->kept) {
        struct connection *connection = container_of(at, struct connection, link);
        if (now_ms - connection->kept_ms >= HTTP_KEPT_MS)
            close_connection(connection);
        else if (strcmp(connection->authority, authority) == 0)
            return connection;
    }
    return NULL;
}

/* One that goes through a proxy is libcurl's, which knows all the ways of naming one. */
static bool is_proxied(const struct http *http, const char *url)
{
    static const char *const variables[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
    if (http->proxy)
        return *http->proxy;
    if (http_url_is_loopback(url))
        return false;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (getenv(variables[i]))
            return true;
    return http->http_proxy;
}

bool connection_begin(struct transfer *transfer)
{
    struct connections *connections = transfer->loop->connections;
    STRING_SCOPED *authority = take_authority(transfer->call->url);
    if (!authority || transfer->loop->http->libcurl || is_proxied(transfer->loop->http, transfer->call->url))
        return false;
    struct connection *kept = find_kept(connections, authority);
    if (!kept)
        return connect_anew(connections, transfer, &authority);
    list_remove(&kept->link);
    connections->kept_count--;
    take_transfer(kept, transfer);
    begin_sending(kept);
    return true;
}

static void keep(struct connection *connection)
{
    struct connections *connections = connection->connections;
    connection->used = true;
    connection->kept_ms = clock_ms();
    list_insert_after(&connections->kept, &connection->link);
    if (++connections->kept_count > connections->loop->places)
        close_connection(container_of(connections->kept.prev, struct connection, link));
}

void connection_leave(struct transfer *transfer)
{
    struct connection *connection = transfer->connection;
    bool whole = connection->message.state == MESSAGE_WHOLE && !connection->message.closes &&
                 !connection->mute && is_sent(connection);
    transfer->connection = NULL;
    connection->transfer = NULL;
    secret_wipe(connection->head.bytes, connection->head.length); /* an Authorization may stand in it */
    buf_reset(&connection->head);
    if (whole)
        keep(connection);
    else
        close_connection(connection);
}

int connection_socket(const struct transfer *transfer)
{
    return transfer->connection->fd;
}

/* ---- The answer. ---- */

static bool hear_line(void *context, const char *line, size_t length)
{
    struct connection *connection = context;
    if (!transfer_hear_line(connection->transfer, line, length))
        return false;
    /* Who refuses does not read on. */
    if (connection->message.status >= 400 && !is_sent(connection))
        connection->mute = true;
    return true;
}

static bool hear_body(void *context, const char *bytes, size_t length)
{
    struct connection *connection = context;
    return transfer_hear_body(connection->transfer, bytes, length);
}

/* To libcurl, which finds other addresses or the words for what is wrong. */
static void give_up_address(struct connection *connection)
{
    struct transfer *transfer = connection->transfer;
    forget_address(connection->connections, connection->authority);
    connection_leave(transfer);
    loop_begin_curl(transfer);
}

/* A kept one was dead before: as if it had never been there. */
static void replace(struct connection *connection)
{
    struct connections *connections = connection->connections;
    struct transfer *transfer = connection->transfer;
    STRING_SCOPED *authority = xstrdup(connection->authority);
    connection_leave(transfer);
    transfer->phase = PHASE_CONNECTING;
    transfer->begun_ms = clock_ms(); /* of the connect time */
    if (!connect_anew(connections, transfer, &authority))
        loop_begin_curl(transfer);
}

static void hear_end(struct connection *connection, int error)
{
    struct transfer *transfer = connection->transfer;
    if (connection->used && !connection->message.begun)
        replace(connection);
    else if (!error && message_close(&connection->message))
        loop_end_transfer(transfer, HTTP_ANSWERED, NULL);
    else
        loop_end_transfer(transfer, HTTP_CUT,
                          error                       ? err_text(error)
                          : connection->message.begun ? "the connection was closed within the answer"
                                                      : "the connection was closed without an answer");
}

static void hear_bytes(struct connection *connection, const char *bytes, size_t length)
{
    const struct message_ear ear = {hear_line, hear_body, connection};
    struct transfer *transfer = connection->transfer;
    ssize_t taken = message_take(&connection->message, bytes, length, &ear);
    if (taken < 0)
        connection->message.closes = true;
    if (taken == -EBADMSG)
        loop_end_transfer(transfer, HTTP_BROKEN, "the answer is not HTTP");
    else if (taken < 0)
        loop_end_transfer(transfer, HTTP_ANSWERED, NULL); /* transfer->refused says what it is */
    else if (connection->message.state == MESSAGE_WHOLE) {
        connection->message.closes = connection->message.closes || (size_t)taken < length;
        loop_end_transfer(transfer, HTTP_ANSWERED, NULL);
    }
}

static void receive(struct connection *connection)
{
    ssize_t length = recv(connection->fd, connection->connections->buffer, BUFFER_BYTES, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (!connection->transfer)
        close_connection(connection); /* it was kept, and the peer closes it, or speaks unasked */
    else if (length <= 0)
        hear_end(connection, length < 0 ? -errno : 0);
    else
        hear_bytes(connection, connection->connections->buffer, (size_t)length);
}

/* True: it is connected. */
static bool hear_connected(struct connection *connection)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error) {
        give_up_address(connection);
        return false;
    }
    begin_sending(connection);
    return true;
}

bool connection_hear(struct connections *connections, int fd, uint32_t epoll_events)
{
    struct connection *connection = fd < connections->fd_count ? connections->by_fd[fd] : NULL;
    if (!connection)
        return false;
    if (!connection->transfer) {
        receive(connection);
    } else if (!connection->connected) {
        if (epoll_events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            hear_connected(connection);
    } else {
        if (epoll_events & EPOLLOUT)
            send_more(connection);
        if (epoll_events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            receive(connection);
    }
    return true;
}
