//! From a file's bytes to a [`Plugin`]: recognized, checked against the contract, compiled, described.
//!
//! The checks come before the compiler, as they cost less than a millisecond and their messages can say
//! what to do.

use std::sync::{Arc, LazyLock};

use sha2::{Digest, Sha256};
use tidemill_flow::schema::Schema;
use wasmtime::Store;
use wit_component::DecodedWasm;
use wit_parser::{Resolve, WorldId, WorldItem, WorldKey};

use super::bindings::{
    aggregate::AggregateOperatorPre, join::JoinOperatorPre, migrating::MigratingPre,
    process::ProcessOperatorPre, transform::TransformOperatorPre, window::WindowOperatorPre,
};
use super::description::{self, Description, Output, Sides};
use super::engine::Runtime;
use super::failure::LoadError;
use super::guest::{Guest, Limits};
use super::instance;
use super::migration;

/// Larger files are refused before they are looked at. A Python operator has 18 MiB.
pub const COMPONENT_BYTES_MAX: usize = 256 << 20;

/// The interface of components that migrate state.
const MIGRATION: &str = "migration";

pub(super) static CONTRACT: LazyLock<(Resolve, wit_parser::PackageId)> = LazyLock::new(|| {
    let mut resolve = Resolve::default();
    let package = resolve
        .push_str("operator.wit", include_str!("../../../wit/operator.wit"))
        .expect("the contract parses, as the bindings were generated from it");
    (resolve, package)
});

/// The kind of operator that a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Each row becomes no row, one or several.
    Transform,
    /// Rows are folded into an accumulator for each group.
    Aggregate,
    /// All rows of a window at once.
    Window,
    /// Pairs of rows.
    Join,
    /// Rows in order, with state and timers.
    Process,
}

impl World {
    const ALL: [World; 5] = [Self::Transform, Self::Aggregate, Self::Window, Self::Join, Self::Process];

    /// The world's name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transform => "transform-operator",
            Self::Aggregate => "aggregate-operator",
            Self::Window => "window-operator",
            Self::Join => "join-operator",
            Self::Process => "process-operator",
        }
    }

    /// The interface that a component of this world exports beside `lifecycle`.
    fn interface(self) -> &'static str {
        match self {
            Self::Transform => "transform",
            Self::Aggregate => "aggregate",
            Self::Window => "window",
            Self::Join => "join",
            Self::Process => "keyed-process",
        }
    }

    /// The name of the world of those that also migrate state, if there is one.
    fn migrating(self) -> Option<&'static str> {
        match self {
            Self::Aggregate => Some("migrating-aggregate-operator"),
            Self::Process => Some("migrating-process-operator"),
            Self::Transform | Self::Window | Self::Join => None,
        }
    }

    pub(super) fn id(self) -> WorldId {
        let (resolve, package) = &*CONTRACT;
        resolve.select_world(&[*package], Some(self.name())).expect("the contract has this world")
    }
}

/// A component that can be run as an operator. Cheap to clone.
#[derive(Clone)]
pub struct Plugin {
    runtime: Runtime,
    pub(super) code: Code,
    /// Where it migrates state.
    pub(super) migrating: Option<MigratingPre<Guest>>,
    /// Whether nobody hears what its instances say through telemetry.
    is_quiet: bool,
    about: Arc<About>,
}

struct About {
    world: World,
    description: Description,
    earlier: Vec<Schema>,
    imports: Vec<String>,
    digest: String,
    size_bytes: usize,
}

#[derive(Clone)]
pub(super) enum Code {
    Transform(TransformOperatorPre<Guest>),
    Aggregate(AggregateOperatorPre<Guest>),
    Window(WindowOperatorPre<Guest>),
    Join(JoinOperatorPre<Guest>),
    Process(ProcessOperatorPre<Guest>),
}

impl Plugin {
    /// The world that it implements.
    pub fn world(&self) -> World {
        self.about.world
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.about.description
    }

    /// The same, for instances that repeat what others have said.
    pub(super) fn quiet(&self) -> Self {
        Self { is_quiet: true, ..self.clone() }
    }

    pub(super) fn store(&self, operator: &str, limits: Limits) -> Store<Guest> {
        let mut store = self.runtime.store(operator, limits);
        if self.is_quiet {
            store.data_mut().silence();
        }
        store
    }

