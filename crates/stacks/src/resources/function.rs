//! `AWS::Lambda::Function`.

use std::io::{Cursor, Write};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use http::Method;
use serde_json::{Value as Json, json};
use types::ErrorKind;

use super::calls::segment;
use super::schema::{Property, Shape, TAGS};
use super::{
    Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, found, gone_is_fine, is_there, text,
};
use crate::template::Pseudo;

pub(super) const FUNCTION: ResourceType = ResourceType {
    name: "AWS::Lambda::Function",
    properties: &[
        Property::new("Architectures", Shape::List(&Shape::Text)),
        Property::new(
            "Code",
            Shape::Object(&[
                Property::new("ImageUri", Shape::Text),
                Property::new("S3Bucket", Shape::Text),
                Property::new("S3Key", Shape::Text),
                Property::new("S3ObjectVersion", Shape::Text),
                Property::new("ZipFile", Shape::Text),
            ]),
        )
        .required(),
        Property::new("DeadLetterConfig", Shape::Object(&[Property::new("TargetArn", Shape::Text)])),
        Property::new("Description", Shape::Text),
        Property::new("Environment", Shape::Object(&[Property::new("Variables", Shape::TextMap)])),
        Property::new("EphemeralStorage", Shape::Object(&[Property::new("Size", Shape::Integer).required()])),
        Property::new("FunctionName", Shape::Text).replaces(),
        Property::new("Handler", Shape::Text),
        Property::new(
            "ImageConfig",
            Shape::Object(&[
                Property::new("Command", Shape::List(&Shape::Text)),
                Property::new("EntryPoint", Shape::List(&Shape::Text)),
                Property::new("WorkingDirectory", Shape::Text),
            ]),
        ),
        Property::new("Layers", Shape::List(&Shape::Text)),
        Property::new(
            "LoggingConfig",
            Shape::Object(&[
                Property::new("ApplicationLogLevel", Shape::Text),
                Property::new("LogFormat", Shape::Text),
                Property::new("LogGroup", Shape::Text),
                Property::new("SystemLogLevel", Shape::Text),
            ]),
        ),
        Property::new("MemorySize", Shape::Integer),
        Property::new("PackageType", Shape::Text).replaces(),
        Property::new("ReservedConcurrentExecutions", Shape::Integer),
        Property::new("Role", Shape::Text).required(),
        Property::new("Runtime", Shape::Text),
        Property::new("Tags", TAGS),
        Property::new("Timeout", Shape::Integer),
        Property::new("TracingConfig", Shape::Object(&[Property::new("Mode", Shape::Text).required()])),
    ],
    attributes: &["Arn"],
    late: &[],
    provider: &Function,
};

/// What `UpdateFunctionConfiguration` sets, and what it is when a template does not say.
const CONFIGURATION: &[(&str, &str)] = &[
    ("DeadLetterConfig", "{\"TargetArn\":\"\"}"),
    ("Description", "\"\""),
    ("Environment", "{\"Variables\":{}}"),
    ("EphemeralStorage", "{\"Size\":512}"),
    ("Handler", "null"),
    ("ImageConfig", "{}"),
    ("Layers", "[]"),
    ("LoggingConfig", "{\"LogFormat\":\"Text\"}"),
    ("MemorySize", "128"),
    ("Role", "null"),
    ("Runtime", "null"),
    ("Timeout", "3"),
    ("TracingConfig", "{\"Mode\":\"PassThrough\"}"),
];

const FUNCTIONS: &str = "/2015-03-31/functions";

/// The ARN of a function that is named by its name or its ARN.
pub(super) fn arn_of(pseudo: &Pseudo, function: &str, qualifier: Option<&str>) -> String {
    let Pseudo { region, account_id, .. } = pseudo;
    let mut arn = match function.starts_with("arn:") {
        true => function.to_owned(),
        false => format!("arn:aws:lambda:{region}:{account_id}:function:{function}"),
    };
    if let Some(qualifier) = qualifier {
        arn.push(':');
        arn.push_str(qualifier);
    }
    arn
}

