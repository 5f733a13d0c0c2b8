//! What is to run in a function's sandbox, and what it sees there.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use functions::StartRequest;

use crate::code::{ContainerImage, Package};
use crate::environment::{self, Places};
use crate::interpreters::{Interpreter, Target};
use crate::process_runtime::Mounts;
use crate::{Isolation, ProcessRuntime, bootstrap};

/// What a function is made of, all of it there.
pub(crate) struct Parts {
    pub(crate) target: Target,
    pub(crate) code: Package,
    pub(crate) layers: Vec<Package>,
    pub(crate) image: Option<ContainerImage>,
    /// boto3 for Python, the bootstrap's classes for Java.
    pub(crate) extra: Option<PathBuf>,
    /// The names of its external extensions.
    pub(crate) extensions: Vec<String>,
}

/// What is made of that.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) mounts: Mounts,
    pub(crate) argv: Vec<String>,
    /// Whether the user's wrapper comes first in it.
    pub(crate) wrapped: bool,
    pub(crate) handler: String,
    pub(crate) environment: Vec<(String, String)>,
    /// Where it starts.
    pub(crate) directory: String,
    /// The programs of the external extensions.
    pub(crate) extensions: Vec<String>,
}

impl ProcessRuntime {
    /// `api` is where the function finds the Runtime API.
    pub(crate) fn plan(&self, request: &StartRequest, parts: &Parts, api: SocketAddr) -> Plan {
        let (places, mounts) = self.places(request, parts, api);
        let (argv, wrapped, handler) = self.argv(request, parts, &places);
        let mut environment = environment::of(request, &parts.target, &places, parts.image.as_ref());
        if parts.image.is_some() {
            environment.push(("_HANDLER".to_owned(), handler.clone()));
        }
        let directory = match &parts.image {
            Some(image) => image.working_directory(&request.image),
            None => places.task.clone(),
        };
        let extensions =
            parts.extensions.iter().map(|name| format!("{}/extensions/{name}", places.opt)).collect();
        Plan { mounts, argv, wrapped, handler, environment, directory, extensions }
    }

    /// Where things are for the function, and what must be mounted for that.
    fn places(&self, request: &StartRequest, parts: &Parts, api: SocketAddr) -> (Places, Mounts) {
        let Parts { target, code, layers, extra, .. } = parts;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let site = match target {
            Target::Python(_) => extra.as_deref(),
            Target::Node(_) | Target::Java(_) | Target::Ruby(_) | Target::Provided | Target::Image => None,
        };
        if self.config.isolation == Isolation::None {
            let places = Places {
                task: text(code),
                runtime: text(&self.bootstraps),
                // They are in one directory here.
                opt: layers.first().map_or_else(|| "/opt".to_owned(), |layer| text(layer)),
                site: site.map(text),
                api,
                platform: self.platform.address(),
            };
            return (places, Mounts::default());
        }
        let inside_site = format!("/var/runtime/{}", bootstrap::SITE_PACKAGES);
        let places = Places {
            task: "/var/task".to_owned(),
            runtime: "/var/runtime".to_owned(),
            opt: "/opt".to_owned(),
            site: site.map(|_| inside_site.clone()),
            api,
            platform: (Ipv4Addr::LOCALHOST, self.platform.address().port()).into(),
        };
        let mut mounts = Mounts {
            tmp_bytes: u64::from(request.ephemeral_storage_mb) << 20,
            layers: layers.iter().map(|layer| layer.to_path_buf()).collect(),
            ..Mounts::default()
        };
        if parts.image.is_some() {
            mounts.root = Some(ContainerImage::root(code));
            return (places, mounts);
        }
        mounts.binds = vec![
            (code.to_path_buf(), "/var/task".to_owned()),
            (self.bootstraps.clone(), "/var/runtime".to_owned()),
        ];
        mounts.binds.extend(site.map(|site| (site.to_owned(), inside_site)));
        if let Target::Java(java) = target {
            mounts.binds.extend(extra.clone().map(|classes| (classes, crate::java::INSIDE.to_owned())));
            mounts.binds.extend(crate::java::configuration(java).map(|path| (path.clone(), text(&path))));
        }
        if let Some(interpreter) = target.interpreter() {
            mounts.binds.extend(interpreter.prefix.clone().map(|prefix| (prefix, "/var/lang".to_owned())));
        }
        (places, mounts)
    }

    /// What is executed, whether the user's wrapper comes first, and the handler.
    fn argv(&self, request: &StartRequest, parts: &Parts, places: &Places) -> (Vec<String>, bool, String) {
        let program = |interpreter: &Interpreter| match self.config.isolation {
            Isolation::None => interpreter.program.to_string_lossy().into_owned(),
            Isolation::Auto => interpreter.inside(),
        };
        let Places { runtime, task, .. } = places;
        let memory_mb = request.memory_mb;
        let mut handler = request.handler.clone();
        let mut argv = match &parts.target {
            Target::Python(python) => {
                vec![program(python), "-S".to_owned(), format!("{runtime}/bootstrap.py")]
            }
            Target::Node(node) => vec![
                program(node),
                format!("--max-old-space-size={}", memory_mb * 9 / 10),
                format!("--max-semi-space-size={}", (memory_mb / 20).max(1)),
                format!("{runtime}/index.cjs"),
            ],
            Target::Java(java) => {
                let classes = match (self.config.isolation, &parts.extra) {
                    (Isolation::None, Some(classes)) => classes.to_string_lossy().into_owned(),
                    (Isolation::None, None) | (Isolation::Auto, _) => crate::java::INSIDE.to_owned(),
                };
                crate::java::argv(program(java), &classes, places, &parts.code, request)
            }
            Target::Ruby(ruby) => {
                vec![program(ruby), "--disable-did_you_mean".to_owned(), format!("{runtime}/bootstrap.rb")]
            }
            Target::Provided => return (vec![format!("{task}/bootstrap")], false, handler),
            Target::Image => {
                let image = parts.image.as_ref();
                let (argv, command) = image.map(|image| image.argv(&request.image)).unwrap_or_default();
                handler = command.unwrap_or(handler);
                return (argv, false, handler);
            }
        };
        let wrapper = request.environment.get("AWS_LAMBDA_EXEC_WRAPPER").filter(|path| !path.is_empty());
        if let Some(wrapper) = wrapper {
            argv.insert(0, wrapper.clone());
        }
        (argv, wrapper.is_some(), handler)
    }
}
