# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Queue sessions where something is out of the ordinary: other clients, other
answers, a relay, a worker that dies, requests that are nobody's.

What every client saw of the PF is checked when its test ends: each INVITE,
each SDP and each MSRP frame, by the rules that sipua.py and msrpua.py know.
"""

import gzip
import os
import re
import signal
import subprocess
import threading
import time

import pytest

import msrpua
import sipua
from db import cpim
from harness import DOMAIN, HOST, Program, need, wait_until
from msrpua import Script
from push import CPIM, SESSIONS_ONLY, bodies, ours, send

# A client that takes neither pager mode nor queue sessions.
CALLS_ONLY = ';+g.3gpp.icsi-ref="%s"' % (msrpua.ICSI % "session")


class Client(msrpua.CpmClient):
    """edit: a function of the SDP answer that returns what is sent instead.
    tolerate: patterns of what may be wrong with what came."""

    def __init__(self, *args, edit=None, tolerate=(), **kw):
        self.edit = edit
        self.tolerate = list(tolerate)
        self.cancelled = 0
        super().__init__(*args, **kw)
        self.handlers["CANCEL"] = self._cancelled

    def accept(self, msg, body=b"", *args, **kw):
        return super().accept(msg, self.edit(body) if self.edit else body,
                              *args, **kw)

    def _cancelled(self, msg):
        self.cancelled += 1
        self.reply(msg, 200)
        for invite in self.invites:
            if invite.call_id == msg.call_id and invite.answered < 200:
                self.reply(invite, 487)

    @property
    def faults(self):
        return [v for v in ours(
                    self.violations + [repr(s) for s in self.strays])
                if not any(re.search(t, v) for t in self.tolerate)]


@pytest.fixture
def start(msrp_start):
    return msrp_start


@pytest.fixture
def client(request):
    made = []

    def make(stack, user="bob", **kw):
        ua = Client(user, proxy=(HOST, stack.sip_port), **kw)
        made.append(ua)
        return ua
    yield make
    for ua in made:
        ua.close()
    bad = [fault for ua in made for fault in ua.faults]
    assert bad == []


def fill(stack, count, to="bob", text=b"message %d"):
    """As one sender, of one socket."""
    with sipua.UA("alice", DOMAIN, (HOST, stack.sip_port)) as alice:
        sent = []
        for i in range(count):
            sent.append(cpim(text % i))
            assert alice.message("sip:%s@example.org" % to, sent[-1],
                                 CPIM).code == 202
    return sent


def scripts(*first):
    """For the first sessions these, for all others a good one."""
    left = list(first)
    return lambda: left.pop(0) if left else Script()


def is_queued(stack, count, user="bob"):
    return ((stack.queue(user) or {}).get("messages") or 0) == count


def bob_waits(stack, count):
    """Whether so many are left, and none of them is on its way."""
    queue = stack.queue("bob")
    return queue and queue["state_counts"].get("queued") == count \
        and queue["messages"] == count


# ---- which client

def test_a_client_that_takes_no_sessions_is_not_invited(start, client):
    stack = start()
    calls, queue = client(stack), client(stack)
    queue.register(params=SESSIONS_ONLY + ";q=0.1")
    calls.register(params=CALLS_ONLY + ";q=1.0")
    sent = send(stack, b"x")
    queue.wait_msrp(1)
    stack.wait_empty("bob")
    assert bodies(queue) == [sent]
    assert calls.invites == [] and calls.messages == []


def test_the_client_with_the_higher_q_is_invited(start, client):
    stack = start()
    high, low = client(stack), client(stack)
    high.register(params=SESSIONS_ONLY + ";q=0.9")
    low.register(params=SESSIONS_ONLY + ";q=0.3")
    sent = [send(stack, b"%d" % i) for i in range(3)]
    high.wait_msrp(3)
    stack.wait_empty("bob")
    assert bodies(high) == sent
    assert low.invites == []


def test_of_two_alike_the_one_that_registered_last_is_invited(start, client):
    stack = start()
    older, newer = client(stack), client(stack)
    older.register(params=SESSIONS_ONLY)
    # Kamailio keeps the time of a registration in whole seconds, by a clock
    # that lags behind this one by up to some milliseconds
    second = int(time.time())
    wait_until(lambda: time.time() > second + 1.1, 3)
    newer.register(params=SESSIONS_ONLY)
    sent = send(stack, b"x")
    newer.wait_msrp(1)
    stack.wait_empty("bob")
    assert bodies(newer) == [sent]
    assert older.invites == []


def test_a_message_larger_than_a_client_takes_waits_for_one_that_takes_it(
        start, client):
    stack = start({"retry_intervals": "600"})
    sent = [send(stack, text) for text in (b"a", b"b" * 5000, b"c")]
    small = client(stack, edit=lambda sdp: sdp + b"a=max-size:1000\r\n")
    small.register(params=SESSIONS_ONLY)
    small.wait_msrp(2)
    # it is neither sent to who does not take it, nor does it wear out
    wait_until(lambda: bob_waits(stack, 1), 10)
    large = client(stack)
    large.register(params=SESSIONS_ONLY)
    large.wait_msrp(1)
    stack.wait_empty("bob")
    assert bodies(small) == [sent[0], sent[2]]
    assert bodies(large) == [sent[1]]


def test_a_type_that_a_client_does_not_take_waits_for_one_that_takes_it(
        start, client):
    stack = start({"retry_intervals": "600"})
    sent = [send(stack, b"plain one", content_type="text/plain"),
            send(stack, b"in CPIM"),
            send(stack, b"plain two", content_type="text/plain")]
    plain = client(stack, accept_types="text/plain",
                   accept_wrapped_types=None)
    plain.register(params=SESSIONS_ONLY)
    plain.wait_msrp(2)
    wait_until(lambda: bob_waits(stack, 1), 10)
    other = client(stack)
    other.register(params=SESSIONS_ONLY)
    other.wait_msrp(1)
    stack.wait_empty("bob")
    assert bodies(plain) == [sent[0], sent[2]]
    assert bodies(other) == [sent[1]]


# ---- how many

def test_a_busy_client_gets_all_two_hundred_when_it_has_time(start, client):
    stack = start()
    sent = fill(stack, 200)
    codes = [486, 486]
    bob = client(stack, invite_answer=lambda msg: codes.pop(0) if codes
                 else 200)
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(200, 20)
    stack.wait_empty("bob")
    assert bodies(bob) == sent
    assert len(bob.invites) == 3
    # being busy wore nothing out
    assert stack.metric("dead") == 0


def test_fifty_clients_at_once_get_ten_each(start, client):
    stack = start()
    names = ["bob%d" % i for i in range(50)]
    sent = {name: fill(stack, 10, name, name.encode() + b" %d")
            for name in names}
    clients = {name: client(stack, name) for name in names}
    threads = [threading.Thread(target=ua.register)
               for ua in clients.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, ua in clients.items():
        ua.wait_msrp(10, 30)
        stack.wait_empty(name)
    assert {name: bodies(ua) for name, ua in clients.items()} == sent
    assert all(len(ua.invites) == 1 for ua in clients.values())
    assert stack.metric("delivered_msrp") == 500


def test_sessions_of_two_messages_at_most(start, client):
    stack = start({"session_max_messages": 2})
    sent = fill(stack, 5)
    bob = client(stack)
    bob.register()
    bob.wait_msrp(5, 15)
    stack.wait_empty("bob")
    assert [[m.body for m in s.messages] for s in bob.sessions] == [
        sent[:2], sent[2:4], sent[4:]]


def test_what_expires_during_the_session_is_not_sent(start, client):
    stack = start()
    # more than are on their way at once: the last ones wait for an answer
    sent = fill(stack, 40)
    expiring = send(stack, b"expires", headers=[("Expires", "2")])
    bob = client(stack, script=Script(delay_ms=3000))
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(40, 20)
    stack.wait_empty("bob", 10)
    assert bodies(bob) == sent
    assert expiring not in bodies(bob)
    assert stack.metric("expired") == 1


# ---- answers to INVITE

def test_a_client_that_rings_first_gets_its_messages(start, client):
    stack = start()
    sent = [send(stack, b"%d" % i) for i in range(2)]
    ring = threading.Event()

    def ringing(msg):
        bob.reply(msg, 180)
        ring.wait(1.5)      # longer than the proxy waits for a first answer
        return 200
    bob = client(stack, invite_answer=ringing)
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(2)
    stack.wait_empty("bob")
    assert bodies(bob) == sent
    assert len(bob.invites) == 1


def test_an_invite_that_nobody_answers_is_made_again_later(start, client):
    stack = start()
    sent = send(stack, b"x")
    bob = client(stack)
    invited, unanswered = bob._invited, []

    def deaf(msg):
        if unanswered:
            invited(msg)
        else:
            unanswered.append(msg)
    bob.handlers["INVITE"] = deaf
    bob.register(params=SESSIONS_ONLY)
    wait_until(lambda: any(i["last_error"] == "408"
                           for i in stack.items("bob")), 10)
    bob.wait_msrp(1, 15)
    stack.wait_empty("bob")
    assert bodies(bob) == [sent]
    # it was repeated, as UDP wants it
    assert unanswered[0].repeats >= 1


def test_a_client_that_rings_for_ever_is_cancelled_and_asked_again(
        start, client):
    stack = start(cfg_edit=(
        'modparam("tm", "fr_timer",', 'modparam("tm", "fr_inv_timer", 2000)\n'
        'modparam("tm", "fr_timer",'))
    sent = send(stack, b"x")
    bob = client(stack)
    invited, ringing = bob._invited, []

    def ring(msg):
        if ringing:
            invited(msg)
        else:
            ringing.append(msg)
            bob.invites.append(msg)
            bob.reply(msg, 180)
    bob.handlers["INVITE"] = ring
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(1, 20)
    stack.wait_empty("bob")
    assert bob.cancelled == 1
    assert bodies(bob) == [sent]


def test_a_2xx_that_is_repeated_is_acknowledged_again(start, client):
    stack = start()
    sent = [send(stack, b"%d" % i) for i in range(2)]
    bob = client(stack, script=Script(delay_ms=1500))
    acks = []
    bob.handlers["ACK"] = acks.append
    bob.register(params=SESSIONS_ONLY)
    session = bob.wait_sessions(1)[0]
    session.dialog.wait_ack()
    # the first ACK was lost, as far as the client knows
    first = acks[0]
    bob.reply_again(session.invite)
    wait_until(lambda: len(acks) > 1 or first.repeats > 0, 5,
               "another ACK")
    bob.wait_msrp(2)
    stack.wait_empty("bob")
    assert bodies(bob) == sent
    assert len(bob.invites) == 1


ANSWERS = {
    "no SDP": lambda sdp: b"",
    "no SDP but noise": lambda sdp: b"\0\1\2\r\nv=0",
    "no a=path": lambda sdp: re.sub(rb"a=path:[^\r]*\r\n", b"", sdp),
    "a path that is none": lambda sdp: re.sub(
        rb"a=path:[^\r]*", b"a=path:sip:bob@example.org", sdp),
    "port 0": lambda sdp: re.sub(rb"m=message \d+", b"m=message 0", sdp),
    "another medium": lambda sdp: sdp.replace(
        b"m=message", b"m=audio").replace(b"TCP/MSRP *", b"RTP/AVP 0"),
    "TLS, which was not offered": lambda sdp: sdp.replace(
        b"TCP/MSRP", b"TCP/TLS/MSRP").replace(b"msrp://", b"msrps://"),
    "a=inactive": lambda sdp: sdp.replace(b"a=recvonly", b"a=inactive"),
    "a=sendonly": lambda sdp: sdp.replace(b"a=recvonly", b"a=sendonly"),
    "a=setup:holdconn": lambda sdp: sdp.replace(b"a=setup:passive",
                                                b"a=setup:holdconn"),
    # there was one in the offer (RFC 3264, 6)
    "two media": lambda sdp: sdp + b"m=audio 0 RTP/AVP 0\r\n",
    "another type only": lambda sdp: sdp.replace(
        b"a=accept-types:message/cpim", b"a=accept-types:image/png"),
}


@pytest.mark.parametrize("what", sorted(ANSWERS))
def test_an_answer_that_makes_no_session_is_hung_up_and_nothing_is_lost(
        start, client, what):
    stack = start({"retry_intervals": "1"})
    sent = [send(stack, b"%d" % i) for i in range(2)]
    bob = client(stack, setup="passive")
    bob.edit = lambda sdp: (ANSWERS[what](sdp) if len(bob.sessions) == 0
                            else sdp)
    bob.register(params=SESSIONS_ONLY)
    first = bob.wait_sessions(1)[0]
    first.dialog.wait_ack()
    first.wait_ended()
    bob.wait_msrp(2, 15)
    stack.wait_empty("bob")
    assert first.messages == []
    if what == "another type only":     # others may pass what is not taken
        assert sorted(bodies(bob)) == sent
    else:
        assert bodies(bob) == sent


def test_a_client_that_takes_messages_gets_them_where_its_answer_is_none(
        start, client):
    stack = start()
    sent = [send(stack, b"%d" % i) for i in range(2)]
    bob = client(stack, setup="passive", edit=ANSWERS["port 0"])
    bob.register()
    bob.wait_messages(2)
    stack.wait_empty("bob")
    assert [m.body for m in bob.messages] == sent
    assert all(s.ended for s in bob.sessions)


# ---- the dialog

@pytest.fixture
def held(start, client):
    """(stack, bob, what was sent): a session with two messages on their way,
    whose answers come when bob.go is called."""
    stack = start()
    sent = [send(stack, b"%d" % i) for i in range(2)]
    bob = client(stack, script=Script(hold=3))
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(2)

    def go():
        sent.append(send(stack, b"last"))
        bob.wait_msrp(3)
        stack.wait_empty("bob")
        assert bodies(bob) == sent
        assert len(bob.invites) == 1
    bob.go = go
    return stack, bob


def test_the_dialog_answers_what_belongs_to_it(held):
    stack, bob = held
    dialog = bob.sessions[0].dialog
    assert dialog.request("OPTIONS").code == 200
    again = dialog.request("INVITE", [
        ("Contact", "<%s>" % bob.contact),
        ("Content-Type", "application/sdp")], bob.sessions[0].answer.text
        .encode())
    assert again.code == 488
    assert dialog.request("UPDATE").code == 200, "without a body"
    assert dialog.request("UPDATE", [
        ("Content-Type", "application/sdp")], bob.sessions[0].answer.text
        .encode()).code == 488
    assert dialog.request("INFO").code == 405
    bob.go()


@pytest.mark.parametrize("what", ["key", "slot", "worker", "short", "call-id",
                                  "from-tag"])
@pytest.mark.parametrize("method", ["BYE", "OPTIONS"])
def test_a_request_of_no_dialog_gets_481_and_disturbs_none(
        held, method, what):
    stack, bob = held
    dialog = bob.sessions[0].dialog
    tag = sipua.header_params(dialog.remote)["tag"]
    head, worker, slot, key = tag.split("-")
    wrong = {
        "key": "-".join([head, worker, slot, "%016x" % (int(key, 16) ^ 1)]),
        "slot": "-".join([head, worker, str(int(slot) + 1), key]),
        "worker": "-".join([head, "9", slot, key]),
        "short": "-".join([head, worker, slot, key[:-1]]),
    }.get(what, tag)
    local = dialog.local
    if what == "from-tag":
        local = local.replace(
            sipua.header_params(local)["tag"], "somebody")
    raw = bob.build(method, dialog.target, [
        ("From", local), ("To", dialog.remote.replace(tag, wrong))],
        call_id=dialog.call_id if what != "call-id" else bob.new_id(),
        cseq=7)
    code = bob.transact(raw).code
    # what is not even a tag of ours may as well be for another server
    assert code in ((481,) if what not in ("worker", "short")
                    else (481, 404))
    bob.go()


def test_one_session_cannot_hang_up_another(held, client):
    stack, bob = held
    send(stack, b"for carol", to="carol")
    carol = client(stack, "carol", script=Script(hold=2))
    carol.register(params=SESSIONS_ONLY)
    carol.wait_msrp(1)
    his, hers = bob.sessions[0].dialog, carol.sessions[0].dialog
    his_tag = sipua.header_params(his.remote)["tag"]
    her_tag = sipua.header_params(hers.remote)["tag"]
    # bob's place, with the key that carol knows
    forged = his_tag[:-16] + her_tag[-16:]
    raw = carol.build("BYE", his.target, [
        ("From", hers.local), ("To", his.remote.replace(his_tag, forged))],
        call_id=his.call_id, cseq=1)
    assert carol.transact(raw).code == 481
    bob.go()
    assert not hers.ended


def test_a_bye_that_is_repeated_is_answered_alike(start, client):
    stack = start({"retry_intervals": "600"})
    sent = [send(stack, b"%d" % i) for i in range(3)]
    bob = client(stack, script=Script(silent_from=2),
                 tolerate=["the connection broke"])
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(3)
    wait_until(lambda: is_queued(stack, 2), 5)
    bye = bob.sessions[0].dialog.build("BYE")
    assert bob.transact(bye).code == 200
    assert bob.transact(bye).code == 200
    wait_until(lambda: stack.queue("bob")["state_counts"]["queued"] == 2, 5)
    # a new one in a dialog that has gone is none of ours
    raw = bob.sessions[0].dialog.build("BYE")
    assert bob.transact(raw).code == 481
    assert is_queued(stack, 2)
    assert bodies(bob) == sent
    assert len(bob.invites) == 1


# ---- clients that go

def test_a_client_that_unregisters_gets_no_more_into_its_session(
        start, client):
    stack = start()
    first = send(stack, b"first")
    bob = client(stack, script=scripts(Script(delay_ms=1500)))
    bob.register(params=SESSIONS_ONLY)
    wait_until(lambda: bob.sessions and bob.sessions[0].messages, 5)
    bob.register(expires=0)
    second = send(stack, b"second")
    wait_until(lambda: bob.sessions[0].ended, 10, "the PF hangs up")
    assert bodies(bob) == [first]
    assert is_queued(stack, 1)
    assert len(bob.invites) == 1
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(2)
    stack.wait_empty("bob")
    assert bodies(bob) == [first, second]


def test_a_client_that_never_connects_is_given_up_and_asked_again(
        start, client):
    stack = start()
    sent = [send(stack, b"%d" % i) for i in range(2)]
    bob = client(stack, setup="active")
    opens, given_up = bob._open, []
    bob._open = lambda *a: opens(*a) if given_up else given_up.append(1)
    bob.register(params=SESSIONS_ONLY)
    # who has not connected within 30 s does not connect any more
    bob.wait_sessions(1)[0].wait_ended(40)
    bob.wait_msrp(2, 15)
    stack.wait_empty("bob")
    assert bodies(bob) == sent


@pytest.mark.parametrize("setup", ["active", "passive"])
def test_a_client_that_says_nothing_is_given_up_and_asked_again(
        start, client, setup):
    stack = start({"session_idle_time": 1})
    sent = [send(stack, b"%d" % i) for i in range(2)]
    bob = client(stack, setup=setup, script=scripts(Script(silent=True)),
                 tolerate=["the connection broke"])
    bob.register(params=SESSIONS_ONLY)
    bob.wait_sessions(1)[0].wait_ended()
    bob.wait_sessions(2, 15)
    stack.wait_empty("bob", 15)
    assert [m.body for m in bob.sessions[-1].messages] == sent


# ---- what is sent

@pytest.mark.parametrize("message_id", [
    "a", "with space", "<angle@brackets>", "slash/and:colon", "-dash-first",
    "x" * 33, "y" * 200, "é" * 3])
def test_any_message_id_can_be_sent(start, client, message_id):
    stack = start()
    sent = cpim(b"x", message_id=message_id)
    assert stack.ua("alice").message("sip:bob@example.org", sent,
                                     CPIM).code == 202
    bob = client(stack)
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(1)
    stack.wait_empty("bob")
    assert bodies(bob) == [sent]


@pytest.mark.parametrize("name", ["Content-Encoding", "e"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_encoded_is_not_sent_in_a_session_without_saying_so(
        start, client, place, name):
    # MSRP has no place for the header: without it the bytes are noise
    stack = start()
    packed = gzip.compress(cpim(b"packed"))
    sent = []
    for i in range(3):
        if i == place:
            assert stack.ua("alice").message(
                "sip:bob@example.org", packed, CPIM,
                [(name, "gzip")]).code == 202
        else:
            sent.append(send(stack, b"%d" % i))
    bob = client(stack)
    bob.register()
    bob.wait_messages(1)
    stack.wait_empty("bob")
    assert bodies(bob) + [m.body for m in bob.messages if m.body != packed] \
        == sent
    got = [m for m in bob.messages if m.body == packed]
    assert len(got) == 1
    assert got[0].get("content-encoding") == "gzip"


def test_who_wants_to_be_anonymous_is_not_named_in_the_invite(start, client):
    stack = start({"trusted_peers": HOST})
    body = cpim(b"x", sender="<sip:anonymous@anonymous.invalid>")
    response = stack.ua("alice").message("sip:bob@example.org", body, CPIM, [
        ("From", '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1'),
        ("P-Asserted-Identity", "<sip:alice@example.org>"),
        ("Privacy", "id")])
    assert response.code == 202, response
    for profile in ("standalone", "chat"):
        bob = client(stack, profile=profile, invite_answer=486)
        bob.register(params=SESSIONS_ONLY if profile == "standalone"
                     else msrpua.TAGS["chat"])
        wait_until(lambda: bob.invites, 10, "an INVITE")
        invite = bob.invites[0]
        assert b"alice" not in invite.raw.lower(), invite.raw
        assert "anonymous@anonymous.invalid" in invite.get(
            "from" if profile == "standalone" else "referred-by")
        bob.register(expires=0)
    bob = client(stack)
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(1)
    stack.wait_empty("bob")
    assert bodies(bob) == [body]


# ---- a relay

def report(session, msg):
    """Of one message, as its receiver sends it."""
    session.endpoint.send_raw(msrpua.build(msrpua.new_tid(), "REPORT", [
        ("To-Path", msg.get("From-Path")),
        ("From-Path", session.endpoint.uri),
        ("Message-ID", msg.message_id),
        ("Byte-Range", "1-%d/%d" % (len(msg.body), len(msg.body))),
        ("Status", "000 200 OK")]))


@pytest.mark.parametrize("setup", ["active", "passive"])
def test_behind_a_relay_only_a_report_takes_a_message_out_of_the_queue(
        start, client, relay, setup):
    stack = start()
    sent = [send(stack, b"%d" % i) for i in range(2)]
    bob = client(stack, relay=relay, setup=setup,
                 script=Script(report=False))
    bob.register(params=SESSIONS_ONLY)
    first, second = bob.wait_msrp(2)
    assert bodies(bob) == sent
    assert len(bob.sessions[0].answer.path) == 2
    # the relay's own answers came before this, and by the same connection
    report(bob.sessions[0], second)
    wait_until(lambda: is_queued(stack, 1), 5)
    assert first.get("Success-Report") == "yes"
    report(bob.sessions[0], first)
    stack.wait_empty("bob")
    wait_until(lambda: bob.sessions[0].ended, 5, "the PF hangs up")
    assert len(bob.invites) == 1


def test_many_and_large_messages_come_through_a_relay(start, client, relay):
    stack = start()
    sent = fill(stack, 40)
    with sipua.UA("alice", DOMAIN, (HOST, stack.sip_port),
                  transport="tcp") as alice:
        sent.append(cpim(os.urandom(40000)))
        assert alice.message("sip:bob@example.org", sent[-1],
                             CPIM).code == 202
    bob = client(stack, relay=relay)
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(41, 20)
    stack.wait_empty("bob")
    assert bodies(bob) == sent
    assert len(bob.invites) == 1


# ---- what dies

def delivery_pids(stack):
    """Processes of Kamailio that deliver."""
    pids = re.findall(r"(\d+)\s+CPM delivery", stack.rpc("core.ps"))
    assert pids
    return [int(pid) for pid in pids]


def test_when_the_delivery_worker_dies_nothing_is_lost_or_settled_twice(
        start, client):
    stack = start({"lease_time": 3, "retry_intervals": "1"})
    stack.expect_log(r".*")     # whatever Kamailio says of its end
    sent = fill(stack, 10)
    bob = client(stack, script=scripts(Script(silent_from=4)),
                 tolerate=["the connection broke"])
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(10)
    wait_until(lambda: is_queued(stack, 7), 5)
    os.kill(delivery_pids(stack)[0], signal.SIGKILL)
    wait_until(lambda: not stack.kamailio.running, 10, "Kamailio ends")
    stack.kamailio.expect_none_left()
    stack.start_kamailio()
    bob.register(params=SESSIONS_ONLY)
    stack.wait_empty("bob", 20)
    assert [m.body for s in bob.sessions[1:] for m in s.messages] == sent[3:]


def test_when_the_msrp_worker_dies_three_times_all_come_in_the_end(
        start, client):
    stack = start({"lease_time": 3, "retry_intervals": "1"})
    stack.expect_log(r"nursery: worker died role=msrp")
    sent = [send(stack, b"message %d" % i) for i in range(5)]
    bob = client(stack, script=scripts(*[Script(silent_from=2)] * 3),
                 tolerate=["the connection broke", "the connection ended",
                           "session: "])

    def msrp_pids():
        pids = []
        for pid in stack.workers():
            with open("/proc/%d/cmdline" % pid, "rb") as f:
                if b"\0msrp\0" in f.read():
                    pids.append(pid)
        return pids
    bob.register(params=SESSIONS_ONLY)
    for round_ in range(3):
        wait_until(lambda: is_queued(stack, 4 - round_), 20)
        for pid in msrp_pids():
            os.kill(pid, signal.SIGKILL)
    stack.wait_empty("bob", 30)
    got = bodies(bob)
    assert [b for i, b in enumerate(got) if b not in got[:i]] == sent
    assert stack.ua("dave").register().code == 200


# ---- others' eyes

def test_tshark_decodes_a_whole_push_without_a_malformed_frame(
        start, client, tmp_path):
    need("tshark")
    need("dumpcap")
    stack = start()
    sent = []
    path = str(tmp_path / "push.pcapng")
    capture = Program("dumpcap", [
        "dumpcap", "-q", "-i", "lo", "-f",
        "udp port %d or tcp port %d" % (stack.sip_port, stack.msrp_port),
        "-w", path], str(tmp_path))
    capture.wait_log(r"File: ")

    def tshark(*args):
        done = subprocess.run(
            ["tshark", "-n", "-r", path, "-d",
             "udp.port==%d,sip" % stack.sip_port, "-d",
             "tcp.port==%d,msrp" % stack.msrp_port] + list(args),
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60)
        return done.stdout

    found = {}

    def all_there():
        text = tshark("-Y", "sip || msrp", "-V")
        found.update({word: len(re.findall(pattern, text)) for word, pattern
                      in (("INVITE", r"Request-Line: INVITE"),
                          ("ACK", r"Request-Line: ACK"),
                          ("BYE", r"Request-Line: BYE"),
                          ("SEND", r"Method: SEND"),
                          ("200", r"Status code: 200"))})
        return (found["SEND"] >= 2 and found["200"] >= 1
                and want.items() <= found.items())
    # of requests and responses that share a TCP segment tshark shows the first
    want = {"INVITE": 1, "ACK": 1, "BYE": 1}
    try:
        # one session, and each message in a segment of its own: it joins when
        # the one before it has come, and that is not answered yet
        bob = client(stack, script=Script(hold=3))
        bob.register(params=SESSIONS_ONLY)
        for body in (b"0", b"1", b"x" * 7000):
            sent.append(send(stack, body))
            bob.wait_msrp(len(sent))
        stack.wait_empty("bob")
        wait_until(lambda: bob.sessions[0].ended, 5, "the PF hangs up")
        assert bodies(bob) == sent
        try:
            wait_until(all_there, 20)
        except AssertionError:
            pytest.fail("tshark saw %s:\n%s" % (found, tshark()))
    finally:
        capture.stop()
    assert tshark("-Y", "_ws.malformed") == ""
    assert tshark("-Y", "_ws.expert.severity >= 0x800000") == ""
