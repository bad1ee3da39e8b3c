/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_media.h"
#include "pf_stats.h"

#include "../../core/dprint.h"
#include "../../core/globals.h"

#define CONF_FD 3
#define STATS_FD 4
#define ENV_MAX 4	 /* variables of ours that one worker may get */
#define CONTROL_FD 5 /* and those behind it, one for each delivery worker */

/* A restart is quick at first, slower for one that keeps dying. */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 10000
#define STEADY_MS 10000 /* lived so long: the next death counts as a first */

struct worker
{
	const char *role;
	bool (*is_wanted)(void);
	void (*conf)(FILE *f);	/* its own lines of the configuration */
	void (*died)(void);		/* NULL: nobody is told */
	bool has_controls;		/* a socket of each delivery worker */
	const char *const *env; /* of our environment, for it alone; NULL: none */
	pid_t pid;				/* 0: not running */
	uint64_t started_ms;
	uint64_t start_at_ms;
	uint64_t backoff_ms;
};

static bool admin_is_wanted(void)
{
	return pf_conf.admin;
}

static bool courier_is_wanted(void)
{
	return pf_params.store_url[0] != '\0' || pf_conf.push;
}

static void conf_redis(FILE *f)
{
	size_t i;

	for(i = 0; i < pf_conf.redis_count; i++) {
		fprintf(f, "redis=%s\n", pf_conf.redis_string[i]);
	}
	fprintf(f, "redis_connect_timeout_ms=%d\n",
			pf_params.redis_connect_timeout_ms);
	fprintf(f, "redis_cmd_timeout_ms=%d\n", pf_params.redis_cmd_timeout_ms);
	fprintf(f, "key_prefix=%s\n", pf_params.key_prefix);
}

static void conf_push(FILE *f)
{
	fprintf(f, "push_url=%s\npush_format=%s\n", pf_params.push_url,
			pf_params.push_format);
	fprintf(f, "push_timeout=%d\npush_max=%d\n", pf_params.push_timeout,
			pf_params.push_max);
	fprintf(f, "push_retry_intervals=%s\npush_data_ttl=%d\n",
			pf_params.push_retry_intervals, pf_params.push_data_ttl);
	if(pf_params.push_ca[0] != '\0') {
		fprintf(f, "push_ca=%s\n", pf_params.push_ca);
	}
	if(pf_params.push_credentials[0] != '\0') {
		fprintf(f, "push_credentials=%s\n", pf_params.push_credentials);
	}
	if(pf_params.pf_uri[0] != '\0') {
		fprintf(f, "push_source=%s\n", pf_params.pf_uri);
	}
}

/* Where the credentials are; what they are only the worker reads. */
static void conf_courier(FILE *f)
{
	conf_redis(f);
	fprintf(f, "node=%.8s\n", pf_conf.node);
	fprintf(f, "job_retry_intervals=%s\njob_max_attempts=%d\n",
			pf_params.job_retry_intervals, pf_params.job_max_attempts);
	if(pf_params.store_url[0] != '\0') {
		fprintf(f, "store_url=%s\nstore_folder=%s\nstore_login=%s\n",
				pf_params.store_url, pf_params.store_folder,
				pf_params.store_login);
		fprintf(f, "store_tls=%s\nstore_timeout=%d\n", pf_params.store_tls,
				pf_params.store_timeout);
		if(pf_params.store_ca[0] != '\0') {
			fprintf(f, "store_ca=%s\n", pf_params.store_ca);
		}
		if(pf_params.store_credentials[0] != '\0') {
			fprintf(f, "store_credentials=%s\n", pf_params.store_credentials);
		}
	}
	if(pf_conf.push) {
		conf_push(f);
	}
}

