//! A script, played: each step is told to the pipeline, and what comes out is compared.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill::log::{Mark, Told};
use tidemill::pipeline::check;
use tidemill::pipeline::declaration::script::{self, Expect, Restore, Script, Step, Subject};
use tidemill::pipeline::declaration::{self, Declaration, Problems, Span, Spanned, hint};
use tidemill::pipeline::plan::{Plan, SourceInput};
use tidemill::plugin::{Plugin, Runtime};
use tidemill::worker::{JobError, Output, ProcessingTime, Saved, Stepwise};
use tokio::sync::watch;

use super::compare::{self, Difference};
use super::rows;

/// Records that a partition is told at once: a batch of the host has room for them.
const RECORDS_MAX: usize = 1024;

/// Plays scripts.
pub(super) struct Player<'a> {
    runtime: &'a Runtime,
    restore_everywhere: bool,
    parallelism: Option<NonZeroUsize>,
}

/// What came of a script.
#[derive(Debug)]
pub(super) struct Played {
    /// How many steps it has.
    pub(super) steps: usize,
    /// Where something else came out than was expected.
    pub(super) failures: Vec<Failure>,
}

/// A step that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Its number; the first is 1.
    pub(super) step: usize,
    /// The line where it stands.
    pub(super) line: usize,
    /// What it is about.
    pub(super) note: Option<String>,
    pub(super) why: Why,
}

#[derive(Debug)]
pub(super) enum Why {
    /// The pipeline failed.
    Failed(String),
    /// What came out is not what was expected.
    Differs(Difference),
}

impl<'a> Player<'a> {
    pub(super) fn new(runtime: &'a Runtime, restore_everywhere: bool, parallelism: Option<usize>) -> Self {
        Self { runtime, restore_everywhere, parallelism: parallelism.and_then(NonZeroUsize::new) }
    }

    /// Plays a script to its end, or until the pipeline fails.
    ///
    /// # Errors
    /// Why it can't be played: what is wrong with the script, the pipeline or a component.
    pub(super) async fn play(&self, path: &Path) -> Result<Played, String> {
        let script = read(path)?;
        let script = script::parse(&path.display().to_string(), &script).map_err(|e| e.to_string())?;
        let (subject, base) = subject(&script, path)?;
        let mut declaration = script.declaration(subject).map_err(|e| e.to_string())?;
        declaration.parallelism = self.parallelism.or(declaration.parallelism);
        let plugins = super::super::run::load(self.runtime, &declaration, &base).await;
        let subject = Tried { declaration, plugins: plugins.map_err(|e| e.to_string())?, base };
        let plan = subject.plan(None)?;
        check_names(&script, &plan)?;
        let (clock, told) = watch::channel(script.clock_ms);
        let mut play = Play {
            script: &script,
            subject,
            clock,
            time: ProcessingTime::Manual(told),
            state: plan.sources.iter().map(|s| vec![OfPartition::default(); s.input.partitions()]).collect(),
            running: None,
            plan,
            snapshots: HashMap::new(),
            last: None,
        };
        play.start(None).await.map_err(|e| format!("{}: it can't be started: {e}", path.display()))?;
        let mut played = Played { steps: script.steps.len(), failures: Vec::new() };
        for (at, step) in script.steps.iter().enumerate() {
            let failure = |why| Failure {
                step: at + 1,
                line: script.file.place(step.span).line,
                note: step.note.clone(),
                why,
            };
            let everywhere = Restore { snapshot: None, parallelism: None, span: step.span };
            let restore = match &step.restore {
                None if self.restore_everywhere && at > 0 => Some(&everywhere),
                restore => restore.as_ref(),
            };
            let next = script.steps.get(at + 1);
            let keeps = self.restore_everywhere
                || next.is_some_and(|n| n.restore.as_ref().is_some_and(|r| r.snapshot.is_none()));
            match play.step(step, restore, keeps && next.is_some()).await {
                Ok(output) => {
                    let differences = play.differences(step, &output);
                    played.failures.extend(differences.into_iter().map(|d| failure(Why::Differs(d))));
                }
                Err(Stopped::Failed(error)) => {
                    played.failures.push(failure(Why::Failed(error.to_string())));
                    return Ok(played);
                }
                Err(Stopped::Wrong(message)) => return Err(message),
            }
        }
        Ok(played)
    }
}

/// What a script tests, and what it is made of.
struct Tried {
    declaration: Declaration,
    plugins: Vec<Plugin>,
    base: PathBuf,
}

