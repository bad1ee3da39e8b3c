/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_facts.h - reads out of a SIP request what the decisions ask for.
 *
 * runs in:  SIP workers
 * owns:     the buffers in struct pf_facts; slices point there or into the
 *           request
 *
 * Who is believed: a P-Asserted-Identity and a P-Served-User come from a
 * trusted peer (parameter trusted_peers), or are not there.
 */

#ifndef PF_FACTS_H
#define PF_FACTS_H

#include "core/cpm_decide.h"
#include "pf_conf.h"

struct sip_msg;

enum pf_session_case
{
	PF_CASE_NONE, /* nobody trusted says */
	PF_CASE_ORIG,
	PF_CASE_TERM,
};

struct pf_facts
{
	struct cpm_msg_facts m; /* originator: see pf_facts_sender */
	bool trusted_peer;
	enum pf_session_case session_case;
	struct cpm_pl served; /* canonical AoR of P-Served-User; may be empty */
	unsigned services;	  /* CPM services that the request names */
	struct cpm_pl preferred_service; /* URN of CPM in P-Preferred-Service */
	bool has_asserted_service;
	bool has_called_party_id;
	bool has_conversation_id;
	bool has_contribution_id;
	bool withheld; /* Privacy: the identity stays in the trust domain */

	enum pf_identity source; /* of the originator, when there is one */

	char originator_buf[CPM_AOR_MAX];
	char user_buf[CPM_AOR_MAX];
	char served_buf[CPM_AOR_MAX];
	char service_buf[128];
};

/* The address that a request is for: the Request-URI as the script left it;
 * in a failure route, where branches have rewritten it, as it came. */
struct cpm_pl pf_facts_target(struct sip_msg *msg);

/* The body by Content-Length where there is one (UDP may have none): what
 * lies behind it is none of the message. The headers must be parsed.
 * CPM_OK; CPM_EPROTO: there is less than Content-Length says, or it is no
 * number. */
int pf_facts_body(struct sip_msg *msg, struct cpm_pl *body_r);

/* CPM_OK; CPM_EPROTO: the headers cannot be read, *why_r a stable word. */
int pf_facts_read(struct pf_facts *f, struct sip_msg *msg, const char **why_r);

/* Who the sender is to the preferences: the originator, or the user that its
 * number is mapped to. */
struct cpm_pl pf_facts_user(const struct pf_facts *f);

/* Sets the originator to a canonical AoR, which must outlive f. */
void pf_facts_originator(struct pf_facts *f, struct cpm_pl aor);

/* Establishes the originator: the served user of an originating request, else
 * by parameter identity. Sets f->m.originator, or leaves it empty. */
void pf_facts_sender(struct pf_facts *f, struct sip_msg *msg);

/* Canonical AoR of a URI, in lower case where registrar's users are; a global tel: number becomes a user of the first
 * home domain, since that is what the number's user is registered as.
 * CPM_OK, or as cpm_aor_canon. buf: CPM_AOR_MAX. */
int pf_facts_aor(struct cpm_pl uri, char *buf, struct cpm_pl *aor_r);

struct hdr_field;

/* Whether a header asserts what only a trusted peer may assert: an identity, a
 * service, a served user. Whoever gets it would take it for ours. */
bool pf_facts_is_forged(const struct pf_facts *f, const struct hdr_field *h);

/* Whether the AoR is of a home domain. */
bool pf_facts_is_home(struct cpm_pl aor);

#endif
