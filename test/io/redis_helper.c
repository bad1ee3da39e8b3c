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
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
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
	const char *argv[32] = {"redis-server", "--bind", "127.0.0.1", "--save", "",
			"--dir", h->dir, "--unixsocket", h->unix_path, "--daemonize", "no",
			"--port"};
	char port[16];
	size_t n = 12;

	/* the tests ahead may be killed: do not outlive them */
	if(prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(1);
	(void)snprintf(port, sizeof(port), "%u", h->port);
	argv[n++] = port;
	for(size_t i = 0; h->args[i] != NULL; i++)
		argv[n++] = h->args[i];
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

void redis_start(struct redis_helper *h, const char *const *args)
{
	const char *tmp = getenv("TMPDIR");
	bool ok = false;

	memset(h, 0, sizeof(*h));
	(void)snprintf(h->dir, sizeof(h->dir), "%s/cpm_redis.XXXXXX",
			tmp != NULL && strlen(tmp) < 64 ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(h->dir));
	(void)snprintf(h->unix_path, sizeof(h->unix_path), "%s/s", h->dir);
	for(size_t i = 0; args != NULL && args[i] != NULL; i++) {
		ck_assert_uint_lt(i, REDIS_HELPER_ARGS_MAX);
		h->args[i] = args[i];
	}
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
