/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_conf.h"

#include "core/cpm_pap.h"
#include "core/cpm_object.h"
#include "core/cpm_push.h"
#include "io/io_clock.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../core/cfg/cfg_struct.h"
#include "../../core/dprint.h"
#include "../../core/socket_info.h"
#include "../../core/sr_module.h"
#include "../../core/timer.h"

struct pf_params pf_params = {
		.redis_connect_timeout_ms = 500,
		.redis_cmd_timeout_ms = 250,
		.redis_wait_replicas = 0,
		.redis_wait_ms = 100,
		.msrp_advertise = "",
		.msrp_cert = "",
		.msrp_key = "",
		.msrp_chunk_size = 2048,
		.msrp_max_connections = 10000,
		.session_max_messages = 0,
		.session_idle_time = 30,
		.key_prefix = "cpm",
		.message_max_bytes = 65536,
		.queue_max_messages = 1000,
		.queue_max_bytes = 10485760,
		.queue_max_per_sender = 0,
		.overflow = "refuse",
		.default_expires = 604800,
		.max_expires = 2592000,
		.lease_time = 60,
		.retry_intervals = "5,30,120,600,3600",
		.max_attempts = 12,
		.delivery_workers = 1,
		.delivery_parallel = 256,
		.register_trigger = 1,
		.register_delay_ms = 100,
		.dedup_time = 300,
		.check_interval = 3600,
		.queued_code = 202,
		.insert_called_party_id = 1,
		.trust_clients = 0,
		.require_feature_tag = 1,
		.reject_code = 403,
		.identity = "pai,auth,from",
		.isf_uri = "",
		.outbound_proxy = "",
		.isf_mode = "route",
		.imdn = 1,
		.job_retry_intervals = "5,30,120,600,3600",
		.job_max_attempts = 20,
		.store_url = "",
		.store_folder = "Default/{originator}",
		.store_login = "user",
		.store_tls = "auto",
		.store_ca = "",
		.store_credentials = "",
		.store_timeout = 30,
		.usrloc_domain = "location",
		.pf_uri = "",
		.push_url = "",
		.push_format = "pap",
		.push_ca = "",
		.push_credentials = "",
		.push_timeout = 10,
		.push_retry_intervals = "60,300,1800,7200,21600",
		.push_max = 10,
		.push_data_ttl = 2592000,
		.pull_uri = "",
		.pull_bye_time = 5,
		.admin_listen = "127.0.0.1:8060",
		.admin_token_file = "",
		.admin_cert = "",
		.admin_key = "",
		.admin_tls = "auto",
		.admin_bodies = 0,
		.admin_rate = 500,
		.worker = "",
		.event_callback = "",
		.db_url = "",
		.prefs_cache_ttl = 300,
		.prefs_cache_size = 10000,
		.notify_event = "message-summary",
		.notify_unsolicited = 1,
		.notify_delay_ms = 1000,
		.notify_max_bytes = 1200,
		.subscribe_max_expires = 3600,
		.presence = 1,
		.registrar = "usrloc",
		.reg_uri = "",
		.reg_route = "",
		.reg_route_aor = 0,
		.reg_expires = 3600,
		.reg_max_subscriptions = 100000,
		.reg_linger = 300,
		.reg_retry_time = 10,
		.reg_timeout = 40,
		.delivery_rate = 0,
};

struct pf_conf pf_conf;

static char domain_texts[PF_DOMAINS_MAX][128];

/* ------------------------------------------------- repeatable parameters */

int pf_conf_redis_param(unsigned int type, void *val)
{
	const char *s = val;
	struct cpm_diag diag = {"too-long", 0};
	int rc = CPM_ELIMIT;

	if(pf_conf.redis_count == IO_REDIS_SERVERS_MAX) {
		diag.why = "too-many-seeds";
	} else if(strlen(s) < sizeof(pf_conf.redis_string[0])) {
		rc = pf_conf.redis_count == 0
					 ? io_redis_conf_parse(cpm_pl_str(s), &pf_conf.redis, &diag)
					 : io_redis_conf_add(cpm_pl_str(s), &pf_conf.redis, &diag);
	}
	if(rc != CPM_OK) {
		LM_ERR("parameter redis: %s at character %u; it takes a string like "
			   "\"name=cpm;addr=127.0.0.1;port=6379;db=0;user=..;pass=..\" or "
			   "\"unix=/path\", or "
			   "\"sentinel_group=..;sentinel=host:port;sentinel=..\", or for "
			   "each seed node of a cluster \"cluster=1;addr=..;port=..\"\n",
				diag.why, (unsigned)diag.at);
		return -1;
	}
	memcpy(pf_conf.redis_string[pf_conf.redis_count++], s, strlen(s) + 1);
	return 0;
}

enum host
{
	HOST_NONE, /* no address */
	HOST_LOOPBACK,
	HOST_ANY, /* 0.0.0.0, [::] */
	HOST_OTHER,
};

/* "192.0.2.1:2855", "[2001:db8::1]:2855": what kind of address; HOST_NONE: it
 * is not one with a port from min_port on. */
static enum host listen_read(struct cpm_pl listen, uint64_t min_port)
{
	unsigned char ip[16];
	char text[64];
	struct cpm_pl host;
	uint64_t port;
	size_t colon = listen.n;

