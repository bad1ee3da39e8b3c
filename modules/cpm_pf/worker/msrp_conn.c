/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "msrp_int.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define DRAIN_MS 5000 /* for what is written out to leave */
#define SHUT_MS 2000  /* for the peer's end of file */
#define MSRP_PORT 2855
#define STRIKE_REQUEST 8 /* a wrong request counts as so many answers */

static void input(struct msrp_conn *c);

static size_t out_length(const struct msrp_conn *c)
{
	return evbuffer_get_length(bufferevent_get_output(c->bev));
}

/* ---- how it ends ---- */

void msrp_conn_kill(struct msrp_conn *c)
{
	struct msrp *m = c->m;

	if(c->state == MSRP_DEAD)
		return;
	c->state = MSRP_DEAD;
	msrp_source_leave(c);
	(void)event_del(&c->timer);
	bufferevent_setcb(c->bev, NULL, NULL, NULL, NULL);
	(void)bufferevent_disable(c->bev, EV_READ | EV_WRITE);
	TAILQ_REMOVE(&m->conns, c, link);
	TAILQ_INSERT_TAIL(&m->dead_conns, c, link);
	m->conns_n--;
	cpm_stat_set(m->stats, CPM_STAT_msrp_connections, m->conns_n);
	msrp_reap_soon(m);
}

void msrp_conn_free(struct msrp_conn *c)
{
	msrp_memory_add(c->m, -(int64_t)c->memory);
	bufferevent_free(c->bev);
	free(c);
}

/* All of it has left: the peer may read it to its end, which a plain close
 * with input unread would not let it. */
static void shut(struct msrp_conn *c)
{
	SSL *ssl = bufferevent_openssl_get_ssl(c->bev);
	evutil_socket_t fd = bufferevent_getfd(c->bev);

	c->state = MSRP_SHUT;
	if(ssl != NULL) {
		(void)SSL_shutdown(ssl);
		ERR_clear_error();
	}
	if(fd < 0 || shutdown(fd, SHUT_WR) != 0) {
		msrp_conn_kill(c);
		return;
	}
	msrp_timer_set(&c->timer, SHUT_MS);
}

static void drain(struct msrp_conn *c)
{
	if(c->state == MSRP_CONNECTING) {
		msrp_conn_kill(c);
		return;
	}
	if(c->state != MSRP_OPEN)
		return;
	c->state = MSRP_DRAINING;
	c->has_tail = c->is_stalled = false;
	msrp_source_leave(c);
	msrp_timer_set(&c->timer, DRAIN_MS);
	bufferevent_setwatermark(c->bev, EV_WRITE, 0, 0);
	if(out_length(c) == 0)
		shut(c);
}

/* No byte will come or go any more. */
static void lost(struct msrp_conn *c, unsigned code, const char *why)
{
	struct msrp_session *s;

	if(c->state == MSRP_DEAD)
		return;
	c->state = MSRP_SHUT;
	while((s = TAILQ_FIRST(&c->sessions)) != NULL) {
		/* what the engine knows already is told before */
		msrp_session_pull(s);
		msrp_session_down(s, code, why);
	}
	msrp_conn_kill(c);
}

/* ---- sending ---- */

static void write_out(struct msrp_conn *c, struct cpm_pl bytes)
{
	if(bytes.n > 0)
		(void)bufferevent_write(c->bev, bytes.p, bytes.n);
}

/* Nobody else's bytes go into the middle of a chunk. */
static void settle(struct msrp_conn *c, const struct msrp_session *next)
{
	struct msrp_session *s = c->open_by;
	struct cpm_pl out;

	c->open_by = NULL;
	if(s == NULL || s == next || s->engine == NULL)
		return;
	cpm_msrp_sess_pause(&s->engine->sess);
	out = cpm_msrp_sess_out(&s->engine->sess);
	write_out(c, out);
	cpm_msrp_sess_sent(&s->engine->sess, out.n, msrp_now(c->m));
}

/* All that an engine has to send; whether there was any. */
static bool flush(struct msrp_conn *c, struct msrp_session *s)
{
	struct cpm_pl out = cpm_msrp_sess_out(&s->engine->sess);

	if(out.n == 0)
		return false;
	settle(c, s);
	out = cpm_msrp_sess_out(&s->engine->sess);
	write_out(c, out);
	c->open_by = s;
	cpm_msrp_sess_sent(&s->engine->sess, out.n, msrp_now(c->m));
	return true;
}

