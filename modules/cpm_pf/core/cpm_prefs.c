/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_prefs.c - preferences of a user and policies of the provider.
 *
 * runs in:  anything; pure functions
 *
 *     originator = "" / "*" / "anonymous" / "*@" host / prefix "*" / uri
 *     prefix     = "tel:" [ "+" ] *digit
 *                / ( "sip:" / "sips:" / "im:" / "pres:" ) *user [ "@" *host ]
 *     type       = token "/" ( token / "*" ) / "*" "/" "*"
 *     types      = [ type *( "," type ) ]
 *     max-size   = [ number / cap "=" number *( "," cap "=" number ) ]
 *     cap        = name / "*"
 *
 * A flat block is in the byte order of this machine, and found at any
 * address: its structures are copied out, not pointed at. Whatever is read
 * from one is checked, once the head and all rules, and each rule again when
 * it is used.
 */

#include "cpm_prefs.h"
#include "cpm_aor.h"

#define BLOCK_MAGIC UINT32_C(0x43504d31)

/* No implicit padding in these two, so that equal rules are equal bytes. */
struct cpm_prefs_head
{
	uint32_t magic;
	uint32_t size; /* of the whole block */
	uint32_t rule_count;
	uint32_t class_len; /* service_class is the first of the texts */
	uint8_t known;
	uint8_t enabled;
	uint8_t when_offline;
	uint8_t queue_mode;
	uint8_t on_expiry;
	uint8_t record_copy;
	uint8_t pad[2];
};

/* Offsets count from the start of the block. */
struct cpm_rule_flat
{
	int64_t id;
	uint64_t min_size;
	uint64_t max_size;
	uint64_t valid_from_s;
	uint64_t valid_until_s;
	int32_t priority;
	uint32_t originator_off;
	uint32_t type_off;
	uint32_t device_off;
	uint16_t originator_len;
	uint16_t type_len;
	uint16_t device_len;
	uint8_t orig_kind;
	uint8_t kind;
	uint8_t action;
	uint8_t pad[7];
};

_Static_assert(sizeof(struct cpm_prefs_head) == 24, "head is padded");
_Static_assert(sizeof(struct cpm_rule_flat) == 72, "rule is padded");

/* --------------------------------------------------------------- words */

struct word
{
	const char *word;
	int value;
};

static const struct word offline_words[] = {{"", CPM_OFFLINE_DEFER},
		{"defer", CPM_OFFLINE_DEFER}, {"store", CPM_OFFLINE_STORE},
		{"reject", CPM_OFFLINE_REJECT}, {"interwork", CPM_OFFLINE_INTERWORK},
		{"discard", CPM_OFFLINE_DISCARD}, {NULL, 0}};

static const struct word mode_words[] = {{"", CPM_QUEUE_PUSH},
		{"push", CPM_QUEUE_PUSH}, {"notify", CPM_QUEUE_NOTIFY}, {NULL, 0}};

static const struct word expiry_words[] = {{"", CPM_EXPIRY_DELETE},
		{"delete", CPM_EXPIRY_DELETE}, {"store", CPM_EXPIRY_STORE}, {NULL, 0}};

static const struct word action_words[] = {{"deliver", CPM_ACTION_DELIVER},
		{"reject", CPM_ACTION_REJECT}, {"interwork", CPM_ACTION_INTERWORK},
		{"store", CPM_ACTION_STORE}, {"queue", CPM_ACTION_QUEUE},
		{"defer", CPM_ACTION_DEFER}, {NULL, 0}};

static const struct word kind_words[] = {{"", CPM_KIND_ANY},
		{"any", CPM_KIND_ANY}, {"pager", CPM_KIND_PAGER},
		{"large", CPM_KIND_LARGE}, {NULL, 0}};

static struct cpm_pl column(const char *text)
{
	return cpm_pl_trim(cpm_pl_str(text));
}

static bool find_word(const struct word *table, const char *text, int *v_r)
{
	struct cpm_pl want = column(text);

	for(; table->word; table++)
		if(cpm_pl_ieq(want, cpm_pl_str(table->word))) {
			*v_r = table->value;
			return true;
		}
	return false;
}

