//! The sinks of a plan: where their rows go, and that nothing reads what they write.

use std::path::{Path, PathBuf};

use tidemill_flow::key::can_be_key;
use tidemill_flow::schema::Schema;

use super::Checker;
use super::edges::no_key;
use super::log::existing_partitions;
use super::parts::{format, unit};
use crate::formats::Encoder;
use crate::pipeline::declaration::{self, Delivery, Sink, SinkKind, Spanned, Upstream};
use crate::pipeline::numbered::checkpoint_of;
use crate::pipeline::plan::{SinkOutput, SinkPlan, SourceInput, SourcePlan};
use crate::plugin::World;

impl Checker<'_> {
    /// The plans of the sinks, which write these fields.
    pub(super) fn sinks(&self, schemas: Vec<Schema>, base: &Path) -> Option<Vec<SinkPlan>> {
        // Each is planned before any is judged: all their errors count.
        let plan = |(sink, schema)| self.sink(sink, schema, base);
        let plans: Vec<_> = self.declaration.sinks.iter().zip(schemas).map(plan).collect();
        plans.into_iter().collect()
    }

    fn sink(&self, sink: &Sink, schema: Schema, base: &Path) -> Option<SinkPlan> {
        let output = match &sink.kind {
            SinkKind::Files { path } => SinkOutput::File(base.join(&path.value)),
            SinkKind::Stdout => SinkOutput::Stdout,
            SinkKind::Memory => SinkOutput::Memory,
            SinkKind::Log { path, partitions_count, key } => {
                let partitions = u32::try_from(partitions_count.get()).expect("at most 720");
                let (folder, key) = (base.join(&path.value), self.sink_key(key, &schema));
                self.check_log(path, &folder, partitions);
                SinkOutput::Log { path: folder, partitions, key: key? }
            }
        };
        Some(SinkPlan {
            id: sink.id.value.clone(),
            output,
            delivery: sink.delivery,
            format: format(&sink.format),
            timestamps: unit(sink.timestamps),
            schema,
        })
    }

    /// Refuses what can't be done with the log that is there.
    fn check_log(&self, path: &Spanned<PathBuf>, folder: &Path, partitions: u32) {
        if let Some(found) = existing_partitions(folder).filter(|found| *found != partitions) {
            let message = format!(
                "the log {} has {found} partitions, which can't be changed, and the sink asks for {partitions}; write \
                 `partitions = {found}`, or give it another path",
                folder.display()
            );
            self.problems.report(path, message);
        }
    }

    /// The columns of a sink's key.
    fn sink_key(&self, key: &[Spanned<String>], schema: &Schema) -> Option<Vec<usize>> {
        let column = |name: &Spanned<String>| {
            let known = schema.fields().iter().map(|f| f.name.as_str());
            let (message, column) = match schema.index_of(&name.value) {
                Some(column) if can_be_key(schema.fields()[column].field_type) => return Some(column),
                Some(column) => (no_key(&name.value, schema.fields()[column].field_type), None),
                None => {
                    let hint = declaration::hint(&name.value, known, '`');
                    (
                        format!("the key field `{}` is not among those that are written; {hint}", name.value),
                        None,
                    )
                }
            };
            self.problems.report(name, message);
            column
        };
        let columns: Vec<_> = key.iter().map(column).collect();
        columns.into_iter().collect()
    }

    /// Whether each sink's format can hold its rows, and nothing that it writes is read.
    pub(super) fn check_outputs(&self, sinks: &[SinkPlan], sources: &[SourcePlan]) {
        for (declared, sink) in self.declaration.sinks.iter().zip(sinks) {
            if let Err(error) = Encoder::new(&sink.format, &sink.schema) {
                self.problems.report(&declared.id, error.to_string());
            }
            if sink.delivery == Delivery::Idempotent
                && let Some(before) = self.without_ids(declared.input.value)
            {
                let message = format!(
                    "what operator `{before}` makes has no ids by which it could be recognized when it comes again: neither \
                     pairs have them, nor results of windows that are sessions, take late rows or fire more than once; write \
                     `delivery = \"exactly-once\"`, or \"at-least-once\""
                );
                self.problems.report(&declared.input, message);
            }
            let (SinkOutput::File(path) | SinkOutput::Log { path, .. }) = &sink.output else { continue };
            for source in sources {
                let is_read = match (&source.input, &sink.output) {
                    (SourceInput::Files { paths, .. }, SinkOutput::File(_)) => {
                        paths.iter().any(|read| writes(path, read))
                    }
                    (SourceInput::Log { path: read, .. }, SinkOutput::Log { .. }) => is_same(path, read),
                    _ => false,
                };
                if is_read {
                    let message = format!("writes {}, which source `{}` reads", path.display(), source.id);
                    self.problems.report(&declared.id, message);
                }
            }
        }
    }

    /// The operator that rows come from whose results have no ids, with none in between that makes them anew.
    fn without_ids(&self, from: Upstream) -> Option<&str> {
        let Upstream::Operator(at) = from else { return None };
        let operator = &self.declaration.operators[at];
        match self.components[at].world {
            World::Aggregate if operator.plain_windows().is_some() => None,
            World::Aggregate | World::Window | World::Join => Some(&operator.id.value),
            World::Transform | World::Process => {
                operator.inputs.iter().find_map(|input| self.without_ids(input.value))
            }
        }
    }
}

/// Whether a writer to this path, or of this path with a checkpoint's number for the `*`, writes the file.
pub(super) fn writes(own: &Path, path: &Path) -> bool {
    let numbered = || {
        let is_made = path.file_name().is_some_and(|name| checkpoint_of(own, name).is_some());
        is_made && is_same(folder(own), folder(path))
    };
    is_same(own, path) || numbered()
}

fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(one, other)| one == other)
}

/// The folder that a file stands in; of a name alone the current one.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
