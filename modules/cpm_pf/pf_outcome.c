/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_outcome.h"

#include <stdio.h>

#include "core/cpm_wr.h"
#include "pf_conf.h"
#include "pf_facts.h"
#include "pf_store.h"
#include "pf_str.h"

#include "../../core/data_lump_rpl.h"
#include "../../core/dprint.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/usr_avp.h"
#include "../sl/sl.h"

#define RETRY_AFTER_S 5

static sl_api_t slb;

/* The last outcome, and of which request. */
static struct pf_outcome last;
static unsigned int last_id;
static int last_pid;

int pf_outcome_init(void)
{
	if(sl_load_api(&slb) < 0) {
		LM_ERR("sl: not loaded; loadmodule \"sl.so\" must come before "
			   "cpm_pf.so\n");
		return -1;
	}
	return 0;
}

struct pf_outcome *pf_outcome_get(struct sip_msg *msg)
{
	return last_pid == msg->pid && last_id == msg->id && last.o.rc != 0 ? &last
																		: NULL;
}

struct pf_outcome *pf_outcome_new(struct sip_msg *msg)
{
	struct pf_outcome *before = pf_outcome_get(msg);
	enum cpm_verdict verdict =
			before != NULL ? before->verdict : CPM_VERDICT_NONE;

	memset(&last, 0, sizeof(last));
	last.verdict = verdict;
	last_pid = msg->pid;
	last_id = msg->id;
	return &last;
}

void pf_outcome_keep(struct pf_outcome_kept *kept_r)
{
	kept_r->last = last;
	kept_r->id = last_id;
	kept_r->pid = last_pid;
}

void pf_outcome_back(const struct pf_outcome_kept *kept)
{
	last = kept->last;
	last_id = kept->id;
	last_pid = kept->pid;
}

int pf_outcome_set(struct pf_outcome *out, int rc, unsigned code,
		const char *reason, const char *why)
{
	out->o.rc = rc;
	out->o.code = code;
	out->o.reason = reason;
	out->o.why = why;
	out->o.retry_after_s = code == 503 ? RETRY_AFTER_S : 0;
	return rc;
}

/* ---------------------------------------------------------------- reply */

static void header_add(struct sip_msg *msg, const char *line, int n, size_t cap)
{
	if(n <= 0 || (size_t)n >= cap
			|| add_lump_rpl(msg, (char *)line, n, LUMP_RPL_HDR) == NULL) {
		LM_ERR("reply: a header could not be added\n");
	}
}

static int reply_send(struct sip_msg *msg, unsigned code, const char *text)
{
	str reason = {(char *)text, (int)strlen(text)};

	return slb.freply(msg, (int)code, &reason) < 0 ? -1 : 1;
}

int pf_outcome_reply(struct sip_msg *msg)
{
	const struct pf_outcome *out = pf_outcome_get(msg);
	char line[CPM_TYPES_MAX + 64];
	int n;

	if(out == NULL || out->o.code == 0) {
		LM_ERR("reply: cpm_reply() where no cpm_ function had an outcome that "
			   "is to be answered: 500 is sent\n");
		return reply_send(msg, 500, "Server Internal Error");
	}
	if(out->o.retry_after_s > 0) {
		n = snprintf(line, sizeof(line), "Retry-After: %u\r\n",
				out->o.retry_after_s);
		header_add(msg, line, n, sizeof(line));
	}
	if(out->warning > 0) {
		/* the OMA text stands inside the warning text of RFC 3261, 20.43 */
		n = snprintf(line, sizeof(line), "Warning: 399 %.*s \"%u %s\"\r\n",
				(int)pf_conf.accept.call_id_host.n,
				pf_conf.accept.call_id_host.p, out->warning, out->warning_text);
		header_add(msg, line, n, sizeof(line));
	}
	if(out->accept[0] != '\0') {
		n = snprintf(line, sizeof(line), "Accept: %s\r\n", out->accept);
		header_add(msg, line, n, sizeof(line));
	}
	return reply_send(msg, out->o.code, out->o.reason);
}

/* ---------------------------------------------------------------- notes */

static str note_names[PF_NOTE_COUNT_] = {
		[PF_NOTE_SENDER] = str_init("cpm_pf:sender"),
		[PF_NOTE_SERVICE] = str_init("cpm_pf:service"),
		[PF_NOTE_ROUTE_] = str_init("cpm_pf:route"),
};

static avp_t *note_find(enum pf_note note, avp_value_t *v)
{
	avp_name_t name;

	name.s = note_names[note];
	return search_first_avp(AVP_NAME_STR, name, v, NULL);
}

int pf_note_set(enum pf_note note, struct cpm_pl value)
{
	avp_value_t v;
	avp_name_t name;
	avp_t *old = note_find(note, &v);

	if(old != NULL && value.n > 0 && cpm_pl_eq(pf_pl(v.s), value)) {
		return 0;
	}
	if(value.n > 0) {
		name.s = note_names[note];
		v.s.s = (char *)value.p;
		v.s.len = (int)value.n;
		if(add_avp(AVP_NAME_STR | AVP_VAL_STR, name, v) < 0) {
			LM_ERR("script: no memory for a note\n");
			return -1;
		}
	}
	/* only now: the value may be part of it */
	if(old != NULL) {
		destroy_avp(old);
	}
	return 0;
}

struct cpm_pl pf_note_get(enum pf_note note)
{
	avp_value_t v;

	if(note_find(note, &v) == NULL || v.s.s == NULL || v.s.len <= 0) {
		return CPM_PL_NULL;
	}
	return cpm_pl(v.s.s, (size_t)v.s.len);
}

/* As text: a letter for "ask" or "deferred", one for the record, the AoR. */
#define ROUTE_LETTERS 2

