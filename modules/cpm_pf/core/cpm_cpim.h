/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_cpim.h - Message/CPIM (RFC 3862) as clients really send it.
 *
 * runs in:  anything; pure functions; one pass, no allocation
 * owns:     nothing; every slice points into the input
 *
 *     Message-headers CRLF Inner-MIME-headers CRLF content
 *     Header  = Header-name ":" *( ";" Parameter ) SP Header-value CRLF
 *
 * Read tolerantly (what is delivered is always the original bytes): a bare LF
 * as line end; "NS: imdn<urn>" without the space; any namespace prefix, by
 * its URN, also a default namespace; folded inner MIME headers; no inner
 * MIME headers at all; an unknown header is passed over.
 */

#ifndef CPM_CPIM_H
#define CPM_CPIM_H

#include "cpm_base.h"

#define CPM_CPIM_HEADERS_MAX 128 /* lines, outer and inner together */
#define CPM_CPIM_NS_MAX 8		 /* namespace declarations */

/* RFC 5438, 6.1: what the sender asked to be told. */
enum cpm_dispo
{
	CPM_DISPO_POSITIVE = 1,	  /* positive-delivery */
	CPM_DISPO_NEGATIVE = 2,	  /* negative-delivery */
	CPM_DISPO_PROCESSING = 4, /* processing */
	CPM_DISPO_DISPLAY = 8,	  /* display */
};

struct cpm_cpim
{
	struct cpm_pl from; /* values as written, trimmed; empty when absent */
	struct cpm_pl to;
	struct cpm_pl datetime;
	struct cpm_pl subject;
	struct cpm_pl message_id; /* imdn.Message-ID */
	unsigned dispo;			  /* enum cpm_dispo, or'ed */

	struct cpm_pl content_type; /* of the inner part */
	struct cpm_pl content_transfer_encoding;
	struct cpm_pl content_disposition;
	struct cpm_pl content;

	bool is_imdn; /* the inner type is message/imdn+xml */
};

/* CPM_OK; CPM_EPROTO with diag: "no-header", "no-colon", "bad-byte" (NUL or
 * another control character in a header), "no-separator" (no empty line ends
 * the message headers, or the inner headers), "bad-ns"; CPM_ELIMIT:
 * "too-many-headers", "too-many-ns". diag may be NULL. */
int cpm_cpim_parse(
		struct cpm_pl in, struct cpm_cpim *cpim_r, struct cpm_diag *diag);

/* Whether a Content-Type value names the type/subtype given in lower case,
 * whatever its case, spaces and parameters: ("Message/CPIM; x=y",
 * "message/cpim") is true. */
bool cpm_ctype_is(struct cpm_pl value, const char *type);

#endif
