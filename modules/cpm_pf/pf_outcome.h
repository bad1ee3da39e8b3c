/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_outcome.h - what the last script function found, for the request at
 * hand: $cpm(...), cpm_reply(), and what later functions must know.
 *
 * runs in:  SIP workers
 * owns:     one outcome per process; notes in AVPs, which follow the
 *           transaction into its failure route, in whatever process that is
 */

#ifndef PF_OUTCOME_H
#define PF_OUTCOME_H

#include "core/cpm_decide.h"
#include "core/cpm_flow.h"

#include "../../core/pvar.h"

struct sip_msg;

struct pf_outcome
{
	struct cpm_outcome o;
	enum cpm_verdict verdict;
	unsigned warning; /* 0: none */
	const char *warning_text;
	char accept[CPM_TYPES_MAX]; /* value for Accept; "": none */
	bool event;					/* of an event route: no request of anybody */
};

/* What a process holds, put aside while an event route runs. */
struct pf_outcome_kept
{
	struct pf_outcome last;
	unsigned int id;
	int pid;
};
void pf_outcome_keep(struct pf_outcome_kept *kept_r);
void pf_outcome_back(const struct pf_outcome_kept *kept);

int pf_outcome_init(void); /* binds sl; 0, or -1 logged */

/* Starts a new outcome for this request and returns it, to be filled. The
 * verdict of an earlier function stays. */
struct pf_outcome *pf_outcome_new(struct sip_msg *msg);

/* The outcome of this request, or NULL. */
struct pf_outcome *pf_outcome_get(struct sip_msg *msg);

/* Fills in code, reason and why, and Retry-After for a 503. Returns rc. */
int pf_outcome_set(struct pf_outcome *out, int rc, unsigned code,
		const char *reason, const char *why);

/* Sends the reply that fits. 1, or -1 logged. */
int pf_outcome_reply(struct sip_msg *msg);

/* Notes that live as long as the transaction. */
enum pf_note
{
	PF_NOTE_SENDER,	 /* canonical AoR of the authorised sender */
	PF_NOTE_SERVICE, /* URN that was asserted for it */
	PF_NOTE_ROUTE_,	 /* by the functions below */
	PF_NOTE_COUNT_
};

/* An empty value takes the note away. 0, or -1: no memory (logged). */
int pf_note_set(enum pf_note note, struct cpm_pl value);
/* Empty: none. Borrowed from the AVP. */
struct cpm_pl pf_note_get(enum pf_note note);

/* What was last decided for the recipient. One note, since each costs a piece
 * of shared memory. */
struct pf_note_route
{
	struct cpm_pl aor; /* canonical AoR that the message is for */
	bool deferred;	   /* its recipient wants it later, or to be asked */
	bool ask;		   /* the latter */
	bool record;	   /* a copy for the Message Storage Server */
	bool recorded;	   /* its job exists */
};

/* 0, or -1: no memory (logged). aor may be what pf_note_route_get gave. */
int pf_note_route_set(struct pf_note_route route);
/* An empty aor: nothing was decided. Borrowed from the AVP. */
struct pf_note_route pf_note_route_get(void);

/* The recipient: whom cpm_route_recipient() found, else pf_facts_target. */
struct cpm_pl pf_note_recipient(struct sip_msg *msg);

int pf_outcome_pv_parse_name(pv_spec_p sp, str *in);
int pf_outcome_pv_get(struct sip_msg *msg, pv_param_t *param, pv_value_t *res);

#endif