    pub(super) fn earlier(&self) -> &[Schema] {
        &self.about.earlier
    }

    /// The interfaces that it imports.
    pub fn imports(&self) -> &[String] {
        &self.about.imports
    }

    /// The SHA-256 of its file, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.about.digest
    }

    /// The size of its file, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.about.size_bytes
    }
}

impl Runtime {
    /// Loads a component from the bytes of a `.wasm` file.
    ///
    /// # Errors
    /// When it isn't a component, implements no world of the contract, imports more than its world gives, or
    /// describes itself inconsistently.
    pub async fn load(&self, bytes: &[u8]) -> Result<Plugin, LoadError> {
        let Recognized { world, migrates, imports } = recognize(bytes)?;
        let digest = digest(bytes);
        let component = self.cache.component(&self.engine, &digest, bytes);
        let component = component.map_err(|e| LoadError::new(format!("it can't be compiled: {e:#}")))?;
        let pre = self.linker.instantiate_pre(&component);
        let pre = pre.map_err(|e| LoadError::new(format!("it can't be linked: {e:#}")))?;
        let broken = |e: wasmtime::Error| LoadError::new(format!("it can't be linked: {e:#}"));
        let migrating = migrates.then(|| MigratingPre::new(pre.clone()).map_err(broken)).transpose()?;
        let code = match world {
            World::Transform => Code::Transform(TransformOperatorPre::new(pre).map_err(broken)?),
            World::Aggregate => Code::Aggregate(AggregateOperatorPre::new(pre).map_err(broken)?),
            World::Window => Code::Window(WindowOperatorPre::new(pre).map_err(broken)?),
            World::Join => Code::Join(JoinOperatorPre::new(pre).map_err(broken)?),
            World::Process => Code::Process(ProcessOperatorPre::new(pre).map_err(broken)?),
        };
        let description = self.describe(&code).await?;
        check_description(world, &description)?;
        let earlier = match &migrating {
            Some(pre) => self.earlier(pre).await?,
            None => Vec::new(),
        };
        migration::check(world, &description, &earlier)?;
        let about = About { world, description, earlier, imports, digest, size_bytes: bytes.len() };
        let about = Arc::new(about);
        Ok(Plugin { runtime: self.clone(), code, migrating, is_quiet: false, about })
    }

    /// For an instance that only describes itself.
    fn store_for_describing(&self) -> Store<Guest> {
        // It holds nothing and ends at once; its pipeline's limits aren't known here.
        let limits = Limits { memory_bytes: super::engine::MEMORY_MAX_BYTES, ..Limits::default() };
        let mut store = self.store("describe", limits);
        instance::begin_call(&mut store);
        store
    }

    async fn earlier(&self, pre: &MigratingPre<Guest>) -> Result<Vec<Schema>, LoadError> {
        let mut store = self.store_for_describing();
        migration::earlier(pre, &mut store).await.map_err(|e| {
            let failure = instance::failure(&mut store, &e);
            LoadError::new(format!("it failed to describe the states that it migrates: {failure}"))
        })?
    }

    async fn describe(&self, code: &Code) -> Result<Description, LoadError> {
        let mut store = self.store_for_describing();
        match code {
            Code::Transform(pre) => match pre.instantiate_async(&mut store).await {
                Ok(guest) => guest.tidemill_operator_lifecycle().call_describe(&mut store).await,
                Err(error) => Err(error),
            }
            .map(description::of_transform),
            Code::Aggregate(pre) => match pre.instantiate_async(&mut store).await {
                Ok(guest) => guest.tidemill_operator_lifecycle().call_describe(&mut store).await,
                Err(error) => Err(error),
            }
            .map(description::of_aggregate),
            Code::Window(pre) => match pre.instantiate_async(&mut store).await {
                Ok(guest) => guest.tidemill_operator_lifecycle().call_describe(&mut store).await,
                Err(error) => Err(error),
            }
            .map(description::of_window),
            Code::Join(pre) => describe_join(pre, &mut store).await,
            Code::Process(pre) => describe_process(pre, &mut store).await,
        }
        .map_err(|e| {
            LoadError::new(format!("it failed to describe itself: {}", instance::failure(&mut store, &e)))
        })?
    }

