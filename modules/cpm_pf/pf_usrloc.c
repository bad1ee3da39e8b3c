/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_usrloc.h"

#include "core/cpm_ulname.h"
#include "core/cpm_wr.h"
#include "pf_conf.h"
#include "pf_hint.h"
#include "pf_regevent.h"
#include "pf_str.h"

#include "../../core/dprint.h"
#include "../../core/parser/contact/parse_contact.h"
#include "../../core/parser/msg_parser.h"
#include "../../core/script_cb.h"
#include "../../core/socket_info.h"
#include "../../core/sr_module.h"
#include "../../core/tcp_conn.h"
#include "../../core/xavp.h"
#include "../usrloc/usrloc.h"

/* Copies of one user's contacts. */
#define ARENA_BYTES 65536
#define CAPS_BYTES_MAX 512 /* location_attrs.avalue has no more */

static usrloc_api_t ul;
static udomain_t *location;
static char arena[ARENA_BYTES];
static char gruu_aor[CPM_AOR_MAX];

/* ---------------------------------------------------------- feature tags */

static str caps_root = str_init("cpm_pf");
static str caps_name = str_init("cpm_pf_caps");

/* The request whose script runs: when a binding is stored, its REGISTER. */
static struct sip_msg *request_now;

static int on_request_begin(
		struct sip_msg *msg, unsigned int flags, void *param)
{
	request_now = msg;
	return 1;
}

static int on_request_end(struct sip_msg *msg, unsigned int flags, void *param)
{
	request_now = NULL;
	return 1;
}

/* The parameters of a Contact as they stand, without the ';' before them. */
static struct cpm_pl params_of(const contact_t *c)
{
	const param_t *p;
	const char *from = NULL;
	const char *to = NULL;

	for(p = c->params; p != NULL; p = p->next) {
		if(from == NULL || p->name.s < from) {
			from = p->name.s;
		}
		if(to == NULL || p->name.s + p->len > to) {
			to = p->name.s + p->len;
		}
	}
	return from != NULL ? cpm_pl(from, (size_t)(to - from)) : CPM_PL_NULL;
}

static struct cpm_pl caps_registered(const struct ucontact *uc)
{
	contact_t *c = NULL;

	if(request_now == NULL || request_now->first_line.type != SIP_REQUEST
			|| request_now->first_line.u.request.method_value
					   != METHOD_REGISTER) {
		return CPM_PL_NULL;
	}
	while(contact_iterator(&c, request_now, c) == 0 && c != NULL) {
		if(cpm_pl_eq(pf_pl(c->uri), pf_pl(uc->c))) {
			return params_of(c);
		}
	}
	return CPM_PL_NULL;
}

/* Where the attribute is: a list below the root attribute that usrloc may
 * have made (xavp_contact), or one of ours. */
static sr_xavp_t *caps_attribute(const struct ucontact *c)
{
	if(c->xavp == NULL || c->xavp->val.type != SR_XTYPE_XAVP) {
		return NULL;
	}
	return xavp_get(&caps_name, c->xavp->val.v.xavp);
}

static void caps_note(struct ucontact *c)
{
	struct cpm_pl params = caps_registered(c);
	sr_xavp_t *list = NULL;
	sr_xval_t v;

	if(params.n == 0 || params.n > CAPS_BYTES_MAX) {
		return; /* nothing said: what was said before holds */
	}
	if(c->xavp != NULL && c->xavp->val.type == SR_XTYPE_XAVP) {
		xavp_rm_by_name(&caps_name, 1, &c->xavp->val.v.xavp);
	}
	memset(&v, 0, sizeof(v));
	v.type = SR_XTYPE_STR;
	v.v.s.s = (char *)params.p;
	v.v.s.len = (int)params.n;
	if(c->xavp != NULL) {
		if(c->xavp->val.type == SR_XTYPE_XAVP) {
			xavp_add_value(&caps_name, &v, &c->xavp->val.v.xavp);
		}
		return;
	}
	if(xavp_add_value(&caps_name, &v, &list) == NULL) {
		LM_ERR("usrloc: no shared memory for a client's feature tags\n");
		return;
	}
	memset(&v, 0, sizeof(v));
	v.type = SR_XTYPE_XAVP;
	v.v.xavp = list;
	if(xavp_add_value(&caps_root, &v, &c->xavp) == NULL) {
		xavp_destroy_list(&list);
		LM_ERR("usrloc: no shared memory for a client's feature tags\n");
	}
}

