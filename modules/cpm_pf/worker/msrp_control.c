/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "msrp_int.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ORDERS_AT_ONCE 32 /* then peers have their turn */

/* ---- what is said ---- */

static int send_now(struct msrp_control *c, const char *p, size_t n)
{
	ssize_t rc;

	do
		rc = send(c->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while(rc < 0 && errno == EINTR);
	if(rc >= 0)
		return CPM_OK;
	return errno == EAGAIN || errno == ENOBUFS ? CPM_EAGAIN : CPM_EDOWN;
}

/* Its sessions cannot be dropped from here: one of them may be speaking. */
static void broken(struct msrp_control *c)
{
	c->is_broken = true;
	event_active(c->read_ev, EV_READ, 0);
}

static void flow(struct msrp_control *c)
{
	bool full = c->waiting_n >= MSRP_CTL_WAITING;

	if(full == c->is_full)
		return;
	c->is_full = full;
	if(full)
		(void)event_del(c->read_ev);
	else
		(void)event_add(c->read_ev, NULL);
}

static void wait_for_room(struct msrp_control *c, const char *p, size_t n)
{
	struct msrp_datagram *d = malloc(sizeof(*d) + n);

	if(d == NULL) {
		/* a word that is lost would never be said again */
		worker_log(WORKER_ERROR, "msrp: no-memory control=%u", c->index);
		broken(c);
		return;
	}
	d->n = n;
	memcpy(d->bytes, p, n);
	if(c->waiting_n == 0)
		(void)event_add(c->write_ev, NULL);
	STAILQ_INSERT_TAIL(&c->waiting, d, link);
	c->waiting_n++;
	msrp_memory_add(c->m, (int64_t)(sizeof(*d) + n));
	flow(c);
}

static void forget_first(struct msrp_control *c)
{
	struct msrp_datagram *d = STAILQ_FIRST(&c->waiting);

	STAILQ_REMOVE_HEAD(&c->waiting, link);
	c->waiting_n--;
	msrp_memory_add(c->m, -(int64_t)(sizeof(*d) + d->n));
	free(d);
}

void msrp_control_say(struct msrp_control *c, const struct cpm_ctl *m)
{
	char buf[CPM_CTL_HEAD + 10 + 3 * CPM_CTL_TEXT];
	struct cpm_wr w;
	struct cpm_diag diag = {"", 0};

	if(c->fd < 0 || c->is_broken)
		return;
	cpm_wr_init(&w, buf, sizeof(buf));
	if(cpm_ctl_put(&w, m, &diag) != CPM_OK) {
		worker_log(WORKER_ERROR, "msrp: cannot-say kind=%s why=%s",
				cpm_ctl_name(m->kind), diag.why);
		return;
	}
	int rc = c->waiting_n > 0 ? CPM_EAGAIN : send_now(c, buf, w.n);
	if(rc == CPM_EAGAIN)
		wait_for_room(c, buf, w.n);
	else if(rc != CPM_OK)
		broken(c);
}

void msrp_control_say_end(struct msrp_control *c, enum cpm_ctl_kind kind,
		uint64_t session, uint32_t handle, unsigned code, const char *why)
{
	struct cpm_ctl m = {.kind = kind,
			.session = session,
			.handle = handle,
			.code = code,
			.a = cpm_pl_str(why)};

	msrp_control_say(c, &m);
}

static void hello(struct msrp_control *c)
{
	struct cpm_ctl m = {.kind = CPM_CTL_HELLO,
			.session = c->m->boot,
			.code = CPM_CTL_VERSION,
			.a = cpm_pl_str(c->m->listens),
			.b = cpm_pl_str(c->m->fingerprint)};

	msrp_control_say(c, &m);
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
	struct msrp_control *c = arg;

	(void)fd;
	(void)what;
	while(c->waiting_n > 0) {
		const struct msrp_datagram *d = STAILQ_FIRST(&c->waiting);
		int rc = send_now(c, d->bytes, d->n);

		if(rc == CPM_EAGAIN)
			return;
		if(rc != CPM_OK) {
			broken(c);
			break;
		}
		forget_first(c);
	}
	(void)event_del(c->write_ev);
	if(!c->is_broken)
		flow(c);
}

/* ---- orders ---- */

static void obey(struct msrp_control *c, const struct cpm_ctl *o)
{
	struct msrp_session *s;

	if(o->kind == CPM_CTL_PREPARE) {
		msrp_session_prepare(c, o);
		return;
	}
	s = msrp_session_find(c, o->session);
	if(s == NULL) {
		if(o->kind != CPM_CTL_CLOSE)
			msrp_control_say_end(
					c, CPM_CTL_DOWN, o->session, 0, 0, "no-such-session");
		return;
	}
	switch(o->kind) {
		case CPM_CTL_START:
			msrp_session_start(s, o);
			break;
		case CPM_CTL_SEND:
			msrp_session_send(s, o);
			break;
		case CPM_CTL_DATA_MORE:
			msrp_session_more(s, o);
			break;
		default:
			msrp_session_close(s);
	}
}

static void take(struct msrp_control *c, struct cpm_pl in)
{
	struct cpm_diag diag = {"not-an-order", 0};
	struct cpm_ctl o;
	unsigned left_out;

	if(cpm_ctl_get(in, &o, &diag) == CPM_OK && cpm_ctl_is_order(o.kind)) {
		obey(c, &o);
		return;
	}
	if(worker_log_may(&c->m->log_control, &left_out))
		worker_log(WORKER_ERROR,
				"msrp: bad-order control=%u why=%s bytes=%zu left_out=%u",
				c->index, diag.why, in.n, left_out);
}

/* A datagram may be empty; the end of all of them looks the same. */
static bool has_ended(const struct msrp_control *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP)) != 0;
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
	static char buf[CPM_CTL_MAX];
	struct msrp_control *c = arg;

	(void)what;
	for(int i = 0; i < ORDERS_AT_ONCE && !c->is_broken && !c->is_full; i++) {
		/* MSG_TRUNC: the length that it had, so that none is cut unseen */
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_TRUNC);

		if(n < 0 && errno == EINTR)
			continue;
		if(n < 0 && errno == EAGAIN)
			return;
		if(n < 0 || (n == 0 && has_ended(c)))
			c->is_broken = true;
		else if((size_t)n > sizeof(buf))
			take(c, CPM_PL_NULL);
		else
			take(c, cpm_pl(buf, (size_t)n));
	}
	if(c->is_broken)
		msrp_control_close(c);
}

