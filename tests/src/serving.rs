//! A host that serves, in a folder of a test.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::folder::with_components;
use crate::program::command;
use crate::{Ended, Folder, Running};

/// It is ready, or has ended, long before.
const READY_MAX: Duration = Duration::from_secs(30);

/// A host with its data in the folder `data` of a test's folder.
pub struct Host<'f> {
    folder: &'f Folder,
    running: Option<Running>,
}

impl<'f> Host<'f> {
    /// A host that serves.
    ///
    /// # Panics
    /// When it doesn't come up.
    pub fn start(folder: &'f Folder) -> Self {
        Self::start_with(folder, "")
    }

    /// A host with these failpoints: it may have been killed by one before it is asked anything.
    ///
    /// # Panics
    /// When it neither comes up nor is killed.
    pub fn start_with(folder: &'f Folder, failpoints: &str) -> Self {
        let address = folder.path("data/address");
        // That of a host that was killed.
        let _ = std::fs::remove_file(&address);
        let mut serve = command(&folder.path(""));
        serve.args(["--data", "data", "serve", "--listen", "127.0.0.1:0"]);
        let mut running = Running::start(serve.env("TIDEMILL_FAILPOINTS", failpoints), b"");
        let begun = Instant::now();
        while !address.exists() && !running.has_ended() {
            assert!(begun.elapsed() < READY_MAX, "the host isn't ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { folder, running: Some(running) }
    }

    /// Runs a command of the program against it, to its end.
    pub fn tell(&self, arguments: &[&str]) -> Ended {
        let mut asked = command(&self.folder.path(""));
        Running::start(asked.args(["--data", "data"]).args(arguments), b"").wait()
    }

    /// What a command answers as JSON.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Value {
        self.tell(&[arguments, &["--json"]].concat()).well().json()
    }

    /// Deploys a pipeline, in whose text `@count` stands for the component of the package `count`.
    pub fn apply(&self, pipeline: &str, arguments: &[&str]) -> Ended {
        self.folder.write("pipeline.toml", with_components(pipeline));
        self.tell(&[&["apply", "pipeline.toml", "--wait"], arguments].concat())
    }

    /// The state of a pipeline.
    #[track_caller]
    pub fn state(&self, pipeline: &str) -> String {
        self.ask(&["status", pipeline])["state"].as_str().expect("a state").to_owned()
    }

    /// Waits until a pipeline is in a state.
    ///
    /// # Panics
    /// When that takes too long.
    #[track_caller]
    pub fn wait_for(&self, pipeline: &str, state: &str) {
        self.wait_until(pipeline, |status| status["state"] == state);
    }

    /// Waits until a pipeline's status is as it should be.
    ///
    /// # Panics
    /// When that takes too long.
    #[track_caller]
    pub fn wait_until(&self, pipeline: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.ask(&["status", pipeline]);
            if is_right(&status) {
                return status;
            }
            if begun.elapsed() > READY_MAX {
                let logs = self.tell(&["logs", pipeline]).stdout;
                panic!("it doesn't come to that: {status:#}\n{logs}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it in order.
    ///
    /// # Panics
    /// When it doesn't end well.
    pub fn stop(mut self) -> Ended {
        let running = self.running.take().expect("it runs");
        running.interrupt();
        running.wait().well()
    }

    /// Stops it as a supervisor of services does.
    ///
    /// # Panics
    /// When it isn't there any more.
    pub fn terminate(mut self) -> Ended {
        let running = self.running.take().expect("it runs");
        running.terminate();
        running.wait()
    }

    /// Kills it.
    pub fn kill(mut self) {
        let mut running = self.running.take().expect("it runs");
        running.kill();
        running.wait();
    }

    /// Waits until a failpoint has killed it; says whether that came.
    pub fn wait_for_death(mut self) -> bool {
        let mut running = self.running.take().expect("it runs");
        let begun = Instant::now();
        while !running.has_ended() && begun.elapsed() < READY_MAX {
            std::thread::sleep(Duration::from_millis(5));
        }
        let has_died = running.has_ended();
        running.kill();
        running.wait().was_killed() && has_died
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            running.kill();
        }
    }
}
