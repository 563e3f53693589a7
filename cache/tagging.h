/* tagging: the tags of an object that is written anew: a COPY keeps them by itself, a PUT or a Create has those that it is given.
 *
 *      HEAD or GET told how many --none, or nothing--> not asked
 *           '--> GET_TAGS --> given along --refused--> once more, without
 *
 * Tags keep no bytes from going up. Without the right to read or to set them (403), where the endpoint cannot (501, 405), or what it says
 * makes no sense, the object loses them: one line of a mount says so, and which right lacks. All other errors are the caller's,
 * as of other requests. The headers are made to tell of as many tags as were found.
 * What another client tags behind the last HEAD or GET of this version is not seen here, and lost.
 */
#ifndef CACHE_TAGGING_H
#define CACHE_TAGGING_H

#include "cache/uploader.h"

/* ---- Blocking. ---- */

/* The tags of `key`, of which these headers tell; none where they tell of none. Errors: server.h. */
int tagging_ask(struct cache *cache, const char *what, const char *key, struct store_fields *headers,
                struct store_fields *ret_tags, struct waiter *waiter);
/* server_wait() of a PUT or a CREATE, where need be without its tags. */
int tagging_wait(struct cache *cache, const char *what, struct store_call *call, int expected,
                 struct waiter *waiter);

/* ---- Of an upload; the uploader's thread. ---- */

/* True: those of its base are asked for first, then it goes on by upload_advance(). */
bool tagging_begin(struct upload *upload);
void tagging_heard(struct upload *upload, struct errand *errand);
/* Its PUT or Create has failed. True: since it gave tags along, and the next try, which has begun, goes without. */
bool tagging_gives_way(struct upload *upload, int rc, const struct store_error *error);
/* It has gone up. */
void tagging_confirmed(struct upload *upload);

#endif
