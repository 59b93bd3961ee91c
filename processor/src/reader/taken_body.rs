//! An answer's body, taken away before the SDK would read it.
//!
//! The SDK finds the endpoint, signs, sends and reads errors; of a call that succeeded, an interceptor
//! keeps the body back for a reader of ours. It never reads a byte itself.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;

/// Where the interceptor of one call puts the body. One per call, never shared between calls.
#[derive(Debug, Clone)]
pub(crate) struct TakenBody {
    /// What the SDK reads in the body's place; it must make an answer of its operation.
    instead: &'static str,
    /// A mutex because an interceptor is shared and immutable to the SDK; held for one move.
    body: Arc<Mutex<Option<SdkBody>>>,
}

impl TakenBody {
    /// An interceptor for one call, whose answer the SDK takes to be `instead`.
    pub(crate) fn new(instead: &'static str) -> TakenBody {
        TakenBody { instead, body: Arc::default() }
    }

    /// The body, once the call succeeded.
    pub(crate) fn take(&self) -> Option<SdkBody> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for TakenBody {
    fn name(&self) -> &'static str {
        "TakenBody"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            let body = std::mem::replace(response.body_mut(), SdkBody::from(self.instead));
            *self.body.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
        Ok(())
    }
}
