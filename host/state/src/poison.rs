//! The first failure of a database is its last word.

use std::sync::OnceLock;

use tidemill_flow::storage::StorageError;

/// Remembers the first write that failed. After that nobody knows what stands on the disk: a page whose fsync failed
/// is marked clean all the same, and the next fsync reports success. So there is no way back but to open anew.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    first: OnceLock<StorageError>,
}

impl Poison {
    /// Passes if nothing failed yet, else fails as the first failure did.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.first.get().map_or(Ok(()), |first| Err(first.clone()))
    }

    /// Remembers this failure, if it is the first; the first.
    pub(crate) fn set(&self, failure: StorageError) -> StorageError {
        self.first.get_or_init(|| failure).clone()
    }
}
