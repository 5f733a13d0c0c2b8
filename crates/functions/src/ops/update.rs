//! `UpdateFunctionCode` and `UpdateFunctionConfiguration`.

use aws::Response;
use store::Read;

use super::code::ImageSource;
use super::pulled::check_not_updating;
use super::{Cx, check_revision, settings};
use crate::Error;
use crate::code::{Uses, check_unzipped};
use crate::name::FunctionName;
use crate::tables::{FUNCTIONS, FunctionRow, ImageRow, TOTALS, by_name, totals_key};
use crate::wire::input::{PublishVersion, UpdateFunctionCode, UpdateFunctionConfiguration};
use crate::wire::members::Faults;

impl Cx {
    fn configuration(&self, row: &FunctionRow) -> Response {
        aws::json::output(&self.latest_configuration(row))
    }

    pub(super) async fn row(&self, name: &str) -> Result<FunctionRow, Error> {
        let key = by_name(&FUNCTIONS, self.account, name);
        let stored = FUNCTIONS.get(&self.inner.store, key).await?;
        stored.map(|stored| stored.value).ok_or_else(|| self.not_found(name))
    }

    pub(super) async fn update_function_code(
        &self,
        function: FunctionName,
        mut input: UpdateFunctionCode,
    ) -> Result<Response, aws::Error> {
        self.require_latest(&function)?;
        settings::architectures(input.architectures.as_deref())?;
        let before = self.row(&function.name).await?;
        check_revision(input.revision_id.as_deref(), before.revision)?;
        self.check_not_updating(&before)?;
        let (package, image_uri) = match &before.image {
            Some(own) => match self.image(input.take_code()).await? {
                ImageSource::Archive(package, uri) => (package, Some(uri)),
                ImageSource::Registry(image) if input.dry_run => {
                    let own = ImageRow { digest: Some(image.digest.clone()), ..own.clone() };
                    let row = FunctionRow { image: Some(own), pull: None, ..before };
                    return Ok(self.configuration(&row));
                }
                ImageSource::Registry(image)
                    if own.digest.as_deref() == Some(&image.digest) && !before.code.is_missing() =>
                {
                    // The same image: it is there.
                    let uri = image.uri().to_owned();
                    let change = move |row: &mut FunctionRow| {
                        row.pull = None;
                        set_uri(row, &uri, Some(&image.digest));
                        Ok(())
                    };
                    let row = self.touch(&function.name, input.revision_id, change).await?;
                    self.inner.changed(self.account, &row.name, false);
                    return self.updated(function, &row, input.publish).await;
                }
                ImageSource::Registry(image) => {
                    let (revision, publish) = (input.revision_id, input.publish);
                    return Ok(self.update_pulled(&function.name, &image, revision, publish).await?);
                }
            },
            None => (self.package(input.take_code()).await?, None),
        };
        check_unzipped(&package.reference(), &before.layers)?;
        if input.dry_run {
            let row = FunctionRow { code: package.reference(), ..before };
            return Ok(self.configuration(&row));
        }
        let mut before = before;
        let mut row = loop {
            if before.code.sha256 == package.reference().sha256 {
                // The same bytes: nothing of the instances changes, but the revision does.
                break self.touch(&function.name, input.revision_id.clone(), |_| Ok(())).await?;
            }
            let uploaded = self.inner.upload(self.account, &package).await?;
            let updated = self.swap_code(&before, uploaded, input.revision_id.clone()).await?;
            match updated {
                Some(row) => break row,
                None => before = self.row(&function.name).await?,
            }
        };
        if let (Some(uri), Some(image)) = (image_uri, &row.image)
            && (image.uri != uri || image.digest.is_some())
        {
            let change = move |row: &mut FunctionRow| {
                set_uri(row, &uri, None);
                Ok(())
            };
            row = self.touch(&function.name, None, change).await?;
        }
        self.inner.code_may_be_unused(self.account);
        self.inner.changed(self.account, &row.name, row.deployment != before.deployment);
        if row.deployment != before.deployment {
            self.inner.prepare(self.account, &row);
        }
        self.updated(function, &row, input.publish).await
    }

