//! How RocksDB is set up, and why.
//!
//! The figures in the comments were measured with `examples/churn.rs`: eight million rows of 125 bytes, loaded in random
//! order, of which every freeze finds one percent changed.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, LogLevel, LruCacheOptions, Options,
    WriteBufferManager,
};
use tidemill_flow::storage::StorageError;

/// What a pipeline may say about its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Memory for what was read and for what isn't written out yet, together; at least [`MEMORY_BYTES_MIN`]. Lookups of
    /// absent keys stay off the disk while it has room for 1.3 bytes for each key of the state. The process takes up to 1.6
    /// times as much from the system: freed blocks leave holes.
    pub memory_bytes: u64,
    /// Threads that write out and compact, at least 2. All databases of a process share them: there are as
    /// many as the greediest asks for.
    pub threads: u16,
    /// Files held open at once, at least [`OPEN_FILES_MIN`]. With more files than that, 64 MiB each, they are opened
    /// again when they are read.
    pub open_files: u16,
}

impl Default for Settings {
    /// For a pipeline among others on a small machine, whose process may hold 1024 files open.
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, threads: 2, open_files: 256 }
    }
}

/// The least memory that a database works with.
pub const MEMORY_BYTES_MIN: u64 = 4 << 20;
/// The fewest open files that a database works with; RocksDB would silently take as many.
pub const OPEN_FILES_MIN: u16 = 20;

const MIB: usize = 1 << 20;

/// One is filled, one is written out, and one more lets a burst pass. With fewer, writers wait for the disk each time.
const WRITE_BUFFERS: usize = 3;
/// The write buffers' share of the memory is a quarter: reads gain more from it, and at a freeze all is written anyway.
const WRITE_BUFFERS_SHARE: usize = 4;
/// Larger ones make the longest tower of a flush, not a better table.
const WRITE_BUFFER_BYTES_MAX: usize = 64 * MIB;

/// The shares of a cache are locked singly, and each holds its share of the write buffers' charge in pieces of 256 KiB:
/// with smaller shares the pieces would not spread evenly, and some shares would be all charge.
const CACHE_SHARE_BYTES: usize = 8 * MIB;
const CACHE_SHARES_MAX_LOG2: u32 = 6;

/// Small enough that a compaction and what it makes new is a fraction of a large state, large enough that
/// a terabyte is a number of files that a manifest can list.
const TABLE_BYTES: u64 = 64 << 20;

const LEVEL_0_TABLES: i32 = 8;

/// The options, and the two things in them whose use can be asked for.
pub(crate) struct Prepared {
    pub(crate) options: Options,
    pub(crate) cache: Cache,
    pub(crate) write_buffers: WriteBufferManager,
}

impl Settings {
    pub(crate) fn prepare(&self) -> Result<Prepared, StorageError> {
        let memory = self.checked_memory()?;
        let (cache, write_buffers, write_buffer_bytes) = share_memory(memory);
        let mut options = without_second_chances()?;
        write_behind(&mut options, &write_buffers, write_buffer_bytes);
        options.set_block_based_table_factory(&tables(&cache));
        // State is mostly numbers in few bytes; whoever wants compressed checkpoints compresses files. It would also
        // be one more thing to build.
        options.set_compression_type(DBCompressionType::None);
        compact(&mut options);
        options.set_max_background_jobs(i32::from(self.threads));
        options.set_max_open_files(i32::from(self.open_files));
        be_quiet(&mut options);
        Ok(Prepared { options, cache, write_buffers })
    }

    fn checked_memory(&self) -> Result<usize, StorageError> {
        let refused = |what: &str, given: u64, least: u64| {
            StorageError(format!("the state can't work with {given} {what}; give it at least {least}"))
        };
        if self.threads < 2 {
            return Err(refused("threads", self.threads.into(), 2));
        }
        if self.open_files < OPEN_FILES_MIN {
            return Err(refused("open files", self.open_files.into(), OPEN_FILES_MIN.into()));
        }
        let memory =
            usize::try_from(self.memory_bytes).ok().filter(|_| self.memory_bytes >= MEMORY_BYTES_MIN);
        memory.ok_or_else(|| refused("bytes of memory", self.memory_bytes, MEMORY_BYTES_MIN))
    }
}

