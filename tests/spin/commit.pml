/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of docs/protocol.md as a model for spin: one object, a set of three members, an
 * authority, writers, readers, crashes. Rule numbers (R12) are those of that document. tests/spin/run
 * searches it exhaustively in several sizes; then with each BREAK_x in turn, which switches one rule
 * off, and must then find a violation.
 *
 * What is real here: every order of steps; a message that arrives late, twice or never (what was
 * sent stays in the network until its receiver dies); a crash between any two steps, with the loss
 * of commit marks that were not durable; maps that are adopted late and by skipping some.
 * What is left out: payloads (a version stands for its bytes), other objects (so a low water is
 * carried only where a rule needs one), timeouts (anything may take forever), leases. Of moves there
 * is one: with MOVE, member 2 takes the position of another over, which then leaves (R36 to R39).
 */

#include "switches.pml"
#include "state.pml"
#include "rules.pml"

#define NEXT_PUT(p) (outcome[p] == NEW)

proctype Node(byte m)
{
end:
    do
    /* R1: it adopts a newer map, one by one or skipping some */
    :: atomic { state[m] == RUNS && epoch[m] < newest ->
        if
        :: adopt(m, newest)
        :: epoch[m] != 0 && epoch[m] + 1 < newest -> adopt(m, epoch[m] + 1)
        fi }

    /* ---- as member ---- */

    :: atomic { UP(m) && SENT(PREPARE, m) != 0 ->
        pick(PREPARE, m);
        if
        :: ACCEPTS(m, sentIn[v]) -> on_prepare(m)
        :: else
        fi;
        CHECK_KEPT }

    :: atomic { UP(m) && SENT(COMMIT, m) != 0 ->
        pick(COMMIT, m);
        if :: ACCEPTS(m, commitIn[v]) -> adopt_newer(m, commitIn[v]) :: else fi;
        if
        :: prepared[m] == v ->
            printf("node %d hears that version %d is committed\n", m, v);
            engine_commit(m)
        :: else
        fi }

    :: atomic { UP(m) && SENT(ABORT, m) != 0 ->
        pick(ABORT, m);
        if :: ACCEPTS(m, abortIn[v]) -> on_abort(m) :: else fi;
        CHECK_KEPT }

    :: atomic { UP(m) && SENT(DROP, m) != 0 ->
        pick(DROP, m);
        if :: ACCEPTS(m, dropIn[v]) -> on_drop(m) :: else fi;
        CHECK_KEPT }

    /* R14: it hears that nothing of the primary's is in flight any more */
    :: atomic { UP(m) && aborted[m] != 0 && SERVES(primary[epoch[m]]) &&
                epoch[primary[epoch[m]]] == epoch[m] && doing[primary[epoch[m]]] == IDLE ->
        if :: aborted[m] > lowWater[m] -> lowWater[m] = aborted[m] :: else fi;
        aborted[m] = 0 }

    /* ---- as primary: puts ---- */

    /* R7, R9, R10 */
    :: atomic { SERVES(m) && doing[m] == IDLE && undecided[m] == 0 && WRITABLE(epoch[m]) &&
                MAY_TAKE(epoch[m]) ->
        if
        :: NEXT_PUT(1) -> w = 1
        :: PUTS >= 2 && NEXT_PUT(2) -> w = 2
        :: PUTS >= 3 && NEXT_PUT(3) -> w = 3
        :: else -> w = 0
        fi;
        if
        :: w != 0 ->
            outcome[w] = TRIED;
            begun[m] = epoch[m];
            take_version(m, w)
        :: else
        fi }

    /* R12: the commit point; R13 */
    :: atomic { SERVES(m) && doing[m] == PREPARING && WRITABLE(epoch[m]) &&
                COUNT((BREAK_LEARNERS_ACK -> clean[epoch[m]] : taking[epoch[m]]) &
                      ~durable[version[m]]) <= BREAK_ALL && HAS(durable[version[m]], m) ->
        v = version[m];
        it_happened(v);
        acknowledge(v);
        if :: prepared[m] == v -> engine_commit(m) :: else fi;
        commitIn[v] = epoch[m];
        post(COMMIT, (taking[epoch[m]] & ~BIT(m)), v);
        idle(m);
        CHECK_KEPT }

    /* R18: a member refused it */
    :: atomic { SERVES(m) && doing[m] == PREPARING && aborts < ABORTS ->
        aborts++;
        doing[m] = ABORTING;
        send_aborts(m) }

    /* R19: all have aborted it */
    :: atomic { SERVES(m) && doing[m] == ABORTING && WRITABLE(epoch[m]) &&
                (BREAK_ABORT_ALL || COVERS(answered[m], taking[epoch[m]])) ->
        it_never_happened(version[m]);
        outcome[putOf[version[m]]] = FAILED;
        idle(m) }

    /* R8: a client that heard nothing tries again, and its put had happened */
    :: atomic { SERVES(m) && doing[m] == IDLE && undecided[m] == 0 && committed[m] != 0 &&
                outcome[putOf[committed[m]]] == TRIED ->
        acknowledge(committed[m]);
        CHECK_KEPT }

    /* ---- as primary: settling ---- */

    /* R24: somebody answers, and refuses the former primary from now on */
    :: atomic { SETTLES(m) && !deciding[m] && absent[epoch[m]] == 0 ->
        if
        :: w = 0
        :: w = 1
        :: w = 2
        fi;
        if
        :: HAS(ASKED(epoch[m]), w) && state[w] == RUNS && epoch[w] <= epoch[m] &&
           epoch[m] >= NAMED(newest, w) /* R2: not a map of its life before */ &&
           !HAS(answered[m], w) ->
            adopt_newer(w, epoch[m]);
            aborted[w] = 0;
            lowWater[w] = 0;
            answered[m] = answered[m] | BIT(w)
        :: else
        fi }

    /* R23 */
    :: atomic { SETTLES(m) && !deciding[m] && WRITABLE(epoch[m]) && HAS(answered[m], m) &&
                (COVERS(answered[m], ASKED(epoch[m])) ||
                 (BREAK_EVERYBODY && COUNT(answered[m] & clean[epoch[m]]) >= K)) ->
        decide(m);
        CHECK_KEPT }

    :: atomic { SETTLES(m) && deciding[m] && WRITABLE(epoch[m]) &&
                (undoing[m] == 0 || BREAK_BACK_ALL || COVERS(answered[m], ASKED(epoch[m]))) ->
        settled(m) }

    /* ---- as primary: collecting a tombstone, R30 ---- */

    :: atomic { SERVES(m) && doing[m] == IDLE && IS_TOMBSTONE(committed[m]) && prepared[m] == 0 &&
                WRITABLE(epoch[m]) && (LEARNERS(epoch[m]) == 0 || BREAK_COLLECT_LEARNER) ->
        doing[m] = COLLECTING;
        version[m] = committed[m] }

    /* somebody has it committed and durable */
    :: atomic { SERVES(m) && doing[m] == COLLECTING ->
        if
        :: w = 0
        :: w = 1
        :: w = 2
        fi;
        if
        :: HAS(taking[epoch[m]], w) && UP(w) && epoch[w] <= epoch[m] ->
            adopt_newer(w, epoch[m]);
            if
            :: BREAK_COLLECT_DURABLE && prepared[w] == version[m] -> answered[m] = answered[m] | BIT(w)
            :: !BREAK_COLLECT_DURABLE && prepared[w] == version[m] -> engine_commit(w)
            :: else
            fi;
            if
            :: committed[w] == version[m] ->
                if :: BREAK_COLLECT_DURABLE -> skip :: else -> engine_sync(w) fi;
                answered[m] = answered[m] | BIT(w)
            :: else
            fi
        :: else
        fi }

    :: atomic { SERVES(m) && doing[m] == COLLECTING && COVERS(answered[m], taking[epoch[m]]) ->
        v = version[m];
        dropIn[v] = epoch[m];
        post(DROP, (taking[epoch[m]] & ~BIT(m)), v);
        idle(m);
        collected = v;
        on_drop(m);
        CHECK_KEPT }

    /* ---- as learner ---- */

    /* R27: the list comes from a primary that serves, and knows of the learner */
    :: atomic { UP(m) && HAS(LEARNERS(epoch[m]) & ~leaving[epoch[m]], m) && caughtUp[m] == 0 &&
                !listed[m] ->
        w = primary[epoch[m]];
        if
        :: UP(w) && (serving[w] || BREAK_LIST_SERVING) && primary[epoch[w]] == w &&
           (epoch[w] == epoch[m] || BREAK_LIST_EPOCH) &&
           (doing[w] == IDLE || begun[w] >= NAMED(epoch[m], m) || BREAK_LIST_BUSY ||
            BREAK_NEW_VERSION) && undecided[w] == 0 ->
            listed[m] = true;
            listing[m] = committed[w];
            printf("node %d is told by %d: version %d\n", m, w, committed[w])
        :: else
        fi }

    /* R28: what it has not got it fetches; meanwhile anything may arrive */
    :: atomic { UP(m) && listed[m] && !fetched[m] && listing[m] != 0 &&
                committed[m] < listing[m] && (prepared[m] != listing[m] || hollow[m]) ->
        v = listing[m];
        fetch(m) }

    :: atomic { UP(m) && listed[m] &&
                (fetched[m] || listing[m] == 0 || committed[m] >= listing[m] ||
                 (prepared[m] == listing[m] && !hollow[m])) ->
        v = listing[m];
        install(m);
        drop_unlisted(m);
        listed[m] = false;
        listing[m] = 0;
        fetched[m] = false;
        CHECK_KEPT }

    /* ---- readers ---- */

    /* R20: a clean member with nothing but a committed piece, or nothing, answers by itself */
    :: atomic { UP(m) && (HAS(clean[epoch[m]], m) || BREAK_READ_LEARNER) &&
                ((prepared[m] == 0 && aborted[m] == 0) || BREAK_READ_PREPARED) ->
        printf("node %d answers a reader\n", m);
        if
        :: K == 1 -> reader_gets(committed[m], seen)
        /* R21: two slices of one version, taken one after the other */
        :: K > 1 && !reading ->
            reading = true;
            readFrom = m;
            readVersion = committed[m];
            readSeen = seen
        :: K > 1 && reading && readFrom != m && (readVersion == committed[m] || BREAK_SLICES) ->
            reader_gets(committed[m], readSeen);
            assert(readVersion == committed[m]);
            reading = false;
            readFrom = 0;
            readVersion = 0;
            readSeen = 0
        :: else -> /* asks the primary instead */
            reading = false;
            readFrom = 0;
            readVersion = 0;
            readSeen = 0
        fi }

    /* R22: the primary answers when nothing of the object is undecided */
    :: atomic { SERVES(m) && undecided[m] == 0 && (doing[m] == IDLE || doing[m] == COLLECTING) ->
        printf("primary %d answers a reader\n", m);
        reader_gets(committed[m], seen) }

    /* ---- the process itself ---- */

    :: atomic { state[m] != DEAD && crashes < CRASHES -> die(m); CHECK_KEPT }

    :: atomic { state[m] == DEAD ->
        if
        :: !BREAK_INCARNATION -> state[m] = ENROLLED
        :: WIPED && COUNT(clean[newest] & ~BIT(m)) >= K ->
            committed[m] = 0;
            prepared[m] = 0;
            hollow[m] = false;
            wiped[m] = true;
            for (i : 0 .. N - 1) { /* a settling reads reports off disks, which must still be there */
                if :: deciding[i] -> skip :: else -> answered[i] = answered[i] & ~BIT(m) fi
            }
            state[m] = ENROLLED
        :: BREAK_INCARNATION ->
            state[m] = RUNS;
            epoch[m] = newest;
            if :: primary[newest] == m -> serving[m] = true :: else fi
        fi }
    od
}

