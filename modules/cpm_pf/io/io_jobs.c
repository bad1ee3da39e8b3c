/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_jobs.h"

#include <stdlib.h>

#include "io_queue_int.h"

/* ------------------------------------------------------------ one job */

/* "-", "!" and "+..." stand for other things in a record. */
static bool token_ok(struct cpm_pl token)
{
	size_t i;

	if(token.n == 0 || token.n > CPM_QUEUE_TOKEN_MAX
			|| !((token.p[0] >= '0' && token.p[0] <= '9')
					|| (token.p[0] >= 'A' && token.p[0] <= 'Z')
					|| (token.p[0] >= 'a' && token.p[0] <= 'z'))) {
		return false;
	}
	for(i = 0; i < token.n; i++) {
		if(token.p[i] < 0x21 || token.p[i] > 0x7e) {
			return false;
		}
	}
	return true;
}

static bool kinds_ok(unsigned kinds)
{
	return kinds != 0 && (kinds & ~CPM_JOB_ALL) == 0;
}

static bool kind_ok(enum cpm_job_kind kind)
{
	return cpm_job_letter(kind) != '-';
}

/* Keys, and the arguments up to the id. */
static int job_begin(struct io_queue *q, const char *verb, unsigned kinds,
		struct cpm_pl aor, struct cpm_pl id, struct cpm_queue_keys *k,
		struct ioq_args *a)
{
	int rc;

	/* a name has one space before the id, and one before the address */
	if(!cpm_msg_id_ok(id) || cpm_pl_chr(aor, ' ') < aor.n) {
		return ioq_out_of_bounds(q);
	}
	rc = ioq_keys_of(q, k, aor, id);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(a, q, aor);
	ioq_arg_pl(a, cpm_pl_str(verb));
	ioq_arg_jobs(a, kinds);
	ioq_arg_pl(a, id);
	return CPM_OK;
}

/* 1 done, 0 there is none, 2 it is there, or at work, 3 another has the id */
static int job_done(struct io_queue *q)
{
	static const int rcs[] = {CPM_ENOENT, CPM_OK, CPM_EEXIST, CPM_ELIMIT};
	uint64_t v;

	if(!ioq_rep_u64(q->reply, &v) || v >= sizeof(rcs) / sizeof(rcs[0])) {
		return ioq_bad_reply(q);
	}
	return rcs[v];
}

static int job_run(struct io_queue *q, const struct cpm_queue_keys *k,
		const struct ioq_args *a)
{
	int rc = ioq_run(q, CPM_SCRIPT_JOB, k, a);

	return rc == CPM_OK ? job_done(q) : rc;
}

int io_jobs_renew(struct io_queue *q, enum cpm_job_kind kind, struct cpm_pl aor,
		struct cpm_pl id, struct cpm_pl token, uint64_t lease_ms)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	int rc;

	if(!kind_ok(kind) || !token_ok(token)) {
		return ioq_out_of_bounds(q);
	}
	rc = job_begin(q, "renew", kind, aor, id, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_arg_pl(&a, token);
	ioq_arg_u64(&a, lease_ms);
	return job_run(q, &k, &a);
}

int io_jobs_settle(struct io_queue *q, enum cpm_job_kind kind,
		struct cpm_pl aor, struct cpm_pl id, struct cpm_pl token,
		enum cpm_job_how how, uint64_t retry_in_ms, struct cpm_pl error)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	int rc;

	if(!kind_ok(kind) || !token_ok(token)) {
		return ioq_out_of_bounds(q);
	}
	rc = job_begin(q, "settle", kind, aor, id, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_arg_pl(&a, token);
	ioq_arg_pl(&a, how == CPM_JOB_DONE	  ? CPM_PL_LIT("done")
				   : how == CPM_JOB_RETRY ? CPM_PL_LIT("retry")
										  : CPM_PL_LIT("dead"));
	ioq_arg_u64(&a, retry_in_ms);
	if(error.n > CPM_QUEUE_ERROR_MAX) {
		error.n = CPM_QUEUE_ERROR_MAX;
	}
	ioq_arg_pl(&a, error);
	return job_run(q, &k, &a);
}

