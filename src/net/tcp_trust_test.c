/* SPDX-License-Identifier: Apache-2.0 */
/* Who may connect to whom, in which version, and what turned bits come to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/macros.h"
#include "net/test_tcp.h"
#include "shoal/error.h"

static char log_text[16384];

static void collect(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    size_t len = strlen(log_text);
    snprintf(log_text + len, sizeof log_text - len, "%s\n", line);
}

static bool logged(const char *text)
{
    return strstr(log_text, text) != NULL;
}

static int quiet(void **state)
{
    (void)state;
    log_text[0] = '\0';
    log_set_sink(collect, NULL);
    return 0;
}

static int loud(void **state)
{
    (void)state;
    log_set_sink(NULL, NULL);
    return 0;
}

static void issue(struct rig *rig, struct net_cert_request request)
{
    request.directory = test_directory;
    RIG_ASSERT_EQUAL(rig, net_cert_issue_for(test_directory, &request), 0);
}

static int call_as(struct rig *rig, const char *stem)
{
    struct net *net = test_net(rig, stem, "ca", rig->backend == RIG_TCP_PLAIN);
    int error = test_call_from(rig, net, net_listener_address(rig->listener), "server");
    net_destroy(net);
    return error;
}

static void foreign_authority(struct rig *rig)
{
    char other[128];
    snprintf(other, sizeof other, "%s/other", test_directory);
    RIG_ASSERT_EQUAL(rig, net_cert_create_ca(other, "reef"), 0);
    RIG_ASSERT_EQUAL(
        rig, net_cert_issue(other, NET_ROLE_CLIENT, "client", test_directory, "foreign"), 0);
    RIG_ASSERT_EQUAL(rig, call_as(rig, "foreign"), SHOAL_E_DENIED);
    RIG_ASSERT(rig, logged("it was not issued by this cluster's authority"));
    RIG_ASSERT(rig, logged("refuses our certificate"));
    RIG_ASSERT_EQUAL(rig, rig->served, 0);
    /* And the other way round: a client that trusts another authority refuses the server. */
    struct net *net = test_net(rig, "client", "other/ca", false);
    RIG_ASSERT_EQUAL(rig, test_call_from(rig, net, net_listener_address(rig->listener), NULL),
                     SHOAL_E_DENIED);
    net_destroy(net);
}

static void a_certificate_of_another_authority_is_denied(void **state)
{
    (void)state;
    rig_run(RIG_TCP_TLS, foreign_authority);
    rig_run(RIG_TCP_PLAIN, foreign_authority);
}

static void expired(struct rig *rig)
{
    issue(rig, (struct net_cert_request){
                   .role = NET_ROLE_CLIENT, .name = "client", .stem = "expired", .valid_s = -60});
    RIG_ASSERT_EQUAL(rig, call_as(rig, "expired"), SHOAL_E_DENIED);
    RIG_ASSERT(rig, logged("has expired"));
}

static void an_expired_certificate_is_denied(void **state)
{
    (void)state;
    rig_run(RIG_TCP_TLS, expired);
}

static void other_cluster(struct rig *rig)
{
    issue(rig, (struct net_cert_request){
                   .role = NET_ROLE_CLIENT, .name = "client", .stem = "atoll", .cluster = "atoll"});
    RIG_ASSERT_EQUAL(rig, call_as(rig, "atoll"), SHOAL_E_DENIED);
    RIG_ASSERT(rig, logged("of cluster atoll") || logged("of cluster reef"));
    RIG_ASSERT_EQUAL(rig, rig->served, 0);
}

static void a_certificate_of_another_cluster_is_denied(void **state)
{
    (void)state;
    rig_run(RIG_TCP_TLS, other_cluster);
}

static void client_serves(struct rig *rig)
{
    const struct net_service nobody = {NULL, NULL};
    struct net_listener *listener = NULL;
    struct net *net = test_net(rig, "client", "ca", false);
    RIG_ASSERT_EQUAL(rig, net_listen(net, "127.0.0.1:0", &nobody, &listener), 0);
    RIG_ASSERT_EQUAL(rig,
                     test_call_from(rig, rig->client_net, net_listener_address(listener), NULL),
                     SHOAL_E_DENIED);
    RIG_ASSERT(rig, logged("serves with the certificate of a client"));
    net_listener_close(listener);
    net_destroy(net);
}

static void a_client_cannot_pose_as_a_server(void **state)
{
    (void)state;
    rig_run(RIG_TCP_TLS, client_serves);
}

static void one_side_plain(struct rig *rig)
{
    struct net *net = test_net(rig, "client", "ca", rig->backend != RIG_TCP_PLAIN);
    RIG_ASSERT_EQUAL(rig, test_call_from(rig, net, net_listener_address(rig->listener), "server"),
                     0);
    net_destroy(net);
}

static void where_one_side_wants_tls_it_is_tls(void **state)
{
    (void)state;
    rig_run(RIG_TCP_TLS, one_side_plain);
    rig_run(RIG_TCP_PLAIN, one_side_plain);
}

