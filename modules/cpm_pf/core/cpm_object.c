/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_object.c - a message as an object of the Message Storage Server.
 *
 *     object = *( name ":" SP value CRLF ) CRLF ( cpim / base64 )
 *     cpim   = as received / "From: ..." ... CRLF CRLF MIME CRLF CRLF body
 */

#include "cpm_object.h"

#include "cpm_aor.h"
#include "cpm_cpim.h"
#include "cpm_time.h"

#define ANONYMOUS "<sip:anonymous@anonymous.invalid>"
#define DAY_MS (UINT64_C(24) * 3600 * 1000)
#define WORD_MAX (CPM_OBJECT_LINE_MAX - 2)

/* ---- bytes, as they are or as base64 ---- */

struct out
{
	struct cpm_wr *w;
	bool base64;
	unsigned char left[3];
	size_t left_n;
	size_t column;
};

static void base64_put(
		struct cpm_wr *w, const unsigned char *in, size_t n, const char *digits)
{
	unsigned v = (unsigned)in[0] << 16;

	v |= n > 1 ? (unsigned)in[1] << 8 : 0;
	v |= n > 2 ? in[2] : 0;
	cpm_wr_chr(w, digits[v >> 18]);
	cpm_wr_chr(w, digits[v >> 12 & 63]);
	if(n > 1)
		cpm_wr_chr(w, digits[v >> 6 & 63]);
	if(n > 2)
		cpm_wr_chr(w, digits[v & 63]);
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
									"qrstuvwxyz0123456789+/";

/* Without the wrapping of lines that RFC 2045 asks of a body. */
static void base64_all(struct cpm_wr *w, struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i += 3) {
		size_t n = a.n - i < 3 ? a.n - i : 3;
		base64_put(w, (const unsigned char *)a.p + i, n, base64_digits);
		cpm_wr_str(w, n == 1 ? "==" : n == 2 ? "=" : "");
	}
}

/* A group: of three bytes, or at the end of fewer. */
static void out_group(struct out *o)
{
	base64_put(o->w, o->left, o->left_n, base64_digits);
	cpm_wr_str(o->w, o->left_n == 1 ? "==" : o->left_n == 2 ? "=" : "");
	o->left_n = 0;
	o->column += 4;
	if(o->column == 76) {
		cpm_wr_str(o->w, "\r\n");
		o->column = 0;
	}
}

static void out_put(struct out *o, struct cpm_pl a)
{
	if(!o->base64) {
		cpm_wr_pl_put(o->w, a);
		return;
	}
	for(size_t i = 0; i < a.n; i++) {
		o->left[o->left_n++] = (unsigned char)a.p[i];
		if(o->left_n == 3)
			out_group(o);
	}
}

static void out_str(struct out *o, const char *s)
{
	out_put(o, cpm_pl_str(s));
}

static void out_end(struct out *o)
{
	if(o->left_n > 0)
		out_group(o);
	if(o->column > 0)
		cpm_wr_str(o->w, "\r\n");
}

/* ---- header lines ---- */

static bool is_gap(char c)
{
	return (unsigned char)c <= ' ' || c == 0x7f;
}

/* The next word of *rest; empty: there is none. */
static struct cpm_pl word_next(struct cpm_pl *rest)
{
	size_t from = 0, to;

	while(from < rest->n && is_gap(rest->p[from]))
		from++;
	for(to = from; to < rest->n && !is_gap(rest->p[to]); to++)
		;
	struct cpm_pl word = cpm_pl(rest->n > 0 ? rest->p + from : NULL, to - from);
	*rest = cpm_pl_from(*rest, to);
	return word;
}

/* Where a word that fits into no line may be folded; what of it stays. */
static size_t word_part(struct cpm_pl word)
{
	size_t n = WORD_MAX;

	if(word.n <= n)
		return word.n;
	while(n > 0 && word.p[n - 1] != ',' && word.p[n - 1] != ';')
		n--;
	return n;
}

