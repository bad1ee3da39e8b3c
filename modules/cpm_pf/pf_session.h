/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_session.h - the SIP side of a session that brings queued messages: our
 * INVITE with an offer and its answer, or the answer to a client's; BYE; and
 * the orders to the MSRP worker.
 *
 * runs in:  a delivery worker; pf_session_request in SIP workers; the
 *           INVITE's callback in whichever process got the answer
 * owns:     the sessions of this process; in shared memory, for each worker, a
 *           slot for each session: its INVITE's answer, and the key by which
 *           a request of the client in the dialog is known to be ours
 *
 * A slot has a generation, as those of pf_tm: what comes too late finds
 * nothing. The facts of a 2xx (tag, contact, routes, SDP) travel in a block of
 * shared memory that is exchanged atomically: who finds it frees it.
 *
 * The local tag of the dialog is "cpm-<worker>-<slot>-<key>": a request of the
 * client names its session itself, in whatever process it arrives.
 */

#ifndef PF_SESSION_H
#define PF_SESSION_H

#include "core/cpm_push.h"
#include "pf_usrloc.h"

struct sip_msg;
struct pf_session;

int pf_session_init(void); /* before fork; 0, or -1 logged */

/* ---- in a delivery worker */

void pf_session_start(unsigned worker);

/* Whether a session can be begun now. */
bool pf_session_is_possible(void);

/* owner: what the events are for. NULL: no memory, or no slot. */
struct pf_session *pf_session_new(void *owner);
struct cpm_push *pf_session_push(struct pf_session *s);

/* INVITE for this message. CPM_OK: pf_session_answer will tell. */
int pf_session_invite(struct pf_session *s, const struct pf_contact *contact,
		const struct cpm_msg *msg);

/* The INVITE's final answer, once; 0: none yet. 2xx: the session is there. An
 * answer that cannot be used is 488, and the client is told by a BYE. */
unsigned pf_session_answer(struct pf_session *s);

/* Whether the client takes a message like this in its session: by what it said
 * in its answer. */
bool pf_session_accepts(const struct pf_session *s, const struct cpm_msg *msg);

struct pf_call;

/* A client's INVITE: answered 200, and its dialog and media are ready. 0; else
 * the code it is to be refused with, and a stable word (487: it was answered
 * otherwise meanwhile, there is nothing to refuse). The session is ended by
 * pf_session_end either way. */
unsigned pf_session_accept(
		struct pf_session *s, const struct pf_call *call, const char **why_r);

/* What a hint says of an ACK, by slot: the owner of the session that has it now
 * for the first time; NULL: none. */
void *pf_session_acked(uint32_t slot);

/* Whether the client takes this type, and inside of it the other (empty:
 * none), by its SDP. */
bool pf_session_takes_type(
		const struct pf_session *s, struct cpm_pl type, struct cpm_pl wrapped);

/* The contact that was invited. */
struct cpm_pl pf_session_contact(const struct pf_session *s);

/* CPM_OK; CPM_EAGAIN: no room now; CPM_EPROTO. */
int pf_session_send(
		struct pf_session *s, uint32_t handle, const struct cpm_msg *msg);

/* BYE (or, while the INVITE has no answer, BYE as soon as it has a 2xx), and
 * the end of its connection. *s becomes NULL. */
void pf_session_end(struct pf_session **s);

/* The client hung up already: no BYE. */
void pf_session_hung_up(struct pf_session *s);

/* The owner of a session, by what a hint says (its slot, and which dialog in
 * it) or by its number; NULL: none, or none any more. */
void *pf_session_of_slot(uint32_t slot);
void *pf_session_of_number(uint64_t number);

/* The MSRP worker says hello. true: it is another one than before: all
 * sessions are gone, and the caller ends them. */
bool pf_session_hello(
		uint64_t boot, struct cpm_pl listens, struct cpm_pl fingerprint);

/* A hint tells of the BYE of a client whose session has no owner any more. */
void pf_session_gone(uint32_t slot);

/* Slots that have an answer, or an ACK, whose hint was lost, and sessions that
 * were given up before their INVITE had one. fn is called with each owner,
 * acked as for a hint. */
void pf_session_look(void (*fn)(void *owner), void (*acked)(uint32_t slot));

/* ---- in a SIP worker */

/* A request in a dialog of ours: answered. 1: it was; -1: it is not ours. */
int pf_session_request(struct sip_msg *msg);

#endif
