/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "courier.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "../core/cpm_wr.h"
#include "../io/io_clock.h"
#include "worker.h"
#include "worker_log.h"

#define BATCH 8				 /* jobs that one thread holds at once */
#define IDLE_MS 1000		 /* between looks at an empty list */
#define LEASE_SPARE_MS 30000 /* of a lease, over what a run may take */
#define UNENDED_MAX 10		 /* attempts that came to no end */
#define SETTLE_TRIES 20
#define SETTLE_PAUSE_MS 250
#define ERROR_MAX 256

static const struct courier_kind *const kinds[] = {
		&courier_imap, &courier_push};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* A copy of a job: what the store gave is good until its next call only. */
struct held
{
	struct cpm_job job;
	char aor[CPM_AOR_MAX];
	char id[CPM_MSG_ID_MAX];
	char *blob;
};

struct line
{
	struct courier c;
	void *ctx;
	char token[CPM_QUEUE_TOKEN_MAX];
	unsigned shards[CPM_QUEUE_SHARDS];
	struct held held[BATCH];
	size_t held_n, next; /* held[next...] are not begun */
	uint64_t renewed_ms; /* of these, by the monotonic clock */
	struct worker_log_limit store_limit, job_limit;
	bool store_down;
	pthread_t thread;
};

static void sleep_ms(unsigned ms)
{
	struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

	while(nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

void courier_stat(const struct courier *c, enum cpm_stat which)
{
	if(c->stats != NULL)
		cpm_stat_add(c->stats, which, 1);
}

/* The store gone or back: once each. */
static void store_note(struct line *l, int rc, const char *what)
{
	bool down = rc != CPM_OK && rc != CPM_ENOENT;
	unsigned left_out;

	if(down && !l->store_down && worker_log_may(&l->store_limit, &left_out))
		worker_log(WORKER_WARN, "courier: store-fails kind=%s what=%s rc=%s",
				l->c.kind->name, what, cpm_rc_name(rc));
	if(!down && l->store_down)
		worker_log(
				WORKER_NOTICE, "courier: store-back kind=%s", l->c.kind->name);
	l->store_down = down;
	if(down)
		courier_stat(&l->c, CPM_STAT_redis_errors);
}

static int renew(struct courier *c, const struct cpm_job *job)
{
	return io_jobs_renew(c->queue, (enum cpm_job_kind)c->kind->kind, job->aor,
			job->id, c->token, c->lease_ms);
}

/* Those that wait behind the job in hand: while a server hangs, their leases
 * would end, and each courier would take them from the other, until their
 * attempts are used up and none was made. */
static void renew_waiting(struct line *l)
{
	uint64_t now = io_clock_mono_ms();

	if(now - l->renewed_ms < LEASE_SPARE_MS / 2)
		return;
	l->renewed_ms = now;
	for(size_t i = l->next; i < l->held_n; i++) {
		int rc = renew(&l->c, &l->held[i].job);
		if(rc != CPM_OK && rc != CPM_ENOENT)
			return;
	}
}

int courier_renew(struct courier *c)
{
	_Static_assert(offsetof(struct line, c) == 0, "a line is its courier");

	if(c->job == NULL)
		return CPM_ENOENT;
	renew_waiting((struct line *)(void *)c);
	return renew(c, c->job);
}

/* ---- one job ---- */

/* One line, printable, without what could be taken for the line's end. */
static void error_clean(char *error)
{
	for(char *p = error; *p != '\0'; p++)
		if((unsigned char)*p < ' ' || (unsigned char)*p > '~')
			*p = ' ';
}

static uint64_t backoff_ms(const struct worker_conf *conf, unsigned attempts)
{
	size_t i = attempts > 0 ? attempts - 1 : 0;

	return conf
			->job_retry_ms[i < conf->job_retries ? i : conf->job_retries - 1];
}

/* What became of it is told again while the store is away for a moment: else
 * it would be done again. */
static void settle(struct line *l, const struct cpm_job *job,
		enum cpm_job_how how, uint64_t retry_in_ms, const char *error)
{
	int rc = CPM_EDOWN;

	for(int i = 0; i < SETTLE_TRIES; i++) {
		rc = io_jobs_settle(l->c.queue, job->kind, job->aor, job->id,
				l->c.token, how, retry_in_ms, cpm_pl_str(error));
		store_note(l, rc, "settle");
		if(rc != CPM_EDOWN && rc != CPM_EUNSURE)
			return;
		sleep_ms(SETTLE_PAUSE_MS);
	}
}

static void job_log(struct line *l, const struct cpm_job *job,
		enum worker_level level, const char *event, const char *error)
{
	char id[3 * CPM_MSG_ID_MAX], words[3 * ERROR_MAX];
	unsigned left_out;

	if(!worker_log_may(&l->job_limit, &left_out))
		return;
	/* whose it is /v1/jobs tells, to those who may know */
	worker_log(level,
			"courier: %s kind=%s id=%s attempt=%u left_out=%u error=%s", event,
			l->c.kind->name, worker_log_escape(job->id, id, sizeof(id)),
			job->attempts, left_out,
			worker_log_escape(cpm_pl_str(error), words, sizeof(words)));
}

/* A job with more of them ends whoever does it, and would so for ever. */
static unsigned attempts_max(const struct worker_conf *conf)
{
	int most = conf->job_max_attempts > conf->push_max ? conf->job_max_attempts
													   : conf->push_max;

	return (unsigned)most + UNENDED_MAX;
}

static void job_do(struct line *l, const struct cpm_job *job)
{
	const struct worker_conf *conf = l->c.conf;
	char error[ERROR_MAX] = "";
	uint64_t retry_in_ms = 0;
	enum courier_result res;

	if(job->attempts > attempts_max(conf)) {
		(void)snprintf(error, sizeof(error),
				"not begun again: no attempt came to its end");
		res = COURIER_GIVE_UP;
	} else {
		l->c.job = job;
		res = l->c.kind->run(l->ctx, job, error, sizeof(error), &retry_in_ms);
		l->c.job = NULL;
	}
	error_clean(error);
	if(res == COURIER_RETRY
			&& job->attempts >= (unsigned)conf->job_max_attempts)
		res = COURIER_GIVE_UP;
	switch(res) {
		case COURIER_DONE:
			courier_stat(&l->c, CPM_STAT_jobs_done);
			settle(l, job, CPM_JOB_DONE, 0, "");
			break;
		case COURIER_AGAIN:
			settle(l, job, CPM_JOB_RETRY, retry_in_ms, "");
			break;
		case COURIER_RETRY:
			if(retry_in_ms == 0)
				retry_in_ms = backoff_ms(conf, job->attempts);
			job_log(l, job, WORKER_NOTICE, "retry", error);
			courier_stat(&l->c, CPM_STAT_jobs_retried);
			settle(l, job, CPM_JOB_RETRY, retry_in_ms, error);
			break;
		case COURIER_GIVE_UP:
			job_log(l, job, WORKER_WARN, "gave-up", error);
			courier_stat(&l->c, CPM_STAT_jobs_dead);
			settle(l, job, CPM_JOB_GIVE_UP, 0, error);
			break;
	}
}

/* ---- a thread ---- */

/* CPM_OK; CPM_ENOMEM: it stays leased, and comes again. */
static int hold(struct held *h, const struct cpm_job *job)
{
	h->job = *job;
	if(job->aor.n > sizeof(h->aor) || job->id.n > sizeof(h->id))
		return CPM_ENOMEM;
	h->blob = malloc(job->blob.n + 1);
	if(h->blob == NULL)
		return CPM_ENOMEM;
	memcpy(h->aor, job->aor.p, job->aor.n);
	memcpy(h->id, job->id.p, job->id.n);
	if(job->blob.n > 0)
		memcpy(h->blob, job->blob.p, job->blob.n);
	h->job.aor.p = h->aor;
	h->job.id.p = h->id;
	h->job.blob.p = h->blob;
	h->job.name = h->job.last_error = CPM_PL_NULL;
	return CPM_OK;
}

/* Whether there may be more at once. */
static bool turn(struct line *l)
{
	struct cpm_job jobs[BATCH];
	size_t count = 0, held = 0;
	uint64_t began_ms = io_clock_mono_ms();
	int rc = io_jobs_lease(l->c.queue, l->shards, CPM_QUEUE_SHARDS,
			l->c.kind->kind, l->c.token, l->c.lease_ms, BATCH, jobs, &count);

	store_note(l, rc, "lease");
	if(rc != CPM_OK)
		return false;
	for(size_t i = 0; i < count; i++)
		if(hold(&l->held[held], &jobs[i]) == CPM_OK)
			held++;
	l->held_n = held;
	l->renewed_ms = began_ms;
	for(size_t i = 0; i < held; i++) {
		l->next = i + 1;
		l->c.job = &l->held[i].job;
		/* those before it may have taken long */
		if(i == 0 || courier_renew(&l->c) != CPM_ENOENT)
			job_do(l, &l->held[i].job);
		l->c.job = NULL;
		free(l->held[i].blob);
		l->held[i].blob = NULL;
	}
	return count == BATCH;
}

static void *line_main(void *arg)
{
	struct line *l = arg;

	for(;;) {
		if(turn(l))
			continue;
		if(l->c.kind->idle != NULL)
			l->c.kind->idle(l->ctx);
		sleep_ms(IDLE_MS);
	}
	return NULL;
}

/* The same at every start of this node and of no other's; the boot is of this
 * start alone. Not those of the delivery workers, which live longer. */
static void token_make(const struct worker_conf *conf, char *buf, size_t cap)
{
	uint32_t chance[2] = {(uint32_t)getpid(), (uint32_t)io_clock_wall_ms()};

	(void)!getrandom(chance, sizeof(chance), 0);
	if(conf->node[0] != '\0') {
		uint64_t h = cpm_hash64(CPM_HASH_INIT, cpm_pl_str(conf->node));
		h = cpm_hash64(h, CPM_PL_LIT("courier"));
		chance[0] = (uint32_t)(h ^ h >> 32);
	}
	(void)snprintf(buf, cap, "%08x.%08x.courier", (unsigned)chance[0],
			(unsigned)chance[1]);
}

/* CPM_OK, or a line was logged. */
static int line_init(struct line *l, const struct courier_kind *kind,
		const struct worker_conf *conf, struct cpm_stats *stats,
		const char *token)
{
	l->c.conf = conf;
	l->c.stats = stats;
	l->c.kind = kind;
	l->c.lease_ms = kind->bound_ms(conf) + LEASE_SPARE_MS;
	cpm_pl_cstr(cpm_pl_str(token), l->token, sizeof(l->token));
	l->c.token = cpm_pl_str(l->token);
	for(unsigned i = 0; i < CPM_QUEUE_SHARDS; i++)
		l->shards[i] = i;
	int rc = kind->init(&l->c, &l->ctx);
	if(rc != CPM_OK)
		return rc;
	l->c.queue = io_queue_new(&conf->redis, cpm_pl_str(conf->key_prefix));
	if(l->c.queue == NULL)
		worker_log(WORKER_ERROR, "courier: no-memory");
	return l->c.queue != NULL ? CPM_OK : CPM_ENOMEM;
}

static int start_all(struct line *lines, const struct worker_conf *conf,
		struct cpm_stats *stats)
{
	char token[CPM_QUEUE_TOKEN_MAX];
	size_t n = 0;

	token_make(conf, token, sizeof(token));
	for(size_t i = 0; i < KINDS; i++) {
		if(!kinds[i]->is_wanted(conf))
			continue;
		if(line_init(&lines[i], kinds[i], conf, stats, token) != CPM_OK)
			return WORKER_EXIT_USAGE;
		n++;
	}
	if(n == 0) {
		worker_log(WORKER_ERROR, "courier: nothing to do, store_url and "
								 "push_url are not given");
		return WORKER_EXIT_USAGE;
	}
	for(size_t i = 0; i < KINDS; i++) {
		if(lines[i].c.queue == NULL)
			continue;
		if(pthread_create(&lines[i].thread, NULL, line_main, &lines[i]) != 0) {
			worker_log(WORKER_ERROR, "courier: no-thread");
			return WORKER_EXIT_FAILED;
		}
		worker_log(WORKER_NOTICE, "courier: start kind=%s lease_ms=%llu",
				kinds[i]->name, (unsigned long long)lines[i].c.lease_ms);
	}
	return WORKER_EXIT_OK;
}

int courier_run(const struct worker_conf *conf, struct cpm_stats *stats)
{
	static struct line lines[KINDS];
	sigset_t set;
	int sig = 0;

	/* it holds passwords: no core, and nobody looks into it */
	(void)prctl(PR_SET_DUMPABLE, 0);
	if(curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK) {
		worker_log(WORKER_ERROR, "courier: no libcurl");
		return WORKER_EXIT_FAILED;
	}
	int status = start_all(lines, conf, stats);
	if(status != WORKER_EXIT_OK)
		return status;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	while(sigwait(&set, &sig) != 0)
		;
	worker_log(WORKER_NOTICE, "courier: stop signal=%d", sig);
	/* a job in hand is the next life's, or another courier's: threads are not
	 * waited for, and nothing of theirs is tidied up under them */
	_exit(WORKER_EXIT_OK);
}
