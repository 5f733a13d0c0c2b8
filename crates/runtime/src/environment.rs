//! The environment variables of a function (AWS Lambda developer guide, "Defined runtime environment
//! variables").

use std::net::SocketAddr;

use functions::{LogFormat, StartRequest};

use crate::code::ContainerImage;
use crate::interpreters::Target;

/// Where things are, as the function sees them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The code: `/var/task` inside a sandbox.
    pub(crate) task: String,
    /// The bootstraps: `/var/runtime`.
    pub(crate) runtime: String,
    /// The layers: `/opt`.
    pub(crate) opt: String,
    /// boto3 and what it needs: `/var/runtime/site-packages`.
    pub(crate) site: Option<String>,
    /// The Runtime API.
    pub(crate) api: SocketAddr,
    /// The platform's endpoint.
    pub(crate) platform: SocketAddr,
}

/// The platform's variables that an interpreter looks at while it boots.
const WHILE_BOOTING: [&str; 7] =
    ["PATH", "LD_LIBRARY_PATH", "LANG", "TZ", "PYTHONPATH", "NODE_PATH", "AWS_LAMBDA_RUNTIME_API"];

/// Whether an interpreter, or a library that it is linked with, may look at a variable while it boots, and not again.
pub(crate) fn is_read_while_booting(name: &str) -> bool {
    const PREFIXES: [&str; 11] =
        ["PYTHON", "NODE_", "LD_", "LC_", "MALLOC_", "GLIBC_", "GCONV_", "OPENSSL_", "SSL_", "UV_", "ICU_"];
    WHILE_BOOTING.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || matches!(name, "HOME" | "LANGUAGE" | "LOCPATH" | "NLSPATH" | "TZDIR" | "TMPDIR")
}

/// What an interpreter has of an environment that boots before its function is known.
pub(crate) fn while_booting(environment: &[(String, String)]) -> Vec<(String, String)> {
    environment.iter().filter(|(name, _)| WHILE_BOOTING.contains(&name.as_str())).cloned().collect()
}

/// The whole environment: the platform's, and the user's where that may not override it.
pub(crate) fn of(
    request: &StartRequest,
    target: &Target,
    places: &Places,
    image: Option<&ContainerImage>,
) -> Vec<(String, String)> {
    let Places { task, runtime, opt, .. } = places;
    let region = request.region.as_str();
    let mut all: Vec<(String, String)> = Vec::with_capacity(40 + request.environment.len());
    let mut put = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));

    // Those that a function's configuration may change come first, so that it does.
    put("PATH", &format!("/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:{opt}/bin"));
    put(
        "LD_LIBRARY_PATH",
        &format!("/var/lang/lib:/lib64:/usr/lib64:{runtime}:{runtime}/lib:{task}:{task}/lib:{opt}/lib"),
    );
    put("LANG", "en_US.UTF-8");
    put("TZ", ":UTC");
    put("AWS_ENDPOINT_URL", &format!("http://{}", places.platform));
    match target {
        Target::Python(_) => {
            put("PYTHONPATH", runtime);
        }
        Target::Node(node) => {
            let modules = format!(
                "{opt}/nodejs/node{}/node_modules:{opt}/nodejs/node_modules:{runtime}/node_modules:{runtime}:{task}",
                node.version
            );
            put("NODE_PATH", &modules);
        }
        Target::Ruby(ruby) => {
            put("RUBYLIB", &format!("{task}:{runtime}/lib:{opt}/ruby/lib"));
            let version = ruby.version;
            put(
                "GEM_PATH",
                &format!("{task}/vendor/bundle/ruby/3.{version}.0:{opt}/ruby/gems/3.{version}.0"),
            );
        }
        Target::Image => all.extend(
            image
                .iter()
                .flat_map(|image| image.environment())
                .map(|(name, value)| (name.into(), value.into())),
        ),
        Target::Java(_) | Target::Provided => {}
    }
    // Names with these prefixes are reserved, as on Lambda; `functions` refuses them with a clear error.
    all.extend(request.environment.iter().map(|(name, value)| (name.clone(), value.clone())));

    let mut put = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
    put("AWS_REGION", region);
    put("AWS_DEFAULT_REGION", region);
    put("AWS_ACCESS_KEY_ID", &request.credentials.access_key_id);
    put("AWS_SECRET_ACCESS_KEY", &request.credentials.secret_access_key);
    put("AWS_SESSION_TOKEN", &request.credentials.session_token);
    put("AWS_LAMBDA_FUNCTION_NAME", &request.function_name);
    put("AWS_LAMBDA_FUNCTION_VERSION", &request.version);
    put("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &request.memory_mb.to_string());
    put("AWS_LAMBDA_INITIALIZATION_TYPE", request.initialization.as_str());
    put("AWS_LAMBDA_LOG_GROUP_NAME", &request.log_group);
    put("AWS_LAMBDA_LOG_STREAM_NAME", &request.log_stream);
    match request.log_format {
        LogFormat::Text => put("AWS_LAMBDA_LOG_FORMAT", "Text"),
        LogFormat::Json { application, .. } => {
            put("AWS_LAMBDA_LOG_FORMAT", "JSON");
            put("AWS_LAMBDA_LOG_LEVEL", application.as_str());
        }
    }
    put("AWS_LAMBDA_RUNTIME_API", &places.api.to_string());
    put("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR");
    match target {
        Target::Python(_) | Target::Node(_) | Target::Java(_) | Target::Ruby(_) => {
            put("AWS_EXECUTION_ENV", &format!("AWS_Lambda_{}", request.runtime));
        }
        Target::Provided | Target::Image => {}
    }
    match target {
        // An image says itself where its parts are.
        Target::Image => {}
        Target::Python(_) | Target::Node(_) | Target::Java(_) | Target::Ruby(_) | Target::Provided => {
            put("_HANDLER", &request.handler);
            put("LAMBDA_TASK_ROOT", task);
            put("LAMBDA_RUNTIME_DIR", runtime);
        }
    }
    if let Some(site) = &places.site {
        put("HAWKER_SITE_PACKAGES", site);
    }
    if opt != "/opt" {
        put("HAWKER_OPT", opt);
    }
    all
}
