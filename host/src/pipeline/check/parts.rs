//! The parts of a plan: sources and operators with the columns that somebody reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tidemill_flow::schema::{Field, Schema};

use super::edges::Edges;
use super::sinks::writes;
use super::{Checker, WINDOW_START};
use crate::formats::{CsvOptions, Demand, Format, TimestampUnit};
use crate::log::nexmark;
use crate::pipeline::declaration::{
    Decoding, FormatDecl, Pace, SourceKind, Spanned, TimestampDecl, Ttl, Upstream,
};
use crate::pipeline::fields::{Demands, Offered};
use crate::pipeline::plan::{
    EventTimePlan, OperatorKind, OperatorPlan, Origin, Read, SourceInput, SourcePlan, TtlPlan,
};
use crate::pipeline::stages::{expand, is_pipe, late_by_field};
use crate::plugin::{Limits, Output, Plugin, TIME_FIELD, World};

impl Checker<'_> {
    /// Which fields are read, at each source and operator: backwards from the sinks.
    pub(super) fn wanted(&self, edges: &Edges, sinks: &[Schema]) -> Wanted {
        let count = self.components.len();
        let none = |n: usize| (0..n).map(|_| BTreeSet::new()).collect::<Vec<_>>();
        let mut wanted = Wanted {
            sources: none(edges.sources.len()),
            operators: none(count),
            late: none(count),
            inputs: none(count),
        };
        for (sink, schema) in self.declaration.sinks.iter().zip(sinks) {
            wanted.at(sink.input.value).extend(schema.fields().iter().map(|f| f.name.clone()));
        }
        for &at in self.declaration.order.iter().rev() {
            let (operator, component) = (&self.declaration.operators[at], &self.components[at]);
            let mut names: BTreeSet<String> = component.reads().map(|f| f.name.clone()).collect();
            names.extend(operator.key.iter().map(|k| k.value.clone()));
            if !matches!(component.description.output, Output::Replaced(_)) {
                let returned = component.description.output.returned();
                names.extend(wanted.operators[at].iter().filter(|n| returned.field(n).is_none()).cloned());
            }
            let late = late_by_field().name;
            names.extend(wanted.late[at].iter().filter(|n| **n != late).cloned());
            for input in &operator.inputs {
                wanted.at(input.value).extend(names.iter().cloned());
            }
            wanted.inputs[at] = names;
        }
        wanted
    }

    /// The columns that an operator is given, and what becomes of them.
    pub(super) fn columns(
        &self,
        at: usize,
        input: &Offered,
        output: &Offered,
        demands: &Demands,
        wanted: &Wanted,
    ) -> Columns {
        let (operator, component) = (&self.declaration.operators[at], &self.components[at]);
        let schema = restrict(input, demands, &wanted.inputs[at]);
        let column = |name: &str| schema.index_of(name).expect("wanted of the input");
        let read = |f: &Field| if f.name == TIME_FIELD { Read::Time } else { Read::Column(column(&f.name)) };
        let reads = component.description.inputs[0].fields().iter().map(read).collect();
        let returned = component.description.output.returned();
        let key = || operator.key.iter().map(|k| column(&k.value)).collect();
        let kind = match component.world {
            World::Aggregate => OperatorKind::Aggregate { key: key(), windows: operator.windows() },
            World::Process => {
                OperatorKind::Process { key: key(), ttl: operator.ttl.iter().map(ttl).collect() }
            }
            World::Transform | World::Window | World::Join => OperatorKind::Transform,
        };
        let origin = |name: &str| match (&kind, returned.index_of(name)) {
            (_, Some(at)) => Origin::Returned(at),
            (OperatorKind::Transform, None) => Origin::Input(column(name)),
            (OperatorKind::Aggregate { .. } | OperatorKind::Process { .. }, None) => {
                match (operator.key.iter().position(|k| k.value == name), name) {
                    (Some(at), _) => Origin::Key(at),
                    (None, WINDOW_START) => Origin::WindowStart,
                    (None, _) => Origin::WindowEnd,
                }
            }
        };
        let emitted = restrict(output, demands, &wanted.operators[at]);
        let emits = emitted.fields().iter().map(|f| (f.clone(), origin(&f.name))).collect();
        Columns { reads, kind: kind.clone(), emits, input: schema }
    }

    /// The plan of an operator that is given these columns; of those in `nulls` a value may be missing.
    pub(super) fn operator(
        &self,
        at: usize,
        plugin: &Plugin,
        columns: Columns,
        nulls: &BTreeSet<String>,
    ) -> OperatorPlan {
        let operator = &self.declaration.operators[at];
        let Columns { input, reads, kind, emits } = columns;
        OperatorPlan {
            id: operator.id.value.clone(),
            plugin: plugin.clone(),
            settings: operator.settings.iter().map(|(k, v)| (k.value.clone(), v.value.clone())).collect(),
            limits: Limits {
                memory_bytes: usize::try_from(operator.memory_bytes).unwrap_or(usize::MAX),
                call_ms: operator.call_timeout_ms.unsigned_abs(),
            },
            reject_nulls: nulls.iter().map(|n| input.index_of(n).expect("it is read")).collect(),
            reads,
            kind,
            emits,
            input,
        }
    }

    pub(super) fn sources(
        &self,
        base: &Path,
        edges: &Edges,
        demands: &Demands,
        wanted: &[BTreeSet<String>],
    ) -> Option<Vec<SourcePlan>> {
        let mut plans = Vec::new();
        for (at, source) in self.declaration.sources.iter().enumerate() {
            let mut names = wanted[at].clone();
            let time = source.kind.decoding().and_then(|d| d.event_time.as_ref());
            if let Some(time) = time {
                let known = edges.sources[at].find(&time.field.value, demands);
                if let Err(reason) = known {
                    let message = self.unreadable(&time.field.value, "event_time", reason);
                    self.problems.report(&time.field, message);
                    return None;
                }
                names.insert(time.field.value.clone());
            }
            let schema = restrict(&edges.sources[at], demands, &names);
            let demanded = |d: &Decoding| schema.fields().iter().map(|f| demand(f, d)).collect::<Vec<_>>();
            let input = match &source.kind {
                SourceKind::Files { paths, decoding } => SourceInput::Files {
                    paths: self.files(base, paths)?,
                    format: format(&decoding.format),
                    demands: demanded(decoding),
                },
                SourceKind::Stdin { decoding } => {
                    SourceInput::Stdin { format: format(&decoding.format), demands: demanded(decoding) }
                }
                SourceKind::Log { path, decoding, from, until_end } => SourceInput::Log {
                    partitions: self.log_partitions(path, &base.join(&path.value))?,
                    path: base.join(&path.value),
                    format: format(&decoding.format),
                    demands: demanded(decoding),
                    from: *from,
                    until_end: *until_end,
                },
                SourceKind::Nexmark(n) => SourceInput::Nexmark {
                    options: nexmark::Options {
                        seed: n.seed,
                        events: n.events_count,
                        events_per_second: n.events_per_second,
                        out_of_orderness_ms: n.out_of_orderness_ms.unsigned_abs(),
                        partitions: u32::try_from(n.partitions_count.get()).expect("at most 720"),
                    },
                    paced: n.pace == Pace::EventTime,
                },
            };
            let event_time = time.map(|t| EventTimePlan {
                column: schema.index_of(&t.field.value).expect("inserted above"),
                out_of_orderness_ms: t.out_of_orderness_ms,
            });
            plans.push(SourcePlan { id: source.id.value.clone(), input, schema, event_time });
        }
        Some(plans)
    }

    /// The files that patterns mean, without those that the pipeline itself writes its rejected and late rows to.
    pub(super) fn files(&self, base: &Path, patterns: &[Spanned<String>]) -> Option<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for pattern in patterns {
            match expand(base, &pattern.value) {
                Ok(more) => paths.extend(more),
                Err(message) => {
                    self.problems.report(pattern, message);
                    return None;
                }
            }
        }
        paths.sort();
        paths.dedup();
        let own = [&self.declaration.dead_letters, &self.declaration.late].map(|path| base.join(&path.value));
        paths.retain(|path| !own.iter().any(|own| writes(own, path)));
        let pipe = paths.iter().find(|path| is_pipe(path));
        if let (Some(pipe), Some(_)) = (pipe, &self.declaration.checkpoints) {
            let message = format!(
                "{} is a pipe: what came through it can't be read again from a checkpoint on; read files or a log, or \
                 remove [checkpoints]",
                pipe.display()
            );
            self.problems.report(patterns.first()?, message);
            return None;
        }
        let problem = match paths.len() {
            0 => "matches only files that the pipeline itself writes".to_owned(),
            1..PARTITIONS_MAX => return Some(paths),
            count => format!("{count} files, but a source may have {PARTITIONS_MAX}; join some of them"),
        };
        self.problems.report(patterns.first()?, problem);
        None
    }
}

