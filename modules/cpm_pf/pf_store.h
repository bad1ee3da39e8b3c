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

/* Give every result of an io_queue call to this: logs a change of Redis'
 * availability, counts errors, returns rc. what: the call's name. */
int pf_store_note(const char *what, int rc);

#endif
