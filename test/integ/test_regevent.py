# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that are registered elsewhere: registration events (RFC 3680)."""

import pytest

import msrpua
import sipua
from db import cpim
from harness import DOMAIN, HOST, free_port, wait_until
from push import SESSIONS_ONLY, bodies, send
from regpeers import (FakeRegistrar, Registrar, contact, reginfo,
                      registration)

BOB = "sip:bob@example.org"
# What an IMS core's part of the routes looks like: NOTIFYs of subscriptions
# made elsewhere, and third-party REGISTERs.
ROUTES = ("	if(has_totag()) {\n", """
	if(is_method("NOTIFY") && $hdr(Event) =~ "^reg" && !($tt =~ "^cpmr-")
			|| is_method("REGISTER") && $fU != $tU) {
		cpm_flush_queue();
		cpm_reply();
		exit;
	}
	if(has_totag()) {
""")
FAST = {"registrar": "reginfo", "register_delay_ms": 20, "reg_retry_time": 1,
        "retry_intervals": "600"}


@pytest.fixture
def start(new_stack):
    """A PF whose registrar is a FakeRegistrar, and that."""
    made = []

    def make(settings=None, trusted=False, **kw):
        stack = new_stack(dict(FAST, **(settings or {})), cfg_edit=ROUTES,
                          **kw)
        registrar = FakeRegistrar(stack)
        made.append(registrar)
        stack.settings.setdefault("reg_uri", registrar.uri)
        if trusted:
            stack.settings["trusted_peers"] = HOST
        stack.start()
        return stack, registrar
    yield make
    for registrar in made:
        registrar.close()


def client(stack, user="bob", **kw):
    """Somebody who has registered elsewhere: not here."""
    return stack.ua(user, **kw)


def events(stack):
    return stack.metric("reg_notified")


def test_who_has_something_queued_is_asked_for_and_gets_it(start):
    stack, registrar = start()
    bob = client(stack)
    registrar.known[BOB] = [contact(bob.contact)]
    body = send(stack, b"first")
    assert [m.body for m in bob.wait_messages(1)] == [body]
    stack.wait_empty("bob")
    subscribe = registrar.dialog(1).requests[0]
    assert subscribe.get("event") == "reg"
    assert subscribe.get("accept") == "application/reginfo+xml"
    assert subscribe.uri == BOB
    assert sipua.uri_of(subscribe.get("route")).startswith(registrar.uri)
    assert registrar.problems == []
    # and the next one goes to the client that is known by now, at once
    response = stack.ua("alice").message(
        BOB, cpim(b"second"), "message/cpim")
    assert response.code == 200
    assert len(bob.wait_messages(2)) == 2
    assert len(registrar.dialogs) == 1


def test_a_client_that_comes_back_later_gets_its_queue(start):
    stack, registrar = start()
    bob = client(stack)
    body = send(stack, b"x")
    dialog = registrar.dialog(1)
    wait_until(lambda: dialog.version == 0)
    assert stack.queue("bob")["messages"] == 1
    assert dialog.tell([contact(bob.contact, event="created")],
                       full=False).code == 200
    assert [m.body for m in bob.wait_messages(1)] == [body]
    stack.wait_empty("bob")


# ---- with Kamailio as the registrar

@pytest.fixture
def pair(new_stack, tmp_path, request):
    """A PF without bindings, and Kamailio as the registrar."""
    made = []

    def make(settings=None, tags=True, expires=600, route=False, **kw):
        directory = tmp_path / ("registrar%d" % len(made))
        directory.mkdir()
        registrar = Registrar(directory, tags, expires)
        made.append(registrar)
        port = free_port()
        kw.setdefault("defines", {})["MSRP"] = '"%s:%d"' % (HOST, port)
        stack = new_stack(dict(FAST, reg_uri=registrar.uri,
                               reg_route=registrar.uri if route else "",
                               **(settings or {})), **kw)
        registrar.start()
        stack.start()
        return stack, registrar
    yield make
    for registrar in made:
        registrar.stop()


