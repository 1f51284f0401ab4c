/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "engine/internal.h"
#include "engine/record.h"
#include "shoal/error.h"

/* A person reads this: beyond so many entries it says how many more there are. */
#define ENTRIES_SHOWN 1000u
#define GROUPS_SHOWN 64u

static const char *const forms[] = {"?", "bytes", "marker", "tombstone"};
static const char *const kinds[] = {"?", "head", "stripe", "upload"};

static void print_superblock(const struct superblock *sb, const struct layout *layout, FILE *out)
{
    char cluster[33];
    hex_encode(sb->cluster, sizeof sb->cluster, cluster);
    fprintf(out,
            "{\n  \"format_version\": %u,\n  \"cluster\": \"%s\",\n  \"target\": %u,\n"
            "  \"partition_bits\": %u,\n  \"sequence\": %" PRIu64 ",\n  \"generation\": %" PRIu64
            ",\n  \"stale\": %s,\n",
            SUPERBLOCK_VERSION, cluster, sb->target, sb->partition_bits, sb->sequence,
            sb->generation, sb->stale ? "true" : "false");
    fprintf(out,
            "  \"layout\": {\"blocks\": %" PRIu64 ", \"journal_start\": %" PRIu64
            ", \"journal_blocks\": %" PRIu64 ", \"checkpoint_start\": [%" PRIu64 ", %" PRIu64
            "], \"checkpoint_blocks\": %" PRIu64 ", \"extent_start\": %" PRIu64
            ", \"extent_blocks\": %" PRIu64 ", \"segment_blocks\": %u, \"objects_max\": %" PRIu64
            "},\n",
            layout->blocks, layout->journal_start, layout->journal_blocks,
            layout->checkpoint_start[0], layout->checkpoint_start[1], layout->checkpoint_blocks,
            layout->extent_start, layout->extent_blocks, layout->segment_blocks,
            layout->objects_max);
}

static void print_checkpoints(struct engine *engine, FILE *out)
{
    fprintf(out, "  \"checkpoints\": [");
    for (unsigned i = 0; i < 2; i++) {
        struct checkpoint_head head;
        int rc = checkpoint_read_head(engine, i, &head);
        if (rc != 0)
            fprintf(out, "%s{\"error\": \"%s\"}", i == 0 ? "" : ", ", shoal_error_name(rc));
        else
            fprintf(out,
                    "%s{\"id\": %" PRIu64 ", \"generation\": %" PRIu64 ", \"position\": %" PRIu64
                    ", \"first_seq\": %" PRIu64 ", \"chunks\": %u, \"blocks\": %" PRIu64
                    ", \"committed\": %" PRIu64 ", \"prepared\": %" PRIu64 "}",
                    i == 0 ? "" : ", ", head.id, head.generation, head.position, head.first_seq,
                    head.chunks, head.blocks, head.committed, head.prepared);
    }
    fprintf(out, "],\n");
}

/* The groups that a reader of the ring meets, wherever it starts; whole ones and others. */
static void print_journal(struct engine *engine, FILE *out)
{
    const struct layout *layout = &engine->layout;
    unsigned shown = 0;
    uint64_t groups = 0;
    fprintf(out, "  \"journal\": [");
    for (uint64_t at = 0; at < layout->journal_blocks;) {
        struct group_header header;
        uint64_t blocks =
            MIN((uint64_t)(GROUP_BYTES_MAX / LAYOUT_BLOCK), layout->journal_blocks - at);
        int rc = dev_read(engine->dev, (layout->journal_start + at) * LAYOUT_BLOCK, engine->chunk,
                          blocks * LAYOUT_BLOCK);
        if (rc != 0 || group_decode(engine->chunk, engine->sb.device, &header) != 0 ||
            header.blocks > blocks) {
            at++;
            continue;
        }
        bool whole = group_check(engine->chunk, &header) == 0;
        groups++;
        if (shown < GROUPS_SHOWN)
            fprintf(out,
                    "%s\n    {\"position\": %" PRIu64 ", \"generation\": %" PRIu64
                    ", \"first_seq\": %" PRIu64 ", \"records\": %u, \"barrier\": %" PRIu64
                    ", \"whole\": %s}",
                    shown++ == 0 ? "" : ",", header.position, header.generation, header.first_seq,
                    header.records, header.barrier, whole ? "true" : "false");
        at += whole ? header.blocks : 1;
    }
    fprintf(out, "],\n  \"journal_groups\": %" PRIu64 ",\n", groups);
}

