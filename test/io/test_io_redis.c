/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_redis.c - the connection against a real server, and against every
 * way in which a server or the net between can fail.
 *
 * Times in assertions are generous: they tell a bounded wait from an endless
 * one, and from a second one, on a slow machine too.
 */

#include "io_redis.h"

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check_helpers.h"
#include "client_helper.h"
#include "io_clock.h"
#include "redis_helper.h"

#define LIT CPM_PL_LIT
#define AOR_TEXT "sip:bob@example.org"

/* ------------------------------------------------------------ configuration */

struct conf_row
{
	const char *in;
	int rc;
	const char *why;
	size_t at;
	const char *addr;
	unsigned port;
	const char *unix_path;
	const char *user;
	const char *pass;
	unsigned db;
};

#define GOOD(in, addr, port, unix_path, user, pass, db)            \
	{                                                              \
		in, CPM_OK, NULL, 0, addr, port, unix_path, user, pass, db \
	}
#define BAD(in, why, at)                                      \
	{                                                         \
		in, CPM_EPROTO, why, at, NULL, 0, NULL, NULL, NULL, 0 \
	}

static const struct conf_row conf_rows[] = {
		GOOD("", "127.0.0.1", 6379, "", "", "", 0),
		GOOD(";", "127.0.0.1", 6379, "", "", "", 0),
		GOOD("name=a;addr=10.0.0.1;port=6380;db=2", "10.0.0.1", 6380, "", "",
				"", 2),
		GOOD(" name = a ; addr = ::1 ; ", "::1", 6379, "", "", "", 0),
		GOOD("unix=/run/r.sock;pass=a=b", "127.0.0.1", 6379, "/run/r.sock", "",
				"a=b", 0),
		GOOD("user=u;pass=p", "127.0.0.1", 6379, "", "u", "p", 0),
		GOOD("port=65535;db=0", "127.0.0.1", 65535, "", "", "", 0),
		BAD("adr=1.2.3.4", "unknown-key", 0),
		BAD("ADDR=1.2.3.4", "unknown-key", 0),
		BAD("name=a;sentinel=h:1", "sentinel-without-group", 0),
		BAD("=x", "unknown-key", 0),
		BAD("addr", "no-value", 0),
		BAD("addr=", "no-value", 0),
		BAD("name=a; addr= ;port=1", "no-value", 7),
		BAD("port=0", "bad-port", 0),
		BAD("port=65536", "bad-port", 0),
		BAD("port=6379x", "bad-port", 0),
		BAD("port=-1", "bad-port", 0),
		BAD("db=-1", "bad-db", 0),
		BAD("db=99999999999", "bad-db", 0),
		BAD("user=u", "user-without-pass", 0),
		BAD("db=1;db=1", "repeated-key", 5),
		GOOD("addr=[2001:db8::1];port=7", "2001:db8::1", 7, "", "", "", 0),
		GOOD("tls=0;cluster=0", "127.0.0.1", 6379, "", "", "", 0),
		GOOD("cluster=1;addr=10.0.0.1;db=0", "10.0.0.1", 6379, "", "", "", 0),
		GOOD("sentinel_group=g;sentinel=h:1;db=2;pass=p", "127.0.0.1", 6379, "",
				"", "p", 2),
		BAD("addr=[::1", "bad-addr", 0),
		BAD("addr=[::1]:7", "bad-addr", 0),
		BAD("addr=[]", "bad-addr", 0),
		BAD("tls=1", "tls-not-available", 0),
		BAD("tls=yes", "bad-tls", 0),
		BAD("cluster=2", "bad-cluster", 0),
		BAD("cluster=yes", "bad-cluster", 0),
		BAD("cluster=1;db=1", "cluster-with-db", 0),
		BAD("cluster=1;unix=/s", "cluster-with-unix", 0),
		BAD("cluster=1;sentinel_group=g;sentinel=h:1", "sentinel-and-cluster",
				0),
		BAD("cluster=1;sentinel_pass=p", "sentinel-and-cluster", 0),
		BAD("sentinel_group=g", "no-sentinel", 0),
		BAD("sentinel_user=u;sentinel_pass=p", "no-sentinel", 0),
		BAD("sentinel_group=g;sentinel=h:1;sentinel_user=u",
				"user-without-pass", 0),
		BAD("sentinel_group=g;sentinel=h:1;addr=a", "sentinel-with-addr", 0),
		BAD("sentinel_group=g;sentinel=h:1;port=1", "sentinel-with-addr", 0),
		BAD("sentinel_group=g;sentinel=h:1;unix=/s", "sentinel-with-addr", 0),
		BAD("sentinel_group=g;sentinel=h:0", "bad-sentinel", 17),
		BAD("sentinel_group=g;sentinel=h:65536", "bad-sentinel", 17),
		BAD("sentinel_group=g;sentinel=h:", "bad-sentinel", 17),
		BAD("sentinel_group=g;sentinel=:5", "bad-sentinel", 17),
		BAD("sentinel_group=g;sentinel=::1", "bad-sentinel", 17),
		BAD("sentinel_group=g;sentinel=[::1", "bad-sentinel", 17),
		BAD("sentinel_group=g;sentinel=[]:1", "bad-sentinel", 17),
		BAD("sentinel_group=g;sentinel=[::1]1", "bad-sentinel", 17),
};

