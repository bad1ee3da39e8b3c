/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_event.h"

#include "pf_conf.h"
#include "pf_outcome.h"
#include "pf_store.h"

#include "../../core/action.h"
#include "../../core/dprint.h"
#include "../../core/fmsg.h"
#include "../../core/kemi.h"
#include "../../core/receive.h"
#include "../../core/route.h"
#include "../../core/script_cb.h"

static str names[PF_EVENT_COUNT_] = {
		[PF_EVENT_QUEUED] = str_init("cpm_pf:queued"),
		[PF_EVENT_DELIVERED] = str_init("cpm_pf:delivered"),
		[PF_EVENT_EXPIRED] = str_init("cpm_pf:expired"),
		[PF_EVENT_SESSION_END] = str_init("cpm_pf:session-end"),
		[PF_EVENT_DEAD] = str_init("cpm_pf:dead"),
		[PF_EVENT_NOTIFY] = str_init("cpm_pf:notify"),
};

static int routes[PF_EVENT_COUNT_]; /* -1: none */

/* The scanner of Kamailio 5.6 knows no '_' before the ':' of an event route's
 * name: of event_route[cpm_pf:queued] it keeps what is behind the '_'. */
static int route_of(char *name)
{
	int route = route_lookup(&event_rt, name);

	if(route < 0) {
		route = route_lookup(&event_rt, name + sizeof("cpm_") - 1);
	}
	return route >= 0 && event_rt.rlist[route] != NULL ? route : -1;
}

int pf_event_init(void)
{
	size_t i;

	for(i = 0; i < PF_EVENT_COUNT_; i++) {
		routes[i] = route_of(names[i].s);
	}
	return 0;
}

static void run(enum pf_event event, struct sip_msg *fmsg)
{
	str callback = {
			pf_params.event_callback, (int)strlen(pf_params.event_callback)};
	sr_kemi_eng_t *engine = callback.len > 0 ? sr_kemi_eng_get() : NULL;
	int before = get_route_type();
	void *lent = pf_store_lend();

	set_route_type(EVENT_ROUTE);
	if(routes[event] >= 0) {
		run_top_route(event_rt.rlist[routes[event]], fmsg, NULL);
	} else if(engine != NULL
			  && sr_kemi_route(
						 engine, fmsg, EVENT_ROUTE, &callback, &names[event])
						 < 0) {
		LM_ERR("event: %s failed for %s\n", callback.s, names[event].s);
	}
	set_route_type(before);
	pf_store_back(lent);
}

void pf_event(enum pf_event event, struct cpm_pl aor, struct cpm_pl id,
		unsigned code, const char *why)
{
	struct pf_outcome_kept kept;
	struct cpm_outcome o;
	struct pf_outcome *out;
	struct sip_msg *fmsg;

	if(routes[event] < 0 && pf_params.event_callback[0] == '\0') {
		return;
	}
	if(faked_msg_init() < 0) {
		LM_ERR("event: no request to run %s with\n", names[event].s);
		return;
	}
	/* the slices may lie in the outcome that is put aside */
	memset(&o, 0, sizeof(o));
	memcpy(o.aor, aor.p, aor.n);
	o.aor_len = aor.n;
	memcpy(o.id, id.p, id.n);
	o.id_len = id.n;
	fmsg = faked_msg_next();
	fmsg->parsed_orig_ruri_ok = 0;
	pf_outcome_keep(&kept);
	out = pf_outcome_new(fmsg);
	out->o = o;
	out->event = true;
	pf_outcome_set(out, 1, code, "", why);
	run(event, fmsg);
	if(event != PF_EVENT_QUEUED) {
		/* no request is at hand that would take along what the route has set
		 * ($avp and its kin) when it ends: it would stay for ever */
		ksr_msg_env_reset();
	}
	pf_outcome_back(&kept);
}
