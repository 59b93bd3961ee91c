//! The configured integrations, checked against each other and ready to look into messages.

use std::collections::BTreeMap;

use store::IntegrationName;

use super::{
    CloudEventAttribute, Condition, DEFAULT_INTEGRATION, Field, Integration, Pointer, SlotId, Test,
    TimeFormat, Tree,
};

/// The most integrations of one configuration.
const MAX_INTEGRATIONS: usize = 1000;

/// All integrations in the order in which they are tried; `default` is the last.
#[derive(Debug)]
pub struct Integrations {
    /// The same order as `rules`.
    integrations: Vec<Integration>,
    rules: Vec<Rule>,
    tree: Tree,
    cloud_event: CloudEvent,
}

/// Why integrations do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntegrationError {
    /// A name cannot be used twice: messages are kept under it.
    #[error(
        "integration `{name}` is configured twice: its first entry is number {first}, its second number {second}"
    )]
    Duplicate {
        /// The name.
        name: IntegrationName,
        /// Place of the first in the configuration, from 1.
        first: usize,
        /// Place of the second, from 1.
        second: usize,
    },
    /// An integration that would take every message.
    #[error(
        "integration `{name}` has no `match` and would take every message: give it a condition, or name it `default`"
    )]
    NoCondition {
        /// The name.
        name: IntegrationName,
    },
    /// `default` takes what is left over, so it has no conditions.
    #[error(
        "integration `default` takes what no other one matches, so it cannot have a `match`: give it another name, or remove the conditions"
    )]
    DefaultWithCondition,
    /// The same field twice in `required`, which is a slip.
    #[error("integration `{name}` requires `{pointer}` twice")]
    RequiredTwice {
        /// The name.
        name: IntegrationName,
        /// The field.
        pointer: Pointer,
    },
    /// The name that operational events have.
    #[error(
        "integration `{name}`: the name is reserved for what clients are told about their destinations; give it another one"
    )]
    Reserved {
        /// The name.
        name: IntegrationName,
    },
    /// What is kept nowhere cannot be followed where it is kept.
    #[error(
        "integration `{name}` has `tail`, but is kept in no store: take `tail` away, or leave `stores` out"
    )]
    TailWithoutStore {
        /// The name.
        name: IntegrationName,
    },
    /// More than a router should try one after the other.
    #[error("{found} integrations are configured; at most {MAX_INTEGRATIONS} are allowed")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// `default` is not a name in the store: cannot happen while the name's rule stands.
    #[error("the name `default` was refused: {detail}")]
    DefaultName {
        /// Why.
        detail: String,
    },
}

/// One integration's questions to a message, by slots of the tree.
#[derive(Debug)]
pub(crate) struct Rule {
    /// All must hold.
    pub(crate) conditions: Vec<(SlotId, Test)>,
    /// A condition asks for an attribute of a CloudEvent, so the message must be one.
    pub(crate) only_cloud_events: bool,
    pub(crate) entity: Option<SlotId>,
    pub(crate) time: Option<(SlotId, TimeFormat)>,
    /// In the order of the integration's `required`.
    pub(crate) required: Vec<SlotId>,
}

/// The attributes of a CloudEvent that are understood without configuration.
#[derive(Debug)]
pub(crate) struct CloudEvent {
    pub(crate) specversion: SlotId,
    pub(crate) subject: SlotId,
    pub(crate) time: SlotId,
}

impl Integrations {
    /// Compiles the integrations of a configuration, in its order; none is allowed, and gives
    /// `default` alone.
    ///
    /// # Errors
    /// When they do not go together: a name twice, no conditions, conditions on `default`.
    pub fn compile(configured: Vec<Integration>) -> Result<Integrations, IntegrationError> {
        check(&configured)?;
        let integrations = with_default_last(configured)?;
        let attributes = Attributes::new();
        let tree = Tree::new(integrations.iter().flat_map(pointers).chain(attributes.pointers()));
        let slots = Slots { tree: &tree, attributes: &attributes };
        let rules = integrations.iter().map(|i| slots.rule(i)).collect();
        let cloud_event = CloudEvent {
            specversion: slots.of(&attributes.specversion),
            subject: slots.of(&attributes.subject),
            time: slots.of(&attributes.time),
        };
        Ok(Integrations { integrations, rules, tree, cloud_event })
    }

    /// The integration of a route.
    ///
    /// # Panics
    /// When the index is not one that these integrations gave out.
    pub fn get(&self, index: usize) -> &Integration {
        &self.integrations[index]
    }

    /// All of them in the order in which they are tried; `default` is the last.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Integration> {
        self.integrations.iter()
    }

    /// The index of the integration of this name.
    pub fn index_of(&self, name: &IntegrationName) -> Option<usize> {
        self.integrations.iter().position(|i| i.name == *name)
    }

    /// The integration that takes what no other one matches.
    pub fn default_integration(&self) -> &Integration {
        &self.integrations[self.integrations.len() - 1]
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn cloud_event(&self) -> &CloudEvent {
        &self.cloud_event
    }
}