/* A value, folded. column: where the line is, after the name and its colon. */
static void value_put(struct cpm_wr *w, size_t column, struct cpm_pl value)
{
	struct cpm_pl word;

	while((word = word_next(&value)).n > 0) {
		while(word.n > 0) {
			size_t n = word_part(word);
			bool cut = n == 0;
			n = cut ? WORD_MAX : n;
			if(column + 1 + n > CPM_OBJECT_LINE_MAX) {
				cpm_wr_str(w, "\r\n");
				column = 0;
			}
			cpm_wr_chr(w, ' ');
			cpm_wr_pl_put(w, cpm_pl(word.p, n));
			column += 1 + n;
			word = cut ? CPM_PL_NULL : cpm_pl_from(word, n);
		}
	}
}

static bool is_blank(struct cpm_pl value)
{
	return word_next(&value).n == 0;
}

static void line_put(struct cpm_wr *w, const char *name, struct cpm_pl value)
{
	if(is_blank(value))
		return;
	cpm_wr_str(w, name);
	cpm_wr_chr(w, ':');
	value_put(w, strlen(name) + 1, value);
	cpm_wr_str(w, "\r\n");
}

/* name-addr, or a bare address put into brackets: else its parameters would
 * be the header's. */
static void address_put(struct cpm_wr *w, const char *name, struct cpm_pl value)
{
	value = cpm_pl_trim(value);
	if(is_blank(value) || cpm_pl_chr(value, '<') < value.n) {
		line_put(w, name, value);
		return;
	}
	cpm_wr_str(w, name);
	cpm_wr_str(w, ": <");
	struct cpm_pl word = word_next(&value);
	cpm_wr_pl_put(w, cpm_pl(word.p, word.n < 900 ? word.n : 900));
	cpm_wr_str(w, ">\r\n");
}

/* ---- UTF-8 ---- */

