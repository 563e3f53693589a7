#include "s3/http_message.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define SIZE_LINE_MAX 1024 /* of a chunk, with extensions */

void message_init(struct message *message, bool to_head)
{
    *message = (struct message){.to_head = to_head, .line = BUF_INIT};
}

void message_release(struct message *message)
{
    if (message->line.bytes)
        buf_release(&message->line);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK": its minor version decides whether the connection is kept unless something else is said. */
static int begin_head(struct message *message, const char *line, size_t length)
{
    if (length < 12 || memcmp(line, "HTTP/1.", 7) != 0 || !is_digit(line[7]) || line[8] != ' ' ||
        !is_digit(line[9]) || !is_digit(line[10]) || !is_digit(line[11]))
        return -EBADMSG;
    if (length > 12 && is_digit(line[12]))
        return -EBADMSG;
    message->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
    message->status_seen = true;
    message->closes = line[7] == '0';
    message->counted = message->chunked = false;
    message->left = 0;
    return message->status < 100 ? -EBADMSG : 0;
}

/* Digits alone; a second length must be the same. */
static int take_length(struct message *message, const char *text, size_t length)
{
    uint64_t value = 0;
    if (length == 0 || length > 18)
        return -EBADMSG;
    for (size_t i = 0; i < length; i++) {
        if (!is_digit(text[i]))
            return -EBADMSG;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (message->counted && value != message->left)
        return -EBADMSG;
    message->counted = true;
    message->left = value;
    return 0;
}

/* A word among those of a list, "keep-alive, close". */
static bool names(const char *list, size_t length, const char *word)
{
    size_t size = strlen(word);
    for (size_t at = 0; at < length;) {
        while (at < length && (list[at] == ' ' || list[at] == '\t' || list[at] == ','))
            at++;
        size_t end = at;
        while (end < length && list[end] != ',')
            end++;
        size_t last = end;
        while (last > at && isspace((unsigned char)list[last - 1]))
            last--;
        if (last - at == size && strncasecmp(list + at, word, size) == 0)
            return true;
        at = end;
    }
    return false;
}

static bool is_field(const char *line, size_t name_length, const char *name)
{
    return name_length == strlen(name) && strncasecmp(line, name, name_length) == 0;
}

static int take_field(struct message *message, const char *line, size_t length)
{
    const char *colon = memchr(line, ':', length), *value, *end = line + length;
    if (!colon || colon == line || line[0] == ' ' || line[0] == '\t')
        return -EBADMSG; /* a folded line has been no HTTP since 2014 */
    size_t name_length = (size_t)(colon - line);
    for (value = colon + 1; value < end && isspace((unsigned char)*value);)
        value++;
    while (end > value && isspace((unsigned char)end[-1]))
        end--;
    size_t size = (size_t)(end - value);
    if (is_field(line, name_length, "content-length"))
        return take_length(message, value, size);
    if (is_field(line, name_length, "transfer-encoding")) {
        message->chunked = is_field(value, size, "chunked");
        return message->chunked ? 0 : -EBADMSG; /* we asked for no other */
    }
    if (is_field(line, name_length, "connection")) {
        message->closes =
            names(value, size, "close") || (message->closes && !names(value, size, "keep-alive"));
    }
    return 0;
}

/* The empty line came: what is the rest of the answer? */
static void end_head(struct message *message)
{
    bool empty = message->to_head || message->status == 204 || message->status == 304;
    if (message->status < 200) {
        message->status_seen = false;
    } else if (empty) {
        message->state = MESSAGE_WHOLE;
    } else if (message->chunked) {
        message->state = MESSAGE_SIZE;
    } else if (message->counted) {
        message->state = message->left > 0 ? MESSAGE_COUNTED : MESSAGE_WHOLE;
    } else {
        message->state = MESSAGE_UNTIL_CLOSE;
        message->closes = true;
    }
}

static int take_head_line(struct message *message, const char *line, size_t length,
                          const struct message_ear *ear)
{
    size_t bare = length;
    int rc = 0;
    while (bare > 0 && (line[bare - 1] == '\n' || line[bare - 1] == '\r'))
        bare--;
    if (!message->status_seen)
        rc = begin_head(message, line, bare);
    else if (bare > 0)
        rc = take_field(message, line, bare);
    if (rc < 0)
        return rc;
    if (bare == 0)
        end_head(message);
    return ear->line(ear->context, line, length) ? 0 : -ECANCELED;
}

/* "1a;extension": a size in hex. */
static int take_size(struct message *message, const char *line)
{
    uint64_t size = 0;
    size_t digits = 0;
    for (; isxdigit((unsigned char)line[digits]); digits++) {
        char c = (char)tolower((unsigned char)line[digits]);
        if (digits >= 15)
            return -EBADMSG;
        size = size * 16 + (uint64_t)(is_digit(c) ? c - '0' : c - 'a' + 10);
    }
    if (digits == 0 || !strchr(";\r\n \t", line[digits]))
        return -EBADMSG;
    message->left = size;
    message->state = size > 0 ? MESSAGE_CHUNK : MESSAGE_TRAILER;
    return 0;
}

static int take_line(struct message *message, const struct message_ear *ear)
{
    const char *line = message->line.bytes;
    size_t length = message->line.length;
    bool empty = strcmp(line, "\n") == 0 || strcmp(line, "\r\n") == 0;
    switch (message->state) {
    case MESSAGE_LINES:
        return take_head_line(message, line, length, ear);
    case MESSAGE_SIZE:
        return take_size(message, line);
    case MESSAGE_CHUNK_END:
        message->state = MESSAGE_SIZE;
        return empty ? 0 : -EBADMSG;
    default:
        if (empty)
            message->state = MESSAGE_WHOLE;
        return 0;
    }
}

/* How many of the bytes end the line, or belong to it. */
static ssize_t gather_line(struct message *message, const char *bytes, size_t length,
                           const struct message_ear *ear)
{
    const char *end = memchr(bytes, '\n', length);
    size_t taken = end ? (size_t)(end - bytes) + 1 : length;
    size_t most = message->state == MESSAGE_LINES ? HTTP_LINE_MAX : SIZE_LINE_MAX;
    /* What does not begin as an answer does is not waited for. */
    if (message->state == MESSAGE_LINES && !message->status_seen && message->line.length < 5) {
        size_t had = message->line.length, some = taken < 5 - had ? taken : 5 - had;
        if (memcmp(bytes, &"HTTP/"[had], some) != 0)
            return -EBADMSG;
    }
    if (message->line.length + taken > most)
        return -EBADMSG;
    buf_add(&message->line, bytes, taken);
    if (!end)
        return (ssize_t)taken;
    int rc = take_line(message, ear);
    buf_reset(&message->line);
    return rc < 0 ? rc : (ssize_t)taken;
}

static ssize_t give_body(struct message *message, const char *bytes, size_t length,
                         const struct message_ear *ear)
{
    bool counts = message->state != MESSAGE_UNTIL_CLOSE;
    size_t taken = counts && message->left < length ? (size_t)message->left : length;
    if (!ear->body(ear->context, bytes, taken))
        return -ECANCELED;
    if (!counts)
        return (ssize_t)taken;
    message->left -= taken;
    if (message->left == 0)
        message->state = message->state == MESSAGE_CHUNK ? MESSAGE_CHUNK_END : MESSAGE_WHOLE;
    return (ssize_t)taken;
}

static bool is_body(enum message_state state)
{
    return state == MESSAGE_COUNTED || state == MESSAGE_CHUNK || state == MESSAGE_UNTIL_CLOSE;
}

ssize_t message_take(struct message *message, const char *bytes, size_t length, const struct message_ear *ear)
{
    size_t taken = 0;
    message->begun = message->begun || length > 0;
    while (taken < length && message->state != MESSAGE_WHOLE) {
        ssize_t some = is_body(message->state) ? give_body(message, bytes + taken, length - taken, ear)
                                               : gather_line(message, bytes + taken, length - taken, ear);
        if (some < 0)
            return some;
        taken += (size_t)some;
    }
    return (ssize_t)taken;
}

bool message_close(struct message *message)
{
    if (message->state == MESSAGE_UNTIL_CLOSE)
        message->state = MESSAGE_WHOLE;
    return message->state == MESSAGE_WHOLE;
}
