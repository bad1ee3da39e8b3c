# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The routes of kamailio-cpm.cfg, in Python: route for route the same. Loaded
by kamailio-cpm-kemi-python.cfg. AUTH and FLOOD are missing here as they are
there.

A function of Kamailio's that would end a native script answers 0 here, and the
script has to end by itself.
"""

import KSR

# For the function itself: a client that fetches, or asks what there is.
FOR_US = ("INVITE", "OPTIONS", "SUBSCRIBE")

# What says of a client that it is not there, or not able to.
NOT_THERE = "408|430|480|5[0-9][0-9]"


def mod_init():
    """Kamailio asks for the object whose methods are the routes."""
    return Routes()


def domain():
    return KSR.pv.get("$sel(cfg_get.cpm.domain)")


def relay():
    """What a request that is not MESSAGE, or is for others, gets."""
    if KSR.tm.t_relay() < 0:
        KSR.sl.sl_reply_error()


def relay_or_not(failure_route):
    """True: tm has it now. It cannot even be sent where a TCP client's
    connection is gone: then tm is not to answer 477, as there is the queue."""
    KSR.tm.t_on_failure(failure_route)
    KSR.tm.t_set_disable_internal_reply(1)
    return KSR.tm.t_relay() >= 0


def route_cpm_message():
    """A message to a home user, as its recipient and the provider wish: to the
    clients that are to have it now, into the queue, or elsewhere."""
    rc = KSR.cpm_pf.route_recipient()
    if rc == 1:  # to the clients that are branches now
        if relay_or_not("ksr_failure_cpm_undelivered"):
            return
        KSR.cpm_pf.queue()
    elif rc == 2:  # nobody takes it now
        KSR.cpm_pf.queue()
    elif rc == 3:  # for the message store; without one the queue keeps it
        KSR.cpm_pf.store()
    elif rc == 4:  # to the Interworking Selection Function
        if relay_or_not("ksr_failure_cpm_not_interworked"):
            return
        KSR.cpm_pf.queue_reason("isf")
    # queued, refused, or nothing could be told: what is said of it
    KSR.cpm_pf.reply()


def route_register():
    """A saved binding wakes the recipient's queue; nothing is called for
    it."""
    if KSR.pv.get("$td") != domain():
        KSR.sl.sl_send_reply(404, "Not Found")
        return
    # Via or Contact do not tell where it comes from: NAT, or TCP, where the
    # connection is the way back.
    if KSR.nathelper.nat_uac_test(19) > 0:
        KSR.nathelper.fix_nated_register()
        KSR.setbflag(5)
    if KSR.registrar.save("location", 0) < 0:
        KSR.sl.sl_reply_error()


def route_to_user(method):
    """Calls and the rest, for home users."""
    if method in ("PUBLISH", "SUBSCRIBE"):
        KSR.sl.sl_send_reply(489, "Bad Event")
        return
    rc = KSR.registrar.lookup("location")
    if rc == -2:
        KSR.sl.sl_send_reply(405, "Method Not Allowed")
        return
    if rc < 0:
        KSR.sl.sl_send_reply(480, "Temporarily Unavailable")
        return
    if method == "INVITE":
        KSR.rr.record_route()
    relay()


def route_in_dialog(method):
    if KSR.rr.loose_route() < 0:
        if method != "ACK":
            KSR.sl.sl_send_reply(404, "Not Here")
        elif KSR.tm.t_check_trans() > 0:
            KSR.tm.t_relay()
        return
    relay()


def route_outbound():
    """To another domain, and only for our own users: no open relay."""
    if KSR.pv.get("$fd") != domain():
        KSR.sl.sl_send_reply(403, "Relaying Denied")
        return
    relay()


class Routes:
    def child_init(self, rank):
        return 0

    def ksr_request_route(self, msg):
        method = KSR.pv.get("$rm")

        # FLOOD: pike or ratelimit, here.
        if KSR.maxfwd.process_maxfwd(10) < 0:
            KSR.sl.sl_send_reply(483, "Too Many Hops")
            return 1
        if KSR.sanity.sanity_check(17895, 7) < 0:
            return 1

        # Answer to where the request came from (RFC 3581).
        KSR.force_rport()

        if (method == "OPTIONS" and KSR.is_myself_ruri()
                and KSR.pv.is_null("$rU")):
            KSR.sl.sl_send_reply(200, "OK")
            return 1
        if method == "CANCEL":
            if KSR.tm.t_check_trans() > 0:
                KSR.tm.t_relay()
            return 1
        if KSR.siputils.has_totag() > 0:
            # A session in which queued messages are brought: BYE, OPTIONS...
            if KSR.cpm_pf.session() < 0:
                route_in_dialog(method)
            return 1

        # A retransmission of what is being relayed ends here.
        if KSR.tm.t_check_trans() == 0:
            return 1

        # AUTH: REGISTER by auth_check(), everything else from a home user too,
        # and From (with P-Asserted-Identity) compared with who that is.

        if method == "REGISTER":
            route_register()
            return 1
        if method in FOR_US and KSR.cpm_pf.session() > 0:
            return 1

        # Nobody but us decides on the way from here.
        KSR.textops.remove_hf_re("^Route$")

        if (method == "MESSAGE" and KSR.pv.get("$fd") == domain()
                and KSR.cpm_pf.authorize() < 0):
            KSR.cpm_pf.reply()
            return 1
        # A tel: number is a user of ours, if it is anybody's (RFC 3966).
        if not KSR.is_myself_ruri() and not (
                method == "MESSAGE" and KSR.pv.get("$ru").startswith("tel:")):
            route_outbound()
            return 1
        if method == "MESSAGE":
            # From here on a retransmission is one: it must not be relayed
            # while its first copy is being queued.
            rc = KSR.tm.t_newtran()
            if rc < 0:
                KSR.sl.sl_reply_error()
            elif rc > 0:
                route_cpm_message()
            return 1
        route_to_user(method)
        return 1

    def ksr_failure_cpm_undelivered(self, msg):
        """No client took it: not there (timeout, 408, 430, 480) or not able to
        (5xx). Any other answer is the client's own decision, and goes to the
        sender. The clients that were tried no longer count as registered for
        this message."""
        if KSR.tm.t_is_canceled() > 0:
            return 1
        if KSR.tm.t_check_status(NOT_THERE) > 0:
            route_cpm_message()
        return 1

    def ksr_failure_cpm_not_interworked(self, msg):
        """The function was not there, or could not. What it refuses is
        refused."""
        if KSR.tm.t_is_canceled() > 0:
            return 1
        if KSR.tm.t_check_status(NOT_THERE) > 0:
            KSR.cpm_pf.queue_reason("isf")
            KSR.cpm_pf.reply()
        return 1

    def ksr_cpm_event(self, msg, event):
        """What became of a message; called where modparam("cpm_pf",
        "event_callback", "ksr_cpm_event") says so, with cpm_pf:queued,
        cpm_pf:delivered and so on. It must not take long."""
        KSR.info("%s user=%s id=%s code=%s why=%s queued=%s\n" % (
            (event,) + tuple(KSR.pv.getw("$cpm(%s)" % name) for name in (
                "user", "id", "code", "why", "queue_size"))))
        return 1
