#!/usr/bin/env node
// A webhook receiver that trusts nothing but the npm library `standardwebhooks` and Node's own crypto.
//
//     NODE_MODULES=DIR node webhook_signatures.mjs SECRET_FILE COUNT [SECONDS]
//
// NODE_MODULES is the node_modules directory that holds the library (default: beside the working directory).
// SECRET_FILE has a key a line: shared secrets (whsec_), which the library verifies with, and public keys (whpk_),
// which Node's Ed25519 does. While keys are rotated each of them has signed every message. It prints its address,
// reads the keys when the first delivery comes, and ends once COUNT different messages were verified, or after
// SECONDS (60). With each key a message is also verified with one byte changed, with another id, and with another
// key: all three must be refused.
//
// Exit codes: 0 = all verified, 1 = not all came or one was wrong, 77 = the library is not installed.

import { createPublicKey, verify as verifyEd25519 } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [secretFile, countText, secondsText = "60"] = process.argv.slice(2);
if (!countText) {
  console.log("usage: node webhook_signatures.mjs SECRET_FILE COUNT [SECONDS]");
  process.exit(2);
}

let Webhook, WebhookVerificationError;
try {
  const modules = resolve(process.env.NODE_MODULES ?? "node_modules");
  ({ Webhook, WebhookVerificationError } = createRequire(`${modules}/x.js`)("standardwebhooks"));
} catch (missing) {
  console.log(`skipped: ${missing.message.split("\n")[0]} (npm install standardwebhooks)`);
  process.exit(77);
}

const count = Number(countText);
const messages = new Set();
let deliveries = 0;
let refused = 0;
const wrong = [];

const OTHERS = {
  whsec: "whsec_" + Buffer.from("another secret of 32 bytes......").toString("base64"),
  // Of RFC 8032's first test.
  whpk: "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
};

// What an Ed25519 public key is preceded by in DER.
const SPKI = Buffer.from("302a300506032b6570032100", "hex");

class Unsigned extends Error {}

// Throws when the key has not signed this.
function verify(key, headers, body) {
  if (key.startsWith("whsec_")) return new Webhook(key).verify(body, headers);
  const der = Buffer.concat([SPKI, Buffer.from(key.slice("whpk_".length), "base64")]);
  const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
  const content = Buffer.concat([
    Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`),
    Buffer.from(body),
  ]);
  const signed = headers["webhook-signature"].split(" ").filter((text) => text.startsWith("v1a,"));
  const fits = (text) => verifyEd25519(null, content, publicKey, Buffer.from(text.slice(4), "base64"));
  if (!signed.some(fits)) throw new Unsigned("no v1a signature fits");
}

// Null when the library says what it should; what it said otherwise.
function judged(key, headers, body) {
  const kind = key.split("_")[0];
  const id = `${headers["webhook-id"]}: ${kind}`;
  try {
    verify(key, headers, body);
  } catch (error) {
    return `${id}: ${error}`;
  }
  const changed = Buffer.from(body);
  changed[0] ^= 1;
  const hostile = [
    ["a changed body", key, headers, changed],
    ["another id", key, { ...headers, "webhook-id": "msg_another" }, body],
    ["another key", OTHERS[kind], headers, body],
  ];
  for (const [what, used, head, content] of hostile) {
    try {
      verify(used, head, content);
      return `${id}: ${what} was verified`;
    } catch (error) {
      const meant = error instanceof WebhookVerificationError || error instanceof Unsigned;
      if (!meant) return `${id}: ${what}: ${error}`;
      refused += 1;
    }
  }
  return null;
}

function end() {
  for (const line of wrong) console.log(`FAIL  ${line}`);
  console.log(
    `npm standardwebhooks: ${messages.size} of ${count} messages verified in ${deliveries} deliveries, ` +
      `${refused} hostile copies refused`,
  );
  process.exit(messages.size === count && wrong.length === 0 ? 0 : 1);
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const keys = readFileSync(secretFile, "ascii").split("\n").filter(Boolean);
    const body = Buffer.concat(chunks);
    const results = keys.map((key) => judged(key, request.headers, body));
    const result = keys.length === 0 ? "there is no key" : results.find(Boolean);
    deliveries += 1;
    if (result) wrong.push(result);
    else messages.add(request.headers["webhook-id"]);
    response.writeHead(result ? 401 : 204).end(() => {
      if (wrong.length > 0 || messages.size >= count) end();
    });
  });
});
server.listen(0, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/hooks`);
});
setTimeout(end, Number(secondsText) * 1000);
