/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_frame.c - MSRP requests and responses on the wire (RFC 4975, 9).
 *
 * runs in:  anything; no allocation, no socket, no clock
 *
 * A frame's lines are gathered in the caller's buffer until they are whole;
 * the body is never gathered. What looks like its end, cut off by the end of
 * the input, is not kept but counted: it is a beginning of mark, and when
 * the rest turns out otherwise, it is mark that is handed out as body.
 */

#include "cpm_msrp_frame.h"

#include "cpm_msrp_uri.h"

enum state
{
	ST_START, /* between frames, or within a start line */
	ST_HEADERS,
	ST_BODY,
	ST_TAIL, /* the end-line was read with the headers */
	ST_DEAD,
};

#define DASHES "-------"
#define DASHES_N 7

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_flag(char c)
{
	return c == CPM_MSRP_END || c == CPM_MSRP_MORE || c == CPM_MSRP_ABORTED;
}

/* An ident of RFC 4975, but for its length. */
static bool is_ident(struct cpm_pl a, size_t min, size_t max)
{
	if(a.n < min || a.n > max || !is_alnum(a.p[0]))
		return false;
	for(size_t i = 1; i < a.n; i++)
		if(!is_alnum(a.p[i]) && !memchr(".-+%=", a.p[i], 5))
			return false;
	return true;
}

bool cpm_msrp_is_id(struct cpm_pl a)
{
	return is_ident(a, 4, 32);
}

static ptrdiff_t die(struct cpm_msrp_parser *p, int rc, const char *why)
{
	p->state = ST_DEAD;
	p->rc = rc;
	p->diag.why = why;
	p->diag.at = (size_t)p->taken;
	return rc;
}

void cpm_msrp_parser_init(
		struct cpm_msrp_parser *p, char *buf, size_t cap, uint64_t body_max)
{
	memset(p, 0, sizeof(*p));
	p->buf = buf;
	p->cap = cap < UINT32_MAX ? (uint32_t)cap : UINT32_MAX;
	p->body_max = body_max ? body_max : UINT64_MAX;
}

bool cpm_msrp_parser_idle(const struct cpm_msrp_parser *p)
{
	return p->state == ST_START && p->n == 0;
}

struct cpm_pl cpm_msrp_head_session(const struct cpm_msrp_head *head)
{
	struct cpm_msrp_uri uri;

	if(cpm_msrp_uri_parse(cpm_msrp_path_last(head->to_path), &uri, NULL)
			!= CPM_OK)
		return CPM_PL_NULL;
	return uri.session_id;
}

/* ---- values ---- */

static int parse_pos(struct cpm_pl in, bool star, uint64_t *v_r)
{
	if(star && cpm_pl_eq(in, CPM_PL_LIT("*"))) {
		*v_r = CPM_MSRP_STAR;
		return CPM_OK;
	}
	return cpm_pl_u64(in, CPM_MSRP_POS_MAX, v_r);
}

int cpm_msrp_byte_range_parse(
		struct cpm_pl in, struct cpm_msrp_byte_range *range_r)
{
	struct cpm_pl total = in;
	struct cpm_pl end = cpm_pl_cut(&total, '/');
	struct cpm_pl start = cpm_pl_cut(&end, '-');
	struct cpm_msrp_byte_range r = {0, 0, 0};
	int a, b, c;

	if(!total.p || !end.p)
		return CPM_EPROTO;
	a = parse_pos(start, false, &r.start);
	b = parse_pos(end, true, &r.end);
	c = parse_pos(total, true, &r.total);
	if(a == CPM_EPROTO || b == CPM_EPROTO || c == CPM_EPROTO)
		return CPM_EPROTO;
	if(a != CPM_OK || b != CPM_OK || c != CPM_OK)
		return CPM_ELIMIT;
	if(r.start == 0 || (r.end != CPM_MSRP_STAR && r.end + 1 < r.start))
		return CPM_EPROTO;
	if(r.total != CPM_MSRP_STAR
			&& (r.start - 1 > r.total
					|| (r.end != CPM_MSRP_STAR && r.end > r.total)))
		return CPM_EPROTO;
	*range_r = r;
	return CPM_OK;
}

