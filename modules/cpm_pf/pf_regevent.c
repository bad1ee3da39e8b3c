/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_regevent.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core/cpm_subs.h"
#include "io/io_clock.h"
#include "io/io_contacts.h"
#include "io/io_reginfo.h"
#include "pf_conf.h"
#include "pf_facts.h"
#include "pf_stats.h"
#include "pf_store.h"
#include "pf_str.h"
#include "pf_uac.h"

#include "../../core/dprint.h"
#include "../../core/mem/mem.h"
#include "../../core/mem/shm_mem.h"
#include "../../core/parser/contact/parse_contact.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/parser/parse_cseq.h"
#include "../../core/parser/parse_expires.h"
#include "../../core/parser/parse_from.h"
#include "../../core/parser/parse_rr.h"
#include "../../core/parser/parse_to.h"
#include "../tm/tm_load.h"

#define GROUPS 4096
/* A contact that does not tell its time is good for as long as this. */
#define DEFAULT_MS 3600000
#define KEEP_S_MAX 86400

/* In shared memory. */
struct shared
{
	_Atomic uint32_t changes[GROUPS];
	/* that Redis has of the shards of each delivery worker */
	_Atomic uint64_t subscriptions[PF_DELIVERY_WORKERS_MAX];
};

static struct tm_binds tmb;
static struct shared *shared;

static bool subscribes(void)
{
	return pf_params.reg_uri[0] != '\0';
}

static bool is_on(void)
{
	return subscribes() || pf_conf.registrar_reginfo;
}

int pf_regevent_init(void)
{
	if(load_tm_api(&tmb) < 0) {
		LM_ERR("regevent: tm is not loaded\n");
		return -1;
	}
	shared = shm_malloc(sizeof(*shared));
	if(shared == NULL) {
		LM_ERR("regevent: no shared memory\n");
		return -1;
	}
	memset(shared, 0, sizeof(*shared));
	return 0;
}

static size_t group_of(struct cpm_pl aor)
{
	return (cpm_hash64(CPM_HASH_INIT, aor) >> 16) % GROUPS;
}

/* What caches have of this user is old. */
static void changed(struct cpm_pl aor)
{
	atomic_fetch_add(&shared->changes[group_of(aor)], 1);
}

/* As of the last look at the index, and what was made since. */
static uint64_t subscriptions(void)
{
	uint64_t n = 0;
	unsigned i;

	for(i = 0; i < pf_conf.delivery_workers; i++) {
		n += atomic_load(&shared->subscriptions[i]);
	}
	return n;
}

static bool may_subscribe(void)
{
	return subscribes()
		   && subscriptions() < (uint64_t)pf_params.reg_max_subscriptions;
}

static uint64_t linger_ms(void)
{
	return (uint64_t)pf_params.reg_linger * 1000;
}

static uint64_t first_ms(void)
{
	return (uint64_t)pf_params.reg_retry_time * 1000;
}

/* ------------------------------------------------------------- contacts */

#define CACHED 64
#define CACHED_MS 1000

/* A user's contacts, as they were a moment ago. */
struct known
{
	uint64_t read_at_ms; /* 0: never */
	uint32_t change;
	size_t aor_len;
	char aor[CPM_AOR_MAX];
	struct io_contact contacts[CPM_REG_USER_CONTACTS];
	size_t count;
	char *text; /* what their slices point into */
	size_t cap;
};

static struct known cache[CACHED];

static struct cpm_pl *const *fields_of(struct cpm_reg_contact *c)
{
	static struct cpm_pl *fields[7];

	fields[0] = &c->uri;
	fields[1] = &c->call_id;
	fields[2] = &c->params;
	fields[3] = &c->path;
	fields[4] = &c->received;
	fields[5] = &c->user_agent;
	fields[6] = NULL;
	return fields;
}

/* Their text is Redis' answer, which the next call takes away. */
static bool text_keep(struct known *k)
{
	struct cpm_pl *const *f;
	size_t need = 0;
	size_t i;
	char *p;

	for(i = 0; i < k->count; i++) {
		for(f = fields_of(&k->contacts[i].c); *f != NULL; f++) {
			need += (*f)->n;
		}
	}
	if(need > k->cap) {
		p = realloc(k->text, need);
		if(p == NULL) {
			return false;
		}
		k->text = p;
		k->cap = need;
	}
	p = k->text;
	for(i = 0; i < k->count; i++) {
		for(f = fields_of(&k->contacts[i].c); *f != NULL; f++) {
			if((*f)->n > 0) {
				memcpy(p, (*f)->p, (*f)->n);
			}
			**f = cpm_pl(p, (*f)->n);
			p += (*f)->n;
		}
	}
	return true;
}

static int known_get(struct cpm_pl aor, struct known **k_r)
{
	struct known *k = &cache[cpm_hash64(CPM_HASH_INIT, aor) % CACHED];
	uint64_t now_ms = io_clock_mono_ms();
	uint32_t change = atomic_load(&shared->changes[group_of(aor)]);
	int rc;

	*k_r = k;
	if(k->read_at_ms != 0 && now_ms < k->read_at_ms + CACHED_MS
			&& k->change == change
			&& cpm_pl_eq(cpm_pl(k->aor, k->aor_len), aor)) {
		return CPM_OK;
	}
	k->read_at_ms = 0;
	if(aor.n > sizeof(k->aor)) {
		return CPM_ELIMIT;
	}
	rc = pf_store() == NULL
				 ? CPM_EDOWN
				 : pf_store_note("contacts", io_contacts_get(pf_store(), aor,
													 k->contacts, &k->count));
	if(rc == CPM_OK && !text_keep(k)) {
		rc = CPM_ENOMEM;
	}
	if(rc == CPM_OK) {
		memcpy(k->aor, aor.p, aor.n);
		k->aor_len = aor.n;
		k->change = change;
		k->read_at_ms = now_ms;
	}
	return rc;
}

