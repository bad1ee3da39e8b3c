/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_multipart.c - a multipart body (RFC 2046, 5.1), part by part.
 *
 * runs in:  anything; pure functions; one pass, no allocation
 *
 *     body      = *( line EOL ) delimiter *( part delimiter ) close
 *     delimiter = "--" boundary *WSP EOL
 *     close     = "--" boundary "--" *WSP ( EOL / end of input )
 *     part      = *( name ":" value EOL *( WSP value EOL ) ) EOL *( any EOL )
 *     EOL       = CRLF / LF
 */

#include "cpm_multipart.h"

enum line_kind
{
	LINE_OTHER,
	LINE_DELIMITER,
	LINE_CLOSE,
	LINE_BAD, /* a delimiter that goes on as none */
};

struct line
{
	struct cpm_pl text; /* without its end */
	size_t at;
	size_t next; /* offset of the next line; body.n: there is none */
	bool ended;	 /* by a line end, not by the end of the input */
};

static int fail(struct cpm_diag *diag, int rc, const char *why, size_t at)
{
	if(diag)
		*diag = (struct cpm_diag){why, at};
	return rc;
}

static bool is_wsp(char c)
{
	return c == ' ' || c == '\t';
}

/* ---- parameters ---- */

static size_t skip_blanks(struct cpm_pl a, size_t i)
{
	while(i < a.n && (is_wsp(a.p[i]) || a.p[i] == '\r' || a.p[i] == '\n'))
		i++;
	return i;
}

/* From a.p[*i], an opening quote; *i moves behind the closing one. */
static int quoted(struct cpm_pl a, size_t *i, struct cpm_pl *value_r)
{
	size_t start = *i + 1, end = start;

	while(end < a.n && a.p[end] != '"')
		end += a.p[end] == '\\' ? 2 : 1;
	if(end >= a.n)
		return CPM_EPROTO;
	*value_r = cpm_pl(a.p + start, end - start);
	*i = end + 1;
	return CPM_OK;
}

/* The value at a.p[*i]; *i moves to the ";" behind it, or to the end. */
static int param_value(struct cpm_pl a, size_t *i, struct cpm_pl *value_r)
{
	struct cpm_pl rest = cpm_pl_from(a, *i);

	if(rest.n > 0 && rest.p[0] == '"') {
		int rc = quoted(a, i, value_r);

		*i = skip_blanks(a, *i);
		return rc == CPM_OK && *i < a.n && a.p[*i] != ';' ? CPM_EPROTO : rc;
	}
	rest.n = cpm_pl_chr(rest, ';');
	*i += rest.n;
	*value_r = cpm_pl_trim(rest);
	return cpm_pl_chr(rest, '"') < rest.n ? CPM_EPROTO : CPM_OK;
}

int cpm_multipart_param(
		struct cpm_pl value, const char *name, struct cpm_pl *param_r)
{
	struct cpm_pl found = CPM_PL_NULL;
	size_t i = cpm_pl_chr(value, ';');

	while(i < value.n) {
		struct cpm_pl rest = cpm_pl(value.p + i + 1, value.n - i - 1);
		struct cpm_pl key = cpm_pl(rest.p, cpm_pl_chr(rest, ';')), v;
		bool wanted, has_value = cpm_pl_chr(key, '=') < key.n;

		key.n = cpm_pl_chr(key, '=');
		i += 1 + key.n;
		wanted = cpm_pl_ieq(cpm_pl_trim(key), cpm_pl_str(name));
		if(cpm_pl_chr(key, '"') < key.n
				|| (wanted && (!has_value || found.p != NULL)))
			return CPM_EPROTO;
		if(!has_value)
			continue;
		i = skip_blanks(value, i + 1);
		if(param_value(value, &i, &v) != CPM_OK)
			return CPM_EPROTO;
		if(wanted)
			found = cpm_pl(v.p ? v.p : value.p, v.n);
	}
	if(!found.p)
		return CPM_ENOENT;
	*param_r = found;
	return CPM_OK;
}

