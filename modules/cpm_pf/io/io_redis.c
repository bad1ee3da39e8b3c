/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_redis.c - see io_redis.h.
 *
 * hiredis gives the protocol reader and the reply objects. The socket is ours
 * and non-blocking, for three things that hiredis' blocking context does not
 * give: one deadline over a whole call (its time-outs start anew with each
 * read and write), knowing whether a single byte of a command has left, and
 * MSG_NOSIGNAL (it uses write(), so a closed peer raises SIGPIPE).
 *
 * A call takes at most connect_timeout_ms (connect), and cmd_timeout_ms twice
 * (AUTH, SELECT and SCRIPT LOAD in one round trip; send and answer). A server
 * that accepts and then says nothing costs cmd_timeout_ms only once: the
 * command is not sent.
 *
 * BUGS: the resolver has time-outs of its own; a host name whose DNS server
 * is silent takes longer than connect_timeout_ms. Give an address.
 */

#include "io_redis.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "io_clock.h"

#define DEFAULT_CONNECT_TIMEOUT_MS 500
#define DEFAULT_CMD_TIMEOUT_MS 250

#define SHA_LEN 40
#define ERROR_TEXT_MAX 60		  /* of what the server says */
#define OUT_KEEP_MAX (256 * 1024) /* a larger buffer is given back */
#define READ_CHUNK (16 * 1024)
#define REPLY_BYTES_MAX \
	(64 * 1024 * 1024) /* a page of the longest lists fits */

/* What an answer that is waited for belongs to. */
enum
{
	WANT_CALLER, /* handed out by io_redis_get */
	WANT_LOAD,	 /* SCRIPT LOAD before a pipelined script, swallowed */
};

struct io_redis
{
	struct io_redis_conf conf;
	int fd; /* -1: not connected */
	redisReader *reader;
	uint64_t rest_until_ms; /* breaker: no attempt before */
	char sha[CPM_SCRIPT_COUNT_][SHA_LEN];

	/* commands that are to be sent */
	char *out;
	size_t out_n;
	size_t out_cap;
	bool out_failed; /* no memory: the buffer lacks something */

	/* the pipeline, between _add and the last _get */
	unsigned char *want; /* an enum WANT_ for each answer to come */
	size_t want_n;
	size_t want_at;
	size_t want_cap;
	bool sent;
	bool loaded[CPM_SCRIPT_COUNT_]; /* SCRIPT LOAD is in this pipeline */

	char error[160];
};

/* ------------------------------------------------------------ configuration */

struct conf_key
{
	const char *name;
	size_t offset; /* of a char array in the struct; numbers: of an unsigned */
	size_t size;   /* of that array; 0: a number */
	unsigned min;
	unsigned max;
	const char *why; /* what a wrong number is called */
};

#define CONF_TEXT(name, field)                                          \
	{                                                                   \
		name, offsetof(struct io_redis_conf, field),                    \
				sizeof(((struct io_redis_conf *)NULL)->field), 0, 0, "" \
	}

static const struct conf_key conf_keys[] = {
		CONF_TEXT("name", name),
		CONF_TEXT("addr", addr),
		{"port", offsetof(struct io_redis_conf, port), 0, 1, 65535, "bad-port"},
		CONF_TEXT("unix", unix_path),
		CONF_TEXT("user", user),
		CONF_TEXT("pass", pass),
		{"db", offsetof(struct io_redis_conf, db), 0, 0, INT32_MAX, "bad-db"},
};

#define CONF_KEYS (sizeof(conf_keys) / sizeof(conf_keys[0]))

static int conf_fail(struct cpm_diag *diag, int rc, const char *why, size_t at)
{
	if(diag != NULL) {
		diag->why = why;
		diag->at = at;
	}
	return rc;
}

