#include <unistd.h>

#include "mount/command.h"
#include "mount/pool_words.h"
#include "mount/provided.h"
#include "mount/raised.h"
#include "mount/words.h"

static int read_words(const char *name, int count, char **words, struct pool_words *ret_said)
{
    for (int i = 1; i < count; i++) {
        int taken = pool_words_take(ret_said, name, count, words, &i);
        if (taken == 2)
            return 2;
        if (!taken)
            return command_usage(name, "there is no flag '%s'", words[i]);
    }
    return 0;
}

/* Of this configuration: another one of the same name does not take away what it made. */
static int open_memory(const struct configuration *configuration, const char *path, struct state **ret_state)
{
    BUF_SCOPED why = BUF_INIT;
    int rc = state_open(path, "up", configuration->pool, ret_state, &why);
    if (rc == 0 && (rc = state_belong(*ret_state, configuration->origin, configuration->state, &why)) < 0) {
        state_close(*ret_state);
        *ret_state = NULL;
    }
    if (rc == 0)
        state_set_origin(*ret_state, configuration->origin);
    words_complain(why.bytes);
    return rc;
}

static int raise_plan(const struct configuration *configuration, const struct plan *plan)
{
    struct raised raised = {.plan = plan};
    STRING_SCOPED *path = xprintf("%s.up", configuration->state);
    if (open_memory(configuration, path, &raised.state) < 0)
        return 1;
    int status = raised_up(&raised);
    state_close(raised.state);
    return status;
}

static int up(const struct configuration *configuration)
{
    struct provided provided;
    BUF_SCOPED why = BUF_INIT;
    STRING_SCOPED *keys = xprintf("%s.keys", configuration->state);
    int rc = provided_plan(configuration, keys, geteuid() == 0, &provided, &why);
    char **notes = provided.plan.notes;
    words_complain(why.bytes);
    for (size_t i = 0; rc == 0 && notes && notes[i]; i++)
        words_line(stdout, "%s", notes[i]);
    int status = rc < 0 ? 1 : raise_plan(configuration, &provided.plan);
    provided_release(&provided);
    return status;
}

static int run(const char *name, int count, char **words,
               int (*act)(const struct configuration *configuration), bool removes)
{
    struct pool_words said = {.request = {.removes = removes, .name_only = removes}};
    struct configuration configuration = {0};
    int status = read_words(name, count, words, &said);
    if (status == 0)
        status = pool_words_read(&said, &configuration);
    if (status == 0)
        status = act(&configuration);
    configuration_release(&configuration);
    pool_words_release(&said);
    return status;
}

int command_up(int count, char **words)
{
    return run("up", count, words, up, false);
}

static int down(const struct configuration *configuration)
{
    struct state *state;
    STRING_SCOPED *path = xprintf("%s.up", configuration->state);
    if (open_memory(configuration, path, &state) < 0)
        return 1;
    if (state_count(state) == 0)
        words_line(stdout, "nothing of %s is up", configuration->pool);
    int status = raised_down(state, false);
    state_close(state);
    return status;
}

int command_down(int count, char **words)
{
    return run("down", count, words, down, true);
}