/* --------------------------------------------------------------- trigger */

/* A binding was stored. Under the lock of its slot. */
static void on_contact(struct ucontact *c, int type, void *param)
{
	char buf[CPM_AOR_MAX];
	enum cpm_lease_force force;
	struct cpm_pl aor;
	size_t i, n;

	if(c->aor == NULL || c->domain == NULL
			|| !cpm_pl_eq(
					pf_pl(*c->domain), cpm_pl_str(pf_params.usrloc_domain))) {
		return;
	}
	caps_note(c);
	if(!pf_params.register_trigger) {
		return;
	}
	/* A new binding: the user came back, nothing is to wait for. A refresh
	 * says only that the client is there: it ends the wait of what could not
	 * reach it, not of what it refused. */
	force = (type & UL_CONTACT_INSERT) ? CPM_LEASE_ALL : CPM_LEASE_UNREACHABLE;
	/* without domains in the table, a name is a user of each of ours */
	n = ul.use_domain || pf_conf.domain_count == 0 ? 1 : pf_conf.domain_count;
	for(i = 0; i < n; i++) {
		if(cpm_ulname_to_aor(pf_pl(*c->aor), ul.use_domain != 0,
				   pf_conf.domain_count > 0 ? pf_conf.domains[i] : CPM_PL_NULL,
				   buf, sizeof(buf), &aor)
				== CPM_OK) {
			pf_hint_user(PF_HINT_REGISTERED, aor, force);
		}
	}
}

int pf_usrloc_init(void)
{
	bind_usrloc_t bind_usrloc;

	bind_usrloc = (bind_usrloc_t)find_export("ul_bind_usrloc", 1, 0);
	if(bind_usrloc == NULL || bind_usrloc(&ul) < 0) {
		LM_ERR("usrloc: not loaded; loadmodule \"usrloc.so\" must come before "
			   "cpm_pf.so\n");
		return -1;
	}
	if(ul.register_udomain(pf_params.usrloc_domain, &location) < 0) {
		LM_ERR("parameter usrloc_domain: no location table \"%s\"\n",
				pf_params.usrloc_domain);
		return -1;
	}
	if(!ul.use_domain && pf_conf.domain_count == 0) {
		LM_ERR("parameter domain: is needed where usrloc has use_domain 0: "
			   "set modparam(\"cpm_pf\", \"domain\", \"example.org\"), or "
			   "use_domain to 1\n");
		return -1;
	}
	if(ul.register_ulcb(UL_CONTACT_INSERT | UL_CONTACT_UPDATE, on_contact, NULL)
					< 0
			|| register_script_cb(
					   on_request_begin, PRE_SCRIPT_CB | REQUEST_CB, NULL)
					   < 0
			|| register_script_cb(
					   on_request_end, POST_SCRIPT_CB | REQUEST_CB, NULL)
					   < 0) {
		LM_ERR("usrloc: the registration trigger could not be set\n");
		return -1;
	}
	return 0;
}

/* --------------------------------------------------------------- contacts */

/* Copies into the arena; false: full. */
static bool keep(str from, size_t *used, struct cpm_pl *to_r)
{
	struct cpm_pl s = pf_pl(from);

	if(s.n > sizeof(arena) - *used) {
		return false;
	}
	if(s.n > 0) {
		memcpy(arena + *used, s.p, s.n);
	}
	*to_r = cpm_pl(arena + *used, s.n);
	*used += s.n;
	return true;
}

