/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mailbox.h"

#include <stddef.h>

#include "core/reactor_private.h"

/*
 * A stack that senders push to with one compare-and-swap, and that the receiver empties with one
 * exchange, then turns over. Only the sender that found it empty wakes the receiver: whoever comes
 * later rides on that wake, which has not been consumed while the stack is not empty.
 *
 * All accesses to `mailbox` and `sleeping` are sequentially consistent. The sender pushes, then
 * looks whether the receiver sleeps; the receiver says that it sleeps, then looks for mail. In any
 * interleaving at least one of the two sees the other.
 */
void mailbox_post(struct reactor *to, struct mail *mail)
{
    struct mail *top = atomic_load(&to->mailbox);

    do {
        mail->next = top;
    } while (!atomic_compare_exchange_weak(&to->mailbox, &top, mail));
    /* @mail may be gone from here on. */
    if (top == NULL)
        reactor_wake_sleeper(to);
}

unsigned mailbox_deliver(struct reactor *reactor)
{
    if (atomic_load_explicit(&reactor->mailbox, memory_order_relaxed) == NULL)
        return 0;

    struct mail *newest = atomic_exchange(&reactor->mailbox, NULL);
    struct mail *oldest = NULL;
    while (newest != NULL) {
        struct mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }

    unsigned delivered = 0;
    while (oldest != NULL) {
        struct mail *mail = oldest;
        oldest = mail->next; /* before delivery: the sender may reuse or free it at once */
        mail->deliver(mail);
        delivered++;
    }
    return delivered;
}
