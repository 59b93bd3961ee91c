//! In which form a webhook's body carries a message.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::subscriptions::SubscriptionError;

/// What the body of a webhook is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyForm {
    /// The message's own bytes.
    #[default]
    Raw,
    /// A CloudEvent as one JSON document: attributes and data in the body.
    CloudeventsStructured,
    /// A CloudEvent whose attributes are headers and whose data is the body.
    CloudeventsBinary,
    /// Several CloudEvents in one call, as a JSON array; one answer settles them all.
    CloudeventsBatch,
    /// The message's id and a link to it at the API, where the receiver reads it with a key of its own.
    Thin,
}

impl BodyForm {
    /// Every form, the default first.
    pub const ALL: [BodyForm; 5] = [
        BodyForm::Raw,
        BodyForm::CloudeventsStructured,
        BodyForm::CloudeventsBinary,
        BodyForm::CloudeventsBatch,
        BodyForm::Thin,
    ];

    /// Its name in configuration and lists.
    pub fn name(self) -> &'static str {
        match self {
            BodyForm::Raw => "raw",
            BodyForm::CloudeventsStructured => "cloudevents-structured",
            BodyForm::CloudeventsBinary => "cloudevents-binary",
            BodyForm::CloudeventsBatch => "cloudevents-batch",
            BodyForm::Thin => "thin",
        }
    }
}

impl fmt::Display for BodyForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BodyForm {
    type Err = SubscriptionError;

    fn from_str(text: &str) -> Result<BodyForm, SubscriptionError> {
        BodyForm::ALL
            .into_iter()
            .find(|form| form.name() == text)
            .ok_or_else(|| SubscriptionError::Form { found: crate::identity::shown(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_one_name_wherever_it_is_written() {
        for form in BodyForm::ALL {
            assert_eq!(form.to_string().parse(), Ok(form));
            assert_eq!(serde_json::to_value(form).unwrap(), form.name());
        }
        let error = "cloudevents".parse::<BodyForm>().unwrap_err().to_string();
        assert!(error.contains("cloudevents-binary") && error.contains("thin"), "{error}");
    }
}
