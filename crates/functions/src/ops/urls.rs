//! Function URLs: their configuration (AWS Lambda developer guide, "Creating and managing Lambda function
//! URLs"). What answers at a URL is `crate::url`.

use aws::Response;
use serde_json::{Value, json};
use store::{Key, Read, Write};
use types::AccountId;

use super::Cx;
use crate::Error;
use crate::name::FunctionName;
use crate::tables::{
    ALIASES, Cors, FUNCTIONS, URL_IDS, URLS, UrlIdRow, UrlRow, by_name, by_qualifier, marker_of, page_of,
    qualifier_of,
};
use crate::url::UrlId;
use crate::wire::input::FunctionUrlConfig;
use crate::wire::marker;
use crate::wire::output::iso_time;

/// The key of a URL's id.
pub(super) fn id_key(account: AccountId, id: &str) -> Key {
    URL_IDS.key(account, |k| {
        k.text(id);
    })
}

fn choice(value: &str, at: &str, values: [&str; 2]) -> Result<bool, Error> {
    match values.iter().position(|one| *one == value) {
        Some(index) => Ok(index == 1),
        None => Err(Error::rule(format!(
            "Value '{value}' at '{at}' failed to satisfy constraint: Member must satisfy enum value set: [{}]",
            values.join(", ")
        ))),
    }
}

fn check_cors(cors: Option<Cors>) -> Result<Option<Cors>, Error> {
    let Some(cors) = cors else { return Ok(None) };
    if cors.max_age.is_some_and(|seconds| seconds > 86_400) {
        return Err(Error::rule(
            "Value at 'cors.maxAge' failed to satisfy constraint: Member must have value less than or equal to 86400"
                .into(),
        ));
    }
    let methods = ["GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*"];
    if let Some(other) = cors.allow_methods.iter().find(|method| !methods.contains(&method.as_str())) {
        return Err(Error::rule(format!(
            "Value '{other}' at 'cors.allowMethods' failed to satisfy constraint: Member must satisfy enum value set: \
             [{}]",
            methods.join(", ")
        )));
    }
    let lists = [&cors.allow_headers, &cors.allow_origins, &cors.expose_headers];
    if lists
        .iter()
        .any(|list| list.len() > 100 || list.iter().any(|item| item.is_empty() || item.len() > 1024))
    {
        return Err(Error::rule(
            "Value at 'cors' failed to satisfy constraint: lists have at most 100 items, \
             of 1 to 1024 characters"
                .into(),
        ));
    }
    Ok(Some(cors).filter(|cors| *cors != Cors::default()))
}

impl Cx {
    fn shown_url(&self, name: &str, alias: Option<&str>, row: &UrlRow) -> Value {
        let arn = match alias {
            Some(alias) => format!("{}:{alias}", self.arn(name)),
            None => self.arn(name),
        };
        let mut shown = json!({
            "FunctionUrl": crate::url::address(&self.context.endpoint, &self.inner.region, &row.id),
            "FunctionArn": arn,
            "AuthType": if row.signed { "AWS_IAM" } else { "NONE" },
            "CreationTime": iso_time(row.created),
            "LastModifiedTime": iso_time(row.modified),
            "InvokeMode": if row.streaming { "RESPONSE_STREAM" } else { "BUFFERED" },
        });
        if let Some(cors) = &row.cors {
            shown["Cors"] = json!(cors);
        }
        shown
    }

