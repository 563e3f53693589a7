#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "mount/command.h"
#include "mount/control.h"
#include "mount/words.h"

#define REFRESH_MS 60000 /* all names in memory are gone through */

struct said {
    const char *directory, *path;
};

static int read_words(int count, char **words, struct said *said)
{
    bool plain = false;
    for (int i = 1; i < count; i++) {
        if (!plain && strcmp(words[i], "--") == 0)
            plain = true;
        else if (!plain && words[i][0] == '-')
            return command_usage("refresh", "there is no flag '%s'", words[i]);
        else if (!said->directory)
            said->directory = words[i];
        else if (!said->path)
            said->path = words[i];
        else
            return command_usage("refresh", "one directory and one path below it are wanted");
    }
    return said->directory ? 0 : command_usage("refresh", "the directory is missing");
}

static int find(const struct said *said, struct target *target, struct buf *why)
{
    int rc = target_find(said->directory, target, why);
    if (rc == 0 && target->kind != TARGET_DAEMON) {
        buf_printf(why, "%s is not mounted: what is remembered of the bucket is forgotten in a mount only",
                   said->directory);
        return -EINVAL;
    }
    return rc < 0 || !said->path ? rc : target_enter(target, said->path, why);
}

int command_refresh(int count, char **words)
{
    struct said said = {0};
    struct target target = TARGET_NONE;
    struct json *answer = NULL;
    BUF_SCOPED why = BUF_INIT;
    int code = read_words(count, words, &said);
    if (code)
        return code;
    int rc = find(&said, &target, &why);
    if (rc < 0)
        words_complain(why.length ? why.bytes : err_text(rc));
    else
        rc = command_ask(&target, "refresh", target.below, REFRESH_MS, &answer);
    json_free(answer);
    target_release(&target);
    return rc < 0 ? 1 : 0;
}
