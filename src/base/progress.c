/* SPDX-License-Identifier: Apache-2.0 */
#include "base/progress.h"

#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/format.h"
#include "base/macros.h"

#define REDRAW_NS UINT64_C(100000000)
#define BAR_MAX 32

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

const char *progress_line(const struct progress *progress, uint64_t elapsed_ns, int columns,
                          char *out, size_t size)
{
    struct format_text done = format_bytes(progress->done);
    struct format_text rate = format_rate(progress->done, elapsed_ns);
    if (progress->total == 0) {
        snprintf(out, size, "%s  %s  %s", progress->label, done.text, rate.text);
        return out;
    }
    uint64_t shown = MIN(progress->done, progress->total);
    double part = (double)shown / (double)progress->total;
    char left[48] = "";
    if (shown > 0 && shown < progress->total) {
        double ns = (double)elapsed_ns * (1 - part) / part;
        struct format_text time = format_duration((uint64_t)(ns / 1e9) * UINT64_C(1000000000));
        snprintf(left, sizeof left, "  %s left", ns < 1e9 ? "1 s" : time.text);
    }
    char bar[BAR_MAX + 1] = "";
    int width = MIN(MAX(columns - 64, 0), BAR_MAX);
    int filled = (int)(part * width);
    for (int i = 0; i < width; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[width] = '\0';
    snprintf(out, size, "%s %s%s%3d %%  %s of %s  %s%s", progress->label, bar, width > 0 ? " " : "",
             (int)(part * 100), done.text, format_bytes(progress->total).text, rate.text, left);
    return out;
}

static void draw(struct progress *progress, uint64_t now)
{
    struct winsize window = {0};
    int columns = 80;
    if (ioctl(fileno(progress->out), TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
        columns = window.ws_col;
    char line[256];
    progress_line(progress, now - progress->started_ns, columns, line, sizeof line);
    fprintf(progress->out, "\r%.*s\033[K", columns - 1, line);
    fflush(progress->out);
    progress->drawn_ns = now;
}

void progress_begin(struct progress *progress, const char *label, uint64_t total_bytes, bool wanted)
{
    *progress = (struct progress){
        .out = wanted && isatty(STDERR_FILENO) ? stderr : NULL,
        .label = label,
        .total = total_bytes,
        .started_ns = now_ns(),
    };
}

void progress_set(struct progress *progress, uint64_t done_bytes)
{
    progress->done = done_bytes;
    if (progress->out == NULL)
        return;
    uint64_t now = now_ns();
    if (now - progress->drawn_ns >= REDRAW_NS)
        draw(progress, now);
}

void progress_add(struct progress *progress, uint64_t more_bytes)
{
    progress_set(progress, progress->done + more_bytes);
}

void progress_end(struct progress *progress)
{
    if (progress->out != NULL && progress->drawn_ns != 0) {
        fputs("\r\033[K", progress->out);
        fflush(progress->out);
    }
    progress->out = NULL;
}
