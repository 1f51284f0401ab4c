/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

#define LINE_MAX_BYTES 2048

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *const level_labels[] = {"ERROR", "WARN ", "INFO ", "DEBUG"};

static int current_level = LOG_LEVEL_INFO;
static uint64_t (*virtual_now_ns)(void *arg);
static void *virtual_now_arg;
static log_sink_fn *current_sink;
static void *current_sink_arg;
static _Thread_local struct log_context thread_context;

struct log_context log_context_get(void)
{
    return thread_context;
}

void log_context_set(struct log_context context)
{
    thread_context = context;
}

void log_set_component(const char *component)
{
    thread_context.component = component;
}

void log_set_request(uint64_t hi, uint64_t lo)
{
    thread_context.request_hi = hi;
    thread_context.request_lo = lo;
}

void log_set_level(enum log_level level)
{
    __atomic_store_n(&current_level, (int)level, __ATOMIC_RELAXED);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= __atomic_load_n(&current_level, __ATOMIC_RELAXED);
}

bool log_level_parse(const char *text, enum log_level *level)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

void log_set_time_source(uint64_t (*now_ns)(void *arg), void *arg)
{
    virtual_now_ns = now_ns;
    virtual_now_arg = arg;
}

void log_set_sink(log_sink_fn *sink, void *arg)
{
    current_sink = sink;
    current_sink_arg = arg;
}

static uint64_t now_ns(void)
{
    if (virtual_now_ns != NULL)
        return virtual_now_ns(virtual_now_arg);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void print_time(char *out, size_t size, uint64_t ns)
{
    uint64_t seconds = ns / UINT64_C(1000000000);
    unsigned fraction = (unsigned)(ns % UINT64_C(1000000000));
    if (virtual_now_ns != NULL) {
        snprintf(out, size, "%llu.%09u", (unsigned long long)seconds, fraction);
        return;
    }
    time_t wall = (time_t)seconds;
    struct tm utc;
    char date[32];
    gmtime_r(&wall, &utc);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, size, "%s.%06uZ", date, fraction / 1000);
}

/*
 * Whether the site may speak now; *swallowed is what it kept to itself before. Two threads at one
 * site may both take the last turn: a line more, never a torn one.
 */
static bool site_may_speak(struct log_site *site, uint64_t now, uint64_t *swallowed)
{
    uint64_t start = __atomic_load_n(&site->window_start_ns, __ATOMIC_RELAXED);
    *swallowed = 0;
    /* Time runs backwards when a simulator starts its next seed: that opens a new window too. */
    if (start == 0 || now < start || now - start >= LOG_WINDOW_NS) {
        __atomic_store_n(&site->window_start_ns, now, __ATOMIC_RELAXED);
        __atomic_store_n(&site->count, 1, __ATOMIC_RELAXED);
        *swallowed = __atomic_exchange_n(&site->suppressed, 0, __ATOMIC_RELAXED);
        return true;
    }
    if (__atomic_fetch_add(&site->count, 1, __ATOMIC_RELAXED) < LOG_BURST)
        return true;
    __atomic_fetch_add(&site->suppressed, 1, __ATOMIC_RELAXED);
    return false;
}

static size_t append(char *line, size_t at, const char *format, ...) PRINTF_LIKE(3, 4);

static size_t append(char *line, size_t at, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line + at, LINE_MAX_BYTES - at, format, arguments);
    va_end(arguments);
    CHECK(length >= 0);
    return MIN(at + (size_t)length, (size_t)LINE_MAX_BYTES - 1);
}

/* A message may quote bytes of a stranger: nothing that ends the line or steers a terminal. */
static void make_one_line(char *line)
{
    for (char *at = line; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte < 0x20 || byte == 0x7f)
            *at = ' ';
    }
}

static void emit(enum log_level level, char *line, size_t length)
{
    make_one_line(line);
    if (current_sink != NULL) {
        current_sink(current_sink_arg, level, line);
        return;
    }
    line[length] = '\n';
    /* One write a line, so that lines of several processes do not mix. */
    ssize_t written = write(STDERR_FILENO, line, length + 1);
    (void)written;
}

void log_write(struct log_site *site, enum log_level level, const char *format, ...)
{
    uint64_t now = now_ns();
    uint64_t swallowed = 0;
    if (level <= LOG_LEVEL_WARN && !site_may_speak(site, now, &swallowed))
        return;

    char line[LINE_MAX_BYTES + 1];
    char when[48];
    const struct log_context *context = &thread_context;
    print_time(when, sizeof when, now);
    size_t at = append(line, 0, "%s %s %s ", when, level_labels[level],
                       context->component != NULL ? context->component : "-");
    if (context->request_hi != 0 || context->request_lo != 0)
        at = append(line, at, "[%016llx%016llx] ", (unsigned long long)context->request_hi,
                    (unsigned long long)context->request_lo);
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line + at, LINE_MAX_BYTES - at, format, arguments);
    va_end(arguments);
    CHECK(length >= 0);
    at = MIN(at + (size_t)length, (size_t)LINE_MAX_BYTES - 1);
    if (swallowed > 0)
        at = append(line, at, " (and %llu more from here)", (unsigned long long)swallowed);
    if (level != LOG_LEVEL_INFO) {
        const char *slash = strrchr(site->file, '/');
        at = append(line, at, " (%s:%d)", slash != NULL ? slash + 1 : site->file, site->line);
    }
    emit(level, line, at);
}
