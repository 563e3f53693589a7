/* ini: files as ~/.aws/config: sections, `key = value`, blocks indented below a key without value. Pure.
 *
 *      [profile dev]            ini_get(ini, "profile dev", "region")             "eu-west-1"
 *      region = eu-west-1       ini_get(ini, "profile dev", "s3.addressing_style") "path"
 *      s3 =
 *        addressing_style = path
 *
 * A line belongs to a block while it is indented deeper than the block's key; elsewhere indentation says nothing.
 * Lines that begin with # or ; are comments, and so is what follows " #" or " ;". A section given twice is one; a later
 * value wins. The values may be secrets: the parsed file is zeroed when freed, and no error quotes one.
 */
#ifndef S3_INI_H
#define S3_INI_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define INI_BYTES_MAX ((size_t)1 << 20)

struct ini;

/* 0; -EBADMSG with "NAME:LINE: what is wrong" in why. */
int ini_parse(const char *bytes, size_t length, const char *name, struct ini **ret_ini, struct buf *why);
void ini_free(struct ini *ini);
/* NULL when not set. The ini owns it. */
const char *ini_get(const struct ini *ini, const char *section, const char *key);
bool ini_has_section(const struct ini *ini, const char *section);

#endif
