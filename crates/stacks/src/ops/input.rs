//! What the requests that deploy have in common.

use aws::query::Form;
use indexmap::IndexMap;

use super::{At, validation};
use crate::Error;
use crate::tables::{OnFailure, Stack};

/// Largest `TemplateBody`, in bytes.
const MAX_TEMPLATE_BODY: usize = 51_200;
/// Largest template in S3, in bytes.
const MAX_TEMPLATE: usize = 1 << 20;

/// Where a template is.
pub(crate) enum TemplateSource {
    Body(String),
    Url(String),
    /// The one that the stack was made from.
    Previous,
}

/// A parameter's value in a request.
pub(crate) enum Given {
    Value(String),
    Previous,
}

/// What a request wants a stack to be.
pub(crate) struct Deployment {
    pub(crate) stack: String,
    pub(crate) source: TemplateSource,
    pub(crate) parameters: IndexMap<String, Given>,
    pub(crate) tags: Option<Vec<(String, String)>>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) token: Option<String>,
}

/// Refuses a flag that is on.
pub(crate) fn only_false(form: &mut Form, name: &str) -> Result<(), aws::Error> {
    match form.take_parsed::<bool>(name)? {
        Some(true) => Err(validation(format!("{name} is not supported here."))),
        Some(false) | None => Ok(()),
    }
}

/// What becomes of a stack that could not be created.
pub(crate) fn on_failure(form: &mut Form, name: &str, creates: bool) -> Result<OnFailure, aws::Error> {
    let disabled = form.take_parsed::<bool>("DisableRollback")?.unwrap_or(false);
    match form.take(name).as_deref() {
        None if disabled && creates => Ok(OnFailure::DoNothing),
        None | Some("ROLLBACK") => Ok(OnFailure::Rollback),
        Some("DELETE") if creates => Ok(OnFailure::Delete),
        Some("DO_NOTHING") if creates => Ok(OnFailure::DoNothing),
        Some(other) => Err(validation(format!("{name} {other} is not supported for this operation"))),
    }
}

/// The template parameters of a request.
pub(crate) fn template_source(form: &mut Form, previous: bool) -> Result<Option<TemplateSource>, aws::Error> {
    let body = form.take("TemplateBody");
    let url = form.take("TemplateURL");
    let use_previous = previous && form.take_parsed("UsePreviousTemplate")?.unwrap_or(false);
    match (body, url, use_previous) {
        (Some(body), None, false) => {
            if body.len() > MAX_TEMPLATE_BODY {
                let message = format!(
                    "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must \
                     have length less than or equal to {MAX_TEMPLATE_BODY}"
                );
                return Err(validation(message));
            }
            Ok(Some(TemplateSource::Body(body)))
        }
        (None, Some(url), false) => Ok(Some(TemplateSource::Url(url))),
        (None, None, true) => Ok(Some(TemplateSource::Previous)),
        (None, None, false) => Ok(None),
        _ => Err(validation("Only one of TemplateBody, TemplateURL and UsePreviousTemplate can be given.")),
    }
}

fn stack_name(name: &str) -> Result<(), aws::Error> {
    let valid = name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if valid || name.starts_with("arn:") {
        return Ok(());
    }
    let message = format!(
        "1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint: Member must satisfy \
         regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*|arn:[-a-zA-Z0-9:/._+]*"
    );
    Err(validation(message))
}

