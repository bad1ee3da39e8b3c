/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_msrp_sess.c - whatever the peer sends: no byte of a message is handed
 * out twice, a message that is complete has had all of them, everything that
 * goes out can be read, and the memory lent is all that is used.
 *
 * Input: four bytes of choices, then what the peer sends.
 */

#include <stdlib.h>

#include "cpm_msrp_sess.h"

#define OWN "msrp://b:2/t;tcp"
#define PEER "msrp://a:1/s;tcp"
#define RX_N 3
#define TX_N 3
#define WIN_N 4
#define MAP 4096
#define MAX_MESSAGE 3000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool property)
{
	if(!property)
		abort();
}

struct seen
{
	uint32_t handle; /* 0: free */
	uint64_t n;
	bool map[MAP];
};

struct world
{
	struct cpm_msrp_sess s;
	struct cpm_msrp_parser in, out;
	struct seen seen[RX_N];
	int64_t now;
	uint32_t pulled; /* the message that is asked for */
	bool refuses;
};

static const char text[6000];

static struct seen *find(struct world *w, uint32_t handle)
{
	for(int i = 0; i < RX_N; i++)
		if(w->seen[i].handle == handle)
			return &w->seen[i];
	abort();
}

static void take_data(struct world *w, const struct cpm_msrp_ev *ev)
{
	struct seen *m = find(w, ev->handle);
	volatile char byte = 0;

	must(ev->data.n > 0 && ev->offset + ev->data.n <= MAX_MESSAGE);
	for(size_t i = 0; i < ev->data.n; i++) {
		byte = ev->data.p[i];
		must(!m->map[ev->offset + i]);
		m->map[ev->offset + i] = true;
	}
	(void)byte;
	m->n += ev->data.n;
}

static void pull(struct world *w)
{
	struct cpm_msrp_ev ev;
	struct seen *m;
	int n = 0;

	while(cpm_msrp_sess_event(&w->s, &ev)) {
		must(n++ < 10000);
		switch(ev.kind) {
			case CPM_MSRP_EV_BEGIN:
				m = find(w, 0);
				memset(m, 0, sizeof(*m));
				m->handle = ev.handle;
				must(ev.message_id.n > 0 && ev.content_type.n > 0);
				if(w->refuses && ev.message_id.p[0] == 'r') {
					must(cpm_msrp_sess_refuse(&w->s, ev.handle, 403) == CPM_OK);
					m->handle = 0;
				}
				break;
			case CPM_MSRP_EV_DATA:
				take_data(w, &ev);
				break;
			case CPM_MSRP_EV_COMPLETE:
				m = find(w, ev.handle);
				must(m->n == ev.size);
				m->handle = 0;
				break;
			case CPM_MSRP_EV_ABORTED:
				must(ev.why != NULL);
				find(w, ev.handle)->handle = 0;
				break;
			case CPM_MSRP_EV_WANT:
				must(ev.handle == w->pulled
						&& ev.offset + ev.len <= sizeof(text));
				must(cpm_msrp_sess_put(&w->s, ev.handle,
							 cpm_pl(text + ev.offset, ev.len), w->now)
						> 0);
				break;
			case CPM_MSRP_EV_FAILED:
				must(ev.why != NULL);
				break;
			default:
				break;
		}
	}
}

/* Sends at most n bytes; they have to be frames. */
static void flush(struct world *w, size_t n)
{
	struct cpm_pl out = cpm_msrp_sess_out(&w->s);
	struct cpm_msrp_item item;

	must(out.n <= CPM_MSRP_OUT_MIN);
	if(n < out.n)
		out.n = n;
	n = out.n;
	do {
		ptrdiff_t k = cpm_msrp_parser_next(&w->out, out, &item);

		must(k >= 0);
		if(item.kind == CPM_MSRP_HEAD)
			must(!w->out.head.bad);
		out = cpm_pl(out.p + k, out.n - (size_t)k);
	} while(item.kind != CPM_MSRP_NOTHING);
	cpm_msrp_sess_sent(&w->s, n, w->now);
}

