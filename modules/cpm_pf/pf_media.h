/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_media.h - the way between delivery workers and the MSRP worker: datagrams
 * of cpm_ctl over one SOCK_SEQPACKET pair for each delivery worker.
 *
 * runs in:  pf_media_init before any fork; the nursery hands one end of each
 *           pair to `cpm_pf_worker msrp`; a delivery worker uses the other
 * owns:     the pairs, which outlive the MSRP worker: the next one goes on
 *           with them; what could not be sent yet
 * never:    blocks
 */

#ifndef PF_MEDIA_H
#define PF_MEDIA_H

#include "core/cpm_ctl.h"

int pf_media_init(void); /* 0, or -1 logged */

/* Whether sessions are configured at all (msrp_listen). */
bool pf_media_is_on(void);

/* The MSRP worker's end, for the nursery. */
int pf_media_far_fd(unsigned worker);

/* In the nursery: the MSRP worker has died, and speaks no last word itself.
 * Said in its place: another HELLO, of one that listens nowhere. */
void pf_media_gone(void);

/* Ours, for poll, and whether it waits to be written. */
int pf_media_fd(unsigned worker);
bool pf_media_wants_write(void);

/* Sends a datagram, or keeps it to be sent by pf_media_flush. CPM_OK;
 * CPM_EAGAIN: too much is kept already (orders to end a session are taken all
 * the same); CPM_EPROTO: it is none (logged). */
int pf_media_send(unsigned worker, const struct cpm_ctl *m);
void pf_media_flush(unsigned worker);

/* Forgets what is kept: it was for a process that is gone. */
void pf_media_forget(void);

/* The next one that came. Borrowed until the next call. CPM_OK; CPM_EAGAIN:
 * none waits; CPM_EPROTO: one that cannot be read (logged, passed over). */
int pf_media_next(unsigned worker, struct cpm_ctl *m_r);

#endif
