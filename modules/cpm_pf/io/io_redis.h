/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_redis.h - blocking Redis with honest failures: one server, a master that
 * Sentinel names, or a Cluster.
 *
 * runs in:  any process, one struct each; not thread-safe
 * owns:     sockets and hiredis readers: one, or one for each master in use
 * never:    includes Kamailio; logs; re-sends a command that may have been
 *           executed
 *
 * Two failures are kept apart. CPM_EDOWN: the command never left, or a server
 * said that it did not execute it; nothing was written. CPM_EUNSURE: it left
 * and no answer came, it was executed or not; only an idempotent command may
 * be given again.
 *
 * A connection that the server closed while it was idle is noticed before a
 * command is sent, and made anew, so that it costs no error. After a failed
 * connect or a time-out the server's breaker is open for IO_REDIS_REST_MS:
 * every call that needs it is CPM_EDOWN at once, so that a SIP worker never
 * waits twice for a server that does not answer; the first call after that is
 * the probe. On a Cluster each node has its own breaker: a node that is down
 * is down for its slots only.
 *
 * Sentinel: to connect, the sentinels are asked in turn, beginning with the
 * one that answered last, and the server that one names must call itself a
 * master (ROLE). READONLY, MASTERDOWN, NOREPLICAS, a WAIT that too few
 * replicas answered, a closed connection or a time-out: the next use asks the
 * sentinels again.
 *
 * Cluster: the map of slots is read from CLUSTER SLOTS, and again, at most
 * every IO_REDIS_REFRESH_MS, from whichever node answers, after MOVED, after
 * CLUSTERDOWN and while a node that owns slots is down: so a failover is
 * followed. MOVED and ASK are followed up to IO_REDIS_HOPS_MAX times; TRYAGAIN
 * and CLUSTERDOWN mean "again" until the time-out of the command is over, then
 * CPM_EDOWN. The key of a command is its first argument, the key of a script
 * its first key, and all keys of a script are in one slot (a hash tag). A
 * command without an argument goes to any node.
 *
 * How long a call takes at most, c = connect_timeout_ms, t = cmd_timeout_ms:
 *
 *   connected                        t   (a durable one: t + wait_ms)
 *   one server, not connected        c + 2t
 *   Sentinel, not connected          2c + 2t   all sentinels together c
 *   Cluster, the map must be read    c + t more
 *   Cluster, redirected to nodes     c + 2t altogether, with any number of
 *     not yet connected              hops
 *
 * A pipeline connects, in _add, to one server after the other, each within
 * c + t; then each _get takes t. A host name is resolved by libc in a time of
 * its own: give addresses.
 */

#ifndef IO_REDIS_H
#define IO_REDIS_H

#include "../core/cpm_base.h"
#include "../core/cpm_queue.h"

#define IO_REDIS_REST_MS 500
#define IO_REDIS_REFRESH_MS 250
#define IO_REDIS_HOPS_MAX 5
#define IO_REDIS_ARGS_MAX 64
#define IO_REDIS_SERVERS_MAX 16 /* sentinels, or seed nodes of a Cluster */
#define IO_REDIS_HOST_MAX 256

struct redisReply; /* hiredis/hiredis.h, for ring 1 only */

enum io_redis_topology
{
	IO_REDIS_ONE,
	IO_REDIS_SENTINEL,
	IO_REDIS_CLUSTER,
};

struct io_redis_addr
{
	char host[IO_REDIS_HOST_MAX]; /* name or address, v6 without brackets */
	unsigned port;
};

/* May be copied by value. */
struct io_redis_conf
{
	char name[64];
	char addr[IO_REDIS_HOST_MAX]; /* host or address; default 127.0.0.1 */
	unsigned port;				  /* default 6379 */
	char unix_path[108];		  /* wins over addr and port */
	char user[128];				  /* ACL user; needs pass */
	char pass[256];
	unsigned db;
	enum io_redis_topology topology;
	struct io_redis_addr server[IO_REDIS_SERVERS_MAX]; /* sentinels or seeds */
	size_t server_count;
	char sentinel_group[64]; /* the name that the sentinels have for it */
	char sentinel_user[128]; /* to log in to the sentinels themselves */
	char sentinel_pass[256];
	unsigned connect_timeout_ms;
	unsigned cmd_timeout_ms;
	unsigned wait_replicas; /* io_redis_eval_durable; 0: off */
	unsigned wait_ms;		/* 0: off */
};

/* A server string as ndb_redis takes it: "name=..;addr=..;port=..;db=..;
 * user=..;pass=..;unix=..", spaces around parts allowed, ';' at the end too.
 *
 *   one server   as above
 *   Sentinel     "sentinel_group=mymaster;sentinel=host:port;sentinel=..",
 *                up to IO_REDIS_SERVERS_MAX, port 26379 if not given,
 *                [2001:db8::1]:26379; with sentinel_user and sentinel_pass if
 *                the sentinels want them; user, pass and db are the master's
 *   Cluster      "cluster=1;addr=..;port=..", a seed node
 *
 * Sets defaults first; leaves the time-outs and wait_ alone.
 * CPM_OK; CPM_EPROTO: "unknown-key", "no-value", "bad-addr", "bad-port",
 * "bad-db", "bad-cluster", "bad-tls", "bad-sentinel", "repeated-key",
 * "user-without-pass", "sentinel-without-group", "no-sentinel" (a group or a
 * login, but no sentinel), "sentinel-with-addr" (addr, port or unix given),
 * "sentinel-and-cluster", "cluster-with-db", "cluster-with-unix",
 * "tls-not-available" (hiredis 0.14 has none; doc/redis.md tells what to do);
 * CPM_ELIMIT: "too-long", "too-many-sentinels". */
