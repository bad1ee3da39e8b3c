/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_caps.h - what a client or a request says of CPM in its feature tags.
 *
 * runs in:  anything; pure functions
 * owns:     nothing
 *
 * RFC 3840 feature parameters as they stand in Contact and Accept-Contact:
 *
 *     ;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg,..."
 *     ;+g.oma.sip-im;+sip.instance="<urn:uuid:...>"
 *
 * and plain URNs as in P-Preferred-Service and P-Asserted-Service (RFC 6050).
 * Whole list items are compared: cpm.session is not cpm.session.group. The
 * URN is compared without case, "%3A" and ":" are the same.
 */

#ifndef CPM_CAPS_H
#define CPM_CAPS_H

#include "cpm_base.h"

enum cpm_cap
{
	CPM_CAP_MSG = 1,			/* ...oma.cpm.msg: pager mode */
	CPM_CAP_LARGEMSG = 2,		/* ...oma.cpm.largemsg */
	CPM_CAP_DEFERRED = 4,		/* ...oma.cpm.deferred: takes queue sessions */
	CPM_CAP_SESSION = 8,		/* ...oma.cpm.session */
	CPM_CAP_SESSION_GROUP = 16, /* ...oma.cpm.session.group */
	CPM_CAP_FILETRANSFER = 32,	/* ...oma.cpm.filetransfer */
	CPM_CAP_SYSTEMMSG = 64,		/* ...oma.cpm.systemmsg */
	CPM_CAP_SIP_IM = 128,		/* +g.oma.sip-im: RCS-e chat */
	CPM_CAP_PAGER_LARGE = 256,	/* +g.gsma.rcs.cpm.pager-large */
};

struct cpm_caps
{
	unsigned set;			/* enum cpm_cap, or'ed */
	struct cpm_pl instance; /* value of +sip.instance without the quotes and
							   angle brackets; empty: none */
	struct cpm_pl pub_gruu; /* value of pub-gruu without the quotes */
	bool any_tag;			/* at least one feature tag ("+...") was given */
};

/* Parameters of one Contact or Accept-Contact value, from its first ';' on
 * (a leading "*" or address is the caller's to cut). Unknown parameters are
 * passed over; what is broken is passed over too: a client's own mistake
 * takes nothing but that parameter. At most 64 parameters and 64 items a
 * list are read. Slices borrow from params. */
void cpm_caps_parse(struct cpm_pl params, struct cpm_caps *caps_r);

/* A list of plain URNs, comma separated: CPM_CAP_* of those that are CPM's. */
unsigned cpm_caps_urns(struct cpm_pl value);

/* The URN of one capability that has an ICSI ("urn:urn-7:..."), NUL
 * terminated; NULL for the others. */
const char *cpm_caps_urn(enum cpm_cap cap);

/* CPM_CAP_* of a short name, without case: msg, largemsg, deferred, session,
 * session.group, filetransfer, systemmsg, sip-im, pager-large; 0: none. */
unsigned cpm_caps_named(struct cpm_pl name);

#endif
