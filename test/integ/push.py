# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of push send, and look at. Their stack is the fixture
msrp_start."""

import msrpua
from db import cpim

CPIM = "message/cpim"
MSG = "urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg,"
# A client that takes no pager mode.
SESSIONS_ONLY = msrpua.TAGS["standalone"].replace(MSG, "")


def send(stack, body, to="bob", sender="alice", content_type=CPIM, **kw):
    """A CPM message; returns the bytes that are to come."""
    if content_type == CPIM:
        body = cpim(body, sender="<sip:%s@example.org>" % sender)
    response = stack.ua(sender).message(
        "sip:%s@example.org" % to, body, content_type, **kw)
    assert response.code == 202, response
    return body


def ours(violations):
    """What the PF did wrong. Kamailio's own ACK to a 2xx has no Max-Forwards
    (tm builds it), which RFC 3261, 8.1.1 asks for: that is not ours."""
    return [v for v in violations if "max-forwards" not in v.lower()]


def bodies(ua):
    return [m.body for m in ua.msrp_messages]
