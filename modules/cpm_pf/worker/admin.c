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

static void wait_for_end(struct admin_http *http)
{
	struct timespec second = {1, 0};
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	while((sig = sigtimedwait(&set, NULL, &second)) < 0)
		admin_http_tick(http);
	worker_log(WORKER_NOTICE, "admin: stop signal=%d", sig);
}

#define PEM_MAX 65536

/* The certificate and its key as texts; key: in the file of the former, if
 * there is no other. */
struct pem
{
	char cert[PEM_MAX];
	char key[PEM_MAX];
};

static bool pem_read(const char *path, char *text)
{
	FILE *f = fopen(path, "re");
	size_t n = f != NULL ? fread(text, 1, PEM_MAX, f) : 0;
	bool ok = f != NULL && ferror(f) == 0 && n > 0 && n < PEM_MAX;

	if(f != NULL)
		(void)fclose(f);
	if(ok)
		text[n] = '\0';
	return ok && strstr(text, "-----BEGIN ") != NULL;
}

/* CPM_OK, or a line was written. */
static int pem_get(const struct worker_conf *conf, struct pem *pem)
{
	const char *key =
			conf->admin_key[0] != '\0' ? conf->admin_key : conf->admin_cert;

	if(!pem_read(conf->admin_cert, pem->cert)) {
		worker_log(WORKER_ERROR,
				"admin: admin_cert takes a PEM file: admin_cert=%s",
				conf->admin_cert);
		return CPM_EPROTO;
	}
	if(!pem_read(key, pem->key) || strstr(pem->key, "PRIVATE KEY") == NULL) {
		worker_log(WORKER_ERROR,
				"admin: admin_key takes a PEM file with a private key: "
				"admin_key=%s",
				key);
		return CPM_EPROTO;
	}
	return CPM_OK;
}

static int serve(const struct worker_conf *conf, struct admin_api *api,
		const struct admin_tokens *tokens, const struct pem *pem)
{
	const struct sockaddr *addr = (const struct sockaddr *)&conf->listen;
	struct admin_http_conf http_conf = {(unsigned)conf->admin_rate,
			(unsigned)conf->admin_time, pem != NULL ? pem->cert : NULL,
			pem != NULL ? pem->key : NULL};
	int fd = admin_http_listen(addr, conf->listen_len);

	if(fd < 0) {
		worker_log(WORKER_ERROR,
				"admin: cannot-listen admin_listen=%s error=\"%s\"",
				conf->listen_text, strerror(errno));
		return WORKER_EXIT_LISTEN;
	}
	struct admin_http *http = admin_http_start(fd, api, tokens, &http_conf);
	if(http == NULL) {
		worker_log(WORKER_ERROR, "admin: cannot-start%s",
				pem != NULL ? ": admin_cert and admin_key are to be a "
							  "certificate and its key"
							: "");
		return WORKER_EXIT_FAILED;
	}
	worker_log(WORKER_NOTICE,
			"admin: start admin_listen=%s auth=%s tls=%d bodies=%d",
			conf->listen_text, tokens != NULL ? "bearer" : "none", pem != NULL,
			conf->bodies);
	wait_for_end(http);
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
	if(near || conf->admin_cert[0] != '\0')
		return CPM_OK;
	if(!conf->admin_plain) {
		worker_log(WORKER_ERROR,
				"admin: admin_listen=%s is not loopback and takes admin_cert: "
				"tokens could be read on their way (admin_tls=none, where "
				"something else encrypts)",
				conf->listen_text);
		return CPM_EPROTO;
	}
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
	struct pem *pem =
			conf->admin_cert[0] != '\0' ? calloc(1, sizeof(*pem)) : NULL;
	bool memory = tokens != NULL && (pem != NULL || conf->admin_cert[0] == 0);
	int status = WORKER_EXIT_FAILED;

	if(memory
			&& (tokens_get(conf, tokens) != CPM_OK
					|| (pem != NULL && pem_get(conf, pem) != CPM_OK)))
		status = WORKER_EXIT_USAGE;
	else if(memory) {
		api.queue = io_queue_new(&conf->redis, cpm_pl_str(conf->key_prefix));
		memory = api.queue != NULL && admin_api_init(&api) == CPM_OK;
	}
	if(!memory)
		worker_log(WORKER_ERROR, "admin: no-memory");
	else if(status != WORKER_EXIT_USAGE) {
		status = serve(
				conf, &api, conf->token_file[0] != '\0' ? tokens : NULL, pem);
		admin_api_fini(&api);
	}
	io_queue_free(&api.queue);
	if(tokens != NULL)
		explicit_bzero(tokens, sizeof(*tokens));
	if(pem != NULL)
		explicit_bzero(pem, sizeof(*pem));
	free(tokens);
	free(pem);
	return status;
}
