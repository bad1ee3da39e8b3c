# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""SUBSCRIBE to what is queued, answered by cpm_session() (RFC 6665)."""

import re
import time

import pytest

import databases
import sipua
from db import World
from harness import Failure, wait_until
from push import send
from watcher import HISTORY, SUMMARY, Watcher, count_of, state

PULL = "sip:queue@example.org"
# Nothing is brought: what is queued stays until the test takes it.
AWAY = {"register_trigger": 0, "retry_intervals": "600",
        "notify_delay_ms": 100}


@pytest.fixture
def start(new_stack):
    def make(settings=None, **kw):
        return new_stack(dict(AWAY, **(settings or {})), **kw).start()
    return make


def client(stack, user="bob", **kw):
    """Registered, and not there for messages: they are queued."""
    kw.setdefault("answer", 480)
    ua = stack.ua(user, **kw)
    ua.register()
    return ua


def ok(response):
    assert response.code == 200, response.head.decode()
    return response


def all_good(*watchers):
    for w in watchers:
        assert [n.problems for n in w.notifies if n.problems] == []
        assert w.ua.__dict__.get("strange", []) == []


def subscribers(stack, user="bob"):
    """How many subscriptions Redis has of a user."""
    found = re.findall(rb"cpm:\{\d+\}:s:sip:[^\r\n]*", stack.redis.command(
        "KEYS", "cpm:*:s:sip:%s@example.org" % user))
    if not found:
        return 0
    return int(stack.redis.command("HLEN", found[0])[1:])


def test_who_subscribes_is_told_at_once_and_when_something_is_queued(start):
    stack = start()
    send(stack, b"first")
    bob = client(stack)
    w = Watcher(bob)
    response = ok(w.subscribe(600))
    assert response.get("expires") == "600"
    assert sipua.header_params(response.get("to"))["tag"].startswith("cpms-")
    assert "sip:" in response.get("contact")
    first = w.wait(1)
    assert first.get("content-type") == SUMMARY
    assert first.get("event") == "message-summary"
    assert b"Messages-Waiting: yes" in first.body
    assert count_of(first) == 1
    kind, params = state(first)
    assert kind == "active" and 595 <= int(params["expires"]) <= 600
    send(stack, b"second")
    w.wait_count(2)
    all_good(w)
    assert stack.metric("subscribed") == 1
    wait_until(lambda: stack.metric("notified") == len(w.notifies))


def test_an_empty_queue_is_told_as_empty(start):
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe())
    assert b"Messages-Waiting: no" in w.wait(1).body
    all_good(w)


def test_what_is_delivered_is_told_too(start):
    stack = start({"register_trigger": 1, "retry_intervals": "1"})
    send(stack, b"x")
    bob = client(stack)
    w = Watcher(bob)
    ok(w.subscribe())
    w.wait_count(1)
    bob.answer = 200
    stack.wait_empty("bob", 10)
    w.wait_count(0)
    all_good(w)


def test_a_burst_is_one_notification_or_two(start):
    stack = start({"notify_delay_ms": 1000})
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait(1)
    for i in range(8):
        send(stack, b"%d" % i)
    w.wait_count(8)
    assert len(w.notifies) <= 3
    all_good(w)


def test_a_refresh_brings_the_full_state_and_keeps_the_dialog(start):
    stack = start()
    send(stack, b"x")
    w = Watcher(client(stack))
    ok(w.subscribe(300))
    w.wait(1)
    response = ok(w.subscribe(900))
    assert response.get("expires") == "900"
    second = w.wait(2)
    assert second.body == w.notifies[0].body
    assert 895 <= int(state(second)[1]["expires"]) <= 900
    assert subscribers(stack) == 1
    all_good(w)


