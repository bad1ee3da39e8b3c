/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_decide.h"

const char *cpm_verdict_name(enum cpm_verdict v)
{
	static const char *const names[] = {
			[CPM_VERDICT_NONE] = "none",
			[CPM_VERDICT_DELIVER] = "deliver",
			[CPM_VERDICT_QUEUE] = "queue",
			[CPM_VERDICT_STORE] = "store",
			[CPM_VERDICT_INTERWORK] = "interwork",
			[CPM_VERDICT_REJECT] = "reject",
			[CPM_VERDICT_DISCARD] = "discard",
			[CPM_VERDICT_UNKNOWN] = "unknown",
	};

	return (size_t)v < sizeof(names) / sizeof(names[0]) ? names[v] : "?";
}

/* ---------------------------------------------------------------- rules */

static bool originator_holds(
		const struct cpm_rule *rule, const struct cpm_msg_facts *m)
{
	struct cpm_pl host = cpm_aor_host(m->originator);

	switch(rule->orig_kind) {
		case CPM_ORIG_ANY:
			return true;
		case CPM_ORIG_ANONYMOUS:
			return m->anonymous;
		case CPM_ORIG_EXACT:
			return cpm_pl_eq(m->originator, rule->originator)
				   || (m->originator_user.n > 0
						   && cpm_pl_eq(m->originator_user, rule->originator));
		case CPM_ORIG_DOMAIN:
			return host.n > 0 && cpm_pl_eq(host, rule->originator);
		case CPM_ORIG_PREFIX:
			return cpm_pl_starts(m->originator, rule->originator);
	}
	return false;
}

/* type: "text/plain", or "text/" for all of text. In a value there may be space
 * around the slash (RFC 3261, 25.1: SLASH). */
static bool type_is(struct cpm_pl value, struct cpm_pl type)
{
	struct cpm_pl rest = value;
	struct cpm_pl sub = cpm_pl_cut(&rest, ';');
	struct cpm_pl name = cpm_pl_cut(&sub, '/');
	struct cpm_pl want_sub = type;
	struct cpm_pl want = cpm_pl_cut(&want_sub, '/');

	sub = cpm_pl_trim(sub);
	return cpm_pl_ieq(cpm_pl_trim(name), want)
		   && (want_sub.n > 0 ? cpm_pl_ieq(sub, want_sub) : sub.n > 0);
}

/* A message in a CPIM wrapper is of both types: a user who wants no pictures
 * means the picture, whatever it is wrapped in. */
static bool type_holds(
		const struct cpm_rule *rule, const struct cpm_msg_facts *m)
{
	return rule->type.n == 0 || type_is(m->type, rule->type)
		   || (m->inner_type.n > 0 && type_is(m->inner_type, rule->type));
}

static bool device_holds(
		const struct cpm_rule *rule, const struct cpm_client *client)
{
	if(client == NULL || rule->device.n == 0) {
		return rule->device.n == 0;
	}
	return cpm_pl_ieq(rule->device, client->caps.instance)
		   || cpm_pl_eq(rule->device, client->caps.pub_gruu);
}

bool cpm_rule_holds(const struct cpm_rule *rule, const struct cpm_msg_facts *m,
		const struct cpm_client *client)
{
	return device_holds(rule, client) && originator_holds(rule, m)
		   && type_holds(rule, m)
		   && (rule->kind == CPM_KIND_ANY || rule->kind == m->kind)
		   && m->size >= rule->min_size
		   && (rule->max_size == 0 || m->size <= rule->max_size)
		   && m->now_s >= rule->valid_from_s
		   && (rule->valid_until_s == 0 || m->now_s <= rule->valid_until_s);
}

/* The first rule that holds, of the message (client NULL) or of a client.
 * Rules of the message are not asked again for a client. */
static bool rule_find(const struct cpm_prefs *prefs,
		const struct cpm_msg_facts *m, const struct cpm_client *client,
		struct cpm_rule *rule_r)
{
	struct cpm_rule rule;
	size_t i;

