//! What is stored of functions.
//!
//! Invariants: a row of [`CODE`] counts what uses it (functions, their versions, layers), and its blob is in use
//! as long as the row is there; a blob without such a row has one in [`CODE_UNUSED`], so that none is ever
//! forgotten. Everything of a function is below its name, so that it is read, and removed, in one range.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{JsonRecord, Key, Range, Table, tables};
use types::{AccountId, RequestId, Timestamp};

use crate::name::Version;

/// Functions. Key: name.
pub(crate) const FUNCTIONS: Table<FunctionRow> = Table::new(tables::FUNCTIONS, "functions");
/// Published versions. Key: name of the function, number (u64).
pub(crate) const VERSIONS: Table<VersionRow> = Table::new(tables::FUNCTION_VERSIONS, "function_versions");
/// Aliases. Key: name of the function, name of the alias.
pub(crate) const ALIASES: Table<AliasRow> = Table::new(tables::FUNCTION_ALIASES, "function_aliases");
/// Resource policies. Key: name of the function, and for those of a version or an alias, the qualifier.
pub(crate) const POLICIES: Table<PolicyRow> = Table::new(tables::FUNCTION_POLICIES, "function_policies");
/// Event invoke configurations. Key: name of the function, and for those of a version or an alias, the
/// qualifier.
pub(crate) const EVENT_CONFIGS: Table<EventConfigRow> =
    Table::new(tables::FUNCTION_EVENT_CONFIGS, "function_event_configs");
/// Packages. Key: SHA-256 in hexadecimal.
pub(crate) const CODE: Table<CodeRow> = Table::new(tables::FUNCTION_CODE, "function_code");
/// Blobs that no package row names. Key: since when (ms since the epoch, i64), blob id (16 bytes).
pub(crate) const CODE_UNUSED: Table<UnusedRow> =
    Table::new(tables::FUNCTION_CODE_UNUSED, "function_code_unused");
/// Packages made of images from registries. Key: the image's digest.
pub(crate) const IMAGES: Table<ImagePackageRow> = Table::new(tables::FUNCTION_IMAGES, "function_images");
/// Functions whose images are being taken from a registry. Key: name.
pub(crate) const PULLS: Table<PullMarkRow> = Table::new(tables::FUNCTION_PULLS, "function_pulls");
/// URLs. Key: name of the function, and for that of an alias, its name.
pub(crate) const URLS: Table<UrlRow> = Table::new(tables::FUNCTION_URLS, "function_urls");
/// Whose a URL is. Key: the id in its host name.
pub(crate) const URL_IDS: Table<UrlIdRow> = Table::new(tables::FUNCTION_URL_IDS, "function_url_ids");
/// Versions of layers. Key: name of the layer, number (u64).
pub(crate) const LAYERS: Table<LayerRow> = Table::new(tables::LAYERS, "layers");
/// Last version numbers of layers. Key: name of the layer.
pub(crate) const LAYER_COUNTERS: Table<CounterRow> = Table::new(tables::LAYER_COUNTERS, "layer_counters");
/// Idempotent outcomes. Key: name of the function, SHA-256 of the key (32 bytes).
pub(crate) const OUTCOMES: Table<OutcomeRow> = Table::new(tables::FUNCTION_OUTCOMES, "function_outcomes");
/// When outcomes end. Key: when (ms since the epoch, i64), name of the function, SHA-256 of the key.
pub(crate) const OUTCOME_ENDS: Table<EndRow> =
    Table::new(tables::FUNCTION_OUTCOME_ENDS, "function_outcome_ends");
/// Provisioned concurrency. Key: name of the function, qualifier.
pub(crate) const PROVISIONED: Table<ProvisionedRow> =
    Table::new(tables::FUNCTION_PROVISIONED, "function_provisioned");
/// Sums over an account. Key: none, one row.
pub(crate) const TOTALS: Table<TotalsRow> = Table::new(tables::FUNCTION_TOTALS, "function_totals");

