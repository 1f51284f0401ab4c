/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of which the processes in lease.pml are made. */

inline pick(set)
{
    if
    :: HAS(set, 1) -> v = 1
    :: HAS(set, 2) -> v = 2
    :: HAS(set, 3) -> v = 3
    :: HAS(set, 4) -> v = 4
    :: HAS(set, 5) -> v = 5
    fi
}

inline pick_node()
{
    if
    :: w = 0
    :: w = 1
    :: w = 2
    :: N > 3 -> w = 3
    fi
}

/* ---- readers ---- */

inline reader_gets(m, since)
{
    printf("node %d answers version %d in epoch %d\n", m, committed[m], epoch[m]);
    assert(committed[m] >= since || (OUT && committed[m] == 0)); /* a cache may miss */
    if :: committed[m] > seen -> seen = committed[m] :: else fi
}

inline forget_reading()
{
    reading = false;
    readFrom = 0;
    readEpoch = 0;
    readVersion = 0;
    readSeen = 0
}

inline it_is_visible(v_)
{
    assert(v_ >= seen || HAS(happened, v_)); /* it may have been settled forward, and replaced */
    happened = happened | BIT(v_);
    if :: v_ > seen -> seen = v_ :: else fi
}

/* ---- epochs ---- */

inline stop_serving(m)
{
    serving[m] = false;
    durable[putting[m]] = 0;
    putting[m] = 0;
    answered[m] = 0
}

/* R45: does m hold back for x, which is not up in `next`? */
#define HAD_PART(x) HAS((BREAK_HOLD_LEAVER -> clean[was] : TAKING(was)), x)
#define HOLDS_FOR(x) (!BREAK_HOLD && (HAD_PART(x) || (next != was + 1 && !BREAK_HOLD_SKIPPED)))

/* From now on m renews the grants of those only who are up in `next`; 0: of nobody. */
inline grants_change(m)
{
    for (i : 0 .. N - 1) {
        if
        :: i != m && RENEWS(m, i) && (next == 0 || !GRANTS_IN(next, i)) ->
            running[m] = running[m] | BIT(i);
            if
            :: next == 0 || HOLDS_FOR(i) -> held[m] = held[m] | BIT(i)
            :: else
            fi
        :: i != m && state[i] == RUNS && next != 0 && GRANTS_IN(next, i) ->
            running[m] = running[m] & ~BIT(i);
            held[m] = held[m] & ~BIT(i);
        :: else
        fi
    }
}

/* The life of m is over: what it counted it counts no more; what it granted runs on. */
inline end_life(m)
{
    was = epoch[m];
    next = 0;
    grants_change(m);
    for (i : 0 .. N - 1) {
        if
        :: BREAK_OLD_LIFE && i != m && (RENEWS(i, m) || HAS(running[i], m)) ->
            stray[i] = stray[i] | BIT(m)
        :: BREAK_OLD_LIFE -> skip
        :: else -> stray[i] = stray[i] & ~BIT(m)
        fi;
        running[i] = running[i] & ~BIT(m);
        held[i] = held[i] & ~BIT(m)
    }
    for (i : 1 .. MAX_EPOCHS) {
        durable[i] = durable[i] & ~BIT(m);
        sentTo[i] = sentTo[i] & ~BIT(m)
    }
    epoch[m] = 0;
    life[m] = 0;
    caughtUp[m] = false;
    stop_serving(m)
}

/* R17: does everyone who takes writes in `next` do so since `was`? */
#define NEW_IN(m)                                                                                  \
    (HAS(TAKING(next), m) && (!HAS(TAKING(was), m) || NAMED(next, m) != NAMED(was, m)))
#define NOBODY_NEW (!NEW_IN(0) && !NEW_IN(1) && !NEW_IN(2) && !NEW_IN(3))
#define SOMEBODY_GONE ((TAKING(was) & ~up[next]) != 0)

inline carry_on(m)
{
    if
    :: putting[m] == 0 -> skip
    :: putting[m] != 0 && NOBODY_NEW ->
        if :: SOMEBODY_GONE && !BREAK_CARRIED -> durable[putting[m]] = 0 :: else fi;
        sentIn[putting[m]] = next;
        sentTo[putting[m]] = TAKING(next) & up[next] & ~durable[putting[m]]
    :: else ->
        durable[putting[m]] = 0;
        if
        :: MAY_TAKE(next) -> take_version(m)
        :: else -> stop_serving(m) /* the model has run out of versions */
        fi
    fi
}

