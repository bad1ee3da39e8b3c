/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "redis_helper.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io_clock.h"

#define START_MS 20000
#define PORT_TRIES 5

unsigned redis_free_port(void)
{
	struct sockaddr_in addr = {
			.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	close(fd);
	return ntohs(addr.sin_port);
}

/* PING over a connection of its own; an error is an answer as well (a server
 * that wants a password), but not "-LOADING". */
static bool answers(unsigned port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
			.sin_port = htons((uint16_t)port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char buf[64] = "";
	bool ok = false;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	if(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0
			&& send(fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ok = poll(&p, 1, 1000) == 1 && recv(fd, buf, sizeof(buf) - 1, 0) > 0
			 && strncmp(buf, "-LOADING", 8) != 0;
	}
	close(fd);
	return ok;
}

static void run_server(const struct redis_helper *h, pid_t parent)
{
	const char *argv[64] = {"redis-server", "--bind", "127.0.0.1", "--save", "",
			"--dir", h->dir, "--unixsocket", h->unix_path, "--daemonize", "no",
			"--port"};
	char port[16];
	size_t n = 12;

	/* the tests ahead may be killed: do not outlive them */
	if(prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(1);
	(void)snprintf(port, sizeof(port), "%u", h->port);
	argv[n++] = port;
	if(h->bus_port[0] != '\0') {
		argv[n++] = "--cluster-port";
		argv[n++] = h->bus_port;
	}
	for(size_t i = 0; h->args[i] != NULL; i++)
		argv[n++] = h->args[i];
	if(h->conf_path[0] != '\0') {
		n = 1;
		argv[n++] = h->conf_path;
		argv[n++] = "--sentinel";
	}
	argv[n] = NULL;
	int log = open("/dev/null", O_RDWR);
	if(log < 0 || dup2(log, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		_exit(1);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

/* False: it ended at once, e.g. because somebody took the port. */
static bool try_start(struct redis_helper *h)
{
	uint64_t deadline = io_clock_mono_ms() + START_MS;
	pid_t parent = getpid();

	h->pid = fork();
	ck_assert_int_ge(h->pid, 0);
	if(h->pid == 0)
		run_server(h, parent);
	while(!answers(h->port)) {
		if(waitpid(h->pid, NULL, WNOHANG) == h->pid) {
			h->pid = 0;
			return false;
		}
		ck_assert_msg(
				io_clock_mono_ms() < deadline, "redis-server does not answer");
		usleep(10000);
	}
	return true;
}

static void prepare(struct redis_helper *h, const char *const *args)
{
	const char *tmp = getenv("TMPDIR");

	memset(h, 0, sizeof(*h));
	(void)snprintf(h->dir, sizeof(h->dir), "%s/cpm_redis.XXXXXX",
			tmp != NULL && strlen(tmp) < 64 ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(h->dir));
	(void)snprintf(h->unix_path, sizeof(h->unix_path), "%s/s", h->dir);
	for(size_t i = 0; args != NULL && args[i] != NULL; i++) {
		ck_assert_uint_lt(i, REDIS_HELPER_ARGS_MAX);
		h->args[i] = args[i];
	}
}

void redis_start(struct redis_helper *h, const char *const *args)
{
	bool ok = false;

	prepare(h, args);
	for(int i = 0; i < PORT_TRIES && !ok; i++) {
		h->port = redis_free_port();
		ok = try_start(h);
	}
	ck_assert_msg(ok, "redis-server does not start");
}

static void end(struct redis_helper *h, int sig)
{
	if(h->pid == 0)
		return;
	kill(h->pid, SIGCONT);
	kill(h->pid, sig);
	while(waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
		;
	h->pid = 0;
}

void redis_kill(struct redis_helper *h)
{
	end(h, SIGKILL);
}

void redis_again(struct redis_helper *h)
{
	end(h, SIGTERM);
	ck_assert_msg(try_start(h), "redis-server does not start again");
}

void redis_stop(struct redis_helper *h)
{
	pid_t pid;

	/* nothing of it is needed any more: no farewell to disk */
	end(h, SIGKILL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if(pid == 0) {
		execlp("rm", "rm", "-rf", "--", h->dir, (char *)NULL);
		_exit(127);
	}
	while(waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void redis_pause(struct redis_helper *h)
{
	int status;

	ck_assert_int_eq(kill(h->pid, SIGSTOP), 0);
	/* until it has really stopped it could still answer */
	ck_assert_int_eq(waitpid(h->pid, &status, WUNTRACED), h->pid);
	ck_assert(WIFSTOPPED(status));
}

void redis_resume(struct redis_helper *h)
{
	ck_assert_int_eq(kill(h->pid, SIGCONT), 0);
}

/* ------------------------------------------------------- several of them */

static void write_conf(const struct redis_helper *h, unsigned master_port,
		unsigned down_ms, const char *lines)
{
	FILE *f = fopen(h->conf_path, "w");

	ck_assert_ptr_nonnull(f);
	(void)fprintf(f,
			"port %u\nbind 127.0.0.1\ndir %s\n"
			"sentinel monitor cpm 127.0.0.1 %u 1\n"
			"sentinel down-after-milliseconds cpm %u\n"
			"sentinel failover-timeout cpm 3000\n%s",
			h->port, h->dir, master_port, down_ms, lines != NULL ? lines : "");
	ck_assert_int_eq(fclose(f), 0);
}

void redis_start_sentinel(struct redis_helper *h, unsigned master_port,
		unsigned down_after_ms, const char *lines)
{
	bool ok = false;

	prepare(h, NULL);
	(void)snprintf(h->conf_path, sizeof(h->conf_path), "%s/c", h->dir);
	for(int i = 0; i < PORT_TRIES && !ok; i++) {
		h->port = redis_free_port();
		write_conf(h, master_port, down_after_ms, lines);
		ok = try_start(h);
	}
	ck_assert_msg(ok, "the sentinel does not start");
}

/* Into text; false: an error. */
static bool reply_text(const redisReply *reply, char *text, size_t cap)
{
	if(reply->type == REDIS_REPLY_INTEGER)
		(void)snprintf(text, cap, "%lld", reply->integer);
	else if(reply->type == REDIS_REPLY_NIL)
		(void)snprintf(text, cap, "(nil)");
	else if(reply->type == REDIS_REPLY_ARRAY)
		(void)snprintf(text, cap, "[%zu]", reply->elements);
	else
		(void)snprintf(text, cap, "%s", reply->str);
	return reply->type != REDIS_REPLY_ERROR;
}

/* True: there is an answer, in text; *error_r: whether it is an error. False:
 * there is none; why is in text. */
static bool do_args(const struct redis_helper *h, char *text, size_t cap,
		bool *error_r, const char *fmt, va_list ap)
{
	struct timeval patience = {.tv_sec = 10};
	redisContext *ctx =
			redisConnectWithTimeout("127.0.0.1", (int)h->port, patience);
	redisReply *reply = NULL;

	ck_assert_ptr_nonnull(ctx);
	if(ctx->err == 0 && redisSetTimeout(ctx, patience) == REDIS_OK)
		reply = redisvCommand(ctx, fmt, ap);
	bool answered = reply != NULL;
	if(answered)
		*error_r = !reply_text(reply, text, cap);
	else
		(void)snprintf(text, cap, "%s", ctx->errstr);
	if(answered)
		freeReplyObject(reply);
	redisFree(ctx);
	return answered;
}

void redis_do(const struct redis_helper *h, char *text, size_t cap,
		const char *fmt, ...)
{
	char own[256];
	char *to = text != NULL ? text : own;
	bool error = false;
	va_list ap;

	va_start(ap, fmt);
	bool answered =
			do_args(h, to, text != NULL ? cap : sizeof(own), &error, fmt, ap);
	va_end(ap);
	ck_assert_msg(answered && (!error || text != NULL), "port %u: %s: %s",
			h->port, fmt, to);
}

bool redis_try(const struct redis_helper *h, char *text, size_t cap,
		const char *fmt, ...)
{
	bool error = false;
	va_list ap;

	va_start(ap, fmt);
	bool answered = do_args(h, text, cap, &error, fmt, ap);
	va_end(ap);
	return answered && !error;
}

void redis_await(
		const struct redis_helper *h, const char *command, const char *line)
{
	uint64_t deadline = io_clock_mono_ms() + START_MS;
	char text[16384];

	while(!redis_try(h, text, sizeof(text), command)
			|| strstr(text, line) == NULL) {
		ck_assert_msg(io_clock_mono_ms() < deadline, "%s: no %s: %s", command,
				line, text);
		usleep(20000);
	}
}

void redis_await_replica(
		const struct redis_helper *master, const struct redis_helper *replica)
{
	struct timeval patience = {.tv_sec = START_MS / 1000 + 10};

	redis_await(replica, "INFO replication", "master_link_status:up");
	/* now it has all; what is written from now on is sent once it has said so
	 * for the first time. FUNCTION FLUSH is a write without a key. */
	redisContext *ctx =
			redisConnectWithTimeout("127.0.0.1", (int)master->port, patience);
	ck_assert(ctx != NULL && ctx->err == 0);
	ck_assert_int_eq(redisSetTimeout(ctx, patience), REDIS_OK);
	freeReplyObject(redisCommand(ctx, "FUNCTION FLUSH"));
	redisReply *reply = redisCommand(ctx, "WAIT 1 %d", START_MS);
	ck_assert_msg(reply != NULL && reply->type == REDIS_REPLY_INTEGER
						  && reply->integer >= 1,
			"the replica says nothing");
	freeReplyObject(reply);
	redisFree(ctx);
}

static void cluster_node(struct redis_helper *h, const char *const *args)
{
	bool ok = false;

	prepare(h, args);
	for(int i = 0; i < PORT_TRIES && !ok; i++) {
		h->port = redis_free_port();
		(void)snprintf(
				h->bus_port, sizeof(h->bus_port), "%u", redis_free_port());
		ok = try_start(h);
	}
	ck_assert_msg(ok, "redis-server does not start as a node");
}

static void cluster_meet(
		const struct redis_helper *nodes, size_t masters, size_t count)
{
	for(size_t i = 0; i < count; i++) {
		redis_do(&nodes[i], NULL, 0, "CLUSTER SET-CONFIG-EPOCH %d", (int)i + 1);
		for(size_t j = 0; j < i; j++)
			redis_do(&nodes[i], NULL, 0, "CLUSTER MEET 127.0.0.1 %d %s",
					(int)nodes[j].port, nodes[j].bus_port);
	}
	for(size_t i = 0; i < masters; i++)
		redis_do(&nodes[i], NULL, 0, "CLUSTER ADDSLOTSRANGE %d %d",
				(int)(16384 * i / masters),
				(int)(16384 * (i + 1) / masters - 1));
}

void redis_start_cluster(struct redis_helper *nodes, size_t masters,
		size_t count, const char *const *args)
{
	const char *all[REDIS_HELPER_ARGS_MAX + 1] = {"--cluster-enabled", "yes",
			"--cluster-node-timeout", "1000",
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync",
			"yes", "--repl-diskless-sync-delay", "0"};
	char line[64], id[64];

	for(size_t n = 10, i = 0; args != NULL && args[i] != NULL; i++)
		all[n++] = args[i];
	for(size_t i = 0; i < count; i++)
		cluster_node(&nodes[i], all);
	cluster_meet(nodes, masters, count);
	(void)snprintf(line, sizeof(line), "cluster_known_nodes:%zu", count);
	for(size_t i = 0; i < count; i++) {
		redis_await(&nodes[i], "CLUSTER INFO", line);
		redis_await(&nodes[i], "CLUSTER INFO", "cluster_slots_assigned:16384");
		redis_await(&nodes[i], "CLUSTER INFO", "cluster_state:ok");
	}
	for(size_t i = masters; i < count; i++) {
		redis_do(&nodes[(i - masters) % masters], id, sizeof(id),
				"CLUSTER MYID");
		redis_do(&nodes[i], NULL, 0, "CLUSTER REPLICATE %s", id);
		redis_await_replica(&nodes[(i - masters) % masters], &nodes[i]);
	}
}