static int fail(struct cpm_diag *diag, int rc, const char *why)
{
	if(diag)
		*diag = (struct cpm_diag){why, 0};
	return rc;
}

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')
		   || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')
		   || (c >= 'A' && c <= 'F');
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Never strchr(set, c) alone: it finds the NUL that ends the set. */
static bool is_in(char c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

/* What goes into a header of a reply or into a log must not end its line. */
static bool is_printable(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if(a.p[i] < ' ' || a.p[i] > '~')
			return false;
	return true;
}

static void put_lower(struct cpm_wr *w, struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		cpm_wr_chr(w, lower(a.p[i]));
}

/* ---------------------------------------------------------- originator */

static bool put_aor(struct cpm_wr *w, struct cpm_pl uri)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor;

	if(cpm_aor_canon(uri, buf, sizeof(buf), &aor, NULL) != CPM_OK)
		return false;
	cpm_wr_pl_put(w, aor);
	return true;
}

/* A host is what the host of an AoR is; nothing may stand beside it. */
static bool put_domain(struct cpm_wr *w, struct cpm_pl domain)
{
	char uri_buf[CPM_PATTERN_MAX + 8], aor_buf[CPM_AOR_MAX];
	struct cpm_pl aor, host;
	struct cpm_wr uri;

	cpm_wr_init(&uri, uri_buf, sizeof(uri_buf));
	cpm_wr_str(&uri, "sip:x@");
	cpm_wr_pl_put(&uri, domain);
	if(cpm_aor_canon(cpm_wr_pl(&uri), aor_buf, sizeof(aor_buf), &aor, NULL)
			!= CPM_OK)
		return false;
	host = cpm_aor_host(aor);
	/* shorter: a port or a parameter was dropped, or the last dot */
	if(host.n != domain.n
			&& !(host.n + 1 == domain.n && domain.p[host.n] == '.'))
		return false;
	cpm_wr_pl_put(w, host);
	return true;
}

/* As cpm_aor_canon writes it, with a host that is not there yet. */
static bool put_user_prefix(struct cpm_wr *w, struct cpm_pl user)
{
	char uri_buf[CPM_PATTERN_MAX + 8], aor_buf[CPM_AOR_MAX];
	struct cpm_pl aor;
	struct cpm_wr uri;

	if(cpm_pl_chr(user, ':') < user.n) /* would be taken for a password */
		return false;
	cpm_wr_init(&uri, uri_buf, sizeof(uri_buf));
	cpm_wr_str(&uri, "sip:");
	cpm_wr_pl_put(&uri, user);
	cpm_wr_str(&uri, "@x");
	if(cpm_aor_canon(cpm_wr_pl(&uri), aor_buf, sizeof(aor_buf), &aor, NULL)
			!= CPM_OK)
		return false;
	cpm_wr_pl_put(w, cpm_pl(aor.p, aor.n - 2));
	return true;
}

static bool put_host_prefix(struct cpm_wr *w, struct cpm_pl host)
{
	const char *others = host.n > 0 && host.p[0] == '[' ? ".:[]" : ".-_";

	for(size_t i = 0; i < host.n; i++)
		if(!is_alnum(host.p[i]) && !is_in(host.p[i], others))
			return false;
	cpm_wr_chr(w, '@');
	put_lower(w, host);
	return true;
}

static bool put_sip_prefix(struct cpm_wr *w, struct cpm_pl rest)
{
	struct cpm_pl host = rest;
	struct cpm_pl user = cpm_pl_cut(&host, '@');

	if(rest.n == 0) {
		cpm_wr_str(w, "sip:");
		return true;
	}
	return put_user_prefix(w, user) && (!host.p || put_host_prefix(w, host));
}

