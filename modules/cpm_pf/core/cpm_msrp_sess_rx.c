/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_sess_rx.c - one MSRP session: messages on their way in.
 *
 * runs in:  the thread that owns the session; no socket, no clock, no random
 *
 * A SEND is looked at when its first body byte is there, since one without
 * body starts nothing. Refused, it is answered at once if there is room, so
 * that the peer may stop; else where it ends, as all others are.
 */

#include "cpm_msrp_sess_int.h"

#define SUCCESS 200

static struct cpm_msrp_rx *cur_rx(struct cpm_msrp_sess *s)
{
	return s->cur.rx ? &s->mem.rx[s->cur.rx - 1] : NULL;
}

static struct cpm_msrp_rx *find_id(struct cpm_msrp_sess *s, struct cpm_pl id)
{
	for(unsigned i = 0; i < s->mem.rx_n; i++)
		if(s->mem.rx[i].state == RX_ACTIVE
				&& cpm_pl_eq(cpm_msrp_rx_id(&s->mem.rx[i]), id))
			return &s->mem.rx[i];
	return NULL;
}

/* ---- messages that have ended ---- */

static void recent_add(
		struct cpm_msrp_sess *s, const struct cpm_msrp_rx *r, unsigned code)
{
	uint32_t i = s->recent_at++ % CPM_MSRP_RECENT;

	s->recent[i].hash = cpm_hash64(CPM_HASH_INIT, cpm_msrp_rx_id(r));
	s->recent[i].code = (uint16_t)code;
}

/* What the end of that message was answered, or 0: not known. */
static unsigned recent_code(const struct cpm_msrp_sess *s, struct cpm_pl id)
{
	uint64_t hash = cpm_hash64(CPM_HASH_INIT, id);

	for(uint32_t i = 0; i < CPM_MSRP_RECENT; i++)
		if(s->recent[i].code && s->recent[i].hash == hash)
			return s->recent[i].code;
	return 0;
}

static void rx_end(struct cpm_msrp_sess *s, struct cpm_msrp_rx *r,
		enum rx_state state, unsigned code, const char *why)
{
	recent_add(s, r, code ? code : SUCCESS);
	r->code = (uint16_t)code;
	r->why = why;
	/* of what was never begun nobody needs to hear the end */
	if(state == RX_ABORTED && !r->begun)
		state = RX_FREE;
	r->state = (uint8_t)state;
	if(cur_rx(s) == r)
		s->cur.data = CPM_PL_NULL;
}

/* ---- answers ---- */

static bool wants_answer(const struct cpm_msrp_head *head, unsigned code)
{
	switch(head->failure_report) {
		case CPM_MSRP_FR_NO:
			return false;
		case CPM_MSRP_FR_PARTIAL:
			return code != SUCCESS;
		default:
			return true;
	}
}

/* The SEND that is coming in, and the message it belongs to, end here. */
static void refuse(struct cpm_msrp_sess *s, const struct cpm_msrp_head *head,
		unsigned code, const char *why)
{
	struct cpm_msrp_rx *r = cur_rx(s);
	struct cpm_wr w;

	s->cur.code = (uint16_t)code;
	s->cur.data = CPM_PL_NULL;
	if(r)
		rx_end(s, r, RX_ABORTED, code, why);
	s->cur.rx = 0;
	if(!head || s->cur.is_answered || !wants_answer(head, code))
		return;
	cpm_msrp_out_begin(s, &w);
	cpm_msrp_response_put(&w, head, code);
	s->cur.is_answered = cpm_msrp_out_commit(s, &w);
}

/* Of the whole message, once: RFC 4975, 7.1.2 */
static void put_report(struct cpm_msrp_sess *s,
		const struct cpm_msrp_head *head, const struct cpm_msrp_rx *r,
		uint64_t size, struct cpm_wr *w)
{
	char tid[CPM_MSRP_TID];
	struct cpm_msrp_req req;

	cpm_msrp_make_id(s, tid);
	memset(&req, 0, sizeof(req));
	req.method = "REPORT";
	req.tid = cpm_pl(tid, sizeof(tid));
	req.to_path = head->from_path;
	req.from_path = s->own.text;
	req.message_id = cpm_msrp_rx_id(r);
	req.range = (struct cpm_msrp_byte_range){1, size, size};
	req.status = SUCCESS;
	cpm_msrp_req_put(w, &req);
	cpm_msrp_tail_put(w, req.tid, false, CPM_MSRP_END);
}

/* ---- a SEND begins ---- */

