#include "mount/leftover.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

void leftover_add(struct leftover_keys *keys, const char *id, const char *made)
{
    struct leftover_key key = {.id = xstrdup(id)};
    if (!made || clock_parse_iso(made, &key.made_ns) < 0)
        key.made_ns = INT64_MIN;
    keys->all = xrealloc(keys->all, (keys->count + 1) * sizeof(key));
    keys->all[keys->count++] = key;
}

void leftover_release(struct leftover_keys *keys)
{
    for (size_t i = 0; i < keys->count; i++)
        free(keys->all[i].id);
    free(keys->all);
    *keys = (struct leftover_keys){0};
}

void leftover_remember(const struct leftover_keys *before, int64_t now_ns, struct json *facts)
{
    struct json *ids = json_array_new();
    for (size_t i = 0; i < before->count; i++)
        json_append_string(ids, before->all[i].id);
    json_set(facts, "before", &ids);
    json_set_integer(facts, "since", now_ns / 1000000000);
}

static bool was_there(const struct json *before, const char *id)
{
    for (size_t i = 0; i < json_count(before); i++) {
        const char *known = json_text(json_at(before, i));
        if (known && strcmp(known, id) == 0)
            return true;
    }
    return false;
}

int leftover_find(const struct json *facts, const struct leftover_keys *now, const char **ret_id,
                  struct buf *why)
{
    int64_t since = 0;
    const struct json *before = json_get(facts, "before");
    BUF_SCOPED names = BUF_INIT;
    size_t count = 0;
    bool doubtful = false;
    json_get_integer(facts, "since", &since);
    for (size_t i = 0; i < now->count; i++) {
        const struct leftover_key *key = &now->all[i];
        int64_t made = key->made_ns / 1000000000;
        if (was_there(before, key->id) || (key->made_ns != INT64_MIN && (made < since - LEFTOVER_EARLY_S ||
                                                                         made > since + LEFTOVER_WINDOW_S)))
            continue;
        doubtful = doubtful || key->made_ns == INT64_MIN;
        buf_printf(&names, "%s%s", count++ ? ", " : "", key->id);
        *ret_id = key->id;
    }
    if (count < 2 && !doubtful)
        return (int)count;
    buf_printf(why,
               "one of these keys was made by a prepare whose reply was lost, and which one cannot be told: "
               "%s; delete the one that "
               "nobody uses in the provider's console",
               names.bytes);
    return -EEXIST;
}
