#!/usr/bin/env python3
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""faults.py [--markdown FILE] [--json FILE] [--keep DIR] [NAME...] - what msilo and cpm_pf
make of the same faults.

Every fault is really produced, once with each system, and what sender and
recipient saw is counted. Verdicts are computed from those counts by the same
lines for both. --markdown writes the page with the table; NAMEs run only the
cases whose names contain one of them, and only print.

It fails if a case could not be carried out, not by what a system did in it.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import datetime
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import faults_systems as fs  # noqa: E402
from faults_systems import Sender, answered, blast  # noqa: E402
from harness import HOST, TOP, Failure, wait_until  # noqa: E402
from sipua import SipError  # noqa: E402

LATE = 10.0     # s after a client registered and answers: later is late
QUIET = 1.5     # s without anything new: nothing more comes by itself

STOP = threading.Event()    # no further case, please
CASES = []      # (name, what the table calls it, function, alone)


def case(title, alone=False):
    """alone: nothing else runs meanwhile, as its times are told."""
    def add(function):
        CASES.append((function.__name__, title, function, alone))
        return function
    return add


# ---------------------------------------------------------------- judgement

class Cell:
    """Marks and sentences of one system in one case."""

    def __init__(self):
        self.marks, self.sentences, self.facts = [], [], {}

    def mark(self, word):
        if word and word not in self.marks:
            self.marks.append(word)

    def say(self, sentence):
        self.sentences.append(sentence)

    def judge(self, accepted, received, stored, late=(), what=None):
        """accepted: marks that got 2xx; received: marks that a client
        answered with 2xx, with repetitions; stored: what is still in the
        store; late: marks that came too late."""
        count = collections.Counter(received)
        missing = set(accepted) - set(count)
        held = missing & set(stored)
        doubles = sum(count.values()) - len(count)
        lost = len(missing) - len(held)
        if lost:
            self.mark("lost")
        if doubles:
            self.mark("double")
        if held or set(late) & set(count):
            self.mark("late")
        fact = {"accepted": len(accepted), "received": len(count),
                "extra_copies": doubles, "lost": lost,
                "still_stored": len(held)}
        fact["what"] = what or ""
        self.facts.setdefault("deliveries", []).append(fact)
        text = "%d accepted, %d received" % (len(accepted), len(count))
        if doubles:
            text += ", %d extra %s" % (
                doubles, "copy" if doubles == 1 else "copies")
        if lost:
            text += ", %d lost" % lost
        if held:
            text += ", %d still in the store at the end" % len(held)
        self.say((what + ": " if what else "") + text)
        return fact

    @property
    def verdict(self):
        return ", ".join(self.marks) or "ok"

    def markdown(self):
        return "**%s.** %s." % (self.verdict, "; ".join(self.sentences))


def quiet(*uas, window=QUIET, timeout=20.0):
    """Until nothing new came for a while."""
    def seen():
        return sum(len(ua.messages) for ua in uas)
    deadline = time.monotonic() + timeout
    last, since = seen(), time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = seen()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since >= window:
            return


def arrives(condition, timeout):
    """Seconds until condition() holds, or None after timeout."""
    start = time.monotonic()
    try:
        wait_until(condition, timeout)
    except Failure:
        return None
    return time.monotonic() - start


def seconds(value):
    if value is None:
        return "never"
    return "%.0f ms" % (value * 1000) if value < 1 else "%.1f s" % value


def answer(code, elapsed):
    if code is None:
        return "no answer within %.0f s" % elapsed
    return "%d after %s" % (code, seconds(elapsed))


def times(count):
    return {1: "once", 2: "twice"}.get(count, "%d times" % count)


def dates(cell, messages):
    """msilo puts the date before a text; again when it was stored again. That
    it does is judged where texts are compared, and only told elsewhere."""
    most = max((m.body.count(b"[Offline message") for m in messages),
               default=0)
    if most > 1:
        cell.say("its text came with %d dates before it" % most)


def need(condition, text):
    """The case itself could not be carried out."""
    if not condition:
        raise Failure(text)


def send_all(sender, count):
    for _ in range(count):
        code, elapsed = sender.send()
        need(code == 202, "a message for the queue got " + answer(
            code, elapsed))


# ---------------------------------------------------------------- what is sent is what comes

def through(make, body, content_type, headers=(), **options):
    """One message through the store: (answer, what arrived or None)."""
    s = make(**options)
    sender = Sender(s)
    result = sender.send(body, content_type, headers)
    if not sender.accepted:
        return result, b"", None, s, sender
    bob = s.ua("bob")
    bob.register()
    came = arrives(lambda: bob.messages, 5)
    sent = sender.last[1].partition(b"\r\n\r\n")[2]
    return (result, sent, bob.messages[0] if came is not None else None,
            s, sender)


def compare(cell, make, body, content_type, label="", **options):
    result, sent, msg, s, sender = through(make, body, content_type,
                                           **options)
    label = label and label + ": "
    if result[0] is None or result[0] >= 300:
        cell.mark("refused")
        cell.say(label + "sender gets " + answer(*result))
        return None
    if msg is None:
        cell.mark("late" if s.stored("bob") else "lost")
        cell.say(label + "accepted, did not arrive")
        return None
    if msg.body == sent:
        text = "body %d of %d bytes the same" % (len(sent), len(sent))
    else:
        cell.mark("altered")
        extra = msg.body[:-len(sent)] if msg.body.endswith(sent) else None
        text = "body of %d bytes became %d" % (len(sent), len(msg.body))
        if extra:
            text += ", `%s` in front" % extra.decode(errors="replace").strip()
    got = msg.get("content-type")
    if got != content_type:
        cell.mark("altered")
        text += ", Content-Type became `%s`" % got
    else:
        text += ", Content-Type the same"
    cell.say(label + text)
    return msg


