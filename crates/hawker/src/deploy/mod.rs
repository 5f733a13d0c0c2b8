//! `hawker deploy` and `hawker delete`: build, upload, plan, carry out, and say what happens meanwhile.

pub(crate) mod build;
mod events;
mod package;
mod template;

use std::io::IsTerminal;
use std::path::PathBuf;

use http::Method;
use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};
use stacks::template::{LocalCode, Pseudo};

use crate::cli;
use crate::client::{Client, escape, service_error};
use crate::failure::{Failure, Shown};
use crate::ui::{self, Colour};
use crate::xml::Element;
use build::Builder;
pub(crate) use package::{Files, collect};
pub(crate) use template::TemplateFile;

/// Largest template that a request can hold, in bytes.
const MAX_TEMPLATE_BODY: usize = 51_200;

/// A deployment to make.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) client: Client,
    pub(crate) source: PathBuf,
    pub(crate) stack_name: Option<String>,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) substitute: bool,
    pub(crate) show: Show,
}

/// What a deployment shows, and asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// The plan, a question, events.
    Ask,
    /// The plan, events.
    Tell,
    /// Nothing but the result, as JSON.
    Json,
    /// The plan and nothing more.
    PlanOnly,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    pub(crate) stack: String,
    pub(crate) status: String,
    pub(crate) changes: Vec<Json>,
    pub(crate) outputs: Vec<(String, String, String)>,
}

/// `hawker deploy`.
pub(crate) async fn deploy(args: cli::Deploy) -> anyhow::Result<()> {
    let client = crate::settings::client(&args.remote)?;
    let show = match (args.remote.json, args.plan, args.yes || !std::io::stdin().is_terminal()) {
        (_, true, _) => Show::PlanOnly,
        (true, false, _) => Show::Json,
        (false, false, true) => Show::Tell,
        (false, false, false) => Show::Ask,
    };
    let deployment = Deployment {
        client,
        source: args.source.source,
        stack_name: args.source.stack_name,
        parameters: args.source.parameters,
        substitute: false,
        show,
    };
    let done = deployment.run().await?;
    if args.remote.json {
        let outputs: Map<_, _> = done.outputs.iter().map(|(k, v, _)| (k.clone(), json!(v))).collect();
        ui::json(&json!({
            "stack": done.stack, "status": done.status, "changes": done.changes, "outputs": outputs,
        }));
    } else if !args.plan {
        show_outputs(&done);
    }
    Ok(())
}

/// The outputs, aligned.
pub(crate) fn show_outputs(done: &Deployed) {
    if done.outputs.is_empty() {
        return;
    }
    ui::line("");
    let rows: Vec<_> = done
        .outputs
        .iter()
        .map(|(key, value, description)| {
            vec![
                (format!("  {key}"), Colour::Bold),
                (value.clone(), Colour::Cyan),
                (description.clone(), Colour::Dim),
            ]
        })
        .collect();
    ui::table(&rows, &[]).iter().for_each(|line| ui::line(line));
}

impl Deployment {
    fn quiet(&self) -> bool {
        self.show == Show::Json
    }

    /// Builds, uploads, plans, and carries the plan out.
    pub(crate) async fn run(&self) -> anyhow::Result<Deployed> {
        let file = TemplateFile::find(&self.source)?;
        let stack = self.stack_name.clone().map_or_else(|| file.stack_name(), Ok)?;
        let account = self.client.account().await?;
        let existing = Existing::find(&self.client, &stack).await?;
        self.check(&file, &stack, &account, existing.as_ref())?;

        let bucket = format!("hawker-deploy-{account}-{}", self.client.region);
        let places = self.package(&file, &bucket).await?;
        let text = file.with_code(&places);
        let existing = self.clear_the_way(&stack, existing).await?;
        let set = self.plan(&stack, &bucket, text, existing.as_ref()).await?;
        self.carry_out(&stack, &set, existing.as_ref()).await
    }