/* A request to it goes to where the registrar is, if reg_route says so; else by
 * its Path, if the document has it; else to where it registered from. */
static void contact_of(const struct known *k, const struct io_contact *from,
		struct pf_contact *to)
{
	const struct cpm_reg_contact *c = &from->c;

	memset(to, 0, sizeof(*to));
	to->c.uri = c->uri;
	to->caps = c->params;
	to->instance = cpm_reg_param(c->params, CPM_PL_LIT("+sip.instance"));
	to->gruu = cpm_reg_param(c->params, CPM_PL_LIT("pub-gruu"));
	to->user_agent = c->user_agent;
	if(pf_conf.reg_route.n > 0) {
		to->c.path = pf_conf.reg_route;
		if(pf_params.reg_route_aor) {
			to->c.uri = to->gruu.n > 0 ? to->gruu : cpm_pl(k->aor, k->aor_len);
		}
	} else {
		to->c.path = c->path;
		to->c.received = c->received;
	}
	to->c.q = c->q;
	to->c.takes_message = cpm_reg_takes(c->params, CPM_PL_LIT("MESSAGE"));
	to->takes_invite = cpm_reg_takes(c->params, CPM_PL_LIT("INVITE"));
	to->takes_notify = cpm_reg_takes(c->params, CPM_PL_LIT("NOTIFY"));
	to->registration = cpm_hash64(CPM_HASH_INIT, c->call_id);
	/* only for an order among them: who registered last expires last */
	to->c.last_modified_s = (io_clock_wall_ms() + from->left_ms) / 1000;
	to->connected = true;
}

int pf_regevent_contacts(
		struct cpm_pl aor, struct pf_contact *contacts, size_t *count_r)
{
	struct pf_contact one;
	struct known *k;
	size_t i, j;
	int rc;

	if(!pf_conf.registrar_reginfo) {
		return CPM_OK;
	}
	rc = known_get(aor, &k);
	for(i = 0; rc == CPM_OK && i < k->count && *count_r < CPM_CONTACTS_MAX;
			i++) {
		contact_of(k, &k->contacts[i], &one);
		for(j = 0; j < *count_r && !cpm_pl_eq(contacts[j].c.uri, one.c.uri);
				j++)
			;
		if(j == *count_r) {
			contacts[(*count_r)++] = one;
		}
	}
	return rc;
}

/* ------------------------------------------------------------ documents */

/* What a document says of one user, of all registrations that are its. */
struct of_user
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor;
	struct io_contacts_doc doc;
	const struct cpm_reg_contact *contacts[CPM_REG_USER_CONTACTS];
	bool active, created; /* a contact is, or says that it is new */
};

struct document
{
	struct io_reginfo *xml; /* NULL: none */
	struct of_user users[CPM_REGINFO_REGISTRATIONS_MAX];
	size_t count;
};

static struct of_user *user_of(struct document *d, struct cpm_pl uri)
{
	const struct cpm_reginfo *info = io_reginfo_get(d->xml);
	struct of_user *u = &d->users[d->count];
	size_t i;

	if(pf_facts_aor(uri, u->buf, &u->aor) != CPM_OK
			|| !pf_facts_is_home(u->aor)) {
		return NULL;
	}
	for(i = 0; i < d->count; i++) {
		if(cpm_pl_eq(d->users[i].aor, u->aor)) {
			return &d->users[i];
		}
	}
	u->doc = (struct io_contacts_doc){.version = info->version,
			.full = info->full,
			.contacts = u->contacts,
			.default_ms = DEFAULT_MS};
	u->active = u->created = false;
	d->count++;
	return u;
}

/* sip: and tel: addresses are registrations of their own. Of one that is over
 * nothing is left, whatever else the document says of it. */
static void users_read(struct document *d)
{
	const struct cpm_reginfo *info = io_reginfo_get(d->xml);
	const struct cpm_reg_registration *r;
	const struct cpm_reg_contact *c;
	struct of_user *u;
	size_t i, j;

	d->count = 0;
	for(i = 0; i < info->count; i++) {
		r = &info->registrations[i];
		u = user_of(d, r->aor);
		if(u == NULL) {
			LM_DBG("regevent: not a user of ours: %.*s\n", (int)r->aor.n,
					r->aor.p);
			continue;
		}
		if(r->state != CPM_REG_ACTIVE) {
			u->doc.full = true;
			continue;
		}
		for(j = 0; j < r->count && u->doc.count < CPM_REG_USER_CONTACTS; j++) {
			c = &r->contacts[j];
			u->contacts[u->doc.count++] = c;
			if(c->state == CPM_REG_ACTIVE) {
				u->active = true;
				u->created = u->created || c->event == CPM_REG_EV_REGISTERED
							 || c->event == CPM_REG_EV_CREATED;
			}
		}
	}
}

