//! Timers by time: a heap with four children to a node, in which each timer knows its place, so that any of them
//! can be taken out.
//!
//! An ordered tree would do the same with three times the memory. Four children lie in one cache line, and make
//! the heap half as deep as two.

use std::cmp::Ordering;

use super::index::{Index, NONE};

const CHILDREN: usize = 4;

/// The timers of one clock that are set, each as its time and its slot.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: Vec<(i64, u32)>,
}

/// The order in which timers fire: by time, then key, then name.
pub(super) fn compare(index: &Index, a: (i64, u32), b: (i64, u32)) -> Ordering {
    a.0.cmp(&b.0).then_with(|| {
        let (a, b) = (index.get(a.1), index.get(b.1));
        a.key().cmp(b.key()).then_with(|| a.name().cmp(b.name()))
    })
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<(i64, u32)>()
    }

    pub(super) fn first(&self) -> Option<(i64, u32)> {
        self.heap.first().copied()
    }

    /// The time of a timer of this clock, if it is set.
    pub(super) fn at(&self, index: &Index, slot: u32) -> Option<i64> {
        let timer = index.get(slot);
        timer.is_set().then(|| self.heap[timer.place as usize].0)
    }

    /// Sets a timer that isn't set.
    pub(super) fn push(&mut self, index: &mut Index, slot: u32, at: i64) {
        self.heap.push((at, slot));
        self.rise(index, self.heap.len() - 1);
    }

    /// Takes a timer out that is set.
    pub(super) fn remove(&mut self, index: &mut Index, slot: u32) {
        let place = std::mem::replace(&mut index.get_mut(slot).place, NONE) as usize;
        let last = self.heap.pop().expect("it is set");
        if place < self.heap.len() {
            self.heap[place] = last;
            self.sink(index, place);
            if index.get(last.1).place as usize == place {
                self.rise(index, place);
            }
        }
    }

    fn rise(&mut self, index: &mut Index, mut place: usize) {
        let timer = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            if compare(index, self.heap[parent], timer).is_le() {
                break;
            }
            self.put(index, place, self.heap[parent]);
            place = parent;
        }
        self.put(index, place, timer);
    }

    fn sink(&mut self, index: &mut Index, mut place: usize) {
        let timer = self.heap[place];
        loop {
            let first = place * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let least = children.min_by(|&a, &b| compare(index, self.heap[a], self.heap[b]));
            match least {
                Some(child) if compare(index, self.heap[child], timer).is_lt() => {
                    self.put(index, place, self.heap[child]);
                    place = child;
                }
                _ => break,
            }
        }
        self.put(index, place, timer);
    }

    fn put(&mut self, index: &mut Index, place: usize, timer: (i64, u32)) {
        self.heap[place] = timer;
        index.get_mut(timer.1).place = u32::try_from(place).expect("fewer timers than slots");
    }
}
