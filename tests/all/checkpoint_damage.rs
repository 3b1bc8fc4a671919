//! A damaged checkpoint is never gone on from as if nothing were: another copy of it is used, or an older checkpoint
//! whose successor nobody has seen, or the run is refused and names the file. Output that has appeared stays.

use std::fs;
use std::path::Path;

use tidemill_tests::{Consumer, Ended, Folder};

use crate::lives::{PROCESSES, WINDOWS, assert_same, uninterrupted};

const CHECKPOINTS: &str = "p.checkpoints";

/// A folder with a pipeline that was killed, to which each case comes back.
struct Interrupted {
    folder: Folder,
    pipeline: String,
    /// What comes out of it if nothing is damaged.
    expected: Vec<String>,
    consumer: Consumer,
}

impl Interrupted {
    fn new(pipeline: &str, death: &str) -> Self {
        let folder = Folder::new();
        assert!(folder.live(pipeline, 2, death).was_killed(), "{death} came too late");
        let mut consumer = Consumer::new("out");
        consumer.look(&folder);
        fs::create_dir_all(folder.path("out")).unwrap();
        for kept in [CHECKPOINTS, "out"] {
            copy(&folder.path(kept), &folder.path(&format!("kept/{kept}")));
        }
        Self { folder, pipeline: pipeline.to_owned(), expected: uninterrupted(pipeline), consumer }
    }

    /// The files in a folder of the checkpoints, and in folders therein.
    fn files(&self, within: &str) -> Vec<String> {
        let within = format!("{CHECKPOINTS}/{within}");
        let mut found = Vec::new();
        for name in self.folder.files(&within) {
            let path = format!("{within}/{name}");
            if self.folder.path(&path).is_dir() {
                found.extend(self.folder.files(&path).iter().map(|name| format!("{path}/{name}")));
            } else {
                found.push(path);
            }
        }
        assert!(!found.is_empty(), "nothing in {within}");
        found
    }

