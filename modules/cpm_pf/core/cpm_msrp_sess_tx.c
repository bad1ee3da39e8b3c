/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_sess_tx.c - one MSRP session: messages on their way out.
 *
 * runs in:  the thread that owns the session; no socket, no clock, no random
 *
 * The output holds whole frames, and perhaps at its end the beginning of one
 * chunk, the open one. Room for its tail is always kept free.
 */

#include "cpm_msrp_sess_int.h"

/* CRLF "-------" tid flag CRLF */
#define TAIL_LEN (2 + 7 + CPM_MSRP_TID + 1 + 2)
/* A chunk with less is not begun while something else waits to be sent. */
#define WORTHWHILE 256

static struct cpm_pl tid_pl(const char *tid)
{
	return cpm_pl(tid, CPM_MSRP_TID);
}

/* ---- chunks that wait for an answer ---- */

static struct cpm_msrp_trans *trans_new(struct cpm_msrp_sess *s, uint8_t of)
{
	for(unsigned i = 0; i < s->mem.win_n; i++) {
		struct cpm_msrp_trans *t = &s->mem.win[i];

		if(t->of != TRANS_FREE)
			continue;
		t->of = of;
		t->end = UINT64_MAX;
		t->due_ms = CPM_MSRP_NEVER;
		return t;
	}
	return NULL;
}

static bool trans_is_free(const struct cpm_msrp_sess *s)
{
	for(unsigned i = 0; i < s->mem.win_n; i++)
		if(s->mem.win[i].of == TRANS_FREE)
			return true;
	return false;
}

static struct cpm_msrp_trans *trans_find(
		struct cpm_msrp_sess *s, struct cpm_pl tid)
{
	for(unsigned i = 0; i < s->mem.win_n; i++)
		if(s->mem.win[i].of != TRANS_FREE
				&& cpm_pl_eq(tid, tid_pl(s->mem.win[i].tid)))
			return &s->mem.win[i];
	return NULL;
}

static struct cpm_msrp_tx *trans_tx(
		struct cpm_msrp_sess *s, const struct cpm_msrp_trans *t)
{
	return t->of >= TRANS_TX ? &s->mem.tx[t->of - TRANS_TX] : NULL;
}

static unsigned tx_index(
		const struct cpm_msrp_sess *s, const struct cpm_msrp_tx *t)
{
	return (unsigned)(t - s->mem.tx);
}

/* Nobody waits for these answers any more; late ones are strays. */
static void trans_drop(struct cpm_msrp_sess *s, const struct cpm_msrp_tx *t)
{
	for(unsigned i = 0; i < s->mem.win_n; i++)
		if(s->mem.win[i].of == TRANS_TX + tx_index(s, t))
			s->mem.win[i].of = TRANS_FREE;
}

/* Answers to a SEND with Failure-Report yes are sure to come, so only these
 * fill the window. */
static bool has_trans(const struct cpm_msrp_tx *t)
{
	return t->failure_report == CPM_MSRP_FR_YES;
}

/* ---- the open chunk ---- */

/* Ends it. Room for this has been kept. */
static void chunk_close(struct cpm_msrp_sess *s, char flag)
{
	struct cpm_wr w;

	if(!s->open)
		return;
	cpm_wr_init(&w, s->mem.out + s->out_n, s->mem.out_cap - s->out_n);
	cpm_msrp_tail_put(&w, tid_pl(s->open_tid), true, flag);
	s->out_n += w.n;
	if(s->open_win)
		s->mem.win[s->open_win - 1].end = s->out_base + s->out_n;
	s->open = s->open_win = 0;
}

void cpm_msrp_sess_pause(struct cpm_msrp_sess *s)
{
	chunk_close(s, CPM_MSRP_MORE);
}

void cpm_msrp_out_begin(struct cpm_msrp_sess *s, struct cpm_wr *w_r)
{
	chunk_close(s, CPM_MSRP_MORE);
	cpm_wr_init(w_r, s->mem.out + s->out_n, s->mem.out_cap - s->out_n);
}

bool cpm_msrp_out_commit(struct cpm_msrp_sess *s, const struct cpm_wr *w)
{
	if(!cpm_wr_ok(w))
		return false;
	s->out_n += w->n;
	return true;
}

