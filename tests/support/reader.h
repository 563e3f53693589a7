/* reader: one read through the cache's door, as fs/ does it, with its answer looked at.
 *
 * Use: reader_begin() -> reader_wait() -> look -> reader_release(). The answer stays pinned until the release.
 */
#ifndef TESTS_SUPPORT_READER_H
#define TESTS_SUPPORT_READER_H

#include "tests/support/room.h"

struct reader {
    struct cache_read read;
    struct cache *cache;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int answers; /* how often done() was called */
};

void reader_begin(struct reader *reader, struct room *room, struct handle *handle, uint64_t offset,
                  size_t size);
/* done() has been called. */
bool reader_answered(struct reader *reader);
/* Waits up to 30 s of real time; its rc, -ETIME when it did not end, -EALREADY when it ended twice. */
int reader_wait(struct reader *reader);
void reader_interrupt(struct reader *reader);
/* The answer is `size` bytes, those of the pattern at [offset, offset + size). Says in stderr what differs. */
bool reader_holds(struct reader *reader, uint64_t offset, size_t size, unsigned seed);
/* The answer's bytes, one after the other. */
void reader_copy(struct reader *reader, char *to);
void reader_release(struct reader *reader);

/* All of it: 0 when the answer is right, else the error, -EBADMSG for other bytes. */
int room_read(struct room *room, struct handle *handle, uint64_t offset, size_t size, unsigned seed);
/* The same of bytes at the start that are to be this text. */
int room_read_text(struct room *room, struct handle *handle, const char *text);

#endif
