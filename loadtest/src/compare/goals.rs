//! What the product is held to, and whether it got there.

use super::Consumer;
use super::report::Figures;

/// A goal at one size, with what was found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Goal {
    /// Against whom.
    pub against: Consumer,
    /// The least that is wanted: that many times less CPU than a consumer, or that share of a limit.
    pub wanted: f64,
    /// What was measured.
    pub found: f64,
    /// Whether that is enough.
    pub met: bool,
}

impl Goal {
    /// The goal in words.
    pub fn words(&self) -> String {
        let (wanted, found) = (self.wanted, self.found);
        match is_limit(self.against) {
            true => {
                format!("{:.0} % of {} (goal {:.0} %)", found * 100.0, self.against, wanted * 100.0)
            }
            false => format!("{found:.2}x less CPU than {} (goal {wanted:.1}x)", self.against),
        }
    }
}

fn is_limit(consumer: Consumer) -> bool {
    matches!(consumer, Consumer::Socket | Consumer::Drop)
}

/// What is wanted against whom, for records up to this size, over this transport.
fn wanted(record_bytes: usize, tls: bool) -> &'static [(Consumer, f64)] {
    match (tls, record_bytes) {
        (true, 0..500) => &[],
        (true, _) => &[(Consumer::Sdk, 1.6), (Consumer::Drop, 0.65)],
        (false, 0..500) => &[(Consumer::Sdk, 2.5), (Consumer::Socket, 0.20)],
        (false, 500..5_000) => {
            &[(Consumer::Sdk, 3.0), (Consumer::SdkTuned, 2.0), (Consumer::Socket, 0.30)]
        }
        (false, _) => &[(Consumer::Sdk, 3.5), (Consumer::Socket, 0.55)],
    }
}

/// The goals that can be told from these figures. All goals are ratios of CPU seconds, of the other to the product.
pub(super) fn judge(record_bytes: usize, tls: bool, figures: &[Figures]) -> Vec<Goal> {
    let cost = |consumer| figures.iter().find(|f| f.consumer == consumer).map(|f| f.cpu_s_per_gb);
    let Some(product) = cost(Consumer::Sluicegate) else { return Vec::new() };
    wanted(record_bytes, tls)
        .iter()
        .filter_map(|(against, wanted)| {
            let found = cost(*against)? / product.max(f64::MIN_POSITIVE);
            Some(Goal { against: *against, wanted: *wanted, found, met: found >= *wanted })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::figures;
    use super::*;

    #[test]
    fn a_goal_is_met_from_its_ratio_on_and_needs_both_sides() {
        let of = |sdk| [figures(Consumer::Sluicegate, 1.0), figures(Consumer::Sdk, sdk)];
        let goals = judge(1_000, false, &of(3.0));
        assert_eq!(goals.len(), 1, "who was not measured is no goal");
        assert!(goals[0].met && goals[0].words() == "3.00x less CPU than sdk (goal 3.0x)");
        assert!(!judge(1_000, false, &of(2.99))[0].met);
        assert!(judge(10_000, false, &of(3.4)).iter().all(|goal| !goal.met));
        assert!(judge(1_000, false, &[figures(Consumer::Sdk, 1.0)]).is_empty());
    }

    #[test]
    fn a_limit_is_a_share() {
        let figures = [figures(Consumer::Sluicegate, 2.0), figures(Consumer::Drop, 1.3)];
        let goals = judge(1_000, true, &figures);
        assert_eq!(goals[0].words(), "65 % of drop (goal 65 %)");
        assert!(goals[0].met);
    }
}
