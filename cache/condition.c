#include "cache/condition.h"

#include <string.h>

#include "cache/server.h"

static bool find_remote(struct upload *upload, struct identity *ret_own)
{
    const struct remote *remote = &upload->inode->remote;
    LOCK_SCOPED(&upload->inode->lock);
    *ret_own = remote->identity;
    return remote->exists && strcmp(remote->key, upload->key) == 0;
}

/* What stands under the key is this file's, or of one that had the name before and was removed here: hidden, but there. */
static bool find_own(struct upload *upload, struct identity *ret_own)
{
    struct names *names = &upload->uploader->cache->names;
    LOCK_SCOPED(&names->lock); /* the deleter gives the one to the other */
    if (find_remote(upload, ret_own))
        return true;
    return upload->exclusive && names_doomed_version_locked(names, upload->key, ret_own);
}

void condition_set(struct upload *upload, struct store_call *call)
{
    bool honoured = upload_conditions_honoured(upload) == ABILITY_YES, found = upload->conditional;
    if (!honoured || (!upload->conditional && !upload->exclusive && !upload->at_birth))
        return;
    if (!upload->conditional)
        found = find_own(upload, &upload->base);
    call->if_match = found ? upload->base.etag : NULL;
    call->if_absent = !found;
}

bool condition_allows(struct upload *upload, const struct store_object *seen)
{
    struct identity own;
    return find_own(upload, &own) && server_is_version(seen, &own, NULL);
}
