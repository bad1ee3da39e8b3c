# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""cpm_pf_worker admin by itself: a Redis, the worker, HTTP, no Kamailio."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.parse

import pytest

import harness

WORKER = os.environ.get("CPM_WORKER", os.path.join(
    harness.TOP, "modules", "cpm_pf", "cpm_pf_worker"))
HOST = "127.0.0.1"
BOB = "sip:bob@example.org"
T0 = 1700000000123  # 2023-11-14T22:13:20.123Z


class Admin:
    """A worker and its Redis."""

    def __init__(self, directory, seed_program):
        self.directory = str(directory)
        self.seed_program = seed_program
        self.redis = harness.Redis(self.directory)
        self.redis.start()
        self.port = harness.free_port()
        self.worker = None

    def configure(self, **settings):
        conf = {"redis": "port=%d" % self.redis.port,
                "admin_listen": "%s:%d" % (HOST, self.port)}
        conf.update(settings)
        path = os.path.join(self.directory, "worker.conf")
        with open(path, "w") as f:
            for key, value in conf.items():
                f.write("%s=%s\n" % (key, value))
        return path

    def start(self, **settings):
        path = self.configure(**settings)
        before = self.worker and len(self.worker.log())
        self.worker = harness.Program(
            "worker", [WORKER, "admin", "-c", path], self.directory)
        self.worker.wait_log("admin: start", offset=before or 0)
        return self

    def close(self):
        try:
            if self.worker:
                self.worker.stop()
                assert self.worker.process.returncode == 0
                assert not re.search("Sanitizer|runtime error",
                                     self.worker.log())
        finally:
            self.redis.stop()

    def seed(self, *commands):
        lines = []
        for verb, *words in commands:
            line = [verb]
            for word in words:
                data = word if isinstance(word, bytes) else str(word).encode()
                line.append(data.hex() or "-")
            lines.append(" ".join(line))
        done = subprocess.run(
            [self.seed_program, str(self.redis.port), "cpm"],
            input="\n".join(lines) + "\n", text=True, capture_output=True,
            timeout=60)
        assert done.returncode == 0, done.stdout[-500:]

    def http(self, path, method="GET", headers=None, body=None, host=HOST):
        conn = http.client.HTTPConnection(host, self.port, timeout=10)
        try:
            conn.request(method, path, body=body, headers=headers or {})
            response = conn.getresponse()
            return harness.Answer(response, response.read())
        finally:
            conn.close()

    def raw(self, data):
        """Bytes that no HTTP library would send; the answer's first line."""
        with socket.create_connection((HOST, self.port), timeout=15) as s:
            s.sendall(data)
            got = b""
            while b"\r\n" not in got:
                part = s.recv(65536)
                if not part:
                    break
                got += part
        return got.split(b"\r\n")[0].decode("latin-1")

    def get(self, path, **kw):
        """A request that must succeed: its JSON."""
        answer = self.http(path, **kw)
        assert answer.status == 200, answer
        assert answer.type == "application/json"
        return answer.json

    def refused(self, path, status, *words, **kw):
        """One that must not: its problem document names what is wrong."""
        answer = self.http(path, **kw)
        assert answer.status == status, answer
        assert answer.type == "application/problem+json"
        problem = answer.json
        assert set(problem) == {"type", "title", "status", "detail"}
        assert problem["type"] == "about:blank"
        assert problem["status"] == status
        for word in words:
            assert word in problem["detail"], problem
        return answer


@pytest.fixture
def admin(tmp_path, seed_program):
    a = Admin(tmp_path, seed_program)
    yield a
    a.close()


def put(aor=BOB, id="id-1", received=T0, expires=0, sender="<sip:a@b.example>",
        to=None, subject="", ctype="text/plain", conv="", contr="",
        body=b"hello"):
    return ("put", aor, id, received, expires, sender, to or "<%s>" % aor,
            subject, ctype, conv, contr, body)


def queue(aor=BOB, rest=""):
    return "/v1/queues/" + urllib.parse.quote(aor, safe="") + rest


def walk(admin, path, limit):
    """All items of a list, page by page."""
    items, cursor, sizes = [], None, []
    while True:
        query = {"limit": limit}
        if cursor is not None:
            query["cursor"] = cursor
        page = admin.get(path + ("&" if "?" in path else "?")
                         + urllib.parse.urlencode(query))
        assert set(page) == {"items", "next"}
        items += page["items"]
        sizes.append(len(page["items"]))
        cursor = page["next"]
        if cursor is None:
            return items, sizes
        assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)
        assert len(sizes) < 1000


