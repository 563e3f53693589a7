/* http_connection: plain HTTP/1.1 to an address that is known, spoken by ourselves: a small PUT costs the
 * daemon a fifth less than through libcurl, and the bytes of a body go from where they lie into the socket. TLS, proxies, and names whose address is not known yet are
 * libcurl's; from it we learn the address of a name (for HTTP_ADDRESS_MS).
 *
 *      connecting --> sending --> (answer comes) --> kept --> sending ... --> closed
 *          `-- the address does not answer: forgotten, libcurl takes the transfer over and says why
 *
 * A kept connection that proves dead before a byte of the answer came is replaced by a new one, once, as libcurl does.
 *
 * Owns: the loop owns its connections. Threads: the loop's thread alone.
 */
#ifndef S3_HTTP_CONNECTION_H
#define S3_HTTP_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "s3/http_loop.h"

#define HTTP_ADDRESS_MS 60000
#define HTTP_KEPT_MS    118000 /* servers close idle ones after two minutes or more */

struct connections;

struct connections *connections_new(struct loop *loop);
void connections_free(struct connections *connections); /* none has a transfer */

/* Takes the transfer, and the request is on its way. False: it is libcurl's. */
bool connection_begin(struct transfer *transfer);
/* The transfer leaves it, however it ended; it is kept where it may be used again. */
void connection_leave(struct transfer *transfer);
/* Something happened to a socket. False: it is none of ours. */
bool connection_hear(struct connections *connections, int fd, uint32_t epoll_events);
int connection_socket(const struct transfer *transfer);
/* A transfer through libcurl was connected to this address. */
void connection_learn(struct connections *connections, const char *url, const char *ip, long port);

#endif
