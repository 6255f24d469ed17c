//! Plugin packages: manifest, settings, capabilities in plain words, golden
//! cases, one signed file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use contract::{Call, Failure, Fault, Grants, HostAnswer, HostAsk, Kind, Limits, Place, Reply};
use model::Capabilities;

/// Something that is wrong with a plugin, for its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Option<Place>,
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// What a parser wants to be asked of the devices that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    /// The source that it is called with is `snmp:` and this name.
    pub name: String,
    /// What is asked.
    pub what: CollectWhat,
}

/// What is asked of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CollectWhat {
    /// These instances: comes as a list of varbinds.
    Get(Vec<contract::Oid>),
    /// Everything below: comes as a list of varbinds.
    Walk(contract::Oid),
    /// A table: comes pivoted.
    Table(contract::Oid),
    /// A table that the daemon asks for anyway: `ifTable`, `ifXTable`,
    /// `hrStorageTable`, `hrProcessorTable`; comes pivoted.
    BuiltIn(String),
}

/// Which devices a plugin is for: all that meet every part that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// Their sysObjectID is one of these or lies below it.
    pub sys_object_id: Vec<contract::Oid>,
    /// Their vendor is one of these.
    pub vendor: Vec<String>,
    /// Their sysDescr contains one of these.
    pub sys_descr: Vec<String>,
    /// They are of one of these kinds.
    pub kind: Vec<String>,
    /// They have one of these tags.
    pub tag: Vec<String>,
    /// They are at one of these sites.
    pub site: Vec<String>,
}

/// What a setting is.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingSchema {
    /// What values it takes.
    pub kind: SettingKind,
    /// Its value where none is set, as JSON; `None`: it must be set.
    pub default: Option<String>,
    /// One line for people.
    pub help: String,
}

/// What values a setting takes.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingKind {
    /// Text; one of these, if there are any.
    Text(Vec<String>),
    /// A whole number within these bounds.
    Integer(Option<i64>, Option<i64>),
    /// A number within these bounds.
    Number(Option<f64>, Option<f64>),
    /// true or false.
    Boolean,
    /// A list of texts.
    List,
    /// The name of a secret of the daemon. The plugin sees `${secret:KEY}`,
    /// which the host replaces in the requests that it sends.
    Secret,
}

/// `plugin.toml`
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// `acme-ups`: fixed for ever.
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// What it does.
    pub kind: Kind,
    /// The contract's version that it needs at least.
    pub api: (u64, u64),
    /// One line for people.
    pub description: String,
    /// SPDX.
    pub license: String,
    /// Where to read more.
    pub homepage: Option<String>,
    /// The file that runs: `main.rhai` or `plugin.wasm`.
    pub main: String,
    /// Which devices it is for.
    pub matches: Matches,
    /// What to ask of them.
    pub collect: Vec<Collect>,
    /// Lower ones read first, and their values win; by default 100.
    pub order: u32,
    /// What it asks to be allowed.
    pub asks: Capabilities,
    /// What a call may use.
    pub limits: Limits,
    /// Its settings.
    pub settings: BTreeMap<String, SettingSchema>,
}

impl Manifest {
    /// Reads a manifest; `file` is what it is called in problems.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with its place.
    pub fn parse(_file: &str, _text: &str) -> Result<Manifest, Vec<Problem>> {
        Err(vec![not_yet()])
    }

    /// What of `granted` concerns the host interfaces.
    #[must_use]
    pub fn grants(_granted: &Capabilities) -> Grants {
        Grants::default()
    }

    /// `given` (each value as JSON) with defaults, as the plugin sees it.
    ///
    /// # Errors
    ///
    /// Every setting that is unknown, absent or of the wrong kind.
    pub fn settings(
        &self,
        _given: &BTreeMap<String, String>,
    ) -> Result<contract::Settings, Vec<Problem>> {
        Err(vec![not_yet()])
    }
}

/// Each capability in a sentence that an administrator understands.
#[must_use]
pub fn in_plain_words(_capabilities: &Capabilities) -> Vec<String> {
    Vec::new()
}

/// A recorded case: what a plugin is asked, and what it answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// The name of its directory.
    pub name: String,
    /// What is asked; of a poller, each round.
    pub calls: Vec<GoldenCall>,
    /// Settings of the case, each value as JSON.
    pub settings: BTreeMap<String, String>,
    /// What it asks of the host, and is answered.
    pub host: Vec<(HostAsk, HostAnswer)>,
}

/// One call of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct GoldenCall {
    /// When it is made.
    pub now: contract::Nanos,
    /// The call.
    pub call: Call,
    /// What it shall come to; `None`: nobody has said yet.
    pub expect: Option<Result<Reply, Failure>>,
}

/// A package, read and whole. Whether its signature is one we trust says
/// [`Package::signer`].
#[derive(Clone, Debug, PartialEq)]
pub struct Package {
    /// Its manifest.
    pub manifest: Manifest,
    /// The manifest as it was written.
    pub manifest_text: String,
    /// What runs: the bytes of [`Manifest::main`].
    pub code: Vec<u8>,
    /// Its golden cases.
    pub golden: Vec<Golden>,
    /// Its README.md.
    pub readme: String,
    /// SHA-256 of the whole file.
    pub digest: [u8; 32],
}

impl Package {
    /// Makes a package of a plugin's directory: the bytes of one file, without
    /// a signature. The same directory gives the same bytes.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the directory.
    pub fn pack(_folder: &Path, _code: Option<&[u8]>) -> Result<Vec<u8>, Vec<Problem>> {
        Err(vec![not_yet()])
    }

    /// Reads a package.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn read(_bytes: &[u8]) -> Result<Package, Problem> {
        Err(not_yet())
    }

    /// Adds a signature; one that is there is replaced.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the package.
    pub fn sign(_bytes: &[u8], _key: &PrivateKey) -> Result<Vec<u8>, Problem> {
        Err(not_yet())
    }

    /// Whose key it is signed with, of those that are trusted (name and key).
    ///
    /// # Errors
    ///
    /// Says whether it is unsigned, signed with a key that nobody trusts, or
    /// tampered with.
    pub fn signer(_bytes: &[u8], _trusted: &[(String, PublicKey)]) -> Result<String, Problem> {
        Err(not_yet())
    }
}

/// Signs packages.
pub struct PrivateKey {}

/// Tells whose package it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey {}

/// What a plugin did in a golden case.
#[derive(Clone, Debug, PartialEq)]
pub enum CaseEnd {
    /// What was expected.
    Passed,
    /// Something else: the place of the call, what was expected and what came.
    Differs {
        /// Which call of the case.
        call: usize,
        /// What was expected.
        expected: Result<Reply, Failure>,
        /// What came.
        came: Result<Reply, Failure>,
    },
    /// Nobody has said what is expected: the place of the call and what came.
    New {
        /// Which call of the case.
        call: usize,
        /// What came.
        came: Result<Reply, Failure>,
    },
}

fn not_yet() -> Problem {
    let _ = Fault::new(contract::FaultClass::Load, "");
    Problem {
        place: None,
        message: "not built yet".to_owned(),
        hint: None,
    }
}
