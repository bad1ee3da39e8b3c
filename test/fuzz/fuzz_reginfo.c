/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_reginfo.c - a registrar's document: what is read of it is within its
 * bounds, and what is stored of it is read again.
 */

#include <stdlib.h>

#include "io_reginfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if(!ok) {
		abort();
	}
}

static void check_contact(const struct cpm_reg_contact *c)
{
	static char buf[CPM_REG_RECORD_MAX];
	struct cpm_reg_contact again;
	struct cpm_wr w;
	int rc;

	must(c->uri.n > 0 && c->uri.n <= CPM_REGINFO_URI_MAX);
	must(cpm_pl_ctl(c->uri) == c->uri.n);
	must(c->params.n <= CPM_REGINFO_PARAMS_MAX);
	must(cpm_pl_ctl(c->params) == c->params.n);
	must(c->q >= -1 && c->q <= 1000);
	must(c->expires_s <= CPM_REGINFO_EXPIRES_MAX_S);
	(void)cpm_reg_takes(c->params, CPM_PL_LIT("MESSAGE"));
	cpm_wr_init(&w, buf, sizeof(buf));
	rc = cpm_reg_record_put(c, &w);
	if(rc != CPM_OK) {
		must(rc == CPM_EPROTO || rc == CPM_ELIMIT);
		return;
	}
	must(cpm_reg_record_read(cpm_wr_pl(&w), &again) == CPM_OK);
	must(cpm_pl_eq(again.uri, c->uri) && cpm_pl_eq(again.params, c->params)
			&& cpm_pl_eq(again.path, c->path) && again.q == c->q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);
	struct cpm_diag diag = {NULL, 0};
	struct io_reginfo *r = NULL;
	struct cpm_reg_substate state;
	const struct cpm_reginfo *info;
	size_t all = 0;
	int rc = io_reginfo_parse(in, &r, &diag);

	if(cpm_reg_substate_parse(in, &state) == CPM_OK) {
		must(!state.has_expires
				|| state.expires_s <= CPM_REGINFO_EXPIRES_MAX_S);
	}
	if(rc != CPM_OK) {
		must(r == NULL && diag.why != NULL && diag.at <= size);
		must(rc == CPM_EPROTO || rc == CPM_ELIMIT);
		return 0;
	}
	info = io_reginfo_get(r);
	must(info->count <= CPM_REGINFO_REGISTRATIONS_MAX);
	for(size_t i = 0; i < info->count; i++) {
		must(info->registrations[i].aor.n > 0);
		for(size_t j = 0; j < info->registrations[i].count; j++) {
			check_contact(&info->registrations[i].contacts[j]);
			all++;
		}
	}
	must(all <= CPM_REGINFO_CONTACTS_MAX);
	io_reginfo_free(&r);
	must(r == NULL);
	return 0;
}