static void conf_admin(FILE *f)
{
	conf_redis(f);
	fprintf(f, "admin_listen=%s\n", pf_params.admin_listen);
	if(pf_params.admin_token_file[0] != '\0') {
		fprintf(f, "admin_token_file=%s\n", pf_params.admin_token_file);
	}
	if(pf_params.admin_cert[0] != '\0') {
		fprintf(f, "admin_cert=%s\n", pf_params.admin_cert);
	}
	if(pf_params.admin_key[0] != '\0') {
		fprintf(f, "admin_key=%s\n", pf_params.admin_key);
	}
	fprintf(f, "admin_tls=%s\nadmin_bodies=%d\nadmin_rate=%d\n",
			pf_params.admin_tls, pf_params.admin_bodies, pf_params.admin_rate);
}

static void conf_msrp(FILE *f)
{
	size_t i;

	for(i = 0; i < pf_conf.msrp_listen_count; i++) {
		fprintf(f, "msrp_listen=%s\n", pf_conf.msrp_listen[i]);
	}
	if(pf_params.msrp_cert[0] != '\0') {
		fprintf(f, "msrp_cert=%s\nmsrp_key=%s\n", pf_params.msrp_cert,
				pf_params.msrp_key);
	}
	fprintf(f, "msrp_chunk_size=%d\n", pf_params.msrp_chunk_size);
	fprintf(f, "msrp_max_connections=%d\n", pf_params.msrp_max_connections);
	fprintf(f, "session_idle_time=%d\n", pf_params.session_idle_time);
	for(i = 0; i < pf_conf.delivery_workers; i++) {
		fprintf(f, "control_fd=%d\n", CONTROL_FD + (int)i);
	}
}

/* Secrets that may be given so, for no other process of ours. */
static const char *const courier_env[ENV_MAX + 1] = {
		"CPM_STORE_USER", "CPM_STORE_PASSWORD", "CPM_PUSH_CREDENTIALS", NULL};

static struct worker workers[] = {
		{.role = "admin", .is_wanted = admin_is_wanted, .conf = conf_admin},
		{.role = "msrp",
				.is_wanted = pf_media_is_on,
				.conf = conf_msrp,
				.died = pf_media_gone,
				.has_controls = true},
		{.role = "courier",
				.is_wanted = courier_is_wanted,
				.conf = conf_courier,
				.env = courier_env},
};
#define WORKERS (sizeof(workers) / sizeof(workers[0]))

bool pf_nursery_is_needed(void)
{
	size_t i;

	for(i = 0; i < WORKERS; i++) {
		if(workers[i].is_wanted()) {
			return true;
		}
	}
	return false;
}

