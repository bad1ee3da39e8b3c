# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages in the Message Storage Server: a real Dovecot, asked by a plain
IMAP client; and what becomes of them while it is not as it should be."""

import base64
import email
import email.policy
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

import databases
import dovecot
import harness
import msrpua
from db import cpim, tag
from harness import HOST, Failure, marked, wait_until
from test_pull import PULL, TYPES, actions, results_of

CPIM = "message/cpim"
ALICE = "Default/sip:alice@example.org"
BOB = "bob@example.org"


class Site:
    """A Dovecot, perhaps a proxy before it, and a stack that stores there.
    bob wants his messages stored while he is offline, unless told else."""

    def __init__(self, new_stack, tmp_path, imap):
        self.new_stack, self.dir, self.imap = new_stack, tmp_path, imap
        self.stack = self.proxy = None
        self.credentials = str(tmp_path / "store.credentials")
        self.write_credentials()

    def write_credentials(self, password=dovecot.MASTER_PASSWORD, mode=0o600):
        with open(self.credentials, "w") as f:
            f.write("# of the store\nuser %s\npassword %s\n" % (
                dovecot.MASTER, password))
        os.chmod(self.credentials, mode)

    def start(self, port=None, prefs="when_offline = 'store'", url=None,
              ready=True, msrp=None, **settings):
        db = databases.Sqlite(str(self.dir)).create(sample=True)
        db.sql("UPDATE cpm_user SET %s WHERE username = 'bob';" % prefs)
        made = {"store_url": url or "imap://%s:%d" % (
                    HOST, port or self.imap.port),
                "store_credentials": self.credentials,
                "store_timeout": 5, "job_retry_intervals": "1"}
        made.update(settings)
        args = db.stack()
        if msrp:
            args["defines"]["MSRP"] = '"%s:%d"' % (HOST, msrp)
        self.stack = self.new_stack(made, **args)
        return self.stack.start(ready)

    def through_proxy(self, **settings):
        self.proxy = dovecot.Proxy(self.imap.port)
        return self.start(self.proxy.port, **settings)

    def send(self, body=b"hello", content_type=CPIM, code=202, **kw):
        """One message of alice's to bob. The bytes that were sent."""
        if content_type == CPIM and not body.startswith(b"From:"):
            body = cpim(body, message_id=kw.pop("message_id", None))
        answer = self.stack.ua("alice").message(
            "sip:" + BOB, body, content_type, **kw)
        assert answer.code == code, answer
        return body

    def jobs(self):
        return self.stack.http("/v1/jobs").json["items"]

    def objects(self, folder=ALICE, count=1, timeout=10):
        """The objects of bob's folder, once there are so many, and no job is
        left."""
        wait_until(lambda: len(self.imap.messages(folder)) >= count
                   and not self.jobs(), timeout,
                   "%d objects in %s" % (count, folder))
        found = [data for _, data in self.imap.messages(folder)]
        assert len(found) == count
        return found

    def error(self, pattern, timeout=15, state=None):
        """The job, once its error is so."""
        def look():
            for job in self.jobs():
                if re.search(pattern, job["last_error"] or "") and (
                        state is None or job["state"] == state):
                    return job
            return None
        try:
            return wait_until(look, timeout)
        except Failure as e:
            raise Failure("%s: %s" % (e, self.jobs()))

    def courier(self):
        (pid,) = [p for p in self.stack.workers()
                  if b"courier" in open("/proc/%d/cmdline" % p, "rb").read()]
        return pid

    def close(self):
        if self.proxy:
            self.proxy.close()


@pytest.fixture
def make_site(new_stack, tmp_path):
    made = []

    def make(**kw):
        imap = dovecot.Dovecot(**kw)
        made.append(imap)
        imap.start()
        made.append(Site(new_stack, tmp_path, imap))
        return made[-1]
    yield make
    for thing in made:
        thing.close()


@pytest.fixture
def site(make_site):
    return make_site()


def body_of(data):
    return data.partition(b"\r\n\r\n")[2]


def parse(data):
    return email.message_from_bytes(data, policy=email.policy.SMTP)


