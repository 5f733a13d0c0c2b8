//! `CreateFunction`.

use std::time::Duration;

use aws::{Caller, Response};
use store::Read;
use types::ErrorKind;

use super::code::ImageSource;
use super::{Cx, settings};
use crate::Error;
use crate::code::{Uses, check_unzipped};
use crate::name::FunctionName;
use crate::queue;
use crate::tables::{CodeRef, FUNCTIONS, FunctionRow, TOTALS, by_name, totals_key};
use crate::wire::input::{CreateFunction, PublishVersion};
use crate::wire::members::Faults;

impl Cx {
    pub(super) async fn create_function(
        &self,
        function: FunctionName,
        mut input: CreateFunction,
    ) -> Result<Response, aws::Error> {
        self.require_latest(&function)?;
        let code = std::mem::take(&mut input.code);
        let (layers, copied) = self.layers(input.layers.clone().unwrap_or_default()).await?;
        let published = input.publish;
        let is_image = input.is_image();
        let mut row = FunctionRow { layers, ..self.new_row(&function.name, input)? };
        if !is_image {
            self.check_runtime(&row.runtime)?;
        }
        self.check_role(&row.role, &row.name).await?;
        if let Some(queue) = &row.dead_letters {
            self.check_queue(&row.role, &row.name, queue).await?;
        }
        let package = match &mut row.image {
            Some(image) => match self.image(code).await? {
                ImageSource::Archive(package, uri) => {
                    image.uri = uri;
                    package
                }
                ImageSource::Registry(image) => {
                    return Ok(self.create_pulled(row, &image, published).await?);
                }
            },
            None => self.package(code).await?,
        };
        check_unzipped(&package.reference(), &row.layers)?;
        let row = loop {
            let (account, row) = (self.account, row.clone());
            let mut uses = Uses::of(account);
            uses.upload(self.inner.upload(account, &package).await?);
            self.use_layers(&mut uses, &row.layers, &copied).await?;
            let key = by_name(&FUNCTIONS, account, &row.name);
            let mut reads = vec![Read::Key(key.clone()), Read::Key(totals_key(account))];
            reads.extend(uses.reads());
            let now = row.last_modified;
            let created = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
                if pages[0].first().is_some() {
                    return Err(Error::Conflict(format!("Function already exist: {}", row.name)));
                }
                let Some((mut writes, Some(code))) = uses.decide(&pages[2..], now)? else {
                    return Ok((Vec::new(), None));
                };
                let mut totals = TOTALS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
                totals.functions += 1;
                totals.code_bytes += code.size_bytes;
                let row = FunctionRow { code, ..row.clone() };
                writes.push(FUNCTIONS.put(key.clone(), &row));
                writes.push(TOTALS.put(totals_key(account), &totals));
                Ok((writes, Some(row)))
            });
            if let Some(row) = created.await? {
                break row;
            }
            // The package went away between the look and the commit: once more, from the start.
        };
        self.inner.changed(self.account, &row.name, true);
        self.inner.prepare(self.account, &row);
        if published {
            return Ok(self.publish_version(function, PublishVersion::default()).await?);
        }
        Ok(aws::json::output_with_status(201, &self.latest_configuration(&row)))
    }

    fn new_row(&self, name: &str, input: CreateFunction) -> Result<FunctionRow, Error> {
        let missing = |member: &str| {
            Error::InvalidParameter(format!(
                "{member} is mandatory for functions created with deployment packages."
            ))
        };
        let not_of_images = |member: &str| {
            Error::InvalidParameter(format!(
                "Please don't provide {member} when the intended function PackageType is Image."
            ))
        };
        let image = input.is_image().then(|| settings::image(input.image_config.unwrap_or_default()));
        let image = image.transpose()?;
        if image.is_some() && input.layers.is_some_and(|layers| !layers.is_empty()) {
            return Err(not_of_images("Layers"));
        }
        let mut faults = Faults::default();
        let logging = input.logging_config.unwrap_or_default();
        faults.see(settings::architectures(input.architectures.as_deref()));
        faults.see(settings::tags(&input.tags));
        let ephemeral =
            faults.see(input.ephemeral_storage.as_ref().map(settings::ephemeral_storage).transpose());
        let runtime = faults.see(match input.runtime {
            Some(runtime) if image.is_none() => Ok(runtime),
            Some(_) => Err(not_of_images("Runtime")),
            None if image.is_some() => Ok(String::new()),
            None => Err(missing("Runtime")),
        });
        let role = faults.see(settings::role(input.role));
        let handler = faults.see(match input.handler {
            Some(handler) if image.is_none() => settings::handler(handler),
            Some(_) => Err(not_of_images("Handler")),
            None if image.is_some() => Ok(String::new()),
            None => Err(missing("Handler")),
        });
        let description = faults.see(settings::description(input.description.unwrap_or_default()));
        let timeout_s = faults.see(input.timeout.map_or(Ok(3), settings::timeout));
        let memory_mb = faults.see(input.memory_size.map_or(Ok(128), settings::memory));
        let environment = faults.see(settings::environment(input.environment.unwrap_or_default().variables));
        let tracing = faults.see(settings::tracing(input.tracing_config.unwrap_or_default()));
        let log_group = faults.see(settings::log_group(&logging, name));
        let logging = faults.see(settings::logging(&logging));
        let dead_letters = faults.see(settings::dead_letters(input.dead_letter_config));
        faults.finish()?;
        Ok(FunctionRow {
            name: name.to_owned(),
            runtime,
            role,
            handler,
            description,
            timeout_s,
            memory_mb,
            ephemeral_storage_mb: ephemeral.unwrap_or(512),
            environment,
            tags: input.tags,
            tracing,
            log_group,
            logging,
            layers: Vec::new(),
            image,
            pull: None,
            next_version: 1,
            dead_letters,
            allow_recursion: false,
            code: CodeRef::missing(),
            last_modified: self.inner.env.now(),
            revision: self.fresh_id(),
            deployment: self.fresh_id(),
            reserved_concurrency: None,
        })
    }

    pub(super) fn check_runtime(&self, runtime: &str) -> Result<(), Error> {
        self.inner.runtime.check(runtime).map_err(Error::InvalidParameter)
    }

    /// Refuses a queue that a role may not send to, or that is not there.
    pub(super) async fn check_queue(&self, role: &str, session: &str, queue: &str) -> Result<(), aws::Error> {
        let caller = self.role_caller(role, session).await?;
        let arn = queue::queue_arn(queue, "queue")?;
        queue::check_sender(&*self.inner.dispatch, &caller, &self.context.trace, &arn).await
    }

    /// A role, for what is asked in its name.
    pub(super) async fn role_caller(&self, role: &str, session: &str) -> Result<Caller, aws::Error> {
        let shortest = Duration::from_secs(900);
        let roles = &self.inner.roles;
        let assumed = roles.assume(self.account, role, session, "lambda.amazonaws.com", shortest).await?;
        Ok(Caller { principal: assumed.principal, ..Caller::platform(self.account) })
    }

    /// Refuses a role that is not there or that Lambda may not assume.
    pub(super) async fn check_role(&self, role: &str, session: &str) -> Result<(), aws::Error> {
        let shortest = Duration::from_secs(900);
        let assumed =
            self.inner.roles.assume(self.account, role, session, "lambda.amazonaws.com", shortest).await;
        match assumed {
            Ok(_) => Ok(()),
            Err(error) => match error.kind {
                ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Unauthenticated => {
                    Err(Error::InvalidParameter(Error::RoleNotAssumable.to_string()).into())
                }
                ErrorKind::Conflict
                | ErrorKind::PreconditionFailed
                | ErrorKind::Throttled
                | ErrorKind::TooLarge
                | ErrorKind::Timeout
                | ErrorKind::Unsupported
                | ErrorKind::Unavailable
                | ErrorKind::Internal => Err(error),
            },
        }
    }
}
