/* SPDX-License-Identifier: Apache-2.0 */
/* shoal format, inspect and fsck: devices that no node has open. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/format.h"
#include "base/hash.h"
#include "cli/local.h"
#include "core/dma.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "dev/dev.h"
#include "engine/engine.h"

/* ---- a device, opened for a moment ---- */

struct visit {
    struct reactor *reactor;
    const char *path;
    bool read_only;
    int (*run)(struct visit *visit, struct dev *dev, struct dma_arena *arena);
    void *ctx;
    bool opened;
    int rc;
};

static void visit_fiber(void *arg)
{
    struct visit *visit = arg;
    static const struct dma_class classes[] = {
        {64u << 10, 32}, {1152u << 10, 16}, {4224u << 10, 4}, {17u << 20, 2}};
    struct dma_arena *arena;
    struct dev *dev;
    visit->rc = dma_arena_create(visit->reactor, classes, ARRAY_LEN(classes), &arena);
    if (visit->rc == 0) {
        visit->rc = dev_uring_open(visit->reactor, visit->path, 0, visit->read_only, &dev);
        visit->opened = visit->rc == 0;
        if (visit->rc == 0) {
            visit->rc = visit->run(visit, dev, arena);
            dev_close(dev);
        }
        dma_arena_destroy(arena);
    }
    reactor_stop(visit->reactor);
}

static int visit_device(struct visit *visit)
{
    struct reactor_config config = {.name = "device", .cpu = -1, .uring_entries = 128};
    struct fiber_pool *fibers;
    int rc = reactor_create(&config, &visit->reactor);
    if (rc != 0)
        return cli_fail("io_uring is not available (%s): a container's seccomp profile or "
                        "/proc/sys/kernel/io_uring_disabled may forbid it", shoal_error_text(rc));
    if (fiber_pool_create(visit->reactor, "device", 8, 256 << 10, &fibers) == 0) {
        (void)fiber_spawn(fibers, visit_fiber, visit);
        reactor_run(visit->reactor);
        while (fiber_pool_in_use(fibers) > 0)
            reactor_poll_once(visit->reactor);
        fiber_pool_destroy(fibers);
    }
    reactor_destroy(visit->reactor);
    if (visit->opened)
        return EXIT_DONE;
    if (visit->rc == SHOAL_E_NOT_FOUND)
        return cli_fail("there is no %s", visit->path);
    if (visit->rc == SHOAL_E_BUSY || visit->rc == SHOAL_E_EXISTS)
        return cli_fail("%s is in use by a running node: 'shoal node stop' it first", visit->path);
    return cli_fail("cannot open %s: %s", visit->path, shoal_error_text(visit->rc));
}

/* ---- format ---- */

struct format_arguments {
    char *cluster;
    uint64_t target, size, bits;
    bool force, json;
};

static const struct option_spec format_options[] = {
    {{"cluster", VALUE_STRING, offsetof(struct format_arguments, cluster), NULL, 32, 32, NULL,
      "The cluster's id, 32 hex digits; else all zero."}, 0, "HEX"},
    {{"target", VALUE_U64, offsetof(struct format_arguments, target), "1", 0, UINT32_MAX - 1, NULL,
      "The target's number in the cluster."}, 0, "N"},
    {{"size", VALUE_SIZE, offsetof(struct format_arguments, size), "0", 0, 0, NULL,
      "Create or grow a file to this size; 0: as it is."}, 's', "BYTES"},
    {{"partition_bits", VALUE_U64, offsetof(struct format_arguments, bits), "16", 1, 24, NULL,
      "Of the cluster: it has 2^N partitions."}, 0, "N"},
    {{"force", VALUE_BOOL, offsetof(struct format_arguments, force), NULL, 0, 0, NULL,
      "Even if it holds a Shoal device: what is there is lost."}, 'f', NULL},
    {{"json", VALUE_BOOL, offsetof(struct format_arguments, json), NULL, 0, 0, NULL,
      "Print JSON."}, 0, NULL},
};
static const struct options_command format_command = {
    .name = "shoal format", .arguments = "DEVICE",
    .summary = "Make a block device or a file an empty Shoal device.",
    .example = "shoal format /dev/nvme0n1\nshoal format --size 1G disk.img",
    .min_arguments = 1, .max_arguments = 1,
    .options = format_options, .option_count = ARRAY_LEN(format_options),
};

