#include <criterion/criterion.h>

#include "fake_cache.h"
#include "wire.h"

static struct wire wire;
static uint64_t node;

static void begin(void)
{
    struct fuse_entry_out entry;
    fake_begin();
    wire_begin(&wire, FUSE_ASYNC_READ);
    wire_lookup(&wire, 4, "file");
    cr_assert(wire_await(&wire, 4));
    memcpy(&entry, wire.body, sizeof entry);
    node = entry.nodeid;
}

static void end(void)
{
    wire_end(&wire);
    cr_expect_eq(fake_references(), 0, "%zu references to inodes are left", fake_references());
    fake_end();
}

TestSuite(operations_xattrs, .init = begin, .fini = end);

static int ask(uint32_t opcode, const void *body, size_t length)
{
    static uint64_t unique = 10;
    unique += 2;
    wire_send(&wire, opcode, unique, node, body, length);
    cr_assert(wire_await(&wire, unique));
    cr_assert_eq(wire.replies[unique / 2], 1);
    return wire.errors[unique / 2];
}

static int get(const char *name, uint32_t size)
{
    char body[300] = {0};
    struct fuse_getxattr_in in = {.size = size};
    memcpy(body, &in, sizeof in);
    memcpy(body + sizeof in, name, strlen(name) + 1);
    return ask(FUSE_GETXATTR, body, sizeof in + strlen(name) + 1);
}

static int list(uint32_t size)
{
    struct fuse_getxattr_in in = {.size = size};
    return ask(FUSE_LISTXATTR, &in, sizeof in);
}

static uint32_t needed(void)
{
    struct fuse_getxattr_out out;
    cr_assert_eq(wire.body_length, sizeof out);
    memcpy(&out, wire.body, sizeof out);
    return out.size;
}

Test(operations_xattrs, without_room_their_size_is_told_and_with_too_little_nothing)
{
    cr_assert_eq(get("user.name", 0), 0);
    cr_expect_eq(needed(), 9);
    cr_expect_eq(get("user.name", 8), -ERANGE);
    cr_assert_eq(get("user.name", 9), 0);
    cr_expect(wire.body_length == 9 && memcmp(wire.body, "user.name", 9) == 0);
    cr_assert_eq(list(0), 0);
    cr_expect_eq(needed(), 7);
    cr_expect_eq(list(6), -ERANGE);
    cr_assert_eq(list(100), 0);
    cr_expect(wire.body_length == 7 && memcmp(wire.body, "user.a", 7) == 0);
}

Test(operations_xattrs, a_set_that_waits_has_its_bytes_and_flags)
{
    char body[sizeof(struct fuse_setxattr_in) + 10] = {0};
    struct fuse_setxattr_in in = {.size = 3, .flags = 2};
    memcpy(body, &in, FUSE_COMPAT_SETXATTR_IN_SIZE);
    memcpy(body + FUSE_COMPAT_SETXATTR_IN_SIZE, "user.a\0001\0002", 10);
    cr_expect_eq(ask(FUSE_SETXATTR, body, FUSE_COMPAT_SETXATTR_IN_SIZE + 10), 0);
    in.flags = 1;
    memcpy(body, &in, FUSE_COMPAT_SETXATTR_IN_SIZE);
    cr_expect_eq(ask(FUSE_SETXATTR, body, FUSE_COMPAT_SETXATTR_IN_SIZE + 10), -EINVAL);
    cr_expect_eq(ask(FUSE_REMOVEXATTR, "user.a", 7), -ENODATA);
}