def test_a_refresh_moves_the_subscription_to_another_contact(start):
    stack = start()
    bob = client(stack)
    w = Watcher(bob)
    ok(w.subscribe())
    w.wait(1)
    w.contact = bob.contact.replace("sip:bob@", "sip:moved@")
    ok(w.subscribe())
    assert w.wait(2).uri == w.contact
    send(stack, b"x")
    assert w.wait_count(1).uri == w.contact
    all_good(w)


def test_expires_0_ends_it_with_a_last_notification(start):
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait(1)
    response = ok(w.subscribe(0))
    assert response.get("expires") == "0"
    last = w.wait(2)
    assert state(last)[0] == "terminated"
    assert b"Messages-Waiting" in last.body
    wait_until(lambda: subscribers(stack) == 0)
    send(stack, b"x")
    assert w.subscribe().code == 481
    # what is queued after the end is told to nobody
    other = Watcher(w.ua)
    ok(other.subscribe())
    other.wait_count(1)
    assert len(w.notifies) == 2
    all_good(w, other)


def test_a_fetch_is_one_notification(start):
    stack = start()
    send(stack, b"x")
    w = Watcher(client(stack))
    assert ok(w.subscribe(0)).get("expires") == "0"
    only = w.wait(1)
    assert state(only) == ("terminated", {"reason": "timeout"})
    assert count_of(only) == 1
    wait_until(lambda: subscribers(stack) == 0)
    all_good(w)


def test_it_ends_by_itself_when_it_is_not_refreshed(start):
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe(60))
    w.wait(1)
    # nobody waits a minute: in Redis it is made to end in two seconds
    names = stack.redis.command("KEYS", "cpm:*:s:*")
    key = re.findall(rb"cpm:\{\d+\}:s:sip:bob@example.org", names)[0]
    index = key.split(b"s:")[0] + b"subs"
    wait_until(lambda: b" I " in stack.redis.command("HVALS", key), 5,
               "the first NOTIFY is settled")
    soon = str(int(time.time() * 1000) + 2000).encode()
    tag = sipua.header_params(w.remote)["tag"]
    value = stack.redis.command("HGET", key, tag).split(b"\r\n", 1)[1][:-2]
    stack.redis.command("HSET", key, tag, soon + value[value.index(b" "):])
    stack.redis.command("ZADD", index, soon, "sip:bob@example.org")
    last = w.wait_for(lambda n: state(n)[0] == "terminated", 15)
    assert state(last)[1] == {"reason": "timeout"}
    assert b"Messages-Waiting: no" in last.body
    assert time.time() * 1000 >= int(soon)
    wait_until(lambda: subscribers(stack) == 0)
    assert w.subscribe().code == 481
    all_good(w)


def test_what_is_too_short_or_too_long_is_bounded(start):
    stack = start({"subscribe_max_expires": 1800})
    bob = client(stack)
    for expires in (1, 59):
        response = Watcher(bob).subscribe(expires)
        assert response.code == 423
        assert response.get("min-expires") == "60"
    for expires, granted in ((60, "60"), (1800, "1800"), (1801, "1800"),
                             (4294967295, "1800"), (None, "1800")):
        w = Watcher(bob)
        assert ok(w.subscribe(expires)).get("expires") == granted
    assert subscribers(stack) >= 1


def test_nobody_else_learns_anything(start):
    stack = start()
    send(stack, b"secret")
    client(stack)
    eve = client(stack, "eve")
    answers = []
    for to in ("sip:bob@example.org", "sip:nobody@example.org"):
        response = Watcher(eve, to).subscribe()
        answers.append((response.code, response.reason,
                        [n for n, _ in response.headers]))
    assert answers[0][0] == 403
    assert answers[0] == answers[1]
    # a From that anybody can write is not believed
    mallory = stack.ua("bob")
    assert Watcher(mallory).subscribe().code == 403
    assert subscribers(stack) == 0


