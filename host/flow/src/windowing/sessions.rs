//! Sessions: a row begins one, or belongs to those of its key that it touches, which become one through it.
//!
//! The sessions of a key are known from its timers. While rows are assigned they are kept apart, so that each row sees
//! those that the rows before it left; at the end the table and the timers are told.

use std::ops::Range;

use hashbrown::HashTable;

use super::Windowing;
use super::assign::{Assigned, index};
use super::pane::{Purpose, read_notes, read_timer_name, row_hash, row_key, timer_name};
use super::stretch::Group;
use crate::aggregation::Rows;
use crate::storage::{Storage, StorageError};
use crate::table::Slot;
use crate::timers::Clock;

/// A session of a key.
#[derive(Debug)]
struct Session {
    /// A row of its key.
    row: usize,
    start: i64,
    end: i64,
    /// Its timer. A new session gets it with the others.
    at: i64,
    purpose: Purpose,
    /// The panes that it is made of: their starts.
    panes: Vec<Pane>,
    /// Rows that no firing had, with those assigned now.
    new: u64,
    /// Rows were assigned to it; and whether it had ended before the last of them.
    has_rows: bool,
    is_over: bool,
    /// The session that it has become part of.
    part_of: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Pane {
    start: i64,
    purpose: Purpose,
}

/// Sessions by key.
#[derive(Debug, Default)]
struct Sessions {
    all: Vec<Session>,
    /// A row of each key, and the key's number.
    keys: HashTable<(usize, usize)>,
    /// The sessions of each key, those that still stand for themselves.
    of_key: Vec<Vec<usize>>,
}

impl Sessions {
    /// The number of a row's key, and whether it is new.
    fn key(&mut self, rows: &Rows<'_>, row: usize) -> (usize, bool) {
        let hash = rows.keys.hashes()[row];
        let same = |(other, _): &(usize, usize)| rows.keys.key(*other) == rows.keys.key(row);
        let before = self.of_key.len();
        let entry = self.keys.entry(hash, same, |(row, _)| rows.keys.hashes()[*row]);
        let number = entry.or_insert((row, before)).get().1;
        if number == before {
            self.of_key.push(Vec::new());
        }
        (number, number == before)
    }

    /// The session that a session has become part of in the end.
    fn root(&self, mut session: usize) -> usize {
        while let Some(whole) = self.all[session].part_of {
            session = whole;
        }
        session
    }
}

impl Windowing {
    pub(super) fn assign_to_sessions(
        &mut self,
        rows: &Rows<'_>,
        range: Range<usize>,
        gap_ms: i64,
        storage: &dyn Storage,
    ) -> Result<Assigned, StorageError> {
        let (from, limit) = (range.start, self.definition.rows_limit());
        let mut assigned = Assigned::new(range.end, self.watermark);
        let mut sessions = Sessions::default();
        for row in range.clone() {
            if let (key, true) = sessions.key(rows, row) {
                self.recall(rows, row, &mut sessions, key);
            }
        }
        let mut slots: Vec<Slot> = Vec::new();
        if limit.is_some() {
            self.count(rows, &mut sessions, &mut slots, storage)?;
        }
        for row in range {
            let (clock, time) = (self.clock_before(rows, row), self.time_of_row(rows, row));
            let (key, _) = sessions.key(rows, row);
            let touched = |&s: &usize| {
                let session = &sessions.all[s];
                session.start <= time + gap_ms && time <= session.end
            };
            let touched: Vec<usize> = sessions.of_key[key].iter().copied().filter(touched).collect();
            let is_full = |s: &Session| {
                row > from && self.fires_by_rows(s.end, clock) && limit.is_some_and(|limit| s.new >= limit)
            };
            if touched.iter().map(|&s| &sessions.all[s]).any(|s| s.at <= clock || is_full(s)) {
                assigned.stop_before(row, clock, &self.definition);
                break;
            }
            let (mut start, mut end) = (time, time + gap_ms);
            for &s in &touched {
                (start, end) = (start.min(sessions.all[s].start), end.max(sessions.all[s].end));
            }
            if self.definition.cleanup(end) <= clock {
                assigned.add_late(row, end, &self.definition, clock);
                continue;
            }
            let (purpose, at) = self.next_of_window(end, clock);
            let whole = match touched.first() {
                Some(&whole) => whole,
                None => {
                    let session = Session {
                        row,
                        start,
                        end,
                        at,
                        purpose,
                        panes: Vec::new(),
                        new: 0,
                        has_rows: true,
                        is_over: false,
                        part_of: None,
                    };
                    sessions.all.push(session);
                    sessions.of_key[key].push(sessions.all.len() - 1);
                    sessions.all.len() - 1
                }
            };
            for &part in touched.iter().skip(1) {
                let panes = std::mem::take(&mut sessions.all[part].panes);
                let new = sessions.all[part].new;
                sessions.all[part].part_of = Some(whole);
                sessions.all[whole].panes.extend(panes);
                sessions.all[whole].new += new;
            }
            if touched.len() > 1 {
                sessions.of_key[key].retain(|s| *s == whole || !touched.contains(s));
            }
            let session = &mut sessions.all[whole];
            (session.start, session.end, session.at, session.purpose) = (start, end, at, purpose);
            session.new += 1;
            session.has_rows = true;
            session.is_over = self.definition.instant(end) <= clock;
            assigned.stretch.row_numbers.push((index(row), index(whole)));
        }
        self.tell(rows, &sessions, &mut assigned, &mut slots);
        self.note_times(rows, &mut assigned.stretch);
        self.panes.load(&slots, storage)?;
        Ok(assigned)
    }