/// One limit for all: the write buffers are charged to the cache, which gives up blocks for them.
///
/// Their own number bounds them, and a writer that outruns the flushes waits. The manager could let it wait too, but
/// doesn't wake it when a flush fails.
fn share_memory(memory: usize) -> (Cache, WriteBufferManager, usize) {
    let shares_log2 = (memory / CACHE_SHARE_BYTES).max(1).ilog2().min(CACHE_SHARES_MAX_LOG2);
    let mut cache = LruCacheOptions::default();
    cache.set_capacity(memory);
    cache.set_num_shard_bits(shares_log2.cast_signed());
    let cache = Cache::new_lru_cache_opts(&cache);
    let each = (memory / WRITE_BUFFERS_SHARE / WRITE_BUFFERS).min(WRITE_BUFFER_BYTES_MAX);
    let manager =
        WriteBufferManager::new_write_buffer_manager_with_cache(each * WRITE_BUFFERS, false, cache.clone());
    (cache, manager, each)
}

/// What the bindings have no function for.
fn without_second_chances() -> Result<Options, StorageError> {
    // The folder is no longer read once it is closed, so closing needn't write. And what failed isn't tried
    // again behind our back: after a failed fsync a second one reports success for pages that are lost.
    Options::default()
        .get_options_from_string("avoid_flush_during_shutdown=true;max_bgerror_resume_count=0")
        .map_err(|error| StorageError(format!("this RocksDB doesn't know an option: {error}")))
}

fn write_behind(options: &mut Options, manager: &WriteBufferManager, bytes: usize) {
    options.set_write_buffer_manager(manager);
    options.set_write_buffer_size(bytes);
    options.set_max_write_buffer_number(WRITE_BUFFERS as i32);
    // Most lookups are of keys that the buffers don't have; a filter says so without a search.
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.05);
    // Written pages go to the disk bit by bit, so that the fsync at the end of a table is short.
    options.set_bytes_per_sync(MIB as u64);
}

/// Made for lookups of single keys, many of them new. Scans, over the rows of an operator or a slice, need nothing but the
/// order of addresses: they end at a bound, and a filter of prefixes would only help those that find nothing.
fn tables(cache: &Cache) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    // A lookup reads one block, whose other rows nobody wants: a small one.
    tables.set_block_size(4096);
    // 10 bits a key let 1 % of the lookups of absent keys through, also at the last level, where most of them end.
    tables.set_bloom_filter(10.0, false);
    tables.set_whole_key_filtering(true);
    // Index and filters of a large state don't fit the memory, so they are cut into blocks and live in
    // the cache like all others, only longer. What is on top of them, a thousandth, stays.
    tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    tables.set_partition_filters(true);
    tables.set_metadata_block_size(4096);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_cache_index_and_filter_blocks_with_high_priority(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    tables.set_pin_top_level_index_and_filter(true);
    tables
}

/// Levels, whose sizes follow that of the last one: then nine tenths of the state lie in its last level, and deleted or
/// overwritten values take little space.
///
/// Each compaction makes bytes that the next checkpoint has to store, so the choice is measured by them. With one percent
/// of the rows changed between freezes, a freeze finds 1 % new bytes as long as nothing was compacted. The mean over sixty
/// was 6.0 % of the state with compaction of level 0 at 4 tables, as RocksDB has it, 3.3 % at 8 and no less at 16, where
/// reads have more to look through; the worst was 27 % at 8. A factor of 4 or 5 between levels instead of 10 made no
/// difference beyond chance. Universal compaction got 1.8 % to 2.9 %, but it rewrites everything at once when
/// its time comes (one freeze was new to 100 %), and needs the space twice then.
fn compact(options: &mut Options) {
    options.set_target_file_size_base(TABLE_BYTES);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_bytes_for_level_base(4 * TABLE_BYTES);
    options.set_max_bytes_for_level_multiplier(10.0);
    options.set_level_zero_file_num_compaction_trigger(LEVEL_0_TABLES);
    // Freezes add tables however small; writers are slowed down only when compaction is far behind.
    options.set_level_zero_slowdown_writes_trigger(LEVEL_0_TABLES + 20);
    options.set_level_zero_stop_writes_trigger(LEVEL_0_TABLES + 32);
    // By default tables are rewritten when they are thirty days old, and with them every checkpoint.
    options.set_ttl(0);
    options.set_periodic_compaction_seconds(0);
}

/// A manifest, which every freeze copies, is begun anew before it gets large; the log is for the worst only, and small.
fn be_quiet(options: &mut Options) {
    options.set_max_manifest_file_size(MIB);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(MIB);
    options.set_keep_log_file_num(1);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
}
