/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "msrp_int.h"

#include <stdlib.h>

#define NOT_STARTED_MS 300000 /* the peer's phone may ring so long */
#define BIND_MS 200			  /* a message that comes now is the first SEND */

/* ---- finding ---- */

static size_t slot_of_number(const struct msrp_control *c, uint64_t number)
{
	uint64_t key[2] = {number, c->index};

	return cpm_hash64(c->m->hash_seed, cpm_pl((const char *)key, sizeof(key)))
		   % MSRP_SLOTS;
}

static size_t slot_of_id(const struct msrp *m, struct cpm_pl id)
{
	return cpm_hash64(m->hash_seed, id) % MSRP_SLOTS;
}

struct msrp_session *msrp_session_find(
		const struct msrp_control *c, uint64_t number)
{
	struct msrp_session *s;

	for(s = LIST_FIRST(&c->m->by_number[slot_of_number(c, number)]); s != NULL;
			s = LIST_NEXT(s, by_number)) {
		if(s->number == number && s->control == c)
			return s;
	}
	return NULL;
}

struct msrp_session *msrp_session_by_id(struct msrp *m, struct cpm_pl id)
{
	struct msrp_session *s;

	for(s = LIST_FIRST(&m->by_id[slot_of_id(m, id)]); s != NULL;
			s = LIST_NEXT(s, by_id)) {
		if(cpm_pl_eq(s->id, id))
			return s;
	}
	return NULL;
}

/* ---- messages ---- */

static void message_free(struct msrp_session *s, struct msrp_message *msg)
{
	size_t left = evbuffer_get_length(msg->data);

	TAILQ_REMOVE(&s->out, msg, link);
	s->messages--;
	s->given -= msg->tx_handle != 0;
	s->held -= left;
	msrp_memory_add(s->control->m, -(int64_t)left);
	evbuffer_free(msg->data);
	free(msg);
}

static struct msrp_message *message_of(
		struct msrp_session *s, uint32_t tx_handle)
{
	struct msrp_message *msg;

	for(msg = TAILQ_FIRST(&s->out); msg != NULL; msg = TAILQ_NEXT(msg, link)) {
		if(msg->tx_handle == tx_handle)
			return msg;
	}
	return NULL;
}

static struct msrp_message *message_find(
		struct msrp_session *s, uint32_t handle)
{
	struct msrp_message *msg;

	for(msg = TAILQ_FIRST(&s->out); msg != NULL; msg = TAILQ_NEXT(msg, link)) {
		if(msg->handle == handle)
			return msg;
	}
	return NULL;
}

/* Gives the engine bytes that it takes; whether it took any. */
static bool feed(struct msrp_session *s, struct msrp_message *msg)
{
	struct msrp *m = s->control->m;
	bool any = false;
	size_t n;

	if(msg->tx_handle == 0)
		return false;
	while((n = evbuffer_get_length(msg->data)) > 0) {
		if(n > MSRP_OUT)
			n = MSRP_OUT;
		const unsigned char *p = evbuffer_pullup(msg->data, (ev_ssize_t)n);
		if(p == NULL)
			break;
		ptrdiff_t k = cpm_msrp_sess_put(&s->engine->sess, msg->tx_handle,
				cpm_pl((const char *)p, n), msrp_now(m));
		if(k <= 0)
			break;
		(void)evbuffer_drain(msg->data, (size_t)k);
		s->held -= (uint64_t)k;
		msrp_memory_add(m, -(int64_t)k);
		any = true;
	}
	return any;
}

/* Bytes of a message that the delivery worker gave. NULL, or why not. */
static const char *hold(
		struct msrp_session *s, struct msrp_message *msg, struct cpm_pl data)
{
	struct msrp *m = s->control->m;

	if(data.n > CPM_CTL_WINDOW - s->held)
		return "too-much";
	if(!msrp_memory_left(m, data.n)
			|| evbuffer_add(msg->data, data.p, data.n) != 0)
		return "no-memory";
	msg->got += data.n;
	s->held += data.n;
	msrp_memory_add(m, (int64_t)data.n);
	return NULL;
}

/* ---- life ---- */

