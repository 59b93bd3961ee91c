// Shows /openapi.json: every operation with its parameters, answers and shapes, a curl line, and a way to try it.
// What comes from the document or from an answer becomes text, never markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
// An answer is shown as far as a person would read.
const SHOWN = 20000;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Words between backticks are code.
function prose(text) {
  return (text ?? "").split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));
}

function resolve(spec, value) {
  const seen = new Set();
  while (value && value.$ref && !seen.has(value.$ref)) {
    seen.add(value.$ref);
    value = value.$ref.slice(2).split("/").reduce((at, part) => at?.[part], spec);
  }
  return value ?? {};
}

// A schema in one line: what a person needs to know of a value.
function typeOf(spec, schema) {
  if (schema?.$ref) return schema.$ref.split("/").pop();
  if (!schema) return "any";
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices) return choices.map((one) => typeOf(spec, one)).join(" | ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const names = [schema.type ?? "any"].flat().map((name) =>
    name === "array" ? `${typeOf(spec, schema.items)}[]` : schema.format ? `${name} (${schema.format})` : name);
  return names.join(" | ");
}

function limitsOf(schema) {
  const words = [];
  if (schema.minimum !== undefined || schema.maximum !== undefined) words.push(`${schema.minimum ?? ""} to ${schema.maximum ?? ""}`);
  if (schema.maxLength !== undefined) words.push(`up to ${schema.maxLength} characters`);
  if (schema.maxItems !== undefined) words.push(`up to ${schema.maxItems} items`);
  if (schema.default !== undefined) words.push(`default ${JSON.stringify(schema.default)}`);
  return words.length ? ` (${words.join(", ")})` : "";
}

// Every named shape that a schema leads to, itself first.
function shapes(spec, schema, found = new Map()) {
  if (!schema || typeof schema !== "object") return found;
  const name = schema.$ref?.split("/").pop();
  if (name) {
    if (!found.has(name)) {
      found.set(name, resolve(spec, schema));
      shapes(spec, found.get(name), found);
    }
    return found;
  }
  for (const part of [schema.items, ...(schema.oneOf ?? []), ...(schema.anyOf ?? []), ...(schema.allOf ?? []), ...Object.values(schema.properties ?? {})]) {
    shapes(spec, part, found);
  }
  return found;
}

function properties(spec, schema) {
  const merged = { properties: {}, required: [] };
  for (const part of [schema, ...(schema.allOf ?? []).map((one) => resolve(spec, one))]) {
    Object.assign(merged.properties, part.properties);
    merged.required.push(...(part.required ?? []));
  }
  return merged;
}

function shapeTable(spec, name, schema) {
  const { properties: members, required } = properties(spec, schema);
  const rows = Object.entries(members).map(([member, value]) => make("tr", {},
    make("td", {}, make("code", {}, member), required.includes(member) ? "" : make("span", { class: "dim" }, " optional")),
    make("td", {}, make("code", {}, typeOf(spec, value)), limitsOf(value)),
    make("td", {}, ...prose(value.description))));
  const what = rows.length ? make("table", {}, make("tbody", {}, ...rows)) : make("p", {}, make("code", {}, typeOf(spec, schema)));
  return make("div", {}, make("p", {}, make("b", {}, name), " ", make("span", { class: "dim" }, ...prose(schema.description))), what);
}

