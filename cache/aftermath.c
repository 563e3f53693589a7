#include "cache/aftermath.h"

#include <stdlib.h>

#include "base/log.h"

struct notice {
    struct job job;
    struct cache *cache;
    struct notice *next;
    uint64_t id;
    char *name;
};

void aftermath_unref(struct aftermath *aftermath, struct inode *inode)
{
    if (!inode)
        return;
    if (aftermath->count == aftermath->room) {
        aftermath->room = aftermath->room ? aftermath->room * 2 : 8;
        aftermath->inodes = xrealloc(aftermath->inodes, aftermath->room * sizeof(*aftermath->inodes));
    }
    aftermath->inodes[aftermath->count++] = inode;
}

static void free_notice(struct notice *notice)
{
    free(notice->name);
    free(notice);
}

static void deliver_notice(struct job *job)
{
    struct notice *notice = container_of(job, struct notice, job);
    const struct cache_notify *notify = &notice->cache->config.notify;

    if (atomic_load(&notice->cache->stopping))
        ;
    else if (notice->name)
        notify->name_changed(notify->context, notice->id, notice->name);
    else
        notify->inode_changed(notify->context, notice->id);
    free_notice(notice);
}

void aftermath_notify(struct aftermath *aftermath, uint64_t id, const char *name)
{
    const struct cache_notify *notify = &aftermath->cache->config.notify;
    struct notice *notice;

    if (name ? !notify->name_changed : !notify->inode_changed)
        return;
    notice = xcalloc(1, sizeof(*notice));
    notice->cache = aftermath->cache;
    notice->job.run = deliver_notice;
    notice->id = id;
    notice->name = name ? xstrdup(name) : NULL;
    notice->next = aftermath->notices;
    aftermath->notices = notice;
}

void aftermath_settle(struct aftermath *aftermath)
{
    lock_assert_none();
    for (struct notice *notice = aftermath->notices, *next; notice; notice = next) {
        next = notice->next;
        if (pool_post(aftermath->cache->behind, &notice->job) < 0) {
            log_debug("notice to the kernel dropped: the queue is full");
            free_notice(notice);
        }
    }
    for (size_t i = 0; i < aftermath->count; i++)
        inode_unref(aftermath->inodes[i]);
    free(aftermath->inodes);
    aftermath->inodes = NULL;
    aftermath->notices = NULL;
    aftermath->count = aftermath->room = 0;
    size_t names = aftermath->names_short, bytes = aftermath->short_bytes;
    aftermath->names_short = aftermath->short_bytes = 0;
    if (names)
        names_find_room(aftermath->cache, names, bytes);
}
