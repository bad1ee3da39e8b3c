/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_reginfo.c - registration events and the subscription to them.
 *
 * runs in:  anything; pure functions; linear in the input
 */

#include "cpm_reginfo.h"

#define Q_ONE 1000

/* ---------------------------------------------------------------- words */

static const struct
{
	const char *word;
	enum cpm_reg_state state;
	bool of_contact;
} states[] = {
		{"active", CPM_REG_ACTIVE, true},
		{"terminated", CPM_REG_TERMINATED, true},
		{"init", CPM_REG_INIT, false},
};

static int state_of(
		struct cpm_pl word, bool of_contact, enum cpm_reg_state *s_r)
{
	for(size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if((states[i].of_contact || !of_contact)
				&& cpm_pl_eq(word, cpm_pl_str(states[i].word))) {
			*s_r = states[i].state;
			return CPM_OK;
		}
	}
	return CPM_EPROTO;
}

int cpm_reg_registration_state(struct cpm_pl word, enum cpm_reg_state *s_r)
{
	return state_of(word, false, s_r);
}

int cpm_reg_contact_state(struct cpm_pl word, enum cpm_reg_state *s_r)
{
	return state_of(word, true, s_r);
}

enum cpm_reg_event cpm_reg_event_of(struct cpm_pl word)
{
	static const struct
	{
		const char *word;
		enum cpm_reg_event event;
	} events[] = {
			{"registered", CPM_REG_EV_REGISTERED},
			{"created", CPM_REG_EV_CREATED},
			{"refreshed", CPM_REG_EV_REFRESHED},
			{"shortened", CPM_REG_EV_SHORTENED},
			{"expired", CPM_REG_EV_EXPIRED},
			{"deactivated", CPM_REG_EV_DEACTIVATED},
			{"probation", CPM_REG_EV_PROBATION},
			{"unregistered", CPM_REG_EV_UNREGISTERED},
			{"rejected", CPM_REG_EV_REJECTED},
	};

	for(size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if(cpm_pl_eq(word, cpm_pl_str(events[i].word))) {
			return events[i].event;
		}
	}
	return CPM_REG_EV_OTHER;
}

/*  qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ) */
int cpm_reg_q(struct cpm_pl word)
{
	int q, part = Q_ONE;

	if(word.n == 0 || word.n > 5 || (word.p[0] != '0' && word.p[0] != '1')
			|| (word.n > 1 && word.p[1] != '.')) {
		return -1;
	}
	q = word.p[0] == '1' ? Q_ONE : 0;
	for(size_t i = 2; i < word.n; i++) {
		if(word.p[i] < '0' || word.p[i] > '9') {
			return -1;
		}
		part /= 10;
		q += (word.p[i] - '0') * part;
	}
	return q <= Q_ONE ? q : -1;
}

/* ----------------------------------------------------------------- scan */

static int fail(struct cpm_diag *diag, int rc, const char *why, size_t at)
{
	if(diag != NULL) {
		*diag = (struct cpm_diag){why, at};
	}
	return rc;
}

/* The encoding that an XML declaration names, if there is one, must be that
 * of the bytes: nobody else is to read them in another way. */
static bool declares_other(struct cpm_pl xml)
{
	struct cpm_pl decl, v;
	size_t i;
	char quote;

	if(!cpm_pl_starts(xml, CPM_PL_LIT("<?xml"))) {
		return false;
	}
	decl = cpm_pl(xml.p, cpm_pl_chr(xml, '>'));
	for(i = 0; i < decl.n; i++) {
		if(cpm_pl_starts(cpm_pl_from(decl, i), CPM_PL_LIT("encoding"))) {
			break;
		}
	}
	if(i == decl.n) {
		return false;
	}
	v = cpm_pl_from(decl, i + 8);
	while(v.n > 0 && (v.p[0] == '=' || v.p[0] == ' ')) {
		v = cpm_pl_from(v, 1);
	}
	if(v.n == 0) {
		return true;
	}
	quote = v.p[0];
	v = cpm_pl_from(v, 1);
	v = cpm_pl(v.p, cpm_pl_chr(v, quote));
	return !cpm_pl_ieq(v, CPM_PL_LIT("utf-8"))
		   && !cpm_pl_ieq(v, CPM_PL_LIT("us-ascii"));
}

