//! `AWS::Serverless::Function`: a function, its role, what may invoke it, and what happens to its failures.

use indexmap::IndexMap;
use serde_json::json;

use super::known::{Found, Values};
use super::policies;
use super::published::{self, Alias, Generated};
use super::references::Names;
use super::tag_list;
use crate::template::{At, Code, Disposal, Node, Problems, Resource, Template, Value, advice};

/// Properties that go to the Lambda function as they are.
const SAME: &[&str] = &[
    "FunctionName",
    "Handler",
    "Runtime",
    "Description",
    "MemorySize",
    "Timeout",
    "Environment",
    "EphemeralStorage",
    "Architectures",
    "ReservedConcurrentExecutions",
    "PackageType",
    "ImageConfig",
    "Layers",
    "LoggingConfig",
];

/// Properties that mean something more.
const OWN: &[&str] = &[
    "CodeUri",
    "ImageUri",
    "InlineCode",
    "Policies",
    "Role",
    "RolePath",
    "AssumeRolePolicyDocument",
    "Events",
    "EventInvokeConfig",
    "Tags",
    "Tracing",
    "DeadLetterQueue",
    "AutoPublishAlias",
    "AutoPublishAliasAllProperties",
    "AutoPublishCodeSha256",
    "FunctionUrlConfig",
    "ProvisionedConcurrencyConfig",
    "VersionDeletionPolicy",
    "VersionDescription",
];

/// Properties that stand for what there is not, and what to do instead.
const REFUSED: &[(&str, &str)] = &[(
    "DeploymentPreference",
    "there is no CodeDeploy to shift traffic step by step; share it out with RoutingConfig of an AWS::Lambda::Alias",
)];

/// What Globals may hold.
pub(super) const GLOBALS: &[&str] = &[
    "CodeUri",
    "Handler",
    "Runtime",
    "Description",
    "MemorySize",
    "Timeout",
    "Environment",
    "EphemeralStorage",
    "Architectures",
    "ReservedConcurrentExecutions",
    "Tags",
    "EventInvokeConfig",
    "RolePath",
    "Layers",
    "LoggingConfig",
    "Tracing",
    "AutoPublishAlias",
    "FunctionUrlConfig",
    "ProvisionedConcurrencyConfig",
];

