/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "courier_push.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <curl/curl.h>
#include <libxml/parser.h>

#include "../io/io_clock.h"
#include "../io/io_devices.h"
#include "admin_url.h"
#include "courier.h"
#include "worker_log.h"

#define RECENT_MAX 8	 /* of the queue, to find what to tell of */
#define REFUSED_MAX 1024 /* targets that are asked no more */
#define WORDS_MAX 96
#define SPARE_MS 2000

/* A target that was refused, in the life of one job: a job whose attempts are
 * fewer is another one. */
struct refused
{
	uint64_t hash; /* of the user and the target */
	unsigned attempts;
};

struct push
{
	struct courier *c;
	CURL *curl;
	struct curl_slist *headers;
	struct push_login login;
	struct cpm_pl host;		 /* of push_url */
	char source_host[256];	 /* right side of push-ids */
	uint64_t boot, sequence; /* what makes them unique */
	struct refused refused[REFUSED_MAX];
	size_t refused_next;
	struct worker_log_limit limit;
	char answer[PUSH_ANSWER_MAX];
	size_t answer_len;
	bool too_large;
};

/* What is told of the queue; copies, as the store's reply does not stay. */
struct facts
{
	struct cpm_pap pap;
	char subject[CPM_PAP_TEXT_MAX + 4];
	char from[CPM_PAP_TEXT_MAX + 4];
};

/* ---- credentials ---- */

static int login_set(
		struct cpm_pl text, struct push_login *login_r, char *why, size_t cap)
{
	struct push_login login;
	struct cpm_pl v;

	if(cpm_pap_credentials(text, &login.kind, &v) != CPM_OK
			|| v.n >= sizeof(login.text)) {
		(void)snprintf(why, cap,
				"its first line is neither \"user:password\" nor what stands "
				"in an Authorization header, such as \"Bearer ...\"");
		return CPM_EPROTO;
	}
	cpm_pl_cstr(v, login.text, sizeof(login.text));
	*login_r = login;
	explicit_bzero(&login, sizeof(login));
	return CPM_OK;
}