def test_nobody_else_changes_a_subscription(start):
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait(1)
    eve = client(stack, "eve")
    thief = Watcher(eve)
    thief.call_id, thief.tag, thief.cseq = w.call_id, w.tag, 7
    thief.remote, thief.target = w.remote, w.target
    assert thief.subscribe(0).code == 481
    forged = Watcher(eve, w.uri)
    forged.call_id, forged.tag, forged.cseq = w.call_id, w.tag, 7
    forged.remote, forged.target = w.remote, w.target
    assert forged.subscribe(
        0, [("From", "<%s>;tag=%s" % (w.uri, w.tag))]).code == 403
    send(stack, b"x")
    w.wait_count(1)
    all_good(w)


def test_other_packages_get_489(start):
    stack = start()
    bob = client(stack)
    for event in ("presence", "message-summary.winfo", "dialog;id=1",
                  "deferred-messages", False):
        response = Watcher(bob, PULL).subscribe(event=event)
        assert response.code == 489, (event, response)
        assert response.get("allow-events") == "message-summary"
        # others may answer for the user: the script has the word
        assert Watcher(bob).subscribe(event=event).code == 489


def test_the_pull_address_takes_subscriptions_of_every_owner(start):
    stack = start()
    send(stack, b"x")
    w = Watcher(client(stack), PULL)
    ok(w.subscribe())
    assert count_of(w.wait(1)) == 1
    all_good(w)


def test_a_client_that_takes_no_such_body_gets_406(start):
    stack = start()
    bob = client(stack)
    for accept in ("application/pidf+xml", "text/*", SUMMARY + ";q=0",
                   "*/*;q=0.0", ",,,", ""):
        response = Watcher(bob).subscribe(headers=[("Accept", accept)])
        assert response.code == 406, accept
        assert response.get("accept") == SUMMARY
    for accept in (SUMMARY, "application/*", "*/*",
                   "text/plain, APPLICATION/Simple-Message-Summary;q=0.1"):
        w = Watcher(bob)
        ok(w.subscribe(headers=[("Accept", accept)]))
        w.wait(1)
        all_good(w)


def test_an_id_of_the_event_comes_back(start):
    stack = start()
    w = Watcher(client(stack), event="message-summary;id=a7")
    ok(w.subscribe())
    assert w.wait(1).get("event") == "message-summary;id=a7"
    assert w.subscribe(event="message-summary;id=other").code == 481
    ok(w.subscribe())
    w.wait(2)
    all_good(w)


def test_hostile_values_are_refused_and_harm_nothing(start):
    stack = start()
    bob = client(stack)
    long = "x" * 3000
    cases = [
        ({"event": "message-summary;id=" + long}, (400, 489)),
        ({"event": "message-summary;id=a;id=b"}, (400, 489)),
        ({"event": "message-summary;id"}, (400, 489)),
        ({"event": "message-summary;id=\"a b\""}, (400, 489)),
        ({"event": "message-summary\t\x01"}, (400, 489)),
        ({"event": ";;;;"}, (400, 489)),
        ({"event": "message-summary, presence"}, (400, 489)),
        ({"expires": "-1"}, (400, 489)),
        ({"expires": "60x"}, (400,)),
        ({"expires": "0x40"}, (400,)),
        ({"expires": " "}, (400,)),
        ({"headers": [("Expires", "600"), ("Expires", "0")]}, (400,)),
        ({"headers": [("Accept", "*/" * 2000)]}, (406,)),
        ({"headers": [("Accept", '"' + long)]}, (406,)),
        ({"headers": [("Require", "eventlist")]}, (420,)),
        ({"headers": [("Contact", None)]}, (400,)),
        ({"headers": [("Contact", "*")]}, (400,)),
        ({"headers": [("Contact", "<tel:+1>")]}, (400,)),
        ({"headers": [("Contact", "<sip:a@127.0.0.1>, <sip:b@127.0.0.1>")]},
         (400,)),
        ({"contact": "sip:%s@127.0.0.1" % long}, (400,)),
        ({"headers": [("Record-Route", "<sip:127.0.0.1;lr>, " * 200
                       + "<sip:127.0.0.1;lr>")]}, (400,)),
    ]
    for kw, codes in cases:
        w = Watcher(bob, PULL)
        response = w.subscribe(**kw)
        assert response.code in codes, (kw, response)
        assert w.remote is None
    assert subscribers(stack) == 0
    w = Watcher(bob)
    ok(w.subscribe())
    w.wait(1)
    all_good(w)
    stack.expect_log("parse", "contact", "Contact")


