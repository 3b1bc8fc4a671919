//! From an operator's project to its component: cargo compiles, `wit-component` wraps and validates.
//!
//! The profile comes with the call, so that a project need not know how operators are best compiled. What is
//! fresh is cargo's to decide; a component that did not change is not written again.

mod discover;

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

pub use discover::{Missing, TARGET, Toolchain};

/// What to build, and where to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Packages of the project's workspace; none: the project itself.
    pub packages: Vec<String>,
    /// Cargo's folder for this build; otherwise `operators` in the project's target folder.
    pub target_dir: Option<PathBuf>,
    /// Where the components go; otherwise `target/operators` in the project's folder, wherever cargo builds.
    pub output_dir: Option<PathBuf>,
    /// Say nothing but errors.
    pub quiet: bool,
}

/// A component that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// The name of the library: the package's, with `_`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
}

/// Why there is no component.
#[derive(Debug)]
pub enum Error {
    /// There is no compiler.
    Missing(Missing),
    /// Something could not be run, read or written.
    Io {
        /// What was tried, as the end of "cannot".
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// Cargo ended with an error; it has said why.
    Cargo(ExitStatus),
    /// The project has no library of the right kind.
    NoModule,
    /// A module that is not an operator's.
    NoOperator {
        /// The library.
        name: String,
    },
    /// `wit-component` refused a module.
    Encode {
        /// The library.
        name: String,
        /// Its reasons.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::Io { what, error } => write!(f, "cannot {what}: {error}"),
            Self::Cargo(status) => {
                write!(f, "cargo could not build the operator ({status}); see its message above")
            }
            Self::NoModule => write!(
                f,
                "the project built no WebAssembly module; put `crate-type = [\"cdylib\", \"rlib\"]` under `[lib]` in \
                 its Cargo.toml"
            ),
            Self::NoOperator { name } => {
                write!(f, "`{name}` holds no operator; put `#[operator]` before its function or `impl`")
            }
            Self::Encode { name, reason } => write!(f, "cannot make a component of `{name}`: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing(missing) => Some(missing),
            Self::Io { error, .. } => Some(error),
            Self::Cargo(_) | Self::NoModule | Self::NoOperator { .. } | Self::Encode { .. } => None,
        }
    }
}

/// Builds the project in `project`, or packages of its workspace, into components.
///
/// # Errors
/// If there is no compiler for WebAssembly, if cargo fails, or if what it built is no operator.
pub fn build(project: &Path, options: &Options) -> Result<Vec<Component>, Error> {
    let toolchain = Toolchain::find(project).map_err(Error::Missing)?;
    let target_dir = match &options.target_dir {
        Some(target_dir) => target_dir.clone(),
        None => target_of(project)?.join("operators"),
    };
    let mut modules = compile(project, &toolchain, &target_dir, options)?;
    // Cargo names them in the order in which they got ready.
    modules.sort();
    if modules.is_empty() {
        return Err(Error::NoModule);
    }
    let output_dir = options.output_dir.clone().unwrap_or_else(|| project.join("target/operators"));
    let output_dir = &output_dir;
    fs::create_dir_all(output_dir).map_err(io_error(|| format!("make {}", output_dir.display())))?;
    modules.iter().map(|module| wrap(module, output_dir)).collect()
}

/// The target folder that cargo would use for the project.
fn target_of(project: &Path) -> Result<PathBuf, Error> {
    if let Some(target_dir) = std::env::var_os("CARGO_TARGET_DIR") {
        return Ok(target_dir.into());
    }
    let mut locate = cargo();
    locate.current_dir(project).args(["locate-project", "--workspace", "--message-format", "plain"]);
    let located = locate.stderr(Stdio::inherit()).output().map_err(io_error(|| "run cargo".into()))?;
    if !located.status.success() {
        return Err(Error::Cargo(located.status));
    }
    let manifest = PathBuf::from(String::from_utf8_lossy(&located.stdout).trim_end());
    Ok(manifest.with_file_name("target"))
}

/// Compiles, and returns the WebAssembly modules, fresh or not.
fn compile(
    project: &Path,
    toolchain: &Toolchain,
    target_dir: &Path,
    options: &Options,
) -> Result<Vec<PathBuf>, Error> {
    let mut cargo = cargo();
    cargo.current_dir(project).args(["build", "--lib", "--release", "--target", TARGET, "--target-dir"]);
    cargo.arg(std::path::absolute(target_dir).map_err(io_error(|| "find the target folder".into()))?);
    cargo.arg("--message-format=json-render-diagnostics");
    cargo.args(options.quiet.then_some("--quiet"));
    cargo.args(options.packages.iter().flat_map(|package| ["-p", package]));
    toolchain.apply(&mut cargo);
    apply_profile(&mut cargo);
    let mut running = cargo.stdout(Stdio::piped()).spawn().map_err(io_error(|| "run cargo".into()))?;
    let mut modules = Vec::new();
    if let Some(messages) = running.stdout.take() {
        for message in BufReader::new(messages).lines() {
            modules.extend(module_of(&message.map_err(io_error(|| "read cargo's messages".into()))?));
        }
    }
    let status = running.wait().map_err(io_error(|| "wait for cargo".into()))?;
    if status.success() { Ok(modules) } else { Err(Error::Cargo(status)) }
}

/// The cargo that runs us, or else the one in the path.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// How operators are compiled: for speed, as one unit, and with function names, which a trap's backtrace
/// shows.
fn apply_profile(cargo: &mut Command) {
    let settings = [
        ("OPT_LEVEL", "3"),
        ("LTO", "fat"),
        ("CODEGEN_UNITS", "1"),
        ("PANIC", "abort"),
        ("STRIP", "debuginfo"),
    ];
    for (name, value) in settings {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
    }
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "-C target-feature=+simd128");
    // Meant for native code; they would take the flags' place, or wrap the wrong compiler.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(name);
    }
}