HEADERS = [
    ("Conversation-ID", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
    ("Contribution-ID", "abcdef-1234-5678-90ab-cdef01234567"),
    ("InReplyTo-Contribution-ID", "the-one-before"),
    ("Accept-Contact", '*;' + tag("msg")),
    ("Accept-Contact", '*;+g.oma.sip-im;require;explicit'),
    ("Subject", "Tomorrow"),
    ("Date", "Sat, 13 Nov 2010 23:29:00 GMT"),
    ("P-Preferred-Service", "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg"),
]


# ---- one object for each message


def test_a_message_for_the_store_is_one_object_that_any_client_reads(site):
    site.start()
    sent = site.send(b"\xc3\xa4 body\r\n.\r\nwith lines\r\n",
                     headers=HEADERS, message_id="m-1@example.org")
    (data,) = site.objects()
    assert body_of(data) == sent
    head = email.message_from_bytes(data)
    assert {k: head.get_all(k) for k in (
        "From", "To", "Date", "Subject", "P-Asserted-Service",
        "Conversation-ID", "Contribution-ID", "InReplyTo-Contribution-ID",
        "Accept-Contact", "IMDN-Message-ID", "Message-Direction",
        "Content-Type")} == {
            "From": ["<sip:alice@example.org>"],
            "To": ["<sip:bob@example.org>"],
            "Date": ["Sat, 13 Nov 2010 23:29:00 GMT"],
            "Subject": ["Tomorrow"],
            "P-Asserted-Service": [
                "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg"],
            "Conversation-ID": [HEADERS[0][1]],
            "Contribution-ID": [HEADERS[1][1]],
            "InReplyTo-Contribution-ID": ["the-one-before"],
            "Accept-Contact": [HEADERS[3][1], HEADERS[4][1]],
            "IMDN-Message-ID": ["m-1@example.org"],
            "Message-Direction": ["received"],
            "Content-Type": [CPIM]}
    ((info, _),) = site.imap.messages(ALICE)
    assert "Seen" not in info
    assert "13-Nov-2010 23:29:00 +0000" in info
    assert site.stack.queue("bob") is None
    assert site.stack.metric("stored") == 1
    assert site.stack.metric("store_jobs") == 1


def test_a_message_that_comes_again_is_accepted_and_stored_once(site):
    site.start()
    sent = site.send(message_id="again")
    site.objects()
    site.send(sent)
    site.send(sent)
    assert site.objects() and site.stack.metric("duplicate") == 2


def test_two_messages_with_one_id_are_two_objects(site):
    site.start()
    site.send(b"the first", message_id="same")
    site.send(b"the second", message_id="same")
    first, second = site.objects(count=2)
    assert {body_of(first)[-9:], body_of(second)[-10:]} == {
        b"the first", b"the second"}


def test_an_id_that_is_part_of_another_is_another_message(site):
    site.start()
    site.send(b"long", message_id="id-1-2-3")
    site.objects()
    site.send(b"short", message_id="id-1")
    assert len(site.objects(count=2)) == 2


def test_a_message_without_cpim_is_wrapped_in_one(site):
    site.start()
    site.send(b"plain text \xc3\xbc", "text/plain;charset=UTF-8",
              headers=[("Subject", "Gr\u00fc\u00dfe"),
                       ("Content-Disposition", "render")])
    (data,) = site.objects()
    head = parse(data)
    assert head["Subject"] == "Gr\u00fc\u00dfe"
    assert head["Content-Type"] == CPIM
    outer, inner, content = body_of(data).split(b"\r\n\r\n", 2)
    assert content == b"plain text \xc3\xbc"
    assert inner.split(b"\r\n") == [b"Content-Type: text/plain;charset=UTF-8",
                                    b"Content-Disposition: render"]
    fields = dict(line.split(": ", 1) for line in outer.decode().split("\r\n"))
    assert fields["From"] == "<sip:alice@example.org>"
    assert fields["To"] == "<sip:bob@example.org>"
    assert fields["NS"] == "imdn <urn:ietf:params:imdn>"
    assert fields["imdn.Message-ID"] == head["IMDN-Message-ID"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", fields["DateTime"])


def test_what_no_mail_store_keeps_as_it_is_comes_back_by_base64(site):
    site.start()
    bodies = [b"nul \0 inside", b"lone \n lf", b"lone \r cr", b"x" * 5000]
    sent = [site.send(b) for b in bodies]
    got = []
    for data in site.objects(count=len(bodies)):
        head, _, body = data.partition(b"\r\n\r\n")
        if b"Content-Transfer-Encoding: base64" in head:
            assert max(map(len, body.split(b"\r\n"))) <= 76
            body = base64.b64decode(body)
        got.append(body)
    assert sorted(got) == sorted(sent)


def test_an_anonymous_sender_stays_so(site):
    site.start()
    site.send(headers=[("Privacy", "id")])
    (data,) = site.objects("Default/anonymous")
    head = data.partition(b"\r\n\r\n")[0]
    assert b"From: <sip:anonymous@anonymous.invalid>\r\n" in head
    assert b"alice" not in head


@pytest.mark.parametrize("separator, folder", [
    ("/", "Archive/x=2Fy.=2A/=2E.=2Fup/2010-11-13"),
    (".", "Archive.x=2Fy=2E=2A.=2E=2E=2Fup.2010-11-13")])
def test_a_sender_cannot_choose_another_folder(make_site, separator, folder):
    site = make_site(separator=separator)
    site.start(store_folder="Archive/{conversation}/{contribution}/{date}")
    site.send(headers=[("Conversation-ID", "x/y.*"),
                       ("Contribution-ID", "../up"),
                       ("Date", "Sat, 13 Nov 2010 23:29:00 GMT")])
    assert site.objects(folder)
    assert list(site.imap.everything()) == [folder]


def test_folders_of_many_users_in_one_account(make_site):
    site = make_site()
    site.imap.users[dovecot.MASTER] = dovecot.MASTER_PASSWORD
    site.start(store_login="service", store_folder="{user}/{originator}")
    site.send()
    wait_until(lambda: site.stack.metric("stored") == 1, 10)
    assert list(site.imap.everything(dovecot.MASTER)) == [
        "bob@example.org/sip:alice@example.org"]


def test_a_master_user_s_login_name_from_a_template(site):
    site.start(store_login="{user}*{login}")
    site.send()
    assert site.objects()


def test_an_expired_message_of_who_wants_it_stored_is_one_object(site):
    site.start(prefs="on_expiry = 'store'")
    sent = site.send(headers=[("Expires", "1")], message_id="late")
    assert site.stack.items("bob")
    (data,) = site.objects(timeout=20)
    assert body_of(data) == sent
    assert site.stack.queue("bob") is None


def test_what_no_client_took_is_stored_from_the_failure_route(site):
    stack = site.start()
    bob = stack.ua("bob")
    bob.register()
    bob.answer = 480
    sent = site.send()
    (data,) = site.objects()
    assert body_of(data) == sent
    assert stack.queue("bob") is None


def test_a_sender_who_asks_is_told_that_it_is_stored(site):
    stack = site.start()
    alice = stack.ua("alice")
    alice.register()
    body = cpim(b"hello", message_id="ask-1").replace(
        b"imdn.Message-ID", b"imdn.Disposition-Notification: processing\r\n"
        b"imdn.Message-ID", 1)
    assert alice.message("sip:" + BOB, body, CPIM).code == 202
    alice.wait_messages(1, timeout=10)
    assert b"<stored" in alice.bodies[0] and b"ask-1" in alice.bodies[0]
    site.objects()


def test_what_its_user_asks_to_be_stored_is_one_object(site):
    stack = site.start(prefs="when_offline = 'defer'", trusted_peers=HOST,
                       pull_uri=PULL, msrp=harness.free_port())
    sent = [site.send(b"%d" % i, message_id="pull-%d" % i) for i in range(3)]
    bob = msrpua.CpmClient("bob", proxy=(HOST, stack.sip_port),
                           accept_types=TYPES)
    try:
        session = bob.pull(PULL, [actions([("pull-1", "store")], "keep")],
                           [("P-Asserted-Identity", "<sip:%s>" % BOB)])
        assert results_of(session)["pull-1"] == ("store", "ok", None)
        session.bye()
    finally:
        bob.close()
    (data,) = site.objects()
    assert body_of(data) == sent[1]
    assert [m["id"] for m in stack.items("bob")] == ["pull-0", "pull-2"]


# ---- a copy beside the delivery


def test_what_is_delivered_and_recorded_is_one_object(site):
    stack = site.start(prefs="record_copy = 1")
    bob = stack.ua("bob")
    bob.register()
    stack.ua("alice").message("sip:" + BOB, sent := cpim(b"both"), CPIM)
    bob.wait_messages(1)
    assert bob.bodies == [sent]
    (data,) = site.objects()
    assert body_of(data) == sent
    assert stack.metric("record_failures") == 0


def test_what_is_queued_and_recorded_is_one_object(site):
    stack = site.start(prefs="record_copy = 1")
    sent = site.send()
    (data,) = site.objects()
    assert body_of(data) == sent
    bob = stack.ua("bob")
    bob.register()
    bob.wait_messages(1)
    stack.wait_empty("bob")
    assert site.objects() == [data]


def test_a_failed_delivery_that_is_queued_is_recorded_once(site):
    stack = site.start(prefs="record_copy = 1, on_expiry = 'store'")
    bob = stack.ua("bob")
    bob.register()
    bob.answer = 480
    site.send(headers=[("Expires", "3")], message_id="thrice")
    site.objects()
    # and its expiry asks for it a second time
    wait_until(lambda: stack.metric("jobs_done") == 2, 20)
    assert len(site.objects()) == 1


def test_a_record_that_cannot_be_asked_for_stops_no_delivery(site):
    stack = site.start(prefs="record_copy = 1")
    bob = stack.ua("bob")
    bob.register()
    stack.ua("alice").message("sip:" + BOB, b"before")
    bob.wait_messages(1)
    stack.expect_log("store: ", "delivered without a record", "delivery: ")
    stack.redis.kill()
    stack.ua("alice").message("sip:" + BOB, b"after", timeout=10)
    bob.wait_messages(2)
    stack.kamailio.wait_log("delivered without a record id=")


# ---- a server that is not as it should be


def test_while_the_server_is_down_a_message_waits_and_is_stored_later(site):
    stack = site.start()
    site.imap.stop()
    site.send()
    job = site.error("connect: ")
    assert (job["kind"], job["user"]) == ("store", "sip:" + BOB)
    assert stack.metric("store_retries") >= 1
    site.imap.start()
    site.objects()


def test_a_slow_server_gets_its_time(site):
    site.through_proxy(store_timeout=30)
    site.proxy.delay = 0.4
    site.send()
    site.objects(timeout=30)
    assert site.stack.metric("store_retries") == 0


def test_a_silent_server_costs_no_more_than_the_timeout(site):
    site.through_proxy(store_timeout=1)
    site.proxy.silent = True
    site.send()
    site.error("time")
    site.proxy.silent = False
    site.objects()


def test_a_refused_login_is_shown_in_the_server_s_words(site):
    site.write_credentials("not-the-password-of-it")
    stack = site.start(job_max_attempts=2)
    site.send()
    job = site.error("AUTHENTICATIONFAILED", state="dead")
    assert job["attempts"] == 2
    assert stack.metric("store_dead") == 1
    assert stack.metric("jobs_dead") == 1
    assert site.imap.everything() == {}


def test_an_exceeded_quota_is_shown_in_the_server_s_words(make_site):
    site = make_site(quota=300)
    site.start(job_max_attempts=1)
    site.send(b"x" * 1000)
    site.error("OVERQUOTA|[Qq]uota exceeded", state="dead")


def test_a_lost_answer_to_append_makes_no_second_object(site):
    site.through_proxy()
    site.proxy.swallow = 2
    site.send()
    site.objects()
    assert site.proxy.swallowed == 1
    assert site.stack.metric("store_retries") == 1


def test_a_courier_killed_in_the_middle_loses_and_doubles_nothing(site):
    stack = site.through_proxy(store_timeout=60)
    stack.expect_log("nursery: worker died role=courier")
    site.proxy.silent = True
    site.send()
    wait_until(lambda: site.proxy.connections, 10)
    pid = site.courier()
    os.kill(pid, signal.SIGKILL)
    site.proxy.silent = False
    # long before the dead one's lease would end
    site.objects(timeout=15)
    assert site.courier() != pid


def test_everything_killed_leaves_the_job(site):
    stack = site.start()
    site.imap.stop()
    site.send()
    site.error("connect: ")
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()
    site.imap.start()
    stack.start_kamailio()
    site.objects()


def test_many_messages_by_one_connection(site):
    site.through_proxy()
    for i in range(30):
        site.send(b"%d" % i)
    site.objects(count=30, timeout=30)
    assert site.proxy.connections < 30


def test_several_couriers_share_the_work(site, tmp_path):
    stack = site.start()
    text = "redis=addr=%s;port=%d\nstore_url=imap://%s:%d\n" \
        "store_credentials=%s\njob_retry_intervals=1\n" % (
            HOST, stack.redis.port, HOST, site.imap.port, site.credentials)
    (tmp_path / "courier.conf").write_text(text)
    worker = os.path.join(os.path.dirname(harness.MODULE), "cpm_pf_worker")
    others = [harness.Program("courier%d" % i, [
        worker, "courier", "-c", str(tmp_path / "courier.conf")],
        str(tmp_path)) for i in range(2)]
    try:
        for other in others:
            other.wait_log("courier: start kind=store")
        for i in range(60):
            site.send(b"%d" % i, message_id="many-%d" % i)
        site.objects(count=60, timeout=40)
        # without the module's own there are still the others
        own = site.courier()
        os.kill(own, signal.SIGSTOP)
        site.send(b"one more", message_id="one-more")
        site.objects(count=61, timeout=40)
        os.kill(own, signal.SIGCONT)
    finally:
        for other in others:
            other.stop()


def test_a_courier_keeps_what_it_holds_while_the_server_hangs(site, tmp_path):
    """Else another would take it, and give it back so: attempts that nobody
    made. Eight jobs are held at once, for longer than one lease."""
    stack = site.through_proxy(store_timeout=7, job_retry_intervals="600")
    site.proxy.silent = True
    text = "redis=addr=%s;port=%d\nstore_url=imap://%s:%d\n" \
        "store_credentials=%s\nstore_timeout=7\n" \
        "job_retry_intervals=600\n" % (
            HOST, stack.redis.port, HOST, site.proxy.port, site.credentials)
    (tmp_path / "courier.conf").write_text(text)
    # stopped, it takes none before they are there all
    os.kill(site.courier(), signal.SIGSTOP)
    for i in range(8):
        site.send(b"%d" % i, message_id="held-%d" % i)
    wait_until(lambda: len(site.jobs()) == 8, 10)
    os.kill(site.courier(), signal.SIGCONT)
    wait_until(lambda: site.proxy.connections, 10)
    worker = os.path.join(os.path.dirname(harness.MODULE), "cpm_pf_worker")
    other = harness.Program("courier", [
        worker, "courier", "-c", str(tmp_path / "courier.conf")],
        str(tmp_path))
    try:
        other.wait_log("courier: start kind=store")
        wait_until(lambda: all(j["last_error"] for j in site.jobs()), 90,
                   "all eight are tried")
        assert [j["attempts"] for j in site.jobs()] == [1] * 8
        assert site.proxy.connections == 8
    finally:
        other.stop()


def test_a_job_that_ends_its_courier_is_given_up(site):
    stack = site.start(job_retry_intervals="2")
    site.imap.stop()
    site.send()
    site.error("connect: ")
    redis = stack.redis
    (key,) = re.findall(rb"\S+:job\b", redis.command("KEYS", "*:job"))
    (name,) = re.findall(rb"\ns \S+ \S+", redis.command("HKEYS", key))
    _, _, record = redis.command("HGET", key, name[1:]).partition(b"\r\n")
    _, _, rest = record[:-2].partition(b" ")
    redis.command("HSET", key, name[1:], b"1000 " + rest)
    job = site.error("no attempt came to its end", state="dead")
    assert job["kind"] == "store"


class Refuser:
    """A server that has the folder and cannot say what is in it."""

    def __init__(self):
        self.commands = []
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,),
                             daemon=True).start()

    def _serve(self, client):
        with client:
            client.sendall(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] "
                           b"ready\r\n")
            for line in client.makefile("rb"):
                tag, _, rest = line.strip().partition(b" ")
                name = rest.split()[0].upper()
                self.commands.append(rest)
                if name == b"CAPABILITY":
                    client.sendall(b"* CAPABILITY IMAP4rev1 SASL-IR "
                                   b"AUTH=PLAIN\r\n")
                client.sendall(tag + (
                    b" NO not now\r\n" if name in (
                        b"UID", b"CREATE", b"APPEND") else b" OK done\r\n"))

    def close(self):
        self.listener.close()


