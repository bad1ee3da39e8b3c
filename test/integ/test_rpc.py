# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""cpm_pf.<verb> as an operator calls it: by kamcmd, and as JSON-RPC over
jsonrpcs' socket."""

import json
import os
import re
import socket
import subprocess

import pytest

import harness
from db import cpim
from harness import wait_until

BOB = "sip:bob@example.org"
DGRAM = ('modparam("jsonrpcs", "transport", 2)\n',
         'modparam("jsonrpcs", "transport", 6)\n'
         'modparam("jsonrpcs", "dgram_socket", "rpc.dgram")\n')
SETTINGS = {"retry_intervals": "3600", "max_attempts": 1}


class Fault(Exception):
    def __init__(self, code, text):
        super().__init__("%d %s" % (code, text))
        self.code, self.text = code, text


def parse(lines):
    """kamcmd's way to print: braces, and "name: value"; of a list each member
    is a brace without a name."""
    out, things = {}, []
    for line in lines:
        line = line.strip()
        if line in ("}", ""):
            if line:
                break
        elif line == "{":
            things.append(parse(lines))
        elif line.endswith(": {"):
            out[line[:-3]] = parse(lines)
        else:
            name, value = line.split(": ", 1) if ": " in line else (
                line.rstrip(":"), "")
            out[name] = int(value) if re.fullmatch(r"-?\d+", value) else value
    return things or out


class Kamcmd:
    name = "kamcmd"

    def __init__(self, stack):
        self.stack = stack

    def __call__(self, verb, *args):
        done = subprocess.run(
            ["kamcmd", "-s", "unix:ctl.sock", "cpm_pf." + verb]
            + [str(a) for a in args], cwd=self.stack.directory,
            capture_output=True, text=True, timeout=10,
            env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin"))
        found = re.match(r"error: (\d+) - (.*)", done.stdout + done.stderr,
                         re.S)
        if found:
            raise Fault(int(found[1]), found[2])
        assert done.returncode == 0, done
        lines = iter(done.stdout.split("\n"))
        assert next(lines) == "{"
        got = parse(lines)
        # an empty list has no members to tell it from an object
        if got.get("items") == {}:
            got["items"] = []
        return got


class JsonRpc:
    name = "jsonrpc"
    count = 0

    def __init__(self, stack):
        self.stack = stack

    def __call__(self, verb, *args):
        JsonRpc.count += 1
        # a path within the directory may be too long for a socket's name
        here = os.getcwd()
        os.chdir(self.stack.directory)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                s.settimeout(10)
                s.bind("client%d.sock" % JsonRpc.count)
                s.connect("rpc.dgram")
                s.send(json.dumps({
                    "jsonrpc": "2.0", "id": JsonRpc.count,
                    "method": "cpm_pf." + verb, "params": list(args)
                }).encode())
                answer = json.loads(s.recv(1 << 20))
        finally:
            os.chdir(here)
        assert answer["id"] == JsonRpc.count
        if "error" in answer:
            raise Fault(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]


@pytest.fixture(scope="module")
def _stack(tmp_path_factory):
    stack = harness.Stack(tmp_path_factory.mktemp("rpc"), SETTINGS,
                          cfg_edit=DGRAM)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


@pytest.fixture
def stack(request, _stack):
    request.node.cpm_stacks = [_stack]
    _stack.expected = []
    _stack.restart_if_dead()
    yield _stack
    for queue in _stack.http("/v1/queues?limit=500").json["items"]:
        assert _stack.http(_stack.queue_path(queue["user"], "/messages"),
                           "DELETE").status == 200
    _stack.close_uas()
    _stack.check_log()
    assert _stack.kamailio.running


@pytest.fixture(params=[Kamcmd, JsonRpc], ids=["kamcmd", "jsonrpc"])
def rpc(request, stack):
    return request.param(stack)


def fault(rpc, code, *args, word=""):
    with pytest.raises(Fault) as e:
        rpc(*args)
    assert e.value.code == code, e.value
    assert word in e.value.text


def fill(stack, user="bob", count=1, subject=None):
    alice = stack.ua("alice")
    for i in range(count):
        headers = [("Subject", subject or "s%d" % i)]
        assert alice.message("sip:%s@example.org" % user, b"%d" % i,
                             headers=headers).code == 202


def kill(stack, user):
    """What is queued for a user is given up."""
    ua = stack.ua(user, answer=486)
    ua.register()
    wait_until(lambda: all(m["state"] == "dead" for m in stack.items(user)),
               10, "all are dead")
    ua.register(expires=0)


def all_pages(rpc, verb, *args, limit):
    items, cursor, pages = [], "-", 0
    while True:
        page = rpc(verb, *args, cursor, limit)
        assert len(page["items"]) <= min(limit, 100)
        items += page["items"]
        pages += 1
        assert pages < 300
        if "next" not in page:
            return items
        cursor = page["next"]


# ---- each verb -----------------------------------------------------------


def test_list(stack, rpc):
    assert rpc("list") == {"items": []}
    users = ["user%02d" % i for i in range(90)]
    for user in users:
        fill(stack, user)
    fill(stack, users[0], 2)
    want = {"sip:%s@example.org" % u for u in users}
    for limit in (1, 7, 40, 90, 100):
        items = all_pages(rpc, "list", limit=limit)
        assert len(items) == 90
        assert {i["user"] for i in items} == want
    first = [i for i in items if i["user"].startswith("sip:user00@")][0]
    assert first["messages"] == first["queued"] == 3
    assert (first["leased"], first["held"], first["dead"]) == (0, 0, 0)
    assert first["bytes"] > 100
    assert first["oldest"] < first["newest"]
    assert list(first) == ["user", "messages", "bytes", "oldest", "newest",
                           "queued", "leased", "held", "dead"]
    # without a limit a page is as long as an answer may be
    assert 10 < len(rpc("list")["items"]) <= 90


def test_show(stack, rpc):
    fault(rpc, 404, "show", BOB)
    fill(stack, count=50, subject="x" * 2000)
    page = rpc("show", BOB)
    assert page["messages"] == 50
    assert "next" in page
    items = all_pages(rpc, "show", BOB, limit=100)
    assert [i["id"] for i in items] == [m["id"] for m in stack.items("bob")]
    assert len(items) == 50
    item = items[0]
    assert item["subject"] == "x" * 120
    assert (item["state"], item["attempts"], item["size"]) == ("queued", 0, 1)
    assert item["content_type"] == "text/plain"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
                        item["received"])
    assert len(all_pages(rpc, "show", BOB, limit=7)) == 50


