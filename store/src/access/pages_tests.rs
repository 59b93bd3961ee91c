//! Clients and the record of changes in pages, and changes that are held to a version.

use super::tests::{change, client, store};
use super::*;
use crate::testing::NOW;

const DAY: i64 = NOW / (24 * 3_600 * 1_000);

#[tokio::test]
async fn pages_of_clients_hold_every_one_once_and_pass_over_what_was_deleted() {
    let store = store().await;
    for n in 0..12 {
        store.put_client(&client(&format!("c{n:02}"), vec![]), &change(NOW)).await.unwrap();
    }
    for n in (0..12).filter(|n| n % 3 != 0) {
        let id = ClientId::parse(&format!("c{n:02}")).unwrap();
        assert!(store.delete_client(&id, &change(NOW)).await.unwrap());
    }
    for limit in [1, 2, 3, 4, 5, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = store.some_clients(after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit, "{limit}: {}", page.len());
            found.extend(page.into_iter().map(|one| one.id.to_string()));
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, ["c00", "c03", "c06", "c09"], "by {limit}");
    }
}

#[tokio::test]
async fn a_client_is_deleted_at_the_version_that_was_read_and_at_no_other() {
    let store = store().await;
    let first = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    assert!(store.delete_client_at(&first.id, 0, &change(NOW)).await.unwrap_err().is_conflict());
    let second = store.put_client(&first, &change(NOW)).await.unwrap();
    for version in [first.version, second.version + 1] {
        let refused = store.delete_client_at(&first.id, version, &change(NOW)).await.unwrap_err();
        assert!(refused.is_conflict(), "{refused}");
    }
    store.delete_client_at(&first.id, second.version, &change(NOW)).await.unwrap();
    assert_eq!(store.get_client(&first.id).await.unwrap(), None);
    let again = store.delete_client_at(&first.id, second.version, &change(NOW)).await;
    assert!(again.unwrap_err().is_conflict());
    assert!(
        store.put_client(&client("cl_1", vec![]), &change(NOW)).await.is_err(),
        "its id is gone"
    );
}

#[tokio::test]
async fn a_days_changes_come_newest_first_in_pages() {
    let store = store().await;
    let mut one = client("cl_1", vec![]);
    for n in 0..7 {
        one = store.put_client(&one, &change(NOW + n)).await.unwrap();
    }
    let (mut times, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let (page, next) = store.audit_page(DAY, after.as_deref(), 3).await.unwrap();
        assert!(page.len() <= 3);
        times.extend(page.iter().map(|entry| entry.at_ms - NOW));
        (after, pages) = (next, pages + 1);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(times, [6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(pages, 3);
    assert_eq!(store.audit_page(DAY + 1, None, 3).await.unwrap(), (vec![], None));
}

#[tokio::test]
async fn a_rotation_ends_as_many_keys_as_a_transaction_has_room_for() {
    let store = store().await;
    let owner = store.put_client(&client("cl_1", vec![]), &change(NOW)).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..46 {
        let key = ApiKey::generate(&mut crate::testing::random(n + 1));
        let made = store.issue_key(key, &owner.id, &KeyTerms::new("ci"), &change(NOW)).await;
        ids.push(made.unwrap().record.id);
    }
    let replace = async |keys: &[KeyId], seed| {
        let key = ApiKey::generate(&mut crate::testing::random(seed));
        let replaced = Replaced { keys, until_ms: NOW + 1 };
        store.replace_keys(key, &owner.id, &KeyTerms::new("new"), replaced, &change(NOW)).await
    };
    let too_many = replace(&ids, 100).await.unwrap_err().to_string();
    assert!(too_many.contains("up to 45 keys"), "{too_many}");
    replace(&ids[..45], 101).await.unwrap();
    let live = store.list_keys(&owner.id).await.unwrap();
    assert_eq!(live.iter().filter(|key| key.is_live(NOW + 1)).count(), 2);
}
