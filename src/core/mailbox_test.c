/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/macros.h"
#include "core/mailbox.h"
#include "core/test_reactor.h"

#define SENDERS 3
#define LETTERS 4000

struct letter {
    struct mail mail;
    unsigned sender;
    unsigned number;
    unsigned payload; /* written before the post, read after it: TSan watches */
};

static struct reactor *receiver;
static unsigned next_number[SENDERS];
static unsigned received;

static void deliver(struct mail *mail)
{
    struct letter *letter = container_of(mail, struct letter, mail);

    CHECK(letter->number == next_number[letter->sender]);
    CHECK(letter->payload == letter->number * 3 + letter->sender);
    next_number[letter->sender]++;
    free(letter);
    if (++received == SENDERS * LETTERS)
        reactor_stop(receiver);
}

static void *send_letters(void *arg)
{
    unsigned sender = *(const unsigned *)arg;

    for (unsigned i = 0; i < LETTERS; i++) {
        struct letter *letter = malloc(sizeof(*letter));
        CHECK(letter != NULL);
        *letter = (struct letter){.mail.deliver = deliver, .sender = sender, .number = i,
                                  .payload = i * 3 + sender};
        mailbox_post(receiver, &letter->mail);
        if (i % 64 == 0)
            sched_yield(); /* let the receiver fall asleep now and then */
    }
    return NULL;
}

static void exchange(unsigned uring_entries, uint64_t spin_ns)
{
    pthread_t threads[SENDERS];
    unsigned numbers[SENDERS];

    received = 0;
    assert_int_equal(
        reactor_create(&(struct reactor_config){.name = "receiver", .cpu = -1, .seed = 1,
                                                .spin_ns = spin_ns,
                                                .uring_entries = uring_entries},
                       &receiver),
        0);
    for (unsigned i = 0; i < SENDERS; i++) {
        next_number[i] = 0;
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, send_letters, &numbers[i]), 0);
    }
    reactor_run(receiver);
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(received, SENDERS * LETTERS);
    reactor_destroy(receiver);
}

static void letters_of_one_sender_arrive_in_order(void **state)
{
    (void)state;
    exchange(0, 0);
}

static void letters_wake_a_reactor_that_sleeps_in_io_uring(void **state)
{
    (void)state;
    exchange(64, 0);
}

static void letters_reach_a_reactor_that_spins(void **state)
{
    (void)state;
    exchange(64, 20000);
}

/* Two reactors throw one ball to and fro, each asleep while the other has it. */
#define THROWS 2000

struct player {
    struct reactor *reactor;
    struct player *other;
    unsigned catches;
};

struct ball {
    struct mail mail;
    struct player *holder;
};

static void catch_ball(struct mail *mail)
{
    struct ball *ball = container_of(mail, struct ball, mail);
    struct player *player = ball->holder;

    player->catches++;
    if (player->catches == THROWS) {
        reactor_stop(player->reactor);
        if (player->other->catches == THROWS)
            return;
    }
    ball->holder = player->other;
    mailbox_post(player->other->reactor, &ball->mail);
}

static void *play(void *arg)
{
    reactor_run(((struct player *)arg)->reactor);
    return NULL;
}

static void two_reactors_never_lose_a_wake(void **state)
{
    (void)state;
    struct player players[2] = {0};
    struct ball ball = {.mail.deliver = catch_ball, .holder = &players[0]};
    pthread_t threads[2];

    for (unsigned i = 0; i < 2; i++) {
        players[i].other = &players[1 - i];
        players[i].reactor = test_reactor_real();
    }
    mailbox_post(players[0].reactor, &ball.mail);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, play, &players[i]), 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(players[i].catches, THROWS);
        reactor_destroy(players[i].reactor);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_of_one_sender_arrive_in_order),
        cmocka_unit_test(letters_wake_a_reactor_that_sleeps_in_io_uring),
        cmocka_unit_test(letters_reach_a_reactor_that_spins),
        cmocka_unit_test(two_reactors_never_lose_a_wake),
    };
    return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
