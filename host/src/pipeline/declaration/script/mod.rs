//! The script of a test: a pipeline or an operator, what it is told step by step, and what is expected of it.
//!
//! A script is read like a pipeline file and with its means, so that an error in it has its place. What it says of fields
//! is compared later, by whoever has the plan: see [`Script::problems`].

mod rows;
mod step;
mod subject;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::PathBuf;

pub use rows::{Cell, Row};
pub use step::{Compared, Expect, Expected, Restore, Step};

use super::file::{File, Span, Spanned};
use super::keys;
use super::operator::Operator;
use super::source::{Decoding, read_event_time_and_fields};
use super::table::{self, Table};
use super::value::Value;
use super::{Errors, FILE_BYTES_MAX, FormatDecl, PARALLELISM_MAX, Problems};

/// The input of an operator whose script doesn't name it.
const INPUT_DEFAULT: &str = "rows";

/// The sink that gets an operator's rows.
const OUTPUT: &str = "out";

/// A script as it was typed.
#[derive(Clone, Debug)]
pub struct Script {
    /// The file that says all this.
    pub file: File,
    /// What is tested.
    pub subject: Subject,
    /// What it says of inputs.
    pub inputs: Vec<Input>,
    /// Tasks per stage, if other than the pipeline's.
    pub parallelism: Option<NonZeroUsize>,
    /// Whether rows tell how far event time has come, as the sources say; if not, only the script does.
    pub makes_watermarks: bool,
    /// Where processing time begins, in milliseconds since the Unix epoch.
    pub clock_ms: i64,
    /// What is done in turn, one step at least.
    pub steps: Vec<Step>,
}

/// What a script tests.
#[derive(Clone, Debug)]
pub enum Subject {
    /// The pipeline in this file, relative to the script.
    Pipeline(Spanned<PathBuf>),
    /// An operator by itself.
    Operator(Box<Operator>),
}

/// What a script says of a source of its pipeline, or of an input of its operator.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub id: Spanned<String>,
    /// How many partitions it has.
    pub partitions_count: NonZeroUsize,
    /// What its fields are and which is its event time; the pipeline's sources have their own.
    pub decoding: Option<Decoding>,
}

/// Reads a script. `file_name` only stands in messages.
///
/// # Errors
/// All that is wrong with the file, in its order.
pub fn parse(file_name: &str, text: &str) -> Result<Script, Errors> {
    let problems = Problems::new(File::new(file_name, text));
    if text.len() > FILE_BYTES_MAX {
        let megabytes = text.len() >> 20;
        problems.report(Span::default(), format!("the file has {megabytes} MiB; a script fits into one"));
        return problems.settle(None);
    }
    let script = table::tree(text, &problems)
        .and_then(|tree| read(&Table::root(&keys::SCRIPT, tree.get_ref(), &problems)));
    problems.settle(script)
}

/// Whether a file of TOML is a script: it has steps.
pub fn is_script(text: &str) -> bool {
    text.lines().any(|line| line.trim_end().split('#').next().unwrap_or_default().trim() == "[[step]]")
}

impl Script {
    /// An empty list to which later checks add what they find wrong with this file.
    pub fn problems(&self) -> Problems {
        Problems::new(self.file.clone())
    }
}

fn read(root: &Table<'_>) -> Option<Script> {
    root.check_keys(None);
    let parallelism = root.optional("parallelism", |v| v.count(PARALLELISM_MAX));
    let watermarks = [("script", false), ("source", true)];
    let makes_watermarks = root.or("watermarks", false, |v| v.choice(&watermarks).map(|(_, makes)| makes));
    let clock_ms = root.or("clock", 0, step::instant_ms);
    let compared = step::read_compared(root, &Compared::default());
    let inputs = root.get("inputs").map_or(Some(Vec::new()), read_inputs);
    let subject = read_subject(root, inputs.as_deref().unwrap_or_default());
    let steps = match root.get("step") {
        Some(steps) => step::read_all(&steps, &compared.clone().unwrap_or_default()),
        None => root.report("the script has no steps; add a section [[step]]"),
    };
    let (subject, mut inputs) = (subject?, inputs?);
    if let (_, Some(named)) = &subject {
        complete(&mut inputs, named, steps.as_deref().unwrap_or_default());
    }
    compared?;
    Some(Script {
        file: root.problems().file().clone(),
        subject: subject.0,
        inputs,
        parallelism: parallelism?,
        makes_watermarks: makes_watermarks?,
        clock_ms: clock_ms?,
        steps: steps?,
    })
}

