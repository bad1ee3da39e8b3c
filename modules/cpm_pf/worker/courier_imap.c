/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * courier_imap.c - jobs of kind store: an object into a folder of the Message
 * Storage Server, by IMAP4 (RFC 3501).
 *
 * runs in:  the courier's thread for them
 * owns:     one connection, kept for the next job of the same login
 *
 * libcurl connects, makes TLS, verifies the certificate and logs in
 * (CURLOPT_CONNECT_ONLY ends there); the commands are ours, because its own
 * APPEND marks what it puts as read and gives it no date.
 *
 *     EXAMINE folder             it is there:
 *       UID SEARCH HEADER ...    perhaps the object is there already, because
 *       UID FETCH headers        the answer to an APPEND was lost, or another
 *                                job of the same message came first: done
 *     CREATE folder              it is not there; "exists" is fine
 *     APPEND folder () "date" {n}
 *
 * The object is looked for before every APPEND: a message makes one object,
 * however often and by however many jobs it is asked for.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <curl/curl.h>

#include "../core/cpm_imap.h"
#include "../core/cpm_object.h"
#include "../io/io_clock.h"
#include "admin_url.h"
#include "courier.h"
#include "worker_log.h"

#define NAME_MAX_ 512
#define PASSWORD_MAX 512
#define IDLE_CLOSE_MS 10000
#define MATCHES_MAX 32
#define WORDS_MAX 200
#define COMMAND_MAX (2 * CPM_OBJECT_FOLDER_MAX + 256)

/* Of a command. */
enum answer
{
	ANSWER_OK,
	ANSWER_NO,
	ANSWER_BAD,
	ANSWER_NONE, /* the connection is lost, or time is up */
};

struct imap
{
	struct courier *c;
	char user[NAME_MAX_];
	char password[PASSWORD_MAX];

	CURL *curl; /* NULL: not connected */
	char login[NAME_MAX_];
	char authzid[NAME_MAX_];
	char delim;
	unsigned tag;
	uint64_t deadline_ms, used_ms;
	char in[CPM_IMAP_REPLY_MAX + 1];
	size_t in_n;
	char words[WORDS_MAX]; /* what went wrong, as the server says it */
	bool create;		   /* [TRYCREATE] */
	bool exists;		   /* [ALREADYEXISTS] */

	/* of untagged responses */
	uint32_t found[MATCHES_MAX];
	size_t found_n;
	bool got_delim;
	bool is_there;
	bool opened; /* the folder: only what it holds is not known */
	const struct cpm_msg *m;
};

/* ---- words ---- */

static bool holds(struct cpm_pl text, struct cpm_pl what)
{
	return what.n > 0 && text.n >= what.n
		   && memmem(text.p, text.n, what.p, what.n) != NULL;
}

/* Whether a text holds the password, in a form in which it is sent: as it is,
 * quoted, or of AUTHENTICATE LOGIN or PLAIN. */
static bool tells_password(const struct imap *im, struct cpm_pl text)
{
	struct cpm_pl word = cpm_pl_str(im->password);
	char plain[2 * NAME_MAX_ + PASSWORD_MAX];
	char sent[ADMIN_BASE64_LEN(sizeof(plain))];
	struct cpm_wr p, w;
	bool found = holds(text, word);

	cpm_wr_init(&w, sent, sizeof(sent));
	if(cpm_imap_quoted(&w, word) == CPM_OK)
		found = found || holds(text, cpm_pl(sent + 1, w.n - 2));
	cpm_wr_init(&w, sent, sizeof(sent));
	admin_base64_put(&w, word);
	found = found || holds(text, cpm_wr_pl(&w));
	cpm_wr_init(&p, plain, sizeof(plain));
	cpm_wr_str(&p, im->authzid);
	cpm_wr_chr(&p, '\0');
	cpm_wr_str(&p, im->login);
	cpm_wr_chr(&p, '\0');
	cpm_wr_pl_put(&p, word);
	cpm_wr_init(&w, sent, sizeof(sent));
	admin_base64_put(&w, cpm_wr_pl(&p));
	found = found || holds(text, cpm_wr_pl(&w));
	explicit_bzero(plain, sizeof(plain));
	explicit_bzero(sent, sizeof(sent));
	return found;
}