/* ---- the authority ---- */

#define DIED(m) (state[m] == DEAD && HAS(taking[newest] & ~absent[newest], m))
/* R29: it is caught up as of the newest epoch, not of one before */
#define ASKS(m)                                                                                    \
    (HAS(LEARNERS(newest), m) && !HAS(leaving[newest], m) &&                                        \
     ((caughtUp[m] != 0 && (caughtUp[m] == newest || BREAK_CAUGHT_UP)) ||                          \
      (BREAK_UNLEARNED && state[m] == RUNS && epoch[m] == newest)))
/* R39: it has adopted a map in which it leaves */
#define LEFT(m) (HAS(leaving[newest], m) && state[m] == RUNS && HAS(leaving[epoch[m]], m))
#define NEWS(m) (DIED(m) || (state[m] == ENROLLED && !REPLACED(m)) || ASKS(m) || LEFT(m))
/* R38: member 2 has its position, or gets it now */
#define REPLACED(m) (MOVES_FROM(m) && (moved || ASKS(2)))
#define STAYS_CLEAN(m)                                                                             \
    (state[m] != DEAD && !wiped[m] && !REPLACED(m) &&                                                             \
     (HAS(clean[newest], m) || ASKS(m) || (BREAK_STALE && state[m] == ENROLLED)))

