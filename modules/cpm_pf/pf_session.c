/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_session.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core/cpm_cpim.h"
#include "core/cpm_invite.h"
#include "core/cpm_msrp_frame.h"
#include "core/cpm_sdp.h"
#include "core/cpm_wr.h"
#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_hint.h"
#include "pf_media.h"
#include "pf_pull.h"
#include "pf_slot.h"
#include "pf_stats.h"
#include "pf_store.h"
#include "pf_str.h"
#include "pf_tm.h"
#include "pf_uac.h"

#include "../../core/dprint.h"
#include "../../core/ip_addr.h"
#include "../../core/mem/mem.h"
#include "../../core/mem/shm_mem.h"
#include "../../core/parser/contact/parse_contact.h"
#include "../../core/parser/parse_content.h"
#include "../../core/parser/parse_from.h"
#include "../../core/parser/parse_rr.h"
#include "../../core/parser/parse_to.h"
#include "../../core/socket_info.h"
#include "../tm/tm_load.h"

#define SESSIONS_MAX 1024 /* of one delivery worker */
#define ANSWER_MAX 12288  /* bytes of a 2xx that are kept */
#define ZOMBIE_MS 300000  /* longer than any INVITE transaction */
#define ACK_MS 32000	  /* 64 T1: no ACK will come (RFC 3261, 13.3.1.4) */
#define CALLED_MAX \
	(SESSIONS_MAX / 2) /* of them, those that clients asked for */
#define TAG_HEAD "cpm-"
#define TYPE_LINE_MAX (CPM_MSRP_LINE_MAX / 2) /* as cpm_ctl has it */

/* Of a 2xx, in shared memory. */
struct answer
{
	uint32_t generation;
	uint16_t tag_len, contact_len, routes_len, body_len;
	char text[]; /* the four, one after the other */
};

struct slot
{
	_Atomic uint64_t answer; /* generation << 16 | code; code 0: none yet */
	_Atomic(struct answer *) facts;
	_Atomic uint64_t key;	 /* of the dialog; 0: there is none */
	_Atomic uint64_t remote; /* hash of the client's tag; 0: not known yet */
	_Atomic uint64_t call;	 /* hash of the client's Call-ID; 0: it is ours */
	_Atomic bool acked;		 /* our 2xx to its INVITE */
};

enum state
{
	STATE_NEW,
	STATE_INVITED,
	STATE_UP,	  /* has been answered 2xx */
	STATE_OVER,	  /* no dialog (any more) */
	STATE_ZOMBIE, /* given up; its INVITE has no answer yet, or its 2xx no ACK */
};

struct pf_session
{
	enum state state;
	void *owner;
	uint64_t number; /* for the MSRP worker */
	uint32_t slot;
	uint32_t generation;
	uint64_t key;
	bool tls;
	bool prepared;
	bool called;   /* by the client: its INVITE, our answer */
	bool acked;	   /* that has its ACK */
	bool connects; /* and then we connect */
	uint64_t zombie_until_ms;
	struct cpm_push push;

	/* the dialog */
	char own_call_id[160];
	char tag[48];
	char *text; /* malloc'ed: the texts below */
	struct cpm_pl from, to, contact, received, path, socket, own_uri;
	struct cpm_pl call_id;
	struct answer *facts; /* of the 2xx or of its INVITE, malloc'ed copy */
	struct cpm_sdp sdp;	  /* borrows from facts */
};

static struct slot *slots; /* [worker][SESSIONS_MAX] */
static struct tm_binds tmb;

/* of this delivery worker */
static unsigned self;
static struct pf_session *of_slot[SESSIONS_MAX];
static uint32_t generations[SESSIONS_MAX];
static unsigned called_count;
static uint64_t number_head;
static uint64_t boot;
static char plain_at[80], tls_at[80]; /* address:port; "": not listening */
static char own_fingerprint[128];

static struct slot *slot_at(unsigned worker, uint32_t i)
{
	return &slots[worker * SESSIONS_MAX + i];
}

int pf_session_init(void)
{
	size_t bytes =
			sizeof(struct slot) * pf_conf.delivery_workers * SESSIONS_MAX;

	if(!pf_media_is_on()) {
		return 0;
	}
	if(load_tm_api(&tmb) < 0) {
		LM_ERR("session: tm is not loaded\n");
		return -1;
	}
	slots = shm_malloc(bytes);
	if(slots == NULL) {
		LM_ERR("session: no shared memory for %u sessions\n", SESSIONS_MAX);
		return -1;
	}
	memset(slots, 0, bytes);
	return 0;
}

static uint64_t random64(void)
{
	uint64_t v = 0;

	while(v == 0) {
		if(getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v)) {
			v = io_clock_wall_ms() << 20 ^ io_clock_mono_ms();
		}
	}
	return v;
}

void pf_session_start(unsigned worker)
{
	self = worker;
	number_head = random64() << 32;
}

/* ------------------------------------------------------ where we listen */

/* Lines of [tls:]address:port: the first of each kind. */
static void listens_read(struct cpm_pl lines)
{
	struct cpm_pl line;

	plain_at[0] = tls_at[0] = '\0';
	while(lines.n > 0) {
		line = cpm_pl_trim(cpm_pl_cut(&lines, '\n'));
		if(cpm_pl_starts(line, CPM_PL_LIT("tls:"))) {
			if(tls_at[0] == '\0') {
				cpm_pl_cstr(cpm_pl_from(line, 4), tls_at, sizeof(tls_at));
			}
		} else if(plain_at[0] == '\0') {
			cpm_pl_cstr(line, plain_at, sizeof(plain_at));
		}
	}
}