/* Bytes of the character at the beginning; 0: it is none. */
static size_t utf8_next(struct cpm_pl a, uint32_t *c_r)
{
	unsigned char c = a.n > 0 ? (unsigned char)a.p[0] : 0xff;
	size_t n = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t v = n == 1 ? c : c & (0x7fu >> n);

	if(a.n < n || (c >= 0x80 && c < 0xc2) || c > 0xf4)
		return 0;
	for(size_t i = 1; i < n; i++) {
		if(((unsigned char)a.p[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | ((unsigned char)a.p[i] & 0x3f);
	}
	if(v < least[n] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
		return 0;
	*c_r = v;
	return n;
}

/* ---- Subject (RFC 2047) ---- */

#define ENCODED_BYTES 45 /* of text, in a word of at most 75 characters */

static bool needs_encoding(struct cpm_pl value)
{
	for(size_t i = 0; i < value.n; i++) {
		if((unsigned char)value.p[i] >= 0x80
				|| (value.p[i] == '=' && i + 1 < value.n
						&& value.p[i + 1] == '?'))
			return true;
	}
	return false;
}

static void subject_put(struct cpm_wr *w, struct cpm_pl value)
{
	char part[ENCODED_BYTES];
	size_t n = 0;
	uint32_t c;

	value = cpm_pl_trim(value);
	if(!needs_encoding(value)) {
		line_put(w, "Subject", value);
		return;
	}
	cpm_wr_str(w, "Subject:");
	while(value.n > 0 || n > 0) {
		size_t step = utf8_next(value, &c);
		bool full = value.n == 0 || n + (step ? step : 1) > sizeof(part);
		if(full) {
			cpm_wr_str(w, " =?UTF-8?B?");
			base64_all(w, cpm_pl(part, n));
			cpm_wr_str(w, value.n > 0 ? "?=\r\n" : "?=");
			n = 0;
			continue;
		}
		if(step > 1)
			memcpy(part + n, value.p, step);
		else
			part[n] = step == 0 ? '?' : is_gap(value.p[0]) ? ' ' : value.p[0];
		n += step ? step : 1;
		value = cpm_pl_from(value, step ? step : 1);
	}
	cpm_wr_str(w, "\r\n");
}

/* ---- what a message says ---- */

/* The value of the next header of this name in *rest; p NULL: none. */
static struct cpm_pl header_next(
		struct cpm_pl *rest, const char *name, const char *compact)
{
	struct cpm_pl line, found;

	while(rest->n > 0) {
		line = cpm_msg_header_next(rest, &found);
		if(cpm_pl_ieq(found, cpm_pl_str(name))
				|| (compact[0] != '\0'
						&& cpm_pl_ieq(found, cpm_pl_str(compact)))) {
			struct cpm_pl value = cpm_pl_from(line, cpm_pl_chr(line, ':') + 1);
			return cpm_pl_trim(value);
		}
	}
	return CPM_PL_NULL;
}

static struct cpm_pl header_of(
		struct cpm_pl block, const char *name, const char *compact)
{
	return header_next(&block, name, compact);
}

/* The first of several values: up to a comma outside of quotes and brackets. */
static struct cpm_pl value_first(struct cpm_pl a)
{
	bool quoted = false, bracket = false;
	size_t i;

	for(i = 0; i < a.n; i++) {
		if(quoted && a.p[i] == '\\') {
			i++;
			continue;
		}
		if(a.p[i] == '"')
			quoted = !quoted;
		else if(!quoted && (a.p[i] == '<' || a.p[i] == '>'))
			bracket = a.p[i] == '<';
		else if(!quoted && !bracket && a.p[i] == ',')
			break;
	}
	return cpm_pl(a.p, i < a.n ? i : a.n);
}

static bool is_withheld(const struct cpm_msg *m)
{
	return (m->flags & (CPM_MSG_F_WITHHELD | CPM_MSG_F_ANONYMOUS)) != 0;
}

static struct cpm_pl sender_of(const struct cpm_msg *m)
{
	struct cpm_pl v = CPM_PL_NULL;

	if(is_withheld(m))
		return CPM_PL_LIT(ANONYMOUS);
	if(m->flags & CPM_MSG_F_REFERRED)
		v = header_of(m->aside, "Referred-By", "b");
	if(is_blank(v))
		v = value_first(header_of(m->headers, "P-Asserted-Identity", ""));
	return is_blank(v) ? m->from : v;
}

static bool is_cpim(const struct cpm_msg *m)
{
	return cpm_ctype_is(m->content_type, "message/cpim");
}

static bool is_encoded(const struct cpm_msg *m)
{
	return header_of(m->headers, "Content-Encoding", "e").n > 0;
}

static bool datetime_of(const struct cpm_msg *m, uint64_t *ms_r)
{
	struct cpm_cpim cpim;

	return is_cpim(m) && !is_encoded(m)
		   && cpm_cpim_parse(m->body, &cpim, NULL) == CPM_OK
		   && cpm_time_parse_rfc3339(cpim.datetime, ms_r) == CPM_OK;
}

uint64_t cpm_object_date(const struct cpm_msg *m)
{
	struct cpm_pl date = header_of(m->headers, "Date", "");
	uint64_t s = 0, ms = 0;

	if(date.n > 0 && cpm_time_parse_sip(date, &s) == CPM_OK)
		ms = s * 1000;
	else if(!datetime_of(m, &ms))
		ms = m->received_ms;
	return ms == 0 || ms > m->received_ms + DAY_MS ? m->received_ms : ms;
}

static void date_put(struct cpm_wr *w, const struct cpm_msg *m)
{
	cpm_wr_str(w, "Date: ");
	cpm_time_put_sip(w, cpm_object_date(m) / 1000);
	cpm_wr_str(w, "\r\n");
}

static void subject_of(struct cpm_wr *w, const struct cpm_msg *m)
{
	struct cpm_cpim cpim = {.subject = CPM_PL_NULL};
	struct cpm_pl v = m->subject;

	if(is_blank(v) && is_cpim(m) && !is_encoded(m)
			&& cpm_cpim_parse(m->body, &cpim, NULL) == CPM_OK)
		v = cpim.subject;
	if(!is_blank(v))
		subject_put(w, v);
}

/* ---- the body ---- */

struct look
{
	bool eight, longer, odd; /* odd: NUL, or CR or LF alone */
};

static struct look look_at(struct cpm_pl body)
{
	struct look l = {false, false, false};
	size_t column = 0;

	for(size_t i = 0; i < body.n; i++) {
		char c = body.p[i];
		l.eight = l.eight || (unsigned char)c >= 0x80;
		if(c == '\r' && i + 1 < body.n && body.p[i + 1] == '\n') {
			i++;
			column = 0;
			continue;
		}
		l.odd = l.odd || c == '\0' || c == '\r' || c == '\n';
		column++;
		l.longer = l.longer || column > CPM_OBJECT_LINE_MAX;
	}
	return l;
}

/* A line of the CPIM that a message is wrapped in: not folded, as RFC 3862 has
 * no folding. */
static void wrap_line(struct out *o, const char *name, struct cpm_pl value)
{
	struct cpm_pl word;

	if(is_blank(value))
		return;
	out_str(o, name);
	out_str(o, ":");
	while((word = word_next(&value)).n > 0) {
		out_str(o, " ");
		out_put(o, word);
	}
	out_str(o, "\r\n");
}

static void wrap_address(struct out *o, const char *name, struct cpm_pl value)
{
	struct cpm_pl rest = value;

	if(cpm_pl_chr(value, '<') < value.n || is_blank(value)) {
		wrap_line(o, name, value);
		return;
	}
	out_str(o, name);
	out_str(o, ": <");
	out_put(o, word_next(&rest));
	out_str(o, ">\r\n");
}

/* The MIME headers of the request are those of the part. */
static void wrap_mime(struct out *o, const struct cpm_msg *m)
{
	struct cpm_pl rest = m->headers;
	struct cpm_pl line, name;
	char text[64];

	wrap_line(o, "Content-Type", m->content_type);
	while(rest.n > 0) {
		line = cpm_msg_header_next(&rest, &name);
		if(cpm_pl_ieq(name, CPM_PL_LIT("e")))
			name = CPM_PL_LIT("Content-Encoding");
		if(!cpm_pl_istarts(name, CPM_PL_LIT("Content-"))
				|| cpm_pl_ieq(name, CPM_PL_LIT("Content-Type"))
				|| cpm_pl_ieq(name, CPM_PL_LIT("Content-Length"))
				|| name.n >= sizeof(text))
			continue;
		cpm_pl_cstr(name, text, sizeof(text));
		wrap_line(o, text, cpm_pl_from(line, cpm_pl_chr(line, ':') + 1));
	}
}

static void wrap_put(struct out *o, const struct cpm_msg *m)
{
	char time[64];
	struct cpm_wr w;

	wrap_address(o, "From", is_withheld(m) ? CPM_PL_LIT(ANONYMOUS) : m->from);
	wrap_address(o, "To", m->to);
	cpm_wr_init(&w, time, sizeof(time));
	cpm_time_put_rfc3339(&w, cpm_object_date(m));
	wrap_line(o, "DateTime", cpm_wr_pl(&w));
	out_str(o, "NS: imdn <urn:ietf:params:imdn>\r\n");
	wrap_line(o, "imdn.Message-ID", m->id);
	out_str(o, "\r\n");
	wrap_mime(o, m);
	out_str(o, "\r\n");
	out_put(o, m->body);
}

/* ---- the object ---- */

size_t cpm_object_max(const struct cpm_msg *m)
{
	struct cpm_wr count;

	cpm_wr_init(&count, NULL, 0);
	(void)cpm_object_build(m, &count);
	return count.n;
}

uint64_t cpm_object_print(const struct cpm_msg *m)
{
	if(!is_withheld(m))
		return m->fingerprint;
	return cpm_hash64(cpm_hash64(CPM_HASH_INIT, m->content_type), m->body);
}

static void headers_put(struct cpm_wr *w, const struct cpm_msg *m)
{
	struct cpm_pl rest = m->aside;
	struct cpm_pl v;

	address_put(w, "From", sender_of(m));
	address_put(w, "To", m->to);
	date_put(w, m);
	subject_of(w, m);
	line_put(w, "P-Asserted-Service",
			header_of(m->headers, "P-Asserted-Service", ""));
	line_put(w, "Conversation-ID", m->conversation_id);
	line_put(w, "Contribution-ID", m->contribution_id);
	line_put(w, "InReplyTo-Contribution-ID",
			header_of(m->headers, "InReplyTo-Contribution-ID", ""));
	while((v = header_next(&rest, "Accept-Contact", "a")).p != NULL)
		line_put(w, "Accept-Contact", v);
	line_put(w, CPM_OBJECT_ID_HEADER, m->id);
	cpm_wr_str(
			w, "Message-Direction: received\r\n" CPM_OBJECT_PRINT_HEADER ": ");
	cpm_wr_hex64(w, cpm_object_print(m));
	cpm_wr_str(w, "\r\nMIME-Version: 1.0\r\n");
}

static const char *encoding_of(
		const struct cpm_msg *m, struct look l, bool wrapped)
{
	/* the lines that we write are no longer than what is in them */
	bool longer = l.longer
				  || (wrapped
						  && (m->from.n > 900 || m->to.n > 900
								  || m->content_type.n > 900));

	return l.odd				? "Content-Transfer-Encoding: base64\r\n"
		   : longer				? "Content-Transfer-Encoding: binary\r\n"
		   : l.eight || wrapped ? "Content-Transfer-Encoding: 8bit\r\n"
								: "";
}

int cpm_object_build(const struct cpm_msg *m, struct cpm_wr *w)
{
	bool wrapped = !is_cpim(m);
	struct look l = look_at(m->body);
	struct out o = {.w = w, .base64 = l.odd};

	headers_put(w, m);
	if(wrapped) {
		cpm_wr_str(w, "Content-Type: message/cpim\r\n");
	} else {
		line_put(w, "Content-Type", m->content_type);
		line_put(w, "Content-Encoding",
				header_of(m->headers, "Content-Encoding", "e"));
	}
	cpm_wr_str(w, encoding_of(m, l, wrapped));
	cpm_wr_str(w, "\r\n");
	if(wrapped)
		wrap_put(&o, m);
	else
		out_put(&o, m->body);
	out_end(&o);
	return cpm_wr_ok(w) ? CPM_OK : CPM_ENOMEM;
}

bool cpm_object_is(struct cpm_pl headers, const struct cpm_msg *m)
{
	char print[20];
	struct cpm_wr w;

	cpm_wr_init(&w, print, sizeof(print));
	cpm_wr_hex64(&w, cpm_object_print(m));
	return cpm_pl_eq(header_of(headers, CPM_OBJECT_ID_HEADER, ""), m->id)
		   && cpm_pl_ieq(header_of(headers, CPM_OBJECT_PRINT_HEADER, ""),
				   cpm_wr_pl(&w));
}

/* ---- folders ---- */

#define VALUE_MAX 80 /* of a value, as it stands in a name */
#define VALUE_CUT 60
#define LEVEL_MAX (CPM_OBJECT_TEMPLATE_MAX / 4 * (VALUE_MAX + 8))

static const char *const variables[] = {
		"user", "originator", "conversation", "contribution", "date"};

static int fail(struct cpm_diag *diag, int rc, const char *why, size_t at)
{
	if(diag) {
		diag->why = why;
		diag->at = at;
	}
	return rc;
}

static bool is_variable(struct cpm_pl name)
{
	for(size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		if(cpm_pl_eq(name, cpm_pl_str(variables[i])))
			return true;
	return false;
}

static int level_check(struct cpm_pl level, size_t at, struct cpm_diag *diag)
{
	uint32_t c;

	if(level.n == 0)
		return fail(diag, CPM_EPROTO, "empty-level", at);
	if(strchr(".~# ", level.p[0]) != NULL || level.p[level.n - 1] == ' ')
		return fail(diag, CPM_EPROTO, "bad-character", at);
	for(size_t i = 0; i < level.n;) {
		struct cpm_pl rest = cpm_pl_from(level, i);
		size_t n = utf8_next(rest, &c);
		if(n == 0 || c < ' ' || c == 0x7f
				|| (n == 1 && strchr("*%\"\\", rest.p[0]) != NULL))
			return fail(diag, CPM_EPROTO, "bad-character", at + i);
		if(c == '}')
			return fail(diag, CPM_EPROTO, "no-brace", at + i);
		if(c == '{') {
			n = cpm_pl_chr(rest, '}');
			if(n == rest.n)
				return fail(diag, CPM_EPROTO, "no-brace", at + i);
			if(!is_variable(cpm_pl(rest.p + 1, n - 1)))
				return fail(diag, CPM_EPROTO, "no-such-variable", at + i);
			n++;
		}
		i += n;
	}
	return CPM_OK;
}

int cpm_object_template_check(struct cpm_pl text, struct cpm_diag *diag)
{
	struct cpm_pl rest = text;

	if(text.n > CPM_OBJECT_TEMPLATE_MAX)
		return fail(diag, CPM_ELIMIT, "too-long", CPM_OBJECT_TEMPLATE_MAX);
	do {
		size_t at = text.n - rest.n;
		int rc = level_check(cpm_pl_cut(&rest, '/'), at, diag);
		if(rc != CPM_OK)
			return rc;
	} while(rest.p != NULL);
	return CPM_OK;
}

bool cpm_object_template_has(struct cpm_pl text, const char *variable)
{
	while(text.p != NULL) {
		(void)cpm_pl_cut(&text, '{');
		if(text.p != NULL
				&& cpm_pl_eq(cpm_pl(text.p, cpm_pl_chr(text, '}')),
						cpm_pl_str(variable)))
			return true;
	}
	return false;
}

struct cpm_pl cpm_object_user(struct cpm_pl aor)
{
	return cpm_pl_from(aor, cpm_pl_chr(aor, ':') + 1);
}

static bool is_upper_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F');
}

/* What may not stand in a level as it is. An '=' only where it would read as
 * one of ours. */
static bool is_unsafe(struct cpm_pl rest, char delim, bool first)
{
	char c = rest.p[0];

	if(is_gap(c) && c != ' ')
		return true;
	if(c == delim || strchr("/\\*%\"", c) != NULL)
		return true;
	if(first && strchr(".~# ", c) != NULL)
		return true;
	return c == '=' && rest.n > 2 && is_upper_hex(rest.p[1])
		   && is_upper_hex(rest.p[2]);
}

/* One character of a value; how much of the value it was. */
static size_t safe_put(
		struct cpm_wr *w, struct cpm_pl rest, char delim, bool first)
{
	static const char hex[] = "0123456789ABCDEF";
	uint32_t c;
	size_t n = utf8_next(rest, &c);
	unsigned char byte = (unsigned char)rest.p[0];

	if(n > 1 || (n == 1 && !is_unsafe(rest, delim, first))) {
		cpm_wr_pl_put(w, cpm_pl(rest.p, n));
		return n;
	}
	cpm_wr_chr(w, '=');
	cpm_wr_chr(w, hex[byte >> 4]);
	cpm_wr_chr(w, hex[byte & 15]);
	return 1;
}

static void safe_value(struct cpm_wr *w, struct cpm_pl value, char delim)
{
	size_t start = w->n, cut = w->n;

	for(size_t i = 0; i < value.n && w->n - start <= VALUE_MAX;) {
		i += safe_put(w, cpm_pl_from(value, i), delim, i == 0);
		if(w->n - start <= VALUE_CUT)
			cut = w->n;
	}
	if(w->n - start > VALUE_MAX) {
		w->n = cut;
		cpm_wr_chr(w, '~');
		cpm_wr_hex64(w, cpm_hash64(CPM_HASH_INIT, value));
	}
}

static void variable_put(struct cpm_wr *w, struct cpm_pl name,
		const struct cpm_msg *m, char delim)
{
	struct cpm_pl v = CPM_PL_NULL;
	char date[64];
	struct cpm_wr d;

	if(cpm_pl_eq(name, CPM_PL_LIT("user")))
		v = cpm_object_user(m->aor);
	else if(cpm_pl_eq(name, CPM_PL_LIT("originator")))
		v = is_withheld(m) || m->originator.n == 0 ? CPM_PL_LIT("anonymous")
												   : m->originator;
	else if(cpm_pl_eq(name, CPM_PL_LIT("conversation")))
		v = m->conversation_id;
	else if(cpm_pl_eq(name, CPM_PL_LIT("contribution")))
		v = m->contribution_id;
	else {
		cpm_wr_init(&d, date, sizeof(date));
		cpm_time_put_rfc3339(&d, cpm_object_date(m));
		v = cpm_pl(date, 10);
	}
	safe_value(w, is_blank(v) ? CPM_PL_LIT("none") : v, delim);
}

static void level_put(struct cpm_wr *w, struct cpm_pl level,
		const struct cpm_msg *m, char delim)
{
	while(level.n > 0) {
		size_t n = cpm_pl_chr(level, '{');
		size_t end = cpm_pl_chr(level, '}');
		/* the template's own text is the operator's, but not the separator */
		for(size_t i = 0; i < n; i++) {
			if(level.p[i] == delim)
				cpm_wr_chr(w, '_');
			else
				cpm_wr_chr(w, level.p[i]);
		}
		if(n < level.n && n < end)
			variable_put(w, cpm_pl(level.p + n + 1, end - n - 1), m, delim);
		level = n < level.n ? cpm_pl_from(level, end + 1) : CPM_PL_NULL;
	}
}

/* RFC 3501, 5.1.3: printable ASCII as it is, & as &-, the rest as UTF-16 in
 * base64 with ',' for '/', between & and -. */
static void utf7_put(struct cpm_wr *w, struct cpm_pl a)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
								 "qrstuvwxyz0123456789+,";
	unsigned char unit[3];
	size_t n = 0;
	bool open = false;
	uint32_t c;

	for(size_t i = 0; i < a.n;) {
		size_t step = utf8_next(cpm_pl_from(a, i), &c);
		if(step == 0) {
			c = '?';
			step = 1;
		}
		i += step;
		if(c < 0x80) {
			if(open && n > 0)
				base64_put(w, unit, n, digits);
			cpm_wr_str(w, open ? "-" : "");
			open = false;
			n = 0;
			cpm_wr_chr(w, (char)c);
			cpm_wr_str(w, c == '&' ? "-" : "");
			continue;
		}
		cpm_wr_str(w, open ? "" : "&");
		open = true;
		uint32_t pair[2] = {c, 0};
		if(c >= 0x10000) {
			pair[0] = 0xd800 + ((c - 0x10000) >> 10);
			pair[1] = 0xdc00 + ((c - 0x10000) & 0x3ff);
		}
		for(size_t k = 0; k < 4 && (k < 2 || pair[1] != 0); k++) {
			uint32_t u = pair[k / 2];
			unit[n++] = (unsigned char)(k % 2 == 0 ? u >> 8 : u & 0xff);
			if(n == 3) {
				base64_put(w, unit, n, digits);
				n = 0;
			}
		}
	}
	if(open && n > 0)
		base64_put(w, unit, n, digits);
	cpm_wr_str(w, open ? "-" : "");
}

int cpm_object_folder(struct cpm_pl text, const struct cpm_msg *m, char delim,
		struct cpm_wr *w)
{
	char buf[LEVEL_MAX];
	struct cpm_wr level;
	bool first = true;

	do {
		cpm_wr_init(&level, buf, sizeof(buf));
		level_put(&level, cpm_pl_cut(&text, '/'), m, delim);
		if(!cpm_wr_ok(&level))
			return CPM_ENOMEM;
		if(!first)
			cpm_wr_chr(w, delim != '\0' ? delim : '-');
		utf7_put(w, cpm_wr_pl(&level));
		first = false;
	} while(text.p != NULL);
	return cpm_wr_ok(w) ? CPM_OK : CPM_ENOMEM;
}

/* ---- login ---- */

/* Letters, digits and what addresses are full of mean nothing to a server. */
static bool is_sign(char c)
{
	return !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
			 || (c >= '0' && c <= '9') || strchr("@.-_+", c) != NULL);
}

int cpm_object_login(struct cpm_pl text, struct cpm_pl aor, struct cpm_pl login,
		struct cpm_wr *w)
{
	struct cpm_pl user = cpm_object_user(aor);

	for(size_t i = 0; i < user.n; i++)
		if(is_gap(user.p[i]))
			return CPM_EPROTO;
	while(text.n > 0) {
		char c = text.p[0];
		if(cpm_pl_starts(text, CPM_PL_LIT("{user}"))) {
			cpm_wr_pl_put(w, user);
			text = cpm_pl_from(text, 6);
			continue;
		}
		if(cpm_pl_starts(text, CPM_PL_LIT("{login}"))) {
			cpm_wr_pl_put(w, login);
			text = cpm_pl_from(text, 7);
			continue;
		}
		if(c == '\0' || (is_sign(c) && cpm_pl_chr(user, c) < user.n))
			return CPM_EPROTO;
		cpm_wr_chr(w, c);
		text = cpm_pl_from(text, 1);
	}
	return cpm_wr_ok(w) ? CPM_OK : CPM_ENOMEM;
}
