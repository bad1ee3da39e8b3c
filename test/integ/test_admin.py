# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP endpoint as an operator sees it."""

import re

import pytest


def fill(stack, users, each=1):
    alice = stack.ua("alice")
    for name in users:
        for i in range(each):
            assert alice.message("sip:%s@example.org" % name,
                                 b"%d" % i).code == 202


def test_live_and_ready_and_metrics_need_no_token(shared):
    assert shared.http("/livez").status == 200
    assert shared.http("/readyz").status == 200
    metrics = shared.http("/metrics")
    assert metrics.status == 200
    assert metrics.type == "text/plain"
    assert shared.metric("redis_up") == 1


def test_every_metric_has_help_and_type_and_no_user(shared, user):
    bob = user()
    fill(shared, [bob])
    text = shared.http("/metrics").text
    assert bob not in text
    names = set(re.findall(r"^(cpm_pf_\w+?)(?:_bucket|_sum|_count)?(?:\{.*\})? ",
                           text, re.M))
    assert names
    for name in names:
        assert re.search(r"^# HELP %s \S" % name, text, re.M), name
        assert re.search(r"^# TYPE %s (counter|gauge|histogram)$" % name,
                         text, re.M), name


def test_counters_tell_the_story(new_stack):
    stack = new_stack().start()
    alice = stack.ua("alice")
    raw = alice.build("MESSAGE", "sip:bob@example.org",
                      [("Content-Type", "text/plain")], b"x")
    alice.transact(raw)
    # the same once more, in a transaction of its own
    alice.transact(raw.replace(b"branch=z9hG4bK", b"branch=z9hG4bKagain"))
    alice.message("sip:bob@example.org", b"", None)
    assert [stack.metric(n) for n in (
        "received", "queued", "duplicate", "refused")] == [3, 1, 1, 1]
    bob = stack.ua("bob")
    bob.answers = [486]
    bob.register()
    bob.wait_messages(2, 10)
    stack.wait_empty("bob")
    assert stack.metric("delivered_message") == 1
    assert stack.metric("delivery_failed") == 1
    assert "queued" in stack.rpc("stats.fetch", "cpm_pf:")


def test_queues_are_listed_by_name_in_pages(new_stack):
    stack = new_stack().start()
    users = ["user%02d" % i for i in range(25)]
    fill(stack, users, 2)
    seen, cursor, pages = [], "", 0
    while True:
        page = stack.http("/v1/queues?limit=10" + cursor).json
        assert len(page["items"]) <= 10
        seen += page["items"]
        pages += 1
        if not page["next"]:
            break
        cursor = "&cursor=" + page["next"]
        assert pages < 50
    assert sorted(q["user"] for q in seen) == [
        "sip:%s@example.org" % u for u in users]
    assert all(q["messages"] == 2 for q in seen)


def test_messages_are_listed_in_pages_and_count_equals_length(
        shared, user):
    bob = user()
    fill(shared, [bob], 12)
    seen, cursor = [], ""
    while True:
        page = shared.http(shared.queue_path(
            bob, "/messages?limit=5" + cursor)).json
        seen += page["items"]
        if not page["next"]:
            break
        cursor = "&cursor=" + page["next"]
        assert len(seen) < 100
    assert len(seen) == 12 == shared.queue(bob)["messages"]
    assert len({m["id"] for m in seen}) == 12
    assert [m["received"] for m in seen] == sorted(
        m["received"] for m in seen)


@pytest.mark.parametrize("path,status", [
    ("/nothing/here", 404), ("/v1/queues/sip%3Anobody%40example.org", 404),
    ("/v1/queues/sip%3Anobody%40example.org/messages/x", 404),
    ("/v1/queues/not-an-aor", 400), ("/v1/queues?limit=0", 400),
    ("/v1/queues?limit=501", 400), ("/v1/queues?limit=x", 400),
    ("/v1/queues?cursor=%00garbage", 400)])
def test_a_bad_request_gets_a_problem_document(shared, path, status):
    answer = shared.http(path)
    assert answer.status == status
    assert answer.type == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["title"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_method_that_is_not_there_gets_405(shared, method):
    answer = shared.http("/v1/queues", method)
    assert answer.status == 405
    assert "GET" in answer.header("Allow")


def test_no_body_is_shown(shared, user):
    bob = user()
    secret = b"a-very-secret-text"
    shared.ua("alice").message("sip:%s@example.org" % bob, secret)
    item = shared.items(bob)[0]
    for path in ("", "/messages", "/messages/" + item["id"],
                 "/messages/" + item["id"] + "?include=body"):
        text = shared.http(shared.queue_path(bob, path)).text
        assert "secret" not in text
        assert "YS12ZXJ5LXNlY3JldC10ZXh0" not in text
    assert "secret" not in shared.kamailio.log()


def test_with_a_token_file_only_a_token_opens_the_queues(new_stack, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("read reader-token\nread-write writer-token\n")
    tokens.chmod(0o600)
    stack = new_stack({"admin_token_file": str(tokens)}).start()
    refused = stack.http("/v1/queues")
    assert refused.status == 401
    assert "Bearer" in refused.header("WWW-Authenticate")
    for token, status in (("reader-token", 200), ("writer-token", 200),
                          ("reader-toke", 401), ("", 401)):
        answer = stack.http("/v1/queues", headers={
            "Authorization": "Bearer " + token})
        assert answer.status == status, token
    assert stack.http("/livez").status == 200
    assert "token" not in stack.kamailio.log().replace("admin_token", "")


def test_what_users_write_is_no_html_and_no_json_of_ours(shared, user):
    bob = user()
    nasty = "</script><b>\\\" {\"x\":1}"
    shared.ua("alice").message("sip:%s@example.org" % bob, b"x",
                               headers=[("Subject", nasty)])
    assert shared.items(bob)[0]["subject"] == nasty