static void put_pos(struct cpm_wr *w, uint64_t v)
{
	if(v == CPM_MSRP_STAR)
		cpm_wr_chr(w, '*');
	else
		cpm_wr_u64(w, v);
}

void cpm_msrp_byte_range_put(
		struct cpm_wr *w, const struct cpm_msrp_byte_range *r)
{
	cpm_wr_u64(w, r->start);
	cpm_wr_chr(w, '-');
	put_pos(w, r->end);
	cpm_wr_chr(w, '/');
	put_pos(w, r->total);
}

static void bad(struct cpm_msrp_head *h, const char *why)
{
	if(!h->bad)
		h->bad = why;
}

static void take_range(struct cpm_msrp_head *h, struct cpm_pl value)
{
	int rc = cpm_msrp_byte_range_parse(value, &h->range);

	if(rc != CPM_OK)
		bad(h, rc == CPM_ELIMIT ? "range-too-large" : "bad-byte-range");
	h->has_range = rc == CPM_OK;
}

static void take_success(struct cpm_msrp_head *h, struct cpm_pl value)
{
	if(cpm_pl_ieq(value, CPM_PL_LIT("yes")))
		h->success_report = true;
	else if(!cpm_pl_ieq(value, CPM_PL_LIT("no")))
		bad(h, "bad-success-report");
}

static void take_failure(struct cpm_msrp_head *h, struct cpm_pl value)
{
	if(cpm_pl_ieq(value, CPM_PL_LIT("no")))
		h->failure_report = CPM_MSRP_FR_NO;
	else if(cpm_pl_ieq(value, CPM_PL_LIT("partial")))
		h->failure_report = CPM_MSRP_FR_PARTIAL;
	else if(!cpm_pl_ieq(value, CPM_PL_LIT("yes")))
		bad(h, "bad-failure-report");
}

/* namespace SP code [ SP comment ] */
static void take_status(struct cpm_msrp_head *h, struct cpm_pl value)
{
	struct cpm_pl rest = value;
	struct cpm_pl space = cpm_pl_cut(&rest, ' ');
	struct cpm_pl code = cpm_pl_cut(&rest, ' ');
	uint64_t a, b;

	if(space.n != 3 || code.n != 3 || cpm_pl_u64(space, 999, &a) != CPM_OK
			|| cpm_pl_u64(code, 999, &b) != CPM_OK) {
		bad(h, "bad-status");
		return;
	}
	h->has_status = true;
	h->status_namespace = (unsigned)a;
	h->status_code = (unsigned)b;
}

static void take_message_id(struct cpm_msrp_head *h, struct cpm_pl value)
{
	/* others' ids have any visible character; they are compared, and sent
	 * back in a REPORT, and that is all */
	if(value.n == 0 || value.n > CPM_MSRP_ID_MAX
			|| cpm_pl_chr(value, ' ') < value.n
			|| cpm_pl_chr(value, '\t') < value.n)
		bad(h, "bad-message-id");
}

static const struct header
{
	const char *name;
	size_t slot; /* of a slice in the head that keeps the value, or 0 */
	void (*take)(struct cpm_msrp_head *h, struct cpm_pl value);
} headers[] = {
		{"To-Path", offsetof(struct cpm_msrp_head, to_path), NULL},
		{"From-Path", offsetof(struct cpm_msrp_head, from_path), NULL},
		{"Message-ID", offsetof(struct cpm_msrp_head, message_id),
				take_message_id},
		{"Success-Report", 0, take_success},
		{"Failure-Report", 0, take_failure},
		{"Byte-Range", 0, take_range},
		{"Status", 0, take_status},
		{"Content-Type", offsetof(struct cpm_msrp_head, content_type), NULL},
		{"Content-Disposition",
				offsetof(struct cpm_msrp_head, content_disposition), NULL},
		{"Content-ID", offsetof(struct cpm_msrp_head, content_id), NULL},
		{"Content-Description",
				offsetof(struct cpm_msrp_head, content_description), NULL},
		{"Use-Path", offsetof(struct cpm_msrp_head, use_path), NULL},
		{"Expires", offsetof(struct cpm_msrp_head, expires), NULL},
		{"Min-Expires", offsetof(struct cpm_msrp_head, min_expires), NULL},
		{"Max-Expires", offsetof(struct cpm_msrp_head, max_expires), NULL},
};