impl Deployment {
    /// Reads it.
    pub(crate) fn read(form: &mut Form) -> Result<Self, aws::Error> {
        let stack = form.require("StackName")?;
        stack_name(&stack)?;
        let source = template_source(form, true)?
            .ok_or_else(|| validation("Either Template URL or Template Body must be specified."))?;
        let mut parameters = IndexMap::new();
        for mut parameter in form.take_structures("Parameters") {
            let name = parameter.require("ParameterKey")?;
            let previous = parameter.take_parsed("UsePreviousValue")?.unwrap_or(false);
            let given = match (parameter.take("ParameterValue"), previous) {
                (Some(value), true) if !value.is_empty() => {
                    let message = format!(
                        "Invalid input for parameter key {name}. Cannot specify usePreviousValue as true and non empty \
                         value for a parameter"
                    );
                    return Err(validation(message));
                }
                (_, true) => Given::Previous,
                (value, false) => Given::Value(value.unwrap_or_default()),
            };
            parameter.finish()?;
            if parameters.insert(name.clone(), given).is_some() {
                return Err(validation(format!("Duplicate parameter key: {name}")));
            }
        }
        let mut tags = Vec::new();
        for mut tag in form.take_structures("Tags") {
            tags.push((tag.require("Key")?, tag.require("Value")?));
            tag.finish()?;
        }
        let capabilities = form.take_list("Capabilities");
        let known = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"];
        if let Some(other) = capabilities.iter().find(|c| !known.contains(&c.as_str())) {
            return Err(validation(format!("{other} is not a capability")));
        }
        let tags = (!tags.is_empty()).then_some(tags);
        Ok(Self { stack, source, parameters, tags, capabilities, token: form.take("ClientRequestToken") })
    }

    /// The values, with those of `stack` where the previous ones are asked for.
    pub(crate) fn values(&self, stack: Option<&Stack>) -> Result<IndexMap<String, String>, Error> {
        let mut values = IndexMap::new();
        for (name, given) in &self.parameters {
            let value = match given {
                Given::Value(value) => value.clone(),
                Given::Previous => {
                    let old = stack.into_iter().flat_map(|s| &s.source.parameters).find(|p| p.name == *name);
                    let old = old.ok_or_else(|| {
                        let text = format!(
                            "Invalid input for parameter key {name}. Cannot specify usePreviousValue as true for a \
                             parameter key not in the previous template"
                        );
                        Error::Validation(text)
                    })?;
                    old.value.clone()
                }
            };
            values.insert(name.clone(), value);
        }
        Ok(values)
    }
}

impl At {
    /// The template's text.
    pub(crate) async fn template_text(
        &self,
        source: &TemplateSource,
        stack: Option<&Stack>,
    ) -> Result<String, Error> {
        match source {
            TemplateSource::Body(text) => Ok(text.clone()),
            TemplateSource::Previous => match stack {
                Some(stack) => Ok(stack.source.template.clone()),
                None => Err(Error::Validation("There is no previous template to use.".into())),
            },
            TemplateSource::Url(url) => self.fetch(url).await,
        }
    }

    async fn fetch(&self, url: &str) -> Result<String, Error> {
        let invalid = || Error::Validation("TemplateURL must be the URL of an object in S3.".to_owned());
        let path = object_path(url).ok_or_else(invalid)?;
        let request = http::Request::get(path).body(bytes::Bytes::new()).map_err(|_| invalid())?;
        let context = &self.context;
        let dispatch = &self.shared.machinery.dispatch;
        let response = dispatch.call(&context.caller, &context.trace, "s3", request).await;
        let response = response.map_err(|e| Error::Validation(format!("S3 error: {}", e.message)))?;
        let body = response.into_body();
        if body.len() > MAX_TEMPLATE {
            return Err(Error::Validation(format!("The template is larger than {MAX_TEMPLATE} bytes.")));
        }
        String::from_utf8(body.to_vec()).map_err(|_| Error::Validation("The template is not UTF-8.".into()))
    }
}

/// `/bucket/key` of a URL in path style or virtual-hosted style.
fn object_path(url: &str) -> Option<String> {
    if let Some(rest) = url.strip_prefix("s3://") {
        return Some(format!("/{rest}"));
    }
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let (host, path) = rest.split_once('/')?;
    match host.split_once(".s3.").or_else(|| host.split_once(".s3-")) {
        Some((bucket, _)) => Some(format!("/{bucket}/{path}")),
        None => Some(format!("/{path}")),
    }
}
