/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_queue_int.h"

#include <stdlib.h>

/* ------------------------------------------------- arguments, by value */

void ioq_arg_pl(struct ioq_args *a, struct cpm_pl v)
{
	if(a->n < IOQ_ARGS_MAX) {
		a->v[a->n++] = v;
	}
}

void ioq_arg_u64(struct ioq_args *a, uint64_t v)
{
	struct cpm_wr w;

	if(a->n < IOQ_ARGS_MAX) {
		cpm_wr_init(&w, a->digits[a->n], sizeof(a->digits[0]));
		cpm_wr_u64(&w, v);
		a->v[a->n] = cpm_wr_pl(&w);
		a->n++;
	}
}

void ioq_args_init(
		struct ioq_args *a, const struct io_queue *q, struct cpm_pl aor)
{
	a->n = 0;
	ioq_arg_pl(a, aor);
	ioq_arg_u64(a, q->now_ms);
}

void ioq_arg_word(struct ioq_args *a, struct cpm_pl v)
{
	ioq_arg_pl(a, v.n > 0 ? v : CPM_PL_LIT("-"));
}

void ioq_arg_jobs(struct ioq_args *a, unsigned kinds)
{
	_Static_assert(CPM_JOB_KINDS <= sizeof(a->digits[0]), "letters fit");

	if(a->n < IOQ_ARGS_MAX) {
		/* by value: the arguments outlive this call */
		ioq_arg_pl(a, cpm_job_letters(kinds, a->digits[a->n]));
	}
}

/* ------------------------------------------------------ replies, checked */

struct cpm_pl ioq_rep_pl(const redisReply *r)
{
	if(r != NULL
			&& (r->type == REDIS_REPLY_STRING
					|| r->type == REDIS_REPLY_STATUS)) {
		return cpm_pl(r->str, (size_t)r->len);
	}
	return CPM_PL_NULL;
}

bool ioq_rep_u64(const redisReply *r, uint64_t *v_r)
{
	if(r != NULL && r->type == REDIS_REPLY_INTEGER && r->integer >= 0) {
		*v_r = (uint64_t)r->integer;
		return true;
	}
	return cpm_pl_u64(ioq_rep_pl(r), UINT64_MAX, v_r) == CPM_OK;
}

const redisReply *ioq_rep_at(const redisReply *r, size_t i)
{
	if(r != NULL && r->type == REDIS_REPLY_ARRAY && i < r->elements) {
		return r->element[i];
	}
	return NULL;
}

size_t ioq_rep_count(const redisReply *r)
{
	return r != NULL && r->type == REDIS_REPLY_ARRAY ? r->elements : 0;
}

bool ioq_rep_is(const redisReply *r, const char *word)
{
	return cpm_pl_eq(ioq_rep_pl(r), cpm_pl_str(word));
}

int ioq_bad_reply(struct io_queue *q)
{
	q->error = "a script gave an answer of an unknown shape";
	return CPM_EPROTO;
}

int ioq_out_of_bounds(struct io_queue *q)
{
	ioq_begin(q);
	q->error = "a count over its bound";
	return CPM_EPROTO;
}

/* ------------------------------------------------------------- running */

struct io_queue *io_queue_new(
		const struct io_redis_conf *conf, struct cpm_pl prefix)
{
	struct io_queue *q;

	if(prefix.n == 0 || prefix.n > CPM_QUEUE_PREFIX_MAX) {
		return NULL;
	}
	q = calloc(1, sizeof(*q));
	if(q == NULL) {
		return NULL;
	}
	q->redis = io_redis_new(conf);
	if(q->redis == NULL) {
		free(q);
		return NULL;
	}
	memcpy(q->prefix, prefix.p, prefix.n);
	q->prefix_len = prefix.n;
	q->cluster = conf->topology == IO_REDIS_CLUSTER;
	return q;
}

void io_queue_free(struct io_queue **q)
{
	if(*q != NULL) {
		io_redis_reply_free(&(*q)->reply);
		io_redis_free(&(*q)->redis);
		free(*q);
		*q = NULL;
	}
}

