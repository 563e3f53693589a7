#include "s3/body.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/xml.h"

#define HEAD  "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define SPACE "http://s3.amazonaws.com/doc/2006-03-01/"

bool body_holds_key(const char *key)
{
    BUF_SCOPED escaped = BUF_INIT;
    return xml_escape(&escaped, key, strlen(key)) == 0;
}

int body_delete(const char *const *keys, size_t count, struct buf *out)
{
    assert(count <= STORE_LIST_MAX);
    BUF_SCOPED body = BUF_INIT;
    buf_add_string(&body, HEAD "<Delete xmlns=\"" SPACE "\"><Quiet>true</Quiet>");
    for (size_t i = 0; i < count; i++) {
        buf_add_string(&body, "<Object><Key>");
        int rc = xml_escape(&body, keys[i], strlen(keys[i]));
        if (rc < 0)
            return rc;
        buf_add_string(&body, "</Key></Object>");
    }
    buf_add_string(&body, "</Delete>");
    buf_add(out, body.bytes, body.length);
    return 0;
}

void body_complete(const struct store_part *parts, size_t count, struct buf *out)
{
    buf_add_string(out, HEAD "<CompleteMultipartUpload xmlns=\"" SPACE "\">");
    for (size_t i = 0; i < count; i++) {
        assert(!i || parts[i].number > parts[i - 1].number);
        buf_printf(out, "<Part><PartNumber>%d</PartNumber><ETag>", parts[i].number);
        /* Came through answer_copy_etag(): printable ASCII, which XML always holds. */
        int rc = xml_escape(out, parts[i].etag, strlen(parts[i].etag));
        assert(!rc);
        buf_add_string(out, "</ETag></Part>");
    }
    buf_add_string(out, "</CompleteMultipartUpload>");
}
