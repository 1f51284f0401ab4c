/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes and variants of the model in commit.pml, and the switches that break its rules. They are read
 * when the search starts, from the variable MODEL of the environment ("K=2 PUTS=3 BREAK=7"), so
 * that one compilation serves for every search. To print a trail they are fixed instead, with
 * -DFIXED -DK=2 and so on: `tests/spin/run --trace` does that.
 */

#define MAX_EPOCHS 5
#define MAX_PUTS 3
#define VPE 2 /* versions that can be taken in one epoch */

#ifdef FIXED
#define CHOOSE_SIZES skip
#ifndef K
#define K 1
#endif
#ifndef PUTS
#define PUTS 2
#endif
#ifndef DELETE
#define DELETE 0
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef ABORTS
#define ABORTS 0
#endif
#ifndef HOLLOW
#define HOLLOW 0
#endif
#ifndef WIPED
#define WIPED 0
#endif
#ifndef RENEW
#define RENEW 0
#endif
#ifndef MOVE
#define MOVE 0
#endif
#ifndef BREAK
#define BREAK 0
#endif
#else
hidden byte K = 1;        /* 1: three copies; 2: a coded pool of 2+1 */
hidden byte PUTS = 2;     /* operations of clients, each tried once, in any order; at most 3 */
hidden byte DELETE = 0;   /* which of them is a delete; 0: none */
hidden byte CRASHES = 1;  /* how many times a process may die */
hidden byte EPOCHS = 3;   /* at most 5 */
hidden byte ABORTS = 0;   /* how many times a member may refuse a put */
hidden byte HOLLOW = 0;   /* 1: a crash may leave the prepared piece hollow */
hidden byte WIPED = 0;   /* 1: a dead node may come back with an empty device */
hidden byte RENEW = 0;    /* 1: put 1 is done, put 2 was rolled back, and member 2 missed both */
hidden byte MOVE = 0;     /* with RENEW: member 2 is to take over from member MOVE-1; 0: it is one of three */
hidden byte BREAK = 0;    /* the number of the rule that is broken; 0: none */

#define CHOOSE_SIZE(name)                                                                          \
    if (strstr(sizes, " " #name "="))                                                              \
        name = atoi(strstr(sizes, " " #name "=") + sizeof(" " #name "=") - 1);
#define CHOOSE_SIZES c_code { read_sizes(); }
c_code {
    static void read_sizes(void)
    {
        char sizes[256] = " ";
        if (getenv("MODEL"))
            strncat(sizes, getenv("MODEL"), sizeof sizes - 2);
        CHOOSE_SIZE(K)
        CHOOSE_SIZE(PUTS)
        CHOOSE_SIZE(DELETE)
        CHOOSE_SIZE(CRASHES)
        CHOOSE_SIZE(EPOCHS)
        CHOOSE_SIZE(ABORTS)
        CHOOSE_SIZE(HOLLOW)
        CHOOSE_SIZE(WIPED)
        CHOOSE_SIZE(RENEW)
        CHOOSE_SIZE(MOVE)
        CHOOSE_SIZE(BREAK)
    }
}
#endif

/* ---- the rules that can be broken; tests/spin/run reads these lines ---- */

#define BROKEN(n) (BREAK == n)
#define BREAK_EPOCH BROKEN(1) /* R1: what an older epoch sent is accepted */
#define BREAK_INCARNATION BROKEN(2) /* R2: a restarted node serves at once */
#define BREAK_FENCE BROKEN(3) /* R3: a live node may be declared down */
#define BREAK_ABSENT BROKEN(4) /* R4: every dead member is declared down */
#define BREAK_STALE BROKEN(5) /* R4: who was down returns clean */
#define BREAK_ALL BROKEN(6) /* R12: one durable member less will do */
#define BREAK_LEARNERS_ACK BROKEN(7) /* R12: learners are not waited for */
#define BREAK_LOW_WATER BROKEN(8) /* R14 */
#define BREAK_ABORTED BROKEN(9) /* R15 */
#define BREAK_BASE BROKEN(10) /* R16 */
#define BREAK_NEW_VERSION BROKEN(11) /* R17, R27: a put that meets a learner keeps its version, and lists go on */
#define BREAK_ABORT_ALL BROKEN(12) /* R19: an abort is done before all have it */
#define BREAK_READ_PREPARED BROKEN(13) /* R20: a member answers below what it has prepared */
#define BREAK_READ_LEARNER BROKEN(14) /* R20: a learner answers */
#define BREAK_SLICES BROKEN(15) /* R21: slices of different versions count */
#define BREAK_EVERYBODY BROKEN(16) /* R24: k answers will do to settle */
#define BREAK_LEARNERS_ASKED BROKEN(17) /* R24: learners are not asked */
#define BREAK_TESTIFY BROKEN(18) /* R25: learners testify */
#define BREAK_HOLLOW BROKEN(19) /* R25: a hollow piece denies */
#define BREAK_DENIAL BROKEN(20) /* R25: pieces at hand win over a denial */
#define BREAK_BACK_ALL BROKEN(21) /* R23: serves before all have durably rolled back */
#define BREAK_LIST_SERVING BROKEN(22) /* R27: a learner lists from a primary that has not settled */
#define BREAK_LIST_EPOCH BROKEN(23) /* R27: ... or that is at another epoch */
#define BREAK_LIST_BUSY BROKEN(24) /* R27: lists while a put older than the learner is in flight */
#define BREAK_CAUGHT_UP BROKEN(25) /* R29: becomes clean by what it was told under an older epoch */
#define BREAK_ONE_WAY BROKEN(26) /* R29: what is not listed is kept */
#define BREAK_DROP_NEW BROKEN(27) /* R29: what came since is dropped too */
#define BREAK_COLLECT_LEARNER BROKEN(28) /* R30: collects while there is a learner */
#define BREAK_COLLECT_DURABLE BROKEN(29) /* R30: collects although a member has it prepared only */
#define BREAK_UNLEARNED BROKEN(30) /* R38: takes a position over without having learned it */
#define BREAK_LEAVER BROKEN(31) /* R38, R39: who leaves a position is forgotten before it knows */