static struct cpm_pl value_of(const struct hdr_field *h)
{
	return h != NULL ? cpm_pl_trim(pf_pl(h->body)) : CPM_PL_NULL;
}

static struct cpm_pl value_named(const struct sip_msg *msg, const char *name)
{
	const struct hdr_field *h;

	for(h = msg->headers; h != NULL; h = h->next) {
		if(pf_is_named(h, name)) {
			return value_of(h);
		}
	}
	return CPM_PL_NULL;
}

static bool is_reg_event(const struct sip_msg *msg)
{
	struct cpm_subs_event event;

	return cpm_subs_event_parse(value_of(msg->event), &event) == CPM_OK
		   && cpm_pl_ieq(event.package, CPM_PL_LIT("reg"));
}

/* CPM_OK: d->xml is the document, or NULL where there is no body. */
static int document_read(
		struct document *d, struct sip_msg *msg, struct cpm_diag *diag)
{
	struct cpm_pl type = value_of(msg->content_type);
	struct cpm_pl body;
	int rc;

	d->xml = NULL;
	d->count = 0;
	if(pf_facts_body(msg, &body) != CPM_OK) {
		*diag = (struct cpm_diag){"bad-body", 0};
		return CPM_EPROTO;
	}
	if(body.n == 0) {
		return CPM_OK;
	}
	type = cpm_pl_trim(cpm_pl(type.p, cpm_pl_chr(type, ';')));
	if(!cpm_pl_ieq(type, CPM_PL_LIT(CPM_REGINFO_TYPE))) {
		*diag = (struct cpm_diag){"bad-type", 0};
		return CPM_EPROTO;
	}
	rc = io_reginfo_parse(body, &d->xml, diag);
	if(rc == CPM_OK) {
		users_read(d);
	}
	return rc;
}

static bool is_trusted(const struct sip_msg *msg)
{
	return pf_conf_is_trusted(msg->rcv.src_ip.u.addr, msg->rcv.src_ip.len);
}

/* What a change of contacts is for the queue: as a binding that usrloc tells
 * of. Nobody who has nothing queued is looked at. */
static void change_tell(struct cpm_pl aor, const struct io_contacts_change *c)
{
	if(c->created + c->refreshed + c->removed > 0) {
		changed(aor);
		LM_INFO("regevent: contacts aor=%.*s new=%u refreshed=%u gone=%u\n",
				(int)aor.n, aor.p, (unsigned)c->created, (unsigned)c->refreshed,
				(unsigned)c->removed);
	}
	if(pf_params.register_trigger && (c->queued || pf_conf.push)
			&& c->created + c->refreshed > 0) {
		pf_hint_user(PF_HINT_REGISTERED, aor,
				c->created > 0 ? CPM_LEASE_ALL : CPM_LEASE_UNREACHABLE);
	}
}

/* ------------------------------------------------------ NOTIFY, SIP worker */

struct answer
{
	unsigned code;
	const char *reason;
	const char *why;
};

static struct answer answer(unsigned code, const char *reason, const char *why)
{
	return (struct answer){code, reason, why};
}

/* The dialog of a NOTIFY, and what it says of it. */
static bool dialog_read(
		struct io_contacts_notify *n, struct sip_msg *msg, str *routes)
{
	contact_t *c;
	uint64_t cseq;

	if(msg->callid == NULL || msg->cseq == NULL || get_cseq(msg) == NULL
			|| cpm_pl_u64(pf_pl(get_cseq(msg)->number), INT32_MAX, &cseq)
					   != CPM_OK
			|| msg->contact == NULL || parse_contact(msg->contact) < 0
			|| msg->contact->parsed == NULL
			|| (c = ((contact_body_t *)msg->contact->parsed)->contacts)
					   == NULL) {
		return false;
	}
	n->call_id = value_of(msg->callid);
	n->local_tag = pf_pl(get_to(msg)->tag_value);
	n->remote_tag = pf_pl(get_from(msg)->tag_value);
	n->cseq = (uint32_t)cseq;
	n->target = pf_pl(c->uri);
	if(msg->record_route != NULL) {
		/* in its order: a NOTIFY is what makes this dialog, and we are the one
		 * who was asked (RFC 6665, 4.4.1; RFC 3261, 12.1.1) */
		if(print_rr_body(msg->record_route, routes, 0, NULL) < 0) {
			return false;
		}
		n->routes = pf_pl(*routes);
	}
	return n->call_id.n > 0 && n->call_id.n <= CPM_REGINFO_URI_MAX
		   && cpm_pl_ctl(n->call_id) == n->call_id.n && n->remote_tag.n > 0
		   && n->remote_tag.n <= CPM_REGINFO_URI_MAX && n->target.n > 0
		   && n->target.n <= CPM_REGINFO_URI_MAX
		   && cpm_pl_ctl(n->target) == n->target.n
		   && cpm_pl_chr(n->target, ' ') == n->target.n && n->routes.n <= 2048
		   && cpm_pl_ctl(n->routes) == n->routes.n;
}

