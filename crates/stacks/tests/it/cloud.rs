//! Services that only remember what they were asked to make.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws::{Caller, Dispatch, Error};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Notify;
use types::{ErrorKind, TraceHeader};

#[derive(Debug, Default)]
struct State {
    things: BTreeMap<String, Value>,
    calls: Vec<String>,
    /// The calls that change something.
    changes: Vec<String>,
    principals: Vec<String>,
    /// The numbers of the changes that fail.
    fail: Vec<usize>,
    hang: Option<(usize, bool)>,
}

#[derive(Debug, Default)]
pub(crate) struct Cloud {
    state: Mutex<State>,
    hung: Notify,
}

enum Reply {
    Json(Value),
    Gone(&'static str),
    There(&'static str),
    Refused(&'static str),
}

impl Cloud {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn state_mut(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets the change of that number (from 0) fail.
    pub(crate) fn fail_change(&self, number: usize) {
        self.state_mut().fail.push(number);
    }

    /// Lets the change of that number never answer, after or before it is made.
    pub(crate) fn hang_at(&self, number: usize, went_through: bool) {
        self.state_mut().hang = Some((number, went_through));
    }

    pub(crate) async fn hung(&self) {
        self.hung.notified().await;
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state_mut().calls.clone()
    }

    pub(crate) fn changes(&self) -> Vec<String> {
        self.state_mut().changes.clone()
    }

    pub(crate) fn principals(&self) -> Vec<String> {
        self.state_mut().principals.clone()
    }

    pub(crate) fn state(&self) -> BTreeMap<String, Value> {
        self.state_mut().things.clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state_mut().things.is_empty()
    }

    pub(crate) fn put(&self, name: &str, value: Value) {
        self.state_mut().things.insert(name.to_owned(), value);
    }

    pub(crate) fn get(&self, name: &str) -> Value {
        self.state_mut().things[name].clone()
    }

    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        self.state_mut().things.keys().filter(|k| k.starts_with(prefix)).cloned().collect()
    }

    pub(crate) fn only(&self, prefix: &str) -> Value {
        let names = self.names(prefix);
        assert_eq!(names.len(), 1, "{names:?}");
        self.get(&names[0])
    }
}

impl State {
    fn create(&mut self, name: String, value: Value, there: &'static str) -> Reply {
        if self.things.contains_key(&name) {
            return Reply::There(there);
        }
        self.things.insert(name, value.clone());
        Reply::Json(value)
    }

    fn remove(&mut self, name: &str, gone: &'static str) -> Reply {
        match self.things.remove(name) {
            Some(_) => Reply::Json(json!({})),
            None => Reply::Gone(gone),
        }
    }

    fn look(&self, name: &str, gone: &'static str) -> Reply {
        self.things.get(name).map_or(Reply::Gone(gone), |value| Reply::Json(value.clone()))
    }

    fn answer(&mut self, service: &str, request: &http::Request<Bytes>) -> Reply {
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        let method = request.method().as_str();
        let body = std::str::from_utf8(request.body()).unwrap();
        let json = || serde_json::from_str::<Value>(body).unwrap_or_default();
        match service {
            "s3" => self.s3(method, &path, body),
            "dynamodb" => {
                let operation =
                    request.headers()["x-amz-target"].to_str().unwrap().split('.').next_back().unwrap();
                let body = json();
                let name = format!("table/{}", body["TableName"].as_str().unwrap());
                match operation {
                    "CreateTable" => self.create(name, body, "ResourceInUseException"),
                    "DescribeTable" => match self.look(&name, "ResourceNotFoundException") {
                        Reply::Json(_) => Reply::Json(json!({"Table": {"TableStatus": "ACTIVE"}})),
                        other => other,
                    },
                    "DeleteTable" => self.remove(&name, "ResourceNotFoundException"),
                    other => panic!("dynamodb {other}"),
                }
            }
            "iam" => self.iam(body),
            "lambda" => self.lambda(method, &path, json()),
            other => panic!("{other}"),
        }
    }

    fn s3(&mut self, method: &str, path: &str, body: &str) -> Reply {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let name = format!("bucket{path}");
        match (method, query) {
            ("HEAD", "") => self.look(&name, "NoSuchBucket"),
            ("PUT", "") => self.create(name, json!({}), "BucketAlreadyOwnedByYou"),
            ("PUT", property @ ("notification" | "tagging")) => match self.things.get_mut(&name) {
                Some(bucket) => {
                    bucket[property] = json!(body);
                    Reply::Json(json!({}))
                }
                None => Reply::Gone("NoSuchBucket"),
            },
            ("DELETE", "") => match self.things.get(&name) {
                Some(bucket) if bucket.get("objects").is_some() => Reply::Refused("BucketNotEmpty"),
                _ => self.remove(&name, "NoSuchBucket"),
            },
            other => panic!("s3 {other:?}"),
        }
    }

    fn iam(&mut self, body: &str) -> Reply {
        let form: BTreeMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let name = format!("role/{}", form["RoleName"]);
        let gone = "NoSuchEntity";
        let keyed = |prefix: &str, key: &str| format!("{prefix}{}", form[key]);
        match form["Action"].as_str() {
            "CreateRole" => {
                self.create(name, json!({"trust": form["AssumeRolePolicyDocument"]}), "EntityAlreadyExists")
            }
            "GetRole" => self.look(&name, gone),
            "DeleteRole" => match self.things.get(&name) {
                Some(role) if role.as_object().unwrap().len() > 1 => Reply::Refused("DeleteConflict"),
                _ => self.remove(&name, gone),
            },
            action => {
                let Some(role) = self.things.get_mut(&name) else { return Reply::Gone(gone) };
                let role = role.as_object_mut().unwrap();
                match action {
                    "PutRolePolicy" => {
                        role.insert(keyed("inline/", "PolicyName"), json!(form["PolicyDocument"]));
                    }
                    "AttachRolePolicy" => {
                        role.insert(keyed("attached/", "PolicyArn"), json!(true));
                    }
                    "DeleteRolePolicy" => {
                        if role.shift_remove(&keyed("inline/", "PolicyName")).is_none() {
                            return Reply::Gone(gone);
                        }
                    }
                    "DetachRolePolicy" => {
                        if role.shift_remove(&keyed("attached/", "PolicyArn")).is_none() {
                            return Reply::Gone(gone);
                        }
                    }
                    other => panic!("iam {other}"),
                }
                Reply::Json(json!({}))
            }
        }
    }

    fn lambda(&mut self, method: &str, path: &str, body: Value) -> Reply {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let unescaped = path.replace("%3A", ":");
        let parts: Vec<&str> = unescaped.split('/').skip(1).collect();
        let gone = "ResourceNotFoundException";
        let there = "ResourceConflictException";
        let name = format!("function/{}", parts.get(2).unwrap_or(&""));
        match (method, &parts[1..]) {
            ("POST", ["functions"]) => {
                self.create(format!("function/{}", body["FunctionName"].as_str().unwrap()), body, there)
            }
            ("GET", ["functions", _, "configuration"]) => self.look(&name, gone),
            ("POST", ["functions", function, "versions"]) => {
                let configuration = self.things[&name].clone();
                let prefix = format!("version/{function}/");
                let last = self.things.iter().rfind(|(key, _)| key.starts_with(&prefix));
                if let Some((_, last)) = last.filter(|(_, last)| last["of"] == configuration) {
                    return Reply::Json(last.clone());
                }
                let number = self.things.keys().filter(|key| key.starts_with(&prefix)).count() + 1;
                let version = json!({
                    "Version": number.to_string(), "LastModified": now(), "of": configuration,
                });
                self.things.insert(format!("{prefix}{number}"), version.clone());
                Reply::Json(version)
            }
            ("DELETE", ["functions", function]) if query.starts_with("Qualifier=") => {
                self.remove(&format!("version/{function}/{}", &query["Qualifier=".len()..]), gone)
            }
            ("POST", ["functions", function, "aliases"]) => {
                let alias = format!("alias/{function}/{}", body["Name"].as_str().unwrap());
                let version = format!("version/{function}/{}", body["FunctionVersion"].as_str().unwrap());
                assert!(self.things.contains_key(&version), "{body}");
                self.create(alias, body, there)
            }
            (_, ["functions", function, "aliases", alias]) => {
                let alias = format!("alias/{function}/{alias}");
                match method {
                    "GET" => self.look(&alias, gone),
                    "PUT" => {
                        self.things.get_mut(&alias).unwrap()["FunctionVersion"] =
                            body["FunctionVersion"].clone();
                        Reply::Json(json!({}))
                    }
                    _ => self.remove(&alias, gone),
                }
            }
            (_, ["functions", function, "url"]) => {
                let url = format!("url/{function}");
                match method {
                    "GET" => self.look(&url, gone),
                    "POST" => {
                        let mut body = body;
                        body["FunctionUrl"] = json!("http://abc.lambda-url.localhost:4566/");
                        self.create(url, body, there)
                    }
                    "PUT" => Reply::Json(json!({})),
                    _ => self.remove(&url, gone),
                }
            }
            ("PUT", ["functions", _, "provisioned-concurrency"]) => Reply::Json(json!({"Status": "READY"})),
            ("POST", ["layers", layer, "versions"]) => {
                let prefix = format!("layer/{layer}/");
                let number = self.things.keys().filter(|key| key.starts_with(&prefix)).count() + 1;
                let arn = format!("arn:aws:lambda:us-east-1:000000000000:layer:{layer}:{number}");
                let version = json!({"LayerVersionArn": arn, "CreatedDate": now(), "body": body});
                self.things.insert(format!("{prefix}{number}"), version.clone());
                Reply::Json(version)
            }
            ("GET", ["layers", layer, "versions"]) => {
                let prefix = format!("layer/{layer}/");
                let newest = self.things.iter().rfind(|(key, _)| key.starts_with(&prefix));
                Reply::Json(json!({"LayerVersions": newest.map(|(_, v)| v).into_iter().collect::<Vec<_>>()}))
            }
            ("DELETE", ["layers", layer, "versions", number]) => {
                self.remove(&format!("layer/{layer}/{number}"), gone)
            }
            ("DELETE", ["functions", _]) => {
                self.things.retain(|key, _| {
                    ["version", "alias", "url"].iter().all(|kind| {
                        let prefix = format!("{kind}/{}", parts[2]);
                        *key != prefix && !key.starts_with(&format!("{prefix}/"))
                    })
                });
                self.things.retain(|key, _| !key.starts_with(&format!("permission/{}/", parts[2])));
                self.remove(&name, gone)
            }
            ("PUT", ["functions", _, part @ ("configuration" | "code")]) => {
                let Some(function) = self.things.get_mut(&name) else { return Reply::Gone(gone) };
                match *part {
                    "code" => function["Code"] = body,
                    _ => function.as_object_mut().unwrap().extend(body.as_object().unwrap().clone()),
                }
                Reply::Json(json!({}))
            }
            ("POST", ["functions", _, "policy"]) => {
                let id = body["StatementId"].as_str().unwrap();
                self.create(format!("permission/{}/{id}", parts[2]), body.clone(), there)
            }
            ("DELETE", ["functions", _, "policy", id]) => {
                self.remove(&format!("permission/{}/{id}", parts[2]), gone)
            }
            other => panic!("lambda {other:?}"),
        }
    }
}

#[async_trait]
impl Dispatch for Cloud {
    async fn call(
        &self,
        caller: &Caller,
        _: &TraceHeader,
        service: &str,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, Error> {
        let target = request.headers().get("x-amz-target").map(|v| v.to_str().unwrap().to_owned());
        let body = std::str::from_utf8(request.body()).unwrap();
        let action = body.split('&').find_map(|p| p.strip_prefix("Action=")).unwrap_or_default().to_owned();
        let what = format!("{} {} {}{action}", request.method(), request.uri(), target.unwrap_or_default());
        let looks = matches!(request.method().as_str(), "GET" | "HEAD")
            || what.contains("Describe")
            || action.starts_with("Get");
        let (reply, hang) = {
            let mut state = self.state_mut();
            state.calls.push(what.clone());
            state.principals.push(caller.principal.arn());
            let number = state.changes.len();
            let mut hang = None;
            if !looks {
                state.changes.push(what);
                if state.fail.contains(&number) {
                    let message = "it was told to fail";
                    return Err(Error::new(ErrorKind::Invalid, "InvalidRequest", message));
                }
                if state.hang.is_some_and(|(at, _)| at == number) {
                    hang = state.hang.take();
                }
            }
            match hang {
                Some((_, false)) => (None, true),
                _ => (Some(state.answer(service, &request)), hang.is_some()),
            }
        };
        if hang {
            self.hung.notify_one();
            std::future::pending::<()>().await;
        }
        let (kind, code) = match reply.unwrap() {
            Reply::Json(value) => return Ok(http::Response::new(Bytes::from(value.to_string()))),
            Reply::Gone(code) => (ErrorKind::NotFound, code),
            Reply::There(code) => (ErrorKind::Conflict, code),
            Reply::Refused(code) => (ErrorKind::Conflict, code),
        };
        Err(Error::new(kind, code, format!("{code}: {service}")))
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string()
}

/// Fails with the first difference.
pub(crate) fn assert_same(before: &[(String, String)], after: &[(String, String)], context: &str) {
    for (a, b) in before.iter().zip(after) {
        assert_eq!(a, b, "after {context}");
    }
    assert_eq!(before.len(), after.len(), "after {context}: {after:#?}");
}