/* What becomes of m in the next epoch; w members will be clean and present. */
inline next_map(m)
{
    NAMED(newest + 1, m) = NAMED(newest, m);
    if
    :: REPLACED(m) ->
        if
        :: state[m] == RUNS && !LEFT(m) && !BREAK_LEAVER && (!moved || HAS(leaving[newest], m)) ->
            taking[newest + 1] = taking[newest + 1] | BIT(m);
            leaving[newest + 1] = leaving[newest + 1] | BIT(m)
        :: else
        fi
    :: STAYS_CLEAN(m) ->
        clean[newest + 1] = clean[newest + 1] | BIT(m);
        taking[newest + 1] = taking[newest + 1] | BIT(m)
    :: state[m] != DEAD && !STAYS_CLEAN(m) && !REPLACED(m) ->
        taking[newest + 1] = taking[newest + 1] | BIT(m)
    :: state[m] == DEAD && HAS(clean[newest], m) && !REPLACED(m) && w < K && !BREAK_ABSENT -> /* R4 */
        clean[newest + 1] = clean[newest + 1] | BIT(m);
        taking[newest + 1] = taking[newest + 1] | BIT(m);
        absent[newest + 1] = absent[newest + 1] | BIT(m)
    :: else
    fi;
    if
    :: state[m] == ENROLLED ->
        NAMED(newest + 1, m) = newest + 1;
        wiped[m] = false;
        state[m] = RUNS
    :: else
    fi
}

