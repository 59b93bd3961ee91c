//! Who takes part, and how each is started.

use std::path::Path;
use std::process::Command;

use super::Options;

/// What keeps glibc from giving an event's buffer back to the kernel and taking it again: the one thing that a user of the
/// plain SDK can tune without writing code.
const GLIBC: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "1073741824"), ("MALLOC_TRIM_THRESHOLD_", "1073741824")];

/// A consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consumer {
    /// The product: decoding, routing, both lanes, acknowledgements and checkpoints, with sinks that keep nothing.
    Sluicegate,
    /// A plain consumer with the AWS SDK that only counts records.
    Sdk,
    /// The same with an allocator that was tuned for it.
    SdkTuned,
    /// A bare socket read: the limit of plain HTTP.
    Socket,
    /// A client that drops the body: the limit over TLS.
    Drop,
}

impl Consumer {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Consumer::Sluicegate => "sluicegate",
            Consumer::Sdk => "sdk",
            Consumer::SdkTuned => "sdk-tuned",
            Consumer::Socket => "socket",
            Consumer::Drop => "drop",
        }
    }

    /// Those that make sense over this transport.
    pub fn all(tls: bool) -> Vec<Consumer> {
        match tls {
            false => {
                vec![Consumer::Sluicegate, Consumer::Sdk, Consumer::SdkTuned, Consumer::Socket]
            }
            true => vec![Consumer::Sluicegate, Consumer::Sdk, Consumer::SdkTuned, Consumer::Drop],
        }
    }

    /// Nobody can be cheaper than this one, over this transport.
    pub fn limit(tls: bool) -> Consumer {
        if tls { Consumer::Drop } else { Consumer::Socket }
    }

    /// True for one that counts records; the others count bytes.
    pub(super) fn counts_records(self) -> bool {
        matches!(self, Consumer::Sluicegate | Consumer::Sdk | Consumer::SdkTuned)
    }

    /// The command of a peer; `None` for the product, which needs more than a command.
    pub(super) fn peer(
        self,
        options: &Options,
        endpoint_url: &str,
        ca: Option<&Path>,
    ) -> Option<Command> {
        let peer = match self {
            Consumer::Sluicegate => return None,
            Consumer::Sdk | Consumer::SdkTuned => "sdk",
            Consumer::Socket => "socket",
            Consumer::Drop => "drop",
        };
        let mut command = consumer_command(options, &options.loadtest);
        command.args(["peer", peer, "--stay", "--endpoint-url", endpoint_url]);
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        if self == Consumer::SdkTuned {
            command.envs(GLIBC);
        }
        Some(command)
    }
}

impl std::fmt::Display for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A program on the core that is measured.
pub(super) fn consumer_command(options: &Options, program: &Path) -> Command {
    command(options, program, "1")
}

/// A program on the other core.
pub(super) fn other_command(options: &Options, program: &Path) -> Command {
    command(options, program, "0")
}

fn command(options: &Options, program: &Path, core: &str) -> Command {
    if !options.pin {
        return Command::new(program);
    }
    // `taskset` becomes the program: the process is the same one.
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", core]).arg(program);
    command
}

/// The product's configuration: a zero-cost sink behind each pipeline, and an integration that looks for three fields.
pub(super) fn configuration(app: &str, kinesis: &str, dynamodb: &str, ca: Option<&Path>) -> String {
    let ca = ca.map(|path| format!("ca_bundle = {:?}\n", path.display().to_string()));
    format!(
        r#"[app]
name = "{app}"
[aws]
region = "us-east-1"
kinesis_endpoint_url = "{kinesis}"
dynamodb_endpoint_url = "{dynamodb}"
{}
[[streams]]
name = "load"
consumer = "compare"
start = "trim-horizon"
[[integrations]]
name = "readings"
match = [{{ pointer = "/kind", equals = "reading" }}]
entity = "/device"
time = {{ pointer = "/time", format = "epoch-ms" }}
[sync_store]
sink = "null"
[async_delivery]
sink = "null"
[operators]
listen = "127.0.0.1:0"
[telemetry]
log_level = "warn"
"#,
        ca.unwrap_or_default()
    )
}