/* bchars of RFC 2046, 5.1.1; a space, but not as the last one. */
static bool boundary_ok(struct cpm_pl b)
{
	static const char others[] = "'()+_,-./:=? ";

	if(b.n == 0 || b.n > CPM_MULTIPART_BOUNDARY_MAX || b.p[b.n - 1] == ' ')
		return false;
	for(size_t i = 0; i < b.n; i++) {
		char c = b.p[i];

		if(!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
				   || (c >= 'a' && c <= 'z')
				   || memchr(others, c, sizeof(others) - 1)))
			return false;
	}
	return true;
}

static bool is_multipart(struct cpm_pl content_type)
{
	return cpm_pl_istarts(cpm_pl_trim(content_type), CPM_PL_LIT("multipart/"));
}

/* ---- lines ---- */

static struct line line_at(struct cpm_pl body, size_t at)
{
	struct cpm_pl rest = cpm_pl_from(body, at);
	size_t n = cpm_pl_chr(rest, '\n');
	struct line l = {cpm_pl(rest.p, n), at, at + n, n < rest.n};

	if(l.ended)
		l.next++;
	if(n > 0 && rest.p[n - 1] == '\r')
		l.text.n--;
	return l;
}

static enum line_kind kind_of(
		const struct cpm_multipart *m, const struct line *l)
{
	struct cpm_pl rest = l->text;
	bool closes;

	if(!cpm_pl_starts(rest, CPM_PL_LIT("--"))
			|| !cpm_pl_starts(cpm_pl_from(rest, 2), m->boundary))
		return LINE_OTHER;
	rest = cpm_pl_from(rest, 2 + m->boundary.n);
	closes = cpm_pl_starts(rest, CPM_PL_LIT("--"));
	if(closes)
		rest = cpm_pl_from(rest, 2);
	while(rest.n > 0 && is_wsp(rest.p[rest.n - 1]))
		rest.n--;
	if(rest.n > 0)
		return LINE_BAD;
	return closes ? LINE_CLOSE : LINE_DELIMITER;
}

/* The next line from *at on that is a delimiter of either kind; *at moves to
 * its beginning. What is no line at all is "missing". */
static int find_delimiter(const struct cpm_multipart *m, size_t *at,
		struct line *l_r, enum line_kind *kind_r, const char *missing,
		struct cpm_diag *diag)
{
	for(size_t pos = *at; pos < m->body.n;) {
		struct line l = line_at(m->body, pos);
		enum line_kind kind = kind_of(m, &l);

		if(kind == LINE_BAD)
			return fail(diag, CPM_EPROTO, "bad-delimiter", pos);
		if(kind == LINE_DELIMITER && !l.ended)
			return fail(diag, CPM_EPROTO, "truncated", m->body.n);
		if(kind != LINE_OTHER) {
			*at = pos;
			*l_r = l;
			*kind_r = kind;
			return CPM_OK;
		}
		pos = l.next;
	}
	return fail(diag, CPM_EPROTO, missing, m->body.n);
}

int cpm_multipart_init(struct cpm_multipart *m_r, struct cpm_pl content_type,
		struct cpm_pl body, struct cpm_diag *diag)
{
	struct cpm_multipart m = {.body = body};
	struct line l;
	enum line_kind kind;
	size_t at = 0;
	int rc;

	if(!is_multipart(content_type))
		return fail(diag, CPM_EPROTO, "not-multipart", 0);
	rc = cpm_multipart_param(content_type, "boundary", &m.boundary);
	if(rc == CPM_ENOENT)
		return fail(diag, CPM_EPROTO, "no-boundary", 0);
	if(rc != CPM_OK || !boundary_ok(m.boundary))
		return fail(diag, CPM_EPROTO, "bad-boundary", 0);
	rc = find_delimiter(&m, &at, &l, &kind, "no-part", diag);
	if(rc != CPM_OK)
		return rc;
	if(kind == LINE_CLOSE)
		return fail(diag, CPM_EPROTO, "no-part", at);
	m.pos = l.next;
	*m_r = m;
	return CPM_OK;
}

/* ---- a part ---- */

static struct cpm_pl *header_slot(
		struct cpm_multipart_part *part, struct cpm_pl name)
{
	if(cpm_pl_ieq(name, CPM_PL_LIT("content-type")))
		return &part->content_type;
	if(cpm_pl_ieq(name, CPM_PL_LIT("content-disposition")))
		return &part->content_disposition;
	if(cpm_pl_ieq(name, CPM_PL_LIT("content-transfer-encoding")))
		return &part->content_transfer_encoding;
	if(cpm_pl_ieq(name, CPM_PL_LIT("content-encoding")))
		return &part->content_encoding;
	return NULL;
}