static bool put_tel_prefix(struct cpm_wr *w, struct cpm_pl number)
{
	bool global = number.n > 0 && number.p[0] == '+';

	cpm_wr_str(w, global ? "tel:+" : "tel:");
	for(size_t i = global; i < number.n; i++) {
		char d = number.p[i];

		if(is_in(d, "-.()"))
			continue;
		if(global ? d < '0' || d > '9' : !is_hex(d) && d != '#')
			return false;
		cpm_wr_chr(w, lower(d));
	}
	return true;
}

/* text: without the '*' at its end */
static bool put_prefix(struct cpm_wr *w, struct cpm_pl text)
{
	static const char *const sip_like[] = {"sip", "sips", "im", "pres"};
	struct cpm_pl rest = text;
	struct cpm_pl scheme = cpm_pl_cut(&rest, ':');

	if(!rest.p || cpm_pl_chr(rest, '*') < rest.n)
		return false;
	if(cpm_pl_ieq(scheme, CPM_PL_LIT("tel")))
		return put_tel_prefix(w, rest);
	for(size_t i = 0; i < sizeof(sip_like) / sizeof(sip_like[0]); i++)
		if(cpm_pl_ieq(scheme, cpm_pl_str(sip_like[i])))
			return put_sip_prefix(w, rest);
	return false;
}

static bool put_originator(
		struct cpm_wr *w, struct cpm_pl text, enum cpm_originator *kind_r)
{
	if(text.n > CPM_PATTERN_MAX)
		return false;
	if(text.n == 0 || cpm_pl_eq(text, CPM_PL_LIT("*"))) {
		*kind_r = CPM_ORIG_ANY;
		return true;
	}
	if(cpm_pl_ieq(text, CPM_PL_LIT("anonymous"))) {
		*kind_r = CPM_ORIG_ANONYMOUS;
		return true;
	}
	if(cpm_pl_starts(text, CPM_PL_LIT("*@"))) {
		*kind_r = CPM_ORIG_DOMAIN;
		return put_domain(w, cpm_pl_from(text, 2));
	}
	if(text.p[text.n - 1] == '*') {
		*kind_r = CPM_ORIG_PREFIX;
		return put_prefix(w, cpm_pl(text.p, text.n - 1));
	}
	*kind_r = CPM_ORIG_EXACT;
	/* "tel:(22*)" is the number 22*, which nobody could tell from a prefix */
	return put_aor(w, text) && (w->n == 0 || w->buf[w->n - 1] != '*');
}

/* --------------------------------------------------------------- types */

struct ctype
{
	struct cpm_pl type;
	struct cpm_pl sub;
};

/* RFC 2045 less the '*', which is a wildcard here and in no registered type. */
static bool is_token(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if(!is_alnum(a.p[i]) && !is_in(a.p[i], "!#$%&'+-.^_`|~"))
			return false;
	return a.n > 0;
}

static bool is_star(struct cpm_pl a)
{
	return a.n == 1 && a.p[0] == '*';
}

static struct ctype split_type(struct cpm_pl text)
{
	struct cpm_pl sub = text;
	struct cpm_pl type = cpm_pl_cut(&sub, '/');

	return (struct ctype){cpm_pl_trim(type), cpm_pl_trim(sub)};
}

static bool is_type(const struct ctype *t)
{
	return is_token(t->type) && is_token(t->sub);
}

static bool is_type_pattern(const struct ctype *t)
{
	return is_star(t->sub) ? is_star(t->type) || is_token(t->type) : is_type(t);
}

static bool put_type(struct cpm_wr *w, struct cpm_pl text)
{
	struct ctype t = split_type(text);

	if(text.n == 0)
		return true;
	if(text.n > CPM_PATTERN_MAX || !is_type_pattern(&t))
		return false;
	if(is_star(t.type))
		return true;
	put_lower(w, t.type);
	cpm_wr_chr(w, '/');
	if(!is_star(t.sub))
		put_lower(w, t.sub);
	return true;
}

static bool type_matches(const struct ctype *want, const struct ctype *have)
{
	if(is_star(want->type))
		return true;
	return is_type(have) && cpm_pl_ieq(want->type, have->type)
		   && (is_star(want->sub) || cpm_pl_ieq(want->sub, have->sub));
}

