//! The API as an AWS Lambda function: takes events from Lambda's runtime API and answers each with the routes of the service.
//!
//! `environment` is what Lambda says to the process, `event` turns what API Gateway, a function URL or a load balancer sends
//! into the request that their client made, `reply` the answer into what they take, `settling` is what happens between an answer
//! and the freeze. What has to be looked at again after a freeze is [`api::Hosted`]'s matter. Start at [`run`].

mod environment;
mod event;
mod export;
mod reply;
mod settling;
mod target;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use api::{Arrival, Hosted};
use aws_smithy_async::time::SharedTimeSource;
use lambda_http::lambda_runtime::tower::layer::layer_fn;
use lambda_http::lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::cli::ConfigArgs;
use crate::clients::Clients;
use crate::commands;
use crate::config::Service;
use crate::services;
use environment::Environment;
pub(crate) use environment::is_here;
use export::Export;
use reply::Reply;
use settling::Settling;

/// API Gateway gives up after 29 s.
const LONGEST_ANSWER: Duration = Duration::from_secs(28);
/// What is left of the function's own time for handing over an answer.
const HANDING_OVER: Duration = Duration::from_millis(500);
/// What may happen after an answer, before the process may be frozen.
const SETTLING: Duration = Duration::from_secs(2);
/// What the report that the function cannot start may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// The function, in the middle of its life.
struct Function {
    hosted: Hosted,
    export: Option<Export>,
    time: SharedTimeSource,
}

/// Answers events until `stop`, which only comes between two of them.
pub(crate) async fn run(args: ConfigArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let environment = Environment::read(commands::environment())?;
    let function = match prepare(args, &environment).await {
        Ok(Some(function)) => Arc::new(function),
        Ok(None) => return Ok(ExitCode::SUCCESS),
        Err(error) => {
            let report = environment.report_failed_start(&error);
            // Lambda notices by itself that the process ended; the report only tells it why.
            if !matches!(tokio::time::timeout(REPORT_TIMEOUT, report).await, Ok(Ok(()))) {
                tracing::warn!("Lambda could not be told why the function does not start");
            }
            return Err(error);
        }
    };
    let answering = Arc::clone(&function);
    let handler = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let function = Arc::clone(&answering);
        async move { function.answer(event).await }
    });
    let settled = Arc::clone(&function);
    let settling = layer_fn(move |inner| Settling::new(inner, Arc::clone(&settled)));
    let events = Box::pin(Runtime::new(handler).layer(settling).run());
    let ended = tokio::select! { biased;
        () = stop.cancelled() => Ok(()),
        ended = events => Err(match ended {
            Ok(()) => anyhow::anyhow!("Lambda's runtime API has no further event, and no end either"),
            Err(error) => anyhow::anyhow!("take events from Lambda's runtime API: {error}"),
        }),
    };
    if let Some(export) = &function.export {
        export.stop().await;
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// Reads the configuration and makes the function; `None` when the configuration was only to be printed.
async fn prepare(
    mut args: ConfigArgs,
    environment: &Environment,
) -> anyhow::Result<Option<Function>> {
    if args.config.is_none() {
        args.config = environment.packaged_configuration();
    }
    let Some(config) = commands::configuration(&args, Some(Service::Lambda))? else {
        return Ok(None);
    };
    commands::start_logs(&config)?;
    let clients = Clients::make(&config.aws).await?;
    let time = clients.time.clone();
    let export = Export::start(&config.telemetry, time.clone())?;
    let hosted = services::hosted(&config, &clients).await.context("the API")?;
    let in_vain = config.said_in_vain_to_a_function();
    if !in_vain.is_empty() {
        tracing::info!(keys = in_vain.join(", "), "configured, and without meaning in Lambda");
    }
    tracing::info!(function = environment.function(), "answering events of Lambda");
    Ok(Some(Function { hosted, export, time }))
}

impl Function {
    async fn answer(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Reply, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let asked = event::read(payload.get()).map_err(|error| Diagnostic {
            error_type: "UnknownEvent".to_owned(),
            error_message: error.to_string(),
        })?;
        drop(payload);
        let arrival = Arrival {
            address: asked.address,
            deadline: Instant::now() + time_to_answer(self.left(context.deadline)),
            max_answer_bytes: asked.from.max_answer_bytes(),
        };
        let span = tracing::info_span!("invocation", aws_request_id = %context.request_id);
        let response = self.hosted.answer(asked.request, arrival).instrument(span).await;
        Ok(reply::of(asked.from, response))
    }

    /// Does what must be done before the process may be frozen.
    async fn settle(&self, deadline_ms: u64) {
        let time = SETTLING.min(self.left(deadline_ms).saturating_sub(HANDING_OVER / 2));
        let until = Instant::now() + time;
        self.hosted.settle(until).await;
        if let Some(export) = &self.export {
            export.if_due(until).await;
        }
    }

    /// Until Lambda ends the invocation.
    fn left(&self, deadline_ms: u64) -> Duration {
        let now = self.time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_millis(deadline_ms).saturating_sub(now)
    }
}

/// The time that an answer may take when Lambda ends the invocation after `left`.
fn time_to_answer(left: Duration) -> Duration {
    left.saturating_sub(HANDING_OVER.min(left / 2)).min(LONGEST_ANSWER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_before_whoever_waits_for_it_gives_up() {
        let answer = |left_ms| time_to_answer(Duration::from_millis(left_ms)).as_millis();
        assert_eq!(answer(900_000), 28_000, "API Gateway is the first");
        assert_eq!(answer(30_000), 28_000);
        assert_eq!(answer(10_000), 9_500, "the function is");
        assert_eq!(answer(3_000), 2_500);
        assert_eq!(answer(100), 50);
        assert_eq!(answer(0), 0);
    }
}
