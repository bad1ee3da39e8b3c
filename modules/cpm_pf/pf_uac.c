/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_uac.h"

#include <stdatomic.h>

#include "core/cpm_aor.h"
#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_hint.h"
#include "pf_slot.h"
#include "pf_store.h"
#include "pf_str.h"
#include "pf_tm.h"
#include "pf_usrloc.h"

#include "../../core/dprint.h"
#include "../../core/mem/mem.h"
#include "../../core/mem/shm_mem.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/parser/parse_rr.h"
#include "../../core/socket_info.h"
#include "../tm/tm_load.h"

/* A slot's name for its owner: where it is, and the low bits of its
 * generation, so that an owner who comes late does not take another's. */
#define INDEX_BITS 16
#define INDEX_MASK ((1u << INDEX_BITS) - 1)

/* Clients that answer nothing can have all slots but these wait for them. */
#define NOTIFIES_MAX (PF_UAC_SLOTS * 3 / 4)

/* In shared memory. */
struct slot
{
	/* generation << 40 | what pf_uac_wait_s tells << 16 | code; code 0: none
	 * yet. One word: of what comes too late nothing stays */
	_Atomic uint64_t answer;
};

static uint64_t answer_of(uint32_t generation, uint32_t wait, unsigned code)
{
	return (uint64_t)generation << 40 | (uint64_t)wait << 16 | (code & 0xffff);
}

/* The worker's own. */
struct wait
{
	uint32_t generation;
	bool used;
	uint64_t until_ms; /* monotonic: then it counts as 408 */
	pf_uac_fn fn;	   /* NULL: nobody waits */
	void *owner;
};

static struct tm_binds tmb;
static struct slot *slots; /* [worker][PF_UAC_SLOTS] */

/* of this delivery worker */
static unsigned self;
static struct wait waits[PF_UAC_SLOTS];
static uint32_t next_free; /* where to begin to look for a free one */
static uint32_t used_count;
static uint32_t wait_s; /* of the answer that is being told */

static struct slot *slot_at(unsigned worker, uint32_t i)
{
	return &slots[worker * PF_UAC_SLOTS + i];
}

int pf_uac_init(void)
{
	size_t bytes =
			sizeof(struct slot) * pf_conf.delivery_workers * PF_UAC_SLOTS;

	if(load_tm_api(&tmb) < 0) {
		LM_ERR("uac: tm is not loaded\n");
		return -1;
	}
	slots = shm_malloc(bytes);
	if(slots == NULL) {
		LM_ERR("uac: no shared memory for %u requests\n", PF_UAC_SLOTS);
		return -1;
	}
	memset(slots, 0, bytes);
	return 0;
}

void pf_uac_start(unsigned worker)
{
	self = worker;
}

/* Retry-After, or Min-Expires of a 423; 0: none, or nothing was answered. */
static uint32_t wait_of(struct sip_msg *rpl, int code)
{
	const char *name = code == 423 ? "Min-Expires" : "Retry-After";
	const struct hdr_field *h;
	struct cpm_pl v;
	uint64_t s;
	size_t n = 0;

	/* one that tm keeps in shared memory is not ours to parse any further */
	if(rpl == NULL || rpl == FAKED_REPLY || code < 300
			|| (rpl->msg_flags & FL_SHM_CLONE) != 0
			|| parse_headers(rpl, HDR_EOH_F, 0) < 0) {
		return 0;
	}
	for(h = rpl->headers; h != NULL && !pf_is_named(h, name); h = h->next)
		;
	if(h == NULL) {
		return 0;
	}
	/* a comment and parameters may follow (RFC 3261, 20.33) */
	v = cpm_pl_trim(pf_pl(h->body));
	while(n < v.n && v.p[n] >= '0' && v.p[n] <= '9') {
		n++;
	}
	return cpm_pl_u64(cpm_pl(v.p, n), 86400, &s) == CPM_OK ? (uint32_t)s : 0;
}

