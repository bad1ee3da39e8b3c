/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_presence.h"

#include "core/cpm_subs.h"
#include "pf_conf.h"
#include "pf_facts.h"
#include "pf_notify.h"
#include "pf_owner.h"
#include "pf_stats.h"
#include "pf_str.h"

#include "../../core/dprint.h"
#include "../../core/mem/mem.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/parser/parse_to.h"
#include "../../core/sr_module.h"
#include "../presence/bind_presence.h"

#define BODY_MAX 65536
/* What presence puts into a NOTIFY beside its body. */
#define REQUEST_REST 600

typedef int (*bind_f)(presence_api_t *api);

static presence_api_t api;
static bool serves;

bool pf_presence_serves(void)
{
	return serves;
}

static str event_name(void)
{
	return pf_str(cpm_pl_str(cpm_notify_event(pf_conf.notify_type)));
}

/* ---------------------------------------------------------------- the body */

static str *body_of(struct cpm_pl text)
{
	str *body = pkg_malloc(sizeof(*body));

	if(body != NULL) {
		body->s = pkg_malloc(text.n);
		body->len = (int)text.n;
	}
	if(body == NULL || body->s == NULL) {
		PKG_MEM_ERROR;
		if(body != NULL) {
			pkg_free(body);
		}
		return NULL;
	}
	memcpy(body->s, text.p, text.n);
	return body;
}

static void body_free(char *s)
{
	pkg_free(s);
}

/* Of a user as presence names it: the queue as it is now, and what others have
 * published. gone: which of those is taken back at this moment; -1: none. */
static str *body_get(str *user, str *host, str **published, int n, int gone)
{
	static char uri[CPM_AOR_MAX + 8], aor_buf[CPM_AOR_MAX];
	static char buf[BODY_MAX], merged[BODY_MAX];
	size_t max = (size_t)pf_params.notify_max_bytes;
	struct cpm_pl aor, last = CPM_PL_NULL;
	struct cpm_wr w, m;
	int i, rc;

	cpm_wr_init(&w, uri, sizeof(uri));
	cpm_wr_str(&w, "sip:");
	cpm_wr_pl_put(&w, pf_pl(*user));
	cpm_wr_chr(&w, '@');
	cpm_wr_pl_put(&w, pf_pl(*host));
	rc = cpm_wr_ok(&w) ? pf_facts_aor(cpm_wr_pl(&w), aor_buf, &aor)
					   : CPM_EPROTO;
	cpm_wr_init(&w, buf, sizeof(buf));
	if(rc == CPM_OK) {
		rc = pf_notify_body(aor, pf_conf.notify_type,
				max > REQUEST_REST ? max - REQUEST_REST : 0, &w, NULL);
	}
	cpm_wr_init(&m, merged, sizeof(merged));
	if(rc == CPM_OK) {
		cpm_wr_pl_put(&m, cpm_wr_pl(&w));
	}
	for(i = 0; i < n; i++) {
		if(i == gone || published[i] == NULL) {
			continue;
		}
		last = pf_pl(*published[i]);
		if(rc == CPM_OK && pf_conf.notify_type == CPM_NOTIFY_SUMMARY) {
			cpm_wr_init(&w, buf, sizeof(buf));
			cpm_wr_pl_put(&w, cpm_wr_pl(&m));
			cpm_wr_init(&m, merged, sizeof(merged));
			cpm_subs_summary_merge(cpm_wr_pl(&w), last, &m);
		}
	}
	if(rc == CPM_OK) {
		return cpm_wr_ok(&m) ? body_of(cpm_wr_pl(&m)) : NULL;
	}
	if(rc != CPM_ENOENT) {
		LM_WARN("presence: a NOTIFY goes without the queue's state result=%s\n",
				cpm_rc_name(rc));
	}
	return last.n > 0 ? body_of(last) : NULL;
}

/* ------------------------------------------------------------ who may ask */

/* The last line of defence: cpm_session() has answered whoever comes here and
 * is not the owner, if the script has asked it. */