static void feed(struct world *w, struct cpm_pl in, size_t step, size_t drain)
{
	int stuck = 0;

	while(in.n > 0) {
		size_t size = in.n < step ? in.n : step;
		char *piece = malloc(size);
		ptrdiff_t n;

		memcpy(piece, in.p, size);
		n = cpm_msrp_sess_recv(&w->s, &w->in, cpm_pl(piece, size), w->now);
		if(n >= 0)
			pull(w);
		free(piece);
		if(n < 0) {
			must(w->s.diag.why != NULL);
			return;
		}
		in = cpm_pl(in.p + n, in.n - (size_t)n);
		stuck = n == 0 ? stuck + 1 : 0;
		must(stuck < 8);
		/* with nothing left to be sent it has to go on */
		flush(w, stuck > 1 ? SIZE_MAX : drain);
		w->now += 7;
		if(cpm_msrp_sess_deadline(&w->s) <= w->now)
			cpm_msrp_sess_tick(&w->s, w->now);
		pull(w);
	}
}

static void queue(struct world *w, unsigned choice)
{
	struct cpm_msrp_send m = {.message_id = CPM_PL_LIT("lent1"),
			.content_type = CPM_PL_LIT("text/plain"),
			.data = {text, 3000},
			.size = 3000};
	uint32_t handle;

	m.wait_report = choice & 1;
	must(cpm_msrp_sess_send(&w->s, &m, w->now, &handle) == CPM_OK);
	m.message_id = CPM_PL_LIT("pulled1");
	m.data = CPM_PL_NULL;
	m.size = sizeof(text);
	m.failure_report = (enum cpm_msrp_failure_report)(choice % 3);
	must(cpm_msrp_sess_send(&w->s, &m, w->now, &w->pulled) == CPM_OK);
	if(choice & 2)
		cpm_msrp_sess_bind(&w->s, w->now);
	if(choice & 4)
		cpm_msrp_sess_abort(&w->s, handle, w->now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t seed[16] = {1, 2, 3};
	struct cpm_msrp_conf conf = {.max_message = MAX_MESSAGE,
			.accept_types = CPM_PL_LIT("message/cpim text/*"),
			.transaction_ms = 300,
			.message_ms = 900,
			.idle_ms = 500};
	static struct world w;
	struct cpm_msrp_tx tx[TX_N];
	struct cpm_msrp_rx rx[RX_N];
	struct cpm_msrp_trans win[WIN_N];
	struct cpm_msrp_mem mem = {
			NULL, CPM_MSRP_OUT_MIN, tx, win, rx, TX_N, WIN_N, RX_N};
	char *head = malloc(CPM_MSRP_HEAD_BUF), out_head[CPM_MSRP_HEAD_BUF];

	mem.out = malloc(CPM_MSRP_OUT_MIN);
	memset(&w, 0, sizeof(w));
	if(size > 4) {
		conf.sessmatch = data[0] & 1;
		conf.chunk_size = data[0] & 2 ? 5000 : 700;
		w.refuses = data[0] & 4;
		cpm_msrp_parser_init(&w.in, head, CPM_MSRP_HEAD_BUF, 0);
		cpm_msrp_parser_init(&w.out, out_head, sizeof(out_head), 0);
		must(cpm_msrp_sess_init(&w.s, &conf, &mem, CPM_PL_LIT(OWN),
					 CPM_PL_LIT(PEER), seed, 0)
				== CPM_OK);
		if(data[0] & 8)
			queue(&w, data[1]);
		feed(&w, cpm_pl((const char *)data + 4, size - 4),
				1 + (size_t)data[2] * 8, 1 + (size_t)data[3] * 16);
		cpm_msrp_sess_close(&w.s);
		pull(&w);
		must(cpm_msrp_sess_at_rest(&w.s));
	}
	free(mem.out);
	free(head);
	return 0;
}