impl Tried {
    fn plan(&self, parallelism: Option<NonZeroUsize>) -> Result<Arc<Plan>, String> {
        let mut declaration = self.declaration.clone();
        declaration.parallelism = parallelism.or(declaration.parallelism);
        let plan = check::plan(&declaration, self.plugins.clone(), &self.base, 1);
        plan.map(Arc::new).map_err(|e| e.to_string())
    }
}

/// A script that is being played.
struct Play<'a> {
    script: &'a Script,
    subject: Tried,
    clock: watch::Sender<i64>,
    time: ProcessingTime,
    plan: Arc<Plan>,
    running: Option<Stepwise>,
    /// By source and partition.
    state: Vec<Vec<OfPartition>>,
    snapshots: HashMap<String, Snapshot>,
    /// Where the step before ended, if the next one asks for it.
    last: Option<Snapshot>,
}

/// What a script has said of a partition.
#[derive(Clone, Copy, Default)]
struct OfPartition {
    ended: bool,
    idle: bool,
}

/// The pipeline between two steps.
#[derive(Clone)]
struct Snapshot {
    saved: Saved,
    state: Vec<Vec<OfPartition>>,
}

/// Why a script doesn't go on.
enum Stopped {
    /// The pipeline failed.
    Failed(JobError),
    /// The script asks for what can't be.
    Wrong(String),
}

impl From<JobError> for Stopped {
    fn from(error: JobError) -> Self {
        Self::Failed(error)
    }
}

