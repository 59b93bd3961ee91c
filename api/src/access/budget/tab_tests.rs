//! What a tab decides, moment by moment: pure, with clocks that a test moves.

use std::num::NonZeroU64;
use std::time::Duration;

use store::Usage;
use tokio::time::Instant;

use super::tab::{Look, Now, Tab, Terms};
use super::{DAILY_BYTES, DAILY_REQUESTS, REQUESTS};
use crate::options::ClientLimits;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 20_783;
/// An hour before the day ends.
const START: i64 = (DAY * 24 + 23) * 3_600 * SECOND;
const PATIENCE: Duration = Duration::from_millis(250);

/// A moment that goes on.
struct At {
    start: Instant,
    ms: u64,
}

impl At {
    fn new() -> At {
        At { start: Instant::now(), ms: 0 }
    }

    fn now(&self) -> Now {
        let monotonic = self.start + Duration::from_millis(self.ms);
        Now { monotonic, wall_ns: START + i64::try_from(self.ms).unwrap() * 1_000_000 }
    }

    fn pass(&mut self, ms: u64) {
        self.ms += ms;
    }
}

/// 100 a second and 40 at once: a slice of 10, told from 5 on.
const LIMITS: ClientLimits = ClientLimits {
    rate_per_second: 100,
    burst: 40,
    concurrent: 20,
    requests_per_day: None,
    bytes_per_day: None,
};

fn tab(limits: ClientLimits, at: &At) -> Tab {
    Tab::new(Terms { limits, patience: Some(PATIENCE) }, at.now())
}

/// Lets requests in until the tab does not; gives how many, and what it said then.
fn let_in(tab: &mut Tab, now: Now, at_most: u64) -> (u64, Look) {
    for count in 0..at_most {
        let look = tab.look(now);
        if !matches!(look, Look::Free | Look::Alone) {
            return (count, look);
        }
        tab.spend_request(now);
    }
    (at_most, Look::Free)
}

#[tokio::test]
async fn a_slice_is_let_in_and_the_others_are_told_halfway_through_it() {
    let at = At::new();
    let mut tab = tab(LIMITS, &at);
    assert_eq!(let_in(&mut tab, at.now(), 4), (4, Look::Free));
    assert!(!tab.is_worth_telling(at.now(), false) && tab.is_worth_telling(at.now(), true));
    let_in(&mut tab, at.now(), 1);
    assert!(tab.is_worth_telling(at.now(), false));
    let (day, charge) = tab.begin_charge(at.now());
    assert_eq!((day, charge.requests, charge.cost_ns), (DAY, 5, SECOND / 20));
    assert_eq!((charge.from_ns, charge.is_going_on), (START, false));
    assert!(!tab.is_worth_telling(at.now(), true), "one at a time");
    let (more, look) = let_in(&mut tab, at.now(), 99);
    assert_eq!((more, look), (5, Look::Asking { until: at.start + PATIENCE }));
    tab.charged(DAY, Usage { requests: 5, bytes: 0, paid_until_ns: START + SECOND / 20 });
    assert_eq!(let_in(&mut tab, at.now(), 99).0, 5, "what was told is free again");
    assert!(tab.is_worth_telling(at.now(), false));
}

#[tokio::test]
async fn what_others_spent_is_refused_here_until_enough_of_it_came_back() {
    let mut at = At::new();
    let mut tab = tab(LIMITS, &at);
    let_in(&mut tab, at.now(), 5);
    let (day, _) = tab.begin_charge(at.now());
    // 40 is the burst: 60 were let in by all, 20 too many.
    let paid_until_ns = START + 60 * SECOND / 100;
    tab.charged(day, Usage { requests: 60, bytes: 0, paid_until_ns });
    let refused = |ms| Look::Refused { policy: REQUESTS, wait: Duration::from_millis(ms) };
    assert_eq!(tab.look(at.now()), refused(220));
    assert_eq!(tab.left(at.now()).requests, Some(0));
    at.pass(210);
    assert_eq!(tab.look(at.now()), refused(10), "two at a time: a quarter of a slice");
    at.pass(10);
    assert_eq!(let_in(&mut tab, at.now(), 99), (2, refused(20)));
}

