/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_tm.h - sends queued messages as SIP requests, and collects the answers.
 *
 * runs in:  pf_tm_send in a delivery worker; the callback in whichever
 *           process got the answer or the time-out; pf_tm_reply anywhere
 * owns:     the slots: shared memory, made before any fork, each used by one
 *           delivery worker
 *
 * A request out is a slot. The callback writes the answer into the slot and
 * posts a hint; if the hint is lost, the worker finds the answer when it looks
 * through its slots. A slot given back has another generation, so an answer
 * that comes too late changes nothing. No memory changes hands.
 */

#ifndef PF_TM_H
#define PF_TM_H

#include "core/cpm_flow.h"

int pf_tm_init(void); /* before fork; 0, or -1 logged */

/* Sends msg as a MESSAGE to a client. CPM_OK and *slot_r: an answer will lie
 * there, or never come; CPM_ELIMIT: no slot is free; CPM_ENOENT: it has
 * expired; CPM_EPROTO, CPM_ENOMEM, CPM_EDOWN: could not be sent (logged). */
int pf_tm_send(unsigned worker, const struct cpm_contact *contact,
		const struct cpm_msg *msg, unsigned attempt, uint64_t now_ms,
		uint32_t *slot_r);

struct dlg;

/* The way of a request to a client: by its Path or the dialog's route set, else
 * to where its REGISTER came from (a Contact behind NAT leads nowhere), else to
 * the Contact; from the socket that it registered on. Each may be empty.
 * d->route_set is the caller's to free (free_rr). CPM_OK; CPM_EPROTO: routes
 * cannot be read (logged). */
int pf_tm_way(struct dlg *d, struct cpm_pl socket, struct cpm_pl routes,
		struct cpm_pl received);

/* The answer in a slot: its code, 0 while there is none. */
unsigned pf_tm_answer(unsigned worker, uint32_t slot);

/* Gives a slot back. */
void pf_tm_done(unsigned worker, uint32_t slot);

struct cell;

/* A final reply with the dialog's tag in its To (tag "": as it is), whoever
 * else may be answering this transaction just now. headers: lines with CRLF.
 * CPM_OK; CPM_ENOENT: it has had its answer, or none can be sent; CPM_ENOMEM,
 * CPM_EPROTO: none can be made (logged). */
int pf_tm_reply(struct cell *t, unsigned code, const char *reason,
		struct cpm_pl headers, struct cpm_pl body, struct cpm_pl tag);

/* Slots of one worker: 0 .. pf_conf.delivery_parallel - 1. */

#endif
