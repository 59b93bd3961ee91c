//! The durable record of changes, and what clients used.

use http::Method;
use serde_json::json;
use store::{Charge, ClientId};

use super::{ANNA, BEN, Port, text};

const AUDIT: &str = "/v1/admin/audit";
const DAY: i64 = crate::routes::tests::NOW_MS / 86_400_000;

#[tokio::test]
async fn every_change_is_in_the_record_of_its_day_under_the_operators_name() {
    let port = Port::new().await;
    port.partner().await;
    let made = port.post("/v1/admin/clients/partner/keys", json!({})).await.json();
    let id = text(&made["id"]);
    port.delete(&format!("/v1/admin/keys/{id}")).await;
    // A refused call changes nothing.
    port.ask(BEN, Method::DELETE, "/v1/admin/clients/partner", None).await.problem(403);
    let page = port.ask(BEN, Method::GET, AUDIT, None).await.json();
    let mut said: Vec<String> = page["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            assert_eq!(change["at"], "2026-11-23T12:00:00.000Z");
            ["by", "action", "subject"].map(|member| text(&change[member])).join(" ")
        })
        .collect();
    said.sort();
    let key = |what: &str| format!("operator anna key.{what} {id}");
    assert_eq!(
        said,
        ["operator anna client.create partner".to_owned(), key("issue"), key("revoke")]
    );
    let same = port.get(&format!("{AUDIT}?day=2026-11-23")).await.json();
    assert_eq!(same, page);
    let before = port.get(&format!("{AUDIT}?day=2026-11-22")).await.json();
    assert_eq!(before["changes"], json!([]));
}

#[tokio::test]
async fn a_day_with_many_changes_is_read_in_pages_newest_first() {
    let port = Port::new().await;
    let id = ClientId::parse("busy").unwrap();
    port.post("/v1/admin/clients", json!({ "id": "busy", "name": "Busy" })).await;
    for n in 0..250 {
        let client = port.access.get_client(&id).await.unwrap().unwrap();
        let at_ms = crate::routes::tests::NOW_MS + n;
        let change = store::Change { by: "a script", at_ms };
        port.access.put_client(&client, &change).await.unwrap();
    }
    let queries = port.world.calls("Query");
    let mut times = Vec::new();
    let mut path = format!("{AUDIT}?limit=100");
    let mut pages = 0;
    loop {
        let page = port.get(&path).await.json();
        pages += 1;
        times.extend(page["changes"].as_array().unwrap().iter().map(|one| text(&one["at"])));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{AUDIT}?limit=100&cursor={next}");
    }
    assert_eq!((times.len(), pages), (251, 3));
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first");
    assert_eq!(port.world.calls("Query") - queries, 3, "a page reads no more than a page");
}

#[tokio::test]
async fn a_page_of_nonsense_is_refused() {
    let port = Port::new().await;
    for bad in [
        "day=today",
        "day=2026-13-01",
        "day=2026-11-23T00:00:00Z",
        "day=20261123",
        "cursor=%20",
        "cursor=",
        "limit=101",
        "x=1",
    ] {
        port.get(&format!("{AUDIT}?{bad}")).await.problem(400);
        port.get(&format!("/v1/admin/usage?{bad}")).await.problem(400);
    }
}

#[tokio::test]
async fn the_use_of_a_day_stands_beside_what_is_allowed() {
    let port = Port::with(|options, _| {
        let gold = crate::ClientLimits { burst: 777, ..crate::ClientLimits::default() };
        options.limits.plans.insert("gold".to_owned(), gold);
    })
    .await;
    for (id, limits) in [("a", json!({ "plan": "gold" })), ("b", json!(null)), ("c", json!(null))] {
        let body = json!({ "id": id, "name": id, "limits": limits });
        assert_eq!(port.post("/v1/admin/clients", body).await.status, 201);
    }
    let charge = Charge { requests: 5, bytes: 700, ..Charge::default() };
    port.usage.charge(&ClientId::parse("b").unwrap(), DAY, &charge).await.unwrap();
    let first = port.get("/v1/admin/usage?limit=2").await.json();
    assert_eq!(first["day"], "2026-11-23");
    let used = |at: usize| &first["usage"][at];
    assert_eq!(
        (&used(0)["client"], &used(0)["effectiveLimits"]["burst"]),
        (&json!("a"), &json!(777))
    );
    assert_eq!(used(1)["used"], json!({ "requests": 5, "bytes": 700 }));
    let next = text(&first["next"]);
    let second =
        port.ask(ANNA, Method::GET, &format!("/v1/admin/usage?limit=2&cursor={next}"), None).await;
    assert_eq!(second.json()["usage"][0]["client"], "c");
    assert_eq!(second.json()["next"], json!(null));
    let other = port.get("/v1/admin/usage?day=2026-11-22").await.json();
    assert_eq!(
        (&other["day"], &other["usage"][1]["used"]["requests"]),
        (&json!("2026-11-22"), &json!(0))
    );
}
