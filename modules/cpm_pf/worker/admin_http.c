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
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../io/io_clock.h"
#include "admin_guard.h"
#include "admin_page.h"
#include "admin_url.h"
#include "worker_conf.h"
#include "worker_log.h"

#define BLOCK 16384 /* of an answer, at a time */

/* A wrong token costs as much as so many requests: few can be tried. */
#define WRONG_TOKEN_COST 50

/* A connection, from its beginning or the end of its last exchange on. */
struct peer
{
	struct peer *next, **at;
	int fd;
	uint64_t since_ms;
};

struct admin_http
{
	struct MHD_Daemon *daemon;
	struct admin_api *api;
	const struct admin_tokens *tokens;
	struct admin_guard guard;
	unsigned exchange_s;
	struct worker_log_limit refused_log;
	size_t answering; /* bytes of answers that wait for their clients */
	pthread_mutex_t lock;
	struct peer *peers; /* under the lock, as what is in them */
};

/* A request from its first line to its end. */
struct exchange
{
	char *uri; /* as it came; NULL: no memory for it */
	bool begun;
	bool too_large; /* its body, which is not kept then */
	char *body;
	size_t body_len;
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

static struct peer *peer_of(struct MHD_Connection *con)
{
	const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(con, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info != NULL ? info->socket_context : NULL;
}

static void on_completed(void *cls, struct MHD_Connection *con, void **con_cls,
		enum MHD_RequestTerminationCode how)
{
	struct admin_http *h = cls;
	struct exchange *ex = *con_cls;
	struct peer *p = peer_of(con);

