#include <criterion/criterion.h>

#include "fake_cache.h"
#include "fs/libfuse.h"
#include "fs/node.h"

static struct nodes nodes;

static void begin(void)
{
    fake_begin();
    nodes_init(&nodes);
    struct inode *root = cache_root(NULL);
    nodes_set_root(&nodes, &root);
}

static void end(void)
{
    nodes_release(&nodes);
    cr_expect_eq(fake_references(), 0);
    fake_end();
}

TestSuite(node, .init = begin, .fini = end);

static uint64_t add(const char *name)
{
    struct entry entry = {0};
    cr_assert_eq(cache_lookup(NULL, NULL, NULL, name, &entry), 0);
    nodes_add(&nodes, &entry);
    cr_expect_null(entry.inode);
    return entry.id;
}

Test(node, an_inode_is_held_as_long_as_the_kernel_counts_it)
{
    uint64_t id = add("f1");
    cr_expect_eq(add("f1"), id);
    cr_expect_eq(fake_references(), 2);
    nodes_forget(&nodes, id, 1);
    cr_expect(nodes_known(&nodes, id));
    nodes_forget(&nodes, id, 1);
    cr_expect_not(nodes_known(&nodes, id));
    cr_expect_eq(fake_references(), 1);
}

Test(node, what_was_found_is_a_reference_of_its_own)
{
    uint64_t id = add("f1");
    struct inode *inode = nodes_find(&nodes, id);
    nodes_forget(&nodes, id, 1);
    cr_expect_eq(inode_id(inode), id);
    inode_unref(inode);
    cr_expect_null(nodes_find(&nodes, id));
}

Test(node, the_root_is_known_whatever_is_forgotten)
{
    nodes_forget(&nodes, FUSE_ROOT_ID, 100);
    struct inode *root = nodes_find(&nodes, FUSE_ROOT_ID);
    cr_assert_not_null(root);
    inode_unref(root);
}

Test(node, forgetting_more_than_was_told_does_no_harm)
{
    uint64_t other = add("f2");
    nodes_forget(&nodes, add("f1"), 5);
    nodes_forget(&nodes, 4711, 1);
    cr_expect_eq(nodes_count(&nodes), 1);
    cr_expect(nodes_known(&nodes, other));
    cr_expect_eq(nodes.lookups, 1);
}
