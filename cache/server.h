/* server: the calls that names make, each blocking, with the mount's patience, one log line a failure, and the errno
 * that the user shall see: no answer in time is -EIO, an interrupt -EINTR.
 *
 * Errors: -EAGAIN (waiter NULL, nothing sent), -EINTR (it may have happened), -ENOENT (said by nobody: expected), else
 *         logged as "what key: words of the server, outcome".
 */
#ifndef CACHE_SERVER_H
#define CACHE_SERVER_H

#include "cache/core.h"

/* io_timeout, but for a COMPLETE: some servers put a large object together for minutes without a word. */
int64_t server_patience(const struct cache *cache, enum store_op op);
/* A zeroed call of this op with that patience. */
struct store_call server_call(struct cache *cache, enum store_op op, const char *key);
/* Counts it for status; for calls that are run by a batch. */
void server_count(struct cache *cache, const struct store_call *call);
/* The end of a call: logs, translates. `expected`: an error that is an answer (-ENOENT, -ESTALE ...), or 0. */
int server_settle(struct cache *cache, const char *what, const struct store_call *call, int expected);
/* store_wait and server_settle. */
int server_wait(struct cache *cache, const char *what, struct store_call *call, int expected,
                struct waiter *waiter);
/* Only this version goes, where the endpoint honours conditions of a DELETE; `only` NULL: whatever stands there. A missing
 * key is success; -ESTALE: another version stands there. */
int server_delete(struct cache *cache, const char *what, const char *key, const struct identity *only,
                  struct waiter *waiter);
/* Asks once what the endpoint honours, before the first write that depends on it; who comes meanwhile waits. 0 also when
 * that was done before; after a failure (said in the log) nobody asks again. */
int server_probe(struct cache *cache, struct waiter *waiter);
/* Whether If-Match and If-None-Match are honoured on PUT, after a probe where that is not known. 1, 0 (then a HEAD before
 * has to do), -EINTR, -EAGAIN. */
int server_conditions(struct cache *cache, struct waiter *waiter);

/* How long what goes on behind waits after so many failures in a row: 1 s, 2 s ... 60 s. */
int64_t server_backoff_ms(int failures);

#define SERVER_ID_FIELD "skyvol-id"
/* A fresh id goes into the metadata of what is to be written: by it an outcome in doubt is told. */
void server_add_id(struct store_fields *meta, struct buf *ret_id);
/* Whether the object under the key carries it: 1 (and ret_identity), 0, or the error of the HEAD. */
int server_find_id(struct cache *cache, const char *key, const char *id, struct identity *ret_identity,
                   struct waiter *waiter);

/* It is that version; or the same bytes of ours once more: a request that was given up may still arrive, after the one that repeated
 * it, and only LastModified tells the two apart. `id`: the skyvol-id of the known one, or NULL. */
bool server_is_version(const struct store_object *seen, const struct identity *known, const char *id);

/* A small object of our own making: a marker, a symlink, an empty file. */
struct server_small {
    const char *key, *bytes;
    const struct store_fields *meta;
    const struct store_fields *headers, *tags; /* NULL: none */
    bool if_absent;                            /* -EEXIST: another client was first */
    const char *if_match; /* an ETag, or NULL; -ESTALE: another version, or none, stands there */
};
/* ret_identity is what stands there now. An outcome that is not known is settled by HEAD and an id of its own. */
int server_put_small(struct cache *cache, const char *what, const struct server_small *small,
                     struct identity *ret_identity, struct waiter *waiter);
void server_identity(const struct store_object *object, struct identity *ret_identity);

#endif
