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

/* Calls between the two leave alone what was borrowed before, which is then
 * borrowed until the next call again. */
void *io_queue_lend(struct io_queue *q);
void io_queue_back(struct io_queue *q, void *lent);

int io_queue_ping(struct io_queue *q);

/* As io_redis_survey. */
int io_queue_survey(struct io_queue *q, struct io_redis_server *servers,
		size_t cap, size_t *n_r);

int io_queue_put(struct io_queue *q, const struct cpm_put *put,
		struct cpm_put_result *r_r);

/* age_ms: how long ago what forces it happened. A deferred message that came
 * after that is not forced. */
int io_queue_lease(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, enum cpm_lease_force force, uint64_t age_ms,
		struct cpm_lease *lease_r);

/* Several at once, in order, for a delivery that has many on their way.
 * leases_r: array of max_messages. With *count_r 0, leases_r[0].status tells
 * why. */
int io_queue_lease_many(struct io_queue *q, const struct cpm_lease_ask *ask,
		struct cpm_lease *leases_r, size_t *count_r);

/* A user's own retrieval: takes the delivery lock and, under it, messages
 * whatever their state. taken_r: with ids, taken_r[i] is of ids[i], and
 * *count_r = ask->count; with all, array of max_messages, in order; those that
 * are on their way elsewhere are left out then. *count_r 0 with all: there is
 * no more. The lock is taken even where nothing is found (io_queue_release
 * gives it back). The same token again gets the same again.
 * What is released, settled (but DELIVERED or DEAD), or whose lease ends is
 * again what it was, in its attempts as well: held, dead, or waiting for the
 * time and with the error that it had; who releases then says when to look
 * again (wake_in_ms), for nobody else knows of that time. CPM_EAGAIN: another delivery has the
 * lock, for *busy_ms_r more. */
int io_queue_take(struct io_queue *q, const struct cpm_take *ask,
		struct cpm_taken *taken_r, size_t *count_r, uint64_t *busy_ms_r);

/* Holds up to CPM_LEASE_MAX leases, and the lock, for longer, without reading
 * anything. lost_r[i]: the i-th is not ours any more. */
int io_queue_extend(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, const struct cpm_pl *ids, size_t count,
		bool *lost_r);

/* Holds the lease for longer, and reads its message again (status is
 * CPM_LEASE_OK). CPM_ENOENT: the lease is lost. */
int io_queue_renew(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl id, uint64_t lease_ms, struct cpm_lease *lease_r);

/* CPM_ENOENT: the lease is lost, nothing changed. */
int io_queue_settle(struct io_queue *q, const struct cpm_settle *settle);

/* Several in one round trip. CPM_OK: rcs_r[i] is what io_queue_settle would
 * have said of the i-th; else as it, of all of them. */
int io_queue_settle_many(struct io_queue *q, const struct cpm_settle *settles,
		size_t count, int *rcs_r);

/* Gives the lock back (if it is ours), returns a message that was leased and
 * not sent (id may be empty), takes out what has expired, and plans the next
 * look. With an empty token: only the latter two. */
int io_queue_release(struct io_queue *q, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl unsent_id, uint64_t wake_in_ms);

/* The user's or operator's word about a message that is not on its way: to is
 * CPM_STATE_HELD, or CPM_STATE_QUEUED (from held, dead, or waiting: as new and
 * at once). token: of the lease that the caller has on it; may be empty.
 * CPM_ENOENT: there is no such message; CPM_EEXIST: it is on its way. */
int io_queue_turn(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id,
		enum cpm_state to, struct cpm_pl token);

/* Takes one message out, whatever its state, and leaves this set of jobs (OR
 * of enum cpm_job_kind) in its place, in one step. CPM_ENOENT. */
int io_queue_discard(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id,
		uint64_t dedup_ms, unsigned jobs);

/* Takes out a batch of at most limit messages, oldest first. *upto: 0 at the
 * first call, then as it was left, until it is 0 again: what came after the
 * first call stays. A late retransmission of what was purged is queued. */
int io_queue_purge(struct io_queue *q, struct cpm_pl aor, size_t limit,
		uint64_t *upto, uint64_t *removed_r);

