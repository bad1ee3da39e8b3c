/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_delivery.h - the delivery worker: a process that empties queues.
 *
 * runs in:  its own Kamailio process, 1..delivery_workers of them; each looks
 *           after the users of its shards
 * owns:     the jobs of these users (malloc, bounded)
 *
 * What starts a delivery: a hint (something was queued, a client registered,
 * somebody asks), or the wake index in Redis, which has every user with a
 * queue. The former is quick, the latter is sure.
 *
 * BUGS: a client that registers while a request to another, dead client of
 * the same user is out waits until that one times out.
 */

#ifndef PF_DELIVERY_H
#define PF_DELIVERY_H

/* Never returns. index: 0 .. delivery_workers - 1. */
void pf_delivery_main(unsigned index);

#endif
