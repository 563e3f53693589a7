/* prepare and teardown: what a provider has to make so that machines reach the volumes, and its removal. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "mount/adapter.h"
#include "mount/command.h"
#include "mount/interrupt.h"
#include "mount/pool_words.h"
#include "mount/provided.h"
#include "mount/state.h"
#include "mount/words.h"

enum action { PREPARE, TEARDOWN };

struct work {
    enum action action;
    struct pool_words said;
    bool json;
    struct configuration configuration;
    struct json *done; /* of --json */
};

/* One thing, as it happens: who is interrupted has seen what was made. */
static void tell(void *context, const char *what, const char *kind, const char *id)
{
    struct work *work = context;
    if (!work->json) {
        words_line(stdout, "%-8s %s %s", what, kind, id);
        fflush(stdout);
        return;
    }
    struct json *one = json_object_new();
    json_set_string(one, "what", what);
    json_set_string(one, "kind", kind);
    json_set_string(one, "id", id);
    json_append(work->done, &one);
}

/* Its mounts send with the keys that would be deleted; down forgets them when nothing unsent waits. */
static int refuse_while_up(const struct configuration *configuration, struct buf *why)
{
    struct state *state = NULL;
    BUF_SCOPED words = BUF_INIT;
    STRING_SCOPED *path = xprintf("%s.up", configuration->state);
    int rc = state_look(path, "up", &state, &words);
    bool is_up = rc == 0 && state_find(state, "mount");
    state_close(state);
    if (!is_up && (rc == 0 || rc == -ENOENT))
        return 0;
    if (is_up)
        buf_printf(why, "pool %s is up on this host, and its mounts need the keys: skyvol down first",
                   configuration->pool);
    else
        buf_printf(why, "whether pool %s is up on this host cannot be told: %s", configuration->pool,
                   words.length ? words.bytes : err_text(rc));
    return -EBUSY;
}

static int run_adapter(struct work *work, struct buf *why)
{
    const struct configuration *configuration = &work->configuration;
    struct waiter waiter;
    size_t count;
    const struct volume **volumes = configuration_provided(configuration, &count);
    struct provider_job job = {
        .provider = configuration->provider,
        .settings = &configuration->settings,
        .volumes = volumes,
        .volume_count = count,
        .pool = configuration->pool,
        .state_path = configuration->state,
        .origin = configuration->origin,
        .waiter = &waiter,
        .tell = tell,
        .context = work,
    };
    waiter_init(&waiter);
    interrupt_watch(&waiter);
    int rc = job.provider ? adapter_belong(&job, why) : 0;
    if (rc == 0)
        rc = work->action == PREPARE ? provided_check(configuration, why)
                                     : refuse_while_up(configuration, why);
    if (rc == 0 && job.provider && work->action == TEARDOWN)
        rc = job.provider->teardown(&job, why);
    else if (rc == 0 && job.provider && count)
        rc = job.provider->prepare(&job, why);
    interrupt_watch(NULL);
    waiter_release(&waiter);
    free(volumes);
    return rc;
}

/* ---- Words. ---- */

static void print_json(const struct work *work, int rc, const struct buf *why)
{
    const struct configuration *configuration = &work->configuration;
    struct json *all = json_object_new(), *done = json_clone(work->done);
    BUF_SCOPED text = BUF_INIT;
    json_set_string(all, "provider", configuration->provider_type ? configuration->provider_type : "none");
    json_set_string(all, "pool", configuration->pool);
    json_set_string(all, "state", configuration->state);
    json_set(all, "done", &done);
    json_set_string(all, "error", rc < 0 ? why->bytes : NULL);
    json_print(all, &text, true);
    puts(text.bytes);
    json_free(all);
}

static void say_failure(const struct work *work, int rc, const struct buf *why)
{
    const char *state = work->configuration.state;
    words_complain(why->length ? why->bytes : err_text(rc));
    if (rc == -EBUSY || rc == -EXDEV || !state || access(state, F_OK) < 0)
        return;
    if (work->action == TEARDOWN)
        words_say("what is left stays remembered in %s; run skyvol teardown again when the reason is gone",
                  state);
    else
        words_say("what was made is remembered in %s; run skyvol prepare again, or skyvol teardown", state);
}

static void say_end(const struct work *work)
{
    const struct configuration *configuration = &work->configuration;
    if (!configuration->provider)
        words_line(stdout, "Nothing to do: every volume has a storage of its own.");
    else if (work->action == TEARDOWN)
        words_line(stdout, "Nothing is left at %s of what skyvol prepare made for pool %s.",
                   configuration->provider->name, configuration->pool);
    else
        words_line(
            stdout,
            "Pool %s is prepared at %s. Next: skyvol plan. When its machines are gone: skyvol teardown.",
            configuration->pool, configuration->provider->name);
}

/* ---- The commands. ---- */

static int read_words(int count, char **words, struct work *work)
{
    for (int i = 1; i < count; i++) {
        int taken = pool_words_take(&work->said, words[0], count, words, &i);
        if (taken == 2)
            return 2;
        if (!taken && strcmp(words[i], "--json") != 0)
            return command_usage(words[0], "there is no flag '%s'", words[i]);
        work->json = work->json || !taken;
    }
    return 0;
}

static int work_on(struct work *work)
{
    BUF_SCOPED why = BUF_INIT;
    int rc = run_adapter(work, &why);
    if (work->json)
        print_json(work, rc, &why);
    if (rc < 0)
        say_failure(work, rc, &why);
    else if (!work->json)
        say_end(work);
    configuration_release(&work->configuration);
    return rc < 0 ? 1 : 0;
}

static int run(enum action action, int count, char **words)
{
    struct work work = {
        .action = action, .said.request.removes = action == TEARDOWN, .done = json_array_new()};
    int code = read_words(count, words, &work);
    if (!code)
        code = pool_words_read(&work.said, &work.configuration);
    if (!code)
        code = work_on(&work);
    pool_words_release(&work.said);
    json_free(work.done);
    return code;
}

int command_prepare(int count, char **words)
{
    return run(PREPARE, count, words);
}

int command_teardown(int count, char **words)
{
    return run(TEARDOWN, count, words);
}