    /// What the server would refuse, with the lines of the file.
    fn check(
        &self,
        file: &TemplateFile,
        stack: &str,
        account: &str,
        existing: Option<&Existing>,
    ) -> anyhow::Result<()> {
        let mut parameters: IndexMap<String, String> = IndexMap::new();
        let set = existing.map(Existing::set_parameters).unwrap_or_default();
        for old in existing.map(|e| e.stack.members("Parameters")).unwrap_or_default() {
            let (name, value) = (old.text("ParameterKey"), old.text("ParameterValue"));
            if let Some(name) = name.filter(|name| set.iter().any(|s| s == name)) {
                parameters.insert(name.to_owned(), value.unwrap_or_default().to_owned());
            }
        }
        if let Ok(template) = stacks::template::Template::read(&file.text, stacks::template::Code::Local) {
            // Hidden values can not be checked here, and those of parameters that went need not be.
            parameters.retain(|name, value| template.parameters.contains_key(name) && value != "****");
        }
        parameters.extend(self.parameters.iter().cloned());
        let pseudo = Pseudo {
            account_id: account.to_owned(),
            region: self.client.region.clone(),
            stack_name: stack.to_owned(),
            stack_id: format!("arn:aws:cloudformation:{}:{account}:stack/{stack}/new", self.client.region),
        };
        let Err(problems) = stacks::check(&file.text, &parameters, &pseudo) else { return Ok(()) };
        if self.quiet() {
            let path = file.path.display().to_string();
            let problems: Vec<_> = problems
                .iter()
                .map(
                    |p| json!({"file": path, "line": p.at.line, "column": p.at.column, "message": p.message}),
                )
                .collect();
            return Err(Failure::new("the template has problems")
                .detail(json!({"problems": problems}))
                .into());
        }
        file.show(&problems);
        let count = problems.len();
        let plural = if count == 1 { "problem" } else { "problems" };
        ui::note(&format!("{count} {plural} in {}; nothing was changed", file.path.display()));
        Err(Shown.into())
    }

    /// Builds and uploads each function's code.
    async fn package(
        &self,
        file: &TemplateFile,
        bucket: &str,
    ) -> anyhow::Result<Vec<(LocalCode, String, String)>> {
        let builder = Builder { cache: file.directory.join(".hawker/build"), substitute: self.substitute };
        let mut places = Vec::new();
        let codes = stacks::template::local_code(&file.text);
        for code in &codes {
            // What a function's runtime says is done here, too.
            if let Some(method) =
                code.build_method.as_ref().filter(|method| code.runtime.as_ref() != Some(method))
            {
                let (name, line) = (&code.logical_id, code.at.line);
                return Err(Failure::new(format!(
                    "`{name}` has the BuildMethod `{method}`, which is not supported"
                ))
                .why(format!("{}:{line} has its source, which SAM would build first", file.path.display()))
                .next("sam build, and then: hawker deploy .aws-sam/build")
                .into());
            }
        }
        for code in codes {
            let path = file.directory.join(&code.path);
            let bytes = if path.is_file() {
                package::of_file(&path)?
            } else if path.is_dir() {
                let files = builder.build(&code.logical_id, &path, code.runtime.as_deref()).await?;
                tokio::task::spawn_blocking(move || package::zip(&files)).await??
            } else {
                let (line, path) = (code.at.line, path.display());
                return Err(Failure::new(format!("the code `{path}` does not exist"))
                    .why(format!("{}:{line} names it", file.path.display()))
                    .next("correct the path: it is relative to the template")
                    .into());
            };
            let key = format!("{}.zip", package::sha256(&bytes));
            self.upload(bucket, &key, bytes, &code.logical_id).await?;
            places.push((code, bucket.to_owned(), key));
        }
        Ok(places)
    }

    /// Puts an object named by its content, unless it is there.
    async fn upload(&self, bucket: &str, key: &str, bytes: Vec<u8>, what: &str) -> anyhow::Result<()> {
        let path = format!("/{bucket}/{}", escape(key));
        let s3 = "s3";
        match self.client.send(s3, Method::HEAD, &path, &[], "").await {
            Ok(_) => return Ok(()),
            Err(error) if service_error(&error).is_some_and(|e| e.status.as_u16() == 404) => {}
            Err(error) => return Err(error),
        }
        let size = bytes.len();
        let spinner = (!self.quiet()).then(|| ui::spinner(format!("uploading {what} ({} KiB)", size / 1024)));
        let put = self.client.send(s3, Method::PUT, &path, &[], bytes.clone()).await;
        let result = match put {
            Err(error) if service_error(&error).is_some_and(|e| e.code == "NoSuchBucket") => {
                self.client.send(s3, Method::PUT, &format!("/{bucket}"), &[], "").await?;
                self.client.send(s3, Method::PUT, &path, &[], bytes).await
            }
            other => other,
        };
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        result.map(drop)
    }

