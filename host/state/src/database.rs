//! The database of a pipeline.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rocksdb::{Cache, DB, ReadOptions, WriteBatch, WriteBufferManager, WriteOptions, properties};
use tidemill_flow::storage::{Storage, StorageError, Write, Writes};

use crate::folder::{self, RestoredFile};
use crate::freeze::{self, FrozenFile};
use crate::options::{Prepared, Settings};
use crate::poison::Poison;

/// The state of all operators of a pipeline, in a folder of its own. A clone is another handle to the same.
///
/// Calls block on the disk: call it from a thread that may wait. Nothing of what is written survives the process;
/// only what [`freeze`](Self::freeze) gave out does, wherever it was stored.
///
/// The first write that fails, by whomever, is the database's last word: every later call fails with its message.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    db: DB,
    folder: PathBuf,
    cache: Cache,
    write_buffers: WriteBufferManager,
    unlogged: WriteOptions,
    poison: Poison,
    /// Held shared while a range is deleted, which takes two steps, and alone while files are taken: for as long as the
    /// flush takes. Only deletions of ranges wait for that; other writes and all reads go on.
    taking: RwLock<()>,
}

/// What a database uses at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// On the disk, files that are being replaced included.
    pub disk_bytes: u64,
    /// Written, but in memory only.
    pub write_buffer_bytes: u64,
    /// Kept in memory of what was read, about. With the write buffers it stays within [`Settings::memory_bytes`].
    pub block_cache_bytes: u64,
    /// About how many addresses have a value. Overwritten and deleted ones count until they are compacted away.
    pub keys_estimate: u64,
    /// Flushes and compactions that are under way, or due.
    pub background_jobs: u64,
}

impl Database {
    /// An empty database in this folder, which is made if it is missing and emptied of an older database.
    ///
    /// # Errors
    /// When the folder holds anything else, is in use by another database, or can't be written.
    pub fn create(settings: &Settings, folder: &Path) -> Result<Self, StorageError> {
        Self::open(settings, folder, &[], Access::New)
    }

    /// A database with the content of a checkpoint: of all files, no more and no less, of one
    /// [`freeze`](Self::freeze). The folder is treated as by [`create`](Self::create). Tables are linked
    /// into it where the file system allows, else copied. They are never changed, only unlinked, so the checkpoint stays
    /// what it is. Values are read when they are asked for.
    ///
    /// # Errors
    /// As for [`create`](Self::create), and when files are missing, of the wrong length, or of different freezes.
    /// Damage inside of a table is found when its place is read: verify the files' digests before.
    pub fn restore(settings: &Settings, folder: &Path, files: &[RestoredFile]) -> Result<Self, StorageError> {
        Self::open(settings, folder, files, Access::Restored)
    }

    /// Like [`restore`](Self::restore), for looking only: every write and freeze fails. The folder can be deleted
    /// when all handles are dropped.
    ///
    /// # Errors
    /// As for [`restore`](Self::restore).
    pub fn read_only(
        settings: &Settings,
        folder: &Path,
        files: &[RestoredFile],
    ) -> Result<Self, StorageError> {
        Self::open(settings, folder, files, Access::ReadOnly)
    }

