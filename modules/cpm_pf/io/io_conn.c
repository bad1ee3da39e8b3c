/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_conn.c - see io_conn.h.
 *
 * hiredis gives the protocol reader and the reply objects. The socket is ours
 * and non-blocking, for three things that hiredis' blocking context does not
 * give: one deadline over a whole call (its time-outs start anew with each
 * read and write), knowing whether a single byte of a command has left, and
 * MSG_NOSIGNAL (it uses write(), so a closed peer raises SIGPIPE).
 *
 * A server that accepts and then says nothing costs cmd_timeout_ms only once:
 * the command is not sent.
 *
 * BUGS: the resolver has time-outs of its own; a host name whose DNS server
 * is silent takes longer than connect_timeout_ms. Give an address.
 */

#include "io_conn.h"

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

#define ERROR_TEXT_MAX 60		  /* of what the server says */
#define OUT_KEEP_MAX (256 * 1024) /* a larger buffer is given back */
#define READ_CHUNK (16 * 1024)
#define PARTS_MAX 4
#define REPLY_BYTES_MAX \
	(64 * 1024 * 1024) /* a page of the longest lists fits */

/* hiredis allocates an array as long as the server says before an element has
 * come, arrays in arrays too: this many in one answer, and no more. */
#define REPLY_ELEMENTS_MAX (1024 * 1024)

/* ------------------------------------------------------------ output buffer */

