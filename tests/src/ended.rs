//! What is left of a program that has ended.

use serde_json::Value;

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// The same, if it succeeded.
    ///
    /// # Panics
    /// When it didn't.
    #[track_caller]
    pub fn well(self) -> Self {
        self.with(0)
    }

    /// The same, if it ended with this status.
    ///
    /// # Panics
    /// When it ended with another.
    #[track_caller]
    pub fn with(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "its exit status; it said:\n{}{}", self.stderr, self.stdout);
        self
    }

    /// Whether it ended as `kill -9` ends a process.
    pub fn was_killed(&self) -> bool {
        self.signal == Some(9)
    }

    /// The standard output as JSON: the summary of a run, or what a component is.
    ///
    /// # Panics
    /// When it is something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in {}", self.stdout))
    }

    /// A number of the summary: `count("operators", "clean", "rejected")`.
    ///
    /// # Panics
    /// When there is no such number.
    #[track_caller]
    pub fn count(&self, section: &str, id: &str, what: &str) -> u64 {
        let summary = self.json();
        let of_id = summary[section].as_array().and_then(|all| all.iter().find(|one| one["id"] == id));
        let count = of_id.and_then(|one| one[what].as_u64());
        count.unwrap_or_else(|| panic!("no `{what}` of `{id}` in `{section}` of {summary:#}"))
    }
}