START_TEST(conf_table)
{
	const struct conf_row *row = &conf_rows[_i];
	struct io_redis_conf conf, untouched;
	struct cpm_diag diag = {NULL, 0};

	memset(&conf, 0x5a, sizeof(conf));
	conf.connect_timeout_ms = 11;
	conf.cmd_timeout_ms = 12;
	untouched = conf;
	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl_str(row->in), &conf, &diag), row->rc);
	if(row->rc != CPM_OK) {
		ck_assert_str_eq(diag.why, row->why);
		ck_assert_uint_eq(diag.at, row->at);
		ck_assert_mem_eq(&conf, &untouched, sizeof(conf));
		return;
	}
	ck_assert_str_eq(conf.addr, row->addr);
	ck_assert_uint_eq(conf.port, row->port);
	ck_assert_str_eq(conf.unix_path, row->unix_path);
	ck_assert_str_eq(conf.user, row->user);
	ck_assert_str_eq(conf.pass, row->pass);
	ck_assert_uint_eq(conf.db, row->db);
	ck_assert_uint_eq(conf.connect_timeout_ms, 11);
	ck_assert_uint_eq(conf.cmd_timeout_ms, 12);
}
END_TEST

START_TEST(conf_too_long)
{
	static const struct
	{
		const char *key;
		size_t max;
	} keys[] = {{"sentinel_group=g;sentinel", 255},
			{"sentinel=h;sentinel_group", 63}, {"name", 63}, {"addr", 255},
			{"unix", 107}, {"user", 127}, {"pass", 255}};
	struct io_redis_conf conf = {.connect_timeout_ms = 1};
	struct cpm_diag diag = {NULL, 0};
	char text[512];

	for(size_t over = 0; over <= 1; over++) {
		size_t n = (size_t)snprintf(text, sizeof(text), "%s=", keys[_i].key);
		memset(text + n, 'x', keys[_i].max + over);
		n += keys[_i].max + over;
		memcpy(text + n, ";pass=p", 8);
		if(strcmp(keys[_i].key, "pass") != 0)
			n += 7;
		ck_assert_int_eq(io_redis_conf_parse(cpm_pl(text, n), &conf, &diag),
				over == 0 ? CPM_OK : CPM_ELIMIT);
	}
	ck_assert_str_eq(diag.why, "too-long");
}
END_TEST

START_TEST(conf_sentinels)
{
	static const struct
	{
		const char *in;
		const char *host;
		unsigned port;
	} rows[] = {{"a:5", "a", 5}, {"a", "a", 26379},
			{"[2001:db8::1]:7", "2001:db8::1", 7}, {"[::1]", "::1", 26379}};
	struct io_redis_conf conf = {.wait_ms = 3, .wait_replicas = 4};
	struct cpm_diag diag = {NULL, 0};
	char text[1024];
	size_t n = (size_t)snprintf(text, sizeof(text),
			"sentinel_group=g;sentinel_user=u;sentinel_pass=p");

	for(size_t i = 0; i < FU_N(rows); i++)
		n += (size_t)snprintf(
				text + n, sizeof(text) - n, ";sentinel=%s", rows[i].in);
	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl(text, n), &conf, &diag), CPM_OK);
	ck_assert_int_eq(conf.topology, IO_REDIS_SENTINEL);
	ck_assert_str_eq(conf.sentinel_group, "g");
	ck_assert_str_eq(conf.sentinel_user, "u");
	ck_assert_str_eq(conf.sentinel_pass, "p");
	ck_assert_uint_eq(conf.server_count, FU_N(rows));
	ck_assert_uint_eq(conf.wait_ms, 3);
	ck_assert_uint_eq(conf.wait_replicas, 4);
	for(size_t i = 0; i < FU_N(rows); i++) {
		ck_assert_str_eq(conf.server[i].host, rows[i].host);
		ck_assert_uint_eq(conf.server[i].port, rows[i].port);
	}
	for(size_t i = FU_N(rows); i <= IO_REDIS_SERVERS_MAX; i++) {
		n += (size_t)snprintf(text + n, sizeof(text) - n, ";sentinel=s%zu", i);
		ck_assert_int_eq(io_redis_conf_parse(cpm_pl(text, n), &conf, &diag),
				i < IO_REDIS_SERVERS_MAX ? CPM_OK : CPM_ELIMIT);
	}
	ck_assert_str_eq(diag.why, "too-many-sentinels");
}
END_TEST

START_TEST(conf_seeds)
{
	static const struct
	{
		const char *first;
		const char *second;
		const char *why; /* NULL: fine */
	} rows[] = {
			{"cluster=1;addr=a", "cluster=1;addr=b;port=7", NULL},
			{"cluster=1;pass=p", "cluster=1;addr=b;pass=p", NULL},
			{"cluster=1;user=u;pass=p", "cluster=1;addr=b", NULL},
			{"cluster=1;pass=p", "cluster=1;addr=b;pass=q", "other-login"},
			{"cluster=1;pass=p", "cluster=1;user=u;pass=p", "other-login"},
			{"cluster=1", "cluster=1;pass=p", "other-login"},
			{"cluster=1", "addr=b", "several-servers"},
			{"addr=a", "addr=b", "several-servers"},
			{"addr=a", "cluster=1;addr=b", "several-servers"},
			{"sentinel_group=g;sentinel=h", "sentinel_group=g;sentinel=i",
					"several-servers"},
			{"cluster=1", "cluster=1;db=1", "cluster-with-db"},
			{"cluster=1", "tls=1;cluster=1", "tls-not-available"},
			{"cluster=1", "cluster=1;frob=1", "unknown-key"},
	};
	struct io_redis_conf conf = {.connect_timeout_ms = 1}, untouched;
	struct cpm_diag diag = {NULL, 0};

	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl_str(rows[_i].first), &conf, &diag),
			CPM_OK);
	untouched = conf;
	int rc = io_redis_conf_add(cpm_pl_str(rows[_i].second), &conf, &diag);
	if(rows[_i].why != NULL) {
		ck_assert_int_eq(rc, CPM_EPROTO);
		ck_assert_str_eq(diag.why, rows[_i].why);
		ck_assert_mem_eq(&conf, &untouched, sizeof(conf));
		return;
	}
	ck_assert_int_eq(rc, CPM_OK);
	ck_assert_uint_eq(conf.server_count, 2);
	ck_assert_str_eq(conf.server[1].host, "b");
	ck_assert_str_eq(conf.pass, untouched.pass);
	for(size_t i = 2; i <= IO_REDIS_SERVERS_MAX; i++)
		rc = io_redis_conf_add(LIT("cluster=1;addr=x"), &conf, &diag);
	ck_assert_int_eq(rc, CPM_ELIMIT);
	ck_assert_str_eq(diag.why, "too-many-seeds");
}
END_TEST

