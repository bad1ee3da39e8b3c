/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * sipload.c - a closed loop of MESSAGE or REGISTER requests over UDP.
 *
 *     sipload [-c OUT] [-n COUNT] [-w WARM] [-t SECONDS] [-l LOST_MS]
 *             [-u USERS] [-b BODY_BYTES] [-k KEY] [-r] HOST PORT
 *
 * runs in:  benchmarks (queue.py builds it)
 * owns:     one connected socket
 * never:    retransmits; runs for longer than SECONDS
 *
 * OUT requests are on their way (64); each final answer sends the next one.
 * The first WARM requests (0) are sent like the others and not counted, then
 * COUNT (10000) are. A request without an answer for LOST_MS (2000) counts as
 * lost, and its place is used again. KEY (a few letters) is in every Call-ID
 * and branch: each run needs its own. The sender is always the same user; the
 * recipient is u<N>@example.org, N < USERS (1000), in an order that jumps.
 * -r: REGISTER of u<N> instead, one client each with the feature tags of CPM,
 * and from the second on a refresh.
 *
 * Prints one JSON object:
 *
 *     {"sent": N, "seconds": S, "per_second": R, "lost": N,
 *      "codes": {"202": N, ...}, "p50_us": N, "p95_us": N, "p99_us": N,
 *      "max_us": N, "mean_us": R, "cpu_s": S}
 *
 * Times are from just before the kernel gets the request to just after it
 * gave the answer, of answered requests only. cpu_s: what this program used.
 * Exit status 0, also if requests were lost; 1: the run broke off (time, or
 * the socket); 2: usage.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OUT_MAX 1024
#define COUNT_MAX 10000000
#define BODY_MAX 1300
#define REQUEST_MAX 2048
#define BATCH 64
#define ANSWER_MAX 1500
#define CODES 700

struct options
{
	unsigned long out, count, warm, seconds, lost_ms, users, body;
	const char *key;
	bool registers;
};

/* A place for a request that is on its way. */
struct place
{
	bool busy;
	uint64_t seq; /* which request it is */
	uint64_t sent_ns;
};

static struct options opt = {64, 10000, 0, 60, 2000, 1000, 100, "load", false};
static struct place places[OUT_MAX];
static uint32_t *times_us; /* of the answered, in order of arrival */
static size_t answered;
static uint64_t lost;
static uint64_t codes[CODES];
static char body[BODY_MAX + 1];
static char local_host[INET_ADDRSTRLEN];
static unsigned local_port;
static int sock = -1;

