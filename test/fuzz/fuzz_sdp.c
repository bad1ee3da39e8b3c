/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_sdp.c - all slices lie inside the input; line ends do not matter; an
 * answer to any offer that can be MSRP has its m= lines, agrees with it, and
 * says what it was told to say; facts of a stranger bring no line along.
 */

#include <stdlib.h>

#include "cpm_sdp.h"

#define ROOM (4 * CPM_SDP_BYTES_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char room[ROOM];

static void must(bool property)
{
	if(!property)
		abort();
}

static void must_lie_in(struct cpm_pl a, struct cpm_pl whole)
{
	must(a.n == 0
			|| (a.p >= whole.p && a.n <= whole.n
					&& (size_t)(a.p - whole.p) <= whole.n - a.n));
}

static void check_slices(const struct cpm_sdp *sdp, struct cpm_pl in)
{
	const struct cpm_sdp_msrp *m = &sdp->msrp;

	must(sdp->lines_n > 0 && sdp->lines_n <= CPM_SDP_MEDIA_MAX);
	for(unsigned i = 0; i < sdp->lines_n; i++) {
		must_lie_in(sdp->lines[i].media, in);
		must_lie_in(sdp->lines[i].proto, in);
		must_lie_in(sdp->lines[i].fmts, in);
		must(sdp->lines[i].port <= 65535);
	}
	must_lie_in(sdp->sess_id, in);
	must_lie_in(sdp->origin_address, in);
	if(sdp->refused)
		return;
	must(m->index < sdp->lines_n && m->port > 0);
	must(m->uris_n > 0 && m->uris_n <= CPM_SDP_PATH_MAX);
	must_lie_in(m->address, in);
	must_lie_in(m->path, in);
	for(unsigned i = 0; i < m->uris_n; i++)
		must_lie_in(m->uris[i], m->path);
	must_lie_in(m->accept_types, in);
	must_lie_in(m->accept_wrapped_types, in);
	for(unsigned i = 0; i < m->fingerprints_n; i++) {
		must_lie_in(m->fingerprints[i].hash, in);
		must_lie_in(m->fingerprints[i].hex, in);
	}
}

static bool same(const struct cpm_sdp *a, const struct cpm_sdp *b)
{
	if(a->lines_n != b->lines_n || !a->refused != !b->refused
			|| (a->refused && strcmp(a->refused, b->refused) != 0))
		return false;
	return a->refused
		   || (a->msrp.index == b->msrp.index && a->msrp.dir == b->msrp.dir
				   && a->msrp.setup == b->msrp.setup
				   && a->msrp.uris_n == b->msrp.uris_n
				   && a->msrp.max_size == b->msrp.max_size
				   && cpm_pl_eq(a->msrp.path, b->msrp.path)
				   && cpm_pl_eq(a->msrp.address, b->msrp.address));
}

