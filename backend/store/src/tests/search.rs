//! The search by attributes: results, pages, indexes.

use rusqlite::params;

use super::*;
use crate::find::IndexFilter;

#[test]
fn a_search_compares_every_attribute_and_returns_pages() {
    let (_fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let ids: Vec<_> = (0..10).map(|number| secret(&store, &ring, &format!("k{number}"))).collect();
    let (private, public) = pair(&store, &ring, "k3");
    let find = |attributes: Vec<Attribute>, after, limit| -> Vec<ObjectId> {
        let found = store.find(ring.id, &Template(attributes), after, limit).unwrap();
        found.iter().map(|object| object.id.unwrap()).collect()
    };
    let label = || Attribute::bytes(AttributeType::LABEL, "k3");
    let class = |class: ObjectClass| Attribute::ulong(AttributeType::CLASS, class.0.into());
    assert_eq!(find(vec![label()], None, 100), [ids[3], private, public]);
    assert_eq!(find(vec![class(ObjectClass::PUBLIC_KEY), label()], None, 100), [public]);
    assert_eq!(find(vec![class(ObjectClass::PRIVATE_KEY)], None, 100), [private]);
    assert_eq!(find(vec![Attribute::bytes(AttributeType::ID, "id of k4")], None, 100), [ids[4]]);
    assert_eq!(find(vec![Attribute::bool(AttributeType::SENSITIVE, false)], None, 100), []);
    assert_eq!(find(vec![Attribute::bytes(AttributeType::LABEL, "")], None, 100), []);
    assert_eq!(find(vec![], None, 4), ids[..4]);
    assert_eq!(find(vec![], Some(ids[3]), 4), ids[4..8]);
    assert_eq!(find(vec![], Some(ids[7]), 100), [ids[8], ids[9], private, public]);
    // The page is filled although most rows of the class do not match.
    assert_eq!(
        find(vec![class(ObjectClass::SECRET_KEY), Attribute::bytes(AttributeType::ID, "id of k9")], None, 1),
        [ids[9]]
    );
}

#[test]
fn a_search_by_label_id_or_class_uses_its_index() {
    let (fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let connection = Connection::open(fixture.path()).unwrap();
    let (label, ckid) = (
        "objects_by_label (ring=? AND label=? AND rowid>?)",
        "objects_by_ckid (ring=? AND ckid=? AND rowid>?)",
    );
    let (class, all) =
        ("objects_by_class (ring=? AND class=? AND rowid>?)", "objects_by_ring (ring=? AND rowid>?)");
    let public = "objects_public (ring=? AND rowid>?)";
    for (attribute, index, public_index) in [
        (Attribute::bytes(AttributeType::LABEL, "k"), label, label),
        (Attribute::bytes(AttributeType::ID, "i"), ckid, ckid),
        (Attribute::ulong(AttributeType::CLASS, 3), class, public),
        (Attribute::bool(AttributeType::SIGN, true), all, public),
    ] {
        let template = Template(vec![attribute]);
        for (public_only, index) in [(false, index), (true, public_index)] {
            let filter = IndexFilter::by(&template, public_only);
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", filter.sql())).unwrap();
            let steps = plan.query_map(params![ring.id.0, 0, 0, 10], |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.map(Result::unwrap).collect();
            assert!(steps[0].contains(index), "{steps:?}");
            assert!(
                !steps.iter().any(|step| step.contains("TEMP B-TREE") || step.contains("SCAN")),
                "{steps:?}"
            );
        }
    }
}
