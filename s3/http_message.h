/* http_message: one HTTP/1.1 answer as bytes come, cut into the lines of its head and the pieces of its body (RFC 9112). Pure.
 *
 *      LINES --(no body)------------------------------------------------------> WHOLE
 *        |  ^--(1xx: another head)
 *        +-- Content-Length --> COUNTED ------------------------------------------^
 *        +-- chunked --> SIZE <-> CHUNK -> CHUNK_END ...  SIZE 0 --> TRAILER -----^
 *        `-- neither --> UNTIL_CLOSE --(message_close)----------------------------^
 *
 * Owns: the line that came in part. What is heard is as the server sent it: its reader judges it.
 */
#ifndef S3_HTTP_MESSAGE_H
#define S3_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

#define HTTP_LINE_MAX ((size_t)256 << 10)

enum message_state {
    MESSAGE_LINES,
    MESSAGE_COUNTED,
    MESSAGE_SIZE,
    MESSAGE_CHUNK,
    MESSAGE_CHUNK_END,
    MESSAGE_TRAILER,
    MESSAGE_UNTIL_CLOSE,
    MESSAGE_WHOLE,
};

struct message {
    enum message_state state;
    bool to_head;     /* set before the first byte: it answers a HEAD, and has no body */
    bool begun;       /* a byte of it has come */
    bool status_seen; /* of this head */
    bool closes;      /* the connection is of no use after it */
    bool counted, chunked;
    int status;
    uint64_t left; /* of COUNTED and CHUNK */
    struct buf line;
};

struct message_ear {
    /* A line of a head, with its end; the empty one that ends it too. Not those of a trailer. False ends it. */
    bool (*line)(void *context, const char *line, size_t length);
    bool (*body)(void *context, const char *bytes, size_t length);
    void *context;
};

void message_init(struct message *message, bool to_head);
void message_release(struct message *message);
/* How many of the bytes belong to it: all, unless it is WHOLE then. -EBADMSG: this is no HTTP; -ECANCELED: the ear wants no more. */
ssize_t message_take(struct message *message, const char *bytes, size_t length,
                     const struct message_ear *ear);
/* The peer sends no more. False: the answer is cut. */
bool message_close(struct message *message);

#endif
