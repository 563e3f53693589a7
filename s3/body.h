/* body: the XML documents that we send. Pure. */
#ifndef S3_BODY_H
#define S3_BODY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "s3/store.h"

/* False: XML 1.0 cannot hold this key (control characters, not UTF-8): it must be deleted by itself. */
bool body_holds_key(const char *key);
/* <Delete> in quiet mode, at most STORE_LIST_MAX keys. -EILSEQ: body_holds_key() is false for one. */
int body_delete(const char *const *keys, size_t count, struct buf *out);
/* <CompleteMultipartUpload>; parts ascending. */
void body_complete(const struct store_part *parts, size_t count, struct buf *out);

#endif