static void on_answer(struct cell *t, int type, struct tmcb_params *ps)
{
	uint64_t expected, answer;
	struct pf_slot ref;

	if(ps->code < 200
			|| !pf_slot_read(
					*ps->param, pf_conf.delivery_workers, PF_UAC_SLOTS, &ref)) {
		return;
	}
	expected = answer_of(ref.generation, 0, 0);
	answer = answer_of(
			ref.generation, wait_of(ps->rpl, ps->code), (unsigned)ps->code);
	if(atomic_compare_exchange_strong(
			   &slot_at(ref.worker, ref.index)->answer, &expected, answer)) {
		pf_hint_uac(ref.worker, ref.index);
	}
}

/* ---------------------------------------------------------------- slots */

static bool slot_take(uint32_t *slot_r)
{
	uint32_t n, i;

	for(n = 0; n < PF_UAC_SLOTS; n++) {
		i = (next_free + n) % PF_UAC_SLOTS;
		if(!waits[i].used) {
			waits[i].used = true;
			used_count++;
			next_free = i + 1;
			*slot_r = i;
			return true;
		}
	}
	return false;
}

bool pf_uac_notifies(unsigned n)
{
	return used_count + n <= NOTIFIES_MAX;
}

static void slot_free(uint32_t i)
{
	struct wait *w = &waits[i];

	w->generation = pf_slot_next(w->generation);
	w->used = false;
	used_count--;
	w->fn = NULL;
	atomic_store(&slot_at(self, i)->answer, answer_of(w->generation, 0, 0));
}

static uint32_t name_of(uint32_t i)
{
	return waits[i].generation << INDEX_BITS | i;
}

void pf_uac_forget(uint32_t slot)
{
	uint32_t i = slot & INDEX_MASK;

	/* the answer is still on its way: the slot waits for it */
	if(i < PF_UAC_SLOTS && waits[i].used && name_of(i) == slot) {
		waits[i].fn = NULL;
	}
}

static void slot_look(uint32_t i, uint64_t now_ms)
{
	pf_uac_fn fn = waits[i].fn;
	void *owner = waits[i].owner;
	uint64_t answer;
	unsigned code;

	if(!waits[i].used) {
		return;
	}
	answer = atomic_load(&slot_at(self, i)->answer);
	code = (unsigned)(answer & 0xffff);
	if(code == 0 && now_ms < waits[i].until_ms) {
		return;
	}
	wait_s = (uint32_t)(answer >> 16 & 0xffffff);
	slot_free(i);
	if(fn != NULL) {
		fn(owner, code != 0 ? code : 408);
	}
}

uint32_t pf_uac_wait_s(void)
{
	return wait_s;
}

void pf_uac_hint(uint32_t slot)
{
	if(slot < PF_UAC_SLOTS) {
		slot_look(slot, io_clock_mono_ms());
	}
}

void pf_uac_look(void)
{
	uint64_t now_ms = io_clock_mono_ms();
	uint32_t i;

	for(i = 0; i < PF_UAC_SLOTS; i++) {
		slot_look(i, now_ms);
	}
}

/* -------------------------------------------------------------- requests */

static int dialog_build(const struct pf_uac_request *r, dlg_t *d)
{
	memset(d, 0, sizeof(*d));
	d->id.call_id = pf_str(r->call_id);
	d->id.loc_tag = pf_str(r->from_tag);
	d->id.rem_tag = pf_str(r->to_tag);
	d->loc_seq.value = r->cseq;
	d->loc_seq.is_set = 1;
	d->loc_uri = pf_str(r->from);
	d->rem_uri = pf_str(r->to);
	d->rem_target = pf_str(r->ruri);
	d->state = r->to_tag.n > 0 ? DLG_CONFIRMED : DLG_NEW;
	return pf_tm_way(d, r->socket, r->routes, r->received);
}