bool cpm_types_accept(struct cpm_pl list, struct cpm_pl content_type)
{
	struct ctype have = split_type(cpm_pl_cut(&content_type, ';'));

	if(cpm_pl_trim(list).n == 0)
		return true;
	while(list.p) {
		struct cpm_pl item = cpm_pl_cut(&list, ',');
		struct ctype want = split_type(cpm_pl_cut(&item, ';'));

		if(is_type_pattern(&want) && type_matches(&want, &have))
			return true;
	}
	return false;
}

int cpm_types_check(struct cpm_pl list)
{
	if(cpm_pl_trim(list).n == 0)
		return CPM_OK;
	while(list.p) {
		struct ctype t = split_type(cpm_pl_cut(&list, ','));

		if(!is_type_pattern(&t))
			return CPM_EPROTO;
	}
	return CPM_OK;
}

/* -------------------------------------------------------------- device */

static struct cpm_pl unwrap(struct cpm_pl a, char first, char last)
{
	if(a.n >= 2 && a.p[0] == first && a.p[a.n - 1] == last)
		return cpm_pl_trim(cpm_pl(a.p + 1, a.n - 2));
	return a;
}

/* Copied from a Contact, it has quotes and brackets; as cpm_caps tells it,
 * it has none. */
static bool put_device(struct cpm_wr *w, struct cpm_pl text)
{
	struct cpm_pl a = unwrap(unwrap(text, '"', '"'), '<', '>');

	if(a.n > CPM_PATTERN_MAX || (text.n > 0 && a.n == 0))
		return false;
	for(size_t i = 0; i < a.n; i++)
		if(a.p[i] <= ' ' || a.p[i] > '~' || is_in(a.p[i], "\"<>"))
			return false;
	cpm_wr_pl_put(w, a);
	return true;
}

/* ---------------------------------------------------------------- rule */

/* What was written since w->n was from. */
static struct cpm_pl written(const struct cpm_wr *w, size_t from)
{
	if(!cpm_wr_ok(w) || w->n == from)
		return CPM_PL_NULL;
	return cpm_pl(w->buf + from, w->n - from);
}

/* NULL, or the column that is wrong. */
static const char *compile_texts(
		const struct cpm_rule_row *row, struct cpm_wr *w, struct cpm_rule *rule)
{
	size_t from = w->n;

	if(!put_originator(w, column(row->originator), &rule->orig_kind))
		return "originator";
	rule->originator = written(w, from);
	from = w->n;
	if(!put_type(w, column(row->content_type)))
		return "content_type";
	rule->type = written(w, from);
	from = w->n;
	if(!put_device(w, column(row->device)))
		return "device";
	rule->device = written(w, from);
	return NULL;
}

static const char *compile_words(
		const struct cpm_rule_row *row, struct cpm_rule *rule)
{
	int kind, action;

	if(!find_word(kind_words, row->message_kind, &kind))
		return "message_kind";
	if(!find_word(action_words, row->action, &action))
		return "action";
	rule->kind = (enum cpm_kind)kind;
	rule->action = (enum cpm_action)action;
	return NULL;
}

static const char *compile_numbers(
		const struct cpm_rule_row *row, struct cpm_rule *rule)
{
	if(row->min_size < 0)
		return "min_size";
	if(row->max_size < 0 || (row->max_size && row->max_size < row->min_size))
		return "max_size";
	if(row->valid_from < 0)
		return "valid_from";
	if(row->valid_until < 0
			|| (row->valid_until && row->valid_until < row->valid_from))
		return "valid_until";
	if(row->priority < INT32_MIN || row->priority > INT32_MAX)
		return "priority";
	rule->min_size = (uint64_t)row->min_size;
	rule->max_size = (uint64_t)row->max_size;
	rule->valid_from_s = (uint64_t)row->valid_from;
	rule->valid_until_s = (uint64_t)row->valid_until;
	rule->priority = (int32_t)row->priority;
	return NULL;
}

