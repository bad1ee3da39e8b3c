# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Queued messages that are handed to the Interworking Selection Function:
as they were received, once in the end, or to be seen why not."""

import subprocess

import pytest

import msrpua
import sipua
from db import tag
from harness import DOMAIN, HOST, free_port, wait_until
from test_pull import PULL, TYPES, actions, results_of

CPIM = "message/cpim"
BODY = (b"From: <sip:alice@example.org>\r\nTo: <sip:bob@example.org>\r\n"
        b"NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: iw-1\r\n"
        b"\r\nContent-Type: text/plain;charset=UTF-8\r\n\r\nna\xc3\xafve\x00")
BOB = "sip:bob@" + DOMAIN

# What a request is made of anew: hop, transaction, length.
OWN = {"via", "max-forwards", "from", "to", "call-id", "cseq",
       "content-length", "route", "record-route", "user-agent"}


class Isf:
    def __init__(self, stack, program):
        self.stack, self.program = stack, program
        self.ua = sipua.UA("isf", DOMAIN, (HOST, stack.sip_port),
                           strict=False)
        self.uri = "sip:%s:%d" % (HOST, self.ua.port)

    def interwork(self, *mids, aor=BOB):
        """What the action of a queue's owner does."""
        done = subprocess.run(
            [self.program, str(self.stack.redis.port), "cpm"],
            input="".join("interwork %s %s\n" % (
                aor.encode().hex(), mid.encode().hex()) for mid in mids),
            capture_output=True, text=True, timeout=20)
        assert done.stdout.split() == ["interwork", "OK"] * len(mids), done


@pytest.fixture
def start(new_stack, seed_program):
    isfs = []

    def start(settings=None, lr=";lr", isf=True, **kw):
        stack = new_stack(dict({"job_retry_intervals": "1"},
                               **settings or {}), **kw)
        it = Isf(stack, seed_program)
        isfs.append(it)
        if isf:
            stack.defines["ISF"] = '"%s%s"' % (it.uri, lr)
        stack.start()
        return stack, it

    yield start
    for it in isfs:
        it.ua.close()


def send(stack, headers=(), body=BODY, content_type=CPIM, **kw):
    response = stack.ua("alice").message(BOB, body, content_type, headers,
                                         **kw)
    assert response.code == 202, response
    (item,) = stack.items("bob")
    return item["id"]


def jobs(stack):
    return stack.http("/v1/jobs").json["items"]


def wait_done(stack):
    wait_until(lambda: not jobs(stack), 10, "no job is left")


def lines(message, but=()):
    """The header lines that are the message's, sorted, byte for byte."""
    rows = message.head.split(b"\r\n")[1:]
    return sorted(r for r in rows if r.split(b":")[0].decode().lower()
                  not in OWN | set(but))


HEADERS = [
    ("P-Asserted-Identity", "\"Alice\" <sip:alice@example.org>"),
    ("P-Asserted-Service", "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg"),
    ("Accept-Contact", "*;" + tag("msg") + ";require;explicit"),
    ("Referred-By", "<sip:carol@example.org>"),
    ("Privacy", "id"),
    ("Conversation-ID", "conv-1"), ("Contribution-ID", "contr-1"),
    ("Subject", "caf\u00e9"), ("X-Odd", "a;b=\"c, d\""),
    ("Date", "Sun, 01 Mar 2026 10:00:00 GMT"),
]


def test_its_user_asks_for_it_in_a_session(start):
    stack, isf = start({"trusted_peers": HOST}, defines={
        "MSRP": '"%s:%d"' % (HOST, free_port())})
    mid = send(stack, HEADERS)
    bob = msrpua.CpmClient("bob", proxy=(HOST, stack.sip_port),
                           accept_types=TYPES)
    try:
        session = bob.pull(PULL, [actions([(mid, "interwork")])],
                           [("P-Asserted-Identity", "<%s>" % BOB)])
        assert results_of(session) == {mid: ("interwork", "ok", None)}
        session.bye()
    finally:
        bob.close()
    (got,) = isf.ua.wait_messages(1)
    assert got.body == BODY
    assert got.get("p-asserted-identity") == HEADERS[0][1]
    wait_done(stack)
    assert stack.queue("bob") is None
    assert stack.metric("interworked") == 1


