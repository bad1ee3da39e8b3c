/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_queue.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

/* Scripts take aor and now first (core/lua/common.lua). */
#define ARGS_MAX 12

struct io_queue
{
	struct io_redis *redis;
	struct redisReply *reply; /* what borrowed slices point into */
	char prefix[CPM_QUEUE_PREFIX_MAX];
	size_t prefix_len;
	uint64_t now_ms;
	const char *error; /* of ours; NULL: ask io_redis */
};

/* ------------------------------------------------- arguments, by value */

struct args
{
	struct cpm_pl v[ARGS_MAX];
	size_t n;
	char digits[ARGS_MAX][24];
};

static void arg_pl(struct args *a, struct cpm_pl v)
{
	if(a->n < ARGS_MAX) {
		a->v[a->n++] = v;
	}
}

static void arg_u64(struct args *a, uint64_t v)
{
	struct cpm_wr w;

	if(a->n < ARGS_MAX) {
		cpm_wr_init(&w, a->digits[a->n], sizeof(a->digits[0]));
		cpm_wr_u64(&w, v);
		a->v[a->n] = cpm_wr_pl(&w);
		a->n++;
	}
}

static void args_init(
		struct args *a, const struct io_queue *q, struct cpm_pl aor)
{
	a->n = 0;
	arg_pl(a, aor);
	arg_u64(a, q->now_ms);
}

/* "-" stands for nothing where a script wants a word. */
static void arg_word(struct args *a, struct cpm_pl v)
{
	arg_pl(a, v.n > 0 ? v : CPM_PL_LIT("-"));
}

/* ------------------------------------------------------ replies, checked */

static struct cpm_pl rep_pl(const redisReply *r)
{
	if(r != NULL
			&& (r->type == REDIS_REPLY_STRING
					|| r->type == REDIS_REPLY_STATUS)) {
		return cpm_pl(r->str, (size_t)r->len);
	}
	return CPM_PL_NULL;
}

static bool rep_u64(const redisReply *r, uint64_t *v_r)
{
	if(r != NULL && r->type == REDIS_REPLY_INTEGER && r->integer >= 0) {
		*v_r = (uint64_t)r->integer;
		return true;
	}
	return cpm_pl_u64(rep_pl(r), UINT64_MAX, v_r) == CPM_OK;
}

static const redisReply *rep_at(const redisReply *r, size_t i)
{
	if(r != NULL && r->type == REDIS_REPLY_ARRAY && i < r->elements) {
		return r->element[i];
	}
	return NULL;
}

static size_t rep_count(const redisReply *r)
{
	return r != NULL && r->type == REDIS_REPLY_ARRAY ? r->elements : 0;
}

static bool rep_is(const redisReply *r, const char *word)
{
	return cpm_pl_eq(rep_pl(r), cpm_pl_str(word));
}

