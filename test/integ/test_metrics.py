# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is counted, as Prometheus, Grafana and Kamailio's own tools see it."""

import http.client
import json
import os
import re
import subprocess
import urllib.parse

import pytest

from harness import (HOST, TOP, Failure, Program, free_port, need,
                     wait_until)

CFG = os.path.join(TOP, "cfg")
RULES = os.path.join(CFG, "prometheus-cpm_pf.rules.yml")
DASHBOARD = os.path.join(CFG, "grafana-cpm_pf.json")

# What is promised to be counted, whatever else is.
PROMISED = [
    "received", "queued", "duplicate", "delivered_message", "delivered_msrp",
    "retrieved", "discarded", "stored", "interworked", "expired", "dead",
    "quota_refused", "notified", "pushed", "store_failures", "redis_errors",
    "redis_up", "queue_users"]


def send(stack, user="bob", body=b"hello"):
    assert stack.ua("alice").message(
        "sip:%s@example.org" % user, body).code == 202


def bring(stack, user="bob", answers=()):
    client = stack.ua(user)
    client.answers = list(answers)
    client.register()
    stack.wait_empty(user, 10)


def promtool(*argv, text=None):
    return subprocess.run([need("promtool")] + list(argv), input=text,
                          capture_output=True, text=True, timeout=60)