/// A deployed function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FunctionRow {
    pub(crate) name: String,
    pub(crate) runtime: String,
    pub(crate) role: String,
    pub(crate) handler: String,
    pub(crate) description: String,
    pub(crate) timeout_s: u32,
    pub(crate) memory_mb: u32,
    pub(crate) ephemeral_storage_mb: u32,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    /// `Active` or `PassThrough`.
    pub(crate) tracing: String,
    pub(crate) log_group: String,
    pub(crate) code: CodeRef,
    pub(crate) last_modified: Timestamp,
    /// Changes with every change.
    pub(crate) revision: RequestId,
    /// Changes with what an instance is made from: instances of another deployment are not used.
    pub(crate) deployment: RequestId,
    pub(crate) reserved_concurrency: Option<u32>,
    #[serde(default)]
    pub(crate) layers: Vec<LayerRef>,
    /// Set if the package is a container image.
    #[serde(default)]
    pub(crate) image: Option<ImageRow>,
    /// The image that the function is to get from a registry, until it has it.
    #[serde(default)]
    pub(crate) pull: Option<PullRow>,
    #[serde(default)]
    pub(crate) logging: LoggingRow,
    /// The number that the next version gets.
    #[serde(default = "first_version")]
    pub(crate) next_version: u64,
    /// ARN of the queue that gets events that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dead_letters: Option<String>,
    /// Loops of this function with itself are let run.
    #[serde(default)]
    pub(crate) allow_recursion: bool,
}

fn first_version() -> u64 {
    1
}

impl JsonRecord for FunctionRow {}

impl FunctionRow {
    /// Whether a version of this would be the same as one of `other`: what the code and its settings are, and
    /// not when or how they came to be.
    pub(crate) fn runs_as(&self, other: &Self) -> bool {
        let essence = |row: &Self| Self {
            tags: BTreeMap::new(),
            last_modified: Timestamp::UNIX_EPOCH,
            revision: self.revision,
            deployment: self.deployment,
            reserved_concurrency: None,
            next_version: 0,
            allow_recursion: false,
            description: String::new(),
            pull: None,
            code: CodeRef { blob: String::new(), unzipped_bytes: 0, ..row.code.clone() },
            ..row.clone()
        };
        essence(self) == essence(other)
    }

    /// The packages that it uses: its own, once it has one, and those of its layers.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &CodeRef> {
        let own = Some(&self.code).filter(|code| !code.is_missing());
        own.into_iter().chain(self.layers.iter().map(|layer| &layer.code))
    }

    /// The image that is being taken from a registry now.
    pub(crate) fn pulling(&self) -> Option<&PullRow> {
        self.pull.as_ref().filter(|pull| pull.failure.is_none())
    }

    /// The digest as `CodeSha256` shows it: of an image from a registry it is the image's own.
    pub(crate) fn code_sha256(&self) -> String {
        let pulled = self.pull.as_ref().filter(|pull| pull.failure.is_none() || self.code.is_missing());
        let digest = match (pulled, &self.image) {
            (Some(pull), _) => Some(&pull.digest),
            (None, Some(image)) => image.digest.as_ref(),
            (None, None) => None,
        };
        match digest {
            Some(digest) => digest.strip_prefix("sha256:").unwrap_or(digest).to_owned(),
            None => crate::code::sha256_base64(&self.code.sha256),
        }
    }
}

/// A layer that a function uses. Its package stays as long as the function, even if the layer is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRef {
    pub(crate) arn: String,
    pub(crate) code: CodeRef,
}

/// A container image, and what the function overrides of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRow {
    /// Where it was taken from.
    pub(crate) uri: String,
    /// Of one from a registry: which it is.
    #[serde(default)]
    pub(crate) digest: Option<String>,
    pub(crate) entry_point: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) working_directory: Option<String>,
}

/// An image that is being taken from a registry, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PullRow {
    /// Tells it from what was wanted before and after.
    pub(crate) id: RequestId,
    pub(crate) uri: String,
    /// What the name stood for when it was asked for: that is what the function gets.
    pub(crate) digest: String,
    /// The version that gets it too.
    pub(crate) version: Option<u64>,
    /// Why it could not be taken.
    pub(crate) failure: Option<PullFailure>,
}

/// In the words of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PullFailure {
    pub(crate) code: String,
    pub(crate) reason: String,
}

/// That a pull has to be brought to its end, also after a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PullMarkRow {}

impl JsonRecord for PullMarkRow {}

/// The package that an image from a registry has become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImagePackageRow {
    pub(crate) sha256: String,
    pub(crate) size_bytes: u64,
}

impl JsonRecord for ImagePackageRow {}

/// How a function logs. Levels are set if, and only if, the format is JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoggingRow {
    pub(crate) json: bool,
    pub(crate) application_level: Option<String>,
    pub(crate) system_level: Option<String>,
}

