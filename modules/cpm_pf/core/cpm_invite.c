/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_invite.h"

#include "cpm_caps.h"

#define STANDFW "sip:rcse-standfw@"

struct cpm_pl cpm_invite_from(const struct cpm_invite *inv, char *buf)
{
	struct cpm_wr w;

	if(inv->profile != CPM_SESSION_CHAT) {
		return inv->msg->from;
	}
	cpm_wr_init(&w, buf, CPM_INVITE_FROM_MAX);
	cpm_wr_str(&w, "<" STANDFW);
	cpm_wr_pl_put(&w, inv->home);
	cpm_wr_chr(&w, '>');
	return cpm_wr_pl(&w);
}

static void line(struct cpm_wr *w, const char *name, struct cpm_pl value)
{
	cpm_wr_str(w, name);
	cpm_wr_str(w, ": ");
	cpm_wr_pl_put(w, value);
	cpm_wr_str(w, "\r\n");
}

static void address_line(struct cpm_wr *w, const char *name, struct cpm_pl uri)
{
	cpm_wr_str(w, name);
	cpm_wr_str(w, ": <");
	cpm_wr_pl_put(w, uri);
	cpm_wr_str(w, ">\r\n");
}

static bool is_withheld(const struct cpm_invite *inv)
{
	return !inv->trusted
		   && (inv->msg->flags & (CPM_MSG_F_WITHHELD | CPM_MSG_F_ANONYMOUS))
					  != 0;
}

/* The URN in the form of a quoted feature parameter: ":" is "%3A". */
static void icsi_line(struct cpm_wr *w, const char *urn)
{
	size_t i;

	cpm_wr_str(w, "Accept-Contact: *;+g.3gpp.icsi-ref=\"");
	for(i = 0; urn[i] != '\0'; i++) {
		if(urn[i] == ':') {
			cpm_wr_str(w, "%3A");
		} else {
			cpm_wr_chr(w, urn[i]);
		}
	}
	cpm_wr_str(w, "\"\r\n");
}

/* Of what was kept, that which speaks of the message and not of its body. */
static void kept_lines(const struct cpm_invite *inv, struct cpm_wr *w)
{
	static const char *const names[] = {"Subject", "s",
			"InReplyTo-Contribution-ID", "Privacy", "P-Asserted-Identity"};
	struct cpm_pl rest = inv->msg->headers;
	struct cpm_pl name, text;
	size_t i;

	while(rest.n > 0) {
		text = cpm_msg_header_next(&rest, &name);
		if(cpm_msg_header_identity(name)
				&& (is_withheld(inv) || inv->profile == CPM_SESSION_CHAT)) {
			continue;
		}
		for(i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			if(cpm_pl_ieq(name, cpm_pl_str(names[i]))) {
				cpm_wr_pl_put(w, cpm_pl_trim(text));
				cpm_wr_str(w, "\r\n");
			}
		}
	}
}

static void identity_lines(const struct cpm_invite *inv, struct cpm_wr *w)
{
	struct cpm_pl sender = inv->msg->originator;
	bool named = sender.n > 0 && !is_withheld(inv);
	char from[CPM_INVITE_FROM_MAX];

	if(inv->profile == CPM_SESSION_CHAT) {
		line(w, "P-Asserted-Identity", cpm_invite_from(inv, from));
		address_line(w, "Referred-By",
				named ? sender : CPM_PL_LIT("sip:anonymous@anonymous.invalid"));
		cpm_wr_str(w, "Accept-Contact: *;+g.oma.sip-im\r\n");
		return;
	}
	if(named && !cpm_msg_header_has(inv->msg, "P-Asserted-Identity")) {
		address_line(w, "P-Asserted-Identity", sender);
	}
	const char *urn =
			cpm_caps_urn((inv->caps & CPM_CAP_DEFERRED) != 0
										 || (inv->caps & CPM_CAP_LARGEMSG) == 0
								 ? CPM_CAP_DEFERRED
								 : CPM_CAP_LARGEMSG);
	line(w, "P-Asserted-Service", cpm_pl_str(urn));
	icsi_line(w, urn);
}

/* The message's own id, or one that is the same at every attempt. */
static void id_line(struct cpm_wr *w, const char *name, struct cpm_pl id,
		struct cpm_pl made)
{
	line(w, name, id.n > 0 ? id : cpm_pl(made.p, cpm_pl_chr(made, '@')));
}

int cpm_invite_headers(const struct cpm_invite *inv, struct cpm_wr *w)
{
	/* first, and always: what sends it adds its own unless it finds the words
	 * anywhere in these lines, and a Subject may have them */
	cpm_wr_str(w, "Max-Forwards: 70\r\n");
	address_line(w, "Contact", inv->contact);
	cpm_wr_str(w, "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n");
	if(inv->called_party) {
		address_line(w, "P-Called-Party-ID", inv->msg->aor);
	}
	identity_lines(inv, w);
	id_line(w, "Conversation-ID", inv->msg->conversation_id, inv->msg->call_id);
	id_line(w, "Contribution-ID", inv->msg->contribution_id, inv->msg->call_id);
	kept_lines(inv, w);
	return cpm_wr_ok(w) ? CPM_OK : CPM_ENOMEM;
}