/* One header line. *slot: where the value of the header that this line may
 * continue is kept, NULL where it is not. */
static int read_header(const struct line *l, bool first,
		struct cpm_multipart_part *part, struct cpm_pl **slot,
		struct cpm_diag *diag)
{
	struct cpm_pl value = l->text, name;
	size_t bad = cpm_pl_ctl(l->text);

	if(bad < l->text.n)
		return fail(diag, CPM_EPROTO, "bad-byte", l->at + bad);
	if(is_wsp(l->text.p[0])) {
		if(first)
			return fail(diag, CPM_EPROTO, "bad-header", l->at);
		if(*slot)
			(*slot)->n = (size_t)(l->text.p + l->text.n - (*slot)->p);
		return CPM_OK;
	}
	name = cpm_pl_trim(cpm_pl_cut(&value, ':'));
	if(!value.p || name.n == 0 || cpm_pl_chr(name, ' ') < name.n
			|| cpm_pl_chr(name, '\t') < name.n)
		return fail(diag, CPM_EPROTO, "bad-header", l->at);
	*slot = header_slot(part, name);
	if(!*slot)
		return CPM_OK;
	if((*slot)->p)
		return fail(diag, CPM_EPROTO, "repeated-header", l->at);
	**slot = value;
	return CPM_OK;
}

/* A value that is there keeps its p also when it is empty. */
static void trim(struct cpm_pl *value)
{
	const char *p = value->p;

	*value = cpm_pl_trim(*value);
	if(value->n == 0)
		value->p = p;
}

/* From *at to behind the empty line. */
static int read_headers(const struct cpm_multipart *m, size_t *at,
		struct cpm_multipart_part *part, struct cpm_diag *diag)
{
	size_t start = *at, pos = start;
	struct cpm_pl *slot = NULL;

	for(;;) {
		struct line l = line_at(m->body, pos);
		enum line_kind kind = kind_of(m, &l);
		int rc;

		if(l.next - start > CPM_MULTIPART_HEADERS_MAX)
			return fail(diag, CPM_ELIMIT, "headers-too-long", pos);
		if(kind == LINE_BAD)
			return fail(diag, CPM_EPROTO, "bad-delimiter", pos);
		if(kind != LINE_OTHER)
			return fail(diag, CPM_EPROTO, "no-separator", pos);
		if(!l.ended)
			return fail(diag, CPM_EPROTO, "truncated", m->body.n);
		if(l.text.n == 0) {
			part->headers = cpm_pl(m->body.p + start, pos - start);
			*at = l.next;
			break;
		}
		rc = read_header(&l, pos == start, part, &slot, diag);
		if(rc != CPM_OK)
			return rc;
		pos = l.next;
	}
	trim(&part->content_type);
	trim(&part->content_disposition);
	trim(&part->content_transfer_encoding);
	trim(&part->content_encoding);
	return CPM_OK;
}

int cpm_multipart_next(struct cpm_multipart *m,
		struct cpm_multipart_part *part_r, struct cpm_diag *diag)
{
	struct cpm_multipart_part part = {.headers = CPM_PL_NULL};
	size_t start = m->pos, end;
	enum line_kind kind;
	struct line l;
	int rc;

	if(m->closed)
		return CPM_ENOENT;
	if(m->parts == CPM_MULTIPART_PARTS_MAX)
		return fail(diag, CPM_ELIMIT, "too-many-parts", m->pos);
	rc = read_headers(m, &start, &part, diag);
	end = start;
	if(rc == CPM_OK)
		rc = find_delimiter(m, &end, &l, &kind, "truncated", diag);
	if(rc != CPM_OK)
		return rc;
	/* the line end before the delimiter is the delimiter's; a part without a
	 * body may have but the one that ended its headers */
	if(end > start)
		end--;
	if(end > start && m->body.p[end - 1] == '\r')
		end--;
	part.body = cpm_pl(m->body.p + start, end - start);
	m->pos = l.next;
	m->parts++;
	m->closed = kind == LINE_CLOSE;
	*part_r = part;
	return CPM_OK;
}
