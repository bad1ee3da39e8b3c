/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_subs.h"

#include "io_queue_int.h"

static int keys_of(
		struct io_queue *q, struct cpm_subs_keys *k, struct cpm_pl aor)
{
	if(cpm_subs_keys_init(k, ioq_prefix_of(q), aor) != CPM_OK) {
		ioq_begin(q);
		q->error = "address over its bound";
		return CPM_EPROTO;
	}
	return CPM_OK;
}

static int run(struct io_queue *q, const struct cpm_subs_keys *k,
		const struct ioq_args *a)
{
	ioq_begin(q);
	return io_redis_eval(q->redis, CPM_SCRIPT_SUBS, k->key, CPM_SUBS_KEY_COUNT_,
			a->v, a->n, &q->reply);
}

int io_subs_put(struct io_queue *q, const struct io_subs_put *put,
		uint64_t *expires_ms_r)
{
	struct cpm_subs_keys k;
	struct ioq_args a;
	uint64_t status, left;
	int rc = keys_of(q, &k, put->aor);

	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, put->aor);
	ioq_arg_pl(&a, CPM_PL_LIT("put"));
	ioq_arg_pl(&a, put->tag);
	ioq_arg_u64(&a, put->initial ? 1 : 0);
	ioq_arg_u64(&a, put->cseq);
	ioq_arg_u64(&a, put->expires_ms);
	ioq_arg_u64(&a, CPM_SUBS_PER_USER);
	ioq_arg_pl(&a, put->dialog);
	ioq_arg_pl(&a, put->way);
	ioq_arg_pl(&a, put->record.n > 0 ? put->record : CPM_PL_LIT(""));
	rc = run(q, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(!ioq_rep_u64(ioq_rep_at(q->reply, 0), &status)
			|| !ioq_rep_u64(ioq_rep_at(q->reply, 1), &left) || status > 2) {
		return ioq_bad_reply(q);
	}
	if(status == 1) {
		*expires_ms_r = left;
		return CPM_OK;
	}
	return status == 0 ? CPM_ENOENT : CPM_EEXIST;
}

/* {tag, cseq, owed, expires in ms, dialog, way, record} */
static bool due_of(const redisReply *r, struct cpm_subs_due *due_r)
{
	struct cpm_subs_due d;
	struct cpm_pl owed = ioq_rep_pl(ioq_rep_at(r, 2));
	struct cpm_pl id;
	uint64_t cseq;

	memset(&d, 0, sizeof(d));
	d.tag = ioq_rep_pl(ioq_rep_at(r, 0));
	if(!ioq_rep_u64(ioq_rep_at(r, 1), &cseq) || cseq > INT32_MAX || owed.n != 1
			|| strchr("NXTD", owed.p[0]) == NULL
			|| !ioq_rep_u64(ioq_rep_at(r, 3), &d.left_ms)
			|| cpm_subs_fields_read(ioq_rep_pl(ioq_rep_at(r, 4)), &d.call_id,
					   &d.remote_tag, &id)
					   != CPM_OK
			|| cpm_subs_fields_read(ioq_rep_pl(ioq_rep_at(r, 5)), &d.target,
					   &d.received, &d.socket)
					   != CPM_OK
			|| cpm_subs_record_read(ioq_rep_pl(ioq_rep_at(r, 6)), &d.record)
					   != CPM_OK) {
		return false;
	}
	d.cseq = (uint32_t)cseq;
	d.owed = (enum cpm_subs_owed)owed.p[0];
	*due_r = d;
	return true;
}