/// Puts what `function` stands for into `template`.
pub(super) fn expand(
    name: &str,
    function: Resource,
    template: &mut Template,
    code: Code,
    values: &Values<'_>,
    names: &mut Names,
    problems: &mut Problems,
) {
    let at = function.at;
    let empty = IndexMap::new();
    let properties = function.properties.clone();
    let given = properties.as_map().unwrap_or(&empty);
    for (key, value) in given {
        if let Some((_, instead)) = REFUSED.iter().find(|(name, _)| name == key) {
            problems.add(value.at, format!("`{key}` of `{name}` is not supported: {instead}"));
        } else if !SAME.contains(&key.as_str()) && !OWN.contains(&key.as_str()) {
            let advice = advice(key, SAME.iter().chain(OWN).copied());
            let message =
                format!("property `{key}` of AWS::Serverless::Function `{name}` is not supported; {advice}");
            problems.add(value.at, message);
        }
    }
    let generated = |type_name: &str, properties: IndexMap<String, Node>| Resource {
        type_name: type_name.to_owned(),
        at,
        properties: Node::new(Value::Map(properties), at),
        depends_on: Vec::new(),
        late_depends_on: Vec::new(),
        condition: function.condition.clone(),
        deletion_policy: Disposal::Delete,
        update_replace_policy: Disposal::Delete,
    };
    let mut out = IndexMap::new();
    if let Some(code) = function_code(name, given, at, code, values, problems) {
        out.insert("Code".to_owned(), code);
    }
    for key in SAME {
        if let Some(value) = given.get(*key) {
            out.insert((*key).to_owned(), value.clone());
        }
    }
    if let Some(tags) = tag_list(given.get("Tags"), true) {
        out.insert("Tags".to_owned(), tags);
    }
    if let Some(mode) = given.get("Tracing") {
        out.insert("TracingConfig".to_owned(), Node::map([("Mode", mode.clone())], mode.at));
    }

    let mut event_policies = Vec::new();
    if let Some(queue) = given.get("DeadLetterQueue")
        && let Some((arn, policy)) = dead_letters(name, queue, problems)
    {
        event_policies.push(policy);
        out.insert("DeadLetterConfig".to_owned(), Node::map([("TargetArn", arn)], queue.at));
    }

    let published = published::alias(name, given, &mut out, template, values, names, problems);
    let (alias, mut made) = published.map_or((None, Vec::new()), |(alias, made)| (Some(alias), made));
    if let Some(config) = given.get("FunctionUrlConfig") {
        made.extend(published::url(name, config, alias.as_ref(), problems));
    }
    for Generated { id, type_name, properties, disposal } in made {
        let resource = Resource { deletion_policy: disposal, ..generated(type_name, properties) };
        template.resources.insert(id, resource);
    }

    if let Some(config) = given.get("EventInvokeConfig") {
        let mut properties = event_invoke_config(name, config, &mut event_policies, problems);
        let mut depends_on = Vec::new();
        if let Some(alias) = &alias {
            properties.insert("Qualifier".to_owned(), Node::text(&alias.name, config.at));
            depends_on.push(alias.id.clone());
        }
        let resource = Resource { depends_on, ..generated("AWS::Lambda::EventInvokeConfig", properties) };
        template.resources.insert(format!("{name}EventInvokeConfig"), resource);
    }
    for (event, node) in given.get("Events").and_then(Node::as_map).into_iter().flatten() {
        let target =
            Target { function: name, alias: alias.as_ref(), condition: function.condition.as_deref() };
        let source = match node.get("Type").and_then(Node::as_str) {
            Some("DynamoDB") => Some(&STREAM),
            Some("SQS") => Some(&QUEUE),
            _ => None,
        };
        if let Some(source) = source {
            if let Some(mapping) = source_event(&target, event, node, source, &mut event_policies, problems) {
                let id = format!("{name}{event}");
                template.resources.insert(id, generated("AWS::Lambda::EventSourceMapping", mapping));
            }
            continue;
        }
        if let Some(permission) = s3_event(&target, event, node, template, problems) {
            let id = format!("{name}{event}Permission");
            template.resources.insert(id, generated("AWS::Lambda::Permission", permission));
        }
    }
    match given.get("Role") {
        Some(role) => {
            out.insert("Role".to_owned(), role.clone());
        }
        None => {
            let role_name = format!("{name}Role");
            let events = || given.get("Events").and_then(Node::as_map).into_iter().flatten();
            let has = |kind: &str| {
                events().any(|(_, event)| event.get("Type").and_then(Node::as_str) == Some(kind))
            };
            let reads =
                [("DynamoDB", "AWSLambdaDynamoDBExecutionRole"), ("SQS", "AWSLambdaSQSQueueExecutionRole")];
            let reads = reads.into_iter().filter(|(kind, _)| has(kind)).map(|(_, policy)| policy);
            let role = role(name, given, event_policies, reads.collect(), at, problems);
            template.resources.insert(role_name.clone(), generated("AWS::IAM::Role", role));
            let reference = json!({"Fn::GetAtt": [role_name, "Arn"]});
            out.insert("Role".to_owned(), Node::from_json(&reference, at));
        }
    }
    let properties = Node::new(Value::Map(out), properties.at);
    let lambda = Resource { type_name: "AWS::Lambda::Function".to_owned(), properties, ..function };
    template.resources.insert(name.to_owned(), lambda);
}