int io_redis_conf_parse(
		struct cpm_pl s, struct io_redis_conf *conf_r, struct cpm_diag *diag);

/* A further string: one more seed node, "cluster=1;addr=..;port=..". user and
 * pass are those of the first string; they may be repeated. On failure *conf
 * is as it was.
 * CPM_OK; CPM_EPROTO: as above, and "several-servers" (one of the two is no
 * seed of a Cluster), "other-login"; CPM_ELIMIT: "too-many-seeds". */
int io_redis_conf_add(
		struct cpm_pl s, struct io_redis_conf *conf, struct cpm_diag *diag);

struct io_redis;

/* Does not connect yet. NULL: no memory. conf is copied. */
struct io_redis *io_redis_new(const struct io_redis_conf *conf);
void io_redis_free(struct io_redis **r);

/* Why the last call failed, one line without user data; never NULL. With
 * Sentinel and Cluster it begins with "host:port: " of whom it is about. */
const char *io_redis_error(const struct io_redis *r);

/* One command. *reply_r is to be freed by io_redis_reply_free, and set only
 * with CPM_OK.
 * CPM_OK; CPM_EDOWN; CPM_EUNSURE; CPM_EPROTO: the server answered with an
 * error (its text: io_redis_error), the command was not executed;
 * CPM_EDOWN also for LOADING, MASTERDOWN, READONLY, OOM, NOREPLICAS, MISCONF,
 * CLUSTERDOWN, TRYAGAIN, BUSY, NOAUTH and WRONGPASS: alive, but cannot take
 * the write; and for MOVED and ASK, where no Cluster is configured or there
 * are too many. Nothing was written. */
int io_redis_command(struct io_redis *r, size_t argc, const struct cpm_pl *argv,
		struct redisReply **reply_r);

/* A script, by EVALSHA. All are loaded when it connects, in the round trip of
 * AUTH and SELECT, and one again when the server has forgotten it (NOSCRIPT:
 * was not executed, so giving it again is safe). Results as io_redis_command;
 * an error out of a script means "not executed" because no script of ours
 * fails after its first write, and Redis looks at OOM, READONLY, MISCONF and
 * NOREPLICAS only before a script's first write. */
int io_redis_eval(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count, struct redisReply **reply_r);

/* The same, and in the same round trip "WAIT wait_replicas wait_ms": CPM_OK
 * says that so many replicas have it too. CPM_EUNSURE: as above, or it was
 * executed and fewer replicas said so in time. Without wait_replicas or
 * wait_ms it is io_redis_eval. */
int io_redis_eval_durable(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count, struct redisReply **reply_r);

/* The same in two halves, to have many on their way at once: first any
 * number of _add, then as many _get, in order. After a failed _add or _get
 * the rest is lost: call no more _get. Results as above. On a Cluster all
 * nodes work at the same time; answers are read as they are fetched, but when
 * one of them is a redirection those that are on their way are read first,
 * and kept: at most IO_REDIS_KEPT_MAX bytes. */
int io_redis_eval_add(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count);
int io_redis_command_add(
		struct io_redis *r, size_t argc, const struct cpm_pl *argv);
int io_redis_get(struct io_redis *r, struct redisReply **reply_r);

#define IO_REDIS_KEPT_MAX (64 * 1024 * 1024)

void io_redis_reply_free(struct redisReply **reply);

/* What an operator should know of a server. Where an ACL or an old version
 * gives no answer: -1, or an empty text. */
struct io_redis_server
{
	char addr[IO_REDIS_HOST_MAX + 16]; /* "host:port", "[v6]:port", a path */
	bool down;						   /* does not answer: no more is known */
	char version[32];				   /* "7.0.15" */
	int64_t maxmemory;				   /* bytes; 0: no limit */
	char maxmemory_policy[32];		   /* "noeviction" is the one to have */
	int aof_enabled;				   /* 1, 0 */
	char appendfsync[16];			   /* "always", "everysec", "no" */
	int rdb_enabled;				   /* 1: snapshots are configured; 0 */
	int replicas;					   /* connected ones */
	int min_replicas;				   /* min-replicas-to-write */
};

/* The facts of each master: at most cap of them, to servers[0 .. *n_r - 1].
 * One round trip for each, INFO and CONFIG GET. CPM_OK: at least one can be
 * reached, and those of a Cluster that cannot are `down`; CPM_EDOWN: none. */
int io_redis_survey(struct io_redis *r, struct io_redis_server *servers,
		size_t cap, size_t *n_r);

#endif