/* ---- how messages end ---- */

static void tx_end(struct cpm_msrp_sess *s, struct cpm_msrp_tx *t,
		enum tx_state state, unsigned code, const char *why)
{
	if(s->open == tx_index(s, t) + 1)
		chunk_close(s, CPM_MSRP_ABORTED);
	trans_drop(s, t);
	t->state = (uint8_t)state;
	t->code = (uint16_t)code;
	t->why = why;
}

static bool is_live(const struct cpm_msrp_tx *t)
{
	return t->state == TX_QUEUED || t->state == TX_SENT;
}

/* All of it is written out. */
static void tx_check(struct cpm_msrp_sess *s, struct cpm_msrp_tx *t)
{
	bool done;

	if(t->state != TX_SENT)
		return;
	if(t->wait_report)
		done = cpm_msrp_ranges_full(&t->reported, t->size);
	else
		done = t->in_flight == 0;
	if(done)
		tx_end(s, t, TX_DONE, 200, NULL);
}

/* The peer has to be told that no more of it will come. */
static void tx_give_up(struct cpm_msrp_sess *s, struct cpm_msrp_tx *t,
		unsigned code, const char *why)
{
	bool tell = t->state == TX_QUEUED && t->sent > 0
				&& s->open != tx_index(s, t) + 1;

	tx_end(s, t, tell ? TX_ABORTING : TX_FAILED, code, why);
}

void cpm_msrp_tx_fail_all(
		struct cpm_msrp_sess *s, unsigned code, const char *why)
{
	for(unsigned i = 0; i < s->mem.tx_n; i++) {
		struct cpm_msrp_tx *t = &s->mem.tx[i];

		if(is_live(t))
			tx_end(s, t, TX_FAILED, code, why);
		else if(t->state == TX_ABORTING)
			t->state = TX_FAILED;
	}
	/* a bind that was out gets no other answer */
	for(unsigned i = 0; i < s->mem.win_n; i++) {
		if(s->mem.win[i].of == TRANS_BIND) {
			s->bound_code = (uint16_t)code;
			s->pending |= PENDING_BOUND;
		}
		s->mem.win[i].of = TRANS_FREE;
	}
}

/* ---- writing chunks ---- */

static void fill_req(const struct cpm_msrp_sess *s, const struct cpm_msrp_tx *t,
		const char *tid, struct cpm_msrp_req *req)
{
	memset(req, 0, sizeof(*req));
	req->method = "SEND";
	req->tid = tid_pl(tid);
	req->to_path = s->peer_path;
	req->from_path = s->own.text;
	req->message_id = cpm_msrp_tx_id(t);
	req->success_report = t->success_report;
	req->failure_report = (enum cpm_msrp_failure_report)t->failure_report;
	req->range.start = t->sent + 1;
	req->range.total = t->size;
}

/* Room behind the head for a body, less than WORTHWHILE counting as none
 * while the output is in use. */
static size_t room_for(const struct cpm_msrp_sess *s, size_t head, uint64_t n)
{
	size_t used = s->out_n + head + TAIL_LEN, room;

	if(used >= s->mem.out_cap)
		return 0;
	room = s->mem.out_cap - used;
	if(n < room)
		room = (size_t)n;
	if(room < n && room < WORTHWHILE && s->out_n > 0)
		return 0;
	return room;
}

/* Bytes of a chunk to come, of which give are at hand. Returns how many of
 * them were written out; the chunk is then whole, or open. */
static size_t chunk_begin(
		struct cpm_msrp_sess *s, struct cpm_msrp_tx *t, struct cpm_pl give)
{
	uint64_t left = t->size - t->sent;
	uint64_t n =
			s->conf->chunk_size ? s->conf->chunk_size : CPM_MSRP_SHORT_CHUNK;
	char tid[CPM_MSRP_TID];
	struct cpm_msrp_trans *trans = NULL;
	struct cpm_msrp_req req;
	struct cpm_wr w;
	bool is_long;
	size_t k;

