//! What every part of the world is handed: chance, the disk, the time, the faults that are allowed, the planted bug,
//! and the places where what happened is noted.

use std::collections::BTreeMap;

use tidemill_flow::checkpoint::recovery::Name;

use crate::bugs::Bug;
use crate::disk::{Disk, Folder, Path};
use crate::random::Random;

pub(crate) struct Context {
    pub(crate) random: Random,
    pub(crate) disk: Disk,
    pub(crate) now_ms: u64,
    /// Faults are still thrown.
    pub(crate) faulty: bool,
    /// One in so many notices is lost, and about as many come twice.
    pub(crate) lost_one_in: u64,
    pub(crate) bug: Option<Bug>,
    pub(crate) counts: Counts,
    /// The files that each manifest names that was ever written, to judge a refusal by.
    pub(crate) written: BTreeMap<Name, Vec<String>>,
    trace: Option<Vec<String>>,
}

/// How often what has happened: whether the world throws what it is thought to throw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kills: u64,
    pub(crate) power_losses: u64,
    pub(crate) interrupted_starts: u64,
    pub(crate) fenced: u64,
    pub(crate) rotten: u64,
    pub(crate) aborted: u64,
    pub(crate) given_up: u64,
    pub(crate) committed: u64,
    pub(crate) restored: u64,
    pub(crate) rescaled: u64,
    pub(crate) passed_over: u64,
    pub(crate) parts_of_aborted: u64,
    pub(crate) saved_first: u64,
    pub(crate) barriers_cancelled: u64,
    pub(crate) ends_aligned: u64,
    pub(crate) overtaken: u64,
    pub(crate) in_flight: u64,
    pub(crate) settled: u64,
    pub(crate) not_durable: u64,
    pub(crate) files_shared: u64,
    pub(crate) files_removed: u64,
    pub(crate) refused: u64,
    pub(crate) steps: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs = self.all_mut().into_iter().zip(other.all());
        pairs.for_each(|((_, to), (_, from))| *to += from);
    }

    pub(crate) fn all(&self) -> [(&'static str, u64); 23] {
        let mut copy = *self;
        copy.all_mut().map(|(name, count)| (name, *count))
    }

    fn all_mut(&mut self) -> [(&'static str, &mut u64); 23] {
        [
            ("kills", &mut self.kills),
            ("losses of power", &mut self.power_losses),
            ("starts that were interrupted", &mut self.interrupted_starts),
            ("runs that were fenced", &mut self.fenced),
            ("bytes that were flipped", &mut self.rotten),
            ("checkpoints that were aborted", &mut self.aborted),
            ("runs that gave up", &mut self.given_up),
            ("commits", &mut self.committed),
            ("checkpoints that were restored", &mut self.restored),
            ("starts with another parallelism", &mut self.rescaled),
            ("manifests that were set aside", &mut self.passed_over),
            ("parts of aborted checkpoints that joined the next", &mut self.parts_of_aborted),
            ("entries that were saved before they changed", &mut self.saved_first),
            ("alignments that a newer barrier cancelled", &mut self.barriers_cancelled),
            ("alignments with a channel that had ended", &mut self.ends_aligned),
            ("snapshots that didn't wait for all barriers", &mut self.overtaken),
            ("rows that were recorded as in flight", &mut self.in_flight),
            ("rows in flight that a start has processed", &mut self.settled),
            ("manifests whose writing failed", &mut self.not_durable),
            ("files that two checkpoints share", &mut self.files_shared),
            ("files that were removed", &mut self.files_removed),
            ("starts that were refused", &mut self.refused),
            ("steps", &mut self.steps),
        ]
    }
}

impl Context {
    pub(crate) fn new(mut random: Random, bug: Option<Bug>, traced: bool) -> Self {
        Self {
            lost_one_in: [4, 12, 40, 200][random.index(4)],
            random,
            disk: Disk::new(bug),
            now_ms: 0,
            faulty: true,
            bug,
            counts: Counts::default(),
            written: BTreeMap::new(),
            trace: traced.then(Vec::new),
        }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// A fault that comes once in so many times, as long as faults are thrown.
    pub(crate) fn fault(&mut self, one_in: u64) -> bool {
        self.faulty && self.random.one_in(one_in)
    }

    /// Notes what happened, if somebody will read it.
    pub(crate) fn note(&mut self, run: u64, what: impl FnOnce() -> String) {
        let (now_ms, step) = (self.now_ms, self.counts.steps);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("step {step}, {now_ms} ms, run {run}: {}", what()));
        }
    }

    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    /// Whether the newest checkpoint whose commit was begun can't be restored because its files have rotted: both
    /// copies of the manifest, or a file of the state.
    pub(crate) fn is_truly_broken(&self) -> bool {
        let rotten = |folder: Folder, name: &str| self.disk.rotten.contains(&(folder, name.to_string()));
        let Some(begun) = self.disk.list(Folder::Intents).last().and_then(|name| name.parse().ok()) else {
            return false;
        };
        let on_disk = |name: &Name| (0..2).any(|copy| self.disk.read(&manifest_path(*name, copy)).is_some());
        let of_begun = self.written.iter().filter(|(name, _)| name.checkpoint == begun && on_disk(name));
        let mut of_begun = of_begun.peekable();
        of_begun.peek().is_some()
            && of_begun.all(|(name, files)| {
                (0..2).all(|copy| rotten(Folder::Manifests, &manifest_path(*name, copy).1))
                    || files.iter().any(|file| rotten(Folder::Files, file))
            })
    }
}

pub(crate) fn manifest_path(name: Name, copy: u8) -> Path {
    (Folder::Manifests, format!("{:04}-{:03}-{copy}", name.checkpoint, name.run))
}

pub(crate) fn intent_path(checkpoint: u64) -> Path {
    (Folder::Intents, format!("{checkpoint:04}"))
}
