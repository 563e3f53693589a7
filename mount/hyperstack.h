/* hyperstack: access keys of Hyperstack's object storage, made for one use and deleted after it: by prepare and teardown for a pool, and by
 * each storage operation for itself.
 *
 *      hyperstack_key_make(account)                  of a pool: the file stays, and another process removes the key
 *      hyperstack_key_remove(account)
 *
 *      hyperstack_lease_begin(account)   ... use ...   hyperstack_lease_end(lease)     of one invocation: its file is locked all the time
 *
 * The state file of the account (state.h) is written before the key is used; who is killed leaves it unlocked, and hyperstack_sweep()
 * deletes what such files remember. Give each invocation a file of its own.
 * Threads: one; all calls block, the waiter's interrupt ends them (give remove another one).
 */
#ifndef MOUNT_HYPERSTACK_H
#define MOUNT_HYPERSTACK_H

#include "base/buf.h"
#include "base/secret.h"
#include "base/waiter.h"
#include "mount/key.h"

#define HYPERSTACK_URL      "https://infrahub-api.nexgencloud.com/v1"
#define HYPERSTACK_VARIABLE "HYPERSTACK_API_URL"
#define HYPERSTACK_ENDPOINT "https://ca1.obj.nexgencloud.io"
#define HYPERSTACK_REGION   "CANADA-1"
#define HYPERSTACK_SIGNING  "us-east-1" /* what requests are signed with, wherever the bucket is */

struct hyperstack {
    const char *url, *where; /* of the API, and who said so; NULL: HYPERSTACK_API_URL, else HYPERSTACK_URL */
    const char *region;      /* NULL: HYPERSTACK_REGION */
    const struct secret *api_key;
    const char *state_path, *pool, *origin; /* pool and origin may be NULL */
    struct waiter *waiter;
    /* As struct provider_job's; may be NULL. */
    void (*tell)(void *context, const char *what, const char *kind, const char *id);
    void *context;
};

struct hyperstack_key {
    char *id, *access_key;
    struct secret *secret_key;
};

void hyperstack_key_release(struct hyperstack_key *key);
/* The key that the state file remembers, if it is still there, else a new one. */
int hyperstack_key_make(const struct hyperstack *account, struct hyperstack_key *ret_key, struct buf *why);
/* What the state file remembers is deleted, and then the file. Safe to repeat; 0 when there is none. What is left is named. */
int hyperstack_key_remove(const struct hyperstack *account, struct buf *why);
struct hyperstack_lease;

/* A key of its own, and the file that remembers it stays locked until the end. The account is borrowed for the call only. */
int hyperstack_lease_begin(const struct hyperstack *account, struct hyperstack_lease **ret_lease,
                           struct hyperstack_key *ret_key, struct buf *why);
/* Deletes the key, also after a signal; NULL is fine. What could not be deleted stays remembered: -errno with words. */
int hyperstack_lease_end(struct hyperstack_lease *lease, struct buf *why);
/* hyperstack_key_remove() for each file in the directory whose name ends in .json, that nobody uses and that is of this account. Says nothing of others. */
int hyperstack_sweep(const struct hyperstack *account, const char *directory, struct buf *why);
/* The key that the state file remembers, without asking. -ENOKEY: none. */
int hyperstack_key_recall(const struct hyperstack *account, struct hyperstack_key *ret_key, struct buf *why);

#endif