#define HEADERS_N (sizeof(headers) / sizeof(headers[0]))

static void take_header(struct cpm_msrp_head *h, uint32_t *seen,
		struct cpm_pl name, struct cpm_pl value)
{
	for(size_t i = 0; i < HEADERS_N; i++) {
		if(!cpm_pl_ieq(name, cpm_pl_str(headers[i].name)))
			continue;
		/* two readers of one frame might each believe another one */
		if(*seen & 1u << i) {
			bad(h, "duplicate-header");
			return;
		}
		*seen |= 1u << i;
		if(headers[i].slot)
			memcpy((char *)h + headers[i].slot, &value, sizeof(value));
		if(headers[i].take)
			headers[i].take(h, value);
		return;
	}
}

/* ---- lines ---- */

static bool is_name(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if(!is_alnum(a.p[i]) && !memchr("!#$%&'*+-.^_`|~", a.p[i], 15))
			return false;
	return a.n > 0;
}

/* "MSRP" SP tid SP ... */
static ptrdiff_t start_line(struct cpm_msrp_parser *p, struct cpm_pl line)
{
	struct cpm_msrp_head *h = &p->head;
	struct cpm_pl rest = line, word;
	uint64_t code;

	memset(h, 0, sizeof(*h));
	h->range = (struct cpm_msrp_byte_range){1, CPM_MSRP_STAR, CPM_MSRP_STAR};
	if(!cpm_pl_eq(cpm_pl_cut(&rest, ' '), CPM_PL_LIT("MSRP")) || !rest.p)
		return die(p, CPM_EPROTO, "bad-start");
	h->tid = cpm_pl_cut(&rest, ' ');
	if(!is_ident(h->tid, 1, CPM_MSRP_ID_MAX))
		return die(p, CPM_EPROTO, "bad-tid");
	word = cpm_pl_cut(&rest, ' ');
	h->method_name = word;
	if(word.n > 0 && is_digit(word.p[0])) {
		if(word.n != 3 || cpm_pl_u64(word, 999, &code) != CPM_OK)
			return die(p, CPM_EPROTO, "bad-code");
		h->code = (unsigned)code;
		h->comment = rest;
		return 0;
	}
	for(size_t i = 0; i < word.n; i++)
		if(word.p[i] < 'A' || word.p[i] > 'Z')
			return die(p, CPM_EPROTO, "bad-method");
	if(word.n == 0 || rest.n > 0)
		return die(p, CPM_EPROTO, "bad-method");
	h->method = CPM_MSRP_OTHER_METHOD;
	if(cpm_pl_eq(word, CPM_PL_LIT("SEND")))
		h->method = CPM_MSRP_SEND;
	else if(cpm_pl_eq(word, CPM_PL_LIT("REPORT")))
		h->method = CPM_MSRP_REPORT;
	else if(cpm_pl_eq(word, CPM_PL_LIT("AUTH")))
		h->method = CPM_MSRP_AUTH;
	else if(cpm_pl_eq(word, CPM_PL_LIT("NICKNAME")))
		h->method = CPM_MSRP_NICKNAME;
	return 0;
}

static void make_mark(struct cpm_msrp_parser *p)
{
	struct cpm_wr w;

	cpm_wr_init(&w, p->mark, sizeof(p->mark));
	cpm_wr_str(&w, "\r\n" DASHES);
	cpm_wr_pl_put(&w, p->head.tid);
	p->mark_len = (uint8_t)w.n;
	cpm_wr_str(&w, "?\r\n");
}

/* Whether a line of the headers is the end-line. */
static bool is_end_line(const struct cpm_msrp_parser *p, struct cpm_pl line)
{
	size_t n = p->head.tid.n;

	return line.n == DASHES_N + n + 1 && memcmp(line.p, DASHES, DASHES_N) == 0
		   && memcmp(line.p + DASHES_N, p->head.tid.p, n) == 0
		   && is_flag(line.p[line.n - 1]);
}

