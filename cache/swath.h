/* swath: all keys of a range as they stood at one moment: one page of a LIST without delimiter. It tells what a LIST with delimiter
 * "/" would have told then of each directory whose keys all lie in it.
 *
 *      after "p/a."    p/a/  p/a/1  p/a/b/2  p/c/3 ... p/x/8 | p/x/9         the page ends here: of p/x/ not all is told
 *                      '--- a, a/b, c ...: whole ---' '- x -'
 *
 * Owns: counted references; it is charged to SHARE_DEMAND until the last one goes. Threads: nothing of it changes after swath_new(), but
 * `used`, `vain` and `failed` (lock of names). swath_unref: hold no lock.
 */
#ifndef CACHE_SWATH_H
#define CACHE_SWATH_H

#include <stdatomic.h>

#include "base/memory.h"
#include "s3/store.h"

struct swath {
    atomic_int references;
    struct memory *memory;
    size_t charged;
    char *prefix, *after; /* what was asked: keys that begin so, and come behind `after` */
    int64_t asked_ms;
    int64_t asked_ns;  /* the wall clock then */
    int64_t until_ms;  /* it is of use */
    uint64_t sequence; /* of the touches that came before it (forest.h) */
    size_t whole;      /* directories that it tells all of, about */
    size_t used;       /* answers that it gave */
    size_t vain;       /* times that what it told was not enough */
    bool failed;       /* it was not worth its LIST (forest.c) */
    struct store_object *objects;
    size_t count;
    bool last; /* there is nothing behind it with that prefix */
};

/* Takes the objects of a LIST that was answered. NULL: they are not in order, or not what was asked for, or there is no memory, nor any
 * to be had without waiting for others; they stay the call's then. Hold no lock. */
struct swath *swath_new(struct memory *memory, struct store_call *list);
struct swath *swath_ref(struct swath *swath);
void swath_unref(struct swath *swath);

/* Its keys end before this one. */
bool swath_ends_before(const struct swath *swath, const char *key);
/* All keys of the directory "p/a/" lie in it, and there are some. */
bool swath_holds(const struct swath *swath, const char *key);
/* There would be, but there are none: a directory that stands, as far as is known, has gone meanwhile, or is in use and empty without a
 * marker; or the server lists in another order than ours, which this range did not show. Its own LIST tells. */
bool swath_lacks(const struct swath *swath, const char *key);
/* What a LIST of this prefix with delimiter "/" would have answered: objects and prefixes of the call, copies. */
void swath_answer(const struct swath *swath, struct store_call *call);
/* The first object of the directory "p/a/" (its marker, where it has one). NULL: there is none, or it may lie elsewhere. */
const struct store_object *swath_first(const struct swath *swath, const char *key);

#endif
