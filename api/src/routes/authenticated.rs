//! The layer of every route that needs a client: who asks, and whether it may ask now.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use store::Client;

use super::App;
use super::envelope::RequestContext;
use super::metered::MeteredBody;
use super::problem::Problem;
use crate::access::{BytesLeft, Peer, Refused, Standing, write_fields};
use crate::{audit, metrics};

/// Who asks, for the handlers.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The client.
    pub(crate) client: Arc<Client>,
    /// What is left of its limits.
    pub(crate) standing: Standing,
    /// Whether bytes are left of its day, for streams.
    pub(crate) bytes_left: BytesLeft,
}

/// See the module.
pub(crate) async fn authenticated(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
    let client = match app.authenticator.client(request.headers(), &peer).await {
        Ok(client) => client,
        Err(refused) => return refusal(&refused).into_response(),
    };
    if let Some(context) = request.extensions().get::<Arc<RequestContext>>() {
        // Set once per request; a second time would be the same client.
        let _ = context.client.set(client.id.clone());
    }
    match app.gates.admit(&client).await {
        Err(refused) => {
            metrics::client_limited(refused.policy);
            audit::limited(&client, refused.policy);
            let mut response =
                Problem::quota_exceeded(&[refused.policy], refused.wait).into_response();
            write_fields(&refused.standing, response.headers_mut());
            response
        }
        Ok(admission) => {
            let standing = admission.standing;
            let bytes_left = admission.meter.bytes_left();
            let caller = Caller { client: Arc::clone(&client), standing, bytes_left };
            request.extensions_mut().insert(caller);
            let upload = admission.meter.beside();
            let request = request.map(|body| MeteredBody::wrap_whole(body, upload));
            let mut response = next.run(request).await;
            audit::answered(&client);
            write_fields(&standing, response.headers_mut());
            response.map(|body| MeteredBody::wrap(body, admission.meter))
        }
    }
}

pub(super) fn refusal(refused: &Refused) -> Problem {
    match refused {
        Refused::Unauthenticated => Problem::unauthorized(),
        Refused::Overloaded => Problem::reduced_capacity(
            "too many keys or tokens that do not work",
            Duration::from_secs(1),
        ),
        Refused::Unavailable => Problem::unavailable("keys and tokens cannot be checked now"),
    }
}
