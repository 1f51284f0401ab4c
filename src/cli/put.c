/* SPDX-License-Identifier: Apache-2.0 */
/* shoal put: a file, standard input, or a directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/format.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "cli/tree.h"

#define CHUNK_BYTES (4u << 20)

struct arguments {
    struct cli_common common;
    bool content, if_absent, recursive, quiet;
    char *if_version;
    uint64_t ttl;
};

static const struct option_spec options[] = {
    CLI_COMMON_OPTIONS(struct arguments, common),
    {{"content", VALUE_BOOL, offsetof(struct arguments, content), NULL, 0, 0, NULL,
      "Key it by its content; what is there already is not sent again."}, 0, NULL},
    {{"if_absent", VALUE_BOOL, offsetof(struct arguments, if_absent), NULL, 0, 0, NULL,
      "Only if there is no such blob."}, 0, NULL},
    {{"if_version", VALUE_STRING, offsetof(struct arguments, if_version), NULL, 1, 0, NULL,
      "Only if the blob has this version, as 'shoal stat' shows it."}, 0, "VERSION"},
    {{"recursive", VALUE_BOOL, offsetof(struct arguments, recursive), NULL, 0, 0, NULL,
      "Store all files of a directory under POOL/NAME/."}, 'r', NULL},
    {{"ttl", VALUE_U64, offsetof(struct arguments, ttl), "0", 0, UINT32_MAX, NULL,
      "Seconds to live, in a cache; 0: the pool's."}, 0, "S"},
    {{"quiet", VALUE_BOOL, offsetof(struct arguments, quiet), NULL, 0, 0, NULL,
      "No progress, no summary."}, 'q', NULL},
};
static const struct options_command command = {
    .name = "shoal put", .arguments = "POOL/NAME FILE|-",
    .summary = "Store a file, standard input, or with -r a directory. With --content: POOL FILE.",
    .example = "shoal put durable/models/a.bin a.bin\ntar c . | shoal put durable/backup.tar -\n"
               "shoal put --content kv block.bin\nshoal put -r durable/models ./models",
    .min_arguments = 1, .max_arguments = 2,
    .options = options, .option_count = ARRAY_LEN(options),
};

struct source {
    const char *name;
    int fd;
    uint64_t size; /* UINT64_MAX: unknown */
};

static bool source_open(struct source *source, const char *path)
{
    struct stat about;
    *source = (struct source){.name = path, .size = UINT64_MAX};
    if (strcmp(path, "-") == 0) {
        source->name = "standard input";
        source->fd = STDIN_FILENO;
        return true;
    }
    source->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (source->fd < 0 || fstat(source->fd, &about) != 0) {
        cli_fail("cannot read %s: %s", path, strerror(errno));
        return false;
    }
    if (S_ISDIR(about.st_mode)) {
        cli_fail("%s is a directory: -r stores all its files", path);
        close(source->fd);
        return false;
    }
    if (S_ISREG(about.st_mode))
        source->size = (uint64_t)about.st_size;
    return true;
}

static void source_close(struct source *source)
{
    if (source->fd != STDIN_FILENO)
        close(source->fd);
}

