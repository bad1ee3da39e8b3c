/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_queue_totals.c - all queues in a few numbers, at a price that does not
 * depend on how many there are.
 *
 * Everything is a sum that the scripts keep, or the length of an index, but the
 * age of the oldest message: no index has that, and one would cost every
 * message. So each call looks at the heads of some queues, and goes on there at
 * the next.
 */

#include <stdlib.h>
#include <string.h>

#include "io_clock.h"
#include "io_queue_int.h"

/* Queues whose heads are looked at in one call. */
#define WALK_USERS 1000

/* A queue that nobody has looked at for so long after it was due. */
#define OVERDUE_MS 60000

/* The year 9999, as in common.lua: of a dead job. */
#define FAR "253402300799000"

enum part
{
	PART_USERS,
	PART_DEAD,
	PART_JOBS,
	PART_JOBS_DEAD,
	PART_OVERDUE,
	PART_SUM,
	PARTS
};

#define SUM_JOBS 2 /* fields of the sum ahead of those of the jobs' kinds */

static int part_add(struct io_queue *q, const struct cpm_queue_keys *k,
		enum part part, const char *overdue)
{
	struct cpm_pl argv[2 + SUM_JOBS + CPM_JOB_KINDS];
	char fields[CPM_JOB_KINDS][2];
	size_t argc = 2, i;

	switch(part) {
		case PART_USERS:
		case PART_DEAD:
		case PART_JOBS:
			argv[0] = CPM_PL_LIT("ZCARD");
			argv[1] = k->key[part == PART_USERS	 ? CPM_KEY_USERS
							 : part == PART_DEAD ? CPM_KEY_DEAD
												 : CPM_KEY_JOBS];
			break;
		case PART_JOBS_DEAD:
			argv[0] = CPM_PL_LIT("ZCOUNT");
			argv[1] = k->key[CPM_KEY_JOBS];
			argv[argc++] = CPM_PL_LIT(FAR);
			argv[argc++] = CPM_PL_LIT("+inf");
			break;
		case PART_OVERDUE:
			argv[0] = CPM_PL_LIT("ZCOUNT");
			argv[1] = k->key[CPM_KEY_WAKE];
			argv[argc++] = CPM_PL_LIT("-inf");
			argv[argc++] = cpm_pl_str(overdue);
			break;
		case PART_SUM:
		case PARTS:
			argv[0] = CPM_PL_LIT("HMGET");
			argv[1] = k->key[CPM_KEY_SUM];
			argv[argc++] = CPM_PL_LIT("n");
			argv[argc++] = CPM_PL_LIT("b");
			for(i = 0; i < CPM_JOB_KINDS; i++) {
				fields[i][0] = 'j';
				fields[i][1] = cpm_job_letter((enum cpm_job_kind)(1u << i));
				argv[argc++] = cpm_pl(fields[i], 2);
			}
			break;
	}
	return io_redis_command_add(q->redis, argc, argv);
}

static uint64_t number(const redisReply *r)
{
	uint64_t v;

	return ioq_rep_u64(r, &v) ? v : 0;
}

static void part_read(const redisReply *r, enum part part,
		struct io_queue_totals *t, uint64_t *users_r)
{
	size_t i;

	switch(part) {
		case PART_USERS:
			*users_r = number(r);
			t->users += *users_r;
			break;
		case PART_DEAD:
			t->dead += number(r);
			break;
		case PART_JOBS:
			t->jobs += number(r);
			break;
		case PART_JOBS_DEAD:
			t->jobs_dead += number(r);
			break;
		case PART_OVERDUE:
			t->overdue += number(r);
			break;
		case PART_SUM:
		case PARTS:
			t->messages += number(ioq_rep_at(r, 0));
			t->bytes += number(ioq_rep_at(r, 1));
			for(i = 0; i < CPM_JOB_KINDS; i++) {
				t->jobs_of_kind[i] += number(ioq_rep_at(r, SUM_JOBS + i));
			}
			break;
	}
}

/* ------------------------------------------------------------ the oldest */

/* The names that are looked at now, as one answer for each shard in q->reply:
 * of one large shard a page, else of as many whole shards as there is room
 * for. *next_r: the shard to go on with, if the page ends its shard. */
static int walk_names(
		struct io_queue *q, const uint64_t *users, unsigned *next_r)
{
	struct ioq_walk *w = &q->walk;
	struct cpm_queue_keys k;
	struct cpm_pl argv[7] = {CPM_PL_LIT("ZRANGEBYLEX"), CPM_PL_NULL,
			CPM_PL_NULL, CPM_PL_LIT("+"), CPM_PL_LIT("LIMIT"), CPM_PL_LIT("0"),
			CPM_PL_NULL};
	char min[CPM_AOR_MAX + 1];
	char limit[24];
	uint64_t room = WALK_USERS;
	unsigned shard = w->shard;
	size_t n = 0;
	int rc;

	argv[2] = CPM_PL_LIT("-");
	if(w->after_len > 0) {
		min[0] = '(';
		memcpy(min + 1, w->after, w->after_len);
		argv[2] = cpm_pl(min, w->after_len + 1);
	}
	(void)snprintf(limit, sizeof(limit), "%d", WALK_USERS);
	argv[6] = cpm_pl_str(limit);
	do {
		if(users[shard] > 0) {
			(void)cpm_queue_keys_shard(&k, ioq_prefix_of(q), shard);
			argv[1] = k.key[CPM_KEY_USERS];
			rc = io_redis_command_add(q->redis, 7, argv);
			if(rc != CPM_OK) {
				return rc;
			}
			n++;
			room -= users[shard] < room ? users[shard] : room;
		}
		shard++;
	} while(w->after_len == 0 && shard < CPM_QUEUE_SHARDS
			&& users[shard] <= room);
	*next_r = shard;
	return n > 0 ? ioq_gather(q, n) : CPM_OK;
}

