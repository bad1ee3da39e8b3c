/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_multipart.c - parts lie inside the input, in order and apart; their
 * bytes put into a new multipart come out again.
 *
 * Input: the Content-Type, a line end, the body.
 */

#include <stdlib.h>

#include "cpm_actions.h"
#include "cpm_multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

/* Inside of whole; the value of a header also trimmed. */
static void check_inside(struct cpm_pl a, struct cpm_pl whole)
{
	must(a.n == 0
			|| (a.p >= whole.p && a.n <= whole.n
					&& (size_t)(a.p - whole.p) <= whole.n - a.n));
}

static void check_part(const struct cpm_multipart_part *p, struct cpm_pl body,
		const char *behind)
{
	const struct cpm_pl values[] = {p->content_type, p->content_disposition,
			p->content_transfer_encoding, p->content_encoding};

	check_inside(p->headers, body);
	check_inside(p->body, body);
	must(p->headers.p >= behind && p->body.p > p->headers.p);
	must(p->headers.n <= CPM_MULTIPART_HEADERS_MAX);
	for(size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		check_inside(values[i], p->headers);
		must(cpm_pl_eq(values[i], cpm_pl_trim(values[i])));
		must(cpm_pl_chr(values[i], '\0') == values[i].n);
	}
}

/* The same part alone, with no preamble and nothing behind it. */
static void check_alone(
		const struct cpm_multipart *m, const struct cpm_multipart_part *p)
{
	size_t cap = p->headers.n + p->body.n + 2 * m->boundary.n + 32;
	char *buf = malloc(cap), type[CPM_MULTIPART_BOUNDARY_MAX + 32];
	struct cpm_wr w, t;
	struct cpm_multipart again;
	struct cpm_multipart_part q;

	must(buf != NULL);
	cpm_wr_init(&t, type, sizeof(type));
	cpm_wr_str(&t, "Multipart/X;Boundary=\"");
	cpm_wr_pl_put(&t, m->boundary);
	cpm_wr_chr(&t, '"');
	cpm_wr_init(&w, buf, cap);
	cpm_wr_str(&w, "--");
	cpm_wr_pl_put(&w, m->boundary);
	cpm_wr_str(&w, "\r\n");
	cpm_wr_pl_put(&w, p->headers);
	cpm_wr_str(&w, "\r\n");
	cpm_wr_pl_put(&w, p->body);
	cpm_wr_str(&w, "\r\n--");
	cpm_wr_pl_put(&w, m->boundary);
	cpm_wr_str(&w, "--");
	must(cpm_wr_ok(&w) && cpm_wr_ok(&t));
	/* an empty line that ended in LF is one byte longer now */
	if(p->headers.n < CPM_MULTIPART_HEADERS_MAX - 1) {
		must(cpm_multipart_init(&again, cpm_wr_pl(&t), cpm_wr_pl(&w), NULL)
				== CPM_OK);
		must(cpm_multipart_next(&again, &q, NULL) == CPM_OK);
		must(cpm_pl_eq(q.headers, p->headers) && cpm_pl_eq(q.body, p->body));
		must(cpm_pl_eq(q.content_type, p->content_type));
		must(cpm_multipart_next(&again, &q, NULL) == CPM_ENOENT);
	}
	free(buf);
}

static void check_invite(struct cpm_pl type, struct cpm_pl body)
{
	struct cpm_pl sdp, xml;
	struct cpm_diag diag = {NULL, 0};
	int rc = cpm_actions_body(type, body, &sdp, &xml, &diag);

	if(rc != CPM_OK) {
		must(diag.why != NULL && diag.at <= body.n);
		must(cpm_actions_status(rc, diag.why) >= 400);
		return;
	}
	must(sdp.p != NULL);
	check_inside(sdp, body);
	check_inside(xml, body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl body = cpm_pl((const char *)data, size);
	struct cpm_pl type = cpm_pl_cut(&body, '\n');
	struct cpm_diag diag = {NULL, 0};
	struct cpm_multipart m;
	struct cpm_multipart_part p;
	const char *behind = body.p;
	int rc = cpm_multipart_init(&m, type, body, &diag);

	check_invite(type, body);
	while(rc == CPM_OK) {
		rc = cpm_multipart_next(&m, &p, &diag);
		if(rc == CPM_OK) {
			check_part(&p, body, behind);
			check_alone(&m, &p);
			behind = p.body.p + p.body.n;
		}
	}
	must(rc == CPM_ENOENT || (diag.why != NULL && diag.at <= body.n));
	return 0;
}