def test_a_retransmission_makes_one_subscription(start):
    stack = start()
    w = Watcher(client(stack))
    raw = w.build()
    branch = sipua.Message(raw).branch
    for _ in range(3):  # the first answer is still to come
        w.ua.send_raw(raw)
    w.wait(1)
    for _ in range(2):
        w.ua.send_raw(raw)
    w.ua.wait(lambda: len(w.ua._responses[branch]) >= 3, 5, "three answers")
    tags = {sipua.header_params(r.get("to"))["tag"]
            for r in w.ua._responses[branch]}
    assert len(tags) == 1
    w.wait(1)
    # the same request by another way, as after a restart of its proxy
    again = w.ua.transact(w.build(cseq=1))
    assert again.code == 200
    assert sipua.header_params(again.get("to"))["tag"] in tags
    assert subscribers(stack) == 1
    send(stack, b"x")
    w.wait_count(1)
    all_good(w)


def test_two_subscriptions_of_one_user_are_told_both(start):
    stack = start()
    phone, tablet = client(stack), client(stack)
    one, two, three = Watcher(phone), Watcher(tablet), Watcher(tablet)
    for w in (one, two, three):
        ok(w.subscribe())
        w.wait(1)
    assert subscribers(stack) == 3
    send(stack, b"x")
    for w in (one, two, three):
        w.wait_count(1)
    ok(two.subscribe(0))
    two.wait_for(lambda n: state(n)[0] == "terminated")
    send(stack, b"y")
    one.wait_count(2)
    three.wait_count(2)
    all_good(one, two, three)


def test_the_oldest_makes_room_when_there_are_too_many(start):
    stack = start()
    bob = client(stack)
    watchers = [Watcher(bob) for _ in range(9)]
    for w in watchers:
        ok(w.subscribe())
        w.wait(1)
    last = watchers[0].wait_for(lambda n: state(n)[0] == "terminated")
    assert state(last)[1]["reason"] == "probation"
    wait_until(lambda: subscribers(stack) == 8)
    send(stack, b"x")
    for w in watchers[1:]:
        w.wait_count(1)
    all_good(*watchers)


def test_a_restart_loses_no_subscription(start):
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe(600))
    w.wait(1)
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()
    stack.start_kamailio()
    stack._checked = len(stack.kamailio.log().encode())
    send(stack, b"x")
    w.wait_count(1)
    w.ua.register()
    ok(w.subscribe(600))
    w.wait_for(lambda n: int(n.cseq[0]) > 2 and count_of(n) == 1)
    all_good(w)


def test_what_is_owed_is_told_after_a_restart(start):
    stack = start()
    bob = client(stack)
    w = Watcher(bob)
    w.silent = True
    ok(w.subscribe(600))
    w.wait(1)
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()
    w.silent = False
    stack.start_kamailio()
    stack._checked = len(stack.kamailio.log().encode())
    send(stack, b"x")
    w.wait_count(1, 80)
    all_good(w)


@pytest.mark.parametrize("code", [481, 404, 410, 489])
def test_a_client_that_knows_nothing_of_it_is_left_alone(start, code):
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait(1)
    w.answers = [code]
    send(stack, b"x")
    w.wait(2)
    wait_until(lambda: subscribers(stack) == 0)
    send(stack, b"y")
    assert w.subscribe().code == 481
    assert len(w.notifies) == 2