/* ------------------------------------------------------------------ helpers */

static struct redis_helper server;

static void ck_stat(struct io_redis *r, long long messages)
{
	redisReply *reply = NULL;
	int rc = stat_for(r, AOR_TEXT, &reply);

	ck_assert_msg(rc == CPM_OK, "%s", io_redis_error(r));
	ck_assert_int_eq(reply->type, REDIS_REPLY_ARRAY);
	ck_assert_uint_eq(reply->elements, 8);
	ck_assert_int_eq(reply->element[0]->integer, messages);
	io_redis_reply_free(&reply);
}

static int put_eval(struct io_redis *r, char *word, size_t cap)
{
	return put_for(r, AOR_TEXT, "id-1", false, word, cap);
}

static void start(void)
{
	redis_start(&server, NULL);
}

static void stop(struct io_redis *r)
{
	io_redis_free(&r);
	ck_assert_ptr_null(r);
	redis_stop(&server);
}

/* Lets the breaker close. */
static void rest(void)
{
	usleep((IO_REDIS_REST_MS + 50) * 1000);
}

/* ---------------------------------------------------------------- the proxy */

enum proxy_mode
{
	PROXY_PASS,
	PROXY_SWALLOW, /* answers are lost */
	PROXY_CUT,	   /* the connection ends instead of an answer */
	PROXY_GARBAGE, /* another protocol answers */
	PROXY_INJECT,  /* one answer too many, once */
};

/* Stands between client and server, and loses what goes back. */
struct proxy
{
	unsigned port;
	unsigned server_port;
	int listener;
	pthread_t thread;
	atomic_int mode;
	atomic_int connections;
	atomic_bool stop;
};

