/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_media.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "io/io_clock.h"
#include "pf_conf.h"

#include "../../core/dprint.h"

#define KEEP_MAX (16u << 20) /* bytes of one process that wait to be sent */

struct kept
{
	struct kept *next;
	size_t len;
	char bytes[];
};

static int pairs[PF_DELIVERY_WORKERS_MAX][2];
static struct kept *first, *last;
static size_t kept_bytes;

int pf_media_init(void)
{
	unsigned i;
	int size = 1024 * 1024;

	for(i = 0; pf_media_is_on() && i < pf_conf.delivery_workers; i++) {
		if(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
				   pairs[i])
				< 0) {
			LM_ERR("media: no socket pair: %s\n", strerror(errno));
			return -1;
		}
		(void)setsockopt(
				pairs[i][0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		(void)setsockopt(
				pairs[i][1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	}
	return 0;
}

bool pf_media_is_on(void)
{
	return pf_conf.msrp_listen_count > 0;
}

int pf_media_far_fd(unsigned worker)
{
	return pairs[worker][1];
}

int pf_media_fd(unsigned worker)
{
	return pairs[worker][0];
}

bool pf_media_wants_write(void)
{
	return first != NULL;
}

static bool keep(struct cpm_pl bytes)
{
	struct kept *k = malloc(sizeof(*k) + bytes.n);

	if(k == NULL) {
		LM_ERR("media: no memory\n");
		return false;
	}
	k->next = NULL;
	k->len = bytes.n;
	memcpy(k->bytes, bytes.p, bytes.n);
	if(last != NULL) {
		last->next = k;
	} else {
		first = k;
	}
	last = k;
	kept_bytes += bytes.n;
	return true;
}

static void drop_first(void)
{
	struct kept *k = first;

	first = k->next;
	if(first == NULL) {
		last = NULL;
	}
	kept_bytes -= k->len;
	free(k);
}

/* true: it is gone, one way or the other. */
static bool put(unsigned worker, const char *bytes, size_t len)
{
	ssize_t n = send(pairs[worker][0], bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if(n < 0
			&& (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR
					|| errno == ENOBUFS)) {
		return false;
	}
	if(n < 0) {
		LM_ERR("media: %s\n", strerror(errno));
	}
	return true;
}

void pf_media_flush(unsigned worker)
{
	while(first != NULL && put(worker, first->bytes, first->len)) {
		drop_first();
	}
}

void pf_media_forget(void)
{
	while(first != NULL) {
		drop_first();
	}
}

int pf_media_send(unsigned worker, const struct cpm_ctl *m)
{
	static char buf[CPM_CTL_MAX];
	struct cpm_diag diag = {"", 0};
	struct cpm_wr w;

	/* what belongs to a message that is on its way is never refused */
	if(kept_bytes > KEEP_MAX && m->kind != CPM_CTL_CLOSE
			&& m->kind != CPM_CTL_DATA_MORE) {
		return CPM_EAGAIN;
	}
	cpm_wr_init(&w, buf, sizeof(buf));
	if(cpm_ctl_put(&w, m, &diag) != CPM_OK) {
		LM_ERR("media: %s cannot be said: %s\n", cpm_ctl_name(m->kind),
				diag.why);
		return CPM_EPROTO;
	}
	if(first == NULL && put(worker, buf, w.n)) {
		return CPM_OK;
	}
	return keep(cpm_wr_pl(&w)) ? CPM_OK : CPM_EAGAIN;
}

void pf_media_gone(void)
{
	char buf[CPM_CTL_HEAD + 64];
	struct cpm_ctl m = {.kind = CPM_CTL_HELLO, .code = CPM_CTL_VERSION};
	struct cpm_wr w;
	unsigned i;

	m.session = io_clock_wall_ms(); /* no boot there ever was */
	cpm_wr_init(&w, buf, sizeof(buf));
	if(cpm_ctl_put(&w, &m, NULL) != CPM_OK) {
		return;
	}
	for(i = 0; i < pf_conf.delivery_workers; i++) {
		/* should there be no room, the next worker's HELLO tells */
		(void)!send(pairs[i][1], buf, w.n, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

int pf_media_next(unsigned worker, struct cpm_ctl *m_r)
{
	static char buf[CPM_CTL_MAX];
	struct cpm_diag diag = {"", 0};
	ssize_t n = recv(pairs[worker][0], buf, sizeof(buf), MSG_DONTWAIT);

	if(n <= 0) {
		return CPM_EAGAIN;
	}
	if(cpm_ctl_get(cpm_pl(buf, (size_t)n), m_r, &diag) != CPM_OK
			|| cpm_ctl_is_order(m_r->kind)) {
		LM_ERR("media: a datagram cannot be read: %s\n", diag.why);
		return CPM_EPROTO;
	}
	return CPM_OK;
}
