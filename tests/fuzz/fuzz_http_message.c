/* Any bytes as an answer over HTTP/1.1: refused, or heard, and the same in one piece as in pieces. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "s3/http_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool hear(void *context, const char *bytes, size_t length)
{
    buf_add(context, bytes, length);
    return true;
}

/* In pieces of `step` bytes; 0: in one. */
static ssize_t take_all(const char *bytes, size_t size, size_t step, bool to_head, struct buf *ret_heard)
{
    const struct message_ear ear = {hear, hear, ret_heard};
    struct message message;
    size_t done = 0;
    ssize_t taken = 0;
    message_init(&message, to_head);
    while (done < size && message.state != MESSAGE_WHOLE && taken >= 0) {
        size_t some = step > 0 && step < size - done ? step : size - done;
        taken = message_take(&message, bytes + done, some, &ear);
        assert(taken < 0 || (size_t)taken == some || message.state == MESSAGE_WHOLE);
        done += taken < 0 ? 0 : (size_t)taken;
    }
    ssize_t result = taken < 0 ? taken : (ssize_t)(done * 2 + message_close(&message));
    message_release(&message);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    bool to_head = data[0] & 1;
    size_t step = (data[0] >> 1) + 1u;
    const char *bytes = (const char *)data + 1;
    BUF_SCOPED whole = BUF_INIT;
    BUF_SCOPED pieces = BUF_INIT;
    ssize_t one = take_all(bytes, size - 1, 0, to_head, &whole);
    ssize_t many = take_all(bytes, size - 1, step, to_head, &pieces);
    assert(one == many);
    assert(one < 0 ||
           (whole.length == pieces.length && memcmp(whole.bytes, pieces.bytes, whole.length) == 0));
    return 0;
}
