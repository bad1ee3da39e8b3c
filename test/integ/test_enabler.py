# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is not there is told of queued messages by a push gateway: whom it is
asked to wake, with what, how often, and what its answers do."""

import base64
import datetime
import os
import re
import signal
import subprocess

import pytest

import databases
import test_topologies
from db import World
from harness import (
    DOMAIN, HOST, SHUTDOWN, Failure, Program, command_line, need, wait_until)
from ppg import Gate

servers = test_topologies.servers
cluster = test_topologies.cluster

SECRET = "s3cr3t-of-the-gateway"


@pytest.fixture
def push(new_stack):
    """Starts a gateway and a stack that asks it: push(form, **settings)."""
    gates = []

    def start(form="pap", certificate=None, begin=True, cfg_edit=None,
              **settings):
        gate = Gate(form, certificate=certificate)
        gates.append(gate)
        stack = new_stack(dict({
            "push_url": gate.url, "push_format": form,
            "push_retry_intervals": "3600", "push_timeout": 2,
            "pf_uri": "sip:pf@" + DOMAIN}, **settings), cfg_edit=cfg_edit)
        if begin:
            stack.start()
        return stack, gate

    yield start
    for gate in gates:
        gate.close()
    for gate in gates:
        gate.check()


def send(stack, to, body=b"hello", sender="alice", headers=(), code=202,
         **kw):
    response = stack.ua(sender).message(
        "sip:%s@%s" % (to, DOMAIN), body, headers=headers, **kw)
    assert response.code == code, response


def instance(number):
    return "urn:uuid:00000000-0000-1000-8000-00000000000%d" % number


def device(stack, user, prid, number=1, answer=200, **kw):
    """A registered client that can be woken."""
    ua = stack.ua(user, answer=answer)
    ua.contact += ";pn-provider=apns;pn-param=TEAM.app;pn-prid=" + prid
    ua.number = number
    enter(ua, **kw)
    return ua


def enter(ua, expires=600):
    ua.register(expires,
                params=';+sip.instance="<%s>"' % instance(ua.number))


def leave(ua):
    enter(ua, 0)


def redis_cli(port, *words):
    return subprocess.run(
        ["redis-cli", "-p", str(port), "--raw", *words],
        capture_output=True, text=True, check=True).stdout.split("\n")


def known(stack, user, ports=None):
    """How many clients of a user are remembered, on any of these servers."""
    names = []
    for port in ports or [stack.redis.port]:
        key = redis_cli(port, "keys", "*:pn:sip:%s@%s" % (user, DOMAIN))[0]
        if key:
            names += redis_cli(port, "hkeys", key)
    return len([n for n in names if n and not n.startswith(" ")])


def targets(stack, user):
    """What they are woken by."""
    key = redis_cli(
        stack.redis.port, "keys", "*:pn:sip:%s@%s" % (user, DOMAIN))[0]
    return [v.split(" ")[3] for v in redis_cli(
        stack.redis.port, "hvals", key) if " " in v]


def restart(stack):
    """And no binding is left."""
    stack.close_uas()
    stack.expect_log(SHUTDOWN.pattern)
    stack.kamailio.stop()
    stack.start_kamailio()


def wait_known(stack, user, count):
    wait_until(lambda: known(stack, user) == count, 5,
               "%d clients of %s are remembered" % (count, user))


def wait_pushes(gate, target, count, timeout=10.0):
    try:
        wait_until(lambda: len(gate.of(target)) >= count, timeout)
    except Failure:
        raise Failure("not within %g s: %d pushes to %s, but %s" % (
            timeout, count, target, gate.pushes))
    return gate.of(target)


def jobs(stack, user=None):
    items = stack.http("/v1/jobs").json["items"]
    aor = "sip:%s@%s" % (user, DOMAIN)
    return [i for i in items
            if i["kind"] == "push" and (user is None or i["user"] == aor)]


def wait_no_job(stack, user, timeout=10.0):
    wait_until(lambda: not jobs(stack, user), timeout,
               "no push job of %s" % user)


canaries = iter(range(1, 1000))


def let_courier_work(stack, gate):
    """Until the courier has looked at all that was due when this began: what
    comes behind it in its list is done behind it, or with it."""
    for _ in range(2):
        name = "canary%d" % next(canaries)
        send(stack, name)
        wait_pushes(gate, name, 1)


def stamp(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(
        tzinfo=datetime.timezone.utc)


# ---------------------------------------------------------------- what it says


@pytest.mark.parametrize("form", ["pap", "json"])
def test_who_is_not_registered_is_told_once_of_what_is_queued(push, form):
    stack, gate = push(form)
    send(stack, "bob", b"hello", headers=[
        ("Subject", 'a "quoted" <subject> & more'), ("Expires", "600")])
    one = wait_pushes(gate, "bob", 1)[0]
    assert one.path == "/push"
    assert one.address == (
        "sip:bob@example.org" if form == "json"
        else "WAPPUSH=bob%%40example.org/TYPE=USER@%s" % HOST)
    assert one.source == "sip:pf@example.org"
    assert one.push_id.endswith("@example.org")
    item = stack.items("bob")[0]
    assert abs((stamp(one.deliver_before) - one.at).total_seconds()
               - 600) < 10
    content = dict(one.content)
    assert abs((stamp(content.pop("date")) - one.at).total_seconds()) < 10
    assert "sip:alice@example.org" in content.pop("from")
    assert content == {
        "event": "queued-messages", "total": 1, "size": item["size"],
        "subject": 'a "quoted" <subject> & more'}
    assert b"hello" not in one.raw
    assert "Authorization" not in one.headers
    let_courier_work(stack, gate)
    assert len(gate.of("bob")) == 1
    assert stack.metric("pushed") == len(gate.pushes)
    assert stack.metric("push_failed") == 0


def test_a_phone_number_is_a_phone_numbers_address(push):
    stack, gate = push()
    send(stack, "+358401234567")
    one = wait_pushes(gate, "+358401234567", 1)[0]
    assert one.address == "WAPPUSH=+358401234567/TYPE=PLMN@" + HOST


def test_a_second_message_is_no_second_push_while_one_is_outstanding(push):
    stack, gate = push()
    send(stack, "bob", b"one")
    wait_pushes(gate, "bob", 1)
    for n in range(5):
        send(stack, "bob", b"more %d" % n)
    let_courier_work(stack, gate)
    assert len(gate.of("bob")) == 1
    job, = jobs(stack, "bob")
    assert job["state"] == "waiting" and job["attempts"] == 1
    assert job["last_error"] is None


def test_it_is_repeated_with_what_is_queued_then(push):
    stack, gate = push(push_retry_intervals="1,2,3600")
    send(stack, "bob", b"one", headers=[("Subject", "first")])
    wait_pushes(gate, "bob", 1)
    send(stack, "bob", b"two", headers=[("Subject", "second")])
    pushes = wait_pushes(gate, "bob", 3)
    assert [p.content["total"] for p in pushes][1:] == [2, 2]
    assert pushes[0].content["subject"] == "first"
    assert pushes[2].content["subject"] == "second"
    assert (pushes[1].at - pushes[0].at).total_seconds() >= 1
    assert (pushes[2].at - pushes[1].at).total_seconds() >= 2


def test_nothing_of_a_sender_who_hides_is_told(push):
    stack, gate = push(trusted_peers=HOST)
    send(stack, "bob", sender="carol", headers=[
        ("Privacy", "id"), ("Subject", "hidden"),
        ("P-Asserted-Identity", '"Carol" <sip:carol@example.org>')],
         from_='"Anonymous" <sip:anonymous@anonymous.invalid>')
    send(stack, "dora", sender="carol", headers=[
        ("Privacy", "id"), ("Subject", "hidden"),
        ("P-Asserted-Identity", '"Carol" <sip:carol@example.org>')])
    send(stack, "erik", sender="carol",
         from_='"Anonymous" <sip:anonymous@anonymous.invalid>')
    for name in ("bob", "dora", "erik"):
        one = wait_pushes(gate, name, 1)[0]
        assert "from" not in one.content
        assert one.content["total"] == 1
        assert b"carol" not in one.raw.lower()


@pytest.mark.parametrize("form", ["pap", "json"])
def test_what_a_sender_writes_stays_where_it_belongs(push, form):
    stack, gate = push(form)
    subject = '"}</pap>\\u0000%0d%0a--cpm_pf-push-entity &bomb; \u00e4\u20ac'
    send(stack, "bob", headers=[("Subject", subject)],
         from_='"]]><x a=\\"b\\">" <sip:alice@example.org>')
    one = wait_pushes(gate, "bob", 1)[0]
    assert one.content["subject"] == subject
    assert "sip:alice@example.org" in one.content["from"]
    assert set(one.headers) == {
        "Host", "User-Agent", "Content-Type", "Accept", "Content-Length"}


# ------------------------------------------------------------- whom it wakes


@pytest.mark.parametrize("form", ["pap", "json"])
def test_a_client_that_has_left_is_woken_by_what_it_registered(push, form):
    stack, gate = push(form)
    bob = device(stack, "bob", "tok%3A1")
    wait_known(stack, "bob", 1)
    leave(bob)
    send(stack, "bob")
    wait_until(lambda: gate.pushes, 10, "a push")
    assert gate.pushes[0].address == (
        {"provider": "apns", "param": "TEAM.app", "prid": "tok:1"}
        if form == "json"
        else "WAPPUSH=apns:TEAM.app:tok%%3A1/TYPE=USER@%s" % HOST)


def test_of_two_clients_only_the_one_that_is_not_registered_is_woken(push):
    stack, gate = push()
    device(stack, "bob", "token1", 1, answer=480)
    other = device(stack, "bob", "token2", 2)
    wait_known(stack, "bob", 2)
    leave(other)
    send(stack, "bob")
    wait_pushes(gate, "token2", 1)
    let_courier_work(stack, gate)
    assert not gate.of("token1") and not gate.of("bob")
    assert len(gate.of("token2")) == 1


def test_nobody_is_woken_when_all_clients_are_registered(push):
    stack, gate = push(retry_intervals="3600")
    device(stack, "bob", "token1", 1, answer=480)
    device(stack, "bob", "token2", 2, answer=480)
    wait_known(stack, "bob", 2)
    send(stack, "bob")
    assert stack.queue("bob")["messages"] == 1
    let_courier_work(stack, gate)
    assert not gate.of("token") and not gate.of("bob")
    assert not jobs(stack, "bob")


def test_a_clients_new_token_takes_the_place_of_its_old_one(push):
    stack, gate = push()
    bob = device(stack, "bob", "oldtoken")
    wait_known(stack, "bob", 1)
    bob.contact = bob.contact.replace("oldtoken", "newtoken")
    enter(bob)
    # both bindings are the same client's, and the later one speaks for it,
    # however often they are looked at
    wait_until(lambda: "newtoken" in targets(stack, "bob"), 5,
               "the new token is remembered")
    for _ in range(3):
        enter(bob)
        let_courier_work(stack, gate)
        assert targets(stack, "bob") == ["newtoken"]
    restart(stack)
    send(stack, "bob")
    wait_pushes(gate, "newtoken", 1)
    assert not gate.of("oldtoken")
    assert known(stack, "bob") == 1


def test_a_client_that_wants_no_push_any_more_is_not_woken(push):
    stack, gate = push()
    bob = device(stack, "bob", "token1")
    wait_known(stack, "bob", 1)
    leave(bob)
    bob.contact = re.sub(";pn-.*", "", bob.contact)
    enter(bob)
    wait_known(stack, "bob", 0)
    leave(bob)
    send(stack, "bob")
    # as anybody who has no client that can be woken
    wait_pushes(gate, "bob", 1)
    assert not gate.of("token1")


def test_a_client_whose_binding_runs_out_is_woken_then(push):
    stack, gate = push(cfg_edit=('"min_expires", 60)', '"min_expires", 1)'))
    bob = device(stack, "bob", "token1", answer=480, expires=4)
    wait_known(stack, "bob", 1)
    send(stack, "bob")
    assert not jobs(stack, "bob")
    wait_pushes(gate, "token1", 1, 20)
    # it was tried before, and not pushed to while it was there
    assert bob.messages
    assert (gate.pushes[0].at - stamp(
        stack.items("bob")[0]["received"][:19] + "Z")).total_seconds() > 2


def test_it_outlives_a_restart_of_kamailio(push):
    stack, gate = push()
    device(stack, "bob", "token1")
    wait_known(stack, "bob", 1)
    restart(stack)
    send(stack, "bob")
    wait_pushes(gate, "token1", 1)
    assert not gate.of("bob")


def test_a_client_that_comes_back_is_woken_no_more(push):
    stack, gate = push(push_retry_intervals="1", push_max=1000,
                       retry_intervals="3600")
    bob = device(stack, "bob", "token1", answer=480)
    wait_known(stack, "bob", 1)
    leave(bob)
    send(stack, "bob")
    wait_pushes(gate, "token1", 2)
    enter(bob)
    wait_no_job(stack, "bob")
    assert stack.queue("bob")["messages"] == 1
    before = len(gate.of("token1"))
    let_courier_work(stack, gate)
    # one may have been on its way just then
    assert len(gate.of("token1")) <= before + 1
    before = len(gate.of("token1"))
    let_courier_work(stack, gate)
    assert len(gate.of("token1")) == before


def test_of_two_targets_the_one_that_comes_back_is_woken_no_more(push):
    stack, gate = push(push_retry_intervals="1", push_max=1000,
                       retry_intervals="3600")
    one = device(stack, "bob", "token1", 1, answer=480)
    two = device(stack, "bob", "token2", 2)
    wait_known(stack, "bob", 2)
    leave(one)
    leave(two)
    send(stack, "bob")
    wait_pushes(gate, "token1", 1)
    wait_pushes(gate, "token2", 1)
    enter(one)
    wait_until(lambda: [m.answered for m in one.messages] == [480], 5,
               "the client is served")
    let_courier_work(stack, gate)
    before = len(gate.of("token1"))
    wait_pushes(gate, "token2", len(gate.of("token2")) + 2)
    assert len(gate.of("token1")) == before


def test_who_gets_the_messages_is_told_no_more(push):
    stack, gate = push(push_retry_intervals="1", push_max=1000)
    send(stack, "bob")
    wait_pushes(gate, "bob", 1)
    bob = stack.ua("bob")
    bob.register()
    bob.wait_messages(1)
    stack.wait_empty("bob")
    wait_no_job(stack, "bob")


def test_an_empty_queue_ends_it(push):
    stack, gate = push(push_retry_intervals="1", push_max=1000)
    send(stack, "bob", headers=[("Expires", "2")])
    wait_pushes(gate, "bob", 1)
    wait_no_job(stack, "bob")
    assert stack.queue("bob") is None
    before = len(gate.of("bob"))
    let_courier_work(stack, gate)
    assert len(gate.of("bob")) == before


def test_who_never_comes_is_told_push_max_times(push):
    stack, gate = push(push_retry_intervals="1", push_max=2)
    send(stack, "bob")
    wait_pushes(gate, "bob", 2)
    wait_no_job(stack, "bob")
    stack.kamailio.wait_log("push: unheard aor=sip:bob@example.org")
    assert stack.queue("bob")["messages"] == 1
    assert not jobs(stack)
    # something new is something to be told of
    send(stack, "bob")
    assert wait_pushes(gate, "bob", 3)[2].content["total"] == 2


def test_what_a_lost_hint_owes_is_found_by_the_queues_next_look(push):
    stack, gate = push(push_max=1, check_interval=10)
    send(stack, "anna")
    send(stack, "bob")
    wait_pushes(gate, "anna", 1)
    wait_pushes(gate, "bob", 1)
    wait_no_job(stack, "anna")
    wait_no_job(stack, "bob")
    # as if bob's job had never been made; anna's has come to its end
    key, *_ = redis_cli(
        stack.redis.port, "keys", "*:pn:sip:bob@" + DOMAIN)
    assert key
    stack.redis.command("DEL", key)
    wait_pushes(gate, "bob", 2, 30)
    let_courier_work(stack, gate)
    assert len(gate.of("anna")) == 1


def test_the_providers_policy_and_the_users_rules_hold(tmp_path):
    servers = databases.Servers()
    with Gate("json") as gate:
        database = servers.database("sqlite", str(tmp_path)).create()
        world = World(str(tmp_path), database, {
            "push_url": gate.url, "push_format": "json",
            "push_retry_intervals": "3600"})
        try:
            world.user("alice")
            world.user("bob", world.policy("short", notify_fields="date"),
                       world.rule("bob", "reject", device=instance(2)),
                       service_class="short")
            world.start()
            for n in (1, 2):
                ua = device(world.stack, "bob", "token%d" % n, n)
                wait_known(world.stack, "bob", n)
                leave(ua)
            assert world.send("bob", headers=[("Subject", "s")]).code == 202
            one = wait_pushes(gate, "token1", 1)[0]
            assert set(one.content) == {"event", "total", "date"}
            assert b"alice" not in one.raw
            let_see = world.user("zoe")
            assert world.send(let_see).code == 202
            wait_pushes(gate, "zoe", 1)
            assert not gate.of("token2")
        finally:
            world.close()
            servers.close()
        gate.check()


def test_it_works_on_a_cluster(cluster):
    with Gate("json") as gate:
        made, stack = cluster({
            "push_url": gate.url, "push_format": "json",
            "push_retry_intervals": "1", "retry_intervals": "3600"})
        ports = [node.port for node in made.nodes]
        names = ["user%d" % n for n in range(12)]
        for name in names:
            ua = device(stack, name, "token-%s." % name)
            wait_until(lambda: known(stack, name, ports), 5,
                       "%s is remembered" % name)
            leave(ua)
        for name in names:
            send(stack, name)
        for name in names:
            wait_pushes(gate, "token-%s." % name, 2, 30)
        assert all(isinstance(p.address, dict) for p in gate.pushes)
        for name in names:
            stack.ua(name).register()
        for name in names:
            wait_no_job(stack, name)
        gate.check()


# -------------------------------------------------------------- its answers


def test_a_gateway_that_fails_is_asked_again(push):
    stack, gate = push(push_retry_intervals="1", push_max=4)
    gate.answers = [4000, ("http", 503, {"Retry-After": "3"}), 4001, 1000]
    send(stack, "bob")
    pushes = wait_pushes(gate, "bob", 4, 20)
    assert (pushes[2].at - pushes[1].at).total_seconds() >= 3
    wait_no_job(stack, "bob")
    assert stack.metric("push_failed") == 3
    assert stack.metric("pushed") == 1


@pytest.mark.parametrize("answer", [
    "malformed", "other", "bomb", "huge", "cut", "silent", "slow", 3000])
def test_what_is_no_answer_is_asked_again(push, answer):
    stack, gate = push(push_retry_intervals="1")
    gate.answers = [answer]
    send(stack, "bob")
    wait_pushes(gate, "bob", 2, 15)
    wait_until(lambda: stack.metric("pushed") == 1, 5, "one is counted")
    assert stack.metric("push_failed") == 1
    job, = jobs(stack, "bob")
    assert job["attempts"] >= 2


@pytest.mark.parametrize("answer,words", [
    (2000, '2000 said "2000"'), (2001, "2001"), (3002, "3002"),
    ("bad", "2000 not understood"), (("http", 401), "HTTP 401"),
    (("http", 404), "HTTP 404"),
    (("http", 302, {"Location": "/elsewhere"}), "HTTP 302")])
def test_what_the_gateway_refuses_is_given_up_and_seen(push, answer, words):
    stack, gate = push(push_retry_intervals="1")
    stack.expect_log("push: target-refused", "courier: gave-up")
    gate.answers = [answer]
    send(stack, "bob")
    wait_until(lambda: [j["state"] for j in jobs(stack, "bob")] == ["dead"],
               10, "the job is dead")
    assert words in jobs(stack, "bob")[0]["last_error"]
    let_courier_work(stack, gate)
    assert len(gate.of("bob")) == 1
    assert all(p.path == "/push" for p in gate.pushes)
    # something new is tried
    send(stack, "bob")
    wait_pushes(gate, "bob", 2)


@pytest.mark.parametrize("form,answer", [
    ("pap", 2003), ("pap", 2002), ("json", ("http", 410)),
    ("json", ("http", 404))])
def test_a_target_that_is_gone_is_dropped(push, form, answer):
    stack, gate = push(form, push_retry_intervals="1")
    bob = device(stack, "bob", "token1")
    wait_known(stack, "bob", 1)
    leave(bob)
    gate.answers = [answer]
    send(stack, "bob")
    wait_pushes(gate, "token1", 1)
    wait_known(stack, "bob", 0)
    wait_no_job(stack, "bob")
    send(stack, "bob")
    # nothing else is known of this user
    wait_pushes(gate, "bob@" if form == "json" else "bob%40", 1)
    assert len(gate.of("token1")) == 1


def test_a_target_that_is_refused_holds_up_no_other(push):
    stack, gate = push("json", push_retry_intervals="1")
    stack.expect_log("push: target-refused")
    one = device(stack, "bob", "token1", 1)
    two = device(stack, "bob", "token2", 2)
    wait_known(stack, "bob", 2)
    leave(one)
    leave(two)
    gate.answers = [("http", 400)]
    send(stack, "bob")
    wait_until(lambda: len(gate.pushes) >= 4, 10, "four pushes")
    refused = gate.pushes[0].address["prid"]
    assert len(gate.of(refused)) == 1
    assert known(stack, "bob") == 2


def test_errors_to_the_end_leave_a_dead_job(push):
    stack, gate = push(push_retry_intervals="1", push_max=2)
    stack.expect_log("courier: gave-up")
    gate.answers = [4001, 4001]
    send(stack, "bob")
    wait_until(lambda: [j["state"] for j in jobs(stack, "bob")] == ["dead"],
               10, "the job is dead")
    assert jobs(stack, "bob")[0]["last_error"].startswith("4001")
    assert len(gate.of("bob")) == 2


def test_a_courier_that_is_killed_loses_nothing(push):
    stack, gate = push(push_timeout=30)
    stack.expect_log("worker died role=courier")
    gate.answers = ["silent"]
    send(stack, "bob")
    wait_pushes(gate, "bob", 1)
    courier, = [p for p in stack.workers() if "courier" in command_line(p)]
    os.kill(courier, signal.SIGKILL)
    wait_pushes(gate, "bob", 2, 20)
    wait_until(lambda: [j["state"] for j in jobs(stack, "bob")]
               == ["waiting"], 5, "one job")
    assert stack.queue("bob")["messages"] == 1
    bob = stack.ua("bob")
    bob.register()
    bob.wait_messages(1)
    wait_no_job(stack, "bob")


# ------------------------------------------------------- secrets and settings


def secret_file(tmp_path, text, mode=0o600):
    path = tmp_path / "push.secret"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("text,header", [
    ("Bearer %s\n" % SECRET, "Bearer " + SECRET),
    ("pf:%s\n" % SECRET, "Basic " + base64.b64encode(
        ("pf:" + SECRET).encode()).decode())], ids=["bearer", "basic"])
def test_credentials_are_told_to_the_gateway_alone(
        push, tmp_path, text, header):
    stack, gate = push(
        push_credentials=secret_file(tmp_path, text),
        push_retry_intervals="1")
    stack.expect_log("courier: retry")
    gate.answers = ["malformed", "echo"]
    send(stack, "bob")
    pushes = wait_pushes(gate, "bob", 3)
    assert [p.headers["Authorization"] for p in pushes] == [header] * 3
    stack.kamailio.wait_log("words.*left.*out")
    words = [SECRET, header.split()[1]]
    seen = [stack.kamailio.log(), stack.http("/metrics").text,
            stack.http("/v1/jobs").text, stack.rpc("core.psx"),
            stack.rpc("cfg.list")]
    for pid in stack.kamailio.left():
        seen.append(command_line(pid))
        with open("/proc/%d/environ" % pid, errors="replace") as f:
            seen.append(f.read())
    for word in words:
        assert not [s for s in seen if word in s]


def test_credentials_may_come_from_the_environment(push, monkeypatch):
    stack, gate = push(begin=False)
    monkeypatch.setenv("CPM_PUSH_CREDENTIALS", "Bearer " + SECRET)
    stack.start()
    send(stack, "bob")
    assert wait_pushes(gate, "bob", 1)[0].headers["Authorization"] == (
        "Bearer " + SECRET)
    assert SECRET not in stack.kamailio.log()


def certificate(tmp_path, name):
    need("openssl")
    cert, key = str(tmp_path / (name + ".pem")), str(tmp_path / (name + ".k"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=" + name, "-addext", "subjectAltName=IP:" + HOST,
         "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_a_gateway_is_believed_by_its_certificate(push, tmp_path):
    pair = certificate(tmp_path, "gateway")
    other = certificate(tmp_path, "other")
    stack, gate = push(certificate=pair, push_ca=pair[0])
    send(stack, "bob")
    wait_pushes(gate, "bob", 1)
    stack, gate = push(certificate=pair, push_ca=other[0],
                       push_credentials=secret_file(
                           tmp_path, "Bearer " + SECRET))
    send(stack, "bob")
    wait_until(lambda: [j["last_error"] for j in jobs(stack, "bob")
                        if j["last_error"]], 10, "an error is seen")
    assert "certificate" in jobs(stack, "bob")[0]["last_error"].lower()
    assert not gate.pushes


@pytest.mark.parametrize("name,value", [
    ("push_url", "ppg.example.org"), ("push_url", "ftp://ppg.example.org/"),
    ("push_url", "https://user:pw@ppg.example.org/"),
    ("push_format", "xml"), ("push_timeout", 0), ("push_max", 0),
    ("push_retry_intervals", "60,x"), ("push_retry_intervals", ""),
    ("push_data_ttl", 1), ("push_ca", "/nonexistent/ca.pem"),
    ("push_credentials", "/nonexistent/secret"),
    ("push_credentials", "readable by all")])
def test_an_invalid_value_stops_kamailio(new_stack, tmp_path, name, value):
    if value == "readable by all":
        value = secret_file(tmp_path, SECRET, 0o644)
    stack = new_stack({name: value}, redis=False)
    program = Program("start", stack.argv(), stack.directory)
    try:
        assert program.process.wait(10), program.log()[-2000:]
    finally:
        program.kill()
        program.expect_none_left()
    assert [line for line in program.log().split("\n")
            if "ERROR: cpm_pf" in line and name in line], program.log()[-2000:]
    assert "user:pw@" not in program.log()


def test_a_client_that_floods_is_bounded(push):
    stack, gate = push("json")
    # more clients than are remembered, and a token that is none
    for n in range(20):
        ua = stack.ua("bob")
        ua.contact += ";pn-provider=apns;pn-prid=t%02d" % n
        ua.register()
        wait_until(lambda: known(stack, "bob") >= min(n + 1, 16), 5,
                   "it is remembered")
        ua.register(0)
    ua = stack.ua("bob")
    ua.contact += ";pn-provider=apns;pn-prid=a%0d%0aX-Evil"
    ua.register()
    let_courier_work(stack, gate)
    assert known(stack, "bob") <= 17
    ua.register(0)
    send(stack, "bob")
    wait_until(lambda: len(gate.pushes) >= 18, 20, "sixteen pushes and two canaries")
    let_courier_work(stack, gate)
    assert len([p for p in gate.pushes
                if isinstance(p.address, dict)]) == 16
    assert b"Evil" not in b"".join(p.raw for p in gate.pushes)