# ---- nothing there -------------------------------------------------------


def test_nothing_queued(admin):
    admin.start()
    assert admin.get("/v1/queues") == {"items": [], "next": None}
    admin.refused(queue(), 404)
    assert admin.get(queue(rest="/messages")) == {"items": [], "next": None}
    admin.refused(queue(rest="/messages/id-1"), 404)


def test_probes(admin):
    admin.start()
    assert admin.get("/livez") == {"status": "ok"}
    assert admin.get("/readyz") == {"status": "ok", "warnings": []}
    assert admin.get("/livez?check=1") == {"status": "ok"}


def test_headers_of_every_answer(admin):
    admin.start()
    for path in ("/v1/queues", "/nothing", "/livez", "/metrics"):
        answer = admin.http(path)
        assert answer.header("Cache-Control") == "no-store"
        assert answer.header("X-Content-Type-Options") == "nosniff"


# ---- lists ---------------------------------------------------------------


def test_queues_page_by_page(admin):
    admin.start()
    users = ["sip:user%03d@example.org" % i for i in range(250)]
    admin.seed(*[put(u, "id-%d" % n) for u in users for n in range(2)])
    for limit in (1, 7, 50, 100, 125, 249, 250, 251, 500):
        items, sizes = walk(admin, "/v1/queues", limit)
        assert sorted(i["user"] for i in items) == users
        # no page but the last is short, and there is no empty one behind it
        assert sizes == [limit] * (250 // limit) + (
            [250 % limit] if 250 % limit else [])
    assert items[0]["messages"] == 2
    assert len(admin.get("/v1/queues")["items"]) == 100


def test_queues_by_prefix(admin):
    admin.start()
    users = ["sip:ann@a.example", "sip:anna@a.example", "sip:bob@a.example",
             "tel:+4412", "tel:+4413", "tel:+49"]
    admin.seed(*[put(u) for u in users])
    for prefix in ("sip:ann", "sip:ann@", "tel:+44", "sip:", "tel:+4412", "x",
                   ""):
        items, _ = walk(admin, "/v1/queues?prefix="
                        + urllib.parse.quote(prefix, safe=""), 2)
        assert sorted(i["user"] for i in items) == [
            u for u in users if u.startswith(prefix)]
    # a plus is a plus
    assert len(admin.get("/v1/queues?prefix=tel:+44")["items"]) == 2


def test_queues_by_age(admin):
    admin.start()
    admin.seed(*[put("sip:u%d@a.example" % i) for i in range(20)])
    assert len(admin.get("/v1/queues?older_than=0")["items"]) == 20
    assert admin.get("/v1/queues?older_than=3600") == {
        "items": [], "next": None}
    time.sleep(1.2)
    items, _ = walk(admin, "/v1/queues?older_than=1", 3)
    assert len(items) == 20


def test_messages_page_by_page(admin):
    admin.start()
    ids = ["id-%03d" % i for i in range(120)]
    admin.seed(*[put(id=i, received=T0 + n) for n, i in enumerate(ids)])
    for limit in (1, 7, 60, 119, 120, 500):
        items, _ = walk(admin, queue(rest="/messages"), limit)
        assert [i["id"] for i in items] == ids
    assert admin.get(queue())["messages"] == len(items)


def test_messages_by_state(admin):
    admin.start()
    admin.seed(
        put(id="gone"), put(id="tired"), put(id="away"), put(id="new"),
        ("lease", BOB, "t1", 60000), ("dead", BOB, "gone", "t1", "486"),
        ("lease", BOB, "t2", 60000),
        ("retry", BOB, "tired", "t2", "480", 3600000),
        ("lease", BOB, "t3", 600000))
    # the retry was taken at once by the last lease, as it takes all
    states = {i["id"]: i["state"]
              for i in admin.get(queue(rest="/messages"))["items"]}
    assert states == {"gone": "dead", "tired": "leased", "away": "queued",
                      "new": "queued"}
    assert admin.get(queue())["state_counts"] == {
        "queued": 2, "leased": 1, "held": 0, "dead": 1}
    for state in ("queued", "leased", "held", "dead"):
        items, _ = walk(admin, queue(rest="/messages?state=" + state), 1)
        assert [i["id"] for i in items] == [
            i for i, s in states.items() if s == state]


# ---- one queue, one message ----------------------------------------------


