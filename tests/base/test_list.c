#include "base/list.h"

#include <criterion/criterion.h>

struct item {
    int number;
    struct list link;
};

static void check_numbers(struct list *list, const int *numbers, size_t count)
{
    size_t at = 0;
    list_for_each (link, list) {
        cr_assert_lt(at, count);
        cr_assert_eq(container_of(link, struct item, link)->number, numbers[at++]);
        cr_assert_eq(link->next->prev, link);
        cr_assert_eq(link->prev->next, link);
    }
    cr_assert_eq(at, count);
}

Test(list, keeps_the_order_of_appends_and_prepends)
{
    struct list list = LIST_INIT(list);
    struct item items[4] = {{1, {0}}, {2, {0}}, {3, {0}}, {4, {0}}};
    cr_assert(list_empty(&list));
    list_append(&list, &items[1].link);
    list_append(&list, &items[3].link);
    list_prepend(&list, &items[0].link);
    list_insert_after(&items[1].link, &items[2].link);
    check_numbers(&list, (int[]){1, 2, 3, 4}, 4);
}

Test(list, a_removed_element_may_be_removed_again)
{
    struct list list = LIST_INIT(list);
    struct item a = {1, {0}}, b = {2, {0}};
    list_append(&list, &a.link);
    list_append(&list, &b.link);
    list_remove(&a.link);
    list_remove(&a.link);
    cr_assert(list_empty(&a.link));
    check_numbers(&list, (int[]){2}, 1);
}

Test(list, pop_gives_the_first_and_null_at_the_end)
{
    struct list list = LIST_INIT(list);
    struct item a = {1, {0}}, b = {2, {0}};
    list_append(&list, &a.link);
    list_append(&list, &b.link);
    cr_assert_eq(list_pop(&list), &a.link);
    cr_assert_eq(list_pop(&list), &b.link);
    cr_assert_null(list_pop(&list));
}

Test(list, splice_moves_all_to_the_end)
{
    struct list to = LIST_INIT(to), from = LIST_INIT(from), none = LIST_INIT(none);
    struct item items[4] = {{1, {0}}, {2, {0}}, {3, {0}}, {4, {0}}};
    list_splice(&to, &none);
    cr_assert(list_empty(&to));
    list_append(&from, &items[2].link);
    list_append(&from, &items[3].link);
    list_append(&to, &items[0].link);
    list_append(&to, &items[1].link);
    list_splice(&to, &from);
    check_numbers(&to, (int[]){1, 2, 3, 4}, 4);
    cr_assert(list_empty(&from));
}

Test(list, the_safe_walk_may_remove_what_it_stands_on)
{
    struct list list = LIST_INIT(list);
    struct item items[3] = {{1, {0}}, {2, {0}}, {3, {0}}};
    for (int i = 0; i < 3; i++)
        list_append(&list, &items[i].link);
    list_for_each_safe (at, after, &list) {
        if (container_of(at, struct item, link)->number != 2)
            list_remove(at);
    }
    check_numbers(&list, (int[]){2}, 1);
}
