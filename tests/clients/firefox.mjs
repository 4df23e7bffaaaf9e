// Drives Firefox through a proxy by WebDriver BiDi, and fails where anything is not as it should be.
// usage: firefox.mjs FIREFOX FOLDER PROXY USER PASSWORD PLAIN TLS

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { WebSocket } from "undici";
import { visit } from "./page.mjs";

const [firefox, folder, proxy, user, password, plain, secure] = process.argv.slice(2);
const { protocol, hostname, port } = new URL(proxy);
// An HTTPS proxy can be named by a script only.
const word = { "http:": "PROXY", "https:": "HTTPS", "socks5:": "SOCKS5", "socks4:": "SOCKS4" }[protocol];
const script = `function FindProxyForURL() { return "${word} ${hostname}:${port}"; }`;
const settings = {
  "network.proxy.type": 2,
  "network.proxy.autoconfig_url": `data:text/javascript,${encodeURIComponent(script)}`,
  "network.proxy.allow_hijacking_localhost": true,
  "network.proxy.testing_localhost_is_secure_when_hijacked": true,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "app.update.enabled": false,
  "app.normandy.enabled": false,
  "browser.safebrowsing.downloads.enabled": false,
  "browser.safebrowsing.malware.enabled": false,
  "browser.safebrowsing.phishing.enabled": false,
  "services.settings.server": "data:,",
  "extensions.getAddons.cache.enabled": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "browser.download.folderList": 2,
  "browser.download.dir": folder,
  "browser.download.always_ask_before_handling_new_types": false,
  "signon.autologin.proxy": false,
};
const lines = Object.entries(settings).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`);
writeFileSync(join(folder, "user.js"), lines.join(""));
const browser = spawn(firefox, ["--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0"], {
  stdio: ["ignore", "ignore", "pipe"],
});
process.on("exit", () => browser.kill("SIGKILL"));
let said = "";
const listens = new Promise((resolve, reject) => {
  browser.stderr.on("data", (part) => {
    said += part;
    const found = /WebDriver BiDi listening on (ws:\S+)/.exec(said);
    if (found) resolve(found[1]);
  });
  browser.on("exit", () => reject(new Error(`Firefox ended: ${said}`)));
});
const socket = new WebSocket(`${await listens}/session`);
await new Promise((resolve, reject) => ((socket.onopen = resolve), (socket.onerror = reject)));
const waiting = new Map();
const asked = [];
let last = 0;
function send(method, params) {
  const id = ++last;
  socket.send(JSON.stringify({ id, method, params }));
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}
socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if (message.type === "event") {
    if (message.method === "network.authRequired") answer(message.params);
    return;
  }
  const { resolve, reject } = waiting.get(message.id);
  waiting.delete(message.id);
  if (message.type === "error") reject(new Error(`${message.error}: ${message.message}`));
  else resolve(message.result);
};
// The login is typed by this script, as a person would: a wrong one first.
function answer({ request, response }) {
  asked.push(response);
  const credentials = { type: "password", username: user, password: asked.length === 1 ? "wrong" : password };
  const give = user && asked.length <= 2 ? { action: "provideCredentials", credentials } : { action: "cancel" };
  send("network.continueWithAuth", { request: request.request, ...give }).catch(() => {});
}
await send("session.new", { capabilities: { alwaysMatch: { acceptInsecureCerts: true } } });
await send("session.subscribe", { events: ["network.authRequired"] });
await send("network.addIntercept", { phases: ["authRequired"] });
const { contexts } = await send("browsingContext.getTree", {});
const { context } = contexts[0];
const go = (url) => send("browsingContext.navigate", { context, url, wait: "complete" });
async function evaluate(expression) {
  const target = { context };
  const got = await send("script.evaluate", { expression, target, awaitPromise: true });
  if (got.type !== "success") throw new Error(JSON.stringify(got.exceptionDetails));
  return got.result.value;
}

// To an HTTP/2 proxy Firefox makes a connection for each wss socket, and drops it before it has asked for a tunnel.
const unable = (origin) => (protocol === "https:" && origin === secure ? ["websocket"] : []);
for (const origin of [plain, secure]) {
  await go(`${origin}/files/page.html`);
  assert.equal(await evaluate("document.title"), "A page", origin);
  assert.equal(await evaluate("document.body.dataset.parts"), "20", origin);
  await visit(evaluate, unable(origin));
}
assert.equal(asked.length, user ? 2 : 0, `asked ${JSON.stringify(asked)}`);
for (const { status, authChallenges } of asked) {
  assert.equal(status, 407);
  assert.deepEqual(authChallenges?.map(({ scheme, realm }) => [scheme, realm]), [["Basic", "SwiftProxy"]]);
}

// A file of 100 MB, saved as a person saves one; what a page fetches meanwhile is not held up. Through an HTTP/2 proxy
// not over https: at times Firefox stops reading from the proxy then, with megabytes of its windows left.
for (const [at, origin] of (protocol === "https:" ? [plain] : [plain, secure]).entries()) {
  await go(`${origin}/files/page.html`);
  await evaluate("document.getElementById('big').click()");
  await visit(evaluate, unable(origin));
  const saved = () => readdirSync(folder).filter((name) => /^big/.test(name) && statSync(join(folder, name)).size === 100_000_000);
  for (let times = 0; saved().length <= at; times++) {
    assert(times < 300, `a download of 100 MB: ${readdirSync(folder)}`);
    await pause(100);
  }
}
assert.equal(asked.length, user ? 2 : 0, "stays logged in");

await send("browser.close", {}).catch(() => {});
console.log("as it should be");
process.exit(0);
