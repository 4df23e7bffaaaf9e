// Drives Chromium through a proxy, and fails where anything is not as it should be.
// usage: chromium.mjs CHROMIUM FOLDER PROXY USER PASSWORD PLAIN TLS

import assert from "node:assert/strict";
import { once } from "node:events";
import { statSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { visit } from "./page.mjs";

const [executablePath, folder, proxy, user, password, plain, secure] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
    `--proxy-server=${proxy}`, "--proxy-bypass-list=<-loopback>",
  ],
});
// The login is typed by this script, as a person would: a wrong one first, where one is asked for.
const page = await (await browser.newContext({ acceptDownloads: true })).newPage();
const asked = [];
const cdp = await page.context().newCDPSession(page);
cdp.on("Fetch.requestPaused", ({ requestId }) => cdp.send("Fetch.continueRequest", { requestId }).catch(() => {}));
cdp.on("Fetch.authRequired", ({ requestId, authChallenge }) => {
  asked.push(authChallenge);
  const known = { username: user, password: asked.length === 1 ? "wrong" : password };
  const give = user && asked.length <= 2 ? { response: "ProvideCredentials", ...known } : { response: "CancelAuth" };
  cdp.send("Fetch.continueWithAuth", { requestId, authChallengeResponse: give }).catch(() => {});
});
await cdp.send("Fetch.enable", { handleAuthRequests: true });

for (const origin of [plain, secure]) {
  const answer = await page.goto(`${origin}/files/page.html`, { timeout: 30_000 });
  assert.equal(answer.status(), 200, origin);
  assert.equal(await page.title(), "A page", origin);
  await page.waitForFunction("document.body.dataset.parts === '20'", null, { timeout: 20_000 });
  await visit((script) => page.evaluate(script));
}
if (user) {
  assert.equal(asked.length, 2, `asked ${JSON.stringify(asked)}`);
  for (const { source, scheme, realm } of asked) {
    assert.deepEqual([source, scheme, realm], ["Proxy", "basic", "SwiftProxy"]);
  }
} else {
  assert.deepEqual(asked, []);
}
await cdp.send("Fetch.disable");

// A file of 100 MB, saved as a person saves one; what a page fetches meanwhile is not held up.
for (const origin of [plain, secure]) {
  await page.goto(`${origin}/files/page.html`);
  const started = page.waitForEvent("download", { timeout: 20_000 });
  await page.evaluate("document.getElementById('big').click()");
  const download = await started;
  await visit((script) => page.evaluate(script));
  const file = join(folder, "big");
  await download.saveAs(file);
  assert.equal(await download.failure(), null);
  assert.equal(statSync(file).size, 100_000_000, "a download of 100 MB");
}

// What is refused is shown as refused: an origin that nobody listens on.
const gone = createServer().listen(0, "127.0.0.1");
await once(gone, "listening");
const nobody = `127.0.0.1:${gone.address().port}`;
gone.close();
const closed = await page.goto(`http://${nobody}/`, { timeout: 20_000 }).catch((error) => error);
if (proxy.startsWith("socks")) assert.match(String(closed), /ERR_SOCKS_CONNECTION_FAILED|ERR_CONNECTION_REFUSED|ERR_PROXY/);
else assert.equal(closed.status(), 502);
const closedToo = await page.goto(`https://${nobody}/`, { timeout: 20_000 }).catch((error) => error);
assert.match(String(closedToo), /ERR_SOCKS_CONNECTION_FAILED|ERR_TUNNEL_CONNECTION_FAILED|ERR_CONNECTION_REFUSED|ERR_PROXY/);

await browser.close();
console.log("as it should be");
