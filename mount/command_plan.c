#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "mount/command.h"
#include "mount/plan.h"
#include "mount/pool_words.h"
#include "mount/provided.h"
#include "mount/words.h"

struct words {
    struct pool_words pool;
    struct plan_package package;
    const char *format;
    bool explain;
};

static bool is_sha256(const char *text)
{
    size_t length = 0;
    while (isxdigit((unsigned char)text[length]))
        length++;
    return length == 64 && !text[length];
}

static int check_package(const struct plan_package *package)
{
    if (!package->source != !package->sha256)
        return command_usage("plan", "--package and --sha256 belong together");
    if (!package->source)
        return 0;
    if (!is_sha256(package->sha256))
        return command_usage("plan", "--sha256 must be 64 hexadecimal digits");
    if (package->source[0] != '/' && strncmp(package->source, "https://", 8) != 0)
        return command_usage("plan", "--package must be an absolute path on the worker, or an https:// URL");
    return 0;
}

static int read_words(int count, char **words, struct words *ret_said)
{
    int status = 0;
    ret_said->format = "json";
    for (int i = 1; i < count && !status; i++) {
        int taken = pool_words_take(&ret_said->pool, "plan", count, words, &i);
        const char *value;
        if (taken)
            status = taken == 2 ? 2 : 0;
        else if ((value = words_value("plan", "--format", count, words, &i, &status)))
            ret_said->format = value;
        else if (!status && (value = words_value("plan", "--package", count, words, &i, &status)))
            ret_said->package.source = value;
        else if (!status && (value = words_value("plan", "--sha256", count, words, &i, &status)))
            ret_said->package.sha256 = value;
        else if (!status && strcmp(words[i], "--explain") == 0)
            ret_said->explain = true;
        else if (!status)
            status = command_usage("plan", "there is no flag '%s'", words[i]);
    }
    if (!status && strcmp(ret_said->format, "json") != 0 && strcmp(ret_said->format, "sh") != 0)
        status = command_usage("plan", "--format is json or sh, not '%s'", ret_said->format);
    return status ? status : check_package(&ret_said->package);
}

static int explain(const struct configuration *configuration)
{
    struct provision provision;
    BUF_SCOPED why = BUF_INIT;
    WAITER_SCOPED(waiter);
    int rc = provided_supply(configuration, &waiter, true, &provision, &why);
    if (rc < 0)
        words_complain(why.bytes);
    else if (!provision.calls || !provision.calls[0])
        puts("no network call is made");
    for (size_t i = 0; rc == 0 && provision.calls && provision.calls[i]; i++)
        words_line(stdout, "%s", provision.calls[i]);
    provision_release(&provision);
    return rc < 0;
}

static void print_plan(const struct plan *plan, const struct words *said)
{
    BUF_SCOPED out = BUF_INIT;
    if (strcmp(said->format, "sh") == 0) {
        plan_script_whole(plan, &said->package, &out);
    } else {
        struct json *json = plan_json(plan, &said->package);
        json_print(json, &out, true);
        json_free(json);
        buf_add_char(&out, '\n');
    }
    fwrite(out.bytes, 1, out.length, stdout);
    secret_wipe(out.bytes, out.length);
}

static int make_plan(const struct configuration *configuration, const struct words *said)
{
    struct provided provided;
    BUF_SCOPED why = BUF_INIT;
    int rc = provided_plan(configuration, NULL, true, &provided, &why);
    if (rc < 0)
        words_complain(why.bytes);
    else
        print_plan(&provided.plan, said);
    provided_release(&provided);
    return rc < 0;
}

int command_plan(int count, char **words)
{
    struct words said = {0};
    struct configuration configuration = {0};
    int status = read_words(count, words, &said);
    if (status == 0)
        status = pool_words_read(&said.pool, &configuration);
    if (status == 0)
        status = said.explain ? explain(&configuration) : make_plan(&configuration, &said);
    if (status == 0 && fflush(stdout) != 0) {
        words_say("the plan could not be written whole: is the disk full, or was the pipe closed?");
        status = 1;
    }
    configuration_release(&configuration);
    pool_words_release(&said.pool);
    return status;
}
