/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * admin_guard.h - how much one address may ask for.
 *
 * runs in:  cpm_pf_worker, one thread; no clock of its own
 * owns:     a table of a fixed size
 *
 * A bucket for each address (of IPv6 for each /64, for that is what one host
 * has): it holds a burst of ADMIN_GUARD_BURST_S seconds, and fills by the
 * rate. Where the table is full, who has asked for least lately is forgotten,
 * and has a full bucket again.
 */

#ifndef ADMIN_GUARD_H
#define ADMIN_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADMIN_GUARD_BURST_S 4
#define ADMIN_GUARD_SLOTS 1024

struct admin_guard
{
	unsigned rate; /* requests a second; 0: no bound */
	struct
	{
		unsigned char key[16];
		uint64_t at_ms;	 /* of left; 0: nobody has this slot */
		uint64_t left_k; /* thousandths of a request */
	} slot[ADMIN_GUARD_SLOTS];
};

/* Takes cost requests from the bucket of this address; false: there are not so
 * many in it, and none was taken. now_ms: monotonic, not 0. */
bool admin_guard_take(struct admin_guard *g, const struct sockaddr *addr,
		unsigned cost, uint64_t now_ms);

/* Empties it by so many, whatever there is: for what should not be tried
 * often. */
void admin_guard_charge(struct admin_guard *g, const struct sockaddr *addr,
		unsigned cost, uint64_t now_ms);

#endif
