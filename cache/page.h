/* page: one LIST of a directory, or what a swath tells in its place (forest.h), laid over the tree.
 *
 *      objects "p/a/x", "p/a/z"   prefixes "p/a/y/"   ->   x, y/, z in the order of keys
 *
 * Hidden, and counted: keys that are no file name, and a file beside a directory of its name. The directory's own marker gives
 * its attributes. An object listed without metadata is confirmed if its version is the known one, else its type stays unknown
 * (0) until somebody asks (page_ask).
 *
 * Threads: called with the lock of names held, which is dropped while the server answers. The caller holds a marker below
 * the directory, so that nobody moves it meanwhile.
 */
#ifndef CACHE_PAGE_H
#define CACHE_PAGE_H

#include "cache/page_call.h"
#include "cache/recall.h"

/* Where the next page starts. */
struct page_place {
    char *prefix; /* the directory's key; another one now: it was renamed, and the token is worth nothing */
    char *token;
    char *last;              /* the last key of the page before, without the prefix; NULL: from the start */
    struct page_call *ahead; /* the next page, which is asked for already; NULL */
};

/* The order of keys: the name of a folder ends in "/". */
int page_compare(const char *a, bool a_folder, const char *b, bool b_folder);

/* No lock is held. */
void page_place_release(struct page_place *place);

struct page_entry {
    char *name;
    const struct store_object *object; /* NULL: a directory */
    uint32_t type;                     /* 0: not known */
    uint64_t number;
    struct recalled recalled;
    bool folder; /* its key ends in "/" */
    bool bare;   /* ... and all that stands below it is hidden */
    bool again;  /* ... and that was looked at once more, since the page was overtaken */
    bool shown, inode_known;
};

struct page {
    struct cache *cache;
    struct inode *directory;
    struct page_place *place;
    bool goes_on;     /* whoever lists will want the next page, too */
    int64_t since_ms; /* what a swath tells from before that will not do */
    /* Results. */
    struct page_call *asked;
    struct swath *swath;        /* that it was answered from; NULL: the server was asked */
    int64_t began_ms;           /* when it was asked for this page, and not for a swath; 0: it was not */
    struct recalled *recalled;  /* of its objects, then of its prefixes */
    struct page_entry *entries; /* in the order of keys */
    size_t count, room;
    struct page_entry
        *extras; /* of the tree: in the page's range, but not on the server (yet); in the same order */
    size_t extra_count, extra_room;
    bool last;
    bool doubtful; /* more changed here meanwhile than was noted: what is not known may be there, or not */
    struct page_call *unwanted; /* asked ahead, of a page that failed */
};

/* Ends with the lock held; page_release() without. */
int page_fetch_locked(struct page *page, struct waiter *waiter, struct aftermath *aftermath);
void page_release(struct page *page);

/* The type that a listing may tell of it: 0 while it has to be asked for. Names locked. */
uint32_t page_type(struct inode *inode);

struct page_question {
    const char *name;
    bool folder;
    bool gone; /* the answer: nothing is there */
};

/* HEADs of many names at once, laid over the tree. 0; an error of a single name is logged and leaves it unknown. */
int page_ask_locked(struct cache *cache, struct inode *directory, struct page_question *questions,
                    size_t count, struct waiter *waiter, struct aftermath *aftermath);

#endif
