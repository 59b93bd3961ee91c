//! A key that the store refuses by itself.

use store::Entity;

use super::*;

/// The real store, but for one entity: it is refused as a hot key is, for as long as it is hot.
struct HotKey {
    store: DynamoMessages,
    hot: Arc<AtomicBool>,
    entity: Entity,
}

impl store::MessageStore for HotKey {
    fn put<'a>(
        &'a self,
        batch: &'a [store::StoreItem],
    ) -> futures::future::BoxFuture<'a, store::PutReport> {
        Box::pin(async move {
            let hot = self.hot.load(Ordering::Relaxed);
            let cold: Vec<_> = batch
                .iter()
                .filter(|item| !hot || item.message.entity != self.entity)
                .cloned()
                .collect();
            let mut kept = self.store.put(&cold).await.outcomes.into_iter();
            let refused = || store::PutOutcome::Retry(store::RetryReason::Unprocessed);
            let outcomes =
                batch.iter().map(|item| match hot && item.message.entity == self.entity {
                    true => refused(),
                    false => kept.next().unwrap(),
                });
            store::PutReport { outcomes: outcomes.collect() }
        })
    }

    fn query<'a>(
        &'a self,
        query: &'a store::MessageQuery,
    ) -> futures::future::BoxFuture<'a, Result<store::MessagePage, store::StoreError>> {
        self.store.query(query)
    }

    fn latest<'a>(
        &'a self,
        integration: &'a IntegrationName,
        entity: &'a Entity,
        now_ms: i64,
        consistent: bool,
    ) -> futures::future::BoxFuture<'a, Result<Option<store::Message>, store::StoreError>> {
        self.store.latest(integration, entity, now_ms, consistent)
    }

    fn get<'a>(
        &'a self,
        locator: &'a store::Locator,
        now_ms: i64,
        consistent: bool,
    ) -> futures::future::BoxFuture<'a, Result<Option<store::Message>, store::StoreError>> {
        self.store.get(locator, now_ms, consistent)
    }

    fn get_many<'a>(
        &'a self,
        places: &'a [store::Locator],
        now_ms: i64,
        max_bytes: usize,
    ) -> futures::future::BoxFuture<'a, Result<Vec<Option<store::Message>>, store::StoreError>>
    {
        self.store.get_many(places, now_ms, max_bytes)
    }

    fn announce<'a>(
        &'a self,
        notes: &'a [store::Arrivals],
    ) -> futures::future::BoxFuture<'a, store::PutReport> {
        self.store.announce(notes)
    }

    fn arrivals<'a>(
        &'a self,
        query: &'a store::ArrivalsQuery,
    ) -> futures::future::BoxFuture<'a, Result<store::ArrivalsPage, store::StoreError>> {
        self.store.arrivals(query)
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_key_holds_back_its_own_shard_and_no_other() {
    let hot = Arc::new(AtomicBool::new(true));
    let is_hot = Arc::clone(&hot);
    let entity = Entity::parse("hot").unwrap();
    let key = entity.clone();
    let rig = Rig::start_with(|store| Arc::new(HotKey { store, hot: is_hot, entity: key })).await;
    let to_hot = || batch_of(0, 100, |_| entity.to_string(), message);
    let mut held = Vec::new();
    // The hot shard hands over until the writer takes no more of it.
    let context = to_hot().shard;
    loop {
        let mut one = to_hot();
        one.shard = Arc::clone(&context);
        match rig.try_offer(one, valid()) {
            Ok(cell) => held.push(cell),
            Err(_) => break,
        }
    }
    assert_eq!(held.len(), SyncStoreOptions::default().queue_batches / 2);
    let began = Instant::now();
    for shard in 1..100 {
        let cell = rig.offer(batch(shard, 25, message), valid());
        rig.settled(&cell).await;
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(rig.writer.stats().parallel >= 4, "{:?}", rig.writer.stats());
    hot.store(false, Ordering::Relaxed);
    for cell in &held {
        rig.settled(cell).await;
    }
}