	for(i = 0; i < prefs->rule_count; i++) {
		if(cpm_prefs_rule(prefs, i, &rule) != CPM_OK
				|| (client != NULL && rule.device.n == 0)) {
			continue;
		}
		if(cpm_rule_holds(&rule, m, client)) {
			*rule_r = rule;
			return true;
		}
	}
	return false;
}

/* ---------------------------------------------------------------- facts */

/* What becomes of one client. */
enum fate
{
	FATE_DELIVER,
	FATE_DEFER,
	FATE_NEVER,	 /* the user keeps it from this client */
	FATE_ABSENT, /* it counts as not registered */
};

/* All that the tables ask. */
struct facts
{
	enum cpm_mode mode; /* 0: MESSAGE */
	const struct cpm_prefs *prefs;
	const struct cpm_policy *policy;
	const struct cpm_msg_facts *m;
	const struct cpm_sender_facts *sender;
	bool has_rule;
	struct cpm_rule rule; /* the message's */
	size_t delivering, deferring;
	size_t in_session; /* of the deferring: take it in a session, and now */
};

typedef bool (*fact_fn)(const struct facts *f);

static bool is_unknown(const struct facts *f)
{
	return !f->prefs->known;
}

static bool is_disabled(const struct facts *f)
{
	return !f->prefs->enabled;
}

static bool is_too_large(const struct facts *f)
{
	return f->policy->max_size > 0 && f->m->size > f->policy->max_size;
}

/* The wrapper and what is inside: a provider that allows CPIM allows with it
 * what CPIM carries only if that is allowed as well. */
static bool is_type_refused(const struct facts *f)
{
	struct cpm_pl list = cpm_pl_str(f->policy->accept_types);

	return !cpm_types_accept(list, f->m->type)
		   || (f->m->inner_type.n > 0
				   && !cpm_types_accept(list, f->m->inner_type));
}

static bool is_anonymity_refused(const struct facts *f)
{
	return f->m->anonymous && !f->policy->allow_anonymous;
}

static bool rule_is(const struct facts *f, enum cpm_action action)
{
	return f->has_rule && f->rule.action == action;
}

static bool rule_rejects(const struct facts *f)
{
	return rule_is(f, CPM_ACTION_REJECT);
}

static bool rule_interworks(const struct facts *f)
{
	return rule_is(f, CPM_ACTION_INTERWORK);
}

static bool rule_stores(const struct facts *f)
{
	return rule_is(f, CPM_ACTION_STORE);
}

static bool rule_checks_back(const struct facts *f)
{
	return rule_is(f, CPM_ACTION_QUEUE);
}

static bool rule_defers(const struct facts *f)
{
	return rule_is(f, CPM_ACTION_DEFER);
}

static bool some_client_takes_it(const struct facts *f)
{
	return f->delivering > 0;
}

static bool clients_defer(const struct facts *f)
{
	return f->deferring > 0;
}

static bool offline_stores(const struct facts *f)
{
	return f->prefs->when_offline == CPM_OFFLINE_STORE;
}

static bool offline_rejects(const struct facts *f)
{
	return f->prefs->when_offline == CPM_OFFLINE_REJECT;
}

static bool offline_interworks(const struct facts *f)
{
	return f->prefs->when_offline == CPM_OFFLINE_INTERWORK;
}

static bool offline_discards(const struct facts *f)
{
	return f->prefs->when_offline == CPM_OFFLINE_DISCARD;
}

static bool always(const struct facts *f)
{
	(void)f;
	return true;
}

static bool is_unidentified(const struct facts *f)
{
	return !f->sender->identified;
}

static bool is_foreign(const struct facts *f)
{
	return !f->sender->home;
}

static bool may_not_send(const struct facts *f)
{
	return !f->policy->allow_send;
}

static bool lacks_feature_tag(const struct facts *f)
{
	return f->sender->tag_required && !f->sender->feature_tag;
}

static bool lacks_conversation_id(const struct facts *f)
{
	return f->policy->require_ids && !f->sender->has_conversation_id;
}