	while(colon > 0 && listen.p[colon - 1] != ':') {
		colon--;
	}
	if(colon == 0
			|| cpm_pl_u64(cpm_pl_from(listen, colon), 65535, &port) != CPM_OK
			|| port < min_port) {
		return HOST_NONE;
	}
	host = cpm_pl(listen.p, colon - 1);
	if(host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']') {
		cpm_pl_cstr(cpm_pl(host.p + 1, host.n - 2), text, sizeof(text));
		if(inet_pton(AF_INET6, text, ip) != 1) {
			return HOST_NONE;
		}
		return memcmp(ip, &in6addr_loopback, sizeof(ip)) == 0 ? HOST_LOOPBACK
			   : memcmp(ip, &in6addr_any, sizeof(ip)) == 0	  ? HOST_ANY
															  : HOST_OTHER;
	}
	cpm_pl_cstr(host, text, sizeof(text));
	if(inet_pton(AF_INET, text, ip) != 1) {
		return HOST_NONE;
	}
	return ip[0] == 127										 ? HOST_LOOPBACK
		   : memcmp(ip, (const char[4]){0, 0, 0, 0}, 4) == 0 ? HOST_ANY
															 : HOST_OTHER;
}

/* Of msrp_listen: without "tls:". */
static struct cpm_pl msrp_address(const char *listen, bool *tls_r)
{
	struct cpm_pl all = cpm_pl_str(listen);

	*tls_r = cpm_pl_starts(all, CPM_PL_LIT("tls:"));
	return *tls_r ? cpm_pl_from(all, 4) : all;
}

/* "127.0.0.1:2855", "[::1]:2855", "tls:192.0.2.1:2856" */
int pf_conf_msrp_param(unsigned int type, void *val)
{
	const char *s = val;
	bool tls;

	if(s[0] == '\0') {
		return 0; /* no sessions */
	}
	if(strlen(s) >= sizeof(pf_conf.msrp_listen[0])
			|| listen_read(msrp_address(s, &tls), 0) == HOST_NONE) {
		LM_ERR("parameter msrp_listen: \"%s\"; it takes an address and a port, "
			   "such as 192.0.2.1:2855, [2001:db8::1]:2855 or "
			   "tls:192.0.2.1:2856, and may be repeated\n",
				s);
		return -1;
	}
	if(pf_conf.msrp_listen_count == PF_MSRP_LISTENS_MAX) {
		LM_ERR("parameter msrp_listen: more than %d\n", PF_MSRP_LISTENS_MAX);
		return -1;
	}
	memcpy(pf_conf.msrp_listen[pf_conf.msrp_listen_count++], s, strlen(s) + 1);
	return 0;
}

