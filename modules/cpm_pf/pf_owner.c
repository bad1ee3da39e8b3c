/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_owner.h"

#include "pf_facts.h"
#include "pf_str.h"
#include "pf_usrloc.h"

#include "../../core/ip_addr.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/parser/parse_uri.h"
#include "../../core/resolve.h"

static bool is_address(struct cpm_pl uri, const struct receive_info *rcv)
{
	struct sip_uri u;
	struct ip_addr *ip;
	str host;

	if(uri.n == 0 || parse_uri((char *)uri.p, (int)uri.n, &u) < 0) {
		return false;
	}
	host = u.host;
	ip = str2ip(&host);
	if(ip == NULL) {
		ip = str2ip6(&host);
	}
	return ip != NULL && ip_addr_cmp(ip, &rcv->src_ip)
		   && (u.port_no > 0 ? u.port_no : 5060) == rcv->src_port;
}

/* Whether a client of the user is where the request comes from. */
static bool is_client_of(struct cpm_pl aor, const struct sip_msg *msg)
{
	struct pf_contact found[CPM_CONTACTS_MAX];
	size_t count = 0;
	size_t i;

	if(pf_usrloc_contacts(aor, found, &count) != CPM_OK) {
		return false;
	}
	for(i = 0; i < count; i++) {
		const struct pf_contact *c = &found[i];

		if(c->c.path.n > 0) {
			continue; /* where it comes from is a proxy, of many */
		}
		if(msg->rcv.proto == PROTO_UDP
						? is_address(
								c->c.received.n > 0 ? c->c.received : c->c.uri,
								&msg->rcv)
						: c->connection != 0
								  && c->connection
											 == msg->rcv.proto_reserved1) {
			return true;
		}
	}
	return false;
}

int pf_owner(struct sip_msg *msg, char *buf, struct cpm_pl *aor_r,
		const char **why_r)
{
	bool by_address;

	return pf_owner_how(msg, buf, aor_r, why_r, &by_address);
}

int pf_owner_how(struct sip_msg *msg, char *buf, struct cpm_pl *aor_r,
		const char **why_r, bool *by_address_r)
{
	struct pf_facts f;
	struct cpm_pl user;

	*why_r = "bad-headers";
	if(pf_facts_read(&f, msg, why_r) != CPM_OK) {
		return CPM_EPROTO;
	}
	pf_facts_sender(&f, msg);
	user = pf_facts_user(&f);
	if(user.n == 0 || user.n > CPM_AOR_MAX
			|| pf_facts_aor(user, buf, aor_r) != CPM_OK
			|| !pf_facts_is_home(*aor_r)) {
		return CPM_ENOENT;
	}
	*by_address_r = f.source == PF_IDENTITY_FROM && msg->rcv.proto == PROTO_UDP;
	return f.source == PF_IDENTITY_FROM && !is_client_of(*aor_r, msg)
				   ? CPM_ENOENT
				   : CPM_OK;
}
