# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Redis with Sentinel, and as a Cluster, under a Kamailio that is in use:
masters change and slots move while MESSAGEs come in, and none is lost."""

import os
import re
import signal
import socket
import threading
import time

import pytest

import databases
import sipua
from harness import HOST, Failure, Program, Redis, free_port, wait_until

REDIS_TROUBLE = r"(WARNING|ERROR): cpm_pf.*(redis|store)"
GROUP = "cpm"
SLOTS = 16384
WAIT_MS = 200
# What io_redis.h promises of a call with Sentinel or Cluster that is not
# connected: 2 x 500 ms and 2 x 250 ms, and WAIT; and a second for this
# machine, which is busy with the test itself.
ANSWER_WITHIN = 1.5 + WAIT_MS / 1000 + 1.0


# ------------------------------------------------------------------ servers


class ReplyError(Exception):
    pass


def _read_reply(f):
    line = f.readline()
    if not line.endswith(b"\r\n"):
        raise OSError("the server closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise ReplyError(rest.decode())
    if kind == b"+":
        return rest.decode()
    if kind == b":":
        return int(rest)
    if int(rest) < 0:
        return None
    if kind == b"$":
        return f.read(int(rest) + 2)[:-2].decode("utf-8", "replace")
    return [_read_reply(f) for _ in range(int(rest))]


class Server(Redis):
    """A redis-server with arguments of its own; it may be started again."""

    def __init__(self, directory, *args):
        directory.mkdir()
        super().__init__(str(directory))
        self.args = [str(a) for a in args]

    def start(self):
        self.program = Program("redis", [
            "redis-server", "--port", str(self.port), "--bind", HOST,
            "--dir", self.directory, "--save", "", "--appendonly", "yes",
            "--appendfsync", "everysec", "--daemonize", "no",
            "--repl-diskless-sync-delay", "0",
            # else a master waits up to 10 s for a replica that is behind, or
            # gone already, before it ends
            "--shutdown-timeout", "0"] + self.args, self.directory)
        wait_until(self.answers, 10, "Redis answers")
        return self

    def ask(self, *words):
        wire = b"*%d\r\n" % len(words)
        for word in words:
            data = str(word).encode()
            wire += b"$%d\r\n%s\r\n" % (len(data), data)
        with socket.create_connection((HOST, self.port), timeout=5) as s:
            s.sendall(wire)
            with s.makefile("rb") as f:
                return _read_reply(f)

    def ask_pairs(self, *words):
        reply = self.ask(*words)
        return dict(zip(reply[::2], reply[1::2]))

    def info(self, section):
        return dict(re.findall(r"^([^:#]+):(.*)\r$",
                               self.ask("INFO", section), re.M))


class Sentinel(Server):
    def __init__(self, directory, master_port):
        super().__init__(directory)
        self.path = os.path.join(self.directory, "sentinel.conf")
        with open(self.path, "w") as f:
            f.write("port %d\nbind %s\ndir %s\n"
                    "sentinel monitor %s %s %d 2\n"
                    "sentinel down-after-milliseconds %s 1000\n"
                    "sentinel failover-timeout %s 3000\n" % (
                        self.port, HOST, self.directory, GROUP, HOST,
                        master_port, GROUP, GROUP))

    def start(self):
        self.program = Program(
            "sentinel", ["redis-server", self.path, "--sentinel"],
            self.directory)
        wait_until(self.answers, 10, "Sentinel answers")
        # it looks after its servers more often than every ten seconds, so
        # that a test need not wait for that
        self.ask("SENTINEL", "DEBUG", "INFO-PERIOD", "300", "PING-PERIOD",
                 "200", "PUBLISH-PERIOD", "200")
        return self

    def master_port(self):
        return int(self.ask("SENTINEL", "get-master-addr-by-name", GROUP)[1])

    def is_ready(self, replicas):
        """It knows all others, and so many that could be promoted."""
        master = self.ask_pairs("SENTINEL", "master", GROUP)
        links = [dict(zip(r[::2], r[1::2]))
                 for r in self.ask("SENTINEL", "replicas", GROUP)]
        return (master["num-other-sentinels"] == "2"
                and [(r["flags"], r["master-link-status"]) for r in links]
                == [("slave", "ok")] * replicas)


@pytest.fixture
def servers():
    """Started things; they are stopped after the Kamailio that uses them."""
    started = []
    yield started
    problems = []
    for server in started:
        try:
            if server.program.running:
                server.program.signal(signal.SIGCONT)
            server.stop()
        except Failure as e:
            problems.append(str(e))
    if problems:
        pytest.fail("\n".join(problems))


class SentinelGroup:
    """A master, its replicas, three sentinels."""

    def __init__(self, servers, directory, replicas=1):
        self.first = Server(directory / "first").start()
        servers.append(self.first)
        self.replicas = []
        for i in range(replicas):
            self.replicas.append(Server(
                directory / ("replica%d" % i), "--replicaof", HOST,
                self.first.port).start())
            servers.append(self.replicas[-1])
        wait_until(lambda: all(r.info("replication")["master_link_status"]
                               == "up" for r in self.replicas), 10,
                   "the replicas have all")
        self.sentinels = [Sentinel(directory / ("sentinel%d" % i),
                                   self.first.port) for i in range(3)]
        for sentinel in self.sentinels:
            servers.append(sentinel.start())
        wait_until(lambda: all(s.is_ready(replicas) for s in self.sentinels),
                   20, "the sentinels know each other and the replicas")

    def string(self):
        return "sentinel_group=%s;%s" % (GROUP, ";".join(
            "sentinel=%s:%d" % (HOST, s.port) for s in self.sentinels))

    def wait_promoted(self):
        """Until every sentinel names the same replica, which is returned."""
        def promoted():
            ports = {s.master_port() for s in self.sentinels}
            return next((r for r in self.replicas if {r.port} == ports), None)

        return wait_until(promoted, 25, "a replica is the master")

    def wait_turned(self):
        """Until the first server is a replica."""
        wait_until(lambda: self.first.info("replication")["role"] == "slave"
                   and self.first.info("replication")["master_link_status"]
                   == "up", 25, "the old master is a replica")


@pytest.fixture
def sentinel(servers, new_stack, tmp_path):
    """Makes (group, Kamailio): messages are written to two servers before
    they are answered 202."""

    def sentinel(replicas=1):
        group = SentinelGroup(servers, tmp_path, replicas)
        stack = new_stack(
            {"redis_wait_replicas": 1, "redis_wait_ms": WAIT_MS,
             "queue_max_messages": 0},
            redis=False, defines={"REDIS": '"%s"' % group.string()}).start()
        stack.expect_log(REDIS_TROUBLE)
        return group, stack

    return sentinel


# --------------------------------------------------------------------- load


class Sender(threading.Thread):
    """Sends one message after another, each until it is taken: the same
    request in a new transaction. Messages are "<sender> <number>"."""

    def __init__(self, stack, name, users):
        super().__init__(daemon=True)
        self.ua = stack.ua(name)
        self.users = users
        self.enough = threading.Event()
        self.number = 0
        self.taken = {user: [] for user in users}
        self.answers = []   # of each attempt: (user, response or None)

    def attempt(self, raw, user):
        branch = sipua.Message(raw).branch.encode()
        raw = raw.replace(branch, self.ua.new_branch().encode())
        try:
            response = self.ua.transact(raw, 10)
        except sipua.SipError:
            response = None
        self.answers.append((user, response))
        return response is not None and 200 <= response.code < 300

    def run(self):
        while not self.enough.is_set():
            user = self.users[self.number % len(self.users)]
            body = b"%s %d" % (self.ua.user.encode(), self.number)
            raw = self.ua.build(
                "MESSAGE", "sip:%s@example.org" % user,
                [("Content-Type", "text/plain")], body)
            deadline = time.monotonic() + 40
            while not self.attempt(raw, user):
                if time.monotonic() > deadline:
                    return  # seen by whoever waits for more
                time.sleep(0.1)
            self.taken[user].append(body)
            self.number += 1
            time.sleep(0.02)


class Load:
    """Senders, and somebody who asks OPTIONS all the time."""

    def __init__(self, stack, senders):
        """senders: (name, users)"""
        self.stack = stack
        self.senders = [Sender(stack, *s) for s in senders]
        self.quiet = threading.Event()
        self.options = []   # seconds, or None
        self.prober = threading.Thread(target=self._probe, daemon=True)

    def _probe(self):
        ua = self.stack.ua("prober")
        while not self.quiet.wait(0.05):
            try:
                self.options.append(ua.request(
                    "OPTIONS", "sip:%s:%d" % (HOST, self.stack.sip_port),
                    timeout=10).elapsed)
            except sipua.SipError:
                self.options.append(None)

    def start(self):
        for thread in self.senders + [self.prober]:
            thread.start()
        return self

    def wait_more(self, count, timeout=30):
        """Until each sender had so many more messages taken."""
        goals = [(s, s.number + count) for s in self.senders]
        wait_until(lambda: all(s.number >= n for s, n in goals), timeout,
                   "each sender had %d more messages taken" % count)

    def refusals(self):
        """(user, response) of what was not taken."""
        return [(user, r) for s in self.senders for user, r in s.answers
                if r is None or r.code >= 300]

    def end(self):
        for sender in self.senders:
            sender.enough.set()
        for sender in self.senders:
            sender.join(60)
            assert not sender.is_alive()
        self.quiet.set()
        self.prober.join(15)

    def assert_answered(self):
        """SIP was served, whatever happened to Redis."""
        for _, response in self.refusals():
            assert response is not None, "a MESSAGE was not answered"
            assert response.code == 503, response
            assert int(response.get("retry-after")) > 0
            assert response.elapsed < ANSWER_WITHIN
        assert self.options and None not in self.options
        assert max(self.options) < ANSWER_WITHIN

    def assert_delivered(self, timeout=30):
        """Every message that was taken comes once and in order."""
        users = sorted({u for s in self.senders for u in s.users})
        clients = {user: self.stack.ua(user) for user in users}
        for client in clients.values():
            client.register()
        for user, client in clients.items():
            self.stack.wait_empty(user, timeout)
            bodies = client.bodies
            assert len(bodies) == len(set(bodies)), "something came twice"
            for sender in self.senders:
                mine = [b for b in bodies
                        if b.startswith(sender.ua.user.encode() + b" ")]
                assert mine == sender.taken.get(user, [])


def eight_users():
    return ["user%d" % i for i in range(8)]


def load_on(stack):
    users = eight_users()
    return Load(stack, [("sender%d" % i, users[i:] + users[:i])
                        for i in range(4)]).start()


def assert_admin_serves(stack, users):
    """Ready, and it lists the queues, without anybody's help."""
    stack.wait_ready(20)

    def listed():
        answer = stack.http("/v1/queues")
        return answer.status == 200 and {
            "sip:%s@example.org" % u for u in users} <= {
            q["user"] for q in answer.json["items"]}

    wait_until(listed, 20, "/v1/queues lists all users")