void io_queue_set_now(struct io_queue *q, uint64_t now_ms)
{
	q->now_ms = now_ms;
}

const char *io_queue_error(const struct io_queue *q)
{
	return q->error != NULL ? q->error : io_redis_error(q->redis);
}

void *io_queue_lend(struct io_queue *q)
{
	struct redisReply *lent = q->reply;

	q->reply = NULL;
	return lent;
}

void io_queue_back(struct io_queue *q, void *lent)
{
	io_redis_reply_free(&q->reply);
	q->reply = lent;
}

struct cpm_pl ioq_prefix_of(const struct io_queue *q)
{
	return cpm_pl(q->prefix, q->prefix_len);
}

void ioq_begin(struct io_queue *q)
{
	io_redis_reply_free(&q->reply);
	q->error = NULL;
}

int ioq_run(struct io_queue *q, enum cpm_script script,
		const struct cpm_queue_keys *k, const struct ioq_args *a)
{
	ioq_begin(q);
	return io_redis_eval(
			q->redis, script, k->key, k->count, a->v, a->n, &q->reply);
}

int ioq_keys_of(struct io_queue *q, struct cpm_queue_keys *k, struct cpm_pl aor,
		struct cpm_pl id)
{
	if(cpm_queue_keys_init(k, ioq_prefix_of(q), aor, id) != CPM_OK) {
		ioq_begin(q);
		q->error = "address or id over its bound";
		return CPM_EPROTO;
	}
	return CPM_OK;
}

int io_queue_ping(struct io_queue *q)
{
	struct cpm_pl argv[1] = {CPM_PL_LIT("PING")};

	ioq_begin(q);
	return io_redis_command(q->redis, 1, argv, &q->reply);
}

int io_queue_survey(struct io_queue *q, struct io_redis_server *servers,
		size_t cap, size_t *n_r)
{
	ioq_begin(q);
	return io_redis_survey(q->redis, servers, cap, n_r);
}

int ioq_places(struct io_queue *q, size_t n)
{
	redisReply *all;

	ioq_begin(q);
	all = calloc(1, sizeof(*all));
	if(all != NULL) {
		all->type = REDIS_REPLY_ARRAY;
		all->element = calloc(n > 0 ? n : 1, sizeof(redisReply *));
	}
	if(all == NULL || all->element == NULL) {
		/* the answers that are not fetched are the connection's to drop */
		free(all);
		q->error = "no memory";
		return CPM_ENOMEM;
	}
	all->elements = n;
	q->reply = all;
	return CPM_OK;
}

int ioq_gather(struct io_queue *q, size_t n)
{
	size_t i;
	int rc = ioq_places(q, n);

	for(i = 0; rc == CPM_OK && i < n; i++) {
		rc = io_redis_get(q->redis, &q->reply->element[i]);
		if(rc != CPM_OK) {
			io_redis_reply_free(&q->reply);
		}
	}
	return rc;
}