__attribute__((format(printf, 2, 3))) static void say(
		struct imap *im, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(im->words, sizeof(im->words), fmt, ap);
	va_end(ap);
}

static void say_status(
		struct imap *im, const char *command, const struct cpm_imap_reply *r)
{
	/* a server that repeats what it was told is not repeated */
	if(tells_password(im, r->rest)) {
		say(im, "%s: %.*s, words left out", command, (int)r->word.n, r->word.p);
		return;
	}
	say(im, "%s: %.*s %.*s", command, (int)r->word.n, r->word.p,
			(int)(r->rest.n < 150 ? r->rest.n : 150),
			r->rest.n > 0 ? r->rest.p : "");
}

/* ---- the connection ---- */

static uint64_t left_ms(const struct imap *im)
{
	uint64_t now = io_clock_mono_ms();

	return now < im->deadline_ms ? im->deadline_ms - now : 0;
}

static void disconnect(struct imap *im)
{
	if(im->curl != NULL)
		curl_easy_cleanup(im->curl);
	im->curl = NULL;
	im->in_n = 0;
}

/* A line that the server said while libcurl logged in: the last refusal is
 * what an operator wants to read. */
static size_t login_line(char *p, size_t size, size_t n, void *arg)
{
	struct imap *im = arg;
	struct cpm_imap_reply r;

	if(cpm_imap_next(cpm_pl(p, size * n), &r) > 0
			&& (cpm_pl_ieq(r.word, CPM_PL_LIT("NO"))
					|| cpm_pl_ieq(r.word, CPM_PL_LIT("BAD"))
					|| cpm_pl_ieq(r.word, CPM_PL_LIT("BYE"))))
		say_status(im, "login", &r);
	return size * n;
}

/* Whether the password would go no further than this host. */
static bool is_near(const char *url)
{
	struct cpm_pl host = cpm_pl_str(strstr(url, "://") + 3);

	if(host.n > 0 && host.p[0] == '[')
		return cpm_pl_starts(host, CPM_PL_LIT("[::1]"));
	host.n = cpm_pl_chr(host, ':');
	return cpm_pl_ieq(host, CPM_PL_LIT("localhost"))
		   || (cpm_pl_starts(host, CPM_PL_LIT("127."))
				   && strspn(host.p, "0123456789.") >= host.n);
}

static long use_ssl(const struct worker_conf *conf)
{
	if(strcmp(conf->store_tls, "none") == 0)
		return CURLUSESSL_NONE;
	return strcmp(conf->store_tls, "auto") == 0 && is_near(conf->store_url)
				   ? CURLUSESSL_TRY
				   : CURLUSESSL_ALL;
}

static CURLcode options_set(struct imap *im, CURL *curl, char *why)
{
	const struct worker_conf *conf = im->c->conf;
	long left = (long)left_ms(im);
	CURLcode rc = CURLE_OK;

#define SET(option, value)                                  \
	do {                                                    \
		if(rc == CURLE_OK)                                  \
			rc = curl_easy_setopt(curl, (option), (value)); \
	} while(0)
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "imap,imaps");
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_URL, conf->store_url);
	SET(CURLOPT_CONNECT_ONLY, 1L);
	SET(CURLOPT_ERRORBUFFER, why);
	SET(CURLOPT_HEADERFUNCTION, login_line);
	SET(CURLOPT_HEADERDATA, im);
	SET(CURLOPT_TIMEOUT_MS, left > 0 ? left : 1); /* 0: any time */
	SET(CURLOPT_CONNECTTIMEOUT_MS, left > 0 ? left : 1);
	SET(CURLOPT_USE_SSL, use_ssl(conf));
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if(conf->store_ca[0] != '\0') {
		SET(CURLOPT_CAINFO, conf->store_ca);
		SET(CURLOPT_CAPATH, NULL);
	}
	SET(CURLOPT_USERNAME, im->login);
	SET(CURLOPT_PASSWORD, im->password);
	if(im->authzid[0] != '\0') {
		SET(CURLOPT_LOGIN_OPTIONS, "AUTH=PLAIN");
		SET(CURLOPT_SASL_AUTHZID, im->authzid);
	}
