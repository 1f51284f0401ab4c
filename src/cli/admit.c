/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shoal cluster admit: signs what nodes with a token and holders of certificates ask for. It takes
 * the same messages as the authority does, JSON in and out:
 *
 *   join {node, data, replication, management, rack, row, weights, csr}: by who has a token
 *   renew {csr}: by the holder of a certificate, for what that one says
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "cli/cluster.h"
#include "cli/local.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "net/net.h"

#define FIBERS 16u
#define STACK_BYTES (1u << 20) /* the JSON parser calls itself for each level */

struct admit {
    char config[CLI_PATH_MAX], certs[CLI_PATH_MAX - 64];
    struct client_file file;
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct net *net, *admin_net;
    struct net_listener *listener;
    struct client *client; /* of the authority */
    int rc;
};

static json_t *refusal(int error, const char *message)
{
    return json_pack("{s:b, s:s, s:s}", "ok", 0, "error", shoal_error_name(error), "message",
                     message);
}

static const char *text_of(const json_t *wish, const char *name)
{
    const char *text = json_string_value(json_object_get(wish, name));
    return text == NULL ? "" : text;
}

/* ---- joining ---- */

/* The authority's answer; NULL: *answer says why not. */
static json_t *add_to_map(struct admit *admit, const json_t *wish, json_t **answer)
{
    json_t *ask = json_copy((json_t *)(uintptr_t)wish), *said = NULL;
    char *text = NULL, *reply = NULL;
    json_object_del(ask, "csr");
    json_object_set_new(ask, "wish", json_string("node_add"));
    text = json_dumps(ask, JSON_COMPACT);
    json_decref(ask);
    int rc = text == NULL ? SHOAL_E_NO_MEMORY
                          : cli_ask_authority(admit->client, admit->file.authority, text, &reply);
    if (rc == 0)
        said = json_loads(reply, 0, NULL);
    if (said == NULL)
        *answer = refusal(rc == 0 ? SHOAL_E_INVALID : rc,
                          "the cluster's authority does not answer");
    free(text);
    free(reply);
    if (said != NULL && !json_is_true(json_object_get(said, "ok"))) {
        *answer = said;
        said = NULL;
    }
    return said;
}

static json_t *join(struct admit *admit, const json_t *wish, const struct net_identity *who)
{
    struct net_identity wanted;
    const char *name = text_of(wish, "node");
    char *certificate;
    json_t *answer;
    if (who->role != NET_ROLE_JOIN && who->role != NET_ROLE_ADMIN)
        return refusal(SHOAL_E_DENIED, "a node joins with a token: 'shoal cluster token'");
    if (net_cert_request_read(text_of(wish, "csr"), &wanted) != 0 || wanted.role != NET_ROLE_NODE ||
        strcmp(wanted.name, name) != 0)
        return refusal(SHOAL_E_INVALID, "the request is not for the certificate of that node");
    json_t *added = add_to_map(admit, wish, &answer);
    if (added == NULL)
        return answer;
    const struct net_cert_request request = {.role = NET_ROLE_NODE, .name = wanted.name};
    int rc = net_cert_sign(admit->certs, text_of(wish, "csr"), &request, &certificate);
    if (rc != 0) {
        json_decref(added);
        return refusal(rc, "the certificate could not be signed; the log of 'admit' says why");
    }
    json_object_set_new(added, "certificate", json_string(certificate));
    json_object_set_new(added, "cluster", json_string(who->cluster));
    json_object_set_new(added, "authority_address", json_string(admit->file.authority));
    json_object_set_new(added, "data_plane", json_string(admit->file.data_plane));
    json_object_set_new(added, "renewal", json_string(admit->file.renewal));
    free(certificate);
    if (client_file_add_node(admit->config, text_of(wish, "data")) != 0)
        LOG_WARN("%s could not be added to %s", name, admit->config);
    LOG_INFO("%s joins with the token of %s", name, who->name);
    return added;
}

/* ---- renewing ---- */

static json_t *renew(struct admit *admit, const json_t *wish, const struct net_identity *who)
{
    char *certificate;
    if (who->role == NET_ROLE_JOIN)
        return refusal(SHOAL_E_DENIED, "a token cannot be renewed");
    const struct net_cert_request request = {.role = who->role, .name = who->name};
    int rc = net_cert_sign(admit->certs, text_of(wish, "csr"), &request, &certificate);
    if (rc != 0)
        return refusal(rc, "the request could not be signed; the log of 'admit' says why");
    json_t *answer = json_pack("{s:b, s:s}", "ok", 1, "certificate", certificate);
    free(certificate);
    LOG_INFO("renewed the certificate of the %s %s", net_role_name(who->role), who->name);
    return answer;
}

/* ---- messages ---- */

struct job {
    struct admit *admit;
    struct net_request *request;
};

static char *answer_to(struct admit *admit, struct decoder *in, const struct net_identity *who)
{
    struct wire_admin ask;
    json_t *wish = NULL, *answer;
    if (wire_admin_decode(in, &ask) == 0)
        wish = json_loadb(ask.wish, ask.wish_len, 0, NULL);
    if (strcmp(text_of(wish, "wish"), "join") == 0)
        answer = join(admit, wish, who);
    else if (strcmp(text_of(wish, "wish"), "renew") == 0)
        answer = renew(admit, wish, who);
    else
        answer = refusal(SHOAL_E_UNSUPPORTED, "here nodes join and certificates are renewed");
    char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    json_decref(wish);
    return text;
}