def test_it_arrives_at_the_isf_as_it_was_received(start):
    stack, isf = start({"trusted_peers": HOST})
    alice = stack.ua("alice")
    raw = alice.build("MESSAGE", BOB, HEADERS + [("Content-Type", CPIM)],
                      BODY, from_='"Alice" <sip:alice@example.org>',
                      to="<tel:+4930123>")
    assert alice.transact(raw).code == 202
    sent = sipua.Message(raw)
    (item,) = stack.items("bob")
    isf.interwork(item["id"])
    (got,) = isf.ua.wait_messages(1)
    wait_done(stack)
    assert got.problems == []
    assert got.body == BODY
    assert lines(got) == lines(sent)
    # whom it is for, and by which way: RFC 3261, 16.6
    assert got.uri == BOB
    assert got.all("route") == ["<%s;lr>" % isf.uri]
    assert got.get("from").split(";")[0] == '"Alice" <sip:alice@example.org>'
    assert got.get("to") == "<tel:+4930123>"
    assert got.all("p-called-party-id") == []
    assert stack.items("bob") == []
    assert stack.metric("interworked") == 1
    assert stack.metric("interwork_failed") == 0
    assert len(isf.ua.messages) == 1


def test_in_the_other_mode_the_request_uri_is_the_isf(start):
    stack, isf = start({"isf_mode": "ruri"}, lr="")
    mid = send(stack, [("Expires", "600")])
    isf.interwork(mid)
    (got,) = isf.ua.wait_messages(1)
    wait_done(stack)
    assert got.uri == isf.uri
    assert got.all("route") == []
    assert got.get("to") == "<%s>" % BOB
    assert got.body == BODY
    assert 590 <= int(got.get("expires")) <= 600


def test_an_isf_whose_uri_forgets_lr_is_still_the_route(start):
    stack, isf = start(lr="")
    isf.interwork(send(stack))
    (got,) = isf.ua.wait_messages(1)
    assert got.uri == BOB
    assert got.all("route") == ["<%s;lr>" % isf.uri]
    wait_done(stack)


def test_an_identity_that_only_a_trusted_peer_may_give_is_not_handed_on(
        start):
    stack, isf = start()
    isf.interwork(send(stack, [
        ("P-Asserted-Identity", "<sip:mallory@example.org>")]))
    (got,) = isf.ua.wait_messages(1)
    assert got.all("p-asserted-identity") == []
    wait_done(stack)


def test_an_isf_that_is_busy_gets_it_later_and_once(start):
    stack, isf = start()
    isf.ua.answers = [503, 408, 200]
    mid = send(stack)
    isf.interwork(mid)
    wait_until(lambda: [m.answered for m in isf.ua.messages]
               == [503, 408, 200], 15)
    wait_done(stack)
    assert [m.body for m in isf.ua.messages] == [BODY] * 3
    assert len({m.call_id for m in isf.ua.messages}) == 1
    assert len({sipua.header_params(m.get("from"))["tag"]
                for m in isf.ua.messages}) == 1
    assert [m.cseq[0] for m in isf.ua.messages] == ["1", "2", "3"]
    assert stack.metric("interworked") == 1
    assert stack.metric("interwork_failed") == 2


def test_a_waiting_one_is_seen_with_its_error(start):
    stack, isf = start({"job_retry_intervals": "3600"})
    isf.ua.answer = 503
    isf.interwork(send(stack))
    job = wait_until(lambda: [j for j in jobs(stack)
                              if j["last_error"]], 10)[0]
    assert (job["kind"], job["user"], job["id"], job["state"],
            job["attempts"], job["last_error"]) == (
        "interwork", BOB, "iw-1", "waiting", 1, "503")