/* Other users of the same document: its order has been looked at. */
static int others_apply(struct document *d, struct cpm_pl but)
{
	struct io_contacts_change change;
	size_t i;
	int rc = CPM_OK;

	for(i = 0; i < d->count && rc == CPM_OK; i++) {
		struct of_user *u = &d->users[i];

		if(cpm_pl_eq(u->aor, but)) {
			continue;
		}
		rc = pf_store_note("contacts",
				io_contacts_apply(pf_store(), u->aor, NULL, &u->doc, &change));
		if(rc == CPM_OK) {
			change_tell(u->aor, &change);
		}
	}
	return rc;
}

static struct answer notify_take(
		const struct io_contacts_notify *read, struct document *d)
{
	struct io_contacts_notify n = *read;
	struct io_contacts_change change;
	struct io_contacts_doc none;
	size_t i;
	int rc;

	if(d->xml != NULL) {
		/* who is not in it: gone, if it is a full one */
		none = (struct io_contacts_doc){
				.version = io_reginfo_get(d->xml)->version,
				.full = io_reginfo_get(d->xml)->full};
		n.doc = &none;
		for(i = 0; i < d->count; i++) {
			if(cpm_pl_eq(d->users[i].aor, n.aor)) {
				n.doc = &d->users[i].doc;
			}
		}
	}
	rc = pf_store() == NULL
				 ? CPM_EDOWN
				 : pf_store_note("registration",
						 io_contacts_notify(pf_store(), &n, &change));
	if(rc == CPM_OK) {
		pf_stat(CPM_STAT_reg_notified);
		change_tell(n.aor, &change);
		if(d->xml != NULL && !change.stale) {
			rc = others_apply(d, n.aor);
		}
	}
	switch(rc) {
		case CPM_OK:
			return answer(200, "OK", change.stale ? "nothing-new" : "taken");
		case CPM_ENOENT:
			return answer(
					481, "Subscription Does Not Exist", "no-subscription");
		case CPM_EEXIST:
			/* RFC 3261, 12.2.2 */
			return answer(500, "Out Of Order", "out-of-order");
		default:
			return answer(503, "Service Unavailable", "store-down");
	}
}

static struct answer notify_read(struct sip_msg *msg, struct document *d)
{
	static char bad[96];
	struct io_contacts_notify n = {
			.linger_ms = linger_ms(), .first_ms = first_ms()};
	struct cpm_diag diag = {"", 0};
	struct answer a = {0, NULL, NULL};
	char buf[CPM_AOR_MAX];
	str routes = STR_NULL;

	if(parse_from_header(msg) < 0 || get_from(msg) == NULL
			|| pf_facts_aor(pf_pl(get_from(msg)->uri), buf, &n.aor) != CPM_OK) {
		return answer(400, "Bad Request", "bad-from");
	}
	if(!is_reg_event(msg)) {
		return answer(489, "Bad Event", "bad-event");
	}
	if(!dialog_read(&n, msg, &routes)) {
		a = answer(400, "Bad Request", "bad-dialog");
	} else if(cpm_reg_substate_parse(
					  value_named(msg, "Subscription-State"), &n.state)
			  != CPM_OK) {
		a = answer(400, "Bad Subscription-State", "bad-state");
	} else if(document_read(d, msg, &diag) != CPM_OK) {
		(void)snprintf(
				bad, sizeof(bad), "Bad Registration Document (%s)", diag.why);
		a = answer(400, bad, diag.why);
	} else {
		if(!n.state.has_expires) {
			n.state.expires_s = (uint32_t)pf_params.reg_expires;
		}
		a = notify_take(&n, d);
	}
	if(routes.s != NULL) {
		pkg_free(routes.s);
	}
	return a;
}

static int reply(struct sip_msg *msg, const struct answer *a)
{
	LM_DBG("regevent: NOTIFY answered code=%u why=%s\n", a->code, a->why);
	if(tmb.t_reply(msg, a->code, (char *)a->reason) < 0) {
		LM_ERR("regevent: no reply could be sent\n");
	}
	return 1;
}

int pf_regevent_request(struct sip_msg *msg)
{
	static struct document d;
	struct cell *t;
	struct answer a;

	if(msg->first_line.type != SIP_REQUEST
			|| parse_headers(msg, HDR_EOH_F, 0) < 0 || msg->to == NULL
			|| parse_to_header(msg) < 0
			|| !cpm_reg_tag_is(pf_pl(get_to(msg)->tag_value))) {
		return -1;
	}
	if(msg->first_line.u.request.method_value == METHOD_ACK) {
		return 1;
	}
	t = tmb.t_gett();
	if((t == NULL || t == T_UNDEFINED) && tmb.t_newtran(msg) <= 0) {
		return 1; /* a retransmission, which tm has answered as before */
	}
	d.xml = NULL;
	if(msg->first_line.u.request.method_value != METHOD_NOTIFY) {
		a = answer(481, "Call/Transaction Does Not Exist", "no-such-dialog");
	} else {
		a = notify_read(msg, &d);
	}
	if(d.xml != NULL) {
		io_reginfo_free(&d.xml);
	}
	if(a.code >= 300) {
		pf_stat(CPM_STAT_reg_refused);
		LM_INFO("regevent: refused code=%u why=%s\n", a.code, a.why);
	}
	return reply(msg, &a);
}

/* ----------------------------------------------- what is told by others */

static void outcome(struct pf_regevent_outcome *out, int rc, unsigned code,
		const char *reason, const char *why)
{
	*out = (struct pf_regevent_outcome){rc, code, reason, why};
}

