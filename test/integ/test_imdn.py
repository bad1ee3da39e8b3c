# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a sender is told of its queued messages: once, only what it asked for,
and never in a circle."""

import os
import re
import secrets
import signal
import subprocess
import xml.etree.ElementTree as ET

import pytest

import databases
import harness
import msrpua
import sipua
from harness import DOMAIN, HOST, TOP, wait_until
from push import SESSIONS_ONLY

CPIM = "message/cpim"
NS = "{urn:ietf:params:xml:ns:imdn}"
SCHEMA = os.path.join(TOP, "test", "data", "rfc5438-imdn.rng")
BOTH = "processing, negative-delivery"


@pytest.fixture
def start(new_stack):
    def start(settings=None, **kw):
        return new_stack(dict({"job_retry_intervals": "1"}, **settings or {}),
                         **kw).start()
    return start


def asking(mid, ask=BOTH, sender="alice", inner="text/plain",
           extra=(), body=b"hello"):
    lines = ["From: <sip:%s@%s>" % (sender, DOMAIN),
             "To: <sip:anonymous@anonymous.invalid>",
             "NS: imdn <urn:ietf:params:imdn>",
             "imdn.Message-ID: " + mid,
             "DateTime: 2026-03-01T10:00:00+01:00"]
    if ask:
        lines.append("imdn.Disposition-Notification: " + ask)
    lines += ["", "Content-Type: " + inner] + list(extra) + ["", ""]
    return "\r\n".join(lines).encode() + body


def send(ua, to, mid, ask=BOTH, headers=(), code=202, **kw):
    response = ua.message(
        to if ":" in to else "sip:%s@%s" % (to, DOMAIN),
        asking(mid, ask, sender=ua.user, **kw), CPIM, headers)
    assert response.code == code, response
    return response


def imdn_of(body, tmp_path):
    """A notification, taken apart: CPIM headers, (kind, status), the rest.
    Fails unless it is one by RFC 3862 and by RFC 5438's schema."""
    outer, inner, xml = body.split(b"\r\n\r\n", 2)
    head = dict(line.split(": ", 1) for line in outer.decode().split("\r\n"))
    mime = dict(line.split(": ", 1) for line in inner.decode().split("\r\n"))
    assert mime == {"Content-Type": "message/imdn+xml",
                    "Content-Disposition": "notification",
                    "Content-Length": str(len(xml))}
    assert head["NS"] == "imdn <urn:ietf:params:imdn>"
    assert "imdn.Disposition-Notification" not in head
    path = tmp_path / ("imdn-%s.xml" % secrets.token_hex(4))
    path.write_bytes(xml)
    check = subprocess.run(
        [harness.need("xmllint"), "--noout", "--nonet", "--relaxng", SCHEMA,
         str(path)], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
    root = ET.fromstring(xml)
    assert root.tag == NS + "imdn"
    what = {e.tag.replace(NS, ""): e.text for e in root}
    (kind,) = [k for k in what if k.endswith("-notification")]
    (status,) = list(root.find(NS + kind).find(NS + "status"))
    return head, (kind, status.tag.replace(NS, "")), what


STORED = ("processing-notification", "stored")
FAILED = ("delivery-notification", "failed")


def told(ua, tmp_path):
    """Of what a user agent got: (message id, notification), in order."""
    out = []
    for m in ua.messages:
        _, kind, what = imdn_of(m.body, tmp_path)
        out.append((what["message-id"], kind))
    return out


def wait_told(ua, count, tmp_path):
    ua.wait_messages(count, 10)
    return told(ua, tmp_path)


def jobs(stack):
    return stack.http("/v1/jobs").json["items"]


def wait_no_jobs(stack):
    wait_until(lambda: not jobs(stack), 10, "no job is left")


# ------------------------------------------------------------------ stored

def test_a_sender_that_asks_is_told_that_its_message_is_queued(
        shared, user, tmp_path):
    bob, alice_name = user(), user("alice")
    alice = shared.ua(alice_name)
    alice.register()
    before = shared.metric("imdn_sent")
    send(alice, bob, "mid-1<&>")
    (message,) = alice.wait_messages(1)
    assert message.problems == []
    head, kind, what = imdn_of(message.body, tmp_path)
    bob_uri = "sip:%s@%s" % (bob, DOMAIN)
    assert kind == STORED
    assert head["From"] == "<%s>" % bob_uri
    assert head["To"] == "<%s>" % alice.aor
    assert what["message-id"] == "mid-1<&>"
    assert what["datetime"] == "2026-03-01T09:00:00.000Z"
    assert what["recipient-uri"] == bob_uri
    assert what["original-recipient-uri"] == bob_uri
    # a message like any other, and none of alice's own
    assert message.get("content-type") == CPIM
    assert sipua.uri_of(message.get("from")) == bob_uri
    assert message.get("p-asserted-identity") == "<%s>" % bob_uri
    assert message.get("p-asserted-service") == (
        "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg")
    assert message.get("conversation-id") and message.get("contribution-id")
    assert message.get("accept-contact") is None
    shared.wait_empty(alice_name)
    wait_no_jobs(shared)
    assert shared.metric("imdn_sent") == before + 1

    client = shared.ua(bob)
    client.register()
    client.wait_messages(1)
    shared.wait_empty(bob)
    assert client.bodies == [asking("mid-1<&>", sender=alice_name)]
    assert len(alice.messages) == 1


def test_a_sender_that_is_offline_is_told_when_it_comes(
        shared, user, tmp_path):
    bob, name = user(), user("alice")
    alice = shared.ua(name)
    send(alice, bob, "mid-2")
    (item,) = wait_until(lambda: shared.items(name), 10)
    assert item["content_type"] == CPIM and item["state"] == "queued"
    assert item["id"].startswith("cpm-imdn-")
    assert alice.messages == []
    alice.register()
    assert wait_told(alice, 1, tmp_path) == [("mid-2", STORED)]
    shared.wait_empty(name)


def test_a_retransmission_is_told_of_once(shared, user, tmp_path):
    bob, name = user(), user("alice")
    alice = shared.ua(name)
    alice.register()
    raw = alice.build("MESSAGE", "sip:%s@%s" % (bob, DOMAIN),
                      [("Content-Type", CPIM)], asking("r", sender=name))
    assert alice.transact(raw).code == 202
    assert alice.transact(raw).code == 202
    alice.wait_messages(1)
    # also when its transaction is long over
    again = alice.build("MESSAGE", "sip:%s@%s" % (bob, DOMAIN),
                        [("Content-Type", CPIM)], asking("r", sender=name))
    assert alice.transact(again).code == 202
    send(alice, bob, "last")
    assert wait_told(alice, 2, tmp_path) == [("r", STORED), ("last", STORED)]
    assert len(shared.items(bob)) == 2


@pytest.mark.parametrize("ask", [
    None, "positive-delivery, display", "negative-delivery"])
def test_who_does_not_ask_is_not_told_that_it_is_queued(
        shared, user, tmp_path, ask):
    bob, name = user(), user("alice")
    alice = shared.ua(name)
    alice.register()
    send(alice, bob, "quiet", ask)
    send(alice, bob, "loud", "processing")
    assert wait_told(alice, 1, tmp_path) == [("loud", STORED)]
    wait_no_jobs(shared)
    assert len(alice.messages) == 1


def test_a_notification_is_answered_by_none(shared, user, tmp_path):
    bob, name = user(), user("alice")
    alice = shared.ua(name)
    alice.register()
    xml = (b'<imdn xmlns="urn:ietf:params:xml:ns:imdn"/>')
    send(alice, bob, "imdn-1", inner="message/imdn+xml", body=xml)
    send(alice, bob, "imdn-2", inner="application/x", body=b"x",
         extra=["Content-Disposition: notification"])
    send(alice, bob, "real")
    assert wait_told(alice, 1, tmp_path) == [("real", STORED)]
    wait_no_jobs(shared)
    assert len(alice.messages) == 1
    assert len(shared.items(bob)) == 3


def test_who_writes_to_itself_is_not_told(shared, user, tmp_path):
    bob, name = user(), user("alice")
    alice = shared.ua(name)
    send(alice, name, "note")
    send(alice, bob, "real")
    items = wait_until(lambda: len(shared.items(name)) == 2
                       and shared.items(name), 10)
    assert [i["id"].startswith("cpm-imdn-") for i in items] == [False, True]
    wait_no_jobs(shared)
    assert len(shared.items(name)) == 2


def test_who_hides_is_not_told(start, tmp_path):
    stack = start({"trusted_peers": HOST})
    alice = stack.ua("alice")
    alice.register()
    pai = ("P-Asserted-Identity", "<%s>" % alice.aor)
    send(alice, "bob", "withheld", headers=[pai, ("Privacy", "id")])
    nobody = '"Anonymous" <sip:anonymous@anonymous.invalid>'
    response = alice.message(
        "sip:bob@" + DOMAIN, asking("anonymous"), CPIM, [pai], from_=nobody)
    assert response.code == 202
    send(alice, "bob", "known", headers=[pai])
    assert wait_told(alice, 1, tmp_path) == [("known", STORED)]
    wait_no_jobs(stack)
    assert len(alice.messages) == 1
    assert stack.metric("imdn_sent") == 1


def test_it_can_be_switched_off(start):
    stack = start({"imdn": 0, "max_attempts": 1})
    alice, bob = stack.ua("alice"), stack.ua("bob", answer=486)
    alice.register()
    send(alice, "bob", "dies")
    send(alice, "carol", "expires", headers=[("Expires", "1")])
    bob.register()
    wait_until(lambda: stack.metric("dead") == 1
               and stack.metric("expired") == 1, 10)
    assert jobs(stack) == []
    assert alice.messages == []


# ------------------------------------------------------------------ failed

def test_a_message_that_expires_has_failed(start, tmp_path):
    stack = start()
    alice = stack.ua("alice")
    alice.register()
    send(alice, "bob", "quiet", "display", headers=[("Expires", "1")])
    send(alice, "bob", "gone", "negative-delivery",
         headers=[("Expires", "1")])
    assert wait_told(alice, 1, tmp_path) == [("gone", FAILED)]
    wait_until(lambda: stack.metric("expired") == 2, 10)
    wait_no_jobs(stack)
    assert len(alice.messages) == 1


def test_a_message_that_made_room_has_failed(start, tmp_path):
    stack = start({"queue_max_messages": 1, "overflow": "drop_oldest"})
    alice = stack.ua("alice")
    alice.register()
    send(alice, "bob", "old", "negative-delivery")
    send(alice, "bob", "new", "negative-delivery")
    assert wait_told(alice, 1, tmp_path) == [("old", FAILED)]


def test_a_message_that_dies_has_failed(start, tmp_path):
    stack = start({"max_attempts": 1})
    alice, bob = stack.ua("alice"), stack.ua("bob", answer=486)
    alice.register()
    send(alice, "bob", "quiet", None)
    send(alice, "bob", "dead", "negative-delivery")
    bob.register()
    assert wait_told(alice, 1, tmp_path) == [("dead", FAILED)]
    wait_until(lambda: stack.metric("dead") == 2, 10)
    wait_no_jobs(stack)
    assert len(alice.messages) == 1
    states = [i["state"] for i in stack.items("bob")]
    assert states == ["dead", "dead"]


def test_messages_that_die_in_a_session_have_failed(msrp_start, tmp_path):
    stack = msrp_start({"max_attempts": 1})
    alice = stack.ua("alice")
    alice.register()
    for i in range(3):
        send(alice, "bob", "dead-%d" % i, "negative-delivery")
    bob = msrpua.CpmClient(
        "bob", proxy=(HOST, stack.sip_port),
        script=lambda: msrpua.Script(refuse_from=1, refuse_code=415))
    try:
        bob.register(params=SESSIONS_ONLY)
        assert sorted(wait_told(alice, 3, tmp_path)) == [
            ("dead-%d" % i, FAILED) for i in range(3)]
    finally:
        bob.close()
    assert stack.metric("dead") == 3
    wait_no_jobs(stack)
    assert len(alice.messages) == 3


def test_a_message_that_expires_into_the_store_has_not_failed(
        start, tmp_path):
    db = databases.Sqlite(str(tmp_path)).create(sample=True)
    db.sql("UPDATE cpm_user SET on_expiry = 'store' WHERE username = 'bob';")
    stack = start(**db.stack())
    alice = stack.ua("alice")
    alice.register()
    send(alice, "bob", "kept", "negative-delivery",
         headers=[("Expires", "1")])
    wait_until(lambda: stack.metric("expired") == 1, 10)
    assert [j["kind"] for j in jobs(stack)] == ["store"]
    assert alice.messages == []


# ---------------------------------------------------------------- no storm

def test_two_that_are_both_offline_make_no_storm(start, tmp_path):
    # the notifications expire too, and nobody is told of that
    stack = start({"default_expires": 4, "max_expires": 60})
    names = ("alice", "bob")
    uas = {name: stack.ua(name) for name in names}
    for i in range(5):
        for me, other in (names, names[::-1]):
            send(uas[me], other, "%s-%d" % (me, i),
                 headers=[("Expires", "3")])
    wait_until(lambda: stack.metric("imdn_sent") == 10, 10)
    wait_until(lambda: stack.metric("imdn_sent") == 20, 15)
    wait_until(lambda: stack.metric("expired") == 30, 20)
    for name in names:
        stack.wait_empty(name, 10)
    wait_no_jobs(stack)
    assert stack.metric("imdn_sent") == 20
    assert stack.metric("expired") == 30
    for ua in uas.values():
        assert ua.messages == []


@pytest.mark.parametrize("workers", [1, 3])
def test_each_of_two_that_were_offline_is_told_of_each_message_once(
        start, tmp_path, workers):
    stack = start({"delivery_workers": workers})
    names = ("alice", "bob")
    uas = {name: stack.ua(name) for name in names}
    for i in range(5):
        for me, other in (names, names[::-1]):
            send(uas[me], other, "%s-%d" % (me, i))
    wait_until(lambda: stack.metric("imdn_sent") == 10, 10)
    for ua in uas.values():
        ua.register()
    for name in names:
        stack.wait_empty(name, 20)
    wait_no_jobs(stack)
    for me, other in (names, names[::-1]):
        got = [m.body for m in uas[me].messages]
        assert len(got) == 10
        ids = [imdn_of(b, tmp_path)[2]["message-id"]
               for b in got if b"message/imdn+xml" in b]
        assert sorted(ids) == ["%s-%d" % (me, i) for i in range(5)]
    assert stack.metric("imdn_sent") == 10


def test_a_sender_whose_queue_is_full_is_not_told(start):
    stack = start({"queue_max_messages": 1})
    send(stack.ua("bob"), "alice", "fills", None)
    alice = stack.ua("alice")
    send(alice, "bob", "x", "processing")
    stack.kamailio.wait_log(
        "jobs: done kind=stored aor=sip:bob@%s id=x .*"
        "why=sender-queue-full" % DOMAIN)
    wait_no_jobs(stack)
    assert len(stack.items("alice")) == 1
    assert stack.metric("imdn_sent") == 0


# ------------------------------------------------------------------- death

def delivery_workers(stack):
    """pids of Kamailio's delivery processes."""
    found = re.findall(r"PID: (\d+)\n\tDSC: CPM delivery",
                       stack.rpc("core.psx")) or re.findall(
        r"(\d+)\s+CPM delivery", stack.rpc("core.ps").replace("\n", " "))
    assert found, stack.rpc("core.ps")
    return [int(pid) for pid in found]


def test_killed_between_queueing_and_telling_it_tells_once(start, tmp_path):
    stack = start()
    alice = stack.ua("alice")
    for pid in delivery_workers(stack):
        os.kill(pid, signal.SIGSTOP)
    send(alice, "bob", "survives", "processing")
    (job,) = jobs(stack)
    assert (job["kind"], job["user"], job["id"], job["state"]) == (
        "stored", "sip:bob@" + DOMAIN, "survives", "waiting")
    assert stack.items("alice") == []
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()
    stack.start_kamailio()
    alice.register()
    assert wait_told(alice, 1, tmp_path) == [("survives", STORED)]
    wait_no_jobs(stack)
    stack.wait_empty("alice")
    # and the message is as it was
    assert [i["id"] for i in stack.items("bob")] == ["survives"]
    assert len(alice.messages) == 1


def test_told_and_killed_before_it_was_noted_it_tells_once(start, tmp_path):
    stack = start()
    alice = stack.ua("alice")
    send(alice, "bob", "twice", "processing")
    (item,) = wait_until(lambda: stack.items("alice"), 10)
    wait_no_jobs(stack)
    # what a death between the notification and its note in Redis leaves
    script = """
        local function key(kind, user)
            for _, k in ipairs(redis.call('KEYS', 'cpm:*:' .. kind .. user)) do
                return k
            end
        end
        local m = key('m:', 'sip:bob@example.org')
        local head = string.match(m, '^(cpm:{%d+}:)')
        local blob = redis.call('HGET', m, 'twice')
        local name = 'q sip:bob@example.org twice'
        redis.call('HSET', head .. 'job', name, '1 - \\n' .. blob)
        redis.call('ZADD', head .. 'jobs', 1, name)
        return 1"""
    assert stack.redis.command("EVAL", script, "0") == b":1\r\n"
    stack.kamailio.wait_log("jobs: done kind=stored .*why=told-already")
    assert [i["id"] for i in stack.items("alice")] == [item["id"]]
    alice.register()
    assert wait_told(alice, 1, tmp_path) == [("twice", STORED)]
    stack.wait_empty("alice")
    assert stack.metric("imdn_sent") == 1
    assert len(alice.messages) == 1


# ----------------------------------------------------- a sender from abroad

@pytest.fixture
def abroad():
    """A user agent of another domain: an address of its own, port 5060."""
    uas = []

    def make(stack):
        # any address of 127/8 is this host's, so this one is nobody else's
        for _ in range(50):
            host = "127.%d.%d.%d" % (1 + secrets.randbelow(250),
                                     secrets.randbelow(250),
                                     1 + secrets.randbelow(250))
            try:
                ua = sipua.UA("eve", host, (HOST, stack.sip_port), host=host,
                              port=5060, strict=False)
            except OSError:
                continue
            uas.append(ua)
            return ua
        raise harness.Failure("no address of 127/8 has port 5060 free")

    yield make
    for ua in uas:
        ua.close()


def test_a_sender_of_another_domain_is_told_by_a_message(
        start, abroad, tmp_path):
    stack = start()
    eve = abroad(stack)
    send(eve, "bob", "far", "processing")
    (message,) = eve.wait_messages(1)
    head, kind, what = imdn_of(message.body, tmp_path)
    assert (kind, what["message-id"]) == (STORED, "far")
    assert message.problems == []
    assert message.uri == eve.aor
    assert sipua.uri_of(message.get("from")) == "sip:bob@" + DOMAIN
    assert message.get("accept-contact") == (
        '*;+g.3gpp.icsi-ref='
        '"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg"')
    wait_no_jobs(stack)
    assert stack.metric("imdn_sent") == 1
    assert len(eve.messages) == 1
    assert stack.metric("queue_users") == 1   # bob's, and none of eve's


@pytest.mark.parametrize("lr", ["", ";lr"])
def test_another_domain_is_told_by_way_of_the_outbound_proxy(
        start, tmp_path, lr):
    port = harness.free_port()
    stack = start({"outbound_proxy": "sip:%s:%d%s" % (HOST, port, lr)})
    # it is the proxy of the domain too, for simplicity's sake
    eve = sipua.UA("eve", "127.9.9.9", (HOST, stack.sip_port), port=port,
                   strict=False)
    try:
        send(eve, "bob", "far", "processing")
        (message,) = eve.wait_messages(1)
        assert message.uri == "sip:eve@127.9.9.9"
        assert message.all("route") == ["<sip:%s:%d;lr>" % (HOST, port)]
        assert imdn_of(message.body, tmp_path)[1] == STORED
        wait_no_jobs(stack)
    finally:
        eve.close()


def test_another_domain_that_is_busy_is_told_later_and_that_declines_is_not(
        start, abroad, tmp_path):
    stack = start()
    eve = abroad(stack)
    eve.answers = [503, 200, 404]
    send(eve, "bob", "later", "processing")
    wait_until(lambda: [m.answered for m in eve.messages] == [503, 200], 15)
    first, second = eve.messages
    assert first.call_id == second.call_id
    assert int(second.cseq[0]) == int(first.cseq[0]) + 1
    assert (imdn_of(first.body, tmp_path)[0]["imdn.Message-ID"]
            == imdn_of(second.body, tmp_path)[0]["imdn.Message-ID"])
    wait_no_jobs(stack)
    send(eve, "bob", "never", "processing")
    eve.wait_messages(3)
    stack.kamailio.wait_log("jobs: done kind=stored .* id=never .*why=404")
    wait_no_jobs(stack)
    assert len(eve.messages) == 3
    assert stack.metric("imdn_sent") == 1


def test_another_domain_that_is_silent_holds_up_nobody(
        start, abroad, tmp_path):
    stack = start({"job_max_attempts": 2}, defines={"ANSWER_TIMEOUT_MS": 2000})
    eve = abroad(stack)
    eve.answer = None
    alice = stack.ua("alice")
    alice.register()
    for i in range(3):
        send(eve, "bob", "eve-%d" % i, "processing")
    send(alice, "bob", "mine", "processing")
    assert wait_told(alice, 1, tmp_path) == [("mine", STORED)]
    # and in the end it is forgotten, not dead
    wait_until(lambda: not jobs(stack), 20, "the jobs are given up")
    assert len({m.call_id for m in eve.messages}) == 3
    assert stack.metric("imdn_sent") == 1
