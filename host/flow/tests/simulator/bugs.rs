//! Errors that the world can be told to make, each one that a streaming engine has made or could make. They live here
//! and not in the flow: what they replace is the host's side of the protocol, and how it uses the state machines.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A task takes its snapshot with the first barrier and holds no channel.
    NoAlignment,
    /// A barrier is put before the rows that wait in a channel.
    BarrierOvertakesRows,
    /// A source notes a position one row too far.
    PositionTooFar,
    /// A source notes a position one row short.
    PositionTooShort,
    /// A task acknowledges when it has frozen its state, not when that is written.
    AcknowledgedBeforeDrain,
    /// A frozen entry that changes isn't saved first: the next epoch leaks into the snapshot.
    NoCopyOnWrite,
    /// The cache writes entries of the next epoch before the files of the checkpoint are taken.
    EvictedWhileOpen,
    /// A task may write again when it has acknowledged, not when the files are taken.
    WrittenBeforeFilesAreTaken,
    /// Output is published when all have acknowledged, not when the manifest is durable.
    CommitBeforeDurable,
    /// No intent is marked before output is published.
    NoIntent,
    /// No intent is marked by a start that publishes what a manifest lists.
    NoIntentAtStart,
    /// A start takes any older checkpoint that verifies.
    FallbackBehindCommit,
    /// Manifests that were passed over stay where they are.
    NothingSetAside,
    /// A checkpoint is committed of which one copy of the manifest is missing or broken.
    NotHealed,
    /// A sink acknowledges only what was staged since the last barrier, aborted or not.
    AbortedPartsForgotten,
    /// Publishing appends, and removes what was staged in a second step.
    CommitAppends,
    /// A commit is reported before the renames are durable.
    CommitUnsynced,
    /// A start discards all that is staged.
    PendingPartsForgotten,
    /// A start keeps what was staged and isn't listed, and publishes it.
    StagedPartsKept,
    /// A manifest is written in place, and read without its checksum.
    ManifestNotAtomic,
    /// Files of the state are referred to without being synced.
    FilesUnsynced,
    /// A sink's parts are referred to without being synced.
    PartsUnsynced,
    /// A file that is there under the right name is taken to be whole.
    FileBelieved,
    /// Files are removed that only the newest manifest doesn't name.
    CollectedTooEarly,
    /// A manifest that can't be read is taken to name nothing.
    CollectedBlindly,
    /// The stores don't know runs.
    NoFence,
    /// A start loads timers twice.
    TimersTwice,
    /// Rows that come behind a channel's barrier are recorded as in flight too.
    RecordedBehindBarrier,
    /// A task acknowledges before it has recorded all that was in flight.
    AcknowledgedBeforeRecorded,
    /// A start forgets what was in flight.
    InFlightForgotten,
    /// What was in flight stays in the storage when it has been processed.
    InFlightNotRemoved,
    /// A start takes signals before it has processed what was in flight.
    InFlightProcessedLate,
    /// The last checkpoint doesn't wait for all barriers either.
    LastOvertaken,
    /// A start with another parallelism loads timers by the old one.
    GroupsMovedWrongly,
}

impl Bug {
    pub(crate) const ALL: [Bug; 34] = [
        Bug::NoAlignment,
        Bug::BarrierOvertakesRows,
        Bug::PositionTooFar,
        Bug::PositionTooShort,
        Bug::AcknowledgedBeforeDrain,
        Bug::NoCopyOnWrite,
        Bug::EvictedWhileOpen,
        Bug::WrittenBeforeFilesAreTaken,
        Bug::CommitBeforeDurable,
        Bug::NoIntent,
        Bug::NoIntentAtStart,
        Bug::FallbackBehindCommit,
        Bug::NothingSetAside,
        Bug::NotHealed,
        Bug::AbortedPartsForgotten,
        Bug::CommitAppends,
        Bug::CommitUnsynced,
        Bug::PendingPartsForgotten,
        Bug::StagedPartsKept,
        Bug::ManifestNotAtomic,
        Bug::FilesUnsynced,
        Bug::PartsUnsynced,
        Bug::FileBelieved,
        Bug::CollectedTooEarly,
        Bug::CollectedBlindly,
        Bug::NoFence,
        Bug::TimersTwice,
        Bug::GroupsMovedWrongly,
        Bug::RecordedBehindBarrier,
        Bug::AcknowledgedBeforeRecorded,
        Bug::InFlightForgotten,
        Bug::InFlightNotRemoved,
        Bug::InFlightProcessedLate,
        Bug::LastOvertaken,
    ];
}