static void serve(void *arg)
{
    struct job job = *(struct job *)arg;
    struct wire_head head;
    struct wire_admin_reply reply = {0};
    uint8_t header[512];
    size_t len;
    free(arg);
    const void *asked = net_request_header(job.request, &len);
    struct decoder in = decoder_init(asked, len);
    wire_head_decode(&in, &head);
    char *text = NULL;
    if (decoder_ok(&in) && head.type == WIRE_admin)
        text = answer_to(job.admit, &in, net_request_identity(job.request));
    if (text == NULL) {
        head.status = (uint16_t)-SHOAL_E_UNSUPPORTED;
        net_reply(job.request, header, wire_status_encode(header, sizeof header, &head), NULL, 0);
        return;
    }
    head.status = 0;
    struct iovec payload = {text, strlen(text)};
    len = wire_admin_reply_encode(header, sizeof header, &head, &reply);
    net_reply(job.request, header, len, &payload, 1);
    free(text);
}

static void on_request(void *ctx, struct net_request *request)
{
    struct admit *admit = ctx;
    struct job *job = malloc(sizeof *job);
    if (job != NULL)
        *job = (struct job){admit, request};
    if (job != NULL && fiber_spawn(admit->fibers, serve, job) == 0)
        return;
    free(job);
    net_refuse(request, SHOAL_E_BUSY);
}

/* ---- start; a signal ends it, for it has nothing to lose ---- */

static struct net_tcp_config credentials(const struct admit *admit, const char *stem)
{
    static char paths[3][CLI_PATH_MAX];
    snprintf(paths[0], sizeof paths[0], "%s/%s.crt", admit->certs, stem);
    snprintf(paths[1], sizeof paths[1], "%s/%s.key", admit->certs, stem);
    snprintf(paths[2], sizeof paths[2], "%s/ca.crt", admit->certs);
    return (struct net_tcp_config){.certificate = paths[0], .key = paths[1], .ca = paths[2]};
}

static int start(struct admit *admit)
{
    const char *seeds[] = {admit->file.nodes.items[0]}; /* no map is asked for */
    const struct client_config client = {.seeds = seeds, .seeds_count = 1, .operations_max = FIBERS,
                                         .buffers = 1};
    const struct net_service service = {on_request, admit};
    struct net_tcp_config tcp = credentials(admit, "admit");
    int rc = net_tcp_create(admit->reactor, &tcp, &admit->net);
    if (rc == 0) {
        tcp = credentials(admit, "admin");
        rc = net_tcp_create(admit->reactor, &tcp, &admit->admin_net);
    }
    if (rc == 0)
        rc = client_create(admit->reactor, admit->admin_net, &client, &admit->client);
    if (rc == 0)
        rc = net_listen(admit->net, admit->file.renewal, &service, &admit->listener);
    if (rc == 0)
        LOG_INFO("nodes may join at %s", net_listener_address(admit->listener));
    return rc;
}

static int run(struct admit *admit)
{
    struct reactor_config config = {.name = "admit", .cpu = -1, .uring_entries = 256};
    int rc = reactor_create(&config, &admit->reactor);
    if (rc == 0)
        rc = fiber_pool_create(admit->reactor, "admit", FIBERS, STACK_BYTES, &admit->fibers);
    if (rc == 0)
        rc = start(admit);
    if (rc != 0)
        return cli_fail("cannot listen at %s with %s/admit.crt: %s", admit->file.renewal,
                        admit->certs, shoal_error_text(rc));
    reactor_run(admit->reactor);
    return EXIT_DONE;
}

struct arguments {
    char *dir;
};

static const struct option_spec options[] = {
    {{"dir", VALUE_STRING, offsetof(struct arguments, dir), "/etc/shoal", 1, 0, NULL,
      "Where 'shoal cluster init' made the cluster."}, 'd', "DIR"},
};
static const struct options_command command = {
    .name = "shoal cluster admit", .arguments = "",
    .summary = "Let nodes with a token join, and sign renewals of certificates, until a signal "
               "ends it. Only this program reads the cluster's key.",
    .example = "shoal cluster admit --dir /etc/shoal",
    .options = options, .option_count = ARRAY_LEN(options),
};

int cluster_admit(int argc, char **argv)
{
    static struct admit admit;
    struct arguments arguments;
    struct options_arguments positional;
    struct value_error why;
    char directory[CLI_PATH_MAX - 96];
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    log_set_level(LOG_LEVEL_INFO);
    log_set_component("admit");
    if (!local_directory(arguments.dir, directory, sizeof directory)) {
        status = EXIT_FAILED;
    } else {
        snprintf(admit.config, sizeof admit.config, "%s/client.yaml", directory);
        snprintf(admit.certs, sizeof admit.certs, "%s/certs", directory);
        if (client_file_load(admit.config, &admit.file, &why) != 0)
            status = cli_fail("%s", why.text);
        else if (admit.file.renewal == NULL || admit.file.authority == NULL)
            status = cli_fail("%s needs tls.renewal and authority", admit.config);
        else
            status = run(&admit);
    }
    options_free(&command, &arguments);
    return status;
}