static void print_entry(const struct state_piece *piece, bool prepared, bool first, FILE *out)
{
    char key[2 * BLOB_KEY_BYTES + 1];
    hex_encode(piece->id.key.bytes, BLOB_KEY_BYTES, key);
    fprintf(out,
            "%s\n    {\"pool\": %u, \"key\": \"%s\", \"version\": \"%" PRIu64 ".%u.%" PRIu64
            "\", \"kind\": \"%s\", \"form\": \"%s\", \"prepared\": %s, \"hollow\": %s, \"torn\": %s, "
            "\"shard_len\": %u, \"block\": %" PRIu64 "}",
            first ? "" : ",", piece->id.pool, key, piece->version.epoch, piece->version.incarnation,
            piece->version.counter, kinds[piece->kind & 3], forms[piece->form & 3],
            prepared ? "true" : "false", piece->hollow ? "true" : "false",
            piece->torn ? "true" : "false", piece->shard_len, piece->place.block);
}

static void print_entries(struct engine *engine, FILE *out)
{
    struct index_item items[INDEX_TABLE_MAX];
    struct index_key key = {0, 0}, next;
    unsigned shown = 0;
    fprintf(out, "  \"entries\": [");
    list_for_each(&engine->prepared.all, struct prepared, in_all, prepared) {
        struct state_piece piece = {.id = prepared->id,
                                    .version = prepared->version,
                                    .kind = prepared->kind,
                                    .form = prepared->form,
                                    .hollow = prepared->hollow,
                                    .torn = prepared->torn,
                                    .shard_len = prepared->shard_len,
                                    .place = prepared->place};
        if (shown < ENTRIES_SHOWN)
            print_entry(&piece, true, shown++ == 0, out);
    }
    for (; key.partition < 1u << engine->sb.partition_bits; key = next) {
        unsigned count = index_walk_table(&engine->index, &key, items, NULL, &next);
        for (unsigned i = 0; i < count && shown < ENTRIES_SHOWN; i++) {
            struct state_piece piece;
            state_piece_of(engine, &items[i], &piece);
            print_entry(&piece, false, shown++ == 0, out);
        }
    }
    fprintf(out,
            "],\n  \"committed\": %" PRIu64 ",\n  \"prepared\": %u,\n  \"bytes_used\": %" PRIu64
            "\n}\n",
            engine->index.count, prepared_count(&engine->prepared),
            engine->alloc.blocks_used * LAYOUT_BLOCK);
}

int engine_inspect(struct dev *dev, struct dma_arena *arena, FILE *out)
{
    static const struct engine_config config = {0};
    struct superblock sb;
    struct superblock_found found;
    struct engine *engine;
    void *block = dma_get(arena, LAYOUT_BLOCK);
    if (block == NULL)
        return SHOAL_E_NO_MEMORY;
    int rc = superblock_load(dev, block, &sb, &found);
    dma_put(arena, block);
    if (rc == 0 && sb.blocks > dev->size_bytes / LAYOUT_BLOCK)
        rc = SHOAL_E_INVALID;
    if (rc == 0)
        rc = engine_setup(dev, arena, &config, &sb, &engine);
    if (rc != 0)
        return rc;
    print_superblock(&sb, &engine->layout, out);
    print_checkpoints(engine, out);
    print_journal(engine, out);
    char problem[256] = "";
    struct recovery recovery = {.problem = problem, .problem_size = sizeof problem};
    rc = recovery_run(engine, &recovery);
    fprintf(out, "  \"replayed\": %" PRIu64 ",\n  \"problem\": \"%s\",\n", recovery.replayed,
            problem);
    recovery_free(&recovery);
    print_entries(engine, out);
    engine_teardown(engine);
    return rc;
}