int pf_conf_domain_param(unsigned int type, void *val)
{
	const char *s = val;
	char *text;
	size_t i;

	if(pf_conf.domain_count == PF_DOMAINS_MAX) {
		LM_ERR("parameter domain: more than %d domains\n", PF_DOMAINS_MAX);
		return -1;
	}
	if(s[0] == '\0' || strlen(s) >= sizeof(domain_texts[0])
			|| strpbrk(s, " @:;/<>{}") != NULL) {
		LM_ERR("parameter domain: \"%s\" is no host name; it takes one home "
			   "domain, such as example.org, and may be repeated\n",
				s);
		return -1;
	}
	text = domain_texts[pf_conf.domain_count];
	for(i = 0; s[i] != '\0'; i++) {
		text[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
	}
	pf_conf.domains[pf_conf.domain_count++] = cpm_pl_str(text);
	return 0;
}

/* "192.0.2.1", "192.0.2.0/24", "2001:db8::/32" */
int pf_conf_trusted_param(unsigned int type, void *val)
{
	struct cpm_pl rest = cpm_pl_str(val);
	struct cpm_pl addr = cpm_pl_trim(cpm_pl_cut(&rest, '/'));
	struct pf_net net = {{0}, 4, 0};
	char text[64];
	uint64_t bits;

	cpm_pl_cstr(addr, text, sizeof(text));
	if(inet_pton(AF_INET6, text, net.addr) == 1) {
		net.len = 16;
	} else if(inet_pton(AF_INET, text, net.addr) != 1) {
		net.len = 0;
	}
	bits = net.len * 8;
	if(net.len == 0
			|| (rest.p != NULL
					&& cpm_pl_u64(cpm_pl_trim(rest), net.len * 8, &bits)
							   != CPM_OK)) {
		LM_ERR("parameter trusted_peers: \"%s\"; it takes an address, with a "
			   "prefix length or without, such as 192.0.2.0/24, and may be "
			   "repeated\n",
				(char *)val);
		return -1;
	}
	if(pf_conf.trusted_count == PF_TRUSTED_MAX) {
		LM_ERR("parameter trusted_peers: more than %d addresses\n",
				PF_TRUSTED_MAX);
		return -1;
	}
	net.bits = (unsigned)bits;
	pf_conf.trusted[pf_conf.trusted_count++] = net;
	return 0;
}

bool pf_conf_is_trusted(const unsigned char *addr, unsigned len)
{
	const struct pf_net *net;
	unsigned whole, rest;
	size_t i;

	for(i = 0; i < pf_conf.trusted_count; i++) {
		net = &pf_conf.trusted[i];
		whole = net->bits / 8;
		rest = net->bits % 8;
		if(net->len == len && memcmp(net->addr, addr, whole) == 0
				&& (rest == 0
						|| ((net->addr[whole] ^ addr[whole]) >> (8 - rest))
								   == 0)) {
			return true;
		}
	}
	return false;
}

/* ------------------------------------------------------------- numbers */

struct bound
{
	const char *name;
	const int *v;
	int min, max;
	const char *takes;
};

static const struct bound bounds[] = {
		{"redis_connect_timeout_ms", &pf_params.redis_connect_timeout_ms, 10,
				60000, "milliseconds, 10 to 60000"},
		{"redis_cmd_timeout_ms", &pf_params.redis_cmd_timeout_ms, 10, 60000,
				"milliseconds, 10 to 60000"},
		{"redis_wait_replicas", &pf_params.redis_wait_replicas, 0, 16,
				"a number of replicas, 0 (off) to 16"},
		{"redis_wait_ms", &pf_params.redis_wait_ms, 1, 10000,
				"milliseconds, 1 to 10000"},
		{"msrp_chunk_size", &pf_params.msrp_chunk_size, 256, 1048576,
				"bytes, 256 to 1048576"},
		{"msrp_max_connections", &pf_params.msrp_max_connections, 1, 1000000,
				"a number of connections, 1 to 1000000"},
		{"session_max_messages", &pf_params.session_max_messages, 0, 1000000,
				"a number of messages, 0 (all) to 1000000"},
		{"session_idle_time", &pf_params.session_idle_time, 1, 86400,
				"seconds, 1 to 86400"},
		{"pull_bye_time", &pf_params.pull_bye_time, 0, 3600,
				"seconds, 0 (at once) to 3600"},
		{"message_max_bytes", &pf_params.message_max_bytes, 1, CPM_MSG_BODY_MAX,
				"bytes, 1 to 1048576"},
		{"queue_max_messages", &pf_params.queue_max_messages, 0, 1000000,
				"a number of messages, 0 (no quota) to 1000000"},
		{"queue_max_bytes", &pf_params.queue_max_bytes, 0, 2147483647,
				"bytes, 0 (no quota) to 2147483647"},
		{"queue_max_per_sender", &pf_params.queue_max_per_sender, 0, 1000000,
				"a number of messages, 0 (no share) to 1000000"},
		{"default_expires", &pf_params.default_expires, 1, 31536000,
				"seconds, 1 to 31536000"},
		{"max_expires", &pf_params.max_expires, 1, 31536000,
				"seconds, 1 to 31536000"},
		{"lease_time", &pf_params.lease_time, 1, 3600, "seconds, 1 to 3600"},
		{"max_attempts", &pf_params.max_attempts, 1, 1000,
				"a number of attempts, 1 to 1000"},
		{"delivery_workers", &pf_params.delivery_workers, 1,
				PF_DELIVERY_WORKERS_MAX, "a number of processes, 1 to 16"},
		{"delivery_parallel", &pf_params.delivery_parallel, 1, 4096,
				"deliveries at a time in each worker, 1 to 4096"},
		{"register_trigger", &pf_params.register_trigger, 0, 1, "0 or 1"},
		{"register_delay_ms", &pf_params.register_delay_ms, 0, 60000,
				"milliseconds, 0 to 60000"},
		{"dedup_time", &pf_params.dedup_time, 0, 86400,
				"seconds, 0 (off) to 86400"},
		{"check_interval", &pf_params.check_interval, 10, 86400,
				"seconds, 10 to 86400"},
		{"trust_clients", &pf_params.trust_clients, 0, 1, "0 or 1"},
		{"require_feature_tag", &pf_params.require_feature_tag, 0, 1, "0 or 1"},
		{"insert_called_party_id", &pf_params.insert_called_party_id, 0, 1,
				"0 or 1"},
		{"imdn", &pf_params.imdn, 0, 1, "0 or 1"},
		{"store_timeout", &pf_params.store_timeout, 1, 300,
				"seconds, 1 to 300"},
		{"job_max_attempts", &pf_params.job_max_attempts, 1, 1000,
				"a number of attempts, 1 to 1000"},
		{"push_timeout", &pf_params.push_timeout, 1, 300, "seconds, 1 to 300"},
		{"push_max", &pf_params.push_max, 1, 1000,
				"a number of pushes, 1 to 1000"},
		{"push_data_ttl", &pf_params.push_data_ttl, 60, 31536000,
				"seconds, 60 to 31536000"},
		{"prefs_cache_ttl", &pf_params.prefs_cache_ttl, 0, 86400,
				"seconds, 0 (read each time) to 86400"},
		{"prefs_cache_size", &pf_params.prefs_cache_size, 1, 1000000,
				"a number of users, 1 to 1000000"},
		{"notify_unsolicited", &pf_params.notify_unsolicited, 0, 1, "0 or 1"},
		{"notify_delay_ms", &pf_params.notify_delay_ms, 0, 3600000,
				"milliseconds, 0 to 3600000"},
		{"notify_max_bytes", &pf_params.notify_max_bytes, 600, 65536,
				"bytes, 600 to 65536"},
		{"subscribe_max_expires", &pf_params.subscribe_max_expires, 60, 86400,
				"seconds, 60 to 86400"},
		{"presence", &pf_params.presence, 0, 1, "0 or 1"},
		{"reg_route_aor", &pf_params.reg_route_aor, 0, 1, "0 or 1"},
		{"reg_expires", &pf_params.reg_expires, 60, 86400,
				"seconds, 60 to 86400"},
		{"reg_max_subscriptions", &pf_params.reg_max_subscriptions, 1, 10000000,
				"a number of subscriptions, 1 to 10000000"},
		{"reg_linger", &pf_params.reg_linger, 1, 86400, "seconds, 1 to 86400"},
		{"reg_retry_time", &pf_params.reg_retry_time, 1, 3600,
				"seconds, 1 to 3600"},
		{"reg_timeout", &pf_params.reg_timeout, 2, 300, "seconds, 2 to 300"},
		{"delivery_rate", &pf_params.delivery_rate, 0, 1000000,
				"deliveries a second in each worker, 0 (no limit) to 1000000"},
		{"admin_bodies", &pf_params.admin_bodies, 0, 1, "0 or 1"},
		{"admin_rate", &pf_params.admin_rate, 0, 1000000,
				"a number of requests a second, 0 to 1000000"},
};

static int numbers_check(void)
{
	const struct bound *b;
	size_t i;

	for(i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
		b = &bounds[i];
		if(*b->v < b->min || *b->v > b->max) {
			LM_ERR("parameter %s: %d; it takes %s\n", b->name, *b->v, b->takes);
			return -1;
		}
	}
	if(pf_params.queued_code != 200 && pf_params.queued_code != 202) {
		LM_ERR("parameter queued_code: %d; it takes 200 or 202\n",
				pf_params.queued_code);
		return -1;
	}
	if(strcmp(pf_params.overflow, "refuse") != 0
			&& strcmp(pf_params.overflow, "drop_oldest") != 0) {
		LM_ERR("parameter overflow: \"%s\"; it takes refuse or drop_oldest\n",
				pf_params.overflow);
		return -1;
	}
	if(pf_params.default_expires > pf_params.max_expires) {
		LM_ERR("parameter default_expires: %d is more than max_expires (%d)\n",
				pf_params.default_expires, pf_params.max_expires);
		return -1;
	}
	return 0;
}

static int intervals_check(
		const char *name, const char *text, uint64_t *ms_r, size_t *count_r)
{
	struct cpm_pl rest = cpm_pl_str(text);
	struct cpm_pl part;
	uint64_t s;
	size_t n = 0;

	while(rest.p != NULL && n <= CPM_RETRY_MAX) {
		part = cpm_pl_trim(cpm_pl_cut(&rest, ','));
		if(n == CPM_RETRY_MAX || cpm_pl_u64(part, 86400, &s) != CPM_OK
				|| s == 0) {
			LM_ERR("parameter %s: \"%s\"; it takes 1 to %d "
				   "numbers of seconds, 1 to 86400, with commas between\n",
					name, text, CPM_RETRY_MAX);
			return -1;
		}
		ms_r[n++] = s * 1000;
	}
	*count_r = n;
	return 0;
}

static int retry_check(void)
{
	if(intervals_check("retry_intervals", pf_params.retry_intervals,
			   pf_conf.deliver.retry_ms, &pf_conf.deliver.retry_count)
			< 0) {
		return -1;
	}
	return intervals_check("job_retry_intervals", pf_params.job_retry_intervals,
			pf_conf.job_retry_ms, &pf_conf.job_retry_count);
}

/* ------------------------------------------------------------ decisions */

/* The worker refuses as well; here the operator learns it at start. */
static int msrp_check(void)
{
	bool tls = false, plain = false, any = false, is_tls;
	struct cpm_pl at;
	size_t i;

	for(i = 0; i < pf_conf.msrp_listen_count; i++) {
		at = msrp_address(pf_conf.msrp_listen[i], &is_tls);
		tls = tls || is_tls;
		plain = plain || !is_tls;
		any = any || listen_read(at, 0) == HOST_ANY;
	}
	if(tls && !plain) {
		LM_ERR("parameter msrp_listen: only tls: is given; clients that did "
			   "not register by TLS are offered plain MSRP, for which it "
			   "takes an address without tls: as well\n");
		return -1;
	}
	if(any && pf_params.msrp_advertise[0] == '\0') {
		LM_ERR("parameter msrp_listen: on all addresses, and msrp_advertise "
			   "does not tell which one clients are to connect to\n");
		return -1;
	}
	if(tls
			&& (access(pf_params.msrp_cert, R_OK) != 0
					|| access(pf_params.msrp_key, R_OK) != 0)) {
		LM_ERR("parameter msrp_cert: \"%s\" or msrp_key: \"%s\" cannot be "
			   "read; msrp_listen with tls: takes both, as PEM files\n",
				pf_params.msrp_cert, pf_params.msrp_key);
		return -1;
	}
	if(strpbrk(pf_params.msrp_advertise, " /@;") != NULL
			|| (strchr(pf_params.msrp_advertise, ':') != NULL
					&& pf_params.msrp_advertise[0] != '[')
			|| strlen(pf_params.msrp_advertise) > 255) {
		LM_ERR("parameter msrp_advertise: \"%s\"; it takes the host name or "
			   "address (IPv6 in brackets) that clients connect to, without a "
			   "port\n",
				pf_params.msrp_advertise);
		return -1;
	}
	return 0;
}

static int identity_check(void)
{
	static const char *const names[] = {
			[PF_IDENTITY_PAI] = "pai",
			[PF_IDENTITY_AUTH] = "auth",
			[PF_IDENTITY_FROM] = "from",
	};
	struct cpm_pl rest = cpm_pl_str(pf_params.identity);
	struct cpm_pl part;
	size_t n = 0;
	size_t i;

	while(rest.p != NULL) {
		part = cpm_pl_trim(cpm_pl_cut(&rest, ','));
		for(i = 0; i < 3 && !cpm_pl_eq(part, cpm_pl_str(names[i])); i++)
			;
		if(i == 3 || n == 3) {
			LM_ERR("parameter identity: \"%s\"; it takes what a sender is "
				   "known by, in order: pai, auth, from, with commas "
				   "between\n",
					pf_params.identity);
			return -1;
		}
		pf_conf.identity[n++] = (enum pf_identity)i;
	}
	pf_conf.identity_count = n;
	return 0;
}

/* A next hop: none, or a SIP URI. */
static int hop_check(const char *name, const char *uri)
{
	struct cpm_pl a = cpm_pl_str(uri);

	if(a.n > 0 && !cpm_pl_istarts(a, CPM_PL_LIT("sip:"))
			&& !cpm_pl_istarts(a, CPM_PL_LIT("sips:"))) {
		LM_ERR("parameter %s: \"%s\"; it takes a SIP URI, such as "
			   "sip:host.example.org;lr\n",
				name, uri);
		return -1;
	}
	return 0;
}

/* A Route's value: <uri>, with the parameter of a loose router. */
static int route_of(const char *name, const char *uri, struct cpm_pl *route_r)
{
	static char texts[2][512];
	static size_t used;
	bool loose = strstr(uri, ";lr") != NULL;
	int n;

	if(hop_check(name, uri) < 0) {
		return -1;
	}
	if(uri[0] == '\0') {
		return 0;
	}
	if(strpbrk(uri, "<> \t\r\n\"") != NULL || strlen(uri) > 500 || used == 2) {
		LM_ERR("parameter %s: \"%s\"; it takes a SIP URI of at most 500 "
			   "characters, without <>\n",
				name, uri);
		return -1;
	}
	n = snprintf(texts[used], sizeof(texts[used]), "<%s%s>", uri,
			loose ? "" : ";lr");
	*route_r = cpm_pl(texts[used++], (size_t)n);
	return 0;
}

static int registrar_check(void)
{
	bool both = strcmp(pf_params.registrar, "both") == 0;

	pf_conf.registrar_usrloc =
			both || strcmp(pf_params.registrar, "usrloc") == 0;
	pf_conf.registrar_reginfo =
			both || strcmp(pf_params.registrar, "reginfo") == 0;
	if(!pf_conf.registrar_usrloc && !pf_conf.registrar_reginfo) {
		LM_ERR("parameter registrar: \"%s\"; it takes usrloc, reginfo or "
			   "both\n",
				pf_params.registrar);
		return -1;
	}
	return route_of("reg_uri", pf_params.reg_uri, &pf_conf.reg_hop) < 0
						   || route_of("reg_route", pf_params.reg_route,
									  &pf_conf.reg_route)
									  < 0
				   ? -1
				   : 0;
}

static int decisions_check(void)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor;

	if(pf_params.reject_code != 403 && pf_params.reject_code != 480
			&& pf_params.reject_code != 603 && pf_params.reject_code != 202) {
		LM_ERR("parameter reject_code: %d; it takes 403, 480, 603, or 202 for "
			   "a rejection that the sender does not see\n",
				pf_params.reject_code);
		return -1;
	}
	pf_conf.isf_rewrite = strcmp(pf_params.isf_mode, "ruri") == 0;
	if(!pf_conf.isf_rewrite && strcmp(pf_params.isf_mode, "route") != 0) {
		LM_ERR("parameter isf_mode: \"%s\"; it takes route or ruri\n",
				pf_params.isf_mode);
		return -1;
	}
	if(hop_check("isf_uri", pf_params.isf_uri) < 0
			|| hop_check("outbound_proxy", pf_params.outbound_proxy) < 0) {
		return -1;
	}
	if(pf_params.pf_uri[0] != '\0'
			&& cpm_aor_canon(cpm_pl_str(pf_params.pf_uri), buf, sizeof(buf),
					   &aor, NULL)
					   != CPM_OK) {
		LM_ERR("parameter pf_uri: \"%s\"; it takes a SIP URI with a user, such "
			   "as sip:cpm-pf@example.org\n",
				pf_params.pf_uri);
		return -1;
	}
	return 0;
}

