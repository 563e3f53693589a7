/* walks: a tree of many small directories, and who walks it, alone or beside others.
 *
 *      p/d000/f0 p/d000/f1 ...   p/d001/f0 ...   put as another client does
 */
#ifndef TESTS_SUPPORT_WALKS_H
#define TESTS_SUPPORT_WALKS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "tests/support/tree.h"

/* Of a room whose server lists with metadata, or without. */
struct room_config walks_config(bool list_meta);
void walks_plant(struct room *room, int directories, int files);
/* Sent so far. */
size_t walks_lists(struct room *room);
size_t walks_heads(struct room *room);

/* Lists the directories from `first` on in a thread of its own: each has to hold "f0 f1 f2 ". */
struct walker {
    struct room room; /* with a waiter of its own */
    int first, end;
    pthread_t thread;
    bool right;
    atomic_bool done;
};
void walker_start(struct walker *walker, struct room *room, int first, int end);
/* Of a struct walker; for room_await(). */
bool walker_is_done(void *context);

/* For tests with criterion. */
#define assert_directory(room, number, expected)                                                             \
    do {                                                                                                     \
        char directory_now[16];                                                                              \
        snprintf(directory_now, sizeof directory_now, "d%03d", number);                                      \
        assert_list(room, directory_now, true, expected);                                                    \
    } while (0)
/* As find: all names of the root, then those of the directories from `first` on. */
#define assert_walk(room, first, end, expected)                                                              \
    do {                                                                                                     \
        BUF_SCOPED root_now = BUF_INIT;                                                                      \
        cr_assert_eq(tree_list(room, "", true, &root_now), 0);                                               \
        for (int at_now = first; at_now < (end); at_now++)                                                   \
            assert_directory(room, at_now, expected);                                                        \
    } while (0)

#endif
