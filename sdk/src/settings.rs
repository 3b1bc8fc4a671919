//! An operator's settings: strings in the pipeline file, typed here, and checked to the last one.

use std::collections::{BTreeMap, BTreeSet};

/// The settings that a pipeline gives to an operator.
///
/// After `open`, a setting that nobody asked for is an error: a typing mistake is found when the pipeline is
/// deployed.
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// struct AtLeast { min: i64 }
///
/// impl AtLeast {
///     fn open(settings: &mut Settings) -> Result<Self, String> {
///         Ok(Self { min: settings.required("min")? })
///     }
/// }
/// let mut settings = Settings::new(&[("min".into(), "15".into())])?;
/// assert_eq!(AtLeast::open(&mut settings)?.min, 15);
/// settings.finish()?;
/// # Ok::<(), String>(())
/// ```
#[derive(Debug)]
pub struct Settings {
    given: BTreeMap<String, String>,
    known: BTreeSet<&'static str>,
}

impl Settings {
    /// The settings as the host hands them over.
    ///
    /// # Errors
    /// If a name occurs twice.
    pub fn new(given: &[(String, String)]) -> Result<Self, String> {
        let mut settings = Self { given: BTreeMap::new(), known: BTreeSet::new() };
        for (name, value) in given {
            if settings.given.insert(name.clone(), value.clone()).is_some() {
                return Err(format!("the setting `{name}` is given twice; keep one"));
            }
        }
        Ok(settings)
    }

    /// A setting that must be given.
    ///
    /// # Errors
    /// If it isn't, or is not a `T`.
    pub fn required<T: Setting>(&mut self, name: &'static str) -> Result<T, String> {
        let value = self.optional(name)?;
        value.ok_or_else(|| format!("the setting `{name}` is missing; give it {}", T::EXPECTED))
    }

    /// A setting that may be left out.
    ///
    /// # Errors
    /// If it is given but is not a `T`.
    pub fn optional<T: Setting>(&mut self, name: &'static str) -> Result<Option<T>, String> {
        self.known.insert(name);
        let Some(value) = self.given.get(name) else { return Ok(None) };
        let wrong = || format!("the setting `{name}` is `{value}`; give it {}", T::EXPECTED);
        T::parse(value).map(Some).ok_or_else(wrong)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// If a setting was given that nobody asked for.
    pub fn finish(self) -> Result<(), String> {
        let Some(unknown) = self.given.keys().find(|name| !self.known.contains(name.as_str())) else {
            return Ok(());
        };
        let known: Vec<_> = self.known.iter().map(|name| format!("`{name}`")).collect();
        match known.as_slice() {
            [] => Err(format!("unknown setting `{unknown}`; this operator has no settings")),
            known => Err(format!("unknown setting `{unknown}`; this operator knows {}", known.join(", "))),
        }
    }
}

/// A type that a setting can have: `String`, `bool`, `f64`, or a whole number.
pub trait Setting: Sized {
    /// What a person should write, as the end of a sentence.
    const EXPECTED: &'static str;
    /// Reads the text of a setting.
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! settings {
    ($($type:ty: $expected:literal),* $(,)?) => {$(
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

settings! {
    String: "a text",
    bool: "`true` or `false`",
    f64: "a number",
    i64: "a whole number",
    u64: "a whole number, not negative",
    u32: "a whole number, not negative and below 2^32",
}
