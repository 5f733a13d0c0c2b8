//! One function as its instances share it: what it is told, and what it may.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aws::{Caller, Origin};
use functions::{LogFormat, LogLevel, StartError, StartRequest};

use super::components::Loaded;
use super::destinations::{Destinations, VARIABLE};
use super::runtime::Shared;

/// The environment variable by which a function lets its instances be used again.
const REUSE: &str = "HAWKER_INSTANCE_REUSE";

/// A function, ready to run.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) shared: Arc<Shared>,
    pub(super) component: Arc<Loaded>,
    pub(super) arn: Arc<str>,
    /// What it sees of its environment, in the order of the names.
    pub(super) environment: Vec<(String, String)>,
    /// Of that, what the function's own configuration says.
    pub(super) variables: BTreeMap<String, String>,
    /// Who it is to the platform's services.
    pub(super) caller: Caller,
    pub(super) memory_mb: u32,
    pub(super) destinations: Destinations,
    /// The host of the platform's endpoint, as the function is told.
    pub(super) platform_host: IpAddr,
    /// The least level of JSON lines that say theirs, of functions that log as JSON.
    pub(super) least_level: Option<LogLevel>,
    /// Whether an instance may run one request after the other.
    pub(super) reuse: bool,
}

impl Function {
    pub(super) fn new(
        shared: Arc<Shared>,
        component: Arc<Loaded>,
        request: &StartRequest,
    ) -> Result<Self, StartError> {
        let destinations = request.environment.get(VARIABLE).map(String::as_str).unwrap_or_default();
        let destinations = Destinations::parse(destinations).map_err(StartError::Code)?;
        let reuse = match request.environment.get(REUSE).map(String::as_str) {
            Some("true") => true,
            None | Some("false") => false,
            Some(other) => {
                return Err(StartError::Code(format!("{REUSE} is `true` or `false`, not `{other}`")));
            }
        };
        let platform_host = Ipv4Addr::LOCALHOST.into();
        let endpoint = format!("http://{platform_host}:{}", shared.platform.address().port());
        Ok(Self {
            arn: Arc::from(request.function_arn.as_str()),
            environment: environment(request, &endpoint),
            variables: request.environment.clone(),
            caller: Caller {
                principal: request.credentials.principal.clone(),
                account: request.account,
                access_key_id: Some(request.credentials.access_key_id.clone()),
                origin: Origin::Function(request.function_arn.clone()),
                session_policy: None,
            },
            memory_mb: request.memory_mb,
            shared,
            component,
            destinations,
            platform_host,
            least_level: match request.log_format {
                LogFormat::Json { application, .. } => Some(application),
                LogFormat::Text => None,
            },
            reuse,
        })
    }
}

/// The environment variables (AWS Lambda developer guide, "Defined runtime environment variables"): the platform's,
/// and the user's where those may not be overridden.
fn environment(request: &StartRequest, endpoint: &str) -> Vec<(String, String)> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, value: &str| all.insert(name.to_owned(), value.to_owned());
    put("LANG", "en_US.UTF-8");
    put("TZ", ":UTC");
    put("AWS_ENDPOINT_URL", endpoint);
    all.extend(request.environment.clone());
    let mut put = |name: &str, value: &str| all.insert(name.to_owned(), value.to_owned());
    let region = request.region.as_str();
    put("_HANDLER", &request.handler);
    put("AWS_REGION", region);
    put("AWS_DEFAULT_REGION", region);
    put("AWS_ACCESS_KEY_ID", &request.credentials.access_key_id);
    put("AWS_SECRET_ACCESS_KEY", &request.credentials.secret_access_key);
    put("AWS_SESSION_TOKEN", &request.credentials.session_token);
    put("AWS_EXECUTION_ENV", "AWS_Lambda_wasm");
    put("AWS_LAMBDA_FUNCTION_NAME", &request.function_name);
    put("AWS_LAMBDA_FUNCTION_VERSION", &request.version);
    put("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &request.memory_mb.to_string());
    put("AWS_LAMBDA_INITIALIZATION_TYPE", request.initialization.as_str());
    put("AWS_LAMBDA_LOG_GROUP_NAME", &request.log_group);
    put("AWS_LAMBDA_LOG_STREAM_NAME", &request.log_stream);
    match request.log_format {
        LogFormat::Text => {
            put("AWS_LAMBDA_LOG_FORMAT", "Text");
        }
        LogFormat::Json { application, .. } => {
            put("AWS_LAMBDA_LOG_FORMAT", "JSON");
            put("AWS_LAMBDA_LOG_LEVEL", application.as_str());
        }
    }
    put("LAMBDA_TASK_ROOT", super::host::TASK_ROOT);
    all.into_iter().collect()
}
