-- One load for wrk, which runs it in one thread. Arguments:
--   kind      get, submit, batch or bulk
--   targets   a file of lines: device id, header, its value, path
--   slot      ms since 1970: the first message's time; every message takes one more
--   taken     a file that takes the time of every acknowledged message's first reading, or "-"
--   pace      ms that a connection waits between an answer and the next request
-- A message's place n in the run tells its devices and times, so its time alone names it.
-- The readings of a message are STEP ms apart: no device has a time twice, as long as messages
-- of the same device are a multiple of some number of ms apart that STEP has no factor of.

local BATCH, SPREAD, STEP = 100, 10, 201
local targets, taken, kind, slot = {}, nil, nil, 0
local n, second, text = 0, -1, ""
statuses, threads = {}, {}

function setup(thread)
  table.insert(threads, thread)
end

local function iso(ms)
  local whole = math.floor(ms / 1000)
  if whole ~= second then
    second, text = whole, os.date("!%Y-%m-%dT%H:%M:%S", whole)
  end
  return string.format('%s.%03dZ', text, ms % 1000)
end

local function reading(ms, more)
  return string.format(
    '{%s"data":{"temperature":%.1f,"humidity":%.1f,"battery":%d},"timestamp":"%s"}',
    more, 15 + ms % 97 / 10, 40 + ms % 203 / 10, ms % 101, iso(ms))
end

local function at(place)
  return targets[place % #targets + 1]
end

local function post(target, body)
  return wrk.format("POST", target.path, target.headers, body)
end

local makers = {}

function makers.get()
  return at(n).request
end

function makers.submit()
  return post(at(n), reading(slot + n, ""))
end

function makers.batch()
  local parts, first = {}, slot + n
  for i = 0, BATCH - 1 do
    parts[i + 1] = reading(first + i * STEP, "")
  end
  return post(at(n), '{"readings":[' .. table.concat(parts, ",") .. "]}")
end

function makers.bulk()
  local parts, first = {}, slot + n
  for i = 0, BATCH - 1 do
    local target = at(n * SPREAD + i % SPREAD)
    parts[i + 1] = reading(first + math.floor(i / SPREAD) * STEP, '"device_id":' .. target.id .. ",")
  end
  return post(at(n), '{"readings":[' .. table.concat(parts, ",") .. "]}")
end

function init(args)
  kind, slot = args[1], tonumber(args[3])
  for line in io.lines(args[2]) do
    local id, header, value, path = line:match("^(%d+)\t([^\t]*)\t([^\t]*)\t(.+)$")
    local headers = {}
    if header ~= "" then headers[header] = value end
    if kind ~= "get" then headers["Content-Type"] = "application/json" end
    local target = {id = id, headers = headers, path = path}
    if kind == "get" then target.request = wrk.format("GET", path, headers) end
    table.insert(targets, target)
  end
  local pace = tonumber(args[5])
  if pace > 0 then
    function delay() return pace end
  end
  if args[4] ~= "-" then
    taken = io.open(args[4], "w")
    taken:setvbuf("full", 65536)
  end
end

function request()
  local made = makers[kind]()
  n = n + 1
  return made
end

function response(status, headers, body)
  local name = tostring(status)
  statuses[name] = (statuses[name] or 0) + 1
  if taken and status == 201 then
    taken:write(body:match('"timestamp":%s*"([^"]+)"'), "\n")
  end
end

function done(summary, latency, requests)
  local counts = {}
  for _, thread in ipairs(threads) do
    for name, count in pairs(thread:get("statuses")) do
      table.insert(counts, string.format('"%s":%d', name, count))
    end
  end
  local e = summary.errors
  io.write(string.format(
    '\nBENCH {"requests":%d,"us":%d,"p50":%d,"p95":%d,"p99":%d,"statuses":{%s},' ..
    '"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95),
    latency:percentile(99), table.concat(counts, ","), e.connect, e.read, e.write, e.timeout))
end