bool pf_session_hello(
		uint64_t new_boot, struct cpm_pl listens, struct cpm_pl fingerprint)
{
	bool other = boot != 0 && boot != new_boot;

	boot = new_boot;
	listens_read(listens);
	cpm_pl_cstr(fingerprint, own_fingerprint, sizeof(own_fingerprint));
	if(listens.n == 0) {
		LM_NOTICE("session: msrp worker is gone\n");
	} else {
		LM_NOTICE("session: msrp worker is ready listens=%s%s%s\n", plain_at,
				tls_at[0] != '\0' ? " tls:" : "", tls_at);
	}
	return other;
}

bool pf_session_is_possible(void)
{
	return boot != 0 && plain_at[0] != '\0';
}

/* "host:port" of what is advertised: the configured host in place of the
 * address that is listened on. */
static void at_split(
		const char *at, struct cpm_pl *host_r, struct cpm_pl *port_r)
{
	struct cpm_pl all = cpm_pl_str(at);
	struct cpm_pl host = cpm_pl_str(pf_params.msrp_advertise);
	size_t colon = all.n;

	while(colon > 0 && all.p[colon - 1] != ':') {
		colon--;
	}
	*port_r = cpm_pl_from(all, colon);
	*host_r = host.n > 0 ? host : cpm_pl(all.p, colon > 0 ? colon - 1 : 0);
}

/* ---------------------------------------------------------------- slots */

static void facts_drop(struct slot *s)
{
	struct answer *a = atomic_exchange(&s->facts, NULL);

	if(a != NULL) {
		shm_free(a);
	}
}

static void slot_free(uint32_t i)
{
	struct slot *s = slot_at(self, i);

	generations[i] = pf_slot_next(generations[i]);
	atomic_store(&s->key, 0);
	atomic_store(&s->remote, 0);
	atomic_store(&s->call, 0);
	atomic_store(&s->acked, false);
	atomic_store(&s->answer, (uint64_t)generations[i] << 16);
	facts_drop(s);
	of_slot[i] = NULL;
}

static void session_free(struct pf_session *s)
{
	called_count -= s->called ? 1 : 0;
	slot_free(s->slot);
	free(s->text);
	free(s->facts);
	free(s);
}

struct pf_session *pf_session_new(void *owner)
{
	static uint64_t count;
	struct pf_session *s;
	uint32_t i;

	for(i = 0; i < SESSIONS_MAX && of_slot[i] != NULL; i++)
		;
	if(!pf_session_is_possible() || i == SESSIONS_MAX) {
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if(s == NULL) {
		LM_ERR("session: no memory\n");
		return NULL;
	}
	s->owner = owner;
	s->slot = i;
	s->generation = generations[i];
	/* its slot stands in it */
	s->number = number_head | (++count * SESSIONS_MAX & 0xffffffff) | i;
	s->key = random64();
	of_slot[i] = s;
	facts_drop(slot_at(self, i)); /* of an answer that came too late */
	return s;
}

struct cpm_push *pf_session_push(struct pf_session *s)
{
	return &s->push;
}

struct cpm_pl pf_session_contact(const struct pf_session *s)
{
	return s->contact;
}

/* What a hint says of a slot: its number, and of which dialog in it the hint
 * speaks. Slots are taken again at once: a BYE that is late must not end the
 * session that has its slot now. */
static uint32_t hint_of(uint32_t i, uint64_t key)
{
	return (uint32_t)(key * SESSIONS_MAX) | i;
}

void *pf_session_of_slot(uint32_t slot)
{
	uint32_t i = slot % SESSIONS_MAX;
	struct pf_session *s = of_slot[i];

	return s != NULL && hint_of(i, s->key) == slot ? s->owner : NULL;
}

void *pf_session_of_number(uint64_t number)
{
	struct pf_session *s = of_slot[number % SESSIONS_MAX];

	return s != NULL && s->number == number ? s->owner : NULL;
}

/* ------------------------------------------------------------ the answer */

static bool append(char *text, size_t *n, str part, uint16_t *len_r)
{
	if(part.len < 0 || *n + (size_t)part.len > ANSWER_MAX) {
		return false;
	}
	if(part.len > 0) {
		memcpy(text + *n, part.s, (size_t)part.len);
	}
	*n += (size_t)part.len;
	*len_r = (uint16_t)part.len;
	return true;
}

/* What of a 2xx is needed later, in shared memory; NULL: it lacks something,
 * or is too long. */
static struct answer *answer_of(struct sip_msg *rpl, uint32_t generation)
{
	struct answer *a;
	str routes = STR_NULL, body = STR_NULL, contact = STR_NULL;
	size_t n = 0;
	bool ok;

