/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_subs.h - subscriptions in Redis (core/cpm_subs.h) as calls.
 *
 * runs in:  any process, on its io_queue; blocks for one round trip a call
 * owns:     nothing; slices in results are borrowed until the next call on the
 *           same io_queue
 * never:    includes Kamailio; logs
 *
 * Each call also gives CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO as those of
 * io_queue.h do. All may be given again when it is not sure that they were
 * executed.
 *
 * What a subscriber is owed is written with its SUBSCRIBE and stays until a
 * NOTIFY has its final answer: whoever dies in between is followed by whoever
 * finds it in the index.
 */

#ifndef IO_SUBS_H
#define IO_SUBS_H

#include "../core/cpm_subs.h"
#include "io_queue.h"

#define IO_SUBS_DUE_MAX 64 /* users of one shard in one io_subs_due */

struct io_subs_put
{
	struct cpm_pl aor;
	struct cpm_pl tag;
	bool initial;
	uint32_t cseq;		  /* of the SUBSCRIBE */
	uint64_t expires_ms;  /* 0: it ends */
	struct cpm_pl dialog; /* cpm_subs_fields_put, as the next */
	struct cpm_pl way;
	struct cpm_pl record; /* initial only */
};

/* A SUBSCRIBE is taken: its dialog is owed the full state. The same again
 * changes nothing. *expires_ms_r: what is left of it.
 * CPM_OK; CPM_ENOENT: there is no such dialog, or its subscription is over;
 * CPM_EEXIST: an older request than the last in this dialog. */
int io_subs_put(struct io_queue *q, const struct io_subs_put *put,
		uint64_t *expires_ms_r);

/* Who is to be told now, of a user whose state has this hash: dialogs that are
 * owed something, that have expired, and that know another state. For claim_ms,
 * or until io_subs_settle, nobody else is told of them. by: "<node>.<boot>", in
 * hexadecimal: another boot of the same node need not wait. due_r:
 * CPM_SUBS_TAKE_MAX. */
int io_subs_take(struct io_queue *q, struct cpm_pl aor, uint64_t hash,
		uint64_t claim_ms, struct cpm_pl by, struct cpm_subs_due *due_r,
		size_t *count_r);

/* A NOTIFY has its final answer. CPM_OK; CPM_EAGAIN: the state has changed
 * meanwhile, take again; CPM_ENOENT: a later NOTIFY has been sent, or it is
 * gone. */
int io_subs_settle(struct io_queue *q, struct cpm_pl aor, struct cpm_pl tag,
		uint32_t cseq, enum cpm_subs_answer answer);

/* Where subscribers of a user are: remote targets, to targets_r[0 .. *count_r -
 * 1], at most CPM_SUBS_TAKE_MAX. */
int io_subs_targets(struct io_queue *q, struct cpm_pl aor,
		struct cpm_pl *targets_r, size_t *count_r);

/* Which of these users have subscriptions, in one round trip. */
int io_subs_exist(struct io_queue *q, const struct cpm_pl *aors, size_t count,
		bool *there_r);

/* Users of several shards whose time to look has come, in one round trip; each
 * is nobody else's for claim_ms. At most limit (<= IO_SUBS_DUE_MAX) of each
 * shard: users_r has shard_count * limit. *next_ms_r: when the next is due,
 * UINT64_MAX: none. On a Cluster what is on a node that is down is left out. */
int io_subs_due(struct io_queue *q, const unsigned *shards, size_t shard_count,
		uint64_t claim_ms, size_t limit, struct cpm_pl *users_r,
		size_t *count_r, uint64_t *next_ms_r);

#endif
