/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_multipart.h - a multipart body (RFC 2046, 5.1), part by part.
 *
 * runs in:  anything; pure functions; one pass, no allocation
 * owns:     nothing; every slice points into the input
 * never:    enters a multipart inside a part: that is a part like any other;
 *           decodes a part
 *
 *     Content-Type: multipart/mixed;boundary="b"
 *
 *     preamble, passed over
 *     --b                                     delimiter
 *     Content-Type: application/sdp           headers, or none
 *
 *     v=0 ...                                 body
 *     --b--                                   closing delimiter: required
 *     epilogue, passed over
 *
 * Read tolerantly: a bare LF as line end, blanks behind a delimiter, folded
 * headers, a boundary that should have been quoted. The line end before a
 * delimiter belongs to the delimiter. A line that begins as a delimiter and
 * goes on as none is refused: other readers take it for one, and would see
 * other parts.
 */

#ifndef CPM_MULTIPART_H
#define CPM_MULTIPART_H

#include "cpm_base.h"

#define CPM_MULTIPART_PARTS_MAX 8
#define CPM_MULTIPART_HEADERS_MAX 4096 /* bytes of one part's headers */
#define CPM_MULTIPART_BOUNDARY_MAX 70  /* RFC 2046, 5.1.1 */

struct cpm_multipart
{
	struct cpm_pl boundary; /* without the leading "--" */
	struct cpm_pl body;
	size_t pos; /* behind the last delimiter that was read */
	unsigned parts;
	bool closed;
};

struct cpm_multipart_part
{
	struct cpm_pl headers; /* the header lines, each with its line end */
	/* values, trimmed; where they were folded the line ends are still in
	 * them; p is NULL when absent */
	struct cpm_pl content_type;
	struct cpm_pl content_disposition;
	struct cpm_pl content_transfer_encoding;
	struct cpm_pl content_encoding; /* a header of SIP's: RFC 5621, 4 */
	struct cpm_pl body;
};

/* content_type: the value of the header of the whole. Looks for the first
 * delimiter. CPM_OK; CPM_EPROTO with diag: "not-multipart", "no-boundary",
 * "bad-boundary" (empty, longer than CPM_MULTIPART_BOUNDARY_MAX, a byte that
 * cannot be in one, or two boundaries), "no-part" (no delimiter, or the
 * closing one is the first), "bad-delimiter" (a line goes on behind the
 * boundary), "truncated". diag may be NULL; its offset is that in body, 0
 * where it is about content_type. */
int cpm_multipart_init(struct cpm_multipart *m_r, struct cpm_pl content_type,
		struct cpm_pl body, struct cpm_diag *diag);

/* The next part. CPM_OK; CPM_ENOENT: the closing delimiter was reached, there
 * is no more. CPM_EPROTO with diag: "truncated" (the input ends before the
 * closing delimiter), "bad-delimiter", "no-separator" (a delimiter where
 * headers were expected), "bad-header" (no colon, a blank in the name, or a
 * first line that continues none), "bad-byte" (a control character in the
 * headers), "repeated-header" (one of the four above comes twice). CPM_ELIMIT:
 * "too-many-parts", "headers-too-long". After a failure: again the same. */
int cpm_multipart_next(struct cpm_multipart *m,
		struct cpm_multipart_part *part_r, struct cpm_diag *diag);

/* The parameter of a header value such as "a/b; name=x; other=\"y;z\"":
 * without its quotes, but with the backslashes that stand between them. name
 * in any case. CPM_OK; CPM_ENOENT: there is none of this name; CPM_EPROTO:
 * it comes twice, or the parameters break the grammar (a quote that is not
 * closed, bytes behind a closing quote, no "=" in the one that is asked for). */
int cpm_multipart_param(
		struct cpm_pl value, const char *name, struct cpm_pl *param_r);

#endif
