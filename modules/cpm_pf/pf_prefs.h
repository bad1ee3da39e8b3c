/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_prefs.h - what users and the provider prefer: SQL, behind a cache.
 *
 * runs in:  SIP workers and delivery workers, one database connection each,
 *           made at first use; pf_prefs_reload in any process
 * owns:     the process' connection; the cache in shared memory
 * never:    holds a lock of the shared memory during a query, or guesses
 *
 * Rows are read through Kamailio's database API (modparam db_url) and kept
 * for prefs_cache_ttl seconds, those of users that do not exist included.
 *
 * The database fails: who is in the cache goes on with what is there, however
 * old it is; for all others the answer is CPM_EDOWN, which becomes a 503. A
 * failed database is asked again after a second, by one process, so that the
 * others never wait for it.
 *
 * A row that cannot be understood is named in the log by table, id and
 * column, once each time it is read:
 *   cpm_rule    that rule is left out; the user's other rules hold
 *   cpm_user    CPM_EDOWN for that user: any guess could deliver what the
 *               user wants stored, or store what was to be discarded
 *   cpm_policy  CPM_EDOWN for the users of that service class, likewise
 * Both are kept in the cache, so that a bad row costs no query a message;
 * pf_prefs_reload reads it again at once.
 *
 * A query blocks its process. For how long, when a server hangs, is the
 * database module's affair: timeout_interval of db_mysql (2 s); timeout of
 * db_postgres (none, unless it is set), and its con_param, "connect_timeout=2"
 * being the default here.
 */

#ifndef PF_PREFS_H
#define PF_PREFS_H

#include "core/cpm_prefs.h"

/* Versions of the tables, as in Kamailio's table `version`. */
#define PF_PREFS_USER_VERSION 1
#define PF_PREFS_RULE_VERSION 1
#define PF_PREFS_POLICY_VERSION 1

/* Of one user, compiled. Who has more is refused like a bad row. */
#define PF_PREFS_BYTES_MAX 65536

/* What the slices of a struct cpm_prefs point into. Large: make it static. */
struct pf_prefs_buf
{
	_Alignas(16) char bytes[PF_PREFS_BYTES_MAX];
};

/* mod_init. Binds the database module, makes the cache, and looks at the
 * tables' versions.
 *
 * 0; also where the database cannot be reached: then the versions are looked
 *    at by the first process that does reach it, and until they are right
 *    the answer is CPM_EDOWN
 * -1 (logged): no database module for db_url, a table that is missing or of
 *    another version, no memory */
int pf_prefs_init(void);

/* The preferences of a user, and the policy of the user's service class.
 * aor is canonical: sip:user@host is looked for as username (with escapes
 * undone) and domain, tel:number as username with an empty domain.
 *
 * Nothing is locked afterwards: all is copied, texts into buf. policy_r may
 * be NULL. For an unknown user prefs_r->known is false, and the policy that
 * of the empty service class. Without db_url every user is known and has
 * cpm_prefs_default and cpm_policy_default.
 *
 * CPM_OK
 * CPM_EDOWN   cannot be told now; diag->why (diag may be NULL):
 *             "database-down", "bad-tables" (of a wrong version),
 *             "bad-preferences", "bad-policy" (a row, see above) */
int pf_prefs_get(struct cpm_pl aor, struct pf_prefs_buf *buf,
		struct cpm_prefs *prefs_r, struct cpm_policy *policy_r,
		struct cpm_diag *diag);

/* The policy of a service class by its name: for senders that are nobody's
 * users (empty: the class of those who have none).
 * Results as of pf_prefs_get. */
int pf_prefs_policy(struct cpm_pl service_class, struct cpm_policy *policy_r,
		struct cpm_diag *diag);

/* What is cached of a user, or, with an empty aor, of all users and service
 * classes, is read again before it is used again. Costs the same for one and
 * for all. While the database is down, the old is still used. */
void pf_prefs_reload(struct cpm_pl aor);

#endif