# ----------------------------------------------------------------- Sentinel


def test_nothing_is_lost_when_the_sentinels_change_masters_in_order(sentinel):
    group, stack = sentinel()
    load = load_on(stack)
    load.wait_more(25)
    wait_until(lambda: ordered(group), 10, "a failover can begin")
    new = group.wait_promoted()
    group.wait_turned()
    load.wait_more(25)
    load.end()
    load.assert_answered()
    assert_admin_serves(stack, eight_users())
    load.assert_delivered()
    assert new.info("replication")["role"] == "master"


def test_an_old_master_that_does_not_know_it_is_left_by_its_writers(sentinel):
    group, stack = sentinel(replicas=2)
    alice = Sender(stack, "alice", ["bob"])
    # who is no master any more would be told within a second or so
    for each in group.sentinels:
        each.ask("SENTINEL", "DEBUG", "PUBLISH-PERIOD", "60000")
    wait_until(lambda: ordered(group), 10, "a failover can begin")
    new = group.wait_promoted()
    (other,) = [r for r in group.replicas if r is not new]
    wait_until(lambda: other.info("replication")["master_port"]
               == str(new.port) and other.info("replication")
               ["master_link_status"] == "up", 20, "the others follow")
    assert group.first.info("replication")["role"] == "master"
    raw = alice.ua.build("MESSAGE", "sip:bob@example.org",
                         [("Content-Type", "text/plain")], b"x")
    wait_until(lambda: alice.attempt(raw, "bob"), 10)
    assert group.first.info("replication")["role"] == "master"
    assert len(new.ask("KEYS", "*:q:sip:bob@example.org")) == 1


