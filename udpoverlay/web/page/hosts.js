// A card for each host that is asked: what flows, what is dropped and why, what is wrong.

import { count, duration, element, figure, reason } from "./text.js";

const MOST_PEERS = 8;

function rates(head, rows) {
  const cell = (text, index, more) => element("span", `${index === 0 ? "name" : ""} ${more}`, text);
  const cells = head.map((text, index) => cell(text, index, "head"));
  for (const row of rows) cells.push(...row.map((text, index) => cell(text, index, "")));
  return element("div", "rates", "", ...cells);
}

function list(lines, className = "") {
  return element("ul", `plain ${className}`, "", ...lines.map((text) => element("li", "", text)));
}

function drop({ reason: verdict, per_second: rate, since_start: since, meaning }) {
  const now = rate > 0 ? `${figure(rate)}/s now, ` : "";
  return `${reason(verdict)}: ${now}${since.toLocaleString("en-US")} since start. ${meaning}`;
}

function accounts(found) {
  const open = Object.entries(found).filter(([, packets]) => packets !== 0);
  return open.length === 0
    ? element("p", "quiet", "unaccounted 0: each packet has its verdict")
    : element("p", "bad", open.map(([way, packets]) => `${way}: ${packets} packets unaccounted`).join(", "));
}

function card(host) {
  const wrong = host.error !== "" || (host.troubles ?? []).length > 0;
  const made = element("article", wrong ? "host wrong" : "host", "", element("h3", "", host.name));
  if (host.error) {
    made.append(element("p", "bad", host.error));
    return made;
  }
  const facts = [host.public_ip, `${host.subnet} on ${host.device}`, `up ${duration(host.uptime_seconds)}`];
  made.append(element("p", "quiet", facts.filter((fact) => fact !== host.name).join(", ")));
  const flow = (way) => [
    way,
    figure(host[way].bits_per_second),
    figure(host[way].packets_per_second),
    figure(host[way].drops_per_second),
  ];
  made.append(rates(["", "bit/s", "packets/s", "drops/s"], [flow("outbound"), flow("inbound")]));
  if (host.troubles.length) made.append(list(host.troubles, "bad"));
  if (host.drops.length) {
    made.append(element("h3", "", "Dropped"), list(host.drops.map(drop)));
  }
  made.append(accounts(host.unaccounted));
  const peers = host.peers.slice(0, MOST_PEERS).map((peer) => [
    peer.public_ip,
    figure(peer.sent_bits_per_second),
    figure(peer.delivered_bits_per_second),
    figure(peer.drops_per_second),
  ]);
  if (peers.length) made.append(rates(["peer", "to, bit/s", "from", "drops/s"], peers));
  const more = host.peers.length + host.peers_more - peers.length;
  if (more > 0) made.append(element("p", "quiet", `and ${count(more, "peer")} with less`));
  const notes = host.peers.flatMap((peer) => peer.notes.map((note) => `${peer.public_ip}: ${note}`));
  if (notes.length) made.append(list(notes.slice(0, MOST_PEERS), "bad"));
  return made;
}

/** Shows them. */
export function show(target, hosts) {
  target.replaceChildren(...hosts.map(card));
}
