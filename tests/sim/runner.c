/* SPDX-License-Identifier: Apache-2.0 */
#include "runner.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/macros.h"
#include "sim.h"

#define JOBS_MAX 64u
#define STUCK_S 600u /* of real time: then the run goes in circles */

struct job {
    pid_t pid; /* 0: none */
    int said;
    struct sim_options options;
};

void runner_run_here(const struct sim_options *options, struct outcome *outcome)
{
    struct sim *sim = calloc(1, sizeof *sim);

    CHECK(sim != NULL && planted_plant(options->planted));
    *outcome = (struct outcome){.options = *options};
    outcome->right = sim_run(sim, options);
    outcome->digest = sim->digest;
    outcome->answered = sim->answered;
    outcome->unanswered = sim->unanswered;
    outcome->faults = sim->faults_injected;
    outcome->virtual_ns = sim->now_ns;
    memcpy(outcome->wrong, sim->wrong, sizeof outcome->wrong);
    free(sim);
}

static void job_start(struct job *job, const struct sim_options *options, struct outcome *shared)
{
    job->options = *options;
    job->said = memfd_create("said", MFD_CLOEXEC);
    CHECK(job->said >= 0);
    *shared = (struct outcome){.options = *options};
    fflush(NULL);
    job->pid = fork();
    CHECK(job->pid >= 0);
    if (job->pid > 0)
        return;
    dup2(job->said, STDERR_FILENO);
    alarm(STUCK_S);
    runner_run_here(options, shared);
    exit(0); /* and not _exit(): the leak checker is to have its look */
}

static void job_end(struct job *job, int status, const struct outcome *shared,
                    struct outcome *outcome)
{
    *outcome = *shared;
    outcome->options = job->options;
    ssize_t len = pread(job->said, outcome->said, sizeof outcome->said - 1, 0);
    outcome->said[MAX(len, 0)] = '\0';
    close(job->said);
    job->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    outcome->right = false;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        snprintf(outcome->wrong, sizeof outcome->wrong, "it ran for more than %u s", STUCK_S);
    else if (outcome->wrong[0] == '\0')
        snprintf(outcome->wrong, sizeof outcome->wrong, "it died: %.*s",
                 (int)strcspn(outcome->said, "\n"), outcome->said);
}

static unsigned wait_for_one(struct job *jobs, unsigned count, int *status)
{
    for (;;) {
        pid_t pid = waitpid(-1, status, 0);
        CHECK(pid > 0 || errno == EINTR);
        for (unsigned i = 0; i < count; i++)
            if (pid > 0 && jobs[i].pid == pid)
                return i;
    }
}

void runner_run(const struct runner_work *work, unsigned count)
{
    struct job jobs[JOBS_MAX] = {0};
    struct sim_options options;
    unsigned running = 0;
    bool more = true, wanted = true;

    count = MIN(MAX(count, 1u), JOBS_MAX);
    struct outcome *shared = mmap(NULL, count * sizeof *shared, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    for (;;) {
        for (unsigned i = 0; i < count && more && wanted; i++) {
            if (jobs[i].pid != 0)
                continue;
            more = work->next(work->ctx, &options);
            if (!more)
                break;
            job_start(&jobs[i], &options, &shared[i]);
            running++;
        }
        if (running == 0)
            break;
        int status;
        struct outcome outcome;
        unsigned ended = wait_for_one(jobs, count, &status);
        running--;
        job_end(&jobs[ended], status, &shared[ended], &outcome);
        if (!wanted || work->ended(work->ctx, &outcome))
            continue;
        wanted = false;
        for (unsigned i = 0; i < count; i++)
            if (jobs[i].pid != 0)
                kill(jobs[i].pid, SIGKILL);
    }
    munmap(shared, count * sizeof *shared);
}

void outcome_kind(const struct outcome *outcome, char *text, size_t size)
{
    size_t at = 0;

    for (const char *c = outcome->wrong; *c != '\0' && at + 1 < size; c++)
        if (!isdigit((unsigned char)*c))
            text[at++] = *c;
    text[at] = '\0';
}
