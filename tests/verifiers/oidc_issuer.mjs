#!/usr/bin/env node
// Access tokens of a certified issuer, the npm package `oidc-provider`, put to the running API.
//
//     NODE_MODULES=DIR node oidc_issuer.mjs serve            an issuer on loopback; prints its address, until SIGTERM
//     node oidc_issuer.mjs judge ISSUER API                  gets tokens there by client credentials and asks the API
//
// The API must take the issuer's tokens for the audience https://api.example.com in all four algorithms, and have its client
// `partner` bound to a client of the id `partner` that may read and publish `earthquakes`. `stranger` is bound to nobody.
//
// Exit codes: 0 = all was answered as it should be, 1 = something was not, 77 = the package is not installed.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const AUDIENCE = "https://api.example.com";
const ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"];
const SCOPES = "integration:earthquakes:read integration:earthquakes:publish integration:flights:read";
const SECRET = "only-for-this-test-on-loopback";

const [mode, ...rest] = process.argv.slice(2);
if (mode === "serve") await serve();
else if (mode === "judge" && rest.length === 2) await judge(...rest);
else {
  console.log("usage: node oidc_issuer.mjs serve | judge ISSUER API");
  process.exit(2);
}

function key(kid, alg, kind, options) {
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...privateKey.export({ format: "jwk" }), kid, use: "sig", ...(alg && { alg }) };
}

async function library(name) {
  try {
    const modules = resolve(process.env.NODE_MODULES ?? "node_modules");
    const path = createRequire(`${modules}/x.js`).resolve(name);
    return await import(pathToFileURL(path));
  } catch (missing) {
    console.log(`skipped: ${missing.message.split("\n")[0]} (npm install oidc-provider)`);
    process.exit(77);
  }
}

// Forgeries of the same claims by the library that the issuer itself signs with.
async function forgeries(issuer, claims) {
  const { SignJWT, UnsecuredJWT } = await library("jose");
  const { keys } = await (await fetch(`${issuer}/jwks`)).json();
  const published = keys.find(({ kid }) => kid === "rs");
  const pem = createPublicKey({ key: published, format: "jwk" }).export({ type: "spki", format: "pem" });
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const signed = (header, key) => new SignJWT(claims).setProtectedHeader({ typ: "at+jwt", ...header }).sign(key);
  const own = { alg: "ES256", kid: "es" };
  return {
    "an unsigned token": new UnsecuredJWT(claims).encode(),
    "HS256 with the published RSA key": await signed({ alg: "HS256", kid: "rs" }, Buffer.from(pem)),
    "another key under a published name": await signed(own, privateKey),
    "a key of its own in the header": await signed({ ...own, jwk: publicKey.export({ format: "jwk" }) }, privateKey),
    "a key at an address of its own": await signed({ ...own, jku: `${issuer}/jwks` }, privateKey),
    "the path of a file as a key's name": await signed({ ...own, kid: "../../../dev/null" }, privateKey),
  };
}

async function serve() {
  const { Provider } = await library("oidc-provider");
  const client = (id) => ({
    client_id: id,
    client_secret: SECRET,
    grant_types: ["client_credentials"],
    response_types: [],
    redirect_uris: [],
  });
  const server = createServer();
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [client("partner"), client("stranger")],
    jwks: {
      keys: [
        key("rs", "RS256", "rsa", { modulusLength: 2048 }),
        key("ps", "PS256", "rsa", { modulusLength: 3072 }),
        key("es", "ES256", "ec", { namedCurve: "P-256" }),
        key("ed", "EdDSA", "ed25519"),
      ],
    },
    enabledJWA: { idTokenSigningAlgValues: ALGORITHMS },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        // A resource for each algorithm, all of them this API; and another API.
        getResourceServerInfo(_, resource) {
          const [audience, alg = "RS256"] = resource.split("/as/");
          return {
            scope: SCOPES,
            audience,
            accessTokenTTL: 300,
            accessTokenFormat: resource.endsWith("/opaque") ? "opaque" : "jwt",
            jwt: { sign: { alg } },
          };
        },
      },
    },
  });
  server.on("request", provider.callback());
  console.log(`issuer on ${issuer}`);
  process.on("SIGTERM", () => process.exit(0));
}

async function token(issuer, client, resource, scope) {
  const answer = await fetch(`${issuer}/token`, {
    method: "POST",
    headers: { authorization: `Basic ${btoa(`${client}:${SECRET}`)}` },
    body: new URLSearchParams({ grant_type: "client_credentials", resource, scope }),
  });
  const body = await answer.json();
  if (!body.access_token) throw new Error(`the issuer: ${answer.status} ${JSON.stringify(body)}`);
  return body.access_token;
}

async function judge(issuer, api) {
  let failed = false;
  const ask = (path, bearer) => fetch(`${api}${path}`, { headers: { authorization: `Bearer ${bearer}` } });
  const note = (well, what) => {
    failed ||= !well;
    console.log(`${well ? "ok  " : "FAIL"} ${what}`);
  };
  const read = "integration:earthquakes:read";
  for (const alg of ALGORITHMS) {
    const good = await token(issuer, "partner", `${AUDIENCE}/as/${alg}`, read);
    const header = JSON.parse(Buffer.from(good.split(".")[0], "base64url"));
    const me = await ask("/v1/me", good);
    const { id, grants } = await me.json();
    note(header.alg === alg && header.typ === "at+jwt", `${alg}: the issuer signs so (typ ${header.typ})`);
    note(me.status === 200 && id === "partner", `${alg}: the API knows its client`);
    note(JSON.stringify(grants?.map((grant) => `${grant.integration}:${grant.action}`)) === '["earthquakes:read"]',
      `${alg}: what the scope and the grants both allow, and no more`);
    const parts = good.split(".");
    const claims = JSON.parse(Buffer.from(parts[1], "base64url"));
    const forged = Buffer.from(JSON.stringify({ ...claims, scope: SCOPES })).toString("base64url");
    note((await ask("/v1/me", `${parts[0]}.${forged}.${parts[2]}`)).status === 401, `${alg}: with other claims it is refused`);
  }
  const both = await token(issuer, "partner", AUDIENCE, SCOPES);
  const seen = await (await ask("/v1/integrations", both)).json();
  note(JSON.stringify(seen.integrations.map((one) => one.name)) === '["earthquakes"]', "a scope without a grant shows nothing");
  const refused = {
    "a token for another API": await token(issuer, "partner", "https://other.example.com", read),
    "a token of a client that is bound to nobody": await token(issuer, "stranger", AUDIENCE, read),
    "an opaque token": await token(issuer, "partner", `${AUDIENCE}/opaque`, read),
    ...(await forgeries(issuer, JSON.parse(Buffer.from(both.split(".")[1], "base64url")))),
  };
  for (const [what, bearer] of Object.entries(refused)) {
    note((await ask("/v1/me", bearer)).status === 401, `${what} is refused`);
  }
  process.exit(failed ? 1 : 0);
}
