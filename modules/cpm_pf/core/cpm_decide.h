/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_decide.h - the decisions about a message, as tables over facts.
 *
 * runs in:  SIP workers
 * owns:     nothing; pure functions of facts
 *
 *   cpm_decide_sender     may this sender send this message (seed 5.2.2.1.1:
 *                         "SHALL authorize the sender")
 *   cpm_decide_recipient  reject, interwork, store, queue or deliver, and to
 *                         which clients
 *
 * First match wins, the order is the policy; each row reads as a sentence.
 */

#ifndef CPM_DECIDE_H
#define CPM_DECIDE_H

#include "cpm_base.h"
#include "cpm_caps.h"
#include "cpm_flow.h"
#include "cpm_prefs.h"

enum cpm_verdict
{
	CPM_VERDICT_NONE,
	CPM_VERDICT_DELIVER,
	CPM_VERDICT_QUEUE,
	CPM_VERDICT_STORE,
	CPM_VERDICT_INTERWORK,
	CPM_VERDICT_REJECT,
	CPM_VERDICT_DISCARD, /* a rejection that the sender does not see */
	CPM_VERDICT_UNKNOWN, /* there is no such recipient */
};

/* "deliver", "queue", ... */
const char *cpm_verdict_name(enum cpm_verdict v);

/* What is known of the message, gathered before any decision. */
struct cpm_msg_facts
{
	struct cpm_pl originator; /* canonical AoR; empty: none can be told */
	/* the user that a tel: originator is mapped to; empty: none. A rule may
	 * name either */
	struct cpm_pl originator_user;
	bool anonymous;			  /* withheld by Privacy, or From says so */
	struct cpm_pl type;		  /* Content-Type as received */
	struct cpm_pl inner_type; /* of the part inside a CPIM; empty: none */
	enum cpm_kind kind;
	uint64_t size; /* of the body */
	uint64_t now_s;
};

/* One registered client. */
struct cpm_client
{
	struct cpm_caps caps;
	bool takes_message; /* its methods allow MESSAGE, or it gave none */
	bool connected;		/* false: its connection is known to be lost */
	bool failed;		/* this very message could not reach it */
};

struct cpm_decision
{
	enum cpm_verdict verdict;
	unsigned code; /* for reject, discard and unknown: SIP */
	const char *reason;
	const char *why;  /* stable word */
	unsigned warning; /* OMA warning number (wire-facts); 0: none */
	const char *warning_text;
	int64_t rule_id; /* the rule that decided; 0: none did */
	bool record_copy;
	/* queue or store: not for the clients of now. A client that takes it in a
	 * session only is one of now: it is queued and brought at once */
	bool deferred;
	size_t deliver_count;
	uint8_t deliver_to[CPM_CONTACTS_MAX]; /* indexes of clients */
	bool wants_accept;					  /* 415: tell accept_types */
};

/* Whether a rule holds for a message; client NULL: its device condition must
 * be empty; else it must be empty or name that client. */
bool cpm_rule_holds(const struct cpm_rule *rule, const struct cpm_msg_facts *m,
		const struct cpm_client *client);

/* Whether one client is to have a message that was queued, when it is to be
 * delivered: the rules that speak of that client, its capabilities and the
 * policy; a rule of the message has had its say when the message came.
 * mode: how it would come. */
bool cpm_client_takes(const struct cpm_prefs *prefs,
		const struct cpm_policy *policy, const struct cpm_msg_facts *m,
		const struct cpm_client *client, enum cpm_mode mode);

/* The session in which a client with these capabilities takes what is queued:
 * a registered cpm.deferred or cpm.largemsg is standalone messaging, else
 * +g.oma.sip-im is chat. */
enum cpm_session cpm_client_session(const struct cpm_caps *caps);

/* reject_code: what a recipient's own rejection is answered with. */
void cpm_decide_recipient(const struct cpm_prefs *prefs,
		const struct cpm_policy *policy, const struct cpm_msg_facts *m,
		const struct cpm_client *clients, size_t client_count,
		unsigned reject_code, struct cpm_decision *d_r);

/* -------------------------------------------------------------- sender */

struct cpm_sender_facts
{
	bool identified;   /* an identity could be established */
	bool home;		   /* of a home domain */
	bool feature_tag;  /* the request names a CPM service */
	bool tag_required; /* parameter require_feature_tag */
	bool has_conversation_id;
	bool has_contribution_id;
};

/* Verdict DELIVER: authorised. REJECT: code, why, warning. */
void cpm_decide_sender(const struct cpm_sender_facts *s,
		const struct cpm_prefs *prefs, const struct cpm_policy *policy,
		const struct cpm_msg_facts *m, struct cpm_decision *d_r);

#endif