/// Where a function's operations are.
pub(super) fn path_of(function: &str) -> String {
    format!("{FUNCTIONS}/{}", segment(function))
}

struct Function;

#[async_trait]
impl Provider for Function {
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        text(properties, "FunctionName").map_or_else(|| naming.generate(64), str::to_owned)
    }

    fn check(&self, properties: &Properties) -> Option<String> {
        let machine = types::architecture();
        let other = if machine == "arm64" { "x86_64" } else { "arm64" };
        let wanted = properties.get("Architectures").and_then(Json::as_array);
        if wanted.is_some_and(|wanted| wanted.iter().any(|one| one == other)) {
            return Some(format!("has the architecture {other}, and this machine has {machine}"));
        }
        if text(properties, "PackageType") == Some("Image") {
            return None;
        }
        let missing = ["Handler", "Runtime"].into_iter().find(|name| !properties.contains_key(*name))?;
        Some(format!("needs the property {missing}, unless its PackageType is Image"))
    }

    fn attribute(&self, pseudo: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        (attribute == "Arn").then(|| arn_of(pseudo, id, None))
    }

    async fn exists(&self, calls: &Calls, id: &str, _: &Properties) -> Result<bool, aws::Error> {
        let path = format!("{FUNCTIONS}/{}/configuration", segment(id));
        found(calls.lambda(Method::GET, &path, None).await)
    }

    async fn create(
        &self,
        calls: &Calls,
        id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        let code = code(properties).map_err(CreateError::nothing_made)?;
        let mut body = json!({"FunctionName": id, "Code": code});
        let same = CONFIGURATION.iter().map(|(name, _)| *name).chain(["Architectures", "PackageType"]);
        for name in same {
            if let Some(value) = properties.get(name) {
                body[name] = value.clone();
            }
        }
        if properties.contains_key("Tags") {
            body["Tags"] = tags(properties);
        }
        match calls.lambda(Method::POST, FUNCTIONS, Some(&body)).await {
            Err(error) if again && is_there(&error) => {}
            Err(error) => return Err(CreateError::nothing_made(error)),
            Ok(_) => {}
        }
        let rest = async {
            settled(calls, id).await?;
            if let Some(reserved) = properties.get("ReservedConcurrentExecutions") {
                put_concurrency(calls, id, reserved).await?;
            }
            Ok(())
        };
        rest.await.map(|()| Made::default()).map_err(CreateError::half_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        let path = format!("{FUNCTIONS}/{}", segment(id));
        let mut body = serde_json::Map::new();
        for (name, default) in CONFIGURATION {
            if old.get(*name) != new.get(*name) {
                let default = || serde_json::from_str(default).unwrap_or_default();
                body.insert((*name).to_owned(), new.get(*name).cloned().unwrap_or_else(default));
            }
        }
        // The configuration first: new code may need it, and old code seldom minds.
        if !body.is_empty() {
            let body = Json::Object(body);
            calls.lambda(Method::PUT, &format!("{path}/configuration"), Some(&body)).await?;
            settled(calls, id).await?;
        }
        if ["Code", "Architectures"].iter().any(|name| old.get(*name) != new.get(*name)) {
            let mut body = code(new)?;
            if let Some(architectures) = new.get("Architectures") {
                body["Architectures"] = architectures.clone();
            }
            calls.lambda(Method::PUT, &format!("{path}/code"), Some(&body)).await?;
            settled(calls, id).await?;
        }
        let reserved = "ReservedConcurrentExecutions";
        if old.get(reserved) != new.get(reserved) {
            match new.get(reserved) {
                Some(value) => put_concurrency(calls, id, value).await?,
                None => {
                    let path = format!("/2017-10-31/functions/{}/concurrency", segment(id));
                    gone_is_fine(calls.lambda(Method::DELETE, &path, None).await)?;
                }
            }
        }
        if old.get("Tags") != new.get("Tags") {
            put_tags(calls, id, old, new).await?;
        }
        Ok(())
    }

    async fn delete(&self, calls: &Calls, id: &str, _: &Properties) -> Result<(), aws::Error> {
        gone_is_fine(calls.lambda(Method::DELETE, &format!("{FUNCTIONS}/{}", segment(id)), None).await)
    }
}

