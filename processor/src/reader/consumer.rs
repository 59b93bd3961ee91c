//! The registered consumer of a stream, as its readers know it: a name that stays, and an ARN that does not.
//!
//! A consumer that was deregistered and registered again has another ARN; the old one is not found for
//! ever. So who is told so asks for the ARN again, and all readers of the stream see what came of it.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::types::ConsumerStatus;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::turns::Turns;

/// How often the service is asked, over all shards that are read through the consumer.
const LOOK_UPS_PER_SECOND: u32 = 2;

/// A registered consumer. Clones share its ARN.
#[derive(Clone)]
pub(crate) struct Consumer {
    stream_arn: Arc<str>,
    name: Arc<str>,
    arn: Arc<watch::Sender<Arc<str>>>,
    look_ups: Turns,
}

impl Consumer {
    /// The consumer of this ARN, whose last part is its name and the time of its registration.
    pub(crate) fn new(stream_arn: &str, arn: &str) -> Consumer {
        let last = arn.rsplit_once('/').map_or(arn, |(_, last)| last);
        let name = last.rsplit_once(':').map_or(last, |(name, _)| name);
        Consumer {
            stream_arn: Arc::from(stream_arn),
            name: Arc::from(name),
            arn: Arc::new(watch::Sender::new(Arc::from(arn))),
            look_ups: Turns::new(LOOK_UPS_PER_SECOND),
        }
    }

    /// Its ARN, as it was last known.
    pub(crate) fn arn(&self) -> Arc<str> {
        Arc::clone(&self.arn.borrow())
    }

    /// Asks for the ARN again after `stale` was not found; true when there is another one by now.
    /// What one call finds out is an answer for all who wait.
    pub(crate) async fn look_up(
        &self,
        client: aws_sdk_kinesis::Client,
        stale: &str,
        limit: Duration,
    ) -> bool {
        let mut arn = self.arn.subscribe();
        tokio::select! {
            biased;
            _ = arn.wait_for(|arn| **arn != *stale) => return true,
            () = sleep_until(self.look_ups.reserve(Instant::now())) => {}
        }
        let call = client.describe_stream_consumer().stream_arn(&*self.stream_arn);
        let Ok(Ok(answer)) = timeout(limit, call.consumer_name(&*self.name).send()).await else {
            return false;
        };
        let Some(found) = answer.consumer_description else { return false };
        let is_new = found.consumer_arn != *stale;
        if is_new && found.consumer_status == ConsumerStatus::Active {
            tracing::info!(
                consumer = &*self.name,
                arn = found.consumer_arn,
                "the consumer was registered again"
            );
            self.arn.send_replace(Arc::from(found.consumer_arn));
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumers_name_stands_in_its_arn() {
        let stream = "arn:aws:kinesis:eu-west-1:123456789012:stream/s";
        let arn = format!("{stream}/consumer/app-1.x:1517363399");
        let consumer = Consumer::new(stream, &arn);
        assert_eq!((&*consumer.name, &*consumer.arn()), ("app-1.x", &*arn));
    }
}
