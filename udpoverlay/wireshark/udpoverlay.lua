-- Wireshark: flannel's udp tunnel, port 8285. The datagram holds a bare IP packet, so the dissector
-- gives it to Wireshark's own for IPv4 or IPv6. A capture on a host that segments late, or merges
-- early, has several inner packets in one datagram: each is shown.
--
-- Copy it to the folder that Help > About > Folders calls "Personal Lua Plugins".
-- Filters: udpoverlay, udpoverlay.packets > 1, udpoverlay.not_ip, udpoverlay.trailing

local tunnel = Proto("udpoverlay", "flannel udp tunnel")

local packets = ProtoField.uint32("udpoverlay.packets", "Inner packets", base.DEC)
local not_ip = ProtoExpert.new("udpoverlay.not_ip", "The tunnel holds no IP packet",
    expert.group.MALFORMED, expert.severity.ERROR)
local trailing = ProtoExpert.new("udpoverlay.trailing", "Bytes behind the end of the inner packet",
    expert.group.PROTOCOL, expert.severity.WARN)
local several = ProtoExpert.new("udpoverlay.several",
    "Several inner packets: captured before they were segmented, or after they were merged",
    expert.group.PROTOCOL, expert.severity.NOTE)

tunnel.fields = { packets }
tunnel.experts = { not_ip, trailing, several }
tunnel.prefs.ports = Pref.range("UDP ports", "8285", "Ports of the tunnel", 65535)

local dissectors = { [4] = Dissector.get("ip"), [6] = Dissector.get("ipv6") }
local LEAST = { [4] = 20, [6] = 40 }

-- Version and length of the IP packet at `at`; nil where there is none. A length of 0 (more than
-- 64 KiB before segmentation), or one that the capture does not hold, is all that is left.
local function packet_at(buffer, at)
    local rest = buffer:len() - at
    local version = buffer(at, 1):bitfield(0, 4)
    if not dissectors[version] or rest < LEAST[version] then
        return nil
    end
    local length = version == 4 and buffer(at + 2, 2):uint() or 40 + buffer(at + 4, 2):uint()
    if length < LEAST[version] or length > rest then
        length = rest
    end
    return version, length
end

function tunnel.dissector(buffer, pinfo, tree)
    local found, at = {}, 0
    while at < buffer:len() do
        local version, length = packet_at(buffer, at)
        if not version then
            break
        end
        found[#found + 1] = { dissector = dissectors[version], range = buffer(at, length) }
        at = at + length
    end
    local subtree = tree:add(tunnel, buffer(0, 0))
    subtree:add(packets, buffer(0, at), #found)
    if #found == 0 then
        subtree:add_proto_expert_info(not_ip)
    elseif at < buffer:len() then
        subtree:add_proto_expert_info(trailing)
    end
    if #found > 1 then
        subtree:add_proto_expert_info(several)
    end
    for _, packet in ipairs(found) do
        -- One packet is given on as it is: a part of a buffer forgets that the capture cut it, and
        -- would look malformed.
        local alone = #found == 1 and at == buffer:len()
        local inner = alone and buffer or packet.range:tvb()
        -- Wireshark has marked a malformed one by itself; the next one is shown all the same.
        pcall(packet.dissector.call, packet.dissector, inner, pinfo, tree)
    end
    return buffer:len()
end

local ports = DissectorTable.get("udp.port")
ports:add(tunnel.prefs.ports, tunnel)
local registered = tunnel.prefs.ports

function tunnel.prefs_changed()
    if tunnel.prefs.ports ~= registered then
        ports:remove(registered, tunnel)
        registered = tunnel.prefs.ports
        ports:add(registered, tunnel)
    end
end