@pytest.fixture
def cpm_client():
    made = []

    def make(registrar, user="bob", **kw):
        ua = msrpua.CpmClient(user, proxy=(HOST, registrar.edge_port), **kw)
        made.append(ua)
        return ua
    yield make
    for ua in made:
        ua.close()


def elsewhere(registrar, user="bob", **kw):
    """A client that registers there, through the edge proxy."""
    return sipua.UA(user, DOMAIN, (HOST, registrar.edge_port), **kw)


@pytest.mark.parametrize("tags", [True, False], ids=["script", "pua_reginfo"])
@pytest.mark.parametrize("way", ["path", "route", "route-aor"])
def test_a_client_of_another_registrar_gets_its_queue_by_message(
        pair, tags, way):
    stack, registrar = pair({"reg_route_aor": int(way == "route-aor")},
                            tags=tags, route=way != "path")
    sent = [send(stack, b"message %d" % i) for i in range(3)]
    with elsewhere(registrar) as bob:
        bob.register()
        assert [m.body for m in bob.wait_messages(3)] == sent
        stack.wait_empty("bob")
        for message in bob.messages:
            # with its Path, whoever puts that in
            edge = message.get("x-edge")
            assert edge == ("yes" if way != "route" else None)


def test_it_gets_them_in_a_session_through_its_path(pair, cpm_client):
    stack, registrar = pair()
    sent = [send(stack, b"message %d" % i) for i in range(5)]
    bob = cpm_client(registrar)
    bob.register()
    bob.wait_msrp(5)
    assert bodies(bob) == sent
    stack.wait_empty("bob")
    wait_until(lambda: bob.sessions[0].ended, 5, "the PF hangs up")
    assert len(bob.invites) == 1
    assert bob.invites[0].get("x-edge") == "yes"
    assert stack.metric("delivered_msrp") == 5


def test_what_a_client_takes_is_told_by_its_feature_tags(pair, cpm_client):
    stack, registrar = pair()
    first = send(stack, b"first")
    bob = cpm_client(registrar)
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(1)
    wait_until(lambda: bob.sessions[0].ended, 5, "the PF hangs up")
    # it is there, and takes no pager mode: not at once, but in a session
    second = send(stack, b"second")
    bob.wait_msrp(2)
    assert bodies(bob) == [first, second]
    assert bob.messages == []
    stack.wait_empty("bob")


def test_who_has_deregistered_there_is_away_here(pair):
    stack, registrar = pair()
    sent = [send(stack, b"1")]
    with elsewhere(registrar) as bob:
        bob.register()
        bob.wait_messages(1)
        stack.wait_empty("bob")
        before = events(stack)
        bob.register(0)
        wait_until(lambda: events(stack) > before, 5, "a NOTIFY")
        sent.append(send(stack, b"2"))
        assert len(bob.messages) == 1
        bob.register()
        assert [m.body for m in bob.wait_messages(2)] == sent


def test_a_registrar_that_was_restarted_is_asked_anew(pair):
    stack, registrar = pair(expires=8)
    first = send(stack, b"first")
    wait_until(lambda: events(stack) > 0, 8, "a NOTIFY")
    registrar.kill()
    registrar.start()
    with elsewhere(registrar) as bob:
        # its presence module knows of no subscription any more
        bob.register()
        assert [m.body for m in bob.wait_messages(1, 20)] == [first]
        stack.wait_empty("bob")


# ---- what goes wrong on the way

def test_a_notify_that_is_lost_is_missed(start):
    stack, registrar = start({"reg_timeout": 2})
    bob = client(stack)
    registrar.silent = True
    body = send(stack, b"x")
    registrar.dialog(1)
    registrar.silent = False
    registrar.known[BOB] = [contact(bob.contact)]
    registrar.dialog(2, 15)
    assert [m.body for m in bob.wait_messages(1)] == [body]
    # what comes after all belongs to a dialog that is no more
    assert registrar.dialogs[0].tell([]).code == 481
    stack.wait_empty("bob")


