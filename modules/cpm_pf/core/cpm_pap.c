/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_pap.c - see cpm_pap.h.
 */

#include "cpm_pap.h"

#include "cpm_aor.h"
#include "cpm_time.h"

#define CRLF "\r\n"

/* --------------------------------------------------------------- escaping */

/* Length of the character at p, RFC 3629; 0: what is there is none. */
static size_t utf8_len(const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;
	size_t len, i;

	if(u[0] < 0x80) {
		return 1;
	}
	len = u[0] >= 0xc2 && u[0] <= 0xdf	 ? 2
		  : u[0] >= 0xe0 && u[0] <= 0xef ? 3
		  : u[0] >= 0xf0 && u[0] <= 0xf4 ? 4
										 : 0;
	if(len == 0 || len > n) {
		return 0;
	}
	for(i = 1; i < len; i++) {
		if((u[i] & 0xc0) != 0x80) {
			return 0;
		}
	}
	if((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f)
			|| (u[0] == 0xf0 && u[1] < 0x90)
			|| (u[0] == 0xf4 && u[1] > 0x8f)
			/* U+FFFE and U+FFFF are no characters of XML */
			|| (u[0] == 0xef && u[1] == 0xbf && u[2] > 0xbd)) {
		return 0;
	}
	return len;
}

/* At most max bytes, and no character cut in two. */
static struct cpm_pl text_cut(struct cpm_pl a, size_t max)
{
	size_t i = 0;
	size_t len;

	while(i < a.n) {
		len = utf8_len(a.p + i, a.n - i);
		len = len > 0 ? len : 1;
		if(i + len > max) {
			break;
		}
		i += len;
	}
	return cpm_pl(a.p, i);
}

/* Writes a as UTF-8 without control characters, fn writing what is special in
 * the form in question. */
static void text_put(struct cpm_wr *w, struct cpm_pl a,
		bool (*special)(struct cpm_wr *w, char c))
{
	size_t i = 0;
	size_t len;

	while(i < a.n) {
		len = utf8_len(a.p + i, a.n - i);
		if(len == 0
				|| (len == 1
						&& ((unsigned char)a.p[i] < 0x20 || a.p[i] == 0x7f))) {
			cpm_wr_str(w, "\xef\xbf\xbd");
			i++;
		} else if(len == 1 && special(w, a.p[i])) {
			i++;
		} else {
			cpm_wr_pl_put(w, cpm_pl(a.p + i, len));
			i += len;
		}
	}
}

static bool xml_special(struct cpm_wr *w, char c)
{
	const char *as = c == '&'	? "&amp;"
					 : c == '<' ? "&lt;"
					 : c == '>' ? "&gt;"
					 : c == '"' ? "&quot;"
								: NULL;

	if(as != NULL) {
		cpm_wr_str(w, as);
	}
	return as != NULL;
}

static bool json_special(struct cpm_wr *w, char c)
{
	if(c == '"' || c == '\\') {
		cpm_wr_chr(w, '\\');
		cpm_wr_chr(w, c);
		return true;
	}
	return false;
}

static void attribute_put(struct cpm_wr *w, const char *name, struct cpm_pl v)
{
	cpm_wr_chr(w, ' ');
	cpm_wr_str(w, name);
	cpm_wr_str(w, "=\"");
	text_put(w, v, xml_special);
	cpm_wr_chr(w, '"');
}

/* "name":"value" */
static void member_put(struct cpm_wr *w, const char *name, struct cpm_pl v)
{
	cpm_wr_chr(w, '"');
	cpm_wr_str(w, name);
	cpm_wr_str(w, "\":\"");
	text_put(w, v, json_special);
	cpm_wr_chr(w, '"');
}

static void number_put(struct cpm_wr *w, const char *name, uint64_t v)
{
	cpm_wr_chr(w, '"');
	cpm_wr_str(w, name);
	cpm_wr_str(w, "\":");
	cpm_wr_u64(w, v);
}

/* "2026-01-02T03:04:05Z": PAP knows no fractions */
static struct cpm_pl stamp(char buf[32], uint64_t sec)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, 32);
	/* what would be past the year 9999 is that */
	cpm_time_put_rfc3339(
			&w, sec < 253402300799 ? sec * 1000 : UINT64_C(253402300799000));
	w.n = 19;
	cpm_wr_chr(&w, 'Z');
	return cpm_wr_pl(&w);
}