static int request_send(const struct pf_uac_request *r, dlg_t *d,
		struct cpm_pl headers, uint32_t slot)
{
	str method = {(char *)r->method, (int)strlen(r->method)};
	str headers_s = pf_str(headers);
	str body_s = pf_str(r->body);
	uac_req_t uac;
	void *lent;
	int rc;

	set_uac_req(&uac, &method, &headers_s, r->body.n > 0 ? &body_s : NULL, d,
			TMCB_LOCAL_COMPLETED, on_answer,
			pf_slot_param(
					(struct pf_slot){self, slot, waits[slot].generation}));
	/* 0: an event_route[tm:local-request] has dropped it */
	lent = pf_store_lend();
	rc = tmb.t_uac(&uac) <= 0 ? CPM_EDOWN : CPM_OK;
	pf_store_back(lent);
	return rc;
}

int pf_uac_send(const struct pf_uac_request *r, pf_uac_fn fn, void *owner,
		uint32_t *slot_r)
{
	static char buf[PF_UAC_HEADERS_MAX];
	struct cpm_wr w;
	uint32_t slot;
	dlg_t d;
	int rc;

	cpm_wr_init(&w, buf, sizeof(buf));
	/* first, and always: tm writes its own unless it finds the words anywhere
	 * in these lines */
	cpm_wr_str(&w, "Max-Forwards: 70\r\n");
	cpm_wr_pl_put(&w, r->headers);
	if(!cpm_wr_ok(&w)
			|| (strcmp(r->method, "NOTIFY") == 0 && !pf_uac_notifies(1))
			|| !slot_take(&slot)) {
		return CPM_ELIMIT;
	}
	rc = dialog_build(r, &d);
	if(rc == CPM_OK) {
		/* before it is sent: the answer may be there when t_uac returns */
		waits[slot].fn = fn;
		waits[slot].owner = owner;
		waits[slot].until_ms = io_clock_mono_ms() + pf_conf.deliver.lease_ms;
		rc = request_send(r, &d, cpm_wr_pl(&w), slot);
		free_rr(&d.route_set);
	}
	if(rc != CPM_OK) {
		slot_free(slot);
		return rc;
	}
	if(slot_r != NULL) {
		*slot_r = name_of(slot);
	}
	return CPM_OK;
}

/* --------------------------------------------------------------- contact */

static void user_put(struct cpm_wr *w)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor;

	if(cpm_aor_canon(cpm_pl_str(pf_params.pf_uri), buf, sizeof(buf), &aor, NULL)
					== CPM_OK
			&& cpm_aor_host(aor).n > 0) {
		cpm_wr_pl_put(w, cpm_aor_user(aor));
	} else {
		cpm_wr_str(w, "cpm");
	}
}

void pf_uac_contact_uri_put(struct cpm_wr *w, struct cpm_pl socket)
{
	struct socket_info *sock = pf_usrloc_socket(socket);
	bool advertised;

	if(sock == NULL) {
		sock = udp_listen != NULL ? udp_listen : tcp_listen;
	}
	cpm_wr_str(w, "sip:");
	user_put(w);
	cpm_wr_chr(w, '@');
	if(sock == NULL) {
		cpm_wr_pl_put(w, pf_conf.accept.call_id_host);
	} else {
		advertised = sock->useinfo.name.len > 0;
		cpm_wr_pl_put(
				w, pf_pl(advertised ? sock->useinfo.name : sock->address_str));
		cpm_wr_chr(w, ':');
		cpm_wr_pl_put(
				w, pf_pl(sock->useinfo.port_no > 0 ? sock->useinfo.port_no_str
												   : sock->port_no_str));
		cpm_wr_str(w, sock->proto == PROTO_TCP	 ? ";transport=tcp"
					  : sock->proto == PROTO_TLS ? ";transport=tls"
												 : "");
	}
}

void pf_uac_contact_put(struct cpm_wr *w, struct cpm_pl socket)
{
	cpm_wr_chr(w, '<');
	pf_uac_contact_uri_put(w, socket);
	cpm_wr_chr(w, '>');
}
