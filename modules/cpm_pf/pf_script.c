/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_script.h"

#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_deposit.h"
#include "pf_event.h"
#include "pf_hint.h"
#include "pf_outcome.h"
#include "pf_pull.h"
#include "pf_prefs.h"
#include "pf_regevent.h"
#include "pf_route.h"
#include "pf_session.h"
#include "pf_sip.h"
#include "pf_stats.h"
#include "pf_store.h"
#include "pf_subscribe.h"
#include "pf_str.h"
#include "pf_usrloc.h"

#include "../../core/dprint.h"
#include "../../core/mem/mem.h"
#include "../../core/mod_fix.h"
#include "../../core/parser/parse_to.h"

/* An outcome of our own, without a decision. */
static int refuse(struct sip_msg *msg, int rc, unsigned code,
		const char *reason, const char *why)
{
	return pf_outcome_set(pf_outcome_new(msg), rc, code, reason, why);
}

#define OFFLINE_CHECK_MS 60000

static struct pf_prefs_buf prefs_buf;

/* ------------------------------------------------------------ cpm_queue */

static int port_put(
		void *ctx, const struct cpm_put *put, struct cpm_put_result *r_r)
{
	struct io_queue *q = pf_store();
	struct pf_note_route route = pf_note_route_get();
	struct cpm_put with = *put;

	if(q == NULL) {
		return CPM_EDOWN;
	}
	if(route.record && !route.recorded) {
		with.jobs |= CPM_JOB_STORE;
	}
	return pf_store_note("put", io_queue_put(q, &with, r_r));
}

static void queue_count(const struct cpm_outcome *out)
{
	if(out->rc == 1) {
		pf_stat(CPM_STAT_queued);
	} else if(out->rc == 2) {
		pf_stat(CPM_STAT_duplicate);
	} else if(out->rc == -2) {
		pf_stat(CPM_STAT_store_failures);
	} else if(cpm_pl_starts(cpm_pl_str(out->why), CPM_PL_LIT("quota-"))) {
		pf_stat(CPM_STAT_quota_refused);
	} else {
		pf_stat(CPM_STAT_refused);
	}
}

/* The provider may allow a user more or less than the module does. Where its
 * policy cannot be read the module's own bounds serve: nothing is decided. */
static struct cpm_accept_conf conf_of(struct cpm_pl uri, bool *notified_r)
{
	struct cpm_accept_conf conf = pf_conf.accept;
	struct cpm_policy policy;
	struct cpm_prefs prefs;
	struct cpm_pl aor;
	char buf[CPM_AOR_MAX];

	if(pf_facts_aor(uri, buf, &aor) != CPM_OK) {
		return conf;
	}
	/* only should this process die between the write and its hint is it found
	 * by that look: for whom nobody is registered it may come later */
	if(!pf_usrloc_is_registered(aor)
			&& pf_conf.deliver.check_max_ms > conf.check_in_ms) {
		conf.check_in_ms = pf_conf.deliver.check_max_ms < OFFLINE_CHECK_MS
								   ? pf_conf.deliver.check_max_ms
								   : OFFLINE_CHECK_MS;
	}
	if(pf_prefs_get(aor, &prefs_buf, &prefs, &policy, NULL) != CPM_OK) {
		return conf;
	}
	*notified_r = prefs.queue_mode == CPM_QUEUE_NOTIFY;
	if(policy.queue_max_messages > 0) {
		conf.queue_max_messages = policy.queue_max_messages;
	}
	if(policy.queue_max_bytes > 0) {
		conf.queue_max_bytes = policy.queue_max_bytes;
	}
	if(policy.max_expires_s > 0) {
		conf.max_expires_s = policy.max_expires_s;
	}
	return conf;
}

/* After the write: a client may have registered since the script looked. A
 * user without any needs no look: the next one that registers has its own,
 * which finds what is written by now. What is not for the clients of now is
 * brought to none of them: they are told of it, where the user is to be asked
 * or is always told. */