/* Whether the connection that a client registered over is still there. One
 * without a connection is reached by sending. */
static bool is_connected(int id)
{
	struct tcp_connection *con;
	bool good;

	if(id <= 0) {
		return true;
	}
	con = tcpconn_get(id, 0, 0, 0, 0);
	if(con == NULL) {
		return false;
	}
	good = con->state == S_CONN_OK;
	tcpconn_put(con);
	return good;
}

/* As registrar makes it: <AoR>;gr=<instance>. The AoR is the canonical one,
 * which is how a rule's author would write it. */
static bool gruu_keep(const ucontact_t *c, size_t *used, struct cpm_pl *gruu_r)
{
	struct cpm_pl instance = pf_pl(c->instance);
	struct cpm_pl aor;
	struct cpm_wr w;

	if(instance.n <= 2 || instance.p[0] != '<') {
		return true;
	}
	cpm_wr_init(&w, arena + *used, sizeof(arena) - *used);
	if(cpm_ulname_to_aor(pf_pl(*c->aor), ul.use_domain != 0,
			   pf_conf.domain_count > 0 ? pf_conf.domains[0] : CPM_PL_NULL,
			   gruu_aor, sizeof(gruu_aor), &aor)
			!= CPM_OK) {
		return true;
	}
	cpm_wr_pl_put(&w, aor);
	cpm_wr_str(&w, ";gr=");
	cpm_wr_pl_put(&w, cpm_pl(instance.p + 1, instance.n - 2));
	if(!cpm_wr_ok(&w)) {
		return false;
	}
	*gruu_r = cpm_wr_pl(&w);
	*used += w.n;
	return true;
}

static bool contact_of(
		const ucontact_t *c, size_t *used, struct pf_contact *contact_r)
{
	struct pf_contact contact;
	sr_xavp_t *caps = caps_attribute(c);
	str caps_text = STR_NULL;
	str sock = STR_NULL;
	size_t mark = *used;

	memset(&contact, 0, sizeof(contact));
	if(c->sock != NULL) {
		sock = c->sock->sock_str;
	}
	if(caps != NULL && caps->val.type == SR_XTYPE_STR) {
		caps_text = caps->val.v.s;
	}
	if(!keep(c->c, used, &contact.c.uri)
			|| !keep(c->received, used, &contact.c.received)
			|| !keep(c->path, used, &contact.c.path)
			|| !keep(sock, used, &contact.c.socket)
			|| !keep(caps_text, used, &contact.caps)
			|| !keep(c->instance, used, &contact.instance)
			|| !keep(c->ruid, used, &contact.ruid)
			|| !keep(c->user_agent, used, &contact.user_agent)) {
		*used = mark;
		return false;
	}
	if(!gruu_keep(c, used, &contact.gruu)) {
		*used = mark;
		return false;
	}
	contact.c.q = c->q == Q_UNSPECIFIED ? -1 : c->q;
	/* usrloc sets all bits where the client gave no Allow */
	contact.c.takes_message = (c->methods & METHOD_MESSAGE) != 0;
	contact.takes_invite = (c->methods & METHOD_INVITE) != 0;
	contact.takes_notify = (c->methods & METHOD_NOTIFY) != 0;
	contact.registration = cpm_hash64(CPM_HASH_INIT, pf_pl(c->callid));
	contact.c.last_modified_s = (uint64_t)c->last_modified;
	contact.reg_id = c->reg_id;
	contact.flags = c->cflags;
	contact.connection = c->tcpconn_id;
	/* behind an edge proxy the connection is the proxy's, and not missed */
	contact.connected = c->path.len > 0 || is_connected(c->tcpconn_id);
	*contact_r = contact;
	return true;
}

/* Calls fn with each unexpired binding of a user, under the lock of its slot,
 * until it says false. */
