//! Tables whose names the configuration gives, such as `[operators.tokens.anna]`.

use std::fmt::Display;

use super::{Entry, Node, Origin, Problem, Section};

impl Section<'_> {
    /// A table of tables whose keys are names that the configuration gives.
    pub(in crate::config) fn named_sections<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str, &mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let path = self.path_of(key);
        let allowed = format!("a table of tables: [{path}.NAME]");
        let entries = match self.take(key) {
            None => return Vec::new(),
            Some(Entry { node: Node::Table(entries), .. }) => entries,
            Some(entry) => {
                let found = entry.node.describe();
                self.context.problems.push(Problem::value(entry.origin, &path, found, allowed));
                return Vec::new();
            }
        };
        let mut values = Vec::new();
        for (name, entry) in entries {
            let path = format!("{path}.{name}");
            match entry.node {
                Node::Table(table) => {
                    values.extend(self.sub(path, table, |section| read(&name, section)));
                }
                other => {
                    let problem =
                        Problem::value(entry.origin, &path, other.describe(), allowed.clone());
                    self.context.problems.push(problem);
                }
            }
        }
        values
    }

    /// Adds that this section's own name, which the configuration gave, is not allowed.
    pub(in crate::config) fn refuse_name(&mut self, name: &str, allowed: impl Display) {
        let known = self.context.effective.iter().find(|one| one.section == self.path);
        let origin = known.map_or(Origin::Default, |one| one.origin.clone());
        let found = format!("the name {name:?}");
        self.context.problems.push(Problem::value(origin, &self.path, found, allowed));
    }
}
