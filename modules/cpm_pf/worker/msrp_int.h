/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * msrp_int.h - what the files of the MSRP worker share.
 *
 * runs in:  cpm_pf_worker msrp, one thread, one libevent loop
 *
 *     struct msrp_control   a socket to a delivery worker     msrp_control.c
 *     struct msrp_session   what it has prepared              msrp_session.c
 *     struct msrp_conn      a connection to a peer            msrp_conn.c
 *
 * A session has one control and at most one connection; a connection has up
 * to MSRP_CONN_SESSIONS sessions, of any controls. Nothing is freed while
 * somebody may still look at it: what has ended is taken out of all lists and
 * freed by msrp_reap(), from the loop itself.
 *
 * Memory. All that grows with what others do is counted in msrp.memory, by
 * msrp_memory_add(): connections, sessions, bytes of messages, datagrams that
 * wait. A peer that does not read makes its sessions stop: what waits for it
 * is about MSRP_OUT_HIGH bytes and the output of its sessions' engines. A
 * delivery worker that does not read is not read from: what waits for it is
 * MSRP_CTL_WAITING datagrams and what its sessions still have to tell, which
 * is at most one for each message and two for each session.
 */

#ifndef MSRP_INT_H
#define MSRP_INT_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/ssl.h>
#include <sys/queue.h>

#include "../core/cpm_ctl.h"
#include "../core/cpm_msrp_sess.h"
#include "../core/cpm_stats.h"
#include "worker_conf.h"
#include "worker_log.h"

#define MSRP_CONN_SESSIONS 64
#define MSRP_OUT_HIGH 16384		/* bytes that wait for a slow reader */
#define MSRP_IN_HIGH 16384		/* bytes read and not looked at */
#define MSRP_STRIKES 64			/* see msrp_conn.c, strike */
#define MSRP_BODY_MAX (1 << 20) /* of one frame that comes in */
#define MSRP_CTL_WAITING 1024	/* datagrams: from here orders wait */
#define MSRP_SLOTS 16384		/* of a hash table */
#define MSRP_TX 32				/* messages in an engine; more wait before it */
#define MSRP_WIN 32				/* chunks without an answer */
#define MSRP_RX 2
#define MSRP_OUT 8192 /* of an engine's output */

/* What a connection costs besides its struct, rounded up from what was
 * measured (libevent 2.1.12, OpenSSL 3.0). */
#define MSRP_CONN_COST 2048
#define MSRP_TLS_COST 20480

struct msrp;
struct msrp_conn;

struct msrp_datagram
{
	STAILQ_ENTRY(msrp_datagram) link;
	size_t n;
	char bytes[];
};

STAILQ_HEAD(msrp_datagrams, msrp_datagram);

struct msrp_control
{
	struct msrp *m;
	int fd; /* -1: closed */
	unsigned index;
	struct event *read_ev;
	struct event *write_ev;
	struct msrp_datagrams waiting;
	size_t waiting_n;
	bool is_full;	/* it is not read from */
	bool is_broken; /* and will be closed by the loop */
};

/* A message on its way out. */
struct msrp_message
{
	TAILQ_ENTRY(msrp_message) link;
	uint32_t handle;	/* of the delivery worker */
	uint32_t tx_handle; /* of the engine; 0: it does not have it yet */
	char id[33];
	uint64_t size;
	uint64_t got;		   /* bytes that have come from the delivery worker */
	struct evbuffer *data; /* those of them that have not gone out */
	char content_type[];
};

TAILQ_HEAD(msrp_messages, msrp_message);

/* From START on. */
struct msrp_engine
{
	struct cpm_msrp_sess sess;
	struct cpm_msrp_tx tx[MSRP_TX];
	struct cpm_msrp_trans win[MSRP_WIN];
	struct cpm_msrp_rx rx[MSRP_RX];
	char out[MSRP_OUT];
};