/* requests to be sent in one system call */
static char texts[BATCH][REQUEST_MAX];
static struct iovec text_iov[BATCH];
static struct mmsghdr text_hdr[BATCH];
static unsigned text_place[BATCH];
static unsigned text_count;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	(void)fprintf(stderr, "sipload: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---------------------------------------------------------------- send */

/* What is collected goes out; a full socket buffer is waited for. */
static void flush(void)
{
	unsigned at = 0;

	while(at < text_count) {
		uint64_t now = now_ns();
		for(unsigned i = at; i < text_count; i++)
			places[text_place[i]].sent_ns = now;
		int n = sendmmsg(sock, text_hdr + at, text_count - at, 0);
		if(n > 0) {
			at += (unsigned)n;
		} else if(errno == ECONNREFUSED) {
			continue; /* of an earlier packet; the server comes or it does not */
		} else if(errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) {
			struct pollfd p = {.fd = sock, .events = POLLOUT};
			(void)poll(&p, 1, 10);
		} else if(errno != EINTR) {
			die("send");
		}
	}
	text_count = 0;
}

/* A user for each request: neighbours in time are not neighbours by name. */
static unsigned long user_of(uint64_t seq)
{
	return (unsigned long)((seq * 2654435761u) % opt.users);
}

static int register_write(unsigned place, uint64_t seq, unsigned long user)
{
	return snprintf(texts[text_count], REQUEST_MAX,
			"REGISTER sip:example.org SIP/2.0\r\n"
			"Via: SIP/2.0/UDP %s:%u;branch=z9hG4bK%s.%x.%llx\r\n"
			"Max-Forwards: 70\r\n"
			"From: <sip:u%lu@example.org>;tag=%llx\r\n"
			"To: <sip:u%lu@example.org>\r\n"
			"Call-ID: %s-u%lu@%s\r\n"
			"CSeq: %llu REGISTER\r\n"
			"Contact: <sip:u%lu@%s:%u>;+sip.instance=\"<urn:uuid:"
			"00000000-0000-1000-8000-%012lx>\";+g.3gpp.icsi-ref=\""
			"urn%%3Aurn-7%%3A3gpp-service.ims.icsi.oma.cpm.msg,"
			"urn%%3Aurn-7%%3A3gpp-service.ims.icsi.oma.cpm.largemsg\"\r\n"
			"Expires: 3600\r\n"
			"Content-Length: 0\r\n\r\n",
			local_host, local_port, opt.key, place, (unsigned long long)seq,
			user, (unsigned long long)seq, user, opt.key, user, local_host,
			(unsigned long long)seq + 1, user, local_host, local_port, user);
}

static void request(unsigned place, uint64_t seq)
{
	unsigned long user = user_of(seq);
	int n;

	places[place].busy = true;
	places[place].seq = seq;
	if(text_count == BATCH)
		flush();
	if(opt.registers)
		n = register_write(place, seq, user);
	else
		n = snprintf(texts[text_count], REQUEST_MAX,
				"MESSAGE sip:u%lu@example.org SIP/2.0\r\n"
				"Via: SIP/2.0/UDP %s:%u;branch=z9hG4bK%s.%x.%llx\r\n"
				"Max-Forwards: 70\r\n"
				"From: <sip:alice@example.org>;tag=%s%llx\r\n"
				"To: <sip:u%lu@example.org>\r\n"
				"Call-ID: %s-%llx@%s\r\n"
				"CSeq: 1 MESSAGE\r\n"
				"Content-Type: text/plain\r\n"
				"Content-Length: %lu\r\n\r\n%s",
				user, local_host, local_port, opt.key, place,
				(unsigned long long)seq, opt.key, (unsigned long long)seq, user,
				opt.key, (unsigned long long)seq, local_host, opt.body, body);
	if(n <= 0 || n >= REQUEST_MAX) {
		errno = EMSGSIZE;
		die("request");
	}
	text_iov[text_count].iov_len = (size_t)n;
	text_place[text_count] = place;
	text_count++;
}

/* ------------------------------------------------------------- receive */

/* "SIP/2.0 202 ...", and the branch of the first Via, which is ours. Of an
 * answer that is none of ours or comes too late: -1. */
static int answer_read(const char *text, unsigned *place_r)
{
	char *end;

	if(strncmp(text, "SIP/2.0 ", 8) != 0)
		return -1;
	unsigned long code = strtoul(text + 8, &end, 10);
	const char *branch = strstr(end, "branch=z9hG4bK");
	size_t key_len = strlen(opt.key);
	if(code < 200 || code >= CODES || branch == NULL
			|| strncmp(branch + 14, opt.key, key_len) != 0
			|| branch[14 + key_len] != '.')
		return -1;
	unsigned long place = strtoul(branch + 14 + key_len + 1, &end, 16);
	if(*end != '.' || place >= opt.out)
		return -1;
	uint64_t seq = strtoull(end + 1, NULL, 16);
	if(!places[place].busy || places[place].seq != seq)
		return -1;
	*place_r = (unsigned)place;
	return (int)code;
}

/* How many places became free; their numbers in free_r. */
static unsigned receive(unsigned *free_r, uint64_t first_counted)
{
	static char answers[BATCH][ANSWER_MAX + 1];
	static struct iovec iov[BATCH];
	static struct mmsghdr hdr[BATCH];
	unsigned free_n = 0;

	for(unsigned i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){answers[i], ANSWER_MAX};
		hdr[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	}
	int n = recvmmsg(sock, hdr, BATCH, MSG_DONTWAIT, NULL);
	uint64_t now = now_ns();
	for(int i = 0; i < n; i++) {
		unsigned place;
		answers[i][hdr[i].msg_len] = '\0';
		int code = answer_read(answers[i], &place);
		if(code < 0)
			continue;
		places[place].busy = false;
		free_r[free_n++] = place;
		if(places[place].seq < first_counted)
			continue;
		codes[code]++;
		times_us[answered++] = (uint32_t)((now - places[place].sent_ns) / 1000);
	}
	return free_n;
}

static unsigned give_up(unsigned *free_r, uint64_t first_counted)
{
	uint64_t now = now_ns();
	unsigned free_n = 0;

	for(unsigned i = 0; i < opt.out; i++) {
		if(!places[i].busy || now - places[i].sent_ns < opt.lost_ms * 1000000u)
			continue;
		places[i].busy = false;
		free_r[free_n++] = i;
		lost += places[i].seq >= first_counted;
	}
	return free_n;
}

/* The whole loop. Seconds from the first counted request to the last answer.
 * *sent_r: counted requests. false: out of time. */
static bool run(double *seconds_r, uint64_t *sent_r)
{
	uint64_t end = now_ns() + opt.seconds * 1000000000u;
	uint64_t total = opt.warm + opt.count, seq = 0, begin = now_ns();
	unsigned free_places[OUT_MAX], free_n = 0, busy = 0;

	for(unsigned i = 0; i < opt.out; i++)
		free_places[free_n++] = i;
	for(;;) {
		busy -= busy < free_n ? busy : free_n;
		for(unsigned i = 0; i < free_n && seq < total; i++, busy++) {
			if(seq == opt.warm)
				begin = now_ns();
			request(free_places[i], seq++);
		}
		flush();
		if(busy == 0 || now_ns() >= end)
			break;
		struct pollfd p = {.fd = sock, .events = POLLIN};
		int ready = poll(&p, 1, 100);
		free_n = receive(free_places, opt.warm);
		if(ready == 0)
			free_n = give_up(free_places, opt.warm);
	}
	*seconds_r = (double)(now_ns() - begin) / 1e9;
	*sent_r = seq > opt.warm ? seq - opt.warm : 0;
	return busy == 0;
}

/* -------------------------------------------------------------- result */

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static unsigned percentile(unsigned per_cent)
{
	return answered > 0 ? times_us[(answered - 1) * per_cent / 100] : 0;
}

static void report(double seconds, uint64_t sent)
{
	struct rusage used;
	double sum = 0;
	const char *comma = "";

	qsort(times_us, answered, sizeof(times_us[0]), by_value);
	for(size_t i = 0; i < answered; i++)
		sum += times_us[i];
	(void)getrusage(RUSAGE_SELF, &used);
	(void)printf("{\"sent\": %llu, \"seconds\": %.3f, \"per_second\": %.1f, "
				 "\"lost\": %llu, \"codes\": {",
			(unsigned long long)sent, seconds,
			seconds > 0 ? (double)answered / seconds : 0.0,
			(unsigned long long)lost);
	for(unsigned i = 0; i < CODES; i++) {
		if(codes[i] > 0) {
			(void)printf(
					"%s\"%u\": %llu", comma, i, (unsigned long long)codes[i]);
			comma = ", ";
		}
	}
	(void)printf("}, \"p50_us\": %u, \"p95_us\": %u, \"p99_us\": %u, "
				 "\"max_us\": %u, \"mean_us\": %.1f, \"cpu_s\": %.2f}\n",
			percentile(50), percentile(95), percentile(99), percentile(100),
			answered > 0 ? sum / (double)answered : 0.0,
			(double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
					+ (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec)
							  / 1e6);
}

/* --------------------------------------------------------------- start */

static bool number(
		const char *text, unsigned long min, unsigned long max, void *v_r)
{
	char *end;

	errno = 0;
	unsigned long v = strtoul(text, &end, 10);
	if(errno != 0 || *text < '0' || *text > '9' || *end != '\0' || v < min
			|| v > max)
		return false;
	memcpy(v_r, &v, sizeof(v));
	return true;
}

static bool options_read(int argc, char **argv)
{
	const struct
	{
		char letter;
		unsigned long *v;
		unsigned long min, max;
	} numbers[] = {{'c', &opt.out, 1, OUT_MAX}, {'n', &opt.count, 1, COUNT_MAX},
			{'w', &opt.warm, 0, COUNT_MAX}, {'t', &opt.seconds, 1, 3600},
			{'l', &opt.lost_ms, 10, 60000}, {'u', &opt.users, 1, 100000000},
			{'b', &opt.body, 0, BODY_MAX}};
	int c;

	while((c = getopt(argc, argv, "c:n:w:t:l:u:b:k:r")) != -1) {
		if(c == 'r') {
			opt.registers = true;
			continue;
		}
		if(c == 'k') {
			opt.key = optarg;
			continue;
		}
		size_t i = 0;
		while(i < sizeof(numbers) / sizeof(numbers[0])
				&& numbers[i].letter != c)
			i++;
		if(i == sizeof(numbers) / sizeof(numbers[0])
				|| !number(
						optarg, numbers[i].min, numbers[i].max, numbers[i].v))
			return false;
	}
	size_t key_len = strlen(opt.key);
	return argc - optind == 2 && key_len > 0 && key_len <= 32
		   && strspn(opt.key, "abcdefghijklmnopqrstuvwxyz"
							  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
					  == key_len;
}

static bool open_socket(const char *host, const char *port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	unsigned long v;
	int size = 4 << 20;

	if(inet_pton(AF_INET, host, &addr.sin_addr) != 1
			|| !number(port, 1, 65535, &v))
		return false;
	addr.sin_port = htons((uint16_t)v);
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if(sock < 0
			|| connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) < 0
			|| getsockname(sock, (struct sockaddr *)&addr, &len) < 0)
		die("socket");
	(void)setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	local_port = ntohs(addr.sin_port);
	return inet_ntop(AF_INET, &addr.sin_addr, local_host, sizeof(local_host))
		   != NULL;
}

int main(int argc, char **argv)
{
	double seconds = 0;
	uint64_t sent = 0;

	if(!options_read(argc, argv)
			|| !open_socket(argv[optind], argv[optind + 1])) {
		(void)fprintf(stderr,
				"usage: sipload [-c OUT] [-n COUNT] [-w WARM] [-t SECONDS] "
				"[-l LOST_MS] [-u USERS] [-b BODY_BYTES] [-k KEY] HOST PORT\n");
		return 2;
	}
	times_us = calloc(opt.count, sizeof(times_us[0]));
	if(times_us == NULL)
		die("memory");
	memset(body, 'x', opt.body);
	for(unsigned i = 0; i < BATCH; i++) {
		text_iov[i].iov_base = texts[i];
		text_hdr[i].msg_hdr =
				(struct msghdr){.msg_iov = &text_iov[i], .msg_iovlen = 1};
	}
	bool whole = run(&seconds, &sent);
	report(seconds, sent);
	free(times_us);
	(void)close(sock);
	return whole ? 0 : 1;
}
