/* runpod: RunPod's network volumes: which one is meant, and where its pod must stand. Pure; provider_runpod.c asks the API.
 *
 *      [{"id": "agv6w2qcg7", "name": "my network volume", "size": 50, "dataCenterId": "EU-RO-1"}, ...]       GET /v1/networkvolumes
 *
 * Rules: a network volume is attached when the pod is made, one for each pod, in the pod's own data centre, on Secure Cloud only.
 */
#ifndef MOUNT_RUNPOD_H
#define MOUNT_RUNPOD_H

#include "base/buf.h"
#include "base/json.h"

struct runpod_volume {
    const char *id, *name, *data_center; /* of the list */
};

/* By id, then by name. -ENOENT: the error lists what there is; -EEXIST: several of the name, their ids are listed; -EBADMSG: no list of
 * volumes. */
int runpod_match(const struct json *volumes, const char *bucket, struct runpod_volume *ret_volume,
                 struct buf *why);
/* `allowed`: data centres as configured, NULL at the end; NULL, none, or "global": any. -EINVAL: the volume stands in none of them. */
int runpod_place(const struct runpod_volume *volume, const char *const *allowed, struct buf *why);
/* What the call that makes the pod needs; the same as RunPod's REST and GraphQL calls take it: {"rest": {...}, "graphql": {...}}. */
struct json *runpod_hints(const struct runpod_volume *volume, const char *mount_path);
struct json *runpod_forms(const struct runpod_volume *volume, const char *mount_path);

#endif
