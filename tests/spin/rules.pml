/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes do in the model in commit.pml, step by step, and what is checked of it. */

/* ---- what is checked ---- */

/*
 * Acknowledged => readable with any m members gone, those counted that are not clean: it is with
 * every clean member, present or not, and R4 sees to it that there are k.
 */
#define HOLDS(m)                                                                                   \
    (committed[m] >= acknowledged || prepared[m] == acknowledged ||                                \
     (committed[m] == 0 && collected >= acknowledged))
#define KEPT(m) (!HAS(clean[newest], m) || wiped[m] || HOLDS(m))
#define CHECK_KEPT assert(acknowledged == 0 || (KEPT(0) && KEPT(1) && KEPT(2)))

/*
 * A reader that began when `since` was the newest thing seen is given version r; 0 is "no such
 * blob": the state before the first put, or after a delete whose tombstone was collected.
 */
inline reader_gets(r, since)
{
    result = r;
    printf("  reads version %d\n", result);
    if
    :: result == 0 ->
        for (i : 1 .. VERSIONS) {
            if :: HAS(everCommitted, i) && IS_TOMBSTONE(i) -> result = i :: else fi
        }
    :: else ->
        assert(HAS(everCommitted, result)); /* not what may never have happened */
        assert(!HAS(everDead, result))
    fi;
    assert(result >= since); /* linearizable: nothing older than what was acknowledged or seen */
    if :: result > seen -> seen = result :: else fi
}

/* Decided: v happened. Never after it was decided, or told to a client, that it did not. */
inline it_happened(v_)
{
    printf("version %d is committed\n", v_);
    assert(!HAS(everDead, v_));
    assert(outcome[putOf[v_]] != FAILED);
    for (i : 1 .. VERSIONS) { /* and no put happens twice */
        assert(i == v_ || putOf[i] != putOf[v_] || !HAS(everCommitted, i))
    }
    everCommitted = everCommitted | BIT(v_)
}

inline it_never_happened(v_)
{
    printf("version %d never happened\n", v_);
    assert(!HAS(everCommitted, v_));
    everDead = everDead | BIT(v_)
}

inline acknowledge(v_)
{
    printf("version %d is acknowledged\n", v_);
    outcome[putOf[v_]] = ACKED;
    if :: v_ > acknowledged -> acknowledged = v_ :: else fi;
    if :: v_ > seen -> seen = v_ :: else fi
}

/* ---- the engine of a member ---- */

inline engine_sync(m)
{
    marked[m] = false;
    before[m] = 0
}

/* In memory at once; durable with the next write, or engine_sync(). */
inline engine_commit(m)
{
    engine_sync(m);
    before[m] = committed[m];
    marked[m] = true;
    committed[m] = prepared[m];
    prepared[m] = 0;
    hollow[m] = false
}

/* Payload that was not flushed, or that a damage took: R25 must bear both. */
inline engine_crash(m)
{
    if
    :: marked[m] ->
        prepared[m] = committed[m];
        committed[m] = before[m]
    :: skip
    fi;
    engine_sync(m);
    if
    :: HOLLOW && prepared[m] != 0 -> hollow[m] = true
    :: skip
    fi
}

/* One prepared piece is kept: an older one goes. */
inline engine_prepare(m, v_)
{
    engine_sync(m);
    prepared[m] = v_;
    hollow[m] = false
}

inline engine_abort(m)
{
    prepared[m] = 0;
    hollow[m] = false
}

/* ---- sending ---- */

inline post(what, set, v_)
{
    for (i : 0 .. N - 1) {
        if :: HAS(set, i) && UP(i) -> SENT(what, i) = SENT(what, i) | BIT(v_) :: else fi
    }
}

/* Any one of the versions sent to m. */
inline pick(what, m)
{
    if
    :: HAS(SENT(what, m), 1) -> v = 1
    :: HAS(SENT(what, m), 2) -> v = 2
    :: HAS(SENT(what, m), 3) -> v = 3
    :: VERSIONS >= 4 && HAS(SENT(what, m), 4) -> v = 4
    :: VERSIONS >= 5 && HAS(SENT(what, m), 5) -> v = 5
    :: VERSIONS >= 6 && HAS(SENT(what, m), 6) -> v = 6
    :: VERSIONS >= 7 && HAS(SENT(what, m), 7) -> v = 7
    :: VERSIONS >= 8 && HAS(SENT(what, m), 8) -> v = 8
    :: VERSIONS >= 9 && HAS(SENT(what, m), 9) -> v = 9
    :: VERSIONS >= 10 && HAS(SENT(what, m), 10) -> v = 10
    :: VERSIONS >= 11 && HAS(SENT(what, m), 11) -> v = 11
    :: VERSIONS >= 12 && HAS(SENT(what, m), 12) -> v = 12
    fi
}

