/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_owner.h - whose queue a request may ask about, or act on.
 *
 * runs in:  SIP workers
 * owns:     nothing
 *
 * Sending in somebody's name is a nuisance; taking what is queued for somebody
 * is a loss. So From alone is believed less here than in cpm_authorize(): a
 * request counts as its user's if a trusted peer asserts the identity, if it
 * was authenticated, or if it comes from where a registered client of that user
 * is (address and port, or the very connection).
 */

#ifndef PF_OWNER_H
#define PF_OWNER_H

#include "core/cpm_base.h"

struct sip_msg;

/* The user, as a canonical AoR that queues are named by. buf: CPM_AOR_MAX.
 * CPM_OK; CPM_ENOENT: nobody can be told, or nobody of ours; CPM_EPROTO: the
 * request cannot be read, *why_r tells. */
int pf_owner(struct sip_msg *msg, char *buf, struct cpm_pl *aor_r,
		const char **why_r);

/* The same. *by_address_r: nothing but the source of a datagram speaks for it.
 * That can be forged by who sees no answer: what is told, is told there and
 * nowhere else. */
int pf_owner_how(struct sip_msg *msg, char *buf, struct cpm_pl *aor_r,
		const char **why_r, bool *by_address_r);

#endif