    fn store(&self, operator: &str, limits: Limits) -> Store<Guest> {
        let mut store = Store::new(&self.engine, Guest::new(operator, limits));
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(super::guest::COPIED_BYTES_MAX);
        store.epoch_deadline_callback(|mut context| {
            let go_on = context.data_mut().tick();
            Ok(if go_on { wasmtime::UpdateDeadline::Yield(1) } else { wasmtime::UpdateDeadline::Interrupt })
        });
        store
    }
}

/// A process operator describes its collections apart, so that other operators need not say that they have none.
async fn describe_process(
    pre: &ProcessOperatorPre<Guest>,
    store: &mut Store<Guest>,
) -> wasmtime::Result<Result<Description, LoadError>> {
    let guest = pre.instantiate_async(&mut *store).await?;
    let described = guest.tidemill_operator_lifecycle().call_describe(&mut *store).await?;
    let collections = guest.tidemill_operator_keyed_process().call_collections(store).await?;
    Ok(description::of_process(described).and_then(|description| {
        Ok(Description { collections: description::collections(collections)?, ..description })
    }))
}

/// A join says apart which sides it can do without.
async fn describe_join(
    pre: &JoinOperatorPre<Guest>,
    store: &mut Store<Guest>,
) -> wasmtime::Result<Result<Description, LoadError>> {
    let guest = pre.instantiate_async(&mut *store).await?;
    let described = guest.tidemill_operator_lifecycle().call_describe(&mut *store).await?;
    let absent = Sides::of(guest.tidemill_operator_join().call_absent(store).await?);
    Ok(description::of_join(described).map(|description| Description { absent, ..description }))
}

/// What a component's types say.
pub(super) struct Recognized {
    /// The world that it implements.
    pub(super) world: World,
    /// Whether it exports migrations beside.
    pub(super) migrates: bool,
    pub(super) imports: Vec<String>,
}

pub(super) fn recognize(bytes: &[u8]) -> Result<Recognized, LoadError> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        let (size, limit) = (bytes.len() >> 20, COMPONENT_BYTES_MAX >> 20);
        return Err(LoadError::new(format!("it has {size} MiB; a component may have {limit} MiB")));
    }
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            return Err(LoadError::new(
                "it is a core module, not a component; `tidemill build` makes the component of a Rust project, \
                 `wasm-tools component new` that of a module with the contract's bindings",
            ));
        }
        Some([0, b'a', b's', b'm', ..]) => {}
        _ => return Err(LoadError::new("it isn't a WebAssembly file")),
    }
    let (resolve, world) = match wit_component::decode(bytes) {
        Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
        Ok(DecodedWasm::WitPackage(..)) => {
            return Err(LoadError::new("it is a package of WIT text, not a component with code"));
        }
        Err(error) => return Err(LoadError::new(format!("it isn't a valid component: {error:#}"))),
    };
    let names = |items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| -> Vec<String> {
        items.map(|(key, _)| resolve.name_world_key(key)).collect()
    };
    let imports = names(&mut resolve.worlds[world].imports.iter());
    let exports = names(&mut resolve.worlds[world].exports.iter());
    let world = world_of(&exports)?;
    check_imports(world, &imports)?;
    check_target(world.name(), &name_of(world.interface()), bytes)?;
    let migrates = exports.contains(&name_of(MIGRATION));
    if migrates {
        let Some(migrating) = world.migrating() else {
            return Err(LoadError::new(format!(
                "it exports `{}`, but a {} has no state of its own that could be migrated; only an {} or a {} has",
                name_of(MIGRATION),
                world.name(),
                World::Aggregate.name(),
                World::Process.name()
            )));
        };
        check_target(migrating, &name_of(MIGRATION), bytes)?;
    }
    Ok(Recognized { world, migrates, imports })
}

/// Checks that a component has all that a world of this name exports, with the contract's types; `interface` is the one
/// that may lack it.
fn check_target(world: &str, interface: &str, bytes: &[u8]) -> Result<(), LoadError> {
    let (contract, package) = &*CONTRACT;
    let id = contract.select_world(&[*package], Some(world)).expect("the contract has this world");
    wit_component::targets(contract, id, bytes).map_err(|e| {
        LoadError::new(format!(
            "it exports `{interface}`, but not with the contract's functions and types ({e:#}); rebuild it against {}",
            package_name()
        ))
    })
}

