/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few things that the authority asks of etcd, and the door behind which etcd stands.
 *
 * All that is read and written are two keys; every write is a transaction that compares first. The
 * door has two holders: etcd.c, which speaks to real members over HTTPS from a thread of its own,
 * and a small imitation in tests, on virtual time.
 *
 * An error of a transaction that puts says nothing of what happened: it may have been done, or be
 * done later. Each is repeated at other members until its deadline, so it must be harmless twice.
 */
#ifndef SHOAL_CLUSTER_ETCD_H
#define SHOAL_CLUSTER_ETCD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ETCD_KEY_MAX 128u
#define ETCD_COMPARES_MAX 3u
#define ETCD_READS_MAX 2u

enum etcd_field { ETCD_CREATED, ETCD_MODIFIED, ETCD_LEASE };

/* The field of the key equals the value; a key that is not there has 0 in all of them. */
struct etcd_compare {
    const char *key;
    enum etcd_field field;
    int64_t value;
};

struct etcd_read {
    const char *key;
    bool stamps_only; /* its revisions without its value */
};

/*
 * struct etcd_txn - When all compares hold: the put, or the reads if there is none. Else the reads.
 * @put_key: NULL: no put. @put_lease: 0: none
 */
struct etcd_txn {
    struct etcd_compare compares[ETCD_COMPARES_MAX];
    unsigned compares_count;
    const char *put_key;
    const void *put_bytes;
    size_t put_len;
    int64_t put_lease;
    struct etcd_read reads[ETCD_READS_MAX];
    unsigned reads_count;
};

/* A key as it is. Not there: all zero. @bytes is zero-terminated beyond @len. */
struct etcd_value {
    int64_t created, modified, lease;
    char *bytes;
    size_t len;
};

/*
 * struct etcd_answer - @revision: of the whole store, after the transaction. A put that was done
 * gave its key this revision.
 */
struct etcd_answer {
    bool succeeded;
    int64_t revision;
    struct etcd_value values[ETCD_READS_MAX];
};

void etcd_answer_free(struct etcd_answer *answer);

/*
 * All [fiber]. Return 0 or an error; SHOAL_E_NOT_FOUND of a lease is certain, every other error is
 * not (but for NO_MEMORY, TOO_LARGE and INVALID, with which nothing was asked or etcd refused).
 *
 * @txn: *answer is to be freed, also after an error
 * @grant: a lease under the caller's number, never used before
 * @watch: returns 0 when the key may have changed after that revision, SHOAL_E_TIMEOUT when not
 * @unwatch: ends the watches under way, with that; does not block
 */
struct etcd_ops {
    int (*txn)(void *ctx, const struct etcd_txn *txn, struct etcd_answer *answer);
    int (*grant)(void *ctx, int64_t lease, unsigned ttl_s);
    int (*keep_alive)(void *ctx, int64_t lease);
    int (*revoke)(void *ctx, int64_t lease);
    int (*watch)(void *ctx, const char *key, int64_t after, uint64_t deadline_ns);
    void (*unwatch)(void *ctx);
};

/* ---- what is said on the wire (etcd_json.c); used by etcd.c and by tests ---- */

/* Memory that the caller frees, or NULL: no memory. */
char *etcd_txn_json(const struct etcd_txn *txn);
char *etcd_watch_json(const char *key, int64_t after);

/*
 * Bytes from a member, @len of them, not trusted. Return: 0 or SHOAL_E_INVALID.
 * etcd_txn_parse() wants one value for each of @reads when they were made.
 */
int etcd_txn_parse(const char *text, size_t len, const struct etcd_txn *txn,
                   struct etcd_answer *answer);
/* *lease: what is granted or kept alive. *ttl_s 0: there is no such lease. */
int etcd_lease_parse(const char *text, size_t len, bool keep_alive, int64_t *lease, int64_t *ttl_s);
/* One line of a watch. *changed: look again. */
int etcd_watch_parse(const char *line, size_t len, bool *changed);
/* The gRPC code of an error's answer (2, "unknown", when it cannot be read), and its words. */
int etcd_error_parse(const char *text, size_t len, char *message, size_t size);

/* The value of the election's key, which tells the nodes who leads. */
struct etcd_leader {
    char name[64];
    char address[64];
};
char *etcd_leader_json(const struct etcd_leader *leader);
int etcd_leader_parse(const char *text, size_t len, struct etcd_leader *leader);

#endif
