/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "msrp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/dns.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../io/io_clock.h"
#include "msrp_int.h"
#include "worker.h"

#define BACKLOG 1024
#define OTHER_FDS 64		/* of the process that are no connections */
#define ACCEPT_AGAIN_MS 100 /* when there are no descriptors left */

struct msrp_listener
{
	struct msrp *m;
	struct evconnlistener *ev;
	struct event again;
	bool tls;
};

static struct msrp worker;
static struct msrp_listener listeners[WORKER_LISTENS_MAX];

/* ---- small things that all files ask for ---- */

int64_t msrp_now(const struct msrp *m)
{
	(void)m;
	return (int64_t)io_clock_mono_ms();
}

void msrp_random(void *p, size_t n)
{
	ssize_t got;

	/* up to 256 bytes come whole, once the kernel has any */
	do
		got = getrandom(p, n, 0);
	while(got < 0 && errno == EINTR);
	if(got != (ssize_t)n)
		abort();
}

void msrp_memory_add(struct msrp *m, int64_t by)
{
	m->memory += (uint64_t)by;
}

bool msrp_memory_left(const struct msrp *m, size_t n)
{
	return m->memory + n <= m->memory_max;
}

void msrp_stat(struct msrp *m, enum cpm_stat i)
{
	cpm_stat_add(m->stats, i, 1);
}

void msrp_refused(struct msrp *m, const char *why)
{
	unsigned left_out;

	msrp_stat(m, CPM_STAT_msrp_refused);
	if(worker_log_may(&m->log_refused, &left_out))
		worker_log(WORKER_WARN,
				"msrp: refused why=%s connections=%u memory=%llu left_out=%u",
				why, m->conns_n, (unsigned long long)m->memory, left_out);
}

void msrp_timer_set(struct event *ev, int64_t after_ms)
{
	struct timeval tv = {.tv_sec = (time_t)(after_ms / 1000),
			.tv_usec = (suseconds_t)(after_ms % 1000 * 1000)};

	(void)event_add(ev, &tv);
}

struct evdns_base *msrp_dns(struct msrp *m)
{
	if(m->dns == NULL)
		m->dns = evdns_base_new(
				m->base, EVDNS_BASE_INITIALIZE_NAMESERVERS
								 | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	return m->dns;
}

void msrp_stop(struct msrp *m)
{
	(void)event_base_loopbreak(m->base);
}

/* ---- what has ended ---- */

static void reap(struct msrp *m)
{
	struct msrp_session *s;
	struct msrp_conn *c;

	while((s = TAILQ_FIRST(&m->dead_sessions)) != NULL) {
		TAILQ_REMOVE(&m->dead_sessions, s, in_conn);
		msrp_session_free(s);
	}
	while((c = TAILQ_FIRST(&m->dead_conns)) != NULL) {
		TAILQ_REMOVE(&m->dead_conns, c, link);
		msrp_conn_free(c);
	}
}

static void on_reap(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	reap(arg);
}

void msrp_reap_soon(struct msrp *m)
{
	event_active(m->reap_ev, EV_TIMEOUT, 0);
}

/* ---- listening ---- */

static void on_accept(struct evconnlistener *ev, evutil_socket_t fd,
		struct sockaddr *addr, int len, void *arg)
{
	struct msrp_listener *l = arg;

	(void)ev;
	(void)len;
	msrp_conn_accept(l->m, fd, addr, l->tls);
}

/* The connection stays in the kernel's queue, and the loop would spin. */
static void on_accept_error(struct evconnlistener *ev, void *arg)
{
	struct msrp_listener *l = arg;
	unsigned left_out;

	if(worker_log_may(&l->m->log_accept, &left_out))
		worker_log(WORKER_ERROR,
				"msrp: cannot-accept connections=%u error=\"%s\" left_out=%u",
				l->m->conns_n, strerror(errno), left_out);
	(void)evconnlistener_disable(ev);
	msrp_timer_set(&l->again, ACCEPT_AGAIN_MS);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	struct msrp_listener *l = arg;

	(void)fd;
	(void)what;
	(void)evconnlistener_enable(l->ev);
}

/* Appends the line of HELLO. */
static void tell_address(struct msrp *m, evutil_socket_t fd, bool tls)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	char host[INET6_ADDRSTRLEN] = "";
	size_t n = strlen(m->listens);