fn function_code(
    name: &str,
    given: &IndexMap<String, Node>,
    at: At,
    code: Code,
    values: &Values<'_>,
    problems: &mut Problems,
) -> Option<Node> {
    if let Some(inline) = given.get("InlineCode") {
        return Some(Node::map([("ZipFile", inline.clone())], inline.at));
    }
    if let Some(image) = given.get("ImageUri") {
        return Some(Node::map([("ImageUri", image.clone())], image.at));
    }
    let Some(uri) = given.get("CodeUri") else {
        problems.add(at, format!("function `{name}` needs CodeUri, InlineCode or ImageUri"));
        return None;
    };
    location(name, "CodeUri", uri, code, values, problems)
}

/// A place in S3 as Lambda names it, of a URI or a mapping.
pub(super) fn location(
    name: &str,
    property: &str,
    uri: &Node,
    code: Code,
    values: &Values<'_>,
    problems: &mut Problems,
) -> Option<Node> {
    let uri = &match uri.intrinsic() {
        None => uri.clone(),
        Some(_) => match values.of(uri, problems) {
            Found::Value(uri) => uri,
            // Whatever it is, it is a place.
            Found::Unsaid => return Some(Node::from_json(&json!({"S3Bucket": "", "S3Key": ""}), uri.at)),
            Found::Nothing | Found::Later => {
                let message = format!(
                    "{property} of `{name}` is a place that is not known before the stack is made; write it out, \
                     or make it of parameters, or give a mapping of Bucket and Key"
                );
                problems.add(uri.at, message);
                return None;
            }
        },
    };
    match &uri.value {
        Value::String(text) => match text.strip_prefix("s3://").and_then(|rest| rest.split_once('/')) {
            Some((bucket, key)) => Some(Node::from_json(&json!({"S3Bucket": bucket, "S3Key": key}), uri.at)),
            None if code == Code::Local => {
                Some(Node::from_json(&json!({"S3Bucket": "local", "S3Key": text}), uri.at))
            }
            None => {
                let message = format!(
                    "{property} `{text}` of `{name}` is not in S3; package it first: `hawker deploy`, `sam deploy` \
                     and `aws cloudformation package` do"
                );
                problems.add(uri.at, message);
                None
            }
        },
        Value::Map(map) if uri.intrinsic().is_none() => {
            let mut out = IndexMap::new();
            for (key, value) in map {
                let key = match key.as_str() {
                    "Bucket" => "S3Bucket",
                    "Key" => "S3Key",
                    "Version" => "S3ObjectVersion",
                    other => {
                        problems.add(value.at, format!("`{other}` is not a part of {property}"));
                        continue;
                    }
                };
                out.insert(key.to_owned(), value.clone());
            }
            Some(Node::new(Value::Map(out), uri.at))
        }
        _ => {
            problems
                .add(uri.at, format!("{property} must be `s3://bucket/key` or a mapping of Bucket and Key"));
            None
        }
    }
}

fn role(
    name: &str,
    given: &IndexMap<String, Node>,
    event_policies: Vec<Node>,
    reads: Vec<&str>,
    at: At,
    problems: &mut Problems,
) -> IndexMap<String, Node> {
    let mut role = IndexMap::new();
    let trust = given.get("AssumeRolePolicyDocument").cloned().unwrap_or_else(|| {
        let document = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Action": ["sts:AssumeRole"],
                "Effect": "Allow",
                "Principal": {"Service": ["lambda.amazonaws.com"]},
            }],
        });
        Node::from_json(&document, at)
    });
    role.insert("AssumeRolePolicyDocument".to_owned(), trust);
    let basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
    let mut managed = vec![Node::text(basic, at)];
    for policy in reads {
        managed.push(Node::text(format!("arn:aws:iam::aws:policy/service-role/{policy}"), at));
    }
    let mut inline = event_policies;
    if let Some(node) = given.get("Policies") {
        let policies = policies::read(name, node, problems);
        for policy in policies.managed {
            if !managed.contains(&policy) {
                managed.push(policy);
            }
        }
        inline.extend(policies.inline);
    }
    role.insert("ManagedPolicyArns".to_owned(), Node::list(managed, at));
    if !inline.is_empty() {
        role.insert("Policies".to_owned(), Node::list(inline, at));
    }
    if let Some(path) = given.get("RolePath") {
        role.insert("Path".to_owned(), path.clone());
    }
    if let Some(tags) = tag_list(given.get("Tags"), true) {
        role.insert("Tags".to_owned(), tags);
    }
    role
}

