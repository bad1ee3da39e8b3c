/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_usrloc.h - registered clients, from Kamailio's location table.
 *
 * runs in:  callbacks in whoever stores a binding, under the user's slot
 *           lock: they note the client's feature tags, post a hint and
 *           return. pf_usrloc_contacts in SIP and delivery workers
 * owns:     the copies of contacts of the last pf_usrloc_contacts
 *
 * The location table has no feature tags. They are read from the Contact of
 * the REGISTER that stores the binding, and kept as an attribute (xavp) of the
 * binding, so they live as long as it does. Where usrloc keeps attributes in
 * its database (xavp_contact) they survive a restart; else a client counts as
 * plain SIP until it registers again.
 */

#ifndef PF_USRLOC_H
#define PF_USRLOC_H

#include "core/cpm_decide.h"
#include "core/cpm_flow.h"

/* A registered client with what a branch to it needs. c.session is left
 * CPM_SESSION_NONE: whoever invites asks pf_usrloc_session. */
struct pf_contact
{
	struct cpm_contact c;
	struct cpm_pl caps;		/* parameters of its Contact when it registered */
	struct cpm_pl instance; /* +sip.instance, from the location table */
	struct cpm_pl ruid;
	struct cpm_pl user_agent;
	bool takes_invite; /* its methods allow INVITE, or it gave none */
	bool takes_notify; /* the same of NOTIFY */
	/* hash of the Call-ID of its REGISTERs: a client that has begun anew has
	 * another */
	uint64_t registration;
	unsigned reg_id;
	unsigned flags;
	int connection;		/* of TCP or TLS; 0: none is known */
	bool connected;		/* false: that connection is lost */
	struct cpm_pl gruu; /* the public GRUU that registrar gave it (RFC 5627) */
};

/* Binds usrloc and registers the trigger. 0, or -1 logged. */
int pf_usrloc_init(void);

/* Unexpired clients of a user, at most CPM_CONTACTS_MAX; none is CPM_OK with
 * 0. They are copies, good until the next call in this process. By parameter
 * registrar those of the location table, of registration events
 * (pf_regevent.h), or of both.
 * CPM_EDOWN and the like: those of registration events cannot be told. */
int pf_usrloc_contacts(
		struct cpm_pl aor, struct pf_contact *contacts, size_t *count_r);

/* Whether any client of a user is registered. */
bool pf_usrloc_is_registered(struct cpm_pl aor);

/* The client that the decisions know. failed is false. */
void pf_usrloc_client(
		const struct pf_contact *contact, struct cpm_client *client_r);

/* The session in which a client takes what is queued. Reads its feature tags. */
enum cpm_session pf_usrloc_session(const struct pf_contact *contact);

struct socket_info;

/* The socket of ours that "udp:192.0.2.1:5060" names; NULL: there is none. */
struct socket_info *pf_usrloc_socket(struct cpm_pl name);

#endif
