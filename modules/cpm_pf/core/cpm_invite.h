/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_invite.h - the header fields of the INVITE that brings queued messages.
 *
 * runs in:  anything; pure function
 * owns:     nothing
 *
 * Two kinds of clients are in the field, and what they look at differs:
 *
 *   standalone  From and P-Asserted-Identity are the original sender's;
 *               P-Asserted-Service and Accept-Contact are cpm.deferred (or
 *               cpm.largemsg, where the client registered only that)
 *   chat        From and P-Asserted-Identity are the network's own
 *               rcse-standfw@<home domain>; Referred-By is the original
 *               sender; Accept-Contact is +g.oma.sip-im
 *
 * Conversation-ID and Contribution-ID are the message's, or made from its
 * Call-ID: some clients answer 400 without them. Who withheld the identity is
 * not named (RFC 3325, 7): From is as the sender made it.
 */

#ifndef CPM_INVITE_H
#define CPM_INVITE_H

#include "cpm_flow.h"
#include "cpm_msg.h"

#define CPM_INVITE_FROM_MAX (CPM_AOR_MAX + 64)

struct cpm_invite
{
	const struct cpm_msg *msg; /* the first message: its sender is named */
	enum cpm_session profile;
	unsigned caps;		   /* CPM_CAP_* of the client */
	struct cpm_pl contact; /* ours: where its requests in the dialog go */
	struct cpm_pl home;	   /* home domain */
	bool trusted;		   /* the client is inside the trust domain */
	bool called_party;	   /* insert P-Called-Party-ID */
};

/* The value of From, without tag. buf: CPM_INVITE_FROM_MAX bytes. */
struct cpm_pl cpm_invite_from(const struct cpm_invite *inv, char *buf);

/* All lines but those that belong to the transaction and to the body. CPM_OK;
 * CPM_ENOMEM. */
int cpm_invite_headers(const struct cpm_invite *inv, struct cpm_wr *w);

#endif
