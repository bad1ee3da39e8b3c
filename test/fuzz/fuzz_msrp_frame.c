/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_msrp_frame.c - a stream tells the same as a whole and byte by byte,
 * and no body holds the end-line of its own frame.
 */

#include <stdlib.h>

#include "cpm_msrp_frame.h"

#define HEAD_CAP 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

/* What a stream was, in few numbers. */
struct sum
{
	uint64_t heads, tails, hash, body;
	const char *why;
};

static bool is_inside(struct cpm_pl a, const char *buf)
{
	return a.n == 0 || (a.p >= buf && a.p + a.n <= buf + HEAD_CAP);
}

static void check_head(const struct cpm_msrp_head *h, const char *buf)
{
	must(is_inside(h->tid, buf) && h->tid.n > 0 && h->tid.n <= CPM_MSRP_ID_MAX);
	must(is_inside(h->to_path, buf) && is_inside(h->from_path, buf));
	must(is_inside(h->message_id, buf) && is_inside(h->content_type, buf));
	must(h->bad || h->message_id.n <= CPM_MSRP_ID_MAX);
	must(h->range.start >= 1 && h->range.start <= CPM_MSRP_POS_MAX);
	must(h->range.end == CPM_MSRP_STAR || h->range.end <= CPM_MSRP_POS_MAX);
	must(h->code <= 999 && h->status_code <= 999);
	if(h->method != CPM_MSRP_RESPONSE)
		must(h->to_path.n > 0 && h->from_path.n > 0);
}

static void run(struct cpm_pl in, size_t step, struct sum *sum)
{
	char *buf = malloc(HEAD_CAP), *piece;
	struct cpm_msrp_parser p;
	struct cpm_msrp_item item;
	ptrdiff_t n = 0;

	memset(sum, 0, sizeof(*sum));
	sum->hash = CPM_HASH_INIT;
	cpm_msrp_parser_init(&p, buf, HEAD_CAP, 100000);
	for(size_t at = 0; at < in.n && n >= 0; at += step) {
		struct cpm_pl rest =
				cpm_pl(in.p + at, in.n - at < step ? in.n - at : step);

		piece = malloc(rest.n);
		memcpy(piece, rest.p, rest.n);
		rest.p = piece;
		do {
			n = cpm_msrp_parser_next(&p, rest, &item);
			if(n < 0) {
				sum->why = p.diag.why;
				must(p.diag.why && p.diag.at <= in.n);
				break;
			}
			must((size_t)n <= rest.n);
			rest = cpm_pl(rest.p + n, rest.n - (size_t)n);
			sum->heads += item.kind == CPM_MSRP_HEAD;
			sum->tails += item.kind == CPM_MSRP_TAIL;
			if(item.kind == CPM_MSRP_HEAD) {
				check_head(&p.head, buf);
				sum->hash = cpm_hash64(sum->hash, p.head.tid);
				sum->hash = cpm_hash64(sum->hash, p.head.message_id);
			} else if(item.kind == CPM_MSRP_BODY) {
				must(item.bytes.n > 0);
				sum->body += item.bytes.n;
				sum->hash = cpm_hash64(sum->hash, item.bytes);
			} else if(item.kind == CPM_MSRP_TAIL)
				sum->hash = cpm_hash64(sum->hash, cpm_pl(&item.flag, 1));
		} while(item.kind != CPM_MSRP_NOTHING);
		free(piece);
	}
	free(buf);
	must(sum->tails <= sum->heads && sum->heads <= sum->tails + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct sum whole, bytes, some;

	if(size == 0)
		return 0;
	run(in, size, &whole);
	run(in, 1, &bytes);
	run(in, 1 + size / 3, &some);
	must(whole.heads == bytes.heads && whole.tails == bytes.tails);
	must(whole.why == bytes.why || (whole.why && bytes.why));
	must(whole.tails == some.tails && whole.heads == some.heads);
	if(!whole.why) {
		must(whole.hash == bytes.hash && whole.body == bytes.body);
		must(whole.hash == some.hash && whole.body == some.body);
	}
	return 0;
}
