/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_rpc.h"

#include "core/cpm_aor.h"
#include "pf_prefs.h"

#include "../../core/str.h"

struct aor_arg
{
	struct cpm_pl aor; /* canonical; empty: not given */
	char buf[CPM_AOR_MAX];
};

/* The next parameter, which may be left out, as an AoR. false: it is none,
 * and the fault is set. */
static bool arg_aor(rpc_t *rpc, void *ctx, struct aor_arg *arg)
{
	struct cpm_diag diag = {"", 0};
	str given = STR_NULL;

	arg->aor = CPM_PL_NULL;
	if(rpc->scan(ctx, "*.S", &given) < 1) {
		return true;
	}
	if(given.s == NULL || given.len <= 0
			|| cpm_aor_canon(cpm_pl(given.s, (size_t)given.len), arg->buf,
					   sizeof(arg->buf), &arg->aor, &diag)
					   != CPM_OK) {
		rpc->fault(ctx, 400,
				"\"%.*s\" is no address of record%s%s; it takes "
				"sip:user@domain or tel:number",
				given.len, given.s != NULL ? given.s : "",
				diag.why[0] != '\0' ? ": " : "", diag.why);
		return false;
	}
	return true;
}

static const char *reload_doc[] = {"cpm_pf.reload [aor]: preferences and "
								   "policies are read again from the database "
								   "before they are used again; of one user, "
								   "or of all",
		NULL};

static void reload(rpc_t *rpc, void *ctx)
{
	static str all = str_init("all");
	struct aor_arg arg;
	str what = all;
	void *reply;

	if(!arg_aor(rpc, ctx, &arg)) {
		return;
	}
	pf_prefs_reload(arg.aor);
	if(arg.aor.n > 0) {
		what.s = (char *)arg.aor.p;
		what.len = (int)arg.aor.n;
	}
	if(rpc->add(ctx, "{", &reply) < 0
			|| rpc->struct_add(reply, "S", "reloaded", &what) < 0) {
		rpc->fault(ctx, 500, "no memory for the answer");
	}
}

rpc_export_t pf_rpc[] = {
		{"cpm_pf.reload", reload, reload_doc, 0},
		{NULL, NULL, NULL, 0},
};
