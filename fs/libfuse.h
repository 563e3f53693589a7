/* libfuse: the one way in which this room includes libfuse, so that every file speaks the same version of its API. */
#ifndef FS_LIBFUSE_H
#define FS_LIBFUSE_H

#define FUSE_USE_VERSION                                                                                     \
    312 /* the last one that 3.14, 3.16 and 3.17 all understand; compat.c goes beyond it */
#include <fuse_lowlevel.h>

#endif
