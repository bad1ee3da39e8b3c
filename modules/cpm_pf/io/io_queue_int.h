/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_queue_int.h - what the files of io_queue share.
 *
 * runs in:  io_queue*.c only
 * owns:     see io_queue.h
 */

#ifndef IO_QUEUE_INT_H
#define IO_QUEUE_INT_H

#include <hiredis/hiredis.h>

#include "../core/cpm_wr.h"
#include "io_queue.h"

/* Scripts take aor and now first (core/lua/common.lua). */
#define IOQ_ARGS_MAX (CPM_LEASE_MAX + 12)

/* How far io_queue_totals has come in looking for the oldest message. */
struct ioq_walk
{
	unsigned shard;
	char after[CPM_AOR_MAX]; /* a name in it */
	size_t after_len;		 /* 0: at its beginning */
	uint64_t oldest_ms;		 /* of this walk so far; 0: nothing yet */
	uint64_t whole_ms;		 /* of the last walk that came to its end */
};

struct io_queue
{
	struct io_redis *redis;
	struct redisReply *reply; /* what borrowed slices point into */
	char prefix[CPM_QUEUE_PREFIX_MAX];
	size_t prefix_len;
	bool cluster;
	uint64_t now_ms;
	const char *error;	/* of ours; NULL: ask io_redis */
	unsigned jobs_turn; /* io_jobs_lease: which shard comes first */
	struct ioq_walk walk;
};

/* Arguments, by value. */
struct ioq_args
{
	struct cpm_pl v[IOQ_ARGS_MAX];
	size_t n;
	char digits[IOQ_ARGS_MAX][24];
};

void ioq_args_init(
		struct ioq_args *a, const struct io_queue *q, struct cpm_pl aor);
void ioq_arg_pl(struct ioq_args *a, struct cpm_pl v);
void ioq_arg_u64(struct ioq_args *a, uint64_t v);
/* "-" stands for nothing where a script wants a word. */
void ioq_arg_word(struct ioq_args *a, struct cpm_pl v);

/* A set of kinds of jobs. */
void ioq_arg_jobs(struct ioq_args *a, unsigned kinds);

/* Replies, checked: what is not there reads as nothing. */
struct cpm_pl ioq_rep_pl(const redisReply *r);
bool ioq_rep_u64(const redisReply *r, uint64_t *v_r);
const redisReply *ioq_rep_at(const redisReply *r, size_t i);
size_t ioq_rep_count(const redisReply *r);
bool ioq_rep_is(const redisReply *r, const char *word);

struct cpm_pl ioq_prefix_of(const struct io_queue *q);

/* A new call: what the last one lent is taken back. */
void ioq_begin(struct io_queue *q);

/* An answer of an unknown shape. CPM_EPROTO. */
int ioq_bad_reply(struct io_queue *q);

/* Nothing was asked of the store. CPM_EPROTO. */
int ioq_out_of_bounds(struct io_queue *q);

/* CPM_OK; CPM_EPROTO: a bound. */
int ioq_keys_of(struct io_queue *q, struct cpm_queue_keys *k, struct cpm_pl aor,
		struct cpm_pl id);

/* One script; its reply is q->reply. */
int ioq_run(struct io_queue *q, enum cpm_script script,
		const struct cpm_queue_keys *k, const struct ioq_args *a);

/* {name, due, state, "<attempts> <token> <error>"} from element i on; blob is
 * left empty. false: it cannot be read. */
bool ioq_job_of(const redisReply *r, size_t i, struct cpm_job *job_r);

/* n empty places for answers, as one array in q->reply. CPM_OK, CPM_ENOMEM. */
int ioq_places(struct io_queue *q, size_t n);

/* n answers of a pipeline, kept together as one array in q->reply, so that
 * slices of all of them can be lent. CPM_OK, CPM_ENOMEM, or as io_redis_get. */
int ioq_gather(struct io_queue *q, size_t n);

/* What a script is asked of one shard: fills a, and returns the keys, of which
 * there are *count_r. They lie in ctx, until the next one is filled. */
typedef const struct cpm_pl *(*ioq_shard_fn)(const struct io_queue *q,
		unsigned shard, void *ctx, struct ioq_args *a, size_t *count_r);

/* One script, asked of each of some shards; q->reply is the array of their
 * answers. On one Redis all go in one round trip, and are there all or not at
 * all. On a Cluster one after the other, where a node may be down: CPM_OK if
 * at least one is there, and NULL where one is not. A server that is down costs
 * its time once: then its breaker is open. */
int ioq_ask_shards(struct io_queue *q, enum cpm_script script,
		const unsigned *shards, size_t shard_count, ioq_shard_fn fill,
		void *ctx);

#endif