static int notify_check(void)
{
	if(cpm_notify_event_parse(
			   cpm_pl_str(pf_params.notify_event), &pf_conf.notify_type)
			!= CPM_OK) {
		LM_ERR("parameter notify_event: \"%s\"; it takes message-summary or "
			   "deferred-messages\n",
				pf_params.notify_event);
		return -1;
	}
	return 0;
}

/* --------------------------------------------------------------- store */

/* The worker refuses as well; here the operator learns it at start. */
static const char *store_credentials_wrong(void)
{
	const char *names[] = {"CPM_STORE_USER", "CPM_STORE_PASSWORD"};
	struct stat st;
	size_t i;

	if(pf_params.store_credentials[0] != '\0') {
		if(stat(pf_params.store_credentials, &st) < 0) {
			return strerror(errno);
		}
		return !S_ISREG(st.st_mode)		 ? "not a file"
			   : (st.st_mode & 077) != 0 ? "others than its owner may use it"
										 : NULL;
	}
	for(i = 0; i < 2; i++) {
		if(getenv(names[i]) == NULL) {
			return "not given, nor CPM_STORE_USER and CPM_STORE_PASSWORD in "
				   "the environment";
		}
	}
	return NULL;
}

static bool store_url_is_good(struct cpm_pl url)
{
	size_t i = cpm_pl_starts(url, CPM_PL_LIT("imaps://"))  ? 8
			   : cpm_pl_starts(url, CPM_PL_LIT("imap://")) ? 7
														   : 0;
	struct cpm_pl host = cpm_pl_from(url, i);

	if(i == 0 || host.n == 0 || url.n > 500) {
		return false;
	}
	for(i = 0; i < host.n; i++) {
		if(host.p[i] <= ' ' || host.p[i] > '~'
				|| strchr("/@?#;\"\\", host.p[i]) != NULL) {
			return false;
		}
	}
	return true;
}