void msrp_session_free(struct msrp_session *s)
{
	struct msrp *m = s->control->m;
	struct msrp_message *msg;

	while((msg = TAILQ_FIRST(&s->out)) != NULL)
		message_free(s, msg);
	msrp_memory_add(m, -(int64_t)s->memory);
	free(s->engine);
	free(s->own);
	free(s->peer);
	free(s->peer_seen);
	free(s->fingerprint);
	free(s);
}

static void end(struct msrp_session *s)
{
	struct msrp *m = s->control->m;

	s->is_dead = true;
	if(s->conn != NULL)
		msrp_conn_detach(s->conn, s);
	(void)event_del(&s->timer);
	LIST_REMOVE(s, by_number);
	LIST_REMOVE(s, by_id);
	TAILQ_INSERT_TAIL(&m->dead_sessions, s, in_conn);
	msrp_reap_soon(m);
}

void msrp_session_down(struct msrp_session *s, unsigned code, const char *why)
{
	if(s->is_dead)
		return;
	msrp_control_say_end(s->control, CPM_CTL_DOWN, s->number, 0, code, why);
	end(s);
}

void msrp_session_close(struct msrp_session *s)
{
	if(!s->is_dead)
		end(s);
}

void msrp_session_drop_all(struct msrp_control *c)
{
	struct msrp *m = c->m;
	struct msrp_session *s, *next;

	for(size_t i = 0; i < MSRP_SLOTS; i++) {
		for(s = LIST_FIRST(&m->by_number[i]); s != NULL; s = next) {
			next = LIST_NEXT(s, by_number);
			if(s->control == c)
				end(s);
		}
	}
}

/* ---- time ---- */

void msrp_session_arm(struct msrp_session *s)
{
	int64_t now, due = s->wait_ms < s->bind_ms ? s->wait_ms : s->bind_ms;

	if(s->is_dead)
		return;
	if(s->engine != NULL) {
		int64_t engine = cpm_msrp_sess_deadline(&s->engine->sess);
		due = engine < due ? engine : due;
	}
	/* one that fires too early looks again */
	if(due == CPM_MSRP_NEVER || s->timer_ms <= due)
		return;
	now = msrp_now(s->control->m);
	s->timer_ms = due;
	msrp_timer_set(&s->timer, due > now ? due - now : 1);
}

static void waited_too_long(struct msrp_session *s)
{
	if(s->engine == NULL)
		msrp_session_down(s, 408, "not-started");
	else if(s->flags & CPM_CTL_CONNECT)
		msrp_session_down(s, 408, "connect-failed");
	else
		msrp_session_down(s, 408, "no-connection");
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct msrp_session *s = arg;
	int64_t now = msrp_now(s->control->m);

	(void)fd;
	(void)what;
	s->timer_ms = CPM_MSRP_NEVER;
	if(s->is_dead)
		return;
	if(s->wait_ms <= now) {
		waited_too_long(s);
		return;
	}
	if(s->engine != NULL) {
		cpm_msrp_sess_tick(&s->engine->sess, now);
		if(s->bind_ms <= now) {
			s->bind_ms = CPM_MSRP_NEVER;
			/* RFC 4975, 5.4: who connects says so by a SEND */
			(void)cpm_msrp_sess_bind(&s->engine->sess, now);
		}
	}
	msrp_session_run(s);
}

/* ---- what the engine has to tell ---- */

static void message_ends(struct msrp_session *s, const struct cpm_msrp_ev *ev)
{
	struct msrp_message *msg = message_of(s, ev->handle);
	bool done = ev->kind == CPM_MSRP_EV_DONE;

	if(msg == NULL)
		return;
	if(done)
		msrp_stat(s->control->m, CPM_STAT_msrp_messages);
	msrp_control_say_end(s->control, done ? CPM_CTL_DONE : CPM_CTL_FAILED,
			s->number, msg->handle, done ? 0 : ev->code, done ? NULL : ev->why);
	message_free(s, msg);
}

static const char *send_why(int rc)
{
	switch(rc) {
		case CPM_EEXIST:
			return "id-in-use";
		case CPM_EDOWN:
			return "session-gone";
		default:
			return "cannot-send";
	}
}