int cpm_rule_compile(const struct cpm_rule_row *row, char *scratch, size_t cap,
		struct cpm_rule *rule_r, struct cpm_diag *diag)
{
	struct cpm_rule rule = {.id = row->id};
	const char *wrong;
	struct cpm_wr w;

	cpm_wr_init(&w, scratch, cap);
	wrong = compile_texts(row, &w, &rule);
	if(!wrong)
		wrong = compile_words(row, &rule);
	if(!wrong)
		wrong = compile_numbers(row, &rule);
	if(wrong)
		return fail(diag, CPM_EPROTO, wrong);
	if(!cpm_wr_ok(&w))
		return fail(diag, CPM_ENOMEM, "small-buffer");
	*rule_r = rule;
	return CPM_OK;
}

/* ---------------------------------------------------------------- user */

int cpm_user_compile(const struct cpm_user_row *row, struct cpm_prefs *prefs_r,
		struct cpm_diag *diag)
{
	struct cpm_prefs prefs = cpm_prefs_default();
	int when_offline, queue_mode, on_expiry;

	prefs.service_class = column(row->service_class);
	if(prefs.service_class.n > CPM_CLASS_MAX
			|| !is_printable(prefs.service_class))
		return fail(diag, CPM_EPROTO, "service_class");
	if(!find_word(offline_words, row->when_offline, &when_offline))
		return fail(diag, CPM_EPROTO, "when_offline");
	if(!find_word(mode_words, row->queue_mode, &queue_mode))
		return fail(diag, CPM_EPROTO, "queue_mode");
	if(!find_word(expiry_words, row->on_expiry, &on_expiry))
		return fail(diag, CPM_EPROTO, "on_expiry");
	prefs.enabled = row->enabled;
	prefs.when_offline = (enum cpm_when_offline)when_offline;
	prefs.queue_mode = (enum cpm_queue_mode)queue_mode;
	prefs.on_expiry = (enum cpm_on_expiry)on_expiry;
	prefs.record_copy = row->record_copy;
	*prefs_r = prefs;
	return CPM_OK;
}

struct cpm_prefs cpm_prefs_default(void)
{
	return (struct cpm_prefs){.known = true,
			.enabled = true,
			.when_offline = CPM_OFFLINE_DEFER,
			.queue_mode = CPM_QUEUE_PUSH,
			.on_expiry = CPM_EXPIRY_DELETE};
}

/* -------------------------------------------------------------- encode */

static size_t texts_off(size_t rule_count)
{
	return sizeof(struct cpm_prefs_head)
		   + rule_count * sizeof(struct cpm_rule_flat);
}

static size_t rule_texts(const struct cpm_rule *rule)
{
	return rule->originator.n + rule->type.n + rule->device.n;
}

size_t cpm_prefs_encoded_max(const struct cpm_rule *rules, size_t rule_count,
		const struct cpm_prefs *prefs)
{
	size_t n = texts_off(rule_count) + prefs->service_class.n;

	for(size_t i = 0; i < rule_count; i++)
		n += rule_texts(&rules[i]);
	return n;
}

static bool is_before(
		int32_t priority_a, int64_t id_a, int32_t priority_b, int64_t id_b)
{
	if(priority_a != priority_b)
		return priority_a < priority_b;
	return id_a < id_b;
}

/* By insertion: SQL sends them sorted, and there are few. */
static void sort_rules(struct cpm_rule *rules, size_t rule_count)
{
	for(size_t i = 1; i < rule_count; i++) {
		struct cpm_rule rule = rules[i];
		size_t at = i;

		while(at > 0
				&& is_before(rule.priority, rule.id, rules[at - 1].priority,
						rules[at - 1].id)) {
			rules[at] = rules[at - 1];
			at--;
		}
		rules[at] = rule;
	}
}

static bool texts_fit(const struct cpm_rule *rules, size_t rule_count)
{
	for(size_t i = 0; i < rule_count; i++)
		if(rules[i].originator.n > CPM_PATTERN_MAX
				|| rules[i].type.n > CPM_PATTERN_MAX
				|| rules[i].device.n > CPM_PATTERN_MAX)
			return false;
	return true;
}