/// Files of one source. The positions of rows have room for a million partitions in all.
const PARTITIONS_MAX: usize = 100_000;

/// The columns that an operator is given, and what becomes of them.
pub(super) struct Columns {
    pub(super) input: Schema,
    pub(super) reads: Vec<Read>,
    pub(super) kind: OperatorKind,
    pub(super) emits: Vec<(Field, Origin)>,
}

/// The names of the fields that somebody reads.
pub(super) struct Wanted {
    pub(super) sources: Vec<BTreeSet<String>>,
    operators: Vec<BTreeSet<String>>,
    late: Vec<BTreeSet<String>>,
    inputs: Vec<BTreeSet<String>>,
}

impl Wanted {
    fn at(&mut self, upstream: Upstream) -> &mut BTreeSet<String> {
        match upstream {
            Upstream::Source(s) => &mut self.sources[s],
            Upstream::Operator(o) => &mut self.operators[o],
            Upstream::Late(o) => &mut self.late[o],
        }
    }
}

fn ttl(declared: &Ttl) -> TtlPlan {
    TtlPlan { slot: declared.slot.value.clone(), after_ms: declared.after_ms, clock: declared.clock }
}

fn restrict(offered: &Offered, demands: &Demands, names: &BTreeSet<String>) -> Schema {
    let fields = offered.all(demands).fields().iter().filter(|f| names.contains(&f.name)).cloned().collect();
    Schema::new(fields).expect("names of a schema are unique")
}

