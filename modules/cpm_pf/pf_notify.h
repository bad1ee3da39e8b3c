/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_notify.h - tells a user's registered clients what is queued (seed,
 * 5.2.2.2.1: "SHALL send a notification to the recipient's CPM Clients"), by
 * NOTIFY without a subscription, and whoever listens that a queue has changed.
 *
 * runs in:  a delivery worker, for the users that it looks after;
 *           pf_notify_body in any process
 * owns:     users to be told, until they are; and of each client that has been
 *           told, what: both bounded, in the worker's memory alone. To lose
 *           that costs one NOTIFY more
 *
 * Changes are collected: a user is told notify_delay_ms after the first change,
 * by then of all of them. A client is not told again what it has answered 2xx.
 *
 * Who is told of what:
 *
 *   queue_mode notify   of every change, and at registration if something is
 *                       queued
 *   queue_mode push     only PF_NOTIFY_ASK and PF_NOTIFY_FLUSH; and a client
 *                       that was told of messages is told of later changes too
 *
 * A queue that has become empty is told to those who were told of messages,
 * and, after PF_NOTIFY_LEFT, to clients of which nothing is remembered (of a
 * user of mode notify): the one who told them may have been another node.
 *
 * Answers: 408, 480 and 5xx are tried again at retry_intervals, a few times,
 * and at the next registration; 405, 481, 489 and 501 say that the client does
 * not want such requests, and it gets none until it registers anew (a refresh
 * is none).
 *
 * Subscription-State is "terminated;reason=timeout": nothing was subscribed,
 * the client is to keep no state, and may well subscribe (RFC 6665, 4.1.3).
 */

#ifndef PF_NOTIFY_H
#define PF_NOTIFY_H

#include "core/cpm_notify.h"

enum pf_notify_why
{
	PF_NOTIFY_LOOK = 1,		  /* nothing is known to have happened */
	PF_NOTIFY_QUEUED = 2,	  /* something was queued, held, ... */
	PF_NOTIFY_REGISTERED = 4, /* a client has registered, or refreshed */
	PF_NOTIFY_LEFT = 8,		  /* something left the queue: retrieved, expired */
	PF_NOTIFY_ASK = 16,		  /* queued, to check back with the user */
	PF_NOTIFY_FLUSH = 32,	  /* asked for: also what has been told already */
};

/* ---- in a delivery worker */

/* Something may be new for this user's clients. Cheap; sends nothing now. */
void pf_notify_changed(struct cpm_pl aor, enum pf_notify_why why);

/* It is time to look at the queue of a user to whom nothing is brought: what
 * has expired is taken out, and the next look is planned. */
void pf_notify_look(struct cpm_pl aor);

/* Whether changes are of interest whatever the user's queue_mode: a client of
 * this user may believe, by what it was told, that something is queued; or
 * somebody listens. */
bool pf_notify_is_awaited(struct cpm_pl aor);

/* Once each round of the loop: tells those whose time has come. */
void pf_notify_tick(void);

/* Whether the loop is to come round soon. */
bool pf_notify_is_pending(void);

/* fn is called, with the reasons or'ed, when a user's changes have been
 * collected, whatever the user's preference, and before the clients are told.
 * For subscriptions; at most 4 listeners. */
typedef void (*pf_notify_fn)(struct cpm_pl aor, unsigned whys);
void pf_notify_listen(pf_notify_fn fn);

/* ---- in any process */

/* The body that tells of a user's queue as it is now, at most max_bytes, with
 * the fields that the provider allows for this user. An empty queue has one
 * too. *stat_r (may be NULL): its sums.
 * CPM_OK; CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO: the store, or the user's
 * preferences, cannot be read now; CPM_ENOENT: there is no such user;
 * CPM_ENOMEM: w is too small. */
int pf_notify_body(struct cpm_pl aor, enum cpm_notify_type type,
		size_t max_bytes, struct cpm_wr *w, struct cpm_queue_stat *stat_r);

#endif