/* One "key=value"; *seen has a bit for each key that was given. */
static int conf_part(struct cpm_pl part, struct io_redis_conf *conf,
		unsigned *seen, const char **why_r)
{
	struct cpm_pl value = part;
	struct cpm_pl key = cpm_pl_trim(cpm_pl_cut(&value, '='));
	size_t i;

	value = cpm_pl_trim(value);
	for(i = 0; i < CONF_KEYS; i++) {
		if(cpm_pl_eq(key, cpm_pl_str(conf_keys[i].name)))
			break;
	}
	*why_r = "unknown-key";
	if(i == CONF_KEYS)
		return CPM_EPROTO;
	*why_r = "no-value";
	if(value.n == 0)
		return CPM_EPROTO;
	*why_r = "repeated-key";
	if((*seen & (1u << i)) != 0)
		return CPM_EPROTO;
	*seen |= 1u << i;

	char *field = (char *)conf + conf_keys[i].offset;
	if(conf_keys[i].size > 0) {
		*why_r = "too-long";
		if(value.n >= conf_keys[i].size)
			return CPM_ELIMIT;
		cpm_pl_cstr(value, field, conf_keys[i].size);
		return CPM_OK;
	}
	uint64_t number;
	*why_r = conf_keys[i].why;
	if(cpm_pl_u64(value, conf_keys[i].max, &number) != CPM_OK
			|| number < conf_keys[i].min)
		return CPM_EPROTO;
	unsigned n = (unsigned)number;
	memcpy(field, &n, sizeof(n));
	return CPM_OK;
}

int io_redis_conf_parse(
		struct cpm_pl s, struct io_redis_conf *conf_r, struct cpm_diag *diag)
{
	struct io_redis_conf conf;
	struct cpm_pl rest = s;
	unsigned seen = 0;

	memset(&conf, 0, sizeof(conf));
	(void)snprintf(conf.addr, sizeof(conf.addr), "127.0.0.1");
	conf.port = 6379;
	conf.connect_timeout_ms = conf_r->connect_timeout_ms;
	conf.cmd_timeout_ms = conf_r->cmd_timeout_ms;

	while(rest.n > 0) {
		size_t at = s.n - rest.n;
		struct cpm_pl part = cpm_pl_trim(cpm_pl_cut(&rest, ';'));
		if(part.n == 0)
			continue;
		const char *why = "";
		int rc = conf_part(part, &conf, &seen, &why);
		if(rc != CPM_OK)
			return conf_fail(diag, rc, why, at);
	}
	/* AUTH with a user and no password would be refused on every connect */
	if(conf.user[0] != '\0' && conf.pass[0] == '\0')
		return conf_fail(diag, CPM_EPROTO, "user-without-pass", 0);
	*conf_r = conf;
	return CPM_OK;
}

/* ------------------------------------------------------------------- errors */

__attribute__((format(printf, 3, 4))) static int fail(
		struct io_redis *r, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(r->error, sizeof(r->error), fmt, ap);
	va_end(ap);
	return rc;
}

static bool starts_word(const char *text, const char *word)
{
	size_t n = strlen(word);

	return strncmp(text, word, n) == 0 && (text[n] == ' ' || text[n] == '\0');
}

/* The server is alive and did nothing, because it cannot now.
 *
 * It stays true for an error out of a script: Redis looks at memory, disk,
 * role and replicas when a script makes its first write, and lets it finish
 * once it has written. */
static bool cannot_now(const char *text)
{
	static const char *const words[] = {"LOADING", "MASTERDOWN", "READONLY",
			"OOM", "NOREPLICAS", "MISCONF", "CLUSTERDOWN", "BUSY", "NOAUTH",
			"WRONGPASS", "NOSCRIPT"};

	for(size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if(starts_word(text, words[i]))
			return true;
	}
	/* before Redis 7 the word of a script's error is inside the text:
	 * "ERR Error running script (call to f_..): @user_script:3: -OOM ..." */
	if(strncmp(text, "ERR Error running script", 24) == 0) {
		const char *inner = strstr(text, ": -");
		return inner != NULL && cannot_now(inner + 3);
	}
	return false;
}

/* Errors quote arguments ("unknown command 'X', with args beginning with
 * ..."), so what is kept ends at the first quote. */
static void error_text(const redisReply *reply, char *dst, size_t cap)
{
	size_t n = 0;

	while(n < cap - 1 && n < reply->len && reply->str[n] >= ' '
			&& reply->str[n] < 0x7f && strchr("'\"`", reply->str[n]) == NULL) {
		dst[n] = reply->str[n];
		n++;
	}
	dst[n] = '\0';
}

static int reply_error(struct io_redis *r, const redisReply *reply)
{
	char text[ERROR_TEXT_MAX + 1];

	error_text(reply, text, sizeof(text));
	return fail(r, cannot_now(reply->str) ? CPM_EDOWN : CPM_EPROTO,
			"server says: %s", text);
}

