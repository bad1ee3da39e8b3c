/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * msrp_side.h - an MSRP session under test, whose peer is a script: what it
 * makes of that, and what it sends, is told as text.
 *
 * runs in:  test programs, one thread
 */

#ifndef MSRP_SIDE_H
#define MSRP_SIDE_H

#include <stdlib.h>

#include "check_helpers.h"
#include "cpm_msrp_sess.h"

#define OWN "msrp://b:2/t;tcp"
#define PEER "msrp://a:1/s;tcp"
#define PATHS "To-Path: " OWN "\r\nFrom-Path: " PEER "\r\n"
#define SEND(tid) "MSRP " tid " SEND\r\n" PATHS
#define ID(id) "Message-ID: " id "\r\n"
#define RANGE(r) "Byte-Range: " r "\r\n"
#define TYPE "Content-Type: text/plain\r\n"
#define BODY(b) "\r\n" b "\r\n"
#define END(tid) "-------" tid
#define CHUNK(tid, id, range, body, flag) \
	SEND(tid) ID(id) RANGE(range) TYPE BODY(body) END(tid) flag "\r\n"

#define OUT_CAP 8192
#define SLOTS 3

static struct cpm_msrp_conf conf; /* set by a test before open */
/* ---- a session that tells what happens ---- */

struct side
{
	struct cpm_msrp_sess s;
	struct cpm_msrp_parser in, out;
	struct cpm_msrp_tx tx[SLOTS];
	struct cpm_msrp_trans win[SLOTS];
	struct cpm_msrp_rx rx[SLOTS];
	char head[CPM_MSRP_HEAD_BUF], out_head[CPM_MSRP_HEAD_BUF];
	char out_buf[OUT_CAP];
	char tids[32][CPM_MSRP_ID_MAX + 1]; /* of our requests, as they left */
	size_t tids_n;
	struct cpm_wr *log;
	struct cpm_wr *sent; /* what went out is told here */
	uint64_t at;		 /* where the last DATA ended */
	unsigned refuse;	 /* what BEGIN is answered */
	bool keeps_out;
	int rc;
	int64_t now;
};

static inline struct side *side_new(struct cpm_wr *log)
{
	static const uint8_t seed[16] = {9, 8, 7};
	struct side *p = calloc(1, sizeof(*p));
	struct cpm_msrp_mem mem;

	ck_assert_ptr_nonnull(p);
	mem = (struct cpm_msrp_mem){p->out_buf,
			conf.chunk_size == 1 ? CPM_MSRP_OUT_MIN : OUT_CAP, p->tx, p->win,
			p->rx, SLOTS, SLOTS, SLOTS};
	p->log = p->sent = log;
	cpm_msrp_parser_init(&p->in, p->head, sizeof(p->head), 0);
	cpm_msrp_parser_init(&p->out, p->out_head, sizeof(p->out_head), 0);
	ck_assert_int_eq(cpm_msrp_sess_init(&p->s, &conf, &mem, CPM_PL_LIT(OWN),
							 CPM_PL_LIT(PEER), seed, 0),
			CPM_OK);
	return p;
}

static inline void put2(struct cpm_wr *w, const char *word, uint64_t v)
{
	cpm_wr_str(w, word);
	cpm_wr_u64(w, v);
}

