/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_sip.h - reads a SIP request into what ring 0 takes.
 *
 * runs in:  SIP workers
 * owns:     a pkg buffer of kept header lines, freed by pf_sip_fini
 */

#ifndef PF_SIP_H
#define PF_SIP_H

#include "core/cpm_flow.h"
#include "pf_facts.h"

struct sip_msg;

struct pf_sip
{
	struct cpm_accept_in in; /* borrows from the request and from headers */
	struct pf_facts facts;
	char target[CPM_AOR_MAX];
	char *headers; /* pkg */
};

/* CPM_OK; CPM_EPROTO: not a request that can be read (its why: stable word);
 * CPM_ENOMEM. */
int pf_sip_init(struct pf_sip *s, struct sip_msg *msg, const char **why_r);
void pf_sip_fini(struct pf_sip *s);

#endif