CPIM = (b"From: Alice <im:alice@example.org>\r\n"
        b"To: Bob <im:bob@example.org>\r\n"
        b"NS: imdn <urn:ietf:params:imdn>\r\n"
        b"imdn.Message-ID: TOKEN\r\n"
        b"DateTime: 2026-03-01T09:00:00Z\r\n"
        b"imdn.Disposition-Notification: positive-delivery, display\r\n\r\n"
        b"Content-Type: text/plain; charset=UTF-8\r\n\r\n"
        b"Gr\xc3\xbc\xc3\x9fe")


@case("a CPIM message, byte for byte")
def cpim(make):
    cell = Cell()
    if make.kind == "msilo":
        compare(cell, make, CPIM, "message/cpim", "as its README has it")
        compare(cell, make, CPIM, "message/cpim", "with `add_date` 0",
                NO_DATE=1)
    else:
        compare(cell, make, CPIM, "message/cpim")
    return cell


@case("a text with a charset: `text/plain;charset=ISO-8859-1`")
def text(make):
    cell = Cell()
    body = "Gr\u00fc\u00dfe TOKEN".encode("latin-1")
    if make.kind == "msilo":
        compare(cell, make, body, "text/plain;charset=ISO-8859-1",
                "as its README has it")
        compare(cell, make, body, "text/plain;charset=ISO-8859-1",
                "with `add_date` 0", NO_DATE=1)
    else:
        compare(cell, make, body, "text/plain;charset=ISO-8859-1")
    return cell


@case("a binary body: every byte value, an empty line within")
def binary(make):
    cell = Cell()
    compare(cell, make, bytes(range(256)) * 4 + b"\r\n\r\n\0TOKEN\0",
            "application/octet-stream")
    return cell


@case("a type of 36 characters: `application/vnd.gsma.rcs-ft-http+xml`")
def long_type(make):
    cell = Cell()
    compare(cell, make, b"<?xml version='1.0'?><file>TOKEN</file>",
            "application/vnd.gsma.rcs-ft-http+xml")
    return cell


HEADERS = (("Subject", "greeting"), ("Conversation-ID", "f81d4fae-7dec"),
           ("Contribution-ID", "abcdef-1234"), ("Priority", "urgent"),
           ("Accept-Language", "de"), ("Content-Language", "de"),
           ("User-Agent", "Phone/1.0"), ("X-Own", "value"))


@case("headers of the message")
def headers(make):
    cell = Cell()
    _, _, msg, _, _ = through(make, b"Hello TOKEN", "text/plain", HEADERS)
    need(msg is not None, "the message did not arrive")
    gone = [name for name, value in HEADERS if msg.get(name) != value]
    if gone:
        cell.mark("altered")
    cell.say("%d of %d came as they were sent" % (
        len(HEADERS) - len(gone), len(HEADERS))
        + (", missing: " + ", ".join(gone) if gone else ""))
    date = msg.get("date")
    cell.say("with the Date of reception" if date else "without Date")
    cell.facts["missing"] = gone
    return cell