static void hint_post(struct cpm_pl aor, bool deferred, bool notified)
{
	bool ask = pf_note_route_get().ask;

	if((!deferred || ask || notified) && pf_usrloc_is_registered(aor)) {
		pf_hint_user_mode(PF_HINT_QUEUED, aor, CPM_LEASE_WHEN_DUE,
				deferred && ask ? PF_HINT_ASK : PF_HINT_AUTO);
	} else {
		/* who has subscribed need not be registered */
		pf_hint_user(PF_HINT_CHANGED, aor, CPM_LEASE_WHEN_DUE);
	}
}

static int queue_request(
		struct sip_msg *msg, const struct pf_sip *sip, struct cpm_pl reason)
{
	struct cpm_accept_ports ports = {NULL, port_put};
	bool notified = false;
	struct cpm_accept_conf conf = conf_of(sip->in.request_uri, &notified);
	struct pf_outcome *out;
	size_t cap = cpm_accept_scratch(&sip->in);
	char *scratch = pkg_malloc(cap);

	if(scratch == NULL) {
		PKG_MEM_ERROR;
		return refuse(msg, -2, 503, "Service Unavailable", "no-memory");
	}
	out = pf_outcome_new(msg);
	cpm_flow_accept(
			&ports, &conf, &sip->in, io_clock_wall_ms(), scratch, cap, &out->o);
	pkg_free(scratch);
	if(out->o.rc == 1) {
		hint_post(
				cpm_pl(out->o.aor, out->o.aor_len), sip->in.deferred, notified);
		pf_event(PF_EVENT_QUEUED, cpm_pl(out->o.aor, out->o.aor_len),
				cpm_pl(out->o.id, out->o.id_len), out->o.code, out->o.why);
	}
	LM_INFO("queue: %s aor=%.*s id=%.*s code=%u bytes=%u reason=%.*s\n",
			out->o.why, (int)out->o.aor_len, out->o.aor, (int)out->o.id_len,
			out->o.id, out->o.code, (unsigned)sip->in.body.n, (int)reason.n,
			reason.n > 0 ? reason.p : "");
	return out->o.rc;
}

static int ki_queue_reason(struct sip_msg *msg, str *reason)
{
	struct pf_sip sip;
	const char *why = "no-memory";
	int rc;

	if(msg->first_line.type != SIP_REQUEST
			|| msg->first_line.u.request.method_value != METHOD_MESSAGE) {
		LM_ERR("queue: cpm_queue() is for MESSAGE requests\n");
		return refuse(msg, -1, 405, "Method Not Allowed", "not-a-message");
	}
	pf_stat(CPM_STAT_received);
	rc = pf_sip_init(&sip, msg, &why);
	if(rc == CPM_OK) {
		queue_request(msg, &sip, pf_pl(*reason));
	} else if(rc == CPM_EPROTO) {
		refuse(msg, -1, 400, "Bad Request", why);
	} else {
		refuse(msg, -2, 503, "Service Unavailable", why);
	}
	pf_sip_fini(&sip);
	queue_count(&pf_outcome_get(msg)->o);
	return pf_outcome_get(msg)->o.rc;
}

static int ki_queue(struct sip_msg *msg)
{
	str none = STR_NULL;

	return ki_queue_reason(msg, &none);
}

int pf_script_queue(struct sip_msg *msg, char *reason, char *unused)
{
	str text = STR_NULL;

	if(reason != NULL && fixup_get_svalue(msg, (gparam_t *)reason, &text) < 0) {
		LM_ERR("queue: cpm_queue(): its argument has no value\n");
		return refuse(msg, -2, 503, "Service Unavailable", "bad-argument");
	}
	return ki_queue_reason(msg, &text);
}

/* ------------------------------------------------------------ cpm_store */

static int store_request(struct sip_msg *msg)
{
	struct pf_outcome *out = pf_outcome_new(msg);
	const char *why = "no-memory";
	struct pf_sip sip;
	int rc;

	pf_stat(CPM_STAT_received);
	rc = pf_sip_init(&sip, msg, &why);
	if(rc == CPM_OK) {
		pf_deposit(&sip, &out->o);
	} else if(rc == CPM_EPROTO) {
		pf_stat(CPM_STAT_refused);
		refuse(msg, -1, 400, "Bad Request", why);
	} else {
		pf_stat(CPM_STAT_store_failures);
		refuse(msg, -2, 503, "Service Unavailable", why);
	}
	pf_sip_fini(&sip);
	out = pf_outcome_get(msg);
	LM_INFO("store: %s aor=%.*s id=%.*s code=%u\n", out->o.why,
			(int)out->o.aor_len, out->o.aor, (int)out->o.id_len, out->o.id,
			out->o.code);
	return out->o.rc;
}

