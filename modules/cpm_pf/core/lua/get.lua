-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- get: one message. Reads only.
--
-- ARGV 3 id, 4 1: with its body
-- returns {seq, state, attempts, due, error, blob or envelope}, or nil

local id = ARGV[3]
local blob = call('HGET', km, id)
if not blob then
	return nil
end
local entry = entry_find(id)
if not entry then
	return nil
end
local seq, exp = entry_parse(entry)
local st = state_get(id)
if exp > 0 and exp <= now and st.s ~= 'L' then
	return nil
end
if ARGV[4] ~= '1' then
	blob = blob_envelope(blob)
end
return {int(seq), st.s, st.attempts, due_of(st), st.err, blob}
