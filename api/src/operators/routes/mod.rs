//! The routes of the operators' port. Start at [`router`].

mod clients;
mod dead_letters;
mod failure;
mod keys;
mod leases;
mod letter;
mod oauth;
pub(super) mod openapi;
mod process;
mod record;

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use store::ClientId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::envelope::envelope;
use super::guard;
use super::service::Desk;
use crate::routes::params::not_utf8;
use crate::routes::problem::Problem;
use crate::routes::{nothing_here, problems_only, wrong_method};

/// The only segment of a path.
type Segment = Result<Path<String>, PathRejection>;

/// All routes over one [`Desk`].
pub(super) fn router(desk: Arc<Desk>) -> Router {
    let (guarded, _) = guarded().split_for_parts();
    let (open, _) = open().split_for_parts();
    let guard = from_fn_with_state(Arc::clone(&desk), guard::guarded);
    let described = Router::new().route("/openapi.json", get(openapi::served));
    let routes = open.merge(described).merge(guarded.route_layer(guard));
    routes
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(problems_only))
        .layer(from_fn_with_state(Arc::clone(&desk), envelope))
        .with_state(desk)
}

/// The operations that need an operator.
fn guarded() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new()
        .routes(routes!(clients::list, clients::create))
        .routes(routes!(clients::show, clients::change, clients::delete))
        .routes(routes!(keys::issue))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::show, keys::revoke))
        .routes(routes!(oauth::bind, oauth::unbind))
        .routes(routes!(record::changes))
        .routes(routes!(record::usage))
        .routes(routes!(leases::list))
        .routes(routes!(leases::why))
        .routes(routes!(leases::release))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::redrive))
}

/// The operations that anybody on the port may call.
fn open() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new()
        .routes(routes!(process::healthz))
        .routes(routes!(process::readyz))
        .routes(routes!(process::state))
}

fn segment(segment: Segment) -> Result<String, Problem> {
    segment.map(|Path(text)| text).map_err(|_| not_utf8())
}

/// What cannot be a client's id is no client's.
fn client_id(text: &str) -> Result<ClientId, Problem> {
    ClientId::parse(text).map_err(|_| Problem::not_found())
}