static int loopback(unsigned port, bool do_listen)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
			.sin_port = htons((uint16_t)port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	int rc = do_listen ? bind(fd, (struct sockaddr *)&addr, sizeof(addr))
					   : connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	if(rc != 0 || (do_listen && listen(fd, 8) != 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* False: this connection is over. */
static bool proxy_copy(struct proxy *p, int from, int to, bool is_answer)
{
	static const char garbage[] = "HTTP/1.0 400 Bad Request\r\n\r\n";
	char buf[16384];
	ssize_t n = recv(from, buf, sizeof(buf), 0);
	int mode = atomic_load(&p->mode);

	if(n <= 0)
		return false;
	if(is_answer && mode == PROXY_CUT)
		return false;
	if(is_answer && mode == PROXY_SWALLOW)
		return true;
	if(is_answer && mode == PROXY_GARBAGE)
		return send(to, garbage, sizeof(garbage) - 1, MSG_NOSIGNAL) > 0;
	if(send(to, buf, (size_t)n, MSG_NOSIGNAL) != n)
		return false;
	if(is_answer && mode == PROXY_INJECT) {
		atomic_store(&p->mode, PROXY_PASS);
		usleep(100000); /* not in one packet with the true answer */
		return send(to, ":666\r\n", 6, MSG_NOSIGNAL) == 6;
	}
	return true;
}

static void proxy_serve(struct proxy *p, int client)
{
	int upstream = loopback(p->server_port, false);
	struct pollfd fds[2] = {{.fd = client, .events = POLLIN},
			{.fd = upstream, .events = POLLIN}};
	bool ok = upstream >= 0;

	while(ok && !atomic_load(&p->stop)) {
		if(poll(fds, 2, 20) <= 0)
			continue;
		if(fds[0].revents != 0)
			ok = proxy_copy(p, client, upstream, false);
		if(ok && fds[1].revents != 0)
			ok = proxy_copy(p, upstream, client, true);
	}
	close(client);
	if(upstream >= 0)
		close(upstream);
}

static void *proxy_main(void *arg)
{
	struct proxy *p = arg;
	struct pollfd fd = {.fd = p->listener, .events = POLLIN};

	while(!atomic_load(&p->stop)) {
		if(poll(&fd, 1, 20) <= 0)
			continue;
		int client = accept(p->listener, NULL, NULL);
		if(client < 0)
			continue;
		atomic_fetch_add(&p->connections, 1);
		proxy_serve(p, client);
	}
	return NULL;
}

static void proxy_start(struct proxy *p, unsigned server_port)
{
	memset(p, 0, sizeof(*p));
	p->server_port = server_port;
	p->port = redis_free_port();
	p->listener = loopback(p->port, true);
	ck_assert_int_ge(p->listener, 0);
	ck_assert_int_eq(pthread_create(&p->thread, NULL, proxy_main, p), 0);
}

static void proxy_stop(struct proxy *p)
{
	atomic_store(&p->stop, true);
	pthread_join(p->thread, NULL);
	close(p->listener);
}

/* -------------------------------------------------------------------- cases */

START_TEST(any_bytes)
{
	static const char bytes[] = "a\0b\r\n\xff $3";
	const struct cpm_pl value = cpm_pl(bytes, sizeof(bytes) - 1);
	const struct cpm_pl set[] = {LIT("SET"), LIT("k"), value};
	const struct cpm_pl get[] = {LIT("GET"), LIT("k")};
	const struct cpm_pl empty[] = {LIT("SET"), LIT("e"), CPM_PL_NULL};
	redisReply *reply = NULL;

	start();
	struct io_redis *r = patient(server.port);
	ck_assert_str_eq(io_redis_error(r), "");
	ck_assert_int_eq(io_redis_command(r, 3, set, &reply), CPM_OK);
	io_redis_reply_free(&reply);
	ck_assert_int_eq(io_redis_command(r, 2, get, &reply), CPM_OK);
	ck_pl_same(cpm_pl(reply->str, reply->len), value);
	io_redis_reply_free(&reply);
	ck_assert_int_eq(io_redis_command(r, 3, empty, &reply), CPM_OK);
	io_redis_reply_free(&reply);
	ck_answer(r, "GET e", "");
	ck_answer(r, "GET nothing", "(nil)");
	ck_assert_str_eq(io_redis_error(r), "");
	stop(r);
}
END_TEST

START_TEST(large)
{
	size_t n = 8 * 1024 * 1024;
	char *big = malloc(n);
	redisReply *reply = NULL;

	ck_assert_ptr_nonnull(big);
	for(size_t i = 0; i < n; i++)
		big[i] = (char)(i * 2654435761u >> 24);
	const struct cpm_pl echo[] = {LIT("ECHO"), cpm_pl(big, n)};
	start();
	struct io_redis *r = patient(server.port);
	ck_assert_int_eq(io_redis_command(r, 2, echo, &reply), CPM_OK);
	ck_assert_uint_eq(reply->len, n);
	ck_assert_mem_eq(reply->str, big, n);
	io_redis_reply_free(&reply);
	ck_answer(r, "PING", "PONG");
	free(big);
	stop(r);
}
END_TEST

START_TEST(scripts)
{
	char word[32];

	start();
	struct io_redis *r = patient(server.port);
	ck_stat(r, 0);
	ck_assert_int_eq(put_eval(r, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "queued");
	ck_assert_int_eq(put_eval(r, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "duplicate");
	ck_stat(r, 1);
	stop(r);
}
END_TEST

START_TEST(noscript)
{
	char word[32];

	start();
	struct io_redis *r = patient(server.port);
	ck_stat(r, 0);
	ck_answer(r, "SCRIPT FLUSH", "OK");
	ck_assert_int_eq(put_eval(r, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "queued");
	ck_stat(r, 1);
	stop(r);
}
END_TEST

START_TEST(restarted)
{
	static const char *const args[] = {"--appendonly", "yes", NULL};

	redis_start(&server, args);
	struct io_redis *r = patient(server.port);
	ck_answer(r, "INCR n", "1");
	for(int i = 0; i < 3; i++) {
		redis_again(&server);
		ck_stat(r, 0);
		ck_answer(r, "GET n", "1");
	}
	stop(r);
}
END_TEST

START_TEST(closed_when_idle)
{
	start();
	struct io_redis *r = patient(server.port);
	struct io_redis *other = patient(server.port);
	ck_answer(r, "INCR n", "1");
	for(int i = 0; i < 5; i++) {
		ck_answer(other, "CLIENT KILL TYPE normal SKIPME yes", "1");
		ck_answer(r, "GET n", "1");
	}
	io_redis_free(&other);
	stop(r);
}
END_TEST

START_TEST(down)
{
	start();
	struct io_redis *r = client_at(server.port, 2000, 2000);
	ck_answer(r, "PING", "PONG");
	redis_kill(&server);

	uint64_t from = io_clock_mono_ms();
	for(int i = 0; i < 100; i++)
		ck_fails(r, "INCR n", CPM_EDOWN);
	ck_assert_uint_lt(io_clock_mono_ms() - from, 1000);

	redis_again(&server);
	rest();
	ck_answer(r, "INCR n", "1");
	stop(r);
}
END_TEST

START_TEST(breaker)
{
	start();
	redis_kill(&server);
	struct io_redis *r = client_at(server.port, 2000, 2000);
	ck_fails(r, "INCR n", CPM_EDOWN);
	uint64_t failed = io_clock_mono_ms();
	ck_assert_ptr_nonnull(strstr(io_redis_error(r), "refused"));
	redis_again(&server);
	/* it is there again, but nobody asks before the rest is over */
	char text[64];
	int rc = ask(r, "INCR n", text, sizeof(text));
	if(io_clock_mono_ms() - failed < IO_REDIS_REST_MS)
		ck_assert_int_eq(rc, CPM_EDOWN);
	rest();
	ck_assert_int_eq(ask(r, "INCR n", text, sizeof(text)), CPM_OK);
	stop(r);
}
END_TEST

START_TEST(stalled_while_connected)
{
	char text[64];

	start();
	struct io_redis *r = client_at(server.port, 400, 200);
	ck_answer(r, "PING", "PONG");
	redis_pause(&server);

	uint64_t from = io_clock_mono_ms();
	ck_fails(r, "ECHO late", CPM_EUNSURE);
	uint64_t took = io_clock_mono_ms() - from;
	ck_assert_uint_ge(took, 190);
	ck_assert_uint_lt(took, 5000);

	/* it has been waited for once */
	from = io_clock_mono_ms();
	for(int i = 0; i < 10; i++)
		ck_fails(r, "ECHO never", CPM_EDOWN);
	ck_assert_uint_lt(io_clock_mono_ms() - from, 150);

	/* the probe finds it stalled still: bounded, and nothing was sent */
	rest();
	from = io_clock_mono_ms();
	ck_fails(r, "ECHO never", CPM_EDOWN);
	ck_assert_uint_lt(io_clock_mono_ms() - from, 5000);

	redis_resume(&server);
	for(int i = 0; i < 50; i++) {
		if(ask(r, "ECHO back", text, sizeof(text)) == CPM_OK)
			break;
		usleep(100000);
	}
	/* the answers of what was given up do not come back as somebody else's */
	ck_assert_str_eq(text, "back");
	ck_answer(r, "ECHO next", "next");
	stop(r);
}
END_TEST

START_TEST(stalled_before_connect)
{
	start();
	struct io_redis *r = client_at(server.port, 300, 200);
	redis_pause(&server);
	uint64_t from = io_clock_mono_ms();
	ck_fails(r, "INCR n", CPM_EDOWN);
	uint64_t took = io_clock_mono_ms() - from;
	/* it accepts, and says nothing: the time of a command, and only once */
	ck_assert_uint_ge(took, 190);
	ck_assert_uint_lt(took, 5000);
	redis_resume(&server);
	rest();
	ck_answer(r, "GET n", "(nil)");
	stop(r);
}
END_TEST

START_TEST(answer_lost)
{
	static const int modes[] = {PROXY_SWALLOW, PROXY_CUT, PROXY_GARBAGE};
	struct proxy proxy;
	char word[32];

	start();
	proxy_start(&proxy, server.port);
	struct io_redis *r = client_at(proxy.port, 3000, 500);
	struct io_redis *direct = patient(server.port);
	ck_answer(r, "PING", "PONG");

	atomic_store(&proxy.mode, modes[_i]);
	ck_fails(r, "INCR n", CPM_EUNSURE);
	ck_answer(direct, "GET n", "1");
	atomic_store(&proxy.mode, PROXY_PASS);
	rest();
	ck_answer(r, "GET n", "1");

	atomic_store(&proxy.mode, modes[_i]);
	ck_assert_int_eq(put_eval(r, word, sizeof(word)), CPM_EUNSURE);
	ck_stat(direct, 1);
	atomic_store(&proxy.mode, PROXY_PASS);
	rest();
	ck_assert_int_eq(put_eval(r, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "duplicate");
	ck_stat(r, 1);

	io_redis_free(&r);
	proxy_stop(&proxy);
	stop(direct);
}
END_TEST

START_TEST(answer_too_many)
{
	struct proxy proxy;

	start();
	proxy_start(&proxy, server.port);
	struct io_redis *r = patient(proxy.port);
	ck_answer(r, "ECHO a", "a");
	ck_assert_int_eq(atomic_load(&proxy.connections), 1);
	atomic_store(&proxy.mode, PROXY_INJECT);
	ck_answer(r, "ECHO b", "b");
	usleep(300000);
	ck_answer(r, "ECHO c", "c");
	ck_assert_int_eq(atomic_load(&proxy.connections), 2);
	io_redis_free(&r);
	proxy_stop(&proxy);
	redis_stop(&server);
}
END_TEST

START_TEST(passwords)
{
	static const char *const args[] = {"--requirepass", "secret", "--user",
			"cpm", "on", ">pw", "~*", "+@all", NULL};
	static const struct
	{
		const char *login;
		bool ok;
		const char *error;
	} rows[] = {
			{"pass=secret", true, ""},
			{"user=default;pass=secret", true, ""},
			{"user=cpm;pass=pw", true, ""},
			{"name=a", false, "NOAUTH"},
			{"pass=wrong", false, "auth: server says: WRONGPASS"},
			{"user=cpm;pass=secret", false, "auth: server says: WRONGPASS"},
			{"user=nobody;pass=pw", false, "auth: server says: WRONGPASS"},
	};
	char text[256];

	redis_start(&server, args);
	for(size_t i = 0; i < FU_N(rows); i++) {
		(void)snprintf(
				text, sizeof(text), "port=%u;%s", server.port, rows[i].login);
		struct io_redis *r = client_with(text);
		if(rows[i].ok) {
			ck_answer(r, "PING", "PONG");
			ck_stat(r, 0);
		} else {
			ck_fails(r, "PING", CPM_EDOWN);
			ck_assert_msg(strstr(io_redis_error(r), rows[i].error) != NULL,
					"%s", io_redis_error(r));
			ck_assert_ptr_null(strstr(io_redis_error(r), "secret"));
		}
		io_redis_free(&r);
	}
	redis_stop(&server);
}
END_TEST

START_TEST(least_rights)
{
	static const char *const args[] = {"--user cpm on >pw " LEAST_RIGHTS, NULL};
	struct io_redis_server s;
	char text[256], word[32];
	size_t n = 0;

	redis_start(&server, args);
	(void)snprintf(
			text, sizeof(text), "port=%u;user=cpm;pass=pw;db=1", server.port);
	struct io_redis *r = client_with(text);
	ck_answer(r, "PING", "PONG");
	ck_rc(r, put_for(r, AOR_TEXT, "id-1", false, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "queued");
	ck_stat(r, 1);
	ck_rc(r, io_redis_survey(r, &s, 1, &n), CPM_OK);
	ck_assert_int_eq(s.aof_enabled, 0);
	ck_assert_str_eq(s.appendfsync, "everysec");
	ck_fails(r, "SET other 1", CPM_EPROTO);
	ck_error_has(r, "NOPERM");
	stop(r);
}
END_TEST

START_TEST(databases)
{
	char text[256];

	start();
	(void)snprintf(text, sizeof(text), "port=%u;db=3", server.port);
	struct io_redis *r = client_with(text);
	struct io_redis *zero = patient(server.port);
	ck_answer(r, "INCR n", "1");
	ck_answer(zero, "GET n", "(nil)");
	ck_answer(zero, "SELECT 3", "OK");
	ck_answer(zero, "GET n", "1");
	io_redis_free(&zero);

	/* also after it had to connect again */
	redis_again(&server);
	ck_answer(r, "INCR n", "1");
	zero = patient(server.port);
	ck_answer(zero, "GET n", "(nil)");
	io_redis_free(&zero);

	(void)snprintf(text, sizeof(text), "port=%u;db=999", server.port);
	struct io_redis *none = client_with(text);
	ck_fails(none, "INCR n", CPM_EDOWN);
	ck_assert_ptr_nonnull(strstr(io_redis_error(none), "select"));
	io_redis_free(&none);
	stop(r);
}
END_TEST

START_TEST(unix_socket)
{
	char text[256];

	start();
	(void)snprintf(
			text, sizeof(text), "addr=192.0.2.1;unix=%s", server.unix_path);
	struct io_redis *r = client_with(text);
	ck_answer(r, "PING", "PONG");
	ck_stat(r, 0);
	redis_again(&server);
	ck_answer(r, "PING", "PONG");
	redis_kill(&server);
	ck_fails(r, "PING", CPM_EDOWN);
	stop(r);
}
END_TEST

START_TEST(host_names)
{
	char text[256];

	start();
	(void)snprintf(text, sizeof(text), "addr=localhost;port=%u", server.port);
	struct io_redis *r = client_with(text);
	ck_answer(r, "PING", "PONG");
	io_redis_free(&r);
	(void)snprintf(text, sizeof(text), "addr=256.1.1.1.;port=%u", server.port);
	r = client_with(text);
	ck_fails(r, "PING", CPM_EDOWN);
	ck_assert_ptr_nonnull(strstr(io_redis_error(r), "address"));
	stop(r);
}
END_TEST

START_TEST(error_replies)
{
	start();
	struct io_redis *r = patient(server.port);
	ck_answer(r, "SET s text", "OK");
	ck_fails(r, "INCR s", CPM_EPROTO);
	ck_assert_str_eq(io_redis_error(r),
			"server says: ERR value is not an integer or out of range");
	ck_fails(r, "LPUSH s x", CPM_EPROTO);
	ck_assert_ptr_nonnull(strstr(io_redis_error(r), "WRONGTYPE"));
	/* what was sent is not quoted */
	ck_fails(r, "FROB sip:bob@example.org", CPM_EPROTO);
	ck_assert_ptr_null(strstr(io_redis_error(r), "bob"));
	/* the connection is none the worse */
	ck_answer(r, "GET s", "text");
	ck_assert_str_eq(io_redis_error(r), "");
	stop(r);
}
END_TEST

START_TEST(cannot_take_writes)
{
	static const struct
	{
		const char *args[6];
		const char *command;
		const char *error;
	} rows[] = {
			{{"--replicaof", "127.0.0.1", "1"}, "SET n 1", "READONLY"},
			{{"--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data",
					 "no"},
					"GET n", "MASTERDOWN"},
			{{"--maxmemory", "1"}, "SET n 1", "OOM"},
			{{"--min-replicas-to-write", "1"}, "SET n 1", "NOREPLICAS"},
	};
	char word[32];

	redis_start(&server, rows[_i].args);
	struct io_redis *r = patient(server.port);
	ck_fails(r, rows[_i].command, CPM_EDOWN);
	ck_assert_msg(strstr(io_redis_error(r), rows[_i].error) != NULL, "%s",
			io_redis_error(r));
	/* a server that answers is asked again at once */
	ck_assert_int_eq(put_eval(r, word, sizeof(word)), CPM_EDOWN);
	ck_assert_msg(strstr(io_redis_error(r), rows[_i].error) != NULL, "%s",
			io_redis_error(r));
	stop(r);
}
END_TEST

static void add_echo(struct io_redis *r, int i)
{
	char digits[16];

	(void)snprintf(digits, sizeof(digits), "%d", i);
	const struct cpm_pl argv[] = {LIT("ECHO"), cpm_pl_str(digits)};
	ck_assert_int_eq(io_redis_command_add(r, 2, argv), CPM_OK);
}

static int get_echo(struct io_redis *r)
{
	redisReply *reply = NULL;
	uint64_t v = 0;

	int rc = io_redis_get(r, &reply);
	ck_assert_msg(rc == CPM_OK, "%s %s", cpm_rc_name(rc), io_redis_error(r));
	ck_assert_int_eq(reply->type, REDIS_REPLY_STRING);
	ck_assert_int_eq(cpm_pl_u64(cpm_pl_str(reply->str), 1000, &v), CPM_OK);
	io_redis_reply_free(&reply);
	return (int)v;
}

static void add_stat(struct io_redis *r)
{
	ck_assert_int_eq(stat_add_for(r, AOR_TEXT), CPM_OK);
}

START_TEST(pipeline)
{
	redisReply *reply = NULL;

	start();
	struct io_redis *r = patient(server.port);
	/* from nothing, on a live connection, and with its scripts forgotten */
	for(int round = 0; round < 3; round++) {
		for(int i = 0; i < 300; i++) {
			add_echo(r, i);
			add_stat(r);
		}
		for(int i = 0; i < 300; i++) {
			ck_assert_int_eq(get_echo(r), i);
			ck_assert_int_eq(io_redis_get(r, &reply), CPM_OK);
			ck_assert_uint_eq(reply->elements, 8);
			io_redis_reply_free(&reply);
		}
		ck_assert_int_eq(io_redis_get(r, &reply), CPM_EPROTO);
		ck_answer(r, "SCRIPT FLUSH", "OK");
	}
	stop(r);
}
END_TEST

START_TEST(pipeline_forsaken)
{
	start();
	struct io_redis *r = patient(server.port);
	for(int i = 0; i < 5; i++)
		add_echo(r, i);
	ck_assert_int_eq(get_echo(r), 0);
	ck_answer(r, "ECHO x", "x");
	for(int i = 5; i < 8; i++)
		add_echo(r, i);
	/* never sent */
	ck_answer(r, "ECHO y", "y");
	for(int i = 8; i < 12; i++)
		add_echo(r, i);
	ck_assert_int_eq(get_echo(r), 8);
	add_echo(r, 12);
	ck_assert_int_eq(get_echo(r), 12);
	stop(r);
}
END_TEST

START_TEST(pipeline_error)
{
	const struct cpm_pl bad[] = {LIT("FROB")};
	redisReply *reply = NULL;

	start();
	struct io_redis *r = patient(server.port);
	add_echo(r, 1);
	ck_assert_int_eq(io_redis_command_add(r, 1, bad), CPM_OK);
	add_echo(r, 2);
	ck_assert_int_eq(get_echo(r), 1);
	ck_assert_int_eq(io_redis_get(r, &reply), CPM_EPROTO);
	ck_assert_ptr_null(reply);
	ck_assert_int_eq(io_redis_get(r, &reply), CPM_EPROTO);
	ck_answer(r, "ECHO x", "x");
	stop(r);
}
END_TEST

START_TEST(pipeline_down)
{
	const struct cpm_pl incr[] = {LIT("INCR"), LIT("n")};
	redisReply *reply = NULL;

	start();
	struct io_redis *r = client_at(server.port, 2000, 300);
	ck_answer(r, "PING", "PONG");
	redis_pause(&server);
	ck_assert_int_eq(io_redis_command_add(r, 2, incr), CPM_OK);
	ck_assert_int_eq(io_redis_command_add(r, 2, incr), CPM_OK);
	ck_assert_int_eq(io_redis_get(r, &reply), CPM_EUNSURE);
	ck_assert_int_eq(io_redis_command_add(r, 2, incr), CPM_EDOWN);
	redis_resume(&server);
	rest();
	ck_answer(r, "ECHO x", "x");
	stop(r);
}
END_TEST

START_TEST(durable)
{
	struct redis_helper replica;
	struct io_redis_conf conf = {.connect_timeout_ms = PATIENT_MS,
			.cmd_timeout_ms = 300,
			.wait_replicas = 1,
			.wait_ms = 700};
	char port[16], text[64], word[32];
	const char *args[] = {"--replicaof", "127.0.0.1", port, NULL};

	start();
	redis_do(&server, NULL, 0, "CONFIG SET repl-diskless-sync-delay 0");
	(void)snprintf(port, sizeof(port), "%u", server.port);
	redis_start(&replica, args);
	redis_await_replica(&server, &replica);
	(void)snprintf(text, sizeof(text), "port=%u", server.port);
	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl_str(text), &conf, NULL), CPM_OK);
	struct io_redis *r = io_redis_new(&conf);

	ck_rc(r, put_for(r, AOR_TEXT, "id-1", true, word, sizeof(word)), CPM_OK);
	ck_assert_str_eq(word, "queued");
	redis_do(&replica, text, sizeof(text), "DBSIZE");
	ck_assert_str_ne(text, "0");
	/* the script that was forgotten is waited for as well */
	ck_answer(r, "SCRIPT FLUSH", "OK");
	ck_rc(r, put_for(r, AOR_TEXT, "id-2", true, word, sizeof(word)), CPM_OK);

	/* written, and nobody else has it: the time is wait_ms, not that of a
	 * command alone, and the connection goes on */
	redis_pause(&replica);
	uint64_t from = io_clock_mono_ms();
	ck_rc(r, put_for(r, AOR_TEXT, "id-3", true, word, sizeof(word)),
			CPM_EUNSURE);
	ck_error_has(r, "executed, but only 0 of 1 replicas have it");
	ck_assert_uint_ge(io_clock_mono_ms() - from, 650);
	ck_answer(r, "ECHO x", "x");
	ck_assert(has_message(r, AOR_TEXT, "id-3"));
	ck_rc(r, put_for(r, AOR_TEXT, "id-4", false, word, sizeof(word)), CPM_OK);
	io_redis_free(&r);

	/* off */
	for(int i = 0; i < 2; i++) {
		conf.wait_ms = i == 0 ? 0 : 700;
		conf.wait_replicas = i == 0 ? 1 : 0;
		r = io_redis_new(&conf);
		ck_rc(r, put_for(r, AOR_TEXT, "id-1", true, word, sizeof(word)),
				CPM_OK);
		ck_assert_str_eq(word, "duplicate");
		io_redis_free(&r);
	}
	redis_resume(&replica);
	redis_stop(&replica);
	redis_stop(&server);
}
END_TEST

START_TEST(survey)
{
	static const char *const args[] = {"--appendonly", "yes", "--appendfsync",
			"always", "--maxmemory", "100mb", "--maxmemory-policy",
			"allkeys-lru", "--min-replicas-to-write", "0", NULL};
	struct io_redis_server s = {.replicas = 7};
	char want[64], text[1024];
	size_t n = 5;

	redis_start(&server, args);
	struct io_redis *r = patient(server.port);
	ck_rc(r, io_redis_survey(r, &s, 1, &n), CPM_OK);
	ck_assert_uint_eq(n, 1);
	(void)snprintf(want, sizeof(want), "127.0.0.1:%u", server.port);
	ck_assert_str_eq(s.addr, want);
	redis_do(&server, text, sizeof(text), "INFO server");
	(void)snprintf(want, sizeof(want), "redis_version:%s\r", s.version);
	ck_assert_ptr_nonnull(strstr(text, want));
	ck_assert_int_eq(s.maxmemory, 100 * 1024 * 1024);
	ck_assert_str_eq(s.maxmemory_policy, "allkeys-lru");
	ck_assert_int_eq(s.aof_enabled, 1);
	ck_assert_str_eq(s.appendfsync, "always");
	ck_assert_int_eq(s.rdb_enabled, 0);
	ck_assert_int_eq(s.replicas, 0);
	ck_assert_int_eq(s.min_replicas, 0);
	redis_do(&server, NULL, 0, "CONFIG SET save %s", "3600 1");
	redis_do(&server, NULL, 0, "CONFIG SET min-replicas-to-write 2");
	ck_rc(r, io_redis_survey(r, &s, 1, &n), CPM_OK);
	ck_assert_int_eq(s.rdb_enabled, 1);
	ck_assert_int_eq(s.min_replicas, 2);
	io_redis_free(&r);

	/* a user that may not ask learns less, and nothing wrong */
	redis_do(&server, NULL, 0, "ACL SETUSER shy on >pw ~* +@all -config -info");
	(void)snprintf(
			text, sizeof(text), "unix=%s;user=shy;pass=pw", server.unix_path);
	r = client_with(text);
	ck_rc(r, io_redis_survey(r, &s, 1, &n), CPM_OK);
	ck_assert_str_eq(s.addr, server.unix_path);
	ck_assert_str_eq(s.version, "");
	ck_assert_str_eq(s.maxmemory_policy, "");
	ck_assert_str_eq(s.appendfsync, "");
	ck_assert_int_eq(s.maxmemory, -1);
	ck_assert_int_eq(s.aof_enabled, -1);
	ck_assert_int_eq(s.rdb_enabled, -1);
	ck_assert_int_eq(s.replicas, -1);
	ck_assert_int_eq(s.min_replicas, -1);
	ck_answer(r, "ECHO x", "x");
	redis_kill(&server);
	n = 5;
	ck_rc(r, io_redis_survey(r, &s, 1, &n), CPM_EDOWN);
	ck_assert_uint_eq(n, 5);
	stop(r);
}
END_TEST

static size_t boast(
		struct mock *m, const redisReply *cmd, char *out, size_t cap)
{
	size_t n = mock_handshake(cmd, out, cap);

	return n > 0 ? n : (size_t)snprintf(out, cap, "%s", m->text);
}

START_TEST(boasts)
{
	static const char *const texts[] = {"*2147483647\r\n", "*1048577\r\n",
			"*2\r\n*1000000\r\n", "*1000000\r\n*1000000\r\n*1000000\r\n"};
	struct mock m = {.answer = boast, .text = texts[_i]};
	char text[64];

	mock_start(&m);
	struct io_redis *r = client_at(m.port, 2000, 500);
	ck_rc(r, ask(r, "GET a", text, sizeof(text)), CPM_EUNSURE);
	io_redis_free(&r);
	mock_stop(&m);
}
END_TEST

START_TEST(free_nothing)
{
	struct io_redis *r = NULL;
	struct redisReply *reply = NULL;

	io_redis_free(&r);
	io_redis_reply_free(&reply);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_redis");

	fu_table(s, "a server string is read as ndb_redis reads it", conf_table,
			FU_N(conf_rows));
	fu_table(s, "a value that does not fit is refused", conf_too_long, 7);
	fu_case(s, "sentinels of a server string", conf_sentinels);
	fu_table(s, "several strings are seed nodes, or an error", conf_seeds, 13);
	fu_case(s, "any bytes go there and come back", any_bytes);
	fu_case(s, "eight megabytes go there and come back", large);
	fu_case(s, "scripts run", scripts);
	fu_case(s, "a script that the server forgot is loaded again", noscript);
	fu_case(s, "a server that was restarted between calls costs no error",
			restarted);
	fu_case(s, "a connection that was closed when idle costs no error",
			closed_when_idle);
	fu_case(s, "a server that is down is down at once, and back by itself",
			down);
	fu_case(s, "after a failed connect nobody knocks for a while", breaker);
	fu_case(s, "a server that stalls is waited for once",
			stalled_while_connected);
	fu_case(s, "a server that stalls before it is connected is down",
			stalled_before_connect);
	fu_table(s, "a lost answer is EUNSURE, and the write happened once",
			answer_lost, 3);
	fu_case(s, "one answer too many is nobody's", answer_too_many);
	fu_case(s, "passwords and ACL users", passwords);
	fu_case(s, "the rights that the manual asks for are enough", least_rights);
	fu_case(s, "the database is selected on every connection", databases);
	fu_case(s, "a unix socket wins over an address", unix_socket);
	fu_case(s, "host names are resolved", host_names);
	fu_case(s, "an error reply is no lost connection", error_replies);
	fu_table(s, "alive but unable to write is down, in scripts too",
			cannot_take_writes, 4);
	fu_case(s, "a pipeline answers in order", pipeline);
	fu_case(s, "answers that nobody fetched are nobody's", pipeline_forsaken);
	fu_case(s, "an error in a pipeline ends it", pipeline_error);
	fu_case(s, "a pipeline to a stalled server is EUNSURE", pipeline_down);
	fu_case(s, "a durable write is on a replica, or unsure", durable);
	fu_case(s, "what an operator should know of a server", survey);
	fu_table(s, "an answer that boasts of its length costs no memory", boasts,
			4);
	fu_case(s, "freeing nothing is fine", free_nothing);
	return fu_run(s);
}
