//! Which way a signal goes: rows to the owner of their key's group, everything else to all.

use tidemill_flow::key::owner;

use super::Process;
use crate::context::Context;
use crate::data::{Kind, Pipeline, Row, group};
use crate::inbox::Signal;

impl Process {
    /// The receivers of a source or task: tasks or sinks, and which of their channels is the sender's.
    fn receivers(&self, sender: usize) -> (Receivers, usize) {
        let [first, second] = self.parallelism;
        let of_stage = sender.checked_sub(self.sources.len());
        match of_stage.map(|task| (task, task.checked_sub(first))) {
            None => (Receivers::Tasks(0, first), sender),
            Some((task, None)) if second > 0 => (Receivers::Tasks(first, second), task),
            Some((task, None)) => (Receivers::Sinks, task),
            Some((_, Some(task))) => (Receivers::Sinks, task),
        }
    }

    pub(super) fn has_room(&self, sender: usize) -> bool {
        let (receivers, channel) = self.receivers(sender);
        match receivers {
            Receivers::Tasks(from, count) => {
                self.tasks[from..from + count].iter().all(|t| t.inbox.has_room(channel))
            }
            Receivers::Sinks => self.sinks.iter().all(|s| s.inbox.has_room(channel)),
        }
    }

    pub(super) fn send(&mut self, sender: usize, signals: Vec<Signal>, cx: &Context) {
        let (receivers, channel) = self.receivers(sender);
        for signal in signals {
            match (receivers, signal) {
                (Receivers::Tasks(from, count), Signal::Row(row)) => {
                    let task = owner(group(routing_key(&row)), count as u32) as usize;
                    self.tasks[from + task].inbox.put(channel, signal, cx);
                }
                (Receivers::Tasks(from, count), _) => {
                    let tasks = &mut self.tasks[from..from + count];
                    tasks.iter_mut().for_each(|t| t.inbox.put(channel, signal, cx));
                }
                (Receivers::Sinks, Signal::Row(row)) => {
                    let sink = usize::from(row.key) % self.sinks.len();
                    self.sinks[sink].inbox.put(channel, signal, cx);
                }
                (Receivers::Sinks, _) => {
                    self.sinks.iter_mut().for_each(|s| s.inbox.put(channel, signal, cx));
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Receivers {
    /// From this one, so many.
    Tasks(usize, usize),
    Sinks,
}

fn routing_key(row: &Row) -> u8 {
    if row.kind == Kind::Input { row.key } else { Pipeline::second_key(row) }
}