static int store_check(void)
{
	struct cpm_pl folder = cpm_pl_str(pf_params.store_folder);
	const char *login = pf_params.store_login;
	const char *tls = pf_params.store_tls;
	struct cpm_diag diag;
	const char *wrong;

	if(pf_params.store_url[0] == '\0') {
		return 0;
	}
	if(!store_url_is_good(cpm_pl_str(pf_params.store_url))) {
		LM_ERR("parameter store_url: it takes imap://host[:port] or "
			   "imaps://host[:port], without a login, which is that of "
			   "store_credentials\n");
		return -1;
	}
	if(cpm_object_template_check(folder, &diag) != CPM_OK) {
		LM_ERR("parameter store_folder: \"%s\": %s at character %u; it takes "
			   "levels by /, in which {user}, {originator}, {conversation}, "
			   "{contribution} and {date} may stand\n",
				pf_params.store_folder, diag.why, (unsigned)diag.at);
		return -1;
	}
	if(strcmp(login, "user") != 0 && strcmp(login, "service") != 0
			&& !cpm_object_template_has(cpm_pl_str(login), "user")) {
		LM_ERR("parameter store_login: \"%s\"; it takes user, service, or a "
			   "login name with {user} in it, such as {user}*{login}\n",
				login);
		return -1;
	}
	if(strcmp(login, "service") == 0
			&& !cpm_object_template_has(folder, "user")) {
		LM_ERR("parameter store_folder: \"%s\"; with store_login service it "
			   "takes {user}: else all users would share their folders\n",
				pf_params.store_folder);
		return -1;
	}
	if(strcmp(tls, "auto") != 0 && strcmp(tls, "required") != 0
			&& strcmp(tls, "none") != 0) {
		LM_ERR("parameter store_tls: \"%s\"; it takes auto, required or "
			   "none\n",
				tls);
		return -1;
	}
	if(pf_params.store_ca[0] != '\0' && access(pf_params.store_ca, R_OK) < 0) {
		LM_ERR("parameter store_ca: \"%s\": %s; it takes a PEM file\n",
				pf_params.store_ca, strerror(errno));
		return -1;
	}
	wrong = store_credentials_wrong();
	if(wrong != NULL) {
		LM_ERR("parameter store_credentials: \"%s\": %s; it takes a file of "
			   "the lines \"user NAME\" and \"password WORD\" with mode "
			   "600\n",
				pf_params.store_credentials, wrong);
		return -1;
	}
	return 0;
}

