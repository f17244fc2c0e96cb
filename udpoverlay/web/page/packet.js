// One packet: its way through the four points, its bytes, and what each field says.

import { element, reason } from "./text.js";

const LINE = 16;

function step({ point, host, state, text }) {
  const made = element("li", state.replace(" ", "-"), "", element("strong", "", point));
  made.append(element("span", "quiet", host ? ` ${host}` : ""), element("div", state === "stopped" ? "bad" : "", state));
  if (text) made.append(element("div", "quiet", text));
  return made;
}

/** For each byte the layer that it is in. */
function kinds(layers, size) {
  const found = new Array(size).fill("");
  for (const layer of layers) found.fill(layer.kind, layer.start, layer.end);
  return found;
}

function dump(data, layers) {
  const kind = kinds(layers, data.length / 2);
  const lines = [];
  const bytes = [];
  for (let at = 0; at < kind.length; at += 1) {
    if (at % LINE === 0) lines.push(element("div", "line", "", element("span", "offset", at.toString(16).padStart(4, "0"))));
    const made = element("span", `byte ${kind[at]}${at % 8 === 0 && at % LINE ? " gap" : ""}`, data.slice(2 * at, 2 * at + 2));
    bytes.push(made);
    lines.at(-1).append(made);
  }
  return { lines, bytes };
}

/** Shows what `packet?key=` answered. */
function show(found) {
  const what = document.getElementById("packet-what");
  const words = found.dropped ? `dropped, ${reason(found.verdict)}: ${found.meaning}` : reason(found.verdict);
  what.replaceChildren(
    element("span", "mono", found.what),
    element("span", found.dropped ? "bad" : "quiet", ` ${found.length} bytes, at ${found.host} ${found.point}, ${words}`),
  );
  document.getElementById("way").replaceChildren(...found.way.map(step));
  const { lines, bytes } = dump(found.data, found.layers);
  document.getElementById("bytes").replaceChildren(...lines);
  const notes = [];
  if (found.made_again) {
    notes.push(`The outer headers (${found.made_again} bytes) are made again from the addresses of both hosts and the port.`);
  }
  notes.push(`id ${found.id}: the same at all four points.`);
  document.getElementById("packet-note").textContent = notes.join(" ");
  const choosers = new Map();

  function choose(field, made) {
    for (const other of document.querySelectorAll("#packet .chosen")) other.classList.remove("chosen");
    made.classList.add("chosen");
    bytes.slice(field.start, field.end).forEach((byte) => byte.classList.add("chosen"));
  }

  function fieldOf(field) {
    const made = element("button", "field", "", element("span", "name", field.name), element("span", "value mono", field.value));
    made.type = "button";
    if (field.wrong) made.append(element("span", "meaning bad", field.wrong));
    else if (field.meaning) made.append(element("span", "meaning", field.meaning));
    const act = () => choose(field, made);
    made.addEventListener("mouseenter", act);
    made.addEventListener("focus", act);
    for (let at = field.start; at < field.end; at += 1) choosers.set(at, () => { act(); made.scrollIntoView({ block: "nearest" }); });
    return made;
  }

  const layers = found.layers.map((layer) =>
    element("div", "layer", "", element("h4", layer.kind, layer.name), ...layer.fields.map(fieldOf)),
  );
  document.getElementById("fields").replaceChildren(...layers);
  bytes.forEach((byte, at) => byte.addEventListener("click", () => choosers.get(at)?.()));
}

/** Runs this part; the result is what a chosen packet is given to. */
export function packet() {
  const part = document.getElementById("packet");
  document.getElementById("close").addEventListener("click", () => {
    part.hidden = true;
  });
  let latest = 0;
  return async ({ key }) => {
    latest = key;
    let found;
    try {
      const response = await fetch(`packet?key=${key}`, { cache: "no-store" });
      found = await response.json();
    } catch {
      found = { error: "udpoverlay web has ended" };
    }
    if (latest !== key) return; // another one was chosen meanwhile
    part.hidden = false;
    if (found.error) {
      document.getElementById("packet-what").replaceChildren(element("span", "bad", found.error));
      for (const name of ["way", "bytes", "fields"]) document.getElementById(name).replaceChildren();
      return;
    }
    show(found);
    part.scrollIntoView({ block: "nearest" });
  };
}
