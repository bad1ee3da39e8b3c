/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_subscribe.h - SUBSCRIBE to the state of a queue, and the NOTIFYs that
 * follow (RFC 6665), without the presence module.
 *
 * runs in:  pf_subscribe_request in SIP workers; all else in a delivery worker,
 *           for the users that it looks after
 * owns:     in a delivery worker the users who are to be looked at (bounded),
 *           and what is on its way; the subscriptions are in Redis (io_subs.h),
 *           and outlive everything here
 *
 * A SIP worker judges a SUBSCRIBE, writes it, answers and posts a hint. The
 * delivery worker composes the state, asks Redis who does not know it, and
 * tells them; the answer to a NOTIFY is settled. Without the hint it finds the
 * user in the index, which also has the expiries: it is read when the soonest
 * of them has come, and every PF_SUBSCRIBE_LOOK_MS.
 *
 * Whose: a user's own queue only, who a request is of being told by pf_owner.
 * Everybody else gets 403, whatever the queue is or whether there is one. The
 * Request-URI is the user's own AoR, or pull_uri, or pf_uri. Where the presence
 * module answers for AoRs (pf_presence.h), only the latter two are taken here.
 *
 * Our tag of such a dialog begins with CPM_SUBS_TAG_HEAD.
 */

#ifndef PF_SUBSCRIBE_H
#define PF_SUBSCRIBE_H

#include "core/cpm_base.h"

#define PF_SUBSCRIBE_LOOK_MS 5000

struct sip_msg;

int pf_subscribe_init(void); /* before fork; 0, or -1 logged */

/* ---- in a SIP worker */

/* 1: it was a SUBSCRIBE for us, or in a dialog of ours, and is answered; -1: it
 * is not ours. */
int pf_subscribe_request(struct sip_msg *msg);

/* ---- in a delivery worker */

void pf_subscribe_start(unsigned worker);

/* Something is owed to this user's subscribers. */
void pf_subscribe_due(struct cpm_pl aor);

/* A queue has changed, of which pf_notify is not told: its subscribers, and
 * presence's, are told after notify_delay_ms. */
void pf_subscribe_changed(struct cpm_pl aor);

/* Whether a client with this Contact has a subscription, and needs no NOTIFY
 * besides. One round trip for each user after another. */
bool pf_subscribe_has(struct cpm_pl aor, struct cpm_pl contact);

/* Once each round of the loop. */
void pf_subscribe_tick(void);

/* Whether the loop is to come round soon. */
bool pf_subscribe_is_pending(void);

#endif
