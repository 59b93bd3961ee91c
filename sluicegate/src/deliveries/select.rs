//! The dead letters that an operator means, page by page.

use std::collections::VecDeque;

use store::{DeadLetter, DeadLetterFilter, DeliveryStore, IntegrationName, StoreError};

use super::args::SelectArgs;
use crate::config::Config;

/// Letters of one reading.
const PAGE: usize = 100;

/// Which letters are meant.
#[derive(Debug)]
pub(super) struct Selection {
    integrations: Vec<IntegrationName>,
    filter: DeadLetterFilter,
}

impl Selection {
    /// What the command line says; all configured integrations unless it names some.
    pub(super) fn new(args: &SelectArgs, config: &Config, now_ms: i64) -> Selection {
        let configured = || config.integrations.iter().map(|i| i.name().clone()).collect();
        Selection {
            integrations: match args.integration.is_empty() {
                true => configured(),
                false => args.integration.clone(),
            },
            filter: DeadLetterFilter {
                reasons: args.reason.clone(),
                since_ms: args.since.map(|since| since.ms(now_ms)),
                message: args.message.clone(),
                subscription: None,
            },
        }
    }
}

/// Reads what is selected. Removing letters that were read disturbs nothing.
pub(super) struct Pages<'a> {
    store: &'a DeliveryStore,
    selection: Selection,
    now_ms: i64,
    left: VecDeque<IntegrationName>,
    after: Option<String>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(store: &'a DeliveryStore, selection: Selection, now_ms: i64) -> Pages<'a> {
        let left = selection.integrations.iter().cloned().collect();
        Pages { store, selection, now_ms, left, after: None }
    }

    /// Some more letters, perhaps none; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<DeadLetter>>, StoreError> {
        let Some(name) = self.left.front() else { return Ok(None) };
        let page =
            self.store.list_dead_letters(name, self.after.as_deref(), PAGE, self.now_ms).await?;
        self.after = page.next;
        if self.after.is_none() {
            self.left.pop_front();
        }
        let mut letters = page.letters;
        letters.retain(|letter| self.selection.filter.takes(letter));
        Ok(Some(letters))
    }
}
