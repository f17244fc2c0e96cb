// Reads a stream of JSON lines, and asks again when it ends.

const AGAIN = 2000;

/**
 * Calls `line` for each object under `url` until `stop()` of what is returned. `trouble` gets a
 * text when there is no answer, "" when there is one again. An error of the request itself (400) is
 * not tried again: `refused` gets its text.
 */
export function follow(url, { line, trouble, refused }) {
  const controller = new AbortController();
  let timer = 0;

  async function read() {
    try {
      const response = await fetch(url, { signal: controller.signal, cache: "no-store" });
      if (!response.ok) {
        const found = await response.json().catch(() => ({ error: `HTTP ${response.status}` }));
        if (response.status === 400 && refused) {
          refused(found.error);
          return;
        }
        throw new Error(found.error);
      }
      trouble("");
      let rest = "";
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) throw new Error("the stream has ended");
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const text of lines) line(JSON.parse(text));
      }
    } catch (error) {
      if (controller.signal.aborted) return;
      trouble(error instanceof TypeError ? "udpoverlay web has ended" : error.message);
      timer = setTimeout(read, AGAIN);
    }
  }

  read();
  return {
    stop() {
      clearTimeout(timer);
      controller.abort();
    },
  };
}