int cpm_reg_scan(struct cpm_pl xml, struct cpm_diag *diag)
{
	struct cpm_pl rest = xml;

	if(xml.n == 0) {
		return fail(diag, CPM_EPROTO, "no-xml", 0);
	}
	if(xml.n > CPM_REGINFO_BYTES_MAX) {
		return fail(diag, CPM_ELIMIT, "too-long", CPM_REGINFO_BYTES_MAX);
	}
	for(size_t i = 0; i < xml.n; i++) {
		unsigned char c = (unsigned char)xml.p[i];

		if(c < ' ' && c != '\t' && c != '\r' && c != '\n') {
			return fail(diag, CPM_EPROTO, "bad-byte", i);
		}
	}
	if(cpm_pl_starts(rest, CPM_PL_LIT("\xef\xbb\xbf"))) {
		rest = cpm_pl_from(rest, 3); /* a byte order mark */
	}
	if(declares_other(rest)) {
		return fail(diag, CPM_EPROTO, "encoding", 0);
	}
	for(size_t i = cpm_pl_chr(rest, '<'); i < rest.n;) {
		struct cpm_pl at = cpm_pl_from(rest, i);

		if(cpm_pl_starts(at, CPM_PL_LIT("<!"))
				&& !cpm_pl_starts(at, CPM_PL_LIT("<!--"))
				&& !cpm_pl_starts(at, CPM_PL_LIT("<![CDATA["))) {
			return fail(diag, CPM_EPROTO, "doctype", (size_t)(at.p - xml.p));
		}
		i += 1 + cpm_pl_chr(cpm_pl_from(rest, i + 1), '<');
	}
	return CPM_OK;
}

/* ----------------------------------------------------------- parameters */

/*  token of RFC 3261, 25.1, which a feature tag's name is made of as well */
static bool is_token(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++) {
		char c = a.p[i];

		if(!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')
				   || (c >= 'A' && c <= 'Z')
				   || (c != '\0' && strchr("-.!%*_+`'~", c) != NULL))) {
			return false;
		}
	}
	return a.n > 0;
}

bool cpm_reg_param_put(struct cpm_wr *w, struct cpm_pl name, struct cpm_pl v)
{
	name = cpm_pl_trim(name);
	v = cpm_pl_trim(v);
	if(!is_token(name) || cpm_pl_ctl(v) != v.n) {
		return false;
	}
	/* some write the quotes of the Contact, and some do not */
	if(v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"') {
		v = cpm_pl(v.p + 1, v.n - 2);
	}
	if(cpm_pl_chr(v, '"') != v.n || cpm_pl_chr(v, '\\') != v.n) {
		return false;
	}
	if(w->n > 0) {
		cpm_wr_chr(w, ';');
	}
	cpm_wr_pl_put(w, name);
	if(v.n > 0) {
		cpm_wr_str(w, "=\"");
		cpm_wr_pl_put(w, v);
		cpm_wr_chr(w, '"');
	}
	return true;
}

struct cpm_pl cpm_reg_param(struct cpm_pl params, struct cpm_pl name)
{
	while(params.n > 0) {
		size_t n = 0;
		bool quoted = false;
		struct cpm_pl one, its;

		while(n < params.n && (quoted || params.p[n] != ';')) {
			quoted = quoted != (params.p[n] == '"');
			n++;
		}
		one = cpm_pl(params.p, n);
		params = cpm_pl_from(params, n + 1);
		its = cpm_pl_cut(&one, '=');
		if(!cpm_pl_ieq(its, name)) {
			continue;
		}
		if(one.p == NULL) {
			return cpm_pl(its.p, 0);
		}
		return one.n >= 2 && one.p[0] == '"' ? cpm_pl(one.p + 1, one.n - 2)
											 : one;
	}
	return CPM_PL_NULL;
}

bool cpm_reg_takes(struct cpm_pl params, struct cpm_pl method)
{
	struct cpm_pl list = cpm_reg_param(params, CPM_PL_LIT("methods"));

	if(list.p == NULL) {
		return true;
	}
	while(list.p != NULL) {
		if(cpm_pl_ieq(cpm_pl_trim(cpm_pl_cut(&list, ',')), method)) {
			return true;
		}
	}
	return false;
}

/* --------------------------------------------------------------- record */

struct cpm_pl cpm_reg_key(struct cpm_pl uri, char *buf)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, CPM_REG_KEY_LEN);
	cpm_wr_hex64(&w, cpm_hash64(CPM_HASH_INIT, uri));
	return cpm_wr_pl(&w);
}

uint64_t cpm_reg_signature(const struct cpm_reg_contact *c)
{
	char digits[24];
	struct cpm_wr w;

	cpm_wr_init(&w, digits, sizeof(digits));
	cpm_wr_chr(&w, ' ');
	cpm_wr_u64(&w, c->cseq);
	return cpm_hash64(cpm_hash64(CPM_HASH_INIT, c->call_id), cpm_wr_pl(&w));
}