#undef SET
	return rc;
}

static bool connect_(struct imap *im)
{
	char why[CURL_ERROR_SIZE] = "";
	CURLcode rc = CURLE_FAILED_INIT;

	im->words[0] = '\0';
	/* to libcurl no time left means any time */
	if(left_ms(im) == 0) {
		say(im, "timeout: not connected in %d s", im->c->conf->store_timeout);
		return false;
	}
	im->curl = curl_easy_init();
	if(im->curl != NULL) {
		rc = options_set(im, im->curl, why);
		if(rc == CURLE_OK)
			rc = curl_easy_perform(im->curl);
		/* why is of this call */
		(void)curl_easy_setopt(im->curl, CURLOPT_ERRORBUFFER, NULL);
	}
	if(rc == CURLE_OK)
		return true;
	if(im->words[0] == '\0')
		say(im, "connect: %s", why[0] != '\0' ? why : curl_easy_strerror(rc));
	disconnect(im);
	return false;
}

/* false: time is up. */
static bool wait_for(struct imap *im, short events)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	uint64_t ms = left_ms(im);

	if(ms == 0
			|| curl_easy_getinfo(im->curl, CURLINFO_ACTIVESOCKET, &fd)
					   != CURLE_OK
			|| fd == CURL_SOCKET_BAD)
		return false;
	struct pollfd p = {.fd = fd, .events = events};
	(void)poll(&p, 1, (int)ms);
	return left_ms(im) > 0;
}

static bool send_all(struct imap *im, struct cpm_pl a)
{
	while(a.n > 0) {
		size_t n = 0;
		CURLcode rc = curl_easy_send(im->curl, a.p, a.n, &n);
		if(rc == CURLE_OK) {
			a = cpm_pl_from(a, n);
		} else if(rc != CURLE_AGAIN) {
			say(im, "connection lost: %s", curl_easy_strerror(rc));
			return false;
		} else if(!wait_for(im, POLLOUT)) {
			say(im, "timeout: the server takes nothing");
			return false;
		}
	}
	return true;
}

/* The next response. Good until the next call. */
static bool reply_get(
		struct imap *im, size_t *consumed, struct cpm_imap_reply *r)
{
	memmove(im->in, im->in + *consumed, im->in_n - *consumed);
	im->in_n -= *consumed;
	*consumed = 0;
	for(;;) {
		int n = cpm_imap_next(cpm_pl(im->in, im->in_n), r);
		size_t got = 0;
		/* however much it says meanwhile */
		if(left_ms(im) == 0) {
			say(im, "timeout: no answer in %d s", im->c->conf->store_timeout);
			return false;
		}
		if(n > 0) {
			*consumed = (size_t)n;
			return true;
		}
		if(n != CPM_EAGAIN || im->in_n == sizeof(im->in)) {
			say(im, "protocol: the server's answer cannot be read");
			return false;
		}
		CURLcode rc = curl_easy_recv(
				im->curl, im->in + im->in_n, sizeof(im->in) - im->in_n, &got);
		if(rc == CURLE_OK && got > 0) {
			im->in_n += got;
		} else if(rc != CURLE_AGAIN) {
			if(im->words[0] == '\0')
				say(im, "connection lost: %s",
						rc == CURLE_OK ? "closed" : curl_easy_strerror(rc));
			return false;
		} else if(!wait_for(im, POLLIN)) {
			say(im, "timeout: no answer in %d s", im->c->conf->store_timeout);
			return false;
		}
	}
}

/* ---- commands ---- */

static void data_take(struct imap *im, const struct cpm_imap_reply *r)
{
	struct cpm_pl headers;

	if(cpm_pl_ieq(r->word, CPM_PL_LIT("LIST"))) {
		if(cpm_imap_list_delim(r, &im->delim) == CPM_OK)
			im->got_delim = true;
	} else if(cpm_pl_ieq(r->word, CPM_PL_LIT("SEARCH"))) {
		im->found_n = cpm_imap_search(r, im->found, MATCHES_MAX);
	} else if(cpm_pl_ieq(r->word, CPM_PL_LIT("BYE"))) {
		say_status(im, "connection lost", r);
	} else if(im->m != NULL && cpm_imap_literal(r, &headers)) {
		im->is_there = im->is_there || cpm_object_is(headers, im->m);
	}
}