    fn open(
        settings: &Settings,
        folder: &Path,
        files: &[RestoredFile],
        access: Access,
    ) -> Result<Self, StorageError> {
        let Prepared { mut options, cache, write_buffers } = settings.prepare()?;
        folder::empty(folder)?;
        folder::fill(folder, files)?;
        options.create_if_missing(access == Access::New);
        let opened = match access {
            Access::New | Access::Restored => DB::open(&options, folder),
            Access::ReadOnly => DB::open_for_read_only(&options, folder, false),
        };
        let failed = |error: &dyn fmt::Display| {
            let what = match access {
                Access::New => "see to the folder's disk and rights",
                Access::Restored | Access::ReadOnly => "the files are not those of one whole checkpoint",
            };
            StorageError(format!("cannot open the state in {}: {error}; {what}", folder.display()))
        };
        let db = opened.map_err(|error| failed(&error))?;
        // A manifest that lost its end still is one: that of an earlier time, when there were other tables.
        let given = files.iter().map(|file| file.name.as_str()).filter(|name| folder::is_immutable(name));
        let used = db.live_files().map_err(|error| failed(&error))?;
        let used: BTreeSet<_> = used.iter().map(|file| file.name.trim_start_matches('/')).collect();
        if given.collect::<BTreeSet<_>>() != used {
            return Err(failed(&"the manifest speaks of other tables"));
        }
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        let inner = Inner {
            db,
            folder: folder.to_owned(),
            cache,
            write_buffers,
            unlogged,
            poison: Poison::default(),
            taking: RwLock::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The working folder.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Writes out what is in memory and makes a folder with all files as they are then, on the disk to the last byte.
    /// It is to be on the file system of the working folder, so that tables are linked and not copied; what a
    /// freeze that didn't end has left there is removed. It belongs to the caller, who deletes it when its files are
    /// stored. Others read and write meanwhile, but what they write may be in it or not.
    ///
    /// # Errors
    /// When the disk fails or is full. If only the new folder couldn't be made, this can be tried again.
    pub fn freeze(&self, folder: &Path) -> Result<Vec<FrozenFile>, StorageError> {
        let inner = &*self.inner;
        inner.poison.check()?;
        let _alone = inner.taking.write().unwrap_or_else(PoisonError::into_inner);
        inner.db.flush().map_err(|error| inner.last_word("write out", &error))?;
        let failed = |error: &dyn fmt::Display| {
            StorageError(format!(
                "cannot freeze the state in {} as {}: {error}; see to the disk's space, then try again",
                inner.folder.display(),
                folder.display()
            ))
        };
        folder::remove(folder)?;
        let files = freeze::link(&inner.db, folder).map_err(|error| failed(&error))?;
        inner.check_background()?;
        Ok(files)
    }

    /// What the database uses at this moment. It answers after a failure too.
    ///
    /// # Errors
    /// When RocksDB doesn't tell.
    pub fn usage(&self) -> Result<Usage, StorageError> {
        let inner = &*self.inner;
        let write_buffer_bytes = inner.write_buffers.get_usage() as u64;
        Ok(Usage {
            disk_bytes: inner.property(properties::TOTAL_SST_FILES_SIZE)?,
            write_buffer_bytes,
            // The write buffers are charged to the cache, so that both have one limit.
            block_cache_bytes: (inner.cache.get_usage() as u64).saturating_sub(write_buffer_bytes),
            keys_estimate: inner.property(properties::ESTIMATE_NUM_KEYS)?,
            background_jobs: inner.property(properties::NUM_RUNNING_FLUSHES)?
                + inner.property(properties::MEM_TABLE_FLUSH_PENDING)?
                + inner.property(properties::NUM_RUNNING_COMPACTIONS)?
                + inner.property(properties::COMPACTION_PENDING)?,
        })
    }
}

impl Storage for Database {
    fn read(&self, addresses: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let inner = &*self.inner;
        inner.poison.check()?;
        let values = inner.db.multi_get(addresses).into_iter().collect::<Result<_, _>>();
        values.map_err(|error| inner.cannot_read(&error))
    }

    fn scan(&self, from: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        let inner = &*self.inner;
        inner.poison.check()?;
        let mut entries = Vec::new();
        if from >= end || limit == 0 {
            return Ok(entries);
        }
        let mut bounded = ReadOptions::default();
        // Without it, a scan that ends where a slice was deleted would walk through all of what is no more.
        bounded.set_iterate_upper_bound(end);
        let mut cursor = inner.db.raw_iterator_opt(bounded);
        cursor.seek(from);
        while let Some((address, value)) = cursor.item() {
            entries.push((address.to_vec(), value.to_vec()));
            if entries.len() == limit {
                return Ok(entries);
            }
            cursor.next();
        }
        // A cursor that met a damaged place looks like one that is at the end.
        cursor.status().map_err(|error| inner.cannot_read(&error))?;
        Ok(entries)
    }

    fn write(&self, writes: Writes) -> Result<(), StorageError> {
        let inner = &*self.inner;
        inner.poison.check()?;
        let mut batch = WriteBatch::with_capacity_bytes(writes.bytes() + ENTRY_BYTES * writes.list.len());
        let mut taking = None;
        for write in &writes.list {
            match write {
                Write::Put(address, value) => batch.put(address, value),
                Write::Delete(address) => batch.delete(address),
                Write::DeleteRange(from, end) if from < end => {
                    taking.get_or_insert_with(|| inner.taking.read().unwrap_or_else(PoisonError::into_inner));
                    inner.drop_tables(from, end)?;
                    batch.delete_range(from, end);
                }
                Write::DeleteRange(..) => {}
            }
        }
        inner.db.write_opt(batch, &inner.unlogged).map_err(|error| inner.last_word("write", &error))
    }
}

impl Inner {
    /// Drops tables that lie within a range, before the range is deleted. The deletion alone would do, but the tables
    /// would go on taking space and have to be compacted.
    ///
    /// It must come first: RocksDB doesn't look at what is in them, and afterwards a table in
    /// the range could already hold newer values. In between, older values below can come to light; that is nobody's
    /// concern, as the range belongs to the writing task, and no freeze comes in between.
    /// Checkpoints keep their own links to the tables.
    fn drop_tables(&self, from: &[u8], end: &[u8]) -> Result<(), StorageError> {
        // RocksDB counts the end as part of the range.
        let last = before(end);
        if last.as_slice() < from {
            return Ok(());
        }
        self.db.delete_file_in_range(from, &last).map_err(|error| self.last_word("delete from", &error))
    }

    /// Fails if RocksDB failed in the background, even if it has recovered since.
    fn check_background(&self) -> Result<(), StorageError> {
        match self.property(properties::BACKGROUND_ERRORS)? {
            0 => Ok(()),
            errors => Err(self
                .last_word("compact", &format!("{errors} errors in the background, see the file LOG there"))),
        }
    }

    fn property(&self, name: &properties::PropName) -> Result<u64, StorageError> {
        let value = self.db.property_int_value(name).map_err(|error| self.cannot_read(&error))?;
        value.ok_or_else(|| self.cannot_read(&format!("RocksDB doesn't know its {name:?}")))
    }

    fn cannot_read(&self, error: &dyn fmt::Display) -> StorageError {
        StorageError(format!(
            "cannot read the state in {}: {error}; restart the pipeline, and it recovers from its last checkpoint",
            self.folder.display()
        ))
    }

    fn last_word(&self, what: &str, error: &dyn fmt::Display) -> StorageError {
        self.poison.set(StorageError(format!(
            "cannot {what} the state in {}: {error}; its disk may be full or damaged. See to that and restart the \
             pipeline, and it recovers from its last checkpoint",
            self.folder.display()
        )))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("folder", &self.inner.folder).finish_non_exhaustive()
    }
}

/// The greatest address below this one, or one that is only a little less.
fn before(end: &[u8]) -> Vec<u8> {
    let mut before = end.to_vec();
    // Nothing lies between an address and the same with a zero behind.
    if let Some(last) = before.pop().filter(|&last| last > 0) {
        before.push(last - 1);
        before.extend_from_slice(&[u8::MAX; 16]);
    }
    before
}

/// What RocksDB adds to an entry of a batch: a tag and two lengths.
const ENTRY_BYTES: usize = 11;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    New,
    Restored,
    ReadOnly,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_end_is_after_what_is_before_it() {
        for (end, expected) in [
            (vec![1, 0], vec![1]),
            (vec![0], vec![]),
            (vec![7], [vec![6], vec![255; 16]].concat()),
            (vec![1, 255], [vec![1, 254], vec![255; 16]].concat()),
        ] {
            assert_eq!(before(&end), expected);
            assert!(expected < end);
        }
    }
}
