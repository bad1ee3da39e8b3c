/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_msrp_pair.c - two MSRP sessions, back to back: what one sends in
 * pieces of any size, the other has byte by byte.
 */

#include <stdio.h>
#include <stdlib.h>

#include "check_helpers.h"
#include "cpm_msrp_sess.h"

#define SIZE_MAX_BYTES (1024 * 1024)
#define MESSAGES 6 /* each way */
#define SLOTS 4

struct message
{
	char id[16];
	char *bytes;
	uint64_t size;
	uint32_t handle;
	bool is_pulled;
	bool is_aborted;
	bool is_done;
	bool is_failed;
	/* at the other side */
	char *got;
	uint32_t got_handle;
	bool is_complete;
	bool is_cut;
};

struct end
{
	struct cpm_msrp_sess s;
	struct cpm_msrp_parser parser;
	struct cpm_msrp_tx tx[SLOTS];
	struct cpm_msrp_trans win[SLOTS];
	struct cpm_msrp_rx rx[SLOTS];
	char head[CPM_MSRP_HEAD_BUF];
	char out[12000];
	char wire[50000]; /* on its way here */
	size_t wire_n;
	struct message msg[MESSAGES]; /* that go out from here */
	size_t queued;
	struct end *peer;
};

static uint32_t seed;