/* Reads up to the answer to this command; literal: or to the server's "go on"
 * (*go_r). */
static enum answer answer_get(
		struct imap *im, const char *name, const char *tag, bool *go_r)
{
	struct cpm_imap_reply r;
	size_t consumed = 0;
	enum answer answer = ANSWER_NONE;

	im->words[0] = '\0';
	while(reply_get(im, &consumed, &r)) {
		if(r.kind == CPM_IMAP_DATA) {
			data_take(im, &r);
			continue;
		}
		if(r.kind == CPM_IMAP_CONTINUE) {
			if(go_r == NULL)
				continue;
			*go_r = true;
			answer = ANSWER_OK;
			break;
		}
		if(!cpm_pl_eq(r.tag, cpm_pl_str(tag)))
			continue;
		im->create = cpm_imap_has_code(&r, "TRYCREATE");
		im->exists = cpm_imap_has_code(&r, "ALREADYEXISTS");
		answer = cpm_pl_ieq(r.word, CPM_PL_LIT("OK"))	? ANSWER_OK
				 : cpm_pl_ieq(r.word, CPM_PL_LIT("NO")) ? ANSWER_NO
														: ANSWER_BAD;
		if(answer != ANSWER_OK)
			say_status(im, name, &r);
		break;
	}
	memmove(im->in, im->in + consumed, im->in_n - consumed);
	im->in_n -= consumed;
	if(answer == ANSWER_NONE)
		disconnect(im);
	return answer;
}

/* name: the command, for words; line: the whole of it without tag and CRLF. */
static enum answer command(
		struct imap *im, const char *name, struct cpm_pl line, bool *go_r)
{
	char tag[16], buf[COMMAND_MAX + 32];
	struct cpm_wr w;

	(void)snprintf(tag, sizeof(tag), "C%u", ++im->tag);
	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_str(&w, tag);
	cpm_wr_chr(&w, ' ');
	cpm_wr_pl_put(&w, line);
	cpm_wr_str(&w, "\r\n");
	if(!cpm_wr_ok(&w) || !send_all(im, cpm_wr_pl(&w))) {
		disconnect(im);
		return ANSWER_NONE;
	}
	return answer_get(im, name, tag, go_r);
}

static enum answer command_folder(
		struct imap *im, const char *name, struct cpm_pl folder)
{
	char buf[COMMAND_MAX];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_str(&w, name);
	cpm_wr_chr(&w, ' ');
	(void)cpm_imap_quoted(&w, folder);
	return command(im, name, cpm_wr_pl(&w), NULL);
}

/* ---- a deposit ---- */

/* ANSWER_OK: im->is_there tells; else im->opened tells whether there is such a
 * folder. */
static enum answer look(struct imap *im, struct cpm_pl folder)
{
	char buf[COMMAND_MAX];
	struct cpm_wr w;
	enum answer a = command_folder(im, "EXAMINE", folder);

	im->is_there = im->opened = false;
	im->found_n = 0;
	if(a != ANSWER_OK)
		return a;
	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_str(&w, "UID SEARCH HEADER " CPM_OBJECT_ID_HEADER " ");
	(void)cpm_imap_quoted(&w, im->m->id);
	/* an id may be part of thousands of others */
	cpm_wr_str(&w, " HEADER " CPM_OBJECT_PRINT_HEADER " ");
	cpm_wr_hex64(&w, cpm_object_print(im->m));
	im->opened = true;
	a = command(im, "SEARCH", cpm_wr_pl(&w), NULL);
	if(a != ANSWER_OK || im->found_n == 0)
		return a;
	/* SEARCH finds parts of a word as well */
	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_str(&w, "UID FETCH ");
	for(size_t i = 0; i < im->found_n; i++) {
		cpm_wr_str(&w, i > 0 ? "," : "");
		cpm_wr_u64(&w, im->found[i]);
	}
	cpm_wr_str(&w, " (BODY.PEEK[HEADER.FIELDS (" CPM_OBJECT_ID_HEADER
				   " " CPM_OBJECT_PRINT_HEADER ")])");
	return command(im, "FETCH", cpm_wr_pl(&w), NULL);
}

