/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_uac.h - SIP requests of a delivery worker, in a dialog or out of any, and
 * their final answers brought back to whoever sent them.
 *
 * runs in:  a delivery worker; the callback of tm in whichever process got the
 *           answer or the time-out
 * owns:     the slots: shared memory, made before any fork, PF_UAC_SLOTS for
 *           each delivery worker; who waits for which, in that worker
 * never:    sends an INVITE (pf_session does: it keeps what a 2xx brings)
 *
 * As in pf_tm: the callback writes the answer's code into the slot and posts
 * PF_HINT_UAC; should the hint be lost, pf_uac_look finds the answer. A slot
 * given back has another generation, so what comes too late is for nobody.
 */

#ifndef PF_UAC_H
#define PF_UAC_H

#include "core/cpm_base.h"
#include "core/cpm_wr.h"

#define PF_UAC_SLOTS 1024 /* requests of one delivery worker without answer */
#define PF_UAC_HEADERS_MAX 16384

struct pf_uac_request
{
	const char *method;
	struct cpm_pl ruri;		/* the client's Contact, without <> */
	struct cpm_pl from;		/* name-addr without tag */
	struct cpm_pl from_tag; /* "": none, which is for no request of today */
	struct cpm_pl to;		/* name-addr without tag */
	struct cpm_pl to_tag;	/* "": out of dialog */
	struct cpm_pl call_id;
	unsigned cseq;
	struct cpm_pl headers; /* lines, each with its CRLF; without Max-Forwards,
							  Via, Route, Content-Length */
	struct cpm_pl body;
	/* the way, each may be empty: pf_tm_way */
	struct cpm_pl socket;	/* "udp:192.0.2.1:5060" */
	struct cpm_pl routes;	/* Path, or the dialog's route set */
	struct cpm_pl received; /* where the REGISTER came from, a URI */
};

/* The final answer, once: its code, 408 where none came. The slot is free by
 * then: fn may send the next request. */
typedef void (*pf_uac_fn)(void *owner, unsigned code);

/* In fn only: seconds that the answer's Retry-After asks for, of a 423 its
 * Min-Expires; 0: none. */
uint32_t pf_uac_wait_s(void);

int pf_uac_init(void); /* before fork; 0, or -1 logged */

/* ---- in a delivery worker */

void pf_uac_start(unsigned worker);

/* All slices are borrowed for the call. CPM_OK: fn(owner, code) will be called
 * from pf_uac_hint or pf_uac_look, never from here; *slot_r (may be NULL) is
 * for pf_uac_forget. fn NULL: nobody wants to know. CPM_ELIMIT: no slot is
 * free, or the headers are over PF_UAC_HEADERS_MAX; CPM_EPROTO: routes cannot
 * be read; CPM_ENOMEM; CPM_EDOWN: tm could not send it, or the script dropped
 * it. */
int pf_uac_send(const struct pf_uac_request *r, pf_uac_fn fn, void *owner,
		uint32_t *slot_r);

/* Whether n more NOTIFYs could be sent. They leave room for other requests:
 * for NOTIFYs without end a client need do little. */
bool pf_uac_notifies(unsigned n);

/* The owner goes away: its fn is not called. One that has been called already
 * is forgotten, so a slot too much harms nobody. */
void pf_uac_forget(uint32_t slot);

/* A hint says that this slot has its answer. */
void pf_uac_hint(uint32_t slot);

/* Once a second: answers whose hints were lost, and requests of which tm has
 * forgotten to tell. */
void pf_uac_look(void);

/* A Contact of ours that a client's requests find: "<sip:user@host:port>", of
 * the socket that it is reached from (empty: the first). The user is that of
 * parameter pf_uri. */
void pf_uac_contact_put(struct cpm_wr *w, struct cpm_pl socket);

/* The same without <>. */
void pf_uac_contact_uri_put(struct cpm_wr *w, struct cpm_pl socket);

#endif