@pytest.mark.parametrize("code", [500, 503, 408])
def test_a_client_in_trouble_is_told_at_the_next_change(start, code):
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait(1)
    w.answers = [code]
    send(stack, b"x")
    w.wait(2)
    wait_until(lambda: stack.metric("notify_failed") >= 1)
    assert subscribers(stack) == 1
    send(stack, b"y")
    w.wait_count(2)
    all_good(w)


def test_a_client_that_does_not_answer_is_told_at_the_next_change(start):
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait(1)
    w.silent = True
    send(stack, b"x")
    w.wait(2)
    wait_until(lambda: stack.metric("notify_failed") == 1, 10)
    w.silent = False
    send(stack, b"y")
    w.wait_count(2)
    all_good(w)


def test_a_route_set_is_kept(start):
    stack = start()
    w = Watcher(client(stack))
    route = "<sip:127.0.0.1:%d;lr>" % w.ua.port
    response = ok(w.subscribe(headers=[("Record-Route", route)]))
    assert response.list("record-route") == [route]
    first = w.wait(1)
    assert first.list("route") == [route]
    send(stack, b"x")
    assert w.wait_count(1).list("route") == [route]
    all_good(w)


def test_whose_address_alone_speaks_for_it_is_told_there(start):
    """The source of a datagram can be forged: what the queue holds then goes
    to that source, whatever the request says of its way."""
    stack = start()
    bob, eve = client(stack), client(stack, "eve")
    eve.handlers["NOTIFY"] = lambda msg: eve.reply(msg, 200)
    for route in ("<sip:127.0.0.2:%d;lr>" % eve.port,
                  "<sip:127.0.0.1:%d;lr;maddr=127.0.0.2>" % bob.port,
                  "<sip:elsewhere.example.org;lr>"):
        w = Watcher(bob)
        assert w.subscribe(headers=[("Record-Route", route)]).code == 403
    assert subscribers(stack) == 0
    second = ("Via", "SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKx" % bob.port)
    for contact, headers in (
            ("sip:bob@127.0.0.2:%d" % eve.port, [second]),
            ("sip:bob@127.0.0.1:%d;maddr=127.0.0.2" % eve.port, [])):
        w = Watcher(bob)
        w.contact = contact
        ok(w.subscribe(headers=headers))
        w.wait(1)
        all_good(w)


def test_over_tcp_it_is_told_over_its_connection(start):
    stack = start()
    w = Watcher(client(stack, transport="tcp"))
    assert "transport=tcp" in ok(w.subscribe()).get("contact")
    w.wait(1)
    send(stack, b"x")
    w.wait_count(1)
    all_good(w)


def test_deferred_messages_is_the_other_package(start):
    stack = start({"notify_event": "deferred-messages"})
    send(stack, b"x")
    bob = client(stack)
    w = Watcher(bob, event="deferred-messages")
    ok(w.subscribe(headers=[("Accept", HISTORY)]))
    first = w.wait(1)
    assert first.get("content-type") == HISTORY
    assert b"<history-reference>" in first.body
    assert Watcher(bob, PULL).subscribe().get("allow-events") \
        == "deferred-messages"
    all_good(w)


def test_without_the_store_it_is_503(start):
    stack = start()
    stack.expect_log("store: down", "redis", "cannot", "not told")
    w = Watcher(client(stack))
    stack.redis.kill()
    response = w.subscribe()
    assert response.code == 503
    assert response.get("retry-after")
    stack.redis.start()
    wait_until(lambda: Watcher(w.ua).subscribe().code == 200, 10)


@pytest.fixture
def notified(request, tmp_path):
    """A stack in which bob is told what is queued, and nothing is brought."""
    world = World(tmp_path, databases.Sqlite(str(tmp_path)).create(), AWAY)
    request.node.cpm_stacks = [world.stack]
    try:
        world.user("alice")
        world.user("bob", queue_mode="notify")
        yield world.start().stack
    finally:
        world.close()


