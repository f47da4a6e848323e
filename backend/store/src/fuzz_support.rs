//! The body of the fuzz target, and the replay of its corpus: backups that were edited.

use std::fs;
use std::path::{Path, PathBuf};

use kms_core::audit::{Entry, Kind};
use kms_core::integrity::RowKey;
use kms_core::object::{Draft, MasterVersion, RingRole, Wrapped};
use kms_protocol::{Attribute, AttributeType, KeyType, ObjectClass, RequestId, RingId, RingPolicy, Template};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{KeyMetadata, NewKey, NewRing, PinKind, Principal, RingMetadata, Store, beside};

/// One edit of the input: four bytes for its place, one that is added to what is there.
const EDIT_BYTES: usize = 5;

/// A database, and a backup of it whose edited copies are read.
pub struct Backups {
    store: Store,
    backup: Vec<u8>,
    copy: PathBuf,
}

impl Backups {
    /// Creates a database with a row of each kind in this folder.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn create(folder: &Path) -> Self {
        let store = Store::create(&folder.join("kms.db")).expect("a new database");
        let store = store.unlock(row_key()).expect("its own key");
        let ring = store
            .insert_ring(&NewRing {
                id: RingId([1; 16]),
                label: "ring".to_owned(),
                policy: RingPolicy::Strict,
                created: 7,
                slot: None,
                metadata: RingMetadata::default(),
                principals: Vec::new(),
                entry: Some(entry()),
            })
            .expect("a ring");
        let (name, pin_hash) = ("user".to_owned(), "h".to_owned());
        let principal = Principal::new(name, RingRole::Admin, pin_hash, PinKind::Bound, 1);
        store.put_principal(ring.id, &principal, Some(entry())).expect("a principal");
        for class in [ObjectClass::SECRET_KEY, ObjectClass::PRIVATE_KEY] {
            let attributes = Template(vec![
                Attribute::ulong(AttributeType::CLASS, class.0.into()),
                Attribute::ulong(AttributeType::KEY_TYPE, KeyType::AES.0.into()),
                Attribute::bytes(AttributeType::LABEL, "label"),
            ]);
            let key = NewKey {
                ring: ring.id,
                key: Uuid::new_v4().into_bytes(),
                label: b"label".to_vec(),
                algorithm: "aes-256".to_owned(),
                wrapped: Some(Wrapped { master: MasterVersion(1), bytes: vec![1; 60] }),
                created: 1000,
                metadata: KeyMetadata::default(),
                entry: Some(entry()),
            };
            store.insert(RequestId([0; 16]), key, vec![Draft { attributes, token: true }]).expect("a key");
        }
        let path = folder.join("backup.db");
        store.backup(&path, |_, _| {}).expect("a backup");
        Self { store, backup: fs::read(&path).expect("the backup"), copy: folder.join("copy.db") }
    }

    /// Edits the backup, checks it, and opens it as a restore does. It is whole, or an error.
    ///
    /// # Panics
    /// When the copy cannot be written.
    pub fn check(&self, edits: &[u8]) {
        let mut bytes = self.backup.clone();
        for edit in edits.as_chunks::<EDIT_BYTES>().0 {
            let [place @ .., added] = *edit;
            let at = usize::try_from(u32::from_be_bytes(place)).expect("32 bits") % bytes.len();
            bytes[at] = bytes[at].wrapping_add(added);
        }
        for what in ["wal", "shm", "journal"] {
            // Left by an earlier copy; most times there is none.
            drop(fs::remove_file(beside(&self.copy, what)));
            drop(fs::remove_file(format!("{}-{what}", self.copy.display())));
        }
        fs::write(&self.copy, &bytes).expect("a copy can be written");
        let checked = self.store.check_copy(&self.copy);
        let opened = Store::open_existing(&self.copy).and_then(|store| store.unlock(row_key()));
        if let (Ok(_), Ok(opened)) = (checked, opened) {
            for ring in opened.rings().unwrap_or_default() {
                // A row may be invalid; reading it does not panic.
                drop(opened.keys(ring.id));
                drop(opened.principals(ring.id));
                drop(opened.find(ring.id, &Template(Vec::new()), None, 100));
            }
        }
    }
}

fn row_key() -> RowKey {
    RowKey::from(Zeroizing::new([4; 32]))
}

fn entry() -> Entry {
    Entry {
        at: 1000,
        event: "kms.key.create",
        kind: Kind::AdminActivity,
        project: None,
        resource: "projects/p/keyrings/r".to_owned(),
        initiator: None,
        name: "someone".to_owned(),
        endpoint: "kms fuzz".to_owned(),
        source: None,
        agent: String::new(),
        trace: None,
        status: 200,
        details: serde_json::Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_edited_backups_is_whole_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::create(folder.path());
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/backups");
        let mut files = 0;
        for entry in fs::read_dir(&corpus).expect("the corpus is committed") {
            backups.check(&fs::read(entry.expect("a file of the corpus").path()).expect("a readable file"));
            files += 1;
        }
        assert!(files > 20, "the corpus has {files} files");
    }
}