/* ---------------------------------------------------------------- address */

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
		   || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'
		   || c == '~';
}

static void escaped_put(struct cpm_wr *w, struct cpm_pl a)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t i;

	for(i = 0; i < a.n; i++) {
		unsigned char c = (unsigned char)a.p[i];

		if(is_plain(a.p[i])) {
			cpm_wr_chr(w, a.p[i]);
		} else {
			cpm_wr_chr(w, '%');
			cpm_wr_chr(w, hex[c >> 4]);
			cpm_wr_chr(w, hex[c & 15]);
		}
	}
}

/* A global number: "+" and digits. */
static bool is_phone(struct cpm_pl user)
{
	size_t i;

	for(i = 1; i < user.n; i++) {
		if(user.p[i] < '0' || user.p[i] > '9') {
			return false;
		}
	}
	return user.n > 1 && user.p[0] == '+';
}

static void address_put(struct cpm_wr *w, const struct cpm_pap *p)
{
	struct cpm_pl user = cpm_aor_user(p->aor);

	cpm_wr_str(w, "WAPPUSH=");
	if(p->pn != NULL) {
		escaped_put(w, p->pn->provider);
		cpm_wr_chr(w, ':');
		escaped_put(w, p->pn->param);
		cpm_wr_chr(w, ':');
		escaped_put(w, p->pn->prid);
		cpm_wr_str(w, "/TYPE=USER@");
	} else if(is_phone(user)) {
		cpm_wr_pl_put(w, user);
		cpm_wr_str(w, "/TYPE=PLMN@");
	} else {
		/* without the scheme, which is three letters and a colon */
		escaped_put(w, cpm_pl_from(p->aor, 4));
		cpm_wr_str(w, "/TYPE=USER@");
	}
	cpm_wr_pl_put(w, p->host);
}

/* ----------------------------------------------------------------- bodies */

static void content_put(struct cpm_wr *w, const struct cpm_pap *p)
{
	char buf[32];

	cpm_wr_chr(w, '{');
	member_put(w, "event", CPM_PL_LIT("queued-messages"));
	cpm_wr_chr(w, ',');
	number_put(w, "total", p->total);
	if((p->fields & CPM_NOTIFY_DATE) != 0 && p->date_ms > 0) {
		cpm_wr_chr(w, ',');
		member_put(w, "date", stamp(buf, p->date_ms / 1000));
	}
	if((p->fields & CPM_NOTIFY_SIZE) != 0) {
		cpm_wr_chr(w, ',');
		number_put(w, "size", p->size);
	}
	if((p->fields & CPM_NOTIFY_SUBJECT) != 0 && p->subject.n > 0) {
		cpm_wr_chr(w, ',');
		member_put(w, "subject", text_cut(p->subject, CPM_PAP_TEXT_MAX));
	}
	if((p->fields & CPM_NOTIFY_FROM) != 0 && p->from.n > 0) {
		cpm_wr_chr(w, ',');
		member_put(w, "from", text_cut(p->from, CPM_PAP_TEXT_MAX));
	}
	cpm_wr_chr(w, '}');
}

/* No line of either entity begins with "--": there are no line ends in what
 * others wrote. */
