# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Subscriptions by Kamailio's presence module, which we give the bodies. What
is put into the configuration is what doc/subscriptions.md says."""

import os
import re
import subprocess

import pytest

import harness
from harness import HOST, need, wait_until
from push import send
from test_subscribe import AWAY, PULL, client, ok
from watcher import HISTORY, SUMMARY, Watcher, count_of, state

SQL = "/usr/share/kamailio/db_sqlite"
DOC = os.path.join(harness.TOP, "doc", "subscriptions.md")


def lines_of(name):
    """The block of the documentation that begins "# presence: NAME"."""
    with open(DOC) as f:
        text = f.read()
    found = re.search(r"^    # presence: %s\n((?:    .*\n|\n(?=    ))*)" % name,
                      text, re.M)
    assert found, name
    return re.sub(r"^    ", "", found[1].split("\n    # presence:")[0],
                  flags=re.M)


def configure(stack, mwi=True, extra=""):
    """Writes the configuration with presence in it."""
    db = os.path.join(stack.directory, "presence.sqlite")
    for name in ("standard", "presence"):
        with open(os.path.join(SQL, name + "-create.sql")) as f:
            subprocess.run([need("sqlite3"), db], stdin=f, check=True)
    with open(harness.CFG) as f:
        text = f.read()

    def put(before, what):
        nonlocal text
        assert text.count(before) == 1, before
        text = text.replace(before, what + "\n" + before)

    modules = lines_of("modules")
    if not mwi:
        modules = modules.replace('loadmodule "presence_mwi.so"\n', "")
    put('import_file "kamailio-cpm-local.cfg"',
        '#!substdef "!PRESENCE_DB!\\"sqlite:///%s\\"!g"\n'
        '#!substdef "!PRESENCE_ADDRESS!\\"sip:%s:%d\\"!g"\n%s%s' % (
            db, HOST, stack.sip_port, modules, extra))
    put("\tif(has_totag()) {", lines_of("in a dialog"))
    put("\t# For the function itself: a client that fetches,",
        "if(is_method(\"PUBLISH\")) { t_newtran(); handle_publish();"
        " t_release(); exit; }\n" + lines_of("not in a dialog"))
    stack.cfg = os.path.join(stack.directory, "presence.cfg")
    with open(stack.cfg, "w") as f:
        f.write(text)


@pytest.fixture
def start(new_stack):
    def make(settings=None, **kw):
        stack = new_stack(dict(AWAY, **(settings or {})))
        configure(stack, **kw)
        return stack.start()
    return make


def good(w):
    # presence writes no Max-Forwards of its own into its NOTIFYs' bodies of
    # headers; what it writes is not ours to judge, but the dialog is
    assert [p for n in w.notifies for p in n.problems
            if "CSeq" in p or "Event" in p or "tag" in p] == []


def test_who_subscribes_is_told_at_once_and_on_change(start):
    stack = start()
    assert "presence: feeds package=message-summary" in stack.kamailio.log()
    send(stack, b"first")
    w = Watcher(client(stack))
    response = ok(w.subscribe(600))
    assert not response.get("to").split("tag=")[1].startswith("cpms-")
    first = w.wait(1)
    assert first.get("content-type") == SUMMARY
    assert state(first)[0] == "active"
    assert count_of(first) == 1
    assert b"Message-ID: " in first.body
    send(stack, b"second")
    w.wait_count(2)
    good(w)


def test_an_empty_queue_is_told_as_empty_and_filled(start):
    stack = start()
    w = Watcher(client(stack))
    ok(w.subscribe())
    assert b"Messages-Waiting: no" in w.wait(1).body
    send(stack, b"x")
    w.wait_count(1)
    good(w)


def test_a_message_for_a_user_without_a_client_is_told(start):
    stack = start()
    bob = client(stack)
    w = Watcher(bob)
    ok(w.subscribe())
    w.wait(1)
    bob.register(expires=0)
    send(stack, b"x")
    w.wait_count(1)
    good(w)


def test_refresh_and_end(start):
    stack = start()
    send(stack, b"x")
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait(1)
    ok(w.subscribe())
    assert count_of(w.wait(2)) == 1
    ok(w.subscribe(0))
    assert w.wait_for(lambda n: state(n)[0] == "terminated")
    good(w)


def test_what_is_delivered_is_told(start):
    stack = start({"register_trigger": 1, "retry_intervals": "1"})
    send(stack, b"x")
    bob = client(stack)
    w = Watcher(bob)
    ok(w.subscribe())
    w.wait_count(1)
    bob.answer = 200
    stack.wait_empty("bob", 10)
    w.wait_count(0)
    good(w)


def test_nobody_else_learns_anything(start):
    stack = start()
    send(stack, b"secret")
    client(stack)
    eve = client(stack, "eve")
    for to in ("sip:bob@example.org", "sip:nobody@example.org"):
        assert Watcher(eve, to).subscribe().code == 403
    assert Watcher(stack.ua("bob")).subscribe().code == 403
    assert eve.__dict__.get("strange", []) == []


def test_presence_refuses_others_if_the_script_forgets_to_ask(new_stack):
    stack = new_stack(AWAY)
    configure(stack)
    with open(stack.cfg) as f:
        text = f.read()
    # the first is for dialogs, the last is the shipped one
    head, asked, tail = text.partition(
        "# answers whoever asks for another user's queue")
    tail = tail.replace("if(cpm_session()) {\n        exit;\n    }", "", 1)
    assert asked and "cpm_session" not in tail.split("handle_subscribe")[0]
    with open(stack.cfg, "w") as f:
        f.write(head + tail)
    stack.start()
    stack.expect_log("in event specific subscription handling", "presence")
    send(stack, b"secret")
    eve = client(stack, "eve")
    w = Watcher(eve, "sip:bob@example.org")
    assert w.subscribe().code == 500
    bob = Watcher(client(stack))
    ok(bob.subscribe())
    bob.wait_count(1)
    assert w.notifies == []


def test_what_a_voicemail_publishes_stands_beside_it(start):
    stack = start()
    send(stack, b"x")
    vm = stack.ua("bob")
    body = (b"Messages-Waiting: yes\r\nMessage-Account: sip:vm@example.org\r\n"
            b"Voice-Message: 2/8 (0/2)\r\n")
    published = vm.request(
        "PUBLISH", "sip:bob@example.org",
        [("Event", "message-summary"), ("Expires", "600"),
         ("Content-Type", SUMMARY)], body)
    assert published.code == 200, published
    w = Watcher(client(stack))
    ok(w.subscribe())
    first = w.wait(1)
    assert b"Voice-Message: 2/8 (0/2)\r\n" in first.body
    assert count_of(first) == 1
    assert first.body.count(b"Messages-Waiting") == 1
    gone = vm.request(
        "PUBLISH", "sip:bob@example.org",
        [("Event", "message-summary"), ("Expires", "0"),
         ("SIP-If-Match", published.get("sip-etag"))])
    assert gone.code == 200, gone
    w.wait_for(lambda n: b"Voice-Message" not in n.body
               and count_of(n) == 1)
    good(w)


def test_deferred_messages_is_added(start):
    stack = start({"notify_event": "deferred-messages"}, mwi=False)
    assert "presence: adds package=deferred-messages" in stack.kamailio.log()
    w = Watcher(client(stack), event="deferred-messages")
    ok(w.subscribe())
    assert w.wait(1).get("content-type") == HISTORY
    assert count_of(w.notifies[0]) == 0
    send(stack, b"x")
    assert b"<history-reference>" in w.wait_count(1).body
    good(w)


def test_message_summary_without_presence_mwi_is_added(start):
    stack = start(mwi=False)
    assert "presence: adds package=message-summary" in stack.kamailio.log()
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait_count(0)
    send(stack, b"x")
    w.wait_count(1)
    good(w)


def test_subscriptions_in_the_database(start):
    stack = start(extra='modparam("presence", "subs_db_mode", 3)\n'
                        'modparam("presence", "notifier_processes", 0)\n')
    send(stack, b"x")
    w = Watcher(client(stack))
    ok(w.subscribe())
    w.wait_count(1)
    send(stack, b"y")
    w.wait_count(2)
    good(w)


def test_the_pull_address_is_ours_all_the_same(start):
    stack = start()
    send(stack, b"x")
    w = Watcher(client(stack), PULL)
    ok(w.subscribe())
    assert w.remote.split("tag=")[1].startswith("cpms-")
    w.wait_count(1)
    ok(w.subscribe(0))
    assert w.wait_for(lambda n: state(n)[0] == "terminated")
    good(w)


def test_presence_0_leaves_it_alone(start):
    stack = start({"presence": 0})
    assert "presence: feeds" not in stack.kamailio.log()
    send(stack, b"x")
    w = Watcher(client(stack))
    ok(w.subscribe())
    assert w.remote.split("tag=")[1].startswith("cpms-")
    w.wait_count(1)
    good(w)


def test_without_the_store_there_is_a_subscription_all_the_same(start):
    stack = start()
    stack.expect_log("store: down", "redis", "without the queue's state")
    w = Watcher(client(stack))
    stack.redis.kill()
    ok(w.subscribe())
    assert w.wait(1).body == b""
    stack.redis.start()
    wait_until(lambda: stack.http_status("/readyz") == 200, 10)
    send(stack, b"x")
    w.wait_count(1)
