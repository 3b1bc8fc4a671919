use tidemill_flow::schema::Schema;

use super::*;
use crate::plugin::{Description, Output, World, small};
use crate::service::RefusalKind;

fn store(folder: &Path) -> Components {
    let compiler = Compiler::new(None, folder.join("no-cache"));
    Components::open(folder, small::RUNTIME.clone(), compiler).unwrap()
}

/// A transform of this version; the text is somewhere in its data.
fn component(text: &str, version: &str) -> Vec<u8> {
    let about = small::description(version, small::fields("v: text"), Output::Same, Schema::default());
    small::component(World::Transform, &Description { name: text.to_owned(), ..about })
}

fn files(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_component_is_kept_once_with_everybody_who_brought_it() {
    let folder = tempfile::tempdir().unwrap();
    let components = store(folder.path());
    let (one, two) = (component("shout", "1.0.0"), component("shout", "2.0.0"));
    let digest = digest(&one);
    let info = components.upload(one.clone(), "a.wasm", "ann", 5).await.unwrap();
    components.upload(two, "c.wasm", "cyd", 7).await.unwrap();
    let again = components.upload(one.clone(), "b.wasm", "bob", 9).await.unwrap();
    assert_eq!(
        (info.world.as_str(), info.name.as_str(), info.version.as_str()),
        ("transform-operator", "shout", "1.0.0")
    );
    assert_eq!((info.digest.as_str(), info.bytes, info.uploads.len()), (&*digest, one.len() as u64, 1));
    let upload = |at_ms, by: &str, file: &str| Upload { at_ms, by: by.to_owned(), file: file.to_owned() };
    assert_eq!(again.uploads, [upload(5, "ann", "a.wasm"), upload(9, "bob", "b.wasm")]);
    assert_eq!(files(folder.path()).len(), 4, "two components with what is known of them, and nothing else");
    // Another life of the host finds the same.
    let components = store(folder.path());
    assert_eq!(components.info(&digest).unwrap(), again);
    let versions: Vec<String> = components.list().unwrap().into_iter().map(|c| c.version).collect();
    assert_eq!(versions, ["1.0.0", "2.0.0"]);
    assert_eq!(components.plugin(&digest).await.unwrap().digest(), digest);
}

#[tokio::test]
async fn uploads_of_one_component_that_come_together_all_count() {
    let folder = tempfile::tempdir().unwrap();
    let components = store(folder.path());
    let bytes = component("together", "1.0.0");
    let mut uploads = tokio::task::JoinSet::new();
    for n in 0..UPLOADS_MAX as u64 + 20 {
        let (components, bytes) = (components.clone(), bytes.clone());
        uploads.spawn(async move { components.upload(bytes, "a.wasm", "ann", n).await.unwrap() });
    }
    uploads.join_all().await;
    let info = components.info(&digest(&bytes)).unwrap();
    assert_eq!(info.uploads.len(), UPLOADS_MAX, "the first are forgotten");
    assert_eq!(files(folder.path()).len(), 2);
}

#[tokio::test]
async fn nothing_is_kept_of_what_is_no_operator() {
    let folder = tempfile::tempdir().unwrap();
    let components = store(folder.path());
    let mut named = component("fields", "1.0.0");
    let at = named.windows(6).position(|w| w == b"fields").unwrap();
    named[at] = 0xff;
    let cases: [(Vec<u8>, &str); 4] = [
        (b"hello".to_vec(), "x.wasm can't be used as an operator: it isn't a WebAssembly file"),
        (wat::parse_str("(module)").unwrap(), "it is a core module, not a component"),
        (wat::parse_str("(component)").unwrap(), "it exports nothing, but an operator exports"),
        (named, "it failed to describe itself: trapped: "),
    ];
    for (bytes, why) in cases {
        let refusal = components.upload(bytes, "x.wasm", "ann", 1).await.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Invalid, "{refusal}");
        assert!(refusal.message.contains(why), "{refusal}");
        assert_eq!(files(folder.path()), [""; 0]);
    }
}

#[tokio::test]
async fn a_damaged_component_is_refused_until_it_is_uploaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = component("damaged", "1.0.0");
    let digest = store(folder.path()).upload(bytes.clone(), "a.wasm", "ann", 1).await.unwrap().digest;
    let path = folder.path().join(format!("{digest}.wasm"));
    fs::write(&path, component("damaged", "1.0.1")).unwrap();
    let components = store(folder.path());
    let refusal = components.plugin(&digest).await.err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::Failed);
    let told = format!("{} is damaged: the SHA-256 of its content is ", path.display());
    assert!(refusal.message.starts_with(&told), "{refusal}");
    components.upload(bytes, "a.wasm", "ann", 2).await.unwrap();
    assert_eq!(store(folder.path()).plugin(&digest).await.unwrap().digest(), digest);
}

