/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_imap.h - the little of IMAP4 (RFC 3501) that depositing takes: how a
 * command's arguments are written, and what a server answers.
 *
 * runs in:  anything; pure functions, no allocation
 * owns:     nothing; every slice points into the input
 *
 *     response      = "*" SP data CRLF / "+" SP text CRLF
 *                     / tag SP ("OK" / "NO" / "BAD") SP text CRLF
 *     text          = ["[" code [SP args] "]" SP] human text
 *     data          = status SP text / words, strings and literals
 *     literal       = "{" number "}" CRLF *OCTET
 *
 * Server and network are not believed: every length is bounded.
 */

#ifndef CPM_IMAP_H
#define CPM_IMAP_H

#include "cpm_base.h"
#include "cpm_wr.h"

#define CPM_IMAP_REPLY_MAX 65536 /* one response, its literals included */

enum cpm_imap_kind
{
	CPM_IMAP_DATA,	   /* "* ..." */
	CPM_IMAP_CONTINUE, /* "+ ..." */
	CPM_IMAP_TAGGED,
};

struct cpm_imap_reply
{
	enum cpm_imap_kind kind;
	struct cpm_pl tag;	/* TAGGED */
	struct cpm_pl word; /* OK NO BAD BYE PREAUTH, or the first of the data:
						 * SEARCH, LIST, or a number */
	struct cpm_pl code; /* of a status: "TRYCREATE", with its arguments;
						 * empty: none */
	struct cpm_pl rest; /* behind word, without the CRLF at the end */
};

/* The next response at the beginning of in: bytes consumed.
 * CPM_EAGAIN: it is not whole yet; CPM_EPROTO: that is no IMAP; CPM_ELIMIT: it
 * is, or would become, longer than CPM_IMAP_REPLY_MAX. */
int cpm_imap_next(struct cpm_pl in, struct cpm_imap_reply *r_r);

/* Whether a status has this code, whatever its arguments. */
bool cpm_imap_has_code(const struct cpm_imap_reply *r, const char *code);

/* Of "* LIST (..) "/" ..": the delimiter of levels; 0: there are none.
 * CPM_OK; CPM_EPROTO. */
int cpm_imap_list_delim(const struct cpm_imap_reply *r, char *delim_r);

/* Of "* SEARCH 3 17": numbers, at most cap, the last ones of more. */
size_t cpm_imap_search(
		const struct cpm_imap_reply *r, uint32_t *numbers, size_t cap);

/* The first literal of a reply. false: it has none. */
bool cpm_imap_literal(const struct cpm_imap_reply *r, struct cpm_pl *lit_r);

/* "a \"quoted\" string". CPM_OK; CPM_EPROTO: it cannot be one (8 bit, CR, LF,
 * NUL), nothing was written. */
int cpm_imap_quoted(struct cpm_wr *w, struct cpm_pl a);

/* "22-Nov-2026 22:39:44 +0000", with its quotes: APPEND's date. */
void cpm_imap_date(struct cpm_wr *w, uint64_t ms);

#endif