void msrp_conn_pump(struct msrp_conn *c)
{
	struct msrp_session *s, *next;
	bool any;

	if(c->state != MSRP_OPEN || c->in_pump)
		return;
	c->in_pump = true;
	do {
		any = false;
		for(s = TAILQ_FIRST(&c->sessions);
				s != NULL && out_length(c) < MSRP_OUT_HIGH; s = next) {
			next = TAILQ_NEXT(s, in_conn);
			msrp_session_pull(s);
			if(s->is_dead || s->engine == NULL)
				continue;
			any |= flush(c, s);
			msrp_session_arm(s);
		}
		/* who was first is last the next time */
		s = TAILQ_FIRST(&c->sessions);
		if(s != NULL && TAILQ_NEXT(s, in_conn) != NULL) {
			TAILQ_REMOVE(&c->sessions, s, in_conn);
			TAILQ_INSERT_TAIL(&c->sessions, s, in_conn);
		}
	} while(any && c->state == MSRP_OPEN && out_length(c) < MSRP_OUT_HIGH);
	c->in_pump = false;
}

/* ---- its sessions ---- */

void msrp_conn_attach(struct msrp_conn *c, struct msrp_session *s)
{
	s->conn = c;
	TAILQ_INSERT_TAIL(&c->sessions, s, in_conn);
	c->sessions_n++;
	if(c->source != NULL) {
		msrp_source_leave(c);
		(void)event_del(&c->timer);
	}
}

void msrp_conn_detach(struct msrp_conn *c, struct msrp_session *s)
{
	if(c->state == MSRP_OPEN && s->engine != NULL) {
		cpm_msrp_sess_pause(&s->engine->sess);
		(void)flush(c, s);
	}
	if(c->open_by == s)
		c->open_by = NULL;
	if(c->cur == s) {
		c->cur = NULL;
		c->mode = MSRP_TO_NOBODY;
		c->code = 0;
		c->has_tail = false;
	}
	TAILQ_REMOVE(&c->sessions, s, in_conn);
	s->conn = NULL;
	c->sessions_n--;
	/* its late answers are no crime */
	c->strikes_max += MSRP_WIN + 2 * STRIKE_REQUEST;
	if(c->sessions_n == 0)
		drain(c);
}

/* ---- frames that come in ---- */

static void strike(
		struct msrp_conn *c, const struct cpm_msrp_head *head, const char *why)
{
	bool is_request = head->method != CPM_MSRP_RESPONSE
					  && head->method != CPM_MSRP_REPORT;

	c->strikes += is_request ? STRIKE_REQUEST : 1;
	if(is_request)
		msrp_refused(c->m, why);
}

static void to_nobody(struct msrp_conn *c, unsigned code, const char *why)
{
	c->mode = MSRP_TO_NOBODY;
	c->cur = NULL;
	c->code = code;
	strike(c, &c->parser.head, why);
}

/* Whether a frame makes the connection that of a session without one. */
static bool may_bind(const struct msrp_conn *c, const struct msrp_session *s)
{
	const struct cpm_msrp_head *head = &c->parser.head;
	bool tls = (s->flags & CPM_CTL_TLS) != 0;

	return head->method == CPM_MSRP_SEND && tls == c->is_tls
		   && c->sessions_n < MSRP_CONN_SESSIONS
		   && (s->engine == NULL || cpm_msrp_sess_owns(&s->engine->sess, head));
}

static void frame_begins(struct msrp_conn *c, const struct cpm_msrp_item *item)
{
	const struct cpm_msrp_head *head = &c->parser.head;
	struct msrp_session *s =
			msrp_session_by_id(c->m, cpm_msrp_head_session(head));

	c->has_body = false;
	c->code = 0;
	if(s == NULL) {
		to_nobody(c, 481, "no-such-session");
		return;
	}
	if(s->conn == NULL && head->bad == NULL && may_bind(c, s)) {
		if(s->engine == NULL)
			s->peer_seen = strndup(head->from_path.p, head->from_path.n);
		s->is_binding = true;
		msrp_conn_attach(c, s);
		msrp_session_connected(s);
	}
	if(s->is_dead || s->conn == NULL) {
		to_nobody(c, head->bad ? 400 : 481, "cannot-bind");
		return;
	}
	if(s->conn != c) {
		to_nobody(c, 506, "other-connection");
		return;
	}
	c->cur = s;
	if(s->engine == NULL) {
		c->mode = MSRP_TO_EARLY;
		return;
	}
	c->mode = MSRP_TO_SESSION;
	(void)cpm_msrp_sess_item(&s->engine->sess, head, item, msrp_now(c->m));
}