/* Without a Message Storage Server the queue keeps it. */
static int ki_store(struct sip_msg *msg)
{
	str reason = str_init("store");

	if(msg->first_line.type != SIP_REQUEST
			|| msg->first_line.u.request.method_value != METHOD_MESSAGE) {
		LM_ERR("store: cpm_store() is for MESSAGE requests\n");
		return refuse(msg, -1, 405, "Method Not Allowed", "not-a-message");
	}
	if(pf_deposit_is_on()) {
		return store_request(msg);
	}
	if(ki_queue_reason(msg, &reason) == 2) {
		pf_outcome_get(msg)->o.rc = 1;
	}
	return pf_outcome_get(msg)->o.rc;
}

int pf_script_store(struct sip_msg *msg, char *unused1, char *unused2)
{
	return ki_store(msg);
}

/* ------------------------------------------------------ cpm_flush_queue */

/* Of a REGISTER the To, of anything else the address it is for. */
static struct cpm_pl flush_target(struct sip_msg *msg)
{
	if(msg->first_line.type == SIP_REQUEST
			&& msg->first_line.u.request.method_value == METHOD_REGISTER) {
		if(parse_headers(msg, HDR_TO_F, 0) < 0 || msg->to == NULL
				|| parse_to_header(msg) < 0) {
			return CPM_PL_NULL;
		}
		return pf_pl(get_to(msg)->uri);
	}
	return pf_note_recipient(msg);
}

static int flush_uri(
		struct sip_msg *msg, struct cpm_pl uri, enum pf_hint_mode mode)
{
	char buf[CPM_AOR_MAX];
	struct cpm_queue_stat stat;
	struct io_queue *q = pf_store();
	struct cpm_pl aor;
	int rc;

	if(pf_facts_aor(uri, buf, &aor) != CPM_OK) {
		LM_WARN("flush: not an address of record: %.*s\n", (int)uri.n,
				uri.n > 0 ? uri.p : "");
		return refuse(msg, -1, 400, "Not An Address Of Record", "not-an-aor");
	}
	rc = q == NULL ? CPM_EDOWN
				   : pf_store_note("stat", io_queue_stat(q, aor, &stat));
	if(rc == CPM_ENOENT) {
		return refuse(msg, 2, 200, "OK", "nothing-queued");
	}
	if(rc != CPM_OK) {
		return refuse(msg, -2, 503, "Service Unavailable", "store-down");
	}
	pf_hint_user_mode(PF_HINT_FLUSH, aor, CPM_LEASE_ALL, mode);
	return refuse(msg, 1, 200, "OK", "delivery-scheduled");
}

static int ki_flush_mode(struct sip_msg *msg, str *aor, str *mode)
{
	struct cpm_pl m = pf_pl(*mode);
	struct cpm_pl uri = pf_pl(*aor);
	struct pf_regevent_outcome by_event;

	enum pf_hint_mode how = PF_HINT_AUTO;

	if(cpm_pl_eq(m, CPM_PL_LIT("push"))) {
		how = PF_HINT_PUSH;
	} else if(cpm_pl_eq(m, CPM_PL_LIT("notify"))) {
		how = PF_HINT_NOTIFY;
	} else if(m.n > 0 && !cpm_pl_eq(m, CPM_PL_LIT("auto"))) {
		LM_ERR("flush: cpm_flush_queue(): mode \"%.*s\"; it takes auto, push "
			   "or notify\n",
				(int)m.n, m.p);
		return refuse(msg, -1, 400, "Bad Mode", "bad-mode");
	}
	if(uri.n == 0 && pf_regevent_flush(msg, how, &by_event)) {
		return refuse(
				msg, by_event.rc, by_event.code, by_event.reason, by_event.why);
	}
	return flush_uri(msg, uri.n > 0 ? uri : flush_target(msg), how);
}

static int ki_flush_aor(struct sip_msg *msg, str *aor)
{
	str none = STR_NULL;

	return ki_flush_mode(msg, aor, &none);
}

