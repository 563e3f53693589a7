#include "cache/tape.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "tests/support/fault_disk.h"
#include "tests/support/power_disk.h"

/* Whether a record of this type is still written when so much is left of a full disk: a write that is tried, and fails, cuts off
 * the room. */
static bool may_take(enum record_type type, uint64_t left)
{
    struct power_disk *power = power_disk_new();
    struct fault_disk faulty;
    struct tape tape;
    fault_disk_init(&faulty, power_disk_disk(power));
    cr_assert_eq(tape_begin(&tape, &faulty.disk, "journal", "source", 1, "boot"), 0);
    tape.room = tape.end + left;
    atomic_store(&faulty.full, true);
    struct record record = {.type = type, .id = 1};
    cr_assert_lt(tape_append(&tape, &record), 0);
    bool tried = tape.room == tape.end;
    tape_release(&tape);
    power_disk_free(power);
    return tried;
}

Test(tape, what_users_do_leaves_the_reserve_to_what_frees_space_and_that_the_last_of_it_to_marks)
{
    for (enum record_type type = RECORD_NODE; type < RECORD_TYPE_END; type++) {
        bool frees = type == RECORD_REMOTE || type == RECORD_RESTATED || type == RECORD_PART ||
                     type == RECORD_UPLOAD_END || type == RECORD_TRYING || type == RECORD_FORGET;
        cr_expect_eq(may_take(type, TAPE_RESERVE), frees, "%s", record_type_name(type));
        cr_expect_not(may_take(type, TAPE_LAST), "%s", record_type_name(type));
    }
    cr_expect(may_take(RECORD_MARK, TAPE_LAST));
}