def test_a_subscriber_is_not_told_besides(notified):
    stack = notified
    phone, tablet = client(stack), client(stack)
    tablet.handlers["NOTIFY"] = lambda msg: (
        tablet.__dict__.setdefault("told", []).append(msg),
        tablet.reply(msg, 200))
    w = Watcher(phone)
    ok(w.subscribe())
    w.wait(1)
    send(stack, b"x")
    w.wait_count(1)
    tablet.wait(lambda: tablet.__dict__.get("told"), 8, "a NOTIFY")
    send(stack, b"y")
    w.wait_count(2)
    all_good(w)


def test_any_node_tells_and_takes_the_refresh(new_stack):
    one = new_stack(AWAY).start()
    two = new_stack(AWAY, redis=False)
    two.redis.port = one.redis.port
    two.start()
    bob = client(one)
    w = Watcher(bob)
    ok(w.subscribe())
    w.wait(1)
    send(two, b"x")   # there nobody knows the client
    w.wait_count(1)
    send(one, b"y")
    w.wait_count(2)
    # the client moves to the other node, and takes its dialog with it
    moved = client(two)
    w2 = Watcher(moved)
    w2.call_id, w2.tag, w2.cseq, w2.remote = w.call_id, w.tag, 5, w.remote
    w2.target = "sip:cpm@127.0.0.1:%d" % two.sip_port
    ok(w2.subscribe())
    assert count_of(w2.wait(1)) == 2
    send(one, b"z")
    w2.wait_count(3)
    told = [int(n.cseq[0]) for n in w.notifies + w2.notifies]
    assert told == sorted(set(told))
    all_good(w, w2)
    two.close()


@pytest.mark.parametrize("workers", [3])
def test_each_user_is_told_with_several_workers(start, workers):
    stack = start({"delivery_workers": workers})
    watchers = []
    for i in range(9):
        w = Watcher(client(stack, "user%d" % i))
        ok(w.subscribe())
        w.wait(1)
        watchers.append(w)
    for w in watchers:
        send(stack, b"x", to=w.ua.user)
    for w in watchers:
        w.wait_count(1)
    all_good(*watchers)


def test_a_subscription_elsewhere_is_none_of_ours(start):
    stack = start()
    bob, vm = client(stack), stack.ua("vm", strict=False)
    vm.handlers["SUBSCRIBE"] = lambda msg: vm.reply(
        msg, 202, headers=[("Expires", "60"), ("Contact", vm.contact)])
    assert Watcher(bob, "sip:bob@127.0.0.1:%d" % vm.port
                   ).subscribe().code == 202


def test_a_storm_of_subscriptions_of_one_user_starves_nobody_else(start):
    stack = start(defines={"ANSWER_TIMEOUT_MS": 8000})
    mad, carol = client(stack, "mad"), client(stack, "carol")
    mad.handlers["NOTIFY"] = lambda msg: None  # it answers nothing
    calm = Watcher(carol)
    ok(calm.subscribe())
    calm.wait(1)
    for _ in range(800):
        ok(mad.request("SUBSCRIBE", mad.aor, [
            ("Contact", "<%s>" % mad.contact), ("Event", "message-summary"),
            ("Expires", "600")]))
    send(stack, b"x", to="carol")
    calm.wait_count(1)
    assert subscribers(stack, "mad") <= 16
    all_good(calm)


def test_many_who_answer_nothing_keep_nobody_else_waiting(start):
    """Together they have more NOTIFYs without answer than there is room for:
    what cannot be sent is not claimed, and goes when there is room."""
    stack = start(defines={"ANSWER_TIMEOUT_MS": 8000})
    calm = Watcher(client(stack, "carol"))
    ok(calm.subscribe())
    calm.wait(1)
    mad = [client(stack, "mad%d" % i) for i in range(36)]
    for ua in mad:
        ua.handlers["NOTIFY"] = lambda msg: None
    for _ in range(40):
        for ua in mad:
            ua.send_raw(ua.build("SUBSCRIBE", ua.aor, [
                ("Contact", "<%s>" % ua.contact), ("Event", "message-summary"),
                ("Expires", "600")]))
        time.sleep(0.02)  # no more than Kamailio's socket holds
    send(stack, b"x", to="carol")
    calm.wait_count(1, 30)
    all_good(calm)


