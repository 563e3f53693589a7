#include "mount/courier.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "mount/ephemeral.h"
#include "mount/words.h"

#define TICK_MS        100
#define WINDOW_MAX     ((uint64_t)256 << 20)
#define EXIT_SIGNAL    130
#define SAME_SIGNAL_MS 1000 /* several within it are one: of a terminal, and of what passes it on */

static volatile sig_atomic_t signalled;
static int64_t signalled_ms; /* the handler's own */

/* The second one ends the process: what has not come to an end by then waits for somebody who does not answer. */
static void hear_signal(int number)
{
    static const char words[] = "skyvol: ended at once: what it would have cleared up stays (parts of "
                                "uploads: skyvol rm --uploads; a key: the next operation)\n";
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t now_ms = now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (signalled && now_ms > signalled_ms + SAME_SIGNAL_MS) {
        (void)!write(STDERR_FILENO, words, sizeof words - 1);
        _exit(EXIT_SIGNAL);
    }
    if (!signalled)
        signalled_ms = now_ms;
    signalled = number;
}

static void hear_signals(void)
{
    struct sigaction action = {.sa_handler = hear_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int courier_begin(struct courier *courier, const char *command, const struct storage *storage,
                  const char *bucket, bool json)
{
    BUF_SCOPED why = BUF_INIT;
    *courier = (struct courier){.command = command, .bucket = bucket, .json = json, .done = BUF_INIT};
    lock_init(&courier->lock, LOCK_LEAF, "courier");
    progress_init(&courier->progress, bucket, isatty(STDERR_FILENO));
    for (int i = 0; i < COURIER_CREW; i++)
        waiter_init(&courier->waiters[i]);
    hear_signals();
    if (ephemeral_open(storage, bucket, &courier->waiters[0], &courier->ephemeral, &courier->store, &why) ==
        0)
        return 0;
    words_complain(why.bytes);
    atomic_fetch_add(&courier->failures, 1);
    courier_end(courier);
    return 1;
}

static bool end_ephemeral(struct courier *courier)
{
    BUF_SCOPED why = BUF_INIT;
    if (ephemeral_end(courier->ephemeral, &why) == 0)
        return true;
    words_complain(why.bytes);
    words_say("the next operation with this API key deletes it");
    return false;
}

int courier_end(struct courier *courier)
{
    bool stopped = atomic_load(&courier->stopped);
    unsigned failures = atomic_load(&courier->failures);
    if (courier->json && courier->store)
        printf("{\"done\": [%s], \"failures\": %u}\n", courier->done.bytes, failures);
    if (stopped)
        words_say("stopped by a signal: what was done stays, run it again to go on");
    store_free(courier->store);
    bool unclean = !end_ephemeral(courier);
    for (int i = 0; i < COURIER_CREW; i++) {
        waiter_release(&courier->waiters[i]);
        free(courier->rooms[i].bytes);
    }
    lock_release(&courier->lock);
    buf_release(&courier->done);
    bool unwritten = fflush(stdout) != 0 || ferror(stdout);
    if (unwritten)
        words_say("standard output could not be written: what was to be told is not complete");
    return stopped ? EXIT_SIGNAL : failures || unwritten || unclean;
}

/* ---- What is said. ---- */

/* Under the lock: a line comes to the terminal on which a bar stands. */
static void clear_bar(struct courier *courier)
{
    progress_end(&courier->progress);
}

void courier_fail(struct courier *courier, const char *name, const char *format, ...)
{
    BUF_SCOPED words = BUF_INIT;
    va_list list;
    va_start(list, format);
    buf_vprintf(&words, format, list);
    va_end(list);
    LOCK_SCOPED(&courier->lock);
    atomic_fetch_add(&courier->failures, 1);
    clear_bar(courier);
    words_say("%s: %s", name, words.bytes);
}

void courier_fail_call(struct courier *courier, const char *name, const char *what,
                       const struct store_call *call, int rc)
{
    BUF_SCOPED words = BUF_INIT;
    if (rc == -EINTR)
        return; /* said once, at the end */
    store_error_print(&call->error, rc, &words);
    courier_fail(courier, name, "%s: %s", what, words.bytes);
}

/* Takes it. */
static void add_done(struct courier *courier, struct json *one)
{
    BUF_SCOPED text = BUF_INIT;
    json_print(one, &text, false);
    json_free(one);
    buf_printf(&courier->done, "%s%s", courier->done.length ? ", " : "", text.bytes);
}

void courier_tell(struct courier *courier, const char *what, const char *from, const char *to, uint64_t size)
{
    LOCK_SCOPED(&courier->lock);
    if (!courier->json) {
        clear_bar(courier);
        words_line(stdout, "%s %s -> %s", what, from, to);
        return;
    }
    struct json *one = json_object_new();
    json_set_string(one, "from", from);
    json_set_string(one, "to", to);
    json_set_integer(one, "size", (int64_t)size);
    add_done(courier, one);
}

void courier_tell_gone(struct courier *courier, const char *what, const char *key)
{
    LOCK_SCOPED(&courier->lock);
    if (!courier->json) {
        clear_bar(courier);
        words_line(stdout, "%s %s", what, key);
        return;
    }
    struct json *one = json_object_new();
    json_set_string(one, "what", what);
    json_set_string(one, "key", key);
    add_done(courier, one);
}

/* ---- The crew. ---- */

struct crew {
    struct courier *courier;
    courier_act *act;
    void *context;
    size_t count;
    atomic_size_t next;
    int working; /* under `lock` */
    pthread_mutex_t lock;
    pthread_cond_t idle; /* nobody works any more */
};

struct hand {
    struct crew *crew;
    struct waiter *waiter;
    pthread_t thread;
};

static void leave(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    if (--crew->working == 0)
        pthread_cond_signal(&crew->idle);
    pthread_mutex_unlock(&crew->lock);
}

/* False: it still works after so long. */
static bool wait_idle(struct crew *crew, int64_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += timeout_ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&crew->lock);
    while (crew->working > 0 &&
           pthread_cond_clockwait(&crew->idle, &crew->lock, CLOCK_MONOTONIC, &until) == 0)
        ;
    bool idle = crew->working == 0;
    pthread_mutex_unlock(&crew->lock);
    return idle;
}

static void *work(void *context)
{
    struct hand *hand = context;
    struct crew *crew = hand->crew;
    size_t index;
    while (!atomic_load(&crew->courier->stopped) && (index = atomic_fetch_add(&crew->next, 1)) < crew->count)
        crew->act(crew->courier, hand->waiter, crew->context, index);
    leave(crew);
    return NULL;
}

static void stop(struct courier *courier)
{
    atomic_store(&courier->stopped, true);
    for (int i = 0; i < COURIER_CREW; i++)
        waiter_interrupt(&courier->waiters[i]);
}

static void draw(struct courier *courier)
{
    BUF_SCOPED line = BUF_INIT;
    int64_t files = (int64_t)(atomic_load(&courier->files) - atomic_load(&courier->files_done));
    int64_t done = (int64_t)atomic_load(&courier->bytes_done), all = (int64_t)atomic_load(&courier->bytes);
    LOCK_SCOPED(&courier->lock);
    progress_look(&courier->progress, clock_ms(), files, all - done, done, 0);
    progress_print(&courier->progress, files, all - done, true, &line);
    fprintf(stderr, "\r\x1b[K%s", line.bytes);
    fflush(stderr);
    courier->progress.drawn = true;
}

bool courier_stopped(struct courier *courier)
{
    if (signalled && !atomic_load(&courier->stopped))
        stop(courier);
    return atomic_load(&courier->stopped);
}

/* Until all have ended: draws, and hears signals. */
static void watch(struct crew *crew)
{
    struct courier *courier = crew->courier;
    while (!wait_idle(crew, TICK_MS)) {
        courier_stopped(courier);
        if (courier->progress.terminal && atomic_load(&courier->files))
            draw(courier);
    }
    LOCK_SCOPED(&courier->lock);
    clear_bar(courier);
}

void courier_each(struct courier *courier, size_t count, size_t most, courier_act *act, void *context)
{
    struct crew crew = {.courier = courier,
                        .act = act,
                        .context = context,
                        .count = count,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .idle = PTHREAD_COND_INITIALIZER};
    struct hand hands[COURIER_CREW];
    size_t size = most > 0 && most < COURIER_CREW ? most : COURIER_CREW, started = 0;
    size = count < size ? count : size;
    crew.working = (int)size;
    for (; started < size; started++) {
        hands[started] = (struct hand){.crew = &crew, .waiter = &courier->waiters[started]};
        if (pthread_create(&hands[started].thread, NULL, work, &hands[started]) != 0)
            break;
    }
    for (size_t i = started; i < size; i++)
        leave(&crew);
    if (!started && count)
        courier_fail(courier, courier->command, "no thread can be started: too many processes, or no memory");
    watch(&crew);
    for (size_t i = 0; i < started; i++)
        pthread_join(hands[i].thread, NULL);
}

char *courier_room(struct courier *courier, const struct waiter *waiter, size_t length)
{
    struct courier_room *room = &courier->rooms[waiter - courier->waiters];
    if (length > room->size) {
        free(room->bytes);
        *room = (struct courier_room){xmalloc(length), length};
    }
    return room->bytes;
}

int courier_call(struct courier *courier, struct store_call *call, struct waiter *waiter)
{
    if (atomic_load(&courier->stopped))
        return -EINTR;
    call->patience_ms = COURIER_PATIENCE_MS;
    return store_wait(courier->store, call, waiter);
}

uint64_t courier_part(uint64_t size)
{
    uint64_t part = COURIER_PART;
    while (size / part >= STORE_PARTS_MAX)
        part *= 2;
    return part;
}

size_t courier_crew(uint64_t part)
{
    uint64_t crew = WINDOW_MAX / part;
    return crew < 1 ? 1 : crew > COURIER_CREW ? COURIER_CREW : (size_t)crew;
}

/* Where there are enough to keep all busy, those of a few parts need no crew of their own. */
uint64_t courier_alone(size_t count)
{
    return count >= COURIER_CREW ? 16 * COURIER_PART : COURIER_PART;
}

/* ---- Listings. ---- */

struct listing {
    const char *prefix;
    bool (*each)(void *context, const struct store_object *object);
    void *context;
    int rc;
};

static void list_all(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct listing *listing = context;
    char *token = NULL;
    bool more = true;
    (void)index;
    while (more) {
        struct store_call call = {.op = STORE_LIST, .prefix = listing->prefix, .token = token};
        listing->rc = courier_call(courier, &call, waiter);
        if (listing->rc < 0)
            courier_fail_call(courier, courier->bucket, "it cannot be listed", &call, listing->rc);
        more = listing->rc == 0;
        for (size_t i = 0; more && i < call.object_count; i++)
            more = listing->each(listing->context, &call.objects[i]);
        free(token);
        token = more && call.next_token ? xstrdup(call.next_token) : NULL;
        more = token;
        store_call_release(&call);
    }
    free(token);
}

int courier_list(struct courier *courier, const char *prefix,
                 bool (*each)(void *context, const struct store_object *object), void *context)
{
    struct listing listing = {.prefix = prefix, .each = each, .context = context};
    courier_each(courier, 1, 1, list_all, &listing);
    return listing.rc;
}
