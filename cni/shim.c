/* fabricmgr-cni: hands one CNI call to the fabricmgr agent on this node and prints its answer. Its twin is shim.py, which tells more.
 * Static, no heap, no stdio. The frame: fabricmgr/agent/frame.py. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h> /* rename alone */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef SECOND
#define SECOND 1000 /* milliseconds */
#endif
#define LARGEST_VARIABLE (64 * 1024)
#define LARGEST_FRAME (1024 * 1024)
#define COUNT(list) (sizeof(list) / sizeof(*(list)))

static const char *const VERSIONS[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
static const char *const NAMES[] = {"COMMAND", "CONTAINERID", "NETNS", "IFNAME", "ARGS", "PATH", "NETNS_OVERRIDE"};
/* The first three have a namespace. */
static const struct { const char *command; int seconds; } LIMITS[] = {{"ADD", 15}, {"DEL", 5}, {"CHECK", 10}, {"GC", 60}, {"STATUS", 2}};
static const char AWAY[] = "nobody listens on its socket; is it running?", LATE[] = "no whole answer came in time";
static const char SAFE[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";

static char frame[4 + LARGEST_FRAME + 2], answer[4 + 1 + LARGEST_FRAME]; /* the frame's spare bytes: one too many, and a NUL */
static size_t used = 4, answered;
static const char *fields[COUNT(NAMES)], *configuration = frame + 4, *why;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR) return -1;
        if (n > 0) data += n, size -= (size_t)n;
    }
    return 0;
}

static int say(int fd, const char *text) { return write_all(fd, text, strlen(text)); }

static int fail(const char *code, const char *text, const char *more) {
    char line[512] = "{\"cniVersion\":\"", *end;
    const char *space = " \t\r\n", *version = "1.0.0", *at = memmem(configuration, (size_t)(frame + used - configuration), "\"cniVersion\"", 12);
    if (at) at += 12, at += strspn(at, space);
    if (at && *at == ':') {
        at++, at += strspn(at, space);
        for (size_t i = 0; i < COUNT(VERSIONS); i++)
            if (*at == '"' && strncmp(at + 1, VERSIONS[i], 5) == 0 && at[6] == '"') version = VERSIONS[i];
    }
    end = stpcpy(stpcpy(stpcpy(stpcpy(line + 15, version), "\",\"code\":"), code), ",\"msg\":\"");
    stpcpy(stpcpy(stpcpy(end, text), more), "\"}\n");
    say(1, line);
    return 1;
}

static int wait_for(int fd, short what, int64_t end) {
    struct pollfd p = {.fd = fd, .events = what};
    for (;;) {
        int64_t left = end - now();
        int n = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (n >= 0 || errno != EINTR) return n;
    }
}

static int exchange(int agent, int netns, int64_t end) {
    union { struct cmsghdr head; char space[CMSG_SPACE(sizeof(int))]; } rights = {
        .head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    size_t sent = 0, size = 4;
    memcpy(CMSG_DATA(&rights.head), &netns, sizeof netns);
    while (sent < used) {
        struct iovec part = {frame + sent, used - sent};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (sent == 0 && netns >= 0) message.msg_control = &rights, message.msg_controllen = sizeof rights;
        ssize_t n = sendmsg(agent, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) sent += (size_t)n;
        else if (errno == EAGAIN ? wait_for(agent, POLLOUT, end) <= 0 : errno != EINTR) return -1;
    }
    for (answered = 0; answered < size;) {
        ssize_t n = recv(agent, answer + answered, size - answered, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && (errno == EAGAIN ? wait_for(agent, POLLIN, end) <= 0 : errno != EINTR))) return -1;
        if (n > 0 && (answered += (size_t)n) == 4) {
            const unsigned char *head = (const unsigned char *)answer;
            size += head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
            if (size == 4 || size > sizeof answer) return -1;
        }
    }
    return (unsigned char)answer[4] > 1 ? -1 : 0;
}

static int ask(const char *path, int netns, int seconds) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {SECOND / 1000, SECOND % 1000 * 1000}; /* bounds connect, when the backlog is full */
    int64_t end = now() + (int64_t)seconds * SECOND;
    int agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), done = -1;
    why = AWAY;
    if (agent >= 0 && strlen(path) < sizeof address.sun_path && setsockopt(agent, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0) {
        strcpy(address.sun_path, path);
        if (connect(agent, (struct sockaddr *)&address, sizeof address) == 0) why = LATE, done = exchange(agent, netns, end);
    }
    if (agent >= 0) close(agent);
    return done;
}