int io_subs_take(struct io_queue *q, struct cpm_pl aor, uint64_t hash,
		uint64_t claim_ms, struct cpm_pl by, struct cpm_subs_due *due_r,
		size_t *count_r)
{
	struct cpm_subs_keys k;
	struct ioq_args a;
	struct cpm_wr w;
	char hex[20];
	size_t i, n;
	int rc = keys_of(q, &k, aor);

	if(rc != CPM_OK) {
		return rc;
	}
	cpm_wr_init(&w, hex, sizeof(hex));
	cpm_wr_hex64(&w, hash);
	ioq_args_init(&a, q, aor);
	ioq_arg_pl(&a, CPM_PL_LIT("take"));
	ioq_arg_pl(&a, cpm_wr_pl(&w));
	ioq_arg_u64(&a, claim_ms);
	ioq_arg_word(&a, by);
	rc = run(q, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(q->reply->type != REDIS_REPLY_ARRAY) {
		return ioq_bad_reply(q);
	}
	n = 0;
	for(i = 0; i < ioq_rep_count(q->reply) && n < CPM_SUBS_TAKE_MAX; i++) {
		/* one that cannot be read keeps nobody else from being told */
		if(due_of(ioq_rep_at(q->reply, i), &due_r[n])) {
			n++;
		}
	}
	*count_r = n;
	return CPM_OK;
}

int io_subs_settle(struct io_queue *q, struct cpm_pl aor, struct cpm_pl tag,
		uint32_t cseq, enum cpm_subs_answer answer)
{
	struct cpm_subs_keys k;
	struct ioq_args a;
	uint64_t status;
	int rc = keys_of(q, &k, aor);

	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_pl(&a, CPM_PL_LIT("settle"));
	ioq_arg_pl(&a, tag);
	ioq_arg_u64(&a, cseq);
	ioq_arg_pl(&a, answer == CPM_SUBS_TAKEN	 ? CPM_PL_LIT("t")
				   : answer == CPM_SUBS_GONE ? CPM_PL_LIT("g")
											 : CPM_PL_LIT("k"));
	rc = run(q, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(!ioq_rep_u64(q->reply, &status) || status > 2) {
		return ioq_bad_reply(q);
	}
	return status == 1 ? CPM_OK : status == 2 ? CPM_EAGAIN : CPM_ENOENT;
}

int io_subs_targets(struct io_queue *q, struct cpm_pl aor,
		struct cpm_pl *targets_r, size_t *count_r)
{
	struct cpm_subs_keys k;
	struct ioq_args a;
	struct cpm_pl received, socket;
	size_t i, n = 0;
	int rc = keys_of(q, &k, aor);

	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_pl(&a, CPM_PL_LIT("ways"));
	rc = run(q, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	for(i = 0; i < ioq_rep_count(q->reply) && n < CPM_SUBS_TAKE_MAX; i++) {
		if(cpm_subs_fields_read(ioq_rep_pl(ioq_rep_at(q->reply, i)),
				   &targets_r[n], &received, &socket)
				== CPM_OK) {
			n++;
		}
	}
	*count_r = n;
	return CPM_OK;
}

int io_subs_exist(struct io_queue *q, const struct cpm_pl *aors, size_t count,
		bool *there_r)
{
	struct cpm_subs_keys k;
	struct cpm_pl argv[2] = {CPM_PL_LIT("EXISTS"), CPM_PL_NULL};
	uint64_t n;
	size_t i;
	int rc;

	ioq_begin(q);
	/* before anything is on its way: what is half of a pipeline would be taken
	 * for the next one's */
	for(i = 0; i < count; i++) {
		rc = keys_of(q, &k, aors[i]);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	for(i = 0; i < count; i++) {
		(void)keys_of(q, &k, aors[i]);
		argv[1] = k.key[CPM_SUBS_KEY_SUBS];
		rc = io_redis_command_add(q->redis, 2, argv);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	rc = ioq_gather(q, count);
	for(i = 0; rc == CPM_OK && i < count; i++) {
		there_r[i] = ioq_rep_u64(q->reply->element[i], &n) && n > 0;
	}
	return rc;
}

/* ----------------------------------------------------------------- due */

struct due
{
	uint64_t claim_ms;
	size_t limit;
	struct cpm_subs_keys keys;
};

static const struct cpm_pl *due_fill(const struct io_queue *q, unsigned shard,
		void *ctx, struct ioq_args *a, size_t *count_r)
{
	struct due *d = ctx;

	(void)cpm_subs_keys_shard(&d->keys, ioq_prefix_of(q), shard);
	ioq_args_init(a, q, CPM_PL_NULL);
	ioq_arg_pl(a, CPM_PL_LIT("due"));
	ioq_arg_u64(a, d->limit);
	ioq_arg_u64(a, d->claim_ms);
	*count_r = CPM_SUBS_KEY_COUNT_;
	return d->keys.key;
}

int io_subs_due(struct io_queue *q, const unsigned *shards, size_t shard_count,
		uint64_t claim_ms, size_t limit, struct cpm_pl *users_r,
		size_t *count_r, uint64_t *next_ms_r)
{
	const redisReply *r;
	struct due due;
	uint64_t next = UINT64_MAX;
	uint64_t ms;
	size_t i, j, n = 0;
	int rc;

	ioq_begin(q);
	if(limit > IO_SUBS_DUE_MAX) {
		limit = IO_SUBS_DUE_MAX;
	}
	for(i = 0; i < shard_count; i++) {
		if(shards[i] >= CPM_QUEUE_SHARDS) {
			return ioq_bad_reply(q);
		}
	}
	due.claim_ms = claim_ms;
	due.limit = limit;
	rc = ioq_ask_shards(
			q, CPM_SCRIPT_SUBS, shards, shard_count, due_fill, &due);
	if(rc != CPM_OK) {
		return rc;
	}
	for(i = 0; i < shard_count; i++) {
		r = q->reply->element[i];
		if(r == NULL) {
			continue;
		}
		if(ioq_rep_count(r) < 1 || ioq_rep_count(r) > limit + 1) {
			return ioq_bad_reply(q);
		}
		/* "-1": none */
		if(ioq_rep_u64(ioq_rep_at(r, 0), &ms) && ms < next) {
			next = ms;
		}
		for(j = 1; j < ioq_rep_count(r); j++) {
			users_r[n++] = ioq_rep_pl(ioq_rep_at(r, j));
		}
	}
	*count_r = n;
	*next_ms_r = next;
	return CPM_OK;
}
