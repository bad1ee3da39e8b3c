/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_subs.h"

/* ------------------------------------------------------------ SUBSCRIBE */

/* RFC 3261, 25.1 */
static bool is_token(struct cpm_pl a)
{
	size_t i;

	for(i = 0; i < a.n; i++) {
		char c = a.p[i];

		if(!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
				   || (c >= '0' && c <= '9')
				   || (c != '\0' && strchr("-.!%*_+`'~", c) != NULL))) {
			return false;
		}
	}
	return a.n > 0;
}

/* Up to the next c outside quotes. A quote that never ends takes all. */
static struct cpm_pl cut(struct cpm_pl *rest, char c)
{
	struct cpm_pl all = *rest;
	bool quoted = false;
	size_t i;

	for(i = 0; i < all.n; i++) {
		if(quoted && all.p[i] == '\\') {
			i++;
		} else if(all.p[i] == '"') {
			quoted = !quoted;
		} else if(all.p[i] == c && !quoted) {
			*rest = cpm_pl(all.p + i + 1, all.n - i - 1);
			return cpm_pl_trim(cpm_pl(all.p, i));
		}
	}
	*rest = CPM_PL_NULL;
	return cpm_pl_trim(all);
}

int cpm_subs_event_parse(struct cpm_pl value, struct cpm_subs_event *e_r)
{
	struct cpm_subs_event e = {CPM_PL_NULL, CPM_PL_NULL};
	struct cpm_pl rest = cpm_pl_trim(value);
	struct cpm_pl part, name;

	if(rest.n > CPM_SUBS_EVENT_MAX) {
		return CPM_ELIMIT;
	}
	if(cpm_pl_ctl(rest) < rest.n) {
		return CPM_EPROTO;
	}
	e.package = cut(&rest, ';');
	if(!is_token(e.package)) {
		return CPM_EPROTO;
	}
	while(rest.p != NULL) {
		part = cut(&rest, ';');
		name = cpm_pl_trim(cpm_pl(part.p, cpm_pl_chr(part, '=')));
		if(!is_token(name)) {
			return CPM_EPROTO;
		}
		if(!cpm_pl_ieq(name, CPM_PL_LIT("id"))) {
			continue;
		}
		part = cpm_pl_trim(cpm_pl_from(part, cpm_pl_chr(part, '=') + 1));
		if(e.id.n > 0 || !is_token(part)) {
			return CPM_EPROTO;
		}
		if(part.n > CPM_SUBS_ID_MAX) {
			return CPM_ELIMIT;
		}
		e.id = part;
	}
	*e_r = e;
	return CPM_OK;
}

/* "0", "0.", "0.000": whatever else is none of it. */
static bool is_zero(struct cpm_pl q)
{
	size_t i;

	for(i = 0; i < q.n; i++) {
		if(q.p[i] != '0' && !(i == 1 && q.p[i] == '.')) {
			return false;
		}
	}
	return q.n > 0;
}

/* How exactly a media range is of this type: 3 it is the very type, 2 "a/ *",
 * 1 the range of all; 0 not at all. *refused_r: by q=0. */
static unsigned range_of(
		struct cpm_pl item, struct cpm_pl type, bool *refused_r)
{
	struct cpm_pl range = cut(&item, ';');
	size_t slash = cpm_pl_chr(type, '/');
	struct cpm_pl part;
	unsigned found = 0;

	if(cpm_pl_ieq(range, type)) {
		found = 3;
	} else if(cpm_pl_eq(range, CPM_PL_LIT("*/*"))) {
		found = 1;
	} else if(range.n == slash + 2 && range.p[slash + 1] == '*'
			  && cpm_pl_istarts(range, cpm_pl(type.p, slash + 1))) {
		found = 2;
	}
	*refused_r = false;
	while(item.p != NULL) {
		part = cut(&item, ';');
		if(cpm_pl_istarts(part, CPM_PL_LIT("q="))
				&& is_zero(cpm_pl_trim(cpm_pl_from(part, 2)))) {
			*refused_r = true;
		}
	}
	return found;
}