static int ki_flush(struct sip_msg *msg)
{
	str none = STR_NULL;

	return ki_flush_mode(msg, &none, &none);
}

int pf_script_flush(struct sip_msg *msg, char *aor, char *mode)
{
	str aor_text = STR_NULL;
	str mode_text = STR_NULL;

	if((aor != NULL && fixup_get_svalue(msg, (gparam_t *)aor, &aor_text) < 0)
			|| (mode != NULL
					&& fixup_get_svalue(msg, (gparam_t *)mode, &mode_text)
							   < 0)) {
		LM_ERR("flush: cpm_flush_queue(): an argument has no value\n");
		return refuse(msg, -2, 503, "Service Unavailable", "bad-argument");
	}
	return ki_flush_mode(msg, &aor_text, &mode_text);
}

/* ---------------------------------------------------------- cpm_session */

/* What is for the function itself: in its dialogs, and what begins one. */
static int ki_session(struct sip_msg *msg)
{
	int rc = pf_session_request(msg);

	if(rc < 0) {
		rc = pf_subscribe_request(msg);
	}
	if(rc < 0) {
		rc = pf_regevent_request(msg);
	}
	return rc < 0 ? pf_pull_request(msg) : rc;
}

int pf_script_session(struct sip_msg *msg, char *unused1, char *unused2)
{
	return ki_session(msg);
}

/* ------------------------------------------------------------ cpm_reply */

static int ki_reply(struct sip_msg *msg)
{
	return pf_outcome_reply(msg);
}

int pf_script_reply(struct sip_msg *msg, char *unused1, char *unused2)
{
	return pf_outcome_reply(msg);
}

/* ------------------------------------------------------------------ KEMI */

#define NONE6                                                       \
	{                                                               \
		SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE, \
				SR_KEMIP_NONE, SR_KEMIP_NONE                        \
	}

/* clang-format off */
sr_kemi_t pf_script_kemi[] = {
	{ str_init("cpm_pf"), str_init("authorize"), SR_KEMIP_INT,
		pf_route_ki_authorize, NONE6 },
	{ str_init("cpm_pf"), str_init("route_recipient"), SR_KEMIP_INT,
		pf_route_ki_recipient, NONE6 },
	{ str_init("cpm_pf"), str_init("route_recipient_aor"), SR_KEMIP_INT,
		pf_route_ki_recipient_aor,
		{ SR_KEMIP_STR, SR_KEMIP_NONE, SR_KEMIP_NONE,
			SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE } },
	{ str_init("cpm_pf"), str_init("interwork"), SR_KEMIP_INT,
		pf_route_ki_interwork, NONE6 },
	{ str_init("cpm_pf"), str_init("queue"), SR_KEMIP_INT, ki_queue, NONE6 },
	{ str_init("cpm_pf"), str_init("queue_reason"), SR_KEMIP_INT,
		ki_queue_reason,
		{ SR_KEMIP_STR, SR_KEMIP_NONE, SR_KEMIP_NONE,
			SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE } },
	{ str_init("cpm_pf"), str_init("flush_queue"), SR_KEMIP_INT, ki_flush,
		NONE6 },
	{ str_init("cpm_pf"), str_init("flush_queue_aor"), SR_KEMIP_INT,
		ki_flush_aor,
		{ SR_KEMIP_STR, SR_KEMIP_NONE, SR_KEMIP_NONE,
			SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE } },
	{ str_init("cpm_pf"), str_init("flush_queue_mode"), SR_KEMIP_INT,
		ki_flush_mode,
		{ SR_KEMIP_STR, SR_KEMIP_STR, SR_KEMIP_NONE,
			SR_KEMIP_NONE, SR_KEMIP_NONE, SR_KEMIP_NONE } },
	{ str_init("cpm_pf"), str_init("store"), SR_KEMIP_INT, ki_store, NONE6 },
	{ str_init("cpm_pf"), str_init("session"), SR_KEMIP_INT, ki_session,
		NONE6 },
	{ str_init("cpm_pf"), str_init("reply"), SR_KEMIP_INT, ki_reply, NONE6 },
	{ {0, 0}, {0, 0}, 0, NULL, { 0, 0, 0, 0, 0, 0 } }
};
/* clang-format on */
