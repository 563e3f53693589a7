#include "tests/support/walks.h"

#include <string.h>

struct room_config walks_config(bool list_meta)
{
    return (struct room_config){.bucket = {.list_meta = list_meta}};
}

void walks_plant(struct room *room, int directories, int files)
{
    char key[64];

    for (int i = 0; i < directories; i++)
        for (int j = 0; j < files; j++) {
            snprintf(key, sizeof key, "p/d%03d/f%d", i, j);
            tree_put(room, key, "x", NULL);
        }
}

size_t walks_lists(struct room *room)
{
    return memory_store_logged(room->bucket, STORE_LIST, NULL);
}

size_t walks_heads(struct room *room)
{
    return memory_store_logged(room->bucket, STORE_HEAD, NULL);
}

static void *walk(void *context)
{
    struct walker *walker = context;
    char path[16];

    waiter_init(&walker->room.waiter);
    walker->right = true;
    for (int i = walker->first; i < walker->end; i++) {
        BUF_SCOPED list = BUF_INIT;
        snprintf(path, sizeof path, "d%03d", i);
        walker->right = tree_list(&walker->room, path, true, &list) == 0 &&
                        strcmp(list.bytes, "f0 f1 f2 ") == 0 && walker->right;
    }
    waiter_release(&walker->room.waiter);
    atomic_store(&walker->done, true);
    return NULL;
}

void walker_start(struct walker *walker, struct room *room, int first, int end)
{
    *walker = (struct walker){.room = *room, .first = first, .end = end};
    atomic_init(&walker->done, false);
    pthread_create(&walker->thread, NULL, walk, walker);
}

bool walker_is_done(void *context)
{
    struct walker *walker = context;
    return atomic_load(&walker->done);
}
