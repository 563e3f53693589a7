#include "tests/support/wire.h"

#include <arpa/inet.h>
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16384

struct served {
    struct wire_connection connection;
    pthread_t thread;
};

struct wire {
    void (*serve)(struct wire_connection *connection);
    void *context;
    int fd, port;
    int fillers[8]; /* connections that fill the backlog */
    pthread_t thread;
    pthread_mutex_t mutex;
    struct served *served[CONNECTIONS_MAX];
    int count;
};

static void *run_connection(void *context)
{
    struct wire_connection *connection = context;
    connection->wire->serve(connection);
    shutdown(connection->fd, SHUT_RDWR);
    return NULL;
}

static void *run_wire(void *context)
{
    struct wire *wire = context;
    int fd;
    while ((fd = accept4(wire->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct served *served = xcalloc(1, sizeof(*served));
        pthread_mutex_lock(&wire->mutex);
        assert(wire->count < CONNECTIONS_MAX);
        wire->served[wire->count++] = served;
        served->connection =
            (struct wire_connection){.wire = wire, .fd = fd, .number = wire->count, .context = wire->context};
        pthread_create(&served->thread, NULL, run_connection, &served->connection);
        pthread_mutex_unlock(&wire->mutex);
    }
    return NULL;
}

static void fill_backlog(struct wire *wire, const struct sockaddr_in *address)
{
    for (size_t i = 0; i < sizeof(wire->fillers) / sizeof(wire->fillers[0]); i++) {
        wire->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(wire->fillers[i], (const struct sockaddr *)address, sizeof(*address));
    }
    usleep(50000);
}

struct wire *wire_start(void (*serve)(struct wire_connection *connection), void *context)
{
    struct wire *wire = xcalloc(1, sizeof(*wire));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    wire->serve = serve;
    wire->context = context;
    pthread_mutex_init(&wire->mutex, NULL);
    wire->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(wire->fd, (struct sockaddr *)&address, sizeof(address)) || listen(wire->fd, serve ? 128 : 0) ||
        getsockname(wire->fd, (struct sockaddr *)&address, &length))
        abort();
    wire->port = ntohs(address.sin_port);
    if (serve)
        pthread_create(&wire->thread, NULL, run_wire, wire);
    else
        fill_backlog(wire, &address);
    return wire;
}

void wire_free(struct wire *wire)
{
    if (!wire)
        return;
    shutdown(wire->fd, SHUT_RDWR);
    if (wire->serve)
        pthread_join(wire->thread, NULL);
    else
        for (size_t i = 0; i < sizeof(wire->fillers) / sizeof(wire->fillers[0]); i++)
            close(wire->fillers[i]);
    close(wire->fd);
    for (int i = 0; i < wire->count; i++) {
        shutdown(wire->served[i]->connection.fd, SHUT_RDWR);
        pthread_join(wire->served[i]->thread, NULL);
        close(wire->served[i]->connection.fd);
        free(wire->served[i]);
    }
    pthread_mutex_destroy(&wire->mutex);
    free(wire);
}

void wire_deafen(struct wire *wire)
{
    shutdown(wire->fd, SHUT_RDWR);
}

int wire_port(const struct wire *wire)
{
    return wire->port;
}

int wire_connections(struct wire *wire)
{
    pthread_mutex_lock(&wire->mutex);
    int count = wire->count;
    pthread_mutex_unlock(&wire->mutex);
    return count;
}

static size_t content_length(const char *head)
{
    const char *at = strcasestr(head, "\r\ncontent-length:");
    return at ? strtoull(at + strlen("\r\ncontent-length:"), NULL, 10) : 0;
}

bool wire_read(struct wire_connection *connection, struct buf *ret_head, struct buf *ret_body)
{
    char bytes[65536];
    size_t left;

    buf_reset(ret_head);
    buf_reset(ret_body);
    while (ret_head->length < 4 || strcmp(ret_head->bytes + ret_head->length - 4, "\r\n\r\n") != 0) {
        if (recv(connection->fd, bytes, 1, 0) != 1)
            return false;
        buf_add(ret_head, bytes, 1);
    }
    left = content_length(ret_head->bytes);
    while (left > 0) {
        ssize_t got = recv(connection->fd, bytes, left < sizeof(bytes) ? left : sizeof(bytes), 0);
        if (got <= 0)
            return false;
        buf_add(ret_body, bytes, (size_t)got);
        left -= (size_t)got;
    }
    return true;
}

void wire_write_bytes(struct wire_connection *connection, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t sent = send(connection->fd, at, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        at += sent;
        length -= (size_t)sent;
    }
}

void wire_write(struct wire_connection *connection, const char *text)
{
    wire_write_bytes(connection, text, strlen(text));
}

void wire_await_close(struct wire_connection *connection)
{
    char bytes[4096];
    while (recv(connection->fd, bytes, sizeof(bytes), 0) > 0)
        ;
}