static void store_down(struct pf_regevent_outcome *out)
{
	outcome(out, -2, 503, "Service Unavailable", "store-down");
}

/* Who only looks at usrloc takes it as a word that the client is there. */
static int user_look(const struct of_user *u, struct io_contacts_change *change)
{
	struct cpm_queue_stat stat;
	int rc = pf_store_note("stat", io_queue_stat(pf_store(), u->aor, &stat));

	memset(change, 0, sizeof(*change));
	change->queued = rc == CPM_OK;
	change->created = u->created ? 1 : 0;
	change->refreshed = u->active ? 1 : 0;
	return rc == CPM_ENOENT ? CPM_OK : rc;
}

static void foreign_take(struct sip_msg *msg, struct document *d,
		enum pf_hint_mode mode, struct pf_regevent_outcome *out)
{
	struct io_contacts_source source;
	struct io_contacts_change change;
	uint64_t cseq = 0;
	bool any = false;
	size_t i;
	int rc;

	source.hash = cpm_hash64(cpm_hash64(CPM_HASH_INIT, value_of(msg->callid)),
			pf_pl(get_from(msg)->tag_value));
	if(get_cseq(msg) == NULL
			|| cpm_pl_u64(pf_pl(get_cseq(msg)->number), INT32_MAX, &cseq)
					   != CPM_OK) {
		outcome(out, -1, 400, "Bad Request", "bad-headers");
		return;
	}
	source.cseq = (uint32_t)cseq;
	for(i = 0; i < d->count; i++) {
		struct of_user *u = &d->users[i];

		rc = pf_store() == NULL			 ? CPM_EDOWN
			 : pf_conf.registrar_reginfo ? pf_store_note(
					   "contacts", io_contacts_apply(pf_store(), u->aor,
										   &source, &u->doc, &change))
										 : user_look(u, &change);
		if(rc != CPM_OK) {
			store_down(out);
			return;
		}
		if(change.created + change.refreshed + change.removed > 0) {
			changed(u->aor);
		}
		if(change.queued && change.created + change.refreshed > 0) {
			any = true;
			pf_hint_user_mode(PF_HINT_FLUSH, u->aor,
					change.created > 0 ? CPM_LEASE_ALL : CPM_LEASE_UNREACHABLE,
					mode);
		}
	}
	if(any) {
		outcome(out, 1, 200, "OK", "delivery-scheduled");
	} else {
		outcome(out, 2, 200, "OK", "nothing-queued");
	}
}

static void foreign_notify(struct sip_msg *msg, enum pf_hint_mode mode,
		struct pf_regevent_outcome *out)
{
	static char bad[96];
	static struct document d;
	struct cpm_diag diag = {"", 0};

	if(!is_trusted(msg)) {
		/* by whoever it was, nothing is changed */
		pf_stat(CPM_STAT_reg_refused);
		LM_INFO("regevent: refused code=403 why=not-trusted\n");
		outcome(out, -1, 403, "Forbidden", "not-trusted");
		return;
	}
	if(msg->callid == NULL || parse_from_header(msg) < 0
			|| get_from(msg) == NULL) {
		outcome(out, -1, 400, "Bad Request", "bad-headers");
		return;
	}
	if(document_read(&d, msg, &diag) != CPM_OK) {
		(void)snprintf(
				bad, sizeof(bad), "Bad Registration Document (%s)", diag.why);
		outcome(out, -1, 400, bad, diag.why);
		return;
	}
	if(d.xml == NULL) {
		outcome(out, 2, 200, "OK", "no-document");
		return;
	}
	pf_stat(CPM_STAT_reg_notified);
	foreign_take(msg, &d, mode, out);
	io_reginfo_free(&d.xml);
}

/* For how long a third-party REGISTER says that the user is registered. */
static uint32_t expires_of(const struct sip_msg *msg)
{
	uint64_t s = 3600;

	if(msg->expires != NULL
			&& cpm_pl_u64(value_of(msg->expires), UINT32_MAX, &s) != CPM_OK) {
		s = 3600;
	}
	return (uint32_t)(s < KEEP_S_MAX ? s : KEEP_S_MAX);
}

/* It says who has registered, and nothing of the client (wire shape of an
 * S-CSCF): a reason to ask the registrar, and to keep being told. */
static void third_party(struct cpm_pl aor, uint32_t expires_s,
		enum pf_hint_mode mode, struct pf_regevent_outcome *out)
{
	struct io_contacts_wanted w;
	struct io_contacts_change change;
	int rc;

	if(expires_s == 0) {
		rc = pf_store_note(
				"contacts", io_contacts_forget(pf_store(), aor, &change));
		if(rc != CPM_OK) {
			store_down(out);
			return;
		}
		change_tell(aor, &change);
		outcome(out, 2, 200, "OK", "deregistered");
		return;
	}
	rc = pf_store_note("registration",
			io_contacts_want(pf_store(), aor, (uint64_t)expires_s * 1000,
					may_subscribe(), &w));
	if(rc != CPM_OK) {
		store_down(out);
		return;
	}
	if(w.sub == IO_CONTACTS_NEW) {
		atomic_fetch_add(&shared->subscriptions[pf_hint_worker_of(aor)], 1);
		pf_hint_user(PF_HINT_REG, aor, CPM_LEASE_WHEN_DUE);
	}
	if(!w.queued) {
		outcome(out, 2, 200, "OK", "nothing-queued");
	} else {
		/* without contacts the NOTIFY is what it is brought by */
		if(w.contacts > 0 || !pf_conf.registrar_reginfo) {
			pf_hint_user_mode(PF_HINT_FLUSH, aor, CPM_LEASE_ALL, mode);
		}
		outcome(out, 1, 200, "OK", "delivery-scheduled");
	}
}

