#include "cache/asking.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static struct asking *find_locked(const struct names *names, const struct inode *parent, const char *name)
{
    list_for_each (at, &names->asking) {
        struct asking *asking = container_of(at, struct asking, link);
        if (asking->parent == parent && strcmp(asking->name, name) == 0)
            return asking;
    }
    return NULL;
}

bool asking_taken_locked(const struct names *names, const struct inode *parent, const char *name)
{
    return find_locked(names, parent, name) != NULL;
}

bool asking_changing_locked(const struct names *names, const struct inode *parent, const char *name)
{
    const struct asking *asking = find_locked(names, parent, name);
    return asking && !asking->lookup;
}

static bool moving_above_locked(const struct inode *directory)
{
    for (; directory; directory = directory->parent)
        if (directory->moving)
            return true;
    return false;
}

/* A key that is being deleted behind, at or below this name. */
static bool deleting_locked(const struct names *names, const struct asking_place *place)
{
    BUF_SCOPED key = BUF_INIT;

    if (list_empty(&names->deleting) || !*place->name ||
        names_child_key_locked(place->parent, place->name, &key) < 0)
        return false;
    list_for_each (at, &names->deleting) {
        const char *other = container_of(at, struct names_deleting, link)->key;
        if (strncmp(other, key.bytes, key.length) == 0 &&
            (other[key.length] == '\0' || other[key.length] == '/'))
            return true;
    }
    return false;
}

static bool place_free_locked(const struct names *names, const struct asking_place *place)
{
    return !find_locked(names, place->parent, place->name) && !moving_above_locked(place->parent) &&
           (place->behind || !deleting_locked(names, place));
}

static struct asking *make(struct names *names, const struct asking_place *place)
{
    struct asking *asking = xcalloc(1, sizeof(*asking));
    asking->parent = inode_ref(place->parent);
    asking->name = xstrdup(place->name);
    asking->references = 1;
    list_append(&names->asking, &asking->link);
    return asking;
}

int asking_take_locked(struct names *names, const struct asking_place *places, size_t count,
                       struct waiter *waiter, struct asking **ret_asking)
{
    for (;;) {
        bool all = true;
        for (size_t i = 0; i < count; i++) {
            if (places[i].parent != names->root && !places[i].parent->parent)
                return -ENOENT;
            all = all && place_free_locked(names, &places[i]);
        }
        if (all)
            break;
        if (!waiter)
            return -EAGAIN;
        int rc = gate_wait_locked(&names->turn, &names->lock, waiter, CLOCK_NEVER);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < count; i++)
        ret_asking[i] = make(names, &places[i]);
    return 0;
}

int asking_take_one_locked(struct names *names, struct inode *parent, const char *name, struct waiter *waiter,
                           struct asking **ret_asking)
{
    struct asking_place place = {parent, name, false};
    return asking_take_locked(names, &place, 1, waiter, ret_asking);
}

struct asking *asking_find_lookup_locked(struct names *names, const struct inode *parent, const char *name)
{
    struct asking *asking = find_locked(names, parent, name);
    return asking && asking->lookup ? asking : NULL;
}

static void unref_locked(struct asking *asking, struct aftermath *aftermath)
{
    assert(asking->references > 0);
    if (--asking->references > 0)
        return;
    aftermath_unref(aftermath, asking->parent);
    aftermath_unref(aftermath, asking->found);
    free(asking->name);
    free(asking);
}

int asking_join_locked(struct names *names, struct asking *asking, struct waiter *waiter,
                       struct aftermath *aftermath, struct inode **ret_found)
{
    int rc = 0;

    if (!waiter)
        return -EAGAIN;
    asking->references++;
    /* Dropped without an answer: its owner was interrupted; the caller asks anew. */
    while (rc == 0 && !asking->answered && !list_empty(&asking->link))
        rc = gate_wait_locked(&names->turn, &names->lock, waiter, CLOCK_NEVER);
    if (rc == 0)
        rc = asking->answered ? asking->rc : -EAGAIN;
    if (rc == 0)
        *ret_found = inode_ref(asking->found);
    unref_locked(asking, aftermath);
    return rc;
}

void asking_answer_locked(struct asking *asking, int rc, struct inode *found)
{
    assert(!asking->answered && (rc < 0) == !found);
    asking->answered = true;
    asking->rc = rc;
    asking->found = found ? inode_ref(found) : NULL;
}

void asking_drop_locked(struct names *names, struct asking *asking, struct aftermath *aftermath)
{
    if (!asking)
        return;
    list_remove(&asking->link);
    gate_open(&names->turn);
    unref_locked(asking, aftermath);
}

int asking_take_own_locked(struct names *names, const struct inode *inode, struct waiter *waiter,
                           struct aftermath *aftermath, struct asking **ret_asking)
{
    while (inode->parent) {
        struct inode *parent = inode_ref(inode->parent);
        STRING_SCOPED *name = xstrdup(inode->name);
        int rc = asking_take_one_locked(names, parent, name, waiter, ret_asking);
        aftermath_unref(aftermath, parent);
        if (rc < 0)
            return rc;
        if (inode->parent == parent && strcmp(inode->name, name) == 0)
            return 0;
        asking_drop_locked(names, *ret_asking, aftermath);
        *ret_asking = NULL;
    }
    return -ENOENT;
}

static bool works_below_locked(const struct names *names, const struct inode *directory,
                               struct asking *const *own, size_t own_count)
{
    list_for_each (at, &names->asking) {
        struct asking *asking = container_of(at, struct asking, link);
        bool mine = false;
        for (size_t i = 0; i < own_count; i++)
            mine = mine || own[i] == asking;
        if (!mine && names_below_locked(asking->parent, directory))
            return true;
    }
    return false;
}

bool asking_below_locked(const struct names *names, const struct inode *directory)
{
    return works_below_locked(names, directory, NULL, 0);
}

int asking_wait_below_locked(struct names *names, const struct inode *directory, struct asking *const *own,
                             size_t own_count, struct waiter *waiter)
{
    int rc = 0;

    assert(directory->moving);
    while (rc == 0 && works_below_locked(names, directory, own, own_count))
        rc = gate_wait_locked(&names->turn, &names->lock, waiter, CLOCK_NEVER);
    return rc;
}