/* Gives the engine the messages that it has room for, in order. Whether there
 * were any. */
static bool give(struct msrp_session *s)
{
	struct msrp_message *msg, *next;
	bool any = false;

	for(msg = s->is_up && !s->is_binding ? TAILQ_FIRST(&s->out) : NULL;
			msg != NULL && s->given < MSRP_TX; msg = next) {
		struct cpm_msrp_send send = {.message_id = cpm_pl_str(msg->id),
				.content_type = cpm_pl_str(msg->content_type),
				.size = msg->size,
				.wait_report = (s->flags & CPM_CTL_REPORTS) != 0};
		uint32_t tx_handle = 0;

		next = TAILQ_NEXT(msg, link);
		if(msg->tx_handle != 0)
			continue;
		int rc = cpm_msrp_sess_send(
				&s->engine->sess, &send, msrp_now(s->control->m), &tx_handle);
		/* one that was given up is still on its way out */
		if(rc == CPM_EAGAIN)
			break;
		any = true;
		if(rc == CPM_OK) {
			msg->tx_handle = tx_handle;
			s->given++;
			continue;
		}
		msrp_control_say_end(s->control, CPM_CTL_FAILED, s->number, msg->handle,
				0, send_why(rc));
		message_free(s, msg);
	}
	return any;
}

/* The one word that is left when all other events have been told. */
struct verdict
{
	const char *why;
	unsigned code;
};

/* Whether the next event may be pulled. */
static bool take_event(
		struct msrp_session *s, const struct cpm_msrp_ev *ev, struct verdict *v)
{
	struct msrp_message *msg;

	switch(ev->kind) {
		case CPM_MSRP_EV_DONE:
		case CPM_MSRP_EV_FAILED:
			message_ends(s, ev);
			return true;
		case CPM_MSRP_EV_WANT:
			msg = message_of(s, ev->handle);
			return msg == NULL || evbuffer_get_length(msg->data) == 0
				   || feed(s, msg);
		case CPM_MSRP_EV_BOUND:
			if(ev->code == 408)
				*v = (struct verdict){"no-answer", 408};
			return true;
		case CPM_MSRP_EV_GONE:
			*v = (struct verdict){"session-gone", ev->code};
			return true;
		case CPM_MSRP_EV_IDLE:
			/* until it is up another time counts */
			if(s->is_up)
				*v = (struct verdict){"idle", 0};
			return true;
		case CPM_MSRP_EV_EXPIRED:
			*v = (struct verdict){"expired", 0};
			return true;
		default:
			/* what a peer sends us is answered by the engine, and dropped */
			return true;
	}
}

void msrp_session_pull(struct msrp_session *s)
{
	struct verdict v = {NULL, 0};
	struct cpm_msrp_ev ev;

	if(s->is_dead || s->in_pull || s->engine == NULL)
		return;
	s->in_pull = true;
	do
		while(cpm_msrp_sess_event(&s->engine->sess, &ev)
				&& take_event(s, &ev, &v))
			;
	while(v.why == NULL && give(s));
	s->in_pull = false;
	if(v.why != NULL)
		msrp_session_down(s, v.code, v.why);
}

void msrp_session_run(struct msrp_session *s)
{
	msrp_session_pull(s);
	if(!s->is_dead && s->conn != NULL)
		msrp_conn_pump(s->conn);
	msrp_session_arm(s);
}

/* ---- the connection is there ---- */

void msrp_session_connected(struct msrp_session *s)
{
	struct msrp_conn *c = s->conn;
	bool tls = (s->flags & CPM_CTL_TLS) != 0;

	if(s->is_dead || s->is_up || s->engine == NULL || c == NULL
			|| c->state != MSRP_OPEN)
		return;
	if(tls != c->is_tls || (s->fingerprint != NULL && !tls)) {
		msrp_session_down(s, 0, "tls-mismatch");
		return;
	}
	if(s->fingerprint != NULL
			&& !msrp_tls_matches(
					bufferevent_openssl_get_ssl(c->bev), s->fingerprint)) {
		msrp_session_down(s, 0, "fingerprint-mismatch");
		return;
	}
	s->is_up = true;
	s->wait_ms = CPM_MSRP_NEVER;
	if((s->flags & CPM_CTL_CONNECT) && s->messages == 0)
		s->bind_ms = msrp_now(s->control->m) + BIND_MS;
	msrp_control_say_end(s->control, CPM_CTL_UP, s->number, 0, 0, NULL);
	msrp_session_arm(s);
	if(!s->is_binding)
		msrp_session_pull(s); /* what has waited for it */
}

