/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * courier_push.h - tells the push gateway whom to wake, and hears its answer.
 *
 * runs in:  cpm_pf_worker courier, the thread of its kind
 * owns:     one connection to the gateway, kept open between pushes
 * never:    follows a redirection; takes more of an answer than
 *           PUSH_ANSWER_MAX; writes credentials anywhere but to the gateway
 *
 * The job is cpm_pn.h's. A run reads what is queued now, pushes once to each
 * target, and asks to be run again later (push_retry_intervals) until the job
 * is dropped (the user has registered), the queue is empty, or push_max pushes
 * were made. A target that the gateway calls gone is dropped from what is
 * remembered of the user's clients (io_devices.h); one that it refuses is
 * asked no more in this job's life, or until the courier starts again.
 *
 * Killed between a push and its settlement: that push is made again.
 */

#ifndef COURIER_PUSH_H
#define COURIER_PUSH_H

#include "../core/cpm_pap.h"

#define PUSH_ANSWER_MAX 65536

/* What a push gateway's answer says: enum cpm_pap_answer, but for _READ.
 * words: its code and description, or what is wrong with it, one line of
 * visible ASCII and spaces. An answer that is none of PAP is CPM_PAP_LATER. */
enum cpm_pap_answer push_answer_read(
		struct cpm_pl body, char *words, size_t cap);

struct push_login
{
	enum cpm_pap_login kind;
	char text[1024]; /* empty: none */
};

/* From the file, which nobody but its owner and group may read, and nobody
 * but its owner write; without one (path is empty) from the environment,
 * CPM_PUSH_CREDENTIALS. CPM_OK; CPM_EPROTO: why tells, without what is in
 * it. */
int push_login_load(
		const char *path, struct push_login *login_r, char *why, size_t cap);

#endif