/* ---- versions ---- */

struct version_case {
    const char *address;
    int listen_fd;
    int result;
    uint16_t status;
};

static void speak_newer(void *arg)
{
    struct version_case *one = arg;
    struct raw *raw = malloc(sizeof *raw);
    struct tcp_frame frame;
    uint8_t header[NET_HEADER_MAX];
    one->result = raw_open(raw, raw_socket(one->address), "client", false);
    if (one->result == 0)
        one->result = raw_hello(raw, TCP_VERSION_MAX + 1, TCP_VERSION_MAX + 3);
    if (one->result == 0)
        one->result = raw_receive(raw, &frame, header);
    if (one->result == 0)
        one->status = frame.type == TCP_REFUSE ? frame.status : 0;
    raw_close(raw);
    free(raw);
}

static void newer_client(struct rig *rig)
{
    struct version_case one = {.address = net_listener_address(rig->listener)};
    test_in_thread(rig, speak_newer, &one);
    RIG_ASSERT_EQUAL(rig, one.result, 0);
    RIG_ASSERT_EQUAL(rig, one.status, -SHOAL_E_VERSION);
    RIG_ASSERT(rig, logged("speaks versions 2 to 4 of the protocol"));
}

static void a_client_of_another_version_is_told_so(void **state)
{
    (void)state;
    rig_run(RIG_TCP_TLS, newer_client);
}

static void serve_newer(void *arg)
{
    struct version_case *one = arg;
    struct raw *raw = malloc(sizeof *raw);
    struct tcp_frame frame;
    uint8_t header[NET_HEADER_MAX];
    one->result = raw_open(raw, accept(one->listen_fd, NULL, NULL), "server", true);
    if (one->result == 0)
        one->result = raw_receive(raw, &frame, header);
    if (one->result == 0)
        one->result = raw_hello(raw, TCP_VERSION_MAX + 1, TCP_VERSION_MAX + 1);
    raw_receive(raw, &frame, header);
    raw_close(raw);
    free(raw);
}

static void *serve_newer_thread(void *arg)
{
    serve_newer(arg);
    return NULL;
}

static void newer_server(struct rig *rig)
{
    char address[NET_ADDRESS_MAX];
    struct version_case one = {.listen_fd = raw_listen(address, sizeof address)};
    pthread_t thread;
    RIG_ASSERT_EQUAL(rig, pthread_create(&thread, NULL, serve_newer_thread, &one), 0);
    RIG_ASSERT_EQUAL(rig, test_call_from(rig, rig->client_net, address, NULL), SHOAL_E_VERSION);
    pthread_join(thread, NULL);
    close(one.listen_fd);
}

static void a_server_of_another_version_is_a_version_error(void **state)
{
    (void)state;
    rig_run(RIG_TCP_TLS, newer_server);
}

/* ---- turned bits ---- */

static void flipped(struct rig *rig)
{
    struct proxy proxy;
    struct net_peer *direct = rig->peer;
    proxy_start(&proxy, net_listener_address(rig->listener));
    RIG_ASSERT_EQUAL(rig, net_peer_open(rig->client_net, proxy.address, "server", 4, &rig->peer),
                     0);
    const uint32_t len = 40000;
    const struct iovec room = {rig->client_buffer, len};
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL), 0);
    /* Frame, tag, message header and payload, in both directions. */
    static const unsigned offsets[] = {0, 9, 17, 30, 49, 61, 65, 79, 81, 84, 90, 20000, 40000};
    for (unsigned i = 0; i < 2 * ARRAY_LEN(offsets); i++) {
        unsigned at = offsets[i / 2];
        if (i % 2 == 0 && at > 84)
            continue; /* a CALL is not longer */
        do {
            fiber_sleep(20 * RIG_MS); /* past the pause after the last broken connection */
        } while (rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL) != 0);
        proxy_set(&proxy, PROXY_FLIP, i % 2 == 1, at);
        int error = rig_call_payload(rig, RIG_SOURCE, len, 15000, NULL, 0, &room, 1, NULL);
        RIG_ASSERT_EQUAL(rig, error, SHOAL_E_CONNECTION);
    }
    /* In what a handler pulls: it is told so itself. */
    do {
        fiber_sleep(20 * RIG_MS);
    } while (rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL) != 0);
    proxy_set(&proxy, PROXY_FLIP, false, 20000);
    RIG_ASSERT_EQUAL(rig, rig_call_payload(rig, RIG_SINK, 0, 15000, &room, 1, NULL, 0, NULL),
                     SHOAL_E_CONNECTION);
    while (rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
    RIG_ASSERT_EQUAL(rig, rig->last_pull,
                     rig->backend == RIG_TCP_PLAIN ? SHOAL_E_CORRUPT : SHOAL_E_CONNECTION);
    net_peer_close(rig->peer);
    rig->peer = direct;
    proxy_stop(&proxy);
}

