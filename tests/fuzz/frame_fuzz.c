/* SPDX-License-Identifier: Apache-2.0 */
/* Frames and HELLOs: any bytes are decoded or refused; what is decoded encodes to the same bytes.
 */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "net/tcp_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void frame(const uint8_t *data, bool mend)
{
    uint8_t bytes[TCP_FRAME_BYTES], again[TCP_FRAME_BYTES];
    struct tcp_frame decoded;
    memcpy(bytes, data, sizeof bytes);
    /* With the checksum right, so that the checks behind it are reached too. */
    if (mend) {
        store_le32(bytes, TCP_FRAME_MAGIC);
        store_le32(bytes + TCP_FRAME_BYTES - 4, crc32c(0, bytes, TCP_FRAME_BYTES - 4));
    }
    if (tcp_frame_decode(bytes, &decoded) != 0)
        return;
    CHECK(decoded.header_len <= NET_HEADER_MAX && decoded.payload_len <= TCP_CHUNK_MAX);
    CHECK((uint64_t)decoded.offset + decoded.payload_len <= decoded.total ||
          decoded.payload_len == 0);
    tcp_frame_encode(&decoded, again);
    CHECK(memcmp(bytes, again, sizeof bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= TCP_FRAME_BYTES) {
        frame(data, false);
        frame(data, true);
    }
    struct tcp_hello hello;
    if (tcp_hello_decode(data, size, &hello) == 0)
        CHECK(strnlen(hello.cluster, sizeof hello.cluster) < sizeof hello.cluster);
    return 0;
}
