//! `sluicegate subscriptions configure`: body form, headers, authentication and client certificate from a file.
//!
//! The file holds secrets, so what is wrong with it is said by line, and never by repeating it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use store::{BodyForm, WebhookAuth, WebhookDestination, WebhookSettings};

use super::args::ConfigureArgs;
use super::{open, refused, view};
use crate::cli::Output;
use crate::commands::{print, print_json};
use crate::config::Config;
use crate::init::wall_ms;

/// A file that holds more is not of settings.
const MAX_BYTES: u64 = 256 * 1024;

pub(super) async fn run(args: ConfigureArgs) -> anyhow::Result<ExitCode> {
    let Some((store, clients, config)) = open(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let output = args.common.output;
    let settings = match read(&text(&args.file)?) {
        Ok(settings) => settings,
        Err(why) => return refused(output, &format!("{}: {why}", args.file.display())),
    };
    let Some(mut subscription) = store.get(&args.id).await? else {
        return refused(output, &format!("there is no subscription {}", args.id));
    };
    let kind = subscription.destination.kind();
    let Some(webhook) = subscription.destination.webhook_mut() else {
        return refused(output, &format!("{} is no webhook but {kind}", args.id));
    };
    if let Err(why) = webhook.configure(&settings) {
        return refused(output, &format!("{}: {why}", args.file.display()));
    }
    if let Err(why) = usable(webhook, &config) {
        return refused(output, &format!("{}: {why}", args.file.display()));
    }
    let by = store::Change { by: &args.common.by, at_ms: wall_ms(&clients.time) };
    let subscription = store.put_as(&subscription, "subscription.change", &by).await?;
    let object = view::object(&subscription, wall_ms(&clients.time));
    match output {
        Output::Text => print(&view::words(&object)),
        Output::Json => print_json(&object)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(path: &Path) -> anyhow::Result<String> {
    let what = || format!("--file {}", path.display());
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        .with_context(what)?;
    Ok(text)
}

fn read(text: &str) -> Result<WebhookSettings, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1)
        });
        // Its message may repeat a value, unless it is about the name of a key.
        let message = error.message();
        let about_keys =
            message.starts_with("unknown field") || message.starts_with("missing field");
        let what = if about_keys {
            message
        } else {
            "this is not of the form that docs/webhooks.md shows"
        };
        format!("line {line}: {what}")
    })
}

/// What a processor of this configuration could never do.
fn usable(webhook: &WebhookDestination, config: &Config) -> Result<(), String> {
    if webhook.form == BodyForm::Thin
        && (config.api.public_url.is_none() || config.secrets.link_signing_key.is_none())
    {
        return Err("form thin: processors make links with api.public_url and secrets.link_signing_key, and this configuration does not set both".to_owned());
    }
    if let Some(WebhookAuth::OAuth(client)) = webhook.auth.as_deref() {
        let url = &client.token_url;
        config.pipelines.guard.check_url(url.uri()).map_err(|refusal| {
            format!("token_url {}: the processor would not go there: {refusal}", url.origin())
        })?;
    }
    if let Some(identity) = &webhook.identity {
        processor::check_identity(&rustls::crypto::ring::default_provider(), identity)
            .map_err(|why| format!("client_certificate: {why}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_or_refused_by_line_without_repeating_a_secret() {
        let settings =
            read("form = \"thin\"\n[headers]\nx-a = \"1\"\n[auth.bearer]\ntoken = \"t\"\n")
                .unwrap();
        assert_eq!(settings.form, BodyForm::Thin);
        for (text, said) in [
            ("form = \"s3cret\"", "line 1"),
            ("form = \"raw\"\n[auth.bearer]\ntoken = 7\npassword = \"s3cret\"", "line "),
            ("[auth.basic]\nuser = \"s3cret\"", "missing field `password`"),
            ("\nfrom = \"raw\"", "line 2: unknown field `from`"),
            ("[auth]\nbearer = \"s3cret\"", "line 2"),
            ("s3cret", "line 1"),
        ] {
            let error = read(text).map(|_| ()).unwrap_err();
            assert!(error.contains(said) && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}
