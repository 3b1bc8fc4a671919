//! Stores to test with.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::Digest as _;
use tidemill_checkpoint::{
    Becomes, Collection, Counters, FORMAT, Field, FileEntry, Kind, Manifest, Operator, Part, Partition,
    Position, Sink, Source, State, StateSchema, Store, WatermarkRange,
};

/// A folder with a store in it and a database beside it.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("database")).unwrap();
        Self { folder }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(&self.store(), "orders").unwrap()
    }

    pub(crate) fn restored(&self) -> PathBuf {
        self.folder.path().join("restored")
    }

    /// A file of the database, a new one.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join("database").join(name);
        overwrite(&path, content);
        path
    }

    /// Makes a checkpoint of files.
    pub(crate) fn checkpoint(&self, store: &Store, number: u64, files: &[(&str, &[u8])]) -> Manifest {
        let put = |(name, content): &(&str, &[u8])| {
            store.put_file(&self.file(name, content), name.ends_with(".sst")).unwrap()
        };
        let manifest = manifest(number, store.run(), files.iter().map(put).collect());
        store.write_manifest(&manifest).unwrap();
        manifest
    }
}

/// A manifest without anything in it but files.
pub(crate) fn manifest(checkpoint: u64, run: u64, files: Vec<FileEntry>) -> Manifest {
    Manifest {
        format: FORMAT,
        pipeline: "orders".to_owned(),
        checkpoint,
        run,
        kind: Kind::Checkpoint,
        savepoint: None,
        created_ms: 1_700_000_000_000,
        duration_ms: 12,
        key_hash: "xxh3-64, seed 0".to_owned(),
        key_groups: 720,
        sources: Vec::new(),
        operators: Vec::new(),
        state: State { backend: "rocksdb".to_owned(), files },
        generation: 0,
        components: std::collections::BTreeMap::new(),
        sinks: Vec::new(),
        counters: Counters::default(),
        warnings: Vec::new(),
    }
}

/// A manifest with everything in it.
pub(crate) fn full() -> Manifest {
    let field = |name: &str, r#type: &str, nullable| Field {
        name: name.to_owned(),
        r#type: r#type.to_owned(),
        nullable,
    };
    let partition = |name: &str, position, watermark, ended| Partition {
        name: name.to_owned(),
        position,
        watermark,
        ended,
    };
    let counts = |id: &str, counts: &[(&str, u64)]| {
        (id.to_owned(), counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())
    };
    let digest = |byte: &str| byte.repeat(32).parse().unwrap();
    let tail_hash = "0123456789abcdef".to_owned();
    Manifest {
        kind: Kind::Last,
        sources: vec![
            Source {
                id: "clicks".to_owned(),
                partitions: vec![partition(
                    "/data/clicks.json",
                    Position::File {
                        byte: 1_048_576,
                        line: 9_000,
                        within_overlong: true,
                        tail_bytes: 64,
                        tail_hash,
                    },
                    Some(1_700_000_000_000),
                    true,
                )],
            },
            Source {
                id: "bids".to_owned(),
                partitions: vec![
                    partition("0", Position::Generated { last: Some(512) }, None, false),
                    partition(
                        "1",
                        Position::Log {
                            log: "00c0ffee00c0ffee".to_owned(),
                            offset: u64::MAX,
                            history: "f".repeat(16),
                        },
                        Some(i64::MIN),
                        false,
                    ),
                ],
            },
        ],
        operators: vec![Operator {
            id: "count".to_owned(),
            number: 1,
            component: digest("ab"),
            world: "aggregate-operator".to_owned(),
            key: vec![field("page", "text", true)],
            windows: Some("tumbling, 1m".to_owned()),
            parallelism: 2,
            state: vec![StateSchema { version: 1, fields: vec![field("n", "integer", false)] }],
            collections: vec![Collection {
                number: 0,
                name: "seen".to_owned(),
                entry: "text".to_owned(),
                value: "boolean".to_owned(),
                expires_by: Some("event-time".to_owned()),
            }],
            watermarks: vec![
                WatermarkRange { first: 0, end: 360, watermark: 1_700_000_000_000 },
                WatermarkRange { first: 360, end: 720, watermark: i64::MAX },
            ],
            in_flight: None,
        }],
        generation: 0,
        components: std::collections::BTreeMap::new(),
        sinks: vec![Sink {
            id: "out".to_owned(),
            destination: "/data/out".to_owned(),
            parts: vec![Part {
                staged: "staged/run3-0-7.json".parse().unwrap(),
                becomes: Becomes::File { committed: "run3-0-7.json".parse().unwrap() },
                bytes: 77,
                rows: 3,
                sha256: Some(digest("cd")),
            }],
            repeatable: None,
        }],
        counters: Counters {
            sources: [counts("clicks", &[("rows", 9_000), ("malformed", 1)])].into(),
            operators: [counts("count", &[("rows_in", 9_000), ("late", 4)])].into(),
            sinks: [counts("out", &[("rows", 3)])].into(),
        },
        warnings: vec!["the watermark of `bids` hasn't begun".to_owned()],
        ..manifest(
            12,
            3,
            vec![FileEntry {
                name: "000012.sst".parse().unwrap(),
                sha256: digest("ef"),
                bytes: 4_096,
                immutable: true,
            }],
        )
    }
}

/// Text with its seal, as manifests have it.
pub(crate) fn seal(text: &str) -> Vec<u8> {
    let hash = sha2::Sha256::digest(text);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{text}sha256 {hex}\n").into_bytes()
}

/// Writes a new file in place of the one that may be there: not into it, as it may be linked from elsewhere, and as some
/// file systems sync one that was emptied.
pub(crate) fn overwrite(path: &Path, content: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, content).unwrap();
}

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}
