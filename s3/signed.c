#include "s3/signed.h"

#include <stdlib.h>
#include <string.h>

#include "s3/sign.h"

char **signed_lines(const struct signed_input *input)
{
    struct store_fields headers = {0};
    uint8_t hash[SHA256_BYTES];
    BUF_SCOPED payload = BUF_INIT;
    const char *body = input->body ? input->body : "";
    digest_sha256(body, strlen(body), hash);
    buf_add_hex(&payload, hash, sizeof(hash));
    if (input->content_type)
        store_fields_set(&headers, "content-type", input->content_type);
    struct sign_input sign = {
        .method = input->method,
        .host = input->host,
        .path = input->path,
        .query = input->query,
        .payload = payload.bytes,
        .region = input->region,
        .service = input->service,
        .keys = input->keys,
        .wall_ns = input->wall_ns,
    };
    sign_request(&sign, &headers, NULL);
    char **lines = xcalloc(headers.count + 1, sizeof(*lines));
    for (size_t i = 0; i < headers.count; i++) {
        lines[i] = xprintf("%s: %s", headers.all[i].name, headers.all[i].value);
        secret_wipe(headers.all[i].value, strlen(headers.all[i].value));
    }
    store_fields_release(&headers);
    return lines;
}

void signed_release(char **lines)
{
    for (char **line = lines; line && *line; line++) {
        secret_wipe(*line, strlen(*line));
        free(*line);
    }
    free(lines);
}

void signed_query(const struct store_fields *fields, struct buf *out)
{
    for (size_t i = 0; i < fields->count; i++) {
        if (i)
            buf_add_char(out, '&');
        buf_add_encoded(out, fields->all[i].name, strlen(fields->all[i].name), false);
        buf_add_char(out, '=');
        buf_add_encoded(out, fields->all[i].value, strlen(fields->all[i].value), false);
    }
}