static uint32_t below(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static struct message *by_id(struct end *e, struct cpm_pl id)
{
	for(size_t i = 0; i < MESSAGES; i++)
		if(cpm_pl_eq(cpm_pl_str(e->msg[i].id), id))
			return &e->msg[i];
	ck_abort_msg("a message that nobody sent");
	return NULL;
}

static struct message *by_handle(struct end *e, uint32_t handle, bool got)
{
	for(size_t i = 0; i < MESSAGES; i++)
		if((got ? e->msg[i].got_handle : e->msg[i].handle) == handle)
			return &e->msg[i];
	ck_abort_msg("a handle that nobody gave");
	return NULL;
}

static void end_init(struct end *e, struct end *peer, const char *own,
		const char *other, const struct cpm_msrp_conf *conf, uint64_t max)
{
	struct cpm_msrp_mem mem = {e->out, CPM_MSRP_OUT_MIN + below(7000), e->tx,
			e->win, e->rx, SLOTS, 1 + below(SLOTS), SLOTS};
	uint8_t key[16];

	for(size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)below(256);
	e->peer = peer;
	cpm_msrp_parser_init(&e->parser, e->head, sizeof(e->head), 0);
	ck_assert_int_eq(cpm_msrp_sess_init(&e->s, conf, &mem, cpm_pl_str(own),
							 cpm_pl_str(other), key, 0),
			CPM_OK);
	for(size_t i = 0; i < MESSAGES; i++) {
		struct message *m = &e->msg[i];

		snprintf(m->id, sizeof(m->id), "msg%u.%zu", below(1000), i);
		m->size = i == 1 ? max : 1 + below(i % 2 ? 50 : 30000);
		m->bytes = malloc(m->size);
		m->got = calloc(1, m->size);
		ck_assert(m->bytes && m->got);
		/* full of CRs and dashes, as hard for the framing as can be */
		for(uint64_t k = 0; k < m->size; k++)
			m->bytes[k] = "\r\n-------MSRP a$#+"[below(18)];
		m->is_pulled = below(2);
		m->is_aborted = i != 1 && below(4) == 0;
	}
}

static void end_fini(struct end *e)
{
	for(size_t i = 0; i < MESSAGES; i++) {
		free(e->msg[i].bytes);
		free(e->msg[i].got);
	}
}

static void on_event(struct end *e, const struct cpm_msrp_ev *ev, int64_t now)
{
	struct message *m;

	switch(ev->kind) {
		case CPM_MSRP_EV_BEGIN:
			m = by_id(e->peer, ev->message_id);
			ck_pl_eq(ev->content_type, "message/cpim");
			ck_assert_uint_eq(m->got_handle, 0);
			m->got_handle = ev->handle;
			ck_assert_uint_eq(ev->size, m->size);
			break;
		case CPM_MSRP_EV_DATA:
			m = by_handle(e->peer, ev->handle, true);
			ck_assert_uint_le(ev->offset + ev->data.n, m->size);
			memcpy(m->got + ev->offset, ev->data.p, ev->data.n);
			break;
		case CPM_MSRP_EV_COMPLETE:
			m = by_handle(e->peer, ev->handle, true);
			ck_assert_uint_eq(ev->size, m->size);
			ck_assert_mem_eq(m->got, m->bytes, m->size);
			m->is_complete = true;
			break;
		case CPM_MSRP_EV_ABORTED:
			m = by_handle(e->peer, ev->handle, true);
			ck_assert_str_eq(ev->why, "aborted-by-peer");
			m->is_cut = true;
			break;
		case CPM_MSRP_EV_WANT:
			m = by_handle(e, ev->handle, false);
			ck_assert(m->is_pulled);
			/* sometimes it is not all there yet */
			cpm_msrp_sess_put(&e->s, ev->handle,
					cpm_pl(m->bytes + ev->offset, 1 + below((uint32_t)ev->len)),
					now);
			break;
		case CPM_MSRP_EV_DONE:
			m = by_handle(e, ev->handle, false);
			m->is_done = true;
			break;
		case CPM_MSRP_EV_FAILED:
			m = by_handle(e, ev->handle, false);
			ck_assert_str_eq(ev->why, "aborted");
			m->is_failed = true;
			break;
		default:
			ck_abort_msg("event %d", ev->kind);
	}
}

static bool pull(struct end *e, int64_t now)
{
	struct cpm_msrp_ev ev;
	bool any = false;

	for(; cpm_msrp_sess_event(&e->s, &ev); any = true)
		on_event(e, &ev, now);
	return any;
}

static void queue_next(struct end *e, int64_t now)
{
	struct cpm_msrp_send send = {.content_type = CPM_PL_LIT("message/cpim"),
			.wait_report = below(3) == 0};
	struct message *m;

	if(e->queued == MESSAGES)
		return;
	m = &e->msg[e->queued];
	send.message_id = cpm_pl_str(m->id);
	send.size = m->size;
	if(!m->is_pulled)
		send.data = cpm_pl(m->bytes, m->size);
	/* nobody asks for answers, but still for reports */
	if(send.wait_report && below(2))
		send.failure_report = CPM_MSRP_FR_NO;
	if(cpm_msrp_sess_send(&e->s, &send, now, &m->handle) == CPM_OK)
		e->queued++;
}

/* Some bytes go over the wire to the peer. */
static bool carry(struct end *e, int64_t now)
{
	struct cpm_pl out = cpm_msrp_sess_out(&e->s);
	struct end *to = e->peer;
	size_t n = 1 + below(below(2) ? 100 : 9000);
	char *piece;
	ptrdiff_t took;

	if(n > out.n)
		n = out.n;
	if(n > sizeof(to->wire) - to->wire_n)
		n = sizeof(to->wire) - to->wire_n;
	if(n > 0) {
		memcpy(to->wire + to->wire_n, out.p, n);
		to->wire_n += n;
		cpm_msrp_sess_sent(&e->s, n, now);
	}
	piece = malloc(to->wire_n + 1);
	ck_assert_ptr_nonnull(piece);
	memcpy(piece, to->wire, to->wire_n);
	took = cpm_msrp_sess_recv(
			&to->s, &to->parser, cpm_pl(piece, to->wire_n), now);
	ck_assert_msg(took >= 0, "%s", to->s.diag.why);
	pull(to, now);
	free(piece);
	to->wire_n -= (size_t)took;
	memmove(to->wire, to->wire + took, to->wire_n);
	return n > 0 || took > 0;
}

static void maybe_abort(struct end *e, int64_t now)
{
	for(size_t i = 0; i < e->queued; i++)
		if(e->msg[i].is_aborted && below(40) == 0)
			cpm_msrp_sess_abort(&e->s, e->msg[i].handle, now);
}

static void check_end(const struct end *e)
{
	for(size_t i = 0; i < MESSAGES; i++) {
		const struct message *m = &e->msg[i];

		ck_assert_msg(m->is_done != m->is_failed, "%s: both or none", m->id);
		if(m->is_done)
			ck_assert_msg(m->is_complete, "%s: done, not there", m->id);
		else
			ck_assert(m->is_aborted);
		if(m->is_cut)
			ck_assert(m->is_failed && !m->is_complete);
		/* what has begun has ended */
		if(m->got_handle)
			ck_assert(m->is_complete || m->is_cut);
	}
	ck_assert(cpm_msrp_sess_at_rest(&e->s));
}

static void run(
		uint32_t start, uint32_t chunk_a, uint32_t chunk_b, uint64_t max)
{
	struct cpm_msrp_conf conf_a = {.accept_types = CPM_PL_LIT("message/cpim"),
			.chunk_size = chunk_a,
			.max_message = SIZE_MAX_BYTES,
			.transaction_ms = 30000};
	struct cpm_msrp_conf conf_b = conf_a;
	struct end *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
	int quiet = 0;

	seed = start;
	ck_assert(a && b);
	conf_b.chunk_size = chunk_b;
	end_init(a, b, "msrp://a:1/s/=;tcp", "msrps://[::1]:2/t;tcp", &conf_a, max);
	end_init(b, a, "msrps://[0:0::1]:2/t;tcp", "msrp://A:1/s/=;tcp;x", &conf_b,
			max);
	for(int64_t now = 0; quiet < 50; now++) {
		bool any;

		if(below(5) == 0)
			queue_next(below(2) ? a : b, now);
		any = carry(a, now);
		any |= carry(b, now);
		any |= pull(a, now) | pull(b, now);
		maybe_abort(a, now);
		maybe_abort(b, now);
		any |= a->queued < MESSAGES || b->queued < MESSAGES;
		quiet = any ? 0 : quiet + 1;
		ck_assert_int_lt(now, 2000000);
	}
	check_end(a);
	check_end(b);
	end_fini(a);
	end_fini(b);
	free(a);
	free(b);
}

START_TEST(both_ways)
{
	uint32_t n = (uint32_t)_i;

	run(n * 7919 + 1, n % 3 ? 0 : 1 + n * 37, n % 2 ? 2048 : 3000 + n * 501,
			40000);
}
END_TEST

START_TEST(a_megabyte)
{
	static const uint32_t chunks[] = {0, 65536, SIZE_MAX_BYTES};

	run(77 + (uint32_t)_i, chunks[_i], chunks[2 - _i], SIZE_MAX_BYTES);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_msrp_pair");

	fu_table(s, "messages arrive whole, or are known to be given up", both_ways,
			60);
	fu_table(s, "a megabyte goes both ways at once", a_megabyte, 3);
	return fu_run(s);
}
