//! A folder for one test, with the pipeline that it runs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Running, command};
use crate::{Ended, component};

/// A folder that goes when the test does.
pub struct Folder(TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// An empty folder.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder can be made"))
    }

    /// A folder with these files.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self::new();
        files.iter().for_each(|(name, content)| folder.write(name, content));
        folder
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Whether it has this file.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Writes a file.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file's folder")).expect("a folder can be made");
        fs::write(&path, content).unwrap_or_else(|e| panic!("cannot write {name}: {e}"));
    }

    /// A file as text.
    ///
    /// # Panics
    /// When it can't be read.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("cannot read {name}: {e}"))
    }

    /// The lines of a file, sorted: rows from several tasks come in any order.
    #[track_caller]
    pub fn rows(&self, name: &str) -> Vec<String> {
        sorted(self.read(name).lines())
    }

    /// The lines of a file of JSON lines, in their order.
    ///
    /// # Panics
    /// When one isn't JSON.
    #[track_caller]
    pub fn json_lines(&self, name: &str) -> Vec<Value> {
        let text = self.read(name);
        text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e} in {l}"))).collect()
    }

    /// Runs a pipeline to its end. In its text `@count` stands for the component of the package `count`.
    pub fn run(&self, pipeline: &str) -> Ended {
        self.run_with(pipeline, &["--json"])
    }

    /// Runs a pipeline to its end, with these arguments.
    pub fn run_with(&self, pipeline: &str, arguments: &[&str]) -> Ended {
        self.start(pipeline, arguments, b"").wait()
    }

    /// Runs a pipeline to its end, at so many tasks per stage and with these failpoints.
    pub fn live(&self, pipeline: &str, parallelism: usize, failpoints: &str) -> Ended {
        let mut command = self.command(pipeline);
        command.args(["--json", "--parallelism", &parallelism.to_string()]);
        Running::start(command.env("TIDEMILL_FAILPOINTS", failpoints), b"").wait()
    }

    /// The names of the files in a folder that was made here, sorted; none if there is no such folder.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let found = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = found.map(|f| f.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }

    /// Starts a pipeline with these arguments and this standard input.
    pub fn start(&self, pipeline: &str, arguments: &[&str], input: &[u8]) -> Running {
        Running::start(self.command(pipeline).args(arguments), input)
    }

    /// The program, about to run a pipeline.
    pub fn command(&self, pipeline: &str) -> Command {
        self.write("pipeline.toml", with_components(pipeline));
        let mut command = command(self.0.path());
        command.args(["run", "pipeline.toml"]);
        command
    }
}

/// The pieces, sorted, with those that occur twice.
pub fn sorted<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut pieces: Vec<String> = pieces.into_iter().map(str::to_owned).collect();
    pieces.sort_unstable();
    pieces
}

pub(crate) fn with_components(pipeline: &str) -> String {
    let mut parts = pipeline.split("\"@");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (package, rest) = part.split_once('"').expect("a package's name ends with a quote");
        text += &format!("{:?}{rest}", component(package));
    }
    text
}
