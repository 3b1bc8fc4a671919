//! Which punctuation follows which field: prediction by what was seen before.
//!
//! A step is a piece of punctuation with a key, such as `,"bidder":`, in one object. Each step remembers
//! the steps that came next, so that records of several kinds in one file, or with fields that are
//! sometimes absent, are all predicted. What is remembered is bounded, and forgotten when it stops to help.

use super::super::scan::word;

/// How many steps are remembered. Each is about a hundred bytes.
const STEPS_MAX: usize = 512;

/// How many followers of one step are remembered, and compared one after the other.
const FOLLOWERS_MAX: usize = 8;

/// Longer punctuation, which has a very long key or many spaces in it, isn't remembered.
const TEXT_BYTES_MAX: usize = 256;

/// After so many misses with a full memory all is forgotten and learned anew.
const MISSES_MAX: usize = 4_096;

/// What to do with the value that follows a piece of punctuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Action {
    /// Nobody demands it.
    Skip,
    /// It belongs to this column.
    Column(u32),
    /// It belongs to several columns, or to one and to columns below it.
    Shared(u32),
    /// It is an object with demanded values in it.
    Enter(u32),
    /// There is no value: a nested object ends.
    Leave,
    /// There is no value: the record ends.
    End,
}

/// Where a reader is between two values.
pub(super) struct Context {
    /// The object.
    pub(super) node: usize,
    /// Whether its brace is still to come.
    pub(super) opened: bool,
    /// The step that led here.
    step: usize,
}

/// A step that isn't remembered, and so has no followers.
const NOWHERE: usize = usize::MAX;

/// The step before a record.
const START: usize = 0;

impl Context {
    pub(super) fn enter(&mut self, node: usize) {
        self.node = node;
        self.opened = true;
    }

    /// Predicts nothing for the next step.
    pub(super) fn leave_shape(&mut self) {
        self.step = NOWHERE;
    }
}

/// The steps seen so far.
pub(super) struct Shapes {
    steps: Vec<Step>,
    root: usize,
    misses: usize,
}

struct Step {
    /// The object that it is in.
    node: usize,
    action: Action,
    /// The first sixteen bytes as two words, and the bits of them that count.
    words: [u64; 2],
    masks: [u64; 2],
    text: Box<[u8]>,
    /// The steps that came next, the first seen first; [`START`], which comes after nothing, if none did.
    followers: [u16; FOLLOWERS_MAX],
}

impl Step {
    fn new(node: usize, text: &[u8], action: Action) -> Self {
        let mut head = [0; 16];
        let mut mask = [0; 16];
        for (at, byte) in text.iter().take(16).enumerate() {
            (head[at], mask[at]) = (*byte, 0xff);
        }
        let halves =
            |bytes: [u8; 16]| [0, 8].map(|at| word(&bytes, at).expect("sixteen bytes are two words"));
        Self {
            node,
            action,
            words: halves(head),
            masks: halves(mask),
            text: text.into(),
            followers: [START as u16; FOLLOWERS_MAX],
        }
    }

    #[inline(always)]
    fn matches(&self, buf: &[u8], at: usize) -> bool {
        let rest = &buf[at..];
        let Some(head) = rest.first_chunk::<16>() else { return rest.starts_with(&self.text) };
        let [low, high] = [0, 8].map(|at| word(head, at).unwrap_or_default());
        let differs = (low ^ self.words[0]) & self.masks[0] | (high ^ self.words[1]) & self.masks[1];
        differs == 0 && (self.text.len() <= 16 || rest.starts_with(&self.text))
    }
}

impl Shapes {
    pub(super) fn new(root: usize) -> Self {
        let mut shapes = Self { steps: Vec::new(), root, misses: 0 };
        shapes.forget();
        shapes
    }

    fn forget(&mut self) {
        self.steps.clear();
        self.steps.push(Step::new(self.root, &[], Action::Enter(self.root as u32)));
        self.misses = 0;
    }

    /// The context before a record.
    #[inline(always)]
    pub(super) fn start(&mut self) -> Context {
        if self.misses > MISSES_MAX {
            self.forget();
        }
        Context { node: self.root, opened: true, step: START }
    }

    /// If one of the remembered followers comes next, goes there and returns what to do with the value
    /// and where it is.
    #[inline(always)]
    pub(super) fn follow(&self, context: &mut Context, buf: &[u8], at: usize) -> Option<(Action, usize)> {
        let step = self.steps.get(context.step)?;
        for follower in step.followers.iter().map(|follower| usize::from(*follower)) {
            let next = &self.steps[follower];
            if next.matches(buf, at) {
                // Its text is empty and so always matches: the end of the list needs no check of its own.
                if follower == START {
                    break;
                }
                context.step = follower;
                context.opened = false;
                return Some((next.action, at + next.text.len()));
            }
        }
        None
    }

    /// Goes on from the context by a step that wasn't foreseen, and remembers it.
    pub(super) fn learn(&mut self, context: &mut Context, text: &[u8], action: Action) {
        let known = self
            .steps
            .iter()
            .skip(1)
            .position(|s| s.node == context.node && s.action == action && *s.text == *text)
            .map(|at| at + 1);
        let from = context.step;
        context.opened = false;
        context.step = known.unwrap_or(NOWHERE);
        if known.is_none() && self.steps.len() < STEPS_MAX && text.len() <= TEXT_BYTES_MAX {
            context.step = self.steps.len();
            self.steps.push(Step::new(context.node, text, action));
        }
        let followers = self.steps.get_mut(from).map(|step| step.followers.iter_mut());
        match followers.into_iter().flatten().find(|follower| **follower == START as u16) {
            Some(follower) if context.step != NOWHERE => *follower = context.step as u16,
            _ => self.misses += 1,
        }
    }
}
