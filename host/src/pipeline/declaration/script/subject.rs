//! What a script tests, as a pipeline: its sources are told what to read, its sinks are memory.

use std::num::NonZeroUsize;

use tidemill_flow::schema::{Field, FieldType};

use super::super::operator::{self, Operator};
use super::super::source::{Decoding, EventTime, FieldDecl, Source, SourceKind};
use super::super::stream::MetadataDecl;
use super::super::value::Value;
use super::super::{
    Declaration, Delivery, Errors, FormatDecl, Restart, Sink, SinkKind, Span, Spanned, State, StateBackend,
    TimestampDecl, Upstream, hint, ids, keys,
};
use super::{INPUT_DEFAULT, Input, OUTPUT, Script, Subject};
use crate::log::nexmark;

/// The field of a row in which a script writes its event time.
pub(super) const AT: &str = "at";

/// The fields of a source whose file says nothing of them.
pub(super) fn open() -> Decoding {
    Decoding { format: FormatDecl::JsonLines, event_time: None, fields: Vec::new(), metadata: Vec::new() }
}

/// Event time as rows of scripts have it.
pub(super) fn tell_time(decoding: &mut Decoding, span: Span) {
    let name = Spanned::new(AT.to_owned(), span);
    if !decoding.fields.is_empty() && decoding.fields.iter().all(|field| field.name != name) {
        let path = vec![AT.to_owned()];
        let field_type = FieldType::Timestamp;
        decoding.fields.push(FieldDecl { name: name.clone(), field_type, path, unit: None, nullable: false });
    }
    decoding.event_time = Some(EventTime::Field { field: name, out_of_orderness_ms: 0 });
}

/// The section `[operator]`, and the names of its inputs.
pub(super) fn read_operator(
    section: &Value<'_>,
    inputs: &[Input],
) -> Option<(Operator, Vec<Spanned<String>>)> {
    let table = section.table(&keys::OPERATOR)?;
    table.check_keys(None);
    let named = match (table.get("input"), table.get("inputs")) {
        (Some(value), Some(_)) => value.refuse("stands beside `inputs`; write one of them"),
        (Some(input), None) => input.id().map(|input| vec![input]),
        (None, Some(inputs)) => inputs.distinct(inputs.array(|v| v.id())?),
        (None, None) => Some(match inputs {
            [] => vec![Spanned::new(INPUT_DEFAULT.to_owned(), table.span())],
            inputs => inputs.iter().map(|input| input.id.clone()).collect(),
        }),
    }?;
    for input in inputs.iter().filter(|input| !named.contains(&input.id)) {
        let hint = hint(&input.id, named.iter().map(|n| n.value.as_str()), '`');
        let message = format!("the operator reads no input `{}`; {hint}", input.id.value);
        section.problems().report(&input.id, message);
    }
    let taken = [section.key.to_owned(), OUTPUT.to_owned()];
    for name in named.iter().filter(|name| taken.contains(&name.value)) {
        let message = format!("an input can't be called `{}`, as the script's own parts are", name.value);
        section.problems().report(name, message);
    }
    let upstream = |(at, name): (usize, &Spanned<String>)| {
        ids::check(section.problems(), name).then(|| Spanned::new(Upstream::Source(at), name.span))
    };
    let upstreams: Option<Vec<_>> = named.iter().enumerate().map(upstream).collect();
    Some((operator::read_with(section, &table, upstreams)?, named))
}

impl Script {
    /// The pipeline that goes through the script; `pipeline` is what its file declares, if it names one.
    ///
    /// # Errors
    /// When the script names an input that the pipeline doesn't have.
    ///
    /// # Panics
    /// When a pipeline is given and the script has an operator, or the other way round.
    pub fn declaration(&self, pipeline: Option<Declaration>) -> Result<Declaration, Errors> {
        let problems = self.problems();
        let declaration = match (&self.subject, pipeline) {
            (Subject::Operator(operator), None) => self.of_operator(operator),
            (Subject::Pipeline(_), Some(pipeline)) => {
                for input in &self.inputs {
                    let known = pipeline.sources.iter().map(|s| s.id.value.as_str());
                    if !known.clone().any(|id| id == input.id.value) {
                        let hint = hint(&input.id, known, '`');
                        let message = format!("the pipeline has no source `{}`; {hint}", input.id.value);
                        problems.report(&input.id, message);
                    }
                }
                self.of_pipeline(pipeline)
            }
            (subject, _) => panic!("another subject than the script's: {subject:?}"),
        };
        problems.settle(Some(declaration))
    }