static inline void tell_event(struct side *p, const struct cpm_msrp_ev *ev)
{
	struct cpm_wr *w = p->log;

	switch(ev->kind) {
		case CPM_MSRP_EV_BEGIN:
			cpm_wr_str(w, "{begin ");
			cpm_wr_pl_put(w, ev->message_id);
			cpm_wr_chr(w, ' ');
			cpm_wr_pl_put(w, ev->content_type);
			if(ev->size != CPM_MSRP_STAR)
				put2(w, " ", ev->size);
			cpm_wr_chr(w, '}');
			p->at = 0;
			if(p->refuse)
				ck_assert_int_eq(
						cpm_msrp_sess_refuse(&p->s, ev->handle, p->refuse),
						CPM_OK);
			return;
		case CPM_MSRP_EV_DATA:
			if(ev->offset != p->at)
				put2(w, "@", ev->offset);
			cpm_wr_pl_put(w, ev->data);
			p->at = ev->offset + ev->data.n;
			return;
		case CPM_MSRP_EV_COMPLETE:
			put2(w, "{complete ", ev->size);
			break;
		case CPM_MSRP_EV_ABORTED:
			put2(w, "{aborted ", ev->code);
			break;
		case CPM_MSRP_EV_EMPTY:
			cpm_wr_str(w, "{empty");
			break;
		case CPM_MSRP_EV_WANT:
			put2(w, "{want ", ev->offset);
			put2(w, "+", ev->len);
			break;
		case CPM_MSRP_EV_DONE:
			cpm_wr_str(w, "{done ");
			cpm_wr_pl_put(w, ev->message_id);
			break;
		case CPM_MSRP_EV_FAILED:
			put2(w, "{failed ", ev->code);
			break;
		case CPM_MSRP_EV_BOUND:
			put2(w, "{bound ", ev->code);
			break;
		case CPM_MSRP_EV_GONE:
			put2(w, "{gone ", ev->code);
			break;
		case CPM_MSRP_EV_IDLE:
			cpm_wr_str(w, "{idle");
			break;
		case CPM_MSRP_EV_EXPIRED:
			cpm_wr_str(w, "{expired");
			break;
	}
	if(ev->why) {
		cpm_wr_chr(w, ' ');
		cpm_wr_str(w, ev->why);
	}
	cpm_wr_chr(w, '}');
}

static inline void pull(struct side *p)
{
	struct cpm_msrp_ev ev;

	while(cpm_msrp_sess_event(&p->s, &ev))
		tell_event(p, &ev);
}

/* A request of ours by what it says, a response by its code. */
static inline void tell_out_head(struct side *p)
{
	const struct cpm_msrp_head *h = &p->out.head;
	struct cpm_wr *w = p->sent;

	cpm_wr_chr(w, '[');
	cpm_wr_pl_put(w, h->method_name);
	ck_assert_ptr_null(h->bad);
	if(h->method == CPM_MSRP_RESPONSE) {
		cpm_wr_chr(w, ' ');
		cpm_wr_pl_put(w, h->tid);
	} else {
		ck_assert(cpm_msrp_is_id(h->tid));
		ck_assert_uint_gt(h->message_id.n, 0);
		ck_pl_eq(h->from_path, OWN);
		ck_assert_uint_lt(p->tids_n, FU_N(p->tids));
		cpm_pl_cstr(h->tid, p->tids[p->tids_n++], sizeof(p->tids[0]));
	}
	if(h->has_range) {
		cpm_wr_chr(w, ' ');
		cpm_msrp_byte_range_put(w, &h->range);
	}
	if(h->success_report)
		cpm_wr_str(w, " success");
	if(h->failure_report)
		cpm_wr_str(w,
				h->failure_report == CPM_MSRP_FR_NO ? " fr=no" : " fr=partial");
	if(h->has_status)
		put2(w, " ", h->status_code);
	cpm_wr_chr(w, ']');
}

/* Sends n bytes of what waits. */
static inline void flush(struct side *p, size_t n)
{
	struct cpm_pl out = cpm_msrp_sess_out(&p->s);
	struct cpm_msrp_item item;
	size_t body = 0;

	if(n < out.n)
		out.n = n;
	n = out.n;
	do {
		ptrdiff_t k = cpm_msrp_parser_next(&p->out, out, &item);

		ck_assert_msg(k >= 0, "%s", p->out.diag.why);
		out = cpm_pl(out.p + k, out.n - (size_t)k);
		if(item.kind == CPM_MSRP_HEAD)
			tell_out_head(p);
		else if(item.kind == CPM_MSRP_BODY)
			body += item.bytes.n;
		else if(item.kind == CPM_MSRP_TAIL) {
			if(body)
				cpm_wr_u64(p->sent, body);
			body = 0;
			if(p->out.head.method != CPM_MSRP_RESPONSE)
				cpm_wr_chr(p->sent, item.flag);
		}
	} while(item.kind != CPM_MSRP_NOTHING);
	/* a body that goes on is told by its pieces */
	if(body)
		put2(p->sent, "", body);
	cpm_msrp_sess_sent(&p->s, n, p->now);
}