	if(n > left)
		n = left;
	is_long = n > CPM_MSRP_SHORT_CHUNK;
	if(!is_long && n > give.n)
		n = give.n;
	if(has_trans(t) && !trans_is_free(s))
		return 0;
	cpm_msrp_make_id(s, tid);
	fill_req(s, t, tid, &req);
	req.content_type = t->content_type;
	/* no shorter end has more digits, so this is the longest head */
	req.range.end = is_long ? CPM_MSRP_STAR : t->sent + n;
	cpm_wr_init(&w, NULL, 0);
	cpm_msrp_req_put(&w, &req);
	k = room_for(s, w.n, n);
	if(k > give.n)
		k = give.n;
	if(k == 0)
		return 0;
	if(!is_long)
		req.range.end = t->sent + k;
	cpm_wr_init(&w, s->mem.out + s->out_n, s->mem.out_cap - s->out_n);
	cpm_msrp_req_put(&w, &req);
	cpm_wr_pl_put(&w, cpm_pl(give.p, k));
	if(has_trans(t))
		trans = trans_new(s, (uint8_t)(TRANS_TX + tx_index(s, t)));
	if(trans) {
		memcpy(trans->tid, tid, sizeof(tid));
		s->open_win = (uint8_t)(trans - s->mem.win + 1);
		t->in_flight++;
	}
	memcpy(s->open_tid, tid, sizeof(tid));
	s->open = (uint8_t)(tx_index(s, t) + 1);
	s->open_n = k;
	s->out_n += w.n;
	s->strays_max += 2; /* a response, or a REPORT for each chunk */
	t->sent += k;
	if(!is_long && t->sent < t->size)
		chunk_close(s, CPM_MSRP_MORE);
	return k;
}

static size_t chunk_go_on(
		struct cpm_msrp_sess *s, struct cpm_msrp_tx *t, struct cpm_pl give)
{
	uint64_t n = s->conf->chunk_size - s->open_n;
	size_t room = s->mem.out_cap - s->out_n - TAIL_LEN;

	if(n > room)
		n = room;
	if(n > give.n)
		n = give.n;
	if(n > 0)
		memcpy(s->mem.out + s->out_n, give.p, (size_t)n);
	s->out_n += (size_t)n;
	s->open_n += n;
	t->sent += n;
	return (size_t)n;
}

/* The next bytes of a message; returns how many were written out. */
static size_t push(
		struct cpm_msrp_sess *s, struct cpm_msrp_tx *t, struct cpm_pl give)
{
	size_t n;

	if(give.n == 0)
		return 0;
	if(s->open == tx_index(s, t) + 1) {
		n = chunk_go_on(s, t, give);
	} else {
		chunk_close(s, CPM_MSRP_MORE);
		n = chunk_begin(s, t, give);
	}
	if(t->sent == t->size) {
		chunk_close(s, CPM_MSRP_END);
		t->state = TX_SENT;
		tx_check(s, t);
	} else if(s->open && s->open_n >= s->conf->chunk_size)
		chunk_close(s, CPM_MSRP_MORE);
	return n;
}

/* The message whose turn it is. */
static struct cpm_msrp_tx *current(struct cpm_msrp_sess *s)
{
	struct cpm_msrp_tx *first = NULL;

	for(unsigned i = 0; i < s->mem.tx_n; i++) {
		struct cpm_msrp_tx *t = &s->mem.tx[i];

		/* the difference also tells when the numbers have gone round */
		if(t->state == TX_QUEUED
				&& (!first || (int32_t)(t->handle - first->handle) < 0))
			first = t;
	}
	return first;
}

/* "#" in a chunk of its own. */
static void write_aborts(struct cpm_msrp_sess *s)
{
	for(unsigned i = 0; i < s->mem.tx_n; i++) {
		struct cpm_msrp_tx *t = &s->mem.tx[i];
		char tid[CPM_MSRP_TID];
		struct cpm_msrp_req req;
		struct cpm_wr w;

		if(t->state != TX_ABORTING)
			continue;
		cpm_msrp_make_id(s, tid);
		fill_req(s, t, tid, &req);
		req.range.end = CPM_MSRP_STAR;
		/* it would be asked for again by every chunk */
		req.success_report = false;
		cpm_msrp_out_begin(s, &w);
		cpm_msrp_req_put(&w, &req);
		cpm_msrp_tail_put(&w, req.tid, false, CPM_MSRP_ABORTED);
		if(!cpm_msrp_out_commit(s, &w))
			return;
		s->strays_max++;
		t->state = TX_FAILED;
	}
}