def test_a_gap_in_versions_asks_for_the_full_state(start):
    stack, registrar = start()
    bob = client(stack)
    body = send(stack, b"x")
    dialog = registrar.dialog(1)
    wait_until(lambda: events(stack) == 1)
    dialog.version = 3  # those between are lost
    registrar.known[BOB] = [contact(bob.contact)]
    assert dialog.tell([contact("sip:other@127.0.0.1:9", expires=0)],
                       full=False).code == 200
    refresh = registrar.request(dialog, 2)
    assert int(refresh.cseq[0]) > int(dialog.requests[0].cseq[0])
    assert [m.body for m in bob.wait_messages(1)] == [body]
    assert len(registrar.dialogs) == 1


def test_an_older_notify_changes_nothing(start):
    stack, registrar = start()
    bob = client(stack)
    send(stack, b"x")
    dialog = registrar.dialog(1)
    wait_until(lambda: events(stack) == 1)
    there = reginfo([registration(BOB, [contact(bob.contact)])], 1)
    gone = reginfo([registration(BOB)], 2)
    dialog.cseq += 1
    late = dialog.build(there, cseq=dialog.cseq)
    dialog.cseq += 1
    newer = dialog.build(gone, cseq=dialog.cseq)
    transact = registrar.ua.transact
    assert transact(newer).code == 200
    # reordered: it was sent before
    assert transact(late).code == 500
    # duplicated on the way: the same answer
    registrar.ua.send_raw(newer)
    # replayed later, as a new request
    assert transact(dialog.build(gone, cseq=dialog.cseq)).code == 200
    # a new request with an old document
    dialog.version = 0
    assert dialog.tell([contact(bob.contact)], version=1).code == 200
    assert stack.queue("bob")["messages"] == 1
    assert bob.messages == []
    # and all goes on
    assert dialog.tell([contact(bob.contact)], version=3).code == 200
    bob.wait_messages(1)


def test_the_same_state_told_again_is_no_news(start):
    stack, registrar = start()
    bob = client(stack, answer=480)
    one = [contact(bob.contact, call_id="a", cseq=1)]
    registrar.known[BOB] = one
    send(stack, b"x")
    bob.wait_messages(1)
    dialog = registrar.dialog(1)
    wait_until(lambda: stack.items("bob")[0]["attempts"] == 1)
    for _ in range(3):
        assert dialog.tell(one).code == 200
    wait_until(lambda: events(stack) == 4)
    # a refresh is a sign of life, and ends the wait for the unreachable
    bob.answer = 200
    assert dialog.tell([contact(bob.contact, event="refreshed", call_id="a",
                                cseq=2)], full=False).code == 200
    bob.wait_messages(2)
    assert len(bob.messages) == 2
    stack.wait_empty("bob")


def test_a_forged_notify_is_refused_and_changes_nothing(start):
    stack, registrar = start()
    bob = client(stack)
    body = send(stack, b"x")
    dialog = registrar.dialog(1)
    wait_until(lambda: events(stack) == 1)
    mallory = FakeRegistrar(stack)
    evil = reginfo([registration(BOB, [contact(
        "sip:mallory@%s:%d" % (HOST, mallory.ua.port))])], 9)
    target = dialog.target
    ours = sipua.header_params(dialog.remote)["tag"]
    try:
        for tag in (ours, "cpmr-" + "0" * 32):
            forged = mallory.ua.build("NOTIFY", target, [
                ("Contact", "<%s>" % mallory.ua.contact), ("Event", "reg"),
                ("Subscription-State", "active;expires=600"),
                ("Content-Type", "application/reginfo+xml")], evil,
                from_="<%s>" % BOB, cseq=99, to="<%s>;tag=%s" % (
                    sipua.uri_of(dialog.remote), tag))
            assert mallory.ua.transact(forged).code == 481
        # of no dialog of ours, and nobody who is trusted
        forged = mallory.ua.build("NOTIFY", target, [
            ("Contact", "<%s>" % mallory.ua.contact), ("Event", "reg"),
            ("Subscription-State", "active;expires=600"),
            ("Content-Type", "application/reginfo+xml")], evil,
            from_="<%s>" % BOB, to="<sip:cpm@example.org>;tag=abc")
        assert mallory.ua.transact(forged).code == 403
        assert stack.metric("reg_refused") == 3
        # the dialog is still good, and mallory got nothing
        assert dialog.tell([contact(bob.contact)]).code == 200
        assert [m.body for m in bob.wait_messages(1)] == [body]
        assert mallory.ua.messages == []
    finally:
        mallory.close()


