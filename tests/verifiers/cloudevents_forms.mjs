#!/usr/bin/env node
// A webhook receiver that takes CloudEvents by the npm library `cloudevents` alone.
//
//     NODE_MODULES=DIR node cloudevents_forms.mjs FORM COUNT [SECONDS]
//
// FORM is cloudevents-structured, cloudevents-binary or cloudevents-batch; NODE_MODULES is the node_modules directory
// that holds the library (default: beside the working directory). It prints its address and ends once COUNT different
// events were read, or after SECONDS (60). Each must be a valid event of version 1.0 whose attributes and data are
// those of an earthquake of tests/data.
//
// Exit codes: 0 = all read, 1 = not all came or one was wrong, 77 = the library is not installed.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const TYPES = {
  "cloudevents-structured": "application/cloudevents+json",
  "cloudevents-binary": "application/json",
  "cloudevents-batch": "application/cloudevents-batch+json",
};

const [form, countText, secondsText = "60"] = process.argv.slice(2);
if (!countText || !TYPES[form]) {
  console.log("usage: node cloudevents_forms.mjs FORM COUNT [SECONDS]");
  process.exit(2);
}

let HTTP;
try {
  const modules = resolve(process.env.NODE_MODULES ?? "node_modules");
  ({ HTTP } = createRequire(`${modules}/x.js`)("cloudevents"));
} catch (missing) {
  console.log(`skipped: ${missing.message.split("\n")[0]} (npm install cloudevents)`);
  process.exit(77);
}

const count = Number(countText);
const ids = new Set();
const wrong = [];
let requests = 0;

// The events of a request, as the library reads them.
function events(headers, body) {
  if (headers["content-type"] !== TYPES[form]) throw new Error(`content-type is ${headers["content-type"]}`);
  const read = HTTP.toEvent({ headers, body });
  if (Array.isArray(read) !== (form === "cloudevents-batch")) throw new Error("it is read as another form");
  return [read].flat();
}

// Null when the event is what it should be; what is wrong otherwise.
function problem(event) {
  event.validate();
  if (event.data?.type !== "Feature") return `data is ${typeof event.data}, no earthquake`;
  const found = [
    event.specversion,
    event.id.startsWith("msg_"),
    event.source.startsWith("/v1/integrations/"),
    event.type.startsWith("sluicegate."),
    Boolean(event.subject),
    !Number.isNaN(Date.parse(event.time)),
    event.datacontenttype,
    event.partitionkey,
  ];
  const expected = ["1.0", true, true, true, true, true, "application/json", event.data.properties.net];
  return JSON.stringify(found) === JSON.stringify(expected) ? null : `${found} is not ${expected}`;
}

function end() {
  for (const line of wrong) console.log(`FAIL  ${line}`);
  console.log(`npm cloudevents: ${ids.size} of ${count} events read as ${form} in ${requests} requests`);
  process.exit(ids.size === count && wrong.length === 0 ? 0 : 1);
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const before = wrong.length;
    requests += 1;
    try {
      for (const event of events(request.headers, Buffer.concat(chunks).toString("utf8"))) {
        const found = problem(event);
        if (found) wrong.push(found);
        ids.add(event.id);
      }
    } catch (error) {
      wrong.push(String(error));
    }
    response.writeHead(wrong.length > before ? 400 : 204).end(() => {
      if (wrong.length > 0 || ids.size >= count) end();
    });
  });
});
server.listen(0, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/hooks`);
});
setTimeout(end, Number(secondsText) * 1000);
