# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The MSRP user agent of the tests, tried on itself and judged by tshark:
what is right passes, what is wrong is seen."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest

from harness import HOST, TOP, Program, free_port, wait_until

import msrpua
from msrpua import CpmClient, Endpoint, MsrpError, Script

MSRPUA = os.path.join(TOP, "tools", "msrpua.py")


def need(program):
    if shutil.which(program) is None:
        pytest.fail("%s is not installed; tools/bootstrap.sh test brings it"
                    % program)


@pytest.fixture
def pair():
    """Makes two endpoints that are connected: (passive, active)."""
    ends = []

    def make(tls=False, passive=None, active=None, **kw):
        if tls:
            need("openssl")
        bob = Endpoint(tls=tls, name="bob", script=passive, **kw)
        alice = Endpoint(tls=tls, name="alice", script=active)
        ends.extend([bob, alice])
        bob.listen()
        alice.connect(bob.path, [bob.certificate.fingerprint] if tls else [])
        if active is None or active.bind:
            alice.wait(lambda: alice.bound or alice.closed, what="a binding")
        return bob, alice

    yield make
    for end in ends:
        end.close()


def clean(*ends):
    for end in ends:
        assert end.violations == []


# ---- what is right

@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("sender", ["active", "passive"])
def test_a_megabyte_in_chunks_arrives_byte_for_byte(pair, tls, sender):
    bob, alice = pair(tls)
    from_, to = (alice, bob) if sender == "active" else (bob, alice)
    body = os.urandom(1 << 20)
    sent = from_.send(body, "application/octet-stream", success_report="yes")
    msg = to.wait_messages(1)[0]
    assert msg.body == body
    assert msg.content_type == "application/octet-stream"
    assert msg.message_id == sent.message_id
    assert len(msg.chunks) == 512
    assert sent.codes == [200] * 512
    from_.wait(lambda: sent.reported, what="the report")
    assert from_.reports == [(sent.message_id, 200, "1-1048576/1048576")]
    assert bob.empty_sends == 1
    clean(bob, alice)


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_one_large_chunk_is_interrupted_and_goes_on(pair, tls):
    bob, alice = pair(tls)
    body = os.urandom(300000)
    alice.send(body, "application/octet-stream", chunk=1 << 20,
               interrupt_at=123456,
               interruption=lambda: alice.send(b"meanwhile"))
    small, large = bob.wait_messages(2)
    assert small.body == b"meanwhile"
    assert large.body == body
    assert large.chunks == [(1, 123456, "+"), (123457, 176544, "$")]
    clean(bob, alice)


def test_a_message_that_is_given_up_is_none(pair):
    bob, alice = pair()
    alice.send(b"x" * 5000, abort_at=3000)
    alice.send(b"next")
    assert [m.body for m in bob.wait_messages(1)] == [b"next"]
    assert bob.begun[0].aborted and not bob.begun[0].complete
    assert bob.begun[0].chunks == [(1, 2048, "+"), (2049, 952, "#")]
    clean(bob, alice)


@pytest.mark.parametrize("body", [
    b"", b"\r\n", b"\r\n-------", b"-------abc$\r\nMSRP abc SEND\r\n\r\n",
    b"\0\xff" * 700], ids=["none", "crlf", "hyphens", "frame", "binary"])
def test_any_body_is_carried(pair, body):
    bob, alice = pair()
    assert alice.send(body).codes == [200]
    assert bob.wait_messages(1)[0].body == body
    clean(bob, alice)


def test_a_message_without_a_known_total_is_complete_at_its_end(pair):
    bob, alice = pair()
    alice.send(b"y" * 5000, total=False)
    assert bob.wait_messages(1)[0].body == b"y" * 5000
    clean(bob, alice)


def test_chunks_may_come_in_any_order(pair):
    bob, alice = pair()
    for where, piece, flag in (("4-6/6", b"def", "$"), ("1-3/6", b"abc", "+")):
        alice.send_raw(alice.frame("SEND", [
            ("Message-ID", "m1m1"), ("Byte-Range", where),
            ("Content-Type", "text/plain")], piece, flag))
    assert bob.wait_messages(1)[0].body == b"abcdef"
    assert bob.violations == []


