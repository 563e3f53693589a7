/* The container's endpoint: ECS, and EKS Pod Identity. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "s3/exchange.h"
#include "s3/http.h"
#include "s3/source.h"

#define ADDRESS "http://169.254.170.2"

/* Over plain HTTP keys come from this host and from the agents' addresses only. */
static bool may_be_asked(const char *url)
{
    static const char *const agents[] = {"169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
    if (strncmp(url, "https://", 8) == 0 || http_url_is_loopback(url))
        return strstr(url, "://");
    if (strncmp(url, "http://", 7) != 0)
        return false;
    const char *host = url + 7;
    size_t length = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?#");
    for (size_t i = 0; i < sizeof agents / sizeof *agents; i++)
        if (strlen(agents[i]) == length && strncmp(agents[i], host, length) == 0)
            return true;
    return false;
}

/* The file is read each time: it is renewed by whoever runs the container. */
static int read_token(struct buf *ret_token, struct buf *why)
{
    const char *path = source_environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *token = source_environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    if (path) {
        int rc = source_read(path, ret_token, why);
        if (rc < 0)
            return rc;
    } else if (token) {
        buf_add_string(ret_token, token);
    }
    if (!strpbrk(ret_token->bytes, "\r\n"))
        return 0;
    buf_add_string(why, "container: the authorization token has a line end within it");
    return -ENOKEY;
}

static int ask(const char *url, const char *token, struct found *ret_found, struct buf *why)
{
    char *line = *token ? xprintf("Authorization: %s", token) : NULL;
    const char *headers[] = {"Accept: application/json", line, NULL};
    struct exchange exchange = {.method = "GET",
                                .url = url,
                                .headers = headers,
                                .direct = strncmp(url, "http://", 7) == 0,
                                .timeout_ms = 2000,
                                .attempts = 3};
    int rc = exchange_run(&exchange, why);
    if (rc == 0 && exchange.status != 200) {
        buf_printf(why, "%s: it answers %d", ret_found->source, exchange.status);
        rc = -EACCES;
    }
    if (rc == 0)
        rc = source_json(exchange.text.bytes, exchange.text.length, "Token", ret_found, why);
    exchange_release(&exchange);
    if (line)
        secret_wipe(line, strlen(line));
    free(line);
    return rc;
}

int source_container(const struct source_view *view, struct found *ret_found, struct buf *why)
{
    const char *relative = source_environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = source_environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    (void)view;
    if (!relative && !full) {
        buf_add_string(why, "container: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set");
        return 0;
    }
    STRING_SCOPED *url =
        relative ? xprintf("%s%s%s", ADDRESS, *relative == '/' ? "" : "/", relative) : xstrdup(full);
    STRING_SCOPED *place =
        http_url_place(url); /* the path names whose keys they are: whoever knows it may ask for them */
    BUF_SCOPED token = BUF_INIT;
    if (!may_be_asked(url)) {
        buf_printf(why,
                   "container: AWS_CONTAINER_CREDENTIALS_FULL_URI %s: it must be https://, or of this host "
                   "or the agent "
                   "(169.254.170.2, 169.254.170.23)",
                   place);
        return -EINVAL;
    }
    free(ret_found->source);
    ret_found->source = xprintf("container endpoint %s", place);
    ret_found->slow = true;
    int rc = read_token(&token, why);
    if (rc == 0)
        rc = ask(url, token.bytes, ret_found, why);
    secret_wipe(token.bytes, token.length);
    return rc;
}
