/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_pull.h - a client's INVITE to pull_uri: read and judged where it arrives,
 * answered by the delivery worker of its user.
 *
 * runs in:  pf_pull_request in SIP workers; all else in delivery workers
 * owns:     in shared memory, for each delivery worker, a few places in which
 *           calls wait to be fetched
 *
 * The transaction is suspended (tm's fr_timer answers it 408 should nobody
 * else), and what the delivery worker needs of the request travels in a block
 * of shared memory that is exchanged atomically: who finds it frees it. A hint
 * tells of it; the worker looks once a second besides.
 *
 * Refused here: no identity, or another's queue (403, which tells nothing of
 * that queue); a body that is not what it has to be (400, 413, 415) or offers
 * no session in which we could send (488); an extension that is required (420).
 * The reason is in a Warning header. In the delivery worker: 486 while another
 * session or delivery to this user goes on for longer than PF_PULL_WAIT_MS, 503
 * where the store or the MSRP worker is not there. Nothing has been done to a
 * queue by then.
 */

#ifndef PF_PULL_H
#define PF_PULL_H

#include "core/cpm_actions.h"

#define PF_PULL_WAIT_MS 2000

struct sip_msg;

/* A call, as the delivery worker has it: texts and items point behind it. */
struct pf_call
{
	unsigned hash_index, label; /* its transaction */
	struct cpm_pl aor;			/* of the queue and its owner */
	struct cpm_pl call_id;
	struct cpm_pl local;  /* To of the INVITE, "<uri>" */
	struct cpm_pl remote; /* From of the INVITE, "<uri>" */
	struct cpm_pl remote_tag;
	struct cpm_pl contact;	/* the client's */
	struct cpm_pl routes;	/* Record-Route, in our order */
	struct cpm_pl received; /* where the request came from, as a SIP URI */
	struct cpm_pl socket;	/* ours on which it came */
	struct cpm_pl sdp;
	struct cpm_actions actions;
};

int pf_pull_init(void); /* before fork; 0, or -1 logged */

/* ---- SIP worker. 1: it was one for pull_uri, and is answered or will be; -1:
 * it is not. */
int pf_pull_request(struct sip_msg *msg);

/* ---- delivery worker */

/* The next call that waits, malloc'ed; NULL: none. */
struct pf_call *pf_pull_next(unsigned worker);

/* The final answer. why: a stable word for the Warning header, NULL for none.
 * headers: further lines, each with CRLF. body with Content-Type in headers;
 * tag: of the dialog, empty for a refusal. CPM_OK; CPM_ENOENT: it has been
 * answered otherwise (CANCEL); CPM_ENOMEM, CPM_EDOWN: it could not be sent. */
int pf_pull_reply(const struct pf_call *call, unsigned code, const char *reason,
		const char *why, struct cpm_pl headers, struct cpm_pl body,
		struct cpm_pl tag);

#endif
