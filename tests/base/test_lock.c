#include "base/lock.h"

#include <criterion/criterion.h>
#include <signal.h>

/* Without the check (release builds) a wrong order only risks a deadlock, so these end as the check would. */
static void expect_refusal(void)
{
#ifndef SKYVOL_LOCK_ORDER
    raise(SIGABRT);
#endif
}

static struct lock names, inode_a, inode_b, blocks, leaf, other_leaf;

static void begin(void)
{
    lock_init(&names, LOCK_NAMES, "names");
    lock_init(&inode_a, LOCK_INODE, "inode a");
    lock_init(&inode_b, LOCK_INODE, "inode b");
    lock_init(&blocks, LOCK_BLOCKS, "blocks");
    lock_init(&leaf, LOCK_LEAF, "leaf");
    lock_init(&other_leaf, LOCK_LEAF, "other leaf");
}

TestSuite(lock, .init = begin);

Test(lock, the_order_downwards_is_free)
{
    struct lock *first = &inode_a < &inode_b ? &inode_a : &inode_b;
    struct lock *second = first == &inode_a ? &inode_b : &inode_a;
    lock_take(&names);
    lock_take(first);
    lock_take(second);
    lock_take(&leaf);
    cr_assert(lock_held(&names) && lock_held(&leaf));
    lock_drop(&names); /* in any order */
    lock_drop(&leaf);
    lock_drop(first);
    lock_take(&blocks);
    lock_drop(&blocks);
    lock_drop(second);
    lock_assert_none();
}

Test(lock, scoped_ends_with_the_block)
{
    {
        LOCK_SCOPED(&names);
        LOCK_SCOPED(&leaf);
        cr_assert(lock_held(&names));
    }
    lock_assert_none();
    lock_take(&names);
    lock_drop(&names);
}

Test(lock, going_up_aborts, .signal = SIGABRT)
{
    lock_take(&blocks);
    lock_take(&names);
    expect_refusal();
}

Test(lock, two_of_one_rank_abort, .signal = SIGABRT)
{
    lock_take(&leaf);
    lock_take(&other_leaf);
    expect_refusal();
}

Test(lock, two_inodes_against_their_addresses_abort, .signal = SIGABRT)
{
    struct lock *first = &inode_a < &inode_b ? &inode_a : &inode_b;
    lock_take(first == &inode_a ? &inode_b : &inode_a);
    lock_take(first);
    expect_refusal();
}

Test(lock, taking_twice_aborts_and_does_not_hang, .signal = SIGABRT)
{
#ifdef SKYVOL_LOCK_ORDER
    lock_take(&names);
    lock_take(&names);
#endif
    expect_refusal();
}

Test(lock, dropping_what_is_not_held_aborts, .signal = SIGABRT)
{
#ifdef SKYVOL_LOCK_ORDER
    lock_drop(&names);
#endif
    expect_refusal();
}

Test(lock, a_callback_under_a_lock_aborts, .signal = SIGABRT)
{
    lock_take(&leaf);
    lock_assert_none();
    expect_refusal();
}
