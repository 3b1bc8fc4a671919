//! Failpoints: named places along the protocol of checkpoints at which a test can kill the process, make an operation
//! fail, or hold it up. Builds without debug assertions have none.
//!
//! The environment variable `TIDEMILL_FAILPOINTS` says what happens where: `name=action` or `name=action@n` for the
//! n-th time that the place is passed (1 unless it says), several behind each other with `;`. Actions: `kill` (as
//! SIGKILL does it, without a word), `eio`, `enospc` (the operation fails with this error, from the n-th time on with
//! `@n+`), `delay:MS`.

use std::io;

/// Every failpoint, in the order in which a run passes them.
pub const NAMES: [&str; 25] = [
    "recovery.begin",
    "recovery.decided",
    "recovery.commit",
    "recovery.discard",
    "recovery.state",
    "barrier.source",
    "barrier.task",
    "snapshot.slice",
    "snapshot.done",
    "sink.part",
    "persist.begin",
    "persist.frozen",
    "persist.files",
    "manifest.written",
    "manifest.copy",
    "persist.done",
    "commit.begin",
    "commit.rename",
    "commit.done",
    "retain.remove",
    "swap.begin",
    "swap.task",
    "takeover.begin",
    "takeover.files",
    "takeover.manifest",
];

/// Passes the failpoint of this name.
///
/// # Errors
/// The error that the environment asks for.
///
/// # Panics
/// When the environment asks for something that doesn't exist: a test that waits for it would wait for ever.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn at(_name: &str) -> io::Result<()> {
    Ok(())
}

/// Passes the failpoint of this name.
///
/// # Errors
/// The error that the environment asks for.
///
/// # Panics
/// When the environment asks for something that doesn't exist: a test that waits for it would wait for ever.
#[cfg(debug_assertions)]
pub fn at(name: &str) -> io::Result<()> {
    armed::at(name)
}

#[cfg(debug_assertions)]
mod armed {
    use std::io;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::NAMES;

    /// What the environment asks for.
    static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
        let asked = std::env::var("TIDEMILL_FAILPOINTS").unwrap_or_default();
        let plans = asked.split(';').map(str::trim).filter(|p| !p.is_empty());
        plans
            .map(|p| Plan::read(p).unwrap_or_else(|| panic!("TIDEMILL_FAILPOINTS: can't read `{p}`")))
            .collect()
    });

    struct Plan {
        name: &'static str,
        action: Action,
        /// From which time on, and whether each time after it too.
        time: u64,
        again: bool,
        passed: AtomicU64,
    }

    #[derive(Clone, Copy)]
    enum Action {
        Kill,
        Fail(i32),
        Delay(u64),
    }

    impl Plan {
        fn read(text: &str) -> Option<Self> {
            let (name, what) = text.split_once('=')?;
            let (action, time) = what.split_once('@').unwrap_or((what, "1"));
            let (time, again) = time.strip_suffix('+').map_or((time, false), |time| (time, true));
            let action = match action.split_once(':') {
                None if action == "kill" => Action::Kill,
                None if action == "eio" => Action::Fail(5),
                None if action == "enospc" => Action::Fail(28),
                Some(("delay", ms)) => Action::Delay(ms.parse().ok()?),
                _ => return None,
            };
            let name = NAMES.iter().find(|n| **n == name)?;
            Some(Self { name, action, time: time.parse().ok()?, again, passed: AtomicU64::new(0) })
        }
    }

    pub(super) fn at(name: &str) -> io::Result<()> {
        debug_assert!(NAMES.contains(&name), "failpoint {name} isn't in the list");
        for plan in PLANS.iter().filter(|p| p.name == name) {
            let time = plan.passed.fetch_add(1, Ordering::Relaxed) + 1;
            if time != plan.time && !(plan.again && time > plan.time) {
                continue;
            }
            match plan.action {
                Action::Kill => kill(),
                Action::Fail(code) => return Err(io::Error::from_raw_os_error(code)),
                Action::Delay(ms) => std::thread::sleep(Duration::from_millis(ms)),
            }
        }
        Ok(())
    }

    /// Nothing is flushed, closed or said: what the kernel does when somebody types `kill -9`.
    fn kill() {
        let own = std::process::id().to_string();
        let killed = std::process::Command::new("kill").args(["-9", &own]).status();
        // Not reached, unless there is no such command.
        panic!("kill -9 {own}: {killed:?}");
    }
}
