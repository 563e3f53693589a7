#include "fs/implied.h"

#include <criterion/criterion.h>

#include "fake_cache.h"
#include "wire.h"

static const struct fs_config immutable = {.source = "test", .read_only = true, .immutable = true};

/* ---- The set alone. ---- */

static struct implied_set set;

static void begin(void)
{
    fake_begin();
    implied_init(&set);
}

static void end(void)
{
    implied_end_all(&set);
    implied_release(&set);
    cr_expect_eq(fake.open, 0, "%zu handles and listings are left", fake.open);
    fake_end();
}

TestSuite(implied, .init = begin, .fini = end);

static struct implied *take(const char *name)
{
    struct entry entry = {0};
    struct implied *implied = NULL;
    cr_assert_eq(cache_lookup(NULL, NULL, NULL, name, &entry), 0);
    cr_assert_eq(implied_take(&set, entry.id, entry.inode, &implied), 0);
    inode_unref(entry.inode);
    return implied;
}

static void use(const char *name)
{
    implied_drop(&set, take(name), false);
}

Test(implied, all_who_read_a_node_share_what_the_first_made)
{
    struct implied *one = take("f"), *other = take("f");
    cr_expect_eq(one, other);
    cr_expect_not_null(implied_handle(one));
    cr_expect_null(implied_listing(one));
    cr_expect_eq(fake.open, 1);
    implied_drop(&set, one, false);
    implied_drop(&set, other, false);
    cr_expect_eq(fake.open, 1, "it stays for the next read");
    struct implied *directory = take("d");
    cr_expect_not_null(implied_listing(directory));
    implied_drop(&set, directory, false);
}

Test(implied, no_more_stay_than_may_and_the_least_recently_used_go)
{
    use("first");
    use("second");
    for (int i = 0; i < IMPLIED_MAX - 1; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%d", i);
        use("first");
        use(name);
    }
    cr_expect_eq(implied_count(&set), IMPLIED_MAX);
    cr_expect_eq(fake.open, IMPLIED_MAX);
    struct implied *first = implied_find(&set, 1);
    cr_expect_not_null(first, "it was used all the time");
    implied_drop(&set, first, false);
    cr_expect_null(implied_find(&set, 2));
}

Test(implied, what_is_in_use_ends_with_its_last_use)
{
    struct implied *held = take("held");
    for (int i = 0; i < IMPLIED_MAX + 10; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%d", i);
        use(name);
    }
    cr_expect_eq(implied_count(&set), IMPLIED_MAX);
    cr_expect_eq(fake.open, IMPLIED_MAX + 1);
    cr_expect_not_null(implied_handle(held));
    implied_drop(&set, held, false);
    cr_expect_eq(fake.open, IMPLIED_MAX);
}

Test(implied, a_node_that_is_forgotten_has_none)
{
    struct implied *implied = take("f");
    implied_forget(&set, 1);
    implied_forget(&set, 1);
    implied_forget(&set, 77);
    cr_expect_null(implied_find(&set, 1));
    cr_expect_eq(fake.open, 1, "a request is at work on it");
    implied_drop(&set, implied, false);
    cr_expect_eq(fake.open, 0);
}

Test(implied, a_listing_whose_end_was_given_goes)
{
    struct implied *one = take("d"), *other = take("d");
    implied_drop(&set, one, true);
    cr_expect_eq(implied_count(&set), 0);
    cr_expect_eq(fake.open, 1, "another one reads in it");
    implied_drop(&set, other, true);
    cr_expect_eq(fake.open, 0);
}

