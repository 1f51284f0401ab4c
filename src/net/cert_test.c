/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "net/net.h"
#include "shoal/error.h"

static char home[] = "/tmp/shoal-cert-test-XXXXXX";
static char ca[64], node[64];

static const char *in(const char *directory, const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static int make_ca(void **state)
{
    (void)state;
    if (mkdtemp(home) == NULL)
        return -1;
    snprintf(ca, sizeof ca, "%s/ca", home);
    snprintf(node, sizeof node, "%s/node", home);
    return net_cert_create_ca(ca, "reef");
}

static int remove_all(void **state)
{
    (void)state;
    return file_remove_tree(home);
}

static char *request_of(const char *name)
{
    const struct net_cert_request request = {
        .role = NET_ROLE_NODE, .name = name, .directory = node, .stem = "node"};
    char *csr;
    assert_int_equal(net_cert_request(&request, &csr), 0);
    return csr;
}

static int check(struct net_cert_info *info, char *why)
{
    return net_cert_check(in(node, "node.crt"), in(node, "node.key"), in(ca, "ca.crt"), info, why,
                          256);
}

static void a_request_becomes_a_certificate_of_what_the_signer_says(void **state)
{
    struct net_identity wanted;
    struct net_cert_info info;
    struct stat about;
    char why[256], *certificate, *csr = request_of("asked");
    const struct net_cert_request request = {.role = NET_ROLE_NODE, .name = "given",
                                             .valid_s = 3600};
    (void)state;
    assert_int_equal(net_cert_request_read(csr, &wanted), 0);
    assert_string_equal(wanted.name, "asked");
    assert_int_equal(wanted.role, NET_ROLE_NODE);
    assert_null(strstr(csr, "PRIVATE"));
    assert_int_equal(net_cert_sign(ca, csr, &request, &certificate), 0);
    assert_int_equal(
        file_write_atomic(in(node, "node.crt"), certificate, strlen(certificate), 0600), 0);
    assert_int_equal(check(&info, why), 0);
    assert_string_equal(info.identity.name, "given");
    assert_string_equal(info.identity.cluster, "reef");
    assert_int_equal(strlen(info.fingerprint), 64);
    int64_t now = (int64_t)time(NULL);
    assert_true(info.valid_from_s <= now && info.valid_until_s > now + 3500 &&
                info.valid_until_s <= now + 3600);
    assert_int_equal(stat(in(node, "node.key"), &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    free(csr);
    free(certificate);
}

static void a_request_that_was_altered_is_refused(void **state)
{
    struct net_identity wanted;
    const struct net_cert_request request = {.role = NET_ROLE_NODE, .name = "x"};
    char *certificate, *csr = request_of("x");
    (void)state;
    /* The middle of the body is the public key, or the signature over all: neither may turn. */
    char *at = csr + strlen(csr) / 2;
    *at = *at == 'A' ? 'B' : 'A';
    assert_int_equal(net_cert_request_read(csr, &wanted), SHOAL_E_INVALID);
    assert_int_equal(net_cert_sign(ca, csr, &request, &certificate), SHOAL_E_INVALID);
    assert_null(certificate);
    assert_int_equal(net_cert_request_read("", &wanted), SHOAL_E_INVALID);
    assert_int_equal(net_cert_request_read("rubbish", &wanted), SHOAL_E_INVALID);
    free(csr);
}

static void expect_wrong(const char *words)
{
    struct net_cert_info info;
    char why[256];
    assert_int_equal(check(&info, why), SHOAL_E_CONFIG);
    assert_non_null(strstr(why, words));
}

static void what_a_net_could_not_use_is_said(void **state)
{
    char other[80];
    struct net_cert_info info;
    (void)state;
    snprintf(other, sizeof other, "%s/other", home);
    assert_int_equal(net_cert_create_ca(other, "reef"), 0);
    assert_int_equal(net_cert_issue(other, NET_ROLE_NODE, "x", node, "node"), 0);
    expect_wrong("is not good by");
    struct net_cert_request request = {.role = NET_ROLE_NODE, .name = "x", .valid_s = -60,
                                       .directory = node, .stem = "node"};
    assert_int_equal(net_cert_issue_for(ca, &request), 0);
    expect_wrong("expired");
    request.valid_s = 0;
    assert_int_equal(net_cert_issue_for(ca, &request), 0);
    free(request_of("x")); /* makes another key */
    expect_wrong("is not the key of");
    assert_int_equal(unlink(in(node, "node.key")), 0);
    expect_wrong("cannot read");
    assert_int_equal(net_cert_read(in(node, "node.key"), &info), SHOAL_E_CONFIG);
    assert_int_equal(net_cert_read(in(ca, "ca.crt"), &info), SHOAL_E_DENIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_becomes_a_certificate_of_what_the_signer_says),
        cmocka_unit_test(a_request_that_was_altered_is_refused),
        cmocka_unit_test(what_a_net_could_not_use_is_said),
    };
    return cmocka_run_group_tests_name("cert", tests, make_ca, remove_all);
}
