//! What the live pipeline and its shadow have made of the same stretch, side by side.
//!
//! The stretch lies between two checkpoints of the live pipeline: of the rows in its sources, those that were read behind
//! the first and before the second; of its output, what appeared with the checkpoints behind the first up to the second.
//! Timers that were due, and rows that were on their way when the barrier came, make output that appears behind the second:
//! the shadow has it before, so the next two checkpoints are looked at too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use tidemill_checkpoint::{Counters, Kind, Manifest, Name, Selector, Store};

use super::compare::{Comparison, Difference, Outcome, Row, Side};
use super::copying::{now_ms, remove};
use super::facts::Mark;
use super::identity::{Completeness, Identity};
use super::live::{cannot_tell, rows, rows_of_files, wait_until_shown};
use super::report::{Cell, Count, FORMAT, OperatorVersions, Report, Sample, SinkReport, Version};
use super::{Live, Origin, ReplayError, Shadow, at_file, failed};
use crate::formats::TimestampUnit;
use crate::pipeline::plan::{EventTimePlan, LogStart, Plan, SinkPlan, SourceInput, StreamStart};

/// How many checkpoints behind the stretch are looked at for what was under way at its end.
const LOOK_AHEAD: u64 = 2;

impl Shadow {
    /// Compares what the shadow has made, from where it began to where it [has come](Self::run_to), with what the live
    /// pipeline has shown of the same stretch.
    ///
    /// # Errors
    /// When the shadow hasn't run yet; when output of either can't be read, or the live one doesn't tell any more what
    /// belongs to which checkpoint.
    pub fn compare(&self, live: &Live<'_>) -> Result<Report, ReplayError> {
        let facts = &self.facts;
        let reached = facts.reached.as_ref().ok_or_else(|| failed("the shadow hasn't run to its end yet"))?;
        if let Some(manifest) = manifest_of(live, reached)? {
            wait_until_shown(&manifest)?;
        }
        let mut sinks = Vec::new();
        for (at, sink) in live.plan.sinks.iter().enumerate() {
            sinks.push(self.compare_sink(live.plan, at, sink, reached)?);
        }
        for id in facts.sinks.keys().filter(|id| !live.plan.sinks.iter().any(|s| s.id == **id)) {
            sinks.push(SinkReport::not_compared(id, "only the shadow has this sink"));
        }
        let is_compared = sinks.iter().any(|s| s.not_compared.is_none());
        let equal = is_compared && sinks.iter().all(SinkReport::is_equal);
        Ok(Report {
            format: FORMAT,
            pipeline: facts.pipeline.clone(),
            from: facts.origin.clone(),
            to: format!("checkpoint:{}", reached.checkpoint),
            created_ms: now_ms(),
            rows_read: self.rows_read(),
            duration_ms: facts.duration_ms,
            operators: self.versions(live.plan),
            counts: self.counts(live.plan, reached),
            notes: self.notes(live.plan, reached),
            findings: facts.findings.clone(),
            sinks,
            equal,
        })
    }

    fn compare_sink(
        &self,
        plan: &Plan,
        at: usize,
        sink: &SinkPlan,
        reached: &Mark,
    ) -> Result<SinkReport, ReplayError> {
        let Some(written) = self.facts.sinks.get(&sink.id) else {
            return Ok(SinkReport::not_compared(&sink.id, "only the live pipeline has this sink"));
        };
        if let Some(why) = cannot_tell(sink) {
            return Ok(SinkReport::not_compared(&sink.id, &why));
        }
        let identity = Identity::of(plan, at);
        let from = match self.from(&identity) {
            Ok(from) => from,
            Err(why) => return Ok(SinkReport::not_compared(&sink.id, &why)),
        };
        let mut left_out = 0;
        let mut is_in = |row: &Row| {
            let is_in = from.as_ref().is_none_or(|(field, from_ms)| {
                row.get(field).and_then(|text| instant_ms(text, sink.timestamps)) >= Some(*from_ms)
            });
            left_out += u64::from(!is_in);
            is_in
        };
        let folder = self.folder.join("comparing");
        std::fs::create_dir_all(&folder).map_err(at_file("make", &folder))?;
        let mut comparison = Comparison::new(identity.fields.clone(), folder.clone());
        let spilled = |e| at_file("write into", &folder)(e);
        let after = self.facts.begins.as_ref().map_or(0, |begins| begins.checkpoint);
        let stretch = (after + 1)..=reached.checkpoint;
        rows(plan, sink, stretch, &mut |_, row| match is_in(row) {
            true => comparison.add(Side::Live, row).map_err(spilled),
            false => Ok(()),
        })?;
        if let Some(behind) = look_ahead(&identity, reached) {
            rows(plan, sink, behind, &mut |_, row| match is_in(row) {
                true => comparison.add(Side::Later, row).map_err(spilled),
                false => Ok(()),
            })?;
        }
        let out = self.out(&sink.id, written.extension());
        rows_of_files(&out, written, &(0..=u64::MAX), &mut |_, row| match is_in(row) {
            true => comparison.add(Side::Shadow, row).map_err(spilled),
            false => Ok(()),
        })?;
        let outcome = comparison.finish().map_err(at_file("read in", &folder))?;
        remove(&folder)?;
        Ok(sink_report(sink, identity.fields, left_out, outcome))
    }