inline adopt(m, e)
{
    was = epoch[m];
    next = e; /* which may be said in terms of epoch[m] */
    grants_change(m);
    epoch[m] = next;
    caughtUp[m] = false;
    for (i : 1 .. MAX_EPOCHS) { /* R1: it would be refused for ever */
        if :: sentIn[i] < next -> sentTo[i] = sentTo[i] & ~BIT(m) :: else fi
    }
    printf("node %d adopts epoch %d\n", m, next);
    if
    :: !HAS(up[next], m) || NAMED(next, m) != life[m] -> /* R3a */
        end_life(m);
        state[m] = ENROLLED
    :: else ->
        if
        :: serving[m] && PRIMARY(next) == m && next == was + 1 -> carry_on(m) /* R6 */
        :: else -> stop_serving(m)
        fi
    fi
}

inline adopt_newer(m, e)
{
    if :: e > epoch[m] -> adopt(m, e) :: else fi
}

/* ---- puts ---- */

inline take_version(m)
{
    puts++;
    putting[m] = epoch[m];
    everTaken = everTaken | BIT(epoch[m]);
    sentIn[epoch[m]] = epoch[m];
    sentTo[epoch[m]] = TAKING(epoch[m]) & up[epoch[m]];
    printf("node %d takes version %d\n", m, epoch[m])
}

inline commit(m)
{
    committed[m] = prepared[m];
    prepared[m] = 0
}

/* R16: what it has prepared is committed first, if it is. */
#define IS_PUT(v_)                                                                                 \
    (putting[0] == (v_) || putting[1] == (v_) || putting[2] == (v_) || putting[3] == (v_))
inline prepare(m)
{
    sentTo[v] = sentTo[v] & ~BIT(m);
    if
    :: committed[m] < v && prepared[m] < v ->
        if :: prepared[m] != 0 && HAS(happened, prepared[m]) -> commit(m) :: else fi;
        printf("node %d prepares version %d in epoch %d\n", m, v, epoch[m]);
        prepared[m] = v
    :: else
    fi;
    if
    :: (committed[m] >= v || prepared[m] == v) && IS_PUT(v) -> durable[v] = durable[v] | BIT(m)
    :: else
    fi
}

/* ---- settling, R23 to R25 ---- */

#define LACKS(x, v_) (committed[x] < (v_) && prepared[x] != (v_))
/* A position is depended on, whoever of the two had it. */
#define DEPENDS(x, v_) (HAS(TAKING(v_) | (TAKING(v_) & MOVERS >> 2) << 2, x))
#define DENIES(e, x, v_) (HAS(clean[e], x) && DEPENDS(x, v_) && LACKS(x, v_))
#define DENIED(e, v_) (DENIES(e, 0, v_) || DENIES(e, 1, v_) || DENIES(e, 2, v_) || DENIES(e, 3, v_))
#define NEWER_AT(e, x, v_) (HAS(clean[e], x) && committed[x] > (v_))
#define IS_OBSOLETE(e, v_)                                                                         \
    (NEWER_AT(e, 0, v_) || NEWER_AT(e, 1, v_) || NEWER_AT(e, 2, v_) || NEWER_AT(e, 3, v_))
#define IS_AT(e, x, v_) (HAS(clean[e], x) && committed[x] == (v_))
#define IS_COMMITTED(e, v_)                                                                        \
    (IS_AT(e, 0, v_) || IS_AT(e, 1, v_) || IS_AT(e, 2, v_) || IS_AT(e, 3, v_))

/* Decides all versions that somebody has prepared, newest first, and makes it so everywhere. */
inline settle(m)
{
    j = true; /* is everybody at this epoch still? */
    for (i : 0 .. N - 1) {
        if
        :: HAS(TAKING(epoch[m]), i) && (state[i] != RUNS || epoch[i] != epoch[m]) -> j = false
        :: else
        fi
    }
    if
    :: j ->
        for (w : 1 .. MAX_EPOCHS) {
            v = MAX_EPOCHS + 1 - w;
            settle_version(m)
        }
        serving[m] = true;
        answered[m] = 0;
        printf("node %d serves epoch %d\n", m, epoch[m])
    :: else
    fi
}

inline settle_version(m)
{
    j = 0; /* who has it prepared */
    for (i : 0 .. N - 1) {
        if :: HAS(TAKING(epoch[m]), i) && prepared[i] == v -> j = j | BIT(i) :: else fi
    }
    if
    :: j == 0 -> skip
    :: j != 0 && !IS_OBSOLETE(epoch[m], v) && (IS_COMMITTED(epoch[m], v) || !DENIED(epoch[m], v)) ->
        printf("node %d rolls version %d forward\n", m, v);
        it_is_visible(v);
        for (i : 0 .. N - 1) {
            if
            :: HAS(clean[epoch[m]], i) && committed[i] < v ->
                committed[i] = v;
                if :: prepared[i] <= v -> prepared[i] = 0 :: else fi
            :: !HAS(clean[epoch[m]], i) && prepared[i] == v -> commit(i)
            :: else
            fi
        }
    :: else ->
        printf("node %d rolls version %d back\n", m, v);
        for (i : 0 .. N - 1) {
            if :: HAS(j, i) -> prepared[i] = 0 :: else fi
        }
    fi
}