def test_reports_come_as_they_were_asked_for(pair):
    bob, alice = pair(passive=Script(report_each=True))
    sent = alice.send(b"z" * 5000, success_report="yes")
    alice.wait(lambda: sent.reported, what="all reports")
    assert [r[2] for r in alice.reports] == [
        "1-2048/5000", "2049-4096/5000", "4097-5000/5000"]
    plain = alice.send(b"no report")
    assert plain.codes == [200] and len(alice.reports) == 3
    clean(bob, alice)


@pytest.mark.parametrize("wanted", ["no", "partial"])
def test_who_wants_no_answers_gets_none(pair, wanted):
    bob, alice = pair()
    alice.send(b"one", failure_report=wanted)
    # answers come in order: that of the second would be behind
    sent = alice.send(b"two")
    assert sent.codes == [200]
    assert len(bob.wait_messages(2)) == 2
    clean(bob, alice)


def test_a_type_that_is_not_accepted_gets_415(pair):
    bob, alice = pair(accept=("message/cpim", "text/*"))
    assert alice.send(b"a", "Message/CPIM").codes == [200]
    assert alice.send(b"b", "text/html;x=y").codes == [200]
    assert alice.send(b"c", "image/png").codes == [415]
    assert [m.body for m in bob.messages] == [b"a", b"b"]
    clean(bob, alice)


def test_session_ids_alone_may_be_compared():
    with Endpoint(sessmatch=True) as bob, Endpoint() as alice:
        bob.listen()
        alice.connect(bob.path)
        alice.peer_path = msrpua.path_of(
            "msrp://elsewhere.example.org:1/%s;tcp" % bob.session)
        assert alice.send(b"by another name").codes == [200]
        assert bob.violations == []


def test_the_certificate_is_known_by_its_fingerprint():
    need("openssl")
    with Endpoint(tls=True) as bob, Endpoint(tls=True) as alice:
        bob.listen()
        wrong = bob.certificate.fingerprint[:-2] + "00"
        if wrong == bob.certificate.fingerprint:
            wrong = wrong[:-2] + "01"
        with pytest.raises(MsrpError, match="certificate"):
            alice.connect(bob.path, [wrong])


# ---- misbehaviour is what the script says

def test_the_second_message_can_be_refused(pair):
    bob, alice = pair(passive=Script(refuse_from=2, refuse_code=500))
    assert alice.send(b"one").codes == [200]
    assert alice.send(b"2" * 5000).codes == [500] * 3
    assert alice.send(b"three").codes == [500]
    assert [m.body for m in bob.messages] == [b"one"]
    clean(bob, alice)


def test_the_connection_can_be_cut_after_so_many_octets(pair):
    bob, alice = pair(passive=Script(cut_bytes=20000))
    try:
        sent = alice.send(b"x" * 100000)
        assert None in sent.codes
    except MsrpError as e:
        assert "no connection" in str(e) or "alice" in str(e)
    alice.wait_closed()
    assert bob.bytes_in == 20000
    assert bob.messages == []


@pytest.mark.parametrize("when, came, answered", [
    ("begun", 1, False), ("unanswered", 2, False), ("answered", 2, True)])
def test_the_connection_can_be_cut_in_the_second_message(
        pair, when, came, answered):
    bob, alice = pair(passive=Script(cut_message=2, cut_when=when))
    assert alice.send(b"one").codes == [200]
    sent = alice.send(b"two")
    alice.wait_closed()
    bob.wait_closed()
    assert len(bob.messages) == came
    # what was answered before an abort may still be lost on its way
    assert sent.codes in ([[None], [200]] if answered else [[None]])


def test_answers_can_be_late(pair):
    bob, alice = pair(passive=Script(delay_ms=300))
    start = time.monotonic()
    assert alice.send(b"one").codes == [200]
    assert time.monotonic() - start >= 0.3
    clean(bob, alice)