@pytest.mark.parametrize("code", [404, 603])
def test_what_the_isf_refuses_stays_to_be_seen(start, code):
    stack, isf = start()
    isf.ua.answer = code
    isf.interwork(send(stack))
    job = wait_until(lambda: [j for j in jobs(stack)
                              if j["state"] == "dead"], 10)[0]
    assert (job["kind"], job["user"], job["id"], job["attempts"],
            job["last_error"]) == ("interwork", BOB, "iw-1", 1, str(code))
    assert job["due"] is None
    assert len(isf.ua.messages) == 1


def test_after_the_last_attempt_it_stays_to_be_seen(start):
    stack, isf = start({"job_max_attempts": 2})
    isf.ua.answer = 500
    isf.interwork(send(stack))
    job = wait_until(lambda: [j for j in jobs(stack)
                              if j["state"] == "dead"], 10)[0]
    assert (job["attempts"], job["last_error"]) == (2, "500")
    assert len(isf.ua.messages) == 2


def test_an_isf_that_says_nothing_is_tried_again(start):
    stack, isf = start({"lease_time": 1})   # renewed while it is out
    isf.ua.answers = [None, 200]
    isf.interwork(send(stack))
    isf.ua.wait(lambda: len(isf.ua.messages) == 2, 15)
    wait_done(stack)
    assert [m.body for m in isf.ua.messages] == [BODY] * 2


def test_without_an_isf_it_stays_to_be_seen(start):
    stack, isf = start(isf=False)
    isf.interwork(send(stack))
    job = wait_until(lambda: [j for j in jobs(stack)
                              if j["state"] == "dead"], 10)[0]
    assert job["last_error"] == "no-isf"
    assert isf.ua.messages == []


def test_an_isf_that_is_silent_keeps_no_sender_from_being_told(start):
    stack, isf = start(defines={"ANSWER_TIMEOUT_MS": 4000})
    isf.ua.answer = None
    alice = stack.ua("alice")
    isf.interwork(send(stack))
    isf.ua.wait_messages(1)
    alice.register()
    response = alice.message("sip:carol@" + DOMAIN, BODY.replace(
        b"iw-1", b"iw-2\r\nimdn.Disposition-Notification: processing"), CPIM)
    assert response.code == 202
    (told,) = alice.wait_messages(1)
    assert b"<message-id>iw-2</message-id>" in told.body
    assert isf.ua.messages[0].answered is None
    assert [j["kind"] for j in jobs(stack)] == ["interwork"]


def test_killed_while_it_waits_for_the_isf_it_is_sent_again(start):
    stack, isf = start({"lease_time": 600})
    isf.ua.answers = [None]
    isf.interwork(send(stack))
    isf.ua.wait_messages(1)
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()
    stack.start_kamailio()
    isf.ua.wait(lambda: len(isf.ua.messages) == 2, 15)
    wait_done(stack)
    first, second = isf.ua.messages
    assert first.call_id == second.call_id and first.cseq != second.cseq
    assert second.body == BODY


def test_a_redis_that_is_away_when_the_isf_answers_costs_no_second_request(
        start):
    stack, isf = start()
    stack.expect_log(r"store: down ")

    def answer(_):
        stack.redis.freeze()
        return 200

    isf.ua.answer = answer
    isf.interwork(send(stack))
    isf.ua.wait_messages(1)
    stack.kamailio.wait_log("store: down call=job-settle")
    stack.redis.thaw()
    stack.kamailio.wait_log("store: up again")
    wait_done(stack)
    # what comes later finds nothing of it
    isf.ua.answer = 200
    isf.interwork(send(stack, body=BODY.replace(b"iw-1", b"iw-9")))
    isf.ua.wait_messages(2)
    wait_done(stack)
    assert [b"iw-1" in b for b in isf.ua.bodies] == [True, False]
    assert stack.metric("interworked") == 2