static bool lacks_contribution_id(const struct facts *f)
{
	return f->policy->require_ids && !f->sender->has_contribution_id;
}

/* --------------------------------------------------------------- tables */

struct row
{
	fact_fn when;
	enum cpm_verdict verdict;
	unsigned code; /* 0: the configured code of a recipient's rejection */
	const char *reason;
	const char *why;
	unsigned warning;
	const char *warning_text;
};

/* Seed, 5.2.2.1.1, "The CPM Participating Function serving the recipient
 * SHALL handle the CPM Message in one of the following ways". */
static const struct row recipient_rows[] = {
		{is_unknown, CPM_VERDICT_UNKNOWN, 404, "Not Found", "unknown-recipient",
				0, NULL},
		{is_disabled, CPM_VERDICT_UNKNOWN, 404, "Not Found",
				"disabled-recipient", 0, NULL},
		/* "server provider policies": above any preference */
		{is_too_large, CPM_VERDICT_REJECT, 403, "Forbidden", "policy-size", 133,
				"Size exceeded"},
		{is_type_refused, CPM_VERDICT_REJECT, 415, "Unsupported Media Type",
				"policy-type", 0, NULL},
		{is_anonymity_refused, CPM_VERDICT_REJECT, 403, "Forbidden",
				"policy-anonymity", 119, "Anonymity not allowed"},
		/* "reject the CPM Message, if user preferences of the recipient
		 * indicate rejection" */
		{rule_rejects, CPM_VERDICT_REJECT, 0, "Forbidden", "user-rejects", 0,
				NULL},
		/* "hand over ... if the user preferences indicate interworking" */
		{rule_interworks, CPM_VERDICT_INTERWORK, 0, "", "user-interworks", 0,
				NULL},
		/* "deliver ... to the Message Storage Server" */
		{rule_stores, CPM_VERDICT_STORE, 0, "", "user-stores", 0, NULL},
		/* "queue ... if user preferences indicate checking back with the
		 * user" */
		{rule_checks_back, CPM_VERDICT_QUEUE, 0, "", "user-checks-back", 0,
				NULL},
		/* "send ... towards each registered CPM Client ... for which [all]
		 * indicate delivering" */
		{some_client_takes_it, CPM_VERDICT_DELIVER, 0, "", "deliver", 0, NULL},
		/* a preference that speaks of the message speaks of each client that
		 * has none of its own before it, and of there being no client */
		{rule_defers, CPM_VERDICT_QUEUE, 0, "", "user-defers", 0, NULL},
		/* "queue ... if user preferences of each registered CPM Client
		 * indicate deferring" */
		{clients_defer, CPM_VERDICT_QUEUE, 0, "", "clients-defer", 0, NULL},
		/* no client is registered: what the recipient prefers for that */
		{offline_stores, CPM_VERDICT_STORE, 0, "", "offline-store", 0, NULL},
		{offline_rejects, CPM_VERDICT_REJECT, 480, "Temporarily Unavailable",
				"offline-reject", 0, NULL},
		{offline_interworks, CPM_VERDICT_INTERWORK, 0, "", "offline-interwork",
				0, NULL},
		{offline_discards, CPM_VERDICT_DISCARD, 202, "Accepted",
				"offline-discard", 0, NULL},
		/* "queue ... if no CPM Client of the recipient is registered and the
		 * user preferences indicate deferring" */
		{always, CPM_VERDICT_QUEUE, 0, "", "offline-defer", 0, NULL},
};

