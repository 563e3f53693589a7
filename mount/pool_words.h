/* pool_words: what all commands that take a configuration have in common on their command line.
 *
 *      -c FILE  --pool NAME  --provider NAME  --volume bucket=B,mount=/data,...  --base DIR  --state FILE
 */
#ifndef MOUNT_POOL_WORDS_H
#define MOUNT_POOL_WORDS_H

#include "mount/configuration.h"

struct pool_words {
    struct configuration_request request; /* texts are the command line's */
    const char **volumes;
};

extern const char pool_words_help[];

/* words[*at] is one of them: takes it and its value, *at is its last word. 1: taken; 0: it is none; 2: its value is missing, and that has
 * been said. */
int pool_words_take(struct pool_words *said, const char *command, int count, char **words, int *at);
void pool_words_release(struct pool_words *said);
/* Reads the configuration; what is wrong is said, also its warnings. 0, or the exit status. */
int pool_words_read(const struct pool_words *said, struct configuration *ret_configuration);
/* The value of a flag: "--name VALUE" or "--name=VALUE". NULL: words[*at] is not this flag, or (*ret_status = 2) its value is missing. */
const char *words_value(const char *command, const char *flag, int count, char **words, int *at,
                        int *ret_status);

#endif
