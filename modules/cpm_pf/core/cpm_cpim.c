/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_cpim.c - Message/CPIM (RFC 3862) as clients really send it.
 *
 * runs in:  anything; pure functions; one pass, no allocation
 *
 *     cpim    = 1*header EOL *mime EOL content
 *     header  = [ prefix "." ] name ":" *( ";" param ) *WSP value EOL
 *     param   = name "=" ( 1*( any but SP, DQUOTE, ";" ) / quoted )
 *     quoted  = DQUOTE *( any but DQUOTE, "\" / "\" any ) DQUOTE
 *     mime    = name ":" value EOL *( WSP value EOL )
 *     EOL     = CRLF / LF
 *
 *     NS value                       = [ prefix ] [ SP ] "<" URN ">"
 *     Disposition-Notification value = token *( "," token ), each token
 *                                      followed by *( ";" param )
 *
 * Of a header that comes twice the first counts: it is the one that a
 * client shows.
 */

#include "cpm_cpim.h"

/* What the names of a namespace mean to us. */
enum ns_kind
{
	NS_OTHER,
	NS_CORE, /* RFC 3862, 4 */
	NS_IMDN, /* RFC 5438 */
};

struct ns
{
	struct cpm_pl prefix; /* empty: the default namespace */
	enum ns_kind kind;
};

struct parse
{
	struct cpm_pl in;
	size_t pos;
	unsigned headers;
	struct ns ns[CPM_CPIM_NS_MAX];
	size_t ns_n;
	struct cpm_cpim cpim;
	struct cpm_diag diag;
};

static int fail(struct parse *p, int rc, const char *why, size_t at)
{
	p->diag.why = why;
	p->diag.at = at;
	return rc;
}

static bool is_wsp(char c)
{
	return c == ' ' || c == '\t';
}

/* The next line without its end. */
static int next_line(struct parse *p, struct cpm_pl *line_r)
{
	struct cpm_pl rest = cpm_pl_from(p->in, p->pos);
	size_t n = cpm_pl_chr(rest, '\n');
	struct cpm_pl line = cpm_pl(rest.p, n);
	size_t bad;

	if(n == rest.n)
		return fail(p, CPM_EPROTO, "no-separator", p->in.n);
	if(n > 0 && line.p[n - 1] == '\r')
		line.n--;
	bad = cpm_pl_ctl(line);
	if(bad < line.n)
		return fail(p, CPM_EPROTO, "bad-byte", p->pos + bad);
	if(line.n > 0 && ++p->headers > CPM_CPIM_HEADERS_MAX)
		return fail(p, CPM_ELIMIT, "too-many-headers", p->pos);
	p->pos += n + 1;
	*line_r = line;
	return CPM_OK;
}

/* Cuts a line at its colon. A line ended by us begins at p->in.p + start. */
static int split(struct parse *p, size_t start, struct cpm_pl line,
		struct cpm_pl *name_r, struct cpm_pl *value_r)
{
	struct cpm_pl value = line;
	struct cpm_pl name = cpm_pl_cut(&value, ':');

	/* a name that begins with WSP is a folded line, which RFC 3862, 2.2
	 * does not know; taking it for a header would let it forge one */
	if(!value.p || name.n == 0 || is_wsp(name.p[0]))
		return fail(p, CPM_EPROTO, "no-colon", start);
	name = cpm_pl_trim(name);
	if(cpm_pl_chr(name, ' ') < name.n || cpm_pl_chr(name, '\t') < name.n)
		return fail(p, CPM_EPROTO, "no-colon", start);
	*name_r = name;
	*value_r = value;
	return CPM_OK;
}

/* The value behind *( ";" param ), trimmed. */
static struct cpm_pl skip_params(struct cpm_pl a)
{
	bool quoted = false;
	size_t i = 0;

	/* only directly behind the colon: "From: ;x" is a value */
	if(a.n == 0 || a.p[0] != ';')
		return cpm_pl_trim(a);
	for(; i < a.n && (quoted || !is_wsp(a.p[i])); i++) {
		if(quoted && a.p[i] == '\\')
			i++;
		else if(a.p[i] == '"')
			quoted = !quoted;
	}
	return cpm_pl_trim(cpm_pl_from(a, i));
}

static enum ns_kind urn_kind(struct cpm_pl urn)
{
	urn = cpm_pl_trim(urn);
	if(cpm_pl_ieq(urn, CPM_PL_LIT("urn:ietf:params:imdn")))
		return NS_IMDN;
	if(cpm_pl_ieq(urn, CPM_PL_LIT("urn:ietf:params:cpim-headers:"))
			|| cpm_pl_ieq(urn, CPM_PL_LIT("urn:ietf:params:cpim-headers")))
		return NS_CORE;
	return NS_OTHER;
}

static struct ns *find_ns(struct parse *p, struct cpm_pl prefix)
{
	for(size_t i = 0; i < p->ns_n; i++)
		if(cpm_pl_eq(p->ns[i].prefix, prefix))
			return &p->ns[i];
	return NULL;
}

static int declare_ns(struct parse *p, size_t start, struct cpm_pl value)
{
	struct cpm_pl urn = value;
	struct cpm_pl prefix = cpm_pl_trim(cpm_pl_cut(&urn, '<'));
	size_t close = cpm_pl_chr(urn, '>');
	struct ns *ns;

	if(!urn.p || close + 1 != urn.n || cpm_pl_chr(prefix, ' ') < prefix.n
			|| cpm_pl_chr(prefix, '.') < prefix.n)
		return fail(p, CPM_EPROTO, "bad-ns", start);
	ns = find_ns(p, prefix);
	if(!ns) {
		if(p->ns_n == CPM_CPIM_NS_MAX)
			return fail(p, CPM_ELIMIT, "too-many-ns", start);
		ns = &p->ns[p->ns_n++];
		ns->prefix = prefix;
	}
	/* a prefix may be declared anew for the headers that follow */
	ns->kind = urn_kind(cpm_pl(urn.p, close));
	return CPM_OK;
}

static void keep_first(struct cpm_pl *slot, struct cpm_pl value)
{
	if(slot->n == 0)
		*slot = value;
}

static unsigned dispo_of(struct cpm_pl list)
{
	static const struct
	{
		const char *token;
		unsigned bit;
	} known[] = {
			{"positive-delivery", CPM_DISPO_POSITIVE},
			{"negative-delivery", CPM_DISPO_NEGATIVE},
			{"processing", CPM_DISPO_PROCESSING},
			{"display", CPM_DISPO_DISPLAY},
	};
	unsigned bits = 0;

	while(list.p) {
		struct cpm_pl item = cpm_pl_cut(&list, ',');
		struct cpm_pl token = cpm_pl_trim(cpm_pl_cut(&item, ';'));

		for(size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			if(cpm_pl_ieq(token, cpm_pl_str(known[i].token)))
				bits |= known[i].bit;
	}
	return bits;
}

static void take_core(
		struct cpm_cpim *c, struct cpm_pl name, struct cpm_pl value)
{
	if(cpm_pl_ieq(name, CPM_PL_LIT("From")))
		keep_first(&c->from, value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("To")))
		keep_first(&c->to, value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("DateTime")))
		keep_first(&c->datetime, value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("Subject")))
		keep_first(&c->subject, value);
}