static int shards_together(struct io_queue *q, enum cpm_script script,
		const unsigned *shards, size_t shard_count, ioq_shard_fn fill,
		void *ctx)
{
	const struct cpm_pl *keys;
	struct ioq_args a;
	size_t i, n;
	int rc;

	for(i = 0; i < shard_count; i++) {
		keys = fill(q, shards[i], ctx, &a, &n);
		rc = io_redis_eval_add(q->redis, script, keys, n, a.v, a.n);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	return ioq_gather(q, shard_count);
}

static int shards_singly(struct io_queue *q, enum cpm_script script,
		const unsigned *shards, size_t shard_count, ioq_shard_fn fill,
		void *ctx)
{
	const struct cpm_pl *keys;
	struct ioq_args a;
	bool any = false;
	size_t i, n;
	int rc = ioq_places(q, shard_count);

	if(rc != CPM_OK) {
		return rc;
	}
	for(i = 0; i < shard_count; i++) {
		keys = fill(q, shards[i], ctx, &a, &n);
		rc = io_redis_eval(
				q->redis, script, keys, n, a.v, a.n, &q->reply->element[i]);
		if(rc == CPM_EPROTO) {
			return rc;
		}
		any = any || rc == CPM_OK;
	}
	return any ? CPM_OK : rc;
}

int ioq_ask_shards(struct io_queue *q, enum cpm_script script,
		const unsigned *shards, size_t shard_count, ioq_shard_fn fill,
		void *ctx)
{
	return (q->cluster ? shards_singly : shards_together)(
			q, script, shards, shard_count, fill, ctx);
}

/* ---------------------------------------------------------------- write */

int io_queue_put(struct io_queue *q, const struct cpm_put *put,
		struct cpm_put_result *r_r)
{
	static const struct
	{
		const char *word;
		enum cpm_put_status status;
	} statuses[] = {
			{"queued", CPM_PUT_QUEUED},
			{"duplicate", CPM_PUT_DUPLICATE},
			{"gone", CPM_PUT_GONE},
			{"conflict", CPM_PUT_CONFLICT},
			{"full-messages", CPM_PUT_FULL_MESSAGES},
			{"full-bytes", CPM_PUT_FULL_BYTES},
			{"full-sender", CPM_PUT_FULL_SENDER},
	};
	struct cpm_queue_keys k;
	struct ioq_args a;
	struct cpm_put_result res;
	char tag[CPM_SENDER_TAG_LEN];
	size_t i;
	int rc;

	rc = ioq_keys_of(q, &k, put->aor, put->id);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, put->aor);
	ioq_arg_pl(&a, put->id);
	ioq_arg_pl(&a, put->blob);
	ioq_arg_u64(&a, put->expires_ms);
	ioq_arg_u64(&a, put->max_messages);
	ioq_arg_u64(&a, put->max_bytes);
	ioq_arg_u64(&a, put->check_in_ms);
	ioq_arg_u64(&a, put->deferred ? 1 : 0);
	ioq_arg_pl(&a, cpm_queue_sender_tag(put->sender, tag));
	ioq_arg_u64(&a, put->max_per_sender);
	ioq_arg_u64(&a, put->drop_oldest ? 1 : 0);
	ioq_arg_jobs(&a, put->jobs);
	ioq_begin(q);
	rc = io_redis_eval_durable(
			q->redis, CPM_SCRIPT_PUT, k.key, k.count, a.v, a.n, &q->reply);
	if(rc != CPM_OK) {
		return rc;
	}
	if(!ioq_rep_u64(ioq_rep_at(q->reply, 1), &res.messages)
			|| !ioq_rep_u64(ioq_rep_at(q->reply, 2), &res.bytes)
			|| !ioq_rep_u64(ioq_rep_at(q->reply, 3), &res.dropped)) {
		return ioq_bad_reply(q);
	}
	for(i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		if(ioq_rep_is(ioq_rep_at(q->reply, 0), statuses[i].word)) {
			res.status = statuses[i].status;
			*r_r = res;
			return CPM_OK;
		}
	}
	return ioq_bad_reply(q);
}

/* attempt and blob, from element i on */
static bool leased_of(const redisReply *r, size_t i, struct cpm_lease *lease)
{
	uint64_t attempt;

	if(!ioq_rep_u64(ioq_rep_at(r, i), &attempt)
			|| cpm_msg_decode(
					   ioq_rep_pl(ioq_rep_at(r, i + 1)), &lease->msg, NULL)
					   != CPM_OK) {
		return false;
	}
	lease->status = CPM_LEASE_OK;
	lease->attempt = attempt < 1000000 ? (unsigned)attempt : 1000000;
	return true;
}

