//! A worker as the binary puts it together: a lease manager and a processor, in a process of its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lease_manager::{LeaseManager, WorkerId};
use processor::integration::Integrations;
use processor::{AwsConfigs, Options, Outlets, Processor, ProcessorHandle, Stores, StreamOptions};
use serde_json::json;
use store::{DeliveryStore, DynamoMessages, SubscriptionStore};
use tokio_util::sync::CancellationToken;

use crate::leases::lanes;
use crate::scheduler::ProcessId;
use crate::world::{APP, World};

/// How often a worker looks for parked deliveries that are due.
const SWEEP: Duration = Duration::from_secs(5);

/// A worker under way.
pub struct Worker {
    pub id: ProcessId,
    pub name: String,
    /// SIGTERM: drains and ends.
    pub stop: CancellationToken,
    /// How it is; nothing for a worker that only owns leases.
    pub handle: Arc<OnceLock<ProcessorHandle>>,
}

impl World {
    /// Starts a worker. `life` is the how-many-eth start in this world.
    pub fn start(&mut self, name: &str, life: u64) -> Worker {
        let (site, stream, climate) = (self.site(), self.stream.clone(), self.climate);
        let read = climate.stream(&stream.arn, &self.consumers);
        let seed = self.seed.wrapping_mul(31).wrapping_add(life);
        let receivers = Arc::clone(&self.receivers);
        let handle = Arc::<OnceLock<ProcessorHandle>>::default();
        self.handles.push(Arc::clone(&handle));
        let held = Arc::clone(&handle);
        let stop = CancellationToken::new();
        let (worker, stopped) = (name.to_owned(), stop.clone());
        self.tell(format!("{name} starts"));
        let id = self.processes.start(async move {
            let (kinesis, dynamodb) = site.clients(&worker);
            let worker_id = WorkerId::parse(&*worker).unwrap();
            let mut leases =
                lease_manager::Options::new(APP, worker_id, lanes().to_vec(), vec![stream]);
            leases.seed = seed;
            let (manager, fleet) =
                LeaseManager::new(leases, dynamodb.clone(), kinesis.clone(), site.time.clone());
            let stores = Stores {
                messages: Arc::new(DynamoMessages::new(dynamodb.clone(), APP)),
                deliveries: DeliveryStore::new(dynamodb.clone(), APP),
                subscriptions: SubscriptionStore::new(dynamodb, APP),
            };
            let mut options = options(&worker, read, seed, receivers.count(), climate.tailed);
            climate.limit(&mut options);
            let outlets =
                Outlets { webhooks: receivers.transports(life), aws: AwsConfigs::unreachable() };
            let (processor, handle) =
                Processor::new(options, kinesis, stores, outlets, fleet, site.time);
            let _ = held.set(handle);
            run(manager, processor, stopped).await
        });
        Worker { id, name: name.to_owned(), stop, handle }
    }
}

/// As `sluicegate` runs the two: it is the manager that is stopped, and neither is of use alone.
async fn run(manager: LeaseManager, processor: Processor, stop: CancellationToken) -> String {
    let manager_stop = stop.child_token();
    let processor_ended = manager_stop.clone();
    let manager = manager.run(manager_stop.clone());
    let processor = async {
        let exit = processor.run(manager_stop).await;
        processor_ended.cancel();
        exit
    };
    let (manager, processor) = tokio::join!(Box::pin(manager), Box::pin(processor));
    format!("{manager:?}, {processor:?}")
}

fn options(
    worker: &str,
    stream: StreamOptions,
    seed: u64,
    receivers: usize,
    tail: bool,
) -> Options {
    let all = serde_json::from_value(json!({ "name": "default", "tail": tail })).unwrap();
    let integrations = Arc::new(Integrations::compile(vec![all]).unwrap());
    let mut options = Options::new(worker, vec![stream], integrations);
    options.seed = seed;
    // Looking for parked deliveries each second would be half of all calls. But a reading of the subscriptions that failed is repeated
    // only after that interval, and until then nothing passes the courier.
    options.async_delivery.sweep_interval =
        if receivers > 0 { SWEEP } else { Duration::from_secs(60) };
    options.async_delivery.watch_interval = Duration::from_secs(4);
    // What a dead worker held of a shard that has ended comes back within a course.
    options.async_delivery.range_claim = Duration::from_secs(10);
    options
}
