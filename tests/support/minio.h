/* minio: a private MinIO server for one test program.
 *
 * Found in $SKYVOL_MINIO, on PATH, in ${XDG_CACHE_HOME:-~/.cache}/skyvol/minio/minio. It listens on a free port of
 * 127.0.0.1, keeps its data in a directory of its own below $TMPDIR, and dies with the thread that started it.
 *
 *      minio_start() -> running -- minio_halt() --> down -- minio_revive() --> running      minio_free() from any
 */
#ifndef TESTS_SUPPORT_MINIO_H
#define TESTS_SUPPORT_MINIO_H

#include "base/buf.h"

#define MINIO_BUCKET     "skyvol-test"
#define MINIO_ACCESS_KEY "skyvol"
#define MINIO_SECRET_KEY "skyvolsecret"

struct minio;

/* The server answers and MINIO_BUCKET exists. -ENOENT: there is no minio; `why` says what to install. */
int minio_start(struct minio **ret_minio, struct buf *why);
/* The same behind TLS, with a certificate that it makes (by the openssl program) and signs itself: minio_ca() names it. */
int minio_start_tls(struct minio **ret_minio, struct buf *why);
void minio_free(struct minio *minio);
const char *minio_endpoint(const struct minio *minio); /* "http://127.0.0.1:41234" */
const char *minio_ca(const struct minio *minio);
/* Killed, as in a crash; the port stays the same for minio_revive(). */
void minio_halt(struct minio *minio);
int minio_revive(struct minio *minio, struct buf *why);
/* Stopped and continued (SIGSTOP, SIGCONT): connections stay, nothing is answered. */
void minio_freeze(struct minio *minio);
void minio_thaw(struct minio *minio);

#endif
