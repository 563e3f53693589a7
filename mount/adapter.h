/* adapter: what the adapters of providers share: settings by name, the address of an API, its keys, words for what is done. */
#ifndef MOUNT_ADAPTER_H
#define MOUNT_ADAPTER_H

#include "mount/api.h"
#include "mount/provider.h"
#include "mount/state.h"

extern const struct provider provider_aws, provider_gcp, provider_hyperstack, provider_runpod;

/* The value of a setting; NULL: it is not said, or is a list or a credential. */
const char *adapter_text(const struct provider_job *job, const char *name);
/* Where a service is: the environment's `variable`, else api_url, else `fallback`. */
const char *adapter_address(const struct provider_job *job, const char *variable, const char *fallback,
                            const char **ret_where);
int adapter_api(const struct provider_job *job, const char *name, const char *variable, const char *fallback,
                struct api **ret_api, struct buf *why);
/* A credential: of the setting, else of the environment. -ENOKEY without words: neither says one. */
int adapter_secret(const struct provider_job *job, const char *setting, const char *variable,
                   struct secret **ret_secret, struct buf *why);
void adapter_tell(const struct provider_job *job, const char *what, const char *kind, const char *id);
/* "a, b and c": the different buckets of the job, each with the place that names it. */
void adapter_buckets(const struct provider_job *job, struct buf *out);
/* One writable volume of the bucket makes it writable. */
bool adapter_writes(const struct provider_job *job, const char *bucket);
/* The first volume of its bucket. */
bool adapter_is_first(const struct provider_job *job, size_t index);
/* S3's rule, which Google's and Hyperstack's names keep too (`dots`, `underscores` where they are allowed); a line for each bad one. */
int adapter_check_buckets(const struct provider_job *job, bool underscores, struct buf *why);
/* state_open() and state_look() of the job's file; the latter says to run prepare when nothing is there. */
/* -EXDEV: what the job's file remembers is of another configuration, and that is said. */
int adapter_belong(const struct provider_job *job, struct buf *why);
int adapter_open(const struct provider_job *job, struct state **ret_state, struct buf *why);
int adapter_look(const struct provider_job *job, struct state **ret_state, struct buf *why);

#endif
