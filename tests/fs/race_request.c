/* Each request is answered exactly once, while interrupts, answers and the end of the session race with each other. A plain
 * main, so that it runs under ThreadSanitizer too. */
#include "fake_cache.h"
#include "wire.h"

#include <sched.h>

#define ROUNDS 6000

static struct wire wire;
static atomic_bool over;
static atomic_uint answered; /* requests that have a reply */
static uint64_t fh, node;

static void fail(const char *what, uint64_t unique)
{
    fprintf(stderr, "request %d: %s\n", (int)unique, what);
    exit(1);
}

static unsigned next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(*state >> 33);
}

static void *release_now_and_then(void *context)
{
    (void)context;
    while (!atomic_load(&over)) {
        fake_release(false);
        usleep(150);
    }
    return NULL;
}

static void *take_replies(void *context)
{
    (void)context;
    while (wire_receive(&wire, atomic_load(&over) ? 300 : 50) || !atomic_load(&over)) {
        unsigned count = 0;
        for (uint64_t i = 100 / 2; i < 100 / 2 + ROUNDS; i++)
            count += wire.replies[i] > 0;
        atomic_store(&answered, count);
    }
    return NULL;
}

static void send_one(uint64_t unique, unsigned kind)
{
    struct fuse_read_in read = {.fh = fh, .offset = FAKE_SLOW_OFFSET, .size = 4096};
    struct fuse_fsync_in sync = {.fh = fh};
    struct fuse_flush_in flush = {.fh = fh};
    switch (kind % 5) {
    case 0:
    case 1:
        wire_lookup(&wire, unique, "hang");
        break;
    case 2:
        wire_send(&wire, FUSE_READ, unique, node, &read, sizeof read);
        break;
    case 3:
        wire_send(&wire, FUSE_FSYNC, unique, node, &sync, sizeof sync);
        break;
    case 4:
        wire_send(&wire, FUSE_FLUSH, unique, node, &flush, sizeof flush);
        break;
    }
}

static void open_file(void)
{
    struct fuse_entry_out entry;
    struct fuse_open_out out;
    wire_lookup(&wire, 10, "file");
    wire_await(&wire, 10);
    memcpy(&entry, wire.body, sizeof entry);
    node = entry.nodeid;
    struct fuse_open_in in = {.flags = O_RDWR};
    wire_send(&wire, FUSE_OPEN, 12, node, &in, sizeof in);
    wire_await(&wire, 12);
    memcpy(&out, wire.body, sizeof out);
    fh = out.fh;
}

static void send_all(uint64_t seed, bool stop_in_between)
{
    uint64_t random = seed;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t unique = 100 + 2 * i;
        unsigned dice = next_random(&random);
        if (dice % 7 == 0)
            wire_interrupt(&wire, unique); /* before its request */
        send_one(unique, dice >> 8);
        if (dice % 7 < 4)
            wire_interrupt(&wire, unique);
        if (dice % 7 == 5 && i > 20)
            wire_interrupt(&wire, unique - 2 * (dice % 20));
        if (i % 64 == 0)
            sched_yield();
        if (stop_in_between && i == ROUNDS / 2) {
            fs_stop(wire.fs);
            return;
        }
    }
}

static void run(uint64_t seed, bool stop_in_between)
{
    pthread_t releaser, receiver;
    fake_begin();
    wire_begin(&wire, FUSE_ASYNC_READ);
    open_file();
    atomic_store(&over, false);
    atomic_store(&answered, 0);
    pthread_create(&releaser, NULL, release_now_and_then, NULL);
    pthread_create(&receiver, NULL, take_replies, NULL);
    send_all(seed, stop_in_between);
    while (!stop_in_between && atomic_load(&answered) < ROUNDS)
        usleep(1000); /* one that is never answered is a time-out of this program */
    if (stop_in_between)
        pthread_join(wire.runner, NULL);
    atomic_store(&over, true);
    pthread_join(releaser, NULL);
    pthread_join(receiver, NULL);
    for (uint64_t i = 100 / 2; i < 100 / 2 + ROUNDS; i++) {
        if (wire.replies[i] > 1)
            fail("answered twice", 2 * i);
        if (wire.replies[i] == 0 && !stop_in_between)
            fail("not answered", 2 * i);
    }
    if (!stop_in_between) {
        fs_stop(wire.fs);
        pthread_join(wire.runner, NULL);
    }
    fs_free(wire.fs);
    close(wire.fd);
    if (fake_references() != 0 || fake.open != 0)
        fail("references or handles are left", 0);
    fake_end();
}

/* libfuse 3.14 does not free the INTERRUPTs of requests that never came (here: an end in between) with the session. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfuse3";
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        run(seed, false);
        run(seed + 1000, true);
    }
    return 0;
}