/// A published version: the function as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VersionRow {
    pub(crate) number: u64,
    /// Without what belongs to the function as a whole: tags, reserved concurrency.
    pub(crate) function: FunctionRow,
    /// The function's own description then; the version may have another. Older rows do not say.
    #[serde(default)]
    pub(crate) latest_description: Option<String>,
}

impl JsonRecord for VersionRow {}

/// An alias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AliasRow {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) description: String,
    /// A second version, and the share of invocations that it gets, 0 to 1.
    pub(crate) shifted: Option<(Version, f64)>,
    pub(crate) revision: RequestId,
}

impl JsonRecord for AliasRow {}

/// A function's URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UrlRow {
    /// The first label of its host name.
    pub(crate) id: String,
    /// True if requests must be signed (`AWS_IAM`).
    pub(crate) signed: bool,
    pub(crate) cors: Option<Cors>,
    /// Answers are sent as they are written (`RESPONSE_STREAM`).
    pub(crate) streaming: bool,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
}

impl JsonRecord for UrlRow {}

/// Cross-origin resource sharing of a URL, in the members of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Cors {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_credentials: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) allow_headers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) allow_methods: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) allow_origins: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) expose_headers: Vec<String>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_age: Option<u32>,
}

/// Whose a URL is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UrlIdRow {
    pub(crate) function: String,
    pub(crate) alias: Option<String>,
}

impl JsonRecord for UrlIdRow {}

/// A version of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerRow {
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) description: String,
    pub(crate) license: Option<String>,
    pub(crate) runtimes: Vec<String>,
    pub(crate) architectures: Vec<String>,
    pub(crate) code: CodeRef,
    pub(crate) created: Timestamp,
    pub(crate) policy: Option<PolicyRow>,
}

impl JsonRecord for LayerRow {}

/// A number that only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CounterRow {
    pub(crate) last: u64,
}

impl JsonRecord for CounterRow {}

/// How many instances of a version or an alias are kept ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProvisionedRow {
    pub(crate) requested: u32,
    pub(crate) modified: Timestamp,
}

impl JsonRecord for ProvisionedRow {}

/// The package of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeRef {
    /// 64 hexadecimal digits.
    pub(crate) sha256: String,
    /// The blob that holds it, 32 hexadecimal digits.
    pub(crate) blob: String,
    pub(crate) size_bytes: u64,
    /// What it takes unpacked; 0 if that is not known: of images, and of what was stored without it.
    #[serde(default, skip_serializing_if = "types::is_default")]
    pub(crate) unzipped_bytes: u64,
}

impl CodeRef {
    /// Of a function whose package is still to come.
    pub(crate) fn missing() -> Self {
        Self { sha256: String::new(), blob: String::new(), size_bytes: 0, unzipped_bytes: 0 }
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.sha256.is_empty()
    }
}

/// A package in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeRow {
    pub(crate) blob: String,
    pub(crate) size_bytes: u64,
    /// How many functions, versions and layers use it, at least one.
    pub(crate) functions: u32,
    /// The digest of the image from a registry that it was made of; its row in [`IMAGES`] lives as long as this one.
    #[serde(default)]
    pub(crate) image: Option<String>,
}

impl JsonRecord for CodeRow {}

/// A blob to be removed in a while, unless its upload is committed before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnusedRow {
    /// Its removal has begun: no commit may use it any more.
    pub(crate) condemned: bool,
}

impl JsonRecord for UnusedRow {}

/// What may be done with a function by others than its account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PolicyRow {
    pub(crate) revision: RequestId,
    pub(crate) statements: Vec<Statement>,
}

impl JsonRecord for PolicyRow {}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Statement {
    pub(crate) sid: String,
    pub(crate) action: String,
    pub(crate) principal: String,
    pub(crate) source_arn: Option<String>,
    pub(crate) source_account: Option<String>,
    /// `lambda:FunctionUrlAuthType` has to be this.
    #[serde(default)]
    pub(crate) url_auth: Option<String>,
    /// It holds for invocations through the function's URL alone.
    #[serde(default)]
    pub(crate) via_url: bool,
}

/// How asynchronous invocations of a function are retried, and who hears of their end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventConfigRow {
    pub(crate) max_retries: Option<u32>,
    pub(crate) max_age_s: Option<u32>,
    pub(crate) on_success: Option<String>,
    pub(crate) on_failure: Option<String>,
    pub(crate) last_modified: Timestamp,
}