static void take_imdn(
		struct cpm_cpim *c, struct cpm_pl name, struct cpm_pl value)
{
	if(cpm_pl_ieq(name, CPM_PL_LIT("Message-ID")))
		keep_first(&c->message_id, value);
	else if(cpm_pl_ieq(name, CPM_PL_LIT("Disposition-Notification")))
		c->dispo |= dispo_of(value);
}

/* A name without prefix. Where the default namespace is the one of IMDN,
 * From and To are still taken for the core's: that namespace has no such
 * names, and whoever writes so means the core's. */
static void take_plain(struct parse *p, struct cpm_pl name, struct cpm_pl value)
{
	const struct ns *ns = find_ns(p, CPM_PL_NULL);

	if(!ns || ns->kind != NS_OTHER)
		take_core(&p->cpim, name, value);
	if(ns && ns->kind == NS_IMDN)
		take_imdn(&p->cpim, name, value);
}

static void take_prefixed(struct parse *p, struct cpm_pl prefix,
		struct cpm_pl name, struct cpm_pl value)
{
	const struct ns *ns = find_ns(p, prefix);
	enum ns_kind kind = ns ? ns->kind : NS_OTHER;

	/* clients forget the NS line, or write it last */
	if(!ns && cpm_pl_ieq(prefix, CPM_PL_LIT("imdn")))
		kind = NS_IMDN;
	if(kind == NS_IMDN)
		take_imdn(&p->cpim, name, value);
	else if(kind == NS_CORE)
		take_core(&p->cpim, name, value);
}

