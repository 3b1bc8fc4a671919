//! From which checkpoint a start goes on.
//!
//! The newest that verifies, but never past one whose commit was begun: its output may be seen by others, so going on
//! from an older one would publish the same rows again. Such a checkpoint is restored or the start is refused.
//!
//! **Runs.** Each start draws a run number above all before it, and that number is part of everything that the run
//! writes. A run numbers its checkpoints above all that it found when it started. So if there is a manifest of a newer
//! run with the same or a smaller checkpoint number, a manifest wasn't there when that run started: a zombie wrote it,
//! a process that was thought dead. What it names was discarded by the newer run, or is being changed by it: it is
//! passed over, verified or not. This is the second line of defence; the first is the fence of the store, which
//! refuses what an older run writes once a newer one has begun, and without which a zombie could still publish output.
//!
//! **What is passed over must be set aside** before anything else is discarded or written. Else a manifest that can't
//! be read today and can be tomorrow would come back to life, after the output that it lists is gone.

use std::collections::BTreeMap;

/// A manifest that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its checkpoint.
    pub checkpoint: u64,
    /// The run that wrote it.
    pub run: u64,
    /// Whether it, and all that it names, is what was written.
    pub state: FoundState,
}

/// Whether a manifest, and all that it names, is what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundState {
    /// It is.
    Verified,
    /// It isn't: what is wrong, and with which file.
    Broken(String),
}

/// A manifest's name: one checkpoint number may have been used by two runs, one of them a zombie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The checkpoint.
    pub checkpoint: u64,
    /// The run that wrote it.
    pub run: u64,
}

/// How a start goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// From the beginning.
    Fresh {
        /// Manifests to set aside first: those of zombies, and broken ones whose output was never published.
        set_aside: Vec<Name>,
    },
    /// From this checkpoint.
    Restore {
        /// Its manifest.
        from: Name,
        /// Manifests to set aside first: those of zombies, and broken ones after it.
        set_aside: Vec<Name>,
    },
    /// Not at all, without a person: what is wrong and what can be done.
    Refuse(String),
}

/// Decides how a start goes on. `found` are all manifests, a copy counted once or again; `committing` are the
/// checkpoints of which a commit was begun. The mark of the newest of them may never be removed.
pub fn decide(found: &[Found], committing: &[u64]) -> Decision {
    let mut manifests = merge_copies(found);
    let mut set_aside = take_zombies(&mut manifests);
    let begun = committing.iter().max().copied();
    for (&name, state) in manifests.iter().rev().take_while(|(name, _)| begun <= Some(name.checkpoint)) {
        match state {
            FoundState::Verified => return Decision::Restore { from: name, set_aside },
            FoundState::Broken(_) => set_aside.push(name),
        }
    }
    match begun {
        None => Decision::Fresh { set_aside },
        Some(begun) => Decision::Refuse(refusal(begun, &manifests)),
    }
}

/// The number of a run's first checkpoint: above everything that carries one, be it manifests (broken ones too),
/// commits that were begun, or staged output.
///
/// # Panics
/// When the numbers are used up, which takes longer than there will be computers.
pub fn next_id(seen: impl IntoIterator<Item = u64>) -> u64 {
    seen.into_iter().max().map_or(1, |last| last.checked_add(1).expect("fewer than 2^64 checkpoints"))
}

/// A manifest is as good as the better of its copies.
fn merge_copies(found: &[Found]) -> BTreeMap<Name, &FoundState> {
    let mut manifests = BTreeMap::new();
    for Found { checkpoint, run, state } in found {
        let known = manifests.entry(Name { checkpoint: *checkpoint, run: *run }).or_insert(state);
        if *state == FoundState::Verified {
            *known = state;
        }
    }
    manifests
}

fn take_zombies(manifests: &mut BTreeMap<Name, &FoundState>) -> Vec<Name> {
    let came_before = |other: &Name, name: &Name| other.run > name.run && other.checkpoint <= name.checkpoint;
    let is_of_a_zombie = |name: &&Name| manifests.keys().any(|other| came_before(other, name));
    let zombies: Vec<_> = manifests.keys().filter(is_of_a_zombie).copied().collect();
    manifests.retain(|name, _| !zombies.contains(name));
    zombies
}