def test_a_queue_exactly(admin):
    admin.start()
    before = time.time()
    admin.seed(put(id="a"), put(id="b", body=b"x" * 1000))
    after = time.time()
    one = admin.get(queue())
    assert list(one) == ["user", "messages", "bytes", "oldest", "newest",
                         "state_counts"]
    assert (one["user"], one["messages"]) == (BOB, 2)
    assert 1000 < one["bytes"] < 5000
    assert one["state_counts"] == {
        "queued": 2, "leased": 0, "held": 0, "dead": 0}
    for when in (one["oldest"], one["newest"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", when)
        assert (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before - 2))
                <= when
                <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(after + 2)))
    assert admin.get("/v1/queues")["items"] == [one]


def test_a_message_exactly(admin):
    admin.start()
    expires = int(time.time() * 1000) // 1000 * 1000 + 3600 * 1000
    admin.seed(put(
        id="urn:x/1?a=b&c%d", expires=expires,
        sender='"Alice \u00fc" <sip:alice@example.org>', to="<sip:bob@b>",
        subject="caf\u00e9 \"x\" </script>", ctype="text/plain;charset=utf-8",
        conv="conv-1", contr="contr-1", body=b"\x00\xff body"))
    want = {
        "id": "urn:x/1?a=b&c%d", "state": "queued",
        "from": '"Alice \u00fc" <sip:alice@example.org>', "to": "<sip:bob@b>",
        "subject": "caf\u00e9 \"x\" </script>",
        "content_type": "text/plain;charset=utf-8", "size": 7,
        "received": "2023-11-14T22:13:20.123Z",
        "expires": time.strftime("%Y-%m-%dT%H:%M:%S.000Z",
                                 time.gmtime(expires // 1000)),
        "attempts": 0, "next_attempt": None, "last_error": None,
        "conversation_id": "conv-1", "contribution_id": "contr-1"}
    path = queue(rest="/messages/" + urllib.parse.quote(want["id"], safe=""))
    got = admin.get(path)
    assert got == want
    assert list(got) == list(want)
    assert admin.get(queue(rest="/messages"))["items"] == [want]


def test_what_is_not_there_is_null(admin):
    admin.start()
    admin.seed(put(ctype="", body=b""))
    got = admin.get(queue(rest="/messages/id-1"))
    assert got["size"] == 0
    for name in ("subject", "content_type", "expires", "next_attempt",
                 "last_error", "conversation_id", "contribution_id"):
        assert got[name] is None, name


def test_a_failed_attempt_is_told(admin):
    admin.start()
    admin.seed(put(), ("lease", BOB, "t", 60000),
               ("retry", BOB, "id-1", "t", "486", 3600000))
    got = admin.get(queue(rest="/messages/id-1"))
    assert (got["state"], got["attempts"], got["last_error"]) == (
        "queued", 1, "486")
    due = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 3590))
    assert got["next_attempt"] >= due


def test_bytes_that_are_no_utf8(admin):
    admin.start()
    admin.seed(put(subject=b"a\xff\xc0\x80b\xed\xa0\x80c\xf5d\xe2\x82",
                   sender=b"\x00<sip:a@b>", conv=b"\xf0\x9f\x98\x80"))
    got = admin.get(queue(rest="/messages/id-1"))
    assert got["subject"] == "a\ufffd\ufffd\ufffdb\ufffd\ufffd\ufffdc" \
        "\ufffdd\ufffd\ufffd"
    assert got["from"] == "\ufffd<sip:a@b>"
    assert got["conversation_id"] == "\U0001f600"


def test_what_has_expired_is_not_shown(admin):
    admin.start()
    admin.seed(put(id="old", expires=int(time.time() * 1000) + 300),
               put(id="new"))
    time.sleep(0.5)
    assert admin.get(queue())["messages"] == 1
    assert [i["id"] for i in admin.get(queue(rest="/messages"))["items"]] == [
        "new"]
    admin.refused(queue(rest="/messages/old"), 404)


def test_bodies_only_where_they_are_allowed(admin):
    admin.start()
    admin.seed(put(body=b"\x00secret\xff"))
    path = queue(rest="/messages/id-1")
    assert "body" not in admin.get(path)
    admin.refused(path + "?include=body", 403, "admin_bodies")
    admin.refused(path + "?include=all", 400, "include")
    admin.worker.stop()

    admin.start(admin_bodies=1)
    assert "body" not in admin.get(path)
    got = admin.get(path + "?include=body")
    assert base64.b64decode(got["body"], validate=True) == b"\x00secret\xff"
    assert got["size"] == 8
    assert "secret" not in admin.worker.log()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 300000])