int io_jobs_put(struct io_queue *q, unsigned kinds, struct cpm_pl aor,
		struct cpm_pl id, struct cpm_pl blob, uint64_t dedup_ms,
		uint64_t delay_ms)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	int rc;

	if(!kinds_ok(kinds)) {
		return ioq_out_of_bounds(q);
	}
	rc = job_begin(q, "put", kinds, aor, id, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_arg_pl(&a, blob);
	ioq_arg_u64(&a, dedup_ms);
	ioq_arg_u64(&a, delay_ms);
	ioq_begin(q);
	rc = io_redis_eval_durable(
			q->redis, CPM_SCRIPT_JOB, k.key, k.count, a.v, a.n, &q->reply);
	return rc == CPM_OK ? job_done(q) : rc;
}

int io_jobs_replace(struct io_queue *q, enum cpm_job_kind kind,
		struct cpm_pl aor, struct cpm_pl id, struct cpm_pl blob,
		uint64_t delay_ms)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	int rc;

	if(!kind_ok(kind)) {
		return ioq_out_of_bounds(q);
	}
	rc = job_begin(q, "replace", kind, aor, id, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_arg_pl(&a, blob);
	ioq_arg_u64(&a, 0);
	ioq_arg_u64(&a, delay_ms);
	return job_run(q, &k, &a);
}

static int job_plain(struct io_queue *q, const char *verb,
		enum cpm_job_kind kind, struct cpm_pl aor, struct cpm_pl id)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	int rc;

	if(!kind_ok(kind)) {
		return ioq_out_of_bounds(q);
	}
	rc = job_begin(q, verb, kind, aor, id, &k, &a);
	return rc == CPM_OK ? job_run(q, &k, &a) : rc;
}

int io_jobs_drop(struct io_queue *q, enum cpm_job_kind kind, struct cpm_pl aor,
		struct cpm_pl id)
{
	return job_plain(q, "drop", kind, aor, id);
}

int io_jobs_requeue(struct io_queue *q, enum cpm_job_kind kind,
		struct cpm_pl aor, struct cpm_pl id)
{
	return job_plain(q, "requeue", kind, aor, id);
}

/* ----------------------------------------------------- those that are due */

/* name, due, state, record's head, blob */
#define JOB_PARTS 5

/* What a call asks each shard for. */
struct ask
{
	const unsigned *shards;
	size_t shard_count;
	size_t first; /* of the shards: whose turn it is */
	unsigned kinds;
	struct cpm_pl token;
	uint64_t lease_ms;
	size_t limit;
};

static unsigned shard_at(const struct ask *ask, size_t i)
{
	return ask->shards[(ask->first + i) % ask->shard_count];
}

static void lease_args(const struct io_queue *q, const struct ask *ask,
		unsigned shard, size_t limit, size_t bytes, bool count_only,
		struct cpm_queue_keys *k, struct ioq_args *a)
{
	(void)cpm_queue_keys_shard(k, ioq_prefix_of(q), shard);
	ioq_args_init(a, q, CPM_PL_NULL);
	ioq_arg_pl(a, ask->token);
	ioq_arg_jobs(a, ask->kinds);
	ioq_arg_u64(a, limit);
	ioq_arg_u64(a, ask->lease_ms);
	ioq_arg_u64(a, bytes);
	ioq_arg_u64(a, count_only ? 1 : 0);
}