struct msrp_session
{
	LIST_ENTRY(msrp_session) by_number;
	LIST_ENTRY(msrp_session) by_id;
	TAILQ_ENTRY(msrp_session) in_conn; /* or among the dead */
	struct msrp_control *control;
	uint64_t number;
	struct msrp_conn *conn; /* NULL: none yet, or not any more */
	struct msrp_engine *engine;
	struct event timer;
	int64_t timer_ms; /* when it fires; CPM_MSRP_NEVER: it is not set */
	int64_t wait_ms;  /* until it is up, or else it ends */
	int64_t bind_ms;  /* an empty SEND, unless there is a message */
	char *own;		  /* our URI */
	struct cpm_pl id; /* its session id, in own */
	char *peer;		  /* the peer's path; of START */
	char *peer_seen;  /* From-Path of who connected before START */
	char *fingerprint;
	uint64_t max_size;
	unsigned flags;
	unsigned messages;
	unsigned given; /* of them to the engine */
	uint64_t held;	/* bytes of messages that have not gone out */
	struct msrp_messages out;
	size_t memory;
	bool is_up;
	/* the frame by which the peer bound it is not answered yet: some take
	 * nothing before that answer */
	bool is_binding;
	bool is_dead;
	bool in_pull;
};

enum msrp_conn_state
{
	MSRP_CONNECTING,
	MSRP_OPEN,
	MSRP_DRAINING, /* what is written out still leaves */
	MSRP_SHUT,	   /* it has left; the peer's end of file is waited for */
	MSRP_DEAD,
};

/* What becomes of the frame that is coming in. */
enum msrp_frame_mode
{
	MSRP_TO_SESSION, /* the engine of conn.cur takes it */
	MSRP_TO_EARLY,	 /* the session was not started yet */
	MSRP_TO_NOBODY,	 /* passed over; answered conn.code, if not 0 */
};

/* Connections of one address that have named no session. */
struct msrp_source
{
	LIST_ENTRY(msrp_source) link;
	unsigned char addr[16];
	unsigned n;
};

TAILQ_HEAD(msrp_sessions, msrp_session);

struct msrp_conn
{
	TAILQ_ENTRY(msrp_conn) link;
	struct msrp *m;
	struct bufferevent *bev;
	struct event timer;
	struct msrp_source *source; /* while it has named no session */
	struct msrp_sessions sessions;
	struct msrp_session *cur;	  /* of the frame that is coming in */
	struct msrp_session *open_by; /* whose bytes were sent last */
	size_t memory;
	enum msrp_conn_state state;
	unsigned sessions_n;
	unsigned strikes;
	unsigned strikes_max;
	unsigned code;
	enum msrp_frame_mode mode;
	bool is_tls;
	bool has_tail;	 /* a frame's end could not be answered yet */
	bool is_stalled; /* input waits for room */
	bool in_input, in_pump;
	bool has_body;
	char tail;
	struct cpm_msrp_parser parser;
	char head[CPM_MSRP_HEAD_BUF];
};

TAILQ_HEAD(msrp_conns, msrp_conn);
LIST_HEAD(msrp_session_slot, msrp_session);
LIST_HEAD(msrp_source_slot, msrp_source);

struct evdns_base;

struct msrp
{
	const struct worker_conf *conf;
	struct cpm_stats *stats;
	struct cpm_stats own_stats; /* where there is no page */
	struct event_base *base;
	struct evdns_base *dns; /* made when a name is to be resolved */
	SSL_CTX *server_ctx;
	SSL_CTX *client_ctx;
	char fingerprint[128];			   /* of our certificate, or empty */
	char listens[1024];				   /* lines, as HELLO tells them */
	struct cpm_msrp_conf sess_conf[2]; /* [1]: with sessmatch */
	uint64_t boot;
	uint64_t hash_seed;
	uint64_t memory;
	uint64_t memory_max;
	unsigned conns_n;
	unsigned conns_max;
	struct msrp_conns conns;
	struct msrp_conns dead_conns;
	struct msrp_sessions dead_sessions;
	struct event *reap_ev;
	struct msrp_control controls[WORKER_CONTROLS_MAX];
	size_t controls_n;
	size_t controls_open;
	struct msrp_session_slot by_number[MSRP_SLOTS];
	struct msrp_session_slot by_id[MSRP_SLOTS];
	struct msrp_source_slot sources[1024];
	struct worker_log_limit log_refused;
	struct worker_log_limit log_control;
	struct worker_log_limit log_accept;
};

