//! Whether what the file says of an operator suits its component and its input.

use tidemill_flow::join::Side;
use tidemill_flow::schema::Schema;
use tidemill_flow::window::Windows;
use tidemill_flow::windowing::{Assigner, Layout};

use super::{Checker, Component};
use crate::pipeline::declaration::{
    self, Clock, JoinOn, Operator, Span, Spanned, Upstream, WINDOWS_OF_ROW_MAX,
};
use crate::plugin::{TIME_FIELD, World};

impl Checker<'_> {
    /// Whether an operator's keys in the file suit its world, and its times those of its input.
    pub(super) fn check_use(&self, operator: &Operator, component: Component<'_>) {
        self.check_join(operator, component);
        self.check_key(operator, component.world);
        self.check_window(operator, component);
        self.check_ttl(operator, component);
        let reads_time = component.description.inputs.iter().any(|input| input.field(TIME_FIELD).is_some());
        if reads_time && let Some(timeless) = self.timeless(&operator.inputs) {
            self.problems.report(
                &operator.component,
                format!(
                    "it reads `{TIME_FIELD}`, but the rows of `{timeless}` have no event time; give the source an \
                     `event_time`"
                ),
            );
        }
    }

    /// Whether two inputs are joined by a component that can do it.
    fn check_join(&self, operator: &Operator, component: Component<'_>) {
        let id = &operator.id.value;
        let report = |at: Span, message: String| self.problems.report(at, message);
        let join = match (&operator.join, component.world) {
            (None, World::Join) => {
                return report(
                    operator.id.span,
                    format!(
                        "`{id}` is a join-operator; say what it joins: `join = {{ type = \"interval\", ... }}`"
                    ),
                );
            }
            (Some(join), World::Join) => join,
            (None, _) => {
                let right = operator.right_key.first();
                return right.into_iter().for_each(|key| {
                    report(key.span, format!("only a join-operator has `keys`; for `{id}` write `key`"));
                });
            }
            (Some(join), world) => {
                let world = world.name();
                return report(join.span, format!("`{id}` is a {world}; only a join-operator has a `join`"));
            }
        };
        if operator.inputs.len() != 2 {
            report(
                operator.id.span,
                format!("`{id}` joins two inputs; write `inputs = [\"left\", \"right\"]`"),
            );
        }
        if operator.key.is_empty() {
            report(
                operator.id.span,
                format!(
                    "`{id}` joins by key; add `key = \"...\"`, or `keys = [[...], [...]]` if the sides differ"
                ),
            );
        }
        if let Some(timeless) = self.timeless(&operator.inputs) {
            report(
                join.span,
                format!(
                    "a join goes by event time, but the rows of `{timeless}` have none; give the source an `event_time`"
                ),
            );
        }
        if join.value.on == JoinOn::Window && operator.window.is_none() {
            report(
                join.span,
                format!(
                    "`{id}` joins by window; add `window = {{ type = \"tumbling\", size = \"...\" }}`, or hopping"
                ),
            );
        }
        let (kind, absent) = (join.value.kind, component.description.absent);
        for (side, can_do_without) in [(Side::Left, absent.left), (Side::Right, absent.right)] {
            if kind.keeps(side.other()) && !can_do_without {
                report(
                    join.span,
                    format!(
                        "a {} join leaves out the {side} side of rows that meet none, but `{id}` can't do without it; make \
                         that side an `Option` in the operator, or write another `kind`",
                        kind.name()
                    ),
                );
            }
        }
    }

    fn check_key(&self, operator: &Operator, world: World) {
        let id = &operator.id.value;
        match (world, operator.key.first(), operator.parallelism) {
            (World::Process, None, _) => self.problems.report(
                &operator.id,
                format!(
                    "`{id}` is a {}, which has state and timers for each key; add `key = \"...\"`, the field or fields \
                     that tell whose a row is",
                    world.name()
                ),
            ),
            (World::Aggregate | World::Window, None, Some(parallelism)) if parallelism.get() > 1 => self.problems.report(
                &operator.id,
                format!(
                    "`{id}` has no `key`, so all rows are one group and {parallelism} tasks can't share it; remove \
                     `parallelism` or add a `key`"
                ),
            ),
            (World::Aggregate | World::Window | World::Process | World::Join, ..) | (_, None, _) => {}
            (World::Transform, Some(key), _) => self.problems.report(
                key,
                format!(
                    "`{id}` is a {}, which takes each row by itself; only an aggregate-operator, a window-operator, a \
                     process-operator or a join-operator has a `key`",
                    world.name()
                ),
            ),
        }
    }

    /// Of a join by window: tumbling or hopping ones, and no more than that.
    fn check_window_of_join(&self, operator: &Operator) {
        let by_window = operator.join.as_ref().is_some_and(|join| join.value.on == JoinOn::Window);
        if let Some(window) = operator.window.as_ref().filter(|_| !by_window) {
            let message = "only a join of the type \"window\" has a `window`";
            self.problems.report(window, message.to_owned());
        }
        let is_plain = matches!(operator.windows().plain(), Some(windows) if windows != Windows::Global);
        if let Some(window) = operator.window.as_ref().filter(|_| by_window && !is_plain) {
            let message = "a join's windows are tumbling or hopping ones of event time, without `time_zone`";
            self.problems.report(window, message.to_owned());
        }
        let lateness = operator.allowed_lateness_ms.as_ref().map(|l| ("allowed_lateness", l.span));
        for (key, span) in lateness.into_iter().chain(operator.trigger.as_ref().map(|t| ("trigger", t.span)))
        {
            let message = format!("a join's windows fire once, at their end; remove `{key}`");
            self.problems.report(span, message);
        }
    }

    fn check_window(&self, operator: &Operator, component: Component<'_>) {
        let world = component.world;
        let lateness = operator.allowed_lateness_ms.as_ref().map(|l| ("allowed_lateness", l.span));
        let trigger = operator.trigger.as_ref().map(|t| ("trigger", t.span));
        let window = operator.window.as_ref().map(|w| ("window", w.span));
        if world == World::Join {
            self.check_window_of_join(operator);
            return;
        }
        if !matches!(world, World::Aggregate | World::Window) {
            for (key, span) in window.into_iter().chain(lateness).chain(trigger) {
                let (id, world) = (&operator.id.value, world.name());
                self.problems.report(
                    span,
                    format!(
                        "`{id}` is a {world}, which has no windows; only an aggregate-operator or a window-operator has `{key}`"
                    ),
                );
            }
            return;
        }
        if let Some((_, span)) = window
            && operator.windows().needs_event_time()
            && let Some(timeless) = self.timeless(&operator.inputs)
        {
            self.problems.report(
                span,
                format!(
                    "windows of event time, but the rows of `{timeless}` have none; give the source an `event_time`, or \
                     the window `time = \"processing\"`"
                ),
            );
        }
        let schema = match world {
            World::Window => Layout::schema_of_rows(&component.description.inputs[0]),
            _ if operator.plain_windows().is_none() => {
                Layout::schema_of_accumulators(&component.description.state)
            }
            _ => Ok(Schema::default()),
        };
        if let Err(problem) = schema {
            self.problems.report(&operator.component, problem);
        }
        if world == World::Window
            && let Some(trigger) = &operator.trigger
            && let Err(problem) = operator.definition().check_rows()
        {
            self.problems.report(trigger, problem);
        }
        self.check_firings(operator);
    }

    /// Whether lateness and trigger go with the windows.
    fn check_firings(&self, operator: &Operator) {
        let windows = operator.windows();
        if let Some(lateness) = operator.allowed_lateness_ms.as_ref().filter(|l| l.value > 0)
            && !windows.has_late_rows()
        {
            let why = match (&windows.assigner, windows.time) {
                (_, Clock::Processing) => "in processing time no row is late",
                (Assigner::Count { .. }, _) => "no row is late for a window that ends with its rows",
                _ => "no row is late for the global window, which ends with the input",
            };
            self.problems.report(lateness, format!("{why}; remove `allowed_lateness`"));
        }
        if let (Some(trigger), Assigner::Count { .. }) = (&operator.trigger, &windows.assigner) {
            self.problems.report(
                trigger,
                "a count window fires when it has its rows, and at no other time; remove `trigger`, or write \
                 `window = { type = \"global\" }` to keep the rows of all windows"
                    .to_owned(),
            );
        }
        let in_many = windows.windows_of_row() > WINDOWS_OF_ROW_MAX && operator.plain_windows().is_none();
        if let Some(window) = operator.window.as_ref().filter(|_| in_many) {
            self.problems.report(
                window,
                format!(
                    "with `time_zone`, `time`, `allowed_lateness` or `trigger` each row is added to each window that it \
                     is in, which would be {}, and may be {WINDOWS_OF_ROW_MAX}; let `slide` be longer",
                    windows.windows_of_row()
                ),
            );
        }
    }

    /// Whether what is to expire is there, and has the time by which it does.
    fn check_ttl(&self, operator: &Operator, component: Component<'_>) {
        let id = &operator.id.value;
        let slots = component.slots();
        for ttl in &operator.ttl {
            let slot = &ttl.slot.value;
            if component.world != World::Process {
                self.problems
                    .report(&ttl.slot, format!("`{id}` has no slots; only a process-operator has a `ttl`"));
            } else if slots.is_empty() {
                self.problems
                    .report(&ttl.slot, format!("`{id}` keeps no state, so nothing of it can expire"));
            } else if !slots.contains(&slot.as_str()) {
                let hint = declaration::hint(slot, slots.iter().copied(), '`');
                self.problems.report(&ttl.slot, format!("`{id}` has no slot `{slot}` in its state; {hint}"));
            } else if ttl.clock == Clock::Event
                && let Some(timeless) = self.timeless(&operator.inputs)
            {
                self.problems.report(
                    &ttl.slot,
                    format!(
                        "`{slot}` expires by event time, but the rows of `{timeless}` have none; give the source an \
                         `event_time`, or write {{ after = \"...\", clock = \"processing-time\" }}"
                    ),
                );
            }
        }
    }

    /// The first upstream whose rows have no event time.
    pub(super) fn timeless(&self, inputs: &[Spanned<Upstream>]) -> Option<String> {
        let timeless = |upstream: Upstream| match upstream {
            Upstream::Source(s) => {
                let decoding = self.declaration.sources[s].kind.decoding();
                let timeless = decoding.is_some_and(|d| d.event_time.is_none());
                timeless.then(|| self.declaration.upstream_name(upstream))
            }
            Upstream::Operator(o) => match self.components[o].world {
                World::Aggregate | World::Window => {
                    let operator = &self.declaration.operators[o];
                    let has_times = || self.timeless(&operator.inputs).is_none();
                    let is_count = matches!(operator.windows().assigner, Assigner::Count { .. });
                    let timed = operator.definition().has_event_bounds(!is_count || has_times());
                    (!timed).then(|| self.declaration.upstream_name(upstream))
                }
                World::Join => None,
                _ => self.timeless(&self.declaration.operators[o].inputs),
            },
            Upstream::Late(o) => self.timeless(&self.declaration.operators[o].inputs),
        };
        inputs.iter().find_map(|i| timeless(i.value))
    }
}
