/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "admin.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin_api.h"
#include "admin_auth.h"
#include "admin_http.h"
#include "worker.h"
#include "worker_log.h"

static void wait_for_end(void)
{
	sigset_t set;
	int sig = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	while(sigwait(&set, &sig) != 0)
		;
	worker_log(WORKER_NOTICE, "admin: stop signal=%d", sig);
}

static int serve(const struct worker_conf *conf, struct admin_api *api,
		const struct admin_tokens *tokens)
{
	const struct sockaddr *addr = (const struct sockaddr *)&conf->listen;
	int fd = admin_http_listen(addr, conf->listen_len);

	if(fd < 0) {
		worker_log(WORKER_ERROR,
				"admin: cannot-listen admin_listen=%s error=\"%s\"",
				conf->listen_text, strerror(errno));
		return WORKER_EXIT_LISTEN;
	}
	struct admin_http *http = admin_http_start(fd, api, tokens);
	if(http == NULL) {
		worker_log(WORKER_ERROR, "admin: cannot-start");
		return WORKER_EXIT_FAILED;
	}
	worker_log(WORKER_NOTICE, "admin: start admin_listen=%s auth=%s bodies=%d",
			conf->listen_text, tokens != NULL ? "bearer" : "none",
			conf->bodies);
	wait_for_end();
	admin_http_stop(&http);
	return WORKER_EXIT_OK;
}

/* CPM_OK, or a line was written. */
static int tokens_get(
		const struct worker_conf *conf, struct admin_tokens *tokens)
{
	bool near = worker_addr_is_loopback((const struct sockaddr *)&conf->listen);
	char why[256];

	if(conf->token_file[0] == '\0') {
		if(near)
			return CPM_OK;
		worker_log(WORKER_ERROR,
				"admin: admin_listen=%s is not loopback and takes "
				"admin_token_file, which is not given",
				conf->listen_text);
		return CPM_EPROTO;
	}
	if(admin_tokens_load(conf->token_file, tokens, why, sizeof(why))
			!= CPM_OK) {
		worker_log(WORKER_ERROR,
				"admin: admin_token_file takes a file of lines \"read TOKEN\" "
				"and \"read-write TOKEN\": %s",
				why);
		return CPM_EPROTO;
	}
	if(!near)
		worker_log(WORKER_WARN,
				"admin: no-encryption admin_listen=%s tokens can be read on "
				"their way",
				conf->listen_text);
	return CPM_OK;
}

int admin_run(const struct worker_conf *conf, const struct cpm_stats *stats)
{
	struct admin_api api = {.stats = stats, .bodies = conf->bodies};
	struct admin_tokens *tokens = calloc(1, sizeof(*tokens));
	int status = WORKER_EXIT_FAILED;

	if(tokens != NULL && tokens_get(conf, tokens) != CPM_OK) {
		free(tokens);
		return WORKER_EXIT_USAGE;
	}
	api.queue = io_queue_new(&conf->redis, cpm_pl_str(conf->key_prefix));
	if(tokens != NULL && api.queue != NULL && admin_api_init(&api) == CPM_OK) {
		status = serve(conf, &api, conf->token_file[0] != '\0' ? tokens : NULL);
		admin_api_fini(&api);
	} else
		worker_log(WORKER_ERROR, "admin: no-memory");
	io_queue_free(&api.queue);
	if(tokens != NULL)
		explicit_bzero(tokens, sizeof(*tokens));
	free(tokens);
	return status;
}
