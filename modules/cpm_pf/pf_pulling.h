/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_pulling.h - a session in which a client fetches what is queued for its
 * user: the ports of cpm_pull, and its SIP session.
 *
 * runs in:  a delivery worker, as a job of it
 * owns:     the call, the pull, the SIP session
 */

#ifndef PF_PULLING_H
#define PF_PULLING_H

#include "core/cpm_pull.h"
#include "pf_pull.h"

struct pf_pulling;

/* Takes the call over, and answers it. owner: whom pf_session names for the
 * session. NULL: it was refused. token: as of a delivery. */
struct pf_pulling *pf_pulling_start(
		void *owner, struct pf_call *call, struct cpm_pl token);

/* Answers a call that nothing comes of, and frees it. */
void pf_pulling_refuse(struct pf_call *call, unsigned code, const char *reason,
		const char *why);

/* What the MSRP worker and the client say. Afterwards look at
 * pf_pulling_is_over. */
void pf_pulling_acked(struct pf_pulling *g);
void pf_pulling_up(struct pf_pulling *g);
void pf_pulling_events(struct pf_pulling *g,
		const struct cpm_session_event *events, size_t count);
void pf_pulling_hung_up(struct pf_pulling *g); /* no BYE is sent */
void pf_pulling_tick(struct pf_pulling *g, uint64_t now_ms);

uint64_t pf_pulling_at_ms(const struct pf_pulling *g);
bool pf_pulling_is_blocked(const struct pf_pulling *g);
bool pf_pulling_is_over(const struct pf_pulling *g);
/* Whether anything was done to the queue. */
bool pf_pulling_has_done(const struct pf_pulling *g);

void pf_pulling_free(struct pf_pulling **g);

#endif
