/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_tm.h"

#include <stdatomic.h>

#include "core/cpm_wr.h"
#include "pf_conf.h"
#include "pf_hint.h"
#include "pf_slot.h"
#include "pf_store.h"
#include "pf_str.h"
#include "pf_usrloc.h"

#include "../../core/data_lump_rpl.h"
#include "../../core/dprint.h"
#include "../../core/mem/mem.h"
#include "../../core/mem/shm_mem.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/parser/parse_rr.h"
#include "../../core/parser/parse_to.h"
#include "../tm/tm_load.h"

/* generation << 16 | code; code 0: free or no answer yet */
struct slot
{
	_Atomic uint64_t answer;
	uint32_t generation; /* the worker's own copy */
	bool used;			 /* likewise */
};

static struct tm_binds tmb;
static struct slot *slots; /* [worker][delivery_parallel] */

static struct slot *slot_at(unsigned worker, uint32_t i)
{
	return &slots[worker * pf_conf.delivery_parallel + i];
}

int pf_tm_init(void)
{
	size_t bytes = sizeof(struct slot) * pf_conf.delivery_workers
				   * pf_conf.delivery_parallel;

	if(load_tm_api(&tmb) < 0) {
		LM_ERR("tm: not loaded; loadmodule \"tm.so\" must come before "
			   "cpm_pf.so\n");
		return -1;
	}
	slots = shm_malloc(bytes);
	if(slots == NULL) {
		LM_ERR("tm: no shared memory for %u deliveries\n",
				pf_conf.delivery_parallel);
		return -1;
	}
	memset(slots, 0, bytes);
	return 0;
}

static void on_answer(struct cell *t, int type, struct tmcb_params *ps)
{
	uint64_t expected, answer;
	struct pf_slot ref;

	if(ps->code < 200
			|| !pf_slot_read(*ps->param, pf_conf.delivery_workers,
					pf_conf.delivery_parallel, &ref)) {
		return;
	}
	expected = (uint64_t)ref.generation << 16;
	answer = expected | ((uint64_t)ps->code & 0xffff);
	if(atomic_compare_exchange_strong(
			   &slot_at(ref.worker, ref.index)->answer, &expected, answer)) {
		pf_hint_answer(ref.worker, ref.index);
	}
}

unsigned pf_tm_answer(unsigned worker, uint32_t slot)
{
	struct slot *s = slot_at(worker, slot);

	if(slot >= pf_conf.delivery_parallel || !s->used) {
		return 0;
	}
	return (unsigned)(atomic_load(&s->answer) & 0xffff);
}

void pf_tm_done(unsigned worker, uint32_t slot)
{
	struct slot *s = slot_at(worker, slot);

	s->generation = pf_slot_next(s->generation);
	atomic_store(&s->answer, (uint64_t)s->generation << 16);
	s->used = false;
}

static int slot_take(unsigned worker, uint32_t *slot_r)
{
	uint32_t i;

	for(i = 0; i < pf_conf.delivery_parallel; i++) {
		if(!slot_at(worker, i)->used) {
			slot_at(worker, i)->used = true;
			*slot_r = i;
			return CPM_OK;
		}
	}
	return CPM_ELIMIT;
}

/* Header lines of the request that tm does not write itself. */
static int headers_build(
		const struct cpm_msg *msg, uint64_t now_ms, struct cpm_wr *w)
{
	/* first, and always: tm writes its own unless it finds the words
	 * anywhere in these lines, and a Subject may have them */
	cpm_wr_str(w, "Max-Forwards: 70\r\n");
	if(pf_params.insert_called_party_id) {
		/* RFC 7315, 4.2.2.2: the address that the sender used */
		cpm_wr_str(w, "P-Called-Party-ID: <");
		cpm_wr_pl_put(w, msg->aor);
		cpm_wr_str(w, ">\r\n");
	}
	return cpm_msg_delivery_headers(
			msg, now_ms, pf_params.trust_clients != 0, w);
}

int pf_tm_way(struct dlg *d, struct cpm_pl socket, struct cpm_pl routes,
		struct cpm_pl received)
{
	d->send_sock = pf_usrloc_socket(socket);
	if(routes.n > 0) {
		if(parse_rr_body((char *)routes.p, (int)routes.n, &d->route_set) < 0) {
			LM_WARN("delivery: bad path or route set: %.*s\n", (int)routes.n,
					routes.p);
			return CPM_EPROTO;
		}
	} else if(received.n > 0) {
		d->dst_uri = pf_str(received);
	}
	return CPM_OK;
}

struct request
{
	str headers;
	str body;
	char tag[24];
	struct cpm_wr tag_w;
	dlg_t dlg;
};

/* The dialog that is none: addresses, Call-ID, and the way to the client: by
 * its Path, else to where its REGISTER came from, else to its Contact. */
static int dialog_build(struct request *r, const struct cpm_contact *contact,
		const struct cpm_msg *msg, unsigned attempt)
{
	dlg_t *d = &r->dlg;

	memset(d, 0, sizeof(*d));
	cpm_wr_init(&r->tag_w, r->tag, sizeof(r->tag));
	cpm_wr_hex64(&r->tag_w, cpm_hash64(CPM_HASH_INIT, msg->call_id));
	d->id.call_id = pf_str(msg->call_id);
	d->id.loc_tag = pf_str(cpm_wr_pl(&r->tag_w));
	/* the same Call-ID at every attempt, a new CSeq at each: a client that
	 * has the last attempt's transaction still takes this for a request of
	 * its own (RFC 3261, 8.2.2.2) */
	d->loc_seq.value = attempt;
	d->loc_seq.is_set = 1;
	d->loc_uri = pf_str(msg->from);
	d->rem_uri = pf_str(msg->to);
	d->rem_target = pf_str(contact->uri);
	d->state = DLG_NEW;
	return pf_tm_way(d, contact->socket, contact->path, contact->received);
}