def test_get(stack, rpc):
    fill(stack, subject="caf\u00e9 " + "y" * 5000)
    id_ = stack.items("bob")[0]["id"]
    got = rpc("get", BOB, id_)
    assert (got["id"], got["user"], got["state"]) == (id_, BOB, "queued")
    assert got["subject"].startswith("caf\u00e9 yyy")
    assert len(got["subject"]) > 700
    assert "body" not in got
    fault(rpc, 404, "get", BOB, "none")
    fault(rpc, 404, "get", "sip:ann@example.org", id_)


def test_what_a_stranger_writes_is_text(stack, rpc):
    alice = stack.ua("alice")
    raw = alice.build("MESSAGE", BOB, [
        ("Content-Type", "text/plain"), ("Subject", "MARK")], b"x")
    assert alice.transact(raw.replace(
        b"MARK", b"a\xff\xc3b\x01\x7f \"\\ {\xc3\xbc")).code == 202
    assert rpc("show", BOB)["items"][0]["subject"] == 'a??b?? "\\ {\u00fc'


def test_requeue_and_dead(stack, rpc):
    assert rpc("dead") == {"items": []}
    for i in range(24):
        fill(stack, "u%02d" % i)
        kill(stack, "u%02d" % i)
    want = [(m["user"], m["id"]) for m in stack.http(
        "/v1/dead?limit=500").json["items"]]
    assert len(want) == 24
    for limit in (1, 5, 24, 100):
        items = all_pages(rpc, "dead", limit=limit)
        assert [(i["user"], i["id"]) for i in items] == want
    assert {(i["state"], i["attempts"], str(i["last_error"]))
            for i in items} == {("dead", 1, "486")}
    user, id_ = want[0]
    assert rpc("requeue", user, id_) == {"requeued": id_}
    again = rpc("get", user, id_)
    assert (again["state"], again["attempts"]) == ("queued", 0)
    assert "last_error" not in again
    assert len(all_pages(rpc, "dead", limit=100)) == 23
    fault(rpc, 404, "requeue", user, "none")


def test_requeue_of_what_is_on_its_way(stack, rpc):
    fill(stack)
    bob = stack.ua("bob", answer=None)
    bob.register()
    bob.wait_messages(1)
    id_ = stack.items("bob")[0]["id"]
    fault(rpc, 409, "requeue", BOB, id_, word="on its way")
    bob.reply(bob.messages[0], 200)
    stack.wait_empty("bob")
    bob.register(expires=0)


def test_flush(stack, rpc):
    fault(rpc, 404, "flush", BOB)
    fill(stack)
    for mode in ("", "auto", "push", "notify"):
        args = [mode] if mode else []
        assert rpc("flush", BOB, *args) == {"flushed": BOB}
    fault(rpc, 400, "flush", BOB, "fast", word="auto, push or notify")


