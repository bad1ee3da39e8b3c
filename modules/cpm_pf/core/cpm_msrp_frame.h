/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_frame.h - MSRP requests and responses on the wire (RFC 4975, 9).
 *
 * runs in:  anything; no allocation, no socket, no clock
 * owns:     nothing; the header buffer is the caller's, one per connection
 *
 *     frame    = start CRLF 1*( header CRLF ) [ CRLF body CRLF ] end-line
 *     start    = "MSRP" SP tid SP ( METHOD / 3DIGIT [ SP comment ] )
 *     header   = token ":" [ SP ] value
 *     end-line = "-------" tid ( "$" / "+" / "#" ) CRLF
 *
 * Read tolerantly: CRLFs between frames; a response without a comment or
 * without paths; To-Path and From-Path in any place; a body whose end-line
 * follows the empty line at once; ids of up to CPM_MSRP_ID_MAX bytes.
 *
 * Two kinds of wrong. What loses the framing, or leaves nobody to answer,
 * ends the connection: a negative code and a diag. What is wrong with one
 * value makes head.bad a word, and the receiver answers 400.
 */

#ifndef CPM_MSRP_FRAME_H
#define CPM_MSRP_FRAME_H

#include "cpm_base.h"
#include "cpm_wr.h"

#define CPM_MSRP_ID_MAX 64		 /* of a transaction or message id */
#define CPM_MSRP_LINE_MAX 2048	 /* of a frame's head, with its CRLF */
#define CPM_MSRP_HEADERS_MAX 64	 /* lines of one frame */
#define CPM_MSRP_HEAD_BUF 4096	 /* what to give cpm_msrp_parser_init */
#define CPM_MSRP_HEAD_BUF_MIN 64 /* the least that it takes */

/* Byte positions are bounded so that no sum of two of them overflows. */
#define CPM_MSRP_POS_MAX (UINT64_C(1) << 61)
#define CPM_MSRP_STAR UINT64_MAX /* "*" as end or total */

enum cpm_msrp_method
{
	CPM_MSRP_RESPONSE = 0, /* head.code tells which */
	CPM_MSRP_SEND,
	CPM_MSRP_REPORT,
	CPM_MSRP_AUTH,		   /* RFC 4976 */
	CPM_MSRP_NICKNAME,	   /* RFC 7701 */
	CPM_MSRP_OTHER_METHOD, /* head.method_name */
};

enum cpm_msrp_failure_report
{
	CPM_MSRP_FR_YES = 0, /* the default: every request is answered */
	CPM_MSRP_FR_NO,		 /* none is */
	CPM_MSRP_FR_PARTIAL, /* only errors are told */
};

/* The continuation flag that ends a frame. */
enum cpm_msrp_flag
{
	CPM_MSRP_END = '$',
	CPM_MSRP_MORE = '+',
	CPM_MSRP_ABORTED = '#',
};

/* Positions as on the wire: 1-25/25 is the first 25 bytes; 1-0/0 none. */
struct cpm_msrp_byte_range
{
	uint64_t start;
	uint64_t end;	/* of the last byte; CPM_MSRP_STAR: not said */
	uint64_t total; /* CPM_MSRP_STAR: not known yet */
};

/* What stands before the body. Slices point into the parser's buffer and are
 * good until the first byte of the next frame has been parsed. */
struct cpm_msrp_head
{
	enum cpm_msrp_method method;
	unsigned code; /* of a response, 0..999 */
	struct cpm_pl tid;
	struct cpm_pl method_name; /* "SEND"; of a response its three digits */
	struct cpm_pl comment;	   /* of a response; mostly empty */
	struct cpm_pl to_path;	   /* in a request never empty, and parsable */
	struct cpm_pl from_path;
	struct cpm_pl message_id; /* the rest: empty when absent */
	struct cpm_pl content_type;
	struct cpm_pl content_disposition;
	struct cpm_pl content_id;
	struct cpm_pl content_description;
	struct cpm_pl use_path; /* RFC 4976 */
	struct cpm_pl expires;
	struct cpm_pl min_expires;
	struct cpm_pl max_expires;
	struct cpm_msrp_byte_range range; /* from 1 to star when absent */
	bool has_range;
	bool has_body; /* an empty line follows; the body may still be empty */
	bool success_report;
	enum cpm_msrp_failure_report failure_report;
	bool has_status;
	unsigned status_namespace; /* "Status: 000 200 OK" */
	unsigned status_code;
	/* NULL, or the first value that was wrong: "bad-message-id",
	 * "bad-byte-range", "range-too-large", "bad-success-report",
	 * "bad-failure-report", "bad-status", "duplicate-header" */
	const char *bad;
};

enum cpm_msrp_item_kind
{
	CPM_MSRP_NOTHING = 0, /* all input was taken, more is needed */
	CPM_MSRP_HEAD,		  /* parser.head is filled */
	CPM_MSRP_BODY,		  /* bytes: some of the body, never none */
	CPM_MSRP_TAIL,		  /* flag: the frame has ended */
};