/// What must hold of a configuration as a whole.
fn check(configured: &[Integration]) -> Result<(), IntegrationError> {
    if configured.len() > MAX_INTEGRATIONS {
        return Err(IntegrationError::TooMany { found: configured.len() });
    }
    let mut seen = BTreeMap::new();
    for (i, integration) in configured.iter().enumerate() {
        let name = &integration.name;
        if let Some(first) = seen.insert(name.as_str(), i + 1) {
            return Err(IntegrationError::Duplicate { name: name.clone(), first, second: i + 1 });
        }
        if name.is_events() {
            return Err(IntegrationError::Reserved { name: name.clone() });
        }
        match (name.as_str() == DEFAULT_INTEGRATION, integration.conditions.is_empty()) {
            (true, false) => return Err(IntegrationError::DefaultWithCondition),
            (false, true) => return Err(IntegrationError::NoCondition { name: name.clone() }),
            _ => {}
        }
        if integration.tail && !integration.keeps_messages() {
            return Err(IntegrationError::TailWithoutStore { name: name.clone() });
        }
        let required = &integration.required;
        if let Some((_, twice)) =
            required.iter().enumerate().find(|(at, pointer)| required[..*at].contains(pointer))
        {
            let pointer = twice.clone();
            return Err(IntegrationError::RequiredTwice { name: name.clone(), pointer });
        }
    }
    Ok(())
}

/// The order of the configuration, but `default` last: the configured one or one with every default.
fn with_default_last(
    mut configured: Vec<Integration>,
) -> Result<Vec<Integration>, IntegrationError> {
    let default = match configured.iter().position(|i| i.name.as_str() == DEFAULT_INTEGRATION) {
        Some(at) => configured.remove(at),
        None => Integration::named(
            IntegrationName::parse(DEFAULT_INTEGRATION)
                .map_err(|e| IntegrationError::DefaultName { detail: e.to_string() })?,
        ),
    };
    configured.push(default);
    Ok(configured)
}

/// Every pointer an integration asks for.
fn pointers(integration: &Integration) -> impl Iterator<Item = &Pointer> {
    let conditions = integration.conditions.iter().filter_map(|c| match &c.field {
        Field::Pointer(pointer) => Some(pointer),
        Field::CloudEvent(_) => None,
    });
    let time = integration.time.iter().map(|t| &t.pointer);
    conditions.chain(&integration.entity).chain(time).chain(&integration.required)
}

/// Pointers to the attributes of a CloudEvent in structured mode.
struct Attributes {
    specversion: Pointer,
    event_type: Pointer,
    source: Pointer,
    subject: Pointer,
    time: Pointer,
}

impl Attributes {
    fn new() -> Attributes {
        let pointer = Pointer::to_member;
        Attributes {
            specversion: pointer("specversion"),
            event_type: pointer("type"),
            source: pointer("source"),
            subject: pointer("subject"),
            time: pointer("time"),
        }
    }

    fn pointers(&self) -> [&Pointer; 5] {
        [&self.specversion, &self.event_type, &self.source, &self.subject, &self.time]
    }

    fn of(&self, attribute: CloudEventAttribute) -> &Pointer {
        match attribute {
            CloudEventAttribute::Type => &self.event_type,
            CloudEventAttribute::Source => &self.source,
            CloudEventAttribute::Subject => &self.subject,
        }
    }
}

/// Turns pointers into slots of a tree that was made of them.
struct Slots<'a> {
    tree: &'a Tree,
    attributes: &'a Attributes,
}

impl Slots<'_> {
    #[allow(clippy::expect_used, reason = "the tree was made of every pointer that is asked for")]
    fn of(&self, pointer: &Pointer) -> SlotId {
        self.tree.slot_of(pointer).expect("the tree holds every pointer it was made of")
    }

    fn rule(&self, integration: &Integration) -> Rule {
        let slot = |condition: &Condition| match &condition.field {
            Field::Pointer(pointer) => self.of(pointer),
            Field::CloudEvent(attribute) => self.of(self.attributes.of(*attribute)),
        };
        Rule {
            conditions: integration.conditions.iter().map(|c| (slot(c), c.test.clone())).collect(),
            only_cloud_events: integration
                .conditions
                .iter()
                .any(|c| matches!(c.field, Field::CloudEvent(_))),
            entity: integration.entity.as_ref().map(|p| self.of(p)),
            time: integration.time.as_ref().map(|t| (self.of(&t.pointer), t.format)),
            required: integration.required.iter().map(|p| self.of(p)).collect(),
        }
    }
}
