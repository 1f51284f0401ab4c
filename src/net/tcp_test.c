/* SPDX-License-Identifier: Apache-2.0 */
#include "net/test_tcp.h"

int main(void)
{
    int failed = 0;
    test_certificates_make(NULL);
    test_limits = (struct test_limits){.handshake_ms = 20000, .stall_ms = 20000, .ping_ms = 5000};
    rig_promises(RIG_TCP_TLS, "net over tcp with TLS", &failed);
    rig_promises(RIG_TCP_PLAIN, "net over tcp, plain", &failed);
    test_certificates_remove(NULL);
    return failed;
}