static void a_turned_bit_anywhere_ends_the_connection(void **state)
{
    (void)state;
    rig_run(RIG_TCP_PLAIN, flipped);
    assert_true(logged("wrong tag"));
    assert_true(logged("malformed frame"));
    assert_true(logged("payload does not match its checksum"));
}

static void a_turned_bit_in_tls_ends_the_connection(void **state)
{
    (void)state;
    rig_run(RIG_TCP_TLS, flipped);
}

/* ---- certificates on disk ---- */

static void files(struct rig *rig)
{
    char name[128];
    struct stat stat_key;
    snprintf(name, sizeof name, "%s/client.key", test_directory);
    RIG_ASSERT_EQUAL(rig, stat(name, &stat_key), 0);
    RIG_ASSERT_EQUAL(rig, stat_key.st_mode & 0777, 0600);

    /* Reloading what is broken changes nothing; what is good is used by the next connection. */
    issue(rig, (struct net_cert_request){.role = NET_ROLE_ADMIN, .name = "x", .stem = "moving"});
    struct net *net = test_net(rig, "moving", "ca", false);
    RIG_ASSERT_EQUAL(rig, net_tcp_identity(net)->role, NET_ROLE_ADMIN);
    snprintf(name, sizeof name, "%s/moving.crt", test_directory);
    RIG_ASSERT_EQUAL(rig, file_write_atomic(name, "rubbish", 7, 0600), 0);
    RIG_ASSERT_EQUAL(rig, net_tcp_reload(net), SHOAL_E_CONFIG);
    const char *address = net_listener_address(rig->listener);
    RIG_ASSERT_EQUAL(rig, test_call_from(rig, net, address, "server"), 0);
    issue(rig, (struct net_cert_request){.role = NET_ROLE_CLIENT, .name = "y", .stem = "moving"});
    RIG_ASSERT_EQUAL(rig, net_tcp_reload(net), 0);
    RIG_ASSERT(rig, strcmp(net_tcp_identity(net)->name, "y") == 0);
    RIG_ASSERT_EQUAL(rig, test_call_from(rig, net, address, "server"), 0);
    net_destroy(net);
}

static void certificates_can_be_replaced_while_serving(void **state)
{
    (void)state;
    rig_run(RIG_TCP_TLS, files);
}

/* Nobody says a word: the next connections, called and answered, are those of the new files. */
static void renewed(struct rig *rig)
{
    uint8_t reply[64];
    size_t len = 0;
    struct net_peer *kept = rig->peer;
    const char *address = net_listener_address(rig->listener);
    issue(rig, (struct net_cert_request){.role = NET_ROLE_ADMIN, .name = "old", .stem = "renewed"});
    struct net *net = test_net(rig, "renewed", "ca", false);
    RIG_ASSERT_EQUAL(rig, test_call_from(rig, net, address, "server"), 0);
    issue(rig, (struct net_cert_request){.role = NET_ROLE_CLIENT, .name = "new", .stem = "renewed"});
    issue(rig, (struct net_cert_request){.role = NET_ROLE_NODE, .name = "newer", .stem = "server"});
    fiber_sleep(1100 * RIG_MS);
    RIG_ASSERT_EQUAL(rig, net_peer_open(net, address, "newer", 4, &rig->peer), 0);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ROLE, 0, 15000, reply, &len), 0);
    RIG_ASSERT(rig, len == 4 && reply[0] == NET_ROLE_CLIENT && memcmp(reply + 1, "new", 3) == 0);
    net_peer_close(rig->peer);
    rig->peer = kept;
    net_destroy(net);
    issue(rig, (struct net_cert_request){.role = NET_ROLE_NODE, .name = "server", .stem = "server"});
}

static void renewed_certificates_are_noticed(void **state)
{
    (void)state;
    rig_run(RIG_TCP_TLS, renewed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_certificate_of_another_authority_is_denied, quiet, loud),
        cmocka_unit_test_setup_teardown(an_expired_certificate_is_denied, quiet, loud),
        cmocka_unit_test_setup_teardown(a_certificate_of_another_cluster_is_denied, quiet, loud),
        cmocka_unit_test_setup_teardown(a_client_cannot_pose_as_a_server, quiet, loud),
        cmocka_unit_test_setup_teardown(where_one_side_wants_tls_it_is_tls, quiet, loud),
        cmocka_unit_test_setup_teardown(a_client_of_another_version_is_told_so, quiet, loud),
        cmocka_unit_test_setup_teardown(a_server_of_another_version_is_a_version_error, quiet,
                                        loud),
        cmocka_unit_test_setup_teardown(a_turned_bit_anywhere_ends_the_connection, quiet, loud),
        cmocka_unit_test_setup_teardown(a_turned_bit_in_tls_ends_the_connection, quiet, loud),
        cmocka_unit_test_setup_teardown(certificates_can_be_replaced_while_serving, quiet, loud),
        cmocka_unit_test_setup_teardown(renewed_certificates_are_noticed, quiet, loud),
    };
    test_limits.handshake_ms = 10000;
    return cmocka_run_group_tests_name("tcp trust", tests, test_certificates_make,
                                       test_certificates_remove);
}
