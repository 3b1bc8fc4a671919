//! The folder of a host's data, as far as commands know it: where the host is reached, and the token.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::exit::Exit;

/// 256 bits: nobody guesses that.
const TOKEN_BYTES: usize = 32;

/// Larger files are no addresses and no tokens.
const FILE_BYTES_MAX: usize = 4096;

/// The folder.
#[derive(Debug)]
pub(super) struct DataFolder(PathBuf);

impl DataFolder {
    /// The one that was named, or that of the user.
    pub(super) fn find(named: Option<PathBuf>) -> Result<Self, Exit> {
        let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let of_user = || {
            Some(
                folder("XDG_STATE_HOME")
                    .or_else(|| Some(folder("HOME")?.join(".local/state")))?
                    .join("tidemill"),
            )
        };
        let none = || Exit::usage("there is no HOME to keep the host's data in; name a folder with --data");
        named.or_else(of_user).ok_or_else(none).map(Self)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the folder, for its user alone, unless there is one.
    pub(super) fn make(&self) -> Result<(), Exit> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|e| Exit::failure(format!("cannot make the data folder {}: {e}", self.0.display())))
    }

    /// Where the host is reached that works with the folder.
    pub(super) fn address(&self) -> Result<String, Exit> {
        let path = self.0.join("address");
        match read(&path) {
            Ok(address) => Ok(address),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Exit::unreachable(format!(
                "no host serves {}: start one with `tidemill serve`, or name one with --host or --data",
                self.0.display()
            ))),
            Err(error) => Err(Exit::unreachable(cannot_read(&path, &error))),
        }
    }

    /// The host's token.
    pub(super) fn token(&self) -> Result<String, Exit> {
        let path = self.0.join("token");
        let hint = "; without it, set TIDEMILL_TOKEN";
        read(&path).map_err(|error| Exit::unreachable(cannot_read(&path, &error) + hint))
    }

    /// The token; it is made where there is none.
    pub(super) fn token_or_new(&self) -> Result<String, Exit> {
        let path = self.0.join("token");
        match read(&path) {
            Ok(token) => {
                check_private(&path)?;
                Ok(token)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = new_token().and_then(|token| self.put("token", &token).map(|()| token));
                made.map_err(|e| Exit::failure(format!("cannot make the token {}: {e}", path.display())))
            }
            Err(error) => Err(Exit::failure(cannot_read(&path, &error))),
        }
    }

    /// Says where the host is reached, as long as what is returned lives.
    pub(super) fn announce(&self, address: &str) -> Result<Announced, Exit> {
        let path = self.0.join("address");
        let put = self.put("address", address);
        put.map_err(|e| Exit::failure(format!("cannot write {}: {e}", path.display())))?;
        Ok(Announced(path))
    }

    /// Writes a file of one line that only its user can read. Nobody ever sees half of it.
    fn put(&self, name: &str, line: &str) -> io::Result<()> {
        let new = self.0.join(format!("{name}.new"));
        // One that a crash left.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.0.join(name))
    }
}

/// That it is known where a host is reached.
pub(super) struct Announced(PathBuf);

impl Drop for Announced {
    fn drop(&mut self) {
        // If it stays, the next host overwrites it, and commands can't reach anybody there until then.
        let _ = fs::remove_file(&self.0);
    }
}

/// A file of one line.
fn read(path: &Path) -> io::Result<String> {
    let bytes = super::read(path, FILE_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    match text.trim() {
        line if line.is_empty() || line.len() > FILE_BYTES_MAX || line.contains(char::is_control) => {
            Err(io::Error::new(ErrorKind::InvalidData, "it isn't a line of text"))
        }
        line => Ok(line.to_owned()),
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

fn check_private(path: &Path) -> Result<(), Exit> {
    // It was read a moment ago; if it is gone by now, nobody reads it.
    let mode = fs::metadata(path).map_or(0, |about| about.permissions().mode());
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(Exit::usage(format!(
            "others can read the token {0} (mode {1:o}); remove it, and the next start makes a new one, or run: chmod 600 {0}",
            path.display(),
            mode & 0o777
        ))),
    }
}

fn new_token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_made_once_and_for_its_user() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::find(Some(folder.path().join("a/data"))).unwrap();
        data.make().unwrap();
        let token = data.token_or_new().unwrap();
        assert_eq!(
            (token.len(), data.token_or_new().unwrap(), data.token().unwrap()),
            (64, token.clone(), token)
        );
        let mode = |name: &str| fs::metadata(data.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("token"), mode("")), (0o600, 0o700));
        fs::set_permissions(data.path().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(data.token_or_new().is_err());
    }

    #[test]
    fn the_address_is_known_as_long_as_the_host_serves() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::find(Some(folder.path().to_owned())).unwrap();
        assert!(data.address().is_err());
        let announced = data.announce("http://127.0.0.1:7070").unwrap();
        assert_eq!(data.address().unwrap(), "http://127.0.0.1:7070");
        drop(announced);
        assert!(data.address().is_err());
    }

    #[test]
    fn what_is_no_line_is_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::find(Some(folder.path().to_owned())).unwrap();
        for wrong in ["", "\n", "a\nb", "a\x1bb", &"a".repeat(5000)] {
            fs::write(data.path().join("token"), wrong).unwrap();
            assert!(data.token().is_err(), "{wrong:?}");
        }
    }
}
