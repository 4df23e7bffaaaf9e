// Visits the site through a proxy with one of Node's clients, and fails where anything is not as it should be.
// usage: visit.mjs CLIENT PROXY PLAIN TLS SIX     (certificates: NODE_EXTRA_CA_CERTS)

import assert from "node:assert/strict";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import tls from "node:tls";
import { HttpProxyAgent } from "http-proxy-agent";
import { HttpsProxyAgent } from "https-proxy-agent";
import { SocksProxyAgent } from "socks-proxy-agent";
import { ProxyAgent, WebSocket, fetch } from "undici";

const [client, proxy, plain, secure, six] = process.argv.slice(2);
const body = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, at) => at >> 16));
const upload = Buffer.alloc(256_000, "0123456789abcdef");

// A wrong login ends here: the word that the test looks for, whichever way the client puts it.
function refused(error) {
  const words = [error, error.cause, error.cause?.cause].join(" ");
  if (/407|authentication|auth/i.test(words)) {
    console.error(`refused: ${words}`);
    process.exit(1);
  }
  throw error;
}

async function withUndici() {
  const dispatcher = new ProxyAgent({ uri: proxy });
  const get = async (url, more) => {
    const answer = await fetch(url, { dispatcher, ...more });
    if (answer.status === 407) refused(new Error("407"));
    return Buffer.from(await answer.arrayBuffer());
  };
  assert(body.equals(await get(`${plain}/bytes/300000`).catch(refused)), "http");
  const many = await Promise.all([plain, secure, plain, secure].map((origin) => get(`${origin}/bytes/300000`)));
  assert(many.every((one) => body.equals(one)), "several at once");
  for (const origin of [plain, secure]) {
    assert(upload.equals(await get(`${origin}/echo`, { method: "POST", body: upload })), "upload");
    assert(body.equals(await get(`${origin}/chunked/300000`)), "chunks");
    const socket = new WebSocket(origin.replace("http", "ws") + "/ws", { dispatcher });
    const heard = new Promise((resolve, reject) => {
      socket.onopen = () => socket.send("x".repeat(100_000));
      socket.onmessage = ({ data }) => resolve(data);
      socket.onerror = ({ error }) => reject(error);
    });
    assert.equal(await heard, "x".repeat(100_000), "websocket");
    socket.close();
  }
  assert(body.equals(await get(`${six}/bytes/300000`)), "IPv6");
  await dispatcher.close();
}

function request(url, agent, options = {}) {
  return new Promise((resolve, reject) => {
    const module = url.startsWith("https") ? https : http;
    const sent = module.request(url, { agent, ...options }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => {
        if (answer.statusCode === 407) reject(new Error("407"));
        else resolve({ body: Buffer.concat(parts), answer });
      });
      answer.on("error", reject);
    });
    sent.on("error", reject);
    sent.on("continue", () => sent.end(options.body));
    if (!options.headers?.Expect) sent.end(options.body);
  });
}

// The three agents: one for SOCKS, one that always sends CONNECT, one that sends absolute-form.
async function withAgent(forPlain, forSecure) {
  const first = await request(`${plain}/bytes/300000`, forPlain).catch(refused);
  assert(body.equals(first.body), "http");
  for (const [origin, agent] of [[plain, forPlain], [secure, forSecure]]) {
    if (!agent) continue;
    // http-proxy-agent writes the head of a request with Expect twice.
    const heads = agent instanceof HttpProxyAgent ? [{}] : [{}, { Expect: "100-continue" }];
    for (const headers of heads) {
      const echoed = await request(`${origin}/echo`, agent, { method: "POST", body: upload, headers });
      assert(upload.equals(echoed.body), `upload ${JSON.stringify(headers)}`);
    }
    const chunked = await request(`${origin}/chunked/300000`, agent, { headers: { TE: "trailers" } });
    assert(body.equals(chunked.body), "chunks");
    assert.equal(chunked.answer.trailers["x-sum"], "300000", "a trailer");
    const head = await request(`${origin}/bytes/7`, agent, { method: "HEAD" });
    assert.equal(head.answer.headers["content-length"], "7", "HEAD");
    const many = await Promise.all([1, 2, 3, 4].map(() => request(`${origin}/bytes/300000`, agent)));
    assert(many.every((one) => body.equals(one.body)), "several at once");
  }
  if (!proxy.startsWith("socks4:")) {
    assert(body.equals((await request(`${six}/bytes/300000`, forPlain)).body), "IPv6");
  }
}

