//! Scopes: what a token was given for, and how that narrows what its client is granted. Pure.
//!
//! `integration:{name}:read`, `:publish` or `:subscribe`, behind the issuer's prefix. Scopes of others
//! mean nothing here. A token may do what is both in its scopes and in its client's grants.

use std::collections::BTreeSet;

use store::{Action, Client, Grant, GrantScope, IntegrationName};

/// What scopes allow at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(BTreeSet<(IntegrationName, Action)>);

impl Scopes {
    /// Reads the claim `scope`: words with single spaces between them.
    pub(crate) fn read(text: &str, prefix: &str) -> Scopes {
        let ours = text.split(' ').filter_map(|word| one(word.strip_prefix(prefix)?));
        Scopes(ours.collect())
    }

    /// The client with no more grants than the scopes allow.
    pub(crate) fn narrow(&self, client: &Client) -> Client {
        let mut grants = Vec::new();
        for (integration, action) in &self.0 {
            let of_it = |grant: &&Grant| {
                grant.action == *action
                    && match &grant.integration {
                        GrantScope::All => true,
                        GrantScope::One(name) => name == integration,
                    }
            };
            grants.extend(client.grants.iter().filter(of_it).map(|grant| Grant {
                integration: GrantScope::One(integration.clone()),
                ..grant.clone()
            }));
        }
        Client { grants, ..client.clone() }
    }
}

fn one(word: &str) -> Option<(IntegrationName, Action)> {
    let (integration, action) = word.strip_prefix("integration:")?.rsplit_once(':')?;
    let action = match action {
        "read" => Action::Read,
        "publish" => Action::Publish,
        "subscribe" => Action::Subscribe,
        _ => return None,
    };
    Some((IntegrationName::parse(integration).ok()?, action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::ClientId;

    fn grant(name: Option<&str>, action: Action, prefix: Option<&str>) -> Grant {
        let name = name.map(|name| IntegrationName::parse(name).unwrap());
        let scope = name.map_or(GrantScope::All, GrantScope::One);
        Grant { entity_prefix: prefix.map(str::to_owned), ..Grant::new(scope, action) }
    }

    fn client(grants: Vec<Grant>) -> Client {
        Client {
            id: ClientId::parse("c").unwrap(),
            name: "c".to_owned(),
            grants,
            limits: None,
            enabled: true,
            created_at_ms: 0,
            version: 1,
        }
    }

    #[test]
    fn words_that_are_not_ours_mean_nothing() {
        let read = |text: &str| Scopes::read(text, "").0.len();
        assert_eq!(read("openid integration:quakes:read integration:quakes:read"), 1);
        for nothing in [
            "",
            "integration:quakes",
            "integration::read",
            "integration:*:read",
            "integration:QUAKES:read",
            "integration:quakes:admin",
            "xintegration:quakes:read",
            "integration:quakes:read\tx",
        ] {
            assert_eq!(read(nothing), 0, "{nothing}");
        }
        let prefixed = "https://api.example.com/integration:quakes:read integration:flights:read";
        let scopes = Scopes::read(prefixed, "https://api.example.com/");
        assert_eq!(scopes, Scopes::read("integration:quakes:read", ""));
    }

    #[test]
    fn a_token_may_do_what_both_its_scopes_and_its_grants_allow() {
        let quakes_eu = grant(Some("quakes"), Action::Read, Some("eu/"));
        let all = grant(None, Action::Read, None);
        let publish = grant(Some("quakes"), Action::Publish, None);
        let flights = grant(Some("flights"), Action::Read, None);
        let narrow = |scope: &str, grants: &[Grant]| {
            Scopes::read(scope, "").narrow(&client(grants.to_vec())).grants
        };
        let granted = [quakes_eu.clone(), publish.clone(), flights];
        assert_eq!(narrow("integration:quakes:read", &granted), [quakes_eu]);
        assert_eq!(narrow("integration:quakes:publish", &granted), [publish]);
        assert_eq!(narrow("integration:flights:publish", &granted), []);
        assert_eq!(narrow("", &granted), []);
        let whole = narrow("integration:quakes:read", &[all]);
        assert_eq!(whole, [grant(Some("quakes"), Action::Read, None)]);
    }
}