int pf_tm_send(unsigned worker, const struct cpm_contact *contact,
		const struct cpm_msg *msg, unsigned attempt, uint64_t now_ms,
		uint32_t *slot_r)
{
	static str method = str_init("MESSAGE");
	struct request r;
	struct cpm_wr w;
	uac_req_t uac;
	uint32_t slot = 0;
	bool built = false;
	void *lent;
	char *buf;
	int sent;
	size_t cap = msg->headers.n + CPM_AOR_MAX + 256;
	int rc;

	buf = pkg_malloc(cap);
	if(buf == NULL) {
		PKG_MEM_ERROR;
		return CPM_ENOMEM;
	}
	cpm_wr_init(&w, buf, cap);
	rc = headers_build(msg, now_ms, &w);
	if(rc == CPM_OK) {
		rc = dialog_build(&r, contact, msg, attempt);
		built = rc == CPM_OK;
	}
	if(rc == CPM_OK) {
		rc = slot_take(worker, &slot);
	}
	if(rc == CPM_OK) {
		r.headers = pf_str(cpm_wr_pl(&w));
		r.body = pf_str(msg->body);
		set_uac_req(&uac, &method, &r.headers, &r.body, &r.dlg,
				TMCB_LOCAL_COMPLETED, on_answer,
				pf_slot_param((struct pf_slot){
						worker, slot, slot_at(worker, slot)->generation}));
		lent = pf_store_lend();
		sent = tmb.t_uac(&uac);
		pf_store_back(lent);
		/* 0: event_route[tm:local-request] dropped it */
		if(sent <= 0) {
			pf_tm_done(worker, slot);
			rc = CPM_EDOWN;
		} else {
			*slot_r = slot;
		}
	}
	if(built) {
		free_rr(&r.dlg.route_set);
	}
	pkg_free(buf);
	return rc;
}

/* --------------------------------------------------------------- replies */

/* A transaction's request as a message of this process' own, with the dialog's
 * tag in its To. Nothing is hung on the shared one (tm's own t_reply_with_body
 * does that): tm may build another reply from it at this very time, in another
 * process and under no lock (487 to a CANCEL, whatever the method). CPM_OK: msg
 * is to be freed, and buf is what it lies in. */
static int request_copy(const struct cell *t, struct cpm_pl tag, char **buf_r,
		struct sip_msg *msg)
{
	const struct sip_msg *req = t->uas.request;
	size_t at = (size_t)(req->to->body.s + req->to->body.len - req->buf);
	struct cpm_pl raw = cpm_pl(req->buf, req->len);
	struct cpm_wr w;
	size_t cap = raw.n + tag.n + sizeof(";tag=");
	char *buf = at <= raw.n ? pkg_malloc(cap) : NULL;

	if(buf == NULL) {
		return CPM_ENOMEM;
	}
	cpm_wr_init(&w, buf, cap);
	cpm_wr_pl_put(&w, cpm_pl(raw.p, at));
	if(tag.n > 0) {
		cpm_wr_str(&w, ";tag=");
		cpm_wr_pl_put(&w, tag);
	}
	cpm_wr_pl_put(&w, cpm_pl_from(raw, at));
	memset(msg, 0, sizeof(*msg));
	msg->buf = buf;
	msg->len = (unsigned)w.n;
	msg->rcv = req->rcv;
	msg->id = req->id;
	if(!cpm_wr_ok(&w) || parse_msg(buf, msg->len, msg) != 0
			|| parse_headers(msg, HDR_EOH_F, 0) < 0
			|| parse_to_header(msg) < 0) {
		free_sip_msg(msg);
		pkg_free(buf);
		return CPM_EPROTO;
	}
	msg->msg_flags |= req->msg_flags & (FL_FORCE_RPORT | FL_ADD_LOCAL_RPORT);
	*buf_r = buf;
	return CPM_OK;
}

static int lump_add(struct sip_msg *msg, struct cpm_pl text, int flags)
{
	return text.n == 0
						   || add_lump_rpl(
									  msg, (char *)text.p, (int)text.n, flags)
									  != NULL
				   ? CPM_OK
				   : CPM_ENOMEM;
}

int pf_tm_reply(struct cell *t, unsigned code, const char *reason,
		struct cpm_pl headers, struct cpm_pl body, struct cpm_pl tag)
{
	struct sip_msg msg;
	char *buf = NULL;
	int rc;

	/* an answer of tm itself (487) has been the last one */
	if(t->uas.status >= 200) {
		return CPM_ENOENT;
	}
	rc = request_copy(t, tag, &buf, &msg);
	if(rc != CPM_OK) {
		LM_ERR("tm: no reply can be made result=%s\n", cpm_rc_name(rc));
		return rc;
	}
	rc = lump_add(&msg, headers, LUMP_RPL_HDR);
	if(rc == CPM_OK) {
		rc = lump_add(&msg, body, LUMP_RPL_BODY);
	}
	if(rc == CPM_OK && tmb.t_reply_trans(t, &msg, code, (char *)reason) < 0) {
		rc = CPM_ENOENT;
	}
	free_sip_msg(&msg);
	pkg_free(buf);
	return rc;
}