static inline void side_feed(void *arg, struct cpm_pl in)
{
	struct side *p = arg;
	bool was_stuck = false;

	while(p->rc == CPM_OK) {
		ptrdiff_t n = cpm_msrp_sess_recv(&p->s, &p->in, in, p->now);

		if(n < 0) {
			p->rc = (int)n;
			cpm_wr_str(p->log, "!");
			cpm_wr_str(p->log, p->s.diag.why);
			return;
		}
		in = cpm_pl(in.p + n, in.n - (size_t)n);
		pull(p);
		if(!p->keeps_out)
			while(cpm_msrp_sess_out(&p->s).n)
				flush(p, SIZE_MAX);
		pull(p);
		if(in.n == 0)
			return;
		/* once without progress is fine: an event was in the way */
		if(n == 0 && was_stuck)
			return;
		was_stuck = n == 0;
	}
}

static inline void say(struct side *p, const char *text)
{
	side_feed(p, cpm_pl_str(text));
}

static inline void side_close(void *arg)
{
	free(arg);
}

/* ---- a whole script: what a test begins and ends with ---- */

static char log_buf[65536];
static struct cpm_wr log_wr;

static inline struct side *begin(void)
{
	memset(log_buf, 0, sizeof(log_buf));
	cpm_wr_init(&log_wr, log_buf, sizeof(log_buf) - 1);
	return side_new(&log_wr);
}

/* What has been told since the last time. */
#define told(text)                          \
	do {                                    \
		ck_pl_eq(cpm_wr_pl(&log_wr), text); \
		log_wr.n = 0;                       \
	} while(0)

static inline void out(struct side *p)
{
	while(cpm_msrp_sess_out(&p->s).n)
		flush(p, SIZE_MAX);
	pull(p);
}

static inline void answer(struct side *p, size_t nth, const char *code)
{
	char text[512];
	struct cpm_wr w;

	ck_assert_uint_lt(nth, p->tids_n);
	cpm_wr_init(&w, text, sizeof(text) - 1);
	cpm_wr_str(&w, "MSRP ");
	cpm_wr_str(&w, p->tids[nth]);
	cpm_wr_chr(&w, ' ');
	cpm_wr_str(&w, code);
	cpm_wr_str(&w, "\r\n" PATHS "-------");
	cpm_wr_str(&w, p->tids[nth]);
	cpm_wr_str(&w, "$\r\n");
	side_feed(p, cpm_wr_pl(&w));
}

static inline void report(
		struct side *p, const char *id, const char *range, const char *status)
{
	char text[512];
	struct cpm_wr w;

	cpm_wr_init(&w, text, sizeof(text) - 1);
	cpm_wr_str(&w, "MSRP rep1 REPORT\r\n" PATHS "Message-ID: ");
	cpm_wr_str(&w, id);
	cpm_wr_str(&w, "\r\nByte-Range: ");
	cpm_wr_str(&w, range);
	cpm_wr_str(&w, "\r\nStatus: 000 ");
	cpm_wr_str(&w, status);
	cpm_wr_str(&w, "\r\n-------rep1$\r\n");
	side_feed(p, cpm_wr_pl(&w));
}

static char text_of[100000];

/* Queues a message of size bytes; NULL for its bytes if they are pulled. */
static inline uint32_t queue(struct side *p, const char *id, size_t size,
		bool lent, struct cpm_msrp_send with)
{
	uint32_t handle = 0;

	memset(text_of, 'x', sizeof(text_of));
	with.message_id = cpm_pl_str(id);
	with.content_type = CPM_PL_LIT("text/plain");
	with.size = size;
	if(lent)
		with.data = cpm_pl(text_of, size);
	ck_assert_int_eq(cpm_msrp_sess_send(&p->s, &with, p->now, &handle), CPM_OK);
	pull(p);
	return handle;
}

#define PLAIN ((struct cpm_msrp_send){.wait_report = false})

static inline void reset_conf(void)
{
	conf = (struct cpm_msrp_conf){.max_message = 1000,
			.accept_types = CPM_PL_LIT("message/cpim text/* "),
			.transaction_ms = 30000};
}

#endif