impl JsonRecord for EventConfigRow {}

/// What an invocation that runs once for its key has come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OutcomeRow {
    /// The invocation that ran.
    pub(crate) request_id: RequestId,
    /// Until when it holds.
    pub(crate) ends: Timestamp,
    /// SHA-256 of its event, where the key alone does not say that events are the same.
    pub(crate) event: Option<String>,
    pub(crate) state: OutcomeState,
}

impl JsonRecord for OutcomeRow {}

/// That an outcome ends; its key says which and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndRow {}

impl JsonRecord for EndRow {}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum OutcomeState {
    /// It runs, or ran when the node ended.
    Running,
    /// It has answered.
    Done {
        /// How a streamed answer began.
        head: Option<OutcomeHead>,
        #[serde(with = "base64_bytes")]
        body: Bytes,
        version: Version,
    },
}

/// How a streamed answer began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum OutcomeHead {
    Runtime { content_type: Option<String>, streaming: bool },
    Http { status: u16, headers: Vec<(String, String)> },
}

mod base64_bytes {
    //! Bytes as base64 text.
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}

/// Sums over the functions of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TotalsRow {
    pub(crate) functions: u64,
    pub(crate) code_bytes: u64,
    pub(crate) reserved: u32,
    /// What is kept ready of functions without a reservation.
    #[serde(default)]
    pub(crate) provisioned: u32,
}

impl JsonRecord for TotalsRow {}

/// The key of a function's row in a table whose key is its name.
pub(crate) fn by_name<V: store::Record>(table: &Table<V>, account: AccountId, name: &str) -> Key {
    table.key(account, |k| {
        k.text(name);
    })
}

/// The key of what belongs to a function, or to one of its versions and aliases.
pub(crate) fn by_qualifier<V: store::Record>(
    table: &Table<V>,
    account: AccountId,
    name: &str,
    qualifier: Option<&str>,
) -> Key {
    table.key(account, |k| {
        k.text(name);
        if let Some(qualifier) = qualifier {
            k.text(qualifier);
        }
    })
}

/// The qualifier in a key that [`by_qualifier`] made.
pub(crate) fn qualifier_of(key: &Key) -> Option<String> {
    let mut reader = store::key::KeyReader::new(key).ok()?;
    reader.text().ok()?;
    reader.text().ok()
}

/// Where the page after the row of that key begins.
pub(crate) fn marker_of(key: &Key) -> String {
    qualifier_of(key).unwrap_or_else(|| crate::LATEST.to_owned())
}

/// A page of what belongs to a function and its qualifiers: what comes after `marker`.
pub(crate) fn page_of<V: store::Record>(
    table: &Table<V>,
    account: AccountId,
    name: &str,
    marker: Option<&str>,
    limit: usize,
) -> Range {
    let mut range = all_of(table, account, name, limit);
    if let Some(marker) = marker {
        let owner = Some(marker).filter(|marker| *marker != crate::LATEST);
        range.start = store::key::after(&by_qualifier(table, account, name, owner));
    }
    range
}

/// Everything of a function in a table: at most `limit` rows.
pub(crate) fn all_of<V: store::Record>(
    table: &Table<V>,
    account: AccountId,
    name: &str,
    limit: usize,
) -> Range {
    table.range(account, limit, |k| {
        k.text(name);
    })
}

/// The key of a version of a function or a layer.
pub(crate) fn by_number<V: store::Record>(
    table: &Table<V>,
    account: AccountId,
    name: &str,
    number: u64,
) -> Key {
    table.key(account, |k| {
        k.text(name).u64(number);
    })
}

/// The key of a package.
pub(crate) fn code_key(account: AccountId, sha256: &str) -> Key {
    CODE.key(account, |k| {
        k.text(sha256);
    })
}

/// The key of the package made of an image.
pub(crate) fn image_key(account: AccountId, digest: &str) -> Key {
    IMAGES.key(account, |k| {
        k.text(digest);
    })
}

/// The key of an unused blob.
pub(crate) fn unused_key(account: AccountId, since: Timestamp, blob: blobs::BlobId) -> Key {
    CODE_UNUSED.key(account, |k| {
        k.i64(since.as_millisecond()).raw(&blob.0);
    })
}

/// The key of an account's sums.
pub(crate) fn totals_key(account: AccountId) -> Key {
    TOTALS.key(account, |_| {})
}