bool cpm_subs_accepts(struct cpm_pl value, struct cpm_pl type)
{
	unsigned best = 0, found;
	bool accepts = false, refused;

	/* RFC 2616, 14.1: the most exact range has the word */
	while(value.p != NULL) {
		found = range_of(cut(&value, ','), type, &refused);
		if(found > best) {
			best = found;
			accepts = !refused;
		}
	}
	return accepts;
}

int cpm_subs_expires(struct cpm_pl value, uint32_t max_s, uint32_t *s_r)
{
	uint64_t v = CPM_SUBS_DEFAULT_S;
	int rc = CPM_OK;

	if(value.p != NULL) {
		rc = cpm_pl_u64(cpm_pl_trim(value), UINT32_MAX, &v);
		if(rc == CPM_ELIMIT) {
			/* RFC 3261, 20.19: a number all the same */
			v = UINT32_MAX;
			rc = CPM_OK;
		}
	}
	if(rc != CPM_OK) {
		return rc;
	}
	if(v > 0 && v < CPM_SUBS_MIN_S) {
		return CPM_ELIMIT;
	}
	*s_r = v > max_s ? max_s : (uint32_t)v;
	return CPM_OK;
}

struct cpm_pl cpm_subs_tag(struct cpm_pl aor, struct cpm_pl call_id,
		struct cpm_pl remote_tag, struct cpm_pl cseq, char *buf)
{
	struct cpm_pl nul = cpm_pl("", 1);
	uint64_t h = cpm_hash64(CPM_HASH_INIT, aor);
	uint64_t h2;
	struct cpm_wr w;

	h = cpm_hash64(cpm_hash64(h, nul), call_id);
	h = cpm_hash64(cpm_hash64(h, nul), remote_tag);
	h = cpm_hash64(cpm_hash64(h, nul), cseq);
	h2 = cpm_hash64(cpm_hash64(h ^ UINT64_C(0x5bd1e995), remote_tag), call_id);
	cpm_wr_init(&w, buf, CPM_SUBS_TAG_MAX);
	cpm_wr_str(&w, CPM_SUBS_TAG_HEAD);
	cpm_wr_hex64(&w, h);
	cpm_wr_hex64(&w, h2);
	return cpm_wr_pl(&w);
}

bool cpm_subs_tag_is(struct cpm_pl tag)
{
	size_t head = sizeof(CPM_SUBS_TAG_HEAD) - 1;
	size_t i;

	if(tag.n != head + 32
			|| !cpm_pl_starts(tag, CPM_PL_LIT(CPM_SUBS_TAG_HEAD))) {
		return false;
	}
	for(i = head; i < tag.n; i++) {
		/* as we wrote it: in lower case */
		if(cpm_hex_value(tag.p[i]) < 0
				|| (tag.p[i] >= 'A' && tag.p[i] <= 'F')) {
			return false;
		}
	}
	return true;
}

/* ------------------------------------------------------------- stored */

static int line_put(struct cpm_wr *w, struct cpm_pl a, size_t min, size_t max)
{
	if(a.n > max) {
		return CPM_ELIMIT;
	}
	if(a.n < min || cpm_pl_ctl(a) < a.n) {
		return CPM_EPROTO;
	}
	cpm_wr_pl_put(w, a);
	cpm_wr_chr(w, '\n');
	return CPM_OK;
}

int cpm_subs_record_put(const struct cpm_subs_record *r, struct cpm_wr *w)
{
	int rc = line_put(w, r->event, 1, CPM_SUBS_EVENT_MAX);

	if(rc == CPM_OK) {
		rc = line_put(w, r->local, 1, CPM_SUBS_URI_MAX);
	}
	if(rc == CPM_OK) {
		rc = line_put(w, r->remote, 1, CPM_SUBS_URI_MAX);
	}
	if(rc == CPM_OK) {
		rc = line_put(w, r->routes, 0, CPM_SUBS_ROUTES_MAX);
	}
	return rc != CPM_OK ? rc : cpm_wr_ok(w) ? CPM_OK : CPM_ENOMEM;
}