	(void)how;
	if(ex != NULL) {
		free(ex->uri);
		free(ex->body);
		free(ex);
	}
	*con_cls = NULL;
	if(p != NULL) {
		pthread_mutex_lock(&h->lock);
		p->since_ms = io_clock_mono_ms();
		pthread_mutex_unlock(&h->lock);
	}
}

static void on_connection(void *cls, struct MHD_Connection *con,
		void **socket_context, enum MHD_ConnectionNotificationCode code)
{
	const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(con, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct admin_http *h = cls;
	struct peer *p = *socket_context;

	pthread_mutex_lock(&h->lock);
	if(code == MHD_CONNECTION_NOTIFY_STARTED) {
		p = info != NULL ? calloc(1, sizeof(*p)) : NULL;
		*socket_context = p;
		if(p != NULL) {
			p->fd = info->connect_fd;
			p->since_ms = io_clock_mono_ms();
			p->next = h->peers;
			p->at = &h->peers;
			if(p->next != NULL)
				p->next->at = &p->next;
			h->peers = p;
		}
	} else if(p != NULL) {
		*p->at = p->next;
		if(p->next != NULL)
			p->next->at = p->at;
		free(p);
		*socket_context = NULL;
	}
	pthread_mutex_unlock(&h->lock);
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

static struct cpm_pl header(struct MHD_Connection *con, const char *name)
{
	return cpm_pl_str(MHD_lookup_connection_value(con, MHD_HEADER_KIND, name));
}

/* From this very host, and no page of another site's: see is_foreign. */
static bool peer_is_near(struct MHD_Connection *con)
{
	const struct sockaddr *addr = peer_addr(con);
	struct cpm_pl host = header(con, "Host");

	return addr != NULL && worker_addr_is_loopback(addr)
		   && (host.n == 0 || admin_host_is_loopback(host));
}

/* Without tokens, what protects is that only this host can connect. But a
 * browser on this host runs scripts of any site, and a site can have its own
 * name resolve to 127.0.0.1 (DNS rebinding): to the browser we are that site,
 * and its script may read our answers. Such a request bears the site's name as
 * Host. No Host at all is no browser.
 *
 * Nor may another site's page change anything, for which it need not read the
 * answer. A browser says whose page it is, in Origin with whatever is not GET,
 * and most of them in Sec-Fetch-Site with everything. NULL: it is fine. */
static const char *is_foreign(struct MHD_Connection *con, const char *method)
{
	struct cpm_pl host = header(con, "Host");
	struct cpm_pl origin = header(con, "Origin");
	struct cpm_pl site = header(con, "Sec-Fetch-Site");
	bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

	if(host.n > 0 && !admin_host_is_loopback(host))
		return "without a token file, Host must be localhost, 127.0.0.1 or "
			   "[::1]";
	if(reads)
		return NULL;
	if(origin.n > 0 && !admin_origin_is(origin, host))
		return "Origin is another site's";
	if(site.n > 0 && !cpm_pl_ieq(site, CPM_PL_LIT("same-origin"))
			&& !cpm_pl_ieq(site, CPM_PL_LIT("none")))
		return "Sec-Fetch-Site: another site asks";
	return NULL;
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

/* An answer on its way to its client. */
struct sending
{
	struct admin_http *h;
	char *text; /* what there is of it now */
	size_t len, at;
	struct admin_list *list; /* NULL: that is all */
};

/* The next piece of a list; the one before is sent. */
static bool sending_more(struct sending *s)
{
	bool last = true;
	char *text;
	size_t len;
	int rc = admin_list_more(s->h->api, s->list, &text, &len, &last);

	if(rc != CPM_OK) {
		worker_log(WORKER_WARN, "admin: answer-broken-off result=%s",
				cpm_rc_name(rc));
		return false;
	}
	free(s->text);
	s->h->answering += len;
	s->h->answering -= s->len;
	s->text = text;
	s->len = len;
	s->at = 0;
	if(last)
		admin_list_free(&s->list);
	return true;
}

static ssize_t on_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct sending *s = cls;

	(void)pos;
	while(s->at == s->len) {
		if(s->list == NULL)
			return MHD_CONTENT_READER_END_OF_STREAM;
		if(!sending_more(s))
			return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	size_t n = s->len - s->at < max ? s->len - s->at : max;
	memcpy(buf, s->text + s->at, n);
	s->at += n;
	return (ssize_t)n;
}

static void on_sent(void *cls)
{
	struct sending *s = cls;

	s->h->answering -= s->len;
	admin_list_free(&s->list);
	free(s->text);
	free(s);
}

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
	return (an->status == 204 || add(response, "Content-Type", an->type))
		   && add(response, "Cache-Control", "no-store")
		   && add(response, "X-Content-Type-Options", "nosniff")
		   && (an->allow[0] == '\0' || add(response, "Allow", an->allow))
		   && (an->retry_after_s == 0 || add(response, "Retry-After", seconds))
		   && (an->status != 401
				   || add(response, "WWW-Authenticate", challenge));
}

static struct MHD_Response *response_of(
		struct admin_http *h, struct admin_answer *an)
{
	struct sending *s;
	struct MHD_Response *response;

	if(an->body_len == 0 && an->list == NULL) {
		free(an->body);
		an->body = NULL;
		return MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
	}
	s = calloc(1, sizeof(*s));
	if(s == NULL)
		return NULL;
	s->h = h;
	s->text = an->body;
	s->len = an->body_len;
	s->list = an->list;
	response = MHD_create_response_from_callback(
			an->list == NULL ? an->body_len : MHD_SIZE_UNKNOWN, BLOCK, on_read,
			s, on_sent);
	if(response == NULL) {
		free(s);
		return NULL;
	}
	h->answering += s->len;
	an->body = NULL;
	an->list = NULL;
	return response;
}

/* Takes what *an owns. */
static enum MHD_Result reply(struct admin_http *h, struct MHD_Connection *con,
		struct admin_answer *an, bool token_was_wrong)
{
	struct MHD_Response *response = response_of(h, an);
	enum MHD_Result result = MHD_NO;

	if(response != NULL && add_headers(response, an, token_was_wrong))
		result = MHD_queue_response(con, an->status, response);
	if(response != NULL)
		MHD_destroy_response(response);
	free(an->body);
	admin_list_free(&an->list);
	return result;
}

static enum MHD_Result reply_problem(struct admin_http *h,
		struct MHD_Connection *con, unsigned status, unsigned retry_after_s,
		const char *detail)
{
	struct admin_answer an;

	memset(&an, 0, sizeof(an));
	if(admin_api_problem(&an, status, detail) != CPM_OK)
		return MHD_NO;
	an.retry_after_s = retry_after_s;
	return reply(h, con, &an, false);
}

static enum MHD_Result answer(struct admin_http *h, struct MHD_Connection *con,
		const char *method, const struct exchange *ex)
{
	struct cpm_pl auth = header(con, "Authorization");
	struct admin_answer an;
	struct admin_request rq = {.method = cpm_pl_str(method),
			.content_type = header(con, "Content-Type"),
			.body = cpm_pl(ex->body, ex->body_len),
			.right = ADMIN_WRITE,
			.is_near = peer_is_near(con)};

	rq.query = cpm_pl_str(ex->uri);
	rq.path = cpm_pl_cut(&rq.query, '?');
	if(h->tokens != NULL)
		rq.right = admin_tokens_right(h->tokens, auth);
	if(rq.right == ADMIN_NOTHING && auth.n > 0)
		admin_guard_charge(&h->guard, peer_addr(con), WRONG_TOKEN_COST,
				io_clock_mono_ms());
	/* the page asks for a token; a wrong one is answered by the API */
	if(admin_page_has(rq.path) && (auth.n == 0 || rq.right != ADMIN_NOTHING))
		return admin_page_reply(con, &rq);
	int rc = admin_api_answer(h->api, &rq, &an);
	if(rc != CPM_OK) {
		worker_log(WORKER_ERROR, "admin: no-memory");
		return MHD_NO;
	}
	/* clients that do not read what they ask for, all together */
	if((an.list != NULL || an.body_len > ADMIN_HTTP_BODY_MAX)
			&& h->answering > ADMIN_HTTP_ANSWERING_MAX) {
		free(an.body);
		admin_list_free(&an.list);
		return reply_problem(h, con, 503, 1, "too much is being answered");
	}
	if(an.status == 401 || an.status == 403)
		log_refused(h, con, an.status);
	return reply(h, con, &an, auth.n > 0);
}

/* What is wrong can be seen before the body is read. True: it was answered. */
static bool refuse_early(struct admin_http *h, struct MHD_Connection *con,
		const char *method, const struct exchange *ex,
		enum MHD_Result *result_r)
{
	struct cpm_pl length = header(con, "Content-Length");
	const char *foreign = h->tokens == NULL ? is_foreign(con, method) : NULL;
	uint64_t bytes;

	if(!admin_guard_take(&h->guard, peer_addr(con), 1, io_clock_mono_ms())) {
		log_refused(h, con, 429);
		*result_r =
				reply_problem(h, con, 429, 1, "this address asks for too much");
		return true;
	}
	if(foreign != NULL) {
		log_refused(h, con, 403);
		*result_r = reply_problem(h, con, 403, 0, foreign);
		return true;
	}
	if(strlen(ex->uri) > ADMIN_HTTP_URI_MAX) {
		*result_r = reply_problem(h, con, 414, 0, "the path is too long");
		return true;
	}
	if(length.n > 0
			&& cpm_pl_u64(length, ADMIN_HTTP_BODY_MAX, &bytes) != CPM_OK) {
		*result_r = reply_problem(h, con, 413, 0, "the body is too large");
		return true;
	}
	return false;
}

/* Chunks say no length beforehand. */
static bool body_add(struct exchange *ex, const char *data, size_t n)
{
	char *grown;

	if(ex->too_large || n > ADMIN_HTTP_BODY_MAX - ex->body_len) {
		/* the rest of it is read away, for a while, and then answered */
		ex->too_large = true;
		ex->body_len += n;
		return ex->body_len <= 16 * ADMIN_HTTP_BODY_MAX;
	}
	grown = realloc(ex->body, ex->body_len + n);
	if(grown == NULL)
		return false;
	memcpy(grown + ex->body_len, data, n);
	ex->body = grown;
	ex->body_len += n;
	return true;
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
	if(ex == NULL || ex->uri == NULL)
		return MHD_NO;
	if(!ex->begun) {
		ex->begun = true;
		return refuse_early(h, con, method, ex, &result) ? result : MHD_YES;
	}
	if(*upload_data_size > 0) {
		bool fits = body_add(ex, upload_data, *upload_data_size);
		*upload_data_size = 0;
		return fits ? MHD_YES : MHD_NO;
	}
	if(ex->too_large)
		return reply_problem(h, con, 413, 0, "the body is too large");
	return answer(h, con, method, ex);
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

static struct MHD_Daemon *daemon_start(
		struct admin_http *h, const struct admin_http_conf *conf, int fd)
{
	struct MHD_OptionItem tls[] = {
			{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)conf->cert},
			{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)conf->key},
			{MHD_OPTION_HTTPS_PRIORITIES, 0,
					(void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-"
										"TLS1.2"},
			{MHD_OPTION_END, 0, NULL}};
	struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
	unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD
					 | (conf->cert != NULL ? (unsigned)MHD_USE_TLS : 0);

	return MHD_start_daemon(flags, 0, NULL, NULL, on_request, h,
			MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
			(unsigned)ADMIN_HTTP_CONNECTIONS,
			MHD_OPTION_PER_IP_CONNECTION_LIMIT,
			(unsigned)ADMIN_HTTP_CONNECTIONS_PER_IP,
			MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ADMIN_HTTP_IDLE_S,
			MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)ADMIN_HTTP_MEMORY,
			MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK,
			on_uri, NULL, MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL,
			MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
			MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_ARRAY,
			conf->cert != NULL ? tls : none, MHD_OPTION_END);
}

struct admin_http *admin_http_start(int fd, struct admin_api *api,
		const struct admin_tokens *tokens, const struct admin_http_conf *conf)
{
	struct admin_http *h = calloc(1, sizeof(*h));

	if(h != NULL && pthread_mutex_init(&h->lock, NULL) == 0) {
		h->api = api;
		h->tokens = tokens;
		h->guard.rate = conf->rate;
		h->exchange_s = conf->exchange_s;
		h->daemon = daemon_start(h, conf, fd);
		if(h->daemon != NULL)
			return h;
		pthread_mutex_destroy(&h->lock);
	}
	free(h);
	close(fd);
	return NULL;
}

void admin_http_tick(struct admin_http *h)
{
	uint64_t now_ms = io_clock_mono_ms();
	unsigned n = 0;

	pthread_mutex_lock(&h->lock);
	for(struct peer *p = h->peers; p != NULL; p = p->next) {
		if(now_ms - p->since_ms < (uint64_t)h->exchange_s * 1000)
			continue;
		/* libmicrohttpd's thread finds it ended, and closes it */
		(void)shutdown(p->fd, SHUT_RDWR);
		p->since_ms = now_ms;
		n++;
	}
	pthread_mutex_unlock(&h->lock);
	if(n > 0)
		worker_log(WORKER_WARN, "admin: too-slow connections=%u", n);
}

void admin_http_stop(struct admin_http **h)
{
	if(*h == NULL)
		return;
	MHD_stop_daemon((*h)->daemon);
	pthread_mutex_destroy(&(*h)->lock);
	free(*h);
	*h = NULL;
}
