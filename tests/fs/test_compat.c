#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>

#include "fake_cache.h"
#include "wire.h"

static struct wire wire;

static uint32_t negotiate(uint32_t offered, struct fuse_init_out *ret_out)
{
    fake_begin();
    wire_begin(&wire, offered);
    cr_assert_eq(wire.body_length, sizeof *ret_out);
    memcpy(ret_out, wire.body, sizeof *ret_out);
    wire_end(&wire);
    return ret_out->flags;
}

#define ALL 0x7fffffffu /* all bits that a kernel may offer without INIT_RESERVED */

Test(compat, parallel_lookups_are_asked_for_where_the_kernel_has_them)
{
    struct fuse_init_out out;
    cr_expect(negotiate(ALL & ~FUSE_INIT_EXT, &out) & FUSE_PARALLEL_DIROPS);
}

Test(compat, what_the_kernel_does_not_offer_is_not_asked_for)
{
    struct fuse_init_out out;
    uint32_t offered = FUSE_ASYNC_READ | FUSE_MAX_PAGES;
    cr_expect_eq(negotiate(offered, &out) & ~(offered | FUSE_BIG_WRITES), 0);
}

Test(compat, requests_are_of_one_mebibyte_and_many_at_a_time)
{
    struct fuse_init_out out;
    uint32_t flags = negotiate(ALL, &out);
    cr_expect_eq(out.max_write, 1 << 20);
    cr_expect_eq(out.max_pages, 256);
    cr_expect_geq(out.max_background, 64);
    cr_expect_eq(out.congestion_threshold, out.max_background * 3 / 4);
    cr_expect_eq(out.time_gran, 1);
    cr_expect_eq(out.max_readahead, 1 << 17);
    cr_expect(flags & FUSE_ASYNC_READ);
    cr_expect(flags & FUSE_ATOMIC_O_TRUNC);
    cr_expect(flags & FUSE_CACHE_SYMLINKS);
    cr_expect(flags & FUSE_DO_READDIRPLUS);
    cr_expect_not(flags & FUSE_READDIRPLUS_AUTO);
}

Test(compat, pages_are_dropped_only_when_we_say_so)
{
    struct fuse_init_out out;
    uint32_t flags = negotiate(ALL, &out);
    cr_expect(flags & FUSE_EXPLICIT_INVAL_DATA);
    cr_expect_not(flags & FUSE_AUTO_INVAL_DATA);
}

Test(compat, the_kernel_keeps_what_we_do_not_do)
{
    struct fuse_init_out out;
    uint32_t flags = negotiate(ALL, &out);
    cr_expect_not(flags & FUSE_WRITEBACK_CACHE);
    cr_expect_not(flags & FUSE_HANDLE_KILLPRIV);
    cr_expect_not(flags & FUSE_POSIX_LOCKS);
    cr_expect_not(flags & FUSE_FLOCK_LOCKS);
    cr_expect_not(flags & FUSE_DONT_MASK);
}

Test(compat, a_connection_that_ends_under_a_request_ends_as_any_other)
{
    cr_assert_eq(compat_read_error(ECONNABORTED), ENODEV);
    cr_assert_eq(compat_read_error(ENODEV), ENODEV);
    cr_assert_eq(compat_read_error(EINTR), EINTR);
    cr_assert_eq(compat_patch(UINT64_MAX, 0) & ((uint64_t)1 << 21), 0, "FUSE_ABORT_ERROR");
}

Test(compat, high_flags_go_with_their_announcement)
{
    uint64_t high = UINT64_C(1) << 37;
    cr_expect_eq(compat_patch(UINT64_MAX, high) & FUSE_INIT_EXT, FUSE_INIT_EXT);
    cr_expect_eq(compat_patch(UINT32_MAX, high) >> 32, 0);
}

/* ---- What libfuse does not tell of a message. ---- */

static void begin(uint32_t offered)
{
    fake_begin();
    wire_begin(&wire, offered);
}

static void end(void)
{
    wire_end(&wire);
    fake_end();
}

