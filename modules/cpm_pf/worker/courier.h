/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * courier.h - does the jobs that outlive a message: "cpm_pf_worker courier".
 *
 * runs in:  cpm_pf_worker, one thread for each kind of job, so that a slow
 *           server stops no other kind
 * owns:     of each thread a connection to Redis and the kind's context
 * never:    knows of SIP; keeps anything that is not in Redis
 *
 * A job (io/io_jobs.h) is leased, done, and settled: done and gone, retried
 * later and later (job_retry_intervals), or given up: then it stays visible
 * with what the server said. Any number of couriers may work on the same
 * Redis. A courier that is killed loses nothing: its next life has another
 * boot in its tokens ("<node>.<boot>."), so that its leases hold no more, and
 * another node takes a job when its lease ends. So a job may be done twice,
 * and a kind must see to it that this does no harm.
 */

#ifndef COURIER_H
#define COURIER_H

#include "../core/cpm_stats.h"
#include "../io/io_jobs.h"
#include "worker_conf.h"

enum courier_result
{
	COURIER_DONE,	 /* the job is done, or has become needless */
	COURIER_RETRY,	 /* later; given up after job_max_attempts */
	COURIER_AGAIN,	 /* done for now: once more in *retry_in_ms */
	COURIER_GIVE_UP, /* no repetition will help */
};

/* What a kind may use, in its own thread only. */
struct courier
{
	const struct worker_conf *conf;
	struct cpm_stats *stats; /* NULL: none; courier_stat() looks */
	struct io_queue *queue;	 /* this thread's own. The job in hand is a copy:
							  * calls do not harm it */
	/* private */
	const struct courier_kind *kind;
	const struct cpm_job *job; /* in hand; NULL: none */
	struct cpm_pl token;
	uint64_t lease_ms;
};

struct courier_kind
{
	unsigned kind;	  /* one enum cpm_job_kind */
	const char *name; /* for logs, as cpm_job_kind_name() */

	/* How long run takes at most, in ms: a lease lasts longer. */
	uint64_t (*bound_ms)(const struct worker_conf *conf);

	/* Whether the configuration asks for this kind. Its jobs stay where they
	 * are, and visible, if it does not. */
	bool (*is_wanted)(const struct worker_conf *conf);

	/* In main's thread, before any other runs. CPM_OK and *ctx_r; else a line
	 * was logged, and the worker ends (WORKER_EXIT_USAGE). c->queue is NULL
	 * yet; c stays. */
	int (*init)(struct courier *c, void **ctx_r);

	/* Does one job. job->attempts: this one included, 1 at the first.
	 * error: NUL-terminated one line for RETRY and GIVE_UP: the server's own
	 * words where there are any, without bodies and passwords; it is shown
	 * to operators, so what a peer wrote is made printable by the caller.
	 * *retry_in_ms: 0 before; set to have it again then (COURIER_RETRY), else
	 * by job_retry_intervals. Bounded in time by bound_ms. */
	enum courier_result (*run)(void *ctx, const struct cpm_job *job,
			char *error, size_t cap, uint64_t *retry_in_ms);

	/* Now and then while there is no job: close what is idle. May be NULL. */
	void (*idle)(void *ctx);
};

/* The kinds; each is in a file of its own. */
extern const struct courier_kind courier_imap; /* store: courier_imap.c */
extern const struct courier_kind courier_push; /* push: courier_push.c */

/* Until SIGTERM or SIGINT, which are blocked already. stats: NULL: none.
 * Returns the exit status, see worker.h. */
int courier_run(const struct worker_conf *conf, struct cpm_stats *stats);

/* For a run that takes long, or is about to do what cannot be undone: the
 * lease of the job in hand begins anew. CPM_OK; CPM_ENOENT: another has the
 * job now, leave off (any result will do); else: the store is down, go on. */
int courier_renew(struct courier *c);

void courier_stat(const struct courier *c, enum cpm_stat which);

#endif
