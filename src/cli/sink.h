/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the bytes of a blob go: a file or standard output. A file is written beside its name and takes
 * its place when it is whole, so that a failed get leaves what was there.
 */
#ifndef CLI_SINK_H
#define CLI_SINK_H

#include "cli/cli.h"

struct sink {
    const char *path; /* lent; NULL: standard output */
    char temporary[CLI_PATH_MAX];
    int fd;
};

/* @path: NULL or "-" for standard output. Return: false with shoal_message(). */
bool sink_open(struct sink *sink, const char *path);
bool sink_write(struct sink *sink, const uint8_t *data, size_t len);
/* @ok: everything was written. Return: whether the file is in place; else nothing is left of it. */
bool sink_close(struct sink *sink, bool ok);

#endif