def test_answers_can_be_missing(pair):
    bob, alice = pair(passive=Script(silent_from=2))
    assert alice.send(b"one").codes == [200]
    with pytest.raises(MsrpError, match="did not happen"):
        alice.send(b"two", timeout=0.5)
    assert len(bob.wait_messages(2)) == 2


def test_answers_can_wait_for_more_messages(pair):
    bob, alice = pair(passive=Script(hold=3))
    sent = [alice.send(b"%d" % i, wait=False) for i in range(2)]
    bob.wait_messages(2)
    assert [s.codes for s in sent] == [[None], [None]]
    assert alice.send(b"last").codes == [200]
    assert [s.codes for s in sent] == [[200], [200]]
    clean(bob, alice)


def test_reports_can_be_missing_or_bad(pair):
    bob, alice = pair(passive=Script(report=False))
    sent = alice.send(b"one", success_report="yes")
    alice.send(b"two")
    assert sent.codes == [200] and sent.reports == []
    bob.script.report, bob.script.report_code = True, 413
    sent = alice.send(b"three", success_report="yes")
    alice.wait(lambda: sent.reports, what="a report")
    assert sent.reports == [(413, 1, 5)] and not sent.reported


def test_octets_can_come_one_by_one(pair):
    bob, alice = pair(passive=Script(trickle=True), active=Script(trickle=True))
    body = bytes(range(256)) * 10
    assert alice.send(body, success_report="yes").codes == [200, 200]
    assert bob.wait_messages(1)[0].body == body
    alice.wait(lambda: alice.reports, what="the report")
    clean(bob, alice)


def test_an_answer_can_belong_to_nothing(pair):
    bob, alice = pair(passive=Script(wrong_tid=True), active=Script(bind=False))
    alice.send(b"one", wait=False)
    alice.wait(lambda: alice.violations, what="a violation")
    assert "answers nothing that was asked" in alice.violations[0]


def test_an_answer_needs_no_comment(pair):
    bob, alice = pair(passive=Script(no_comment=True))
    assert alice.send(b"one").codes == [200]
    clean(bob, alice)


# ---- what is wrong is seen

# @TO and @FROM stand for the paths
OK = ["Message-ID: m1m1m1", "Byte-Range: 1-2/2", "Content-Type: text/plain"]


def raw(*lines, tid="abcd1234", start="SEND", body="hi", flag="$", eol="\r\n"):
    head = ["MSRP %s %s" % (tid, start)] + list(lines)
    text = eol.join(head) + eol
    if body is not None:
        text += eol + body + eol
    return text + "-------%s%s%s" % (tid, flag, eol)


PATHS = ["To-Path: @TO", "From-Path: @FROM"]

