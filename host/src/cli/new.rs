//! `tidemill new`: a project that builds, tests and runs as it stands, to be changed from there.
//!
//! The files are templates beside this one (`new/`), with `{{name}}` and the like in place of what differs.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Starts a project for an operator.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct NewArgs {
    /// The operator's name; the project's folder is called so too
    pub(super) name: String,
    /// What the operator does with rows
    #[arg(long, value_enum, default_value_t)]
    pub(super) kind: Kind,
    /// Where tidemill-sdk lies; otherwise the one this program was built with
    #[arg(long, value_name = "PATH")]
    pub(super) sdk: Option<PathBuf>,
}

/// What an operator does with rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Makes rows of rows, and remembers nothing
    #[default]
    Transform,
    /// Folds the rows of a group into one
    Aggregate,
    /// Sees all the rows of a window at once
    Window,
    /// Makes rows of pairs, one of each input
    Join,
}

/// Why there is no project.
#[derive(Debug)]
pub(super) enum Error {
    /// Not a name for an operator.
    Name(String),
    /// Something stands in its place.
    Exists(PathBuf),
    /// `--sdk` points at something else.
    NoSdk(PathBuf),
    /// A file could not be written.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "`{name}` cannot be an operator's name; write 1 to 63 of `a`-`z`, `0`-`9` and `-`, with a letter first"
            ),
            Self::Exists(path) => {
                write!(f, "{} exists already; choose another name, or remove it", path.display())
            }
            Self::NoSdk(path) => {
                write!(
                    f,
                    "{} holds no tidemill-sdk; give `--sdk` the folder with its Cargo.toml",
                    path.display()
                )
            }
            Self::Io { path, error } => write!(f, "cannot write {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Name(_) | Self::Exists(_) | Self::NoSdk(_) => None,
        }
    }
}

/// Writes the project into a new folder of `parent`, and returns that folder.
///
/// # Errors
/// If the name is not one for an operator, if the folder exists, or if it cannot be written.
pub(super) fn run(args: &NewArgs, parent: &Path) -> Result<PathBuf, Error> {
    check_name(&args.name)?;
    let sdk = sdk_dependency(args.sdk.as_deref())?;
    let project = parent.join(&args.name);
    make(&project.join("src"), &project)?;
    make_folder(&project.join("tests"))?;
    let library = args.name.replace('-', "_");
    for (file, template) in templates(args.kind) {
        let text = template
            .replace("{{name}}", &args.name)
            .replace("{{library}}", &library)
            .replace("{{sdk}}", &sdk);
        let path = project.join(file);
        fs::write(&path, text).map_err(|error| Error::Io { path, error })?;
    }
    Ok(project)
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good =
        name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(allowed);
    // Cargo would refuse these only when the project is built.
    let taken = ["test", "core", "std", "alloc", "proc-macro"].contains(&name) || is_keyword(name);
    if good && !taken { Ok(()) } else { Err(Error::Name(name.to_owned())) }
}

/// The words of Rust that fit the rule for names: a library cannot be called so.
fn is_keyword(name: &str) -> bool {
    const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern \
        false final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static \
        struct super trait true try type typeof unsafe unsized use virtual where while yield";
    KEYWORDS.split_whitespace().any(|keyword| keyword == name)
}

/// What stands behind `tidemill-sdk = ` in the project's manifest: the SDK next to the source that this
/// program was built from, if that is still there, or else the release of the same version.
fn sdk_dependency(asked: Option<&Path>) -> Result<String, Error> {
    let beside_source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk"));
    let sdk = match asked {
        Some(path) if !path.join("Cargo.toml").exists() => return Err(Error::NoSdk(path.to_owned())),
        Some(path) => Some(path),
        None => Some(beside_source).filter(|path| path.join("Cargo.toml").exists()),
    };
    let Some(sdk) = sdk else { return Ok(format!("\"{}\"", env!("CARGO_PKG_VERSION"))) };
    let path = sdk.canonicalize().map_err(|error| Error::Io { path: sdk.to_owned(), error })?;
    Ok(format!("{{ path = {:?} }}", path.display().to_string()))
}

/// The project's own folder must be new; the ones above it need not be.
fn make(folder: &Path, project: &Path) -> Result<(), Error> {
    if project.symlink_metadata().is_ok() {
        return Err(Error::Exists(project.to_owned()));
    }
    make_folder(folder)
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|error| Error::Io { path: folder.to_owned(), error })
}

/// Each file of a project and its text.
fn templates(kind: Kind) -> Vec<(&'static str, &'static str)> {
    let (library, pipeline, script) = match kind {
        Kind::Transform => (
            include_str!("new/transform.rs.txt"),
            include_str!("new/transform.toml.txt"),
            include_str!("new/transform.test.toml.txt"),
        ),
        Kind::Aggregate => (
            include_str!("new/aggregate.rs.txt"),
            include_str!("new/aggregate.toml.txt"),
            include_str!("new/aggregate.test.toml.txt"),
        ),
        Kind::Window => (
            include_str!("new/window.rs.txt"),
            include_str!("new/window.toml.txt"),
            include_str!("new/window.test.toml.txt"),
        ),
        Kind::Join => (
            include_str!("new/join.rs.txt"),
            include_str!("new/join.toml.txt"),
            include_str!("new/join.test.toml.txt"),
        ),
    };
    let mut files = vec![
        ("Cargo.toml", include_str!("new/Cargo.toml.txt")),
        ("src/lib.rs", library),
        ("pipeline.toml", pipeline),
        ("tests/orders.toml", script),
        ("orders.csv", include_str!("new/orders.csv.txt")),
        ("README.md", include_str!("new/README.md.txt")),
        (".gitignore", "/target\n"),
    ];
    if kind == Kind::Join {
        files.push(("deliveries.csv", include_str!("new/deliveries.csv.txt")));
    }
    files
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn a_name_is_what_cargo_and_a_pipeline_both_take() {
        for name in ["a", "my-op", "op2", &"a".repeat(63)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "2op", "-op", "My-op", "my_op", "my op", "../op", "fn", "core", &"a".repeat(64)] {
            assert!(matches!(check_name(name), Err(Error::Name(_))), "{name}");
        }
    }

    #[test]
    fn a_project_is_complete_and_never_overwrites() {
        let parent = tempfile::tempdir().unwrap();
        for &kind in Kind::value_variants() {
            let name = kind.to_possible_value().expect("it can be named").get_name().to_owned();
            let args = NewArgs { name: format!("my-{name}"), kind, sdk: None };
            let project = run(&args, parent.path()).unwrap();
            for (file, _) in templates(kind) {
                let text = fs::read_to_string(project.join(file)).unwrap();
                assert!(!text.contains("{{"), "{file} has an unfilled place:\n{text}");
            }
            assert!(matches!(run(&args, parent.path()), Err(Error::Exists(_))));
        }
    }
}