@pytest.mark.parametrize("body, word", [
    (reginfo([])[:-4], "bad-xml"),
    (b"<presence xmlns='urn:ietf:params:xml:ns:pidf'/>", "bad-root"),
    (b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + reginfo([]), "doctype"),
    (reginfo([registration(BOB, ["<contact id='1' state='active'"
                                 " event='created'/>"])]), "no-uri"),
    (reginfo([]).replace(b'version="0"', b'version="-1"'), "bad-version"),
])
def test_a_document_that_cannot_be_read_is_refused(start, body, word):
    stack, registrar = start()
    bob = client(stack)
    registrar.known[BOB] = [contact(bob.contact)]
    send(stack, b"x")
    bob.wait_messages(1)
    dialog = registrar.dialog(1)
    answer = registrar.ua.transact(dialog.build(body))
    assert answer.code == 400
    assert word in answer.start_line
    # what was known is still known
    assert stack.ua("alice").message(BOB, cpim(b"y"),
                                     "message/cpim").code == 200


def test_a_restart_between_subscribe_and_notify_loses_nothing(start):
    stack, registrar = start({"reg_timeout": 60})
    bob = client(stack)
    registrar.silent = True
    body = send(stack, b"x")
    dialog = registrar.dialog(1)
    stack.kamailio.kill()
    stack.start_kamailio()
    assert dialog.tell([contact(bob.contact)]).code == 200
    assert [m.body for m in bob.wait_messages(1)] == [body]
    stack.wait_empty("bob")
    assert len(registrar.subscribes) == 1


def test_any_node_takes_the_notify(start, new_stack):
    stack, registrar = start()
    other = new_stack(dict(FAST, reg_uri=registrar.uri), redis=False)
    other.redis.port = stack.redis.port
    other.start()
    bob = client(other)
    body = send(stack, b"x")
    dialog = registrar.dialog(1)
    wait_until(lambda: events(stack) == 1)
    registrar.ua.proxy = (HOST, other.sip_port)
    assert dialog.tell([contact(bob.contact)]).code == 200
    assert [m.body for m in bob.wait_messages(1)] == [body]
    assert events(other) == 1
    # and what one has been told the other knows
    assert stack.ua("alice").message(BOB, cpim(b"y"),
                                     "message/cpim").code == 200
    assert len(registrar.dialogs) == 1


# ---- the life of a subscription

def test_it_is_refreshed_before_it_ends(start):
    stack, registrar = start()
    bob = client(stack)
    registrar.silent = True
    send(stack, b"x")
    dialog = registrar.dialog(1)
    dialog.expires = 4
    dialog.tell([])
    dialog.expires = 600
    registrar.silent = False
    refresh = registrar.request(dialog, 2)
    assert sipua.header_params(refresh.get("to"))["tag"] == dialog.tag
    assert refresh.uri == registrar.ua.contact
    wait_until(lambda: events(stack) == 2)
    assert dialog.tell([contact(bob.contact)]).code == 200
    bob.wait_messages(1)


@pytest.mark.parametrize("how", ["481", "deactivated", "timeout"])
def test_one_that_the_registrar_has_dropped_is_made_anew(start, how):
    stack, registrar = start()
    bob = client(stack)
    registrar.silent = True
    body = send(stack, b"x")
    dialog = registrar.dialog(1)
    if how == "481":
        registrar.answers.append((481, ()))
        dialog.expires = 2
        dialog.tell([])
    else:
        dialog.tell([], state="terminated;reason=" + how)
    registrar.silent = False
    registrar.known[BOB] = [contact(bob.contact)]
    registrar.dialog(2)
    assert [m.body for m in bob.wait_messages(1)] == [body]


@pytest.mark.parametrize("headers, times", [((), 3),
                                            ((("Retry-After", "1"),), 2)])
