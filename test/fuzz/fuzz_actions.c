/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_actions.c - whatever the XML, what is taken from it are actions that
 * can be carried out, once each; written anew it says the same.
 */

#include <stdlib.h>

#include "cpm_msg.h"
#include "io_actions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static void check_list(const struct cpm_actions *a)
{
	must(a->listed && a->count <= CPM_ACTIONS_MAX);
	must(a->dflt == CPM_ACT_KEEP
			|| (a->has_default && a->dflt == CPM_ACT_RETRIEVE));
	for(size_t i = 0; i < a->count; i++) {
		must(cpm_msg_id_ok(a->items[i].id));
		must((size_t)a->items[i].action <= CPM_ACT_KEEP);
		for(size_t k = 0; k < i; k++)
			must(!cpm_pl_eq(a->items[i].id, a->items[k].id));
	}
}

/* Every byte of an id as a character reference, and the other quotes. */
static void write_again(const struct cpm_actions *a, struct cpm_wr *w)
{
	cpm_wr_str(w, "<q:queue-actions xmlns:q='" CPM_ACTIONS_NS "'");
	if(a->has_default) {
		cpm_wr_str(w, " default='");
		cpm_wr_str(w, cpm_action_name(a->dflt));
		cpm_wr_chr(w, '\'');
	}
	cpm_wr_chr(w, '>');
	for(size_t i = 0; i < a->count; i++) {
		cpm_wr_str(w, "<q:message action='");
		cpm_wr_str(w, cpm_action_name(a->items[i].action));
		cpm_wr_str(w, "' id='");
		for(size_t k = 0; k < a->items[i].id.n; k++) {
			cpm_wr_str(w, "&#");
			cpm_wr_u64(w, (unsigned char)a->items[i].id.p[k]);
			cpm_wr_chr(w, ';');
		}
		cpm_wr_str(w, "'/>");
	}
	cpm_wr_str(w, "</q:queue-actions>");
}

static void check_again(const struct cpm_actions *a)
{
	static char buf[CPM_ACTIONS_BYTES_MAX];
	struct io_actions *again = NULL;
	const struct cpm_actions *b;
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	write_again(a, &w);
	if(!cpm_wr_ok(&w))
		return;
	must(io_actions_parse(cpm_wr_pl(&w), &again, NULL) == CPM_OK);
	b = io_actions_get(again);
	must(b->count == a->count && b->has_default == a->has_default
			&& b->dflt == a->dflt);
	for(size_t i = 0; i < a->count; i++)
		must(cpm_pl_eq(b->items[i].id, a->items[i].id)
				&& b->items[i].action == a->items[i].action);
	io_actions_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl xml = cpm_pl((const char *)data, size);
	struct cpm_diag diag = {NULL, 0};
	struct io_actions *a = NULL;
	int rc = io_actions_parse(xml, &a, &diag);

	if(rc != CPM_OK) {
		must(a == NULL && diag.why != NULL && diag.at <= size);
		must(rc == CPM_EPROTO || rc == CPM_ELIMIT);
		return 0;
	}
	must(cpm_actions_scan(xml, NULL) == CPM_OK);
	check_list(io_actions_get(a));
	check_again(io_actions_get(a));
	io_actions_free(&a);
	return 0;
}
