/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pushsink.c - many clients that register and take what was queued for them.
 *
 *     pushsink [-s] [-u USERS] [-n MESSAGES] [-d DELAY_MS] [-t SECONDS] PORT
 *     pushsink -r REDIS_PORT [-g AT_ONCE] [-n MESSAGES]
 *
 * runs in:  benchmarks (push.py builds it)
 * owns:     one UDP socket for the SIP of all clients, a TCP connection for
 *           each session
 * never:    retransmits anything but REGISTER; checks what it gets for more
 *           than it needs: that is for tests
 *
 * The clients are f0..f<USERS-1>@example.org (1) at 127.0.0.1; all register
 * with the Kamailio on PORT, 64 at a time. With -s they take sessions: an
 * INVITE is answered at once, the client connects (RFC 6135: it is active),
 * binds by an empty SEND, and answers each SEND 200. Without, they take
 * MESSAGE. Ends when MESSAGES (10000) have come in all, or after SECONDS (60).
 *
 * DELAY_MS (0) is what a network would add to a round trip: whatever comes,
 * by UDP or TCP, is seen that much later; what the client sends is not
 * delayed. The handshake of TCP is: the client goes on that much later.
 *
 * -r: no SIP at all, but what the machine can do. MESSAGES values of the keys
 * b0, b1... of that Redis, AT_ONCE (32) asked for in one write, go through a
 * TCP connection into a child that reads them. No byte is looked at.
 *
 * Prints one JSON object:
 *
 *     {"messages": N, "again": N, "bytes": N, "sessions": N, "seconds": S,
 *      "first_s": S, "cpu_s": S, "registered_s": S}
 *
 * again: of messages that had come before, by Message-ID or, of MESSAGE, by
 * body length and branch; bytes of bodies. Seconds begin when the first
 * REGISTER is sent, and end with the last message. Exit status 0; 1: not all
 * came (what came is printed); 2: usage.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define USERS_MAX 100000
#define REGISTER_OUT 64
#define REGISTER_AGAIN_NS 500000000u
#define DATAGRAM 65536
#define STREAM 262144
#define SEEN (1u << 20) /* a power of two, over twice the messages */

struct session
{
	char *uri;		   /* the PF's */
	char own[96];	   /* ours */
	char answer[2048]; /* to INVITE, for when it is repeated */
	size_t answer_len;
	char call_id[160];
	int fd; /* -1: none (any more) */
	size_t have, done;
	char *buf; /* [STREAM] */
};

/* What has come, and may not be looked at yet. */
struct later
{
	struct later *next;
	uint64_t due_ns;
	struct session *session; /* NULL: UDP */
	bool connected;			 /* nothing has come: it is connected */
	struct sockaddr_in from;
	size_t len;
	char bytes[];
};

static unsigned long users = 1, wanted = 10000, delay_ms, seconds = 60;
static unsigned long at_once = 32;
static bool in_sessions;
static uint64_t start_ns, first_ns, last_ns, registered_ns;
static uint64_t messages, again, body_bytes;
static uint64_t *seen;
static struct session **sessions;
static size_t session_count, session_cap;
static uint64_t *register_ns; /* of each user: when sent; 1: answered */
static unsigned long register_next, register_done;
static int udp, ep;
static unsigned udp_port;
static struct sockaddr_in proxy;
static struct later *first_later, *last_later;

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Whether it is new. */
static bool see(const char *a, size_t n)
{
	uint64_t h = 1469598103934665603u;
	size_t i;

	for(i = 0; i < n; i++)
		h = (h ^ (unsigned char)a[i]) * 1099511628211u;
	h |= 1;
	for(i = (h >> 20) & (SEEN - 1); seen[i] != 0; i = (i + 1) & (SEEN - 1)) {
		if(seen[i] == h)
			return false;
	}
	seen[i] = h;
	return true;
}

static void count(const char *id, size_t id_len, size_t bytes)
{
	if(!see(id, id_len)) {
		again++;
		return;
	}
	last_ns = now_ns();
	if(messages++ == 0)
		first_ns = last_ns;
	body_bytes += bytes;
}

/* ---- SIP -------------------------------------------------------------- */