int push_login_load(
		const char *path, struct push_login *login_r, char *why, size_t cap)
{
	const char *env = getenv("CPM_PUSH_CREDENTIALS");
	char text[2048];
	struct stat st;
	ssize_t n = -1;
	int fd;

	if(path[0] == '\0') {
		memset(login_r, 0, sizeof(*login_r));
		return env != NULL && env[0] != '\0'
					   ? login_set(cpm_pl_str(env), login_r, why, cap)
					   : CPM_OK;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if(fd < 0 || fstat(fd, &st) != 0) {
		(void)snprintf(why, cap, "%s", strerror(errno));
	} else if(!S_ISREG(st.st_mode)) {
		(void)snprintf(why, cap, "it is no plain file");
	} else if((st.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
		(void)snprintf(why, cap,
				"others may read it, or its group write it: chmod 600");
	} else {
		n = read(fd, text, sizeof(text));
		if(n < 0)
			(void)snprintf(why, cap, "%s", strerror(errno));
	}
	if(fd >= 0)
		close(fd);
	int rc = n >= 0 ? login_set(cpm_pl(text, (size_t)n), login_r, why, cap)
					: CPM_EPROTO;
	explicit_bzero(text, sizeof(text));
	return rc;
}

/* ---- answers of PAP ---- */

static bool is_named(const xmlNode *n, const char *name)
{
	return n->type == XML_ELEMENT_NODE
		   && strcmp((const char *)n->name, name) == 0;
}

static const xmlNode *child_named(const xmlNode *n, const char *name)
{
	for(n = n->children; n != NULL; n = n->next)
		if(is_named(n, name))
			return n;
	return NULL;
}

/* Visible ASCII and spaces, behind what is in words already. */
static void words_add(char *words, size_t cap, struct cpm_pl a)
{
	size_t n = strlen(words);

	for(size_t i = 0; i < a.n && n + 1 < cap; i++)
		words[n++] = a.p[i] > 0x20 && a.p[i] < 0x7f ? a.p[i] : ' ';
	words[n] = '\0';
}

/* code and desc of a result. */
static enum cpm_pap_answer result_read(
		const xmlNode *n, char *words, size_t cap)
{
	xmlChar *code = xmlGetNoNsProp(n, (const xmlChar *)"code");
	xmlChar *desc = xmlGetNoNsProp(n, (const xmlChar *)"desc");
	enum cpm_pap_answer answer = CPM_PAP_LATER;
	uint64_t v = 0;

	words[0] = '\0';
	if(cpm_pl_u64(cpm_pl_str((const char *)code), 9999, &v) == CPM_OK) {
		answer = cpm_pap_result((unsigned)v);
		(void)snprintf(words, cap, "%u ", (unsigned)v);
		words_add(words, cap, cpm_pl_str((const char *)desc));
	} else
		(void)snprintf(words, cap, "malformed answer: no code");
	xmlFree(code);
	xmlFree(desc);
	return answer;
}

/* There are none in PAP, and they are a way to make a little into a lot. */
static void entity_refuse(void *ctx, const xmlChar *name, int type,
		const xmlChar *public_id, const xmlChar *system_id, xmlChar *content)
{
	(void)name;
	(void)type;
	(void)public_id;
	(void)system_id;
	(void)content;
	xmlStopParser(ctx);
}

/* A DOCTYPE may be there, and is not loaded. */
static xmlDoc *answer_parse(struct cpm_pl body)
{
	xmlParserCtxt *ctxt = xmlNewParserCtxt();
	xmlDoc *doc = NULL;

	if(ctxt != NULL) {
		ctxt->sax->entityDecl = entity_refuse;
		doc = xmlCtxtReadMemory(ctxt, body.p, (int)body.n, NULL, NULL,
				XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
		if(!ctxt->wellFormed && doc != NULL) {
			xmlFreeDoc(doc);
			doc = NULL;
		}
		xmlFreeParserCtxt(ctxt);
	}
	return doc;
}

enum cpm_pap_answer push_answer_read(
		struct cpm_pl body, char *words, size_t cap)
{
	enum cpm_pap_answer answer = CPM_PAP_LATER;
	xmlDoc *doc =
			body.n > 0 && body.n <= PUSH_ANSWER_MAX ? answer_parse(body) : NULL;
	const xmlNode *root = doc != NULL ? xmlDocGetRootElement(doc) : NULL;
	const xmlNode *response = root != NULL && is_named(root, "pap")
									  ? child_named(root, "push-response")
									  : NULL;
	const xmlNode *result =
			response != NULL ? child_named(response, "response-result") : NULL;
	const xmlNode *bad = root != NULL && is_named(root, "pap")
								 ? child_named(root, "badmessage-response")
								 : NULL;

	if(result != NULL)
		answer = result_read(result, words, cap);
	else if(bad != NULL) {
		/* it could not read what we said, and never will */
		(void)result_read(bad, words, cap);
		answer = CPM_PAP_REFUSED;
	} else
		(void)snprintf(words, cap, "malformed answer: %s",
				doc == NULL ? "no XML" : "no response-result");
	if(doc != NULL)
		xmlFreeDoc(doc);
	return answer;
}

/* ---- HTTP ---- */

static size_t answer_take(char *data, size_t size, size_t count, void *arg)
{
	struct push *p = arg;
	size_t n = size * count;

	if(n > sizeof(p->answer) - p->answer_len) {
		p->too_large = true;
		return 0; /* ends the transfer */
	}
	memcpy(p->answer + p->answer_len, data, n);
	p->answer_len += n;
	return n;
}

static bool header_add(struct push *p, const char *line)
{
	struct curl_slist *more = curl_slist_append(p->headers, line);

	if(more == NULL)
		return false;
	p->headers = more;
	return true;
}

static bool headers_make(struct push *p, const struct worker_conf *conf)
{
	char line[sizeof(p->login.text) + 32];
	bool json = conf->push_format == CPM_PAP_JSON;

	(void)snprintf(line, sizeof(line), "Content-Type: %s",
			cpm_pap_type(conf->push_format));
	bool ok = header_add(p, line)
			  && header_add(p, json ? "Accept: application/json"
									: "Accept: application/xml")
			  && header_add(p, "Expect:");
	if(ok && p->login.text[0] != '\0'
			&& p->login.kind == CPM_PAP_LOGIN_HEADER) {
		(void)snprintf(line, sizeof(line), "Authorization: %s", p->login.text);
		ok = header_add(p, line);
	}
	explicit_bzero(line, sizeof(line));
	return ok;
}

/* What is the same of every request. */
static bool curl_make(struct push *p, const struct worker_conf *conf)
{
	CURL *c = curl_easy_init();
	bool ok = c != NULL;

	p->curl = c;
#define SET(option, value) \
	(ok = ok && curl_easy_setopt(c, (option), (value)) == CURLE_OK)
	SET(CURLOPT_URL, conf->push_url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_HTTPHEADER, p->headers);
	SET(CURLOPT_USERAGENT, "cpm_pf");
	SET(CURLOPT_WRITEFUNCTION, answer_take);
	SET(CURLOPT_WRITEDATA, p);
	SET(CURLOPT_TIMEOUT_MS, (long)conf->push_timeout * 1000);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)conf->push_timeout * 1000);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_NOPROXY, "*");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_MAXCONNECTS, 1L);
	if(conf->push_ca[0] != '\0')
		SET(CURLOPT_CAINFO, conf->push_ca);
	if(p->login.text[0] != '\0' && p->login.kind == CPM_PAP_LOGIN_USER) {
		SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(CURLOPT_USERPWD, p->login.text);
	}