static ptrdiff_t check_paths(struct cpm_msrp_parser *p)
{
	const struct cpm_msrp_head *h = &p->head;
	struct cpm_msrp_path path;

	/* who sends a response is known by its transaction id */
	if(h->method == CPM_MSRP_RESPONSE)
		return 0;
	if(h->to_path.n == 0 || h->from_path.n == 0)
		return die(p, CPM_EPROTO, "no-path");
	if(cpm_msrp_path_parse(h->to_path, &path, NULL) != CPM_OK
			|| cpm_msrp_path_parse(h->from_path, &path, NULL) != CPM_OK)
		return die(p, CPM_EPROTO, "bad-path");
	return 0;
}

static ptrdiff_t header_line(struct cpm_msrp_parser *p, struct cpm_pl line)
{
	struct cpm_pl value = line;
	struct cpm_pl name = cpm_pl_cut(&value, ':');

	if(!value.p)
		return die(p, CPM_EPROTO, "no-colon");
	if(!is_name(name))
		return die(p, CPM_EPROTO, "bad-name");
	take_header(&p->head, &p->seen, name, cpm_pl_trim(value));
	return 0;
}

/* All headers are there. */
static ptrdiff_t head_done(struct cpm_msrp_parser *p, bool has_body)
{
	p->head.has_body = has_body;
	return check_paths(p);
}

/* A whole line, without its CRLF, has been gathered. */
static ptrdiff_t take_line(
		struct cpm_msrp_parser *p, struct cpm_pl line, struct cpm_msrp_item *it)
{
	ptrdiff_t rc;

	if(cpm_pl_ctl(line) < line.n)
		return die(p, CPM_EPROTO, "bad-byte");
	if(p->state == ST_START) {
		rc = start_line(p, line);
		if(rc == 0) {
			p->state = ST_HEADERS;
			p->seen = 0;
			p->lines = 0;
			make_mark(p);
		}
		return rc;
	}
	if(line.n == 0) {
		rc = head_done(p, true);
		if(rc != 0)
			return rc;
		p->state = ST_BODY;
		p->body_n = 0;
		/* the line end just read may be the one before the end-line */
		p->mark_n = p->mark_free = 2;
		it->kind = CPM_MSRP_HEAD;
		return 0;
	}
	if(is_end_line(p, line)) {
		rc = head_done(p, false);
		if(rc != 0)
			return rc;
		/* the head now, its tail at the next call, without a byte */
		p->state = ST_TAIL;
		p->mark[p->mark_len] = line.p[line.n - 1];
		it->kind = CPM_MSRP_HEAD;
		return 0;
	}
	if(++p->lines > CPM_MSRP_HEADERS_MAX)
		return die(p, CPM_ELIMIT, "too-many-headers");
	return header_line(p, line);
}

/* Gathers one line, or what there is of it. Returns the bytes taken. */
static ptrdiff_t gather(
		struct cpm_msrp_parser *p, struct cpm_pl in, struct cpm_msrp_item *it)
{
	size_t n = cpm_pl_chr(in, '\n');
	bool whole = n < in.n;
	struct cpm_pl line;
	ptrdiff_t rc;

	if(whole)
		n++;
	/* counted first: diag.at is the end of the line that is wrong */
	p->taken += n;
	if(n > CPM_MSRP_LINE_MAX || p->n - p->line > CPM_MSRP_LINE_MAX - n)
		return die(p, CPM_ELIMIT, "line-too-long");
	if(n > p->cap - p->n)
		return die(p, CPM_ELIMIT, "head-too-large");
	memcpy(p->buf + p->n, in.p, n);
	p->n += (uint32_t)n;
	if(!whole)
		return (ptrdiff_t)n;
	line = cpm_pl(p->buf + p->line, p->n - p->line - 1);
	if(line.n == 0 || line.p[line.n - 1] != '\r')
		return die(p, CPM_EPROTO, "bad-line");
	line.n--;
	p->line = p->n;
	rc = take_line(p, line, it);
	return rc < 0 ? rc : (ptrdiff_t)n;
}

