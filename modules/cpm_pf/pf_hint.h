/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_hint.h - hints from every process to the delivery workers.
 *
 * runs in:  senders: any process, also in callbacks under a lock: one
 *           non-blocking send, nothing else. receiver: a delivery worker
 * owns:     one SOCK_SEQPACKET pair for each delivery worker, made before
 *           any fork
 *
 * A hint may be lost (full socket): that costs latency, never a message. Redis
 * knows when next to look at a queue, and an answer lies in its slot.
 */

#ifndef PF_HINT_H
#define PF_HINT_H

#include "core/cpm_flow.h"

enum pf_hint_kind
{
	PF_HINT_QUEUED,		/* something was queued for aor */
	PF_HINT_REGISTERED, /* a client of aor has registered */
	PF_HINT_FLUSH,		/* the script or an operator asks */
	PF_HINT_ANSWER,		/* slot has an answer */
	PF_HINT_ANSWERED,	/* a session's INVITE, by its slot */
	PF_HINT_HANGUP,		/* the client of a session's slot sent BYE */
	PF_HINT_CALL,		/* a client's INVITE waits (pf_pull) */
	PF_HINT_ACKED,		/* our 2xx to one, by its session's slot */
	PF_HINT_UAC,		/* a request's slot (pf_uac) has an answer */
	PF_HINT_SUBSCRIBED, /* subscribers of aor are owed something */
	PF_HINT_CHANGED,	/* aor's queue, and nothing else comes of it */
	PF_HINT_REG,		/* a subscription of ours for aor is to be seen to */
};

/* What a hint about a user asks for. */
enum pf_hint_mode
{
	PF_HINT_AUTO,	/* by the user's queue_mode */
	PF_HINT_PUSH,	/* deliver, whatever it is */
	PF_HINT_NOTIFY, /* notify, whatever it is, and what is known as well */
	PF_HINT_ASK,	/* it was queued to check back with the user */
};

struct pf_hint
{
	uint8_t kind;
	uint8_t force; /* enum cpm_lease_force */
	uint8_t mode;  /* enum pf_hint_mode */
	uint16_t aor_len;
	uint32_t slot;
	uint64_t at_ms; /* when it was posted, monotonic */
	char aor[CPM_AOR_MAX];
};

int pf_hint_init(void); /* before fork; 0, or -1 logged */

/* Which delivery worker looks after this user, or this shard. */
unsigned pf_hint_worker_of(struct cpm_pl aor);
unsigned pf_hint_worker_of_shard(unsigned shard);

void pf_hint_user(
		enum pf_hint_kind kind, struct cpm_pl aor, enum cpm_lease_force force);
void pf_hint_user_mode(enum pf_hint_kind kind, struct cpm_pl aor,
		enum cpm_lease_force force, enum pf_hint_mode mode);
void pf_hint_answer(unsigned worker, uint32_t slot);
void pf_hint_uac(unsigned worker, uint32_t slot);
void pf_hint_dialog(unsigned worker, enum pf_hint_kind kind, uint32_t slot);

/* The receiving end of a worker, for poll. */
int pf_hint_fd(unsigned worker);
/* CPM_OK; CPM_EAGAIN: none waits. */
int pf_hint_next(unsigned worker, struct pf_hint *hint_r);

#endif
