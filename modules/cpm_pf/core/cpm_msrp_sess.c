/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_sess.c - one MSRP session: what sending and receiving share.
 *
 * runs in:  the thread that owns the session; no socket, no clock, no random
 */

#include "cpm_msrp_sess_int.h"

#define SLOTS_MAX 250 /* an index and two more fit into a byte */

/* ---- transaction ids ---- */

static uint64_t read_le64(const uint8_t *p)
{
	uint64_t v = 0;

	for(int i = 8; i-- > 0;)
		v = v << 8 | p[i];
	return v;
}

static uint64_t rotl(uint64_t v, int n)
{
	return v << n | v >> (64 - n);
}

static void sip_rounds(uint64_t v[4], int n)
{
	while(n-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] = rotl(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] = rotl(v[2], 32);
	}
}

/* SipHash-2-4 (Aumasson, Bernstein 2012) of one number: who has seen all ids
 * so far, and knows not the key, cannot tell the next. */
static uint64_t siphash(const uint64_t key[2], uint64_t number)
{
	uint64_t v[4] = {key[0] ^ UINT64_C(0x736f6d6570736575),
			key[1] ^ UINT64_C(0x646f72616e646f6d),
			key[0] ^ UINT64_C(0x6c7967656e657261),
			key[1] ^ UINT64_C(0x7465646279746573)};
	const uint64_t length = UINT64_C(8) << 56;

	v[3] ^= number;
	sip_rounds(v, 2);
	v[0] ^= number;
	v[3] ^= length;
	sip_rounds(v, 2);
	v[0] ^= length;
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void cpm_msrp_make_id(struct cpm_msrp_sess *s, char *id_r)
{
	uint64_t v = siphash(s->key, s->ids++);

	for(size_t i = 0; i < CPM_MSRP_TID; i++, v >>= 5)
		id_r[i] = "abcdefghijklmnopqrstuvwxyz234567"[v & 31];
}

/* ---- life ---- */

static int init_fail(struct cpm_msrp_sess *s, int rc, const char *why)
{
	s->diag.why = why;
	return rc;
}

int cpm_msrp_sess_init(struct cpm_msrp_sess *s,
		const struct cpm_msrp_conf *conf, const struct cpm_msrp_mem *mem,
		struct cpm_pl own, struct cpm_pl peer_path, const uint8_t seed[16],
		int64_t now_ms)
{
	struct cpm_msrp_path path;

	memset(s, 0, sizeof(*s));
	s->conf = conf;
	s->mem = *mem;
	s->peer_path = peer_path;
	s->key[0] = read_le64(seed);
	s->key[1] = read_le64(seed + 8);
	s->active_ms = s->start_ms = now_ms;
	s->strays_max = CPM_MSRP_STRAYS;
	if(cpm_msrp_uri_parse(own, &s->own, NULL) != CPM_OK
			|| s->own.session_id.n == 0)
		return init_fail(s, CPM_EPROTO, "bad-own-uri");
	if(cpm_msrp_path_parse(peer_path, &path, NULL) != CPM_OK
			|| peer_path.n > CPM_MSRP_LINE_MAX)
		return init_fail(s, CPM_EPROTO, "bad-peer-path");
	if(mem->out_cap < CPM_MSRP_OUT_MIN)
		return init_fail(s, CPM_ENOMEM, "out-too-small");
	if(mem->tx_n == 0 || mem->win_n == 0 || mem->rx_n == 0
			|| mem->tx_n > SLOTS_MAX || mem->win_n > SLOTS_MAX
			|| mem->rx_n > SLOTS_MAX)
		return init_fail(s, CPM_ENOMEM, "no-slots");
	memset(mem->tx, 0, mem->tx_n * sizeof(mem->tx[0]));
	memset(mem->win, 0, mem->win_n * sizeof(mem->win[0]));
	memset(mem->rx, 0, mem->rx_n * sizeof(mem->rx[0]));
	return CPM_OK;
}

void cpm_msrp_sess_close(struct cpm_msrp_sess *s)
{
	s->gone = s->gone ? s->gone : 1;
	s->out_n = 0;
	s->open = s->open_win = 0;
	s->cur.has_tail = s->answer_waits = false;
	cpm_msrp_tx_fail_all(s, 0, "closed");
	cpm_msrp_rx_abort_all(s, "closed");
}

bool cpm_msrp_sess_at_rest(const struct cpm_msrp_sess *s)
{
	if(s->out_n > 0 || s->cur.has_tail)
		return false;
	for(unsigned i = 0; i < s->mem.tx_n; i++)
		if(s->mem.tx[i].state != TX_FREE)
			return false;
	for(unsigned i = 0; i < s->mem.win_n; i++)
		if(s->mem.win[i].of != TRANS_FREE)
			return false;
	for(unsigned i = 0; i < s->mem.rx_n; i++)
		if(s->mem.rx[i].state != RX_FREE)
			return false;
	return true;
}

/* ---- input ---- */

bool cpm_msrp_sess_owns(
		const struct cpm_msrp_sess *s, const struct cpm_msrp_head *head)
{
	struct cpm_msrp_path path, peer;

	/* two URIs, ours first: somebody takes us for a relay */
	if(cpm_msrp_path_parse(head->to_path, &path, NULL) != CPM_OK || path.n != 1)
		return false;
	if(s->conf->sessmatch)
		return cpm_msrp_uri_same_session(&path.uri[0], &s->own);
	if(!cpm_msrp_uri_eq(&path.uri[0], &s->own))
		return false;
	if(head->method == CPM_MSRP_REPORT)
		return true;
	return cpm_msrp_path_parse(head->from_path, &path, NULL) == CPM_OK
		   && cpm_msrp_path_parse(s->peer_path, &peer, NULL) == CPM_OK
		   && cpm_msrp_path_eq(&path, &peer);
}

static int take_tail(struct cpm_msrp_sess *s, const struct cpm_msrp_head *head,
		const struct cpm_msrp_item *item)
{
	int rc = CPM_OK;

	switch(head->method) {
		case CPM_MSRP_RESPONSE:
			cpm_msrp_tx_response(s, head);
			break;
		case CPM_MSRP_REPORT:
			cpm_msrp_tx_report(s, head);
			break;
		default:
			rc = cpm_msrp_rx_tail(s, head, item->flag);
	}
	/* each may be late for a good reason, but not any number of them */
	if(s->strays > s->strays_max) {
		s->diag.why = "too-many-strays";
		return CPM_ELIMIT;
	}
	return rc;
}

int cpm_msrp_sess_item(struct cpm_msrp_sess *s,
		const struct cpm_msrp_head *head, const struct cpm_msrp_item *item,
		int64_t now_ms)
{
	int rc = CPM_OK;

	if(cpm_msrp_rx_pending(s))
		return CPM_EAGAIN;
	s->active_ms = now_ms;
	s->is_idle_told = false;
	if(item->kind == CPM_MSRP_HEAD)
		cpm_msrp_rx_head(s, head);
	else if(item->kind == CPM_MSRP_BODY)
		cpm_msrp_rx_body(s, head, item->bytes, now_ms);
	else if(item->kind == CPM_MSRP_TAIL)
		rc = take_tail(s, head, item);
	if(rc == CPM_OK)
		cpm_msrp_tx_pump(s, now_ms);
	return rc;
}

ptrdiff_t cpm_msrp_sess_recv(struct cpm_msrp_sess *s,
		struct cpm_msrp_parser *parser, struct cpm_pl in, int64_t now_ms)
{
	struct cpm_msrp_item item = {CPM_MSRP_TAIL, CPM_PL_NULL, s->cur.tail};
	size_t done = 0;
	int rc;

	/* a tail that was read found no room for its answer */
	while(!cpm_msrp_rx_pending(s)) {
		if(!s->cur.has_tail) {
			ptrdiff_t n = cpm_msrp_parser_next(
					parser, cpm_pl(in.p + done, in.n - done), &item);

			if(n < 0) {
				s->diag = parser->diag;
				return n;
			}
			done += (size_t)n;
			if(item.kind == CPM_MSRP_NOTHING)
				break;
		}
		rc = cpm_msrp_sess_item(s, &parser->head, &item, now_ms);
		s->cur.has_tail = rc == CPM_EAGAIN;
		s->cur.tail = item.flag;
		if(rc == CPM_EAGAIN)
			break;
		if(rc < 0)
			return rc;
	}
	return (ptrdiff_t)done;
}

/* ---- events ---- */

static bool other_event(struct cpm_msrp_sess *s, struct cpm_msrp_ev *ev_r)
{
	static const enum cpm_msrp_ev_kind kinds[] = {CPM_MSRP_EV_EMPTY,
			CPM_MSRP_EV_BOUND, CPM_MSRP_EV_GONE, CPM_MSRP_EV_IDLE,
			CPM_MSRP_EV_EXPIRED};

	for(unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if(!(s->pending & 1u << i))
			continue;
		s->pending = (uint8_t)(s->pending & ~(1u << i));
		memset(ev_r, 0, sizeof(*ev_r));
		ev_r->kind = kinds[i];
		if(kinds[i] == CPM_MSRP_EV_BOUND)
			ev_r->code = s->bound_code;
		if(kinds[i] == CPM_MSRP_EV_GONE)
			ev_r->code = s->gone;
		return true;
	}
	return false;
}

bool cpm_msrp_sess_event(struct cpm_msrp_sess *s, struct cpm_msrp_ev *ev_r)
{
	return cpm_msrp_rx_event(s, ev_r) || other_event(s, ev_r)
		   || cpm_msrp_tx_event(s, ev_r);
}

/* ---- output ---- */

struct cpm_pl cpm_msrp_sess_out(const struct cpm_msrp_sess *s)
{
	return cpm_pl(s->mem.out, s->out_n);
}

void cpm_msrp_sess_sent(struct cpm_msrp_sess *s, size_t n, int64_t now_ms)
{
	if(n > s->out_n)
		n = s->out_n;
	if(n == 0)
		return;
	s->out_n -= n;
	memmove(s->mem.out, s->mem.out + n, s->out_n);
	s->out_base += n;
	s->active_ms = now_ms;
	s->is_idle_told = false;
	cpm_msrp_tx_arm(s, now_ms);
	cpm_msrp_tx_pump(s, now_ms);
}

/* ---- time ---- */

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t cpm_msrp_sess_deadline(const struct cpm_msrp_sess *s)
{
	int64_t due = CPM_MSRP_NEVER;

	for(unsigned i = 0; i < s->mem.win_n; i++)
		if(s->mem.win[i].of != TRANS_FREE)
			due = sooner(due, s->mem.win[i].due_ms);
	for(unsigned i = 0; i < s->mem.tx_n; i++)
		if(s->mem.tx[i].state == TX_QUEUED || s->mem.tx[i].state == TX_SENT)
			due = sooner(due, s->mem.tx[i].due_ms);
	for(unsigned i = 0; i < s->mem.rx_n; i++)
		if(s->mem.rx[i].state == RX_ACTIVE)
			due = sooner(due, s->mem.rx[i].due_ms);
	if(!s->is_idle_told)
		due = sooner(due, cpm_msrp_due(s->active_ms, s->conf->idle_ms));
	if(!s->is_expired_told)
		due = sooner(due, cpm_msrp_due(s->start_ms, s->conf->total_ms));
	return due;
}

void cpm_msrp_sess_tick(struct cpm_msrp_sess *s, int64_t now_ms)
{
	if(!s->is_idle_told
			&& cpm_msrp_due(s->active_ms, s->conf->idle_ms) <= now_ms) {
		s->is_idle_told = true;
		s->pending |= PENDING_IDLE;
	}
	if(!s->is_expired_told
			&& cpm_msrp_due(s->start_ms, s->conf->total_ms) <= now_ms) {
		s->is_expired_told = true;
		s->pending |= PENDING_EXPIRED;
	}
	cpm_msrp_rx_tick(s, now_ms);
	cpm_msrp_tx_tick(s, now_ms);
	cpm_msrp_tx_pump(s, now_ms);
}
