# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A client fetches what is queued for it: INVITE to pull_uri, MSRP, results."""

import os
import random
import signal
import socket
import time
import xml.etree.ElementTree as ET

import pytest

import msrpua
from harness import HOST, command_line, wait_until
from push import CPIM, SESSIONS_ONLY, ours, send

PULL = "sip:queue@example.org"
ACTIONS = "application/cpm-queue-actions+xml"
RESULTS = "application/cpm-queue-results+xml"
TYPES = "message/cpim " + RESULTS
BOB = [("P-Asserted-Identity", "<sip:bob@example.org>")]
CAROL = [("P-Asserted-Identity", "<sip:carol@example.org>")]


@pytest.fixture
def start(msrp_start):
    """A stack that believes what this machine asserts."""
    def make(settings=None, **kw):
        return msrp_start(dict({"trusted_peers": HOST}, **(settings or {})),
                          **kw)
    return make


@pytest.fixture
def client():
    made = []

    def make(stack, user="bob", **kw):
        kw.setdefault("accept_types", TYPES)
        ua = msrpua.CpmClient(user, proxy=(HOST, stack.sip_port), **kw)
        made.append(ua)
        return ua
    yield make
    for ua in made:
        ua.close()


def actions(pairs, default=None):
    """(id, action) pairs as the second part of an INVITE."""
    return (ACTIONS, b'<?xml version="1.0" encoding="UTF-8"?>\n'
            b'<queue-actions xmlns="urn:cpm-pf:queue-actions:1"%s>%s'
            b'</queue-actions>' % (
                b' default="%s"' % default.encode() if default else b"",
                b"".join(b'<message id="%s" action="%s"/>' % (
                    i.encode(), a.encode()) for i, a in pairs)))


def results_of(session, timeout=10):
    """What the last message of a session says: {id: (action, status,
    reason)}."""
    def is_there():
        return [m for m in session.messages if b"queue-results" in m.body]
    session.client.wait(is_there, timeout, "results")
    assert session.messages[-1] is is_there()[0], "they are the last message"
    body = session.messages[-1].body
    root = ET.fromstring(body[body.index(b"<queue-results"):]
                         if body.startswith(b"From") else body)
    ns = "{urn:cpm-pf:queue-results:1}"
    assert root.tag == ns + "queue-results"
    return {r.get("id"): (r.get("action"), r.get("status"), r.get("reason"))
            for r in root.findall(ns + "result")}


def ids(stack, user="bob"):
    return [m["id"] for m in stack.items(user)]


def states(stack, user="bob"):
    return {m["id"]: m["state"] for m in stack.items(user)}


def codes_of(ua, raw):
    """Of all answers to requests of this one's branch: its own, and those of
    its CANCEL."""
    return [r.code for r in ua._responses[msrpua.sipua.Message(raw).branch]]


def cancel_of(invite):
    head = invite.split(b"\r\n\r\n")[0].split(b"\r\n")
    same = (b"via:", b"from:", b"to:", b"call-id:", b"max-forwards:")
    lines = [x for x in head if x.lower().startswith(same)]
    lines += [x.replace(b"INVITE", b"CANCEL") for x in head
              if x.lower().startswith(b"cseq:")]
    return b"\r\n".join([b"CANCEL %s SIP/2.0" % PULL.encode()] + lines
                        + [b"Content-Length: 0", b"", b""])


def fill(stack, count, user="bob"):
    """Queues messages; returns their ids and bodies."""
    sent = [send(stack, b"message %d" % i, to=user) for i in range(count)]
    return ids(stack, user), sent


@pytest.mark.parametrize("setup", ["actpass", "active", "passive", None])
def test_an_invite_without_a_list_fetches_all(start, client, setup):
    stack = start()
    _, sent = fill(stack, 5)
    bob = client(stack)
    session = bob.pull(PULL, headers=BOB, setup=setup)
    assert session.response.code == 200
    bob.wait(lambda: len(session.messages) == 5, 10, "all of them")
    assert [m.body for m in session.messages] == sent
    assert [m.content_type for m in session.messages] == [CPIM] * 5
    stack.wait_empty("bob")
    assert session.bye().code == 200
    assert ours(bob.violations) == []
    assert stack.metric("retrieved") == 5
    assert stack.metric("pulls") == 1