bool pf_regevent_flush(struct sip_msg *msg, enum pf_hint_mode mode,
		struct pf_regevent_outcome *out)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor;

	if(msg->first_line.type != SIP_REQUEST
			|| parse_headers(msg, HDR_EOH_F, 0) < 0) {
		return false;
	}
	if(msg->first_line.u.request.method_value == METHOD_NOTIFY) {
		if(!is_reg_event(msg)) {
			return false;
		}
		foreign_notify(msg, mode, out);
		return true;
	}
	if(msg->first_line.u.request.method_value != METHOD_REGISTER || !is_on()
			|| !is_trusted(msg) || msg->to == NULL || parse_to_header(msg) < 0
			|| pf_facts_aor(pf_pl(get_to(msg)->uri), buf, &aor) != CPM_OK
			|| !pf_facts_is_home(aor) || pf_store() == NULL) {
		return false;
	}
	third_party(aor, expires_of(msg), mode, out);
	return true;
}

/* =============================================== SUBSCRIBE, delivery worker */

#define WISHES_MAX 8192 /* beyond it they are found again with their queues */
#define WISHES_TICK 64	/* in one round of the loop */
#define OUT_MAX 256		/* SUBSCRIBEs without answer */
#define LOOK_MS 1000	/* in the index, where subscriptions are */
#define IDLE_MS 5000	/* where none are */
#define AGAIN_MS 1000	/* after the store did not answer */
#define BUCKETS 1024
#define HEADERS_MAX 2048

/* A user of whose clients somebody is to know. */
struct wish
{
	struct wish *next;	/* in the list */
	struct wish *other; /* in its bucket */
	bool look;			/* its queue is to be looked at where it has clients */
	bool made;			/* the subscription is, and is to be seen to */
	size_t aor_len;
	char aor[];
};

/* A SUBSCRIBE that has no answer yet. */
struct sent
{
	uint32_t cseq;
	bool in_dialog;
	size_t call_id_len, aor_len;
	char call_id[64];
	char aor[CPM_AOR_MAX];
};

static unsigned self;
static struct wish *first, **end = &first;
static struct wish *buckets[BUCKETS];
static size_t wish_count;
static size_t out_count;
static uint64_t look_at_ms;
static uint64_t rest_until_ms;
static uint32_t expires_floor_s; /* a registrar wants no less */

static struct wish **bucket_of(struct cpm_pl aor)
{
	return &buckets[(cpm_hash64(CPM_HASH_INIT, aor) >> 16) % BUCKETS];
}

static struct cpm_pl wish_aor(const struct wish *w)
{
	return cpm_pl(w->aor, w->aor_len);
}

static struct wish *wish_add(struct cpm_pl aor)
{
	struct wish **bucket = bucket_of(aor);
	struct wish *w;

	for(w = *bucket; w != NULL; w = w->other) {
		if(cpm_pl_eq(wish_aor(w), aor)) {
			return w;
		}
	}
	if(wish_count >= WISHES_MAX || aor.n == 0 || aor.n > CPM_AOR_MAX) {
		pf_stat(CPM_STAT_hints_lost);
		return NULL;
	}
	w = calloc(1, sizeof(*w) + aor.n);
	if(w == NULL) {
		return NULL;
	}
	w->aor_len = aor.n;
	memcpy(w->aor, aor.p, aor.n);
	w->other = *bucket;
	*bucket = w;
	*end = w;
	end = &w->next;
	wish_count++;
	return w;
}

static void wish_drop_first(void)
{
	struct wish *w = first;
	struct wish **at = bucket_of(wish_aor(w));

	while(*at != w) {
		at = &(*at)->other;
	}
	*at = w->other;
	first = w->next;
	if(first == NULL) {
		end = &first;
	}
	wish_count--;
	free(w);
}

void pf_regevent_hint(const struct pf_hint *h)
{
	struct wish *w;

	if(!is_on()
			|| (h->kind != PF_HINT_QUEUED && h->kind != PF_HINT_CHANGED
					&& h->kind != PF_HINT_REG)) {
		return;
	}
	w = wish_add(cpm_pl(h->aor, h->aor_len));
	if(w != NULL) {
		/* whoever queued it saw no client: one may have come meanwhile, by way
		 * of another node */
		w->look = w->look || h->kind == PF_HINT_CHANGED;
		w->made = w->made || h->kind == PF_HINT_REG;
	}
}

void pf_regevent_check(struct cpm_pl aor)
{
	if(subscribes()) {
		(void)wish_add(aor);
	}
}

/* -------------------------------------------------------------- requests */

static void name_addr(struct cpm_wr *w, struct cpm_pl uri)
{
	cpm_wr_chr(w, '<');
	cpm_wr_pl_put(w, uri);
	cpm_wr_chr(w, '>');
}