/* {'ok', seq, attempt, blob, seq, attempt, blob...} */
static int leases_of(struct io_queue *q, size_t max, struct cpm_lease *leases_r,
		size_t *count_r)
{
	size_t n = ioq_rep_count(q->reply);
	size_t i;

	if(n < 4 || n % 3 != 1 || n / 3 > max) {
		return ioq_bad_reply(q);
	}
	n /= 3;
	for(i = 0; i < n; i++) {
		memset(&leases_r[i], 0, sizeof(leases_r[i]));
		if(!ioq_rep_u64(ioq_rep_at(q->reply, 1 + 3 * i), &leases_r[i].seq)
				|| !leased_of(q->reply, 2 + 3 * i, &leases_r[i])) {
			/* one that cannot be read does not take those before it along:
			 * it is the first when the next ones are asked for */
			if(i == 0) {
				return ioq_bad_reply(q);
			}
			break;
		}
	}
	*count_r = i;
	return CPM_OK;
}

int io_queue_lease_many(struct io_queue *q, const struct cpm_lease_ask *ask,
		struct cpm_lease *leases_r, size_t *count_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	struct cpm_lease none;
	int rc;

	if(ask->max_messages == 0 || ask->max_messages > CPM_LEASE_MAX) {
		return ioq_out_of_bounds(q);
	}
	rc = ioq_keys_of(q, &k, ask->aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, ask->aor);
	ioq_arg_pl(&a, ask->token);
	ioq_arg_u64(&a, ask->lease_ms);
	ioq_arg_u64(&a, (uint64_t)ask->force);
	ioq_arg_u64(&a, ask->age_ms);
	ioq_arg_u64(&a, ask->max_messages);
	ioq_arg_u64(&a, ask->max_bytes);
	ioq_arg_u64(&a, ask->after);
	rc = ioq_run(q, CPM_SCRIPT_LEASE, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(ioq_rep_is(ioq_rep_at(q->reply, 0), "ok")) {
		return leases_of(q, ask->max_messages, leases_r, count_r);
	}
	memset(&none, 0, sizeof(none));
	if(ioq_rep_is(ioq_rep_at(q->reply, 0), "empty")) {
		none.status = CPM_LEASE_EMPTY;
	} else if(ioq_rep_is(ioq_rep_at(q->reply, 0), "none")) {
		none.status = CPM_LEASE_NONE;
	} else if(ioq_rep_is(ioq_rep_at(q->reply, 0), "wait")
			  && ioq_rep_u64(ioq_rep_at(q->reply, 1), &none.wait_ms)) {
		none.status = CPM_LEASE_WAIT;
	} else if(ioq_rep_is(ioq_rep_at(q->reply, 0), "busy")
			  && ioq_rep_u64(ioq_rep_at(q->reply, 1), &none.wait_ms)) {
		none.status = CPM_LEASE_BUSY;
	} else {
		return ioq_bad_reply(q);
	}
	leases_r[0] = none;
	*count_r = 0;
	return CPM_OK;
}

int io_queue_lease(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, enum cpm_lease_force force, uint64_t age_ms,
		struct cpm_lease *lease_r)
{
	struct cpm_lease_ask ask = {aor, token, lease_ms, force, age_ms, 1, 0, 0};
	size_t count;

	return io_queue_lease_many(q, &ask, lease_r, &count);
}

/* {what, seq, attempt, blob} from element i on */
static bool taken_of(const redisReply *r, size_t i, struct cpm_taken *taken)
{
	static const struct
	{
		const char *word;
		enum cpm_taken_what what;
	} whats[] = {
			{"ok", CPM_TAKEN_OK},
			{"gone", CPM_TAKEN_GONE},
			{"busy", CPM_TAKEN_BUSY},
			{"later", CPM_TAKEN_LATER},
	};
	uint64_t attempt;
	size_t w = 0;

	memset(taken, 0, sizeof(*taken));
	while(w < sizeof(whats) / sizeof(whats[0])
			&& !ioq_rep_is(ioq_rep_at(r, i), whats[w].word)) {
		w++;
	}
	if(w == sizeof(whats) / sizeof(whats[0])
			|| !ioq_rep_u64(ioq_rep_at(r, i + 1), &taken->seq)
			|| !ioq_rep_u64(ioq_rep_at(r, i + 2), &attempt)) {
		return false;
	}
	taken->what = whats[w].what;
	taken->attempt = attempt < 1000000 ? (unsigned)attempt : 1000000;
	/* one that cannot be read is of no use to anybody, and those beside it are
	 * not to wait for it */
	if(taken->what == CPM_TAKEN_OK
			&& cpm_msg_decode(
					   ioq_rep_pl(ioq_rep_at(r, i + 3)), &taken->msg, NULL)
					   != CPM_OK) {
		memset(&taken->msg, 0, sizeof(taken->msg));
		taken->what = CPM_TAKEN_GONE;
	}
	return true;
}

int io_queue_take(struct io_queue *q, const struct cpm_take *ask,
		struct cpm_taken *taken_r, size_t *count_r, uint64_t *busy_ms_r)
{
	size_t ids = ask->all ? 0 : ask->count;
	size_t max = ask->all ? ask->max_messages : ids;
	struct cpm_queue_keys k;
	struct ioq_args a;
	uint64_t busy_ms;
	size_t i, n;
	int rc;

	if(max > CPM_LEASE_MAX || (ask->all && max == 0)) {
		return ioq_out_of_bounds(q);
	}
	rc = ioq_keys_of(q, &k, ask->aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, ask->aor);
	ioq_arg_pl(&a, ask->token);
	ioq_arg_u64(&a, ask->lease_ms);
	ioq_arg_u64(&a, ask->max_messages);
	ioq_arg_u64(&a, ask->max_bytes);
	ioq_arg_u64(&a, ask->after);
	ioq_arg_u64(&a, ask->all ? 1 : 0);
	for(i = 0; i < ids; i++) {
		ioq_arg_pl(&a, ask->ids[i]);
	}
	rc = ioq_run(q, CPM_SCRIPT_TAKE, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(ioq_rep_is(ioq_rep_at(q->reply, 0), "busy")
			&& ioq_rep_count(q->reply) == 2
			&& ioq_rep_u64(ioq_rep_at(q->reply, 1), &busy_ms)) {
		*busy_ms_r = busy_ms;
		return CPM_EAGAIN;
	}
	n = ioq_rep_count(q->reply);
	if(n % 4 != 1 || n / 4 > max || (!ask->all && n / 4 != ids)
			|| !ioq_rep_is(ioq_rep_at(q->reply, 0), "taken")) {
		return ioq_bad_reply(q);
	}
	n /= 4;
	for(i = 0; i < n; i++) {
		if(!taken_of(q->reply, 1 + 4 * i, &taken_r[i])) {
			return ioq_bad_reply(q);
		}
	}
	*count_r = n;
	return CPM_OK;
}

int io_queue_extend(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, const struct cpm_pl *ids, size_t count, bool *lost_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	size_t i, j;
	int rc;

	if(count > CPM_LEASE_MAX) {
		return ioq_out_of_bounds(q);
	}
	rc = ioq_keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_pl(&a, token);
	ioq_arg_u64(&a, lease_ms);
	for(i = 0; i < count; i++) {
		ioq_arg_pl(&a, ids[i]);
	}
	rc = ioq_run(q, CPM_SCRIPT_EXTEND, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(q->reply->type != REDIS_REPLY_ARRAY) {
		return ioq_bad_reply(q);
	}
	for(i = 0; i < count; i++) {
		lost_r[i] = false;
		for(j = 0; j < ioq_rep_count(q->reply); j++) {
			lost_r[i] =
					lost_r[i]
					|| cpm_pl_eq(ids[i], ioq_rep_pl(ioq_rep_at(q->reply, j)));
		}
	}
	return CPM_OK;
}

int io_queue_renew(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl id, uint64_t lease_ms, struct cpm_lease *lease_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	struct cpm_lease lease;
	int rc;

	rc = ioq_keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_pl(&a, token);
	ioq_arg_pl(&a, id);
	ioq_arg_u64(&a, lease_ms);
	rc = ioq_run(q, CPM_SCRIPT_RENEW, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(ioq_rep_is(ioq_rep_at(q->reply, 0), "lost")) {
		return CPM_ENOENT;
	}
	memset(&lease, 0, sizeof(lease));
	if(!ioq_rep_is(ioq_rep_at(q->reply, 0), "ok")
			|| !leased_of(q->reply, 1, &lease)) {
		return ioq_bad_reply(q);
	}
	*lease_r = lease;
	return CPM_OK;
}

static void settle_args(const struct io_queue *q, const struct cpm_settle *s,
		struct ioq_args *a)
{
	static const char *const hows[] = {
			[CPM_SETTLE_DELIVERED] = "delivered",
			[CPM_SETTLE_RETRY] = "retry",
			[CPM_SETTLE_DEAD] = "dead",
			[CPM_SETTLE_DEFER] = "defer",
			[CPM_SETTLE_UNSENT] = "unsent",
	};
	char fail_class = s->fail_class != 0 ? (char)s->fail_class : '-';

	ioq_args_init(a, q, s->aor);
	ioq_arg_pl(a, s->token);
	ioq_arg_pl(a, s->id);
	ioq_arg_pl(a, cpm_pl_str(hows[s->how]));
	ioq_arg_u64(a, s->retry_in_ms);
	/* one letter, by value: the arguments outlive this call */
	if(a->n < IOQ_ARGS_MAX) {
		a->digits[a->n][0] = fail_class;
		ioq_arg_pl(a, cpm_pl(a->digits[a->n], 1));
	}
	ioq_arg_pl(a, s->error);
	/* Redis refuses a life of 0 ms */
	ioq_arg_u64(a, s->dedup_ms > 0 ? s->dedup_ms : 1);
	ioq_arg_jobs(a, s->jobs);
}

static int settled_of(struct io_queue *q, const redisReply *reply)
{
	uint64_t yes;

	if(!ioq_rep_u64(reply, &yes)) {
		return ioq_bad_reply(q);
	}
	return yes == 1 ? CPM_OK : CPM_ENOENT;
}

int io_queue_settle(struct io_queue *q, const struct cpm_settle *settle)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	int rc;

	rc = ioq_keys_of(q, &k, settle->aor, settle->id);
	if(rc != CPM_OK) {
		return rc;
	}
	settle_args(q, settle, &a);
	rc = ioq_run(q, CPM_SCRIPT_SETTLE, &k, &a);
	return rc == CPM_OK ? settled_of(q, q->reply) : rc;
}

int io_queue_settle_many(struct io_queue *q, const struct cpm_settle *settles,
		size_t count, int *rcs_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	size_t i;
	int rc;

	ioq_begin(q);
	/* before anything is on its way: see io_queue_claim */
	for(i = 0; i < count; i++) {
		rc = ioq_keys_of(q, &k, settles[i].aor, settles[i].id);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	for(i = 0; i < count; i++) {
		(void)cpm_queue_keys_init(
				&k, ioq_prefix_of(q), settles[i].aor, settles[i].id);
		settle_args(q, &settles[i], &a);
		rc = io_redis_eval_add(
				q->redis, CPM_SCRIPT_SETTLE, k.key, k.count, a.v, a.n);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	rc = ioq_gather(q, count);
	for(i = 0; rc == CPM_OK && i < count; i++) {
		rcs_r[i] = settled_of(q, q->reply->element[i]);
	}
	return rc;
}

int io_queue_release(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl unsent_id, uint64_t wake_in_ms)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	int rc;

	rc = ioq_keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_word(&a, token);
	ioq_arg_word(&a, unsent_id);
	ioq_arg_u64(&a, wake_in_ms);
	return ioq_run(q, CPM_SCRIPT_RELEASE, &k, &a);
}

/* ------------------------------------------- by user or operator */

/* A script that answers 1 done, 0 no such message, 2 on its way. */
static int done_of(struct io_queue *q)
{
	uint64_t v;

	if(!ioq_rep_u64(q->reply, &v) || v > 2) {
		return ioq_bad_reply(q);
	}
	return v == 1 ? CPM_OK : v == 0 ? CPM_ENOENT : CPM_EEXIST;
}

int io_queue_turn(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id,
		enum cpm_state to, struct cpm_pl token)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	char state = (char)to;
	int rc;

	if(!cpm_msg_id_ok(id)) {
		return CPM_ENOENT;
	}
	rc = ioq_keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_pl(&a, id);
	ioq_arg_pl(&a, cpm_pl(&state, 1));
	ioq_arg_word(&a, token);
	rc = ioq_run(q, CPM_SCRIPT_TURN, &k, &a);
	return rc == CPM_OK ? done_of(q) : rc;
}

int io_queue_discard(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id,
		uint64_t dedup_ms, unsigned jobs)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	int rc;

	if(!cpm_msg_id_ok(id)) {
		return CPM_ENOENT;
	}
	rc = ioq_keys_of(q, &k, aor, id);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_pl(&a, id);
	/* Redis refuses a life of 0 ms */
	ioq_arg_u64(&a, dedup_ms > 0 ? dedup_ms : 1);
	ioq_arg_jobs(&a, jobs);
	rc = ioq_run(q, CPM_SCRIPT_DISCARD, &k, &a);
	return rc == CPM_OK ? done_of(q) : rc;
}

int io_queue_purge(struct io_queue *q, struct cpm_pl aor, size_t limit,
		uint64_t *upto, uint64_t *removed_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	uint64_t next, removed;
	int rc;

	if(limit == 0) {
		return ioq_out_of_bounds(q);
	}
	rc = ioq_keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_u64(&a, limit);
	ioq_arg_u64(&a, *upto);
	rc = ioq_run(q, CPM_SCRIPT_PURGE, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(!ioq_rep_u64(ioq_rep_at(q->reply, 0), &removed)
			|| !ioq_rep_u64(ioq_rep_at(q->reply, 1), &next)) {
		return ioq_bad_reply(q);
	}
	*upto = next;
	*removed_r = removed;
	return CPM_OK;
}

int io_queue_flush(struct io_queue *q, struct cpm_pl aor, enum cpm_flush mode,
		struct cpm_pl node)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	char letter = (char)mode;
	uint64_t done;
	int rc;

	if(node.n > 32) {
		return ioq_out_of_bounds(q);
	}
	rc = ioq_keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_pl(&a, cpm_pl(&letter, 1));
	ioq_arg_word(&a, node);
	rc = ioq_run(q, CPM_SCRIPT_FLUSH, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(!ioq_rep_u64(q->reply, &done) || done > 2) {
		return ioq_bad_reply(q);
	}
	return done == 1 ? CPM_OK : done == 0 ? CPM_ENOENT : CPM_ELIMIT;
}

/* ----------------------------------------------------- the sweep */

/* What is the same for all shards. */
struct claim
{
	struct cpm_pl node;
	uint64_t claim_ms;
	size_t limit;
	struct cpm_queue_keys keys;
};

static const struct cpm_pl *claim_fill(const struct io_queue *q, unsigned shard,
		void *ctx, struct ioq_args *a, size_t *count_r)
{
	struct claim *c = ctx;

	(void)cpm_queue_keys_shard(&c->keys, ioq_prefix_of(q), shard);
	ioq_args_init(a, q, CPM_PL_NULL);
	ioq_arg_u64(a, c->limit);
	ioq_arg_u64(a, c->claim_ms);
	ioq_arg_word(a, c->node);
	*count_r = c->keys.count;
	return c->keys.key;
}

/* "<aor>" or "<aor> <mode>" */
static struct cpm_claimed claimed_of(struct cpm_pl name)
{
	struct cpm_claimed user = {cpm_pl_cut(&name, ' '), CPM_FLUSH_NONE};

	if(name.n == 1) {
		user.flush = name.p[0] == CPM_FLUSH_PUSH	 ? CPM_FLUSH_PUSH
					 : name.p[0] == CPM_FLUSH_NOTIFY ? CPM_FLUSH_NOTIFY
													 : CPM_FLUSH_AUTO;
	}
	return user;
}

int io_queue_claim(struct io_queue *q, struct cpm_pl node,
		const unsigned *shards, size_t shard_count, uint64_t claim_ms,
		size_t limit, struct cpm_claimed *users_r, size_t *count_r,
		uint64_t *left_r)
{
	struct claim c = {.node = node, .claim_ms = claim_ms, .limit = limit};
	const redisReply *r;
	size_t i, j;
	int rc;

	ioq_begin(q);
	if(limit > IO_QUEUE_PAGE_MAX) {
		limit = c.limit = IO_QUEUE_PAGE_MAX;
	}
	/* before anything is on its way: what is half of a pipeline would be taken
	 * for the next one's */
	for(i = 0; i < shard_count; i++) {
		if(shards[i] >= CPM_QUEUE_SHARDS || node.n > 32) {
			return ioq_bad_reply(q);
		}
	}
	/* on a Cluster one node may be down, or one slot be moving: that is nothing
	 * to the users of the others, whose claims would be lost with a pipeline */
	rc = ioq_ask_shards(
			q, CPM_SCRIPT_CLAIM, shards, shard_count, claim_fill, &c);
	if(rc != CPM_OK) {
		return rc;
	}
	*count_r = 0;
	for(i = 0; i < shard_count; i++) {
		r = q->reply->element[i];
		left_r[i] = 0;
		if(r == NULL) {
			continue;
		}
		if(!ioq_rep_u64(ioq_rep_at(r, 0), &left_r[i])
				|| ioq_rep_count(r) > limit + 1) {
			return ioq_bad_reply(q);
		}
		for(j = 1; j < ioq_rep_count(r); j++) {
			users_r[(*count_r)++] = claimed_of(ioq_rep_pl(ioq_rep_at(r, j)));
		}
	}
	return CPM_OK;
}

/* "<aor>\n<why>\n<id>\n<blob>" */
static bool left_of(struct cpm_pl entry, struct cpm_left *left)
{
	struct cpm_pl why;

	left->aor = cpm_pl_cut(&entry, '\n');
	why = cpm_pl_cut(&entry, '\n');
	left->id = cpm_pl_cut(&entry, '\n');
	if(why.n != 1) {
		return false;
	}
	left->why = (enum cpm_left_why)why.p[0];
	left->readable = cpm_msg_decode(entry, &left->msg, NULL) == CPM_OK;
	return true;
}

int io_queue_left(struct io_queue *q, unsigned shard, struct cpm_pl token,
		size_t limit, uint64_t hold_ms, struct cpm_left *left_r,
		size_t *count_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	size_t i, n;
	int rc;

	if(limit == 0
			|| cpm_queue_keys_shard(&k, ioq_prefix_of(q), shard) != CPM_OK) {
		return ioq_out_of_bounds(q);
	}
	ioq_args_init(&a, q, CPM_PL_NULL);
	ioq_arg_pl(&a, token);
	ioq_arg_pl(&a, CPM_PL_LIT("take"));
	ioq_arg_u64(&a, limit);
	ioq_arg_u64(&a, hold_ms);
	rc = ioq_run(q, CPM_SCRIPT_REPORTED, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	n = ioq_rep_count(q->reply);
	if(q->reply->type != REDIS_REPLY_ARRAY || n > limit) {
		return ioq_bad_reply(q);
	}
	for(i = 0; i < n; i++) {
		memset(&left_r[i], 0, sizeof(left_r[i]));
		if(!left_of(ioq_rep_pl(ioq_rep_at(q->reply, i)), &left_r[i])) {
			return ioq_bad_reply(q);
		}
	}
	*count_r = n;
	return CPM_OK;
}

int io_queue_left_done(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id,
		struct cpm_pl token, unsigned jobs)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	int rc;

	rc = ioq_keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_pl(&a, token);
	ioq_arg_pl(&a, CPM_PL_LIT("done"));
	ioq_arg_pl(&a, id);
	ioq_arg_jobs(&a, jobs);
	rc = ioq_run(q, CPM_SCRIPT_REPORTED, &k, &a);
	return rc == CPM_OK ? done_of(q) : rc;
}