fn refusal(begun: u64, manifests: &BTreeMap<Name, &FoundState>) -> String {
    let broken: Vec<_> = manifests
        .iter()
        .filter_map(|(name, state)| match state {
            FoundState::Broken(what) if name.checkpoint >= begun => {
                Some(format!("checkpoint {}: {what}", name.checkpoint))
            }
            _ => None,
        })
        .collect();
    let what =
        if broken.is_empty() { format!("checkpoint {begun}: it is missing") } else { broken.join("; ") };
    format!(
        "can't restore {what}. Its output may have been published, and going on from an older checkpoint would publish \
         rows twice. Bring the file back from a copy; or, to begin anew, remove the output and all checkpoints"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(checkpoint: u64, run: u64) -> Found {
        Found { checkpoint, run, state: FoundState::Verified }
    }

    fn bad(checkpoint: u64, run: u64) -> Found {
        Found { checkpoint, run, state: FoundState::Broken(format!("file {checkpoint}.sst is torn")) }
    }

    fn names(of: &[(u64, u64)]) -> Vec<Name> {
        of.iter().map(|&(checkpoint, run)| Name { checkpoint, run }).collect()
    }

    fn restore(from: (u64, u64), set_aside: &[(u64, u64)]) -> Decision {
        Decision::Restore { from: names(&[from])[0], set_aside: names(set_aside) }
    }

    #[test]
    fn the_newest_that_verifies_is_restored() {
        assert_eq!(decide(&[], &[]), Decision::Fresh { set_aside: vec![] });
        assert_eq!(decide(&[good(1, 1), good(3, 2), good(2, 1)], &[1, 2]), restore((3, 2), &[]));
        // A checkpoint that is committed, and the newer one that was durable when the process ended.
        assert_eq!(decide(&[good(1, 1), good(2, 1)], &[1]), restore((2, 1), &[]));
    }

    #[test]
    fn a_broken_one_is_passed_over_as_long_as_no_commit_of_it_was_begun() {
        assert_eq!(decide(&[good(1, 1), bad(2, 1), bad(3, 1)], &[1]), restore((1, 1), &[(3, 1), (2, 1)]));
        assert_eq!(decide(&[good(1, 1), bad(2, 1)], &[]), restore((1, 1), &[(2, 1)]));
        assert_eq!(decide(&[bad(1, 1)], &[]), Decision::Fresh { set_aside: names(&[(1, 1)]) });
        // The broken one is of the past: what came later holds.
        assert_eq!(decide(&[bad(2, 1), good(3, 1)], &[2, 3]), restore((3, 1), &[]));
        // Newer than the commit, it may be passed over though the one below it may not.
        assert_eq!(decide(&[good(1, 1), good(2, 1), bad(3, 1)], &[1, 2]), restore((2, 1), &[(3, 1)]));
    }

    #[test]
    fn nothing_older_is_restored_than_a_commit_that_was_begun() {
        let refused = |found: &[Found], committing: &[u64]| match decide(found, committing) {
            Decision::Refuse(message) => message,
            other => panic!("{other:?}"),
        };
        let message = refused(&[good(1, 1), bad(2, 1)], &[1, 2]);
        assert!(message.contains("checkpoint 2: file 2.sst is torn"), "{message}");
        assert!(!message.contains("checkpoint 1"), "{message}");
        let message = refused(&[good(1, 1)], &[2]);
        assert!(message.contains("checkpoint 2: it is missing"), "{message}");
        // A newer one that is broken doesn't excuse it; both are named.
        let message = refused(&[good(1, 1), bad(2, 1), bad(3, 1)], &[2]);
        assert!(
            message.contains("checkpoint 3: file") && message.contains("checkpoint 2: file"),
            "{message}"
        );
        let message = refused(&[], &[2]);
        assert!(message.contains("checkpoint 2: it is missing"), "{message}");
    }

    #[test]
    fn one_good_copy_is_enough() {
        assert_eq!(decide(&[bad(1, 1), good(1, 1)], &[1]), restore((1, 1), &[]));
        assert_eq!(decide(&[good(1, 1), bad(1, 1)], &[1]), restore((1, 1), &[]));
    }

    #[test]
    fn the_manifest_of_a_zombie_is_passed_over() {
        // Run 2 began at 5, having found 4; the 5, 6 and 7 of run 1 came afterwards.
        let found = [good(4, 1), good(5, 2), good(5, 1), good(6, 1), good(7, 1)];
        assert_eq!(decide(&found, &[4, 5]), restore((5, 2), &[(5, 1), (6, 1), (7, 1)]));
        // Even a broken manifest of a newer run bears witness.
        let found = [good(4, 1), bad(5, 2), good(5, 1)];
        assert_eq!(decide(&found, &[4]), restore((4, 1), &[(5, 1), (5, 2)]));
        assert!(matches!(decide(&found, &[4, 5]), Decision::Refuse(_)));
    }

    #[test]
    fn numbers_rise_above_all_that_was_seen() {
        assert_eq!(next_id([]), 1);
        assert_eq!(next_id([3, 9, 4]), 10);
    }
}