/* The value of the first header of this name, or NULL. */
static const char *header(const char *msg, const char *name, size_t *len_r)
{
	size_t n = strlen(name);
	const char *at = strstr(msg, "\r\n");
	const char *end;

	while(at != NULL && strncmp(at, "\r\n\r\n", 4) != 0) {
		at += 2;
		end = strstr(at, "\r\n");
		if(strncasecmp(at, name, n) == 0 && at[n] == ':' && end != NULL) {
			at += n + 1;
			while(*at == ' ')
				at++;
			*len_r = (size_t)(end - at);
			return at;
		}
		at = end;
	}
	return NULL;
}

static void udp_send(const char *bytes, size_t n)
{
	(void)sendto(udp, bytes, n, 0, (struct sockaddr *)&proxy, sizeof(proxy));
}

static void register_send(unsigned long user)
{
	static char buf[2048];
	int n = snprintf(buf, sizeof(buf),
			"REGISTER sip:example.org SIP/2.0\r\n"
			"Via: SIP/2.0/UDP 127.0.0.1:%u;branch=z9hG4bKr%lu\r\n"
			"Max-Forwards: 70\r\n"
			"From: <sip:f%lu@example.org>;tag=r%lu\r\n"
			"To: <sip:f%lu@example.org>\r\n"
			"Call-ID: r%lu@127.0.0.1\r\n"
			"CSeq: 1 REGISTER\r\n"
			"Contact: <sip:f%lu@127.0.0.1:%u>%s\r\n"
			"Expires: 600\r\n"
			"Content-Length: 0\r\n\r\n",
			udp_port, user, user, user, user, user, user, udp_port,
			in_sessions ? ";+g.3gpp.icsi-ref=\""
						  "urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm."
						  "largemsg,"
						  "urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm."
						  "deferred\""
						: "");

	register_ns[user] = now_ns();
	udp_send(buf, (size_t)n);
}

static void register_some(void)
{
	unsigned long i;
	uint64_t now = now_ns();

	while(register_next < users && register_next - register_done < REGISTER_OUT)
		register_send(register_next++);
	if(register_done == register_next)
		return;
	for(i = 0; i < register_next; i++) {
		if(register_ns[i] != 1 && now - register_ns[i] > REGISTER_AGAIN_NS)
			register_send(i);
	}
}

/* All Vias, From, To (with a tag), Call-ID, CSeq of a request. Returns how
 * many bytes; the headers that go on are the caller's. */
static size_t reply_head(
		const char *msg, const char *status, char *buf, size_t cap)
{
	size_t at = (size_t)snprintf(buf, cap, "SIP/2.0 %s\r\n", status);
	const char *line = strstr(msg, "\r\n");
	const char *end;

	while(line != NULL && strncmp(line, "\r\n\r\n", 4) != 0) {
		line += 2;
		end = strstr(line, "\r\n");
		if(end == NULL)
			break;
		if((strncasecmp(line, "Via:", 4) == 0
				   || strncasecmp(line, "From:", 5) == 0
				   || strncasecmp(line, "To:", 3) == 0
				   || strncasecmp(line, "Call-ID:", 8) == 0
				   || strncasecmp(line, "CSeq:", 5) == 0)
				&& at + (size_t)(end - line) + 32 < cap) {
			memcpy(buf + at, line, (size_t)(end - line));
			at += (size_t)(end - line);
			if(strncasecmp(line, "To:", 3) == 0
					&& memmem(line, (size_t)(end - line), ";tag=", 5) == NULL)
				at += (size_t)snprintf(buf + at, cap - at, ";tag=sink");
			at += (size_t)snprintf(buf + at, cap - at, "\r\n");
		}
		line = end;
	}
	return at;
}

static void reply(const char *msg, const char *status)
{
	static char buf[DATAGRAM];
	size_t n = reply_head(msg, status, buf, sizeof(buf) - 64);

	n += (size_t)snprintf(buf + n, 64, "Content-Length: 0\r\n\r\n");
	udp_send(buf, n);
}

static struct session *session_find(const char *call_id, size_t n)
{
	size_t i;

	for(i = session_count; i-- > 0;) {
		if(strlen(sessions[i]->call_id) == n
				&& memcmp(sessions[i]->call_id, call_id, n) == 0)
			return sessions[i];
	}
	return NULL;
}