def test_each_message_gets_what_its_user_says(start, client):
    stack = start()
    names, sent = fill(stack, 6)
    what = ["retrieve", "discard", "keep", "store", "interwork"]
    bob = client(stack)
    session = bob.pull(PULL, [actions(zip(names, what))], BOB)
    results = results_of(session)
    assert results == {i: (a, "ok", None) for i, a in zip(names, what)}
    assert [m.body for m in session.messages[:-1]] == [sent[0]]
    assert session.messages[-1].content_type == RESULTS
    session.bye()
    assert states(stack) == {names[2]: "held", names[5]: "queued"}
    jobs = {j["id"]: j["kind"] for j in stack.http("/v1/jobs").json["items"]}
    assert jobs == {names[3]: "store", names[4]: "interwork"}

    # the same again: what is gone is gone, and harms nothing
    session = bob.pull(PULL, [actions(zip(names, what))], BOB)
    results = results_of(session)
    assert {i: r[1] for i, r in results.items()} == {
        names[0]: "gone", names[1]: "gone", names[2]: "ok",
        names[3]: "gone", names[4]: "gone"}
    session.bye()
    assert states(stack) == {names[2]: "held", names[5]: "queued"}
    assert ours(bob.violations) == []


def test_what_was_kept_is_fetched_later(start, client):
    stack = start()
    names, sent = fill(stack, 2)
    bob = client(stack)
    session = bob.pull(PULL, [actions([(names[0], "keep")])], BOB)
    results_of(session)
    session.bye()
    assert states(stack)[names[0]] == "held"
    # a client that registers gets what is not held
    bob.register()
    bob.wait_msrp(2)
    wait_until(lambda: ids(stack) == names[:1], 5, "the other one is pushed")
    session = bob.pull(PULL, headers=BOB)
    bob.wait(lambda: len(session.messages) == 1, 10, "the held one")
    assert session.messages[0].body == sent[0]
    stack.wait_empty("bob")


def test_the_default_fetches_what_is_not_listed(start, client):
    stack = start()
    names, sent = fill(stack, 3)
    bob = client(stack)
    session = bob.pull(
        PULL, [actions([(names[1], "discard")], "retrieve")], BOB)
    assert results_of(session) == {names[1]: ("discard", "ok", None)}
    assert [m.body for m in session.messages[:-1]] == [sent[0], sent[2]]
    stack.wait_empty("bob")


def test_more_than_fit_at_once_come_in_the_order_of_the_list(start, client):
    stack = start()
    names, sent = fill(stack, 70)
    bob = client(stack)
    order = list(reversed(names))
    session = bob.pull(PULL, [actions([(i, "retrieve") for i in order])], BOB)
    results = results_of(session, 20)
    assert set(r[1] for r in results.values()) == {"ok"}
    assert [m.body for m in session.messages[:-1]] == sent[::-1]
    stack.wait_empty("bob")


def test_the_results_are_wrapped_for_who_takes_only_cpim(start, client):
    stack = start()
    names, _ = fill(stack, 1)
    bob = client(stack, accept_types=CPIM)
    session = bob.pull(PULL, [actions([(names[0], "discard")])], BOB)
    bob.wait(lambda: session.messages, 10, "results")
    message = session.messages[-1]
    assert message.content_type == CPIM
    assert ("Content-Type: %s" % RESULTS).encode() in message.body
    assert b'status="ok"' in message.body
    stack.wait_empty("bob")