    /// A stack that was never made stands in the way of one that is to be: it holds nothing.
    async fn clear_the_way(
        &self,
        stack: &str,
        existing: Option<Existing>,
    ) -> anyhow::Result<Option<Existing>> {
        let status =
            existing.as_ref().and_then(|e| e.stack.text("StackStatus")).unwrap_or_default().to_owned();
        match status.as_str() {
            "REVIEW_IN_PROGRESS" => Ok(None),
            "ROLLBACK_COMPLETE" if self.show != Show::PlanOnly => {
                if !self.quiet() {
                    ui::note(&format!(
                        "{stack} failed to be created before and holds nothing; starting over"
                    ));
                }
                let id = existing.as_ref().and_then(|e| e.stack.text("StackId")).unwrap_or(stack).to_owned();
                let parameters = [("StackName".to_owned(), stack.to_owned())];
                self.client.query("cloudformation", "DeleteStack", &parameters).await?;
                events::follow(&self.client, &id, None, false).await?;
                Ok(None)
            }
            "ROLLBACK_COMPLETE" => Err(Failure::new(format!("{stack} failed to be created before"))
                .why("what is left of it holds nothing, and goes when it is deployed again")
                .next("hawker deploy, without --plan, starts over")
                .into()),
            status if status.ends_with("_IN_PROGRESS") => {
                Err(Failure::new(format!("{stack} is being changed already ({status})"))
                    .next("wait until that is done: hawker status")
                    .into())
            }
            _ => Ok(existing),
        }
    }

    /// Makes the change set, and gives it back.
    async fn plan(
        &self,
        stack: &str,
        bucket: &str,
        text: String,
        existing: Option<&Existing>,
    ) -> anyhow::Result<Element> {
        let name = format!("hawker-{}", types::Timestamp::now().as_millisecond());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut form = vec![
            pair("StackName", stack),
            pair("ChangeSetName", &name),
            pair("ChangeSetType", if existing.is_some() { "UPDATE" } else { "CREATE" }),
        ];
        // The plan that is shown says what is made: roles among it.
        let capabilities = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"];
        for (i, capability) in capabilities.iter().enumerate() {
            form.push(pair(&format!("Capabilities.member.{}", i + 1), capability));
        }
        let declared = stacks::template::Template::read(&text, stacks::template::Code::Packaged);
        let declared = declared.map(|t| t.parameters).unwrap_or_default();
        let mut number = 0;
        let mut parameter = |key: &str, value: Result<&str, ()>| {
            number += 1;
            let prefix = format!("Parameters.member.{number}");
            form.push((format!("{prefix}.ParameterKey"), key.to_owned()));
            match value {
                Ok(value) => form.push((format!("{prefix}.ParameterValue"), value.to_owned())),
                Err(()) => form.push((format!("{prefix}.UsePreviousValue"), "true".to_owned())),
            }
        };
        for (key, value) in &self.parameters {
            parameter(key, Ok(value));
        }
        for key in existing.map(Existing::set_parameters).unwrap_or_default() {
            if declared.contains_key(&key) && !self.parameters.iter().any(|(name, _)| *name == key) {
                parameter(&key, Err(()));
            }
        }
        if text.len() > MAX_TEMPLATE_BODY {
            let key = format!("{}.template", package::sha256(text.as_bytes()));
            self.upload(bucket, &key, text.into_bytes(), "the template").await?;
            form.push(pair("TemplateURL", &format!("{}/{bucket}/{key}", self.client.endpoint())));
        } else {
            form.push(pair("TemplateBody", &text));
        }
        self.client.query("cloudformation", "CreateChangeSet", &form).await?;
        let form = [pair("StackName", stack), pair("ChangeSetName", &name)];
        self.client.query("cloudformation", "DescribeChangeSet", &form).await
    }