static bool is_error(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ERROR;
}

static bool is_noscript(const redisReply *reply)
{
	return is_error(reply) && starts_word(reply->str, "NOSCRIPT");
}

/* ------------------------------------------------------------ output buffer */

static void out_put(struct io_redis *r, const char *p, size_t n)
{
	if(n > r->out_cap - r->out_n) {
		size_t cap = r->out_cap < 4096 ? 4096 : r->out_cap;
		while(cap - r->out_n < n) {
			if(cap > SIZE_MAX / 2) {
				r->out_failed = true;
				return;
			}
			cap *= 2;
		}
		char *out = realloc(r->out, cap);
		if(out == NULL) {
			r->out_failed = true;
			return;
		}
		r->out = out;
		r->out_cap = cap;
	}
	if(n > 0)
		memcpy(r->out + r->out_n, p, n);
	r->out_n += n;
}

/* The head of an array ('*') or bulk string ('$'). */
static void out_head(struct io_redis *r, char type, size_t v)
{
	char head[32];
	int n = snprintf(head, sizeof(head), "%c%zu\r\n", type, v);

	out_put(r, head, (size_t)n);
}

static void out_arg(struct io_redis *r, struct cpm_pl a)
{
	out_head(r, '$', a.n);
	out_put(r, a.p, a.n);
	out_put(r, "\r\n", 2);
}

static void out_command(
		struct io_redis *r, size_t argc, const struct cpm_pl *argv)
{
	out_head(r, '*', argc);
	for(size_t i = 0; i < argc; i++)
		out_arg(r, argv[i]);
}

static void out_load(struct io_redis *r, enum cpm_script script)
{
	const struct cpm_pl argv[] = {CPM_PL_LIT("SCRIPT"), CPM_PL_LIT("LOAD"),
			cpm_pl_str(cpm_script_text(script))};

	out_command(r, 3, argv);
}

static void out_eval(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count)
{
	char count[24];
	int n = snprintf(count, sizeof(count), "%zu", key_count);

	out_head(r, '*', 3 + key_count + arg_count);
	out_arg(r, CPM_PL_LIT("EVALSHA"));
	out_arg(r, cpm_pl(r->sha[script], SHA_LEN));
	out_arg(r, cpm_pl(count, (size_t)n));
	for(size_t i = 0; i < key_count; i++)
		out_arg(r, keys[i]);
	for(size_t i = 0; i < arg_count; i++)
		out_arg(r, args[i]);
}

/* Empties the buffer for the next command. */
static void out_reset(struct io_redis *r)
{
	r->out_n = 0;
	r->out_failed = false;
	if(r->out_cap > OUT_KEEP_MAX) {
		free(r->out);
		r->out = NULL;
		r->out_cap = 0;
	}
}

/* --------------------------------------------------------------- connection */

static void pipeline_drop(struct io_redis *r)
{
	r->want_n = 0;
	r->want_at = 0;
	r->sent = false;
	memset(r->loaded, 0, sizeof(r->loaded));
	out_reset(r);
}

/* A reply that is still on its way can only be got rid of together with its
 * connection. */
