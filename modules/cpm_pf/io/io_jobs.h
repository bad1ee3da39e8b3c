/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_jobs.h - jobs for other servers: who does them, and what became of them.
 *
 * runs in:  as io_queue.h, and on the same struct io_queue; one call is one or
 *           two Redis round trips
 * owns:     nothing; slices of results are borrowed until the next call
 * never:    does a job
 *
 * A job is there once by its name: kind, aor and id. Jobs of messages are also
 * left by io_queue_put, _settle, _discard and _left_done, in one step with
 * what they say of the message.
 *
 * Every call: CPM_OK; CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO as of io_queue, the
 * latter also for arguments out of bounds. kind is one bit, kinds an OR.
 */

#ifndef IO_JOBS_H
#define IO_JOBS_H

#include "io_queue.h"

#define IO_JOBS_LEASE_MAX 64
#define IO_JOBS_LEASE_BYTES (4 * 1024 * 1024)

/* Leases jobs of these kinds that are due, over all these shards at most limit
 * (1..IO_JOBS_LEASE_MAX: jobs_r has so many elements) and about
 * IO_JOBS_LEASE_BYTES (one of each shard whatever its size). Which shard comes
 * first changes from call to call. One round trip where nothing is due, else
 * two. blob is the message as stored (cpm_msg_decode), or what io_jobs_put was
 * given.
 * token: begins with a letter or digit, visible ASCII, at most
 * CPM_QUEUE_TOKEN_MAX; of one process, for any number of leases. A job that is
 * leased is given to nobody, its own token included, before its lease ends:
 * so long waits what was leased and whose answer was lost. What another boot
 * of the same node holds ("<node>.<boot>.<rest>") is free at once. */
int io_jobs_lease(struct io_queue *q, const unsigned *shards,
		size_t shard_count, unsigned kinds, struct cpm_pl token,
		uint64_t lease_ms, size_t limit, struct cpm_job *jobs_r,
		size_t *count_r);

/* Holds it for longer, from now. CPM_ENOENT: the lease is lost. */
int io_jobs_renew(struct io_queue *q, enum cpm_job_kind kind, struct cpm_pl aor,
		struct cpm_pl id, struct cpm_pl token, uint64_t lease_ms);

/* The token alone decides: a lease that ran out and that nobody took since is
 * still good. A job that was given another blob meanwhile is due again at once
 * and as new, instead of DONE or GIVE_UP. error: cut at CPM_QUEUE_ERROR_MAX.
 * CPM_ENOENT: the lease is lost, nothing changed. */
int io_jobs_settle(struct io_queue *q, enum cpm_job_kind kind,
		struct cpm_pl aor, struct cpm_pl id, struct cpm_pl token,
		enum cpm_job_how how, uint64_t retry_in_ms, struct cpm_pl error);

/* Jobs without a queued message, due in delay_ms. CPM_EEXIST: all of them are
 * there; or, with dedup_ms > 0, blob is a message that is there, as one of
 * these jobs or in the queue, or was done with lately (its tombstone); with
 * dedup_ms it leaves that tombstone itself. CPM_ELIMIT: with dedup_ms, another
 * message has this id: choose another. Nothing was written then.
 * It waits for replicas as io_queue_put does. */
int io_jobs_put(struct io_queue *q, unsigned kinds, struct cpm_pl aor,
		struct cpm_pl id, struct cpm_pl blob, uint64_t dedup_ms,
		uint64_t delay_ms);

/* As io_jobs_put of one kind, but a job that is there gets the new blob, and
 * keeps its attempts and its due time; a dead one lives again, as new. */
int io_jobs_replace(struct io_queue *q, enum cpm_job_kind kind,
		struct cpm_pl aor, struct cpm_pl id, struct cpm_pl blob,
		uint64_t delay_ms);

/* It goes, whatever its state: who does it finds its lease lost. CPM_ENOENT. */
int io_jobs_drop(struct io_queue *q, enum cpm_job_kind kind, struct cpm_pl aor,
		struct cpm_pl id);

/* A dead or waiting one is due now, with no attempts. CPM_ENOENT; CPM_EEXIST:
 * somebody does it just now. */
int io_jobs_requeue(struct io_queue *q, enum cpm_job_kind kind,
		struct cpm_pl aor, struct cpm_pl id);

#endif