    /// The answer to an update of the code.
    async fn updated(
        &self,
        function: FunctionName,
        row: &FunctionRow,
        publish: bool,
    ) -> Result<Response, aws::Error> {
        if publish {
            let mut response = self.publish_version(function, PublishVersion::default()).await?;
            *response.status_mut() = http::StatusCode::OK;
            return Ok(response);
        }
        Ok(self.configuration(row))
    }

    /// Puts the function on another package; `None` if something changed and has to be looked at again.
    async fn swap_code(
        &self,
        before: &FunctionRow,
        uploaded: crate::code::Uploaded,
        revision: Option<String>,
    ) -> Result<Option<FunctionRow>, Error> {
        let account = self.account;
        let key = by_name(&FUNCTIONS, account, &before.name);
        let old = before.code.clone();
        let arn = self.arn(&before.name);
        let (now, fresh, deployment) = (self.inner.env.now(), self.fresh_id(), self.fresh_id());
        let not_found = self.not_found(&before.name);
        let mut uses = Uses::of(account);
        uses.upload(uploaded);
        if !old.is_missing() {
            uses.release(&old);
        }
        let mut reads = vec![Read::Key(key.clone()), Read::Key(totals_key(account))];
        reads.extend(uses.reads());
        let swapped = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let Some(stored) = FUNCTIONS.first(&pages[0])? else { return Err(not_found.clone()) };
            check_revision(revision.as_deref(), stored.value.revision)?;
            if stored.value.code != old {
                return Ok((Vec::new(), None));
            }
            check_not_updating(&arn, &stored.value)?;
            let Some((mut writes, Some(code))) = uses.decide(&pages[2..], now)? else {
                return Ok((Vec::new(), None));
            };
            check_unzipped(&code, &stored.value.layers)?;
            let mut totals = TOTALS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
            totals.code_bytes = (totals.code_bytes + code.size_bytes).saturating_sub(old.size_bytes);
            let row = FunctionRow {
                code,
                pull: None,
                last_modified: now,
                revision: fresh,
                deployment,
                ..stored.value
            };
            writes.push(FUNCTIONS.put(key.clone(), &row));
            writes.push(TOTALS.put(totals_key(account), &totals));
            Ok((writes, Some(row)))
        });
        swapped.await
    }

    /// Gives the function other layers.
    async fn swap_layers(&self, name: &str, arns: Vec<String>, revision: Option<&str>) -> Result<(), Error> {
        let account = self.account;
        let now = self.inner.env.now();
        // Layers that the function has stay usable after they were deleted.
        let keeps = |row: &FunctionRow| row.layers.iter().map(|layer| &layer.arn).eq(arns.iter());
        loop {
            let before = self.row(name).await?;
            check_revision(revision, before.revision)?;
            if keeps(&before) {
                return Ok(());
            }
            let (layers, copied) = self.layers(arns.clone()).await?;
            let mut uses = Uses::of(account);
            before.layers.iter().for_each(|layer| uses.release(&layer.code));
            self.use_layers(&mut uses, &layers, &copied).await?;
            let key = by_name(&FUNCTIONS, account, name);
            let mut reads = vec![Read::Key(key.clone())];
            reads.extend(uses.reads());
            let swapped = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
                let Some(stored) = FUNCTIONS.first(&pages[0])? else { return Ok((Vec::new(), false)) };
                if stored.value.layers != before.layers {
                    return Ok((Vec::new(), false));
                }
                check_unzipped(&stored.value.code, &layers)?;
                let Some((mut writes, _)) = uses.decide(&pages[1..], now)? else {
                    return Ok((Vec::new(), false));
                };
                let row = FunctionRow { layers: layers.clone(), ..stored.value };
                writes.push(FUNCTIONS.put(key.clone(), &row));
                Ok((writes, true))
            });
            if swapped.await? {
                self.inner.code_may_be_unused(account);
                return Ok(());
            }
        }
    }

    /// Changes a function's row by `change`.
    pub(super) async fn touch(
        &self,
        name: &str,
        revision: Option<String>,
        mut change: impl FnMut(&mut FunctionRow) -> Result<(), Error> + Send + 'static,
    ) -> Result<FunctionRow, Error> {
        let key = by_name(&FUNCTIONS, self.account, name);
        let (now, fresh) = (self.inner.env.now(), self.fresh_id());
        let not_found = self.not_found(name);
        let changed = self.inner.store.transact(vec![Read::Key(key.clone())], move |pages, _| {
            let Some(stored) = FUNCTIONS.first(&pages[0])? else { return Err(not_found.clone()) };
            let mut row = stored.value;
            check_revision(revision.as_deref(), row.revision)?;
            row.last_modified = now;
            row.revision = fresh;
            change(&mut row)?;
            Ok((vec![FUNCTIONS.put(key.clone(), &row)], row))
        });
        changed.await
    }

    pub(super) async fn update_function_configuration(
        &self,
        function: FunctionName,
        input: UpdateFunctionConfiguration,
    ) -> Result<Response, aws::Error> {
        self.require_latest(&function)?;
        let name = function.name;
        let runtime = input.runtime;
        let mut faults = Faults::default();
        let role = faults.see(input.role.map(settings::role).transpose());
        let handler = faults.see(input.handler.map(settings::handler).transpose());
        let description = faults.see(input.description.map(settings::description).transpose());
        let timeout = faults.see(input.timeout.map(settings::timeout).transpose());
        let memory = faults.see(input.memory_size.map(settings::memory).transpose());
        let ephemeral = input.ephemeral_storage.as_ref().map(settings::ephemeral_storage);
        let ephemeral = faults.see(ephemeral.transpose());
        let environment =
            faults.see(input.environment.map(|e| settings::environment(e.variables)).transpose());
        let tracing = faults.see(input.tracing_config.map(settings::tracing).transpose());
        let logs = input.logging_config.as_ref();
        let log_group = faults.see(logs.map(|logs| settings::log_group(logs, &name)).transpose());
        let logging = faults.see(logs.map(settings::logging).transpose());
        let image = faults.see(input.image_config.map(settings::image).transpose());
        let dead_letters = input.dead_letter_config.map(|given| settings::dead_letters(Some(given)));
        let dead_letters = faults.see(dead_letters.transpose());
        faults.finish()?;
        if let Some(runtime) = &runtime {
            self.check_runtime(runtime)?;
        }
        if let Some(role) = &role {
            self.row(&name).await?;
            self.check_role(role, &name).await?;
        }
        if role.is_some() || dead_letters.is_some() {
            let before = self.row(&name).await?;
            if let Some(queue) = dead_letters.clone().unwrap_or(before.dead_letters) {
                self.check_queue(role.as_ref().unwrap_or(&before.role), &name, &queue).await?;
            }
        }
        let deployment = self.fresh_id();
        if let Some(layers) = input.layers {
            self.swap_layers(&name, layers, input.revision_id.as_deref()).await?;
        }
        let arn = self.arn(&name);
        let row = self.touch(&name, input.revision_id, move |row| {
            check_not_updating(&arn, row)?;
            fn set<T: Clone>(to: &mut T, value: &Option<T>) {
                if let Some(value) = value {
                    *to = value.clone();
                }
            }
            set(&mut row.runtime, &runtime);
            set(&mut row.role, &role);
            set(&mut row.handler, &handler);
            set(&mut row.description, &description);
            set(&mut row.timeout_s, &timeout);
            set(&mut row.memory_mb, &memory);
            set(&mut row.ephemeral_storage_mb, &ephemeral);
            set(&mut row.environment, &environment);
            set(&mut row.tracing, &tracing);
            set(&mut row.log_group, &log_group);
            set(&mut row.logging, &logging);
            set(&mut row.dead_letters, &dead_letters);
            match (&mut row.image, &image) {
                (_, None) => {}
                (Some(own), Some(image)) => {
                    let (uri, digest) = (std::mem::take(&mut own.uri), own.digest.take());
                    *own = ImageRow { uri, digest, ..image.clone() };
                }
                (None, Some(_)) => {
                    return Err(Error::InvalidParameter(
                        "ImageConfig is for functions with the package type Image alone.".into(),
                    ));
                }
            }
            row.deployment = deployment;
            Ok(())
        });
        let row = row.await?;
        self.inner.changed(self.account, &name, true);
        self.inner.prepare(self.account, &row);
        Ok(self.configuration(&row))
    }
}

fn set_uri(row: &mut FunctionRow, uri: &str, digest: Option<&str>) {
    if let Some(image) = &mut row.image {
        uri.clone_into(&mut image.uri);
        image.digest = digest.map(str::to_owned);
    }
}
