/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_imap.h"

#include "cpm_time.h"

/* ---- one response ---- */

/* The "{n}" at the end of a line without its CRLF. false: there is none. */
static bool literal_len(struct cpm_pl line, uint64_t *n_r)
{
	size_t open = line.n;

	if(line.n < 3 || line.p[line.n - 1] != '}')
		return false;
	while(open > 0 && line.p[open - 1] != '{')
		open--;
	return open > 0
		   && cpm_pl_u64(
					  cpm_pl(line.p + open, line.n - 1 - open), UINT32_MAX, n_r)
					  == CPM_OK;
}

static bool is_status(struct cpm_pl word)
{
	static const char *const words[] = {"OK", "NO", "BAD", "BYE", "PREAUTH"};

	for(size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if(cpm_pl_ieq(word, cpm_pl_str(words[i])))
			return true;
	return false;
}

/* Up to the CRLF, and the literals that its lines announce; len_r: of all of
 * it, without the CRLF at the end. Bytes, or a negative code. */
static int whole(struct cpm_pl in, bool literals, size_t *len_r)
{
	size_t at = 0;
	uint64_t n;

	for(;;) {
		struct cpm_pl rest = cpm_pl_from(in, at);
		size_t lf = cpm_pl_chr(rest, '\n');
		if(lf == rest.n)
			return in.n >= CPM_IMAP_REPLY_MAX ? CPM_ELIMIT : CPM_EAGAIN;
		if(at + lf >= CPM_IMAP_REPLY_MAX)
			return CPM_ELIMIT;
		if(lf == 0 || rest.p[lf - 1] != '\r')
			return CPM_EPROTO;
		struct cpm_pl line = cpm_pl(rest.p, lf - 1);
		if(!literals || !literal_len(line, &n)) {
			*len_r = at + lf - 1;
			return (int)(at + lf + 1);
		}
		if(n > CPM_IMAP_REPLY_MAX - (at + lf + 1))
			return CPM_ELIMIT;
		at += lf + 1 + (size_t)n;
		if(at > in.n)
			return CPM_EAGAIN;
	}
}

/* "[CODE args] text" */
static struct cpm_pl code_of(struct cpm_pl text)
{
	if(text.n < 2 || text.p[0] != '[' || cpm_pl_chr(text, ']') == text.n)
		return CPM_PL_NULL;
	return cpm_pl(text.p + 1, cpm_pl_chr(text, ']') - 1);
}

int cpm_imap_next(struct cpm_pl in, struct cpm_imap_reply *r_r)
{
	struct cpm_imap_reply r = {.kind = CPM_IMAP_TAGGED};
	struct cpm_pl peek = in;
	size_t len;
	int n;

	/* words of status lines may end in braces that mean nothing */
	struct cpm_pl first = cpm_pl_cut(&peek, ' ');
	if(first.n == in.n && in.n > 0 && cpm_pl_chr(in, '\n') < in.n
			&& in.p[0] != '+')
		return CPM_EPROTO;
	struct cpm_pl second = peek;
	second.n = 0;
	while(second.n < peek.n && peek.p[second.n] != ' '
			&& peek.p[second.n] != '\r')
		second.n++;
	bool data = cpm_pl_eq(first, CPM_PL_LIT("*"));
	n = whole(in, data && !is_status(second), &len);
	if(n < 0)
		return n;
	struct cpm_pl line = cpm_pl(in.p, len);
	if(line.n > 0 && line.p[0] == '+') {
		r.kind = CPM_IMAP_CONTINUE;
		r.rest = cpm_pl_trim(cpm_pl_from(line, 1));
		*r_r = r;
		return n;
	}
	r.rest = line;
	r.tag = cpm_pl_cut(&r.rest, ' ');
	if(r.rest.p == NULL || r.tag.n == 0)
		return CPM_EPROTO;
	r.word = cpm_pl(r.rest.p, cpm_pl_chr(r.rest, ' '));
	r.rest = cpm_pl_from(r.rest, r.word.n + 1);
	if(data)
		r.kind = CPM_IMAP_DATA;
	else if(!is_status(r.word))
		return CPM_EPROTO;
	if(is_status(r.word))
		r.code = code_of(r.rest);
	*r_r = r;
	return n;
}

bool cpm_imap_has_code(const struct cpm_imap_reply *r, const char *code)
{
	return r->code.n > 0
		   && cpm_pl_ieq(cpm_pl(r->code.p, cpm_pl_chr(r->code, ' ')),
				   cpm_pl_str(code));
}

/* ---- what is in it ---- */

int cpm_imap_list_delim(const struct cpm_imap_reply *r, char *delim_r)
{
	struct cpm_pl a = r->rest;

	if(a.n == 0 || a.p[0] != '(')
		return CPM_EPROTO;
	a = cpm_pl_trim(cpm_pl_from(a, cpm_pl_chr(a, ')') + 1));
	if(cpm_pl_istarts(a, CPM_PL_LIT("NIL"))) {
		*delim_r = '\0';
		return CPM_OK;
	}
	size_t at = a.n > 1 && a.p[0] == '"' && a.p[1] == '\\' ? 2 : 1;
	if(a.n < at + 2 || a.p[0] != '"' || a.p[at + 1] != '"' || a.p[at] <= ' '
			|| a.p[at] > '~')
		return CPM_EPROTO;
	*delim_r = a.p[at];
	return CPM_OK;
}

size_t cpm_imap_search(
		const struct cpm_imap_reply *r, uint32_t *numbers, size_t cap)
{
	struct cpm_pl rest = r->rest;
	size_t n = 0;
	uint64_t v;

	if(!cpm_pl_ieq(r->word, CPM_PL_LIT("SEARCH")))
		return 0;
	while(rest.p != NULL && rest.n > 0) {
		if(cpm_pl_u64(cpm_pl_cut(&rest, ' '), UINT32_MAX, &v) != CPM_OK)
			continue;
		if(n == cap) {
			memmove(numbers, numbers + 1, (cap - 1) * sizeof(*numbers));
			n--;
		}
		numbers[n++] = (uint32_t)v;
	}
	return n;
}

bool cpm_imap_literal(const struct cpm_imap_reply *r, struct cpm_pl *lit_r)
{
	size_t lf = cpm_pl_chr(r->rest, '\n');
	uint64_t n;

	if(lf == r->rest.n || lf == 0 || !literal_len(cpm_pl(r->rest.p, lf - 1), &n)
			|| n > r->rest.n - lf - 1)
		return false;
	*lit_r = cpm_pl(r->rest.p + lf + 1, (size_t)n);
	return true;
}

/* ---- writing ---- */

int cpm_imap_quoted(struct cpm_wr *w, struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if(a.p[i] == '\0' || a.p[i] == '\r' || a.p[i] == '\n'
				|| (unsigned char)a.p[i] >= 0x80)
			return CPM_EPROTO;
	cpm_wr_chr(w, '"');
	for(size_t i = 0; i < a.n; i++) {
		if(a.p[i] == '"' || a.p[i] == '\\')
			cpm_wr_chr(w, '\\');
		cpm_wr_chr(w, a.p[i]);
	}
	cpm_wr_chr(w, '"');
	return CPM_OK;
}

void cpm_imap_date(struct cpm_wr *w, uint64_t ms)
{
	char sip[64]; /* "Sun, 22 Nov 2026 22:39:44 GMT" */
	struct cpm_wr s;

	cpm_wr_init(&s, sip, sizeof(sip));
	cpm_time_put_sip(&s, ms / 1000);
	cpm_wr_chr(w, '"');
	cpm_wr_pl_put(w, cpm_pl(sip + 5, 2));
	cpm_wr_chr(w, '-');
	cpm_wr_pl_put(w, cpm_pl(sip + 8, 3));
	cpm_wr_chr(w, '-');
	cpm_wr_pl_put(w, cpm_pl(sip + 12, 13));
	cpm_wr_str(w, " +0000\"");
}