def ordered(group):
    try:
        return group.sentinels[0].ask("SENTINEL", "FAILOVER", GROUP) == "OK"
    except ReplyError:
        return False


def test_nothing_is_lost_when_the_master_is_killed(sentinel):
    group, stack = sentinel()
    load = load_on(stack)
    load.wait_more(25)
    group.first.kill()
    group.wait_promoted()
    assert_admin_serves(stack, eight_users())
    # there is one copy of everything now, which is not what a 202 promises
    before = len(load.refusals())
    wait_until(lambda: len(load.refusals()) > before + 3, 10)
    # whoever looks after the dead one starts it again
    group.first.start()
    load.wait_more(25)
    load.end()
    load.assert_answered()
    load.assert_delivered()


def test_nothing_is_lost_when_the_master_hangs_and_comes_back(sentinel):
    group, stack = sentinel()
    load = load_on(stack)
    load.wait_more(25)
    group.first.freeze()
    group.wait_promoted()
    assert_admin_serves(stack, eight_users())
    # it believes that it is the master still, and has commands to execute
    group.first.thaw()
    group.wait_turned()
    load.wait_more(25)
    load.end()
    load.assert_answered()
    assert_admin_serves(stack, eight_users())
    load.assert_delivered()


def test_no_202_is_given_for_what_no_replica_has(sentinel):
    group, stack = sentinel()
    alice = Sender(stack, "alice", ["bob"])
    raw = alice.ua.build("MESSAGE", "sip:bob@example.org",
                         [("Content-Type", "text/plain")], b"x")
    group.replicas[0].freeze()
    try:
        # the retry finds it in the queue, and the replica has it no more
        # than before: whichever process is asked
        for _ in range(6):
            assert not alice.attempt(raw, "bob")
            assert alice.answers[-1][1].code == 503
        assert stack.queue("bob")["messages"] == 1
    finally:
        group.replicas[0].thaw()
    wait_until(lambda: alice.attempt(raw, "bob"), 15)
    assert stack.queue("bob")["messages"] == 1


