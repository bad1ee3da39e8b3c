/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_ulname.h - between canonical AoRs and the names of a location table.
 *
 * runs in:  anything; pure functions
 *
 * Kamailio's registrar files a user under the user part with every escape
 * undone, and, where it uses domains, '@' and the host:
 *
 *     sip:a%20b@example.org   <->   "a b@example.org"  or  "a b"
 */

#ifndef CPM_ULNAME_H
#define CPM_ULNAME_H

#include "cpm_aor.h"
#include "cpm_base.h"

/* The location table's name of a canonical AoR. CPM_OK; CPM_ENOENT: a tel:
 * AoR has no such name; CPM_ENOMEM: buffer too small. */
int cpm_ulname_from_aor(struct cpm_pl aor, bool use_domain, char *buf,
		size_t cap, struct cpm_pl *name_r);

/* The canonical AoR of a name; domain is used when the name has none
 * (use_domain false). buf of CPM_AOR_MAX is always enough.
 * CPM_OK, or as cpm_aor_canon. */
int cpm_ulname_to_aor(struct cpm_pl name, bool use_domain, struct cpm_pl domain,
		char *buf, size_t cap, struct cpm_pl *aor_r);

#endif
