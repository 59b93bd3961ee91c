//! Looks at the lease table ten times a second for writes that fencing should have refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::harness::aws::{Aws, Item, Sequence, text};
use crate::harness::platform::APP;

const INTERVAL: Duration = Duration::from_millis(100);

/// What was seen of a lease.
#[derive(Debug, Clone)]
struct Seen {
    owner: Option<String>,
    counter: u64,
    checkpoint: Option<Sequence>,
}

/// Watches until it is dropped.
pub struct LeaseWatch {
    wrong: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl LeaseWatch {
    pub fn start(aws: Aws) -> LeaseWatch {
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(watch(aws, Arc::clone(&wrong)));
        LeaseWatch { wrong, task }
    }

    /// Fails if there was a write by somebody who was not the owner any more.
    pub fn check(&self) {
        assert!(!self.task.is_finished(), "the watch goes on");
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

impl Drop for LeaseWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(aws: Aws, wrong: Arc<Mutex<Vec<String>>>) {
    let mut before: BTreeMap<String, Seen> = BTreeMap::new();
    loop {
        for item in aws.scan(APP).await {
            let (key, now) = seen(&item);
            let was = before.insert(key.clone(), now.clone());
            if let Some(what) = was.and_then(|was| contradiction(&was, &now)) {
                wrong.lock().unwrap().push(format!("{key}: {what}"));
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn seen(item: &Item) -> (String, Seen) {
    let counter = item["leaseCounter"].as_n().expect("a number").parse().expect("a number");
    let checkpoint = text(item, "checkpoint").expect("a checkpoint");
    let digits = checkpoint.bytes().all(|byte| byte.is_ascii_digit());
    let seen = Seen {
        owner: text(item, "leaseOwner").map(str::to_owned),
        counter,
        checkpoint: digits.then(|| Sequence::of(checkpoint)),
    };
    (text(item, "leaseKey").expect("a key").to_owned(), seen)
}

/// What of two looks at a lease cannot follow each other: a write under an old counter would show as one of these.
fn contradiction(was: &Seen, now: &Seen) -> Option<String> {
    let says = |what: &str| Some(format!("{what}: {was:?}, then {now:?}"));
    if now.counter < was.counter {
        says("the counter went down")
    } else if now.owner != was.owner && now.counter == was.counter {
        says("two owners under one counter")
    } else if now.checkpoint < was.checkpoint {
        says("the checkpoint went back")
    } else {
        None
    }
}

#[test]
fn a_stale_owner_s_write_is_a_contradiction() {
    let seen = |owner: &str, counter, checkpoint: &str| Seen {
        owner: Some(owner.to_owned()),
        counter,
        checkpoint: Some(Sequence::of(checkpoint)),
    };
    let was = seen("a", 2, "50");
    for (owner, counter, checkpoint) in [("a", 2, "50"), ("a", 2, "51"), ("b", 3, "50")] {
        assert_eq!(contradiction(&was, &seen(owner, counter, checkpoint)), None);
    }
    for (owner, counter, checkpoint) in [("a", 1, "50"), ("b", 2, "50"), ("a", 2, "49")] {
        assert!(contradiction(&was, &seen(owner, counter, checkpoint)).is_some());
    }
}