def test_a_body_of_any_size(admin, size):
    admin.start(admin_bodies=1)
    body = bytes(i * 7 % 256 for i in range(size))
    admin.seed(put(body=body))
    got = admin.get(queue(rest="/messages/id-1?include=body"))
    assert base64.b64decode(got["body"], validate=True) == body


# ---- spellings -----------------------------------------------------------


def test_percent_encoding(admin):
    admin.start()
    admin.seed(put(id="a/b"), put(id="a%2Fb", subject="escaped"),
               put(id="a"), put("sip:a%20b@example.org"))
    # all of these name bob
    for spelling in ("sip:bob@example.org", "sip%3Abob%40example.org",
                     "%73ip:bob@example.org", "sip%3abob%40example.org"):
        assert admin.get("/v1/queues/" + spelling)["user"] == BOB
    # a slash of an id is no separator, and nothing is unescaped twice
    bob = queue(rest="/messages/")
    assert admin.get(bob + "a%2Fb")["id"] == "a/b"
    assert admin.get(bob + "a%2fb")["id"] == "a/b"
    assert admin.get(bob + "a%252Fb")["subject"] == "escaped"
    admin.refused(bob + "a/b", 404)
    user = "/v1/queues/sip:a%2520b@example.org"
    assert admin.get(user)["user"] == "sip:a%20b@example.org"
    admin.refused("/v1/queues/sip:a%20b@example.org", 400, "user")


@pytest.mark.parametrize("user", [
    "sip:bob@example.org%00", "sip:bob%@example.org", "sip:bob@example.org%4",
    "sip:bob@example.org%zz", "%"])
def test_a_broken_escape_in_a_user(admin, user):
    admin.start()
    admin.refused("/v1/queues/" + user, 400, "user", "escape")


@pytest.mark.parametrize("user", [
    "bob", "sip:bob@EXAMPLE.org", "sips:bob@example.org",
    "sip:bob@example.org:5060", "sip:bob@example.org;a=b", "tel:+44-12",
    "sip:%2562ob@example.org", "%FF", "sip:bob@example.org%0D%0A",
    "sip:" + "b" * 300 + "@example.org"])
def test_a_user_that_is_not_canonical(admin, user):
    admin.start()
    admin.refused("/v1/queues/" + user, 400, "user", "canonical")
    admin.refused("/v1/queues/" + user + "/messages", 400, "user")


@pytest.mark.parametrize("query,word", [
    ("limit=0", "limit"), ("limit=501", "limit"), ("limit=", "limit"),
    ("limit=-1", "limit"), ("limit=1x", "limit"), ("limit=%00", "limit"),
    ("limit=99999999999999999999999", "limit"), ("limit=+1", "limit"),
    ("limit=1&limit=1", "twice"), ("limit=%4", "escape"),
    ("cursor=", "cursor"), ("cursor=x", "cursor"), ("cursor=%00x", "cursor"),
    ("cursor=dQ", "cursor"), ("cursor=bTE", "cursor"),
    ("cursor=" + "A" * 2000, "cursor"), ("cursor=dWE=", "cursor"),
    ("older_than=x", "older_than"), ("older_than=-1", "older_than"),
    ("prefix=%20", "prefix"), ("prefix=" + "x" * 257, "prefix"),
    ("limt=1", "parameter"), ("state=queued", "parameter"),
    ("LIMIT=1", "parameter")])
def test_a_bad_query(admin, query, word):
    admin.start()
    admin.seed(put())
    admin.refused("/v1/queues?" + query, 400, word)


def test_a_bad_query_of_messages(admin):
    admin.start()
    admin.seed(put(), put("sip:a@a.example"), put(id="id-2"))
    path = queue(rest="/messages?")
    for query in ("state=new", "state=", "state=Queued", "state=Q"):
        admin.refused(path + query, 400, "state")
    users = admin.get("/v1/queues?limit=1")["next"]
    messages = admin.get(path + "limit=1")["next"]
    assert users and messages
    admin.refused(path + "cursor=" + users, 400, "cursor")
    admin.refused("/v1/queues?cursor=" + messages, 400, "cursor")
    admin.refused(queue(rest="?limit=1"), 400, "parameter")
    assert len(admin.get(path + "&limit=1&")["items"]) == 1


def test_a_cursor_of_a_user_that_went(admin):
    admin.start()
    users = ["sip:u%02d@a.example" % i for i in range(30)]
    admin.seed(*[put(u) for u in users])
    page = admin.get("/v1/queues?limit=10")
    last = page["items"][-1]["user"]
    admin.seed(("lease", last, "t", 60000), ("delivered", last, "id-1", "t"))
    rest = admin.get("/v1/queues?limit=100&cursor=" + page["next"])
    assert sorted(i["user"] for i in page["items"] + rest["items"]) == users


