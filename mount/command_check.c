#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "mount/check.h"
#include "mount/command.h"
#include "mount/pool_words.h"
#include "mount/provided.h"
#include "mount/words.h"

struct checking {
    struct pool_words said;
    bool read_only, json;
    struct json *findings;
};

static const char *const grades[] = {[CHECK_OK] = "ok", [CHECK_WARN] = "warn", [CHECK_FAIL] = "fail"};

/* No mount: of the plan as a whole. */
static void add_finding(struct checking *checking, const struct plan_mount *mount, enum check_grade grade,
                        const char *words)
{
    struct json *one = json_object_new();
    json_set_string(one, "bucket", mount ? mount->bucket : NULL);
    json_set_string(one, "endpoint", mount ? mount->endpoint : NULL);
    json_set_string(one, "grade", grades[grade]);
    json_set_string(one, "words", words);
    json_append(checking->findings, &one);
}

static void tell(void *context, const struct plan_mount *mount, enum check_grade grade, const char *words)
{
    struct checking *checking = context;
    if (checking->json)
        add_finding(checking, mount, grade, words);
    else
        words_line(stdout, "%-5s %s: %s", grades[grade], mount->bucket, words);
}

/* The prefixes of a mount's volumes; those that write alone, where asked. */
static const char **list_prefixes(const struct plan *plan, size_t index, bool writing)
{
    const char **prefixes = xcalloc(plan->link_count + 1, sizeof *prefixes);
    size_t count = 0;
    for (size_t i = 0; i < plan->link_count; i++) {
        const struct plan_link *link = &plan->links[i];
        if (link->mount_index == index && !(writing && link->read_only))
            prefixes[count++] = link->prefix;
    }
    return prefixes;
}

static int check_plan(struct checking *checking, const struct plan *plan)
{
    int status = 0;
    for (size_t i = 0; i < plan->mount_count; i++) {
        const char **all = list_prefixes(plan, i, false), **writing = list_prefixes(plan, i, true);
        if (check_mount(&plan->mounts[i], all, checking->read_only ? NULL : writing, tell, checking) < 0)
            status = 1;
        free(all);
        free(writing);
    }
    return status;
}

static void tell_native(struct checking *checking, const struct plan *plan)
{
    if (!plan->native_base)
        return;
    STRING_SCOPED *words =
        xprintf("the volume exists; it is attached at %s when the machine is made", plan->native_base);
    if (checking->json)
        add_finding(checking, NULL, CHECK_OK, words);
    else
        words_line(stdout, "ok    %s", words);
}

static int check(struct checking *checking, const struct configuration *configuration)
{
    struct provided provided;
    BUF_SCOPED why = BUF_INIT;
    int rc = provided_plan(configuration, NULL, true, &provided, &why);
    int status = 1;
    words_complain(why.bytes);
    if (rc < 0 && checking->json)
        add_finding(checking, NULL, CHECK_FAIL, why.bytes);
    if (rc == 0) {
        tell_native(checking, &provided.plan);
        status = check_plan(checking, &provided.plan);
    }
    provided_release(&provided);
    return status;
}

static void print_json(struct checking *checking)
{
    BUF_SCOPED out = BUF_INIT;
    struct json *all = json_object_new();
    json_set(all, "findings", &checking->findings);
    json_print(all, &out, true);
    puts(out.bytes);
    json_free(all);
}

int command_check(int count, char **words)
{
    struct checking checking = {0};
    struct configuration configuration = {0};
    int status = 0;
    for (int i = 1; i < count && !status; i++) {
        int taken = pool_words_take(&checking.said, "check", count, words, &i);
        if (taken)
            status = taken == 2 ? 2 : 0;
        else if (strcmp(words[i], "--read-only") == 0)
            checking.read_only = true;
        else if (strcmp(words[i], "--json") == 0)
            checking.json = true;
        else
            status = command_usage("check", "there is no flag '%s'", words[i]);
    }
    if (status == 0)
        status = pool_words_read(&checking.said, &configuration);
    if (status == 0) {
        checking.findings = json_array_new();
        status = check(&checking, &configuration);
        if (checking.json)
            print_json(&checking);
        json_free(checking.findings);
    }
    configuration_release(&configuration);
    pool_words_release(&checking.said);
    return status;
}