static enum answer append(
		struct imap *im, struct cpm_pl folder, struct cpm_pl object)
{
	char buf[COMMAND_MAX];
	struct cpm_wr w;
	bool go = false;
	enum answer a;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_str(&w, "APPEND ");
	(void)cpm_imap_quoted(&w, folder);
	cpm_wr_chr(&w, ' ');
	cpm_imap_date(&w, cpm_object_date(im->m));
	cpm_wr_str(&w, " {");
	cpm_wr_u64(&w, object.n);
	cpm_wr_chr(&w, '}');
	a = command(im, "APPEND", cpm_wr_pl(&w), &go);
	if(a == ANSWER_OK && !go) {
		say(im, "protocol: the server did not ask for the object");
		disconnect(im);
		return ANSWER_NONE;
	}
	if(a != ANSWER_OK)
		return a;
	/* from here on it may be there, whatever we hear of it */
	if(!send_all(im, object) || !send_all(im, CPM_PL_LIT("\r\n"))) {
		disconnect(im);
		return ANSWER_NONE;
	}
	(void)snprintf(buf, sizeof(buf), "C%u", im->tag);
	return answer_get(im, "APPEND", buf, NULL);
}

static enum answer create(struct imap *im, struct cpm_pl folder)
{
	enum answer a = command_folder(im, "CREATE", folder);

	return a == ANSWER_NO && im->exists ? ANSWER_OK : a;
}

/* The name of the folder; CPM_OK, or words. */
static int folder_make(struct imap *im, struct cpm_wr *w)
{
	if(!im->got_delim
			&& command(im, "LIST", CPM_PL_LIT("LIST \"\" \"\""), NULL)
					   == ANSWER_NONE)
		return CPM_EDOWN;
	if(!im->got_delim)
		im->delim = '/';
	return cpm_object_folder(
			cpm_pl_str(im->c->conf->store_folder), im->m, im->delim, w);
}

/* COURIER_RETRY: im->words. *fresh: the connection is new. */
static enum courier_result deposit(struct imap *im, struct cpm_pl object)
{
	char name[CPM_OBJECT_FOLDER_MAX];
	struct cpm_wr w;
	enum answer a;

	cpm_wr_init(&w, name, sizeof(name));
	int rc = folder_make(im, &w);
	if(rc != CPM_OK) {
		if(rc == CPM_ENOMEM)
			say(im, "the folder's name is too long");
		return rc == CPM_ENOMEM ? COURIER_GIVE_UP : COURIER_RETRY;
	}
	a = look(im, cpm_wr_pl(&w));
	/* what it holds must be known before more is put in */
	if(a == ANSWER_NONE || (a != ANSWER_OK && im->opened))
		return COURIER_RETRY;
	if(a != ANSWER_OK) {
		enum answer made = create(im, cpm_wr_pl(&w));
		bool exists = made == ANSWER_OK && im->exists;
		if(exists)
			a = look(im, cpm_wr_pl(&w));
		if(made == ANSWER_NONE || (exists && a != ANSWER_OK))
			return COURIER_RETRY;
	}
	if(a == ANSWER_OK && im->is_there)
		return COURIER_DONE;
	char refused[WORDS_MAX];
	memcpy(refused, im->words, sizeof(refused));
	bool was_refused = a != ANSWER_OK && refused[0] != '\0';
	/* somebody else may have the job by now */
	if(courier_renew(im->c) == CPM_ENOENT) {
		say(im, "lease lost");
		return COURIER_RETRY;
	}
	a = append(im, cpm_wr_pl(&w), object);
	if(a == ANSWER_OK)
		return COURIER_DONE;
	/* why there is no folder tells more than that there is none */
	if(a == ANSWER_NO && im->create && was_refused)
		memcpy(im->words, refused, sizeof(refused));
	return a == ANSWER_BAD ? COURIER_GIVE_UP : COURIER_RETRY;
}