/* As much as there is, up to @size. Return: -1 and said why. */
static ssize_t source_read(const struct source *source, uint8_t *buffer, size_t size)
{
    size_t have = 0;
    while (have < size) {
        ssize_t got = read(source->fd, buffer + have, size - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            cli_fail("cannot read %s: %s", source->name, strerror(errno));
            return -1;
        }
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

/* Standard input is read once only, and its key is needed before the first byte is sent. */
static bool source_spool(struct source *source, uint8_t *buffer)
{
    FILE *spool = tmpfile();
    ssize_t got;
    uint64_t size = 0;
    if (spool == NULL) {
        cli_fail("cannot make a temporary file: %s", strerror(errno));
        return false;
    }
    while ((got = source_read(source, buffer, CHUNK_BYTES)) > 0) {
        if (fwrite(buffer, 1, (size_t)got, spool) != (size_t)got) {
            cli_fail("cannot write a temporary file: %s", strerror(errno));
            return false;
        }
        size += (uint64_t)got;
    }
    fflush(spool);
    source->fd = dup(fileno(spool));
    source->size = size;
    fclose(spool);
    return got == 0 && source->fd >= 0 && lseek(source->fd, 0, SEEK_SET) == 0;
}

static bool stream(struct shoal *shoal, const struct source *source, struct shoal_request *request,
                   uint8_t *buffer, struct progress *progress)
{
    struct shoal_writer *writer;
    ssize_t got;
    if (shoal_writer_open(shoal, request, source->size, &writer) != 0)
        return false;
    request->size = 0;
    while ((got = source_read(source, buffer, CHUNK_BYTES)) > 0) {
        if (shoal_writer_write(writer, buffer, (size_t)got) != 0) {
            char message[300];
            snprintf(message, sizeof message, "%s", shoal_message());
            shoal_writer_abort(writer);
            shoal_fail(SHOAL_E_IO, "%s", message);
            return false;
        }
        request->size += (uint64_t)got;
        progress_add(progress, (uint64_t)got);
    }
    if (got < 0) {
        shoal_writer_abort(writer);
        shoal_fail(SHOAL_E_IO, "%s could not be read to its end; nothing was stored", source->name);
        return false;
    }
    int rc = shoal_writer_finish(writer, request);
    request->status = rc;
    return rc == 0;
}

/* One message when it fits into one stripe and its length is known. */
static bool store(struct shoal *shoal, const struct source *source, struct shoal_request *request,
                  uint8_t *buffer, struct progress *progress)
{
    request->op = SHOAL_OP_PUT;
    if (source->size > CHUNK_BYTES)
        return stream(shoal, source, request, buffer, progress);
    ssize_t got = source_read(source, buffer, CHUNK_BYTES);
    struct iovec iov = {buffer, got > 0 ? (size_t)got : 0};
    if (got < 0) {
        shoal_fail(SHOAL_E_IO, "nothing was stored");
        return false;
    }
    request->iov = &iov;
    request->iov_count = 1;
    int rc = shoal_run(shoal, request);
    request->iov = NULL;
    progress_add(progress, iov.iov_len);
    return rc == 0;
}

static bool store_content(struct shoal *shoal, struct source *source,
                          struct shoal_request *request, uint8_t *buffer,
                          struct progress *progress)
{
    request->flags |= SHOAL_CONTENT;
    if (source->fd == STDIN_FILENO && !source_spool(source, buffer))
        return false;
    if (source->size <= CHUNK_BYTES)
        return store(shoal, source, request, buffer, progress);
    struct client_hash *hash = client_hash_create();
    struct blob_key key;
    ssize_t got;
    if (hash == NULL)
        return false;
    client_hash_begin(hash);
    while ((got = source_read(source, buffer, CHUNK_BYTES)) > 0)
        client_hash_update(hash, buffer, (size_t)got);
    bool ok = got == 0 && client_hash_finish(hash, &key) == 0;
    client_hash_destroy(hash);
    if (!ok || lseek(source->fd, 0, SEEK_SET) != 0)
        return false;
    memcpy(request->key.bytes, key.bytes, sizeof key.bytes);
    request->op = SHOAL_OP_STAT;
    int rc = shoal_run(shoal, request);
    if (rc == 0) {
        request->existed = true;
        progress_add(progress, source->size);
        return true;
    }
    if (rc != SHOAL_E_NOT_FOUND)
        return false;
    request->flags |= SHOAL_IF_ABSENT;
    ok = stream(shoal, source, request, buffer, progress);
    if (!ok && request->status == SHOAL_E_EXISTS) {
        request->existed = true; /* somebody else was faster, with the same bytes */
        ok = true;
    }
    return ok;
}

static int report(const struct arguments *arguments, const struct shoal_request *request,
                  uint64_t elapsed_ns)
{
    char key[2 * SHOAL_KEY_BYTES + 1], version[64];
    cli_key_hex(&request->key, key);
    shoal_version_print(&request->version, version, sizeof version);
    if (arguments->common.json) {
        json_t *json = json_pack("{s:s, s:s, s:I, s:s, s:b, s:f}", "pool", request->pool, "key",
                                 key, "size", (json_int_t)request->size, "version", version,
                                 "existed", (int)request->existed, "seconds",
                                 (double)elapsed_ns / 1e9);
        if (request->name != NULL)
            json_object_set_new(json, "name", json_string(request->name));
        return cli_print_json(json);
    }
    if (arguments->content)
        printf("%s %s\n", key, request->existed ? "existed" : "new");
    else if (!arguments->quiet && isatty(STDOUT_FILENO))
        printf("Stored %s in %s (%s), version %s.\n", format_bytes(request->size).text,
               format_duration(elapsed_ns).text, format_rate(request->size, elapsed_ns).text,
               version);
    return EXIT_DONE;
}

static int put_one(const struct arguments *arguments, struct shoal *shoal,
                   struct shoal_request *request, const char *path)
{
    struct source source;
    struct progress progress;
    if (!source_open(&source, path))
        return EXIT_FAILED;
    uint8_t *buffer = malloc(CHUNK_BYTES);
    uint64_t started = cli_now_ns();
    progress_begin(&progress, "put", source.size == UINT64_MAX ? 0 : source.size,
                   !arguments->quiet && !arguments->common.json);
    shoal_fail(SHOAL_E_NO_MEMORY, "out of memory");
    bool ok = buffer != NULL &&
              (arguments->content ? store_content(shoal, &source, request, buffer, &progress)
                                  : store(shoal, &source, request, buffer, &progress));
    progress_end(&progress);
    free(buffer);
    source_close(&source);
    return ok ? report(arguments, request, cli_now_ns() - started) : cli_fail_shoal();
}

static int put_checked(const struct arguments *arguments, char **values, int count)
{
    struct shoal_request request = {.op = SHOAL_OP_PUT, .ttl_s = (uint32_t)arguments->ttl};
    struct shoal *shoal;
    const char *path = count == 2 ? values[1] : "-";
    if (arguments->if_absent)
        request.flags |= SHOAL_IF_ABSENT;
    if (arguments->if_version != NULL) {
        request.flags |= SHOAL_IF_VERSION;
        if (shoal_version_parse(arguments->if_version, &request.expected) != 0)
            return cli_fail_shoal();
    }
    if (arguments->content) {
        if (strchr(values[0], '/') != NULL)
            return cli_fail("--content takes a pool and a file, not a name: '%s'", values[0]);
        request.pool = values[0];
    } else if (arguments->recursive && strchr(values[0], '/') == NULL) {
        request.pool = values[0];
    } else if (!cli_blob(values[0], &request)) {
        return EXIT_FAILED;
    }
    struct shoal_options handle = {.requests_max = TREE_DEPTH};
    if (shoal_open(arguments->common.config, &handle, &shoal) != 0)
        return cli_fail_shoal();
    int status = arguments->recursive
                     ? tree_put(shoal, &request, path, arguments->common.json, arguments->quiet)
                     : put_one(arguments, shoal, &request, path);
    shoal_close(shoal);
    return status;
}

int cli_put(int argc, char **argv)
{
    struct arguments arguments;
    struct options_arguments positional;
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    if (arguments.recursive && (arguments.content || positional.count != 2)) {
        (void)options_usage_error(&command, "-r takes POOL/PREFIX and a directory, and no --content");
        status = EXIT_USAGE;
    } else {
        status = put_checked(&arguments, positional.values, positional.count);
    }
    options_free(&command, &arguments);
    return status;
}