int pf_note_route_set(struct pf_note_route route)
{
	char buf[ROUTE_LETTERS + CPM_AOR_MAX];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_chr(&w, route.ask ? 'a' : route.deferred ? 'd' : '-');
	cpm_wr_chr(&w, route.recorded ? 'R' : route.record ? 'r' : '-');
	cpm_wr_pl_put(&w, route.aor);
	return cpm_wr_ok(&w) ? pf_note_set(PF_NOTE_ROUTE_, cpm_wr_pl(&w)) : -1;
}

struct pf_note_route pf_note_route_get(void)
{
	struct cpm_pl text = pf_note_get(PF_NOTE_ROUTE_);
	struct pf_note_route route = {.aor = cpm_pl_from(text, ROUTE_LETTERS)};

	if(text.n >= ROUTE_LETTERS) {
		route.ask = text.p[0] == 'a';
		route.deferred = route.ask || text.p[0] == 'd';
		route.recorded = text.p[1] == 'R';
		route.record = route.recorded || text.p[1] == 'r';
	}
	return route;
}

struct cpm_pl pf_note_recipient(struct sip_msg *msg)
{
	struct cpm_pl noted = pf_note_route_get().aor;

	return noted.n > 0 ? noted : pf_facts_target(msg);
}

/* ---------------------------------------------------------------- $cpm() */

enum pv
{
	PV_CODE,
	PV_REASON,
	PV_WHY,
	PV_VERDICT,
	PV_ID,
	PV_USER,
	PV_QUEUE_SIZE,
	PV_QUEUE_BYTES,
};

static const struct
{
	const char *name;
	enum pv pv;
} pv_names[] = {
		{"code", PV_CODE},
		{"reason", PV_REASON},
		{"why", PV_WHY},
		{"verdict", PV_VERDICT},
		{"id", PV_ID},
		{"user", PV_USER},
		{"queue_size", PV_QUEUE_SIZE},
		{"queue_bytes", PV_QUEUE_BYTES},
};

int pf_outcome_pv_parse_name(pv_spec_p sp, str *in)
{
	size_t i;

	for(i = 0; i < sizeof(pv_names) / sizeof(pv_names[0]); i++) {
		if(cpm_pl_eq(pf_pl(*in), cpm_pl_str(pv_names[i].name))) {
			sp->pvp.pvn.u.isname.name.n = (int)pv_names[i].pv;
			sp->pvp.pvn.type = PV_NAME_INTSTR;
			sp->pvp.pvn.u.isname.type = 0;
			return 0;
		}
	}
	LM_ERR("$cpm(%.*s) is unknown; there are code, reason, why, verdict, id, "
		   "user, queue_size, queue_bytes\n",
			in->len, in->s);
	return -1;
}

/* Of the current recipient, as it is in Redis now. */
static int pv_queue(
		struct sip_msg *msg, pv_param_t *param, pv_value_t *res, bool bytes)
{
	char buf[CPM_AOR_MAX];
	struct cpm_queue_stat stat;
	struct cpm_pl aor;
	int rc = CPM_EDOWN;
	struct pf_outcome *out = pf_outcome_get(msg);

	if(out != NULL && out->event) {
		aor = cpm_pl(out->o.aor, out->o.aor_len);
	} else if(msg->first_line.type != SIP_REQUEST
			  || pf_facts_aor(pf_note_recipient(msg), buf, &aor) != CPM_OK) {
		return pv_get_null(msg, param, res);
	}
	if(pf_store() != NULL) {
		rc = pf_store_note("stat", io_queue_stat(pf_store(), aor, &stat));
	}
	if(rc == CPM_ENOENT) {
		return pv_get_uintval(msg, param, res, 0);
	}
	if(rc != CPM_OK) {
		return pv_get_null(msg, param, res);
	}
	return pv_get_uintval(
			msg, param, res, (unsigned)(bytes ? stat.bytes : stat.messages));
}

static int pv_text(struct sip_msg *msg, pv_param_t *param, pv_value_t *res,
		const char *text, size_t len)
{
	str s = {(char *)text, (int)len};

	return pv_get_strval(msg, param, res, &s);
}

int pf_outcome_pv_get(struct sip_msg *msg, pv_param_t *param, pv_value_t *res)
{
	enum pv pv = (enum pv)param->pvn.u.isname.name.n;
	struct pf_outcome *out = pf_outcome_get(msg);

	if(pv == PV_QUEUE_SIZE || pv == PV_QUEUE_BYTES) {
		return pv_queue(msg, param, res, pv == PV_QUEUE_BYTES);
	}
	if(out == NULL) {
		return pv_get_null(msg, param, res);
	}
	switch(pv) {
		case PV_CODE:
			return pv_get_uintval(msg, param, res, out->o.code);
		case PV_REASON:
			return pv_text(
					msg, param, res, out->o.reason, strlen(out->o.reason));
		case PV_WHY:
			return pv_text(msg, param, res, out->o.why, strlen(out->o.why));
		case PV_ID:
			return out->o.id_len > 0
						   ? pv_text(msg, param, res, out->o.id, out->o.id_len)
						   : pv_get_null(msg, param, res);
		case PV_USER:
			return out->o.aor_len > 0 ? pv_text(
						   msg, param, res, out->o.aor, out->o.aor_len)
									  : pv_get_null(msg, param, res);
		case PV_VERDICT:
			return out->verdict != CPM_VERDICT_NONE
						   ? pv_text(msg, param, res,
								   cpm_verdict_name(out->verdict),
								   strlen(cpm_verdict_name(out->verdict)))
						   : pv_get_null(msg, param, res);
		case PV_QUEUE_SIZE:
		case PV_QUEUE_BYTES:
			break;
	}
	return pv_get_null(msg, param, res);
}
