#include <criterion/criterion.h>

#include "fake_cache.h"
#include "wire.h"

static struct wire wire;

static void begin(void)
{
    fake_begin();
    wire_begin(&wire, FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_EXPLICIT_INVAL_DATA);
}

static void end(void)
{
    wire_end(&wire);
    cr_expect_eq(fake_references(), 0, "%zu references to inodes are left", fake_references());
    cr_expect_eq(fake.open, 0);
    fake_end();
}

TestSuite(request, .init = begin, .fini = end);

static void await_waiting(size_t count)
{
    for (int i = 0; i < 20000 && fake_waiting() != count; i++)
        usleep(1000);
    cr_assert_eq(fake_waiting(), count);
}

static int reply_of(uint64_t unique)
{
    cr_assert(wire_await(&wire, unique), "request %d is not answered", (int)unique);
    cr_assert_eq(wire.replies[unique / 2], 1);
    return wire.errors[unique / 2];
}

static uint64_t open_file(uint64_t unique, uint64_t *ret_node)
{
    wire_lookup(&wire, unique, "file");
    cr_assert_eq(reply_of(unique), 0);
    struct fuse_entry_out entry;
    memcpy(&entry, wire.body, sizeof entry);
    *ret_node = entry.nodeid;
    struct fuse_open_in in = {.flags = O_RDWR};
    wire_send(&wire, FUSE_OPEN, unique + 2, entry.nodeid, &in, sizeof in);
    cr_assert_eq(reply_of(unique + 2), 0);
    struct fuse_open_out out;
    memcpy(&out, wire.body, sizeof out);
    return out.fh;
}

static void send_read(uint64_t unique, uint64_t node, uint64_t fh, uint64_t offset)
{
    struct fuse_read_in in = {.fh = fh, .offset = offset, .size = 4096};
    wire_send(&wire, FUSE_READ, unique, node, &in, sizeof in);
}

Test(request, what_is_in_memory_is_answered_while_200_lookups_hang)
{
    for (uint64_t i = 0; i < 200; i++)
        wire_lookup(&wire, 100 + 2 * i, "hang");
    await_waiting(REQUESTS_THREADS);
    wire_lookup(&wire, 10, "file");
    cr_expect_eq(reply_of(10), 0);
    cr_expect_eq(wire.replies[50], 0);
}

Test(request, a_lookup_that_hangs_ends_by_its_interrupt)
{
    wire_lookup(&wire, 10, "hang");
    await_waiting(1);
    wire_interrupt(&wire, 10);
    cr_expect_eq(reply_of(10), -EINTR);
    cr_expect_eq(fake_waiting(), 0);
}

Test(request, a_queued_lookup_is_withdrawn_at_its_interrupt_and_never_asked)
{
    for (uint64_t i = 0; i < REQUESTS_THREADS; i++)
        wire_lookup(&wire, 100 + 2 * i, "hang");
    await_waiting(REQUESTS_THREADS);
    size_t asked = fake_asked();
    wire_lookup(&wire, 10, "hang");
    wire_interrupt(&wire, 10);
    cr_expect_eq(reply_of(10), -EINTR);
    fake_release(true);
    for (uint64_t i = 0; i < REQUESTS_THREADS; i++)
        cr_expect_eq(reply_of(100 + 2 * i), 0);
    cr_expect_eq(fake_asked(), asked);
}

Test(request, an_interrupt_that_comes_before_its_request_is_kept)
{
    wire_interrupt(&wire, 10);
    wire_lookup(&wire, 10, "hang");
    cr_expect_eq(reply_of(10), -EINTR);
}

Test(request, a_read_that_hangs_ends_by_its_interrupt)
{
    uint64_t node, fh = open_file(10, &node);
    send_read(20, node, fh, FAKE_SLOW_OFFSET);
    await_waiting(1);
    wire_interrupt(&wire, 20);
    cr_expect_eq(reply_of(20), -EINTR);
}

Test(request, an_answered_read_gives_its_memory_back)
{
    uint64_t node, fh = open_file(10, &node);
    send_read(20, node, fh, 0);
    cr_expect_eq(reply_of(20), 0);
    cr_expect_eq(wire.body_length, 4096);
    for (int i = 0; i < 10000 && atomic_load(&fake_reads_released) == 0; i++)
        usleep(1000);
    cr_expect_eq(atomic_load(&fake_reads_released), 1);
}

Test(request, an_fsync_that_hangs_ends_by_its_interrupt)
{
    uint64_t node, fh = open_file(10, &node);
    struct fuse_fsync_in in = {.fh = fh};
    wire_send(&wire, FUSE_FSYNC, 20, node, &in, sizeof in);
    await_waiting(1);
    wire_interrupt(&wire, 20);
    cr_expect_eq(reply_of(20), -EINTR);
}