/* ---- msrp.c ---- */

int64_t msrp_now(const struct msrp *m);
void msrp_random(void *p, size_t n);
/* by may be negative. Whether there is room is asked by msrp_memory_left. */
void msrp_memory_add(struct msrp *m, int64_t by);
bool msrp_memory_left(const struct msrp *m, size_t n);
void msrp_stat(struct msrp *m, enum cpm_stat i);
/* Something was refused: counted, and logged as why. */
void msrp_refused(struct msrp *m, const char *why);
void msrp_reap_soon(struct msrp *m);
void msrp_stop(struct msrp *m);
struct evdns_base *msrp_dns(struct msrp *m);
void msrp_timer_set(struct event *ev, int64_t after_ms);

/* ---- msrp_control.c ---- */

int msrp_control_open(struct msrp *m, int fd);
void msrp_control_close(struct msrp_control *c);
/* Goes out now or waits. In order. */
void msrp_control_say(struct msrp_control *c, const struct cpm_ctl *m);
void msrp_control_say_end(struct msrp_control *c, enum cpm_ctl_kind kind,
		uint64_t session, uint32_t handle, unsigned code, const char *why);

/* ---- msrp_session.c ---- */

/* Orders of a delivery worker. */
void msrp_session_prepare(struct msrp_control *c, const struct cpm_ctl *o);
void msrp_session_start(struct msrp_session *s, const struct cpm_ctl *o);
void msrp_session_send(struct msrp_session *s, const struct cpm_ctl *o);
void msrp_session_more(struct msrp_session *s, const struct cpm_ctl *o);
void msrp_session_close(struct msrp_session *s);

struct msrp_session *msrp_session_find(
		const struct msrp_control *c, uint64_t number);
struct msrp_session *msrp_session_by_id(struct msrp *m, struct cpm_pl id);

/* A connection speaks of it, or was made for it, and is there. */
void msrp_session_connected(struct msrp_session *s);
/* Pulls the engine's events. It may have ended then. */
void msrp_session_pull(struct msrp_session *s);
/* Sets its timer, after anything that may have moved it. */
void msrp_session_arm(struct msrp_session *s);
/* Pulls, sends, and sets its timer. */
void msrp_session_run(struct msrp_session *s);
/* It is over: the delivery worker is told. */
void msrp_session_down(struct msrp_session *s, unsigned code, const char *why);
/* All sessions of a control, without a word. */
void msrp_session_drop_all(struct msrp_control *c);
void msrp_session_free(struct msrp_session *s);

/* ---- msrp_conn.c ---- */

void msrp_conn_accept(struct msrp *m, evutil_socket_t fd,
		const struct sockaddr *addr, bool tls);
/* For a session: to the first URI of its peer's path. NULL, or a word. */
const char *msrp_conn_connect(struct msrp_session *s);
void msrp_conn_attach(struct msrp_conn *c, struct msrp_session *s);
/* What is written out of s leaves; with its last session the connection
 * ends. */
void msrp_conn_detach(struct msrp_conn *c, struct msrp_session *s);
void msrp_conn_pump(struct msrp_conn *c);
/* Whatever it has waiting. */
void msrp_conn_kill(struct msrp_conn *c);
void msrp_conn_free(struct msrp_conn *c);

/* ---- msrp_source.c ---- */

/* The entry of an address, made if need be. NULL: no memory. */
struct msrp_source *msrp_source_get(
		struct msrp *m, const struct sockaddr *addr);
/* Frees an entry that counts nothing. */
void msrp_source_forget(struct msrp_source *src);
/* The connection has named a session, or has ended. */
void msrp_source_leave(struct msrp_conn *c);

/* ---- msrp_tls.c ---- */

/* CPM_OK, or it was logged. */
int msrp_tls_init(struct msrp *m);
void msrp_tls_fini(struct msrp *m);
/* Whether the peer's certificate is the one that the fingerprint tells. */
bool msrp_tls_matches(SSL *ssl, const char *fingerprint);

#endif
