//! The parts of a plan: sources and operators with the columns that somebody reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_flow::join::{On, Spec};
use tidemill_flow::schema::{Field, Schema};
use tidemill_flow::window::Windows;

use super::edges::Edges;
use super::sinks::writes;
use super::{Checker, WINDOW_END, WINDOW_FIRING, WINDOW_START, WINDOW_TIMING};
use crate::formats::{CsvOptions, Demand, Format, TimestampUnit};
use crate::log::Feeds;
use crate::log::nexmark;
use crate::nats::Servers;
use crate::pipeline::declaration::{
    Decoding, EventTime, FormatDecl, JoinOn, Metadata, Operator, Pace, SourceKind, Spanned, TimestampDecl,
    Ttl, Upstream,
};
use crate::pipeline::fields::{Demands, Offered};
use crate::pipeline::plan::{
    AlignPlan, EventTimePlan, InputPlan, JoinPlan, OperatorKind, OperatorPlan, Origin, Read, SourceInput,
    SourcePlan, TtlPlan,
};
use crate::pipeline::stages::{either, expand, is_pipe, late_by_field};
use crate::plugin::{Description, Limits, Output, Plugin, TIME_FIELD, World};

impl Checker<'_> {
    /// Which fields are read, at each source and operator: backwards from the sinks.
    pub(super) fn wanted(
        &self,
        edges: &Edges,
        inputs: &[Offered],
        sinks: &[Schema],
        demands: &Demands,
    ) -> Wanted {
        let count = self.components.len();
        let none = |n: usize| (0..n).map(|_| BTreeSet::new()).collect::<Vec<_>>();
        let mut wanted = Wanted {
            sources: none(edges.sources.len()),
            operators: none(count),
            late: none(count),
            inputs: none(count),
            rights: none(count),
        };
        for (sink, schema) in self.declaration.sinks.iter().zip(sinks) {
            wanted.at(sink.input.value).extend(schema.fields().iter().map(|f| f.name.clone()));
        }
        for &at in self.declaration.order.iter().rev() {
            let (operator, component) = (&self.declaration.operators[at], &self.components[at]);
            let mut names: BTreeSet<String> = component.reads(0).map(|f| f.name.clone()).collect();
            names.extend(operator.key.iter().map(|k| k.value.clone()));
            if !matches!(component.description.output, Output::Replaced(_)) {
                let returned = component.description.output.returned();
                names.extend(wanted.operators[at].iter().filter(|n| returned.field(n).is_none()).cloned());
            }
            if let Some(right) = &edges.rights[at] {
                let mut others: BTreeSet<String> = component.reads(1).map(|f| f.name.clone()).collect();
                others
                    .extend(operator.right_key.iter().chain(operator.delete_when()).map(|k| k.value.clone()));
                let left = inputs[at].all(demands);
                names.retain(|name| left.field(name).is_some());
                late_of_sides(&left, &right.all(demands), &wanted.late[at], &mut names, &mut others);
                wanted.at(operator.inputs[0].value).extend(names.iter().cloned());
                wanted.at(operator.inputs[1].value).extend(others.iter().cloned());
                (wanted.inputs[at], wanted.rights[at]) = (names, others);
                continue;
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
        (input, right): (&Offered, Option<&Offered>),
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
            World::Aggregate | World::Window => match operator.plain_windows() {
                Some(windows) if component.world == World::Aggregate => {
                    OperatorKind::Aggregate { key: key(), windows }
                }
                _ => OperatorKind::Windowed {
                    key: key(),
                    definition: operator.definition(),
                    has_times: self.timeless(&operator.inputs).is_none(),
                },
            },
            World::Process => {
                OperatorKind::Process { key: key(), ttl: operator.ttl.iter().map(ttl).collect() }
            }
            World::Join => {
                let right = restrict(right.expect("a join has two inputs"), demands, &wanted.rights[at]);
                OperatorKind::Join(Box::new(join(operator, component.description, key(), right)))
            }
            World::Transform => OperatorKind::Transform,
        };
        let origin = |name: &str| match (&kind, returned.index_of(name)) {
            (_, Some(at)) => Origin::Returned(at),
            (OperatorKind::Transform, None) => Origin::Input(column(name)),
            (OperatorKind::Join(join), None) => {
                let is_window = matches!(join.spec.on, On::Window(_));
                match (operator.key.iter().position(|k| k.value == name), name) {
                    (Some(at), _) => Origin::Key(at),
                    (None, WINDOW_START) if is_window => Origin::WindowStart,
                    (None, WINDOW_END) if is_window => Origin::WindowEnd,
                    (None, _) => Origin::Input(column(name)),
                }
            }
            (
                OperatorKind::Aggregate { .. } | OperatorKind::Windowed { .. } | OperatorKind::Process { .. },
                None,
            ) => match (operator.key.iter().position(|k| k.value == name), name) {
                (Some(at), _) => Origin::Key(at),
                (None, WINDOW_START) => Origin::WindowStart,
                (None, WINDOW_FIRING) => Origin::WindowFiring,
                (None, WINDOW_TIMING) => Origin::WindowTiming,
                (None, _) => Origin::WindowEnd,
            },
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
        [nulls, right_nulls]: &[BTreeSet<String>; 2],
    ) -> OperatorPlan {
        let operator = &self.declaration.operators[at];
        let Columns { input, reads, mut kind, emits } = columns;
        if let OperatorKind::Join(join) = &mut kind {
            let column = |name: &String| join.right.schema.index_of(name).expect("it is read");
            join.right.reject_nulls = right_nulls.iter().map(column).collect();
        }
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
        connections: &[Arc<Servers>],
        edges: &Edges,
        demands: &Demands,
        wanted: &[BTreeSet<String>],
    ) -> Option<Vec<SourcePlan>> {
        let mut plans = Vec::new();
        for (at, source) in self.declaration.sources.iter().enumerate() {
            let mut names = wanted[at].clone();
            let time = source.kind.decoding().and_then(|d| d.event_time.as_ref());
            for field in time.iter().flat_map(|t| t.fields()) {
                let known = edges.sources[at].find(&field.value, demands);
                if let Err(reason) = known {
                    let message = self.unreadable(&field.value, "event_time", reason);
                    self.problems.report(field, message);
                    return None;
                }
                names.insert(field.value.clone());
            }
            let schema = restrict(&edges.sources[at], demands, &names);
            let demanded = |d: &Decoding| {
                let fields = schema.fields().iter().filter(|f| metadata(&f.name, d).is_none());
                fields.map(|f| demand(f, d)).collect::<Vec<_>>()
            };
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
                SourceKind::JetStream { connection, streams, decoding, from, until_end, allow_gaps } => {
                    let columns = (0..).zip(schema.fields());
                    let known =
                        columns.filter_map(|(at, f)| Some((at, metadata(&f.name, decoding)?.clone())));
                    SourceInput::JetStream {
                        servers: connections[*connection].clone(),
                        streams: streams.iter().map(|s| s.value.clone()).collect(),
                        format: format(&decoding.format),
                        demands: demanded(decoding),
                        metadata: known.collect(),
                        from: *from,
                        until_end: *until_end,
                        allow_gaps: *allow_gaps,
                    }
                }
                SourceKind::Told { decoding, partitions_count, makes_watermarks } => SourceInput::Told {
                    feeds: Arc::new(Feeds::new(partitions_count.get())),
                    demands: demanded(decoding),
                    makes_watermarks: *makes_watermarks,
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
            let column = |name: &Spanned<String>| schema.index_of(&name.value).expect("inserted above");
            let event_time = time.map(|t| match t {
                EventTime::Field { field, out_of_orderness_ms } => {
                    EventTimePlan::Field { column: column(field), out_of_orderness_ms: *out_of_orderness_ms }
                }
                EventTime::Punctuated { field, watermark_field } => {
                    EventTimePlan::Punctuated { column: column(field), watermark: column(watermark_field) }
                }
                EventTime::Arrival => EventTimePlan::Arrival,
            });
            let align = source.align.as_ref();
            plans.push(SourcePlan {
                id: source.id.value.clone(),
                input,
                schema,
                event_time,
                idle_after_ms: source.idle_after_ms.map(i64::unsigned_abs),
                align: align.map(|a| AlignPlan { group: a.group.clone(), max_drift_ms: a.max_drift_ms }),
            });
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
    /// Of the second inputs of joins.
    rights: Vec<BTreeSet<String>>,
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

/// What a join does; `right` are the fields of its second input.
fn join(operator: &Operator, description: &Description, left_key: Vec<usize>, right: Schema) -> JoinPlan {
    let declared = &operator.join.as_ref().expect("checked with its use").value;
    let column = |name: &str| right.index_of(name).expect("wanted of the input");
    let on = match &declared.on {
        // What isn't plain was refused with its use.
        JoinOn::Window => On::Window(operator.plain_windows().unwrap_or(Windows::Global)),
        JoinOn::Interval { lower_ms, upper_ms } => On::Interval { lower_ms: *lower_ms, upper_ms: *upper_ms },
        JoinOn::Table { grace_ms, versions_ms, delete_when } => On::Table {
            grace_ms: *grace_ms,
            versions_ms: *versions_ms,
            delete_when: delete_when.as_ref().map(|field| column(&field.value)),
        },
    };
    let read = |f: &Field| if f.name == TIME_FIELD { Read::Time } else { Read::Column(column(&f.name)) };
    JoinPlan {
        spec: Spec { kind: declared.kind, on },
        left_key,
        right_key: operator.right_key.iter().map(|k| column(&k.value)).collect(),
        right: InputPlan {
            reads: description.inputs[1].fields().iter().map(read).collect(),
            reject_nulls: Vec::new(),
            schema: right,
        },
    }
}

/// Adds the fields of both sides that somebody reads of a join's late rows.
fn late_of_sides(
    left: &Schema,
    right: &Schema,
    wanted: &BTreeSet<String>,
    of_left: &mut BTreeSet<String>,
    of_right: &mut BTreeSet<String>,
) {
    of_left.extend(wanted.iter().filter(|name| left.field(name).is_some()).cloned());
    let (_, names) = either(left, right);
    for (field, name) in right.fields().iter().zip(&names).filter(|(_, name)| wanted.contains(*name)) {
        of_right.insert(field.name.clone());
        if *name != field.name {
            // It has its name because of the other's.
            of_left.insert(field.name.clone());
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
    let known = decoding.metadata.iter().map(|m| Field {
        name: m.field.value.clone(),
        field_type: m.metadata.field_type(),
        nullable: matches!(m.metadata, Metadata::Header(_)),
    });
    let fields = decoding.fields.iter().map(|f| Field {
        name: f.name.value.clone(),
        field_type: f.field_type,
        // A row without event time is rejected at the source.
        nullable: f.nullable && !is_event_time(&f.name.value, decoding),
    });
    Schema::new(fields.chain(known).collect()).expect("the file's names are unique")
}

/// What a field of this name has of a message beside its payload, if it does.
fn metadata<'a>(name: &str, decoding: &'a Decoding) -> Option<&'a Metadata> {
    decoding.metadata.iter().find(|m| m.field.value == name).map(|m| &m.metadata)
}

fn is_event_time(name: &str, decoding: &Decoding) -> bool {
    decoding.event_time.as_ref().and_then(EventTime::field).is_some_and(|field| field.value == name)
}

fn demand(field: &Field, decoding: &Decoding) -> Demand {
    let is_time = is_event_time(&field.name, decoding);
    // A record that says how far time has come, and only that, is no row, but isn't malformed either.
    let says_time = matches!(decoding.event_time, Some(EventTime::Punctuated { .. }));
    let nullable = if is_time { says_time } else { field.nullable };
    let field = Field { nullable, ..field.clone() };
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
