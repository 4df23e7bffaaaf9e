// What a page does, in whichever browser: `evaluate` runs a function's text in it and gives back what it resolves to.

import assert from "node:assert/strict";

const body = async () => {
  const got = async (path, options) => new Uint8Array(await (await fetch(path, options)).arrayBuffer());
  const whole = (bytes, size) => bytes.length === size && bytes.every((byte, at) => byte === (at >> 16) % 256);
  const seen = {};
  const many = await Promise.all(Array.from({ length: 12 }, () => got("/bytes/300000")));
  seen.several = many.every((one) => whole(one, 300_000));
  seen.chunks = whole(await got("/chunked/300000"), 300_000);
  const sent = new Uint8Array(500_000).map((_, at) => at >> 16);
  seen.upload = whole(await got("/echo", { method: "POST", body: sent }), 500_000);
  seen.empty = (await fetch("/status/204")).status === 204;
  const part = await fetch("/bytes/300000", { headers: { Range: "bytes=65530-65539" } });
  seen.range = part.status === 206 && (await part.arrayBuffer()).byteLength === 10;
  seen.headers = !/^proxy-/m.test(await (await fetch("/headers")).text());
  const early = new AbortController();
  const left = await fetch("/bytes/1000000000", { signal: early.signal });
  await left.body.getReader().read();
  early.abort();
  seen.websocket = await new Promise((resolve) => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
    let times = 0;
    socket.onopen = () => socket.send("x".repeat(100_000));
    socket.onerror = () => resolve(false);
    socket.onmessage = ({ data }) => {
      if (data !== "x".repeat(100_000)) resolve(false);
      else if (++times === 5) socket.close();
      else socket.send(data);
    };
    socket.onclose = ({ code }) => resolve(times === 5 && code === 1005);
  });
  return JSON.stringify(seen);
};

export async function visit(evaluate, without = []) {
  const seen = JSON.parse(await evaluate(`(${body})()`));
  for (const [what, right] of Object.entries(seen)) assert(right || without.includes(what), what);
}
