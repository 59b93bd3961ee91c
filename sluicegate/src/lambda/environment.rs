//! What Lambda says to the process: by environment variables, and once, if it cannot start, the other way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http::uri::Authority;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Says that the process is in Lambda, and where its events come from.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
/// Where the unpacked deployment package is.
const TASK_ROOT: &str = "LAMBDA_TASK_ROOT";
const FUNCTION_NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";
const MEMORY: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
/// What the runtime's client reads beside these, and Lambda always sets.
const ALSO_NEEDED: [&str; 1] = ["AWS_LAMBDA_FUNCTION_VERSION"];
/// The configuration in a deployment package.
const PACKAGED: &str = "sluicegate.toml";
/// Bytes of an error that Lambda is told.
const MAX_TOLD: usize = 4_096;

/// Whether the process runs in Lambda.
pub(crate) fn is_here() -> bool {
    std::env::var_os(RUNTIME_API).is_some()
}

/// What Lambda said, checked: the runtime's client would end the process without a word that helps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Environment {
    runtime_api: Authority,
    function: String,
    task_root: Option<PathBuf>,
}

impl Environment {
    /// # Errors
    /// Names the variable that is missing or of a wrong form.
    pub(super) fn read(all: impl Iterator<Item = (String, String)>) -> anyhow::Result<Environment> {
        let all: BTreeMap<String, String> = all.collect();
        let needed = |name: &str| {
            let value = all.get(name).filter(|value| !value.is_empty());
            value.with_context(|| {
                format!("{name} is not set: with {RUNTIME_API} the process takes itself to be in Lambda, which sets both")
            })
        };
        for name in ALSO_NEEDED {
            needed(name)?;
        }
        let memory = needed(MEMORY)?;
        memory.parse::<i32>().ok().with_context(|| {
            format!("{MEMORY}: found {memory:?}, allowed is a whole number of MB")
        })?;
        let address = needed(RUNTIME_API)?;
        let runtime_api = address.parse().ok().with_context(|| {
            format!("{RUNTIME_API}: found {address:?}, allowed is a host with a port")
        })?;
        Ok(Environment {
            runtime_api,
            function: needed(FUNCTION_NAME)?.clone(),
            task_root: all.get(TASK_ROOT).map(PathBuf::from),
        })
    }

    /// The function's name.
    pub(super) fn function(&self) -> &str {
        &self.function
    }

    /// The configuration file that came with the function, if one did.
    pub(super) fn packaged_configuration(&self) -> Option<PathBuf> {
        let file = self.task_root.as_ref()?.join(PACKAGED);
        file.is_file().then_some(file)
    }

    /// Tells Lambda why the function cannot start: it stands in the function's metrics and in its log. The caller limits the time.
    pub(super) async fn report_failed_start(&self, error: &anyhow::Error) -> anyhow::Result<()> {
        let text = format!("{error:#}");
        let told = &text[..text.floor_char_boundary(MAX_TOLD)];
        let body = serde_json::json!({ "errorType": "FailedStart", "errorMessage": told });
        let url = format!("http://{}/2018-06-01/runtime/init/error", self.runtime_api);
        let request = Request::post(url)
            .header("content-type", "application/json")
            .header("lambda-runtime-function-error-type", "FailedStart")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let answer = Client::builder(TokioExecutor::new()).build_http().request(request).await?;
        anyhow::ensure!(answer.status().is_success(), "answered {}", answer.status());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 5] = [
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
        ("AWS_LAMBDA_FUNCTION_NAME", "api"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
    ];

    fn read(changed: (&str, &str)) -> anyhow::Result<Environment> {
        let with = ALL.map(|(name, value)| if name == changed.0 { changed } else { (name, value) });
        Environment::read(with.into_iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn what_is_missing_or_of_a_wrong_form_is_named() {
        let whole = read(("", "")).unwrap();
        assert_eq!((whole.runtime_api.as_str(), whole.function()), ("127.0.0.1:9001", "api"));
        assert_eq!(whole.packaged_configuration(), None, "there is no such file");
        for (name, _) in &ALL[..4] {
            let error = read((name, "")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} is not set")), "{error}");
        }
        let error = read(("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "much")).unwrap_err().to_string();
        assert!(error.contains("\"much\"") && error.contains("MB"), "{error}");
        let error = read(("AWS_LAMBDA_RUNTIME_API", "http://x/y")).unwrap_err().to_string();
        assert!(error.contains("a host with a port"), "{error}");
    }
}