/* ---- orders ---- */

static void refuse(struct msrp_control *c, uint64_t number, const char *why)
{
	msrp_refused(c->m, why);
	msrp_control_say_end(c, CPM_CTL_DOWN, number, 0, 0, why);
}

static struct msrp_session *session_new(
		struct msrp_control *c, const struct cpm_ctl *o)
{
	struct msrp_session *s = calloc(1, sizeof(*s));
	struct cpm_msrp_uri uri;

	if(s == NULL)
		return NULL;
	TAILQ_INIT(&s->out);
	s->control = c;
	s->number = o->session;
	s->flags = o->flags;
	s->own = strndup(o->a.p, o->a.n);
	if(s->own == NULL
			|| cpm_msrp_uri_parse(cpm_pl_str(s->own), &uri, NULL) != CPM_OK
			|| event_assign(&s->timer, c->m->base, -1, 0, on_timer, s) != 0) {
		free(s->own);
		free(s);
		return NULL;
	}
	s->id = uri.session_id;
	s->memory = sizeof(*s) + o->a.n;
	s->timer_ms = s->bind_ms = CPM_MSRP_NEVER;
	s->wait_ms = msrp_now(c->m) + NOT_STARTED_MS;
	msrp_memory_add(c->m, (int64_t)s->memory);
	return s;
}

void msrp_session_prepare(struct msrp_control *c, const struct cpm_ctl *o)
{
	struct msrp *m = c->m;
	struct msrp_session *s = msrp_session_find(c, o->session);
	struct cpm_msrp_uri uri;

	if(s != NULL) {
		msrp_session_down(s, 0, "prepared-twice");
		return;
	}
	if(cpm_msrp_uri_parse(o->a, &uri, NULL) != CPM_OK)
		return; /* the codec has asked already */
	if(msrp_session_by_id(m, uri.session_id) != NULL) {
		refuse(c, o->session, "uri-in-use");
		return;
	}
	if(!msrp_memory_left(m, sizeof(*s) + sizeof(*s->engine))
			|| (s = session_new(c, o)) == NULL) {
		refuse(c, o->session, "no-memory");
		return;
	}
	LIST_INSERT_HEAD(&m->by_number[slot_of_number(c, s->number)], s, by_number);
	LIST_INSERT_HEAD(&m->by_id[slot_of_id(m, s->id)], s, by_id);
	msrp_stat(m, CPM_STAT_msrp_sessions);
	msrp_session_arm(s);
}

/* What START says, kept. NULL, or why not. */
static const char *keep(struct msrp_session *s, const struct cpm_ctl *o)
{
	struct msrp *m = s->control->m;
	size_t more = sizeof(*s->engine) + o->a.n + o->b.n;

	if(s->engine != NULL)
		return "started-twice";
	if(!msrp_memory_left(m, more))
		return "no-memory";
	s->engine = malloc(sizeof(*s->engine));
	s->peer = strndup(o->a.p, o->a.n);
	if(o->b.n > 0)
		s->fingerprint = strndup(o->b.p, o->b.n);
	if(s->engine == NULL || s->peer == NULL
			|| (o->b.n > 0 && s->fingerprint == NULL)) {
		free(s->engine);
		s->engine = NULL;
		return "no-memory";
	}
	s->memory += more;
	msrp_memory_add(m, (int64_t)more);
	s->flags = o->flags;
	s->max_size = o->size;
	return NULL;
}