def test_many_are_sent_a_bounded_number_at_a_time_and_each_once(start):
    stack, isf = start(defines={"ANSWER_TIMEOUT_MS": 20000})
    isf.ua.answer = None
    alice = stack.ua("alice")
    alice.register()
    mids = ["many-%d" % i for i in range(70)]
    for mid in mids:
        assert alice.message(BOB, BODY.replace(b"iw-1", mid.encode()),
                             CPIM).code == 202
    isf.interwork(*mids)
    isf.ua.wait_messages(64, 20)
    # two looks later, for which a notification stands, there are no more
    for mid in ("then-1", "then-2"):
        alice.message("sip:carol@" + DOMAIN, BODY.replace(
            b"iw-1", mid.encode()
            + b"\r\nimdn.Disposition-Notification: processing"), CPIM)
        alice.wait(lambda m=mid: any(m.encode() in b for b in alice.bodies),
                   10, mid)
    assert len(isf.ua.messages) == 64
    isf.ua.answer = 200
    for message in list(isf.ua.messages):
        isf.ua.reply(message, 200)
    isf.ua.wait_messages(70, 20)
    wait_done(stack)
    assert sorted(isf.ua.bodies) == sorted(
        BODY.replace(b"iw-1", mid.encode()) for mid in mids)
    assert stack.metric("interworked") == 70


# ------------------------------------------------------- a message in hand

INTERWORK = ("\troute(CPM_MESSAGE);\n\t\texit;\n\t}\n\troute(TO_USER);", """
		if($rU == "isf-user" && cpm_interwork()) {
			t_on_failure("CPM_NOT_INTERWORKED");
			t_set_disable_internal_reply(1);
			if(t_relay()) exit;
			cpm_queue("isf");
			cpm_reply();
			exit;
		}
		route(CPM_MESSAGE);
		exit;
	}
	route(TO_USER);
}
route[UNUSED] {
	return;""")


def test_a_message_in_hand_reaches_the_isf_as_it_was_received(start):
    stack, isf = start({"trusted_peers": HOST}, cfg_edit=INTERWORK)
    alice = stack.ua("alice")
    raw = alice.build("MESSAGE", "sip:isf-user@" + DOMAIN,
                      HEADERS + [("Content-Type", CPIM)], BODY)
    assert alice.transact(raw).code == 200
    (got,) = isf.ua.wait_messages(1)
    assert got.body == BODY
    assert lines(got) == lines(sipua.Message(raw))
    assert got.uri == "sip:isf-user@" + DOMAIN
    assert got.all("route") == ["<%s;lr>" % isf.uri]
    assert stack.items("isf-user") == []


@pytest.mark.parametrize("answer", [None, 503, 480])
def test_a_message_in_hand_is_not_lost_with_an_isf_that_is_down(
        start, answer):
    stack, isf = start(cfg_edit=INTERWORK)
    isf.ua.answer = answer
    response = stack.ua("alice").message(
        "sip:isf-user@" + DOMAIN, BODY, CPIM)
    assert response.code == 202
    (item,) = stack.items("isf-user")
    assert (item["id"], item["state"]) == ("iw-1", "queued")
    client = stack.ua("isf-user")
    client.register()
    (got,) = client.wait_messages(1)
    assert got.body == BODY
    assert got.all("route") == []
    stack.wait_empty("isf-user")


def test_a_message_in_hand_that_the_isf_refuses_is_refused(start):
    stack, isf = start(cfg_edit=INTERWORK)
    isf.ua.answer = 404
    response = stack.ua("alice").message(
        "sip:isf-user@" + DOMAIN, BODY, CPIM)
    assert response.code == 404
    assert stack.items("isf-user") == []
