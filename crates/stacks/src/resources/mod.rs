//! The resource types: their properties, what `Ref` and `Fn::GetAtt` give, and how each is made, changed and
//! deleted through the services' own APIs.
//!
//! Invariants: what a template can refer to follows from names, or is said by whoever made it and known to be
//! unknown until then (`docs/decisions/0009`), so that a plan is honest before anything is made; and every call is
//! safe to repeat after a crash.

mod alias;
mod bucket;
mod bucket_policy;
mod bucket_settings;
mod calls;
mod event_invoke_config;
mod event_source_mapping;
mod function;
mod function_url;
mod function_version;
mod global_table;
mod key;
mod layer;
mod permission;
mod policy;
mod provisioned;
mod queue;
mod role;
pub(crate) mod schema;
mod table;
mod table_import;

use async_trait::async_trait;
use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

pub(crate) use calls::Calls;
use schema::{Property, Update};

use crate::template::Pseudo;

/// Resolved properties.
pub(crate) type Properties = Map<String, Json>;

/// A resource type.
pub(crate) struct ResourceType {
    pub(crate) name: &'static str,
    pub(crate) properties: &'static [Property],
    /// What `Fn::GetAtt` can ask for.
    pub(crate) attributes: &'static [&'static str],
    /// Properties that are set when every other resource exists: they may refer in circles.
    pub(crate) late: &'static [&'static str],
    pub(crate) provider: &'static dyn Provider,
}

/// Why a resource was not made.
#[derive(Debug)]
pub(crate) struct CreateError {
    pub(crate) error: aws::Error,
    /// What of it was made, and must be removed again.
    pub(crate) made: Option<Made>,
}

/// What a service decides when it makes a resource.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// The physical id, where the service gives it.
    pub(crate) physical_id: Option<String>,
    /// Attributes that do not follow from the physical id and the properties.
    pub(crate) attributes: IndexMap<String, String>,
}

impl CreateError {
    /// Nothing was made.
    pub(crate) fn nothing_made(error: aws::Error) -> Self {
        Self { error, made: None }
    }

    /// Something was made.
    pub(crate) fn half_made(error: aws::Error) -> Self {
        Self { error, made: Some(Made::default()) }
    }
}

/// How resources of a type are handled.
#[async_trait]
pub(crate) trait Provider: Send + Sync {
    /// The physical id: the name given in the properties, or one made from `naming`; with a
    /// [`LATER`](crate::template::LATER) in it if the service gives a part of it.
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String;

    /// What is wrong with properties that fit their shapes, as it follows on the resource's name.
    fn check(&self, _properties: &Properties) -> Option<String> {
        None
    }

    /// Whether a change of that property replaces the resource, where that depends on what changes.
    fn replaces(&self, _property: &str, _old: &Properties, _new: &Properties) -> Option<bool> {
        None
    }

    /// Refuses a change that there is no way to make, before anything of it is made.
    fn check_update(&self, _old: &Properties, _new: &Properties) -> Result<(), aws::Error> {
        Ok(())
    }

    /// What `Ref` gives.
    fn reference(&self, _pseudo: &Pseudo, physical_id: &str, _properties: &Properties) -> String {
        physical_id.to_owned()
    }

    /// What `Fn::GetAtt` gives; [`LATER`](crate::template::LATER) for what the service decides.
    fn attribute(
        &self,
        _pseudo: &Pseudo,
        _physical_id: &str,
        _properties: &Properties,
        _attribute: &str,
    ) -> Option<String> {
        None
    }

    /// True if something of that name is there already, before it is made.
    async fn exists(&self, _calls: &Calls, _id: &str, _properties: &Properties) -> Result<bool, aws::Error> {
        Ok(false)
    }