static void respond(struct msrp_conn *c, unsigned code)
{
	const struct cpm_msrp_head *head = &c->parser.head;
	char buf[2048];
	struct cpm_wr w;

	if(code == 0 || head->method == CPM_MSRP_RESPONSE
			|| head->method == CPM_MSRP_REPORT
			|| head->failure_report == CPM_MSRP_FR_NO
			|| (head->failure_report == CPM_MSRP_FR_PARTIAL && code == 200))
		return;
	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_msrp_response_put(&w, head, code);
	settle(c, NULL);
	if(cpm_wr_ok(&w))
		write_out(c, cpm_wr_pl(&w));
}

/* To a session that is not started, which has nowhere to put a message. */
static unsigned early_code(const struct msrp_conn *c)
{
	const struct cpm_msrp_head *head = &c->parser.head;

	if(head->bad != NULL)
		return 400;
	if(head->method != CPM_MSRP_SEND)
		return 501;
	return c->has_body ? 403 : 200;
}

/* CPM_OK; CPM_EAGAIN: no room for the answer, the tail comes again. */
static int frame_ends(struct msrp_conn *c, const struct cpm_msrp_item *item)
{
	struct msrp_session *s = c->cur;
	int rc;

	if(s != NULL && c->mode != MSRP_TO_SESSION)
		s->is_binding = false;
	if(c->mode == MSRP_TO_EARLY)
		respond(c, early_code(c));
	else if(c->mode == MSRP_TO_NOBODY)
		respond(c, c->code);
	if(c->mode == MSRP_TO_SESSION && s != NULL) {
		rc = cpm_msrp_sess_item(
				&s->engine->sess, &c->parser.head, item, msrp_now(c->m));
		if(rc == CPM_EAGAIN)
			return rc;
		c->cur = NULL;
		/* what is pulled from now on comes behind the answer */
		s->is_binding = false;
		if(rc < 0) {
			msrp_refused(c->m, s->engine->sess.diag.why);
			msrp_session_down(s, 0, s->engine->sess.diag.why);
		} else
			msrp_session_pull(s);
	}
	c->cur = NULL;
	return CPM_OK;
}

static int take(struct msrp_conn *c, const struct cpm_msrp_item *item)
{
	struct msrp_session *s;
	int rc;

	switch(item->kind) {
		case CPM_MSRP_HEAD:
			frame_begins(c, item);
			break;
		case CPM_MSRP_BODY:
			c->has_body = true;
			if(c->mode == MSRP_TO_SESSION)
				(void)cpm_msrp_sess_item(&c->cur->engine->sess, &c->parser.head,
						item, msrp_now(c->m));
			break;
		default:
			rc = frame_ends(c, item);
			if(rc != CPM_EAGAIN)
				return rc;
			msrp_conn_pump(c);
			return frame_ends(c, item);
	}
	/* the engine takes nothing more until its events have been pulled */
	s = c->cur;
	if(c->mode == MSRP_TO_SESSION && s != NULL)
		msrp_session_pull(s);
	return CPM_OK;
}

/* The next item of the input, if there is one. */
static bool step(struct msrp_conn *c, struct evbuffer *in)
{
	struct cpm_msrp_item item = {CPM_MSRP_TAIL, CPM_PL_NULL, c->tail};
	size_t n = evbuffer_get_contiguous_space(in);
	ptrdiff_t k = 0;

	if(out_length(c) >= MSRP_OUT_HIGH) {
		c->is_stalled = true;
		return false;
	}
	if(!c->has_tail) {
		/* with no input left the parser may still know of an end */
		const unsigned char *p = evbuffer_pullup(in, (ev_ssize_t)n);
		if(n > 0 && p == NULL)
			return false;
		k = cpm_msrp_parser_next(&c->parser, cpm_pl((const char *)p, n), &item);
		if(k < 0) {
			msrp_refused(c->m, c->parser.diag.why);
			lost(c, 400, c->parser.diag.why);
			return false;
		}
	}
	if(item.kind != CPM_MSRP_NOTHING) {
		c->has_tail = take(c, &item) == CPM_EAGAIN;
		c->tail = item.flag;
		c->is_stalled = c->has_tail;
	}
	(void)evbuffer_drain(in, (size_t)k);
	if(c->state == MSRP_OPEN && c->strikes > c->strikes_max) {
		/* one of its sessions may be good, so it is not lost without a word */
		lost(c, 0, "too-many-strays");
		return false;
	}
	return !c->is_stalled && (item.kind != CPM_MSRP_NOTHING || n > 0);
}