#define FIELDS 6

int cpm_reg_record_put(const struct cpm_reg_contact *c, struct cpm_wr *w)
{
	const struct cpm_pl fields[FIELDS] = {
			c->uri, c->call_id, c->params, c->path, c->received, c->user_agent};

	if(c->uri.n == 0) {
		return CPM_EPROTO;
	}
	for(size_t i = 0; i < FIELDS; i++) {
		if(cpm_pl_ctl(fields[i]) != fields[i].n) {
			return CPM_EPROTO;
		}
		if(fields[i].n
				> (i == 2 ? CPM_REGINFO_PARAMS_MAX : CPM_REGINFO_URI_MAX)) {
			return CPM_ELIMIT;
		}
	}
	cpm_wr_u64(w, (uint64_t)(c->q + 1));
	for(size_t i = 0; i < FIELDS; i++) {
		cpm_wr_chr(w, '\n');
		cpm_wr_pl_put(w, fields[i]);
	}
	return cpm_wr_ok(w) ? CPM_OK : CPM_ELIMIT;
}

int cpm_reg_record_read(struct cpm_pl text, struct cpm_reg_contact *c_r)
{
	struct cpm_reg_contact c = {.state = CPM_REG_ACTIVE};
	struct cpm_pl *fields[FIELDS] = {
			&c.uri, &c.call_id, &c.params, &c.path, &c.received, &c.user_agent};
	struct cpm_pl rest = text;
	uint64_t q;

	if(cpm_pl_u64(cpm_pl_cut(&rest, '\n'), Q_ONE + 1, &q) != CPM_OK) {
		return CPM_EPROTO;
	}
	for(size_t i = 0; i < FIELDS; i++) {
		if(rest.p == NULL) {
			return CPM_EPROTO;
		}
		*fields[i] = cpm_pl_cut(&rest, '\n');
	}
	if(rest.p != NULL || c.uri.n == 0) {
		return CPM_EPROTO;
	}
	c.q = (int)q - 1;
	*c_r = c;
	return CPM_OK;
}

/* --------------------------------------------------------- subscription */

struct cpm_reg_plan cpm_reg_answer(
		unsigned code, bool in_dialog, uint32_t retry_after_s)
{
	struct cpm_reg_plan plan = {CPM_REG_NEXT_RETRY, retry_after_s};

	if(code < 300) {
		plan.next = CPM_REG_NEXT_KEEP;
	} else if(code == 481 && in_dialog) {
		/* RFC 6665, 4.1.2.2: the notifier knows of no such subscription */
		plan.next = CPM_REG_NEXT_ANEW;
	} else if(code == 423) {
		/* the caller asks for longer from here on */
		plan.next = in_dialog ? CPM_REG_NEXT_RETRY : CPM_REG_NEXT_ANEW;
	} else if(code == 489 || code == 403 || code == 404 || code == 604
			  || code == 405 || code == 501 || code == 603) {
		plan.next = CPM_REG_NEXT_REST;
		if(retry_after_s < CPM_REG_REST_S) {
			plan.after_s = CPM_REG_REST_S;
		}
	}
	return plan;
}

/* RFC 6665, 4.1.3 */
static struct cpm_reg_plan plan_of_reason(
		struct cpm_pl reason, uint32_t retry_after_s)
{
	static const struct
	{
		const char *reason;
		enum cpm_reg_next next;
	} reasons[] = {
			{"deactivated", CPM_REG_NEXT_ANEW},
			{"timeout", CPM_REG_NEXT_ANEW},
			{"probation", CPM_REG_NEXT_RETRY},
			{"giveup", CPM_REG_NEXT_RETRY},
			{"rejected", CPM_REG_NEXT_REST},
			{"noresource", CPM_REG_NEXT_REST},
			{"invariant", CPM_REG_NEXT_REST},
	};
	struct cpm_reg_plan plan = {CPM_REG_NEXT_RETRY, retry_after_s};

	for(size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if(cpm_pl_ieq(reason, cpm_pl_str(reasons[i].reason))) {
			plan.next = reasons[i].next;
		}
	}
	if(plan.next == CPM_REG_NEXT_REST && plan.after_s < CPM_REG_REST_S) {
		plan.after_s = CPM_REG_REST_S;
	}
	return plan;
}

static bool seconds_of(struct cpm_pl word, uint32_t *s_r)
{
	uint64_t s;
	int rc = cpm_pl_u64(cpm_pl_trim(word), CPM_REGINFO_EXPIRES_MAX_S, &s);

	if(rc != CPM_OK && rc != CPM_ELIMIT) {
		return false;
	}
	*s_r = rc == CPM_OK ? (uint32_t)s : CPM_REGINFO_EXPIRES_MAX_S;
	return true;
}