/* To the host and port of an MSRP URI. */
static void session_connect(struct session *s)
{
	struct epoll_event ev = {.events = EPOLLOUT, .data = {.ptr = s}};
	static uint32_t connections;
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct sockaddr_in own = {.sin_family = AF_INET};
	const char *colon = strchr(s->uri + 7, ':');
	int one = 1;

	if(colon == NULL)
		return;
	/* as many clients, so many addresses: one alone may not have them all */
	own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (++connections % 50000) + 1);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if(s->fd < 0 || bind(s->fd, (struct sockaddr *)&own, sizeof(own)) < 0
			|| (connect(s->fd, (struct sockaddr *)&to, sizeof(to)) < 0
					&& errno != EINPROGRESS))
		die("connect");
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if(epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &ev) < 0)
		die("epoll_ctl");
}

static void session_close(struct session *s)
{
	if(s->fd >= 0) {
		(void)close(s->fd);
		s->fd = -1;
	}
	free(s->buf);
	s->buf = NULL;
}

static void invite(const char *msg, const char *call_id, size_t n)
{
	struct session *s = session_find(call_id, n);
	struct session **more;
	const char *path = strstr(msg, "a=path:");
	const char *end = path != NULL ? strstr(path, "\r\n") : NULL;
	char sdp[1024];
	int len;

	if(s == NULL) {
		if(end == NULL || n >= sizeof(s->call_id)) {
			reply(msg, "488 Not Acceptable Here");
			return;
		}
		if(session_count == session_cap) {
			session_cap = session_cap * 2 + 64;
			more = realloc(sessions, session_cap * sizeof(*sessions));
			if(more == NULL)
				die("memory");
			sessions = more;
		}
		s = calloc(1, sizeof(*s));
		if(s == NULL)
			die("memory");
		s->fd = -1;
		s->buf = malloc(STREAM);
		s->uri = strndup(path + 7, (size_t)(end - path) - 7);
		memcpy(s->call_id, call_id, n);
		sessions[session_count++] = s;
		(void)snprintf(s->own, sizeof(s->own), "msrp://127.0.0.1:9/s%zu;tcp",
				session_count);
		len = snprintf(sdp, sizeof(sdp),
				"v=0\r\no=- %zu 1 IN IP4 127.0.0.1\r\ns=-\r\n"
				"c=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n"
				"a=recvonly\r\na=accept-types:*\r\n"
				"a=setup:active\r\na=path:%s\r\n",
				session_count, s->own);
		s->answer_len =
				reply_head(msg, "200 OK", s->answer, sizeof(s->answer) - 1024);
		s->answer_len += (size_t)snprintf(s->answer + s->answer_len,
				sizeof(s->answer) - s->answer_len,
				"Contact: <sip:sink@127.0.0.1:%u>\r\n"
				"Content-Type: application/sdp\r\nContent-Length: "
				"%d\r\n\r\n%s",
				udp_port, len, sdp);
	}
	udp_send(s->answer, s->answer_len);
}

static void datagram(char *msg, size_t len)
{
	const char *call_id, *via, *body = memmem(msg, len, "\r\n\r\n", 4);
	struct session *s;
	size_t n = 0, via_len = 0;

	if(body == NULL)
		return;
	call_id = header(msg, "Call-ID", &n);
	if(call_id == NULL)
		return;
	if(strncmp(msg, "SIP/2.0 ", 8) == 0) {
		unsigned long user = strtoul(call_id + 1, NULL, 10);
		if(strncmp(msg + 8, "200", 3) == 0 && call_id[0] == 'r' && user < users
				&& register_ns[user] != 1) {
			register_ns[user] = 1;
			register_done++;
			registered_ns = now_ns();
		}
		register_some();
	} else if(strncmp(msg, "MESSAGE ", 8) == 0) {
		reply(msg, "200 OK");
		via = header(msg, "Via", &via_len);
		if(via != NULL)
			count(via, via_len, len - (size_t)(body + 4 - msg));
	} else if(strncmp(msg, "INVITE ", 7) == 0) {
		invite(msg, call_id, n);
	} else if(strncmp(msg, "ACK ", 4) == 0) {
		s = session_find(call_id, n);
		if(s != NULL && s->fd < 0 && s->buf != NULL)
			session_connect(s);
	} else if(strncmp(msg, "BYE ", 4) == 0) {
		reply(msg, "200 OK");
		s = session_find(call_id, n);
		if(s != NULL)
			session_close(s);
	} else {
		reply(msg, "405 Method Not Allowed");
	}
}

