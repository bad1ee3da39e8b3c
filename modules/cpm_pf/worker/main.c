/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * main.c - cpm_pf_worker: what is not to happen inside Kamailio.
 *
 *     cpm_pf_worker (admin | msrp | courier) (-c FILE | -f FD)
 *     cpm_pf_worker --version | --help
 *
 * runs in:  a process of its own, started by the module's nursery with -f, or
 *           by hand with -c
 * owns:     no truth: it may be killed at any time
 *
 * -c reads the configuration (worker_conf.h) from a file, -f from an inherited
 * descriptor. With -f it also ends when its parent does. There is no handler
 * for crashes: the nursery sees them, and a core tells more than we could.
 *
 * Exit status: worker.h.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "../core/cpm_base.h"
#include "../core/cpm_stats.h"
#include "admin.h"
#include "courier.h"
#include "msrp.h"
#include "worker.h"
#include "worker_conf.h"
#include "worker_log.h"

#define IDENT "cpm_pf_worker"

static const char usage[] =
		"usage: cpm_pf_worker (admin | msrp | courier) (-c FILE | -f FD)\n"
		"       cpm_pf_worker --version | --help\n"
		"\n"
		"  -c FILE   read the configuration from a file\n"
		"  -f FD     read it from an inherited descriptor; end with the "
		"parent\n"
		"\n"
		"configuration, one key=value a line, # for comments:\n"
		"  redis                     addr=127.0.0.1;port=6379;db=0;user=..;"
		"pass=..;unix=..\n"
		"  redis_connect_timeout_ms  500\n"
		"  redis_cmd_timeout_ms      250\n"
		"  key_prefix                cpm\n"
		"  admin_listen              127.0.0.1:8060\n"
		"  admin_token_file          lines \"read TOKEN\" and \"read-write "
		"TOKEN\"\n"
		"  admin_cert, admin_key     PEM files\n"
		"  admin_tls                 auto; none: tokens may go unencrypted\n"
		"  admin_rate                500 requests a second of one address\n"
		"  admin_time                30 s of one request and its answer\n"
		"  admin_bodies              0; 1: bodies of messages may be read\n"
		"  msrp_listen               127.0.0.1:2855, or tls:ADDRESS:PORT; "
		"repeatable\n"
		"  msrp_cert, msrp_key       PEM files\n"
		"  msrp_max_connections      10000\n"
		"  msrp_max_memory           256 (MiB)\n"
		"  msrp_max_unbound        1000 connections of one address without a "
		"session\n"
		"  msrp_bind_time            10 s until they are closed\n"
		"  msrp_connect_time         30 s until a session is connected\n"
		"  msrp_answer_time          30 s until a chunk is answered\n"
		"  session_idle_time         30 s without a byte\n"
		"  msrp_session_time         3600 s of a session in all\n"
		"  msrp_chunk_size           2048 bytes\n"
		"  control_fd                socket of a delivery worker; repeatable\n"
		"  node                      hexadecimal, of this node alone\n"
		"  job_retry_intervals       5,30,120,600,3600 s\n"
		"  job_max_attempts          20\n"
		"  store_url                 imap://host[:port] or imaps://\n"
		"  store_folder              Default/{originator}\n"
		"  store_login               user; service, or a name with {user}\n"
		"  store_tls                 auto; required, none\n"
		"  store_ca                  PEM file of a private CA\n"
		"  store_credentials         file of lines \"user NAME\" and "
		"\"password WORD\"\n"
		"  store_timeout             30 s\n"
		"  push_url                  https://host/path\n"
		"  push_format               pap, or json\n"
		"  push_ca                   PEM file\n"
		"  push_credentials          a file; else CPM_PUSH_CREDENTIALS\n"
		"  push_timeout              10 s\n"
		"  push_retry_intervals      60,300,1800,7200,21600 s\n"
		"  push_max                  10 pushes\n"
		"  push_data_ttl             2592000 s\n"
		"  push_source               a SIP URI\n"
		"  log                       stderr, or syslog\n"
		"  stats_fd                  descriptor of the module's statistics\n"
		"  parent_pid                end when this is no more the parent\n";

/* It shows the counters and does not count. */
static int run_admin(const struct worker_conf *conf, struct cpm_stats *stats)
{
	return admin_run(conf, stats);
}

static const struct
{
	const char *name;
	int (*run)(const struct worker_conf *conf, struct cpm_stats *stats);
	int stats_prot;
} modes[] = {
		{"admin", run_admin, PROT_READ},
		{"msrp", msrp_run, PROT_READ | PROT_WRITE},
		{"courier", courier_run, PROT_READ | PROT_WRITE},
};

#define MODES (sizeof(modes) / sizeof(modes[0]))

/* ------------------------------------------------------------- configuration */

/* All of it into buf, from its beginning: a memfd is at its end when its
 * writer has filled it, and several workers may share its position. The
 * descriptor is closed. -1: errno. */
static ssize_t read_all(int fd, char *buf, size_t cap)
{
	size_t n = 0;
	ssize_t got;

	do {
		got = pread(fd, buf + n, cap - n, (off_t)n);
		if(got < 0 && errno == ESPIPE)
			got = read(fd, buf + n, cap - n);
		if(got > 0)
			n += (size_t)got;
	} while((got > 0 && n < cap) || (got < 0 && errno == EINTR));
	int err = got < 0 ? errno : EFBIG;
	close(fd);
	errno = err;
	return got == 0 ? (ssize_t)n : -1;
}