def test_nothing_is_put_where_it_might_be_already(site):
    server = Refuser()
    try:
        site.start(server.port, job_max_attempts=2)
        site.send()
        site.error("SEARCH: NO not now", state="dead")
        assert not [c for c in server.commands if c.startswith(b"APPEND")]
    finally:
        server.close()


class Babbler:
    """A server that takes any login and then never stops talking; or says the
    login back: "decoded", or "sent", as it came."""

    def __init__(self, echo=None):
        self.echo = echo
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,),
                             daemon=True).start()

    def _serve(self, client):
        with client:
            try:
                client.sendall(b"* OK [CAPABILITY IMAP4rev1 SASL-IR "
                               b"AUTH=PLAIN] ready\r\n")
                for line in client.makefile("rb"):
                    tag, _, rest = line.strip().partition(b" ")
                    if rest.upper().startswith(b"CAPABILITY"):
                        client.sendall(b"* CAPABILITY IMAP4rev1 SASL-IR "
                                       b"AUTH=PLAIN\r\n")
                    elif rest.upper().startswith(b"AUTHENTICATE"):
                        if self.echo:
                            said = rest
                            if self.echo == "decoded":
                                said = base64.b64decode(rest.split()[-1])
                            client.sendall(tag + b" NO refused " + said.replace(
                                b"\0", b" ") + b"\r\n")
                            return
                    else:
                        while True:
                            client.sendall(b"* 1 EXISTS\r\n" * 1000)
                    client.sendall(tag + b" OK done\r\n")
            except OSError:
                pass

    def close(self):
        self.listener.close()