static const char *engine_init(struct msrp_session *s)
{
	struct msrp *m = s->control->m;
	struct msrp_engine *e = s->engine;
	struct cpm_msrp_mem mem = {
			.out = e->out,
			.out_cap = sizeof(e->out),
			.tx = e->tx,
			.win = e->win,
			.rx = e->rx,
			.tx_n = MSRP_TX,
			.win_n = MSRP_WIN,
			.rx_n = MSRP_RX,
	};
	bool sessmatch = (s->flags & CPM_CTL_SESSMATCH) != 0;
	uint8_t seed[16];

	msrp_random(seed, sizeof(seed));
	int rc = cpm_msrp_sess_init(&e->sess, &m->sess_conf[sessmatch], &mem,
			cpm_pl_str(s->own), cpm_pl_str(s->peer), seed, msrp_now(m));
	return rc == CPM_OK ? NULL : e->sess.diag.why;
}

/* Who connected before START gave a path of his own. */
static const char *compare_paths(const struct msrp_session *s)
{
	struct cpm_msrp_path seen, told;

	if(s->peer_seen == NULL || (s->flags & CPM_CTL_SESSMATCH))
		return NULL;
	return cpm_msrp_path_parse(cpm_pl_str(s->peer_seen), &seen, NULL) == CPM_OK
						   && cpm_msrp_path_parse(
									  cpm_pl_str(s->peer), &told, NULL)
									  == CPM_OK
						   && cpm_msrp_path_eq(&seen, &told)
				   ? NULL
				   : "path-mismatch";
}

void msrp_session_start(struct msrp_session *s, const struct cpm_ctl *o)
{
	struct msrp *m = s->control->m;
	const char *why = keep(s, o);

	if(why == NULL)
		why = engine_init(s);
	if(why == NULL)
		why = compare_paths(s);
	if(why == NULL && s->conn == NULL && (s->flags & CPM_CTL_CONNECT))
		why = msrp_conn_connect(s);
	if(why != NULL) {
		msrp_session_down(s, 0, why);
		return;
	}
	s->wait_ms = msrp_now(m) + INT64_C(1000) * m->conf->msrp_connect_time;
	msrp_session_connected(s);
	msrp_session_run(s);
}

static struct msrp_message *message_new(
		struct msrp_session *s, const struct cpm_ctl *o)
{
	struct msrp_message *msg = calloc(1, sizeof(*msg) + o->b.n + 1);

	if(msg == NULL)
		return NULL;
	msg->data = evbuffer_new();
	if(msg->data == NULL) {
		free(msg);
		return NULL;
	}
	msg->handle = o->handle;
	msg->size = o->size;
	cpm_pl_cstr(o->a, msg->id, sizeof(msg->id));
	memcpy(msg->content_type, o->b.p, o->b.n);
	TAILQ_INSERT_TAIL(&s->out, msg, link);
	s->messages++;
	return msg;
}

static void send_failed(struct msrp_session *s, const struct cpm_ctl *o,
		unsigned code, const char *why)
{
	msrp_control_say_end(
			s->control, CPM_CTL_FAILED, s->number, o->handle, code, why);
}

void msrp_session_send(struct msrp_session *s, const struct cpm_ctl *o)
{
	struct msrp_message *msg;
	const char *why;

	if(s->engine == NULL) {
		send_failed(s, o, 0, "not-started");
		return;
	}
	if(s->max_size > 0 && o->size > s->max_size) {
		send_failed(s, o, 413, "too-large");
		return;
	}
	if(s->messages >= CPM_CTL_MESSAGES || message_find(s, o->handle) != NULL) {
		msrp_session_down(s, 0, "too-much");
		return;
	}
	msg = message_new(s, o);
	why = msg == NULL ? "no-memory" : hold(s, msg, o->data);
	if(why != NULL) {
		msrp_session_down(s, 0, why);
		return;
	}
	s->bind_ms = CPM_MSRP_NEVER;
	msrp_session_run(s);
}

void msrp_session_more(struct msrp_session *s, const struct cpm_ctl *o)
{
	struct msrp_message *msg = message_find(s, o->handle);
	const char *why = NULL;

	/* it has ended, and the sender does not know yet */
	if(msg == NULL)
		return;
	if(o->offset != msg->got || o->data.n > msg->size - msg->got)
		why = "bad-offset";
	else
		why = hold(s, msg, o->data);
	if(why != NULL) {
		msrp_session_down(s, 0, why);
		return;
	}
	(void)feed(s, msg);
	msrp_session_run(s);
}