	if(parse_headers(rpl, HDR_EOH_F, 0) < 0 || rpl->to == NULL
			|| parse_to_header(rpl) < 0 || rpl->contact == NULL
			|| parse_contact(rpl->contact) < 0) {
		return NULL;
	}
	if(((contact_body_t *)rpl->contact->parsed)->contacts != NULL) {
		contact = ((contact_body_t *)rpl->contact->parsed)->contacts->uri;
	}
	if(rpl->record_route != NULL
			&& print_rr_body(rpl->record_route, &routes, 1, NULL) < 0) {
		return NULL;
	}
	body.s = get_body(rpl);
	if(body.s != NULL) {
		body.len = (int)(rpl->len - (unsigned)(body.s - rpl->buf));
	}
	a = shm_malloc(sizeof(*a) + ANSWER_MAX);
	if(a == NULL) {
		SHM_MEM_ERROR;
	} else {
		a->generation = generation;
		ok = append(a->text, &n, get_to(rpl)->tag_value, &a->tag_len)
			 && append(a->text, &n, contact, &a->contact_len)
			 && append(a->text, &n, routes, &a->routes_len)
			 && append(a->text, &n, body, &a->body_len);
		if(!ok) {
			shm_free(a);
			a = NULL;
		}
	}
	if(routes.s != NULL) {
		pkg_free(routes.s);
	}
	return a;
}

static void on_answer(struct cell *t, int type, struct tmcb_params *ps)
{
	uint64_t expected;
	struct answer *a = NULL;
	struct pf_slot ref;
	struct slot *s;

	if(ps->code < 200
			|| !pf_slot_read(
					*ps->param, pf_conf.delivery_workers, SESSIONS_MAX, &ref)) {
		return;
	}
	s = slot_at(ref.worker, ref.index);
	expected = (uint64_t)ref.generation << 16;
	if(atomic_load(&s->answer) != expected) {
		/* it has one, or the slot is another session's: whose facts stay */
		return;
	}
	if(ps->code < 300 && ps->rpl != NULL && ps->rpl != FAKED_REPLY) {
		a = answer_of(ps->rpl, ref.generation);
		a = atomic_exchange(&s->facts, a);
		if(a != NULL) {
			shm_free(a);
		}
	}
	if(atomic_compare_exchange_strong(&s->answer, &expected,
			   expected | ((uint64_t)ps->code & 0xffff))) {
		pf_hint_dialog(ref.worker, PF_HINT_ANSWERED,
				hint_of(ref.index, atomic_load(&s->key)));
	}
}

static struct cpm_pl fact(const struct answer *a, unsigned which)
{
	const uint16_t lens[] = {
			a->tag_len, a->contact_len, a->routes_len, a->body_len};
	size_t at = 0;
	unsigned i;

	for(i = 0; i < which; i++) {
		at += lens[i];
	}
	return cpm_pl(a->text + at, lens[which]);
}
#define FACT_TAG 0
#define FACT_CONTACT 1
#define FACT_ROUTES 2
#define FACT_BODY 3

static uint64_t tag_hash(struct cpm_pl tag)
{
	return cpm_hash64(CPM_HASH_INIT, tag) | 1;
}

/* Takes the facts of the 2xx over, into memory of this process. */
static bool facts_take(struct pf_session *s)
{
	struct answer *a = atomic_exchange(&slot_at(self, s->slot)->facts, NULL);
	size_t bytes = sizeof(*a) + ANSWER_MAX;

	if(a == NULL) {
		return false;
	}
	if(a->generation == s->generation) {
		s->facts = malloc(bytes);
		if(s->facts != NULL) {
			memcpy(s->facts, a, bytes);
			atomic_store(&slot_at(self, s->slot)->remote,
					tag_hash(fact(s->facts, FACT_TAG)));
		}
	}
	shm_free(a);
	return s->facts != NULL;
}

/* --------------------------------------------------------------- requests */

/* In a dialog or about to make one. */
static int request_send(struct pf_session *s, const char *method_name,
		unsigned cseq, struct cpm_pl headers, struct cpm_pl body)
{
	str method = {(char *)method_name, (int)strlen(method_name)};
	str headers_s = pf_str(headers);
	str body_s = pf_str(body);
	struct cpm_pl routes =
			s->facts != NULL ? fact(s->facts, FACT_ROUTES) : s->path;
	uac_req_t uac;
	void *lent;
	dlg_t d;
	int rc;

	memset(&d, 0, sizeof(d));
	d.id.call_id = pf_str(s->call_id);
	d.id.loc_tag = pf_str(cpm_pl_str(s->tag));
	d.loc_seq.value = cseq;
	d.loc_seq.is_set = 1;
	d.loc_uri = pf_str(s->from);
	d.rem_uri = pf_str(s->to);
	d.rem_target = pf_str(s->contact);
	d.state = DLG_NEW;
	if(s->facts != NULL) {
		d.id.rem_tag = pf_str(fact(s->facts, FACT_TAG));
		if(fact(s->facts, FACT_CONTACT).n > 0) {
			d.rem_target = pf_str(fact(s->facts, FACT_CONTACT));
		}
		d.state = DLG_CONFIRMED;
	}
	rc = pf_tm_way(&d, s->socket, routes, s->received);
	if(rc != CPM_OK) {
		return rc;
	}
	set_uac_req(&uac, &method, headers.n > 0 ? &headers_s : NULL,
			body.n > 0 ? &body_s : NULL, &d,
			s->facts == NULL ? TMCB_LOCAL_COMPLETED : 0,
			s->facts == NULL ? on_answer : NULL,
			s->facts == NULL ? pf_slot_param(
					(struct pf_slot){self, s->slot, s->generation})
							 : NULL);
	/* 0: an event_route[tm:local-request] has dropped it */
	lent = pf_store_lend();
	rc = tmb.t_uac(&uac) <= 0 ? CPM_EDOWN : CPM_OK;
	pf_store_back(lent);
	free_rr(&d.route_set);
	return rc;
}

static void bye(struct pf_session *s)
{
	if(s->facts != NULL
			&& request_send(s, "BYE", 2, CPM_PL_LIT("Max-Forwards: 70\r\n"),
					   CPM_PL_NULL)
					   != CPM_OK) {
		LM_WARN("session: BYE could not be sent call_id=%.*s\n",
				(int)s->call_id.n, s->call_id.p);
	}
	s->state = STATE_OVER;
}

/* Copies behind what is in s->text already. */
static struct cpm_pl text_keep(struct cpm_wr *w, struct cpm_pl a)
{
	size_t from = w->n;

