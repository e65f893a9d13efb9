//! What must survive the daemon: small values by key, each with a version, changed several at a time or not at all.
//!
//! Connections and counters are not kept here; they live in the kernel's maps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

/// The database's name in its folder.
const FILE: &str = "state.redb";
/// Version and value by key.
const VALUES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("values");
/// The last version that was given, under the empty key.
const VERSIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("versions");

/// A value with its version. Versions grow with every change of the store, and none is given twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Vec<u8>,
    /// When it was written, counted in changes.
    pub version: u64,
}

/// One change of several that are made together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Of what.
    pub key: String,
    /// The version that must be there; `None`: there must be no value.
    pub expected: Option<u64>,
    /// The value from now on; `None`: there is none any more.
    pub value: Option<Vec<u8>>,
}

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another one was faster; nothing was changed.
    #[error("{key} was changed meanwhile")]
    Conflict {
        /// What was changed.
        key: String,
    },
    /// It cannot be read or written.
    #[error(
        "{}: {reason}; if it is damaged, end the daemon and remove the file: administrative states and run-time \
         changes are lost then", .path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What the database says.
        reason: String,
    },
    /// Another process has it.
    #[error("{}: another process uses it", .0.display())]
    InUse(PathBuf),
}

/// Small values by key.
pub trait Store: Send {
    /// The value of a key.
    ///
    /// # Errors
    /// The store cannot be read.
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError>;

    /// The values of all keys that begin with `prefix`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn list(&self, prefix: &str) -> Result<BTreeMap<String, Versioned>, StoreError>;

    /// Makes all changes if every key has the version it is expected to have, else none. What was written is on the
    /// disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], or the store cannot be written to; nothing is changed then.
    fn compare_and_set(&self, writes: &[Write]) -> Result<(), StoreError>;
}

/// The store of one daemon: a database in a file.
#[derive(Debug)]
pub struct LocalStore {
    database: Database,
    path: PathBuf,
}

impl LocalStore {
    /// Opens the database in `folder`, or makes it.
    ///
    /// # Errors
    /// It is another process's, or damaged, or the folder cannot be written to.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        match Database::create(&path) {
            Ok(database) => Ok(Self { database, path }),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse(path)),
            Err(error) => Err(StoreError::Broken { path, reason: error.to_string() }),
        }
    }

    /// Removes the database in `folder`, if there is one.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(folder: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn broken(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::Broken { path: self.path.clone(), reason: error.into().to_string() }
    }

    fn write(&self, writes: &[Write]) -> Result<Result<(), StoreError>, redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut values = transaction.open_table(VALUES)?;
            let mut versions = transaction.open_table(VERSIONS)?;
            let version = versions.get("")?.map_or(0, |last| last.value()) + 1;
            for write in writes {
                let key = write.key.as_str();
                let there = values.get(key)?.map(|entry| entry.value().0);
                if there != write.expected {
                    // Dropping the transaction takes everything back.
                    return Ok(Err(StoreError::Conflict { key: write.key.clone() }));
                }
                match &write.value {
                    Some(value) => drop(values.insert(key, (version, value.as_slice()))?),
                    None => drop(values.remove(key)?),
                }
            }
            versions.insert("", version)?;
        }
        transaction.commit()?;
        Ok(Ok(()))
    }

    fn read(&self, prefix: &str) -> Result<BTreeMap<String, Versioned>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let values = match transaction.open_table(VALUES) {
            Ok(values) => values,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
        let mut found = BTreeMap::new();
        for entry in values.range(prefix..)? {
            let (key, value) = entry?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let (version, value) = value.value();
            found.insert(key.value().to_owned(), Versioned { value: value.to_vec(), version });
        }
        Ok(found)
    }
}

impl Store for LocalStore {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        Ok(self.list(key)?.remove(key))
    }

    fn list(&self, prefix: &str) -> Result<BTreeMap<String, Versioned>, StoreError> {
        self.read(prefix).map_err(|error| self.broken(error))
    }

    fn compare_and_set(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.write(writes).map_err(|error| self.broken(error))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lb-store-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn write(key: &str, expected: Option<u64>, value: Option<&str>) -> Write {
        Write { key: key.to_owned(), expected, value: value.map(|value| value.as_bytes().to_vec()) }
    }

    #[test]
    fn what_was_written_is_there_after_opening_again_and_keys_are_listed_by_prefix() {
        let folder = Folder::new("again");
        let store = LocalStore::open(&folder.0).unwrap();
        assert_eq!(store.list("").unwrap(), BTreeMap::new());
        store.compare_and_set(&[write("a/1", None, Some("x")), write("b/1", None, Some("y"))]).unwrap();
        store.compare_and_set(&[write("a/2", None, Some("z"))]).unwrap();
        assert!(matches!(LocalStore::open(&folder.0), Err(StoreError::InUse(_))));
        drop(store);
        let store = LocalStore::open(&folder.0).unwrap();
        let keys: Vec<String> = store.list("a/").unwrap().into_keys().collect();
        assert_eq!(keys, ["a/1", "a/2"]);
        assert_eq!(store.get("a/2").unwrap(), Some(Versioned { value: b"z".to_vec(), version: 2 }));
        assert_eq!(store.get("a").unwrap(), None);
    }

    #[test]
    fn several_changes_are_made_together_or_not_at_all() {
        let folder = Folder::new("together");
        let store = LocalStore::open(&folder.0).unwrap();
        store.compare_and_set(&[write("a", None, Some("1"))]).unwrap();
        for wrong in [None, Some(7)] {
            let both = [write("b", None, Some("2")), write("a", wrong, None)];
            let error = store.compare_and_set(&both).unwrap_err();
            assert!(matches!(error, StoreError::Conflict { key } if key == "a"));
            assert_eq!(store.get("b").unwrap(), None);
        }
        store.compare_and_set(&[write("a", Some(1), None), write("b", None, Some("2"))]).unwrap();
        assert_eq!(store.get("a").unwrap(), None);
        // Its versions go on, so that one who remembers the first does not meet it again.
        store.compare_and_set(&[write("a", None, Some("3"))]).unwrap();
        assert_eq!(store.get("a").unwrap().unwrap().version, 3);
    }

    #[test]
    fn a_damaged_file_is_named_with_the_mend() {
        let folder = Folder::new("damaged");
        std::fs::write(folder.0.join(FILE), "not a database").unwrap();
        let line = LocalStore::open(&folder.0).unwrap_err().to_string();
        assert!(line.contains("state.redb") && line.contains("remove the file"), "{line}");
        assert_eq!(std::fs::read(folder.0.join(FILE)).unwrap(), b"not a database");
        LocalStore::remove(&folder.0).unwrap();
        LocalStore::remove(&folder.0).unwrap();
        LocalStore::open(&folder.0).unwrap();
    }
}
