#include "base/lock.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef SKYVOL_LOCK_ORDER

#define HELD_MAX 16

/* The locks of this thread, in the order taken. */
static _Thread_local struct {
    const struct lock *locks[HELD_MAX];
    int count;
} held;

static _Noreturn void refuse(const char *what, const struct lock *lock, const struct lock *other)
{
    fprintf(stderr, "skyvol: lock order: %s \"%s\" (rank %d) while \"%s\" (rank %d) is held\n", what,
            lock->name, (int)lock->rank, other->name, (int)other->rank);
    abort();
}

static void check_order(const struct lock *lock)
{
    for (int i = 0; i < held.count; i++) {
        const struct lock *other = held.locks[i];
        if (other == lock)
            refuse("taking again", lock, other);
        bool inodes = lock->rank == LOCK_INODE && other->rank == LOCK_INODE;
        if (other->rank > lock->rank || (other->rank == lock->rank && !inodes) ||
            (inodes && (uintptr_t)other > (uintptr_t)lock))
            refuse("taking", lock, other);
    }
}

static void note_taken(const struct lock *lock)
{
    assert(held.count < HELD_MAX);
    held.locks[held.count++] = lock;
}

static void note_dropped(const struct lock *lock)
{
    int at = held.count;
    while (at > 0 && held.locks[at - 1] != lock)
        at--;
    if (at == 0) {
        fprintf(stderr, "skyvol: lock order: dropping \"%s\", which this thread does not hold\n", lock->name);
        abort();
    }
    for (; at < held.count; at++)
        held.locks[at - 1] = held.locks[at];
    held.count--;
}

bool lock_held(const struct lock *lock)
{
    for (int i = 0; i < held.count; i++)
        if (held.locks[i] == lock)
            return true;
    return false;
}

void lock_assert_none(void)
{
    if (held.count == 0)
        return;
    fprintf(stderr, "skyvol: lock order: \"%s\" is held where no lock may be\n", held.locks[0]->name);
    abort();
}

#else

static void check_order(const struct lock *lock)
{
    (void)lock;
}

static void note_taken(const struct lock *lock)
{
    (void)lock;
}

static void note_dropped(const struct lock *lock)
{
    (void)lock;
}

bool lock_held(const struct lock *lock)
{
    (void)lock;
    return true;
}

void lock_assert_none(void) {}

#endif

void lock_init(struct lock *lock, enum lock_rank rank, const char *name)
{
    assert(rank >= LOCK_NAMES && rank <= LOCK_LEAF);
    int rc = pthread_mutex_init(&lock->mutex, NULL);
    assert(rc == 0);
    (void)rc;
    lock->rank = rank;
    lock->name = name;
}

void lock_release(struct lock *lock)
{
    int rc = pthread_mutex_destroy(&lock->mutex);
    assert(rc == 0); /* else somebody holds it */
    (void)rc;
}

void lock_take(struct lock *lock)
{
    check_order(lock); /* before the mutex: a cycle must abort, not hang */
    int rc = pthread_mutex_lock(&lock->mutex);
    assert(rc == 0);
    (void)rc;
    note_taken(lock);
}

void lock_drop(struct lock *lock)
{
    note_dropped(lock);
    int rc = pthread_mutex_unlock(&lock->mutex);
    assert(rc == 0);
    (void)rc;
}

void lock_drop_cleanup(struct lock **lock)
{
    lock_drop(*lock);
}