@pytest.mark.parametrize("headers, to", [
    (CAROL, "<sip:bob@example.org>"),       # carol, about bob's queue
    ([], None),                             # nobody says who it is
    ([("P-Asserted-Identity", "<sip:bob@elsewhere.example>")], None),
], ids=["another-user", "nobody", "another-domain"])
def test_another_ones_queue_is_refused_and_nothing_revealed(
        start, client, headers, to):
    stack = start({"trusted_peers": HOST} if headers else
                  {"trusted_peers": "192.0.2.1"})
    names, _ = fill(stack, 2)
    bob = client(stack)
    answers = []
    for known in (True, False):
        if not known:
            stack.redis.command("FLUSHALL")
        body = msrpua.multipart([
            ("application/sdp", OFFER),
            actions([(names[0], "discard")])])
        kw = {"to": to} if to else {}
        response = bob.request(
            "INVITE", PULL, [("Content-Type", body[0]),
                             ("Contact", "<%s>" % bob.contact)] + headers,
            body[1], **kw)
        answers.append((response.code, response.reason,
                        response.get("warning"), len(response.body)))
        if known:
            assert len(ids(stack)) == 2
    assert answers[0][0] == 403
    assert answers[0] == answers[1], "whether there is a queue makes no odds"


def test_from_alone_counts_where_its_client_is_registered(start, client):
    stack = start({"trusted_peers": "192.0.2.1"})
    _, sent = fill(stack, 1)
    bob = client(stack, profile="standalone")
    thief = client(stack)
    # nobody takes it: the client takes no sessions, and no pager mode
    bob.register(params=';+sip.instance="<urn:uuid:1>";methods="INVITE,NOTIFY"')
    assert thief.pull(PULL).response.code == 403
    session = bob.pull(PULL)
    assert session.response.code == 200
    bob.wait(lambda: session.messages, 10, "the message")
    assert session.messages[0].body == sent[0]


OFFER = (b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\n"
         b"t=0 0\r\nm=message 9 TCP/MSRP *\r\na=recvonly\r\n"
         b"a=accept-types:message/cpim " + RESULTS.encode() + b"\r\n"
         b"a=setup:active\r\na=path:msrp://127.0.0.1:9/x;tcp\r\n")


def bomb():
    entities = b"".join(
        b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 10)
        for i in range(1, 10))
    return (ACTIONS, b'<!DOCTYPE queue-actions [<!ENTITY a0 "aaaaaaaaaa">'
            + entities + b']><queue-actions xmlns="urn:cpm-pf:queue-actions:1">'
            b'<message id="&a9;" action="discard"/></queue-actions>')


def outside(path):
    return (ACTIONS, b'<!DOCTYPE q [<!ENTITY x SYSTEM "file://%s">]>'
            b'<queue-actions xmlns="urn:cpm-pf:queue-actions:1">'
            b'<message id="&x;" action="discard"/></queue-actions>' % path)