void cpm_msrp_rx_head(struct cpm_msrp_sess *s, const struct cpm_msrp_head *head)
{
	struct cpm_msrp_cur *c = &s->cur;

	memset(c, 0, sizeof(*c));
	c->pos = head->range.start > 0 ? head->range.start - 1 : 0;
	c->content_type = head->content_type;
	if(head->method == CPM_MSRP_RESPONSE || head->method == CPM_MSRP_REPORT)
		return;
	if(!cpm_msrp_sess_owns(s, head))
		refuse(s, head, 481, "wrong-session");
	else if(head->method != CPM_MSRP_SEND)
		refuse(s, head, 501, "unknown-method");
	else if(head->bad)
		refuse(s, head, 400, head->bad);
}

/* A star and "type/" with one too; case does not count, nor do parameters */
static bool type_matches(struct cpm_pl pattern, struct cpm_pl type)
{
	if(cpm_pl_eq(pattern, CPM_PL_LIT("*")))
		return true;
	if(pattern.n > 2 && pattern.p[pattern.n - 1] == '*'
			&& pattern.p[pattern.n - 2] == '/')
		return cpm_pl_istarts(type, cpm_pl(pattern.p, pattern.n - 1));
	return cpm_pl_ieq(pattern, type);
}

static bool type_is_accepted(struct cpm_pl list, struct cpm_pl value)
{
	struct cpm_pl type = cpm_pl_trim(cpm_pl_cut(&value, ';'));

	if(cpm_pl_trim(list).n == 0)
		return true;
	while(list.p) {
		struct cpm_pl pattern = cpm_pl_cut(&list, ' ');

		if(pattern.n && type_matches(pattern, type))
			return true;
	}
	return false;
}

static bool is_too_large(const struct cpm_msrp_sess *s, uint64_t size)
{
	return s->conf->max_message && size > s->conf->max_message;
}

static void rx_new(struct cpm_msrp_sess *s, const struct cpm_msrp_head *head,
		int64_t now_ms)
{
	struct cpm_msrp_rx *r = NULL;

	for(unsigned i = 0; i < s->mem.rx_n && !r; i++)
		if(s->mem.rx[i].state == RX_FREE)
			r = &s->mem.rx[i];
	if(!r) {
		refuse(s, head, 413, "too-many-messages");
		return;
	}
	memset(r, 0, sizeof(*r));
	r->state = RX_ACTIVE;
	r->id_n = (uint8_t)head->message_id.n;
	memcpy(r->id, head->message_id.p, head->message_id.n);
	if(++s->handles == 0)
		s->handles = 1;
	r->handle = s->handles;
	r->said = head->range.total;
	r->size = CPM_MSRP_STAR;
	r->success_report = head->success_report;
	r->due_ms = cpm_msrp_due(now_ms, s->conf->message_ms);
	s->cur.rx = (uint8_t)(r - s->mem.rx + 1);
}

/* The first chunk of a message that we see. */
static void open_new(struct cpm_msrp_sess *s, const struct cpm_msrp_head *head,
		int64_t now_ms)
{
	/* a message may be sent anew from its beginning, but what comes late of
	 * one that has ended is none */
	unsigned code =
			head->range.start > 1 ? recent_code(s, head->message_id) : 0;

	if(code == SUCCESS)
		s->cur.is_dup = true;
	else if(code)
		refuse(s, head, code, NULL);
	else if(head->content_type.n == 0)
		refuse(s, head, 400, "no-content-type");
	else if(!type_is_accepted(s->conf->accept_types, head->content_type))
		refuse(s, head, 415, "type-not-accepted");
	else if(is_too_large(s, head->range.start)
			|| (head->range.total != CPM_MSRP_STAR
					&& is_too_large(s, head->range.total)))
		refuse(s, head, 413, "too-large");
	else
		rx_new(s, head, now_ms);
}

static void open_more(struct cpm_msrp_sess *s, const struct cpm_msrp_head *head,
		struct cpm_msrp_rx *r)
{
	uint64_t total = head->range.total;

	s->cur.rx = (uint8_t)(r - s->mem.rx + 1);
	r->success_report |= head->success_report;
	if(total == CPM_MSRP_STAR)
		return;
	if(r->said != CPM_MSRP_STAR && r->said != total) {
		refuse(s, head, 400, "total-changed");
		return;
	}
	r->said = total;
	if(cpm_msrp_ranges_end(&r->have) > total)
		refuse(s, head, 400, "beyond-total");
	else if(is_too_large(s, total))
		refuse(s, head, 413, "too-large");
}

