/* list: a doubly linked ring through the elements themselves (hash tables are uthash's). */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev;
    struct list *next;
};

#define LIST_INIT(name)                                                                                      \
    {                                                                                                        \
        &(name), &(name)                                                                                     \
    }
#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void list_init(struct list *list)
{
    list->prev = list->next = list;
}

static inline bool list_empty(const struct list *list)
{
    return list->next == list;
}

static inline void list_insert_after(struct list *place, struct list *element)
{
    element->prev = place;
    element->next = place->next;
    place->next->prev = element;
    place->next = element;
}

static inline void list_append(struct list *list, struct list *element)
{
    list_insert_after(list->prev, element);
}

static inline void list_prepend(struct list *list, struct list *element)
{
    list_insert_after(list, element);
}

/* The element may be removed again: it points at itself afterwards. */
static inline void list_remove(struct list *element)
{
    element->prev->next = element->next;
    element->next->prev = element->prev;
    list_init(element);
}

static inline struct list *list_pop(struct list *list)
{
    struct list *first = list->next;
    if (first == list)
        return NULL;
    list_remove(first);
    return first;
}

/* Moves all elements of `from` to the end of `to`. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* The parameter is `head`, not `list`: it would also replace the word in `struct list`. */
#define list_for_each(at, head) for (struct list *at = (head)->next; at != (head); at = at->next)
#define list_for_each_safe(at, after, head)                                                                  \
    for (struct list *at = (head)->next, *after = at->next; at != (head); at = after, after = at->next)

#endif