/* ---- as primary: versions, prepares, aborts ---- */

inline send_prepares(m)
{
    sentIn[version[m]] = epoch[m];
    post(PREPARE, (taking[epoch[m]] & ~durable[version[m]]), version[m])
}

/* R10, R11: a fresh version for operation p goes to everybody who takes writes. */
inline take_version(m, p)
{
    fresh = (epoch[m] - 1) * VPE + 1;
    do
    :: HAS(everTaken, fresh) -> fresh++
    :: else -> break
    od;
    everTaken = everTaken | BIT(fresh);
    printf("node %d takes version %d for put %d\n", m, fresh, p);
    putOf[fresh] = p;
    depends[fresh] = taking[epoch[m]];
    baseOf[fresh] = committed[m];
    version[m] = fresh;
    doing[m] = PREPARING;
    send_prepares(m)
}

inline send_aborts(m)
{
    answered[m] = 0;
    abortIn[version[m]] = epoch[m];
    post(ABORT, taking[epoch[m]], version[m])
}

inline idle(m)
{
    doing[m] = IDLE;
    version[m] = 0;
    begun[m] = 0;
    answered[m] = 0
}

/* R6: what it had under way is left to the settling. */
inline stop_serving(m)
{
    idle(m);
    serving[m] = false;
    deciding[m] = false;
    undoing[m] = 0;
    undecided[m] = 0
}

/* ---- epochs ---- */

/* R17: what becomes of the put or abort under way when its primary, m, goes from epoch `was` to `next`. */
inline carry_on(m)
{
    if
    :: doing[m] == ABORTING -> send_aborts(m) /* R19: begins again with those of the new epoch */
    :: doing[m] == COLLECTING -> idle(m)
    :: doing[m] == PREPARING && (BREAK_NEW_VERSION || NOBODY_NEW(next, was)) ->
        send_prepares(m)
    :: doing[m] == PREPARING && !(BREAK_NEW_VERSION || NOBODY_NEW(next, was)) && MAY_TAKE(next) ->
        take_version(m, putOf[version[m]]) /* the one before may yet be settled forward, or this */
    :: doing[m] == PREPARING && !(BREAK_NEW_VERSION || NOBODY_NEW(next, was)) && !MAY_TAKE(next) ->
        stop_serving(m) /* the model has run out of versions */
    :: else
    fi
}

/*
 * What an older epoch sent will be refused for ever (R1), so it need not be remembered: this changes
 * nothing but the number of states.
 */
#define OLD(what, in, m) (HAS(SENT(what, m), i) && in[i] < next)
inline forget_old_messages(m)
{
    for (i : 1 .. VERSIONS) {
        if :: OLD(PREPARE, sentIn, m) -> SENT(PREPARE, m) = SENT(PREPARE, m) & ~BIT(i) :: else fi;
        if :: OLD(COMMIT, commitIn, m) -> SENT(COMMIT, m) = SENT(COMMIT, m) & ~BIT(i) :: else fi;
        if :: OLD(ABORT, abortIn, m) -> SENT(ABORT, m) = SENT(ABORT, m) & ~BIT(i) :: else fi;
        if :: OLD(DROP, dropIn, m) -> SENT(DROP, m) = SENT(DROP, m) & ~BIT(i) :: else fi
    }
}

/* R1: m adopts epoch e. */
inline adopt(m, e)
{
    was = epoch[m];
    next = e;
    epoch[m] = next;
    printf("node %d adopts epoch %d\n", m, next);
    if
    :: primary[next] == m && serving[m] -> carry_on(m)
    :: else -> stop_serving(m)
    fi;
    if :: BREAK_EPOCH -> skip :: else -> forget_old_messages(m) fi;
    fetched[m] = false;
    listed[m] = false; /* R29: what was told under one epoch is no proof in the next */
    listing[m] = 0;
    caughtUp[m] = (BREAK_CAUGHT_UP -> caughtUp[m] : 0);
    if
    :: MOVES_FROM(m) && moved && !HAS(taking[next], m) -> /* R39: it drops what it has */
        engine_sync(m);
        engine_abort(m);
        committed[m] = 0
    :: else
    fi
}

inline adopt_newer(m, e)
{
    if :: e > epoch[m] -> adopt(m, e) :: else fi
}