/* --------------------------------------------------------------- admin */

static int admin_tls_check(bool near)
{
	const struct
	{
		const char *name;
		const char *path;
	} files[] = {
			{"admin_cert", pf_params.admin_cert},
			{"admin_key", pf_params.admin_key},
	};
	bool plain = strcmp(pf_params.admin_tls, "none") == 0;
	size_t i;

	if(!plain && strcmp(pf_params.admin_tls, "auto") != 0) {
		LM_ERR("parameter admin_tls: \"%s\"; it takes auto or none\n",
				pf_params.admin_tls);
		return -1;
	}
	for(i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if(files[i].path[0] != '\0' && access(files[i].path, R_OK) != 0) {
			LM_ERR("parameter %s: \"%s\" cannot be read; it takes the path of "
				   "a PEM file\n",
					files[i].name, files[i].path);
			return -1;
		}
	}
	if(pf_params.admin_key[0] != '\0' && pf_params.admin_cert[0] == '\0') {
		LM_ERR("parameter admin_key: it takes admin_cert beside it\n");
		return -1;
	}
	if(!near && !plain && pf_params.admin_cert[0] == '\0') {
		LM_ERR("parameter admin_listen: %s is not a loopback address, and "
			   "admin_cert is not set: tokens could be read on their way; "
			   "admin_tls none is for where something else encrypts\n",
				pf_params.admin_listen);
		return -1;
	}
	return 0;
}

/* The worker refuses as well; here the operator learns it at start. */
static int admin_check(void)
{
	struct cpm_pl listen = cpm_pl_str(pf_params.admin_listen);
	enum host host = listen_read(listen, 1);

	pf_conf.admin = listen.n > 0;
	if(!pf_conf.admin) {
		return 0;
	}
	if(host == HOST_NONE) {
		LM_ERR("parameter admin_listen: \"%s\"; it takes an address and a "
			   "port, such as 127.0.0.1:8060 or [::1]:8060, or \"\" for no "
			   "endpoint\n",
				pf_params.admin_listen);
		return -1;
	}
	if(host != HOST_LOOPBACK && pf_params.admin_token_file[0] == '\0') {
		LM_ERR("parameter admin_listen: %s is not a loopback address, and "
			   "admin_token_file is not set: the endpoint would be open to "
			   "everybody\n",
				pf_params.admin_listen);
		return -1;
	}
	if(pf_params.admin_token_file[0] != '\0'
			&& access(pf_params.admin_token_file, R_OK) != 0) {
		LM_ERR("parameter admin_token_file: \"%s\" cannot be read; it takes "
			   "the "
			   "path of a file with lines \"read <token>\" or \"read-write "
			   "<token>\"\n",
				pf_params.admin_token_file);
		return -1;
	}
	return admin_tls_check(host == HOST_LOOPBACK);
}