static void input(struct msrp_conn *c)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);

	if(c->in_input)
		return;
	c->in_input = true;
	c->is_stalled = false;
	while(c->state == MSRP_OPEN && step(c, in))
		;
	c->in_input = false;
	if(c->state == MSRP_OPEN)
		msrp_conn_pump(c);
	else if(c->state != MSRP_CONNECTING)
		(void)evbuffer_drain(in, evbuffer_get_length(in));
}

/* ---- libevent ---- */

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)bev;
	input(arg);
}

static void on_write(struct bufferevent *bev, void *arg)
{
	struct msrp_conn *c = arg;

	(void)bev;
	if(c->state == MSRP_DRAINING && out_length(c) == 0) {
		shut(c);
		return;
	}
	msrp_conn_pump(c);
	if(c->is_stalled && c->state == MSRP_OPEN)
		input(c);
}

static void set_options(const struct msrp_conn *c)
{
	evutil_socket_t fd = bufferevent_getfd(c->bev);
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static void opened(struct msrp_conn *c)
{
	struct msrp_session *s, *next;

	if(c->state != MSRP_CONNECTING)
		return;
	c->state = MSRP_OPEN;
	set_options(c);
	for(s = TAILQ_FIRST(&c->sessions); s != NULL; s = next) {
		next = TAILQ_NEXT(s, in_conn);
		msrp_session_connected(s);
	}
	msrp_conn_pump(c);
}

static void ended(struct msrp_conn *c)
{
	bool tls = bufferevent_get_openssl_error(c->bev) != 0;

	ERR_clear_error();
	if(c->state != MSRP_CONNECTING) {
		/* an answer that had come is still heard */
		if(c->state == MSRP_OPEN)
			input(c);
		lost(c, 0, "peer-closed");
		return;
	}
	if(c->source != NULL)
		msrp_refused(c->m, "tls-failed");
	lost(c, 0, tls ? "tls-failed" : "connect-failed");
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct msrp_conn *c = arg;

	(void)bev;
	if(what & BEV_EVENT_CONNECTED)
		opened(c);
	if(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		ended(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct msrp_conn *c = arg;

	(void)fd;
	(void)what;
	if(c->source != NULL)
		msrp_refused(c->m, "not-bound");
	msrp_conn_kill(c);
}

/* ---- how it begins ---- */

/* Takes fd and ssl, also when it fails. */
static struct msrp_conn *conn_new(
		struct msrp *m, evutil_socket_t fd, SSL *ssl, bool is_active)
{
	const int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
	struct msrp_conn *c = calloc(1, sizeof(*c));

	if(c != NULL && event_assign(&c->timer, m->base, -1, 0, on_timer, c) != 0) {
		free(c);
		c = NULL;
	}
	if(c != NULL)
		c->bev = ssl == NULL ? bufferevent_socket_new(m->base, fd, options)
							 : bufferevent_openssl_socket_new(m->base, fd, ssl,
									 is_active ? BUFFEREVENT_SSL_CONNECTING
											   : BUFFEREVENT_SSL_ACCEPTING,
									 options);
	if(c == NULL || c->bev == NULL) {
		/* what libevent has begun with it, it frees */
		if(c == NULL)
			SSL_free(ssl);
		free(c);
		if(fd >= 0)
			close(fd);
		return NULL;
	}
	c->m = m;
	c->is_tls = ssl != NULL;
	c->state = is_active || c->is_tls ? MSRP_CONNECTING : MSRP_OPEN;
	c->strikes_max = MSRP_STRIKES;
	c->memory = sizeof(*c) + MSRP_CONN_COST + (c->is_tls ? MSRP_TLS_COST : 0);
	TAILQ_INIT(&c->sessions);
	cpm_msrp_parser_init(&c->parser, c->head, sizeof(c->head), MSRP_BODY_MAX);
	if(c->is_tls)
		bufferevent_openssl_set_allow_dirty_shutdown(c->bev, 1);
	bufferevent_setcb(c->bev, on_read, on_write, on_event, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, MSRP_IN_HIGH);
	bufferevent_setwatermark(c->bev, EV_WRITE, MSRP_OUT_HIGH / 2, 0);
	TAILQ_INSERT_TAIL(&m->conns, c, link);
	m->conns_n++;
	cpm_stat_set(m->stats, CPM_STAT_msrp_connections, m->conns_n);
	msrp_memory_add(m, (int64_t)c->memory);
	(void)bufferevent_enable(c->bev, EV_READ | EV_WRITE);
	return c;
}

/* NULL, or a word. */
static const char *has_room(const struct msrp *m, bool tls)
{
	if(m->conns_n >= m->conns_max)
		return "too-many";
	return msrp_memory_left(m, sizeof(struct msrp_conn) + MSRP_CONN_COST
									   + (tls ? MSRP_TLS_COST : 0))
				   ? NULL
				   : "no-memory";
}

void msrp_conn_accept(struct msrp *m, evutil_socket_t fd,
		const struct sockaddr *addr, bool tls)
{
	struct msrp_source *src = NULL;
	struct msrp_conn *c = NULL;
	SSL *ssl = NULL;
	const char *why = has_room(m, tls);

	if(why == NULL && (src = msrp_source_get(m, addr)) == NULL)
		why = "no-memory";
	if(why == NULL && src->n >= (unsigned)m->conf->msrp_max_unbound)
		why = "too-many-of-address";
	if(why == NULL && tls && (ssl = SSL_new(m->server_ctx)) == NULL)
		why = "no-memory";
	if(why != NULL)
		close(fd);
	else if((c = conn_new(m, fd, ssl, false)) == NULL)
		why = "no-memory";
	if(c != NULL) {
		src->n++;
		c->source = src;
		set_options(c);
		msrp_timer_set(&c->timer, INT64_C(1000) * m->conf->msrp_bind_time);
		return;
	}
	if(src != NULL)
		msrp_source_forget(src);
	msrp_refused(m, why);
}

static bool literal_address(const struct cpm_msrp_uri *uri, const char *host,
		struct sockaddr_storage *addr_r, int *len_r)
{
	uint16_t port = htons(uri->port ? uri->port : MSRP_PORT);
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port};

	if(inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
		memcpy(addr_r, &v4, sizeof(v4));
		*len_r = sizeof(v4);
		return true;
	}
	if(inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
		memcpy(addr_r, &v6, sizeof(v6));
		*len_r = sizeof(v6);
		return true;
	}
	return false;
}

const char *msrp_conn_connect(struct msrp_session *s)
{
	struct msrp *m = s->control->m;
	bool tls = (s->flags & CPM_CTL_TLS) != 0;
	struct cpm_pl first = cpm_msrp_path_first(cpm_pl_str(s->peer));
	const char *why = has_room(m, tls);
	struct sockaddr_storage addr;
	struct cpm_msrp_uri uri;
	SSL *ssl = NULL;
	char host[CPM_MSRP_URI_MAX + 1];
	int len = 0, rc;

	if(why != NULL)
		return why;
	if(cpm_msrp_uri_parse(first, &uri, NULL) != CPM_OK)
		return "bad-path";
	cpm_pl_cstr(uri.host, host, sizeof(host));
	bool is_literal = literal_address(&uri, host, &addr, &len);
	if(!is_literal && msrp_dns(m) == NULL)
		return "no-resolver";
	if(tls) {
		ssl = SSL_new(m->client_ctx);
		if(ssl == NULL)
			return "no-memory";
		if(!is_literal)
			(void)SSL_set_tlsext_host_name(ssl, host);
	}
	struct msrp_conn *c = conn_new(m, -1, ssl, true);
	if(c == NULL)
		return "no-memory";
	msrp_conn_attach(c, s);
	if(is_literal)
		rc = bufferevent_socket_connect(
				c->bev, (const struct sockaddr *)&addr, len);
	else
		rc = bufferevent_socket_connect_hostname(c->bev, msrp_dns(m), AF_UNSPEC,
				host, uri.port ? uri.port : MSRP_PORT);
	return rc == 0 ? NULL : "connect-failed";
}
