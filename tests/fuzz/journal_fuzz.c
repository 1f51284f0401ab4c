/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Journals: records under valid checksums, of which no engine would have written all. The engine
 * opens with what can be, or refuses; it reads no byte that was never written, and fsck holds.
 */
#include "engine/record.h"
#include "engine_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t group[GROUP_BYTES_MAX];
    host_start();
    size = MIN(size, (size_t)GROUP_BYTES_MAX / 2);
    memcpy(group + GROUP_HEADER_BYTES, data, size);
    struct decoder in = decoder_init(data, size);
    uint32_t records = 0;
    struct record record;
    while (decoder_left(&in) > 0) {
        record_decode(&in, &record);
        if (!decoder_ok(&in))
            break;
        records++;
    }
    struct group_header header = {.device = host.sb.device,
                                  .generation = host.sb.generation,
                                  .first_seq = 1,
                                  .records = records + (size > 0 && (data[size - 1] & 1)),
                                  .barrier = records / 2,
                                  .bytes = (uint32_t)(GROUP_HEADER_BYTES + size)};
    group_seal(group, &header);
    dev_sim_store_write(host.store, host.layout.journal_start * LAYOUT_BLOCK, group,
                        (size_t)header.blocks * LAYOUT_BLOCK);
    host_try();
    return 0;
}
