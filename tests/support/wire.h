/* wire: a socket server that a test scripts byte by byte: what no real server does on command.
 *
 * Each connection runs `serve` in a thread of its own; the connection is closed when it returns. What the client sent is
 * read by wire_read(); what is written by wire_write() goes out as it is, also half an answer.
 */
#ifndef TESTS_SUPPORT_WIRE_H
#define TESTS_SUPPORT_WIRE_H

#include <stdbool.h>

#include "base/buf.h"

struct wire;

struct wire_connection {
    struct wire *wire;
    int fd;
    int number; /* 1, 2, ... in the order of coming */
    void *context;
};

/* serve NULL: nobody accepts, and the backlog is full: connecting hangs. */
struct wire *wire_start(void (*serve)(struct wire_connection *connection), void *context);
void wire_free(struct wire *wire); /* breaks all connections */
int wire_port(const struct wire *wire);
int wire_connections(struct wire *wire); /* so far */

/* One request: head in `ret_head` ("PUT /x HTTP/1.1\r\n...\r\n\r\n"), body of its Content-Length in `ret_body`. False: closed. */
bool wire_read(struct wire_connection *connection, struct buf *ret_head, struct buf *ret_body);
void wire_write(struct wire_connection *connection, const char *text);
void wire_write_bytes(struct wire_connection *connection, const void *bytes, size_t length);
/* Nobody listens any more; connections that are there go on. */
void wire_deafen(struct wire *wire);
/* Until the client closes, or the test ends. */
void wire_await_close(struct wire_connection *connection);

#endif
