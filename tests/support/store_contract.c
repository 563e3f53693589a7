/* The table of cases and the frame in which one runs. */
#include "tests/support/store_contract.h"

#include <assert.h>

#include "base/err.h"
#include "tests/support/contract_hands.h"

#define REMOVE_ROUNDS_MAX 20

static const struct contract_case *const tables[] = {contract_objects, contract_listings, contract_parts,
                                                     contract_calls};
#define TABLE_COUNT (sizeof(tables) / sizeof(*tables))

static const struct contract_case *find_case(size_t index)
{
    for (size_t table = 0; table < TABLE_COUNT; table++)
        for (const struct contract_case *at = tables[table]; at->name; at++)
            if (index-- == 0)
                return at;
    return NULL;
}

size_t store_contract_count(void)
{
    size_t count = 0;
    while (find_case(count))
        count++;
    return count;
}

const char *store_contract_name(size_t index)
{
    const struct contract_case *found = find_case(index);
    assert(found);
    return found->name;
}

/* Objects of an earlier run must not be taken for those of this one. */
static void empty_folder(struct contract *contract)
{
    for (int round = 0; round < REMOVE_ROUNDS_MAX; round++) {
        CALL_SCOPED list = {.op = STORE_LIST, .prefix = contract->folder};
        contract_call(contract, &list);
        CLAIM_RC(contract, &list, 0);
        for (size_t i = 0; i < list.object_count; i++) {
            CALL_SCOPED remove = {.op = STORE_DELETE, .key = list.objects[i].key};
            contract_call(contract, &remove);
            CLAIM_RC(contract, &remove, 0);
        }
        if (!list.next_token)
            return;
    }
}

bool store_contract_run(size_t index, const struct store_contract *setup, struct buf *why)
{
    const struct contract_case *found = find_case(index);
    assert(found);
    STRING_SCOPED *folder = xprintf("%s%s/", setup->prefix, found->name);
    struct contract contract = {.setup = setup, .store = setup->store, .folder = folder, .why = why};
    waiter_init(&contract.waiter);
    empty_folder(&contract);
    if (!contract.failed)
        found->run(&contract);
    bool passed = !contract.failed;
    contract.failed = false;
    empty_folder(&contract);
    if (passed && contract.failed)
        buf_add_string(why, " (while cleaning up)");
    waiter_release(&contract.waiter);
    return passed && !contract.failed;
}
