/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * admin_http.h - the admin endpoint's HTTP, by libmicrohttpd.
 *
 * runs in:  cpm_pf_worker; a thread of its own answers, and nobody else may
 *           use the api until admin_http_stop has returned
 * owns:     the listening socket and its connections
 */

#ifndef ADMIN_HTTP_H
#define ADMIN_HTTP_H

#include <stdbool.h>
#include <sys/socket.h>

#include "admin_api.h"
#include "admin_auth.h"

#define ADMIN_HTTP_CONNECTIONS 256
#define ADMIN_HTTP_CONNECTIONS_PER_IP 128
#define ADMIN_HTTP_IDLE_S 10
#define ADMIN_HTTP_MEMORY (48 * 1024) /* of a connection: head and buffers */
#define ADMIN_HTTP_URI_MAX 8192
#define ADMIN_HTTP_BODY_MAX 65536
/* bytes of answers that wait for their clients, of all of them */
#define ADMIN_HTTP_ANSWERING_MAX (64 * 1024 * 1024)

struct admin_http;

/* A listening socket, or -1 and errno. */
int admin_http_listen(const struct sockaddr *addr, socklen_t len);

struct admin_http_conf
{
	unsigned rate;		 /* requests a second of one address; 0: no bound */
	unsigned exchange_s; /* that a request and its answer may take in all */
	/* PEM texts; NULL: no TLS. May go when it has started. */
	const char *cert, *key;
};

/* Takes the socket. tokens: NULL when there is no token file; they and the
 * api must stay. NULL: no memory, no thread, or a certificate that is none. */
struct admin_http *admin_http_start(int fd, struct admin_api *api,
		const struct admin_tokens *tokens, const struct admin_http_conf *conf);

/* About once a second, by another thread: ends what takes too long, however
 * often it sends a byte. */
void admin_http_tick(struct admin_http *h);

void admin_http_stop(struct admin_http **h);

#endif