WRONG = {
    "short tid": (raw(*PATHS, *OK, tid="abc"), "transaction id"),
    "bad tid": (raw(*PATHS, *OK, tid="ab_cd"), "transaction id"),
    "paths swapped": (raw(*PATHS[::-1], *OK), "not the first headers"),
    "no From-Path": (raw(PATHS[0], *OK), "not the first headers"),
    "no Message-ID": (raw(*PATHS, *OK[1:]), "no Message-ID"),
    "bad Message-ID": (raw(*PATHS, "Message-ID: <a@b>", *OK[1:]),
                       "Message-ID"),
    "Message-ID twice": (raw(*PATHS, OK[0], *OK), "twice"),
    "no Byte-Range": (raw(*PATHS, OK[0], OK[2]), "Byte-Range: None"),
    "bad Byte-Range": (raw(*PATHS, OK[0], "Byte-Range: 0-2/2", OK[2]),
                       "Byte-Range: 0-2/2"),
    "too few octets": (raw(*PATHS, OK[0], "Byte-Range: 1-3/3", OK[2]),
                       "Byte-Range 1-3/3, and 2 octets"),
    "too many octets": (raw(*PATHS, OK[0], "Byte-Range: 1-1/1", OK[2]),
                        "Byte-Range 1-1/1, and 2 octets"),
    "ends too soon": (raw(*PATHS, OK[0], "Byte-Range: 1-2/9", OK[2]),
                      "said to end at octet 2 of 9"),
    "beyond the total": (raw(*PATHS, OK[0], "Byte-Range: 1-*/1", OK[2],
                             flag="+"), "octet 2 of 1"),
    "no interruption possible": (
        raw(*PATHS, OK[0], "Byte-Range: 1-2049/2049", OK[2],
            body="x" * 2049), "cannot be interrupted"),
    "type not last": (raw(*PATHS, OK[2], *OK[:2]), "not the last header"),
    "no type": (raw(*PATHS, *OK[:2]), "Content-Type: None"),
    "type without body": (raw(*PATHS, *OK, body=None), "without a body"),
    "no such type": (raw(*PATHS, *OK[:2], "Content-Type: text"),
                     "Content-Type: text"),
    "header without space": (raw(*PATHS, "X-A:b", *OK), "header line"),
    "folded header": (raw(*PATHS, "X-A: b", " c", *OK), "header line"),
    "bad report value": (raw(*PATHS, "Failure-Report: maybe", *OK),
                         "Failure-Report: maybe"),
    "transaction id in body": (
        raw(*PATHS, OK[0], "Byte-Range: 1-17/17", OK[2],
            body="a-------abcd12345"), "part of the body"),
    "wrong To-Path": (raw("To-Path: msrp://h:1/x;tcp", PATHS[1], *OK),
                      "not by our path"),
    "wrong From-Path": (raw(PATHS[0], "From-Path: msrp://h:1/x;tcp", *OK),
                        "not by our path"),
    "bad URI": (raw("To-Path: msrp:x", PATHS[1], *OK), "no MSRP URI"),
    "unknown method": (raw(*PATHS, *OK, start="PLAY"), "method"),
    "lower-case method": (raw(*PATHS, *OK, start="send"), "start line"),
    "not MSRP": ("GET / HTTP/1.1\r\n\r\n", "not MSRP"),
    "bare LF": (raw(*PATHS, *OK, eol="\n"), "inside a frame"),
    "half a frame": (raw(*PATHS, *OK)[:-5], "inside a frame"),
    "report of nothing": (
        raw(*PATHS, "Message-ID: m1m1", "Byte-Range: 1-2/2",
            "Status: 000 200 OK", start="REPORT", body=None),
        "was not sent"),
    "report without range": (
        raw(*PATHS, "Message-ID: m1m1", "Status: 000 200 OK",
            start="REPORT", body=None), "Byte-Range of a REPORT"),
    "bad status": (
        raw(*PATHS, "Message-ID: m1m1", "Byte-Range: 1-2/2",
            "Status: 200 OK", start="REPORT", body=None), "Status: 200 OK"),
    "answer to nothing": (raw(*PATHS, start="200 OK", body=None),
                          "answers nothing"),
    "answer with body": (raw(*PATHS, "Content-Type: a/b", start="200 OK"),
                         "response with a body"),
    "contradiction": (
        raw(*PATHS, *OK)
        + raw(*PATHS, *OK, tid="abcd1235", body="ho"), "and are others"),
    "total changes": (
        raw(*PATHS, OK[0], "Byte-Range: 1-2/4", OK[2], flag="+")
        + raw(*PATHS, OK[0], "Byte-Range: 3-4/5", OK[2], flag="+",
              tid="abcd1235"), "total changes"),
}


@pytest.mark.parametrize("what", WRONG)
def test_bytes_against_the_rfc_are_seen(pair, what):
    text, word = WRONG[what]
    bob, alice = pair()
    assert bob.violations == []
    text = text.replace("@TO", bob.path).replace("@FROM", alice.path)
    alice.send_raw(text.encode())
    if "inside a frame" in word:
        alice.close()
    bob.wait(lambda: any(word in v for v in bob.violations),
             what="a violation with %r" % word)


def test_a_frame_that_is_right_is_not_blamed(pair):
    """The frame that all of the above are spoilt from."""
    bob, alice = pair()
    text = raw(*PATHS, *OK)
    alice.send_raw(text.replace("@TO", bob.path).replace(
        "@FROM", alice.path).encode())
    assert bob.wait_messages(1)[0].body == b"hi"
    assert bob.violations == []


