/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "shoal/error.h"

void life_complain(struct life *life, const char *format, ...)
{
    va_list args;

    if (life->wrong[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(life->wrong, sizeof life->wrong, format, args);
    va_end(args);
}

/* Everything that was started before this mark is durable. */
static size_t durable_before(const struct story *story)
{
    size_t before = 0;

    for (unsigned o = 0; o < LIFE_OBJECTS; o++)
        for (unsigned i = 0; i < story->objects[o].count; i++) {
            const struct event *event = &story->objects[o].events[i];
            if (event->waits && !event->failed && event->returned <= story->marks)
                before = MAX(before, event->started);
        }
    for (unsigned i = 0; i < story->syncs; i++)
        if (story->sync_returned[i] <= story->marks)
            before = MAX(before, story->sync_started[i]);
    return before;
}

/* Between which cuts of its history an object may be. */
static void cuts(const struct story *story, unsigned object, unsigned *first, unsigned *last)
{
    const struct history *history = &story->objects[object];
    size_t before = durable_before(story);

    *first = 0;
    *last = 0;
    for (unsigned i = 0; i < history->count; i++) {
        const struct event *event = &history->events[i];
        if (event->started <= story->marks)
            *last = i + 1;
        if (!event->failed &&
            (event->waits ? event->returned <= story->marks : event->started < before))
            *first = i + 1;
    }
}

/*
 * A piece may be hollow when the write of its bytes was in doubt; what was durable before event
 * @first may not, unless it was hollow when the life began, or the drive was damaged.
 */
static bool may_be_hollow(const struct life *life, const struct history *history, unsigned first,
                          unsigned cut, const struct piece *piece)
{
    const struct state *base = &history->base;

    if (life->damaged)
        return true;
    for (unsigned i = cut; i > 0; i--)
        if (history->events[i - 1].stored == piece->version)
            return i > first || history->events[i - 1].failed;
    return (base->committed.version == piece->version && base->committed.hollow) ||
           (base->prepared.version == piece->version && base->prepared.hollow);
}

/* What the engine lists as good must be the bytes that were put. */
static bool bytes_are_right(struct life *life, struct engine *engine, unsigned object,
                            struct piece *piece)
{
    bool invented;

    if (piece->version == 0 || piece->form != BLOB_BYTES)
        return true;
    int error = fixture_read(&life->fixture, engine, object, piece, 0, piece->len, &invented);
    if (life->damaged && error == SHOAL_E_CORRUPT) {
        piece->hollow = true;
        return true;
    }
    if (error == 0 && !invented)
        return true;
    life_complain(life, "object %u: version %" PRIu64 " is listed as good, and reading gives %s",
                  object, piece->version,
                  error != 0 ? shoal_error_name(error) : "bytes that were never written");
    return false;
}

static bool hollow_rightly(struct life *life, const struct history *history, unsigned first,
                           unsigned cut, struct piece *piece, const struct engine_entry *entry)
{
    piece->hollow = entry->hollow;
    if (!life->damaged && entry->torn != (entry->prepared && entry->hollow))
        return false;
    return !entry->hollow || may_be_hollow(life, history, first, cut, piece);
}

struct sight {
    struct engine_entry committed, prepared;
};

enum verdict { NO_MATCH, UNFAIRLY_HOLLOW, MATCH };

/* Is what is seen the state @state, which holds after @cut events? */
static enum verdict fits(struct life *life, const struct history *history, unsigned first,
                         unsigned cut, struct state *state, const struct sight *sight)
{
    if (!fixture_same(&state->committed, &sight->committed) ||
        !fixture_same(&state->prepared, &sight->prepared))
        return NO_MATCH;
    return hollow_rightly(life, history, first, cut, &state->committed, &sight->committed) &&
                   hollow_rightly(life, history, first, cut, &state->prepared, &sight->prepared)
               ? MATCH
               : UNFAIRLY_HOLLOW;
}

static struct piece piece_of(const struct engine_entry *entry)
{
    return (struct piece){entry->version.counter, entry->form, entry->shard_len, entry->hollow};
}

/* Which of the possible states the engine is in. */
static enum verdict find_state(struct life *life, const struct story *story, unsigned object,
                               bool stale, const struct sight *sight, struct state *found)
{
    const struct history *history = &story->objects[object];
    enum verdict verdict = NO_MATCH;
    unsigned first, last;

    cuts(story, object, &first, &last);
    for (unsigned cut = first; cut <= last; cut++) {
        *found = cut > 0 ? history->events[cut - 1].after : history->base;
        verdict = MAX(verdict, fits(life, history, first, cut, found, sight));
        if (verdict == MATCH)
            return verdict;
        if (cut == 0 || !history->events[cut - 1].failed)
            continue;
        /* What failed was taken back, and with it what it had replaced. */
        found->prepared = (struct piece){0};
        verdict = MAX(verdict, fits(life, history, first, cut, found, sight));
        if (verdict == MATCH)
            return verdict;
    }
    if (!stale)
        return verdict;
    /* Memory was lost, and it says so: anything that was true once, or nothing. */
    *found = (struct state){.committed = piece_of(&sight->committed),
                            .prepared = piece_of(&sight->prepared)};
    return found->committed.version < life->next_version &&
                   found->prepared.version < life->next_version
               ? MATCH
               : verdict;
}

static bool compare_object(struct life *life, struct engine *engine, const struct story *story,
                           unsigned object, bool stale, struct state *found)
{
    struct sight sight = {0};
    const struct blob_id id = fixture_id(object);
    unsigned first, last;

    (void)engine_find(engine, &id, &sight.committed, &sight.prepared);
    enum verdict verdict = find_state(life, story, object, stale, &sight, found);
    cuts(story, object, &first, &last);
    if (verdict == MATCH)
        return (found->committed.hollow ||
                bytes_are_right(life, engine, object, &found->committed)) &&
               (found->prepared.hollow || bytes_are_right(life, engine, object, &found->prepared));
    const struct state *at_least =
        first > 0 ? &story->objects[object].events[first - 1].after : &story->objects[object].base;
    life_complain(life,
                  "object %u: %s: found committed %" PRIu64 "%s and prepared %" PRIu64
                  "%s; cut %u of %u..%u has committed %" PRIu64 " and prepared %" PRIu64,
                  object,
                  verdict == NO_MATCH ? "in a state that was lost or never was"
                                      : "an acknowledged piece is hollow",
                  sight.committed.version.counter, sight.committed.hollow ? " (hollow)" : "",
                  sight.prepared.version.counter, sight.prepared.hollow ? " (hollow)" : "", first,
                  first, last, at_least->committed.version, at_least->prepared.version);
    return false;
}

bool life_compare(struct life *life, struct engine *engine, const struct story *story, bool stale,
                  struct state *found)
{
    struct state ignored;

    for (unsigned i = 0; i < LIFE_OBJECTS; i++)
        if (!compare_object(life, engine, story, i, stale, found != NULL ? &found[i] : &ignored))
            return false;
    return true;
}

/* ---- one image ---- */

size_t life_marks_in(const struct life *life, size_t prefix)
{
    for (size_t i = prefix; i > 0; i--)
        if (life->log.entries[i - 1].kind == DEV_RECORD_MARK)
            return life->log.entries[i - 1].id;
    return 0;
}

/* A crash may tear one copy of the superblock, or the checkpoint that is being written. No more. */
static uint64_t lines_of_a_crash(const char *text)
{
    static const char *const begins[] = {"superblock: the first copy is damaged",
                                         "superblock: the second copy is damaged", "checkpoint "};
    uint64_t lines = 0;

    while (text != NULL && *text != '\0') {
        for (unsigned i = 0; i < ARRAY_LEN(begins); i++)
            lines += strncmp(text, begins[i], strlen(begins[i])) == 0;
        text = strchr(text, '\n');
        text = text == NULL ? NULL : text + 1;
    }
    return lines;
}

/* On a drive that crashed only, fsck finds nothing that opening would not mend by itself. */
static void check_with_fsck(struct life *life, struct dev *dev)
{
    struct engine_fsck_result result = {0};
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    CHECK(out != NULL);
    int error = engine_fsck(dev, life->fixture.arena, false, out, &result);
    fclose(out);
    if (error != 0 || result.fatal || result.errors > lines_of_a_crash(text))
        life_complain(life, "fsck: %s, %.300s", shoal_error_name(error), text);
    free(text);
}

struct check_args {
    struct life *life;
    size_t prefix;
};

static void check_fiber(void *arg)
{
    struct check_args *args = arg;
    struct life *life = args->life;
    struct story *story = args->prefix <= life->opened ? &life->past : &life->now;
    size_t marks = story->marks;
    struct engine_report report;
    struct dev *dev = fixture_open_drive(&life->fixture, false);
    int error;

    if (story == &life->now)
        story->marks = life_marks_in(life, args->prefix);
    if (!life->damaged && life->break_rules == 0)
        check_with_fsck(life, dev);
    struct engine *engine = life_open(life, dev, &report, &error);
    if (engine != NULL) {
        (void)life_compare(life, engine, story, report.stale && !life->forgive_stale, NULL);
        engine_close(engine, true);
    }
    dev_close(dev);
    story->marks = marks;
}

bool life_check(struct life *life, size_t prefix)
{
    struct check_args args = {life, prefix};

    fixture_run(&life->fixture, check_fiber, &args);
    if (life->wrong[0] == '\0')
        return true;
    size_t used = strlen(life->wrong);
    snprintf(life->wrong + used, sizeof life->wrong - used, "; image after %zu of %zu log entries",
             prefix, life->log.entry_count);
    return false;
}
