//! Where things are, and how other programs are run.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Instant;

use crate::Result;

/// How much the compiler optimizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// The repository, and the command's beginning.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    begin: Instant,
}

impl Workspace {
    /// The workspace that this program belongs to.
    pub(crate) fn find() -> Result<Self> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .ok_or("CARGO_MANIFEST_DIR is not set; start this program as `cargo xtask COMMAND`")?;
        let root = Path::new(&package).parent().ok_or("the package xtask is in no workspace")?.to_owned();
        Ok(Self { root, begin: Instant::now() })
    }

    /// Tells what comes next.
    pub(crate) fn say(&self, step: impl Display) {
        eprintln!("[{:6.1} s] {step}", self.begin.elapsed().as_secs_f64());
    }

    /// The cargo that started this program, in the workspace's root.
    pub(crate) fn cargo<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.command(std::env::var_os("CARGO").unwrap_or("cargo".into()), arguments)
    }

    /// A program in the workspace's root.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// The folder that cargo builds into, wherever environment and configuration put it.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        let metadata = output(&mut self.cargo(["metadata", "--format-version=1", "--no-deps"]))?;
        let json = String::from_utf8_lossy(&metadata.stdout);
        json_text(&json, "target_directory")
            .map(PathBuf::from)
            .ok_or_else(|| "`cargo metadata` names no target_directory; does it work by itself?".to_owned())
    }

    /// Builds the host; the path of its binary.
    pub(crate) fn build_host(&self, profile: Profile) -> Result<PathBuf> {
        let (flag, folder) = match profile {
            Profile::Dev => (None, "debug"),
            Profile::Release => (Some("--release"), "release"),
        };
        self.say(format_args!("building the host ({folder})"));
        let arguments = ["build", "--package", "tidemill", "--bin", "tidemill"];
        succeed(&mut self.cargo(arguments.into_iter().chain(flag)))?;
        Ok(self.target()?.join(folder).join(format!("tidemill{}", std::env::consts::EXE_SUFFIX)))
    }
}

/// Runs a program to its end, with our input and output.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().map_err(|error| cannot_start(command, &error))
}

/// Runs a program that has to succeed, with our input and output.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    match status(command)? {
        status if status.success() => Ok(()),
        status => Err(format!("`{}` failed ({status}); its own messages are above", shown(command))),
    }
}

/// Runs a program and takes what it writes, whether it succeeds or not.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command.output().map_err(|error| cannot_start(command, &error))
}

pub(crate) fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("cannot start `{}`: {error}", shown(command))
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The first text value of this name in a JSON document, whose escapes can only be those of a path.
fn json_text(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    let mut text = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_from_json() {
        let json = r#"{"a":1,"target_directory":"C:\\x\\\"y\"","b":"z"}"#;
        assert_eq!(json_text(json, "target_directory").as_deref(), Some(r#"C:\x\"y""#));
        assert_eq!(json_text(json, "b").as_deref(), Some("z"));
        assert_eq!(json_text(json, "c"), None);
        assert_eq!(json_text(r#"{"cut":"of"#, "cut"), None);
    }
}
