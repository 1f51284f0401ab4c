/* SPDX-License-Identifier: Apache-2.0 */
/* shoal cert: looks at certificates, makes them by hand or by asking 'shoal cluster admit'. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/local.h"

#define CSR_MAX 65536u
#define DAY_S 86400

struct arguments {
    struct cli_common common;
    char *node, *ca, *role, *name, *out, *csr;
    uint64_t valid_ns, within_ns;
};

static const struct option_spec options[] = {
    CLI_COMMON_OPTIONS(struct arguments, common),
    {{"node", VALUE_STRING, offsetof(struct arguments, node), NULL, 1, 0, NULL,
      "Of the node with this node.yaml, and not of the client."}, 0, "FILE"},
    {{"role", VALUE_STRING, offsetof(struct arguments, role), "client", 0, 0,
      "client|node|authority|admin", "issue, request: what its holder is."}, 'r', "ROLE"},
    {{"name", VALUE_STRING, offsetof(struct arguments, name), NULL, 1, 63, NULL,
      "issue, request: who its holder is."}, 'n', "NAME"},
    {{"out", VALUE_STRING, offsetof(struct arguments, out), ".", 1, 0, NULL,
      "issue, request: the directory for NAME.crt, NAME.key, NAME.csr."}, 'o', "DIR"},
    {{"ca", VALUE_STRING, offsetof(struct arguments, ca), "/etc/shoal/certs", 1, 0, NULL,
      "issue: the directory of ca.crt and ca.key."}, 0, "DIR"},
    {{"csr", VALUE_STRING, offsetof(struct arguments, csr), NULL, 1, 0, NULL,
      "issue: what 'request' made elsewhere; role and name are then its own."}, 0, "FILE"},
    {{"valid", VALUE_DURATION, offsetof(struct arguments, valid_ns), "365d",
      UINT64_C(60000000000), 0, NULL, "issue: for how long."}, 0, NULL},
    {{"within", VALUE_DURATION, offsetof(struct arguments, within_ns), NULL, 0, 0, NULL,
      "renew: only if it expires within this time; 0: in any case."}, 0, NULL},
};
static const struct options_command command = {
    .name = "shoal cert", .arguments = "show|request|issue|renew [FILE]",
    .summary = "Show certificates; make a key and a request for one; issue one where the cluster's "
               "key is; renew one. A running program notices new files by itself.",
    .example = "shoal cert show\nshoal cert request --role client --name trainer\n"
               "shoal cert issue --csr trainer.csr --out .\n"
               "shoal cert renew --node /etc/shoal/node.yaml --within 30d",
    .min_arguments = 1, .max_arguments = 2,
    .options = options, .option_count = ARRAY_LEN(options),
};

/* Whose files, by --node or --config. */
struct holder {
    char ca[CLI_PATH_MAX], certificate[CLI_PATH_MAX], key[CLI_PATH_MAX];
    char admin_certificate[CLI_PATH_MAX], admin_key[CLI_PATH_MAX];
    char renewal[CLUSTER_ADDRESS_MAX];
};

static void copy(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text != NULL ? text : "");
}

static bool find_holder(const struct arguments *arguments, struct holder *holder)
{
    struct value_error why;
    if (arguments->node != NULL) {
        struct shoald_config config;
        if (shoald_config_load(arguments->node, &config, &why) != 0) {
            cli_fail("%s", why.text);
            return false;
        }
        *holder = (struct holder){.admin_certificate = ""};
        copy(holder->ca, sizeof holder->ca, config.ca);
        copy(holder->certificate, sizeof holder->certificate, config.certificate);
        copy(holder->key, sizeof holder->key, config.key);
        copy(holder->renewal, sizeof holder->renewal, config.renewal);
        shoald_config_free(&config);
        return true;
    }
    struct client_file file;
    if (client_file_load(arguments->common.config, &file, &why) != 0) {
        cli_fail("%s", why.text);
        return false;
    }
    copy(holder->ca, sizeof holder->ca, file.ca);
    copy(holder->certificate, sizeof holder->certificate, file.certificate);
    copy(holder->key, sizeof holder->key, file.key);
    copy(holder->admin_certificate, sizeof holder->admin_certificate, file.admin_certificate);
    copy(holder->admin_key, sizeof holder->admin_key, file.admin_key);
    copy(holder->renewal, sizeof holder->renewal, file.renewal);
    client_file_free(&file);
    return true;
}

