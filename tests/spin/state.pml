/* SPDX-License-Identifier: Apache-2.0 */
/* What the model in commit.pml remembers: maps, nodes, messages, and what is true of them. */

#define N 3
#define NOBODY N
#define EVERYBODY 7
#define BIT(i) (1 << (i))
#define HAS(set, i) (((set) >> (i)) & 1)
#define COUNT(set) (HAS(set, 0) + HAS(set, 1) + HAS(set, 2))
#define COVERS(set, part) (((set) & (part)) == (part))

/* ---- versions: (epoch, counter) as one number, so comparing them is comparing numbers ---- */

#define VERSIONS (MAX_EPOCHS * VPE)
#define EPOCH_OF(v) (((v) - 1) / VPE + 1)
#define MAY_TAKE(e) (HAS(everTaken, (e) * VPE) == 0)

byte putOf[VERSIONS + 1];   /* the operation that a version carries */
byte depends[VERSIONS + 1]; /* R11: members on which the acknowledgement depends */
byte baseOf[VERSIONS + 1];  /* R11: what was committed at the primary */
byte sentIn[VERSIONS + 1];  /* the newest epoch under which its primary sent it (R17) */
byte durable[VERSIONS + 1]; /* R12: members that answered "durable" */
#define IS_TOMBSTONE(v) (DELETE != 0 && (v) != 0 && putOf[v] == DELETE)

/* ---- the maps: an entry for each epoch; sets of members are bits ---- */

byte newest = 1;
byte clean[MAX_EPOCHS + 1];   /* clean, present or not */
byte absent[MAX_EPOCHS + 1];  /* clean, and not up: the slot waits for them (R4) */
byte taking[MAX_EPOCHS + 1];  /* write-taking: clean, or learner. Who is not here is down */
byte primary[MAX_EPOCHS + 1]; /* the first clean one */
byte leaving[MAX_EPOCHS + 1]; /* of those who take writes: gave its position up (R38) */
bool moved;                   /* the position has changed hands */
#define MOVES_FROM(m) (MOVE != 0 && MOVE - 1 == (m))
byte named[(MAX_EPOCHS + 1) * N]; /* the epoch that first named the incarnation which the map names */
#define NAMED(e, m) named[(e) * N + (m)]
#define LEARNERS(e) (taking[e] & ~clean[e])
#define WRITABLE(e) (absent[e] == 0 && COUNT(clean[e]) >= K) /* R5 */
/* R17: does everyone who takes writes in e do so, in that incarnation, since epoch `was`? */
#define SINCE(e, was, m)                                                                           \
    (!HAS(taking[e], m) || (HAS(taking[was], m) && NAMED(e, m) == NAMED(was, m)))
#define NOBODY_NEW(e, was) (SINCE(e, was, 0) && SINCE(e, was, 1) && SINCE(e, was, 2))

/* ---- a node: its engine ---- */

byte committed[N];
byte prepared[N];
bool hollow[N]; /* the prepared piece is damaged */
bool marked[N]; /* that `committed` is committed is known in memory only: on the device it is ... */
byte before[N]; /* ... prepared still, and this is committed */

/* ---- its memory: as a member ---- */

#define DEAD 0
#define ENROLLED 1 /* restarted; no epoch has named its incarnation yet (R2) */
#define RUNS 2
byte state[N];
bool wiped[N];    /* its device came back empty */
byte epoch[N];    /* the map it adopted; 0: none yet */
byte lowWater[N]; /* R14 */
byte aborted[N];  /* R15; there is one object, so one entry */
#define UP(m) (state[m] == RUNS && epoch[m] != 0)

/* ---- its memory: as a primary ---- */

#define IDLE 0
#define PREPARING 1
#define ABORTING 2
#define COLLECTING 3
bool serving[N];   /* R6 */
byte doing[N];     /* with the object */
byte version[N];   /* which is being prepared or aborted */
byte begun[N];     /* the epoch in which that put took its first version */
byte answered[N];  /* who answered abort, settle, tombstone check: whichever is under way */
bool deciding[N];  /* settling: all have answered, and back-outs are being made durable */
int undoing[N];  /* settling: the versions rolled back */
byte undecided[N]; /* R26 */
#define SERVES(m) (UP(m) && serving[m])
#define SETTLES(m) (UP(m) && primary[epoch[m]] == m && !serving[m])

/* ---- its memory: as a learner ---- */

bool listed[N];   /* the primary gave it a list ... */
byte listing[N];  /* ... that says this version ... */
bool fetched[N];  /* ... which it has fetched, and not installed yet */
byte caughtUp[N]; /* the epoch as of which it told the authority so; 0: it has not */

/* ---- the network: versions sent to a member, which may arrive at any time, and again ---- */

#define PREPARE 0
#define COMMIT 1
#define ABORT 2
#define DROP 3
int sentTo[4 * N];
#define SENT(what, m) sentTo[(what) * N + (m)]
byte commitIn[VERSIONS + 1]; /* the epoch under which it was sent, as sentIn is of a prepare */
byte abortIn[VERSIONS + 1];
byte dropIn[VERSIONS + 1];

/* ---- clients, and what is known to be true, which no rule reads ---- */

#define NEW 0
#define TRIED 1 /* under way, or its outcome unknown to the client */
#define ACKED 2
#define FAILED 3 /* the client was told so, definitely */
byte outcome[MAX_PUTS + 1];

int everTaken;
int everCommitted; /* passed the commit point */
int everDead;      /* it was decided that they never happened */
byte seen;           /* the newest version acknowledged, or returned to a reader */
byte acknowledged;   /* the newest version acknowledged */
byte collected;      /* the newest tombstone that was collected */
byte crashes;
byte aborts;
bool reading; /* a reader of coded stripes has the first of two slices: */
byte readFrom;
byte readVersion;
byte readSeen; /* `seen` when it began */

hidden byte i, j, v, w, fresh, was, next, result;
hidden byte moves;