/* Bounded by texts_fit: no number here comes near to 2^32. */
static void put_head(struct cpm_wr *w, const struct cpm_prefs *prefs,
		size_t rule_count, size_t size)
{
	struct cpm_prefs_head head = {
			.magic = BLOCK_MAGIC,
			.size = (uint32_t)size,
			.rule_count = (uint32_t)rule_count,
			.class_len = (uint32_t)prefs->service_class.n,
			.known = prefs->known,
			.enabled = prefs->enabled,
			.when_offline = (uint8_t)prefs->when_offline,
			.queue_mode = (uint8_t)prefs->queue_mode,
			.on_expiry = (uint8_t)prefs->on_expiry,
			.record_copy = prefs->record_copy,
	};

	cpm_wr_pl_put(w, cpm_pl((const char *)&head, sizeof(head)));
}

static void put_rule(struct cpm_wr *w, const struct cpm_rule *rule, size_t off)
{
	struct cpm_rule_flat flat = {
			.id = rule->id,
			.min_size = rule->min_size,
			.max_size = rule->max_size,
			.valid_from_s = rule->valid_from_s,
			.valid_until_s = rule->valid_until_s,
			.priority = rule->priority,
			.originator_off = (uint32_t)off,
			.type_off = (uint32_t)(off + rule->originator.n),
			.device_off = (uint32_t)(off + rule->originator.n + rule->type.n),
			.originator_len = (uint16_t)rule->originator.n,
			.type_len = (uint16_t)rule->type.n,
			.device_len = (uint16_t)rule->device.n,
			.orig_kind = (uint8_t)rule->orig_kind,
			.kind = (uint8_t)rule->kind,
			.action = (uint8_t)rule->action,
	};

	cpm_wr_pl_put(w, cpm_pl((const char *)&flat, sizeof(flat)));
}

static void put_rule_texts(struct cpm_wr *w, const struct cpm_rule *rule)
{
	cpm_wr_pl_put(w, rule->originator);
	cpm_wr_pl_put(w, rule->type);
	cpm_wr_pl_put(w, rule->device);
}

int cpm_prefs_encode(const struct cpm_prefs *prefs, struct cpm_rule *rules,
		size_t rule_count, struct cpm_wr *w)
{
	size_t off = texts_off(rule_count) + prefs->service_class.n;

	if(rule_count > CPM_RULES_MAX || prefs->service_class.n > CPM_CLASS_MAX
			|| !texts_fit(rules, rule_count))
		return CPM_ELIMIT;
	sort_rules(rules, rule_count);
	put_head(w, prefs, rule_count,
			cpm_prefs_encoded_max(rules, rule_count, prefs));
	for(size_t i = 0; i < rule_count; i++) {
		put_rule(w, &rules[i], off);
		off += rule_texts(&rules[i]);
	}
	cpm_wr_pl_put(w, prefs->service_class);
	for(size_t i = 0; i < rule_count; i++)
		put_rule_texts(w, &rules[i]);
	return cpm_wr_ok(w) ? CPM_OK : CPM_ENOMEM;
}

/* -------------------------------------------------------------- decode */

static bool head_ok(const struct cpm_prefs_head *h, size_t size)
{
	if(h->magic != BLOCK_MAGIC || h->size != size
			|| h->rule_count > CPM_RULES_MAX || h->class_len > CPM_CLASS_MAX
			|| texts_off(h->rule_count) + h->class_len > size)
		return false;
	return h->known <= 1 && h->enabled <= 1 && h->record_copy <= 1
		   && h->when_offline <= CPM_OFFLINE_DISCARD
		   && h->queue_mode <= CPM_QUEUE_NOTIFY
		   && h->on_expiry <= CPM_EXPIRY_STORE;
}

static bool flat_ok(const struct cpm_rule_flat *f)
{
	return f->orig_kind <= CPM_ORIG_ANONYMOUS && f->kind <= CPM_KIND_LARGE
		   && f->action <= CPM_ACTION_DEFER;
}