fn event_invoke_config(
    name: &str,
    config: &Node,
    event_policies: &mut Vec<Node>,
    problems: &mut Problems,
) -> IndexMap<String, Node> {
    let at = config.at;
    let mut out = IndexMap::new();
    out.insert("FunctionName".to_owned(), Node::from_json(&json!({"Ref": name}), at));
    out.insert("Qualifier".to_owned(), Node::text("$LATEST", at));
    for (key, value) in config.as_map().into_iter().flatten() {
        match key.as_str() {
            "MaximumEventAgeInSeconds" | "MaximumRetryAttempts" => {
                out.insert(key.clone(), value.clone());
            }
            "DestinationConfig" => {
                let mut destinations = IndexMap::new();
                for (event, target) in value.as_map().into_iter().flatten() {
                    if event != "OnFailure" && event != "OnSuccess" {
                        problems.add(target.at, format!("`{event}` is not a part of DestinationConfig"));
                        continue;
                    }
                    let id = format!("{name}EventInvokeConfig{event}");
                    if let Some((arn, policy)) = destination(&id, target, "S3Bucket", problems) {
                        event_policies.push(policy);
                        destinations.insert(event.clone(), Node::map([("Destination", arn)], target.at));
                    }
                }
                out.insert(key.clone(), Node::new(Value::Map(destinations), value.at));
            }
            other => problems.add(value.at, format!("`{other}` is not a part of EventInvokeConfig")),
        }
    }
    out
}

/// The destination's ARN, and the policy that lets the function's role use it. Buckets are called `bucket`.
fn destination(id: &str, target: &Node, bucket: &str, problems: &mut Problems) -> Option<(Node, Node)> {
    let at = target.at;
    let kind = target.get("Type").and_then(Node::as_str).unwrap_or_default();
    let Some(arn) = target.get("Destination").cloned() else {
        problems.add(at, "a destination needs Type and Destination (an ARN)");
        return None;
    };
    let statement = |action: &str, resource: Node| {
        let members =
            [("Action", Node::text(action, at)), ("Effect", Node::text("Allow", at)), ("Resource", resource)];
        Node::map(members, at)
    };
    let (suffix, statements) = match kind {
        "Lambda" => ("LambdaPolicy", vec![statement("lambda:InvokeFunction", arn.clone())]),
        kind if kind == bucket => {
            let parts = Node::list(vec![arn.clone(), Node::text("*", at)], at);
            let join = Node::map([("Fn::Join", Node::list(vec![Node::text("/", at), parts], at))], at);
            let statements = vec![statement("s3:PutObject", join), statement("s3:ListBucket", arn.clone())];
            ("S3Policy", statements)
        }
        "SQS" => ("SQSPolicy", vec![statement("sqs:SendMessage", arn.clone())]),
        other => {
            let message =
                format!("destination type `{other}` is not supported; Lambda, SQS and {bucket} are");
            problems.add(target.get("Type").map_or(at, |t| t.at), message);
            return None;
        }
    };
    let document = Node::map([("Statement", Node::list(statements, at))], at);
    Some((arn, policies::inline(format!("{id}{suffix}"), document, at)))
}

/// What an event wakes.
struct Target<'a> {
    function: &'a str,
    alias: Option<&'a Alias>,
    condition: Option<&'a str>,
}

