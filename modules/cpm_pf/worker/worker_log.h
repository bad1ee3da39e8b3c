/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * worker_log.h - one line for an event: cpm_pf: <area>: <event> key=value ...
 *
 * runs in:  cpm_pf_worker, any thread
 * owns:     the way to syslog
 *
 * Bodies, passwords and tokens never come here. What a peer wrote goes through
 * worker_log_escape, and what a peer can trigger through a limit.
 */

#ifndef WORKER_LOG_H
#define WORKER_LOG_H

#include <stdbool.h>

#include "../core/cpm_base.h"

enum worker_level
{
	WORKER_ERROR,  /* somebody must act */
	WORKER_WARN,   /* coped with, and it may matter */
	WORKER_NOTICE, /* start, stop, the store gone or back */
};

/* Until this is called, lines go to stderr. ident: for syslog, must stay. */
void worker_log_open(bool to_syslog, const char *ident);

__attribute__((format(printf, 2, 3))) void worker_log(
		enum worker_level level, const char *fmt, ...);

/* At most some lines in some seconds; zero it before the first use. One for
 * each kind of event, one thread. */
struct worker_log_limit
{
	uint64_t since_ms;
	unsigned lines;
	unsigned left_out;
};

/* Whether a line may be written now. *left_out_r: how many were not, since
 * the last one that was. */
bool worker_log_may(struct worker_log_limit *limit, unsigned *left_out_r);

/* Visible ASCII but '\', '=' and '"' as it is, all else as \xx. Returns buf. */
const char *worker_log_escape(struct cpm_pl a, char *buf, size_t cap);

#endif