/* ------------------------------------------------------- push gateway */

/* The worker refuses as well; here the operator learns it at start. */
static int push_check(void)
{
	uint64_t ms[CPM_PAP_INTERVALS_MAX];
	struct cpm_pl url = cpm_pl_str(pf_params.push_url);
	struct cpm_pl host;
	struct stat st;
	size_t n;

	pf_conf.push = url.n > 0;
	if(pf_conf.push && cpm_pap_url(url, &host) != CPM_OK) {
		LM_ERR("parameter push_url: it takes the URL of a push gateway, such "
			   "as https://ppg.example.org/pap, without a login in it (see "
			   "push_credentials)\n");
		return -1;
	}
	if(strcmp(pf_params.push_format, "pap") != 0
			&& strcmp(pf_params.push_format, "json") != 0) {
		LM_ERR("parameter push_format: \"%s\"; it takes pap or json\n",
				pf_params.push_format);
		return -1;
	}
	if(cpm_pap_intervals(cpm_pl_str(pf_params.push_retry_intervals), ms, &n)
			!= CPM_OK) {
		LM_ERR("parameter push_retry_intervals: \"%s\"; it takes 1 to %d "
			   "numbers of seconds, 1 to 86400, with commas between\n",
				pf_params.push_retry_intervals, CPM_PAP_INTERVALS_MAX);
		return -1;
	}
	if(pf_params.push_ca[0] != '\0' && access(pf_params.push_ca, R_OK) != 0) {
		LM_ERR("parameter push_ca: \"%s\" cannot be read; it takes the path "
			   "of a PEM file\n",
				pf_params.push_ca);
		return -1;
	}
	if(pf_params.push_credentials[0] != '\0'
			&& (stat(pf_params.push_credentials, &st) != 0
					|| !S_ISREG(st.st_mode)
					|| (st.st_mode & (S_IRWXO | S_IWGRP)) != 0)) {
		LM_ERR("parameter push_credentials: \"%s\" cannot be read, or not by "
			   "its owner and group alone (chmod 600); it takes the path of a "
			   "file with a line \"user:password\" or \"Bearer <token>\"\n",
				pf_params.push_credentials);
		return -1;
	}
	return 0;
}

/* By default the program lies beside the module. */
static int worker_check(void)
{
	Dl_info info;
	const char *slash;

	if(pf_params.worker[0] != '\0') {
		snprintf(pf_conf.worker_path, sizeof(pf_conf.worker_path), "%s",
				pf_params.worker);
	} else if(dladdr((void *)pf_conf_check, &info) != 0
			  && (slash = strrchr(info.dli_fname, '/')) != NULL) {
		snprintf(pf_conf.worker_path, sizeof(pf_conf.worker_path),
				"%.*s/cpm_pf_worker", (int)(slash - info.dli_fname),
				info.dli_fname);
	}
	if((pf_conf.admin || pf_conf.push || pf_conf.msrp_listen_count > 0)
			&& access(pf_conf.worker_path, X_OK) != 0) {
		LM_ERR("parameter worker: no program at \"%s\"; it takes the path of "
			   "cpm_pf_worker, which is built and installed with the module\n",
				pf_conf.worker_path);
		return -1;
	}
	return 0;
}

/* ----------------------------------------------------------------- all */

/* The right side of Call-IDs: ours, and the same on every node, so that a
 * client sees nothing of who delivers. */
static struct cpm_pl call_id_host(void)
{
	static char host[128];
	struct cpm_pl aor;
	char buf[CPM_AOR_MAX];

	if(cpm_aor_canon(cpm_pl_str(pf_params.pf_uri), buf, sizeof(buf), &aor, NULL)
			== CPM_OK) {
		return cpm_pl_str(cpm_pl_cstr(cpm_aor_host(aor), host, sizeof(host)));
	}
	if(pf_conf.domain_count > 0) {
		return pf_conf.domains[0];
	}
	return CPM_PL_LIT("cpm.invalid");
}

bool pf_conf_of_module(const char *group, const char *name, int *v_r)
{
	str g = {(char *)group, (int)strlen(group)};
	str n = {(char *)name, (int)strlen(name)};
	cfg_group_t *in = NULL;
	cfg_mapping_t *var = NULL;

	if(cfg_lookup_var(&g, &n, &in, &var) != 0 || in->handle == NULL
			|| *in->handle == NULL || CFG_VAR_TYPE(var) != CFG_VAR_INT) {
		return false;
	}
	memcpy(v_r, (char *)*in->handle + var->offset, sizeof(*v_r));
	return true;
}