	cpm_wr_pl_put(w, a);
	return cpm_wr_ok(w) ? cpm_pl(w->buf + from, a.n) : CPM_PL_NULL;
}

/* A Content-Type as it may stand in one line. A sender's may be folded or have
 * tabs (RFC 3261, 7.3.1), and be as long as it likes: were it refused here, no
 * attempt would ever succeed, and all that is queued behind it would wait. */
static struct cpm_pl type_line(struct cpm_pl type, char buf[TYPE_LINE_MAX])
{
	size_t i;

	if(type.n > TYPE_LINE_MAX) {
		type.n = cpm_pl_chr(type, ';');
	}
	if(type.n > TYPE_LINE_MAX) {
		return CPM_PL_LIT("application/octet-stream");
	}
	for(i = 0; i < type.n; i++) {
		buf[i] = (unsigned char)type.p[i] < ' ' || type.p[i] == 0x7f
						 ? ' '
						 : type.p[i];
	}
	type = cpm_pl_trim(cpm_pl(buf, type.n));
	return type.n > 0 ? type : CPM_PL_LIT("application/octet-stream");
}

/* What our offers and answers have in common. */
static int desc_fill(const struct pf_session *s, struct cpm_sdp_desc *desc)
{
	struct cpm_pl fingerprint = cpm_pl_str(own_fingerprint);
	struct cpm_pl host, port;
	uint64_t number;

	at_split(s->tls ? tls_at : plain_at, &host, &port);
	if(cpm_pl_u64(port, 65535, &number) != CPM_OK) {
		return CPM_EPROTO;
	}
	if(host.n > 2 && host.p[0] == '[') {
		host = cpm_pl(host.p + 1, host.n - 2);
	}
	memset(desc, 0, sizeof(*desc));
	desc->sess_id = s->number >> 2; /* below 2^62: some read it as signed */
	desc->sess_version = 1;
	desc->address = host;
	desc->port = (unsigned)number;
	desc->tls = s->tls;
	desc->path = s->own_uri;
	desc->accept_types = CPM_PL_LIT("message/cpim");
	desc->accept_wrapped_types = CPM_PL_LIT("*");
	desc->dir = CPM_SDP_SENDONLY;
	if(s->tls && fingerprint.n > 0) {
		desc->fingerprint.hash = cpm_pl_cut(&fingerprint, ' ');
		desc->fingerprint.hex = fingerprint;
	}
	return CPM_OK;
}

static int offer_put(
		const struct pf_session *s, const struct cpm_msg *msg, struct cpm_wr *w)
{
	struct cpm_diag diag = {"", 0};
	struct cpm_sdp_desc desc;
	struct cpm_wr types;
	struct cpm_pl type;
	char type_buf[TYPE_LINE_MAX];
	char types_buf[320];

	cpm_wr_init(&types, types_buf, sizeof(types_buf));
	cpm_wr_str(&types, "message/cpim");
	if(!cpm_ctype_is(msg->content_type, "message/cpim")) {
		cpm_wr_chr(&types, ' ');
		type = type_line(msg->content_type, type_buf);
		cpm_wr_pl_put(
				&types, cpm_pl_trim(cpm_pl(type.p, cpm_pl_chr(type, ';'))));
	}
	if(desc_fill(s, &desc) != CPM_OK) {
		return CPM_EPROTO;
	}
	desc.accept_types =
			cpm_wr_ok(&types) ? cpm_wr_pl(&types) : CPM_PL_LIT("message/cpim");
	desc.setup = CPM_SDP_SETUP_ACTPASS;
	if(cpm_sdp_offer(&desc, w, &diag) != CPM_OK) {
		LM_ERR("session: no offer can be made: %s\n", diag.why);
		return CPM_EPROTO;
	}
	return CPM_OK;
}

/* What a dialog and its media are named by. */
struct texts
{
	struct cpm_pl from, to, contact, received, path, socket;
	struct cpm_pl call_id; /* empty: one of ours */
};

/* Texts that outlive the calls that brought them. */
static int texts_keep(struct pf_session *s, const struct texts *t, bool tls)
{
	size_t cap = t->from.n + t->to.n + t->contact.n + t->received.n + t->path.n
				 + t->socket.n + t->call_id.n + 512;
	struct cpm_pl host, port;
	struct cpm_wr w;
	size_t at;

	s->text = malloc(cap);
	if(s->text == NULL) {
		return CPM_ENOMEM;
	}
	cpm_wr_init(&w, s->text, cap);
	s->from = text_keep(&w, t->from);
	s->to = text_keep(&w, t->to);
	s->contact = text_keep(&w, t->contact);
	s->received = text_keep(&w, t->received);
	s->path = text_keep(&w, t->path);
	s->socket = text_keep(&w, t->socket);
	s->call_id = text_keep(&w, t->call_id);
	s->tls = tls;
	at_split(s->tls ? tls_at : plain_at, &host, &port);
	at = w.n;
	cpm_wr_str(&w, s->tls ? "msrps://" : "msrp://");
	cpm_wr_pl_put(&w, host);
	cpm_wr_chr(&w, ':');
	cpm_wr_pl_put(&w, port);
	cpm_wr_chr(&w, '/');
	cpm_wr_hex64(&w, random64());
	cpm_wr_hex64(&w, random64());
	cpm_wr_str(&w, ";tcp");
	if(!cpm_wr_ok(&w)) {
		return CPM_ENOMEM;
	}
	s->own_uri = cpm_pl(s->text + at, w.n - at);
	if(s->call_id.n == 0) {
		(void)snprintf(s->own_call_id, sizeof(s->own_call_id),
				"%016llx%016llx@%.*s", (unsigned long long)s->number,
				(unsigned long long)s->key,
				(int)(pf_conf.accept.call_id_host.n < 100
								? pf_conf.accept.call_id_host.n
								: 100),
				pf_conf.accept.call_id_host.p);
		s->call_id = cpm_pl_str(s->own_call_id);
	}
	(void)snprintf(s->tag, sizeof(s->tag), TAG_HEAD "%u-%u-%016llx", self,
			s->slot, (unsigned long long)s->key);
	return CPM_OK;
}

static int prepare_send(struct pf_session *s)
{
	struct cpm_ctl prepare;
	int rc;

	memset(&prepare, 0, sizeof(prepare));
	prepare.kind = CPM_CTL_PREPARE;
	prepare.session = s->number;
	prepare.a = s->own_uri;
	prepare.flags = s->tls ? CPM_CTL_TLS : 0;
	rc = pf_media_send(self, &prepare);
	s->prepared = rc == CPM_OK;
	return rc;
}

int pf_session_invite(struct pf_session *s, const struct pf_contact *contact,
		const struct cpm_msg *msg)
{
	struct texts texts;
	struct cpm_invite inv;
	struct cpm_client client;
	struct cpm_wr headers, body, own;
	char from[CPM_INVITE_FROM_MAX], own_contact[256], sdp[2048];
	char *buf;
	size_t cap = msg->headers.n + 4096;
	int rc;

	pf_usrloc_client(contact, &client);
	memset(&inv, 0, sizeof(inv));
	inv.msg = msg;
	inv.profile = contact->c.session;
	inv.caps = client.caps.set;
	inv.home = pf_conf.domain_count > 0 ? pf_conf.domains[0]
										: cpm_aor_host(msg->aor);
	inv.trusted = pf_params.trust_clients != 0;
	inv.called_party = pf_params.insert_called_party_id != 0;
	memset(&texts, 0, sizeof(texts));
	texts.from = cpm_invite_from(&inv, from);
	texts.to = msg->to;
	texts.contact = contact->c.uri;
	texts.received = contact->c.received;
	texts.path = contact->c.path;
	texts.socket = contact->c.socket;
	rc = texts_keep(s, &texts,
			tls_at[0] != '\0'
					&& cpm_pl_starts(contact->c.socket, CPM_PL_LIT("tls:")));
	if(rc != CPM_OK) {
		return rc;
	}
	cpm_wr_init(&own, own_contact, sizeof(own_contact));
	pf_uac_contact_uri_put(&own, s->socket);
	inv.contact = cpm_wr_pl(&own);
	buf = pkg_malloc(cap);
	if(buf == NULL) {
		PKG_MEM_ERROR;
		return CPM_ENOMEM;
	}
	cpm_wr_init(&headers, buf, cap);
	cpm_wr_init(&body, sdp, sizeof(sdp));
	rc = cpm_invite_headers(&inv, &headers);
	cpm_wr_str(&headers, "Content-Type: application/sdp\r\n");
	if(rc == CPM_OK) {
		rc = offer_put(s, msg, &body);
	}
	if(rc == CPM_OK) {
		rc = prepare_send(s);
	}
	if(rc == CPM_OK) {
		atomic_store(&slot_at(self, s->slot)->key, s->key);
		rc = request_send(
				s, "INVITE", 1, cpm_wr_pl(&headers), cpm_wr_pl(&body));
	}
	if(rc == CPM_OK) {
		s->state = STATE_INVITED;
	} else {
		LM_WARN("session: not invited result=%s aor=%.*s\n", cpm_rc_name(rc),
				(int)msg->aor.n, msg->aor.p);
	}
	pkg_free(buf);
	return rc;
}

/* Tells the MSRP worker who connects to whom. */
static int start_send(struct pf_session *s, bool connect)
{
	struct cpm_ctl start;
	struct cpm_wr w;
	char print[CPM_CTL_TEXT];

	memset(&start, 0, sizeof(start));
	start.kind = CPM_CTL_START;
	start.session = s->number;
	start.a = s->sdp.msrp.path;
	start.size = s->sdp.msrp.max_size;
	start.flags = CPM_CTL_SESSMATCH | (s->tls ? CPM_CTL_TLS : 0)
				  | (s->sdp.msrp.uris_n > 1 ? CPM_CTL_REPORTS : 0)
				  | (connect ? CPM_CTL_CONNECT : 0);
	if(s->tls && s->sdp.msrp.fingerprints_n > 0) {
		cpm_wr_init(&w, print, sizeof(print));
		cpm_wr_pl_put(&w, s->sdp.msrp.fingerprints[0].hash);
		cpm_wr_chr(&w, ' ');
		cpm_wr_pl_put(&w, s->sdp.msrp.fingerprints[0].hex);
		start.b = cpm_wr_ok(&w) ? cpm_wr_pl(&w) : CPM_PL_NULL;
	}
	return pf_media_send(self, &start);
}

/* Judges the answer. */
static int session_begin(struct pf_session *s)
{
	struct cpm_diag diag = {"", 0};
	struct cpm_sdp_agreed agreed;
	struct cpm_sdp_desc offer;

	if(cpm_sdp_parse(fact(s->facts, FACT_BODY), &s->sdp, &diag) != CPM_OK
			|| s->sdp.refused != NULL) {
		LM_NOTICE("session: answer without a session why=%s contact=%.*s\n",
				s->sdp.refused != NULL ? s->sdp.refused : diag.why,
				(int)s->contact.n, s->contact.p);
		return CPM_EPROTO;
	}
	memset(&offer, 0, sizeof(offer));
	offer.tls = s->tls;
	offer.dir = CPM_SDP_SENDONLY;
	offer.setup = CPM_SDP_SETUP_ACTPASS;
	if(cpm_sdp_agree(&offer, &s->sdp, &agreed, &diag) != CPM_OK
			|| agreed.connects == CPM_SDP_CONNECTS_NOBODY
			|| (agreed.dir & CPM_SDP_SENDONLY) == 0) {
		LM_NOTICE("session: answer does not fit why=%s contact=%.*s\n",
				diag.why[0] != '\0' ? diag.why : "direction", (int)s->contact.n,
				s->contact.p);
		return CPM_EPROTO;
	}
	return start_send(s, agreed.connects == CPM_SDP_CONNECTS_OFFERER);
}

unsigned pf_session_answer(struct pf_session *s)
{
	uint64_t answer = atomic_load(&slot_at(self, s->slot)->answer);
	unsigned code = (unsigned)(answer & 0xffff);

	if(code == 0 || (s->state != STATE_INVITED && s->state != STATE_ZOMBIE)) {
		return 0;
	}
	if(code >= 300) {
		s->state = STATE_OVER;
		return code;
	}
	if(!facts_take(s)) {
		/* no BYE can be sent without them: the client's own timers end it */
		LM_WARN("session: a 2xx that cannot be read contact=%.*s\n",
				(int)s->contact.n, s->contact.p);
		s->state = STATE_OVER;
		return 488;
	}
	if(s->state == STATE_ZOMBIE) {
		bye(s);
		return code;
	}
	s->state = STATE_UP;
	if(session_begin(s) != CPM_OK) {
		bye(s);
		return 488;
	}
	pf_stat(CPM_STAT_sessions);
	return code;
}

/* ------------------------------------------------------ a client's INVITE */

/* What later requests in the dialog need, as of a 2xx. */
static int facts_of_call(struct pf_session *s, const struct pf_call *call)
{
	struct answer *a = malloc(sizeof(*a) + ANSWER_MAX);
	size_t n = 0;

	if(a == NULL) {
		return CPM_ENOMEM;
	}
	s->facts = a;
	a->generation = s->generation;
	return append(a->text, &n, pf_str(call->remote_tag), &a->tag_len)
						   && append(a->text, &n, pf_str(call->contact),
								   &a->contact_len)
						   && append(a->text, &n, pf_str(call->routes),
								   &a->routes_len)
						   && append(
								   a->text, &n, pf_str(call->sdp), &a->body_len)
				   ? CPM_OK
				   : CPM_ELIMIT;
}

/* Judges the offer, and writes the answer. 0, or the code of a refusal. */
static unsigned offer_answer(struct pf_session *s, const struct pf_call *call,
		struct cpm_wr *body, const char **why_r)
{
	static struct cpm_diag diag;
	enum cpm_sdp_connects who = CPM_SDP_CONNECTS_NOBODY;
	struct cpm_sdp_desc desc;
	struct texts texts;

