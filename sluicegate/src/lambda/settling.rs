//! Around each invocation: after its answer was handed over, and before the next event is asked for, what must be done before
//! the process may be frozen. The client has its answer by then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lambda_http::lambda_runtime::{Error, LambdaInvocation, Service};

use super::Function;

/// See the module.
pub(super) struct Settling<S> {
    inner: S,
    function: Arc<Function>,
}

impl<S> Settling<S> {
    pub(super) fn new(inner: S, function: Arc<Function>) -> Self {
        Self { inner, function }
    }
}

impl<S> Service<LambdaInvocation> for Settling<S>
where
    S: Service<LambdaInvocation, Response = (), Error = Error>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let deadline_ms = invocation.context.deadline;
        let handed_over = self.inner.call(invocation);
        let function = Arc::clone(&self.function);
        Box::pin(async move {
            let handed_over = handed_over.await;
            function.settle(deadline_ms).await;
            handed_over
        })
    }
}
