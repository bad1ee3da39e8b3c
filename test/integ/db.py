# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A World: a whole system on a database, and the rows that a test puts in.

What one test says of its users concerns nobody else: names come from the
fixture `user`, and rows are there before Kamailio first asks for them.
"""

import sipua
from harness import DOMAIN, HOST, Stack

ICSI = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm."


def tag(*services):
    """The feature tag of CPM services, as in Contact and Accept-Contact."""
    return '+g.3gpp.icsi-ref="%s"' % ",".join(
        (ICSI + s).replace(":", "%3A") for s in services)


def cpim(body, content_type="text/plain", sender="<sip:alice@example.org>",
         message_id=None):
    """A CPIM message around a body."""
    lines = ["From: " + sender, "To: <sip:somebody@example.org>"]
    if message_id:
        lines += ["NS: imdn <urn:ietf:params:imdn>",
                  "imdn.Message-ID: " + message_id]
    lines += ["", "Content-Type: " + content_type, "", ""]
    return "\r\n".join(lines).encode() + body


def insert(table, **columns):
    return "INSERT INTO %s (%s) VALUES (%s);" % (
        table, ", ".join(columns), ", ".join(
            str(v) if isinstance(v, int) else "'%s'" % v.replace("'", "''")
            for v in columns.values()))


class World:
    """stack.expected and the users' agents are the test's; the ISF, which is
    a user agent that takes everything, is there all the time."""

    def __init__(self, directory, database, settings=None, defines=None):
        self.db = database
        args = database.stack() if database else {"defines": {}}
        args["defines"].update(defines or {}, ANSWER_TIMEOUT_MS=600)
        self.stack = Stack(directory, settings, **args)
        self.isf = sipua.UA("isf", DOMAIN, (HOST, self.stack.sip_port),
                            strict=False)
        self.isf_uri = "sip:%s:%d" % (HOST, self.isf.port)
        self.stack.defines["ISF"] = '"%s;lr"' % self.isf_uri

    def start(self):
        self.stack.start()
        return self

    def close(self):
        self.isf.close()
        self.stack.close()

    def begin(self):
        self.stack.expected = []
        self.stack.restart_if_dead()
        self.isf.answer, self.isf.messages = 200, []

    def end(self):
        self.stack.close_uas()
        self.stack.check_log()
        assert self.stack.kamailio.running, "Kamailio ended"

    # ---- rows

    def user(self, name, *more, **columns):
        """A row of cpm_user, and what else there is to be put in."""
        self.db.sql(insert("cpm_user", username=name, domain=DOMAIN,
                           **columns) + "".join(more))
        return name

    @staticmethod
    def rule(name, action, **columns):
        return insert("cpm_rule", username=name, domain=DOMAIN, action=action,
                      **columns)

    @staticmethod
    def policy(service_class, **columns):
        return insert("cpm_policy", service_class=service_class, **columns)

    # ---- people

    def client(self, name, params="", instance=None, headers=(), **kw):
        """A registered client of a user."""
        ua = self.stack.ua(name, **kw)
        if instance:
            params += ';+sip.instance="<%s>"' % instance
        ua.register(params=params, headers=headers)
        return ua

    def send(self, to, body=b"hello", content_type="text/plain", headers=(),
             sender="alice", **kw):
        """The final response to a MESSAGE for a user, or for a URI."""
        uri = to if ":" in to else "sip:%s@%s" % (to, DOMAIN)
        return self.stack.ua(sender).message(uri, body, content_type, headers,
                                             **kw)

    def queued(self, name):
        """The sizes of what is queued for a user."""
        return [i["size"] for i in self.stack.items(name)]

    def settle(self, canary, *clients, headers=()):
        """Until the delivery worker has done what it was told so far, and
        these clients have read what came of it. The worker takes its hints in
        order, and this user's is the last; a socket is read in order too."""
        self.user(canary)
        assert self.send(canary, b"canary", headers=headers).code == 202
        self.client(canary).wait_messages(1)
        for client in clients:
            client.request("OPTIONS", "sip:%s:%d" % (
                HOST, self.stack.sip_port))