@case("three messages, the first one with 1,000 bytes of headers of its own")
def large_headers(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    first = sender.send(headers=[("X-Long", "a" * 990)])
    cell.say("the first one got " + answer(*first))
    send_all(sender, 2)
    bob = s.ua("bob")
    for n in range(2):
        bob.register()
        arrives(lambda: len(set(answered(bob))) >= len(sender.accepted), 4)
        if n == 0:
            cell.say("the first REGISTER brought %d"
                     % len(set(answered(bob))))
    quiet(bob)
    cell.judge(sender.accepted, answered(bob), s.stored("bob"),
               what="after two REGISTERs")
    return cell


# ---------------------------------------------------------------- clients

def deliver(bob, accepted, timeout=LATE):
    """Seconds until bob has answered each of them with 2xx, or None."""
    return arrives(lambda: set(accepted) <= set(answered(bob)), timeout)


@case("four users, 50 messages for each: in which order they are delivered")
def order(make):
    cell = Cell()
    s = make()
    senders = [Sender(s, to="bob%d" % n) for n in range(4)]
    bobs = [s.ua("bob%d" % n) for n in range(4)]
    swapped, slowest = 0, 0
    for sender, bob in zip(senders, bobs):
        send_all(sender, 50)
        bob.register()
        took = deliver(bob, sender.accepted)
        slowest = None if took is None else max(slowest or 0, took)
        ranks = [sender.accepted.index(m)
                 for m in dict.fromkeys(answered(bob))]
        swapped += sum(1 for a, b in zip(ranks, ranks[1:]) if b < a)
    quiet(*bobs)
    cell.judge([m for x in senders for m in x.accepted], answered(*bobs),
               s.stored())
    if swapped:
        cell.mark("disordered")
    cell.say("%d %s came before an older one" % (
        swapped, "message" if swapped == 1 else "messages") if swapped
             else "in the order of sending")
    cell.say("the 50 of one user within " + seconds(slowest) if slowest
             else "not all of them")
    return cell


@case("a client answers nothing at delivery; 2.5 s later it is back and "
      "registers again")
def black_hole(make):
    def once(label, **options):
        s = make(**options)
        sender = Sender(s)
        send_all(sender, 1)
        bob = s.ua("bob", answer=None)
        bob.register()
        bob.wait_messages(1, 10)
        time.sleep(2.5)         # the fault's own length: longer than fr_timer
        bob.answer = 200
        bob.register()
        took = deliver(bob, sender.accepted)
        quiet(bob)
        if make.kind == "msilo":    # once its check_time has passed
            time.sleep(options.get("CHECK_TIME", 0) + 1)
        bob.register()
        quiet(bob)
        cell.judge(sender.accepted, answered(bob), s.stored("bob"),
                   what=label)
        cell.say("received %s after that REGISTER" % seconds(took)
                 if took is not None else "not received within %g s" % LATE)
        dates(cell, bob.messages)

    cell = Cell()
    if make.kind == "msilo":
        once("relaying timed out before msilo's own request")
        once("with one time-out for both, the default (and `check_time` 3)",
             RELAY_MS=1000, CHECK_TIME=3)
    else:
        once(None)
    return cell


@case("a client answers 486 once")
def busy(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    send_all(sender, 1)
    bob = s.ua("bob")
    bob.answers = [486]
    bob.register()
    bob.wait_messages(1, 10)
    took = deliver(bob, sender.accepted, 8)
    if took is not None:
        cell.say("tried again without a REGISTER %s later" % seconds(took))
    else:
        cell.say("not tried again within 8 s without a REGISTER")
        bob.register()
        took = deliver(bob, sender.accepted)
        cell.say("received %s after the next REGISTER" % seconds(took)
                 if took is not None
                 else "nor within %g s after the next REGISTER" % LATE)
    bob.register()
    quiet(bob)
    cell.judge(sender.accepted, answered(bob), s.stored("bob"))
    dates(cell, bob.messages)
    return cell


@case("a client's 200 comes after 1.5 s, later than the time-out of 1 s; then "
      "it registers again")
def slow_client(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    send_all(sender, 1)
    bob = s.ua("bob", answer=None)
    bob.register()
    first = bob.wait_messages(1, 10)[0]
    time.sleep(1.5)             # the fault itself
    bob.answer = 200
    bob.reply(first, 200)
    bob.register()
    arrives(lambda: len(answered(bob)) > 1, 8)
    quiet(bob)
    cell.judge(sender.accepted, answered(bob), s.stored("bob"))
    if len(bob.messages) > 1:
        same = len({m.call_id for m in bob.messages}) == 1
        cell.say("%s Call-ID, by which a client %s tell that it is the same"
                 % (("the same", "can") if same else ("another", "cannot")))
    dates(cell, bob.messages)
    return cell


@case("a client answers 415 to the second of three messages, always")
def refuses_one(make):
    cell = Cell()
    # msilo: so that what it has delivered is removed before it is counted
    s = make(**({"CHECK_TIME": 2} if make.kind == "msilo" else {}))
    sender = Sender(s)
    send_all(sender, 3)
    bad = sender.accepted[1]
    bob = s.ua("bob", answer=lambda m: 415 if bad in m.body else 200)
    bob.register()
    others = [m for m in sender.accepted if m != bad]
    took = deliver(bob, others)
    quiet(bob)
    for _ in range(2):
        bob.register()
        quiet(bob, window=3.5)
    cell.judge(others, answered(bob), s.stored("bob"), what="the other two")
    cell.say("within " + seconds(took) if took is not None else "not both")
    tries = [m for m in bob.messages if bad in m.body]
    kept = s.stored("bob").count(bad)
    cell.say("the refused one was sent %s in three REGISTERs and is %s" % (
        times(len(tries)), "stored " + times(kept) if kept
        else "no longer stored"))
    dates(cell, tries)
    if not kept:
        cell.mark("lost")
    if kept > 1:
        cell.mark("double")
    cell.facts["tries"] = len(tries)
    return cell


@case("ten refreshes within a second while 30 messages are delivered to a "
      "client that takes 20 ms for each")
def storm(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    send_all(sender, 30)

    def slow(_):
        time.sleep(0.02)
        return 200

    bob = s.ua("bob", answer=slow)
    bob.register()
    # another socket of the same phone: its refreshes do not wait in bob's
    helper = s.ua("bob", contact=bob.contact)
    start = time.monotonic()
    for n in range(10):
        helper.register(expires=600 + n)
        time.sleep(0.05)
    cell.say("10 refreshes in %s" % seconds(time.monotonic() - start))
    took = deliver(bob, sender.accepted)
    quiet(bob)
    cell.judge(sender.accepted, answered(bob), s.stored("bob"))
    cell.say("all within " + seconds(took) if took else "not all of them")
    return cell


@case("two nodes, one store; 20 messages; one client registers at each node at "
      "the same moment")
def two_nodes(make):
    cell = Cell()
    one = make()
    two = make(beside=one)
    sender = Sender(one)
    send_all(sender, 20)
    bobs = [one.ua("bob"), two.ua("bob")]
    gate = threading.Barrier(2)

    def register(ua):
        gate.wait(5)
        ua.register()

    threads = [threading.Thread(target=register, args=(b,)) for b in bobs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(15)
    arrives(lambda: set(sender.accepted) <= set(answered(*bobs)), LATE)
    quiet(*bobs)
    cell.judge(sender.accepted, answered(*bobs), one.stored("bob"))
    cell.say("%d at one client, %d at the other" % tuple(
        len(answered(b)) for b in bobs))
    return cell


@case("Expires: 2, and the client registers 4 s later")
def expired(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    code, elapsed = sender.send(headers=[("Expires", "2")])
    need(code == 202, "the message got " + answer(code, elapsed))
    time.sleep(4)               # the fault itself
    bob = s.ua("bob")
    bob.register()
    arrives(lambda: bob.messages, 3)
    quiet(bob)
    got = len(answered(bob))
    if got:
        cell.mark("late")
        cell.say("delivered 2 s after it had expired, Expires: %s"
                 % bob.messages[0].get("expires", "none"))
    else:
        cell.say("not delivered")
    cell.facts["received"] = got
    return cell


# ---------------------------------------------------------------- where to

@case("the client's binding has a Path, its Contact cannot be reached "
      "directly")
def path(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    send_all(sender, 1)
    edge = s.ua("edge", strict=False)
    bob = s.ua("bob", contact="sip:bob@192.0.2.10:5060")
    bob.register(headers=[("Path", "<sip:%s:%d;lr>" % (HOST, edge.port))])
    arrives(lambda: answered(edge), 5)
    quiet(edge)
    cell.judge(sender.accepted, answered(edge), s.stored("bob"),
               what="at the Path's address")
    if edge.messages:
        cell.say("Request-URI `%s`" % edge.messages[0].uri)
        if edge.messages[0].uri != bob.contact:
            cell.mark("altered")
    return cell


@case("a client behind NAT: Contact `10.1.2.3:5060`, seen from another port")
def nat(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    send_all(sender, 1)
    bob = s.ua("bob", contact="sip:bob@10.1.2.3:5060", via=("10.1.2.3", 5060))
    bob.register()
    arrives(lambda: answered(bob), 5)
    quiet(bob)
    cell.judge(sender.accepted, answered(bob), s.stored("bob"),
               what="at the address it was seen at")
    return cell


@case("the Request-URI names the user, To the host and port of a stranger")
def to_host(make):
    def once(label, **options):
        s = make(**options)
        stranger = s.ua("stranger", strict=False)
        sender = Sender(s)
        sender.send(to="<sip:bob@%s:%d>" % (HOST, stranger.port))
        bob = s.ua("bob")
        bob.register()
        arrives(lambda: answered(bob, stranger), 5)
        quiet(bob, stranger)
        # what the stranger took is only still there to be removed
        kept = set(s.stored("bob")) - set(answered(stranger))
        cell.judge(sender.accepted, answered(bob), kept, what=label)
        stolen = len(answered(stranger))
        cell.say("the host in To got %d" % stolen)
        cell.facts["stranger"] = cell.facts.get("stranger", 0) + stolen
        if stolen:
            cell.mark("misdelivered")

    cell = Cell()
    if make.kind == "msilo":
        once("with `outbound_proxy`")
        once("without, as in its README's sample", NO_PROXY=1)
    else:
        once(None)
    return cell


@case("a message to a user whom nobody knows")
def unknown(make):
    cell = Cell()
    for label, options in (("where no users are listed", {}),
                           ("with a list of users", {"users": True})):
        s = make(**options)
        code, elapsed = Sender(s, to="nobody").send()
        kept = len(s.stored("nobody"))
        known = Sender(s, to="bob").send()[0]
        need(known == 202, "a user who is listed got %s" % known)
        cell.say("%s: %s, %d in the store" % (
            label, answer(code, elapsed), kept))
        # what nobody can know is no fault
        if options and (kept or code is None or code < 300):
            cell.mark("accepted")
    return cell


# ---------------------------------------------------------------- requests that come twice

def repeated(make, **options):
    cell = Cell()
    s = make(**options)
    sender = Sender(s)
    send_all(sender, 1)
    code, _ = sender.again()
    kept = s.stored("bob").count(sender.accepted[0])
    cell.say("second answer %s, stored %s" % (code, times(kept)))
    bob = s.ua("bob")
    bob.register()
    deliver(bob, sender.accepted)
    quiet(bob)
    cell.judge(sender.accepted, answered(bob), s.stored("bob"))
    return cell


@case("the same request twice")
def twice(make):
    return repeated(make)


@case("the same request twice, and the script makes no transaction")
def stateless(make):
    return repeated(make, **({"STATELESS": 1} if make.kind == "msilo" else {}))


@case("the 202 is lost; the sender's request comes again after 7 s (tm has "
      "forgotten it), and by another proxy at once")
def lost_202(make):
    cell = Cell()
    s = make()
    late, other = Sender(s), Sender(s, "carol")
    send_all(late, 1)
    send_all(other, 1)
    other.again(other_branch=True)
    time.sleep(7)               # the fault itself: longer than wt_timer
    late.again()
    kept = s.stored("bob")
    cell.say("stored %s after 7 s, %s on another branch" % (
        times(kept.count(late.accepted[0])),
        times(kept.count(other.accepted[0]))))
    bob = s.ua("bob")
    bob.register()
    accepted = late.accepted + other.accepted
    deliver(bob, accepted)
    quiet(bob)
    cell.judge(accepted, answered(bob), s.stored("bob"))
    return cell


# ---------------------------------------------------------------- things die

@case("Kamailio is killed (-9) with five messages queued")
def kill_queued(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    send_all(sender, 5)
    s.kill_kamailio()
    s.start_kamailio()
    bob = s.ua("bob")
    bob.register()
    took = deliver(bob, sender.accepted)
    quiet(bob)
    cell.judge(sender.accepted, answered(bob), s.stored("bob"))
    cell.say("all within " + seconds(took) if took else "not all of them")
    return cell


def killed_after(make, cell, pause, label, rounds=1):
    accepted, received, stored = [], [], []
    for _ in range(rounds):
        s = make()
        sender = Sender(s)
        send_all(sender, 1)
        bob = s.ua("bob", answer=None)
        bob.register()
        msg = bob.wait_messages(1, 10)[0]
        bob.reply(msg, 200)
        time.sleep(pause)       # the fault's own length
        s.kill_kamailio()
        s.start_kamailio()
        bob.answer = 200
        bob.register()
        arrives(lambda: len(answered(bob)) > 1, 3)
        quiet(bob)
        accepted += sender.accepted
        received += answered(bob)
        stored += s.stored("bob")
    return cell.judge(accepted, received, stored, what=label)


@case("Kamailio is killed (-9) as soon as the client has sent its 200")
def kill_after_200(make):
    cell = Cell()
    killed_after(make, cell, 0.0, "in three runs", 3)
    return cell


@case("Kamailio is killed (-9) some time after the client's 200")
def kill_later(make):
    cell = Cell()
    killed_after(make, cell, 1.0, "1 s after")
    killed_after(make, cell, 10.0, "10 s after")
    return cell


@case("Kamailio is killed (-9) while the client has not answered yet")
def kill_under_way(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    send_all(sender, 1)
    bob = s.ua("bob", answer=None)
    bob.register()
    bob.wait_messages(1, 10)
    s.kill_kamailio()
    s.start_kamailio()
    bob.answer = 200
    bob.register()
    took = deliver(bob, sender.accepted, 80)
    quiet(bob)
    late = sender.accepted if took is None or took > LATE else ()
    cell.judge(sender.accepted, answered(bob), s.stored("bob"), late)
    cell.say("received %s after the REGISTER that followed the restart"
             % seconds(took) if took is not None
             else "not received within 80 s")
    return cell


@case("the store hangs (SIGSTOP) while four messages arrive at once")
def store_hangs(make):
    cell = Cell()
    s = make()
    warm = Sender(s, to="dave")
    for _ in range(4):
        send_all(warm, 1)
    senders = [Sender(s, "alice%d" % n) for n in range(4)]
    carol = s.ua("carol")
    carol.register()
    results, other = [], []
    s.store.freeze()
    try:
        threads = [threading.Thread(
            target=lambda x=x: results.append(x.send(timeout=20)))
            for x in senders]
        for t in threads:
            t.start()
        time.sleep(0.1)
        start = time.monotonic()
        try:
            carol.register(timeout=20)
            other.append(time.monotonic() - start)
        except SipError:
            other.append(None)
        for t in threads:
            t.join(25)
    finally:
        s.store.thaw()
    codes = collections.Counter(code for code, _ in results)
    slowest = max(elapsed for _, elapsed in results)
    cell.say("senders got %s, the slowest after %s" % (
        ", ".join("%s %s" % (times(n), code or "no answer within 20 s")
                  for code, n in codes.items()), seconds(slowest)))
    cell.say("meanwhile another user's REGISTER was answered "
             + ("after " + seconds(other[0]) if other[0] is not None
                else "not within 20 s"))
    if slowest > 2 or None in codes:
        cell.mark("late")
    cell.facts.update(codes={str(k): v for k, v in codes.items()},
                      slowest_s=round(slowest, 3), register_s=other[0])
    for x in senders:
        retry(x)
    accepted = [m for x in senders for m in x.accepted]
    bob = s.ua("bob")
    bob.register()
    deliver(bob, accepted)
    quiet(bob)
    cell.judge(accepted, answered(bob), s.stored("bob"),
               what="it goes on, each sender tries again until 202")
    return cell


def retry(sender, timeout=20.0):
    """A sender that heard no 2xx tries again (Call-ID and CSeq the same)."""
    deadline = time.monotonic() + timeout
    tries = 0
    while sender.last[0] not in sender.accepted:
        need(time.monotonic() < deadline, "no retry was accepted")
        sender.again(other_branch=True, timeout=8)
        tries += 1
    return tries


@case("the store is killed (-9) right after the fifth 202, and started again")
def store_killed(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    send_all(sender, 5)
    s.store.program.kill()
    s.start_store()
    bob = s.ua("bob")
    bob.register()
    took = deliver(bob, sender.accepted)
    if took is None:
        cell.say("one REGISTER brought %d within %g s"
                 % (len(set(answered(bob))), LATE))
        bob.register()
        deliver(bob, sender.accepted)
    else:
        cell.say("all %s after the REGISTER" % seconds(took))
    quiet(bob)
    cell.judge(sender.accepted, answered(bob), s.stored("bob"))
    return cell


@case("the store hangs (SIGSTOP) at the moment of the REGISTER, for 8 s")
def hangs_at_register(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    send_all(sender, 3)
    bob = s.ua("bob")
    s.store.freeze()
    try:
        start = time.monotonic()
        bob.register(timeout=20)
        cell.say("REGISTER answered after "
                 + seconds(time.monotonic() - start))
        left = 8 - (time.monotonic() - start)
        if left > 0:
            time.sleep(left)    # the fault itself
    finally:
        s.store.thaw()
    took = deliver(bob, sender.accepted, 15)
    if took is None:
        cell.mark("late")
        cell.say("%d of 3 came within 15 s without another REGISTER"
                 % len(set(answered(bob))))
        start = time.monotonic()
        bob.register()
        deliver(bob, sender.accepted)
    else:
        cell.say("all came %s after it went on, without another REGISTER"
                 % seconds(took))
    quiet(bob)
    cell.judge(sender.accepted, answered(bob), s.stored("bob"),
               what=None if took is not None else "after another REGISTER")
    return cell


@case("the store writes, its answer is lost and the connection closed")
def answer_lost(make):
    cell = Cell()
    s = make(lossy=True)
    for n in range(8):          # every process has its connection by now
        send_all(Sender(s, "user%d" % n, to="dave"), 1)
    sender = Sender(s)
    s.proxy.arm(b"needle")
    code, elapsed = sender.send(b"needle TOKEN")
    need(s.proxy.swallowed, "no answer of the store was lost")
    cell.say("%d bytes of answer swallowed; sender gets %s" % (
        s.proxy.swallowed[0], answer(code, elapsed)))
    kept = s.stored("bob").count(sender.last[0])
    cell.say("stored " + times(kept))
    if code != 202:
        tries = retry(sender)
        kept = s.stored("bob").count(sender.last[0])
        cell.say("after %d %s stored %s" % (
            tries, "retry" if tries == 1 else "retries", times(kept)))
    bob = s.ua("bob")
    bob.register()
    deliver(bob, sender.accepted)
    quiet(bob)
    cell.judge(sender.accepted, answered(bob), s.stored("bob"))
    return cell


# ---------------------------------------------------------------- much of it

@case("one message more than the quota of 2,000, and what storing costs then",
      alone=True)
def quota(make):
    cell = Cell()
    s = make(quota=2000)
    sender = Sender(s)
    first = [sender.send() for _ in range(50)]
    blast(s, 1900)
    last = [sender.send() for _ in range(50)]
    need(all(code == 202 for code, _ in first + last), "a store failed")
    over = sender.send()
    kept = len(s.stored("bob"))
    cell.say("message 2,001 gets %s, %d are stored" % (answer(*over), kept))
    if over[0] is not None and over[0] < 300:
        cell.mark("accepted")
    times = [statistics.median(t for _, t in x) * 1000 for x in (first, last)]
    cell.say("a store takes %.1f ms with an empty queue, %.1f ms with a full "
             "one (medians of 50, seen by the sender)" % tuple(times))
    cell.facts.update(code=over[0], empty_ms=round(times[0], 2),
                      full_ms=round(times[1], 2))
    return cell


def mailbox(make, cell, label, users=1, count=10000, **options):
    s = make(**options, **({"quota": 0} if make.kind == "cpm_pf" else {}))
    names = ["bob%d" % n for n in range(users)]
    accepted = []
    for name in names:
        accepted += blast(s, count // users, name, pace=600)
    bobs = [s.ua(name) for name in names]
    carol = s.ua("carol")
    time.sleep(6)               # tm forgets the transactions of the filling
    before = s.shared_memory()["used"]
    slowest, failed, stop = [], [], threading.Event()

    def others():
        while not stop.is_set():
            start = time.monotonic()
            try:
                code = carol.register(timeout=10, ok=False).code
            except SipError:
                code = None
            slowest.append(time.monotonic() - start)
            if code != 200:
                failed.append(code)
            stop.wait(0.1)

    def all_came():
        if sum(len(b.messages) for b in bobs) < len(accepted):
            return False
        return set(accepted) <= set(answered(*bobs))

    def register():
        for b in bobs:
            b.register(timeout=20, ok=False)

    thread = threading.Thread(target=others)
    start = time.monotonic()
    thread.start()
    register()
    if arrives(all_came, 30) is None:
        cell.say("%s: %d within 30 s of the REGISTER" % (
            label, len(set(answered(*bobs)))))
        register()
        arrives(all_came, 15)
        what = label + ", within 45 s and after another REGISTER"
    else:
        what = "%s, within %s" % (label, seconds(time.monotonic() - start))
    stop.set()
    thread.join(15)
    quiet(*bobs)
    fact = cell.judge(accepted, answered(*bobs), s.stored(), what=what)
    at = sorted(m.at for b in bobs for m in b.messages)
    burst, i = 0, 0
    for j, t in enumerate(at):
        while t - at[i] > 0.1:
            i += 1
        burst = max(burst, j - i + 1)
    memory = s.shared_memory()
    trouble = s.log_lines(r"(?i)(could not allocate|cannot alloc|out of mem"
                          r"|no more shm|short of cell|failed to create new)")
    cell.say("at most %d requests in 100 ms" % burst)
    cell.say("shared memory: %.0f MB used before, at most %.0f of %.0f" % (
        before, memory["max_used"], memory["total"])
        + (", and %d lines of the log say that none is left" % trouble
           if trouble else ""))
    if trouble:
        cell.mark("memory")
    cell.say("another user's REGISTER took at most %s meanwhile"
             % seconds(max(slowest))
             + (", %d of %d failed" % (len(failed), len(slowest))
                if failed else ""))
    if failed:
        cell.mark("refused")
    fact.update(shm_mb=round(memory["max_used"], 1), burst=burst,
                no_memory_lines=trouble, register_s=round(max(slowest), 3),
                register_failed=len(failed))


@case("10,000 messages wait for one user who registers", alone=True)
def ten_thousand(make):
    cell = Cell()
    mailbox(make, cell, "with 64 MB of shared memory, the default")
    mailbox(make, cell, "with 512 MB", memory=512)
    return cell


@case("500 messages wait for each of 20 users, who register at once",
      alone=True)
def twenty_users(make):
    cell = Cell()
    mailbox(make, cell, "with 64 MB of shared memory, the default", users=20)
    return cell


# ---------------------------------------------------------------- who can look

@case("can the operator see the queue, a message's state, its last error "
      "(after a 486)")
def operator(make):
    cell = Cell()
    s = make()
    sender = Sender(s)
    send_all(sender, 2)
    bob = s.ua("bob", answer=486)

    def look():
        if make.kind == "cpm_pf":
            return s.stack.http(s.stack.queue_path("bob", "/messages")).json[
                "items"]
        columns = s.database.sql("SHOW COLUMNS FROM silo")
        names = [c.split("|")[0] for c in columns]
        return [dict(zip(names, row.split("|"))) for row in s.database.sql(
            "SELECT * FROM silo WHERE username = 'bob' ORDER BY id")]

    before = look()
    bob.register()
    bob.wait_messages(1, 10)
    quiet(bob, window=2.5)
    after = look()
    if make.kind == "cpm_pf":
        how = "`GET /v1/queues/{user}/messages`"
        counters = s.stack.http("/metrics").text
    else:
        how = "SQL, table silo"
        counters = s.rpc("stats.get_statistics", "msilo:")
    queue = len(before) == 2
    texts = [" ".join(map(str, item.values())) for item in after]
    error = any("486" in t.split() or item.get("last_error")
                for t, item in zip(texts, after))
    state = {k for k in before[0]
             if any(k in a and a[k] != before[0][k] for a in after)
             and k in ("state", "status", "attempts", "last_error",
                       "next_attempt")}
    cell.say("queue: %s (%s)" % ("yes" if queue else "no", how))
    cell.say("state after the failed delivery: %s" % (
        "yes (%s)" % ", ".join("%s=%s" % (k, after[0][k])
                               for k in sorted(state))
        if state else "nothing in the rows tells of it"))
    cell.say("last error: %s" % (
        "yes (`%s`)" % next((i["last_error"] for i in after
                             if i.get("last_error")), "?")
        if error else "no"))
    failed = re.search(r"(failed_messages|delivery_failed_total)\s*=?\s*(\d+)",
                       counters)
    if failed:
        cell.say("counter of failures in all: `%s` %s"
                 % (failed[1], failed[2]))
    if not (queue and state and error):
        cell.mark("partly")
    same = [a.get("id") for a in after] == [b.get("id") for b in before]
    if not same:
        cell.say("the messages have other ids than before")
    return cell


# ---------------------------------------------------------------- running

class Make:
    """Makes systems of one kind, and closes them."""

    def __init__(self, kind, directory):
        self.kind, self.directory = kind, directory
        self.systems = []

    def __call__(self, **options):
        path = os.path.join(self.directory, str(len(self.systems)))
        os.mkdir(path)
        # msilo's values are words of its configuration
        cls = fs.Silo if self.kind == "msilo" else fs.Cpm
        system = cls(path, **options)
        self.systems.append(system)
        return system

    def close(self):
        for system in reversed(self.systems):
            with contextlib.suppress(Failure, OSError):
                if not system.kamailio.running:
                    system.kamailio.kill()
            system.close()


def run_case(kind, name, function, directory):
    """The Cell, or the text of what went wrong with the case itself."""
    directory = os.path.join(directory, "%s-%s" % (name, kind))
    os.mkdir(directory)
    make = Make(kind, directory)
    start = time.monotonic()
    cell = problem = None
    try:
        cell = function(make)
    except Exception:
        problem = traceback.format_exc()
    try:
        make.close()
    except Exception:
        problem = (problem or "") + traceback.format_exc()
    took = time.monotonic() - start
    print("%-18s %-7s %5.1f s  %s" % (
        name, kind, took, problem or cell.markdown()), flush=True)
    return problem or cell


def run_all(chosen, directory):
    """{(name, kind): Cell or text}"""
    results = {}

    def lane(kind, cases):
        for name, _, function, _ in cases:
            if STOP.is_set():
                return
            results[name, kind] = run_case(kind, name, function, directory)

    together = [c for c in chosen if not c[3]]
    alone = [c for c in chosen if c[3]]
    kinds = ("msilo", "cpm_pf")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(lane, kind, together) for kind in kinds]:
            done.result()
    for kind in kinds:
        lane(kind, alone)
    return results


def output(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False,
                          env=dict(os.environ,
                                   PATH=os.environ["PATH"] + ":/usr/sbin"))
    return (done.stdout.strip().split("\n") or [""])[0]


def versions():
    kamailio = re.search(r"version: \S+ (\S+)", output("kamailio", "-v"))
    mariadb = re.search(r"Ver (\S+?)(?:-\S+)? ", output("mariadbd",
                                                       "--version"))
    redis = re.search(r"v=(\S+)", output("redis-server", "--version"))
    revision = output("git", "-C", TOP, "rev-parse", "--short", "HEAD")
    changed = output("git", "-C", TOP, "status", "--porcelain", "--",
                     "modules")
    distribution = "?"
    with open("/etc/os-release") as f:
        found = re.search(r'^PRETTY_NAME="(.*)"', f.read(), re.M)
        if found:
            distribution = found[1]
    return [
        ("Kamailio and msilo", kamailio[1] if kamailio else "?"),
        ("MariaDB", mariadb[1] if mariadb else "?"),
        ("Redis", redis[1] if redis else "?"),
        ("cpm_pf", "revision %s%s" % (
            revision or "?", " and changes after it" if changed else "")),
        ("machine", "%d processors, %s, Linux %s; load %.1f (15 minutes)" % (
            os.cpu_count(), distribution,
            ".".join(platform.release().split(".")[:2]),
            os.getloadavg()[2])),
    ]


PAGE = """\
# Faults: msilo and cpm_pf

<!-- Written by `make faults` (test/chaos/faults.py). Edit that, not this. -->

Kamailio brings a module that stores messages for users who are offline: msilo. This page shows what it and cpm_pf make of the same faults. Every line was
carried out on {date}, in {minutes:.0f} minutes, by `make faults`, which wrote the table and the lists below it.

{versions}

## Method

* Both systems are a Kamailio with two SIP workers on the loopback interface, memory sizes of the package, one answer time-out of 1 s for clients. Senders and
  clients are `tools/sipua.py`. Each line starts new processes and an empty store.
* **msilo** is configured by `test/chaos/faults_msilo.cfg`, in the order of steps that its README shows: `save()`, then `m_dump()`; `m_store()` where `lookup()`
  finds nobody, and in the failure route. Its parameters have their defaults (`add_date` 1, `check_time` 60). Three things are set beyond the README's sample:
  `outbound_proxy` is Kamailio itself, so that messages go to registered clients; Path and NAT as in cpm_pf's configuration; and relaying times out a little
  before msilo's own request does, because otherwise each message that no client answers would be stored twice. Where a line depends on such a choice, it says
  so. The date that msilo puts before a text is judged in the lines about bytes only. No notifications to senders (`from_address`), as these would be stored in turn where the sender is not registered. MariaDB has its default of writing to disk at each commit.
* **cpm_pf** is `cfg/kamailio-cpm.cfg` with its defaults. Redis appends to a file and writes that to disk once a second: killing the process loses nothing, a
  power failure could lose a second. MariaDB would lose nothing then; no line here switches off the power.
* *Accepted* is what got a 2xx. *Received* is what a client answered with 2xx. Messages are told apart by a mark in the body, which is also searched in the
  store. The verdicts are computed from these counts, by the same lines of the program for both systems:

| verdict | |
|---|---|
| ok | each accepted message received once, as it was sent; or the sender was told otherwise in time |
| lost | accepted, not received by the deadline although a client was registered and answered, and no longer in the store |
| late | received more than {late:g} s after a client was there, or still in the store at the deadline, or after its expiry, or an answer to the sender after more than 2 s |
| double | a message that was received once was received again |
| altered | body, type, Request-URI or a header of the message is another one |
| disordered | a message came before an older one of the same sender |
| misdelivered | somebody got it who is no client of the recipient |
| refused, accepted | what a sender (or another user who registered) was told, where it should have been the other |
| memory | Kamailio's shared memory ran out, with consequences for all that it does |
| partly | not all of what was asked |

## Table

| | fault | msilo | cpm_pf |
|---:|---|---|---|
{rows}

Lines with no mark but *ok*: msilo {ok_msilo} of {count}, cpm_pf {ok_cpm} of {count}.

{sums}

## What the lines mean

{meanings}
"""

MEANINGS = """\
cpim: A CPIM body is signed, encrypted or answered with IMDNs by what is in it; a changed byte or type makes it unreadable for the client.
text: A text that names no charset is UTF-8 (RFC 3261, 7.4.1): this one can then no longer be read.
binary: Pictures and encrypted bodies. msilo keeps them as well as cpm_pf does, as long as the type is neither text/plain nor message/cpim.
long_type: msilo's column ctype has 32 characters. RCS' type for file transfer has 36, which MariaDB refuses in its default mode.
headers: Which headers belong to the message is OMA's matter (Conversation-ID and others), and the operator's.
large_headers: msilo stores up to 1,024 bytes of headers, and needs them with its own in a buffer of 1,024 when it delivers.
order: A conversation is read in order. cpm_pf sends one message after the other, msilo all at once.
black_hole: A phone in a tunnel: registered, and not there.
busy: What 486 means is the client's matter; a message should neither vanish by it nor be sent at each keep-alive.
refuses_one: One message that a client cannot take must not block the others, nor be tried forever.
slow_client: Neither system can know that the client has it; whether the client can is another question.
storm: Some clients refresh at every change of network.
two_nodes: msilo remembers in the memory of its node what is being delivered; another node does not know it.
expired: A one-time code is worthless, or harmful, when its time is over. msilo removes expired messages every `check_time` x `clean_period` (600 s) and delivers them until then.
path: Behind an edge proxy or P-CSCF a client is reached by its Path alone.
nat: The same, for what NAT shows of a client.
to_host: To is what the sender wrote. msilo stores it and sends to it; whoever sends a MESSAGE so can make the recipient's silo go wherever To says.
unknown: Whoever guesses addresses can fill a store that accepts all of them.
twice: UDP requests are repeated by their senders.
stateless: A script may answer without a transaction, which is cheaper; msilo's README does not.
lost_202: A transaction absorbs repetitions for wt_timer (5 s); a sender's timer F is 32 s, and a proxy before us takes another branch.
kill_queued: The simplest promise of a store.
kill_after_200: Nobody can rule out a double here, as the 200 may be on the wire when the process dies; it counts how long that window is.
kill_later: msilo deletes what was delivered by a timer, every `check_time` (60 s by default), and knows until then only in memory what to delete.
kill_under_way: After a crash nobody knows whether the client had the message.
store_hangs: A SIP worker that waits for the store answers nobody else. The sender's phone shows the message as being sent for as long.
store_killed: A 202 is a promise that outlives the store's process.
hangs_at_register: In msilo's README a REGISTER is the only trigger.
answer_lost: Whether it was written, nobody knows: to send the command again can double it, to say 503 makes the sender try again, which must be recognised.
quota: msilo counts by reading all rows of the user.
ten_thousand: A user back from a long journey, or a machine's mailbox.
twenty_users: An access network comes back. tm keeps each transaction in shared memory for 5 s after its end, delivered messages like others.
operator: "Where is my message?" can be answered, or not."""


def sums(results, chosen):
    """Who did well where, as lists."""
    def names(msilo, cpm):
        return [str(n) for n, (name, _, _, _) in enumerate(chosen, 1)
                if (not results[name, "msilo"].marks) is msilo
                and (not results[name, "cpm_pf"].marks) is cpm]
    lines = []
    for text, found in (
            ("Both do well", names(True, True)),
            ("msilo does well, cpm_pf does not", names(True, False)),
            ("cpm_pf does well, msilo does not", names(False, True)),
            ("Neither does", names(False, False))):
        lines.append("* **%s** (%d)%s" % (
            text, len(found), ": lines " + ", ".join(found) + "."
            if found else "."))
    return "\n".join(lines)


def page(results, chosen, minutes):
    rows, good = [], collections.Counter()
    for n, (name, title, _, _) in enumerate(chosen, 1):
        cells = [results[name, kind] for kind in ("msilo", "cpm_pf")]
        for kind, cell in zip(("msilo", "cpm_pf"), cells):
            good[kind] += not cell.marks
        rows.append("| %d | %s | %s | %s |" % (n, *(
            x.replace("|", "\\|") for x in
            [title] + [c.markdown() for c in cells])))
    meanings = dict(line.split(": ", 1) for line in MEANINGS.split("\n"))
    need(set(meanings) == {c[0] for c in CASES},
         "cases and their meanings differ: %s"
         % sorted(set(meanings) ^ {c[0] for c in CASES}))
    return PAGE.format(
        date=datetime.datetime.now(datetime.timezone.utc).strftime(
            "%d %B %Y").lstrip("0"),
        minutes=minutes, late=LATE, rows="\n".join(rows), count=len(chosen),
        ok_msilo=good["msilo"], ok_cpm=good["cpm_pf"],
        sums=sums(results, chosen),
        versions="\n".join(["| | |", "|---|---|"] + [
            "| %s | %s |" % pair for pair in versions()]),
        meanings="\n".join("%d. *%s.* %s" % (n, title, meanings[name])
                           for n, (name, title, _, _)
                           in enumerate(chosen, 1)))


def main(argv):
    parser = argparse.ArgumentParser(prog="faults.py")
    parser.add_argument("--markdown", metavar="FILE",
                        help="write the page with the table")
    parser.add_argument("--json", metavar="FILE", help="write the facts")
    parser.add_argument("--keep", metavar="DIR",
                        help="an empty directory, where the logs stay")
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args(argv)
    chosen = [c for c in CASES
              if not args.names or any(n in c[0] for n in args.names)]
    if not chosen:
        parser.error("no case has such a name")
    if args.markdown and args.names:
        parser.error("--markdown wants all cases")

    def enough(*_):
        """What runs comes to its end, and its processes with it."""
        STOP.set()

    signal.signal(signal.SIGTERM, enough)
    signal.signal(signal.SIGINT, enough)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cpm-faults-") as directory:
        try:
            results = run_all(chosen, args.keep or directory)
        finally:
            fs.Silo.close_server()
    minutes = (time.monotonic() - start) / 60
    bad = [key for key, value in results.items()
           if not isinstance(value, Cell)]
    print("%d cases in %.1f minutes, %d could not be carried out" % (
        len(results), minutes, len(bad)))
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"%s %s" % key: {
                "verdict": cell.verdict, "sentences": cell.sentences,
                "facts": cell.facts} for key, cell in results.items()
                if isinstance(cell, Cell)}, f, indent=1)
    if STOP.is_set():
        print("stopped before the last case", file=sys.stderr)
        return 1
    if bad:
        for name, kind in bad:
            print("not carried out: %s, %s" % (name, kind), file=sys.stderr)
        return 1
    if args.markdown:
        text = page(results, chosen, minutes)
        with open(args.markdown, "w") as f:
            f.write(text)
        print("wrote " + args.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
