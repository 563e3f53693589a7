/* pool: what a command line says of a pool of volumes: the words that prepare, teardown, plan, up, down and check have in common.
 *
 *      -c FILE   --pool NAME   --provider NAME   --base DIR   --state FILE   --volume bucket=B,mount=/data,... (repeated)   --json
 *
 * `--name=value` and `--name value` are the same.
 */
#ifndef MOUNT_POOL_H
#define MOUNT_POOL_H

#include <stdbool.h>

#include "mount/configuration.h"

struct pool {
    struct configuration_request request;
    const char **volumes;
    bool json;
};

/* Takes words[*index] when it is one of these, and moves *index to its last word: 1. 0: it is another word. 2: its value is missing, which
 * has been said (the exit status). */
int pool_take(struct pool *pool, const char *command, int count, char **words, int *index);
/* All words are of these, else 2: it has been said. */
int pool_take_all(struct pool *pool, int count, char **words);
void pool_release(struct pool *pool);

#endif
