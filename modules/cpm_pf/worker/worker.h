/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * worker.h - what all parts of cpm_pf_worker share.
 */

#ifndef WORKER_H
#define WORKER_H

#ifndef CPM_PF_VERSION
#define CPM_PF_VERSION "0.1.0"
#endif

/* Exit statuses. What started it tries again, later and later, but after
 * USAGE it need not: nothing will be better. */
enum worker_exit
{
	WORKER_EXIT_OK = 0,
	WORKER_EXIT_FAILED = 1, /* no memory, no thread */
	WORKER_EXIT_USAGE = 2,	/* command line, configuration, token file */
	WORKER_EXIT_LISTEN = 3, /* the address is taken, or not here */
};

#endif
