/* marker: the empty object "p/a/" that carries a directory's attributes and lets it stand without children.
 *
 * Errors: as server.h. Threads: no lock held; several writers of one marker: the last one stands.
 */
#ifndef CACHE_MARKER_H
#define CACHE_MARKER_H

#include "cache/aftermath.h"

/* Writes it with the directory's attributes as they stand. What it does not understand of the old one stays. */
int marker_write(struct inode *directory, const char *what, struct waiter *waiter);
/* Before a child goes: when no other child is known to be on the server and there is no marker, it is written, so that
 * the directory does not vanish under its user. `child` may be NULL. */
int marker_keep(struct inode *directory, const struct inode *child, struct waiter *waiter);
/* Its marker goes up, behind, when somebody asks (uploader_publish, a drain, the next mount): it survives a crash until then. Lock of
 * names. 0, or the journal's error. */
int marker_want_locked(struct inode *directory);
/* The same in the place of marker_keep() where changes go behind; what is not known of the directory is left to the deleter. */
void marker_keep_behind_locked(struct inode *directory, const struct inode *child);
/* The times of a directory after one of its entries changed: in memory only, as no marker is written for that. */
void marker_bump_locked(struct inode *directory);

#endif
