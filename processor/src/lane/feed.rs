//! What feeds each of a shard's two lanes next. Pure: how the lanes are goes in, a [`Move`] for each comes out.
//!
//! There is one live reader, for the lanes at the tip. A lane that fell behind is read to by a catch-up reader of its own until
//! it meets the live one ([`super::seam`]). With nobody at the tip the live reader is free, and takes up where a lane ended.

use lease_manager::{Checkpoint, SequenceNumber};

/// Lanes whose ends lie this close to each other in time are fed together, from the one behind: what is read twice is little.
const TOGETHER_MS: u64 = 10_000;

/// What a lane is fed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fed {
    /// By nobody: a parent's lane has not ended.
    Closed,
    /// By the live reader.
    Live,
    /// By nobody: it had no room.
    Detached,
    /// By a reader of its own.
    CatchingUp,
    /// By nobody: it took the shard's last record.
    Done,
}

impl Fed {
    /// The name for metrics and status pages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fed::Closed => "closed",
            Fed::Live => "live",
            Fed::Detached => "detached",
            Fed::CatchingUp => "catching-up",
            Fed::Done => "done",
        }
    }
}

/// How a lane is, as far as its feed is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneView<'a> {
    pub(crate) fed: Fed,
    /// The live reader reads for it: it is fed by it, or about to meet it.
    pub(crate) at_the_tip: bool,
    /// It could take something now.
    pub(crate) ready: bool,
    /// Everything up to here was taken.
    pub(crate) end: &'a Checkpoint,
    /// Everything that arrived until then was taken, in ms since 1970.
    pub(crate) unread_since_ms: i64,
}

/// What a lane is to be fed by from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// As before.
    Stay,
    /// By the live reader, which is not past the lane's end.
    Join,
    /// By the live reader, which starts anew at the smallest end of the lanes that lead.
    Lead,
    /// By a catch-up reader, from the lane's end on.
    CatchUp,
}

/// Plans the feeds. `live_at` is what the live reader has handed out, `None` while nobody knows.
pub(crate) fn plan(lanes: [LaneView<'_>; 2], live_at: Option<&SequenceNumber>) -> [Move; 2] {
    if lanes.iter().any(|lane| lane.at_the_tip) {
        return lanes.map(|lane| beside_the_live_reader(lane, live_at));
    }
    let mut leads = lanes.map(may_lead);
    if leads == [true, true] && !are_close(&lanes) {
        // The one behind would make the other read again what it has: it catches up by itself.
        let ahead = usize::from(lanes[1].end > lanes[0].end);
        leads[1 - ahead] = false;
    }
    leads.map(|leads| if leads { Move::Lead } else { Move::Stay })
}

fn beside_the_live_reader(lane: LaneView<'_>, live_at: Option<&SequenceNumber>) -> Move {
    match (lane.fed, lane.ready, live_at) {
        (Fed::Detached, true, Some(at)) if is_at_or_behind(at, lane.end) => Move::Join,
        (Fed::Detached, true, Some(_)) => Move::CatchUp,
        _ => Move::Stay,
    }
}

/// A lane that catches up while nobody is at the tip may as well be read to by the live reader.
fn may_lead(lane: LaneView<'_>) -> bool {
    match lane.fed {
        Fed::Detached => lane.ready,
        Fed::CatchingUp => true,
        Fed::Closed | Fed::Live | Fed::Done => false,
    }
}

fn are_close([one, two]: &[LaneView<'_>; 2]) -> bool {
    one.end == two.end || one.unread_since_ms.abs_diff(two.unread_since_ms) <= TOGETHER_MS
}

/// Whether what the live reader hands out next begins at or before the end of the lane.
fn is_at_or_behind(live_at: &SequenceNumber, end: &Checkpoint) -> bool {
    match end {
        Checkpoint::At { sequence, .. } => live_at <= sequence,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: u64) -> SequenceNumber {
        SequenceNumber::parse(n.to_string()).unwrap()
    }

    fn at(n: u64) -> Checkpoint {
        Checkpoint::at(number(n))
    }

    fn lane(fed: Fed, end: &Checkpoint) -> LaneView<'_> {
        LaneView { fed, at_the_tip: fed == Fed::Live, ready: true, end, unread_since_ms: 0 }
    }

    fn long_ago(lane: LaneView<'_>) -> LaneView<'_> {
        LaneView { unread_since_ms: -60_000, ..lane }
    }

    #[test]
    fn beside_a_live_lane_the_other_catches_up_or_joins_what_is_not_past_it() {
        let (tip, behind) = (at(9), at(4));
        let lanes = [lane(Fed::Live, &tip), lane(Fed::Detached, &behind)];
        assert_eq!(plan(lanes, Some(&number(9))), [Move::Stay, Move::CatchUp]);
        assert_eq!(plan(lanes, None), [Move::Stay, Move::Stay], "nobody knows where the tip is");
        assert_eq!(plan(lanes, Some(&number(4))), [Move::Stay, Move::Join]);
        assert_eq!(plan(lanes, Some(&number(3))), [Move::Stay, Move::Join], "it skips until 4");
        let full = LaneView { ready: false, ..lanes[1] };
        assert_eq!(plan([lanes[0], full], Some(&number(9))), [Move::Stay, Move::Stay]);
        let never_read = Checkpoint::TrimHorizon;
        let lanes = [lane(Fed::Live, &tip), lane(Fed::Detached, &never_read)];
        assert_eq!(plan(lanes, Some(&number(1))), [Move::Stay, Move::CatchUp]);
    }

    #[test]
    fn with_nobody_at_the_tip_the_lane_that_is_ahead_leads() {
        let (ahead, behind) = (at(9), at(4));
        let (one, two) = (lane(Fed::Detached, &behind), lane(Fed::Detached, &ahead));
        assert_eq!(plan([long_ago(one), two], Some(&number(9))), [Move::Stay, Move::Lead]);
        assert_eq!(plan([two, long_ago(one)], None), [Move::Lead, Move::Stay]);
        let full = LaneView { ready: false, ..two };
        assert_eq!(plan([long_ago(one), full], None), [Move::Lead, Move::Stay]);
        assert_eq!(plan([one, two], None), [Move::Lead, Move::Lead], "they are close");
        let same = long_ago(lane(Fed::Detached, &ahead));
        assert_eq!(plan([same, two], None), [Move::Lead, Move::Lead], "they are at one place");
    }

    #[test]
    fn who_catches_up_leads_when_the_live_lane_has_gone() {
        let (ahead, behind) = (at(9), at(4));
        let gone = LaneView { ready: false, ..lane(Fed::Detached, &ahead) };
        let lanes = [long_ago(lane(Fed::CatchingUp, &behind)), gone];
        assert_eq!(plan(lanes, Some(&number(9))), [Move::Lead, Move::Stay]);
        let about_to_meet = LaneView { at_the_tip: true, ..lanes[0] };
        assert_eq!(plan([about_to_meet, gone], Some(&number(9))), [Move::Stay, Move::Stay]);
    }

    #[test]
    fn a_closed_lane_and_one_that_has_all_are_fed_by_nobody() {
        let (start, end) = (Checkpoint::TrimHorizon, Checkpoint::ShardEnd);
        let lanes = [lane(Fed::Closed, &start), lane(Fed::Done, &end)];
        assert_eq!(plan(lanes, None), [Move::Stay, Move::Stay]);
        let lanes = [lane(Fed::Detached, &start), lane(Fed::Done, &end)];
        assert_eq!(plan(lanes, None), [Move::Lead, Move::Stay]);
    }
}
