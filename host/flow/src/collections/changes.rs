//! What changed and the storage doesn't know: by address, the new bytes, or that nothing stands there any more.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Bound;

use crate::storage::Writes;

/// About what a change takes in a tree beside its bytes: two vectors and the allocations behind them, in nodes
/// that are two thirds full.
const CHANGE_BYTES: usize = 112;

/// The bytes of a slice of writes: with values of any size, a slice is written in some milliseconds.
const WRITES_BYTES_MAX: usize = 4 << 20;

type Layer = BTreeMap<Vec<u8>, Change>;

#[derive(Debug)]
struct Change {
    /// None: nothing stands there any more.
    value: Option<Vec<u8>>,
    /// Nothing ever stood there before: no layer below has to be told when it goes again.
    is_first: bool,
}

#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Since the last freeze.
    current: Layer,
    /// Before it, and not drained.
    frozen: Layer,
    current_bytes: usize,
    frozen_bytes: usize,
}

impl Changes {
    /// What an address was changed to, if it was.
    pub(super) fn get(&self, address: &[u8]) -> Option<Option<&[u8]>> {
        let change = self.current.get(address).or_else(|| self.frozen.get(address));
        change.map(|change| change.value.as_deref())
    }

    pub(super) fn set(&mut self, address: Vec<u8>, value: Option<Vec<u8>>) {
        let length = address.len();
        match self.current.entry(address) {
            btree_map::Entry::Vacant(vacant) => {
                self.current_bytes += bytes_of(length, &value);
                vacant.insert(Change { value, is_first: false });
            }
            btree_map::Entry::Occupied(mut occupied) => {
                self.current_bytes -= bytes_of(length, &occupied.get().value);
                if value.is_none() && occupied.get().is_first {
                    occupied.remove();
                } else {
                    self.current_bytes += bytes_of(length, &value);
                    occupied.get_mut().value = value;
                }
            }
        }
    }

    /// As [`set`](Self::set), at an address where nothing has ever stood.
    pub(super) fn add(&mut self, address: Vec<u8>, value: Vec<u8>) {
        let (length, value) = (address.len(), Some(value));
        self.current_bytes += bytes_of(length, &value);
        let before = self.current.insert(address, Change { value, is_first: true });
        assert!(before.is_none(), "an entry was added where one stood");
    }

    pub(super) fn bytes(&self) -> usize {
        self.current_bytes + self.frozen_bytes
    }

    pub(super) fn freeze(&mut self) {
        let current_bytes = std::mem::take(&mut self.current_bytes);
        if self.frozen.is_empty() {
            std::mem::swap(&mut self.frozen, &mut self.current);
            self.frozen_bytes = current_bytes;
        } else {
            self.frozen.append(&mut self.current);
            self.frozen_bytes =
                self.frozen.iter().map(|(address, c)| bytes_of(address.len(), &c.value)).sum();
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        !self.frozen.is_empty()
    }

    pub(super) fn drain(&mut self, max: usize) -> Option<Writes> {
        take(&mut self.frozen, &mut self.frozen_bytes, max)
    }

    pub(super) fn spill(&mut self) -> Option<Writes> {
        take(&mut self.current, &mut self.current_bytes, usize::MAX)
    }

    /// The changes from `from` up to, and without, `end`, ascending.
    pub(super) fn range<'a>(&'a self, from: &[u8], end: &[u8]) -> ChangesOf<'a> {
        let bounds = (Bound::Included(from), Bound::Excluded(end));
        ChangesOf {
            current: self.current.range::<[u8], _>(bounds).peekable(),
            frozen: self.frozen.range::<[u8], _>(bounds).peekable(),
        }
    }
}

/// Takes changes of a layer: at most `max`, and about 4 MiB.
fn take(layer: &mut Layer, bytes: &mut usize, max: usize) -> Option<Writes> {
    let (mut writes, before) = (Writes::default(), *bytes);
    while writes.list.len() < max && before - *bytes < WRITES_BYTES_MAX {
        let Some((address, Change { value, .. })) = layer.pop_first() else { break };
        *bytes -= bytes_of(address.len(), &value);
        writes.set(address, value);
    }
    (!writes.list.is_empty()).then_some(writes)
}

fn bytes_of(address_length: usize, value: &Option<Vec<u8>>) -> usize {
    CHANGE_BYTES + address_length + value.as_ref().map_or(0, Vec::len)
}

/// Changes in a range; those since the last freeze hide the frozen ones.
#[derive(Debug)]
pub(super) struct ChangesOf<'a> {
    current: Peekable<btree_map::Range<'a, Vec<u8>, Change>>,
    frozen: Peekable<btree_map::Range<'a, Vec<u8>, Change>>,
}

impl<'a> Iterator for ChangesOf<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let next = match (self.current.peek(), self.frozen.peek()) {
            (Some((current, _)), Some((frozen, _))) if frozen < current => self.frozen.next(),
            (Some((current, _)), Some((frozen, _))) if frozen == current => {
                self.frozen.next();
                self.current.next()
            }
            (None, _) => self.frozen.next(),
            _ => self.current.next(),
        };
        next.map(|(address, change)| (address.as_slice(), change.value.as_deref()))
    }
}