/* The same lines, each ended by CRLF. */
static void check_line_ends(struct cpm_pl in, const struct cpm_sdp *sdp)
{
	struct cpm_sdp again;
	struct cpm_pl rest = in;
	struct cpm_wr w;

	cpm_wr_init(&w, room, sizeof(room));
	while(rest.p) {
		struct cpm_pl line = cpm_pl_cut(&rest, '\n');

		if(line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if(line.n > 0) {
			cpm_wr_pl_put(&w, line);
			cpm_wr_str(&w, "\r\n");
		}
	}
	if(w.n > CPM_SDP_BYTES_MAX)
		return;
	must(cpm_sdp_parse(cpm_wr_pl(&w), &again, NULL) == CPM_OK);
	must(same(&again, sdp));
}

/* Ours, in answer to the stranger's: facts of his are given back to him. */
static void check_answer(const struct cpm_sdp *offer, bool active)
{
	const struct cpm_sdp_msrp *m = &offer->msrp;
	struct cpm_sdp_desc d = {.sess_id = 1,
			.address = CPM_PL_LIT("192.0.2.1"),
			.port = 2855,
			.tls = m->tls,
			.path = m->uris[0],
			.accept_types = CPM_PL_LIT("message/cpim"),
			.accept_wrapped_types = m->accept_wrapped_types,
			.dir = cpm_sdp_answer_dir(m->dir, CPM_SDP_SENDRECV),
			.setup = cpm_sdp_answer_setup(m->setup, active)};
	enum cpm_sdp_connects who;
	struct cpm_sdp answer;
	struct cpm_wr w;

	cpm_wr_init(&w, room, sizeof(room));
	must(cpm_sdp_answer(&d, offer, &w, NULL) == CPM_OK);
	/* it can outgrow the bound: then nobody of ours would have sent it */
	if(w.n > CPM_SDP_BYTES_MAX)
		return;
	must(cpm_sdp_parse(cpm_wr_pl(&w), &answer, NULL) == CPM_OK);
	must(!answer.refused && answer.lines_n == offer->lines_n);
	must(answer.msrp.index == m->index && answer.msrp.dir == d.dir);
	must(answer.msrp.setup == d.setup && answer.msrp.tls == m->tls);
	must(cpm_pl_eq(answer.msrp.path, d.path));
	must(cpm_sdp_connector(m->setup, answer.msrp.setup, &who, NULL) == CPM_OK);
	for(unsigned i = 0; i < answer.lines_n; i++)
		must(i == m->index || answer.lines[i].port == 0);
}

/* His, in answer to ours. */
static void check_agree(const struct cpm_sdp *answer)
{
	struct cpm_sdp_desc d = {
			.dir = CPM_SDP_SENDONLY, .setup = CPM_SDP_SETUP_ACTPASS};
	struct cpm_sdp_agreed agreed;
	struct cpm_diag diag = {.why = NULL};
	int rc = cpm_sdp_agree(&d, answer, &agreed, &diag);

	must(rc == CPM_OK ? !answer->refused : diag.why != NULL);
	must(rc != CPM_OK || agreed.dir == CPM_SDP_SENDONLY
			|| agreed.dir == CPM_SDP_INACTIVE);
}

/* Whatever bytes are asked for: one a= line more, or none. */
static void check_injection(struct cpm_pl in)
{
	struct cpm_sdp_desc d = {.address = CPM_PL_LIT("192.0.2.1"),
			.port = 1,
			.path = CPM_PL_LIT("msrp://a:1/x;tcp"),
			.accept_types = in,
			.dir = CPM_SDP_SENDONLY};
	struct cpm_sdp sdp;
	struct cpm_wr w;

	cpm_wr_init(&w, room, sizeof(room));
	if(in.n > CPM_SDP_LINE_MAX - 32 || cpm_sdp_offer(&d, &w, NULL) != CPM_OK)
		return;
	must(cpm_sdp_parse(cpm_wr_pl(&w), &sdp, NULL) == CPM_OK);
	must(!sdp.refused && sdp.msrp.dir == CPM_SDP_SENDONLY);
	must(cpm_pl_eq(sdp.msrp.accept_types, in));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_diag diag = {.why = NULL};
	struct cpm_sdp sdp;

	check_injection(in);
	if(cpm_sdp_parse(in, &sdp, &diag) != CPM_OK) {
		must(diag.why != NULL && diag.at <= size);
		return 0;
	}
	check_slices(&sdp, in);
	check_line_ends(in, &sdp);
	check_agree(&sdp);
	if(!sdp.refused) {
		check_answer(&sdp, false);
		check_answer(&sdp, true);
		must(cpm_sdp_accepts(&sdp.msrp, CPM_PL_LIT("a/b"), CPM_PL_NULL)
				>= cpm_sdp_accepts(
						&sdp.msrp, CPM_PL_LIT("a/b"), CPM_PL_LIT("c/d")));
	}
	return 0;
}
