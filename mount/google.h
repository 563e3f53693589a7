/* google: an OAuth token of Google Cloud, and who it belongs to. Sources, the first that is there wins:
 *
 *      credentials = "FILE" of the provider, GOOGLE_APPLICATION_CREDENTIALS      service_account: a JWT signed here (RFC 7523)
 *      gcloud's application_default_credentials.json                             authorized_user: its refresh token
 *      metadata server (GCE_METADATA_HOST, GCE_METADATA_IP)
 *      `gcloud auth print-access-token`
 *
 * Where tokens are asked for: GOOGLE_OAUTH_TOKEN_URL, else the file's token_uri, else https://oauth2.googleapis.com/token.
 */
#ifndef MOUNT_GOOGLE_H
#define MOUNT_GOOGLE_H

#include <stdint.h>

#include "mount/provider.h"

#define GOOGLE_SCOPE "https://www.googleapis.com/auth/devstorage.full_control"

struct google {
    struct secret *token;
    char *email, *project; /* NULL: the source does not tell */
    char *source;          /* for messages: "/home/u/key.json", "the metadata server" */
};

int google_sign_in(const struct provider_job *job, struct google *ret_google, struct buf *why);
void google_release(struct google *google);

/* The assertion that a service account gives for a token: HEADER.CLAIMS.SIGNATURE. Pure. key_id may be NULL. */
int google_assertion(const char *email, const char *key_id, const struct secret *private_key,
                     const char *audience, int64_t now_s, struct buf *out, struct buf *why);

#endif