static void xml_put(struct cpm_wr *w, const struct cpm_pap *p)
{
	/* escaped it is thrice as long; and the host */
	char address[3 * CPM_PN_TEXT_MAX + CPM_PAP_HOST_MAX + 64];
	struct cpm_wr a;
	char buf[32];

	cpm_wr_init(&a, address, sizeof(address));
	address_put(&a, p);
	cpm_wr_str(w,
			"--" CPM_PAP_BOUNDARY CRLF
			"Content-Type: application/xml; charset=UTF-8" CRLF CRLF
			"<?xml version=\"1.0\" encoding=\"UTF-8\"?>" CRLF
			"<!DOCTYPE pap PUBLIC \"-//WAPFORUM//DTD PAP 2.1//EN\"" CRLF
			" \"http://www.openmobilealliance.org/tech/DTD/pap_2.1.dtd\">" CRLF
			"<pap product-name=\"cpm_pf\">" CRLF "<push-message");
	attribute_put(w, "push-id", p->push_id);
	if(p->deliver_before_s > 0) {
		attribute_put(
				w, "deliver-before-timestamp", stamp(buf, p->deliver_before_s));
	}
	if(p->source.n > 0) {
		attribute_put(w, "source-reference", p->source);
	}
	cpm_wr_str(w, ">" CRLF "<address");
	attribute_put(w, "address-value", cpm_wr_pl(&a));
	cpm_wr_str(w,
			"/>" CRLF "<quality-of-service priority=\"medium\""
			" delivery-method=\"unconfirmed\"/>" CRLF "</push-message>" CRLF
			"</pap>" CRLF "--" CPM_PAP_BOUNDARY CRLF
			"Content-Type: application/json" CRLF CRLF);
	content_put(w, p);
	cpm_wr_str(w, CRLF "--" CPM_PAP_BOUNDARY "--" CRLF);
}

static void json_put(struct cpm_wr *w, const struct cpm_pap *p)
{
	char buf[32];

	cpm_wr_chr(w, '{');
	member_put(w, "push-id", p->push_id);
	cpm_wr_chr(w, ',');
	if(p->source.n > 0) {
		member_put(w, "source-reference", p->source);
		cpm_wr_chr(w, ',');
	}
	if(p->deliver_before_s > 0) {
		member_put(w, "deliver-before", stamp(buf, p->deliver_before_s));
		cpm_wr_chr(w, ',');
	}
	if(p->pn != NULL) {
		cpm_wr_str(w, "\"address\":{");
		member_put(w, "provider", p->pn->provider);
		cpm_wr_chr(w, ',');
		member_put(w, "param", p->pn->param);
		cpm_wr_chr(w, ',');
		member_put(w, "prid", p->pn->prid);
		cpm_wr_chr(w, '}');
	} else {
		member_put(w, "address", p->aor);
	}
	cpm_wr_str(w, ",\"content\":");
	content_put(w, p);
	cpm_wr_chr(w, '}');
}

int cpm_pap_body(
		const struct cpm_pap *p, enum cpm_pap_format format, struct cpm_wr *w)
{
	if(format == CPM_PAP_JSON) {
		json_put(w, p);
	} else {
		xml_put(w, p);
	}
	return cpm_wr_ok(w) ? CPM_OK : CPM_ENOMEM;
}

const char *cpm_pap_type(enum cpm_pap_format format)
{
	return format == CPM_PAP_JSON ? "application/json" : CPM_PAP_TYPE;
}

/* ---------------------------------------------------------------- answers */

const char *cpm_pap_answer_name(enum cpm_pap_answer a)
{
	switch(a) {
		case CPM_PAP_TAKEN:
			return "taken";
		case CPM_PAP_GONE:
			return "gone";
		case CPM_PAP_REFUSED:
			return "refused";
		case CPM_PAP_LATER:
			return "later";
		case CPM_PAP_READ:
			return "read";
	}
	return "?";
}

enum cpm_pap_answer cpm_pap_status(enum cpm_pap_format format, unsigned status)
{
	if(status >= 200 && status <= 299) {
		return format == CPM_PAP_XML ? CPM_PAP_READ : CPM_PAP_TAKEN;
	}
	/* at a PPG the status is about the URL, and not about the target */
	if((status == 404 || status == 410) && format == CPM_PAP_JSON) {
		return CPM_PAP_GONE;
	}
	if(status == 408 || status == 425 || status == 429) {
		return CPM_PAP_LATER;
	}
	/* a redirection is not followed: whoever could redirect could read */
	return status >= 300 && status <= 499 ? CPM_PAP_REFUSED : CPM_PAP_LATER;
}

enum cpm_pap_answer cpm_pap_result(unsigned code)
{
	static const struct
	{
		unsigned first, last;
		enum cpm_pap_answer answer;
	} rows[] = {
			{1000, 1999, CPM_PAP_TAKEN},   /* OK, accepted for processing */
			{2002, 2003, CPM_PAP_GONE},	   /* address error, not found */
			{2007, 2007, CPM_PAP_TAKEN},   /* it has this push-id already */
			{2000, 2999, CPM_PAP_REFUSED}, /* bad request, forbidden ... */
			{3000, 3000, CPM_PAP_LATER},   /* internal server error */
			{3001, 3999, CPM_PAP_REFUSED}, /* not implemented ... */
			{4000, 4999, CPM_PAP_LATER},   /* failure, unavailable */
	};
	size_t i;