	if(getsockname(fd, (struct sockaddr *)&addr, &len) != 0)
		return;
	if(addr.ss_family == AF_INET) {
		memcpy(&v4, &addr, sizeof(v4));
		(void)inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host));
		(void)snprintf(m->listens + n, sizeof(m->listens) - n, "%s%s%s:%u",
				n > 0 ? "\n" : "", tls ? "tls:" : "", host,
				(unsigned)ntohs(v4.sin_port));
	} else {
		memcpy(&v6, &addr, sizeof(v6));
		(void)inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host));
		(void)snprintf(m->listens + n, sizeof(m->listens) - n, "%s%s[%s]:%u",
				n > 0 ? "\n" : "", tls ? "tls:" : "", host,
				(unsigned)ntohs(v6.sin6_port));
	}
}

static int listen_all(struct msrp *m)
{
	for(size_t i = 0; i < m->conf->msrp_listens; i++) {
		const struct worker_listen *conf = &m->conf->msrp_listen[i];
		struct msrp_listener *l = &listeners[i];
		unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC
						 | LEV_OPT_REUSEABLE;

		if(conf->addr.ss_family == AF_INET6)
			flags |= LEV_OPT_BIND_IPV6ONLY;
		*l = (struct msrp_listener){.m = m, .tls = conf->tls};
		l->ev = evconnlistener_new_bind(m->base, on_accept, l, flags, BACKLOG,
				(const struct sockaddr *)&conf->addr, (int)conf->addr_len);
		if(l->ev == NULL) {
			worker_log(WORKER_ERROR,
					"msrp: cannot-listen msrp_listen=%s error=\"%s\"",
					conf->text, strerror(errno));
			return WORKER_EXIT_LISTEN;
		}
		(void)event_assign(&l->again, m->base, -1, 0, on_again, l);
		evconnlistener_set_error_cb(l->ev, on_accept_error);
		tell_address(m, evconnlistener_get_fd(l->ev), conf->tls);
	}
	return WORKER_EXIT_OK;
}

/* A connection is a descriptor. */
static void raise_limit(struct msrp *m)
{
	rlim_t want = (rlim_t)m->conf->msrp_max_connections + OTHER_FDS;
	struct rlimit r;

	m->conns_max = (unsigned)m->conf->msrp_max_connections;
	if(getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur >= want)
		return;
	struct rlimit more = {.rlim_cur = want,
			.rlim_max = r.rlim_max < want ? want : r.rlim_max};
	if(setrlimit(RLIMIT_NOFILE, &more) == 0)
		return;
	int err = errno;
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
	m->conns_max =
			r.rlim_max > 2 * OTHER_FDS ? (unsigned)r.rlim_max - OTHER_FDS : 1;
	worker_log(WORKER_WARN,
			"msrp: few-descriptors msrp_max_connections=%d descriptors=%llu "
			"connections=%u error=\"%s\"",
			m->conf->msrp_max_connections, (unsigned long long)r.rlim_max,
			m->conns_max, strerror(err));
}

/* ---- start and stop ---- */

static void sess_conf_init(struct msrp *m)
{
	const struct worker_conf *conf = m->conf;

	for(int i = 0; i < 2; i++) {
		m->sess_conf[i] = (struct cpm_msrp_conf){
				/* our offers say sendonly; this much clients do all the same */
				.accept_types = CPM_PL_LIT("application/im-iscomposing+xml"),
				.max_message = 16384,
				.chunk_size = (uint32_t)conf->msrp_chunk_size,
				.transaction_ms = conf->msrp_answer_time * 1000,
				.message_ms = conf->msrp_session_time * 1000,
				.idle_ms = conf->session_idle_time * 1000,
				.total_ms = conf->msrp_session_time * 1000,
				.sessmatch = i == 1,
		};
	}
}

static void on_signal(evutil_socket_t sig, short what, void *arg)
{
	(void)what;
	worker_log(WORKER_NOTICE, "msrp: stop signal=%d", (int)sig);
	msrp_stop(arg);
}