static void conn_close(struct io_redis *r)
{
	if(r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	if(r->reader != NULL)
		redisReaderFree(r->reader);
	r->reader = NULL;
}

static void breaker_open(struct io_redis *r)
{
	r->rest_until_ms = io_clock_mono_ms() + IO_REDIS_REST_MS;
}

/* 1: ready; 0: the deadline has passed; -1: errno. */
static int wait_fd(int fd, short events, uint64_t deadline_ms)
{
	for(;;) {
		uint64_t now = io_clock_mono_ms();
		if(now >= deadline_ms)
			return 0;
		struct pollfd p = {.fd = fd, .events = events};
		int n = poll(&p, 1, (int)(deadline_ms - now));
		if(n > 0)
			return 1;
		if(n < 0 && errno != EINTR)
			return -1;
	}
}

/* Sends what is in the buffer. *sent_r: bytes that the kernel took, also on
 * failure. CPM_OK; CPM_EAGAIN: deadline; CPM_EDOWN: the connection failed. */
static int send_out(struct io_redis *r, uint64_t deadline_ms, size_t *sent_r)
{
	size_t at = 0;

	*sent_r = 0;
	while(at < r->out_n) {
		ssize_t n = send(r->fd, r->out + at, r->out_n - at, MSG_NOSIGNAL);
		if(n > 0) {
			at += (size_t)n;
			*sent_r = at;
			continue;
		}
		if(n < 0 && errno == EINTR)
			continue;
		if(n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
			return fail(r, CPM_EDOWN, "send: %s", strerror(errno));
		int ready = wait_fd(r->fd, POLLOUT, deadline_ms);
		if(ready == 0)
			return fail(r, CPM_EAGAIN, "send: timed out");
		if(ready < 0)
			return fail(r, CPM_EDOWN, "poll: %s", strerror(errno));
	}
	return CPM_OK;
}

/* The next reply, error replies included.
 * CPM_OK; CPM_EAGAIN: deadline; CPM_EDOWN: the connection failed; CPM_EPROTO:
 * what came is no RESP. */
static int read_reply(
		struct io_redis *r, uint64_t deadline_ms, redisReply **reply_r)
{
	size_t total = 0;

	for(;;) {
		void *reply = NULL;
		if(redisReaderGetReply(r->reader, &reply) != REDIS_OK)
			return fail(r, CPM_EPROTO, "unreadable answer");
		if(reply != NULL) {
			*reply_r = reply;
			return CPM_OK;
		}
		int ready = wait_fd(r->fd, POLLIN, deadline_ms);
		if(ready == 0)
			return fail(r, CPM_EAGAIN, "no answer in time");
		if(ready < 0)
			return fail(r, CPM_EDOWN, "poll: %s", strerror(errno));

		char buf[READ_CHUNK];
		ssize_t n = recv(r->fd, buf, sizeof(buf), 0);
		if(n == 0)
			return fail(r, CPM_EDOWN, "connection closed by the server");
		if(n < 0) {
			if(errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)
				continue;
			return fail(r, CPM_EDOWN, "receive: %s", strerror(errno));
		}
		total += (size_t)n;
		if(total > REPLY_BYTES_MAX)
			return fail(r, CPM_EPROTO, "answer too large");
		if(redisReaderFeed(r->reader, buf, (size_t)n) != REDIS_OK)
			return fail(r, CPM_EPROTO, "no memory for the answer");
	}
}

/* A small request is sent at once, and a host that vanished without a FIN is
 * noticed on an idle connection within about a minute. */
static void set_tcp_options(int fd)
{
	int on = 1, idle = 30, interval = 10, count = 3;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(
			fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

/* A connected, non-blocking socket, or -1 and the reason in r->error. */
static int connect_addr(struct io_redis *r, const struct sockaddr *addr,
		socklen_t addr_len, uint64_t deadline_ms)
{
	int err = 0;
	socklen_t err_len = sizeof(err);
	int fd = socket(
			addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if(fd < 0)
		return fail(r, -1, "socket: %s", strerror(errno));
	if(connect(fd, addr, addr_len) == 0)
		return fd;
	/* a unix socket whose backlog is full gives EAGAIN and does not connect
	 * later: the server does not accept, as good as down */
	if(errno != EINPROGRESS && errno != EINTR)
		err = errno;
	else {
		int ready = wait_fd(fd, POLLOUT, deadline_ms);
		if(ready == 0)
			err = ETIMEDOUT;
		else if(ready < 0
				|| getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_len) < 0)
			err = errno;
	}
	if(err == 0)
		return fd;
	close(fd);
	return fail(r, -1, "connect: %s", strerror(err));
}

static int connect_unix(struct io_redis *r, uint64_t deadline_ms)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	_Static_assert(sizeof(addr.sun_path) >= sizeof(r->conf.unix_path),
			"unix_path fits");
	memcpy(addr.sun_path, r->conf.unix_path, sizeof(r->conf.unix_path));
	return connect_addr(
			r, (const struct sockaddr *)&addr, sizeof(addr), deadline_ms);
}

static int connect_tcp(struct io_redis *r, uint64_t deadline_ms)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
			.ai_socktype = SOCK_STREAM,
			.ai_flags = AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	char port[16];
	uint64_t left = 0;
	int fd = -1;

	(void)snprintf(port, sizeof(port), "%u", r->conf.port);
	int rc = getaddrinfo(r->conf.addr, port, &hints, &list);
	if(rc != 0)
		return fail(r, -1, "address: %s", gai_strerror(rc));
	for(const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next)
		left++;
	/* an address that swallows packets must not use up the time of the next
	 * one: each gets its share of what is left */
	for(const struct addrinfo *ai = list; ai != NULL && fd < 0;
			ai = ai->ai_next, left--) {
		uint64_t now = io_clock_mono_ms();
		uint64_t share = now < deadline_ms ? (deadline_ms - now) / left : 0;
		fd = connect_addr(r, ai->ai_addr, ai->ai_addrlen, now + share);
	}
	freeaddrinfo(list);
	if(fd >= 0)
		set_tcp_options(fd);
	return fd;
}

static bool keep_sha(struct io_redis *r, size_t script, const redisReply *reply)
{
	if(reply->type != REDIS_REPLY_STRING || reply->len != SHA_LEN)
		return false;
	memcpy(r->sha[script], reply->str, SHA_LEN);
	return true;
}

/* AUTH, SELECT and every SCRIPT LOAD in one round trip. */
static int handshake(struct io_redis *r, uint64_t deadline_ms)
{
	char db[16];
	size_t plain = 0; /* answers that only must not be errors */
	size_t sent;

	out_reset(r);
	if(r->conf.pass[0] != '\0') {
		const struct cpm_pl argv[] = {CPM_PL_LIT("AUTH"),
				cpm_pl_str(r->conf.user), cpm_pl_str(r->conf.pass)};
		const struct cpm_pl old[] = {argv[0], argv[2]};
		bool with_user = r->conf.user[0] != '\0';
		out_command(r, with_user ? 3 : 2, with_user ? argv : old);
		plain++;
	}
	if(r->conf.db != 0) {
		(void)snprintf(db, sizeof(db), "%u", r->conf.db);
		const struct cpm_pl argv[] = {CPM_PL_LIT("SELECT"), cpm_pl_str(db)};
		out_command(r, 2, argv);
		plain++;
	}
	for(unsigned i = 0; i < CPM_SCRIPT_COUNT_; i++)
		out_load(r, (enum cpm_script)i);
	if(r->out_failed)
		return fail(r, CPM_EDOWN, "no memory");
	if(send_out(r, deadline_ms, &sent) != CPM_OK)
		return CPM_EDOWN;

	for(size_t i = 0; i < plain + CPM_SCRIPT_COUNT_; i++) {
		redisReply *reply = NULL;
		bool ok = true;
		if(read_reply(r, deadline_ms, &reply) != CPM_OK)
			return CPM_EDOWN;
		if(is_error(reply)) {
			char text[ERROR_TEXT_MAX + 1];
			error_text(reply, text, sizeof(text));
			(void)fail(r, CPM_EDOWN, "%s: server says: %s",
					i < plain && i == 0 && r->conf.pass[0] != '\0' ? "auth"
					: i < plain									   ? "select"
								: "script load",
					text);
			ok = false;
		} else if(i >= plain && !keep_sha(r, i - plain, reply)) {
			(void)fail(r, CPM_EDOWN, "script load: no SHA1 in the answer");
			ok = false;
		}
		freeReplyObject(reply);
		if(!ok)
			return CPM_EDOWN;
	}
	return CPM_OK;
}

static uint64_t cmd_deadline(const struct io_redis *r)
{
	return io_clock_mono_ms() + r->conf.cmd_timeout_ms;
}

/* The buffer is used; what the caller wants to send comes afterwards. */
static int conn_open(struct io_redis *r)
{
	uint64_t deadline = io_clock_mono_ms() + r->conf.connect_timeout_ms;

	if(io_clock_mono_ms() < r->rest_until_ms)
		return CPM_EDOWN; /* r->error still says why */
	r->fd = r->conf.unix_path[0] != '\0' ? connect_unix(r, deadline)
										 : connect_tcp(r, deadline);
	if(r->fd >= 0) {
		r->reader = redisReaderCreate();
		if(r->reader == NULL)
			(void)fail(r, CPM_EDOWN, "no memory");
		else if(handshake(r, cmd_deadline(r)) == CPM_OK) {
			out_reset(r);
			r->rest_until_ms = 0;
			return CPM_OK;
		}
	}
	out_reset(r);
	conn_close(r);
	breaker_open(r);
	return CPM_EDOWN;
}

/* Nobody speaks on an idle connection: a byte to be read is the answer to
 * something that was given up, and EOF an idle time-out or a restart. */
static bool conn_is_idle(struct io_redis *r)
{
	char byte;

	if(r->fd < 0 || r->reader->pos < r->reader->len)
		return false;
	ssize_t n = recv(r->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/* Connected, with nothing on its way, and an empty buffer. */
static int conn_ready(struct io_redis *r)
{
	/* answers that nobody fetched are not the next command's */
	if(r->want_n > 0 && r->sent)
		conn_close(r);
	pipeline_drop(r);
	if(conn_is_idle(r))
		return CPM_OK;
	conn_close(r);
	return conn_open(r);
}

/* Sends the buffer. CPM_OK; CPM_EDOWN: not a byte has left; CPM_EUNSURE. The
 * connection is closed on failure. */
static int conn_send(struct io_redis *r, uint64_t deadline_ms)
{
	size_t sent;

	if(r->out_failed) {
		conn_close(r);
		return fail(r, CPM_EDOWN, "no memory");
	}
	int rc = send_out(r, deadline_ms, &sent);
	if(rc == CPM_OK)
		return CPM_OK;
	conn_close(r);
	if(rc == CPM_EAGAIN)
		breaker_open(r);
	return sent == 0 ? CPM_EDOWN : CPM_EUNSURE;
}

/* The answer to something that was sent. CPM_OK, also with an error reply;
 * CPM_EUNSURE, and the connection is closed: an answer that is late must not
 * be taken for the next command's. */
static int conn_recv(
		struct io_redis *r, uint64_t deadline_ms, redisReply **reply_r)
{
	int rc = read_reply(r, deadline_ms, reply_r);

	if(rc == CPM_OK)
		return CPM_OK;
	conn_close(r);
	if(rc == CPM_EAGAIN)
		breaker_open(r);
	return CPM_EUNSURE;
}

/* Hands a reply to the caller, or turns an error reply into a result. */
static int deliver(
		struct io_redis *r, redisReply *reply, struct redisReply **reply_r)
{
	if(is_error(reply)) {
		int rc = reply_error(r, reply);
		freeReplyObject(reply);
		return rc;
	}
	r->error[0] = '\0';
	*reply_r = reply;
	return CPM_OK;
}

/* ---------------------------------------------------------------- interface */

struct io_redis *io_redis_new(const struct io_redis_conf *conf)
{
	struct io_redis *r = calloc(1, sizeof(*r));

	if(r == NULL)
		return NULL;
	r->conf = *conf;
	r->fd = -1;
	if(r->conf.connect_timeout_ms == 0)
		r->conf.connect_timeout_ms = DEFAULT_CONNECT_TIMEOUT_MS;
	if(r->conf.cmd_timeout_ms == 0)
		r->conf.cmd_timeout_ms = DEFAULT_CMD_TIMEOUT_MS;
	return r;
}

void io_redis_free(struct io_redis **r)
{
	if(*r == NULL)
		return;
	conn_close(*r);
	free((*r)->out);
	free((*r)->want);
	free(*r);
	*r = NULL;
}

const char *io_redis_error(const struct io_redis *r)
{
	return r->error;
}

void io_redis_reply_free(struct redisReply **reply)
{
	if(*reply != NULL)
		freeReplyObject(*reply);
	*reply = NULL;
}

int io_redis_command(struct io_redis *r, size_t argc, const struct cpm_pl *argv,
		struct redisReply **reply_r)
{
	redisReply *reply = NULL;
	int rc = conn_ready(r);

	if(rc != CPM_OK)
		return rc;
	out_command(r, argc, argv);
	uint64_t deadline = cmd_deadline(r);
	rc = conn_send(r, deadline);
	out_reset(r);
	if(rc == CPM_OK)
		rc = conn_recv(r, deadline, &reply);
	return rc == CPM_OK ? deliver(r, reply, reply_r) : rc;
}

/* The server lost its scripts (restart behind a proxy, SCRIPT FLUSH): load
 * and give it again, in one round trip. */
static int eval_again(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count, uint64_t deadline_ms, redisReply **reply_r)
{
	redisReply *load = NULL;

	out_load(r, script);
	out_eval(r, script, keys, key_count, args, arg_count);
	int rc = conn_send(r, deadline_ms);
	out_reset(r);
	if(rc == CPM_OK)
		rc = conn_recv(r, deadline_ms, &load);
	if(rc != CPM_OK)
		return rc;
	/* when the load failed, the answer behind it is NOSCRIPT and tells less,
	 * but it may be that somebody else loaded it: it decides */
	freeReplyObject(load);
	return conn_recv(r, deadline_ms, reply_r);
}

int io_redis_eval(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count, struct redisReply **reply_r)
{
	redisReply *reply = NULL;
	int rc = conn_ready(r);

	if(rc != CPM_OK)
		return rc;
	out_eval(r, script, keys, key_count, args, arg_count);
	uint64_t deadline = cmd_deadline(r);
	rc = conn_send(r, deadline);
	out_reset(r);
	if(rc == CPM_OK)
		rc = conn_recv(r, deadline, &reply);
	if(rc == CPM_OK && is_noscript(reply)) {
		freeReplyObject(reply);
		reply = NULL;
		rc = eval_again(
				r, script, keys, key_count, args, arg_count, deadline, &reply);
	}
	return rc == CPM_OK ? deliver(r, reply, reply_r) : rc;
}

/* --------------------------------------------------------------- pipelining */

static void want_put(struct io_redis *r, unsigned char what)
{
	if(r->want_n == r->want_cap) {
		size_t cap = r->want_cap == 0 ? 64 : r->want_cap * 2;
		unsigned char *want = realloc(r->want, cap);
		if(want == NULL) {
			r->out_failed = true;
			return;
		}
		r->want = want;
		r->want_cap = cap;
	}
	r->want[r->want_n++] = what;
}

/* Connects when this is the first of a pipeline: a script's SHA is known once
 * it was connected, and a server that is down is told of before any work. */
static int pipeline_begin(struct io_redis *r)
{
	return r->want_n > 0 && !r->sent ? CPM_OK : conn_ready(r);
}

static int pipeline_added(struct io_redis *r)
{
	if(!r->out_failed)
		return CPM_OK;
	pipeline_drop(r);
	return fail(r, CPM_EDOWN, "no memory");
}

int io_redis_command_add(
		struct io_redis *r, size_t argc, const struct cpm_pl *argv)
{
	int rc = pipeline_begin(r);

	if(rc != CPM_OK)
		return rc;
	out_command(r, argc, argv);
	want_put(r, WANT_CALLER);
	return pipeline_added(r);
}

int io_redis_eval_add(struct io_redis *r, enum cpm_script script,
		const struct cpm_pl *keys, size_t key_count, const struct cpm_pl *args,
		size_t arg_count)
{
	int rc = pipeline_begin(r);

	if(rc != CPM_OK)
		return rc;
	/* a script in the middle of a pipeline cannot be given again when the
	 * server has forgotten it, so each pipeline brings what it uses */
	if(!r->loaded[script]) {
		out_load(r, script);
		want_put(r, WANT_LOAD);
		r->loaded[script] = true;
	}
	out_eval(r, script, keys, key_count, args, arg_count);
	want_put(r, WANT_CALLER);
	return pipeline_added(r);
}

/* The rest of a pipeline is lost together with its connection. */
static int pipeline_fail(struct io_redis *r, int rc)
{
	if(r->want_at < r->want_n)
		conn_close(r);
	pipeline_drop(r);
	return rc;
}

int io_redis_get(struct io_redis *r, struct redisReply **reply_r)
{
	uint64_t deadline = cmd_deadline(r);
	redisReply *reply = NULL;
	int rc;

	if(r->want_at == r->want_n)
		return fail(r, CPM_EPROTO, "no answer is expected");
	if(!r->sent) {
		rc = conn_send(r, deadline);
		if(rc != CPM_OK)
			return pipeline_fail(r, rc);
		r->sent = true;
		out_reset(r);
	}
	for(;;) {
		unsigned char what = r->want[r->want_at];
		rc = conn_recv(r, deadline, &reply);
		if(rc != CPM_OK)
			return pipeline_fail(r, rc);
		r->want_at++;
		if(what == WANT_CALLER)
			break;
		freeReplyObject(reply); /* the script's own answer will tell */
		reply = NULL;
	}
	bool last = r->want_at == r->want_n;
	rc = deliver(r, reply, reply_r);
	if(rc != CPM_OK)
		return pipeline_fail(r, rc);
	if(last)
		pipeline_drop(r);
	return CPM_OK;
}
