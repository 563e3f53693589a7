/* deleting: many objects deleted at once, each only if it is the version that was known. Blocking, no lock held.
 *
 *      of one directory, MANY_MIN or more --LIST--> seen as known --> DELETE_MANY
 *                        the others, and what the LIST shows otherwise --(HEAD, where no condition is honoured)--> DELETE
 *
 * A listing that lags tells of an older moment: what it does not show as known is looked at alone before anything is concluded.
 */
#ifndef CACHE_DELETING_H
#define CACHE_DELETING_H

#include "cache/core.h"

#define DELETING_MANY_MIN 8

struct deleting {
    const char *key;
    struct identity identity;
    const char *id; /* its skyvol-id; NULL: not known */
    bool any;       /* whatever version stands there */
    int rc;         /* the answer: 0 (gone), -ESTALE (another version stands there, and stays), or an error */
    void *owner;
    bool refused;  /* rc is the server's last word, as store_error has it */
    bool done;     /* its own */
    char code[64]; /* what the server called the error; "" */
};

/* They are sorted by key. Returns 0, or -EINTR: the rc of what was not done is -EINTR. */
int deleting_run(struct cache *cache, struct deleting *all, size_t count, int64_t patience_ms,
                 struct waiter *waiter);

#endif
