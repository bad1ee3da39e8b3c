/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_event.h - event_route[cpm_pf:...], or the function named by
 * event_callback: what became of a message, told to the script.
 *
 * runs in:  the process in which it happens
 * owns:     nothing
 *
 * The route runs with a request that nobody sent; $cpm(user), $cpm(id),
 * $cpm(code), $cpm(why), $cpm(queue_size) and $cpm(queue_bytes) tell what it
 * is about. It must not take long: a delivery worker does nothing else
 * meanwhile.
 */

#ifndef PF_EVENT_H
#define PF_EVENT_H

#include "core/cpm_base.h"

enum pf_event
{
	PF_EVENT_QUEUED,	  /* written to the queue; runs in the SIP worker */
	PF_EVENT_DELIVERED,	  /* why: message */
	PF_EVENT_EXPIRED,	  /* left its queue; why: expired, overflow */
	PF_EVENT_SESSION_END, /* of a session; no id */
	PF_EVENT_DEAD,		  /* given up; it is still there */
	PF_EVENT_NOTIFY,	  /* a client has answered a NOTIFY, or has not; no
						   * id. why: notified, notify-failed */
	PF_EVENT_COUNT_
};

/* mod_init: looks which routes there are. 0, or -1 logged. */
int pf_event_init(void);

/* Costs nothing where there is no such route. Slices and why are borrowed for
 * the call. The outcome of a request at hand is as it was afterwards. */
void pf_event(enum pf_event event, struct cpm_pl aor, struct cpm_pl id,
		unsigned code, const char *why);

#endif