/// The fields that a source's section declares.
pub(super) fn declared(decoding: &Decoding) -> Schema {
    let fields = decoding.fields.iter().map(|f| Field {
        name: f.name.value.clone(),
        field_type: f.field_type,
        // A row without event time is rejected at the source.
        nullable: f.nullable && decoding.event_time.as_ref().is_none_or(|t| t.field.value != f.name.value),
    });
    Schema::new(fields.collect()).expect("the file's keys are unique")
}

fn demand(field: &Field, decoding: &Decoding) -> Demand {
    let is_time = decoding.event_time.as_ref().is_some_and(|t| t.field.value == field.name);
    let field = Field { nullable: field.nullable && !is_time, ..field.clone() };
    match decoding.fields.iter().find(|f| f.name.value == field.name) {
        Some(declared) => Demand {
            field,
            path: declared.path.clone(),
            unit: declared.unit.map_or(TimestampUnit::Auto, unit),
        },
        None => Demand::named(field),
    }
}

pub(super) fn format(declared: &FormatDecl) -> Format {
    match declared {
        FormatDecl::JsonLines => Format::JsonLines,
        FormatDecl::Csv(csv) => {
            Format::Csv(CsvOptions { delimiter: csv.delimiter, header: csv.header, null: csv.null.clone() })
        }
        FormatDecl::Text => Format::Text,
    }
}

pub(super) fn unit(declared: TimestampDecl) -> TimestampUnit {
    match declared {
        TimestampDecl::Rfc3339 => TimestampUnit::Rfc3339,
        TimestampDecl::Seconds => TimestampUnit::Seconds,
        TimestampDecl::Milliseconds => TimestampUnit::Milliseconds,
        TimestampDecl::Microseconds => TimestampUnit::Microseconds,
        TimestampDecl::Nanoseconds => TimestampUnit::Nanoseconds,
    }
}
