//! The sinks of a plan: where their rows go, and that nothing reads what they write.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidemill_flow::key::can_be_key;
use tidemill_flow::schema::{FieldType, Schema};
use tidemill_jetstream::{HeaderTemplate, StreamWanted, Template};

use super::Checker;
use super::edges::no_key;
use super::log::existing_partitions;
use super::parts::{format, unit};
use crate::formats::Encoder;
use crate::nats::Servers;
use crate::pipeline::declaration::{self, CreateDecl, Delivery, Sink, SinkKind, Spanned, Upstream};
use crate::pipeline::numbered::checkpoint_of;
use crate::pipeline::plan::{SinkOutput, SinkPlan, SourceInput, SourcePlan, StreamOutput};
use crate::plugin::World;

impl Checker<'_> {
    /// The plans of the sinks, which write these fields.
    pub(super) fn sinks(
        &self,
        schemas: Vec<Schema>,
        base: &Path,
        connections: &[Arc<Servers>],
    ) -> Option<Vec<SinkPlan>> {
        // Each is planned before any is judged: all their errors count.
        let plan = |(sink, schema)| self.sink(sink, schema, base, connections);
        let plans: Vec<_> = self.declaration.sinks.iter().zip(schemas).map(plan).collect();
        plans.into_iter().collect()
    }

    fn sink(
        &self,
        sink: &Sink,
        schema: Schema,
        base: &Path,
        connections: &[Arc<Servers>],
    ) -> Option<SinkPlan> {
        let output = match &sink.kind {
            SinkKind::Files { path } => SinkOutput::File(base.join(&path.value)),
            SinkKind::Stdout => SinkOutput::Stdout,
            SinkKind::Memory => SinkOutput::Memory,
            SinkKind::JetStream { connection, stream, subject, headers, create } => {
                let subject_of = Template::parse(&subject.value).expect("the file's reader has tried");
                let subject_columns = self.template_columns(subject, subject_of.fields(), &schema)?;
                let mut all = Vec::new();
                for (name, value) in headers {
                    let template = HeaderTemplate::parse(&name.value, &value.value)
                        .expect("the file's reader has tried");
                    let columns = self.template_columns(value, template.fields(), &schema)?;
                    all.push((template, columns));
                }
                SinkOutput::JetStream(Box::new(StreamOutput {
                    servers: connections[*connection].clone(),
                    stream: stream.value.clone(),
                    subject: (subject_of, subject_columns),
                    headers: all,
                    create: create.as_ref().map(|create| wanted(&stream.value, create)),
                }))
            }
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

    /// The columns whose values stand in a template.
    fn template_columns<'f>(
        &self,
        template: &Spanned<String>,
        fields: impl Iterator<Item = &'f str>,
        schema: &Schema,
    ) -> Option<Vec<usize>> {
        let mut columns = Vec::new();
        for name in fields {
            let Some(column) = schema.index_of(name) else {
                let known = schema.fields().iter().map(|f| f.name.as_str());
                let hint = declaration::hint(name, known, '`');
                let message =
                    format!("the field `{name}` of the template is not among those that are written; {hint}");
                self.problems.report(template, message);
                return None;
            };
            let field_type = schema.fields()[column].field_type;
            if !matches!(field_type, FieldType::Text | FieldType::Integer | FieldType::Boolean) {
                let message = format!(
                    "the field `{name}` of the template is {field_type}, expected text, integer or boolean, which are \
                     written in one way only"
                );
                self.problems.report(template, message);
                return None;
            }
            columns.push(column);
        }
        Some(columns)
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

fn wanted(stream: &str, create: &CreateDecl) -> StreamWanted {
    let duration = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    let usual = StreamWanted::new(stream, create.subjects.clone());
    StreamWanted {
        replicas: create.replicas,
        max_age: create.max_age_ms.map(duration),
        max_bytes: create.max_bytes.map(i64::unsigned_abs),
        duplicate_window: create.duplicate_window_ms.map_or(usual.duplicate_window, duration),
        ..usual
    }
}
