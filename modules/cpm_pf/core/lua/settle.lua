-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- settle: what became of a leased message.
--
-- KEYS 11 the message's tombstone
-- ARGV 3 token, 4 id, 5 delivered|retry|dead|defer|unsent, 6 retry_in_ms, 7 class,
--      8 error, 9 dedup_ms, 10 jobs that a dead one leaves: letters, or -
-- returns 1, or 0: the lease is lost, nothing changed
--
-- The token alone decides. A lease that ran out and that nobody took since is
-- still ours to settle: the client has the message, it must not get it again.
-- A retrieval that did not come about is no attempt, and changes nothing.

local token, id, how = ARGV[3], ARGV[4], ARGV[5]
local raw = call('HGET', km, ' s' .. id)
if not raw then
	return 0
end
local st = state_parse(raw)
if st.token ~= token then
	return 0
end

if how == 'delivered' then
	local blob, entry = call('HGET', km, id), entry_find(id)
	if entry then
		message_take(entry, id, st)
	else
		call('HDEL', km, id, ' s' .. id)
	end
	if blob then
		call('SET', ktomb, blob_fingerprint(blob), 'PX', ARGV[9])
	end
	drop_if_empty()
	return 1
end

local blob = how == 'dead' and ARGV[10] ~= '-' and call('HGET', km, id)
jobs_check(ARGV[10])
write_anyway()
if how == 'unsent' or st.from and how ~= 'dead' then
	unlease(id, st)
	return 1
end
st.s, st.from = 'Q', nil
-- of what others pass, this delivery has had its look
st.token = (ARGV[7] == 'm' or ARGV[7] == 'd') and '!' .. token or '-'
st.deadline = 0
st.due = now + tonumber(ARGV[6])
st.class = ARGV[7]
st.err = ARGV[8]
if how == 'defer' then
	st.due = FAR
	st.attempts = math.max(st.attempts - 1, 0)
end
if how == 'dead' then
	st.s = 'D'
	st.due = 0
	call('ZADD', kdead, 0, aor .. ' ' .. id)
	if blob then
		jobs_put(ARGV[10], id, blob, now)
	end
end
state_set(id, st)
soonest_again(id)
return 1
