/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_aor.h - the canonical address of record: one user, one spelling.
 *
 * runs in:  anything; pure functions
 *
 * A queue belongs to an AoR. Two spellings of one address must not make two
 * queues, and two addresses must not share one. The canonical form is
 *
 *     sip:<user>@<host>      from sip:, sips:, im:, pres: (RFC 3261, 19.1.4)
 *     tel:<number>           from tel: (RFC 3966, 5)
 *
 * user:   case kept; a percent-escape is undone where RFC 3261 does not need
 *         it and else upper-case; no password
 * host:   lower case, no port, no trailing dot; IPv6 in brackets, as written
 * number: visual separators removed; a local number keeps ;phone-context
 * No parameters, no headers. The result is visible ASCII without space, '{'
 * or '}' (these delimit a Redis Cluster hash tag) and at most CPM_AOR_MAX.
 */

#ifndef CPM_AOR_H
#define CPM_AOR_H

#include "cpm_base.h"

#define CPM_AOR_MAX 256

/* uri: an addr-spec without display name or angle brackets.
 * The canonical form of a canonical form is itself.
 * Writes into buf (cap >= CPM_AOR_MAX is always enough) and points *aor_r
 * at it. diag may be NULL.
 *
 * CPM_OK
 * CPM_EPROTO  not an address of record: "bad-scheme", "no-user", "bad-user",
 *             "no-host", "bad-host", "bad-number"
 * CPM_ELIMIT  "too-long"
 * CPM_ENOMEM  "small-buffer" */
int cpm_aor_canon(struct cpm_pl uri, char *buf, size_t cap,
		struct cpm_pl *aor_r, struct cpm_diag *diag);

/* Parts of a canonical AoR, borrowed from it. For tel: host is empty, and user
 * is the number with its phone-context. */
struct cpm_pl cpm_aor_user(struct cpm_pl aor);
struct cpm_pl cpm_aor_host(struct cpm_pl aor);

#endif
