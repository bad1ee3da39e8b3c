/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_hint.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_stats.h"

#include "../../core/dprint.h"

static int pairs[PF_DELIVERY_WORKERS_MAX][2];

int pf_hint_init(void)
{
	unsigned i;
	int size = 1024 * 1024;

	for(i = 0; i < pf_conf.delivery_workers; i++) {
		if(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
				   pairs[i])
				< 0) {
			LM_ERR("hint: no socket pair: %s\n", strerror(errno));
			return -1;
		}
		/* as much as the system allows: a storm of REGISTERs fits better */
		(void)setsockopt(
				pairs[i][1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	}
	return 0;
}

unsigned pf_hint_worker_of_shard(unsigned shard)
{
	return shard % pf_conf.delivery_workers;
}

unsigned pf_hint_worker_of(struct cpm_pl aor)
{
	return pf_hint_worker_of_shard(cpm_queue_shard(aor));
}

static void post(unsigned worker, struct pf_hint *h)
{
	size_t len = offsetof(struct pf_hint, aor) + h->aor_len;

	h->at_ms = io_clock_mono_ms();
	if(send(pairs[worker][1], h, len, MSG_DONTWAIT | MSG_NOSIGNAL)
			!= (ssize_t)len) {
		pf_stat(CPM_STAT_hints_lost);
	}
}

void pf_hint_user(
		enum pf_hint_kind kind, struct cpm_pl aor, enum cpm_lease_force force)
{
	pf_hint_user_mode(kind, aor, force, PF_HINT_AUTO);
}

void pf_hint_user_mode(enum pf_hint_kind kind, struct cpm_pl aor,
		enum cpm_lease_force force, enum pf_hint_mode mode)
{
	struct pf_hint h;

	if(aor.n == 0 || aor.n > sizeof(h.aor)) {
		return;
	}
	h.kind = (uint8_t)kind;
	h.force = (uint8_t)force;
	h.mode = (uint8_t)mode;
	h.aor_len = (uint16_t)aor.n;
	h.slot = 0;
	h.at_ms = 0;
	memcpy(h.aor, aor.p, aor.n);
	post(pf_hint_worker_of(aor), &h);
}

void pf_hint_answer(unsigned worker, uint32_t slot)
{
	struct pf_hint h = {.kind = PF_HINT_ANSWER, .slot = slot};

	post(worker, &h);
}

void pf_hint_uac(unsigned worker, uint32_t slot)
{
	struct pf_hint h = {.kind = PF_HINT_UAC, .slot = slot};

	post(worker, &h);
}

void pf_hint_dialog(unsigned worker, enum pf_hint_kind kind, uint32_t slot)
{
	struct pf_hint h = {.kind = (uint8_t)kind, .slot = slot};

	post(worker, &h);
}

int pf_hint_fd(unsigned worker)
{
	return pairs[worker][0];
}

int pf_hint_next(unsigned worker, struct pf_hint *hint_r)
{
	struct pf_hint h;
	ssize_t n = recv(pairs[worker][0], &h, sizeof(h), MSG_DONTWAIT);

	if(n < (ssize_t)offsetof(struct pf_hint, aor)
			|| (size_t)n != offsetof(struct pf_hint, aor) + h.aor_len) {
		return CPM_EAGAIN;
	}
	*hint_r = h;
	return CPM_OK;
}
