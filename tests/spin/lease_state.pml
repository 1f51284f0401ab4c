/* SPDX-License-Identifier: Apache-2.0 */
/* What the model in lease.pml remembers, its sizes, and the switches that break its rules. */

#define N 4
#define MAX_EPOCHS 5
#define BIT(i) (1 << (i))
#define HAS(set, i) (((set) >> (i)) & 1)
#define COUNT(set) (HAS(set, 0) + HAS(set, 1) + HAS(set, 2) + HAS(set, 3))
#define COVERS(set, part) (((set) & (part)) == (part))
#define FIRST(set) (HAS(set, 0) -> 0 : (HAS(set, 1) -> 1 : (HAS(set, 2) -> 2 : (HAS(set, 3) -> 3 : N))))

/* ---- sizes ---- */

#ifdef FIXED
#define CHOOSE_SIZES skip
#ifndef K
#define K 1
#endif
#ifndef CLEAN
#define CLEAN 3
#endif
#ifndef RETURNING
#define RETURNING 0
#endif
#ifndef MOVERS
#define MOVERS 0
#endif
#ifndef EPOCHS
#define EPOCHS 4
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef OTHERS
#define OTHERS 0
#endif
#ifndef CUTS
#define CUTS 2
#endif
#ifndef OUT
#define OUT 0
#endif
#ifndef LATER
#define LATER 0
#endif
#ifndef PUTS
#define PUTS 1
#endif
#ifndef ALONE
#define ALONE 0
#endif
#ifndef BREAK
#define BREAK 0
#endif
#else
hidden byte K = 1;
hidden byte CLEAN = 3;     /* the nodes that are clean members at first, as bits: copies of 2 */
hidden byte RETURNING = 0; /* members that learn at first */
hidden byte MOVERS = 0;    /* nodes that learn to take over: 2 the position of 0, 3 that of 1 */
hidden byte OTHERS = 0;    /* nodes that have no part in the slot */
hidden byte EPOCHS = 4;    /* at most 5 */
hidden byte CRASHES = 0;   /* how many times a process may die */
hidden byte CUTS = 2;      /* how often a node may not be up any more */
hidden byte LATER = 0;     /* the last epoch in which nobody moves yet */
hidden byte PUTS = 1;      /* how many versions may be taken */
hidden byte ALONE = 0;     /* 1: a set of one: CLEAN=1 */
hidden byte OUT = 0;       /* with ALONE: a cache; node 1 begins with nothing when node 0 is out (R42) */
hidden byte BREAK = 0;     /* the number of the rule that is broken; 0: none */

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
        CHOOSE_SIZE(CLEAN)
        CHOOSE_SIZE(RETURNING)
        CHOOSE_SIZE(MOVERS)
        CHOOSE_SIZE(OTHERS)
        CHOOSE_SIZE(EPOCHS)
        CHOOSE_SIZE(CRASHES)
        CHOOSE_SIZE(ALONE)
        CHOOSE_SIZE(CUTS)
        CHOOSE_SIZE(PUTS)
        CHOOSE_SIZE(OUT)
        CHOOSE_SIZE(LATER)
        CHOOSE_SIZE(BREAK)
    }
}
#endif
#define ALL (CLEAN | RETURNING | MOVERS | OTHERS)

/* ---- the rules that can be broken; tests/spin/run reads these lines ---- */

#define BROKEN(n) (BREAK == n)
#define BREAK_GRANTS BROKEN(1) /* R44: a member answers without grants */
#define BREAK_ABSENT BROKEN(2) /* R44: of the clean members only those that are up count */
#define BREAK_HOLD BROKEN(3) /* R45: nobody holds back */
#define BREAK_HOLD_LEAVER BROKEN(4) /* R45: ... for who was leaving the slot */
#define BREAK_HOLD_SKIPPED BROKEN(5) /* R45: ... for who had no part in it before a skipped epoch */
#define BREAK_HOLD_SETTLING BROKEN(6) /* R45: settling is answered while holding back */
#define BREAK_CARRIED BROKEN(7) /* R45: what was answered before somebody was left out still counts */
#define BREAK_RESTARTED BROKEN(8) /* R43: a restarted granter knows of no grant */
#define BREAK_OLD_LIFE BROKEN(9) /* R43, R45: grants to an earlier life are counted by the next */
#define BREAK_FRESH BROKEN(10) /* R46: whoever becomes clean counts at once */
#define BREAK_FRESH_ABSENT BROKEN(11) /* R46: absent ones need not know of it */
#define BREAK_FRESH_QUIET BROKEN(12) /* R46: nodes say what epoch they are at while old grants run */
#define BREAK_LEAVER BROKEN(13) /* R39: who leaves a position is forgotten before it knows */
#define BREAK_SWITCH BROKEN(14) /* R46: a switch leaves too few whom everybody knows */
#define BREAK_LEAVER_ABSENT BROKEN(15) /* R46: who left a set of one, and is not up, is not waited for */
#define BREAK_MAJORITY BROKEN(16) /* R47: a cache's set of one answers without a majority */
#define BREAK_MAJORITY_PUT BROKEN(17) /* R47: ... or takes a write without one */
#define BREAK_OUT BROKEN(18) /* R47: ... or is given up although somebody may grant it still */