/* ---- who logs in ---- */

/* CPM_OK: login and authzid are those of this user; CPM_EPROTO: nobody may log
 * in by that name. A connection of another's is closed. */
static int login_for(struct imap *im, struct cpm_pl aor)
{
	const char *how = im->c->conf->store_login;
	struct cpm_pl user = cpm_object_user(aor);
	char login[NAME_MAX_] = "", authzid[NAME_MAX_] = "";
	struct cpm_wr w;
	int rc = CPM_OK;

	cpm_wr_init(&w, login, sizeof(login) - 1);
	if(strcmp(how, "service") == 0 || strcmp(how, "user") == 0) {
		cpm_wr_str(&w, im->user);
		if(how[0] == 'u') {
			if(user.n >= sizeof(authzid) || cpm_pl_ctl(user) < user.n)
				return CPM_EPROTO;
			cpm_pl_cstr(user, authzid, sizeof(authzid));
		}
	} else
		rc = cpm_object_login(cpm_pl_str(how), aor, cpm_pl_str(im->user), &w);
	if(rc != CPM_OK || !cpm_wr_ok(&w))
		return CPM_EPROTO;
	login[w.n] = '\0';
	if(strcmp(login, im->login) != 0 || strcmp(authzid, im->authzid) != 0)
		disconnect(im);
	memcpy(im->login, login, sizeof(login));
	memcpy(im->authzid, authzid, sizeof(authzid));
	return CPM_OK;
}

static enum courier_result store(
		struct imap *im, struct cpm_pl aor, struct cpm_pl object)
{
	enum courier_result res = COURIER_RETRY;

	if(login_for(im, aor) != CPM_OK) {
		say(im, "login: no safe name for this user");
		return COURIER_GIVE_UP;
	}
	/* a connection that was kept may be dead: then a new one, once */
	for(int i = 0; i < 2; i++) {
		bool kept = im->curl != NULL;
		if(!kept) {
			im->got_delim = false;
			if(!connect_(im))
				return COURIER_RETRY;
		}
		res = deposit(im, object);
		if(!kept || im->curl != NULL)
			break;
	}
	return res;
}

/* ---- the kind ---- */

static enum courier_result run(void *ctx, const struct cpm_job *job,
		char *error, size_t cap, uint64_t *retry_in_ms)
{
	struct imap *im = ctx;
	struct cpm_diag diag = {"", 0};
	struct cpm_msg m;
	struct cpm_wr w;
	enum courier_result res = COURIER_GIVE_UP;

	(void)retry_in_ms;
	if(cpm_msg_decode(job->blob, &m, &diag) != CPM_OK) {
		(void)snprintf(error, cap, "bad record: %s", diag.why);
		courier_stat(im->c, CPM_STAT_store_dead);
		return res;
	}
	size_t max = cpm_object_max(&m);
	char *object = malloc(max);
	im->words[0] = '\0';
	im->deadline_ms =
			io_clock_mono_ms() + (uint64_t)im->c->conf->store_timeout * 1000;
	im->m = &m;
	cpm_wr_init(&w, object, object != NULL ? max : 0);
	if(cpm_object_build(&m, &w) == CPM_OK)
		res = store(im, job->aor, cpm_wr_pl(&w));
	else {
		say(im, "no memory");
		res = COURIER_RETRY;
	}
	free(object);
	im->m = NULL;
	im->used_ms = io_clock_mono_ms();
	(void)snprintf(error, cap, "%s", im->words);
	bool last = job->attempts >= (unsigned)im->c->conf->job_max_attempts;
	courier_stat(im->c, res == COURIER_DONE				? CPM_STAT_stored
						: res == COURIER_RETRY && !last ? CPM_STAT_store_retries
														: CPM_STAT_store_dead);
	return res;
}

static void idle(void *ctx)
{
	struct imap *im = ctx;

	if(im->curl != NULL && io_clock_mono_ms() - im->used_ms >= IDLE_CLOSE_MS)
		disconnect(im);
}

static uint64_t bound_ms(const struct worker_conf *conf)
{
	return (uint64_t)conf->store_timeout * 1000;
}