/// The module that one of cargo's messages speaks of. The messages are JSON, of which a file's name is all we
/// need.
fn module_of(message: &str) -> Option<PathBuf> {
    let files = message.split_once(r#""filenames":["#)?.1.split_once(']')?.0;
    let module =
        files.split(r#"",""#).map(|file| file.trim_matches('"')).find(|file| file.ends_with(".wasm"))?;
    Some(PathBuf::from(module.replace(r"\\", r"\")))
}

/// Makes a component of a module, and writes it if it is new.
fn wrap(module: &Path, output_dir: &Path) -> Result<Component, Error> {
    let name = module.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let core = fs::read(module).map_err(io_error(|| format!("read {}", module.display())))?;
    let component = encode(&name, &core)?;
    let path = output_dir.join(&name).with_extension("wasm");
    if fs::read(&path).ok().as_ref() != Some(&component) {
        write(&path, &component).map_err(io_error(|| format!("write {}", path.display())))?;
    }
    Ok(Component { name, path, size_bytes: component.len() as u64 })
}

/// Under another name first: whoever reads the component finds the old one or the new one, whole.
fn write(path: &Path, component: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(format!("wasm.{}", std::process::id()));
    fs::write(&unfinished, component)?;
    fs::rename(&unfinished, path)
}

/// Wraps a core module, whose own metadata says which world it is for, and validates the result.
fn encode(name: &str, core: &[u8]) -> Result<Vec<u8>, Error> {
    let refused = |error: &dyn fmt::Debug| Error::Encode { name: name.into(), reason: format!("{error:?}") };
    let encoder = wit_component::ComponentEncoder::default().validate(true);
    let encoded = encoder.module(core).and_then(|mut encoder| encoder.encode());
    let component = encoded.map_err(|error| refused(&error))?;
    match wit_component::decode(&component).map_err(|error| refused(&error))? {
        wit_component::DecodedWasm::Component(resolve, world)
            if !resolve.worlds[world].exports.is_empty() =>
        {
            Ok(component)
        }
        _ => Err(Error::NoOperator { name: name.into() }),
    }
}

fn io_error(what: impl Fn() -> String) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Io { what: what(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_messages_name_the_modules() {
        let cases = [
            (
                r#"{"reason":"compiler-artifact","filenames":["/t/a.wasm","/t/liba.rlib"],"fresh":true}"#,
                Some("/t/a.wasm"),
            ),
            (r#"{"reason":"compiler-artifact","filenames":["/t/liba.rlib"],"fresh":true}"#, None),
            (r#"{"reason":"build-finished","success":true}"#, None),
        ];
        for (message, expected) in cases {
            assert_eq!(module_of(message), expected.map(PathBuf::from), "{message}");
        }
    }
}
