// How figures and elements are written. Text goes into the page as text alone: names and reasons
// come from hosts.

/** An element with a class, a text, and children. */
export function element(name, className = "", text = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

/** For example "1.25 G"; of bits or packets a second. */
export function figure(rate) {
  let amount = rate;
  for (const unit of ["", " k", " M", " G"]) {
    if (amount < 999.5 || unit === " G") {
      const digits = unit === "" && (amount >= 10 || amount === 0) ? 0 : amount < 10 ? 2 : amount < 100 ? 1 : 0;
      return amount.toFixed(digits) + unit;
    }
    amount /= 1000;
  }
  return "";
}

/** For example "3 h 12 min". */
export function duration(seconds) {
  let rest = Math.floor(seconds);
  const found = [];
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    if (rest >= length) {
      found.push(`${Math.floor(rest / length)} ${unit}`);
      rest %= length;
    } else if (found.length) break;
  }
  return found.slice(0, 2).join(" ") || "0 s";
}

/** Local time, for example "07:56:51.379". */
export function clock(milliseconds) {
  const time = new Date(milliseconds);
  const two = (number) => String(number).padStart(2, "0");
  const rest = String(time.getMilliseconds()).padStart(3, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${rest}`;
}

/** A verdict's name without its direction: "no route". */
export function reason(verdict) {
  return verdict.slice(verdict.indexOf("_") + 1).replaceAll("_", " ");
}

/** "1 packet", "12 packets". */
export function count(number, noun) {
  return `${number.toLocaleString("en-US")} ${noun}${number === 1 ? "" : "s"}`;
}
