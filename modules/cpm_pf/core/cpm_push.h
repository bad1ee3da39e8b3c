/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_push.h - a session in which one client gets its queued messages.
 *
 * runs in:  delivery workers, as a part of a delivery (cpm_flow.h)
 * owns:     no resource; a struct cpm_push is lent by the port session_new
 * never:    waits
 *
 * One client is invited for the oldest message. Once the session is there,
 * that message and those behind it go into it, several on their way at once,
 * in order. Each is removed from the queue when the client has acknowledged
 * it; what was not acknowledged when the session ends is still queued.
 *
 *   all are gone, or wait     BYE, and a look at the whole queue
 *   another sender, where the session names its sender: BYE, and a session
 *                             for that one
 *   the client refuses one    415, 413: that message waits; else, if it takes
 *                             others: one message in each session from now on
 *                             (some clients take no more), once it is known
 *                             what becomes of those on their way; else this
 *                             client has failed, and the next one is tried
 *   the client hangs up       the message that was next waits for its retry,
 *                             and all behind it
 *   the connection is lost    as if nobody were there
 *   the store does not answer nothing new goes into the session; what became of
 *                             its messages is told again until it does, also
 *                             when the session is lost, and the leases are
 */

#ifndef CPM_PUSH_H
#define CPM_PUSH_H

#include "cpm_flow.h"

#define CPM_PUSH_WINDOW CPM_LEASE_MAX

enum cpm_push_state
{
	CPM_PUSH_SENT, /* in the session */
	/* what is to become of it; the store has not answered to that yet */
	CPM_PUSH_TAKEN,		/* acknowledged */
	CPM_PUSH_NOT_TAKEN, /* fail_class, code: it waits for its retry */
	CPM_PUSH_BACK,		/* as if it had not been leased */
};

/* A message that is leased for the session. */
struct cpm_push_item
{
	enum cpm_push_state state;
	uint32_t handle;
	uint64_t seq;
	unsigned attempt;
	uint64_t received_ms;
	uint64_t bytes;
	enum cpm_fail_class fail_class;
	unsigned code;
	bool unsure; /* the store was told, and did not answer */
	char id[CPM_MSG_ID_MAX];
	size_t id_len;
};

/* private to cpm_push.c; zero it */
struct cpm_push
{
	struct cpm_push_item item[CPM_PUSH_WINDOW]; /* in order, from the front */
	size_t count;
	uint64_t bytes; /* of them */
	uint32_t handle;
	uint64_t last_seq; /* of the last one that was given or passed over */
	unsigned given, taken;
	enum cpm_session profile;
	char originator[CPM_AOR_MAX];
	size_t originator_len;
	bool is_cpim;	 /* the first one names its sender itself */
	bool draining;	 /* no more into this session for now */
	bool closed;	 /* nor later */
	bool blocked;	 /* no room in the session for now */
	bool over;		 /* it ends as soon as the store knows what it is to know */
	bool over_again; /* then: a look at once, else ... */
	uint64_t wake_in_ms; /* ... a look in this time */
	uint64_t extend_at_ms;
	uint64_t lost_at_ms;  /* leases run out then, if not extended before */
	uint64_t store_at_ms; /* the store did not answer: again then */
	uint64_t until_ms;	  /* INVITING: the guard */
};

#endif
