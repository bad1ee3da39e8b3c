-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- The routes of kamailio-cpm.cfg, in Lua: route for route the same. Loaded by
-- kamailio-cpm-kemi-lua.cfg. AUTH and FLOOD are missing here as they are there.
--
-- A function of Kamailio's that would end a native script answers 0 here, and
-- the script has to end by itself.

-- For the function itself: a client that fetches, or asks what there is.
local FOR_US = { INVITE = true, OPTIONS = true, SUBSCRIBE = true }

-- What says of a client that it is not there, or not able to.
local NOT_THERE = "408|430|480|5[0-9][0-9]"

local function domain()
	return KSR.pv.get("$sel(cfg_get.cpm.domain)")
end

-- What a request that is not MESSAGE, or is for others, gets.
local function relay()
	if KSR.tm.t_relay() < 0 then
		KSR.sl.sl_reply_error()
	end
end

-- true: tm has it now. It cannot even be sent where a TCP client's connection
-- is gone: then tm is not to answer 477, as there is the queue.
local function relay_or_not(failure_route)
	KSR.tm.t_on_failure(failure_route)
	KSR.tm.t_set_disable_internal_reply(1)
	return KSR.tm.t_relay() >= 0
end

-- A message to a home user, as its recipient and the provider wish: to the
-- clients that are to have it now, into the queue, or elsewhere.
local function route_cpm_message()
	local rc = KSR.cpm_pf.route_recipient()

	if rc == 1 then -- to the clients that are branches now
		if relay_or_not("ksr_failure_cpm_undelivered") then
			return
		end
		KSR.cpm_pf.queue()
	elseif rc == 2 then -- nobody takes it now
		KSR.cpm_pf.queue()
	elseif rc == 3 then -- for the message store; without one the queue keeps it
		KSR.cpm_pf.store()
	elseif rc == 4 then -- to the Interworking Selection Function
		if relay_or_not("ksr_failure_cpm_not_interworked") then
			return
		end
		KSR.cpm_pf.queue_reason("isf")
	end
	-- queued, refused, or nothing could be told: what is said of it
	KSR.cpm_pf.reply()
end

-- No client took it: not there (timeout, 408, 430, 480) or not able to (5xx).
-- Any other answer is the client's own decision, and goes to the sender. The
-- clients that were tried no longer count as registered for this message.
function ksr_failure_cpm_undelivered()
	if KSR.tm.t_is_canceled() > 0 then
		return 1
	end
	if KSR.tm.t_check_status(NOT_THERE) > 0 then
		route_cpm_message()
	end
	return 1
end

-- The function was not there, or could not. What it refuses is refused.
function ksr_failure_cpm_not_interworked()
	if KSR.tm.t_is_canceled() > 0 then
		return 1
	end
	if KSR.tm.t_check_status(NOT_THERE) > 0 then
		KSR.cpm_pf.queue_reason("isf")
		KSR.cpm_pf.reply()
	end
	return 1
end

-- A saved binding wakes the recipient's queue; nothing is called for it.
local function route_register()
	if KSR.pv.get("$td") ~= domain() then
		KSR.sl.sl_send_reply(404, "Not Found")
		return
	end
	-- Via or Contact do not tell where it comes from: NAT, or TCP, where the
	-- connection is the way back.
	if KSR.nathelper.nat_uac_test(19) > 0 then
		KSR.nathelper.fix_nated_register()
		KSR.setbflag(5)
	end
	if KSR.registrar.save("location", 0) < 0 then
		KSR.sl.sl_reply_error()
	end
end

-- Calls and the rest, for home users.
local function route_to_user(method)
	if method == "PUBLISH" or method == "SUBSCRIBE" then
		KSR.sl.sl_send_reply(489, "Bad Event")
		return
	end
	local rc = KSR.registrar.lookup("location")
	if rc == -2 then
		KSR.sl.sl_send_reply(405, "Method Not Allowed")
		return
	elseif rc < 0 then
		KSR.sl.sl_send_reply(480, "Temporarily Unavailable")
		return
	end
	if method == "INVITE" then
		KSR.rr.record_route()
	end
	relay()
end

local function route_in_dialog(method)
	if KSR.rr.loose_route() < 0 then
		if method ~= "ACK" then
			KSR.sl.sl_send_reply(404, "Not Here")
		elseif KSR.tm.t_check_trans() > 0 then
			KSR.tm.t_relay()
		end
		return
	end
	relay()
end

-- To another domain, and only for our own users: no open relay.
local function route_outbound()
	if KSR.pv.get("$fd") ~= domain() then
		KSR.sl.sl_send_reply(403, "Relaying Denied")
		return
	end
	relay()
end

function ksr_request_route()
	local method = KSR.pv.get("$rm")

	-- FLOOD: pike or ratelimit, here.
	if KSR.maxfwd.process_maxfwd(10) < 0 then
		KSR.sl.sl_send_reply(483, "Too Many Hops")
		return 1
	end
	if KSR.sanity.sanity_check(17895, 7) < 0 then
		return 1
	end

	-- Answer to where the request came from (RFC 3581).
	KSR.force_rport()

	if method == "OPTIONS" and KSR.is_myself_ruri()
			and KSR.pv.is_null("$rU") then
		KSR.sl.sl_send_reply(200, "OK")
		return 1
	end
	if method == "CANCEL" then
		if KSR.tm.t_check_trans() > 0 then
			KSR.tm.t_relay()
		end
		return 1
	end
	if KSR.siputils.has_totag() > 0 then
		-- A session in which queued messages are brought: BYE, OPTIONS...
		if KSR.cpm_pf.session() < 0 then
			route_in_dialog(method)
		end
		return 1
	end

	-- A retransmission of what is being relayed ends here.
	if KSR.tm.t_check_trans() == 0 then
		return 1
	end

	-- AUTH: REGISTER by auth_check(), everything else from a home user too,
	-- and From (with P-Asserted-Identity) compared with who that is.

	if method == "REGISTER" then
		route_register()
		return 1
	end
	if FOR_US[method] and KSR.cpm_pf.session() > 0 then
		return 1
	end

	-- Nobody but us decides on the way from here.
	KSR.textops.remove_hf_re("^Route$")

	if method == "MESSAGE" and KSR.pv.get("$fd") == domain()
			and KSR.cpm_pf.authorize() < 0 then
		KSR.cpm_pf.reply()
		return 1
	end
	-- A tel: number is a user of ours, if it is anybody's (RFC 3966).
	if not KSR.is_myself_ruri() and not (method == "MESSAGE"
			and string.find(KSR.pv.get("$ru"), "^tel:")) then
		route_outbound()
		return 1
	end
	if method == "MESSAGE" then
		-- From here on a retransmission is one: it must not be relayed while
		-- its first copy is being queued.
		local rc = KSR.tm.t_newtran()
		if rc < 0 then
			KSR.sl.sl_reply_error()
		elseif rc > 0 then
			route_cpm_message()
		end
		return 1
	end
	route_to_user(method)
	return 1
end

-- What became of a message; called where modparam("cpm_pf", "event_callback",
-- "ksr_cpm_event") says so, with cpm_pf:queued, cpm_pf:delivered and so on. It
-- must not take long.
function ksr_cpm_event(event)
	KSR.info(string.format("%s user=%s id=%s code=%s why=%s queued=%s\n", event,
		KSR.pv.getw("$cpm(user)"), KSR.pv.getw("$cpm(id)"),
		KSR.pv.getw("$cpm(code)"), KSR.pv.getw("$cpm(why)"),
		KSR.pv.getw("$cpm(queue_size)")))
	return 1
end
