//! The in-process connector: real AWS SDK clients talk to [`LocalAws`] without a socket.
//!
//! A request that the SDK built and signed goes straight into the dispatcher; the answer's body, an endless event stream included,
//! is handed over as it is. It applies the SDK's read timeout, since the SDK leaves that to the connector. It opens nothing and
//! spawns nothing. Start at [`InProcess`].

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;

use crate::LocalAws;

/// An SDK HTTP client whose every endpoint is one [`LocalAws`].
#[derive(Debug, Clone)]
pub(crate) struct InProcess {
    aws: LocalAws,
    read_timeout: Option<Duration>,
}

impl InProcess {
    pub(crate) fn new(aws: LocalAws) -> Self {
        Self { aws, read_timeout: None }
    }

    async fn call(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request =
            request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(ConnectorError::user)?.to_bytes();
        let request = http::Request::from_parts(parts, body);
        let answered = match self.read_timeout {
            Some(limit) => tokio::time::timeout(limit, self.aws.dispatch(request))
                .await
                .map_err(|elapsed| ConnectorError::timeout(elapsed.into()))?,
            None => self.aws.dispatch(request).await,
        };
        let response = answered.map_err(|cut| ConnectorError::io(cut.into()))?;
        HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
            .map_err(|error| ConnectorError::other(error.into(), None))
    }
}

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().call(request))
    }
}

impl HttpClient for InProcess {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Self {
            aws: self.aws.clone(),
            read_timeout: settings.read_timeout(),
        })
    }
}