/// The queue of `DeadLetterQueue`, and the policy that lets the function's role send to it.
fn dead_letters(name: &str, given: &Node, problems: &mut Problems) -> Option<(Node, Node)> {
    let at = given.at;
    for (key, value) in given.as_map().into_iter().flatten() {
        if !["Type", "TargetArn"].contains(&key.as_str()) {
            problems.add(value.at, format!("`{key}` is not a part of DeadLetterQueue"));
        }
    }
    let (Some(kind), Some(arn)) = (given.get("Type").and_then(Node::as_str), given.get("TargetArn")) else {
        problems.add(at, format!("DeadLetterQueue of `{name}` needs Type and TargetArn"));
        return None;
    };
    if kind != "SQS" {
        problems.add(at, format!("DeadLetterQueue of `{name}` is of type SQS; there are no topics"));
        return None;
    }
    let members = [
        ("Action", Node::text("sqs:SendMessage", at)),
        ("Effect", Node::text("Allow", at)),
        ("Resource", arn.clone()),
    ];
    let document = Node::map([("Statement", Node::list(vec![Node::map(members, at)], at))], at);
    Some((arn.clone(), policies::inline(format!("{name}DeadLetterQueuePolicy"), document, at)))
}

/// What a function reads.
struct Source {
    /// The type of its events.
    kind: &'static str,
    /// The property that names it.
    named: &'static str,
    /// Properties that go to the mapping as they are.
    same: &'static [&'static str],
    /// Those that there must be.
    needed: &'static [(&'static str, &'static str)],
}

const STREAM: Source = Source {
    kind: "DynamoDB",
    named: "Stream",
    same: &[
        "BatchSize",
        "BisectBatchOnFunctionError",
        "DestinationConfig",
        "Enabled",
        "FilterCriteria",
        "FunctionResponseTypes",
        "MaximumBatchingWindowInSeconds",
        "MaximumRecordAgeInSeconds",
        "MaximumRetryAttempts",
        "ParallelizationFactor",
        "StartingPosition",
        "TumblingWindowInSeconds",
    ],
    needed: &[("EventSourceArn", "Stream"), ("StartingPosition", "StartingPosition")],
};

const QUEUE: Source = Source {
    kind: "SQS",
    named: "Queue",
    same: &[
        "BatchSize",
        "Enabled",
        "FilterCriteria",
        "FunctionResponseTypes",
        "MaximumBatchingWindowInSeconds",
        "ScalingConfig",
    ],
    needed: &[("EventSourceArn", "Queue")],
};

/// The properties of the mapping that an event of a stream or a queue stands for; what its failures need goes to the
/// role's `policies`.
fn source_event(
    woken: &Target<'_>,
    event: &str,
    node: &Node,
    source: &Source,
    policies: &mut Vec<Node>,
    problems: &mut Problems,
) -> Option<IndexMap<String, Node>> {
    let at = node.at;
    let properties = node.get("Properties").and_then(Node::as_map);
    let mut mapping = IndexMap::new();
    for (key, value) in properties.into_iter().flatten() {
        match key.as_str() {
            key if key == source.named => {
                mapping.insert("EventSourceArn".to_owned(), value.clone());
            }
            "DestinationConfig" if source.same.contains(&"DestinationConfig") => {
                let mut config = value.clone();
                if let Value::Map(parts) = &mut config.value
                    && let Some(target) =
                        parts.get_mut("OnFailure").filter(|target| target.get("Type").is_some())
                {
                    // The type is for the role's policy alone.
                    let id = format!("{}{event}", woken.function);
                    let (_, policy) = destination(&id, target, "S3", problems)?;
                    policies.push(policy);
                    if let Value::Map(target) = &mut target.value {
                        target.shift_remove("Type");
                    }
                }
                mapping.insert(key.clone(), config);
            }
            key if source.same.contains(&key) => {
                mapping.insert(key.to_owned(), value.clone());
            }
            other => {
                let kind = source.kind;
                problems.add(value.at, format!("`{other}` is not a property of events of type {kind}"));
            }
        }
    }
    for (needed, said) in source.needed {
        if !mapping.contains_key(*needed) {
            problems.add(at, format!("event `{event}` needs {said}"));
            return None;
        }
    }
    let function = woken.alias.map_or(woken.function, |alias| &alias.id);
    mapping.insert("FunctionName".to_owned(), Node::from_json(&json!({ "Ref": function }), at));
    Some(mapping)
}

