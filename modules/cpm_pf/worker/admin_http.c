/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "admin_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "worker_conf.h"
#include "worker_log.h"

struct admin_http
{
	struct MHD_Daemon *daemon;
	struct admin_api *api;
	const struct admin_tokens *tokens;
	struct worker_log_limit refused_log;
};

/* A request from its first line to its end. */
struct exchange
{
	char *uri; /* as it came; NULL: no memory for it */
	bool begun;
	size_t body_bytes;
};

/* ----------------------------------------------------- libmicrohttpd's calls */

/* The only place where the request target is seen before it is cut up. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *con)
{
	struct exchange *ex = calloc(1, sizeof(*ex));

	(void)cls;
	(void)con;
	if(ex != NULL)
		ex->uri = strdup(uri);
	return ex;
}

static void on_completed(void *cls, struct MHD_Connection *con, void **con_cls,
		enum MHD_RequestTerminationCode how)
{
	struct exchange *ex = *con_cls;

	(void)cls;
	(void)con;
	(void)how;
	if(ex != NULL) {
		free(ex->uri);
		free(ex);
	}
	*con_cls = NULL;
}

/* libmicrohttpd would undo the escapes before the path is cut at its slashes,
 * and make "a%2Fb" two segments: nothing is undone here. */
static size_t on_unescape(void *cls, struct MHD_Connection *con, char *s)
{
	(void)cls;
	(void)con;
	return strlen(s);
}

/* ------------------------------------------------------------------ who asks */