static void rx_open(struct cpm_msrp_sess *s, const struct cpm_msrp_head *head,
		int64_t now_ms)
{
	struct cpm_msrp_rx *r;

	if(head->message_id.n == 0) {
		refuse(s, head, 400, "no-message-id");
		return;
	}
	r = find_id(s, head->message_id);
	if(r)
		open_more(s, head, r);
	else
		open_new(s, head, now_ms);
}

void cpm_msrp_rx_body(struct cpm_msrp_sess *s, const struct cpm_msrp_head *head,
		struct cpm_pl bytes, int64_t now_ms)
{
	struct cpm_msrp_cur *c = &s->cur;
	const struct cpm_msrp_rx *r;
	uint64_t end;

	if(head->method != CPM_MSRP_SEND || c->code || c->is_dup)
		return;
	if(!c->rx)
		rx_open(s, head, now_ms);
	r = cur_rx(s);
	if(!r)
		return;
	/* both are bounded, one by CPM_MSRP_POS_MAX, one by memory */
	end = c->pos + bytes.n;
	if(end > CPM_MSRP_POS_MAX || is_too_large(s, end))
		refuse(s, head, 413, "too-large");
	else if(head->range.end != CPM_MSRP_STAR && end > head->range.end)
		refuse(s, head, 400, "beyond-range");
	else if((r->said != CPM_MSRP_STAR && end > r->said) || end > r->size)
		refuse(s, head, 400, "beyond-total");
	else {
		c->data = bytes;
		c->data_at = c->pos;
		c->pos = end;
	}
}

/* ---- a SEND ends ---- */

static int tail_send(struct cpm_msrp_sess *s, const struct cpm_msrp_head *head,
		char flag, bool *completes_r)
{
	struct cpm_msrp_cur *c = &s->cur;
	struct cpm_msrp_rx *r = cur_rx(s);
	uint64_t size = CPM_MSRP_STAR;
	unsigned code = c->code ? c->code : SUCCESS;
	bool completes = false;
	struct cpm_wr w;

	if(r) {
		size = flag == CPM_MSRP_END ? c->pos : r->size;
		completes = flag != CPM_MSRP_ABORTED && size != CPM_MSRP_STAR
					&& cpm_msrp_ranges_full(&r->have, size);
	}
	cpm_msrp_out_begin(s, &w);
	if(!c->is_answered && wants_answer(head, code))
		cpm_msrp_response_put(&w, head, code);
	if(completes && r->success_report)
		put_report(s, head, r, size, &w);
	s->answer_waits = !cpm_msrp_out_commit(s, &w);
	if(s->answer_waits)
		return CPM_EAGAIN;
	*completes_r = completes;
	return CPM_OK;
}

int cpm_msrp_rx_tail(
		struct cpm_msrp_sess *s, const struct cpm_msrp_head *head, char flag)
{
	struct cpm_msrp_cur *c = &s->cur;
	struct cpm_msrp_rx *r;
	bool is_empty = !c->rx && !c->code && !c->is_dup;
	bool completes;

	/* no body: perhaps the end of a message that is under way */
	if(is_empty && head->message_id.n
			&& (r = find_id(s, head->message_id)) != NULL) {
		is_empty = false;
		c->rx = (uint8_t)(r - s->mem.rx + 1);
	}
	r = cur_rx(s);
	/* "$" says where a message ends, whatever total it had announced: some
	 * count the CRLF behind the body, as an example of RFC 4975 does */
	if(r && flag == CPM_MSRP_END
			&& (cpm_msrp_ranges_end(&r->have) > c->pos
					|| (r->size != CPM_MSRP_STAR && r->size != c->pos))) {
		refuse(s, head, 400, "beyond-total");
		r = NULL;
	}
	if(tail_send(s, head, flag, &completes) != CPM_OK)
		return CPM_EAGAIN;
	if(is_empty)
		s->pending |= PENDING_EMPTY;
	c->rx = 0;
	if(!r)
		return CPM_OK;
	if(flag == CPM_MSRP_END)
		r->size = c->pos;
	if(completes)
		rx_end(s, r, RX_COMPLETE, SUCCESS, NULL);
	else if(flag == CPM_MSRP_ABORTED)
		rx_end(s, r, RX_ABORTED, 0, "aborted-by-peer");
	return CPM_OK;
}

/* ---- what the caller asks ---- */

