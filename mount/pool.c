#include "mount/pool.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "mount/command.h"
#include "mount/option.h"

static const struct pool_word {
    const char *name;
    size_t place; /* of a const char * in the request */
} table[] = {
    {"-c", offsetof(struct configuration_request, file)},
    {"--config", offsetof(struct configuration_request, file)},
    {"--pool", offsetof(struct configuration_request, pool)},
    {"--provider", offsetof(struct configuration_request, provider)},
    {"--base", offsetof(struct configuration_request, base)},
    {"--state", offsetof(struct configuration_request, state)},
    {"--volume", SIZE_MAX},
};

#define WORD_COUNT (sizeof(table) / sizeof(table[0]))

/* NULL: it is another word. *ret_value: behind its '=', or NULL. */
static const struct pool_word *find_word(const char *word, const char **ret_value)
{
    size_t length = strncmp(word, "--", 2) == 0 ? strcspn(word, "=") : strlen(word);
    *ret_value = word[length] ? word + length + 1 : NULL;
    for (size_t i = 0; i < WORD_COUNT; i++)
        if (strlen(table[i].name) == length && strncmp(table[i].name, word, length) == 0)
            return &table[i];
    return NULL;
}

static void set_value(struct pool *pool, const struct pool_word *word, const char *value)
{
    if (word->place != SIZE_MAX) {
        memcpy((char *)&pool->request + word->place, &value, sizeof(value));
        return;
    }
    size_t count = pool->request.volume_count;
    pool->volumes = xrealloc(pool->volumes, (count + 1) * sizeof(*pool->volumes));
    pool->volumes[count] = value;
    pool->request.volumes = pool->volumes;
    pool->request.volume_count = count + 1;
}

int pool_take(struct pool *pool, const char *command, int count, char **words, int *index)
{
    const char *value;
    if (strcmp(words[*index], "--json") == 0) {
        pool->json = true;
        return 1;
    }
    const struct pool_word *word = find_word(words[*index], &value);
    if (!word)
        return 0;
    if (!value && *index + 1 == count)
        return command_usage(command, "%s wants a value", word->name);
    if (!value)
        value = words[++*index];
    if (!*value)
        return command_usage(command, "%s wants a value that is not empty", word->name);
    set_value(pool, word, value);
    return 1;
}

int pool_take_all(struct pool *pool, int count, char **words)
{
    for (int i = 1; i < count; i++) {
        int rc = pool_take(pool, words[0], count, words, &i);
        if (rc == 2)
            return 2;
        if (rc == 1)
            continue;
        const char *names[WORD_COUNT];
        for (size_t k = 0; k < WORD_COUNT; k++)
            names[k] = table[k].name;
        const char *nearest = option_nearest(words[i], names, WORD_COUNT);
        return command_usage(words[0], "there is no word '%s' here%s%s%s", words[i],
                             nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    }
    return 0;
}

void pool_release(struct pool *pool)
{
    free(pool->volumes);
    *pool = (struct pool){0};
}