/* A user whose time to look has come. */
struct cpm_claimed
{
	struct cpm_pl aor;
	enum cpm_flush flush; /* somebody asked for it; all is due then */
};

/* Users whose time to look has come, of several shards in one round trip; each
 * is nobody else's for claim_ms, but for those that are to be flushed, which
 * every node gets once. node: 1 to 32 letters and digits. At most limit (<=
 * IO_QUEUE_PAGE_MAX) of each shard: users_r has shard_count * limit elements.
 * left_r[i]: how many messages of the i-th shard wait to be reported
 * (io_queue_left). */
int io_queue_claim(struct io_queue *q, struct cpm_pl node,
		const unsigned *shards, size_t shard_count, uint64_t claim_ms,
		size_t limit, struct cpm_claimed *users_r, size_t *count_r,
		uint64_t *left_r);

/* What waits of this user is due now, and each node is given the user by its
 * next claim; but for the one named (may be empty), which looks without. Held
 * and dead messages stay what they are. CPM_ENOENT: nothing queued;
 * CPM_ELIMIT: too many flushes at a time, nothing was done. */
int io_queue_flush(struct io_queue *q, struct cpm_pl aor, enum cpm_flush mode,
		struct cpm_pl node);

/* A message that left its queue without being delivered. */
struct cpm_left
{
	struct cpm_pl aor;
	struct cpm_pl id;
	enum cpm_left_why why;
	bool readable; /* msg is filled */
	struct cpm_msg msg;
};

/* The oldest of a shard that wait to be reported, for hold_ms nobody else's
 * than this token's. They stay until io_queue_left_done. */
int io_queue_left(struct io_queue *q, unsigned shard, struct cpm_pl token,
		size_t limit, uint64_t hold_ms, struct cpm_left *left_r,
		size_t *count_r);

/* The oldest of its shard is reported; jobs: set of what is to become of it.
 * CPM_ENOENT: it was done already, or another process has them now. */
int io_queue_left_done(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id,
		struct cpm_pl token, unsigned jobs);

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

/* The newest first, at most limit, without bodies, and the sums of the whole
 * queue, in one round trip. CPM_ENOENT: nothing queued. */
int io_queue_recent(struct io_queue *q, struct cpm_pl aor, size_t limit,
		struct cpm_queue_item *items_r, size_t *count_r,
		struct cpm_queue_stat *stat_r);

/* One message, with or without its body. CPM_ENOENT. */
int io_queue_get(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id,
		bool body, struct cpm_queue_item *item_r);

/* Dead letters of all users, as names "<aor> <id>"; the cursor is as that of
 * io_queue_users, with a name. */
int io_queue_dead(struct io_queue *q, unsigned *shard, struct cpm_pl after,
		size_t limit, struct cpm_pl *names_r, size_t *count_r);

/* The messages of such names, without bodies, in one round trip. found_r[i]:
 * the i-th is still there. */
int io_queue_items(struct io_queue *q, const struct cpm_pl *names, size_t count,
		struct cpm_queue_item *items_r, bool *found_r);

/* Jobs of all users, by shard and due time. Cursor: *shard, and of the last
 * one due_ms and "<kind> <name>" (0 and empty to start). */
int io_queue_jobs(struct io_queue *q, unsigned *shard, uint64_t after_ms,
		struct cpm_pl after_name, size_t limit, struct cpm_job *jobs_r,
		size_t *count_r);

/* Of all users. jobs_of_kind[i]: of the kind 1 << i; with the dead ones, as
 * jobs. overdue: users at whose queue nobody looked for a minute after it was
 * due: no delivery worker runs.
 * oldest_ms: arrival of the oldest queued message (held and dead ones are), 0:
 * none. With more than some hundred queues it is found by and by: as of the
 * last walk through all queues, or older if the present one has found that. */
struct io_queue_totals
{
	uint64_t users, messages, bytes, dead, jobs;
	uint64_t jobs_of_kind[CPM_JOB_KINDS];
	uint64_t jobs_dead, overdue, oldest_ms;
};
int io_queue_totals(struct io_queue *q, struct io_queue_totals *totals_r);

#endif