struct cpm_msrp_item
{
	enum cpm_msrp_item_kind kind;
	struct cpm_pl bytes; /* into the input or into the parser; good until
						  * the next call */
	char flag;			 /* enum cpm_msrp_flag */
};

struct cpm_msrp_parser
{
	char *buf; /* the caller's: start line and headers of one frame */
	uint32_t cap;
	uint32_t n;
	uint32_t line; /* where the line begins that is being read */
	uint32_t lines;
	uint32_t seen; /* which headers there were, a bit each */
	uint8_t state;
	uint8_t mark_n;	   /* bytes of mark that the input has shown */
	uint8_t mark_len;  /* up to the flag */
	uint8_t mark_free; /* leading bytes that were no part of the body */
	char mark[CPM_MSRP_ID_MAX + 16]; /* CRLF "-------" tid flag CRLF */
	uint64_t body_n;
	uint64_t body_max;
	uint64_t taken; /* bytes since the beginning, for diag.at */
	struct cpm_msrp_head head;
	int rc;				  /* what ended it, or CPM_OK */
	struct cpm_diag diag; /* of that; at counts from the first byte of
						   * all to the end of the line that is wrong */
};

/* buf: cap bytes that live as long as the parser; a frame whose headers need
 * more is refused. body_max: bytes of one frame's body, 0 for no bound. */
void cpm_msrp_parser_init(
		struct cpm_msrp_parser *p, char *buf, size_t cap, uint64_t body_max);

/* Takes bytes of in up to the end of one item. Returns how many: call again
 * with the rest. item_r->kind NOTHING means that all of them were taken.
 *
 * Negative ends the connection, and every later call returns it again, with
 * parser.diag: CPM_EPROTO "bad-start" (no MSRP start line), "bad-tid",
 * "bad-method", "bad-code", "bad-line" (a CR or LF alone), "bad-byte" (a
 * control character in a header), "no-colon", "bad-name", "no-path" (a
 * request without To-Path or From-Path), "bad-path";
 * CPM_ELIMIT "line-too-long", "head-too-large", "too-many-headers",
 * "body-too-large". */
ptrdiff_t cpm_msrp_parser_next(struct cpm_msrp_parser *p, struct cpm_pl in,
		struct cpm_msrp_item *item_r);

/* Whether the input stands between two frames. */
bool cpm_msrp_parser_idle(const struct cpm_msrp_parser *p);

/* The session id of the URI in To-Path that is the receiver's own: of an
 * endpoint the last one, which is the only one. Empty when there is none.
 * A connection with several sessions is shared out by this. */
struct cpm_pl cpm_msrp_head_session(const struct cpm_msrp_head *head);

/* "n-m/t". CPM_OK; CPM_EPROTO: no such thing, n is 0, or the three do not
 * fit each other (1-0/t is the empty range); CPM_ELIMIT: a number is larger
 * than CPM_MSRP_POS_MAX. */
int cpm_msrp_byte_range_parse(
		struct cpm_pl in, struct cpm_msrp_byte_range *range_r);
void cpm_msrp_byte_range_put(
		struct cpm_wr *w, const struct cpm_msrp_byte_range *range);

/* Whether a is an id as RFC 4975 has it: 4 to 32 of letters, digits and
 * ". - + % =", the first a letter or digit. What goes out keeps to it. */
bool cpm_msrp_is_id(struct cpm_pl a);

/* ---- building ---- */

/* What a request's head is made of. Values are written as they are: no
 * control character may be in them. Empty ones and defaults are left out. */
struct cpm_msrp_req
{
	const char *method;
	struct cpm_pl tid;
	struct cpm_pl to_path;
	struct cpm_pl from_path;
	struct cpm_pl message_id;
	struct cpm_pl content_type; /* with one, an empty line and a body follow */
	struct cpm_msrp_byte_range range; /* left out when start is 0 */
	bool success_report;
	enum cpm_msrp_failure_report failure_report;
	unsigned status; /* of a REPORT; 0 for none */
};

/* The head; with a content type up to where the body begins. */
void cpm_msrp_req_put(struct cpm_wr *w, const struct cpm_msrp_req *req);

/* What ends a frame, behind its body or, without one, behind its headers. */
void cpm_msrp_tail_put(
		struct cpm_wr *w, struct cpm_pl tid, bool has_body, char flag);

/* A whole response to a request: to the first URI of its From-Path, from the
 * first one of its To-Path (RFC 4975, 7.2). */
void cpm_msrp_response_put(
		struct cpm_wr *w, const struct cpm_msrp_head *request, unsigned code);

/* "OK", "Stop sending", ...; "" for a code that RFC 4975 does not know. */
const char *cpm_msrp_code_text(unsigned code);

#endif
