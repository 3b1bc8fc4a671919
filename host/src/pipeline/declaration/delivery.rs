//! `delivery`, and what it makes of a file's path: with exactly-once delivery each checkpoint's rows are a file of
//! their own, whose name has the checkpoint's number in place of `*`.

use std::path::{Path, PathBuf};

use super::file::Spanned;
use super::table::Table;
use super::value::Value;
use crate::pipeline::numbered::WILDCARD;

/// How often a row arrives at a sink when the pipeline fails and begins again at its last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Once: rows are shown when the checkpoint that they belong to is complete.
    ExactlyOnce,
    /// Once, and without waiting: rows are shown at once, and those that are already there are recognized.
    Idempotent,
    /// Once or several times: rows are shown at once.
    AtLeastOnce,
}

const DELIVERIES: [(&str, Delivery); 3] = [
    ("exactly-once", Delivery::ExactlyOnce),
    ("idempotent", Delivery::Idempotent),
    ("at-least-once", Delivery::AtLeastOnce),
];

/// What to do about a `*` where nothing has a checkpoint's number.
pub(super) const WITHOUT_CHECKPOINTS: &str = "; remove the `*`, or add a section [checkpoints]";

/// The delivery of a sink. `possible` says what is wrong with one, for this kind of sink.
pub(super) fn read(
    table: &Table<'_>,
    default: Delivery,
    has_checkpoints: bool,
    possible: impl FnOnce(Delivery) -> Result<(), &'static str>,
) -> Option<Delivery> {
    table.or("delivery", default, |v| {
        let (name, delivery) = v.choice(&DELIVERIES)?;
        if let Err(why) = possible(delivery) {
            return v.refuse(why);
        }
        if delivery != Delivery::AtLeastOnce && !has_checkpoints {
            return v.refuse(format!(
                "\"{name}\" is a promise about the way back to a checkpoint, and there are none; add a section \
                 [checkpoints]"
            ));
        }
        Some(delivery)
    })
}

/// The path of a file that comes once for each checkpoint, or if not `numbered` of a single one. Messages about the
/// `*` end in `cure`.
pub(super) fn read_path(value: Value<'_>, numbered: bool, cure: &str) -> Option<Spanned<PathBuf>> {
    let path = value.path()?;
    let text = path.display();
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return value.refuse(format!("\"{text}\" names no file"));
    };
    let stars = |text: &str| text.matches(WILDCARD).count();
    match (numbered, stars(name), stars(&text.to_string())) {
        (true, 1, 1) | (false, _, 0) => Some(path),
        (true, _, 0) => value.refuse(format!(
            "\"{text}\" is one file, but each checkpoint makes its own; write \"{}\", where `*` becomes the checkpoint's \
             number{cure}",
            with_star(&path).display()
        )),
        (true, ..) => value.refuse(format!(
            "\"{text}\" should have one `*`, for the checkpoint's number, and that in the file's name, as \
             \"hourly-*.csv\" has"
        )),
        (false, ..) => value.refuse(format!(
            "the `*` of \"{text}\" would become a checkpoint's number, but rows that are shown at once go to a single \
             file{cure}"
        )),
    }
}

/// The path with a `*` where one would look for it: `out/hourly-*.csv`.
fn with_star(path: &Path) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let stem = part(path.file_stem());
    match path.extension() {
        Some(extension) => path.with_file_name(format!("{stem}-*.{}", part(Some(extension)))),
        None => path.with_file_name(format!("{stem}-*")),
    }
}
