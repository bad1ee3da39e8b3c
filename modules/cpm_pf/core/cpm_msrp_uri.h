/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_uri.h - MSRP URIs and paths of them (RFC 4975, 6 and 9).
 *
 * runs in:  anything; pure functions; no allocation
 * owns:     nothing; every slice points into the text that was parsed
 *
 *     MSRP-URI   = ("msrp" / "msrps") "://" [ user "@" ] host [ ":" port ]
 *                  [ "/" session-id ] ";" transport *( ";" param )
 *     session-id = 1*( unreserved / "+" / "=" / "/" )
 *     path       = MSRP-URI *( SP MSRP-URI )
 *
 * Read tolerantly: a session id may hold any visible ASCII but ";", the
 * quotes and the angle brackets, and it may be empty behind its slash.
 */

#ifndef CPM_MSRP_URI_H
#define CPM_MSRP_URI_H

#include "cpm_base.h"
#include "cpm_wr.h"

#define CPM_MSRP_URI_MAX 512 /* bytes of one URI */
#define CPM_MSRP_PATH_URIS 8 /* URIs of one path */

struct cpm_msrp_uri
{
	struct cpm_pl text;		  /* the whole URI as written */
	struct cpm_pl user;		  /* empty when absent */
	struct cpm_pl host;		  /* an IPv6 address without its brackets */
	struct cpm_pl session_id; /* empty when absent */
	struct cpm_pl transport;  /* "tcp" */
	struct cpm_pl params;	  /* what follows it, from its ";" on */
	uint16_t port;			  /* 0 when absent */
	bool is_secure;			  /* msrps */
	bool is_ipv6;
};

struct cpm_msrp_path
{
	size_t n; /* 1..CPM_MSRP_PATH_URIS */
	struct cpm_msrp_uri uri[CPM_MSRP_PATH_URIS];
};

/* The whole slice as one URI. CPM_OK; CPM_EPROTO with diag "no-scheme",
 * "no-host", "bad-host", "bad-port", "bad-session-id", "no-transport",
 * "bad-param", "bad-byte"; CPM_ELIMIT "uri-too-long". diag may be NULL. */
int cpm_msrp_uri_parse(
		struct cpm_pl in, struct cpm_msrp_uri *uri_r, struct cpm_diag *diag);

/* Writes it from its parts (text is not looked at). */
void cpm_msrp_uri_put(struct cpm_wr *w, const struct cpm_msrp_uri *uri);

/* RFC 4975, 6.1: scheme, host and transport without case, an IPv6 host as
 * an address, the port exactly (a URI without one equals only such), the
 * session id with case; escapes of unreserved characters are undone; user
 * and parameters do not count. */
bool cpm_msrp_uri_eq(
		const struct cpm_msrp_uri *a, const struct cpm_msrp_uri *b);

/* What is left of that where a middle box rewrites addresses ("sessmatch"):
 * both have a session id, and it is the same. */
bool cpm_msrp_uri_same_session(
		const struct cpm_msrp_uri *a, const struct cpm_msrp_uri *b);

/* One to CPM_MSRP_PATH_URIS URIs with single spaces between; more spaces
 * are passed over. CPM_OK; CPM_EPROTO "no-uri" or what cpm_msrp_uri_parse
 * says; CPM_ELIMIT "too-many-uris" or "uri-too-long". */
int cpm_msrp_path_parse(
		struct cpm_pl in, struct cpm_msrp_path *path_r, struct cpm_diag *diag);

/* Whether both have the same URIs in the same order, by cpm_msrp_uri_eq. */
bool cpm_msrp_path_eq(
		const struct cpm_msrp_path *a, const struct cpm_msrp_path *b);

/* The text of a path's first and last URI, not parsed; empty for none. */
struct cpm_pl cpm_msrp_path_first(struct cpm_pl path);
struct cpm_pl cpm_msrp_path_last(struct cpm_pl path);

#endif