inline publish()
{
    newest++;
    assert(COUNT(clean[newest]) >= K); /* or no epoch could ever serve the object again */
    for (i : 0 .. N - 1) {
        caughtUp[i] = (BREAK_CAUGHT_UP -> caughtUp[i] : 0)
    }
    i = 0;
    do
    :: i < N && !HAS(clean[newest], i) -> i++
    :: else -> break
    od;
    primary[newest] = i;
    printf("the authority: epoch %d, clean %d, absent %d, taking writes %d\n", newest, clean[newest],
           absent[newest], taking[newest])
}

proctype Authority()
{
end:
    do
    :: atomic { newest < EPOCHS && (NEWS(0) || NEWS(1) || NEWS(2)) ->
        w = STAYS_CLEAN(0) + STAYS_CLEAN(1) + STAYS_CLEAN(2);
        moves = MOVE != 0 && ASKS(2);
        next_map(0);
        next_map(1);
        next_map(2);
        moved = moved || moves;
        publish();
        CHECK_KEPT }

    /* a live node that cannot be reached: it would have to be killed first (R3) */
    :: atomic { BREAK_FENCE && newest < EPOCHS && clean[newest] == EVERYBODY ->
        clean[newest + 1] = EVERYBODY & ~1;
        taking[newest + 1] = EVERYBODY & ~1;
        publish() }
    od
}

/* Time has passed: a put was acknowledged, another rolled back, without member 2. */
inline renew()
{
    newest = 2;
    clean[2] = 3;
    taking[2] = 7;
    NAMED(2, 0) = 1;
    NAMED(2, 1) = 1;
    NAMED(2, 2) = 2;
    for (i : 0 .. N - 1) {
        epoch[i] = 2
    }
    putOf[1] = 1;
    depends[1] = 3;
    sentIn[1] = 1;
    putOf[2] = 2;
    depends[2] = 7;
    sentIn[2] = 1;
    everTaken = BIT(1) | BIT(2);
    everCommitted = BIT(1);
    everDead = BIT(2);
    committed[0] = 1;
    committed[1] = 1;
    if
    :: prepared[2] = 2
    :: committed[2] = 1
    :: skip
    fi;
    outcome[2] = TRIED;
    acknowledge(1)
}

init
{
    atomic {
        CHOOSE_SIZES;
        for (i : 0 .. N - 1) {
            NAMED(1, i) = 1;
            state[i] = RUNS;
            epoch[i] = 1
        }
        clean[1] = EVERYBODY;
        taking[1] = EVERYBODY;
        serving[0] = true;
        if :: RENEW -> renew() :: else fi;
        run Node(0);
        run Node(1);
        run Node(2);
        run Authority()
    }
}
