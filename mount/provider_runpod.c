/* RunPod: network volumes that the host mounts itself; links only, nothing is made and nothing to delete. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mount/adapter.h"
#include "mount/document.h"
#include "mount/runpod.h"
#include "mount/words.h"

#define SERVICE    "https://rest.runpod.io/v1"
#define VARIABLE   "RUNPOD_REST_URL"
#define MOUNT_PATH "/workspace"

static const struct provider_name settings[] = {{"api_key", PROVIDER_KEY},
                                                {"api_url", PROVIDER_TEXT},
                                                {"data_center_ids", PROVIDER_TEXTS},
                                                {"data_center_id", PROVIDER_TEXT},
                                                {"cloud_type", PROVIDER_TEXT},
                                                {"volume_mount_path", PROVIDER_TEXT},
                                                {NULL, PROVIDER_TEXT}};

/* ---- Without a call. ---- */

static int check_one_bucket(const struct provider_job *job, struct buf *why)
{
    int rc = 0;
    size_t count = 0;
    for (size_t i = 0; i < job->volume_count; i++) {
        count += adapter_is_first(job, i);
        if (*job->volumes[i]->bucket)
            continue;
        words_next(why);
        buf_printf(why, "%s: bucket is empty: give the id or the name of a network volume",
                   job->volumes[i]->where);
        rc = -EINVAL;
    }
    if (count < 2)
        return rc;
    words_next(why);
    buf_add_string(why, "runpod attaches one network volume to a pod, and these buckets are several: ");
    adapter_buckets(job, why);
    buf_add_string(why, "; put the data on one volume and give each mount a prefix of its own");
    return -EINVAL;
}

static const char *mount_path_of(const struct provider_job *job)
{
    const char *path = adapter_text(job, "volume_mount_path");
    return path && *path ? path : MOUNT_PATH;
}

/* A link there would be a file of the volume, or take its place. */
static int check_places(const struct provider_job *job, const char *path, struct buf *why)
{
    int rc = 0;
    size_t length = strlen(path);
    for (size_t i = 0; i < job->volume_count; i++) {
        const char *mount = job->volumes[i]->mount;
        size_t shared = strlen(mount) < length ? strlen(mount) : length;
        bool within = strncmp(mount, path, shared) == 0 && (!mount[shared] || mount[shared] == '/') &&
                      (!path[shared] || path[shared] == '/');
        if (!within)
            continue;
        words_next(why);
        buf_printf(why,
                   "%s: mount '%s' is where the volume itself stands on the machine (%s): choose another one",
                   job->volumes[i]->where, mount, path);
        rc = -EINVAL;
    }
    return rc;
}

static int check_mount_path(const struct provider_job *job, struct buf *why)
{
    const char *path = mount_path_of(job);
    STRING_SCOPED *normal = volume_normalise(path);
    if (normal && strcmp(normal, path) == 0 && path[1] && !words_have_control(path))
        return check_places(job, path, why);
    words_next(why);
    buf_printf(
        why, "%s: volume_mount_path must be an absolute path without .., // and a slash at its end, got '%s'",
        provider_setting(job->settings, "volume_mount_path")->where, path);
    return -EINVAL;
}

static int check(const struct provider_job *job, struct buf *why)
{
    int rc = check_one_bucket(job, why);
    const char *cloud = adapter_text(job, "cloud_type");
    if (check_mount_path(job, why) < 0)
        rc = -EINVAL;
    if (cloud && strcasecmp(cloud, "secure") != 0) {
        words_next(why);
        buf_printf(
            why,
            "%s: cloud_type is '%s': network volumes exist on Secure Cloud only; set cloud_type = \"secure\"",
            provider_setting(job->settings, "cloud_type")->where, cloud);
        rc = -EINVAL;
    }
    return rc;
}

/* ---- The key. ---- */

static int note_key(void *context, const char *name, const char *value, int line)
{
    struct secret **secret = context;
    (void)line;
    if (strcmp(name, "api_key") == 0 && *value) {
        secret_unref(*secret);
        *secret = secret_new(value, strlen(value));
    }
    return 0;
}

