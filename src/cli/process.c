/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_locked(int fd)
{
    if (flock(fd, LOCK_SH | LOCK_NB) != 0)
        return errno == EWOULDBLOCK;
    flock(fd, LOCK_UN);
    return false;
}

static pid_t read_pid(int fd)
{
    char text[32] = "";
    ssize_t len = pread(fd, text, sizeof text - 1, 0);
    return len > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

pid_t process_find(const char *pid_file)
{
    int fd = open(pid_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    pid_t pid = is_locked(fd) ? read_pid(fd) : 0;
    close(fd);
    return pid;
}

int process_claim(const char *pid_file)
{
    int fd = open(pid_file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || ftruncate(fd, 0) != 0 ||
        dprintf(fd, "%d\n", (int)getpid()) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int process_open(const char *pid_file, pid_t *pid)
{
    *pid = process_find(pid_file);
    if (*pid <= 0)
        return -1;
    int fd = (int)syscall(SYS_pidfd_open, *pid, 0);
    /* The lock is still held by the same: so the pid was not another's when it was opened. */
    if (fd >= 0 && process_find(pid_file) != *pid) {
        close(fd);
        return -1;
    }
    return fd;
}

bool process_wait(int pidfd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
    int rc;
    do {
        rc = poll(&poll_fd, 1, timeout_ms);
    } while (rc < 0 && errno == EINTR);
    return rc > 0;
}

bool process_end(const char *pid_file, int signal, int timeout_ms)
{
    pid_t pid;
    int fd = process_open(pid_file, &pid);
    if (fd < 0)
        return process_find(pid_file) == 0;
    (void)syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0);
    if (!process_wait(fd, timeout_ms)) {
        (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
        (void)process_wait(fd, 10000);
    }
    (void)waitpid(pid, NULL, WNOHANG);
    bool gone = process_wait(fd, 0);
    close(fd);
    return gone;
}

pid_t process_spawn(char *const argv[], const char *log)
{
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t pid = out >= 0 && in >= 0 ? fork() : -1;
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        pthread_sigmask(SIG_SETMASK, &none, NULL);
        setsid();
        dup2(in, STDIN_FILENO);
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        execv(argv[0], argv);
        dprintf(STDERR_FILENO, "cannot run %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    int saved = errno;
    if (out >= 0)
        close(out);
    if (in >= 0)
        close(in);
    errno = saved;
    return pid;
}

static bool try_program(const char *directory, size_t len, const char *name, char *path,
                        size_t size)
{
    int written = snprintf(path, size, "%.*s/%s", (int)len, directory, name);
    return written > 0 && (size_t)written < size && access(path, X_OK) == 0;
}

const char *process_program(const char *name, char *path, size_t size)
{
    char self[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len > 0) {
        self[len] = 0;
        char *slash = strrchr(self, '/');
        size_t directory = (size_t)(slash - self);
        if (strcmp(slash + 1, name) == 0) {
            snprintf(path, size, "%s", self);
            return path;
        }
        if (try_program(self, directory, name, path, size))
            return path;
        /* In the build tree each program lies in its room. */
        char room[4200];
        snprintf(room, sizeof room, "%.*s/../%s", (int)directory, self, name);
        if (try_program(room, strlen(room), name, path, size))
            return path;
    }
    const char *search = getenv("PATH");
    while (search != NULL && *search != 0) {
        size_t part = strcspn(search, ":");
        if (part > 0 && try_program(search, part, name, path, size))
            return path;
        search += part + (search[part] == ':');
    }
    return NULL;
}

const char *process_last_words(const char *log, char *out, size_t size)
{
    out[0] = 0;
    int fd = open(log, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return out;
    off_t end = lseek(fd, 0, SEEK_END);
    off_t start = end > (off_t)size - 1 ? end - (off_t)(size - 1) : 0;
    ssize_t len = pread(fd, out, size - 1, start);
    close(fd);
    out[len > 0 ? len : 0] = 0;
    while (len > 0 && out[len - 1] == '\n')
        out[--len] = 0;
    /* From the beginning of a line on, unless there is but one. */
    char *line = start > 0 ? strchr(out, '\n') : NULL;
    if (line != NULL)
        memmove(out, line + 1, strlen(line));
    return out;
}