/* What the neighbours are set to, and we must agree with. */
static void neighbours_read(void)
{
	int case_sensitive = 1;
	int ticks = 0;
	uint64_t answer_ms;

	/* registrar's users are Bob or bob, and ours must be the same */
	pf_conf.fold_case =
			pf_conf_of_module("registrar", "case_sensitive", &case_sensitive)
			&& !case_sensitive;
	/* a delivery that counts as dead while tm still waits for its answer
	 * would meet its own successor at the client */
	if(pf_conf_of_module("tm", "fr_timer", &ticks)) {
		answer_ms = TICKS_TO_MS((uint64_t)ticks) + 2000;
		if(pf_conf.deliver.lease_ms < answer_ms) {
			LM_NOTICE("parameter lease_time: %d is raised to %llu ms, as tm "
					  "waits %llu ms for an answer (fr_timer)\n",
					pf_params.lease_time, (unsigned long long)answer_ms,
					(unsigned long long)(answer_ms - 2000));
			pf_conf.deliver.lease_ms = answer_ms;
		}
	}
}

/* The same at every start of this node, and another on every other node that
 * is alive: the host, and where SIP is listened for. The boot is of this start
 * alone. */
static void node_set(void)
{
	char text[256] = "";
	uint64_t h = CPM_HASH_INIT;
	uint32_t boot = 0;
	struct socket_info *lists[] = {udp_listen, tcp_listen};
	struct socket_info *s;
	FILE *f = fopen("/etc/machine-id", "r");
	size_t i;

	if(f != NULL) {
		(void)!fread(text, 1, sizeof(text) - 1, f);
		fclose(f);
	}
	h = cpm_hash64(h, cpm_pl_str(text));
	if(gethostname(text, sizeof(text) - 1) == 0) {
		h = cpm_hash64(h, cpm_pl_str(text));
	}
	for(i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		for(s = lists[i]; s != NULL; s = s->next) {
			h = cpm_hash64(h, cpm_pl(s->sock_str.s, (size_t)s->sock_str.len));
		}
	}
	if(getrandom(&boot, sizeof(boot), 0) != (ssize_t)sizeof(boot)) {
		boot = (uint32_t)io_clock_wall_ms();
	}
	snprintf(pf_conf.node, sizeof(pf_conf.node), "%08x.%08x.",
			(unsigned)(h ^ h >> 32), (unsigned)boot);
}

int pf_conf_check(void)
{
	struct cpm_accept_conf *a = &pf_conf.accept;
	struct cpm_deliver_conf *d = &pf_conf.deliver;
	size_t prefix_len = strlen(pf_params.key_prefix);

	if(numbers_check() < 0 || retry_check() < 0 || admin_check() < 0
			|| push_check() < 0 || worker_check() < 0 || identity_check() < 0
			|| decisions_check() < 0 || store_check() < 0 || notify_check() < 0
			|| msrp_check() < 0 || registrar_check() < 0) {
		return -1;
	}
	if(prefix_len == 0 || prefix_len > CPM_QUEUE_PREFIX_MAX
			|| strpbrk(pf_params.key_prefix, "{} ") != NULL) {
		LM_ERR("parameter key_prefix: \"%s\"; it takes 1 to %d characters "
			   "without space and braces\n",
				pf_params.key_prefix, CPM_QUEUE_PREFIX_MAX);
		return -1;
	}
	if(pf_conf.redis_count == 0
			&& pf_conf_redis_param(PARAM_STRING, "addr=127.0.0.1;port=6379")
					   < 0) {
		return -1;
	}
	pf_conf.redis.connect_timeout_ms =
			(unsigned)pf_params.redis_connect_timeout_ms;
	pf_conf.redis.cmd_timeout_ms = (unsigned)pf_params.redis_cmd_timeout_ms;
	pf_conf.redis.wait_replicas = (unsigned)pf_params.redis_wait_replicas;
	pf_conf.redis.wait_ms = (unsigned)pf_params.redis_wait_ms;
	pf_conf.key_prefix = cpm_pl(pf_params.key_prefix, prefix_len);
	pf_conf.delivery_workers = (unsigned)pf_params.delivery_workers;
	pf_conf.delivery_parallel = (unsigned)pf_params.delivery_parallel;
	pf_conf.register_delay_ms = (uint64_t)pf_params.register_delay_ms;

	a->message_max_bytes = (size_t)pf_params.message_max_bytes;
	a->queue_max_messages = (uint64_t)pf_params.queue_max_messages;
	a->queue_max_bytes = (uint64_t)pf_params.queue_max_bytes;
	a->queue_max_per_sender = (uint64_t)pf_params.queue_max_per_sender;
	a->drop_oldest = strcmp(pf_params.overflow, "drop_oldest") == 0;
	a->default_expires_s = (uint64_t)pf_params.default_expires;
	a->max_expires_s = (uint64_t)pf_params.max_expires;
	a->check_in_ms = pf_conf.deliver.retry_ms[0];
	a->queued_code = (unsigned)pf_params.queued_code;
	a->domains = pf_conf.domains;
	a->domain_count = pf_conf.domain_count;
	a->call_id_host = call_id_host();
	a->imdn = pf_params.imdn != 0;
	pf_conf.job_max_attempts = (unsigned)pf_params.job_max_attempts;

	d->lease_ms = (uint64_t)pf_params.lease_time * 1000;
	d->max_attempts = (unsigned)pf_params.max_attempts;
	d->dedup_ms = (uint64_t)pf_params.dedup_time * 1000;
	d->session_window = CPM_PUSH_WINDOW;
	d->session_window_bytes = 1024 * 1024;
	d->session_max_messages = (unsigned)pf_params.session_max_messages;
	d->invite_ms = 180000; /* longer than tm waits by itself */
	d->check_max_ms = (uint64_t)pf_params.check_interval * 1000;
	neighbours_read();
	node_set();
	return 0;
}