#[tokio::test]
async fn without_an_answer_in_time_the_task_goes_by_itself_and_makes_up_for_a_slice_at_most() {
    let mut at = At::new();
    let mut tab = tab(LIMITS, &at);
    let_in(&mut tab, at.now(), 10);
    tab.begin_charge(at.now());
    at.pass(249);
    assert!(matches!(tab.look(at.now()), Look::Asking { .. }));
    at.pass(1);
    assert_eq!(tab.look(at.now()), Look::Alone);
    assert_eq!(tab.left(at.now()).requests, None);
    let_in(&mut tab, at.now(), 30);
    tab.not_charged(at.now());
    assert_eq!(tab.look(at.now()), Look::Alone);
    assert!(!tab.is_worth_telling(at.now(), false), "after a pause");
    assert!(tab.is_worth_telling(at.now(), true), "or when there is no other moment");
    at.pass(500);
    assert!(tab.is_worth_telling(at.now(), false));
    let (day, charge) = tab.begin_charge(at.now());
    assert_eq!((charge.requests, charge.cost_ns), (40, SECOND / 10), "the day's are all counted");
    assert_eq!(tab.look(at.now()), Look::Alone, "until an answer comes");
    tab.not_charged(at.now());
    at.pass(999);
    assert!(!tab.is_worth_telling(at.now(), false), "the pause grows");
    at.pass(1);
    tab.begin_charge(at.now());
    tab.charged(day, Usage { requests: 40, bytes: 0, paid_until_ns: START });
    assert_eq!(tab.look(at.now()), Look::Free);
}

#[tokio::test]
async fn a_days_quota_ends_with_the_day_and_counts_what_the_others_used() {
    let mut at = At::new();
    let limits = ClientLimits { requests_per_day: NonZeroU64::new(800), ..LIMITS };
    let mut tab = tab(limits, &at);
    assert_eq!(let_in(&mut tab, at.now(), 99).0, 8, "a hundredth of it is a slice");
    let (day, charge) = tab.begin_charge(at.now());
    assert_eq!(charge.requests, 8);
    let usage = Usage { requests: 797, bytes: 0, paid_until_ns: START };
    tab.charged(day, usage);
    let refused = Look::Refused { policy: DAILY_REQUESTS, wait: Duration::from_secs(3_600) };
    assert_eq!(let_in(&mut tab, at.now(), 99), (3, refused));
    assert_eq!(tab.left(at.now()).requests_today, Some(0));
    at.pass(3_600_000);
    assert_eq!(tab.look(at.now()), Look::Free);
    assert_eq!(tab.left(at.now()).requests_today, Some(797), "three are due and told today");
    let (tomorrow, charge) = tab.begin_charge(at.now());
    assert_eq!((tomorrow, charge.requests), (DAY + 1, 3));
    tab.charged(day, usage);
    assert_eq!(tab.left(at.now()).requests_today, Some(800), "an answer of yesterday");
}

#[tokio::test]
async fn bytes_count_as_they_go_by() {
    let at = At::new();
    let limits = ClientLimits { bytes_per_day: NonZeroU64::new(1_000_000), ..LIMITS };
    let mut tab = tab(limits, &at);
    tab.spend_bytes(4_999, at.now());
    assert!(!tab.is_worth_telling(at.now(), false));
    tab.spend_bytes(1, at.now());
    assert!(tab.is_worth_telling(at.now(), false), "half of a slice of 10,000");
    tab.spend_bytes(5_000, at.now());
    assert!(matches!(tab.look(at.now()), Look::Asking { .. }));
    tab.spend_bytes(990_000, at.now());
    assert_eq!(tab.used_up_today(), Some((DAILY_BYTES, 1_000_000)));
    let refused = Look::Refused { policy: DAILY_BYTES, wait: Duration::from_secs(3_600) };
    assert_eq!(tab.look(at.now()), refused);
}

#[tokio::test]
async fn a_wrong_clock_elsewhere_does_not_shut_a_client_out() {
    let at = At::new();
    let mut tab = tab(LIMITS, &at);
    let_in(&mut tab, at.now(), 5);
    let (day, _) = tab.begin_charge(at.now());
    tab.charged(day, Usage { requests: 5, bytes: 0, paid_until_ns: START + 3_600 * SECOND });
    assert_eq!(tab.look(at.now()), Look::Alone);
    let_in(&mut tab, at.now(), 5);
    assert_eq!(tab.begin_charge(at.now()).1.from_ns, START, "by the clock here");
}

#[tokio::test]
async fn a_task_that_shares_nothing_counts_for_itself_and_never_asks() {
    let mut at = At::new();
    let limits = ClientLimits { requests_per_day: NonZeroU64::new(800), ..LIMITS };
    let mut tab = Tab::new(Terms { limits, patience: None }, at.now());
    let refused = Look::Refused { policy: DAILY_REQUESTS, wait: Duration::from_secs(3_600) };
    assert_eq!(let_in(&mut tab, at.now(), 9_999), (800, refused));
    assert!(!tab.is_worth_telling(at.now(), true));
    at.pass(3_600_000);
    assert_eq!(tab.left(at.now()).requests_today, Some(800));
}
