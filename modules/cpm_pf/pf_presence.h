/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_presence.h - the state of queues as an event package of Kamailio's
 * presence module, where that is loaded: it does the dialogs, we the bodies.
 *
 * runs in:  pf_presence_init in main, before any fork, when all modules have
 *           been initialised; pf_presence_changed in delivery workers; the
 *           callbacks in whoever runs handle_subscribe(), or sends for it
 * owns:     nothing; presence's list of packages has ours
 *
 * Nothing is published: presence asks for the body whenever it sends a NOTIFY
 * (agg_nbody), and gets it as the queue is at that moment. So the full state
 * comes at once with every SUBSCRIBE, and there is no copy that could be old.
 * When a queue changes presence is told to refresh its watchers.
 *
 * The package is presence_mwi's where notify_event is message-summary and that
 * module is loaded: its bodies are ours then, together with what others have
 * published (a voicemail's lines). Else it is added.
 *
 * Who may subscribe: as in pf_subscribe.h. cpm_session(), called before
 * handle_subscribe(), answers everybody else 403; a SUBSCRIBE that gets past
 * it is refused by presence itself with 500.
 *
 * BUGS: presence has its subscriptions in the memory of one node, unless its
 * subs_db_mode is 3; then its watchers are looked up in the database at every
 * change of a queue. A Request-URI that is not spelled as the canonical AoR is
 * served with a first NOTIFY, and none on change.
 */

#ifndef PF_PRESENCE_H
#define PF_PRESENCE_H

#include "core/cpm_base.h"

struct sip_msg;

/* 0 whether presence is there or not; -1 logged. */
int pf_presence_init(void);

/* Whether SUBSCRIBEs to users' AoRs are presence's. */
bool pf_presence_serves(void);

/* A queue has changed: its watchers are told. */
void pf_presence_changed(struct cpm_pl aor);

#endif