static int open_all(struct msrp *m)
{
	if(m->conf->controls == 0) {
		worker_log(WORKER_ERROR,
				"msrp: control_fd takes a socket of a delivery worker, and is "
				"not given");
		return WORKER_EXIT_USAGE;
	}
	m->base = event_base_new();
	m->reap_ev = m->base ? event_new(m->base, -1, 0, on_reap, m) : NULL;
	if(m->reap_ev == NULL) {
		worker_log(WORKER_ERROR, "msrp: no-memory");
		return WORKER_EXIT_FAILED;
	}
	if(msrp_tls_init(m) != CPM_OK)
		return WORKER_EXIT_USAGE;
	int status = listen_all(m);
	for(size_t i = 0; i < m->conf->controls && status == WORKER_EXIT_OK; i++)
		if(msrp_control_open(m, m->conf->control_fd[i]) != CPM_OK)
			status = WORKER_EXIT_USAGE;
	return status;
}

static void close_all(struct msrp *m)
{
	struct msrp_conn *c;

	for(size_t i = 0; i < m->controls_n; i++)
		msrp_control_close(&m->controls[i]);
	while((c = TAILQ_FIRST(&m->conns)) != NULL)
		msrp_conn_kill(c);
	for(size_t i = 0; i < m->conf->msrp_listens; i++) {
		if(listeners[i].ev == NULL)
			continue;
		(void)event_del(&listeners[i].again);
		evconnlistener_free(listeners[i].ev);
	}
	if(m->reap_ev != NULL) {
		reap(m);
		/* libevent keeps what has a callback to come until it has come */
		(void)event_base_loop(m->base, EVLOOP_NONBLOCK);
		event_free(m->reap_ev);
	}
	if(m->memory != 0)
		worker_log(WORKER_ERROR, "msrp: memory-miscounted bytes=%lld",
				(long long)m->memory);
	if(m->dns != NULL)
		evdns_base_free(m->dns, 0);
	msrp_tls_fini(m);
	if(m->base != NULL)
		event_base_free(m->base);
	cpm_stat_set(m->stats, CPM_STAT_msrp_connections, 0);
}

static int serve(struct msrp *m)
{
	struct event *term = evsignal_new(m->base, SIGTERM, on_signal, m);
	struct event *interrupt = evsignal_new(m->base, SIGINT, on_signal, m);
	sigset_t set;
	int rc = -1;

	if(term != NULL && interrupt != NULL && event_add(term, NULL) == 0
			&& event_add(interrupt, NULL) == 0) {
		sigemptyset(&set);
		sigaddset(&set, SIGTERM);
		sigaddset(&set, SIGINT);
		(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
		rc = event_base_dispatch(m->base);
		if(m->controls_open == 0)
			worker_log(WORKER_NOTICE, "msrp: stop controls=closed");
	}
	if(rc < 0)
		worker_log(WORKER_ERROR, "msrp: cannot-start");
	if(term != NULL)
		event_free(term);
	if(interrupt != NULL)
		event_free(interrupt);
	return rc < 0 ? WORKER_EXIT_FAILED : WORKER_EXIT_OK;
}

int msrp_run(const struct worker_conf *conf, struct cpm_stats *stats)
{
	struct msrp *m = &worker;

	m->conf = conf;
	m->stats = stats != NULL ? stats : &m->own_stats;
	m->memory_max = (uint64_t)conf->msrp_max_memory << 20;
	TAILQ_INIT(&m->conns);
	TAILQ_INIT(&m->dead_conns);
	TAILQ_INIT(&m->dead_sessions);
	do
		msrp_random(&m->boot, sizeof(m->boot));
	while(m->boot == 0);
	msrp_random(&m->hash_seed, sizeof(m->hash_seed));
	sess_conf_init(m);
	cpm_stat_set(m->stats, CPM_STAT_msrp_connections, 0);
	raise_limit(m);
	int status = open_all(m);
	if(status == WORKER_EXIT_OK) {
		worker_log(WORKER_NOTICE,
				"msrp: start listeners=%zu controls=%zu connections=%u tls=%s",
				conf->msrp_listens, conf->controls, m->conns_max,
				m->fingerprint[0] ? "certificate" : "none");
		status = serve(m);
	}
	close_all(m);
	return status;
}
