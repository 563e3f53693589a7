/* resuming: a multipart upload that an earlier process began, on its way from the journal to an upload of this one.
 *
 *      account->upload --resuming_set_locked--> inode->resumed --resuming_adopt--> upload, LIST_PARTS, and on
 *                                                    '--the file is gone, or was sent--> adopted only to be aborted
 *
 * Parts that landed are not sent again, unless the file changed since (resuming_spoil_locked) or the server says otherwise: what LIST_PARTS
 * does not show as it was answered is sent again; an upload that the server has forgotten starts again.
 */
#ifndef CACHE_RESUMING_H
#define CACHE_RESUMING_H

#include "cache/account.h"
#include "cache/uploader.h"

struct resumed {
    char *key, *upload_id;
    char id[UPLOAD_ID_MAX];
    struct part_plan plan;
    bool copying;
    uint64_t attribute_version;
    bool mtime_sent;
    int64_t mtime_ns;
    struct identity base;
    struct part *parts;
    size_t part_count;
};

void resuming_set_locked(struct inode *inode, const struct account_upload *upload);
void resuming_free(struct resumed *resumed);
/* Bytes of [start, end) changed here before it went on. */
void resuming_spoil_locked(struct inode *inode, uint64_t start, uint64_t end);
/* The upload is new: it takes what there is to go on with. */
void resuming_adopt_locked(struct upload *upload);
/* What the server says of its parts. */
void resuming_ask(struct upload *upload);
void resuming_heard(struct upload *upload, struct errand *errand);

#endif