void cpm_msrp_tx_pump(struct cpm_msrp_sess *s, int64_t now_ms)
{
	struct cpm_msrp_tx *t;

	bool may_write = !s->gone && !s->answer_waits;

	if(may_write)
		write_aborts(s);
	while(may_write && (t = current(s)) != NULL && t->data.p)
		if(push(s, t, cpm_pl(t->data.p + t->sent, (size_t)(t->size - t->sent)))
				== 0)
			break;
	cpm_msrp_tx_arm(s, now_ms);
}

/* The time of an answer counts from when the frame has left. */
void cpm_msrp_tx_arm(struct cpm_msrp_sess *s, int64_t now_ms)
{
	int32_t after = s->conf->transaction_ms;

	for(unsigned i = 0; i < s->mem.win_n; i++) {
		struct cpm_msrp_trans *t = &s->mem.win[i];

		if(t->of != TRANS_FREE && t->due_ms == CPM_MSRP_NEVER
				&& t->end <= s->out_base)
			t->due_ms = cpm_msrp_due(now_ms, after);
	}
}

/* ---- what the peer says of them ---- */

static void session_gone(struct cpm_msrp_sess *s, unsigned code)
{
	s->gone = (uint16_t)code;
	s->pending |= PENDING_GONE;
	cpm_msrp_tx_fail_all(s, code, "session-gone");
}

static bool is_ok(unsigned code)
{
	return code >= 200 && code < 300;
}

static bool says_gone(unsigned code)
{
	return code == 481 || code == 506;
}

void cpm_msrp_tx_response(
		struct cpm_msrp_sess *s, const struct cpm_msrp_head *head)
{
	struct cpm_msrp_trans *trans = trans_find(s, head->tid);
	struct cpm_msrp_tx *t;

	/* before its chunk has ended only an error can be an answer */
	if(!trans || (is_ok(head->code) && trans->end == UINT64_MAX)) {
		s->strays++;
		return;
	}
	t = trans_tx(s, trans);
	if(says_gone(head->code)) {
		session_gone(s, head->code);
		return;
	}
	if(s->open_win == trans - s->mem.win + 1)
		s->open_win = 0;
	trans->of = TRANS_FREE;
	if(!t) {
		s->bound_code = (uint16_t)head->code;
		s->pending |= PENDING_BOUND;
		return;
	}
	t->in_flight--;
	if(is_ok(head->code))
		tx_check(s, t);
	else
		/* who refuses a message needs no "#" to know that it ends, unless
		 * it is in the middle of a chunk */
		tx_end(s, t, TX_FAILED, head->code, "refused");
}

static struct cpm_msrp_tx *find_id(struct cpm_msrp_sess *s, struct cpm_pl id)
{
	for(unsigned i = 0; i < s->mem.tx_n; i++)
		if(s->mem.tx[i].state != TX_FREE
				&& cpm_pl_eq(cpm_msrp_tx_id(&s->mem.tx[i]), id))
			return &s->mem.tx[i];
	return NULL;
}

void cpm_msrp_tx_report(
		struct cpm_msrp_sess *s, const struct cpm_msrp_head *head)
{
	struct cpm_msrp_tx *t = find_id(s, head->message_id);
	uint64_t end = head->range.end;

	if(!t || !is_live(t) || head->bad || !head->has_status
			|| head->status_namespace != 0 || !cpm_msrp_sess_owns(s, head)) {
		s->strays++;
		return;
	}
	if(head->status_code != 200) {
		tx_give_up(s, t, head->status_code, "reported");
		return;
	}
	if(end == CPM_MSRP_STAR)
		end = t->size;
	/* bytes that were never sent cannot have arrived */
	if(!head->has_range || end > t->sent
			|| cpm_msrp_ranges_add(&t->reported, head->range.start - 1, end)
					   != CPM_OK) {
		s->strays++;
		return;
	}
	tx_check(s, t);
}