static int conf_open(const char *option, const char *arg)
{
	uint64_t fd;

	if(strcmp(option, "-c") == 0)
		return open(arg, O_RDONLY | O_CLOEXEC);
	if(cpm_pl_u64(cpm_pl_str(arg), 65535, &fd) == CPM_OK && fd >= 3)
		return (int)fd;
	errno = EBADF;
	return -1;
}

/* CPM_OK; CPM_EPROTO: why tells. What was read up to there is in conf. */
static int conf_load(const char *option, const char *arg,
		struct worker_conf *conf, char *why, size_t cap)
{
	static char text[WORKER_CONF_BYTES_MAX];
	int fd = conf_open(option, arg);
	ssize_t n = fd >= 0 ? read_all(fd, text, sizeof(text)) : -1;

	worker_conf_init(conf);
	if(n < 0) {
		(void)snprintf(why, cap, "cannot read %s %s: %s", option, arg,
				strerror(errno));
		return CPM_EPROTO;
	}
	int rc = worker_conf_parse(cpm_pl(text, (size_t)n), conf, why, cap);
	/* the password lives on in conf only */
	explicit_bzero(text, sizeof(text));
	return rc;
}

/* The page that the module counts in. CPM_OK; CPM_EPROTO: why. */
static int stats_map(
		int fd, int prot, struct cpm_stats **stats_r, char *why, size_t cap)
{
	struct stat st;
	struct cpm_stats *stats;

	*stats_r = NULL;
	if(fd < 0)
		return CPM_OK;
	if(fstat(fd, &st) == 0 && st.st_size >= (off_t)sizeof(*stats)) {
		stats = mmap(NULL, sizeof(*stats), prot, MAP_SHARED, fd, 0);
		if(stats != MAP_FAILED && stats->magic == CPM_STATS_MAGIC
				&& stats->count == CPM_STATS_COUNT_) {
			*stats_r = stats;
			return CPM_OK;
		}
	}
	(void)snprintf(why, cap,
			"stats_fd takes the statistics page of a module of the same "
			"version");
	return CPM_EPROTO;
}

/* ------------------------------------------------------------------- process */

static void close_from_to(int from, int to)
{
	if(from > to || close_range((unsigned)from, (unsigned)to, 0) == 0)
		return;
	for(int fd = from; fd <= to && fd < 65536; fd++)
		close(fd);
}

/* Whatever the starter had open is not ours: its SIP sockets above all. What
 * the configuration names as ours stays. */
static void close_inherited(const struct worker_conf *conf)
{
	int fd, from = 3;

	/* 0, 1 and 2 must be something, or a socket gets such a number and what
	 * is printed goes there */
	while((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2)
		;
	for(;;) {
		int next = INT_MAX;
		for(size_t i = 0; i < conf->controls; i++) {
			if(conf->control_fd[i] >= from && conf->control_fd[i] < next)
				next = conf->control_fd[i];
		}
		close_from_to(from, next < INT_MAX ? next - 1 : INT_MAX);
		if(next == INT_MAX)
			return;
		from = next + 1;
	}
}

/* A starter may ignore or block signals, and that is inherited. */
static void set_signals(void)
{
	static const int plain[] = {SIGTERM, SIGINT, SIGCHLD, SIGALRM, SIGUSR1,
			SIGUSR2, SIGQUIT, SIGABRT};
	sigset_t set;

	for(size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		(void)signal(plain[i], SIG_DFL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	/* the threads that are made later inherit this; main waits for them */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_SETMASK, &set, NULL);
}

/* Ends with the parent. Between fork and prctl the parent may be gone already,
 * and then no signal will come. */
static bool follow_parent(int parent_pid)
{
	pid_t before = getppid();

	if(prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
		worker_log(WORKER_WARN, "worker: no-parent-death-signal error=\"%s\"",
				strerror(errno));
	return getppid() == before && (parent_pid == 0 || before == parent_pid);
}

static int run(size_t mode, const char *option, const char *arg)
{
	static struct worker_conf conf;
	struct cpm_stats *stats = NULL;
	bool is_child = strcmp(option, "-f") == 0;
	char why[256];
	int rc = conf_load(option, arg, &conf, why, sizeof(why));

	if(rc == CPM_OK)
		rc = stats_map(conf.stats_fd, modes[mode].stats_prot, &stats, why,
				sizeof(why));
	/* before the log is opened, or it would be closed as well */
	close_inherited(&conf);
	set_signals();
	worker_log_open(conf.log_syslog, IDENT);
	if(rc != CPM_OK) {
		worker_log(WORKER_ERROR, "worker: configuration, %s", why);
		return WORKER_EXIT_USAGE;
	}
	if(is_child && !follow_parent(conf.parent_pid)) {
		worker_log(WORKER_NOTICE, "worker: stop parent=gone");
		return WORKER_EXIT_OK;
	}
	/* nothing that is started from here can gain rights */
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return modes[mode].run(&conf, stats);
}

int main(int argc, char **argv)
{
	if(argc == 2 && strcmp(argv[1], "--version") == 0) {
		(void)printf("cpm_pf_worker " CPM_PF_VERSION "\n");
		return WORKER_EXIT_OK;
	}
	if(argc == 2 && strcmp(argv[1], "--help") == 0) {
		(void)fputs(usage, stdout);
		return WORKER_EXIT_OK;
	}
	for(size_t i = 0; argc == 4 && i < MODES; i++) {
		if(strcmp(argv[1], modes[i].name) == 0
				&& (strcmp(argv[2], "-c") == 0 || strcmp(argv[2], "-f") == 0))
			return run(i, argv[2], argv[3]);
	}
	(void)fputs(usage, stderr);
	return WORKER_EXIT_USAGE;
}