/* R1: refuses what an older epoch sent. */
#define ACCEPTS(m, e) (BREAK_EPOCH || (e) >= epoch[m])

/* ---- as member: messages; v is the version ---- */

inline on_prepare(m)
{
    adopt_newer(m, sentIn[v]);
    if
    :: !HAS(taking[epoch[m]], m) -> skip
    :: HAS(taking[epoch[m]], m) && v <= lowWater[m] && !BREAK_LOW_WATER -> skip /* R14 */
    :: HAS(taking[epoch[m]], m) && v <= aborted[m] && !BREAK_ABORTED -> skip    /* R15 */
    :: else ->
        if
        :: committed[m] >= v || (prepared[m] == v && !hollow[m]) -> durable[v] = durable[v] | BIT(m)
        :: committed[m] < v && prepared[m] > v -> skip
        :: else ->
            if
            :: baseOf[v] != 0 && prepared[m] == baseOf[v] && !BREAK_BASE -> engine_commit(m) /* R16 */
            :: else
            fi;
            printf("node %d prepares version %d\n", m, v);
            engine_prepare(m, v);
            durable[v] = durable[v] | BIT(m)
        fi
    fi
}

inline on_abort(m)
{
    printf("node %d aborts version %d\n", m, v);
    adopt_newer(m, abortIn[v]);
    if :: prepared[m] == v -> engine_abort(m) :: else fi;
    if :: v > aborted[m] -> aborted[m] = v :: else fi;
    j = primary[abortIn[v]];
    if
    :: epoch[j] == abortIn[v] && doing[j] == ABORTING && version[j] == v ->
        answered[j] = answered[j] | BIT(m)
    :: epoch[j] == abortIn[v] && deciding[j] && !HAS(undoing[j], prepared[m]) ->
        answered[j] = answered[j] | BIT(m) /* nothing of what is rolled back is left here */
    :: else
    fi
}

inline on_drop(m)
{
    printf("node %d drops version %d\n", m, v);
    adopt_newer(m, dropIn[v]);
    if :: v > lowWater[m] -> lowWater[m] = v :: else fi;
    if :: committed[m] == v -> engine_sync(m); committed[m] = 0 :: else fi
}

/* ---- settling, R23 to R26: m is primary of epoch[m], and all have adopted it ---- */

#define PIECE(x, v_) (committed[x] == (v_) || (prepared[x] == (v_) && !hollow[x]))
#define GOOD_AT(e, x, v_) (HAS(clean[e], x) && PIECE(x, v_))
#define GOOD(e, v_) (GOOD_AT(e, 0, v_) + GOOD_AT(e, 1, v_) + GOOD_AT(e, 2, v_))
#define NEEDED(v_) (IS_TOMBSTONE(v_) -> 1 : K)
#define NONE_AT(x, v_) (committed[x] < (v_) && (prepared[x] != (v_) || (BREAK_HOLLOW && hollow[x])))
/* R25 */
#define TESTIFIES(e, x) (HAS(clean[e], x) || (BREAK_TESTIFY && HAS(taking[e], x)))
/* A position is depended on, whoever of the two had it. */
#define DEPENDS(x, v_) (HAS(depends[v_], x) || (MOVE != 0 && (x) == 2 && HAS(depends[v_], MOVE - 1)))
#define DENIES(e, x, v_) (TESTIFIES(e, x) && DEPENDS(x, v_) && NONE_AT(x, v_))
#define DENIED(e, v_) (DENIES(e, 0, v_) || DENIES(e, 1, v_) || DENIES(e, 2, v_))
#define NEWEST_AT(e, x) (HAS(clean[e], x) -> committed[x] : 0)
#define IS_COMMITTED(e, v_)                                                                        \
    (NEWEST_AT(e, 0) == (v_) || NEWEST_AT(e, 1) == (v_) || NEWEST_AT(e, 2) == (v_))
#define IS_OBSOLETE(e, v_)                                                                         \
    (NEWEST_AT(e, 0) > (v_) || NEWEST_AT(e, 1) > (v_) || NEWEST_AT(e, 2) > (v_))
#define ASKED(e) (taking[e] & ~(BREAK_LEARNERS_ASKED * LEARNERS(e)))
#define IS_PREPARED_AT(e, x, v_) (HAS(ASKED(e), x) && prepared[x] == (v_))
#define IS_PREPARED(e, v_)                                                                         \
    (IS_PREPARED_AT(e, 0, v_) || IS_PREPARED_AT(e, 1, v_) || IS_PREPARED_AT(e, 2, v_))