NOT_TAKEN = [
    ("bomb", [bomb()], 400, "dtd"),
    ("entity", [outside(b"/etc/hostname")], 400, "dtd"),
    ("too-many", [actions([("i%d" % i, "discard") for i in range(1001)])],
     413, "too-many-items"),
    ("unknown-action", [actions([("ID", "steal")])], 400, "unknown-action"),
    ("foreign-root", [(ACTIONS, b'<queue-actions xmlns="urn:other">'
                       b'<message id="ID" action="discard"/></queue-actions>')],
     400, "namespace"),
    ("foreign-item", [(ACTIONS, b'<queue-actions xmlns="urn:cpm-pf:'
                       b'queue-actions:1"><message xmlns="urn:x" id="ID" '
                       b'action="discard"/></queue-actions>')],
     400, "foreign-element"),
    ("twice", [actions([("ID", "discard"), ("ID", "keep")])], 400,
     "duplicate-id"),
    ("truncated", [(ACTIONS, actions([("ID", "discard")])[1][:-9])], 400,
     "bad-xml"),
    ("not-a-list", [("text/plain", b"discard all")], 415, "unknown-part"),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    import harness
    directory = tmp_path_factory.mktemp("refusals")
    port = harness.free_port()
    stack = harness.Stack(
        directory, {"trusted_peers": HOST},
        defines={"MSRP": '"%s:%d"' % (HOST, port)})
    stack.start()
    names, _ = fill(stack, 1)
    stack.first_id = names[0]
    yield stack
    stack.close()


@pytest.mark.parametrize("parts, code, why", [n[1:] for n in NOT_TAKEN],
                         ids=[n[0] for n in NOT_TAKEN])
def test_a_list_that_is_none_is_refused_and_nothing_removed(
        refusals, client, parts, code, why):
    bob = client(refusals)
    parts = [(t, b.replace(b'"ID"', b'"%s"' % refusals.first_id.encode()))
             for t, b in parts]
    response = bob.pull(PULL, parts, BOB).response
    assert response.code == code, response
    assert '"%s"' % why in response.get("warning")
    assert ids(refusals) == [refusals.first_id]


@pytest.mark.parametrize("kind, body, code, why", [
    ("multipart/mixed", b"--b\r\n\r\nx\r\n--b--\r\n", 400, "boundary"),
    ('multipart/mixed;boundary="b"', b"--b\r\nContent-Type: application/sdp"
     b"\r\n\r\n" + OFFER, 400, "truncated"),
    ("application/sdp", OFFER[:60], 488, None),
    ("application/sdp", OFFER.replace(b"TCP/MSRP", b"TCP/TLS/MSRP"), 488,
     None),
    ("application/sdp", OFFER.replace(b"recvonly", b"sendonly"), 488,
     "direction"),
    ("application/sdp", OFFER.replace(b"m=message", b"m=audio"), 488, None),
    ("application/sdp", b"", 488, "no-offer"),
    ("text/plain", b"hello", 415, "content-type"),
], ids=["no-boundary", "no-end", "short-sdp", "tls", "direction", "audio",
        "no-body", "type"])
def test_a_body_that_offers_no_session_is_refused(
        refusals, client, kind, body, code, why):
    bob = client(refusals)
    response = bob.request(
        "INVITE", PULL, [("Content-Type", kind),
                         ("Contact", "<%s>" % bob.contact)] + BOB, body)
    assert response.code == code, response
    assert response.get("warning")
    if why:
        assert why in response.get("warning")
    assert ids(refusals) == [refusals.first_id]


def test_an_extension_that_is_required_is_named_as_unsupported(
        refusals, client):
    bob = client(refusals)
    response = bob.request(
        "INVITE", PULL, [("Content-Type", "application/sdp"),
                         ("Require", "timer"),
                         ("Contact", "<%s>" % bob.contact)] + BOB, OFFER)
    assert response.code == 420
    assert response.get("unsupported") == "timer"


def test_options_tell_what_can_be_done(refusals, client):
    bob = client(refusals)
    response = bob.request("OPTIONS", PULL)
    assert response.code == 200
    assert "INVITE" in response.get("allow")
    assert ACTIONS in response.get("accept")


def test_a_second_session_is_busy_and_the_first_goes_on(start, client):
    stack = start()
    names, _ = fill(stack, 2)
    bob = client(stack)
    first = bob.pull(PULL, [actions([(names[0], "discard")])], BOB)
    results_of(first)
    other = client(stack)
    response = other.pull(PULL, headers=BOB).response
    assert response.code == 486
    assert int(response.get("retry-after")) > 0
    assert first.bye().code == 200
    wait_until(lambda: other.pull(PULL, headers=BOB).response.code == 200, 5,
               "it is free again")


def test_a_client_that_does_not_hang_up_is_hung_up(start, client):
    stack = start({"pull_bye_time": 1})
    fill(stack, 1)
    bob = client(stack)
    session = bob.pull(PULL, headers=BOB)
    session.wait_ended(10)
    assert len(session.messages) == 1
    stack.wait_empty("bob")
    assert ours(bob.violations) == []


def test_a_client_that_dies_loses_only_what_it_took(start, client):
    stack = start({"session_idle_time": 2})
    names, sent = fill(stack, 5)
    bob = client(stack, script=lambda: msrpua.Script(silent_from=3))
    session = bob.pull(PULL, headers=BOB)
    bob.wait(lambda: len(session.messages) >= 2, 10, "two of them")
    wait_until(lambda: len(ids(stack)) == 3, 10, "two are removed")
    session.endpoint.close()
    wait_until(lambda: states(stack) == {i: "queued" for i in names[2:]}, 15,
               "the others are what they were")
    again = client(stack)

    def fetched():
        s = again.pull(PULL, headers=BOB)
        if s.response.code != 200:
            return False
        again.wait(lambda: len(s.messages) == 3, 10, "the others")
        return [m.body for m in s.messages] == sent[2:]
    wait_until(fetched, 20, "the others")
    stack.wait_empty("bob")


def test_a_client_may_hang_up_at_once(start, client):
    stack = start()
    names, _ = fill(stack, 3)
    bob = client(stack, script=lambda: msrpua.Script(silent_from=1))
    session = bob.pull(PULL, headers=BOB)
    assert session.bye().code == 200
    wait_until(lambda: states(stack) == {i: "queued" for i in names}, 10,
               "all as it was")


def test_the_pf_killed_while_it_works_discards_nothing_by_itself(
        start, client):
    stack = start({"lease_time": 2})
    names, sent = fill(stack, 4)
    bob = client(stack, script=lambda: msrpua.Script(silent_from=2))
    session = bob.pull(PULL, [actions(
        [(names[0], "discard"), (names[1], "retrieve"),
         (names[2], "retrieve"), (names[3], "keep")])], BOB)
    bob.wait(lambda: session.messages, 10, "the first")
    wait_until(lambda: len(ids(stack)) == 2, 10, "two are gone")
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()
    stack.start_kamailio()
    assert set(ids(stack)) <= set(names[2:])
    assert names[2] in ids(stack), "it was not acknowledged"
    again = client(stack)

    def fetched():
        s = again.pull(PULL, headers=BOB)
        if s.response.code != 200:
            return False
        again.wait(lambda: len(s.messages) == 2, 10, "both")
        return [m.body for m in s.messages] == sent[2:]
    wait_until(fetched, 20, "both are there")


def test_a_worker_that_dies_ends_the_session_and_loses_nothing(start, client):
    stack = start()
    names, _ = fill(stack, 3)
    bob = client(stack, script=lambda: msrpua.Script(silent_from=2))
    session = bob.pull(PULL, headers=BOB)
    bob.wait(lambda: session.messages, 10, "the first")
    wait_until(lambda: len(ids(stack)) == 2, 10, "it is removed")
    stack.expect_log(r"worker died role=msrp")
    for pid in stack.workers():
        if "msrp" in command_line(pid).split(" "):
            os.kill(pid, signal.SIGKILL)
    session.wait_ended(10)
    wait_until(lambda: states(stack) == {i: "queued" for i in names[1:]}, 10,
               "the others are queued")


def test_bye_twice_and_a_reinvite(start, client):
    stack = start()
    names, _ = fill(stack, 1)
    bob = client(stack)
    session = bob.pull(PULL, [actions([(names[0], "keep")])], BOB)
    results_of(session)
    assert session.dialog.request("OPTIONS").code == 200
    assert session.dialog.request("UPDATE").code == 200
    again = session.dialog.request(
        "INVITE", [("Content-Type", "application/sdp"),
                   ("Contact", "<%s>" % bob.contact)], OFFER)
    assert again.code == 488
    bye = session.dialog.build("BYE")
    assert bob.transact(bye).code == 200
    assert bob.transact(bye).code == 200, "the same BYE again"
    wait_until(lambda: session.dialog.request("BYE").code == 481, 5,
               "the dialog is gone")


def test_cancel_while_it_waits_for_a_delivery(start, client):
    """Something is being brought: a fetching INVITE waits, and may be
    cancelled then."""
    stack = start()
    names, _ = fill(stack, 1)
    bob = client(stack, script=lambda: msrpua.Script(hold=3))
    bob.register()
    bob.wait(lambda: bob.sessions, 10, "the push")
    other = client(stack)
    invite = other.build(
        "INVITE", PULL, [("Content-Type", "application/sdp"),
                         ("Contact", "<%s>" % other.contact)] + BOB, OFFER)
    other.send_raw(invite)
    other.wait(lambda: codes_of(other, invite), 5, "100")
    assert codes_of(other, invite) == [100]
    other.send_raw(cancel_of(invite))
    other.wait(lambda: set(codes_of(other, invite)) == {100, 200, 487}, 5,
               "both ends")


def test_an_invite_during_a_push_is_busy_after_a_moment(start, client):
    stack = start()
    fill(stack, 1)
    bob = client(stack, script=lambda: msrpua.Script(hold=2))
    bob.register(params=SESSIONS_ONLY)
    bob.wait(lambda: bob.sessions, 10, "the push")
    other = client(stack)
    response = other.pull(PULL, headers=BOB).response
    assert response.code == 486
    send(stack, b"second")
    bob.wait_msrp(2)
    stack.wait_empty("bob", 15)


def test_an_invite_whose_ack_never_comes_does_nothing(start, client):
    stack = start()
    names, _ = fill(stack, 1)
    bob = client(stack)
    sdp = OFFER
    body = msrpua.multipart([("application/sdp", sdp),
                             actions([(names[0], "discard")])])
    raw = bob.build(
        "INVITE", PULL, [("Content-Type", body[0]),
                         ("Contact", "<%s>" % bob.contact)] + BOB, body[1])
    response = bob.transact(raw)
    assert response.code == 200
    path = msrpua.Sdp(response.body).path
    # it connects, and there is no ACK: nobody says that it got the answer
    s = socket.create_connection((HOST, stack.msrp_port), 5)
    uri = path if isinstance(path, str) else str(path[0])
    s.sendall(("MSRP abcd1234 SEND\r\nTo-Path: %s\r\nFrom-Path: "
               "msrp://127.0.0.1:9/x;tcp\r\nMessage-ID: 1\r\n"
               "Byte-Range: 1-0/0\r\n-------abcd1234$\r\n" % uri).encode())
    s.settimeout(5)
    assert b" 200" in s.recv(4096)
    assert ids(stack) == names
    # 2xx comes again until there is one (RFC 3261, 13.3.1.4)
    bob.wait(lambda: codes_of(bob, raw).count(200) >= 2, 10, "the 2xx again")
    assert ids(stack) == names
    s.close()


def test_the_store_down_is_503_and_nothing_is_done(start, client):
    stack = start()
    names, _ = fill(stack, 1)
    stack.expect_log(r"store: down")
    stack.redis.stop()
    bob = client(stack)
    response = bob.pull(PULL, headers=BOB).response
    assert response.code == 503
    assert response.get("retry-after")


def test_many_cancels_that_race_with_the_answer(start, client):
    """The answer is made in one process, 487 in another, at the same time."""
    stack = start()
    bob = client(stack)
    rng = random.Random(1)
    raws = []
    for i in range(400):
        who = [("P-Asserted-Identity", "<sip:u%d@example.org>" % i)]
        raw = bob.build(
            "INVITE", PULL, [("Content-Type", "application/sdp"),
                             ("Contact", "<%s>" % bob.contact)] + who, OFFER)
        bob.send_raw(raw)
        until = time.perf_counter() + rng.random() * 0.002
        while time.perf_counter() < until:
            pass
        bob.send_raw(cancel_of(raw))
        raws.append(raw)
        if i % 20 == 19:
            bob.wait(lambda: all(
                any(c >= 200 for c in codes_of(bob, r)) for r in raws[-20:]),
                10, "an end of each")
    codes = {c for r in raws for c in codes_of(bob, r)}
    assert 487 in codes
    assert stack.kamailio.running
    # and those that were answered 200, and get no ACK, are no obstacle
    fill(stack, 1)
    session = client(stack).pull(PULL, headers=BOB)
    assert session.response.code == 200


def test_a_user_has_one_session_also_without_an_ack(start, client):
    stack = start()
    bob = client(stack)

    def call():
        return bob.request(
            "INVITE", PULL, [("Content-Type", "application/sdp"),
                             ("Contact", "<%s>" % bob.contact)] + BOB, OFFER)
    response = call()
    assert response.code == 200
    path = msrpua.Sdp(response.body).path
    uri = path if isinstance(path, str) else str(path[0])
    s = socket.create_connection((HOST, stack.msrp_port), 5)
    s.sendall(("MSRP abcd1234 SEND\r\nTo-Path: %s\r\nFrom-Path: "
               "msrp://127.0.0.1:9/x;tcp\r\nMessage-ID: 1\r\n"
               "Byte-Range: 1-0/0\r\n-------abcd1234$\r\n" % uri).encode())
    s.settimeout(5)
    assert b" 200" in s.recv(4096)
    s.close()
    assert {call().code for _ in range(20)} == {486}