fn world_of(exports: &[String]) -> Result<World, LoadError> {
    let implemented = World::ALL.into_iter().filter(|w| exports.contains(&name_of(w.interface())));
    let implemented: Vec<World> = implemented.collect();
    match *implemented {
        [world] => return Ok(world),
        [] => {}
        _ => {
            let names: Vec<String> = implemented.iter().map(|w| name_of(w.interface())).collect();
            return Err(LoadError::new(format!(
                "it exports {}; an operator exports one of them: make a component of each",
                quoted(&names)
            )));
        }
    }
    let other_version = exports.iter().find(|e| e.starts_with("tidemill:operator/"));
    Err(LoadError::new(match other_version {
        Some(export) => format!(
            "it exports `{export}`, which isn't an operator of {}, the contract of this host; rebuild it with the SDK \
             of the host's version",
            package_name()
        ),
        None => format!(
            "it exports {}, but an operator exports `{}` and one of {}; is it an operator at all?",
            if exports.is_empty() { "nothing".into() } else { quoted(exports) },
            name_of("lifecycle"),
            quoted(&World::ALL.map(|w| name_of(w.interface())))
        ),
    }))
}

fn check_imports(world: World, imports: &[String]) -> Result<(), LoadError> {
    let (resolve, _) = &*CONTRACT;
    let given: Vec<String> =
        resolve.worlds[world.id()].imports.keys().map(|k| resolve.name_world_key(k)).collect();
    let needless: Vec<String> = imports.iter().filter(|i| !given.contains(i)).cloned().collect();
    if needless.is_empty() {
        return Ok(());
    }
    let wasi = needless.iter().any(|i| i.starts_with("wasi:"));
    let advice = if wasi {
        "; it was built with WASI, of which operators have no need: build it for `wasm32-unknown-unknown`, as `tidemill \
         build` does, or with the toolchain's switch that leaves WASI out"
    } else {
        "; remove what needs it"
    };
    Err(LoadError::new(format!(
        "it imports {}, but a {} is given nothing except {}{advice}",
        quoted(&needless),
        world.name(),
        quoted(&given)
    )))
}

fn check_description(world: World, description: &Description) -> Result<(), LoadError> {
    let inputs = description.inputs.len();
    if world == World::Join && inputs != 2 {
        return Err(LoadError::new(format!(
            "it describes {inputs} inputs; a {} has two, the left one and the right one",
            world.name()
        )));
    }
    if world != World::Join && inputs != 1 {
        return Err(LoadError::new(format!(
            "it describes {inputs} inputs; a {} has one, whatever number of streams are united in it",
            world.name()
        )));
    }
    let extended = world == World::Join && matches!(description.output, Output::Extended(_));
    let replaced = matches!(description.output, Output::Replaced(_)) || extended;
    let whose = match world {
        World::Transform => None,
        World::Aggregate => Some("what an aggregate finishes"),
        World::Window => Some("what a window operator makes of all the rows of a window"),
        World::Join => Some("what a join makes of a pair"),
        World::Process => Some("what a process operator makes of rows and timers"),
    };
    if let Some(whose) = whose.filter(|_| !replaced) {
        return Err(LoadError::new(format!(
            "its output is described as the input's rows, but {whose} has fields of its own: describe them as `replaced`"
        )));
    }
    let stateless = matches!(world, World::Transform | World::Window | World::Join);
    if stateless && description.state != Schema::default() {
        return Err(LoadError::new(format!("it describes state, but a {} has none", world.name())));
    }
    if world == World::Process
        && let Some(field) = description.state.fields().iter().find(|f| !f.nullable)
    {
        return Err(LoadError::new(format!(
            "it describes the field `{}` of its state as always there, but a key that is new has no values: describe it \
             as nullable",
            field.name
        )));
    }
    Ok(())
}

fn package_name() -> String {
    let (resolve, package) = &*CONTRACT;
    resolve.packages[*package].name.to_string()
}

fn name_of(interface: &str) -> String {
    let (resolve, package) = &*CONTRACT;
    resolve.packages[*package].name.interface_id(interface)
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// The SHA-256 of these bytes, in hexadecimal: what a component is known by.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