    /// Puts back what was, and then damages these files.
    fn damage(&self, files: &[String], damage: Damage) {
        for kept in [CHECKPOINTS, "out"] {
            fs::remove_dir_all(self.folder.path(kept)).unwrap();
            copy(&self.folder.path(&format!("kept/{kept}")), &self.folder.path(kept));
        }
        for file in files {
            let path = self.folder.path(file);
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                Damage::Removed => {
                    fs::remove_file(path).unwrap();
                    continue;
                }
                Damage::CutTo(share) => bytes.truncate(at(share, bytes.len())),
                Damage::Flipped(share) => {
                    let at = at(share, bytes.len());
                    bytes[at] ^= 0x10;
                }
            }
            fs::remove_file(&path).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    fn run(&self) -> Ended {
        let ended = self.folder.live(&self.pipeline, 2, "");
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended
    }

    /// Checks that the run goes on and comes to the right end.
    #[track_caller]
    fn check_passed_over(&self, files: &[String], damage: Damage) -> Ended {
        self.damage(files, damage);
        let ended = self.run();
        let what = format!("{damage:?} {files:?}: {}", ended.stderr);
        assert_eq!(ended.status, Some(0), "{what}");
        let mut consumer = self.consumer.clone();
        consumer.look(&self.folder);
        assert_same(&consumer.rows(), &self.expected, &what);
        ended
    }

    /// Checks that the run is refused, names one of the files, and leaves the output alone.
    #[track_caller]
    fn check_refused(&self, files: &[String], damage: Damage) {
        self.damage(files, damage);
        let ended = self.run();
        let what = format!("{damage:?} {files:?}: {}", ended.stderr);
        assert_eq!(ended.status, Some(2), "{what}");
        let name = |file: &String| file.rsplit_once('/').unwrap().1.to_owned();
        assert!(files.iter().any(|f| ended.stderr.contains(&name(f))), "names no file: {what}");
        let mut consumer = self.consumer.clone();
        consumer.look(&self.folder);
        assert_eq!(consumer.seen(), self.consumer.seen(), "{what}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Removed,
    /// How much is left, of 1000.
    CutTo(usize),
    /// Where a bit is another, of 1000.
    Flipped(usize),
}

fn at(share: usize, length: usize) -> usize {
    (length * share / 1000).min(length.saturating_sub(1))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Where the newest checkpoint's output may have been seen by somebody: nobody may go back behind it.
const SEEN: &str = "commit.rename=kill@3";

const PLACES: [usize; 6] = [0, 77, 305, 512, 868, 1000];

#[test]
fn one_copy_of_a_manifest_is_enough() {
    let interrupted = Interrupted::new(WINDOWS, SEEN);
    for files in ["checkpoints", "checkpoints-copy"].map(|copy| interrupted.files(copy)) {
        let damages =
            [Damage::Removed, Damage::CutTo(0), Damage::CutTo(990), Damage::Flipped(3), Damage::Flipped(600)];
        for damage in damages {
            let ended = interrupted.check_passed_over(&files, damage);
            let told = ended.stderr.contains("it was made anew from the other copy");
            assert!(told, "nobody is told of {damage:?} {files:?}:\n{}", ended.stderr);
        }
    }
}

#[test]
fn a_manifest_that_is_damaged_twice_is_not_believed() {
    let interrupted = Interrupted::new(PROCESSES, SEEN);
    let both = [interrupted.files("checkpoints"), interrupted.files("checkpoints-copy")].concat();
    for place in PLACES {
        interrupted.check_refused(&both, Damage::Flipped(place));
        if place < 1000 {
            interrupted.check_refused(&both, Damage::CutTo(place));
        }
    }
}

#[test]
fn manifests_that_are_gone_are_missed() {
    let interrupted = Interrupted::new(PROCESSES, SEEN);
    let both = [interrupted.files("checkpoints"), interrupted.files("checkpoints-copy")].concat();
    interrupted.damage(&both, Damage::Removed);
    let ended = interrupted.run().with(2);
    assert!(ended.stderr.contains("checkpoint "), "{}", ended.stderr);
    let mut consumer = interrupted.consumer.clone();
    consumer.look(&interrupted.folder);
    assert_eq!(consumer.seen(), interrupted.consumer.seen());
}

#[test]
fn state_that_is_damaged_is_not_believed() {
    for (pipeline, backend) in [(PROCESSES, "rocksdb"), (WINDOWS, "memory")] {
        let state = format!("[state]\nbackend = \"{backend}\"\n[sources.events]");
        let interrupted = Interrupted::new(&pipeline.replace("[sources.events]", &state), SEEN);
        for (n, file) in interrupted.files("files").into_iter().enumerate() {
            // Of two checkpoints that are kept, the older one's files aren't needed any more.
            if !needed(&interrupted, &file) {
                continue;
            }
            let file = [file];
            interrupted.check_refused(&file, Damage::Removed);
            interrupted.check_refused(&file, Damage::CutTo(PLACES[n % 5]));
            interrupted.check_refused(&file, Damage::Flipped(PLACES[n % 6]));
        }
    }
}

/// Whether the newest manifest names the file.
fn needed(interrupted: &Interrupted, file: &str) -> bool {
    let newest = interrupted.files("checkpoints").pop().unwrap();
    interrupted.folder.read(&newest).contains(file.rsplit_once('/').unwrap().1)
}

#[test]
fn a_damaged_checkpoint_that_nobody_has_seen_is_passed_over() {
    let pipeline = WINDOWS.replace("retain = 1", "retain = 2");
    let interrupted = Interrupted::new(&pipeline, "persist.done=kill@3");
    let newest = |folder: &str| interrupted.files(folder).pop().unwrap();
    let both = [newest("checkpoints"), newest("checkpoints-copy")];
    assert!(both[0].contains("/0000000003-"), "{both:?}");
    for damage in [Damage::Flipped(500), Damage::CutTo(700)] {
        let ended = interrupted.check_passed_over(&both, damage);
        assert!(ended.stderr.contains("going on from checkpoint 2"), "{}", ended.stderr);
        assert!(ended.stderr.contains("checkpoint 3 of run 1 is damaged, and set aside"), "{}", ended.stderr);
    }
}

/// Staged output that a checkpoint promises and that isn't as it was is no output.
#[test]
fn promised_output_that_is_damaged_is_not_committed() {
    let interrupted = Interrupted::new(PROCESSES, "commit.rename=kill");
    let staged = interrupted.folder.files("out");
    let manifest = interrupted.folder.read(&interrupted.files("checkpoints").pop().unwrap());
    let promised: Vec<_> = staged.iter().filter(|name| manifest.contains(*name)).collect();
    assert!(!promised.is_empty(), "{staged:?}");
    for name in promised {
        interrupted.damage(&[format!("out/{name}")], Damage::CutTo(500));
        let ended = interrupted.run().with(2);
        assert!(ended.stderr.contains("cannot commit "), "{}", ended.stderr);
        assert!(ended.stderr.contains(name.as_str()), "{}", ended.stderr);
    }
}
