/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_redis.c - see io_redis.h: which server gets a command, and what becomes
 * of its answer. io_conn speaks with one server, io_sentinel and io_cluster
 * know where it is.
 *
 * A command is encoded once, for the first server that is asked. A
 * redirection says that it was not executed, so the same bytes go to the next
 * one. (A script's SHA1 depends on its text alone, so it is the same there.)
 */

#include "io_redis.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <hiredis/hiredis.h>

#include "io_clock.h"
#include "io_cluster.h"
#include "io_conn.h"
#include "io_sentinel.h"
#include "io_slots.h"

#define DEFAULT_CONNECT_TIMEOUT_MS 500
#define DEFAULT_CMD_TIMEOUT_MS 250

#define AGAIN_MS 15			  /* between TRYAGAIN and the next try */
#define ENTRIES_KEEP_MAX 1024 /* a longer table is given back */
#define NO_SCRIPT CPM_SCRIPT_COUNT_

/* One command of a pipeline. */
struct entry
{
	struct io_conn *c;
	size_t at; /* its bytes in c->out */
	size_t n;
	unsigned slot;
	enum cpm_script script; /* NO_SCRIPT: a plain command */
	bool load;				/* the answer to a SCRIPT LOAD comes first */
	bool is_read;			/* rc, and reply if that is CPM_OK, are there */
	int rc;
	redisReply *reply;
};

struct io_redis
{
	struct io_redis_conf conf;
	struct io_conn one;			 /* one server, or Sentinel's master */
	struct io_sentinel sentinel; /* topology Sentinel */
	struct io_cluster *cluster;	 /* topology Cluster, else NULL */
	struct io_buf call;			 /* the command of a single call */
	struct io_buf pre;			 /* what goes in front of it */

	/* the pipeline, between _add and the last _get */
	struct entry *entry;
	size_t entry_n;
	size_t entry_at;
	size_t entry_cap;
	bool sent;
	size_t kept; /* bytes of the answers that wait in entry */
	struct io_conn *used[IO_SLOTS_NODES_MAX];
	size_t used_n;

	char error[IO_CONN_ERROR_MAX + IO_REDIS_HOST_MAX + 16];
};

/* ------------------------------------------------------------------- errors */

static int fail(struct io_redis *r, int rc, const char *text)
{
	(void)snprintf(r->error, sizeof(r->error), "%s", text);
	return rc;
}

/* c's error becomes that of the call. */
static int conn_failed(struct io_redis *r, const struct io_conn *c, int rc)
{
	const char *open = strchr(c->addr.host, ':') != NULL ? "[" : "";
	const char *end = open[0] != '\0' ? "]" : "";

	if(r->conf.topology == IO_REDIS_ONE)
		return fail(r, rc, c->error);
	(void)snprintf(r->error, sizeof(r->error), "%s%s%s:%u: %s", open,
			c->addr.host, end, c->addr.port, c->error);
	if(r->cluster != NULL && (rc == CPM_EDOWN || rc == CPM_EUNSURE)
			&& c->fd < 0)
		io_cluster_doubt(r->cluster);
	return rc;
}

/* --------------------------------------------------------------- connecting */

static uint64_t from_now(unsigned ms)
{
	return io_clock_mono_ms() + ms;
}

static int conn_ready(struct io_redis *r, unsigned slot, uint64_t until_ms,
		struct io_conn **c_r)
{
	int rc;

	*c_r = &r->one;
	if(r->conf.topology == IO_REDIS_ONE)
		rc = io_conn_ready(*c_r, until_ms);
	else if(r->conf.topology == IO_REDIS_SENTINEL)
		rc = io_sentinel_ready(&r->sentinel, *c_r);
	else
		rc = io_cluster_ready(r->cluster, slot, until_ms, c_r);
	if(rc == CPM_OK)
		return CPM_OK;
	return *c_r != NULL ? conn_failed(r, *c_r, rc)
						: fail(r, rc, r->cluster->error);
}

static unsigned slot_of(
		const struct io_redis *r, size_t key_count, const struct cpm_pl *keys)
{
	return r->cluster != NULL && key_count > 0 ? io_slots_of(keys[0])
											   : IO_CLUSTER_ANY;
}

static void entries_drop(struct io_redis *r)
{
	for(size_t i = r->entry_at; i < r->entry_n; i++) {
		if(r->entry[i].reply != NULL)
			freeReplyObject(r->entry[i].reply);
	}
	r->entry_n = 0;
	r->entry_at = 0;
	r->kept = 0;
	if(r->entry_cap > ENTRIES_KEEP_MAX) {
		free(r->entry);
		r->entry = NULL;
		r->entry_cap = 0;
	}
}

/* An answer that is on its way can only be got rid of together with its
 * connection. */
static void pipeline_drop(struct io_redis *r)
{
	entries_drop(r);
	for(size_t i = 0; i < r->used_n; i++) {
		struct io_conn *c = r->used[i];
		if(c->owed > 0)
			io_conn_close(c);
		io_buf_reset(&c->out);
		memset(c->loaded, 0, sizeof(c->loaded));
		c->used = false;
		c->rc = CPM_OK;
	}
	r->used_n = 0;
	r->sent = false;
}

/* Before the first command of a call or a pipeline: nothing is on its way. */
static int begin(struct io_redis *r)
{
	pipeline_drop(r);
	if(r->cluster != NULL && io_cluster_begin(r->cluster) != CPM_OK)
		return fail(r, CPM_EDOWN, r->cluster->error);
	return CPM_OK;
}

/* ------------------------------------------------------------- one exchange */

/* A command on its way through servers. */
struct job
{
	struct io_conn *c;
	struct cpm_pl bytes;
	struct cpm_pl wait; /* WAIT behind it, or empty */
	unsigned slot;
	enum cpm_script script;
	uint64_t deadline_ms;
	uint64_t end_ms; /* with all connecting */
	bool asking;
	bool load;
	unsigned hops;
	redisReply *reply;
	redisReply *wait_reply;
};

static void job_forget(struct job *j)
{
	if(j->reply != NULL)
		freeReplyObject(j->reply);
	if(j->wait_reply != NULL)
		freeReplyObject(j->wait_reply);
	j->reply = NULL;
	j->wait_reply = NULL;
}

static int swallow(struct job *j, size_t count)
{
	redisReply *reply = NULL;
	int rc = CPM_OK;

	while(count > 0 && rc == CPM_OK) {
		rc = io_conn_recv(j->c, j->deadline_ms, &reply);
		if(rc == CPM_OK)
			freeReplyObject(reply);
		count--;
	}
	return rc;
}

/* Sends it with what goes before and behind it, and reads all answers. When
 * SCRIPT LOAD or ASKING fails, the answer behind it tells. */
static int job_exchange(struct io_redis *r, struct job *j)
{
	size_t before = (size_t)j->load + (size_t)j->asking;

	io_buf_reset(&r->pre);
	if(j->load)
		io_buf_load(&r->pre, j->script);
	if(j->asking)
		io_buf_command(&r->pre, 1, &CPM_PL_LIT("ASKING"));
	if(r->pre.failed)
		return fail(r, CPM_EDOWN, "no memory");
	const struct cpm_pl parts[] = {io_buf_pl(&r->pre), j->bytes, j->wait};
	int rc = io_conn_send(j->c, parts, 3, before + 1 + (j->wait.n > 0 ? 1 : 0),
			j->deadline_ms);
	if(rc == CPM_OK)
		rc = swallow(j, before);
	if(rc == CPM_OK)
		rc = io_conn_recv(j->c, j->deadline_ms, &j->reply);
	if(rc == CPM_OK && j->wait.n > 0)
		rc = io_conn_recv(j->c, j->deadline_ms, &j->wait_reply);
	if(rc == CPM_OK)
		return CPM_OK;
	job_forget(j);
	return conn_failed(r, j->c, rc);
}

/* What the time of the command was is not used up by connecting, which has
 * its own. */
static int job_connect(struct io_redis *r, struct job *j, struct io_conn *c)
{
	uint64_t from = io_clock_mono_ms();
	int rc;

	if(c != NULL) {
		rc = io_conn_ready(c, j->end_ms);
		if(rc != CPM_OK)
			rc = conn_failed(r, c, rc);
	} else
		rc = conn_ready(r, j->slot, j->end_ms, &c);
	j->c = c;
	j->deadline_ms += io_clock_mono_ms() - from;
	if(j->deadline_ms > j->end_ms)
		j->deadline_ms = j->end_ms;
	return rc;
}

/* What the error in j->reply asks for is prepared. CPM_OK: to be sent (again);
 * CPM_ENOENT: nothing, the answer is final; CPM_EDOWN: cannot be done. */
static int job_mend(struct io_redis *r, struct job *j)
{
	struct cpm_pl error = io_reply_error(j->reply);
	struct io_redis_addr addr;
	unsigned slot = 0;

	if(error.n == 0)
		return CPM_ENOENT;
	if(j->script != NO_SCRIPT && !j->load && io_error_is(error, "NOSCRIPT")) {
		j->load = true;
		return CPM_OK;
	}
	if(r->cluster == NULL)
		return CPM_ENOENT;
	enum io_slots_word word =
			io_slots_word(error, j->c->addr.host, &slot, &addr);
	if(word == IO_SLOTS_ANSWER || word == IO_SLOTS_BAD)
		return CPM_ENOENT;
	if(word == IO_SLOTS_DOWN || word == IO_SLOTS_MOVED)
		io_cluster_doubt(r->cluster);
	j->load = false;
	if(word == IO_SLOTS_AGAIN || word == IO_SLOTS_DOWN) {
		/* a last try that has no time for its answer would be a time-out, and
		 * rob the users of other slots of this node */
		if(io_clock_mono_ms() + AGAIN_MS + r->conf.cmd_timeout_ms / 4
				>= j->deadline_ms)
			return CPM_ENOENT;
		(void)poll(NULL, 0, AGAIN_MS);
		j->asking = false;
		j->hops = 0;
		return job_connect(r, j, io_cluster_owner(r->cluster, j->slot));
	}
	if(j->hops == IO_REDIS_HOPS_MAX)
		return CPM_ENOENT;
	j->hops++;
	j->asking = word == IO_SLOTS_ASK;
	struct io_conn *c =
			io_cluster_redirect(r->cluster, !j->asking, slot, &addr);
	if(c == NULL)
		return fail(r, CPM_EDOWN, "too many nodes in the cluster");
	return job_connect(r, j, c);
}

/* Whatever wants to be sent again is; if j->reply is there already, it begins
 * with that. CPM_OK: j->reply is the answer, an error perhaps. */
static int job_run(struct io_redis *r, struct job *j)
{
	for(;;) {
		int rc = j->reply != NULL ? CPM_OK : job_exchange(r, j);
		if(rc != CPM_OK)
			return rc;
		rc = job_mend(r, j);
		if(rc == CPM_ENOENT)
			return CPM_OK;
		job_forget(j);
		if(rc != CPM_OK)
			return rc;
	}
}

/* Hands a reply to the caller, or turns an error reply into a result. */
static int deliver(struct io_redis *r, struct io_conn *c, redisReply *reply,
		struct redisReply **reply_r)
{
	struct cpm_pl error = io_reply_error(reply);

	if(error.n == 0 && reply->type != REDIS_REPLY_ERROR) {
		r->error[0] = '\0';
		*reply_r = reply;
		return CPM_OK;
	}
	int rc = conn_failed(r, c, io_conn_error_reply(c, reply));
	if(r->conf.topology == IO_REDIS_SENTINEL && io_sentinel_doubts(c, error))
		io_conn_close(c);
	freeReplyObject(reply);
	return rc;
}

/* ---------------------------------------------------------------- interface */

struct io_redis *io_redis_new(const struct io_redis_conf *conf)
{
	struct io_redis *r = calloc(1, sizeof(*r));

	if(r == NULL)
		return NULL;
	r->conf = *conf;
	if(r->conf.connect_timeout_ms == 0)
		r->conf.connect_timeout_ms = DEFAULT_CONNECT_TIMEOUT_MS;
	if(r->conf.cmd_timeout_ms == 0)
		r->conf.cmd_timeout_ms = DEFAULT_CMD_TIMEOUT_MS;
	const struct io_conn_how how = {
			.user = r->conf.user,
			.pass = r->conf.pass,
			.db = r->conf.db,
			.scripts = true,
			.master = r->conf.topology == IO_REDIS_SENTINEL,
			.connect_timeout_ms = r->conf.connect_timeout_ms,
			.cmd_timeout_ms = r->conf.cmd_timeout_ms,
	};
	io_conn_init(&r->one, &how);
	memcpy(r->one.addr.host, r->conf.addr, sizeof(r->conf.addr));
	r->one.addr.port = r->conf.port;
	if(r->conf.unix_path[0] != '\0')
		r->one.unix_path = r->conf.unix_path;
	r->sentinel.conf = &r->conf;
	if(r->conf.topology == IO_REDIS_CLUSTER) {
		r->cluster = io_cluster_new(&r->conf, &how);
		if(r->cluster == NULL) {
			free(r);
			return NULL;
		}
	}
	return r;
}

void io_redis_free(struct io_redis **r)
{
	if(*r == NULL)
		return;
	pipeline_drop(*r);
	io_conn_fini(&(*r)->one);
	io_cluster_free(&(*r)->cluster);
	io_buf_free(&(*r)->call);
	io_buf_free(&(*r)->pre);
	free((*r)->entry);
	free(*r);
	*r = NULL;
}

const char *io_redis_error(const struct io_redis *r)
{
	return r->error;
}

void io_redis_reply_free(struct redisReply **reply)
{
	if(*reply != NULL)
		freeReplyObject(*reply);
	*reply = NULL;
}

/* A connection for a call, and the times of the call. */
static int job_begin(struct io_redis *r, struct job *j, unsigned slot,
		enum cpm_script script, unsigned extra_ms)
{
	int rc = begin(r);

	memset(j, 0, sizeof(*j));
	j->slot = slot;
	j->script = script;
	j->end_ms = from_now(
			r->conf.connect_timeout_ms + 2 * r->conf.cmd_timeout_ms + extra_ms);
	if(rc == CPM_OK)
		rc = conn_ready(r, slot, j->end_ms, &j->c);
	/* Sentinel has had its time to find the master: the command's is its own */
	j->deadline_ms = from_now(r->conf.cmd_timeout_ms + extra_ms);
	io_buf_reset(&r->call);
	return rc;
}

static int job_encoded(struct io_redis *r, struct job *j)
{
	if(r->call.failed)
		return fail(r, CPM_EDOWN, "no memory");
	j->bytes = io_buf_pl(&r->call);
	return CPM_OK;
}

int io_redis_command(struct io_redis *r, size_t argc, const struct cpm_pl *argv,
		struct redisReply **reply_r)
{
	struct job j;
	unsigned slot = slot_of(r, argc > 1 ? 1 : 0, argv + 1);
	int rc = job_begin(r, &j, slot, NO_SCRIPT, 0);

	if(rc != CPM_OK)
		return rc;
	io_buf_command(&r->call, argc, argv);
	rc = job_encoded(r, &j);
	if(rc == CPM_OK)
		rc = job_run(r, &j);
	io_buf_reset(&r->call);
	return rc == CPM_OK ? deliver(r, j.c, j.reply, reply_r) : rc;
}

/* How many replicas have a write of this connection. */
static int check_replicas(
		struct io_redis *r, struct io_conn *c, const redisReply *wait)
{
	if(wait->type == REDIS_REPLY_INTEGER
			&& wait->integer >= (long long)r->conf.wait_replicas)
		return CPM_OK;
	(void)io_conn_fail(c, CPM_EUNSURE,
			"executed, but only %lld of %u replicas have it",
			wait->type == REDIS_REPLY_INTEGER ? wait->integer : 0LL,
			r->conf.wait_replicas);
	int rc = conn_failed(r, c, CPM_EUNSURE);
	/* so does a master that was replaced, and has not been told yet */
	if(r->conf.topology == IO_REDIS_SENTINEL
			&& io_sentinel_doubts(c, CPM_PL_LIT("NOREPLICAS")))
		io_conn_close(c);
	return rc;
}

static int eval(struct io_redis *r, bool durable, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count, struct redisReply **reply_r)
{
	char replicas[16], ms[16];
	struct job j;
	int rc = job_begin(r, &j, slot_of(r, key_count, keys), script,
			durable ? r->conf.wait_ms : 0);

	if(rc != CPM_OK)
		return rc;
	io_buf_eval(&r->call, j.c->sha[script], keys, key_count, args, arg_count);
	size_t n = r->call.n;
	if(durable) {
		(void)snprintf(replicas, sizeof(replicas), "%u", r->conf.wait_replicas);
		(void)snprintf(ms, sizeof(ms), "%u", r->conf.wait_ms);
		const struct cpm_pl argv[] = {
				CPM_PL_LIT("WAIT"), cpm_pl_str(replicas), cpm_pl_str(ms)};
		io_buf_command(&r->call, 3, argv);
	}
	rc = job_encoded(r, &j);
	if(rc == CPM_OK) {
		j.wait = cpm_pl_from(j.bytes, n);
		j.bytes.n = n;
		rc = job_run(r, &j);
	}
	io_buf_reset(&r->call);
	if(rc == CPM_OK && durable && j.reply->type != REDIS_REPLY_ERROR)
		rc = check_replicas(r, j.c, j.wait_reply);
	if(j.wait_reply != NULL)
		freeReplyObject(j.wait_reply);
	j.wait_reply = NULL;
	if(rc != CPM_OK) {
		job_forget(&j);
		return rc;
	}
	return deliver(r, j.c, j.reply, reply_r);
}

int io_redis_eval(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count, struct redisReply **reply_r)
{
	return eval(r, false, script, keys, key_count, args, arg_count, reply_r);
}

int io_redis_eval_durable(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count, struct redisReply **reply_r)
{
	/* WAIT with a time of 0 waits for ever */
	bool durable = r->conf.wait_replicas > 0 && r->conf.wait_ms > 0;

	return eval(r, durable, script, keys, key_count, args, arg_count, reply_r);
}

/* --------------------------------------------------------------- pipelining */

static bool is_used(const struct io_conn *c)
{
	return c != NULL && c->used;
}

/* Connects when this is the first of a pipeline for its server: a script's
 * SHA is known once it was connected, and a server that is down is told of
 * before any work. */
static int pipeline_conn(
		struct io_redis *r, unsigned slot, struct io_conn **c_r)
{
	struct io_conn *c = &r->one;
	int rc = r->entry_n > 0 && !r->sent ? CPM_OK : begin(r);

	if(rc != CPM_OK)
		return rc;
	if(r->cluster != NULL)
		c = slot == IO_CLUSTER_ANY && r->used_n > 0
					? r->used[0]
					: io_cluster_owner(r->cluster, slot);
	if(!is_used(c)) {
		rc = conn_ready(r, slot, UINT64_MAX, &c);
		if(rc != CPM_OK) {
			pipeline_drop(r);
			return rc;
		}
	}
	if(!c->used) {
		c->used = true;
		r->used[r->used_n++] = c;
	}
	*c_r = c;
	return CPM_OK;
}

static struct entry *entry_new(struct io_redis *r)
{
	if(r->entry_n == r->entry_cap) {
		size_t cap = r->entry_cap == 0 ? 64 : r->entry_cap * 2;
		struct entry *entry = realloc(r->entry, cap * sizeof(*entry));
		if(entry == NULL)
			return NULL;
		r->entry = entry;
		r->entry_cap = cap;
	}
	struct entry *e = &r->entry[r->entry_n++];
	memset(e, 0, sizeof(*e));
	return e;
}

/* The entry of what was put into c->out from `at` on. */
static int pipeline_added(struct io_redis *r, struct io_conn *c, unsigned slot,
		enum cpm_script script, size_t at, bool load)
{
	struct entry *e = c->out.failed ? NULL : entry_new(r);

	if(e == NULL) {
		pipeline_drop(r);
		return fail(r, CPM_EDOWN, "no memory");
	}
	e->c = c;
	e->at = at;
	e->n = c->out.n - at;
	e->slot = slot;
	e->script = script;
	e->load = load;
	return CPM_OK;
}

int io_redis_command_add(
		struct io_redis *r, size_t argc, const struct cpm_pl *argv)
{
	unsigned slot = slot_of(r, argc > 1 ? 1 : 0, argv + 1);
	struct io_conn *c;
	int rc = pipeline_conn(r, slot, &c);

	if(rc != CPM_OK)
		return rc;
	size_t at = c->out.n;
	io_buf_command(&c->out, argc, argv);
	return pipeline_added(r, c, slot, NO_SCRIPT, at, false);
}

int io_redis_eval_add(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count)
{
	unsigned slot = slot_of(r, key_count, keys);
	struct io_conn *c;
	int rc = pipeline_conn(r, slot, &c);

	if(rc != CPM_OK)
		return rc;
	/* a script in the middle of a pipeline cannot be given again when the
	 * server has forgotten it, so each pipeline brings what it uses */
	bool load = !c->loaded[script];
	if(load)
		io_buf_load(&c->out, script);
	c->loaded[script] = true;
	size_t at = c->out.n;
	io_buf_eval(&c->out, c->sha[script], keys, key_count, args, arg_count);
	return pipeline_added(r, c, slot, script, at, load);
}

/* To all servers, before the first answer is waited for. */
static void pipeline_send(struct io_redis *r, uint64_t deadline_ms)
{
	for(size_t i = 0; i < r->used_n; i++)
		r->used[i]->rc = CPM_OK;
	for(size_t i = 0; i < r->used_n; i++) {
		struct io_conn *c = r->used[i];
		struct cpm_pl part = io_buf_pl(&c->out);
		size_t answers = 0;
		for(size_t k = 0; k < r->entry_n; k++) {
			if(r->entry[k].c == c)
				answers += r->entry[k].load ? 2 : 1;
		}
		c->rc = io_conn_send(c, &part, 1, answers, deadline_ms);
		/* a command that is redirected is taken from there once more */
		if(r->cluster == NULL)
			io_buf_reset(&c->out);
	}
	r->sent = true;
}

/* Reads the next answer of its server, which is this entry's. */
static void entry_read(struct entry *e, uint64_t deadline_ms)
{
	struct io_conn *c = e->c;

	if(e->is_read)
		return;
	for(size_t n = e->load ? 2 : 1; n > 0 && c->rc == CPM_OK; n--) {
		redisReply *reply = NULL;
		c->rc = io_conn_recv(c, deadline_ms, &reply);
		if(c->rc == CPM_OK && n == 1)
			e->reply = reply;
		else if(reply != NULL)
			freeReplyObject(reply); /* the script's own answer will tell */
	}
	e->rc = c->rc;
	e->is_read = true;
}

/* About how much memory a reply has. */
static size_t reply_bytes(const redisReply *reply)
{
	size_t n = sizeof(*reply);

	if(reply->type == REDIS_REPLY_ARRAY) {
		for(size_t i = 0; i < reply->elements; i++)
			n += sizeof(reply) + reply_bytes(reply->element[i]);
	} else if(reply->str != NULL)
		n += (size_t)reply->len;
	return n;
}

/* All that is on its way is read, so that the connections are free. CPM_OK;
 * CPM_ELIMIT: too much. */
static int entries_gather(struct io_redis *r, uint64_t deadline_ms)
{
	for(size_t i = r->entry_at; i < r->entry_n; i++) {
		struct entry *e = &r->entry[i];
		if(e->is_read)
			continue;
		entry_read(e, deadline_ms);
		if(e->rc == CPM_OK)
			r->kept += reply_bytes(e->reply);
		if(r->kept > IO_REDIS_KEPT_MAX)
			return CPM_ELIMIT;
	}
	return CPM_OK;
}

static bool wants_other(const struct entry *e)
{
	struct io_redis_addr addr;
	unsigned slot;
	struct cpm_pl error = io_reply_error(e->reply);

	if(error.n == 0)
		return false;
	enum io_slots_word word =
			io_slots_word(error, e->c->addr.host, &slot, &addr);
	return word != IO_SLOTS_ANSWER && word != IO_SLOTS_BAD;
}

/* Follows the redirection that is e's answer. */
static int entry_mend(struct io_redis *r, struct entry *e, uint64_t deadline_ms)
{
	struct job j = {.c = e->c,
			.bytes = cpm_pl(e->c->out.p + e->at, e->n),
			.slot = e->slot,
			.script = e->script,
			.reply = e->reply};

	if(entries_gather(r, deadline_ms) != CPM_OK)
		return fail(r, CPM_EUNSURE, "too many answers at once");
	e->reply = NULL;
	j.deadline_ms = from_now(r->conf.cmd_timeout_ms);
	j.end_ms =
			from_now(r->conf.connect_timeout_ms + 2 * r->conf.cmd_timeout_ms);
	int rc = job_run(r, &j);
	e->c = j.c;
	e->reply = j.reply;
	return rc;
}

/* The rest of a pipeline is lost together with its connections. */
static int pipeline_fail(struct io_redis *r, int rc)
{
	pipeline_drop(r);
	return rc;
}

int io_redis_get(struct io_redis *r, struct redisReply **reply_r)
{
	uint64_t deadline = from_now(r->conf.cmd_timeout_ms);
	int rc;

	if(r->entry_at == r->entry_n)
		return fail(r, CPM_EPROTO, "no answer is expected");
	if(!r->sent)
		pipeline_send(r, deadline);
	struct entry *e = &r->entry[r->entry_at];
	entry_read(e, deadline);
	rc = e->rc;
	if(rc != CPM_OK)
		return pipeline_fail(r, conn_failed(r, e->c, rc));
	if(r->cluster != NULL && wants_other(e)) {
		rc = entry_mend(r, e, deadline);
		if(rc != CPM_OK)
			return pipeline_fail(r, rc);
	}
	redisReply *reply = e->reply;
	e->reply = NULL;
	r->entry_at++;
	rc = deliver(r, e->c, reply, reply_r);
	if(rc != CPM_OK)
		return pipeline_fail(r, rc);
	if(r->entry_at == r->entry_n)
		pipeline_drop(r);
	return CPM_OK;
}

/* ------------------------------------------------------------------ survey */

static const char *const survey_keys[] = {
		"appendfsync", "save", "min-replicas-to-write"};
#define SURVEY_KEYS (sizeof(survey_keys) / sizeof(survey_keys[0]))

static struct cpm_pl text_of(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_STRING
				   ? cpm_pl(reply->str, (size_t)reply->len)
				   : CPM_PL_NULL;
}

/* "name:value" on a line of INFO; n 0: is not there. */
static struct cpm_pl info_value(struct cpm_pl info, const char *name)
{
	while(info.n > 0) {
		struct cpm_pl line = cpm_pl_trim(cpm_pl_cut(&info, '\n'));
		if(cpm_pl_eq(cpm_pl_cut(&line, ':'), cpm_pl_str(name)))
			return line;
	}
	return CPM_PL_NULL;
}

static int64_t number_of(struct cpm_pl text, uint64_t max)
{
	uint64_t v;

	return cpm_pl_u64(text, max, &v) == CPM_OK ? (int64_t)v : -1;
}

static void survey_info(struct cpm_pl info, struct io_redis_server *s)
{
	cpm_pl_cstr(
			info_value(info, "redis_version"), s->version, sizeof(s->version));
	cpm_pl_cstr(info_value(info, "maxmemory_policy"), s->maxmemory_policy,
			sizeof(s->maxmemory_policy));
	s->maxmemory = number_of(info_value(info, "maxmemory"), INT64_MAX);
	s->aof_enabled = (int)number_of(info_value(info, "aof_enabled"), 1);
	s->replicas =
			(int)number_of(info_value(info, "connected_slaves"), INT32_MAX);
}

/* [name, value]; a refusal leaves the field as it is. */
static void survey_config(
		size_t key, const redisReply *reply, struct io_redis_server *s)
{
	if(reply->type != REDIS_REPLY_ARRAY || reply->elements != 2
			|| reply->element[1]->type != REDIS_REPLY_STRING)
		return;
	struct cpm_pl value = text_of(reply->element[1]);
	if(key == 0)
		cpm_pl_cstr(value, s->appendfsync, sizeof(s->appendfsync));
	else if(key == 1)
		s->rdb_enabled = value.n > 0 ? 1 : 0;
	else
		s->min_replicas = (int)number_of(value, INT32_MAX);
}

static void survey_addr(const struct io_conn *c, struct io_redis_server *s)
{
	bool v6 = strchr(c->addr.host, ':') != NULL;

	if(c->unix_path != NULL)
		(void)snprintf(s->addr, sizeof(s->addr), "%s", c->unix_path);
	else
		(void)snprintf(s->addr, sizeof(s->addr), "%s%s%s:%u", v6 ? "[" : "",
				c->addr.host, v6 ? "]" : "", c->addr.port);
}

static void survey_init(const struct io_conn *c, struct io_redis_server *s)
{
	memset(s, 0, sizeof(*s));
	s->maxmemory = s->aof_enabled = s->rdb_enabled = -1;
	s->replicas = s->min_replicas = -1;
	survey_addr(c, s);
}

/* CPM_OK: s is filled; else the server did not answer. */
static int survey_one(
		struct io_redis *r, struct io_conn *c, struct io_redis_server *s)
{
	uint64_t deadline = from_now(r->conf.cmd_timeout_ms);

	io_buf_reset(&r->call);
	io_buf_command(&r->call, 1, &CPM_PL_LIT("INFO"));
	for(size_t i = 0; i < SURVEY_KEYS; i++) {
		const struct cpm_pl argv[] = {CPM_PL_LIT("CONFIG"), CPM_PL_LIT("GET"),
				cpm_pl_str(survey_keys[i])};
		io_buf_command(&r->call, 3, argv);
	}
	if(r->call.failed)
		return fail(r, CPM_EDOWN, "no memory");
	struct cpm_pl part = io_buf_pl(&r->call);
	int rc = io_conn_send(c, &part, 1, 1 + SURVEY_KEYS, deadline);
	for(size_t i = 0; i <= SURVEY_KEYS && rc == CPM_OK; i++) {
		redisReply *reply = NULL;
		rc = io_conn_recv(c, deadline, &reply);
		if(rc != CPM_OK)
			break;
		if(i == 0)
			survey_info(text_of(reply), s);
		else
			survey_config(i - 1, reply, s);
		freeReplyObject(reply);
	}
	io_buf_reset(&r->call);
	return rc == CPM_OK ? CPM_OK : conn_failed(r, c, rc);
}

/* The next slot of a node that has not been looked at. */
static unsigned survey_slot(
		const struct io_redis *r, unsigned slot, bool seen[IO_SLOTS_NODES_MAX])
{
	for(; slot < IO_SLOTS; slot++) {
		uint16_t node = r->cluster->map->owner[slot];
		if(node != IO_SLOTS_NONE && !seen[node]) {
			seen[node] = true;
			break;
		}
	}
	return slot;
}

int io_redis_survey(struct io_redis *r, struct io_redis_server *servers,
		size_t cap, size_t *n_r)
{
	bool seen[IO_SLOTS_NODES_MAX] = {false};
	unsigned slot = 0;
	size_t n = 0, up = 0;
	int rc = begin(r);

	if(rc != CPM_OK)
		return rc;
	while(n < cap) {
		struct io_conn *c = NULL;
		if(r->cluster != NULL) {
			slot = survey_slot(r, slot, seen);
			if(slot == IO_SLOTS)
				break;
		}
		rc = conn_ready(r, slot, UINT64_MAX, &c);
		if(c != NULL) {
			survey_init(c, &servers[n]);
			if(rc == CPM_OK)
				rc = survey_one(r, c, &servers[n]);
			servers[n++].down = rc != CPM_OK;
			up += rc == CPM_OK ? 1 : 0;
		}
		if(r->cluster == NULL)
			break;
	}
	if(up == 0)
		return CPM_EDOWN;
	*n_r = n;
	return CPM_OK;
}