static void ask(uint32_t opcode, uint64_t unique, uint64_t node, const void *body, size_t length)
{
    wire_send(&wire, opcode, unique, node, body, length);
    cr_assert(wire_await(&wire, unique));
    cr_assert_eq(wire.errors[unique / 2], 0, "%u: %d", opcode, wire.errors[unique / 2]);
}

static uint64_t look_up(uint64_t unique)
{
    struct fuse_entry_out entry;
    wire_lookup(&wire, unique, "file");
    cr_assert(wire_await(&wire, unique));
    memcpy(&entry, wire.body, sizeof entry);
    return entry.nodeid;
}

static uint64_t open_file(uint64_t unique, uint64_t node, uint32_t flags, uint32_t open_flags)
{
    struct fuse_open_in in = {.flags = flags, .open_flags = open_flags};
    struct fuse_open_out out;
    ask(FUSE_OPEN, unique, node, &in, sizeof in);
    memcpy(&out, wire.body, sizeof out);
    return out.fh;
}

static void write_file(uint64_t unique, uint64_t node, uint64_t fh, uint32_t write_flags)
{
    char body[sizeof(struct fuse_write_in) + 4] = {0};
    struct fuse_write_in in = {.fh = fh, .size = 4, .write_flags = write_flags};
    memcpy(body, &in, sizeof in);
    ask(FUSE_WRITE, unique, node, body, sizeof body);
}

static unsigned set_attributes(uint64_t unique, uint64_t node, uint32_t valid)
{
    struct fuse_setattr_in in = {.valid = valid, .mode = S_IFREG | 0644, .uid = 1, .gid = 1};
    ask(FUSE_SETATTR, unique, node, &in, sizeof in);
    return fake.setattr_mask & SET_CLEAR_SETID;
}

Test(compat, who_may_not_keep_setuid_takes_it_from_the_file)
{
    begin(FUSE_HANDLE_KILLPRIV_V2 | FUSE_ATOMIC_O_TRUNC);
    uint64_t node = look_up(10), fh = open_file(12, node, O_RDWR, 0);
    write_file(14, node, fh, 0);
    cr_expect_eq(fake.setid_cleared, 0);
    write_file(16, node, fh, FUSE_WRITE_KILL_SUIDGID);
    cr_expect_eq(fake.setid_cleared, 1);
    write_file(18, node, fh, 0);
    open_file(20, node, O_RDWR | O_TRUNC, FUSE_OPEN_KILL_SUIDGID);
    cr_expect_eq(fake.setid_cleared, 2);
    cr_expect_not(set_attributes(22, node, FATTR_SIZE));
    cr_expect(set_attributes(24, node, FATTR_SIZE | FATTR_KILL_SUIDGID));
    cr_expect(set_attributes(26, node, FATTR_UID));
    cr_expect(set_attributes(28, node, FATTR_GID));
    cr_expect_not(set_attributes(30, node, FATTR_GID | FATTR_MODE));
    cr_expect_not(set_attributes(32, node, FATTR_MTIME));
    end();
}

Test(compat, a_kernel_that_does_it_itself_is_left_to_it)
{
    begin(FUSE_ATOMIC_O_TRUNC);
    uint64_t node = look_up(10), fh = open_file(12, node, O_RDWR, 0);
    write_file(14, node, fh, FUSE_WRITE_KILL_SUIDGID);
    cr_expect_eq(fake.setid_cleared, 0);
    cr_expect_not(set_attributes(16, node, FATTR_UID));
    end();
}

/* Else the kernel asks for security.capability at each write. */
Test(compat, setid_bits_are_cleared_here_where_the_kernel_leaves_it_to_us)
{
    struct fuse_init_out out;
    cr_expect(negotiate(ALL, &out) & FUSE_HANDLE_KILLPRIV_V2);
    cr_expect_not(negotiate(ALL & ~FUSE_HANDLE_KILLPRIV_V2, &out) & FUSE_HANDLE_KILLPRIV_V2);
}
