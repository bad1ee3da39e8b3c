/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_queue.h - the queue as calls: runs the scripts, reads their answers.
 *
 * runs in:  any process, one each; blocks for one Redis round trip a call
 * owns:     an io_redis, and the reply that the last call's slices point into
 * never:    includes Kamailio; logs
 *
 * Every call: CPM_OK; CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO (see io_redis.h; an
 * answer of a shape that the scripts do not give is CPM_EPROTO as well).
 * Slices in results are borrowed until the next call on the same io_queue.
 */

#ifndef IO_QUEUE_H
#define IO_QUEUE_H

#include "../core/cpm_queue.h"
#include "io_redis.h"

#define IO_QUEUE_PAGE_MAX 500

struct io_queue;

/* now_ms of every script: 0 = Redis' clock, as it must be but in tests. */
struct io_queue *io_queue_new(
		const struct io_redis_conf *conf, struct cpm_pl prefix);
void io_queue_free(struct io_queue **q);
void io_queue_set_now(struct io_queue *q, uint64_t now_ms);
const char *io_queue_error(const struct io_queue *q);

int io_queue_ping(struct io_queue *q);

int io_queue_put(struct io_queue *q, const struct cpm_put *put,
		struct cpm_put_result *r_r);

/* age_ms: how long ago what forces it happened. A deferred message that came
 * after that is not forced. */
int io_queue_lease(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, enum cpm_lease_force force, uint64_t age_ms,
		struct cpm_lease *lease_r);

/* Holds the lease for longer, and reads its message again (status is
 * CPM_LEASE_OK). CPM_ENOENT: the lease is lost. */
int io_queue_renew(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl id, uint64_t lease_ms, struct cpm_lease *lease_r);

/* CPM_ENOENT: the lease is lost, nothing changed. */
int io_queue_settle(struct io_queue *q, const struct cpm_settle *settle);

/* Gives the lock back (if it is ours), returns a message that was leased and
 * not sent (id may be empty), takes out what has expired, and plans the next
 * look. With an empty token: only the latter two. */
int io_queue_release(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl unsent_id, uint64_t wake_in_ms);

/* Users of a shard whose time to look has come; each is nobody else's for
 * claim_ms. At most limit (<= IO_QUEUE_PAGE_MAX). users_r: array of limit. */
int io_queue_claim(struct io_queue *q, unsigned shard, uint64_t claim_ms,
		size_t limit, struct cpm_pl *users_r, size_t *count_r);

/* Next message that expired in a shard, for reporting; removes it from the
 * list. CPM_ENOENT: none. msg_r is borrowed. */
int io_queue_expired(struct io_queue *q, unsigned shard, struct cpm_msg *msg_r);

/* CPM_ENOENT: nothing queued for this user. */
int io_queue_stat(
		struct io_queue *q, struct cpm_pl aor, struct cpm_queue_stat *stat_r);

/* Users with a queue, by shard and name. *shard and after (a name, or empty)
 * are the cursor: start with 0 and empty. Walks on through the shards until
 * limit are found or all shards are done (then *shard is CPM_QUEUE_SHARDS).
 * prefix: names that start so; may be empty. */
int io_queue_users(struct io_queue *q, unsigned *shard, struct cpm_pl after,
		struct cpm_pl prefix, size_t limit, struct cpm_pl *users_r,
		size_t *count_r);

/* stat of several users in one round trip; messages 0 for an empty one. */
int io_queue_stats(struct io_queue *q, const struct cpm_pl *users, size_t count,
		struct cpm_queue_stat *stats_r);

/* Messages with seq > after, oldest first; state 0: any. *next_r: the cursor
 * to go on with, 0: that was all. A page may be empty and yet have a next
 * (the scan per call is bounded). CPM_ENOENT: nothing queued. Bodies are
 * left out. */
int io_queue_list(struct io_queue *q, struct cpm_pl aor, uint64_t after,
		size_t limit, char state, struct cpm_queue_item *items_r,
		size_t *count_r, uint64_t *next_r);

/* One message, with or without its body. CPM_ENOENT. */
int io_queue_get(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id,
		bool body, struct cpm_queue_item *item_r);

/* Of all users: queues, messages, bytes, dead. */
struct io_queue_totals
{
	uint64_t users, messages, bytes, dead;
};
int io_queue_totals(struct io_queue *q, struct io_queue_totals *totals_r);

#endif