/* CRLFs between frames: some peers keep a connection alive with them. */
static size_t skip_blank(struct cpm_pl in)
{
	size_t n = 0;

	while(n < in.n && (in.p[n] == '\r' || in.p[n] == '\n'))
		n++;
	return n;
}

/* ---- the body ---- */

static void end_frame(struct cpm_msrp_parser *p, struct cpm_msrp_item *it)
{
	it->kind = CPM_MSRP_TAIL;
	it->flag = p->mark[p->mark_len];
	p->state = ST_START;
	p->n = 0;
	p->line = 0;
}

/* Goes on with mark where the input has shown at bytes of it. Returns the
 * bytes that fit; *at_r is then the whole of mark, or less: at the end of
 * the input, or where the input says otherwise. */
static size_t match(
		struct cpm_msrp_parser *p, struct cpm_pl in, size_t *at_r, bool *whole)
{
	size_t at = *at_r, i = 0, end = (size_t)p->mark_len + 3;

	for(; i < in.n && at < end; i++, at++) {
		if(at == p->mark_len) {
			if(!is_flag(in.p[i]))
				break;
			p->mark[at] = in.p[i];
		} else if(in.p[i] != p->mark[at])
			break;
	}
	*at_r = at;
	*whole = at == end;
	return i;
}

static ptrdiff_t give(struct cpm_msrp_parser *p, struct cpm_msrp_item *it,
		const char *bytes, size_t n, size_t taken)
{
	p->taken += taken;
	if(n > p->body_max - p->body_n)
		return die(p, CPM_ELIMIT, "body-too-large");
	p->body_n += n;
	if(n > 0) {
		it->kind = CPM_MSRP_BODY;
		it->bytes = cpm_pl(bytes, n);
	}
	return (ptrdiff_t)taken;
}

/* The input before began a mark: it goes on, or it was none. */
static ptrdiff_t body_held(
		struct cpm_msrp_parser *p, struct cpm_pl in, struct cpm_msrp_item *it)
{
	size_t at = p->mark_n, virtual = p->mark_free;
	bool whole;
	size_t n = match(p, in, &at, &whole);

	if(whole) {
		p->taken += n;
		p->mark_n = p->mark_free = 0;
		end_frame(p, it);
		return (ptrdiff_t)n;
	}
	if(n == in.n) {
		p->mark_n = (uint8_t)at;
		p->taken += n;
		return (ptrdiff_t)n;
	}
	p->mark_n = p->mark_free = 0;
	return give(p, it, p->mark + virtual, at - virtual, n);
}

static ptrdiff_t body(
		struct cpm_msrp_parser *p, struct cpm_pl in, struct cpm_msrp_item *it)
{
	size_t i = 0;

	if(p->mark_n > 0)
		return body_held(p, in, it);
	/* A CR is only the first and the last but one byte of mark, and it is
	 * followed by LF in both places. So where mark breaks off, no other one
	 * has begun before that place. */
	while((i += cpm_pl_chr(cpm_pl(in.p + i, in.n - i), '\r')) < in.n) {
		size_t at = 0;
		bool whole;
		size_t n = match(p, cpm_pl(in.p + i, in.n - i), &at, &whole);

		if(!whole && i + n < in.n) {
			i += n;
			continue;
		}
		if(i > 0)
			break; /* first what is before it */
		p->taken += n;
		if(whole)
			end_frame(p, it);
		else
			p->mark_n = (uint8_t)at;
		return (ptrdiff_t)n;
	}
	return give(p, it, in.p, i, i);
}

ptrdiff_t cpm_msrp_parser_next(struct cpm_msrp_parser *p, struct cpm_pl in,
		struct cpm_msrp_item *item_r)
{
	struct cpm_msrp_item it = {CPM_MSRP_NOTHING, CPM_PL_NULL, 0};
	size_t done = 0;

