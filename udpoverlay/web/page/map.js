// The hosts as a graph: those that are asked, and their peers; what flows between two of them.

import { figure } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 400;
const MOST = 14; // more would stand on each other; the cards have the figures of all
const RADIUS = 9;

function svg(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

/** Nodes by public IP, and edges by both of them: {to, from} in bits a second. */
export function graph(hosts) {
  const nodes = new Map();
  const edges = new Map();
  for (const host of hosts) {
    const wrong = host.error !== "" || (host.troubles ?? []).length > 0;
    nodes.set(host.public_ip || host.name, { label: host.name, asked: true, wrong });
  }
  for (const host of hosts) {
    for (const peer of host.peers) {
      if (!nodes.has(peer.public_ip)) {
        nodes.set(peer.public_ip, { label: peer.public_ip, asked: false, wrong: peer.notes.length > 0 });
      }
      const ends = [host.public_ip, peer.public_ip].sort();
      const key = ends.join(" ");
      const edge = edges.get(key) ?? { ends, rate: 0, drops: 0 };
      // Both ends may tell of the same traffic.
      edge.rate = Math.max(edge.rate, peer.sent_bits_per_second + peer.delivered_bits_per_second);
      edge.drops += peer.drops_per_second;
      edges.set(key, edge);
    }
  }
  return { nodes, edges: [...edges.values()] };
}

/** The busiest nodes, those that are asked first. */
function chosen({ nodes, edges }) {
  const load = new Map([...nodes.keys()].map((key) => [key, 0]));
  for (const { ends, rate, drops } of edges) {
    for (const end of ends) load.set(end, (load.get(end) ?? 0) + rate + drops);
  }
  const order = [...nodes.keys()].sort(
    (one, other) => nodes.get(other).asked - nodes.get(one).asked || load.get(other) - load.get(one),
  );
  return order.slice(0, MOST).sort();
}

/** Draws them. */
export function draw(target, hosts) {
  const found = graph(hosts);
  const shown = chosen(found);
  const asked = shown.filter((key) => found.nodes.get(key).asked);
  const alone = asked.length === 1 && shown.length > 2;
  const ring = alone ? shown.filter((key) => key !== asked[0]) : shown;
  const height = shown.length < 3 ? 90 : 330;
  const places = new Map();
  if (alone) places.set(asked[0], [WIDTH / 2, height / 2]);
  ring.forEach((key, index) => {
    const angle = (2 * Math.PI * index) / ring.length + (ring.length === 2 ? Math.PI : -Math.PI / 2);
    const reach = shown.length < 3 ? 0 : height / 2 - 40;
    places.set(key, [WIDTH / 2 + 135 * Math.cos(angle), height / 2 + reach * Math.sin(angle)]);
  });
  if (shown.length === 1) places.set(shown[0], [WIDTH / 2, height / 2]);
  const parts = [];
  for (const { ends, rate } of found.edges) {
    const [from, to] = ends.map((end) => places.get(end));
    if (!from || !to) continue;
    const busy = rate > 0;
    const line = svg("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], class: busy ? "edge busy" : "edge" });
    line.style.strokeWidth = String(busy ? Math.min(6, 1.5 + Math.log10(1 + rate / 1e4)) : 1.5);
    parts.push(line);
    if (busy) {
      const middle = { x: (from[0] + to[0]) / 2, y: (from[1] + to[1]) / 2 - 4, class: "rate" };
      parts.push(svg("text", middle, `${figure(rate)}bit/s`));
    }
  }
  for (const [key, [x, y]] of places) {
    const { label, asked: isAsked, wrong } = found.nodes.get(key);
    const group = svg("g", { class: `node${isAsked ? " asked" : ""}${wrong ? " wrong" : ""}` });
    group.append(svg("circle", { cx: x, cy: y, r: RADIUS }));
    const above = y < height / 2 - 1;
    group.append(svg("text", { x, y: above ? y - RADIUS - 5 : y + RADIUS + 14 }, label));
    parts.push(group);
  }
  const more = found.nodes.size - shown.length;
  let bottom = Math.max(...[...places.values()].map(([, y]) => y)) + RADIUS + 22;
  if (more > 0) {
    parts.push(svg("text", { x: WIDTH / 2, y: bottom + 12, class: "rate" }, `and ${more} more`));
    bottom += 20;
  }
  target.setAttribute("viewBox", `0 0 ${WIDTH} ${Math.ceil(bottom)}`);
  target.replaceChildren(...parts);
}