#undef SET
	return ok;
}

/* Whether the answer holds the credentials, as they are or as they are sent:
 * what is behind the user, or behind "Bearer". */
static bool tells_login(const struct push *p)
{
	char sent[ADMIN_BASE64_LEN(sizeof(p->login.text))];
	struct cpm_pl word = cpm_pl_str(p->login.text);
	struct cpm_wr w;
	bool found;

	cpm_wr_init(&w, sent, sizeof(sent));
	admin_base64_put(&w, word);
	found = word.n > 0
			&& memmem(p->answer, p->answer_len, sent, cpm_wr_pl(&w).n) != NULL;
	(void)cpm_pl_cut(&word, p->login.kind == CPM_PAP_LOGIN_USER ? ':' : ' ');
	found = found
			|| (word.n > 0
					&& memmem(p->answer, p->answer_len, word.p, word.n)
							   != NULL);
	explicit_bzero(sent, sizeof(sent));
	return found;
}

/* One POST. words: of what went wrong. */
static enum cpm_pap_answer post(struct push *p, struct cpm_pl body, char *words,
		size_t cap, uint64_t *retry_after_ms)
{
	enum cpm_pap_format format = p->c->conf->push_format;
	enum cpm_pap_answer answer;
	curl_off_t after = 0;
	long status = 0;
	CURLcode code;

	p->answer_len = 0;
	p->too_large = false;
	(void)curl_easy_setopt(p->curl, CURLOPT_POSTFIELDS, body.p);
	(void)curl_easy_setopt(
			p->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
	code = curl_easy_perform(p->curl);
	if(code != CURLE_OK) {
		(void)snprintf(words, cap, "%s",
				p->too_large ? "answer too large" : curl_easy_strerror(code));
		return CPM_PAP_LATER;
	}
	(void)curl_easy_getinfo(p->curl, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(p->curl, CURLINFO_RETRY_AFTER, &after);
	if(after > CPM_PAP_RETRY_AFTER_MAX_S)
		after = CPM_PAP_RETRY_AFTER_MAX_S;
	answer = cpm_pap_status(
			format, status > 0 && status < 1000 ? (unsigned)status : 0);
	if(answer == CPM_PAP_READ) {
		answer = push_answer_read(cpm_pl(p->answer, p->answer_len), words, cap);
		/* a gateway that repeats what it was told is not repeated */
		if(tells_login(p))
			(void)snprintf(words, cap, "words left out");
		return answer;
	}
	(void)snprintf(words, cap, "HTTP %ld", status);
	if(answer == CPM_PAP_LATER && after > 0)
		*retry_after_ms = (uint64_t)after * 1000;
	return answer;
}

/* ---- a job ---- */

static uint64_t target_hash(struct cpm_pl aor, const struct cpm_pn_device *d)
{
	uint64_t h = cpm_hash64(CPM_HASH_INIT, aor);

	return d != NULL ? h ^ cpm_pn_hash(d) : h;
}

/* Whether this job's target is asked no more. */
static bool is_refused(struct push *p, const struct cpm_job *job, uint64_t hash)
{
	for(size_t i = 0; i < REFUSED_MAX; i++) {
		struct refused *r = &p->refused[i];
		if(r->attempts > 0 && r->hash == hash) {
			if(r->attempts < job->attempts)
				return true;
			r->attempts = 0; /* of a former job */
		}
	}
	return false;
}

static void refused_add(
		struct push *p, const struct cpm_job *job, uint64_t hash)
{
	p->refused[p->refused_next] = (struct refused){hash, job->attempts};
	p->refused_next = (p->refused_next + 1) % REFUSED_MAX;
}

/* A copy, cut at a character's end by whoever writes it. */
static struct cpm_pl keep(struct cpm_pl a, char *buf, size_t cap)
{
	size_t n = a.n < cap ? a.n : cap;

	if(n > 0)
		memcpy(buf, a.p, n);
	return cpm_pl(buf, n);
}

/* CPM_OK; CPM_ENOENT: there is nothing to be woken for; or the store's. */
static int facts_get(struct push *p, const struct cpm_job *job, struct facts *f)
{
	struct cpm_queue_item items[RECENT_MAX];
	struct cpm_queue_stat stat;
	size_t count = 0;
	const struct cpm_msg *m = NULL;
	int rc = io_queue_recent(
			p->c->queue, job->aor, RECENT_MAX, items, &count, &stat);

	if(rc != CPM_OK)
		return rc;
	/* what the user keeps, or nobody could deliver, is nothing new */
	if(stat.queued + stat.leased == 0)
		return CPM_ENOENT;
	memset(f, 0, sizeof(*f));
	f->pap.total = stat.messages;
	/* the newest that somebody wrote */
	for(size_t i = 0; i < count && m == NULL; i++) {
		if((items[i].state == CPM_STATE_QUEUED
				   || items[i].state == CPM_STATE_LEASED)
				&& (items[i].msg.flags & CPM_MSG_F_IMDN) == 0)
			m = &items[i].msg;
	}
	if(m == NULL)
		return CPM_OK;
	f->pap.subject = keep(m->subject, f->subject, sizeof(f->subject));
	if((m->flags & (CPM_MSG_F_WITHHELD | CPM_MSG_F_ANONYMOUS)) == 0)
		f->pap.from = keep(m->from, f->from, sizeof(f->from));
	f->pap.date_ms = m->received_ms;
	f->pap.size = m->body_len;
	f->pap.deliver_before_s = m->expires_ms / 1000;
	return CPM_OK;
}

/* Whether a client is still remembered with this very target. */
static bool is_known(
		const struct io_devices *devices, const struct cpm_pn_device *d)
{
	for(size_t i = 0; i < devices->count; i++)
		if(cpm_pl_eq(devices->v[i].instance, d->instance)
				&& cpm_pn_eq(&devices->v[i].pn, &d->pn))
			return true;
	return false;
}

static void push_log(struct push *p, const struct cpm_job *job,
		enum worker_level level, const char *event, const char *words)
{
	char aor[3 * CPM_AOR_MAX], text[3 * WORDS_MAX];
	unsigned left_out;

	if(worker_log_may(&p->limit, &left_out))
		worker_log(level, "push: %s aor=%s attempt=%u left_out=%u answer=%s",
				event, worker_log_escape(job->aor, aor, sizeof(aor)),
				job->attempts, left_out,
				worker_log_escape(cpm_pl_str(words), text, sizeof(text)));
}

/* What became of the targets of one run. */
struct outcome
{
	unsigned taken, later, refused, gone;
	uint64_t retry_after_ms;
	char words[WORDS_MAX]; /* of the last that failed */
};

/* d: NULL: the user's address. */
static void push_one(struct push *p, const struct cpm_job *job, struct facts *f,
		const struct cpm_pn_device *d, struct outcome *o)
{
	static char body[CPM_PAP_BODY_MAX]; /* one thread */
	uint64_t hash = target_hash(job->aor, d);
	char words[WORDS_MAX] = "";
	char push_id[sizeof(p->source_host) + 48];
	enum cpm_pap_answer answer;
	struct cpm_wr w;

	if(is_refused(p, job, hash)) {
		o->refused++;
		return;
	}
	(void)snprintf(push_id, sizeof(push_id), "%016llx%08llx@%s",
			(unsigned long long)(p->boot ^ hash),
			(unsigned long long)p->sequence++, p->source_host);
	f->pap.push_id = cpm_pl_str(push_id);
	f->pap.pn = d != NULL ? &d->pn : NULL;
	cpm_wr_init(&w, body, sizeof(body));
	if(cpm_pap_body(&f->pap, p->c->conf->push_format, &w) != CPM_OK) {
		answer = CPM_PAP_REFUSED;
		(void)snprintf(words, sizeof(words), "too large");
	} else
		answer = post(
				p, cpm_wr_pl(&w), words, sizeof(words), &o->retry_after_ms);
	courier_stat(p->c,
			answer == CPM_PAP_TAKEN ? CPM_STAT_pushed : CPM_STAT_push_failed);
	if(answer != CPM_PAP_TAKEN)
		memcpy(o->words, words, sizeof(o->words));
	switch(answer) {
		case CPM_PAP_TAKEN:
			o->taken++;
			break;
		case CPM_PAP_GONE:
			o->gone++;
			push_log(p, job, WORKER_NOTICE, "target-gone", words);
			/* should this fail: it is asked, and gone, once more */
			if(d != NULL)
				(void)io_devices_drop(p->c->queue, job->aor, d);
			refused_add(p, job, hash);
			break;
		case CPM_PAP_REFUSED:
			o->refused++;
			push_log(p, job, WORKER_WARN, "target-refused", words);
			refused_add(p, job, hash);
			break;
		case CPM_PAP_LATER:
		case CPM_PAP_READ:
			o->later++;
			break;
	}
}

/* The push job of what is queued now has come to its end. */
static enum courier_result ended(struct push *p, const struct cpm_job *job)
{
	(void)io_devices_done(
			p->c->queue, job->aor, true, p->c->conf->push_data_ttl_ms);
	return COURIER_DONE;
}

static enum courier_result judge(struct push *p, const struct cpm_job *job,
		const struct outcome *o, char *error, size_t cap, uint64_t *retry_in_ms)
{
	const struct worker_conf *conf = p->c->conf;
	size_t i = job->attempts > 0 ? job->attempts - 1 : 0;
	bool last = job->attempts >= (unsigned)conf->push_max;

	(void)snprintf(error, cap, "%s", o->words);
	if(o->taken + o->later == 0) {
		if(o->refused > 0)
			return COURIER_GIVE_UP;
		push_log(p, job, WORKER_NOTICE, "no-target", o->words);
		return ended(p, job);
	}
	if(last && o->taken == 0)
		return COURIER_GIVE_UP;
	if(last) {
		push_log(p, job, WORKER_NOTICE, "unheard", "");
		return ended(p, job);
	}
	*retry_in_ms = conf->push_retry_ms[i < conf->push_retries
											   ? i
											   : conf->push_retries - 1];
	if(*retry_in_ms < o->retry_after_ms)
		*retry_in_ms = o->retry_after_ms;
	return o->taken > 0 ? COURIER_AGAIN : COURIER_RETRY;
}

static enum courier_result store_down(char *error, size_t cap, int rc)
{
	(void)snprintf(error, cap, "store: %s", cpm_rc_name(rc));
	return COURIER_RETRY;
}

static enum courier_result push_run(void *ctx, const struct cpm_job *job,
		char *error, size_t cap, uint64_t *retry_in_ms)
{
	struct push *p = ctx;
	const struct worker_conf *conf = p->c->conf;
	struct io_devices devices;
	struct outcome o = {.taken = 0};
	struct cpm_pn_device known[CPM_PN_DEVICES_MAX];
	struct cpm_pn_job to;
	struct facts f;
	size_t n = 0;
	int rc;

	if(cpm_pn_job_decode(job->blob, &to) != CPM_OK) {
		(void)snprintf(error, cap, "bad-job");
		return COURIER_GIVE_UP;
	}
	rc = facts_get(p, job, &f);
	if(rc == CPM_ENOENT)
		return COURIER_DONE;
	if(rc != CPM_OK)
		return store_down(error, cap, rc);
	f.pap.aor = job->aor;
	f.pap.source = cpm_pl_str(conf->push_source);
	f.pap.host = p->host;
	f.pap.fields = to.fields;
	if(to.count > 0) {
		rc = io_devices_get(p->c->queue, job->aor, io_clock_wall_ms(),
				conf->push_data_ttl_ms, &devices);
		if(rc != CPM_OK)
			return store_down(error, cap, rc);
		for(size_t i = 0; i < to.count; i++)
			if(is_known(&devices, &to.devices[i]))
				known[n++] = to.devices[i];
	}
	for(size_t i = 0; i < n + (to.address ? 1 : 0); i++) {
		/* one push has the time of a lease; and the user may have come back */
		if(courier_renew(p->c) == CPM_ENOENT)
			return COURIER_DONE; /* of a lost lease nothing is settled */
		push_one(p, job, &f, i < n ? &known[i] : NULL, &o);
	}
	return judge(p, job, &o, error, cap, retry_in_ms);
}

/* ---- a kind ---- */

static uint64_t push_bound_ms(const struct worker_conf *conf)
{
	return (uint64_t)conf->push_timeout * 1000 + SPARE_MS;
}

static bool push_is_wanted(const struct worker_conf *conf)
{
	return conf->push_url[0] != '\0';
}

static void source_host_set(struct push *p, const char *source)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor = CPM_PL_NULL;

	if(cpm_aor_canon(cpm_pl_str(source), buf, sizeof(buf), &aor, NULL)
			!= CPM_OK)
		aor = CPM_PL_LIT("sip:pf@cpm.invalid");
	cpm_pl_cstr(cpm_aor_host(aor), p->source_host, sizeof(p->source_host));
}

static int push_init(struct courier *c, void **ctx_r)
{
	const struct worker_conf *conf = c->conf;
	struct push *p = calloc(1, sizeof(*p));
	char why[128] = "no memory";

	if(p == NULL) {
		worker_log(WORKER_ERROR, "push: no-memory");
		return CPM_ENOMEM;
	}
	p->c = c;
	xmlInitParser();
	(void)cpm_pap_url(cpm_pl_str(conf->push_url), &p->host);
	source_host_set(p, conf->push_source);
	if(getrandom(&p->boot, sizeof(p->boot), 0) != (ssize_t)sizeof(p->boot))
		p->boot = io_clock_wall_ms();
	if(push_login_load(conf->push_credentials, &p->login, why, sizeof(why))
			!= CPM_OK) {
		worker_log(WORKER_ERROR, "push: push_credentials=%s: %s",
				conf->push_credentials, why);
		free(p);
		return CPM_EPROTO;
	}
	if(!headers_make(p, conf) || !curl_make(p, conf)) {
		worker_log(WORKER_ERROR, "push: libcurl does not take the settings");
		curl_slist_free_all(p->headers);
		curl_easy_cleanup(p->curl);
		explicit_bzero(&p->login, sizeof(p->login));
		free(p);
		return CPM_EPROTO;
	}
	*ctx_r = p;
	return CPM_OK;
}

const struct courier_kind courier_push = {
		.kind = CPM_JOB_PUSH,
		.name = "push",
		.bound_ms = push_bound_ms,
		.is_wanted = push_is_wanted,
		.init = push_init,
		.run = push_run,
};