/// Waits until the function takes invocations and changes again.
async fn settled(calls: &Calls, id: &str) -> Result<(), aws::Error> {
    let path = format!("{FUNCTIONS}/{}/configuration", segment(id));
    loop {
        let state = calls.lambda(Method::GET, &path, None).await?;
        let is = |name: &str, value: &str| state[name].as_str() == Some(value);
        if is("State", "Failed") || is("LastUpdateStatus", "Failed") {
            let reason = state["StateReason"].as_str().or(state["LastUpdateStatusReason"].as_str());
            let message = reason.unwrap_or("the function failed to become active").to_owned();
            return Err(aws::Error::new(ErrorKind::Invalid, "InvalidRequest", message));
        }
        if !is("State", "Pending") && !is("LastUpdateStatus", "InProgress") {
            return Ok(());
        }
        calls.env.sleep(Duration::from_millis(50)).await;
    }
}

async fn put_concurrency(calls: &Calls, id: &str, reserved: &Json) -> Result<(), aws::Error> {
    let body = json!({"ReservedConcurrentExecutions": reserved});
    let path = format!("/2017-10-31/functions/{}/concurrency", segment(id));
    calls.lambda(Method::PUT, &path, Some(&body)).await.map(drop)
}

fn tags(properties: &Properties) -> Json {
    let list = properties.get("Tags").and_then(Json::as_array).into_iter().flatten();
    let pairs = list.filter_map(|tag| Some((tag["Key"].as_str()?.to_owned(), tag["Value"].clone())));
    Json::Object(pairs.collect())
}

async fn put_tags(calls: &Calls, id: &str, old: &Properties, new: &Properties) -> Result<(), aws::Error> {
    let path = format!("/2017-03-31/tags/{}", segment(&arn_of(&calls.pseudo, id, None)));
    let (old, new) = (tags(old), tags(new));
    let gone = old.as_object().into_iter().flatten().filter(|(key, _)| new.get(key).is_none());
    let gone: Vec<_> = gone.map(|(key, _)| format!("tagKeys={}", segment(key))).collect();
    if !gone.is_empty() {
        calls.lambda(Method::DELETE, &format!("{path}?{}", gone.join("&")), None).await?;
    }
    if new.as_object().is_some_and(|tags| !tags.is_empty()) {
        calls.lambda(Method::POST, &path, Some(&json!({"Tags": new}))).await?;
    }
    Ok(())
}

/// `Code` as Lambda wants it: text in a template becomes a zip of one file.
fn code(properties: &Properties) -> Result<Json, aws::Error> {
    let mut code = properties.get("Code").cloned().unwrap_or_default();
    let invalid = |message: &str| aws::Error::new(ErrorKind::Invalid, "InvalidRequest", message);
    if let Some(source) = code["ZipFile"].as_str() {
        let name = match text(properties, "Runtime") {
            Some(runtime) if runtime.starts_with("python") => "index.py",
            Some(runtime) if runtime.starts_with("nodejs") => "index.js",
            _ => return Err(invalid("code in a template is possible for python and nodejs runtimes only")),
        };
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().unix_permissions(0o644);
        let written = zip.start_file(name, options).map_err(|e| aws::Error::internal(&e));
        written.and_then(|()| zip.write_all(source.as_bytes()).map_err(|e| aws::Error::internal(&e)))?;
        let bytes = zip.finish().map_err(|e| aws::Error::internal(&e))?.into_inner();
        return Ok(json!({"ZipFile": base64::engine::general_purpose::STANDARD.encode(bytes)}));
    }
    if code["ImageUri"].is_string() {
        return Ok(code.take());
    }
    if !code["S3Bucket"].is_string() || !code["S3Key"].is_string() {
        return Err(invalid("Code needs S3Bucket and S3Key, ZipFile, or ImageUri"));
    }
    Ok(code.take())
}