@pytest.fixture
def babbler():
    made = []

    def make(**kw):
        made.append(Babbler(**kw))
        return made[-1]
    yield make
    for thing in made:
        thing.close()


def test_a_server_that_never_stops_talking_costs_no_more_than_the_timeout(
        site, babbler):
    site.start(babbler().port, store_timeout=1, job_max_attempts=2)
    site.send()
    site.error("timeout", state="dead")


@pytest.mark.parametrize("echo", ["decoded", "sent"])
def test_a_server_that_repeats_the_password_is_not_repeated(
        site, babbler, echo):
    stack = site.start(babbler(echo=echo).port, job_max_attempts=1)
    site.send()
    job = site.error("NO, words left out", state="dead")
    said = str(job) + stack.kamailio.log()
    assert dovecot.MASTER_PASSWORD not in said
    assert not [word for word in re.findall(r"[A-Za-z0-9+/]{16,}=*", said)
                if dovecot.MASTER.encode() in base64.b64decode(
                    word + "=" * (-len(word) % 4))]


# ---- TLS


@pytest.mark.parametrize("scheme", ["imaps", "imap"])
def test_a_certificate_of_the_operator_s_ca_is_fine(
        make_site, tmp_path, scheme):
    ca, cert, key = dovecot.certificate(tmp_path)
    site = make_site(tls=(cert, key), ssl_mode="required")
    site.start(store_ca=ca, store_tls="required", url="%s://%s:%d" % (
        scheme, HOST, getattr(site.imap, {"imaps": "ssl_port"}.get(
            scheme, "port"))))
    site.send()
    wait_until(lambda: site.stack.metric("stored") == 1, 10)
    assert "TLS" in site.imap.log()


