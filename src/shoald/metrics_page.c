/* SPDX-License-Identifier: Apache-2.0 */
/* A page for Prometheus: as little HTTP as it takes. */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "shoald/shoald.h"

#define REQUEST_MAX 4096
#define CLIENT_SECONDS 5

struct metrics_page {
    int listener;
    int stop_fd;
    pthread_t thread;
    struct metrics *metrics;
};

static int open_listener(const char *address)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    if (colon == NULL || (size_t)(colon - address) >= sizeof host)
        return -1;
    size_t len = (size_t)(colon - address);
    memcpy(host, address, len);
    host[len] = 0;
    char *name = host;
    if (name[0] == '[' && len > 1 && name[len - 1] == ']') {
        name[len - 1] = 0;
        name++;
    }
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    if (getaddrinfo(name, colon + 1, &hints, &found) != 0)
        return -1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd >= 0 && (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 8) != 0)) {
        int saved = errno;
        close(fd);
        errno = saved;
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

/* One client; @until_ns bounds all of it, so that a slow one keeps neither others nor our end. */
struct visit {
    int fd, stop_fd;
    uint64_t until_ns;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* False: the time is up, or the page stops. */
static bool wait_for(const struct visit *visit, short events)
{
    for (;;) {
        uint64_t now = now_ns();
        struct pollfd fds[2] = {{.fd = visit->fd, .events = events},
                                {.fd = visit->stop_fd, .events = POLLIN}};
        if (now >= visit->until_ns)
            return false;
        int ready = poll(fds, 2, (int)((visit->until_ns - now) / 1000000 + 1));
        if (fds[1].revents != 0 || (ready < 0 && errno != EINTR))
            return false;
        if (ready > 0)
            return true;
    }
}

static void send_all(const struct visit *visit, const char *data, size_t len)
{
    while (len > 0 && wait_for(visit, POLLOUT)) {
        ssize_t sent = send(visit->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN)
            continue;
        if (sent <= 0)
            return;
        data += sent;
        len -= (size_t)sent;
    }
}

static void respond(const struct visit *visit, const char *status, const char *type,
                    const char *body, size_t len)
{
    char head[256];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                     "Connection: close\r\n\r\n", status, type, len);
    send_all(visit, head, (size_t)n);
    send_all(visit, body, len);
}

static void serve(struct metrics_page *page, int fd)
{
    char request[REQUEST_MAX + 1] = "";
    size_t have = 0;
    const struct visit visit = {
        .fd = fd,
        .stop_fd = page->stop_fd,
        .until_ns = now_ns() + CLIENT_SECONDS * UINT64_C(1000000000),
    };
    do {
        if (!wait_for(&visit, POLLIN))
            return;
        ssize_t got = recv(fd, request + have, REQUEST_MAX - have, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            continue;
        if (got <= 0)
            return;
        have += (size_t)got;
        request[have] = 0;
    } while (strstr(request, "\r\n\r\n") == NULL && have < REQUEST_MAX);

    if (strncmp(request, "GET /metrics ", 13) == 0 || strncmp(request, "GET /metrics?", 13) == 0) {
        char *text = NULL;
        size_t len = 0;
        if (metrics_render(page->metrics, &text, &len) == 0)
            respond(&visit, "200 OK", "text/plain; version=0.0.4; charset=utf-8", text, len);
        else
            respond(&visit, "500 Internal Server Error", "text/plain", "out of memory\n", 14);
        free(text);
    } else if (strncmp(request, "GET /healthz ", 13) == 0) {
        respond(&visit, "200 OK", "text/plain", "ok\n", 3);
    } else {
        respond(&visit, "404 Not Found", "text/plain", "there are /metrics and /healthz\n", 32);
    }
}

static void *page_thread(void *arg)
{
    struct metrics_page *page = arg;
    log_set_component("metrics");
    for (;;) {
        struct pollfd fds[2] = {{.fd = page->listener, .events = POLLIN},
                                {.fd = page->stop_fd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return NULL;
        if (fds[1].revents != 0)
            return NULL;
        if (fds[0].revents == 0)
            continue;
        int fd = accept4(page->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            /* Out of descriptors, say: it is still readable, and should not keep us busy. */
            (void)poll(&fds[1], 1, 100);
            continue;
        }
        serve(page, fd);
        close(fd);
    }
}

int metrics_page_start(const char *address, struct metrics *metrics, struct metrics_page **out)
{
    struct metrics_page *page = calloc(1, sizeof *page);
    if (page == NULL)
        return SHOAL_E_NO_MEMORY;
    page->metrics = metrics;
    page->listener = open_listener(address);
    page->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (page->listener < 0 || page->stop_fd < 0 ||
        pthread_create(&page->thread, NULL, page_thread, page) != 0) {
        LOG_ERROR("cannot serve metrics at %s: %s; choose another listen.management", address,
                  strerror(errno));
        if (page->listener >= 0)
            close(page->listener);
        if (page->stop_fd >= 0)
            close(page->stop_fd);
        free(page);
        return SHOAL_E_SYSTEM;
    }
    *out = page;
    return 0;
}

void metrics_page_stop(struct metrics_page *page)
{
    if (page == NULL)
        return;
    uint64_t one = 1;
    (void)!write(page->stop_fd, &one, sizeof one);
    pthread_join(page->thread, NULL);
    close(page->listener);
    close(page->stop_fd);
    free(page);
}