/* Where texts begin at from. */
static bool get_text(struct cpm_pl block, size_t from, uint32_t off,
		uint16_t len, struct cpm_pl *text_r)
{
	if(off < from || off > block.n || len > block.n - off
			|| len > CPM_PATTERN_MAX)
		return false;
	*text_r = cpm_pl(block.p + off, len);
	return true;
}

static bool get_texts(struct cpm_pl block, size_t from,
		const struct cpm_rule_flat *f, struct cpm_rule *rule)
{
	return get_text(block, from, f->originator_off, f->originator_len,
				   &rule->originator)
		   && get_text(block, from, f->type_off, f->type_len, &rule->type)
		   && get_text(
				   block, from, f->device_off, f->device_len, &rule->device);
}

int cpm_prefs_rule(
		const struct cpm_prefs *prefs, size_t i, struct cpm_rule *rule_r)
{
	size_t from = texts_off(prefs->rule_count);
	struct cpm_rule_flat f;
	struct cpm_rule rule;

	if(prefs->rule_count > CPM_RULES_MAX || i >= prefs->rule_count
			|| from > prefs->block.n)
		return CPM_EPROTO;
	memcpy(&f, prefs->block.p + texts_off(i), sizeof(f));
	if(!flat_ok(&f) || !get_texts(prefs->block, from, &f, &rule))
		return CPM_EPROTO;
	rule.id = f.id;
	rule.priority = f.priority;
	rule.orig_kind = (enum cpm_originator)f.orig_kind;
	rule.kind = (enum cpm_kind)f.kind;
	rule.min_size = f.min_size;
	rule.max_size = f.max_size;
	rule.valid_from_s = f.valid_from_s;
	rule.valid_until_s = f.valid_until_s;
	rule.action = (enum cpm_action)f.action;
	*rule_r = rule;
	return CPM_OK;
}

/* All of them can be read, and they are in order. The first is compared too:
 * with "i > 0 &&" and no first value for last, gcc 12 -O2 makes code that lets
 * any order pass. */
static bool rules_ok(const struct cpm_prefs *prefs)
{
	struct cpm_rule rule, last = {.id = INT64_MIN, .priority = INT32_MIN};

	for(size_t i = 0; i < prefs->rule_count; i++) {
		if(cpm_prefs_rule(prefs, i, &rule) != CPM_OK
				|| is_before(rule.priority, rule.id, last.priority, last.id))
			return false;
		last = rule;
	}
	return true;
}

int cpm_prefs_decode(struct cpm_pl block, struct cpm_prefs *prefs_r)
{
	struct cpm_prefs_head h;
	struct cpm_prefs prefs;

	if(block.n < sizeof(h))
		return CPM_EPROTO;
	memcpy(&h, block.p, sizeof(h));
	if(!head_ok(&h, block.n))
		return CPM_EPROTO;
	prefs = (struct cpm_prefs){
			.known = h.known,
			.enabled = h.enabled,
			.when_offline = (enum cpm_when_offline)h.when_offline,
			.queue_mode = (enum cpm_queue_mode)h.queue_mode,
			.on_expiry = (enum cpm_on_expiry)h.on_expiry,
			.record_copy = h.record_copy,
			.service_class =
					cpm_pl(block.p + texts_off(h.rule_count), h.class_len),
			.rule_count = h.rule_count,
			.block = block,
	};
	if(!rules_ok(&prefs))
		return CPM_EPROTO;
	*prefs_r = prefs;
	return CPM_OK;
}

/* ------------------------------------------------------------ policies */

struct cpm_policy cpm_policy_default(void)
{
	return (struct cpm_policy){.allow_anonymous = true, .allow_send = true};
}

static bool has_limit_for(const struct cpm_policy *policy, unsigned cap)
{
	for(size_t i = 0; i < policy->deliver_max_count; i++)
		if(policy->deliver_max[i].cap == cap)
			return true;
	return false;
}