@pytest.mark.parametrize("wrong", ["ca", "name"])
def test_any_other_certificate_is_refused(make_site, tmp_path, wrong):
    (tmp_path / "other").mkdir()
    ca, cert, key = dovecot.certificate(
        tmp_path, "imap.example.org" if wrong == "name" else HOST)
    other, _, _ = dovecot.certificate(tmp_path / "other")
    site = make_site(tls=(cert, key), ssl_mode="required")
    site.start(store_ca=other if wrong == "ca" else ca,
               url="imaps://%s:%d" % (HOST, site.imap.ssl_port),
               job_max_attempts=1)
    site.send()
    site.error("certificate|SSL", state="dead")
    assert "Login:" not in site.imap.log()


def test_no_password_goes_in_the_clear_where_tls_is_required(site):
    site.start(store_tls="required", job_max_attempts=1)
    site.send()
    site.error("connect: ", state="dead")
    assert "Login:" not in site.imap.log()


# ---- credentials


def test_the_credentials_are_nowhere_to_be_seen(site):
    site.start()
    site.send()
    site.objects()
    stack = site.stack
    secret = dovecot.MASTER_PASSWORD
    ps = subprocess.run(["ps", "axeww"], capture_output=True, text=True,
                        check=True).stdout
    seen = [stack.kamailio.log(), ps,
            stack.rpc("cpm_pf.stats")]
    for path in ("/v1/jobs", "/v1/queues", "/metrics", "/openapi.json", "/"):
        seen.append(stack.http(path).text)
    for pid in marked(stack.kamailio.mark):
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            seen.append(f.read().decode(errors="replace"))
    assert not [text for text in seen if secret in text]


