//! The layer of every route that needs an operator: who asks, and whether they may do this.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::audit::Entry;
use super::envelope::RequestContext;
use super::service::Desk;
use super::tokens::OperatorName;
use crate::access::Peer;
use crate::routes::envelope::method_name;

/// Who asks, for the handlers.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) OperatorName);

impl Caller {
    /// As the durable record of changes names them.
    pub(super) fn by(&self) -> String {
        format!("operator {}", self.0.as_str())
    }
}

/// See the module.
pub(super) async fn guarded(
    State(desk): State<Arc<Desk>>,
    mut request: Request,
    next: Next,
) -> Response {
    let entry = entry(&desk, &request);
    let admitted = desk.operators.admit(request.headers(), request.method());
    let operator = match admitted {
        Ok(operator) => operator.name.clone(),
        Err((refusal, operator)) => {
            entry.refused(refusal.as_str(), operator);
            return refusal.problem().into_response();
        }
    };
    request.extensions_mut().insert(Caller(operator.clone()));
    // Held while the request is in work: where that is cut off, its line is still written.
    let entry = entry.of(operator);
    let response = next.run(request).await;
    entry.answered(response.status());
    response
}

fn entry(desk: &Desk, request: &Request) -> Entry {
    let route = request.extensions().get::<MatchedPath>();
    let context = request.extensions().get::<Arc<RequestContext>>();
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
    Entry::new(
        Arc::clone(&desk.audit),
        context.map_or("-", |context| &context.id),
        method_name(request.method()),
        route.map_or("unmatched", MatchedPath::as_str),
        peer,
    )
}