int cpm_msrp_sess_refuse(
		struct cpm_msrp_sess *s, uint32_t handle, unsigned code)
{
	for(unsigned i = 0; i < s->mem.rx_n; i++) {
		struct cpm_msrp_rx *r = &s->mem.rx[i];

		if(r->state != RX_ACTIVE || r->handle != handle)
			continue;
		/* who refuses it needs no event to know */
		r->begun = false;
		if(cur_rx(s) == r)
			refuse(s, NULL, code, NULL);
		else
			rx_end(s, r, RX_ABORTED, code, NULL);
		return CPM_OK;
	}
	return CPM_ENOENT;
}

/* ---- time and endings ---- */

/* Of a chunk that is coming in the rest is passed over. */
static void abort_one(struct cpm_msrp_sess *s, struct cpm_msrp_rx *r,
		unsigned code, const char *why)
{
	if(cur_rx(s) == r) {
		s->cur.rx = 0;
		s->cur.code = (uint16_t)code;
		s->cur.is_dup = true;
		s->cur.data = CPM_PL_NULL;
	}
	rx_end(s, r, RX_ABORTED, code, why);
}

void cpm_msrp_rx_tick(struct cpm_msrp_sess *s, int64_t now_ms)
{
	for(unsigned i = 0; i < s->mem.rx_n; i++)
		if(s->mem.rx[i].state == RX_ACTIVE && s->mem.rx[i].due_ms <= now_ms)
			abort_one(s, &s->mem.rx[i], 408, "message-timeout");
}

void cpm_msrp_rx_abort_all(struct cpm_msrp_sess *s, const char *why)
{
	for(unsigned i = 0; i < s->mem.rx_n; i++)
		if(s->mem.rx[i].state == RX_ACTIVE)
			abort_one(s, &s->mem.rx[i], 0, why);
}

/* ---- events ---- */

bool cpm_msrp_rx_pending(const struct cpm_msrp_sess *s)
{
	if(s->cur.data.n > 0 || (s->pending & PENDING_EMPTY))
		return true;
	for(unsigned i = 0; i < s->mem.rx_n; i++)
		if(s->mem.rx[i].state == RX_COMPLETE
				|| s->mem.rx[i].state == RX_ABORTED)
			return true;
	return false;
}

static void fill_event(struct cpm_msrp_ev *ev_r, enum cpm_msrp_ev_kind kind,
		const struct cpm_msrp_rx *r)
{
	memset(ev_r, 0, sizeof(*ev_r));
	ev_r->kind = kind;
	ev_r->handle = r->handle;
	ev_r->code = r->code;
	ev_r->why = r->why;
	ev_r->message_id = cpm_msrp_rx_id(r);
	ev_r->success_report = r->success_report;
	ev_r->size = r->size != CPM_MSRP_STAR ? r->size : r->said;
}

/* Of the bytes at hand those that are new, run by run. */
static bool data_event(struct cpm_msrp_sess *s, struct cpm_msrp_ev *ev_r)
{
	struct cpm_msrp_cur *c = &s->cur;
	struct cpm_msrp_rx *r = cur_rx(s);
	uint64_t from, to, end = c->data_at + c->data.n;

	if(!r || c->data.n == 0
			|| !cpm_msrp_ranges_gap(&r->have, c->data_at, end, &from, &to)) {
		c->data = CPM_PL_NULL;
		return false;
	}
	if(cpm_msrp_ranges_add(&r->have, from, to) != CPM_OK) {
		refuse(s, NULL, 413, "too-many-gaps");
		return false;
	}
	fill_event(ev_r, CPM_MSRP_EV_DATA, r);
	ev_r->offset = from;
	ev_r->data = cpm_pl(
			c->data.p + (size_t)(from - c->data_at), (size_t)(to - from));
	ev_r->len = ev_r->data.n;
	c->data = cpm_pl_from(c->data, (size_t)(to - c->data_at));
	c->data_at = to;
	return true;
}

bool cpm_msrp_rx_event(struct cpm_msrp_sess *s, struct cpm_msrp_ev *ev_r)
{
	struct cpm_msrp_rx *r = cur_rx(s);

	if(r && r->state == RX_ACTIVE && !r->begun) {
		r->begun = true;
		fill_event(ev_r, CPM_MSRP_EV_BEGIN, r);
		ev_r->content_type = s->cur.content_type;
		return true;
	}
	if(data_event(s, ev_r))
		return true;
	for(unsigned i = 0; i < s->mem.rx_n; i++) {
		r = &s->mem.rx[i];
		if(r->state != RX_COMPLETE && r->state != RX_ABORTED)
			continue;
		fill_event(ev_r,
				r->state == RX_COMPLETE ? CPM_MSRP_EV_COMPLETE
										: CPM_MSRP_EV_ABORTED,
				r);
		r->state = RX_FREE;
		return true;
	}
	return false;
}