/* Seed, 5.2.2.1.1: "SHALL authorize the sender". */
static const struct row sender_rows[] = {
		{is_unidentified, CPM_VERDICT_REJECT, 403, "Forbidden",
				"sender-unidentified", 127, "Service not authorised"},
		{is_foreign, CPM_VERDICT_REJECT, 403, "Forbidden", "sender-not-home",
				127, "Service not authorised"},
		{is_unknown, CPM_VERDICT_REJECT, 403, "Forbidden", "sender-unknown",
				127, "Service not authorised"},
		{is_disabled, CPM_VERDICT_REJECT, 403, "Forbidden", "sender-disabled",
				127, "Service not authorised"},
		{lacks_feature_tag, CPM_VERDICT_REJECT, 403, "Forbidden",
				"no-feature-tag", 127, "Service not authorised"},
		{may_not_send, CPM_VERDICT_REJECT, 403, "Forbidden", "policy-send", 122,
				"Function not allowed"},
		{is_anonymity_refused, CPM_VERDICT_REJECT, 403, "Forbidden",
				"policy-anonymity", 119, "Anonymity not allowed"},
		{is_too_large, CPM_VERDICT_REJECT, 403, "Forbidden", "policy-size", 133,
				"Size exceeded"},
		{is_type_refused, CPM_VERDICT_REJECT, 415, "Unsupported Media Type",
				"policy-type", 0, NULL},
		{lacks_conversation_id, CPM_VERDICT_REJECT, 400,
				"Missing Conversation-ID", "no-conversation-id", 0, NULL},
		{lacks_contribution_id, CPM_VERDICT_REJECT, 400,
				"Missing Contribution-ID", "no-contribution-id", 0, NULL},
		{always, CPM_VERDICT_DELIVER, 0, "", "authorised", 0, NULL},
};

static void decide(
		const struct row *row, const struct facts *f, struct cpm_decision *d)
{
	while(!row->when(f)) {
		row++; /* the last row holds always */
	}
	d->verdict = row->verdict;
	d->code = row->code;
	d->reason = row->reason;
	d->why = row->why;
	d->warning = row->warning;
	d->warning_text = row->warning_text;
	d->wants_accept = row->code == 415;
}

/* -------------------------------------------------------------- clients */

static enum fate fate_by_rule(const struct cpm_rule *rule)
{
	switch(rule->action) {
		case CPM_ACTION_DELIVER:
			return FATE_DELIVER;
		case CPM_ACTION_DEFER:
		case CPM_ACTION_QUEUE:
			return FATE_DEFER;
		case CPM_ACTION_REJECT:
		case CPM_ACTION_INTERWORK: /* are of the message, not of a client: */
		case CPM_ACTION_STORE:	   /* this one does not get it */
			break;
	}
	return FATE_NEVER;
}

/* Client capabilities for MESSAGE: one that says something of CPM, and not
 * that it takes pager mode, takes sessions only; one that says nothing is a
 * plain SIP client. */
static bool takes_pager(const struct cpm_client *c)
{
	return c->takes_message
		   && (c->caps.set == 0
				   || (c->caps.set & (CPM_CAP_MSG | CPM_CAP_PAGER_LARGE)) != 0);
}

enum cpm_session cpm_client_session(const struct cpm_caps *caps)
{
	if((caps->set & (CPM_CAP_DEFERRED | CPM_CAP_LARGEMSG)) != 0) {
		return CPM_SESSION_STANDALONE;
	}
	return (caps->set & CPM_CAP_SIP_IM) != 0 ? CPM_SESSION_CHAT
											 : CPM_SESSION_NONE;
}

static bool takes_mode(const struct cpm_client *c, enum cpm_mode mode)
{
	return mode == CPM_MODE_SESSION
				   ? cpm_client_session(&c->caps) != CPM_SESSION_NONE
				   : takes_pager(c);
}

/* It says nothing of CPM and takes no MESSAGE, now or later: a phone for calls
 * is no CPM Client. */
static bool is_no_cpm_client(const struct cpm_client *c)
{
	return c->caps.set == 0 && !c->takes_message;
}

static bool comes_before(const struct cpm_rule *a, const struct cpm_rule *b)
{
	return a->priority < b->priority
		   || (a->priority == b->priority && a->id < b->id);
}

static enum fate client_fate(const struct facts *f, const struct cpm_client *c)
{
	struct cpm_rule rule;
	enum fate fate = FATE_DELIVER;
	bool has_own;