/* ---- the authority ---- */

#define KNOWS(m)                                                                                   \
    (state[m] == RUNS && epoch[m] == newest && (running[m] == 0 || BREAK_FRESH_QUIET))
#define KNOWING (KNOWS(0) | KNOWS(1) << 1 | KNOWS(2) << 2 | KNOWS(3) << 3)
#define TO_KNOW (up[newest] | (BREAK_FRESH_ABSENT -> 0 : clean[newest]) | leaving[newest])
#define MARKS_GO COVERS(KNOWING, TO_KNOW)
/* R42, R47 */
#define IS_OUT(m)                                                                                  \
    (OUT && clean[newest] == BIT(m) && !HAS(up[newest] | nextUp, m) &&                             \
     (COVERS(KNOWING, ALL & ~BIT(m)) || BREAK_OUT))

/* Who is up: anybody may be silent, and who enrolled is named. */
inline next_up()
{
    nextUp = up[newest];
    names = 0;
    lost = cuts;
    for (i : 0 .. N - 1) {
        if
        :: HAS(ALL, i) && state[i] == ENROLLED ->
            nextUp = nextUp | BIT(i);
            names = names | BIT(i)
        :: HAS(nextUp, i) && lost < CUTS ->
            nextUp = nextUp & ~BIT(i);
            lost++
        :: skip
        fi
    }
}

#define ASKS(m)                                                                                    \
    (caughtUp[m] && state[m] == RUNS && epoch[m] == newest && HAS(nextUp & ~names, m) &&           \
     HAS(LEARNERS(newest), m))

/* Would the positions be left to too few who are known to everybody? */
#define TOO_FEW(set) (COUNT((set) & ~nextFresh) < K && !ALONE && !BREAK_SWITCH)

inline next_clean()
{
    nextClean = clean[newest];
    nextPlace = place[newest];
    nextLeaving = leaving[newest];
    nextFresh = fresh[newest];
    for (i : 0 .. N - 1) {
        if
        :: ASKS(i) && HAS(nextPlace, i) ->
            nextClean = nextClean | BIT(i);
            nextFresh = nextFresh | BIT(i)
        :: ASKS(i) && !HAS(nextPlace, i) && !TOO_FEW(nextClean & ~BIT(i - 2)) ->
            nextPlace = (nextPlace | BIT(i)) & ~BIT(i - 2);
            nextClean = (nextClean | BIT(i)) & ~BIT(i - 2);
            nextFresh = (nextFresh | BIT(i)) & ~BIT(i - 2);
            nextLeaving = nextLeaving | BIT(i - 2)
        :: IS_OUT(i) && nextClean == BIT(i) && HAS(nextUp, 1) ->
            nextPlace = BIT(1);
            nextClean = BIT(1)
        :: skip
        fi
    }
}

/* R4, and the marks that go. */
inline next_marks()
{
    if
    :: MARKS_GO && fresh[newest] != 0 ->
        nextFresh = nextFresh & ~fresh[newest];
        nextLeaving = nextLeaving & ~leaving[newest]
    :: skip
    fi;
    if :: BREAK_FRESH -> nextFresh = 0 :: else fi;
    if :: BREAK_LEAVER -> nextLeaving = 0 :: else fi;
    if
    :: ALONE && !BREAK_LEAVER_ABSENT -> skip /* it is waited for */
    :: else -> nextLeaving = nextLeaving & nextUp & ~names
    fi;
    confirmed = nextClean & nextUp & ~nextFresh;
    if
    :: COUNT(confirmed) >= K && !ALONE -> nextClean = nextClean & nextUp
    :: else
    fi;
    nextFresh = nextFresh & nextClean
}

inline publish()
{
    if
    :: nextUp == up[newest] && names == 0 && nextClean == clean[newest] &&
       nextFresh == fresh[newest] && nextLeaving == leaving[newest] && nextPlace == place[newest] &&
       newest != LATER ->
        skip
    :: else ->
        newest++;
        cuts = lost;
        up[newest] = nextUp;
        clean[newest] = nextClean;
        fresh[newest] = nextFresh;
        place[newest] = nextPlace;
        leaving[newest] = nextLeaving;
        for (i : 0 .. N - 1) {
            NAMED(newest, i) = NAMED(newest - 1, i);
            if
            :: HAS(names, i) ->
                NAMED(newest, i) = newest;
                state[i] = RUNS;
                life[i] = newest
            :: else
            fi
        }
        printf("the authority: epoch %d, up %d, clean %d, fresh %d, leaving %d\n", newest,
               up[newest], clean[newest], fresh[newest], leaving[newest])
    fi
}