/* Who we are to the registrar: parameter pf_uri, or an address of the first
 * home domain. */
static void own_put(struct cpm_wr *w)
{
	if(pf_params.pf_uri[0] != '\0') {
		name_addr(w, cpm_pl_str(pf_params.pf_uri));
		return;
	}
	cpm_wr_str(w, "<sip:cpm@");
	cpm_wr_pl_put(w, pf_conf.domain_count > 0 ? pf_conf.domains[0]
											  : pf_conf.accept.call_id_host);
	cpm_wr_chr(w, '>');
}

static void headers_put(
		struct cpm_wr *w, const struct io_contacts_order *o, struct cpm_pl own)
{
	uint32_t expires_s = (uint32_t)pf_params.reg_expires;

	if(expires_s < expires_floor_s) {
		expires_s = expires_floor_s;
	}
	cpm_wr_str(w, "Contact: ");
	pf_uac_contact_put(w, CPM_PL_NULL);
	cpm_wr_str(
			w, "\r\nEvent: reg\r\nAccept: " CPM_REGINFO_TYPE "\r\nExpires: ");
	cpm_wr_u64(w, o->op == IO_CONTACTS_UNSUBSCRIBE ? 0 : expires_s);
	/* an application server is known by it (3GPP TS 24.229) */
	cpm_wr_str(w, "\r\nP-Asserted-Identity: ");
	cpm_wr_pl_put(w, own);
	cpm_wr_str(w, "\r\n");
}

static void on_answer(void *owner, unsigned code)
{
	struct sent *s = owner;
	struct cpm_pl aor = cpm_pl(s->aor, s->aor_len);
	uint32_t wait_s = pf_uac_wait_s();
	struct cpm_reg_plan plan = cpm_reg_answer(code, s->in_dialog, wait_s);

	out_count--;
	pf_stat(code < 300 ? CPM_STAT_reg_subscribed : CPM_STAT_reg_failed);
	if(code == 423 && wait_s > expires_floor_s && wait_s <= KEEP_S_MAX) {
		expires_floor_s = wait_s;
		plan.after_s = 0;
	}
	if(plan.next != CPM_REG_NEXT_KEEP) {
		LM_INFO("regevent: SUBSCRIBE refused aor=%.*s code=%u %s\n", (int)aor.n,
				aor.p, code,
				plan.next == CPM_REG_NEXT_REST	 ? "given-up-for-long"
				: plan.next == CPM_REG_NEXT_ANEW ? "anew"
												 : "retry");
		(void)pf_store_note(
				"registration", io_contacts_answer(pf_store(), aor,
										cpm_pl(s->call_id, s->call_id_len),
										s->cseq, plan, first_ms()));
		look_at_ms = 0;
	}
	free(s);
}

static int subscribe(struct cpm_pl aor, const struct io_contacts_order *o)
{
	char own[CPM_REGINFO_URI_MAX + 2], to[CPM_AOR_MAX + 2];
	char headers[HEADERS_MAX];
	struct cpm_wr own_w, to_w, w;
	struct pf_uac_request r;
	struct sent *s;
	int rc;

	if(o->call_id.n > sizeof(s->call_id)) {
		return CPM_EPROTO;
	}
	s = calloc(1, sizeof(*s));
	if(s == NULL) {
		return CPM_ENOMEM;
	}
	s->cseq = o->cseq;
	s->in_dialog = o->remote_tag.n > 0;
	s->call_id_len = o->call_id.n;
	memcpy(s->call_id, o->call_id.p, o->call_id.n);
	s->aor_len = aor.n;
	memcpy(s->aor, aor.p, aor.n);
	cpm_wr_init(&own_w, own, sizeof(own));
	own_put(&own_w);
	cpm_wr_init(&to_w, to, sizeof(to));
	name_addr(&to_w, aor);
	cpm_wr_init(&w, headers, sizeof(headers));
	headers_put(&w, o, cpm_wr_pl(&own_w));
	memset(&r, 0, sizeof(r));
	r.method = "SUBSCRIBE";
	r.ruri = s->in_dialog ? o->target : aor;
	r.from = cpm_wr_pl(&own_w);
	r.from_tag = o->local_tag;
	r.to = cpm_wr_pl(&to_w);
	r.to_tag = o->remote_tag;
	r.call_id = o->call_id;
	r.cseq = o->cseq;
	r.headers = cpm_wr_pl(&w);
	r.routes = s->in_dialog ? o->routes : pf_conf.reg_hop;
	rc = cpm_wr_ok(&w) && cpm_wr_ok(&own_w)
				 ? pf_uac_send(&r, on_answer, s, NULL)
				 : CPM_EPROTO;
	if(rc != CPM_OK) {
		free(s);
		return rc;
	}
	out_count++;
	return CPM_OK;
}