def cancel_of(raw):
    """The CANCEL of a request."""
    lines = raw.split(b"\r\n\r\n")[0].split(b"\r\n")
    kept = [b"CANCEL " + lines[0].split(b" ", 1)[1]]
    kept += [line.replace(b"SUBSCRIBE", b"CANCEL") for line in lines[1:]
             if line.lower().startswith(
                 (b"via:", b"from:", b"to:", b"call-id:", b"cseq:",
                  b"max-forwards:"))]
    return b"\r\n".join(kept + [b"Content-Length: 0", b"", b""])


def test_a_cancel_at_the_moment_of_the_answer_harms_nothing(start):
    """tm answers 487 in one process while another writes the 200."""
    stack = start(cfg_edit=("children=2", "children=6"))
    # tm's own: a CANCEL that is seen to while its request is still taken in
    stack.expect_log("no resolved dst to send reply to")
    bob, carol = client(stack), client(stack, "carol")
    bob.handlers["NOTIFY"] = lambda msg: bob.reply(msg, 481)
    for i in range(1200):
        raw = bytes(bob.build(
            "SUBSCRIBE", bob.aor, [
                ("Contact", "<%s>" % bob.contact),
                ("Event", "message-summary"), ("Expires", "600")]))
        bob.send_raw(raw)
        end = time.perf_counter() + (i % 50) * 5e-5
        while time.perf_counter() < end:
            pass
        bob.send_raw(cancel_of(raw))
    assert stack.kamailio.running
    calm = Watcher(carol)
    ok(calm.subscribe())
    calm.wait(1)
    all_good(calm)


def test_a_route_of_what_is_sent_may_use_the_queue(start, monkeypatch):
    """event_route[tm:local-request] runs between two NOTIFYs of one look."""
    monkeypatch.setenv("MALLOC_PERTURB_", "165")  # what is freed is gone
    stack = start(cfg_edit=(
        "request_route {",
        "event_route[tm:local-request] {\n"
        "\tif(is_method(\"NOTIFY\")) {\n"
        "\t\tcpm_flush_queue(\"sip:carol@example.org\");\n\t}\n}\n"
        "request_route {"))
    bob = client(stack)
    watchers = [Watcher(bob) for _ in range(6)]
    for w in watchers:
        ok(w.subscribe())
        w.wait(1)
    for i in range(3):
        send(stack, b"x" * 500)
        for w in watchers:
            w.wait_count(i + 1)
    all_good(*watchers)


def test_the_ack_of_a_481_ends_it(start):
    """Or it would be repeated as long as an INVITE's answer is."""
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait(1)
    bob, branch = w.ua, w.ua.new_branch()
    head = {"to": w.remote, "call_id": w.call_id, "cseq": 70,
            "from_tag": w.tag, "branch": branch}
    invite = bytes(bob.build("INVITE", w.target, [
        ("Contact", "<%s>" % w.contact)], **head))
    response = bob.transact(invite)
    assert response.code == 481
    bob.send_raw(bob.build("ACK", w.target, [("CSeq", "70 ACK")], **head))
    with pytest.raises(Failure):
        wait_until(lambda: len(bob._responses[branch]) > 1, 2.5)


def test_a_stray_request_in_such_a_dialog_gets_481(start):
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait(1)
    for method in ("BYE", "INFO", "MESSAGE"):
        response = w.ua.request(
            method, w.target, to=w.remote, call_id=w.call_id,
            from_tag=w.tag, cseq=50)
        assert response.code == 481, method