def test_a_registrar_that_is_busy_is_asked_again(start, headers, times):
    stack, registrar = start()
    bob = client(stack)
    registrar.known[BOB] = [contact(bob.contact)]
    registrar.answers += [(503, headers)] * (times - 1)
    send(stack, b"x")
    registrar.dialog(times, 12)
    bob.wait_messages(1)
    stack.wait_empty("bob")


def test_one_that_is_refused_for_good_rests(start):
    stack, registrar = start()
    registrar.answers += [(489, ())] * 5
    for i in range(3):
        send(stack, b"%d" % i)
    wait_until(lambda: stack.metric("reg_failed") >= 1)
    send(stack, b"4", to="carol")
    registrar.dialog(2)  # the others are asked for
    assert [d.aor for d in registrar.dialogs] == [
        BOB, "sip:carol@example.org"]


def test_423_makes_it_longer(start):
    stack, registrar = start({"reg_expires": 60})
    registrar.answers.append((423, [("Min-Expires", "1800")]))
    send(stack, b"x")
    assert registrar.dialog(1).requests[0].get("expires") == "60"
    assert registrar.dialog(2).requests[0].get("expires") == "1800"


def test_there_are_no_more_than_the_operator_wants(start):
    stack, registrar = start({"reg_max_subscriptions": 2})
    for user in ("bob", "carol", "dave", "erin"):
        send(stack, b"x", to=user)
    wait_until(lambda: stack.metric("reg_failed") == 2, 8)
    assert len(registrar.dialogs) == 2


def test_it_ends_when_nothing_is_queued_any_more(start):
    stack, registrar = start({"reg_linger": 1})
    bob = client(stack)
    registrar.known[BOB] = [contact(bob.contact)]
    send(stack, b"x")
    bob.wait_messages(1)
    stack.wait_empty("bob")
    dialog = registrar.dialog(1)
    last = registrar.request(dialog, 2, 12)
    assert last.get("expires") == "0"
    wait_until(lambda: stack.redis.command("KEYS", "cpm:*:regs") == b"*0\r\n",
               5, "no subscription is left")


# ---- several addresses, contacts that go

def test_the_number_of_a_user_is_a_registration_of_its_own(start):
    stack, registrar = start()
    bob = client(stack)
    tel = "tel:+441632960123"
    sent = [send(stack, b"to bob"),
            cpim(b"to the number", sender="<sip:alice@example.org>")]
    registrar.silent = True
    assert stack.ua("alice").message(tel, sent[1],
                                     "message/cpim").code == 202
    registrar.dialog(2)
    one = [contact(bob.contact)]
    dialog = next(d for d in registrar.dialogs if d.aor == BOB)
    assert dialog.tell(one, others=[registration(tel, one)]).code == 200
    assert sorted(m.body for m in bob.wait_messages(2)) == sorted(sent)


def test_a_contact_that_is_terminated_is_forgotten(start):
    stack, registrar = start()
    phone, tablet = client(stack), client(stack)
    registrar.known[BOB] = [contact(phone.contact), contact(tablet.contact)]
    send(stack, b"1")
    wait_until(lambda: phone.messages or tablet.messages)
    stack.wait_empty("bob")
    dialog = registrar.dialog(1)
    assert dialog.tell([contact(phone.contact, "terminated",
                                "unregistered")], full=False).code == 200
    count = len(phone.messages)
    assert stack.ua("alice").message(BOB, cpim(b"2"),
                                     "message/cpim").code == 200
    assert len(phone.messages) == count
    tablet.wait_messages(2 - count)
    assert dialog.tell([]).code == 200  # in full: nobody
    send(stack, b"3")


def test_a_contact_whose_time_is_over_is_forgotten(start):
    stack, registrar = start({"retry_intervals": "1"})
    bob = client(stack, answer=480)
    registrar.known[BOB] = [contact(bob.contact, expires=2)]
    send(stack, b"1")
    bob.wait_messages(1)
    key = stack.redis.command("KEYS", "cpm:*:c:" + BOB)
    assert b":c:" in key
    wait_until(lambda: stack.ua("alice").message(
        BOB, cpim(b"2"), "message/cpim").code == 202, 8)
    bob.answer = 200
    count = len(bob.messages)
    dialog = registrar.dialog(1)
    assert dialog.tell([contact(bob.contact, expires=600)]).code == 200
    bob.wait_messages(count + 1)