	if(c->failed || !c->connected || is_no_cpm_client(c)) {
		return FATE_ABSENT;
	}
	has_own = rule_find(f->prefs, f->m, c, &rule);
	if(rule_defers(f) && !(has_own && comes_before(&rule, &f->rule))) {
		return FATE_DEFER;
	}
	if(has_own) {
		fate = fate_by_rule(&rule);
	}
	/* what it cannot take now it may take from the queue, in a session */
	if(fate == FATE_DELIVER
			&& (!takes_mode(c, f->mode)
					|| f->m->size > cpm_policy_client_max(
							   f->policy, c->caps.set))) {
		fate = FATE_DEFER;
	}
	return fate;
}

bool cpm_client_takes(const struct cpm_prefs *prefs,
		const struct cpm_policy *policy, const struct cpm_msg_facts *m,
		const struct cpm_client *client, enum cpm_mode mode)
{
	struct facts f;

	memset(&f, 0, sizeof(f));
	f.mode = mode;
	f.prefs = prefs;
	f.policy = policy;
	f.m = m;
	return prefs->known && prefs->enabled
		   && client_fate(&f, client) == FATE_DELIVER;
}

void cpm_decide_recipient(const struct cpm_prefs *prefs,
		const struct cpm_policy *policy, const struct cpm_msg_facts *m,
		const struct cpm_client *clients, size_t client_count,
		unsigned reject_code, struct cpm_decision *d_r)
{
	struct cpm_decision d;
	struct facts f;
	enum fate fate;
	size_t i;

	memset(&d, 0, sizeof(d));
	memset(&f, 0, sizeof(f));
	f.prefs = prefs;
	f.policy = policy;
	f.m = m;
	f.has_rule = prefs->known && rule_find(prefs, m, NULL, &f.rule);
	for(i = 0; prefs->known && i < client_count && i < CPM_CONTACTS_MAX; i++) {
		fate = client_fate(&f, &clients[i]);
		if(fate == FATE_DELIVER) {
			d.deliver_to[f.delivering++] = (uint8_t)i;
		} else if(fate == FATE_DEFER) {
			f.deferring++;
			f.mode = CPM_MODE_SESSION;
			f.in_session += client_fate(&f, &clients[i]) == FATE_DELIVER;
			f.mode = CPM_MODE_MESSAGE;
		}
	}
	decide(recipient_rows, &f, &d);
	if(d.verdict == CPM_VERDICT_REJECT && d.code == 0) {
		d.code = reject_code;
		if(reject_code >= 200 && reject_code < 300) {
			d.verdict = CPM_VERDICT_DISCARD;
		}
		d.reason = reject_code == 480	? "Temporarily Unavailable"
				   : reject_code == 603 ? "Decline"
				   : reject_code == 202 ? "Accepted"
										: "Forbidden";
	}
	if(d.verdict == CPM_VERDICT_DELIVER) {
		d.deliver_count = f.delivering;
		d.record_copy = prefs->record_copy;
	}
	/* "offline-defer" alone waits for nothing but a client */
	d.deferred = d.verdict == CPM_VERDICT_STORE
				 || (d.verdict == CPM_VERDICT_QUEUE
						 && ((f.deferring > 0 && f.in_session == 0)
								 || rule_checks_back(&f) || rule_defers(&f)));
	d.rule_id =
			f.has_rule && cpm_pl_starts(cpm_pl_str(d.why), CPM_PL_LIT("user-"))
					? f.rule.id
					: 0;
	*d_r = d;
}

void cpm_decide_sender(const struct cpm_sender_facts *s,
		const struct cpm_prefs *prefs, const struct cpm_policy *policy,
		const struct cpm_msg_facts *m, struct cpm_decision *d_r)
{
	struct cpm_decision d;
	struct facts f;

	memset(&d, 0, sizeof(d));
	memset(&f, 0, sizeof(f));
	f.prefs = prefs;
	f.policy = policy;
	f.m = m;
	f.sender = s;
	decide(sender_rows, &f, &d);
	*d_r = d;
}