# ------------------------------------------------------------------ Cluster


class Cluster:
    """Three masters without replicas, a third of the slots each. A node that
    is gone is missed by the users of its slots only."""

    def __init__(self, servers, directory):
        self.nodes = []
        for i in range(3):
            bus = free_port()
            node = Server(
                directory / ("node%d" % i), "--cluster-enabled", "yes",
                "--cluster-port", bus, "--cluster-node-timeout", "1500",
                "--cluster-require-full-coverage", "no")
            node.bus = bus
            servers.append(node.start())
            self.nodes.append(node)
            node.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * i // 3,
                     SLOTS * (i + 1) // 3 - 1)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", HOST, self.nodes[0].port,
                     self.nodes[0].bus)
        self.wait_ok(self.nodes)

    def wait_ok(self, nodes):
        """Until each of these knows of three that serve all slots."""

        def ok():
            for node in nodes:
                info = dict(re.findall(r"^(\w+):(\w+)",
                                       node.ask("CLUSTER", "INFO"), re.M))
                if (info["cluster_state"], info["cluster_known_nodes"],
                        info["cluster_slots_ok"]) != ("ok", "3", str(SLOTS)):
                    return False
            return True

        wait_until(ok, 20, "the cluster is complete")

    def kill(self, i):
        """Ends a node; returns it as soon as the others miss it."""
        self.nodes[i].kill()
        others = self.nodes[:i] + self.nodes[i + 1:]
        wait_until(lambda: all("cluster_slots_fail:0\r\n" not in n.ask(
            "CLUSTER", "INFO") for n in others), 20, "the others miss it")
        return self.nodes[i]

    def string(self, i):
        return "cluster=1;addr=%s;port=%d" % (HOST, self.nodes[i].port)

    def slot(self, user):
        """(node, slot) of a user's queue, which is not empty."""
        for node in self.nodes:
            keys = node.ask("KEYS", "*:q:sip:%s@example.org" % user)
            if keys:
                return node, node.ask("CLUSTER", "KEYSLOT", keys[0])
        raise Failure("%s has no queue" % user)


