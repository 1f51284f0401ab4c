/* SPDX-License-Identifier: Apache-2.0 */
/* shoal get: a blob, a range of it, or with -r many. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/format.h"
#include "base/hash.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "cli/sink.h"
#include "cli/tree.h"

#define CHUNK_BYTES (16u << 20)

struct arguments {
    struct cli_common common;
    uint64_t offset, length;
    bool recursive, quiet, verify;
};

static const struct option_spec options[] = {
    CLI_COMMON_OPTIONS(struct arguments, common),
    {{"offset", VALUE_SIZE, offsetof(struct arguments, offset), "0", 0, 0, NULL,
      "First byte wanted."}, 0, "O"},
    {{"length", VALUE_SIZE, offsetof(struct arguments, length), NULL, 0, 0, NULL,
      "How many bytes; else to the end."}, 0, "L"},
    {{"verify", VALUE_BOOL, offsetof(struct arguments, verify), NULL, 0, 0, NULL,
      "The key is one of content: hash what comes and compare."}, 0, NULL},
    {{"recursive", VALUE_BOOL, offsetof(struct arguments, recursive), NULL, 0, 0, NULL,
      "Fetch all blobs under POOL/NAME/ into a directory."}, 'r', NULL},
    {{"quiet", VALUE_BOOL, offsetof(struct arguments, quiet), NULL, 0, 0, NULL,
      "No progress, no summary."}, 'q', NULL},
};
static const struct options_command command = {
    .name = "shoal get", .arguments = "POOL/NAME [FILE|-]",
    .summary = "Fetch a blob into a file or to standard output, or with -r many into a directory.",
    .example = "shoal get durable/models/a.bin a.bin\nshoal get durable/backup.tar - | tar t\n"
               "shoal get durable/a.bin - --offset 1M --length 4K\nshoal get -r durable/models out",
    .min_arguments = 1, .max_arguments = 2,
    .options = options, .option_count = ARRAY_LEN(options),
};

static bool copy(const struct arguments *arguments, struct shoal_reader *reader,
                 struct shoal_request *info, uint64_t wanted, struct sink *sink,
                 struct client_hash *hash)
{
    uint8_t *buffer = malloc(CHUNK_BYTES);
    struct progress progress;
    bool ok = buffer != NULL;
    progress_begin(&progress, "get", wanted, !arguments->quiet && !arguments->common.json);
    info->bytes = 0;
    while (ok && info->bytes < wanted) {
        size_t got, want = (size_t)MIN(wanted - info->bytes, (uint64_t)CHUNK_BYTES);
        ok = shoal_reader_read(reader, buffer, want, &got) == 0 && sink_write(sink, buffer, got);
        if (ok && got == 0)
            break;
        if (ok && hash != NULL)
            client_hash_update(hash, buffer, got);
        info->bytes += got;
        progress_add(&progress, got);
    }
    progress_end(&progress);
    free(buffer);
    return ok;
}

static bool fetch(const struct arguments *arguments, bool ranged, struct shoal *shoal,
                  struct shoal_request *request, struct sink *sink)
{
    struct shoal_reader *reader;
    struct client_hash *hash = NULL;
    struct blob_key key;
    request->offset = arguments->offset;
    if (shoal_reader_open(shoal, request, &reader, request) != 0)
        return false;
    if (arguments->verify && arguments->offset == 0 && !ranged &&
        (hash = client_hash_create()) != NULL)
        client_hash_begin(hash);
    uint64_t end = request->size;
    uint64_t wanted = arguments->offset < end ? end - arguments->offset : 0;
    if (ranged)
        wanted = MIN(wanted, arguments->length);
    bool ok = copy(arguments, reader, request, wanted, sink, hash);
    shoal_reader_close(reader);
    if (hash != NULL) {
        if (ok && (client_hash_finish(hash, &key) != 0 ||
                   memcmp(key.bytes, request->key.bytes, sizeof key.bytes) != 0)) {
            shoal_fail(SHOAL_E_CORRUPT, "the content does not have this key: either it was not put "
                       "with --content, or somebody claimed the key for other bytes");
            ok = false;
        }
        client_hash_destroy(hash);
    }
    return ok;
}

static int get_one(const struct arguments *arguments, bool ranged, struct shoal *shoal,
                   struct shoal_request *request, const char *path)
{
    struct sink sink;
    char version[64], key[2 * SHOAL_KEY_BYTES + 1];
    uint64_t started = cli_now_ns();
    if (!sink_open(&sink, path))
        return cli_fail_shoal();
    bool ok = sink_close(&sink, fetch(arguments, ranged, shoal, request, &sink));
    uint64_t elapsed = cli_now_ns() - started;
    if (!ok)
        return cli_fail_shoal();
    shoal_version_print(&request->version, version, sizeof version);
    cli_key_hex(&request->key, key);
    if (arguments->common.json && sink.path != NULL)
        return cli_print_json(json_pack("{s:s, s:s, s:I, s:I, s:s, s:f}", "pool", request->pool,
                                        "key", key, "size", (json_int_t)request->size, "bytes",
                                        (json_int_t)request->bytes, "version", version, "seconds",
                                        (double)elapsed / 1e9));
    if (sink.path != NULL && !arguments->quiet && isatty(STDOUT_FILENO))
        printf("Fetched %s in %s (%s), version %s.\n", format_bytes(request->bytes).text,
               format_duration(elapsed).text, format_rate(request->bytes, elapsed).text, version);
    return EXIT_DONE;
}

static int get_checked(const struct arguments *arguments, bool ranged, char **values, int count)
{
    struct shoal_request request = {.op = SHOAL_OP_GET};
    struct shoal *shoal;
    const char *path = count == 2 ? values[1] : "-";
    if (arguments->recursive && strchr(values[0], '/') == NULL)
        request.pool = values[0];
    else if (!cli_blob(values[0], &request))
        return EXIT_FAILED;
    struct shoal_options handle = {.requests_max = TREE_DEPTH};
    if (shoal_open(arguments->common.config, &handle, &shoal) != 0)
        return cli_fail_shoal();
    int status = arguments->recursive
                     ? tree_get(shoal, &request, path, arguments->common.json, arguments->quiet)
                     : get_one(arguments, ranged, shoal, &request, path);
    shoal_close(shoal);
    return status;
}

int cli_get(int argc, char **argv)
{
    struct arguments arguments;
    struct options_arguments positional;
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    bool ranged = (positional.given >> options_index(&command, "length") & 1) != 0;
    if (arguments.recursive && positional.count != 2) {
        (void)options_usage_error(&command, "-r takes POOL/PREFIX and a directory");
        status = EXIT_USAGE;
    } else {
        status = get_checked(&arguments, ranged, positional.values, positional.count);
    }
    options_free(&command, &arguments);
    return status;
}
