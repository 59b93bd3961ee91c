//! The configuration: built-in defaults, under `sluicegate.toml`, under `SLUICEGATE_*` environment
//! variables, under `--set` flags. Parsed into the rooms' own option types before anything starts.
//!
//! It never reads the environment itself (main passes it in), never starts anything and never
//! shows a secret. A configuration that is wrong anywhere is refused whole, with everything that
//! is wrong: file, line, column, key, what was found, what is allowed.
//!
//! `tree` merges the layers, `section` reads keys and collects problems, `sections` knows every
//! key and its limits, `print` writes the result. Start reading at [`Config::load`].

mod api;
mod client_limits;
mod context;
mod delivery;
mod hosted;
mod integrations;
mod oauth;
mod operators;
mod print;
mod problem;
mod publish;
mod secrets;
mod section;
mod sections;
mod streams;
mod suggest;
mod tree;
mod units;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use processor::integration::{Integration, Integrations};

pub(crate) use api::{ApiConfig, ApiTransport};
pub(crate) use operators::Operators;
pub(crate) use problem::ConfigError;
pub(crate) use publish::PublishTargets;
pub(crate) use secrets::Secrets;
pub(crate) use sections::{App, Leases, Memory, Pipelines, Telemetry};
pub(crate) use streams::{Stream, StreamRef};
pub(crate) use units::{parse_bytes, parse_duration};

use crate::clients::AwsOptions;
use context::{Context, Effective};
use problem::{Origin, Problem};
use section::Section;
use tree::Tree;

/// Everything that a service is told.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What this deployment is called.
    pub(crate) app: App,
    /// How AWS is reached.
    pub(crate) aws: AwsOptions,
    /// What is read; may be empty where only the API runs.
    pub(crate) streams: Vec<Stream>,
    /// Messages by their class, `default` included.
    pub(crate) integrations: Arc<Integrations>,
    /// The stream that each integration is published to.
    pub(crate) publish: PublishTargets,
    /// How much memory each pipeline may hold.
    pub(crate) memory: Memory,
    /// Reading, decoding, checkpoints and the two pipelines.
    pub(crate) pipelines: Pipelines,
    /// How workers share the shards.
    pub(crate) leases: Leases,
    /// The operators' port.
    pub(crate) operators: Operators,
    /// The HTTPS API.
    pub(crate) api: ApiConfig,
    /// Logs and metrics.
    pub(crate) telemetry: Telemetry,
    /// What must never be shown.
    pub(crate) secrets: Secrets,
    effective: Vec<Effective>,
    written_integrations: Vec<Integration>,
}

/// Which service a configuration must be complete for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// `sluicegate processor`
    Processor,
    /// `sluicegate api`
    Api,
    /// The API as a function of AWS Lambda.
    Lambda,
}

impl Config {
    /// Merges and checks all layers. `env` is the whole environment; `overrides` are dotted key
    /// paths with their values, the last one wins.
    pub(crate) fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Config, ConfigError> {
        let text = match file.map(std::fs::read_to_string).transpose() {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                let text = format!("cannot be read: {error}");
                let path = file.map(|file| file.display().to_string()).unwrap_or_default();
                let problem = Problem::message(Origin::Default, &path, text);
                return Err(ConfigError::new(None, "", vec![problem]));
            }
        };
        Config::parse(&text, env, overrides)
            .map_err(|problems| ConfigError::new(file.map(Path::to_path_buf), &text, problems))
    }

    fn parse(
        text: &str,
        env: impl Iterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Config, Vec<Problem>> {
        let mut context = Context::default();
        let mut tree = Tree::parse(text, &mut context.problems);
        if !context.problems.is_empty() {
            // Of a file that is not TOML only parts were read: what they miss would be noise.
            return Err(context.problems);
        }
        tree.overlay_env(env, &mut context.problems);
        tree.overlay_flags(overrides, &mut context.problems);
        let integrations = tree.integrations.compile(&mut context.problems);
        let mut root = Section::root(tree.root, &mut context);
        let app = root.section("app", sections::app);
        let aws = root.section("aws", sections::aws);
        let streams = root.sections("streams", streams::stream);
        let memory = root.section("memory", sections::memory);
        let pipelines = sections::pipelines(&mut root);
        let leases = root.section("leases", sections::leases);
        let operators = root.section("operators", operators::read);
        let api = root.section("api", api::read);
        let telemetry = root.section("telemetry", sections::telemetry);
        let secrets = root.section("secrets", secrets::read);
        root.finish();
        streams::check_streams(&streams, &mut context);
        let publish = integrations.as_ref().map(|(written, compiled)| {
            let problems = &mut context.problems;
            publish::targets(api.publish, &streams, written, compiled, problems)
        });
        let (Some((written, integrations)), Some(publish), true) =
            (integrations, publish, context.problems.is_empty())
        else {
            return Err(context.problems);
        };
        let written_integrations = written.into_iter().map(|(one, _)| one).collect();
        let effective = context.effective;
        Ok(Config {
            app,
            aws,
            streams,
            integrations,
            publish,
            memory,
            pipelines,
            leases,
            operators,
            api,
            telemetry,
            secrets,
            effective,
            written_integrations,
        })
    }

    /// Refuses a configuration that is right but does not say what this service needs.
    pub(crate) fn require(&self, service: Service) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        match service {
            Service::Processor if self.streams.is_empty() => {
                problems.push(Problem::missing(
                    "streams",
                    "at least one stream: [[streams]] with a name or an arn",
                ));
            }
            Service::Processor => {}
            Service::Lambda => self.secrets.require(&mut problems),
            Service::Api => {
                self.secrets.require(&mut problems);
                if self.api.transport.is_none() {
                    let needed = "api.tls.cert and api.tls.key (PEM files), or api.transport = \"plain-behind-load-balancer\"";
                    problems.push(Problem::missing("api.tls", needed));
                }
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(ConfigError::new(None, "", problems)),
        }
    }

    /// Keys that somebody set and that mean nothing where Lambda brings the requests.
    pub(crate) fn said_in_vain_to_a_function(&self) -> Vec<String> {
        hosted::in_vain(&self.effective)
    }

    /// The configuration as it is understood, as TOML that gives the same configuration again,
    /// with where each value came from. Secrets are left out.
    pub(crate) fn print(&self) -> String {
        print::print(&self.effective, &self.written_integrations)
    }
}