@pytest.mark.parametrize("path", [
    "/v1", "/v1/", "/v1/queues/", "/v1//queues", "//v1/queues",
    "/v1/queues/sip:bob@example.org/", "/v1/queues/sip:bob@example.org/x",
    "/v1/queues/sip:bob@example.org/messages/",
    "/v1/queues/sip:bob@example.org/messages/a/b", "/v1%2Fqueues",
    "/V1/queues", "/livez/", "/v1/queues//messages", "/../v1/queues"])
def test_a_path_that_is_none(admin, path):
    admin.start()
    admin.seed(put())
    admin.refused(path, 404)


# ---- HTTP ----------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH",
                                    "OPTIONS", "FROB", "get"])
def test_a_method_that_is_none(admin, method):
    admin.start()
    for path in ("/v1/queues", queue(), "/livez"):
        answer = admin.refused(path, 405, method=method)
        assert answer.header("Allow") == "GET, HEAD"


def test_head(admin):
    admin.start()
    admin.seed(put())
    for path, status in (("/v1/queues", 200), (queue(), 200), ("/livez", 200),
                         ("/nothing", 404), ("/v1/queues?limit=0", 400)):
        answer = admin.http(path, "HEAD")
        assert (answer.status, answer.text) == (status, "")
        assert int(answer.header("Content-Length")) > 0


def test_too_much(admin):
    admin.start()
    admin.refused("/v1/queues?prefix=" + "x" * 9000, 414)
    assert admin.raw(b"GET /" + b"x" * 200000 + b" HTTP/1.1\r\nHost: "
                     b"localhost\r\n\r\n").split()[1] == "414"
    assert admin.raw(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "
                     + b"x" * 200000 + b"\r\n\r\n").split()[1] == "431"
    admin.refused("/v1/queues", 413, method="POST", body=b"x" * 65537)
    admin.refused("/v1/queues", 405, method="POST", body=b"x" * 65536)
    assert admin.get("/livez", body=b"x" * 10) == {"status": "ok"}