@pytest.fixture
def cluster(servers, new_stack, tmp_path):
    """Makes (cluster, Kamailio); Kamailio is told of two of the nodes."""

    def cluster(settings=None, defines=None, **kw):
        made = Cluster(servers, tmp_path)
        stack = new_stack(
            {"redis": made.string(1), "queue_max_messages": 0,
             **(settings or {})}, redis=False,
            defines={"REDIS": '"%s"' % made.string(0), **(defines or {})},
            **kw).start()
        return made, stack

    return cluster


def send(stack, user, body=b"x", headers=()):
    return stack.ua("alice").message("sip:%s@example.org" % user, body,
                                     headers=list(headers))


def by_node(made, stack, count):
    """So many users of each node, with one message each: a list for each
    node."""
    alice = stack.ua("alice")
    users = [[] for _ in made.nodes]
    for n in range(200):
        user = "user%d" % n
        response = alice.message("sip:%s@example.org" % user, b"first")
        assert response.code == 202
        users[made.nodes.index(made.slot(user)[0])].append(user)
        if min(len(u) for u in users) >= count:
            return users
    raise Failure("200 users, and not %d for each node" % count)


def pages(stack, path):
    """All items of a list, three at a time."""
    items, cursor = [], ""
    while cursor is not None:
        answer = stack.http("%s?limit=3%s" % (path, cursor))
        assert answer.status == 200, answer
        items += answer.json["items"]
        after = answer.json["next"]
        cursor = after and "&cursor=" + after
    return items


def uri(user):
    return "sip:%s@example.org" % user


def test_queues_dead_letters_and_jobs_of_all_nodes_are_served(
        cluster, tmp_path_factory):
    db = databases.Sqlite(str(tmp_path_factory.mktemp("db"))).create(
        sample=True)
    db.sql("".join(
        "INSERT INTO cpm_user (username, domain, service_class, on_expiry)"
        " VALUES ('user%d', 'example.org', 'standard', 'store');" % i
        for i in range(200)))
    made, stack = cluster({"max_attempts": 1}, **db.stack())
    parts = by_node(made, stack, 3)
    users = sorted(u for part in parts for u in part)
    assert sorted(q["user"] for q in pages(stack, "/v1/queues")) == sorted(
        map(uri, users))
    for user in users:
        assert stack.queue(user)["messages"] == 1
        assert [i["state"] for i in stack.items(user)] == ["queued"]
    assert stack.metric("queue_messages") == len(users)
    # one of each node has a letter that its client refuses, one has one that
    # expires, one takes all
    for refuses, expires, _ in (part[:3] for part in parts):
        stack.ua(refuses, answer=486).register()
        assert send(stack, expires, b"old", [("Expires", "1")]).code == 202
    wait_until(lambda: len(pages(stack, "/v1/dead")) == 3, 15)
    assert sorted(d["user"] for d in pages(stack, "/v1/dead")) == sorted(
        uri(part[0]) for part in parts)
    # (whether the sender of a dead letter is to be told is looked at in a job
    # of its own, which is soon done)
    def stores():
        return [j for j in pages(stack, "/v1/jobs") if j["kind"] == "store"]
    wait_until(lambda: len(stores()) == 3, 15)
    assert sorted(j["user"] for j in stores()) == sorted(
        uri(part[1]) for part in parts)
    for part in parts:
        client = stack.ua(part[2])
        client.register()
        stack.wait_empty(part[2])
        assert client.bodies == [b"first"]


def migrate(source, target, slot, meanwhile):
    """Moves a slot as redis-cli does; meanwhile() is called when part of it
    has moved."""
    source_id, target_id = (n.ask("CLUSTER", "MYID")
                            for n in (source, target))
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    first = True
    while True:
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1)
        if not keys:
            break
        source.ask("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)
        if first:
            meanwhile()
            first = False
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)


