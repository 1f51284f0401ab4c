/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mail between threads: the only way into a reactor from outside it.
 *
 * The sender owns the message until `deliver` has run on the receiving reactor's stack; it embeds
 * struct mail in whatever it sends. Posting never blocks, never allocates and never fails.
 */
#ifndef SHOAL_CORE_MAILBOX_H
#define SHOAL_CORE_MAILBOX_H

struct reactor;

struct mail {
    struct mail *next;
    void (*deliver)(struct mail *mail);
};

/*
 * mailbox_post() - Any thread. Messages of one sender arrive in order. Writes made before the post
 * are visible to deliver().
 */
void mailbox_post(struct reactor *to, struct mail *mail);

#endif