/// What is tested; of an operator also the names of its inputs.
fn read_subject(root: &Table<'_>, inputs: &[Input]) -> Option<(Subject, Option<Vec<Spanned<String>>>)> {
    let pipeline = root.optional("pipeline", |v| v.path());
    match (root.get("pipeline"), root.get("operator")) {
        (Some(_), Some(operator)) => {
            operator.problems().report(
                operator.span(),
                "an [operator] stands beside `pipeline`; a script tests one of them",
            );
            None
        }
        (None, None) => root.report(
            "the script doesn't say what it tests; write `pipeline = \"pipeline.toml\"`, or a section [operator] with its \
             `component`",
        ),
        (Some(_), None) => {
            for decoding in inputs.iter().filter_map(|input| Some((input, input.decoding.as_ref()?))) {
                let message = "the pipeline says what the source's fields are; only `partitions` can be said here";
                root.problems().report(&decoding.0.id, message);
            }
            Some((Subject::Pipeline(pipeline??), None))
        }
        (None, Some(section)) => {
            let (operator, named) = subject::read_operator(&section, inputs)?;
            Some((Subject::Operator(Box::new(operator)), Some(named)))
        }
    }
}

fn read_inputs(value: Value<'_>) -> Option<Vec<Input>> {
    let table = value.table_of_names()?;
    // Each is read before any is judged: all their errors count.
    let inputs: Vec<_> = table.values().iter().map(read_input).collect();
    inputs.into_iter().collect()
}

fn read_input(section: &Value<'_>) -> Option<Input> {
    let table = section.table(&keys::SCRIPT_INPUT)?;
    table.check_keys(None);
    let partitions_count = table.or("partitions", NonZeroUsize::MIN, |v| v.count(PARALLELISM_MAX));
    let says_fields = table.get("fields").is_some() || table.get("event_time").is_some();
    let (event_time, fields) = read_event_time_and_fields(&table, false);
    let (event_time, fields) = (event_time?, fields?);
    let decoding = Decoding { format: FormatDecl::JsonLines, event_time, fields, metadata: Vec::new() };
    Some(Input {
        id: section.key(),
        partitions_count: partitions_count?,
        decoding: says_fields.then_some(decoding),
    })
}

/// The inputs of an operator in its order, those too of which nothing is said; rows that have an `at` have it for their
/// event time.
fn complete(inputs: &mut Vec<Input>, named: &[Spanned<String>], steps: &[Step]) {
    let of_step = |step: &Step| step.input.as_ref().map_or(named[0].value.clone(), |i| i.value.clone());
    let complete = |id: &Spanned<String>| {
        let said = inputs.iter().find(|i| i.id == *id);
        let mut input = said.cloned().unwrap_or_else(|| Input {
            id: id.clone(),
            partitions_count: NonZeroUsize::MIN,
            decoding: None,
        });
        let rows = steps.iter().filter(|step| of_step(step) == id.value).flat_map(|step| &step.rows);
        let has_at = rows.clone().any(|row| row.cells.iter().any(|(name, _)| name == subject::AT));
        let decoding = input.decoding.get_or_insert_with(subject::open);
        if has_at && decoding.event_time.is_none() {
            subject::tell_time(decoding, id.span);
        }
        input
    };
    *inputs = named.iter().map(complete).collect();
}
