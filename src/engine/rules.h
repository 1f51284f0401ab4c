/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of crash safety, one bit each. engine_config.break_rules switches rules *off*, so that
 * the crash tests can show that each of them matters. Private to the engine and to tests.
 */
#ifndef SHOAL_ENGINE_RULES_H
#define SHOAL_ENGINE_RULES_H

enum engine_rule {
    /* One journal write in flight; what comes meanwhile forms the next group. */
    ENGINE_RULE_ONE_JOURNAL_WRITE = 1u << 0,
    /* A block that holds acknowledged records is never rewritten. */
    ENGINE_RULE_NO_REWRITE = 1u << 1,
    /* An operation is durable only when every earlier journal write is. */
    ENGINE_RULE_EARLIER_WRITES = 1u << 2,
    /* An operation is durable only when its extent is. */
    ENGINE_RULE_WAIT_EXTENT = 1u << 3,
    /* A device with a volatile cache is flushed before anything is called durable. */
    ENGINE_RULE_FLUSH = 1u << 4,
    /* Replay verifies the payloads of the records beyond the barrier. */
    ENGINE_RULE_VERIFY = 1u << 5,
    /* A freed extent is allocated again only when the durable barrier passed its record. */
    ENGINE_RULE_QUARANTINE = 1u << 6,
    /* A valid record whose payload is damaged stays, as hollow. */
    ENGINE_RULE_HOLLOW = 1u << 7,
    /* Each recovery starts a new generation of the journal. */
    ENGINE_RULE_GENERATION = 1u << 8,
    /* A bad block followed by a valid record of the same generation is damage, not the end. */
    ENGINE_RULE_DAMAGE = 1u << 9,
    /* Each part of a checkpoint carries the sequence number from which replay continues it. */
    ENGINE_RULE_CHECKPOINT_SEQUENCE = 1u << 10,
    /* A checkpoint counts only when all that it contains is durable in journal and extents. */
    ENGINE_RULE_CHECKPOINT_DURABLE = 1u << 11,
    /* The ring keeps all since the older checkpoint began. */
    ENGINE_RULE_RING_RETENTION = 1u << 12,
    /* The two superblocks are written in turn, with a flush between. */
    ENGINE_RULE_SUPERBLOCK_TURNS = 1u << 13,
    /* A failed journal write or flush stops the target; a flush is not retried. */
    ENGINE_RULE_STOP = 1u << 14,
};

#endif
