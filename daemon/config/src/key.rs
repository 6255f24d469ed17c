//! How the table of settings is written down, once for all its uses.
//!
//! [`sections!`](sections) turns one list of sections and keys into the structs
//! that the daemon uses, the reader of the file, the comparison at a reload and
//! the reference for people. A key that stands in one of them stands in all.

use toml::de::DeValue;

use crate::kinds::{Kind, toml_value};
use crate::table::{Found, TableReader};

/// A setting, described for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// The section it stands in: `icmp`.
    pub section: &'static str,
    /// Its key with the section: `icmp.every`.
    pub key: String,
    /// What values it takes, in words.
    pub kind: String,
    /// Its value where the file has none: as TOML, or in words where there is
    /// no fixed one.
    pub default: String,
    /// A value as it would stand in the file: the default, where there is one.
    pub example: String,
    /// What it does: a sentence or two.
    pub help: String,
    /// Whether a change is taken only at a restart, not at a reload.
    pub restart: bool,
}

/// What holds where the file does not have the key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Preset {
    /// This value, as TOML.
    Value(&'static str),
    /// Nothing: the key has to be there. With an example, as TOML.
    Required(&'static str),
    /// What these words say; whoever reads the section sees to it. With an
    /// example, as TOML.
    Unset(&'static str, &'static str),
}

impl Preset {
    pub(crate) fn example(self) -> &'static str {
        match self {
            Preset::Value(value) => value,
            Preset::Required(example) | Preset::Unset(example, _) => example,
        }
    }

    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Preset::Value(value) => value,
            Preset::Required(_) => "none: it has to be there",
            Preset::Unset(_, words) => words,
        }
    }
}

/// One line of the table.
pub(crate) struct Key {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) preset: Preset,
}

impl Key {
    pub(crate) fn describe<K: Kind>(&self, kind: &K, help: &[&str], restart: bool) -> KeyDoc {
        KeyDoc {
            section: self.section,
            key: format!("{}.{}", self.section, self.name),
            kind: kind.words(),
            default: self.preset.in_words().to_owned(),
            example: self.preset.example().to_owned(),
            help: joined(help),
            restart,
        }
    }

    /// Reads this key from `table`, which is its section, and remembers where
    /// the value came from.
    pub(crate) fn read<K: Kind>(&self, table: &mut TableReader<'_, '_>, kind: &K) -> K::Value {
        table.ask(self.name);
        let complaints = table.findings.count();
        let (value, shown, at) = match table.entry(self.name) {
            Some((at, value)) => {
                let read = table.read(self.name, value, kind);
                (read, Some(toml_value(value.get_ref())), Some(at))
            }
            None => {
                let (value, shown) = self.without_entry(table, kind);
                (value, shown, None)
            }
        };
        let sound = table.findings.count() == complaints;
        table.findings.settings.push(Found {
            key: table.key(self.name),
            shown,
            at,
            sound,
        });
        value.unwrap_or_default()
    }

    fn without_entry<K: Kind>(
        &self,
        table: &mut TableReader<'_, '_>,
        kind: &K,
    ) -> (Option<K::Value>, Option<String>) {
        match self.preset {
            Preset::Value(text) => {
                let value = DeValue::parse(text).expect("a test parses every default");
                let read = table.read(self.name, &value, kind);
                (read, Some(toml_value(value.get_ref())))
            }
            Preset::Required(_) => {
                table.complain_of_missing(self.name, &kind.words());
                (None, None)
            }
            Preset::Unset(..) => (None, None),
        }
    }
}

/// `kind`, of which the compiler now knows that it reads a `T`.
pub(crate) fn reads<T, K: Kind<Value = T>>(kind: K) -> K {
    kind
}

/// Lines of a doc comment as one text.
pub(crate) fn joined(lines: &[&str]) -> String {
    let trimmed: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    trimmed.join(" ")
}

/// A section as a struct, read from its table.
pub(crate) trait Section: Sized {
    const NAME: &'static str;
    /// What it is for.
    fn help() -> String;
    fn keys() -> Vec<KeyDoc>;
    fn read(table: &mut TableReader<'_, '_>) -> Self;
    /// Stands for one that cannot be read.
    fn stand_in() -> Self;
    /// The keys that differ from `new` and are taken only at a restart.
    fn needs_restart(&self, new: &Self) -> Vec<&'static str>;
}

/// Writes structs and their [`Section`] from a list such as
///
/// ```text
/// /// What the section is for.
/// [icmp] IcmpSettings {
///     /// What the key does.
///     every: Duration = ("30s"), span(…);
///     receive_buffer: usize = ("8MiB"), size(…), restart;
/// }
/// ```
///
/// In the brackets stands the default as TOML; or `required` and an example;
/// or `unset`, an example, and what then holds, in words.
macro_rules! sections {
    ($(
        $(#[doc = $about:literal])+
        [$section:ident] $name:ident {
            $(
                $(#[doc = $help:literal])+
                $key:ident: $type:ty = ($($preset:tt)+), $kind:expr $(, $restart:ident)?;
            )+
        }
    )+) => { $(
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $help])+ pub $key: $type, )+
        }

        impl $crate::key::Section for $name {
            const NAME: &'static str = stringify!($section);

            fn help() -> String {
                $crate::key::joined(&[$($about),+])
            }

            fn keys() -> Vec<$crate::key::KeyDoc> {
                vec![$(
                    sections!(@key $section $key $($preset)+).describe(
                        &$crate::key::reads::<$type, _>($kind),
                        &[$($help),+],
                        sections!(@restart $($restart)?),
                    )
                ),+]
            }

            fn read(table: &mut $crate::table::TableReader<'_, '_>) -> Self {
                Self {
                    $( $key: sections!(@key $section $key $($preset)+).read(
                        table,
                        &$crate::key::reads::<$type, _>($kind),
                    ), )+
                }
            }

            fn stand_in() -> Self {
                Self {
                    $( $key: Default::default(), )+
                }
            }

            fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $(
                    if sections!(@restart $($restart)?) && self.$key != new.$key {
                        keys.push(concat!(stringify!($section), ".", stringify!($key)));
                    }
                )+
                keys
            }
        }
    )+ };
    (@key $section:ident $key:ident $($preset:tt)+) => {
        $crate::key::Key {
            section: stringify!($section),
            name: stringify!($key),
            preset: sections!(@preset $($preset)+),
        }
    };
    (@preset required $example:tt) => {
        $crate::key::Preset::Required(stringify!($example))
    };
    (@preset unset $example:tt, $words:literal) => {
        $crate::key::Preset::Unset(stringify!($example), $words)
    };
    (@preset $value:tt) => {
        $crate::key::Preset::Value(stringify!($value))
    };
    (@restart restart) => { true };
    (@restart) => { false };
}
pub(crate) use sections;