static const struct sockaddr *peer_addr(struct MHD_Connection *con)
{
	const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(con, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

	return info != NULL ? info->client_addr : NULL;
}

static bool peer_is_near(struct MHD_Connection *con)
{
	const struct sockaddr *addr = peer_addr(con);

	return addr != NULL && worker_addr_is_loopback(addr);
}

static struct cpm_pl header(struct MHD_Connection *con, const char *name)
{
	return cpm_pl_str(MHD_lookup_connection_value(con, MHD_HEADER_KIND, name));
}

/* Host = uri-host [":" port], a name or address of this very host. */
static bool host_is_loopback(struct cpm_pl host)
{
	struct in_addr v4;
	char text[64];

	if(host.n > 0 && host.p[0] == '[')
		return cpm_pl_starts(host, CPM_PL_LIT("[::1]"))
			   && (host.n == 5 || host.p[5] == ':');
	host = cpm_pl_cut(&host, ':');
	if(cpm_pl_ieq(host, CPM_PL_LIT("localhost")))
		return true;
	if(host.n >= sizeof(text))
		return false;
	return inet_pton(AF_INET, cpm_pl_cstr(host, text, sizeof(text)), &v4) == 1
		   && ntohl(v4.s_addr) >> 24 == 127;
}

static void log_refused(
		struct admin_http *h, struct MHD_Connection *con, unsigned status)
{
	const struct sockaddr *addr = peer_addr(con);
	char text[INET6_ADDRSTRLEN] = "?";
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	unsigned left_out;

	if(!worker_log_may(&h->refused_log, &left_out))
		return;
	if(addr != NULL && addr->sa_family == AF_INET) {
		memcpy(&v4, addr, sizeof(v4));
		inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
	} else if(addr != NULL && addr->sa_family == AF_INET6) {
		memcpy(&v6, addr, sizeof(v6));
		inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
	}
	worker_log(WORKER_WARN, "admin: refused status=%u peer=%s left_out=%u",
			status, text, left_out);
}

/* ----------------------------------------------------------------- answering */

static bool add(
		struct MHD_Response *response, const char *name, const char *value)
{
	return MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool add_headers(struct MHD_Response *response,
		const struct admin_answer *an, bool token_was_wrong)
{
	const char *challenge =
			token_was_wrong ? "Bearer realm=\"cpm_pf\", error=\"invalid_token\""
							: "Bearer realm=\"cpm_pf\"";
	char seconds[16];

	(void)snprintf(seconds, sizeof(seconds), "%u", an->retry_after_s);
	/* queues change, and messages are private: no-store */
	return add(response, "Content-Type", an->type)
		   && add(response, "Cache-Control", "no-store")
		   && add(response, "X-Content-Type-Options", "nosniff")
		   && (an->allow[0] == '\0' || add(response, "Allow", an->allow))
		   && (an->retry_after_s == 0 || add(response, "Retry-After", seconds))
		   && (an->status != 401
				   || add(response, "WWW-Authenticate", challenge));
}

/* Takes an->body. */
static enum MHD_Result reply(struct MHD_Connection *con,
		const struct admin_answer *an, bool token_was_wrong)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
			an->body_len, an->body, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result result = MHD_NO;

	if(response == NULL) {
		free(an->body);
		return MHD_NO;
	}
	if(add_headers(response, an, token_was_wrong))
		result = MHD_queue_response(con, an->status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result reply_problem(
		struct MHD_Connection *con, unsigned status, const char *detail)
{
	struct admin_answer an;

	memset(&an, 0, sizeof(an));
	if(admin_api_problem(&an, status, detail) != CPM_OK)
		return MHD_NO;
	return reply(con, &an, false);
}

static enum MHD_Result answer(struct admin_http *h, struct MHD_Connection *con,
		const char *method, const char *uri)
{
	struct cpm_pl auth = header(con, "Authorization");
	struct admin_answer an;
	struct admin_request rq = {.method = cpm_pl_str(method),
			.right = ADMIN_WRITE,
			.is_near = peer_is_near(con)};

	rq.query = cpm_pl_str(uri);
	rq.path = cpm_pl_cut(&rq.query, '?');
	if(h->tokens != NULL)
		rq.right = admin_tokens_right(h->tokens, auth);
	int rc = admin_api_answer(h->api, &rq, &an);
	if(rc != CPM_OK) {
		worker_log(WORKER_ERROR, "admin: no-memory");
		return MHD_NO;
	}
	if(an.status == 401 || an.status == 403)
		log_refused(h, con, an.status);
	return reply(con, &an, auth.n > 0);
}

/* What is wrong can be seen before the body is read. True: it was answered. */
static bool refuse_early(struct admin_http *h, struct MHD_Connection *con,
		const struct exchange *ex, enum MHD_Result *result_r)
{
	struct cpm_pl host = header(con, "Host");
	struct cpm_pl length = header(con, "Content-Length");
	uint64_t bytes;

	/* Without tokens, what protects is that only this host can connect. But a
	 * browser on this host runs scripts of any site, and a site can have its
	 * own name resolve to 127.0.0.1 (DNS rebinding): to the browser we are
	 * that site, and its script may read our answers. Such a request bears
	 * the site's name as Host. No Host at all is no browser. */
	if(h->tokens == NULL && host.n > 0 && !host_is_loopback(host)) {
		log_refused(h, con, 403);
		*result_r = reply_problem(con, 403,
				"without a token file, Host must be localhost, 127.0.0.1 or "
				"[::1]");
		return true;
	}
	if(strlen(ex->uri) > ADMIN_HTTP_URI_MAX) {
		*result_r = reply_problem(con, 414, "the path is too long");
		return true;
	}
	if(length.n > 0
			&& cpm_pl_u64(length, ADMIN_HTTP_BODY_MAX, &bytes) != CPM_OK) {
		*result_r = reply_problem(con, 413, "the body is too large");
		return true;
	}
	return false;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *con,
		const char *url, const char *method, const char *version,
		const char *upload_data, size_t *upload_data_size, void **con_cls)
{
	struct admin_http *h = cls;
	struct exchange *ex = *con_cls;
	enum MHD_Result result;

	(void)url;
	(void)version;
	(void)upload_data;
	if(ex == NULL || ex->uri == NULL)
		return MHD_NO;
	if(!ex->begun) {
		ex->begun = true;
		return refuse_early(h, con, ex, &result) ? result : MHD_YES;
	}
	if(*upload_data_size > 0) {
		/* chunks say no length beforehand; no request here has a body that
		 * is read */
		ex->body_bytes += *upload_data_size;
		*upload_data_size = 0;
		return ex->body_bytes > ADMIN_HTTP_BODY_MAX ? MHD_NO : MHD_YES;
	}
	return answer(h, con, method, ex->uri);
}

/* ------------------------------------------------------------ start and stop */

int admin_http_listen(const struct sockaddr *addr, socklen_t len)
{
	int on = 1;
	int fd = socket(
			addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if(fd < 0)
		return -1;
	/* a restart must not wait for the connections of the one before */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* "[::]:8060" is IPv6 only: what listens is what was written */
	if(addr->sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if(bind(fd, addr, len) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	int err = errno;
	close(fd);
	errno = err;
	return -1;
}

struct admin_http *admin_http_start(
		int fd, struct admin_api *api, const struct admin_tokens *tokens)
{
	struct admin_http *h = calloc(1, sizeof(*h));

	if(h != NULL) {
		h->api = api;
		h->tokens = tokens;
		h->daemon = MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD, 0, NULL,
				NULL, on_request, h, MHD_OPTION_LISTEN_SOCKET, fd,
				MHD_OPTION_CONNECTION_LIMIT, (unsigned)ADMIN_HTTP_CONNECTIONS,
				MHD_OPTION_PER_IP_CONNECTION_LIMIT,
				(unsigned)ADMIN_HTTP_CONNECTIONS_PER_IP,
				MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ADMIN_HTTP_IDLE_S,
				MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)ADMIN_HTTP_MEMORY,
				MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK,
				on_uri, NULL, MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL,
				MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
				MHD_OPTION_END);
	}
	if(h != NULL && h->daemon != NULL)
		return h;
	free(h);
	close(fd);
	return NULL;
}

void admin_http_stop(struct admin_http **h)
{
	if(*h == NULL)
		return;
	MHD_stop_daemon((*h)->daemon);
	free(*h);
	*h = NULL;
}