def test_discard_and_purge(stack, rpc):
    fill(stack, count=5)
    ids = [m["id"] for m in stack.items("bob")]
    assert rpc("discard", BOB, ids[2]) == {"discarded": ids[2]}
    fault(rpc, 404, "discard", BOB, ids[2])
    assert [m["id"] for m in stack.items("bob")] == ids[:2] + ids[3:]
    assert rpc("purge", BOB) == {"removed": 4, "done": 1}
    assert rpc("purge", BOB) == {"removed": 0, "done": 1}
    assert stack.queue("bob") is None


def test_stats(stack, rpc):
    before = rpc("stats")
    fill(stack, count=3)
    after = rpc("stats")
    assert list(before) == list(after)
    assert after["queued"] == before["queued"] + 3
    assert (after["queue_users"], after["queue_messages"]) == (1, 3)
    assert after["redis_up"] == 1
    text = stack.http("/metrics").text
    for name in ("received", "queued", "dead", "delivered_message"):
        value = re.search(r"^cpm_pf_%s_total (\d+)$" % name, text, re.M)
        assert rpc("stats")[name] == int(value[1])


def test_reload(stack, rpc):
    assert rpc("reload") == {"reloaded": "all"}
    assert rpc("reload", BOB) == {"reloaded": BOB}
    fault(rpc, 400, "reload", "nobody")
    fault(rpc, 400, "reload", BOB, "x")


# ---- wrong arguments -----------------------------------------------------


@pytest.mark.parametrize("args,word", [
    (["show"], "aor"), (["get"], "aor"), (["get", BOB], "id"),
    (["flush"], "aor"), (["requeue"], "aor"), (["requeue", BOB], "id"),
    (["discard", BOB], "id"), (["purge"], "aor"),
    (["purge", "bob"], "address of record"),
    (["show", "sip:"], "address of record"),
    (["show", "sip:b ob@example.org"], "address of record"),
    (["show", "x" * 700], "too long"), (["show", 5], "address of record"),
    (["list", "-", 0], "limit"), (["list", "-", 101], "limit"),
    (["list", "-", "many"], "limit"), (["list", "-", "1x"], "limit"),
    (["list", "-", 99999999999], "limit"), (["list", "x" * 600], "cursor"),
    (["show", BOB, "12"], "cursor"), (["show", BOB, "m"], "cursor"),
    (["show", BOB, "mx"], "cursor"), (["show", BOB, "m-1"], "cursor"),
    (["show", BOB, "m99999999999999999999"], "cursor"),
    (["dead", "x"], "cursor"), (["dead", "x "], "cursor"),
    (["get", BOB, "a b"], "id"), (["get", BOB, "x" * 129], "id"),
    (["stats", "x"], "too many"),
    (["list", "-", 1, "x"], "too many"), (["show", BOB, "-", 1, 2],
                                          "too many"),
    (["get", BOB, "a", "b"], "too many"), (["purge", BOB, "x"], "too many"),
    (["dead", "-", 1, "x"], "too many"),
    (["flush", BOB, "auto", "x"], "too many")])
def test_a_wrong_argument(stack, rpc, args, word):
    fill(stack)
    fault(rpc, 400, *args, word=word)
    assert stack.queue("bob")["messages"] == 1


@pytest.mark.parametrize("args", [
    ["purge", True], ["purge", None], ["purge", {"a": 1}], ["purge", [BOB]],
    ["show", BOB, False], ["list", "-", -1], ["list", "-", 1e30],
    ["get", BOB, None], ["get", BOB, ""], ["reload", None]])
def test_a_wrong_type(stack, args):
    """What kamcmd has no way to say."""
    stack.expect_log("jsonrpc_scan.*field is not a number to auto-convert")
    fill(stack)
    fault(JsonRpc(stack), 400, *args)
    assert stack.queue("bob")["messages"] == 1


def test_without_redis(new_stack):
    stack = new_stack(SETTINGS, cfg_edit=DGRAM).start()
    fill(stack)
    stack.redis.kill()
    stack.expect_log("store: down", "redis-down", "redis")
    for rpc in (Kamcmd(stack), JsonRpc(stack)):
        for args in (["list"], ["show", BOB], ["get", BOB, "x"],
                     ["flush", BOB], ["requeue", BOB, "x"],
                     ["discard", BOB, "x"], ["purge", BOB], ["dead"]):
            fault(rpc, 503, *args, word="Redis")
        stats = rpc("stats")
        assert stats["redis_up"] == 0
        assert "queue_users" not in stats
        assert rpc("reload") == {"reloaded": "all"}
    stack.redis.start()


def test_an_id_of_digits(stack):
    """kamcmd takes it for a number unless it is told."""
    alice = stack.ua("alice")
    assert alice.message(BOB, cpim(b"x", message_id="007"),
                         "message/cpim").code == 202
    assert JsonRpc(stack)("get", BOB, "007")["id"] == "007"
    assert Kamcmd(stack)("get", BOB, "s:007")["size"] > 1