#[tokio::test]
async fn a_digest_leads_nowhere_but_into_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let components = store(folder.path());
    for name in ["", "../secret", "A".repeat(64).as_str(), "a".repeat(63).as_str()] {
        let refusal = components.info(name).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Invalid, "{refusal}");
        assert_eq!(components.plugin(name).await.err().unwrap().kind, RefusalKind::Invalid);
    }
    let refusal = components.plugin(&"a".repeat(64)).await.err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::NotFound, "{refusal}");
    assert_eq!(components.info(&"a".repeat(64)).unwrap_err().kind, RefusalKind::NotFound);
}

#[tokio::test]
async fn what_a_killed_host_was_writing_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".half-0"), "half").unwrap();
    let components = store(folder.path());
    assert_eq!(files(folder.path()), [""; 0]);
    components.upload(component("after", "1.0.0"), "a.wasm", "ann", 1).await.unwrap();
}

#[test]
fn what_was_compiled_apart_is_what_the_runtime_looks_for() {
    let cache = tempfile::tempdir().unwrap();
    let runtime = Runtime::new(cache.path()).unwrap();
    let bytes = component("apart", "1.0.0");
    let digest = digest(&bytes);
    assert!(!runtime.has_compiled(&digest));
    crate::plugin::compile(cache.path(), &bytes).unwrap();
    assert!(runtime.has_compiled(&digest));
    let artifact = || {
        let mut files = fs::read_dir(cache.path()).unwrap().map(|f| f.unwrap());
        let file = files.find(|f| f.file_name().to_string_lossy().starts_with(&digest)).unwrap();
        (file.file_name(), file.metadata().unwrap().modified().unwrap())
    };
    let before = artifact();
    let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(executor.block_on(runtime.load(&bytes)).unwrap().description().name, "apart");
    assert_eq!(artifact(), before, "it isn't written anew");
}

/// What is said of a component where the program that compiles is this script.
async fn compiled_by(script: &str) -> (RefusalKind, String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    // Written by another process: while this one has it open no thread of it may start it.
    let making = format!("printf '%s\\n' '#!/bin/sh' '{script}' > program && chmod +x program");
    let mut made = std::process::Command::new("sh");
    assert!(made.arg("-c").arg(making).current_dir(folder.path()).status().unwrap().success());
    let compiler = Compiler {
        seconds_max: 1,
        memory_bytes_max: 96 << 20,
        ..Compiler::new(Some(program), folder.path().join("cache"))
    };
    let kept = folder.path().join("kept");
    let components = Components::open(&kept, small::RUNTIME.clone(), compiler).unwrap();
    let refusal = components.upload(component("script", "1.0.0"), "a.wasm", "ann", 1).await.unwrap_err();
    (refusal.kind, refusal.message, files(&kept))
}

#[tokio::test]
async fn a_compiler_that_takes_too_much_is_stopped_and_nothing_is_kept() {
    let whose = "a.wasm can't be used as an operator: ";
    for (script, kind, why) in [
        ("exec sleep 60", RefusalKind::Invalid, "compiling it took more than 1 s"),
        ("kill -XCPU $$", RefusalKind::Invalid, "compiling it took more than 1 s"),
        (
            "echo memory allocation of 9 bytes failed >&2; kill -ABRT $$",
            RefusalKind::Invalid,
            "compiling it needed more than 96 MiB of memory",
        ),
        ("echo tidemill: it is no good >&2; exit 2", RefusalKind::Invalid, "it is no good"),
        ("exit 0", RefusalKind::Failed, "compiles for another version of the host than this one"),
        ("echo oh >&2; exit 9", RefusalKind::Failed, "the compiler ended with exit status: 9: oh"),
        (
            "yes | head -c 1000000 >&2; kill -KILL $$",
            RefusalKind::Failed,
            "the compiler ended with signal: 9",
        ),
    ] {
        let begun = std::time::Instant::now();
        let (found, message, files) = compiled_by(script).await;
        assert!(begun.elapsed().as_secs() < 20, "{script}");
        assert!(found == kind && message.starts_with(whose) && message.contains(why), "{script}: {message}");
        assert_eq!(files, [""; 0], "{script}");
    }
}
