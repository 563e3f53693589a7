#include <criterion/criterion.h>

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
    cr_expect_not(flags & FUSE_HANDLE_KILLPRIV_V2);
    cr_expect_not(flags & FUSE_POSIX_LOCKS);
    cr_expect_not(flags & FUSE_FLOCK_LOCKS);
    cr_expect_not(flags & FUSE_DONT_MASK);
}

Test(compat, high_flags_go_with_their_announcement)
{
    uint64_t high = UINT64_C(1) << 37;
    cr_expect_eq(compat_patch(UINT64_MAX, high) & FUSE_INIT_EXT, FUSE_INIT_EXT);
    cr_expect_eq(compat_patch(UINT32_MAX, high) >> 32, 0);
}