inline forward(m)
{
    printf("node %d rolls version %d forward\n", m, v);
    it_happened(v);
    commitIn[v] = epoch[m];
    post(COMMIT, taking[epoch[m]], v);
    if :: prepared[m] == v -> engine_commit(m) :: else fi
}

inline decide(m)
{
    for (w : 1 .. VERSIONS) {
        v = VERSIONS + 1 - w; /* newest first */
        if
        :: !IS_PREPARED(epoch[m], v) -> skip
        :: IS_PREPARED(epoch[m], v) && IS_COMMITTED(epoch[m], v) -> forward(m)
        :: else ->
            if
            :: IS_OBSOLETE(epoch[m], v) ->
                undoing[m] = undoing[m] | BIT(v)
            :: !IS_OBSOLETE(epoch[m], v) && DENIED(epoch[m], v) &&
               !(BREAK_DENIAL && GOOD(epoch[m], v) >= NEEDED(v)) ->
                undoing[m] = undoing[m] | BIT(v)
            :: !IS_OBSOLETE(epoch[m], v) && GOOD(epoch[m], v) >= NEEDED(v) &&
               (BREAK_DENIAL || !DENIED(epoch[m], v)) ->
                forward(m)
            :: else -> undecided[m] = v
            fi
        fi
    }
    answered[m] = 0;
    deciding[m] = true;
    printf("node %d settles epoch %d\n", m, epoch[m]);
    for (w : 1 .. VERSIONS) {
        if
        :: HAS(undoing[m], w) -> abortIn[w] = epoch[m]; post(ABORT, ASKED(epoch[m]), w)
        :: else
        fi
    }
}

/* Settled: every version of an earlier epoch is committed, or waits, or never happened. */
inline settled(m)
{
    for (w : 1 .. (epoch[m] - 1) * VPE) {
        if
        :: HAS(everTaken, w) && !HAS(everCommitted, w) && undecided[m] != w -> it_never_happened(w)
        :: else
        fi
    }
    deciding[m] = false;
    undoing[m] = 0;
    answered[m] = 0;
    serving[m] = true;
    printf("node %d serves epoch %d\n", m, epoch[m])
}

/* ---- as learner, R27 to R29 ---- */

/* R28: v, which the primary listed, can be fetched at exactly that version from k clean members. */
inline fetch(m)
{
    w = 0;
    for (i : 0 .. N - 1) {
        if :: i != m && UP(i) && HAS(clean[epoch[i]], i) && PIECE(i, v) -> w++ :: else fi
    }
    if
    :: w >= NEEDED(v) -> fetched[m] = true
    :: else -> listed[m] = false; listing[m] = 0 /* gone meanwhile: it asks again */
    fi
}

inline install(m)
{
    printf("node %d learns version %d\n", m, v);
    if
    :: v == 0 || committed[m] >= v -> skip /* a newer one was committed here meanwhile */
    :: v != 0 && committed[m] < v && prepared[m] == v && !hollow[m] -> engine_commit(m)
    :: else ->
        engine_sync(m);
        committed[m] = v;
        if :: prepared[m] <= v -> engine_abort(m) :: else fi
    fi;
    caughtUp[m] = epoch[m]
}

/* R29: what is older than the learner and was not listed goes. */
#define UNLISTED(m, x)                                                                             \
    ((x) != 0 && (x) != v && (BREAK_DROP_NEW || EPOCH_OF(x) < NAMED(epoch[m], m)) && !BREAK_ONE_WAY)

inline drop_unlisted(m)
{
    if :: UNLISTED(m, prepared[m]) -> engine_abort(m) :: else fi;
    if :: UNLISTED(m, committed[m]) -> engine_sync(m); committed[m] = 0 :: else fi
}

/* ---- a node ---- */

/* Memory goes, and what was on its way here; a commit mark may have reached the device, or not. */
inline die(m)
{
    printf("node %d dies\n", m);
    crashes++;
    engine_crash(m);
    state[m] = DEAD;
    epoch[m] = 0;
    lowWater[m] = 0;
    aborted[m] = 0;
    stop_serving(m);
    listed[m] = false;
    listing[m] = 0;
    fetched[m] = false;
    caughtUp[m] = 0;
    SENT(PREPARE, m) = 0;
    SENT(COMMIT, m) = 0;
    SENT(ABORT, m) = 0;
    SENT(DROP, m) = 0;
    for (i : 1 .. VERSIONS) {
        durable[i] = durable[i] & ~BIT(m) /* R12: in its current incarnation */
    }
}
