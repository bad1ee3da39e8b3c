/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_queue_int.h"

#define STAT_N 8 /* numbers at the head of what stat.lua returns */

static bool stat_of(const redisReply *r, struct cpm_queue_stat *stat_r)
{
	struct cpm_queue_stat s;

	if(!ioq_rep_u64(ioq_rep_at(r, 0), &s.messages)
			|| !ioq_rep_u64(ioq_rep_at(r, 1), &s.bytes)
			|| !ioq_rep_u64(ioq_rep_at(r, 2), &s.oldest_ms)
			|| !ioq_rep_u64(ioq_rep_at(r, 3), &s.newest_ms)
			|| !ioq_rep_u64(ioq_rep_at(r, 4), &s.queued)
			|| !ioq_rep_u64(ioq_rep_at(r, 5), &s.leased)
			|| !ioq_rep_u64(ioq_rep_at(r, 6), &s.held)
			|| !ioq_rep_u64(ioq_rep_at(r, 7), &s.dead)) {
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
	struct ioq_args a;
	size_t i;
	int rc;

	/* the names may be borrowed from the reply of io_queue_users: it is kept
	 * here, and each answer is read and freed at once */
	q->error = NULL;
	for(i = 0; i < count; i++) {
		if(cpm_queue_keys_init(&k, ioq_prefix_of(q), users[i], CPM_PL_NULL)
				!= CPM_OK) {
			return ioq_bad_reply(q);
		}
	}
	for(i = 0; i < count; i++) {
		(void)cpm_queue_keys_init(&k, ioq_prefix_of(q), users[i], CPM_PL_NULL);
		ioq_args_init(&a, q, users[i]);
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

#define NAME_MAX_ (CPM_AOR_MAX + 1 + CPM_MSG_ID_MAX)

/* One shard's names behind `after`, of the index of users or of the dead. */
static int names_page(struct io_queue *q, enum cpm_queue_key index,
		unsigned shard, struct cpm_pl after, struct cpm_pl prefix, size_t limit)
{
	struct cpm_queue_keys k;
	struct cpm_pl argv[7];
	struct cpm_wr w;
	char min[NAME_MAX_ + 2];
	char max[NAME_MAX_ + 2];
	char digits[24];

	if(after.n > NAME_MAX_ || prefix.n > NAME_MAX_
			|| cpm_queue_keys_shard(&k, ioq_prefix_of(q), shard) != CPM_OK) {
		return ioq_bad_reply(q);
	}
	argv[0] = CPM_PL_LIT("ZRANGEBYLEX");
	argv[1] = k.key[index];
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

static int names(struct io_queue *q, enum cpm_queue_key index, unsigned *shard,
		struct cpm_pl after, struct cpm_pl prefix, size_t limit,
		struct cpm_pl *names_r, size_t *count_r)
{
	char after_copy[NAME_MAX_];
	char prefix_copy[NAME_MAX_];
	unsigned first = *shard;
	size_t n, i, j;
	int rc = CPM_OK;

	if(first >= CPM_QUEUE_SHARDS || limit == 0 || after.n > NAME_MAX_
			|| prefix.n > NAME_MAX_) {
		*count_r = 0;
		return first >= CPM_QUEUE_SHARDS ? CPM_OK : ioq_bad_reply(q);
	}
	/* the cursor may be borrowed from the last page */
	after = cpm_pl(
			memcpy(after_copy, after.n ? after.p : "", after.n), after.n);
	prefix = cpm_pl(
			memcpy(prefix_copy, prefix.n ? prefix.p : "", prefix.n), prefix.n);
	ioq_begin(q);
	/* all shards that are left in one round trip: most are short */
	for(i = first; i < CPM_QUEUE_SHARDS; i++) {
		rc = names_page(q, index, (unsigned)i, i == first ? after : CPM_PL_NULL,
				prefix, limit);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	n = CPM_QUEUE_SHARDS - first;
	rc = ioq_gather(q, n);
	if(rc != CPM_OK) {
		return rc;
	}
	*count_r = 0;
	for(i = 0; i < n; i++) {
		for(j = 0; j < ioq_rep_count(q->reply->element[i]); j++) {
			names_r[*count_r] = ioq_rep_pl(q->reply->element[i]->element[j]);
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

int io_queue_users(struct io_queue *q, unsigned *shard, struct cpm_pl after,
		struct cpm_pl prefix, size_t limit, struct cpm_pl *users_r,
		size_t *count_r)
{
	if(after.n > CPM_AOR_MAX || prefix.n > CPM_AOR_MAX) {
		return ioq_bad_reply(q);
	}
	return names(
			q, CPM_KEY_USERS, shard, after, prefix, limit, users_r, count_r);
}

int io_queue_dead(struct io_queue *q, unsigned *shard, struct cpm_pl after,
		size_t limit, struct cpm_pl *names_r, size_t *count_r)
{
	return names(q, CPM_KEY_DEAD, shard, after, CPM_PL_NULL, limit, names_r,
			count_r);
}

/* {seq, state, attempts, due, error, blob or envelope} */
static bool item_of(const redisReply *r, struct cpm_queue_item *item_r)
{
	struct cpm_queue_item item;
	struct cpm_pl state = ioq_rep_pl(ioq_rep_at(r, 1));
	uint64_t attempts;

	memset(&item, 0, sizeof(item));
	if(!ioq_rep_u64(ioq_rep_at(r, 0), &item.seq) || state.n != 1
			|| !ioq_rep_u64(ioq_rep_at(r, 2), &attempts)
			|| !ioq_rep_u64(ioq_rep_at(r, 3), &item.next_attempt_ms)
			|| cpm_msg_decode(ioq_rep_pl(ioq_rep_at(r, 5)), &item.msg, NULL)
					   != CPM_OK) {
		return false;
	}
	item.state = (enum cpm_state)state.p[0];
	item.attempts = attempts < 1000000 ? (unsigned)attempts : 1000000;
	item.last_error = ioq_rep_pl(ioq_rep_at(r, 4));
	*item_r = item;
	return true;
}

int io_queue_list(struct io_queue *q, struct cpm_pl aor, uint64_t after,
		size_t limit, char state, struct cpm_queue_item *items_r,
		size_t *count_r, uint64_t *next_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	uint64_t messages, next;
	size_t i, n;
	int rc;

	rc = ioq_keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	if(limit > IO_QUEUE_PAGE_MAX) {
		limit = IO_QUEUE_PAGE_MAX;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_u64(&a, after);
	ioq_arg_u64(&a, limit);
	ioq_arg_word(&a, cpm_pl(&state, state != 0 ? 1 : 0));
	rc = ioq_run(q, CPM_SCRIPT_LIST, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	n = ioq_rep_count(q->reply);
	if(n < 2 || n - 2 > limit
			|| !ioq_rep_u64(ioq_rep_at(q->reply, 0), &messages)
			|| !ioq_rep_u64(ioq_rep_at(q->reply, 1), &next)) {
		return ioq_bad_reply(q);
	}
	if(messages == 0) {
		return CPM_ENOENT;
	}
	for(i = 2; i < n; i++) {
		if(!item_of(ioq_rep_at(q->reply, i), &items_r[i - 2])) {
			return ioq_bad_reply(q);
		}
	}
	*count_r = n - 2;
	*next_r = next;
	return CPM_OK;
}

int io_queue_recent(struct io_queue *q, struct cpm_pl aor, size_t limit,
		struct cpm_queue_item *items_r, size_t *count_r,
		struct cpm_queue_stat *stat_r)
{
	struct cpm_queue_stat stat;
	struct cpm_queue_keys k;
	struct ioq_args a;
	size_t i, n;
	int rc;

	rc = ioq_keys_of(q, &k, aor, CPM_PL_NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	if(limit > IO_QUEUE_PAGE_MAX) {
		limit = IO_QUEUE_PAGE_MAX;
	}
	ioq_args_init(&a, q, aor);
	ioq_arg_u64(&a, limit);
	rc = ioq_run(q, CPM_SCRIPT_STAT, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	n = ioq_rep_count(q->reply);
	if(n < STAT_N || n - STAT_N > limit || !stat_of(q->reply, &stat)) {
		return ioq_bad_reply(q);
	}
	if(stat.messages == 0) {
		return CPM_ENOENT;
	}
	for(i = STAT_N; i < n; i++) {
		if(!item_of(ioq_rep_at(q->reply, i), &items_r[i - STAT_N])) {
			return ioq_bad_reply(q);
		}
	}
	*count_r = n - STAT_N;
	*stat_r = stat;
	return CPM_OK;
}

int io_queue_get(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id,
		bool body, struct cpm_queue_item *item_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
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
	ioq_arg_u64(&a, body ? 1 : 0);
	rc = ioq_run(q, CPM_SCRIPT_GET, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(q->reply->type == REDIS_REPLY_NIL) {
		return CPM_ENOENT;
	}
	return item_of(q->reply, item_r) ? CPM_OK : ioq_bad_reply(q);
}

int io_queue_items(struct io_queue *q, const struct cpm_pl *names, size_t count,
		struct cpm_queue_item *items_r, bool *found_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	struct cpm_pl aor, id;
	size_t i;
	int rc;

	/* the names may be borrowed from the last reply: they are sent before it
	 * is freed */
	q->error = NULL;
	for(i = 0; i < count; i++) {
		id = names[i];
		aor = cpm_pl_cut(&id, ' ');
		/* before anything is on its way: what is half of a pipeline would be
		 * taken for the next one's */
		if(cpm_queue_keys_init(&k, ioq_prefix_of(q), aor, CPM_PL_NULL)
				!= CPM_OK) {
			return ioq_bad_reply(q);
		}
	}
	for(i = 0; i < count; i++) {
		id = names[i];
		aor = cpm_pl_cut(&id, ' ');
		(void)cpm_queue_keys_init(&k, ioq_prefix_of(q), aor, CPM_PL_NULL);
		ioq_args_init(&a, q, aor);
		ioq_arg_pl(&a, id);
		ioq_arg_u64(&a, 0);
		rc = io_redis_eval_add(
				q->redis, CPM_SCRIPT_GET, k.key, k.count, a.v, a.n);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	rc = ioq_gather(q, count);
	for(i = 0; rc == CPM_OK && i < count; i++) {
		found_r[i] = item_of(q->reply->element[i], &items_r[i]);
	}
	return rc;
}

bool ioq_job_of(const redisReply *r, size_t i, struct cpm_job *job_r)
{
	struct cpm_pl name = ioq_rep_pl(ioq_rep_at(r, i));
	struct cpm_pl state = ioq_rep_pl(ioq_rep_at(r, i + 2));
	struct cpm_pl record = ioq_rep_pl(ioq_rep_at(r, i + 3));
	struct cpm_pl kind = cpm_pl_cut(&name, ' ');
	struct cpm_pl attempts = cpm_pl_cut(&record, ' ');
	struct cpm_job job;
	uint64_t v;

	memset(&job, 0, sizeof(job));
	(void)cpm_pl_cut(&record, ' ');
	if(kind.n != 1 || cpm_job_of_letter(kind.p[0]) == CPM_JOB_NONE
			|| state.n != 1 || cpm_pl_u64(attempts, 1000000, &v) != CPM_OK
			|| !ioq_rep_u64(ioq_rep_at(r, i + 1), &job.due_ms)) {
		return false;
	}
	job.kind = cpm_job_of_letter(kind.p[0]);
	job.state = state.p[0] == 'L'	? CPM_JOB_LEASED
				: state.p[0] == 'D' ? CPM_JOB_DEAD
									: CPM_JOB_WAITING;
	job.name = name;
	job.aor = cpm_pl_cut(&name, ' ');
	job.id = name;
	job.attempts = (unsigned)v;
	job.last_error = record;
	*job_r = job;
	return true;
}

int io_queue_jobs(struct io_queue *q, unsigned *shard, uint64_t after_ms,
		struct cpm_pl after_name, size_t limit, struct cpm_job *jobs_r,
		size_t *count_r)
{
	struct cpm_queue_keys k;
	struct ioq_args a;
	const redisReply *r;
	unsigned first = *shard;
	char name[NAME_MAX_ + 2];
	size_t n, i, j;
	int rc;

	if(first >= CPM_QUEUE_SHARDS || limit == 0 || after_name.n > sizeof(name)) {
		*count_r = 0;
		return first >= CPM_QUEUE_SHARDS ? CPM_OK : ioq_bad_reply(q);
	}
	after_name = cpm_pl(
			memcpy(name, after_name.n > 0 ? after_name.p : "", after_name.n),
			after_name.n);
	ioq_begin(q);
	for(i = first; i < CPM_QUEUE_SHARDS; i++) {
		(void)cpm_queue_keys_shard(&k, ioq_prefix_of(q), (unsigned)i);
		ioq_args_init(&a, q, CPM_PL_NULL);
		ioq_arg_u64(&a, i == first ? after_ms : 0);
		ioq_arg_pl(&a, i == first ? after_name : CPM_PL_LIT(""));
		ioq_arg_u64(&a, limit);
		rc = io_redis_eval_add(
				q->redis, CPM_SCRIPT_JOBS, k.key, k.count, a.v, a.n);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	n = CPM_QUEUE_SHARDS - first;
	rc = ioq_gather(q, n);
	if(rc != CPM_OK) {
		return rc;
	}
	*count_r = 0;
	for(i = 0; i < n; i++) {
		r = q->reply->element[i];
		for(j = 0; j + 3 < ioq_rep_count(r); j += 4) {
			if(!ioq_job_of(r, j, &jobs_r[*count_r])) {
				continue;
			}
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
