//! Replays of what is kept already: parked deliveries become due now, dead letters are delivered again.

use futures::future::{FutureExt, join_all};
use store::{DeadLetter, Message, MessageId, ParkedSummary, ReplayPlace, ReplaySource, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ReplayerParts;
use super::progress::called;
use super::run::{CHUNK, Halt, Run};
use crate::clock::wall_ms;
use crate::redrive::reread;

/// Most parked deliveries of one replay.
const MAX_ROWS: usize = 100_000;

impl Run {
    /// Makes what is parked due now, once through. One that fails again meanwhile is parked behind where this stands,
    /// so it ends after as many as there were in the beginning.
    pub(super) async fn make_due(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
    ) -> Result<(), Halt> {
        self.begin(desk, stop, vec![ReplaySource::Parked]).await?;
        let id = self.replay.subscription.clone();
        let there = loop {
            let count = called(desk.deliveries.parked_count(&id, MAX_ROWS));
            match self.during(desk, stop, count).await? {
                Ok(parked) => break parked.count as u64,
                Err(error) => self.bear(&error)?,
            }
        };
        let end = self.parts[0].counts.read + there;
        while !self.parts[0].is_done && self.parts[0].counts.read < end {
            let after = self.cursor(0);
            let list = called(desk.deliveries.list(&id, after.as_deref(), CHUNK));
            match self.during(desk, stop, list).await? {
                Ok(page) => {
                    self.make_page_due(desk, stop, &page.deliveries).await?;
                    self.move_to(0, page.next);
                }
                Err(error) => self.bear(&error)?,
            }
        }
        self.parts[0].is_done = true;
        Ok(())
    }

    async fn make_page_due(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        rows: &[ParkedSummary],
    ) -> Result<(), Halt> {
        let at = self.pace.reserve(rows.len(), Instant::now());
        self.pause(desk, stop, at).await?;
        let now_ms = wall_ms(&desk.time);
        let mut left: Vec<&ParkedSummary> = rows.iter().collect();
        let mut made = 0;
        while !left.is_empty() {
            let calls = left
                .iter()
                .map(|row| called(desk.deliveries.make_one_due(&row.key, now_ms)).boxed());
            let done = self.during(desk, stop, join_all(calls.collect::<Vec<_>>())).await?;
            let mut again = Vec::new();
            for (row, done) in left.into_iter().zip(done) {
                match done {
                    Ok(was_waiting) => made += u64::from(was_waiting),
                    Err(error) => {
                        self.bear(&error)?;
                        again.push(row);
                    }
                }
            }
            left = again;
        }
        self.count(0, |counts| {
            counts.read += rows.len() as u64;
            counts.matched += rows.len() as u64;
            counts.parked += made;
        });
        Ok(())
    }

    /// Parks what was given up for the subscription anew, with its attempts at zero, and removes the letters.
    pub(super) async fn revive(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
    ) -> Result<(), Halt> {
        let names = desk.integrations.iter().map(|integration| integration.name().clone());
        self.begin(desk, stop, names.map(ReplaySource::DeadLetters).collect()).await?;
        for part in 0..self.parts.len() {
            let ReplaySource::DeadLetters(name) = self.parts[part].source.clone() else { continue };
            while !self.parts[part].is_done {
                let (after, now_ms) = (self.cursor(part), wall_ms(&desk.time));
                let list =
                    desk.deliveries.list_dead_letters(&name, after.as_deref(), CHUNK, now_ms);
                match self.during(desk, stop, called(list)).await? {
                    Ok(page) => {
                        self.revive_page(desk, stop, part, page.letters).await?;
                        self.move_to(part, page.next);
                    }
                    Err(error) => self.bear(&error)?,
                }
            }
        }
        Ok(())
    }

    async fn revive_page(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        part: usize,
        mut letters: Vec<DeadLetter>,
    ) -> Result<(), Halt> {
        let (subscription, only) = (&self.replay.subscription, self.replay.what.only());
        letters.retain(|letter| {
            letter.subscription.as_ref() == Some(subscription)
                && (only.is_empty() || only.contains(&MessageId::derive(&letter.position)))
        });
        self.count(part, |counts| counts.read += letters.len() as u64);
        self.look(desk, stop).await?;
        let mut revived = Vec::new();
        for letter in letters {
            let found = reread(&letter, &desk.integrations, &desk.decode);
            let wish = self.wish()?;
            let mut messages = found.messages.into_iter().map(|found| found.message);
            match messages.next() {
                Some(message)
                    if found.malformed.is_empty() && wish.wants(&message, &desk.integrations) =>
                {
                    revived.push((letter, message));
                }
                // What is no message, or not this subscription's any more, stays a dead letter.
                _ => {}
            }
        }
        let mut messages = Vec::new();
        for (_, message) in &revived {
            if !self.resumed(desk, stop, part, message).await? {
                messages.push(message.clone());
            }
        }
        self.park(desk, stop, part, messages).await?;
        for (letter, message) in &revived {
            self.missing.remove(&message.id);
            self.forget(desk, stop, letter).await?;
        }
        Ok(())
    }

    /// A chain that had stopped at this message goes on from it, in order; false if none had, and it is to be parked.
    async fn resumed(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        part: usize,
        message: &Message,
    ) -> Result<bool, Halt> {
        if !self.wish()?.stops() {
            return Ok(false);
        }
        let (id, now_ms) = (self.replay.subscription.clone(), wall_ms(&desk.time));
        loop {
            let stream = &message.position.stream_arn;
            let resume = called(desk.deliveries.resume_chain(&id, stream, &message.id, now_ms));
            match self.during(desk, stop, resume).await? {
                Ok(resumed) => {
                    self.count(part, |counts| {
                        counts.matched += u64::from(resumed);
                        counts.parked += u64::from(resumed);
                    });
                    return Ok(resumed);
                }
                Err(error) => self.bear(&error)?,
            }
        }
    }

    async fn forget(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        letter: &DeadLetter,
    ) -> Result<(), Halt> {
        loop {
            let forget = called(desk.deliveries.forget_dead_letter(letter));
            let forgotten: Result<bool, StoreError> = self.during(desk, stop, forget).await?;
            match forgotten {
                Ok(_) => return Ok(()),
                Err(error) => self.bear(&error)?,
            }
        }
    }

    fn cursor(&self, part: usize) -> Option<String> {
        match &self.parts[part].at {
            Some(ReplayPlace::Cursor(cursor)) => Some(cursor.clone()),
            _ => None,
        }
    }

    fn move_to(&mut self, part: usize, next: Option<String>) {
        self.parts[part].is_done = next.is_none();
        self.parts[part].at = next.map(ReplayPlace::Cursor);
        self.count(part, |_| {});
    }
}