# ---- what others tell

def third_party(stack, user="bob", expires=600):
    """A REGISTER as an S-CSCF sends it: no contact of the client in it."""
    ua = stack.ua("scscf")
    return ua.request("REGISTER", "sip:pf@example.org", [
        ("Contact", "<sip:scscf@%s:%d>" % (HOST, ua.port)),
        ("Expires", str(expires))], to="<sip:%s@example.org>" % user)


def test_a_third_party_register_is_a_reason_to_ask(start):
    stack, registrar = start(trusted=True)
    bob = client(stack)
    registrar.known[BOB] = [contact(bob.contact)]
    assert third_party(stack).code == 200
    registrar.dialog(1)
    wait_until(lambda: events(stack) == 1)
    # who is there by that gets his messages at once
    alice = stack.ua("alice")
    assert alice.message(BOB, cpim(b"x"), "message/cpim").code == 200
    bob.wait_messages(1)
    # again and again: one subscription
    for _ in range(3):
        assert third_party(stack).code == 200
    # the end of it is the end of what is known
    assert third_party(stack, expires=0).code == 200
    assert alice.message(BOB, cpim(b"y"), "message/cpim").code == 202
    assert len(registrar.dialogs) == 1


def test_of_a_stranger_it_is_none(start):
    stack, registrar = start()
    bob = client(stack)
    registrar.known[BOB] = [contact(bob.contact)]
    send(stack, b"x")
    bob.wait_messages(1)
    stack.wait_empty("bob")
    assert third_party(stack, expires=0).code == 200
    assert third_party(stack, "carol").code == 200
    assert stack.ua("alice").message(BOB, cpim(b"y"),
                                     "message/cpim").code == 200
    assert [d.aor for d in registrar.dialogs] == [BOB]


@pytest.mark.parametrize("registrar_is", ["reginfo", "usrloc"])
def test_a_notify_of_a_subscription_made_elsewhere_is_a_trigger(
        start, registrar_is):
    stack, registrar = start({"reg_uri": "", "registrar": registrar_is},
                             trusted=True)
    bob = client(stack)
    if registrar_is == "usrloc":
        bob.answer = 480
        bob.register()
    body = send(stack, b"x")
    if registrar_is == "usrloc":
        bob.wait_messages(1)
        wait_until(lambda: stack.items("bob")[0]["attempts"] == 1)
        bob.answer = 200
    told = reginfo([registration(BOB, [contact(bob.contact)])])

    def notify(cseq, body):
        return registrar.ua.request("NOTIFY", "sip:pua@example.org", [
            ("Contact", "<%s>" % registrar.ua.contact), ("Event", "reg"),
            ("Subscription-State", "active;expires=600"),
            ("Content-Type", "application/reginfo+xml")], body, cseq=cseq,
            call_id="theirs", from_tag="t1",
            to="<sip:pua@example.org>;tag=theirs")
    assert notify(1, told).code == 200
    count = 2 if registrar_is == "usrloc" else 1
    assert bob.wait_messages(count)[-1].body == body
    stack.wait_empty("bob")
    assert notify(2, b"<reginfo").code == 400


def test_what_is_queued_for_many_is_brought_at_the_rate_that_is_asked_for(
        start):
    stack, registrar = start({"delivery_rate": 3})
    users = ["user%d" % i for i in range(9)]
    clients = {}
    for user in users:
        clients[user] = client(stack, user)
        registrar.known["sip:%s@example.org" % user] = [
            contact(clients[user].contact)]
    for user in users:
        send(stack, b"x", to=user)
    for user in users:
        stack.wait_empty(user, 20)
    times = sorted(c.messages[0].at for c in clients.values())
    # three at once are saved up, three more in each second
    assert times[-1] - times[0] > 1.5
