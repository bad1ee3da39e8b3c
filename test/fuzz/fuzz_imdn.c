/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_imdn.c - whatever a CPIM and a To hold, the notification about it is a
 * notification: nothing of them becomes a header or an element of it, and
 * nobody is told of that one again. The input is a To, a line feed, a CPIM.
 */

#include <stdlib.h>

#include "cpm_imdn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

static size_t count(struct cpm_pl a, char c)
{
	size_t n = 0;

	for(size_t i = 0; i < a.n; i++)
		n += a.p[i] == c;
	return n;
}

static void check(const struct cpm_msg *m)
{
	struct cpm_cpim cpim;

	must(cpm_cpim_parse(m->body, &cpim, NULL) == CPM_OK);
	must(cpm_imdn_is_one(&cpim) && cpim.dispo == 0);
	must(cpm_pl_eq(cpim.message_id, m->id));
	must(cpm_pl_eq(cpim.from, m->from));
	/* the elements that there are, opened and closed */
	must(count(cpim.content, '<') == 16 && count(cpim.content, '>') == 16);
	must(cpm_pl_ctl(cpim.to) == cpim.to.n);
	for(size_t i = 0; i < cpim.content.n; i++)
		must((unsigned char)cpim.content.p[i] < 0x7f);
	must(!cpm_imdn_due(m, CPM_IMDN_STORED));
	must(!cpm_imdn_due(m, CPM_IMDN_FAILED));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char buf[CPM_IMDN_BYTES_MAX];
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_imdn_ask ask = {.now_ms = 1774000000123, .life_ms = 1000};
	struct cpm_msg of = {.dispo = CPM_DISPO_PROCESSING | CPM_DISPO_NEGATIVE};
	struct cpm_msg m;

	of.to = cpm_pl_cut(&in, '\n');
	of.body = in;
	of.aor = CPM_PL_LIT("sip:bob@example.org");
	of.id = CPM_PL_LIT("id");
	of.originator = CPM_PL_LIT("sip:alice@example.org");
	of.content_type = CPM_PL_LIT("message/cpim");
	ask.of = &of;
	ask.to = of.originator;
	ask.host = CPM_PL_LIT("example.org");
	for(int kind = CPM_IMDN_STORED; kind <= CPM_IMDN_FAILED; kind++) {
		ask.kind = (enum cpm_imdn_kind)kind;
		if(cpm_imdn_write(&ask, buf, sizeof(buf), &m) == CPM_OK)
			check(&m);
	}
	return 0;
}