int cpm_reg_substate_parse(struct cpm_pl value, struct cpm_reg_substate *s_r)
{
	struct cpm_reg_substate s = {.active = false};
	struct cpm_pl rest = value;
	struct cpm_pl word = cpm_pl_trim(cpm_pl_cut(&rest, ';'));
	struct cpm_pl reason = CPM_PL_NULL;
	uint32_t retry_after_s = 0;

	if(cpm_pl_ctl(value) != value.n) {
		return CPM_EPROTO;
	}
	s.active = cpm_pl_ieq(word, CPM_PL_LIT("active"))
			   || cpm_pl_ieq(word, CPM_PL_LIT("pending"));
	if(!s.active && !cpm_pl_ieq(word, CPM_PL_LIT("terminated"))) {
		return CPM_EPROTO;
	}
	while(rest.p != NULL) {
		struct cpm_pl v = cpm_pl_cut(&rest, ';');
		struct cpm_pl name = cpm_pl_trim(cpm_pl_cut(&v, '='));

		if(cpm_pl_ieq(name, CPM_PL_LIT("expires"))) {
			s.has_expires = seconds_of(v, &s.expires_s);
			if(!s.has_expires) {
				return CPM_EPROTO;
			}
		} else if(cpm_pl_ieq(name, CPM_PL_LIT("reason"))) {
			reason = cpm_pl_trim(v);
		} else if(cpm_pl_ieq(name, CPM_PL_LIT("retry-after"))
				  && !seconds_of(v, &retry_after_s)) {
			return CPM_EPROTO;
		}
	}
	if(!s.active) {
		s.plan = plan_of_reason(reason, retry_after_s);
	}
	*s_r = s;
	return CPM_OK;
}

struct cpm_pl cpm_reg_tag(const unsigned char *random, char *buf)
{
	struct cpm_wr w;
	uint64_t v;

	cpm_wr_init(&w, buf, CPM_REG_TAG_MAX);
	cpm_wr_str(&w, CPM_REG_TAG_HEAD);
	memcpy(&v, random, sizeof(v));
	cpm_wr_hex64(&w, v);
	memcpy(&v, random + sizeof(v), sizeof(v));
	cpm_wr_hex64(&w, v);
	return cpm_wr_pl(&w);
}

bool cpm_reg_tag_is(struct cpm_pl tag)
{
	return cpm_pl_starts(tag, CPM_PL_LIT(CPM_REG_TAG_HEAD));
}

/* ----------------------------------------------------------------- keys */

static int keys_build(struct cpm_reg_keys *k, struct cpm_pl prefix,
		unsigned shard, struct cpm_pl aor)
{
	static const char *const names[CPM_REG_KEY_COUNT_] = {
			[CPM_REG_KEY_INDEX] = "regs",
			[CPM_REG_KEY_CONTACTS] = "c",
			[CPM_REG_KEY_QUEUE] = "q",
	};
	struct cpm_wr w;
	size_t from;

	if(prefix.n == 0 || prefix.n > CPM_QUEUE_PREFIX_MAX || aor.n > CPM_AOR_MAX
			|| shard >= CPM_QUEUE_SHARDS) {
		return CPM_ELIMIT;
	}
	cpm_wr_init(&w, k->buf, sizeof(k->buf));
	for(size_t i = 0; i < CPM_REG_KEY_COUNT_; i++) {
		bool of_user = i != CPM_REG_KEY_INDEX && aor.n > 0;

		from = w.n;
		cpm_wr_pl_put(&w, prefix);
		cpm_wr_str(&w, ":{");
		cpm_wr_u64(&w, shard);
		cpm_wr_str(&w, "}:");
		cpm_wr_str(&w, names[of_user ? i : CPM_REG_KEY_INDEX]);
		if(of_user) {
			cpm_wr_chr(&w, ':');
			cpm_wr_pl_put(&w, aor);
		}
		k->key[i] = cpm_pl(k->buf + from, w.n - from);
	}
	return cpm_wr_ok(&w) ? CPM_OK : CPM_ELIMIT;
}

int cpm_reg_keys_init(
		struct cpm_reg_keys *k, struct cpm_pl prefix, struct cpm_pl aor)
{
	return aor.n == 0 ? CPM_ELIMIT
					  : keys_build(k, prefix, cpm_queue_shard(aor), aor);
}

int cpm_reg_keys_shard(
		struct cpm_reg_keys *k, struct cpm_pl prefix, unsigned shard)
{
	return keys_build(k, prefix, shard, CPM_PL_NULL);
}
