/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_msg.c - what decodes, encodes to a blob that decodes to the same.
 */

#include <stdlib.h>

#include "cpm_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static bool is_same(const struct cpm_msg *a, const struct cpm_msg *b)
{
	return cpm_pl_eq(a->id, b->id) && cpm_pl_eq(a->aor, b->aor)
		   && cpm_pl_eq(a->call_id, b->call_id) && cpm_pl_eq(a->from, b->from)
		   && cpm_pl_eq(a->to, b->to) && cpm_pl_eq(a->subject, b->subject)
		   && cpm_pl_eq(a->content_type, b->content_type)
		   && cpm_pl_eq(a->conversation_id, b->conversation_id)
		   && cpm_pl_eq(a->contribution_id, b->contribution_id)
		   && cpm_pl_eq(a->headers, b->headers) && cpm_pl_eq(a->body, b->body)
		   && a->received_ms == b->received_ms && a->expires_ms == b->expires_ms
		   && a->fingerprint == b->fingerprint && a->flags == b->flags
		   && a->dispo == b->dispo;
}

/* The encoder leaves out unknown and empty fields, so that it never needs
 * more room than the input took. */
static void check_codec(const struct cpm_msg *m, size_t size)
{
	size_t need = cpm_msg_encoded_len(m);
	char *blob = malloc(need);
	struct cpm_msg again;
	struct cpm_wr w;

	must(blob != NULL && need <= size);
	cpm_wr_init(&w, blob, need);
	must(cpm_msg_encode(m, &w, NULL) == CPM_OK && w.n == need);
	must(cpm_msg_decode(cpm_wr_pl(&w), &again, NULL) == CPM_OK);
	must(is_same(m, &again) && again.body_len == m->body.n);
	must(cpm_msg_fingerprint(m) == cpm_msg_fingerprint(&again));
	cpm_wr_init(&w, blob, need - 1);
	must(cpm_msg_encode(m, &w, NULL) == CPM_ENOMEM);
	free(blob);
}

static void check_delivery(const struct cpm_msg *m)
{
	size_t cap = m->headers.n + 256;
	char *buf = malloc(cap);
	uint64_t last = m->expires_ms ? m->expires_ms - 1 : UINT64_MAX;
	struct cpm_wr w;

	must(buf != NULL);
	cpm_wr_init(&w, buf, cap);
	must(cpm_msg_delivery_headers(m, last, true, &w) == CPM_OK);
	must(w.n == 0 || buf[w.n - 1] == '\n');
	cpm_wr_init(&w, buf, cap);
	if(m->expires_ms)
		must(cpm_msg_delivery_headers(m, last + 1, true, &w) == CPM_ENOENT
				&& w.n == 0);
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_diag diag = {NULL, 0};
	struct cpm_msg m;

	(void)cpm_msg_header_kept(in);
	if(cpm_msg_decode(in, &m, &diag) != CPM_OK) {
		must(diag.why != NULL && diag.at <= size);
		return 0;
	}
	must(cpm_msg_id_ok(m.id) && m.aor.n > 0);
	must(m.body.n == 0 || m.body.n == m.body_len);
	check_codec(&m, size);
	check_delivery(&m);
	return 0;
}