static int bad_reply(struct io_queue *q)
{
	q->error = "a script gave an answer of an unknown shape";
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

static struct cpm_pl prefix_of(const struct io_queue *q)
{
	return cpm_pl(q->prefix, q->prefix_len);
}

/* A new call: what the last one lent is taken back. */
static void begin(struct io_queue *q)
{
	io_redis_reply_free(&q->reply);
	q->error = NULL;
}

static int run(struct io_queue *q, enum cpm_script script,
		const struct cpm_queue_keys *k, const struct args *a)
{
	begin(q);
	return io_redis_eval(
			q->redis, script, k->key, k->count, a->v, a->n, &q->reply);
}

static int keys_of(struct io_queue *q, struct cpm_queue_keys *k,
		struct cpm_pl aor, struct cpm_pl id)
{
	if(cpm_queue_keys_init(k, prefix_of(q), aor, id) != CPM_OK) {
		begin(q);
		q->error = "address or id over its bound";
		return CPM_EPROTO;
	}
	return CPM_OK;
}

int io_queue_ping(struct io_queue *q)
{
	struct cpm_pl argv[1] = {CPM_PL_LIT("PING")};

	begin(q);
	return io_redis_command(q->redis, 1, argv, &q->reply);
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
	};
	struct cpm_queue_keys k;
	struct args a;
	struct cpm_put_result res;
	size_t i;
	int rc;

	rc = keys_of(q, &k, put->aor, put->id);
	if(rc != CPM_OK) {
		return rc;
	}
	args_init(&a, q, put->aor);
	arg_pl(&a, put->id);
	arg_pl(&a, put->blob);
	arg_u64(&a, put->expires_ms);
	arg_u64(&a, put->max_messages);
	arg_u64(&a, put->max_bytes);
	arg_u64(&a, put->check_in_ms);
	arg_u64(&a, put->deferred ? 1 : 0);
	rc = run(q, CPM_SCRIPT_PUT, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(!rep_u64(rep_at(q->reply, 1), &res.messages)
			|| !rep_u64(rep_at(q->reply, 2), &res.bytes)) {
		return bad_reply(q);
	}
	for(i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		if(rep_is(rep_at(q->reply, 0), statuses[i].word)) {
			res.status = statuses[i].status;
			*r_r = res;
			return CPM_OK;
		}
	}
	return bad_reply(q);
}

/* {'ok', attempt, blob} */
static bool leased_of(const redisReply *r, struct cpm_lease *lease)
{
	uint64_t attempt;

	if(!rep_is(rep_at(r, 0), "ok") || !rep_u64(rep_at(r, 1), &attempt)
			|| cpm_msg_decode(rep_pl(rep_at(r, 2)), &lease->msg, NULL)
					   != CPM_OK) {
		return false;
	}
	lease->status = CPM_LEASE_OK;
	lease->attempt = attempt < 1000000 ? (unsigned)attempt : 1000000;
	return true;
}

int io_queue_lease(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, enum cpm_lease_force force, uint64_t age_ms,
		struct cpm_lease *lease_r)
{
	struct cpm_queue_keys k;
	struct args a;
	struct cpm_lease lease;
	int rc;

	rc = keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	args_init(&a, q, aor);
	arg_pl(&a, token);
	arg_u64(&a, lease_ms);
	arg_u64(&a, (uint64_t)force);
	arg_u64(&a, age_ms);
	rc = run(q, CPM_SCRIPT_LEASE, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	memset(&lease, 0, sizeof(lease));
	if(rep_is(rep_at(q->reply, 0), "empty")) {
		lease.status = CPM_LEASE_EMPTY;
	} else if(rep_is(rep_at(q->reply, 0), "none")) {
		lease.status = CPM_LEASE_NONE;
	} else if(rep_is(rep_at(q->reply, 0), "wait")
			  && rep_u64(rep_at(q->reply, 1), &lease.wait_ms)) {
		lease.status = CPM_LEASE_WAIT;
	} else if(rep_is(rep_at(q->reply, 0), "busy")
			  && rep_u64(rep_at(q->reply, 1), &lease.wait_ms)) {
		lease.status = CPM_LEASE_BUSY;
	} else if(!leased_of(q->reply, &lease)) {
		return bad_reply(q);
	}
	*lease_r = lease;
	return CPM_OK;
}

int io_queue_renew(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl id, uint64_t lease_ms, struct cpm_lease *lease_r)
{
	struct cpm_queue_keys k;
	struct args a;
	struct cpm_lease lease;
	int rc;

	rc = keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	args_init(&a, q, aor);
	arg_pl(&a, token);
	arg_pl(&a, id);
	arg_u64(&a, lease_ms);
	rc = run(q, CPM_SCRIPT_RENEW, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(rep_is(rep_at(q->reply, 0), "lost")) {
		return CPM_ENOENT;
	}
	memset(&lease, 0, sizeof(lease));
	if(!leased_of(q->reply, &lease)) {
		return bad_reply(q);
	}
	*lease_r = lease;
	return CPM_OK;
}

int io_queue_settle(struct io_queue *q, const struct cpm_settle *settle)
{
	static const char *const hows[] = {
			[CPM_SETTLE_DELIVERED] = "delivered",
			[CPM_SETTLE_RETRY] = "retry",
			[CPM_SETTLE_DEAD] = "dead",
			[CPM_SETTLE_DEFER] = "defer",
	};
	struct cpm_queue_keys k;
	struct args a;
	char fail_class = (char)settle->fail_class;
	uint64_t yes;
	int rc;

	rc = keys_of(q, &k, settle->aor, settle->id);
	if(rc != CPM_OK) {
		return rc;
	}
	if(fail_class == 0) {
		fail_class = '-';
	}
	args_init(&a, q, settle->aor);
	arg_pl(&a, settle->token);
	arg_pl(&a, settle->id);
	arg_pl(&a, cpm_pl_str(hows[settle->how]));
	arg_u64(&a, settle->retry_in_ms);
	arg_pl(&a, cpm_pl(&fail_class, 1));
	arg_pl(&a, settle->error);
	/* Redis refuses a life of 0 ms */
	arg_u64(&a, settle->dedup_ms > 0 ? settle->dedup_ms : 1);
	rc = run(q, CPM_SCRIPT_SETTLE, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(!rep_u64(q->reply, &yes)) {
		return bad_reply(q);
	}
	return yes == 1 ? CPM_OK : CPM_ENOENT;
}

int io_queue_release(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl unsent_id, uint64_t wake_in_ms)
{
	struct cpm_queue_keys k;
	struct args a;
	int rc;

	rc = keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	args_init(&a, q, aor);
	arg_word(&a, token);
	arg_word(&a, unsent_id);
	arg_u64(&a, wake_in_ms);
	return run(q, CPM_SCRIPT_RELEASE, &k, &a);
}

int io_queue_claim(struct io_queue *q, unsigned shard, uint64_t claim_ms,
		size_t limit, struct cpm_pl *users_r, size_t *count_r)
{
	struct cpm_queue_keys k;
	struct args a;
	size_t i;
	int rc;

	if(cpm_queue_keys_shard(&k, prefix_of(q), shard) != CPM_OK) {
		return bad_reply(q);
	}
	args_init(&a, q, CPM_PL_NULL);
	arg_u64(&a, limit < IO_QUEUE_PAGE_MAX ? limit : IO_QUEUE_PAGE_MAX);
	arg_u64(&a, claim_ms);
	rc = run(q, CPM_SCRIPT_CLAIM, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(rep_count(q->reply) > limit) {
		return bad_reply(q);
	}
	for(i = 0; i < rep_count(q->reply); i++) {
		users_r[i] = rep_pl(q->reply->element[i]);
	}
	*count_r = i;
	return CPM_OK;
}

int io_queue_expired(struct io_queue *q, unsigned shard, struct cpm_msg *msg_r)
{
	struct cpm_queue_keys k;
	struct cpm_pl argv[2];
	struct cpm_pl blob;
	int rc;

	if(cpm_queue_keys_shard(&k, prefix_of(q), shard) != CPM_OK) {
		return bad_reply(q);
	}
	argv[0] = CPM_PL_LIT("LPOP");
	argv[1] = k.key[CPM_KEY_EXPIRED];
	begin(q);
	rc = io_redis_command(q->redis, 2, argv, &q->reply);
	if(rc != CPM_OK) {
		return rc;
	}
	if(q->reply->type == REDIS_REPLY_NIL) {
		return CPM_ENOENT;
	}
	blob = rep_pl(q->reply);
	(void)cpm_pl_cut(&blob, '\n');
	return cpm_msg_decode(blob, msg_r, NULL) == CPM_OK ? CPM_OK : bad_reply(q);
}

/* ----------------------------------------------------------------- read */

static bool stat_of(const redisReply *r, struct cpm_queue_stat *stat_r)
{
	struct cpm_queue_stat s;

	if(!rep_u64(rep_at(r, 0), &s.messages) || !rep_u64(rep_at(r, 1), &s.bytes)
			|| !rep_u64(rep_at(r, 2), &s.oldest_ms)
			|| !rep_u64(rep_at(r, 3), &s.newest_ms)
			|| !rep_u64(rep_at(r, 4), &s.queued)
			|| !rep_u64(rep_at(r, 5), &s.leased)
			|| !rep_u64(rep_at(r, 6), &s.held)
			|| !rep_u64(rep_at(r, 7), &s.dead)) {
		return false;
	}
	*stat_r = s;
	return true;
}

int io_queue_stat(
		struct io_queue *q, struct cpm_pl aor, struct cpm_queue_stat *stat_r)
{
	struct cpm_queue_stat s;
	int rc;

	rc = io_queue_stats(q, &aor, 1, &s);
	if(rc != CPM_OK) {
		return rc;
	}
	if(s.messages == 0) {
		return CPM_ENOENT;
	}
	*stat_r = s;
	return CPM_OK;
}

int io_queue_stats(struct io_queue *q, const struct cpm_pl *users, size_t count,
		struct cpm_queue_stat *stats_r)
{
	struct cpm_queue_keys k;
	struct redisReply *reply;
	struct args a;
	size_t i;
	int rc;

	/* the names may be borrowed from the reply of io_queue_users: it is kept
	 * here, and each answer is read and freed at once */
	q->error = NULL;
	for(i = 0; i < count; i++) {
		if(cpm_queue_keys_init(&k, prefix_of(q), users[i], CPM_PL_NULL)
				!= CPM_OK) {
			return bad_reply(q);
		}
	}
	for(i = 0; i < count; i++) {
		(void)cpm_queue_keys_init(&k, prefix_of(q), users[i], CPM_PL_NULL);
		args_init(&a, q, users[i]);
		rc = io_redis_eval_add(
				q->redis, CPM_SCRIPT_STAT, k.key, k.count, a.v, a.n);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	for(i = 0; i < count; i++) {
		reply = NULL;
		rc = io_redis_get(q->redis, &reply);
		if(rc != CPM_OK) {
			return rc;
		}
		if(!stat_of(reply, &stats_r[i])) {
			memset(&stats_r[i], 0, sizeof(stats_r[i]));
		}
		io_redis_reply_free(&reply);
	}
	return CPM_OK;
}

/* One shard's users behind `after`: a page of names. */
static int users_page(struct io_queue *q, unsigned shard, struct cpm_pl after,
		struct cpm_pl prefix, size_t limit)
{
	struct cpm_queue_keys k;
	struct cpm_pl argv[7];
	struct cpm_wr w;
	char min[CPM_AOR_MAX + 2];
	char max[CPM_AOR_MAX + 2];
	char digits[24];

	if(after.n > CPM_AOR_MAX || prefix.n > CPM_AOR_MAX
			|| cpm_queue_keys_shard(&k, prefix_of(q), shard) != CPM_OK) {
		return bad_reply(q);
	}
	argv[0] = CPM_PL_LIT("ZRANGEBYLEX");
	argv[1] = k.key[CPM_KEY_USERS];
	cpm_wr_init(&w, min, sizeof(min));
	if(after.n > 0 && cpm_pl_cmp(after, prefix) >= 0) {
		cpm_wr_chr(&w, '(');
		cpm_wr_pl_put(&w, after);
	} else if(prefix.n > 0) {
		cpm_wr_chr(&w, '[');
		cpm_wr_pl_put(&w, prefix);
	} else {
		cpm_wr_chr(&w, '-');
	}
	argv[2] = cpm_wr_pl(&w);
	cpm_wr_init(&w, max, sizeof(max));
	if(prefix.n > 0) {
		/* an address is ASCII: nothing that starts so sorts behind 0xff */
		cpm_wr_chr(&w, '(');
		cpm_wr_pl_put(&w, prefix);
		cpm_wr_chr(&w, (char)0xff);
	} else {
		cpm_wr_chr(&w, '+');
	}
	argv[3] = cpm_wr_pl(&w);
	argv[4] = CPM_PL_LIT("LIMIT");
	argv[5] = CPM_PL_LIT("0");
	cpm_wr_init(&w, digits, sizeof(digits));
	cpm_wr_u64(&w, limit);
	argv[6] = cpm_wr_pl(&w);
	return io_redis_command_add(q->redis, 7, argv);
}

/* Names outlive the reply that brought them only if all replies are kept:
 * they are gathered under one array reply that q owns. */
static int users_keep(struct io_queue *q, struct redisReply **parts, size_t n)
{
	redisReply *all = calloc(1, sizeof(*all));
	size_t i;

	if(all != NULL) {
		all->type = REDIS_REPLY_ARRAY;
		all->element = calloc(n, sizeof(redisReply *));
	}
	if(all == NULL || all->element == NULL) {
		for(i = 0; i < n; i++) {
			io_redis_reply_free(&parts[i]);
		}
		free(all);
		q->error = "no memory";
		return CPM_ENOMEM;
	}
	all->elements = n;
	for(i = 0; i < n; i++) {
		all->element[i] = parts[i];
		parts[i] = NULL;
	}
	q->reply = all;
	return CPM_OK;
}

int io_queue_users(struct io_queue *q, unsigned *shard, struct cpm_pl after,
		struct cpm_pl prefix, size_t limit, struct cpm_pl *users_r,
		size_t *count_r)
{
	struct redisReply *parts[CPM_QUEUE_SHARDS] = {NULL};
	char after_copy[CPM_AOR_MAX];
	char prefix_copy[CPM_AOR_MAX];
	unsigned first = *shard;
	size_t n, i, j;
	int rc = CPM_OK;

	if(first >= CPM_QUEUE_SHARDS || limit == 0 || after.n > CPM_AOR_MAX
			|| prefix.n > CPM_AOR_MAX) {
		*count_r = 0;
		return first >= CPM_QUEUE_SHARDS ? CPM_OK : bad_reply(q);
	}
	/* the cursor may be borrowed from the last page */
	after = cpm_pl(
			memcpy(after_copy, after.n ? after.p : "", after.n), after.n);
	prefix = cpm_pl(
			memcpy(prefix_copy, prefix.n ? prefix.p : "", prefix.n), prefix.n);
	begin(q);
	/* all shards that are left in one round trip: most are short */
	for(i = first; i < CPM_QUEUE_SHARDS; i++) {
		rc = users_page(q, (unsigned)i, i == first ? after : CPM_PL_NULL,
				prefix, limit);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	n = CPM_QUEUE_SHARDS - first;
	for(i = 0; i < n && rc == CPM_OK; i++) {
		rc = io_redis_get(q->redis, &parts[i]);
	}
	if(rc != CPM_OK) {
		for(i = 0; i < n; i++) {
			io_redis_reply_free(&parts[i]);
		}
		return rc;
	}
	rc = users_keep(q, parts, n);
	if(rc != CPM_OK) {
		return rc;
	}
	*count_r = 0;
	for(i = 0; i < n; i++) {
		for(j = 0; j < rep_count(q->reply->element[i]); j++) {
			users_r[*count_r] = rep_pl(q->reply->element[i]->element[j]);
			(*count_r)++;
			if(*count_r == limit) {
				*shard = first + (unsigned)i;
				return CPM_OK;
			}
		}
	}
	*shard = CPM_QUEUE_SHARDS;
	return CPM_OK;
}

/* {seq, state, attempts, due, error, blob or envelope} */
static bool item_of(const redisReply *r, struct cpm_queue_item *item_r)
{
	struct cpm_queue_item item;
	struct cpm_pl state = rep_pl(rep_at(r, 1));
	uint64_t attempts;

	memset(&item, 0, sizeof(item));
	if(!rep_u64(rep_at(r, 0), &item.seq) || state.n != 1
			|| !rep_u64(rep_at(r, 2), &attempts)
			|| !rep_u64(rep_at(r, 3), &item.next_attempt_ms)
			|| cpm_msg_decode(rep_pl(rep_at(r, 5)), &item.msg, NULL)
					   != CPM_OK) {
		return false;
	}
	item.state = (enum cpm_state)state.p[0];
	item.attempts = attempts < 1000000 ? (unsigned)attempts : 1000000;
	item.last_error = rep_pl(rep_at(r, 4));
	*item_r = item;
	return true;
}

int io_queue_list(struct io_queue *q, struct cpm_pl aor, uint64_t after,
		size_t limit, char state, struct cpm_queue_item *items_r,
		size_t *count_r, uint64_t *next_r)
{
	struct cpm_queue_keys k;
	struct args a;
	uint64_t messages, next;
	size_t i, n;
	int rc;

	rc = keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	if(limit > IO_QUEUE_PAGE_MAX) {
		limit = IO_QUEUE_PAGE_MAX;
	}
	args_init(&a, q, aor);
	arg_u64(&a, after);
	arg_u64(&a, limit);
	arg_word(&a, cpm_pl(&state, state != 0 ? 1 : 0));
	rc = run(q, CPM_SCRIPT_LIST, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	n = rep_count(q->reply);
	if(n < 2 || n - 2 > limit || !rep_u64(rep_at(q->reply, 0), &messages)
			|| !rep_u64(rep_at(q->reply, 1), &next)) {
		return bad_reply(q);
	}
	if(messages == 0) {
		return CPM_ENOENT;
	}
	for(i = 2; i < n; i++) {
		if(!item_of(rep_at(q->reply, i), &items_r[i - 2])) {
			return bad_reply(q);
		}
	}
	*count_r = n - 2;
	*next_r = next;
	return CPM_OK;
}

int io_queue_get(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id,
		bool body, struct cpm_queue_item *item_r)
{
	struct cpm_queue_keys k;
	struct args a;
	int rc;

	if(!cpm_msg_id_ok(id)) {
		return CPM_ENOENT;
	}
	rc = keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	args_init(&a, q, aor);
	arg_pl(&a, id);
	arg_u64(&a, body ? 1 : 0);
	rc = run(q, CPM_SCRIPT_GET, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(q->reply->type == REDIS_REPLY_NIL) {
		return CPM_ENOENT;
	}
	return item_of(q->reply, item_r) ? CPM_OK : bad_reply(q);
}

int io_queue_totals(struct io_queue *q, struct io_queue_totals *totals_r)
{
	struct io_queue_totals t = {0, 0, 0, 0};
	struct cpm_queue_keys k;
	struct redisReply *reply;
	struct cpm_pl argv[4];
	uint64_t v;
	unsigned shard, part;
	size_t argc;
	int rc;

	begin(q);
	for(shard = 0; shard < CPM_QUEUE_SHARDS; shard++) {
		(void)cpm_queue_keys_shard(&k, prefix_of(q), shard);
		for(part = 0; part < 3; part++) {
			argc = 2;
			argv[0] = CPM_PL_LIT("ZCARD");
			argv[1] = k.key[part == 0 ? CPM_KEY_USERS : CPM_KEY_DEAD];
			if(part == 2) {
				argc = 4;
				argv[0] = CPM_PL_LIT("HMGET");
				argv[1] = k.key[CPM_KEY_SUM];
				argv[2] = CPM_PL_LIT("n");
				argv[3] = CPM_PL_LIT("b");
			}
			rc = io_redis_command_add(q->redis, argc, argv);
			if(rc != CPM_OK) {
				return rc;
			}
		}
	}
	for(shard = 0; shard < CPM_QUEUE_SHARDS; shard++) {
		for(part = 0; part < 3; part++) {
			reply = NULL;
			rc = io_redis_get(q->redis, &reply);
			if(rc != CPM_OK) {
				return rc;
			}
			if(part == 0 && rep_u64(reply, &v)) {
				t.users += v;
			} else if(part == 1 && rep_u64(reply, &v)) {
				t.dead += v;
			} else if(part == 2) {
				t.messages += rep_u64(rep_at(reply, 0), &v) ? v : 0;
				t.bytes += rep_u64(rep_at(reply, 1), &v) ? v : 0;
			}
			io_redis_reply_free(&reply);
		}
	}
	*totals_r = t;
	return CPM_OK;
}