	diag.why = "";
	*why_r = "bad-offer";
	if(facts_of_call(s, call) != CPM_OK
			|| cpm_sdp_parse(fact(s->facts, FACT_BODY), &s->sdp, &diag)
					   != CPM_OK
			|| s->sdp.refused != NULL) {
		return 488;
	}
	*why_r = "proto";
	if(s->sdp.msrp.tls && tls_at[0] == '\0') {
		return 488;
	}
	memset(&texts, 0, sizeof(texts));
	texts.from = call->local;
	texts.to = call->remote;
	texts.contact = call->contact;
	texts.received = call->received;
	texts.socket = call->socket;
	texts.call_id = call->call_id;
	*why_r = "no-memory";
	if(texts_keep(s, &texts, s->sdp.msrp.tls) != CPM_OK
			|| desc_fill(s, &desc) != CPM_OK) {
		return 503;
	}
	/* the client connects where it leaves that open: it may be behind a NAT */
	desc.setup = cpm_sdp_answer_setup(s->sdp.msrp.setup, false);
	*why_r = "setup";
	if(cpm_sdp_connector(s->sdp.msrp.setup, desc.setup, &who, &diag) != CPM_OK
			|| who == CPM_SDP_CONNECTS_NOBODY) {
		return 488;
	}
	s->connects = who == CPM_SDP_CONNECTS_ANSWERER;
	if(cpm_sdp_answer(&desc, &s->sdp, body, &diag) != CPM_OK) {
		*why_r = diag.why;
		return 488;
	}
	return 0;
}

unsigned pf_session_accept(
		struct pf_session *s, const struct pf_call *call, const char **why_r)
{
	struct slot *slot = slot_at(self, s->slot);
	struct cpm_wr headers, body;
	char own[512], sdp[2048];
	unsigned code;
	int rc;

