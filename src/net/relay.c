/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests handed to another reactor. Each has a fiber here, on the reactor whose net it came by,
 * and a stand-in there, whose handler does not see the difference. What the handler wants of the
 * network travels back as mail that lies on the handler's stack, is done by the fiber here, and
 * returns.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/pool.h"
#include "core/fiber.h"
#include "core/mailbox.h"
#include "core/reactor.h"
#include "net/backend.h"
#include "shoal/error.h"

struct net_relay {
    struct reactor *reactor;
    struct pool *requests;
    struct fiber_pool *fibers;
};

/* What a handler asks for, on its stack: there, here, and there again. */
struct errand {
    struct mail mail;
    struct relayed *request;
    enum { ERRAND_PULL, ERRAND_REPLY } what;
    const struct iovec *iov;
    unsigned iov_count;
    uint64_t deadline_ns;
    const void *header;
    size_t header_len;
    int result;
    struct completion done;
};

struct relayed {
    struct net_request base; /* the stand-in; its net is the one below */
    struct net net;          /* of the reactor there */
    struct net_relay *relay;
    struct net_request *original; /* touched here only */
    struct net_service service;
    struct mail mail; /* there, and for a refusal here */
    int refusal;
    struct errand *errand;
    struct completion asked; /* the fiber here waits for an errand, or for a refusal: NULL */
};

static struct relayed *relayed_of(const struct net_request *request)
{
    return container_of((struct net_request *)request, struct relayed, base);
}

/* ---- there ---- */

static void arrived(struct mail *mail)
{
    struct relayed *r = container_of(mail, struct relayed, mail);
    r->service.request(r->service.ctx, &r->base);
}

static void errand_done(struct mail *mail)
{
    struct errand *errand = container_of(mail, struct errand, mail);
    completion_signal(&errand->done, errand->result);
}

static void errand_arrived(struct mail *mail)
{
    struct errand *errand = container_of(mail, struct errand, mail);
    errand->request->errand = errand;
    completion_signal(&errand->request->asked, 0);
}

static int run_errand(struct relayed *r, struct errand *errand)
{
    errand->request = r;
    errand->mail.deliver = errand_arrived;
    mailbox_post(r->relay->reactor, &errand->mail);
    return (int)completion_wait(&errand->done);
}

static bool relay_cancelled(const struct net_request *request)
{
    (void)request;
    return false; /* nobody tells us; the deadline, which net.c looks at, bounds it */
}

static int relay_pull(struct net_request *request, const struct iovec *iov, unsigned iov_count,
                      uint64_t deadline_ns)
{
    struct errand errand = {.what = ERRAND_PULL, .iov = iov, .iov_count = iov_count,
                            .deadline_ns = deadline_ns};
    return run_errand(relayed_of(request), &errand);
}

static int relay_reply(struct net_request *request, const void *header, size_t header_len,
                       const struct iovec *payload, unsigned payload_count)
{
    struct errand errand = {.what = ERRAND_REPLY, .iov = payload, .iov_count = payload_count,
                            .header = header, .header_len = header_len};
    return run_errand(relayed_of(request), &errand);
}

static void refusal_arrived(struct mail *mail)
{
    struct relayed *r = container_of(mail, struct relayed, mail);
    r->errand = NULL;
    completion_signal(&r->asked, 0);
}

static void relay_refuse(struct net_request *request, int error)
{
    struct relayed *r = relayed_of(request);
    r->refusal = error;
    r->mail.deliver = refusal_arrived;
    mailbox_post(r->relay->reactor, &r->mail);
}

static const struct net_ops relay_ops = {
    .request_cancelled = relay_cancelled,
    .request_pull = relay_pull,
    .reply = relay_reply,
    .refuse = relay_refuse,
};

/* ---- here ---- */

/* True when this was the answer. */
static bool do_errand(struct relayed *r, struct errand *errand)
{
    if (errand->what == ERRAND_PULL) {
        errand->result = net_request_pull(r->original, errand->iov, errand->iov_count,
                                          errand->deadline_ns);
        r->base.payload_crc = errand->result == 0 ? net_request_payload_crc(r->original) : 0;
    } else {
        net_request_sums(r->original, r->base.reply_sums);
        errand->result = net_reply(r->original, errand->header, errand->header_len, errand->iov,
                                   errand->iov_count);
    }
    return errand->what == ERRAND_REPLY;
}

static void relay_fiber(void *arg)
{
    struct relayed *r = arg;
    struct reactor *there = r->net.reactor;
    struct pool *requests = r->relay->requests;
    bool answered = false;
    mailbox_post(there, &r->mail);
    while (!answered) {
        completion_wait(&r->asked);
        struct errand *errand = r->errand;
        r->asked = (struct completion){0};
        if (errand == NULL) {
            net_refuse(r->original, r->refusal);
            pool_put(requests, r);
            return;
        }
        answered = do_errand(r, errand);
        if (answered)
            pool_put(requests, r); /* the handler holds it no more once it hears of the answer */
        errand->mail.deliver = errand_done;
        mailbox_post(there, &errand->mail);
    }
}

int net_relay_create(struct reactor *reactor, unsigned max_requests, struct net_relay **out)
{
    struct net_relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL)
        return SHOAL_E_NO_MEMORY;
    relay->reactor = reactor;
    relay->requests = pool_create("relayed requests", sizeof(struct relayed), max_requests, 0);
    int error = relay->requests == NULL ? SHOAL_E_NO_MEMORY : 0;
    if (error == 0)
        error = fiber_pool_create(reactor, "relay", max_requests, 0, &relay->fibers);
    if (error != 0) {
        pool_destroy(relay->requests);
        free(relay);
        return error;
    }
    *out = relay;
    return 0;
}

void net_relay_request(struct net_relay *relay, struct reactor *to,
                       const struct net_service *service, struct net_request *request)
{
    struct relayed *r = pool_get(relay->requests);
    if (r == NULL) {
        net_refuse(request, SHOAL_E_BUSY);
        return;
    }
    *r = (struct relayed){
        .base = *request,
        .net = {.ops = &relay_ops, .reactor = to},
        .relay = relay,
        .original = request,
        .service = *service,
        .mail = {.deliver = arrived},
    };
    r->base.net = &r->net;
    if (fiber_spawn(relay->fibers, relay_fiber, r) != 0) {
        pool_put(relay->requests, r);
        net_refuse(request, SHOAL_E_BUSY);
    }
}

void net_relay_destroy(struct net_relay *relay)
{
    while (fiber_pool_in_use(relay->fibers) > 0)
        fiber_yield();
    fiber_pool_destroy(relay->fibers);
    pool_destroy(relay->requests);
    free(relay);
}
