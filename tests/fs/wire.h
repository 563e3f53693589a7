/* wire: the kernel's side of a FUSE connection, played by a test over a socket of whole messages: any order of messages can
 * be written down, and each reply is counted by its number. */
#ifndef TESTS_FS_WIRE_H
#define TESTS_FS_WIRE_H

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fs/session.h"

#define WIRE_UNIQUE_MAX 20000

struct wire {
    int fd;
    struct fs *fs;
    pthread_t runner;
    int run_rc;
    atomic_bool ready;
    uint32_t pid;                 /* who asks; 0: this process */
    int replies[WIRE_UNIQUE_MAX]; /* by unique / 2 */
    int errors[WIRE_UNIQUE_MAX];  /* of the last reply, -errno */
    char body[4096];              /* of the last reply */
    size_t body_length;
};

static inline void wire_send(struct wire *wire, uint32_t opcode, uint64_t unique, uint64_t node,
                             const void *body, size_t length)
{
    struct fuse_in_header header = {.len = (uint32_t)(sizeof header + length),
                                    .opcode = opcode,
                                    .unique = unique,
                                    .nodeid = node,
                                    .pid = wire->pid ? wire->pid : (uint32_t)getpid()};
    struct iovec iov[2] = {{&header, sizeof header}, {(void *)(uintptr_t)body, length}};
    ssize_t sent = writev(wire->fd, iov, length ? 2 : 1);
    assert(sent == (ssize_t)header.len);
}

static inline void wire_lookup(struct wire *wire, uint64_t unique, const char *name)
{
    wire_send(wire, FUSE_LOOKUP, unique, FUSE_ROOT_ID, name, strlen(name) + 1);
}

static inline void wire_interrupt(struct wire *wire, uint64_t unique)
{
    struct fuse_interrupt_in in = {.unique = unique};
    wire_send(wire, FUSE_INTERRUPT, unique | 1, 0, &in, sizeof in);
}

/* Takes one reply; false when none comes within the time. */
static inline bool wire_receive(struct wire *wire, int timeout_ms)
{
    struct pollfd pollfd = {.fd = wire->fd, .events = POLLIN};
    struct fuse_out_header header;
    char bytes[sizeof header + sizeof wire->body];
    if (poll(&pollfd, 1, timeout_ms) <= 0)
        return false;
    ssize_t length = read(wire->fd, bytes, sizeof bytes);
    if (length < (ssize_t)sizeof header)
        return false;
    memcpy(&header, bytes, sizeof header);
    if (header.unique & 1) /* EAGAIN for an INTERRUPT whose request is not there (yet) */
        return true;
    assert(header.unique / 2 < WIRE_UNIQUE_MAX);
    wire->replies[header.unique / 2]++;
    wire->errors[header.unique / 2] = header.error;
    wire->body_length = (size_t)length - sizeof header;
    memcpy(wire->body, bytes + sizeof header, wire->body_length);
    return true;
}

/* Takes replies until that one has come. */
static inline bool wire_await(struct wire *wire, uint64_t unique)
{
    while (wire->replies[unique / 2] == 0)
        if (!wire_receive(wire, 20000))
            return false;
    return true;
}

static inline void wire_hear_ready(void *context)
{
    ((struct wire *)context)->ready = true;
}

static inline void *wire_run(void *context)
{
    struct wire *wire = context;
    wire->run_rc = fs_run(wire->fs, wire_hear_ready, wire);
    return NULL;
}

/* The flags that a kernel offers. */
static inline void wire_begin_as(struct wire *wire, uint32_t flags, const struct fs_config *config)
{
    int fds[2];
    int rc = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);
    assert(rc == 0);
    int room = 4 << 20;
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    memset(wire, 0, sizeof *wire);
    wire->fd = fds[1];
    struct mountpoint *none = NULL;
    rc = session_new(config, fds[0], &none, &wire->fs);
    assert(rc == 0);
    fs_attach(wire->fs, (struct cache *)wire);
    pthread_create(&wire->runner, NULL, wire_run, wire);
    struct fuse_init_in init = {.major = 7, .minor = 38, .max_readahead = 1 << 17, .flags = flags};
    wire_send(wire, FUSE_INIT, 2, 0, &init, sizeof init);
    bool answered = wire_await(wire, 2);
    assert(answered);
}

static inline void wire_begin(struct wire *wire, uint32_t flags)
{
    wire_begin_as(wire, flags, &(struct fs_config){.source = "test"});
}

/* Replies that are still to come are taken. */
static inline void wire_end(struct wire *wire)
{
    fs_stop(wire->fs);
    while (wire_receive(wire, 10000))
        ;
    pthread_join(wire->runner, NULL);
    fs_free(wire->fs);
    close(wire->fd);
}

#endif