/* ---- show ---- */

static int64_t left_s(const struct net_cert_info *info)
{
    return info->valid_until_s - (int64_t)time(NULL);
}

static bool show_one(const char *path, json_t *list)
{
    struct net_cert_info info;
    int rc = net_cert_read(path, &info);
    char until[32];
    if (rc == SHOAL_E_CONFIG) {
        cli_fail("%s holds no certificate that can be read", path);
        return false;
    }
    const char *role = rc == 0 ? net_role_name(info.identity.role) : "ca";
    cli_time((uint64_t)info.valid_until_s, until, sizeof until);
    if (list != NULL)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s}", "file", path, "role", role,
                            "name", info.identity.name, "cluster", info.identity.cluster,
                            "valid_until_s", (json_int_t)info.valid_until_s, "left_s",
                            (json_int_t)left_s(&info), "sha256", info.fingerprint));
    else
        printf("%-10s%-20s until %s (%lld days)  %s\n", role, info.identity.name, until,
               (long long)left_s(&info) / DAY_S, path);
    return true;
}

static int show(const struct arguments *arguments, const char *path)
{
    static struct holder holder;
    json_t *list = arguments->common.json ? json_array() : NULL;
    bool ok;
    if (path != NULL) {
        ok = show_one(path, list);
    } else {
        ok = find_holder(arguments, &holder) && show_one(holder.certificate, list) &&
             (holder.admin_certificate[0] == 0 || show_one(holder.admin_certificate, list)) &&
             show_one(holder.ca, list);
    }
    if (ok && list != NULL)
        return cli_print_json(list);
    json_decref(list);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

/* ---- request, issue ---- */

static bool write_text(const char *path, const char *text, mode_t mode)
{
    int rc = file_write_atomic(path, text, strlen(text), mode);
    if (rc != 0)
        cli_fail("cannot write %s: %s", path, shoal_error_text(rc));
    return rc == 0;
}

static int made(const struct arguments *arguments, const char *what, const char *path)
{
    if (arguments->common.json)
        return cli_print_json(json_pack("{s:s}", what, path));
    printf("Made %s.\n", path);
    return EXIT_DONE;
}

static int request(const struct arguments *arguments)
{
    char path[CLI_PATH_MAX], *csr;
    const struct net_cert_request request = {.role = net_role_named(arguments->role),
                                             .name = arguments->name,
                                             .directory = arguments->out, .stem = arguments->name};
    int rc = net_cert_request(&request, &csr);
    if (rc != 0)
        return cli_fail("cannot make a key in %s: %s", arguments->out, shoal_error_text(rc));
    snprintf(path, sizeof path, "%s/%s.csr", arguments->out, arguments->name);
    bool ok = write_text(path, csr, 0644);
    free(csr);
    return ok ? made(arguments, "request", path) : EXIT_FAILED;
}

static int issue_csr(const struct arguments *arguments)
{
    char path[CLI_PATH_MAX], *csr, *certificate;
    size_t len;
    struct net_identity wanted;
    if (file_read(arguments->csr, CSR_MAX, &csr, &len) != 0)
        return cli_fail("cannot read %s", arguments->csr);
    int rc = net_cert_request_read(csr, &wanted);
    if (rc == 0) {
        const struct net_cert_request request = {
            .role = wanted.role, .name = wanted.name,
            .valid_s = (long)(arguments->valid_ns / 1000000000u)};
        rc = net_cert_sign(arguments->ca, csr, &request, &certificate);
    }
    free(csr);
    if (rc != 0)
        return cli_fail("%s cannot be signed with %s/ca.key: %s", arguments->csr, arguments->ca,
                        shoal_error_text(rc));
    snprintf(path, sizeof path, "%s/%s.crt", arguments->out, wanted.name);
    bool ok = write_text(path, certificate, 0644);
    free(certificate);
    return ok ? made(arguments, "certificate", path) : EXIT_FAILED;
}

static int issue(const struct arguments *arguments)
{
    char path[CLI_PATH_MAX];
    const struct net_cert_request request = {
        .role = net_role_named(arguments->role), .name = arguments->name,
        .valid_s = (long)(arguments->valid_ns / 1000000000u), .directory = arguments->out,
        .stem = arguments->name};
    int rc = net_cert_issue_for(arguments->ca, &request);
    if (rc != 0)
        return cli_fail("cannot issue with %s/ca.key: %s", arguments->ca, shoal_error_text(rc));
    snprintf(path, sizeof path, "%s/%s.crt", arguments->out, arguments->name);
    return made(arguments, "certificate", path);
}

/* ---- renew ---- */

/* A new key beside the old one; both are put in place when the new certificate is there. */
static bool renew_pair(const struct holder *holder, const char *certificate, const char *key,
                       const struct net_identity *identity)
{
    const struct cli_credentials who = {holder->ca, certificate, key};
    char work[] = "/tmp/shoal-renew-XXXXXX", path[64], *csr = NULL, *new_key = NULL;
    const struct net_cert_request request = {.role = identity->role, .name = identity->name,
                                             .directory = work, .stem = "new"};
    json_t *answer = NULL;
    size_t len;
    bool ok = mkdtemp(work) != NULL && net_cert_request(&request, &csr) == 0;
    snprintf(path, sizeof path, "%s/new.key", work);
    ok = ok && file_read(path, CSR_MAX, &new_key, &len) == 0;
    if (!ok)
        cli_fail("cannot make a new key in %s", work);
    ok = ok && cli_ask(&who, holder->renewal,
                       json_pack("{s:s, s:s}", "wish", "renew", "csr", csr), &answer);
    const char *text = json_string_value(json_object_get(answer, "certificate"));
    if (ok && text == NULL) {
        cli_fail("the answer of %s holds no certificate", holder->renewal);
        ok = false;
    }
    /* Whoever looks in between finds a pair that does not match, and keeps the one it has. */
    ok = ok && write_text(key, new_key, 0600) && write_text(certificate, text, 0644);
    cli_remove_work(work);
    if (new_key != NULL)
        explicit_bzero(new_key, len);
    free(new_key);
    free(csr);
    json_decref(answer);
    return ok;
}

static int renew_one(const struct arguments *arguments, const struct holder *holder,
                     const char *certificate, const char *key)
{
    struct net_cert_info info;
    char why[512];
    if (net_cert_check(certificate, key, holder->ca, &info, why, sizeof why) != 0)
        return cli_fail("%s: one that is not good can only be issued anew, with 'shoal cert issue'",
                        why);
    bool due = arguments->within_ns == 0 ||
               left_s(&info) < (int64_t)(arguments->within_ns / 1000000000u);
    if (due && !renew_pair(holder, certificate, key, &info.identity))
        return EXIT_FAILED;
    if (!arguments->common.json)
        printf("%s %s\n", due ? "Renewed" : "Not due yet:", certificate);
    return EXIT_DONE;
}

static int renew(const struct arguments *arguments)
{
    static struct holder holder;
    if (!find_holder(arguments, &holder))
        return EXIT_FAILED;
    if (holder.renewal[0] == 0)
        return cli_fail("no tls.renewal says where to ask; with the cluster's key at hand, "
                        "'shoal cert issue' makes a new certificate");
    int status = renew_one(arguments, &holder, holder.certificate, holder.key);
    if (status == EXIT_DONE && holder.admin_certificate[0] != 0)
        status = renew_one(arguments, &holder, holder.admin_certificate, holder.admin_key);
    if (status == EXIT_DONE && arguments->common.json)
        return cli_print_json(json_pack("{s:s}", "certificate", holder.certificate));
    return status;
}

int cli_cert(int argc, char **argv)
{
    struct arguments arguments;
    struct options_arguments positional;
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    const char *verb = positional.values[0];
    const char *file = positional.count > 1 ? positional.values[1] : NULL;
    bool makes = strcmp(verb, "request") == 0 || strcmp(verb, "issue") == 0;
    if (makes && arguments.name == NULL && (verb[0] == 'r' || arguments.csr == NULL)) {
        (void)options_usage_error(&command, "%s needs --name NAME", verb);
        status = EXIT_USAGE;
    } else if (strcmp(verb, "show") == 0) {
        status = show(&arguments, file);
    } else if (strcmp(verb, "request") == 0) {
        status = request(&arguments);
    } else if (strcmp(verb, "issue") == 0) {
        status = arguments.csr != NULL ? issue_csr(&arguments) : issue(&arguments);
    } else if (strcmp(verb, "renew") == 0) {
        status = renew(&arguments);
    } else {
        (void)options_usage_error(&command, "'%s' is none of show, request, issue, renew", verb);
        status = EXIT_USAGE;
    }
    options_free(&command, &arguments);
    return status;
}