/* ---- MSRP ------------------------------------------------------------- */

static void stream_send(struct session *s, const char *bytes, size_t n)
{
	/* answers are small: a socket that takes none of them is a dead one */
	if(s->fd >= 0 && send(s->fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n)
		session_close(s);
}

static void bind_send(struct session *s)
{
	char buf[512];
	int n = snprintf(buf, sizeof(buf),
			"MSRP bind%zx SEND\r\nTo-Path: %s\r\nFrom-Path: %s\r\n"
			"Message-ID: bind%zx\r\nByte-Range: 1-0/0\r\n-------bind%zx$\r\n",
			session_count, s->uri, s->own, session_count, session_count);

	stream_send(s, buf, (size_t)n);
}

/* One frame at the front of what there is: its length, 0 if it is not all
 * there. Its answer is appended to out. */
static size_t frame(
		struct session *s, char *at, size_t len, char *out, size_t *out_n)
{
	char mark[48] = "\r\n-------";
	char *line = memmem(at, len, "\r\n", 2);
	char *sp, *end, *head, *id, *body;
	size_t tid_len, mark_len, id_len, body_len;

	if(line == NULL || len < 8 || memcmp(at, "MSRP ", 5) != 0)
		return 0;
	sp = memchr(at + 5, ' ', (size_t)(line - at) - 5);
	tid_len = sp != NULL ? (size_t)(sp - at) - 5 : 0;
	if(tid_len == 0 || tid_len > 32) {
		(void)fprintf(stderr, "pushsink: no MSRP\n");
		exit(1);
	}
	memcpy(mark + 9, at + 5, tid_len);
	mark_len = 9 + tid_len;
	end = memmem(line, len - (size_t)(line - at), mark, mark_len);
	if(end == NULL || (size_t)(end - at) + mark_len + 3 > len)
		return 0;
	if(strncmp(sp, " SEND\r\n", 7) == 0) {
		*out_n += (size_t)snprintf(out + *out_n, 512,
				"MSRP %.*s 200 OK\r\nTo-Path: %s\r\nFrom-Path: %s\r\n"
				"-------%.*s$\r\n",
				(int)tid_len, at + 5, s->uri, s->own, (int)tid_len, at + 5);
		head = memmem(line, (size_t)(end - line), "\r\n\r\n", 4);
		body = head != NULL ? head + 4 : NULL;
		body_len = body != NULL && body <= end ? (size_t)(end - body) : 0;
		id = memmem(line, (size_t)(end - line), "\r\nMessage-ID: ", 14);
		if(body_len > 0 && id != NULL && end[mark_len] == '$') {
			id += 14;
			id_len =
					(size_t)((char *)memchr(id, '\r', (size_t)(end - id)) - id);
			count(id, id_len, body_len);
		} else if(body_len > 0) {
			body_bytes += body_len;
		}
	}
	return (size_t)(end - at) + mark_len + 3;
}

static void stream(struct session *s, const char *bytes, size_t n)
{
	static char out[STREAM * 2];
	size_t at = 0, used, out_n = 0;

	if(s->buf == NULL)
		return;
	if(s->have + n > STREAM) {
		(void)fprintf(stderr, "pushsink: a frame too large\n");
		exit(1);
	}
	memcpy(s->buf + s->have, bytes, n);
	s->have += n;
	while((used = frame(s, s->buf + at, s->have - at, out, &out_n)) > 0) {
		at += used;
		if(out_n > STREAM) {
			stream_send(s, out, out_n);
			out_n = 0;
		}
	}
	if(out_n > 0)
		stream_send(s, out, out_n);
	if(s->buf != NULL) {
		memmove(s->buf, s->buf + at, s->have - at);
		s->have -= at;
	}
}

/* ---- the loop ----------------------------------------------------------- */

static void look(struct session *s, bool connected, char *bytes, size_t n)
{
	if(connected)
		bind_send(s);
	else if(s != NULL)
		stream(s, bytes, n);
	else
		datagram(bytes, n);
}

/* Now, or when the network would have brought it. bytes[n] is 0. */
static void arrived(struct session *s, bool connected, char *bytes, size_t n)
{
	struct later *l;

	if(delay_ms == 0) {
		look(s, connected, bytes, n);
		return;
	}
	l = malloc(sizeof(*l) + n + 1);
	if(l == NULL)
		die("memory");
	l->next = NULL;
	l->due_ns = now_ns() + (uint64_t)delay_ms * 1000000u;
	l->session = s;
	l->connected = connected;
	l->len = n;
	if(n > 0)
		memcpy(l->bytes, bytes, n);
	l->bytes[n] = '\0';
	if(last_later != NULL)
		last_later->next = l;
	else
		first_later = l;
	last_later = l;
}

static void later_look(void)
{
	struct later *l;

	while(first_later != NULL && first_later->due_ns <= now_ns()) {
		l = first_later;
		first_later = l->next;
		if(first_later == NULL)
			last_later = NULL;
		look(l->session, l->connected, l->bytes, l->len);
		free(l);
	}
}

static void readable(struct session *s, uint32_t events)
{
	static char buf[DATAGRAM + 1];
	struct epoll_event ev = {.events = EPOLLIN, .data = {.ptr = s}};
	ssize_t n;

	if(s == NULL) {
		while((n = recv(udp, buf, DATAGRAM, MSG_DONTWAIT)) > 0) {
			buf[n] = '\0';
			arrived(NULL, false, buf, (size_t)n);
		}
		return;
	}
	if(s->fd < 0)
		return;
	if(events & EPOLLOUT) {
		(void)epoll_ctl(ep, EPOLL_CTL_MOD, s->fd, &ev);
		arrived(s, true, NULL, 0);
		return;
	}
	n = recv(s->fd, buf, DATAGRAM, MSG_DONTWAIT);
	if(n > 0) {
		buf[n] = '\0';
		arrived(s, false, buf, (size_t)n);
	} else if(n == 0 || errno != EAGAIN) {
		session_close(s);
	}
}

static void loop(void)
{
	struct epoll_event evs[256];
	uint64_t until = now_ns() + (uint64_t)seconds * 1000000000u;
	int i, n;

	start_ns = now_ns();
	register_some();
	while(messages < wanted && now_ns() < until) {
		uint64_t now = now_ns();
		int wait = 100;
		if(first_later != NULL) {
			/* rounded up: a millisecond is nothing to a delay of many */
			wait = first_later->due_ns > now ? (
						   int)((first_later->due_ns - now + 999999) / 1000000)
											 : 0;
		}
		n = epoll_wait(ep, evs, 256, wait);
		for(i = 0; i < n; i++)
			readable(evs[i].data.ptr, evs[i].events);
		later_look();
		if(register_done < users)
			register_some();
	}
}

/* ---- the machine ---------------------------------------------------------- */

static int listening(unsigned *port_r)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if(fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0
			|| listen(fd, 1) < 0
			|| getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		die("listen");
	*port_r = ntohs(a.sin_port);
	return fd;
}

static int connected(unsigned port)
{
	struct sockaddr_in a = {
			.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int one = 1;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if(fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("connect");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* The child: all that comes, and a byte back when it was so much. */
static void swallow(int fd, uint64_t bytes)
{
	static char buf[DATAGRAM];
	int c = accept(fd, NULL, NULL);
	ssize_t n = 1;

	while(bytes > 0 && n > 0) {
		n = recv(c, buf, sizeof(buf), 0);
		bytes -= n > 0 ? (uint64_t)n : 0;
	}
	_exit(send(c, "x", 1, 0) == 1 ? 0 : 1);
}

/* One value of Redis' protocol: where it ends, NULL if it is not there. */
static char *value(char *at, char *end, char **value_r, size_t *n_r)
{
	char *eol = at < end ? memmem(at, (size_t)(end - at), "\r\n", 2) : NULL;
	size_t n;

	if(eol == NULL)
		return NULL;
	if(at[0] != '$' || at[1] == '-') {
		(void)fprintf(stderr, "pushsink: Redis: %.*s\n", (int)(eol - at), at);
		exit(1);
	}
	n = strtoul(at + 1, NULL, 10);
	if((size_t)(end - eol) < n + 4)
		return NULL;
	*value_r = eol + 2;
	*n_r = n;
	return eol + 2 + n + 2;
}

static void limit(unsigned redis_port, size_t bytes_each)
{
	static char buf[1 << 20], ask[1 << 16];
	unsigned port;
	int listener = listening(&port);
	int redis = connected(redis_port);
	char *at, *next, *v;
	size_t n, have, ask_n;
	unsigned long i, got, k;
	pid_t child = fork();
	int sink;

	if(child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		swallow(listener, (uint64_t)wanted * bytes_each);
	}
	sink = connected(port);
	start_ns = now_ns();
	for(i = 0; i < wanted; i += k) {
		k = wanted - i < at_once ? wanted - i : at_once;
		ask_n = 0;
		for(got = 0; got < k; got++) {
			char key[24];
			int len = snprintf(key, sizeof(key), "b%lu", i + got);
			ask_n += (size_t)snprintf(ask + ask_n, sizeof(ask) - ask_n,
					"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len, key);
		}
		if(send(redis, ask, ask_n, 0) != (ssize_t)ask_n)
			die("Redis");
		at = buf;
		have = 0;
		for(got = 0; got < k;) {
			next = value(at, buf + have, &v, &n);
			if(next == NULL) {
				ssize_t r = recv(redis, buf + have, sizeof(buf) - have, 0);
				if(r <= 0)
					die("Redis");
				have += (size_t)r;
				continue;
			}
			if(send(sink, v, n, MSG_NOSIGNAL) != (ssize_t)n)
				die("sink");
			body_bytes += n;
			at = next;
			got++;
			messages++;
		}
	}
	if(recv(sink, buf, 1, 0) != 1)
		die("sink");
	last_ns = now_ns();
	(void)waitpid(child, NULL, 0);
}

/* ---- all ------------------------------------------------------------------ */

static double since(uint64_t ns)
{
	return ns > start_ns ? (double)(ns - start_ns) / 1e9 : 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct epoll_event ev = {.events = EPOLLIN, .data = {.ptr = NULL}};
	socklen_t len = sizeof(a);
	struct rusage use;
	unsigned long redis_port = 0;
	int size = 8 << 20;
	int c;

	while((c = getopt(argc, argv, "su:n:d:t:r:g:")) != -1) {
		unsigned long v = optarg != NULL ? strtoul(optarg, NULL, 10) : 0;
		if(c == 's')
			in_sessions = true;
		else if(c == 'u')
			users = v;
		else if(c == 'n')
			wanted = v;
		else if(c == 'd')
			delay_ms = v;
		else if(c == 't')
			seconds = v;
		else if(c == 'r')
			redis_port = v;
		else if(c == 'g')
			at_once = v;
		else
			return 2;
	}
	if(users == 0 || users > USERS_MAX || wanted == 0 || wanted > SEEN / 2
			|| at_once == 0 || at_once > 1000
			|| optind + (redis_port == 0) != argc)
		return 2;
	seen = calloc(SEEN, sizeof(*seen));
	register_ns = calloc(users, sizeof(*register_ns));
	if(seen == NULL || register_ns == NULL)
		die("memory");
	if(redis_port != 0) {
		limit((unsigned)redis_port, 500);
	} else {
		a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		proxy = a;
		proxy.sin_port = htons((uint16_t)strtoul(argv[optind], NULL, 10));
		udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
		ep = epoll_create1(0);
		(void)setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
		if(udp < 0 || ep < 0 || bind(udp, (struct sockaddr *)&a, sizeof(a)) < 0
				|| getsockname(udp, (struct sockaddr *)&a, &len) < 0
				|| epoll_ctl(ep, EPOLL_CTL_ADD, udp, &ev) < 0)
			die("socket");
		udp_port = ntohs(a.sin_port);
		loop();
	}
	(void)getrusage(RUSAGE_SELF, &use);
	(void)printf("{\"messages\": %llu, \"again\": %llu, \"bytes\": %llu, "
				 "\"sessions\": %zu, \"seconds\": %.6f, \"first_s\": %.6f, "
				 "\"registered_s\": %.6f, \"cpu_s\": %.3f}\n",
			(unsigned long long)messages, (unsigned long long)again,
			(unsigned long long)body_bytes, session_count, since(last_ns),
			since(first_ns), since(registered_ns),
			(double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec)
					+ (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec)
							  / 1e6);
	return messages >= wanted ? 0 : 1;
}
