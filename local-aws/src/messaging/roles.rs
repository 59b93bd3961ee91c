//! STS: assuming a role, which is refused when the role trusts another external id.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{Messaging, Refused, Told, name_in, read, unknown};

/// How long a session holds.
const SESSION_MS: i64 = 3_600_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assume {
    role_arn: String,
    role_session_name: String,
    external_id: Option<String>,
}

impl Messaging {
    pub(super) fn sts(&self, operation: &str, body: &Bytes) -> Told {
        if operation != "AssumeRole" {
            return Err(unknown(operation));
        }
        let call: Assume = read(body)?;
        let state = self.enter();
        let trusted = state.trusts.get(&call.role_arn);
        if trusted.is_some_and(|trusted| Some(trusted) != call.external_id.as_ref()) {
            let message = format!("not authorized to perform: sts:AssumeRole on {}", call.role_arn);
            return Err(Refused::new("AccessDenied", message));
        }
        let session = &call.role_session_name;
        let role = name_in(&call.role_arn);
        Ok(json!({
            "Credentials": {
                // Says who calls from then on, so that faults and the tap can tell.
                "AccessKeyId": format!("ASIA-{role}"),
                "SecretAccessKey": "any",
                "SessionToken": "any",
                "Expiration": iso(self.now_ms() + SESSION_MS),
            },
            "AssumedRoleUser": {
                "AssumedRoleId": format!("AROA:{session}"),
                "Arn": format!("{}/{session}", call.role_arn),
            },
        }))
    }
}

/// A time as answers and events write it.
pub(super) fn iso(ms: i64) -> String {
    use aws_smithy_types::date_time::{DateTime, Format};

    DateTime::from_millis(ms).fmt(Format::DateTime).unwrap_or_default()
}