impl Play<'_> {
    async fn start(&mut self, saved: Option<&Saved>) -> Result<(), JobError> {
        self.running = None;
        self.running = Some(Stepwise::start(self.plan.clone(), self.time.clone(), saved).await?);
        Ok(())
    }

    fn running(&mut self) -> &mut Stepwise {
        self.running.as_mut().expect("it was started")
    }

    /// What comes out of a step. `keeps`: the next one goes on from where it ended.
    async fn step(&mut self, step: &Step, restore: Option<&Restore>, keeps: bool) -> Result<Output, Stopped> {
        if let Some(restore) = restore {
            self.restore(restore).await?;
        }
        self.rows(step).await?;
        if self.running.is_none() {
            return Err(self.wrong(step.span, "all inputs have ended in a step above".to_owned()));
        }
        if let Some(watermark) = step.watermark {
            for (source, partition) in self.meant(step) {
                self.running().tell(source, partition, Told::Mark(Mark::Watermark(watermark))).await?;
            }
        }
        for (idle, mark) in [(step.idle, Mark::Idle), (step.active, Mark::Active)] {
            for (source, partition) in self.meant(step).into_iter().filter(|_| idle) {
                self.running().tell(source, partition, Told::Mark(mark)).await?;
                self.state[source][partition].idle = mark == Mark::Idle;
            }
        }
        if let Some(advance_ms) = step.advance_ms {
            self.clock.send_modify(|now_ms| *now_ms = now_ms.saturating_add(advance_ms));
            self.tell_all(|_| Some(Mark::Clock)).await?;
        }
        if step.end {
            for (source, partition) in self.meant(step) {
                self.running().tell(source, partition, Told::End).await?;
                self.state[source][partition].ended = true;
            }
        }
        let is_over = self.state.iter().flatten().all(|partition| partition.ended);
        let output = self.running().settle(is_over).await?;
        if is_over {
            let running = self.running.take().expect("it was started");
            running.finish().await?;
            return Ok(output);
        }
        if keeps || step.snapshot.is_some() {
            let saved = self.running().saved().expect("it has settled");
            let snapshot = Snapshot { saved, state: self.state.clone() };
            if let Some(name) = &step.snapshot {
                self.snapshots.insert(name.value.clone(), snapshot.clone());
            }
            self.last = keeps.then_some(snapshot);
        }
        Ok(output)
    }

    async fn restore(&mut self, restore: &Restore) -> Result<(), Stopped> {
        let snapshot = match &restore.snapshot {
            None => self.last.take(),
            Some(name) => self.snapshots.get(&name.value).cloned(),
        };
        let Some(snapshot) = snapshot else {
            let message = match &restore.snapshot {
                Some(name) => format!("no step above has `snapshot = \"{}\"`", name.value),
                None => "there is no step above whose end it could go on from".to_owned(),
            };
            return Err(self.wrong(restore.span, message));
        };
        if let Some(parallelism) = restore.parallelism {
            self.plan = self.subject.plan(Some(parallelism)).map_err(Stopped::Wrong)?;
        }
        self.state = snapshot.state;
        self.start(Some(&snapshot.saved)).await?;
        // Who is idle is no part of a checkpoint: it is seen anew.
        Ok(self.tell_all(|partition| partition.idle.then_some(Mark::Idle)).await?)
    }

    /// Tells something to all partitions that haven't ended.
    async fn tell_all(&mut self, told: impl Fn(OfPartition) -> Option<Mark>) -> Result<(), JobError> {
        for (source, partitions) in self.state.clone().into_iter().enumerate() {
            for (partition, of) in partitions.into_iter().enumerate().filter(|(_, of)| !of.ended) {
                if let Some(mark) = told(of) {
                    self.running().tell(source, partition, Told::Mark(mark)).await?;
                }
            }
        }
        Ok(())
    }

    async fn rows(&mut self, step: &Step) -> Result<(), Stopped> {
        if step.rows.is_empty() {
            return Ok(());
        }
        let source = self.source(step);
        let partition = step.partition.map_or(0, |p| p.value);
        if self.state[source][partition].ended {
            let id = &self.plan.sources[source].id;
            return Err(self.wrong(step.span, format!("partition {partition} of `{id}` has ended already")));
        }
        let plan = self.plan.clone();
        let SourceInput::Told { demands, .. } = &plan.sources[source].input else {
            unreachable!("every source of a script is told")
        };
        for rows in step.rows.chunks(RECORDS_MAX) {
            let lines = rows::as_lines(rows, demands);
            self.running().tell(source, partition, Told::Records(lines)).await?;
        }
        Ok(())
    }

    /// The source that a step's rows are for: the names were checked.
    fn source(&self, step: &Step) -> usize {
        let named = |input: &Spanned<String>| self.plan.sources.iter().position(|s| s.id == input.value);
        step.input.as_ref().and_then(named).unwrap_or(0)
    }

    /// The sources and partitions that a step's watermark and end are for, without those that have ended.
    fn meant(&self, step: &Step) -> Vec<(usize, usize)> {
        let named = step.input.as_ref().map(|_| self.source(step));
        let all = self.state.iter().enumerate().flat_map(|(source, partitions)| {
            partitions.iter().enumerate().map(move |(partition, of)| (source, partition, of.ended))
        });
        let is_meant = |source: usize, partition: usize| {
            named.is_none_or(|named| named == source) && step.partition.is_none_or(|p| p.value == partition)
        };
        all.filter(|(source, partition, ended)| !ended && is_meant(*source, *partition))
            .map(|(source, partition, _)| (source, partition))
            .collect()
    }

    fn differences(&self, step: &Step, output: &Output) -> Vec<Difference> {
        let mut found = Vec::new();
        if let Expect::Rows(expected) = &step.expect {
            for (sink, captured) in self.plan.sinks.iter().zip(&output.sinks) {
                let of_sink = |(name, _): &&(Option<Spanned<String>>, _)| {
                    name.as_ref().is_none_or(|name| name.value == sink.id)
                };
                let expected = expected.iter().find(of_sink).map(|(_, rows)| rows);
                found.extend(compare::sink(sink, expected, captured, &step.compared));
            }
            found.extend(compare::letters("rejected", &step.rejected, &output.dead_letters, &step.compared));
            found.extend(compare::letters("late", &step.late, &output.late, &step.compared));
        }
        found
    }

    fn wrong(&self, at: Span, message: String) -> Stopped {
        let problems = self.script.problems();
        problems.report(at, message);
        let errors = problems.settle::<()>(None).expect_err("something was reported");
        Stopped::Wrong(errors.to_string())
    }
}