/* How many each shard has, in the order of shard_at; due_r: shard_count. */
static int count_due(struct io_queue *q, const struct ask *ask, size_t *due_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	uint64_t v;
	size_t i;
	int rc;

	ioq_begin(q);
	for(i = 0; i < ask->shard_count; i++) {
		lease_args(q, ask, shard_at(ask, i), ask->limit, 0, true, &k, &a);
		rc = io_redis_eval_add(
				q->redis, CPM_SCRIPT_JOB_LEASE, k.key, k.count, a.v, a.n);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	rc = ioq_gather(q, ask->shard_count);
	for(i = 0; rc == CPM_OK && i < ask->shard_count; i++) {
		if(!ioq_rep_u64(q->reply->element[i], &v) || v > ask->limit) {
			return ioq_bad_reply(q);
		}
		due_r[i] = (size_t)v;
	}
	return rc;
}

/* One of each in turn, until limit are shared out: a shard with very many does
 * not keep the others waiting. Returns how many shards have a share. */
static size_t share_out(const struct ask *ask, const size_t *due, size_t *share)
{
	size_t left = ask->limit, before, used = 0;
	size_t i;

	memset(share, 0, ask->shard_count * sizeof(*share));
	do {
		before = left;
		for(i = 0; i < ask->shard_count && left > 0; i++) {
			if(share[i] < due[i]) {
				used += share[i] == 0;
				share[i]++;
				left--;
			}
		}
	} while(left > 0 && left < before);
	return used;
}

static int lease_together(struct io_queue *q, const struct ask *ask)
{
	size_t due[CPM_QUEUE_SHARDS], share[CPM_QUEUE_SHARDS];
	struct cpm_queue_keys k;
	struct ioq_args a;
	size_t i, used;
	int rc;

	if(ask->shard_count == 1) {
		due[0] = ask->limit;
	} else {
		rc = count_due(q, ask, due);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	used = share_out(ask, due, share);
	for(i = 0; i < ask->shard_count; i++) {
		if(share[i] == 0) {
			continue;
		}
		lease_args(q, ask, shard_at(ask, i), share[i],
				IO_JOBS_LEASE_BYTES / used, false, &k, &a);
		rc = io_redis_eval_add(
				q->redis, CPM_SCRIPT_JOB_LEASE, k.key, k.count, a.v, a.n);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	return ioq_gather(q, used);
}

/* On a Cluster one node may be down, which is nothing to the jobs of the
 * others: one after the other. CPM_OK: at least one answered; NULL where one
 * did not. */
static int lease_singly(struct io_queue *q, const struct ask *ask)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	size_t i, n, left = ask->limit;
	bool any = false;
	int rc = ioq_places(q, ask->shard_count);

	for(i = 0; i < ask->shard_count && left > 0; i++) {
		if(rc == CPM_EPROTO || rc == CPM_ENOMEM) {
			return rc;
		}
		lease_args(q, ask, shard_at(ask, i), left,
				IO_JOBS_LEASE_BYTES / ask->shard_count, false, &k, &a);
		rc = io_redis_eval(q->redis, CPM_SCRIPT_JOB_LEASE, k.key, k.count, a.v,
				a.n, &q->reply->element[i]);
		if(rc == CPM_OK) {
			any = true;
			n = ioq_rep_count(q->reply->element[i]) / JOB_PARTS;
			left = n < left ? left - n : 0;
		}
	}
	return any ? CPM_OK : rc;
}

int io_jobs_lease(struct io_queue *q, const unsigned *shards,
		size_t shard_count, unsigned kinds, struct cpm_pl token,
		uint64_t lease_ms, size_t limit, struct cpm_job *jobs_r,
		size_t *count_r)
{
	struct ask ask = {shards, shard_count, 0, kinds, token, lease_ms, limit};
	const redisReply *r;
	size_t i, j, n = 0;
	int rc;

	if(shard_count > CPM_QUEUE_SHARDS || !kinds_ok(kinds) || !token_ok(token)
			|| limit == 0 || limit > IO_JOBS_LEASE_MAX) {
		return ioq_out_of_bounds(q);
	}
	for(i = 0; i < shard_count; i++) {
		if(shards[i] >= CPM_QUEUE_SHARDS) {
			return ioq_out_of_bounds(q);
		}
	}
	if(shard_count == 0) {
		ioq_begin(q);
		*count_r = 0;
		return CPM_OK;
	}
	ask.first = q->jobs_turn++ % shard_count;
	rc = (q->cluster ? lease_singly : lease_together)(q, &ask);
	if(rc != CPM_OK) {
		return rc;
	}
	for(i = 0; i < q->reply->elements; i++) {
		r = q->reply->element[i];
		if(r == NULL) {
			continue;
		}
		if(r->type != REDIS_REPLY_ARRAY || r->elements % JOB_PARTS != 0
				|| r->elements / JOB_PARTS > limit - n) {
			return ioq_bad_reply(q);
		}
		for(j = 0; j < r->elements; j += JOB_PARTS) {
			/* one that cannot be read does not take the others along */
			if(ioq_job_of(r, j, &jobs_r[n])) {
				jobs_r[n].blob = ioq_rep_pl(r->element[j + JOB_PARTS - 1]);
				n++;
			}
		}
	}
	*count_r = n;
	return CPM_OK;
}
