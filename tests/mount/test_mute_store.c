#include <criterion/criterion.h>
#include <errno.h>

#include "mount/mute_store.h"
#include "tests/support/memory_store.h"

static int run(struct store *store, enum store_op op)
{
    WAITER_SCOPED(waiter);
    char body[] = "new", room[4];
    struct iovec from = {body, 3}, into = {room, 3};
    const char *keys[] = {"k"};
    struct store_part part = {.number = 1, .size = 3, .etag = "\"e\""};
    struct store_call call = {.op = op,
                              .key = "k",
                              .source_key = "k",
                              .upload_id = "u",
                              .part_number = 1,
                              .length = 3,
                              .prefix = "",
                              .keys = keys,
                              .key_count = 1,
                              .parts = &part,
                              .part_count = 1};
    call.from = op == STORE_PUT || op == STORE_PART ? &from : NULL;
    call.from_count = call.from ? 1 : 0;
    call.into = op == STORE_GET ? &into : NULL;
    call.into_count = call.into ? 1 : 0;
    int rc = store_wait(store, &call, &waiter);
    cr_assert_not(call.unknown);
    store_call_release(&call);
    return rc;
}

Test(mute_store, what_reads_passes_and_what_writes_fails_and_is_not_even_sent)
{
    struct memory_store *memory = memory_store_new(NULL);
    struct store *below = memory_store_door(memory);
    struct store *mute = mute_store_new(&below);
    WAITER_SCOPED(waiter);
    cr_assert_null(below);
    memory_store_put_text(memory, "k", "old");
    for (int op = STORE_GET; op <= STORE_LIST_UPLOADS; op++) {
        bool reads = op == STORE_GET || op == STORE_HEAD || op == STORE_GET_TAGS || op == STORE_LIST ||
                     op == STORE_LIST_PARTS || op == STORE_LIST_UPLOADS;
        size_t before = memory_store_log_count(memory);
        int rc = run(mute, (enum store_op)op);
        cr_assert(reads ? rc != -EIO : rc == -EIO, "%s: %d", store_op_name((enum store_op)op), rc);
        cr_assert_eq(memory_store_log_count(memory) - before, reads ? 1 : 0, "%s",
                     store_op_name((enum store_op)op));
    }
    cr_assert_eq(store_probe(mute, "", &waiter), -EAGAIN);
    BUF_SCOPED keys = BUF_INIT;
    memory_store_keys(memory, &keys);
    cr_assert_str_eq(keys.bytes, "k\n");
    store_free(mute);
}