int cpm_subs_record_read(struct cpm_pl text, struct cpm_subs_record *r_r)
{
	struct cpm_subs_record r;

	r.event = cpm_pl_cut(&text, '\n');
	r.local = cpm_pl_cut(&text, '\n');
	r.remote = cpm_pl_cut(&text, '\n');
	if(text.p == NULL) {
		return CPM_EPROTO;
	}
	r.routes = cpm_pl_cut(&text, '\n');
	if(r.event.n == 0 || r.local.n == 0 || r.remote.n == 0) {
		return CPM_EPROTO;
	}
	*r_r = r;
	return CPM_OK;
}

static int field_put(struct cpm_wr *w, struct cpm_pl a, size_t max)
{
	size_t i;

	if(a.n > max) {
		return CPM_ELIMIT;
	}
	for(i = 0; i < a.n; i++) {
		if((unsigned char)a.p[i] <= ' ' || a.p[i] == 0x7f) {
			return CPM_EPROTO;
		}
	}
	cpm_wr_pl_put(w, a.n > 0 ? a : CPM_PL_LIT("-"));
	return CPM_OK;
}

int cpm_subs_fields_put(struct cpm_pl a, struct cpm_pl b, struct cpm_pl c,
		size_t max, struct cpm_wr *w)
{
	int rc = a.n > 0 ? field_put(w, a, max) : CPM_EPROTO;

	if(rc == CPM_OK) {
		cpm_wr_chr(w, ' ');
		rc = field_put(w, b, max);
	}
	if(rc == CPM_OK) {
		cpm_wr_chr(w, ' ');
		rc = field_put(w, c, max);
	}
	return rc != CPM_OK ? rc : cpm_wr_ok(w) ? CPM_OK : CPM_ENOMEM;
}

static struct cpm_pl field_of(struct cpm_pl *rest)
{
	struct cpm_pl a = cpm_pl_cut(rest, ' ');

	return cpm_pl_eq(a, CPM_PL_LIT("-")) ? CPM_PL_NULL : a;
}

int cpm_subs_fields_read(struct cpm_pl text, struct cpm_pl *a_r,
		struct cpm_pl *b_r, struct cpm_pl *c_r)
{
	struct cpm_pl a = field_of(&text);
	struct cpm_pl b = field_of(&text);

	if(a.n == 0 || text.p == NULL) {
		return CPM_EPROTO;
	}
	*a_r = a;
	*b_r = b;
	*c_r = field_of(&text);
	return CPM_OK;
}

/* RFC 6665, 4.2.2: an answer that speaks of this subscription, or of the
 * subscriber as a whole (RFC 5057, 5.1), ends it; 408, 5xx and what is busy do
 * not. */
enum cpm_subs_answer cpm_subs_answer_of(unsigned code)
{
	static const unsigned gone[] = {
			404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604};
	size_t i;

	if(code >= 200 && code < 300) {
		return CPM_SUBS_TAKEN;
	}
	for(i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
		if(gone[i] == code) {
			return CPM_SUBS_GONE;
		}
	}
	return CPM_SUBS_KEPT;
}

void cpm_subs_state_put(const struct cpm_subs_due *d, struct cpm_wr *w)
{
	switch(d->owed) {
		case CPM_SUBS_IDLE:
		case CPM_SUBS_STATE:
			cpm_wr_str(w, "active;expires=");
			/* a second that has begun counts: 0 would be the end */
			cpm_wr_u64(w, (d->left_ms + 999) / 1000);
			break;
		case CPM_SUBS_ENDED:
		case CPM_SUBS_TIMEOUT:
			cpm_wr_str(w, "terminated;reason=timeout");
			break;
		case CPM_SUBS_DROPPED:
			/* to try again at once would drop another one's */
			cpm_wr_str(w, "terminated;reason=probation;retry-after=3600");
			break;
	}
}

/* ------------------------------------------------------------- summaries */

/* "name: value" */
static struct cpm_pl line_name(struct cpm_pl line)
{
	return cpm_pl_trim(cpm_pl(line.p, cpm_pl_chr(line, ':')));
}

