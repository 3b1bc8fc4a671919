//! Whether what the file says of an operator suits its component and its input.

use tidemill_flow::window::Windows;

use super::{Checker, Component};
use crate::pipeline::declaration::{self, Clock, Operator, Spanned, Upstream};
use crate::plugin::{TIME_FIELD, World};

impl Checker<'_> {
    /// Whether an operator's keys in the file suit its world, and its times those of its input.
    pub(super) fn check_use(&self, operator: &Operator, component: Component<'_>) {
        self.check_key(operator, component.world);
        self.check_window(operator, component.world);
        self.check_ttl(operator, component);
        let reads_time = component.description.inputs[0].field(TIME_FIELD).is_some();
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
            (World::Aggregate, None, Some(parallelism)) if parallelism.get() > 1 => self.problems.report(
                &operator.id,
                format!(
                    "`{id}` has no `key`, so all rows are one group and {parallelism} tasks can't share it; remove \
                     `parallelism` or add a `key`"
                ),
            ),
            (World::Aggregate | World::Process, ..) | (_, None, _) => {}
            (World::Transform | World::Window | World::Join, Some(key), _) => self.problems.report(
                key,
                format!(
                    "`{id}` is a {}, which takes each row by itself; only an aggregate-operator or a process-operator \
                     has a `key`",
                    world.name()
                ),
            ),
        }
    }

    fn check_window(&self, operator: &Operator, world: World) {
        let Some(window) = &operator.window else { return };
        if world != World::Aggregate {
            let (id, world) = (&operator.id.value, world.name());
            self.problems.report(
                window,
                format!(
                    "`{id}` is a {world}, which has no windows; only an aggregate-operator has a `window`"
                ),
            );
        } else if operator.windows() != Windows::Global
            && let Some(timeless) = self.timeless(&operator.inputs)
        {
            self.problems.report(
                window,
                format!(
                    "windows of event time, but the rows of `{timeless}` have none; give the source an `event_time`"
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
    fn timeless(&self, inputs: &[Spanned<Upstream>]) -> Option<String> {
        let timeless = |upstream: Upstream| match upstream {
            Upstream::Source(s) => {
                let decoding = self.declaration.sources[s].kind.decoding();
                let timeless = decoding.is_some_and(|d| d.event_time.is_none());
                timeless.then(|| self.declaration.upstream_name(upstream))
            }
            Upstream::Operator(o) => match self.components[o].world {
                World::Aggregate => {
                    let global = self.declaration.operators[o].windows() == Windows::Global;
                    global.then(|| self.declaration.upstream_name(upstream))
                }
                _ => self.timeless(&self.declaration.operators[o].inputs),
            },
            Upstream::Late(o) => self.timeless(&self.declaration.operators[o].inputs),
        };
        inputs.iter().find_map(|i| timeless(i.value))
    }
}
