/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * faultproxy.c - a bad network between one Kamailio and its Redis.
 *
 *     faultproxy LISTEN_PORT REDIS_PORT
 *
 * runs in:  a process of its own, started by the chaos test
 * owns:     the connections on both sides, all on 127.0.0.1
 * never:    changes a byte; what it forwards, it forwards in order
 *
 * Orders come as lines on stdin; its end is the end of the program.
 *
 *   swallow N      N scripts reach Redis, and their answers reach nobody: the
 *                  connection is closed instead
 *   cutreq N BYTES N scripts are cut after so many bytes, then closed
 *   cutrep N BYTES the same with the answers of N scripts
 *   stall MS       nothing moves for so long; what was sent arrives later,
 *                  also what a client sent that has given up since
 *   delay MS FOR   for FOR ms each chunk arrives MS later
 *   calm           forget all orders
 *
 * Each that was carried out is a line on stdout: its name, and when, in
 * seconds of the monotonic clock.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNS_MAX 256
#define CHUNK_MAX 65536
#define LINE_MAX_ 128

/* What was read on one side, to be written on the other. */
struct chunk
{
	struct chunk *next;
	uint64_t due_ms;
	size_t len, sent;
	char data[];
};

/* One direction: from side i of a connection to the other. */
struct way
{
	struct chunk *first, *last;
	size_t bytes;
	bool eof;	 /* nothing more is read */
	bool closed; /* and the other side was told */
};

struct conn
{
	int fd[2];		   /* 0: Kamailio, 1: Redis; -1: not in use */
	struct way way[2]; /* from fd[i] to fd[1 - i] */
	bool swallow;	   /* the next answer is to be lost */
	size_t cut;		   /* or cut after so many bytes; 0: not */
	bool doomed;	   /* close both once the ways are empty */
};

static struct conn conns[CONNS_MAX];
static unsigned long swallow, cutreq, cutrep, delay_ms;
static size_t cutreq_at, cutrep_at;
static uint64_t stall_until, delay_until;

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void tell(const char *what)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	printf("%s %lld.%06ld\n", what, (long long)t.tv_sec, t.tv_nsec / 1000);
	fflush(stdout);
}

static void way_drop(struct way *w)
{
	struct chunk *c;

	while((c = w->first) != NULL) {
		w->first = c->next;
		free(c);
	}
	memset(w, 0, sizeof(*w));
}

static void conn_close(struct conn *c)
{
	int i;

	for(i = 0; i < 2; i++) {
		if(c->fd[i] >= 0) {
			close(c->fd[i]);
		}
		c->fd[i] = -1;
		way_drop(&c->way[i]);
	}
	c->swallow = c->doomed = false;
	c->cut = 0;
}

static int socket_set(int fd)
{
	int one = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
}

static void conn_open(int listener, const struct sockaddr_in *redis)
{
	int client = accept(listener, NULL, NULL);
	int server;
	size_t i;

	if(client < 0) {
		return;
	}
	for(i = 0; i < CONNS_MAX && conns[i].fd[0] >= 0; i++)
		;
	server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* on the loopback this answers at once, whatever Redis does */
	if(i == CONNS_MAX || server < 0
			|| connect(server, (const struct sockaddr *)redis, sizeof(*redis))
					   < 0
			|| socket_set(client) < 0 || socket_set(server) < 0) {
		close(client);
		if(server >= 0) {
			close(server);
		}
		return;
	}
	conns[i].fd[0] = client;
	conns[i].fd[1] = server;
}

static bool is_script(const char *p, size_t n)
{
	return memmem(p, n < 64 ? n : 64, "EVALSHA", 7) != NULL;
}

/* What the orders make of a chunk: how much of it goes on. */
static size_t spoil(struct conn *c, int side, const char *p, size_t n)
{
	size_t keep;

	if(c->doomed) {
		return 0;
	}
	if(side == 0) {
		if(!is_script(p, n)) {
			return n;
		}
		if(cutreq > 0) {
			cutreq--;
			tell("cutreq");
			c->doomed = true;
			return cutreq_at < n ? cutreq_at : n - 1;
		}
		if(swallow > 0) {
			swallow--;
			c->swallow = true;
		} else if(cutrep > 0) {
			cutrep--;
			c->cut = cutrep_at;
		}
		return n;
	}
	if(c->swallow) {
		tell("swallow");
		c->doomed = true;
		return 0;
	}
	if(c->cut > 0) {
		tell("cutrep");
		c->doomed = true;
		keep = c->cut;
		return keep < n ? keep : n - 1;
	}
	return n;
}