/// The pipeline that a script names, and the folder that its paths are relative to.
fn subject(script: &Script, path: &Path) -> Result<(Option<Declaration>, PathBuf), String> {
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let Subject::Pipeline(pipeline) = &script.subject else { return Ok((None, base)) };
    let path = base.join(&pipeline.value);
    let problems = script.problems();
    let text = match read(&path) {
        Ok(text) => text,
        Err(message) => {
            problems.report(pipeline, message);
            return problems.settle(None).map_err(|e| e.to_string());
        }
    };
    let declared = declaration::parse(&path.display().to_string(), &text);
    let declared = declared.map_err(|e| format!("the pipeline can't be run\n{e}"))?;
    Ok((Some(declared), path.parent().unwrap_or(Path::new("")).to_owned()))
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = super::super::read(path, super::SCRIPT_BYTES_MAX);
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
    text.map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// Whether the inputs, partitions, sinks and fields that a script names are those of its pipeline.
fn check_names(script: &Script, plan: &Plan) -> Result<(), String> {
    let problems = script.problems();
    for step in &script.steps {
        check_input(step, plan, &problems);
        if let Expect::Rows(expected) = &step.expect {
            for (sink, rows) in expected {
                check_expected(sink.as_ref(), rows, step, plan, &problems);
            }
        }
        check_rows(script, step, plan, &problems);
    }
    let is_good = problems.is_empty();
    problems.settle(is_good.then_some(())).map_err(|e| e.to_string())
}

fn check_input(step: &Step, plan: &Plan, problems: &Problems) {
    let ids = plan.sources.iter().map(|s| s.id.as_str());
    match &step.input {
        None if !step.rows.is_empty() && plan.sources.len() > 1 => {
            let ids: Vec<_> = ids.map(|id| format!("`{id}`")).collect();
            problems.report(step.span, format!("say by `input` whose the rows are: {}", ids.join(" or ")));
        }
        None => {}
        Some(input) => match plan.sources.iter().find(|s| s.id == input.value) {
            None => {
                let hint = hint(&input.value, ids, '`');
                problems.report(input, format!("there is no input `{}`; {hint}", input.value));
            }
            Some(source) => {
                let count = source.input.partitions();
                if let Some(partition) = step.partition.filter(|p| p.value >= count) {
                    let message = format!(
                        "`{}` has {count} partitions, of which the first is 0; more are `[inputs.{}] partitions`",
                        input.value, input.value
                    );
                    problems.report(&partition, message);
                }
            }
        },
    }
}

fn check_expected(
    sink: Option<&Spanned<String>>,
    expected: &script::Expected,
    step: &Step,
    plan: &Plan,
    problems: &Problems,
) {
    let ids = plan.sinks.iter().map(|s| s.id.as_str());
    let found = match sink {
        None if plan.sinks.len() > 1 => {
            let ids: Vec<_> = ids.map(|id| format!("`{id}`")).collect();
            let message = format!("say in a table whose rows these are, of the sinks {}", ids.join(", "));
            problems.report(step.span, message);
            return;
        }
        None => plan.sinks.first(),
        Some(name) => {
            let found = plan.sinks.iter().find(|s| s.id == name.value);
            if found.is_none() {
                let hint = hint(&name.value, ids, '`');
                problems.report(name, format!("there is no sink `{}`; {hint}", name.value));
            }
            found
        }
    };
    let Some(sink) = found else { return };
    let names = || sink.schema.fields().iter().map(|f| f.name.as_str()).chain([rows::AT]);
    let is_known = |name: &str| name == rows::TIME || names().any(|known| known == name);
    for row in &expected.rows {
        for (name, _) in row.cells.iter().filter(|(name, _)| !is_known(name)) {
            let hint = hint(name, names(), '`');
            problems.report(row.span, format!("the rows of `{}` have no field `{name}`; {hint}", sink.id));
        }
    }
    for name in step.compared.fields.iter().flatten().filter(|name| !is_known(&name.value)) {
        let hint = hint(&name.value, names(), '`');
        problems.report(name, format!("the rows of `{}` have no field `{}`; {hint}", sink.id, name.value));
    }
}

/// A field of an operator's row that nothing reads is a slip; the records of a pipeline's sources may have more.
fn check_rows(script: &Script, step: &Step, plan: &Plan, problems: &Problems) {
    let Subject::Operator(_) = script.subject else { return };
    let id = step.input.as_ref().map_or_else(|| plan.sources[0].id.clone(), |i| i.value.clone());
    let Some(source) = plan.sources.iter().find(|s| s.id == id) else { return };
    let SourceInput::Told { demands, .. } = &source.input else { return };
    let said = script.inputs.iter().find(|i| i.id.value == id).and_then(|i| i.decoding.as_ref());
    let said = said.into_iter().flat_map(|d| &d.fields).filter_map(|f| f.path.first());
    let known: Vec<&str> =
        demands.iter().filter_map(|d| d.path.first()).chain(said).map(String::as_str).collect();
    for row in &step.rows {
        for (name, _) in row.cells.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let hint = hint(name, known.iter().copied(), '`');
            problems.report(row.span, format!("the operator reads no field `{name}`; {hint}"));
        }
    }
}
