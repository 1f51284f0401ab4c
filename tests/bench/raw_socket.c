/* SPDX-License-Identifier: Apache-2.0 */
#include "raw_socket.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/codec.h"

static bool read_all(int fd, uint8_t *at, size_t len)
{
    while (len > 0) {
        ssize_t got = recv(fd, at, len, MSG_WAITALL);
        if (got <= 0)
            return false;
        at += got;
        len -= (size_t)got;
    }
    return true;
}

static void write_all(int fd, const uint8_t *at, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        at += sent;
        len -= (size_t)sent;
    }
}

/* As Shoal sets its own on loopback, where a host's default may pace sends with timers. */
static void set_options(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno"));
}

/* The request says how much comes after it, and how much is to go back. */
static void answer(int fd, uint8_t *payload)
{
    uint8_t request[RAW_REQUEST_BYTES];
    set_options(fd);
    while (read_all(fd, request, sizeof request) && read_all(fd, payload, load_le32(request + 4)))
        write_all(fd, payload, load_le32(request));
    close(fd);
}

static _Noreturn void raw_serve(int listen_fd)
{
    uint8_t *payload = malloc(RAW_PAYLOAD_MAX);
    memset(payload, 7, RAW_PAYLOAD_MAX);
    for (;;)
        answer(accept(listen_fd, NULL, NULL), payload);
}

int raw_socket_connect(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = port};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    set_options(fd);
    return fd;
}

static int listen_anywhere(uint16_t *port)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 4) == 0 &&
          getsockname(fd, (struct sockaddr *)&any, &len) == 0);
    *port = any.sin_port;
    return fd;
}

void raw_socket_pair(int ends[2])
{
    uint16_t port;
    int fd = listen_anywhere(&port);
    ends[0] = raw_socket_connect(port);
    ends[1] = accept(fd, NULL, NULL);
    CHECK(ends[1] >= 0);
    set_options(ends[1]);
    close(fd);
}

uint16_t raw_socket_start(pid_t *pid)
{
    uint16_t port;
    int fd = listen_anywhere(&port);
    *pid = fork();
    if (*pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        raw_serve(fd);
    }
    close(fd);
    return port;
}

void raw_socket_get(int fd, uint8_t *memory, uint32_t len)
{
    uint8_t request[RAW_REQUEST_BYTES] = {0};
    store_le32(request, len);
    write_all(fd, request, sizeof request);
    CHECK(read_all(fd, memory, len));
}

void raw_socket_put(int fd, const uint8_t *memory, uint32_t len)
{
    uint8_t request[RAW_REQUEST_BYTES] = {0};
    store_le32(request, RAW_REQUEST_BYTES);
    store_le32(request + 4, len);
    write_all(fd, request, sizeof request);
    write_all(fd, memory, len);
    CHECK(read_all(fd, request, sizeof request));
}