def test_nothing_is_lost_while_the_slot_of_a_busy_user_moves(cluster):
    made, stack = cluster()
    stack.expect_log(REDIS_TROUBLE)
    parts = by_node(made, stack, 3)
    bob = parts[0][0]
    source, slot = made.slot(bob)
    others = [u for part in parts for u in part if made.slot(u)[1] != slot]
    assert len({made.slot(u)[0] for u in others}) == 3
    online, others = others[0], others[1:7]
    loads = [Load(stack, [("mover%d" % i, [bob]) for i in range(2)]).start(),
             Load(stack, [("other%d" % i, others) for i in range(2)]).start()]
    for load in loads:
        load.wait_more(20)

    def meanwhile():
        # the busy one is told to come again, the others do not notice
        wait_until(lambda: len(loads[0].refusals()) >= 4, 20)
        loads[1].wait_more(5)
        assert send(stack, online).code == 202
        client = stack.ua(online)
        client.register()
        client.wait_messages(2)
        stack.wait_empty(online)

    migrate(source, made.nodes[1], slot, meanwhile)
    for load in loads:
        load.wait_more(20)
        load.end()
        load.assert_answered()
    assert loads[1].refusals() == []
    assert made.slot(bob)[0] is made.nodes[1]
    for load in loads:
        load.assert_delivered()


def test_a_lost_node_of_a_cluster_is_missed_by_its_own_users_only(cluster):
    made, stack = cluster()
    stack.expect_log(REDIS_TROUBLE)
    parts = by_node(made, stack, 3)
    dead = made.kill(2)
    # its users are told to come again, all the time
    alice = Sender(stack, "alice", ["-"])
    raws = {u: alice.ua.build("MESSAGE", uri(u), [
        ("Content-Type", "text/plain")], b"second") for u in sum(parts, [])}
    for user in parts[2]:
        assert not alice.attempt(raws[user], user)
        response = alice.answers[-1][1]
        assert response.code == 503 and int(response.get("retry-after")) > 0
        assert response.elapsed < ANSWER_WITHIN
        answer = stack.http(stack.queue_path(user))
        assert answer.status == 503
        assert "%d" % dead.port in answer.text
    # the others are served
    for user in parts[0] + parts[1]:
        assert alice.attempt(raws[user], user)
        assert stack.queue(user)["messages"] == 2
    for user in (parts[0][0], parts[1][0]):
        client = stack.ua(user)
        client.register()
        stack.wait_empty(user)
        assert client.bodies == [b"first", b"second"]
    # a list that lacks a third of them is none; which one is gone is said
    answer = stack.http("/v1/queues")
    assert answer.status == 503
    assert str(dead.port) in answer.text
    dead.start()
    made.wait_ok(made.nodes)
    stack.wait_ready()
    for user in parts[2]:
        wait_until(lambda u=user: alice.attempt(raws[u], u), 15)
        client = stack.ua(user)
        client.register()
        stack.wait_empty(user)
        assert client.bodies == [b"first", b"second"]
    for user in parts[0][1:] + parts[1][1:]:
        client = stack.ua(user)
        client.register()
        stack.wait_empty(user)
        assert client.bodies == [b"first", b"second"]
    assert pages(stack, "/v1/queues") == []


def test_retries_and_expiry_go_on_while_a_slot_moves_or_a_node_is_lost(
        cluster):
    made, stack = cluster({"retry_intervals": "1"})
    stack.expect_log(REDIS_TROUBLE)
    parts = by_node(made, stack, 2)
    moving = made.slot(parts[0][0])[1]

    def is_served(user):
        client = stack.ua(user)
        client.answers = [486]
        client.register()
        client.wait_messages(1)
        wait_until(lambda: len(client.messages) == 2, 10,
                   "the retry of %s is made" % user)
        stack.wait_empty(user)

    users = [u for u in parts[0] + parts[1] if made.slot(u)[1] != moving][:3]
    assert len(users) == 3
    migrate(made.nodes[0], made.nodes[1], moving, lambda: is_served(users[0]))
    assert stack.metric("expired") == 0
    assert send(stack, users[2], b"old", [("Expires", "3")]).code == 202
    made.kill(2)
    is_served(users[1])
    # by a counter in the memory of Kamailio, which needs no Redis
    wait_until(lambda: stack.metric("expired") == 1, 10,
               "the expired message is told of")


def test_readyz_names_the_node_of_a_cluster_that_is_lost(cluster):
    made, stack = cluster()
    stack.expect_log(REDIS_TROUBLE)
    assert stack.http("/readyz").json == {"status": "ok", "warnings": []}
    dead = made.kill(2)
    assert str(dead.port) in stack.http("/readyz").text
    assert stack.http_status("/livez") == 200
    dead.start()
    made.wait_ok(made.nodes)
    wait_until(lambda: stack.http("/readyz").json
               == {"status": "ok", "warnings": []}, 10)
