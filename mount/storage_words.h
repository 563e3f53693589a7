/* storage_words: which service a storage operation speaks to, as its command line says it.
 *
 *      --storage NAME [-c FILE]          a [storage.NAME] of the configuration
 *      --preset P --endpoint URL --region R --account-id A --path-style --profile P --no-sign-request
 *      (nothing)                          the default chain: AWS, or where ~/.aws/config and AWS_ENDPOINT_URL say
 *
 * Keys are never on it: they come from the environment, a profile, or the configuration.
 */
#ifndef MOUNT_STORAGE_WORDS_H
#define MOUNT_STORAGE_WORDS_H

#include "mount/storage.h"

struct storage_words {
    struct storage storage;
    const char *named, *file;
    bool said; /* a field of it */
};

extern const char storage_words_help[];

/* As pool_words_take(): 1 taken, 0 none of them, 2 wrong and said. */
int storage_words_take(struct storage_words *said, const char *command, int count, char **words, int *at);
/* The storage is whole. 0, or the exit status. */
int storage_words_finish(struct storage_words *said);
void storage_words_release(struct storage_words *said);

#endif