/* What this user's subscription needs now. CPM_OK, or what the store said. */
static int serve(struct cpm_pl aor)
{
	unsigned char bytes[32];
	char tag[CPM_REG_TAG_MAX], call_id[CPM_REG_TAG_MAX];
	char aor_buf[CPM_AOR_MAX], id_buf[64];
	struct io_contacts_take take = {.aor = aor,
			.wait_ms = (uint64_t)pf_params.reg_timeout * 1000,
			.linger_ms = linger_ms(),
			.first_ms = first_ms()};
	struct io_contacts_order o;
	struct cpm_reg_plan retry = {CPM_REG_NEXT_RETRY, 0};
	size_t id_len;
	uint32_t cseq;
	int rc;

	/* whoever could guess them could tell us who is registered */
	if(getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
		return CPM_EDOWN;
	}
	take.tag = cpm_reg_tag(bytes, tag);
	take.call_id = cpm_reg_tag(bytes + 16, call_id);
	if(aor.n > sizeof(aor_buf)) {
		return CPM_OK;
	}
	take.aor = cpm_pl(memcpy(aor_buf, aor.p, aor.n), aor.n);
	rc = pf_store_note("registration", io_contacts_take(pf_store(), &take, &o));
	if(rc != CPM_OK) {
		return rc == CPM_ENOENT ? CPM_OK : rc;
	}
	rc = subscribe(take.aor, &o);
	if(rc != CPM_OK && o.call_id.n <= sizeof(id_buf)) {
		pf_stat(CPM_STAT_reg_failed);
		LM_INFO("regevent: SUBSCRIBE not sent result=%s aor=%.*s\n",
				cpm_rc_name(rc), (int)take.aor.n, take.aor.p);
		id_len = o.call_id.n;
		memcpy(id_buf, o.call_id.p, id_len);
		cseq = o.cseq;
		(void)pf_store_note("registration",
				io_contacts_answer(pf_store(), take.aor, cpm_pl(id_buf, id_len),
						cseq, retry, first_ms()));
	}
	return CPM_OK;
}

/* ------------------------------------------------------------------ loop */

/* CPM_OK, or what the store said: then it is to be asked again. */
static int wish_serve(const struct wish *w)
{
	struct cpm_pl aor = wish_aor(w);
	struct io_contacts_wanted wanted;
	int rc;

	if(w->made) {
		rc = serve(aor);
		if(rc != CPM_OK || !w->look) {
			return rc;
		}
	}
	rc = pf_store_note("registration",
			io_contacts_want(pf_store(), aor, 0, may_subscribe(), &wanted));
	if(rc != CPM_OK) {
		return rc;
	}
	if(wanted.sub == IO_CONTACTS_NO_MORE && subscribes()) {
		pf_stat(CPM_STAT_reg_failed);
	}
	if(w->look && wanted.queued && wanted.contacts > 0
			&& pf_conf.registrar_reginfo) {
		pf_hint_user(PF_HINT_QUEUED, aor, CPM_LEASE_WHEN_DUE);
	}
	if(wanted.sub == IO_CONTACTS_NEW) {
		atomic_fetch_add(&shared->subscriptions[self], 1);
		if(look_at_ms > io_clock_mono_ms() + LOOK_MS) {
			look_at_ms = io_clock_mono_ms() + LOOK_MS;
		}
		return serve(aor);
	}
	return CPM_OK;
}

static void look(uint64_t now_ms)
{
	static struct cpm_pl found[CPM_QUEUE_SHARDS * IO_CONTACTS_DUE_MAX];
	unsigned shards[CPM_QUEUE_SHARDS];
	uint64_t next_ms = UINT64_MAX, all = 0;
	size_t shard_count = 0, count = 0;
	struct wish *w;
	unsigned i;
	size_t n;

	look_at_ms = now_ms + LOOK_MS;
	for(i = 0; i < CPM_QUEUE_SHARDS; i++) {
		if(pf_hint_worker_of_shard(i) == self) {
			shards[shard_count++] = i;
		}
	}
	if(shard_count == 0
			|| pf_store_note("registrations",
					   io_contacts_due(pf_store(), shards, shard_count,
							   pf_conf.deliver.lease_ms, IO_CONTACTS_DUE_MAX,
							   found, &count, &next_ms, &all))
					   != CPM_OK) {
		return;
	}
	atomic_store(&shared->subscriptions[self], all);
	cpm_stat_set(pf_stats, CPM_STAT_reg_subscriptions, subscriptions());
	for(n = 0; n < count; n++) {
		w = wish_add(found[n]);
		if(w != NULL) {
			w->made = true;
		}
	}
	look_at_ms = now_ms + (all > 0 ? LOOK_MS : IDLE_MS);
	if(next_ms < LOOK_MS) {
		look_at_ms = now_ms + (next_ms > 200 ? next_ms : 200);
	}
}

void pf_regevent_tick(void)
{
	uint64_t now_ms = io_clock_mono_ms();
	unsigned n;
	int rc;

	if(!is_on() || now_ms < rest_until_ms) {
		return;
	}
	if(subscribes() && now_ms >= look_at_ms && out_count < OUT_MAX) {
		look(now_ms);
	}
	for(n = 0; first != NULL && n < WISHES_TICK && out_count < OUT_MAX; n++) {
		rc = wish_serve(first);
		if(rc == CPM_EDOWN || rc == CPM_EUNSURE) {
			/* all that is written may be written again */
			rest_until_ms = io_clock_mono_ms() + AGAIN_MS;
			return;
		}
		wish_drop_first();
	}
}

bool pf_regevent_is_pending(void)
{
	uint64_t now_ms = io_clock_mono_ms();

	return is_on() && now_ms >= rest_until_ms
		   && (first != NULL || (subscribes() && now_ms + 100 >= look_at_ms));
}

void pf_regevent_start(unsigned worker)
{
	self = worker;
}