    /// From which time on rows of a sink are complete, by which field; none: all are. Why nothing is known of any, if
    /// nothing is.
    fn from(&self, identity: &Identity) -> Result<Option<(String, i64)>, String> {
        let is_whole = self.facts.begins.is_some() || self.facts.origin == Origin::Beginning.to_string();
        if is_whole {
            return Ok(None);
        }
        let begins =
            |why: &str| format!("the replay begins in the middle of its sources without state, and {why}");
        match (&identity.complete, self.facts.complete_from_ms) {
            (Completeness::Unknown(why), _) => Err(begins(why)),
            (Completeness::Always, _) => {
                Err(begins("rows that don't belong to windows can't be told apart by time"))
            }
            (_, None) => Err(begins("its sources don't say how far out of order their rows are")),
            (Completeness::Windows { field, after_ms }, Some(from_ms)) => {
                Ok(Some((field.clone(), from_ms.saturating_add(*after_ms))))
            }
        }
    }

    fn versions(&self, plan: &Plan) -> Vec<OperatorVersions> {
        let mut versions: BTreeMap<String, OperatorVersions> = BTreeMap::new();
        for operator in &plan.operators {
            let live = Version {
                digest: operator.plugin.digest().to_owned(),
                name: operator.plugin.description().name.clone(),
                version: operator.plugin.description().version.clone(),
            };
            let of = OperatorVersions { id: operator.id.clone(), live: Some(live), shadow: None };
            versions.insert(operator.id.clone(), of);
        }
        for (id, version) in &self.facts.components {
            let none = || OperatorVersions { id: id.clone(), live: None, shadow: None };
            versions.entry(id.clone()).or_insert_with(none).shadow = Some(version.clone());
        }
        versions.into_values().collect()
    }

    /// What both have counted in the stretch, where the checkpoints tell.
    fn counts(&self, plan: &Plan, reached: &Mark) -> Vec<Count> {
        let begins = self.facts.begins.as_ref().map(|begins| &begins.counters);
        let whole = self.facts.begins.is_some() || self.facts.origin == Origin::Beginning.to_string();
        if !whole {
            return Vec::new();
        }
        let of = |counters: Option<&Counters>, of_source: bool, id: &str, name: &str| {
            let counts =
                counters.and_then(|c| if of_source { c.sources.get(id) } else { c.operators.get(id) });
            counts.and_then(|counts| counts.get(name)).copied().unwrap_or(0)
        };
        let mut counts = Vec::new();
        let sources = plan.sources.iter().map(|s| (true, s.id.as_str(), &["rows", "malformed"][..]));
        let operators =
            plan.operators.iter().map(|o| (false, o.id.as_str(), &["rejected", "late", "partly_late"][..]));
        for (of_source, id, names) in sources.chain(operators) {
            for name in names {
                let before = of(begins, of_source, id, name);
                let live = of(Some(&reached.counters), of_source, id, name).saturating_sub(before);
                let shadow = of(Some(&self.facts.counters), of_source, id, name).saturating_sub(before);
                let kind = if of_source { "source" } else { "operator" };
                let what = format!("{kind} {id}: {}", name.replace('_', " "));
                counts.push(Count { what, live, shadow });
            }
        }
        counts
    }

    /// What a reader of the report should know.
    fn notes(&self, plan: &Plan, reached: &Mark) -> Vec<String> {
        let mut notes = Vec::new();
        let begins_anew = self.facts.origin == Origin::Beginning.to_string();
        for source in &plan.sources {
            let id = &source.id;
            if matches!(source.event_time, Some(EventTimePlan::Arrival)) {
                notes.push(format!(
                    "rows of source `{id}` happen when they arrive: in the replay at other times than in the live pipeline"
                ));
            }
            if source.idle_after_ms.is_some() {
                notes.push(format!(
                    "partitions of source `{id}` that were silent for a while and came back are waited for in the replay, so \
                     rows that were late in the live pipeline may not be in the replay"
                ));
            }
            let from_end = matches!(
                source.input,
                SourceInput::Log { from: LogStart::End, .. }
                    | SourceInput::JetStream { from: StreamStart::End, .. }
            );
            if begins_anew && from_end {
                notes.push(format!(
                    "source `{id}` is read from its beginning, where the live pipeline has begun at what was its end then"
                ));
            }
        }
        if reached.in_flight {
            notes.push(format!(
                "rows were on their way when checkpoint {} was taken; what the live pipeline made of them is looked for in \
                 the next {LOOK_AHEAD} checkpoints",
                reached.checkpoint
            ));
        }
        notes
    }
}