/* ---- life ---- */

int msrp_control_open(struct msrp *m, int fd)
{
	struct msrp_control *c = &m->controls[m->controls_n];
	socklen_t len = sizeof(int);
	int type = 0;

	if(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0
			|| type != SOCK_SEQPACKET) {
		worker_log(WORKER_ERROR,
				"msrp: control_fd=%d takes a socket of whole datagrams in "
				"order (SOCK_SEQPACKET)",
				fd);
		return CPM_EPROTO;
	}
	memset(c, 0, sizeof(*c));
	c->m = m;
	c->fd = fd;
	c->index = (unsigned)m->controls_n;
	STAILQ_INIT(&c->waiting);
	c->read_ev = event_new(m->base, fd, EV_READ | EV_PERSIST, on_read, c);
	c->write_ev = event_new(m->base, fd, EV_WRITE | EV_PERSIST, on_write, c);
	if(c->read_ev == NULL || c->write_ev == NULL
			|| evutil_make_socket_nonblocking(fd) != 0
			|| event_add(c->read_ev, NULL) != 0) {
		worker_log(WORKER_ERROR, "msrp: no-memory");
		return CPM_ENOMEM;
	}
	m->controls_n++;
	m->controls_open++;
	hello(c);
	return CPM_OK;
}

void msrp_control_close(struct msrp_control *c)
{
	if(c->fd < 0)
		return;
	c->is_broken = true;
	msrp_session_drop_all(c);
	while(c->waiting_n > 0)
		forget_first(c);
	event_free(c->read_ev);
	event_free(c->write_ev);
	close(c->fd);
	c->fd = -1;
	if(--c->m->controls_open == 0)
		msrp_stop(c->m);
}