function headersFor() {
  const key = document.getElementById("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

function operation(spec, path, method, described) {
  const parameters = (described.parameters ?? []).map((one) => resolve(spec, one));
  const inputs = new Map();
  const parameterRows = parameters.map((parameter) => {
    const input = make("input", { "aria-label": parameter.name, placeholder: parameter.required ? "needed" : "" });
    inputs.set(parameter, input);
    return make("tr", {},
      make("td", {}, make("code", {}, parameter.name), make("span", { class: "dim" }, ` ${parameter.in}`)),
      make("td", {}, ...prose(parameter.description), limitsOf(parameter.schema ?? {})),
      make("td", {}, input));
  });
  const content = resolve(spec, described.requestBody).content ?? {};
  const mediaTypes = Object.keys(content);
  const body = mediaTypes.length ? make("textarea", { "aria-label": "body", spellcheck: "false" }) : null;

  const request = () => {
    let target = path;
    const query = new URLSearchParams();
    const headers = headersFor();
    for (const [parameter, input] of inputs) {
      const value = input.value;
      if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(value));
      else if (value === "") continue;
      else if (parameter.in === "query") query.append(parameter.name, value);
      else if (parameter.in === "header") headers[parameter.name] = value;
    }
    if (body) headers["content-type"] = mediaTypes[0];
    return { url: target + (query.size ? `?${query}` : ""), headers };
  };
  const output = make("pre", { hidden: "" });
  const show = (text) => { output.hidden = false; output.textContent = text; };
  const curl = () => {
    const { url, headers } = request();
    const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    const lines = [`curl -X ${method.toUpperCase()} ${quoted(location.origin + url)}`];
    for (const [name, value] of Object.entries(headers)) {
      lines.push(`-H ${name === "authorization" ? '"Authorization: Bearer $SLUICEGATE_API_KEY"' : quoted(`${name}: ${value}`)}`);
    }
    if (body && body.value) lines.push(`--data-binary ${quoted(body.value)}`);
    show(lines.join(" \\\n  "));
  };
  const send = async (event) => {
    const missing = [...inputs].filter(([parameter, input]) => parameter.required && input.value === "");
    if (missing.length) return show(`needed: ${missing.map(([parameter]) => parameter.name).join(", ")}`);
    event.target.disabled = true;
    const abort = new AbortController();
    const limit = setTimeout(() => abort.abort(), 30000);
    try {
      const { url, headers } = request();
      const answer = await fetch(url, { method: method.toUpperCase(), headers, body: body?.value || undefined, signal: abort.signal, cache: "no-store", credentials: "omit" });
      const head = [`HTTP ${answer.status}`, ...[...answer.headers].map(([name, value]) => `${name}: ${value}`)].join("\n");
      const reader = answer.body?.getReader();
      const decoder = new TextDecoder();
      let text = "";
      show(head);
      while (reader && text.length < SHOWN) {
        const { done, value } = await reader.read();
        if (done) break;
        text += decoder.decode(value, { stream: true });
        show(`${head}\n\n${pretty(text)}`);
      }
      if (text.length >= SHOWN) { abort.abort(); show(`${head}\n\n${text.slice(0, SHOWN)}\n... (cut here)`); }
    } catch (error) {
      if (error.name !== "AbortError") show(String(error));
    } finally {
      clearTimeout(limit);
      event.target.disabled = false;
    }
  };

  const answers = Object.entries(described.responses ?? {}).map(([status, one]) => {
    const answer = resolve(spec, one);
    const schema = Object.values(answer.content ?? {})[0]?.schema;
    return make("tr", {}, make("td", {}, make("code", {}, status)), make("td", {}, ...prose(answer.description)),
      make("td", {}, schema ? make("code", {}, typeOf(spec, schema)) : ""));
  });
  const found = new Map();
  for (const one of Object.values(content)) shapes(spec, one.schema, found);
  for (const one of Object.values(described.responses ?? {})) {
    for (const media of Object.values(resolve(spec, one).content ?? {})) shapes(spec, media.schema, found);
  }
  const id = described.operationId ?? `${method}-${path}`;
  return make("article", { id },
    make("h3", {}, ...prose(described.summary ?? id)),
    make("p", { class: "path" }, make("span", { class: `method ${method}` }, method.toUpperCase()), path),
    described.description ? make("p", {}, ...prose(described.description)) : null,
    parameterRows.length ? make("table", {}, make("tbody", {}, ...parameterRows)) : null,
    body ? make("p", { class: "dim" }, `Body: ${mediaTypes.join(" or ")}`) : null, body,
    make("p", {}, make("button", { type: "button", onclick: send }, "Try it"), " ", make("button", { type: "button", onclick: curl }, "As curl")),
    output,
    make("details", {}, make("summary", {}, "Answers"), make("table", {}, make("tbody", {}, ...answers))),
    found.size ? make("details", {}, make("summary", {}, "Shapes"), ...[...found].map(([name, schema]) => shapeTable(spec, name, schema))) : null);
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function page(spec) {
  document.getElementById("title").textContent = `${spec.info.title} API ${spec.info.version}`;
  document.getElementById("about").textContent = spec.info.description ?? "";
  const tags = (spec.tags ?? []).map((tag) => [tag.name, tag.description ?? ""]);
  for (const [tag, description] of tags) {
    const here = [];
    for (const [path, item] of Object.entries(spec.paths)) {
      for (const method of METHODS.filter((name) => item[name]?.tags?.includes(tag))) here.push([path, method, item[method]]);
    }
    if (!here.length) continue;
    document.getElementById("contents").append(make("h2", { title: description }, tag),
      ...here.map(([, , one]) => make("a", { href: `#${one.operationId}` }, ...prose(one.summary))));
    document.getElementById("operations").append(...here.map(([path, method, one]) => operation(spec, path, method, one)));
  }
}

document.getElementById("access").addEventListener("submit", (event) => event.preventDefault());
fetch("/openapi.json").then((answer) => answer.json()).then(page).catch((error) => {
  document.getElementById("operations").textContent = `/openapi.json cannot be read: ${error}`;
});