static void out_put(struct io_buf *b, const char *p, size_t n)
{
	if(n > b->cap - b->n) {
		size_t cap = b->cap < 4096 ? 4096 : b->cap;
		while(cap - b->n < n) {
			if(cap > SIZE_MAX / 2) {
				b->failed = true;
				return;
			}
			cap *= 2;
		}
		char *out = realloc(b->p, cap);
		if(out == NULL) {
			b->failed = true;
			return;
		}
		b->p = out;
		b->cap = cap;
	}
	if(n > 0)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

/* The head of an array ('*') or bulk string ('$'). */
static void out_head(struct io_buf *b, char type, size_t v)
{
	char head[32];
	size_t at = sizeof(head);

	/* twice for each argument of each command: printf would show */
	head[--at] = '\n';
	head[--at] = '\r';
	do {
		head[--at] = (char)('0' + v % 10);
		v /= 10;
	} while(v > 0);
	head[--at] = type;
	out_put(b, head + at, sizeof(head) - at);
}

static void out_arg(struct io_buf *b, struct cpm_pl a)
{
	out_head(b, '$', a.n);
	out_put(b, a.p, a.n);
	out_put(b, "\r\n", 2);
}

void io_buf_command(struct io_buf *b, size_t argc, const struct cpm_pl *argv)
{
	out_head(b, '*', argc);
	for(size_t i = 0; i < argc; i++)
		out_arg(b, argv[i]);
}

void io_buf_load(struct io_buf *b, enum cpm_script script)
{
	const struct cpm_pl argv[] = {CPM_PL_LIT("SCRIPT"), CPM_PL_LIT("LOAD"),
			cpm_pl_str(cpm_script_text(script))};

	io_buf_command(b, 3, argv);
}

void io_buf_eval(struct io_buf *b, const char *sha, const struct cpm_pl *keys,
		size_t key_count, const struct cpm_pl *args, size_t arg_count)
{
	char count[24];
	int n = snprintf(count, sizeof(count), "%zu", key_count);

	out_head(b, '*', 3 + key_count + arg_count);
	out_arg(b, CPM_PL_LIT("EVALSHA"));
	out_arg(b, cpm_pl(sha, IO_CONN_SHA_LEN));
	out_arg(b, cpm_pl(count, (size_t)n));
	for(size_t i = 0; i < key_count; i++)
		out_arg(b, keys[i]);
	for(size_t i = 0; i < arg_count; i++)
		out_arg(b, args[i]);
}

void io_buf_free(struct io_buf *b)
{
	free(b->p);
	memset(b, 0, sizeof(*b));
}

void io_buf_reset(struct io_buf *b)
{
	b->n = 0;
	b->failed = false;
	if(b->cap > OUT_KEEP_MAX)
		io_buf_free(b);
}

struct cpm_pl io_buf_pl(const struct io_buf *b)
{
	return cpm_pl(b->p, b->n);
}

/* ------------------------------------------------------------------- errors */

int io_conn_fail(struct io_conn *c, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(c->error, sizeof(c->error), fmt, ap);
	va_end(ap);
	return rc;
}

struct cpm_pl io_reply_error(const struct redisReply *r)
{
	return r->type == REDIS_REPLY_ERROR ? cpm_pl(r->str, (size_t)r->len)
										: CPM_PL_NULL;
}

bool io_error_is(struct cpm_pl error, const char *word)
{
	return cpm_pl_eq(cpm_pl_cut(&error, ' '), cpm_pl_str(word));
}

/* The server is alive and did nothing, because it cannot now.
 *
 * It stays true for an error out of a script: Redis looks at memory, disk,
 * role and replicas when a script makes its first write, and lets it finish
 * once it has written. */
static bool cannot_now(struct cpm_pl error)
{
	static const char *const words[] = {"LOADING", "MASTERDOWN", "READONLY",
			"OOM", "NOREPLICAS", "MISCONF", "CLUSTERDOWN", "BUSY", "NOAUTH",
			"WRONGPASS", "NOSCRIPT", "TRYAGAIN", "MOVED", "ASK"};

	for(size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if(io_error_is(error, words[i]))
			return true;
	}
	/* before Redis 7 the word of a script's error is inside the text:
	 * "ERR Error running script (call to f_..): @user_script:3: -OOM ..." */
	if(cpm_pl_starts(error, CPM_PL_LIT("ERR Error running script"))) {
		for(size_t i = 0; i + 3 < error.n; i++) {
			if(memcmp(error.p + i, ": -", 3) == 0)
				return cannot_now(cpm_pl_from(error, i + 3));
		}
	}
	return false;
}

/* Errors quote arguments ("unknown command 'X', with args beginning with
 * ..."), so what is kept ends at the first quote. */
static void error_text(struct cpm_pl error, char *dst, size_t cap)
{
	size_t n = 0;

	while(n < cap - 1 && n < error.n && error.p[n] >= ' ' && error.p[n] < 0x7f
			&& strchr("'\"`", error.p[n]) == NULL) {
		dst[n] = error.p[n];
		n++;
	}
	dst[n] = '\0';
}

int io_conn_error_reply(struct io_conn *c, const struct redisReply *r)
{
	struct cpm_pl error = io_reply_error(r);
	char text[ERROR_TEXT_MAX + 1];

	error_text(error, text, sizeof(text));
	return io_conn_fail(c, cannot_now(error) ? CPM_EDOWN : CPM_EPROTO,
			"server says: %s", text);
}

/* --------------------------------------------------------------- the reader */

static redisReplyObjectFunctions reply_functions;

#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif
static void *(*create_array)(const redisReadTask *task, element_count n);

static void *create_array_bounded(const redisReadTask *task, element_count n)
{
	struct io_conn *c = task->privdata;

	if((size_t)n > REPLY_ELEMENTS_MAX - c->elements)
		return NULL; /* hiredis reads it as "no memory" and stops */
	c->elements += (size_t)n;
	return create_array(task, n);
}

static bool reader_new(struct io_conn *c)
{
	redisReader *reader = redisReaderCreate();

	if(reader == NULL)
		return false;
	/* hiredis' own functions, but for one; the same each time */
	if(reply_functions.createArray == NULL) {
		create_array = reader->fn->createArray;
		reply_functions = *reader->fn;
		reply_functions.createArray = create_array_bounded;
	}
	reader->fn = &reply_functions;
	reader->privdata = c;
	c->reader = reader;
	c->elements = 0;
	return true;
}

/* --------------------------------------------------------------- connection */

void io_conn_init(struct io_conn *c, const struct io_conn_how *how)
{
	memset(c, 0, sizeof(*c));
	c->how = *how;
	c->fd = -1;
}

void io_conn_close(struct io_conn *c)
{
	if(c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	if(c->reader != NULL)
		redisReaderFree(c->reader);
	c->reader = NULL;
	c->owed = 0;
}

void io_conn_fini(struct io_conn *c)
{
	io_conn_close(c);
	io_buf_free(&c->out);
}

void io_conn_rest(struct io_conn *c)
{
	c->rest_until_ms = io_clock_mono_ms() + IO_REDIS_REST_MS;
}

bool io_conn_is_resting(const struct io_conn *c)
{
	return io_clock_mono_ms() < c->rest_until_ms;
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

/* The parts less their first `skip` bytes. */
static size_t iov_fill(const struct cpm_pl *parts, size_t count, size_t skip,
		struct iovec iov[PARTS_MAX])
{
	size_t n = 0;

	for(size_t i = 0; i < count; i++) {
		if(skip >= parts[i].n) {
			skip -= parts[i].n;
			continue;
		}
		union
		{
			const char *borrowed;
			void *base;
		} p = {.borrowed = parts[i].p + skip};
		iov[n].iov_base = p.base;
		iov[n].iov_len = parts[i].n - skip;
		skip = 0;
		n++;
	}
	return n;
}

/* *sent_r: bytes that the kernel took, also on failure.
 * CPM_OK; CPM_EAGAIN: deadline; CPM_EDOWN: the connection failed. */
static int send_parts(struct io_conn *c, const struct cpm_pl *parts,
		size_t count, uint64_t deadline_ms, size_t *sent_r)
{
	struct iovec iov[PARTS_MAX];
	struct msghdr msg = {.msg_iov = iov};

	*sent_r = 0;
	for(;;) {
		msg.msg_iovlen = iov_fill(parts, count, *sent_r, iov);
		if(msg.msg_iovlen == 0)
			return CPM_OK;
		ssize_t n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
		if(n > 0) {
			*sent_r += (size_t)n;
			continue;
		}
		if(n < 0 && errno == EINTR)
			continue;
		if(n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
			return io_conn_fail(c, CPM_EDOWN, "send: %s", strerror(errno));
		int ready = wait_fd(c->fd, POLLOUT, deadline_ms);
		if(ready == 0)
			return io_conn_fail(c, CPM_EAGAIN, "send: timed out");
		if(ready < 0)
			return io_conn_fail(c, CPM_EDOWN, "poll: %s", strerror(errno));
	}
}

/* The next reply, error replies included.
 * CPM_OK; CPM_EAGAIN: deadline; CPM_EDOWN: the connection failed; CPM_EPROTO:
 * what came is no RESP. */
static int read_reply(
		struct io_conn *c, uint64_t deadline_ms, redisReply **reply_r)
{
	size_t total = 0;

	for(;;) {
		void *reply = NULL;
		if(redisReaderGetReply(c->reader, &reply) != REDIS_OK)
			return io_conn_fail(c, CPM_EPROTO, "unreadable answer");
		if(reply != NULL) {
			c->elements = 0;
			*reply_r = reply;
			return CPM_OK;
		}
		int ready = wait_fd(c->fd, POLLIN, deadline_ms);
		if(ready == 0)
			return io_conn_fail(c, CPM_EAGAIN, "no answer in time");
		if(ready < 0)
			return io_conn_fail(c, CPM_EDOWN, "poll: %s", strerror(errno));

		char buf[READ_CHUNK];
		ssize_t n = recv(c->fd, buf, sizeof(buf), 0);
		if(n == 0)
			return io_conn_fail(
					c, CPM_EDOWN, "connection closed by the server");
		if(n < 0) {
			if(errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)
				continue;
			return io_conn_fail(c, CPM_EDOWN, "receive: %s", strerror(errno));
		}
		total += (size_t)n;
		if(total > REPLY_BYTES_MAX)
			return io_conn_fail(c, CPM_EPROTO, "answer too large");
		if(redisReaderFeed(c->reader, buf, (size_t)n) != REDIS_OK)
			return io_conn_fail(c, CPM_EPROTO, "no memory for the answer");
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

/* A connected, non-blocking socket, or -1 and the reason in c->error. */
static int connect_addr(struct io_conn *c, const struct sockaddr *addr,
		socklen_t addr_len, uint64_t deadline_ms)
{
	int err = 0;
	socklen_t err_len = sizeof(err);
	int fd = socket(
			addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if(fd < 0)
		return io_conn_fail(c, -1, "socket: %s", strerror(errno));
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
	return io_conn_fail(c, -1, "connect: %s", strerror(err));
}

static int connect_unix(struct io_conn *c, uint64_t deadline_ms)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t n = strlen(c->unix_path);

	if(n >= sizeof(addr.sun_path))
		return io_conn_fail(c, -1, "connect: path too long");
	memcpy(addr.sun_path, c->unix_path, n);
	return connect_addr(
			c, (const struct sockaddr *)&addr, sizeof(addr), deadline_ms);
}

static int connect_tcp(struct io_conn *c, uint64_t deadline_ms)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
			.ai_socktype = SOCK_STREAM,
			.ai_flags = AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	char port[16];
	uint64_t left = 0;
	int fd = -1;

	(void)snprintf(port, sizeof(port), "%u", c->addr.port);
	int rc = getaddrinfo(c->addr.host, port, &hints, &list);
	if(rc != 0)
		return io_conn_fail(c, -1, "address: %s", gai_strerror(rc));
	for(const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next)
		left++;
	/* an address that swallows packets must not use up the time of the next
	 * one: each gets its share of what is left */
	for(const struct addrinfo *ai = list; ai != NULL && fd < 0;
			ai = ai->ai_next, left--) {
		uint64_t now = io_clock_mono_ms();
		uint64_t share = now < deadline_ms ? (deadline_ms - now) / left : 0;
		fd = connect_addr(c, ai->ai_addr, ai->ai_addrlen, now + share);
	}
	freeaddrinfo(list);
	if(fd >= 0)
		set_tcp_options(fd);
	return fd;
}

/* The answers to what connecting sends, in order. */
enum step
{
	STEP_AUTH,
	STEP_SELECT,
	STEP_ROLE,
	STEP_LOAD, /* and after it one for each script */
};

static const char *const step_names[] = {
		"auth", "select", "role", "script load"};

static size_t handshake_put(
		struct io_conn *c, struct io_buf *b, enum step *steps)
{
	char db[16];
	size_t n = 0;

	if(c->how.pass[0] != '\0') {
		const struct cpm_pl argv[] = {CPM_PL_LIT("AUTH"),
				cpm_pl_str(c->how.user), cpm_pl_str(c->how.pass)};
		const struct cpm_pl old[] = {argv[0], argv[2]};
		bool with_user = c->how.user[0] != '\0';
		io_buf_command(b, with_user ? 3 : 2, with_user ? argv : old);
		steps[n++] = STEP_AUTH;
	}
	if(c->how.db != 0) {
		(void)snprintf(db, sizeof(db), "%u", c->how.db);
		const struct cpm_pl argv[] = {CPM_PL_LIT("SELECT"), cpm_pl_str(db)};
		io_buf_command(b, 2, argv);
		steps[n++] = STEP_SELECT;
	}
	if(c->how.master) {
		io_buf_command(b, 1, &CPM_PL_LIT("ROLE"));
		steps[n++] = STEP_ROLE;
	}
	for(unsigned i = 0; c->how.scripts && i < CPM_SCRIPT_COUNT_; i++) {
		io_buf_load(b, (enum cpm_script)i);
		steps[n++] = (enum step)(STEP_LOAD + i);
	}
	return n;
}

static int handshake_check(
		struct io_conn *c, enum step step, const redisReply *reply)
{
	if(reply->type == REDIS_REPLY_ERROR) {
		char text[ERROR_TEXT_MAX + 1];
		error_text(io_reply_error(reply), text, sizeof(text));
		return io_conn_fail(c, CPM_EDOWN, "%s: server says: %s",
				step_names[step < STEP_LOAD ? step : STEP_LOAD], text);
	}
	if(step == STEP_ROLE) {
		const redisReply *role =
				reply->type == REDIS_REPLY_ARRAY && reply->elements > 0
						? reply->element[0]
						: NULL;
		if(role == NULL || role->type != REDIS_REPLY_STRING
				|| !cpm_pl_eq(cpm_pl(role->str, (size_t)role->len),
						CPM_PL_LIT("master")))
			return io_conn_fail(c, CPM_EDOWN, "role: is no master");
	}
	if(step >= STEP_LOAD) {
		if(reply->type != REDIS_REPLY_STRING || reply->len != IO_CONN_SHA_LEN)
			return io_conn_fail(
					c, CPM_EDOWN, "script load: no SHA1 in the answer");
		memcpy(c->sha[step - STEP_LOAD], reply->str, IO_CONN_SHA_LEN);
	}
	return CPM_OK;
}

/* AUTH, SELECT, ROLE and every SCRIPT LOAD in one round trip. */
static int handshake(struct io_conn *c, uint64_t deadline_ms)
{
	enum step steps[STEP_LOAD + CPM_SCRIPT_COUNT_];
	struct io_buf b = {NULL, 0, 0, false};
	size_t n = handshake_put(c, &b, steps);
	size_t sent;
	int rc;

	if(b.failed)
		rc = io_conn_fail(c, CPM_EDOWN, "no memory");
	else {
		struct cpm_pl part = io_buf_pl(&b);
		rc = send_parts(c, &part, 1, deadline_ms, &sent);
	}
	io_buf_free(&b);
	for(size_t i = 0; i < n && rc == CPM_OK; i++) {
		redisReply *reply = NULL;
		rc = read_reply(c, deadline_ms, &reply);
		if(rc == CPM_OK) {
			rc = handshake_check(c, steps[i], reply);
			freeReplyObject(reply);
		}
	}
	return rc == CPM_OK ? CPM_OK : CPM_EDOWN;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

int io_conn_open(struct io_conn *c, uint64_t until_ms)
{
	uint64_t now = io_clock_mono_ms();
	uint64_t deadline = sooner(now + c->how.connect_timeout_ms, until_ms);

	io_conn_close(c);
	c->fd = c->unix_path != NULL ? connect_unix(c, deadline)
								 : connect_tcp(c, deadline);
	if(c->fd >= 0) {
		now = io_clock_mono_ms();
		deadline = sooner(now + c->how.cmd_timeout_ms, until_ms);
		if(!reader_new(c))
			(void)io_conn_fail(c, CPM_EDOWN, "no memory");
		else if(handshake(c, deadline) == CPM_OK) {
			c->rest_until_ms = 0;
			c->opened_ms = io_clock_mono_ms();
			return CPM_OK;
		}
	}
	io_conn_close(c);
	io_conn_rest(c);
	return CPM_EDOWN;
}

/* Nobody speaks on an idle connection: a byte to be read is the answer to
 * something that was given up, and EOF an idle time-out or a restart. */
bool io_conn_is_idle(struct io_conn *c)
{
	char byte;

	if(c->fd < 0 || c->owed > 0 || c->reader->pos < c->reader->len)
		return false;
	ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

int io_conn_ready(struct io_conn *c, uint64_t until_ms)
{
	if(io_conn_is_idle(c))
		return CPM_OK;
	io_conn_close(c);
	return io_conn_is_resting(c) ? CPM_EDOWN : io_conn_open(c, until_ms);
}

int io_conn_send(struct io_conn *c, const struct cpm_pl *parts, size_t count,
		size_t answers, uint64_t deadline_ms)
{
	size_t sent;
	int rc = send_parts(c, parts, count, deadline_ms, &sent);

	if(rc == CPM_OK) {
		c->owed += answers;
		return CPM_OK;
	}
	io_conn_close(c);
	if(rc == CPM_EAGAIN)
		io_conn_rest(c);
	return sent == 0 ? CPM_EDOWN : CPM_EUNSURE;
}

int io_conn_recv(
		struct io_conn *c, uint64_t deadline_ms, struct redisReply **reply_r)
{
	int rc = read_reply(c, deadline_ms, reply_r);

	if(rc == CPM_OK) {
		c->owed--;
		return CPM_OK;
	}
	io_conn_close(c);
	if(rc == CPM_EAGAIN)
		io_conn_rest(c);
	return CPM_EUNSURE;
}

int io_conn_ask(struct io_conn *c, size_t argc, const struct cpm_pl *argv,
		uint64_t deadline_ms, struct redisReply **reply_r)
{
	struct io_buf b = {NULL, 0, 0, false};

	io_buf_command(&b, argc, argv);
	int rc = b.failed ? io_conn_fail(c, CPM_EDOWN, "no memory") : CPM_OK;
	if(rc == CPM_OK) {
		struct cpm_pl part = io_buf_pl(&b);
		rc = io_conn_send(c, &part, 1, 1, deadline_ms);
	}
	io_buf_free(&b);
	return rc == CPM_OK ? io_conn_recv(c, deadline_ms, reply_r) : rc;
}
