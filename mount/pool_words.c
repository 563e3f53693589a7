#include "mount/pool_words.h"

#include <stdlib.h>
#include <string.h>

#include "mount/command.h"
#include "mount/words.h"

const char pool_words_help[] =
    "-c FILE reads that TOML file instead of ~/.skyward/defaults.toml and ./skyward.toml; --pool NAME takes "
    "[pools.NAME].\n"
    "--provider NAME goes before the pool's own. --volume "
    "bucket=B,mount=/data[,prefix=P][,rw][,storage=NAME] or with\n"
    "preset=, endpoint=, region=, profile= ..., repeated, stands in the place of the pool's volumes, and no "
    "file is needed.\n"
    "--base DIR: where buckets are mounted (/mnt/skyvol). --state FILE: where is remembered what was made.\n";

const char *words_value(const char *command, const char *flag, int count, char **words, int *at,
                        int *ret_status)
{
    const char *word = words[*at];
    size_t length = strlen(flag);
    if (strncmp(word, flag, length) != 0 || (word[length] && word[length] != '='))
        return NULL;
    if (word[length] == '=' && length > 2)
        return word + length + 1;
    if (word[length])
        return NULL;
    if (++*at < count)
        return words[*at];
    *ret_status = command_usage(command, "%s needs a value after it", flag);
    return NULL;
}

int pool_words_take(struct pool_words *said, const char *command, int count, char **words, int *at)
{
    struct configuration_request *request = &said->request;
    const struct {
        const char *flag;
        const char **place;
    } flags[] = {{"-c", &request->file},     {"--config", &request->file},
                 {"--pool", &request->pool}, {"--provider", &request->provider},
                 {"--base", &request->base}, {"--state", &request->state}};
    int status = 0;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        const char *value = words_value(command, flags[i].flag, count, words, at, &status);
        if (value)
            *flags[i].place = value;
        if (value || status)
            return status ? status : 1;
    }
    const char *volume = words_value(command, "--volume", count, words, at, &status);
    if (!volume)
        return status;
    said->volumes = xrealloc(said->volumes, (request->volume_count + 1) * sizeof *said->volumes);
    said->volumes[request->volume_count++] = volume;
    request->volumes = said->volumes;
    return 1;
}

void pool_words_release(struct pool_words *said)
{
    free(said->volumes);
}

int pool_words_read(const struct pool_words *said, struct configuration *ret_configuration)
{
    BUF_SCOPED why = BUF_INIT;
    if (configuration_read(&said->request, ret_configuration, &why) < 0) {
        words_complain(why.bytes);
        return 1;
    }
    words_complain(ret_configuration->warnings.bytes);
    return 0;
}
