-- One call of one account: decide, and add it up if it is allowed. Atomic, as every script in Redis is.
-- The function `acquire` above is the sliding window of the library `limits`.
--
-- KEYS[1] is a hash of one period of the account:
--   published, used, through   the newest snapshot that any gate has brought
--   total                      units after it: the sum of the buckets
--   <second>                   bucket: units of calls in that second
--   gate:<id>                  units that this gate has had counted here in the period, and the bucket of the last ones
--   reached                    set by the first call that the quota refused
-- KEYS[2], KEYS[3] are the windows of the rate, KEYS[4], KEYS[5] those of the throttle.

local gate, cost, quota, is_hard = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local published, used, through = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local ever, own, expire_at = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local hash = KEYS[1]
local idle_seconds = 6 * 3600

local function is_too_fast(first, amount, window)
    amount = tonumber(amount)
    if amount == 0 then return false end
    return not acquire({KEYS[first], KEYS[first + 1]}, {amount, window, math.min(cost, amount)})
end

if not quota then
    return is_too_fast(2, ARGV[11], ARGV[12]) and {2, 0, 0} or {0, 0, 0}
end

local now = tonumber(redis.call('time')[1])
local known = redis.call('hmget', hash, 'published', 'used', 'through', 'total', gate)
local total = tonumber(known[4] or 0)
local seen, last = string.match(known[5] or '0', '^(%d+):?(%d*)$')
seen, last = tonumber(seen), tonumber(last) or 0

local newest = tonumber(known[1] or -1)
local is_newest = published >= newest

if published > newest then
    -- a newer snapshot counts the calls of the buckets up to `through`
    total = 0
    local fields = redis.call('hgetall', hash)
    for i = 1, #fields, 2 do
        local second = string.match(fields[i], '^%d+$')
        if second and tonumber(second) <= through then
            redis.call('hdel', hash, second)
        elseif second then
            total = total + tonumber(fields[i + 1])
        elseif string.find(fields[i], '^gate:') and fields[i] ~= gate then
            -- of a process that has ended, as far as is known: what it had counted is in the snapshot
            local at = tonumber(string.match(fields[i + 1], ':(%d+)$'))
            if at and at <= through and at < now - idle_seconds then redis.call('hdel', hash, fields[i]) end
        end
    end
    redis.call('hset', hash, 'published', published, 'used', used, 'through', through, 'total', total)
    -- never in the past, where this clock is ahead of the gates': the count would be gone with each call
    redis.call('expireat', hash, math.max(expire_at, now + 86400))
else
    used, through = tonumber(known[2]), tonumber(known[3])
end

local function add(units)
    local width = math.max(1, math.floor((now - through) / 3600))
    local second = math.max(now - now % width, through + 1)
    redis.call('hincrby', hash, string.format('%.0f', second), units)
    redis.call('hincrby', hash, 'total', units)
    total, last = total + units, second
end

local function see(units)
    seen = units
    redis.call('hset', hash, gate, string.format('%.0f:%.0f', seen, last))
end

-- what this gate let through while it could not reach Redis, or what Redis has lost: once, however often it is said
if is_newest and ever > seen then
    local owed = math.min(ever - seen, own)
    if owed > 0 then add(owed) end
    see(ever)
end

local spent = used + total
local is_over = cost > 0 and spent + cost > quota
if is_over and is_hard then
    return {1, spent, redis.call('hsetnx', hash, 'reached', 1)}
end
if is_over and tonumber(ARGV[13]) > 0 then
    if is_too_fast(4, ARGV[13], ARGV[14]) then return {2, spent, 0} end
elseif is_too_fast(2, ARGV[11], ARGV[12]) then
    return {2, spent, 0}
end
if cost > 0 then
    add(cost)
    see(seen + cost)
end
return {0, spent + cost, 0}