/* The arrival of the message at the head of a queue, by its entry. */
static void head_read(struct ioq_walk *w, const redisReply *r)
{
	struct cpm_pl rest = ioq_rep_pl(r);
	uint64_t seq;

	if(cpm_pl_u64(cpm_pl_cut(&rest, ' '), UINT64_MAX, &seq) == CPM_OK && seq > 0
			&& (w->oldest_ms == 0 || seq < w->oldest_ms)) {
		w->oldest_ms = seq;
	}
}

/* The heads of the queues named in q->reply, and how many those are. */
static int walk_heads(struct io_queue *q, size_t *n_r, struct cpm_pl *last_r)
{
	struct cpm_queue_keys k;
	struct cpm_pl argv[3] = {
			CPM_PL_LIT("LINDEX"), CPM_PL_NULL, CPM_PL_LIT("0")};
	const redisReply *names;
	redisReply *reply;
	size_t i, j, n = 0, asked = 0;
	int rc;

	if(q->reply == NULL) {
		return CPM_OK; /* no user in these shards */
	}
	for(i = 0; i < ioq_rep_count(q->reply); i++) {
		names = ioq_rep_at(q->reply, i);
		for(j = 0; j < ioq_rep_count(names); j++, n++) {
			*last_r = ioq_rep_pl(ioq_rep_at(names, j));
			if(ioq_keys_of(q, &k, *last_r, CPM_PL_NULL) != CPM_OK) {
				continue;
			}
			argv[1] = k.key[CPM_KEY_Q];
			rc = io_redis_command_add(q->redis, 3, argv);
			if(rc != CPM_OK) {
				return rc;
			}
			asked++;
		}
	}
	for(i = 0; i < asked; i++) {
		reply = NULL;
		rc = io_redis_get(q->redis, &reply);
		if(rc != CPM_OK) {
			return rc;
		}
		head_read(&q->walk, reply);
		io_redis_reply_free(&reply);
	}
	*n_r = n;
	return CPM_OK;
}

static int walk(struct io_queue *q, const uint64_t *users)
{
	struct ioq_walk *w = &q->walk;
	struct cpm_pl last = CPM_PL_NULL;
	unsigned next = 0;
	size_t n = 0;
	bool paged;
	int rc;

	while(w->after_len == 0 && w->shard + 1 < CPM_QUEUE_SHARDS
			&& users[w->shard] == 0) {
		w->shard++;
	}
	paged = w->after_len > 0 || users[w->shard] > WALK_USERS;
	rc = walk_names(q, users, &next);
	if(rc == CPM_OK) {
		rc = walk_heads(q, &n, &last);
	}
	if(rc != CPM_OK) {
		return rc;
	}
	if(paged && n >= WALK_USERS && last.n > 0 && last.n <= sizeof(w->after)) {
		memcpy(w->after, last.p, last.n);
		w->after_len = last.n;
		return CPM_OK;
	}
	w->after_len = 0;
	w->shard = next;
	if(next == CPM_QUEUE_SHARDS) {
		w->shard = 0;
		w->whole_ms = w->oldest_ms;
		w->oldest_ms = 0;
	}
	return CPM_OK;
}

int io_queue_totals(struct io_queue *q, struct io_queue_totals *totals_r)
{
	uint64_t users[CPM_QUEUE_SHARDS] = {0};
	struct io_queue_totals t;
	struct cpm_queue_keys k;
	struct redisReply *reply;
	char overdue[24];
	uint64_t now_ms = q->now_ms > 0 ? q->now_ms : io_clock_wall_ms();
	unsigned shard, part;
	int rc;

	memset(&t, 0, sizeof(t));
	(void)snprintf(overdue, sizeof(overdue), "%llu",
			(unsigned long long)(now_ms > OVERDUE_MS ? now_ms - OVERDUE_MS
													 : 0));
	ioq_begin(q);
	for(shard = 0; shard < CPM_QUEUE_SHARDS; shard++) {
		(void)cpm_queue_keys_shard(&k, ioq_prefix_of(q), shard);
		for(part = 0; part < PARTS; part++) {
			rc = part_add(q, &k, (enum part)part, overdue);
			if(rc != CPM_OK) {
				return rc;
			}
		}
	}
	for(shard = 0; shard < CPM_QUEUE_SHARDS; shard++) {
		for(part = 0; part < PARTS; part++) {
			reply = NULL;
			rc = io_redis_get(q->redis, &reply);
			if(rc != CPM_OK) {
				return rc;
			}
			part_read(reply, (enum part)part, &t, &users[shard]);
			io_redis_reply_free(&reply);
		}
	}
	rc = walk(q, users);
	if(rc != CPM_OK) {
		return rc;
	}
	t.oldest_ms = q->walk.whole_ms;
	if(t.oldest_ms == 0
			|| (q->walk.oldest_ms > 0 && q->walk.oldest_ms < t.oldest_ms)) {
		t.oldest_ms = q->walk.oldest_ms;
	}
	if(t.users == 0) {
		t.oldest_ms = 0;
	}
	*totals_r = t;
	return CPM_OK;
}