def test_a_second_connection_is_seen(pair):
    bob, alice = pair()
    with socket.create_connection((HOST, bob.port)):
        bob.wait(lambda: bob.violations, what="a violation")
    assert bob.violations == ["a second connection"]


# ---- the command

@pytest.mark.parametrize("good", [True, False], ids=["right", "wrong"])
def test_the_command_fails_when_the_peer_was_wrong(tmp_path, good):
    command = Program("msrpua", [
        sys.executable, MSRPUA, "receive", "--count", "1", "--save",
        str(tmp_path)], str(tmp_path))
    path = command.wait_log(r"path (\S+)")[1]
    with Endpoint() as alice:
        alice.connect(path)
        if not good:
            alice.send_raw(alice.frame("SEND", [
                ("Message-ID", "m2m2"), ("Byte-Range", "1-9/9"),
                ("Content-Type", "text/plain")], b"hi", "+") + alice.frame(
                    "200 OK"))
        assert alice.send(b"hello").codes == [200]
        wait_until(lambda: not command.running, what="the command ends")
    assert command.process.returncode == (0 if good else 1), command.log()
    assert ("not right" in command.log()) == (not good)
    assert (tmp_path / "1.body").read_bytes() == b"hello"


def test_the_command_sends_and_hears_of_a_refusal(tmp_path):
    with Endpoint(script=Script(refuse_from=1, refuse_code=413)) as bob:
        bob.listen()
        done = subprocess.run(
            [sys.executable, MSRPUA, "send", bob.path, "--text", "hello"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=30)
    assert "answers 413" in done.stdout
    assert done.returncode == 1


# ---- SDP, and SIP

@pytest.mark.parametrize("offer, answer, who", [
    (None, None, "offerer"), ("actpass", None, "offerer"),
    ("actpass", "active", "answerer"), ("actpass", "passive", "offerer"),
    ("active", "passive", "offerer"), ("passive", "active", "answerer"),
    ("actpass", "holdconn", None)])
def test_offer_and_answer_say_who_connects(offer, answer, who):
    assert msrpua.connects(offer, answer) == who


@pytest.mark.parametrize("offer, answer", [
    ("actpass", "actpass"), ("active", "active"), ("passive", "passive"),
    (None, "active")])
def test_an_answer_that_does_not_fit_is_refused(offer, answer):
    with pytest.raises(MsrpError):
        msrpua.connects(offer, answer)


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("setup", ["active", "passive", None])
def test_two_clients_hold_a_session(setup, tls):
    with CpmClient("bob", setup=setup, direction="sendonly") as bob:
        with CpmClient("alice", proxy=(bob.host, bob.port), tls=tls) as alice:
            bob.proxy = (alice.host, alice.port)
            session = alice.pull(bob.contact, [("application/x-list", b"?")])
            assert session.response.code == 200
            theirs = bob.wait_sessions(1)[0]
            assert theirs.parts[1][::2] == ("application/x-list", b"?")
            assert theirs.offer.setup == "actpass" and theirs.offer.tls == tls
            assert session.answer.setup == setup
            theirs.endpoint.wait(lambda: theirs.endpoint.bound
                                 or session.endpoint.bound)
            assert theirs.endpoint.send(b"queued", "message/cpim").codes == [
                200]
            assert [m.body for m in alice.wait_msrp(1)] == [b"queued"]
            assert theirs.bye().code == 200
            session.wait_ended()
            assert alice.violations == [] and bob.violations == []


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_session_goes_through_a_proxy(shared, user, transport):
    proxy = (HOST, shared.sip_port)
    with CpmClient(user("bob"), proxy=proxy, transport=transport,
                   direction="sendonly") as bob:
        with CpmClient(user("alice"), proxy=proxy,
                       transport=transport) as alice:
            bob.register()
            session = alice.pull(bob.aor)
            theirs = bob.wait_sessions(1)[0]
            assert theirs.dialog.routes, "the proxy is not in the dialog"
            theirs.endpoint.wait(lambda: theirs.endpoint.bound)
            assert theirs.endpoint.send(b"x", "message/cpim").codes == [200]
            assert theirs.bye().code == 200
            session.wait_ended()
            assert alice.violations == [] and bob.violations == []


def test_a_client_can_refuse_a_session():
    with CpmClient("bob", invite_answer=486) as bob:
        with CpmClient("alice", proxy=(bob.host, bob.port)) as alice:
            session = alice.pull(bob.contact)
            assert session.response.code == 486
            assert session.dialog is None and bob.sessions == []


# ---- others' eyes

@pytest.mark.parametrize("client_binds", [True, False])
def test_messages_and_reports_go_through_a_relay(relay, client_binds):
    body = os.urandom(100000)
    with Endpoint(name="pf") as pf, Endpoint(name="client") as client:
        client.auth(relay)
        assert len(client.path.split()) == 2
        pf.listen()
        pf.peer_path = msrpua.path_of(client.path)
        client.peer_path = msrpua.path_of(pf.path)
        if client_binds:
            client.bind()
            pf.wait(lambda: pf.empty_sends, what="the binding")
        else:
            pf.connect()
            client.wait(lambda: client.empty_sends, what="the binding")
        sent = pf.send(body, "application/octet-stream",
                       success_report="yes")
        assert set(sent.codes) == {200}
        assert client.wait_messages(1)[0].body == body
        pf.wait(lambda: sent.reported, what="the report")
        clean(pf, client)


def test_a_client_behind_a_relay_holds_a_session(relay):
    with CpmClient("bob", setup="passive", direction="sendonly") as bob:
        with CpmClient("alice", proxy=(bob.host, bob.port),
                       relay=relay) as alice:
            bob.proxy = (alice.host, alice.port)
            session = alice.pull(bob.contact)
            theirs = bob.wait_sessions(1)[0]
            assert len(theirs.offer.path) == 2
            theirs.endpoint.wait(lambda: theirs.endpoint.bound)
            sent = theirs.endpoint.send(b"queued", "message/cpim",
                                        success_report="yes")
            assert [m.body for m in alice.wait_msrp(1)] == [b"queued"]
            theirs.endpoint.wait(lambda: sent.reported, what="the report")
            assert session.bye().code == 200
            assert alice.violations == [] and bob.violations == []


def tshark(path, port, *args):
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-d", "tcp.port==%d,msrp" % port]
        + list(args), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60)
    return done.stdout.split("\n")[:-1]


