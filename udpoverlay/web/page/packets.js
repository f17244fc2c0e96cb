// The list of packets: the latest first, with a filter that the daemons apply.

import { follow } from "./stream.js";
import { clock, count, element, reason } from "./text.js";

const MOST = 500;

function row(packet, choose) {
  const made = element("button", packet.dropped ? "row dropped" : "row");
  made.type = "button";
  const run = packet.packets > 1 ? ` (first of ${packet.packets})` : "";
  const words = packet.dropped ? `dropped, ${reason(packet.verdict)}: ${packet.meaning}` : reason(packet.verdict);
  made.append(
    element("span", "time", clock(packet.milliseconds)),
    element("span", "name", packet.host),
    element("span", "way", packet.direction === "outbound" ? "out" : "in"),
    element("span", "point", packet.point),
    element("span", "what", packet.what + run),
    element("span", "length", packet.length.toLocaleString("en-US")),
    element("span", packet.dropped ? "reason bad" : "reason quiet", packet.peer ? `${packet.peer} ${words}` : words),
  );
  made.addEventListener("click", () => choose(packet, made));
  return element("li", "", "", made);
}

/** Runs the list; `choose` gets the packet that was clicked. */
export function packets(choose) {
  const list = document.getElementById("list");
  const text = document.getElementById("filter-text");
  const error = document.getElementById("filter-error");
  const counts = document.getElementById("counts");
  const pause = document.getElementById("pause");
  let stream = null;
  let paused = false;
  let total = { shown: 0, skipped: 0, lost: 0 };

  function tell() {
    const parts = [`${count(total.shown, "packet")} shown`];
    if (total.skipped) parts.push(`${total.skipped.toLocaleString("en-US")} not shown: more than the page takes`);
    if (total.lost) parts.push(`${total.lost.toLocaleString("en-US")} lost: more than the recorder holds`);
    counts.textContent = parts.join(", ");
  }

  function complain(said) {
    error.textContent = said;
    error.hidden = said === "";
  }

  function chosen(packet, made) {
    for (const other of list.querySelectorAll('[aria-current="true"]')) other.removeAttribute("aria-current");
    made.setAttribute("aria-current", "true");
    choose(packet);
  }

  function line(found) {
    const errors = Object.entries(found.errors).map(([host, said]) => `${host}: ${said}`);
    if (errors.length) complain(errors.join("; "));
    else if (found.packets.length) complain("");
    total.skipped += found.skipped;
    total.lost += found.lost;
    if (!paused && found.packets.length) {
      total.shown += found.packets.length;
      const rows = found.packets.slice(-MOST).reverse().map((packet) => row(packet, chosen));
      list.prepend(...rows);
      while (list.childElementCount > MOST) list.lastElementChild.remove();
    }
    tell();
  }

  function begin() {
    stream?.stop();
    list.replaceChildren();
    total = { shown: 0, skipped: 0, lost: 0 };
    complain("");
    tell();
    const query = new URLSearchParams({ filter: text.value.trim() });
    stream = follow(`packets?${query}`, { line, trouble: complain, refused: complain });
  }

  document.getElementById("filter").addEventListener("submit", (event) => {
    event.preventDefault();
    begin();
  });
  document.getElementById("drops").addEventListener("click", () => {
    text.value = "drops";
    begin();
  });
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
  });
  begin();
}