/// Adds the notification to the bucket, and gives back the properties of the permission for it.
fn s3_event(
    woken: &Target<'_>,
    event: &str,
    node: &Node,
    template: &mut Template,
    problems: &mut Problems,
) -> Option<IndexMap<String, Node>> {
    let at = node.at;
    let kind = node.get("Type").and_then(Node::as_str).unwrap_or_default();
    if kind != "S3" {
        let at = node.get("Type").map_or(at, |t| t.at);
        problems.add(at, format!("events of type `{kind}` are not supported; S3, SQS and DynamoDB are"));
        return None;
    }
    let properties = node.get("Properties");
    for (key, value) in properties.and_then(Node::as_map).into_iter().flatten() {
        if !["Bucket", "Events", "Filter"].contains(&key.as_str()) {
            problems.add(value.at, format!("`{key}` is not a property of an S3 event"));
        }
    }
    let bucket = properties.and_then(|p| p.get("Bucket"));
    let bucket_id = match bucket.and_then(Node::intrinsic) {
        Some(("Ref", id)) => id.as_str().unwrap_or_default(),
        _ => "",
    };
    let Some(events) = properties.and_then(|p| p.get("Events")) else {
        problems.add(at, format!("event `{event}` needs Events, such as s3:ObjectCreated:*"));
        return None;
    };
    let target = template.resources.get_mut(bucket_id).filter(|r| r.type_name == "AWS::S3::Bucket");
    let Some(target) = target else {
        let at = bucket.map_or(at, |b| b.at);
        let message = format!("event `{event}`: Bucket must be `!Ref` of a bucket in the same template");
        problems.add(at, message);
        return None;
    };
    let one = std::slice::from_ref(events);
    let mut added = Vec::new();
    for name in events.as_list().unwrap_or(one) {
        let arn = match woken.alias {
            Some(alias) => json!({ "Ref": alias.id }),
            None => json!({"Fn::GetAtt": [woken.function, "Arn"]}),
        };
        let mut entry = IndexMap::from([
            ("Event".to_owned(), name.clone()),
            ("Function".to_owned(), Node::from_json(&arn, at)),
        ]);
        if let Some(filter) = properties.and_then(|p| p.get("Filter")) {
            entry.insert("Filter".to_owned(), filter.clone());
        }
        let entry = Node::new(Value::Map(entry), at);
        added.push(match woken.condition {
            None => entry,
            Some(condition) => {
                let no_value = Node::from_json(&json!({"Ref": "AWS::NoValue"}), at);
                Node::map([("Fn::If", Node::list(vec![Node::text(condition, at), entry, no_value], at))], at)
            }
        });
    }
    add_notifications(target, added, at);
    let permitted = woken.alias.map_or(woken.function, |alias| &alias.id);
    // S3 checks that it may invoke the function when it takes the notification.
    target.late_depends_on.push(format!("{}{event}Permission", woken.function));
    Some(IndexMap::from([
        ("Action".to_owned(), Node::text("lambda:InvokeFunction", at)),
        ("FunctionName".to_owned(), Node::from_json(&json!({"Ref": permitted}), at)),
        ("Principal".to_owned(), Node::text("s3.amazonaws.com", at)),
        ("SourceAccount".to_owned(), Node::from_json(&json!({"Ref": "AWS::AccountId"}), at)),
    ]))
}

fn add_notifications(bucket: &mut Resource, added: Vec<Node>, at: At) {
    let empty = || Node::map::<String>([], at);
    let Value::Map(properties) = &mut bucket.properties.value else { return };
    let config = properties.entry("NotificationConfiguration".to_owned()).or_insert_with(empty);
    let Value::Map(config) = &mut config.value else { return };
    let list = config.entry("LambdaConfigurations".to_owned()).or_insert_with(|| Node::list(Vec::new(), at));
    if let Value::List(list) = &mut list.value {
        for entry in added {
            if !list.contains(&entry) {
                list.push(entry);
            }
        }
    }
}