def test_tshark_finds_nothing_malformed(tmp_path):
    need("tshark")
    need("dumpcap")
    path = str(tmp_path / "msrp.pcapng")
    port = free_port()
    capture = Program("dumpcap", [
        "dumpcap", "-q", "-i", "lo", "-f", "tcp port %d" % port, "-w", path],
        str(tmp_path))
    capture.wait_log(r"File: ")
    with Endpoint() as bob, Endpoint() as alice:
        bob.listen(port)
        alice.connect(bob.path)
        sent = alice.send(b"hello " * 1000, "text/plain",
                          success_report="yes")
        alice.wait(lambda: sent.reported, what="the report")
        # without CRLF, which tshark's dissector takes for more than it is
        alice.send(os.urandom(9000).replace(b"\r", b"."),
                   "application/octet-stream",
                   chunk=1 << 20, interrupt_at=4000)
        bob.wait_messages(2)

    def seen():
        text = "\n".join(tshark(path, port, "-Y", "msrp", "-V"))
        return {word: len(re.findall(pattern, text)) for word, pattern in (
            ("SEND", r"Method: SEND"), ("REPORT", r"Method: REPORT"),
            ("200", r"Status code: 200"))}

    want = {"SEND": 6, "REPORT": 1, "200": 6}
    found = {}

    def all_there():
        found.update(seen())
        return found == want
    try:
        wait_until(all_there, 20, "tshark sees %s" % want)
    except AssertionError:
        pytest.fail("tshark saw %s of %s:\n%s" % (
            found, want, "\n".join(tshark(path, port))))
    finally:
        capture.stop()
    assert tshark(path, port, "-Y", "_ws.malformed") == []
