//! `GET /v1/integrations/{integration}/entities/{entity}/latest`: at once, or when there is something that the client
//! does not have yet.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use store::Client;
use tokio::time::Instant;

use super::authenticated::{Caller, refusal};
use super::handlers::{Segments, read, revalidatable};
use super::problem::Problem;
use super::render::Revalidated;
use super::{App, params, prefer};
use crate::access::Peer;
use crate::backend::BackendError;

/// An entity's newest message, at once or when it comes
///
/// With `Prefer: wait=20` the answer is held until there is a message that the client does not have (by `If-None-Match`), or the time is over.
#[utoipa::path(get, path = "/v1/integrations/{integration}/entities/{entity}/latest", tag = "messages", operation_id = "getLatest",
    params(
        ("integration" = String, Path, description = "Name of the integration"),
        ("entity" = String, Path, description = "The entity, percent-encoded", min_length = 1, max_length = 512),
        ("if-none-match" = Option<String>, Header, description = "An `ETag` that the client has already"),
        ("prefer" = Option<String>, Header, description = "`wait=20`: how many seconds the client is willing to wait"),
    ),
    responses(Revalidated))]
pub(crate) async fn latest(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    peer: Option<Extension<Peer>>,
    segments: Segments,
    request: Request,
) -> Result<Response, Problem> {
    let (integration, entity) = read(segments)?;
    // As they are: an extractor would copy each of them.
    let (http::request::Parts { uri, headers, .. }, _) = request.into_parts();
    params::none(&uri)?;
    let asked = Asked { app: &app, integration: &integration, entity: &entity, headers: &headers };
    let wait = prefer::wait(&headers, app.limits.max_wait).filter(|wait| !wait.is_zero());
    // Beyond this many none waits: the preference is not applied, and nothing is refused.
    let place = wait.and_then(|wait| Some((wait, app.waiting.try_acquire().ok()?)));
    let Some((wait, _place)) = place else { return asked.look(&caller.client).await.answer() };
    let peer = peer.map(|Extension(peer)| peer).unwrap_or_default();
    // Apart, so that those who do not wait, which are most, do not carry what waiting needs.
    let waited = Box::pin(asked.wait(caller.client, &peer, Instant::now() + wait));
    let mut answer = waited.await?;
    answer.headers_mut().insert(prefer::PREFERENCE_APPLIED, prefer::applied(wait));
    Ok(answer)
}

/// A question that may be asked again.
struct Asked<'a> {
    app: &'a App,
    integration: &'a str,
    entity: &'a str,
    headers: &'a HeaderMap,
}

/// What was found.
enum Found {
    /// What the client does not have.
    New(Response),
    /// What it has already, or that there is nothing.
    Nothing(Result<Response, Problem>),
    Failed(Problem),
}

impl Found {
    fn answer(self) -> Result<Response, Problem> {
        match self {
            Found::New(response) => Ok(response),
            Found::Nothing(answer) => answer,
            Found::Failed(problem) => Err(problem),
        }
    }
}

impl Asked<'_> {
    async fn look(&self, client: &Client) -> Found {
        match self.app.backend.latest(client, self.integration, self.entity).await {
            Ok(exposed) => {
                let response = revalidatable(&self.app.base_url, self.headers, &exposed);
                match response.status() {
                    StatusCode::NOT_MODIFIED => Found::Nothing(Ok(response)),
                    _ => Found::New(response),
                }
            }
            Err(BackendError::NotFound) => Found::Nothing(Err(BackendError::NotFound.into())),
            Err(error) => Found::Failed(error.into()),
        }
    }

    /// Looks whenever there may be something new, until `deadline`. Who may see it is asked again each time: a key may have been
    /// revoked, and a grant taken away, meanwhile.
    async fn wait(
        &self,
        mut client: Arc<Client>,
        peer: &Peer,
        deadline: Instant,
    ) -> Result<Response, Problem> {
        let watch = self.app.backend.watch(&client, self.integration, self.entity)?;
        let Some(mut watch) = watch else { return self.look(&client).await.answer() };
        loop {
            let answer = match self.look(&client).await {
                Found::Nothing(answer) => answer,
                found => return found.answer(),
            };
            let changed = tokio::select! { biased;
                () = self.app.draining.cancelled() => false,
                changed = watch.changed_until(deadline) => changed,
            };
            let still = self.app.authenticator.client(self.headers, peer).await;
            client = still.map_err(|refused| refusal(&refused))?;
            if !changed {
                return answer;
            }
        }
    }
}