	*why_r = "too-many-sessions";
	if(called_count >= CALLED_MAX) {
		return 503;
	}
	s->called = true;
	called_count++;
	cpm_wr_init(&body, sdp, sizeof(sdp));
	code = offer_answer(s, call, &body, why_r);
	if(code != 0) {
		return code;
	}
	cpm_wr_init(&headers, own, sizeof(own));
	cpm_wr_str(&headers, "Contact: ");
	pf_uac_contact_put(&headers, s->socket);
	cpm_wr_str(&headers,
			"\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE\r\n"
			"Content-Type: application/sdp\r\n");
	*why_r = "no-msrp";
	if(!cpm_wr_ok(&headers) || prepare_send(s) != CPM_OK
			|| (!s->connects && start_send(s, false) != CPM_OK)) {
		return 503;
	}
	atomic_store(&slot->call, tag_hash(call->call_id));
	atomic_store(&slot->remote, tag_hash(call->remote_tag));
	atomic_store(&slot->key, s->key);
	s->state = STATE_UP;
	s->zombie_until_ms = io_clock_mono_ms() + ACK_MS;
	rc = pf_pull_reply(call, 200, "OK", NULL, cpm_wr_pl(&headers),
			cpm_wr_pl(&body), cpm_pl_str(s->tag));
	if(rc != CPM_OK) {
		s->state = STATE_OVER;
		*why_r = rc == CPM_ENOENT ? "answered-otherwise" : "no-memory";
		return rc == CPM_ENOENT ? 487 : 503;
	}
	pf_stat(CPM_STAT_pulls);
	return 0;
}

void *pf_session_acked(uint32_t hint)
{
	uint32_t i = hint % SESSIONS_MAX;
	struct pf_session *s = of_slot[i];

	if(s == NULL || hint_of(i, s->key) != hint || !s->called || s->acked) {
		return NULL;
	}
	s->acked = true;
	if(s->state == STATE_ZOMBIE) {
		bye(s);
		session_free(s);
		return NULL;
	}
	if(s->state != STATE_UP) {
		return NULL; /* it hung up meanwhile: nothing is begun any more */
	}
	if(s->connects && start_send(s, true) != CPM_OK) {
		LM_WARN("session: the msrp worker takes no orders\n");
	}
	return s->owner;
}

void pf_session_gone(uint32_t hint)
{
	uint32_t i = hint % SESSIONS_MAX;
	struct pf_session *s = of_slot[i];

	if(s != NULL && hint_of(i, s->key) == hint && s->called
			&& s->state == STATE_ZOMBIE) {
		session_free(s);
	}
}

bool pf_session_takes_type(
		const struct pf_session *s, struct cpm_pl type, struct cpm_pl wrapped)
{
	return cpm_sdp_accepts(&s->sdp.msrp, type, wrapped);
}

bool pf_session_accepts(const struct pf_session *s, const struct cpm_msg *msg)
{
	const struct cpm_sdp_msrp *m = &s->sdp.msrp;

	return (m->max_size == 0 || msg->body_len <= m->max_size)
		   && !cpm_msg_header_has(msg, "Content-Encoding")
		   && !cpm_msg_header_has(msg, "e")
		   && cpm_sdp_accepts(m, msg->content_type, msg->inner_type);
}

int pf_session_send(
		struct pf_session *s, uint32_t handle, const struct cpm_msg *msg)
{
	struct cpm_ctl m;
	struct cpm_wr w;
	char id[40], type[TYPE_LINE_MAX];
	size_t at;
	int rc;

