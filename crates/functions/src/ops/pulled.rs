//! Functions whose image comes from a registry: they are deployed at once and get it in the background.

use aws::Response;
use store::{Read, Write};

use super::{Cx, check_revision};
use crate::Error;
use crate::registry::Image;
use crate::tables::{
    CodeRef, FUNCTIONS, FunctionRow, ImageRow, PULLS, PullMarkRow, PullRow, TOTALS, VERSIONS, VersionRow,
    by_name, by_number, totals_key,
};

impl FunctionRow {
    /// Refuses to run what has nothing to run.
    pub(crate) fn check_state(&self) -> Result<(), Error> {
        if !self.code.is_missing() {
            return Ok(());
        }
        let state = if self.pulling().is_some() { "Pending" } else { "Failed" };
        Err(Error::Conflict(format!(
            "The operation cannot be performed at this time. The function is currently in the following state: {state}"
        )))
    }

    /// The version of this that gets the same image.
    fn version(&self, number: u64, revision: types::RequestId) -> VersionRow {
        let image = self.image.clone().zip(self.pull.as_ref()).map(|(image, pull)| ImageRow {
            uri: pull.uri.clone(),
            digest: Some(pull.digest.clone()),
            ..image
        });
        let function = FunctionRow {
            tags: std::collections::BTreeMap::new(),
            reserved_concurrency: None,
            code: CodeRef::missing(),
            image,
            revision,
            ..self.clone()
        };
        VersionRow { number, function, latest_description: Some(self.description.clone()) }
    }
}

impl Cx {
    /// Refuses to change what is being changed.
    pub(super) fn check_not_updating(&self, row: &FunctionRow) -> Result<(), Error> {
        check_not_updating(&self.arn(&row.name), row)
    }

    /// The same, and that there is something to be published.
    pub(super) fn check_settled(&self, row: &FunctionRow) -> Result<(), Error> {
        row.check_state()?;
        self.check_not_updating(row)
    }

    fn pull(&self, image: &Image, version: Option<u64>) -> PullRow {
        let (uri, digest) = (image.uri().to_owned(), image.digest.clone());
        PullRow { id: self.fresh_id(), uri, digest, version, failure: None }
    }

    pub(super) async fn create_pulled(
        &self,
        row: FunctionRow,
        image: &Image,
        publish: bool,
    ) -> Result<Response, Error> {
        let account = self.account;
        let pull = self.pull(image, publish.then_some(row.next_version));
        let own = row.image.clone().unwrap_or_default();
        let own = ImageRow { uri: pull.uri.clone(), digest: Some(pull.digest.clone()), ..own };
        let mut row = FunctionRow { image: Some(own), pull: Some(pull), ..row };
        let version = publish.then(|| row.version(row.next_version, self.fresh_id()));
        row.next_version += u64::from(publish);
        let key = by_name(&FUNCTIONS, account, &row.name);
        let reads = vec![Read::Key(key.clone()), Read::Key(totals_key(account))];
        let (new, published) = (row.clone(), version.clone());
        let created = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            if pages[0].first().is_some() {
                return Err(Error::Conflict(format!("Function already exist: {}", new.name)));
            }
            let mut totals = TOTALS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
            totals.functions += 1;
            let mut writes = waiting(account, &new, published.as_ref());
            writes.push(TOTALS.put(totals_key(account), &totals));
            Ok((writes, ()))
        });
        created.await?;
        self.inner.changed(account, &row.name, true);
        self.inner.pull(account, &row.name);
        Ok(match &version {
            Some(version) => aws::json::output_with_status(201, &self.configuration_of(version)),
            None => aws::json::output_with_status(201, &self.latest_configuration(&row)),
        })
    }

    pub(super) async fn update_pulled(
        &self,
        name: &str,
        image: &Image,
        revision: Option<String>,
        publish: bool,
    ) -> Result<Response, Error> {
        let account = self.account;
        let (now, fresh, version_revision) = (self.inner.env.now(), self.fresh_id(), self.fresh_id());
        let pull = self.pull(image, None);
        let key = by_name(&FUNCTIONS, account, name);
        let not_found = self.not_found(name);
        let arn = self.arn(name);
        let updated = self.inner.store.transact(vec![Read::Key(key)], move |pages, _| {
            let Some(stored) = FUNCTIONS.first(&pages[0])? else { return Err(not_found.clone()) };
            let row = stored.value;
            check_revision(revision.as_deref(), row.revision)?;
            check_not_updating(&arn, &row)?;
            let number = row.next_version;
            let mut row = FunctionRow {
                pull: Some(PullRow { version: publish.then_some(number), ..pull.clone() }),
                last_modified: now,
                revision: fresh,
                ..row
            };
            row.next_version += u64::from(publish);
            let version = publish.then(|| row.version(number, version_revision));
            Ok((waiting(account, &row, version.as_ref()), (row, version)))
        });
        let (row, version) = updated.await?;
        self.inner.changed(account, name, false);
        self.inner.pull(account, name);
        Ok(match &version {
            Some(version) => aws::json::output(&self.configuration_of(version)),
            None => aws::json::output(&self.latest_configuration(&row)),
        })
    }
}

/// Refuses to change a function that is being changed.
pub(super) fn check_not_updating(arn: &str, row: &FunctionRow) -> Result<(), Error> {
    if row.pulling().is_none() {
        return Ok(());
    }
    row.check_state()?;
    Err(Error::Conflict(format!(
        "The operation cannot be performed at this time. An update is in progress for resource: {arn}"
    )))
}

/// Has a function wait for its image.
fn waiting(account: types::AccountId, row: &FunctionRow, version: Option<&VersionRow>) -> Vec<Write> {
    let name = &row.name;
    let mut writes = vec![
        FUNCTIONS.put(by_name(&FUNCTIONS, account, name), row),
        PULLS.put(by_name(&PULLS, account, name), &PullMarkRow {}),
    ];
    writes.extend(
        version.map(|version| VERSIONS.put(by_number(&VERSIONS, account, name, version.number), version)),
    );
    writes
}
