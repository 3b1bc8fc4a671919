//! What builds the host's part that is C++, RocksDB: a compiler, and libclang, with which its header is read.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::install;
use crate::Result;
use crate::workspace::{Workspace, output};

/// Where shared libraries are: in these folders, in their subfolders, or one below.
const LIBRARIES: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];
const APPLE_LIBRARIES: [&str; 2] = [
    "/Library/Developer/CommandLineTools/usr/lib",
    "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib",
];

/// Sets up what is missing.
pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    // Visual Studio and LLVM are where only their own programs find them; the build says what it misses.
    if cfg!(windows) {
        return Ok(());
    }
    let missing = missing(workspace);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|part| part.debian).collect();
    let reason = match install(workspace, &packages) {
        Ok(()) if self::missing(workspace).is_empty() => return Ok(()),
        Ok(()) => "no error, but it can't be found".to_owned(),
        Err(reason) => reason,
    };
    let list = |what: fn(&Part) -> &'static str| missing.iter().map(what).collect::<Vec<_>>().join(" ");
    Err(format!(
        "the host can't be built: there is no {}\n  tried apt-get: {reason}\n\
         type one of these, then this command again:\n  \
         sudo apt-get update && sudo apt-get install -y --no-install-recommends {}\n  sudo dnf install {}\n  \
         xcode-select --install\n\
         or, if it is there, say where: {}",
        missing.iter().map(|part| part.name).collect::<Vec<_>>().join(" and no "),
        list(|part| part.debian),
        list(|part| part.fedora),
        list(|part| part.variable),
    ))
}

struct Part {
    name: &'static str,
    debian: &'static str,
    fedora: &'static str,
    variable: &'static str,
}

fn missing(workspace: &Workspace) -> Vec<Part> {
    let mut missing = Vec::new();
    if !has_compiler(workspace) {
        let name = "C++ compiler";
        missing.push(Part { name, debian: "g++", fedora: "gcc-c++", variable: "CXX=/path/to/c++" });
    }
    if !has_libclang(workspace) {
        let variable = "LIBCLANG_PATH=/folder/of/libclang.so";
        missing.push(Part { name: "libclang", debian: "libclang-dev", fedora: "clang-devel", variable });
    }
    missing
}

/// The build asks the same variable, and else for the same name.
fn has_compiler(workspace: &Workspace) -> bool {
    let compiler = env::var("CXX").unwrap_or("c++".to_owned());
    let mut words = compiler.split_whitespace().chain(["--version"]);
    let program = words.next().unwrap_or("c++");
    output(&mut workspace.command(program, words)).is_ok_and(|output| output.status.success())
}

/// Looks as the crate clang-sys does, which loads it during the build.
fn has_libclang(workspace: &Workspace) -> bool {
    if let Some(path) = env::var_os("LIBCLANG_PATH").map(PathBuf::from) {
        return is_libclang(&path) || contains_libclang(&path, 0);
    }
    let config = env::var_os("LLVM_CONFIG_PATH").unwrap_or("llvm-config".into());
    let told = output(&mut workspace.command(config, ["--libdir"]));
    told.is_ok_and(|told| contains_libclang(Path::new(String::from_utf8_lossy(&told.stdout).trim()), 0))
        || APPLE_LIBRARIES.iter().any(|folder| contains_libclang(Path::new(folder), 0))
        || LIBRARIES.iter().any(|folder| contains_libclang(Path::new(folder), 2))
}

fn contains_libclang(folder: &Path, depth: usize) -> bool {
    let entries = || fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries().any(|path| is_libclang(&path))
        || depth > 0 && entries().any(|path| contains_libclang(&path, depth - 1))
}

/// Whether this is the shared library for C, under any version: libclang.so, libclang-14.so.1, libclang.dylib.
fn is_libclang(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let library =
        name.starts_with("libclang.") || name.starts_with("libclang-") && !name.starts_with("libclang-cpp");
    library && (name.contains(".so") || name.ends_with(".dylib")) && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_for_c_is_told_from_its_sisters() {
        let folder = env::temp_dir().join(format!("xtask-libclang-{}", std::process::id()));
        fs::create_dir_all(folder.join("llvm/lib")).unwrap();
        let check = |name: &str, expected| {
            let path = folder.join("llvm/lib").join(name);
            fs::write(&path, "").unwrap();
            assert_eq!(contains_libclang(&folder, 2), expected, "{name}");
            fs::remove_file(path).unwrap();
        };
        for name in ["libclang.so", "libclang-14.so.1", "libclang.so.18.1", "libclang.dylib"] {
            check(name, true);
        }
        for name in ["libclang-cpp.so.14", "libclangBasic.a", "libclang.a", "libclang_rt.asan.so"] {
            check(name, false);
        }
        assert!(!contains_libclang(&folder, 1));
        fs::remove_dir_all(folder).unwrap();
    }
}