static int take_header(struct parse *p, size_t start, struct cpm_pl line)
{
	struct cpm_pl name, value, prefix;
	int rc = split(p, start, line, &name, &value);

	if(rc != CPM_OK)
		return rc;
	value = skip_params(value);
	if(cpm_pl_ieq(name, CPM_PL_LIT("NS")))
		return declare_ns(p, start, value);
	prefix = cpm_pl_cut(&name, '.');
	if(name.p)
		take_prefixed(p, prefix, name, value);
	else
		take_plain(p, prefix, value);
	return CPM_OK;
}

static int parse_headers(struct parse *p)
{
	struct cpm_pl line;
	bool any = false;

	if(p->in.n == 0)
		return fail(p, CPM_EPROTO, "no-header", 0);
	for(;; any = true) {
		size_t start = p->pos;
		int rc = next_line(p, &line);

		if(rc != CPM_OK)
			return rc;
		if(line.n == 0)
			break;
		rc = take_header(p, start, line);
		if(rc != CPM_OK)
			return rc;
	}
	return any ? CPM_OK : fail(p, CPM_EPROTO, "no-header", 0);
}

static struct cpm_pl *mime_slot(struct cpm_cpim *c, struct cpm_pl name)
{
	if(cpm_pl_ieq(name, CPM_PL_LIT("Content-Type")))
		return &c->content_type;
	if(cpm_pl_ieq(name, CPM_PL_LIT("Content-Transfer-Encoding")))
		return &c->content_transfer_encoding;
	if(cpm_pl_ieq(name, CPM_PL_LIT("Content-Disposition")))
		return &c->content_disposition;
	return NULL;
}

/* Takes the lines that go on with the header begun before; *value_r then
 * runs from its first byte to the end of the last of them. */
static int unfold(struct parse *p, struct cpm_pl *value_r)
{
	struct cpm_pl line;

	while(p->pos < p->in.n && is_wsp(p->in.p[p->pos])) {
		int rc = next_line(p, &line);

		if(rc != CPM_OK)
			return rc;
		value_r->n = (size_t)(line.p + line.n - value_r->p);
	}
	return CPM_OK;
}

static int parse_mime(struct parse *p)
{
	struct cpm_pl line, name, value, *slot;

	for(;;) {
		size_t start = p->pos;
		int rc = next_line(p, &line);

		if(rc != CPM_OK || line.n == 0)
			return rc;
		rc = split(p, start, line, &name, &value);
		if(rc == CPM_OK)
			rc = unfold(p, &value);
		if(rc != CPM_OK)
			return rc;
		slot = mime_slot(&p->cpim, name);
		if(slot)
			keep_first(slot, cpm_pl_trim(value));
	}
}

int cpm_cpim_parse(
		struct cpm_pl in, struct cpm_cpim *cpim_r, struct cpm_diag *diag)
{
	struct parse p = {.in = in};
	int rc = parse_headers(&p);

	if(rc == CPM_OK)
		rc = parse_mime(&p);
	if(rc != CPM_OK) {
		if(diag)
			*diag = p.diag;
		return rc;
	}
	p.cpim.content = cpm_pl(in.p + p.pos, in.n - p.pos);
	p.cpim.is_imdn = cpm_ctype_is(p.cpim.content_type, "message/imdn+xml");
	*cpim_r = p.cpim;
	return CPM_OK;
}

bool cpm_ctype_is(struct cpm_pl value, const char *type)
{
	struct cpm_pl want_sub = cpm_pl_str(type);
	struct cpm_pl want_type = cpm_pl_cut(&want_sub, '/');
	struct cpm_pl params = value;
	struct cpm_pl sub = cpm_pl_cut(&params, ';');
	struct cpm_pl have_type = cpm_pl_cut(&sub, '/');

	return sub.p && cpm_pl_ieq(cpm_pl_trim(have_type), want_type)
		   && cpm_pl_ieq(cpm_pl_trim(sub), want_sub);
}
