//! Searches of callers who must not see private objects: their rows are not read, and what is shown is authenticated.

use super::*;
use crate::object_rows::{ObjectRow, encode};
use crate::{Found, Search, change};

/// Stores an object that is private or not.
fn object(store: &Store, ring: &Ring, label: &str, private: bool) -> ObjectId {
    let mut draft = draft(ObjectClass::SECRET_KEY, label);
    draft.attributes.set(Attribute::bool(AttributeType::PRIVATE, private));
    store.insert(NO_REQUEST, new_key(ring, label), vec![draft]).unwrap()[0].id.unwrap()
}

/// What a caller without a login finds.
fn public(store: &Store, ring: &Ring, attributes: Vec<Attribute>) -> Vec<ObjectId> {
    let template = Template(attributes);
    let search = Search { ring: ring.id, template: &template, public_only: true };
    let Found { objects, next } = store.find_some(search, None, 100).unwrap();
    assert_eq!(next, None);
    objects.iter().map(|object| object.id.unwrap()).collect()
}

#[test]
fn rows_of_private_objects_are_not_read_for_nobody() {
    let (fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let hidden: Vec<_> = (0..20).map(|_| object(&store, &ring, "k", true)).collect();
    let shown = object(&store, &ring, "k", false);
    // Rows that cannot be read would be logged.
    fixture.edit("UPDATE objects SET attributes = x'00' WHERE private = 1");
    let class = Attribute::ulong(AttributeType::CLASS, ObjectClass::SECRET_KEY.0.into());
    for template in [
        vec![],
        vec![Attribute::bytes(AttributeType::LABEL, "k")],
        vec![Attribute::bytes(AttributeType::ID, "id of k")],
        vec![class],
        vec![Attribute::bool(AttributeType::SENSITIVE, true)],
    ] {
        assert_eq!(public(&store, &ring, template.clone()), [shown], "{template:?}");
    }
    assert_eq!(store.logged.count(), 0);
    assert_eq!(store.find(ring.id, &Template::default(), None, 100).unwrap().len(), 1);
    assert_eq!(store.logged.count(), hidden.len());
}

#[test]
fn an_edited_flag_shows_nothing() {
    let (fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let (private, shown) = (object(&store, &ring, "a", true), object(&store, &ring, "b", false));
    for value in ["0", "NULL", "7"] {
        fixture.edit(&format!("UPDATE objects SET private = {value} WHERE id = {}", private.0));
        assert_eq!(public(&store, &ring, vec![]), [shown], "{value}");
        assert!(matches!(fixture.open().object(ring.id, private), Err(StoreError::RowInvalid { .. })));
    }
}

#[test]
fn rows_that_are_older_than_the_flag_get_it_unless_they_were_edited() {
    let (fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let private = object(&store, &ring, "a", true);
    let (shown, edited) = (object(&store, &ring, "b", false), object(&store, &ring, "c", true));
    store
        .writer
        .write(move |tx| {
            for id in [private, shown, edited] {
                let stored = change::load(tx, id)?;
                let encoded = encode(&stored.object.attributes)?;
                let identity = (id, stored.object.ring, stored.object.version);
                let row = ObjectRow::of(identity, &stored.object.attributes, &encoded, stored.created);
                ObjectRow { private: None, ..row }.update(tx)?;
            }
            Ok(())
        })
        .unwrap();
    drop(store);
    fixture.edit(&format!("UPDATE objects SET label = x'78' WHERE id = {}", edited.0));
    let store = fixture.open();
    let connection = Connection::open(fixture.path()).unwrap();
    let flag = |id: ObjectId| -> Option<i64> {
        let sql = format!("SELECT private FROM objects WHERE id = {}", id.0);
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((flag(private), flag(shown), flag(edited)), (Some(1), Some(0), None));
    assert_eq!(public(&store, &ring, vec![]), [shown]);
    assert!(store.object(ring.id, private).is_ok());
    assert!(store.object(ring.id, edited).is_err(), "an edited row is not authenticated anew");
}

#[test]
fn a_part_of_a_search_reads_a_bounded_number_of_rows() {
    let (_fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let number = 4500;
    store
        .writer
        .write({
            let ring = ring.clone();
            move |tx| {
                for _ in 0..number {
                    let drafts = vec![draft(ObjectClass::SECRET_KEY, "k")];
                    change::insert(tx, NO_REQUEST, new_key(&ring, "k"), drafts)?;
                }
                Ok(())
            }
        })
        .unwrap();
    // No object matches, and no index says so.
    let template = Template(vec![Attribute::bool(AttributeType::SENSITIVE, false)]);
    let search = Search { ring: ring.id, template: &template, public_only: false };
    let mut after = None;
    let mut parts = 0;
    loop {
        let Found { objects, next } = store.find_some(search, after, 128).unwrap();
        assert!(objects.is_empty());
        parts += 1;
        assert!(next.is_none() || next > after);
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(parts, 2);
    assert_eq!(store.find(ring.id, &Template::default(), None, 10_000).unwrap().len(), number);
}
