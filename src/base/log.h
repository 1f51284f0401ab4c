/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one logger: levelled, one line a message, to stderr.
 *
 *   2026-11-22T12:50:01.123456Z WARN  node-2/0 [1f0c..9a] journal: write took 1.2 s (journal.c:88)
 *
 * A line carries time, level, component, and the id of the request that the thread (or the fiber
 * running on it) serves. That context is thread-local; a fiber scheduler saves and restores it with
 * log_context_get() and log_context_set(). A call site that repeats a warning or an error is
 * silenced after LOG_BURST lines in LOG_WINDOW_NS and says later how many it swallowed.
 *
 * Threads: LOG_* from any thread. The log_set_* of level, time and sink before threads start.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

#define LOG_BURST 10
#define LOG_WINDOW_NS UINT64_C(5000000000)

struct log_context {
    const char *component; /* borrowed, must outlive its use; NULL prints "-" */
    uint64_t request_hi;   /* the 128-bit request id; both 0: none */
    uint64_t request_lo;
};

/* One for each call site, static, private to log.c. */
struct log_site {
    const char *file;
    int line;
    uint32_t count;
    uint64_t suppressed;
    uint64_t window_start_ns;
};

#define LOG_AT(level, ...)                                                                         \
    do {                                                                                           \
        static struct log_site log_site_ = {.file = __FILE__, .line = __LINE__};                   \
        if (log_enabled(level))                                                                    \
            log_write(&log_site_, level, __VA_ARGS__);                                             \
    } while (0)

#define LOG_ERROR(...) LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)
#define LOG_WARN(...) LOG_AT(LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_INFO(...) LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_DEBUG(...) LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* What the running thread or fiber is doing, for its next lines. */
struct log_context log_context_get(void);
void log_context_set(struct log_context context);
void log_set_component(const char *component);
void log_set_request(uint64_t hi, uint64_t lo);

/* Default LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* "error", "warn", "info" or "debug"; false and *level untouched for anything else. */
bool log_level_parse(const char *text, enum log_level *level);

/*
 * log_set_time_source() - Take the time from a simulator's clock; NULL goes back to wall time.
 * @now_ns: virtual nanoseconds; printed as seconds, so that one seed prints one text.
 */
void log_set_time_source(uint64_t (*now_ns)(void *arg), void *arg);

/* Where lines go instead of stderr; @line has no newline. NULL goes back to stderr. */
typedef void log_sink_fn(void *arg, enum log_level level, const char *line);
void log_set_sink(log_sink_fn *sink, void *arg);

void log_write(struct log_site *site, enum log_level level, const char *format, ...)
    PRINTF_LIKE(3, 4);

#endif