    pub(super) async fn create_url(
        &self,
        function: FunctionName,
        input: FunctionUrlConfig,
    ) -> Result<Response, Error> {
        let owner = function.owner();
        let missing = || Error::missing("authType");
        let now = self.inner.env.now();
        let row = UrlRow {
            id: UrlId::new(&*self.inner.env, self.account).to_string(),
            signed: choice(&input.auth_type.ok_or_else(missing)?, "authType", ["NONE", "AWS_IAM"])?,
            cors: check_cors(input.cors)?,
            streaming: match input.invoke_mode {
                Some(mode) => choice(&mode, "invokeMode", ["BUFFERED", "RESPONSE_STREAM"])?,
                None => false,
            },
            created: now,
            modified: now,
        };
        let (account, name) = (self.account, function.name.clone());
        let key = by_qualifier(&URLS, account, &name, owner);
        let there = match owner {
            Some(alias) => by_qualifier(&ALIASES, account, &name, Some(alias)),
            None => by_name(&FUNCTIONS, account, &name),
        };
        let not_found =
            Error::NotFound(format!("Function not found: {}", function.arn(account, &self.inner.region)));
        let id = UrlIdRow { function: name.clone(), alias: owner.map(str::to_owned) };
        let (url, function_arn) = (row.clone(), self.arn(&name));
        let created = self.inner.store.transact(
            vec![Read::Key(there), Read::Key(key.clone())],
            move |pages, _| -> Result<_, Error> {
                if pages[0].first().is_none() {
                    return Err(not_found.clone());
                }
                if pages[1].first().is_some() {
                    return Err(Error::Conflict(format!(
                        "Failed to create function url config for [functionArn = {function_arn}]. Error message:  \
                         FunctionUrlConfig exists for this Lambda function"
                    )));
                }
                Ok((vec![URLS.put(key.clone(), &url), URL_IDS.put(id_key(account, &url.id), &id)], ()))
            },
        );
        created.await?;
        self.inner.changed(account, &name, false);
        let mut shown = self.shown_url(&name, owner, &row);
        if let Some(shown) = shown.as_object_mut() {
            shown.remove("LastModifiedTime");
        }
        Ok(aws::json::output_with_status(201, &shown))
    }

    async fn url(&self, function: &FunctionName) -> Result<UrlRow, Error> {
        let owner = function.owner();
        let key = by_qualifier(&URLS, self.account, &function.name, owner);
        let stored = URLS.get(&self.inner.store, key).await?;
        stored.map(|stored| stored.value).ok_or_else(no_url)
    }

    pub(super) async fn get_url(&self, function: FunctionName) -> Result<Response, Error> {
        let row = self.url(&function).await?;
        Ok(aws::json::output(&self.shown_url(&function.name, function.owner(), &row)))
    }

    pub(super) async fn update_url(
        &self,
        function: FunctionName,
        input: FunctionUrlConfig,
    ) -> Result<Response, Error> {
        let owner = function.owner();
        let signed =
            input.auth_type.map(|auth| choice(&auth, "authType", ["NONE", "AWS_IAM"])).transpose()?;
        let mode = input.invoke_mode;
        let streaming =
            mode.map(|mode| choice(&mode, "invokeMode", ["BUFFERED", "RESPONSE_STREAM"])).transpose()?;
        let has_cors = input.cors.is_some();
        let cors = check_cors(input.cors)?;
        let key = by_qualifier(&URLS, self.account, &function.name, owner);
        let now = self.inner.env.now();
        let updated = self.inner.store.transact(vec![Read::Key(key.clone())], move |pages, _| {
            let Some(stored) = URLS.first(&pages[0])? else { return Err(no_url()) };
            let mut row = stored.value;
            row.signed = signed.unwrap_or(row.signed);
            row.streaming = streaming.unwrap_or(row.streaming);
            if has_cors {
                row.cors.clone_from(&cors);
            }
            row.modified = now;
            Ok((vec![URLS.put(key.clone(), &row)], row))
        });
        let row = updated.await?;
        self.inner.changed(self.account, &function.name, false);
        Ok(aws::json::output(&self.shown_url(&function.name, owner, &row)))
    }

    pub(super) async fn delete_url(&self, function: FunctionName) -> Result<Response, Error> {
        let row = self.url(&function).await?;
        let key = by_qualifier(&URLS, self.account, &function.name, function.owner());
        let writes = vec![Write::Delete(key), Write::Delete(id_key(self.account, &row.id))];
        self.inner.store.write(writes).await?;
        self.inner.changed(self.account, &function.name, false);
        Ok(aws::json::empty(204))
    }

    pub(super) async fn list_urls(
        &self,
        function: FunctionName,
        marker: Option<String>,
        limit: usize,
    ) -> Result<Response, Error> {
        self.require_latest(&function)?;
        self.row(&function.name).await?;
        let range = page_of(&URLS, self.account, &function.name, marker.as_deref(), limit);
        let (rows, more) = URLS.scan(&self.inner.store, range).await?;
        let shown: Vec<_> = rows
            .iter()
            .map(|row| self.shown_url(&function.name, qualifier_of(&row.key).as_deref(), &row.value))
            .collect();
        let mut output = json!({ "FunctionUrlConfigs": shown });
        if let Some(last) = rows.last().filter(|_| more) {
            output["NextMarker"] = json!(marker::give("ListFunctionUrlConfigs", &marker_of(&last.key)));
        }
        Ok(aws::json::output(&output))
    }
}

fn no_url() -> Error {
    Error::NotFound("The resource you requested does not exist.".into())
}
