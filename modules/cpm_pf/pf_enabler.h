/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_enabler.h - for whom the push gateway is asked, when somebody has queued
 * messages and is not there.
 *
 * runs in:  delivery workers; the pushing itself is cpm_pf_worker courier's
 * owns:     the users that are to be looked at, and which registrations were
 *           seen lately
 * never:    talks to the push gateway
 *
 * A look takes one round trip: what is remembered of the user's clients
 * (io_devices.h), whether there is a push job, and whether anything is queued.
 * Then, as the registrations of this node's location table are now:
 *
 *   - what a registered client says of how it is woken is remembered, and
 *     forgotten again when it says so no more;
 *   - targets are the clients that are remembered and not registered, but
 *     those from which a rule of the user keeps everything; where none is
 *     remembered and nobody is registered, the user's address;
 *   - with something queued the job gets these targets; without a target
 *     there is none.
 *
 * A job is made when something is queued; and when the queue is looked at for
 * another reason, so that a lost hint or a binding that has run out is no
 * reason to be told nothing; but not again once it came to its end.
 *
 * Without push_url nothing of this happens, and it costs nothing.
 */

#ifndef PF_ENABLER_H
#define PF_ENABLER_H

#include "pf_conf.h"
#include "pf_hint.h"

/* Something was queued for a user; a client has registered (anew: it had no
 * binding before); the queue is looked at. They only note it. */
void pf_enabler_queued(struct cpm_pl aor);
void pf_enabler_registered(struct cpm_pl aor, bool anew);
void pf_enabler_check(struct cpm_pl aor);

/* The same, of whatever hint. */
void pf_enabler_hint(const struct pf_hint *h);

/* Does some of what was noted. */
void pf_enabler_tick(void);

/* Whether there is something to do at once. */
bool pf_enabler_is_pending(void);

#endif
