-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- take: a user's own retrieval: the delivery lock and, under it, messages
-- whatever their state.
--
-- ARGV 3 token, 4 lease_ms, 5 at most so many messages (0: any), 6 and so many
--      bytes (the first counts whatever its size), 7 only what came after this
--      seq, 8 1: all messages, 0: those of 9... ids, in that order
-- returns {'busy', ms} | {'taken', what, seq, attempt, blob, what, seq...};
--         what: ok; and without a blob gone, busy, later
--
-- What is taken keeps what it was (common.lua, state_parse). No attempt is
-- counted: it is the user who comes, and there is nobody to be reached.

local token, lease_ms = ARGV[3], tonumber(ARGV[4])
local max_messages, max_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local all = ARGV[8] == '1'

local holder = call('GET', klock)
if holder and holder ~= token and not is_orphan(holder, token) then
	return {'busy', math.max(call('PTTL', klock), 1)}
end
if call('LLEN', kq) > 0 then
	write_anyway()
	reap()
	drop_if_empty()
else
	call('DEL', klock) -- a first write that a full Redis takes
end

local out, taken, bytes = {'taken'}, 0, 0

local function say(what, seq, attempt, blob)
	out[#out + 1] = what
	out[#out + 1] = int(seq)
	out[#out + 1] = attempt
	out[#out + 1] = blob
end

-- False: this one and all behind it are for later.
local function take(entry)
	local seq, exp, id = entry_parse(entry or '')
	local blob = id and call('HGET', km, id)
	local st = blob and state_get(id)
	if not blob or (exp > 0 and exp <= now and st.s ~= 'L') then
		if not all then
			say('gone', 0, 0, '')
		end
		return true
	end
	local ours = (st.leased or st.from) and st.token == token
	if st.s == 'L' and not ours and not is_orphan(st.token, token) then
		-- the lock is free, and yet this one is out: see lease.lua
		if not all then
			say('busy', seq, 0, '')
		end
		return true
	end
	if taken > 0 and (bytes + #blob > max_bytes
		or (max_messages > 0 and taken >= max_messages)) then
		if not all then
			say('later', seq, 0, '')
		end
		return false
	end
	taken, bytes = taken + 1, bytes + #blob
	if st.leased and not ours then
		st.s = 'Q' -- its lease ended, or its holder is no more
	elseif not ours then
		st.s = st.from or st.s
	end
	if not ours then
		st.from = st.s
	end
	st.s, st.token, st.deadline = 'L', token, now + lease_ms
	state_set(id, st)
	say('ok', seq, st.attempts + (st.from and 1 or 0), blob)
	return true
end

if all then
	local after = tonumber(ARGV[7])
	local at = after > 0 and index_after(after) or 0
	local go_on = true
	while go_on do
		local part = call('LRANGE', kq, at, at + 63)
		for _, e in ipairs(part) do
			go_on = go_on and take(e) and taken < max_messages
		end
		go_on = go_on and #part == 64
		at = at + 64
	end
elseif #ARGV > 8 then
	-- one walk through the queue for all of them
	local entries, missing, at = {}, 0, 0
	for i = 9, #ARGV do
		if entries[ARGV[i]] == nil then
			entries[ARGV[i]] = false
			missing = missing + 1
		end
	end
	while missing > 0 do
		local part = call('LRANGE', kq, at, at + 63)
		for _, e in ipairs(part) do
			local _, _, id = entry_parse(e)
			if id and entries[id] == false then
				entries[id] = e
				missing = missing - 1
			end
		end
		if #part < 64 then
			break
		end
		at = at + 64
	end
	local later = false
	for i = 9, #ARGV do
		if later then
			local seq = entry_parse(entries[ARGV[i]] or '')
			say(seq and 'later' or 'gone', seq or 0, 0, '')
		else
			later = not take(entries[ARGV[i]])
		end
	end
end

call('SET', klock, token, 'PX', lease_ms)
if call('LLEN', kq) > 0 then
	-- whoever is alive looks again after this lease's end
	call('ZADD', kwake, int(now + lease_ms + 1000), aor)
end
return out
