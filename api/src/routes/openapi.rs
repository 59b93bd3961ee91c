//! The OpenAPI document: what the handlers say of themselves, and what holds for all of them.
//!
//! Each handler describes what is its own; what the envelope and the authentication add to every answer is put here, in one
//! place, as it is in the code. Start at [`document`].

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::problem::MEDIA_TYPE;
use super::{guarded, open};

#[cfg(test)]
mod tests;

/// What stands in front of the operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluicegate",
        description = "Recent messages of the integrations that a client was granted, over HTTPS. Every error is a problem (RFC 9457); what is not granted is answered like what does not exist.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "messages", description = "What was published, for as long as it is kept"),
        (name = "subscriptions", description = "What is pushed to the client, and where to"),
        (name = "deliveries", description = "What became of it, and having it again"),
        (name = "client", description = "The client itself"),
        (name = "health", description = "For load balancers"),
    )
)]
struct Frame;

/// A refusal: status, description, whether it says when to come back.
pub(crate) type Refused = (&'static str, &'static str, bool);

/// Refusals that any operation may answer.
const ALWAYS: [Refused; 6] = [
    ("400", "A parameter or a header cannot be read", false),
    ("414", "Path and query are too long", false),
    ("431", "The header is too large", false),
    ("500", "A defect on this side", false),
    ("503", "Not now, through no fault of the client", true),
    ("504", "No answer in time", false),
];
/// Of one that takes a body.
const WITH_BODY: [Refused; 2] =
    [("413", "The body is too large", false), ("415", "The body is of another media type", false)];

/// What holds for the guarded operations of a document.
pub(crate) struct Shape {
    /// By which of its schemes one shows who asks.
    pub(crate) schemes: &'static [&'static str],
    /// What they may answer besides.
    pub(crate) refusals: &'static [Refused],
    /// Of one that names something in its path.
    pub(crate) named: Refused,
    /// Header fields of their answers once it is known who asks; a component of each has the name without dashes.
    pub(crate) fields: &'static [&'static str],
}

/// The clients' operations.
const CLIENTS: Shape = Shape {
    schemes: &["apiKey", "bearer"],
    refusals: &[
        ("401", "No key or token that works", false),
        ("429", "More than the client's limits allow", true),
    ],
    named: ("404", "It does not exist, or not for this client", false),
    fields: &["RateLimit-Policy", "RateLimit"],
};

/// The document, as JSON for people: the same in every build of a version.
pub fn document() -> String {
    let (guarded, open) = (guarded().split_for_parts().1, open().split_for_parts().1);
    let mut headers = headers();
    for (name, header) in rate_limit_headers() {
        headers[name] = header;
    }
    whole(Frame::openapi(), guarded, open, &CLIENTS, (security_schemes(), headers, problem()))
}

/// A document of guarded and open operations within a frame, with what holds for all of them. `components` are the
/// security schemes, the headers, and the schema of a problem.
pub(crate) fn whole(
    mut frame: utoipa::openapi::OpenApi,
    mut guarded: utoipa::openapi::OpenApi,
    open: utoipa::openapi::OpenApi,
    shape: &Shape,
    (schemes, headers, problem): (Value, Value, Value),
) -> String {
    let listed: Vec<String> = guarded.paths.paths.keys().cloned().collect();
    guarded.merge(open);
    // The parts' own frames are empty: ours is kept.
    frame.merge(guarded);
    let mut document = serde_json::to_value(&frame).unwrap_or_default();
    for (path, item) in members(&mut document, "paths") {
        let shape = listed.contains(path).then_some(shape);
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            complete(operation, path, shape);
        }
    }
    let components = members(&mut document, "components");
    components.insert("securitySchemes".into(), schemes);
    components.insert("headers".into(), headers);
    let schemas = components.entry("schemas").or_insert_with(|| json!({}));
    schemas["Problem"] = problem;
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn members<'a>(value: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    let member = &mut value[name];
    if !member.is_object() {
        *member = json!({});
    }
    match member {
        Value::Object(members) => members,
        _ => unreachable!("it was made an object above"),
    }
}

