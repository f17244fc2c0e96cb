// Joins the parts of the page to the streams of its server.

import { show } from "./hosts.js";
import { draw } from "./map.js";
import { packet } from "./packet.js";
import { packets } from "./packets.js";
import { follow } from "./stream.js";
import { count } from "./text.js";

const state = document.getElementById("state");

follow("live", {
  line({ hosts }) {
    const silent = hosts.filter((host) => host.error !== "").length;
    state.className = silent ? "bad" : "";
    state.textContent = silent ? `${silent} of ${count(hosts.length, "host")} do not answer` : `live, ${count(hosts.length, "host")} asked`;
    draw(document.getElementById("map"), hosts);
    show(document.getElementById("hosts"), hosts);
  },
  trouble(text) {
    if (!text) return;
    state.className = "bad";
    state.textContent = `no answer, trying again: ${text}`;
  },
});
packets(packet());