void cpm_msrp_tx_tick(struct cpm_msrp_sess *s, int64_t now_ms)
{
	for(unsigned i = 0; i < s->mem.win_n; i++) {
		struct cpm_msrp_trans *trans = &s->mem.win[i];
		struct cpm_msrp_tx *t = trans_tx(s, trans);

		if(trans->of == TRANS_FREE || trans->due_ms > now_ms)
			continue;
		trans->of = TRANS_FREE;
		if(t) {
			tx_give_up(s, t, 408, "no-answer");
			continue;
		}
		s->bound_code = 408;
		s->pending |= PENDING_BOUND;
	}
	for(unsigned i = 0; i < s->mem.tx_n; i++)
		if(is_live(&s->mem.tx[i]) && s->mem.tx[i].due_ms <= now_ms)
			tx_give_up(s, &s->mem.tx[i], 408, "message-timeout");
}

/* ---- what the caller asks ---- */

/* A media type may come from a stranger's message. */
static bool is_value(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++)
		if((unsigned char)a.p[i] < ' ' || a.p[i] == 0x7f)
			return false;
	return a.n > 0 && a.n <= CPM_MSRP_LINE_MAX / 2
		   && cpm_pl_eq(a, cpm_pl_trim(a));
}

int cpm_msrp_sess_send(struct cpm_msrp_sess *s, const struct cpm_msrp_send *m,
		int64_t now_ms, uint32_t *handle_r)
{
	struct cpm_msrp_tx *t = NULL;

	if(s->gone)
		return CPM_EDOWN;
	if(!cpm_msrp_is_id(m->message_id) || !is_value(m->content_type)
			|| m->size == 0 || m->size > CPM_MSRP_POS_MAX
			|| (m->data.p && m->data.n != m->size))
		return CPM_EPROTO;
	if(find_id(s, m->message_id))
		return CPM_EEXIST;
	for(unsigned i = 0; i < s->mem.tx_n && !t; i++)
		if(s->mem.tx[i].state == TX_FREE)
			t = &s->mem.tx[i];
	if(!t)
		return CPM_EAGAIN;
	memset(t, 0, sizeof(*t));
	t->state = TX_QUEUED;
	t->id_n = (uint8_t)m->message_id.n;
	memcpy(t->id, m->message_id.p, m->message_id.n);
	if(++s->handles == 0)
		s->handles = 1;
	t->handle = s->handles;
	t->content_type = m->content_type;
	t->data = m->data;
	t->size = m->size;
	t->success_report = m->success_report || m->wait_report;
	t->wait_report = m->wait_report;
	t->failure_report = (uint8_t)m->failure_report;
	t->due_ms = cpm_msrp_due(now_ms, s->conf->message_ms);
	*handle_r = t->handle;
	cpm_msrp_tx_pump(s, now_ms);
	return CPM_OK;
}

static struct cpm_msrp_tx *find_handle(struct cpm_msrp_sess *s, uint32_t handle)
{
	for(unsigned i = 0; i < s->mem.tx_n; i++)
		if(is_live(&s->mem.tx[i]) && s->mem.tx[i].handle == handle)
			return &s->mem.tx[i];
	return NULL;
}

ptrdiff_t cpm_msrp_sess_put(struct cpm_msrp_sess *s, uint32_t handle,
		struct cpm_pl bytes, int64_t now_ms)
{
	struct cpm_msrp_tx *t = find_handle(s, handle);
	size_t done = 0, n;

	if(!t || t->data.p || t->state != TX_QUEUED)
		return CPM_ENOENT;
	if(bytes.n > t->size - t->sent)
		return CPM_EPROTO;
	if(s->wanted == handle)
		s->wanted = 0;
	if(t != current(s) || s->answer_waits)
		return 0;
	do {
		n = push(s, t, cpm_pl_from(bytes, done));
		done += n;
	} while(n > 0 && t->state == TX_QUEUED);
	cpm_msrp_tx_pump(s, now_ms);
	return (ptrdiff_t)done;
}

int cpm_msrp_sess_abort(
		struct cpm_msrp_sess *s, uint32_t handle, int64_t now_ms)
{
	struct cpm_msrp_tx *t = find_handle(s, handle);