static void side_read(struct conn *c, int side)
{
	static char buf[CHUNK_MAX];
	struct way *w = &c->way[side];
	struct chunk *k;
	ssize_t n = read(c->fd[side], buf, sizeof(buf));
	size_t keep;

	if(n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if(n <= 0) {
		w->eof = true;
		return;
	}
	keep = spoil(c, side, buf, (size_t)n);
	if(keep == 0) {
		return;
	}
	k = malloc(sizeof(*k) + keep);
	if(k == NULL) {
		die("malloc");
	}
	memset(k, 0, sizeof(*k));
	memcpy(k->data, buf, keep);
	k->len = keep;
	k->due_ms = now_ms() < delay_until ? now_ms() + delay_ms : 0;
	if(w->last != NULL && w->first != NULL) {
		w->last->next = k;
	} else {
		w->first = k;
	}
	w->last = k;
	w->bytes += keep;
}

/* Writes what is due. false: the other side is gone. */
static bool side_write(struct conn *c, int side, uint64_t now)
{
	struct way *w = &c->way[side];
	struct chunk *k;
	ssize_t n;

	while((k = w->first) != NULL && k->due_ms <= now && stall_until <= now) {
		n = send(c->fd[1 - side], k->data + k->sent, k->len - k->sent,
				MSG_NOSIGNAL);
		if(n < 0) {
			return errno == EAGAIN || errno == EINTR;
		}
		k->sent += (size_t)n;
		w->bytes -= (size_t)n;
		if(k->sent < k->len) {
			return true;
		}
		w->first = k->next;
		if(w->first == NULL) {
			w->last = NULL;
		}
		free(k);
	}
	return true;
}

static void conn_move(struct conn *c, uint64_t now)
{
	int i;

	for(i = 0; i < 2; i++) {
		if(!side_write(c, i, now)) {
			/* nobody takes it; the other way may have something to say */
			way_drop(&c->way[i]);
			c->way[i].eof = true;
		}
		if(c->way[i].eof && !c->way[i].closed && c->way[i].first == NULL
				&& stall_until <= now) {
			c->way[i].closed = true;
			(void)shutdown(c->fd[1 - i], SHUT_WR);
		}
	}
	if((c->way[0].closed && c->way[1].closed)
			|| (c->way[1].closed && c->way[1].eof)
			|| (c->doomed && c->way[0].first == NULL
					&& c->way[1].first == NULL)) {
		conn_close(c);
	}
}

static bool order(const char *line)
{
	unsigned long a = 0, b = 0;
	char name[16];
	int n = sscanf(line, "%15s %lu %lu", name, &a, &b);

	if(n < 1 || a > 1000000 || b > 1000000) {
		return false;
	}
	if(strcmp(name, "swallow") == 0 && n == 2) {
		swallow = a;
	} else if(strcmp(name, "cutreq") == 0 && n == 3) {
		cutreq = a;
		cutreq_at = b;
	} else if(strcmp(name, "cutrep") == 0 && n == 3 && b > 0) {
		cutrep = a;
		cutrep_at = b;
	} else if(strcmp(name, "stall") == 0 && n == 2) {
		stall_until = now_ms() + a;
		tell("stall");
	} else if(strcmp(name, "delay") == 0 && n == 3) {
		delay_ms = a;
		delay_until = now_ms() + b;
		tell("delay");
	} else if(strcmp(name, "calm") == 0) {
		swallow = cutreq = cutrep = 0;
		stall_until = delay_until = 0;
		tell("calm");
	} else {
		return false;
	}
	return true;
}

static void orders_read(void)
{
	static char line[LINE_MAX_];
	static size_t used;
	char *end;
	ssize_t n = read(STDIN_FILENO, line + used, sizeof(line) - 1 - used);

	if(n <= 0) {
		exit(0);
	}
	used += (size_t)n;
	line[used] = '\0';
	while((end = strchr(line, '\n')) != NULL) {
		*end = '\0';
		if(!order(line)) {
			fprintf(stderr, "faultproxy: no such order: %s\n", line);
			exit(2);
		}
		used -= (size_t)(end + 1 - line);
		memmove(line, end + 1, used + 1);
	}
	if(used == sizeof(line) - 1) {
		fprintf(stderr, "faultproxy: an order without end\n");
		exit(2);
	}
}

static int port_parse(const char *s)
{
	char *end;
	long v = strtol(s, &end, 10);

	if(*s == '\0' || *end != '\0' || v < 1 || v > 65535) {
		fprintf(stderr, "faultproxy: %s is no port, 1 to 65535\n", s);
		exit(2);
	}
	return (int)v;
}

static struct sockaddr_in address(int port)
{
	struct sockaddr_in a;

	memset(&a, 0, sizeof(a));
	a.sin_family = AF_INET;
	a.sin_port = htons((uint16_t)port);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

/* Events of one side: read while its way is not too long. */
static short wanted(const struct conn *c, int side, uint64_t now)
{
	const struct way *in = &c->way[side];
	const struct way *out = &c->way[1 - side];
	short events = 0;

	if(!in->eof && in->bytes < 8 * CHUNK_MAX) {
		events |= POLLIN;
	}
	if(out->first != NULL && out->first->due_ms <= now && stall_until <= now) {
		events |= POLLOUT;
	}
	return events;
}

static void serve(int listener, const struct sockaddr_in *redis)
{
	static struct pollfd fds[2 + 2 * CONNS_MAX];
	static struct conn *of[2 + 2 * CONNS_MAX];
	static int side_of[2 + 2 * CONNS_MAX];
	uint64_t now = now_ms();
	nfds_t n = 2;
	nfds_t i;
	size_t k;
	int side;
	bool held = stall_until > now;

	fds[0] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
	fds[1] = (struct pollfd){listener, POLLIN, 0};
	for(k = 0; k < CONNS_MAX; k++) {
		if(conns[k].fd[0] < 0) {
			continue;
		}
		held = held || conns[k].way[0].first != NULL
			   || conns[k].way[1].first != NULL;
		for(side = 0; side < 2; side++) {
			fds[n] = (struct pollfd){
					conns[k].fd[side], wanted(&conns[k], side, now), 0};
			if(fds[n].events == 0) {
				fds[n].fd = -1; /* or a hang-up would be told for ever */
			}
			of[n] = &conns[k];
			side_of[n++] = side;
		}
	}
	if(poll(fds, n, held ? 5 : 1000) < 0 && errno != EINTR) {
		die("poll");
	}
	if(fds[0].revents != 0) {
		orders_read();
	}
	for(i = 2; i < n; i++) {
		if((fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0
				&& !of[i]->way[side_of[i]].eof) {
			side_read(of[i], side_of[i]);
		}
	}
	now = now_ms();
	for(k = 0; k < CONNS_MAX; k++) {
		if(conns[k].fd[0] >= 0) {
			conn_move(&conns[k], now);
		}
	}
	if(fds[1].revents != 0) {
		conn_open(listener, redis);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in own, redis;
	int listener;
	int one = 1;
	size_t i;

	if(argc != 3) {
		fprintf(stderr, "usage: faultproxy LISTEN_PORT REDIS_PORT\n");
		return 2;
	}
	own = address(port_parse(argv[1]));
	redis = address(port_parse(argv[2]));
	signal(SIGPIPE, SIG_IGN);
	for(i = 0; i < CONNS_MAX; i++) {
		conns[i].fd[0] = conns[i].fd[1] = -1;
	}
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if(listener < 0
			|| setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one))
					   < 0
			|| bind(listener, (struct sockaddr *)&own, sizeof(own)) < 0
			|| listen(listener, 128) < 0) {
		die("faultproxy: listen");
	}
	tell("ready");
	for(;;) {
		serve(listener, &redis);
	}
}
