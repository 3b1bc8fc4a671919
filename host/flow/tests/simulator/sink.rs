//! A sink: stages parts, closes them at barriers, publishes them with commits.

use std::collections::BTreeSet;

use tidemill_flow::checkpoint::commit::StagedParts;

use crate::bugs::Bug;
use crate::context::Context;
use crate::data::Row;
use crate::disk::{Folder, Trouble};
use crate::inbox::Inbox;

pub(crate) struct Sink {
    pub(crate) inbox: Inbox,
    run: u64,
    number: usize,
    parts: StagedParts,
    writing: Option<String>,
    parts_count: u32,
    /// To be synced, before the acknowledgement that lists them.
    closing: Option<Closing>,
    publishing: Option<(u64, Vec<String>)>,
    /// What was listed by some acknowledgement.
    listed: BTreeSet<String>,
}

struct Closing {
    checkpoint: u64,
    listed: Vec<String>,
    unsynced: Vec<String>,
}

impl Sink {
    pub(crate) fn new(run: u64, number: usize, channels: usize) -> Self {
        Self {
            inbox: Inbox::new(channels, None),
            run,
            number,
            parts: StagedParts::default(),
            writing: None,
            parts_count: 0,
            closing: None,
            publishing: None,
            listed: BTreeSet::new(),
        }
    }

    pub(crate) fn row(&mut self, row: &Row, cx: &mut Context) -> Result<(), Trouble> {
        let part = self.writing.take().unwrap_or_else(|| {
            self.parts_count += 1;
            let part = format!("{:03}-{}-{:03}", self.run, self.number, self.parts_count);
            self.parts.stage(part.clone());
            part
        });
        let mut bytes = Vec::new();
        row.write(&mut bytes);
        cx.disk.append(self.run, (Folder::Staged, part.clone()), &bytes)?;
        self.writing = (!cx.random.one_in(6)).then_some(part);
        Ok(())
    }

    pub(crate) fn close(&mut self, checkpoint: u64, cx: &mut Context) {
        self.writing = None;
        let mut listed = self.parts.close(checkpoint);
        cx.counts.parts_of_aborted += listed.iter().filter(|p| self.listed.contains(*p)).count() as u64;
        if cx.has(Bug::AbortedPartsForgotten) {
            listed.retain(|part| !self.listed.contains(part));
        }
        self.listed.extend(listed.iter().cloned());
        self.closing = Some(Closing { checkpoint, unsynced: listed.clone(), listed });
    }

    /// Syncs a part. Returns a checkpoint when it can be acknowledged, and the parts that belong to it.
    pub(crate) fn sync(&mut self, cx: &mut Context) -> Result<Option<(u64, Vec<String>)>, Trouble> {
        let Some(closing) = &mut self.closing else { return Ok(None) };
        if let Some(part) = closing.unsynced.pop() {
            if !cx.has(Bug::PartsUnsynced) {
                cx.disk.sync(self.run, &(Folder::Staged, part))?;
            }
            return Ok(None);
        }
        Ok(self.closing.take().map(|closing| (closing.checkpoint, closing.listed)))
    }

    pub(crate) fn aborted(&mut self, checkpoint: u64) {
        self.inbox.cancel(checkpoint);
        self.closing.take_if(|closing| closing.checkpoint == checkpoint);
    }

    /// A commit's notice. One that comes while another is under way will come again.
    pub(crate) fn commit(&mut self, checkpoint: u64) {
        if self.publishing.is_none() {
            self.publishing = Some((checkpoint, self.parts.due(checkpoint)));
        }
    }

    /// Publishes a part. Returns a checkpoint when all that belongs to it is published, durably.
    pub(crate) fn publish(&mut self, cx: &mut Context) -> Result<Option<u64>, Trouble> {
        let Some((checkpoint, due)) = &mut self.publishing else { return Ok(None) };
        if let Some(part) = due.first() {
            if publish_part(self.run, part, cx)? {
                due.remove(0);
            }
            return Ok(None);
        }
        let checkpoint = *checkpoint;
        if !cx.has(Bug::CommitUnsynced) {
            cx.disk.sync_published(self.run)?;
        }
        self.parts.committed(checkpoint);
        self.publishing = None;
        Ok(Some(checkpoint))
    }
}

/// Publishes a part. Returns whether that is all.
pub(crate) fn publish_part(run: u64, part: &str, cx: &mut Context) -> Result<bool, Trouble> {
    if !cx.has(Bug::CommitAppends) {
        return cx.disk.publish(run, part).map(|()| true);
    }
    let staged = (Folder::Staged, part.to_string());
    let appended = (Folder::Published, format!("{part}+{run}"));
    let Some(bytes) = cx.disk.read(&staged).map(<[u8]>::to_vec) else { return Ok(true) };
    if cx.disk.read(&appended).is_some() {
        return cx.disk.remove(run, &staged).map(|()| true);
    }
    cx.disk.write_atomically(run, appended, bytes)?;
    cx.disk.sync_published(run)?;
    Ok(false)
}