static int spool(const char *path) {
    char name[220] = {0}, aside[4096], whole[4096];
    const char *slash = strrchr(path, '/'), *const hex = "0123456789abcdef";
    size_t base = slash ? (size_t)(slash - path) + 1 : 0, n = 0;
    unsigned char chance[8];
    int fd;
    for (; n < 200 && fields[1][n]; n++) name[n] = strchr(SAFE, fields[1][n]) ? fields[1][n] : '_';
    if (base + sizeof name + 16 > sizeof aside || getrandom(chance, sizeof chance, 0) != sizeof chance) goto lost;
    name[n++] = '.';
    for (size_t i = 0; i < sizeof chance; i++) name[n++] = hex[chance[i] >> 4], name[n++] = hex[chance[i] & 15];
    memcpy(aside, path, base);
    strcpy(aside + base, "");
    mkdir(aside, 0700); /* both may be there; if they cannot be made, open says so */
    strcpy(aside + base, "spool");
    mkdir(aside, 0700);
    stpcpy(stpcpy(stpcpy(whole, aside), *name == '.' ? "/_" : "/"), name);
    stpcpy(stpcpy(aside + base, "spool/."), name);
    fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0 && write_all(fd, frame, used) == 0 && rename(aside, whole) == 0) return 0;
lost:
    say(2, "fabricmgr-cni: the agent is away and this DEL cannot be spooled; the agent will find what is left\n");
    return 0; /* a DEL that fails keeps a pod from ever going away */
}

static void put(const char *text) {
    size_t size = strlen(text) + 1;
    memcpy(frame + used, text, size);
    used += size;
}

static int read_configuration(void) {
    configuration = frame + used;
    while (used <= 4 + LARGEST_FRAME) {
        ssize_t n = read(0, frame + used, 4 + LARGEST_FRAME + 1 - used);
        if (n == 0) break;
        if (n > 0) used += (size_t)n;
        else if (errno != EINTR) return -1;
    }
    for (size_t i = 0, size = used - 4; i < 4; i++) frame[i] = (char)(size >> 8 * i);
    return 0;
}

static int call(int limit) {
    const char *path = getenv("FABRICMGR_SOCKET"), *command = LIMITS[limit].command;
    int64_t end = now() + 10 * SECOND;
    struct timespec pause = {SECOND / 5 / 1000, SECOND / 5 % 1000 * 1000000};
    int netns = -1, status = strcmp(command, "STATUS") == 0, del = strcmp(command, "DEL") == 0, done;
    if (!path || !*path) path = "/run/fabricmgr/agent.sock";
    if (*fields[2] && (limit < 3)) netns = open(fields[2], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while ((done = ask(path, netns, LIMITS[limit].seconds)) < 0 && status && now() < end) nanosleep(&pause, NULL);
    if (done == 0) return write_all(1, answer + 5, answered - 5) < 0 ? 1 : answer[4];
    return del ? spool(path) : fail(status ? "50" : "11", "the fabricmgr agent on this node does not answer: ", why);
}

int main(int argc, char **argv) {
    const char *plugin = argc > 0 ? argv[0] : "", *slash = strrchr(plugin, '/');
    int limit = -1, large = strlen(slash ? slash + 1 : plugin) > LARGEST_VARIABLE;
    signal(SIGPIPE, SIG_IGN);
    put("1");
    put(large ? "" : slash ? slash + 1 : plugin);
    for (size_t i = 0; i < COUNT(NAMES); i++) {
        char variable[32] = "CNI_";
        const char *value = getenv(strcat(variable, NAMES[i]));
        fields[i] = value ? value : "";
        if (strlen(fields[i]) > LARGEST_VARIABLE) large = 1;
        put(strlen(fields[i]) > LARGEST_VARIABLE ? "" : fields[i]);
    }
    for (size_t i = 0; i < COUNT(LIMITS); i++)
        if (strcmp(fields[0], LIMITS[i].command) == 0) limit = (int)i;
    if (!*fields[0]) return say(2, "fabricmgr-cni: the CNI plugin of fabricmgr, for CNI 0.3.0 to 1.1.0; container runtimes call it\n");
    if (strcmp(fields[0], "VERSION") == 0)
        return say(1, "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n") < 0;
    if (read_configuration() < 0) return fail("5", "the network configuration on stdin cannot be read", "");
    if (limit < 0) return fail("4", "CNI_COMMAND is unknown: expected one of ADD, DEL, CHECK, GC, STATUS, VERSION", "");
    if (large) return fail("4", "a CNI_ variable is larger than 64 KiB", "");
    if (used > 4 + LARGEST_FRAME) return fail("5", "the network configuration on stdin is larger than 1 MiB", "");
    return call(limit);
}
