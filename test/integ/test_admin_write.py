# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the admin endpoint changes, and who may not; long lists; hostile
clients. The worker by itself, without Kamailio."""

import concurrent.futures
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import time
import urllib.parse

import pytest

import harness
import test_admin_http
from test_admin_http import BOB, HOST, WORKER, put, queue, walk

admin = test_admin_http.admin  # a fixture

ANN = "sip:ann@example.org"
JSON = {"Content-Type": "application/json"}


def message(id, rest="", aor=BOB):
    return queue(aor, "/messages/" + urllib.parse.quote(id, safe="") + rest)


def job(kind="interwork", id="id-1", rest="", aor=BOB):
    return "/v1/jobs/%s/%s/%s%s" % (
        kind, urllib.parse.quote(aor, safe=""),
        urllib.parse.quote(id, safe=""), rest)


def no_content(admin, path, method="DELETE", **kw):
    answer = admin.http(path, method, **kw)
    assert (answer.status, answer.text) == (204, ""), answer
    assert answer.header("Content-Type") is None
    assert answer.header("Cache-Control") == "no-store"


def states(admin, aor=BOB):
    return {m["id"]: m["state"]
            for m in walk(admin, queue(aor, "/messages"), 500)[0]}


def every_state(admin):
    """One message dead, one held, one waiting, one on its way, one new."""
    admin.seed(
        put(id="dead"), put(id="tired"), put(id="away"), put(id="held"),
        put(id="new"),
        ("lease", BOB, "t1", 60000), ("dead", BOB, "dead", "t1", "486"),
        ("hold", BOB, "held"),
        ("lease", BOB, "t2", 60000),
        ("retry", BOB, "tired", "t2", "480", 3600000),
        ("hold", BOB, "tired"),  # or the next lease would take it
        ("lease", BOB, "t3", 600000))
    admin.http(message("tired", "/requeue"), "POST")
    assert states(admin) == {"dead": "dead", "tired": "queued",
                             "away": "leased", "held": "held", "new": "queued"}


# ---- what it does --------------------------------------------------------


def test_discard(admin):
    admin.start()
    every_state(admin)
    admin.seed(put(ANN))
    for n, id in enumerate(["tired", "dead", "away", "held", "new"]):
        assert admin.get(queue())["messages"] == 5 - n
        no_content(admin, message(id))
        admin.refused(message(id), 404)
        admin.refused(message(id), 404, method="DELETE")
    admin.refused(queue(), 404)
    assert admin.get("/v1/dead")["items"] == []
    assert admin.get(queue(ANN))["messages"] == 1
    # its sender's retransmission is not queued again
    with pytest.raises(AssertionError):
        admin.seed(put(id="new"))
    admin.refused(queue(), 404)


def test_discard_by_a_name_that_looks_like_a_path(admin):
    admin.start()
    ids = ["..", "a/b", "/", "%2e", "a?b", "a#b", "~", "\"<>\\"]
    admin.seed(*[put(id=i) for i in ids])
    for id in ids:
        assert admin.get(message(id))["id"] == id
        no_content(admin, message(id))
    admin.refused(queue(), 404)


def test_purge(admin):
    admin.start()
    admin.seed(*[put(id="id-%d" % i) for i in range(1203)])
    admin.seed(put(ANN))
    path = queue(rest="/messages")
    assert admin.get(path, method="DELETE") == {"removed": 1203}
    assert admin.get(path, method="DELETE") == {"removed": 0}
    assert [q["user"] for q in admin.get("/v1/queues")["items"]] == [ANN]


def test_requeue_a_message(admin):
    admin.start()
    every_state(admin)
    for id in ("dead", "held", "tired", "new"):
        no_content(admin, message(id, "/requeue"), "POST")
        again = admin.get(message(id))
        assert (again["state"], again["attempts"], again["last_error"],
                again["next_attempt"]) == ("queued", 0, None, None)
    admin.refused(message("away", "/requeue"), 409, "on its way",
                  method="POST")
    admin.refused(message("none", "/requeue"), 404, method="POST")
    admin.refused(message("id", "/requeue", ANN), 404, method="POST")
    assert admin.get("/v1/dead")["items"] == []
    # in its place
    assert list(states(admin)) == ["dead", "tired", "away", "held", "new"]
    for body in (b"{}", b" { } "):
        no_content(admin, message("new", "/requeue"), "POST", body=body,
                   headers=JSON)


def test_flush(admin):
    admin.start()
    admin.seed(
        put(id="a"), put(id="b"), ("lease", BOB, "t1", 60000),
        ("retry", BOB, "a", "t1", "480", 3600000), ("hold", BOB, "b"))
    assert admin.get(message("a"))["next_attempt"] > time.strftime(
        "%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 1800))
    for body, mode in ((None, "auto"), (b"{}", "auto"),
                       (b'{"mode":"auto"}', "auto"),
                       (b'{"mode":"push"}', "push"),
                       (b'{"mode": "notify"}', "notify")):
        answer = admin.http(queue(rest="/flush"), "POST", body=body,
                            headers=JSON if body else {})
        assert (answer.status, answer.json) == (202, {"mode": mode}), answer
    one = admin.get(message("a"))
    assert one["next_attempt"] <= time.strftime(
        "%Y-%m-%dT%H:%M:%S.999Z", time.gmtime(time.time() + 1))
    assert (one["attempts"], one["last_error"]) == (1, "480")
    assert states(admin) == {"a": "queued", "b": "held"}
    admin.refused(queue(ANN, "/flush"), 404, method="POST")


def test_jobs(admin):
    admin.start()
    admin.seed(put(id="a/b"), put(id="c"), ("interwork", BOB, "a/b"),
               ("jobdead", BOB, "a/b"), ("interwork", BOB, "c"))
    assert {(j["id"], j["state"]) for j in admin.get("/v1/jobs")["items"]} == {
        ("a/b", "dead"), ("c", "waiting")}
    for id in ("a/b", "c"):
        no_content(admin, job(id=id, rest="/requeue"), "POST")
    assert {(j["id"], j["state"], j["attempts"])
            for j in admin.get("/v1/jobs")["items"]} == {
        ("a/b", "waiting", 0), ("c", "waiting", 0)}
    admin.seed(("jobdo", BOB, "-"))
    admin.refused(job(id="c", rest="/requeue"), 409, "being done",
                  method="POST")
    for other in (job("store", "c"), job(id="d"), job(id="c", aor=ANN),
                  job("push", "-")):
        admin.refused(other, 404, method="DELETE")
        admin.refused(other + "/requeue", 404, method="POST")
    for other in (job("x", "c"), job("Store", "c"), job("s", "c"),
                  job("%73tore", "c")):
        admin.refused(other, 400, "kind", method="DELETE")
    admin.refused(job(id="c"), 405, method="GET")
    for id in ("c", "a/b"):
        no_content(admin, job(id=id))
        admin.refused(job(id=id), 404, method="DELETE")
    assert admin.get("/v1/jobs")["items"] == []


def test_a_body_is_shown_where_it_may_be(admin):
    admin.start(admin_bodies="1")
    admin.seed(put(body=b"\x00\xffhello"))
    assert admin.get(message("id-1", "?include=body"))["body"] == "AP9oZWxsbw=="
    assert "body" not in admin.get(message("id-1"))
    assert "body" not in admin.get(queue(rest="/messages"))["items"][0]
    admin.refused(message("id-1", "?include=bodies"), 400, "include")


def test_redis_down(admin):
    admin.start()
    admin.seed(put())
    admin.redis.kill()
    for path, method in ((message("id-1"), "DELETE"),
                         (queue(rest="/messages"), "DELETE"),
                         (message("id-1", "/requeue"), "POST"),
                         (queue(rest="/flush"), "POST"),
                         (job(), "DELETE"), (job(rest="/requeue"), "POST")):
        answer = admin.refused(path, 503, "redis", method=method)
        assert int(answer.header("Retry-After")) >= 1
    admin.redis.start()
    harness.wait_until(lambda: admin.http("/readyz").status == 200, 5)
    assert admin.get(queue())["messages"] == 1


# ---- long lists ----------------------------------------------------------


def pages(admin, path, limit, between):
    """Items of a list, while between(n) changes something behind each page."""
    items, cursor, n = [], "", 0
    while True:
        page = admin.get("%s%slimit=%d%s" % (
            path, "&" if "?" in path else "?", limit, cursor))
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = "&cursor=" + page["next"]
        between(n)
        n += 1
        assert n < 500


@pytest.mark.parametrize("limit", [1, 7, 64, 65, 100])
def test_users_that_stay_are_there_once_whoever_comes_and_goes(admin, limit):
    admin.start()
    stay = ["sip:stay%03d@example.org" % i for i in range(200)]
    go = ["sip:go%03d@example.org" % i for i in range(200)]
    admin.seed(*[put(u) for u in stay + go])

    def between(n):
        if n % 5 == 0 and n < 200:
            admin.seed(*[("discard", u, "id-1") for u in go[n:n + 5]],
                       *[put("sip:new%d-%d@example.org" % (n, i))
                         for i in range(3)])
    seen = [q["user"] for q in pages(admin, "/v1/queues", limit, between)]
    assert len(seen) == len(set(seen))
    assert set(stay) <= set(seen)


@pytest.mark.parametrize("limit", [1, 7, 64, 130])
def test_messages_that_stay_are_there_once(admin, limit):
    admin.start()
    stay = ["stay%03d" % i for i in range(150)]
    go = ["go%03d" % i for i in range(150)]
    admin.seed(*[put(id=id) for pair in zip(stay, go) for id in pair])

    def between(n):
        if n % 5 == 0 and n < 150:
            admin.seed(*[("discard", BOB, id) for id in go[n:n + 5]],
                       *[put(id="new%d-%d" % (n, i)) for i in range(2)])
    seen = [m["id"] for m in pages(
        admin, queue(rest="/messages"), limit, between)]
    assert len(seen) == len(set(seen))
    assert [id for id in seen if id in set(stay)] == stay


@pytest.mark.parametrize("limit", [1, 7, 64, 70])
def test_dead_letters_that_stay_are_there_once(admin, limit):
    admin.start()
    users = ["sip:u%02d@example.org" % i for i in range(70)]
    for u in users:
        admin.seed(put(u, "a"), put(u, "b"), ("lease", u, "t1", 60000),
                   ("dead", u, "a", "t1", "486"), ("lease", u, "t2", 60000),
                   ("dead", u, "b", "t2", "486"))

    def between(n):
        if n < 30:
            assert admin.http(message("b", "/requeue", users[n]),
                              "POST").status == 204
    seen = [(m["user"], m["id"]) for m in pages(
        admin, "/v1/dead", limit, between)]
    assert len(seen) == len(set(seen))
    assert {(u, "a") for u in users} <= set(seen)


def test_jobs_that_stay_are_there_once(admin):
    admin.start()
    users = ["sip:u%02d@example.org" % i for i in range(90)]
    admin.seed(*[c for u in users for c in (
        put(u, "a"), put(u, "b"), ("interwork", u, "a"),
        ("interwork", u, "b"))])

    def between(n):
        if n < 40:
            assert admin.http(job(id="b", aor=users[n]),
                              "DELETE").status == 204
    seen = [(j["user"], j["id"]) for j in pages(
        admin, "/v1/jobs", 7, between)]
    assert len(seen) == len(set(seen))
    assert {(u, "a") for u in users} <= set(seen)


def vm_peak(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmHWM:\s+(\d+) kB", f.read())[1]) / 1024


def test_a_long_list_is_made_as_it_is_read(admin):
    """A page of 500 messages with long subjects is 15 MB. Sixty clients that
    ask for one and read slowly are not given 900 MB of memory."""
    admin.start()
    admin.seed(*[put(id="id-%d" % i, subject="s" * 30000)
                 for i in range(500)])
    whole = admin.http(queue(rest="/messages?limit=500"))
    assert len(whole.json["items"]) == 500
    assert len(whole.text) > 15000000
    held = []
    try:
        for _ in range(60):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(10)
            s.connect((HOST, admin.port))
            s.sendall(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
                       % queue(rest="/messages?limit=500")).encode())
            held.append(s)
        answered = [s.recv(200).split(b" ")[1] for s in held]
        assert set(answered) <= {b"200", b"503"}
        assert b"200" in answered
        assert admin.get("/livez")
    finally:
        for s in held:
            s.close()
    assert vm_peak(admin.worker.pid) < 450
    assert len(admin.get(queue(rest="/messages?limit=500"))["items"]) == 500


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(admin):
    admin.start()
    admin.seed(*[put(id="id-%d" % i, subject="s" * 30000)
                 for i in range(300)])
    conn = http.client.HTTPConnection(HOST, admin.port, timeout=10)
    conn.request("GET", queue(rest="/messages?limit=300"))
    response = conn.getresponse()
    assert response.status == 200
    response.read(100000)
    admin.redis.kill()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        while response.read(1000000):
            pass
    conn.close()
    admin.redis.start()
    harness.wait_until(lambda: admin.http("/readyz").status == 200, 5)


# ---- what it refuses -----------------------------------------------------


@pytest.mark.parametrize("path,method,allow", [
    ("/v1/queues", "DELETE", "GET, HEAD"),
    ("/v1/queues", "OPTIONS", "GET, HEAD"),
    (queue(), "DELETE", "GET, HEAD"), (queue(), "PATCH", "GET, HEAD"),
    (queue(rest="/flush"), "GET", "POST"),
    (queue(rest="/flush"), "HEAD", "POST"),
    (queue(rest="/messages"), "POST", "GET, HEAD, DELETE"),
    (queue(rest="/messages"), "PUT", "GET, HEAD, DELETE"),
    (message("x"), "POST", "GET, HEAD, DELETE"),
    (message("x", "/requeue"), "GET", "POST"),
    (message("x", "/requeue"), "DELETE", "POST"),
    (job(), "GET", "DELETE"), (job(), "POST", "DELETE"),
    (job(rest="/requeue"), "GET", "POST"),
    ("/v1/dead", "DELETE", "GET, HEAD"), ("/v1/jobs", "POST", "GET, HEAD"),
    ("/openapi.json", "POST", "GET, HEAD"),
    ("/metrics", "POST", "GET, HEAD"), ("/livez", "TRACE", "GET, HEAD")])
def test_a_wrong_method(admin, path, method, allow):
    admin.start()
    admin.seed(put())
    answer = admin.http(path, method)
    assert answer.status == 405
    assert answer.header("Allow") == allow
    if method != "HEAD":
        assert answer.type == "application/problem+json"
    assert admin.get(queue())["messages"] == 1


@pytest.mark.parametrize("type", [
    None, "", "text/plain", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "application/jsonp", "json",
    "application/xml", "text/plain; application/json"])
def test_a_wrong_type(admin, type):
    admin.start()
    admin.seed(put())
    headers = {} if type is None else {"Content-Type": type}
    for path in (queue(rest="/flush"), message("id-1", "/requeue")):
        admin.refused(path, 415, "application/json", method="POST",
                      body=b"{}", headers=headers)
    for good in ("application/json", "APPLICATION/JSON",
                 "application/json; charset=utf-8"):
        assert admin.http(queue(rest="/flush"), "POST", body=b"{}",
                          headers={"Content-Type": good}).status == 202


@pytest.mark.parametrize("body", [
    b"{", b"", b" ", b"nothing", b"[]", b"1", b"null", b'"push"', b"{}{}",
    b'{"mode":}', b'{"mode":"push",}', b"{'mode':'push'}", b'{"mode":1}',
    b'{"mode":null}', b'{"mode":["push"]}', b'{"mode":"PUSH"}',
    b'{"mode":"now"}', b'{"mode":"push","mode":"auto"}',
    b'{"mode":"push","x":1}', b'{"Mode":"push"}', b'{"mode":"push\\u0000"}',
    b'{"mode":"' + b"x" * 60000 + b'"}', b'{"mode":"\xff"}', b"\xef\xbb\xbf{}",
    b"\x00", b"{}\x00", b"[" * 60000, b'{"a":' * 10000,
    b'{"mode":' + b"9" * 5000 + b"}"])
def test_a_broken_body(admin, body):
    admin.start()
    admin.seed(put())
    if body == b"":
        return  # no body at all: auto
    admin.refused(queue(rest="/flush"), 400, method="POST", body=body,
                  headers=JSON)
    admin.refused(message("id-1", "/requeue"), 400, method="POST",
                  body=b'{"x":1}', headers=JSON)
    assert admin.get("/livez")


@pytest.mark.parametrize("name", [
    "%", "%4", "%zz", "%00", "a%00b", "%c0%ae%c0%ae", "%ff", "%20", "a%20b",
    "%0d%0aX:%20y", "x" * 129, "x" * 8000, "%78" * 129, "a b".replace(" ", "+")
    + "%"])
def test_an_id_that_is_none(admin, name):
    admin.start()
    admin.seed(put())
    for path, method in (
            (queue(rest="/messages/" + name), "GET"),
            (queue(rest="/messages/" + name), "DELETE"),
            (queue(rest="/messages/" + name + "/requeue"), "POST"),
            ("/v1/jobs/store/%s/%s" % (
                urllib.parse.quote(BOB, safe=""), name), "DELETE")):
        answer = admin.refused(path, 400, "id", method=method)
        assert "X: y" not in str(answer)
    assert admin.get(queue())["messages"] == 1


@pytest.mark.parametrize("user", [
    "%", "bob", "sip:", "sip:@", "sip:bob", "SIP:bob@example.org",
    "sip:bob@EXAMPLE.org", "sip%3Abob%40example.org%00", "sip:bob@a%20b",
    "..", "%2e%2e", "sip:" + "x" * 600 + "@example.org", "mailto:a@b",
    "tel:bob", "sip:b%6f%62@example.org%", "*"])
def test_a_user_that_is_none(admin, user):
    admin.start()
    admin.seed(put())
    for path, method in (("", "GET"), ("/messages", "DELETE"),
                         ("/flush", "POST"), ("/messages/id-1", "DELETE"),
                         ("/messages/id-1/requeue", "POST")):
        admin.refused("/v1/queues/" + user + path, 400, "user",
                      method=method)
    assert admin.get(queue())["messages"] == 1


@pytest.mark.parametrize("path", [
    "/v1/queues/../queues", "/v1/../v1/queues", "/v1/./queues",
    "/v1//queues", "/v1/queues/" + BOB + "/messages/../flush",
    "/v1/queues/" + BOB + "/messages/", "/v1/queues//messages",
    "/v1/queues/" + BOB + "/messages/a/b", "/%76%31/queues", "/v1%2fqueues",
    "/v1/queues/" + BOB + "/Flush", "/v2/queues", "/v1/jobs/store/" + BOB,
    "/../../etc/passwd", "/page/../../etc/passwd", "//", "/v1/queues\\..\\x"])
def test_a_path_is_what_it_says(admin, path):
    """No dots are resolved, nothing is guessed."""
    admin.start()
    admin.seed(put())
    for method in ("GET", "POST", "DELETE"):
        assert admin.http(path, method).status in (404, 405)
        assert "root:" not in admin.http(path, method).text
    assert admin.get(queue())["messages"] == 1


def test_parameters_where_none_are_taken(admin):
    admin.start()
    admin.seed(put())
    for path, method in ((message("id-1", "?limit=1"), "DELETE"),
                         (queue(rest="/messages?state=dead"), "DELETE"),
                         (queue(rest="/flush?mode=push"), "POST"),
                         (message("id-1", "/requeue?x=1"), "POST")):
        admin.refused(path, 400, "parameter", method=method)
    assert admin.get(queue())["messages"] == 1


def test_a_body_that_is_too_large(admin):
    admin.start()
    admin.seed(put())
    for path in (queue(rest="/flush"), message("id-1", "/requeue")):
        admin.refused(path, 413, method="POST", body=b" " * 65537,
                      headers=JSON)

    def chunks():
        for _ in range(70):
            yield b" " * 1000
    admin.refused(queue(rest="/flush"), 413, method="POST", body=chunks(),
                  headers=JSON)
    assert admin.raw(
        b"POST /v1/queues/x/flush HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 99999999999999999999\r\n\r\n").split()[1] in (
            "400", "413")


# ---- who may -------------------------------------------------------------

WRITES = [(queue(rest="/flush"), "POST"), (message("id-1"), "DELETE"),
          (queue(rest="/messages"), "DELETE"),
          (message("id-1", "/requeue"), "POST"), (job(), "DELETE"),
          (job(rest="/requeue"), "POST")]


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("read reader\nread-write writer\n")
    path.chmod(0o600)
    return str(path)


def test_writing_takes_a_token_that_may_write(admin, tokens):
    admin.start(admin_token_file=tokens)
    admin.seed(put(), put(ANN), ("interwork", ANN, "id-1"))
    for path, method in WRITES:
        admin.refused(path, 401, method=method)
        answer = admin.refused(path, 401, method=method, headers={
            "Authorization": "Bearer writer2"})
        assert "invalid_token" in answer.header("WWW-Authenticate")
        admin.refused(path, 403, "only read", method=method, headers={
            "Authorization": "Bearer reader"})
    reader = {"Authorization": "Bearer reader"}
    assert admin.get(queue(), headers=reader)["messages"] == 1
    assert len(admin.get("/v1/jobs", headers=reader)["items"]) == 1
    for path, method in WRITES:
        assert admin.http(path, method, headers={
            "Authorization": "Bearer writer"}).status in (200, 202, 204, 404)
    admin.refused(queue(), 404, headers=reader)
    # another site's page has no token, so where it comes from is no matter
    assert admin.http(WRITES[2][0], "DELETE", headers={
        "Authorization": "Bearer writer",
        "Origin": "https://console.example"}).status == 200


def test_the_probes_are_for_this_host_and_not_for_its_browser(admin, tokens):
    admin.start(admin_token_file=tokens)
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
        assert admin.http(path).status == 200
        admin.refused(path, 401, headers={"Host": "rebound.example"})


@pytest.mark.parametrize("headers", [
    {"Origin": "https://evil.example"}, {"Origin": "null"},
    {"Origin": "http://localhost.evil.example"}, {"Origin": "http://localhost"},
    {"Origin": "http://127.0.0.1:1"}, {"Origin": "file://"},
    {"Origin": "http://%s:PORT.evil.example" % HOST},
    {"Origin": "http://evil.example http://%s:PORT" % HOST},
    {"Origin": "ftp://%s:PORT" % HOST},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "?"},
    {"Host": "evil.example", "Origin": "http://evil.example"}])
def test_another_sites_page_changes_nothing(admin, headers):
    admin.start()
    admin.seed(put(), put(ANN), ("interwork", ANN, "id-1"))
    headers = {k: v.replace("PORT", str(admin.port))
               for k, v in headers.items()}
    for path, method in WRITES:
        admin.refused(path, 403, method=method, headers=headers)
    assert admin.get(queue())["messages"] == 1
    assert len(admin.get("/v1/jobs")["items"]) == 1
    answer = admin.http("/v1/queues", "OPTIONS", headers=dict(
        headers, **{"Access-Control-Request-Method": "DELETE"}))
    assert answer.status in (403, 405)
    for name in ("Origin", "Methods", "Headers"):
        assert answer.header("Access-Control-Allow-" + name) is None


def test_its_own_page_may(admin):
    admin.start()
    for host in ("%s:%d" % (HOST, admin.port), "localhost:%d" % admin.port):
        admin.seed(put(id="id-" + host))
        no_content(admin, message("id-" + host), headers={
            "Host": host, "Origin": "http://" + host,
            "Sec-Fetch-Site": "same-origin"})


# ---- TLS -----------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days",
         "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out",
         cert], check=True, capture_output=True)
    return cert, key


def https(admin, cert, path, version=None, **headers):
    context = ssl.create_default_context(cafile=cert)
    if version:
        context.minimum_version = context.maximum_version = version
    conn = http.client.HTTPSConnection(HOST, admin.port, timeout=10,
                                       context=context)
    try:
        conn.request("GET", path, headers=headers)
        response = conn.getresponse()
        return harness.Answer(response, response.read())
    finally:
        conn.close()


def test_tls(admin, tokens, certificate):
    cert, key = certificate
    admin.start(admin_listen="0.0.0.0:%d" % admin.port, admin_cert=cert,
                admin_key=key, admin_token_file=tokens)
    admin.seed(*[put(id="id-%d" % i, subject="s" * 1000) for i in range(300)])
    assert "tls=1" in admin.worker.log()
    assert "no-encryption" not in admin.worker.log()
    assert https(admin, cert, "/v1/queues").status == 401
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        answer = https(admin, cert, queue(rest="/messages?limit=300"), version,
                       Authorization="Bearer reader")
        assert len(answer.json["items"]) == 300
    # no TLS at all, and an old one
    with pytest.raises((http.client.HTTPException, OSError)):
        admin.http("/livez")
    done = subprocess.run(
        ["openssl", "s_client", "-connect", "%s:%d" % (HOST, admin.port),
         "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], input="",
        capture_output=True, text=True, timeout=20)
    assert "Cipher is (NONE)" in done.stdout or done.returncode != 0
    assert https(admin, cert, "/livez").status == 200


def test_certificate_and_key_in_one_file(admin, certificate, tmp_path):
    both = tmp_path / "both.pem"
    both.write_text("".join(open(f).read() for f in certificate))
    admin.start(admin_cert=str(both))
    assert https(admin, str(both), "/v1/queues").json["items"] == []


@pytest.mark.parametrize("case,status,word", [
    ("no key", 2, "admin_key takes"), ("another key", 1, "cannot-start"),
    ("no certificate", 2, "admin_cert takes"),
    ("public without", 2, "takes admin_cert"),
    ("public without token", 2, "admin_token_file")])
def test_a_start_that_is_refused(admin, tokens, certificate, tmp_path, case,
                                 status, word):
    cert, key = certificate
    other = str(tmp_path / "other.pem")
    subprocess.run(["openssl", "genrsa", "-out", other, "2048"], check=True,
                   capture_output=True)
    public = "0.0.0.0:%d" % admin.port
    settings = {
        "no key": {"admin_cert": cert},
        "another key": {"admin_cert": cert, "admin_key": other},
        "no certificate": {"admin_cert": tokens, "admin_key": key},
        "public without": {"admin_listen": public,
                           "admin_token_file": tokens},
        "public without token": {"admin_listen": public, "admin_cert": cert,
                                 "admin_key": key}}[case]
    done = subprocess.run(
        [WORKER, "admin", "-c", admin.configure(**settings)],
        capture_output=True, text=True, timeout=20)
    assert done.returncode == status
    assert word in done.stderr
    assert "PRIVATE" not in done.stderr


# ---- too much of it ------------------------------------------------------


def test_an_address_that_asks_for_too_much(admin):
    admin.start(admin_rate="10")
    answers = [admin.http("/livez") for _ in range(60)]
    assert [a.status for a in answers[:40]] == [200] * 40
    refused = [a for a in answers if a.status != 200]
    assert refused and {a.status for a in refused} == {429}
    for a in refused:
        assert a.type == "application/problem+json"
        assert int(a.header("Retry-After")) >= 1
    # an address of its own is not concerned
    conn = http.client.HTTPConnection(HOST, admin.port, timeout=5,
                                      source_address=("127.0.0.2", 0))
    conn.request("GET", "/livez")
    assert conn.getresponse().status == 200
    conn.close()
    harness.wait_until(lambda: admin.http("/livez").status == 200, 5)
    assert "status=429" in admin.worker.log()


def test_tokens_cannot_be_tried_for_long(admin, tokens):
    admin.start(admin_token_file=tokens)
    tried = []
    for i in range(200):
        tried.append(admin.http("/v1/queues", headers={
            "Authorization": "Bearer guess%d" % i}).status)
        if tried[-1] == 429:
            break
    assert set(tried[:-1]) == {401}
    assert tried[-1] == 429
    assert "guess" not in admin.worker.log()


def test_without_a_bound(admin):
    admin.start(admin_rate="0")
    conn = http.client.HTTPConnection(HOST, admin.port, timeout=5)
    for _ in range(3000):
        conn.request("GET", "/livez")
        response = conn.getresponse()
        response.read()
        assert response.status == 200
    conn.close()


def test_who_sends_a_byte_now_and_then_is_ended(admin):
    admin.start(admin_time="2")
    head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "
    slow = [socket.create_connection((HOST, admin.port), 5)
            for _ in range(20)]
    ended = set()
    begin = time.monotonic()

    def drip():
        for s in slow:
            if s in ended:
                continue
            try:
                s.sendall(head[:1])
                s.setblocking(False)
                if s.recv(1000) == b"":
                    ended.add(s)
            except BlockingIOError:
                pass
            except OSError:
                ended.add(s)
        return len(ended) == len(slow)
    harness.wait_until(drip, 8, "all are ended")
    assert time.monotonic() - begin > 1.5
    for s in slow:
        s.close()
    assert admin.get("/livez")
    harness.wait_until(lambda: "too-slow" in admin.worker.log(), 3)


def test_who_reads_a_byte_now_and_then_is_ended(admin):
    admin.start(admin_time="2")
    admin.seed(*[put(id="id-%d" % i, subject="s" * 30000)
                 for i in range(400)])
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(5)
        s.connect((HOST, admin.port))
        s.sendall(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
                   % queue(rest="/messages?limit=400")).encode())
        got = [0]

        def drip():
            try:
                part = s.recv(2000)
            except OSError:
                return True
            got[0] += len(part)
            return "too-slow" in admin.worker.log()
        harness.wait_until(drip, 10, "it is ended")
        # what the kernel had taken already comes, and then nothing
        try:
            while part := s.recv(1000000):
                got[0] += len(part)
        except ConnectionError:
            pass
        assert got[0] < 12000000
    assert admin.get("/livez")


def test_half_open(admin):
    """Who asks and says that nothing more will come has its answer."""
    admin.start()
    with socket.create_connection((HOST, admin.port), 5) as s:
        s.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
                  b"Connection: close\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        got = b""
        while True:
            part = s.recv(65536)
            if not part:
                break
            got += part
    assert got == b"" or got.startswith(b"HTTP/1.1 200 ")
    # half a request, and gone
    for cut in (10, 30, 60):
        with socket.create_connection((HOST, admin.port), 5) as s:
            s.sendall((b"POST /v1/queues/x/flush HTTP/1.1\r\n"
                       b"Host: localhost\r\nContent-Length: 9\r\n\r\n{"
                       )[:cut])
    assert admin.get("/livez")


def test_a_thousand_in_parallel(admin):
    """Each is answered, or refused by a bound; none changes what another
    sees, and the worker is as it was."""
    admin.start(admin_rate="0")
    admin.seed(*[put(id="id-%d" % i) for i in range(100)])
    paths = [queue(), queue(rest="/messages?limit=100"), "/v1/queues",
             "/metrics", message("id-7"), "/nothing"]
    want = {p: 404 if p == "/nothing" else 200 for p in paths}

    def ask(i):
        path = paths[i % len(paths)]
        try:
            answer = admin.http(path)
        except (OSError, http.client.HTTPException):
            return "refused"
        if path != "/metrics":
            json.loads(answer.text)
        return answer.status == want[path]
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        results = list(pool.map(ask, range(1000)))
    assert results.count(False) == 0
    assert results.count(True) >= 900
    # and a thousand connections at a time that say nothing
    held = []
    try:
        for _ in range(1000):
            s = socket.socket()
            s.setblocking(False)
            try:
                s.connect((HOST, admin.port))
            except BlockingIOError:
                pass
            held.append(s)
        time.sleep(0.2)
        assert admin.worker.running
    finally:
        for s in held:
            s.close()

    def up():
        try:
            return admin.http("/livez").status == 200
        except (OSError, http.client.HTTPException):
            return False  # this address has too many connections still
    harness.wait_until(up, 10)
    assert admin.get(queue())["messages"] == 100
    assert len(os.listdir("/proc/%d/fd" % admin.worker.pid)) < 40


def test_what_comes_in_from_outside_is_no_line_of_the_log(admin, tokens):
    admin.start(admin_token_file=tokens)
    for path in ("/%0aERROR:%20x", "/v1/queues/%0a", "/x\u00e9".encode(
            ).decode("latin-1").replace("\u00c3\u00a9", "%C3%A9")):
        admin.http(path, headers={"Authorization": "Bearer a\tb",
                                  "User-Agent": "evil-agent"})
    log = admin.worker.log()
    assert "evil-agent" not in log and "ERROR: x" not in log
