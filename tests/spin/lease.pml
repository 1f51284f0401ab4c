/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases between members (docs/protocol.md, section 11) as a model for spin: may anybody read an older
 * version after a newer one was acknowledged, or read, when the authority takes silence for death?
 * tests/spin/run searches it as it does commit.pml.
 *
 * One slot, one object: its committed and its prepared version on each node. The authority may leave
 * out of any epoch a node that runs, and each node adopts an epoch at any later time, or never, or
 * skips it. A node that is cut off is one that adopts nothing: nodes at the same old epoch go on
 * granting each other. What commit.pml looks at is left out or coarse here: aborts, deletes, lost commit
 * marks; a version is the epoch in which it was taken, so each primary writes once in an epoch.
 *
 * Time. As long as a node may have a grant renewed it may count it: so the model remembers no grant
 * until the granter ceases to renew it. From then on it runs, and ends at any moment (`running`). That
 * the granter's note of it ends no sooner is the one thing that clocks are needed for; the model has it
 * end at once, which is the worst case. `stray` grants are those of which the granter knows nothing,
 * as happens only where a rule is broken.
 */

#include "lease_state.pml"
#include "lease_rules.pml"

proctype Node(byte m)
{
end:
    do
    :: atomic { state[m] == RUNS && epoch[m] < newest ->
        if
        :: adopt(m, newest)
        :: epoch[m] != 0 && epoch[m] + 1 < newest -> adopt(m, epoch[m] + 1)
        fi }

    /* ---- as member ---- */

    :: atomic { state[m] == RUNS && PREPARES(m) != 0 ->
        pick(PREPARES(m));
        adopt_newer(m, sentIn[v]);
        if :: UP(m) && TAKES_PART(m) -> prepare(m) :: else fi }

    :: atomic { UP(m) && prepared[m] != 0 && HAS(happened, prepared[m]) ->
        commit(m) }

    /* ---- as primary ---- */

    :: atomic { SERVES(m) && putting[m] == 0 && WRITABLE(epoch[m]) && MAY_TAKE(epoch[m]) ->
        take_version(m) }

    :: atomic { SERVES(m) && putting[m] != 0 && WRITABLE(epoch[m]) && MAY_COMMIT(m) &&
                COVERS(durable[putting[m]], TAKING(epoch[m])) ->
        v = putting[m];
        printf("version %d is acknowledged in epoch %d\n", v, epoch[m]);
        it_is_visible(v);
        if :: prepared[m] == v -> commit(m) :: else fi;
        durable[v] = 0;
        putting[m] = 0 }

    :: atomic { SETTLES(m) && WRITABLE(epoch[m]) ->
        pick_node();
        if
        :: HAS(TAKING(epoch[m]), w) && !HAS(answered[m], w) && state[w] == RUNS &&
           epoch[w] <= epoch[m] && epoch[m] >= life[w] ->
            adopt_newer(w, epoch[m]);
            if
            :: state[w] == RUNS && (TAKES_PART(w) || BREAK_HOLD_SETTLING) ->
                answered[m] = answered[m] | BIT(w)
            :: else
            fi
        :: else
        fi }

    :: atomic { SETTLES(m) && WRITABLE(epoch[m]) && COVERS(answered[m], TAKING(epoch[m])) ->
        settle(m) }

    /* ---- as learner: it has all that is decided, and what is under way it is sent ---- */

    :: atomic { UP(m) && HAS(LEARNERS(epoch[m]), m) && !caughtUp[m] ->
        w = PRIMARY(epoch[m]);
        if
        :: w < N && SERVES(w) && epoch[w] == epoch[m] ->
            printf("node %d learns version %d in epoch %d\n", m, committed[w], epoch[m]);
            if
            :: committed[m] < committed[w] -> committed[m] = committed[w]
            :: else
            fi;
            if :: prepared[m] != putting[w] -> prepared[m] = 0 :: else fi;
            caughtUp[m] = true
        :: else
        fi }

    /* ---- readers ---- */

    :: atomic { K == 1 && UP(m) && HAS(clean[epoch[m]], m) && prepared[m] == 0 && MAY_ANSWER(m) ->
        reader_gets(m, seen) }

    /* Two slices of one version, of members at one epoch, one after the other. */
    :: atomic { K > 1 && UP(m) && HAS(clean[epoch[m]], m) && prepared[m] == 0 && MAY_ANSWER(m) ->
        if
        :: !reading ->
            printf("node %d gives a first slice of version %d in epoch %d\n", m, committed[m], epoch[m]);
            reading = true;
            readFrom = m;
            readEpoch = epoch[m];
            readVersion = committed[m];
            readSeen = seen
        :: reading && readFrom != m && readEpoch == epoch[m] && readVersion == committed[m] ->
            reader_gets(m, readSeen);
            forget_reading()
        :: reading -> forget_reading()
        fi }

    :: atomic { SERVES(m) && putting[m] == 0 && MAY_ANSWER(m) ->
        reader_gets(m, seen) }

    /* ---- grants end ---- */

    :: atomic { running[m] != 0 || stray[m] != 0 ->
        pick_node();
        running[m] = running[m] & ~BIT(w);
        held[m] = held[m] & ~BIT(w);
        stray[m] = stray[m] & ~BIT(w) }

    /* ---- the process itself ---- */

    :: atomic { state[m] == RUNS && crashes < CRASHES ->
        printf("node %d dies\n", m);
        crashes++;
        end_life(m);
        if
        :: BREAK_RESTARTED ->
            stray[m] = stray[m] | running[m];
            running[m] = 0;
            held[m] = 0
        :: else
        fi;
        state[m] = DEAD }

    :: atomic { state[m] == DEAD -> state[m] = ENROLLED }
    od
}

/* ---- the authority ---- */

proctype Authority()
{
end:
    do
    :: atomic { newest < EPOCHS ->
        next_up();
        next_clean();
        next_marks();
        publish() }
    od
}

init
{
    atomic {
        CHOOSE_SIZES;
        up[1] = ALL;
        clean[1] = CLEAN;
        place[1] = CLEAN | RETURNING;
        for (i : 0 .. N - 1) {
            if
            :: HAS(ALL, i) ->
                NAMED(1, i) = 1;
                state[i] = RUNS;
                life[i] = 1;
                epoch[i] = 1
            :: else
            fi
        }
        serving[PRIMARY(1)] = true;
        for (i : 0 .. N - 1) {
            if :: HAS(ALL, i) -> run Node(i) :: else fi
        }
        run Authority()
    }
}
