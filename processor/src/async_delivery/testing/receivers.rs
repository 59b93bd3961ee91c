//! Receivers whose behaviour is scripted, behind the transport.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use tokio::time::{Instant, sleep};

use super::SECRET;
use crate::async_delivery::webhook::{Answer, Channel, Transport, TransportError, Transports};

/// How a receiver behaves.
#[derive(Debug, Clone)]
pub(in crate::async_delivery) enum Behaviour {
    Accepts,
    Answers(u16),
    AsksToWait(u16, &'static str),
    Takes(Duration),
    Hangs,
    /// Hangs on bodies that contain the text, and accepts the others.
    HangsOn(&'static str),
    /// Takes up to 40 ms and refuses one of ten, as the seed of the receivers has it.
    Wavers,
    IsDown,
}

/// One request as a receiver got it.
#[derive(Debug, Clone)]
pub(in crate::async_delivery) struct Got {
    pub(in crate::async_delivery) host: String,
    pub(in crate::async_delivery) id: String,
    pub(in crate::async_delivery) attempt: u32,
    pub(in crate::async_delivery) at: Instant,
    pub(in crate::async_delivery) body: Bytes,
    pub(in crate::async_delivery) accepted: bool,
    /// How long it took to answer, counted from `at`; only of a receiver that wavers.
    pub(in crate::async_delivery) took: Duration,
}

/// Every receiver of a test, by host.
#[derive(Debug)]
pub(in crate::async_delivery) struct Receivers {
    behaviour: Mutex<BTreeMap<String, Behaviour>>,
    got: Mutex<Vec<Got>>,
    rng: Mutex<fastrand::Rng>,
}

impl Default for Receivers {
    fn default() -> Receivers {
        let rng = Mutex::new(fastrand::Rng::with_seed(11));
        Receivers { behaviour: Mutex::default(), got: Mutex::default(), rng }
    }
}

impl Receivers {
    pub(in crate::async_delivery) fn set(&self, host: &str, behaviour: Behaviour) {
        self.behaviour.lock().unwrap().insert(host.to_owned(), behaviour);
    }

    /// Every request to this host.
    pub(in crate::async_delivery) fn got(&self, host: &str) -> Vec<Got> {
        self.got.lock().unwrap().iter().filter(|got| got.host == host).cloned().collect()
    }

    /// The distinct messages that this host accepted.
    pub(in crate::async_delivery) fn accepted(&self, host: &str) -> BTreeSet<String> {
        self.got(host).into_iter().filter(|got| got.accepted).map(|got| got.id).collect()
    }

    /// Notes the request and checks its signature by the official library.
    fn note(&self, request: &Request<Bytes>, accepted: bool) {
        self.note_taking(request, accepted, Duration::ZERO);
    }

    fn note_taking(&self, request: &Request<Bytes>, accepted: bool, took: Duration) {
        let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap().to_owned();
        let id = header("webhook-id");
        let judge = standardwebhooks::Webhook::new(SECRET).unwrap();
        let signature =
            judge.sign(&id, header("webhook-timestamp").parse().unwrap(), request.body()).unwrap();
        assert_eq!(signature, header("webhook-signature"));
        self.got.lock().unwrap().push(Got {
            host: request.uri().host().unwrap().to_owned(),
            id,
            attempt: header("sluicegate-attempt").parse().unwrap(),
            at: Instant::now(),
            body: request.body().clone(),
            accepted,
            took,
        });
    }
}

struct ScriptedTransport(Arc<Receivers>);

impl Transport for ScriptedTransport {
    fn post(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let receivers = Arc::clone(&self.0);
        Box::pin(async move {
            let host = request.uri().host().unwrap().to_owned();
            let behaviour = receivers
                .behaviour
                .lock()
                .unwrap()
                .get(&host)
                .cloned()
                .unwrap_or(Behaviour::Accepts);
            let answer = |status: u16, retry_after: Option<&str>| Answer {
                status: StatusCode::from_u16(status).unwrap(),
                retry_after: retry_after.map(str::to_owned),
                excerpt: String::new(),
            };
            match behaviour {
                Behaviour::IsDown => Err(TransportError::Connect("connection refused".into())),
                Behaviour::Hangs => {
                    receivers.note(&request, false);
                    std::future::pending().await
                }
                Behaviour::HangsOn(text) => {
                    let hangs = String::from_utf8_lossy(request.body()).contains(text);
                    receivers.note(&request, !hangs);
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    Ok(answer(200, None))
                }
                Behaviour::Wavers => {
                    let (ms, accepted) = {
                        let mut rng = receivers.rng.lock().unwrap();
                        (rng.u64(0..40), rng.u8(0..10) > 0)
                    };
                    receivers.note_taking(&request, accepted, Duration::from_millis(ms));
                    sleep(Duration::from_millis(ms)).await;
                    Ok(answer(if accepted { 200 } else { 422 }, None))
                }
                Behaviour::Takes(span) => {
                    sleep(span).await;
                    receivers.note(&request, true);
                    Ok(answer(200, None))
                }
                Behaviour::Accepts => {
                    receivers.note(&request, true);
                    Ok(answer(204, None))
                }
                Behaviour::Answers(status) => {
                    receivers.note(&request, false);
                    Ok(answer(status, None))
                }
                Behaviour::AsksToWait(status, text) => {
                    receivers.note(&request, false);
                    Ok(answer(status, Some(text)))
                }
            }
        })
    }
}

/// Makes every destination's transport end at the scripted receivers.
pub(super) struct ScriptedTransports(pub(super) Arc<Receivers>);

impl Transports for ScriptedTransports {
    fn for_destination(&self, _: &Channel<'_>) -> Arc<dyn Transport> {
        Arc::new(ScriptedTransport(Arc::clone(&self.0)))
    }
}
