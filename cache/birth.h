/* birth: the key under which a multipart upload was created, once the file has another name.
 *
 *      created as "tmp", parts land --rename--> "model" --Complete at "tmp", over nothing else--> "model" displaced --copy--> done
 *                                         |                          |
 *                                         |                          '-- refused: another client's object is there
 *                                         '-- somebody here needs the key (veil_ask_back_locked), or has it
 *                                                 '--> what landed is given up, counted, and goes again under the last name
 *
 * An upload belongs to its key, and a part that landed is not sent again. The name is not the file's any more, so nothing is overwritten there:
 * If-None-Match, or If-Match for the object that the file had there; an endpoint that is not known to honour these gets the file under its last
 * name. So does one that could not copy it; and a file that is renamed while it is open and has an older object, which follows it first (`moves`).
 * Until the object stands under that name its bytes stay dirty here, also in the journal: another host may remove what is only a temporary name there.
 *
 * Threads: the uploader's.
 */
#ifndef CACHE_BIRTH_H
#define CACHE_BIRTH_H

#include "cache/uploader.h"

/* The key under which parts landed that are still of use; NULL. Whether it may be used is veil_claim()'s to say. */
const char *birth_key(struct upload *upload);
/* The endpoint can do what completing there needs. ABILITY_UNKNOWN: it is to be probed. */
enum store_ability birth_served(const struct upload *upload);
/* What landed goes again: counted and told. The upload drops it. */
void birth_give_up(struct upload *upload, const char *why);
/* The same in the middle of a try: it ends, and begins anew under the name that the file has. */
void birth_leave(struct upload *upload, const char *why);

#endif