/// Adds to an operation what holds for all of its kind; one without a shape is open to anybody.
fn complete(operation: &mut Value, path: &str, shape: Option<&Shape>) {
    let takes_body = operation.get("requestBody").is_some();
    let mut refusals: Vec<_> = ALWAYS.to_vec();
    let schemes = shape.map_or(&[][..], |shape| shape.schemes);
    operation["security"] = schemes.iter().map(|scheme| json!({ *scheme: [] })).collect();
    if let Some(shape) = shape {
        refusals.extend(shape.refusals);
        refusals.extend(path.contains('{').then_some(shape.named));
    }
    if takes_body {
        refusals.extend(WITH_BODY);
    }
    let responses = members(operation, "responses");
    for (status, description, comes_back) in refusals {
        let answer = responses.entry(status).or_insert_with(|| refusal(description));
        if comes_back {
            answer["headers"]["retry-after"] = header("RetryAfter");
        }
    }
    for (status, answer) in responses.iter_mut() {
        // What an operation says of a refusal is its description: the body is that of all.
        if matches!(status.as_bytes(), [b'4' | b'5', ..]) && answer.get("content").is_none() {
            answer["content"] = refusal("")["content"].take();
        }
        answer["headers"]["x-request-id"] = header("RequestId");
        // Known only once it is known who asks.
        if let Some(shape) = shape
            && !matches!(status.as_str(), "401" | "414" | "431" | "503" | "504")
        {
            for name in shape.fields {
                answer["headers"][name.to_lowercase()] = header(&name.replace('-', ""));
            }
        }
        if status == "401" {
            answer["headers"]["www-authenticate"] = header("WwwAuthenticate");
        }
    }
}

fn refusal(description: &str) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    json!({ "description": description, "content": { MEDIA_TYPE: { "schema": schema } } })
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

fn text_header(description: &str) -> Value {
    json!({ "description": description, "schema": { "type": "string" } })
}

fn rate_limit_headers() -> [(&'static str, Value); 2] {
    let policy = text_header("The client's limits (draft-ietf-httpapi-ratelimit-headers)");
    [("RateLimitPolicy", policy), ("RateLimit", text_header("What is left of them"))]
}

/// The header fields that answers of every kind have.
pub(crate) fn headers() -> Value {
    json!({
        "RequestId": text_header("Names this request; to be told to support"),
        "WwwAuthenticate": text_header("How to authenticate"),
        "RetryAfter": {
            "description": "Not worth trying again before so many seconds",
            "schema": { "type": "integer", "minimum": 0 },
        },
    })
}

fn security_schemes() -> Value {
    json!({
        "apiKey": { "type": "apiKey", "in": "header", "name": "x-api-key" },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, or an access token of an issuer that the operator trusts (OAuth 2.0 client credentials)",
        },
    })
}

/// The body of every error: `problem::Problem` writes it.
fn problem() -> Value {
    let mut problem = plain_problem();
    let properties = members(&mut problem, "properties");
    properties.insert(
        "reason".into(),
        json!({ "type": "string", "description": "What is wrong with a message, as a short name" }),
    );
    properties.insert(
        "line".into(),
        json!({ "type": "integer", "minimum": 1, "description": "The line of that message in a batch" }),
    );
    properties.insert(
        "messages".into(),
        json!({
            "type": "array",
            "items": { "$ref": "#/components/schemas/PublishedMessage" },
            "description": "What became of each message, where none is known to be taken",
        }),
    );
    properties.insert(
        "violated-policies".into(),
        json!({
            "type": "array",
            "items": { "type": "string" },
            "description": "Which of the client's limits are used up",
        }),
    );
    problem
}

/// What is in the problems of every document.
pub(crate) fn plain_problem() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457)",
        "required": ["type", "title", "status"],
        "properties": {
            "type": text("Names the kind of problem; `about:blank` where the status says all"),
            "title": text("The kind, in words"),
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": text("This problem, in words"),
            "parameter": text("Which parameter is wrong"),
            "pointer": text("Which field of the body is wrong, as a JSON Pointer"),
            "found": text("What it was"),
            "allowed": text("What it may be"),
        },
    })
}