    /// Finds the sessions of a key.
    fn recall(&self, rows: &Rows<'_>, row: usize, sessions: &mut Sessions, key: usize) {
        let timers = self.timers.of_key(self.definition.time, rows.keys.hashes()[row], rows.keys.key(row));
        let first = sessions.all.len();
        for (name, at) in timers {
            let Some((purpose, start)) = read_timer_name(name) else { continue };
            let end = match purpose {
                Purpose::Complete => self.definition.end_at(at),
                Purpose::CleanUp => self.definition.end_of_cleanup(at),
                Purpose::Early => continue,
            };
            let panes = vec![Pane { start, purpose }];
            let session = Session {
                row,
                start,
                end,
                at,
                purpose,
                panes,
                new: 0,
                has_rows: false,
                is_over: false,
                part_of: None,
            };
            sessions.all.push(session);
        }
        // The timers of a key have no order.
        sessions.all[first..].sort_by_key(|s| s.start);
        sessions.of_key[key].extend(first..sessions.all.len());
    }

    /// Reads how many rows the sessions have that no firing had.
    fn count(
        &mut self,
        rows: &Rows<'_>,
        sessions: &mut Sessions,
        slots: &mut Vec<Slot>,
        storage: &dyn Storage,
    ) -> Result<(), StorageError> {
        let mut buffer = Vec::new();
        for session in &sessions.all {
            let (hash, key) = (rows.keys.hashes()[session.row], rows.keys.key(session.row));
            let row_key = row_key(key, session.start, &mut buffer);
            self.panes.number_of(row_hash(hash, session.start), row_key, slots);
        }
        self.panes.load(slots, storage)?;
        let notes = read_notes(&self.panes.gather(slots)[self.layout.own()..], slots.len());
        sessions.all.iter_mut().zip(notes).for_each(|(s, notes)| s.new = notes.new.unsigned_abs());
        Ok(())
    }

    /// Makes groups of the sessions that have rows, and sets their timers.
    fn tell(&mut self, rows: &Rows<'_>, sessions: &Sessions, assigned: &mut Assigned, slots: &mut Vec<Slot>) {
        let mut buffer = Vec::new();
        let mut group_of = vec![None; sessions.all.len()];
        for (number, session) in sessions.all.iter().enumerate() {
            if session.part_of.is_some() || !session.has_rows {
                continue;
            }
            let (hash, key) = (rows.keys.hashes()[session.row], rows.keys.key(session.row));
            let mut slot_of = |panes: &mut crate::table::Table, start: i64| {
                let number = panes.number_of(row_hash(hash, start), row_key(key, start, &mut buffer), slots);
                slots[number as usize]
            };
            let slot = slot_of(&mut self.panes, session.start);
            let group = Group { slot, hash, start: session.start, is_over: session.is_over };
            let at = index(assigned.stretch.groups.len());
            group_of[number] = Some(at);
            assigned.stretch.add_group(key, group);
            let mut panes = session.panes.clone();
            panes.sort_by_key(|p| p.start);
            let others =
                panes.iter().skip(usize::from(panes.first().is_some_and(|p| p.start == session.start)));
            for (round, pane) in others.enumerate() {
                let slot = slot_of(&mut self.panes, pane.start);
                assigned.stretch.join(round, at, slot);
            }
            self.move_timers(hash, key, session, &panes);
        }
        assigned.stretch.settle(|number| group_of[sessions.root(number as usize)]);
    }
    /// Sets the timers of a session in the place of those that its parts had.
    fn move_timers(&mut self, hash: u64, key: &[u8], session: &Session, parts: &[Pane]) {
        let (time, mut early) = (self.definition.time, None::<i64>);
        let stays = |part: &Pane| part.start == session.start;
        for part in parts {
            if !stays(part) || part.purpose != session.purpose {
                self.timers.cancel(time, hash, key, &timer_name(part.purpose, part.start));
            }
            let name = timer_name(Purpose::Early, part.start);
            if let Some(at) = self.timers.get(Clock::Processing, hash, key, &name) {
                early = Some(early.map_or(at, |early| early.min(at)));
                self.timers.cancel(Clock::Processing, hash, key, &name);
            }
        }
        self.timers.set(time, hash, key, &timer_name(session.purpose, session.start), session.at);
        if let Some(at) = early {
            self.timers.set(Clock::Processing, hash, key, &timer_name(Purpose::Early, session.start), at);
        }
    }
}
