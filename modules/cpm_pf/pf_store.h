/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_store.h - this process' connection to the queue.
 *
 * runs in:  SIP workers and delivery workers, one connection each, made at
 *           first use
 * owns:     the process' io_queue
 *
 * Reports each loss and return of Redis once, and counts.
 */

#ifndef PF_STORE_H
#define PF_STORE_H

#include "io/io_queue.h"

/* NULL only without memory (logged). */
struct io_queue *pf_store(void);

/* Around what may run script (tm's t_uac runs event_route[tm:local-request]),
 * whose functions use the queue as well: what it has lent up to now stays good.
 * pf_store_back takes what pf_store_lend gave. */
void *pf_store_lend(void);
void pf_store_back(void *lent);

/* Give every result of an io_queue call to this: logs a change of Redis'
 * availability, counts errors, returns rc. what: the call's name. */
int pf_store_note(const char *what, int rc);

#endif
