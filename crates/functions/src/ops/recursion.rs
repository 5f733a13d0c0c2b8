//! Whether a function may be the cause of itself, and who updates its runtime.

use aws::Response;
use serde_json::json;

use super::Cx;
use crate::Error;
use crate::name::FunctionName;
use crate::wire::input::{PutFunctionRecursionConfig, PutRuntimeManagementConfig};

fn word(allowed: bool) -> &'static str {
    if allowed { "Allow" } else { "Terminate" }
}

impl Cx {
    pub(super) async fn put_recursion(
        &self,
        function: FunctionName,
        input: PutFunctionRecursionConfig,
    ) -> Result<Response, Error> {
        self.require_latest(&function)?;
        let allow = match input.recursive_loop.as_str() {
            "Allow" => true,
            "Terminate" => false,
            other => {
                return Err(Error::rule(format!(
                    "Value '{other}' at 'recursiveLoop' failed to satisfy constraint: Member must satisfy enum \
                     value set: [Allow, Terminate]"
                )));
            }
        };
        let change = move |row: &mut crate::tables::FunctionRow| {
            row.allow_recursion = allow;
            Ok(())
        };
        self.touch(&function.name, None, change).await?;
        self.inner.changed(self.account, &function.name, false);
        Ok(aws::json::output(&json!({ "RecursiveLoop": word(allow) })))
    }

    pub(super) async fn get_recursion(&self, function: FunctionName) -> Result<Response, Error> {
        self.require_latest(&function)?;
        let row = self.row(&function.name).await?;
        Ok(aws::json::output(&json!({ "RecursiveLoop": word(row.allow_recursion) })))
    }

    /// Runtimes are the host's, and so is the time at which they are updated.
    pub(super) async fn put_runtime_management(
        &self,
        function: FunctionName,
        input: PutRuntimeManagementConfig,
    ) -> Result<Response, Error> {
        match (input.update_runtime_on.as_str(), &input.runtime_version_arn) {
            ("Auto", None) => self.get_runtime_management(function).await,
            ("Auto" | "FunctionUpdate", Some(_)) => {
                Err(Error::InvalidParameter("RuntimeVersionArn is for UpdateRuntimeOn Manual alone.".into()))
            }
            ("FunctionUpdate" | "Manual", _) => Err(Error::Unsupported(format!(
                "UpdateRuntimeOn {} is not supported by this node, whose runtimes are those of the host; use Auto, or \
                 bring the runtime along (provided.al2023).",
                input.update_runtime_on
            ))),
            (other, _) => Err(Error::rule(format!(
                "Value '{other}' at 'updateRuntimeOn' failed to satisfy constraint: Member must satisfy enum value \
                 set: [Auto, FunctionUpdate, Manual]"
            ))),
        }
    }

    pub(super) async fn get_runtime_management(&self, function: FunctionName) -> Result<Response, Error> {
        self.resolve(&function).await?;
        let qualifier = function.qualifier.as_deref().unwrap_or(crate::LATEST);
        let arn = format!("{}:{qualifier}", self.arn(&function.name));
        Ok(aws::json::output(&json!({ "UpdateRuntimeOn": "Auto", "FunctionArn": arn })))
    }
}
