# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Things break; no message is lost, and SIP goes on."""

import os
import re
import signal
import time

from harness import command_line, wait_until

REDIS_TROUBLE = r"(WARNING|ERROR): cpm_pf.*(redis|store)"


def send(stack, to="bob", body=b"x", **kw):
    return stack.ua("alice").message("sip:%s@example.org" % to, body, **kw)


def assert_503(response):
    assert response.code == 503
    assert int(response.get("retry-after")) > 0
    assert response.elapsed < 0.3, "%.0f ms" % (response.elapsed * 1000)


def test_a_202_survives_the_death_of_every_kamailio_process(new_stack):
    stack = new_stack().start()
    assert send(stack, body=b"survivor").code == 202
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()
    stack.check_log()
    stack.start_kamailio()
    assert stack.queue("bob")["messages"] == 1
    bob = stack.ua("bob")
    bob.register()
    assert bob.wait_messages(1)[0].body == b"survivor"
    stack.wait_empty("bob")


def test_a_202_survives_the_death_of_redis(new_stack):
    stack = new_stack().start()
    assert send(stack, body=b"survivor").code == 202
    # appendfsync everysec: what was written is with the kernel already
    stack.redis.kill()
    stack.redis.start()
    stack.expect_log(REDIS_TROUBLE)
    stack.wait_ready()
    bob = stack.ua("bob")
    bob.register()
    assert bob.wait_messages(1, 10)[0].body == b"survivor"
    stack.wait_empty("bob")


def test_a_delivery_that_kamailio_did_not_survive_is_done_again(new_stack):
    stack = new_stack({"lease_time": 2}).start()
    assert send(stack, body=b"twice perhaps, lost never").code == 202
    bob = stack.ua("bob", answer=None)
    bob.register()
    first = bob.wait_messages(1)[0]
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()
    stack.check_log()
    stack.start_kamailio()
    bob.answer = 200
    bob.register()
    second = bob.wait_messages(2, 15)[1]
    assert second.body == first.body
    # so that a client can tell that it is the same
    assert second.call_id == first.call_id
    stack.wait_empty("bob")


def test_with_redis_down_the_answer_is_503_at_once_until_it_is_back(
        new_stack):
    stack = new_stack().start()
    assert send(stack).code == 202
    stack.expect_log(REDIS_TROUBLE)
    stack.redis.stop()
    for _ in range(5):
        assert_503(send(stack))
    ready = stack.http("/readyz")
    assert ready.status == 503
    assert "redis" in ready.text.lower()
    assert stack.http("/livez").status == 200
    assert stack.metric("redis_up") == 0
    assert stack.metric("store_failures") >= 5
    assert stack.http("/v1/queues").status == 503
    stack.redis.start()
    wait_until(lambda: send(stack, body=b"back").code == 202, 10)
    stack.wait_ready()
    assert stack.metric("redis_up") == 1
    bob = stack.ua("bob")
    bob.register()
    bob.wait_messages(2, 10)
    stack.wait_empty("bob")
    assert bob.bodies == [b"x", b"back"]


def test_with_redis_hanging_the_answer_is_503_within_300_ms(new_stack):
    stack = new_stack().start()
    stack.ua("warm-up").message("sip:carol@example.org", b"x")
    stack.expect_log(REDIS_TROUBLE)
    stack.redis.freeze()
    try:
        for _ in range(5):
            assert_503(send(stack, body=b"never twice"))
    finally:
        stack.redis.thaw()
    wait_until(lambda: send(stack, "carol", b"y").code == 202, 10)
    # what was unsure may be queued, but no message twice
    bob = stack.ua("bob")
    bob.register()
    wait_until(lambda: stack.queue("bob") is None, 10)
    assert len(bob.messages) <= 5
    assert len({m.call_id for m in bob.messages}) == len(bob.messages)


def test_a_hanging_redis_queues_a_retried_message_once(new_stack):
    stack = new_stack().start()
    stack.expect_log(REDIS_TROUBLE)
    alice = stack.ua("alice")
    raw = alice.build("MESSAGE", "sip:bob@example.org",
                      [("Content-Type", "text/plain")], b"once")
    stack.redis.freeze()
    try:
        assert alice.transact(raw).code == 503
    finally:
        stack.redis.thaw()
    wait_until(lambda: alice.transact(raw).code == 202, 10)
    assert stack.queue("bob")["messages"] == 1


def test_other_requests_are_served_while_redis_hangs(new_stack):
    stack = new_stack().start()
    stack.expect_log(REDIS_TROUBLE)
    carol = stack.ua("carol")
    stack.redis.freeze()
    try:
        for _ in range(5):
            start = time.monotonic()
            carol.register()
            assert time.monotonic() - start < 0.3
        assert stack.ua("alice").message(
            "sip:carol@example.org", b"online").code == 200
    finally:
        stack.redis.thaw()
    assert carol.bodies == [b"online"]