	for(i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if(code >= rows[i].first && code <= rows[i].last) {
			return rows[i].answer;
		}
	}
	return CPM_PAP_LATER;
}

/* -------------------------------------------------------------- settings */

int cpm_pap_url(struct cpm_pl url, struct cpm_pl *host_r)
{
	struct cpm_pl rest, host;
	size_t i;

	if(url.n > CPM_PAP_URL_MAX) {
		return CPM_ELIMIT;
	}
	for(i = 0; i < url.n; i++) {
		if(url.p[i] <= 0x20 || url.p[i] >= 0x7f || url.p[i] == '#'
				|| url.p[i] == '"' || url.p[i] == '<' || url.p[i] == '>') {
			return CPM_EPROTO;
		}
	}
	if(cpm_pl_istarts(url, CPM_PL_LIT("https://"))) {
		rest = cpm_pl_from(url, 8);
	} else if(cpm_pl_istarts(url, CPM_PL_LIT("http://"))) {
		rest = cpm_pl_from(url, 7);
	} else {
		return CPM_EPROTO;
	}
	for(i = 0; i < rest.n && rest.p[i] != '/' && rest.p[i] != '?'; i++) {
		if(rest.p[i] == '@') {
			return CPM_EPROTO;
		}
	}
	host = cpm_pl(rest.p, i);
	if(host.n > 0 && host.p[0] == '[') {
		i = cpm_pl_chr(host, ']') + 1;
		if(i > host.n) {
			return CPM_EPROTO;
		}
	} else {
		i = cpm_pl_chr(host, ':');
	}
	if(i < host.n) {
		uint64_t port;

		if(host.p[i] != ':'
				|| cpm_pl_u64(cpm_pl_from(host, i + 1), 65535, &port)
						   != CPM_OK) {
			return CPM_EPROTO;
		}
	}
	if(i == 0 || i > CPM_PAP_HOST_MAX) {
		return i == 0 ? CPM_EPROTO : CPM_ELIMIT;
	}
	*host_r = cpm_pl(host.p, i);
	return CPM_OK;
}

int cpm_pap_intervals(struct cpm_pl text, uint64_t *ms_r, size_t *count_r)
{
	uint64_t ms[CPM_PAP_INTERVALS_MAX];
	uint64_t s;
	size_t n = 0;
	size_t i;

	while(text.p != NULL) {
		if(n == CPM_PAP_INTERVALS_MAX) {
			return CPM_ELIMIT;
		}
		if(cpm_pl_u64(cpm_pl_trim(cpm_pl_cut(&text, ',')), 86400, &s) != CPM_OK
				|| s == 0) {
			return CPM_EPROTO;
		}
		ms[n++] = s * 1000;
	}
	if(n == 0) {
		return CPM_EPROTO;
	}
	for(i = 0; i < n; i++) {
		ms_r[i] = ms[i];
	}
	*count_r = n;
	return CPM_OK;
}

int cpm_pap_credentials(
		struct cpm_pl text, enum cpm_pap_login *login_r, struct cpm_pl *v_r)
{
	struct cpm_pl line = cpm_pl_trim(cpm_pl_cut(&text, '\n'));
	size_t colon, space, i;

	if(cpm_pl_istarts(line, CPM_PL_LIT("Authorization:"))) {
		line = cpm_pl_trim(cpm_pl_from(line, 14));
		colon = line.n;
	} else {
		colon = cpm_pl_chr(line, ':');
	}
	for(i = 0; i < line.n; i++) {
		if(line.p[i] < 0x20 || line.p[i] >= 0x7f) {
			return CPM_EPROTO;
		}
	}
	space = cpm_pl_chr(line, ' ');
	if(line.n == 0 || (space == line.n && colon == line.n)) {
		return CPM_EPROTO;
	}
	*login_r = space < colon ? CPM_PAP_LOGIN_HEADER : CPM_PAP_LOGIN_USER;
	*v_r = line;
	return CPM_OK;
}