def families(text):
    """{name: type} of what is exposed."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


def series(text, name):
    """{labels: value} of the samples of one name."""
    return {labels: float(value) for labels, value in re.findall(
        r"^%s(?:\{(.*)\})? (\S+)$" % name, text, re.M)}


# --------------------------------------------------------------- /metrics


def test_promtool_finds_nothing_to_say(shared, user):
    bob = user()
    send(shared, bob)
    bring(shared, bob)
    send(shared, user())
    text = shared.http("/metrics").text
    done = promtool("check", "metrics", text=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    names = families(text)
    for name in PROMISED:
        assert names.get("cpm_pf_%s_total" % name) == "counter" or names.get(
            "cpm_pf_" + name) == "gauge", name
    assert all(name.startswith("cpm_pf_") for name in names)
    assert series(text, "cpm_pf_build_info")
    # what has labels has few values, and no user in them
    assert set(re.findall(r"^\w+\{(\w+)=", text, re.M)) == {
        "version", "kind", "le"}
    assert bob not in text


def test_a_delivery_is_in_the_histograms(new_stack):
    stack = new_stack({"retry_intervals": "1"}).start()
    send(stack)
    send(stack)
    bring(stack, answers=[486])
    text = stack.http("/metrics").text
    attempts = series(text, "cpm_pf_delivered_attempts_bucket")
    assert attempts['le="1"'] == 1 and attempts['le="2"'] == 2
    assert attempts['le="+Inf"'] == 2
    assert series(text, "cpm_pf_delivered_attempts_sum") == {"": 3}
    assert series(text, "cpm_pf_delivered_attempts_count") == {"": 2}
    # the second waited a second for the first one's retry
    after = series(text, "cpm_pf_delivered_after_seconds_bucket")
    assert after['le="+Inf"'] == 2 and after['le="1"'] == 0
    assert 2 <= series(text, "cpm_pf_delivered_after_seconds_sum")[""] < 60
    calls = series(text, "cpm_pf_redis_command_seconds_bucket")
    assert calls['le="+Inf"'] >= 5
    assert list(calls.values()) == sorted(calls.values())


def test_the_oldest_message_is_as_old_as_it_is(new_stack):
    stack = new_stack().start()
    assert stack.metric("queue_oldest_seconds") == 0
    send(stack)
    first = stack.metric("queue_oldest_seconds")
    assert 0 <= first < 30
    send(stack, "carol")
    wait_until(lambda: stack.metric("queue_oldest_seconds") > first + 0.2, 5)
    bring(stack)
    assert stack.metric("queue_oldest_seconds") > 0  # carol's
    bring(stack, "carol")
    assert stack.metric("queue_oldest_seconds") == 0


def test_jobs_are_told_by_kind(new_stack, seed_program):
    stack = new_stack().start()
    send(stack)
    (item,) = stack.items("bob")
    # there is no ISF: the delivery worker gives it up
    stack.expect_log("no-isf")
    subprocess.run(
        [seed_program, str(stack.redis.port), "cpm"],
        input="interwork %s %s\n" % (b"sip:bob@example.org".hex(),
                                     item["id"].encode().hex()),
        capture_output=True, text=True, timeout=20, check=True)
    wait_until(lambda: stack.metric("jobs_given_up") == 1, 10)
    kinds = series(stack.http("/metrics").text, "cpm_pf_jobs_by_kind")
    assert kinds == {'kind="%s"' % k: k == "interwork" for k in (
        "store", "interwork", "stored", "failed", "push")}
    assert stack.metric("jobs") == 1
    assert stack.metric("queue_messages") == 0


def test_reading_it_costs_no_more_with_thousands_of_queues(new_stack):
    """Commands of Redis for one reading."""
    stack = new_stack().start()

    def commands():
        return int(re.search(r"total_commands_processed:(\d+)",
                             stack.redis.command("INFO", "stats").decode())[1])

    def cost():
        before = commands()
        assert stack.metric("redis_up") == 1
        return commands() - before
    empty = min(cost() for _ in range(3))
    assert empty < 500
    # what a queue is to whoever reads the sums: its name and its head
    lua = """for i = 1, 5000 do
        local k = 'cpm:{' .. i % 64 .. '}:'
        redis.call('ZADD', k .. 'users', 0, 'sip:u' .. i .. '@example.org')
        end return 0"""
    assert stack.redis.command("EVAL", lua, "0") == b":0\r\n"
    assert stack.metric("queue_users") == 5000
    assert min(cost() for _ in range(3)) < empty + 1500


# ------------------------------------------------------------- Prometheus


class Prometheus:
    """A real one, that looks every second, in a directory of its own."""

    def __init__(self, directory, target):
        self.port = free_port()
        config = os.path.join(directory, "prometheus.yml")
        with open(config, "w") as f:
            f.write("global: {scrape_interval: 1s, scrape_timeout: 1s,"
                    " evaluation_interval: 1s}\n"
                    "rule_files: ['%s']\n"
                    "scrape_configs:\n- job_name: cpm_pf\n"
                    "  static_configs: [{targets: ['%s:%d']}]\n" % (
                        RULES, HOST, target))
        self.program = Program("prometheus", [
            need("prometheus"), "--config.file=" + config,
            "--storage.tsdb.path=" + os.path.join(directory, "data"),
            "--web.listen-address=%s:%d" % (HOST, self.port)], directory)

    def get(self, path, **query):
        conn = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            conn.request("GET", "/api/v1/%s?%s" % (
                path, urllib.parse.urlencode(query)))
            response = conn.getresponse()
            if response.status == 503:
                return None  # it has not read its data yet
            answer = json.loads(response.read())
        except OSError:
            if not self.program.running:
                raise Failure(self.program.log()[-2000:])
            return None  # it does not listen yet
        finally:
            conn.close()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    def value(self, expr):
        """Of an expression that has one."""
        data = self.get("query", query=expr)
        rows = data["result"] if data else []
        return float(rows[0]["value"][1]) if len(rows) == 1 else None


@pytest.fixture
def prometheus(tmp_path):
    made = []

    def make(stack):
        directory = tmp_path / "prometheus"
        directory.mkdir()
        made.append(Prometheus(str(directory), stack.admin_port))
        return made[0]
    yield make
    for it in made:
        it.program.stop(20)


def expressions():
    """(panel, expression) of the dashboard."""
    with open(DASHBOARD) as f:
        return [(panel["title"], target["expr"])
                for panel in json.load(f)["panels"]
                for target in panel.get("targets", [])]


def test_prometheus_reads_it_and_the_dashboard_asks_for_what_there_is(
        new_stack, prometheus):
    stack = new_stack().start()
    send(stack)
    bring(stack)
    send(stack, "carol")
    there = prometheus(stack)
    wait_until(lambda: there.value('up{job="cpm_pf"}') == 1, 20,
               "Prometheus has read /metrics")
    (target,) = there.get("targets")["activeTargets"]
    assert target["lastError"] == "" and target["health"] == "up"
    wait_until(lambda: there.value("cpm_pf_queue_messages") == 1)
    assert there.value("cpm_pf_queued_total") == 2
    assert there.value("cpm_pf_delivered_message_total") == 1
    assert there.value("cpm_pf_delivered_after_seconds_count") == 1
    send(stack, "carol")
    wait_until(lambda: there.value("cpm_pf_queued_total") == 3, 10)
    # what it was told of each metric is what /metrics says
    metadata = there.get("metadata")
    for name, kind in families(stack.http("/metrics").text).items():
        assert metadata[name][0]["type"] == kind and metadata[name][0]["help"]
    # rates need two readings
    for title, expr in expressions():
        expr = expr.replace("$__rate_interval", "1m").replace("$instance",
                                                              ".*")
        data = there.get("query", query=expr)
        assert data["result"], (title, expr)
    # no alert in ordinary operation, one of Redis when it is gone
    assert len(there.get("rules")["groups"][0]["rules"]) > 10
    assert there.get("alerts")["alerts"] == []
    stack.expect_log("store: down", "cpm_pf_worker")
    stack.redis.kill()
    wait_until(lambda: "CpmPfRedisDown" in [
        a["labels"]["alertname"] for a in there.get("alerts")["alerts"]], 20)


# ---------------------------------------------------- dashboard and rules


def metrics_of(expr):
    return set(re.findall(r"\bcpm_pf_\w+", expr))


def exposed(stack):
    """The names of all samples that may be asked for."""
    names = set()
    for name, kind in families(stack.http("/metrics").text).items():
        names |= {name + s for s in ("_bucket", "_sum", "_count")
                  } if kind == "histogram" else {name}
    return names


def test_the_dashboard_can_be_imported(shared):
    with open(DASHBOARD) as f:
        board = json.load(f)
    assert board["title"] == "cpm_pf" and board["uid"]
    assert board["schemaVersion"] >= 36
    assert "id" not in board  # Grafana gives it
    variables = {v["name"] for v in board["templating"]["list"]}
    panels = board["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus",
                                       "uid": "${datasource}"}
        assert panel["targets"]
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= (
                variables | {"__rate_interval"})
    known = exposed(shared)
    for title, expr in expressions():
        assert metrics_of(expr) and metrics_of(expr) <= known, (title, expr)


def test_the_rules_are_right(shared):
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(RULES) as f:
        text = f.read()
    exprs = re.findall(r"^ +expr: (.*(?:\n {10}.*)*)", text, re.M)
    assert len(exprs) == text.count("- alert:")
    known = exposed(shared)
    for expr in exprs:
        assert metrics_of(expr) <= known, expr


def test_each_rule_fires_when_it_should_and_not_else():
    path = os.path.join(TOP, "test", "data", "prometheus-cpm_pf.test.yml")
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(RULES) as f:
        alerts = set(re.findall(r"- alert: (\w+)", f.read()))
    with open(path) as f:
        tried = set(re.findall(r'alertname="(\w+)"', f.read()))
    assert alerts == tried


# ------------------------------------------------------------- statistics


def test_kamailios_own_tools_show_the_group(new_stack):
    stack = new_stack().start()
    send(stack)
    bring(stack)
    send(stack, "carol")
    send(stack, "dave")
    shown = dict(re.findall(r"cpm_pf:(\w+) = (\d+)", stack.rpc(
        "stats.get_statistics", "cpm_pf:")))
    assert set(PROMISED) <= set(shown)
    assert {name: shown[name] for name in (
        "received", "queued", "delivered_message", "redis_up", "queue_users",
        "queue_messages", "queue_dead")} == {
            "received": "3", "queued": "3", "delivered_message": "1",
            "redis_up": "1", "queue_users": "2", "queue_messages": "2",
            "queue_dead": "0"}
    # one by one, and by the name that a script uses
    assert "queued = 3" in stack.rpc("stats.get_statistics", "queued")
    bring(stack, "carol")
    wait_until(lambda: "cpm_pf:queue_users = 1" in stack.rpc(
        "stats.get_statistics", "cpm_pf:"), 5)


def test_statistics_are_what_they_were_without_redis(new_stack):
    stack = new_stack().start()
    send(stack)
    assert "queue_users = 1" in stack.rpc("stats.get_statistics", "cpm_pf:")
    stack.expect_log("store: down", "admin:")
    stack.redis.kill()
    assert stack.ua("alice").message("sip:bob@example.org", b"x").code == 503
    shown = stack.rpc("stats.get_statistics", "cpm_pf:")
    assert "cpm_pf:redis_up = 0" in shown
    assert "cpm_pf:queue_users = 1" in shown
