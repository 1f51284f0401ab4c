/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one way to report progress: a bar with rate and time left where stderr is a terminal, and
 * nothing at all in a pipe or with NO progress wanted. Redrawn at most ten times a second. Used by
 * the command line only; one thread at a time.
 */
#ifndef BASE_PROGRESS_H
#define BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
    FILE *out; /* NULL: silent */
    const char *label;
    uint64_t total; /* 0: unknown */
    uint64_t done;
    uint64_t started_ns;
    uint64_t drawn_ns;
};

/* @label: borrowed. @wanted: false silences it (--json, --quiet). */
void progress_begin(struct progress *progress, const char *label, uint64_t total_bytes,
                    bool wanted);
void progress_set(struct progress *progress, uint64_t done_bytes);
void progress_add(struct progress *progress, uint64_t more_bytes);

/* Wipes the bar. The caller prints what is to stay. */
void progress_end(struct progress *progress);

/* One drawn line, without control characters; for tests. Returns @out. */
const char *progress_line(const struct progress *progress, uint64_t elapsed_ns, int columns,
                          char *out, size_t size);

#endif
