//! Which limits hold for a client: its own, else its plan's, else the service's. Pure.

use std::num::NonZeroU64;

use store::Client;

use crate::options::{ClientLimits, Limits};

pub(crate) fn of(client: &Client, limits: &Limits) -> ClientLimits {
    let Some(own) = &client.limits else { return limits.client };
    // A plan that this configuration does not have is no reason to let in more, or less, than by default.
    let plan = own.plan.as_ref().and_then(|name| limits.plans.get(name));
    let base = plan.copied().unwrap_or(limits.client);
    let per_day = |own: Option<u64>, base| own.map_or(base, NonZeroU64::new);
    ClientLimits {
        rate_per_second: own.rate_per_second.unwrap_or(base.rate_per_second).max(1),
        burst: own.burst.unwrap_or(base.burst).max(1),
        concurrent: own.concurrent.unwrap_or(base.concurrent).max(1),
        requests_per_day: per_day(own.requests_per_day, base.requests_per_day),
        bytes_per_day: per_day(own.bytes_per_day, base.bytes_per_day),
    }
}

#[cfg(test)]
mod tests {
    use store::ClientId;

    use super::*;

    fn client(own: Option<store::ClientLimits>) -> Client {
        Client {
            id: ClientId::parse("cl_1").unwrap(),
            name: "Seismology".to_owned(),
            grants: vec![],
            limits: own,
            enabled: true,
            created_at_ms: 0,
            version: 1,
        }
    }

    #[test]
    fn a_limit_is_the_clients_own_else_its_plans_else_the_services() {
        let gold = ClientLimits {
            rate_per_second: 500,
            requests_per_day: NonZeroU64::new(1_000_000),
            ..ClientLimits::default()
        };
        let limits = Limits {
            plans: [("gold".to_owned(), gold)].into_iter().collect(),
            ..Limits::default()
        };
        assert_eq!(of(&client(None), &limits), ClientLimits::default());
        let on = |plan: &str| store::ClientLimits {
            plan: Some(plan.to_owned()),
            ..store::ClientLimits::default()
        };
        assert_eq!(of(&client(Some(on("gold"))), &limits), gold);
        assert_eq!(of(&client(Some(on("lead"))), &limits), ClientLimits::default());
        let own = store::ClientLimits {
            burst: Some(7),
            requests_per_day: Some(0),
            bytes_per_day: Some(9),
            ..on("gold")
        };
        let found = of(&client(Some(own)), &limits);
        assert_eq!((found.rate_per_second, found.burst), (500, 7));
        assert_eq!((found.requests_per_day, found.bytes_per_day), (None, NonZeroU64::new(9)));
    }
}
