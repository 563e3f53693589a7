#include "mount/handover.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "mount/control.h"
#include "mount/words.h"

#define PATIENCE_MS 2000 /* for one who is just ending */
#define YIELDING_MS 5000 /* for one who said that he lets go */
#define ANSWER_MS   1000
#define SLICE_MS    100

static char *copy_string(const struct json *object, const char *name)
{
    const char *text = json_get_string(object, name);
    return xstrdup(text ? text : "");
}

static void ask(struct handover *handover, const char *mount_point)
{
    struct json *answer = NULL;
    BUF_SCOPED why = BUF_INIT;
    if (handover->heard)
        return;
    int rc = control_ask(mount_point, geteuid(), "yield", NULL, ANSWER_MS, &answer, &why);
    if (rc == -EPROTO)
        log_debug("the daemon of %s does not yield: %s", mount_point, why.bytes);
    json_get_bool(answer, "yielding", &handover->heard);
    if (handover->heard) {
        handover->deadline_ms = clock_ms() + YIELDING_MS;
        handover->cache_dir = copy_string(answer, "cache_dir");
        handover->source = copy_string(answer, "source");
        json_get_integer(answer, "unsent_files", &handover->files);
        json_get_integer(answer, "unsent_bytes", &handover->bytes);
        log_info("%s is taken over from a daemon that still uploads", mount_point);
    }
    json_free(answer);
}

void handover_tell_stopped(const struct handover *handover, struct buf *why)
{
    if (!handover->heard || handover->files == 0)
        return;
    words_next(why);
    buf_printf(why,
               "what was still being uploaded after the last mount (%lld files, %lld bytes) waits in %s now; "
               "send it with: skyvol flush %s",
               (long long)handover->files, (long long)handover->bytes, handover->cache_dir,
               handover->cache_dir);
}

void handover_release(struct handover *handover)
{
    free_string(&handover->cache_dir);
    free_string(&handover->source);
}

int handover_claim(struct handover *handover, const char *mount_point, struct claim *ret_claim,
                   struct buf *why)
{
    BUF_SCOPED words = BUF_INIT;
    int rc;
    handover->deadline_ms = clock_ms() + PATIENCE_MS;
    do {
        pid_t pid;
        if (claim_held(mount_point, geteuid(), &pid))
            ask(handover, mount_point);
        buf_reset(&words);
        rc = claim_take(mount_point, SLICE_MS, ret_claim, &words);
    } while (rc == -EBUSY && clock_ms() < handover->deadline_ms);
    buf_add_string(why, words.bytes);
    return rc;
}

static void warn_of_rest(const struct handover *handover, struct rooms *rooms)
{
    if (!handover->heard || handover->files == 0 || strcmp(rooms->home.path, handover->cache_dir) == 0)
        return;
    words_next(&rooms->warnings);
    buf_printf(&rooms->warnings,
               "%lld unsent files (%lld bytes) of %s, which was mounted here before, wait in %s; send them "
               "with: skyvol flush %s",
               (long long)handover->files, (long long)handover->bytes, handover->source, handover->cache_dir,
               handover->cache_dir);
}

/* It may also be held for a moment by somebody who only looks. */
int handover_home(struct handover *handover, struct rooms *rooms, struct buf *why)
{
    struct handover second = {.deadline_ms = clock_ms() + PATIENCE_MS};
    BUF_SCOPED words = BUF_INIT;
    int rc;
    while ((rc = rooms_open_home(rooms, &words)) == -EBUSY && clock_ms() < second.deadline_ms) {
        STRING_SCOPED *mount_point = NULL;
        STRING_SCOPED *door = NULL;
        if (home_holder(rooms->settings, &mount_point, &door)) {
            ask(&second, door);
            ask(&second, mount_point);
        }
        buf_reset(&words);
        nanosleep(&(struct timespec){.tv_nsec = SLICE_MS * 1000000}, NULL);
    }
    buf_add_string(why, words.bytes);
    if (rc == 0)
        warn_of_rest(handover, rooms);
    handover_release(&second);
    return rc;
}