/* ---- the maps; sets of nodes are bits ---- */

byte newest = 1;
byte up[MAX_EPOCHS + 1];
byte clean[MAX_EPOCHS + 1];
byte fresh[MAX_EPOCHS + 1];   /* clean, and not known to everybody */
byte place[MAX_EPOCHS + 1];   /* has a position of the slot, clean or not */
byte leaving[MAX_EPOCHS + 1]; /* had one */
byte named[(MAX_EPOCHS + 1) * N]; /* the epoch that first named the incarnation which the map names */
#define NAMED(e, m) named[(e) * N + (m)]
#define PRIMARY(e) FIRST(clean[e])
#define MOVING(e) ((e) <= LATER -> 0 : (MOVERS & ~place[e] & up[e]))
#define LEARNERS(e) ((place[e] & ~clean[e] & up[e]) | MOVING(e))
#define TAKING(e) (clean[e] | LEARNERS(e) | leaving[e])
#define WRITABLE(e) ((clean[e] & ~up[e]) == 0 && COUNT(clean[e]) >= K) /* R5 */

/* ---- nodes ---- */

#define DEAD 0
#define ENROLLED 1 /* no epoch has named its incarnation yet */
#define RUNS 2
byte state[N];
byte life[N];  /* the epoch that first named its incarnation; 0: none */
byte epoch[N]; /* the map it adopted; 0: none in this life */
byte committed[N];
byte prepared[N];
bool caughtUp[N];
#define UP(m) (state[m] == RUNS && epoch[m] != 0)

bool serving[N];
byte putting[N];  /* the version that it is preparing */
byte answered[N]; /* who answered its settling */
#define SERVES(m) (UP(m) && serving[m])
#define SETTLES(m) (UP(m) && PRIMARY(epoch[m]) == m && !serving[m])

/* ---- grants ---- */

byte running[N]; /* to whom grants of this node run that it renews no more */
byte held[N];    /* of these: for whom it holds back */
byte stray[N];   /* to whom grants run that it does not know of */
/* R43 */
#define GRANTS_IN(e, x) (HAS(up[e], x) && NAMED(e, x) == life[x])
#define RENEWS(g, x) (UP(g) && state[x] == RUNS && GRANTS_IN(epoch[g], x))
#define COUNTS(x, g) ((g) != (x) && (RENEWS(g, x) || HAS(running[g] | stray[g], x)))
#define GRANTERS(x)                                                                                \
    (COUNTS(x, 0) | COUNTS(x, 1) << 1 | COUNTS(x, 2) << 2 | COUNTS(x, 3) << 3)
/* R44: all clean members count, absent ones too */
#define PEERS(x) (clean[epoch[x]] & ~BIT(x))
#define COUNTED(x) (BREAK_ABSENT -> PEERS(x) & up[epoch[x]] : PEERS(x))
#define HAS_GRANTS(x) (COUNT(PEERS(x) & GRANTERS(x)) + K >= COUNT(COUNTED(x)) + 1)
#define HAS_MAJORITY(x) (2 * (COUNT(GRANTERS(x)) + 1) > COUNT(ALL))
/* R47; a majority counts from afar as grants do, and time is not looked at */
#define MAY_ANSWER(x)                                                                              \
    (BREAK_GRANTS || (HAS_GRANTS(x) && (!OUT || BREAK_MAJORITY || HAS_MAJORITY(x))))
/* R45 */
#define TAKES_PART(m) (held[m] == 0)
#define MAY_COMMIT(m) (TAKES_PART(m) && (!OUT || BREAK_MAJORITY_PUT || MAY_ANSWER(m)))

/* ---- puts: a version is the epoch in which it was taken ---- */

byte everTaken;
byte happened; /* acknowledged, or settled forward */
byte sentIn[MAX_EPOCHS + 1];  /* the newest epoch under which its primary sent it */
byte sentTo[MAX_EPOCHS + 1];  /* to whom, and it has not come yet */
byte durable[MAX_EPOCHS + 1]; /* R12: who answered */
#define PREPARE_OF(v_, m)                                                                          \
    (HAS(sentTo[v_], m) && sentIn[v_] >= epoch[m] && sentIn[v_] >= life[m])
#define MAY_TAKE(e) (!HAS(everTaken, e) && puts < PUTS)
#define PREPARES(m)                                                                                \
    (PREPARE_OF(1, m) << 1 | PREPARE_OF(2, m) << 2 | PREPARE_OF(3, m) << 3 |                       \
     PREPARE_OF(4, m) << 4 | PREPARE_OF(5, m) << 5)

/* ---- what is known to be true, and no rule reads ---- */

byte seen; /* the newest version that was acknowledged, or returned to a reader */
byte crashes;
byte cuts;
byte puts;
bool reading;
byte readFrom;
byte readEpoch;
byte readVersion;
byte readSeen;

hidden byte i, j, v, w, was, next;
hidden byte nextUp, nextClean, nextFresh, nextPlace, nextLeaving, names, confirmed, lost;