// HTTP/2 straight at the remote: ordinary requests with :scheme http, and CONNECT, all on one connection.
async function withHttp2() {
  const { host, username, password } = new URL(proxy);
  const login = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString("base64");
  const authorization = { "proxy-authorization": `Basic ${login}` };
  const session = http2.connect(`https://${host}`);
  await new Promise((resolve, reject) => session.once("connect", resolve).once("error", reject));
  assert.equal(session.alpnProtocol, "h2");
  const ask = (headers, sent) =>
    new Promise((resolve, reject) => {
      const stream = session.request(headers, { endStream: !sent });
      let answer, trailers;
      const parts = [];
      stream.on("response", (headers) => (answer = headers));
      stream.on("trailers", (headers) => (trailers = headers));
      stream.on("data", (part) => parts.push(part));
      stream.on("end", () => resolve({ status: answer[":status"], answer, trailers, body: Buffer.concat(parts) }));
      stream.on("error", reject);
      if (sent) stream.end(sent);
    });
  const to = (url, more = {}) => {
    const { host, pathname } = new URL(url);
    const asked = { ":scheme": "http", ":authority": host, ":path": pathname };
    return { ...asked, ...authorization, ...more };
  };
  const bare = to(`${plain}/`);
  delete bare["proxy-authorization"];
  const asked = await ask(bare);
  assert.equal(asked.status, 407);
  assert.match(asked.answer["proxy-authenticate"], /^Basic realm=/);
  if ((await ask(to(`${plain}/`))).status === 407) refused(new Error("407"));
  const many = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(() => ask(to(`${plain}/bytes/300000`))));
  assert(many.every((one) => one.status === 200 && body.equals(one.body)), "several at once");
  const echoed = await ask(to(`${plain}/echo`, { ":method": "POST" }), upload);
  assert(upload.equals(echoed.body), "upload");
  const chunked = await ask(to(`${plain}/chunked/300000`, { te: "trailers" }));
  assert(body.equals(chunked.body) && chunked.trailers?.["x-sum"] === "300000", "a trailer");
  const head = await ask(to(`${plain}/bytes/7`, { ":method": "HEAD" }));
  assert.equal(head.answer["content-length"], "7", "HEAD");
  assert.equal((await ask(to(`${plain}/status/204`))).status, 204);
  assert(body.equals((await ask(to(`${six}/bytes/300000`))).body), "IPv6");
  const headers = (await ask(to(`${plain}/headers`))).body.toString();
  assert.doesNotMatch(headers, /proxy-/);

  // TLS to the origin inside a CONNECT stream (RFC 9113 section 8.5).
  const connect = (authority, more = authorization) =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ":method": "CONNECT", ":authority": authority, ...more }, { endStream: false });
      stream.once("response", (headers) => resolve({ stream, status: headers[":status"], headers }));
      stream.once("error", reject);
    });
  const target = new URL(secure);
  const visits = [1, 2, 3].map(async () => {
    const { stream, status } = await connect(target.host);
    assert.equal(status, 200);
    const socket = tls.connect({ socket: stream, host: target.hostname });
    const agent = new https.Agent();
    agent.createConnection = () => socket;
    assert(body.equals((await request(`${secure}/bytes/300000`, agent)).body), "CONNECT");
    socket.destroy();
  });
  await Promise.all(visits);
  const unknown = await connect(target.host, {});
  assert.equal(unknown.status, 407, "each CONNECT needs its login");
  unknown.stream.close();
  const closed = await connect("127.0.0.1:9");
  assert.equal(closed.status, 502);
  assert.match(closed.headers["proxy-status"], /connection_refused/);
  closed.stream.close();
  session.close();
}

switch (client) {
  case "undici": await withUndici(); break;
  case "socks": { const agent = new SocksProxyAgent(proxy); await withAgent(agent, agent); break; }
  case "https": { const agent = new HttpsProxyAgent(proxy); await withAgent(agent, agent); break; }
  case "http": await withAgent(new HttpProxyAgent(proxy), null); break;
  case "http2": await withHttp2(); break;
  default: throw new Error(`unknown client ${client}`);
}
console.log("as it should be");
process.exit(0);