static bool waits(struct cpm_pl summary)
{
	struct cpm_pl line;

	while(summary.p != NULL) {
		line = cpm_pl_trim(cpm_pl_cut(&summary, '\n'));
		if(cpm_pl_ieq(line_name(line), CPM_PL_LIT("Messages-Waiting"))) {
			line = cpm_pl_from(line, cpm_pl_chr(line, ':') + 1);
			return cpm_pl_ieq(cpm_pl_trim(line), CPM_PL_LIT("yes"));
		}
	}
	return false;
}

/* Whether the first lines of a summary count messages of a class. */
static bool has_class(struct cpm_pl summary, struct cpm_pl name)
{
	struct cpm_pl line;

	while(summary.p != NULL) {
		line = cpm_pl_trim(cpm_pl_cut(&summary, '\n'));
		if(line.n == 0) {
			return false;
		}
		if(cpm_pl_ieq(line_name(line), name)) {
			return true;
		}
	}
	return false;
}

static void classes_put(
		struct cpm_pl ours, struct cpm_pl other, struct cpm_wr *w)
{
	struct cpm_pl line, name;

	while(other.p != NULL) {
		line = cpm_pl_trim(cpm_pl_cut(&other, '\n'));
		if(line.n == 0) {
			return; /* blocks of single messages are left out */
		}
		name = line_name(line);
		if(cpm_pl_ctl(line) == line.n && is_token(name) && name.n < line.n
				&& !cpm_pl_ieq(name, CPM_PL_LIT("Messages-Waiting"))
				&& !cpm_pl_ieq(name, CPM_PL_LIT("Message-Account"))
				&& !has_class(ours, name)) {
			cpm_wr_pl_put(w, line);
			cpm_wr_str(w, "\r\n");
		}
	}
}

void cpm_subs_summary_merge(
		struct cpm_pl ours, struct cpm_pl other, struct cpm_wr *w)
{
	struct cpm_pl rest = ours;
	struct cpm_pl line;

	cpm_wr_str(w, waits(ours) || waits(other) ? "Messages-Waiting: yes\r\n"
											  : "Messages-Waiting: no\r\n");
	(void)cpm_pl_cut(&rest, '\n');
	while(rest.n > 0) {
		struct cpm_pl at = rest;

		line = cpm_pl_trim(cpm_pl_cut(&rest, '\n'));
		if(line.n == 0) {
			rest = at;
			break;
		}
		cpm_wr_pl_put(w, line);
		cpm_wr_str(w, "\r\n");
	}
	classes_put(ours, other, w);
	cpm_wr_pl_put(w, rest);
}

/* --------------------------------------------------------------- keys */

static int keys_build(struct cpm_subs_keys *k, struct cpm_pl prefix,
		unsigned shard, struct cpm_pl aor)
{
	struct cpm_wr w;
	size_t from, i;

	if(prefix.n == 0 || prefix.n > CPM_QUEUE_PREFIX_MAX || aor.n > CPM_AOR_MAX
			|| shard >= CPM_QUEUE_SHARDS) {
		return CPM_ELIMIT;
	}
	cpm_wr_init(&w, k->buf, sizeof(k->buf));
	for(i = 0; i < CPM_SUBS_KEY_COUNT_; i++) {
		from = w.n;
		cpm_wr_pl_put(&w, prefix);
		cpm_wr_str(&w, ":{");
		cpm_wr_u64(&w, shard);
		if(i == CPM_SUBS_KEY_SUBS && aor.n > 0) {
			cpm_wr_str(&w, "}:s:");
			cpm_wr_pl_put(&w, aor);
		} else {
			cpm_wr_str(&w, "}:subs");
		}
		k->key[i] = cpm_pl(k->buf + from, w.n - from);
	}
	return cpm_wr_ok(&w) ? CPM_OK : CPM_ELIMIT;
}

int cpm_subs_keys_init(
		struct cpm_subs_keys *k, struct cpm_pl prefix, struct cpm_pl aor)
{
	return aor.n == 0 ? CPM_ELIMIT
					  : keys_build(k, prefix, cpm_queue_shard(aor), aor);
}

int cpm_subs_keys_shard(
		struct cpm_subs_keys *k, struct cpm_pl prefix, unsigned shard)
{
	return keys_build(k, prefix, shard, CPM_PL_NULL);
}
