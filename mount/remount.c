#include "mount/remount.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "base/err.h"
#include "mount/command.h"
#include "mount/control.h"
#include "mount/option.h"
#include "mount/place.h"
#include "mount/target.h"
#include "mount/words.h"

/* ---- What may not change. ---- */

struct comparing {
    const char *list;
    const struct json *present;
    struct buf *names;
};

static bool stands_in_list(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *found = strstr(list, name); found; found = strstr(found + 1, name))
        if ((found == list || found[-1] == ',') && strchr(",=", found[length]))
            return true;
    return false;
}

static void compare_one(void *context, const char *name, const char *value)
{
    struct comparing *comparing = context;
    const char *present = json_get_string(comparing->present, name);
    if (strcmp(name, "ro") == 0 || !stands_in_list(comparing->list, name) ||
        (present && strcmp(present, value) == 0))
        return;
    buf_printf(comparing->names, "%s%s", comparing->names->length ? ", " : "", name);
}

int remount_compare(const char *list, const struct json *present, struct buf *ret_names, struct buf *why)
{
    struct settings settings = {0};
    struct comparing comparing = {list, present, ret_names};
    option_defaults(&settings);
    int rc = option_parse_list(&settings, list, why);
    if (rc == 0)
        rc = option_check(&settings, why);
    if (rc == 0)
        option_each(&settings, compare_one, &comparing);
    settings_release(&settings);
    return rc;
}

static int check_options(const struct remount_words *said, const struct json *status)
{
    BUF_SCOPED names = BUF_INIT;
    BUF_SCOPED why = BUF_INIT;
    const struct json *present = json_get(status, "options");
    int rc = remount_compare(said->options, present, &names, &why);
    if (rc < 0)
        words_complain(why.bytes);
    if (rc == 0 && present && names.length) {
        words_say("%s cannot change while %s is mounted (ro and rw can): unmount it, and mount it again",
                  names.bytes, said->directory);
        rc = -EINVAL;
    }
    return rc;
}

/* ---- The change. ---- */

/* The kernel's own flag: open files that are written make it say EBUSY. */
static int tell_kernel(const char *place, const struct place_mount *there, bool writes)
{
    unsigned long flags =
        MS_REMOUNT | MS_NOSUID | MS_NODEV | (there->no_exec ? MS_NOEXEC : 0) | (writes ? 0 : MS_RDONLY);
    int rc = mount(there->source, place, there->type, flags, NULL) < 0 ? -errno : 0;
    if (rc == -EBUSY)
        words_say("%s cannot become read-only: files on it are open for writing; fuser -vm %s names who",
                  place, place);
    else if (rc == -EPERM)
        words_say("%s: only root may remount", place);
    else if (rc < 0)
        words_say("%s cannot be remounted: %s", place, err_text(rc));
    return rc;
}

static int tell_daemon(const struct target *target, const char *mode)
{
    struct json *answer = NULL;
    int rc = command_ask(target, "remount", mode, CONTROL_TIMEOUT_MS, &answer);
    json_free(answer);
    return rc;
}

static int change(const struct target *target, const char *place, const struct place_mount *there,
                  bool writes)
{
    int rc = writes ? tell_daemon(target, "rw") : tell_kernel(place, there, false);
    if (rc == 0)
        rc = writes ? tell_kernel(place, there, true) : tell_daemon(target, "ro");
    if (rc < 0 && writes && there->read_only)
        tell_daemon(target, "ro"); /* as it is */
    return rc;
}

static int run_alive(const struct remount_words *said, const char *place, const struct place_mount *there)
{
    struct target target;
    struct json *status = NULL;
    target_look(place, &target);
    int rc = command_ask(&target, "status", NULL, CONTROL_TIMEOUT_MS, &status);
    if (rc == 0)
        rc = check_options(said, status);
    if (rc == 0 && !said->check_only && said->asked != REMOUNT_AS_IT_IS)
        rc = change(&target, place, there, said->asked == REMOUNT_RW);
    json_free(status);
    target_release(&target);
    return rc;
}

int remount_run(const struct remount_words *said)
{
    BUF_SCOPED why = BUF_INIT;
    struct place_mount there = {0};
    STRING_SCOPED *place = NULL;
    int rc = place_resolve(said->directory, &place, &why);
    if (rc < 0) {
        words_complain(why.bytes);
        return rc;
    }
    enum place_state state = place_look(place, &there);
    rc = -EINVAL;
    if (state == PLACE_FREE || !there.type || strcmp(there.type, "fuse.skyvol") != 0)
        words_say("%s is no mount of skyvol: mount it without remount", place);
    else if (state == PLACE_DEAD)
        words_say("the daemon of %s has died: unmount it, and mount it again", place);
    else
        rc = run_alive(said, place, &there);
    place_mount_release(&there);
    return rc;
}