    fn of_operator(&self, operator: &Operator) -> Declaration {
        let name = |name: &str| Spanned::new(name.to_owned(), operator.id.span);
        let source = |input: &Input| Source {
            id: input.id.clone(),
            kind: self.told(input.decoding.clone().unwrap_or_else(open), input.partitions_count),
            // Who is idle the script says, and rows come in its order.
            idle_after_ms: None,
            align: None,
        };
        let out = Sink {
            id: name(OUTPUT),
            input: Spanned::new(Upstream::Operator(0), operator.id.span),
            kind: SinkKind::Memory,
            delivery: Delivery::AtLeastOnce,
            format: FormatDecl::JsonLines,
            fields: None,
            timestamps: TimestampDecl::Milliseconds,
        };
        Declaration {
            file: self.file.clone(),
            name: name("script"),
            parallelism: self.parallelism,
            dead_letters: name("dead-letters").map(Into::into),
            late: name("late").map(Into::into),
            checkpoints: None,
            state: in_memory(),
            restart: Restart::None,
            connections: Vec::new(),
            sources: self.inputs.iter().map(source).collect(),
            operators: vec![operator.clone()],
            sinks: vec![out],
            order: vec![0],
        }
    }

    /// Nothing of the world stays in it: nothing is read, and nothing is written.
    fn of_pipeline(&self, mut pipeline: Declaration) -> Declaration {
        for source in &mut pipeline.sources {
            let said = self.inputs.iter().find(|input| input.id == source.id);
            let partitions = said.map_or(NonZeroUsize::MIN, |input| input.partitions_count);
            let mut decoding = match &source.kind {
                SourceKind::Nexmark(n) => of_nexmark(source.id.span, n.out_of_orderness_ms),
                kind => kind.decoding().cloned().unwrap_or_else(open),
            };
            say_metadata(&mut decoding);
            (source.idle_after_ms, source.align) = (None, None);
            source.kind = self.told(Decoding { format: FormatDecl::JsonLines, ..decoding }, partitions);
        }
        for sink in &mut pipeline.sinks {
            sink.kind = SinkKind::Memory;
            sink.delivery = Delivery::AtLeastOnce;
            sink.format = FormatDecl::JsonLines;
            sink.timestamps = TimestampDecl::Milliseconds;
        }
        pipeline.parallelism = self.parallelism.or(pipeline.parallelism);
        pipeline.checkpoints = None;
        pipeline.state = in_memory();
        pipeline.restart = Restart::None;
        pipeline
    }

    fn told(&self, decoding: Decoding, partitions_count: NonZeroUsize) -> SourceKind {
        SourceKind::Told { decoding, partitions_count, makes_watermarks: self.makes_watermarks }
    }
}

/// Rows of a script say themselves what is known of a message elsewhere.
fn say_metadata(decoding: &mut Decoding) {
    let known = std::mem::take(&mut decoding.metadata);
    if decoding.fields.is_empty() {
        return;
    }
    decoding.fields.extend(known.into_iter().map(|MetadataDecl { field, metadata }| FieldDecl {
        path: vec![field.value.clone()],
        name: field,
        field_type: metadata.field_type(),
        unit: None,
        nullable: true,
    }));
}

fn in_memory() -> State {
    State { backend: StateBackend::Memory, memory_bytes: u64::MAX, path: None }
}

/// The records are those that the generator makes.
fn of_nexmark(span: Span, out_of_orderness_ms: i64) -> Decoding {
    let field = |field: &Field| FieldDecl {
        name: Spanned::new(field.name.clone(), span),
        field_type: field.field_type,
        path: vec![field.name.clone()],
        unit: None,
        nullable: field.nullable,
    };
    let schema = nexmark::schema();
    let time = schema.fields().iter().find(|f| f.field_type == FieldType::Timestamp && !f.nullable);
    let event_time = |field: &Field| EventTime::Field {
        field: Spanned::new(field.name.clone(), span),
        out_of_orderness_ms,
    };
    Decoding {
        format: FormatDecl::JsonLines,
        event_time: time.map(event_time),
        fields: schema.fields().iter().map(field).collect(),
        metadata: Vec::new(),
    }
}
