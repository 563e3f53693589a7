/* Any bytes as the answer of a provider's API: refused, or read; words of an error, network volumes, keys that may be ours. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mount/api.h"
#include "mount/leftover.h"
#include "mount/runpod.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void match_volumes(const struct json *json)
{
    static const char *const buckets[] = {"a", "data", ""};
    static const char *const centers[] = {"EU-RO-1", "global", NULL};
    for (size_t i = 0; i < sizeof(buckets) / sizeof(buckets[0]); i++) {
        struct runpod_volume volume = {0};
        BUF_SCOPED why = BUF_INIT;
        int rc = runpod_match(json, buckets[i], &volume, &why);
        assert(rc == 0 || rc == -ENOENT || rc == -EEXIST || rc == -EBADMSG);
        assert((rc == 0) == !why.length);
        if (rc < 0)
            continue;
        assert(*volume.id && *volume.data_center);
        rc = runpod_place(&volume, centers + 1, &why);
        assert(rc == 0);
        rc = runpod_place(&volume, centers, &why);
        assert(rc == 0);
        struct json *hints = runpod_hints(&volume, "/workspace"),
                    *forms = runpod_forms(&volume, "/workspace");
        assert(strcmp(json_get_string(hints, "networkVolumeId"), volume.id) == 0);
        json_free(hints);
        json_free(forms);
    }
}

/* The document as what an intent remembers, and its members' texts as the keys that are there. */
static void find_leftover(const struct json *json)
{
    struct leftover_keys keys = {0};
    const char *id = NULL;
    BUF_SCOPED why = BUF_INIT;
    for (size_t i = 0; i < json_count(json) && i < 100; i++) {
        const struct json *one = json_at(json, i);
        const char *name = json_get_string(one, "accessId");
        if (name)
            leftover_add(&keys, name, json_get_string(one, "timeCreated"));
    }
    int rc = leftover_find(json_at(json, 0), &keys, &id, &why);
    assert(rc == 0 || (rc == 1 && id) || (rc == -EEXIST && why.length));
    leftover_release(&keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *json = NULL;
    BUF_SCOPED why = BUF_INIT;
    if (json_parse((const char *)data, size, &json, &why) < 0)
        return 0;
    const char *words = api_error_words(json);
    assert(!words || *words);
    match_volumes(json);
    find_leftover(json);
    json_free(json);
    return 0;
}
