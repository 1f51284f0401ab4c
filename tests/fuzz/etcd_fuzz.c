/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a member of etcd answers, by the first byte of the input: a transaction, a lease, a line of a
 * watch, an error, or the leader's key. What is taken keeps what its header promises.
 */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "cluster/etcd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void txn(const char *text, size_t len, bool put)
{
    const struct etcd_txn asked = {.put_key = put ? "p/map" : NULL,
                                   .reads = {{"p/leader", false}, {"p/map", true}},
                                   .reads_count = 2};
    struct etcd_answer answer;
    if (etcd_txn_parse(text, len, &asked, &answer) == 0) {
        CHECK(answer.revision > 0);
        for (unsigned i = 0; i < 2; i++) {
            const struct etcd_value *value = &answer.values[i];
            CHECK(value->modified >= value->created && value->created >= 0);
            CHECK(value->bytes == NULL || (value->created > 0 && value->bytes[value->len] == 0));
        }
    }
    etcd_answer_free(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    size_t len = size - 1;
    int64_t lease, ttl_s;
    bool changed;
    char words[64];
    struct etcd_leader leader;
    switch (data[0] % 6) {
    case 0:
    case 1:
        txn(text, len, data[0] % 6 == 1);
        break;
    case 2:
        if (etcd_lease_parse(text, len, (data[0] & 64) != 0, &lease, &ttl_s) == 0)
            CHECK(lease > 0 && ttl_s >= 0);
        break;
    case 3:
        CHECK(etcd_watch_parse(text, len, &changed) == 0 || !changed);
        break;
    case 4:
        CHECK(etcd_error_parse(text, len, words, sizeof words) > 0);
        CHECK(strlen(words) < sizeof words);
        break;
    default:
        if (etcd_leader_parse(text, len, &leader) == 0)
            CHECK(leader.name[0] != 0 && strlen(leader.address) < sizeof leader.address);
    }
    return 0;
}