static bool is_wanted(const struct worker_conf *conf)
{
	return conf->store_url[0] != '\0';
}

/* ---- credentials ---- */

/* "user NAME" and "password WORD", each once; # for comments. A password may
 * hold spaces. CPM_OK or a word for the log. */
static const char *lines_take(struct imap *im, struct cpm_pl text)
{
	while(text.n > 0) {
		struct cpm_pl line = cpm_pl_cut(&text, '\n');
		if(line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if(line.n == 0 || line.p[0] == '#')
			continue;
		bool is_user = cpm_pl_starts(line, CPM_PL_LIT("user "));
		char *to = is_user ? im->user : im->password;
		struct cpm_pl v = cpm_pl_from(line, is_user ? 5 : 9);
		if(!is_user && !cpm_pl_starts(line, CPM_PL_LIT("password ")))
			return "a line is neither \"user NAME\" nor \"password WORD\"";
		if(v.n == 0 || v.n >= NAME_MAX_ || cpm_pl_ctl(v) < v.n || to[0] != '\0')
			return "a value is empty, too long or given twice";
		cpm_pl_cstr(v, to, NAME_MAX_);
	}
	return im->user[0] != '\0' && im->password[0] != '\0'
				   ? NULL
				   : "user or password is missing";
}

static const char *file_take(struct imap *im, const char *path)
{
	char text[4096];
	struct stat st;
	const char *why = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if(fd < 0)
		return strerror(errno);
	ssize_t n = -1;
	if(fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		why = "not a file";
	else if((st.st_mode & 077) != 0)
		why = "others than its owner may use it: chmod 600";
	else if((n = read(fd, text, sizeof(text))) < 0
			|| n == (ssize_t)sizeof(text))
		why = "cannot be read, or is too long";
	close(fd);
	if(why == NULL)
		why = lines_take(im, cpm_pl(text, (size_t)n));
	explicit_bzero(text, sizeof(text));
	return why;
}

/* The environment's, which is wiped. */
static const char *environment_take(struct imap *im)
{
	static const char *const names[] = {"CPM_STORE_USER", "CPM_STORE_PASSWORD"};
	const char *why = NULL;

	for(size_t i = 0; i < 2; i++) {
		char *v = getenv(names[i]);
		struct cpm_pl a = cpm_pl_str(v);
		if(a.n == 0 || a.n >= NAME_MAX_ || cpm_pl_ctl(a) < a.n)
			why = "store_credentials is not given, nor CPM_STORE_USER and "
				  "CPM_STORE_PASSWORD in the environment";
		else
			cpm_pl_cstr(a, i == 0 ? im->user : im->password, NAME_MAX_);
		if(v != NULL)
			explicit_bzero(v, strlen(v));
	}
	return why;
}

static int init(struct courier *c, void **ctx_r)
{
	const struct worker_conf *conf = c->conf;
	struct imap *im = calloc(1, sizeof(*im));
	const char *why;

	if(im == NULL) {
		worker_log(WORKER_ERROR, "courier: no-memory");
		return CPM_ENOMEM;
	}
	im->c = c;
	why = conf->store_credentials[0] != '\0'
				  ? file_take(im, conf->store_credentials)
				  : environment_take(im);
	if(why == NULL && strcmp(conf->store_login, "service") == 0
			&& !cpm_object_template_has(cpm_pl_str(conf->store_folder), "user"))
		why = "store_login service takes a store_folder with {user} in it: "
			  "else all users would share their folders";
	if(why == NULL && conf->store_ca[0] != '\0'
			&& access(conf->store_ca, R_OK) != 0)
		why = "store_ca cannot be read";
	if(why != NULL) {
		worker_log(WORKER_ERROR, "courier: store_credentials=%s: %s",
				conf->store_credentials, why);
		explicit_bzero(im, sizeof(*im));
		free(im);
		return CPM_EPROTO;
	}
	*ctx_r = im;
	return CPM_OK;
}

const struct courier_kind courier_imap = {
		.kind = CPM_JOB_STORE,
		.name = "store",
		.bound_ms = bound_ms,
		.is_wanted = is_wanted,
		.init = init,
		.run = run,
		.idle = idle,
};