    async fn carry_out(
        &self,
        stack: &str,
        set: &Element,
        existing: Option<&Existing>,
    ) -> anyhow::Result<Deployed> {
        let changes: Vec<Json> = set.members("Changes").iter().map(change_json).collect();
        let name = set.text("ChangeSetName").unwrap_or_default();
        let form =
            [("StackName".to_owned(), stack.to_owned()), ("ChangeSetName".to_owned(), name.to_owned())];
        let forget = || self.client.query("cloudformation", "DeleteChangeSet", &form);
        if set.text("Status") == Some("FAILED") {
            forget().await?;
            let reason = set.text("StatusReason").unwrap_or_default();
            if !reason.contains("didn't contain changes") {
                return Err(Failure::new("the plan failed").why(reason).into());
            }
            if !self.quiet() {
                ui::note(&format!("{stack} is up to date"));
            }
            return Ok(deployed(stack, existing.map(|e| &e.stack), changes));
        }
        if !self.quiet() {
            show_plan(stack, &changes, existing.is_some());
        }
        let wanted = match self.show {
            Show::Ask => ui::confirm("carry it out?"),
            Show::Tell | Show::Json => true,
            Show::PlanOnly => false,
        };
        if !wanted {
            forget().await?;
            if self.show == Show::Ask {
                ui::note("nothing was changed");
                return Err(Shown.into());
            }
            return Ok(deployed(stack, existing.map(|e| &e.stack), changes));
        }
        let last = events::latest(&self.client, stack).await?;
        self.client.query("cloudformation", "ExecuteChangeSet", &form).await?;
        let id = set.text("StackId").unwrap_or(stack);
        let end = events::follow(&self.client, id, last.as_deref(), !self.quiet()).await?;
        let after = describe_stack(&self.client, id).await?;
        if matches!(end.status.as_str(), "CREATE_COMPLETE" | "UPDATE_COMPLETE") {
            return Ok(deployed(stack, after.as_ref(), changes));
        }
        let mut failure = Failure::new(format!("{stack} was not deployed ({})", end.status));
        if let Some(why) = end.first_failure {
            failure = failure.why(why);
        }
        let next = match end.status.as_str() {
            "ROLLBACK_COMPLETE" | "UPDATE_ROLLBACK_COMPLETE" => {
                "everything is as it was before; correct the template and deploy again"
            }
            _ => "some resources could not be put back; delete the stack with `hawker delete`",
        };
        Err(failure.next(next).into())
    }
}

/// A stack that is there.
struct Existing {
    stack: Element,
    /// The defaults of the template that it was made from.
    defaults: IndexMap<String, Option<String>>,
}

impl Existing {
    async fn find(client: &Client, name: &str) -> anyhow::Result<Option<Self>> {
        let Some(stack) = describe_stack(client, name).await? else { return Ok(None) };
        let form =
            [("StackName".to_owned(), name.to_owned()), ("TemplateStage".to_owned(), "Original".to_owned())];
        let template = client.query("cloudformation", "GetTemplate", &form).await?;
        let text = template.text("TemplateBody").unwrap_or_default();
        let read = stacks::template::Template::read(text, stacks::template::Code::Packaged);
        let parameters = read.map(|template| template.parameters).unwrap_or_default();
        let defaults = parameters.into_iter().map(|(name, p)| (name, p.default)).collect();
        Ok(Some(Self { stack, defaults }))
    }

    /// The parameters that somebody set: those that have the default of their template follow a new default.
    fn set_parameters(&self) -> Vec<String> {
        let set = self.stack.members("Parameters").iter().filter_map(|old| {
            let (name, value) = (old.text("ParameterKey")?, old.text("ParameterValue")?);
            let default = self.defaults.get(name).and_then(Option::as_deref);
            (default != Some(value)).then(|| name.to_owned())
        });
        set.collect()
    }
}

/// A stack as it is, deleted ones by id; `None` if there is none.
pub(crate) async fn describe_stack(client: &Client, stack: &str) -> anyhow::Result<Option<Element>> {
    let form = [("StackName".to_owned(), stack.to_owned())];
    match client.query("cloudformation", "DescribeStacks", &form).await {
        Ok(result) => Ok(result.members("Stacks").first().cloned()),
        Err(error) if service_error(&error).is_some_and(|e| e.message.contains("does not exist")) => Ok(None),
        Err(error) => Err(error),
    }
}

fn deployed(stack: &str, element: Option<&Element>, changes: Vec<Json>) -> Deployed {
    let text = |e: &Element, name: &str| e.text(name).unwrap_or_default().to_owned();
    Deployed {
        stack: stack.to_owned(),
        status: element.map(|e| text(e, "StackStatus")).unwrap_or_default(),
        changes,
        outputs: element
            .map(|e| e.members("Outputs"))
            .unwrap_or_default()
            .iter()
            .map(|o| (text(o, "OutputKey"), text(o, "OutputValue"), text(o, "Description")))
            .collect(),
    }
}