static void bindings_walk(struct cpm_pl aor,
		bool (*fn)(const ucontact_t *c, void *ctx), void *ctx)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl name;
	urecord_t *record = NULL;
	ucontact_t *c;
	time_t now = time(NULL);
	bool more = true;
	str key;

	if(cpm_ulname_from_aor(aor, ul.use_domain != 0, buf, sizeof(buf), &name)
			!= CPM_OK) {
		return;
	}
	key = pf_str(name);
	ul.lock_udomain(location, &key);
	if(ul.get_urecord(location, &key, &record) == 0 && record != NULL) {
		for(c = record->contacts; c != NULL && more; c = c->next) {
			if(VALID_CONTACT(c, now)) {
				more = fn(c, ctx);
			}
		}
		if(ul.db_mode == DB_ONLY) {
			ul.release_urecord(record);
		}
	}
	ul.unlock_udomain(location, &key);
}

struct copies
{
	struct pf_contact *contacts;
	size_t n;
	size_t used; /* of the arena */
};

static bool binding_copy(const ucontact_t *c, void *ctx)
{
	struct copies *to = ctx;

	if(contact_of(c, &to->used, &to->contacts[to->n])) {
		to->n++;
	}
	return to->n < CPM_CONTACTS_MAX;
}

int pf_usrloc_contacts(
		struct cpm_pl aor, struct pf_contact *contacts, size_t *count_r)
{
	struct copies to = {contacts, 0, 0};
	int rc;

	if(pf_conf.registrar_usrloc) {
		bindings_walk(aor, binding_copy, &to);
	}
	*count_r = to.n;
	rc = pf_regevent_contacts(aor, contacts, count_r);
	/* who is known here is there, whatever is known elsewhere */
	return to.n > 0 ? CPM_OK : rc;
}

static bool binding_found(const ucontact_t *c, void *ctx)
{
	*(bool *)ctx = true;
	return false;
}

bool pf_usrloc_is_registered(struct cpm_pl aor)
{
	static struct pf_contact elsewhere[CPM_CONTACTS_MAX];
	bool found = false;
	size_t count = 0;

	if(pf_conf.registrar_usrloc) {
		bindings_walk(aor, binding_found, &found);
	}
	/* where that cannot be told, a look costs less than a message left lying */
	return found || pf_regevent_contacts(aor, elsewhere, &count) != CPM_OK
		   || count > 0;
}

struct socket_info *pf_usrloc_socket(struct cpm_pl name)
{
	char text[128];
	str host = STR_NULL;
	int port = 0;
	int proto = 0;

	if(name.n == 0 || name.n >= sizeof(text)) {
		return NULL;
	}
	/* parse_phostport reads to the NUL */
	if(parse_phostport(cpm_pl_cstr(name, text, sizeof(text)), &host.s,
			   &host.len, &port, &proto)
			< 0) {
		return NULL;
	}
	return grep_sock_info(&host, (unsigned short)port, (unsigned short)proto);
}

void pf_usrloc_client(
		const struct pf_contact *contact, struct cpm_client *client_r)
{
	struct cpm_client client;
	struct cpm_pl instance = contact->instance;

	memset(&client, 0, sizeof(client));
	cpm_caps_parse(contact->caps, &client.caps);
	if(instance.n > 2 && instance.p[0] == '<') {
		instance = cpm_pl(instance.p + 1, instance.n - 2);
	}
	if(instance.n > 0) {
		client.caps.instance = instance;
	}
	if(contact->gruu.n > 0) {
		client.caps.pub_gruu = contact->gruu;
	}
	client.takes_message = contact->c.takes_message;
	client.connected = contact->connected;
	*client_r = client;
}

enum cpm_session pf_usrloc_session(const struct pf_contact *contact)
{
	struct cpm_caps caps;

	if(!contact->takes_invite) {
		return CPM_SESSION_NONE;
	}
	cpm_caps_parse(contact->caps, &caps);
	return cpm_client_session(&caps);
}