Test(request, a_write_that_must_wait_is_written_later)
{
    uint64_t node, fh = open_file(10, &node);
    struct {
        struct fuse_write_in in;
        char bytes[100];
    } message = {.in = {.fh = fh, .offset = FAKE_SLOW_OFFSET, .size = 100}};
    wire_send(&wire, FUSE_WRITE, 20, node, &message, sizeof message);
    cr_expect_eq(reply_of(20), 0);
    struct fuse_write_out out;
    memcpy(&out, wire.body, sizeof out);
    cr_expect_eq(out.size, 100);
}

Test(request, stopping_answers_all_that_wait)
{
    uint64_t node, fh = open_file(10, &node);
    for (uint64_t i = 0; i < 100; i++)
        wire_lookup(&wire, 100 + 2 * i, "hang");
    for (uint64_t i = 100; i < 200; i++)
        send_read(100 + 2 * i, node, fh, FAKE_SLOW_OFFSET);
    struct fuse_flush_in in = {.fh = fh};
    wire_send(&wire, FUSE_FLUSH, 500, node, &in, sizeof in);
    await_waiting(REQUESTS_THREADS + 101);
    fs_stop(wire.fs);
    for (uint64_t i = 0; i < 200; i++)
        cr_expect_eq(reply_of(100 + 2 * i), -EINTR);
    cr_expect_eq(reply_of(500), -EINTR);
}

Test(request, when_too_many_wait_the_next_one_is_told_so)
{
    uint64_t last = 100 + 2 * (REQUESTS_THREADS + REQUESTS_QUEUE_MAX + 8);
    for (uint64_t unique = 100; unique <= last; unique += 2)
        wire_lookup(&wire, unique, "hang");
    await_waiting(REQUESTS_THREADS);
    size_t refused = 0;
    while (refused == 0) {
        cr_assert(wire_receive(&wire, 20000));
        for (uint64_t unique = 100; unique <= last; unique += 2)
            if (wire.replies[unique / 2]) {
                cr_expect_eq(wire.errors[unique / 2], -ENOMEM);
                refused++;
            }
    }
}

Test(request, a_page_of_entries_counts_only_what_fits)
{
    struct fuse_open_in in = {0};
    wire_send(&wire, FUSE_OPENDIR, 10, FUSE_ROOT_ID, &in, sizeof in);
    cr_assert_eq(reply_of(10), 0);
    struct fuse_open_out out;
    memcpy(&out, wire.body, sizeof out);
    struct fuse_read_in read = {.fh = out.fh, .size = 2000};
    wire_send(&wire, FUSE_READDIRPLUS, 12, FUSE_ROOT_ID, &read, sizeof read);
    cr_assert_eq(reply_of(12), 0);
    size_t named = 0, counted = 0, last = 0;
    for (size_t at = 0; at < wire.body_length;) {
        struct fuse_direntplus line;
        memcpy(&line, wire.body + at, sizeof line);
        named++;
        counted += line.entry_out.nodeid != 0;
        last = line.dirent.off;
        at += FUSE_DIRENT_ALIGN(offsetof(struct fuse_direntplus, dirent.name) + line.dirent.namelen);
    }
    cr_expect_gt(counted, 5);
    cr_expect_eq(named, counted + 2);
    cr_expect_eq(last, counted + 2);
    cr_expect_eq(nodes_count(&wire.fs->nodes), counted);
}

Test(request, a_request_on_a_forgotten_node_is_refused)
{
    wire_send(&wire, FUSE_GETATTR, 10, 4711, &(struct fuse_getattr_in){0}, sizeof(struct fuse_getattr_in));
    cr_expect_eq(reply_of(10), -ESTALE);
}

Test(request, an_unknown_name_is_a_negative_entry)
{
    wire_lookup(&wire, 10, "none");
    cr_expect_eq(reply_of(10), 0);
    struct fuse_entry_out entry;
    memcpy(&entry, wire.body, sizeof entry);
    cr_expect_eq(entry.nodeid, 0);
    cr_expect_eq(entry.entry_valid, 1);
}

Test(request, whose_thread_group_cannot_be_read_is_nobody_and_not_a_process_of_its_own)
{
    uint64_t node;
    uint64_t fh = open_file(10, &node);
    cr_expect_eq(fake.process, getpid());
    wire.pid = 0x3ffffff; /* above the highest that the kernel gives: as if hidden */
    struct fuse_flush_in in = {.fh = fh};
    wire_send(&wire, FUSE_FLUSH, 20, node, &in, sizeof in);
    await_waiting(1);
    cr_expect_eq(fake.process, 0);
    fake_release(true);
    cr_expect_eq(reply_of(20), 0);
}
