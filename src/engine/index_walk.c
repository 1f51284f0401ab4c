/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/index.h"
#include "engine/index_table.h"

/* By hash, the lower first: what makes the order of a partition. */
static void sort_by_hash(const struct index *index, struct index_item *items, unsigned count,
                         uint64_t *hashes)
{
    for (unsigned i = 0; i < count; i++)
        hashes[i] = blob_id_hash(&items[i].id, index->secret);
    for (unsigned i = 1; i < count; i++) {
        struct index_item item = items[i];
        uint64_t hash = hashes[i];
        unsigned j = i;
        for (; j > 0 && hashes[j - 1] > hash; j--) {
            items[j] = items[j - 1];
            hashes[j] = hashes[j - 1];
        }
        items[j] = item;
        hashes[j] = hash;
    }
}

unsigned index_walk_table(const struct index *index, const struct index_key *key,
                          struct index_item *items, uint64_t *hashes, struct index_key *next)
{
    const struct index_partition *partition = &index->partitions[key->partition];
    const struct index_table *table = table_at(index, key);
    unsigned depth = table != NULL ? table->depth : partition->depth;
    uint64_t end = 0;
    if (depth > 0) {
        uint64_t width = UINT64_C(1) << (64 - depth);
        end = (key->hash & ~(width - 1)) + width;
    }
    *next = end == 0 ? (struct index_key){key->partition + 1, 0}
                     : (struct index_key){key->partition, end};
    if (table == NULL)
        return 0;
    unsigned count = 0;
    for (unsigned i = 0; i < table->count; i++) {
        if (key->hash != 0 && slot_hash(index, &table_slots(table)[i]) < key->hash)
            continue;
        slot_read(index, table, i, &items[count++]);
    }
    if (hashes != NULL)
        sort_by_hash(index, items, count, hashes);
    return count;
}

unsigned index_sample(struct index *index, uint64_t random, struct index_item *items)
{
    const struct index_table *table = dense_sample(&index->dense, random);
    if (table == NULL)
        return 0;
    for (unsigned i = 0; i < table->count; i++)
        slot_read(index, table, i, &items[i]);
    return table->count;
}
