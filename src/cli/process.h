/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of a local cluster: found by a pid file that the process itself keeps locked while it
 * lives, so that a recycled pid is never mistaken for it.
 */
#ifndef CLI_PROCESS_H
#define CLI_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* The pid of the process that holds @pid_file, or 0 when there is none. */
pid_t process_find(const char *pid_file);

/* Lock and write @pid_file for this process. Return: fd to keep open, or -1 when another has it. */
int process_claim(const char *pid_file);

/*
 * process_open() - A pidfd of the process that holds @pid_file, readable when it has ended.
 * Return: -1 when there is none.
 */
int process_open(const char *pid_file, pid_t *pid);

/* Whether it ended within @timeout_ms (-1: ever). */
bool process_wait(int pidfd, int timeout_ms);

/*
 * process_end() - Send @signal, wait, and SIGKILL after @timeout_ms. No such process is success.
 * Return: true when it is gone.
 */
bool process_end(const char *pid_file, int signal, int timeout_ms);

/*
 * process_spawn() - Start @argv in a session of its own, its output appended to @log.
 * Return: pid, or -1 with errno.
 */
pid_t process_spawn(char *const argv[], const char *log);

/* The program @name beside this one, else on the PATH. */
const char *process_program(const char *name, char *path, size_t size);

/* The last lines of @log, to show why a process ended; "" when there are none. Returns @out. */
const char *process_last_words(const char *log, char *out, size_t size);

#endif
