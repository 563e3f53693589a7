/* Any bytes as a TOML file: refused with words, or a configuration whose plan can be made, printed and freed. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mount/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One file in memory for the whole run: nothing is left behind. */
static const char *name_file(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("skyward.toml", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    int rc = ftruncate(fd, 0);
    assert(rc == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    return path;
}

/* No command of the input is run: only what needs none is planned. */
static bool runs_nothing(const struct configuration *configuration)
{
    for (size_t i = 0; i < configuration->storage_count; i++) {
        const struct storage *storage = configuration->storages[i];
        const struct deferred *all[] = {&storage->access_key, &storage->secret_key, &storage->session_token};
        for (size_t j = 0; j < 3; j++)
            if (all[j]->kind == DEFERRED_COMMAND || all[j]->kind == DEFERRED_FILE)
                return false;
    }
    return true;
}

static void make_plan(const struct configuration *configuration)
{
    struct plan plan;
    BUF_SCOPED why = BUF_INIT, script = BUF_INIT, text = BUF_INIT;
    const struct plan_request request = {.configuration = configuration, .keys = PLAN_KEYS, .shared = true};
    if (plan_make(&request, &plan, &why) < 0) {
        assert(why.length);
        return;
    }
    plan_script_whole(&plan, NULL, &script);
    struct json *json = plan_json(&plan, NULL);
    json_print(json, &text, true);
    json_free(json);
    plan_release(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct configuration configuration;
    BUF_SCOPED why = BUF_INIT;
    const struct configuration_request request = {.file = name_file(data, size), .state = "/nowhere"};
    if (configuration_read(&request, &configuration, &why) < 0) {
        assert(why.length);
        return 0;
    }
    size_t provided;
    free(configuration_provided(&configuration, &provided));
    if (!provided && runs_nothing(&configuration))
        make_plan(&configuration);
    configuration_release(&configuration);
    return 0;
}