/* The worker's configuration: key=value lines in memory that has no name. */
static int conf_fd_make(const struct worker *w)
{
	FILE *f;
	int fd = memfd_create("cpm_pf_worker.conf", 0);
	int dup_fd;

	if(fd < 0) {
		return -1;
	}
	dup_fd = dup(fd);
	f = dup_fd >= 0 ? fdopen(dup_fd, "w") : NULL;
	if(f == NULL) {
		if(dup_fd >= 0) {
			close(dup_fd);
		}
		close(fd);
		return -1;
	}
	w->conf(f);
	fprintf(f, "stats_fd=%d\n", STATS_FD);
	fprintf(f, "log=%s\n", log_stderr ? "stderr" : "syslog");
	if(fclose(f) != 0 || lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The variables that this worker may have, as they stand in ours. */
static void env_take(const struct worker *w, char **to)
{
	size_t i, n = 0;
	char **e;

	for(i = 0; w->env != NULL && i < ENV_MAX && w->env[i] != NULL; i++) {
		size_t len = strlen(w->env[i]);

		for(e = environ; *e != NULL; e++) {
			if(strncmp(*e, w->env[i], len) == 0 && (*e)[len] == '=') {
				to[n++] = *e;
				break;
			}
		}
	}
}

/* In the new process, up to exec: only what is safe after a fork. */
static void worker_exec(const struct worker *w, int conf_fd)
{
	char *argv[] = {"cpm_pf_worker", (char *)w->role, "-f", "3", NULL};
	char *envp[2 + ENV_MAX + 1] = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8", NULL};
	sigset_t none;
	int high[2 + PF_DELIVERY_WORKERS_MAX];
	unsigned controls = w->has_controls ? pf_conf.delivery_workers : 0;
	unsigned i;

	env_take(w, envp + 2);
	/* out of the way first: any may have the number of another */
	high[0] = fcntl(conf_fd, F_DUPFD, 100);
	high[1] = fcntl(pf_stats_fd, F_DUPFD, 100);
	for(i = 0; i < controls; i++) {
		high[2 + i] = fcntl(pf_media_far_fd(i), F_DUPFD, 100);
	}
	for(i = 0; i < 2 + controls; i++) {
		if(high[i] < 0 || dup2(high[i], CONF_FD + (int)i) < 0) {
			_exit(126);
		}
	}
	/* SIP sockets and all else of Kamailio stay here */
	if(syscall(SYS_close_range, CONF_FD + 2 + controls, ~0U, 0) < 0) {
		int fd;
		for(fd = CONF_FD + 2 + (int)controls; fd < 65536; fd++) {
			close(fd);
		}
	}
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(pf_conf.worker_path, argv, envp);
	_exit(127);
}

static void worker_start(struct worker *w)
{
	pid_t nursery = getpid();
	int conf_fd = conf_fd_make(w);
	pid_t pid;

	w->started_ms = io_clock_mono_ms();
	if(conf_fd < 0) {
		LM_ERR("nursery: no memory for the configuration of %s\n", w->role);
		w->start_at_ms = w->started_ms + BACKOFF_MAX_MS;
		return;
	}
	pid = fork();
	if(pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
		if(getppid() != nursery) {
			_exit(0);
		}
		worker_exec(w, conf_fd);
	}
	close(conf_fd);
	if(pid < 0) {
		LM_ERR("nursery: cannot start %s: %s\n", w->role, strerror(errno));
		w->pid = 0;
		w->start_at_ms = w->started_ms + BACKOFF_MAX_MS;
		return;
	}
	w->pid = pid;
}

static void worker_died(struct worker *w, int status)
{
	uint64_t now_ms = io_clock_mono_ms();

	if(now_ms - w->started_ms >= STEADY_MS || w->backoff_ms == 0) {
		w->backoff_ms = BACKOFF_FIRST_MS;
	} else {
		w->backoff_ms *= 2;
		if(w->backoff_ms > BACKOFF_MAX_MS) {
			w->backoff_ms = BACKOFF_MAX_MS;
		}
	}
	w->pid = 0;
	w->start_at_ms = now_ms + w->backoff_ms;
	pf_stat(CPM_STAT_worker_restarts);
	if(w->died != NULL) {
		w->died();
	}
	if(WIFSIGNALED(status)) {
		LM_ERR("nursery: worker died role=%s signal=%d restart_ms=%llu\n",
				w->role, WTERMSIG(status), (unsigned long long)w->backoff_ms);
	} else {
		LM_ERR("nursery: worker ended role=%s status=%d restart_ms=%llu\n",
				w->role, WEXITSTATUS(status),
				(unsigned long long)w->backoff_ms);
	}
}

static void reap(void)
{
	size_t i;
	int status;
	pid_t pid;

	while((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for(i = 0; i < WORKERS; i++) {
			if(workers[i].pid == pid) {
				worker_died(&workers[i], status);
			}
		}
	}
}

void pf_nursery_main(void)
{
	struct timespec wait = {0, 200 * 1000 * 1000};
	sigset_t child;
	size_t i;

	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	/* Kamailio's own handler would take a worker's death for a child's */
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	for(;;) {
		for(i = 0; i < WORKERS; i++) {
			if(workers[i].pid == 0 && workers[i].is_wanted()
					&& io_clock_mono_ms() >= workers[i].start_at_ms) {
				worker_start(&workers[i]);
			}
		}
		(void)sigtimedwait(&child, NULL, &wait);
		reap();
	}
}
