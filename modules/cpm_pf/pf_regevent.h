/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_regevent.h - clients that are registered elsewhere: subscriptions to the
 * registration event (RFC 3680), their NOTIFYs, and what is known by them.
 *
 * runs in:  SIP workers take NOTIFY and third-party REGISTER; SIP and delivery
 *           workers ask for contacts; a delivery worker sends SUBSCRIBE
 * owns:     of each process a small cache of contacts; in shared memory a
 *           counter for each of some thousand groups of users, by which the
 *           caches of this node learn that something has changed
 * never:    believes a document of anybody but the notifier of a dialog of
 *           ours and trusted_peers
 *
 * The state is in Redis (core/cpm_reginfo.h): a NOTIFY may reach any node, and
 * a restart loses nothing. As RFC 6665 has it, the NOTIFY makes the dialog:
 * tags, target, route set and time are taken from it, and of the answer to
 * SUBSCRIBE only whether it was refused.
 */

#ifndef PF_REGEVENT_H
#define PF_REGEVENT_H

#include "pf_hint.h"
#include "pf_usrloc.h"

struct sip_msg;

int pf_regevent_init(void); /* before fork; 0, or -1 logged */

/* Appends clients to contacts[*count_r ...], at most CPM_CONTACTS_MAX in all,
 * where parameter registrar asks for it: those whose URI is not there yet. They
 * are borrowed until the next call in this process. At most one round trip,
 * none where they were asked for a second ago. CPM_OK; CPM_EDOWN and the like:
 * it cannot be told. */
int pf_regevent_contacts(
		struct cpm_pl aor, struct pf_contact *contacts, size_t *count_r);

/* ---- SIP workers */

/* A request in a dialog of ours: answered, 1. -1: not for us. */
int pf_regevent_request(struct sip_msg *msg);

/* What cpm_flush_queue() makes of a request. */
struct pf_regevent_outcome
{
	int rc;
	unsigned code;
	const char *reason;
	const char *why;
};

/* A NOTIFY with a registration document, of a subscription made elsewhere, or
 * a third-party REGISTER of a trusted peer. false: neither. */
bool pf_regevent_flush(struct sip_msg *msg, enum pf_hint_mode mode,
		struct pf_regevent_outcome *out);

/* ---- a delivery worker */

void pf_regevent_start(unsigned worker);

/* Each hint about a user. */
void pf_regevent_hint(const struct pf_hint *h);

/* A user whose queue is looked at for no special reason. */
void pf_regevent_check(struct cpm_pl aor);

void pf_regevent_tick(void);
bool pf_regevent_is_pending(void);

#endif