	if(!t)
		return CPM_ENOENT;
	tx_give_up(s, t, 0, "aborted");
	cpm_msrp_tx_pump(s, now_ms);
	return CPM_OK;
}

int cpm_msrp_sess_bind(struct cpm_msrp_sess *s, int64_t now_ms)
{
	char tid[CPM_MSRP_TID], id[CPM_MSRP_TID];
	struct cpm_msrp_trans *trans;
	struct cpm_msrp_req req;
	struct cpm_wr w;

	if(s->gone)
		return CPM_EDOWN;
	for(unsigned i = 0; i < s->mem.win_n; i++)
		if(s->mem.win[i].of == TRANS_BIND)
			return CPM_EAGAIN;
	if(!trans_is_free(s))
		return CPM_EAGAIN;
	cpm_msrp_make_id(s, tid);
	cpm_msrp_make_id(s, id);
	memset(&req, 0, sizeof(req));
	req.method = "SEND";
	req.tid = tid_pl(tid);
	req.to_path = s->peer_path;
	req.from_path = s->own.text;
	req.message_id = tid_pl(id);
	req.range = (struct cpm_msrp_byte_range){1, 0, 0};
	cpm_msrp_out_begin(s, &w);
	cpm_msrp_req_put(&w, &req);
	cpm_msrp_tail_put(&w, req.tid, false, CPM_MSRP_END);
	if(!cpm_msrp_out_commit(s, &w))
		return CPM_EAGAIN;
	trans = trans_new(s, TRANS_BIND);
	memcpy(trans->tid, tid, sizeof(tid));
	trans->end = s->out_base + s->out_n;
	s->strays_max++;
	cpm_msrp_tx_pump(s, now_ms);
	return CPM_OK;
}

/* ---- events ---- */

/* Bytes of a message that is to be asked for, if there is room for some. */
static bool want_event(struct cpm_msrp_sess *s, struct cpm_msrp_ev *ev_r)
{
	struct cpm_msrp_tx *t = current(s);
	uint64_t n =
			s->conf->chunk_size ? s->conf->chunk_size : CPM_MSRP_SHORT_CHUNK;
	struct cpm_msrp_req req;
	struct cpm_wr w;
	size_t room;

	if(s->gone || s->answer_waits || !t || t->data.p || s->wanted == t->handle)
		return false;
	if(s->open == tx_index(s, t) + 1) {
		n -= s->open_n;
		room = s->mem.out_cap - s->out_n - TAIL_LEN;
	} else {
		if(has_trans(t) && !trans_is_free(s))
			return false;
		fill_req(s, t, s->open_tid, &req);
		req.content_type = t->content_type;
		req.range.end = t->size;
		cpm_wr_init(&w, NULL, 0);
		cpm_msrp_req_put(&w, &req);
		room = room_for(s, w.n, n);
	}
	if(n > room)
		n = room;
	if(n > t->size - t->sent)
		n = t->size - t->sent;
	if(n == 0)
		return false;
	s->wanted = t->handle;
	ev_r->kind = CPM_MSRP_EV_WANT;
	ev_r->handle = t->handle;
	ev_r->message_id = cpm_msrp_tx_id(t);
	ev_r->offset = t->sent;
	ev_r->size = t->size;
	ev_r->len = (size_t)n;
	return true;
}

bool cpm_msrp_tx_event(struct cpm_msrp_sess *s, struct cpm_msrp_ev *ev_r)
{
	memset(ev_r, 0, sizeof(*ev_r));
	for(unsigned i = 0; i < s->mem.tx_n; i++) {
		struct cpm_msrp_tx *t = &s->mem.tx[i];

		if(t->state != TX_DONE && t->state != TX_FAILED)
			continue;
		ev_r->kind =
				t->state == TX_DONE ? CPM_MSRP_EV_DONE : CPM_MSRP_EV_FAILED;
		ev_r->handle = t->handle;
		ev_r->code = t->code;
		ev_r->why = t->why;
		ev_r->message_id = cpm_msrp_tx_id(t);
		ev_r->size = t->size;
		ev_r->offset = t->sent;
		t->state = TX_FREE;
		return true;
	}
	return want_event(s, ev_r);
}