fn change_json(change: &Element) -> Json {
    let change = change.child("ResourceChange").cloned().unwrap_or_default();
    let properties: Vec<_> = change
        .members("Details")
        .iter()
        .filter_map(|d| d.child("Target")?.text("Name").map(str::to_owned))
        .collect();
    json!({
        "action": change.text("Action"),
        "logical_id": change.text("LogicalResourceId"),
        "type": change.text("ResourceType"),
        "physical_id": change.text("PhysicalResourceId"),
        "replacement": change.text("Replacement") == Some("True"),
        "properties": properties,
    })
}

fn show_plan(stack: &str, changes: &[Json], exists: bool) {
    let title = if exists { "changes to" } else { "new stack" };
    ui::line(&format!("{title} {}", ui::paint(Colour::Bold, stack)));
    let mut counts = [0, 0, 0];
    let rows: Vec<_> = changes
        .iter()
        .map(|change| {
            let text = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
            let replaced = change["replacement"] == true;
            let (sign, colour, kind) = match change["action"].as_str() {
                Some("Add") => ("+", Colour::Green, 0),
                Some("Remove") => ("-", Colour::Red, 2),
                _ if replaced => ("±", Colour::Red, 1),
                _ => ("~", Colour::Yellow, 1),
            };
            counts[kind] += 1;
            let properties: Vec<_> =
                change["properties"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            let mut detail = properties.join(", ");
            if replaced {
                detail.push_str(" (replaced: a new one is made, the old one deleted)");
            }
            vec![
                (format!("  {sign}"), colour),
                (text("logical_id"), colour),
                (text("type"), Colour::Dim),
                (detail, Colour::Plain),
            ]
        })
        .collect();
    ui::table(&rows, &[]).iter().for_each(|line| ui::line(line));
    let [add, change, remove] = counts;
    if changes.is_empty() {
        ui::line("  no resource changes; outputs or tags do");
    } else {
        ui::line(&format!("  {add} to add, {change} to change, {remove} to remove"));
    }
    ui::line("");
}

/// `hawker delete`.
pub(crate) async fn delete(args: cli::Delete) -> anyhow::Result<()> {
    let client = crate::settings::client(&args.remote)?;
    let stack = &args.stack;
    let Some(found) = describe_stack(&client, stack).await? else {
        return Err(Failure::new(format!("there is no stack `{stack}`"))
            .next("hawker status lists them")
            .into());
    };
    let id = found.text("StackId").unwrap_or(stack).to_owned();
    if !args.yes && !args.remote.json && std::io::stdin().is_terminal() {
        let form = [("StackName".to_owned(), id.clone())];
        let resources = client.query("cloudformation", "ListStackResources", &form).await?;
        let resources = resources.members("StackResourceSummaries");
        ui::line(&format!("{} and all it holds:", ui::paint(Colour::Bold, stack)));
        let text = |r: &Element, name: &str| r.text(name).unwrap_or_default().to_owned();
        let rows: Vec<_> = resources
            .iter()
            .map(|r| {
                vec![
                    ("  -".to_owned(), Colour::Red),
                    (text(r, "LogicalResourceId"), Colour::Red),
                    (text(r, "ResourceType"), Colour::Dim),
                    (text(r, "PhysicalResourceId"), Colour::Plain),
                ]
            })
            .collect();
        ui::table(&rows, &[]).iter().for_each(|line| ui::line(line));
        if !ui::confirm("delete it?") {
            ui::note("nothing was changed");
            return Err(Shown.into());
        }
    }
    let last = events::latest(&client, &id).await?;
    client.query("cloudformation", "DeleteStack", &[("StackName".to_owned(), id.clone())]).await?;
    let end = events::follow(&client, &id, last.as_deref(), !args.remote.json).await?;
    if args.remote.json {
        ui::json(&json!({"stack": stack, "status": end.status}));
    }
    if end.status == "DELETE_COMPLETE" {
        return Ok(());
    }
    let why = end.first_failure.unwrap_or_else(|| "no reason was given".to_owned());
    let next = match end.failed_bucket.filter(|_| why.contains("BucketNotEmpty")) {
        Some(bucket) => format!("empty it (aws s3 rm --recursive s3://{bucket}) and delete the stack again"),
        None => "remove what stands in the way and delete the stack again".to_owned(),
    };
    Err(Failure::new(format!("{stack} was not deleted ({})", end.status)).why(why).next(next).into())
}