int cli_format(int argc, char **argv)
{
    struct format_arguments arguments;
    struct options_arguments positional;
    uint8_t cluster[16] = {0};
    struct stat about;
    int status = cli_parse(&format_command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    const char *path = positional.values[0];
    status = EXIT_FAILED;
    if (arguments.cluster != NULL && hex_decode(arguments.cluster, 32, cluster, 16) != 0) {
        (void)options_usage_error(&format_command, "--cluster takes 32 hex digits");
        status = EXIT_USAGE;
    } else if (arguments.size == 0 && stat(path, &about) != 0) {
        cli_fail("there is no %s: --size BYTES makes a file", path);
    } else if (local_format(path, round_down_u64(arguments.size, 4096), cluster, (uint32_t)arguments.target,
                            (unsigned)arguments.bits, arguments.force) == 0) {
        status = EXIT_DONE;
        if (arguments.json)
            cli_print_json(json_pack("{s:s, s:I}", "device", path, "target",
                                     (json_int_t)arguments.target));
        else
            printf("%s is an empty Shoal device, target %llu.\n", path,
                   (unsigned long long)arguments.target);
    }
    options_free(&format_command, &arguments);
    return status;
}

/* ---- inspect ---- */

struct inspect_arguments {
    bool json;
};

static const struct option_spec inspect_options[] = {
    {{"json", VALUE_BOOL, offsetof(struct inspect_arguments, json), NULL, 0, 0, NULL,
      "Print JSON, as always."}, 0, NULL},
};
static const struct options_command inspect_command = {
    .name = "shoal inspect", .arguments = "DEVICE",
    .summary = "Show what a device holds, as JSON: superblock, journal, checkpoints, entries.",
    .example = "shoal inspect ~/.local/share/shoal/node-1/disk-1 | jq .superblock",
    .min_arguments = 1, .max_arguments = 1,
    .options = inspect_options, .option_count = ARRAY_LEN(inspect_options),
};

static int inspect_run(struct visit *visit, struct dev *dev, struct dma_arena *arena)
{
    (void)visit;
    return engine_inspect(dev, arena, stdout);
}

int cli_inspect(int argc, char **argv)
{
    struct inspect_arguments arguments;
    struct options_arguments positional;
    int status = cli_parse(&inspect_command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    struct visit visit = {.path = positional.values[0], .read_only = true, .run = inspect_run};
    status = visit_device(&visit);
    if (status == EXIT_DONE && visit.rc != 0)
        status = cli_fail("%s: %s", visit.path, shoal_error_text(visit.rc));
    options_free(&inspect_command, &arguments);
    return status;
}

/* ---- fsck ---- */

struct fsck_arguments {
    bool repair, json;
};

static const struct option_spec fsck_options[] = {
    {{"repair", VALUE_BOOL, offsetof(struct fsck_arguments, repair), NULL, 0, 0, NULL,
      "Mend what can be; the target then catches up from the others."}, 0, NULL},
    {{"json", VALUE_BOOL, offsetof(struct fsck_arguments, json), NULL, 0, 0, NULL,
      "Print JSON."}, 0, NULL},
};
static const struct options_command fsck_command = {
    .name = "shoal fsck", .arguments = "DEVICE",
    .summary = "Check everything on a device that no node has open.",
    .example = "shoal fsck /dev/nvme0n1\nshoal fsck --repair disk.img",
    .min_arguments = 1, .max_arguments = 1,
    .options = fsck_options, .option_count = ARRAY_LEN(fsck_options),
};

struct fsck_ctx {
    struct fsck_arguments arguments;
    struct engine_fsck_result result;
    char *text;
    size_t text_len;
};

static int fsck_run(struct visit *visit, struct dev *dev, struct dma_arena *arena)
{
    struct fsck_ctx *ctx = visit->ctx;
    FILE *out = open_memstream(&ctx->text, &ctx->text_len);
    if (out == NULL)
        return SHOAL_E_NO_MEMORY;
    int rc = engine_fsck(dev, arena, ctx->arguments.repair, out, &ctx->result);
    fclose(out);
    return rc;
}

static int fsck_report(const struct fsck_ctx *ctx, const char *path)
{
    const struct engine_fsck_result *result = &ctx->result;
    bool bad = result->fatal || result->errors > result->repaired;
    if (ctx->arguments.json) {
        json_t *lines = json_array();
        char *text = ctx->text;
        for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
            json_array_append_new(lines, json_string(line));
        cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:b, s:o}", "device", path, "objects",
                                 (json_int_t)result->objects, "errors",
                                 (json_int_t)result->errors, "repaired",
                                 (json_int_t)result->repaired, "fatal", (int)result->fatal,
                                 "messages", lines));
    } else {
        printf("%s%s: %s objects, %s errors, %s repaired%s\n", ctx->text != NULL ? ctx->text : "",
               path, format_count(result->objects).text, format_count(result->errors).text,
               format_count(result->repaired).text,
               result->fatal ? "; it cannot be opened as it is" : "");
        if (bad && !ctx->arguments.repair)
            printf("Try: shoal fsck --repair %s\n", path);
    }
    return bad ? EXIT_FAILED : EXIT_DONE;
}

int cli_fsck(int argc, char **argv)
{
    struct fsck_ctx ctx = {0};
    struct options_arguments positional;
    int status = cli_parse(&fsck_command, argc, argv, &ctx.arguments, &positional);
    if (status >= 0)
        return status;
    struct visit visit = {.path = positional.values[0], .read_only = !ctx.arguments.repair,
                          .run = fsck_run, .ctx = &ctx};
    status = visit_device(&visit);
    if (status == EXIT_DONE && visit.rc != 0)
        status = cli_fail("%s%s: %s", ctx.text != NULL ? ctx.text : "", visit.path,
                          shoal_error_text(visit.rc));
    else if (status == EXIT_DONE)
        status = fsck_report(&ctx, visit.path);
    free(ctx.text);
    options_free(&fsck_command, &ctx.arguments);
    return status;
}
