//! Checkpoints, as far as they are decisions: when barriers are together ([`alignment`]), when a checkpoint begins,
//! is persisted, committed or given up ([`coordinator`]), which staged output is published ([`commit`]), and from
//! which checkpoint a start goes on ([`recovery`]).
//!
//! The life of checkpoint n, whose steps the host takes in this order and no other:
//!
//! 1. The coordinator triggers n. Sources put barrier n behind what they have sent and note their positions.
//! 2. A task in which barrier n has come on all channels freezes its state; a sink closes its staged parts. Until its
//!    channels are together, those where barrier n has come are held.
//! 3. When a task has written what it froze to the storage, and a sink has its parts on disk (synced, folder too), it
//!    acknowledges. Until the files of n are taken nothing of the next epoch is written into the storage.
//! 4. With the last acknowledgement the files of the storage are taken. Then, and not before, tasks may write again.
//! 5. Files are stored and synced, then the manifest, which lists files, positions and the sinks' pending parts. When
//!    it is *durable* the checkpoint is true, whatever happens to the process.
//! 6. The intent to commit n is marked durably, then the pending parts are published; both can be repeated.
//! 7. Only now may n + 1 be triggered, and what isn't needed be removed: manifests first, then files that neither a
//!    manifest on the disk nor a checkpoint that is being written names. While a manifest can't be read nobody knows
//!    what it names, and no file is removed.
//!
//! A start, from the first step again if it is interrupted anywhere:
//!
//! 1. Draw a run number above all others, durably. From here on the stores refuse whatever an older run writes,
//!    renames or removes.
//! 2. Read marks and manifests, verify all that they name, and [decide](recovery::decide).
//! 3. Set aside, durably, the manifests that were passed over: the next steps discard what they would need. Make a lost
//!    copy of the chosen manifest anew, and sync both, whoever wrote them.
//! 4. Write what is missing or broken of the two copies of the manifest that is restored: a checkpoint that wasn't
//!    reported durable may have only one, and the next step makes it the one that can't be done without.
//! 5. Mark the intent to commit, publish what the manifest lists, [discard](commit::restore) what else is staged.
//! 6. Restore state and positions, and number checkpoints [above all that was ever seen](recovery::next_id).

pub mod alignment;
pub mod commit;
pub mod coordinator;
pub mod recovery;
