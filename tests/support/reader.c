#include "tests/support/reader.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void hear(struct cache_read *read)
{
    struct reader *reader = read->owner;
    pthread_mutex_lock(&reader->mutex);
    reader->answers++;
    pthread_cond_broadcast(&reader->cond);
    pthread_mutex_unlock(&reader->mutex);
}

void reader_begin(struct reader *reader, struct room *room, struct handle *handle, uint64_t offset,
                  size_t size)
{
    *reader = (struct reader){.cache = room->cache};
    reader->read =
        (struct cache_read){.handle = handle, .offset = offset, .size = size, .done = hear, .owner = reader};
    pthread_mutex_init(&reader->mutex, NULL);
    pthread_cond_init(&reader->cond, NULL);
    cache_read(reader->cache, &reader->read);
}

bool reader_answered(struct reader *reader)
{
    pthread_mutex_lock(&reader->mutex);
    bool answered = reader->answers > 0;
    pthread_mutex_unlock(&reader->mutex);
    return answered;
}

int reader_wait(struct reader *reader)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&reader->mutex);
    while (reader->answers == 0)
        if (pthread_cond_timedwait(&reader->cond, &reader->mutex, &until) == ETIMEDOUT)
            break;
    int rc = reader->answers == 1 ? reader->read.rc : reader->answers ? -EALREADY : -ETIME;
    pthread_mutex_unlock(&reader->mutex);
    return rc;
}

void reader_interrupt(struct reader *reader)
{
    cache_read_interrupt(reader->cache, &reader->read);
}

void reader_copy(struct reader *reader, char *to)
{
    for (size_t i = 0; i < reader->read.piece_count; i++) {
        memcpy(to, reader->read.pieces[i].iov_base, reader->read.pieces[i].iov_len);
        to += reader->read.pieces[i].iov_len;
    }
}

bool reader_holds(struct reader *reader, uint64_t offset, size_t size, unsigned seed)
{
    uint64_t at = offset;
    if (reader->read.length != size) {
        fprintf(stderr, "read of %zu at %zu: %zu bytes came\n", size, (size_t)offset, reader->read.length);
        return false;
    }
    for (size_t i = 0; i < reader->read.piece_count; i++) {
        const char *bytes = reader->read.pieces[i].iov_base;
        for (size_t j = 0; j < reader->read.pieces[i].iov_len; j++, at++)
            if (bytes[j] != room_byte(seed, at)) {
                fprintf(stderr, "read of %zu at %zu: byte %zu is not of pattern %u\n", size, (size_t)offset,
                        (size_t)at, seed);
                return false;
            }
    }
    return at == offset + size;
}

void reader_release(struct reader *reader)
{
    cache_read_release(reader->cache, &reader->read);
    pthread_mutex_destroy(&reader->mutex);
    pthread_cond_destroy(&reader->cond);
}

int room_read(struct room *room, struct handle *handle, uint64_t offset, size_t size, unsigned seed)
{
    struct reader reader;
    reader_begin(&reader, room, handle, offset, size);
    int rc = reader_wait(&reader);
    if (rc == -ETIME)
        return rc; /* it may still be written to */
    if (rc == 0 && !reader_holds(&reader, offset, size, seed))
        rc = -EBADMSG;
    reader_release(&reader);
    return rc;
}

int room_read_text(struct room *room, struct handle *handle, const char *text)
{
    struct reader reader;
    char bytes[256];
    size_t size = strlen(text);
    reader_begin(&reader, room, handle, 0, size < sizeof bytes ? size : sizeof bytes);
    int rc = reader_wait(&reader);
    if (rc == -ETIME)
        return rc; /* it may still be written to */
    if (rc == 0)
        reader_copy(&reader, bytes);
    if (rc == 0 && (reader.read.length != size || memcmp(bytes, text, size) != 0))
        rc = -EBADMSG;
    reader_release(&reader);
    return rc;
}