static int subscribe_check(struct sip_msg *msg)
{
	char owner_buf[CPM_AOR_MAX], of_buf[CPM_AOR_MAX];
	struct cpm_pl owner, of;
	const char *why = "";

	if(msg->to == NULL || parse_to_header(msg) < 0
			|| get_to(msg)->tag_value.len > 0) {
		return 1;
	}
	return pf_owner(msg, owner_buf, &owner, &why) == CPM_OK
						   && pf_facts_aor(pf_facts_target(msg), of_buf, &of)
									  == CPM_OK
						   && cpm_pl_eq(owner, of)
				   ? 1
				   : -1;
}

/* Nobody but us knows what is in a queue. */
static int publish_refuse(struct sip_msg *msg)
{
	return -1;
}

/* ------------------------------------------------------------------- init */

static bool add(void)
{
	pres_ev_t ev;

	memset(&ev, 0, sizeof(ev));
	ev.name = event_name();
	ev.content_type =
			pf_str(cpm_pl_str(cpm_notify_content_type(pf_conf.notify_type)));
	ev.default_expires = CPM_SUBS_DEFAULT_S;
	ev.type = PUBL_TYPE;
	ev.agg_nbody = body_get;
	ev.free_body = body_free;
	ev.evs_subs_handl = subscribe_check;
	if(pf_conf.notify_type == CPM_NOTIFY_HISTORY) {
		ev.evs_publ_handl = publish_refuse;
	}
	return api.add_event(&ev) >= 0;
}

static bool feed(pres_ev_t *ev)
{
	if(ev->agg_nbody != NULL || ev->apply_auth_nbody != NULL) {
		return false;
	}
	ev->agg_nbody = body_get;
	ev->free_body = body_free;
	if(ev->evs_subs_handl == NULL) {
		ev->evs_subs_handl = subscribe_check;
	}
	return true;
}

/* Without a database (and without its cache of its own) presence serves other
 * modules, and no SUBSCRIBE. */
static bool is_library(void)
{
	struct sr_module *m = find_module_by_name("presence");
	modparam_t type = 0;
	str *db_url;
	int *cache;

	if(m == NULL) {
		return true;
	}
	db_url = find_param_export(m, "db_url", PARAM_STR, &type);
	cache = find_param_export(m, "publ_cache", INT_PARAM, &type);
	return db_url != NULL && db_url->len <= 0
		   && (cache == NULL || *cache != 2 /* PS_PCACHE_RECORD */);
}

int pf_presence_init(void)
{
	bind_f bind = (bind_f)find_export("bind_presence", 1, 0);
	str name = event_name();
	pres_ev_t *ev;
	bool ok;

	if(!pf_params.presence || bind == NULL || is_library()) {
		return 0;
	}
	if(bind(&api) < 0 || api.add_event == NULL || api.contains_event == NULL
			|| api.pres_refresh_watchers == NULL) {
		LM_ERR("presence: it is loaded, and cannot be bound\n");
		return -1;
	}
	ev = api.contains_event(&name, NULL);
	ok = ev != NULL ? feed(ev) : add();
	if(!ok) {
		LM_ERR("presence: the package %.*s is another module's, which makes "
			   "its bodies; parameter presence=0 leaves it alone\n",
				name.len, name.s);
		return -1;
	}
	serves = true;
	LM_NOTICE("presence: %s package=%.*s\n", ev != NULL ? "feeds" : "adds",
			name.len, name.s);
	return 0;
}

/* ----------------------------------------------------------------- change */

void pf_presence_changed(struct cpm_pl aor)
{
	str pres = pf_str(aor);
	str name = event_name();

	if(!serves || !cpm_pl_starts(aor, CPM_PL_LIT("sip:"))) {
		return;
	}
	if(api.pres_refresh_watchers(&pres, &name, 1) < 0) {
		LM_WARN("presence: watchers were not told aor=%.*s\n", pres.len,
				pres.s);
	}
}
