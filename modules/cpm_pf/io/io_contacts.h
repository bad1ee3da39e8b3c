/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_contacts.h - who is registered elsewhere, and our subscriptions to that,
 * in Redis (core/cpm_reginfo.h), as calls.
 *
 * runs in:  any process, on its io_queue; blocks for one round trip a call
 * owns:     nothing; slices in results are borrowed until the next call on the
 *           same io_queue
 * never:    includes Kamailio; logs
 *
 * Each call also gives CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO as those of
 * io_queue.h do; CPM_ENOMEM. All may be given again when it is not sure that
 * they were executed.
 *
 * A subscription is what Redis says of it: whoever sends a SUBSCRIBE has taken
 * the order to do so, with a time after which somebody else may; a NOTIFY is
 * taken by whichever node it reaches.
 */

#ifndef IO_CONTACTS_H
#define IO_CONTACTS_H

#include "../core/cpm_reginfo.h"
#include "io_queue.h"

#define IO_CONTACTS_DUE_MAX 32 /* users of one shard in one io_contacts_due */

struct io_contact
{
	struct cpm_reg_contact c;
	uint64_t left_ms;
};

/* Of a user: those whose time is not over. contacts_r:
 * CPM_REG_USER_CONTACTS. */
int io_contacts_get(struct io_queue *q, struct cpm_pl aor,
		struct io_contact *contacts_r, size_t *count_r);

enum io_contacts_sub
{
	IO_CONTACTS_NONE,	/* no subscription, and none is wanted */
	IO_CONTACTS_THERE,	/* there is one, or it is known why not */
	IO_CONTACTS_NEW,	/* one is to be made now: io_contacts_take */
	IO_CONTACTS_NO_MORE /* there may be no more than there are */
};

struct io_contacts_wanted
{
	enum io_contacts_sub sub;
	bool queued; /* something is, for the user */
	size_t contacts;
};

/* Somebody is to know of this user's clients: while something is queued, and
 * for keep_ms whatever is. may: one more subscription may be. */
int io_contacts_want(struct io_queue *q, struct cpm_pl aor, uint64_t keep_ms,
		bool may, struct io_contacts_wanted *w_r);

enum io_contacts_op
{
	IO_CONTACTS_SUBSCRIBE = 'S',
	IO_CONTACTS_REFRESH = 'R',
	IO_CONTACTS_UNSUBSCRIBE = 'U',
};

struct io_contacts_take
{
	struct cpm_pl aor;
	uint64_t wait_ms;			/* for the answer and its NOTIFY */
	uint64_t linger_ms;			/* with nothing queued */
	uint64_t first_ms;			/* before the first try again */
	struct cpm_pl call_id, tag; /* of a new dialog, if it comes to that */
};

/* A SUBSCRIBE that is to be sent now. */
struct io_contacts_order
{
	enum io_contacts_op op;
	struct cpm_pl call_id, local_tag;
	struct cpm_pl remote_tag; /* empty: there is no dialog yet, as the next */
	struct cpm_pl target, routes;
	uint32_t cseq;
};

/* CPM_ENOENT: nothing is to be sent now. */
int io_contacts_take(struct io_queue *q, const struct io_contacts_take *t,
		struct io_contacts_order *o_r);

/* A SUBSCRIBE has its final answer. CPM_ENOENT: that was not the last one. */
int io_contacts_answer(struct io_queue *q, struct cpm_pl aor,
		struct cpm_pl call_id, uint32_t cseq, struct cpm_reg_plan plan,
		uint64_t first_ms);

/* What a document says of one user. */
struct io_contacts_doc
{
	uint32_t version;
	bool full;
	const struct cpm_reg_contact *const *contacts;
	size_t count;		 /* those over CPM_REG_USER_CONTACTS are left out */
	uint64_t default_ms; /* for one that does not tell its time */
};

struct io_contacts_notify
{
	struct cpm_pl aor;
	struct cpm_pl call_id, local_tag, remote_tag;
	uint32_t cseq;
	struct cpm_pl target, routes; /* of the dialog, as the NOTIFY tells them */
	struct cpm_reg_substate state;
	const struct io_contacts_doc *doc; /* NULL: there is no body */
	uint64_t linger_ms, first_ms;
};

struct io_contacts_change
{
	bool queued; /* something is, for the user */
	bool stale;	 /* an older document than the last: nothing was changed */
	size_t created, refreshed, removed;
};

/* A NOTIFY of a dialog of ours. CPM_OK; CPM_ENOENT: there is no such dialog;
 * CPM_EEXIST: it is older than the last one. */
int io_contacts_notify(struct io_queue *q, const struct io_contacts_notify *n,
		struct io_contacts_change *c_r);

/* A document of somebody else's subscription: of which one, and the CSeq of its
 * NOTIFY, so that its order is kept. NULL: whose order has been looked at. */
struct io_contacts_source
{
	uint64_t hash;
	uint32_t cseq;
};
int io_contacts_apply(struct io_queue *q, struct cpm_pl aor,
		const struct io_contacts_source *source,
		const struct io_contacts_doc *doc, struct io_contacts_change *c_r);

/* The user has deregistered: nothing is known any more. */
int io_contacts_forget(
		struct io_queue *q, struct cpm_pl aor, struct io_contacts_change *c_r);

/* Which of these users have something queued, in one round trip. */
int io_contacts_queued(struct io_queue *q, const struct cpm_pl *aors,
		size_t count, bool *queued_r);

/* As io_subs_due, of users whose subscription is to be seen to.
 * *subscriptions_r: how many these shards have. */
int io_contacts_due(struct io_queue *q, const unsigned *shards,
		size_t shard_count, uint64_t claim_ms, size_t limit,
		struct cpm_pl *users_r, size_t *count_r, uint64_t *next_ms_r,
		uint64_t *subscriptions_r);

#endif