def test_kamailio_starts_without_redis_and_works_when_it_comes(new_stack):
    stack = new_stack(redis=False)
    stack.expect_log(REDIS_TROUBLE)
    stack.start(ready=False)
    stack.kamailio.wait_log(
        r"(WARNING|ERROR|CRITICAL): .*(redis|Redis|store)")
    assert_503(send(stack))
    assert stack.http("/readyz").status == 503
    stack.redis.start()
    stack.wait_ready()
    wait_until(lambda: send(stack, body=b"late").code == 202, 10)
    bob = stack.ua("bob")
    bob.register()
    assert bob.wait_messages(1, 10)[0].body == b"late"
    stack.wait_empty("bob")


def test_a_redis_that_forgot_its_scripts_is_taught_them_again(shared, user):
    bob = user()
    assert shared.redis.command("SCRIPT", "FLUSH") == b"+OK\r\n"
    assert send(shared, bob).code == 202
    assert shared.redis.command("SCRIPT", "FLUSH") == b"+OK\r\n"
    client = shared.ua(bob)
    client.register()
    client.wait_messages(1)
    shared.wait_empty(bob)


def test_a_redis_that_is_out_of_memory_makes_503(new_stack):
    stack = new_stack().start()
    stack.expect_log(REDIS_TROUBLE)
    stack.redis.command("CONFIG", "SET", "maxmemory", "1")
    assert_503(send(stack))
    stack.redis.command("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: send(stack).code == 202, 5)
    assert stack.queue("bob")["messages"] == 1


def test_a_crash_of_the_admin_worker_does_not_touch_sip(new_stack):
    stack = new_stack().start()
    stack.expect_log(r"cpm_pf")
    before = wait_until(stack.workers, 5)
    for pid in before:
        os.kill(pid, signal.SIGSEGV)
    response = send(stack)
    assert response.code == 202
    assert response.elapsed < 0.3
    wait_until(lambda: stack.http_status("/livez") == 200, 10,
               "the admin endpoint is back")
    after = stack.workers()
    assert after and not set(after) & set(before)
    assert stack.kamailio.running
    assert stack.queue("bob")["messages"] == 1
    assert stack.metric("worker_restarts") >= 1


def test_a_worker_that_dies_again_and_again_costs_no_process(new_stack):
    stack = new_stack().start()
    stack.expect_log(r"cpm_pf")
    for _ in range(3):
        pids = wait_until(stack.workers, 20)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda old=pids: not set(old) & set(stack.workers()), 5)
    assert send(stack).code == 202
    wait_until(lambda: stack.http_status("/livez") == 200, 30)
    assert len(stack.workers()) == 1


def test_sigterm_leaves_no_process_behind(new_stack):
    stack = new_stack().start()
    assert wait_until(stack.workers, 5)
    assert send(stack).code == 202
    # Kamailio's own: whose child ends first is seen by another one of them
    stack.expect_log(r"receive_fd\(\): EOF on ")
    stack.kamailio.stop(timeout=5)
    assert stack.kamailio.left() == []
    assert stack.http_status("/livez") is None


def test_the_main_process_dying_takes_the_rest_with_it(new_stack):
    stack = new_stack().start()
    workers = wait_until(stack.workers, 5)
    stack.expect_log(r"receive_fd\(\): EOF on ")
    os.kill(stack.kamailio.pid, signal.SIGKILL)
    stack.kamailio.process.wait(5)
    # Kamailio's own children stay when its main process is killed alone;
    # what the nursery started goes with the nursery
    nursery = [p for p in stack.kamailio.left() if p not in workers]
    for pid in nursery:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # the delivery worker and the nursery end by themselves
    stack.kamailio.expect_none_left()


def test_two_kamailios_share_one_queue(new_stack):
    one = new_stack().start()
    two = new_stack(redis=False)
    two.redis.port = one.redis.port
    two.start()
    for i in range(10):
        assert send((one, two)[i % 2], body=b"%d" % i).code == 202
    assert one.queue("bob") == two.queue("bob")
    bob = two.ua("bob")
    bob.register()
    bob.wait_messages(10)
    one.wait_empty("bob")
    assert bob.bodies == [b"%d" % i for i in range(10)]


def test_a_client_registered_at_two_kamailios_gets_each_message_once(
        new_stack):
    one = new_stack().start()
    two = new_stack(redis=False)
    two.redis.port = one.redis.port
    two.start()
    for i in range(10):
        assert send(one, body=b"%d" % i).code == 202
    bobs = [one.ua("bob"), two.ua("bob")]
    for bob in bobs:
        bob.register()
    one.wait_empty("bob", 10)
    bodies = [b for bob in bobs for b in bob.bodies]
    assert sorted(bodies) == [b"%d" % i for i in range(10)]
    for bob in bobs:
        assert bob.bodies == sorted(bob.bodies)


def test_kamailios_processes_have_names_that_tell_what_they_do(shared):
    names = shared.rpc("core.psx")
    assert re.search(r"(?i)cpm.*deliver", names), names
    assert re.search(r"(?i)cpm.*nursery", names), names
    assert "cpm_pf_worker" in command_line(wait_until(shared.workers)[0])
