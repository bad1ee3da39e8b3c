/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * admin_url.h - what is written in a request: paths, hosts, base64.
 *
 * runs in:  cpm_pf_worker; pure functions
 *
 * Strict: one spelling that is not quite right is an error, not a guess, so
 * that no two parts of a chain read one request in two ways.
 */

#ifndef ADMIN_URL_H
#define ADMIN_URL_H

#include <stdbool.h>

#include "../core/cpm_base.h"
#include "../core/cpm_wr.h"

/* Undoes %HH once; '+' is a plus (RFC 3986, not HTML forms). Writes to w and
 * sets *out_r to it.
 * CPM_OK; CPM_EPROTO: an incomplete escape, or a NUL; CPM_ENOMEM: w is full. */
int admin_url_unescape(
		struct cpm_pl in, struct cpm_wr *w, struct cpm_pl *out_r);

/* RFC 4648: base64 with padding; base64url without. */
void admin_base64_put(struct cpm_wr *w, struct cpm_pl in);
void admin_base64url_put(struct cpm_wr *w, struct cpm_pl in);

/* What the variable segments of a path were, as they came. */
struct admin_url_vars
{
	struct cpm_pl user, id, kind;
};

/* Compares with a pattern such as "/v1/queues/{user}", segment by segment and
 * before anything is unescaped: a "%2F" is part of a name and no separator. No
 * variable segment is empty. */
bool admin_url_match(
		const char *pattern, struct cpm_pl path, struct admin_url_vars *vars_r);

/* Host = uri-host [":" port]: a name or address of this very host. */
bool admin_host_is_loopback(struct cpm_pl host);

/* Whether an Origin header (RFC 6454) is of the site that Host names. */
bool admin_origin_is(struct cpm_pl origin, struct cpm_pl host);

#define ADMIN_BASE64_LEN(n) (((n) + 2) / 3 * 4)

/* CPM_OK; CPM_EPROTO: not what _put gives; CPM_ENOMEM: longer than cap. */
int admin_base64url_get(
		struct cpm_pl in, char *buf, size_t cap, struct cpm_pl *out_r);

#endif
