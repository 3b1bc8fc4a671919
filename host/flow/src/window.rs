//! Windows of event time, and the slices that they are made of.
//!
//! A window `[start, end)` fires when the watermark reaches `end - 1`. Hopping windows overlap; so rows are
//! not filed by window but by *slice*, the greatest common divisor of size and slide, and a window is the
//! union of its slices (Krishnamurthy et al., "On-the-fly sharing for streamed aggregation", SIGMOD 2006;
//! Li et al., "No pane, no gain", SIGMOD Record 2005). A row is folded once, however many windows it is in.

use std::fmt;

/// Which windows a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// One window over everything, finished when the input is.
    Global,
    /// Windows of `size_ms` that follow one another, one starting at `offset_ms` after 1970.
    Tumbling {
        /// The length of a window, in milliseconds.
        size_ms: i64,
        /// Where a window starts, in milliseconds since the Unix epoch.
        offset_ms: i64,
    },
    /// Windows of `size_ms`, one starting every `slide_ms`.
    Hopping {
        /// The length of a window, in milliseconds.
        size_ms: i64,
        /// How far apart windows start, in milliseconds; at most `size_ms`.
        slide_ms: i64,
        /// Where a window starts, in milliseconds since the Unix epoch.
        offset_ms: i64,
    },
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Tumbling { size_ms, offset_ms } => {
                write!(f, "tumbling, {size_ms} ms from {offset_ms} ms on")
            }
            Self::Hopping { size_ms, slide_ms, offset_ms } => {
                write!(f, "hopping, {size_ms} ms every {slide_ms} ms from {offset_ms} ms on")
            }
        }
    }
}

/// The bounds of a window: from `start` up to, and without, `end`, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bounds {
    /// The first millisecond of the window.
    pub start: i64,
    /// The first millisecond after the window.
    pub end: i64,
}

/// [`Windows`] ready for use: sizes resolved once, so that the arithmetic for a row is short.
#[derive(Clone, Copy, Debug)]
pub struct Slicing {
    size: i64,
    slide: i64,
    slice: i64,
    offset: i64,
    global: bool,
}

impl Slicing {
    /// # Panics
    /// When a size or slide isn't positive, or a slide is longer than its window: the pipeline file's reader
    /// refuses both.
    pub fn new(windows: Windows) -> Self {
        let (size, slide, offset) = match windows {
            Windows::Global => (i64::MAX, i64::MAX, 0),
            Windows::Tumbling { size_ms, offset_ms } => (size_ms, size_ms, offset_ms),
            Windows::Hopping { size_ms, slide_ms, offset_ms } => (size_ms, slide_ms, offset_ms),
        };
        assert!(0 < slide && slide <= size, "windows of {size} ms every {slide} ms");
        let slice = greatest_common_divisor(size, slide);
        Self { size, slide, slice, offset: offset.rem_euclid(slide), global: windows == Windows::Global }
    }

    /// Whether this is the one window over everything, which has no bounds.
    pub fn is_global(&self) -> bool {
        self.global
    }

    /// The length of a slice, in milliseconds.
    pub fn slice_ms(&self) -> i64 {
        self.slice
    }

    /// How far apart windows start, in milliseconds.
    pub fn slide_ms(&self) -> i64 {
        self.slide
    }

    /// How many slices a window has.
    pub fn slices(&self) -> usize {
        usize::try_from(self.size / self.slice).unwrap_or(usize::MAX)
    }

    /// Whether a slice may be part of several windows.
    pub fn overlaps(&self) -> bool {
        self.size > self.slide
    }

    /// The start of the slice that a time falls into. Global windows have a single slice, at 0.
    pub fn slice_of(&self, time: i64) -> i64 {
        if self.global { 0 } else { time - (time - self.offset).rem_euclid(self.slice) }
    }

    /// The end of the last window that a slice is part of: when that has fired the slice is done with.
    pub fn last_end(&self, slice: i64) -> i64 {
        if self.global {
            return i64::MAX;
        }
        slice - (slice - self.offset).rem_euclid(self.slide) + self.size
    }

    /// The earliest window with the slice in it whose end has not been reached by `watermark`, if there is one.
    pub fn next_window(&self, slice: i64, watermark: i64) -> Option<Bounds> {
        if self.global {
            return (watermark < i64::MAX).then_some(Bounds { start: i64::MIN, end: i64::MAX });
        }
        let last = self.last_end(slice);
        // Ends lie a slide apart. The earliest one is the first after the slice's own end, or at it.
        let earliest = last - (last - (slice + self.slice)) / self.slide * self.slide;
        let end = if watermark < earliest - 1 {
            earliest
        } else {
            // The first end e with e - 1 > watermark.
            earliest + ((watermark - (earliest - 1)) / self.slide + 1).saturating_mul(self.slide)
        };
        (end <= last).then_some(Bounds { start: end - self.size, end })
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All windows with the time in them, the naive way: try each start.
    fn naive_windows(windows: Windows, time: i64) -> Vec<Bounds> {
        let (size, slide, offset) = match windows {
            Windows::Global => unreachable!("not asked here"),
            Windows::Tumbling { size_ms, offset_ms } => (size_ms, size_ms, offset_ms),
            Windows::Hopping { size_ms, slide_ms, offset_ms } => (size_ms, slide_ms, offset_ms),
        };
        (time - size + 1..=time)
            .filter(|start| (start - offset).rem_euclid(slide) == 0)
            .map(|start| Bounds { start, end: start + size })
            .collect()
    }

    proptest! {
        #[test]
        fn slices_make_up_the_plain_windows(
            size in 1i64..60, slide in 1i64..60, offset in -100i64..100, time in -500i64..500, watermark in -600i64..600,
        ) {
            let windows = Windows::Hopping { size_ms: size.max(slide), slide_ms: slide, offset_ms: offset };
            let slicing = Slicing::new(windows);
            let slice = slicing.slice_of(time);
            prop_assert!(slice <= time && time < slice + slicing.slice_ms());
            let naive = naive_windows(windows, time);
            // Every time of a slice is in the same windows, so the slice stands for its rows.
            prop_assert_eq!(&naive, &naive_windows(windows, slice));
            prop_assert_eq!(&naive, &naive_windows(windows, slice + slicing.slice_ms() - 1));
            prop_assert_eq!(naive.last().unwrap().end, slicing.last_end(slice));
            let next = naive.iter().find(|w| w.end - 1 > watermark).copied();
            prop_assert_eq!(slicing.next_window(slice, watermark), next);
        }
    }

    #[test]
    fn a_time_at_a_boundary_begins_the_next_window() {
        let hourly = Slicing::new(Windows::Tumbling { size_ms: 1000, offset_ms: 0 });
        assert_eq!([999, 1000, -1].map(|t| hourly.slice_of(t)), [0, 1000, -1000]);
        assert_eq!(hourly.next_window(0, 998), Some(Bounds { start: 0, end: 1000 }));
        assert_eq!(hourly.next_window(0, 999), None);
    }

    #[test]
    fn the_global_window_ends_with_the_input() {
        let global = Slicing::new(Windows::Global);
        assert_eq!(global.slice_of(77), 0);
        assert!(global.next_window(0, i64::MAX - 1).is_some());
        assert_eq!(global.next_window(0, i64::MAX), None);
    }
}
