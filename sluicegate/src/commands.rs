//! The commands behind the command line: configuration in, a service run, an exit code out.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use local_aws::{KinesisOptions, LocalAws};
use store::{
    Destination, EventBridgeDestination, EventBus, Pepper, QueueUrl, SnsDestination,
    SqsDestination, TopicArn, WebhookUrl,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::{ConfigArgs, InitArgs, LocalArgs, Output};
use crate::clients::Clients;
use crate::config::{Config, ConfigError, Service};
use crate::init::{self, Dev, Plan, Report};
use crate::operators;
use crate::services::{ApiService, ProcessorService};
use crate::telemetry::{self, LogTarget, MetricsExport};

/// Reads the configuration for a command; `None` when it was only to be printed.
pub(crate) fn configuration(
    args: &ConfigArgs,
    service: Option<Service>,
) -> Result<Option<Config>, ConfigError> {
    let config = Config::load(args.config.as_deref(), environment(), &args.set)?;
    if args.print_config {
        print(&config.print());
        return Ok(None);
    }
    if let Some(service) = service {
        config.require(service)?;
    }
    Ok(Some(config))
}

/// The environment's variables; one that is not UTF-8 cannot be a key of ours, or a value of one.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

/// Starts logs as configured.
pub(crate) fn start_logs(config: &Config) -> anyhow::Result<()> {
    let telemetry = &config.telemetry;
    telemetry::start_logs(&telemetry.log_level, telemetry.log_format, LogTarget::Stderr)
        .map_err(anyhow::Error::msg)
}

/// Starts logs and metrics as configured.
fn telemetry(config: &Config, service: &'static str) -> anyhow::Result<Option<MetricsExport>> {
    start_logs(config)?;
    let telemetry = &config.telemetry;
    let Some(endpoint) = &telemetry.otlp_endpoint else { return Ok(None) };
    Ok(Some(MetricsExport::start(endpoint, service, telemetry.metrics_interval)?))
}

/// `sluicegate processor`
pub(crate) async fn processor(
    args: ConfigArgs,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let Some(config) = configuration(&args, Some(Service::Processor))? else {
        return Ok(ExitCode::SUCCESS);
    };
    let metrics = telemetry(&config, "sluicegate-processor")?;
    let clients = Clients::make(&config.aws).await?;
    let service = ProcessorService::prepare(&config, &clients).await?;
    let (listen, process) = (config.operators.listen, Arc::new(service.handle()));
    let port = operators::bind(&config, &clients, listen, process);
    let (operators, port) = port.await.context("operators.listen")?;
    print(&format!("processor: operators' port on http://{}\n", port.address()));
    if let Some(metrics) = &metrics {
        let service = service.handle();
        metrics.watch_shards(move || service.status().shards);
    }
    let operators_stop = CancellationToken::new();
    let operators = tokio::spawn(operators.run(operators_stop.clone()));
    let ended = Box::pin(service.run(stop)).await;
    operators_stop.cancel();
    operators.await?;
    if let Some(metrics) = metrics {
        tokio::task::spawn_blocking(|| metrics.stop()).await?;
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// `sluicegate api`
pub(crate) async fn api(args: ConfigArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let Some(config) = configuration(&args, Some(Service::Api))? else {
        return Ok(ExitCode::SUCCESS);
    };
    let metrics = telemetry(&config, "sluicegate-api")?;
    let clients = Clients::make(&config.aws).await?;
    let service = ApiService::prepare(&config, &clients).await?;
    let (listen, process) = (config.api.operators_listen, Arc::new(service.handle()));
    let port = operators::bind(&config, &clients, listen, process);
    let (operators, port) = port.await.context("api.operators_listen")?;
    print(&format!("api: listening on {}\n", service.handle().address()));
    print(&format!("api: operators' port on http://{}\n", port.address()));
    // It still answers while the API drains.
    let operators_stop = CancellationToken::new();
    let operators = tokio::spawn(operators.run(operators_stop.clone()));
    let ended = service.run(stop).await;
    operators_stop.cancel();
    operators.await?;
    if let Some(metrics) = metrics {
        tokio::task::spawn_blocking(|| metrics.stop()).await?;
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// `sluicegate local`
pub(crate) async fn local(args: LocalArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    // Held until the end; the system gives it back whatever the end is.
    let _alone = args.data.as_deref().map(alone).transpose()?;
    let options = local_aws::Options {
        dynamodb_path: args.data,
        kinesis: KinesisOptions {
            enforce_limits: args.enforce_limits,
            ..KinesisOptions::default()
        },
        ..local_aws::Options::default()
    };
    let local = LocalAws::new(options)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("--listen {}", args.listen))?;
    let address = listener.local_addr()?;
    print(&format!(
        "Kinesis and DynamoDB on http://{address} (region us-east-1, any credentials)\n"
    ));
    local.serve(listener, stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// Takes a data file for this process alone: two would not see what the other writes.
fn alone(data: &Path) -> anyhow::Result<File> {
    let what = || format!("--data {}", data.display());
    let file = File::options().create(true).append(true).open(data).with_context(what)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!(
                "{}: another process uses it; stop that one, or name another file",
                what()
            )
        }
        Err(TryLockError::Error(error)) => Err(anyhow::Error::new(error).context(what())),
    }
}

/// `sluicegate init`
pub(crate) async fn init(args: InitArgs) -> anyhow::Result<ExitCode> {
    let Some(config) = configuration(&args.config, None)? else { return Ok(ExitCode::SUCCESS) };
    telemetry(&config, "sluicegate-init")?;
    let dev = match args.dev {
        true => {
            let aws = aws_destinations(&args)?;
            let dev = Dev::new(pepper(&config)?, webhook(&config, args.webhook.as_deref())?);
            Some(Dev { types: args.event_types, filter: args.filter, aws, ..dev })
        }
        false => None,
    };
    let streams =
        config.streams.iter().map(|stream| (stream.stream.name().to_owned(), stream.consumers()));
    let plan = Plan { app: config.app.name.clone(), streams: streams.collect(), dev };
    let clients = Clients::make(&config.aws).await?;
    let report = init::run(plan, &clients).await?;
    match args.output {
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&report)?)),
        Output::Text => print(&words(&report)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The address that is to be delivered to, before anything is made for it: one that the processor would
/// never go to is refused here.
pub(crate) fn webhook(config: &Config, text: Option<&str>) -> anyhow::Result<Option<WebhookUrl>> {
    let Some(text) = text else { return Ok(None) };
    let url = WebhookUrl::parse(text).context("--webhook")?;
    config.pipelines.guard.check_url(url.uri()).with_context(|| {
        format!(
            "--webhook {}: the processor would not go there; an operator vouches for a private place with async_delivery.allowed_private = [\"{}:{}\"]",
            url.origin(), url.host(), url.port()
        )
    })?;
    Ok(Some(url))
}

/// The queues, topics and buses that are to be delivered to, under the worker's own permission.
fn aws_destinations(args: &InitArgs) -> anyhow::Result<Vec<Destination>> {
    let mut destinations = Vec::new();
    for text in &args.sqs {
        let queue = QueueUrl::parse(text).context("--sqs")?;
        destinations.push(Destination::Sqs(SqsDestination { queue, role: None }));
    }
    for text in &args.sns {
        let topic = TopicArn::parse(text).context("--sns")?;
        destinations.push(Destination::Sns(SnsDestination { topic, role: None }));
    }
    for text in &args.eventbridge {
        let bus = EventBus::parse(text).context("--eventbridge")?;
        destinations.push(Destination::EventBridge(EventBridgeDestination { bus, role: None }));
    }
    Ok(destinations)
}

fn pepper(config: &Config) -> anyhow::Result<Pepper> {
    let needed = "--dev makes an API key, and keys are hashed with a pepper: set SLUICEGATE_SECRETS__PEPPER to at least 32 random bytes, for example from `openssl rand -hex 32`";
    let secret = config.secrets.pepper.as_ref().context(needed)?;
    Pepper::new(secret.expose()).context(needed)
}

/// What `init` made, for people.
fn words(report: &Report) -> String {
    let mut text = String::new();
    for (what, items) in [("tables", &report.tables), ("streams and consumers", &report.streams)] {
        text.push_str(&format!("{what}\n"));
        for item in items {
            let how = if item.created { "created" } else { "exists " };
            text.push_str(&format!("  {how}  {}\n", item.name));
        }
    }
    if let Some(dev) = &report.dev {
        text.push_str(&format!("client\n  id       {}\n", dev.client));
        text.push_str(&format!("  api key  {}   (shown once)\n", dev.api_key));
        if let (Some(subscription), Some(secret)) = (&dev.subscription, &dev.signing_secret) {
            text.push_str(&format!("subscription\n  id       {subscription}\n"));
            text.push_str(&format!("  secret   {secret}   (shown once)\n"));
        }
    }
    text
}

/// Writes a command's result as JSON, for scripts.
pub(crate) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?));
    Ok(())
}

/// Writes a command's result to standard output; a reader that went away is no failure.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
