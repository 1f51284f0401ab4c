/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: entries under valid checksums, which may be no entries at all. */
#include "engine_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t chunk_data[CHECKPOINT_CHUNK_BYTES];
    uint8_t head_data[LAYOUT_BLOCK];
    host_start();
    size = MIN(size, (size_t)65536);
    memcpy(chunk_data + CHECKPOINT_CHUNK_HEADER, data, size);
    struct checkpoint_chunk chunk = {.device = host.sb.device,
                                     .id = 9,
                                     .entries = (uint32_t)(size / CHECKPOINT_COMMITTED_BYTES),
                                     .space = CHECKPOINT_COMMITTED,
                                     .end = {.partition = 1u << HOST_BITS}};
    checkpoint_chunk_seal(chunk_data, CHECKPOINT_CHUNK_HEADER + size, &chunk);
    struct checkpoint_head head = {.device = host.sb.device,
                                   .id = 9,
                                   .generation = 1,
                                   .first_seq = 1,
                                   .chunks = 1,
                                   .blocks = chunk.blocks,
                                   .committed = chunk.entries};
    checkpoint_head_encode(head_data, &head);
    uint64_t at = host.layout.checkpoint_start[1] * LAYOUT_BLOCK;
    dev_sim_store_write(host.store, at, head_data, sizeof head_data);
    dev_sim_store_write(host.store, at + LAYOUT_BLOCK, chunk_data,
                        (size_t)chunk.blocks * LAYOUT_BLOCK);
    host_try();
    return 0;
}