	if(p->state == ST_DEAD)
		return p->rc;
	if(p->state == ST_TAIL)
		end_frame(p, &it);
	while(it.kind == CPM_MSRP_NOTHING && done < in.n) {
		struct cpm_pl rest = cpm_pl(in.p + done, in.n - done);
		ptrdiff_t n;

		if(p->state == ST_START && p->n == 0) {
			size_t blank = skip_blank(rest);

			p->taken += blank;
			done += blank;
			if(blank > 0)
				continue;
		}
		n = p->state == ST_BODY ? body(p, rest, &it) : gather(p, rest, &it);
		if(n < 0)
			return n;
		done += (size_t)n;
	}
	*item_r = it;
	return (ptrdiff_t)done;
}

/* ---- building ---- */

static void put_header(struct cpm_wr *w, const char *name, struct cpm_pl value)
{
	if(value.n == 0)
		return;
	cpm_wr_str(w, name);
	cpm_wr_str(w, ": ");
	cpm_wr_pl_put(w, value);
	cpm_wr_str(w, "\r\n");
}

static void put_start(struct cpm_wr *w, struct cpm_pl tid)
{
	cpm_wr_str(w, "MSRP ");
	cpm_wr_pl_put(w, tid);
	cpm_wr_chr(w, ' ');
}

static void put_code(struct cpm_wr *w, unsigned code)
{
	const char *text = cpm_msrp_code_text(code);

	for(unsigned unit = 100; unit > 0; unit /= 10)
		cpm_wr_chr(w, (char)('0' + code / unit % 10));
	if(*text) {
		cpm_wr_chr(w, ' ');
		cpm_wr_str(w, text);
	}
	cpm_wr_str(w, "\r\n");
}

void cpm_msrp_req_put(struct cpm_wr *w, const struct cpm_msrp_req *req)
{
	static const char *const failure[] = {"", "no", "partial"};

	put_start(w, req->tid);
	cpm_wr_str(w, req->method);
	cpm_wr_str(w, "\r\n");
	put_header(w, "To-Path", req->to_path);
	put_header(w, "From-Path", req->from_path);
	put_header(w, "Message-ID", req->message_id);
	if(req->range.start > 0) {
		cpm_wr_str(w, "Byte-Range: ");
		cpm_msrp_byte_range_put(w, &req->range);
		cpm_wr_str(w, "\r\n");
	}
	if(req->success_report)
		put_header(w, "Success-Report", CPM_PL_LIT("yes"));
	put_header(w, "Failure-Report", cpm_pl_str(failure[req->failure_report]));
	if(req->status) {
		cpm_wr_str(w, "Status: 000 ");
		put_code(w, req->status);
	}
	put_header(w, "Content-Type", req->content_type);
	if(req->content_type.n)
		cpm_wr_str(w, "\r\n");
}

void cpm_msrp_tail_put(
		struct cpm_wr *w, struct cpm_pl tid, bool has_body, char flag)
{
	if(has_body)
		cpm_wr_str(w, "\r\n");
	cpm_wr_str(w, DASHES);
	cpm_wr_pl_put(w, tid);
	cpm_wr_chr(w, flag);
	cpm_wr_str(w, "\r\n");
}

void cpm_msrp_response_put(
		struct cpm_wr *w, const struct cpm_msrp_head *request, unsigned code)
{
	put_start(w, request->tid);
	put_code(w, code);
	put_header(w, "To-Path", cpm_msrp_path_first(request->from_path));
	put_header(w, "From-Path", cpm_msrp_path_first(request->to_path));
	cpm_msrp_tail_put(w, request->tid, false, CPM_MSRP_END);
}

const char *cpm_msrp_code_text(unsigned code)
{
	switch(code) {
		case 200:
			return "OK";
		case 400:
			return "Bad request";
		case 401:
			return "Unauthorized";
		case 403:
			return "Not allowed";
		case 408:
			return "Timed out";
		case 413:
			return "Stop sending";
		case 415:
			return "Media type not understood";
		case 423:
			return "Parameter out of bounds";
		case 481:
			return "No such session";
		case 501:
			return "Unknown method";
		case 506:
			return "Session in use elsewhere";
		default:
			return "";
	}
}