def test_credentials_may_come_from_the_environment(site, monkeypatch):
    monkeypatch.setenv("CPM_STORE_USER", dovecot.MASTER)
    monkeypatch.setenv("CPM_STORE_PASSWORD", dovecot.MASTER_PASSWORD)
    site.start(store_credentials="")
    site.send()
    site.objects()
    # of the workers, one has them, and wiped them
    for pid in site.stack.workers():
        with open("/proc/%d/environ" % pid, "rb") as f:
            assert dovecot.MASTER_PASSWORD.encode() not in f.read()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_file_that_others_may_use_is_refused_at_start(site, mode):
    site.write_credentials(mode=mode)
    with pytest.raises(Failure, match="others than its owner may use it"):
        site.start()
    site.stack.expect_log("store_credentials", "mod_init|init_mod|error")


@pytest.mark.parametrize("setting, value", [
    ("store_url", "http://127.0.0.1"),
    ("store_url", "imap://user:word@127.0.0.1"),
    ("store_folder", "Default/{nobody}"),
    ("store_folder", "../{user}"),
    ("store_login", "service"),
    ("store_tls", "perhaps"),
    ("store_ca", "/nowhere/ca.pem"),
    ("store_credentials", "/nowhere"),
    ("store_timeout", 0)])
def test_a_wrong_parameter_is_named_at_start(site, setting, value):
    kw = {"url": value} if setting == "store_url" else {setting: value}
    named = "store_folder" if value == "service" else setting
    with pytest.raises(Failure, match="parameter " + named):
        site.start(**kw)
    site.stack.expect_log(".")


def test_without_a_store_the_queue_keeps_the_message(new_stack, tmp_path):
    db = databases.Sqlite(str(tmp_path)).create(sample=True)
    db.sql("UPDATE cpm_user SET when_offline = 'store' WHERE username = "
           "'bob';")
    stack = new_stack(**db.stack()).start()
    ua = stack.ua("alice")
    assert ua.message("sip:" + BOB, b"x").code == 202
    assert len(stack.items("bob")) == 1
    assert not [p for p in stack.workers()
                if b"courier" in open("/proc/%d/cmdline" % p, "rb").read()]