    /// Makes it. `again` is true if a crash may have interrupted the same call before: then what exists is
    /// what that call made.
    async fn create(
        &self,
        calls: &Calls,
        id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError>;

    /// Changes it from `old` to `new`, late properties excepted.
    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error>;

    /// What of a resource's attributes outlives an update: those that it has the service decide anew do not.
    fn inherit(
        &self,
        _pseudo: &Pseudo,
        _id: &str,
        _old: &Properties,
        _new: &Properties,
        _attributes: &mut IndexMap<String, String>,
    ) {
    }

    /// What the service has decided anew in an update that was carried out.
    async fn decided(
        &self,
        _calls: &Calls,
        _id: &str,
        _old: &Properties,
        _new: &Properties,
    ) -> Result<Made, aws::Error> {
        Ok(Made::default())
    }

    /// Sets the late properties to those of `new`.
    async fn configure(&self, _calls: &Calls, _id: &str, _new: &Properties) -> Result<(), aws::Error> {
        Ok(())
    }

    /// Deletes it; what is not there is fine.
    async fn delete(&self, calls: &Calls, id: &str, properties: &Properties) -> Result<(), aws::Error>;
}

const TYPES: &[&ResourceType] = &[
    &table::TABLE,
    &global_table::GLOBAL_TABLE,
    &role::ROLE,
    &policy::POLICY,
    &policy::MANAGED_POLICY,
    &event_invoke_config::EVENT_INVOKE_CONFIG,
    &event_source_mapping::EVENT_SOURCE_MAPPING,
    &function::FUNCTION,
    &function_version::VERSION,
    &alias::ALIAS,
    &function_url::URL,
    &layer::LAYER_VERSION,
    &permission::PERMISSION,
    &bucket::BUCKET,
    &bucket_policy::BUCKET_POLICY,
    &key::KEY,
    &key::KEY_ALIAS,
    &queue::QUEUE,
    &queue::QUEUE_POLICY,
];

/// The type of that name.
pub(crate) fn find(name: &str) -> Option<&'static ResourceType> {
    TYPES.iter().find(|t| t.name == name).copied()
}

/// The types' names, those of SAM included.
pub(crate) fn names() -> Vec<&'static str> {
    let serverless =
        ["AWS::Serverless::Function", "AWS::Serverless::LayerVersion", "AWS::Serverless::SimpleTable"];
    TYPES.iter().map(|t| t.name).chain(serverless).collect()
}

impl ResourceType {
    /// The properties that differ, and whether one of them replaces the resource.
    pub(crate) fn difference(&self, old: &Properties, new: &Properties) -> Vec<(&'static str, Update)> {
        let changed = self.properties.iter().filter(|p| old.get(p.name) != new.get(p.name));
        let update = |p: &Property| match self.provider.replaces(p.name, old, new) {
            Some(true) => Update::Replace,
            Some(false) => Update::InPlace,
            None => p.update,
        };
        changed.map(|p| (p.name, update(p))).collect()
    }
}

/// What generated names are made of.
pub(crate) struct Naming<'a> {
    pub(crate) pseudo: &'a Pseudo,
    pub(crate) logical_id: &'a str,
    /// Counts the resource's replacements.
    pub(crate) generation: u32,
}

impl Naming<'_> {
    /// `<stack>-<logical id>-<12 characters>` of at most `longest` characters. The same resource of the same
    /// stack gets the same name each time it is asked for.
    pub(crate) fn generate(&self, longest: usize) -> String {
        const ALPHABET: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let Self { pseudo: Pseudo { stack_name, stack_id, .. }, logical_id, generation } = self;
        let digest = Sha256::digest(format!("{stack_id}/{logical_id}/{generation}"));
        let suffix: String =
            digest[..12].iter().map(|b| char::from(ALPHABET[usize::from(*b) % 36])).collect();
        let room = longest - suffix.len() - 2;
        let logical = &logical_id[..logical_id.len().min(room - (room / 2).min(stack_name.len()))];
        let stack = &stack_name[..stack_name.len().min(room - logical.len())];
        format!("{stack}-{logical}-{suffix}")
    }
}

/// A text property.
pub(crate) fn text<'a>(properties: &'a Properties, name: &str) -> Option<&'a str> {
    properties.get(name).and_then(Json::as_str)
}

/// True if the error says that what was to be deleted is not there.
pub(crate) fn is_gone(error: &aws::Error) -> bool {
    error.kind == types::ErrorKind::NotFound
        || error.status == 404
        || ["NoSuchEntity", "NoSuchBucket", "ResourceNotFoundException", "NotFoundException"]
            .contains(&error.code.as_ref())
}

/// True if the error says that what was to be made is there.
pub(crate) fn is_there(error: &aws::Error) -> bool {
    [
        "BucketAlreadyOwnedByYou",
        "BucketAlreadyExists",
        "EntityAlreadyExists",
        "ResourceInUseException",
        "ResourceConflictException",
    ]
    .contains(&error.code.as_ref())
}

/// A deletion whose object may be gone already.
pub(crate) fn gone_is_fine<T>(result: Result<T, aws::Error>) -> Result<(), aws::Error> {
    match result {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// A look whose object may not be there.
pub(crate) fn found<T>(result: Result<T, aws::Error>) -> Result<bool, aws::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