def test_a_body_without_end(admin):
    admin.start()
    with socket.create_connection((HOST, admin.port), timeout=10) as s:
        s.sendall(b"POST /v1/queues HTTP/1.1\r\nHost: localhost\r\n"
                  b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            for _ in range(10000):
                s.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
    assert admin.get("/livez")


def test_no_http_at_all(admin):
    admin.start()
    held = []
    for data in (b"\r\n\r\n\r\n", b"HELO\r\n\r\n", b"\x16\x03\x01\x02\x00",
                 b"GET\r\n\r\n", b"GET /livez\r\n\r\n",
                 b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 b"GET http://x/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 b"GET /livez HTTP/1.1\r\nContent-Length: -1\r\n"
                 b"Host: localhost\r\n\r\n"):
        held.append(socket.create_connection((HOST, admin.port), timeout=30))
        held[-1].sendall(data)
        held[-1].shutdown(socket.SHUT_WR)
    # each comes to an end, some only when the idle time is over
    for s in held:
        while s.recv(65536):
            pass
        s.close()
    assert admin.get("/livez")
    assert admin.worker.running


def test_many_connections(admin):
    admin.start()
    held = []
    try:
        for _ in range(300):
            held.append(socket.create_connection((HOST, admin.port), 5))
    except OSError:
        pass
    finally:
        for s in held:
            s.close()
    harness.wait_until(lambda: admin.http("/livez").status == 200, 10)


def test_keep_alive(admin):
    admin.start()
    conn = http.client.HTTPConnection(HOST, admin.port, timeout=5)
    for path, status in (("/livez", 200), ("/nothing", 404), (queue(), 404),
                         ("/v1/queues", 200), ("/v1/queues?limit=0", 400)):
        conn.request("GET", path)
        response = conn.getresponse()
        assert response.status == status
        json.loads(response.read())
    conn.close()


@pytest.mark.parametrize("host,status", [
    ("localhost", 200), ("LOCALHOST:80", 200), ("127.0.0.1", 200),
    ("127.0.0.1:8060", 200), ("[::1]", 200), ("[::1]:8060", 200),
    ("evil.example", 403), ("localhost.evil.example", 403),
    ("127.0.0.1.evil.example:8060", 403), ("[::1].evil.example", 403),
    ("10.0.0.1", 403), ("[::2]", 403), ("x" * 100, 403)])
def test_a_page_of_a_rebound_name_reads_nothing(admin, host, status):
    admin.start()
    for path in ("/v1/queues", "/livez"):
        assert admin.http(path, headers={"Host": host}).status == status


# ---- tokens --------------------------------------------------------------


def test_tokens(admin, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("# who\nread  reader-1\n\nread-write\twriter-1\r\n")
    tokens.chmod(0o600)
    admin.start(admin_token_file=str(tokens))
    admin.seed(put())
    for path in ("/v1/queues", queue(), "/v1/nothing", "/nothing"):
        answer = admin.refused(path, 401)
        assert answer.header("WWW-Authenticate") == 'Bearer realm="cpm_pf"'
    for value in ("Bearer reader-1", "Bearer writer-1", "bearer reader-1",
                  "BEARER  writer-1"):
        admin.get("/v1/queues", headers={"Authorization": value})
    for value in ("Bearer reader-", "Bearer reader-11", "Bearer", "reader-1",
                  "Basic reader-1", "Bearer reader-1 x", "Bearer " + "x" * 300,
                  "Bearer Reader-1", "Bearer read", "Bearer \xff"):
        answer = admin.refused("/v1/queues", 401,
                               headers={"Authorization": value})
        assert "invalid_token" in answer.header("WWW-Authenticate")
    good = {"Authorization": "Bearer reader-1"}
    admin.refused("/v1/nothing", 404, headers=good)
    admin.refused("/v1/queues", 405, headers=good, method="POST")
    # who asks from this host may probe
    for path in ("/livez", "/readyz", "/metrics"):
        assert admin.http(path).status == 200
    # with a token any name will do: the browser does not know it
    admin.get("/v1/queues", headers=dict(good, Host="cpm.example"))
    assert "reader-1" not in admin.worker.log()
    assert "status=401" in admin.worker.log()
    assert admin.worker.log().count("status=401") <= 10


# ---- the store goes away -------------------------------------------------


def test_redis_down_and_back(admin):
    admin.start()
    admin.seed(put())
    admin.redis.kill()
    for path in ("/v1/queues", queue(), queue(rest="/messages"),
                 queue(rest="/messages/id-1"), "/readyz"):
        answer = admin.refused(path, 503, "redis")
        assert int(answer.header("Retry-After")) >= 1
    assert admin.get("/livez")
    metrics = admin.http("/metrics")
    assert metrics.status == 200
    assert "\ncpm_pf_redis_up 0\n" in metrics.text
    assert "cpm_pf_queue_" not in metrics.text
    admin.refused("/v1/queues?limit=0", 400)

    admin.redis.start()
    harness.wait_until(lambda: admin.http("/readyz").status == 200, 5)
    assert admin.get(queue())["messages"] == 1
    log = admin.worker.log()
    assert log.count("redis-down") == 1
    assert log.count("redis-up") == 1


def test_redis_stalls(admin):
    admin.start()
    admin.get("/v1/queues")
    admin.redis.freeze()
    begin = time.monotonic()
    for _ in range(20):
        admin.refused("/v1/queues", 503, "redis")
    assert time.monotonic() - begin < 5
    admin.redis.thaw()
    harness.wait_until(lambda: admin.http("/readyz").status == 200, 5)


def test_a_start_without_redis(admin):
    admin.redis.kill()
    admin.start()
    admin.refused("/readyz", 503, "redis")
    admin.redis.start()
    harness.wait_until(lambda: admin.http("/readyz").status == 200, 5)


# ---- metrics -------------------------------------------------------------


def test_metrics(admin):
    admin.start()
    admin.seed(put(), put(id="id-2"), put("sip:ann@example.org"),
               ("lease", BOB, "t", 60000), ("dead", BOB, "id-1", "t", "486"))
    answer = admin.http("/metrics")
    assert answer.header("Content-Type") == \
        "text/plain; version=0.0.4; charset=utf-8"
    values = dict(re.findall(r"^(\w+) (\d+)$", answer.text, re.M))
    assert values["cpm_pf_redis_up"] == "1"
    assert values["cpm_pf_queue_users"] == "2"
    assert values["cpm_pf_queue_messages"] == "3"
    assert values["cpm_pf_queue_dead"] == "1"
    assert int(values["cpm_pf_queue_bytes"]) > 100
    for name in values:
        assert re.search("^# HELP %s \\S" % name, answer.text, re.M)
        assert re.search("^# TYPE %s gauge$" % name, answer.text, re.M)
    assert "bob" not in answer.text


# ---- start and stop ------------------------------------------------------


@pytest.mark.parametrize("settings,words", [
    ({"redis": "adr=1"}, ["redis takes", "addr"]),
    ({"redis": "port=x;pass=hidden"}, ["redis takes"]),
    ({"redis_connect_timeout_ms": "0"}, ["redis_connect_timeout_ms takes"]),
    ({"redis_cmd_timeout_ms": "soon"}, ["redis_cmd_timeout_ms takes"]),
    ({"key_prefix": "a{b}"}, ["key_prefix takes"]),
    ({"key_prefix": ""}, ["key_prefix takes"]),
    ({"key_prefix": "x" * 33}, ["key_prefix takes"]),
    ({"admin_listen": "8060"}, ["admin_listen takes"]),
    ({"admin_listen": "localhost:8060"}, ["admin_listen takes"]),
    ({"admin_listen": "127.0.0.1:0"}, ["admin_listen takes"]),
    ({"admin_listen": "127.0.0.1:65536"}, ["admin_listen takes"]),
    ({"admin_listen": "::1:8060"}, ["admin_listen takes"]),
    ({"admin_listen": "[::1]"}, ["admin_listen takes"]),
    ({"admin_listen": "0.0.0.0:8060"}, ["admin_listen", "admin_token_file"]),
    ({"admin_listen": "[::]:8060"}, ["admin_listen", "admin_token_file"]),
    ({"admin_bodies": "yes"}, ["admin_bodies takes"]),
    ({"admin_rate": "fast"}, ["admin_rate takes"]),
    ({"admin_tls": "off"}, ["admin_tls takes"]),
    ({"admin_cert": "/nonexistent/x"}, ["admin_cert takes"]),
    ({"admin_cert": __file__}, ["admin_cert takes"]),
    ({"log": "file"}, ["log takes"]),
    ({"stats_fd": "77"}, ["stats_fd takes"]),
    ({"admin_token_file": "/nonexistent/x"}, ["admin_token_file takes"]),
    ({"colour": "red"}, ["no such key"])])
def test_a_bad_setting(admin, settings, words):
    done = subprocess.run(
        [WORKER, "admin", "-c", admin.configure(**settings)],
        capture_output=True, text=True, timeout=10)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert "hidden" not in done.stderr


@pytest.mark.parametrize("text,word", [
    ("", "no token"), ("# nothing\n", "no token"), ("read\n", "line 1"),
    ("read a b\n", "line 1"), ("read ok\nadmin x\n", "line 2"),
    ("read \xff\n", "line 1"), ("read " + "x" * 256, "line 1"),
    ("read x\n" * 65, "more than 64")])
def test_a_bad_token_file(admin, tmp_path, text, word):
    path = tmp_path / "tokens"
    path.write_text(text, encoding="latin-1")
    path.chmod(0o600)
    done = subprocess.run(
        [WORKER, "admin", "-c", admin.configure(admin_token_file=str(path))],
        capture_output=True, text=True, timeout=10)
    assert done.returncode == 2
    assert "admin_token_file" in done.stderr and word in done.stderr


def test_a_key_twice(admin):
    path = admin.configure()
    with open(path, "a") as f:
        f.write("# again\nkey_prefix=a\nkey_prefix=a\n")
    done = subprocess.run([WORKER, "admin", "-c", path], capture_output=True,
                          text=True, timeout=10)
    assert done.returncode == 2
    assert "line 5: key_prefix is given twice" in done.stderr


def test_the_command_line():
    def run(*argv):
        return subprocess.run([WORKER] + list(argv), capture_output=True,
                              text=True, timeout=10)
    assert run("--version").stdout.startswith("cpm_pf_worker ")
    assert run("--version").returncode == 0
    assert "admin_listen" in run("--help").stdout
    for argv in ((), ("admin",), ("admin", "-c"), ("admin", "-x", "y"),
                 ("nothing", "-c", "x"), ("admin", "-c", "/nonexistent/x"),
                 ("admin", "-f", "99"), ("admin", "-f", "x"),
                 ("admin", "-f", "0"), ("admin", "-c", "/")):
        done = run(*argv)
        assert done.returncode == 2, argv
        assert done.stderr


def test_a_taken_port(admin):
    admin.start()
    done = subprocess.run([WORKER, "admin", "-c", admin.configure()],
                          capture_output=True, text=True, timeout=10)
    assert done.returncode == 3
    assert "cannot-listen" in done.stderr
    assert str(admin.port) in done.stderr
    assert admin.get("/livez")


def test_it_starts_again_at_once(admin):
    for _ in range(3):
        admin.start()
        conn = socket.create_connection((HOST, admin.port))
        conn.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        conn.recv(1000)
        admin.worker.signal(signal.SIGTERM)
        assert admin.worker.process.wait(10) == 0
        conn.close()
    admin.start()


def test_ipv6(admin):
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on this machine")
    admin.start(admin_listen="[::1]:%d" % admin.port)
    assert admin.get("/v1/queues", host="::1")["items"] == []


def test_elsewhere_only_with_a_token(admin, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("read reader-1\n")
    tokens.chmod(0o600)
    admin.start(admin_listen="0.0.0.0:%d" % admin.port,
                admin_token_file=str(tokens), admin_tls="none")
    admin.refused("/v1/queues", 401)
    admin.get("/v1/queues", headers={"Authorization": "Bearer reader-1"})
    assert "no-encryption" in admin.worker.log()


def test_started_with_a_descriptor_it_ends_with_its_parent(admin, tmp_path):
    path = admin.configure()
    pid_file = tmp_path / "pid"
    # a parent that starts the worker and waits to be killed; descriptor 8 is
    # something that the worker must not keep
    parent = subprocess.Popen(
        ["bash", "-c", 'exec 8</dev/null; "$0" admin -f 7 7<"$1" & '
         'echo $! >"$2"; wait', WORKER, path, str(pid_file)],
        stderr=subprocess.DEVNULL)
    try:
        harness.wait_until(
            lambda: pid_file.exists() and pid_file.read_text().strip(), 5)
        pid = int(pid_file.read_text())

        def up():
            try:
                return admin.http("/livez").status == 200
            except OSError:
                return False
        harness.wait_until(up, 10)
        # nothing that has a name: neither 7 nor 8
        for fd in os.listdir("/proc/%d/fd" % pid):
            try:
                name = os.readlink("/proc/%d/fd/%s" % (pid, fd))
            except FileNotFoundError:  # a connection that ended meanwhile
                continue
            assert int(fd) <= 2 or not name.startswith("/"), name
        with open("/proc/%d/status" % pid) as f:
            assert "NoNewPrivs:\t1" in f.read()
    finally:
        parent.kill()
        parent.wait()
    harness.wait_until(lambda: not os.path.exists("/proc/%d" % pid), 5)


def test_a_parent_that_is_another(admin):
    path = admin.configure(parent_pid=1 if os.getpid() != 1 else 2)
    with open(path) as f:
        done = subprocess.run(
            [WORKER, "admin", "-f", str(f.fileno())], pass_fds=[f.fileno()],
            capture_output=True, text=True, timeout=10)
    assert done.returncode == 0
    assert "parent=gone" in done.stderr


def test_the_statistics_page(admin, tmp_path):
    with open(os.path.join(harness.TOP, "modules", "cpm_pf", "core",
                           "cpm_stats.h")) as f:
        text = f.read()
    names = re.findall(r"X\((\w+), '?([CG])'?,", text)
    histograms = re.findall(r"\bX\((\w+), \d", text)
    assert len(names) > 10
    page = (0x43504d31).to_bytes(4, "little") + len(names).to_bytes(4, "little")
    page += b"".join((1000 + i).to_bytes(8, "little")
                     for i in range(len(names)))
    page += bytes(8 * 16 * len(histograms))
    for content, ok in ((page, True), (b"X" + page[1:], False),
                        (page[:4] + b"\1" + page[5:], False),
                        (page[:-8], False)):
        file = tmp_path / "page"
        file.write_bytes(content)
        with open(file, "rb") as f:
            conf = admin.configure(stats_fd=f.fileno())
            worker = subprocess.Popen(
                [WORKER, "admin", "-c", conf], pass_fds=[f.fileno()],
                stderr=subprocess.PIPE, text=True)
        if not ok:
            assert worker.wait(10) == 2
            assert "stats_fd takes" in worker.stderr.read()
            worker.stderr.close()
            continue
        try:
            assert "admin: start" in worker.stderr.readline()
            text = admin.http("/metrics").text
        finally:
            worker.terminate()
            assert worker.wait(10) == 0
            worker.stderr.close()
        for i, (name, kind) in enumerate(names):
            if name == "redis_up":
                assert "\ncpm_pf_redis_up 1\n" in text
                continue
            full = "cpm_pf_%s%s" % (name, "_total" if kind == "C" else "")
            assert "\n%s %d\n" % (full, 1000 + i) in text, full
            assert "\n# TYPE %s %s\n" % (full, {
                "C": "counter", "G": "gauge"}[kind]) in "\n" + text
        assert text.count("# TYPE cpm_pf_redis_up ") == 1
