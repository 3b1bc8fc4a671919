//! Which staged output is published, and when. A sink writes *parts* that nobody sees; with the commit of a checkpoint
//! those before its barrier are published, each by one atomic step that can be repeated (a rename).
//!
//! A part's name is given when it is staged, says who wrote it (run, sink, task, number) and is the same before and
//! after publishing. So nothing is published under the name of something else, and publishing twice is publishing once.

use std::collections::BTreeSet;

/// The parts that a sink has staged and not yet published.
///
/// 1. A part is staged: it belongs to no checkpoint yet.
/// 2. The barrier of checkpoint n comes: all parts since the barrier before are closed, and belong to n.
/// 3. The acknowledgement of n lists all that is unpublished up to n: also what belonged to checkpoints that were
///    given up, for nobody else will ever list it.
/// 4. The commit of n publishes all up to n.
#[derive(Clone, Debug)]
pub struct StagedParts<P = String> {
    open: Vec<P>,
    /// Ascending by checkpoint.
    closed: Vec<(u64, P)>,
}

impl<P> Default for StagedParts<P> {
    fn default() -> Self {
        Self { open: Vec::new(), closed: Vec::new() }
    }
}

impl<P: Clone> StagedParts<P> {
    /// A part was begun or written. It belongs to the next barrier that comes.
    pub fn stage(&mut self, part: P) {
        self.open.push(part);
    }

    /// The barrier of a checkpoint has come: the parts for its acknowledgement, all that is unpublished, in the order
    /// in which it was staged. They must be synced before it is sent.
    pub fn close(&mut self, checkpoint: u64) -> Vec<P> {
        debug_assert!(
            self.closed.last().is_none_or(|(last, _)| *last < checkpoint),
            "barrier {checkpoint} again"
        );
        self.closed.extend(self.open.drain(..).map(|part| (checkpoint, part)));
        self.due(checkpoint)
    }

    /// What a commit of a checkpoint has to publish: nothing, if it or a later one was committed before.
    pub fn due(&self, checkpoint: u64) -> Vec<P> {
        let due = self.closed.iter().take_while(|(of, _)| *of <= checkpoint);
        due.map(|(_, part)| part.clone()).collect()
    }

    /// All that was due with this checkpoint is published.
    pub fn committed(&mut self, checkpoint: u64) {
        self.closed.retain(|(of, _)| *of > checkpoint);
    }

    /// How many parts wait.
    pub fn count(&self) -> usize {
        self.open.len() + self.closed.len()
    }
}

/// What a start does with the parts that it finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// To publish, before anything new is.
    pub publish: Vec<String>,
    /// To remove: parts of later epochs, of given-up checkpoints, and of zombies. What they hold is made again.
    pub discard: Vec<String>,
}

/// Decides what a start does with the parts that it finds: `listed` stand in the manifest that is restored, `staged`
/// and `published` were found, whoever wrote them.
///
/// # Errors
/// With the names of listed parts that are neither staged nor published: output is lost, and the start must be refused.
pub fn restore(listed: &[String], staged: &[String], published: &[String]) -> Result<Restored, Vec<String>> {
    let set = |parts: &[String]| parts.iter().cloned().collect::<BTreeSet<_>>();
    let (listed, staged, published) = (set(listed), set(staged), set(published));
    let lost: Vec<_> =
        listed.iter().filter(|p| !staged.contains(*p) && !published.contains(*p)).cloned().collect();
    if !lost.is_empty() {
        return Err(lost);
    }
    let publish: BTreeSet<_> = listed.difference(&published).cloned().collect();
    let discard = staged.difference(&publish).cloned().collect();
    Ok(Restored { publish: publish.into_iter().collect(), discard })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn a_commit_publishes_what_came_before_its_barrier_once() {
        let mut sink: StagedParts = StagedParts::default();
        sink.stage("a".into());
        assert_eq!(sink.close(1), parts(&["a"]));
        sink.stage("b".into());
        assert_eq!(sink.due(1), parts(&["a"]));
        assert_eq!(sink.due(1), parts(&["a"]), "until it is done it can be asked for again");
        sink.committed(1);
        assert_eq!((sink.due(1), sink.count()), (vec![], 1));
        assert_eq!(sink.close(2), parts(&["b"]));
        sink.committed(1);
        assert_eq!(sink.due(2), parts(&["b"]));
    }

    #[test]
    fn parts_of_a_checkpoint_that_was_given_up_join_the_next() {
        let mut sink: StagedParts = StagedParts::default();
        for (checkpoint, name) in [(1, "a"), (2, "b"), (4, "c")] {
            sink.stage(name.into());
            let _ = sink.close(checkpoint);
        }
        sink.stage("d".into());
        assert_eq!(sink.due(0), parts(&[]));
        assert_eq!(sink.due(3), parts(&["a", "b"]));
        assert_eq!(sink.close(5), parts(&["a", "b", "c", "d"]));
        // The notice for 4 was lost: that for 5 stands for both.
        sink.committed(5);
        assert_eq!(sink.count(), 0);
    }

    #[test]
    fn a_start_publishes_what_is_listed_and_removes_the_rest() {
        let (listed, staged) = (parts(&["a", "b"]), parts(&["b", "later", "zombie"]));
        let restored = restore(&listed, &staged, &parts(&["a", "old"])).unwrap();
        assert_eq!(restored, Restored { publish: parts(&["b"]), discard: parts(&["later", "zombie"]) });
        // Interrupted and begun again.
        let again = restore(&listed, &[], &parts(&["a", "b", "old"])).unwrap();
        assert_eq!(again, Restored::default());
        // A store that links and then unlinks may be found in between.
        let between = restore(&listed, &parts(&["b"]), &parts(&["a", "b"])).unwrap();
        assert_eq!(between, Restored { publish: vec![], discard: parts(&["b"]) });
    }

    #[test]
    fn a_listed_part_that_is_nowhere_is_named() {
        assert_eq!(restore(&parts(&["a", "b"]), &parts(&["a"]), &[]), Err(parts(&["b"])));
    }
}