/// The checkpoints behind the stretch that may have output of it, if any may.
fn look_ahead(identity: &Identity, reached: &Mark) -> Option<RangeInclusive<u64>> {
    // With the last barrier nothing is left under way.
    let is_settled = matches!(reached.kind, Kind::Last | Kind::Finished);
    let may_be = !is_settled && (identity.fires_late || reached.in_flight);
    may_be.then(|| (reached.checkpoint + 1)..=(reached.checkpoint + LOOK_AHEAD))
}

/// The manifest of a checkpoint of the live pipeline, if it is still there.
fn manifest_of(live: &Live<'_>, mark: &Mark) -> Result<Option<Manifest>, ReplayError> {
    let contents = Store::look(live.place.clone()).map_err(failed)?;
    match contents.find(&Selector::Checkpoint(mark.checkpoint)) {
        Ok(name @ Name::Checkpoint(_)) => {
            let listed = contents.look_at(&name).map_err(failed)?;
            Ok(listed.and_then(|listed| listed.manifest.ok()))
        }
        _ => Ok(None),
    }
}

fn sink_report(sink: &SinkPlan, identity: Vec<String>, left_out: u64, outcome: Outcome) -> SinkReport {
    let Outcome { live, shadow, equal, later, added, missing, different, samples } = outcome;
    let order: Vec<&str> = sink.schema.fields().iter().map(|f| f.name.as_str()).collect();
    SinkReport {
        id: sink.id.clone(),
        identity,
        not_compared: None,
        live,
        shadow,
        equal,
        later,
        left_out,
        added,
        missing,
        different,
        samples: samples.into_iter().map(|difference| sample(difference, &order)).collect(),
    }
}

fn sample(difference: Difference, order: &[&str]) -> Sample {
    let (live, shadow) = match difference {
        Difference::Added(shadow) => (None, Some(shadow)),
        Difference::Missing(live) => (Some(live), None),
        Difference::Different { live, shadow } => (Some(live), Some(shadow)),
    };
    let mut differing = Vec::new();
    if let (Some(live), Some(shadow)) = (&live, &shadow) {
        let fields: BTreeSet<&String> = live.keys().chain(shadow.keys()).collect();
        let differs = |field: &&&String| live.get(**field) != shadow.get(**field);
        differing = fields.iter().filter(differs).map(|field| (*field).clone()).collect();
    }
    let cells = |row: Row| in_order(row, order);
    Sample { live: live.map(cells), shadow: shadow.map(cells), differing }
}

/// How much of a value is shown.
const VALUE_CHARS_MAX: usize = 200;

/// The cells of a row in the order of the sink's fields, others behind them.
fn in_order(row: Row, order: &[&str]) -> Vec<Cell> {
    let place = |field: &str| order.iter().position(|o| *o == field).unwrap_or(order.len());
    let mut cells: Vec<Cell> =
        row.into_iter().map(|(field, value)| Cell { field, value: shortened(value) }).collect();
    cells.sort_by_key(|cell| place(&cell.field));
    cells
}

fn shortened(value: String) -> String {
    match value.char_indices().nth(VALUE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", value.get(..at).unwrap_or_default()),
        None => value,
    }
}

/// An instant as a sink has written it, in milliseconds since the Unix epoch.
fn instant_ms(text: &str, unit: TimestampUnit) -> Option<i64> {
    let text = text.trim_matches('"');
    let of_number =
        |per_second: f64| text.parse::<f64>().ok().map(|n| (n / per_second * 1_000.0).floor() as i64);
    match unit {
        TimestampUnit::Auto | TimestampUnit::Rfc3339 => {
            let time = text.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond());
            time.or_else(|| of_number(1_000.0))
        }
        TimestampUnit::Seconds => of_number(1.0),
        TimestampUnit::Milliseconds => of_number(1_000.0),
        TimestampUnit::Microseconds => of_number(1e6),
        TimestampUnit::Nanoseconds => of_number(1e9),
    }
}