Test(implied, large_listings_go_when_nobody_goes_on_in_them)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    use("f");
    fake.listing_bytes = IMPLIED_LISTED_MAX / 2;
    use("d1");
    use("d2");
    clock_fake_advance(IMPLIED_IDLE_MS);
    use("d1");
    cr_expect_eq(implied_count(&set), 3, "they have room");
    use("d3");
    cr_expect_eq(implied_count(&set), 3);
    cr_expect_null(implied_find(&set, 3), "nobody came back to d2");
    fake.listing_bytes = 4 * IMPLIED_LISTED_MAX;
    use("d1");
    use("d3");
    cr_expect_eq(implied_count(&set), 3, "whoever is in the middle of them goes on");
    struct implied *held = take("d1");
    clock_fake_advance(IMPLIED_IDLE_MS);
    implied_drop(&set, held, false);
    cr_expect_eq(implied_count(&set), 2);
    clock_fake_advance(IMPLIED_IDLE_MS);
    use("f");
    cr_expect_eq(implied_count(&set), 1, "a handle stays");
    clock_fake_end();
}

Test(implied, files_that_are_read_drive_no_listing_out)
{
    use("d");
    for (int i = 0; i < 2 * IMPLIED_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%d", i);
        use(name);
    }
    cr_expect_eq(implied_count(&set), IMPLIED_MAX + 1);
}

/* ---- Asked by a kernel. ---- */

static struct wire wire;

static void begin_kernel(void)
{
    fake_begin();
    wire_begin_as(&wire, FUSE_ASYNC_READ | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT, &immutable);
}

static void end_kernel(void)
{
    wire_end(&wire);
    cr_expect_eq(fake_references(), 0, "%zu references to inodes are left", fake_references());
    cr_expect_eq(fake.open, 0);
    fake_end();
}

TestSuite(implied_asked, .init = begin_kernel, .fini = end_kernel);

static int reply_of(uint64_t unique)
{
    cr_assert(wire_await(&wire, unique), "request %d is not answered", (int)unique);
    cr_assert_eq(wire.replies[unique / 2], 1);
    return wire.errors[unique / 2];
}

static uint64_t look_up(uint64_t unique, const char *name)
{
    struct fuse_entry_out entry;
    wire_lookup(&wire, unique, name);
    cr_assert_eq(reply_of(unique), 0);
    memcpy(&entry, wire.body, sizeof entry);
    return entry.nodeid;
}

/* A use ends after the reply. */
static bool await_open(size_t count)
{
    for (int i = 0; i < 20000; i++) {
        lock_take(&fake.lock);
        size_t open = fake.open;
        lock_drop(&fake.lock);
        if (open == count)
            return true;
        usleep(1000);
    }
    return false;
}

static int ask(uint32_t opcode, uint64_t unique, uint64_t node, const void *body, size_t length)
{
    wire_send(&wire, opcode, unique, node, body, length);
    return reply_of(unique);
}

Test(implied_asked, the_kernel_opens_and_reads_by_the_node_alone)
{
    struct fuse_open_in open_in = {.flags = O_RDONLY};
    struct fuse_flush_in flush_in = {0};
    struct fuse_read_in read_in = {.size = 4096};
    struct fuse_lseek_in seek_in = {.whence = SEEK_DATA};
    struct fuse_forget_in forget_in = {.nlookup = 1};
    uint64_t file = look_up(10, "file"), directory = look_up(12, "d");
    cr_expect_eq(ask(FUSE_OPEN, 20, file, &open_in, sizeof open_in), -ENOSYS);
    cr_expect_eq(ask(FUSE_OPENDIR, 22, directory, &open_in, sizeof open_in), -ENOSYS);
    cr_expect_eq(ask(FUSE_FLUSH, 24, file, &flush_in, sizeof flush_in), -ENOSYS);
    cr_expect_eq(fake.open, 0);
    cr_expect_eq(ask(FUSE_READ, 26, file, &read_in, sizeof read_in), 0);
    cr_expect_eq(wire.body_length, 4096);
    cr_expect_eq(ask(FUSE_LSEEK, 28, file, &seek_in, sizeof seek_in), 0);
    cr_expect_eq(fake.open, 1);
    cr_expect_eq(ask(FUSE_READ, 30, directory, &read_in, sizeof read_in), -EISDIR);
    cr_expect_eq(ask(FUSE_READDIR, 32, file, &read_in, sizeof read_in), -ENOTDIR);
    cr_expect_eq(ask(FUSE_READ, 34, 4711, &read_in, sizeof read_in), -ESTALE);
    wire_send(&wire, FUSE_FORGET, 36, file, &forget_in, sizeof forget_in);
    cr_expect(await_open(1), "only the directory's is left");
}

