/* SPDX-License-Identifier: Apache-2.0 */
/* Scattered memory: slices of it, its checksum, copies in and out. */
#include <string.h>

#include "base/crc32c.h"
#include "client/client_private.h"

int iov_slice(const struct iovec *iov, unsigned count, size_t offset, size_t len,
              struct iovec *out, unsigned max)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count && len > 0; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        if (n == max)
            return -1;
        size_t here = MIN(iov[i].iov_len - offset, len);
        out[n++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, here};
        len -= here;
        offset = 0;
    }
    return len == 0 ? (int)n : -1;
}

size_t iov_len(const struct iovec *iov, unsigned count)
{
    size_t len = 0;
    for (unsigned i = 0; i < count; i++)
        len += iov[i].iov_len;
    return len;
}

uint32_t iov_crc32c(const struct iovec *iov, unsigned count)
{
    uint32_t crc = 0;
    for (unsigned i = 0; i < count; i++)
        crc = crc32c(crc, iov[i].iov_base, iov[i].iov_len);
    return crc;
}

void iov_copy_in(const struct iovec *iov, unsigned count, size_t offset, const void *from,
                 size_t len)
{
    const uint8_t *at = from;
    for (unsigned i = 0; i < count && len > 0; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t here = MIN(iov[i].iov_len - offset, len);
        memcpy((uint8_t *)iov[i].iov_base + offset, at, here);
        at += here;
        len -= here;
        offset = 0;
    }
}

void iov_copy_out(const struct iovec *iov, unsigned count, size_t offset, void *to, size_t len)
{
    uint8_t *at = to;
    for (unsigned i = 0; i < count && len > 0; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t here = MIN(iov[i].iov_len - offset, len);
        memcpy(at, (const uint8_t *)iov[i].iov_base + offset, here);
        at += here;
        len -= here;
        offset = 0;
    }
}
