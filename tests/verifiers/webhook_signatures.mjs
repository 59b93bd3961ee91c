#!/usr/bin/env node
// A webhook receiver that trusts nothing but the npm library `standardwebhooks`.
//
//     NODE_MODULES=DIR node webhook_signatures.mjs SECRET_FILE COUNT [SECONDS]
//
// NODE_MODULES is the node_modules directory that holds the library (default: beside the working directory).
// It prints its address, reads the signing secret from SECRET_FILE when the first delivery comes, and ends
// once COUNT different messages were verified, or after SECONDS (60). Each message is also verified with one
// byte changed, with another id, and with another secret: the library must refuse all three.
//
// Exit codes: 0 = all verified, 1 = not all came or one was wrong, 77 = the library is not installed.

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

// Null when the library says what it should; what it said otherwise.
function judged(secret, headers, body) {
  const id = headers["webhook-id"];
  try {
    new Webhook(secret).verify(body, headers);
  } catch (error) {
    return `${id}: ${error}`;
  }
  const other = "whsec_" + Buffer.from("another secret of 32 bytes......").toString("base64");
  const changed = Buffer.from(body);
  changed[0] ^= 1;
  const hostile = [
    ["a changed body", secret, headers, changed],
    ["another id", secret, { ...headers, "webhook-id": "msg_another" }, body],
    ["another secret", other, headers, body],
  ];
  for (const [what, key, head, content] of hostile) {
    try {
      new Webhook(key).verify(content, head);
      return `${id}: ${what} was verified`;
    } catch (error) {
      if (!(error instanceof WebhookVerificationError)) return `${id}: ${what}: ${error}`;
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
    const secret = readFileSync(secretFile, "ascii").trim();
    const result = judged(secret, request.headers, Buffer.concat(chunks));
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