Test(implied_asked, a_listing_is_there_until_its_end_was_given)
{
    struct fuse_read_in in = {.size = 4000};
    uint64_t directory = look_up(10, "d"), unique = 20;
    do {
        cr_assert_eq(ask(FUSE_READDIR, unique, directory, &in, sizeof in), 0);
        cr_assert(await_open(wire.body_length > 0));
        in.offset += wire.body_length > 0; /* one by one, so that many pages are asked for */
        unique += 2;
    } while (wire.body_length > 0);
    cr_expect_eq(unique, 20 + 2 * (FAKE_LIST_COUNT + 3));
}

Test(implied_asked, who_changes_what_it_opened_so_is_refused)
{
    struct {
        struct fuse_write_in in;
        char byte;
    } write = {.in = {.size = 1}, .byte = 'x'};
    struct fuse_fallocate_in allocate = {.length = 1};
    uint64_t file = look_up(10, "file");
    cr_expect_eq(ask(FUSE_WRITE, 20, file, &write, sizeof write.in + 1), -EROFS);
    cr_expect_eq(ask(FUSE_FALLOCATE, 22, file, &allocate, sizeof allocate), -EROFS);
    cr_expect_eq(fake.open, 0);
}

Test(implied_asked, a_read_that_hangs_holds_its_handle_until_its_interrupt)
{
    struct fuse_read_in in = {.size = 4096, .offset = FAKE_SLOW_OFFSET};
    struct fuse_forget_in forget = {.nlookup = 1};
    uint64_t file = look_up(10, "file");
    wire_send(&wire, FUSE_READ, 20, file, &in, sizeof in);
    for (int i = 0; i < 20000 && fake_waiting() != 1; i++)
        usleep(1000);
    wire_send(&wire, FUSE_FORGET, 22, file, &forget, sizeof forget);
    look_up(24, "f1");
    cr_expect_eq(fake.open, 1);
    wire_interrupt(&wire, 20);
    cr_expect_eq(reply_of(20), -EINTR);
    cr_expect(await_open(0));
}

Test(implied_old, a_kernel_that_cannot_open_by_itself_gets_handles)
{
    struct fuse_open_in in = {.flags = O_RDONLY};
    struct fuse_release_in release = {0};
    struct fuse_open_out out;
    fake_begin();
    wire_begin_as(&wire, FUSE_ASYNC_READ, &immutable);
    uint64_t file = look_up(10, "file"), directory = look_up(12, "d");
    cr_expect_eq(ask(FUSE_OPEN, 20, file, &in, sizeof in), 0);
    memcpy(&out, wire.body, sizeof out);
    release.fh = out.fh;
    cr_expect_eq(ask(FUSE_RELEASE, 22, file, &release, sizeof release), 0);
    cr_expect_eq(ask(FUSE_OPENDIR, 24, directory, &in, sizeof in), 0);
    memcpy(&out, wire.body, sizeof out);
    cr_expect_eq(out.open_flags & FOPEN_CACHE_DIR, FOPEN_CACHE_DIR);
    end_kernel();
}

Test(implied_old, a_mount_that_may_change_is_asked_to_open)
{
    struct fuse_open_in in = {.flags = O_RDONLY};
    fake_begin();
    wire_begin(&wire, FUSE_ASYNC_READ | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT);
    cr_expect_eq(ask(FUSE_OPEN, 20, look_up(10, "file"), &in, sizeof in), 0);
    cr_expect_eq(ask(FUSE_OPENDIR, 24, look_up(12, "d"), &in, sizeof in), 0);
    end_kernel();
}