/* The array has room for each capability and "*" once, and none comes twice. */
static bool add_limit(
		struct cpm_policy *policy, struct cpm_pl name, struct cpm_pl number)
{
	size_t i = policy->deliver_max_count;
	unsigned cap = is_star(name) ? 0 : cpm_caps_named(name);
	uint64_t bytes;

	if((cap == 0 && !is_star(name)) || has_limit_for(policy, cap)
			|| i == sizeof(policy->deliver_max) / sizeof(policy->deliver_max[0])
			|| cpm_pl_u64(number, UINT64_MAX, &bytes) != CPM_OK)
		return false;
	policy->deliver_max[i].cap = cap;
	policy->deliver_max[i].bytes = bytes;
	policy->deliver_max_count = i + 1;
	return true;
}

static bool compile_limits(struct cpm_pl text, struct cpm_policy *policy)
{
	if(text.n == 0)
		return true;
	if(cpm_pl_chr(text, '=') == text.n)
		return add_limit(policy, CPM_PL_LIT("*"), text);
	while(text.p) {
		struct cpm_pl number = cpm_pl_cut(&text, ',');
		struct cpm_pl name = cpm_pl_cut(&number, '=');

		if(!add_limit(policy, cpm_pl_trim(name), cpm_pl_trim(number)))
			return false;
	}
	return true;
}

static const char *compile_policy_numbers(
		const struct cpm_policy_row *row, struct cpm_policy *policy)
{
	if(row->max_size < 0)
		return "max_size";
	if(row->queue_max_messages < 0)
		return "queue_max_messages";
	if(row->queue_max_bytes < 0)
		return "queue_max_bytes";
	if(row->max_expires < 0)
		return "max_expires";
	policy->max_size = (uint64_t)row->max_size;
	policy->queue_max_messages = (uint64_t)row->queue_max_messages;
	policy->queue_max_bytes = (uint64_t)row->queue_max_bytes;
	policy->max_expires_s = (uint64_t)row->max_expires;
	return NULL;
}

static bool copy_text(struct cpm_pl text, char *dst, size_t cap)
{
	if(text.n >= cap || !is_printable(text))
		return false;
	cpm_pl_cstr(text, dst, cap);
	return true;
}

static const char *compile_policy_texts(
		const struct cpm_policy_row *row, struct cpm_policy *policy)
{
	struct cpm_pl types = column(row->accept_types);

	if(cpm_types_check(types) != CPM_OK
			|| !copy_text(
					types, policy->accept_types, sizeof(policy->accept_types)))
		return "accept_types";
	if(!compile_limits(column(row->deliver_max_size), policy))
		return "deliver_max_size";
	if(!copy_text(column(row->notify_fields), policy->notify_fields,
			   sizeof(policy->notify_fields)))
		return "notify_fields";
	return NULL;
}

int cpm_policy_compile(const struct cpm_policy_row *row,
		struct cpm_policy *policy_r, struct cpm_diag *diag)
{
	struct cpm_policy policy = {
			.allow_anonymous = row->allow_anonymous,
			.allow_send = row->allow_send,
			.require_ids = row->require_ids,
	};
	const char *wrong = compile_policy_numbers(row, &policy);

	if(!wrong)
		wrong = compile_policy_texts(row, &policy);
	if(wrong)
		return fail(diag, CPM_EPROTO, wrong);
	*policy_r = policy;
	return CPM_OK;
}

uint64_t cpm_policy_client_max(const struct cpm_policy *policy, unsigned caps)
{
	uint64_t of_caps = 0, of_all = UINT64_MAX;
	bool listed = false;

	for(size_t i = 0; i < policy->deliver_max_count; i++) {
		unsigned cap = policy->deliver_max[i].cap;
		uint64_t bytes = policy->deliver_max[i].bytes;

		if(bytes == 0)
			bytes = UINT64_MAX;
		if(cap == 0)
			of_all = bytes;
		if((cap & caps) == 0)
			continue;
		listed = true;
		if(bytes > of_caps)
			of_caps = bytes;
	}
	return listed ? of_caps : of_all;
}
