/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_pull.h - a session that a user's client asked for: what becomes of each
 * queued message is what the user says.
 *
 * runs in:  delivery workers
 * owns:     no resource; a struct cpm_pull and what it is lent are the caller's
 * never:    waits; every answer from outside comes in by a call
 *
 * cpm_pull_start takes the user's lock: one delivery for each user at a time,
 * pushed or pulled. Nothing else happens before the session is there, that is,
 * before both the ACK came (who asks is at the address that it asked from) and
 * the connection is up (it can be told what was done). Then the actions are
 * performed in the order of the list:
 *
 *   retrieve   leased, sent, removed when the client has acknowledged it
 *   discard    removed
 *   store, interwork   a durable job takes its place, in one step
 *   keep       held: not pushed any more, until it is asked for or expires
 *
 * and then, where nothing was listed or the list's default is retrieve, all
 * others are retrieved, oldest first. When it is known what became of each, the
 * results go out as the last message of the session, if the client takes their
 * type; then the client is to hang up, and does so for itself after end_ms.
 *
 * The session may end at any time. What was acknowledged or carried out is
 * removed then, and all else is what it was before: held messages are held
 * again, dead ones dead, waiting ones wait.
 *
 * The store does not answer: nothing new is begun, and what is not known is
 * asked again until it does, or until the leases have run out.
 */

#ifndef CPM_PULL_H
#define CPM_PULL_H

#include "cpm_actions.h"
#include "cpm_flow.h"
#include "cpm_queue.h"

#define CPM_PULL_WINDOW CPM_LEASE_MAX

struct cpm_pull_conf
{
	uint64_t lease_ms;
	uint64_t dedup_ms;
	size_t window; /* messages on their way, at least 1, at most CPM_PULL_WINDOW */
	uint64_t window_bytes;
	uint64_t up_ms;	 /* a session that is not there by then ends */
	uint64_t end_ms; /* after the last message: the client's time to hang up */
};

/* What became of one item of the list. */
struct cpm_pull_result
{
	enum cpm_result_status status;
	const char *reason; /* static; "": none */
};

struct cpm_pull_ports
{
	void *ctx;
	/* As io_queue_take: CPM_OK; CPM_EAGAIN: another delivery has the lock;
	 * EDOWN, EUNSURE, EPROTO */
	int (*queue_take)(void *ctx, const struct cpm_take *ask,
			struct cpm_taken *taken_r, size_t *count_r, uint64_t *busy_ms_r);
	int (*queue_extend)(void *ctx, struct cpm_pl aor, struct cpm_pl token,
			uint64_t lease_ms, const struct cpm_pl *ids, size_t count,
			bool *lost_r);
	int (*queue_settle_many)(void *ctx, const struct cpm_settle *settles,
			size_t count, int *rcs_r);
	/* CPM_OK, CPM_ENOENT, EDOWN.. ; jobs: what takes its place */
	int (*queue_discard)(void *ctx, struct cpm_pl aor, struct cpm_pl id,
			uint64_t dedup_ms, unsigned jobs);
	/* CPM_OK, CPM_ENOENT, CPM_EEXIST: on its way elsewhere */
	int (*queue_hold)(void *ctx, struct cpm_pl aor, struct cpm_pl id);
	int (*queue_release)(void *ctx, struct cpm_pl aor, struct cpm_pl token);
	/* Whether the client takes a message like this, by its offer. */
	bool (*accepts)(void *ctx, const struct cpm_msg *msg);
	/* Into the session. CPM_OK; CPM_EAGAIN: no room now; else: it is lost */
	int (*send)(void *ctx, uint32_t handle, const struct cpm_msg *msg);
	/* The results, as a message. The same; CPM_ENOENT: the client does not
	 * take their type */
	int (*send_results)(void *ctx, uint32_t handle,
			const struct cpm_actions *actions,
			const struct cpm_pull_result *results);
	/* The end of the session: BYE, if the client has not hung up, and its
	 * connection. Nothing more is told. */
	void (*end)(void *ctx);
	/* What was done, for log, statistics and event routes. action
	 * CPM_ACT_RETRIEVE: the client has it. */
	void (*done)(void *ctx, struct cpm_pl aor, struct cpm_pl id,
			enum cpm_action_kind action);
};

enum cpm_pull_state
{
	CPM_PULL_IDLE,
	CPM_PULL_ANSWERED, /* ACK or connection is missing */
	CPM_PULL_WORKING,
	CPM_PULL_RESULTS, /* they are on their way */
	CPM_PULL_ENDING,  /* the client is to hang up */
	CPM_PULL_CLOSING, /* over, but the store does not know all yet */
	CPM_PULL_FINISHED,
};

/* A message that is leased for the session. */
struct cpm_pull_item
{
	uint32_t handle;
	enum
	{
		CPM_PULL_SENT,
		CPM_PULL_TAKEN,
		CPM_PULL_BACK
	} state;
	bool unsure;	   /* the store was told, and did not answer */
	unsigned refusals; /* what it said instead */
	size_t index;	   /* in the list; SIZE_MAX: it was not listed */
	uint64_t bytes;
	char id[CPM_MSG_ID_MAX];
	size_t id_len;
};

struct cpm_pull
{
	enum cpm_pull_state state;
	uint64_t at_ms; /* when cpm_pull_tick wants to be called; 0: not */

	/* private */
	char aor[CPM_AOR_MAX];
	size_t aor_len;
	char token[CPM_QUEUE_TOKEN_MAX];
	size_t token_len;
	const struct cpm_actions *actions;
	struct cpm_pull_result *results; /* [actions->count] */
	struct cpm_pull_item item[CPM_PULL_WINDOW];
	size_t count;
	uint64_t bytes;
	uint32_t handle;
	size_t at;		/* next item of the list */
	uint64_t after; /* of all: what came after this */
	bool acked, up, down;
	bool all_done; /* nothing more is to be begun */
	bool blocked;  /* no room in the session */
	bool unsure;   /* the item at `at` may have been done */
	bool locked;   /* the lock may be ours */
	uint32_t results_handle;
	uint64_t until_ms; /* ANSWERED, ENDING: its guard */
	uint64_t extend_at_ms;
	uint64_t lost_at_ms;
	uint64_t store_at_ms; /* the store did not answer: again then */
	unsigned retrieved;
};

/* Zeroes p. aor and token are copied; actions and results (as many as it has
 * items) are lent until the end. CPM_OK: to be answered with 200, then events;
 * CPM_EAGAIN: another delivery to this user is under way; EDOWN, EUNSURE,
 * EPROTO: the store does not answer: p is finished, the lock will run out. */
int cpm_pull_start(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf, struct cpm_pl aor,
		struct cpm_pl token, const struct cpm_actions *actions,
		struct cpm_pull_result *results, uint64_t now_ms);

void cpm_pull_acked(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf, uint64_t now_ms);
void cpm_pull_up(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf, uint64_t now_ms);

/* What happened in the session, in order. */
void cpm_pull_events(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf,
		const struct cpm_session_event *events, size_t count, uint64_t now_ms);

/* at_ms has come. */
void cpm_pull_tick(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf, uint64_t now_ms);

/* It cannot go on, before an event: gives all back. */
void cpm_pull_abandon(struct cpm_pull *p, const struct cpm_pull_ports *ports,
		const struct cpm_pull_conf *conf, uint64_t now_ms);

#endif
