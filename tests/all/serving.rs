//! The host as a service, and how commands find it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tidemill_tests::{Ended, Folder, Host, Running, command};

/// Runs a command in a folder, against the host with the folder `data`.
fn ask(folder: &Folder, arguments: &[&str]) -> Ended {
    ask_with(folder, arguments, ("TIDEMILL_DATA", "data"))
}

/// Runs a command so, with this variable.
fn ask_with(folder: &Folder, arguments: &[&str], (name, value): (&str, &str)) -> Ended {
    let mut command = command(&folder.path(""));
    Running::start(command.env("TIDEMILL_DATA", "data").env(name, value).args(arguments), b"").wait()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_host_serves_until_it_is_told_to_stop() {
    let folder = Folder::new();
    let host = Host::start(&folder);
    let (token, address) = (folder.read("data/token"), folder.read("data/address"));
    assert_eq!((mode(&folder.path("data/token")), mode(&folder.path("data"))), (0o600, 0o700));
    assert_eq!(token.trim().len(), 64);
    assert_eq!(host.tell(&["list", "--json"]).well().stdout, "[]\n");
    assert!(host.tell(&["list"]).well().stdout.contains("there are no pipelines yet"));
    assert!(host.tell(&["components"]).well().stdout.contains("there are no components yet"));
    let ended = host.terminate().with(0);
    assert!(ended.stdout.starts_with(&format!("tidemill serves at {}", address.trim())), "{}", ended.stdout);
    assert_eq!(ended.stdout.lines().count(), 1);
    assert!(!folder.has("data/address"), "the address stays behind");
    assert!(
        !ended.stderr.contains(token.trim()) && !ended.stdout.contains(token.trim()),
        "the token is shown"
    );
}

#[test]
fn the_token_stays_the_same_from_life_to_life() {
    let folder = Folder::new();
    Host::start(&folder).stop();
    let token = folder.read("data/token");
    let host = Host::start(&folder);
    assert_eq!(folder.read("data/token"), token);
    ask(&folder, &["list"]).well();
    // Another one with the same data is refused, and changes nothing.
    let second = ask(&folder, &["serve", "--listen", "127.0.0.1:0"]).with(2);
    assert!(second.stderr.contains("another host works with"), "{}", second.stderr);
    ask(&folder, &["list"]).well();
    host.stop();
}

#[test]
fn who_is_not_let_in_or_finds_nobody_is_told_so() {
    let folder = Folder::new();
    let host = Host::start(&folder);
    let address = folder.read("data/address").trim().to_owned();
    let wrong = ask_with(&folder, &["list"], ("TIDEMILL_TOKEN", "wrong")).with(3);
    assert!(wrong.stderr.contains("the token isn't the one of this host"), "{}", wrong.stderr);
    let missing = ask(&folder, &["status", "orders"]).with(2);
    assert!(missing.stderr.contains("orders"), "{}", missing.stderr);
    assert_eq!(ask_with(&folder, &["list", "--json"], ("TIDEMILL_HOST", &address)).well().stdout, "[]\n");
    host.stop();
    let nobody = ask(&folder, &["list"]).with(3);
    assert!(nobody.stderr.contains("tidemill serve"), "{}", nobody.stderr);
    let gone = ask(&folder, &["list", "--host", &address]).with(3);
    assert!(gone.stderr.contains("can't be reached"), "{}", gone.stderr);
}

#[test]
fn what_is_asked_wrongly_is_not_sent() {
    let folder = Folder::new();
    for arguments in [
        &["status", "../orders"][..],
        &["stop", "orders", "--drain", "--savepoint", "a"],
        &["swap", "orders", "count"],
        &["serve", "--listen", "0.0.0.0:7070"],
        &["list", "--host", "http://mill.example.org"],
    ] {
        ask(&folder, arguments).with(2);
    }
    assert!(!folder.has("data"), "a refusal has made the data folder");
}

#[test]
fn a_token_that_others_can_read_is_refused() {
    let folder = Folder::with(&[("data/token", "0123456789abcdef\n")]);
    fs::set_permissions(folder.path("data/token"), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = ask(&folder, &["serve", "--listen", "127.0.0.1:0"]).with(2);
    assert!(ended.stderr.contains("chmod 600"), "{}", ended.stderr);
}

#[test]
fn completions_are_a_script_that_the_shell_reads() {
    let folder = Folder::new();
    let script = ask(&folder, &["completions", "bash"]).well().stdout;
    for verb in ["serve", "apply", "rollback", "completions"] {
        assert!(script.contains(verb), "{verb} is missing");
    }
    folder.write("tidemill.bash", &script);
    let read = Command::new("bash").arg("-n").arg(folder.path("tidemill.bash")).stdin(Stdio::null()).status();
    assert!(read.unwrap().success(), "bash can't read it");
    for shell in ["zsh", "fish"] {
        assert!(!ask(&folder, &["completions", shell]).well().stdout.is_empty(), "{shell}");
    }
}