static int find_key(const struct provider_job *job, struct secret **ret_key, struct buf *why)
{
    int rc = adapter_secret(job, "api_key", "RUNPOD_API_KEY", ret_key, why);
    if (rc != -ENOKEY || why->length)
        return rc;
    const char *home = getenv("HOME");
    STRING_SCOPED *path = xprintf("%s/.runpod/config.toml", home ? home : "");
    struct secret *key = NULL;
    rc = document_each(path, "default", note_key, &key, why);
    if (rc == 0 && key) {
        *ret_key = key;
        return 0;
    }
    secret_unref(key);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    buf_reset(why);
    buf_printf(why,
               "runpod: there is no API key: set RUNPOD_API_KEY, or api_key in [providers.runpod], or "
               "[default] api_key in %s",
               path);
    return -ENOKEY;
}

/* ---- The call. ---- */

static int list_volumes(const struct provider_job *job, struct api *api, struct api_answer *answer,
                        struct buf *why)
{
    struct secret *key = NULL;
    int rc = find_key(job, &key, why);
    if (rc < 0)
        return rc;
    struct api_request request = {
        .method = "GET", .path = "/networkvolumes", .headers = {{"Authorization", "Bearer ", key}}};
    rc = api_send(api, &request, answer, why);
    if (rc == -EACCES)
        buf_add_string(why,
                       "; look at the API key (RUNPOD_API_KEY) and its rights in the console under Settings");
    secret_unref(key);
    return rc;
}

static int find_volume(const struct provider_job *job, const struct json *volumes,
                       struct runpod_volume *ret_volume, struct buf *why)
{
    const struct provider_setting *centers = provider_setting(job->settings, "data_center_ids");
    const char *one = adapter_text(job, centers ? "data_center_ids" : "data_center_id");
    const char *alone[] = {one, NULL};
    int rc = runpod_match(volumes, job->volumes[0]->bucket, ret_volume, why);
    if (rc == 0)
        rc = runpod_place(ret_volume, centers && centers->list ? (const char *const *)centers->list : alone,
                          why);
    return rc;
}

static int supply(const struct provider_job *job, struct provision *ret_provision, struct buf *why)
{
    struct api *api = NULL;
    struct api_answer answer = {0};
    struct runpod_volume volume;
    *ret_provision = (struct provision){0};
    int rc = check(job, why);
    if (rc == 0)
        rc = adapter_api(job, "RunPod", VARIABLE, SERVICE, &api, why);
    if (rc < 0)
        return rc;
    provision_add(&ret_provision->calls, "GET %s/networkvolumes", api_url(api));
    if (!job->explain) {
        rc = list_volumes(job, api, &answer, why);
        if (rc == 0)
            rc = find_volume(job, answer.json, &volume, why);
        if (rc == 0) {
            ret_provision->native_base = xstrdup(mount_path_of(job));
            ret_provision->deploy_hints = runpod_hints(&volume, mount_path_of(job));
            ret_provision->deploy_forms = runpod_forms(&volume, mount_path_of(job));
            provision_add(&ret_provision->notes,
                          "network volume %s (id %s) stands in %s: pods run there, on Secure Cloud",
                          volume.name ? volume.name : volume.id, volume.id, volume.data_center);
        }
    }
    api_answer_release(&answer);
    api_free(api);
    if (rc < 0)
        provision_release(ret_provision);
    return rc;
}

/* Nothing to make: but what is wrong is said at this moment, not when machines are paid for. */
static int prepare(const struct provider_job *job, struct buf *why)
{
    struct provision provision;
    int rc = supply(job, &provision, why);
    if (rc < 0)
        return rc;
    adapter_tell(job, "kept", "network volume", json_get_string(provision.deploy_hints, "networkVolumeId"));
    provision_release(&provision);
    return 0;
}

static int teardown(const struct provider_job *job, struct buf *why)
{
    (void)job, (void)why;
    return 0;
}

const struct provider provider_runpod = {
    .name = "runpod",
    .native = true,
    .settings = settings,
    .check = check,
    .prepare = prepare,
    .supply = supply,
    .teardown = teardown,
};
