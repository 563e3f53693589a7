#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "mount/cold.h"
#include "mount/command.h"
#include "mount/control.h"
#include "mount/flushing.h"
#include "mount/progress.h"
#include "mount/unsent.h"
#include "mount/words.h"

#define LOOK_MS 200   /* between two looks; longer where a look takes longer */
#define GONE_MS 10000 /* for a daemon that is being started again, or taken over from */
#define TAKE_MS 5000  /* for a mount that takes over from us */

/* In the place of an exit status: another one has the cache directory now, or nobody. */
#define FLUSH_AGAIN -1

/* What is left when nothing is on its way any more is refused. The exit status. */
static int tell_end(const struct json *answer, const char *word)
{
    if (!command_number(answer, "unsent_files"))
        return 0;
    command_name_unsent(answer, true);
    words_say("try again with: skyvol flush %s; give one up with: skyvol discard DIR FILE", word);
    return 1;
}

static void pause_after(int64_t took_ms)
{
    int64_t ms = took_ms > LOOK_MS ? took_ms : LOOK_MS;
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* ---- Of a mount. ---- */

static bool may_come_back(int rc)
{
    return rc == -ENOENT || rc == -ECONNREFUSED || rc == -EPIPE || rc == -ECONNRESET || rc == -EAGAIN;
}

/* A daemon that ends meanwhile may come back (its monitor, a new mount), and goes on then. -EPIPE: who had the cache directory that
 * was named has let it go. */
static int look(const struct target *target, struct json **ret_status)
{
    int64_t deadline = clock_ms() + GONE_MS;
    BUF_SCOPED why = BUF_INIT;
    int rc;
    while ((rc = control_ask(target->door, target->mount.owner, "status", target->below, CONTROL_TIMEOUT_MS,
                             ret_status, &why)) < 0 &&
           may_come_back(rc) && !target->cache_dir && clock_ms() < deadline)
        pause_after(0);
    if (target->cache_dir && may_come_back(rc))
        return -EPIPE;
    if (rc == -EPROTO)
        words_say("%s: %s", target->path, why.bytes);
    else if (rc < 0)
        words_say("the daemon of %s does not answer any more (%s); what is unsent stays in its journal; see: "
                  "skyvol status %s",
                  target->path, err_text(rc), target->path);
    return rc;
}

/* 0: `socket` has the answer, or its end. Shows how far it is meanwhile; longer pauses where a look takes longer. */
static int watch(const struct target *target, int socket, struct progress *progress)
{
    int64_t pause_ms = LOOK_MS;
    int rc;
    while ((rc = control_await(socket, pause_ms)) == -ETIMEDOUT) {
        struct json *status = NULL;
        int64_t asked_ms = clock_ms();
        rc = look(target, &status);
        if (rc < 0)
            return rc;
        progress_show(progress, status);
        json_free(status);
        pause_ms = clock_ms() - asked_ms > LOOK_MS ? clock_ms() - asked_ms : LOOK_MS;
    }
    return rc;
}

/* -EPIPE: the daemon went away, and another one may go on; what is not said here was said by look(). */
static int await(const struct target *target, struct progress *progress, struct json **ret_answer)
{
    struct json *answer = NULL;
    int socket;
    pid_t pid;
    int rc = control_connect(target->door, target->mount.owner, &socket, &pid);
    if (rc < 0)
        return -EPIPE;
    rc = control_send(socket, "await", target->below) < 0 ? -EPIPE : watch(target, socket, progress);
    if (rc == 0 && control_receive(socket, CONTROL_TIMEOUT_MS, &answer) < 0)
        rc = -EPIPE;
    close(socket);
    const char *error = json_get_string(answer, "error");
    if (error && strcmp(error, CONTROL_ENDS) != 0)
        words_say("%s: %s", target->path, error);
    if (error) {
        rc = strcmp(error, CONTROL_ENDS) == 0 ? -EPIPE : -EPROTO;
        json_free(answer);
    } else if (rc == 0) {
        *ret_answer = answer;
    }
    return rc;
}

static int wait_for(const struct target *target, const char *word)
{
    struct progress progress;
    struct json *answer = NULL, *status = NULL;
    int code = 1, rc;
    progress_init(&progress, word, isatty(STDERR_FILENO));
    while ((rc = await(target, &progress, &answer)) == -EPIPE && !target->cache_dir &&
           (rc = look(target, &status)) == 0) {
        pause_after(0);
        json_free(status); /* it is there again */
        status = NULL;
    }
    if (rc == 0 && progress.drawn && look(target, &status) == 0)
        progress_show(&progress, status);
    progress_end(&progress);
    if (rc == 0)
        code = tell_end(answer, word);
    else if (rc == -EPIPE && target->cache_dir)
        code = FLUSH_AGAIN;
    json_free(answer);
    json_free(status);
    return code;
}

/* What the daemon does not know has nothing unsent; whether it is there at all is the mount's to say. */
static int begin(const struct target *target, const char *word)
{
    struct json *answer = NULL;
    int rc = command_ask(target, "flush", target->below, CONTROL_TIMEOUT_MS, &answer);
    json_free(answer);
    if (rc == -ENOENT && target->mount.found && access(word, F_OK) == 0)
        return 0;
    if (rc == -ENOENT)
        words_say("%s: %s", word, CONTROL_NO_FILE);
    return rc;
}

/* ---- Of a cache directory that nobody mounts. ---- */

/* The waiting, on a thread of its own; the command's shows how far it is. */
struct waiting {
    struct cold *cold;
    struct unsent failed;
    atomic_bool over;
    int rc;
};

static void *wait_behind(void *context)
{
    struct waiting *waiting = context;
    struct cold *cold = waiting->cold;
    waiting->rc = flushing_wait(cold->rooms.cache, cold->settings.durability == DURABILITY_LOCAL,
                                &cold->waiter, "", &waiting->failed);
    atomic_store(&waiting->over, true);
    return NULL;
}

static void show_progress(struct waiting *waiting, const char *word)
{
    struct progress progress;
    progress_init(&progress, word, isatty(STDERR_FILENO));
    while (!atomic_load(&waiting->over)) {
        struct json *status = json_object_new();
        pause_after(0);
        unsent_report(waiting->cold->rooms.cache, "", status);
        progress_show(&progress, status);
        json_free(status);
    }
    progress_end(&progress);
}

static int wait_cold(struct cold *cold, const char *word)
{
    struct waiting waiting = {.cold = cold};
    struct json *answer = json_object_new();
    pthread_t thread;
    int code = 1;
    unsent_init(&waiting.failed, "");
    int rc = -pthread_create(&thread, NULL, wait_behind, &waiting);
    if (rc == 0) {
        show_progress(&waiting, word);
        pthread_join(thread, NULL);
        rc = waiting.rc;
    }
    unsent_print(&waiting.failed, answer);
    if (rc == 0)
        code = tell_end(answer, word);
    else if (cold_interrupted())
        words_say("interrupted: what is unsent stays in %s", word);
    else if (atomic_load(&cold->yielded))
        code = FLUSH_AGAIN;
    else
        words_say("%s: %s", word, err_text(rc));
    json_free(answer);
    unsent_release(&waiting.failed);
    return code;
}

/* Nothing unsent needs no server. */
static bool is_empty(const char *path)
{
    struct unsent unsent;
    BUF_SCOPED why = BUF_INIT;
    unsent_init(&unsent, "");
    bool empty = home_look_each(path, unsent_add, &unsent, &why) == 0 && unsent.files == 0;
    unsent_release(&unsent);
    return empty;
}

static int flush_cold(const char *path)
{
    struct cold cold;
    BUF_SCOPED why = BUF_INIT;
    if (is_empty(path))
        return 0;
    int code = 1;
    int rc = cold_open(path, COLD_SENDS, &cold, &why);
    if (rc == -EBUSY) {
        code = FLUSH_AGAIN;
    } else if (rc < 0) {
        words_complain(why.length ? why.bytes : err_text(rc));
    } else {
        cache_publish(cold.rooms.cache, "");
        code = wait_cold(&cold, path);
    }
    bool yielded = atomic_load(&cold.yielded);
    cold_close(&cold);
    for (int64_t deadline = clock_ms() + TAKE_MS; yielded && !home_held(path, NULL) && clock_ms() < deadline;)
        pause_after(0);
    return code;
}

/* Who had it may just have let it go: then there is nothing to say. */
static int begin_cache(const struct target *target)
{
    struct json *answer = NULL;
    BUF_SCOPED why = BUF_INIT;
    int rc = control_ask(target->door, target->mount.owner, "flush", "", CONTROL_TIMEOUT_MS, &answer, &why);
    json_free(answer);
    if (may_come_back(rc))
        return FLUSH_AGAIN;
    if (rc < 0)
        words_say("%s: %s", target->cache_dir, why.length ? why.bytes : err_text(rc));
    return rc < 0 ? 1 : 0;
}

/* Who has the cache directory may change: a mount takes over from a flush, or ends; a flush that had it is interrupted. */
static int flush_cache(const char *path)
{
    int code = FLUSH_AGAIN;
    while (code == FLUSH_AGAIN) {
        struct target target = TARGET_NONE;
        BUF_SCOPED why = BUF_INIT;
        code = 1;
        if (target_find(path, &target, &why) < 0)
            words_complain(why.bytes);
        else if (target.kind == TARGET_CACHE)
            code = flush_cold(path);
        else if ((code = begin_cache(&target)) == 0)
            code = wait_for(&target, path);
        target_release(&target);
        if (code == FLUSH_AGAIN)
            pause_after(0);
    }
    return code;
}

/* ---- All that was named. ---- */

static int flush_one(struct target *target, const char *word, bool waits)
{
    if (target->cache_dir && waits)
        return flush_cache(target->cache_dir);
    if (target->kind == TARGET_CACHE)
        return 0;
    if (target->cache_dir)
        return begin_cache(target) > 0;
    if (waits)
        return wait_for(target, word);
    return begin(target, word) < 0 ? 1 : 0;
}

/* All of them begin before the first is waited for. */
static int flush_all(char **words, struct target *targets, int count)
{
    int code = 0;
    for (int i = 0; i < count; i++) {
        BUF_SCOPED why = BUF_INIT;
        targets[i] = TARGET_NONE;
        bool begun = target_find(words[i], &targets[i], &why) == 0;
        words_complain(why.bytes);
        if (!begun || flush_one(&targets[i], words[i], false) != 0) {
            target_release(&targets[i]);
            code = 1;
        }
    }
    for (int i = 0; i < count; i++)
        if (targets[i].path && flush_one(&targets[i], words[i], true) != 0)
            code = 1;
    return code;
}

int command_flush(int count, char **words)
{
    int first = count > 1 && strcmp(words[1], "--") == 0 ? 2 : 1;
    if (first == 1 && count > 1 && words[1][0] == '-')
        return command_usage("flush", "there is no flag '%s'", words[1]);
    if (count <= first)
        return command_usage("flush", "the directory or file is missing");
    struct target *targets = xcalloc((size_t)count, sizeof targets[0]);
    int code = flush_all(words + first, targets, count - first);
    for (int i = 0; i < count - first; i++)
        target_release(&targets[i]);
    free(targets);
    return code;
}