	memset(&m, 0, sizeof(m));
	m.kind = CPM_CTL_SEND;
	m.session = s->number;
	m.handle = handle;
	m.a = msg->id;
	if(!cpm_msrp_is_id(m.a)) {
		cpm_wr_init(&w, id, sizeof(id));
		cpm_wr_str(&w, "cpm");
		cpm_wr_hex64(&w, cpm_hash64(CPM_HASH_INIT, msg->id));
		m.a = cpm_wr_pl(&w);
	}
	m.b = type_line(msg->content_type, type);
	m.size = msg->body.n;
	at = msg->body.n < CPM_CTL_DATA ? msg->body.n : CPM_CTL_DATA;
	m.data = cpm_pl(msg->body.p, at);
	rc = pf_media_send(self, &m);
	while(rc == CPM_OK && at < msg->body.n) {
		memset(&m, 0, sizeof(m));
		m.kind = CPM_CTL_DATA_MORE;
		m.session = s->number;
		m.handle = handle;
		m.offset = at;
		m.data = cpm_pl_from(msg->body, at);
		if(m.data.n > CPM_CTL_DATA) {
			m.data.n = CPM_CTL_DATA;
		}
		at += m.data.n;
		rc = pf_media_send(self, &m);
		if(rc == CPM_EAGAIN) {
			rc = CPM_ENOMEM; /* half a message is none */
		}
	}
	return rc;
}

void pf_session_hung_up(struct pf_session *s)
{
	s->state = STATE_OVER;
}

void pf_session_end(struct pf_session **sp)
{
	struct pf_session *s = *sp;
	struct cpm_ctl end;

	*sp = NULL;
	if(s->prepared) {
		memset(&end, 0, sizeof(end));
		end.kind = CPM_CTL_CLOSE;
		end.session = s->number;
		(void)pf_media_send(self, &end);
		s->prepared = false;
	}
	s->owner = NULL;
	if(s->state == STATE_UP && s->called && !s->acked) {
		/* BYE before the ACK is not ours to send (RFC 3261, 15) */
		s->state = STATE_ZOMBIE;
		return;
	} else if(s->state == STATE_UP) {
		bye(s);
	} else if(s->state == STATE_INVITED) {
		/* a 2xx may still come, and is to be answered by a BYE */
		s->state = STATE_ZOMBIE;
		s->zombie_until_ms = io_clock_mono_ms() + ZOMBIE_MS;
		return;
	}
	session_free(s);
}

void pf_session_look(void (*fn)(void *owner), void (*acked)(uint32_t slot))
{
	uint64_t now_ms = io_clock_mono_ms();
	struct pf_session *s;
	uint32_t i;

	for(i = 0; slots != NULL && i < SESSIONS_MAX; i++) {
		s = of_slot[i];
		if(s == NULL) {
			continue;
		}
		if(s->state == STATE_ZOMBIE) {
			if(s->called && atomic_load(&slot_at(self, i)->acked)) {
				acked(hint_of(i, s->key));
			} else if(s->called && now_ms >= s->zombie_until_ms) {
				bye(s);
				session_free(s);
			} else if(!s->called
					  && (pf_session_answer(s) != 0
							  || now_ms >= s->zombie_until_ms)) {
				session_free(s);
			}
		} else if(s->state == STATE_INVITED
				  && (atomic_load(&slot_at(self, i)->answer) & 0xffff) != 0) {
			fn(s->owner);
		} else if(s->called && !s->acked
				  && atomic_load(&slot_at(self, i)->acked)) {
			acked(hint_of(i, s->key));
		}
	}
}

/* ------------------------------------------------- requests of the client */

/* Whether a request is of the dialog that its To tag speaks of (RFC 3261,
 * 12.2.2): our Call-IDs have the key in them, and the other tag is the
 * client's. */
static bool is_of_dialog(struct sip_msg *msg, struct slot *s, uint64_t key)
{
	uint64_t remote = atomic_load(&s->remote);
	uint64_t call = atomic_load(&s->call);
	struct cpm_pl call_id;
	struct cpm_wr w;
	char hex[17];

	if(atomic_load(&s->key) != key || parse_headers(msg, HDR_CALLID_F, 0) < 0
			|| msg->callid == NULL || parse_from_header(msg) < 0) {
		return false;
	}
	call_id = pf_pl(msg->callid->body);
	if(call != 0) {
		return tag_hash(call_id) == call
			   && remote == tag_hash(pf_pl(get_from(msg)->tag_value));
	}
	cpm_wr_init(&w, hex, sizeof(hex));
	cpm_wr_hex64(&w, key);
	return call_id.n > 32
		   && cpm_pl_eq(cpm_pl(call_id.p + 16, 16), cpm_wr_pl(&w))
		   && (remote == 0
				   || remote == tag_hash(pf_pl(get_from(msg)->tag_value)));
}

/* "cpm-<worker>-<slot>-<key>" */
static bool tag_read(struct cpm_pl tag, unsigned *worker_r, uint32_t *slot_r,
		uint64_t *key_r)
{
	struct cpm_pl rest = tag;
	struct cpm_pl head = cpm_pl_cut(&rest, '-');
	struct cpm_pl worker = cpm_pl_cut(&rest, '-');
	struct cpm_pl slot = cpm_pl_cut(&rest, '-');
	uint64_t w, i, key = 0;
	size_t n;

	if(!cpm_pl_eq(head, CPM_PL_LIT("cpm"))
			|| cpm_pl_u64(worker, PF_DELIVERY_WORKERS_MAX - 1, &w) != CPM_OK
			|| cpm_pl_u64(slot, SESSIONS_MAX - 1, &i) != CPM_OK
			|| rest.n != 16) {
		return false;
	}
	for(n = 0; n < rest.n; n++) {
		char c = rest.p[n];
		int digit = c >= 'A' && c <= 'F' ? -1 : cpm_hex_value(c);

		/* as we wrote it: in lower case */
		if(digit < 0) {
			return false;
		}
		key = key << 4 | (unsigned)digit;
	}
	*worker_r = (unsigned)w;
	*slot_r = (uint32_t)i;
	*key_r = key;
	return key != 0 && w < pf_conf.delivery_workers;
}

static int request_reply(struct sip_msg *msg, unsigned code, char *reason)
{
	int rc = tmb.t_newtran(msg);

	if(rc == 0) {
		return 1; /* a retransmission: tm has answered as before */
	}
	if(rc < 0) {
		LM_ERR("session: no transaction\n");
		return 1;
	}
	if(tmb.t_reply(msg, code, reason) < 0) {
		LM_ERR("session: no reply could be sent\n");
	}
	return 1;
}

int pf_session_request(struct sip_msg *msg)
{
	unsigned worker;
	uint32_t slot;
	uint64_t key;

	if(slots == NULL || parse_headers(msg, HDR_TO_F, 0) < 0 || msg->to == NULL
			|| parse_to_header(msg) < 0
			|| !tag_read(pf_pl(get_to(msg)->tag_value), &worker, &slot, &key)) {
		return -1;
	}
	if(msg->first_line.u.request.method_value == METHOD_ACK) {
		/* of a refused re-INVITE: tm ends its retransmissions; or it is late,
		 * and no transaction comes of it */
		(void)tmb.t_newtran(msg);
		if(is_of_dialog(msg, slot_at(worker, slot), key)) {
			atomic_store(&slot_at(worker, slot)->acked, true);
			pf_hint_dialog(worker, PF_HINT_ACKED, hint_of(slot, key));
		}
		return 1;
	}
	if(!is_of_dialog(msg, slot_at(worker, slot), key)) {
		return request_reply(msg, 481, "Call/Transaction Does Not Exist");
	}
	switch(msg->first_line.u.request.method_value) {
		case METHOD_BYE:
			pf_hint_dialog(worker, PF_HINT_HANGUP, hint_of(slot, key));
			return request_reply(msg, 200, "OK");
		case METHOD_OPTIONS:
			return request_reply(msg, 200, "OK");
		case METHOD_UPDATE:
			/* a sign of life (RFC 4028); with an offer it is as an INVITE */
			if(get_body(msg) == NULL || msg->content_length == NULL
					|| get_content_length(msg) == 0) {
				return request_reply(msg, 200, "OK");
			}
			return request_reply(msg, 488, "Not Acceptable Here");
		case METHOD_INVITE:
			/* the session stays as it is (RFC 3261, 14.2) */
			return request_reply(msg, 488, "Not Acceptable Here");
		default:
			return request_reply(msg, 405, "Method Not Allowed");
	}
}
